//! The wall clock of a node's process, moved while it runs.

use std::path::{Path, PathBuf};
use std::process::Command;

/// A clock that one process sees, off by what was said last.
#[derive(Debug)]
pub struct Clock {
    library: PathBuf,
    offset: PathBuf,
}

impl Clock {
    /// A right clock; its files stand in `folder`. Builds what is preloaded, so it needs a C compiler, as the crates do.
    pub fn new(folder: &Path, name: &str) -> Self {
        let library = folder.join("clock.so");
        if !library.exists() {
            let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/clock.c");
            let arguments = ["-shared", "-fPIC", "-O1", "-Wall", "-Werror", "-o"];
            let built = Command::new("cc").args(arguments).arg(&library).arg(source).status().expect("cc runs");
            assert!(built.success(), "clock.c does not build");
        }
        let clock = Self { library, offset: folder.join(format!("{name}.clock")) };
        clock.set(0);
        clock
    }

    /// Jumps to so many milliseconds before (negative) or after the machine's clock.
    pub fn set(&self, milliseconds: i64) {
        // In place: the process has mapped this file.
        use std::io::Write as _;
        let options = std::fs::OpenOptions::new().create(true).write(true).truncate(false).open(&self.offset);
        let bytes = (milliseconds * 1_000_000).to_ne_bytes();
        options.and_then(|mut file| file.write_all(&bytes)).expect("the clock is set");
    }

    /// What the process needs in its environment.
    pub fn environment(&self) -> Vec<(String, String)> {
        let path = |path: &Path| path.to_string_lossy().into_owned();
        vec![("LD_PRELOAD".to_owned(), path(&self.library)), ("COEQUAL_TEST_CLOCK".to_owned(), path(&self.offset))]
    }
}
