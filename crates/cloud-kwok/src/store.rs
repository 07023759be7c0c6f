//! Where the Nodes are: the API server, or a test's memory.

use std::fmt::Debug;

use async_trait::async_trait;
use k8s_openapi::api::core::v1::Node;
use kube::api::{Api, DeleteParams, ListParams, Patch, PatchParams, PostParams};
use kube::{Client, Error};
use serde_json::json;

use crate::machine::{MACHINE_LABEL, TERMINATED_ANNOTATION};

/// Why the store did not answer.
#[derive(Debug, thiserror::Error)]
#[error("the Nodes cannot be read or written")]
pub struct StoreError(#[from] Box<dyn std::error::Error + Send + Sync>);

/// The few things done with Nodes.
#[async_trait]
pub trait NodeStore: Send + Sync + Debug {
    /// Registers a Node; fine if it is there.
    async fn create(&self, node: &Node) -> Result<(), StoreError>;

    /// A Node by name.
    async fn get(&self, name: &str) -> Result<Option<Node>, StoreError>;

    /// Every Node that is one of our machines.
    async fn list(&self) -> Result<Vec<Node>, StoreError>;

    /// Marks a Node as terminated and deletes it: others may hold it back with finalizers, but its machine is gone.
    async fn terminate(&self, name: &str) -> Result<(), StoreError>;
}

/// The cluster's own API server.
#[derive(Clone)]
pub struct ApiServer {
    nodes: Api<Node>,
}

impl Debug for ApiServer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("ApiServer")
    }
}

impl ApiServer {
    /// Nodes of the client's cluster.
    pub fn new(client: Client) -> Self {
        Self { nodes: Api::all(client) }
    }
}

impl From<Error> for StoreError {
    fn from(error: Error) -> Self {
        Self(Box::new(error))
    }
}

#[async_trait]
impl NodeStore for ApiServer {
    async fn create(&self, node: &Node) -> Result<(), StoreError> {
        match self.nodes.create(&PostParams::default(), node).await {
            Ok(_) => Ok(()),
            Err(Error::Api(status)) if status.is_already_exists() => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    async fn get(&self, name: &str) -> Result<Option<Node>, StoreError> {
        Ok(self.nodes.get_opt(name).await?)
    }

    async fn list(&self) -> Result<Vec<Node>, StoreError> {
        let ours = ListParams::default().labels(&format!("{MACHINE_LABEL}=true"));
        Ok(self.nodes.list(&ours).await?.items)
    }

    async fn terminate(&self, name: &str) -> Result<(), StoreError> {
        let mark = json!({"metadata": {"annotations": {TERMINATED_ANNOTATION: "true"}}});
        match self.nodes.patch(name, &PatchParams::default(), &Patch::Merge(mark)).await {
            Ok(_) => {}
            Err(Error::Api(status)) if status.is_not_found() => return Ok(()),
            Err(error) => return Err(error.into()),
        }
        match self.nodes.delete(name, &DeleteParams::default()).await {
            Ok(_) => Ok(()),
            Err(Error::Api(status)) if status.is_not_found() => Ok(()),
            Err(error) => Err(error.into()),
        }
    }
}
