//! How many pods of some selection are in each domain, and what that allows.

use std::collections::{BTreeMap, BTreeSet};

use super::super::{
    crowd::Cluster,
    topology::{Counts, Scope, Topology},
};

/// What pods demand of the others, and by what they are counted; pods of equal behaviour are interchangeable.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Behaviour {
    pub(super) rules: Vec<Rule>,
    /// By index: pods one of which must be near, for each term.
    pub(super) near: Vec<usize>,
    /// Whether it is one of the pods that it must be near.
    pub(super) is_first: bool,
    /// The tallies that count it.
    pub(super) counted: Vec<usize>,
    /// The companies it belongs to.
    pub(super) supports: Vec<usize>,
}

impl Behaviour {
    pub(super) fn demands(&self) -> bool {
        !(self.rules.is_empty() && self.near.is_empty())
    }
}

/// One hard spread.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Rule {
    pub(super) counter: usize,
    pub(super) max_skew: u32,
    pub(super) min_domains: usize,
    /// One if the pod counts itself.
    pub(super) itself: u32,
}

/// Pods that somebody spreads over a topology: a counter for each scope in which somebody does.
///
/// Ten thousand pods, each of which may be on some nodes only, may all count the same pods on different nodes. So a pod is not
/// told by which counters it is counted, but by which tallies; its node knows the scopes.
#[derive(Clone, Debug)]
pub(super) struct Tally {
    pub(super) topology: usize,
    /// By scope.
    pub(super) counters: BTreeMap<usize, usize>,
}

/// The pods that a spread counts, by domain.
#[derive(Clone, Debug)]
pub(super) struct Counter {
    pub(super) topology: usize,
    tally: usize,
    scope: usize,
    /// How many there are for certain.
    lower: Amounts,
    /// How many there may be.
    upper: Amounts,
    /// How many of the domains that must not fall behind have so many for certain.
    levels: BTreeMap<u32, usize>,
}

/// How many pods are in which domain.
#[derive(Clone, Debug, Default)]
struct Amounts(BTreeMap<usize, u32>);

impl Amounts {
    fn of(&self, domain: usize) -> u32 {
        self.0.get(&domain).copied().unwrap_or(0)
    }

    /// Returns how many there were and how many there are then.
    fn change(&mut self, domain: usize, change: impl Fn(u32) -> u32) -> (u32, u32) {
        let amount = self.0.entry(domain).or_default();
        let before = *amount;
        *amount = change(before);
        (before, *amount)
    }
}

/// The pods that a term of affinity wants near, by domain.
#[derive(Clone, Debug)]
pub(super) struct Company {
    pub(super) topology: usize,
    /// How many there are for certain.
    certain: Vec<u32>,
    /// How many there are on nodes whose domain is not known; they are near to what is on the same node.
    on_site: BTreeMap<usize, u32>,
    /// How many there are, wherever.
    total: u32,
    /// Where there are some that were told to go, who do not count.
    going: BTreeSet<usize>,
    /// Grows whenever a place gets its first.
    populated: u64,
}

/// Why a pod cannot come now.
#[derive(Clone, Debug)]
pub(super) enum Refusal {
    Skew { key: String, there: u32, least: u32, max_skew: u32 },
    NotNear { key: String },
    NoDomain { key: String },
}

/// All counts at one moment of the placing.
pub(super) struct State<'m> {
    pub(super) topologies: &'m [Topology],
    scopes: Vec<Scope>,
    /// By node: the scopes in which it counts, in order.
    scopes_of: Vec<Vec<(usize, Counts)>>,
    tallies: Vec<Tally>,
    counters: Vec<Counter>,
    companies: Vec<Company>,
}

impl<'m> State<'m> {
    /// Nothing is counted yet. Companies are over a topology.
    pub(super) fn new(
        topologies: &'m [Topology],
        sites: usize,
        mut scopes: Vec<Scope>,
        tallies: Vec<Tally>,
        companies: &[usize],
    ) -> Self {
        let mut scopes_of = vec![Vec::new(); sites];
        for (index, scope) in scopes.iter_mut().enumerate() {
            for (site, counts) in std::mem::take(&mut scope.counts) {
                scopes_of[site].push((index, counts));
            }
        }
        let mut counters = BTreeMap::new();
        for (index, tally) in tallies.iter().enumerate() {
            for (scope, counter) in &tally.counters {
                let levels = BTreeMap::from([(0, scopes[*scope].domains.len())]);
                let (lower, upper) = Default::default();
                let one = Counter { topology: tally.topology, tally: index, scope: *scope, lower, upper, levels };
                counters.insert(*counter, one);
            }
        }
        let company = |topology: &usize| Company {
            topology: *topology,
            certain: vec![0; topologies[*topology].len()],
            on_site: BTreeMap::new(),
            total: 0,
            going: BTreeSet::new(),
            populated: 0,
        };
        let counters = counters.into_values().collect();
        let companies = companies.iter().map(company).collect();
        Self { topologies, scopes, scopes_of, tallies, counters, companies }
    }

    /// Counts pods that are there before the first is placed.
    pub(super) fn settle(&mut self, behaviour: &Behaviour, cluster: &Cluster<'_>) {
        let pods = u32::try_from(cluster.pods.len()).unwrap_or(u32::MAX);
        if cluster.terminating {
            self.see_off(behaviour, cluster);
        } else {
            self.come(behaviour, cluster.site, pods);
        }
    }

    /// Places one pod.
    pub(super) fn add(&mut self, behaviour: &Behaviour, site: usize) {
        self.come(behaviour, site, 1);
    }

    fn come(&mut self, behaviour: &Behaviour, site: usize, pods: u32) {
        self.count(behaviour, site, |count| count.saturating_add(pods));
        for company in &behaviour.supports {
            let company = &mut self.companies[*company];
            let topology = &self.topologies[company.topology];
            if !topology.place(site).domains.is_empty() {
                company.total = company.total.saturating_add(pods);
                company.come(topology, site, |count| count.saturating_add(pods));
            }
        }
    }

    /// No spread counts who was told to go, and nobody can rely on being near to it. But as long as it is there, who is the first of
    /// its like has to be beside it; nobody can be on a host that takes no more.
    fn see_off(&mut self, behaviour: &Behaviour, cluster: &Cluster<'_>) {
        for company in &behaviour.supports {
            let company = &mut self.companies[*company];
            let topology = &self.topologies[company.topology];
            if !(topology.is_hostname && cluster.leaving) {
                company.going.extend(topology.place(cluster.site).single());
            }
        }
    }

    /// Takes one pod off again.
    pub(super) fn remove(&mut self, behaviour: &Behaviour, site: usize) {
        self.count(behaviour, site, |count| count - 1);
        for company in &behaviour.supports {
            let company = &mut self.companies[*company];
            if !self.topologies[company.topology].place(site).domains.is_empty() {
                company.total -= 1;
                company.come(&self.topologies[company.topology], site, |count| count - 1);
            }
        }
    }

    fn count(&mut self, behaviour: &Behaviour, site: usize, change: impl Fn(u32) -> u32) {
        for (counter, counts) in self.counting(behaviour, site) {
            let counter = &mut self.counters[counter];
            let place = self.topologies[counter.topology].place(site);
            for domain in &place.domains {
                counter.upper.change(*domain, &change);
            }
            let Some(domain) = place.single().filter(|_| counts == Counts::Yes) else { continue };
            let (before, after) = counter.lower.change(domain, &change);
            if self.scopes[counter.scope].domains.contains(&domain) {
                if let Some(domains) = counter.levels.get_mut(&before) {
                    *domains -= 1;
                    if *domains == 0 {
                        counter.levels.remove(&before);
                    }
                }
                *counter.levels.entry(after).or_default() += 1;
            }
        }
    }

    /// The counters that count such a pod on this node, and whether for certain.
    pub(super) fn counting(&self, behaviour: &Behaviour, site: usize) -> Vec<(usize, Counts)> {
        let here = &self.scopes_of[site];
        let mut counting = Vec::new();
        for tally in &behaviour.counted {
            let counters = &self.tallies[*tally].counters;
            if here.len() < counters.len() {
                counting.extend(here.iter().filter_map(|(scope, counts)| Some((*counters.get(scope)?, *counts))));
            } else {
                counting.extend(counters.iter().filter_map(|(scope, counter)| {
                    let position = here.binary_search_by_key(scope, |(scope, _)| *scope).ok()?;
                    Some((*counter, here[position].1))
                }));
            }
        }
        counting
    }

    /// The tallies that the behaviour is about: those of its rules, and those that count it.
    pub(super) fn tallies_of(&self, behaviour: &Behaviour) -> impl Iterator<Item = usize> {
        let of_rules = behaviour.rules.iter().map(|rule| self.counters[rule.counter].tally);
        of_rules.chain(behaviour.counted.iter().copied())
    }

    pub(super) fn topology_of_tally(&self, tally: usize) -> &'m Topology {
        &self.topologies[self.tallies[tally].topology]
    }

    /// Changes whenever something may have become possible that was not.
    pub(super) fn stamp(&self, behaviour: &Behaviour) -> u64 {
        let least = |rule: &Rule| u64::from(self.counters[rule.counter].levels.keys().next().copied().unwrap_or(0));
        let least: u64 = behaviour.rules.iter().map(least).sum();
        least + behaviour.near.iter().map(|company| self.companies[*company].populated).sum::<u64>()
    }

    /// Whether the pod would be the first of its company there.
    pub(super) fn may_found(&self, behaviour: &Behaviour, site: usize) -> bool {
        let beside = |company: &Company| {
            let single = self.topologies[company.topology].place(site).single();
            company.going.is_empty() || single.is_some_and(|domain| company.going.contains(&domain))
        };
        let is_free = |company: &usize| {
            let company = &self.companies[*company];
            company.total == 0 && beside(company)
        };
        behaviour.is_first && behaviour.near.iter().all(is_free)
    }

    /// Whether nobody of these is there yet.
    pub(super) fn is_empty(&self, company: usize) -> bool {
        self.companies[company].total == 0
    }

    pub(super) fn topology_of(&self, counter: usize) -> &'m Topology {
        &self.topologies[self.counters[counter].topology]
    }

    pub(super) fn topology_of_company(&self, company: usize) -> &'m Topology {
        &self.topologies[self.companies[company].topology]
    }

    /// How many may be where the node may be, at most.
    pub(super) fn fill(&self, counter: usize, site: usize) -> u32 {
        let counter = &self.counters[counter];
        let domains = &self.topologies[counter.topology].place(site).domains;
        domains.iter().map(|domain| counter.upper.of(*domain)).max().unwrap_or(0)
    }

    /// The first label that a demand is about and that the node may lack.
    pub(super) fn missing_label(&self, behaviour: &Behaviour, site: usize) -> Option<&'m str> {
        let of_rules = behaviour.rules.iter().map(|rule| self.topology_of(rule.counter));
        let of_near = behaviour.near.iter().map(|company| self.topology_of_company(*company));
        of_rules.chain(of_near).find(|topology| !topology.place(site).certain).map(|topology| topology.key.as_str())
    }

    /// The counts of one counter now.
    pub(super) fn counter(&self, counter: usize) -> &Counter {
        &self.counters[counter]
    }

    pub(super) fn company(&self, company: usize) -> &Company {
        &self.companies[company]
    }

    /// Whether nothing keeps a pod from the node now.
    pub(super) fn allows(&self, behaviour: &Behaviour, site: usize) -> bool {
        let even = |rule: &Rule| {
            let counter = &self.counters[rule.counter];
            self.excess(rule, site, counter, counter, 0).is_none()
        };
        behaviour.rules.iter().all(even) && (self.apart(behaviour, site).is_none() || self.may_found(behaviour, site))
    }

    /// What keeps a pod from the node now.
    pub(super) fn refusal(&self, behaviour: &Behaviour, site: usize) -> Option<Refusal> {
        behaviour.rules.iter().find_map(|rule| self.uneven(rule, site)).or_else(|| self.lonely(behaviour, site))
    }

    /// What keeps a pod from every node that is in the same places, hosts aside.
    pub(super) fn refusal_of_places(&self, behaviour: &Behaviour, site: usize) -> Option<Refusal> {
        let shared = |rule: &&Rule| !self.topology_of(rule.counter).is_hostname;
        behaviour.rules.iter().filter(shared).find_map(|rule| self.uneven(rule, site))
    }

    fn uneven(&self, rule: &Rule, site: usize) -> Option<Refusal> {
        let counter = &self.counters[rule.counter];
        let key = &self.topologies[counter.topology].key;
        if !self.topologies[counter.topology].place(site).certain {
            return Some(Refusal::NoDomain { key: key.clone() });
        }
        let (there, least) = self.excess(rule, site, counter, counter, 0)?;
        Some(Refusal::Skew { key: key.clone(), there, least, max_skew: rule.max_skew })
    }

    /// How many are where the pod would be one too many, and how many the emptiest other domain has: by the counts of one
    /// moment and of another, with so many more, or fewer, in the pod's own domain. The node has the label for certain.
    pub(super) fn excess(
        &self,
        rule: &Rule,
        site: usize,
        here: &Counter,
        elsewhere: &Counter,
        more: i64,
    ) -> Option<(u32, u32)> {
        self.topologies[here.topology].place(site).domains.iter().find_map(|domain| {
            let there =
                u32::try_from(i64::from(here.upper.of(*domain)).saturating_add(more).max(0)).unwrap_or(u32::MAX);
            let least = self.least(rule, *domain, elsewhere)?;
            (there.saturating_add(rule.itself) > least.saturating_add(rule.max_skew)).then_some((there, least))
        })
    }

    /// How many the emptiest other domain has, by these counts; none if there is no other.
    pub(super) fn least(&self, rule: &Rule, domain: usize, counts: &Counter) -> Option<u32> {
        let scope = &self.scopes[counts.scope];
        let few_even_later = scope.domains.len() + scope.maybe_later.len() < rule.min_domains;
        let least = if few_even_later { Some(0) } else { counts.least_besides(domain, scope) };
        // Whether their nodes come up before the pod nobody knows.
        let later = scope.maybe_later.iter().filter(|other| **other != domain);
        least.into_iter().chain(later.map(|domain| counts.lower.of(*domain))).min()
    }

    fn lonely(&self, behaviour: &Behaviour, site: usize) -> Option<Refusal> {
        let topologies = behaviour.near.iter().map(|company| self.topology_of_company(*company));
        if let Some(topology) = topologies.clone().find(|topology| !topology.place(site).certain) {
            return Some(Refusal::NoDomain { key: topology.key.clone() });
        }
        let topology = self.apart(behaviour, site)?;
        (!self.may_found(behaviour, site)).then(|| Refusal::NotNear { key: topology.key.clone() })
    }

    /// The first topology in which nobody of the company that the pod must be near is there.
    fn apart(&self, behaviour: &Behaviour, site: usize) -> Option<&'m Topology> {
        let company_of = |index: &usize| (&self.companies[*index], self.topology_of_company(*index));
        let apart = behaviour.near.iter().map(company_of).find(|(company, topology)| !company.is_at(topology, site));
        apart.map(|(_, topology)| topology)
    }
}

impl Counter {
    /// How many there may be in a domain.
    pub(super) fn in_domain(&self, domain: usize) -> u32 {
        self.upper.of(domain)
    }

    /// How many the emptiest of the other domains has for certain; none if there is no other.
    fn least_besides(&self, domain: usize, scope: &Scope) -> Option<u32> {
        let mut levels = self.levels.iter();
        let (least, domains) = levels.next()?;
        let alone = *domains == 1 && self.lower.of(domain) == *least && scope.domains.contains(&domain);
        if alone { levels.next().map(|(least, _)| *least) } else { Some(*least) }
    }
}

impl Company {
    pub(super) fn come(&mut self, topology: &Topology, site: usize, change: impl Fn(u32) -> u32) {
        let count = match topology.place(site).single() {
            Some(domain) => &mut self.certain[domain],
            None => self.on_site.entry(site).or_default(),
        };
        let before = *count;
        *count = change(before);
        self.populated += u64::from(before == 0);
    }

    pub(super) fn is_at(&self, topology: &Topology, site: usize) -> bool {
        let place = topology.place(site);
        self.on_site.get(&site).is_some_and(|count| *count > 0)
            || place.domains.iter().all(|domain| self.certain[*domain] > 0)
    }
}
