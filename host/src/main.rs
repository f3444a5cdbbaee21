//! The `sleap-rtc` binary.

fn main() {}
