//! Where jobs stand that wait for a slot, in words.

use super::{CLUSTER, QueueRow, QueueStatus};
use crate::job::JobType;
use crate::text::Printable;
use std::fmt::Display;

/// The most characters of a column.
const COLUMN_CHARS: usize = 24;
/// The most characters of how far a job is.
const PROGRESS_CHARS: usize = 80;
/// The most characters of a cluster's reason.
const REASON_CHARS: usize = 200;

/// Where a waiting job stands, as a line for its user.
pub fn headline(worker: &impl Display, news: &QueueStatus) -> String {
    if let Some(reason) = cluster_reason(news) {
        let starts = news.starts_in_s.map(|seconds| format!(", starts in {}", about(seconds)));
        return format!("Submitted by {worker}: {reason}{}", starts.unwrap_or_default());
    }
    format!("Queued on {worker}: {}", standing(news.place, news.starts_in_s))
}

/// Why a job waits in a cluster's queue, in the cluster's words.
pub fn cluster_reason(news: &QueueStatus) -> Option<String> {
    let is_cluster = news.reason.code == CLUSTER;
    is_cluster.then(|| Printable::line(&news.reason.message, REASON_CHARS).to_string())
}

/// A place, and when the job is expected to start.
pub fn standing(place: Option<u32>, starts_in_s: Option<u64>) -> String {
    match (place, starts_in_s) {
        (None, _) => "held back by the worker's operator".to_owned(),
        (Some(place), Some(0)) => format!("{} in line, starts now", ordinal(place)),
        (Some(place), Some(seconds)) => {
            format!("{} in line, starts in {}", ordinal(place), about(seconds))
        }
        (Some(place), None) => format!("{} in line", ordinal(place)),
    }
}

/// The jobs that run and those that wait, one a line.
pub fn table(line: &[QueueRow], omitted_jobs: u32) -> Vec<String> {
    let rows: Vec<[String; 5]> = line.iter().map(row).collect();
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max();
    let widths: Vec<usize> = (0..4).map(|column| width(column).unwrap_or(0)).collect();
    let text = |row: &[String; 5]| {
        let mut text = String::from("  ");
        // A column that is empty everywhere is none.
        for (column, width) in row.iter().zip(&widths).filter(|(_, width)| **width > 0) {
            text.push_str(&format!("{column:width$}   "));
        }
        text.push_str(&row[4]);
        text.trim_end().to_owned()
    };
    let mut lines: Vec<String> = rows.iter().map(text).collect();
    if omitted_jobs > 0 {
        let before_own = lines.len().saturating_sub(1);
        lines.insert(before_own, format!("  … and {omitted_jobs} more before it"));
    }
    lines
}

/// A job in words: its place, its user, its kind, its name, and how far it is.
pub fn row(entry: &QueueRow) -> [String; 5] {
    let column = |text: &str| Printable::line(text, COLUMN_CHARS).to_string();
    let place = match (entry.place, entry.is_held, &entry.progress) {
        (Some(place), ..) => ordinal(place),
        (None, true, _) => "held".to_owned(),
        (None, false, _) => "now".to_owned(),
    };
    let user = if entry.is_own { "you".to_owned() } else { column(&entry.user) };
    let kind = match entry.job_type {
        JobType::Training => "train",
        JobType::Inference => "track",
    };
    [place, user, kind.to_owned(), column(&entry.name), doing(entry)]
}

/// How far a job is, and how long it takes.
fn doing(entry: &QueueRow) -> String {
    let left = entry.left_s.map(about);
    let Some(progress) = &entry.progress else { return left.unwrap_or_default() };
    let text = Printable::line(&progress.brief(), PROGRESS_CHARS).to_string();
    match (progress.left, left) {
        (None, Some(left)) => format!("{text}, {left} left"),
        _ => text,
    }
}

/// A time that is not known exactly.
pub fn about(seconds: u64) -> String {
    match seconds {
        0..90 => "about a minute".to_owned(),
        seconds @ 90..5_400 => format!("about {} min", seconds.div_ceil(60)),
        seconds => format!("about {:.1} h", seconds as f64 / 3_600.0),
    }
}

/// A place in words: 1st, 2nd, 3rd, 11th.
fn ordinal(place: u32) -> String {
    let ending = match (place % 10, place % 100) {
        (_, 11..=13) => "th",
        (1, _) => "st",
        (2, _) => "nd",
        (3, _) => "rd",
        _ => "th",
    };
    format!("{place}{ending}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::job::Reason;
    use crate::progress::JobProgress;

    fn entry(place: Option<u32>, user: &str, job_type: JobType, name: &str) -> QueueRow {
        QueueRow {
            place,
            user: user.into(),
            job_type,
            name: name.into(),
            since_ms: 0,
            progress: None,
            left_s: None,
            starts_in_s: None,
            is_held: false,
            is_own: false,
        }
    }

    #[test]
    fn a_place_in_line_is_told_with_who_is_before_it() {
        let progress = JobProgress {
            run: 1,
            runs: 1,
            epoch: Some(60),
            epochs: Some(100),
            ..JobProgress::default()
        };
        let ada = QueueRow {
            progress: Some(progress),
            left_s: Some(1_200),
            ..entry(None, "ada", JobType::Training, "flies-v3")
        };
        let ben = QueueRow {
            left_s: Some(900),
            ..entry(Some(1), "ben\x1b[2J", JobType::Inference, "court.mp4")
        };
        let own = QueueRow { is_own: true, ..entry(Some(2), "cleo", JobType::Training, "labels") };
        let reason = Reason { code: "policy".into(), message: "oldest".into() };
        let news = QueueStatus {
            place: Some(2),
            starts_in_s: Some(2_100),
            reason,
            line: vec![ada, ben, own],
            omitted_jobs: 0,
        };
        let text = [vec![headline(&"gpu2", &news)], table(&news.line, 3)].concat().join("\n");
        insta::assert_snapshot!(text, @r"
        Queued on gpu2: 2nd in line, starts in about 35 min
          now   ada      train   flies-v3    epoch 61 of 100, about 20 min left
          1st   ben[2J   track   court.mp4   about 15 min
          … and 3 more before it
          2nd   you      train   labels
        ");
    }

    #[test]
    fn places_have_endings() {
        let said: Vec<String> = [1, 2, 3, 4, 11, 12, 13, 21, 112].map(ordinal).into();
        assert_eq!(said, ["1st", "2nd", "3rd", "4th", "11th", "12th", "13th", "21st", "112th"]);
    }
}
