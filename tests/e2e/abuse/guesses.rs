//! Many peers guess a room's token, from the holder's own address and from others. The holder does
//! not notice.

use super::{Stranger, dial, dial_from};
use crate::support::*;
use std::{
    net::{Ipv4Addr, SocketAddr},
    sync::atomic::{AtomicBool, AtomicU32, Ordering},
    thread,
    time::{Duration, Instant},
};
use tokio_tungstenite::tungstenite::Message;

/// The legitimate member of a room, who joins again and again while others guess its token.
struct Holder {
    server: SocketAddr,
    identity: Stranger,
    room: (String, String),
}

impl Holder {
    /// How long joining the room takes, from the first packet: the median and the maximum of many
    /// attempts, and how many guesses were answered meanwhile. `guess_from` returns each guesser's
    /// next address.
    fn enters(&self, guessers: usize, guess_from: impl Fn() -> Ipv4Addr + Sync) -> Waits {
        let over = AtomicBool::new(false);
        thread::scope(|scope| {
            let guessing = (0..guessers).map(|_| scope.spawn(|| self.guess(&over, &guess_from)));
            let guessing: Vec<_> = guessing.collect();
            let start = Instant::now();
            let mut waits = Vec::new();
            while start.elapsed() < Duration::from_secs(2) {
                waits.push(self.enter());
            }
            over.store(true, Ordering::Relaxed);
            waits.sort_unstable();
            Waits {
                times: waits.len(),
                median: waits[waits.len() / 2],
                worst: waits[waits.len() - 1],
                guesses: guessing.into_iter().map(|guesser| guesser.join().unwrap()).sum(),
            }
        })
    }

    fn enter(&self) -> Duration {
        let start = Instant::now();
        let mut again = self.identity.again(dial(self.server));
        again.enter(&self.room);
        start.elapsed()
    }

    /// Guesses until the test is over. Returns how many guesses were answered.
    fn guess(&self, over: &AtomicBool, from: impl Fn() -> Ipv4Addr) -> u32 {
        let identity = Stranger::new(self.server);
        let mut answers = 0;
        while !over.load(Ordering::Relaxed) {
            let mut stranger = identity.again(dial_from(from(), self.server));
            let wrong = (self.room.0.clone(), format!("{answers:032}"));
            let frame = stranger.registration(&wrong);
            while !over.load(Ordering::Relaxed) {
                stranger.say(&frame);
                match stranger.socket.read() {
                    Ok(Message::Text(text)) if text.contains("ROOM_NOT_FOUND") => answers += 1,
                    _ => break,
                }
            }
        }
        answers
    }
}

#[derive(Debug)]
struct Waits {
    times: usize,
    median: Duration,
    worst: Duration,
    guesses: u32,
}

#[test]
fn a_right_token_opens_its_room_at_once() {
    let site = Site::new();
    let server = TestServer::persistent(&site);
    let (identity, room) = Stranger::at_home(server.address());
    let holder = Holder { server: server.address(), identity, room };
    // The first ones are slower, because they warm up caches.
    for _ in 0..20 {
        holder.enter();
    }
    let alone = holder.enters(0, || Ipv4Addr::LOCALHOST);
    let others = AtomicU32::new(0);
    let next = || Ipv4Addr::from(0x7f01_0001 + others.fetch_add(1, Ordering::Relaxed));
    let elsewhere = holder.enters(4, next);
    let same = holder.enters(8, || Ipv4Addr::LOCALHOST);
    for (who, waits) in [
        ("nobody guesses", &alone),
        ("4 guess, from a new address after each few guesses", &elsewhere),
        ("8 guess, from the holder's own address", &same),
    ] {
        let Waits { times, median, worst, guesses } = waits;
        println!(
            "{who}: the right holder was in its room in {median:.1?} (median of {times}, worst \
             {worst:.1?}); {guesses} guesses were answered"
        );
    }
    assert!(same.guesses < 40, "{} guesses in two seconds are too many", same.guesses);
    // A guess from that address waits for seconds by now. The holder would wait too if it shared
    // that queue.
    for waits in [&elsewhere, &same] {
        assert!(waits.median < Duration::from_millis(200), "{waits:?}, {alone:?} alone");
        assert!(waits.worst < Duration::from_secs(2), "{waits:?}, {alone:?} alone");
    }
}
