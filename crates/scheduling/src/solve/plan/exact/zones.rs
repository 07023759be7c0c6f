//! What a plan costs at least, whoever may be in which zone with whom.
//!
//! The pods are dealt out to the zones in every way that their demands on zones allow, as far as these say something of the
//! finished plan: who must not be in a zone with whom, who must have somebody near, and how many of a spread's pods a zone
//! may have beyond the emptiest. In each zone the pods cost what they cost there. "Zone" is the label by which most pods are
//! related.

use crate::solve::{
    relations::{Demand, Place, Relations},
    search::Search,
    topology::{Domain, Seat},
};

/// So many ways to deal pods out are looked at for one state; where there are more, zones are no matter.
const WAYS: usize = 60_000;

/// The zones, and what the pods demand of each other there. Sets of pods are numbers with a binary digit for each pod.
pub(super) struct Zones {
    pub(super) key: usize,
    pub(super) domains: Vec<Domain>,
    /// By node there is: the zone.
    pub(super) there: Vec<usize>,
    /// By zone and set: what it costs on new nodes there.
    pub(super) fresh: Vec<Vec<i64>>,
    /// By zone and set: whether these may be all that are there.
    may: Vec<Vec<bool>>,
    spreads: Vec<Spread>,
}

/// A spread over the zones.
struct Spread {
    max_skew: u32,
    /// The pods that demand it and count in it.
    owners: usize,
    /// The pods that count in it.
    members: usize,
    /// By zone: how many count already, and whether it must not fall behind.
    base: Vec<(u32, bool)>,
}

impl Zones {
    /// `kinds`: what each pod is at last, with all wishes given up that may be. `None` if no label of the machines relates
    /// pods, or something is in no domain of it.
    pub(super) fn of(search: &Search<'_>, kinds: &[usize], there: &[usize]) -> Option<Self> {
        let relations = |kind: &usize| &search.kinds[*kind].shape.relations;
        let keys = 0..search.topology.groups.keys.len();
        let rules = |key: usize| kinds.iter().map(|kind| relations(kind).on(key).count()).sum::<usize>();
        let key = keys.filter(|key| rules(*key) > 0).max_by_key(|key| (rules(*key), std::cmp::Reverse(*key)))?;
        let name = search.topology.groups.keys[key];
        let mut domains = Vec::new();
        for template in search.templates.iter() {
            let alone =
                |choice: usize| template.domains[key].iter().filter(|(_, can)| can.contains(choice)).count() == 1;
            if !template.is_of_the_machine(name) || !template.available.iter().all(alone) {
                return None;
            }
            domains.extend(template.domains[key].iter().map(|(domain, _)| *domain));
        }
        let seat = |node: &usize| match search.existing[*node].seats[key] {
            Seat::In(domain) => Some(domain),
            Seat::Nowhere | Seat::Undecided => None,
        };
        let seats: Vec<Domain> = there.iter().map(seat).collect::<Option<_>>()?;
        domains.extend(&seats);
        domains.sort_unstable();
        domains.dedup();
        let of = |domain: &Domain| domains.binary_search(domain).unwrap_or(0);
        let relations: Vec<&Relations> = kinds.iter().map(relations).collect();
        let may = domains.iter().map(|domain| Self::may(search, &relations, key, *domain)).collect();
        let spreads = Self::spreads(search, &relations, key, &domains);
        let there = seats.iter().map(of).collect();
        Some(Self { key, domains, there, fresh: Vec::new(), may, spreads })
    }

    /// Which sets of pods may be all that are in a zone.
    fn may(search: &Search<'_>, relations: &[&Relations], key: usize, domain: Domain) -> Vec<bool> {
        let place = Place::Key(key);
        let members = |group: usize| {
            let counts = |pod: &usize| relations[*pod].counted.contains(&(group, place));
            (0..relations.len()).filter(counts).fold(0, |set, pod| set | 1_usize << pod)
        };
        // By pod: sets of which nobody may be there, and sets of which somebody must.
        let mut apart = vec![0; relations.len()];
        let mut near: Vec<Vec<usize>> = vec![Vec::new(); relations.len()];
        for (pod, of) in relations.iter().enumerate() {
            for rule in of.on(key) {
                match rule.demand {
                    Demand::Apart if of.repels.contains(&(rule.group, place)) => {
                        apart[pod] |= members(rule.group) & !(1 << pod);
                    }
                    Demand::Near { itself: false } if search.topology.pods_in(rule.group, domain) == 0 => {
                        near[pod].push(members(rule.group));
                    }
                    _ => {}
                }
            }
        }
        let is_fine = |set: usize| {
            let mut pods = (0..relations.len()).filter(|pod| set >> pod & 1 == 1);
            pods.all(|pod| set & apart[pod] == 0 && near[pod].iter().all(|some| set & some != 0))
        };
        (0..1_usize << relations.len()).map(is_fine).collect()
    }

    fn spreads(search: &Search<'_>, relations: &[&Relations], key: usize, domains: &[Domain]) -> Vec<Spread> {
        let mut found: Vec<(usize, u32)> = Vec::new();
        for rule in relations.iter().flat_map(|of| of.on(key)) {
            if let Demand::Spread { max_skew, itself: true, .. } = rule.demand {
                found.push((rule.group, max_skew));
            }
        }
        found.sort_unstable();
        found.dedup();
        let spread = |(group, max_skew): (usize, u32)| {
            let set = |is: &dyn Fn(&Relations) -> bool| {
                (0..relations.len()).filter(|pod| is(relations[*pod])).fold(0, |set, pod| set | 1_usize << pod)
            };
            let owns = |of: &Relations| {
                of.on(key).any(|rule| {
                    matches!(rule.demand, Demand::Spread { max_skew: most, itself: true, .. } if most == max_skew)
                        && rule.group == group
                })
            };
            let over = search.topology.spread_over(group);
            let base = |domain: &Domain| {
                let ranked = over.iter().any(|(one, _)| one == domain);
                (search.topology.pods_in(group, *domain), ranked)
            };
            Spread {
                max_skew,
                owners: set(&owns),
                members: set(&|of| search.topology.groups.are_counted(of, group)),
                base: domains.iter().map(base).collect(),
            }
        };
        // Where a domain must not fall behind that nothing can be in, the emptiest has what it has.
        let all_known = |(group, _): &(usize, u32)| {
            search.topology.spread_over(*group).iter().all(|(domain, _)| domains.contains(domain))
        };
        found.into_iter().filter(all_known).map(spread).collect()
    }

    /// Whether so many pods are few enough to be dealt out in every way.
    pub(super) fn can_deal(&self, pods: u32) -> bool {
        self.domains.len().checked_pow(pods).is_some_and(|ways| ways <= WAYS)
    }

    /// The least that it costs to deal out the pods that are left, beside those that are there already, by zone. `costs`: by zone
    /// and part of what is left. Counts its steps.
    pub(super) fn deal(&self, left: usize, placed: &[usize], costs: &[Vec<i64>], never: i64, steps: &mut u64) -> i64 {
        let mut deal = Deal { zones: self, costs, all: placed.to_vec(), best: never, steps };
        deal.next(0, left, 0);
        deal.best
    }
}

struct Deal<'d> {
    zones: &'d Zones,
    costs: &'d [Vec<i64>],
    /// By zone: the pods there.
    all: Vec<usize>,
    best: i64,
    steps: &'d mut u64,
}

impl Deal<'_> {
    fn next(&mut self, zone: usize, left: usize, cost: i64) {
        if zone == self.all.len() {
            if left == 0 && self.zones.spreads.iter().all(|spread| spread.is_even(&self.all)) {
                self.best = self.best.min(cost);
            }
            return;
        }
        let placed = self.all[zone];
        let is_last = zone + 1 == self.all.len();
        for part in super::least::parts(left) {
            *self.steps += 1;
            let cost = cost.saturating_add(self.costs[zone][part]);
            if cost < self.best && self.zones.may[zone][placed | part] {
                self.all[zone] = placed | part;
                self.next(zone + 1, left & !part, cost);
            }
            if is_last {
                // All that is left has to be in the last one.
                break;
            }
        }
        self.all[zone] = placed;
    }
}

impl Spread {
    /// Whether no zone has more of the owners than the emptiest allows: the last of them to come saw the others, and no zone has
    /// fewer in the end than then.
    fn is_even(&self, all: &[usize]) -> bool {
        let count = |set: usize, (base, _): &(u32, bool)| base + set.count_ones();
        let behind = self.base.iter().zip(all).filter(|((_, ranked), _)| *ranked);
        let least = behind.map(|(base, set)| count(set & self.members, base)).min().unwrap_or(u32::MAX);
        let most = |(base, set): (&(u32, bool), &usize)| {
            set & self.owners == 0 || count(set & self.owners, base) <= least.saturating_add(self.max_skew)
        };
        self.base.iter().zip(all).all(most)
    }
}
