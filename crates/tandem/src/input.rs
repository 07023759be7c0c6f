//! One path on the command line → one snapshot: a packing instance, Kubernetes objects with a catalogue, or a plan that
//! node-provisioner has refused and saved.

use std::{mem, path::Path, sync::Arc};

use scheduling::{InstanceType, Snapshot, check::Refused};
use serde_json::Value;

use crate::{
    BadInput, Document, LeftOut, Problem, Remarks, catalogue, documents, ec2, instance, objects::Reader, world,
};

/// What was read.
#[derive(Clone, Debug)]
pub struct Input {
    /// Everything placing depends on.
    pub snapshot: Snapshot,
    /// What of the objects does not matter, or is not what it seems.
    pub remarks: Remarks,
    /// What the snapshot does not contain though the objects do.
    pub left_out: LeftOut,
    /// Whether the instance types are those that are shipped, because the input has none.
    pub shipped_types: bool,
    /// What has to be corrected: the objects and types concerned are not in the snapshot.
    pub problems: Vec<Problem>,
    /// Where the input is a plan that was refused: how it was made, and what was wrong with it. Its snapshot is above.
    pub refused: Option<Box<Refused>>,
}

/// Reads a path, as far as nothing is wrong with what is in it; `types` names another file for the instance types: a catalogue, or a packing instance.
pub fn read(path: &Path, types: Option<&Path>) -> Result<Input, BadInput> {
    let (mut reader, mut first) = (Reader::default(), None);
    let mut count = 0;
    documents::read_each(path, &mut |document| {
        count += 1;
        if count == 1 && (instance::is_one(&document.value) || is_refused_plan(&document.value)) {
            first = Some(document);
        } else {
            // An instance, or a plan, among others is none of them, and said to be so.
            first.take().into_iter().chain([document]).for_each(|document| reader.document(document));
        }
    })?;
    if let Some(only) = first {
        if is_refused_plan(&only.value) {
            return refused_plan(only, types);
        }
        let (types, problems) = types.map(read_sound_types).transpose()?.unzip();
        let snapshot = instance::from_document(&only, path, types)?;
        return Ok(Input {
            snapshot,
            remarks: Remarks::default(),
            left_out: LeftOut::default(),
            shipped_types: false,
            problems: problems.unwrap_or_default(),
            refused: None,
        });
    }
    let (types, of_types) = types.map(read_sound_types).transpose()?.unzip();
    let mut input = what_is_sound(path, reader, types);
    input.problems.extend(of_types.unwrap_or_default());
    // Without a pod there is nothing to plan, and what is wrong is all there is to say.
    if input.problems.is_empty() || !input.snapshot.pods.is_empty() { Ok(input) } else { Err(BadInput(input.problems)) }
}

fn is_refused_plan(value: &Value) -> bool {
    value.get("format").and_then(Value::as_str) == Some(Refused::FORMAT)
}

/// A plan that node-provisioner has saved, with its snapshot and all else that it takes to make it again.
fn refused_plan(Document { origin, value }: Document, types: Option<&Path>) -> Result<Input, BadInput> {
    if types.is_some() {
        return Err(Problem::at(&origin, "a refused plan is made again with the types it was made from").into());
    }
    let mut refused: Box<Refused> =
        serde_json::from_value(value).map_err(|error| Problem::at(&origin, error.to_string()))?;
    Ok(Input {
        snapshot: mem::take(&mut refused.snapshot),
        remarks: Remarks::default(),
        left_out: LeftOut::default(),
        shipped_types: false,
        problems: Vec::new(),
        refused: Some(refused),
    })
}

/// Kubernetes objects, and the catalogue among them unless `types` has another; without either, the shipped one. Nothing may be
/// wrong with any of them.
pub fn from_documents(
    path: &Path,
    documents: Vec<Document>,
    types: Option<Arc<[InstanceType]>>,
) -> Result<Input, BadInput> {
    let mut reader = Reader::default();
    for document in documents {
        reader.document(document);
    }
    let input = what_is_sound(path, reader, types);
    if input.problems.is_empty() { Ok(input) } else { Err(BadInput(input.problems)) }
}

/// The same without those that something is wrong with.
fn what_is_sound(path: &Path, reader: Reader, types: Option<Arc<[InstanceType]>>) -> Input {
    let (objects, remarks, mut problems) = reader.finish();
    let mut shipped = false;
    let types = match (types, objects.catalogues.as_slice()) {
        (Some(types), _) => types,
        (None, [one]) => {
            let (sound, more) = catalogue::sound_types(one);
            problems.extend(more);
            sound
        }
        (None, []) => {
            shipped = true;
            ec2::types()
        }
        (None, [first, second, ..]) => {
            let message =
                format!("this is a second catalogue, beside {}: name one with --catalogue FILE", first.origin);
            problems.push(Problem::at(&second.origin, message));
            Arc::from([])
        }
    };
    if objects.is_empty() && problems.is_empty() {
        let kinds: Vec<&str> = remarks.skipped.keys().map(String::as_str).collect();
        let instead = if kinds.is_empty() { String::new() } else { format!(", only {}", kinds.join(", ")) };
        let message = format!("there is no Pod, no Deployment or the like, no Node and no pool in it{instead}");
        problems.push(Problem::of_file(path.display().to_string(), message));
    }
    let (snapshot, left_out, more) = world::snapshot(&objects, &types);
    problems.extend(more);
    problems.sort();
    Input { snapshot, remarks, left_out, shipped_types: shipped, problems, refused: None }
}

/// Instance types from a file of their own, none of which something is wrong with.
pub(crate) fn read_types(path: &Path) -> Result<Arc<[InstanceType]>, BadInput> {
    let (types, problems) = read_sound_types(path)?;
    if problems.is_empty() { Ok(types) } else { Err(BadInput(problems)) }
}

/// Those with which nothing is wrong, and what is wrong with the others.
fn read_sound_types(path: &Path) -> Result<(Arc<[InstanceType]>, Vec<Problem>), BadInput> {
    let documents = documents::read(path)?;
    match documents.as_slice() {
        [one] if instance::is_one(&one.value) => Ok((instance::types_of(one)?, Vec::new())),
        [one @ Document { value: Value::Array(_), .. }] => Ok(catalogue::sound_types(one)),
        _ => Err(Problem::of_file(
            path.display().to_string(),
            "this is not a catalogue: an array of instance types, or a packing instance that has some",
        )
        .into()),
    }
}
