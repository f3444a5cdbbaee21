//! How many sockets this process can open, given its limit on file descriptors.

use sleap_rtc_base::os;

/// The most open sockets, regardless of the limit on descriptors. More connections wait in the
/// system's queue.
pub(crate) const MAX_SOCKETS: usize = 32 * 1024;
/// Descriptors that are reserved for the listeners, a connection that each has just accepted, the
/// state file, certificates that are reloaded, and the runtime.
const RESERVED: usize = 64;
/// The number of sockets that are served even if the limit is absurdly low.
const LEAST_SOCKETS: usize = 16;

/// Raises the soft limit of open files to the hard one. Returns the number of sockets that it
/// allows. Uses the current limit if it cannot be raised.
pub fn raise_descriptor_limit() -> usize {
    sockets_within(os::raise_descriptor_limit())
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
