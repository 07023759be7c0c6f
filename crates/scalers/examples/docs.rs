//! Writes `docs/scalers/`: a page and a JSON schema for each trigger type.

use std::path::Path;

fn main() -> std::io::Result<()> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/scalers");
    std::fs::create_dir_all(&folder)?;
    for built in scalers::catalog::BUILT {
        for (name, text) in built.files() {
            std::fs::write(folder.join(name), text)?;
        }
    }
    Ok(())
}
