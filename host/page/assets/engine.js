import init, { startEngine } from "./{page.js}";

await init({ module_or_path: new URL("./{page_bg.wasm}", import.meta.url).href });
startEngine();
