//! `sleap-rtc --version`: the version, the commit and the features of this program.

/// The commit that the build script names; none in a development build.
const COMMIT: Option<&str> = option_env!("SLEAP_RTC_COMMIT");

const FEATURES: [(&str, bool); 5] = [
    ("signaling", cfg!(feature = "signaling")),
    ("page", cfg!(feature = "page")),
    ("worker", cfg!(feature = "worker")),
    ("client", cfg!(feature = "client")),
    ("viewer", cfg!(feature = "viewer")),
];

/// For instance `0.1.0 (commit 6661f2d0a1b2; signaling, page, worker, client, viewer)`.
pub(crate) fn text() -> String {
    let built = FEATURES.iter().filter(|(_, is_built)| *is_built).map(|(name, _)| *name);
    let features = built.collect::<Vec<_>>().join(", ");
    let origin = COMMIT.map_or("development build".to_owned(), |commit| format!("commit {commit}"));
    format!("{} ({origin}; {features})", env!("CARGO_PKG_VERSION"))
}
