//! `admission.k8s.io/v1` AdmissionReview, as far as we need it.

use api::admission::Verdict;
use serde::Deserialize;
use serde_json::{Value, json};

/// The question.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Request {
    pub(super) uid: String,
    /// `CREATE` or `UPDATE`.
    pub(super) operation: String,
    #[serde(default)]
    pub(super) namespace: Option<String>,
    #[serde(default)]
    pub(super) dry_run: bool,
    /// The object as it is to be.
    #[serde(default)]
    pub(super) object: Value,
    /// The object as it is.
    #[serde(default)]
    old_object: Value,
}

impl Request {
    pub(super) fn read(mut body: Value) -> Result<Self, serde_json::Error> {
        serde_json::from_value(body["request"].take())
    }

    /// Whether there is something to judge: a new object, or one with another spec that is not about to go.
    pub(super) fn changes_spec(&self) -> bool {
        match self.operation.as_str() {
            "CREATE" => true,
            "UPDATE" => {
                self.object["spec"] != self.old_object["spec"] && self.object["metadata"]["deletionTimestamp"].is_null()
            }
            _ => false,
        }
    }
}

/// The answer.
pub(super) fn answer(uid: &str, verdict: &Verdict) -> Value {
    let mut response = json!({ "uid": uid, "allowed": verdict.is_allowed() });
    // Who is refused has something else to think about than what has no effect. KEDA says no more either.
    if !verdict.is_allowed() {
        response["status"] = json!({ "code": 403, "reason": "Forbidden", "message": verdict.message() });
    } else if !verdict.warnings.is_empty() {
        response["warnings"] = json!(verdict.warnings);
    }
    json!({ "apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "response": response })
}
