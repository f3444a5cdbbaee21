//! Key-value buckets of JetStream, and which of their failures may pass.

use super::nats::Nats;
use crate::store::StoreError;
use async_nats::jetstream::context::{CreateStreamError, CreateStreamErrorKind};
pub(crate) use async_nats::jetstream::kv::Store as Bucket;
use async_nats::jetstream::stream::{Config, DiscardPolicy};
use async_nats::jetstream::{self, ErrorCode};
use std::error::Error;
use std::time::Duration;

/// Opens a bucket, or makes it. One that an operator has made keeps its settings. A `max_age` of zero keeps
/// values for ever.
pub(crate) async fn open(nats: &Nats, name: &str, max_age: Duration) -> Result<Bucket, StoreError> {
    let stores = nats.jet_stream();
    if let Ok(bucket) = stores.get_key_value(name).await {
        return Ok(bucket);
    }
    // As `create_key_value` does, which asks a broker for more than version 2.9 knows.
    let config = Config {
        name: format!("KV_{name}"),
        subjects: vec![format!("$KV.{name}.>")],
        max_messages_per_subject: 1,
        max_age,
        discard: DiscardPolicy::New,
        allow_rollup: true,
        deny_delete: true,
        allow_direct: true,
        ..Config::default()
    };
    let made = stores.create_stream(config).await;
    made.map_err(|error| match nats.has_jet_stream() {
        true => failed(error),
        false => StoreError::Broker(error.to_string().into()),
    })?;
    stores.get_key_value(name).await.map_err(failed)
}

/// A failure of the broker, with its causes in the text. It may pass unless JetStream's refusal is final.
pub(crate) fn failed(error: impl Error + 'static) -> StoreError {
    let words = error.to_string().into();
    match refusal(&error).is_some_and(|refusal| is_final(&refusal)) {
        true => StoreError::Broker(words),
        false => StoreError::NoAnswer(words),
    }
}

/// JetStream's own words, where an error of async-nats, or one of its causes, has them.
fn refusal(error: &(dyn Error + 'static)) -> Option<jetstream::Error> {
    match (error.downcast_ref().map(CreateStreamError::kind), error.downcast_ref()) {
        (Some(CreateStreamErrorKind::JetStream(refusal)), _) => Some(refusal),
        (_, Some(refusal)) => Some(jetstream::Error::clone(refusal)),
        _ => error.source().and_then(self::refusal),
    }
}

/// Whether JetStream would refuse again. If the name is taken, another server has just made the bucket.
fn is_final(refusal: &jetstream::Error) -> bool {
    match refusal.error_code() {
        ErrorCode::JETSTREAM_NOT_ENABLED | ErrorCode::JETSTREAM_NOT_ENABLED_FOR_ACCOUNT => true,
        ErrorCode::STREAM_NAME_EXIST => false,
        _ => refusal.code() < 500,
    }
}
