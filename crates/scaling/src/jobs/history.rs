//! Which Jobs go: those that have ended long ago, and those of an older spec.

use jiff::Timestamp;

/// A Job as far as its removal depends on it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JobRecord {
    /// Its name.
    pub name: String,
    /// How and when it ended.
    pub ended: Option<Ended>,
    /// The generation of the ScaledJob that made it, if it says so.
    pub generation: Option<i64>,
}

/// How and when a Job ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ended {
    /// When.
    pub at: Timestamp,
    /// Whether it failed.
    pub failed: bool,
}

/// How many ended Jobs are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Of those that succeeded.
    pub succeeded: u32,
    /// Of those that failed.
    pub failed: u32,
}

/// The ended Jobs beyond the limits, the oldest of each kind; by name if several ended in the same second.
///
/// KEDA sorts by `completionTime`, which failed Jobs do not have, so that any of them may go.
pub fn beyond<'a>(jobs: &'a [JobRecord], limits: Limits) -> Vec<&'a JobRecord> {
    let oldest = |failed: bool, limit: u32| -> Vec<&'a JobRecord> {
        let mut ended: Vec<(Timestamp, &JobRecord)> =
            jobs.iter().filter_map(|job| Some((job.ended.filter(|ended| ended.failed == failed)?.at, job))).collect();
        ended.sort_by(|(at, job), (other_at, other)| (at, &job.name).cmp(&(other_at, &other.name)));
        let count = ended.len().saturating_sub(usize::try_from(limit).unwrap_or(usize::MAX));
        ended.into_iter().take(count).map(|(_, job)| job).collect()
    };
    let mut gone = oldest(false, limits.succeeded);
    gone.extend(oldest(true, limits.failed));
    gone
}

/// The Jobs that were not made by this generation.
pub fn outdated(jobs: &[JobRecord], generation: i64) -> Vec<&JobRecord> {
    jobs.iter().filter(|job| job.generation != Some(generation)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn job(name: &str, ended: Option<(i64, bool)>) -> JobRecord {
        let ended = ended.map(|(at, failed)| Ended { at: Timestamp::from_second(at).unwrap(), failed });
        JobRecord { name: name.into(), ended, generation: Some(1) }
    }

    fn names(jobs: Vec<&JobRecord>) -> Vec<&str> {
        jobs.into_iter().map(|job| job.name.as_str()).collect()
    }

    #[test]
    fn the_oldest_of_each_kind_go_and_none_that_runs() {
        let jobs = [
            job("running", None),
            job("good-3", Some((3, false))),
            job("good-1", Some((1, false))),
            job("bad-2", Some((2, true))),
            job("good-2", Some((2, false))),
            job("bad-1-b", Some((1, true))),
            job("bad-1-a", Some((1, true))),
        ];
        assert_eq!(names(beyond(&jobs, Limits { succeeded: 1, failed: 2 })), ["good-1", "good-2", "bad-1-a"]);
        assert_eq!(names(beyond(&jobs, Limits { succeeded: 100, failed: 100 })), Vec::<&str>::new());
        assert_eq!(beyond(&jobs, Limits { succeeded: 0, failed: 0 }).len(), 6);
    }

    #[test]
    fn a_job_of_another_generation_is_outdated() {
        let with = |name: &str, generation| JobRecord { generation, ..job(name, None) };
        let jobs = [with("old", Some(1)), with("new", Some(2)), with("unknown", None)];
        assert_eq!(names(outdated(&jobs, 2)), ["old", "unknown"]);
    }
}
