//! Groups that others follow, where those can be.
//!
//! Pods that must share a zone go where a node for them costs least. Others that must be in it, too, and can only be in another
//! one are left without a place then, whatever is bought. So the group is planned for once more in each zone where they can be.
//! Pods also go to the pools of the largest weight, and others that can only have nodes of another pool find none of them there.
//! So some of them are planned for once more on nodes of that pool.

use std::{collections::BTreeSet, sync::Arc};

use super::{
    super::relations::{Demand, Place},
    Task,
    kept::heaviest,
};
use crate::{PodKey, Snapshot};

/// Of more pods than this it takes too long.
const MOST: usize = 10_000;
/// So many domains are tried, over all groups.
const DOMAINS: usize = 6;

/// The snapshot with a group in another domain, for each group and domain that may give pods a place that are without one.
///
/// `refused`: the pods without a place, by number of those written alike.
pub(super) fn elsewhere(task: &Task<'_, '_>, refused: &BTreeSet<usize>, snapshot: &Snapshot) -> Vec<Snapshot> {
    let search = &task.start.search;
    if task.queue.len() > MOST {
        return Vec::new();
    }
    let mut tried: BTreeSet<Moved<'_>> = BTreeSet::new();
    let left_out: BTreeSet<usize> = refused.iter().map(|asked| task.stages.least[*asked]).collect();
    let keys = keys(task);
    for kind in left_out.into_iter().filter(|kind| !task.reach.is_nowhere(*kind)) {
        let rules = search.kinds[kind].shape.relations.rules.iter();
        for rule in rules.filter(|rule| matches!(rule.demand, Demand::Near { .. })) {
            // Who must be on the same node is in the same zone, whatever is said of zones.
            let shared = keys.iter().copied().filter(|key| rule.place == Place::Host || rule.place == Place::Key(*key));
            for key in shared {
                let who = (leaders(task, rule.group, Some(key)), usize::MAX);
                let label = search.topology.groups.keys[key];
                let domains = domains(task, kind, label);
                tried.extend(domains.into_iter().map(|domain| (who.clone(), label, domain)));
            }
            if rule.place == Place::Host {
                let leaders = leaders(task, rule.group, None);
                let heaviest = leaders.iter().map(|leader| heaviest(search, *leader)).max().unwrap_or(0);
                let pools = task.reach.templates(kind).map(|template| search.templates[template].pool);
                for pool in pools.filter(|pool| pool.weight < heaviest) {
                    let all = usize::try_from(task.all[kind]).unwrap_or(usize::MAX);
                    let who = [1, all].map(|most| (leaders.clone(), most));
                    tried.extend(who.map(|who| (who, pool.key.kind.label(), pool.key.name.clone())));
                }
            }
        }
    }
    tried.iter().take(DOMAINS).map(|one| moved(task, snapshot, one)).collect()
}

/// The snapshot with a group in one domain after another, for groups that others follow into a domain, or that keep together there,
/// where no pod is yet: one of these may cost less.
pub(super) fn anywhere(task: &Task<'_, '_>, snapshot: &Snapshot) -> Vec<Snapshot> {
    let search = &task.start.search;
    let mut tried: BTreeSet<Moved<'_>> = BTreeSet::new();
    for kind in task.queue.iter().map(|(_, asked)| task.stages.least[*asked]).collect::<BTreeSet<usize>>() {
        for rule in
            search.kinds[kind].shape.relations.rules.iter().filter(|rule| !search.topology.is_populated(rule.group))
        {
            if let (Place::Key(key), Demand::Near { .. }) = (rule.place, rule.demand) {
                let leaders = leaders(task, rule.group, Some(key));
                let label = search.topology.groups.keys[key];
                let domains: BTreeSet<String> =
                    leaders.iter().flat_map(|leader| domains(task, *leader, label)).collect();
                tried.extend(domains.into_iter().map(|domain| ((leaders.clone(), usize::MAX), label, domain)));
            }
        }
    }
    tried.iter().take(DOMAINS).map(|one| moved(task, snapshot, one)).collect()
}

/// So many pods of these kinds, a label, and the domain of it for them.
type Moved<'m> = ((BTreeSet<usize>, usize), &'m str, String);

fn moved(task: &Task<'_, '_>, snapshot: &Snapshot, ((leaders, most), label, domain): &Moved<'_>) -> Snapshot {
    let of_group = task.queue.iter().filter(|(_, asked)| leaders.contains(&task.stages.least[*asked]));
    let of_group: BTreeSet<&PodKey> = of_group.map(|(pod, _)| &pod.key).take(*most).collect();
    let mut moved = snapshot.clone();
    for pod in moved.pods.iter_mut().filter(|pod| of_group.contains(&pod.key)) {
        Arc::make_mut(pod).node_selector.entry((*label).to_owned()).or_insert_with(|| domain.clone());
    }
    moved
}

/// The labels in whose domains some pods must be near others.
fn keys(task: &Task<'_, '_>) -> BTreeSet<usize> {
    let kinds = task.queue.iter().map(|(_, asked)| task.stages.least[*asked]).collect::<BTreeSet<usize>>();
    let rules = kinds.into_iter().flat_map(|kind| &task.start.search.kinds[kind].shape.relations.rules);
    let near = rules.filter_map(|rule| match (rule.place, rule.demand) {
        (Place::Key(key), Demand::Near { .. }) => Some(key),
        _ => None,
    });
    near.collect()
}

/// The kinds that a group counts, and those that these must be near in the same domain of the label, or on the same node.
fn leaders(task: &Task<'_, '_>, group: usize, key: Option<usize>) -> BTreeSet<usize> {
    let search = &task.start.search;
    let relations = |kind: usize| &search.kinds[kind].shape.relations;
    let asked: BTreeSet<usize> = task.queue.iter().map(|(_, asked)| task.stages.least[*asked]).collect();
    let (mut found, mut groups) = (BTreeSet::new(), vec![group]);
    while let Some(group) = groups.pop() {
        let is_counted = |kind: &usize| relations(*kind).counted.iter().any(|(counted, _)| *counted == group);
        for kind in asked.iter().copied().filter(is_counted) {
            if found.insert(kind) {
                let near = relations(kind).rules.iter().filter(|rule| {
                    matches!(rule.demand, Demand::Near { .. })
                        && (rule.place == Place::Host || key.is_some_and(|key| rule.place == Place::Key(key)))
                });
                groups.extend(near.map(|rule| rule.group));
            }
        }
    }
    found
}

/// The values of a label that nodes for the kind can have.
fn domains(task: &Task<'_, '_>, kind: usize, label: &str) -> BTreeSet<String> {
    let search = &task.start.search;
    let of_new = task.reach.templates(kind).filter_map(|template| {
        let values = search.templates[template].values(task.reach.choices(kind, template), label)?;
        values.finite().cloned()
    });
    let of_existing = task.reach.existing(kind).iter();
    let of_existing = of_existing.filter_map(|index| search.existing[*index].node.labels.get(label).cloned());
    of_new.flatten().chain(of_existing).collect()
}
