//! Where the programs are that the tests start.

use std::path::PathBuf;

/// A program: from `COEQUAL_BIN_DIR` (set by `tests/run`), else the newest build in `target`.
pub fn program(name: &str) -> PathBuf {
    if let Some(directory) = std::env::var_os("COEQUAL_BIN_DIR") {
        return PathBuf::from(directory).join(name);
    }
    let target = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../target");
    let built = ["release", "tested", "debug"].map(|profile| target.join(profile).join(name));
    let newest = built
        .into_iter()
        .filter(|path| path.exists())
        .max_by_key(|path| path.metadata().and_then(|metadata| metadata.modified()).unwrap_or(std::time::UNIX_EPOCH));
    newest.unwrap_or_else(|| panic!("{name} is not built; run `cargo build --release --bins` first"))
}

/// Root of the project.
pub fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("..").canonicalize().expect("the project's root")
}
