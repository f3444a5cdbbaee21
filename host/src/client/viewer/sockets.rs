//! The ZeroMQ sockets of the loss viewer.

use super::ViewerPorts;
use serde_json::{Value, json};
use std::sync::mpsc as blocking;
use tokio::sync::mpsc;

/// How long to wait for a command of the viewer before sending progress again.
const POLL_MS: i64 = 50;
/// The longest command that is read.
const MAX_COMMAND_BYTES: usize = 64 * 1024;

/// Passes progress on and listens for the stop button, until `queue` ends.
pub(crate) fn pump(
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
            // One press is enough: if the channel is full, one is pending.
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
