//! Watching the manifest: read again a few times a second, because editors replace files in many ways.

use super::manifest_file::read_manifest;
use crate::controller::validate::{Faults, ValidatedDatabaseCluster, validate};
use std::path::{Path, PathBuf};

/// The manifest as it was read last.
#[derive(Debug)]
pub struct ManifestWatch {
    path: PathBuf,
    last: Result<String, String>,
}

/// What a manifest says now.
pub type Reading = Result<ValidatedDatabaseCluster, Faults>;

impl ManifestWatch {
    /// Reads the manifest for the first time.
    pub fn begin(path: &Path) -> (Self, Reading) {
        let (last, reading) = read(path);
        (Self { path: path.to_owned(), last }, reading)
    }

    /// What the manifest says, if it changed since the last look.
    pub fn look(&mut self) -> Option<Reading> {
        let (now, reading) = read(&self.path);
        if now == self.last {
            return None;
        }
        self.last = now;
        Some(reading)
    }
}

fn read(path: &Path) -> (Result<String, String>, Reading) {
    match read_manifest(path) {
        Ok(text) => {
            let reading = validate(&text);
            (Ok(text), reading)
        }
        Err(fault) => (Err(fault.to_string()), Err(Faults(vec![fault]))),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)]
mod tests {
    use super::*;

    #[test]
    fn every_change_is_seen_once_and_a_missing_file_is_a_change() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("m.yaml");
        let text = |replicas: u32| {
            format!(
                "{{apiVersion: coequal.dev/v1alpha1, kind: ReplicatedDatabase, metadata: {{name: a}}, spec: {{replicas: {replicas}}}}}"
            )
        };
        std::fs::write(&path, text(3)).unwrap();
        let (mut watch, first) = ManifestWatch::begin(&path);
        assert_eq!(first.unwrap().replicas, 3);
        assert!(watch.look().is_none());
        std::fs::write(&path, text(5)).unwrap();
        assert_eq!(watch.look().unwrap().unwrap().replicas, 5);
        assert!(watch.look().is_none());
        std::fs::write(&path, text(500)).unwrap();
        assert!(watch.look().unwrap().unwrap_err().to_string().contains("spec.replicas"));
        std::fs::remove_file(&path).unwrap();
        assert!(watch.look().unwrap().unwrap_err().to_string().contains("does not exist"));
        assert!(watch.look().is_none());
    }
}
