//! The wall clock of a node's process, moved while it runs.

use crate::preload::Preload;
use std::path::Path;

/// A clock that one process sees, off by what was said last.
#[derive(Debug)]
pub struct Clock(Preload);

impl Clock {
    /// A right clock; its files stand in `folder`.
    pub fn new(folder: &Path, name: &str) -> Self {
        Self(Preload::new(folder, "clock", name, "COEQUAL_TEST_CLOCK"))
    }

    /// Jumps to so many milliseconds before (negative) or after the machine's clock.
    pub fn set(&self, milliseconds: i64) {
        self.0.set(milliseconds * 1_000_000);
    }

    /// What its process is started with.
    pub fn preload(&self) -> &Preload {
        &self.0
    }
}
