//! Linux and macOS.

mod files;
mod listeners;
mod machine;
mod processes;
mod tcp_sockets;
mod terminal;

pub use files::*;
pub use listeners::*;
pub use machine::*;
pub use processes::*;
/// Reads and writes at a position, without moving the file's own.
pub use std::os::unix::fs::FileExt;
pub use tcp_sockets::TcpSocket;
pub use terminal::*;
