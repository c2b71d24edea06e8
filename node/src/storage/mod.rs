//! What a node keeps on disk, and the only place that names redb.
//!
//! A data directory holds one directory per database. A database is two redb files: `log.redb`, where every
//! change is on disk before it is answered, and `documents.redb`, the registers in key order, to which a
//! checkpoint moves what the log has gathered. What is not yet there stands in an overlay in memory. Two files,
//! so that a checkpoint never makes a log append wait.
//!
//! Reading order: [`store`] (the door), [`overlay`] (memory), [`log`] and [`documents`] (the two files),
//! [`checkpoint`], [`scan`], [`tables`] (what the files hold, in words).

mod checkpoint;
mod codec;
mod data_directory;
mod disk;
mod documents;
mod error;
mod feed_counts;
mod header_guard;
mod log;
mod log_mark;
mod memory_disk;
mod migrations;
mod overlay;
mod page_sums;
mod scan;
mod state;
mod store;
mod sweep;
mod tables;

#[cfg(feature = "fuzzing")]
#[doc(hidden)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
pub mod fuzz_test;
#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stdout)]
mod crash_test;
#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stdout)]
mod damage_test;
#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stdout)]
mod disk_full_test;
#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stdout)]
mod store_test;
#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stdout)]
mod sweep_test;

pub use checkpoint::CheckpointReport;
pub use data_directory::DataDirectory;
pub use disk::{Directory, Disk, DiskFile};
pub use error::StorageError;
pub use memory_disk::MemoryDisk;
pub use store::{Batch, Counts, Lsn, Store, StoreIdentity, StoreSettings};
