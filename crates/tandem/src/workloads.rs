//! Deployments and their like: the pods that they will make and that are not in the input yet.

use std::collections::{BTreeMap, BTreeSet};

use api::pods;
use k8s_openapi::{
    api::{
        apps::v1::{ReplicaSet, StatefulSet},
        batch::v1::Job,
        core::v1::{PersistentVolumeClaim, Pod, PodTemplateSpec},
    },
    apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta, OwnerReference},
};

use crate::{Origin, Problem, fate, faults, objects::Objects};

/// The label by which a Deployment tells the pods of its revisions apart.
const TEMPLATE_HASH: &str = "pod-template-hash";
/// Its value for pods of a Deployment that no controller has seen, with the Deployment's name behind it.
const UNKNOWN_HASH: &str = "simulated";
/// Which of its revisions a Deployment's ReplicaSet is.
const REVISION: &str = "deployment.kubernetes.io/revision";

/// The conditions of a Job that makes no more pods.
const ENDS: [&str; 4] = ["Complete", "Failed", "FailureTarget", "SuccessCriteriaMet"];

/// More pods of one workload are not planned for: as many as the largest clusters run, twice.
const MOST: usize = 300_000;

/// The pods a workload has yet to make: all alike but for their names and labels.
#[derive(Debug)]
pub(crate) struct Missing<'a> {
    /// Where the workload was read.
    pub(crate) origin: &'a Origin,
    /// `Deployment shop/web`
    pub(crate) workload: String,
    /// The first of them.
    pub(crate) like: Pod,
    /// Their names, each with the labels that only it has.
    pub(crate) names: Vec<(String, Vec<(&'static str, String)>)>,
    /// Claims that are made for each of them.
    pub(crate) claim_templates: &'a [PersistentVolumeClaim],
    /// What is wrong with the workload, so that it has no names here.
    pub(crate) problem: Option<Problem>,
}

/// Whether so many pods can be planned for at once, or why not.
pub(crate) fn at_once(pods: usize) -> Result<(), String> {
    if pods <= MOST {
        Ok(())
    } else {
        Err(format!("{pods} pods are more than the {MOST} that are planned for at once"))
    }
}

/// As many pods as are asked for (`count`) by what is written, or none and what is wrong with that.
fn bounded(
    asked: usize,
    written: Option<i32>,
    origin: &Origin,
    workload: &str,
    field: &str,
) -> (usize, Option<Problem>) {
    let message = match written {
        Some(written) if written < 0 => format!("{written} is less than 0"),
        _ => match at_once(asked) {
            Ok(()) => return (asked, None),
            Err(message) => message,
        },
    };
    (0, Some(Problem::at(origin, message).of(workload).field(field)))
}

/// What is wrong with the labels of a workload's template, or with the selector that is to select them.
fn mislabelled(
    selector: Option<&LabelSelector>,
    template: &PodTemplateSpec,
    origin: &Origin,
    workload: &str,
) -> Option<Problem> {
    let metadata = template.metadata.as_ref();
    let labels = metadata.and_then(|metadata| metadata.labels.as_ref());
    let of_selector = selector.map(|selector| faults::of_own_selector(selector, metadata));
    let mut found = faults::of_labels(labels, "spec.template.metadata.labels");
    found.extend(of_selector.into_iter().flatten());
    let (field, message) = found.into_iter().next()?;
    Some(Problem::at(origin, message).of(workload).field(&field))
}

/// Pods that are there, by what controls them.
struct Present<'a> {
    by_controller: BTreeMap<(&'a str, &'a str, &'a str), Vec<&'a Pod>>,
    names: BTreeSet<(&'a str, &'a str)>,
}

impl<'a> Present<'a> {
    fn new(objects: &'a Objects) -> Self {
        let mut present = Self { by_controller: BTreeMap::new(), names: BTreeSet::new() };
        for pod in objects.pods.iter().map(|read| &read.object) {
            let (namespace, name) = name_of(&pod.metadata);
            present.names.insert((namespace, name));
            if let Some((kind, owner)) = fate::controller(pod) {
                present.by_controller.entry((namespace, kind, owner)).or_default().push(pod);
            }
        }
        present
    }

    /// How many of a workload's pods run or will.
    fn count(&self, namespace: &str, kind: &str, name: &str) -> usize {
        let pods = self.by_controller.get(&(namespace, kind, name));
        pods.map_or(0, |pods| pods.iter().filter(|pod| is_living(pod)).count())
    }

    /// That many names made from a prefix that no pod has.
    fn free_names(&self, namespace: &str, prefix: &str, count: usize) -> Vec<(String, Vec<(&'static str, String)>)> {
        let names = (0..).map(|index| format!("{prefix}-{index}"));
        let free = names.filter(|name| !self.names.contains(&(namespace, name.as_str())));
        free.take(count).map(|name| (name, Vec::new())).collect()
    }
}

fn is_living(pod: &Pod) -> bool {
    !pods::is_terminal(pod) && !pods::is_leaving(pod)
}

/// Whether its controller still makes pods for it.
fn is_kept(metadata: &ObjectMeta) -> bool {
    metadata.deletion_timestamp.is_none()
}

fn name_of(metadata: &ObjectMeta) -> (&str, &str) {
    (metadata.namespace.as_deref().unwrap_or_default(), metadata.name.as_deref().unwrap_or_default())
}

/// What every workload of the input has yet to make.
pub(crate) fn missing(objects: &Objects) -> Vec<Missing<'_>> {
    let present = Present::new(objects);
    let mut found = Vec::new();
    for read in &objects.deployments {
        let (namespace, name) = name_of(&read.object.metadata);
        let Some(spec) = read.object.spec.as_ref().filter(|_| is_kept(&read.object.metadata)) else { continue };
        let sets: Vec<&ReplicaSet> = objects
            .replica_sets
            .iter()
            .map(|read| &read.object)
            .filter(|set| set.metadata.namespace.as_deref() == Some(namespace) && is_owned_by(set, name))
            .collect();
        let known: usize =
            sets.iter().map(|set| present.count(namespace, "ReplicaSet", name_of(&set.metadata).1)).sum();
        let there = if sets.is_empty() { of_unknown_sets(&present, namespace, name) } else { known };
        let workload = format!("Deployment {namespace}/{name}");
        let wanted = count(spec.replicas);
        let (wanted, problem) = bounded(wanted, spec.replicas, &read.origin, &workload, "spec.replicas");
        let problem = problem.or_else(|| mislabelled(Some(&spec.selector), &spec.template, &read.origin, &workload));
        let missing = if problem.is_some() { 0 } else { wanted.saturating_sub(there) };
        let newest = sets.iter().max_by_key(|set| revision(set)).and_then(|set| set.metadata.labels.as_ref());
        let hash = newest.and_then(|labels| labels.get(TEMPLATE_HASH)).cloned();
        // Others that bear the same labels are told apart by it.
        let hash = hash.unwrap_or_else(|| format!("{UNKNOWN_HASH}-{name}"));
        let mut like = pod_of(&spec.template, namespace, "ReplicaSet", &format!("{name}-{hash}"));
        like.metadata.labels.get_or_insert_default().insert(TEMPLATE_HASH.to_owned(), hash);
        found.push(Missing {
            origin: &read.origin,
            workload,
            like,
            names: present.free_names(namespace, name, missing),
            claim_templates: &[],
            problem,
        });
    }
    for read in &objects.replica_sets {
        let set = &read.object;
        let (namespace, name) = name_of(&set.metadata);
        let Some(spec) = set.spec.as_ref().filter(|_| is_kept(&set.metadata)) else { continue };
        let Some(template) = &spec.template else { continue };
        let is_counted = |read: &crate::objects::Read<k8s_openapi::api::apps::v1::Deployment>| {
            let (its_namespace, its_name) = name_of(&read.object.metadata);
            its_namespace == namespace && is_owned_by(set, its_name)
        };
        if objects.deployments.iter().any(is_counted) {
            continue;
        }
        let workload = format!("ReplicaSet {namespace}/{name}");
        let wanted = count(spec.replicas);
        let (wanted, problem) = bounded(wanted, spec.replicas, &read.origin, &workload, "spec.replicas");
        let problem = problem.or_else(|| mislabelled(Some(&spec.selector), template, &read.origin, &workload));
        let there = present.count(namespace, "ReplicaSet", name);
        let missing = if problem.is_some() { 0 } else { wanted.saturating_sub(there) };
        found.push(Missing {
            origin: &read.origin,
            workload,
            like: pod_of(template, namespace, "ReplicaSet", name),
            names: present.free_names(namespace, name, missing),
            claim_templates: &[],
            problem,
        });
    }
    found.extend(objects.stateful_sets.iter().filter_map(|read| stateful_set(&read.origin, &read.object, &present)));
    found.extend(objects.jobs.iter().filter_map(|read| job(&read.origin, &read.object, &present)));
    found
}

fn stateful_set<'a>(origin: &'a Origin, set: &'a StatefulSet, present: &Present<'_>) -> Option<Missing<'a>> {
    let (namespace, name) = name_of(&set.metadata);
    let spec = set.spec.as_ref().filter(|_| is_kept(&set.metadata))?;
    let first = spec.ordinals.as_ref().and_then(|ordinals| ordinals.start).unwrap_or(0);
    let workload = format!("StatefulSet {namespace}/{name}");
    let (wanted, problem) = bounded(count(spec.replicas), spec.replicas, origin, &workload, "spec.replicas");
    let wrong = |message: String| Problem::at(origin, message).of(workload.as_str()).field("spec.ordinals.start");
    let problem = problem.or_else(|| (first < 0).then(|| wrong(format!("{first} is less than 0"))));
    let problem = problem.or_else(|| mislabelled(Some(&spec.selector), &spec.template, origin, &workload));
    let wanted = if problem.is_some() { 0 } else { i64::try_from(wanted).unwrap_or(i64::MAX) };
    let first = i64::from(first);
    let ordinals = (first..first.saturating_add(wanted)).map(|ordinal| (ordinal, format!("{name}-{ordinal}")));
    let names =
        ordinals.filter(|(_, pod)| !present.names.contains(&(namespace, pod.as_str()))).map(|(ordinal, pod)| {
            let own = vec![
                ("statefulset.kubernetes.io/pod-name", pod.clone()),
                ("apps.kubernetes.io/pod-index", ordinal.to_string()),
            ];
            (pod, own)
        });
    Some(Missing {
        origin,
        workload,
        problem,
        like: pod_of(&spec.template, namespace, "StatefulSet", name),
        names: names.collect(),
        claim_templates: spec.volume_claim_templates.as_deref().unwrap_or_default(),
    })
}

/// A Job runs so many pods at once, and never more than are still to be completed.
fn job<'a>(origin: &'a Origin, job: &Job, present: &Present<'_>) -> Option<Missing<'a>> {
    let (namespace, name) = name_of(&job.metadata);
    let spec = job.spec.as_ref().filter(|_| is_kept(&job.metadata))?;
    let conditions = job.status.iter().flat_map(|status| status.conditions.iter().flatten());
    let has_ended = conditions.into_iter().any(|one| one.status == "True" && ENDS.contains(&one.type_.as_str()));
    if spec.suspend == Some(true) || has_ended {
        return None;
    }
    let done = job.status.as_ref().and_then(|status| status.succeeded).map_or(0, |done| count(Some(done)));
    let at_once = count(spec.parallelism);
    let wanted = spec.completions.map_or(at_once, |all| at_once.min(count(Some(all)).saturating_sub(done)));
    // Without a number of completions the first success ends the Job.
    let wanted = if spec.completions.is_none() && done > 0 { 0 } else { wanted };
    let workload = format!("Job {namespace}/{name}");
    let (wanted, problem) = match spec.completions {
        Some(all) if all < 0 => bounded(0, Some(all), origin, &workload, "spec.completions"),
        _ => bounded(wanted, spec.parallelism, origin, &workload, "spec.parallelism"),
    };
    let problem = problem.or_else(|| mislabelled(None, &spec.template, origin, &workload));
    let missing = if problem.is_some() { 0 } else { wanted.saturating_sub(present.count(namespace, "Job", name)) };
    let mut like = pod_of(&spec.template, namespace, "Job", name);
    let labels = like.metadata.labels.get_or_insert_default();
    for key in ["job-name", "batch.kubernetes.io/job-name"] {
        labels.insert(key.to_owned(), name.to_owned());
    }
    Some(Missing {
        origin,
        workload,
        problem,
        like,
        names: present.free_names(namespace, name, missing),
        claim_templates: &[],
    })
}

/// Kubernetes' default for replicas and parallelism is one.
fn count(number: Option<i32>) -> usize {
    usize::try_from(number.unwrap_or(1)).unwrap_or(0)
}

fn is_owned_by(set: &ReplicaSet, deployment: &str) -> bool {
    let owners = set.metadata.owner_references.iter().flatten();
    owners.into_iter().any(|o| o.controller == Some(true) && o.kind == "Deployment" && o.name == deployment)
}

fn revision(set: &ReplicaSet) -> Option<u64> {
    set.metadata.annotations.as_ref()?.get(REVISION)?.parse().ok()
}

/// Pods of a Deployment whose ReplicaSets are not in the input: the sets are named after it and their pods' hash.
fn of_unknown_sets(present: &Present<'_>, namespace: &str, deployment: &str) -> usize {
    let sets = present.by_controller.iter().filter(|((in_namespace, kind, set), pods)| {
        let hash = pods[0].metadata.labels.as_ref().and_then(|labels| labels.get(TEMPLATE_HASH));
        *in_namespace == namespace
            && *kind == "ReplicaSet"
            && hash.is_some_and(|hash| set.strip_suffix(hash.as_str()) == Some(&format!("{deployment}-")))
    });
    sets.flat_map(|(_, pods)| pods).filter(|pod| is_living(pod)).count()
}

fn pod_of(template: &PodTemplateSpec, namespace: &str, kind: &str, owner: &str) -> Pod {
    let metadata = template.metadata.clone().unwrap_or_default();
    let owner = OwnerReference {
        controller: Some(true),
        kind: kind.to_owned(),
        name: owner.to_owned(),
        ..OwnerReference::default()
    };
    Pod {
        metadata: ObjectMeta {
            namespace: Some(namespace.to_owned()),
            labels: metadata.labels,
            annotations: metadata.annotations,
            owner_references: Some(vec![owner]),
            ..ObjectMeta::default()
        },
        spec: template.spec.clone(),
        status: None,
    }
}
