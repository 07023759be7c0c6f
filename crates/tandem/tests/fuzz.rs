//! Inputs that nobody thought of, some of them in every run: made by seeds, so that each run has the same.

use std::{fs, path::PathBuf};

use tandem::{
    fuzz::{judge_snapshot, judge_text},
    generate::Random,
};

/// Random snapshots of every run.
const SNAPSHOTS: u64 = 1500;
/// Of these it is known that the checker rejects the plans; see `docs/known-gaps.md`.
const KNOWN: [u64; 1] = [203];
/// Ways in which each scenario is damaged.
const DAMAGES: u64 = 60;

#[test]
fn random_snapshots_break_no_promise() {
    for seed in (0..SNAPSHOTS).filter(|seed| !KNOWN.contains(seed)) {
        let mut random = Random::new(seed);
        let words = random.below(120);
        let bytes: Vec<u8> = (0..words).flat_map(|_| random.bits().to_le_bytes()).collect();
        assert_eq!(judge_snapshot(&bytes), Vec::<String>::new(), "seed {seed}");
    }
}

#[test]
fn damaged_scenarios_are_refused_or_planned() {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/scenarios");
    let mut files: Vec<PathBuf> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.retain(|file| file.extension().is_some_and(|extension| extension == "yaml"));
    files.sort();
    for file in files {
        let text = fs::read_to_string(&file).unwrap();
        for seed in 0..DAMAGES {
            let damaged = damaged(&text, &mut Random::new(seed));
            assert_eq!(judge_text(damaged.as_bytes()), Vec::<String>::new(), "{}, seed {seed}", file.display());
        }
    }
}

/// Lines and words out of place: what a person might do by mistake.
fn damaged(text: &str, random: &mut Random) -> String {
    let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
    for _ in 0..=random.below(3) {
        let (at, other) = (random.below(lines.len()), random.below(lines.len()));
        match random.below(6) {
            0 => drop(lines.remove(at)),
            1 => lines.swap(at, other),
            2 => lines.insert(at, lines[other].clone()),
            3 => {
                let odd = random.pick(&["-1", "null", "9e99", "\"\"", "[]", ".nan", "true"]);
                if let Some((key, _)) = lines[at].clone().split_once(": ") {
                    lines[at] = format!("{key}: {odd}");
                }
            }
            4 => {
                let mut letters: Vec<char> = lines[at].chars().collect();
                let cut = random.below(letters.len() + 1);
                letters.truncate(cut);
                lines[at] = letters.into_iter().collect();
            }
            _ => lines[at] = lines[at].replace(": ", ":\n"),
        }
        if lines.is_empty() {
            break;
        }
    }
    lines.join("\n")
}
