//! Plans that the checker refused, saved with all they were made from, so that they can be made again at a desk.

use std::{
    fs,
    io::{self, BufWriter, Write},
    path::{Path, PathBuf},
};

use jiff::Timestamp;
use scheduling::check::Refused;

/// Files kept; older ones go. A plan that breaks a promise is a bug, and ten examples of it are enough.
const FILES: usize = 10;
/// Larger ones are not kept. Unit: bytes. A snapshot of 100,000 pods has about 100 MB, a plan for them a sixth of it.
const FILE_BYTES: u64 = 256 << 20;
/// What all of them may take, but for the newest. Unit: bytes.
const ALL_BYTES: u64 = 512 << 20;
const PREFIX: &str = "rejected-plan-";

/// Writes a refused plan below `folder`. The file's path.
///
/// # Errors
/// The folder cannot be written, or the plan is too large to keep.
pub(super) fn save(folder: &Path, refused: &Refused, now: Timestamp) -> io::Result<PathBuf> {
    fs::create_dir_all(folder)?;
    // Sorted by name is sorted by age.
    let moment = now.strftime("%Y%m%dT%H%M%S%.3fZ");
    let path = folder.join(format!("{PREFIX}{moment}-{}-{}.json", refused.snapshot.sequence, refused.planner));
    let written = write(&path, refused);
    if written.is_err() {
        // A part of it is of no use. That it cannot be removed either says nothing new.
        let _ = fs::remove_file(&path);
    }
    written?;
    tidy(folder)?;
    Ok(path)
}

fn write(path: &Path, refused: &Refused) -> io::Result<()> {
    let mut file = BufWriter::new(Limited { file: fs::File::create(path)?, left: FILE_BYTES });
    serde_json::to_writer(&mut file, refused)?;
    file.flush()
}

/// A file that does not become too large.
struct Limited {
    file: fs::File,
    left: u64,
}

impl Write for Limited {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.file.write(bytes)?;
        let too_large = || {
            let message = format!("more than {FILE_BYTES} bytes are too many to keep");
            io::Error::new(io::ErrorKind::FileTooLarge, message)
        };
        self.left = self.left.checked_sub(written as u64).ok_or_else(too_large)?;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

/// Removes all but the newest files of ours: ten, or fewer where these are large.
fn tidy(folder: &Path) -> io::Result<()> {
    let mut files: Vec<PathBuf> = fs::read_dir(folder)?.filter_map(|entry| Some(entry.ok()?.path())).collect();
    files.retain(|path| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(PREFIX)));
    files.sort();
    let (mut kept, mut bytes) = (0, 0);
    for file in files.iter().rev() {
        let size = fs::metadata(file)?.len();
        if kept > 0 && (kept == FILES || bytes + size > ALL_BYTES) {
            fs::remove_file(file)?;
        } else {
            kept += 1;
            bytes += size;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use scheduling::{Settings, Snapshot};

    use super::*;

    fn refused(sequence: u64) -> Refused {
        Refused {
            format: Refused::FORMAT.to_owned(),
            planner: "greedy".to_owned(),
            snapshot: Snapshot { sequence, ..Snapshot::default() },
            settings: Settings::default(),
            earlier: None,
            solution: None,
            violations: Vec::new(),
        }
    }

    #[test]
    fn only_the_last_files_are_kept() {
        let folder = tempfile::tempdir().unwrap();
        let below = folder.path().join("new");
        let mut paths = Vec::new();
        let mut save = |sequence: u64| {
            let now = Timestamp::from_second(i64::try_from(sequence).unwrap() * 3600).unwrap();
            paths.push(save(&below, &refused(sequence), now).unwrap());
            fs::write(below.join("mine.txt"), "not to be touched").unwrap();
            paths.iter().filter(|path| path.exists()).count()
        };
        let there: Vec<usize> = (0..12).map(&mut save).collect();
        assert_eq!(there, [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 10, 10]);
        assert!(below.join("mine.txt").exists());

        let large = below.join(format!("{PREFIX}19700101T110000.500Z-x.json"));
        fs::File::create(&large).unwrap().set_len(ALL_BYTES).unwrap();
        assert_eq!(save(12), 10);
        assert!(!large.exists());
    }

    #[test]
    fn a_file_that_gets_too_large_is_not_kept() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        let mut file = Limited { file: fs::File::create(&path).unwrap(), left: 3 };
        assert!(file.write_all(b"abc").is_ok());
        assert_eq!(file.write_all(b"d").unwrap_err().kind(), io::ErrorKind::FileTooLarge);
    }

    #[test]
    fn a_folder_that_cannot_be_written_is_an_error_and_nothing_more() {
        let file = tempfile::NamedTempFile::new().unwrap();
        assert!(save(file.path(), &refused(0), Timestamp::UNIX_EPOCH).is_err());
    }
}
