//! Reading a manifest: the only place that says why a file could not be read.

use crate::controller::validate::Fault;
use std::io::Read as _;
use std::path::Path;

/// Largest manifest, in bytes.
pub(super) const MANIFEST_BYTES_MAX: u64 = 1 << 20;

/// The text of a manifest, or one fault.
pub(super) fn read_manifest(path: &Path) -> Result<String, Fault> {
    let fault = |message: String| Fault::new("", message);
    let name = path.display();
    let metadata = std::fs::metadata(path).map_err(|error| match error.kind() {
        std::io::ErrorKind::NotFound => {
            fault(format!("file {name} does not exist; give the path of a manifest with -f"))
        }
        _ => fault(format!("file {name} cannot be read: {error}")),
    })?;
    if metadata.is_dir() {
        return Err(fault(format!("{name} is a directory; give one manifest file with -f")));
    }
    // A pipe could block for ever, and could not be watched for changes.
    if !metadata.is_file() {
        return Err(fault(format!("{name} is not a regular file; give the path of a manifest with -f")));
    }
    let file = std::fs::File::open(path).map_err(|error| fault(format!("file {name} cannot be read: {error}")))?;
    let mut bytes = Vec::new();
    // One byte more than allowed tells a file that is too large, whatever its metadata say.
    file.take(MANIFEST_BYTES_MAX + 1)
        .read_to_end(&mut bytes)
        .map_err(|error| fault(format!("file {name} cannot be read: {error}")))?;
    if bytes.len() as u64 > MANIFEST_BYTES_MAX {
        return Err(fault(format!(
            "file {name} is larger than 1 MiB, so it is no manifest; give another file with -f"
        )));
    }
    String::from_utf8(bytes).map_err(|error| {
        let at = error.utf8_error().valid_up_to();
        fault(format!("file {name} is not UTF-8 text (byte {at}); save it as UTF-8"))
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_cannot_be_a_manifest_says_why() {
        let directory = tempfile::tempdir().unwrap();
        let missing = read_manifest(&directory.path().join("none.yaml")).unwrap_err();
        assert!(missing.message.contains("none.yaml does not exist"), "{missing}");
        let folder = read_manifest(directory.path()).unwrap_err();
        assert!(folder.message.contains("is a directory"), "{folder}");
        let large = directory.path().join("large.yaml");
        std::fs::write(&large, vec![b'#'; 1 + (1 << 20)]).unwrap();
        assert!(read_manifest(&large).unwrap_err().message.contains("larger than 1 MiB"));
        let binary = directory.path().join("binary.yaml");
        std::fs::write(&binary, b"kind: \xff").unwrap();
        assert!(read_manifest(&binary).unwrap_err().message.contains("not UTF-8 text (byte 6)"));
    }
}
