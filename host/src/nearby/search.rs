//! Asks the network for signaling servers.

use super::answer::{NearbyServer, question};
use super::{MAX_MESSAGE_BYTES, group};
use std::io;
use std::net::SocketAddr;
use std::time::Duration;
use tokio::net::UdpSocket;
use tokio::time::{Instant, sleep, timeout_at};

/// How long answers are collected.
const ANSWERS_WITHIN: Duration = Duration::from_millis(1000);
/// A packet on a wireless network may be lost, so the question is asked twice, this far apart.
const AGAIN_AFTER: Duration = Duration::from_millis(350);
/// The most servers that are shown.
const MAX_FOUND: usize = 8;
/// The most messages that are looked at.
const MAX_MESSAGES: usize = 512;

/// The servers that answer within a second, each once, in the order of their names. None where the system does
/// not let this process ask.
pub(crate) async fn servers() -> Vec<NearbyServer> {
    // Some firewalls let only answers to the whole group pass, and others only those to the asker alone.
    let (in_group, alone) = (group::socket(group::PORT), group::socket(0));
    if let Ok(socket) = &in_group {
        group::join(socket);
    }
    let (mut found, others) = tokio::join!(ask(in_group), ask(alone));
    found.extend(others);
    found.sort_by(|one, other| (&one.name, one.address()).cmp(&(&other.name, other.address())));
    found.dedup();
    found.truncate(MAX_FOUND);
    found
}

async fn ask(socket: io::Result<UdpSocket>) -> Vec<NearbyServer> {
    let (Ok(socket), Ok(question)) = (socket, question()) else { return Vec::new() };
    let deadline = Instant::now() + ANSWERS_WITHIN;
    let asking = async {
        group::send_to_all(&socket, &question).await;
        sleep(AGAIN_AFTER).await;
        group::send_to_all(&socket, &question).await;
    };
    let (found, ()) = tokio::join!(collect(&socket, deadline), asking);
    found
}

async fn collect(socket: &UdpSocket, deadline: Instant) -> Vec<NearbyServer> {
    let (mut found, mut message) = (Vec::new(), [0; MAX_MESSAGE_BYTES]);
    for _ in 0..MAX_MESSAGES {
        let received = timeout_at(deadline, socket.recv_from(&mut message)).await;
        let Ok(received) = received else { break };
        // Windows reports here that an earlier packet was refused.
        let Ok((length, SocketAddr::V4(sender))) = received else { continue };
        for server in NearbyServer::read(&message[..length], *sender.ip()) {
            if found.len() < MAX_FOUND && !found.contains(&server) {
                found.push(server);
            }
        }
    }
    found
}
