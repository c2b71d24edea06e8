//! The directory of a node: who it is, and where its databases are.
//!
//! ```text
//! lock            held while a process uses the directory; says which
//! identity.json   format, node, starts, cluster
//! databases/<name>/   one store each
//! staging/<name>/     a copy being received
//! held/<name>         UUID of the database of this name that this node has had a copy of: without that copy it forgot
//! aside/<name>-<n>/   what was put aside, the last two of each name
//! renew           only while it is written: everything goes aside at the next start, and a new node begins
//! ```

use super::disk::sync_directory;
use super::error::StorageError;
use coequal_protocol::faults::{Fault, broken};
use coequal_types::{ClusterId, DatabaseId, DatabaseName, Incarnation, NodeId};
use fs4::fs_std::FileExt as _;
use serde::{Deserialize, Serialize};
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Newest format of the directory that this program knows.
const FORMAT: u32 = 1;
/// How long the lock of a process that was just killed may linger.
const LOCKED_MAX: Duration = Duration::from_secs(2);
/// How many put-aside copies of a database are kept.
const ASIDE_MAX: usize = 2;

const IDENTITY: &str = "identity.json";
const DATABASES: &str = "databases";
const STAGING: &str = "staging";
const HELD: &str = "held";
const ASIDE: &str = "aside";
const RENEW: &str = "renew";

/// A node's directory, used by this process alone.
#[derive(Debug)]
pub struct DataDirectory {
    root: PathBuf,
    identity: Mutex<Identity>,
    /// Locked as long as it is open.
    _lock: File,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Identity {
    format: u32,
    node: NodeId,
    starts: Incarnation,
    cluster: Option<ClusterId>,
}

impl DataDirectory {
    /// Opens or makes the directory, locks it, and counts this start durably.
    pub fn open(path: &Path) -> Result<Self, StorageError> {
        let at = |error| StorageError::io(path, "opening", &error);
        fs::create_dir_all(path).map_err(at)?;
        let lock = lock(path)?;
        for part in [DATABASES, STAGING, HELD, ASIDE] {
            fs::create_dir_all(path.join(part)).map_err(at)?;
        }
        renew_if_noted(path)?;
        let mut identity = match read_identity(path)? {
            Some(identity) => identity,
            None => new_identity(path)?,
        };
        let step = u32::from(!broken(Fault::IncarnationReused));
        identity.starts = identity.starts.checked_add(step).ok_or_else(|| {
            StorageError::damaged(&path.join(IDENTITY), "it says that the node was started 4,294,967,295 times")
        })?;
        write_identity(path, &identity)?;
        Ok(Self { root: path.to_owned(), identity: Mutex::new(identity), _lock: lock })
    }

    /// The node's identity, made with the directory.
    pub fn node(&self) -> NodeId {
        self.identity().node
    }

    /// Which start of the node this is.
    pub fn incarnation(&self) -> Incarnation {
        self.identity().starts
    }

    /// The cluster that the node belongs to.
    pub fn cluster(&self) -> Option<ClusterId> {
        self.identity().cluster
    }

    /// Notes durably that the node belongs to a cluster.
    pub fn set_cluster(&self, cluster: ClusterId) -> Result<(), StorageError> {
        let mut identity = self.identity.lock().unwrap_or_else(PoisonError::into_inner);
        let changed = Identity { cluster: Some(cluster), ..identity.clone() };
        write_identity(&self.root, &changed)?;
        *identity = changed;
        Ok(())
    }

    /// Notes durably that this node's time is over: the next start puts its databases aside and begins a new node.
    pub fn note_renewal(&self) -> Result<(), StorageError> {
        let path = self.root.join(RENEW);
        let at = |error| StorageError::io(&path, "writing", &error);
        File::create(&path).and_then(|file| file.sync_all()).map_err(at)?;
        sync_directory(&self.root).map_err(at)
    }

    /// The directory itself.
    pub fn path(&self) -> &Path {
        &self.root
    }

    /// Names and paths of the databases' directories, in order of name.
    pub fn databases(&self) -> Result<Vec<(String, PathBuf)>, StorageError> {
        list(&self.root.join(DATABASES))
    }

    /// Where a database is, or would be.
    pub fn database_path(&self, name: &DatabaseName) -> PathBuf {
        self.root.join(DATABASES).join(name.as_str())
    }

    /// Where a copy of a database is received.
    pub fn staging_path(&self, name: &DatabaseName) -> PathBuf {
        self.root.join(STAGING).join(name.as_str())
    }

    /// Notes durably, before the copy answers anybody, that this node holds a copy of `database`.
    pub fn note_held(&self, name: &DatabaseName, database: DatabaseId) -> Result<(), StorageError> {
        let path = self.root.join(HELD).join(name.as_str());
        let text = database.to_string();
        if fs::read_to_string(&path).is_ok_and(|known| known == text) {
            return Ok(());
        }
        write_whole(&path, text.as_bytes())
    }

    /// Whether this node has had a copy of `database` that was not put aside since. What cannot be read counts as a yes:
    /// a copy too many is fetched again, a promise forgotten is not made good.
    pub fn has_held(&self, name: &DatabaseName, database: DatabaseId) -> bool {
        match fs::read_to_string(self.root.join(HELD).join(name.as_str())) {
            Ok(text) => text.parse::<DatabaseId>().map_or(true, |known| known == database),
            Err(error) => error.kind() != io::ErrorKind::NotFound,
        }
    }

    /// Puts a database aside, where it disturbs nobody; the last two of a name are kept. Its store must be closed.
    pub fn set_aside(&self, name: &DatabaseName) -> Result<PathBuf, StorageError> {
        set_aside(&self.root, name.as_str())
    }

    /// Puts a received copy in its place. Refused if there is something; the copy's store must be closed.
    pub fn promote_staging(&self, name: &DatabaseName) -> Result<PathBuf, StorageError> {
        let target = self.database_path(name);
        if target.try_exists().map_err(|error| StorageError::io(&target, "looking at", &error))? {
            return Err(StorageError::Exists { path: target });
        }
        move_directory(&self.staging_path(name), &target)?;
        Ok(target)
    }

    /// Throws a received copy away, if there is one.
    pub fn discard_staging(&self, name: &DatabaseName) -> Result<(), StorageError> {
        let path = self.staging_path(name);
        match fs::remove_dir_all(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(StorageError::io(&path, "removing", &error)),
            _ => Ok(()),
        }
    }

    fn identity(&self) -> Identity {
        self.identity.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

fn set_aside(root: &Path, name: &str) -> Result<PathBuf, StorageError> {
    let aside = root.join(ASIDE);
    let mut kept: Vec<(u64, PathBuf)> = Vec::new();
    for (entry, path) in list(&aside)? {
        let number = entry.strip_prefix(name).and_then(|rest| rest.strip_prefix('-'));
        kept.extend(number.and_then(|number| number.parse().ok()).map(|number| (number, path)));
    }
    kept.sort();
    let number = kept.last().map_or(1, |(last, _)| last + 1);
    let target = aside.join(format!("{name}-{number}"));
    move_directory(&root.join(DATABASES).join(name), &target)?;
    remove_if_there(&root.join(HELD).join(name))?;
    // Only now that the newest is safely there.
    for (_, old) in kept.iter().take((kept.len() + 1).saturating_sub(ASIDE_MAX)) {
        fs::remove_dir_all(old).map_err(|error| StorageError::io(old, "removing", &error))?;
    }
    Ok(target)
}

fn move_directory(from: &Path, to: &Path) -> Result<(), StorageError> {
    let moved = fs::rename(from, to).map_err(|error| StorageError::io(from, "moving", &error));
    moved?;
    for directory in [to.parent(), from.parent()].into_iter().flatten() {
        sync_directory(directory).map_err(|error| StorageError::io(directory, "syncing", &error))?;
    }
    Ok(())
}

/// A noted renewal, carried out. After a crash in between it is carried out again: the note goes last.
fn renew_if_noted(root: &Path) -> Result<(), StorageError> {
    let note = root.join(RENEW);
    if !note.try_exists().map_err(|error| StorageError::io(&note, "looking at", &error))? {
        return Ok(());
    }
    for (name, _) in list(&root.join(DATABASES))? {
        set_aside(root, &name)?;
    }
    for path in [root.join(IDENTITY), note] {
        remove_if_there(&path)?;
    }
    Ok(())
}

/// Removes a file durably, if it is there.
fn remove_if_there(path: &Path) -> Result<(), StorageError> {
    match fs::remove_file(path) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(StorageError::io(path, "removing", &error)),
    }
    let directory = path.parent().unwrap_or(path);
    sync_directory(directory).map_err(|error| StorageError::io(directory, "syncing", &error))
}

fn lock(path: &Path) -> Result<File, StorageError> {
    let at = |error| StorageError::io(path, "locking", &error);
    let options = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path.join("lock"));
    let mut file = options.map_err(at)?;
    let deadline = Instant::now() + LOCKED_MAX;
    while !file.try_lock_exclusive().map_err(at)? {
        if Instant::now() >= deadline {
            let mut pid = String::new();
            let read = file.read_to_string(&mut pid);
            let pid = if read.is_ok() && !pid.is_empty() { pid.trim().to_owned() } else { "?".to_owned() };
            return Err(StorageError::Locked { path: path.to_owned(), pid });
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    file.set_len(0).and_then(|()| writeln!(file, "{}", std::process::id())).map_err(at)?;
    Ok(file)
}

fn list(path: &Path) -> Result<Vec<(String, PathBuf)>, StorageError> {
    let at = |error| StorageError::io(path, "listing", &error);
    let mut found = Vec::new();
    for entry in fs::read_dir(path).map_err(at)? {
        let entry = entry.map_err(at)?;
        if entry.file_type().map_err(at)?.is_dir() {
            found.push((entry.file_name().to_string_lossy().into_owned(), entry.path()));
        }
    }
    found.sort();
    Ok(found)
}

fn read_identity(root: &Path) -> Result<Option<Identity>, StorageError> {
    let path = root.join(IDENTITY);
    let text = match fs::read(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(StorageError::io(&path, "reading", &error)),
    };
    let damaged = |what: String| {
        let advice =
            "restore it from a backup of this disk; without it, move the whole directory away and join as a new node";
        StorageError::damaged(&path, format!("{what}; {advice}"))
    };
    let value: serde_json::Value = serde_json::from_slice(&text).map_err(|error| damaged(error.to_string()))?;
    let format = value.get("format").and_then(serde_json::Value::as_u64).and_then(|format| u32::try_from(format).ok());
    match format {
        Some(found) if found > FORMAT => return Err(StorageError::NewerFormat { path, found, known: FORMAT }),
        Some(_) => {}
        None => return Err(damaged("it does not say its format".to_owned())),
    }
    let identity: Identity = serde_json::from_value(value).map_err(|error| damaged(error.to_string()))?;
    if identity.node == NodeId(0) {
        return Err(damaged("it names no node".to_owned()));
    }
    Ok(Some(identity))
}

/// A new node, unless there are databases: then this node has been somebody, and must not forget its promises.
fn new_identity(root: &Path) -> Result<Identity, StorageError> {
    if let Some((name, _)) = list(&root.join(DATABASES))?.first() {
        let what = format!(
            "it is missing, but there are databases ({name} …), so this node has been somebody; restore it from a backup of this disk, or move {DATABASES}/ away to join as a new node"
        );
        return Err(StorageError::damaged(&root.join(IDENTITY), what));
    }
    let mut node = [0; 8];
    getrandom::fill(&mut node)
        .map_err(|error| StorageError::io(root, "opening", &io::Error::other(error.to_string())))?;
    let node = NodeId(u64::from_le_bytes(node).max(1));
    Ok(Identity { format: FORMAT, node, starts: 0, cluster: None })
}

fn write_identity(root: &Path, identity: &Identity) -> Result<(), StorageError> {
    let path = root.join(IDENTITY);
    let mut text = serde_json::to_vec_pretty(identity)
        .map_err(|error| StorageError::io(&path, "writing", &io::Error::other(error)))?;
    text.push(b'\n');
    write_whole(&path, &text)
}

/// The whole new file, or the old one, whatever happens.
fn write_whole(path: &Path, content: &[u8]) -> Result<(), StorageError> {
    let mut temporary = path.as_os_str().to_owned();
    temporary.push(".tmp");
    let temporary = Path::new(&temporary);
    let write = || -> io::Result<()> {
        let mut file = File::create(temporary)?;
        file.write_all(content)?;
        file.sync_all()?;
        fs::rename(temporary, path)?;
        sync_directory(path.parent().unwrap_or(path))
    };
    write().map_err(|error| StorageError::io(path, "writing", &error))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn name(text: &str) -> DatabaseName {
        text.parse().unwrap()
    }

    #[test]
    fn a_node_keeps_its_identity_and_counts_its_starts() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("not/yet/there");
        let first = DataDirectory::open(&path).unwrap();
        let (node, cluster) = (first.node(), ClusterId::from_u128(7));
        assert_ne!(node, NodeId(0));
        assert_eq!((first.incarnation(), first.cluster()), (1, None));
        first.set_cluster(cluster).unwrap();
        drop(first);
        let second = DataDirectory::open(&path).unwrap();
        assert_eq!((second.node(), second.incarnation(), second.cluster()), (node, 2, Some(cluster)));
    }

    #[test]
    fn a_second_process_is_refused_and_told_the_directory_and_the_first_ones_pid() {
        let root = tempfile::tempdir().unwrap();
        let first = DataDirectory::open(root.path()).unwrap();
        let error = DataDirectory::open(root.path()).unwrap_err();
        let pid = std::process::id().to_string();
        assert_eq!(error, StorageError::Locked { path: root.path().to_owned(), pid: pid.clone() });
        assert!(error.to_string().contains(&pid) && error.to_string().contains(root.path().to_str().unwrap()));
        assert_eq!(first.incarnation(), 1);
    }

    #[test]
    fn a_lock_that_is_let_go_soon_is_waited_for() {
        let root = tempfile::tempdir().unwrap();
        let first = DataDirectory::open(root.path()).unwrap();
        let dying = std::thread::spawn(move || {
            std::thread::sleep(Duration::from_millis(300));
            drop(first);
        });
        assert_eq!(DataDirectory::open(root.path()).unwrap().incarnation(), 2);
        dying.join().unwrap();
    }

    #[test]
    fn a_newer_format_a_damaged_and_a_lost_identity_are_told_apart() {
        let root = tempfile::tempdir().unwrap();
        let file = root.path().join(IDENTITY);
        drop(DataDirectory::open(root.path()).unwrap());
        let good = fs::read_to_string(&file).unwrap();
        fs::write(&file, good.replace("\"format\": 1", "\"format\": 7")).unwrap();
        let error = DataDirectory::open(root.path()).unwrap_err();
        assert_eq!(error, StorageError::NewerFormat { path: file.clone(), found: 7, known: 1 });
        for bad in
            ["", "{", "{}", "{\"format\":1}", &good[..good.len() / 2], &good.replace("\"node\": \"", "\"node\": \"x")]
        {
            fs::write(&file, bad).unwrap();
            let error = DataDirectory::open(root.path()).unwrap_err();
            assert!(matches!(&error, StorageError::Damaged { path, .. } if *path == file), "{error}");
            assert!(error.to_string().contains("restore it"), "{error}");
        }
        fs::remove_file(&file).unwrap();
        drop(DataDirectory::open(root.path()).unwrap());
        fs::remove_file(&file).unwrap();
        fs::create_dir(root.path().join("databases/orders")).unwrap();
        let error = DataDirectory::open(root.path()).unwrap_err().to_string();
        assert!(error.contains("is missing") && error.contains("orders"), "{error}");
        assert!(!file.exists());
    }

    #[test]
    fn a_renewed_directory_is_that_of_a_new_node_with_the_old_data_aside() {
        let root = tempfile::tempdir().unwrap();
        let before = {
            let directory = DataDirectory::open(root.path()).unwrap();
            directory.set_cluster(ClusterId::from_u128(7)).unwrap();
            fs::create_dir_all(directory.database_path(&name("a"))).unwrap();
            directory.note_renewal().unwrap();
            directory.node()
        };
        for _ in 0..2 {
            let directory = DataDirectory::open(root.path()).unwrap();
            assert_ne!(directory.node(), before);
            assert_eq!((directory.cluster(), directory.databases().unwrap()), (None, Vec::new()));
            assert!(root.path().join("aside/a-1").exists() && !root.path().join("aside/a-2").exists());
        }
    }

    #[test]
    fn what_was_held_is_known_until_it_is_put_aside() {
        let root = tempfile::tempdir().unwrap();
        let (orders, one, two) = (name("orders"), DatabaseId::from_u128(1), DatabaseId::from_u128(2));
        let directory = DataDirectory::open(root.path()).unwrap();
        assert!(!directory.has_held(&orders, one));
        directory.note_held(&orders, one).unwrap();
        directory.note_held(&orders, one).unwrap();
        fs::create_dir(directory.database_path(&orders)).unwrap();
        drop(directory);
        let directory = DataDirectory::open(root.path()).unwrap();
        assert!(directory.has_held(&orders, one) && !directory.has_held(&orders, two));
        assert!(!directory.has_held(&name("b"), one));
        fs::write(root.path().join("held/orders"), "no uuid").unwrap();
        assert!(directory.has_held(&orders, one), "in doubt it was held");
        directory.note_held(&orders, one).unwrap();
        directory.set_aside(&orders).unwrap();
        assert!(!directory.has_held(&orders, one));
        directory.note_held(&orders, two).unwrap();
        assert!(directory.has_held(&orders, two));
    }

    #[test]
    fn putting_aside_keeps_the_last_two_of_each_name() {
        let root = tempfile::tempdir().unwrap();
        let directory = DataDirectory::open(root.path()).unwrap();
        for round in 1..=4 {
            for database in ["a", "a-1"] {
                fs::create_dir(directory.database_path(&name(database))).unwrap();
                fs::write(directory.database_path(&name(database)).join("round"), round.to_string()).unwrap();
                directory.set_aside(&name(database)).unwrap();
            }
        }
        let left: Vec<String> = list(&root.path().join(ASIDE)).unwrap().into_iter().map(|(name, _)| name).collect();
        assert_eq!(left, ["a-1-3", "a-1-4", "a-3", "a-4"]);
        assert_eq!(fs::read_to_string(root.path().join("aside/a-4/round")).unwrap(), "4");
        assert!(directory.databases().unwrap().is_empty());
        assert!(matches!(directory.set_aside(&name("a")), Err(StorageError::Missing { .. })));
    }

    #[test]
    fn a_staged_copy_takes_its_place_only_where_there_is_none() {
        let root = tempfile::tempdir().unwrap();
        let directory = DataDirectory::open(root.path()).unwrap();
        let (orders, system) = (name("orders"), DatabaseName::system());
        fs::create_dir_all(directory.staging_path(&orders)).unwrap();
        let promoted = directory.promote_staging(&orders).unwrap();
        assert_eq!(directory.databases().unwrap(), [("orders".to_owned(), promoted.clone())]);
        fs::create_dir_all(directory.staging_path(&orders)).unwrap();
        assert_eq!(directory.promote_staging(&orders).unwrap_err(), StorageError::Exists { path: promoted });
        directory.discard_staging(&orders).unwrap();
        directory.discard_staging(&orders).unwrap();
        assert!(!directory.staging_path(&orders).exists());
        assert!(directory.database_path(&system).ends_with("databases/_system"));
    }

    #[test]
    fn a_file_in_its_place_is_named_with_ways_out() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("file");
        fs::write(&path, "").unwrap();
        let error = DataDirectory::open(&path).unwrap_err().to_string();
        assert!(error.contains(&format!("{} is a file", path.display())) && error.contains("--data"), "{error}");
    }

    #[test]
    fn a_place_that_cannot_be_written_is_named() {
        let root = tempfile::tempdir().unwrap();
        let file = root.path().join("file");
        fs::write(&file, "").unwrap();
        let error = DataDirectory::open(&file.join("data")).unwrap_err();
        assert!(error.to_string().contains("file/data"), "{error}");
        let read_only = Path::new("/sys/coequal-test");
        let error = DataDirectory::open(read_only).unwrap_err();
        assert_eq!(error, StorageError::ReadOnly { path: read_only.to_owned() });
    }
}
