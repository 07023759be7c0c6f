//! Which domain of a topology each node is in, or may come to be in, and which domains there could be.

use std::collections::{BTreeMap, BTreeSet};

use requirements::labels;

use super::{
    ground::{Form, Ground, Look, Suit},
    labels::{Labels, Present},
    listed::Listed,
    offers::{Ask, Offers},
};
use crate::{NodeInclusion, Snapshot, Taint, TopologySpread, untolerated};

/// The name of the host that could be added; no node has it.
const NO_HOST: &str = "\u{0}";

/// The values of one label.
#[derive(Debug)]
pub(super) struct Topology {
    pub(super) key: String,
    pub(super) is_hostname: bool,
    domains: BTreeMap<String, usize>,
    /// For each node its place.
    place: Vec<usize>,
    pub(super) places: Vec<Place>,
}

/// Where in a topology a node may be.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Place {
    /// One of these; which one is decided when the machine is bought.
    pub(super) domains: Vec<usize>,
    /// Whether it is in one of them for certain.
    pub(super) certain: bool,
}

impl Place {
    /// The domain, if it is known.
    pub(super) fn single(&self) -> Option<usize> {
        match self.domains.as_slice() {
            [only] if self.certain => Some(*only),
            _ => None,
        }
    }
}

impl Topology {
    /// The index of the node's place: nodes with the same one are in the same domains.
    pub(super) fn place_index(&self, site: usize) -> usize {
        self.place[site]
    }

    pub(super) fn place(&self, site: usize) -> &Place {
        &self.places[self.place[site]]
    }

    /// How many domains are known.
    pub(super) fn len(&self) -> usize {
        self.domains.len()
    }

    fn domain(&mut self, value: &str) -> usize {
        if let Some(domain) = self.domains.get(value) {
            return *domain;
        }
        self.domains.insert(value.to_owned(), self.domains.len());
        self.domains.len() - 1
    }
}

/// Whether the pods of a node count for a spread.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Counts {
    /// It depends on what is bought.
    Maybe,
    Yes,
}

/// The nodes that count for a spread, and the domains that must not fall behind.
#[derive(Debug)]
pub(super) struct Scope {
    /// The nodes whose pods count, in order, and whether they do for certain.
    pub(super) counts: Vec<(usize, Counts)>,
    /// The domains that must not fall behind: those of nodes that count, and of those that pools could add.
    pub(super) domains: BTreeSet<usize>,
    /// The domains of new nodes that count though the pod could not go there: whether they come before it nobody knows.
    pub(super) maybe_later: BTreeSet<usize>,
}

/// All nodes, and the topologies that somebody has asked about.
pub(super) struct Map<'g, 'a> {
    ground: &'g Ground<'a>,
    present: Vec<Present<'a>>,
    pub(super) all: Vec<Topology>,
    known: BTreeMap<String, usize>,
    offers: Option<Offers<'a>>,
    listed: Listed,
    /// For each look the new nodes that have it.
    sites_of: Vec<Vec<usize>>,
}

impl<'g, 'a> Map<'g, 'a> {
    pub(super) fn new(ground: &'g Ground<'a>) -> Self {
        let present: Vec<Present<'a>> = ground.snapshot.nodes.iter().map(Present::new).collect();
        let mut sites_of = vec![Vec::new(); ground.looks.len()];
        for (index, look) in ground.look_of.iter().enumerate() {
            sites_of[*look].push(present.len() + index);
        }
        let (all, known, listed) = Default::default();
        Self { ground, present, all, known, offers: None, listed, sites_of }
    }

    pub(super) fn snapshot(&self) -> &'a Snapshot {
        self.ground.snapshot
    }

    /// How many nodes there are and will be.
    pub(super) fn sites(&self) -> usize {
        self.present.len() + self.ground.look_of.len()
    }

    /// The index of the topology with this label.
    pub(super) fn topology(&mut self, key: &str) -> usize {
        let key = labels::normalize(key);
        if let Some(index) = self.known.get(key) {
            return *index;
        }
        let mut topology = Topology {
            key: key.to_owned(),
            is_hostname: key == labels::HOSTNAME,
            domains: BTreeMap::new(),
            place: Vec::with_capacity(self.sites()),
            places: Vec::new(),
        };
        let mut places = BTreeMap::new();
        let mut settle = |topology: &mut Topology, place: Place| {
            let next = topology.places.len();
            let index = *places.entry(place.clone()).or_insert(next);
            if index == next {
                topology.places.push(place);
            }
            topology.place.push(index);
        };
        for present in &self.present {
            let place = place_of(&mut topology, std::iter::once(present));
            settle(&mut topology, place);
        }
        let of_looks: Vec<Place> = if topology.is_hostname {
            Vec::new()
        } else {
            let forms = |look: &Look<'a>| place_of(&mut topology, look.forms.iter().map(|form| &form.labels));
            self.ground.looks.iter().map(forms).collect()
        };
        for (index, look) in self.ground.look_of.iter().enumerate() {
            // No node has such a name: every new one is a host of its own.
            let place = match of_looks.get(*look) {
                Some(place) => place.clone(),
                None => Place { domains: vec![topology.domain(&format!("\u{0}{index}"))], certain: true },
            };
            settle(&mut topology, place);
        }
        self.all.push(topology);
        self.known.insert(key.to_owned(), self.all.len() - 1);
        self.all.len() - 1
    }

    /// What counts for a spread of such pods, all of whose hard spreads are over `keys`; `offered`: see [`Map::offered`].
    pub(super) fn scope(
        &mut self,
        suit: &Suit<'a>,
        spread: &TopologySpread,
        keys: &[usize],
        offered: &BTreeSet<String>,
    ) -> Scope {
        let ground = self.ground;
        let suiting = self.listed.candidates(ground, &self.present, &suit.labels);
        let all_looks = || (0..self.ground.looks.len()).collect();
        let suiting_looks: Vec<usize> =
            suiting.as_ref().map_or_else(all_looks, |them| them.looks.iter().copied().collect());
        let affine = spread.node_affinity_policy == NodeInclusion::Honor && !suit.labels.is_nothing();
        let tolerant = spread.node_taints_policy == NodeInclusion::Honor;
        let labelled = |site: &usize| keys.iter().all(|key| self.all[*key].place(*site).certain);
        let tolerates =
            |taints: &mut dyn Iterator<Item = &Taint>| !tolerant || untolerated(suit.tolerations, taints).is_none();
        let (there, looks): (Vec<usize>, Vec<usize>) = match &suiting {
            Some(suiting) if affine => (suiting.present.iter().copied().collect(), suiting_looks.clone()),
            _ => ((0..self.present.len()).collect(), all_looks()),
        };
        let does = |site: &usize| {
            labelled(site)
                && (!affine || suit.labels.suits(&self.present[*site]))
                && tolerates(&mut self.ground.snapshot.nodes[*site].lasting_taints())
        };
        let mut counts: Vec<(usize, Counts)> = there.into_iter().filter(does).map(|site| (site, Counts::Yes)).collect();
        let of_look = |index: &usize| {
            let look = &self.ground.looks[*index];
            if !look.pool.is_some_and(|pool| tolerates(&mut pool.taints.iter())) {
                return None;
            }
            let suiting = look.forms.iter().filter(|form| !affine || suit.labels.suits(&form.labels)).count();
            match suiting {
                0 => None,
                all if all == look.forms.len() => Some(Counts::Yes),
                _ => Some(Counts::Maybe),
            }
        };
        let mut counting_looks = BTreeSet::new();
        for look in looks {
            let sites = self.sites_of[look].iter().filter(|site| labelled(site));
            if let Some(does) = of_look(&look) {
                counting_looks.insert(look);
                counts.extend(sites.map(|site| (*site, does)));
            }
        }
        counts.sort_unstable_by_key(|(site, _)| *site);
        let key = self.topology(&spread.topology_key);
        let stays = |site: &usize| self.ground.snapshot.nodes[*site].stays();
        let there = counts.iter().map(|(site, _)| *site).filter(|site| *site < self.present.len()).filter(stays);
        let mut domains: BTreeSet<usize> =
            there.flat_map(|site| self.all[key].place(site).domains.iter().copied()).collect();
        if self.all[key].is_hostname {
            // A host can always be added, so the emptiest has none: whatever falls behind, no host may have more than the skew.
            domains.insert(self.all[key].domain(NO_HOST));
            return Scope { counts, domains, maybe_later: BTreeSet::new() };
        }
        // As a form that lacks one of the labels it counts for none of them.
        let names: Vec<String> = keys.iter().map(|key| self.all[*key].key.clone()).collect();
        let bears_all = |form: &&Form<'a>| names.iter().all(|name| form.labels.label(name).is_certain());
        for look in suiting_looks.iter().map(|look| &ground.looks[*look]) {
            if look.pool.is_some_and(|pool| untolerated(suit.tolerations, &pool.taints).is_none()) {
                let forms = look.forms.iter().filter(bears_all).map(|form| &form.labels);
                let place = place_of(&mut self.all[key], forms.filter(|form| suit.labels.suits(*form)));
                domains.extend(place.domains);
            }
        }
        domains.extend(offered.iter().map(|value| self.all[key].domain(value)));
        let mut maybe_later = BTreeSet::new();
        for look in counting_looks {
            // Where it counts only as some of what it may become, it is in a domain of these.
            let forms = ground.looks[look].forms.iter().filter(bears_all).map(|form| &form.labels);
            let counting = forms.filter(|form| !affine || suit.labels.suits(*form));
            maybe_later.extend(place_of(&mut self.all[key], counting).domains);
        }
        maybe_later.retain(|domain| !domains.contains(domain));
        Scope { counts, domains, maybe_later }
    }

    /// The domains of a spread in which pools could make nodes for any such pod.
    pub(super) fn offered(
        &mut self,
        suit: &Suit<'a>,
        spread: &TopologySpread,
        keys: &[usize],
        asked: &BTreeSet<Ask<'_>>,
    ) -> BTreeSet<String> {
        let ground = self.ground;
        let names: Vec<String> = keys.iter().map(|key| self.all[*key].key.clone()).collect();
        let offers = self.offers.get_or_insert_with(|| Offers::new(ground));
        offers.domains(suit, labels::normalize(&spread.topology_key), &names, asked)
    }
}

fn place_of<'l, L: Labels + 'l>(topology: &mut Topology, forms: impl Iterator<Item = &'l L>) -> Place {
    let mut place = Place { domains: Vec::new(), certain: true };
    let mut any = false;
    for labels in forms {
        any = true;
        let label = labels.label(&topology.key.clone());
        let values = label.values();
        place.certain &= label.is_certain() && values.is_some();
        place.domains.extend(values.unwrap_or_default().iter().map(|value| topology.domain(value)));
    }
    place.domains.sort_unstable();
    place.domains.dedup();
    place.certain &= any;
    place
}
