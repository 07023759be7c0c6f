//! New nodes: of which pool, and what they may become.

use requirements::Requirements;

use super::{
    axis,
    bits::Bits,
    open::{Fit, Open},
    search::Search,
    settle::Settling,
    topology::{Counts, Here, Seat, Verdict},
};
use crate::{NewNodeReason, Pod};

/// Why a pool can have no new node for a pod now.
enum Blocked {
    /// Nothing it could make would do.
    Unsuited,
    /// Other pods are in the way.
    Topology,
    /// Its limit is.
    Limit,
}

/// What a new node is to be, whatever its pods would let it be.
#[derive(Clone, Copy)]
pub(super) struct Preset<'p> {
    pub(super) choices: &'p Bits,
    /// What its labels must be besides, if anything.
    pub(super) labels: Option<&'p Requirements>,
}

impl<'a> Search<'a> {
    /// Opens a node for a pod of the kind, of the first pool by weight that can.
    pub(super) fn open_for(&mut self, kind: usize, pod: &'a Pod) -> Option<usize> {
        for template in 0..self.templates.len() {
            if self.kinds[kind].fresh[template].is_none() || self.kinds[kind].at_limit[template] {
                continue;
            }
            self.work += 1;
            match self.try_open(template, None, kind, pod) {
                Ok(index) => return Some(index),
                Err(Blocked::Limit) => self.kinds[kind].at_limit[template] = true,
                Err(Blocked::Unsuited | Blocked::Topology) => {}
            }
        }
        None
    }

    /// Opens a node of this pool that may become no more than this, and puts a pod of the kind on it; `None` if that breaks
    /// a demand or a limit.
    pub(super) fn open_with(
        &mut self,
        template: usize,
        preset: Preset<'_>,
        kind: usize,
        pod: &'a Pod,
    ) -> Option<usize> {
        let index = self.try_open(template, Some(preset), kind, pod).ok()?;
        self.open[index].planned = self.templates[template].min_values.is_empty();
        Some(index)
    }

    fn try_open(
        &mut self,
        template: usize,
        planned: Option<Preset<'_>>,
        kind: usize,
        pod: &'a Pod,
    ) -> Result<usize, Blocked> {
        let fit = self.fit_new(template, planned, kind)?;
        let mut why = vec![NewNodeReason::OpenedFor { pod: pod.key.clone() }];
        for earlier in 0..template {
            if planned.is_some() && self.fit_within(earlier, None, kind, Some(&self.left.limits[earlier])).is_some() {
                why.push(NewNodeReason::Dearer { pool: self.templates[earlier].pool.key.clone() });
                continue;
            }
            let unfit = self.farthest_reason(kind, earlier);
            why.extend(unfit.map(|why| NewNodeReason::PassedOver { why }));
        }
        Ok(self.open_as(template, fit, why, kind, pod))
    }

    /// Opens a node of this pool that a pod of the kind fits so, and puts it there.
    pub(super) fn open_as(
        &mut self,
        template: usize,
        fit: Fit,
        why: Vec<NewNodeReason>,
        kind: usize,
        pod: &'a Pod,
    ) -> usize {
        let one = &self.templates[template];
        let mut node = Open::new(template, one, &self.topology, &fit, why);
        if let Some(before) = &fit.unlimited {
            node.note_narrowed(one, before, before, &self.left.limits[template]);
        }
        let index = self.open.len();
        self.left.charge(one, &node, index);
        for (key, seat) in node.seats.iter().enumerate() {
            match seat {
                // What the pod decides is listed when it is put there.
                _ if fit.decided.iter().any(|(decided, _)| *decided == key) => {}
                Seat::In(domain) => {
                    self.open_in[key].entry(*domain).or_default().push(index);
                    self.topology.note_domain(key, *domain, (template, one), (&node.requirements, &node.choices));
                }
                Seat::Undecided => self.undecided[key].push(index),
                Seat::Nowhere => {}
            }
        }
        self.open.push(node);
        self.put_on_open(kind, index, fit, pod);
        index
    }

    /// What a new node of the pool would be for a pod of the kind, if need be after taking larger choices away from nodes
    /// opened before.
    fn fit_new(&mut self, template: usize, planned: Option<Preset<'_>>, kind: usize) -> Result<Fit, Blocked> {
        let left = self.left.limits[template].clone();
        if let Some(fit) = self.fit_within(template, planned, kind, Some(&left)) {
            return Ok(fit);
        }
        let unlimited = self.fit_within(template, planned, kind, None);
        if self.templates[template].limits.is_empty() || unlimited.is_none() {
            let alone =
                self.topology.verdict_here(&self.kinds[kind].shape.relations, &Here::default()) == Verdict::Fine;
            return Err(if alone { Blocked::Unsuited } else { Blocked::Topology });
        }
        let least = unlimited.and_then(|fit| self.templates[template].least_limited(&fit.choices));
        let wide = std::mem::take(&mut self.left.wide[template]);
        let (wide, fit) = self.fit_beside(template, planned, kind, least, wide);
        self.left.wide[template] = wide;
        fit.ok_or(Blocked::Limit)
    }

    /// As [`Self::fit_new`], among the nodes that could be narrowed. Returns those that still could.
    fn fit_beside(
        &mut self,
        template: usize,
        planned: Option<Preset<'_>>,
        kind: usize,
        least: Option<usize>,
        mut wide: Vec<usize>,
    ) -> (Vec<usize>, Option<Fit>) {
        self.work += wide.len() as u64 / 64;
        // What was charged may have become less since.
        for index in &wide {
            let (node, one) = (&mut self.open[*index], &self.templates[template]);
            if node.is_stale() {
                let (charge, choices) = (node.charge.clone(), node.choices.clone());
                node.measure(one);
                self.left.recharge(one, node, &charge, &choices);
            }
        }
        let short = self.left.limits[template].clone();
        let mut left = short.clone();
        // The last one opened is the least likely to have had to fit beside others.
        let mut rest = wide.len();
        loop {
            if let Some(least) = least.map(|least| &self.templates[template].choices[least])
                && least.within(&left)
                && let Some(fit) = self.fit_within(template, planned, kind, Some(&left))
            {
                for index in wide.drain(rest..) {
                    let (node, one) = (&mut self.open[index], &self.templates[template]);
                    let Some(smaller) = node.smallest(one).map(|(choices, _)| choices.clone()) else { continue };
                    let (charge, before) = (node.charge.clone(), node.choices.clone());
                    node.narrow(one, smaller, &least.limited, &short);
                    self.left.recharge(one, node, &charge, &before);
                }
                return (wide, Some(fit));
            }
            let Some(next) = rest.checked_sub(1) else { return (wide, None) };
            rest = next;
            let (node, one) = (&mut self.open[wide[rest]], &self.templates[template]);
            let charged = node.charge.clone();
            if let Some((_, charge)) = node.smallest(one) {
                axis::add(&mut left, &charged);
                axis::subtract(&mut left, charge);
            }
        }
    }

    /// What a new node of the pool would be for a pod of the kind if so much is left of the limits; `None` for no limits.
    pub(super) fn fit_within(
        &self,
        template: usize,
        planned: Option<Preset<'_>>,
        kind: usize,
        left: Option<&[i64]>,
    ) -> Option<Fit> {
        let (index, template, kind) = (template, &self.templates[template], &self.kinds[kind]);
        let fresh = kind.fresh[index].as_ref()?;
        let relations = &kind.shape.relations;
        if self.topology.verdict_here(relations, &Here::default()) != Verdict::Fine {
            return None;
        }
        let policies: &[bool] = if self.settings.relax_min_values { &[false, true] } else { &[false] };
        for (relaxed, alternative) in policies
            .iter()
            .flat_map(|relaxed| (fresh.alternative..kind.shape.alternatives.len()).map(|one| (*relaxed, one)))
        {
            let Ok((mut joint, changed)) = template.join(&template.base, &kind.shape.alternatives[alternative]) else {
                continue;
            };
            let mut choices = if alternative == fresh.alternative {
                fresh.choices.clone()
            } else {
                let mut choices = template.available.clone();
                template.keep_holding(&mut choices, &changed);
                template.keep_roomy(&mut choices, &kind.shape.request);
                template.keep_portly(&mut choices, kind.shape.ports);
                choices
            };
            if !(0..self.topology.groups.keys.len()).all(|key| self.topology.is_told(template, key, &joint)) {
                continue;
            }
            self.left.keep_unreserved(template, &mut choices);
            if let Some(planned) = planned {
                choices.keep_common(planned.choices);
                if let Some(labels) = planned.labels {
                    let Ok((more, changed)) = template.join(&joint, labels) else { continue };
                    template.keep_holding(&mut choices, &changed);
                    joint = more;
                }
            }
            let charge = template.charge(&choices);
            let unlimited = left.filter(|left| !axis::fits(&charge, left)).map(|left| {
                template.keep_within(&mut choices, left);
                charge
            });
            let enough = |choices: &Bits| relaxed || template.too_few_values(choices).is_none();
            let (topology, has, counts) = (&self.topology, &joint, &Counts::new());
            let settling = Settling { topology, template, relations, has, counts, enough: &enough };
            let mut tries = self.topology.by_domains_brought(index, template, choices).into_iter();
            let settled = tries.find_map(|choices| settling.settle(&relations.keys, choices));
            if let Some((choices, decided)) = settled {
                return Some(Fit { requirements: Some(joint), choices, decided, relaxed, unlimited });
            }
        }
        None
    }
}
