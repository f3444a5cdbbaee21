//! Until a paper's deadline, the jobs of its authors start first. After it, and while none of them waits, this
//! plugin has no opinion, so the next plugin or the built-in one decides.

use crate::exports::sleap_rtc::policy::queueing::{Guest, Place, RunningJob, WaitingJob};
use crate::sleap_rtc::policy::types::{Context, Property, Value, Worker};

/// The settings, checked.
struct Deadline {
    users: Vec<String>,
    /// The last day.
    date: String,
}

impl Guest for crate::Plugin {
    fn order(
        context: Context,
        _worker: Worker,
        _running: Vec<RunningJob>,
        waiting: Vec<WaitingJob>,
    ) -> Result<Option<Vec<Place>>, String> {
        let deadline = Deadline::read(&context.settings)?;
        let Some(Value::Text(today)) = find(&context.properties, "local-date") else {
            return Err("this host does not pass the local date".into());
        };
        let users: Vec<&str> = waiting.iter().map(|job| job.user.as_str()).collect();
        Ok(order(&deadline, today, &users))
    }
}

fn find<'a>(properties: &'a [Property], key: &str) -> Option<&'a Value> {
    properties.iter().find(|property| property.key == key).map(|property| &property.value)
}

impl Deadline {
    fn read(settings: &[Property]) -> Result<Self, String> {
        let users: Option<Vec<String>> = match find(settings, "users") {
            Some(Value::Json(json)) => serde_json::from_str(json).ok(),
            _ => None,
        };
        let Some(users) = users.filter(|users| !users.is_empty()) else {
            return Err("settings: `users` must be a list of names such as [\"ada\"]".into());
        };
        match find(settings, "date") {
            Some(Value::Text(date)) if is_date(date) => Ok(Self { users, date: date.clone() }),
            _ => Err("settings: `date` must be a date such as 2026-02-01".into()),
        }
    }
}

fn is_date(text: &str) -> bool {
    let numbers: Vec<_> = text.split('-').map(str::parse::<u16>).collect();
    text.len() == 10 && numbers.len() == 3 && numbers.iter().all(Result::is_ok)
}

/// Each group in the order in which its jobs came.
fn order(deadline: &Deadline, today: &str, users: &[&str]) -> Option<Vec<Place>> {
    let is_author = |user: &str| deadline.users.iter().any(|author| author == user);
    // Dates compare as texts do.
    if today > deadline.date.as_str() || !users.iter().any(|user| is_author(user)) {
        return None;
    }
    let place = |is_first: bool, reason: String| {
        let indices = (0..).zip(users).filter(move |(_, user)| is_author(user) == is_first);
        indices.map(move |(index, _)| Place { index, reason: reason.clone() })
    };
    let date = &deadline.date;
    let first = place(true, format!("their paper is due on {date}"));
    Some(first.chain(place(false, format!("after those whose paper is due on {date}"))).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn indices(today: &str, users: &[&str]) -> Option<Vec<u32>> {
        let deadline = Deadline { users: vec!["ada".into(), "ben".into()], date: "2026-02-01".into() };
        let places = order(&deadline, today, users)?;
        assert!(places.iter().all(|place| place.reason.contains("2026-02-01")));
        Some(places.iter().map(|place| place.index).collect())
    }

    #[test]
    fn until_the_deadline_its_authors_come_first() {
        let users = ["cleo", "ben", "dan", "ada", "ben"];
        assert_eq!(indices("2026-02-01", &users), Some(vec![1, 3, 4, 0, 2]));
        assert_eq!(indices("2026-02-02", &users), None);
        assert_eq!(indices("2026-01-15", &["cleo", "dan"]), None);
        assert_eq!(indices("2026-01-15", &[]), None);
    }

    #[test]
    fn an_invalid_setting_is_named() {
        let property = |key: &str, value| Property { key: key.into(), value };
        let users = || property("users", Value::Json("[\"ada\"]".into()));
        let date = |text: &str| property("date", Value::Text(text.into()));
        assert!(Deadline::read(&[users(), date("2026-02-01")]).is_ok());
        for wrong in [vec![users()], vec![users(), date("tomorrow")], vec![users(), date("01.02.2026")]] {
            assert!(Deadline::read(&wrong).is_err_and(|why| why.contains("`date`")));
        }
        for wrong in [Value::Text("ada".into()), Value::Json("[]".into()), Value::Json("[1]".into())] {
            let settings = [property("users", wrong), date("2026-02-01")];
            assert!(Deadline::read(&settings).is_err_and(|why| why.contains("`users`")));
        }
    }
}
