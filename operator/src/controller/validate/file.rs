//! Reading a manifest: the only place that says why a file could not be read.

use super::fault::Fault;
use std::io::Read as _;
use std::path::Path;

/// Largest manifest, in bytes.
pub const MANIFEST_BYTES_MAX: u64 = 1 << 20;

/// The text of a manifest, or one fault.
pub fn read_manifest(path: &Path) -> Result<String, Fault> {
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
