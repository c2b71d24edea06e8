//! Moves what the log has gathered into the documents file, and lets the log forget it.
//!
//! ```text
//! active ──freeze──> frozen ──one transaction──> documents.redb ──> frozen dropped ──> log rows removed by later commits
//! ```
//!
//! The frozen overlay ends at a border between log rows, and is written only when that border is durable in the log: else
//! the documents file would know more than the log after a crash. Neither appends, commits nor reads wait for it.

use super::error::StorageError;
use super::state::Frozen;
use super::store::{Lsn, Store, lock};
use coequal_protocol::faults::{Fault, broken};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

/// What a checkpoint did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CheckpointReport {
    /// Nothing was new.
    Nothing,
    /// It is prepared and waits for this log row to be durable; call again then.
    Waiting {
        /// The last log row that it takes in.
        until: Lsn,
    },
    /// The documents file holds everything up to `lsn`.
    Written {
        /// The last log row in it.
        lsn: Lsn,
        /// Registers written.
        registers: usize,
        /// Time it took.
        took: Duration,
    },
}

/// Log rows between two checkpoints at most; each costs a little when the store is opened.
const LOG_ROWS_MAX: u64 = 200_000;

impl Store {
    /// Size of the overlay against its setting, 1.0 when it is reached; also the log's against its own bound. Above 2.0
    /// the caller should take writes more slowly.
    pub fn overlay_pressure(&self) -> f32 {
        let live = self.live();
        let (frozen_bytes, frozen_log) =
            live.frozen.as_ref().map_or((0, 0), |frozen| (frozen.overlay.bytes, frozen.log_bytes));
        let setting = self.settings.overlay_bytes.max(1) as f32;
        let overlay = (live.active.bytes + frozen_bytes) as f32 / setting;
        let log = (live.log_bytes + frozen_log) as f32 / (2.0 * setting);
        overlay.max(log)
    }

    /// Whether [`Store::checkpoint`] has something to do now.
    pub fn checkpoint_due(&self) -> bool {
        let live = self.live();
        let setting = self.settings.overlay_bytes.max(1) as u64;
        match &live.frozen {
            Some(frozen) => frozen.lsn <= self.durable(),
            None => {
                live.active.bytes as u64 >= setting
                    || live.log_bytes >= 2 * setting
                    || live.open_lsn - live.checkpoint_lsn > LOG_ROWS_MAX
            }
        }
    }

    /// Makes a checkpoint; blocks while it writes, and only its caller. After [`StorageError::DiskFull`] it may be called
    /// again later.
    pub fn checkpoint(&self) -> Result<CheckpointReport, StorageError> {
        let _one_at_a_time = lock(&self.checkpointing);
        self.check()?;
        let began = Instant::now();
        let Some(frozen) = self.freeze() else { return Ok(CheckpointReport::Nothing) };
        if frozen.lsn > self.durable() && !broken(Fault::CheckpointAheadOfLog) {
            return Ok(CheckpointReport::Waiting { until: frozen.lsn });
        }
        if broken(Fault::CheckpointTrimsEarly) {
            self.superfluous.store(frozen.lsn, Ordering::Release);
        }
        if let Err(error) = self.documents.write_frozen(&frozen) {
            if broken(Fault::OverlayLost) {
                self.live_mut().frozen = None;
            }
            let error = self.fail_unless_full(error);
            if error.is_disk_full() {
                // Reads need the file; if it cannot be opened yet, the next read or checkpoint tries again.
                let _ = self.documents.open_again();
            }
            return Err(error);
        }
        let mut live = self.live_mut();
        live.frozen = None;
        live.checkpoints += 1;
        live.checkpoint_lsn = frozen.lsn;
        drop(live);
        self.superfluous.store(frozen.lsn, Ordering::Release);
        let registers = frozen.overlay.entries.len();
        Ok(CheckpointReport::Written { lsn: frozen.lsn, registers, took: began.elapsed() })
    }

    /// The overlay to be written: the one that waits, or else the active one from now on.
    fn freeze(&self) -> Option<Arc<Frozen>> {
        let mut live = self.live_mut();
        if live.frozen.is_none() && !live.freeze() {
            return None;
        }
        live.frozen.clone()
    }
}
