//! Small parts that all crates of the program share. (`sleap_rtc_protocol::text`, which browsers use too,
//! makes foreign text safe to print.)
//!
//! | module | what it is |
//! |---|---|
//! | [`backoff`] | exponential backoff with jitter |
//! | [`bounded_wait`] | waits with a limit, which are announced if they take long |
//! | [`clock`] | the time of day, as numbers |
//! | [`deadline`] | deadlines that may be absent, for `select!` |
//! | [`disk`] | recognizes a full disk |
//! | [`error`] | an error and its causes in one line |
//! | [`file`] | atomic writes |
//! | [`folder`] | folders that only their owner can enter |
//! | [`ice`] | checked STUN and TURN servers |
//! | [`json_file`] | small JSON files for their owner alone |
//! | [`local_socket`] | sockets in folders, for other programs of this user |
//! | [`lock`] | file locks, where the file system has them |
//! | [`mounts`] | folders in which a worker's jobs may read videos |
//! | [`os`] | what differs between operating systems |
//! | [`program`] | runs programs, with everything that they start |
//! | [`random`] | identifiers that cannot be guessed |
//! | [`rate_limit`] | a token bucket |
//! | `sqlite` | SQLite files with a version (feature `sqlite`) |
//! | [`transport`] | kinds of connections between peers |
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
pub mod bounded_wait;
pub mod clock;
pub mod deadline;
pub mod disk;
pub mod error;
pub mod file;
pub mod folder;
pub mod ice;
pub mod json_file;
#[cfg(unix)]
pub mod local_socket;
pub mod lock;
pub mod mounts;
pub mod os;
pub mod program;
pub mod random;
pub mod rate_limit;
#[cfg(feature = "sqlite")]
pub mod sqlite;
pub mod transport;
