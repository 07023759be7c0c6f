//! `docs/scalers/` is what the settings structs say, and `examples/scalers/` is what they take.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

use scalers::{
    Authentication, Cluster, HTTP_TIMEOUT, Http, Identity, LivePod, MetricType, ScalerError, TriggerContext,
};
use serde_json::Value;

#[test]
fn docs_scalers_is_what_the_types_say() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/scalers");
    let mut wanted = BTreeSet::new();
    for (name, text) in scalers::catalog::BUILT.iter().flat_map(scalers::catalog::TriggerType::files) {
        let found = std::fs::read_to_string(folder.join(&name)).unwrap_or_default();
        assert!(found == text, "docs/scalers/{name} is old; cargo run -p scalers --example docs");
        wanted.insert(name);
    }
    for entry in std::fs::read_dir(&folder).expect("the folder is in the repository") {
        let name = entry.expect("readable").file_name().to_string_lossy().into_owned();
        assert!(wanted.contains(&name), "docs/scalers/{name} belongs to no type");
    }
}

/// The documents of an example.
fn documents(path: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(path).expect("readable");
    serde_saphyr::from_multiple(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

/// What a TriggerAuthentication gives, with the Secrets beside it.
fn parameters(documents: &[Value]) -> (BTreeMap<String, String>, Identity) {
    let of_kind = |kind: &'static str| documents.iter().filter(move |document| document["kind"] == kind);
    let refs = of_kind("TriggerAuthentication").filter_map(|one| one["spec"]["secretTargetRef"].as_array()).flatten();
    let find = |name: &Value, key: &Value| {
        let secret = of_kind("Secret").find(|secret| secret["metadata"]["name"] == *name);
        text(&secret.expect("the Secret is in the example")["stringData"][key.as_str().unwrap_or_default()])
    };
    let parameters = refs.map(|one| (text(&one["parameter"]), find(&one["name"], &one["key"]))).collect();
    let aws = of_kind("TriggerAuthentication").any(|one| one["spec"]["podIdentity"]["provider"] == "aws");
    (parameters, if aws { Identity::Aws { role: None, external_id: None } } else { Identity::None })
}

#[derive(Debug)]
struct NoCluster;

#[async_trait::async_trait]
impl Cluster for NoCluster {
    async fn live_pods(&self, _: &str, _: &str) -> Result<Vec<LivePod>, ScalerError> {
        Ok(Vec::new())
    }

    async fn ready_endpoints(&self, _: &str, _: &str) -> Result<Vec<String>, ScalerError> {
        Ok(Vec::new())
    }
}

#[tokio::test]
async fn every_type_has_an_example_that_can_be_built_as_it_is() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/scalers");
    let http = Arc::new(Http::new(HTTP_TIMEOUT));
    let cluster: Arc<dyn Cluster> = Arc::new(NoCluster);
    for built in scalers::catalog::BUILT {
        let documents = documents(&folder.join(format!("{}.yaml", built.name)));
        let (parameters, identity) = parameters(&documents);
        let trigger = &documents[0]["spec"]["triggers"][0];
        assert_eq!(trigger["type"], built.name);
        let metadata = trigger["metadata"].as_object().expect("metadata");
        let metadata: BTreeMap<String, String> =
            metadata.iter().map(|(name, value)| (name.clone(), value.as_str().expect("a text").to_owned())).collect();
        let authentication = Authentication::Resolved { parameters: &parameters, identity: &identity };
        let metric_type = match trigger["metricType"].as_str() {
            Some("Utilization") => Some(MetricType::Utilization),
            Some("AverageValue") => Some(MetricType::AverageValue),
            _ => None,
        };
        let unwatched = TriggerContext::new(0, &metadata, &http);
        let context = TriggerContext { metric_type, authentication, cluster: Some(&cluster), ..unwatched };
        if scalers::resource::is_resource(built.name) {
            let metric = scalers::resource::metric(built.name, &context);
            assert!(metric.is_ok(), "{}: {metric:?}", built.name);
            continue;
        }
        let scaler = scalers::build(built.name, &context).unwrap_or_else(|error| panic!("{}: {error}", built.name));
        assert_eq!(scaler.notices(), [], "{}", built.name);
    }
}
