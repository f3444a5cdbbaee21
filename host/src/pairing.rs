//! Pairs this device with a worker by a code that its user types: a [`Joiner`], driven through a mailbox of
//! the signaling server.

use sleap_rtc_protocol::ids::DeviceName;
use sleap_rtc_protocol::pairing::MailboxErrorCode;
use sleap_rtc_signaling::client::{Mailbox, MailboxError, MailboxNews, Servers};
use sleap_rtc_trust::pairing::{
    Code, Grant, Introduction, JOIN_LIMIT, JoinError, JoinStep, Joiner, VerificationWords,
};
use tokio::time::timeout;

/// Why this device could not pair.
#[derive(Debug, thiserror::Error)]
pub enum PairError {
    /// The worker is not there, or one of the two sides refuses.
    #[error(transparent)]
    Join(#[from] JoinError),
    /// The mailbox cannot be used.
    #[error(transparent)]
    Mailbox(#[from] MailboxError),
}

impl PairError {
    /// What a user can do about it.
    pub fn advice(&self) -> Option<String> {
        match self {
            Self::Join(error @ JoinError::Nobody(_)) => {
                Some(format!("check --signaling; {}", error.advice()))
            }
            Self::Join(error) => Some(error.advice().to_owned()),
            Self::Mailbox(error) => {
                error.advice().or_else(|| Some(JoinError::Late.advice().to_owned()))
            }
        }
    }
}

/// Pairs with the worker that shows `code`. Returns what it gives, and the words that both show.
///
/// # Errors
/// Within ten seconds, whatever the server does.
pub(crate) async fn join(
    servers: &Servers,
    code: &Code,
    introduction: &Introduction,
) -> Result<(Grant, VerificationWords), PairError> {
    let exchange = exchange(servers, code, introduction);
    timeout(JOIN_LIMIT, exchange).await.unwrap_or(Err(JoinError::Late.into()))
}

async fn exchange(
    servers: &Servers,
    code: &Code,
    introduction: &Introduction,
) -> Result<(Grant, VerificationWords), PairError> {
    let joined = Mailbox::join(servers, code.mailbox()).await;
    let mut mailbox = joined.map_err(|error| match error {
        MailboxError::Refused { code: MailboxErrorCode::NoMailbox, .. } => {
            JoinError::Nobody(code.mailbox()).into()
        }
        error => PairError::Mailbox(error),
    })?;
    let (mut joiner, mut parcel) = Joiner::start(code, introduction.clone(), &mut rand::rng());
    loop {
        mailbox.send(parcel).await?;
        let answer = answer(&mut mailbox).await?;
        match joiner.take(answer.as_deref())? {
            JoinStep::Send(next, bytes) => (joiner, parcel) = (next, bytes),
            JoinStep::Joined(grant, words) => {
                mailbox.close().await;
                return Ok((*grant, words));
            }
        }
    }
}

/// The next parcel; `None` when the other device is gone.
async fn answer(mailbox: &mut Mailbox) -> Result<Option<Vec<u8>>, MailboxError> {
    loop {
        match mailbox.next().await? {
            MailboxNews::Parcel(bytes) => return Ok(Some(bytes)),
            MailboxNews::Left => return Ok(None),
            MailboxNews::Joined => {}
        }
    }
}

/// What people call this device: its user, if that is known, and its host.
pub(crate) fn device_name(user: Option<&str>) -> DeviceName {
    let host = short_host_name();
    DeviceName::nearest(&user.map_or(host.clone(), |user| format!("{user}@{host}")))
}

/// The name of this machine, up to its first dot.
pub(crate) fn short_host_name() -> String {
    let name = sleap_rtc_base::os::host_name();
    name.split('.').next().unwrap_or_default().to_owned()
}
