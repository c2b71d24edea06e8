//! One supervisor for one data directory.

use super::error::LocalError;
use fs4::fs_std::FileExt as _;
use std::fs::{File, OpenOptions};
use std::io::{Read as _, Seek as _, Write as _};
use std::path::Path;

/// Held as long as the supervisor runs; the kernel gives it back even if the supervisor is killed.
#[derive(Debug)]
pub struct Lock {
    file: File,
    /// Whether the last holder did not end in order, so that its replicas may still be on their way out.
    pub left_behind: bool,
}

impl Lock {
    /// Takes the lock, or says who has it.
    pub fn take(directory: &Path) -> Result<Self, LocalError> {
        let path = directory.join("lock");
        let failed = |error| LocalError::io("open", &path, error);
        let mut file =
            OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&path).map_err(failed)?;
        let taken = file.try_lock_exclusive().map_err(failed)?;
        let mut holder = String::new();
        (&file).take(32).read_to_string(&mut holder).map_err(failed)?;
        let holder = holder.trim().to_owned();
        if !taken {
            let pid = if holder.is_empty() { "unknown".to_owned() } else { holder };
            return Err(LocalError::InUse { directory: directory.to_owned(), pid });
        }
        file.set_len(0).map_err(failed)?;
        file.rewind().map_err(failed)?;
        writeln!(file, "{}", std::process::id()).map_err(failed)?;
        Ok(Self { file, left_behind: !holder.is_empty() })
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        // An empty file tells the next holder that this one ended in order; failing to say so costs it a moment.
        let _ = self.file.set_len(0);
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)]
mod tests {
    use super::*;

    #[test]
    fn a_second_holder_is_refused_and_told_the_pid() {
        let directory = tempfile::tempdir().unwrap();
        let first = Lock::take(directory.path()).unwrap();
        assert!(!first.left_behind);
        let error = Lock::take(directory.path()).unwrap_err().to_string();
        assert!(error.contains(&format!("process {}", std::process::id())), "{error}");
        drop(first);
        assert!(!Lock::take(directory.path()).unwrap().left_behind);
    }

    #[test]
    fn a_holder_that_was_killed_is_noticed() {
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join("lock"), "4711\n").unwrap();
        assert!(Lock::take(directory.path()).unwrap().left_behind);
    }
}
