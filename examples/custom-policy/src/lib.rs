//! Ranks the machine named by the setting `prefer` first, then all other available workers.

wit_bindgen::generate!({ world: "selection-plugin", path: "../../wit" });

use exports::sleap_rtc::policy::selection::{Choice, Guest, Ranking};
use sleap_rtc::policy::types::{Context, Job, Value, Worker, WorkerStatus};

struct OneMachineFirst;

#[cfg(target_family = "wasm")]
export!(OneMachineFirst);

impl Guest for OneMachineFirst {
    fn select(context: Context, _job: Job, workers: Vec<Worker>) -> Result<Ranking, String> {
        let setting = context.settings.iter().find(|setting| setting.key == "prefer");
        let Some(Value::Text(preferred)) = setting.map(|setting| &setting.value) else {
            return Err("settings: `prefer` must be a host name".into());
        };
        let mut choices = Vec::new();
        for (index, worker) in (0..).zip(&workers) {
            if !matches!(worker.status, WorkerStatus::Available) {
                continue;
            }
            let (score, reason) = match worker.hostname.as_ref() == Some(preferred) {
                true => (1.0, "the preferred machine"),
                false => (0.0, "any other machine"),
            };
            choices.push(Choice { index, score, reason: reason.into() });
        }
        choices.sort_by(|a, b| b.score.total_cmp(&a.score));
        Ok(Ranking { choices, left_out: vec![] })
    }
}
