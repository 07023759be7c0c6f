//! Many different pods: plan with rounder ones.
//!
//! Groups of similar size that fit the same bins become one group that asks for the most any of them asks for. A plan for
//! these is a plan for the pods. The bound is never computed from them.

use std::collections::BTreeMap;

use crate::model::{Kind, Model, Pods, asks};
use crate::plan::{Opened, Plan};
use crate::problem::Bits;

/// More groups than this are planned for through rounder ones.
pub(crate) const MANY: usize = 400;
/// Widths of a size class, tried one after the other until there are few enough groups.
const WIDTHS: [f64; 7] = [1.03, 1.06, 1.12, 1.25, 1.5, 3.0, f64::INFINITY];

/// What round groups have in common: bins, labels, most per node, size class of each resource.
type Class<'a> = (&'a Bits, &'a [u32], u64, Vec<i64>);

#[derive(Debug)]
pub(crate) struct Coarse {
    pub(crate) model: Model,
    /// The groups behind each group of `model`.
    members: Vec<Vec<usize>>,
}

impl Coarse {
    pub(crate) fn new(model: &Model) -> Self {
        let mut fits = vec![Bits::none(model.bins.len()); model.groups.len()];
        for (bin, kind) in model.bins.iter().enumerate() {
            for &group in &kind.groups {
                fits[group].insert(bin);
            }
        }
        let mut members = Vec::new();
        for width in WIDTHS {
            members = classes(model, &fits, width);
            if members.len() <= MANY {
                break;
            }
        }
        // Rounding up must not leave a group without a bin; then its members stay as they are.
        let members: Vec<Vec<usize>> = members
            .into_iter()
            .flat_map(|class| {
                let asked = most_asked(model, &class);
                let held = |bin: &Kind| bin.fits.has(class[0]) && fitting(&asked, bin);
                if model.bins.iter().any(held) { vec![class] } else { class.iter().map(|group| vec![*group]).collect() }
            })
            .collect();
        let groups: Vec<Pods> = members
            .iter()
            .map(|class| {
                let request = most_asked(model, class);
                Pods {
                    id: class[0],
                    demand: class.iter().map(|&group| model.groups[group].demand).fold(0, u64::saturating_add),
                    asks: asks(&request),
                    request,
                    ..model.groups[class[0]].clone()
                }
            })
            .collect();
        let bins = model.bins.iter().map(|bin| Kind {
            groups: (0..groups.len())
                .filter(|&at| bin.fits.has(members[at][0]) && fitting(&groups[at].request, bin))
                .collect(),
            ..bin.clone()
        });
        // Every bin stays: indices are those of the model behind.
        let mut model = Model { groups: groups.clone(), bins: bins.collect(), ..model.clone() };
        for bin in &mut model.bins {
            bin.fits = bin.groups.iter().copied().collect();
        }
        Self { model, members }
    }

    /// The plan for the pods behind a plan for the round ones.
    pub(crate) fn real(&self, model: &Model, plan: &Plan) -> Plan {
        // For each round group, the member being handed out, and how many of it are left.
        let mut at: Vec<usize> = vec![0; self.members.len()];
        let mut left: Vec<u64> = self.members.iter().map(|class| model.groups[class[0]].demand).collect();
        let mut nodes = Vec::new();
        for node in &plan.nodes {
            let mut copies = node.copies;
            while copies > 0 {
                for &(round, _) in &node.content {
                    self.next(model, round, &mut at, &mut left);
                }
                let same = node.content.iter().map(|&(round, count)| left[round] / count).min().unwrap_or(copies);
                let same = same.min(copies).max(1);
                let mut content = Vec::new();
                for &(round, count) in &node.content {
                    let mut wanted = count * same;
                    while wanted > 0 {
                        self.next(model, round, &mut at, &mut left);
                        let taken = wanted.min(left[round]);
                        if taken == 0 {
                            break;
                        }
                        content.push((self.members[round][at[round]], taken / same));
                        left[round] -= taken;
                        wanted -= taken;
                    }
                }
                content.sort_unstable();
                nodes.push(Opened { bin: node.bin, copies: same, content });
                copies -= same;
            }
        }
        let mut missing = vec![0; model.groups.len()];
        for (round, class) in self.members.iter().enumerate() {
            missing[class[at[round]]] = left[round];
            for &group in &class[at[round] + 1..] {
                missing[group] = model.groups[group].demand;
            }
        }
        Plan { nodes, missing }
    }

    fn next(&self, model: &Model, round: usize, at: &mut [usize], left: &mut [u64]) {
        let class = &self.members[round];
        while left[round] == 0 && at[round] + 1 < class.len() {
            at[round] += 1;
            left[round] = model.groups[class[at[round]]].demand;
        }
    }
}

fn fitting(asked: &[i64], bin: &Kind) -> bool {
    asked.iter().zip(&bin.capacity).all(|(asked, there)| asked <= there)
}

fn most_asked(model: &Model, class: &[usize]) -> Vec<i64> {
    let most = |resource: usize| class.iter().map(|&group| model.groups[group].request[resource]).max().unwrap_or(0);
    (0..model.resources).map(most).collect()
}

fn classes(model: &Model, fits: &[Bits], width: f64) -> Vec<Vec<usize>> {
    let mut classes: BTreeMap<Class<'_>, Vec<usize>> = BTreeMap::new();
    for (group, pods) in model.groups.iter().enumerate() {
        let step = |asked: &i64| if *asked <= 0 { -1 } else { ((*asked as f64).ln() / width.ln()) as i64 };
        let size = pods.request.iter().map(step).collect();
        classes.entry((&fits[group], &pods.labels, pods.most, size)).or_default().push(group);
    }
    classes.into_values().collect()
}
