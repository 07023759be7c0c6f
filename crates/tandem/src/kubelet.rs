//! What a pool's settings of the kubelet leave of a machine.
//!
//! A catalogue says of each type what the system keeps, not of what that is made up. So what the settings reserve for the
//! system comes on top of it, and what they reserve for Kubernetes or keep free of memory and disk takes its place where it is more.

use std::sync::Arc;

use scheduling::InstanceType;
use serde_json::Value;
use units::{Amount, Quantity, ResourceList, ResourceName};

/// The types as machines with these settings are (`kubeletConfiguration` of a Provisioner, `spec.kubelet` of an EC2NodeClass);
/// null is none.
pub(crate) fn told(types: &Arc<[InstanceType]>, kubelet: &Value) -> Arc<[InstanceType]> {
    if kubelet.as_object().is_none_or(serde_json::Map::is_empty) {
        return Arc::clone(types);
    }
    types.iter().map(|one| told_one(one, kubelet)).collect()
}

fn told_one(one: &InstanceType, kubelet: &Value) -> InstanceType {
    let mut one = one.clone();
    let count = |key: &str| kubelet.get(key).and_then(Value::as_i64);
    let pods = ResourceName::pods();
    if let Some(most) = count("maxPods") {
        one.capacity.set(pods.clone(), Amount(most.max(0)));
    }
    if let Some(each) = count("podsPerCore").filter(|each| *each > 0) {
        let cores = (one.capacity.get(&ResourceName::cpu()).0 / 1000).max(1);
        let most = one.capacity.get(&pods).0.min(each.saturating_mul(cores));
        one.capacity.set(pods, Amount(most));
    }
    let mut kept = reserved(kubelet.get("kubeReserved"));
    kept.add(&evicted(&one.capacity, kubelet.get("evictionHard")));
    for (name, amount) in kept.iter() {
        let most = one.overhead.get(name).max(amount);
        one.overhead.set(name.clone(), most);
    }
    one.overhead.add(&reserved(kubelet.get("systemReserved")));
    one
}

fn reserved(written: Option<&Value>) -> ResourceList {
    let mut list = ResourceList::new();
    for (key, value) in written.and_then(Value::as_object).into_iter().flatten() {
        let name = ResourceName::new(key.as_str());
        if let Some(amount) = amount(value, &name) {
            list.set(name, amount);
        }
    }
    list
}

/// What is kept free by evicting pods.
fn evicted(capacity: &ResourceList, written: Option<&Value>) -> ResourceList {
    let mut list = ResourceList::new();
    let signals =
        [("memory.available", ResourceName::memory()), ("nodefs.available", ResourceName::new("ephemeral-storage"))];
    for (signal, name) in signals {
        let Some(value) = written.and_then(|all| all.get(signal)) else { continue };
        let share = value.as_str().and_then(|text| text.strip_suffix('%')).and_then(|text| text.parse::<f64>().ok());
        let kept = match share {
            Some(share) if (0.0..100.0).contains(&share) => {
                #[expect(
                    clippy::cast_possible_truncation,
                    reason = "thousandths of a percent, below a hundred thousand"
                )]
                let milli_percent = i128::from((share * 1000.0).round() as i64);
                let bytes = i128::from(capacity.get(&name).0) * milli_percent;
                Amount(i64::try_from((bytes + 99_999) / 100_000).unwrap_or(i64::MAX))
            }
            // A hundred percent means that the signal is off.
            Some(_) => Amount::ZERO,
            None => amount(value, &name).unwrap_or_default(),
        };
        list.set(name, kept);
    }
    list
}

fn amount(value: &Value, name: &ResourceName) -> Option<Amount> {
    let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    text.parse::<Quantity>().ok()?.to_amount_ceil(name).ok()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// What is left of 4 cores and 16 GiB, of which the system keeps 100m and 1 GiB: cores, memory in MiB, pods.
    fn left(kubelet: &Value) -> (i64, i64, i64) {
        let (cpu, memory, pods) = (ResourceName::cpu(), ResourceName::memory(), ResourceName::pods());
        let one = InstanceType {
            name: "m".to_owned(),
            requirements: requirements::Requirements::new(),
            capacity: ResourceList::new()
                .with(cpu.clone(), Amount(4000))
                .with(memory.clone(), Amount(16 << 30))
                .with(pods.clone(), Amount(110)),
            overhead: ResourceList::new().with(cpu.clone(), Amount(100)).with(memory.clone(), Amount(1 << 30)),
            offerings: Vec::new(),
        };
        let types: Arc<[InstanceType]> = Arc::from([one]);
        let there = told(&types, kubelet)[0].allocatable();
        (there.get(&cpu).0, there.get(&memory).0 >> 20, there.get(&pods).0)
    }

    #[test]
    fn what_the_kubelet_keeps_is_not_there_for_pods() {
        let cases = [
            (json!(null), (3900, 15 << 10, 110)),
            (json!({ "maxPods": 8 }), (3900, 15 << 10, 8)),
            (json!({ "podsPerCore": 5 }), (3900, 15 << 10, 20)),
            (json!({ "maxPods": 8, "podsPerCore": 5 }), (3900, 15 << 10, 8)),
            (json!({ "systemReserved": { "cpu": "1", "memory": "1Gi" } }), (2900, 14 << 10, 110)),
            (json!({ "kubeReserved": { "cpu": "50m", "memory": "2Gi" } }), (3900, 14 << 10, 110)),
            (json!({ "evictionHard": { "memory.available": "25%" } }), (3900, 12 << 10, 110)),
            (json!({ "evictionHard": { "memory.available": "500Mi" } }), (3900, 15 << 10, 110)),
            (json!({ "evictionHard": { "memory.available": "100%" } }), (3900, 15 << 10, 110)),
        ];
        for (kubelet, expected) in cases {
            assert_eq!(left(&kubelet), expected, "{kubelet}");
        }
    }
}
