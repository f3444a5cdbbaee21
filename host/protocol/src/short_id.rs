//! Job ids as people type them: whole, or only their beginning.

use crate::ids::JobId;
use std::fmt;

/// What every id of this program begins with.
const PREFIX: &str = "job-";
/// The most jobs that are named.
const MAX_NAMED: usize = 5;

/// Why a text names no job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NoSingleJob {
    /// No job begins so.
    None,
    /// Several do.
    Several(Vec<JobId>),
}

/// The jobs that a text could mean, for a person.
impl fmt::Display for NoSingleJob {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self::Several(jobs) = self else { return f.write_str("no job") };
        let named: Vec<&str> = jobs.iter().take(MAX_NAMED).map(JobId::as_str).collect();
        f.write_str(&named.join(", "))?;
        match jobs.len() - named.len() {
            0 => Ok(()),
            more => write!(f, " and {more} more"),
        }
    }
}

/// The job among `jobs` whose id is `text` or begins with it, with or without `job-` and a final `…`.
///
/// # Errors
/// No job or several jobs begin so.
pub fn find(text: &str, jobs: impl IntoIterator<Item = JobId>) -> Result<JobId, NoSingleJob> {
    let typed = text.trim_end_matches('…');
    let start = typed.strip_prefix(PREFIX).unwrap_or(typed);
    let begins = |job: &JobId| {
        let id = job.as_str();
        id.starts_with(typed) || id.strip_prefix(PREFIX).is_some_and(|id| id.starts_with(start))
    };
    let mut found: Vec<JobId> = jobs.into_iter().filter(begins).collect();
    if let Some(exact) = found.iter().position(|job| job.as_str() == typed) {
        return Ok(found.swap_remove(exact));
    }
    found.sort();
    found.dedup();
    match (found.len(), start.is_empty()) {
        (0, _) | (_, true) => Err(NoSingleJob::None),
        (1, _) => Ok(found.swap_remove(0)),
        _ => Err(NoSingleJob::Several(found)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_beginning_of_an_id_is_enough_where_only_one_job_has_it() {
        let ids = ["job-0aa7ad93", "job-0aa8", "job-0aa", "other-1"];
        let jobs = || ids.map(|id| JobId::new(id).unwrap());
        for (text, job) in [
            ("job-0aa7ad93", ids[0]),
            ("job-0aa7…", ids[0]),
            ("0aa7", ids[0]),
            ("job-0aa", ids[2]),
            ("other", ids[3]),
        ] {
            assert_eq!(find(text, jobs()).as_ref().map(JobId::as_str), Ok(job), "{text}");
        }
        for text in ["", "job-", "…", "1", "aa7"] {
            assert_eq!(find(text, jobs()), Err(NoSingleJob::None), "{text}");
        }
        let Err(several) = find("0a", jobs()) else { panic!("one job was chosen") };
        assert_eq!(several.to_string(), "job-0aa, job-0aa7ad93, job-0aa8");
    }
}
