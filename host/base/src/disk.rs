//! Recognizes errors of a full disk.

use std::io::{Error, ErrorKind};

/// Whether an error means that the disk is full or that the user's quota of bytes or files is used up.
pub fn is_full(error: &Error) -> bool {
    matches!(error.kind(), ErrorKind::StorageFull | ErrorKind::QuotaExceeded)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quota_is_a_full_disk() {
        const ENOSPC: i32 = 28;
        const EDQUOT: i32 = 122;
        for number in [ENOSPC, EDQUOT] {
            assert!(is_full(&Error::from_raw_os_error(number)), "{number}");
        }
        assert!(!is_full(&ErrorKind::PermissionDenied.into()));
    }
}
