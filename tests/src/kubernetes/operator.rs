//! The operator as people install it: the definition and `deploy/operator.yaml`, with images made from the programs.

use super::testcluster::TestCluster;
use crate::binaries::{program, root};
use std::sync::Once;

/// Where the operator runs.
pub const OPERATOR_NAMESPACE: &str = "coequal-system";
/// Tag of the images that are deployed first.
const FIRST: &str = "0.1.0";

/// Images, definition and operator; once for all tests.
pub fn deploy_once(cluster: &TestCluster) {
    static DEPLOYED: Once = Once::new();
    DEPLOYED.call_once(|| {
        cluster.script("image", &[&format!("coequal-node:{FIRST}"), &program("coequal-node").display().to_string()]);
        let crd = root().join("crds/replicateddatabases.coequal.dev.yaml");
        cluster.kubectl(&["apply", "--server-side", "-f", &crd.display().to_string()]);
        cluster.kubectl(&[
            "wait",
            "--for=condition=Established",
            "--timeout=60s",
            "crd/replicateddatabases.coequal.dev",
        ]);
        deploy(cluster, FIRST);
    });
}

/// Makes an image of the operator with this tag and deploys it; waits until it runs.
pub fn deploy(cluster: &TestCluster, tag: &str) {
    let operator = program("coequal-operator").display().to_string();
    cluster.script("image", &[&format!("coequal-operator:{tag}"), &operator]);
    let path = root().join("deploy/operator.yaml");
    let text = std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    let manifest = with_own_images(&text, tag);
    let file = cluster.directory.join("operator.yaml");
    std::fs::write(&file, manifest).unwrap_or_else(|e| panic!("{}: {e}", file.display()));
    cluster.kubectl(&["apply", "-f", &file.display().to_string()]);
    let deployment = "deployment/coequal-operator";
    cluster.kubectl(&["-n", OPERATOR_NAMESPACE, "rollout", "status", deployment, "--timeout=180s"]);
}

/// The manifest as it is, but for the names of the images, which no registry holds.
fn with_own_images(manifest: &str, tag: &str) -> String {
    let replaced = [
        (format!("image: coequal-operator:{FIRST}"), format!("image: localhost/coequal-operator:{tag}")),
        ("imagePullPolicy: IfNotPresent".to_owned(), "imagePullPolicy: Never".to_owned()),
        (format!("\"coequal-node:{FIRST}\""), format!("\"localhost/coequal-node:{FIRST}\"")),
    ];
    replaced.into_iter().fold(manifest.to_owned(), |text, (from, to)| {
        assert!(text.contains(&from), "deploy/operator.yaml has no {from:?} any more; correct this test");
        text.replace(&from, &to)
    })
}
