//! What every pool can buy now, asked of the cloud, and what people say of it.

use std::collections::BTreeMap;

use api::{condition::Status, convert};
use cloud::CloudError;
use controller_runtime::{boot::chain, events::Kind};
use futures::future::join_all;
use scheduling::{Conflict, Offered, Overlaid, Overlay, PoolKey, overlay};

use crate::{
    context::Context,
    pools::{self, Closed, Pools},
    snapshot::Catalogue,
    world::World,
};

/// What pools can buy.
#[derive(Clone, Debug, Default)]
pub(crate) struct Offers {
    /// As the NodeOverlays change it.
    pub catalogue: Catalogue,
    /// Pools whose answer did not come, with the reason.
    pub unreadable: BTreeMap<PoolKey, String>,
    /// Pools that nothing on sale would do for, with what a person has to correct.
    pub unmet: BTreeMap<PoolKey, Closed>,
    /// NodeOverlays that change nothing because they contradict another one, by name.
    pub conflicts: BTreeMap<String, Conflict>,
}

/// What NodeOverlays made of a catalogue the last time, so that it need not be worked out for every plan.
#[derive(Clone, Debug, Default)]
pub(crate) struct Overlays {
    said: Vec<Overlay>,
    offered: BTreeMap<PoolKey, Offered>,
    result: Overlaid,
}

impl Overlays {
    fn of(&mut self, world: &World, pools: &Pools, catalogue: Catalogue) -> Overlaid {
        // Those with mistakes say so in their conditions, and change nothing.
        let objects = world.objects.node_overlays.iter().filter(|one| one.metadata.deletion_timestamp.is_none());
        let said: Vec<Overlay> = objects.filter_map(|one| convert::overlay(one).ok()).collect();
        if said.is_empty() {
            return Overlaid { instance_types: catalogue, conflicts: BTreeMap::new() };
        }
        let labels =
            |key: &PoolKey| pools.0.get(key).and_then(|pool| Some(pool.template.as_ref().ok()?.labels.clone()));
        let offered: BTreeMap<PoolKey, Offered> = catalogue
            .into_iter()
            .map(|(key, instance_types)| {
                let labels = labels(&key).unwrap_or_default();
                (key, Offered { labels, instance_types })
            })
            .collect();
        let is_known = self.said == said
            && self.offered.keys().eq(offered.keys())
            && self.offered.values().zip(offered.values()).all(|(old, new)| old.is(new));
        if !is_known {
            let result = overlay(&offered, &said);
            *self = Self { said, offered, result };
        }
        self.result.clone()
    }
}

/// Asks for the types of every usable pool.
///
/// The adapters keep their answers for a while, so asking for every plan is cheap, and shows a pool out of capacity at
/// once.
pub(crate) async fn read(ctx: &Context, world: &World, pools: &Pools) -> Offers {
    let asked = pools.usable().filter_map(|(key, _)| {
        let state = pools.0.get(key)?;
        Some((state, state.class.as_ref().ok()?))
    });
    let answers =
        join_all(asked.map(async |(state, class)| (state, ctx.instance_types(class, &state.kubelet).await))).await;
    let mut catalogue = Catalogue::new();
    let (mut unreadable, mut unmet) = (BTreeMap::new(), BTreeMap::new());
    let mut correct =
        |key: &PoolKey, reason, what| unmet.insert(key.clone(), Closed { status: Status::False, reason, what });
    for (state, answer) in answers {
        match answer {
            Ok(types) => {
                if let Some(what) = state.template.as_ref().ok().and_then(|template| pools::unmet(template, &types)) {
                    correct(&state.key, "NoCompatibleInstanceTypes", what);
                }
                catalogue.insert(state.key.clone(), types);
            }
            Err(error) => {
                let why = match &error {
                    CloudError::Misconfigured { what } => {
                        correct(&state.key, "Misconfigured", what.clone());
                        what.clone()
                    }
                    other => chain(other),
                };
                tracing::debug!(pool = %state.key, error = %why, "what the pool can buy is not known");
                unreadable.insert(state.key.clone(), why);
            }
        }
    }
    for state in pools.0.values() {
        if let Err(errors) = &state.template {
            unreadable.insert(state.key.clone(), format!("not valid: {}", api::in_one_line(errors)));
        } else if state.is_static {
            unreadable.insert(state.key.clone(), "static NodePools (spec.replicas) are not supported yet".to_owned());
        } else if let Err(why) = &state.class {
            let reference = &state.reference;
            ctx.recorder.publish(reference, Kind::Warning, "Misconfigured", "Provision", why.clone()).await;
            unreadable.insert(state.key.clone(), why.clone());
        } else if let Some(closed) = &state.closed {
            unreadable.insert(state.key.clone(), closed.what.clone());
        }
    }
    let Overlaid { instance_types: catalogue, conflicts } = ctx.overlays().of(world, pools, catalogue);
    Offers { catalogue, unreadable, unmet, conflicts }
}
