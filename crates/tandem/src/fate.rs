//! What a pod of the input is to the plan.

use k8s_openapi::api::core::v1::Pod;
use requirements::labels;

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
    let nominated = pod.status.as_ref().and_then(|s| s.nominated_node_name.as_deref()).is_some_and(|n| !n.is_empty());
    if is_terminal(pod) {
        Fate::Elsewhere
    } else if node_name(pod).is_some() {
        Fate::Bound
    } else if pod.metadata.deletion_timestamp.is_some() || comes_with_its_node(pod) {
        Fate::Elsewhere
    } else if has_gates {
        Fate::Gated
    } else if nominated {
        Fate::Preempting
    } else {
        Fate::ToPlace
    }
}

/// Whether a bound pod will want another place when its node goes: something makes it anew, and nothing protects it.
pub(crate) fn will_move(pod: &Pod) -> bool {
    let annotated =
        |key: &str| pod.metadata.annotations.as_ref().and_then(|all| all.get(key)).is_some_and(|value| value == "true");
    controller(pod).is_some()
        && !comes_with_its_node(pod)
        && !is_terminal(pod)
        && pod.metadata.deletion_timestamp.is_none()
        && !annotated(labels::DO_NOT_EVICT)
        && !annotated(labels::DO_NOT_DISRUPT)
}

/// The node the pod is bound to.
pub(crate) fn node_name(pod: &Pod) -> Option<&str> {
    pod.spec.as_ref().and_then(|s| s.node_name.as_deref()).filter(|n| !n.is_empty())
}

/// Whether it has finished and holds no resources any more.
pub(crate) fn is_terminal(pod: &Pod) -> bool {
    pod.status.as_ref().and_then(|s| s.phase.as_deref()).is_some_and(|p| p == "Succeeded" || p == "Failed")
}

/// Kind and name of what controls it.
pub(crate) fn controller(pod: &Pod) -> Option<(&str, &str)> {
    let owners = pod.metadata.owner_references.as_ref()?;
    owners.iter().find(|owner| owner.controller == Some(true)).map(|owner| (owner.kind.as_str(), owner.name.as_str()))
}

/// Daemons and static pods do not choose their node.
fn comes_with_its_node(pod: &Pod) -> bool {
    matches!(controller(pod), Some(("DaemonSet" | "Node", _)))
        || pod.metadata.annotations.as_ref().is_some_and(|a| a.contains_key("kubernetes.io/config.mirror"))
}
