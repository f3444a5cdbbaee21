//! The client's half.

use crate::certificate::MemberRole;
use crate::certificate::printable_name;
use crate::handshake::messages::{ClientHello, ClientProof, Fixed, Seal, WorkerHello};
use crate::handshake::scene::{Scene, Side};
use crate::handshake::{
    CLIENT_PURPOSE, Identity, NONCE_BYTES, ProofError, Proven, Standing, WORKER_PURPOSE,
};

/// A client that waits for the worker's hello.
#[derive(Debug)]
pub struct ClientHandshake {
    own: Identity,
    scene: Scene,
    side: Side,
}

impl ClientHandshake {
    /// Begins. `nonce` is fresh and random.
    pub fn begin(own: Identity, scene: Scene, nonce: [u8; NONCE_BYTES]) -> (Self, ClientHello) {
        let side = Side { device: own.device(), nonce };
        let hello = ClientHello { device: side.device, nonce: Fixed(nonce) };
        (Self { own, scene, side }, hello)
    }

    /// Checks the worker's hello, at `now_s` in seconds since 1970. Returns the client's proof, and what
    /// is proven of the worker. An uncertified worker is for the caller to accept: until then, do not
    /// send the proof.
    ///
    /// # Errors
    /// The worker proves nothing, or something else.
    pub fn conclude(
        self,
        hello: &WorkerHello,
        now_s: u64,
    ) -> Result<(ClientProof, Proven), ProofError> {
        let Self { own, scene, side } = self;
        let worker = Side { device: hello.device, nonce: hello.nonce.0 };
        let transcript = scene.transcript(&side, &worker);
        let (device, secret) = (&hello.device, own.peer.secret());
        let name = hello.name.as_str();
        if !hello.seal.check(WORKER_PURPOSE, device, secret, &transcript, name)? {
            return Err(ProofError::NoMember);
        }
        let standing = match &hello.certificate {
            Some(certificate) => {
                certificate.check(&own.peer.authority(), device, MemberRole::Worker, now_s)?;
                Standing::Certified
            }
            None => Standing::Uncertified,
        };
        let certified = hello.certificate.as_ref().map(|of| of.subject().name.clone());
        let name = certified.unwrap_or_else(|| printable_name(name));
        let seal = Seal::new(CLIENT_PURPOSE, &own.device, secret, &transcript, "");
        let proof = ClientProof { certificate: own.certificate, seal };
        Ok((proof, Proven { device: *device, name, standing, transcript }))
    }
}
