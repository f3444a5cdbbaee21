//! One TCP connection over the same path.

use crate::link::{EmulatedLink, RIGHT};
use anyhow::Result;
use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::time::{Duration, Instant};

/// Bytes per second that arrive within `time`.
pub fn rate(link: Option<&EmulatedLink>, time: Duration) -> Result<f64> {
    let address = link.map_or(IpAddr::from(Ipv4Addr::LOCALHOST), |_| RIGHT.into());
    let listen = move || TcpListener::bind((address, 0));
    let listener = match link {
        Some(link) => link.right.run(listen)?,
        None => listen(),
    }?;
    let to = SocketAddr::new(address, listener.local_addr()?.port());
    let connect = move || TcpStream::connect(to);
    let stream = match link {
        Some(link) => link.left.run(connect)?,
        None => connect(),
    }?;
    let sender = std::thread::spawn(move || send(stream, time));
    let received = receive(listener.accept()?.0)?;
    sender.join().map_err(|_| anyhow::anyhow!("the sender panicked"))??;
    Ok(received)
}

fn send(mut stream: TcpStream, time: Duration) -> std::io::Result<()> {
    let end = Instant::now() + time;
    let block = vec![7; 256 << 10];
    while Instant::now() < end {
        stream.write_all(&block)?;
    }
    Ok(())
}

fn receive(mut stream: TcpStream) -> std::io::Result<f64> {
    let mut block = vec![0; 256 << 10];
    let start = Instant::now();
    let mut bytes = 0;
    loop {
        match stream.read(&mut block)? {
            0 => return Ok(bytes as f64 / start.elapsed().as_secs_f64()),
            more => bytes += more,
        }
    }
}
