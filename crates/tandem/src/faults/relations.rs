//! Where a pod wants to be, among nodes and other pods.

use k8s_openapi::{
    api::core::v1::{PodAffinityTerm, PodSpec, Toleration, TopologySpreadConstraint},
    apimachinery::pkg::apis::meta::v1::LabelSelector,
};

use super::{Fault, one_of};

/// Looks at tolerations, spreads, and demands and wishes about other pods.
pub(super) fn look(found: &mut Vec<Fault>, spec: &PodSpec, path: &str) {
    for (index, one) in spec.tolerations.iter().flatten().enumerate() {
        toleration(found, one, &format!("{path}.tolerations[{index}]"));
    }
    let spreads = spec.topology_spread_constraints.as_deref().unwrap_or_default();
    for (index, one) in spreads.iter().enumerate() {
        let at = format!("{path}.topologySpreadConstraints[{index}]");
        let same = |other: &TopologySpreadConstraint| {
            (&other.topology_key, &other.when_unsatisfiable) == (&one.topology_key, &one.when_unsatisfiable)
        };
        if spreads[..index].iter().any(same) {
            let message = format!("a second one with {} over {}", one.when_unsatisfiable, one.topology_key);
            found.push((at.clone(), message));
        }
        spread(found, one, &at);
    }
    for (term, at) in pod_terms(spec, path) {
        topology_key(found, &term.topology_key, &at);
        let keys = [("matchLabelKeys", &term.match_label_keys), ("mismatchLabelKeys", &term.mismatch_label_keys)];
        selector(found, term.label_selector.as_ref(), keys, &at);
        expressions(found, term.namespace_selector.as_ref(), &format!("{at}.namespaceSelector"));
    }
    for (weight, at) in weights(spec, path) {
        if !(1..=100).contains(&weight) {
            found.push((at, format!("{weight} is not between 1 and 100")));
        }
    }
}

/// The terms of a pod's affinity and anti-affinity to pods, and their paths.
pub(crate) fn pod_terms<'a>(spec: &'a PodSpec, path: &str) -> Vec<(&'a PodAffinityTerm, String)> {
    let affinity = spec.affinity.as_ref();
    let near = affinity.and_then(|affinity| affinity.pod_affinity.as_ref());
    let away = affinity.and_then(|affinity| affinity.pod_anti_affinity.as_ref());
    let near = near.map(|near| {
        let (required, preferred) = (
            &near.required_during_scheduling_ignored_during_execution,
            &near.preferred_during_scheduling_ignored_during_execution,
        );
        (required, preferred, "podAffinity")
    });
    let away = away.map(|away| {
        let (required, preferred) = (
            &away.required_during_scheduling_ignored_during_execution,
            &away.preferred_during_scheduling_ignored_during_execution,
        );
        (required, preferred, "podAntiAffinity")
    });
    let mut found = Vec::new();
    for (required, preferred, kind) in near.into_iter().chain(away) {
        let at = format!("{path}.affinity.{kind}");
        for (index, term) in required.iter().flatten().enumerate() {
            found.push((term, format!("{at}.requiredDuringSchedulingIgnoredDuringExecution[{index}]")));
        }
        for (index, wish) in preferred.iter().flatten().enumerate() {
            let at = format!("{at}.preferredDuringSchedulingIgnoredDuringExecution[{index}].podAffinityTerm");
            found.push((&wish.pod_affinity_term, at));
        }
    }
    found
}

fn toleration(found: &mut Vec<Fault>, one: &Toleration, path: &str) {
    let given = |text: &Option<String>| text.as_deref().is_some_and(|text| !text.is_empty());
    one_of(found, one.operator.as_deref(), &["Equal", "Exists"], &format!("{path}.operator"));
    let effects = ["NoSchedule", "PreferNoSchedule", "NoExecute"];
    one_of(found, one.effect.as_deref(), &effects, &format!("{path}.effect"));
    let exists = one.operator.as_deref() == Some("Exists");
    if !given(&one.key) && matches!(one.operator.as_deref(), None | Some("" | "Equal")) {
        found.push((format!("{path}.operator"), "is to be Exists where no key is given".to_owned()));
    }
    if exists && given(&one.value) {
        found.push((format!("{path}.value"), "operator Exists takes none".to_owned()));
    }
    if one.toleration_seconds.is_some() && one.effect.as_deref() != Some("NoExecute") {
        found.push((format!("{path}.effect"), "is to be NoExecute where tolerationSeconds are given".to_owned()));
    }
}

fn spread(found: &mut Vec<Fault>, one: &TopologySpreadConstraint, path: &str) {
    if one.max_skew < 1 {
        found.push((format!("{path}.maxSkew"), format!("{} is less than 1", one.max_skew)));
    }
    let choices = ["DoNotSchedule", "ScheduleAnyway"];
    let at = format!("{path}.whenUnsatisfiable");
    if one.when_unsatisfiable.is_empty() {
        found.push((at, format!("is missing: it is one of {}", choices.join(", "))));
    } else {
        one_of(found, Some(&one.when_unsatisfiable), &choices, &at);
    }
    topology_key(found, &one.topology_key, path);
    if let Some(least) = one.min_domains {
        if least < 1 {
            found.push((format!("{path}.minDomains"), format!("{least} is less than 1")));
        }
        if one.when_unsatisfiable == "ScheduleAnyway" {
            found.push((format!("{path}.minDomains"), "may stand beside DoNotSchedule only".to_owned()));
        }
    }
    let policies = [(&one.node_affinity_policy, "nodeAffinityPolicy"), (&one.node_taints_policy, "nodeTaintsPolicy")];
    for (policy, field) in policies {
        one_of(found, policy.as_deref(), &["Honor", "Ignore"], &format!("{path}.{field}"));
    }
    let keys = [("matchLabelKeys", &one.match_label_keys), ("mismatchLabelKeys", &None)];
    selector(found, one.label_selector.as_ref(), keys, path);
}

/// Which pods are meant, and the keys by which these are told apart.
fn selector(
    found: &mut Vec<Fault>,
    selector: Option<&LabelSelector>,
    keys: [(&str, &Option<Vec<String>>); 2],
    path: &str,
) {
    expressions(found, selector, &format!("{path}.labelSelector"));
    let [(_, same), (_, other)] = keys;
    for (field, keys) in keys {
        if selector.is_none() && keys.as_ref().is_some_and(|keys| !keys.is_empty()) {
            found.push((format!("{path}.{field}"), "there is no labelSelector, so it selects no pods".to_owned()));
        }
    }
    let both = same.iter().flatten().filter(|key| other.iter().flatten().any(|other| other == *key));
    for key in both {
        found.push((format!("{path}.mismatchLabelKeys"), format!("{key} is one of matchLabelKeys, too")));
    }
}

/// What a selector says of labels.
pub(super) fn expressions(found: &mut Vec<Fault>, selector: Option<&LabelSelector>, path: &str) {
    for (key, value) in selector.iter().flat_map(|one| one.match_labels.iter().flatten()) {
        label(found, key, [value], &format!("{path}.matchLabels.{key}"));
    }
    for (index, one) in selector.iter().flat_map(|one| one.match_expressions.iter().flatten()).enumerate() {
        let at = format!("{path}.matchExpressions[{index}]");
        one_of(found, Some(&one.operator), &["In", "NotIn", "Exists", "DoesNotExist"], &format!("{at}.operator"));
        label(found, &one.key, one.values.iter().flatten(), &at);
        let has_values = one.values.as_ref().is_some_and(|values| !values.is_empty());
        let wrong = match one.operator.as_str() {
            "In" | "NotIn" if !has_values => "needs at least one value",
            "Exists" | "DoesNotExist" if has_values => "takes no values",
            _ => continue,
        };
        found.push((format!("{at}.values"), format!("operator {} {wrong}", one.operator)));
    }
}

/// Says what cannot be a label's name or value.
pub(super) fn label<'a>(found: &mut Vec<Fault>, key: &str, values: impl IntoIterator<Item = &'a String>, path: &str) {
    if !is_label(key) {
        found.push((path.to_owned(), format!("{key:?} cannot be a label")));
    }
    for value in values.into_iter().filter(|value| !(value.is_empty() || is_name(value, &['-', '_', '.'], 63))) {
        found.push((path.to_owned(), format!("{value:?} cannot be the value of a label")));
    }
}

/// What preferences weigh, and the paths of it.
fn weights(spec: &PodSpec, path: &str) -> Vec<(i32, String)> {
    let Some(affinity) = &spec.affinity else { return Vec::new() };
    let nodes = affinity.node_affinity.iter();
    let nodes = nodes.flat_map(|one| one.preferred_during_scheduling_ignored_during_execution.iter().flatten());
    let near = affinity.pod_affinity.iter();
    let near = near.flat_map(|one| one.preferred_during_scheduling_ignored_during_execution.iter().flatten());
    let away = affinity.pod_anti_affinity.iter();
    let away = away.flat_map(|one| one.preferred_during_scheduling_ignored_during_execution.iter().flatten());
    let lists: [(Vec<i32>, &str); 3] = [
        (nodes.map(|one| one.weight).collect(), "nodeAffinity"),
        (near.map(|one| one.weight).collect(), "podAffinity"),
        (away.map(|one| one.weight).collect(), "podAntiAffinity"),
    ];
    let at =
        |kind, index| format!("{path}.affinity.{kind}.preferredDuringSchedulingIgnoredDuringExecution[{index}].weight");
    let all = lists.into_iter().flat_map(|(weights, kind)| {
        weights.into_iter().enumerate().map(move |(index, weight)| (weight, at(kind, index)))
    });
    all.collect()
}

fn topology_key(found: &mut Vec<Fault>, key: &str, path: &str) {
    if key.is_empty() {
        found.push((format!("{path}.topologyKey"), "is empty: it names a label of nodes".to_owned()));
    } else if !is_label(key) {
        found.push((format!("{path}.topologyKey"), format!("{key:?} cannot be a label")));
    }
}

/// Whether a label can have this name: a prefix like a DNS name, a slash, and up to 63 letters, digits, `-`, `_` and `.` between a
/// letter or digit and another (kubernetes: `IsQualifiedName`).
fn is_label(key: &str) -> bool {
    let (prefix, name) = key.rsplit_once('/').map_or((None, key), |(prefix, name)| (Some(prefix), name));
    is_name(name, &['-', '_', '.'], 63) && prefix.is_none_or(|prefix| is_name(prefix, &['-', '.'], 253))
}

/// Letters, digits and some more characters, but for these at its ends.
fn is_name(text: &str, more: &[char], longest: usize) -> bool {
    let ends = text.chars().next().into_iter().chain(text.chars().last());
    !text.is_empty()
        && text.len() <= longest
        && text.chars().all(|one| one.is_ascii_alphanumeric() || more.contains(&one))
        && ends.into_iter().all(|one| one.is_ascii_alphanumeric())
}
