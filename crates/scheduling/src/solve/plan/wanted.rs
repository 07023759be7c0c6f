//! Which pods are to be planned for, how many of each kind, and in which domains: what spreads and affinities over labels
//! of nodes mean when only counts are looked at.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    super::{
        relations::{Demand, Place, Relation, Rule},
        search::Search,
        topology::{Domain, Seat, Verdict},
    },
    MANY,
    reach::Reach,
};

/// By label: the domains in one of which something has to be.
pub(super) type Within = Vec<(usize, Vec<Domain>)>;

/// So many pods of a kind, the pools that may have nodes for them, and the domains they have to be in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Wanted {
    pub(super) kind: usize,
    pub(super) count: u64,
    /// How many pods each of them stands for, all on one node.
    pub(super) pods: u64,
    pub(super) templates: Vec<usize>,
    pub(super) within: Within,
    /// So many pods of other kinds are with each of them, on its node.
    pub(super) beside: Vec<(usize, u64)>,
}

impl Wanted {
    /// So many pods of one kind.
    pub(super) fn of(kind: usize, count: u64, templates: impl IntoIterator<Item = usize>, within: Within) -> Self {
        Self { kind, count, pods: 1, templates: templates.into_iter().collect(), within, beside: Vec::new() }
    }

    /// The kinds of all pods that it stands for.
    pub(super) fn kinds(&self) -> impl Iterator<Item = usize> {
        std::iter::once(self.kind).chain(self.beside.iter().map(|(kind, _)| *kind))
    }
}

/// What to plan for. Pods with spreads are dealt out to domains, the emptiest first, those that must be alone in their domain
/// one to each; pods to be near each other go where `greedy` has put them, and all onto one node as one. Left out are those
/// that must be beside others on a node, or without others in a domain, and where kinds are many those with a spread of others.
/// `evenly`: pods that may be anywhere are dealt out, too, where others' spreads count them, so that these may be anywhere.
pub(super) fn planned(
    search: &Search<'_>,
    reach: &Reach,
    counts: &[u64],
    greedy: &Search<'_>,
    evenly: bool,
) -> Vec<Wanted> {
    let mut filled: BTreeMap<usize, BTreeMap<Domain, u64>> = BTreeMap::new();
    let mut alone: BTreeSet<(usize, Domain)> = BTreeSet::new();
    let mut wanted = Vec::new();
    let members = members(search, counts);
    let demanded = if evenly { demanded(search, counts) } else { BTreeMap::new() };
    for (kind, count) in counted(counts) {
        let templates: Vec<usize> = reach.templates(kind).collect();
        let rules = &search.kinds[kind].shape.relations.rules;
        if is_one_heap(search, &members, kind) {
            wanted.push(Wanted { pods: count, ..Wanted::of(kind, 1, templates, Within::new()) });
            continue;
        }
        if let Some((key, group)) = is_alone(search, &members, kind) {
            let relations = &search.kinds[kind].shape.relations;
            let free = |domain: &Domain| {
                !alone.contains(&(group, *domain))
                    && search.topology.verdict(relations, key, Seat::In(*domain)) == Verdict::Fine
            };
            let free = possible(search, reach, kind, key, &[]).into_iter().filter(free);
            for domain in free.take(usize::try_from(count).unwrap_or(usize::MAX)).collect::<Vec<_>>() {
                alone.insert((group, domain));
                let within = vec![(key, vec![domain])];
                wanted.push(Wanted::of(kind, 1, templates.clone(), within));
            }
            continue;
        }
        let near = |rule: &&Rule| matches!(rule.demand, Demand::Near { .. });
        let on_label = rules.iter().filter_map(|rule| match rule.place {
            Place::Key(key) => Some((key, rule)),
            Place::Host => None,
        });
        // Among many kinds these would take more of the others' precision than they gain.
        let many = search.kinds.len() > MANY;
        let left_out = rules.iter().any(|rule| {
            // Where only pods that run are to be kept away from, `reach` says all.
            let apart = matches!((rule.place, rule.demand), (Place::Key(_), Demand::Apart))
                && !members[search.topology.groups.first_alike[rule.group]].is_empty();
            apart
                || matches!((rule.place, rule.demand), (Place::Host, Demand::Near { .. }))
                || many && rule.is_about_others()
        });
        if left_out {
            continue;
        }
        let whole = |within| Wanted::of(kind, count, templates.clone(), within);
        if let Some((key, rule)) = on_label.clone().find(|(_, rule)| near(rule)) {
            let domains: Vec<Domain> = greedy.topology.populated_domains(rule.group);
            wanted.push(whole((!domains.is_empty()).then_some((key, domains)).into_iter().collect()));
            continue;
        }
        let mut dealt_by: BTreeMap<usize, usize> = BTreeMap::new();
        for (key, rule) in on_label.clone().filter_map(|(key, rule)| dealt_by_rule(search, kind, key, rule)).rev() {
            dealt_by.insert(key, rule);
        }
        if on_label.clone().next().is_none() {
            let counted = &search.kinds[kind].shape.relations.counted;
            dealt_by.extend(counted.iter().find_map(|(first, _)| demanded.get(first).copied()));
        }
        let mut parts = vec![(Within::new(), count)];
        for (key, group) in dealt_by {
            let filled = filled.entry(group).or_insert_with(|| {
                let over = search.topology.spread_over(group).into_iter();
                over.map(|(domain, pods)| (domain, u64::from(pods))).collect()
            });
            let deal_out = |(within, count): (Within, u64)| {
                let dealt = deal(filled, &possible(search, reach, kind, key, &within), count);
                let more = |(domain, count)| ([within.as_slice(), &[(key, vec![domain])]].concat(), count);
                dealt.into_iter().map(more).collect::<Vec<_>>()
            };
            parts = parts.into_iter().flat_map(deal_out).collect();
        }
        let inside = |(within, count)| Wanted::of(kind, count, templates.clone(), within);
        wanted.extend(parts.into_iter().map(inside));
    }
    wanted
}

/// The spread by which pods that demand this one are dealt out: where they do not count in it themselves, one in which they do,
/// so that those who come after them may still go anywhere. None if nobody cares where they are.
fn dealt_by_rule(search: &Search<'_>, kind: usize, key: usize, rule: &Rule) -> Option<(usize, usize)> {
    if !rule.is_about_others() {
        return Some((key, rule.group));
    }
    let spread = |group: usize| search.topology.groups.found[group].relation == Relation::Spread;
    let mut counted = search.kinds[kind].shape.relations.counted.iter();
    let own = counted.find(|(group, place)| *place == Place::Key(key) && spread(*group));
    own.map(|(group, _)| (key, *group))
}

/// By the first group of each bundle: a spread over a label that some of the pods demand.
fn demanded(search: &Search<'_>, counts: &[u64]) -> BTreeMap<usize, (usize, usize)> {
    let rules = counted(counts).flat_map(|(kind, _)| &search.kinds[kind].shape.relations.rules);
    let spread = |rule: &Rule| match (rule.place, rule.demand) {
        (Place::Key(key), Demand::Spread { .. }) => {
            Some((search.topology.groups.first_alike[rule.group], (key, rule.group)))
        }
        _ => None,
    };
    rules.filter_map(spread).collect()
}

/// Whether all pods of the kind have to be on one node, and no others are in question: then they are like one large pod.
fn is_one_heap(search: &Search<'_>, members: &[Vec<usize>], kind: usize) -> bool {
    let shape = &search.kinds[kind].shape;
    let rules = &shape.relations.rules;
    let gathers = |rule: &Rule| {
        matches!(rule.demand, Demand::Near { itself: true })
            && !search.topology.is_populated(rule.group)
            && members[rule.group] == [kind]
    };
    rules.iter().any(|rule| rule.place == Place::Host) && rules.iter().all(gathers) && shape.ports.is_empty()
}

/// The label over which pods of the kind have to be away from each other, if that is all, and the group of those that have
/// to be away from all of it.
fn is_alone(search: &Search<'_>, members: &[Vec<usize>], kind: usize) -> Option<(usize, usize)> {
    let mut over = search.kinds[kind].shape.relations.rules.iter().filter_map(|rule| match rule.place {
        Place::Key(key) => Some((key, rule)),
        Place::Host => None,
    });
    let ((key, rule), None) = (over.next()?, over.next()) else { return None };
    let same = |other: usize| search.kinds[other].shape.relations.rules.contains(rule);
    let all = &members[rule.group];
    (rule.demand == Demand::Apart && !all.is_empty() && all.iter().all(|other| same(*other)))
        .then_some((key, rule.group))
}

/// By the first group of each bundle: the kinds of the pods to place that count in it.
fn members(search: &Search<'_>, counts: &[u64]) -> Vec<Vec<usize>> {
    let mut members = vec![Vec::new(); search.topology.groups.found.len()];
    for (kind, _) in counted(counts) {
        for (group, _) in &search.kinds[kind].shape.relations.counted {
            members[*group].push(kind);
        }
    }
    members.iter_mut().for_each(Vec::dedup);
    members
}

/// What any plan has to provide for at least. Of a spread's pods only those are sure to be in a domain that no other way of
/// spreading could put elsewhere.
pub(super) fn unavoidable(search: &Search<'_>, reach: &Reach, counts: &[u64]) -> Vec<Wanted> {
    let mut wanted = Vec::new();
    let members = members(search, counts);
    for (kind, count) in counted(counts) {
        let templates: Vec<usize> = reach.templates(kind).collect();
        let mut free = count;
        if let Some((key, least, domains)) = least_in_each(search, &members, kind, count) {
            for domain in domains.into_iter().filter(|_| least > 0) {
                let within = vec![(key, vec![domain])];
                wanted.push(Wanted::of(kind, least, templates.clone(), within));
                free -= least;
            }
        }
        if free > 0 {
            wanted.push(Wanted::of(kind, free, templates, Within::new()));
        }
    }
    wanted
}

pub(super) fn counted(counts: &[u64]) -> impl Iterator<Item = (usize, u64)> {
    counts.iter().copied().enumerate().filter(|(_, count)| *count > 0)
}

/// How many pods of the kind are in each of the domains at least, once all have a place: where only they count in a spread
/// and nothing counts yet.
fn least_in_each(
    search: &Search<'_>,
    members: &[Vec<usize>],
    kind: usize,
    count: u64,
) -> Option<(usize, u64, Vec<Domain>)> {
    let rules = &search.kinds[kind].shape.relations.rules;
    rules.iter().find_map(|rule| {
        let (Place::Key(key), Demand::Spread { max_skew, itself: true, .. }) = (rule.place, rule.demand) else {
            return None;
        };
        let over = search.topology.spread_over(rule.group);
        let fixed =
            search.templates.iter().all(|template| template.is_of_the_machine(search.topology.groups.keys[key]));
        if !fixed
            || over.is_empty()
            || search.topology.is_expecting(rule.group)
            || over.iter().any(|(_, pods)| *pods > 0)
            || members[search.topology.groups.first_alike[rule.group]].iter().any(|other| *other != kind)
        {
            return None;
        }
        // The fullest may have so many more than the emptiest: with the most pods elsewhere that many remain for each.
        let domains = over.len() as u64;
        let elsewhere = u64::from(max_skew).saturating_mul(domains - 1);
        let least = count.saturating_sub(elsewhere).div_ceil(domains);
        Some((key, least, over.into_iter().map(|(domain, _)| domain).collect()))
    })
}

/// The domains of a label in which there can be new nodes for the kind, within these of others.
fn possible(
    search: &Search<'_>,
    reach: &Reach,
    kind: usize,
    key: usize,
    within: &[(usize, Vec<Domain>)],
) -> Vec<Domain> {
    let mut possible = Vec::new();
    for (index, template) in search.templates.iter().enumerate() {
        let mut there = reach.choices(kind, index).clone();
        for (key, domains) in within {
            there.keep_common(&template.choices_in(*key, domains));
        }
        let can = |(_, choices): &&(Domain, _)| there.overlaps(choices);
        possible.extend(template.domains[key].iter().filter(can).map(|(domain, _)| *domain));
    }
    possible.sort_unstable();
    possible.dedup();
    possible
}

/// Deals pods out, one by one, always to the emptiest of the possible domains, which are in order.
fn deal(filled: &mut BTreeMap<Domain, u64>, possible: &[Domain], count: u64) -> Vec<(Domain, u64)> {
    let mut dealt: BTreeMap<Domain, u64> = BTreeMap::new();
    let open = filled.iter().filter(|(domain, _)| possible.binary_search(domain).is_ok());
    let mut ranked: BTreeSet<(u64, Domain)> = open.map(|(domain, pods)| (*pods, *domain)).collect();
    for _ in 0..count {
        let Some((pods, domain)) = ranked.pop_first() else { break };
        ranked.insert((pods + 1, domain));
        *filled.entry(domain).or_default() += 1;
        *dealt.entry(domain).or_default() += 1;
    }
    dealt.into_iter().collect()
}
