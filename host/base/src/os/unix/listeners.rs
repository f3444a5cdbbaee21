//! Which process listens on a port. Only Linux can say that.

use super::TcpSocket;
use crate::os::PortHolder;
use std::fs;

/// The process that listens on this TCP port, if it belongs to this user.
pub fn port_holder(port: u16) -> Option<PortHolder> {
    let tables = ["/proc/net/tcp", "/proc/net/tcp6"].map(fs::read_to_string);
    let all = tables.iter().flatten().flat_map(|table| TcpSocket::all(table));
    let listening: Vec<TcpSocket<'_>> = all.filter(|socket| socket.listens_on(port)).collect();
    let processes = fs::read_dir("/proc").ok()?.flatten();
    let mut pids = processes.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    let pid = pids.find(|pid| listening.iter().any(|socket| socket.is_open_in(pid)))?;
    let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    Some(PortHolder { pid, command: beginning(&String::from_utf8_lossy(&line)) })
}

/// The program's name and its first argument, unless that is an option.
fn beginning(line: &str) -> String {
    let mut words = line.split('\0');
    let program = words.next().unwrap_or_default();
    let name = program.rsplit('/').next().unwrap_or_default();
    match words.next().filter(|word| !word.is_empty() && !word.starts_with('-')) {
        Some(word) => format!("{name} {word}"),
        None => name.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;

    #[test]
    fn the_holder_of_a_port_is_found() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        if cfg!(target_os = "linux") {
            assert_eq!(port_holder(port).unwrap().pid, std::process::id());
        }
        drop(listener);
        assert_eq!(port_holder(port), None);
        assert_eq!(beginning("/usr/bin/sleap-rtc\0worker\0--serve\0"), "sleap-rtc worker");
        assert_eq!(beginning("python\0-m\0"), "python");
    }
}
