//! Which pods already have a place planned for them, so that nobody plans a second one.
//!
//! For machines in flight this is read from the claims themselves, so a restarted process knows it. For places on
//! nodes that exist it is kept in memory for a short while: all that is lost with it is a reservation.

use std::{
    collections::{BTreeMap, BTreeSet, HashSet},
    sync::Arc,
    time::Duration,
};

use api::{
    condition, convert,
    karpenter_v1::{NodeClaim, claim_conditions},
};
use jiff::Timestamp;
use kube::ResourceExt as _;

use crate::{
    claims,
    plan::Plan,
    pods, snapshot,
    world::{Member, World},
};

/// What this process did a moment ago and the watches may not show yet.
#[derive(Clone, Debug, Default)]
pub struct Memory {
    /// Pod UID → place (a node's or a claim's name) and until when it is kept.
    nominated: BTreeMap<String, (String, Timestamp)>,
    /// Pod UID → the place that it was given again and again, since when, and when last.
    placed: BTreeMap<String, (String, Timestamp, Timestamp)>,
    /// Nodes and claims about to be removed, until the objects say so.
    leaving: BTreeMap<String, Timestamp>,
    /// Claims created and not yet seen, by name, and when to ask the API server about them. One without a UID may have
    /// been created: no answer came.
    assumed: BTreeMap<String, (Arc<NodeClaim>, Timestamp)>,
}

/// How long what we did may take to come back through a watch, before we no longer believe it: a mark is given up, a
/// claim is asked for.
const ECHO: Duration = Duration::from_mins(1);

/// How long a pod may go without being given a place again before it counts as new there. Longer than any place is kept.
const PLACED: Duration = Duration::from_mins(10);

impl Memory {
    /// Keeps a place for a pod.
    pub fn nominate(&mut self, pod_uid: &str, place: &str, until: Timestamp) {
        self.nominated.insert(pod_uid.to_owned(), (place.to_owned(), until));
    }

    /// Notes that a pod was given this place; returns since when it has been this one.
    pub fn placed(&mut self, pod_uid: &str, place: &str, now: Timestamp) -> Timestamp {
        let (there, since, last) =
            self.placed.entry(pod_uid.to_owned()).or_insert_with(|| (place.to_owned(), now, now));
        if there != place {
            (*there, *since) = (place.to_owned(), now);
        }
        *last = now;
        *since
    }

    /// Marks a member as about to be removed, unless a pod was promised a place on it.
    pub fn try_leave(&mut self, member_names: &[&str], now: Timestamp) -> bool {
        let promised =
            self.nominated.values().any(|(place, until)| *until > now && member_names.contains(&place.as_str()));
        if !promised {
            for name in member_names {
                self.leaving.insert((*name).to_owned(), now + ECHO);
            }
        }
        !promised
    }

    /// Takes back [`Memory::try_leave`].
    pub fn stay(&mut self, name: &str) {
        self.leaving.remove(name);
    }

    /// Everything marked by [`Memory::try_leave`].
    pub fn leaving(&self, now: Timestamp) -> BTreeSet<String> {
        self.leaving.iter().filter(|(_, until)| **until > now).map(|(name, _)| name.clone()).collect()
    }

    /// Remembers a claim that was created.
    pub fn assume(&mut self, claim: Arc<NodeClaim>, now: Timestamp) {
        self.assumed.insert(claim.name_any(), (claim, now + ECHO));
    }

    /// Remembers a claim, as it was sent, of which nobody has said whether it was created. It is one like any other until the
    /// API server is asked, which is due at once.
    pub fn assume_sent(&mut self, claim: Arc<NodeClaim>, now: Timestamp) {
        self.assumed.insert(claim.name_any(), (claim, now));
    }

    /// Claims that were created and are not in `world`. Age alone does not make one less real: its machine counts
    /// against the limits and its pods are not planned for again until the API server says that it is gone.
    pub fn unseen(&self, world: &World) -> Vec<Arc<NodeClaim>> {
        self.assumed.values().filter(|(claim, _)| !is_seen(world, claim)).map(|(claim, _)| Arc::clone(claim)).collect()
    }

    /// Claims that no world has shown for so long that the API server should be asked whether they exist.
    pub fn doubtful(&self, now: Timestamp) -> Vec<Arc<NodeClaim>> {
        self.assumed.values().filter(|(_, due)| *due <= now).map(|(claim, _)| Arc::clone(claim)).collect()
    }

    /// Takes the API server's word on a claim of [`Memory::doubtful`]: `None` says that there is none of that name, and
    /// one with another UID is somebody else's.
    pub fn confirm(&mut self, asked: &NodeClaim, found: Option<NodeClaim>, now: Timestamp) {
        let name = asked.name_any();
        match found.filter(|found| claims::is_same(found, asked)) {
            // A world may have shown it in the meantime: then it is no longer ours to remember.
            Some(found) if self.assumed.contains_key(&name) => self.assume(Arc::new(found), now),
            Some(_) => {}
            None => {
                self.assumed.remove(&name);
            }
        }
    }

    /// Forgets what is over: marks that are too old, claims that `world` shows.
    pub fn tidy(&mut self, world: &World, now: Timestamp) {
        self.nominated.retain(|_, (_, until)| *until > now);
        self.leaving.retain(|_, until| *until > now);
        self.placed.retain(|_, (_, _, last)| *last + PLACED > now);
        self.assumed.retain(|_, (claim, _)| !is_seen(world, claim));
    }
}

fn is_seen(world: &World, assumed: &NodeClaim) -> bool {
    world.objects.claims.iter().any(|claim| claims::is_same(claim, assumed))
}

/// Pods that may still move to a planned place: those without a node, and those whose node is leaving.
fn waiting<'a>(world: &'a World, memory: &Memory, now: Timestamp) -> HashSet<&'a str> {
    let leaving = memory.leaving(now);
    let unbound = world.objects.pods.iter().filter(|pod| pods::node_name(pod).is_none() && !pods::is_terminal(pod));
    let moving = world
        .members
        .iter()
        .filter(|member| snapshot::is_leaving(member, &leaving))
        .flat_map(|member| member.pods.iter().filter(|pod| world.will_move(pod)));
    unbound.chain(moving).map(|pod| pods::uid(pod)).collect()
}

/// Pod UID → the place planned for it, a node's or a claim's name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Nominations(BTreeMap<String, String>);

impl Nominations {
    /// What holds at `now`: the plans of claims in flight, those of claims that became ready less than `ttl` ago, and
    /// what is in memory. Plans of claims that are being deleted hold no longer, and no pod is waited for that is gone
    /// or has found a node.
    pub fn at(world: &World, memory: &Memory, ttl: Duration, now: Timestamp) -> Self {
        let mut places = BTreeMap::new();
        let waiting = waiting(world, memory, now);
        for claim in &world.objects.claims {
            if claim.metadata.deletion_timestamp.is_some() {
                continue;
            }
            let conditions = claim.status.as_ref().map(|status| status.conditions.as_slice()).unwrap_or_default();
            let ready_since = condition::is_true(conditions, claim_conditions::INITIALIZED)
                .then(|| conditions.iter().find(|c| c.type_ == claim_conditions::INITIALIZED))
                .flatten()
                .map(|c| c.last_transition_time.0);
            if ready_since.is_some_and(|since| since + ttl <= now) {
                continue;
            }
            let name = claim.metadata.name.clone().unwrap_or_default();
            for pod in Plan::of(claim).map(|plan| plan.pods).unwrap_or_default() {
                if waiting.contains(pod.uid.as_str()) {
                    places.insert(pod.uid, name.clone());
                }
            }
        }
        for (uid, (place, until)) in &memory.nominated {
            if *until > now && waiting.contains(uid.as_str()) {
                places.insert(uid.clone(), place.clone());
            }
        }
        let mut all = Self(places);
        all.give_up_what_is_taken(world);
        all
    }

    /// The scheduler binds as it likes: places on ready nodes that other pods have taken are given up.
    fn give_up_what_is_taken(&mut self, world: &World) {
        let ready = world.members.iter().filter(|member| member.is_initialized());
        let promised = |member: &Member| -> Vec<String> {
            self.0.iter().filter(|(_, place)| member.is_called(place)).map(|(pod, _)| pod.clone()).collect()
        };
        let mut lost = Vec::new();
        for member in ready {
            let Some(node) = &member.node else { continue };
            let waiting = promised(member);
            if waiting.is_empty() {
                continue;
            }
            let mut free = convert::node(node).allocatable;
            for pod in member.pods.iter().filter(|pod| !pods::is_terminal(pod)) {
                free = free.saturating_sub(&convert::pod(pod).requests);
            }
            for uid in waiting {
                let Some(pod) = world.objects.pods.iter().find(|pod| pods::uid(pod) == uid) else { continue };
                let asked = convert::pod(pod).requests;
                if asked.fits_in(&free) {
                    free = free.saturating_sub(&asked);
                } else {
                    lost.push(uid);
                }
            }
        }
        for uid in lost {
            self.0.remove(&uid);
        }
    }

    /// The place of a pod.
    pub fn of(&self, pod_uid: &str) -> Option<&str> {
        self.0.get(pod_uid).map(String::as_str)
    }

    /// Whether no pod waits for a place.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether any pod waits for a place of this name.
    pub fn is_promised(&self, names: impl Fn(&str) -> bool) -> bool {
        self.0.values().any(|place| names(place))
    }

    /// Every pod with its place.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(pod, place)| (pod.as_str(), place.as_str()))
    }
}
