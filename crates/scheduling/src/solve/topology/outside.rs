//! Domains that new nodes bring into a spread whose own pods cannot go there.
//!
//! A spread with `nodeTaintsPolicy: Ignore` counts nodes of pools that its pods do not tolerate, and any spread counts nodes that are
//! too small for its pods. The first such node in a domain makes it one of the spread's, with no pods: whoever of these is bound
//! after that may find every other domain too full. In which order nodes come up nobody knows. So a node stays out of such domains where it can, and brings one in only if the pods
//! placed so far are even with it, too.

use std::{collections::BTreeMap, rc::Rc};

use super::{
    super::{
        bits::Bits,
        kind::Kind,
        relations::{Demand, Place, Relations},
        template::Template,
    },
    Domain, Seat, Topology,
};

/// By label and domain: what a pool's first node there would bring it into.
pub(in crate::solve) type Outside = BTreeMap<(usize, Domain), Brought>;

/// Spreads that may count a node in a domain that they do not have yet.
pub(in crate::solve) struct Brought {
    pub(super) groups: Rc<[usize]>,
    /// The choices of the pool with which any of them does.
    pub(super) choices: Bits,
}

/// By label and domain: spreads.
pub(in crate::solve) type Expected = BTreeMap<(usize, Domain), Vec<usize>>;

/// So many domains are tried, and named.
const NAMED: usize = 10;
/// Of so many spreads and domains account is taken.
const MOST: usize = 100_000;

impl Topology<'_> {
    /// Finds them, once it is known which domains each spread is over.
    pub(in crate::solve) fn find_outside(&mut self, templates: &[Template<'_>]) {
        let mut left = MOST;
        let mut of_pool = |template: &Template<'_>| {
            let mut outside: BTreeMap<(usize, Domain), (Vec<usize>, Bits)> = BTreeMap::new();
            for (key, groups) in self.spreads.iter().enumerate() {
                for group in groups {
                    let filter = self.groups.found[*group].filter.map(|filter| &self.groups.filters[filter]);
                    let brings = |(domain, can): &(Domain, Bits)| {
                        let counted = || {
                            let mut there = template.base.clone();
                            there.add(self.pin(key, *domain));
                            let mut choices = can.clone();
                            choices.keep_common(&template.affordable);
                            filter.map_or_else(|| choices.clone(), |one| one.counted_of(template, &there, &choices))
                        };
                        let counted = (!self.has_domain(*group, *domain)).then(counted)?;
                        (!counted.is_empty()).then_some((*domain, counted))
                    };
                    for (domain, counted) in template.domains[key].iter().filter_map(brings).take(left) {
                        let none = || (Vec::new(), Bits::none(template.choices.len()));
                        let (groups, choices) = outside.entry((key, domain)).or_insert_with(none);
                        groups.push(*group);
                        choices.add_all(&counted);
                        left -= 1;
                    }
                }
            }
            let brought =
                |(at, (groups, choices)): (_, (Vec<usize>, Bits))| (at, Brought { groups: groups.into(), choices });
            outside.into_iter().map(brought).collect()
        };
        self.outside = templates.iter().map(&mut of_pool).collect();
        self.is_outside_known = left > 0;
    }

    /// Lets spreads be over domains, too, that others of the pods they count may bring: those that can go nowhere else are to be
    /// even with these from the first.
    pub(in crate::solve) fn expect_domains(&mut self, kinds: &[&Kind<'_>]) {
        let mut counted: BTreeMap<usize, Vec<&Kind<'_>>> = BTreeMap::new();
        for &kind in kinds {
            let on_labels = |(_, place): &&(usize, Place)| matches!(place, Place::Key(_));
            for (first, _) in kind.shape.relations.counted.iter().filter(on_labels) {
                counted.entry(*first).or_default().push(kind);
            }
        }
        let mut all = Expected::new();
        for (index, outside) in self.outside.iter().enumerate() {
            for (&(key, domain), Brought { groups, choices }) in outside {
                let goes_there =
                    |kind: &&Kind<'_>| kind.fresh[index].as_ref().is_some_and(|fresh| fresh.choices.overlaps(choices));
                // What one group finds out serves all that count the same pods.
                let mut known: BTreeMap<usize, bool> = BTreeMap::new();
                let mut is_expected = |group: &&usize| {
                    let first = self.groups.first_alike[**group];
                    let any = || counted.get(&first).is_some_and(|kinds| kinds.iter().any(goes_there));
                    *known.entry(first).or_insert_with(any)
                };
                let expected: Vec<usize> = groups.iter().filter(|group| is_expected(group)).copied().collect();
                if !expected.is_empty() {
                    all.entry((key, domain)).or_default().extend(expected);
                }
            }
        }
        for ((_, domain), groups) in &all {
            for group in groups {
                let tally = &mut self.tallies[*group];
                let pods = tally.pods(*domain);
                if tally.ranked.insert((pods, *domain)) {
                    tally.expected.insert(*domain);
                }
            }
        }
        self.expected = Rc::new(all);
    }

    /// Whether the spread is over domains that it may turn out not to be over.
    pub(in crate::solve) fn is_expecting(&self, group: usize) -> bool {
        self.expected.values().any(|groups| groups.contains(&group))
    }

    /// The domains, by label, that are expected and that no new node is in for certain.
    pub(in crate::solve) fn not_brought(&self) -> Vec<(usize, Domain)> {
        self.expected.keys().filter(|expected| !self.brought.contains(expected)).copied().collect()
    }

    /// Gives up expecting a domain.
    pub(in crate::solve) fn stop_expecting(&mut self, expected: (usize, Domain)) {
        let (_, domain) = expected;
        for group in Rc::make_mut(&mut self.expected).remove(&expected).into_iter().flatten() {
            let tally = &mut self.tallies[group];
            let pods = tally.pods(domain);
            if tally.expected.remove(&domain) {
                tally.ranked.remove(&(pods, domain));
            }
        }
    }

    /// Whether there is any such domain.
    pub(in crate::solve) fn has_outside(&self) -> bool {
        self.outside.iter().any(|outside| !outside.is_empty())
    }

    /// The sets of a pool's choices, all of these or fewer, to try one after another: those that bring no domain into a spread;
    /// those that bring one, as far as they may, domain by domain, the cheapest first; and where a node must leave a choice, all.
    pub(in crate::solve) fn by_domains_brought(
        &self,
        index: usize,
        template: &Template<'_>,
        choices: Bits,
    ) -> Vec<Bits> {
        let outside = &self.outside[index];
        if outside.is_empty() {
            return vec![choices];
        }
        let (mut inside, mut allowed) = (choices.clone(), choices);
        for (&(_, domain), brought) in outside {
            if !brought.groups.iter().all(|group| self.has_domain(*group, domain)) {
                inside.remove_all(&brought.choices);
                if !brought.groups.iter().all(|group| self.is_even_with(*group, domain)) {
                    allowed.remove_all(&brought.choices);
                }
            }
        }
        // A node that must leave a choice may need them all; it counts as being in each of these domains then.
        let all = (!template.min_values.is_empty()).then(|| allowed.clone());
        allowed.remove_all(&inside);
        let mut sets: Vec<Bits> = (!inside.is_empty()).then_some(inside).into_iter().collect();
        loop {
            let cheapest = allowed.iter().next();
            let Some(cheapest) = cheapest.filter(|_| sets.len() <= NAMED) else {
                sets.extend(all.filter(|all| !all.is_empty() && !sets.contains(all)));
                return sets;
            };
            // One new domain of a label is enough.
            let mut one = allowed.clone();
            for key in outside.keys().map(|(key, _)| *key) {
                let mut domains = template.domains[key].iter();
                if let Some((_, can)) = domains.find(|(_, can)| can.contains(cheapest)) {
                    one.keep_common(can);
                }
            }
            allowed.remove_all(&one);
            sets.push(one);
        }
    }

    /// The label of which all these choices would bring domains into a spread that may not be, and these domains, by name.
    pub(in crate::solve) fn domains_not_brought(
        &self,
        index: usize,
        template: &Template<'_>,
        choices: &Bits,
    ) -> Option<(usize, Vec<String>)> {
        if choices.is_empty() || !self.by_domains_brought(index, template, choices.clone()).is_empty() {
            return None;
        }
        let barred = |((key, domain), brought): (&(usize, Domain), &Brought)| {
            let may = |group: &usize| self.has_domain(*group, *domain) || self.is_even_with(*group, *domain);
            let is_barred = !brought.groups.iter().all(may) && brought.choices.overlaps(choices);
            is_barred.then(|| (*key, self.name(*key, *domain).to_owned()))
        };
        let all: Vec<(usize, String)> = self.outside[index].iter().filter_map(barred).collect();
        let key = all.first()?.0;
        Some((key, all.into_iter().filter(|one| one.0 == key).map(|(_, name)| name).take(NAMED).collect()))
    }

    /// The domains into which a new node of undecided labels may turn out to bring spreads.
    pub(in crate::solve) fn may_bring(&self, index: usize, seats: &[Seat], choices: &Bits) -> Vec<(usize, Domain)> {
        let may = |((key, _), brought): &(&(usize, Domain), &Brought)| {
            seats[*key] == Seat::Undecided && brought.choices.overlaps(choices)
        };
        self.outside[index].iter().filter(may).map(|(at, _)| *at).collect()
    }

    /// Drops the choices that would bring a domain into a spread.
    pub(in crate::solve) fn keep_inside(&self, index: usize, seats: &[Seat], choices: &mut Bits) {
        for (&(key, domain), brought) in &self.outside[index] {
            let may_be_there = [Seat::Undecided, Seat::In(domain)].contains(&seats[key]);
            if may_be_there && !brought.groups.iter().all(|group| self.has_domain(*group, domain)) {
                choices.remove_all(&brought.choices);
            }
        }
    }

    /// Notes where a pod of these relations demands to be evenly spread.
    pub(in crate::solve) fn note_demands(&mut self, relations: &Relations, seats: &[Seat]) {
        if !self.has_outside() {
            return;
        }
        for rule in &relations.rules {
            if let (Place::Key(key), Demand::Spread { max_skew, .. }) = (rule.place, rule.demand)
                && let Seat::In(domain) = seats[key]
            {
                let least = self.tallies[rule.group].demanded.entry(domain).or_insert(max_skew);
                *least = max_skew.min(*least);
            }
        }
    }

    fn has_domain(&self, group: usize, domain: Domain) -> bool {
        let tally = &self.tallies[group];
        tally.ranked.contains(&(tally.pods(domain), domain))
    }

    /// Whether the pods that were placed are evenly spread with this domain, too.
    fn is_even_with(&self, group: usize, domain: Domain) -> bool {
        let tally = &self.tallies[group];
        let here = tally.pods(domain);
        tally.demanded.iter().all(|(other, max_skew)| tally.pods(*other).saturating_sub(here) <= *max_skew)
    }
}
