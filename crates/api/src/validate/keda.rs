//! ScaledObject, ScaledJob, the two authentications.

use std::collections::BTreeSet;

use super::{Validate, check};
use crate::FieldError;
use crate::convert;
use crate::keda::{
    ClusterTriggerAuthentication, FallbackBehavior, ScaleTrigger, ScaledJob, ScaledObject, TriggerAuthentication,
    TriggerAuthenticationSpec, annotations, is_resource_trigger,
};

/// A label value has at most this many characters, and the names of ScaledObject and HPA become one.
const NAME_LENGTH_MAX: usize = 63;

impl Validate for ScaledObject {
    fn errors(&self) -> Vec<FieldError> {
        let mut errors = Vec::new();
        names(self, &mut errors);
        check(
            &mut errors,
            !self.spec.scale_target_ref.name.is_empty(),
            "spec.scaleTargetRef.name",
            "must not be empty",
        );
        ranges(self, &mut errors);
        bounds(self, &mut errors);
        resources_only(self, &mut errors);
        triggers(&self.spec.triggers, "ScaledObject", &mut errors);
        for (index, trigger) in self.spec.triggers.iter().enumerate() {
            cached(trigger, index, &mut errors);
            metric_type(trigger, index, &mut errors);
        }
        modifiers(self, &mut errors);
        fallback(self, &mut errors);
        let paused = self.metadata.annotations.as_ref().and_then(|a| a.get(annotations::PAUSED_REPLICAS));
        if let Some(text) = paused {
            check(
                &mut errors,
                text.parse::<i32>().is_ok_and(|n| n >= 0),
                &format!("metadata.annotations.{}", annotations::PAUSED_REPLICAS),
                format!("{text:?} is not a number of replicas"),
            );
        }
        errors
    }
}

pub(crate) fn names(object: &ScaledObject, errors: &mut Vec<FieldError>) {
    let name = object.metadata.name.as_deref().unwrap_or_default();
    let length = name.chars().count();
    check(
        errors,
        length <= NAME_LENGTH_MAX,
        "metadata.name",
        format!(
            "scaledobject name {name:?} is {length} characters long; must be no more than {NAME_LENGTH_MAX}, \
             because it is used as a label value"
        ),
    );
    let hpa = object.spec.hpa_name(name);
    let length = hpa.chars().count();
    check(
        errors,
        length <= NAME_LENGTH_MAX,
        "spec.advanced.horizontalPodAutoscalerConfig.name",
        format!(
            "HPA name {hpa:?} derived from scaledobject is {length} characters long; must be no more than \
             {NAME_LENGTH_MAX} characters; set spec.advanced.horizontalPodAutoscalerConfig.name to a shorter name or \
             shorten the scaledobject name"
        ),
    );
}

/// What the CRD says, too.
fn ranges(object: &ScaledObject, errors: &mut Vec<FieldError>) {
    let spec = &object.spec;
    for (field, value, least) in [
        ("spec.pollingInterval", spec.polling_interval, 1),
        ("spec.cooldownPeriod", spec.cooldown_period, 0),
        ("spec.initialCooldownPeriod", spec.initial_cooldown_period, 0),
        ("spec.idleReplicaCount", spec.idle_replica_count, 0),
        ("spec.minReplicaCount", spec.min_replica_count, 0),
        ("spec.maxReplicaCount", spec.max_replica_count, 1),
    ] {
        check(errors, value.is_none_or(|v| v >= least), field, format!("must be at least {least}"));
    }
}

pub(crate) fn bounds(object: &ScaledObject, errors: &mut Vec<FieldError>) {
    let spec = &object.spec;
    // KEDA reads a minimum that is *given* as 0 as 1 here, and only here: `idle: 0, min: 0` passes.
    let least = spec.min_replica_count.map_or(0, |min| if min == 0 { 1 } else { min });
    let most = spec.effective_max();
    check(
        errors,
        least <= most,
        "spec.minReplicaCount",
        format!("MinReplicaCount={least} must be less than MaxReplicaCount={most}"),
    );
    if let Some(idle) = spec.idle_replica_count {
        check(
            errors,
            idle < least,
            "spec.idleReplicaCount",
            format!("IdleReplicaCount={idle} must be less than MinReplicaCount={least}"),
        );
    }
}

/// cpu and memory cannot wake a target. KEDA looks at this for the built-in workloads only.
pub(crate) fn resources_only(object: &ScaledObject, errors: &mut Vec<FieldError>) {
    let spec = &object.spec;
    let built_in = spec.scale_target_ref.has_known_template();
    let external = spec.triggers.iter().any(|t| !is_resource_trigger(&t.r#type));
    check(
        errors,
        !built_in || spec.triggers.is_empty() || external || spec.effective_min() > 0,
        "spec.minReplicaCount",
        "scaledobject has only cpu/memory triggers AND minReplica is 0 (scale to zero doesn't work in this case)",
    );
}

/// Rules of both kinds.
fn triggers(triggers: &[ScaleTrigger], kind: &str, errors: &mut Vec<FieldError>) {
    check(errors, !triggers.is_empty(), "spec.triggers", format!("no triggers defined in the {kind}"));
    unique(triggers, kind, errors);
    for (index, trigger) in triggers.iter().enumerate() {
        let field = format!("spec.triggers[{index}]");
        check(errors, !trigger.r#type.is_empty(), &format!("{field}.type"), "must not be empty");
        if let Some(reference) = &trigger.authentication_ref {
            let kind = reference.effective_kind();
            check(
                errors,
                matches!(kind, "TriggerAuthentication" | "ClusterTriggerAuthentication"),
                &format!("{field}.authenticationRef.kind"),
                format!("{kind:?} is neither TriggerAuthentication nor ClusterTriggerAuthentication"),
            );
            check(errors, !reference.name.is_empty(), &format!("{field}.authenticationRef.name"), "must not be empty");
        }
    }
}

/// Names of triggers that have one.
pub(crate) fn unique(triggers: &[ScaleTrigger], kind: &str, errors: &mut Vec<FieldError>) {
    let mut seen = BTreeSet::new();
    for (index, trigger) in triggers.iter().enumerate() {
        if let Some(name) = trigger.name.as_deref().filter(|name| !name.is_empty()) {
            check(
                errors,
                seen.insert(name),
                &format!("spec.triggers[{index}].name"),
                format!("triggerName {name:?} is defined multiple times in the {kind}, but it must be unique"),
            );
        }
    }
}

pub(crate) fn cached(trigger: &ScaleTrigger, index: usize, errors: &mut Vec<FieldError>) {
    let kind = trigger.r#type.as_str();
    check(
        errors,
        !(trigger.use_cached_metrics && matches!(kind, "cpu" | "memory" | "cron")),
        &format!("spec.triggers[{index}].useCachedMetrics"),
        format!("property \"useCachedMetrics\" is not supported for {kind:?} scaler"),
    );
}

fn metric_type(trigger: &ScaleTrigger, index: usize, errors: &mut Vec<FieldError>) {
    let (kind, field) = (trigger.r#type.as_str(), format!("spec.triggers[{index}].metricType"));
    let allowed = if is_resource_trigger(kind) { ["Utilization", "AverageValue"] } else { ["AverageValue", "Value"] };
    let metric_type = trigger.metric_type.as_deref().filter(|m| !m.is_empty());
    match metric_type {
        Some(found) => check(
            errors,
            allowed.contains(&found),
            &field,
            format!("metric type {found:?} is not allowed for {kind:?}; use {} or {}", allowed[0], allowed[1]),
        ),
        None => check(
            errors,
            !is_resource_trigger(kind),
            &field,
            format!("{kind:?} needs metricType Utilization or AverageValue"),
        ),
    }
}

pub(crate) fn modifiers(object: &ScaledObject, errors: &mut Vec<FieldError>) {
    errors.extend(convert::modifiers(&object.spec).err().into_iter().flatten());
}

pub(crate) fn fallback(object: &ScaledObject, errors: &mut Vec<FieldError>) {
    let spec = &object.spec;
    let Some(fallback) = &spec.fallback else { return };
    check(
        errors,
        fallback.failure_threshold >= 0 && fallback.replicas >= 0,
        "spec.fallback",
        format!(
            "FailureThreshold={} & Replicas={} must both be greater than or equal to 0",
            fallback.failure_threshold, fallback.replicas
        ),
    );
    let formula = spec.scaling_modifiers().is_some_and(|m| m.formula.as_deref().is_some_and(|f| !f.is_empty()));
    check(
        errors,
        formula || spec.triggers.iter().any(|t| !is_resource_trigger(&t.r#type)),
        "spec.fallback",
        "at least one trigger (that is not cpu or memory) has to have the `AverageValue` type for the fallback to be \
         enabled",
    );
    check(
        errors,
        formula || fallback.behavior != Some(FallbackBehavior::ScalingModifiers),
        "spec.fallback.behavior",
        "scalingModifiers fallback behavior requires scalingModifiers.formula to be defined",
    );
}

impl Validate for ScaledJob {
    fn errors(&self) -> Vec<FieldError> {
        let spec = &self.spec;
        let mut errors = Vec::new();
        for (field, value, least) in [
            ("spec.pollingInterval", spec.polling_interval, 1),
            ("spec.successfulJobsHistoryLimit", spec.successful_jobs_history_limit, 0),
            ("spec.failedJobsHistoryLimit", spec.failed_jobs_history_limit, 0),
            ("spec.minReplicaCount", spec.min_replica_count, 0),
            ("spec.maxReplicaCount", spec.max_replica_count, 1),
        ] {
            check(&mut errors, value.is_none_or(|v| v >= least), field, format!("must be at least {least}"));
        }
        errors.extend(spec.job_spec().err());
        triggers(&spec.triggers, "ScaledJob", &mut errors);
        for (index, trigger) in spec.triggers.iter().enumerate() {
            let field = format!("spec.triggers[{index}]");
            check(
                &mut errors,
                trigger.metric_type.as_deref().is_none_or(str::is_empty),
                &format!("{field}.metricType"),
                "metricType is set in a ScaledJob, where it has no meaning",
            );
            check(
                &mut errors,
                !is_resource_trigger(&trigger.r#type),
                &format!("{field}.type"),
                format!("{:?} cannot be a trigger of a ScaledJob", trigger.r#type),
            );
        }
        let share = spec.scaling_strategy.as_ref().and_then(|s| s.custom_scaling_running_job_percentage.as_deref());
        if let Some(text) = share.filter(|text| !text.is_empty()) {
            check(
                &mut errors,
                text.parse::<f64>().is_ok_and(f64::is_finite),
                "spec.scalingStrategy.customScalingRunningJobPercentage",
                format!("{text:?} is not a number"),
            );
        }
        errors
    }
}

impl Validate for TriggerAuthentication {
    fn errors(&self) -> Vec<FieldError> {
        let mut errors = authentication(&self.spec);
        check(
            &mut errors,
            self.spec.file_path.is_none(),
            "spec.filePath",
            "is allowed in a ClusterTriggerAuthentication only",
        );
        errors
    }
}

impl Validate for ClusterTriggerAuthentication {
    fn errors(&self) -> Vec<FieldError> {
        authentication(&self.spec.0)
    }
}

fn authentication(spec: &TriggerAuthenticationSpec) -> Vec<FieldError> {
    let mut errors = Vec::new();
    if let Some(identity) = &spec.pod_identity {
        check(
            &mut errors,
            matches!(identity.provider.as_str(), "azure-workload" | "gcp" | "aws" | "aws-eks" | "none" | ""),
            "spec.podIdentity.provider",
            format!("{:?} is none of azure-workload, gcp, aws, aws-eks, none", identity.provider),
        );
    }
    identities(spec, &mut errors);
    oauth2(spec, &mut errors);
    for (list, name) in
        [(&spec.secret_target_ref, "secretTargetRef"), (&spec.config_map_target_ref, "configMapTargetRef")]
    {
        for (index, target) in list.iter().enumerate() {
            check(
                &mut errors,
                ![&target.parameter, &target.name, &target.key].iter().any(|t| t.is_empty()),
                &format!("spec.{name}[{index}]"),
                "parameter, name and key must not be empty",
            );
        }
    }
    errors
}

/// Who the autoscaler is towards a cloud, in every place where an authentication says it.
pub(crate) fn identities(spec: &TriggerAuthenticationSpec, errors: &mut Vec<FieldError>) {
    let places = [
        ("spec.podIdentity", spec.pod_identity.as_ref()),
        ("spec.azureKeyVault.podIdentity", spec.azure_key_vault.as_ref().and_then(|vault| vault.pod_identity.as_ref())),
        (
            "spec.gcpSecretManager.podIdentity",
            spec.gcp_secret_manager.as_ref().and_then(|manager| manager.pod_identity.as_ref()),
        ),
        (
            "spec.awsSecretManager.podIdentity",
            spec.aws_secret_manager.as_ref().and_then(|manager| manager.pod_identity.as_ref()),
        ),
    ];
    for (place, identity) in places.into_iter().filter_map(|(place, identity)| Some((place, identity?))) {
        let given = |text: &Option<String>| text.as_deref().is_some_and(|text| !text.is_empty());
        let empty = |text: &Option<String>| text.as_deref() == Some("");
        for (name, text) in [("identityId", &identity.identity_id), ("identityTenantId", &identity.identity_tenant_id)]
        {
            check(
                errors,
                !empty(text),
                &format!("{place}.{name}"),
                format!("{name} of PodIdentity should not be empty. If it's set, {name} has to be different than \"\""),
            );
        }
        check(
            errors,
            !given(&identity.identity_authority_host) || given(&identity.identity_tenant_id),
            &format!("{place}.identityAuthorityHost"),
            "identityTenantId of PodIdentity should not be empty when identityAuthorityHost is set",
        );
        check(
            errors,
            !(given(&identity.role_arn) && identity.identity_owner.as_deref() == Some("workload")),
            &format!("{place}.roleArn"),
            "roleArn of PodIdentity can't be set if KEDA isn't identityOwner",
        );
        check(
            errors,
            !given(&identity.external_id) || given(&identity.role_arn),
            &format!("{place}.externalID"),
            "externalID of PodIdentity can't be set without roleArn",
        );
    }
}

pub(crate) fn oauth2(spec: &TriggerAuthenticationSpec, errors: &mut Vec<FieldError>) {
    let Some(oauth2) = &spec.oauth2 else { return };
    let kind = oauth2.r#type.as_deref().unwrap_or("clientCredentials");
    check(
        errors,
        kind == "clientCredentials",
        "spec.oauth2.type",
        format!("oauth2 type {kind:?} is not supported, use clientCredentials"),
    );
    check(errors, !oauth2.client_id.is_empty(), "spec.oauth2.clientId", "clientId of oauth2 is required");
    check(
        errors,
        ["http://", "https://"].iter().any(|scheme| oauth2.token_url.starts_with(scheme)),
        "spec.oauth2.tokenUrl",
        "tokenUrl of oauth2 is required and must begin with http:// or https://",
    );
}

#[cfg(test)]
#[path = "keda_tests.rs"]
mod tests;
