//! What the pools' limits and the reservations still leave.

use std::collections::BTreeMap;

use units::{Amount, ResourceName};

use super::{axis, bits::Bits, open::Open, template::Template};
use crate::{InstanceType, OfferingKey, Pool, Snapshot};

/// A limit of the pool.
#[derive(Clone)]
pub(super) struct Limit {
    pub(super) resource: ResourceName,
    pub(super) most: i64,
    /// What is left of it before this solve; less than nothing if it is passed already.
    pub(super) left: i64,
}

/// The limits of a pool before this solve.
pub(super) fn limits(pool: &Pool, snapshot: &Snapshot) -> Vec<Limit> {
    let nodes = || snapshot.nodes.iter().filter(|node| node.pool.as_ref() == Some(&pool.key)).count();
    let limit = |(resource, limit): (&ResourceName, Amount)| {
        let counted = pool.used.named(resource);
        let used = match counted {
            None if resource.as_str() == NODES => i64::try_from(nodes()).unwrap_or(i64::MAX),
            _ => counted.unwrap_or_default().0,
        };
        Limit { resource: resource.clone(), most: limit.0, left: limit.0.saturating_sub(used) }
    };
    pool.limits.iter().flat_map(units::ResourceList::iter).map(limit).collect()
}

/// The resource of which every node has one.
const NODES: &str = "nodes";

impl Limit {
    pub(super) fn of(&self, machine: &InstanceType) -> i64 {
        if self.resource.as_str() == NODES { 1 } else { machine.capacity.get(&self.resource).0 }
    }
}

/// What is left for new nodes.
#[derive(Clone)]
pub(super) struct Left {
    /// By pool: what its limits leave when each of the nodes opened is charged with the largest of its choices.
    pub(super) limits: Vec<Vec<i64>>,
    /// By pool with limits: the nodes opened that could give choices up for the sake of the limits, in the order of opening.
    pub(super) wide: Vec<Vec<usize>>,
    /// By offering that can be bought only so often: how often still, when each node that may become it does.
    reserved: Vec<u32>,
}

impl Left {
    /// Numbers the offerings that can be bought only so often; pools that offer the same one share it.
    pub(super) fn new(templates: &mut [Template<'_>]) -> Self {
        let mut numbers: BTreeMap<OfferingKey, usize> = BTreeMap::new();
        let mut reserved = Vec::new();
        for template in templates.iter_mut() {
            for (index, choice) in template.choices.iter().enumerate() {
                if let Some(remaining) = choice.remaining {
                    let number = *numbers.entry(choice.key()).or_insert_with(|| {
                        reserved.push(remaining);
                        reserved.len() - 1
                    });
                    reserved[number] = reserved[number].min(remaining);
                    template.counted.push((index, number));
                }
            }
        }
        let limits =
            templates.iter().map(|template| template.limits.iter().map(|limit| limit.left).collect()).collect();
        Self { limits, wide: vec![Vec::new(); templates.len()], reserved }
    }

    /// Drops the choices that may all be bought up already.
    pub(super) fn keep_unreserved(&self, template: &Template<'_>, choices: &mut Bits) {
        for (choice, number) in template.counted.iter().filter(|(_, number)| self.reserved[*number] == 0) {
            debug_assert!(*number < self.reserved.len(), "every counted choice has a counter");
            choices.remove(*choice);
        }
    }

    /// Charges a new node, of this position.
    pub(super) fn charge(&mut self, template: &Template<'_>, node: &Open<'_>, index: usize) {
        if !template.limits.is_empty() {
            self.wide[node.template].push(index);
        }
        axis::subtract(&mut self.limits[node.template], &node.charge);
        for (choice, number) in &template.counted {
            if node.choices.contains(*choice) {
                self.reserved[*number] = self.reserved[*number].saturating_sub(1);
            }
        }
    }

    /// Gives back what a node no longer may become: its charge and its choices before it changed.
    pub(super) fn recharge(&mut self, template: &Template<'_>, node: &Open<'_>, charge: &[i64], choices: &Bits) {
        let left = &mut self.limits[node.template];
        axis::add(left, charge);
        axis::subtract(left, &node.charge);
        for (choice, number) in &template.counted {
            if choices.contains(*choice) && !node.choices.contains(*choice) {
                self.reserved[*number] += 1;
            }
        }
    }
}

impl Template<'_> {
    /// All choices by how much of the limits they take, the least first; of those that take as much, the cheapest comes first.
    pub(super) fn sorted_by_share_of_limits(&self) -> Vec<usize> {
        let share = |(limit, amount): (&Limit, &i64)| i128::from(*amount) * 1_000_000 / i128::from(limit.most.max(1));
        let shares = |index: &usize| self.limits.iter().zip(&self.choices[*index].limited).map(share).sum::<i128>();
        let mut sorted: Vec<usize> = (0..self.choices.len()).collect();
        sorted.sort_by_cached_key(shares);
        sorted
    }

    /// Some choices by how much of the limits they take.
    fn in_order<'c>(&'c self, choices: &'c Bits) -> impl Iterator<Item = usize> + 'c {
        self.by_share_of_limits.iter().copied().filter(|index| choices.contains(*index))
    }

    /// The choice that takes the least of the limits.
    pub(super) fn least_limited(&self, choices: &Bits) -> Option<usize> {
        self.in_order(choices).next()
    }

    /// Those of the choices that take the least of the limits: as many more than the least one as make `enough`, and all that take no
    /// more than these.
    pub(super) fn smallest(&self, choices: &Bits, enough: impl Fn(&Bits) -> bool) -> Option<Bits> {
        let within = |most: &[i64]| {
            let mut kept = choices.clone();
            self.keep_within(&mut kept, most);
            kept
        };
        let least = within(&self.choices[self.least_limited(choices)?].limited);
        if enough(&least) {
            return Some(least);
        }
        let order: Vec<usize> = self.in_order(choices).collect();
        let first = |count: usize| {
            let mut most = self.choices[order[0]].limited.clone();
            for index in &order[..count] {
                most.iter_mut().zip(&self.choices[*index].limited).for_each(|(most, one)| *most = (*most).max(*one));
            }
            within(&most)
        };
        // More choices have more values: the least number of them that is enough lies between these.
        let (mut too_few, mut found) = (1, order.len());
        while found - too_few > 1 {
            let middle = too_few.midpoint(found);
            *if enough(&first(middle)) { &mut found } else { &mut too_few } = middle;
        }
        Some(first(found)).filter(enough)
    }
}
