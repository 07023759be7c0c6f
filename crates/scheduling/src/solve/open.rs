use std::collections::{BTreeMap, BTreeSet};

use requirements::{Requirement, Requirements, labels};
use units::{Amount, ResourceList};

use super::{
    axis,
    kind::Kind,
    template::{Bits, Choice, Fresh, Template},
};
use crate::{HostPort, NewNode, NewNodeReason, Pod, PodKey, PricedOffering, Unfit};

/// A new node of this solve: everything it may still become.
pub(super) struct Open {
    pub(super) template: usize,
    requirements: Requirements,
    /// What its pods ask for, without daemons.
    used: Vec<i64>,
    ports: Vec<HostPort>,
    choices: Bits,
    /// At least what any choice leaves to pods; refuses most pods without a look at the choices.
    largest_room: Vec<i64>,
    /// What the pool's limits are charged with: the most of each that any choice has.
    charge: Vec<i64>,
    /// The kinds of its pods; more of these change nothing but what is used.
    kinds: BTreeSet<usize>,
    pods: Vec<PodKey>,
    why: Vec<NewNodeReason>,
    /// What the pool's limit took away from it, if anything.
    narrowed: Option<NewNodeReason>,
}

/// Opens a node of the pool for a pod, or says why there can be none.
pub(super) fn open(
    index: usize,
    template: &Template<'_>,
    nodes: &mut Vec<Open>,
    kind: &mut Kind<'_>,
    kind_index: usize,
    pod: &Pod,
) -> Result<(), Unfit> {
    let passed_over: Vec<_> = kind.passed.iter().map(|why| NewNodeReason::PassedOver { why: why.clone() }).collect();
    let fresh = fresh(kind, index, template).as_ref().map_err(Clone::clone)?;
    let choices = within_limits(index, template, nodes, &fresh.choices)?;
    let mut why = vec![NewNodeReason::OpenedFor { pod: pod.key.clone() }];
    why.extend(passed_over);
    let requirements = fresh.requirements.clone();
    let narrowed = narrowed(template, &template.charge(&fresh.choices), &template.charge(&choices));
    let node = Open {
        template: index,
        requirements,
        used: kind.request.clone(),
        ports: kind.ports.to_vec(),
        largest_room: template.largest_room(&choices),
        charge: template.charge(&choices),
        kinds: BTreeSet::from([kind_index]),
        pods: vec![pod.key.clone()],
        why,
        narrowed,
        choices,
    };
    nodes.push(node);
    Ok(())
}

/// What an empty node of the pool says to the kind, asked once.
fn fresh<'k>(kind: &'k mut Kind<'_>, index: usize, template: &Template<'_>) -> &'k Result<Fresh, Unfit> {
    if !kind.fresh.contains_key(&index) {
        let answer = template.fresh(kind);
        kind.fresh.insert(index, answer);
    }
    &kind.fresh[&index]
}

/// The choices that the pool's limits leave, if need be after taking larger choices away from nodes opened before.
fn within_limits(index: usize, template: &Template<'_>, nodes: &mut [Open], choices: &Bits) -> Result<Bits, Unfit> {
    if template.limits.is_empty() {
        return Ok(choices.clone());
    }
    let mut left: Vec<i64> = template.limits.iter().map(|limit| limit.left).collect();
    let siblings = || nodes.iter().enumerate().filter(|(_, node)| node.template == index);
    siblings().for_each(|(_, node)| axis::subtract(&mut left, &node.charge));
    let within = |left: &[i64]| {
        let mut within = choices.clone();
        within.retain(|choice| template.choices[choice].within(left));
        (!within.is_empty() && template.enough_values(&within).is_ok()).then_some(within)
    };
    if let Some(within) = within(&left) {
        return Ok(within);
    }
    let mut smaller = BTreeMap::new();
    // The last one opened is the least likely to have had to fit beside others.
    for (position, node) in siblings().rev() {
        if let Some(choices) = node.smallest(template) {
            axis::add(&mut left, &node.charge);
            axis::subtract(&mut left, &template.charge(&choices));
            smaller.insert(position, choices);
            if let Some(within) = within(&left) {
                for (position, choices) in smaller {
                    nodes[position].narrow(template, choices);
                }
                return Ok(within);
            }
        }
    }
    Err(limit_unfit(template, &left, choices))
}

/// The first limited resource of which the largest choice has less than before.
fn narrowed(template: &Template<'_>, before: &[i64], after: &[i64]) -> Option<NewNodeReason> {
    let mut each = template.limits.iter().zip(before.iter().zip(after));
    let (limit, (_, left)) = each.find(|(_, (before, after))| after < before)?;
    Some(NewNodeReason::NarrowedByLimit { resource: limit.resource.clone(), left: Amount(*left) })
}

fn limit_unfit(template: &Template<'_>, left: &[i64], choices: &Bits) -> Unfit {
    let smallest = template.least_limited(choices).expect("a fresh node has at least one choice");
    let limited = &template.choices[smallest].limited;
    let blocking = template.limits.iter().zip(left).zip(limited).find(|((_, left), adds)| **adds > 0 && adds > left);
    if let Some(((limit, left), adds)) = blocking {
        return Unfit::Limit {
            pool: template.pool.key.clone(),
            resource: limit.resource.clone(),
            limit: Amount(limit.most),
            used: Amount(limit.most.saturating_sub(*left)),
            would_add: Amount(*adds),
        };
    }
    // The smallest would do, but not so many different ones as the pool demands.
    let mut within = choices.clone();
    within.retain(|choice| template.choices[choice].within(left));
    template.enough_values(&within).expect_err("without a blocking limit only minValues refuse")
}

impl Open {
    /// Takes a pod of the kind, if one of its choices has room for it.
    pub(super) fn take(&mut self, template: &Template<'_>, kind: &mut Kind<'_>, kind_index: usize, pod: &Pod) -> bool {
        let mut used = self.used.clone();
        axis::add(&mut used, &kind.request);
        if !axis::fits(&used, &self.largest_room) || kind.clash(&self.ports).is_some() {
            return false;
        }
        let first = match fresh(kind, self.template, template) {
            Ok(fresh) => fresh.alternative,
            // What an empty node cannot take, no node of the pool can.
            Err(_) => return false,
        };
        if self.kinds.contains(&kind_index) {
            let Some(choices) = self.with_room(template, kind, &used, &[]) else { return false };
            self.accept(template, kind, used, choices, pod);
            return true;
        }
        for alternative in first..kind.alternatives.len() {
            let Ok((joint, changed)) = template.join(&self.requirements, &kind.alternatives[alternative]) else {
                continue;
            };
            if let Some(choices) = self.with_room(template, kind, &used, &changed) {
                self.requirements = joint;
                self.kinds.insert(kind_index);
                self.accept(template, kind, used, choices, pod);
                return true;
            }
        }
        false
    }

    /// The choices that have room for so much and can have these labels; `None` if that leaves too few.
    fn with_room(
        &self,
        template: &Template<'_>,
        kind: &Kind<'_>,
        used: &[i64],
        changed: &[Requirement],
    ) -> Option<Bits> {
        let mut choices = self.choices.clone();
        if let (Some(Ok(fresh)), [_]) = (kind.fresh.get(&self.template), kind.alternatives.as_slice()) {
            choices.keep_common(&fresh.choices);
        }
        let (mut last, mut last_fits) = (usize::MAX, false);
        choices.retain(|index| {
            let choice = &template.choices[index];
            if choice.shape != last {
                let shape = &template.shapes[choice.shape];
                (last, last_fits) = (choice.shape, axis::fits(used, &shape.free) && kind.clash(&shape.ports).is_none());
            }
            last_fits && changed.iter().all(|wanted| choice.can_have(wanted))
        });
        (!choices.is_empty() && template.enough_values(&choices).is_ok()).then_some(choices)
    }

    fn accept(&mut self, template: &Template<'_>, kind: &Kind<'_>, used: Vec<i64>, choices: Bits, pod: &Pod) {
        self.used = used;
        self.ports.extend(kind.ports.iter().cloned());
        self.pods.push(pod.key.clone());
        self.set_choices(template, choices);
    }

    fn set_choices(&mut self, template: &Template<'_>, choices: Bits) {
        if choices != self.choices {
            self.largest_room = template.largest_room(&choices);
            self.charge = template.charge(&choices);
            self.choices = choices;
        }
    }

    /// The choices no larger than the smallest in what is limited, if these are fewer.
    fn smallest(&self, template: &Template<'_>) -> Option<Bits> {
        let least = &template.choices[template.least_limited(&self.choices)?].limited;
        let mut smaller = self.choices.clone();
        smaller.retain(|index| axis::fits(&template.choices[index].limited, least));
        (smaller != self.choices && template.enough_values(&smaller).is_ok()).then_some(smaller)
    }

    /// Gives up all but these choices, for the sake of the pool's limit.
    fn narrow(&mut self, template: &Template<'_>, choices: Bits) {
        let (before, after) = (self.charge.clone(), template.charge(&choices));
        self.narrowed = narrowed(template, &before, &after).or(self.narrowed.take());
        self.set_choices(template, choices);
    }

    /// The node as it is to be made.
    pub(super) fn finish(mut self, templates: &[Template<'_>], max_alternatives: usize) -> NewNode {
        let template = &templates[self.template];
        let mut offered: Vec<_> = self.choices.iter().map(|index| &template.choices[index]).collect();
        offered.sort_by_cached_key(|choice| (choice.price, choice.key()));
        let of = offered.len();
        self.why.extend(self.narrowed.take());
        let kept = cheapest(&offered, &template.min_values, max_alternatives.max(1));
        if kept.len() < of {
            self.why.push(NewNodeReason::Truncated { kept: kept.len(), of });
        }
        let mut capacity = ResourceList::new();
        let mut daemons = vec![0; template.axis.len()];
        for choice in &kept {
            capacity.max_with(&choice.machine.capacity);
            axis::max(&mut daemons, &template.shapes[choice.shape].daemons);
        }
        let mut requests = self.used.clone();
        axis::add(&mut requests, &daemons);
        self.pods.sort();
        NewNode {
            pool: template.pool.key.clone(),
            labels: labels_to_set(template, &self.requirements),
            requirements: self.requirements,
            price: kept.first().map(|choice| choice.price).unwrap_or_default(),
            offerings: kept.iter().map(|choice| PricedOffering { key: choice.key(), price: choice.price }).collect(),
            taints: template.pool.taints.clone(),
            startup_taints: template.pool.startup_taints.clone(),
            requests: template.axis.list(&requests),
            capacity,
            pods: self.pods,
            why: self.why,
        }
    }
}

/// The cheapest so many, and before these the cheapest that bring the values the pool demands.
fn cheapest<'c, 'a>(offered: &[&'c Choice<'a>], min_values: &[(String, u32)], max: usize) -> Vec<&'c Choice<'a>> {
    let mut kept = BTreeSet::new();
    for (key, needed) in min_values {
        let mut values = BTreeSet::new();
        for index in &kept {
            let choice: &&Choice<'_> = &offered[*index];
            choice.adds_to(key, &mut values);
        }
        for (index, choice) in offered.iter().enumerate() {
            if values.len() >= *needed as usize {
                break;
            }
            if choice.adds_to(key, &mut values) {
                kept.insert(index);
            }
        }
    }
    for index in 0..offered.len() {
        if kept.len() >= max {
            break;
        }
        kept.insert(index);
    }
    kept.into_iter().map(|index| offered[index]).collect()
}

/// The labels that making a node must set: the pool's, its name, and a value for every other label the pool leaves open.
fn labels_to_set(template: &Template<'_>, requirements: &Requirements) -> BTreeMap<String, String> {
    let mut set = template.pool.labels.clone();
    for requirement in requirements.iter() {
        let key = requirement.key();
        if template.is_of_the_machine(key) || requirement.may_be_absent() || key == labels::HOSTNAME {
            continue;
        }
        if !set.contains_key(key)
            && let Some(value) = requirement.example()
        {
            set.insert(key.to_owned(), value);
        }
    }
    set
}
