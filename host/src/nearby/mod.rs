//! Signaling servers on this machine's network: a worker that is one answers questions by multicast DNS, and a
//! program for which nobody has named a server asks.
//!
//! | module | what it does |
//! |---|---|
//! | `announcement` | answers about the server in this process |
//! | `search` | asks, and collects the answers within bounds |
//! | `answer` | the question, and what an answer says, as in RFC 6763 |
//! | `described` | the answer about a server in this process |
//! | `group` | the sockets of multicast DNS (RFC 6762), over IPv4 |
//! | `used` | the servers that this device has used before |
//!
//! Everybody on the network can answer anything. An answer is therefore only a proposal to the user: nothing
//! connects to the address in it before the user has agreed once. And it can propose no other machine than the
//! one that it came from, unless that has a certificate for its name.

#[cfg(all(feature = "worker", feature = "signaling"))]
mod announcement;
mod answer;
#[cfg(all(feature = "worker", feature = "signaling"))]
mod described;
mod group;
mod search;
mod used;

#[cfg(all(feature = "worker", feature = "signaling"))]
pub(crate) use announcement::Announcement;
pub(crate) use answer::NearbyServer;
pub(crate) use search::servers;
pub(crate) use used::UsedServers;

/// The longest message that is read, in bytes. Longer ones are cut, and then are no messages.
const MAX_MESSAGE_BYTES: usize = 1500;
