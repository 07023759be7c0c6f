//! What happens between two looks: watches that take notes.

use std::collections::{BTreeMap, BTreeSet};
use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Result, ensure};
use futures::StreamExt as _;
use kube::ResourceExt as _;
use kube::api::{Api, DynamicObject, WatchEvent, WatchParams};
use serde_json::Value;
use tokio::task::JoinHandle;

use crate::world::{NODE, POD, World, is_running};

/// Notes that a watch goes on taking until this is dropped.
pub(crate) struct Watched<N> {
    notes: Arc<Mutex<N>>,
    task: JoinHandle<()>,
}

impl<N: Clone + Send + 'static> Watched<N> {
    /// Shows every event, from those that make up what is there now, to `note`.
    fn new(
        objects: Api<DynamicObject>,
        params: WatchParams,
        empty: N,
        mut note: impl FnMut(&mut N, &DynamicObject, bool) + Send + 'static,
    ) -> Self {
        let notes = Arc::new(Mutex::new(empty));
        let noted = Arc::clone(&notes);
        let task = tokio::spawn(async move {
            let mut version = "0".to_owned();
            // A watch ends by itself after some minutes; the next one begins where it stopped. Any error ends the notes.
            while let Ok(events) = objects.watch(&params, &version).await {
                let mut events = pin!(events);
                while let Some(event) = events.next().await {
                    let (object, gone) = match event {
                        Ok(WatchEvent::Added(object) | WatchEvent::Modified(object)) => (object, false),
                        Ok(WatchEvent::Deleted(object)) => (object, true),
                        Ok(WatchEvent::Bookmark(mark)) => {
                            version = mark.metadata.resource_version;
                            continue;
                        }
                        Ok(WatchEvent::Error(_)) | Err(_) => return,
                    };
                    version = object.resource_version().unwrap_or(version);
                    note(&mut noted.lock().unwrap_or_else(PoisonError::into_inner), &object, gone);
                }
            }
        });
        Self { notes, task }
    }

    /// The notes up to now. An error if they are not complete.
    pub(crate) fn so_far(&self) -> Result<N> {
        ensure!(!self.task.is_finished(), "the watch broke; the notes are not complete");
        Ok(self.notes.lock().unwrap_or_else(PoisonError::into_inner).clone())
    }
}

impl<N> Drop for Watched<N> {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Who runs, and the fewest there ever were after one had ceased to.
#[derive(Clone, Debug, Default)]
pub(crate) struct Running {
    now: BTreeSet<String>,
    pub(crate) fewest: Option<usize>,
}

impl World {
    /// Notes of every node that goes, by name, whether it was last seen closed to new pods and marked as going.
    pub(crate) fn watch_nodes_go(&self) -> Watched<BTreeMap<String, bool>> {
        Watched::new(self.api(NODE, None), WatchParams::default(), BTreeMap::new(), |notes, node, gone| {
            if gone {
                let taints = node.data.pointer("/spec/taints").and_then(Value::as_array);
                let has = |key: &str| taints.into_iter().flatten().any(|taint| taint["key"] == key);
                let closed = node.data["spec"]["unschedulable"] == true && has("karpenter.sh/disrupted");
                notes.insert(node.name_any(), closed);
            }
        })
    }

    /// Notes how many pods of an app run at any moment.
    pub(crate) fn watch_running(&self, namespace: &str, app: &str) -> Watched<Running> {
        let params = WatchParams::default().labels(&format!("app={app}"));
        Watched::new(self.api(POD, Some(namespace)), params, Running::default(), |notes, pod, gone| {
            let runs = !gone && pod.metadata.deletion_timestamp.is_none() && is_running(&pod.data);
            if runs {
                notes.now.insert(pod.name_any());
            } else if notes.now.remove(&pod.name_any()) {
                notes.fewest = Some(notes.fewest.map_or(notes.now.len(), |fewest| fewest.min(notes.now.len())));
            }
        })
    }
}
