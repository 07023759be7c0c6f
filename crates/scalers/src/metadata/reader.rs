//! Reads a trigger, finding all faults in one go.

use std::collections::BTreeSet;

use super::nearest::hint;
use super::value::rounding;
use super::{FromParameter, Origin, Parameter, Shape, TriggerMetadata};
use crate::context::{Authentication, Notice, TriggerContext};
use crate::error::BuildError;
use crate::query::unescape;

/// The settings of a trigger, and what its owner should know about them.
///
/// # Errors
/// Every parameter that is wrong.
pub(crate) fn parse<T: TriggerMetadata>(context: &TriggerContext<'_>) -> Result<(T, Vec<Notice>), BuildError> {
    let mut reader = Reader { context, given: BTreeSet::new(), problems: Vec::new(), notices: Vec::new() };
    let settings = T::read(&mut reader);
    reader.keys(T::SHAPE);
    match (settings, BuildError::several(reader.problems)) {
        (Some(settings), None) => Ok((settings, reader.notices)),
        (_, Some(error)) => Err(error),
        (None, None) => unreachable!("a value that could not be read has left a problem"),
    }
}

/// Looks parameters up and collects what is wrong.
#[derive(Debug)]
pub(crate) struct Reader<'a> {
    context: &'a TriggerContext<'a>,
    /// Parameters for which something was written.
    given: BTreeSet<&'static str>,
    problems: Vec<BuildError>,
    notices: Vec<Notice>,
}

impl Reader<'_> {
    /// The value of a parameter; `None` when it is wrong or missing, which is noted.
    pub(crate) fn value<T: FromParameter>(&mut self, parameter: &'static Parameter) -> Option<T> {
        let Some((key, text)) = self.written(parameter) else { return self.unwritten(parameter) };
        self.given.insert(parameter.name);
        let text = if parameter.unescaped { unescape(&text) } else { text };
        let rounding = rounding(&text, parameter);
        self.notices.extend(rounding.map(|message| Notice { field: key.clone(), message }));
        T::from_text(&text, parameter).map_err(|what| self.problems.push(BuildError::new(key, what))).ok()
    }

    /// Notes problems that somebody else has found.
    pub(crate) fn add(&mut self, problems: Vec<BuildError>) {
        self.problems.extend(problems);
    }

    /// Checks the rules about several parameters.
    pub(crate) fn groups(&mut self, shape: &'static Shape) {
        for set in shape.exclusive {
            let given: Vec<&str> = set.iter().copied().filter(|name| self.given.contains(name)).collect();
            if let [first, .., last] = given.as_slice() {
                self.problems.push(BuildError::new(*last, format!("excludes {first}; give one of them")));
            }
        }
        for set in shape.some_of {
            if !set.iter().any(|name| self.given.contains(name)) {
                let first = set.first().copied().unwrap_or_default();
                self.problems.push(BuildError::new(first, format!("is required: one of {}", set.join(", "))));
            }
        }
        for (one, other) in shape.together {
            for (given, missing) in [(one, other), (other, one)] {
                if self.given.contains(given) && !self.given.contains(missing) {
                    self.problems.push(BuildError::new(*missing, format!("is required with {given}")));
                }
            }
        }
    }

    /// The text of a parameter and the key it was found under.
    fn written(&mut self, parameter: &'static Parameter) -> Option<(String, String)> {
        for origin in parameter.sources {
            for name in parameter.names() {
                let Some((key, text)) = self.at(*origin, name, parameter) else { continue };
                if let Some((_, notice)) = parameter.deprecated.iter().find(|(old, _)| *old == name) {
                    self.notices.push(Notice { field: name.into(), message: (*notice).into() });
                }
                return Some((key, text));
            }
        }
        None
    }

    fn at(&mut self, origin: Origin, name: &str, parameter: &Parameter) -> Option<(String, String)> {
        let filled = |text: &String| Some(text.trim().to_owned()).filter(|text| !text.is_empty());
        let context = self.context;
        match origin {
            Origin::Metadata => Some((name.to_owned(), context.metadata.get(name).and_then(filled)?)),
            Origin::Authentication => match context.authentication {
                Authentication::Resolved { parameters, .. } => {
                    Some((format!("authenticationRef {name}"), parameters.get(name).and_then(filled)?))
                }
                Authentication::None => None,
            },
            Origin::Environment => {
                let key = format!("{name}FromEnv");
                let variable = context.metadata.get(&key).and_then(filled)?;
                match context.environment {
                    None => {
                        let what = "the environment of the scale target's container is not known";
                        self.problems.push(BuildError::new(key, what));
                        None
                    }
                    Some(environment) => {
                        let Some(text) = environment.get(&variable).and_then(filled) else {
                            let message = format!(
                                "the scale target's container has no environment variable {variable}, so {} is looked \
                                 for elsewhere",
                                parameter.name
                            );
                            self.notices.push(Notice { field: key, message });
                            return None;
                        };
                        Some((key, text))
                    }
                }
            }
        }
    }

    fn unwritten<T: FromParameter>(&mut self, parameter: &'static Parameter) -> Option<T> {
        let value = match parameter.default {
            Some(default) => T::from_text(default, parameter).ok(),
            None if parameter.required => None,
            None => T::absent(),
        };
        // A missing variable has already been told, and is the better explanation.
        let blamed = |problem: &BuildError| problem.field.strip_suffix("FromEnv") == Some(parameter.name);
        if value.is_none() && !self.problems.iter().any(blamed) {
            self.problems.push(BuildError::new(parameter.name, missing(parameter, &self.notices)));
        }
        value
    }

    /// Looks at every key of the metadata: is it known, removed, without effect?
    fn keys(&mut self, shape: &'static Shape) {
        let (shapes, parameters) = (shape.all(), shape.parameters());
        let find = |lists: fn(&Shape) -> &'static [(&'static str, &'static str)], key: &str| {
            shapes.iter().flat_map(|shape| lists(shape)).find(|(name, _)| *name == key).map(|(_, text)| *text)
        };
        for key in self.context.metadata.keys() {
            if let Some(advice) = find(|shape| shape.removed, key) {
                self.problems.push(BuildError::new(key, advice));
                continue;
            }
            let message = if let Some(reason) = find(|shape| shape.ignored, key) {
                reason.to_owned()
            } else if shape.open || parameters.iter().any(|parameter| is_key(parameter, key)) {
                continue;
            } else if let Some(reason) = misplaced(&parameters, key) {
                reason
            } else {
                let known = parameters.iter().filter(|p| p.may_come_from(Origin::Metadata)).flat_map(|p| p.names());
                format!("is not a setting of this trigger type; it has no effect{}", hint(key, known))
            };
            self.notices.push(Notice { field: key.clone(), message });
        }
    }
}

/// Whether the metadata may hold this key for the parameter.
fn is_key(parameter: &Parameter, key: &str) -> bool {
    parameter.names().any(|name| {
        (parameter.may_come_from(Origin::Metadata) && key == name)
            || (parameter.may_come_from(Origin::Environment) && key.strip_suffix("FromEnv") == Some(name))
    })
}

/// Why a key that names a parameter has no effect where it is.
fn misplaced(parameters: &[&'static Parameter], key: &str) -> Option<String> {
    let named = |name: &str| parameters.iter().find(|parameter| parameter.names().any(|known| known == name));
    if key == "metricName" {
        return Some("has no effect since KEDA 2.10; the metric is named after the trigger's position".into());
    }
    if let Some(parameter) = named(key) {
        return Some(format!("has no effect here; it is read from {}", origins(parameter)));
    }
    let parameter = named(key.strip_suffix("FromEnv")?)?;
    Some(format!("has no effect; {} is read from {} only", parameter.name, origins(parameter)))
}

fn missing(parameter: &Parameter, notices: &[Notice]) -> String {
    let env = format!("{}FromEnv", parameter.name);
    match notices.iter().find(|notice| notice.field == env) {
        Some(notice) => format!("is required, and {}", notice.message),
        None if parameter.sources == [Origin::Metadata] => "is required".into(),
        None => format!("is required, from {}", origins(parameter)),
    }
}

/// The places a value may come from, in words.
pub(super) fn origins(parameter: &Parameter) -> String {
    let words = parameter.sources.iter().map(|origin| match origin {
        Origin::Metadata => "metadata".to_owned(),
        Origin::Environment => format!("an environment variable ({}FromEnv)", parameter.name),
        Origin::Authentication => "a TriggerAuthentication".to_owned(),
    });
    words.collect::<Vec<_>>().join(" or ")
}
