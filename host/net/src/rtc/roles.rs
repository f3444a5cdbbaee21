//! Who opens DTLS, and with it SCTP: always the side that offers.
//!
//! The crate lets only the DTLS client open the SCTP association, and its server side only waits.
//! aiortc before 1.16, which most Python peers have, takes the roles in SCTP from ICE: the side that
//! offers opens, and the other waits. So the side that offers must be the DTLS client, or both sides
//! open, or both wait. A connection then comes about with either rule.
//!
//! | who offers | what the descriptions say | DTLS client |
//! |---|---|---|
//! | this version, to anybody | offer `active`, answer `passive` | this version |
//! | a Python peer, or our older versions | offer `actpass`, our answer `passive` | the peer |
//! | this version, to our older versions | offer `active`, answer `active`; they wait all the same | this version |

use sleap_rtc_protocol::signaling::Sdp;

const OPENS: &str = "a=setup:active";
const WAITS: &str = "a=setup:passive";
const EITHER: &str = "a=setup:actpass";

/// The offer as the other side gets it: the crate itself always leaves the choice to the answer.
pub(super) fn as_offered(Sdp(offer): Sdp) -> Sdp {
    Sdp(offer.replace(EITHER, OPENS))
}

/// The answer as the crate is to read it. An offer of `active` leaves no choice, and our older
/// versions follow it, but their answers say `active` as always.
pub(super) fn as_answered(answer: &str) -> String {
    answer.replace(OPENS, WAITS)
}
