//! Small libraries that are loaded into a node's process before its own and change what the machine tells it. Each follows
//! a number in a file, so that a test changes it while the process runs.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A library and the number that it follows.
#[derive(Debug)]
pub struct Preload {
    library: PathBuf,
    number: PathBuf,
    variable: &'static str,
}

impl Preload {
    /// Builds `src/SOURCE.c` into `folder` if it is not there; needs a C compiler, as the crates do. The number is zero, and
    /// the library finds its file by the environment's `variable`.
    pub fn new(folder: &Path, source: &str, name: &str, variable: &'static str) -> Self {
        let library = folder.join(format!("{source}.so"));
        if !library.exists() {
            let source = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("src/{source}.c"));
            let arguments = ["-shared", "-fPIC", "-O1", "-Wall", "-Werror", "-o"];
            let built = Command::new("cc").args(arguments).arg(&library).arg(&source).status().expect("cc runs");
            assert!(built.success(), "{} does not build", source.display());
        }
        let preload = Self { library, number: folder.join(format!("{name}.{source}")), variable };
        preload.set(0);
        preload
    }

    /// From now on the number is this.
    pub fn set(&self, number: i64) {
        // In place: the process has mapped this file.
        let options = std::fs::OpenOptions::new().create(true).write(true).truncate(false).open(&self.number);
        options.and_then(|mut file| file.write_all(&number.to_ne_bytes())).expect("the number is written");
    }

    /// What a process needs in its environment for all of these.
    pub fn environment(all: &[&Self]) -> Vec<(String, String)> {
        let text = |path: &Path| path.to_string_lossy().into_owned();
        let libraries: Vec<String> = all.iter().map(|one| text(&one.library)).collect();
        let numbers = all.iter().map(|one| (one.variable.to_owned(), text(&one.number)));
        std::iter::once(("LD_PRELOAD".to_owned(), libraries.join(":"))).chain(numbers).collect()
    }
}
