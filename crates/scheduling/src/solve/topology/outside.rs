//! Domains that new nodes bring into a spread whose own pods cannot go there.
//!
//! A spread with `nodeTaintsPolicy: Ignore` counts nodes of pools that its pods do not tolerate. The first such node in a domain
//! makes it one of the spread's, with no pods: whoever of these is bound after that may find every other domain too full. In
//! which order nodes come up nobody knows. So a node stays out of such domains where it can, and brings one in only if the pods
//! placed so far are even with it, too.

use std::{
    collections::{BTreeMap, BTreeSet},
    rc::Rc,
};

use super::{
    super::{
        bits::Bits,
        kind::Kind,
        relations::{Demand, Place, Relations},
        template::Template,
    },
    Domain, Seat, Topology,
};

/// By label and domain: the spreads that a pool's first node there would bring it into.
pub(in crate::solve) type Outside = BTreeMap<(usize, Domain), Vec<usize>>;

/// So many domains are named.
const NAMED: usize = 10;
/// Of so many spreads and domains account is taken.
const MOST: usize = 100_000;

impl Topology<'_> {
    /// Finds them, once it is known which domains each spread is over.
    pub(in crate::solve) fn find_outside(&mut self, templates: &[Template<'_>]) {
        let mut left = MOST;
        let mut of_pool = |template: &Template<'_>| {
            let mut outside = Outside::new();
            for (key, groups) in self.spreads.iter().enumerate() {
                for group in groups {
                    let filter = self.groups.found[*group].filter.map(|filter| &self.groups.filters[filter]);
                    let brings = |(domain, _): &&(Domain, Bits)| {
                        let there = || {
                            let mut there = template.base.clone();
                            there.add(self.pin(key, *domain));
                            there
                        };
                        !self.has_domain(*group, *domain)
                            && filter.is_none_or(|filter| filter.admits_new(template, &there()))
                    };
                    for (domain, _) in template.domains[key].iter().filter(brings).take(left) {
                        outside.entry((key, *domain)).or_default().push(*group);
                        left -= 1;
                    }
                }
            }
            outside
        };
        self.outside = templates.iter().map(&mut of_pool).collect();
    }

    /// Lets spreads be over domains, too, that others of the pods they count may bring: those that can go nowhere else are to be
    /// even with these from the first.
    pub(in crate::solve) fn expect_domains(&mut self, templates: &[Template<'_>], kinds: &[&Kind<'_>]) {
        let mut counted: BTreeMap<usize, Vec<&Kind<'_>>> = BTreeMap::new();
        for &kind in kinds {
            let on_labels = |(_, place): &&(usize, Place)| matches!(place, Place::Key(_));
            for (first, _) in kind.shape.relations.counted.iter().filter(on_labels) {
                counted.entry(*first).or_default().push(kind);
            }
        }
        let mut all = Outside::new();
        for (index, outside) in self.outside.iter().enumerate() {
            for (&(key, domain), groups) in outside {
                let (_, can) = &templates[index].domains[key][position(&templates[index], key, domain)];
                let goes_there =
                    |kind: &&Kind<'_>| kind.fresh[index].as_ref().is_some_and(|fresh| fresh.choices.overlaps(can));
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
                tally.ranked.insert((pods, *domain));
            }
        }
        self.expected = Rc::new(all);
    }

    /// The domains, by label, that are expected and that no new node is in for certain.
    pub(in crate::solve) fn not_brought(&self) -> Vec<(usize, Domain)> {
        let opened: BTreeSet<(usize, Domain)> = self.opened.iter().map(|(key, _, domain)| (*key, *domain)).collect();
        self.expected.keys().filter(|expected| !opened.contains(expected)).copied().collect()
    }

    /// Gives up expecting a domain.
    pub(in crate::solve) fn stop_expecting(&mut self, expected: (usize, Domain)) {
        let (_, domain) = expected;
        for group in Rc::make_mut(&mut self.expected).remove(&expected).into_iter().flatten() {
            let tally = &mut self.tallies[group];
            let pods = tally.pods(domain);
            tally.ranked.remove(&(pods, domain));
        }
    }

    /// Whether there is any such domain.
    pub(in crate::solve) fn has_outside(&self) -> bool {
        self.outside.iter().any(|outside| !outside.is_empty())
    }

    /// The sets of a pool's choices, all of these or fewer, to try one after another: those that bring no domain into a spread;
    /// those that bring one, as far as they may.
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
        for (&(key, domain), groups) in outside {
            if !groups.iter().all(|group| self.has_domain(*group, domain)) {
                let (_, can) = &template.domains[key][position(template, key, domain)];
                inside.retain(|choice| !can.contains(choice));
                if !groups.iter().all(|group| self.is_even_with(*group, domain)) {
                    allowed.retain(|choice| !can.contains(choice));
                }
            }
        }
        // One new domain of a label is enough.
        let cheapest = allowed.iter().next();
        for (key, _) in outside.keys().filter(|_| cheapest.is_some()) {
            let mut domains = template.domains[*key].iter();
            if let Some((_, can)) = domains.find(|(_, can)| cheapest.is_some_and(|cheapest| can.contains(cheapest))) {
                allowed.keep_common(can);
            }
        }
        if inside.is_empty() { vec![allowed] } else { vec![inside, allowed] }
    }

    /// The label of which all these choices would bring domains into a spread that may not be, and these domains, by name.
    pub(in crate::solve) fn domains_not_brought(
        &self,
        index: usize,
        template: &Template<'_>,
        choices: &Bits,
    ) -> Option<(usize, Vec<String>)> {
        if choices.is_empty()
            || self.by_domains_brought(index, template, choices.clone()).iter().any(|one| !one.is_empty())
        {
            return None;
        }
        let barred = |((key, domain), groups): (&(usize, Domain), &Vec<usize>)| {
            let (_, can) = &template.domains[*key][position(template, *key, *domain)];
            let is_barred =
                !groups.iter().all(|group| self.has_domain(*group, *domain) || self.is_even_with(*group, *domain));
            (is_barred && can.overlaps(choices)).then(|| (*key, self.name(*key, *domain).to_owned()))
        };
        let all: Vec<(usize, String)> = self.outside[index].iter().filter_map(barred).collect();
        let key = all.first()?.0;
        Some((key, all.into_iter().filter(|one| one.0 == key).map(|(_, name)| name).take(NAMED).collect()))
    }

    /// Drops the choices that would bring a domain into a spread, on labels of which the node's domain is not decided.
    pub(in crate::solve) fn keep_inside(
        &self,
        index: usize,
        template: &Template<'_>,
        seats: &[Seat],
        choices: &mut Bits,
    ) {
        for (&(key, domain), groups) in &self.outside[index] {
            if seats[key] == Seat::Undecided && !groups.iter().all(|group| self.has_domain(*group, domain)) {
                let (_, can) = &template.domains[key][position(template, key, domain)];
                choices.retain(|choice| !can.contains(choice));
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

fn position(template: &Template<'_>, key: usize, domain: Domain) -> usize {
    let found = template.domains[key].iter().position(|(one, _)| *one == domain);
    found.expect("a domain that the pool brings is one of its domains")
}
