//! The engine: a Web Worker that reads, hashes, cuts and unpacks files, so that the page never waits.
//!
//! | module | contents |
//! |---|---|
//! | `messages` | what page and engine say to each other |
//! | `handle` | the page's side |
//! | `source` | files of the browser as sources of a package |
//! | `packages` | packages that are given, described and sent |
//! | `results` | results that arrive, verified and packed for the disk |
//! | `archive` | a zip that is put together from parts which the browser keeps |
//! | `serve` | the engine's side |

mod archive;
mod handle;
mod messages;
mod packages;
mod results;
mod serve;
mod source;

pub use handle::{Engine, EngineError, Session};
pub use messages::{MESSAGE_BYTES, Opened, Reply, Request, ResultFile};
pub use serve::serve;
