//! SLEAP's loss viewer. It owns the ZeroMQ sockets, and this program connects to them.
//!
//! A thread holds this program's sockets, since they cannot be shared. It ends when the [`Viewer`] is
//! dropped, and then asks the loss viewer to close.

#[cfg_attr(not(feature = "viewer"), path = "viewer/absent.rs")]
mod sockets;

use serde_json::{Value, json};
use sleap_rtc_protocol::job::JobEvent;
use std::sync::mpsc as blocking;
use tokio::sync::mpsc;

/// The most progress messages that wait for the viewer. More are dropped: the viewer only draws a curve.
const QUEUE: usize = 1024;

/// The ports of the viewer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ViewerPorts {
    /// It publishes the commands of its buttons here.
    pub controller: u16,
    /// It receives progress here.
    pub publish: u16,
}

/// A connection to the loss viewer.
pub(crate) struct Viewer {
    /// Taken when the viewer is dropped, which ends the thread.
    progress: Option<blocking::SyncSender<Value>>,
    stop: mpsc::Receiver<()>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Drop for Viewer {
    /// Waits until the viewer has received the end, at most for the sockets' linger time.
    fn drop(&mut self) {
        self.progress = None;
        if self.thread.take().is_some_and(|thread| thread.join().is_err()) {
            tracing::warn!("the thread that feeds the loss viewer failed");
        }
    }
}

impl Viewer {
    /// Connects in the background. ZeroMQ waits for a viewer that is not open yet.
    pub(crate) fn open(ports: ViewerPorts) -> Self {
        let (progress, queue) = blocking::sync_channel(QUEUE);
        let (wanted, stop) = mpsc::channel(1);
        let thread = std::thread::spawn(move || {
            if let Err(error) = sockets::pump(ports, &queue, &wanted) {
                tracing::warn!(%error, "the loss viewer cannot be reached");
            }
        });
        Self { progress: Some(progress), stop, thread: Some(thread) }
    }

    /// Sends the events that the viewer shows.
    pub(crate) fn show(&self, event: &JobEvent) {
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
        // If the queue is full, the curve loses a point.
        if let Some(progress) = &self.progress {
            let _ = progress.try_send(message);
        }
    }

    /// Resolves when the user has pressed the viewer's stop button; never without a viewer.
    pub(crate) async fn stop_wanted(viewer: &mut Option<Self>) {
        let stopped = match viewer {
            Some(viewer) => viewer.stop.recv().await,
            None => None,
        };
        if stopped.is_none() {
            std::future::pending::<()>().await;
        }
    }
}
