//! Parameters in a file beside the program, for ClusterTriggerAuthentications.

use std::path::{Component, Path};

use super::found::Failure;
use super::parameters::Parameters;

/// Largest file that is read, in bytes. A Secret cannot be larger.
const LARGEST: u64 = 1 << 20;

/// Reads a flat JSON object of texts.
///
/// # Errors
/// There is no folder for such files, the path leads out of it, or the file is not as it has to be.
pub(super) async fn parameters(root: Option<&Path>, path: &str) -> Result<Parameters, Failure> {
    let refused = |what: &str| Failure::Refused(format!("filePath {path:?} {what}"));
    let root = root.ok_or_else(|| refused("cannot be read: this program runs without --filepath-auth-root-path"))?;
    if !Path::new(path).components().all(|part| matches!(part, Component::Normal(_) | Component::CurDir)) {
        return Err(refused("must be a path below the program's folder for such files"));
    }
    let file = root.join(path);
    // A Secret that is mounted is a link to a link, both in the same folder.
    let real = |path: &Path| {
        let path = path.to_owned();
        async move { tokio::fs::canonicalize(path).await }
    };
    let (real_root, real_file) = (real(root).await, real(&file).await);
    let (Ok(real_root), Ok(real_file)) = (real_root, real_file) else {
        return Err(Failure::Missing(format!("there is no file for filePath {path:?}")));
    };
    if !real_file.starts_with(&real_root) {
        return Err(refused("leads out of the program's folder for such files"));
    }
    let size = tokio::fs::metadata(&real_file).await.map(|metadata| metadata.len());
    if size.is_ok_and(|size| size > LARGEST) {
        return Err(refused("is larger than 1 MiB"));
    }
    let text = tokio::fs::read(&real_file).await.map_err(|error| refused(&format!("cannot be read: {error}")))?;
    // The error of the decoder would repeat a part of the file.
    serde_json::from_slice(&text).map_err(|_| refused("is not a JSON object of texts"))
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn said(root: Option<&Path>, path: &str) -> String {
        parameters(root, path).await.unwrap_err().to_string()
    }

    #[tokio::test]
    async fn a_file_is_read_below_its_folder_only() {
        let folder = std::env::temp_dir().join(format!("tandem-parameters-{}", std::process::id()));
        std::fs::create_dir_all(folder.join("root")).unwrap();
        std::fs::write(folder.join("root/good.json"), r#"{"password": "p"}"#).unwrap();
        std::fs::write(folder.join("root/bad.json"), r#"{"password": 7}"#).unwrap();
        std::fs::write(folder.join("outside.json"), r#"{"password": "p"}"#).unwrap();
        std::os::unix::fs::symlink(folder.join("outside.json"), folder.join("root/link.json")).unwrap();
        let root = folder.join("root");
        let good = parameters(Some(&root), "good.json").await;
        let bad = said(Some(&root), "bad.json").await;
        let up = said(Some(&root), "../outside.json").await;
        let absolute = said(Some(&root), "/etc/hostname").await;
        let link = said(Some(&root), "link.json").await;
        let missing = said(Some(&root), "missing.json").await;
        std::fs::remove_dir_all(&folder).unwrap();

        assert_eq!(good, Ok([("password".to_owned(), "p".to_owned())].into()));
        assert_eq!(bad, "filePath \"bad.json\" is not a JSON object of texts");
        assert!(up.ends_with("must be a path below the program's folder for such files"), "{up}");
        assert!(absolute.ends_with("must be a path below the program's folder for such files"), "{absolute}");
        assert!(link.ends_with("leads out of the program's folder for such files"), "{link}");
        assert_eq!(missing, "there is no file for filePath \"missing.json\"");
        let none = said(None, "good.json").await;
        assert!(none.ends_with("runs without --filepath-auth-root-path"), "{none}");
    }
}
