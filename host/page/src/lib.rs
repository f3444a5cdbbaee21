//! The client for browsers. The signaling server serves it at `/app/`.
//!
//! The page joins a room through the server, as other clients do, and talks to workers over the
//! browser's own WebRTC. Frames, state machines, proofs and the reading of packages are those of the
//! other clients: this crate has what only a browser needs.
//!
//! | module | contents |
//! |---|---|
//! | [`ranking`] | which worker gets a job, by the default policy |
//! | [`words`] | facts in the words that the command line has too |
//! | [`window`] | which pieces of a result are requested next |
//! | `browser` | everything that a browser runs |
//!
//! One module serves the page itself and its engine. The engine is a Web Worker that reads, hashes and
//! unpacks files, which may take long.

#[cfg(target_family = "wasm")]
mod browser;
pub mod ranking;
pub mod window;
pub mod words;
