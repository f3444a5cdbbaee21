//! Peer connections, and the protocol that our own programs speak on them.
//!
//! | module | what it does |
//! |---|---|
//! | [`rtc`] | peer connections and data channels, tuned |
//! | [`dialect`] | a data channel that speaks `sleap-rtc/1`: where `rtc` and `transfer` meet |
//! | `bare` | the lanes without files, for measurements (feature `bench`) |

#[cfg(feature = "bench")]
pub mod bare;
pub mod dialect;
pub mod rtc;
