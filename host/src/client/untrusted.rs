//! Why a worker is not trusted.

use sleap_rtc_net::dialect::ProvingError;
use sleap_rtc_trust::handshake::Disbelief;

/// Why a worker is not trusted. Each text continues a sentence about the worker.
#[derive(Debug, thiserror::Error)]
pub enum Untrusted {
    /// The proof is missing or wrong.
    #[error("{0}")]
    Proof(ProvingError),
    /// It speaks like a Python worker.
    #[error(
        "shows no key: it speaks as Python workers do. If it is one, use --python-worker, which trusts \
         the signaling server; otherwise the server has changed its answer"
    )]
    Python,
    /// It has proven that it is another one than the client believes.
    #[error(transparent)]
    Disbelieved(#[from] Disbelief),
    /// The user does not accept it.
    #[error("was not accepted")]
    Declined,
}
