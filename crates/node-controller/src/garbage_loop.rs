//! Looks for what nobody owns, at the start and every so often.

use std::collections::BTreeMap;

use api::{convert::pool_of, karpenter_v1::NodeClaim};
use controller_runtime::boot::chain;
use jiff::Timestamp;
use kube::{
    ResourceExt,
    api::{DeleteParams, ListParams, Preconditions},
};
use scheduling::PoolKey;

use crate::{
    context::{Context, Worlds},
    garbage::{Action, plan},
    pools::{self, Pools},
    vendor::Presence,
};

/// Runs until the shutdown. Only the leader may run it.
pub(crate) async fn run(ctx: Context, worlds: Worlds) {
    let mut first_seen = BTreeMap::new();
    loop {
        if let Err(error) = round(&ctx, &mut first_seen).await {
            tracing::warn!(error = %error, "could not look for garbage, trying again later");
        }
        let world = std::sync::Arc::clone(&worlds.borrow().value);
        let classes = pools::live_classes(&world, &Pools::of(&world));
        if let Err(error) = ctx.clean(&classes).await {
            tracing::warn!(error = %chain(&error), "could not clean up after launches");
        }
        tokio::select! {
            () = ctx.shutdown.cancelled() => return,
            () = tokio::time::sleep(ctx.settings.garbage_interval) => {}
        }
    }
}

async fn round(ctx: &Context, first_seen: &mut BTreeMap<String, Timestamp>) -> Result<(), String> {
    // The order matters: a claim is written before its machine is asked for, so machines first, then the claims.
    let machines = ctx.machines("garbage").await.map_err(|error| chain(&error))?;
    let api = ctx.all::<NodeClaim>();
    // From the API server itself: a watch that is behind would make owned machines look abandoned.
    let claims = api.list(&ListParams::default()).await.map_err(|error| chain(&error))?.items;
    let now = Timestamp::now();
    first_seen.retain(|id, _| machines.iter().any(|machine| machine.provider_id == *id));
    for machine in &machines {
        first_seen.entry(machine.provider_id.clone()).or_insert(now);
    }
    for action in plan(&machines, &claims, first_seen, ctx.settings.garbage_grace, now) {
        match action {
            Action::EndMachine { provider_id } => match ctx.end("garbage", &provider_id).await {
                Ok(_) => {
                    ctx.metrics.garbage_machines.inc();
                    tracing::warn!(%provider_id, "ended a machine that has no claim");
                }
                Err(error) => {
                    tracing::warn!(%provider_id, error = %chain(&error), "cannot end a machine without claim");
                }
            },
            Action::CheckClaim { claim, provider_id } => match ctx.presence(&provider_id).await {
                Ok(Presence::There) => {}
                Ok(Presence::Gone) => {
                    let found = claims.iter().find(|one| one.metadata.name.as_deref() == Some(&claim));
                    let uid = found.and_then(ResourceExt::uid);
                    let pool = found.and_then(|one| pool_of(one.labels()));
                    tracing::warn!(nodeclaim = %claim, %provider_id, "the machine is gone, deleting its claim");
                    delete(ctx, &claim, uid, pool).await;
                }
                Err(error) => tracing::warn!(%provider_id, error = %chain(&error), "cannot ask for a machine"),
            },
        }
    }
    Ok(())
}

async fn delete(ctx: &Context, name: &str, uid: Option<String>, pool: Option<PoolKey>) {
    let preconditions = Some(Preconditions { uid, resource_version: None });
    let params = DeleteParams { preconditions, ..DeleteParams::default() };
    if let Err(error) = ctx.all::<NodeClaim>().delete(name, &params).await {
        tracing::warn!(nodeclaim = %name, error = %chain(&error), "claim not deleted");
        return;
    }
    let label = crate::metrics::ReasonAndPool {
        reason: "machine_gone".to_owned(),
        nodepool: pool.map(|pool| pool.name).unwrap_or_default(),
    };
    ctx.metrics.claims_disrupted.get_or_create(&label).inc();
}
