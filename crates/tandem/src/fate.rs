//! What a pod of the input is to the plan.

use api::pods;
use k8s_openapi::api::core::v1::Pod;

/// What a pod is to the plan.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    /// Takes room on the node it is bound to.
    Bound,
    /// Needs a place.
    ToPlace,
    /// Waits for its scheduling gates.
    Gated,
    /// Waits for pods of lower priority to leave a node.
    Preempting,
    /// Has finished, is going, or comes with its node.
    Elsewhere,
}

/// What this pod is to the plan.
///
/// A pod that nobody has bound counts as one that fits nowhere, whether a scheduler has tried it yet or not: the plan has
/// the nodes there are and finds out.
pub(crate) fn of(pod: &Pod) -> Fate {
    let spec = pod.spec.as_ref();
    let has_gates = spec.and_then(|s| s.scheduling_gates.as_ref()).is_some_and(|gates| !gates.is_empty());
    if pods::is_terminal(pod) {
        Fate::Elsewhere
    } else if pods::node_name(pod).is_some() {
        Fate::Bound
    } else if pods::is_leaving(pod) || pods::is_daemon(pod) || pods::is_static(pod) {
        Fate::Elsewhere
    } else if has_gates {
        Fate::Gated
    } else if pods::nominated_for(pod).is_some() {
        Fate::Preempting
    } else {
        Fate::ToPlace
    }
}

/// Kind and name of what controls it.
pub(crate) fn controller(pod: &Pod) -> Option<(&str, &str)> {
    let owners = pod.metadata.owner_references.as_ref()?;
    owners.iter().find(|owner| owner.controller == Some(true)).map(|owner| (owner.kind.as_str(), owner.name.as_str()))
}
