//! The node controller: from pods that fit nowhere to machines, and from machines nobody needs to none.
//!
//! ```text
//!  API server ─watch─► World (numbered, immutable) ─┬─► provisioning: batch ─► solve ─► check ─► NodeClaims
//!                                                   ├─► lifecycle: launch ─► register ─► initialize ─► … ─► terminate
//!                                                   ├─► removal: empty and expired nodes out of service
//!                                                   ├─► garbage: machines without claims, claims without machines
//!                                                   └─► pools: conditions, usage, what is not supported yet
//! ```
//!
//! Decisions are plain functions over the world ([`lifecycle::next`], [`snapshot`], [`removal`], [`garbage`], [`batch`]);
//! the loops around them act. Promises:
//! - the API server holds everything that must survive: a machine is asked for only after its claim is written, and its
//!   plan, its removal and its nominations can be read from the objects;
//! - every action may be repeated, and the process may die after any of them;
//! - no plan is acted on that the independent checker refuses; then the plan of a simpler planner is tried;
//! - only the leader acts ([`Controller::act`]); every replica follows the world ([`Controller::start`]).
//!
//! Left to others: which pods fit where (`scheduling`), which nodes should go (`disruption`), the vendor (`cloud`).

pub mod batch;
pub mod claims;
mod confirm_loop;
pub mod context;
mod draining;
pub mod expiry;
mod fingerprint;
pub mod garbage;
mod garbage_loop;
pub mod lifecycle;
pub mod metrics;
pub mod names;
pub mod nominations;
pub mod plan;
pub mod planning;
mod pool_gauges;
mod pool_loop;
pub mod pools;
mod provisioning;
pub mod removal;
mod removal_loop;
pub mod settings;
mod shortages;
pub mod snapshot;
pub mod standing;
#[cfg(test)]
mod testing;
mod vendor;
mod watch;
pub mod work;
pub mod world;

use std::sync::Arc;

use api::pods;
use cloud::CloudProvider;
use controller_runtime::{
    boot::Runtime,
    events::Recorder,
    index::{Snapshots, Wakeup},
};
use kube::Client;
use tokio::task::JoinSet;

pub use settings::Settings;

use crate::{context::Context, metrics::Metrics, watch::Watches, world::World};

/// Name in events, as people's filters know it.
pub const COMPONENT: &str = "karpenter";

/// A controller that follows the world and does not act yet.
#[derive(Debug)]
pub struct Controller {
    ctx: Context,
    worlds: Arc<Snapshots<Arc<World>>>,
}

impl Controller {
    /// Starts the watches. `evictor` is a client without retries of its own, for evictions.
    pub fn start(runtime: &Runtime, evictor: Client, cloud: Arc<dyn CloudProvider>, settings: Settings) -> Self {
        let metrics = Metrics::register(&runtime.registry);
        let kwok_classes = settings.kwok_classes;
        let recorder = Recorder::new(runtime.client.clone(), COMPONENT);
        let shutdown = runtime.shutdown.clone();
        let ctx =
            Context::new(runtime.client.clone(), evictor, cloud, recorder, settings, metrics.clone(), shutdown.clone());
        let wakeup = Wakeup::new();
        let watches = Watches::start(&runtime.client, kwok_classes, &wakeup, &shutdown);
        let worlds = Arc::new(Snapshots::new(Arc::new(World::default())));
        let ready = runtime.health.check("cluster-state");
        tokio::spawn(watches.publish(wakeup, Arc::clone(&worlds), ready, metrics, shutdown));
        Self { ctx, worlds }
    }

    /// Acts until the shutdown, once the world is known. Call it when this replica leads, and only then.
    pub async fn act(&self) {
        let mut first = self.worlds.subscribe();
        // Number 0 is the empty world before the first lists: acting on it would be acting on ignorance.
        tokio::select! {
            () = self.ctx.shutdown.cancelled() => return,
            known = first.wait_for(|world| world.sequence > 0) => if known.is_err() { return },
        }
        tracing::info!("acting");
        let worlds = || self.worlds.subscribe();
        let mut loops = JoinSet::new();
        loops.spawn(provisioning::run(self.ctx.clone(), worlds()));
        loops.spawn(lifecycle::run(self.ctx.clone(), worlds()));
        loops.spawn(removal_loop::run(self.ctx.clone(), worlds()));
        loops.spawn(garbage_loop::run(self.ctx.clone(), worlds()));
        loops.spawn(pool_loop::run(self.ctx.clone(), worlds()));
        loops.spawn(confirm_loop::run(self.ctx.clone()));
        // A loop ends only with the shutdown; one that panicked must not leave the others half a controller.
        if let Some(Err(error)) = loops.join_next().await {
            tracing::error!(%error, "a loop of the node controller ended");
            self.ctx.shutdown.cancel();
        }
        loops.join_all().await;
    }
}
