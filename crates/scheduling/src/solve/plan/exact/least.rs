//! What the rest of a plan costs at least: the pods that are left on the nodes so far, on nodes there are and on new ones,
//! whatever the pods demand of each other, but that some may never share a node.
//!
//! ```text
//! set of pods ──▶ the cheapest machine that holds it (by pool, and by sort of a node) ──▶ the cheapest nodes for a set, by
//! parts: the first node has some of the pods, the others are a smaller set
//! ```
//!
//! The pods are few, so that all sets of them are looked at once for all, and all parts of what is left in each state.

use super::{Content, New, sorts::Sorts, zones::Zones};
use crate::solve::{
    axis,
    bits::Bits,
    map::Map,
    plan::reach::Reach,
    relations::{Demand, Place},
    search::Search,
    template::Template,
    topology::Domain,
};

/// More than anything costs.
const NEVER: i64 = i64::MAX / 4;

/// What is known of all sets of the pods. A set is a number with a binary digit for each pod.
pub(super) struct Least {
    pods: usize,
    /// By pool and set: the choices that hold it.
    choices: Vec<Vec<Bits>>,
    /// By set: what it costs on new nodes; on nodes there are too, if these are many.
    fresh: Vec<i64>,
    /// By node there is and set: whether it holds it. Empty where `fresh` knows of them.
    there: Vec<Vec<bool>>,
    /// By pool and sort: what a node with the set costs.
    of_sorts: Map<(usize, usize), Vec<i64>>,
    /// Costs of parts of what is left.
    parts: Vec<i64>,
    /// The zones, and such costs for each, where pods demand something of others in their zone.
    zones: Option<Zones>,
    in_zones: Vec<Vec<i64>>,
    /// Steps made since this was asked for.
    pub(super) steps: u64,
}

/// Up to so many nodes there are each state is looked at with what is on them; with more, as if they were empty.
const FEW: usize = 3;

impl Least {
    /// `stages`: by pod, the kinds that it may be placed as; `there`: the nodes there are that may take some of them.
    pub(super) fn of(search: &Search<'_>, reach: &Reach, stages: &[Vec<usize>], there: &[usize]) -> Self {
        let (pods, sets) = (stages.len(), 1_usize << stages.len());
        let mut steps = 0;
        let apart = apart(search, stages);
        let may_share = |set: usize| members(set).all(|pod| set & apart[pod] == 0);
        let request = |pod: usize| &search.kinds[stages[pod][0]].shape.request;
        let mut requests = vec![vec![0; search.kinds[stages[0][0]].shape.request.len()]];
        for set in 1..sets {
            let first = set.trailing_zeros() as usize;
            let mut sum = requests[set & (set - 1)].clone();
            axis::add(&mut sum, request(first));
            requests.push(sum);
        }
        let mut choices = Vec::new();
        for (index, template) in search.templates.iter().enumerate() {
            let alone = |pod: &Vec<usize>| {
                let mut all = Bits::none(template.choices.len());
                for kind in pod {
                    all.add_all(reach.choices(*kind, index));
                }
                all
            };
            let alone: Vec<Bits> = stages.iter().map(alone).collect();
            let mut of_sets = vec![template.available.clone()];
            for set in 1..sets {
                let mut held = of_sets[set & (set - 1)].clone();
                held.keep_common(&alone[set.trailing_zeros() as usize]);
                if !may_share(set) {
                    held.clear();
                }
                template.keep_roomy(&mut held, &requests[set]);
                of_sets.push(held);
            }
            steps += 32 * sets as u64;
            choices.push(of_sets);
        }
        let price = |set: usize| {
            let cheapest = search.templates.iter().zip(&choices).filter_map(|(template, of_sets)| {
                of_sets[set].iter().next().map(|choice| template.choices[choice].price.0)
            });
            cheapest.min().unwrap_or(NEVER)
        };
        let prices: Vec<i64> = (0..sets).map(price).collect();
        let holds = |node: &usize| -> Vec<bool> {
            let may: Vec<bool> =
                stages.iter().map(|kinds| kinds.iter().any(|kind| reach.existing(*kind).contains(node))).collect();
            let free = &search.existing[*node].free;
            let held =
                |set: usize| may_share(set) && members(set).all(|pod| may[pod]) && axis::fits(&requests[set], free);
            (0..sets).map(|set| set == 0 || held(set)).collect()
        };
        let there_holds: Vec<Vec<bool>> = there.iter().map(holds).collect();
        let known = there_holds.len() <= FEW;
        let lasts: Vec<usize> = stages.iter().filter_map(|kinds| kinds.last().copied()).collect();
        let mut zones = Zones::of(search, &lasts, there);
        let mut fresh = by_parts(sets, |set| prices[set], &mut steps);
        if !known {
            for holds in &there_holds {
                on_one_more(&mut fresh, holds, &mut steps);
            }
        }
        if let Some(zones) = &mut zones {
            for (zone, domain) in zones.domains.iter().enumerate() {
                let of_zone: Vec<Bits> =
                    search.templates.iter().map(|one| in_domain(one, zones.key, *domain)).collect();
                let price =
                    |set: usize| {
                        let cheapest =
                            search.templates.iter().zip(&choices).zip(&of_zone).filter_map(|((one, sets), zone)| {
                                Some(one.choices[sets[set].first_common(zone)?].price.0)
                            });
                        cheapest.min().unwrap_or(NEVER)
                    };
                let mut fresh = by_parts(sets, price, &mut steps);
                for (holds, at) in there_holds.iter().zip(&zones.there) {
                    if !known && *at == zone {
                        on_one_more(&mut fresh, holds, &mut steps);
                    }
                }
                zones.fresh.push(fresh);
            }
        }
        let domains = zones.as_ref().map_or(0, |zones| zones.domains.len());
        Self {
            pods,
            choices,
            fresh,
            there: if known { there_holds } else { Vec::new() },
            of_sorts: Map::default(),
            parts: vec![NEVER; sets],
            zones,
            in_zones: vec![vec![NEVER; sets]; domains],
            steps,
        }
    }

    /// What a state costs at least once these pods have places, too.
    pub(super) fn cost(&mut self, search: &Search<'_>, sorts: &Sorts, content: &Content, left: usize) -> i64 {
        for node in &content.nodes {
            self.price(search, sorts, node);
        }
        if let Some(cost) = self.in_zones(sorts, content, left) {
            return cost;
        }
        self.steps += 1 << left.count_ones();
        for part in parts(left) {
            self.parts[part] = self.fresh[part];
        }
        for (holds, there) in self.there.iter().zip(&content.there) {
            let more = held_more(holds, *there, left);
            self.steps += (more.len() as u64) << left.count_ones();
            lower(&mut self.parts, left, &more);
        }
        for node in &content.nodes {
            let more = dearer(&self.of_sorts[&(node.template, node.sort)], node, left);
            self.steps += (more.len() as u64) << left.count_ones();
            lower(&mut self.parts, left, &more);
        }
        self.parts[left].saturating_add(super::cost(&content.nodes)).min(NEVER)
    }

    /// As [`Self::cost`], with what the pods demand of each other in their zones; `None` where that cannot be told.
    fn in_zones(&mut self, sorts: &Sorts, content: &Content, left: usize) -> Option<i64> {
        let zones = self.zones.as_ref().filter(|zones| zones.can_deal(left.count_ones()))?;
        let zone_of = |node: &New| {
            let seat = sorts.sort(node.template, node.sort).seats.get(zones.key).copied().flatten()?;
            zones.domains.binary_search(&seat).ok()
        };
        let homes: Vec<usize> = content.nodes.iter().map(zone_of).collect::<Option<_>>()?;
        let mut placed = vec![0; zones.domains.len()];
        content.there.iter().zip(&zones.there).for_each(|(there, zone)| placed[*zone] |= there);
        for (costs, fresh) in self.in_zones.iter_mut().zip(&zones.fresh) {
            self.steps += 1 << left.count_ones();
            parts(left).for_each(|part| costs[part] = fresh[part]);
        }
        for ((holds, there), zone) in self.there.iter().zip(&content.there).zip(&zones.there) {
            let more = held_more(holds, *there, left);
            self.steps += (more.len() as u64) << left.count_ones();
            lower(&mut self.in_zones[*zone], left, &more);
        }
        for (node, zone) in content.nodes.iter().zip(homes) {
            placed[zone] |= node.members;
            let more = dearer(&self.of_sorts[&(node.template, node.sort)], node, left);
            self.steps += (more.len() as u64) << left.count_ones();
            lower(&mut self.in_zones[zone], left, &more);
        }
        let cost = zones.deal(left, &placed, &self.in_zones, NEVER, &mut self.steps);
        Some(cost.saturating_add(super::cost(&content.nodes)).min(NEVER))
    }

    /// Finds out what nodes of this one's sort cost.
    fn price(&mut self, search: &Search<'_>, sorts: &Sorts, node: &New) {
        let key = (node.template, node.sort);
        if self.of_sorts.contains_key(&key) {
            return;
        }
        let of_sort = &sorts.sort(node.template, node.sort).choices;
        let template = &search.templates[node.template];
        let price = |held: &Bits| held.first_common(of_sort).map_or(NEVER, |choice| template.choices[choice].price.0);
        self.steps += 8 << self.pods;
        self.of_sorts.insert(key, self.choices[node.template].iter().map(price).collect());
    }
}

/// The choices of a pool that are in one domain of a label.
fn in_domain(template: &Template<'_>, key: usize, domain: Domain) -> Bits {
    let found = template.domains[key].iter().find(|(one, _)| *one == domain);
    found.map_or_else(|| Bits::none(template.choices.len()), |(_, choices)| choices.clone())
}

/// By set: what it costs on nodes of which each costs what `price` says of the set of its pods.
fn by_parts(sets: usize, price: impl Fn(usize) -> i64, steps: &mut u64) -> Vec<i64> {
    let prices: Vec<i64> = (0..sets).map(price).collect();
    let mut costs = vec![0; sets];
    for set in 1..sets {
        // Some node has the first of them.
        let first = set & set.wrapping_neg();
        let rest = set & !first;
        let with = |part: usize| prices[part | first].saturating_add(costs[rest & !part]);
        let least = parts(rest).map(with).min().unwrap_or(NEVER).min(NEVER);
        costs[set] = least;
        *steps += 1 << rest.count_ones();
    }
    costs
}

/// What sets cost with one more node that costs nothing and holds these.
fn on_one_more(costs: &mut [i64], holds: &[bool], steps: &mut u64) {
    // The largest first: what is taken away from them has still the costs without the node.
    for set in (1..costs.len()).rev() {
        let on_others = parts(set).filter(|part| holds[*part]).map(|part| costs[set & !part]);
        costs[set] = on_others.min().unwrap_or(NEVER);
        *steps += 1 << set.count_ones();
    }
}

/// Parts of what is left that a node there is holds besides those on it.
fn held_more(holds: &[bool], there: usize, left: usize) -> Vec<(usize, i64)> {
    parts(left).filter(|part| *part > 0 && holds[part | there]).map(|part| (part, 0)).collect()
}

/// Parts of what is left that a new node holds besides those on it, and how much dearer that makes it.
fn dearer(prices: &[i64], node: &New, left: usize) -> Vec<(usize, i64)> {
    let held = parts(left).filter(|part| *part > 0 && prices[part | node.members] < NEVER);
    held.map(|part| (part, (prices[part | node.members] - node.price).max(0))).collect()
}

/// Lowers the costs of all parts of `left` by what a node may hold more, and what that costs.
fn lower(costs: &mut [i64], left: usize, more: &[(usize, i64)]) {
    // The largest first: what is taken away from them has still the costs without the node.
    for part in parts(left) {
        let fits = more.iter().filter(|(on_node, _)| on_node & !part == 0);
        let with = fits.map(|(on_node, price)| costs[part & !on_node].saturating_add(*price)).min();
        costs[part] = costs[part].min(with.unwrap_or(NEVER));
    }
}

/// All parts of a set, the set first and nothing last.
pub(super) fn parts(set: usize) -> impl Iterator<Item = usize> {
    std::iter::successors(Some(set), move |part| part.checked_sub(1).map(|less| less & set))
}

fn members(set: usize) -> impl Iterator<Item = usize> {
    (0..usize::BITS as usize).filter(move |pod| set >> pod & 1 == 1)
}

/// By pod: those that can never be on a node with it, whoever comes first and whatever wishes are given up.
fn apart(search: &Search<'_>, stages: &[Vec<usize>]) -> Vec<usize> {
    let of = |pod: usize| {
        let last = stages[pod].last().copied();
        last.map(|kind| &search.kinds[kind].shape)
    };
    let shuns = |pod: usize, other: usize| {
        let (Some(one), Some(other)) = (of(pod), of(other)) else { return false };
        let of_hosts = one.relations.rules.iter().filter(|rule| rule.place == Place::Host);
        let mut apart = of_hosts.filter(|rule| rule.demand == Demand::Apart);
        let there = |group: usize| other.relations.counted.contains(&(group, Place::Host));
        apart.any(|rule| there(rule.group) && one.relations.repels.contains(&(rule.group, Place::Host)))
            || one.ports.iter().any(|port| other.ports.iter().any(|taken| port.clashes_with(taken)))
    };
    let with = |pod: usize| {
        let others = (0..stages.len()).filter(|other| *other != pod);
        others.filter(|other| shuns(pod, *other) || shuns(*other, pod)).fold(0, |set, other| set | 1 << other)
    };
    (0..stages.len()).map(with).collect()
}
