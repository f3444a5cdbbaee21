//! Sockets in folders, through which other programs of this user reach this one.
//!
//! The paths of sockets are limited to 107 bytes, so a folder is named by its descriptor.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use tokio::net::{UnixListener, UnixStream};

/// The socket's path by way of the folder's descriptor, which must stay open while the path is used.
fn by_descriptor(folder: &Path, name: &str) -> io::Result<(OwnedFd, PathBuf)> {
    let descriptor = OwnedFd::from(std::fs::File::open(folder)?);
    let path = format!("/proc/self/fd/{}/{name}", descriptor.as_raw_fd());
    Ok((descriptor, PathBuf::from(path)))
}

/// Listens at `name` in `folder`. Replaces a socket that is there: the caller knows, by a lock, that it
/// is a leftover.
///
/// # Errors
/// The folder cannot be used. Needs a runtime of tokio.
pub fn listen(folder: &Path, name: &str) -> io::Result<UnixListener> {
    let (_descriptor, path) = by_descriptor(folder, name)?;
    match std::fs::remove_file(&path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    UnixListener::bind(&path)
}

/// Connects to the socket `name` in `folder`.
///
/// # Errors
/// Nobody listens, or the folder belongs to somebody else.
pub async fn connect(folder: &Path, name: &str) -> io::Result<UnixStream> {
    let (_descriptor, path) = by_descriptor(folder, name)?;
    UnixStream::connect(path).await
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    #[tokio::test]
    async fn a_socket_in_a_deep_folder_is_reached_also_after_a_leftover() {
        let folder = tempfile::tempdir().unwrap();
        let deep = folder.path().join("a".repeat(200));
        std::fs::create_dir(&deep).unwrap();
        assert!(connect(&deep, "s").await.is_err());
        drop(listen(&deep, "s").unwrap());
        let refused = connect(&deep, "s").await.unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::ConnectionRefused);
        let listener = listen(&deep, "s").unwrap();
        let mut caller = connect(&deep, "s").await.unwrap();
        let (mut called, _) = listener.accept().await.unwrap();
        caller.write_all(b"x").await.unwrap();
        assert_eq!(called.read_u8().await.unwrap(), b'x');
    }
}
