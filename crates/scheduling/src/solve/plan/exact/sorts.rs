//! What a new node can be opened as, so that whatever is decided about it later takes nothing away.

use std::collections::{BTreeMap, BTreeSet};

use requirements::{Requirement, Requirements};

use crate::solve::{axis, bits::Bits, search::Search, template::Template, topology::Domain};

/// More for one pool are too many.
const SORTS: usize = 200;

/// Choices of a pool that no pod tells apart but by their labels alone, in one domain of every label that relates pods.
#[derive(Clone)]
pub(super) struct Sort {
    pub(super) choices: Bits,
    /// The domains of labels that the pool leaves open.
    pub(super) labels: Requirements,
    /// By label that relates pods: its domain, if it is known.
    pub(super) seats: Vec<Option<Domain>>,
}

/// The sorts of all pools.
pub(super) struct Sorts {
    in_domains: Vec<Vec<Sort>>,
    anywhere: Vec<Vec<Sort>>,
    /// Whether every node that could be made is of one of the sorts.
    pub(super) are_all: bool,
}

impl Sorts {
    /// For so many pods, of these kinds; `None` if there are too many.
    pub(super) fn of(search: &Search<'_>, kinds: &[usize], pods: usize) -> Option<Self> {
        let alternatives: BTreeSet<usize> =
            kinds.iter().copied().filter(|kind| search.kinds[*kind].shape.alternatives.len() > 1).collect();
        let mut sorts = Self { in_domains: Vec::new(), anywhere: Vec::new(), are_all: true };
        for template in search.templates.iter() {
            let maker = Maker { search, template, alternatives: &alternatives, is_tight: is_tight(template, pods) };
            let (in_domains, anywhere) = (maker.sorts(true)?, maker.sorts(false)?);
            sorts.are_all &= maker.are_all();
            sorts.in_domains.push(in_domains);
            sorts.anywhere.push(anywhere);
        }
        Some(sorts)
    }

    /// A sort by the number that states have of it: one for pods with relations is odd.
    pub(super) fn sort(&self, template: usize, number: usize) -> &Sort {
        &self.of_pools(number % 2 == 1)[template][number / 2]
    }

    /// Those for pods that have relations, or for the others.
    pub(super) fn of_pools(&self, related: bool) -> &[Vec<Sort>] {
        if related { &self.in_domains } else { &self.anywhere }
    }
}

/// Whether so many nodes, whatever they are, may be too much for what is left to the pool.
fn is_tight(template: &Template<'_>, pods: usize) -> bool {
    let pods = i64::try_from(pods).unwrap_or(i64::MAX);
    let scarce = |remaining: Option<u32>| remaining.is_some_and(|remaining| i64::from(remaining) < pods);
    let limited = |position: usize, left: i64| {
        let most = template.choices.iter().map(|choice| choice.limited[position].max(0)).max().unwrap_or(0);
        left < most.saturating_mul(pods)
    };
    template.choices.iter().any(|choice| scarce(choice.remaining))
        || template.limits.iter().enumerate().any(|(position, limit)| limited(position, limit.left))
}

struct Maker<'m, 'a> {
    search: &'m Search<'a>,
    template: &'m Template<'a>,
    /// The kinds with several alternatives.
    alternatives: &'m BTreeSet<usize>,
    is_tight: bool,
}

/// All that tells choices apart: what they cost where limits do, domains, and what they meet.
type Marks<'m> = (Option<(i64, usize, &'m [i64], Option<usize>)>, Vec<Vec<Domain>>, Vec<bool>);

impl<'m> Maker<'m, '_> {
    fn sorts(&self, in_domains: bool) -> Option<Vec<Sort>> {
        let template = self.template;
        let keys = if in_domains { self.search.topology.groups.keys.len() } else { 0 };
        let met: Vec<Bits> = if template.min_values.is_empty() { self.met() } else { Vec::new() };
        let mut found: BTreeMap<Marks<'m>, Vec<usize>> = BTreeMap::new();
        for index in template.available.iter() {
            let choice = &template.choices[index];
            let tight = self.is_tight && template.min_values.is_empty();
            let cost = (choice.price.0, choice.shape, choice.limited.as_slice(), choice.remaining.map(|_| index));
            let domains = (0..keys).map(|key| self.domains(key, index)).collect();
            let alternatives = met.iter().map(|met| met.contains(index)).collect();
            found.entry((tight.then_some(cost), domains, alternatives)).or_default().push(index);
        }
        let mut sorts = Vec::new();
        for ((_, domains, _), choices) in found {
            let choices = Bits::of(template.choices.len(), choices);
            let mut combined = vec![Requirements::new()];
            for (key, domains) in domains.iter().enumerate() {
                if template.is_of_the_machine(self.search.topology.groups.keys[key]) || domains.is_empty() {
                    continue;
                }
                let with = |one: &Requirements, domain: Domain| {
                    let mut more = one.clone();
                    more.add(self.search.topology.pin(key, domain));
                    more
                };
                combined = combined.iter().flat_map(|one| domains.iter().map(|domain| with(one, *domain))).collect();
                if combined.len() > SORTS {
                    return None;
                }
            }
            let seats: Vec<_> =
                domains.iter().map(|domains| if let [only] = domains[..] { Some(only) } else { None }).collect();
            for choices in self.levels(choices) {
                let sort = |labels: &Requirements| {
                    let (choices, labels, seats) = (choices.clone(), labels.clone(), seats.clone());
                    Sort { choices, labels, seats }
                };
                sorts.extend(combined.iter().map(sort));
            }
            if sorts.len() > SORTS {
                return None;
            }
        }
        // The cheapest first.
        sorts.sort_by_key(|sort| sort.choices.iter().next());
        Some(sorts)
    }

    /// These choices and, where different values are demanded, those of them that take no more of the limits than one does: with all
    /// of them a node would be charged with the largest.
    fn levels(&self, choices: Bits) -> Vec<Bits> {
        let template = self.template;
        if !self.is_tight || template.min_values.is_empty() {
            return vec![choices];
        }
        let limited = |choice: usize| &template.choices[choice].limited;
        let levels: BTreeSet<&Vec<i64>> = choices.iter().map(limited).collect();
        let within = |level: &Vec<i64>| {
            let mut kept = choices.clone();
            kept.retain(|choice| axis::fits(limited(choice), level));
            kept
        };
        let of_levels = levels.into_iter().map(within).filter(|kept| template.too_few_values(kept).is_none());
        let mut found: Vec<Bits> = of_levels.filter(|kept| *kept != choices).collect();
        found.push(choices.clone());
        found
    }

    fn domains(&self, key: usize, choice: usize) -> Vec<Domain> {
        let can = |(_, choices): &&(Domain, Bits)| choices.contains(choice);
        self.template.domains[key].iter().filter(can).map(|(domain, _)| *domain).collect()
    }

    /// The alternatives of each kind that has several, and those by which spreads tell the nodes on which they count.
    fn wanted(&self) -> impl Iterator<Item = &'m Requirements> {
        let of_kinds = self.alternatives.iter().flat_map(|kind| &self.search.kinds[*kind].shape.alternatives);
        let by_affinity = self.search.topology.groups.filters.iter().filter(|filter| filter.by_affinity);
        of_kinds.chain(by_affinity.flat_map(|filter| &filter.alternatives))
    }

    /// For each of what is wanted: the choices that meet it.
    fn met(&self) -> Vec<Bits> {
        let template = self.template;
        let met = self.wanted().map(|alternative| match template.join(&template.base, alternative) {
            Ok((_, changed)) => {
                let mut choices = template.available.clone();
                template.keep_holding(&mut choices, &changed);
                choices
            }
            Err(_) => Bits::none(template.choices.len()),
        });
        met.collect()
    }

    /// Whether nothing that a node of the pool could be is left out.
    fn are_all(&self) -> bool {
        let (search, template) = (self.search, self.template);
        let keys = &search.topology.groups.keys;
        let fixed = |key: &str| template.base.get(key).and_then(Requirement::finite).is_some_and(|one| one.len() == 1);
        let has_one = |key: &str| {
            let of_machine = |index: usize| {
                let mut values = BTreeSet::new();
                template.choices[index].adds_to(key, &mut values);
                values.len() == 1
            };
            if template.is_of_the_machine(key) {
                template.available.iter().all(of_machine)
            } else {
                template.base.get(key).is_none_or(|base| base.finite().is_some())
            }
        };
        let open = self.wanted().flat_map(Requirements::iter).map(Requirement::key).any(|key| {
            let is_set = template.base.get(key).is_some() && !template.is_of_the_machine(key);
            is_set && !fixed(key)
        });
        let are_alike = |met: Bits| met.is_empty() || met == template.available;
        let values = template.min_values.is_empty()
            || !(self.is_tight || search.settings.relax_min_values || keys.len() > 1)
                && self.met().into_iter().all(are_alike);
        !open && values && keys.iter().all(|key| has_one(key))
    }
}
