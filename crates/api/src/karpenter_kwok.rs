//! `karpenter.kwok.sh`: machines that are nothing but Node objects, kept alive by KWOK.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{CustomResourceDefinition, JSON};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::{CustomResource, CustomResourceExt as _};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;

/// How machines without a vendor behave.
#[derive(CustomResource, JsonSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[kube(
    group = "karpenter.kwok.sh",
    version = "v1alpha1",
    kind = "KWOKNodeClass",
    plural = "kwoknodeclasses",
    shortname = "kwoknc",
    shortname = "kwokncs",
    status = "KWOKNodeClassStatus",
    derive = "PartialEq",
    category = "karpenter",
    doc = "KWOKNodeClass says how machines behave that are nothing but Node objects."
)]
#[serde(rename_all = "camelCase")]
pub struct KWOKNodeClassSpec {
    /// Time from a launch to its Node, such as `30s`; what the program was told if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(regex(pattern = r"^([0-9]+(s|m|h))+$"))]
    pub node_registration_delay: Option<String>,
}

/// What is known about a KWOKNodeClass.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct KWOKNodeClassStatus {
    /// Ready.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub conditions: Vec<Condition>,
}

/// The CRD. As in Karpenter, an object may leave its spec out, and is ready as soon as it is there: there is nothing to
/// look up.
pub(crate) fn crd() -> CustomResourceDefinition {
    let ready = json!({ "type": "Ready", "status": "True", "reason": "Ready", "message": "",
        "lastTransitionTime": "2024-01-01T00:00:00Z" });
    let defaults = [("spec", json!({})), ("status", json!({ "conditions": [ready] }))];
    let mut crd = KWOKNodeClass::crd();
    let schemas =
        crd.spec.versions.iter_mut().filter_map(|version| version.schema.as_mut()?.open_api_v3_schema.as_mut());
    for schema in schemas {
        schema.required = None;
        for (field, default) in &defaults {
            let found = schema.properties.as_mut().and_then(|properties| properties.get_mut(*field));
            if let Some(property) = found {
                property.default = Some(JSON(default.clone()));
                property.nullable = None;
            }
        }
    }
    crd
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_class_may_leave_everything_out() {
        let crd = serde_json::to_value(crd()).unwrap();
        let schema = &crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"];
        assert!(schema["required"].is_null());
        assert_eq!(schema["properties"]["spec"]["default"], json!({}));
        assert_eq!(schema["properties"]["status"]["default"]["conditions"][0]["type"], "Ready");
        assert_eq!(crd["spec"]["scope"], "Cluster");
    }
}
