//! Connections between our own programs: iroh, which is QUIC between keys instead of addresses.
//!
//! | module | what it does |
//! |---|---|
//! | `key` | the key of this device |
//! | `endpoint` | one endpoint for the whole process: calls peers, and accepts those that it expects |
//! | `calls` | calls, and the offers that announce them |
//! | `settings` | windows and timeouts |
//! | `congestion` | how fast a path is filled |
//! | `error` | why there is no connection |
//! | `session` | one connection: the conversation's stream, and its end |
//! | `frames` | messages in a stream |
//! | `chunks` | file content: many short streams, in order |
//! | `relay` | the relay of a signaling server |
//! | `routes` | watches the route of a connection |
//! | `udp` | watches whether UDP packets leave this machine's network |
//!
//! An endpoint contacts nothing by itself: it uses no lookup service, no port mapping, and no relay
//! but the one that it is given. Without a relay it reaches peers at their addresses only.

mod calls;
mod chunks;
mod congestion;
mod endpoint;
mod error;
mod frames;
mod key;
mod relay;
mod routes;
mod session;
mod settings;
#[cfg(test)]
mod tests;
mod udp;

pub use chunks::{ChunkError, Chunks};
pub use endpoint::{Called, Endpoint, EndpointOptions, Expected};
pub use error::{QuicError, RelayTried, Tried};
pub use key::{EndpointKey, device_key};
pub use relay::RelayServer;
pub use session::Session;
