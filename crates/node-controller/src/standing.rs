//! What the cloud thinks of each pool: whether its class can be used, and whether it refused the pool's last launch. Pure.
//!
//! Kept in memory alone: a process that begins asks about the classes before it plans, and learns of a refused launch by
//! trying once more.

use std::{collections::BTreeMap, time::Duration};

use api::condition::Status;
use cloud::{CloudError, NodeClass};
use jiff::Timestamp;
use scheduling::{OfferingKey, PoolKey};

use crate::{
    pools::{Closed, PoolState, Pools},
    shortages::Shortages,
    snapshot::Catalogue,
};

/// Asked again after this even if nothing changed: the class's objects at the vendor may have.
pub const JUDGED_FOR: Duration = Duration::from_mins(1);

/// How long a pool whose launch was refused is left alone, unless somebody changes it or its class: what is wrong may also be
/// corrected at the vendor, and no object says so.
pub const REFUSED_FOR: Duration = Duration::from_mins(5);

/// What is said of a class that was asked about in vain.
pub const NOT_ANSWERED: &str = "the cloud has not said yet whether its class can be used";

/// Which classes to ask about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Which {
    /// Those about which nothing is known.
    Unknown,
    /// Those, and those that were asked about too long ago.
    Due,
}

/// What is known of every class and every pool.
#[derive(Clone, Debug, Default)]
pub struct Standings {
    /// By kind and name.
    judged: BTreeMap<(String, String), Judgement>,
    refused: BTreeMap<PoolKey, Refusal>,
    shortages: Shortages,
}

#[derive(Clone, Debug)]
struct Judgement {
    class: NodeClass,
    at: Timestamp,
    /// What a person has to correct.
    problem: Option<String>,
}

#[derive(Clone, Debug)]
struct Refusal {
    class: NodeClass,
    generation: Option<i64>,
    what: String,
    until: Timestamp,
}

impl Standings {
    /// Takes note of what can be had now.
    pub(crate) fn on_sale(&mut self, catalogue: &Catalogue, now: Timestamp) {
        self.shortages.look(catalogue, now);
    }

    /// Since when the cloud has been short of what could be had before.
    pub(crate) fn shortages(&self, now: Timestamp) -> BTreeMap<OfferingKey, Timestamp> {
        self.shortages.since(now)
    }

    /// The classes to ask the cloud about, each once.
    pub fn to_ask(&self, classes: Vec<NodeClass>, which: Which, now: Timestamp) -> Vec<NodeClass> {
        let is_known = |class: &NodeClass| {
            self.known(class).is_some_and(|known| which == Which::Unknown || known.at + JUDGED_FOR > now)
        };
        let all: BTreeMap<_, _> = classes.into_iter().map(|class| (name(&class), class)).collect();
        all.into_values().filter(|class| !is_known(class)).collect()
    }

    /// Takes the cloud's word on a class. No answer is no judgement: what was known of that class stands.
    pub fn judge(&mut self, class: NodeClass, answer: &Result<(), CloudError>, now: Timestamp) {
        let problem = match answer {
            Ok(()) => None,
            Err(CloudError::Misconfigured { what }) => Some(what.clone()),
            Err(_) => {
                if let Some(known) = self.judged.get_mut(&name(&class)).filter(|known| known.class == class) {
                    known.at = now;
                }
                return;
            }
        };
        self.judged.insert(name(&class), Judgement { class, at: now, problem });
    }

    /// What a person has to correct in a class, if anything; `None` if the cloud has not said.
    pub fn problem(&self, class: &NodeClass) -> Option<Option<&str>> {
        self.known(class).map(|known| known.problem.as_deref())
    }

    fn known(&self, class: &NodeClass) -> Option<&Judgement> {
        self.judged.get(&name(class)).filter(|known| known.class == *class)
    }

    /// The cloud refused a launch for the pool as it is, until a person changes something.
    pub fn refuse(&mut self, pool: &PoolState, what: &str, now: Timestamp) {
        let Ok(class) = pool.class.clone() else { return };
        let refusal = Refusal { class, generation: pool.generation, what: what.to_owned(), until: now + REFUSED_FOR };
        self.refused.insert(pool.key.clone(), refusal);
    }

    /// Forgets pools and classes that are gone.
    pub fn keep(&mut self, pools: &Pools, classes: &[NodeClass]) {
        self.judged.retain(|_, known| classes.iter().any(|class| name(class) == name(&known.class)));
        self.refused.retain(|key, _| pools.0.contains_key(key));
    }

    /// Closes the pools that no machine may be asked for.
    pub fn apply(&self, pools: &mut Pools, now: Timestamp) {
        for (key, pool) in &mut pools.0 {
            let Ok(class) = &pool.class else { continue };
            let refused = self
                .refused
                .get(key)
                .filter(|one| one.class == *class && one.generation == pool.generation && one.until > now);
            match self.problem(class) {
                Some(Some(what)) => pool.class = Err(what.to_owned()),
                Some(None) => {
                    pool.closed = refused.map(|one| Closed {
                        status: Status::False,
                        reason: "Misconfigured",
                        what: one.what.clone(),
                    });
                }
                None => {
                    pool.closed =
                        Some(Closed { status: Status::Unknown, reason: "NotAnswered", what: NOT_ANSWERED.to_owned() });
                }
            }
        }
    }
}

fn name(class: &NodeClass) -> (String, String) {
    (class.kind.clone(), class.name.clone())
}

#[cfg(test)]
mod tests {
    use scheduling::PoolKind;
    use serde_json::{Value, json};

    use super::*;
    use crate::world::{Objects, World};

    fn at(seconds: i64) -> Timestamp {
        Timestamp::UNIX_EPOCH + jiff::SignedDuration::from_secs(seconds)
    }

    fn pools(generation: i64, profile: &str) -> Pools {
        let provisioner: Value = json!({ "apiVersion": "karpenter.sh/v1alpha5", "kind": "Provisioner",
            "metadata": { "name": "p", "uid": "u", "generation": generation },
            "spec": { "provider": { "subnetSelector": { "a": "b" }, "securityGroupSelector": { "a": "b" },
                "instanceProfile": profile } } });
        Pools::of(&World::new(Objects {
            provisioners: vec![std::sync::Arc::new(serde_json::from_value(provisioner).unwrap())],
            ..Objects::default()
        }))
    }

    fn key() -> PoolKey {
        PoolKey { kind: PoolKind::Provisioner, name: "p".to_owned() }
    }

    fn class(pools: &Pools) -> NodeClass {
        pools.0[&key()].class.clone().unwrap()
    }

    /// Why nothing may be asked for, as the pool's condition says it.
    fn said(standings: &Standings, mut pools: Pools, now: i64) -> Option<String> {
        standings.apply(&mut pools, at(now));
        let pool = &pools.0[&key()];
        assert_eq!(pools.usable().count() == 0, pool.closed.is_some() || pool.class.is_err());
        pool.closed.as_ref().map(|closed| closed.what.clone()).or_else(|| pool.class.clone().err())
    }

    #[test]
    fn a_pool_is_closed_until_it_was_judged_and_no_answer_is_no_judgement() {
        let mut standings = Standings::default();
        let judge = |standings: &mut Standings, answer| standings.judge(class(&pools(1, "a")), &answer, at(0));
        assert!(said(&standings, pools(1, "a"), 0).unwrap().contains("not said yet"));
        judge(&mut standings, Err(CloudError::unavailable("down")));
        assert!(said(&standings, pools(1, "a"), 0).is_some());
        judge(&mut standings, Ok(()));
        assert_eq!(said(&standings, pools(1, "a"), 0), None);
        judge(&mut standings, Err(CloudError::Misconfigured { what: "no subnet".to_owned() }));
        assert_eq!(said(&standings, pools(1, "a"), 0).as_deref(), Some("no subnet"));
        judge(&mut standings, Err(CloudError::unavailable("down")));
        assert_eq!(said(&standings, pools(1, "a"), 0).as_deref(), Some("no subnet"));
        assert!(said(&standings, pools(2, "b"), 0).unwrap().contains("not said yet"), "another class");
    }

    #[test]
    fn a_refused_pool_is_closed_for_a_while_or_until_somebody_changes_it() {
        let mut standings = Standings::default();
        for profile in ["a", "b"] {
            standings.judge(class(&pools(1, profile)), &Ok(()), at(0));
            if profile == "a" {
                standings.refuse(&pools(1, profile).0[&key()], "no such profile", at(0));
                let seconds = i64::try_from(REFUSED_FOR.as_secs()).unwrap();
                assert_eq!(said(&standings, pools(1, "a"), seconds - 1).as_deref(), Some("no such profile"));
                assert_eq!(said(&standings, pools(1, "a"), seconds), None);
                assert_eq!(said(&standings, pools(2, "a"), 1), None, "another generation");
            } else {
                assert_eq!(said(&standings, pools(1, "b"), 1), None, "another class");
            }
        }
    }

    #[test]
    fn a_judgement_is_asked_for_again_after_a_while() {
        let mut standings = Standings::default();
        let pools = pools(1, "a");
        let asked = |standings: &Standings, which, now| standings.to_ask(vec![class(&pools)], which, at(now)).len();
        assert_eq!(asked(&standings, Which::Unknown, 0), 1);
        standings.judge(class(&pools), &Ok(()), at(0));
        assert_eq!([asked(&standings, Which::Due, 59), asked(&standings, Which::Due, 60)], [0, 1]);
        assert_eq!(asked(&standings, Which::Unknown, 60), 0);
    }
}
