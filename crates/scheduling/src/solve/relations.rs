//! Who must be near whom, away from whom, and evenly spread with whom: the groups of pods that are counted, found once.

use std::collections::BTreeMap;

use requirements::{Operator, RequirementTerm, Requirements, labels};

use super::map::Map;
use crate::{LabelSelector, Pod, PodAffinityTerm, Strength, Toleration, TopologySpread, WhenUnsatisfiable};

/// What the domains of a group are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Place {
    /// Each node is one.
    Host,
    /// The values of the label of this index.
    Key(usize),
}

/// What a group's pods are counted for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Relation {
    Spread,
    Near,
    Apart,
}

/// One demand of a pod on where it is relative to a group.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Rule {
    pub(super) group: usize,
    pub(super) place: Place,
    pub(super) demand: Demand,
}

impl Rule {
    /// Whether it is a spread in which the pod does not count itself.
    pub(super) fn is_about_others(&self) -> bool {
        matches!(self.demand, Demand::Spread { itself: false, .. })
    }
}

/// See [`Rule`]. Whether a pod is in its own group is `itself`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Demand {
    Spread { max_skew: u32, min_domains: u32, itself: bool },
    Near { itself: bool },
    Apart,
}

/// Everything that relates a kind of pods to others.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Relations {
    /// What it demands.
    pub(super) rules: Vec<Rule>,
    /// The groups it counts in, of each bundle ([`super::bundles`]) the first.
    pub(super) counted: Vec<(usize, Place)>,
    /// The groups whose owners must not have it near.
    pub(super) repelled: Vec<(usize, Place)>,
    /// The groups that it must not have near, for their sake too.
    pub(super) repels: Vec<(usize, Place)>,
    /// The labels of which a node must have one certain value before it takes such a pod.
    pub(super) keys: Vec<usize>,
}

impl Relations {
    pub(super) fn on(&self, key: usize) -> impl Iterator<Item = &Rule> {
        self.rules.iter().filter(move |rule| rule.place == Place::Key(key))
    }

    /// The label by whose domains nodes are best looked through, if there is one.
    pub(super) fn leading_key(&self) -> Option<usize> {
        let keys = |wanted: fn(&Demand) -> bool| {
            self.rules.iter().filter(move |rule| wanted(&rule.demand)).find_map(|rule| match rule.place {
                Place::Key(key) => Some(key),
                Place::Host => None,
            })
        };
        keys(|demand| matches!(demand, Demand::Near { .. }))
            .or_else(|| keys(|demand| matches!(demand, Demand::Spread { .. })))
    }

    /// The group on whose nodes the pod must be, if there is one.
    pub(super) fn companions(&self) -> Option<usize> {
        let near = |rule: &&Rule| rule.place == Place::Host && matches!(rule.demand, Demand::Near { .. });
        self.rules.iter().find(near).map(|rule| rule.group)
    }

    /// Whether a node that refuses such a pod now may take it later.
    pub(super) fn may_change(&self) -> bool {
        self.rules.iter().any(|rule| match rule.demand {
            Demand::Spread { .. } => rule.place != Place::Host,
            Demand::Near { .. } => true,
            Demand::Apart => false,
        })
    }
}

/// Which pods a group counts: those that all of these select.
type Selection<'a> = Vec<Part<'a>>;

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
struct Part<'a> {
    namespaces: Vec<&'a str>,
    by_label: Option<&'a LabelSelector>,
    /// None selects nothing.
    selector: Option<LabelSelector>,
}

/// On which nodes a spread's pods and domains count.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Filter<'a> {
    /// The pod's own demands on the node's labels: alternatives.
    pub(super) alternatives: Vec<Requirements>,
    pub(super) tolerations: &'a [Toleration],
    /// Where the pod's volumes are: nodes that are there count all the same, but a pool can make none for the pod elsewhere.
    pub(super) held: Requirements,
    pub(super) by_affinity: bool,
    pub(super) by_taints: bool,
    /// The labels of all spreads that the pod demands: a node that lacks one of them counts for none.
    pub(super) keys: Vec<&'a str>,
}

/// A group as it was found.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Found {
    pub(super) relation: Relation,
    pub(super) place: Place,
    selection: usize,
    pub(super) filter: Option<usize>,
}

/// The groups of a snapshot.
#[derive(Clone)]
pub(super) struct Groups<'a> {
    namespace_labels: &'a BTreeMap<String, BTreeMap<String, String>>,
    pub(super) keys: Vec<&'a str>,
    selections: Vec<Selection<'a>>,
    selection_index: Map<Selection<'a>, usize>,
    pub(super) filters: Vec<Filter<'a>>,
    filter_index: Map<Filter<'a>, usize>,
    pub(super) found: Vec<Found>,
    /// By group: the first that differs in nothing but the nodes that count.
    pub(super) first_alike: Vec<usize>,
    index: Map<Found, usize>,
    /// Whether a pod to place owns the group, so that its counts matter.
    owned: Vec<bool>,
    /// Whether pods of the group can be repelled by some owner.
    repelling: Vec<bool>,
    of_selection: Vec<Vec<usize>>,
    /// Selections by a label that every selected pod has, and those that name none.
    by_label: Map<(String, String), Vec<usize>>,
    unlabelled: Vec<usize>,
}

impl<'a> Groups<'a> {
    pub(super) fn new(namespace_labels: &'a BTreeMap<String, BTreeMap<String, String>>) -> Self {
        Self {
            namespace_labels,
            keys: Vec::new(),
            selections: Vec::new(),
            selection_index: Map::default(),
            filters: Vec::new(),
            filter_index: Map::default(),
            found: Vec::new(),
            first_alike: Vec::new(),
            index: Map::default(),
            owned: Vec::new(),
            repelling: Vec::new(),
            of_selection: Vec::new(),
            by_label: Map::default(),
            unlabelled: Vec::new(),
        }
    }

    /// The rule that a spread of a pod to place is.
    pub(super) fn spread(
        &mut self,
        pod: &'a Pod,
        spread: &'a TopologySpread,
        alternatives: &[Requirements],
        volumes: &Requirements,
    ) -> Rule {
        let demanded = pod.topology_spread.iter().filter(|spread| !is_wish(spread));
        let mut keys: Vec<&str> = demanded.map(|spread| labels::normalize(&spread.topology_key)).collect();
        keys.retain(|key| *key != labels::HOSTNAME);
        keys.sort_unstable();
        keys.dedup();
        let filter = Filter {
            alternatives: alternatives.to_vec(),
            tolerations: &pod.tolerations,
            held: volumes.clone(),
            by_affinity: spread.node_affinity_policy == crate::NodeInclusion::Honor,
            by_taints: spread.node_taints_policy == crate::NodeInclusion::Honor,
            keys,
        };
        // An empty selector counts no pods here, other than in affinities.
        let selector = extended(spread.selector.as_ref(), pod, &spread.match_label_keys, &[]);
        let selector = selector.filter(|selector| *selector != LabelSelector::default());
        let selection = vec![Part { namespaces: vec![&pod.key.namespace], by_label: None, selector }];
        let itself = self.selects(&selection, pod);
        let place = self.place(&spread.topology_key);
        let filter = (place != Place::Host).then(|| self.filter(filter));
        let group = self.group(Relation::Spread, place, selection, filter);
        self.owned[group] = true;
        let (max_skew, min_domains) = (spread.max_skew.max(1), spread.min_domains.unwrap_or(0));
        Rule { group, place, demand: Demand::Spread { max_skew, min_domains, itself } }
    }

    /// The rule that a term of a pod to place is.
    ///
    /// To be near is to be near to a pod that all terms select, each in its own domain: that is how the kube-scheduler has it.
    pub(super) fn term(&mut self, pod: &'a Pod, term: &'a PodAffinityTerm, relation: Relation) -> Rule {
        let selection = if relation == Relation::Near && term.strength == Strength::Required {
            let mut parts: Selection<'_> = required(&pod.pod_affinity).map(|term| part(pod, term)).collect();
            parts.sort_unstable();
            parts.dedup();
            parts
        } else {
            vec![part(pod, term)]
        };
        let itself = self.selects(&selection, pod);
        let place = self.place(&term.topology_key);
        let group = self.group(relation, place, selection, None);
        self.owned[group] = true;
        self.repelling[group] |= relation == Relation::Apart && term.strength == Strength::Required;
        let demand = if relation == Relation::Apart { Demand::Apart } else { Demand::Near { itself } };
        Rule { group, place, demand }
    }

    /// The group that a bound pod must have away from it.
    pub(super) fn repelling(&mut self, pod: &'a Pod, term: &'a PodAffinityTerm) -> usize {
        let place = self.place(&term.topology_key);
        let group = self.group(Relation::Apart, place, vec![part(pod, term)], None);
        self.repelling[group] = true;
        group
    }

    /// The groups that count a pod of these labels in this namespace, of each bundle the first: those whose counts matter, and
    /// those that repel it.
    pub(super) fn of(&self, namespace: &str, labels: &BTreeMap<String, String>) -> [Vec<(usize, Place)>; 2] {
        let by_label = labels.iter().filter_map(|(key, value)| self.by_label.get(&(key.clone(), value.clone())));
        let near = by_label.flatten().chain(&self.unlabelled);
        let mut selections: Vec<usize> =
            near.copied().filter(|index| self.selected(&self.selections[*index], namespace, labels)).collect();
        selections.sort_unstable();
        selections.dedup();
        let mut groups: Vec<usize> =
            selections.into_iter().flat_map(|one| self.of_selection[one].iter().copied()).collect();
        groups.sort_unstable();
        [&self.owned, &self.repelling].map(|wanted| {
            groups.iter().filter(|group| wanted[**group]).map(|group| (*group, self.found[*group].place)).collect()
        })
    }

    /// Whether two groups are about the same pods.
    pub(super) fn count_the_same(&self, one: usize, other: usize) -> bool {
        self.found[one].selection == self.found[other].selection
    }

    /// Whether pods of these relations count in the group, where it counts.
    pub(super) fn are_counted(&self, relations: &Relations, group: usize) -> bool {
        relations.counted.contains(&(self.first_alike[group], self.found[group].place))
    }

    /// Whether nothing relates any pods.
    pub(super) fn is_empty(&self) -> bool {
        self.found.is_empty()
    }

    fn place(&mut self, key: &'a str) -> Place {
        let key = labels::normalize(key);
        if key == labels::HOSTNAME {
            return Place::Host;
        }
        Place::Key(self.keys.iter().position(|known| *known == key).unwrap_or_else(|| {
            self.keys.push(key);
            self.keys.len() - 1
        }))
    }

    fn filter(&mut self, filter: Filter<'a>) -> usize {
        let next = self.filters.len();
        let index = *self.filter_index.entry(filter.clone()).or_insert(next);
        if index == next {
            self.filters.push(filter);
        }
        index
    }

    fn group(&mut self, relation: Relation, place: Place, selection: Selection<'a>, filter: Option<usize>) -> usize {
        let selection = self.selection(selection);
        let found = Found { relation, place, selection, filter };
        let next = self.found.len();
        let index = *self.index.entry(found.clone()).or_insert(next);
        if index == next {
            self.found.push(found);
            self.owned.push(false);
            self.repelling.push(false);
            let alike = |other: &&usize| self.found[**other].relation == relation && self.found[**other].place == place;
            let first = self.of_selection[selection].iter().find(alike).copied();
            self.first_alike.push(first.unwrap_or(index));
            self.of_selection[selection].extend(first.is_none().then_some(index));
        }
        index
    }

    fn selection(&mut self, selection: Selection<'a>) -> usize {
        let next = self.selections.len();
        let index = *self.selection_index.entry(selection.clone()).or_insert(next);
        if index == next {
            match selection.iter().find_map(|part| labels_needed(part.selector.as_ref()?)) {
                Some(pairs) => {
                    for (key, value) in pairs {
                        self.by_label.entry((key.to_owned(), value.to_owned())).or_default().push(index);
                    }
                }
                None => self.unlabelled.push(index),
            }
            self.selections.push(selection);
            self.of_selection.push(Vec::new());
        }
        index
    }

    fn selects(&self, selection: &Selection<'_>, pod: &Pod) -> bool {
        self.selected(selection, &pod.key.namespace, &pod.labels)
    }

    fn selected(&self, selection: &Selection<'_>, namespace: &str, of: &BTreeMap<String, String>) -> bool {
        let none = BTreeMap::new();
        let labelled =
            |selector: &LabelSelector| selector.matches(self.namespace_labels.get(namespace).unwrap_or(&none));
        selection.iter().all(|part| {
            part.selector.as_ref().is_some_and(|selector| selector.matches(of))
                && (part.namespaces.contains(&namespace) || part.by_label.is_some_and(labelled))
        })
    }
}

/// Labels of which every pod that is selected has at least one.
fn labels_needed(selector: &LabelSelector) -> Option<Vec<(&str, &str)>> {
    if let Some((key, value)) = selector.match_labels.first_key_value() {
        return Some(vec![(key, value)]);
    }
    let named = selector.match_expressions.iter().find(|term| term.operator == Operator::In)?;
    Some(named.values.iter().map(|value| (named.key.as_str(), value.as_str())).collect())
}

fn part<'a>(pod: &'a Pod, term: &'a PodAffinityTerm) -> Part<'a> {
    let mut namespaces: Vec<&str> = term.namespaces.iter().map(String::as_str).collect();
    if namespaces.is_empty() && term.namespace_selector.is_none() {
        namespaces.push(&pod.key.namespace);
    }
    namespaces.sort_unstable();
    namespaces.dedup();
    let selector = extended(term.selector.as_ref(), pod, &term.match_label_keys, &term.mismatch_label_keys);
    Part { namespaces, by_label: term.namespace_selector.as_ref(), selector }
}

/// The selector with the values that the pod's own labels add.
fn extended(
    selector: Option<&LabelSelector>,
    pod: &Pod,
    equal: &[String],
    different: &[String],
) -> Option<LabelSelector> {
    let mut extended = selector?.clone();
    for (keys, operator) in [(equal, Operator::In), (different, Operator::NotIn)] {
        for (key, value) in keys.iter().filter_map(|key| pod.labels.get_key_value(key)) {
            extended.match_expressions.push(RequirementTerm::new(key, operator, [value.as_str()]));
        }
    }
    Some(extended)
}

pub(super) fn required(terms: &[PodAffinityTerm]) -> impl Iterator<Item = &PodAffinityTerm> {
    terms.iter().filter(|term| term.strength == Strength::Required)
}

pub(super) fn is_wish(spread: &TopologySpread) -> bool {
    spread.when_unsatisfiable == WhenUnsatisfiable::ScheduleAnyway
}

/// The weight of a wish; `None` for a demand.
pub(super) fn weight(term: &PodAffinityTerm) -> Option<i32> {
    match term.strength {
        Strength::Required => None,
        Strength::Preferred { weight } => Some(weight),
    }
}
