//! The contract of [`CloudProvider`] as a test that every adapter runs against itself.
//!
//! ```text
//! conformance::run(&provider, &MyHarness::new()).await.unwrap();
//! ```
//!
//! It asserts nothing by panicking: the first broken promise comes back as a [`Violation`] which says what was expected
//! and what was seen, so a test may print it beside its own logs.

use async_trait::async_trait;
use scheduling::OfferingKey;

use crate::{CloudError, CloudProvider, LaunchRequest, Machine, MachineState, NodeClass};

/// How often the world is given a chance to settle before a state that must come is called missing.
///
/// [`Harness::settle`] decides how long one turn is; 60 turns of a second cover a real shut-down.
pub const SETTLE_TURNS: u32 = 60;

/// What the contract test needs to know about the world behind an adapter.
#[async_trait]
pub trait Harness: Sync {
    /// A request that can be granted, for a claim with this name and UID; other names give other claims.
    fn request(&self, claim_name: &str, claim_uid: &str) -> LaunchRequest;

    /// Classes no machine can come from, each with the field a person must change. May be empty.
    fn misconfigured(&self) -> Vec<(NodeClass, &'static str)>;

    /// Makes these offerings refuse every launch (`sold_out`), or grant them again.
    ///
    /// Returns `false` if this world cannot be told to; the capacity clauses are then skipped.
    async fn set_sold_out(&self, offerings: &[OfferingKey], sold_out: bool) -> bool;

    /// Lets one turn of time pass for the world behind the adapter.
    async fn settle(&self);
}

/// A promise that was not kept.
#[derive(Debug, thiserror::Error)]
#[error("{clause}: {seen}")]
pub struct Violation {
    /// The promise.
    pub clause: &'static str,
    /// What happened instead.
    pub seen: String,
}

/// Runs every clause, and gives back what it rented.
pub async fn run(provider: &dyn CloudProvider, harness: &dyn Harness) -> Result<(), Violation> {
    let request = harness.request("conformance-1", "7b2f3a10-0000-4000-8000-000000000001");
    class_is_usable(provider, &request).await?;
    let machine = launching_twice_rents_once(provider, harness, &request).await?;
    other_claims_get_other_machines(provider, harness, &machine).await?;
    termination_ends_in_not_found(provider, harness, &machine.provider_id).await?;
    unknown_machines_are_not_found(provider, &machine.provider_id).await?;
    mistakes_name_their_field(provider, harness).await?;
    sold_out_offerings_are_named(provider, harness).await?;
    cleaning_is_harmless(provider, &request.class).await
}

async fn class_is_usable(provider: &dyn CloudProvider, request: &LaunchRequest) -> Result<(), Violation> {
    const CLAUSE: &str = "a sound class validates and offers what the request asks for";
    provider.validate(&request.class).await.map_err(|error| broken(CLAUSE, &error))?;
    let types =
        provider.instance_types(&request.class, &request.kubelet).await.map_err(|error| broken(CLAUSE, &error))?;
    for wanted in &request.offerings {
        let found = types.iter().any(|it| {
            it.name == wanted.key.instance_type
                && it.offerings.iter().any(|offering| {
                    offering.zone == wanted.key.zone && offering.capacity_type == wanted.key.capacity_type
                })
        });
        ensure(CLAUSE, found, || format!("{:?} is not among {} types", wanted.key, types.len()))?;
    }
    Ok(())
}

async fn launching_twice_rents_once(
    provider: &dyn CloudProvider,
    harness: &dyn Harness,
    request: &LaunchRequest,
) -> Result<Machine, Violation> {
    const CLAUSE: &str = "asking twice for one claim UID rents one machine";
    let first = provider.launch(request).await.map_err(|error| broken(CLAUSE, &error))?;
    ensure("a machine carries its claim's name and UID", is_of(&first, request), || format!("{first:?}"))?;
    let asked_for = request.offerings.iter().any(|offering| {
        offering.key.instance_type == first.instance_type
            && offering.key.zone == first.zone
            && offering.key.capacity_type == first.capacity_type
    });
    ensure("a machine is one of the offerings asked for", asked_for, || format!("{first:?}"))?;

    let second = provider.launch(request).await.map_err(|error| broken(CLAUSE, &error))?;
    ensure(CLAUSE, first.provider_id == second.provider_id, || {
        format!("{} and {}", first.provider_id, second.provider_id)
    })?;

    listed_once(provider, harness, request).await?;

    let got = provider.get(&first.provider_id).await.map_err(|error| broken("a machine can be got", &error))?;
    ensure("a machine can be got", got.provider_id == first.provider_id && is_of(&got, request), || {
        format!("{got:?} instead of {first:?}")
    })?;
    ensure("get tells the same offering as launch", same_offering(&got, &first), || {
        format!("{got:?} instead of {first:?}")
    })?;
    Ok(first)
}

/// A list may lag behind a launch, but must not show two.
async fn listed_once(
    provider: &dyn CloudProvider,
    harness: &dyn Harness,
    request: &LaunchRequest,
) -> Result<(), Violation> {
    const CLAUSE: &str = "the list shows a claim's machine, once";
    for _ in 0..SETTLE_TURNS {
        let all = provider.list().await.map_err(|error| broken(CLAUSE, &error))?;
        let mine = all.iter().filter(|it| it.claim_uid.as_deref() == Some(request.claim_uid.as_str())).count();
        ensure(CLAUSE, mine < 2, || format!("{mine} machines in {all:?}"))?;
        if mine == 1 {
            let sorted = all.is_sorted_by(|a, b| a.provider_id < b.provider_id);
            return ensure("the list is in the order of provider ids", sorted, || format!("{all:?}"));
        }
        harness.settle().await;
    }
    Err(Violation { clause: CLAUSE, seen: format!("nothing after {SETTLE_TURNS} turns") })
}

async fn other_claims_get_other_machines(
    provider: &dyn CloudProvider,
    harness: &dyn Harness,
    first: &Machine,
) -> Result<(), Violation> {
    const CLAUSE: &str = "another claim gets a machine of its own";
    let other = harness.request("conformance-2", "7b2f3a10-0000-4000-8000-000000000002");
    let machine = provider.launch(&other).await.map_err(|error| broken(CLAUSE, &error))?;
    ensure(CLAUSE, machine.provider_id != first.provider_id, || machine.provider_id.clone())?;
    termination_ends_in_not_found(provider, harness, &machine.provider_id).await?;
    let got = provider.get(&first.provider_id).await;
    ensure("terminating one machine leaves the others", got.is_ok(), || format!("{got:?}"))
}

async fn termination_ends_in_not_found(
    provider: &dyn CloudProvider,
    harness: &dyn Harness,
    provider_id: &str,
) -> Result<(), Violation> {
    const CLAUSE: &str = "a terminated machine ends in NotFound";
    provider.terminate(provider_id).await.map_err(|error| broken("a machine can be terminated", &error))?;
    match provider.terminate(provider_id).await {
        Ok(()) | Err(CloudError::NotFound) => {}
        Err(error) => return Err(broken("terminating again is harmless", &error)),
    }
    for _ in 0..SETTLE_TURNS {
        match provider.get(provider_id).await {
            Err(CloudError::NotFound) => {
                let all = provider.list().await.map_err(|error| broken(CLAUSE, &error))?;
                let listed = all.iter().any(|it| it.provider_id == provider_id);
                ensure("the list leaves out what is gone", !listed, || format!("{all:?}"))?;
                let again = provider.terminate(provider_id).await;
                let gone = matches!(again, Err(CloudError::NotFound));
                return ensure("terminating what is gone says NotFound", gone, || format!("{again:?}"));
            }
            Ok(machine) => ensure(CLAUSE, machine.state == MachineState::Stopping, || format!("{machine:?}"))?,
            Err(error) => return Err(broken(CLAUSE, &error)),
        }
        harness.settle().await;
    }
    Err(Violation { clause: CLAUSE, seen: format!("still there after {SETTLE_TURNS} turns") })
}

/// `dead` was a machine once; a name close to it never was.
async fn unknown_machines_are_not_found(provider: &dyn CloudProvider, dead: &str) -> Result<(), Violation> {
    const CLAUSE: &str = "a provider id that is no machine's says NotFound";
    for unknown in [dead, "nonsense", ""] {
        let got = provider.get(unknown).await;
        ensure(CLAUSE, matches!(got, Err(CloudError::NotFound)), || format!("get {unknown:?}: {got:?}"))?;
        let terminated = provider.terminate(unknown).await;
        ensure(CLAUSE, matches!(terminated, Err(CloudError::NotFound)), || {
            format!("terminate {unknown:?}: {terminated:?}")
        })?;
    }
    Ok(())
}

async fn mistakes_name_their_field(provider: &dyn CloudProvider, harness: &dyn Harness) -> Result<(), Violation> {
    for (index, (class, field)) in harness.misconfigured().into_iter().enumerate() {
        names_field("validate names the field to change", &provider.validate(&class).await, field)?;
        let uid = format!("7b2f3a10-0000-4000-8000-00000000010{index}");
        let mut request = harness.request(&format!("conformance-bad-{index}"), &uid);
        request.class = class;
        names_field("launch names the field to change", &provider.launch(&request).await, field)?;
    }
    Ok(())
}

fn names_field<T: std::fmt::Debug>(
    clause: &'static str,
    result: &Result<T, CloudError>,
    field: &str,
) -> Result<(), Violation> {
    let named = matches!(result, Err(CloudError::Misconfigured { what }) if what.contains(field));
    ensure(clause, named, || format!("{result:?} does not name {field}"))
}

async fn sold_out_offerings_are_named(provider: &dyn CloudProvider, harness: &dyn Harness) -> Result<(), Violation> {
    const CLAUSE: &str = "a launch from sold-out offerings names them and rents nothing";
    let request = harness.request("conformance-3", "7b2f3a10-0000-4000-8000-000000000003");
    let keys = request.offering_keys();
    if !harness.set_sold_out(&keys, true).await {
        return Ok(());
    }
    let outcome = provider.launch(&request).await;
    let named = match &outcome {
        Err(CloudError::InsufficientCapacity { offerings, .. }) => {
            !offerings.is_empty() && offerings.iter().all(|it| keys.contains(it))
        }
        _ => false,
    };
    ensure(CLAUSE, named, || format!("{outcome:?}"))?;
    let all = provider.list().await.map_err(|error| broken(CLAUSE, &error))?;
    let rented = all.iter().any(|it| it.claim_uid.as_deref() == Some(request.claim_uid.as_str()));
    ensure(CLAUSE, !rented, || format!("{all:?}"))?;

    let types = provider
        .instance_types(&request.class, &request.kubelet)
        .await
        .map_err(|error| broken("types are told while offerings are sold out", &error))?;
    let offered = types.iter().any(|it| {
        it.offerings.iter().any(|offering| {
            offering.available
                && keys.iter().any(|key| {
                    key.instance_type == it.name
                        && key.zone == offering.zone
                        && key.capacity_type == offering.capacity_type
                })
        })
    });
    ensure("what was just sold out is not offered as available", !offered, || format!("{keys:?}"))?;
    harness.set_sold_out(&keys, false).await;
    Ok(())
}

async fn cleaning_is_harmless(provider: &dyn CloudProvider, class: &NodeClass) -> Result<(), Violation> {
    const CLAUSE: &str = "cleaning can be repeated, with and without live classes";
    for live in [std::slice::from_ref(class), &[], &[]] {
        provider.clean(live).await.map_err(|error| broken(CLAUSE, &error))?;
    }
    Ok(())
}

fn is_of(machine: &Machine, request: &LaunchRequest) -> bool {
    machine.claim_uid.as_deref() == Some(request.claim_uid.as_str())
        && machine.claim_name.as_deref() == Some(request.claim_name.as_str())
}

fn same_offering(a: &Machine, b: &Machine) -> bool {
    a.instance_type == b.instance_type && a.zone == b.zone && a.capacity_type == b.capacity_type
}

fn ensure(clause: &'static str, holds: bool, seen: impl FnOnce() -> String) -> Result<(), Violation> {
    if holds { Ok(()) } else { Err(Violation { clause, seen: seen() }) }
}

/// A violation out of an error nobody expected, with its whole chain.
fn broken(clause: &'static str, error: &CloudError) -> Violation {
    let mut seen = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        seen.push_str(": ");
        seen.push_str(&cause.to_string());
        source = cause.source();
    }
    Violation { clause, seen }
}
