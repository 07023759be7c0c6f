//! What is wrong with a disruption budget.

use k8s_openapi::{api::policy::v1::PodDisruptionBudget, apimachinery::pkg::util::intstr::IntOrString};

use super::{Fault, one_of, relations};

/// Path and message of everything for which an API server would refuse it.
pub(crate) fn of_budget(budget: &PodDisruptionBudget) -> Vec<Fault> {
    let mut found = Vec::new();
    let Some(spec) = &budget.spec else { return found };
    if spec.min_available.is_some() && spec.max_unavailable.is_some() {
        found.push(("spec.maxUnavailable".to_owned(), "minAvailable is given, too: only one may be".to_owned()));
    }
    for (field, amount) in [("minAvailable", &spec.min_available), ("maxUnavailable", &spec.max_unavailable)] {
        let wrong = amount.as_ref().and_then(wrong_amount);
        found.extend(wrong.map(|message| (format!("spec.{field}"), message)));
    }
    let policies = ["IfHealthyBudget", "AlwaysAllow"];
    let policy = spec.unhealthy_pod_eviction_policy.as_deref();
    one_of(&mut found, policy, &policies, "spec.unhealthyPodEvictionPolicy");
    relations::expressions(&mut found, spec.selector.as_ref(), "spec.selector");
    found
}

fn wrong_amount(amount: &IntOrString) -> Option<String> {
    match amount {
        IntOrString::Int(number) if *number < 0 => Some(format!("{number} is negative")),
        IntOrString::Int(_) => None,
        IntOrString::String(text) => match text.strip_suffix('%').map(str::parse::<u32>) {
            Some(Ok(share)) if share <= 100 => None,
            Some(Ok(_)) => Some(format!("{text:?} is more than all of them")),
            _ => Some(format!("{text:?} is neither a whole number nor a share such as 50%")),
        },
    }
}
