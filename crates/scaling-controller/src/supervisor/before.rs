//! What was there when everything was looked at last, and what little has changed since.
//!
//! Of ten thousand objects some have a new status at any moment, and nothing else has happened. What a watch has not touched is the
//! same value in memory, so that is found without looking into any of them.

use std::sync::Arc;

use api::keda::{ScaledJob, ScaledObject};
use kube::Resource;

use super::Whose;
use crate::known_hpa::KnownHpa;

/// Everything that the controller knows of, in the order in which it is kept.
#[derive(Default)]
pub(super) struct Everything {
    pub(super) objects: Vec<Arc<ScaledObject>>,
    pub(super) hpas: Vec<Arc<KnownHpa>>,
    pub(super) jobs: Vec<Arc<ScaledJob>>,
}

/// What has another version, and is otherwise what it was.
#[derive(Default)]
pub(super) struct Touched {
    pub(super) objects: Vec<Arc<ScaledObject>>,
    /// With the ScaledObjects that own them.
    pub(super) hpas: Vec<(Arc<KnownHpa>, String)>,
}

impl Everything {
    /// What differs from `self` in `now`, if it is no more than versions: nothing has come, gone, or been given another spec,
    /// and no HPA is anybody else's than a ScaledObject's.
    pub(super) fn touched(&self, now: &Self) -> Option<Touched> {
        let mut touched = Touched::default();
        for (before, now) in replaced(&self.objects, &now.objects)? {
            touched.objects.push(same_spec(before.as_ref(), now.as_ref()).then(|| Arc::clone(now))?);
        }
        for (before, now) in replaced(&self.jobs, &now.jobs)? {
            same_spec(before.as_ref(), now.as_ref()).then_some(())?;
        }
        for (before, now) in replaced(&self.hpas, &now.hpas)? {
            let same = same_object(before.as_ref(), now.as_ref()) && Whose::of(before) == Whose::of(now);
            match Whose::of(now) {
                Whose::Owner(owner) if same => touched.hpas.push((Arc::clone(now), owner)),
                _ => return None,
            }
        }
        Some(touched)
    }
}

/// The pairs that are not one value; nothing if there are more or fewer than before.
fn replaced<'l, K>(before: &'l [Arc<K>], now: &'l [Arc<K>]) -> Option<Vec<(&'l Arc<K>, &'l Arc<K>)>> {
    let pairs = before.iter().zip(now).filter(|(before, now)| !Arc::ptr_eq(before, now));
    (before.len() == now.len()).then(|| pairs.collect())
}

fn same_object<K: Resource>(before: &K, now: &K) -> bool {
    let (before, now) = (before.meta(), now.meta());
    before.name == now.name && before.namespace == now.namespace && before.uid == now.uid
}

fn same_spec<K: Resource>(before: &K, now: &K) -> bool {
    same_object(before, now) && before.meta().generation == now.meta().generation
}

#[cfg(test)]
mod tests {
    use kube::ResourceExt as _;
    use serde_json::{Value, json};

    use super::*;

    fn object(name: &str, generation: i64) -> Arc<ScaledObject> {
        let meta = json!({"name": name, "namespace": "default", "uid": name, "generation": generation});
        Arc::new(
            serde_json::from_value(json!({
                "apiVersion": "keda.sh/v1alpha1", "kind": "ScaledObject", "metadata": meta,
                "spec": {"scaleTargetRef": {"name": name}, "triggers": []},
            }))
            .unwrap(),
        )
    }

    fn hpa(owner: Option<&str>) -> Arc<KnownHpa> {
        let owners: Vec<Value> = owner
            .map(|name| json!({"apiVersion": "keda.sh/v1alpha1", "kind": "ScaledObject", "name": name, "uid": name}))
            .into_iter()
            .collect();
        Arc::new(
            serde_json::from_value(json!({
                "metadata": {"name": "h", "namespace": "default", "uid": "h", "ownerReferences": owners},
                "spec": {"maxReplicas": 1, "scaleTargetRef": {"kind": "Deployment", "name": "w"}},
            }))
            .unwrap(),
        )
    }

    fn names(touched: Option<Touched>) -> Option<(Vec<String>, Vec<String>)> {
        touched.map(|touched| {
            let objects = touched.objects.iter().map(|object| object.name_any()).collect();
            (objects, touched.hpas.into_iter().map(|(_, owner)| owner).collect())
        })
    }

    #[test]
    fn only_what_has_another_version_is_touched_and_everything_else_is_looked_at_anew() {
        let everything = |objects: &[&Arc<ScaledObject>], hpa: &Arc<KnownHpa>| Everything {
            objects: objects.iter().map(|object| Arc::clone(object)).collect(),
            hpas: vec![Arc::clone(hpa)],
            jobs: Vec::new(),
        };
        let (a, b, of_a) = (object("a", 1), object("b", 1), hpa(Some("a")));
        let before = everything(&[&a, &b], &of_a);
        let touched = |now: &Everything| names(before.touched(now));
        let none = || Some((Vec::new(), Vec::new()));
        assert_eq!(touched(&everything(&[&a, &b], &of_a)), none());
        let written = everything(&[&a, &object("b", 1)], &hpa(Some("a")));
        assert_eq!(touched(&written), Some((vec!["b".to_owned()], vec!["a".to_owned()])));
        assert_eq!(touched(&everything(&[&a, &object("b", 2)], &of_a)), None, "another spec");
        assert_eq!(touched(&everything(&[&a, &object("c", 1)], &of_a)), None, "another object in its place");
        assert_eq!(touched(&everything(&[&a], &of_a)), None, "one less");
        assert_eq!(touched(&everything(&[&a, &b], &hpa(Some("b")))), None, "somebody else's HPA");
        assert_eq!(touched(&everything(&[&a, &b], &hpa(None))), None, "nobody's HPA");
    }
}
