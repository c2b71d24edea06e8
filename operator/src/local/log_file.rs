//! Logs of the replicas. A replica writes into its file itself, so that it never waits for the supervisor.

use super::error::LocalError;
use std::fs::{File, OpenOptions};
use std::io::{Read as _, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};

/// A log longer than this becomes `.log.1`.
pub const LOG_BYTES_MAX: u64 = 10 << 20;
/// Bytes at the end that are looked at for the last lines.
const TAIL_BYTES: u64 = 16 << 10;

/// The log of one replica.
#[derive(Debug, Clone)]
pub struct LogFile {
    path: PathBuf,
    /// Where the current run of the replica begins.
    run_begins_at: u64,
}

impl LogFile {
    /// A log at this path.
    pub fn new(path: PathBuf) -> Self {
        Self { path, run_begins_at: 0 }
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Two handles for a new run, for its output and its errors. They append, so that a cut works under them.
    pub fn open(&mut self) -> Result<(File, File), LocalError> {
        self.rotate(LOG_BYTES_MAX)?;
        let failed = |error| LocalError::io("open", &self.path, error);
        let file = OpenOptions::new().append(true).create(true).open(&self.path).map_err(failed)?;
        self.run_begins_at = file.metadata().map_err(failed)?.len();
        let second = file.try_clone().map_err(failed)?;
        Ok((file, second))
    }

    /// Keeps one old log once this one has become too long. Lines written during the copy may be lost.
    pub fn rotate(&mut self, longest: u64) -> Result<(), LocalError> {
        let failed = |error| LocalError::io("rotate", &self.path, error);
        let length = std::fs::metadata(&self.path).map_or(0, |metadata| metadata.len());
        if length > longest {
            std::fs::copy(&self.path, self.path.with_extension("log.1")).map_err(failed)?;
            OpenOptions::new().write(true).truncate(true).open(&self.path).map_err(failed)?;
            self.run_begins_at = 0;
        }
        Ok(())
    }

    /// The last lines of the current run; empty if they cannot be read.
    pub fn last_lines(&self, count: usize) -> Vec<String> {
        let read = || -> std::io::Result<Vec<u8>> {
            let mut file = File::open(&self.path)?;
            let length = file.metadata()?.len();
            file.seek(SeekFrom::Start(self.run_begins_at.max(length.saturating_sub(TAIL_BYTES)).min(length)))?;
            let mut bytes = Vec::new();
            file.take(TAIL_BYTES).read_to_end(&mut bytes)?;
            Ok(bytes)
        };
        let bytes = read().unwrap_or_default();
        let text = String::from_utf8_lossy(&bytes);
        let lines: Vec<&str> = text.lines().filter(|line| !line.trim().is_empty()).collect();
        let last = lines.iter().rev().take(count).rev();
        last.map(|line| line.chars().filter(|c| !c.is_control()).take(300).collect()).collect()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)]
mod tests {
    use super::*;
    use std::io::Write as _;

    #[test]
    fn the_last_lines_are_those_of_the_current_run() {
        let directory = tempfile::tempdir().unwrap();
        let mut log = LogFile::new(directory.path().join("a.log"));
        let (mut out, _) = log.open().unwrap();
        writeln!(out, "old").unwrap();
        let (mut out, mut err) = log.open().unwrap();
        assert!(log.last_lines(3).is_empty());
        writeln!(out, "one\ntwo\n").unwrap();
        writeln!(err, "three\u{1b}\nfour").unwrap();
        assert_eq!(log.last_lines(3), ["two", "three", "four"]);
    }

    #[test]
    fn a_long_log_is_cut_under_the_writer_and_one_old_one_is_kept() {
        let directory = tempfile::tempdir().unwrap();
        let mut log = LogFile::new(directory.path().join("a.log"));
        let (mut out, _) = log.open().unwrap();
        writeln!(out, "before, long enough").unwrap();
        log.rotate(10).unwrap();
        writeln!(out, "after").unwrap();
        assert_eq!(std::fs::read_to_string(log.path()).unwrap(), "after\n");
        let old = std::fs::read_to_string(directory.path().join("a.log.1")).unwrap();
        assert_eq!(old, "before, long enough\n");
        assert_eq!(log.last_lines(5), ["after"]);
    }
}
