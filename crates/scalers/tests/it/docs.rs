//! `docs/scalers/` is what the settings structs say.

use std::collections::BTreeSet;
use std::path::Path;

#[test]
fn docs_scalers_is_what_the_types_say() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/scalers");
    let mut wanted = BTreeSet::new();
    for (name, text) in scalers::catalog::BUILT.iter().flat_map(scalers::catalog::TriggerType::files) {
        let found = std::fs::read_to_string(folder.join(&name)).unwrap_or_default();
        assert!(found == text, "docs/scalers/{name} is old; cargo run -p scalers --example docs");
        wanted.insert(name);
    }
    for entry in std::fs::read_dir(&folder).expect("the folder is in the repository") {
        let name = entry.expect("readable").file_name().to_string_lossy().into_owned();
        assert!(wanted.contains(&name), "docs/scalers/{name} belongs to no type");
    }
}
