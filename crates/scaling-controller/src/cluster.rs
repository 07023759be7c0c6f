//! The cluster as triggers may ask about it.

use std::collections::BTreeSet;
use std::fmt;

use async_trait::async_trait;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::api::ListParams;
use kube::{Api, Client};
use scalers::{Cluster, LivePod, ScalerError};

/// What the API server knows.
///
/// Lists come from the API server's watch cache, so they may be some milliseconds old and cost etcd nothing.
pub(crate) struct ApiServer {
    client: Client,
}

impl ApiServer {
    pub(crate) fn new(client: Client) -> Self {
        Self { client }
    }
}

#[async_trait]
impl Cluster for ApiServer {
    async fn live_pods(&self, namespace: &str, selector: &str) -> Result<Vec<LivePod>, ScalerError> {
        let wanted = ListParams::default().labels(selector).fields(LIVE).match_any();
        let pods = Api::<Pod>::namespaced(self.client.clone(), namespace).list(&wanted).await.map_err(failure)?;
        let node = |pod: Pod| pod.spec.and_then(|spec| spec.node_name).filter(|node| !node.is_empty());
        Ok(pods.items.into_iter().map(|pod| LivePod { node: node(pod) }).collect())
    }

    async fn ready_endpoints(&self, namespace: &str, service: &str) -> Result<Vec<String>, ScalerError> {
        let wanted = ListParams::default().labels(&format!("{SERVICE_LABEL}={service}")).match_any();
        let slices = Api::<EndpointSlice>::namespaced(self.client.clone(), namespace);
        Ok(addresses(slices.list(&wanted).await.map_err(failure)?.items))
    }
}

impl fmt::Debug for ApiServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ApiServer").finish_non_exhaustive()
    }
}

/// Pods that have not ended.
const LIVE: &str = "status.phase!=Succeeded,status.phase!=Failed";
/// Which Service a slice belongs to.
const SERVICE_LABEL: &str = "kubernetes.io/service-name";

/// One address of each ready endpoint. A Service with two IP families has two slices with the same endpoints.
fn addresses(mut slices: Vec<EndpointSlice>) -> Vec<String> {
    slices.sort_by(|a, b| (&a.address_type, &a.metadata.name).cmp(&(&b.address_type, &b.metadata.name)));
    let mut seen = BTreeSet::new();
    let mut addresses = Vec::new();
    for endpoint in slices.into_iter().flat_map(|slice| slice.endpoints.unwrap_or_default()) {
        let ready = endpoint.conditions.and_then(|conditions| conditions.ready).unwrap_or(true);
        let Some(address) = endpoint.addresses.into_iter().next().filter(|_| ready) else { continue };
        let who = endpoint.target_ref.and_then(|target| target.uid).unwrap_or_else(|| address.clone());
        if seen.insert(who) {
            addresses.push(address);
        }
    }
    addresses
}

fn failure(error: kube::Error) -> ScalerError {
    match &error {
        kube::Error::Api(status) if matches!(status.code, 401 | 403) => {
            ScalerError::Unauthorized { what: status.message.clone() }
        }
        kube::Error::Api(status) if status.code == 400 => ScalerError::Misconfigured { what: status.message.clone() },
        _ => ScalerError::Unavailable(Box::new(error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_ready_endpoint_is_asked_once() {
        let slice = |family: &str, endpoints: serde_json::Value| -> EndpointSlice {
            let slice =
                serde_json::json!({"metadata": {"name": family}, "addressType": family, "endpoints": endpoints});
            serde_json::from_value(slice).unwrap()
        };
        let pod = |uid: &str| serde_json::json!({"kind": "Pod", "uid": uid});
        let slices = vec![
            slice("IPv6", serde_json::json!([{"addresses": ["fd00::1"], "targetRef": pod("a")}])),
            slice(
                "IPv4",
                serde_json::json!([
                    {"addresses": ["10.0.0.1"], "targetRef": pod("a"), "conditions": {"ready": true}},
                    {"addresses": ["10.0.0.2"], "targetRef": pod("b"), "conditions": {"ready": false}},
                    {"addresses": ["10.0.0.3"]},
                ]),
            ),
        ];
        assert_eq!(addresses(slices), ["10.0.0.1", "10.0.0.3"]);
    }
}
