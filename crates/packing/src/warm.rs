//! What the last solve knew, in the terms of this one.

use crate::answer::{Node, Warm};
use crate::columns::Pattern;
use crate::model::Model;
use crate::plan::{Opened, Supply};

/// Old contents that some bin still holds: in their old bin if it is still there, else in the cheapest that takes them.
#[derive(Debug)]
pub(crate) struct Known {
    nodes: Vec<Opened>,
    pub(crate) patterns: Vec<Pattern>,
    /// Old prices of pods; 0 where there is none.
    pub(crate) prices: Vec<f64>,
}

impl Known {
    pub(crate) fn new(model: &Model, warm: &Warm) -> Self {
        let last = model.groups.last().map_or(0, |pods| pods.id + 1);
        let mut group_of = vec![None; last];
        for (at, pods) in model.groups.iter().enumerate() {
            group_of[pods.id] = Some(at);
        }
        let last = model.bins.iter().map(|bin| bin.id + 1).max().unwrap_or(0);
        let mut bin_of = vec![None; last];
        for (at, bin) in model.bins.iter().enumerate() {
            bin_of[bin.id] = Some(at);
        }
        let translate = |bin: usize, pods: &[(usize, u64)]| -> Option<Pattern> {
            let named = |&(id, count): &(usize, u64)| Some((group_of.get(id).copied().flatten()?, count));
            let content = crate::plan::joined(&pods.iter().filter_map(named).collect::<Vec<_>>(), &[]);
            let old = bin_of.get(bin).copied().flatten().filter(|&bin| model.holds(bin, &content));
            let bin = old.or_else(|| model.by_price.iter().copied().find(|&bin| model.holds(bin, &content)))?;
            (!content.is_empty()).then_some((bin, content))
        };
        let node = |Node { bin, copies, pods }: &Node| {
            let (bin, content) = translate(*bin, pods)?;
            (*copies > 0).then_some(Opened { bin, copies: *copies, content })
        };
        let prices = model.groups.iter().map(|pods| warm.prices.get(pods.id).copied().unwrap_or(0).max(0) as f64);
        Self {
            nodes: warm.nodes.iter().filter_map(node).collect(),
            patterns: warm.patterns.iter().filter_map(|(bin, pods)| translate(*bin, pods)).collect(),
            prices: prices.collect(),
        }
    }

    /// Whether there is no old plan.
    pub(crate) fn is_empty(&self) -> bool {
        self.nodes.is_empty()
    }

    /// The old nodes again, as far as their pods are missing.
    pub(crate) fn again(&self, model: &Model, missing: &mut [u64], supply: &mut Supply) -> Vec<Opened> {
        let mut nodes = Vec::new();
        for node in &self.nodes {
            let mut copies = node.copies.min(supply.nodes(model, node.bin));
            let mut content = node.content.clone();
            while copies > 0 && !content.is_empty() {
                let whole = content.iter().map(|(group, count)| missing[*group] / count).min().unwrap_or(0).min(copies);
                if whole > 0 {
                    for &(group, count) in &content {
                        missing[group] -= count * whole;
                    }
                    supply.open(model, node.bin, whole);
                    nodes.push(Opened { bin: node.bin, copies: whole, content: content.clone() });
                    copies -= whole;
                }
                // What is left of the copies holds what is left of the pods.
                for (group, count) in &mut content {
                    *count = (*count).min(missing[*group]);
                }
                content.retain(|(_, count)| *count > 0);
            }
        }
        nodes
    }
}
