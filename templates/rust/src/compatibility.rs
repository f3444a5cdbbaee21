//! Refuses jobs that train longer than the setting `max-epochs` allows.

use crate::exports::sleap_rtc::policy::compatibility::{Guest, Reason, Verdict};
use crate::sleap_rtc::policy::types::{Context, Job, Property, Value, Worker};

impl Guest for crate::Plugin {
    fn check(context: Context, job: Job, _worker: Worker) -> Result<Verdict, String> {
        Ok(admit(max_epochs(&context.settings)?, job.epochs))
    }
}

fn max_epochs(settings: &[Property]) -> Result<Option<i64>, String> {
    match settings.iter().find(|setting| setting.key == "max-epochs").map(|found| &found.value) {
        None => Ok(None),
        Some(Value::Integer(limit)) => Ok(Some(*limit)),
        Some(_) => Err("settings: `max-epochs` must be a whole number".into()),
    }
}

fn admit(limit: Option<i64>, epochs: Option<u32>) -> Verdict {
    match (limit, epochs) {
        (Some(limit), Some(epochs)) if i64::from(epochs) > limit => Verdict::No(vec![Reason {
            code: "my-policy.epochs".into(),
            message: format!("trains at most {limit} epochs, not {epochs}"),
        }]),
        _ => Verdict::Yes,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_job_above_the_limit_is_refused() {
        let setting = |value| [Property { key: "max-epochs".into(), value }];
        assert_eq!(max_epochs(&[]), Ok(None));
        assert_eq!(max_epochs(&setting(Value::Integer(5))), Ok(Some(5)));
        assert!(max_epochs(&setting(Value::Flag(true))).is_err());
        assert!(matches!(admit(Some(5), Some(5)), Verdict::Yes));
        assert!(matches!(admit(None, Some(500)), Verdict::Yes));
        let Verdict::No(reasons) = admit(Some(5), Some(6)) else { panic!("admitted") };
        assert_eq!(reasons[0].message, "trains at most 5 epochs, not 6");
    }
}
