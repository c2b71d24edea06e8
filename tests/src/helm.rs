//! Where Helm is, if it is anywhere.

use std::path::PathBuf;
use std::process::{Command, Stdio};

/// Helm: from `HELM`, from the path, or from the cache of the test cluster's programs. Without it the test is skipped,
/// and that is said and counted.
pub fn program(test: &str) -> Option<PathBuf> {
    let found = candidates().into_iter().find(|program| {
        let version = Command::new(program).arg("version").stdout(Stdio::null()).stderr(Stdio::null()).status();
        version.is_ok_and(|status| status.success())
    });
    if found.is_none() {
        println!(
            "\nSKIPPED {test}: no helm here; make it with tests/kubernetes/build helm, or name it with HELM=/path/to/helm"
        );
    }
    found
}

fn candidates() -> Vec<PathBuf> {
    if let Some(named) = std::env::var_os("HELM") {
        return vec![PathBuf::from(named)];
    }
    let cache = std::env::var_os("COEQUAL_TESTCLUSTER_CACHE").map(PathBuf::from).or_else(|| {
        let base = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
        let base = base.or_else(|| std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".cache")));
        base.map(|base| base.join("coequal-testcluster"))
    });
    std::iter::once(PathBuf::from("helm")).chain(cache.map(|cache| cache.join("helm"))).collect()
}
