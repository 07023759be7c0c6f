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
        // Into a place where no object is, the patch is the object itself; nulls in it would only be dropped.
        (old, Value::Object(new)) => {
            let patch = object_patch(&Map::new(), new);
            (!patch.is_empty() || !old.is_null()).then_some(Value::Object(patch))
        }
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
