//! Differences between the session descriptions of peers: who opens a connection, and how SCTP is
//! written.
//!
//! **Who opens** DTLS, and with it SCTP: always the side that offers. The crate lets only the DTLS
//! client open the SCTP association, and its server side only waits. aiortc before 1.16, which most
//! Python peers have, takes the roles in SCTP from ICE: the side that offers opens, and the other
//! waits. So the side that offers must be the DTLS client; otherwise both sides open, or both wait.
//!
//! | who offers | what the descriptions say | DTLS client |
//! |---|---|---|
//! | this version, to anybody | offer `active`, answer `passive` | this version |
//! | a Python peer, or our older versions | offer `actpass`, our answer `passive` | the peer |
//! | this version, to our older versions | offer `active`, answer `active`; they wait all the same | this version |
//!
//! **Candidates** are many if the other side has many addresses. Each one makes this side send
//! packets to an address that a stranger chose, so their number is limited.
//!
//! **SCTP**: aiortc before 1.14 offers it as the drafts of RFC 8841 did, which the crate does not
//! know; it understands the answer in today's form.

use sleap_rtc_protocol::signaling::Sdp;

/// The most host candidates that are taken from the other side. Our older versions list all their
/// addresses, in no order.
const MAX_HOSTS: usize = 64;
/// The most reflexive and relayed candidates that are taken.
const MAX_OTHERS: usize = 24;

const OPENS: &str = "a=setup:active";
const WAITS: &str = "a=setup:passive";
const EITHER: &str = "a=setup:actpass";

/// Our offer as it is sent. The crate itself always leaves the choice to the answer.
pub(crate) fn offered(Sdp(offer): Sdp) -> Sdp {
    Sdp(offer.replace(EITHER, OPENS))
}

/// The other side's answer, as the crate must read it. An offer of `active` leaves no choice, and
/// our older versions follow it, although their answers say `active` as always.
pub(crate) fn answer(answer: &str) -> String {
    bounded(answer).replace(OPENS, WAITS)
}

/// Whether an offer is another program's: ours do not leave the choice to the answer.
pub(crate) fn is_foreign(offer: &str) -> bool {
    offer.contains(EITHER)
}

/// The other side's offer, as the crate must read it.
pub(crate) fn offer(offer: &str) -> String {
    let bounded = bounded(offer);
    let lines = bounded.split_inclusive('\n').map(|line| {
        let text = line.trim_end();
        let end = &line[text.len()..];
        today(text).map_or_else(|| line.to_owned(), |today| today + end)
    });
    lines.collect()
}

/// The description without surplus candidates.
fn bounded(description: &str) -> String {
    let (mut hosts, mut others) = (0, 0);
    let taken = description.split_inclusive('\n').filter(|line| {
        if !line.starts_with("a=candidate:") {
            return true;
        }
        let (count, limit) = match line.contains(" typ host") {
            true => (&mut hosts, MAX_HOSTS),
            false => (&mut others, MAX_OTHERS),
        };
        *count += 1;
        *count <= limit
    });
    taken.collect()
}

/// Translates a line of the drafts to the final form.
fn today(line: &str) -> Option<String> {
    if let Some(map) = line.strip_prefix("a=sctpmap:") {
        let port: u16 = map.split_once(' ')?.0.parse().ok()?;
        return Some(format!("a=sctp-port:{port}"));
    }
    let mut words = line.strip_prefix("m=application ")?.split(' ');
    let port: u16 = words.next()?.parse().ok()?;
    (words.next() == Some("DTLS/SCTP"))
        .then(|| format!("m=application {port} UDP/DTLS/SCTP webrtc-datachannel"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_drafts_become_todays_form_and_the_rest_stays() {
        let drafts = "m=application 41854 DTLS/SCTP 5000\r\nc=IN IP4 127.0.0.1\r\n\
                      a=sctpmap:5000 webrtc-datachannel 65535\r\na=setup:actpass\r\n";
        let wanted = "m=application 41854 UDP/DTLS/SCTP webrtc-datachannel\r\nc=IN IP4 127.0.0.1\r\n\
                      a=sctp-port:5000\r\na=setup:actpass\r\n";
        assert_eq!(offer(drafts), wanted);
        assert_eq!(offer(wanted), wanted);
        for strange in ["", "m=application", "m=application x DTLS/SCTP 5000\n", "a=sctpmap:5000"] {
            assert_eq!(offer(strange), strange);
        }
    }

    #[test]
    fn of_very_many_candidates_each_kind_keeps_some() {
        let host = "a=candidate:1 1 udp 1 192.0.2.1 1 typ host\r\n";
        let relay = "a=candidate:1 1 udp 1 192.0.2.1 1 typ relay raddr 0.0.0.0 rport 0\r\n";
        let many = format!("v=0\r\n{}{}a=end\r\n", host.repeat(200), relay.repeat(100));
        let wanted =
            format!("v=0\r\n{}{}a=end\r\n", host.repeat(MAX_HOSTS), relay.repeat(MAX_OTHERS));
        assert_eq!(offer(&many), wanted);
        assert_eq!(answer(&many), wanted);
    }

    #[test]
    fn the_side_that_offers_opens() {
        assert_eq!(offered(Sdp("a=setup:actpass\r\n".into())), Sdp("a=setup:active\r\n".into()));
        for said in ["a=setup:active\r\n", "a=setup:passive\r\n"] {
            assert_eq!(answer(said), "a=setup:passive\r\n");
        }
    }
}
