//! Pairs this device with a worker by a code that its user types: the states of
//! [`sleap_rtc_trust::pairing`], driven through a mailbox of the signaling server.

use sleap_rtc_protocol::ids::DeviceName;
use sleap_rtc_protocol::pairing::{MailboxErrorCode, MailboxNumber};
use sleap_rtc_signaling::client::{Endpoints, Mailbox, MailboxError, MailboxNews};
use sleap_rtc_trust::certificate::MemberRole;
use sleap_rtc_trust::pairing::{
    Code, Grant, Introduction, Joining, PairingError, Reply, VerificationWords,
};
use std::time::Duration;
use tokio::time::timeout;

/// How long pairing may take, from the connection to the server to the worker's reply. Nobody types
/// anything in this time.
const PAIRING_LIMIT: Duration = Duration::from_secs(10);

/// Why this device could not pair.
#[derive(Debug, thiserror::Error)]
pub enum PairError {
    /// Nobody waits for that code.
    #[error(
        "no worker waits for a code that begins with {0}: the code was used, has expired, or is that of \
         another signaling server"
    )]
    Nobody(MailboxNumber),
    /// The mailbox cannot be used for another reason.
    #[error(transparent)]
    Mailbox(MailboxError),
    /// The worker went away before a code was tried.
    #[error("the worker closed the connection before the code was checked")]
    Ended,
    /// The worker went away after it had seen this side's proof.
    #[error(
        "the worker does not accept this code: one of its words is wrong, or something between the two \
         devices interferes"
    )]
    NotAccepted,
    /// The code is for the other role.
    #[error("this code is for a {expected}, not for a {wanted}")]
    Role {
        /// What the code was made for.
        expected: MemberRole,
        /// What this device wants to be.
        wanted: MemberRole,
    },
    /// Something that is not the worker answers, or changes what it answers.
    #[error("pairing failed: {0}")]
    Protocol(#[from] PairingError),
    /// No end in time.
    #[error("pairing did not end within {} s", PAIRING_LIMIT.as_secs())]
    Late,
}

impl PairError {
    /// What a user can do about it.
    pub fn advice(&self) -> Option<String> {
        const AGAIN: &str =
            "try again; for a new code, run `sleap-rtc room invite` on the worker's machine";
        let advice = match self {
            Self::Mailbox(error) => return error.advice().or_else(|| Some(AGAIN.to_owned())),
            Self::Nobody(_) => {
                "check --signaling; for a new code, run `sleap-rtc room invite` on the worker's machine"
            }
            Self::NotAccepted | Self::Protocol(_) => {
                "this code is spent; type the new one that the worker shows, or run `sleap-rtc room \
                 invite` there"
            }
            Self::Role { expected: MemberRole::Client, .. } => {
                "on the worker's machine, `sleap-rtc room invite --worker` makes a code for a worker"
            }
            Self::Role { expected: MemberRole::Worker, .. } => {
                "on the worker's machine, `sleap-rtc room invite` makes a code for a laptop"
            }
            Self::Ended | Self::Late => AGAIN,
        };
        Some(advice.to_owned())
    }
}

impl From<MailboxError> for PairError {
    fn from(error: MailboxError) -> Self {
        Self::Mailbox(error)
    }
}

/// Pairs with the worker that shows `code`. Returns what it gives, and the words that both show.
///
/// # Errors
/// Within ten seconds, whatever the server does.
pub(crate) async fn join(
    server: &Endpoints,
    code: &Code,
    introduction: &Introduction,
) -> Result<(Grant, VerificationWords), PairError> {
    let exchange = exchange(server, code, introduction);
    timeout(PAIRING_LIMIT, exchange).await.unwrap_or(Err(PairError::Late))
}

async fn exchange(
    server: &Endpoints,
    code: &Code,
    introduction: &Introduction,
) -> Result<(Grant, VerificationWords), PairError> {
    let joined = Mailbox::join(&server.websocket, code.mailbox()).await;
    let mut mailbox = joined.map_err(|error| match error {
        MailboxError::Refused { code: MailboxErrorCode::NoMailbox, .. } => {
            PairError::Nobody(code.mailbox())
        }
        error => error.into(),
    })?;
    let (joining, first) = Joining::start(code, &mut rand::rng());
    mailbox.send(first).await?;
    let second = parcel(&mut mailbox).await?.ok_or(PairError::Ended)?;
    let (introduced, third) = joining.introduce(&second, introduction)?;
    mailbox.send(third).await?;
    let fourth = parcel(&mut mailbox).await?.ok_or(PairError::NotAccepted)?;
    let (reply, words) = introduced.conclude(&fourth)?;
    mailbox.close().await;
    match reply {
        Reply::Granted(grant) => Ok((*grant, words)),
        Reply::OnlyFor(expected) => Err(PairError::Role { expected, wanted: introduction.role }),
    }
}

/// The next parcel; `None` when the other device is gone.
async fn parcel(mailbox: &mut Mailbox) -> Result<Option<Vec<u8>>, MailboxError> {
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
    let host = host_name();
    DeviceName::nearest(&user.map_or(host.clone(), |user| format!("{user}@{host}")))
}

/// The name of this machine, up to its first dot.
pub(crate) fn host_name() -> String {
    let name = sleap_rtc_base::os::host_name();
    name.split('.').next().unwrap_or_default().to_owned()
}
