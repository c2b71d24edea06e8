//! The clients: each makes one call after the other, through any node, and asks again when nobody knew.

use crate::faults::FaultKind;
use crate::history::{Answer, Call, Record};
use crate::plan::Plan;
use crate::random::Random;
use crate::world::{Answers, Happening, World};
use bytes::Bytes;
use coequal_node::replication::ServiceError;
use coequal_node::replication::replica::{ClientRead, ClientWrite, Event};
use coequal_protocol::message::{Condition, Operation, OperationKind, Rejection};
use coequal_protocol::session::may_answer;
use coequal_protocol::{Ballot, Held, Key, RequestId};
use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError};

/// How long a client waits for a node beyond the deadline that it gave.
const PATIENCE_US: u64 = 500_000;

/// What one client remembers.
#[derive(Debug, Clone, Default)]
struct Client {
    token: Option<Ballot>,
    seen: BTreeMap<Key, (u64, Ballot)>,
    /// Calls that have not ended: several only in a batch.
    open: usize,
    retry: Option<usize>,
}

/// All clients.
pub struct Clients {
    random: Random,
    batching: Random,
    all: Vec<Client>,
    keys: Vec<Key>,
    begun: usize,
    /// Calls that are let go on by themselves; the end of a schedule makes its own.
    resting: bool,
    pending: BTreeMap<usize, (usize, u64)>,
}

impl Clients {
    /// The clients of a plan.
    pub fn new(plan: &Plan, random: Random) -> Self {
        let keys = (0..plan.documents).map(|number| Key::of("things", &format!("k{number}"))).collect();
        let all = vec![Client::default(); plan.clients];
        let batching = Random::new(plan.seed ^ 0xba7c4);
        Self { random, batching, all, keys, begun: 0, resting: false, pending: BTreeMap::new() }
    }

    /// All documents so far.
    pub fn keys(&self) -> Vec<Key> {
        self.keys.clone()
    }

    /// No call is begun any more.
    pub fn rest(&mut self) {
        self.resting = true;
    }

    /// Whether some call has not ended.
    pub fn is_waiting(&self) -> bool {
        !self.pending.is_empty()
    }
}

impl World {
    /// A client does something, and will do the next thing later.
    pub(crate) fn client_acts(&mut self, client: usize) {
        if self.clients.resting || self.clients.begun >= self.plan.calls {
            return;
        }
        let pause_us = self.clients.random.below(self.plan.faults_us / 10);
        self.schedule(pause_us, Happening::Client(client));
        if self.clients.all[client].open > 0 {
            return;
        }
        self.clients.begun += 1;
        let at = usize::try_from(self.clients.random.below(self.nodes.len() as u64)).unwrap_or(0);
        if let Some(before) = self.clients.all[client].retry.take() {
            let Record { key, call, .. } = self.records[before].clone();
            let first = self.records[before].first(before);
            let call = match call {
                Call::Write { operation, .. } => Call::Write { operation, generated: false },
                other => other,
            };
            self.begin_call(client, at, key, call, Some(first));
            return;
        }
        if self.clients.batching.chance(self.plan.batches) {
            return self.begin_batch(client, at);
        }
        let (key, call) = self.think(client);
        self.begin_call(client, at, key, call, None);
    }

    /// Several writes at once, of one document or of several: each is its own unit.
    fn begin_batch(&mut self, client: usize, at: usize) {
        self.statistics.count(FaultKind::Batch);
        let lines = self.clients.batching.between(2, 5);
        for _ in 0..lines {
            let (key, call) = self.think(client);
            if matches!(call, Call::Write { .. }) {
                self.begin_call(client, at, key, call, None);
            }
        }
    }

    fn think(&mut self, client: usize) -> (Key, Call) {
        let number = self.records.len();
        let clients = &mut self.clients;
        let random = &mut clients.random;
        let which = usize::try_from(random.below(clients.keys.len() as u64)).unwrap_or(0);
        let key = clients.keys[which].clone();
        let known = clients.all[client].seen.get(&key).copied();
        if random.chance(12) {
            return (key, Call::Read);
        }
        if random.chance(15) {
            let token = if random.chance(80) { clients.all[client].token } else { None };
            return (key, Call::LocalRead { token });
        }
        let body = Bytes::from(format!("{{\"call\":{number},\"pad\":\"{}\"}}", "x".repeat(which * 40)));
        let request = random.chance(70).then(|| (RequestId(number as u128 + 1), number as u64));
        if random.chance(8) {
            let key = Key::of("things", &format!("00000000-0000-7000-8000-{number:012}"));
            clients.keys.push(key.clone());
            let operation = Operation { kind: OperationKind::Create(body), condition: Condition::Any, request };
            return (key, Call::Write { operation, generated: true });
        }
        let kind = match random.below(10) {
            0..=3 => OperationKind::Put(body),
            4 | 5 => OperationKind::Create(body),
            6 | 7 => OperationKind::Patch {
                patch: Bytes::from(format!("{{\"call\":{number},\"p{}\":1}}", number % 3)),
                bytes_max: 1 << 20,
            },
            _ => OperationKind::Delete,
        };
        let condition = match (random.below(10), known) {
            (0, _) => Condition::Absent,
            (1, _) => Condition::Present,
            (2 | 3, Some((version, stamp))) => Condition::Revision { version, stamp },
            (4 | 5, Some((version, _))) => Condition::Version(version),
            _ => Condition::Any,
        };
        (key, Call::Write { operation: Operation { kind, condition, request }, generated: false })
    }

    /// Hands a call to a node.
    pub(crate) fn begin_call(
        &mut self,
        client: usize,
        at: usize,
        key: Key,
        call: Call,
        retry_of: Option<usize>,
    ) -> usize {
        let number = self.records.len();
        let node = self.nodes[at].id;
        let began_us = self.now_us;
        let record = Record { client, key: key.clone(), node, call: call.clone(), retry_of, began_us, ended: None };
        self.trace(|| format!("call {number} of client {client} at node {at}: {key:?} {call:?}"));
        self.records.push(record);
        self.statistics.calls += 1;
        self.clients.all[client].open += 1;
        let waits_us = self.clients.random.pick(&[400_000, 1_500_000, 3_000_000]).unwrap_or(1_000_000);
        self.clients.pending.insert(number, (at, self.nodes[at].process));
        if !self.nodes[at].is_up() || self.nodes[at].open().is_none() {
            self.end_call(number, Answer::NotDone("not here".to_owned()));
            return number;
        }
        self.schedule(waits_us + PATIENCE_US, Happening::GiveUp(number));
        match call {
            Call::LocalRead { token } => self.read_locally(number, at, key, token, waits_us),
            Call::Read => self.read(number, at, key, waits_us),
            Call::Write { operation, generated } => {
                let answers = Arc::clone(&self.answers);
                let deadline_ms = self.nodes[at].clock.now(self.now_us).monotonic_ms + waits_us / 1000;
                let reply = Box::new(move |result: Result<_, ServiceError>| {
                    let answer = match result {
                        Ok(coequal_node::replication::service::Written { version, stamp, effect }) => {
                            Answer::Written { version, stamp, effect }
                        }
                        Err(error) => refusal(error),
                    };
                    deliver(&answers, number, answer);
                });
                let write = ClientWrite { key, operation, generated, deadline_ms, reply };
                self.nodes[at].inbox.push(Event::Write(write));
                self.wake(at, 0);
            }
        }
        number
    }

    fn read(&mut self, number: usize, at: usize, key: Key, waits_us: u64) {
        let answers = Arc::clone(&self.answers);
        let deadline_ms = self.nodes[at].clock.now(self.now_us).monotonic_ms + waits_us / 1000;
        let reply = Box::new(move |result: Result<Option<Held>, ServiceError>| {
            deliver(&answers, number, result.map_or_else(refusal, Answer::Found));
        });
        self.nodes[at].inbox.push(Event::Read(ClientRead { key, deadline_ms, reply }));
        self.wake(at, 0);
    }

    /// As a node answers a read with consistency `local`.
    fn read_locally(&mut self, number: usize, at: usize, key: Key, token: Option<Ballot>, waits_us: u64) {
        if self.nodes[at].paused_until_us > self.now_us {
            return;
        }
        let Some(open) = self.nodes[at].open() else { return };
        if !open.replica.view_status().serves_local_reads() {
            return self.end_call(number, Answer::NotDone("not ONLINE".to_owned()));
        }
        match open.store.chosen(&key) {
            Ok(held) if may_answer(held.as_ref(), token) => self.end_call(number, Answer::Found(held)),
            Ok(_) => self.read(number, at, key, waits_us),
            Err(error) => self.end_call(number, Answer::NotDone(error.to_string())),
        }
    }

    /// Answers that replicas gave in the last turn.
    pub(crate) fn take_answers(&mut self) {
        let answers = {
            let mut waiting = self.answers.lock().unwrap_or_else(PoisonError::into_inner);
            if waiting.is_empty() {
                return;
            }
            std::mem::take(&mut *waiting)
        };
        for (number, answer) in answers {
            self.end_call(number, answer);
        }
    }

    /// The process is gone, or its database: whoever waits for it will never know.
    pub(crate) fn fail_calls_at(&mut self, at: usize) {
        // What the replica said before it ended may have left.
        self.take_answers();
        let waiting: Vec<usize> =
            self.clients.pending.iter().filter(|(_, (node, _))| *node == at).map(|(number, _)| *number).collect();
        waiting.into_iter().for_each(|number| self.end_call(number, Answer::Unknown));
    }

    /// A call ends.
    pub(crate) fn end_call(&mut self, number: usize, answer: Answer) {
        if self.clients.pending.remove(&number).is_none() {
            return;
        }
        self.trace(|| format!("call {number} ends: {answer:?}"));
        self.note(&[5, number as u64, self.now_us, answer_number(&answer)]);
        let now_us = self.now_us;
        let record = &mut self.records[number];
        record.ended = Some((now_us, answer.clone()));
        let (key, client) = (record.key.clone(), record.client);
        let is_write = matches!(record.call, Call::Write { .. });
        let has_request = matches!(&record.call, Call::Write { operation, .. } if operation.request.is_some());
        let remembers = &mut self.clients.all[client];
        remembers.open -= 1;
        match &answer {
            Answer::Written { version, stamp, .. } => {
                self.statistics.written += 1;
                remembers.token = remembers.token.max(Some(*stamp));
                remembers.seen.insert(key.clone(), (*version, *stamp));
                let place = self.watch.place_of(&key, *version, *stamp);
                self.watch.acknowledged.entry(key).or_default().push((now_us, place));
            }
            Answer::Found(Some(held)) => {
                let (version, stamp) = (held.revision.version, held.revision.stamp);
                remembers.token = remembers.token.max(Some(stamp));
                remembers.seen.insert(key, (version, stamp));
            }
            Answer::Unknown => {
                self.statistics.unknown += 1;
                if is_write && has_request && self.clients.random.chance(80) {
                    self.clients.all[client].retry = Some(number);
                }
            }
            _ => {}
        }
    }
}

fn deliver(answers: &Answers, number: usize, answer: Answer) {
    answers.lock().unwrap_or_else(PoisonError::into_inner).push((number, answer));
}

fn refusal(error: ServiceError) -> Answer {
    match error {
        ServiceError::Rejected(rejection) => Answer::Rejected(rejection),
        ServiceError::OutcomeUnknown => Answer::Unknown,
        other => Answer::NotDone(other.to_string()),
    }
}

fn answer_number(answer: &Answer) -> u64 {
    match answer {
        Answer::Written { version, stamp, .. } => *version << 8 ^ stamp.time ^ stamp.node.0,
        Answer::Found(held) => held.as_ref().map_or(1, |held| held.revision.version + 2),
        Answer::Rejected(Rejection::NotFound) => 3,
        Answer::Rejected(_) => 4,
        Answer::NotDone(_) => 5,
        Answer::Unknown => 6,
    }
}
