//! How many sockets this process can hold: each is a file descriptor.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Sockets that are open at once, however many descriptors there are; more wait in the system's
/// queue.
pub(crate) const MAX_SOCKETS: usize = 32 * 1024;
/// Descriptors that no peer gets: for the listeners, a connection that each has just accepted, the
/// state file, certificates that are read again, and the runtime.
const RESERVED: usize = 64;
/// What is served even where the limit is absurdly low.
const LEAST_SOCKETS: usize = 16;

/// Raises the soft limit of open files to the hard one, and returns for how many sockets it is
/// enough. Where it cannot be raised the present limit counts.
pub fn raise_descriptor_limit() -> usize {
    let before = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: before.maximum, maximum: before.maximum };
    if let Err(error) = setrlimit(Resource::Nofile, raised) {
        tracing::debug!(%error, "the limit of open files stays as it is");
    }
    sockets_within(getrlimit(Resource::Nofile).current)
}

fn sockets_within(descriptors: Option<u64>) -> usize {
    let descriptors = descriptors.and_then(|number| usize::try_from(number).ok());
    let free = descriptors.map_or(MAX_SOCKETS, |number| number.saturating_sub(RESERVED));
    free.clamp(LEAST_SOCKETS, MAX_SOCKETS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_limit_leaves_a_reserve() {
        assert_eq!(sockets_within(Some(1024)), 960);
        assert_eq!(sockets_within(Some(10)), LEAST_SOCKETS);
        assert_eq!(sockets_within(Some(u64::MAX)), MAX_SOCKETS);
        assert_eq!(sockets_within(None), MAX_SOCKETS);
    }
}
