//! The noted time: on disk, ahead of the clock. It keeps the clock from going back across restarts, and is the bound of the
//! promises that are kept in memory (`protocol::promises`).

use super::{META_CLOCK, Replica};
use crate::storage::{Lsn, Store};
use coequal_protocol::promises::Promises;
use coequal_protocol::{Ballot, LogRecord};
use std::collections::VecDeque;

/// How far ahead of the clock the noted time is: two seconds. By no more does a restart put the clock forward.
const CLOCK_AHEAD: u64 = 2_000 << 16;

/// What was noted in this start of the replica.
#[derive(Default)]
pub(super) struct Noted {
    newest: u64,
    /// Notes that are on their way to the disk.
    under_way: VecDeque<(Lsn, u64)>,
}

impl Noted {
    /// What a former start noted last, 0 if nothing.
    pub fn before(store: &Store) -> u64 {
        store.meta(META_CLOCK).and_then(|b| b.as_ref().try_into().ok().map(u64::from_be_bytes)).unwrap_or(0)
    }

    /// The log is on disk up to `lsn`.
    pub fn on_durable(&mut self, lsn: Lsn, promises: &mut Promises) {
        while let Some((_, time)) = self.under_way.pop_front_if(|(at, _)| *at <= lsn) {
            promises.raise_bound(time);
        }
    }
}

impl Replica {
    /// Writes down a time that the clock has not reached yet, before it does, so that it never goes back across a
    /// restart, whatever happens to the physical clock meanwhile.
    pub(super) fn note_clock(&mut self) {
        if self.clock.last() >= self.noted.newest && !self.disk_full {
            self.note_time();
        }
    }

    /// The noted time is the bound of promises in memory as well: where there are any, it is moved before they come to it.
    /// A ballot that the clock does not follow moves nothing.
    pub(super) fn keep_bound_ahead_of(&mut self, ballot: Ballot) {
        if ballot.time <= self.clock.last() && ballot.time.saturating_add(CLOCK_AHEAD / 2) > self.noted.newest {
            self.note_time();
        }
    }

    fn note_time(&mut self) {
        self.noted.newest = self.clock.last() + CLOCK_AHEAD;
        let value = bytes::Bytes::copy_from_slice(&self.noted.newest.to_be_bytes());
        if let Some(lsn) = self.append(LogRecord::Meta { name: META_CLOCK.to_owned(), value }) {
            self.noted.under_way.push_back((lsn, self.noted.newest));
        }
    }
}
