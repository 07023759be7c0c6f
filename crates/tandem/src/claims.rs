//! NodeClaims: which machine each records, and what pools' limits are charged with for them.

use std::collections::{BTreeMap, BTreeSet};

use api::{convert, karpenter_v1::NodeClaim};
use k8s_openapi::api::core::v1 as core;
use scheduling::{InstanceType, PoolKey};
use units::{Amount, ResourceList, ResourceName};

use crate::objects::{Objects, Read};

/// Claims by the machine they record.
pub(crate) struct Claims<'a> {
    by_provider: BTreeMap<&'a str, &'a NodeClaim>,
    by_node: BTreeMap<&'a str, &'a NodeClaim>,
}

impl<'a> Claims<'a> {
    pub(crate) fn new(objects: &'a Objects) -> Self {
        let status = |read: &'a Read<NodeClaim>| Some((read.object.status.as_ref()?, &read.object));
        let all = objects.node_claims.iter().filter_map(status);
        Self {
            by_provider: all.clone().filter_map(|(s, claim)| Some((s.provider_id.as_deref()?, claim))).collect(),
            by_node: all.filter_map(|(s, claim)| Some((s.node_name.as_deref()?, claim))).collect(),
        }
    }

    pub(crate) fn of(&self, node: &core::Node) -> Option<&'a NodeClaim> {
        let provider_id = node.spec.as_ref().and_then(|spec| spec.provider_id.as_deref()).filter(|id| !id.is_empty());
        let by_provider = provider_id.and_then(|id| self.by_provider.get(id)).copied();
        by_provider.or_else(|| self.by_node.get(node.metadata.name.as_deref()?).copied())
    }

    pub(crate) fn without_node(&self, objects: &'a Objects) -> Vec<&'a Read<NodeClaim>> {
        let joined = objects.nodes.iter().filter_map(|read| self.of(&read.object));
        let joined: BTreeSet<&str> = joined.filter_map(|claim| claim.metadata.name.as_deref()).collect();
        let claims = objects.node_claims.iter();
        claims.filter(|read| !joined.contains(read.object.metadata.name.as_deref().unwrap_or_default())).collect()
    }
}

/// The capacity of each pool's machines, of those not launched the largest that they may become; `nodes` counts them.
pub(crate) fn used(objects: &Objects, types: &[InstanceType]) -> BTreeMap<PoolKey, ResourceList> {
    let claims = Claims::new(objects);
    let read = |list: &BTreeMap<String, _>| convert::quantities_floor(list, "").unwrap_or_default();
    let mut all: BTreeMap<PoolKey, ResourceList> = BTreeMap::new();
    let mut charge = |pool: Option<PoolKey>, capacity: ResourceList| {
        if let Some(pool) = pool {
            let sum = all.entry(pool).or_default();
            sum.add(&capacity);
            sum.add(&ResourceList::new().with(ResourceName::new("nodes"), Amount(1)));
        }
    };
    let recorded = |claim: &NodeClaim| {
        let status = claim.status.as_ref();
        let known = status.map(|status| &status.capacity).filter(|list| !list.is_empty());
        let planned = || {
            let mut least = claim.spec.resources.as_ref().map(|asked| read(&asked.requests)).unwrap_or_default();
            if let Some(largest) = largest(claim, types) {
                least.max_with(&largest);
            }
            least
        };
        known.map_or_else(planned, read)
    };
    for object in objects.nodes.iter().map(|read| &read.object) {
        let claim = claims.of(object);
        let reported = object.status.as_ref().and_then(|status| status.capacity.as_ref());
        let capacity = reported.map(read).or_else(|| claim.map(recorded)).unwrap_or_default();
        let labels = object.metadata.labels.as_ref().or_else(|| claim.and_then(|claim| claim.metadata.labels.as_ref()));
        charge(labels.and_then(convert::pool_of), capacity);
    }
    for claim in claims.without_node(objects).into_iter().map(|read| &read.object) {
        charge(claim.metadata.labels.as_ref().and_then(convert::pool_of), recorded(claim));
    }
    all
}

/// The most of each resource that a machine has which a claim allows; `None` if it allows none of these types.
fn largest(claim: &NodeClaim, types: &[InstanceType]) -> Option<ResourceList> {
    let wanted: Vec<_> =
        claim.spec.requirements.iter().filter_map(|one| convert::claim_requirement(one).ok()).collect();
    let allows = |machine: &&InstanceType| {
        wanted.iter().all(|wanted| machine.requirements.get(wanted.key()).is_none_or(|has| has.overlaps(wanted)))
    };
    types.iter().filter(allows).map(|machine| machine.capacity.clone()).reduce(|mut all, one| {
        all.max_with(&one);
        all
    })
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use serde_json::json;

    use crate::{documents, input};

    #[test]
    fn a_machine_that_is_not_launched_counts_as_the_largest_that_it_may_be() {
        let of = |(name, cpus): (&str, u32)| {
            json!({ "name": name, "architecture": "amd64", "operatingSystems": ["linux"], "resources": { "cpu": cpus.to_string(), "memory": "8Gi" },
                "offerings": [{ "Price": 0.1, "Requirements": [
                    { "key": "karpenter.sh/capacity-type", "operator": "In", "values": ["spot"] },
                    { "key": "topology.kubernetes.io/zone", "operator": "In", "values": ["a"] }] }] })
        };
        let types: serde_json::Value = [("small", 2), ("large", 8), ("huge", 64)].map(of).into_iter().collect();
        let text = format!(
            "
kind: NodePool
apiVersion: karpenter.sh/v1
metadata: {{ name: p }}
spec: {{ template: {{ spec: {{ requirements: [], nodeClassRef: {{ group: g, kind: K, name: class }} }} }} }}
---
kind: NodeClaim
apiVersion: karpenter.sh/v1
metadata: {{ name: c, labels: {{ karpenter.sh/nodepool: p }} }}
spec:
  nodeClassRef: {{ group: g, kind: K, name: class }}
  requirements: [{{ key: node.kubernetes.io/instance-type, operator: In, values: [small, large] }}]
  resources: {{ requests: {{ cpu: 1 }} }}
---
{types}
"
        );
        let read = input::from_documents(Path::new("-"), documents::parse("-", &text).unwrap(), None).unwrap();
        assert_eq!(read.snapshot.pools[0].used.to_string(), "cpu: 8, memory: 8Gi, nodes: 1, pods: 110");
    }
}
