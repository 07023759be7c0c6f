//! The files in `crds/` are what the types say.

use std::path::Path;

/// Client-side `kubectl apply` keeps the whole object in an annotation of at most 256 KiB.
const FILE_BYTES_MAX: usize = 200_000;

#[test]
fn the_crd_files_are_those_of_the_types() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../crds");
    let mut wanted = Vec::new();
    for crd in api::crds() {
        let name = api::file_name(&crd);
        let text = serde_saphyr::to_string(&crd).unwrap();
        assert!(text.len() < FILE_BYTES_MAX, "{name} has {} bytes", text.len());
        let found = std::fs::read_to_string(folder.join(&name)).unwrap_or_default();
        assert!(found == text, "{name} is out of date: cargo run -p api --example crdgen -- crds");
        wanted.push(name);
    }
    wanted.sort();
    let mut found: Vec<String> = std::fs::read_dir(&folder)
        .unwrap()
        .map(|e| e.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "yaml"))
        .map(|path| path.file_name().unwrap().to_str().unwrap().to_owned())
        .collect();
    found.sort();
    assert_eq!(found, wanted, "a file in crds/ belongs to no type");
}
