//! Provisioners and NodePools as the decisions read them: valid or not, where their cloud settings are, how long their
//! nodes live. Pure.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use api::{
    FieldError, FieldNotice,
    condition::Status,
    convert::{self, PoolTemplate},
    karpenter_aws::EC2NodeClass,
    karpenter_v1::{NodeClassRef, NodePool},
    karpenter_v1alpha5::Provisioner,
    unsupported::unsupported,
    validate::validate,
};
use cloud::NodeClass;
use k8s_openapi::{api::core::v1::ObjectReference, apimachinery::pkg::apis::meta::v1::OwnerReference};
use kube::{Resource, ResourceExt as _};
use requirements::{Requirement, labels};
use scheduling::{InstanceType, Offering, PoolKey, PoolKind};
use serde_json::Value;

use crate::{claims::Frame, context, world::World};

/// One pool.
#[derive(Clone, Debug)]
pub struct PoolState {
    /// Which.
    pub key: PoolKey,
    /// Its object, for events.
    pub reference: ObjectReference,
    /// The object's generation.
    pub generation: Option<i64>,
    /// How its nodes are made; or what a person must correct first.
    pub template: Result<PoolTemplate, Vec<FieldError>>,
    /// The labels it names, with the values it leaves; none of them if it does not say which. Known of pools that are not
    /// valid too.
    pub defines: BTreeMap<String, BTreeSet<String>>,
    /// What it asks for and we do not do.
    pub notices: Vec<FieldNotice>,
    /// What its claims share; none if it is not valid.
    pub frame: Option<Frame>,
    /// The cloud's settings; or why there are none.
    pub class: Result<NodeClass, String>,
    /// Why no node may be asked for although the object says how.
    pub closed: Option<Closed>,
    /// Why nothing that can be bought would do, as far as was looked at.
    pub unmet: Option<Closed>,
    /// `kubeletConfiguration` as written, `Null` if none.
    pub kubelet: Value,
    /// How long a node may stand empty.
    pub ttl_after_empty: Option<Duration>,
    /// How old a node may become.
    pub ttl_until_expired: Option<Duration>,
    /// Whether it is being deleted: no new nodes then.
    pub deleting: bool,
    /// Whether it has a number of nodes instead of following the pods (`spec.replicas`): no nodes for pods then.
    pub is_static: bool,
}

/// Why a valid pool makes no nodes for now, as its condition says it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Closed {
    /// False, or Unknown if nobody can tell yet.
    pub status: Status,
    /// CamelCase word.
    pub reason: &'static str,
    /// For people; names the field.
    pub what: String,
}

/// All pools.
#[derive(Clone, Debug, Default)]
pub struct Pools(pub BTreeMap<PoolKey, PoolState>);

impl Pools {
    /// Reads them from the world.
    pub fn of(world: &World) -> Self {
        let provisioners = world.objects.provisioners.iter().map(|one| provisioner(world, one));
        let node_pools = world.objects.node_pools.iter().map(|one| node_pool(world, one));
        Self(provisioners.chain(node_pools).map(|state| (state.key.clone(), state)).collect())
    }

    /// Those new nodes may be made for.
    pub fn usable(&self) -> impl Iterator<Item = (&PoolKey, &PoolTemplate)> {
        self.0
            .values()
            .filter(|state| !state.deleting && !state.is_static && state.class.is_ok() && state.closed.is_none())
            .filter_map(|state| Some((&state.key, state.template.as_ref().ok()?)))
    }
}

/// Which of the pool's requirements nothing that is on sale meets; none if something meets all of them.
pub fn unmet(template: &PoolTemplate, types: &[InstanceType]) -> Option<String> {
    let (zone, paid) = (template.requirements.get(labels::ZONE), template.requirements.get(labels::CAPACITY_TYPE));
    let sold = |offering: &Offering| {
        zone.is_none_or(|one| one.allows(Some(&offering.zone)))
            && paid.is_none_or(|one| one.allows(Some(offering.capacity_type.as_str())))
    };
    // What a type does not speak of is the pool's to say, unless it is of the machine.
    let has = |kind: &InstanceType, wanted: &Requirement| match wanted.key() {
        labels::ZONE => kind.offerings.iter().any(|one| wanted.allows(Some(&one.zone))),
        labels::CAPACITY_TYPE => kind.offerings.iter().any(|one| wanted.allows(Some(one.capacity_type.as_str()))),
        key => match kind.requirements.get(key) {
            Some(has) => has.overlaps(wanted),
            None => !labels::is_of_the_machine(key) || template.labels.contains_key(key) || wanted.allows(None),
        },
    };
    let meets_all = |kind: &InstanceType| {
        template.requirements.iter().all(|wanted| has(kind, wanted)) && kind.offerings.iter().any(sold)
    };
    if types.iter().any(meets_all) {
        return None;
    }
    let field = match template.key.kind {
        PoolKind::Provisioner => "spec.requirements",
        PoolKind::NodePool => "spec.template.spec.requirements",
    };
    if types.is_empty() {
        return Some(format!("{field}: nothing at all is on sale for this pool"));
    }
    let alone: Vec<String> = template
        .requirements
        .iter()
        .filter(|wanted| !types.iter().any(|kind| has(kind, wanted)))
        .map(ToString::to_string)
        .collect();
    Some(if alone.is_empty() {
        format!("{field}: no instance type on sale for this pool meets all of {}", template.requirements)
    } else {
        format!("{field}: no instance type on sale for this pool has {}", alone.join(", nor "))
    })
}

fn provisioner(world: &World, object: &Provisioner) -> PoolState {
    let spec = &object.spec;
    let terms = spec.requirements.iter().map(|one| {
        let values = one.values.as_deref().filter(|_| one.operator == "In");
        (&one.key, values.unwrap_or_default())
    });
    let defines = defines(&spec.labels, terms);
    let state = state(
        world,
        PoolKey { kind: PoolKind::Provisioner, name: object.name_any() },
        object,
        judge(convert::provisioner(object), validate(object)),
        unsupported(object),
        // Provisioners judge the age of their nodes live.
        "Never",
        None,
    );
    PoolState { defines, ..state }
}

/// The values that labels and requirements leave, as they are written.
fn defines<'a>(
    labels: &BTreeMap<String, String>,
    requirements: impl Iterator<Item = (&'a String, &'a [String])>,
) -> BTreeMap<String, BTreeSet<String>> {
    let mut all: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for (key, value) in labels {
        all.entry(labels::normalize(key).to_owned()).or_default().insert(value.clone());
    }
    for (key, values) in requirements {
        all.entry(labels::normalize(key).to_owned()).or_default().extend(values.iter().cloned());
    }
    all
}

fn node_pool(world: &World, object: &NodePool) -> PoolState {
    let template = &object.spec.template.spec;
    let state = state(
        world,
        PoolKey { kind: PoolKind::NodePool, name: object.name_any() },
        object,
        judge(convert::nodepool(object), validate(object)),
        unsupported(object),
        &template.expire_after,
        template.termination_grace_period.clone(),
    );
    let no_labels = BTreeMap::new();
    let labels = object.spec.template.metadata.as_ref().map_or(&no_labels, |metadata| &metadata.labels);
    let terms = template.requirements.iter().map(|one| {
        let values: &[String] = if one.operator == "In" { &one.values } else { &[] };
        (&one.key, values)
    });
    PoolState { is_static: object.spec.replicas.is_some(), defines: defines(labels, terms), ..state }
}

fn judge(
    converted: Result<PoolTemplate, Vec<FieldError>>,
    mut errors: Vec<FieldError>,
) -> Result<PoolTemplate, Vec<FieldError>> {
    match converted {
        Ok(template) if errors.is_empty() => Ok(template),
        Ok(_) => Err(errors),
        Err(more) => {
            errors.extend(more);
            errors.sort();
            errors.dedup();
            Err(errors)
        }
    }
}

fn state<K: Resource<DynamicType = ()>>(
    world: &World,
    key: PoolKey,
    object: &K,
    template: Result<PoolTemplate, Vec<FieldError>>,
    notices: Vec<FieldNotice>,
    expire_after: &str,
    termination_grace_period: Option<String>,
) -> PoolState {
    let ready = template.as_ref().ok();
    let class = match ready {
        Some(template) => node_class(world, &template.class),
        None => Err("the pool is not valid".to_owned()),
    };
    let kubelet = match (&class, ready) {
        (Ok(class), Some(_)) if key.kind == PoolKind::NodePool => kubelet_of_class(class),
        (_, Some(template)) => template.kubelet.clone(),
        (_, None) => Value::Null,
    };
    PoolState {
        key,
        reference: context::reference(object),
        generation: object.meta().generation,
        defines: BTreeMap::new(),
        notices,
        frame: ready.map(|template| Frame {
            owner: OwnerReference { block_owner_deletion: Some(true), ..object.owner_ref(&()).unwrap_or_default() },
            class: template.class.clone(),
            annotations: template.annotations.clone(),
            termination_grace_period,
            expire_after: expire_after.to_owned(),
        }),
        class,
        closed: None,
        unmet: None,
        kubelet,
        ttl_after_empty: ready.and_then(|template| template.ttl_after_empty),
        ttl_until_expired: ready.and_then(|template| template.ttl_until_expired),
        deleting: object.meta().deletion_timestamp.is_some(),
        is_static: false,
        template,
    }
}

/// The cloud settings a claim or pool refers to.
///
/// # Errors
/// A sentence that names the field, for a condition or an event.
pub fn node_class(world: &World, reference: &NodeClassRef) -> Result<NodeClass, String> {
    let objects = &world.objects;
    let found = match reference.kind.as_str() {
        "AWSNodeTemplate" => objects
            .node_templates
            .iter()
            .find(|one| one.metadata.name.as_ref() == Some(&reference.name))
            .map(|one| (one.uid(), as_written(Some(&one.spec)))),
        "EC2NodeClass" => objects
            .node_classes
            .iter()
            .find(|one| one.metadata.name.as_ref() == Some(&reference.name))
            .map(|one| (one.uid(), as_written(Some(&one.spec)))),
        "KWOKNodeClass" => objects
            .kwok_classes
            .iter()
            .find(|one| one.metadata.name.as_ref() == Some(&reference.name))
            .map(|one| (one.uid(), as_written(Some(&one.spec)))),
        "Provisioner" => {
            objects.provisioners.iter().find(|one| one.metadata.name.as_ref() == Some(&reference.name)).map(|one| {
                (one.uid(), one.spec.provider.clone().unwrap_or_else(|| Value::Object(serde_json::Map::new())))
            })
        }
        other => {
            return Err(format!(
                "the reference to its class (spec.providerRef.kind of a Provisioner, nodeClassRef.kind of others): {other:?} is \
                 not a kind of class known here: AWSNodeTemplate, EC2NodeClass, KWOKNodeClass"
            ));
        }
    };
    let field = if reference.kind == "AWSNodeTemplate" { "spec.providerRef" } else { "nodeClassRef" };
    let hint = if reference.kind == "KWOKNodeClass" { ", or the program does not run with cloud kwok" } else { "" };
    let (uid, spec) =
        found.ok_or_else(|| format!("{field}: {} {:?} does not exist{hint}", reference.kind, reference.name))?;
    Ok(NodeClass {
        group: reference.group.clone(),
        kind: reference.kind.clone(),
        name: reference.name.clone(),
        uid: uid.unwrap_or_default(),
        spec,
    })
}

/// The cloud settings that an EC2NodeClass holds.
///
/// # Errors
/// As [`node_class`].
pub fn class_of(world: &World, class: &EC2NodeClass) -> Result<NodeClass, String> {
    let reference = NodeClassRef {
        group: EC2NodeClass::group(&()).into_owned(),
        kind: EC2NodeClass::kind(&()).into_owned(),
        name: class.name_any(),
    };
    node_class(world, &reference)
}

/// Every class that some pool or claim still needs.
pub fn live_classes(world: &World, pools: &Pools) -> Vec<NodeClass> {
    let of_pools = pools.0.values().filter_map(|pool| pool.class.clone().ok());
    let of_claims = world.objects.claims.iter().filter_map(|claim| node_class(world, &claim.spec.node_class_ref).ok());
    let all: BTreeMap<(String, String), NodeClass> =
        of_pools.chain(of_claims).map(|class| ((class.kind.clone(), class.name.clone()), class)).collect();
    all.into_values().collect()
}

/// The kubelet settings of a claim's pool, `Null` if none.
pub fn kubelet(world: &World, pool: &PoolKey, class: &NodeClass) -> Value {
    match pool.kind {
        PoolKind::Provisioner => world
            .objects
            .provisioners
            .iter()
            .find(|one| one.metadata.name.as_ref() == Some(&pool.name))
            .map(|one| as_written(one.spec.kubelet_configuration.as_ref()))
            .unwrap_or_default(),
        PoolKind::NodePool => kubelet_of_class(class),
    }
}

/// The object of a pool, for events.
pub fn reference(world: &World, pool: &PoolKey) -> Option<ObjectReference> {
    let objects = &world.objects;
    match pool.kind {
        PoolKind::Provisioner => objects
            .provisioners
            .iter()
            .find(|one| one.metadata.name.as_ref() == Some(&pool.name))
            .map(|one| context::reference(&**one)),
        PoolKind::NodePool => objects
            .node_pools
            .iter()
            .find(|one| one.metadata.name.as_ref() == Some(&pool.name))
            .map(|one| context::reference(&**one)),
    }
}

/// An EC2NodeClass carries the kubelet's settings itself.
fn kubelet_of_class(class: &NodeClass) -> Value {
    class.spec.get("kubelet").cloned().unwrap_or_default()
}

fn as_written<T: serde::Serialize>(value: Option<&T>) -> Value {
    // These types came from JSON, so they go back to it.
    value.and_then(|value| serde_json::to_value(value).ok()).unwrap_or_default()
}

#[cfg(test)]
#[path = "pools_tests.rs"]
mod tests;
