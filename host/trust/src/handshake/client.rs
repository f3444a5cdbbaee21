//! The client's half.

use crate::certificate::MemberRole;
use crate::certificate::printable_name;
use crate::handshake::messages::{ClientHello, ClientProof, Fixed, Seal, WorkerHello};
use crate::handshake::scene::{Scene, Side};
use crate::handshake::{
    CLIENT_PURPOSE, Certification, Identity, NONCE_BYTES, ProofError, Proven, WORKER_PURPOSE,
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
        let Self { mut own, scene, side } = self;
        let worker = Side { device: hello.device, nonce: hello.nonce.0 };
        let transcript = scene.transcript(&side, &worker);
        let (device, name) = (&hello.device, hello.name.as_str());
        let (authority, secret) = (own.peer.authority(), own.peer.secret());
        let keyed = hello.seal.check(WORKER_PURPOSE, device, &transcript, name)?;
        let certification = match &hello.certificate {
            Some(certificate) => {
                certificate.check(&authority, device, MemberRole::Worker, now_s)?;
                Certification::Certified
            }
            // One that enters by its certificate cannot tell.
            None if secret.is_none() || keyed.by(secret) => Certification::Uncertified,
            None => return Err(ProofError::NoMember),
        };
        let seal = Seal::new(CLIENT_PURPOSE, &own.device, secret, &transcript, "");
        let news = own.removals.take(&authority, &hello.removals);
        let certified = hello.certificate.as_ref().map(|of| of.subject().name.clone());
        let name = certified.unwrap_or_else(|| printable_name(name));
        let removals = own.removals.beyond(&hello.removals);
        let proof = ClientProof { certificate: own.certificate, removals, seal };
        let certificate = hello.certificate.clone();
        Ok((proof, Proven { device: *device, name, certification, certificate, news, transcript }))
    }
}
