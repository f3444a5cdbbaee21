//! The result, when the page asks for it.

use super::download::download;
use super::news::{Command, JobNews, Phase};
use super::{FLUSH, JobTask, RETRY_LEAST, RETRY_MOST};
use crate::browser::clock::sleep;
use crate::browser::engine::{Reply, Request, Session};
use crate::browser::talk::TalkError;
use futures_util::StreamExt;
use sleap_rtc_protocol::frame::{ClientFrame, Delivery};
use wasm_bindgen::JsValue;

impl<T: Fn(JobNews)> JobTask<T> {
    /// Fetches and packs the result, as often as the page asks for it.
    pub(super) async fn serve_results(&mut self) {
        let mut result: Option<Session> = None;
        while let Some(command) = self.commands.next().await {
            match (command, &mut result) {
                (Command::Fetch, _) => {
                    (self.tell)(JobNews::Phase(Phase::Fetching));
                    let session = match result.take() {
                        Some(session) => session,
                        None => self.begin_result().await,
                    };
                    let (session, fetched) = self.fetch(session).await;
                    result = Some(session);
                    if let Err(error) = fetched {
                        (self.tell)(JobNews::Trouble(error.to_string()));
                    }
                    (self.tell)(JobNews::Phase(Phase::Over));
                }
                (Command::Zip, Some(session)) => {
                    let asked = session.ask(&Request::Zip, &JsValue::NULL, false);
                    let zipped = match asked {
                        Ok(()) => session.answer().await,
                        Err(error) => Err(error),
                    };
                    match zipped {
                        Ok((Reply::Zipped, zip)) => (self.tell)(JobNews::Zip(zip)),
                        Ok(_) => {}
                        Err(error) => (self.tell)(JobNews::Trouble(error.to_string())),
                    }
                }
                _ => {}
            }
        }
    }

    /// A result, at the engine.
    async fn begin_result(&self) -> Session {
        let mut session = self.around.engine.session();
        // An engine that cannot be started says so again when it is asked.
        let _ = session.receive(&self.id).await;
        session
    }

    /// Fetches the result into `session`, which keeps what has arrived.
    async fn fetch(&mut self, mut session: Session) -> (Session, Result<(), TalkError>) {
        let mut wait = RETRY_LEAST;
        loop {
            let fetched = self.fetch_once(&mut session).await;
            match fetched {
                Err(error) if error.may_heal() && wait < RETRY_MOST => {
                    sleep(wait).await;
                    wait *= 2;
                }
                other => return (session, other),
            }
        }
    }

    async fn fetch_once(&mut self, session: &mut Session) -> Result<(), TalkError> {
        let mut talk = self.connect_again().await?;
        self.greet(&mut talk).await?;
        talk.send(&ClientFrame::Fetch { by: Delivery::Connection })?;
        download(&mut talk, session, &self.tell).await?;
        talk.connection().flush(FLUSH).await;
        Ok(())
    }
}
