use std::sync::Arc;

use super::*;

#[test]
fn series_have_the_names_and_labels_of_keda_and_go_with_their_object() {
    let registry = Arc::new(Registry::default());
    let metrics = Metrics::new(&registry);
    let key = ObjectKey { namespace: "shop".into(), name: "web".into() };
    let labels = TriggerLabels::new("scaledobject", &key, "s0-prometheus", "prometheusScaler", "prometheusScaler", 0);
    let sampled = scalers::Sampled { value: units::Milli::from_thousandths(1_500), active: true, empty: false };
    metrics.read(&labels, &Ok(sampled), Duration::from_millis(250));
    metrics.read(&labels, &Err("down".into()), Duration::from_millis(250));
    let text = registry.encode().unwrap();
    let set = "namespace=\"shop\",metric=\"s0-prometheus\",scaledObject=\"web\",scaler=\"prometheusScaler\",triggerIndex=\"0\",type=\"scaledobject\"";
    for line in [
        format!("keda_scaler_metrics_value{{{set}}} 1.5"),
        format!("keda_scaler_detail_errors_total{{{set}}} 1"),
        format!("keda_scaler_metrics_latency_seconds{{{set}}} 0.25"),
    ] {
        assert!(text.contains(&line), "{line}\n{text}");
    }
    metrics.forget_trigger(&labels);
    assert!(!registry.encode().unwrap().contains("s0-prometheus"));
}

#[test]
fn what_is_there_is_counted_by_kind_and_trigger() {
    let registry = Arc::new(Registry::default());
    let metrics = Metrics::new(&registry);
    let whole = |kind: &str| {
        serde_json::json!({
            "apiVersion": "keda.sh/v1alpha1", "kind": kind, "metadata": {"name": "a", "namespace": "shop"},
            "spec": {
                "scaleTargetRef": {"name": "a"}, "jobTargetRef": {}, "triggers": [{"type": "redis", "metadata": {}}],
            },
        })
    };
    let object: api::keda::ScaledObject = serde_json::from_value(whole("ScaledObject")).unwrap();
    let job: api::keda::ScaledJob = serde_json::from_value(whole("ScaledJob")).unwrap();
    metrics.count([Subject::object(&object), Subject::job(&job)].into_iter());
    let text = registry.encode().unwrap();
    for line in [
        "keda_trigger_registered_total{type=\"redis\"} 2",
        "keda_resource_registered_total{type=\"scaled_job\",namespace=\"shop\"} 1",
        "keda_resource_registered_total{type=\"scaled_object\",namespace=\"shop\"} 1",
    ] {
        assert!(text.contains(line), "{line}\n{text}");
    }
    metrics.count([Subject::object(&object)].into_iter());
    assert!(!registry.encode().unwrap().contains("scaled_job\""));
}

/// Names, types and labels of KEDA, as its reference has them, and ours, after one of everything has happened.
#[test]
fn every_series_has_its_name_type_and_labels() {
    let registry = Arc::new(Registry::default());
    let metrics = Metrics::new(&registry);
    let key = ObjectKey { namespace: "shop".into(), name: "web".into() };
    let labels = TriggerLabels::new("scaledobject", &key, "s0-prometheus", "prometheusScaler", "load", 0);
    let sampled = scalers::Sampled { value: units::Milli::from_thousandths(1_500), active: true, empty: true };
    metrics.read(&labels, &Ok(sampled), Duration::from_millis(250));
    metrics.read(&labels, &Err("down".into()), Duration::from_millis(250));
    metrics.http_request(&labels, Some(200), Duration::from_millis(250));
    metrics.set_paused(&key, true);
    metrics.object_failed(&key);
    metrics.job_failed(&key);
    metrics.job_made(&key);
    metrics.poll_began("scaledjob", &key, Duration::ZERO);
    metrics.decided("scaledobject", &key, "hold", "Steady");
    metrics.scale_written("Activated");
    metrics.judged("shop", "create", ["incorrect-replicas"].into_iter());
    metrics.cloud_event("shop", "audit", true);
    metrics.cloud_events_queued("shop", 1);
    metrics.count_resources(&["cloudevent_source"], &BTreeMap::from([(("cloudevent_source", "shop".to_owned()), 1)]));
    metrics.triggers.get_or_create(&Labels::new([("type", "cron")])).set(1);
    let text = registry.encode().unwrap();
    let trigger = "namespace,metric,scaledObject,scaler,triggerIndex,type";
    let http = "namespace,scaled_resource,scaler,trigger_name,metric_name,status_code";
    for (name, kind, suffix, labels) in [
        ("keda_build_info", "gauge", "", "version,git_commit,goversion,goos,goarch"),
        ("keda_scaler_metrics_value", "gauge", "", trigger),
        ("keda_scaler_metrics_latency_seconds", "gauge", "", trigger),
        ("keda_scaler_active", "gauge", "", trigger),
        ("keda_scaler_detail_errors", "counter", "_total", trigger),
        ("keda_scaled_object_paused", "gauge", "", "namespace,scaledObject"),
        ("keda_scaled_object_errors", "counter", "_total", "namespace,scaledObject"),
        ("keda_scaled_job_errors", "counter", "_total", "namespace,scaledJob"),
        ("keda_trigger_registered_total", "gauge", "", "type"),
        ("keda_resource_registered_total", "gauge", "", "type,namespace"),
        ("keda_internal_scale_loop_latency_seconds", "gauge", "", "namespace,type,resource"),
        (
            "keda_scaler_empty_upstream_responses",
            "counter",
            "_total",
            "namespace,scaledResource,triggerName,metricName,resourceType,ignoreNullValues",
        ),
        ("keda_scaler_http_requests", "counter", "_total", http),
        ("keda_scaler_http_request_duration_seconds", "histogram", "_count", "scaler,status_code"),
        ("keda_cloudeventsource_events_emitted", "counter", "_total", "namespace,cloudeventsource,eventsink,state"),
        ("keda_cloudeventsource_events_queued", "gauge", "", "namespace"),
        ("keda_webhook_scaled_object_validations", "counter", "_total", "namespace,action"),
        ("keda_webhook_scaled_object_validation_errors", "counter", "_total", "namespace,action,reason"),
        ("tandem_sample_age_seconds", "gauge", "", trigger),
        ("tandem_decision", "gauge", "", "namespace,type,resource,decision,reason"),
        ("tandem_jobs_made", "counter", "_total", "namespace,scaledJob"),
        ("tandem_scale_writes", "counter", "_total", "reason"),
        ("tandem_status_writes", "counter", "_total", ""),
        ("tandem_scaled_object_panics", "counter", "_total", ""),
    ] {
        assert!(text.contains(&format!("# TYPE {name} {kind}\n")), "{name} is no {kind}\n{text}");
        let series = format!("{name}{suffix}");
        let line = text.lines().find(|line| line.split(['{', ' ']).next() == Some(series.as_str()));
        let line = line.unwrap_or_else(|| panic!("no {series}\n{text}"));
        let inside = line.split_once('{').map_or("", |(_, rest)| rest.split_once('}').unwrap().0);
        let names: Vec<&str> =
            inside.split(',').filter(|l| !l.is_empty()).map(|l| l.split('=').next().unwrap()).collect();
        assert_eq!(names.join(","), labels, "{line}");
        let page = include_str!("../../../../docs/metrics.md");
        assert!(
            page.contains(&format!("`{series}`")) || page.contains(&format!("`{name}`")),
            "{series} is not in docs/metrics.md"
        );
    }
}

#[test]
fn a_decision_replaces_the_one_before_and_a_sample_gets_older() {
    let registry = Arc::new(Registry::default());
    let metrics = Metrics::new(&registry);
    let key = ObjectKey { namespace: "shop".into(), name: "web".into() };
    metrics.decided("scaledobject", &key, "hold", "Steady");
    metrics.decided("scaledobject", &key, "scale", "Deactivated");
    let text = registry.encode().unwrap();
    assert!(!text.contains("Steady") && text.contains("decision=\"scale\",reason=\"Deactivated\"} 1"), "{text}");
    metrics.forget_object(&key);
    assert!(!registry.encode().unwrap().contains("Deactivated"));

    let labels = TriggerLabels::new("scaledobject", &key, "s0-cron", "cronScaler", "cronScaler", 0);
    metrics.http_request(&labels, None, Duration::ZERO);
    assert!(registry.encode().unwrap().contains("metric_name=\"s0-cron\",status_code=\"error\"} 1"));
    metrics.forget_trigger(&labels);
    assert!(!registry.encode().unwrap().contains("s0-cron"));
}
