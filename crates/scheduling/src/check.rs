//! Verifies a solution against its snapshot without the solver's help.
//!
//! Shares the types with the solver and what these say of themselves: whether a selector, a toleration or a requirement matches one
//! label or taint, whether two host ports clash. What the solver does with sets of them it does not take over: labels are looked at
//! term by term on every machine a new node may become. The controller runs it before it launches anything.
//!
//! ```text
//! Snapshot + Solution ─▶ Ground (everything by key) ─┬─▶ ledger    every pod once, reasons, limits, stock, cost
//!                                                    ├─▶ gangs     groups whole or not at all
//!                                                    ├─▶ claims    volumes for one pod alone
//!                                                    ├─▶ machines  each node: room, ports, volumes, labels, taints, offerings
//!                                                    └─▶ Crowd, Map (who is where) ─┬─▶ apart  required anti-affinity
//!                                                                                   └─▶ order  spread, required affinity
//! ```
//!
//! A plan is accepted if it keeps every hard constraint whichever of a new node's offerings is bought, and if the kube-scheduler
//! could bind the placed pods one after another, on the nodes where they are, with every spread and affinity kept at each
//! step. Preferences are never violated.
//!
//! # What counts for a spread
//! The domains are those of the nodes that there are, but for leaving nodes that no pod holds, where `nodeAffinityPolicy` and
//! `nodeTaintsPolicy` let them count; those of new nodes that suit the pod; and those in which a pool could make a node for it
//! now, from an available offering, within its limits and beside its daemons. Of a new node that counts though the pod could not
//! go there, nobody knows whether it comes before the pod or after it: it must be even either way. Hosts could be added without
//! end; of them those that there are, or will be, count. Pods that were told to go are counted by no spread, and
//! nobody can rely on being near to them; others on a leaving node stay and count.

mod apart;
mod claims;
mod crowd;
mod gangs;
mod ground;
mod labels;
mod ledger;
mod listed;
mod machines;
mod offers;
mod order;
mod refused;
mod topology;
mod violation;

use self::{crowd::Crowd, ground::Ground, topology::Map};
pub use self::{
    refused::Refused,
    violation::{LabelDemand, LaunchFault, PoolFault, Sum, Violation},
};
use crate::{Snapshot, Solution};

/// Everything that is wrong with a solution; nothing, if it may be acted on.
pub fn check(snapshot: &Snapshot, solution: &Solution) -> Vec<Violation> {
    let mut violations = Vec::new();
    let ground = Ground::new(snapshot, solution);
    ledger::accounted_for(&ground, &mut violations);
    ledger::reasons(&ground, &mut violations);
    machines::existing(&ground, &mut violations);
    machines::new(&ground, &mut violations);
    ledger::limits(&ground, &mut violations);
    ledger::stock(&ground, &mut violations);
    ledger::cost(&ground, &mut violations);
    gangs::whole(&ground, &mut violations);
    claims::unshared(&ground, &mut violations);
    if let Some(crowd) = Crowd::gather(&ground) {
        let mut map = Map::new(&ground);
        apart::check(&crowd, &mut map, &mut violations);
        order::check(&crowd, solution, &mut map, &mut violations);
    }
    // What is wrong with every offering of a node is said once.
    violations.dedup();
    violations
}

#[cfg(test)]
mod tests;
