//! Very small problems, solved to the end.
//!
//! Where nothing runs out, the cheapest way to place any part of the demand is built up from smaller parts. Otherwise the
//! ways to open nodes are tried one after the other, as far as they can still beat the best plan.

use crate::meter::Meter;
use crate::model::{Model, UNLIMITED};
use crate::plan::{Opened, Plan, Supply};

/// Parts of the demand that are told apart, at most.
const PARTS: u128 = 4_000;
/// Pairs of a part and a content of its first node, at most.
const PAIRS: u128 = 4_000_000;
/// Pods for which all ways are tried, at most.
const PODS: u128 = 8;
/// Nodes opened on trial, at most.
const TRIALS: usize = 100_000;

/// The best plan there is, or `None` if the problem is too large to say.
pub(crate) fn exact(model: &Model, best: &Plan, meter: &Meter<'_>) -> Option<Plan> {
    let endless = model.limits.is_empty() && model.bins.iter().all(|bin| bin.stock == UNLIMITED);
    if endless { by_parts(model, meter) } else { by_trial(model, best, meter) }
}

fn by_parts(model: &Model, meter: &Meter<'_>) -> Option<Plan> {
    let demand = model.demand();
    let product = |of: fn(u128) -> u128| {
        demand.iter().fold(1_u128, |product, count| product.saturating_mul(of(u128::from(*count))))
    };
    let parts = product(|count| count + 1);
    if parts > PARTS || product(|count| (count + 1) * (count + 2) / 2) > PAIRS {
        return None;
    }
    let parts = usize::try_from(parts).ok()?;
    // Part number = sum of count times stride; the first group has stride 1.
    let mut strides = Vec::with_capacity(demand.len());
    let mut stride = 1;
    for count in &demand {
        strides.push(stride);
        stride *= usize::try_from(*count).ok()? + 1;
    }
    let content = |part: usize| -> Vec<(usize, u64)> {
        let count = |group: usize| (part / strides[group]) as u64 % (demand[group] + 1);
        (0..demand.len()).map(|group| (group, count(group))).filter(|(_, count)| *count > 0).collect()
    };
    let cheapest: Vec<Option<usize>> = (0..parts)
        .map(|part| {
            meter.spend(model.bins.len() * 8);
            let content = content(part);
            model.by_price.iter().copied().find(|&bin| model.holds(bin, &content))
        })
        .collect();
    let mut costs: Vec<i128> = vec![0; parts];
    let mut firsts: Vec<usize> = vec![0; parts];
    for part in 1..parts {
        let whole = content(part);
        let mut best: Option<(i128, usize)> = None;
        // Some node holds a pod of the part's last group: go through its contents.
        let &(last, most) = whole.last()?;
        let mut below: Vec<usize> = vec![0];
        for &(group, count) in &whole[..whole.len() - 1] {
            let known = below.len();
            for more in 1..=count {
                for at in 0..known {
                    below.push(below[at] + strides[group] * usize::try_from(more).ok()?);
                }
            }
        }
        meter.spend(below.len() * usize::try_from(most).ok()? * 2);
        for count in 1..=most {
            for rest in &below {
                let node = rest + strides[last] * usize::try_from(count).ok()?;
                let Some(bin) = cheapest[node] else { continue };
                let cost = costs[part - node].saturating_add(i128::from(model.bins[bin].price));
                if best.is_none_or(|(least, _)| cost < least) {
                    best = Some((cost, node));
                }
            }
        }
        // Every group fits some bin, so a single pod is always a content.
        let (cost, node) = best?;
        costs[part] = cost;
        firsts[part] = node;
        if meter.over() {
            return None;
        }
    }
    let mut plan = Plan { nodes: Vec::new(), missing: vec![0; demand.len()] };
    let mut part = parts - 1;
    while part > 0 {
        let node = firsts[part];
        plan.nodes.push(Opened { bin: cheapest[node]?, copies: 1, content: content(node) });
        part -= node;
    }
    plan.merge();
    Some(plan)
}

fn by_trial(model: &Model, best: &Plan, meter: &Meter<'_>) -> Option<Plan> {
    let pods: u128 = model.groups.iter().map(|pods| u128::from(pods.demand)).sum();
    if pods > PODS {
        return None;
    }
    let mut trial = Trial {
        model,
        meter,
        best: best.clone(),
        rank: best.rank(model),
        left: model.demand(),
        supply: Supply::new(model),
        nodes: Vec::new(),
        missing: vec![0; model.groups.len()],
        trials: TRIALS,
    };
    trial.next(0, 0).then_some(trial.best)
}

struct Trial<'a> {
    model: &'a Model,
    meter: &'a Meter<'a>,
    best: Plan,
    rank: (u128, i128),
    left: Vec<u64>,
    supply: Supply,
    nodes: Vec<Opened>,
    missing: Vec<u64>,
    trials: usize,
}

impl Trial<'_> {
    /// Try every way to go on; `false` if the trials ran out.
    fn next(&mut self, unplaced: u128, cost: i128) -> bool {
        if (unplaced, cost) >= self.rank {
            return true;
        }
        let Some(group) = (0..self.left.len()).find(|&group| self.left[group] > 0) else {
            self.rank = (unplaced, cost);
            self.best = Plan { nodes: self.nodes.clone(), missing: self.missing.clone() };
            self.best.merge();
            return true;
        };
        let mut contents: Vec<Vec<(usize, u64)>> = vec![Vec::new()];
        for other in group..self.left.len() {
            let known = contents.len();
            for count in 1..=self.left[other] {
                for at in 0..known {
                    let mut content = contents[at].clone();
                    content.push((other, count));
                    contents.push(content);
                }
            }
            if other == group {
                contents.remove(0);
            }
        }
        contents.sort_by_key(|content| std::cmp::Reverse(content.iter().map(|(_, count)| *count).sum::<u64>()));
        for content in contents {
            for at in 0..self.model.by_price.len() {
                let bin = self.model.by_price[at];
                if self.trials == 0 || self.meter.over() {
                    return false;
                }
                self.trials -= 1;
                self.meter.spend(content.len() * 8 + 16);
                if self.supply.nodes(self.model, bin) == 0 || !self.model.holds(bin, &content) {
                    continue;
                }
                self.supply.open(self.model, bin, 1);
                for &(other, count) in &content {
                    self.left[other] -= count;
                }
                self.nodes.push(Opened { bin, copies: 1, content: content.clone() });
                let complete = self.next(unplaced, cost + i128::from(self.model.bins[bin].price));
                self.nodes.pop();
                for &(other, count) in &content {
                    self.left[other] += count;
                }
                self.supply.close(self.model, bin, 1);
                if !complete {
                    return false;
                }
            }
        }
        // Nodes with this group come first, so what is left of it now stays out.
        let without = std::mem::take(&mut self.left[group]);
        self.missing[group] += without;
        let complete = self.next(unplaced + u128::from(without), cost);
        self.missing[group] -= without;
        self.left[group] = without;
        complete
    }
}
