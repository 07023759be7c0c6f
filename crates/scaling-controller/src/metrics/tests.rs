use std::sync::Arc;

use super::*;

#[test]
fn series_have_the_names_and_labels_of_keda_and_go_with_their_object() {
    let registry = Arc::new(Registry::default());
    let metrics = Metrics::new(&registry);
    let key = ObjectKey { namespace: "shop".into(), name: "web".into() };
    let labels =
        Arc::new(TriggerLabels::new("scaledobject", &key, "s0-prometheus", "prometheusScaler", "prometheusScaler", 0));
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
    let labels = Arc::new(TriggerLabels::new("scaledobject", &key, "s0-prometheus", "prometheusScaler", "load", 0));
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
    metrics.triggers.get_or_create(&label_set([("type", "cron")])).set(1);
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

    let labels = Arc::new(TriggerLabels::new("scaledobject", &key, "s0-cron", "cronScaler", "cronScaler", 0));
    metrics.http_request(&labels, None, Duration::ZERO);
    assert!(registry.encode().unwrap().contains("metric_name=\"s0-cron\",status_code=\"error\"} 1"));
    metrics.forget_trigger(&labels);
    assert!(!registry.encode().unwrap().contains("s0-cron"));
}

/// The whole page, its families by name and their series in order; on the page they stand in none. The build is left out.
fn page(registry: &Arc<Registry>) -> String {
    let text = registry.encode().unwrap();
    let mut families: Vec<Vec<&str>> = Vec::new();
    for line in text.lines().filter(|line| !line.contains("keda_build_info")) {
        match families.last_mut() {
            Some(family) if !line.starts_with("# HELP") => family.push(line),
            _ => families.push(vec![line]),
        }
    }
    let sorted = |mut family: Vec<&str>| {
        family.sort_unstable_by_key(|line| (!line.starts_with("# HELP"), !line.starts_with('#'), line.to_owned()));
        family.join("\n")
    };
    let end = families.last_mut().unwrap().pop().unwrap();
    assert_eq!(end, "# EOF");
    let mut families: Vec<String> = families.into_iter().map(sorted).collect();
    families.sort_unstable();
    families.join("\n") + "\n"
}

/// Reads that went well, that did not, and that have not ended; objects of both kinds; and what is gone again.
#[tokio::test(start_paused = true)]
async fn the_page_is_as_it_ever_was() {
    let registry = Arc::new(Registry::default());
    let metrics = Metrics::new(&registry);
    let none = page(&registry);
    let key = |name: &str| ObjectKey { namespace: "shop".into(), name: name.into() };
    let of = |kind, name: &str, metric: &str, scaler, given: &str, index| {
        Arc::new(TriggerLabels::new(kind, &key(name), metric, scaler, given, index))
    };
    let sampled = |thousandths, active, empty| {
        Ok(scalers::Sampled { value: units::Milli::from_thousandths(thousandths), active, empty })
    };
    let (quick, failed) = (Duration::from_millis(250), Err("down".into()));

    let load = of("scaledobject", "web", "s0-prometheus", "prometheusScaler", "the \"load\"", 0);
    metrics.read(&load, &sampled(1_500, true, true), quick);
    metrics.http_request(&load, Some(200), quick);
    metrics.http_request(&load, Some(503), quick);
    metrics.http_request(&load, None, quick);
    let same = of("scaledobject", "web", "s0-prometheus", "prometheusScaler", "the \"load\"", 0);
    metrics.http_request(&same, Some(200), quick);
    metrics.read(&same, &failed, quick * 2);
    metrics.read(&same, &failed, quick * 3);
    metrics.read(&of("scaledobject", "web", "s1-cron", "cronScaler", "cronScaler", 1), &failed, Duration::ZERO);
    let idle = of("scaledobject", "web", "s2-redis", "redisScaler", "redisScaler", 2);
    metrics.read(&idle, &sampled(-2_000, false, false), quick);
    let hangs = of("scaledobject", "web", "s10-prometheus", "prometheusScaler", "prometheusScaler", 10);
    metrics.http_request(&hangs, Some(200), quick);
    metrics.set_paused(&key("web"), false);
    metrics.object_failed(&key("web"));
    metrics.object_failed(&key("web"));
    metrics.poll_began("scaledobject", &key("web"), quick);
    metrics.decided("scaledobject", &key("web"), "hold", "Steady");
    metrics.decided("scaledobject", &key("web"), "scale", "Deactivated");
    metrics.set_paused(&key("rests"), true);
    // A ScaledJob of the same name is another.
    let job = of("scaledjob", "web", "s0-prometheus", "prometheusScaler", "prometheusScaler", 0);
    metrics.read(&job, &sampled(3_000, true, true), quick);
    // But its requests are counted with those of the other, because KEDA's labels do not tell the kinds apart.
    let alike = of("scaledjob", "web", "s10-prometheus", "prometheusScaler", "prometheusScaler", 10);
    metrics.http_request(&alike, Some(200), quick);
    metrics.job_failed(&key("web"));
    metrics.job_made(&key("web"));
    metrics.poll_began("scaledjob", &key("web"), Duration::ZERO);
    metrics.decided("scaledjob", &key("web"), "create", "Work");

    let gone = of("scaledobject", "gone", "s0-gone", "prometheusScaler", "gone", 0);
    metrics.read(&gone, &sampled(1_000, true, true), quick);
    metrics.read(&gone, &failed, quick);
    metrics.http_request(&gone, Some(200), quick);
    metrics.forget_trigger(&of("scaledobject", "gone", "s0-gone", "prometheusScaler", "gone", 0));
    metrics.set_paused(&key("gone"), true);
    metrics.object_failed(&key("gone"));
    metrics.job_failed(&key("gone"));
    metrics.job_made(&key("gone"));
    for kind in ["scaledobject", "scaledjob"] {
        metrics.poll_began(kind, &key("gone"), quick);
        metrics.decided(kind, &key("gone"), "hold", "Steady");
    }
    metrics.forget_object(&key("gone"));
    metrics.forget_job(&key("gone"));
    tokio::time::advance(Duration::from_secs(5)).await;
    let page = format!("{none}\n{}", page(&registry));
    assert_eq!(page, include_str!("page.txt"), "{page}");
}
