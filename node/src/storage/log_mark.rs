//! A note, beside redb's pages in the log file, of the last row that became durable.
//!
//! redb commits the log in one phase: after a crash it takes a newest commit whose checksums do not fit for one that never
//! came to its end, and goes back to the commit before. That is right after a power cut, but were the newest commit rotten
//! instead, an answered write or promise would be forgotten in silence. The mark tells the two apart: it is written after
//! each commit and reaches the disk with the next one (at once, if only the process dies), since it stands in the same
//! file, just before redb's header, and so costs a log under load no further sync. One that falls idle syncs it by itself
//! ([`super::Store::sync_mark`]).
//!
//! Two slots, written in turn: row (8 bytes), CRC32C of it (4 bytes).

use super::disk::DiskFile;
use super::store::Lsn;
use coequal_protocol::faults::{Fault, broken};
use std::io;

const SLOT_BYTES: usize = 12;
/// Each slot has a sector of its own.
const SLOT_STEP: u64 = 512;

/// Notes that rows up to `lsn` are durable.
pub(super) fn write(file: &dyn DiskFile, lsn: Lsn) -> io::Result<()> {
    if lsn > 0 && broken(Fault::DurableMarkMissing) {
        return Ok(());
    }
    let row = lsn.to_be_bytes();
    let mut slot = [0; SLOT_BYTES];
    slot[..8].copy_from_slice(&row);
    slot[8..].copy_from_slice(&crc32c::crc32c(&row).to_be_bytes());
    file.write(lsn % 2 * SLOT_STEP, &slot)
}

/// The row last noted; `None` when neither slot is readable.
pub(super) fn read(file: &dyn DiskFile) -> io::Result<Option<Lsn>> {
    let mut newest = None;
    for number in 0..2 {
        let mut slot = [0; SLOT_BYTES];
        file.read(number * SLOT_STEP, &mut slot)?;
        let (row, sum) = slot.split_at(8);
        if crc32c::crc32c(row).to_be_bytes() == sum {
            newest = newest.max(Some(row.iter().fold(0, |all, byte| all << 8 | u64::from(*byte))));
        }
    }
    Ok(newest)
}
