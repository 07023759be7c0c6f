//! What admission says to an object, as far as the object decides it alone: KEDA's rules, in its words.
//!
//! It refuses less than [`validate`](mod@crate::validate) finds wrong. The rest is told in the object's condition, as in
//! KEDA, so that manifests that were accepted there are accepted here. What the CRD's schema says is not said again: it is
//! asked before us. Rules that need other objects are the controller's.

use crate::eventing::{CloudEventSource, CloudEventSourceSpec, ClusterCloudEventSource};
use crate::keda::{
    ClusterTriggerAuthentication, ScaledJob, ScaledObject, ScaledObjectSpec, TriggerAuthentication,
    TriggerAuthenticationSpec,
};
use crate::validate::keda as rules;
use crate::{FieldError, joined};

/// The answer to an object that somebody wants to write.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Verdict {
    /// Why it is refused; empty if it is not.
    pub refusals: Vec<Refusal>,
    /// What the writer should know.
    pub warnings: Vec<String>,
}

/// One reason to refuse an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// One word, for series; as in KEDA's `keda_webhook_scaled_object_validation_errors_total`.
    pub reason: &'static str,
    /// A sentence, for people.
    pub message: String,
}

impl Verdict {
    /// Refuses for one more reason.
    pub fn refuse(&mut self, reason: &'static str, message: impl Into<String>) {
        self.refusals.push(Refusal { reason, message: message.into() });
    }

    fn refuse_all(&mut self, reason: &'static str, errors: Vec<FieldError>) {
        for error in errors {
            self.refuse(reason, error.message);
        }
    }

    /// Whether the object may be written.
    pub fn is_allowed(&self) -> bool {
        self.refusals.is_empty()
    }

    /// All refusals in one text, each with its sentence only.
    pub fn message(&self) -> String {
        joined(self.refusals.iter().map(|refusal| refusal.message.as_str()))
    }
}

/// A ScaledObject without regard to others.
pub fn scaled_object(object: &ScaledObject) -> Verdict {
    let mut verdict = Verdict { warnings: irrelevant(&object.spec), ..Verdict::default() };
    let found = |rule: fn(&ScaledObject, &mut Vec<FieldError>)| {
        let mut errors = Vec::new();
        rule(object, &mut errors);
        errors
    };
    for error in found(rules::names) {
        let own = error.field == "metadata.name";
        verdict.refuse(if own { "name-too-long" } else { "hpa-name-too-long" }, error.message);
    }
    verdict.refuse_all("incorrect-replicas", found(rules::bounds));
    for error in found(rules::fallback) {
        let formula = error.field.ends_with(".behavior");
        verdict.refuse(if formula { "scaling-modifiers-fallback" } else { "incorrect-fallback" }, error.message);
    }
    let mut errors = Vec::new();
    rules::unique(&object.spec.triggers, "ScaledObject", &mut errors);
    for (index, trigger) in object.spec.triggers.iter().enumerate() {
        rules::cached(trigger, index, &mut errors);
    }
    verdict.refuse_all("incorrect-triggers", errors);
    verdict.refuse_all("scaling-modifiers", found(rules::modifiers));
    verdict
}

/// A ScaledJob.
pub fn scaled_job(job: &ScaledJob) -> Verdict {
    let mut verdict = Verdict::default();
    let mut errors = Vec::new();
    rules::unique(&job.spec.triggers, "ScaledJob", &mut errors);
    verdict.refuse_all("incorrect-triggers", errors);
    match job.spec.job_spec() {
        // In the words of the API server, which says so of kinds that it knows.
        Ok((_, unknown)) => verdict.warnings.extend(unknown.iter().map(|field| format!("unknown field \"{field}\""))),
        Err(error) => verdict.refuse("incorrect-job", error.to_string()),
    }
    if job.spec.triggers.iter().any(|trigger| trigger.use_cached_metrics) {
        verdict.warnings.push("useCachedMetrics has no meaning in a ScaledJob and is ignored".to_owned());
    }
    if job.spec.rollout_strategy.is_some() {
        verdict.warnings.push("rolloutStrategy is deprecated, use rollout.strategy instead".to_owned());
    }
    verdict
}

/// A TriggerAuthentication.
pub fn trigger_authentication(object: &TriggerAuthentication) -> Verdict {
    let mut verdict = authentication(&object.spec);
    if object.spec.file_path.is_some() {
        verdict.refuse("incorrect-authentication", "filePath is allowed in a ClusterTriggerAuthentication only");
    }
    verdict
}

/// A ClusterTriggerAuthentication.
pub fn cluster_trigger_authentication(object: &ClusterTriggerAuthentication) -> Verdict {
    authentication(&object.spec.0)
}

/// A CloudEventSource.
pub fn cloud_event_source(object: &CloudEventSource) -> Verdict {
    event_source(&object.spec)
}

/// A ClusterCloudEventSource.
pub fn cluster_cloud_event_source(object: &ClusterCloudEventSource) -> Verdict {
    event_source(&object.spec.0)
}

/// Refuses what KEDA refuses; what else keeps events from being sent is in the Active condition, and told here.
fn event_source(spec: &CloudEventSourceSpec) -> Verdict {
    let mut verdict = Verdict::default();
    let mut refused = Vec::new();
    if let Some(subscription) = &spec.event_subscription {
        subscription.check(&mut refused);
    }
    let others = spec.errors().into_iter().filter(|error| !refused.contains(error)).map(|error| error.to_string());
    verdict.warnings.extend(others);
    if spec.destination.azure_event_grid_topic.is_some() {
        verdict.warnings.push("spec.destination.azureEventGridTopic is not supported yet: nothing is sent".to_owned());
    } else if spec.authentication_ref.is_some() {
        verdict.warnings.push("spec.authenticationRef has no effect on an http destination".to_owned());
    }
    verdict.refuse_all("incorrect-subscription", refused);
    verdict
}

fn authentication(spec: &TriggerAuthenticationSpec) -> Verdict {
    let mut verdict = Verdict::default();
    let mut errors = Vec::new();
    rules::identities(spec, &mut errors);
    rules::oauth2(spec, &mut errors);
    verdict.refuse_all("incorrect-authentication", errors);
    verdict
}

/// Whether an object with nothing but cpu and memory may go to zero: KEDA asks where it also looks at the workload's
/// containers.
pub fn scale_to_zero(object: &ScaledObject, errors: &mut Vec<FieldError>) {
    rules::resources_only(object, errors);
}

/// Settings of a ScaledObject that have no effect, because its target is never scaled to zero or idle. KEDA's texts.
pub fn irrelevant(spec: &ScaledObjectSpec) -> Vec<String> {
    let mut warnings = Vec::new();
    if spec.effective_min() < 1 || spec.idle_replica_count.is_some() {
        return warnings;
    }
    if spec.polling_interval.is_some() && !spec.triggers.iter().any(|trigger| trigger.use_cached_metrics) {
        warnings.push(
            "PollingInterval is configured but is not relevant. PollingInterval is only relevant when minReplicaCount = 0, \
             idleReplicaCount is set, or useCachedMetrics is enabled"
                .to_owned(),
        );
    }
    if spec.cooldown_period.is_some() {
        warnings.push(
            "CooldownPeriod is configured but is not relevant. CooldownPeriod is only relevant when minReplicaCount = 0 or \
             idleReplicaCount is set"
                .to_owned(),
        );
    }
    warnings
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn object(mut spec: Value) -> ScaledObject {
        spec["scaleTargetRef"] = json!({ "name": "web" });
        if spec.get("triggers").is_none() {
            spec["triggers"] = json!([{ "type": "prometheus", "name": "q", "metadata": {} }]);
        }
        ScaledObject::new("a", serde_json::from_value(spec).unwrap())
    }

    fn said(spec: Value) -> Vec<(&'static str, String)> {
        scaled_object(&object(spec)).refusals.into_iter().map(|r| (r.reason, r.message)).collect()
    }

    #[test]
    fn what_a_job_cannot_have_is_named_where_it_is_written() {
        let verdict = |job: Value| {
            let spec = json!({ "jobTargetRef": job, "triggers": [] });
            let verdict = scaled_job(&ScaledJob::new("a", serde_json::from_value(spec).unwrap()));
            (verdict.message(), verdict.warnings)
        };
        let with = |container: Value| json!({ "template": { "spec": { "containers": [container] } } });
        assert_eq!(
            verdict(with(json!({ "name": "a", "resources": { "limits": { "cpu": 1 } } }))),
            (String::new(), vec![])
        );
        let mut job = with(json!({ "name": "a", "envv": [{ "name": "A" }] }));
        job["backofLimit"] = json!(1);
        let unknown = ["backofLimit", "template.spec.containers[0].envv"];
        let unknown = unknown.map(|field| format!("unknown field \"spec.jobTargetRef.{field}\"")).to_vec();
        assert_eq!(verdict(job), (String::new(), unknown));
        for (job, wanted) in [
            (
                json!({ "parallelism": "2", "template": {} }),
                "spec.jobTargetRef.parallelism: invalid type: string \"2\", expected i32",
            ),
            (
                with(json!({ "name": "a", "env": [{ "name": "A", "value": 5 }] })),
                "spec.jobTargetRef.template.spec.containers[0].env[0].value: invalid type: integer `5`, expected a string",
            ),
            (json!(7), "spec.jobTargetRef: invalid type: integer `7`, expected JobSpec"),
        ] {
            assert_eq!(verdict(job), (wanted.to_owned(), vec![]));
        }
    }

    #[test]
    fn what_keda_accepts_is_accepted_though_it_cannot_work() {
        let cpu = json!([{ "type": "cpu", "metricType": "Value", "metadata": {} }]);
        assert_eq!(said(json!({ "minReplicaCount": 1, "triggers": cpu })), []);
        let unknown = json!([{ "type": "nonsense", "metadata": {} }]);
        assert_eq!(said(json!({ "triggers": unknown })), []);
    }

    #[test]
    fn a_refusal_has_kedas_word_and_sentence() {
        assert_eq!(
            said(json!({ "idleReplicaCount": 2, "minReplicaCount": 1 })),
            [("incorrect-replicas", "IdleReplicaCount=2 must be less than MinReplicaCount=1".to_owned())]
        );
        let modifiers = json!({ "scalingModifiers": { "formula": "q > 1", "target": "2" } });
        let [(reason, message)] = &said(json!({ "advanced": modifiers }))[..] else { panic!("one refusal") };
        assert_eq!(*reason, "scaling-modifiers");
        assert!(message.starts_with("error validating formula in ScalingModifiers\n"), "{message}");
        let fallback = json!({ "failureThreshold": 1, "replicas": 1, "behavior": "scalingModifiers" });
        assert_eq!(said(json!({ "fallback": fallback }))[0].0, "scaling-modifiers-fallback");
    }

    #[test]
    fn what_has_no_effect_is_said() {
        let always = json!({ "minReplicaCount": 1, "pollingInterval": 5, "cooldownPeriod": 5 });
        assert_eq!(scaled_object(&object(always.clone())).warnings.len(), 2);
        let mut cached = always.clone();
        cached["triggers"] = json!([{ "type": "prometheus", "metadata": {}, "useCachedMetrics": true }]);
        assert!(scaled_object(&object(cached)).warnings[0].starts_with("CooldownPeriod"));
        let mut idle = always;
        idle["idleReplicaCount"] = json!(0);
        assert!(scaled_object(&object(idle)).warnings.is_empty());
    }

    #[test]
    fn a_source_of_events_is_refused_for_its_subscription_only() {
        let judged =
            |spec: Value| cloud_event_source(&CloudEventSource::new("a", serde_json::from_value(spec).unwrap()));
        let odd = json!({ "excludedEventTypes": ["keda.nonsense.v1"] });
        let refused = judged(json!({ "destination": { "http": { "uri": "http://x" } }, "eventSubscription": odd }));
        assert_eq!(refused.message(), "eventType \"keda.nonsense.v1\" is not known");
        let grid = judged(json!({ "destination": { "azureEventGridTopic": { "endpoint": "https://t" } } }));
        assert!(grid.is_allowed() && grid.warnings[0].contains("not supported yet"), "{grid:?}");
        assert!(judged(json!({ "destination": {} })).is_allowed());
    }

    #[test]
    fn an_identity_that_contradicts_itself_is_refused() {
        let authentication = |identity: Value| {
            let spec = json!({ "podIdentity": identity });
            trigger_authentication(&TriggerAuthentication::new("a", serde_json::from_value(spec).unwrap())).message()
        };
        assert_eq!(
            authentication(json!({ "provider": "aws", "roleArn": "arn:x", "identityOwner": "workload" })),
            "roleArn of PodIdentity can't be set if KEDA isn't identityOwner"
        );
        assert_eq!(authentication(json!({ "provider": "none" })), "");
        assert!(authentication(json!({ "provider": "aws", "externalID": "x" })).contains("externalID"));
        assert!(authentication(json!({ "provider": "azure-workload", "identityId": "" })).contains("identityId"));
    }
}
