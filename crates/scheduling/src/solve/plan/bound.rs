//! What the proof that nothing cheaper is possible does not use.

use std::collections::{BTreeMap, BTreeSet};

use requirements::Requirement;
use units::UsdMicrosPerHour;

use super::{
    super::{
        relations::{Demand, Place},
        search::Search,
        template::Template,
    },
    reach::Reach,
    wanted::Wanted,
};
use crate::LowerBound;

/// The constraints of these pods that their model does not have, in words.
pub(super) fn ignored(search: &Search<'_>, reach: &Reach, wanted: &[Wanted]) -> Vec<String> {
    let kinds: BTreeSet<usize> =
        wanted.iter().map(|wanted| wanted.kind).filter(|kind| !reach.is_nowhere(*kind)).collect();
    let mut ignored = BTreeSet::new();
    for template in search.templates.iter() {
        let pool = &template.pool.key;
        ignored.extend(template.limits.iter().map(|limit| format!("limit of {} of {pool}", limit.resource)));
        ignored.extend(template.min_values.iter().map(|(key, _)| format!("minValues of {key} of {pool}")));
        for key in left_open(search, template, &kinds) {
            ignored.insert(format!("that a node of {pool} has one value of {key}"));
        }
    }
    let mut counters = BTreeMap::new();
    for (pool, template) in search.templates.iter().enumerate() {
        for (_, number) in &template.counted {
            if *counters.entry(*number).or_insert(pool) != pool {
                ignored.insert("that pools share what is reserved".to_owned());
            }
        }
    }
    let split: BTreeSet<usize> =
        wanted.iter().filter(|wanted| !wanted.within.is_empty()).map(|wanted| wanted.kind).collect();
    for kind in kinds {
        let relations = &search.kinds[kind].shape.relations;
        for rule in &relations.rules {
            let key = match rule.place {
                Place::Host => "hosts",
                Place::Key(key) => search.topology.groups.keys[key],
            };
            let itself = search.topology.groups.are_counted(relations, rule.group);
            ignored.extend(match (rule.demand, rule.place) {
                (Demand::Spread { .. } | Demand::Apart, Place::Host) if itself => None,
                (Demand::Spread { .. }, Place::Key(_)) if split.contains(&kind) => None,
                (Demand::Spread { .. }, _) => Some(format!("topology spread over {key}")),
                (Demand::Near { .. }, _) => Some(format!("pod affinity over {key}")),
                (Demand::Apart, _) => Some(format!("pod anti-affinity over {key}")),
            });
        }
        if relations.repelled.iter().any(|one| !relations.repels.contains(one)) {
            ignored.insert("pod anti-affinity of others".to_owned());
        }
        if !search.kinds[kind].shape.volumes.is_empty() {
            ignored.insert("volume limits".to_owned());
        }
    }
    ignored.into_iter().collect()
}

/// What so many pods of each kind cost at least, by one resource at a time: all that they ask for and the nodes there are do
/// not have, at the lowest price of any offering for a unit of it. `None` if no offering has anything of what they ask for.
pub(super) fn at_a_glance(search: &Search<'_>, counts: &BTreeMap<usize, u64>) -> Option<LowerBound> {
    let resources = counts.keys().next().map_or(0, |kind| search.kinds[*kind].shape.request.len());
    let mut most = 0;
    for resource in 0..resources {
        let each = counts.iter().map(|(kind, count)| (search.kinds[*kind].shape.request[resource], *count));
        let asked = each.map(|(amount, count)| i128::from(amount) * i128::from(count));
        let there = search.existing.iter().map(|one| i128::from(one.free[resource].max(0)));
        let needed = asked.sum::<i128>() - there.sum::<i128>();
        let offered = search.templates.iter().flat_map(|template| {
            let of = |choice: usize| (&template.choices[choice], &template.shapes[template.choices[choice].shape]);
            template.available.iter().map(of).map(|(choice, shape)| (choice.price.0.max(0), shape.free[resource]))
        });
        let cheapest = offered.filter(|(_, free)| *free > 0).min_by(|(price, free), (other, more)| {
            (i128::from(*price) * i128::from(*more)).cmp(&(i128::from(*other) * i128::from(*free)))
        });
        if needed > 0 {
            let (price, free) = cheapest?;
            most = most.max(needed.saturating_mul(i128::from(price)).div_euclid(i128::from(free)));
        }
    }
    let ignores = ["everything but the resource that costs most, summed up".to_owned()].into();
    Some(LowerBound { cost: UsdMicrosPerHour(i64::try_from(most).unwrap_or(i64::MAX)), ignores })
}

/// Labels that a pool's nodes may have with different values, and that kinds of pods want differently.
fn left_open<'s>(search: &'s Search<'_>, template: &Template<'_>, kinds: &BTreeSet<usize>) -> Vec<&'s str> {
    let mut wanted: BTreeMap<&str, BTreeSet<&Requirement>> = BTreeMap::new();
    for kind in kinds {
        for requirement in search.kinds[*kind].shape.alternatives.iter().flat_map(requirements::Requirements::iter) {
            wanted.entry(requirement.key()).or_default().insert(requirement);
        }
    }
    let fixed = |has: &Requirement| has.finite().is_some_and(|values| values.len() == 1);
    let open = |key: &&str| !template.is_of_the_machine(key) && template.base.get(key).is_some_and(|has| !fixed(has));
    wanted.into_iter().filter(|(_, ways)| ways.len() > 1).map(|(key, _)| key).filter(open).collect()
}
