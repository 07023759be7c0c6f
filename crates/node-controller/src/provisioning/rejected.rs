//! Plans that the checker refused, saved with all they were made from, so that they can be made again at a desk.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use jiff::Timestamp;
use scheduling::{Settings, Snapshot};
use serde::Serialize;

use crate::planning::Rejected;

/// Files kept; older ones go. A plan that breaks a promise is a bug, and ten examples of it are enough.
const FILES: usize = 10;
/// Larger ones are not written. Unit: bytes. A snapshot of 20,000 pods has about 20 MB.
const FILE_BYTES: usize = 64 << 20;
const PREFIX: &str = "rejected-plan-";

/// What a file holds.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Saved<'a> {
    snapshot: &'a Snapshot,
    settings: &'a Settings,
    #[serde(flatten)]
    rejected: &'a Rejected,
}

/// Writes a rejected plan below `folder`. The file's path.
///
/// # Errors
/// The folder cannot be written, or the plan is too large to keep.
pub(super) fn save(
    folder: &Path,
    snapshot: &Snapshot,
    settings: &Settings,
    rejected: &Rejected,
    now: Timestamp,
) -> io::Result<PathBuf> {
    let text = serde_json::to_vec(&Saved { snapshot, settings, rejected })?;
    if text.len() > FILE_BYTES {
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, format!("{} bytes are too many to keep", text.len())));
    }
    fs::create_dir_all(folder)?;
    // Sorted by name is sorted by age.
    let moment = now.strftime("%Y%m%dT%H%M%S%.3fZ");
    let path = folder.join(format!("{PREFIX}{moment}-{}-{}.json", snapshot.sequence, rejected.planner));
    fs::write(&path, text)?;
    tidy(folder)?;
    Ok(path)
}

/// Removes all but the newest files of ours.
fn tidy(folder: &Path) -> io::Result<()> {
    let mut files: Vec<PathBuf> = fs::read_dir(folder)?.filter_map(|entry| Some(entry.ok()?.path())).collect();
    files.retain(|path| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(PREFIX)));
    files.sort();
    for old in files.iter().rev().skip(FILES) {
        fs::remove_file(old)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    #[test]
    fn a_rejected_plan_can_be_made_again_from_its_file_and_only_the_last_ones_are_kept() {
        let folder = tempfile::tempdir().unwrap();
        let below = folder.path().join("new");
        let rejected = Rejected { planner: "optimiser", solution: None, violations: Vec::new() };
        let (settings, mut snapshot) = (Settings::default(), Snapshot::default());
        let mut paths = Vec::new();
        for sequence in 0..12 {
            snapshot.sequence = sequence;
            let now = Timestamp::from_second(i64::try_from(sequence).unwrap() * 3600).unwrap();
            paths.push(save(&below, &snapshot, &settings, &rejected, now).unwrap());
            fs::write(below.join("mine.txt"), "not to be touched").unwrap();
        }
        let there: Vec<bool> = paths.iter().map(|path| path.exists()).collect();
        assert_eq!(there, [vec![false; 2], vec![true; 10]].concat());
        assert!(below.join("mine.txt").exists());

        let read: Value = serde_json::from_slice(&fs::read(&paths[11]).unwrap()).unwrap();
        assert_eq!(serde_json::from_value::<Snapshot>(read["snapshot"].clone()).unwrap().sequence, 11);
        assert_eq!(serde_json::from_value::<Settings>(read["settings"].clone()).unwrap(), settings);
        assert_eq!(read["planner"], "optimiser");
    }

    #[test]
    fn a_folder_that_cannot_be_written_is_an_error_and_nothing_more() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let rejected = Rejected { planner: "greedy", solution: None, violations: Vec::new() };
        let saved = save(file.path(), &Snapshot::default(), &Settings::default(), &rejected, Timestamp::UNIX_EPOCH);
        assert!(saved.is_err());
    }
}
