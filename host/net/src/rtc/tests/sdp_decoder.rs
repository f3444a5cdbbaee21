//! Accepting any session description from a stranger ends soon, with a connection that waits or
//! with an error.

use super::super::{RtcError, RtcOptions, answer, offer};
use super::loopback;
use hostile_input::{damaged, each};
use proptest::prelude::*;
use proptest::test_runner::TestCaseResult;
use serde_json::json;
use sleap_rtc_protocol::signaling::{Description, Sdp, ServerMessage};
use std::time::Duration;
use tokio::runtime::Runtime;
use tokio::time::timeout;

/// Far more than a description needs, even on a busy machine.
const HANDED_OVER_WITHIN: Duration = Duration::from_secs(20);
const AIORTC: &str = include_str!("aiortc-offer.sdp");

/// One thread, so that the rest of one connection's work happens while the next one is made.
fn runtime() -> Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

/// Descriptions in the frames that bring them: damaged as text, line by line, and as JSON.
fn frames(kind: &'static str, whole: Vec<String>) -> impl Strategy<Value = String> {
    let frame = move |sdp: &str| {
        json!({"type": kind, "sender": "a", "target": "b", "sdp": sdp, "attempt": 1}).to_string()
    };
    let as_json = damaged(whole.iter().map(|sdp| frame(sdp)).collect());
    let by_text = damaged(whole.clone()).prop_map(move |sdp| frame(&sdp));
    let by_line = (prop::sample::select(whole), lines()).prop_map(move |(sdp, changes)| {
        let mut all: Vec<String> = sdp.lines().map(str::to_owned).collect();
        for (at, change) in changes {
            let at = at.index(all.len());
            match change {
                Change::Without => drop(all.remove(at)),
                Change::Twice => all.insert(at, all[at].clone()),
                Change::Last => all[at..].rotate_left(1),
                Change::Instead(line) => all[at] = line,
            }
            all.extend(all.is_empty().then(String::new));
        }
        frame(&(all.join("\r\n") + "\r\n"))
    });
    prop_oneof![1 => as_json, 3 => by_text, 6 => by_line]
}

#[derive(Debug, Clone)]
enum Change {
    Without,
    Twice,
    Last,
    Instead(String),
}

fn lines() -> impl Strategy<Value = Vec<(prop::sample::Index, Change)>> {
    let odd = prop::sample::select(vec![
        "m=application 0 UDP/DTLS/SCTP webrtc-datachannel",
        "m=audio 9 UDP/TLS/RTP/SAVPF 111",
        "m=video 9 UDP/TLS/RTP/SAVPF 96 97",
        "m=application 9 DTLS/SCTP 5000",
        "a=rtpmap:111 opus/48000/2",
        "a=sctpmap:5000 webrtc-datachannel 65535",
        "a=sctp-port:0",
        "a=sctp-port:65536",
        "a=max-message-size:0",
        "a=max-message-size:18446744073709551615",
        "a=max-message-size:-1",
        "a=setup:holdconn",
        "a=setup:active",
        "a=setup:",
        "a=fingerprint:sha-256 ",
        "a=fingerprint:sha-1 00",
        "a=fingerprint:md5 00:00",
        "a=ice-ufrag:",
        "a=ice-pwd:x",
        "a=ice-lite",
        "a=ice-options:trickle renomination",
        "a=candidate:1 1 udp 2130706431 ::1 9 typ host",
        "a=candidate:1 1 tcp 2130706431 127.0.0.1 9 typ host tcptype active",
        "a=candidate:1 1 udp 2130706431 nowhere.invalid 9 typ host",
        "a=candidate:1 1 udp 2130706431 5f3c.local 9 typ host",
        "a=candidate:1 1 udp 4294967296 127.0.0.1 65536 typ host",
        "a=candidate:1 256 udp 1 127.0.0.1 0 typ relay raddr 127.0.0.1 rport 0",
        "a=candidate:",
        "a=group:BUNDLE 0 1 2",
        "a=mid:",
        "a=mid:1",
        "a=end-of-candidates",
        "c=IN IP6 ::1",
        "t=-1 18446744073709551616",
        "o=- 18446744073709551616 0 IN IP4 0.0.0.0",
        "v=1",
        "",
        "=",
    ]);
    let change = prop_oneof![
        Just(Change::Without),
        Just(Change::Twice),
        Just(Change::Last),
        odd.prop_map(|line| Change::Instead(line.into())),
    ];
    prop::collection::vec((any::<prop::sample::Index>(), change), 0..4)
}

/// The description, if the frame decoder accepts it as one.
fn description(frame: &str) -> Option<Description> {
    match ServerMessage::decode(frame) {
        Ok(ServerMessage::Offer(description) | ServerMessage::Answer(description)) => {
            Some(description)
        }
        _ => None,
    }
}

/// There is no answer here, so candidates need not be complete.
fn hasty() -> RtcOptions {
    RtcOptions { gather_limit: Duration::from_millis(100), ..loopback() }
}

/// On a machine without sockets, each of them would be an error.
fn is_theirs(error: &RtcError) -> TestCaseResult {
    let theirs = matches!(error, RtcError::BadDescription(_) | RtcError::DescriptionTooLarge);
    prop_assert!(theirs, "{error:?}");
    Ok(())
}

/// Hands each description to `take`, which says whether it was accepted.
fn hand_over(
    kind: &'static str,
    whole: Vec<String>,
    take: impl AsyncFn(&Sdp) -> Result<(), RtcError>,
) {
    let runtime = runtime();
    let taken = std::cell::Cell::new(0_u32);
    each(&format!("descriptions in {kind} frames"), frames(kind, whole), |frame| {
        let Some(description) = description(&frame) else { return Ok(()) };
        let handed_over =
            runtime.block_on(async { timeout(HANDED_OVER_WITHIN, take(&description.sdp)).await });
        match handed_over {
            Ok(Ok(())) => taken.set(taken.get() + 1),
            Ok(Err(error)) => is_theirs(&error)?,
            Err(elapsed) => prop_assert!(false, "it is not over yet: {elapsed}"),
        }
        Ok(())
    });
    println!("{} of them were accepted", taken.get());
}

#[test]
fn offers() {
    let (_, Sdp(own)) = runtime().block_on(offer(&hasty())).unwrap();
    hand_over("offer", vec![own, AIORTC.into()], async |sdp| {
        let (connection, _) = answer(&hasty(), sdp).await?;
        connection.close().await;
        Ok(())
    });
}

#[test]
fn answers() {
    let Sdp(own) = runtime().block_on(async {
        let (_offering, offered) = offer(&hasty()).await.unwrap();
        answer(&hasty(), &offered).await.unwrap().1
    });
    let aiortc = AIORTC.replace("setup:actpass", "setup:active");
    hand_over("answer", vec![own, aiortc], async |sdp| {
        let (offering, _) = offer(&hasty()).await.unwrap();
        let agreed = offering.agree(sdp).await;
        offering.connection.close().await;
        agreed
    });
}
