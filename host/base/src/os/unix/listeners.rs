//! Which process listens on a port. Only Linux can say that.

use crate::os::PortHolder;
use std::fs;
use std::path::Path;

/// The state of a listening socket in `/proc/net/tcp`.
const LISTENING: &str = "0A";

/// The process that listens on this TCP port, if it belongs to this user.
pub fn port_holder(port: u16) -> Option<PortHolder> {
    let tables = ["/proc/net/tcp", "/proc/net/tcp6"].map(fs::read_to_string);
    let sockets: Vec<String> = tables
        .iter()
        .flatten()
        .flat_map(|table| table.lines().filter_map(|line| listening_at(line, port)))
        .collect();
    let processes = fs::read_dir("/proc").ok()?.flatten();
    let mut pids = processes.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    let pid = pids.find(|pid| holds(*pid, &sockets))?;
    let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    Some(PortHolder { pid, command: beginning(&String::from_utf8_lossy(&line)) })
}

/// The socket of this line of `/proc/net/tcp`, if it listens on the port.
fn listening_at(line: &str, port: u16) -> Option<String> {
    let fields: Vec<&str> = line.split_whitespace().collect();
    let (_, here) = fields.get(1)?.rsplit_once(':')?;
    let is_it = u16::from_str_radix(here, 16) == Ok(port) && *fields.get(3)? == LISTENING;
    let inode = fields.get(9)?;
    is_it.then(|| format!("socket:[{inode}]"))
}

fn holds(pid: u32, sockets: &[String]) -> bool {
    let files = fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
    let mut open = files.filter_map(|file| fs::read_link(file.path()).ok());
    open.any(|target| sockets.iter().any(|socket| target == Path::new(socket)))
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
