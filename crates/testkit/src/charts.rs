//! Helm charts on the test bed: rendered by the real Helm, and of the result everything but the pods.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use crate::apply::{apply, documents};
use crate::bed::Bed;
use crate::binaries;
use crate::children::Folder;

/// Workloads of a chart; our programs run as processes of the test instead.
const NOT_APPLIED: [&str; 6] =
    ["Deployment", "DaemonSet", "StatefulSet", "PodDisruptionBudget", "ServiceMonitor", "PodMonitor"];

/// Renders a chart with `helm template` and returns its objects.
pub fn render(chart: &Path, release: &str, namespace: &str, values: &[(&str, &str)]) -> Result<Vec<Value>> {
    let helm = binaries::helm()?;
    let home = Folder::new()?;
    let mut command = Command::new(helm);
    command.args(["template", release]).arg(chart).args(["--namespace", namespace, "--include-crds"]);
    for (name, value) in values {
        command.arg("--set").arg(format!("{name}={value}"));
    }
    for variable in ["HELM_CONFIG_HOME", "HELM_CACHE_HOME", "HELM_DATA_HOME"] {
        command.env(variable, home.path());
    }
    let output = command.output().context("running helm")?;
    let errors = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "helm template {} failed:\n{errors}", chart.display());
    documents(&String::from_utf8(output.stdout)?)
}

/// Applies a chart's objects as the API server of a cluster would get them, with two changes that a bed without a pod
/// network needs: a Service becomes an alias of localhost, and an APIService or webhook asks for `port` there.
pub async fn apply_chart(
    bed: &Bed,
    chart: &Path,
    release: &str,
    namespace: &str,
    values: &[(&str, &str)],
    port: u16,
) -> Result<Vec<Value>> {
    bed.namespace(namespace).await?;
    let (path, name, space) = (chart.to_owned(), release.to_owned(), namespace.to_owned());
    let owned: Vec<(String, String)> = values.iter().map(|(a, b)| ((*a).to_owned(), (*b).to_owned())).collect();
    let objects = tokio::task::spawn_blocking(move || {
        let values: Vec<(&str, &str)> = owned.iter().map(|(a, b)| (a.as_str(), b.as_str())).collect();
        render(&path, &name, &space, &values)
    })
    .await??;
    for object in &objects {
        let kind = object["kind"].as_str().unwrap_or_default();
        if NOT_APPLIED.contains(&kind) {
            continue;
        }
        let object = on_localhost(object, namespace, port);
        apply(&bed.client(), &object)
            .await
            .with_context(|| format!("chart {release}: {kind} {}", object["metadata"]["name"]))?;
    }
    Ok(objects)
}

/// The ServiceAccount that a chart's Deployment runs as.
pub fn service_account(objects: &[Value]) -> Result<String> {
    let deployment =
        objects.iter().find(|object| object["kind"] == "Deployment").context("a chart without a Deployment")?;
    let name = deployment.pointer("/spec/template/spec/serviceAccountName").and_then(Value::as_str);
    Ok(name.context("a Deployment without serviceAccountName")?.to_owned())
}

fn on_localhost(object: &Value, namespace: &str, port: u16) -> Value {
    let mut object = object.clone();
    let namespaced = matches!(
        object["kind"].as_str(),
        Some("Service" | "ServiceAccount" | "Role" | "RoleBinding" | "ConfigMap" | "Secret" | "Lease")
    );
    if namespaced && object.pointer("/metadata/namespace").is_none() {
        object["metadata"]["namespace"] = json!(namespace);
    }
    match object["kind"].as_str() {
        Some("Service") => {
            let ports = json!([{"name": "https", "port": port, "protocol": "TCP"}]);
            object["spec"] = json!({"type": "ExternalName", "externalName": "localhost", "ports": ports});
        }
        Some("APIService") if object.pointer("/spec/service").is_some() => {
            object["spec"]["service"]["port"] = json!(port);
        }
        Some("ValidatingWebhookConfiguration" | "MutatingWebhookConfiguration") => {
            for webhook in object["webhooks"].as_array_mut().into_iter().flatten() {
                if webhook.pointer("/clientConfig/service").is_some() {
                    webhook["clientConfig"]["service"]["port"] = json!(port);
                }
            }
        }
        _ => {}
    }
    object
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_service_becomes_an_alias_of_localhost() {
        let service =
            json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "a"}, "spec": {"selector": {"a": "b"}}});
        let changed = on_localhost(&service, "here", 7443);
        assert_eq!(changed["spec"]["externalName"], "localhost");
        assert_eq!(changed["spec"]["ports"][0]["port"], 7443);
        assert_eq!(changed["metadata"]["namespace"], "here");
    }

    #[test]
    fn an_api_service_keeps_its_service_and_gets_the_port() {
        let service = json!({"name": "a", "namespace": "b"});
        let object = json!({"kind": "APIService", "metadata": {"name": "x"}, "spec": {"service": service}});
        let changed = on_localhost(&object, "here", 7443);
        assert_eq!(changed["spec"]["service"], json!({"name": "a", "namespace": "b", "port": 7443}));
    }
}
