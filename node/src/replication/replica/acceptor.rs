//! The acceptor's duties: promise, accept, tell. An answer leaves only when what it says is on disk (I3).

use super::Replica;
use coequal_protocol::faults::{Fault, broken};
use coequal_protocol::message::Message;
use coequal_protocol::promises::Keep;
use coequal_protocol::record::{Change, LogRecord};
use coequal_protocol::register::Answer;
use coequal_protocol::{Ballot, Key, Revision};
use coequal_types::NodeId;
use std::sync::Arc;

impl Replica {
    /// Whether a request of this epoch may be answered, by a disk that forgot nothing; if not, whoever is behind is told.
    fn epoch_agrees(&mut self, from: NodeId, epoch: u64) -> bool {
        if epoch == self.configuration.epoch || broken(Fault::AcceptorIgnoresEpoch) {
            let votes = self.configuration.is_voter(self.me) || broken(Fault::RemovedNodeVotes);
            return votes && self.own_disk.may_vote();
        }
        let (epoch, configuration) = (self.configuration.epoch, self.configuration_json());
        self.send(from, Message::StaleEpoch { epoch, configuration });
        false
    }

    pub(super) fn on_prepare(&mut self, from: NodeId, epoch: u64, key: Key, ballot: Ballot) {
        if self.disk_full || !self.epoch_agrees(from, epoch) {
            return;
        }
        let Some((register, lsn)) = self.load(&key) else { return };
        let (answer, keep) = self.promises.prepare(&self.guard(), &key, &register, ballot);
        self.observe(ballot);
        if from != self.me {
            self.slots.forget_recent(&key);
        }
        if keep != Keep::Nothing {
            self.keep_bound_ahead_of(ballot);
        }
        let gate = match keep {
            Keep::Nothing => Some(lsn),
            Keep::InMemory => self.hold_promise(&key, ballot).then_some(lsn),
            Keep::OnDisk(change) => {
                self.check_change(Some(&change));
                self.append_change(register, key.clone(), change)
            }
        };
        let Some(gate) = gate else { return };
        self.answer(from, gate, key, ballot, answer);
    }

    /// False when the store failed: then nothing was promised, and nothing that was promised before is forgotten.
    fn hold_promise(&mut self, key: &Key, ballot: Ballot) -> bool {
        debug_assert!(broken(Fault::PromiseAboveBound) || ballot.time <= self.promises.bound());
        if let Some((other, promised)) = self.promises.to_write_down(key) {
            let change = Change::Promise { ballot: promised };
            if self.append(LogRecord::Register { key: other.clone(), change }).is_none() {
                return false;
            }
            self.promises.release(&other, promised);
        }
        self.promises.hold(key, ballot);
        true
    }

    pub(super) fn on_accept(&mut self, from: NodeId, epoch: u64, key: Key, ballot: Ballot, revision: &Arc<Revision>) {
        if self.disk_full || !self.epoch_agrees(from, epoch) {
            return;
        }
        self.accepts += 1;
        let Some((register, lsn)) = self.load(&key) else { return };
        let (answer, change) = self.promises.accept(&self.guard(), &key, &register, ballot, revision);
        self.check_change(change.as_ref());
        self.observe(ballot);
        let gate = match change {
            Some(change) => self.append_change(register, key.clone(), change),
            None => Some(lsn),
        };
        let Some(gate) = gate else { return };
        if answer == Answer::Accepted {
            self.promises.release(&key, ballot);
        }
        if broken(Fault::AcceptedIsFed) {
            self.learn(&key, ballot, None, None);
        }
        self.answer(from, gate, key, ballot, answer);
    }

    fn answer(&mut self, to: NodeId, gate: u64, key: Key, ballot: Ballot, answer: Answer) {
        let epoch = self.configuration.epoch;
        match answer {
            Answer::Promised { held, chosen } => {
                self.send_when_durable(to, gate, Message::Promised { epoch, key, ballot, held, chosen });
            }
            Answer::Accepted => self.send_when_durable(to, gate, Message::Accepted { epoch, key, ballot }),
            // A refusal promises nothing, so it need not wait.
            Answer::Refused { promised } => self.send(to, Message::Refused { epoch, key, ballot, promised }),
        }
    }

    pub(super) fn on_query(&mut self, from: NodeId, epoch: u64, key: Key, read: u64, known: Ballot) {
        if !self.epoch_agrees(from, epoch) {
            return;
        }
        let Some((register, lsn)) = self.load(&key) else { return };
        let accepted = register.accepted_ballot();
        let chosen = !register.is_pending();
        let revision = register.accepted.filter(|held| held.ballot > known).map(|held| held.revision);
        // What is answered as accepted must stay accepted after a crash.
        self.send_when_durable(from, lsn, Message::QueryAnswer { epoch, key, read, accepted, chosen, revision });
    }

    /// Follows a peer's clock within bounds.
    pub(super) fn observe(&mut self, ballot: Ballot) {
        let _ = self.clock.observe(ballot.time, self.now.unix_ms);
    }
}
