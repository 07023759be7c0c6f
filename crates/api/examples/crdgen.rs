//! Writes one YAML file for each CRD: `cargo run -p api --example crdgen -- crds`.

use std::error::Error;
use std::path::PathBuf;

fn main() -> Result<(), Box<dyn Error>> {
    let folder = PathBuf::from(std::env::args_os().nth(1).ok_or("usage: crdgen FOLDER")?);
    std::fs::create_dir_all(&folder)?;
    for crd in api::crds() {
        std::fs::write(folder.join(api::file_name(&crd)), serde_saphyr::to_string(&crd)?)?;
    }
    Ok(())
}
