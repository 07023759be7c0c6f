//! From objects to what the solver reads. Pure: the same objects and instance types give the same snapshot.

mod machine;

use std::{
    borrow::Cow,
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use api::{
    FieldError,
    budget::Budgets,
    convert, pods,
    validate::{kubelet_errors, validate},
    volumes::Volumes,
};
use k8s_openapi::{
    api::core::v1 as core,
    apimachinery::pkg::{api::resource::Quantity as Text, apis::meta::v1::ObjectMeta},
};
use scheduling::{InstanceType, Node, NodeStage, Offered, Pod, PodKey, Pool, PoolKind, Snapshot, overlay};

use crate::{
    Origin, Problem,
    admission::{self, Admission},
    claims::{self, Claims},
    fate::{self, Fate},
    faults, kubelet,
    objects::{Objects, Read},
    workloads::{self, Missing},
};

/// What of the input the plan does not speak of.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LeftOut {
    /// Pods that wait for their scheduling gates.
    pub gated: usize,
    /// Pods that wait for others to leave the node they are nominated for.
    pub preempting: usize,
    /// Pods bound to a node that the input does not have.
    pub on_unknown_nodes: usize,
    /// How many pods stay on nodes that are leaving, by what never lets them go.
    pub held: BTreeMap<String, usize>,
    /// Pods of leaving nodes that nothing makes again.
    pub ownerless: usize,
    /// Pools that get no nodes, and why.
    pub pools: Vec<String>,
}

/// The snapshot, what it leaves out, and what is wrong with the objects; an object with a problem is not in it.
pub fn snapshot(objects: &Objects, types: &Arc<[InstanceType]>) -> (Snapshot, LeftOut, Vec<Problem>) {
    let (admission, mut problems) = Admission::new(objects);
    let budgets = objects.budgets.iter().filter(|read| {
        let (budget, name) = (&read.object, &read.object.metadata.name);
        let namespace = budget.metadata.namespace.as_deref().unwrap_or_default();
        let object = format!("PodDisruptionBudget {namespace}/{}", name.as_deref().unwrap_or_default());
        is_fine(&mut problems, faults::of_budget(budget), &read.origin, &object)
    });
    let budgets = Budgets::new(budgets.map(|read| &read.object));
    for read in &objects.storage_classes {
        let class = format!("StorageClass {}", read.object.metadata.name.as_deref().unwrap_or_default());
        is_fine(&mut problems, faults::of_storage_class(&read.object), &read.origin, &class);
    }
    let mut builder = Builder {
        budgets,
        refused: BTreeSet::new(),
        volumes: Volumes::new(
            objects.volume_claims.iter().map(|read| &read.object),
            objects.volumes.iter().map(|read| &read.object),
            objects.storage_classes.iter().map(|read| &read.object),
        ),
        admission,
        left_out: LeftOut::default(),
        problems,
        pods: Vec::new(),
    };
    let nodes = builder.nodes(objects, types);
    builder.homeless(objects, &nodes);
    for missing in workloads::missing(objects) {
        builder.expand(&missing);
    }
    let daemons = objects.daemon_sets.iter().filter_map(|read| builder.daemon(read)).collect();
    let mut pools = builder.pools(objects, types);
    builder.overlay(objects, &mut pools);
    let labels_of = |namespace: &core::Namespace| {
        let own = &namespace.metadata;
        let name = own.name.clone().unwrap_or_default();
        let mut labels = own.labels.clone().unwrap_or_default();
        // Every API server sets this one.
        labels.entry("kubernetes.io/metadata.name".to_owned()).or_insert_with(|| name.clone());
        (name, labels)
    };
    let bound = nodes.iter().flat_map(|node: &Node| &node.pods);
    let namespaces: BTreeSet<&str> = builder.pods.iter().chain(bound).map(|pod| pod.key.namespace.as_str()).collect();
    // Those that are not in the input are there all the same, with the label that all have.
    let unseen = namespaces.into_iter().map(|name| {
        labels_of(&core::Namespace {
            metadata: ObjectMeta { name: Some(name.to_owned()), ..ObjectMeta::default() },
            ..core::Namespace::default()
        })
    });
    let seen = objects.namespaces.iter().map(|read| labels_of(&read.object));
    let namespace_labels = unseen.chain(seen).collect();
    let snapshot = Snapshot { sequence: 1, pods: builder.pods, nodes, pools, daemons, namespace_labels };
    (snapshot, builder.left_out, builder.problems)
}

/// Whether the rules for Provisioners decide who is evicted from it.
fn is_a_provisioners(node: &Node) -> bool {
    node.stage == NodeStage::Leaving && node.pool.as_ref().is_some_and(|pool| pool.kind == PoolKind::Provisioner)
}

/// Whether nothing is wrong with the object; what is, is remembered.
fn is_fine(problems: &mut Vec<Problem>, found: Vec<admission::Fault>, origin: &Origin, object: &str) -> bool {
    let fine = found.is_empty();
    let problem = |(field, message): admission::Fault| Problem::at(origin, message).of(object).field(field);
    problems.extend(found.into_iter().map(problem));
    fine
}

struct Builder<'a> {
    budgets: Budgets<'a>,
    /// Leaving nodes of Provisioners that nobody is evicted from, for a pod there blocks the drain.
    refused: BTreeSet<String>,
    volumes: Volumes<'a>,
    admission: Admission<'a>,
    left_out: LeftOut,
    problems: Vec<Problem>,
    pods: Vec<Arc<Pod>>,
}

impl Builder<'_> {
    /// A converted pod with what is written elsewhere of it.
    fn complete(&self, pod: &core::Pod, mut found: Pod) -> Pod {
        found.priority = self.admission.priority(pod.spec.as_ref());
        self.volumes.add(pod.spec.as_ref().and_then(|s| s.volumes.as_deref()).unwrap_or_default(), true, &mut found);
        found
    }

    /// What never lets a bound pod go, in words, though something would make it anew.
    fn hold(&self, pod: &core::Pod) -> Option<String> {
        let hold = self.budgets.hold(pod).filter(|hold| hold.lasting && pods::will_move(pod));
        hold.map(|hold| hold.why)
    }

    /// Why a pod of a leaving node stays there, in words, if it does.
    fn stays(&self, pod: &core::Pod) -> Option<String> {
        let protected = "annotated do-not-evict or do-not-disrupt";
        let ownerless = "nothing would make it again, and the rules for Provisioners then forbid the drain";
        let blocks = |why: &str, v1alpha5: bool| pods::blocks_drain(pod, v1alpha5).then(|| why.to_owned());
        let refused = self.is_refused(pod);
        self.hold(pod)
            .or_else(|| blocks(protected, false))
            .or_else(|| blocks(ownerless, true).filter(|_| refused))
            .or_else(|| refused.then(|| "another pod of the node forbids its drain".to_owned()))
    }

    /// Whether a bound pod will want another place when its node goes.
    fn will_move(&self, pod: &core::Pod) -> bool {
        pods::will_move(pod) && self.hold(pod).is_none() && !self.is_refused(pod)
    }

    /// Whether another pod of its leaving node keeps everybody there from being evicted.
    fn is_refused(&self, pod: &core::Pod) -> bool {
        !pods::is_leaving(pod) && pods::node_name(pod).is_some_and(|node| self.refused.contains(node))
    }

    /// Whether nothing is wrong with the spec; what is, is remembered.
    fn is_sound(&mut self, spec: Option<&core::PodSpec>, origin: &Origin, object: &str, path: &str) -> bool {
        let found = match spec {
            Some(spec) => faults::of_spec(spec, path),
            None => vec![(path.to_owned(), "is missing".to_owned())],
        };
        self.is_fine(found, origin, object)
    }

    fn is_fine(&mut self, found: Vec<admission::Fault>, origin: &Origin, object: &str) -> bool {
        is_fine(&mut self.problems, found, origin, object)
    }

    /// Whether an API server would make the pod of this sound spec, which is completed as it would be then.
    fn is_admitted(
        &mut self,
        namespace: Option<&str>,
        spec: Option<&mut core::PodSpec>,
        origin: &Origin,
        object: &str,
        path: &str,
    ) -> bool {
        let complete = |spec| self.admission.complete(namespace.unwrap_or_default(), spec, path);
        let refused = spec.map(complete).unwrap_or_default();
        self.is_fine(refused, origin, object)
    }

    /// Says which of these amounts are none.
    fn amounts(&mut self, lists: &[(&str, Option<&BTreeMap<String, Text>>)], origin: &Origin, object: &str) {
        for (field, message) in lists.iter().flat_map(|(path, list)| faults::of_quantities(*list, path)) {
            self.problems.push(Problem::at(origin, message).of(object).field(field));
        }
    }

    fn nodes(&mut self, objects: &Objects, types: &[InstanceType]) -> Vec<Node> {
        let claims = Claims::new(objects);
        let limits: BTreeMap<&str, BTreeMap<String, u32>> =
            objects.csi_nodes.iter().filter_map(|read| machine::limits_of(&read.object)).collect();
        let mut nodes = Vec::new();
        for read in &objects.nodes {
            let name = read.object.metadata.name.as_deref().unwrap_or_default();
            let status = read.object.status.as_ref();
            let lists = [
                ("status.allocatable", status.and_then(|status| status.allocatable.as_ref())),
                ("status.capacity", status.and_then(|status| status.capacity.as_ref())),
            ];
            self.amounts(&lists, &read.origin, &format!("Node {name}"));
            let mut node = machine::node(&read.object, claims.of(&read.object));
            node.volume_limits = limits.get(name).cloned().unwrap_or_default();
            nodes.push(node);
        }
        for Read { origin, object } in &objects.csi_nodes {
            for (index, driver) in object.spec.drivers.iter().enumerate() {
                if let Some(count @ ..0) = driver.allocatable.as_ref().and_then(|has| has.count) {
                    let object = format!("CSINode {}", object.metadata.name.as_deref().unwrap_or_default());
                    let field = format!("spec.drivers[{index}].allocatable.count");
                    self.problems.push(Problem::at(origin, format!("{count} is negative")).of(object).field(field));
                }
            }
        }
        for Read { origin, object } in &objects.node_claims {
            let (status, asked) = (object.status.as_ref(), object.spec.resources.as_ref());
            let lists = [
                ("spec.resources.requests", asked.map(|asked| &asked.requests)),
                ("status.allocatable", status.map(|status| &status.allocatable)),
                ("status.capacity", status.map(|status| &status.capacity)),
            ];
            self.amounts(&lists, origin, &format!("NodeClaim {}", object.metadata.name.as_deref().unwrap_or_default()));
        }
        for read in claims.without_node(objects) {
            let mut node = machine::empty_node(read.object.metadata.name.as_deref().unwrap_or_default());
            machine::complete_from_claim(&mut node, &read.object);
            nodes.push(node);
        }
        let mut by_name: BTreeMap<String, usize> =
            nodes.iter().enumerate().map(|(index, node)| (node.key.0.clone(), index)).collect();
        let blocking = objects.pods.iter().filter(|read| pods::blocks_drain(&read.object, true));
        self.refused = blocking
            .filter_map(|read| pods::node_name(&read.object))
            .filter(|name| by_name.get(*name).is_some_and(|index| is_a_provisioners(&nodes[*index])))
            .map(str::to_owned)
            .collect();
        for read in &objects.pods {
            if fate::of(&read.object) != Fate::Bound {
                continue;
            }
            let Some(index) = pods::node_name(&read.object).and_then(|name| by_name.get_mut(name)) else {
                self.left_out.on_unknown_nodes += 1;
                continue;
            };
            let node = &mut nodes[*index];
            let leaving = node.stage == NodeStage::Leaving;
            if leaving && self.will_move(&read.object) {
                continue;
            }
            let mut pod = self.complete(&read.object, convert::pod(&read.object));
            if leaving {
                let stays = self.stays(&read.object);
                pod.terminating |= stays.is_none();
                // Of those that come with the node and of those that go nobody asks.
                if pods::occupies(&read.object) && !pods::is_leaving(&read.object) {
                    match stays {
                        Some(why) => *self.left_out.held.entry(why).or_default() += 1,
                        None => self.left_out.ownerless += 1,
                    }
                }
            }
            node.pods.push(Arc::new(pod));
        }
        let startup = machine::startup_taints(objects);
        for node in &mut nodes {
            node.price = machine::price(node, types);
            // Where no claim says it, the pool does.
            if node.stage == NodeStage::InFlight
                && node.startup_taints.is_empty()
                && let Some(taints) = node.pool.as_ref().and_then(|pool| startup.get(pool))
            {
                node.startup_taints.clone_from(taints);
            }
        }
        nodes
    }

    fn homeless(&mut self, objects: &Objects, nodes: &[Node]) {
        let leaving: BTreeSet<&str> =
            nodes.iter().filter(|node| node.stage == NodeStage::Leaving).map(|node| node.key.0.as_str()).collect();
        for read in &objects.pods {
            let needs_place = match fate::of(&read.object) {
                Fate::ToPlace => true,
                Fate::Bound => {
                    self.will_move(&read.object)
                        && pods::node_name(&read.object).is_some_and(|node| leaving.contains(node))
                }
                Fate::Gated => {
                    self.left_out.gated += 1;
                    false
                }
                Fate::Preempting => {
                    self.left_out.preempting += 1;
                    false
                }
                Fate::Elsewhere => false,
            };
            let object = format!("Pod {}", key_of(&read.object));
            if !needs_place || !self.is_sound(read.object.spec.as_ref(), &read.origin, &object, "spec") {
                continue;
            }
            let labels = faults::of_labels(read.object.metadata.labels.as_ref(), "metadata.labels");
            if !self.is_fine(labels, &read.origin, &object) {
                continue;
            }
            let mut pod = Cow::Borrowed(&read.object);
            if admission::is_ahead(&pod) {
                let (namespace, spec) = (read.object.metadata.namespace.as_deref(), &mut pod.to_mut().spec);
                if !self.is_admitted(namespace, spec.as_mut(), &read.origin, &object, "spec") {
                    continue;
                }
            }
            let pod = self.complete(&pod, convert::replacement(&pod));
            self.pods.push(Arc::new(pod));
        }
    }

    fn expand(&mut self, missing: &Missing<'_>) {
        self.problems.extend(missing.problem.clone());
        let path = "spec.template.spec";
        if !self.is_sound(missing.like.spec.as_ref(), missing.origin, &missing.workload, path)
            || missing.names.is_empty()
        {
            return;
        }
        let mut like = missing.like.clone();
        let namespace = missing.like.metadata.namespace.as_deref();
        if !self.is_admitted(namespace, like.spec.as_mut(), missing.origin, &missing.workload, path) {
            return;
        }
        let spec = like.spec.as_ref();
        if spec.and_then(|s| s.scheduling_gates.as_ref()).is_some_and(|gates| !gates.is_empty()) {
            self.left_out.gated += missing.names.len();
            return;
        }
        let mut pod_like = convert::pod(&like);
        pod_like.priority = self.admission.priority(spec);
        let volumes = spec.and_then(|s| s.volumes.as_deref()).unwrap_or_default();
        // A volume that a claim template names is one of its own, whatever the spec says.
        let is_own = |volume: &&core::Volume| {
            !missing.claim_templates.iter().any(|claim| claim.metadata.name.as_ref() == Some(&volume.name))
        };
        let volumes: Vec<core::Volume> = volumes.iter().filter(is_own).cloned().collect();
        for (name, own_labels) in &missing.names {
            let mut pod = pod_like.clone();
            pod.key.name.clone_from(name);
            pod.labels.extend(own_labels.iter().map(|(key, value)| ((*key).to_owned(), value.clone())));
            self.volumes.add(&volumes, true, &mut pod);
            for template in missing.claim_templates {
                self.volumes.add_templated(template, &mut pod);
            }
            self.pods.push(Arc::new(pod));
        }
    }

    fn daemon(&mut self, read: &Read<k8s_openapi::api::apps::v1::DaemonSet>) -> Option<Arc<Pod>> {
        let own = &read.object.metadata;
        if own.deletion_timestamp.is_some() {
            return None;
        }
        let namespace = own.namespace.as_deref().unwrap_or_default();
        let object = format!("DaemonSet {namespace}/{}", own.name.as_deref().unwrap_or_default());
        let spec = read.object.spec.as_ref().and_then(|spec| spec.template.spec.as_ref());
        if !self.is_sound(spec, &read.origin, &object, "spec.template.spec") {
            return None;
        }
        let mut set = read.object.clone();
        let spec = set.spec.as_mut().and_then(|spec| spec.template.spec.as_mut());
        if !self.is_admitted(Some(namespace), spec, &read.origin, &object, "spec.template.spec") {
            return None;
        }
        let mut pod = convert::daemon_set(&set);
        pod.priority = self.admission.priority(set.spec.as_ref().and_then(|spec| spec.template.spec.as_ref()));
        Some(Arc::new(pod))
    }

    fn pools(&mut self, objects: &Objects, types: &Arc<[InstanceType]>) -> Vec<Pool> {
        let used = claims::used(objects, types);
        let (mut pools, mut left_out) = (Vec::new(), Vec::new());
        let mut keep = |template: Result<convert::PoolTemplate, Vec<FieldError>>,
                        more: Vec<FieldError>,
                        origin: &Origin,
                        object: String| {
            let (template, mut errors) = match template {
                Ok(template) => (Some(template), more),
                Err(errors) => (None, errors.into_iter().chain(more).collect()),
            };
            errors.sort();
            errors.dedup();
            for FieldError { field, message } in &errors {
                self.problems.push(Problem::at(origin, message.as_str()).of(object.as_str()).field(field.as_str()));
            }
            let Some(template) = template.filter(|_| errors.is_empty()) else { return };
            pools.push(Pool {
                used: used.get(&template.key).cloned().unwrap_or_default(),
                key: template.key,
                weight: template.weight,
                requirements: template.requirements,
                labels: template.labels,
                taints: template.taints,
                startup_taints: template.startup_taints,
                limits: template.limits,
                instance_types: kubelet::told(types, &template.kubelet),
            });
        };
        let deleted = |name: String| format!("{name}, which is being deleted");
        for Read { origin, object } in &objects.provisioners {
            let name = format!("Provisioner {}", object.metadata.name.as_deref().unwrap_or_default());
            if object.metadata.deletion_timestamp.is_some() {
                left_out.push(deleted(name));
            } else {
                keep(convert::provisioner(object), validate(object), origin, name);
            }
        }
        for Read { origin, object } in &objects.node_pools {
            let name = format!("NodePool {}", object.metadata.name.as_deref().unwrap_or_default());
            if object.metadata.deletion_timestamp.is_some() {
                left_out.push(deleted(name));
            } else {
                let class = &object.spec.template.spec.node_class_ref;
                let kubelet = (class.group == "karpenter.k8s.aws").then(|| objects.kubelets.get(&class.name)).flatten();
                let told = convert::nodepool(object).map(|mut template| {
                    template.kubelet = kubelet.cloned().unwrap_or_default();
                    template
                });
                // A machine of a class that is not sound is none.
                let wrong = kubelet.map(|kubelet| kubelet_errors(kubelet, "spec.kubelet")).unwrap_or_default();
                let of_class = |FieldError { field, message }: FieldError| {
                    let message = format!("EC2NodeClass {}: {field}: {message}", class.name);
                    FieldError::new("spec.template.spec.nodeClassRef", message)
                };
                let more = validate(object).into_iter().chain(wrong.into_iter().map(of_class)).collect();
                // As with node-provisioner.
                let fixed = format!("{name}: spec.replicas: static NodePools are not supported yet");
                left_out.extend(object.spec.replicas.map(|_| fixed));
                keep(told, more, origin, name);
            }
        }
        let fixed = objects.node_pools.iter().filter(|read| read.object.spec.replicas.is_some());
        let fixed: BTreeSet<&str> = fixed.filter_map(|read| read.object.metadata.name.as_deref()).collect();
        pools.retain(|pool| pool.key.kind != PoolKind::NodePool || !fixed.contains(pool.key.name.as_str()));
        self.left_out.pools = left_out;
        pools
    }

    /// Changes what the pools can buy as the NodeOverlays say.
    fn overlay(&mut self, objects: &Objects, pools: &mut [Pool]) {
        let mut overlays = Vec::new();
        let mut wrong = |origin: &Origin, name: &str, field: &str, message: &str| {
            self.problems.push(Problem::at(origin, message).of(format!("NodeOverlay {name}")).field(field));
        };
        for Read { origin, object } in &objects.node_overlays {
            let name = object.metadata.name.as_deref().unwrap_or_default();
            match convert::overlay(object) {
                Ok(one) => overlays.push(one),
                Err(errors) => errors.iter().for_each(|error| wrong(origin, name, &error.field, &error.message)),
            }
        }
        if overlays.is_empty() {
            return;
        }
        let offered = pools.iter().map(|pool| {
            let (labels, instance_types) = (pool.labels.clone(), Arc::clone(&pool.instance_types));
            (pool.key.clone(), Offered { labels, instance_types })
        });
        let overlaid = overlay(&offered.collect(), &overlays);
        for Read { origin, object } in &objects.node_overlays {
            let name = object.metadata.name.as_deref().unwrap_or_default();
            if let Some(conflict) = overlaid.conflicts.get(name) {
                wrong(origin, name, "spec.weight", &conflict.to_string());
            }
        }
        for pool in pools {
            if let Some(types) = overlaid.instance_types.get(&pool.key) {
                pool.instance_types = Arc::clone(types);
            }
        }
    }
}

fn key_of(pod: &core::Pod) -> PodKey {
    let text = |part: &Option<String>| part.clone().unwrap_or_default();
    PodKey::new(text(&pod.metadata.namespace), text(&pod.metadata.name))
}
