//! What the database's loop of a node does, one turn at a time: events in, effects out, commits that end later,
//! checkpoints. It follows `database_loop` step by step, without its threads.

use super::disk::Survival;
use super::network::Payload;
use super::node::{CrashPoint, Open, Place};
use super::{Happening, World};
use crate::faults::FaultKind;
use crate::random::mix;
use coequal_node::replication::replica::Event;
use coequal_node::storage::StorageError;
use coequal_protocol::{Key, Message};
use coequal_types::DatabaseStatus;
use std::sync::Arc;

/// Records that nobody waits for go to the disk after this long at the latest.
const LAZY_COMMIT_MS: u64 = 25;
const DISK_FULL_RETRY_US: u64 = 500_000;
const READINGS_MAX: usize = 4_096;

/// Documents that an event is about.
fn keys_of(event: &Event, into: &mut Vec<Key>) {
    match event {
        Event::Write(write) => into.push(write.key.clone()),
        Event::Read(read) => into.push(read.key.clone()),
        Event::Peer { message, .. } => match message {
            Message::Prepare { key, .. }
            | Message::Promised { key, .. }
            | Message::Accept { key, .. }
            | Message::Accepted { key, .. }
            | Message::Refused { key, .. }
            | Message::Query { key, .. }
            | Message::QueryAnswer { key, .. }
            | Message::Forward { key, .. } => into.push(key.clone()),
            Message::FeedBatch { entries, .. } => into.extend(entries.iter().map(|entry| entry.key.clone())),
            Message::Bodies { bodies } => into.extend(bodies.iter().map(|body| body.key.clone())),
            _ => {}
        },
        _ => {}
    }
}

impl World {
    /// Makes the loop of a node run after `after_us`, or earlier if it was to run earlier.
    pub(crate) fn wake(&mut self, at: usize, after_us: u64) {
        let node = &mut self.nodes[at];
        let due = (self.now_us + after_us).max(node.paused_until_us);
        if node.is_up() && due < node.loop_at_us {
            node.loop_at_us = due;
            let process = node.process;
            self.schedule_at(due, Happening::Loop { node: at, process });
        }
    }

    pub(super) fn on_loop(&mut self, at: usize, process: u64) {
        let node = &mut self.nodes[at];
        if node.process != process || node.loop_at_us > self.now_us {
            return;
        }
        node.loop_at_us = u64::MAX;
        if node.paused_until_us > self.now_us {
            let left = node.paused_until_us - self.now_us;
            return self.wake(at, left);
        }
        let inbox = std::mem::take(&mut node.inbox);
        self.turn(at, inbox);
    }

    /// One turn of the loop.
    fn turn(&mut self, at: usize, events: Vec<Event>) {
        let now = self.nodes[at].clock.now(self.now_us);
        let now_us = self.now_us;
        let mut cut = mix(now_us ^ self.plan.seed);
        let Some(open) = self.nodes[at].open_mut() else { return };
        let mut touched = std::mem::take(&mut self.touched);
        touched.clear();
        events.iter().for_each(|event| keys_of(event, &mut touched));
        // A voter whose own disk is the last that a quorum waited for chooses now, and no event names the document.
        if events.iter().any(|event| matches!(event, Event::Durable(_))) {
            touched = self.clients.keys();
        }
        for event in events {
            open.told.hears(&event);
            open.replica.handle(now, event);
            cut = mix(cut);
            if open.wanted && cut.is_multiple_of(4) {
                open.wanted = false;
                open.committing = open.store.take_batch();
            }
        }
        open.replica.advance(now);
        open.readings.push_back((now.monotonic_ms, now_us));
        if open.readings.len() > READINGS_MAX {
            open.readings.pop_front();
        }
        self.watch_turn(at, &touched);
        self.touched = touched;
        if self.nodes[at].is_cut_off(CrashPoint::BeforeEffects) {
            return self.crash(at, Survival::All);
        }
        self.flush(at);
        self.commit(at);
        self.checkpoint(at);
        let node = &self.nodes[at];
        let Some(open) = node.open() else { return };
        let due = node.clock.until_us(self.now_us, open.replica.next_due_ms());
        let lazy = if open.committing.is_none() && !open.wanted { LAZY_COMMIT_MS * 1000 } else { u64::MAX };
        self.wake(at, due.min(lazy).max(50));
    }

    fn flush(&mut self, at: usize) {
        let Some(open) = self.nodes[at].open_mut() else { return };
        let effects = open.replica.take_effects();
        for (from, to) in &effects.status_changes {
            self.on_status(at, *from, *to);
        }
        for (to, message) in effects.sends {
            self.send(at, to, Payload::Message(message));
        }
        self.nodes[at].open_mut().into_iter().for_each(|open| open.told.turn_ends());
    }

    fn commit(&mut self, at: usize) {
        let now_ms = self.nodes[at].clock.now(self.now_us).monotonic_ms;
        let late_batches = self.plan.late_batches;
        let Some(open) = self.nodes[at].open_mut() else { return };
        if open.committing.is_some() || open.wanted || open.replica.view_status() == DatabaseStatus::Faulty {
            return;
        }
        let due = open.replica.waits_for_durability() || now_ms.saturating_sub(open.committed_ms) >= LAZY_COMMIT_MS;
        if !due {
            return;
        }
        if open.store.gathered().1 == 0 {
            return self.log_is_idle(at);
        }
        open.wanted = late_batches;
        if !late_batches {
            open.committing = open.store.take_batch();
        }
        if self.nodes[at].is_cut_off(CrashPoint::AfterTake) {
            return self.crash(at, Survival::All);
        }
        let latency = 100 + self.random.below(400) + self.random.below(self.nodes[at].slow_us + 1);
        let process = self.nodes[at].process;
        self.schedule(latency, Happening::Committed { node: at, process });
    }

    fn log_is_idle(&mut self, at: usize) {
        let Some(store) = self.nodes[at].open().map(|open| Arc::clone(&open.store)) else { return };
        let Err(error) = store.sync_mark() else {
            self.nodes[at].marked = Some((store.feed_id(), store.durable()));
            return;
        };
        if self.disk_is_dead(at) {
            return self.cut_power(at);
        }
        self.statistics.count(FaultKind::StoreFailed);
        self.nodes[at].inbox.push(Event::StorageFailed(error.to_string()));
        self.wake(at, 0);
    }

    /// A batch reaches the disk, or not.
    pub(super) fn on_committed(&mut self, at: usize, process: u64) {
        let node = &mut self.nodes[at];
        if node.process != process {
            return;
        }
        if node.paused_until_us > self.now_us {
            let left = node.paused_until_us - self.now_us;
            return self.schedule(left, Happening::Committed { node: at, process });
        }
        if node.is_cut_off(CrashPoint::InCommit)
            && let Some(folder) = &node.volume.folder
        {
            folder.fail_sync_after(self.random.below(2), true);
        }
        let now_ms = node.clock.now(self.now_us).monotonic_ms;
        let Some(open) = node.open_mut() else { return };
        if std::mem::take(&mut open.wanted) {
            open.committing = open.store.take_batch();
        }
        let Some(batch) = open.committing.take() else { return };
        self.statistics.commits += 1;
        let marked = (open.store.feed_id(), open.store.durable());
        let committed = open.store.commit(&batch);
        if committed.is_ok() {
            // The mark of the batch before went to the disk with this one.
            node.marked = Some(marked);
        }
        let Some(open) = node.open_mut() else { return };
        let events = match committed {
            Ok(()) => {
                open.committed_ms = now_ms;
                let mut events = if std::mem::take(&mut open.full) { vec![Event::DiskFull(false)] } else { vec![] };
                events.push(Event::Durable(batch.last));
                events
            }
            Err(StorageError::DiskFull { .. }) => {
                open.committing = Some(batch);
                open.full = true;
                self.schedule(DISK_FULL_RETRY_US, Happening::Committed { node: at, process });
                vec![Event::DiskFull(true)]
            }
            Err(_) if self.disk_is_dead(at) => return self.cut_power(at),
            Err(error) => {
                self.statistics.count(FaultKind::StoreFailed);
                vec![Event::StorageFailed(error.to_string())]
            }
        };
        if self.disk_is_dead(at) {
            return self.cut_power(at);
        }
        if self.nodes[at].is_cut_off(CrashPoint::AfterCommit) {
            return self.crash(at, Survival::All);
        }
        self.turn(at, events);
    }

    fn disk_is_dead(&self, at: usize) -> bool {
        self.nodes[at].volume.folder.as_ref().is_some_and(super::SimDisk::is_dead)
    }

    /// The power ends in the middle of a sync.
    fn cut_power(&mut self, at: usize) {
        let survival = Survival::Some(self.random.number());
        self.statistics.count(FaultKind::TornWrite);
        self.crash(at, survival);
    }

    fn checkpoint(&mut self, at: usize) {
        let now_and_then = self.random.below(1_000) == 0;
        let Place::Open(open) = &self.nodes[at].place else { return };
        let Open { store, replica, .. } = &**open;
        if replica.view_status() == DatabaseStatus::Faulty || !(now_and_then || store.checkpoint_due()) {
            return;
        }
        let ended = store.checkpoint();
        self.statistics.checkpoints +=
            u64::from(matches!(ended, Ok(coequal_node::storage::CheckpointReport::Written { .. })));
        if self.disk_is_dead(at) {
            self.cut_power(at);
        }
    }
}
