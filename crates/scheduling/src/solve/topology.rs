//! How many pods of each group are in each domain, and what follows for the next pod.
//!
//! Every count is certain: before a node takes a pod that counts in a group, the node's value of the group's label is
//! decided, and whether the group counts there at all (`counting`). So nothing has to be reckoned with twice, and a solution holds whatever is bought.

mod counting;
mod outside;
mod record;

use std::{
    collections::{BTreeMap, BTreeSet},
    rc::Rc,
};

use requirements::{Requirement, Requirements};

use super::{
    ask::Ask,
    bits::Bits,
    bundles::Bundles,
    existing::Existing,
    map::Set,
    node_labels::{label, labels_of, possible},
    relations::{Demand, Filter, Found, Groups, Place, Relation, Relations, Rule},
    template::Template,
};
use crate::Node;

pub(super) use self::counting::{Counts, Scope};
use self::outside::{Expected, Outside};

/// The number of a value of a label, in the order of the values.
pub(super) type Domain = u32;

/// Where a node is, in terms of one label.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Seat {
    In(Domain),
    /// It has no such label.
    Nowhere,
    /// It may still become several.
    Undecided,
}

/// The groups' pods on one node, as far as each node is a domain.
#[derive(Clone, Debug, Default)]
pub(super) struct Here(BTreeMap<usize, Count>);

impl Here {
    /// How many pods of the group are on the node.
    pub(super) fn pods(&self, group: usize) -> u32 {
        self.0.get(&group).map_or(0, |count| count.pods)
    }

    /// Counts a pod that is here, or on another node that has this one's hostname: as far as pods tell, these two are one.
    pub(super) fn add(&mut self, counted: &[(usize, Place)], repels: &[(usize, Place)]) {
        self.count(counted, 1);
        self.count_owners(repels);
    }

    /// Counts so many such pods.
    pub(super) fn count(&mut self, counted: &[(usize, Place)], pods: u32) {
        for (group, _) in counted.iter().filter(|(_, place)| *place == Place::Host) {
            self.0.entry(*group).or_default().pods += pods;
        }
    }

    /// Counts a pod that has those of these groups kept away.
    pub(super) fn count_owners(&mut self, repels: &[(usize, Place)]) {
        for (group, _) in repels.iter().filter(|(_, place)| *place == Place::Host) {
            self.0.entry(*group).or_default().owners += 1;
        }
    }
}

/// Pods of a group, and pods that must not have these near.
#[derive(Clone, Copy, Debug, Default)]
struct Count {
    pods: u32,
    owners: u32,
    /// Whether one of the pods that were told to go is here.
    going: bool,
}

/// What relations say to a pod in a domain or on a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    Fine,
    /// Not as things are.
    NotNow,
    /// Not in this solve: counts only grow.
    Never,
}

/// The counts of a solve.
#[derive(Clone)]
pub(super) struct Topology<'a> {
    pub(super) groups: Rc<Groups<'a>>,
    bundles: Rc<Bundles>,
    pub(super) names: Rc<[Vec<String>]>,
    tallies: Vec<Tally>,
    /// By label: the spreads over it.
    spreads: Rc<[Vec<usize>]>,
    /// By pool: domains that it would bring into spreads.
    outside: Rc<[Outside]>,
    /// Whether these are all.
    is_outside_known: bool,
    /// By label, pool and domain: where further new nodes tell the spreads nothing.
    opened: BTreeSet<(usize, usize, Domain)>,
    /// By label: domains that new nodes are in which some spread counts.
    brought: BTreeSet<(usize, Domain)>,
    /// By label and domain: the spreads into which others of the pods that they count may bring it.
    expected: Rc<Expected>,
}

/// The counts of one group.
#[derive(Clone, Default)]
struct Tally {
    counts: BTreeMap<Domain, Count>,
    /// The domains a spread is over, the emptiest first.
    ranked: BTreeSet<(u32, Domain)>,
    /// Those of them that it is over only if somebody brings them.
    expected: BTreeSet<Domain>,
    /// Where pods that were placed demand to be evenly spread, and by what skew at most.
    demanded: BTreeMap<Domain, u32>,
    /// Pods of the group in any domain, but for those that were told to go, as far as company goes.
    total: u32,
    /// Of a group to be near to: where there are pods that were told to go.
    going: BTreeSet<Domain>,
    /// Pods of the group that have no place yet and need not be near it themselves.
    waiting: u32,
    /// Nodes that have pods of the group, in the order of their first, where each node is a domain.
    homes: Vec<Spot>,
}

/// A node there is, or one opened by this solve, by its position.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Spot {
    Existing(usize),
    Open(usize),
}

impl Tally {
    fn pods(&self, domain: Domain) -> u32 {
        self.counts.get(&domain).map_or(0, |count| count.pods)
    }

    fn add(&mut self, domain: Domain, pods: u32) {
        let count = self.counts.entry(domain).or_default();
        if self.ranked.remove(&(count.pods, domain)) {
            self.ranked.insert((count.pods + pods, domain));
        }
        count.pods += pods;
    }

    /// Whether a pod of the group may be the first: it would be alone, and those that choose more freely have chosen. As long as
    /// pods of the group are there that were told to go it must be beside one of them: that is right whether they are gone when
    /// it comes or not.
    fn may_begin(&self, is_beside: bool) -> bool {
        self.total == 0 && self.waiting == 0 && (self.going.is_empty() || is_beside)
    }

    /// What the emptiest domain has, if there are as many domains as there should be, for certain.
    fn least(&self, min_domains: u32) -> u32 {
        let few = self.ranked.len() - self.expected.len() < min_domains as usize;
        self.ranked.first().filter(|_| !few).map_or(0, |(count, _)| *count)
    }
}

impl<'a> Topology<'a> {
    pub(super) fn new(groups: Groups<'a>) -> Self {
        let tallies = groups.found.iter().map(|_| Tally::default()).collect();
        let spreads: Vec<Vec<usize>> = (0..groups.keys.len())
            .map(|key| {
                let over = |found: &Found| found.relation == Relation::Spread && found.place == Place::Key(key);
                (0..groups.found.len()).filter(|group| over(&groups.found[*group])).collect()
            })
            .collect();
        let bundles = Rc::new(Bundles::of(&groups));
        let (groups, spreads) = (Rc::new(groups), spreads.into());
        Self {
            groups,
            bundles,
            names: Rc::default(),
            tallies,
            spreads,
            outside: Rc::default(),
            is_outside_known: true,
            opened: BTreeSet::new(),
            brought: BTreeSet::new(),
            expected: Rc::default(),
        }
    }

    /// Numbers the domains of every label, from the nodes there are and all that the pools can make (see [`possible`]).
    pub(super) fn name_domains(
        &mut self,
        nodes: &'a [Node],
        templates: &mut [Template<'a>],
        wanted: impl Fn(&str) -> Vec<Requirement>,
    ) {
        let mut all = Vec::new();
        for name in &self.groups.keys {
            // Of thousands of nodes many are in one domain.
            let there: Set<&str> = nodes.iter().filter_map(|node| label(node, name)).collect();
            let mut values: BTreeSet<String> = there.into_iter().map(str::to_owned).collect();
            let of_pools: Vec<_> = templates.iter().map(|template| possible(template, name, &wanted)).collect();
            values.extend(of_pools.iter().flatten().map(|(value, _)| value.clone()));
            let names: Vec<String> = values.into_iter().collect();
            for (template, possible) in templates.iter_mut().zip(of_pools) {
                let number = |value: String| number(&names, &value).expect("all values have been named");
                template.domains.push(possible.into_iter().map(|(value, choices)| (number(value), choices)).collect());
            }
            all.push(names);
        }
        self.names = all.into();
    }

    /// The domains that each spread is over before anything is placed: those of the nodes it counts, and those in which a
    /// pool can make a node for its pods. `asks`: by spread, what its pods ask for.
    pub(super) fn find_domains(
        &mut self,
        existing: &[Existing<'_>],
        kept: &[&Node],
        templates: &[Template<'_>],
        asks: &BTreeMap<usize, BTreeSet<Ask<'_>>>,
    ) {
        /// A label, a filter, and what pods ask for.
        type Owner<'o, 'p> = (usize, Option<usize>, &'o BTreeSet<Ask<'p>>);
        let mut known: BTreeMap<Owner<'_, '_>, Vec<Domain>> = BTreeMap::new();
        let nothing = BTreeSet::new();
        let listed = self.bundles.list(existing);
        for group in 0..self.groups.found.len() {
            let Found { relation: Relation::Spread, place: Place::Key(key), filter, .. } = self.groups.found[group]
            else {
                continue;
            };
            let asked = asks.get(&group).unwrap_or(&nothing);
            let domains = known.entry((key, filter, asked)).or_insert_with(|| {
                let there: Box<dyn Iterator<Item = &Existing<'_>>> = match filter
                    .and_then(|filter| self.bundles.admitted(filter, &self.groups.filters[filter], &listed))
                {
                    Some(some) => Box::new(some.into_iter().map(|index| &existing[index])),
                    None => Box::new(existing.iter()),
                };
                let filter = filter.map(|filter| &self.groups.filters[filter]);
                let counts = |one: &&Existing<'_>| filter.is_none_or(|filter| filter.admits(one.node, &one.labels));
                let there = there.filter(counts).filter_map(|one| match one.seats[key] {
                    Seat::In(domain) => Some(domain),
                    Seat::Nowhere | Seat::Undecided => None,
                });
                let counts = |node: &&&Node| filter.is_none_or(|filter| filter.admits(node, &labels_of(node)));
                let leaving = kept.iter().filter(counts).filter_map(|node| match self.seats(node)[key] {
                    Seat::In(domain) => Some(domain),
                    Seat::Nowhere | Seat::Undecided => None,
                });
                let new = templates.iter().flat_map(|template| self.reachable(template, key, filter, asked));
                let all: BTreeSet<Domain> = there.chain(leaving).chain(new).collect();
                all.into_iter().collect()
            });
            self.tallies[group].ranked = domains.iter().map(|domain| (0, *domain)).collect();
        }
    }

    /// The domains in which the pool can make a node for any of the pods of a spread, before this solve.
    fn reachable(
        &self,
        template: &Template<'_>,
        key: usize,
        filter: Option<&Filter<'_>>,
        asked: &BTreeSet<Ask<'_>>,
    ) -> BTreeSet<Domain> {
        let Some(filter) = filter else { return BTreeSet::new() };
        let tolerated = crate::untolerated(filter.tolerations, &template.pool.taints).is_none();
        if !tolerated || !filter.has_keys(template, &template.base) {
            return BTreeSet::new();
        }
        let open = template.choices_for(asked);
        let reached = |wanted: &Requirements| {
            let (joint, changed) = template.join(&template.base, wanted).ok()?;
            let (joint, held) = template.join(&joint, &filter.held).ok()?;
            let mut choices = open.clone();
            template.keep_holding(&mut choices, &changed);
            template.keep_holding(&mut choices, &held);
            filter.keep_keyed(template, &mut choices);
            let has = joint.get(self.groups.keys[key]);
            let allowed = |domain: Domain| has.is_none_or(|has| has.allows(Some(self.name(key, domain))));
            let possible =
                template.domains[key].iter().filter(|(domain, can)| allowed(*domain) && can.overlaps(&choices));
            Some(possible.map(|(domain, _)| *domain).collect::<Vec<_>>())
        };
        filter.alternatives.iter().filter_map(reached).flatten().collect()
    }

    /// Where a node of these labels is, label by label.
    pub(super) fn seats(&self, node: &Node) -> Vec<Seat> {
        let seat = |(name, names): (&&str, &Vec<String>)| {
            label(node, name).and_then(|value| number(names, value)).map_or(Seat::Nowhere, Seat::In)
        };
        self.groups.keys.iter().zip(&*self.names).map(seat).collect()
    }

    /// Where a new node of these choices is, in terms of one label.
    pub(super) fn new_seat(&self, template: &Template<'_>, key: usize, choices: &Bits, has: &Requirements) -> Seat {
        let wanted = has.get(self.groups.keys[key]);
        let allowed = |domain: Domain| wanted.is_none_or(|wanted| wanted.allows(Some(self.name(key, domain))));
        let mut possible =
            template.domains[key].iter().filter(|(domain, can)| allowed(*domain) && can.overlaps(choices));
        match (possible.next(), possible.next()) {
            (None, _) => Seat::Nowhere,
            (Some((domain, can)), None) if choices.is_within(can) => {
                let certain =
                    template.is_of_the_machine(self.groups.keys[key]) || wanted.is_some_and(|one| !one.may_be_absent());
                if certain { Seat::In(*domain) } else { Seat::Undecided }
            }
            _ => Seat::Undecided,
        }
    }

    /// Whether a new node of these requirements will be in one of the domains of a label, if in any: what the pool leaves
    /// open is set to some value in the end.
    pub(super) fn is_told(&self, template: &Template<'_>, key: usize, has: &Requirements) -> bool {
        let name = self.groups.keys[key];
        let Some(wanted) = has.get(name).filter(|_| !template.is_of_the_machine(name)) else { return true };
        let mut known = template.domains[key].iter();
        wanted.may_be_absent() || known.any(|(domain, _)| wanted.allows(Some(self.name(key, *domain))))
    }

    pub(super) fn name(&self, key: usize, domain: Domain) -> &str {
        &self.names[key][domain as usize]
    }

    /// The requirement that puts a node into a domain.
    pub(super) fn pin(&self, key: usize, domain: Domain) -> Requirement {
        Requirement::one_of(self.groups.keys[key], [self.name(key, domain)])
    }

    /// Whether a pod of these relations may be in the domain.
    pub(super) fn verdict(&self, relations: &Relations, key: usize, seat: Seat) -> Verdict {
        for rule in relations.on(key) {
            let verdict = self.rule_verdict(relations, rule, seat);
            if verdict != Verdict::Fine {
                return verdict;
            }
        }
        if let Seat::In(domain) = seat {
            let here = |(group, _): &&(usize, Place)| {
                self.tallies[*group].counts.get(&domain).is_some_and(|count| count.owners > 0)
            };
            if relations.repelled.iter().filter(|(_, place)| *place == Place::Key(key)).any(|one| here(&one)) {
                return Verdict::Never;
            }
        }
        Verdict::Fine
    }

    /// What one demand, of these, says to a domain.
    pub(super) fn rule_verdict(&self, relations: &Relations, rule: &Rule, seat: Seat) -> Verdict {
        let tally = &self.tallies[rule.group];
        let Seat::In(domain) = seat else {
            // Without the label nothing is near and nothing evenly spread.
            return if rule.demand == Demand::Apart { Verdict::Fine } else { Verdict::Never };
        };
        let pods = tally.pods(domain);
        let (fine, otherwise) = match rule.demand {
            Demand::Spread { max_skew, min_domains, itself } => {
                let after = pods.saturating_add(u32::from(itself));
                (after.saturating_sub(tally.least(min_domains)) <= max_skew, Verdict::NotNow)
            }
            Demand::Near { itself } => {
                let is_beside = tally.going.contains(&domain);
                (pods > 0 || (itself && self.may_begin(relations, rule.group, is_beside)), Verdict::NotNow)
            }
            Demand::Apart => (pods == 0, Verdict::Never),
        };
        if fine { Verdict::Fine } else { otherwise }
    }

    /// Whether a pod of these relations may be the first of a group: none of its pods may be in a domain, be it of another demand to
    /// be near to the same pods. On nodes without the label these do not count.
    fn may_begin(&self, relations: &Relations, group: usize, is_beside: bool) -> bool {
        let near = relations.rules.iter().filter(|rule| matches!(rule.demand, Demand::Near { .. }));
        let mut same = near.map(|rule| rule.group).filter(|other| self.groups.count_the_same(group, *other));
        self.tallies[group].may_begin(is_beside) && same.all(|other| !self.is_populated(other))
    }

    /// Whether a pod of these relations may be on a node with these pods.
    pub(super) fn verdict_here(&self, relations: &Relations, here: &Here) -> Verdict {
        let count = |group: &usize| here.0.get(group).copied().unwrap_or_default();
        let mut verdict = Verdict::Fine;
        for rule in relations.rules.iter().filter(|rule| rule.place == Place::Host) {
            let Count { pods, going, .. } = count(&rule.group);
            let (fine, otherwise) = match rule.demand {
                // A node without any such pod can always be made, so the emptiest has none.
                Demand::Spread { max_skew, itself, .. } => {
                    (pods.saturating_add(u32::from(itself)) <= max_skew, Verdict::Never)
                }
                Demand::Near { itself } => {
                    (pods > 0 || (itself && self.may_begin(relations, rule.group, going)), Verdict::NotNow)
                }
                Demand::Apart => (pods == 0, Verdict::Never),
            };
            match otherwise {
                _ if fine => {}
                Verdict::Never => return Verdict::Never,
                _ => verdict = otherwise,
            }
        }
        let shunned = relations.repelled.iter().any(|(group, place)| *place == Place::Host && count(group).owners > 0);
        if shunned { Verdict::Never } else { verdict }
    }

    /// The domains of a label in which a pod of these relations may be now, in the order in which to try them.
    pub(super) fn domains_to_try<'s>(
        &'s self,
        relations: &'s Relations,
        key: usize,
    ) -> impl Iterator<Item = Domain> + 's {
        let near = relations.on(key).find(|rule| matches!(rule.demand, Demand::Near { .. }));
        let spread = relations.on(key).find(|rule| matches!(rule.demand, Demand::Spread { .. }));
        let domains: Box<dyn Iterator<Item = Domain> + 's> = match (near, spread) {
            (Some(rule), _) if self.tallies[rule.group].total > 0 => {
                Box::new(self.tallies[rule.group].counts.keys().copied())
            }
            (_, Some(rule)) => {
                let ranked = self.tallies[rule.group].ranked.iter().map(|(_, domain)| *domain);
                // Counts only grow along the ranking: after the first that is too full all are.
                Box::new(
                    ranked.take_while(|domain| self.rule_verdict(relations, rule, Seat::In(*domain)) == Verdict::Fine),
                )
            }
            _ => Box::new((0..self.names[key].len()).filter_map(|domain| Domain::try_from(domain).ok())),
        };
        domains.filter(move |domain| self.verdict(relations, key, Seat::In(*domain)) == Verdict::Fine)
    }

    /// How full a domain is for a pod's spreads: what to prefer the least of.
    pub(super) fn fullness(&self, relations: &Relations, key: usize, domain: Domain) -> u32 {
        let spreads = relations.on(key).filter(|rule| matches!(rule.demand, Demand::Spread { .. }));
        spreads.map(|rule| self.tallies[rule.group].pods(domain)).fold(0, u32::saturating_add)
    }

    /// Nodes with pods of the group, in the order in which they got the first.
    pub(super) fn homes(&self, group: usize) -> &[Spot] {
        &self.tallies[group].homes
    }

    /// The new nodes are these now, in this order, with these pods.
    pub(super) fn rehome<'h>(&mut self, open: impl Iterator<Item = &'h Here>) {
        for tally in &mut self.tallies {
            tally.homes.retain(|spot| matches!(spot, Spot::Existing(_)));
        }
        for (index, here) in open.enumerate() {
            for (group, _) in here.0.iter().filter(|(_, count)| count.pods > 0) {
                self.tallies[*group].homes.push(Spot::Open(index));
            }
        }
    }

    /// So many pods of the group, with no demand to be near it, are yet to be placed.
    pub(super) fn await_pods(&mut self, group: usize, pods: u32) {
        self.tallies[group].waiting = self.tallies[group].waiting.saturating_add(pods);
    }

    /// One of these has a place.
    pub(super) fn await_less(&mut self, group: usize) {
        self.tallies[group].waiting = self.tallies[group].waiting.saturating_sub(1);
    }

    /// Lets the first of the groups that nobody has begun, or all of them, begin without those that are still awaited.
    /// Whether there was one.
    pub(super) fn stop_waiting(&mut self, all: bool) -> bool {
        let waiting = self.tallies.iter_mut().filter(|tally| tally.total == 0 && tally.waiting > 0);
        waiting.take(if all { usize::MAX } else { 1 }).map(|tally| tally.waiting = 0).count() > 0
    }

    /// Whether the group has a pod in any domain.
    pub(super) fn is_populated(&self, group: usize) -> bool {
        self.tallies[group].total > 0
    }

    /// Where there are pods of a group to be near to that were told to go: domains, or the positions of nodes there are.
    pub(super) fn going(&self, group: usize) -> impl Iterator<Item = Domain> {
        self.tallies[group].going.iter().copied()
    }

    /// The domains with pods of the group, and how many, by name.
    pub(super) fn populated(&self, group: usize) -> Vec<(String, u32)> {
        let Place::Key(key) = self.groups.found[group].place else { return Vec::new() };
        let counts = self.tallies[group].counts.iter().filter(|(_, count)| count.pods > 0);
        counts.map(|(domain, count)| (self.name(key, *domain).to_owned(), count.pods)).collect()
    }

    /// The domains with pods of the group.
    pub(super) fn populated_domains(&self, group: usize) -> Vec<Domain> {
        let counts = self.tallies[group].counts.iter();
        counts.filter(|(_, count)| count.pods > 0).map(|(domain, _)| *domain).collect()
    }

    /// The domains that a spread is over, with the pods in each.
    pub(super) fn spread_over(&self, group: usize) -> Vec<(Domain, u32)> {
        self.tallies[group].ranked.iter().map(|(pods, domain)| (*domain, *pods)).collect()
    }

    /// Whether no group has a pod, or somebody who keeps pods away, in a domain of a label.
    pub(super) fn is_empty_in(&self, key: usize, domain: Domain) -> bool {
        let over = self.groups.found.iter().zip(&self.tallies).filter(|(found, _)| found.place == Place::Key(key));
        let mut counts = over.filter_map(|(_, tally)| tally.counts.get(&domain));
        counts.all(|count| count.pods == 0 && count.owners == 0)
    }

    /// The spreads over a label for which a domain counts.
    pub(super) fn spreads_over(&self, key: usize, domain: Domain) -> Vec<usize> {
        let over = |group: &&usize| self.tallies[**group].ranked.iter().any(|(_, one)| *one == domain);
        self.spreads[key].iter().filter(over).copied().collect()
    }

    pub(super) fn pods_in(&self, group: usize, domain: Domain) -> u32 {
        self.tallies[group].pods(domain)
    }
}

fn number(names: &[String], value: &str) -> Option<Domain> {
    let position = names.binary_search_by(|name| name.as_str().cmp(value)).ok()?;
    Domain::try_from(position).ok()
}
