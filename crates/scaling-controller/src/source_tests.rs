use std::collections::BTreeMap;

use api::keda::ScaledObject;
use scalers::Identity;
use serde_json::{Value, json};

use super::*;

type Given = Result<Credentials, Failure>;

fn object(triggers: &Value) -> ScaledObject {
    let spec = json!({"scaleTargetRef": {"name": "web"}, "triggers": triggers});
    let mut object = ScaledObject::new("web", serde_json::from_value(spec).unwrap());
    object.metadata.namespace = Some("shop".into());
    object
}

fn http() -> Arc<Http> {
    Arc::new(Http::new(scalers::HTTP_TIMEOUT))
}

fn build(triggers: &Value, given: &[Given], old: Option<&ObjectSource>) -> Result<ObjectSource, Vec<String>> {
    ObjectSource::build(&Subject::object(&object(triggers)), given, old, &http(), None)
}

/// A prometheus trigger, with `authModes` basic.
fn basic() -> Value {
    let metadata = json!({"serverAddress": "http://p", "query": "up", "threshold": "5", "authModes": "basic"});
    json!({"type": "prometheus", "metadata": metadata, "authenticationRef": {"name": "a"}})
}

#[expect(clippy::unnecessary_wraps, reason = "it stands beside credentials that could not be had")]
fn password(password: &str) -> Given {
    let parameters = [("username", "u"), ("password", password)];
    let parameters: BTreeMap<_, _> = parameters.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
    Ok(Credentials { authentication: Some(Resolved { parameters, identity: Identity::None }), environment: None })
}

fn gone() -> Given {
    Err(Failure::Missing("there is no Secret shop/s".into()))
}

#[test]
fn resource_triggers_use_up_an_index() {
    let triggers = json!([
        {"type": "cpu", "metricType": "Utilization", "metadata": {"value": "60"}},
        {"type": "prometheus", "metadata": {"serverAddress": "http://p", "query": "up", "threshold": "5"}},
    ]);
    let source = build(&triggers, &[Ok(Credentials::default()), Ok(Credentials::default())], None).unwrap();
    assert_eq!(source.metrics.len(), 2);
    assert!(source.find("s1-prometheus").is_some());
    assert!(source.find("s0-prometheus").is_none());
}

#[test]
fn a_metric_answers_to_its_name_in_lower_case() {
    let metadata = json!({"timezone": "Etc/UTC", "start": "0 0 1 1 *", "end": "59 23 31 12 *", "desiredReplicas": "4"});
    let source = build(&json!([{"type": "cron", "metadata": metadata}]), &[Ok(Credentials::default())], None).unwrap();
    let name = &source.triggers[0].readable[0].spec.name;
    assert_ne!(*name, name.to_lowercase());
    assert!(source.find(&name.to_lowercase()).is_some());
}

#[test]
fn every_wrong_trigger_is_named_with_its_field() {
    let triggers = json!([
        {"type": "temporal", "metadata": {}},
        {"type": "prometheus", "metadata": {"serverAddress": "http://p", "query": "up"}},
        {"type": "prometheus", "metadata": {}, "authenticationRef": {"name": "a"}},
        {"type": "redis", "metadata": {"addressFromEnv": "REDIS"}},
    ]);
    let none = || Ok(Credentials::default());
    let wrong = build(&triggers, &[none(), none(), gone(), gone()], None).unwrap_err();
    let begin: Vec<&str> = wrong.iter().filter_map(|w| w.split(": ").next()).collect();
    assert_eq!(
        begin,
        [
            "spec.triggers[0].type",
            "spec.triggers[1].metadata.threshold",
            "spec.triggers[2].authenticationRef",
            "spec.triggers[3].metadata"
        ]
    );
    assert!(wrong[2].ends_with("there is no Secret shop/s"), "{}", wrong[2]);
}

#[test]
fn a_trigger_changes_with_its_credentials_and_not_otherwise() {
    let triggers = json!([basic(), basic()]);
    let first = build(&triggers, &[password("a"), password("b")], None).unwrap();
    assert!(first.settled(&[password("a"), password("b")]));
    let rotated = [password("a"), password("c")];
    assert!(!first.settled(&rotated));
    let second = build(&triggers, &rotated, Some(&first)).unwrap();
    assert!(Arc::ptr_eq(&first.triggers[0], &second.triggers[0]));
    assert!(!Arc::ptr_eq(&first.triggers[1], &second.triggers[1]));
    assert_eq!(first.metrics, second.metrics);
}

#[tokio::test]
async fn a_trigger_whose_credentials_are_gone_is_not_read_until_they_are_back() {
    let triggers = json!([basic()]);
    let first = build(&triggers, &[password("a")], None).unwrap();
    let blocked = build(&triggers, &[gone()], Some(&first)).unwrap();
    assert_eq!(first.metrics, blocked.metrics, "the HPA stays as it is");
    let metrics = Arc::new(Metrics::new(&controller_runtime::metrics::Registry::default()));
    let (trigger, readable) = blocked.find("s0-prometheus").unwrap();
    let outcome = blocked.read(trigger, readable, Asker::Hpa, &metrics).await;
    assert_eq!(outcome, Err("spec.triggers[0].authenticationRef: there is no Secret shop/s".into()));
    assert!(blocked.settled(&[gone()]));
    let back = build(&triggers, &[password("a")], Some(&blocked)).unwrap();
    assert!(back.triggers[0].blocked.is_none());
}

#[tokio::test]
async fn a_trigger_that_was_never_made_here_fails_as_one_that_cannot_be_read() {
    let triggers = json!([basic(), basic()]);
    let object = object(&triggers);
    let target = scaling::Target::AverageValue("5".parse().unwrap());
    let remembered = [MetricSpec { name: "s0-prometheus".into(), target }];
    let subject = Subject::object(&object).remembering(&remembered);
    let given = [gone(), password("b")];
    let source = ObjectSource::build(&subject, &given, None, &http(), None).unwrap();
    let as_ever = build(&triggers, &[password("a"), password("b")], None).unwrap();
    assert_eq!(source.metrics, as_ever.metrics, "the HPA stays as it is");
    let metrics = Arc::new(Metrics::new(&controller_runtime::metrics::Registry::default()));
    let (trigger, readable) = source.find("s0-prometheus").unwrap();
    assert_eq!(
        source.read(trigger, readable, Asker::Hpa, &metrics).await,
        Err("spec.triggers[0].authenticationRef: there is no Secret shop/s".into())
    );
    assert!(!source.settled(&[password("a"), password("b")]));
    let back = ObjectSource::build(&subject, &[password("a"), password("b")], Some(&source), &http(), None).unwrap();
    assert!(back.triggers[0].blocked.is_none());

    let wrong = ObjectSource::build(&subject, &[password("a"), gone()], None, &http(), None).unwrap_err();
    assert_eq!(wrong, ["spec.triggers[1].authenticationRef: there is no Secret shop/s"], "nobody remembers the second");
}

#[test]
fn credentials_that_nobody_can_be_asked_for_are_as_they_were() {
    let triggers = json!([basic()]);
    let away = || Err(Failure::Unavailable("Secret shop/s cannot be had now".into()));
    let first = build(&triggers, &[password("a")], None).unwrap();
    assert!(first.settled(&[away()]));
    let blocked = build(&triggers, &[gone()], Some(&first)).unwrap();
    assert!(blocked.settled(&[away()]), "and so is their being gone");
}

#[test]
fn credentials_that_fit_no_longer_block_their_trigger_only() {
    let triggers = json!([basic(), basic()]);
    let first = build(&triggers, &[password("a"), password("a")], None).unwrap();
    let empty = Credentials {
        authentication: Some(Resolved { parameters: BTreeMap::new(), identity: Identity::None }),
        environment: None,
    };
    let second = build(&triggers, &[Ok(empty), password("a")], Some(&first)).unwrap();
    let why = second.triggers[0].blocked.as_deref().unwrap();
    assert!(why.contains("is required"), "{why}");
    assert!(second.triggers[1].blocked.is_none());
}

#[tokio::test]
async fn a_formula_makes_one_metric_of_the_triggers_it_names() {
    let queue = |name: &str| {
        let metadata = json!({"serverAddress": "http://p", "query": "up", "threshold": "5", "authModes": "basic"});
        json!({"type": "prometheus", "name": name, "metadata": metadata, "authenticationRef": {"name": "a"}})
    };
    let cpu = json!({"type": "cpu", "metricType": "Utilization", "metadata": {"value": "60"}});
    let mut object = object(&json!([queue("a"), cpu, queue("b"), queue("c")]));
    let advanced = json!({"scalingModifiers": {"formula": "a + c", "target": "2.5", "metricType": "Value"}});
    object.spec.advanced = Some(serde_json::from_value(advanced).unwrap());
    let subject = Subject::object(&object);
    let good = || [password("p"), Ok(Credentials::default()), password("p"), password("p")];
    let source = ObjectSource::build(&subject, &good(), None, &http(), None).unwrap();
    let target = scaling::Target::Value(units::Milli::from_thousandths(2_500));
    assert!(
        matches!(&source.metrics[..], [HpaMetric::External { name, target: found }, HpaMetric::Resource { .. }]
            if name == "composite-metric" && *found == target),
        "{:?}",
        source.metrics
    );
    assert_eq!(source.left_out().collect::<Vec<_>>(), [2]);

    // Its credentials are gone, so that nobody is asked.
    let blocked = [gone(), Ok(Credentials::default()), gone(), gone()];
    let blocked = ObjectSource::build(&subject, &blocked, Some(&source), &http(), None).unwrap();
    let metrics = Arc::new(Metrics::new(&controller_runtime::metrics::Registry::default()));
    let readings = blocked.readings(&metrics, Asker::Poll, |_, failed| if failed { 7 } else { 0 }).await;
    let names: Vec<&str> = readings.iter().map(|reading| reading.metric_name.as_str()).collect();
    assert_eq!(names, ["s0-prometheus", "s3-prometheus"], "what the formula does not name is not read");
    let [composite] = &blocked.decisive(readings, None)[..] else { panic!("one reading") };
    assert_eq!((composite.metric_name.as_str(), composite.active, composite.failures), ("composite-metric", None, 7));
    assert!(composite.sample.is_unknown());
}

#[test]
fn a_formula_that_is_wrong_is_named_with_its_field() {
    let mut object = object(&json!([basic()]));
    let advanced = json!({"scalingModifiers": {"formula": "a", "target": "1"}});
    object.spec.advanced = Some(serde_json::from_value(advanced).unwrap());
    let wrong = ObjectSource::build(&Subject::object(&object), &[password("a")], None, &http(), None).unwrap_err();
    assert!(wrong[0].starts_with("spec.advanced.scalingModifiers.formula: "), "{wrong:?}");
}

#[test]
fn series_stay_with_a_trigger_that_is_called_as_before() {
    let named = |name: &str| {
        let mut trigger = basic();
        trigger["name"] = json!(name);
        build(&json!([trigger]), &[password("a")], None).unwrap()
    };
    let (first, same, renamed) = (named("a"), named("a"), named("b"));
    assert_eq!(first.forgettable(Some(&same)).count(), 0);
    assert_eq!(first.forgettable(Some(&renamed)).count(), 1, "the metric is called the same, its series are not");
    assert_eq!(first.forgettable(None).count(), 1);
}
