//! A search for an order where none of the priorities finds one: who is bound next is tried, and taken back.
//!
//! Three things keep it short, and none of them loses an order:
//!
//! - A pod that may come and is *harmless* comes at once: whoever is still to come and is counted against it would be within
//!   its skew even after all the others, and it spoils nobody's being the first of its company. Any order that goes on from
//!   here can be changed so that this pod is the next, for it only lifts what others wait for.
//! - A *hopeless* placement is left. Counts only grow: what is too many for some pod against the counts of the end is so for
//!   good, and of the pods of a domain that must find no more than so many there, the last has all the others before it. A
//!   pod that no chain of company leads to never comes.
//! - What is left to come decides everything, so each such rest is looked at once.
//!
//! # Caveats
//! The work is bounded, for all groups together. If it ends, there may be an order that was not found. Rests are told apart
//! by a number of 64 bits; two that have the same one, which nobody will see, could hide an order, and never feign one.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    counters::{Behaviour, Company, Counter, Rule, State},
    forward::Queue,
};

/// Looks at a pod, or at what it demands, for all groups together: a second at most.
pub(super) const WORK: u64 = 40_000_000;
/// Rests that are remembered.
const RESTS: usize = 400_000;

/// Pods of one behaviour on one node.
struct Item {
    behaviour: usize,
    site: usize,
    /// How many of them are still to come.
    left: usize,
    /// A rest's number is the sum of these.
    mark: u64,
}

/// An item that has a rule about some counter.
struct Asking {
    item: usize,
    rule: Rule,
    /// Whether the counter counts it.
    counted: bool,
    /// Where, if that is known, and how many there may be with it, even at the end.
    domain: Option<(usize, u32)>,
    /// Whether the item has another rule about the counter that allows no more.
    again: bool,
}

/// Where the search may go on otherwise.
struct Fork {
    /// How many had come.
    came: usize,
    /// Who could be next, the most promising last.
    ways: Vec<usize>,
}

struct Search<'s, 'm> {
    behaviours: &'s [Behaviour],
    state: &'s mut State<'m>,
    items: Vec<Item>,
    /// By counter: who has a rule about it, first who allows the fewest.
    asking: BTreeMap<usize, Vec<Asking>>,
    /// These counters when all have come.
    end: BTreeMap<usize, Counter>,
    /// The companies that somebody must be near.
    companies: BTreeSet<usize>,
    /// How much there is to look at in them.
    places: usize,
    /// How many with a demand are still to come.
    demanding: usize,
    /// Stands for what is still to come.
    rest: u64,
    came: Vec<usize>,
    work: &'s mut u64,
}

/// Whether an order is found. Nothing is placed before or after.
pub(super) fn finds(queues: &[Queue<'_, '_>], behaviours: &[Behaviour], state: &mut State<'_>, work: &mut u64) -> bool {
    let mut search = Search::new(queues, behaviours, state, work);
    let found = search.run();
    search.take_back(0);
    found
}

impl<'s, 'm> Search<'s, 'm> {
    fn new(queues: &[Queue<'_, '_>], behaviours: &'s [Behaviour], state: &'s mut State<'m>, work: &'s mut u64) -> Self {
        let mut items = Vec::new();
        for queue in queues {
            for class in queue.classes.iter().filter(|class| class.left > 0) {
                let mark = scattered(items.len());
                items.push(Item { behaviour: queue.behaviour, site: class.site, left: class.left, mark });
            }
        }
        let mut asking: BTreeMap<usize, Vec<Asking>> = BTreeMap::new();
        let mut companies = BTreeSet::new();
        for (item, one) in items.iter().enumerate() {
            let behaviour = &behaviours[one.behaviour];
            let counting = state.counting(behaviour, one.site);
            for &rule in &behaviour.rules {
                let counted = counting.iter().any(|(counter, _)| *counter == rule.counter);
                asking.entry(rule.counter).or_default().push(Asking {
                    item,
                    rule,
                    counted,
                    domain: None,
                    again: false,
                });
            }
            companies.extend(&behaviour.near);
        }
        for item in &items {
            (0..item.left).for_each(|_| state.add(&behaviours[item.behaviour], item.site));
        }
        let mut end = BTreeMap::new();
        for (counter, all) in &mut asking {
            let counts = state.counter(*counter);
            for one in all.iter_mut() {
                let most = |domain| {
                    let least = state.least(&one.rule, domain, counts)?;
                    Some((domain, least.saturating_add(one.rule.max_skew)))
                };
                let domain = state.topology_of(*counter).place(items[one.item].site).single();
                one.domain = domain.map(|domain| most(domain).unwrap_or((domain, u32::MAX)));
            }
            all.sort_by_key(|one| one.domain.map(|(_, most)| most));
            let mut known = BTreeSet::new();
            for one in all.iter_mut() {
                one.again = !known.insert(one.item);
            }
            end.insert(*counter, counts.clone());
        }
        for item in &items {
            (0..item.left).for_each(|_| state.remove(&behaviours[item.behaviour], item.site));
        }
        let places = companies.iter().map(|company| state.topology_of_company(*company).len()).sum();
        let waiting = items.iter().filter(|item| behaviours[item.behaviour].demands());
        let demanding = waiting.map(|item| item.left).sum();
        let of_rest = |item: &Item| item.mark.wrapping_mul(item.left as u64);
        let rest = items.iter().map(of_rest).fold(0, u64::wrapping_add);
        Self { behaviours, state, items, asking, end, companies, places, demanding, rest, came: Vec::new(), work }
    }

    fn run(&mut self) -> bool {
        let mut forks: Vec<Fork> = Vec::new();
        let mut seen = BTreeSet::new();
        loop {
            while let Some(item) = self.harmless() {
                self.come(item);
            }
            if self.demanding == 0 {
                return true;
            }
            if *self.work == 0 || seen.len() >= RESTS {
                return false;
            }
            if seen.insert(self.rest) && !self.is_hopeless() {
                forks.push(Fork { came: self.came.len(), ways: self.ways() });
            }
            loop {
                let Some(fork) = forks.last_mut() else { return false };
                let way = fork.ways.pop();
                self.take_back(fork.came);
                match way {
                    Some(item) => {
                        self.come(item);
                        break;
                    }
                    None => drop(forks.pop()),
                }
            }
        }
    }

    fn behaviour(&self, item: usize) -> &'s Behaviour {
        &self.behaviours[self.items[item].behaviour]
    }

    fn come(&mut self, item: usize) {
        let behaviour = self.behaviour(item);
        let one = &mut self.items[item];
        one.left -= 1;
        self.rest = self.rest.wrapping_sub(one.mark);
        self.demanding -= usize::from(behaviour.demands());
        self.state.add(behaviour, one.site);
        self.came.push(item);
    }

    /// Takes back all but so many of those that came.
    fn take_back(&mut self, came: usize) {
        for item in self.came.split_off(came).into_iter().rev() {
            let behaviour = self.behaviour(item);
            let one = &mut self.items[item];
            one.left += 1;
            self.rest = self.rest.wrapping_add(one.mark);
            self.demanding += usize::from(behaviour.demands());
            self.state.remove(behaviour, one.site);
        }
    }

    fn may_come(&self, item: usize) -> bool {
        self.items[item].left > 0 && self.state.allows(self.behaviour(item), self.items[item].site)
    }

    fn spend(&mut self, looks: usize) {
        *self.work = self.work.saturating_sub(looks as u64);
    }

    /// Somebody whose coming now cannot be wrong.
    fn harmless(&mut self) -> Option<usize> {
        for item in 0..self.items.len() {
            let behaviour = self.behaviour(item);
            self.spend(1 + behaviour.rules.len());
            if self.may_come(item) {
                let counting = self.state.counting(behaviour, self.items[item].site);
                let asking = counting.iter().filter_map(|(counter, _)| self.asking.get(counter));
                let looks = asking.map(Vec::len).sum();
                self.spend(looks);
                if self.crowds_nobody(item) && self.spoils_nothing(item) {
                    return Some(item);
                }
            }
            if *self.work == 0 {
                return None;
            }
        }
        None
    }

    /// Whether whoever else is to come to the same domains would find few enough there even after all the others.
    fn crowds_nobody(&self, item: usize) -> bool {
        let site = self.items[item].site;
        self.state.counting(self.behaviour(item), site).into_iter().all(|(counter, _)| {
            let Some(asking) = self.asking.get(&counter) else { return true };
            let topology = self.state.topology_of(counter);
            let here = &topology.place(site).domains;
            asking.iter().all(|other| {
                let one = &self.items[other.item];
                let left = if other.item == item { one.left - 1 } else { one.left };
                let apart = || !topology.place(one.site).domains.iter().any(|domain| here.contains(domain));
                let now = self.state.counter(counter);
                let less = -i64::from(other.counted);
                left == 0
                    || apart()
                    || self.state.excess(&other.rule, one.site, &self.end[&counter], now, less).is_none()
            })
        })
    }

    /// Whether nobody else still needs to be the first of a company that begins with this one, somewhere else.
    fn spoils_nothing(&self, item: usize) -> bool {
        let (behaviour, site) = (self.behaviour(item), self.items[item].site);
        let begins = |company: &&usize| {
            self.companies.contains(company)
                && self.state.is_empty(**company)
                && !self.state.topology_of_company(**company).place(site).domains.is_empty()
        };
        let begun: Vec<usize> = behaviour.supports.iter().filter(begins).copied().collect();
        begun.is_empty()
            || (0..self.items.len()).all(|other| {
                let (one, wants) = (&self.items[other], self.behaviour(other));
                let left = if other == item { one.left - 1 } else { one.left };
                let is_beside = |company: &usize| {
                    let topology = self.state.topology_of_company(*company);
                    let domain = topology.place(site).single();
                    behaviour.supports.contains(company)
                        && domain.is_some()
                        && domain == topology.place(one.site).single()
                };
                left == 0
                    || !wants.is_first
                    || !wants.near.iter().any(|company| begun.contains(company))
                    || wants.near.iter().all(is_beside)
            })
    }

    /// Whether somebody can never come now.
    fn is_hopeless(&mut self) -> bool {
        let looks: usize = self.asking.values().map(Vec::len).sum();
        self.spend(looks + self.places + self.items.len());
        self.somebody_is_crowded_out() || self.somebody_stays_alone()
    }

    fn somebody_is_crowded_out(&self) -> bool {
        self.asking.iter().any(|(counter, asking)| {
            let now = self.state.counter(*counter);
            let mut waiting: BTreeMap<usize, u64> = BTreeMap::new();
            asking.iter().filter(|one| self.items[one.item].left > 0).any(|one| {
                let Item { site, left, .. } = self.items[one.item];
                let Some((domain, most)) = one.domain else {
                    return self.state.excess(&one.rule, site, now, &self.end[counter], 0).is_some();
                };
                let mut there = u64::from(now.in_domain(domain));
                if one.counted {
                    // The last of those so far, none of whom allows more.
                    let waiting = waiting.entry(domain).or_default();
                    *waiting += if one.again { 0 } else { left as u64 };
                    there += *waiting - 1;
                }
                there + u64::from(one.rule.itself) > u64::from(most)
            })
        })
    }

    /// Lets everybody come whose company is there, whatever the counts say, until nobody does.
    fn somebody_stays_alone(&self) -> bool {
        if self.companies.is_empty() {
            return false;
        }
        let there = |company: &usize| (*company, self.state.company(*company).clone());
        let mut there: BTreeMap<usize, Company> = self.companies.iter().map(there).collect();
        let mut waiting: Vec<usize> = (0..self.items.len()).filter(|item| self.items[*item].left > 0).collect();
        loop {
            let before = waiting.len();
            waiting.retain(|item| {
                let (behaviour, site) = (self.behaviour(*item), self.items[*item].site);
                let near = |company: &usize| there[company].is_at(self.state.topology_of_company(*company), site);
                let comes = behaviour.near.iter().all(near) || self.state.may_found(behaviour, site);
                for company in behaviour.supports.iter().filter(|_| comes) {
                    if let Some(one) = there.get_mut(company) {
                        one.come(self.state.topology_of_company(*company), site, |count| count.saturating_add(1));
                    }
                }
                !comes
            });
            if waiting.len() == before {
                return before > 0;
            }
        }
    }

    /// Who may come next, the most promising last: with a demand, with a small skew, where there are few.
    fn ways(&mut self) -> Vec<usize> {
        self.spend(self.items.len());
        let mut ways: Vec<usize> = (0..self.items.len()).filter(|item| self.may_come(*item)).collect();
        ways.sort_by_cached_key(|item| {
            let (behaviour, site) = (self.behaviour(*item), self.items[*item].site);
            let skew = behaviour.rules.iter().map(|rule| rule.max_skew).min().unwrap_or(u32::MAX);
            let counting = self.state.counting(behaviour, site).into_iter().map(|(counter, _)| counter);
            let counters = behaviour.rules.iter().map(|rule| rule.counter).chain(counting);
            let fill = counters.map(|counter| self.state.fill(counter, site)).fold(0, u32::saturating_add);
            std::cmp::Reverse((!behaviour.demands(), skew, fill, *item))
        });
        ways
    }
}

/// A number that tells items apart (splitmix64).
fn scattered(item: usize) -> u64 {
    let mut mixed = (item as u64 + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    (mixed ^ (mixed >> 31)) | 1
}
