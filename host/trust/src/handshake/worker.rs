//! The worker's half.

use crate::certificate::MemberRole;
use crate::device::DeviceId;
use crate::handshake::messages::{ClientHello, ClientProof, Fixed, Seal, WorkerHello};
use crate::handshake::scene::{Scene, Side, Transcript};
use crate::handshake::{
    CLIENT_PURPOSE, Identity, NONCE_BYTES, ProofError, Proven, Standing, WORKER_PURPOSE,
};
use sleap_rtc_protocol::text::Printable;

/// A worker that waits for the client's proof.
#[derive(Debug)]
pub struct WorkerHandshake {
    own: Identity,
    client: DeviceId,
    transcript: Transcript,
}

impl WorkerHandshake {
    /// Answers a client's hello. `nonce` is fresh and random.
    pub fn answer(
        own: Identity,
        scene: Scene,
        hello: &ClientHello,
        nonce: [u8; NONCE_BYTES],
    ) -> (Self, WorkerHello) {
        let client = Side { device: hello.device, nonce: hello.nonce.0 };
        let side = Side { device: own.device(), nonce };
        let transcript = scene.transcript(&client, &side);
        let (secret, name) = (own.peer.secret(), own.name.as_str());
        let answer = WorkerHello {
            device: side.device,
            nonce: Fixed(nonce),
            name: name.to_owned(),
            certificate: own.certificate.clone(),
            seal: Seal::new(WORKER_PURPOSE, &own.device, secret, &transcript, name),
        };
        (Self { own, client: hello.device, transcript }, answer)
    }

    /// Checks the client's proof, at `now_s` in seconds since 1970.
    ///
    /// # Errors
    /// The client proves nothing, or something else.
    pub fn conclude(self, proof: &ClientProof, now_s: u64) -> Result<Proven, ProofError> {
        let Self { own, client, transcript } = self;
        let secret = own.peer.secret();
        let knows_secret = proof.seal.check(CLIENT_PURPOSE, &client, secret, &transcript, "")?;
        let standing = match &proof.certificate {
            Some(certificate) => {
                certificate.check(&own.peer.authority(), &client, MemberRole::Client, now_s)?;
                Standing::Certified
            }
            None if knows_secret => Standing::Uncertified,
            None => return Err(ProofError::NoMember),
        };
        let certified = proof.certificate.as_ref().map(|of| of.subject().name.clone());
        let name = certified.unwrap_or_else(|| Printable::line(&client.short(), 64));
        Ok(Proven { device: client, name, standing, transcript })
    }
}
