//! Finds a worker that takes the job.

use super::news::{JobNews, Phase};
use super::{JobTask, Surroundings};
use crate::browser::clock::within;
use crate::browser::connect::connect;
use crate::browser::talk::{Talk, TalkError};
use crate::ranking::{lines, rank};
use crate::words::{message, worker_name};
use futures_channel::mpsc::UnboundedReceiver;
use futures_util::StreamExt;
use serde_json::json;
use sleap_rtc_protocol::asking::{Asking, Next};
use sleap_rtc_protocol::capabilities::WorkerFacts;
use sleap_rtc_protocol::ids::PeerId;
use sleap_rtc_protocol::job::JobSpec;
use sleap_rtc_protocol::signaling::{AppMessage, JobRequest, JobResponse, ServerMessage};
use sleap_rtc_trust::goal::Goal;
use web_time::Instant;

/// Who is to get a job.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Choice {
    /// Whom the default policy ranks first.
    #[default]
    Automatic,
    /// This worker.
    Worker(PeerId),
}

impl<T: Fn(JobNews)> JobTask<T> {
    /// Asks the workers until one takes the job and is connected.
    ///
    /// # Errors
    /// None does. The text says why.
    pub(super) async fn choose(&mut self, choice: &Choice) -> Result<Talk, String> {
        let workers = self.around.room.workers();
        let Some(submission) = &self.submission else { return Err(String::new()) };
        let spec = submission.spec.clone();
        let mut reasons = Vec::new();
        let ranking: Vec<&WorkerFacts> = match choice {
            Choice::Worker(chosen) => {
                workers.iter().filter(|worker| worker.peer_id == *chosen).collect()
            }
            Choice::Automatic => {
                let rank = if self.may_wait { lines } else { rank };
                let ranked = rank(&spec.description, &workers);
                let why = |(index, why): (usize, String)| reason(workers.get(index), &why);
                reasons.extend(ranked.left_out.into_iter().map(why));
                ranked.fit.iter().filter_map(|(index, _)| workers.get(*index)).collect()
            }
        };
        let ranking: Vec<&WorkerFacts> =
            ranking.into_iter().filter(|worker| worker.speaks_native).collect();
        let talk = match self.may_wait {
            true => self.in_line(&ranking, &spec, &mut reasons).await,
            false => self.ask_all(&ranking, &spec, &mut reasons).await,
        };
        match talk {
            Some(talk) => Ok(talk),
            None if reasons.is_empty() => Err("The room has no worker at the moment.".into()),
            None => Err(format!("No worker takes the job.\n{}", reasons.join("\n"))),
        }
    }

    /// Takes a place in the first line that there is one in.
    async fn in_line(
        &mut self,
        ranking: &[&WorkerFacts],
        spec: &JobSpec,
        reasons: &mut Vec<String>,
    ) -> Option<Talk> {
        for worker in ranking {
            (self.tell)(JobNews::Phase(Phase::Asking(worker_name(worker).to_string())));
            match self.take(worker, spec).await {
                Ok(talk) => return Some(talk),
                Err(error) => reasons.push(reason(Some(worker), &error.to_string())),
            }
        }
        None
    }

    async fn ask_all(
        &mut self,
        ranking: &[&WorkerFacts],
        spec: &JobSpec,
        reasons: &mut Vec<String>,
    ) -> Option<Talk> {
        let mut asking = Asking::new(ranking.len());
        let mut messages = self.around.room.listen();
        loop {
            match asking.next(Instant::now()) {
                Next::Ask(place) => {
                    let worker = ranking[place];
                    let name = worker_name(worker).to_string();
                    (self.tell)(JobNews::Phase(Phase::Asking(name)));
                    let question = AppMessage::JobRequest(request(spec));
                    if self.around.room.send_app(&worker.peer_id, question).is_err() {
                        asking.over(place);
                    }
                }
                Next::Wait(until) => {
                    let limit = until.saturating_duration_since(Instant::now());
                    let reply = within(limit, reply(&mut messages, spec)).await;
                    let Some(Some((from, response))) = reply else { continue };
                    let place = ranking.iter().position(|worker| worker.peer_id == from);
                    match place {
                        Some(place) if response.accepted => asking.yes(place),
                        Some(place) => {
                            asking.over(place);
                            let why = message(&response.into_text());
                            reasons.push(reason(Some(ranking[place]), &why));
                        }
                        None => {}
                    }
                }
                Next::GiveUp(place) => {
                    self.release(ranking[place], spec);
                    reasons.push(reason(Some(ranking[place]), "did not answer"));
                }
                Next::Use(place) => {
                    for other in asking.release_others(place) {
                        self.release(ranking[other], spec);
                    }
                    match self.take(ranking[place], spec).await {
                        Ok(talk) => return Some(talk),
                        Err(error) => {
                            self.release(ranking[place], spec);
                            reasons.push(reason(Some(ranking[place]), &error.to_string()));
                        }
                    }
                    asking.over(place);
                }
                Next::Nobody => return None,
            }
        }
    }

    /// Gives the slot back that a worker may have reserved.
    fn release(&self, worker: &WorkerFacts, spec: &JobSpec) {
        let reason = "the client no longer needs the slot".to_owned();
        let cancel = AppMessage::JobCancel { job_id: spec.id.to_string(), reason };
        // A reservation that cannot be given back ends by itself.
        let _ = self.around.room.send_app(&worker.peer_id, cancel);
    }

    async fn take(&mut self, worker: &WorkerFacts, spec: &JobSpec) -> Result<Talk, TalkError> {
        let Surroundings { room, device, .. } = &self.around;
        let may_wait = self.may_wait;
        if !may_wait {
            let job_id = spec.id.to_string();
            let assignment = AppMessage::JobAssignment { job_id, initiate_connection: false };
            room.send_app(&worker.peer_id, assignment).map_err(|_| TalkError::Lost)?;
        }
        let goal = Goal::NewJob { may_wait };
        let talk = connect(room, device, &worker.peer_id, &goal, self.device).await?;
        let owner = self.cache_owner(&worker.peer_id);
        self.worker = Some(worker.peer_id.clone());
        if let Some(submission) = &mut self.submission {
            submission.spec.cache_owner = Some(owner);
        }
        (self.tell)(JobNews::Chosen(worker_name(worker).into()));
        Ok(talk)
    }
}

fn reason(worker: Option<&WorkerFacts>, why: &str) -> String {
    let name = worker.map(|worker| worker_name(worker).to_string()).unwrap_or_default();
    format!("{name}: {why}")
}

/// The next answer about the job.
async fn reply(
    messages: &mut UnboundedReceiver<ServerMessage>,
    spec: &JobSpec,
) -> Option<(PeerId, JobResponse)> {
    loop {
        if let ServerMessage::PeerMessage(message) = messages.next().await?
            && let AppMessage::JobResponse(response) = message.payload
            && response.answers(spec.id.as_str())
        {
            return Some((message.from_peer_id, response));
        }
    }
}

fn request(spec: &JobSpec) -> JobRequest {
    let job = &spec.description;
    JobRequest {
        job_id: spec.id.to_string(),
        job_type: job.job_type,
        dataset_info: json!({}),
        config: json!({}),
        requirements: job.requirements.clone(),
        description: Some(job.clone()),
    }
}
