//! The environment of a container, as the kubelet would make it, from a pod template and the objects it names. Pure.
//!
//! Only what a wanted variable depends on is looked at, so that a Secret that no trigger needs is never read.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::core::v1::{
    ConfigMapKeySelector, Container, EnvFromSource, EnvVar, PodTemplateSpec, SecretKeySelector,
};

use super::found::{Failure, Found, Reference, References, text};

/// Longest value after expansion, in bytes. A process cannot be given more in one variable on Linux (`MAX_ARG_STRLEN`).
const LONGEST: usize = 128 << 10;

/// The container of a name, or the first one.
///
/// # Errors
/// There is none.
pub(crate) fn container<'a>(template: &'a PodTemplateSpec, name: Option<&str>) -> Result<&'a Container, Failure> {
    let containers = template.spec.as_ref().map(|spec| spec.containers.as_slice()).unwrap_or_default();
    match name.filter(|name| !name.is_empty()) {
        Some(name) => containers
            .iter()
            .find(|container| container.name == name)
            .ok_or_else(|| Failure::Missing(format!("the scale target's pods have no container {name:?}"))),
        None => containers.first().ok_or_else(|| Failure::Missing("the scale target's pods have no containers".into())),
    }
}

/// The objects that the wanted variables of a container come from.
pub(crate) fn references(container: &Container, namespace: &str, wanted: &BTreeSet<String>) -> References {
    let needed = Needed::of(container, wanted);
    let from = needed.sources(container).iter().filter_map(|source| Some(whole(source, namespace)?.0));
    let keys = needed.entries(container).filter_map(|entry| Some(key_of(entry, namespace)?.reference));
    from.chain(keys).collect()
}

/// The wanted variables, as far as the container has them. Values of `fieldRef` and `resourceFieldRef` are known on a node
/// only; such variables count as absent, as in KEDA.
///
/// # Errors
/// An object or key that is not optional is not there; the error names it.
pub(crate) fn variables(
    container: &Container,
    namespace: &str,
    wanted: &BTreeSet<String>,
    found: &Found,
) -> Result<BTreeMap<String, String>, Failure> {
    let needed = Needed::of(container, wanted);
    let mut known = BTreeMap::new();
    for source in needed.sources(container) {
        let Some((reference, optional)) = whole(source, namespace) else { continue };
        let data = match found.data(&reference) {
            Err(Failure::Missing(_)) if optional => continue,
            data => data?,
        };
        let prefix = source.prefix.as_deref().unwrap_or_default();
        // A key that is no text cannot be in an environment.
        let texts = data.iter().filter_map(|(key, bytes)| Some((key, text(&reference, key, bytes).ok()?)));
        known.extend(texts.map(|(key, text)| (format!("{prefix}{key}"), text)));
    }
    for entry in needed.entries(container) {
        let value = match (key_of(entry, namespace), &entry.value_from) {
            (Some(key), _) => match found.text(&key.reference, &key.name) {
                Err(Failure::Missing(_)) if key.optional => continue,
                value => value?,
            },
            (None, Some(_)) => {
                known.remove(&entry.name);
                continue;
            }
            (None, None) => expand(entry.value.as_deref().unwrap_or_default(), &known).ok_or_else(|| {
                Failure::Refused(format!("the variable {} is longer than {LONGEST} bytes", entry.name))
            })?,
        };
        known.insert(entry.name.clone(), value);
    }
    known.retain(|name, _| wanted.contains(name));
    Ok(known)
}

/// What of a container's environment the wanted variables depend on.
struct Needed {
    /// Positions in `env`.
    entries: BTreeSet<usize>,
    /// Some variable is not in `env`, so that it may come from any `envFrom`.
    sources: bool,
}

impl Needed {
    fn of(container: &Container, wanted: &BTreeSet<String>) -> Self {
        let env = container.env.as_deref().unwrap_or_default();
        let mut needed = Self { entries: BTreeSet::new(), sources: false };
        // A variable and the position before which it must be defined: values refer to what stands before them.
        let mut open: Vec<(String, usize)> = wanted.iter().map(|name| (name.clone(), env.len())).collect();
        while let Some((name, before)) = open.pop() {
            let Some(at) = env[..before].iter().rposition(|entry| entry.name == name) else {
                needed.sources = true;
                continue;
            };
            if needed.entries.insert(at) {
                open.extend(mentioned(env[at].value.as_deref().unwrap_or_default()).map(|name| (name.to_owned(), at)));
                // An optional key may be absent; then an earlier definition holds.
                if key_of(&env[at], "").is_some_and(|key| key.optional) {
                    open.push((name, at));
                }
            }
        }
        needed
    }

    fn entries<'a>(&'a self, container: &'a Container) -> impl Iterator<Item = &'a EnvVar> {
        let env = container.env.as_deref().unwrap_or_default();
        self.entries.iter().map(|at| &env[*at])
    }

    fn sources<'a>(&self, container: &'a Container) -> &'a [EnvFromSource] {
        if self.sources { container.env_from.as_deref().unwrap_or_default() } else { &[] }
    }
}

/// A key of an object, as `valueFrom` names it.
struct Place {
    reference: Reference,
    name: String,
    optional: bool,
}

fn key_of(entry: &EnvVar, namespace: &str) -> Option<Place> {
    let from = entry.value_from.as_ref()?;
    if let Some(SecretKeySelector { name, key, optional }) = &from.secret_key_ref {
        let (reference, name) = (Reference::secret(namespace, name), key.clone());
        return Some(Place { reference, name, optional: optional.unwrap_or(false) });
    }
    let ConfigMapKeySelector { name, key, optional } = from.config_map_key_ref.as_ref()?;
    let (reference, name) = (Reference::config_map(namespace, name), key.clone());
    Some(Place { reference, name, optional: optional.unwrap_or(false) })
}

/// The object of an `envFrom`, and whether it may be absent.
fn whole(source: &EnvFromSource, namespace: &str) -> Option<(Reference, bool)> {
    if let Some(secret) = &source.secret_ref {
        return Some((Reference::secret(namespace, &secret.name), secret.optional.unwrap_or(false)));
    }
    let map = source.config_map_ref.as_ref()?;
    Some((Reference::config_map(namespace, &map.name), map.optional.unwrap_or(false)))
}

/// A piece of a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Piece<'a> {
    Plain(&'a str),
    /// `$(NAME)`.
    Variable(&'a str),
}

/// Splits a value as the kubelet does: `$$` is `$`, and a `$` before anything else than `(NAME)` is itself.
fn pieces(value: &str) -> Vec<Piece<'_>> {
    let (mut pieces, mut rest) = (Vec::new(), value);
    while let Some(at) = rest.find('$') {
        pieces.push(Piece::Plain(&rest[..at]));
        let after = &rest[at + 1..];
        rest = if let Some(escaped) = after.strip_prefix('$') {
            pieces.push(Piece::Plain("$"));
            escaped
        } else if let Some((name, behind)) = after.strip_prefix('(').and_then(|inner| inner.split_once(')')) {
            pieces.push(Piece::Variable(name));
            behind
        } else {
            pieces.push(Piece::Plain("$"));
            after
        };
    }
    pieces.push(Piece::Plain(rest));
    pieces
}

fn mentioned(value: &str) -> impl Iterator<Item = &str> {
    pieces(value).into_iter().filter_map(|piece| match piece {
        Piece::Variable(name) => Some(name),
        Piece::Plain(_) => None,
    })
}

/// A value with its variables filled in; those that are not known stay as they are written. Nothing if it is too long.
fn expand(value: &str, known: &BTreeMap<String, String>) -> Option<String> {
    let mut text = String::new();
    for piece in pieces(value) {
        match piece {
            Piece::Plain(plain) => text.push_str(plain),
            Piece::Variable(name) => match known.get(name) {
                Some(value) => text.push_str(value),
                None => text.extend(["$(", name, ")"]),
            },
        }
        if text.len() > LONGEST {
            return None;
        }
    }
    Some(text)
}

#[cfg(test)]
#[path = "environment_tests.rs"]
mod tests;
