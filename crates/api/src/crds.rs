//! The CRDs, made from the types.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    CustomResourceDefinition, JSONSchemaProps, JSONSchemaPropsOrArray, JSONSchemaPropsOrBool,
};
use kube::CustomResourceExt;

use crate::{eventing, karpenter_aws, karpenter_kwok, karpenter_v1, karpenter_v1alpha1, karpenter_v1alpha5, keda};

/// All CRDs, in the order in which they are listed and installed.
///
/// Descriptions of Kubernetes' own types are left out: with them the ScaledObject alone would come
/// near the limit that client-side `kubectl apply` has.
pub fn crds() -> Vec<CustomResourceDefinition> {
    let mut all = vec![
        keda::ScaledObject::crd(),
        keda::ScaledJob::crd(),
        keda::TriggerAuthentication::crd(),
        keda::ClusterTriggerAuthentication::crd(),
        eventing::CloudEventSource::crd(),
        eventing::ClusterCloudEventSource::crd(),
        karpenter_v1alpha5::Provisioner::crd(),
        karpenter_v1::NodePool::crd(),
        karpenter_v1::NodeClaim::crd(),
        karpenter_v1alpha1::NodeOverlay::crd(),
        karpenter_aws::AWSNodeTemplate::crd(),
        karpenter_aws::EC2NodeClass::crd(),
        karpenter_kwok::crd(),
    ];
    for crd in &mut all {
        for version in &mut crd.spec.versions {
            if let Some(schema) = version.schema.as_mut().and_then(|s| s.open_api_v3_schema.as_mut()) {
                shorten(schema);
            }
        }
    }
    all
}

/// The file of a CRD: `<plural>.<group>.yaml`.
pub fn file_name(crd: &CustomResourceDefinition) -> String {
    format!("{}.{}.yaml", crd.spec.names.plural, crd.spec.group)
}

/// Longest description that stays; ours are one or two sentences.
const DESCRIPTION_MAX: usize = 240;

/// Drops long descriptions, here and below.
fn shorten(schema: &mut JSONSchemaProps) {
    if schema.description.as_ref().is_some_and(|d| d.len() > DESCRIPTION_MAX) {
        schema.description = None;
    }
    for property in schema.properties.iter_mut().flat_map(|p| p.values_mut()) {
        shorten(property);
    }
    match &mut schema.items {
        Some(JSONSchemaPropsOrArray::Schema(item)) => shorten(item),
        Some(JSONSchemaPropsOrArray::Schemas(items)) => items.iter_mut().for_each(shorten),
        None => {}
    }
    if let Some(JSONSchemaPropsOrBool::Schema(values)) = &mut schema.additional_properties {
        shorten(values);
    }
}
