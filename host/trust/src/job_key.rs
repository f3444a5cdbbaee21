//! The proof of the right to a job: a signature over the conversation's transcript, by a key that the
//! job's secret gives. The worker keeps the key's public half, which verifies and proves nothing.

use crate::device::{DeviceId, DeviceKey, SIGNATURE_BYTES};
use crate::encoding;
use crate::handshake::Transcript;
use sleap_rtc_protocol::event_cursor::EventsAfter;
use sleap_rtc_protocol::frame::ClientFrame;
use sleap_rtc_protocol::ids::{JobId, JobProof, JobSecret, JobVerifier, OfferProof, PeerId};
use sleap_rtc_protocol::job::{JobRight, JobSpec};

const KEY_PURPOSE: &[u8] = b"sleap-rtc job key 1";
const OFFER_PURPOSE: &[u8] = b"sleap-rtc job offer 1";
const PROOF_PURPOSE: &[u8] = b"sleap-rtc job proof 1";

/// The key of a job.
#[derive(Debug)]
pub struct JobKey(DeviceKey);

impl JobKey {
    /// The key that belongs to the secret of `job`.
    pub fn new(job: &JobId, secret: &JobSecret) -> Self {
        let parts = [KEY_PURPOSE, job.as_str().as_bytes(), secret.as_str().as_bytes()];
        Self(DeviceKey::from_bytes(encoding::hash(&parts)))
    }

    /// What the worker keeps.
    pub fn verifier(&self) -> JobVerifier {
        JobVerifier::from_bytes(self.0.id().as_bytes())
    }

    /// The frame that submits the job of `spec`. The secret stays here if there is a `transcript` to prove
    /// it by.
    pub fn submit(
        &self,
        spec: &JobSpec,
        secret: &JobSecret,
        transcript: Option<&Transcript>,
    ) -> ClientFrame {
        let proof = transcript.map(|transcript| self.prove(&spec.id, transcript));
        let right = match proof {
            Some(_) => JobRight::Verifier { verifier: self.verifier() },
            None => JobRight::Secret { secret: secret.clone() },
        };
        ClientFrame::Submit { spec: Box::new(JobSpec { right, ..spec.clone() }), proof }
    }

    /// The frame that reattaches to `job` and asks for its events from `after` on, by the same rule.
    pub fn attach(
        &self,
        (job, secret): (&JobId, &JobSecret),
        after: EventsAfter,
        transcript: Option<&Transcript>,
    ) -> ClientFrame {
        let job = job.clone();
        match transcript {
            Some(transcript) => {
                let proof = self.prove(&job, transcript);
                ClientFrame::AttachByProof { job, proof, after }
            }
            None => ClientFrame::Attach { job, secret: secret.clone(), after },
        }
    }

    /// Proves the right to `job` in the conversation of `transcript`, and in no other.
    pub fn prove(&self, job: &JobId, transcript: &Transcript) -> JobProof {
        JobProof::from_bytes(&self.0.sign(&message(job, transcript)))
    }
}

/// An offer for a job: its sender, its receiver and its number.
#[derive(Debug, Clone, Copy)]
pub struct JobOffer<'a> {
    /// The job.
    pub job: &'a JobId,
    /// Who offers.
    pub client: &'a PeerId,
    /// To whom.
    pub worker: &'a PeerId,
    /// The number of the offer.
    pub attempt: u64,
}

impl JobOffer<'_> {
    /// Proves that its sender has the secret of the job that `key` belongs to. It is for a worker that
    /// has to choose among many offers: what follows must be proven again, in the conversation.
    pub fn prove(&self, key: &JobKey) -> OfferProof {
        OfferProof::from_bytes(&key.0.sign(&self.message()))
    }

    /// Whether `proof` proves that.
    pub fn is_proven(&self, verifier: &JobVerifier, proof: &OfferProof) -> bool {
        has_signed(verifier, &self.message(), proof.as_str())
    }

    fn message(&self) -> Vec<u8> {
        let Self { job, client, worker, attempt } = self;
        encoding::joined(&[
            OFFER_PURPOSE,
            job.as_str().as_bytes(),
            client.as_str().as_bytes(),
            worker.as_str().as_bytes(),
            &attempt.to_be_bytes(),
        ])
    }
}

/// What verifies the right to `job`, where `right` is known.
pub fn verifier(job: &JobId, right: &JobRight) -> JobVerifier {
    match right {
        JobRight::Verifier { verifier } => verifier.clone(),
        JobRight::Secret { secret } => JobKey::new(job, secret).verifier(),
    }
}

/// Whether `proof`, in the conversation of `transcript`, proves the right to the `job` that
/// `verifier` belongs to.
pub fn is_proven(
    job: &JobId,
    verifier: &JobVerifier,
    proof: &JobProof,
    transcript: &Transcript,
) -> bool {
    has_signed(verifier, &message(job, transcript), proof.as_str())
}

fn has_signed(verifier: &JobVerifier, message: &[u8], signature: &str) -> bool {
    let key = verifier.as_str().parse::<DeviceId>();
    let mut bytes = [0; SIGNATURE_BYTES];
    let decoded = hex::decode_to_slice(signature, &mut bytes);
    let (Ok(key), Ok(())) = (key, decoded) else { return false };
    key.has_signed(message, &bytes)
}

fn message(job: &JobId, transcript: &Transcript) -> Vec<u8> {
    encoding::joined(&[PROOF_PURPOSE, job.as_str().as_bytes(), transcript.as_bytes()])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_proof_is_for_one_job_and_one_conversation() {
        let (job, other) = (JobId::new("j1").unwrap(), JobId::new("j2").unwrap());
        let secret = JobSecret::new("s").unwrap();
        let key = JobKey::new(&job, &secret);
        let (here, elsewhere) = (Transcript::of_bytes([1; 32]), Transcript::of_bytes([2; 32]));
        let proof = key.prove(&job, &here);
        assert!(is_proven(&job, &key.verifier(), &proof, &here));
        assert!(!is_proven(&job, &key.verifier(), &proof, &elsewhere));
        assert!(!is_proven(&other, &key.verifier(), &proof, &here));
        let others = JobKey::new(&other, &secret);
        assert!(!is_proven(&job, &others.verifier(), &proof, &here));
        let peers = ["a", "b"].map(|id| PeerId::new(id).unwrap());
        let offer = JobOffer { job: &job, client: &peers[0], worker: &peers[1], attempt: 1 };
        let proof = offer.prove(&key);
        assert!(offer.is_proven(&key.verifier(), &proof));
        assert!(!JobOffer { attempt: 2, ..offer }.is_proven(&key.verifier(), &proof));
        assert!(!JobOffer { worker: &peers[0], ..offer }.is_proven(&key.verifier(), &proof));
        assert!(!offer.is_proven(&others.verifier(), &proof));
        assert!(!format!("{key:?}").contains(&hex::encode(key.0.to_bytes())));
    }
}
