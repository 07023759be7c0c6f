//! Scratch.
use std::time::Duration;
#[tokio::test(flavor = "multi_thread")]
async fn scratch() {
    let bed = testkit::bed::Bed::start(Default::default()).await.unwrap();
    let folder = std::path::Path::new("/tmp/scratch-bed");
    let _ = std::fs::remove_dir_all(folder);
    std::fs::create_dir_all(folder).unwrap();
    std::fs::copy(bed.admin_kubeconfig(), folder.join("kubeconfig")).unwrap();
    let mesh = testkit::mesh::Mesh::start().await.unwrap();
    let prometheus = testkit::prometheus::Prometheus::start(bed.folder(), &[mesh.address()]).await.unwrap();
    std::fs::write(folder.join("prometheus"), prometheus.url()).unwrap();
    std::fs::write(folder.join("ready"), "").unwrap();
    let traffic = testkit::mesh::Traffic::to("shop", "web");
    loop {
        if folder.join("stop").exists() { return; }
        if let Ok(rate) = std::fs::read_to_string(folder.join("rate")) {
            if let Ok(rate) = rate.trim().parse() { mesh.set_rate(&traffic, rate); }
        }
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
}
