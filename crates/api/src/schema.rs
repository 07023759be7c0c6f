//! Hand-made schema pieces for what `schemars` cannot know.

use schemars::{Schema, SchemaGenerator, json_schema};

/// A JobSpec: a template, and nothing is pruned, so that fields of newer Kubernetes releases stay.
pub(crate) fn job_spec(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "object",
        "required": ["template"],
        "properties": { "template": { "type": "object", "x-kubernetes-preserve-unknown-fields": true } },
        "x-kubernetes-preserve-unknown-fields": true,
    })
}

/// Any object or nothing; nothing in it is pruned.
pub(crate) fn optional_open_object(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "type": "object", "nullable": true, "x-kubernetes-preserve-unknown-fields": true })
}

/// A resource list: name → quantity, where a quantity is text or a bare integer.
pub(crate) fn quantities(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "object",
        "additionalProperties": { "x-kubernetes-int-or-string": true },
    })
}

/// One quantity, text or a bare integer, or nothing.
pub(crate) fn optional_quantity(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "nullable": true, "x-kubernetes-int-or-string": true })
}
