//! SLEAP's loss viewer: it owns the sockets, we connect to them.
//!
//! A thread holds the ZMQ sockets, since they cannot be shared; when the [`Viewer`] is dropped it
//! tells the viewer to close and ends.

use serde_json::{Value, json};
use sleap_rtc_protocol::job::JobEvent;
use std::sync::mpsc as blocking;
use tokio::sync::mpsc;

/// How long one look for the viewer's commands takes.
const POLL_MS: i64 = 50;
/// Progress that waits for the viewer; more is dropped, as the viewer only draws a curve.
const QUEUE: usize = 1024;
/// The longest command that is read.
const MAX_COMMAND_BYTES: usize = 64 * 1024;

/// Where the viewer listens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ViewerPorts {
    /// It sends its buttons' commands from here.
    pub controller: u16,
    /// It takes progress here.
    pub publish: u16,
}

/// A connection to the loss viewer.
pub(super) struct Viewer {
    /// Taken when the viewer is dropped, which ends the thread.
    progress: Option<blocking::SyncSender<Value>>,
    stop: mpsc::Receiver<()>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Drop for Viewer {
    /// Waits, at most for the sockets' linger time, so that the viewer hears the end.
    fn drop(&mut self) {
        self.progress = None;
        if self.thread.take().is_some_and(|thread| thread.join().is_err()) {
            tracing::warn!("the thread that feeds the loss viewer failed");
        }
    }
}

impl Viewer {
    /// Connects. A viewer that is not there is waited for by ZMQ itself, in the background.
    pub(super) fn open(ports: ViewerPorts) -> Self {
        let (progress, queue) = blocking::sync_channel(QUEUE);
        let (wanted, stop) = mpsc::channel(1);
        let thread = std::thread::spawn(move || {
            if let Err(error) = pump(ports, &queue, &wanted) {
                tracing::warn!(%error, "the loss viewer cannot be reached");
            }
        });
        Self { progress: Some(progress), stop, thread: Some(thread) }
    }

    /// Tells the viewer what concerns it.
    pub(super) fn show(&self, event: &JobEvent) {
        let message = match event {
            JobEvent::RunStarted { name } => json!({
                "event": "rtc_reset_monitor",
                "what": name,
                "plateau_patience": 10,
                "plateau_min_delta": 1e-6,
                "window_title": format!("Training {name}"),
                "message": "Training on a remote worker…",
            }),
            JobEvent::Progress { message } => {
                json!({ "event": "rtc_update_monitor", "rtc_msg": message.to_string() })
            }
            _ => return,
        };
        // A full queue means that nobody reads: the curve loses a point, the job goes on.
        if let Some(progress) = &self.progress {
            let _ = progress.try_send(message);
        }
    }

    /// Resolves when the user has pressed the viewer's stop button; never without a viewer.
    pub(super) async fn stop_wanted(viewer: &mut Option<Self>) {
        let stopped = match viewer {
            Some(viewer) => viewer.stop.recv().await,
            None => None,
        };
        if stopped.is_none() {
            std::future::pending::<()>().await;
        }
    }
}

fn pump(
    ports: ViewerPorts,
    queue: &blocking::Receiver<Value>,
    wanted: &mpsc::Sender<()>,
) -> Result<(), zmq::Error> {
    let context = zmq::Context::new();
    let publisher = context.socket(zmq::PUB)?;
    publisher.set_linger(500)?;
    publisher.connect(&format!("tcp://127.0.0.1:{}", ports.publish))?;
    let commands = context.socket(zmq::SUB)?;
    commands.set_linger(0)?;
    commands.set_maxmsgsize(MAX_COMMAND_BYTES as i64)?;
    commands.set_subscribe(b"")?;
    commands.connect(&format!("tcp://127.0.0.1:{}", ports.controller))?;
    loop {
        if commands.poll(zmq::POLLIN, POLL_MS)? > 0 && is_stop(&commands.recv_bytes(0)?) {
            // One press is enough; more of them find the channel full.
            let _ = wanted.try_send(());
        }
        loop {
            match queue.try_recv() {
                Ok(message) => publisher.send(message.to_string().as_bytes(), 0)?,
                Err(blocking::TryRecvError::Empty) => break,
                Err(blocking::TryRecvError::Disconnected) => {
                    let close = json!({ "event": "rtc_close_monitor" });
                    return publisher.send(close.to_string().as_bytes(), 0);
                }
            }
        }
    }
}

fn is_stop(message: &[u8]) -> bool {
    let command = serde_json::from_slice::<Value>(message).ok();
    command.is_some_and(|message| message.get("command").is_some_and(|word| word == "stop"))
}
