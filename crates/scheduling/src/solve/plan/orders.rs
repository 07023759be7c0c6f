//! Which pods come before which others, whatever else decides their order.

use std::collections::BTreeSet;

use super::super::{
    Queue,
    relations::{Demand, Place},
    search::Search,
    wishes::Turn,
};
use crate::Pod;

/// When a pod comes.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Order {
    /// Before all that come later: others are spread by it, and it waits for nobody (see [`Turn`]).
    Early,
    Any,
    /// It must be spread, or be near others.
    Later,
}

/// By pod: when it comes.
pub(super) fn orders(search: &Search<'_>, queue: &Queue<'_>) -> Vec<Order> {
    let groups = &search.topology.groups;
    let relations = |asked: usize| search.stages_of(asked).iter().map(|kind| &search.kinds[*kind].shape.relations);
    let rules = |asked: usize| relations(asked).flat_map(|relations| &relations.rules);
    let spreads = queue.iter().flat_map(|(_, asked)| rules(*asked));
    let spreads = spreads.filter(|rule| matches!(rule.demand, Demand::Spread { .. }));
    let demanded: BTreeSet<(usize, Place)> =
        spreads.map(|rule| (groups.first_alike[rule.group], groups.found[rule.group].place)).collect();
    let order = |(_, asked): &(&Pod, usize)| {
        let mut counted = relations(*asked).flat_map(|relations| &relations.counted);
        if search.turns[*asked] > Turn::First {
            let waits = rules(*asked).any(|rule| rule.demand != Demand::Apart);
            if waits { Order::Later } else { Order::Any }
        } else if counted.any(|counted| demanded.contains(counted)) {
            Order::Early
        } else {
            Order::Any
        }
    };
    queue.iter().map(order).collect()
}
