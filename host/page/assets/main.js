import init, { startPage } from "./{page.js}";

const here = (name) => new URL(name, import.meta.url).href;
await init({ module_or_path: here("./{page_bg.wasm}") });
startPage(here("./{engine.js}"));
