//! Machines launched a moment ago, which EC2's lists may not show yet.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use cloud::Machine;
use tokio::time::Instant;

/// How long EC2 may take to show a new instance everywhere. Seconds in practice; AWS gives no figure ("Eventual
/// consistency in the Amazon EC2 API" advises retries over some minutes).
pub(crate) const LAG: Duration = Duration::from_mins(2);

/// What this process launched and used lately. Bounded by time, and by the launch limiter's rate: three a second.
#[derive(Debug, Default)]
pub(crate) struct Recent {
    launched: HashMap<String, (Instant, Machine)>,
    /// How many launches for a claim came to nothing; the client token counts them.
    attempts: HashMap<String, (Instant, u32)>,
    /// Client tokens that EC2 says were used by a launch nobody knows the outcome of: when that was first heard, and last.
    open: HashMap<String, (Instant, Instant)>,
    templates: HashMap<String, Instant>,
}

/// What is known of a launch that an earlier life of this process, or a call without an answer, began.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Earlier {
    /// EC2 may not list its machine yet.
    Open {
        /// How long until it would have.
        left: Duration,
    },
    /// EC2 would list its machine by now: there is none.
    Empty,
}

/// How long a count of attempts and a use of a template are remembered: longer than a launch with all its retries.
const USE: Duration = Duration::from_mins(10);

impl Recent {
    /// Notes a launch.
    pub(crate) fn launched(&mut self, machine: Machine, now: Instant) {
        self.launched.retain(|_, (at, _)| now.duration_since(*at) < LAG);
        self.launched.insert(machine.provider_id.clone(), (now, machine));
    }

    /// Forgets a machine that was seen on its way out.
    pub(crate) fn gone(&mut self, provider_id: &str) {
        self.launched.remove(provider_id);
    }

    /// The machine, if it was launched so short ago that EC2's not knowing it means nothing.
    pub(crate) fn get(&self, provider_id: &str, now: Instant) -> Option<&Machine> {
        self.launched.get(provider_id).filter(|(at, _)| now.duration_since(*at) < LAG).map(|(_, machine)| machine)
    }

    /// The machine of a claim, likewise.
    pub(crate) fn of_claim(&self, claim_uid: &str, now: Instant) -> Option<&Machine> {
        self.unlisted(&HashSet::new(), now).find(|machine| machine.claim_uid.as_deref() == Some(claim_uid))
    }

    /// The machines that a list lacks and should have.
    pub(crate) fn unlisted(&self, listed: &HashSet<&str>, now: Instant) -> impl Iterator<Item = &Machine> {
        self.launched
            .values()
            .filter(move |(at, machine)| {
                now.duration_since(*at) < LAG && !listed.contains(machine.provider_id.as_str())
            })
            .map(|(_, machine)| machine)
    }

    /// How many launches for the claim came to nothing.
    pub(crate) fn attempts(&self, claim_uid: &str) -> u32 {
        self.attempts.get(claim_uid).map_or(0, |(_, count)| *count)
    }

    /// Counts one more.
    pub(crate) fn came_to_nothing(&mut self, claim_uid: &str, now: Instant) {
        self.attempts.retain(|_, (at, _)| now.duration_since(*at) < USE);
        let (at, count) = self.attempts.entry(claim_uid.to_owned()).or_insert((now, 0));
        *at = now;
        *count += 1;
    }

    /// Notes that EC2 says the token was used before, and that it lists no machine of that launch.
    ///
    /// The launch was made before this was first heard, so its machine is listed within [`LAG`] from then, if there is one.
    pub(crate) fn token_used(&mut self, token: &str, now: Instant) -> Earlier {
        self.open.retain(|_, (_, last)| now.duration_since(*last) < USE);
        let (first, last) = self.open.entry(token.to_owned()).or_insert((now, now));
        *last = now;
        match LAG.checked_sub(now.duration_since(*first)) {
            Some(left) if !left.is_zero() => Earlier::Open { left },
            _ => Earlier::Empty,
        }
    }

    /// Notes that a template is there and in use.
    pub(crate) fn template_used(&mut self, name: &str, now: Instant) {
        self.templates.retain(|_, at| now.duration_since(*at) < USE);
        self.templates.insert(name.to_owned(), now);
    }

    /// Whether a template was there and in use lately.
    pub(crate) fn template_in_use(&self, name: &str, now: Instant) -> bool {
        self.templates.get(name).is_some_and(|at| now.duration_since(*at) < USE)
    }

    /// Forgets a template that turned out not to be there.
    pub(crate) fn template_gone(&mut self, name: &str) {
        self.templates.remove(name);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use cloud::MachineState;
    use scheduling::CapacityType;
    use units::ResourceList;

    use super::*;

    #[test]
    fn a_launch_is_vouched_for_while_lists_may_lag() {
        let machine = Machine {
            provider_id: "aws:///a/i-1".to_owned(),
            claim_name: None,
            claim_uid: Some("u".to_owned()),
            instance_type: "m5.large".to_owned(),
            zone: "a".to_owned(),
            capacity_type: CapacityType::Spot,
            image_id: None,
            state: MachineState::Pending,
            launched_at: None,
            capacity: ResourceList::new(),
            allocatable: ResourceList::new(),
            labels: BTreeMap::new(),
        };
        let start = Instant::now();
        let mut recent = Recent::default();
        recent.launched(machine, start);
        let late = start + LAG;
        assert!(recent.get("aws:///a/i-1", start).is_some() && recent.get("aws:///a/i-1", late).is_none());
        assert!(recent.of_claim("u", start).is_some() && recent.of_claim("v", start).is_none());
        assert_eq!(recent.unlisted(&HashSet::from(["aws:///a/i-1"]), start).count(), 0);
        assert_eq!(recent.unlisted(&HashSet::new(), start).count(), 1);
        recent.gone("aws:///a/i-1");
        assert!(recent.get("aws:///a/i-1", start).is_none());
    }

    #[test]
    fn a_used_token_is_open_until_lists_must_show_its_machine() {
        let start = Instant::now();
        let mut recent = Recent::default();
        assert_eq!(recent.token_used("a", start), Earlier::Open { left: LAG });
        let second = Duration::from_secs(1);
        assert_eq!(recent.token_used("a", start + LAG - second), Earlier::Open { left: second });
        assert_eq!(recent.token_used("b", start + LAG), Earlier::Open { left: LAG }, "each token for itself");
        assert_eq!(recent.token_used("a", start + LAG), Earlier::Empty);
        let long_after = start + LAG + USE;
        assert_eq!(
            recent.token_used("a", long_after),
            Earlier::Open { left: LAG },
            "it was forgotten, and starts anew"
        );
    }

    #[test]
    fn attempts_are_counted_for_each_claim_and_forgotten() {
        let start = Instant::now();
        let mut recent = Recent::default();
        recent.came_to_nothing("a", start);
        recent.came_to_nothing("a", start);
        assert_eq!((recent.attempts("a"), recent.attempts("b")), (2, 0));
        recent.came_to_nothing("b", start + USE);
        assert_eq!((recent.attempts("a"), recent.attempts("b")), (0, 1));
    }
}
