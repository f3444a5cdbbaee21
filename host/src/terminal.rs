//! What the terminal can do.

/// Whether the terminal takes text alone: no colours, and no cursor that moves.
pub(crate) fn is_dumb() -> bool {
    let says_so = std::env::var_os("TERM").is_none_or(|term| term.is_empty() || term == "dumb");
    cfg!(unix) && says_so
}
