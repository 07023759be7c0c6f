//! Manifests into the API server, by server-side apply.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use kube::api::{Api, DynamicObject, Patch, PatchParams};
use kube::core::{GroupVersionKind, TypeMeta};
use kube::discovery::{ApiCapabilities, ApiResource, Scope};
use kube::{Client, discovery};
use serde_json::Value;

use crate::eventually::{eventually, when};

const MANAGER: &str = "tandem-test-bed";
/// A CRD is served a moment after it is created.
const SERVED: Duration = Duration::from_secs(30);

/// The documents of a YAML text, without the empty ones.
pub fn documents(yaml: &str) -> Result<Vec<Value>> {
    let mut found = Vec::new();
    for document in split(yaml) {
        let value: Value = serde_saphyr::from_str(&document).with_context(|| format!("YAML:\n{document}"))?;
        match value {
            Value::Null => {}
            Value::Object(ref object) if object.get("kind").is_some_and(|kind| kind == "List") => {
                let items = value.get("items").and_then(Value::as_array).cloned().unwrap_or_default();
                found.extend(items);
            }
            other => found.push(other),
        }
    }
    Ok(found)
}

/// Documents end at a line that is `---`, perhaps with a comment; a document of comments alone is none.
fn split(yaml: &str) -> Vec<String> {
    let mut parts = vec![String::new()];
    for line in yaml.lines() {
        if line == "---" || line.starts_with("--- ") {
            parts.push(String::new());
        } else if let Some(last) = parts.last_mut() {
            last.push_str(line);
            last.push('\n');
        }
    }
    let says_something =
        |part: &String| part.lines().any(|line| !line.trim().is_empty() && !line.trim_start().starts_with('#'));
    parts.into_iter().filter(says_something).collect()
}

/// The YAML files of a folder (not of its subfolders), sorted by name; or the one file that `path` is.
pub fn files(path: &Path) -> Result<Vec<PathBuf>> {
    if path.is_file() {
        return Ok(vec![path.to_owned()]);
    }
    let mut found: Vec<PathBuf> = std::fs::read_dir(path)
        .with_context(|| format!("reading {}", path.display()))?
        .filter_map(|entry| entry.ok().map(|entry| entry.path()))
        .filter(|path| path.extension().is_some_and(|extension| extension == "yaml" || extension == "yml"))
        .collect();
    found.sort();
    Ok(found)
}

/// Applies many objects, so many of them at the same time.
pub async fn apply_many(client: &Client, objects: impl IntoIterator<Item = Value>, at_once: usize) -> Result<()> {
    let mut running = tokio::task::JoinSet::new();
    for object in objects {
        if running.len() == at_once
            && let Some(done) = running.join_next().await
        {
            done??;
        }
        let client = client.clone();
        running.spawn(async move { apply(&client, &object).await });
    }
    while let Some(done) = running.join_next().await {
        done??;
    }
    Ok(())
}

/// Applies all documents of a file or folder in the order of their files.
pub async fn apply_path(client: &Client, path: &Path) -> Result<Vec<DynamicObject>> {
    let mut applied = Vec::new();
    for file in files(path)? {
        let text = std::fs::read_to_string(&file)?;
        applied.extend(apply_yaml(client, &text).await.with_context(|| file.display().to_string())?);
    }
    Ok(applied)
}

/// Applies all documents of a YAML text.
pub async fn apply_yaml(client: &Client, yaml: &str) -> Result<Vec<DynamicObject>> {
    let mut applied = Vec::new();
    for document in documents(yaml)? {
        applied.push(apply(client, &document).await?);
    }
    Ok(applied)
}

/// Server-side apply of one object; the namespace is that of the manifest, else `default`. A refusal comes back as
/// `kube::Error` at the root of the error, so that a test can read the API server's words.
pub async fn apply(client: &Client, object: &Value) -> Result<DynamicObject> {
    let object: DynamicObject =
        serde_json::from_value(object.clone()).context("an object without apiVersion or kind")?;
    let api = api_for(client, &object).await?;
    let name = object.metadata.name.clone().context("an object without a name")?;
    let params = PatchParams::apply(MANAGER).force();
    Ok(api.patch(&name, &params, &Patch::Apply(&object)).await?)
}

/// Deletes what a manifest names; an absent object is fine.
pub async fn delete(client: &Client, object: &Value) -> Result<()> {
    let object: DynamicObject = serde_json::from_value(object.clone())?;
    let api = api_for(client, &object).await?;
    let name = object.metadata.name.clone().context("an object without a name")?;
    match api.delete(&name, &kube::api::DeleteParams::default()).await {
        Ok(_) => Ok(()),
        Err(kube::Error::Api(status)) if status.is_not_found() => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// Applies CRDs and returns when they are served.
pub async fn apply_crds(client: &Client, path: &Path) -> Result<()> {
    for crd in apply_path(client, path).await? {
        let name = crd.metadata.name.clone().unwrap_or_default();
        let kind = crd.types.as_ref().map_or("", |types| types.kind.as_str());
        ensure!(kind == "CustomResourceDefinition", "{name} is a {kind}, not a CustomResourceDefinition");
        let api = api_for(client, &crd).await?;
        eventually(format!("CRD {name} to be established"), SERVED, || async {
            let crd = api.get(&name).await?;
            let conditions =
                crd.data.pointer("/status/conditions").and_then(Value::as_array).cloned().unwrap_or_default();
            let established = conditions.iter().any(|c| c["type"] == "Established" && c["status"] == "True");
            Ok(when(established, conditions))
        })
        .await?;
    }
    Ok(())
}

/// An API for objects of a kind that only the manifest knows.
pub async fn dynamic(
    client: &Client,
    api_version: &str,
    kind: &str,
    namespace: Option<&str>,
) -> Result<Api<DynamicObject>> {
    let (resource, capabilities) = kind_of(client, api_version, kind).await?;
    Ok(match (capabilities.scope, namespace) {
        (Scope::Namespaced, Some(namespace)) => Api::namespaced_with(client.clone(), namespace, &resource),
        (Scope::Namespaced, None) | (Scope::Cluster, _) => Api::all_with(client.clone(), &resource),
    })
}

async fn api_for(client: &Client, object: &DynamicObject) -> Result<Api<DynamicObject>> {
    let TypeMeta { api_version, kind } = object.types.clone().context("an object without apiVersion and kind")?;
    let namespace = object.metadata.namespace.clone().unwrap_or_else(|| "default".to_owned());
    dynamic(client, &api_version, &kind, Some(&namespace)).await
}

async fn kind_of(client: &Client, api_version: &str, kind: &str) -> Result<(ApiResource, ApiCapabilities)> {
    let kind = GroupVersionKind::try_from(&TypeMeta { api_version: api_version.to_owned(), kind: kind.to_owned() })?;
    Ok(discovery::pinned_kind(client, &kind).await?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_may_hold_several_documents_and_comments() {
        let found = documents("# first\n---\na: 1\n--- # second\nb: 2\n---\n# nothing\n").unwrap();
        assert_eq!(found, [serde_json::json!({"a": 1}), serde_json::json!({"b": 2})]);
    }

    #[test]
    fn a_list_is_its_items() {
        let found = documents("kind: List\nitems: [{a: 1}, {a: 2}]").unwrap();
        assert_eq!(found.len(), 2);
    }
}
