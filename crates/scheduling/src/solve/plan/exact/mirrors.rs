//! Zones that nothing tells apart: of those without nodes one is as good as another, and only one need be tried.

use std::collections::{BTreeMap, BTreeSet};

use requirements::labels;

use super::sorts::Sort;
use crate::solve::{search::Search, topology::Domain};

/// The label of the zones, and a number for each zone that has equals.
pub(super) struct Mirrors {
    key: usize,
    class: BTreeMap<Domain, usize>,
}

impl Mirrors {
    /// Zones are equal if every pool offers the same there at the same prices, no pod of these kinds asks for a zone, and
    /// there is nothing in them yet.
    pub(super) fn of(search: &Search<'_>, kinds: &[usize]) -> Self {
        let keys = &search.topology.groups.keys;
        let Some(key) = keys.iter().position(|key| *key == labels::ZONE) else {
            return Self { key: 0, class: BTreeMap::new() };
        };
        let none = Self { key, class: BTreeMap::new() };
        let of_kinds = kinds.iter().flat_map(|kind| &search.kinds[*kind].shape.alternatives);
        let limited = search.templates.iter().any(|template| {
            !template.min_values.is_empty() || template.choices.iter().any(|choice| choice.remaining.is_some())
        });
        if limited || of_kinds.clone().any(|wanted| wanted.get(labels::ZONE).is_some()) {
            return none;
        }
        let names = &search.topology.names[key];
        let mut equal: BTreeMap<_, Vec<Domain>> = BTreeMap::new();
        for (domain, name) in (0..).zip(names) {
            if search.existing_in[key].contains_key(&domain) || !search.topology.is_empty_in(key, domain) {
                continue;
            }
            let offered = search.templates.iter().map(|template| {
                let here = template.choices.iter().enumerate();
                let here = here.filter(|(index, choice)| choice.zone == name && template.available.contains(*index));
                let told = here.map(|(_, choice)| {
                    (choice.machine.name.as_str(), choice.capacity_type, choice.price, choice.shape, &choice.limited)
                });
                let mut told: Vec<_> = told.collect();
                told.sort_unstable();
                told
            });
            let spreads = search.topology.spreads_over(key, domain);
            equal.entry((offered.collect::<Vec<_>>(), spreads)).or_default().push(domain);
        }
        let several = equal.into_values().filter(|domains| domains.len() > 1).enumerate();
        Self { class: several.flat_map(|(class, of)| of.into_iter().map(move |one| (one, class))).collect(), ..none }
    }

    /// Whether an equal zone without nodes comes before that of this sort, which has none either. `used`: the sorts of the nodes so far.
    pub(super) fn is_needless<'s>(&self, sort: &Sort, used: impl Iterator<Item = &'s Sort>) -> bool {
        let zone = |sort: &Sort| sort.seats.get(self.key).copied().flatten();
        let Some((domain, class)) = zone(sort).and_then(|domain| Some((domain, self.class.get(&domain)?))) else {
            return false;
        };
        let used: BTreeSet<Domain> = used.filter_map(zone).collect();
        let mut before = self.class.range(..domain).filter(|(_, other)| *other == class);
        !used.contains(&domain) && before.any(|(other, _)| !used.contains(other))
    }
}
