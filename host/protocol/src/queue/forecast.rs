//! When the jobs of a line are expected to start.

/// A job in line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExpectedRun {
    /// The slots that fit it, by index.
    pub slots: Vec<usize>,
    /// How long it is expected to run, in seconds.
    pub runs_s: Option<u64>,
}

/// In how many seconds each job of `line` starts, if the jobs start in this order and each takes as long as
/// is expected. `free_in_s` says for each slot in how many seconds it is free. What is not known is `None`.
pub fn starts_in_s(free_in_s: &[Option<u64>], line: &[ExpectedRun]) -> Vec<Option<u64>> {
    let mut free_in_s = free_in_s.to_vec();
    let mut starts = Vec::with_capacity(line.len());
    for expected in line {
        let known = expected.slots.iter().filter_map(|slot| {
            let free_in_s = free_in_s.get(*slot).copied().flatten()?;
            Some((free_in_s, *slot))
        });
        let first = known.min();
        if let Some((start_s, slot)) = first {
            free_in_s[slot] = expected.runs_s.map(|runs_s| start_s.saturating_add(runs_s));
        }
        starts.push(first.map(|(start_s, _)| start_s));
    }
    starts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_job_takes_the_slot_that_is_free_first_among_those_that_fit() {
        let job = |slots: &[usize], runs_s| ExpectedRun { slots: slots.to_vec(), runs_s };
        let line = [
            job(&[0, 1], Some(100)),
            job(&[1], Some(10)),
            job(&[0, 1], None),
            job(&[0, 1], Some(1)),
            job(&[0], Some(1)),
            job(&[], Some(1)),
        ];
        let starts = starts_in_s(&[Some(60), Some(20)], &line);
        assert_eq!(starts, [Some(20), Some(120), Some(60), Some(130), None, None]);
        assert_eq!(starts_in_s(&[None], &[job(&[0], Some(1))]), [None]);
    }
}
