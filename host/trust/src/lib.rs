//! Who may talk to whom, without trusting the signaling server: device keys, room credentials whose
//! second part the server never sees, certificates, and the proof that a conversation begins with.
//!
//! This crate does no I/O and has no clock and no random numbers: they are arguments. `docs/security.md`
//! describes every byte, for other implementations.
//!
//! | module | contents |
//! |---|---|
//! | [`device`] | the key of a device, and the id by which others know it |
//! | [`credential`] | what opens a room: the server's part and the peers' part |
//! | [`certificate`] | what a room's authority says of a device |
//! | [`session`] | the strings that name one worker or one job, to copy and paste |
//! | [`handshake`] | how two peers prove who they are, bound to their connection |
//! | [`pairing`] | how two devices meet that share a code of two words |
//! | [`job_key`] | the proof of the right to a job, and what verifies it |
//! | [`goal`] | what a client wants of a worker, and the offer for it |
//! | [`removal`] | which devices have been removed from a room |
//! | [`sealed_note`] | what the workers of a room tell each other through the server |
//!
//! Two devices of a room prove themselves to each other:
//!
//! ```
//! use sleap_rtc_trust::credential::PeerPart;
//! use sleap_rtc_trust::device::DeviceKey;
//! use sleap_rtc_trust::handshake::{
//!     Admits, Binding, ClientHandshake, Identity, Scene, Certification, ConnectionKind, WorkerHandshake,
//! };
//!
//! let room = PeerPart::from_random([7; 48]);
//! let (laptop, gpu) = (DeviceKey::from_bytes([1; 32]), DeviceKey::from_bytes([2; 32]));
//! let client = Identity::new(laptop, room.for_clients(), None);
//! let worker = Identity::worker(gpu, room, "gpu2", 1_000);
//! let binding = Binding { transport: ConnectionKind::Iroh, client: [3; 32], worker: [4; 32] };
//! let scene = Scene::new(&"room".parse()?, 1, &"c".parse()?, &"w".parse()?, binding);
//!
//! let (asking, hello) = ClientHandshake::begin(client, scene.clone(), [5; 32]);
//! let (answering, answer) = WorkerHandshake::answer(worker, scene, &hello, [6; 32]);
//! let (proof, proven) = asking.conclude(&answer, 1_000)?;
//! assert_eq!(proven.certification, Certification::Certified);
//! assert_eq!(answering.conclude(&proof, Admits::Members, 1_000)?.transcript, proven.transcript);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

pub mod certificate;
pub mod credential;
pub mod device;
mod encoding;
pub mod goal;
pub mod handshake;
pub mod job_key;
pub mod pairing;
pub mod removal;
pub mod sealed_note;
pub mod session;
