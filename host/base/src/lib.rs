//! What every crate of the program needs and none of them is about.
//!
//! | module | what it is |
//! |---|---|
//! | [`backoff`] | waits between attempts |
//! | [`deadline`] | deadlines that may be absent |
//! | [`ice`] | a STUN or TURN server, checked |

pub mod backoff;
pub mod deadline;
pub mod ice;
