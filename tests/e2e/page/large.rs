//! Much data: how fast, with how much memory, and what is not sent again.

use super::{assert_well_behaved, join};
use crate::support::*;
use std::time::{Duration, Instant};

const MEGABYTES: u64 = 300;
/// 400 MB.
const MOST_MIB_ABOVE_IDLE: f64 = 381.0;

/// Sends 100 MB from one end of a connection to the other, both in the page. Returns MB/s.
const TO_ITSELF: &str = "
    const [one, other] = [new RTCPeerConnection(), new RTCPeerConnection()];
    one.onicecandidate = event => event.candidate && other.addIceCandidate(event.candidate);
    other.onicecandidate = event => event.candidate && one.addIceCandidate(event.candidate);
    const channel = one.createDataChannel('rate');
    channel.bufferedAmountLowThreshold = 1 << 20;
    const [total, part] = [100e6, new Uint8Array(65536)];
    let sent = 0, received = 0, started = 0;
    const done = new Promise(resolve => {
        other.ondatachannel = event => {
            event.channel.binaryType = 'arraybuffer';
            event.channel.onmessage = message => {
                received += message.data.byteLength;
                if (received >= total) resolve(received / 1e3 / (performance.now() - started));
            };
        };
    });
    const send = () => {
        while (sent < total && channel.bufferedAmount < 2 << 20) {
            channel.send(part);
            sent += part.length;
        }
    };
    channel.onopen = () => { started = performance.now(); send(); };
    channel.onbufferedamountlow = send;
    return one.createOffer().then(offer => one.setLocalDescription(offer))
        .then(() => other.setRemoteDescription(one.localDescription))
        .then(() => other.createAnswer()).then(answer => other.setLocalDescription(answer))
        .then(() => one.setRemoteDescription(other.localDescription))
        .then(() => done).finally(() => { one.close(); other.close(); })";

/// How often it is looked at a transfer, and at the memory. Both cost time that the transfer would have.
const LOOK_EVERY: Duration = Duration::from_millis(100);
const MEASURE_EVERY: Duration = Duration::from_millis(500);

/// A browser whose memory is watched, and the worker beside it.
struct Watched<'a> {
    browser: &'a Browser,
    worker: &'a TestWorker,
    idle_mib: f64,
    peak_mib: f64,
}

impl Watched<'_> {
    /// How long it takes until `done`.
    fn until(&mut self, what: &str, done: impl Fn(&Browser) -> bool) -> Duration {
        let worker_s = || cpu_s(self.worker.pid() as i32);
        let (before, worker_before, started) = (self.browser.cpu_s(), worker_s(), Instant::now());
        let (mut looked, mut measured) = (started, started);
        let mut peak_mib = self.peak_mib;
        wait_for(what, 3 * A_WHILE, || {
            if looked.elapsed() < LOOK_EVERY {
                return None;
            }
            looked = Instant::now();
            if measured.elapsed() >= MEASURE_EVERY {
                peak_mib = peak_mib.max(self.browser.memory_mib());
                measured = Instant::now();
            }
            done(self.browser).then_some(())
        });
        let took = started.elapsed();
        let computed = [self.browser.cpu_s() - before, worker_s() - worker_before];
        self.peak_mib = peak_mib;
        println!(
            "{what}: {:.1} s, of which the browser computed {:.1} s and the worker {:.1} s; {:.0} MiB above \
             idle at most",
            took.as_secs_f64(),
            computed[0],
            computed[1],
            peak_mib - self.idle_mib
        );
        took
    }
}

fn shows(browser: &Browser, selector: &str, text: &str) -> bool {
    browser.texts(selector).iter().any(|shown| shown.contains(text))
}

fn rate(took: Duration) -> f64 {
    MEGABYTES as f64 / took.as_secs_f64()
}

#[test]
fn a_large_package_goes_up_once_and_its_result_comes_down_with_little_memory() {
    let site = Site::new();
    let Some(browser) = Browser::start(&site) else { return };
    let server = site.server();
    let worker = site.worker(&server);
    let labels = large_labels(&site, MEGABYTES * 1_000_000);
    let (_, models) = labels_and_models(&site);
    join(&browser, &worker);
    let idle_mib = browser.memory_mib();
    let mut watched = Watched { browser: &browser, worker: &worker, idle_mib, peak_mib: idle_mib };
    browser.click("nav button", "Track");
    browser.type_into("#model", models[0].to_str().unwrap());
    submit(&browser, &labels);
    browser.wait_text(".chip", "sending", A_WHILE);
    let up = watched.until("the upload", |browser| !shows(browser, ".chip", "sending"));
    browser.wait_text(".chip", "done", A_WHILE);
    browser.click("button", "Fetch the results");
    let down = watched.until("the result", |browser| shows(browser, ".files", "predictions.slp"));
    browser.click("button", "Save all as a zip");
    watched.until("the zip", |browser| {
        let saved = browser.saved("-results.zip").and_then(|path| path.metadata().ok());
        saved.is_some_and(|zip| zip.len() > MEGABYTES * 1_000_000)
    });
    let (before, started) = (browser.cpu_s(), Instant::now());
    let itself = browser.run(TO_ITSELF).as_f64().unwrap();
    let (computed, took) = (browser.cpu_s() - before, started.elapsed().as_secs_f64());
    println!("100 MB to itself: {took:.1} s, of which the browser computed {computed:.1} s");
    let (up, down, above) = (rate(up), rate(down), watched.peak_mib - idle_mib);
    println!(
        "{MEGABYTES} MB: {up:.1} MB/s up, {down:.1} MB/s down, the browser to itself {itself:.1} MB/s; \
         memory {above:.0} MiB above {idle_mib:.0} MiB"
    );
    assert!(above < MOST_MIB_ABOVE_IDLE, "{above:.0} MiB above idle");

    // The model is still chosen.
    submit(&browser, &labels);
    let said = browser.wait_text("section .card", "already there", 2 * A_WHILE);
    assert!(said.contains("300 MB already there"), "{said}");
    browser.wait_text(".chip", "done", A_WHILE);
    assert_well_behaved(&browser, &server);
}

fn submit(browser: &Browser, labels: &std::path::Path) {
    browser.click("nav button", "Track");
    browser.type_into("#data", labels.to_str().unwrap());
    browser.wait_text(".files", "Remove", SOON);
    browser.click("button", "Review");
    browser.wait_text(".facts", "tracking", A_WHILE);
    browser.click("button", "Start");
}
