//! Changes of format, numbered, one transaction each.

use super::documents::in_transaction;
use super::error::StorageError;
use super::tables::{STATE, state};
use redb::{Database, ReadableDatabase, WriteTransaction};
use std::path::Path;

/// A step from the format before to the format `to`.
pub(super) struct Migration {
    pub(super) to: u32,
    pub(super) run: fn(&WriteTransaction) -> Result<(), redb::Error>,
}

/// All steps, in order. Format 1 is the first. Format 2 has a kind of log record more, for collected tombstones: nothing
/// has to be rewritten, but a program that does not know it must refuse the files. In format 3 the noted clock bounds
/// promises that are nowhere else (`protocol::promises`): a program that takes it for a clock alone would forget them.
pub(super) const ALL: &[Migration] = &[Migration { to: 2, run: |_| Ok(()) }, Migration { to: 3, run: |_| Ok(()) }];

/// Brings a file to the newest format; refuses one that is newer.
pub(super) fn migrate(database: &Database, path: &Path, known: u32, steps: &[Migration]) -> Result<(), StorageError> {
    let found = format_of(database).map_err(|error| StorageError::redb(path, "reading", error))?;
    let found = found.ok_or_else(|| StorageError::damaged(path, "it does not say its format"))?;
    if found == 0 {
        return Err(StorageError::damaged(path, "it has format 0, which no program wrote"));
    }
    if found > known {
        return Err(StorageError::NewerFormat { path: path.to_owned(), found, known });
    }
    for step in steps.iter().filter(|step| step.to > found && step.to <= known) {
        let migrated = in_transaction(database, |transaction| {
            (step.run)(transaction)?;
            transaction.open_table(STATE)?.insert(state::FORMAT, step.to.to_be_bytes().as_slice())?;
            Ok(())
        });
        migrated.map_err(|error| StorageError::redb(path, "migrating", error))?;
    }
    Ok(())
}

fn format_of(database: &Database) -> Result<Option<u32>, redb::Error> {
    let transaction = database.begin_read()?;
    let value = transaction.open_table(STATE)?.get(state::FORMAT)?;
    Ok(value.and_then(|value| value.value().try_into().ok()).map(u32::from_be_bytes))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)]
mod tests {
    use super::*;
    use redb::ReadableTable as _;

    fn database_of_format(format: u32) -> Database {
        let database = redb::Builder::new().create_with_backend(redb::backends::InMemoryBackend::new()).unwrap();
        in_transaction(&database, |transaction| {
            transaction.open_table(STATE)?.insert(state::FORMAT, format.to_be_bytes().as_slice())?;
            Ok(())
        })
        .unwrap();
        database
    }

    fn value_of(database: &Database, name: &[u8]) -> Option<Vec<u8>> {
        let table = database.begin_read().unwrap().open_table(STATE).unwrap();
        table.get(name).unwrap().map(|value| value.value().to_vec())
    }

    const STEPS: &[Migration] = &[
        Migration { to: 2, run: |transaction| append(transaction, b"two") },
        Migration { to: 3, run: |transaction| append(transaction, b"three") },
    ];

    fn append(transaction: &WriteTransaction, word: &[u8]) -> Result<(), redb::Error> {
        let mut table = transaction.open_table(STATE)?;
        let mut all = table.get(b"words".as_slice())?.map(|value| value.value().to_vec()).unwrap_or_default();
        all.extend_from_slice(word);
        table.insert(b"words".as_slice(), all.as_slice())?;
        Ok(())
    }

    #[test]
    fn migrations_run_once_each_and_in_order_from_the_format_found() {
        let path = Path::new("test");
        let database = database_of_format(1);
        migrate(&database, path, 3, STEPS).unwrap();
        migrate(&database, path, 3, STEPS).unwrap();
        assert_eq!(value_of(&database, b"words").unwrap(), b"twothree");
        assert_eq!(format_of(&database).unwrap(), Some(3));
        let database = database_of_format(2);
        migrate(&database, path, 3, STEPS).unwrap();
        assert_eq!(value_of(&database, b"words").unwrap(), b"three");
    }

    #[test]
    fn a_migration_that_fails_changes_nothing() {
        let steps = [Migration {
            to: 2,
            run: |transaction| {
                append(transaction, b"half")?;
                Err(redb::Error::Corrupted("on purpose".to_owned()))
            },
        }];
        let database = database_of_format(1);
        assert!(migrate(&database, Path::new("test"), 2, &steps).is_err());
        assert_eq!(value_of(&database, b"words"), None);
        assert_eq!(format_of(&database).unwrap(), Some(1));
    }

    #[test]
    fn a_format_before_the_first_is_not_taken_for_the_first() {
        let error = migrate(&database_of_format(0), Path::new("test"), 1, ALL).unwrap_err();
        assert!(matches!(error, StorageError::Damaged { .. }) && error.to_string().contains("format 0"), "{error}");
    }

    /// They may have records of collecting (format 2), or rely on the noted clock (format 3).
    #[test]
    fn files_that_this_program_has_opened_are_refused_by_one_that_does_not_know_what_they_may_say() {
        let (path, known) = (Path::new("test"), crate::storage::tables::FORMAT);
        let database = database_of_format(1);
        migrate(&database, path, known, ALL).unwrap();
        assert_eq!(format_of(&database).unwrap(), Some(3));
        for older in 1..known {
            let error = migrate(&database, path, older, &[]).unwrap_err();
            assert!(matches!(error, StorageError::NewerFormat { found: 3, known, .. } if known == older), "{error}");
        }
    }

    #[test]
    fn a_newer_format_is_refused_and_says_which_is_known() {
        let error = migrate(&database_of_format(9), Path::new("test"), 1, ALL).unwrap_err();
        assert!(matches!(error, StorageError::NewerFormat { found: 9, known: 1, .. }), "{error}");
        assert!(error.to_string().contains("use the newer program"), "{error}");
    }
}
