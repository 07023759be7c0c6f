//! What other objects say to a ScaledObject.

use std::fmt;
use std::sync::Arc;

use api::admission::Verdict;
use api::keda::{ScaledObject, is_resource_trigger};
use controller_runtime::boot::chain;
use k8s_openapi::api::core::v1::LimitRange;
use kube::api::ListParams;
use kube::{Api, Client, ResourceExt};

use super::requests::missing;
use crate::conflict::admission_conflict;
use crate::sources::Sources;
use crate::target::TargetError;

/// The rest of the cluster, as this replica knows it or asks for it.
pub(super) struct World {
    client: Client,
    sources: Arc<Sources>,
}

impl fmt::Debug for World {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("World").field("sources", &self.sources).finish_non_exhaustive()
    }
}

impl World {
    pub(super) fn new(client: Client, sources: Arc<Sources>) -> Self {
        Self { client, sources }
    }

    /// Adds what is to be said. It stops at what cannot be found out.
    pub(super) async fn judge(&self, object: &ScaledObject, dry_run: bool, verdict: &mut Verdict) {
        if self.sources.objects.is_synced() && self.sources.hpas.is_synced() {
            let (objects, hpas) = (self.sources.objects.state(), self.sources.hpas.state());
            let found = admission_conflict(object, objects.iter().map(AsRef::as_ref), hpas.iter().map(AsRef::as_ref));
            if let Some(conflict) = found {
                verdict.refuse(conflict.reason, conflict.to_string());
            }
        } else {
            verdict.warnings.push("who else scales the workload is not known yet".to_owned());
        }
        let target = &object.spec.scale_target_ref;
        let namespace = object.namespace().unwrap_or_default();
        let resolved = match self.sources.targets.resolve(&namespace, target).await {
            Ok(resolved) => resolved,
            Err(TargetError::Kind { api_version, kind }) => {
                let what = format!("spec.scaleTargetRef: no matches for kind \"{kind}\" in version \"{api_version}\"");
                return verdict.refuse("unknown-kind", what);
            }
            Err(error) => return verdict.warnings.push(chain(&error)),
        };
        let resources = object.spec.triggers.iter().any(|trigger| is_resource_trigger(&trigger.r#type));
        if dry_run || !resources || !target.has_known_template() {
            return;
        }
        let mut errors = Vec::new();
        api::admission::scale_to_zero(object, &mut errors);
        for error in errors {
            verdict.refuse("scale-to-zero-requirements-not-met", error.message);
        }
        let template = match resolved.template().await {
            Ok(template) => template.unwrap_or_default(),
            // KEDA refuses an object whose workload does not exist yet, which GitOps tools make in any order.
            Err(error) => return verdict.warnings.push(chain(&error)),
        };
        let ranges: Api<LimitRange> = Api::namespaced(self.client.clone(), &namespace);
        match ranges.list(&ListParams::default()).await {
            Ok(ranges) => {
                if let Some(message) = missing(object, &template, &ranges.items) {
                    verdict.refuse("missing-requests", message);
                }
            }
            Err(error) => verdict.warnings.push(format!("LimitRanges could not be listed: {}", chain(&error))),
        }
    }
}
