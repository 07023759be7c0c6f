//! What every pool can buy now, asked of the cloud.

use std::collections::BTreeMap;

use cloud::CloudError;
use controller_runtime::{boot::chain, events::Kind};
use futures::future::join_all;
use scheduling::PoolKey;

use crate::{context::Context, pools::Pools, snapshot::Catalogue};

/// Asks for the types of every usable pool. Pools whose answer did not come are in the second part, with the reason.
///
/// The adapters keep their answers for a while, so asking for every plan is cheap, and shows a pool out of capacity at
/// once.
pub(crate) async fn read(ctx: &Context, pools: &Pools) -> (Catalogue, BTreeMap<PoolKey, String>) {
    let asked = pools.usable().filter_map(|(key, _)| {
        let state = pools.0.get(key)?;
        Some((state, state.class.as_ref().ok()?))
    });
    let answers =
        join_all(asked.map(async |(state, class)| (state, ctx.instance_types(class, &state.kubelet).await))).await;
    let mut catalogue = Catalogue::new();
    let mut unreadable = BTreeMap::new();
    for (state, answer) in answers {
        match answer {
            Ok(types) => {
                catalogue.insert(state.key.clone(), types);
            }
            Err(error) => {
                let why = match &error {
                    CloudError::Misconfigured { what } => {
                        let reference = &state.reference;
                        ctx.recorder
                            .publish(reference, Kind::Warning, "Misconfigured", "Provision", what.clone())
                            .await;
                        what.clone()
                    }
                    other => chain(other),
                };
                tracing::warn!(pool = %state.key, error = %why, "what the pool can buy is not known");
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
    (catalogue, unreadable)
}
