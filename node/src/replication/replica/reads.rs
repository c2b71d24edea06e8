//! Linearizable reads: one round when a majority agrees, a settling proposal when not (I8).

use super::Replica;
use super::coordinator::settle_operation;
use super::event::{ClientRead, ReadReply};
use super::slot::{Reply, Waiting};
use crate::replication::error::ServiceError;
use coequal_protocol::message::Message;
use coequal_protocol::query::{Query, QueryStep, invariant_answer_is_chosen};
use coequal_protocol::{Ballot, Held, Key, Revision};
use coequal_types::NodeId;
use std::sync::Arc;

const RESEND_MS: u64 = 100;

/// A read under way.
pub(super) struct QueryInFlight {
    key: Key,
    query: Query,
    deadline_ms: u64,
    resend_at_ms: u64,
    reply: Option<ReadReply>,
    settles: bool,
}

/// What a voter holds.
pub(super) struct QueryAnswered {
    pub accepted: Ballot,
    pub chosen: bool,
    pub revision: Option<Arc<Revision>>,
}

impl Replica {
    pub(super) fn on_client_read(&mut self, read: ClientRead) {
        if let Some(reason) = &self.fault {
            let error = ServiceError::Faulty { name: self.configuration.name.clone(), reason: reason.clone() };
            return (read.reply)(Err(error));
        }
        self.start_query(read.key, read.deadline_ms, Some(read.reply), false);
    }

    /// Reads `key` by a quorum so that its chosen state is here (hot alignment, step 5).
    /// False when the store could not be read.
    pub(super) fn settle_for_alignment(&mut self, key: Key) -> bool {
        let deadline_ms = self.now.monotonic_ms + 5_000;
        self.start_query(key, deadline_ms, None, true)
    }

    /// False when the store could not be read; then whoever waits for a reply has one.
    fn start_query(&mut self, key: Key, deadline_ms: u64, reply: Option<ReadReply>, settles: bool) -> bool {
        let Some((register, _)) = self.load(&key) else {
            if let Some(reply) = reply {
                reply(Err(self.refuses_writes().unwrap_or(ServiceError::DiskFull)));
            }
            return false;
        };
        let own = if self.configuration.is_voter(self.me) { register.accepted } else { register.chosen };
        let id = self.id();
        let resend_at_ms = self.now.monotonic_ms + RESEND_MS;
        let query = Query::new(own);
        self.queries.insert(id, QueryInFlight { key, query, deadline_ms, resend_at_ms, reply, settles });
        self.send_query(id);
        true
    }

    fn send_query(&mut self, id: u64) {
        let epoch = self.configuration.epoch;
        let Some(flight) = self.queries.get(&id) else { return };
        let (key, known) = (flight.key.clone(), flight.query.known());
        let answered = flight.query.answered().clone();
        for voter in self.configuration.all_voters() {
            if !answered.contains(&voter) {
                self.send(voter, Message::Query { epoch, key: key.clone(), read: id, known });
            }
        }
    }

    /// A peer can answer now what it refused before.
    pub(super) fn resend_queries_to(&mut self, node: NodeId) {
        let epoch = self.configuration.epoch;
        let waiting: Vec<Message> = self
            .queries
            .iter()
            .filter(|(_, flight)| !flight.query.answered().contains(&node))
            .map(|(read, f)| Message::Query { epoch, key: f.key.clone(), read: *read, known: f.query.known() })
            .collect();
        waiting.into_iter().for_each(|message| self.send(node, message));
    }

    pub(super) fn on_query_answer(&mut self, from: NodeId, epoch: u64, key: &Key, read: u64, answer: QueryAnswered) {
        if !self.is_this_epoch(epoch) {
            return;
        }
        let Some(flight) = self.queries.get_mut(&read).filter(|flight| flight.key == *key) else { return };
        let QueryAnswered { accepted, chosen, revision } = answer;
        let step = flight.query.on_answer(&self.configuration, from, accepted, chosen, revision);
        debug_assert!(invariant_answer_is_chosen(&flight.query, &self.configuration, &step));
        match step {
            QueryStep::Wait => {}
            QueryStep::Done(held) => self.finish_query(read, held),
            QueryStep::Settle => self.settle_query(read),
        }
    }

    fn finish_query(&mut self, id: u64, held: Option<Held>) {
        let Some(flight) = self.queries.remove(&id) else { return };
        let mut is_here = true;
        if let Some(held) = &held {
            self.learn(&flight.key, held.ballot, Some(&held.revision), None);
            // What a full disk did not take is asked for again.
            is_here = self.takes_writes() || self.has_chosen(&flight.key, held.ballot);
        }
        if flight.settles && is_here {
            self.on_alignment_key_settled(&flight.key, id);
        } else if flight.settles {
            self.on_alignment_key_unsettled(&flight.key);
        }
        if let Some(reply) = flight.reply {
            reply(Ok(held));
        }
    }

    fn has_chosen(&mut self, key: &Key, ballot: Ballot) -> bool {
        self.load(key).is_some_and(|(register, _)| register.chosen_ballot() >= ballot)
    }

    /// A majority does not agree yet: a proposal that changes nothing makes it agree.
    fn settle_query(&mut self, id: u64) {
        let Some(flight) = self.queries.remove(&id) else { return };
        let QueryInFlight { key, deadline_ms, reply, settles, .. } = flight;
        let reply = match reply {
            Some(reply) => Reply::Read(reply),
            None => Reply::Nobody,
        };
        // An alignment asks for its key again until a read finds it chosen.
        if settles && !self.on_alignment_key_unsettled(&key) {
            return;
        }
        self.enqueue(key, Waiting { operation: settle_operation(), generated: false, deadline_ms, reply });
    }

    pub(super) fn run_due_queries(&mut self) {
        let now_ms = self.now.monotonic_ms;
        let needed = coequal_protocol::quorum::write_quorum_size(&self.configuration);
        let due: Vec<u64> = self
            .queries
            .iter()
            .filter(|(_, f)| f.deadline_ms.min(f.resend_at_ms) <= now_ms)
            .map(|(id, _)| *id)
            .collect();
        for id in due {
            let Some(flight) = self.queries.get_mut(&id) else { continue };
            if flight.deadline_ms > now_ms {
                flight.resend_at_ms = now_ms + RESEND_MS;
                self.send_query(id);
                continue;
            }
            let Some(flight) = self.queries.remove(&id) else { continue };
            let reached = u32::try_from(flight.query.answered().len()).unwrap_or(u32::MAX);
            if flight.settles {
                self.on_alignment_key_unsettled(&flight.key);
            }
            if let Some(reply) = flight.reply {
                reply(Err(ServiceError::NoQuorum { reached, needed }));
            }
        }
    }

    /// A new epoch: answers of the former one never count (I5).
    pub(super) fn restart_queries(&mut self) {
        let ids: Vec<u64> = self.queries.keys().copied().collect();
        for id in ids {
            let Some(flight) = self.queries.remove(&id) else { continue };
            if flight.settles {
                // Its alignment, or the one in that one's place, asks for the key again, and after its samples: what is
                // asked now may be answered before them, and come after them.
                self.on_alignment_key_unsettled(&flight.key);
            } else {
                self.start_query(flight.key, flight.deadline_ms, flight.reply, false);
            }
        }
    }

    pub(super) fn fail_queries(&mut self, error: &ServiceError) {
        for (_, flight) in std::mem::take(&mut self.queries) {
            if let Some(reply) = flight.reply {
                reply(Err(error.clone()));
            }
        }
    }
}
