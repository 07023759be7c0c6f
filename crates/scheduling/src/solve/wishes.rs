//! What a pod asks for, and what of it may be given up, one by one.
//!
//! The order is Karpenter's: the heaviest preferred pod affinity, the heaviest preferred anti-affinity, the heaviest
//! preferred node affinity, the first `ScheduleAnyway` spread, and at last the dislike of `PreferNoSchedule` taints. Of the
//! preferred node affinities only the heaviest that is left counts. Karpenter begins by dropping alternatives of the
//! required node affinity; here all alternatives are tried anyway.

use std::{cmp::Reverse, collections::BTreeSet};

use requirements::{Requirement, RequirementTerm, Requirements, TermError};

use units::Amount;

use super::{
    axis::Axis,
    kind::Shape,
    relations::{Demand, Groups, Place, Relation, Relations, Rule, is_wish, weight},
};
use crate::{Pod, Settings, Strength, Unfit};

/// Everything that pods written alike ask for, from which the kinds of all stages of giving up are made.
#[derive(Clone)]
pub(super) struct Asked<'a> {
    pub(super) pod: &'a Pod,
    alternatives: Vec<Requirements>,
    rules: Vec<Rule>,
    repels: Vec<(usize, Place)>,
    /// In the order in which they are given up.
    wishes: Vec<Wish>,
    /// Whether it has wishes besides that nobody could grant.
    pub(super) is_in_vain: bool,
}

/// When pods come, among those of their priority. Whoever counts in others' spreads and demands none of them itself may go
/// where it likes at any time, and the kube-scheduler counts it from the moment on at which it is nominated for a node there. So
/// those who must be evenly spread come after it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Turn {
    /// It suffers none like itself beside it and need not wait for anybody: there will be as many nodes as such pods, and who comes
    /// later goes to these. Only where some must be spread, for those may otherwise fill nodes that then take none of these pods.
    Alone,
    /// It counts in a spread of others, and need not wait for anybody.
    First,
    /// It counts in a spread of others, but it must, or would like to, be spread or be near somebody itself.
    Second,
    Last,
}

/// What pods are read with.
#[derive(Clone, Copy)]
pub(super) struct World<'w> {
    pub(super) settings: &'w Settings,
    /// Whether any node or pool has a taint that is a preference.
    pub(super) tainted: bool,
    /// Whether any node has a label, or could have it.
    pub(super) borne: &'w dyn Fn(&str) -> bool,
    /// Whether any node has room for a pod that may be on such labels, or could be made for it, other pods' demands aside.
    pub(super) has_place: &'w dyn Fn(&Pod, &[Requirements]) -> bool,
}

#[derive(Clone)]
enum Wish {
    Rule(Rule),
    Labels(Requirements),
    NoPreferredTaints,
}

impl<'a> Asked<'a> {
    /// Reads a pod and finds its groups. A wish to be near others, or evenly spread, in terms of a label that no node has is given
    /// up at once. What a pod without any place demands of others is nothing to them.
    pub(super) fn new(pod: &'a Pod, groups: &mut Groups<'a>, world: &World<'_>) -> Result<Self, Vec<Unfit>> {
        let World { settings, tainted, borne, has_place } = *world;
        if let Some((name, _)) = pod.requests.iter().find(|(_, amount)| *amount < Amount::ZERO) {
            return Err(vec![Unfit::Invalid { what: format!("asks for less than nothing of {name}") }]);
        }
        let alternatives = alternatives(pod)?;
        if let Some(unfit) = contradiction(pod, &alternatives) {
            return Err(vec![unfit]);
        }
        let (affinity, volumes) = (by_affinity(pod)?, read("volume topology", &pod.volume_zones)?);
        let relates =
            !(pod.topology_spread.is_empty() && pod.pod_affinity.is_empty() && pod.pod_anti_affinity.is_empty());
        let relates = relates && has_place(pod, &alternatives);
        let mut is_in_vain = false;
        let (mut rules, mut repels, mut spread_wishes) = (Vec::new(), Vec::new(), Vec::new());
        for spread in pod.topology_spread.iter().filter(|_| relates) {
            if !is_wish(spread) {
                rules.push(groups.spread(pod, spread, &affinity, &volumes));
            } else if !settings.ignore_preferences && !borne(&spread.topology_key) {
                is_in_vain = true;
            } else if !settings.ignore_preferences {
                spread_wishes.push(Wish::Rule(groups.spread(pod, spread, &affinity, &volumes)));
            }
        }
        let mut weighed: [Vec<(i32, Rule)>; 2] = Default::default();
        for (index, (terms, relation)) in
            [(&pod.pod_affinity, Relation::Near), (&pod.pod_anti_affinity, Relation::Apart)].into_iter().enumerate()
        {
            for term in terms.iter().filter(|_| relates) {
                match weight(term) {
                    None => {
                        let rule = groups.term(pod, term, relation);
                        if relation == Relation::Apart {
                            repels.push((rule.group, rule.place));
                        }
                        rules.push(rule);
                    }
                    Some(_) if settings.ignore_preferences => {}
                    Some(_) if relation == Relation::Near && !borne(&term.topology_key) => is_in_vain = true,
                    Some(weight) => weighed[index].push((weight, groups.term(pod, term, relation))),
                }
            }
        }
        let mut wishes = Vec::new();
        for mut terms in weighed {
            // Stable: equal weights stay in the order they are written.
            terms.sort_by_key(|(weight, _)| Reverse(*weight));
            wishes.extend(terms.into_iter().map(|(_, rule)| Wish::Rule(rule)));
        }
        if !settings.ignore_preferences {
            let mut preferred: Vec<_> = pod.preferred_node_affinity.iter().collect();
            preferred.sort_by_key(|(weight, _)| Reverse(*weight));
            // A wish that cannot be understood cannot be granted either.
            let read = |(_, terms): &(i32, Vec<RequirementTerm>)| Requirements::try_from(terms.as_slice()).ok();
            wishes.extend(preferred.into_iter().filter_map(read).map(Wish::Labels));
            wishes.extend(spread_wishes);
            if tainted {
                wishes.push(Wish::NoPreferredTaints);
            }
        }
        Ok(Self { pod, alternatives, rules, repels, wishes, is_in_vain })
    }

    /// The groups that others must be near to, in which it counts and which it need not be near to itself.
    pub(super) fn free_member_of(&self, groups: &Groups<'a>) -> Vec<usize> {
        let [counted, _] = groups.of(&self.pod.key.namespace, &self.pod.labels);
        let wished = self.wishes.iter().filter_map(|wish| if let Wish::Rule(rule) = wish { Some(rule) } else { None });
        let own: Vec<usize> = self.rules.iter().chain(wished).map(|rule| rule.group).collect();
        let near = |group: &usize| groups.found[*group].relation == Relation::Near && !own.contains(group);
        counted.into_iter().map(|(group, _)| group).filter(near).collect()
    }

    /// The groups over which it must be evenly spread.
    pub(super) fn spreads(&self) -> impl Iterator<Item = usize> {
        self.rules.iter().filter(|rule| matches!(rule.demand, Demand::Spread { .. })).map(|rule| rule.group)
    }

    /// The groups of spreads that it wishes for, too.
    pub(super) fn all_spreads(&self) -> impl Iterator<Item = usize> {
        let wished = self.wishes.iter().filter_map(|wish| if let Wish::Rule(rule) = wish { Some(rule) } else { None });
        let all = self.rules.iter().chain(wished);
        all.filter(|rule| matches!(rule.demand, Demand::Spread { .. })).map(|rule| rule.group)
    }

    /// When such pods come. `demanded`: the groups over which some pods must be evenly spread, of those alike the first.
    pub(super) fn turn(&self, groups: &Groups<'a>, demanded: &BTreeSet<usize>) -> Turn {
        let [counted, _] = groups.of(&self.pod.key.namespace, &self.pod.labels);
        let own: Vec<usize> = self.spreads().map(|group| groups.first_alike[group]).collect();
        let wished = self.wishes.iter().filter_map(|wish| if let Wish::Rule(rule) = wish { Some(rule) } else { None });
        let waits = self.rules.iter().chain(wished).any(|rule| rule.demand != Demand::Apart);
        let is_counted = counted.iter().any(|(group, _)| demanded.contains(group) && !own.contains(group));
        match (is_counted, waits) {
            (_, false) if self.is_recluse(&counted) => Turn::Alone,
            (true, false) => Turn::First,
            (true, true) => Turn::Second,
            (false, _) => Turn::Last,
        }
    }

    /// Whether a node can have one such pod only.
    fn is_recluse(&self, counted: &[(usize, Place)]) -> bool {
        self.repels.iter().any(|(group, place)| *place == Place::Host && counted.contains(&(*group, *place)))
    }

    /// What it wants, or wishes, of a label.
    pub(super) fn wanted(&self, key: &str) -> impl Iterator<Item = &Requirement> {
        self.all_labels().filter_map(move |one| one.get(key))
    }

    /// Everything that it wants, or wishes, of labels.
    pub(super) fn labels(&self) -> impl Iterator<Item = &Requirement> {
        self.all_labels().flat_map(Requirements::iter)
    }

    fn all_labels(&self) -> impl Iterator<Item = &Requirements> {
        let wished =
            self.wishes.iter().filter_map(|wish| if let Wish::Labels(wanted) = wish { Some(wanted) } else { None });
        self.alternatives.iter().chain(wished)
    }

    /// How many wishes there are to give up.
    pub(super) fn wishes(&self) -> usize {
        self.wishes.len()
    }

    /// The shape that is left when so many wishes are given up.
    pub(super) fn shape(&self, given_up: usize, groups: &Groups<'a>, axis: &Axis) -> Shape<'a> {
        let mut alternatives = self.alternatives.clone();
        let mut rules = self.rules.clone();
        let (mut shuns, mut heaviest) = (false, true);
        for wish in &self.wishes[given_up..] {
            match wish {
                Wish::Rule(rule) => rules.push(*rule),
                Wish::Labels(wanted) if heaviest => {
                    for alternative in &mut alternatives {
                        alternative.add_all(wanted);
                    }
                    heaviest = false;
                }
                Wish::Labels(_) => {}
                Wish::NoPreferredTaints => shuns = true,
            }
        }
        rules.sort_unstable();
        rules.dedup();
        let [counted, repelled] = groups.of(&self.pod.key.namespace, &self.pod.labels);
        let mut keys: Vec<usize> = rules
            .iter()
            .map(|rule| rule.place)
            .chain(counted.iter().chain(&repelled).map(|(_, place)| *place))
            .filter_map(|place| if let Place::Key(key) = place { Some(key) } else { None })
            .collect();
        keys.sort_unstable();
        keys.dedup();
        Shape {
            request: axis.request(&self.pod.requests),
            alternatives,
            tolerations: &self.pod.tolerations,
            shuns,
            ports: &self.pod.host_ports,
            volumes: &self.pod.volumes_by_driver,
            relations: Relations { rules, counted, repelled, repels: self.repels.clone(), keys },
        }
    }
}

/// Whether the pod has wishes at all.
pub(super) fn has_wishes(pod: &Pod) -> bool {
    let wish = |term: &crate::PodAffinityTerm| term.strength != Strength::Required;
    !pod.preferred_node_affinity.is_empty()
        || pod.topology_spread.iter().any(is_wish)
        || pod.pod_affinity.iter().chain(&pod.pod_anti_affinity).any(wish)
}

/// The labels that a pod's node must have: alternatives, each complete.
pub(super) fn alternatives(pod: &Pod) -> Result<Vec<Requirements>, Vec<Unfit>> {
    let volumes = read("volume topology", &pod.volume_zones)?;
    Ok(by_affinity(pod)?.iter().map(|alternative| alternative.intersect(&volumes)).collect())
}

/// What is wrong with a pod whose own demands exclude each other, whichever of its alternatives is taken.
fn contradiction(pod: &Pod, alternatives: &[Requirements]) -> Option<Unfit> {
    let nothing: Vec<_> = alternatives.iter().map(Requirements::first_empty).collect::<Option<_>>()?;
    let key = nothing.first()?.key();
    let said = |terms: &[RequirementTerm]| {
        let each = terms.iter().filter(|term| requirements::labels::normalize(&term.key) == key);
        each.filter_map(|term| Requirements::try_from(std::slice::from_ref(term)).ok())
            .flat_map(|read| read.iter().map(ToString::to_string).collect::<Vec<_>>())
            .collect::<Vec<_>>()
    };
    let selected = Requirements::from_labels(&pod.node_selector);
    let selector = selected.get(key).map(ToString::to_string).into_iter().collect();
    let affinity =
        pod.required_node_affinity.iter().find(|terms| !terms.is_empty()).map_or(Vec::new(), |one| said(one));
    let sources = [
        ("nodeSelector wants", selector),
        ("node affinity wants", affinity),
        ("its volumes want", said(&pod.volume_zones)),
    ];
    let told: Vec<String> = sources
        .into_iter()
        .filter(|(_, wanted)| !wanted.is_empty())
        .map(|(source, wanted)| format!("{source} {}", wanted.join(" and ")))
        .collect();
    let what = format!("its own demands leave no value of {key}: {}", told.join(", "));
    Some(Unfit::Invalid { what })
}

/// What the node selector and the node affinity demand alone.
fn by_affinity(pod: &Pod) -> Result<Vec<Requirements>, Vec<Unfit>> {
    let invalid = |what: &String| Unfit::Invalid { what: what.clone() };
    if !pod.invalid.is_empty() {
        return Err(pod.invalid.iter().map(invalid).collect());
    }
    let common = Requirements::from_labels(&pod.node_selector);
    if pod.required_node_affinity.is_empty() {
        return Ok(vec![common]);
    }
    // An alternative without terms matches no node, says Kubernetes.
    let terms = pod.required_node_affinity.iter().filter(|terms| !terms.is_empty());
    let all = terms
        .map(|terms| Ok(common.intersect(&read("required node affinity", terms)?)))
        .collect::<Result<Vec<_>, Vec<Unfit>>>()?;
    if all.is_empty() {
        let what = "required node affinity: an alternative without terms matches no node".to_owned();
        return Err(vec![Unfit::Invalid { what }]);
    }
    Ok(all)
}

fn read(what: &str, terms: &[RequirementTerm]) -> Result<Requirements, Vec<Unfit>> {
    let wrong = |error: TermError| vec![Unfit::Invalid { what: format!("{what}: {error}") }];
    Requirements::try_from(terms).map_err(wrong)
}
