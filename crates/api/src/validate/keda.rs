//! ScaledObject, ScaledJob, the two authentications.

use std::collections::BTreeSet;

use super::{Validate, check};
use crate::FieldError;
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
        replicas(self, &mut errors);
        triggers(&self.spec.triggers, "ScaledObject", &mut errors);
        for (index, trigger) in self.spec.triggers.iter().enumerate() {
            object_trigger(trigger, &format!("spec.triggers[{index}]"), &mut errors);
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

fn names(object: &ScaledObject, errors: &mut Vec<FieldError>) {
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
             {NAME_LENGTH_MAX}"
        ),
    );
    check(errors, !object.spec.scale_target_ref.name.is_empty(), "spec.scaleTargetRef.name", "must not be empty");
}

fn replicas(object: &ScaledObject, errors: &mut Vec<FieldError>) {
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
    let external = spec.triggers.iter().any(|t| !is_resource_trigger(&t.r#type));
    check(
        errors,
        spec.triggers.is_empty() || external || spec.effective_min() > 0,
        "spec.minReplicaCount",
        "scaledobject has only cpu/memory triggers AND minReplica is 0 (scale to zero doesn't work in this case)",
    );
}

/// Rules of both kinds.
fn triggers(triggers: &[ScaleTrigger], kind: &str, errors: &mut Vec<FieldError>) {
    check(errors, !triggers.is_empty(), "spec.triggers", format!("no triggers defined in the {kind}"));
    let mut seen = BTreeSet::new();
    for (index, trigger) in triggers.iter().enumerate() {
        let field = format!("spec.triggers[{index}]");
        check(errors, !trigger.r#type.is_empty(), &format!("{field}.type"), "must not be empty");
        if let Some(name) = trigger.name.as_deref().filter(|name| !name.is_empty()) {
            check(
                errors,
                seen.insert(name),
                &format!("{field}.name"),
                format!("triggerName {name:?} is defined multiple times in the {kind}, but it must be unique"),
            );
        }
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

fn object_trigger(trigger: &ScaleTrigger, field: &str, errors: &mut Vec<FieldError>) {
    let kind = trigger.r#type.as_str();
    check(
        errors,
        !(trigger.use_cached_metrics && matches!(kind, "cpu" | "memory" | "cron")),
        &format!("{field}.useCachedMetrics"),
        format!("property \"useCachedMetrics\" is not supported for {kind:?} scaler"),
    );
    let allowed = if is_resource_trigger(kind) { ["Utilization", "AverageValue"] } else { ["AverageValue", "Value"] };
    let metric_type = trigger.metric_type.as_deref().filter(|m| !m.is_empty());
    match metric_type {
        Some(found) => check(
            errors,
            allowed.contains(&found),
            &format!("{field}.metricType"),
            format!("metric type {found:?} is not allowed for {kind:?}; use {} or {}", allowed[0], allowed[1]),
        ),
        None => check(
            errors,
            !is_resource_trigger(kind),
            &format!("{field}.metricType"),
            format!("{kind:?} needs metricType Utilization or AverageValue"),
        ),
    }
}

fn modifiers(object: &ScaledObject, errors: &mut Vec<FieldError>) {
    const FIELD: &str = "spec.advanced.scalingModifiers";
    let Some(modifiers) = object.spec.scaling_modifiers() else { return };
    let given = |text: &Option<String>| text.as_deref().is_some_and(|t| !t.trim().is_empty());
    check(
        errors,
        given(&modifiers.formula),
        &format!("{FIELD}.formula"),
        "error validating formula in ScalingModifiers: a formula is required",
    );
    check(
        errors,
        given(&modifiers.target),
        &format!("{FIELD}.target"),
        "error validating target in ScalingModifiers: a target is required",
    );
    for (name, text) in [("target", &modifiers.target), ("activationTarget", &modifiers.activation_target)] {
        if let Some(text) = text.as_deref().filter(|t| !t.trim().is_empty()) {
            check(
                errors,
                text.parse::<f64>().is_ok_and(f64::is_finite),
                &format!("{FIELD}.{name}"),
                format!("{text:?} is not a number"),
            );
        }
    }
    if let Some(metric_type) = &modifiers.metric_type {
        check(
            errors,
            matches!(metric_type.as_str(), "" | "AverageValue" | "Value"),
            &format!("{FIELD}.metricType"),
            format!("metric type {metric_type:?} is not allowed; use AverageValue or Value"),
        );
    }
}

fn fallback(object: &ScaledObject, errors: &mut Vec<FieldError>) {
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
        "at least one trigger (that is not cpu or memory) has to have the AverageValue type for the fallback to be \
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
        if let Err(error) = spec.job_spec() {
            errors.push(FieldError::new("spec.jobTargetRef", error.to_string()));
        }
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
        check(
            &mut errors,
            identity.identity_id.as_deref() != Some(""),
            "spec.podIdentity.identityId",
            "must not be empty if it is given",
        );
        check(
            &mut errors,
            !(identity.role_arn.is_some() && identity.identity_owner.as_deref() == Some("workload")),
            "spec.podIdentity.roleArn",
            "cannot be given when the identity is the workload's (identityOwner: workload)",
        );
    }
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

#[cfg(test)]
#[path = "keda_tests.rs"]
mod tests;
