//! Before it votes, a replica asks the others how far the log of its store was, as they remember (I7); and it remembers
//! the same of theirs. Decisions are `protocol::disk_check`.

use super::Replica;
use coequal_protocol::disk_check::{DiskCheck, Finding, Recollection};
use coequal_protocol::message::Message;
use coequal_protocol::record::{FeedId, LogRecord};
use coequal_types::{Configuration, Incarnation, NodeId};
use std::collections::BTreeMap;

/// A peer whose replica is being opened too does not answer yet.
const ASK_AGAIN_MS: u64 = 50;
/// The rest is asked too, for a word that comes late; nobody waits for it.
const ASK_THE_REST_MS: u64 = 1_000;
/// How often what a peer said is noted down, for after a restart of this node.
const NOTE_EVERY_MS: u64 = 5_000;
/// Log rows that a peer has to be ahead of what is noted of it: on an idle cluster notes of notes would never end.
const NOTE_ROWS: u64 = 32;
const META_RECALLED: &str = "recalled:";

/// What this replica remembers of a peer's store.
#[derive(Default)]
pub(super) struct Remembered {
    newest: Option<Recollection>,
    noted: Recollection,
    note_at_ms: u64,
}

/// The check of this replica's own store.
pub(super) struct OwnDisk {
    check: DiskCheck,
    asked_ms: BTreeMap<NodeId, u64>,
}

impl OwnDisk {
    pub fn new(
        me: NodeId,
        feed: FeedId,
        durable: u64,
        incarnation: Incarnation,
        configuration: &Configuration,
    ) -> Self {
        let own = Recollection { feed, durable, incarnation };
        Self { check: DiskCheck::new(me, own, configuration), asked_ms: BTreeMap::new() }
    }

    /// Whether its answers may count in a quorum.
    pub fn may_vote(&self) -> bool {
        self.check.may_vote()
    }
}

impl Replica {
    /// Asks every voter that is there and has not answered.
    pub(super) fn ask_what_others_recall(&mut self) {
        let now_ms = self.now.monotonic_ms;
        let pause_ms = if self.own_disk.may_vote() { ASK_THE_REST_MS } else { ASK_AGAIN_MS };
        for node in self.own_disk.check.to_ask(&self.configuration) {
            let asked = self.own_disk.asked_ms.get(&node).is_some_and(|asked| now_ms < asked + pause_ms);
            if !asked && self.peers.get(&node).is_some_and(|peer| peer.reachable) {
                self.own_disk.asked_ms.insert(node, now_ms);
                let feed = self.own_disk.check.feed();
                self.send(node, Message::Recall { feed });
            }
        }
    }

    pub(super) fn on_recall(&mut self, from: NodeId, feed: FeedId) {
        let known = self.recollection(from).filter(|known| known.feed == feed).unwrap_or_default();
        let Recollection { durable, incarnation, .. } = known;
        self.send(from, Message::Recalled { feed, durable, incarnation });
    }

    /// Fewer voters may be enough under another configuration.
    pub(super) fn check_disk_again(&mut self) {
        let _ = self.own_disk.check.on_configuration(&self.configuration);
    }

    pub(super) fn on_recalled(&mut self, from: NodeId, recalled: Recollection) {
        self.own_disk.check.note_durable(self.store.durable());
        match self.own_disk.check.on_recalled(from, recalled, &self.configuration) {
            Finding::Nothing => {}
            Finding::MayVote => {
                // What was begun before lacks this node's own vote.
                self.restart_rounds();
                self.restart_queries();
                self.next_tick_ms = self.now.monotonic_ms;
            }
            Finding::UsedTwice { by } => self.fail(format!(
                "another process uses the identity of this node with a copy of this very store: node {by} remembers words                  of it that this process has not said; stop one of the two and give it an empty data directory. This copy                  does not vote; it is put aside and deployed anew"
            )),
            Finding::RolledBack { by, remembered } => {
                let here = self.own_disk.check.durable_at_start();
                self.fail(format!(
                    "the store is older than what this node has told others: its log ends at row {here}, and node {by} \
                     remembers row {remembered}; was the disk or volume restored from an older copy? It does not vote; \
                     it is put aside and deployed anew"
                ));
            }
        }
    }

    /// A peer says how far its log is durable.
    pub(super) fn note_durable(&mut self, from: NodeId, said: Recollection) {
        if said.durable == 0 {
            return;
        }
        let mut newest = self.recollection(from).unwrap_or_default();
        newest.note(said);
        let now_ms = self.now.monotonic_ms;
        let remembered = &mut self.peers.entry(from).or_default().remembered;
        remembered.newest = Some(newest);
        let noted = remembered.noted;
        let due = newest.feed != noted.feed || newest.durable >= noted.durable + NOTE_ROWS;
        if !due || now_ms < remembered.note_at_ms {
            return;
        }
        remembered.noted = newest;
        remembered.note_at_ms = now_ms + NOTE_EVERY_MS;
        let Recollection { feed, durable, incarnation } = newest;
        let value = [&feed.to_be_bytes()[..], &durable.to_be_bytes(), &incarnation.to_be_bytes()].concat();
        self.append(LogRecord::Meta { name: format!("{META_RECALLED}{from}"), value: value.into() });
    }

    fn recollection(&self, of: NodeId) -> Option<Recollection> {
        self.peers.get(&of).and_then(|peer| peer.remembered.newest).or_else(|| {
            let value = self.store.meta(&format!("{META_RECALLED}{of}"))?;
            let (feed, rest) = value.split_first_chunk()?;
            let (durable, rest) = rest.split_first_chunk()?;
            Some(Recollection {
                feed: u64::from_be_bytes(*feed),
                durable: u64::from_be_bytes(*durable),
                incarnation: Incarnation::from_be_bytes(rest.try_into().ok()?),
            })
        })
    }
}
