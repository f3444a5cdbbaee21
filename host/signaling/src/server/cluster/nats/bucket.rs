//! Key-value buckets: streams of JetStream that keep the newest message of each subject, as all clients of NATS lay
//! them out.

use super::{Nats, NoAnswer};
use base64::{Engine, engine::general_purpose::STANDARD};
use bytes::Bytes;
use serde::Deserialize;
use serde_json::{Value, json};
use std::time::Duration;

/// JetStream's code for a message that expects another predecessor.
const WRONG_PREDECESSOR: u32 = 10_071;
/// JetStream's code for a stream that exists with other settings.
const NAME_IN_USE: u32 = 10_058;
const NOT_FOUND: u32 = 404;

/// Why a bucket cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BucketError {
    #[error(transparent)]
    NoAnswer(#[from] NoAnswer),
    /// Another value is there.
    #[error("another server was quicker")]
    Conflict,
    #[error("JetStream refuses: {0}")]
    Refused(String),
    #[error("JetStream's answer is not understood")]
    Unexpected,
}

/// A value, and its place in the order of all changes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct BucketEntry {
    /// `None` if it was deleted.
    pub(crate) value: Option<Vec<u8>>,
    pub(crate) revision: u64,
}

/// A bucket.
#[derive(Debug, Clone)]
pub(crate) struct Bucket {
    nats: Nats,
    name: &'static str,
}

#[derive(Deserialize)]
struct JetStreamAnswer {
    error: Option<JetStreamRefusal>,
    seq: Option<u64>,
    message: Option<Stored>,
}

#[derive(Deserialize)]
struct JetStreamRefusal {
    code: u32,
    #[serde(default)]
    err_code: u32,
    #[serde(default)]
    description: String,
}

#[derive(Deserialize)]
struct Stored {
    seq: u64,
    #[serde(default)]
    data: String,
    #[serde(default)]
    hdrs: String,
}

impl Bucket {
    /// Opens a bucket. It is created if there is none, so an operator may have created it with other settings. A
    /// `max_age` of zero keeps values for ever.
    pub(crate) async fn open(
        nats: &Nats,
        name: &'static str,
        max_age: Duration,
    ) -> Result<Self, BucketError> {
        let bucket = Self { nats: nats.clone(), name };
        match bucket.api("STREAM.INFO", json!({})).await {
            Ok(_) => return Ok(bucket),
            Err(Failed::Refused(refusal)) if refusal.code == NOT_FOUND => {}
            Err(failed) => return Err(failed.into()),
        }
        let stream = json!({
            "name": format!("KV_{name}"),
            "subjects": [format!("$KV.{name}.>")],
            "retention": "limits", "storage": "file", "discard": "new", "num_replicas": 1,
            "max_consumers": -1, "max_msgs": -1, "max_bytes": -1, "max_msg_size": -1,
            "max_msgs_per_subject": 1,
            "max_age": u64::try_from(max_age.as_nanos()).unwrap_or_default(),
            "allow_rollup_hdrs": true, "deny_delete": true, "allow_direct": true,
        });
        match bucket.api("STREAM.CREATE", stream).await {
            // Another server has created it in the meantime.
            Err(Failed::Refused(refusal)) if refusal.err_code == NAME_IN_USE => Ok(bucket),
            Ok(_) => Ok(bucket),
            Err(failed) => Err(failed.into()),
        }
    }

    /// The newest value of a key.
    pub(crate) async fn read(&self, key: &str) -> Result<Option<BucketEntry>, BucketError> {
        let which = json!({ "last_by_subj": self.subject(key) });
        let stored = match self.api("STREAM.MSG.GET", which).await {
            Ok(answer) => answer.message.ok_or(BucketError::Unexpected)?,
            Err(Failed::Refused(refusal)) if refusal.code == NOT_FOUND => return Ok(None),
            Err(failed) => return Err(failed.into()),
        };
        let decoded = |text: &str| STANDARD.decode(text).map_err(|_| BucketError::Unexpected);
        let headers = String::from_utf8(decoded(&stored.hdrs)?).unwrap_or_default();
        let is_deleted =
            headers.contains("KV-Operation: DEL") || headers.contains("KV-Operation: PURGE");
        let value = if is_deleted { None } else { Some(decoded(&stored.data)?) };
        Ok(Some(BucketEntry { value, revision: stored.seq }))
    }

    /// Writes the first value of a key, or the first one after it was deleted.
    ///
    /// # Errors
    /// [`BucketError::Conflict`] if there is a value.
    pub(crate) async fn create(&self, key: &str, value: Vec<u8>) -> Result<(), BucketError> {
        let known = self.read(key).await?;
        let revision = match known {
            Some(BucketEntry { value: Some(_), .. }) => return Err(BucketError::Conflict),
            Some(BucketEntry { revision, .. }) => revision,
            None => 0,
        };
        self.update(key, value, revision).await
    }

    /// Replaces the value of that revision.
    ///
    /// # Errors
    /// [`BucketError::Conflict`] if it has changed.
    pub(crate) async fn update(
        &self,
        key: &str,
        value: Vec<u8>,
        revision: u64,
    ) -> Result<(), BucketError> {
        self.put(key, format!("Nats-Expected-Last-Subject-Sequence: {revision}\r\n"), value).await
    }

    /// Deletes a key.
    pub(crate) async fn delete(&self, key: &str) -> Result<(), BucketError> {
        self.put(key, "KV-Operation: DEL\r\n".to_owned(), Vec::new()).await
    }

    async fn put(&self, key: &str, headers: String, value: Vec<u8>) -> Result<(), BucketError> {
        let answer = self.nats.request(self.subject(key), headers, value.into()).await?;
        match understand(&answer) {
            Ok(answer) if answer.seq.is_some() => Ok(()),
            Ok(_) => Err(BucketError::Unexpected),
            Err(failed) => Err(failed.into()),
        }
    }

    fn subject(&self, key: &str) -> String {
        format!("$KV.{}.{key}", self.name)
    }

    async fn api(&self, what: &str, request: Value) -> Result<JetStreamAnswer, Failed> {
        let subject = format!("$JS.API.{what}.KV_{}", self.name);
        let answer = self.nats.request(subject, String::new(), request.to_string().into()).await?;
        understand(&answer)
    }
}

enum Failed {
    NoAnswer(NoAnswer),
    Refused(JetStreamRefusal),
    Unexpected,
}

impl From<NoAnswer> for Failed {
    fn from(error: NoAnswer) -> Self {
        Self::NoAnswer(error)
    }
}

impl From<Failed> for BucketError {
    fn from(failed: Failed) -> Self {
        match failed {
            Failed::NoAnswer(error) => Self::NoAnswer(error),
            Failed::Refused(refusal) if refusal.err_code == WRONG_PREDECESSOR => Self::Conflict,
            Failed::Refused(refusal) => {
                Self::Refused(refusal.description.chars().take(200).collect())
            }
            Failed::Unexpected => Self::Unexpected,
        }
    }
}

fn understand(bytes: &Bytes) -> Result<JetStreamAnswer, Failed> {
    let answer: JetStreamAnswer = serde_json::from_slice(bytes).map_err(|_| Failed::Unexpected)?;
    match answer.error {
        Some(refusal) => Err(Failed::Refused(refusal)),
        None => Ok(answer),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use hostile_input::{damaged, each};

    #[test]
    fn the_decoder_of_answers_of_jetstream() {
        let whole = [
            r#"{"type":"x","error":{"code":404,"err_code":10037,"description":"no message found"}}"#,
            r#"{"stream":"KV_a","seq":7}"#,
            r#"{"message":{"subject":"$KV.a.b","seq":7,"data":"aGk=","hdrs":"TkFUUy8xLjA="}}"#,
        ];
        each("answers of JetStream", damaged(whole.map(str::to_owned).to_vec()), |text| {
            let _ = understand(&Bytes::copy_from_slice(text.as_bytes()));
            Ok(())
        });
        let code = |text: &str| match understand(&Bytes::copy_from_slice(text.as_bytes())) {
            Err(Failed::Refused(refusal)) => BucketError::from(Failed::Refused(refusal)),
            _ => BucketError::Unexpected,
        };
        let conflict =
            r#"{"error":{"code":400,"err_code":10071,"description":"wrong last sequence"}}"#;
        assert!(matches!(code(conflict), BucketError::Conflict));
        assert!(matches!(code(whole[0]), BucketError::Refused(_)));
    }
}
