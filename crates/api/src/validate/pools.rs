//! Provisioner, NodePool, NodeClaim, KWOKNodeClass.

use super::{Validate, aws, check, kubelet_errors};
use crate::convert::SpanOrNever;
use crate::karpenter_kwok::KWOKNodeClass;
use crate::karpenter_v1::{NodeClaim, NodePool};
use crate::karpenter_v1alpha1::NodeOverlay;
use crate::karpenter_v1alpha5::Provisioner;
use crate::{FieldError, convert};

impl Validate for Provisioner {
    fn errors(&self) -> Vec<FieldError> {
        let spec = &self.spec;
        let mut errors = convert::provisioner(self).err().unwrap_or_default();
        match (&spec.provider, &spec.provider_ref) {
            (None, None) => {
                errors.push(FieldError::new("spec", "expected exactly one of provider and providerRef, got neither"));
            }
            (Some(_), Some(_)) => {
                errors.push(FieldError::new("spec", "expected exactly one of provider and providerRef, got both"));
            }
            (Some(inline), None) => errors.extend(aws::inline(inline)),
            (None, Some(reference)) => {
                check(&mut errors, !reference.name.is_empty(), "spec.providerRef.name", "must not be empty");
            }
        }
        let consolidated = spec.consolidation.as_ref().and_then(|c| c.enabled) == Some(true);
        check(
            &mut errors,
            !(consolidated && spec.ttl_seconds_after_empty.is_some()),
            "spec",
            "expected exactly one of ttlSecondsAfterEmpty and consolidation.enabled, got both",
        );
        if let Some(kubelet) = &spec.kubelet_configuration {
            let written = serde_json::to_value(kubelet).unwrap_or_default();
            errors.extend(kubelet_errors(&written, "spec.kubeletConfiguration"));
        }
        errors
    }
}

impl Validate for NodeOverlay {
    fn errors(&self) -> Vec<FieldError> {
        convert::overlay(self).err().unwrap_or_default()
    }
}

impl Validate for NodePool {
    fn errors(&self) -> Vec<FieldError> {
        let spec = &self.spec;
        let mut errors = convert::nodepool(self).err().unwrap_or_default();
        let after = convert::parse_duration(&spec.disruption.consolidate_after);
        if let Err(error) = after {
            errors.push(FieldError::new("spec.disruption.consolidateAfter", error.to_string()));
        }
        for (index, budget) in spec.disruption.budgets.iter().enumerate() {
            let field = format!("spec.disruption.budgets[{index}]");
            let number = budget.nodes.strip_suffix('%').unwrap_or(&budget.nodes);
            let percent = budget.nodes.ends_with('%');
            let found = number.bytes().all(|b| b.is_ascii_digit()).then(|| number.parse::<u32>().ok()).flatten();
            check(
                &mut errors,
                found.is_some_and(|n| !percent || n <= 100),
                &format!("{field}.nodes"),
                format!("{:?} is neither a number nor a percentage up to 100%", budget.nodes),
            );
            check(
                &mut errors,
                budget.schedule.is_some() == budget.duration.is_some(),
                &field,
                "schedule and duration belong together",
            );
            if let Some(schedule) = &budget.schedule {
                let fields = schedule.split_whitespace().count();
                check(
                    &mut errors,
                    fields == 5 || (fields == 1 && schedule.starts_with('@')),
                    &format!("{field}.schedule"),
                    format!("{schedule:?} is not a cron schedule of five fields"),
                );
            }
        }
        if let Some(replicas) = spec.replicas {
            check(&mut errors, replicas >= 0, "spec.replicas", "must not be negative");
            check(&mut errors, spec.weight.is_none(), "spec.weight", "a static NodePool (spec.replicas) has no weight");
            check(
                &mut errors,
                spec.limits.keys().all(|k| k == "nodes"),
                "spec.limits",
                "a static NodePool (spec.replicas) has no limits but nodes",
            );
        }
        errors
    }
}

impl Validate for KWOKNodeClass {
    fn errors(&self) -> Vec<FieldError> {
        let delay = self.spec.node_registration_delay.as_deref().map(convert::parse_duration);
        let problem = match delay {
            None | Some(Ok(SpanOrNever::Span(_))) => return Vec::new(),
            Some(Ok(SpanOrNever::Never)) => "a machine that never registers is none".to_owned(),
            Some(Err(error)) => error.to_string(),
        };
        vec![FieldError::new("spec.nodeRegistrationDelay", problem)]
    }
}

impl Validate for NodeClaim {
    fn errors(&self) -> Vec<FieldError> {
        let mut errors = Vec::new();
        for (index, requirement) in self.spec.requirements.iter().enumerate() {
            if let Err(message) = convert::claim_requirement(requirement) {
                errors.push(FieldError::new(format!("spec.requirements[{index}]"), message));
            }
        }
        if let Err(error) = convert::parse_duration(&self.spec.expire_after) {
            errors.push(FieldError::new("spec.expireAfter", error.to_string()));
        }
        errors
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::super::validate;
    use super::*;
    use crate::karpenter_kwok::KWOKNodeClassSpec;

    #[track_caller]
    fn check_provisioner(spec: &Value, expected: &[&str]) {
        let object: Provisioner = serde_json::from_value(
            json!({ "apiVersion": "karpenter.sh/v1alpha5", "kind": "Provisioner", "metadata": { "name": "p" }, "spec": spec }),
        )
        .unwrap();
        let said: Vec<String> = validate(&object).iter().map(ToString::to_string).collect();
        assert_eq!(said, expected);
    }

    fn provider() -> Value {
        json!({ "subnetSelector": { "a": "*" }, "securityGroupSelector": { "a": "*" } })
    }

    #[test]
    fn a_provisioner_has_one_provider() {
        check_provisioner(&json!({}), &["spec: expected exactly one of provider and providerRef, got neither"]);
        check_provisioner(
            &json!({ "provider": provider(), "providerRef": { "name": "x" } }),
            &["spec: expected exactly one of provider and providerRef, got both"],
        );
        check_provisioner(&json!({ "provider": provider() }), &[]);
        check_provisioner(&json!({ "providerRef": { "name": "x" } }), &[]);
    }

    #[test]
    fn unknown_keys_of_the_inline_provider_are_refused_at_every_depth() {
        let mut inline = provider();
        inline["subnetSelectr"] = json!({});
        inline["userData"] = json!("#!/bin/sh");
        inline["metadataOptions"] = json!({ "httpToken": "required" });
        inline["blockDeviceMappings"] =
            json!([{ "deviceName": "/dev/xvda", "ebs": { "volumeSize": "20Gi", "volumetype": "gp3" } }]);
        check_provisioner(
            &json!({ "provider": inline }),
            &[
                "spec.provider.blockDeviceMappings[0].ebs.volumetype: unknown field",
                "spec.provider.metadataOptions.httpToken: unknown field",
                "spec.provider.subnetSelectr: unknown field",
                "spec.provider.userData: needs an AWSNodeTemplate (providerRef)",
            ],
        );
    }

    #[test]
    fn emptiness_and_consolidation_exclude_each_other() {
        check_provisioner(
            &json!({ "provider": provider(), "ttlSecondsAfterEmpty": 30, "consolidation": { "enabled": true } }),
            &["spec: expected exactly one of ttlSecondsAfterEmpty and consolidation.enabled, got both"],
        );
        check_provisioner(
            &json!({ "provider": provider(), "ttlSecondsAfterEmpty": 30, "consolidation": { "enabled": false } }),
            &[],
        );
    }

    #[test]
    fn a_limit_with_a_blank_is_named() {
        check_provisioner(
            &json!({ "provider": provider(), "limits": { "resources": { "memory": "1000 Gi" } } }),
            &["spec.limits.resources.memory: quantity \"1000 Gi\" has a space: write 1000Gi instead"],
        );
    }

    #[test]
    fn a_registration_delay_is_a_span_of_time() {
        let said = |delay: Option<&str>| -> Vec<String> {
            let spec = KWOKNodeClassSpec { node_registration_delay: delay.map(str::to_owned) };
            validate(&KWOKNodeClass::new("c", spec)).iter().map(ToString::to_string).collect()
        };
        assert_eq!(said(None), Vec::<String>::new());
        assert_eq!(said(Some("1m30s")), Vec::<String>::new());
        for wrong in ["Never", "soon"] {
            let [one] = &said(Some(wrong))[..] else { panic!("{wrong}") };
            assert!(one.starts_with("spec.nodeRegistrationDelay: "), "{one}");
        }
    }

    #[test]
    fn budgets_are_numbers_or_percentages_with_a_whole_window() {
        let pool: NodePool = serde_json::from_value(json!({ "apiVersion": "karpenter.sh/v1", "kind": "NodePool",
            "metadata": { "name": "p" }, "spec": {
                "template": { "spec": { "requirements": [],
                    "nodeClassRef": { "group": "g", "kind": "K", "name": "n" } } },
                "disruption": { "budgets": [{ "nodes": "101%" }, { "nodes": "5", "schedule": "@daily" }] } } }))
        .unwrap();
        let said: Vec<String> = validate(&pool).iter().map(ToString::to_string).collect();
        assert_eq!(
            said,
            [
                "spec.disruption.budgets[0].nodes: \"101%\" is neither a number nor a percentage up to 100%",
                "spec.disruption.budgets[1]: schedule and duration belong together",
            ]
        );
    }
}
