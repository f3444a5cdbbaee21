//! What every crate of the program needs and none of them is about. Text that came from elsewhere is made
//! safe by `sleap_rtc_protocol::text`, which browsers use too.
//!
//! | module | what it is |
//! |---|---|
//! | [`backoff`] | waits between attempts |
//! | [`clock`] | the time of day, as numbers |
//! | [`deadline`] | deadlines that may be absent |
//! | [`disk`] | what a full disk says |
//! | [`error`] | an error and its causes in one line |
//! | [`file`] | files that appear whole or not at all |
//! | [`folder`] | folders for their owner alone |
//! | [`ice`] | STUN and TURN servers, checked |
//! | [`lock`] | locks on files and folders, where there are any |
//! | [`mounts`] | where a worker's jobs may read videos |
//! | [`random`] | identifiers that nobody can guess |
//! | [`rate_limit`] | how much may be used in a time |
//! | `sqlite` | SQLite files with a version (feature `sqlite`) |
//! | [`transport`] | what connections between peers are made of |
//!
//! ```
//! use sleap_rtc_base::backoff::Backoff;
//! use std::time::Duration;
//!
//! let mut backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(8));
//! assert!(backoff.next_wait() <= Duration::from_secs(1));
//! assert!(backoff.next_wait() <= Duration::from_secs(2));
//! ```

pub mod backoff;
pub mod clock;
pub mod deadline;
pub mod disk;
pub mod error;
pub mod file;
pub mod folder;
pub mod ice;
pub mod lock;
pub mod mounts;
pub mod random;
pub mod rate_limit;
#[cfg(feature = "sqlite")]
pub mod sqlite;
pub mod transport;
