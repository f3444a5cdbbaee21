//! One invitation: codes at a mailbox, one after the other, until a device has joined or the time
//! is over.

use super::Invited;
use super::failures::Failures;
use super::host::Host;
use super::news::InvitationNews;
use parking_lot::Mutex;
use sleap_rtc_base::error::WithCauses;
use sleap_rtc_protocol::pairing::MailboxErrorCode;
use sleap_rtc_signaling::client::{Mailbox, MailboxError, MailboxNews, Servers};
use sleap_rtc_trust::pairing::{Answered, Code, Invitation, Met, Reply};
use std::time::{Duration, Instant};
use tokio::sync::mpsc;
use tokio::time::{timeout, timeout_at};

/// How long the exchange with a device may take once it has joined the mailbox.
const EXCHANGE_LIMIT: Duration = Duration::from_secs(10);
/// The most codes of one invitation, for any reason.
pub(crate) const MAX_CODES: u32 = 5;

/// The state that all invitations of a worker share.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) servers: Servers,
    /// The address of one of them for other machines, if it is known.
    pub(crate) signaling: Option<String>,
    pub(crate) host: Host,
    pub(crate) failures: Mutex<Failures>,
}

/// How a code ended.
enum CodeEnd {
    Paired(Box<Met>),
    /// The attempt may have been a guess.
    Spoiled,
    Expired,
    /// The connection to the server is lost.
    Lost,
}

impl Shared {
    /// Invites one device, and tells `news` about it until an end.
    pub(crate) async fn invite(&self, invited: &Invited, news: &mpsc::Sender<InvitationNews>) {
        let role = invited.role;
        for _ in 0..MAX_CODES {
            if let Some(paused) = self.paused() {
                return tell(news, paused).await;
            }
            let (mut mailbox, life) = match Mailbox::open(&self.servers).await {
                Ok(opened) => opened,
                Err(error) => {
                    let why = WithCauses(&error).to_string();
                    return tell(news, InvitationNews::NoServer { why }).await;
                }
            };
            let code = Code::new(mailbox.number(), &mut rand::rng());
            let (shown, within_s) = (code.to_string(), life.as_secs());
            let signaling = self.signaling.clone();
            tell(news, InvitationNews::Code { code: shown, role, within_s, signaling }).await;
            let until = Instant::now() + life;
            let mut spoiled = InvitationNews::Spoiled;
            match serve(&mut mailbox, Invitation::new(code), until).await {
                CodeEnd::Paired(met) => match self.reply(mailbox, *met, invited).await {
                    Some(end) if end.is_end() => return tell(news, end).await,
                    Some(other_role) => spoiled = other_role,
                    None => {}
                },
                CodeEnd::Spoiled => drop(mailbox),
                CodeEnd::Expired => return tell(news, InvitationNews::Expired).await,
                CodeEnd::Lost => continue,
            }
            self.failures.lock().count(Instant::now());
            tell(news, spoiled).await;
        }
        let end = self.paused().unwrap_or_else(|| InvitationNews::NoServer {
            why: "the connection to the signaling server was lost too often".to_owned(),
        });
        tell(news, end).await;
    }

    /// The end of an invitation after too many spoiled codes.
    fn paused(&self) -> Option<InvitationNews> {
        let pause = self.failures.lock().pause(Instant::now())?;
        Some(InvitationNews::Paused { for_s: pause.as_secs().max(1) })
    }

    /// Answers a device that knows the code. `None` if the answer cannot be sent.
    async fn reply(
        &self,
        mut mailbox: Mailbox,
        met: Met,
        invited: &Invited,
    ) -> Option<InvitationNews> {
        let (introduction, role) = (met.introduction.clone(), invited.role);
        let is_fit = introduction.role == role;
        let reply = match is_fit {
            true => Reply::Granted(Box::new(self.host.grant(&introduction, invited))),
            false => Reply::OnlyFor(role),
        };
        let words = met.words.to_string();
        mailbox.send(met.reply(&reply).ok()?).await.ok()?;
        mailbox.close().await;
        let (device, wanted) = (introduction.name, introduction.role);
        Some(match is_fit {
            true => InvitationNews::Paired { device, role, words },
            false => InvitationNews::OtherRole { device, wanted, role },
        })
    }
}

/// The receiver may be gone; the invitation then ends with its task.
async fn tell(news: &mpsc::Sender<InvitationNews>, event: InvitationNews) {
    let _ = news.send(event).await;
}

/// Waits at the mailbox until a device proves that it knows the code, or the code has ended.
async fn serve(mailbox: &mut Mailbox, mut invitation: Invitation, until: Instant) -> CodeEnd {
    loop {
        match timeout_at(until.into(), mailbox.next()).await {
            Err(_) => return CodeEnd::Expired,
            Ok(Err(MailboxError::Refused { code: MailboxErrorCode::Expired, .. })) => {
                return CodeEnd::Expired;
            }
            Ok(Err(MailboxError::Refused { .. })) => return CodeEnd::Spoiled,
            Ok(Err(_)) => return CodeEnd::Lost,
            // From a device that has already left.
            Ok(Ok(MailboxNews::Parcel(_) | MailboxNews::Left)) => continue,
            Ok(Ok(MailboxNews::Joined)) => {}
        }
        match timeout(EXCHANGE_LIMIT, meet(mailbox, invitation)).await {
            Err(_) => return CodeEnd::Spoiled,
            Ok(Visit::Left(untried)) => invitation = untried,
            Ok(Visit::Ended(end)) => return end,
        }
    }
}

/// The result of a device's attempt.
enum Visit {
    /// It left without an attempt.
    Left(Invitation),
    Ended(CodeEnd),
}

async fn meet(mailbox: &mut Mailbox, invitation: Invitation) -> Visit {
    let first = match mailbox.next().await {
        Ok(MailboxNews::Parcel(first)) => first,
        Ok(MailboxNews::Left) => return Visit::Left(invitation),
        Ok(MailboxNews::Joined) => return Visit::Ended(CodeEnd::Spoiled),
        Err(_) => return Visit::Ended(CodeEnd::Lost),
    };
    let answered = invitation.answer(&first, &mut rand::rng());
    let Ok((answered, second)) = answered else { return Visit::Ended(CodeEnd::Spoiled) };
    if mailbox.send(second).await.is_err() {
        return Visit::Ended(CodeEnd::Lost);
    }
    prove(mailbox, answered).await
}

async fn prove(mailbox: &mut Mailbox, answered: Answered) -> Visit {
    match mailbox.next().await {
        Ok(MailboxNews::Parcel(third)) => Visit::Ended(match answered.receive(&third) {
            Ok(met) => CodeEnd::Paired(Box::new(met)),
            Err(_) => CodeEnd::Spoiled,
        }),
        Ok(MailboxNews::Left) => Visit::Left(answered.abandon()),
        Ok(MailboxNews::Joined) => Visit::Ended(CodeEnd::Spoiled),
        Err(_) => Visit::Ended(CodeEnd::Lost),
    }
}
