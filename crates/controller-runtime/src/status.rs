//! Status patches that are sent only when something changed, and carry only what changed.

use std::fmt::Debug;

use kube::api::{Api, Patch, PatchParams};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value, json};

/// Why a status could not be written.
#[derive(Debug, thiserror::Error)]
pub enum StatusError {
    /// The status has a part that JSON cannot express; a defect of the type.
    #[error("the status cannot be written as JSON")]
    Serialize(#[from] serde_json::Error),
    /// The API server refused or could not be reached: look again later.
    #[error("the status patch was not accepted")]
    Patch(#[from] kube::Error),
}

/// Patches the `status` subresource of `name` so that it becomes `new`; sends nothing when `old` says the same.
///
/// Returns whether a patch was sent.
///
/// # Guarantees
/// The patch is a JSON merge patch of the difference: a field that both statuses have alike is not in it, a field that
/// only `old` has is removed. Lists are written whole.
///
/// # Caveats
/// Fields of the status that `S` does not know are left alone. `old` must be what the API server last said; the patch
/// carries no resourceVersion, so of two writers of the same field the last wins: let only the leader write.
pub async fn patch_if_changed<K, S>(api: &Api<K>, name: &str, old: Option<&S>, new: &S) -> Result<bool, StatusError>
where
    K: Clone + Debug + DeserializeOwned,
    S: Serialize,
{
    let old = old.map(serde_json::to_value).transpose()?.unwrap_or(Value::Null);
    let Some(difference) = merge_patch(&old, &serde_json::to_value(new)?) else { return Ok(false) };
    let patch = json!({ "status": difference });
    api.patch_status(name, &PatchParams::default(), &Patch::Merge(&patch)).await?;
    Ok(true)
}

/// The JSON merge patch (RFC 7386) that turns `old` into `new`, or `None` when they are the same.
///
/// A `null` inside `new` counts as absent, because a merge patch cannot write one.
pub fn merge_patch(old: &Value, new: &Value) -> Option<Value> {
    match (old, new) {
        (old, Value::Null) => (!old.is_null()).then_some(Value::Null),
        (Value::Object(old), Value::Object(new)) => {
            let patch = object_patch(old, new);
            (!patch.is_empty()).then_some(Value::Object(patch))
        }
        // Into a place where no object is, the patch is the object itself.
        (_, Value::Object(new)) => Some(Value::Object(object_patch(&Map::new(), new))),
        (old, new) => (old != new).then(|| new.clone()),
    }
}

fn object_patch(old: &Map<String, Value>, new: &Map<String, Value>) -> Map<String, Value> {
    let mut patch = Map::new();
    for key in old.keys().filter(|key| !new.contains_key(*key)) {
        if !old[key].is_null() {
            patch.insert(key.clone(), Value::Null);
        }
    }
    for (key, value) in new {
        if let Some(difference) = merge_patch(old.get(key).unwrap_or(&Value::Null), value) {
            patch.insert(key.clone(), difference);
        }
    }
    patch
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::{Pod, PodStatus};
    use proptest::prelude::*;

    use super::*;
    use crate::fake_api::{FakeApi, merge};

    const POD: &str = "/api/v1/namespaces/shop/pods/cart";

    /// JSON without nulls, as statuses serialise.
    fn value() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![any::<bool>().prop_map(Value::from), (0..3i64).prop_map(Value::from)];
        leaf.prop_recursive(3, 20, 3, |inner| {
            prop_oneof![
                proptest::collection::vec(inner.clone(), 0..3).prop_map(Value::from),
                proptest::collection::btree_map("[ab]", inner, 0..3)
                    .prop_map(|map| Value::Object(map.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn applying_the_patch_of_old_to_new_gives_new(old in value(), new in value()) {
            let mut patched = old.clone();
            if let Some(patch) = merge_patch(&old, &new) {
                merge(&mut patched, &patch);
            }
            prop_assert_eq!(patched, new);
        }

        #[test]
        fn there_is_no_patch_exactly_when_nothing_changed(old in value(), new in value()) {
            prop_assert_eq!(merge_patch(&old, &new).is_none(), old == new);
        }
    }

    #[test]
    fn only_the_difference_is_in_the_patch() {
        let old = json!({ "same": 1, "changed": { "a": 1, "b": 2 }, "gone": "x", "list": [1, 2] });
        let new = json!({ "same": 1, "changed": { "a": 1, "b": 3 }, "list": [1], "null": null });
        let expected = json!({ "changed": { "b": 3 }, "gone": null, "list": [1] });
        assert_eq!(merge_patch(&old, &new), Some(expected));
    }

    fn status(phase: &str, message: Option<&str>) -> PodStatus {
        PodStatus { phase: Some(phase.into()), message: message.map(str::to_owned), ..PodStatus::default() }
    }

    #[tokio::test]
    async fn a_status_is_patched_when_it_changed_and_left_alone_when_not() {
        let api = FakeApi::new();
        api.put(POD, json!({ "status": { "phase": "Pending", "message": "waiting", "foreign": 1 } }));
        let pods: Api<Pod> = Api::namespaced(api.client(), "shop");
        let (old, new) = (status("Pending", Some("waiting")), status("Running", None));
        assert!(!patch_if_changed(&pods, "cart", Some(&old), &old).await.unwrap());
        assert!(api.writes().is_empty());
        assert!(patch_if_changed(&pods, "cart", Some(&old), &new).await.unwrap());
        assert_eq!(api.get(POD).unwrap()["status"], json!({ "phase": "Running", "foreign": 1 }));
        assert_eq!(api.writes()[0].1, format!("{POD}/status"));
    }

    #[tokio::test]
    async fn a_first_status_is_written_whole() {
        let api = FakeApi::new();
        api.put(POD, json!({}));
        let pods: Api<Pod> = Api::namespaced(api.client(), "shop");
        assert!(patch_if_changed(&pods, "cart", None, &status("Running", None)).await.unwrap());
        assert_eq!(api.get(POD).unwrap()["status"], json!({ "phase": "Running" }));
    }

    #[tokio::test]
    async fn a_refused_patch_is_an_error() {
        let pods: Api<Pod> = Api::namespaced(FakeApi::new().client(), "shop");
        let result = patch_if_changed(&pods, "gone", None, &status("Running", None)).await;
        assert!(matches!(result, Err(StatusError::Patch(kube::Error::Api(status))) if status.is_not_found()));
    }
}
