//! Chromium or Firefox, driven over WebDriver: what a person would do with a page, and what the browser says
//! of it.

use crate::process::{Process, clean_command, cpu_s, processes_in};
use crate::{SOON, Site, wait_for};
use base64::{Engine, engine::general_purpose::STANDARD};
use serde_json::{Value, json};
use std::{
    fs,
    io::{BufRead, BufReader, Write},
    net::{Ipv4Addr, SocketAddr, TcpStream},
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

/// A developer without a browser sets this. The tests then report that they did not run.
const WITHOUT: &str = "SLEAP_RTC_WITHOUT_BROWSER";
/// Names an element in the answers of WebDriver.
const ELEMENT: &str = "element-6066-11e4-a52e-4f735466cecf";
/// The name of what has the focus. The page and its main part have no name of their own.
const FOCUSED: &str = "const focused = document.activeElement;
    if (focused.matches('body, main')) return '';
    return focused.ariaLabel || focused.labels?.[0]?.innerText || focused.innerText || ''";
/// How long one command may take.
const COMMAND_LIMIT: Duration = Duration::from_secs(60);
/// What chromedriver says where another program has its port.
const PORT_TAKEN: &str = "port not available";
/// How often a driver is started until it has a port.
const DRIVER_STARTS: u32 = 10;

/// Keys without a character of their own, as WebDriver names them.
pub mod keys {
    /// Tab.
    pub const TAB: &str = "\u{e004}";
    /// Enter.
    pub const ENTER: &str = "\u{e007}";
    /// Home.
    pub const HOME: &str = "\u{e011}";
}

/// A browser with one window, and an empty profile in the site's folder.
pub struct Browser {
    driver: SocketAddr,
    session: String,
    home: PathBuf,
    downloads: PathBuf,
    _process: Process,
}

impl Browser {
    /// Starts Chromium. `None` if the developer skips these tests.
    ///
    /// # Panics
    ///
    /// Panics if it is not installed and the tests are not skipped.
    pub fn start(site: &Site) -> Option<Self> {
        if std::env::var_os(WITHOUT).is_some() {
            eprintln!("{WITHOUT} is set: this test did not run");
            return None;
        }
        let browser = Self::drive(site, "chromedriver", "started successfully on port ", chromium);
        let folder = browser.downloads.to_str().unwrap();
        browser.devtools(
            "Browser.setDownloadBehavior",
            &json!({"behavior": "allow", "downloadPath": folder}),
        );
        Some(browser)
    }

    /// Starts Firefox. `None`, with a word why, where it or its driver is not installed. It has no log
    /// of its requests.
    pub fn start_firefox(site: &Site) -> Option<Self> {
        for (program, ask) in [("geckodriver", "--version"), ("firefox-esr", "--version")] {
            if Command::new(program).arg(ask).output().is_err() {
                eprintln!("skipped: {program} is not installed");
                return None;
            }
        }
        Some(Self::drive(site, "geckodriver", "Listening on 127.0.0.1:", firefox))
    }

    /// Starts a browser by its driver, which says its port after `ready`.
    fn drive(
        site: &Site,
        driver: &str,
        ready: &str,
        wanted: impl FnOnce(&Path, &Path) -> Value,
    ) -> Self {
        let (home, downloads) = (site.folder("browser"), site.folder("downloads"));
        let path = std::env::var("PATH").unwrap_or_default();
        let port = |text: &str| {
            // It takes a free port of IPv6, and then wants the same of IPv4.
            if text.contains(PORT_TAKEN) {
                return Some(None);
            }
            let (_, rest) = text.split_once(ready)?;
            let port: String = rest.chars().take_while(char::is_ascii_digit).collect();
            Some(Some(SocketAddr::from((Ipv4Addr::LOCALHOST, port.parse().ok()?))))
        };
        let start = || {
            let mut command = clean_command(driver, &home, &path);
            let mut process = Process::start(driver, command.arg("--port=0"));
            Some((process.wait_stdout("its port", SOON, port)?, process))
        };
        let started = (0..DRIVER_STARTS).find_map(|_| start());
        let (address, process) = started.expect("a port that is free for both kinds of addresses");
        let wanted = json!({"capabilities": {"alwaysMatch": wanted(&home, &downloads)}});
        let answer = call(address, "POST", "/session", &wanted);
        let session = answer["sessionId"].as_str().expect("a session").to_owned();
        Self { driver: address, session, home, downloads, _process: process }
    }

    fn command(&self, method: &str, path: &str, body: &Value) -> Value {
        call(self.driver, method, &format!("/session/{}{path}", self.session), body)
    }

    fn devtools(&self, command: &str, parameters: &Value) -> Value {
        self.command("POST", "/goog/cdp/execute", &json!({"cmd": command, "params": parameters}))
    }

    /// Opens an address.
    pub fn open(&self, url: &str) {
        self.command("POST", "/url", &json!({"url": url}));
    }

    /// Loads the page again.
    pub fn reload(&self) {
        self.command("POST", "/refresh", &json!({}));
    }

    /// The address that it shows.
    pub fn url(&self) -> String {
        self.command("GET", "/url", &Value::Null).as_str().unwrap_or_default().to_owned()
    }

    /// Runs a script, whose `return` comes back.
    pub fn run(&self, script: &str) -> Value {
        self.command("POST", "/execute/sync", &json!({"script": script, "args": []}))
    }

    /// What can be read in the elements of this CSS selector.
    pub fn texts(&self, selector: &str) -> Vec<String> {
        let script =
            format!("return [...document.querySelectorAll({selector:?})].map(e => e.innerText)");
        serde_json::from_value(self.run(&script)).unwrap_or_default()
    }

    /// Waits until one of these elements has `text` in it, and returns all that can be read in it.
    #[track_caller]
    pub fn wait_text(&self, selector: &str, text: &str, limit: Duration) -> String {
        let what = format!("{text:?} in {selector}");
        let found = || self.texts(selector).into_iter().find(|shown| shown.contains(text));
        wait_or(&what, limit, found, || self.texts("body").join("\n"))
    }

    /// Clicks the first of these elements that has `text` in it, once it is there.
    #[track_caller]
    pub fn click(&self, selector: &str, text: &str) {
        let script = format!(
            "const found = [...document.querySelectorAll({selector:?})]
                .find(e => e.innerText.includes({text:?}) && !e.disabled);
             if (found) found.click();
             return !!found"
        );
        let clicked = || self.run(&script).as_bool().filter(|clicked| *clicked);
        wait_or(&format!("{text:?} to click in {selector}"), SOON, clicked, || {
            self.texts("body").join("\n")
        });
    }

    /// Types into an element: for a file's field, the path of a file.
    #[track_caller]
    pub fn type_into(&self, selector: &str, text: &str) {
        let wanted = json!({"using": "css selector", "value": selector});
        let element = wait_for(&format!("{selector} to type into"), SOON, || {
            let found = self.command("POST", "/elements", &wanted);
            found[0][ELEMENT].as_str().map(str::to_owned)
        });
        self.command("POST", &format!("/element/{element}/value"), &json!({"text": text}));
    }

    /// Types into a field instead of what is in it.
    #[track_caller]
    pub fn replace(&self, selector: &str, text: &str) {
        self.run(&format!("document.querySelector({selector:?}).select()"));
        self.type_into(selector, text);
    }

    /// Presses keys, one after the other: characters, or those in [`keys`].
    pub fn press(&self, keys: &str) {
        let stroke =
            |key: char| ["keyDown", "keyUp"].map(|kind| json!({"type": kind, "value": key}));
        let strokes: Vec<Value> = keys.chars().flat_map(stroke).collect();
        let keyboard = json!({"type": "key", "id": "keyboard", "actions": strokes});
        self.command("POST", "/actions", &json!({"actions": [keyboard]}));
    }

    /// Moves the focus with the Tab key until it is at something of this name.
    #[track_caller]
    pub fn tab_to(&self, name: &str) {
        let found = || {
            let focused = self.run(FOCUSED).as_str().unwrap_or_default().to_owned();
            let is_there = focused.contains(name);
            if !is_there {
                self.press(keys::TAB);
            }
            is_there.then_some(())
        };
        wait_or(&format!("the focus at {name:?}"), SOON, found, || self.texts("body").join("\n"));
    }

    /// Gives the field that has the focus a file, as its user would choose it.
    pub fn give_file(&self, path: &Path) {
        let field = self.command("GET", "/element/active", &Value::Null);
        let field = field[ELEMENT].as_str().expect("a field with the focus");
        self.command("POST", &format!("/element/{field}/value"), &json!({"text": path}));
    }

    /// What a screen reader finds: role and name of everything on the page.
    pub fn accessible(&self) -> Vec<String> {
        let tree = self.devtools("Accessibility.getFullAXTree", &json!({}));
        let nodes = tree["nodes"].as_array().cloned().unwrap_or_default();
        let text = |value: &Value| value["value"].as_str().unwrap_or_default().to_owned();
        let seen = nodes.iter().filter(|node| node["ignored"] != true);
        seen.map(|node| format!("{} {}", text(&node["role"]), text(&node["name"]))).collect()
    }

    /// Drops a file or a folder on an element.
    pub fn drop_on(&self, selector: &str, path: &Path) {
        let find = format!(
            "const box = document.querySelector({selector:?})?.getBoundingClientRect();
             return box ? [box.x + box.width / 2, box.y + box.height / 2] : null"
        );
        // The page may still be drawing it.
        let place = wait_for(selector, SOON, || Some(self.run(&find)).filter(|at| !at.is_null()));
        let data = json!({"items": [], "files": [path], "dragOperationsMask": 1});
        for kind in ["dragEnter", "dragOver", "drop"] {
            let event = json!({"type": kind, "x": place[0], "y": place[1], "data": data});
            self.devtools("Input.dispatchDragEvent", &event);
        }
    }

    /// The memory of all processes of the browser, in MiB. What they share counts once.
    pub fn memory_mib(&self) -> f64 {
        let of = |pid: i32| {
            let rollup = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).ok()?;
            let line = rollup.lines().find(|line| line.starts_with("Pss:"))?;
            line.split_whitespace().nth(1)?.parse::<f64>().ok()
        };
        self.processes().into_iter().filter_map(of).sum::<f64>() / 1024.0
    }

    /// The time that all processes of the browser have computed so far, in seconds.
    pub fn cpu_s(&self) -> f64 {
        self.processes().into_iter().map(cpu_s).sum()
    }

    fn processes(&self) -> Vec<i32> {
        let processes = processes_in(&self.home).into_iter();
        // The driver keeps what the tests ask for.
        let of_browser = processes.filter(|process| !process.command.contains("chromedriver"));
        of_browser.map(|process| process.pid).collect()
    }

    /// Shows pages as a person who prefers the dark sees them, or the light.
    pub fn prefer(&self, scheme: &str) {
        let feature = json!({"name": "prefers-color-scheme", "value": scheme});
        self.devtools("Emulation.setEmulatedMedia", &json!({"features": [feature]}));
    }

    /// Makes the window this large.
    pub fn resize(&self, width: u32, height: u32) {
        let size = json!({"width": width, "height": height});
        self.command("POST", "/window/rect", &size);
    }

    /// Leaves a picture of the page in `target/page`, for a person to look at.
    pub fn picture(&self, name: &str) {
        let folder = crate::target().join("page");
        fs::create_dir_all(&folder).unwrap();
        let shot = self.command("GET", "/screenshot", &Value::Null);
        let bytes = STANDARD.decode(shot.as_str().expect("a picture")).unwrap();
        fs::write(folder.join(name).with_extension("png"), bytes).unwrap();
    }

    /// Keeps what the page shows as a small picture in `path`, a WebP file: at most `height` lines of it.
    pub fn keep(&self, path: &Path, height: u32) {
        let size = self
            .run("return [innerWidth, Math.ceil(document.body.getBoundingClientRect().bottom)]");
        let (width, shown) = (size[0].as_u64().unwrap(), size[1].as_u64().unwrap());
        let height = shown.min(height.into());
        self.devtools("Emulation.setScrollbarsHidden", &json!({"hidden": true}));
        let clip = json!({"x": 0, "y": 0, "width": width, "height": height, "scale": 1.5});
        let wanted =
            json!({"format": "webp", "quality": 82, "clip": clip, "captureBeyondViewport": true});
        let shot = self.devtools("Page.captureScreenshot", &wanted);
        let bytes = STANDARD.decode(shot["data"].as_str().expect("a picture")).unwrap();
        fs::write(path, bytes).unwrap();
    }

    /// Waits for a download whose name ends like this, and returns its path.
    #[track_caller]
    pub fn downloaded(&self, ending: &str) -> PathBuf {
        wait_for(&format!("a download of {ending}"), SOON, || self.saved(ending))
    }

    /// The download whose name ends like this, once there is something in it.
    pub fn saved(&self, ending: &str) -> Option<PathBuf> {
        let files = fs::read_dir(&self.downloads).unwrap().flatten().map(|file| file.path());
        // Until all of it has arrived, the browser reserves the name with an empty file.
        let is_whole = |path: &PathBuf| path.metadata().is_ok_and(|file| file.len() > 0);
        let mut files = files.filter(is_whole);
        files.find(|path| path.to_string_lossy().ends_with(ending))
    }

    /// What the browser has logged since the last time: errors and violated policies.
    pub fn log(&self) -> Vec<String> {
        let entries = self.command("POST", "/se/log", &json!({"type": "browser"}));
        let entries = entries.as_array().cloned().unwrap_or_default();
        entries.iter().map(|entry| format!("{} {}", entry["level"], entry["message"])).collect()
    }

    /// The addresses that pages have asked for since the last time.
    pub fn requests(&self) -> Vec<String> {
        let entries = self.command("POST", "/se/log", &json!({"type": "performance"}));
        let entries = entries.as_array().cloned().unwrap_or_default();
        let address = |entry: &Value| {
            let message: Value = serde_json::from_str(entry["message"].as_str()?).ok()?;
            let parameters = &message["message"]["params"];
            match message["message"]["method"].as_str()? {
                "Network.requestWillBeSent" => parameters["request"]["url"].as_str(),
                "Network.webSocketCreated" => parameters["url"].as_str(),
                _ => None,
            }
            .map(str::to_owned)
        };
        entries.iter().filter_map(address).collect()
    }
}

fn chromium(home: &Path, _: &Path) -> Value {
    let arguments = [
        "--headless=new".to_owned(),
        // Chromium cannot confine itself as root.
        "--no-sandbox".to_owned(),
        "--disable-gpu".to_owned(),
        "--disable-dev-shm-usage".to_owned(),
        "--disable-background-networking".to_owned(),
        "--window-size=1280,1000".to_owned(),
        format!("--user-data-dir={}", home.join("profile").display()),
    ];
    json!({
        "goog:chromeOptions": {"args": arguments},
        "goog:loggingPrefs": {"browser": "ALL", "performance": "ALL"},
    })
}

fn firefox(_: &Path, downloads: &Path) -> Value {
    let settings = json!({
        "browser.download.folderList": 2,
        "browser.download.dir": downloads,
        "browser.download.alwaysOpenPanel": false,
        "browser.helperApps.neverAsk.saveToDisk": "application/zip,application/octet-stream",
    });
    let arguments = ["-headless", "-width", "1280", "-height", "1000"];
    let options = json!({"binary": "/usr/bin/firefox-esr", "args": arguments, "prefs": settings});
    json!({"moz:firefoxOptions": options})
}

impl Drop for Browser {
    fn drop(&mut self) {
        // The processes of the browser are the site's, which ends them if this does not.
        if !std::thread::panicking() {
            self.command("DELETE", "", &Value::Null);
        }
    }
}

#[track_caller]
fn wait_or<T>(
    what: &str,
    limit: Duration,
    mut find: impl FnMut() -> Option<T>,
    shown: impl Fn() -> String,
) -> T {
    let start = std::time::Instant::now();
    loop {
        if let Some(found) = find() {
            return found;
        }
        assert!(start.elapsed() < limit, "waited for {what}; the page shows:\n{}", shown());
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// One command of WebDriver. Returns its value.
fn call(driver: SocketAddr, method: &str, path: &str, body: &Value) -> Value {
    let mut stream = TcpStream::connect(driver).unwrap();
    stream.set_read_timeout(Some(COMMAND_LIMIT)).unwrap();
    let body = if body.is_null() { String::new() } else { body.to_string() };
    let length = body.len();
    write!(
        stream,
        "{method} {path} HTTP/1.1\r\nHost: {driver}\r\nConnection: close\r\n\
         Content-Type: application/json\r\nContent-Length: {length}\r\n\r\n{body}"
    )
    .unwrap();
    let (head, content) = answer(&mut BufReader::new(stream));
    let value: Value = serde_json::from_slice(&content).expect("JSON of WebDriver");
    let value = value["value"].clone();
    assert!(head.starts_with("HTTP/1.1 200"), "{method} {path}: {value}");
    value
}

/// The head and the content of an answer, after which the driver keeps the connection open.
fn answer(stream: &mut impl BufRead) -> (String, Vec<u8>) {
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        let length = stream.read_line(&mut head).unwrap();
        assert!(length > 0, "chromedriver has closed the connection after {head:?}");
    }
    let length = head.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse().ok())?
    });
    let mut content = vec![0; length.expect("a length")];
    stream.read_exact(&mut content).unwrap();
    (head, content)
}
