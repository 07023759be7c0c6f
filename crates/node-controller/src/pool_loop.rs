//! What we say on Provisioners and NodePools: whether they are valid, what is ignored, how much they use.

use std::{collections::BTreeMap, time::Duration};

use api::{
    FieldError, FieldNotice,
    condition::{self, LivingCondition, Status},
    in_one_line,
    karpenter_aws::{EC2NodeClass, EC2NodeClassStatus},
    karpenter_v1::{NodePool, NodePoolStatus},
    karpenter_v1alpha1::{NodeOverlay, NodeOverlayStatus},
    karpenter_v1alpha5::{Provisioner, ProvisionerStatus},
    unsupported::unsupported,
    validate::validate,
};
use controller_runtime::{boot::chain, events::Kind, status::patch_if_changed};
use jiff::Timestamp;
use k8s_openapi::{
    api::core::v1::ObjectReference,
    apimachinery::pkg::{api::resource::Quantity, apis::meta::v1::Time},
};
use kube::ResourceExt as _;
use scheduling::{Conflict, PoolKind};
use units::{ResourceList, ResourceName};

use crate::{
    claims::core_quantities,
    context::{self, Context, View, Worlds},
    pool_gauges::Gauges,
    pools::{self, PoolState},
    provisioning::catalogue,
    snapshot,
    standing::{JUDGED_FOR, NOT_ANSWERED, Which},
};

/// Statuses follow the machines at this distance; Karpenter refreshes every five seconds.
const PAUSE: Duration = Duration::from_secs(1);

/// Runs until the shutdown. Only the leader may run it.
pub(crate) async fn run(ctx: Context, mut worlds: Worlds) {
    let mut gauges = Gauges::default();
    loop {
        let view = ctx.view(&mut worlds);
        let mut pools = ctx.pools(&view.world, Which::Due).await;
        let offers = catalogue::read(&ctx, &view.world, &pools).await;
        for (key, unmet) in &offers.unmet {
            if let Some(pool) = pools.0.get_mut(key) {
                pool.unmet = Some(unmet.clone());
            }
        }
        speak_of_classes(&ctx, &view).await;
        for class in &view.world.objects.node_classes {
            if let Err(error) = node_class(&ctx, &view, class).await {
                tracing::warn!(class = %class.name_any(), %error, "status not written, trying again");
            }
        }
        write_overlays(&ctx, &view, &offers.conflicts).await;
        let used = snapshot::used(&view.world);
        let usage = pools.0.values().map(|pool| {
            let limits = pool.template.as_ref().ok().and_then(|template| template.limits.clone());
            (pool.key.clone(), (used.get(&pool.key).cloned().unwrap_or_default(), limits))
        });
        gauges.show(&ctx.metrics, &usage.collect());
        for pool in pools.0.values() {
            let used = used.get(&pool.key).cloned().unwrap_or_default();
            speak(&ctx, pool).await;
            if let Err(error) = write(&ctx, &view, pool, &used).await {
                tracing::warn!(pool = %pool.key, %error, "status not written, trying again");
            }
        }
        tokio::select! {
            () = ctx.shutdown.cancelled() => return,
            changed = worlds.changed() => if changed.is_err() { return },
            () = tokio::time::sleep(JUDGED_FOR) => {}
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// Events about what the classes' objects say.
async fn speak_of_classes(ctx: &Context, view: &View) {
    let objects = &view.world.objects;
    for template in &objects.node_templates {
        speak_of(ctx, &context::reference(&**template), validate(&**template), unsupported(&**template)).await;
    }
    for class in &objects.node_classes {
        speak_of(ctx, &context::reference(&**class), validate(&**class), unsupported(&**class)).await;
    }
    for class in &objects.kwok_classes {
        speak_of(ctx, &context::reference(&**class), validate(&**class), unsupported(&**class)).await;
    }
    for overlay in &objects.node_overlays {
        speak_of(ctx, &context::reference(&**overlay), validate(&**overlay), Vec::new()).await;
    }
}

async fn speak_of(ctx: &Context, about: &ObjectReference, errors: Vec<FieldError>, notices: Vec<FieldNotice>) {
    for error in errors {
        ctx.recorder.publish(about, Kind::Warning, "Invalid", "Validate", error.to_string()).await;
    }
    for notice in notices {
        ctx.recorder.publish(about, Kind::Warning, "NotSupportedYet", "Validate", notice.to_string()).await;
    }
}

/// Events about what the object says. The recorder keeps them from repeating.
async fn speak(ctx: &Context, pool: &PoolState) {
    if let Err(errors) = &pool.template {
        for error in errors {
            let note = format!("{error}; the pool is not used until this is corrected");
            ctx.recorder.publish(&pool.reference, Kind::Warning, "Invalid", "Validate", note).await;
        }
    }
    if let (Ok(_), Err(what)) = (&pool.template, &pool.class) {
        ctx.recorder.publish(&pool.reference, Kind::Warning, "Misconfigured", "Validate", what.clone()).await;
    }
    if let Some(unmet) = &pool.unmet {
        ctx.recorder.publish(&pool.reference, Kind::Warning, unmet.reason, "Validate", unmet.what.clone()).await;
    }
    for notice in &pool.notices {
        ctx.recorder.publish(&pool.reference, Kind::Warning, "NotSupportedYet", "Validate", notice.to_string()).await;
    }
}

async fn write(ctx: &Context, view: &View, pool: &PoolState, used: &ResourceList) -> Result<(), String> {
    match pool.key.kind {
        PoolKind::Provisioner => provisioner(ctx, view, pool, used).await,
        PoolKind::NodePool => node_pool(ctx, view, pool, used).await,
    }
}

async fn provisioner(ctx: &Context, view: &View, pool: &PoolState, used: &ResourceList) -> Result<(), String> {
    let found = view.world.objects.provisioners.iter().find(|one| one.name_any() == pool.key.name);
    let Some(object) = found else { return Ok(()) };
    let old = object.status.clone().unwrap_or_default();
    let new = provisioner_status(&old, pool, used, view.at);
    let api = ctx.all::<Provisioner>();
    patch_if_changed(&api, &pool.key.name, object.status.as_ref(), &new).await.map_err(|error| chain(&error))?;
    Ok(())
}

/// The status of a Provisioner. Pure.
pub(crate) fn provisioner_status(
    old: &ProvisionerStatus,
    pool: &PoolState,
    used: &ResourceList,
    now: Timestamp,
) -> ProvisionerStatus {
    let mut new = old.clone();
    new.resources = without_nodes(used);
    // The number of machines is the last thing that shows whether anything was added or removed.
    if old.resources != new.resources && !(old.resources.is_empty() && used.is_empty()) {
        new.last_scale_time = Some(Time(now));
    }
    let (status, severity, reason, message) = match (&pool.template, &pool.class) {
        (Err(errors), _) => (Status::False, None, Some("Invalid"), Some(in_one_line(errors))),
        (Ok(_), Err(why)) => (Status::False, None, Some("Misconfigured"), Some(why.clone())),
        (Ok(_), Ok(_)) => match pool.closed.as_ref().or(pool.unmet.as_ref()) {
            Some(closed) => (closed.status, None, Some(closed.reason), Some(closed.what.clone())),
            None => (Status::True, None, None, None),
        },
    };
    let mut active = LivingCondition {
        r#type: "Active".to_owned(),
        status: status.as_str().to_owned(),
        severity,
        last_transition_time: Some(Time(now)),
        reason: reason.map(str::to_owned),
        message,
    };
    if let Some(before) = old.conditions.iter().find(|one| one.r#type == "Active" && one.status == active.status) {
        active.last_transition_time.clone_from(&before.last_transition_time);
    }
    new.conditions.retain(|one| one.r#type != "Active");
    new.conditions.push(active);
    new
}

async fn node_pool(ctx: &Context, view: &View, pool: &PoolState, used: &ResourceList) -> Result<(), String> {
    let found = view.world.objects.node_pools.iter().find(|one| one.name_any() == pool.key.name);
    let Some(object) = found else { return Ok(()) };
    let old = object.status.clone().unwrap_or_default();
    let new = node_pool_status(&old, pool, used, view.at);
    let api = ctx.all::<NodePool>();
    patch_if_changed(&api, &pool.key.name, object.status.as_ref(), &new).await.map_err(|error| chain(&error))?;
    Ok(())
}

async fn node_class(ctx: &Context, view: &View, object: &EC2NodeClass) -> Result<(), String> {
    let problem = pools::class_of(&view.world, object).and_then(|class| {
        let standings = ctx.standings();
        standings.problem(&class).map(|problem| problem.map(str::to_owned)).ok_or_else(|| NOT_ANSWERED.to_owned())
    });
    let new = node_class_status(object, problem, view.at);
    let api = ctx.all::<EC2NodeClass>();
    patch_if_changed(&api, &object.name_any(), object.status.as_ref(), &new).await.map_err(|error| chain(&error))?;
    Ok(())
}

/// The status of an EC2NodeClass, given what the cloud thinks of it or why that is not known. Pure.
pub(crate) fn node_class_status(
    object: &EC2NodeClass,
    judged: Result<Option<String>, String>,
    now: Timestamp,
) -> EC2NodeClassStatus {
    let mut new = object.status.clone().unwrap_or_default();
    let (errors, notices) = (validate(object), unsupported(object));
    let (status, reason, message) = match judged {
        _ if !errors.is_empty() => (Status::False, "Invalid", in_one_line(&errors)),
        _ if !notices.is_empty() => {
            let notices: Vec<String> = notices.iter().map(ToString::to_string).collect();
            (Status::False, "NotSupportedYet", notices.join("; "))
        }
        Ok(None) => (Status::True, "Ready", String::new()),
        Ok(Some(what)) => (Status::False, "Misconfigured", what),
        Err(why) => (Status::Unknown, "NotAnswered", why),
    };
    condition::set(&mut new.conditions, "Ready", status, reason, &message, object.metadata.generation, now);
    new
}

async fn write_overlays(ctx: &Context, view: &View, conflicts: &BTreeMap<String, Conflict>) {
    for overlay in &view.world.objects.node_overlays {
        let name = overlay.name_any();
        let conflict = conflicts.get(&name).map(ToString::to_string);
        if let Some(what) = &conflict {
            ctx.event(&**overlay, Kind::Warning, "Conflict", "Validate", what.clone()).await;
        }
        let new = node_overlay_status(overlay, conflict, view.at);
        let api = ctx.all::<NodeOverlay>();
        if let Err(error) = patch_if_changed(&api, &name, overlay.status.as_ref(), &new).await {
            tracing::warn!(overlay = %name, error = %chain(&error), "status not written, trying again");
        }
    }
}

/// The status of a NodeOverlay, given what it contradicts, with Karpenter's reasons. Pure.
pub(crate) fn node_overlay_status(object: &NodeOverlay, conflict: Option<String>, now: Timestamp) -> NodeOverlayStatus {
    let mut new = object.status.clone().unwrap_or_default();
    let errors = validate(object);
    let problem = match conflict {
        _ if !errors.is_empty() => Some(("RuntimeValidation", in_one_line(&errors))),
        Some(what) => Some(("Conflict", what)),
        None => None,
    };
    for kind in ["ValidationSucceeded", "Ready"] {
        let (status, reason, message) = match &problem {
            Some((reason, message)) => (Status::False, *reason, message.as_str()),
            None => (Status::True, kind, ""),
        };
        condition::set(&mut new.conditions, kind, status, reason, message, object.metadata.generation, now);
    }
    new
}

/// A condition that is not true: status, reason, message.
type Problem = (Status, &'static str, String);

/// The status of a NodePool. Pure.
pub(crate) fn node_pool_status(
    old: &NodePoolStatus,
    pool: &PoolState,
    used: &ResourceList,
    now: Timestamp,
) -> NodePoolStatus {
    let mut new = old.clone();
    let nodes = used.get(&ResourceName::new("nodes"));
    new.nodes = Some(nodes.0);
    new.resources = core_quantities(used);
    // Karpenter always names these.
    for name in ["cpu", "memory", "pods", "ephemeral-storage", "nodes"] {
        new.resources.entry(name.to_owned()).or_insert_with(|| Quantity("0".to_owned()));
    }
    let mut set = |kind: &'static str, problem: Option<Problem>| {
        let (status, reason, message) = problem.unwrap_or((Status::True, kind, String::new()));
        condition::set(&mut new.conditions, kind, status, reason, &message, pool.generation, now);
    };
    let invalid = pool.template.as_ref().err().map(|errors| (Status::False, "Invalid", in_one_line(errors)));
    let no_class = match (&pool.template, &pool.class) {
        (Ok(_), Err(why)) => Some((Status::False, "NodeClassNotReady", why.clone())),
        (Err(_), _) => {
            Some((Status::Unknown, "Invalid", "the pool is not valid, so its class was not looked at".to_owned()))
        }
        (Ok(_), Ok(_)) => None,
    };
    let closed = || {
        pool.closed.as_ref().or(pool.unmet.as_ref()).map(|closed| (closed.status, closed.reason, closed.what.clone()))
    };
    let not_yet =
        || (Status::False, "NotSupportedYet", "spec.replicas: static NodePools are not supported yet".to_owned());
    set("ValidationSucceeded", invalid.clone());
    set("NodeClassReady", no_class.clone());
    set("Ready", invalid.or(no_class).or_else(closed).or_else(|| pool.is_static.then(not_yet)));
    new
}

fn without_nodes(used: &ResourceList) -> BTreeMap<String, Quantity> {
    let mut all = core_quantities(used);
    all.remove("nodes");
    all
}
