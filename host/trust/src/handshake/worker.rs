//! The worker's half.

use crate::certificate::{CertificateError, MemberRole};
use crate::device::DeviceId;
use crate::handshake::messages::{ClientHello, ClientProof, Fixed, Keyed, Seal, WorkerHello};
use crate::handshake::scene::{Scene, Side, Transcript};
use crate::handshake::{
    Admits, CLIENT_PURPOSE, Certification, Identity, NONCE_BYTES, ProofError, Proven,
    WORKER_PURPOSE,
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
        let (peer, name) = (own.peer.renewed(own.removals.token_number()), own.name.as_str());
        let answer = WorkerHello {
            device: side.device,
            nonce: Fixed(nonce),
            name: name.to_owned(),
            certificate: own.certificate.clone(),
            removals: own.removals.notes(),
            seal: Seal::new(WORKER_PURPOSE, &own.device, peer.secret(), &transcript, name),
        };
        (Self { own, client: hello.device, transcript }, answer)
    }

    /// Checks the client's proof, at `now_s` in seconds since 1970. What the client tells of removed
    /// devices counts at once.
    ///
    /// # Errors
    /// The client proves nothing, or something else, or it has been removed.
    pub fn conclude(
        self,
        proof: &ClientProof,
        admits: Admits,
        now_s: u64,
    ) -> Result<Proven, ProofError> {
        let Self { mut own, client, transcript } = self;
        let news = own.removals.take(&own.peer.authority(), &proof.removals);
        let keyed = proof.seal.check(CLIENT_PURPOSE, &client, &transcript, "")?;
        let member = own.member(&client, proof, &keyed, now_s);
        let issued_s = proof.certificate.as_ref().map(|shown| shown.subject().issued_s);
        let is_shown = matches!(
            member,
            Ok(Certification::Certified) | Err(ProofError::Certificate(CertificateError::Expired))
        );
        if own.removals.cover(&client, issued_s.filter(|_| is_shown)) {
            return Err(ProofError::Removed);
        }
        let certification = match (member, admits) {
            (Err(_), Admits::JobHolders) => Certification::JobHolder,
            (member, _) => member?,
        };
        let certificate =
            proof.certificate.clone().filter(|_| certification == Certification::Certified);
        let certified = certificate.as_ref().map(|of| of.subject().name.clone());
        let name = certified.unwrap_or_else(|| Printable::line(&client.short(), 64));
        Ok(Proven { device: client, name, certification, certificate, news, transcript })
    }
}

impl Identity {
    /// What `client` is to this worker, without regard to removals.
    fn member(
        &self,
        client: &DeviceId,
        proof: &ClientProof,
        keyed: &Keyed<'_>,
        now_s: u64,
    ) -> Result<Certification, ProofError> {
        if let Some(certificate) = &proof.certificate {
            certificate.check(&self.peer.authority(), client, MemberRole::Client, now_s)?;
            return Ok(Certification::Certified);
        }
        let (number, peer) = (self.removals.token_number(), &self.peer);
        let knows = |number| keyed.by(peer.renewed(number).secret());
        // Without the authority nobody can tell an old token from the one that replaced it.
        let can_tell = number == 0 || peer.authority_key().is_some();
        if can_tell && knows(number) {
            return Ok(Certification::Uncertified);
        }
        Err(match (0..number).any(knows) {
            true => ProofError::OldToken,
            false => ProofError::NoMember,
        })
    }
}
