//! Every stored table, its key and value in words. Numbers in keys are big-endian, so that order of bytes is order.
//! Keys and values are plain bytes with our own encoding ([`super::codec`]): redb's may change. Neither file is redb's alone:
//! `documents.redb` has checksums between its pages ([`super::page_sums`]), `log.redb` a mark before its first page
//! ([`super::log_mark`]), and redb's header a guard in both ([`super::header_guard`]).

use redb::TableDefinition;

type Table = TableDefinition<'static, &'static [u8], &'static [u8]>;

/// `log.redb`. Key: log sequence number of a commit, 8 bytes. Value: CRC32C (4 bytes, over number and rest), then
/// the version of the encoding, the number of records, the records. One row per commit, without gaps.
pub(super) const LOG: Table = TableDefinition::new("log");

/// `log.redb`. Key: `store` (16 random bytes, the same in both files) or `removed` (8 bytes: rows up to this number
/// were removed after a checkpoint).
pub(super) const LOG_STATE: Table = TableDefinition::new("log_state");

/// `documents.redb`. Key: a document's key (collection, NUL, key). Value: CRC32C (4 bytes, over key and rest), then
/// the register.
pub(super) const REGISTERS: Table = TableDefinition::new("registers");

/// `documents.redb`, the change feed. Key: sequence, 8 bytes. Value: CRC32C (4 bytes, over sequence and rest), then the
/// document's key. Only the newest entry of a document.
pub(super) const FEED: Table = TableDefinition::new("feed");

/// `documents.redb`. Key: a document's key, when something is accepted there that is not known to be chosen.
/// Value: empty.
pub(super) const PENDING: Table = TableDefinition::new("pending");

/// `documents.redb`. Key: a node's identity, 8 bytes. Value: its feed (8 bytes) and the sequence in it (8 bytes) up
/// to which this node has applied it.
pub(super) const CURSORS: Table = TableDefinition::new("cursors");

/// `documents.redb`, small named values of the database itself. Key: the name. Value: as it was given.
pub(super) const META: Table = TableDefinition::new("meta");

/// `documents.redb`, what the store knows of itself. Key: one of the names in [`state`]. Value: see there.
pub(super) const STATE: Table = TableDefinition::new("state");

/// Keys of [`STATE`].
pub(super) mod state {
    /// 4 bytes: format of both files.
    pub(in super::super) const FORMAT: &[u8] = b"format";
    /// 16 random bytes, the same as in `log.redb`.
    pub(in super::super) const STORE: &[u8] = b"store";
    /// 16 bytes: the database's UUID, then its name in UTF-8.
    pub(in super::super) const IDENTITY: &[u8] = b"identity";
    /// 8 bytes: identity of this node's change feed.
    pub(in super::super) const FEED: &[u8] = b"feed";
    /// 8 bytes: how often the store was opened; upper part of the feed's sequences.
    pub(in super::super) const OPENS: &[u8] = b"opens";
    /// 8 bytes: the tables hold everything of the log up to this number.
    pub(in super::super) const CHECKPOINT: &[u8] = b"checkpoint";
    /// 8 and 8 bytes: documents and tombstones of users' collections.
    pub(in super::super) const COUNTS: &[u8] = b"counts";
    /// Pairs of 8 bytes: first sequence of a part of the feed, and its number of entries.
    pub(in super::super) const FEED_COUNTS: &[u8] = b"feed_counts";
}

/// Newest format of a database's files that this program knows.
pub(super) const FORMAT: u32 = 3;
