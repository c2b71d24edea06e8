//! What a local read says of its age (G3).

use super::super::database_loop::ReplicaHandle;
use super::super::replica::driven_test::{self, EPOCH};
use super::super::replica::{Replica, ReplicaStart, ReplicaView};
use super::super::service::Consistency;
use super::DatabaseService;
use crate::replication::idle_service;
use crate::storage::{Disk, DiskFile, MemoryDisk, Store, StoreIdentity, StoreSettings};
use coequal_protocol::record::{Change, LogRecord};
use coequal_protocol::{Ballot, Key, Revision};
use coequal_types::{Configuration, DatabaseStatus, NodeId};
use std::fmt::{self, Debug, Formatter};
use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

const ME: NodeId = NodeId(1);
const SETTINGS: StoreSettings = StoreSettings { cache_bytes: 1 << 20, overlay_bytes: 1 << 20 };

type Happening = Box<dyn FnOnce() + Send>;

/// Something that happens once, in the middle of the next read of a file.
#[derive(Clone, Default)]
struct AtNextRead(Arc<Mutex<Option<Happening>>>);

impl AtNextRead {
    fn set(&self, what: impl FnOnce() + Send + 'static) {
        *self.0.lock().unwrap() = Some(Box::new(what));
    }
    fn happens(&self) {
        let what = self.0.lock().unwrap().take();
        if let Some(what) = what {
            what();
        }
    }
}

impl Debug for AtNextRead {
    fn fmt(&self, formatter: &mut Formatter<'_>) -> fmt::Result {
        formatter.write_str("AtNextRead")
    }
}

/// A disk in memory whose reads are such.
#[derive(Debug, Clone, Default)]
struct InterruptedDisk {
    disk: MemoryDisk,
    at_next_read: AtNextRead,
}

#[derive(Debug)]
struct InterruptedFile {
    file: Arc<dyn DiskFile>,
    at_next_read: AtNextRead,
}

impl Disk for InterruptedDisk {
    fn path(&self) -> &Path {
        self.disk.path()
    }
    fn open(&self, name: &str, create: bool) -> io::Result<Arc<dyn DiskFile>> {
        let file = self.disk.open(name, create)?;
        Ok(Arc::new(InterruptedFile { file, at_next_read: self.at_next_read.clone() }))
    }
    fn exists(&self, name: &str) -> io::Result<bool> {
        self.disk.exists(name)
    }
    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.disk.rename(from, to)
    }
    fn remove(&self, name: &str) -> io::Result<()> {
        self.disk.remove(name)
    }
}

impl DiskFile for InterruptedFile {
    fn len(&self) -> io::Result<u64> {
        self.file.len()
    }
    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.at_next_read.happens();
        self.file.read(offset, out)
    }
    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.file.write(offset, data)
    }
    fn set_len(&self, len: u64) -> io::Result<()> {
        self.file.set_len(len)
    }
    fn sync(&self) -> io::Result<()> {
        self.file.sync()
    }
    fn close(&self) -> io::Result<()> {
        self.file.close()
    }
}

fn configuration() -> Configuration {
    driven_test::configuration(EPOCH, 3)
}

fn named(number: u64) -> Key {
    Key::of("things", &format!("{number:05}"))
}

/// A thousand documents, none of them in memory.
fn filled(disk: &InterruptedDisk) -> Store {
    let identity = StoreIdentity { database: configuration().uuid, name: configuration().name };
    let store = Store::create_with(Arc::new(disk.clone()), &identity, &SETTINGS).unwrap();
    for number in 0..1_000 {
        let ballot = Ballot::ordinary(1_740_000_000_000 << 16, NodeId(2), 1);
        let body = Some(bytes::Bytes::from(vec![b' '; 1_000]));
        let revision = Arc::new(Revision { version: 1, stamp: ballot, body, history: Vec::new() });
        let change = Change::Chosen { ballot, feed_sequence: store.next_feed_sequence(), revision: Some(revision) };
        store.append(LogRecord::Register { key: named(number), change }).unwrap();
    }
    store.commit(&store.take_batch().unwrap()).unwrap();
    store.checkpoint().unwrap();
    drop(store);
    Store::open_with(Arc::new(disk.clone()), &SETTINGS).unwrap()
}

/// While the document is read, the node comes to know that it holds all that the others knew: the value that is being
/// read is from before that.
#[tokio::test]
async fn what_becomes_known_while_a_document_is_read_makes_the_answer_no_younger() {
    let disk = InterruptedDisk::default();
    let store = Arc::new(filled(&disk));
    let node = idle_service().await.node;
    let start = ReplicaStart {
        me: ME,
        incarnation: 1,
        store: Arc::clone(&store),
        configuration: configuration(),
        new_disk: false,
        seed: 1,
    };
    let replica = Replica::new(start, node.clock.now());
    let before = ReplicaView { status: DatabaseStatus::Online, fresh_ms: None, ..replica.view() };
    let after = ReplicaView { fresh_ms: Some(node.now_ms()), ..before.clone() };
    let handle = ReplicaHandle::at_rest(store, before);
    let Configuration { name, uuid, .. } = configuration();
    let database = DatabaseService { node, name, uuid, handle: Some(handle.clone()) };
    let deadline = Instant::now() + Duration::from_secs(60);
    let shown = handle.clone();
    disk.at_next_read.set(move || shown.show(after));
    let found = database.read(&named(500), Consistency::Local, None, deadline).await.unwrap().unwrap();
    assert!(handle.view().fresh_ms.is_some(), "the document was not read from the disk");
    assert_eq!((found.linearizable, found.age_ms), (false, None), "when it was read nobody knew how old it may be");
    let again = database.read(&named(500), Consistency::Local, None, deadline).await.unwrap().unwrap();
    assert!(again.age_ms.is_some(), "what is read from then on is as fresh as that");
}
