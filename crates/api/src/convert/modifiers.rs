//! `advanced.scalingModifiers` of a ScaledObject.

use std::collections::BTreeSet;

use scaling::Modifiers;
use scaling::modifiers::{Part, Written};

use crate::FieldError;
use crate::keda::{ScaledObjectSpec, is_resource_trigger};

const FIELD: &str = "spec.advanced.scalingModifiers";

/// The formula of an object with what it is compared with; `None` if it has none.
///
/// Its names are those of the triggers that have one, without cpu and memory: the HPA reads these by itself.
///
/// # Errors
/// Everything that is wrong with it.
pub fn modifiers(spec: &ScaledObjectSpec) -> Result<Option<Modifiers>, Vec<FieldError>> {
    let Some(block) = spec.scaling_modifiers() else { return Ok(None) };
    let names: BTreeSet<&str> = spec
        .triggers
        .iter()
        .filter(|trigger| !is_resource_trigger(&trigger.r#type))
        .filter_map(|trigger| trigger.name.as_deref())
        .filter(|name| !name.is_empty())
        .collect();
    let written = Written {
        formula: block.formula.as_deref().unwrap_or_default(),
        target: block.target.as_deref().unwrap_or_default(),
        activation_target: block.activation_target.as_deref().unwrap_or_default(),
        metric_type: block.metric_type.as_deref().unwrap_or_default(),
    };
    let field = |part: Part| format!("{FIELD}.{}", part.name());
    Modifiers::read(written, &names)
        .map(Some)
        .map_err(|wrong| wrong.iter().map(|error| FieldError::new(field(error.part()), error.to_string())).collect())
}
