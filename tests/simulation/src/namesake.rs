//! Another database of the same name, made independently of this one: a machine that is added brings it along, or somebody
//! restores a member's folder from a backup of the wrong cluster.
//!
//! What to do is `protocol::sharing`: nothing is touched, the node says CONFLICT, and goes on when somebody has moved the
//! folder away. The namesake has the same documents, with newer stamps: whoever mixes them in gets other documents.

use crate::history::Violation;
use crate::schedule::wait_until;
use crate::world::disk::Survival;
use crate::world::tombstones::time_at;
use crate::world::{SimDisk, World};
use bytes::Bytes;
use coequal_node::replication::copying::{append_chosen, sign};
use coequal_node::storage::{StorageError, Store, StoreIdentity};
use coequal_protocol::message::ChosenBody;
use coequal_protocol::{Ballot, BallotClass, Effect, HistoryEntry, Key, Revision};
use coequal_types::{Configuration, DatabaseId, DatabaseStatus, NodeId};
use std::sync::Arc;

/// Whose database it is: a node of another cluster.
const STRANGER: NodeId = NodeId(0x5712_a9e6);
const UUID: u128 = 0x0dd_ba11;
/// Its writes are so much younger than all that this cluster writes, in milliseconds.
const YOUNGER_MS: u64 = 3_600_000;
/// Every document was written so often.
const VERSION: u64 = 3;

/// A namesake on a disk.
pub struct Namesake {
    /// Where.
    at: usize,
    /// What it holds.
    holds: Vec<ChosenBody>,
}

impl Namesake {
    /// Whether it is on this machine.
    pub fn is_at(&self, at: usize) -> bool {
        self.at == at
    }
}

impl World {
    /// A new machine asks to be taken in and has a database of this name already.
    pub(crate) fn bring_namesake(&mut self) {
        let at = self.nodes.len();
        self.add_machine();
        if self.nodes.len() > at {
            self.put_namesake(at);
        }
    }

    /// The folder of the database is now that of a namesake. One for each schedule.
    pub(crate) fn put_namesake(&mut self, at: usize) {
        let mut keys = self.clients.keys();
        keys.sort();
        let holds: Vec<ChosenBody> = keys.into_iter().map(|key| self.of_stranger(key)).collect();
        match self.make_namesake(&holds) {
            Ok(disk) => {
                self.nodes[at].volume.folder = Some(disk);
                self.namesake = Some(Namesake { at, holds });
            }
            Err(error) => self.found(Violation::new("an empty store can be made", error.to_string())),
        }
    }

    fn of_stranger(&self, key: Key) -> ChosenBody {
        let now = self.nodes.first().map(|node| node.clock.now(self.now_us).unix_ms).unwrap_or_default();
        let time = time_at(now + YOUNGER_MS);
        let stamp = Ballot { class: BallotClass::Ordinary, time, node: STRANGER, incarnation: 1 };
        let entry = HistoryEntry { stamp, version: VERSION, effect: Effect::Replaced, request: None };
        let body = Some(Bytes::from_static(b"{\"of\":\"another cluster\"}"));
        let revision = Arc::new(Revision { version: VERSION, stamp, body, history: vec![entry] });
        ChosenBody { key, ballot: stamp, revision }
    }

    fn make_namesake(&self, holds: &[ChosenBody]) -> Result<SimDisk, StorageError> {
        let disk = SimDisk::default();
        let uuid = DatabaseId::from_u128(UUID);
        let identity = StoreIdentity { database: uuid, name: self.identity.name.clone() };
        let (id, feed) = ([0xd0; 16], UUID as u64);
        let store = Store::create_as(Arc::new(disk.clone()), &identity, &self.plan.store, id, feed)?;
        for body in holds {
            append_chosen(&store, body.clone())?;
        }
        let alone =
            Configuration { uuid, voters: vec![STRANGER], joined: [(STRANGER, 1)].into(), ..self.plan.configuration() };
        sign(&store, STRANGER, &alone)?;
        Ok(disk)
    }
}

/// After the faults the node says CONFLICT, and nothing was touched; somebody moves the folder away and starts it again.
pub(crate) fn sort_out(world: &mut World) -> Result<(), Violation> {
    let Some(Namesake { at, holds }) = world.namesake.take() else { return Ok(()) };
    let rule = "another database of the same name is a CONFLICT";
    let says_so = wait_until(world, rule, |world| world.nodes[at].status() == DatabaseStatus::Conflict);
    if world.violation.is_some() {
        return Ok(());
    }
    // The worse of the two first.
    nothing_is_mixed_in(world)?;
    says_so?;
    world.crash(at, Survival::All);
    let broken = |text: String| Err(Violation::new("nothing of a namesake is touched", format!("node {at}: {text}")));
    let Some(folder) = world.nodes[at].volume.folder.take() else { return broken("the folder is gone".to_owned()) };
    let held = Store::open_with(Arc::new(folder), &world.plan.store)
        .and_then(|store| Ok((store.identity().database, store.scan(None, b"", usize::MAX, usize::MAX)?)));
    world.trace(|| format!("node {at}: the namesake's folder is moved away"));
    match held {
        Ok((uuid, bodies)) if uuid == DatabaseId::from_u128(UUID) && bodies == holds => Ok(()),
        other => broken(format!("{other:?} and not {holds:?}")),
    }
}

/// G8: no document of this database was ever what the namesake's is.
pub(crate) fn nothing_is_mixed_in(world: &World) -> Result<(), Violation> {
    for (key, versions) in &world.watch.chosen {
        if let Some((place, chosen)) = versions.iter().find(|(_, chosen)| chosen.stamp.node == STRANGER) {
            let text = format!("{key:?}: the state at {place}, {}, is a namesake's", chosen.stamp);
            return Err(Violation::new("G8: two databases with the same name never mix", text));
        }
    }
    Ok(())
}
