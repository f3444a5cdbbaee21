//! Mailboxes for devices that pair: two sockets, between which a few short parcels pass.
//!
//! The server learns the number of a mailbox, but never the words of its code. It neither reads nor
//! logs parcels.

mod mailboxes;
mod socket;

pub(crate) use mailboxes::Mailboxes;
pub(crate) use socket::serve;
