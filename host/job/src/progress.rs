//! Receives a training's ZMQ messages, and sends it the command to stop.
//!
//! Both sockets are bound in a folder of this run before the trainer starts, and ports that only the
//! job can use lead to them (see `guarded_port`). A dedicated thread serves the ZMQ sockets, because each
//! must stay on one thread. It ends when the [`ProgressListener`] is dropped.

use super::command::Ports;
use super::guarded_port::GuardedPort;
use serde_json::Value;
use std::path::Path;
use std::sync::mpsc as thread_mpsc;
use std::thread::JoinHandle;
use tokio::sync::mpsc;

/// Messages longer than this are ignored, in bytes: each must fit into one control frame.
const MAX_MESSAGE_BYTES: usize = 48 * 1024;
/// A peer that sends longer messages, in bytes, is disconnected. ZMQ reconnects, and messages are lost.
const HARD_LIMIT_BYTES: i64 = 16 * 1024 * 1024;
/// The most messages that wait to be read.
const QUEUE: usize = 256;
/// How soon the thread notices a command, or that it should end.
const POLL_MS: i64 = 50;
/// The only text that is sent, because the trainer's receiver would build objects from other texts.
const STOP: &str = r#"{"command": "stop"}"#;

/// Why the progress of a training cannot be received.
#[derive(Debug, thiserror::Error)]
pub enum ProgressError {
    /// ZMQ reports an error.
    #[error("cannot open the sockets for the trainer's progress")]
    Zmq(#[from] zmq::Error),
    /// The listener's thread, folder or ports are not available.
    #[error("cannot listen to the trainer's progress")]
    Io(#[from] std::io::Error),
}

/// The listener of one training run.
pub struct ProgressListener {
    ports: Ports,
    messages: mpsc::Receiver<Value>,
    commands: Option<thread_mpsc::Sender<()>>,
    thread: Option<JoinHandle<()>>,
    /// Keeps the ports open.
    _ports: [GuardedPort; 2],
}

impl ProgressListener {
    /// Binds both sockets in `folder`, which no other user can enter, and opens free ports of
    /// 127.0.0.1 that lead to them.
    pub async fn bind(folder: &Path) -> Result<Self, ProgressError> {
        let context = zmq::Context::new();
        let (messages_at, commands_at) = (folder.join("messages"), folder.join("commands"));
        let receiver = bind(&context, zmq::SUB, &messages_at)?;
        receiver.set_subscribe(b"")?;
        let sender = bind(&context, zmq::PUB, &commands_at)?;
        let channels =
            [GuardedPort::open(&commands_at).await?, GuardedPort::open(&messages_at).await?];
        let [controller, publish] = [channels[0].port(), channels[1].port()];
        let (to_runner, messages) = mpsc::channel(QUEUE);
        let (commands, from_runner) = thread_mpsc::channel();
        let thread = std::thread::Builder::new()
            .name("progress".to_owned())
            .spawn(move || serve(&receiver, &sender, &to_runner, &from_runner))?;
        Ok(Self {
            ports: Ports { controller, publish },
            messages,
            commands: Some(commands),
            thread: Some(thread),
            _ports: channels,
        })
    }

    /// The ports for the trainer.
    pub fn ports(&self) -> Ports {
        self.ports
    }

    /// Waits for the trainer's next message. Cancel safe.
    pub async fn next(&mut self) -> Option<Value> {
        self.messages.recv().await
    }

    /// Asks the trainer to end early. It receives commands only between batches, so ask repeatedly.
    pub fn stop_training(&self) {
        if let Some(commands) = &self.commands {
            // The thread ends only with `self`.
            let _ = commands.send(());
        }
    }
}

impl Drop for ProgressListener {
    fn drop(&mut self) {
        self.messages.close();
        self.commands = None;
        if let Some(thread) = self.thread.take() {
            // It polls, so this takes no longer than `POLL_MS`.
            let _ = thread.join();
        }
    }
}

fn bind(context: &zmq::Context, kind: zmq::SocketType, at: &Path) -> zmq::Result<zmq::Socket> {
    let socket = context.socket(kind)?;
    socket.set_linger(0)?;
    socket.set_maxmsgsize(HARD_LIMIT_BYTES)?;
    socket.bind(&format!("ipc://{}", at.display()))?;
    Ok(socket)
}

/// Runs until the [`ProgressListener`] is dropped.
fn serve(
    receiver: &zmq::Socket,
    sender: &zmq::Socket,
    messages: &mpsc::Sender<Value>,
    commands: &thread_mpsc::Receiver<()>,
) {
    loop {
        match commands.try_recv() {
            Ok(()) => {
                let _ = sender.send(STOP, zmq::DONTWAIT);
            }
            Err(thread_mpsc::TryRecvError::Disconnected) => return,
            Err(thread_mpsc::TryRecvError::Empty) => {}
        }
        if !matches!(receiver.poll(zmq::POLLIN, POLL_MS), Ok(1..)) {
            continue;
        }
        let Ok(bytes) = receiver.recv_bytes(zmq::DONTWAIT) else { continue };
        if let Some(message) = message(&bytes)
            && messages.blocking_send(message).is_err()
        {
            return;
        }
    }
}

fn message(bytes: &[u8]) -> Option<Value> {
    if bytes.len() > MAX_MESSAGE_BYTES {
        return None;
    }
    let message = serde_json::from_slice::<Value>(bytes).ok().filter(Value::is_object)?;
    // Serialization may write numbers with more digits than they arrived with.
    (message.to_string().len() <= MAX_MESSAGE_BYTES).then_some(message)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    const LIMIT: Duration = Duration::from_secs(30);

    #[test]
    fn messages_fit_into_a_frame() {
        assert!(message(br#"{"event": "epoch_end"}"#).is_some());
        for bad in
            ["[]".to_owned(), "{".to_owned(), format!("{{\"a\": [{}1e15]}}", "1e15,".repeat(4_000))]
        {
            assert_eq!(message(bad.as_bytes()), None);
        }
    }

    #[tokio::test]
    async fn messages_are_received_and_the_command_is_sent() {
        let folder = tempfile::tempdir().unwrap();
        let mut progress = ProgressListener::bind(folder.path()).await.unwrap();
        let Ports { controller, publish } = progress.ports();
        let trainer = tokio::task::spawn_blocking(move || {
            let context = zmq::Context::new();
            let commands = context.socket(zmq::SUB).unwrap();
            commands.set_subscribe(b"").unwrap();
            commands.connect(&format!("tcp://127.0.0.1:{controller}")).unwrap();
            let messages = context.socket(zmq::PUB).unwrap();
            messages.connect(&format!("tcp://127.0.0.1:{publish}")).unwrap();
            // Messages are lost before the subscription arrives, as with the real trainer: repeat them.
            let limit = std::time::Instant::now() + LIMIT;
            while commands.poll(zmq::POLLIN, 20).unwrap() == 0 {
                assert!(std::time::Instant::now() < limit, "the command was not heard");
                messages.send("not JSON", 0).unwrap();
                messages.send(vec![b' '; 2 * MAX_MESSAGE_BYTES], 0).unwrap();
                messages.send(r#"{"event": "train_begin"}"#, 0).unwrap();
            }
            commands.recv_string(0).unwrap().unwrap()
        });
        let message = tokio::time::timeout(LIMIT, progress.next()).await.unwrap().unwrap();
        assert_eq!(message["event"], "train_begin");
        let ask = async {
            loop {
                progress.stop_training();
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        tokio::select! {
            heard = trainer => assert_eq!(heard.unwrap(), STOP),
            () = ask => unreachable!(),
        }
    }
}
