//! Registers: how they are loaded and changed, and those at hand that were lately. A write loads its document's register
//! several times within milliseconds (promise, accept, learn, and once more when a peer's feed names it); only the first
//! time the store is asked.

use super::Replica;
use crate::storage::Lsn;
use coequal_protocol::record::{Change, LogRecord};
use coequal_protocol::{Key, Register};
use std::collections::HashMap;

/// Registers of each of two generations, and the largest body among them: together at most 8 MiB, mostly shared with the
/// store's own memory.
const GENERATION: usize = 2_048;
const BODY_MAX: usize = 2_048;

/// The registers, each with the log row that touched it last.
#[derive(Default)]
pub(super) struct Loaded {
    young: HashMap<Key, (Register, Lsn)>,
    old: HashMap<Key, (Register, Lsn)>,
}

impl Loaded {
    pub fn get(&self, key: &Key) -> Option<&(Register, Lsn)> {
        self.young.get(key).or_else(|| self.old.get(key))
    }

    /// This is what the store has of `key` now.
    pub fn put(&mut self, key: &Key, register: Register, lsn: Lsn) {
        let bodies = register.accepted.iter().chain(&register.chosen).filter_map(|held| held.revision.body.as_ref());
        if bodies.map(bytes::Bytes::len).max().unwrap_or(0) > BODY_MAX {
            return self.forget(key);
        }
        if self.young.len() >= GENERATION {
            self.old = std::mem::take(&mut self.young);
        }
        self.young.insert(key.clone(), (register, lsn));
    }

    /// The store has something else of `key` now.
    pub fn forget(&mut self, key: &Key) {
        self.young.remove(key);
        self.old.remove(key);
    }
}

impl Replica {
    /// Records a change.
    pub(super) fn append(&mut self, record: LogRecord) -> Option<Lsn> {
        if let LogRecord::Register { key, .. } = &record {
            self.loaded.forget(key);
        }
        self.stored(self.store.append(record))
    }

    /// Records a change of a register that was loaded just before, with nothing recorded for it in between.
    pub(super) fn append_change(&mut self, loaded: Register, key: Key, change: Change) -> Option<Lsn> {
        let mut changed = loaded.clone();
        changed.apply(&change);
        let name = key.clone();
        let lsn = self.append_read(loaded, key, change)?;
        self.loaded.put(&name, changed, lsn);
        Some(lsn)
    }

    /// Records a change of a register that was just read with [`Replica::read`]: nobody is about to ask for it again.
    pub(super) fn append_read(&mut self, read: Register, key: Key, change: Change) -> Option<Lsn> {
        self.loaded.forget(&key);
        self.stored(self.store.append_to(Some(read), LogRecord::Register { key, change }))
    }

    /// A register without what is collected, as [`Replica::load`] gives it, but it does not stay at hand for that.
    pub(super) fn read(&mut self, key: &Key) -> Option<Register> {
        let found = match self.loaded.get(key) {
            Some(found) => found.clone(),
            None => self.stored(self.store.register(key))?,
        };
        self.clear(key, found).map(|(register, _)| register)
    }

    /// A register, and the log row that touched it last, without what is collected.
    pub(super) fn load(&mut self, key: &Key) -> Option<(Register, Lsn)> {
        let found = match self.loaded.get(key) {
            Some(found) => found.clone(),
            None => {
                let (register, lsn) = self.stored(self.store.register(key))?;
                self.loaded.put(key, register.clone(), lsn);
                (register, lsn)
            }
        };
        self.clear(key, found)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use coequal_protocol::{Ballot, Held, Revision};
    use coequal_types::NodeId;
    use std::sync::Arc;

    fn key(number: usize) -> Key {
        Key::of("things", &number.to_string())
    }

    fn of_size(bytes: usize) -> Register {
        let ballot = Ballot::ordinary(1, NodeId(1), 1);
        let body = Some(Bytes::from(vec![b' '; bytes]));
        let revision = Arc::new(Revision { version: 1, stamp: ballot, body, history: Vec::new() });
        Register { accepted: Some(Held { ballot, revision }), ..Register::default() }
    }

    #[test]
    fn the_newest_are_kept_and_no_more_than_two_generations() {
        let mut loaded = Loaded::default();
        (0..=2 * GENERATION).for_each(|number| loaded.put(&key(number), Register::default(), number as u64));
        assert!(loaded.young.len() + loaded.old.len() <= 2 * GENERATION);
        assert!(loaded.get(&key(0)).is_none());
        assert_eq!(loaded.get(&key(2 * GENERATION)).unwrap().1, 2 * GENERATION as u64);
        assert_eq!(loaded.get(&key(GENERATION)).unwrap().1, GENERATION as u64);
    }

    #[test]
    fn a_register_that_is_too_large_or_forgotten_is_not_there_in_an_older_form() {
        let mut loaded = Loaded::default();
        loaded.put(&key(1), of_size(BODY_MAX), 1);
        loaded.put(&key(1), of_size(BODY_MAX + 1), 2);
        assert!(loaded.get(&key(1)).is_none());
        loaded.put(&key(2), of_size(1), 1);
        loaded.old = std::mem::take(&mut loaded.young);
        loaded.put(&key(2), of_size(2), 2);
        assert_eq!(loaded.get(&key(2)).unwrap().1, 2);
        loaded.forget(&key(2));
        assert!(loaded.get(&key(2)).is_none());
    }
}
