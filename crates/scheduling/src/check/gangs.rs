//! Groups of pods that are of use only together.

use std::collections::BTreeMap;

use super::{Violation, ground::Ground};

/// Whoever has a place belongs to no group, or to one of which enough pods run or have one.
pub(super) fn whole(ground: &Ground<'_>, violations: &mut Vec<Violation>) {
    // By namespace and name: how many are needed, how many get a place now, how many run.
    let mut groups: BTreeMap<(&str, &str), (u32, usize, usize)> = BTreeMap::new();
    for (key, pod) in &ground.pods {
        if let Some(gang) = &pod.gang {
            let group = groups.entry((&key.namespace, &gang.name)).or_default();
            group.0 = group.0.max(gang.needed);
            group.1 += usize::from(ground.solution.placed.contains_key(*key));
        }
    }
    if groups.is_empty() {
        return;
    }
    let bound = ground.snapshot.nodes.iter().flat_map(|node| &node.pods);
    for pod in bound.filter(|pod| !(pod.terminating || ground.pods.contains_key(&pod.key))) {
        let group = pod.gang.as_ref().map(|gang| (pod.key.namespace.as_str(), gang.name.as_str()));
        if let Some(group) = group.and_then(|group| groups.get_mut(&group)) {
            group.2 += 1;
        }
    }
    for ((namespace, name), (needed, placed, running)) in groups {
        let found = placed + running;
        if placed > 0 && found < needed as usize {
            let group = format!("{namespace}/{name}");
            violations.push(Violation::TornGang { group, needed, found });
        }
    }
}
