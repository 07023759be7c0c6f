//! The pods that run already: which of them have others kept away, read once before they are counted.

use std::collections::BTreeMap;

use super::{
    map::Map,
    relations::{Groups, Place, required},
};
use crate::{NodeKey, Pod, PodAffinityTerm, PodKey, Snapshot};

/// Of many running pods few repel others: only these are remembered.
pub(super) struct Repelling {
    /// By node of the snapshot: positions of such pods there, in order, and the number of what they repel.
    by_node: Vec<Vec<(usize, usize)>>,
    /// By number.
    groups: Vec<Vec<(usize, Place)>>,
}

/// All that decides what a pod repels.
type Written<'a> = (&'a str, &'a BTreeMap<String, String>, &'a [PodAffinityTerm]);

impl Repelling {
    /// Finds them, and their groups. Pods written alike repel the same, so that is worked out once for all of them: in the
    /// order of their least names, for the order of the snapshot does not matter.
    pub(super) fn of<'a>(snapshot: &'a Snapshot, groups: &mut Groups<'a>, pending: impl Fn(&PodKey) -> bool) -> Self {
        let mut numbers: Map<Written<'a>, usize> = Map::default();
        let mut least: Vec<(&PodKey, &NodeKey, &Pod)> = Vec::new();
        let mut by_node = vec![Vec::new(); snapshot.nodes.len()];
        for (node, found) in snapshot.nodes.iter().zip(&mut by_node) {
            for (position, pod) in node.pods.iter().enumerate() {
                if required(&pod.pod_anti_affinity).next().is_none() || pending(&pod.key) {
                    continue;
                }
                let written = (pod.key.namespace.as_str(), &pod.labels, pod.pod_anti_affinity.as_slice());
                let number = *numbers.entry(written).or_insert(least.len());
                let one = (&pod.key, &node.key, &**pod);
                match least.get_mut(number) {
                    None => least.push(one),
                    Some(known) if (one.0, one.1) < (known.0, known.1) => *known = one,
                    Some(_) => {}
                }
                found.push((position, number));
            }
        }
        let mut order: Vec<usize> = (0..least.len()).collect();
        order.sort_by_key(|number| (least[*number].0, least[*number].1));
        let mut repelled = vec![Vec::new(); least.len()];
        for number in order {
            let pod = least[number].2;
            let of_terms = required(&pod.pod_anti_affinity).map(|term| groups.repelling(pod, term));
            repelled[number] =
                of_terms.collect::<Vec<_>>().into_iter().map(|group| (group, groups.found[group].place)).collect();
        }
        Self { by_node, groups: repelled }
    }

    /// The pods of a node of the snapshot that repel others: their positions there, in order, and the groups.
    pub(super) fn on(&self, node: usize) -> impl Iterator<Item = (usize, &[(usize, Place)])> {
        self.by_node[node].iter().map(|(position, number)| (*position, self.groups[*number].as_slice()))
    }
}
