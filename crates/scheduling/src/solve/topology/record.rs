//! Counting pods where they come to be.

use std::{collections::BTreeSet, rc::Rc};

use requirements::Requirements;

use super::{
    super::{
        bits::Bits,
        bundles::Seen,
        relations::{Place, Relations},
        template::Template,
    },
    Counts, Domain, Here, Seat, Spot, Topology, Verdict,
};

impl Topology<'_> {
    /// A node with pods of these relations that came in this order, if none of them is kept away by those before it. Who is
    /// near to somebody is taken to be so.
    pub(in crate::solve) fn here_of<'r>(&self, pods: impl Iterator<Item = &'r Relations>) -> Option<Here> {
        let mut here = Here::default();
        for relations in pods {
            if self.verdict_here(relations, &here) == Verdict::Never {
                return None;
            }
            here.add(&relations.counted, &relations.repels);
        }
        Some(here)
    }

    /// Whether the same groups of these bundles count the pods of a new node, whichever of these it is.
    pub(in crate::solve) fn is_counted_alike(
        &self,
        template: &Template<'_>,
        counted: &BTreeSet<(usize, Place)>,
        nodes: [(&Requirements, &Counts); 2],
    ) -> bool {
        counted.iter().all(|(first, _)| {
            let [one, other] = nodes.map(|(requirements, counts)| {
                let node = Seen::New { template, requirements, counts };
                let groups = self.bundles.of_node(*first, &node);
                groups.iter().copied().filter(|group| self.is_counting(*group, &node)).collect::<Vec<_>>()
            });
            one == other
        })
    }

    fn is_counting(&self, group: usize, node: &Seen<'_, '_>) -> bool {
        let filter = self.groups.found[group].filter;
        filter.is_none_or(|index| node.is_admitted_by(index, &self.groups.filters[index]))
    }

    /// Notes that a pod of these groups, of those that others must be near to, was told to go and is on this node: whoever is the
    /// first then has to be beside it. On a host that takes no more pods nobody can be.
    pub(in crate::solve) fn record_going(
        &mut self,
        near: &[(usize, Place)],
        seats: &[Seat],
        host: Option<(usize, &mut Here)>,
    ) {
        let mut host = host;
        for (group, place) in near {
            let domain = match (place, &mut host) {
                (Place::Key(key), _) => {
                    if let Seat::In(domain) = seats[*key] {
                        Some(domain)
                    } else {
                        None
                    }
                }
                (Place::Host, Some((position, here))) => {
                    here.0.entry(*group).or_default().going = true;
                    Domain::try_from(*position).ok()
                }
                (Place::Host, None) => None,
            };
            self.tallies[*group].going.extend(domain);
        }
    }

    /// Counts a pod that is on this node now; without a spot on one that takes no more. Says how many groups were looked at.
    pub(in crate::solve) fn record(
        &mut self,
        counted: &[(usize, Place)],
        repels: &[(usize, Place)],
        seats: &[Seat],
        here: &mut Here,
        spot: Option<Spot>,
        node: &Seen<'_, '_>,
    ) -> usize {
        let looks = self.count(counted, 1, seats, here, spot, node);
        self.count_owners(repels, seats, here);
        looks
    }

    /// Counts so many pods that are written alike.
    pub(in crate::solve) fn count(
        &mut self,
        counted: &[(usize, Place)],
        pods: u32,
        seats: &[Seat],
        here: &mut Here,
        spot: Option<Spot>,
        node: &Seen<'_, '_>,
    ) -> usize {
        let mut looks = 0;
        let bundles = Rc::clone(&self.bundles);
        for (group, place) in counted {
            let tally = &mut self.tallies[*group];
            looks += 1;
            match place {
                Place::Host => {
                    tally.total = tally.total.saturating_add(pods);
                    let count = here.0.entry(*group).or_default();
                    if count.pods == 0 {
                        tally.homes.extend(spot);
                    }
                    count.pods += pods;
                }
                Place::Key(key) => {
                    let Seat::In(domain) = seats[*key] else { continue };
                    tally.total = tally.total.saturating_add(pods);
                    for group in bundles.of_node(*group, node).iter() {
                        looks += 1;
                        if self.is_counting(*group, node) {
                            self.tallies[*group].add(domain, pods);
                        }
                    }
                }
            }
        }
        looks
    }

    /// Counts a pod that has those of these groups kept away.
    pub(in crate::solve) fn count_owners(&mut self, repels: &[(usize, Place)], seats: &[Seat], here: &mut Here) {
        here.count_owners(repels);
        for (group, place) in repels {
            if let Place::Key(key) = place
                && let Seat::In(domain) = seats[*key]
            {
                self.tallies[*group].counts.entry(domain).or_default().owners += 1;
            }
        }
    }

    /// Lets the spreads over a label know of a domain that a new node of a pool is in. Where it is may follow from what it can
    /// become alone, and not from what is required of it.
    pub(in crate::solve) fn note_domain(
        &mut self,
        key: usize,
        domain: Domain,
        (index, template): (usize, &Template<'_>),
        (requirements, choices): (&Requirements, &Bits),
    ) {
        let groups = match self.outside[index].get(&(key, domain)) {
            _ if !self.is_outside_known => Rc::from(self.spreads[key].as_slice()),
            Some(brought) if brought.choices.overlaps(choices) => Rc::clone(&brought.groups),
            // What the pool can make there is no news to any spread.
            _ => return,
        };
        if self.opened.contains(&(key, index, domain)) {
            return;
        }
        let mut there = requirements.clone();
        there.add(self.pin(key, domain));
        // Another node of the pool may count where this one does not: it may be required to be of another kind.
        let mut is_all = true;
        for group in &*groups {
            let filter = self.groups.found[*group].filter.map(|filter| &self.groups.filters[filter]);
            if filter.is_none_or(|filter| !filter.counted_of(template, &there, choices).is_empty()) {
                let tally = &mut self.tallies[*group];
                let pods = tally.pods(domain);
                tally.ranked.insert((pods, domain));
                tally.expected.remove(&domain);
                self.brought.insert((key, domain));
            } else {
                is_all = false;
            }
        }
        if is_all {
            self.opened.insert((key, index, domain));
        }
    }
}
