//! Answers to other nodes' comparisons. Each is one short read of bounded size, and promises nothing.

use super::Replica;
use coequal_protocol::Key;
use coequal_protocol::message::{ChosenBody, Compare, Message};
use coequal_protocol::range_comparison::{KEYS_MAX, LIST_ENTRIES_MAX, RANGE_ENTRIES, Range, answer_range};
use coequal_types::NodeId;

/// More than the asker reads for a range: documents that grew must not cut the answer short.
const ANSWER_BYTES_MAX: usize = 1 << 20;
/// Revisions for a repair travel in messages of about this size.
const BODIES_BYTES_MAX: usize = 1 << 20;
/// Entries read beyond what an asker holds in a range at most: to see its end, and a few that the asker lacks.
const ENTRIES_BEYOND: usize = 8;

impl Replica {
    /// A word of another node's comparison, or an answer to this node's.
    pub(super) fn on_compare(&mut self, from: NodeId, message: Compare) {
        // Only voters drain each other's feeds; between others the rules of comparison mean nothing.
        if !self.compares() || !self.configuration.is_voter(from) {
            return;
        }
        match message {
            Compare::Range { comparison, step, range } => self.answer_range(from, (comparison, step), &range),
            Compare::Keys { comparison, step, keys } => self.answer_keys(from, (comparison, step), &keys),
            Compare::Fetch { comparison, step, keys } => {
                if let Some(bodies) = self.compared_bodies(keys) {
                    self.send(from, Message::Compare(Compare::Fetched { comparison, step, bodies }));
                }
            }
            Compare::Repair { bodies } => self.on_repair(from, &bodies),
            Compare::Doubt { keys } => self.on_doubt(from, keys),
            Compare::KeysAnswer { comparison, entries, .. } if self.is_verdict(comparison) => {
                self.on_verdict_answer(from, comparison, entries);
            }
            Compare::RangeAnswer { .. } | Compare::KeysAnswer { .. } | Compare::Fetched { .. } => {
                self.on_compare_answer(from, message);
            }
        }
    }

    fn answer_range(&mut self, from: NodeId, (comparison, step): (u64, u64), range: &Range) {
        let entries_max = (RANGE_ENTRIES + ENTRIES_BEYOND).min(LIST_ENTRIES_MAX);
        let Some((own, cut)) = self.own_digests(range.after.as_ref(), entries_max, ANSWER_BYTES_MAX) else { return };
        // After the reading: what was read is in the feed up to here.
        let (feed, head) = (self.store.feed_id(), self.store.feed_head());
        let answer = answer_range(range, own, cut, self.compared_above());
        self.send(from, Message::Compare(Compare::RangeAnswer { comparison, step, feed, head, answer }));
    }

    fn answer_keys(&mut self, from: NodeId, (comparison, step): (u64, u64), keys: &[Key]) {
        // Whose own copy is in doubt answers for nobody.
        if self.is_doomed() && from != self.me {
            return;
        }
        let keys = keys.get(..KEYS_MAX.min(keys.len())).unwrap_or_default();
        let Some(held) = self.held_digests(keys) else { return };
        let entries = held.into_values().collect();
        self.send(from, Message::Compare(Compare::KeysAnswer { comparison, step, entries }));
    }

    /// What is chosen here of these documents, as much as a message of a comparison holds.
    pub(super) fn compared_bodies(&mut self, keys: Vec<Key>) -> Option<Vec<ChosenBody>> {
        self.chosen_bodies(keys.into_iter().take(KEYS_MAX), BODIES_BYTES_MAX)
    }

    /// Another node found that this one silently lacks chosen revisions.
    fn on_repair(&mut self, from: NodeId, bodies: &[ChosenBody]) {
        if self.disk_full {
            return;
        }
        let before = self.effects.learned;
        for body in bodies {
            self.learn_compared(body, false);
        }
        if bodies.iter().any(|body| self.is_stale_copy(&body.key, body.ballot)) {
            // Only a quorum can tell a loss here from a late copy of what was collected: this node's own comparison asks it.
            let _ = self.begin_comparison();
        }
        let learned = self.effects.learned - before;
        if learned > 0 {
            self.comparing.totals.received += learned;
            let name = &self.configuration.name;
            tracing::warn!(database = %name, learned, %from, "another node's comparison found this copy silently behind; repaired");
        }
    }

    /// Merged by ballot like what comes by a feed, and like that refused where it may be a late copy of what was collected
    /// here, unless this node knows from a quorum that it is not.
    pub(super) fn learn_compared(&mut self, body: &ChosenBody, held_by_quorum: bool) {
        if !held_by_quorum && self.is_stale_copy(&body.key, body.ballot) {
            return;
        }
        self.observe(body.ballot);
        self.slots.forget_recent_below(&body.key, body.ballot);
        self.learn(&body.key, body.ballot, Some(&body.revision), None);
    }
}
