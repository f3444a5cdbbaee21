//! Mailboxes for devices that pair: two sockets, between which a few short parcels pass.
//!
//! The server learns the number of a mailbox and never the words of its code. It reads no parcel, and
//! logs nothing of all this.

mod mailboxes;
mod socket;

pub(crate) use mailboxes::Mailboxes;
pub(crate) use socket::serve;
