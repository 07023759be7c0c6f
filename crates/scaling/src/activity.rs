//! When the target was last wanted, and how exactly that is written down.
//!
//! The leader knows the last active moment exactly. Writing it to the status at every poll would cost one request per
//! active object and poll (KEDA does), so it is written coarsely while an object stays active, and exactly when it stops
//! being active. A new leader reads what was written and adds what may be missing, so that it never goes down too early.

use jiff::{SignedDuration, Timestamp};

/// The finest step in which `lastActiveTime` is written while an object stays active: two writes an hour. A thousand active
/// objects that wrote every 30 s were 33 requests a second to the API server and etcd, for a time that nobody needs while
/// the `Active` condition says more.
const FINEST: SignedDuration = SignedDuration::from_mins(30);

/// How coarsely activity is written: half an hour, or a tenth of the cooldown when that is longer.
pub fn granularity(cooldown: SignedDuration) -> SignedDuration {
    (cooldown / 10).max(FINEST)
}

/// What to write into `status.lastActiveTime`, if anything.
///
/// `recorded` is what the status says, `last_active` what is known, `active` whether the object is active at this moment.
pub fn to_record(
    recorded: Option<Timestamp>,
    last_active: Option<Timestamp>,
    active: bool,
    cooldown: SignedDuration,
) -> Option<Timestamp> {
    let known = last_active?;
    let Some(recorded) = recorded else { return Some(known) };
    let behind = known.duration_since(recorded);
    // The status has whole seconds, so anything below one second is already there.
    let worth = if active { granularity(cooldown) } else { SignedDuration::from_secs(1) };
    (behind >= worth).then_some(known)
}

/// The last active moment a new leader starts from.
///
/// If the object was active when the status was written, up to one [`granularity`] of activity may not have been recorded.
pub fn resume(
    recorded: Option<Timestamp>,
    was_active: bool,
    cooldown: SignedDuration,
    now: Timestamp,
) -> Option<Timestamp> {
    let recorded = recorded?;
    if !was_active {
        return Some(recorded);
    }
    Some(recorded.checked_add(granularity(cooldown)).unwrap_or(now).min(now).max(recorded))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(seconds).unwrap()
    }

    fn seconds(n: i64) -> SignedDuration {
        SignedDuration::from_secs(n)
    }

    #[test]
    fn activity_is_written_coarsely_while_it_lasts_and_exactly_when_it_ends() {
        assert_eq!(to_record(None, Some(at(10)), true, seconds(300)), Some(at(10)), "the first activity");
        assert_eq!(to_record(Some(at(10)), Some(at(1_809)), true, seconds(300)), None);
        assert_eq!(to_record(Some(at(10)), Some(at(1_810)), true, seconds(300)), Some(at(1_810)));
        assert_eq!(to_record(Some(at(10)), Some(at(1_900)), true, seconds(30_000)), None, "a tenth of the cooldown");
        assert_eq!(to_record(Some(at(10)), Some(at(39)), false, seconds(300)), Some(at(39)));
        assert_eq!(to_record(Some(at(10)), Some(at(10)), false, seconds(300)), None);
        assert_eq!(to_record(None, None, false, seconds(300)), None);
    }

    #[test]
    fn a_new_leader_never_assumes_less_activity_than_there_was() {
        // Active polls every 5 s; whatever instant the leader dies, the successor's start is not before the last activity.
        let cooldown = seconds(30_000);
        let mut recorded = None;
        for t in (0..10_000).step_by(5) {
            let last = at(t);
            recorded = to_record(recorded, Some(last), true, cooldown).or(recorded);
            let resumed = resume(recorded, true, cooldown, last).unwrap();
            assert!(resumed >= last, "at {t}: resumed {resumed}");
        }
    }
}
