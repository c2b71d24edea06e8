//! The world of one schedule: machines, network and time, one event after the other. Nothing in it looks at a real
//! clock or draws chance from anywhere but the seed.
//!
//! Reading order: clocks, disks and network; the node; its database's loop; what gives the database its place; the
//! node's own loop.

pub mod clock;
pub mod disk;
pub mod network;
pub mod node;
mod replica_loop;
mod keeper;
mod caretaker;
pub mod tombstones;

pub use caretaker::Directory;
pub use disk::SimDisk;

use crate::double::Double;
use crate::faults::{Fault, FaultKind};
use crate::history::{Answer, Record, Violation};
use crate::namesake::Namesake;
use crate::plan::Plan;
use crate::random::{Random, mix};
use crate::recovery::Forced;
use crate::report::Statistics;
use crate::watch::Watch;
use crate::workload::Clients;
use coequal_node::replication::replica::Event;
use coequal_node::storage::StoreIdentity;
use coequal_protocol::Key;
use coequal_types::{Configuration, NodeId};
use disk::Survival;
use network::{Network, Packet, Payload};
use node::SimNode;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};

/// What happens next.
pub enum Happening {
    /// A packet arrives.
    Packet(usize, Box<Packet>),
    /// A process that stood still reads what came meanwhile. What a process has not read is gone with it.
    Unread {
        /// Where.
        node: usize,
        /// In which process.
        process: u64,
        /// What.
        packet: Box<Packet>,
    },
    /// The database's loop runs.
    Loop {
        /// Where.
        node: usize,
        /// In which process.
        process: u64,
    },
    /// The node's loop runs.
    Tick {
        /// Where.
        node: usize,
        /// In which process.
        process: u64,
    },
    /// The database's place is looked at.
    Keep {
        /// Where.
        node: usize,
        /// In which process.
        process: u64,
    },
    /// A batch reaches the disk.
    Committed {
        /// Where.
        node: usize,
        /// In which process.
        process: u64,
    },
    /// What the register of configurations held a moment ago.
    Directory {
        /// Where.
        node: usize,
        /// In which process.
        process: u64,
        /// What.
        directory: Arc<Directory>,
    },
    /// A client thinks of something to do.
    Client(usize),
    /// A client waits no longer for a call.
    GiveUp(usize),
    /// A fault begins.
    Fault(Fault),
    /// A fault ends.
    End(Fault),
    /// A machine is switched on.
    Start(usize),
    /// A node is asked to compare its copy with the others'.
    Compare(usize),
}

/// A disk that is not slow has written a batch within this.
const COMMIT_US: u64 = 500;

/// Answers of replicas, on their way to the clients.
pub type Answers = Arc<Mutex<Vec<(usize, Answer)>>>;

/// A schedule that runs.
pub struct World {
    /// What it is made of.
    pub plan: Plan,
    /// Microseconds since it began.
    pub now_us: u64,
    /// All chance.
    pub random: Random,
    queue: BTreeMap<(u64, u64), Happening>,
    scheduled: u64,
    /// The machines.
    pub nodes: Vec<SimNode>,
    /// The ways between them.
    pub network: Network,
    /// The cluster's own register.
    pub directory: Arc<Directory>,
    /// Whose database it is.
    pub identity: StoreIdentity,
    /// The clients.
    pub clients: Clients,
    /// What they did.
    pub records: Vec<Record>,
    /// Answers that no client has yet.
    pub answers: Answers,
    /// What was seen of the truth.
    pub watch: Watch,
    /// Counts.
    pub statistics: Statistics,
    /// The first promise that was broken.
    pub violation: Option<Violation>,
    /// The last fault that took something from a disk.
    pub damaged: Option<FaultKind>,
    /// Nodes that it befell, or one before it.
    pub damaged_nodes: BTreeSet<usize>,
    /// A peer that was asked has forgotten what a node had told it that now has an older disk.
    pub rollback_forgotten: bool,
    /// The other database of the same name, once it is on a disk here.
    pub namesake: Option<Namesake>,
    /// The machine that there is twice, once it is.
    pub double: Option<Double>,
    /// The low bound stays where it is.
    pub bound_rests: bool,
    /// Machines that are lost for good, as far as the others know.
    pub lost: BTreeSet<usize>,
    /// The forced recovery, from its beginning on.
    pub forced: Option<Forced>,
    processes: u64,
    hash: u64,
    touched: Vec<Key>,
    tracing: bool,
}

impl Drop for World {
    /// The world ends at once: no store tidies up.
    fn drop(&mut self) {
        for node in &self.nodes {
            node.volume.folder.iter().chain(&node.volume.staging).for_each(SimDisk::cut_off);
        }
    }
}

impl World {
    /// The world of this plan, with all machines off.
    pub fn new(plan: Plan, nodes: Vec<SimNode>, configuration: Configuration, tracing: bool) -> Self {
        let mut random = Random::new(plan.seed);
        let network = Network::new(random.fork());
        let clients = Clients::new(&plan, random.fork());
        let identity = StoreIdentity { database: configuration.uuid, name: configuration.name.clone() };
        let entries = nodes.iter().map(|node| crate::plan::entry(node.id)).collect();
        Self {
            plan,
            now_us: 0,
            random,
            queue: BTreeMap::new(),
            scheduled: 0,
            nodes,
            network,
            directory: Arc::new(Directory { configuration, entries }),
            identity,
            clients,
            records: Vec::new(),
            answers: Answers::default(),
            watch: Watch::default(),
            statistics: Statistics::default(),
            violation: None,
            damaged: None,
            damaged_nodes: BTreeSet::new(),
            rollback_forgotten: false,
            namesake: None,
            double: None,
            bound_rests: false,
            lost: BTreeSet::new(),
            forced: None,
            processes: 0,
            hash: 0,
            touched: Vec::new(),
            tracing,
        }
    }

    /// Everything that happened, in one number.
    pub fn hash(&self) -> u64 {
        self.hash
    }

    /// Takes something into the hash of what happened.
    pub fn note(&mut self, numbers: &[u64]) {
        for number in numbers {
            self.hash = mix(self.hash ^ *number).wrapping_add(1);
        }
    }

    /// Tells what happens, if somebody wants to know.
    pub fn trace(&self, text: impl FnOnce() -> String) {
        if self.tracing {
            crate::report::say(&format!("{:>12.6} {}", self.now_us as f64 / 1e6, text()));
        }
    }

    /// A promise was broken; the first one counts.
    pub fn found(&mut self, violation: Violation) {
        if self.violation.is_none() {
            self.trace(|| format!("VIOLATION {violation}"));
            self.violation = Some(violation);
        }
    }

    /// Something happens after so many microseconds.
    pub fn schedule(&mut self, after_us: u64, happening: Happening) {
        self.schedule_at(self.now_us + after_us, happening);
    }

    fn schedule_at(&mut self, at_us: u64, happening: Happening) {
        self.scheduled += 1;
        self.queue.insert((at_us, self.scheduled), happening);
    }

    /// The machine of a node.
    pub fn index_of(&self, id: NodeId) -> Option<usize> {
        self.nodes.iter().position(|node| node.id == id)
    }

    /// Lets everything happen up to a time, or until a promise is broken.
    pub fn run_until(&mut self, until_us: u64) {
        while self.violation.is_none()
            && let Some(entry) = self.queue.first_entry()
        {
            if entry.key().0 > until_us {
                break;
            }
            let ((at_us, _), happening) = entry.remove_entry();
            self.now_us = at_us;
            self.statistics.events += 1;
            self.happen(happening);
            self.take_answers();
        }
        self.now_us = self.now_us.max(until_us);
    }

    fn happen(&mut self, happening: Happening) {
        match happening {
            Happening::Packet(at, packet) => self.arrive(at, *packet),
            Happening::Unread { node, process, packet } if self.nodes[node].process == process => {
                self.arrive(node, *packet);
            }
            Happening::Unread { .. } => {}
            Happening::Loop { node, process } => self.on_loop(node, process),
            Happening::Tick { node, process } => self.on_tick(node, process),
            Happening::Keep { node, process } if self.nodes[node].process == process => self.keep(node),
            Happening::Keep { .. } => {}
            Happening::Committed { node, process } => self.on_committed(node, process),
            Happening::Directory { node, process, directory } => self.on_directory(node, process, &directory),
            Happening::Client(client) => self.client_acts(client),
            Happening::GiveUp(call) => self.end_call(call, Answer::Unknown),
            Happening::Fault(fault) => self.begin_fault(fault),
            Happening::End(fault) => self.end_fault(fault),
            Happening::Start(at) => self.start(at),
            Happening::Compare(at) => self.compare(at),
        }
    }

    fn arrive(&mut self, at: usize, packet: Packet) {
        // Late packets of a former start are told from those of a copy by nobody.
        let lenient = self.plan.late_starts && self.double.is_none();
        let node = &mut self.nodes[at];
        if !node.is_up() || node.silent {
            return;
        }
        if node.paused_until_us > self.now_us {
            let left = node.paused_until_us - self.now_us + 1;
            let process = node.process;
            return self.schedule(left, Happening::Unread { node: at, process, packet: Box::new(packet) });
        }
        if !node.admits(&packet, lenient) {
            return self.refuse(packet.process);
        }
        self.note(&[1, at as u64, packet.from.0, self.now_us]);
        if let Payload::Message(message) = &packet.payload {
            self.nodes[at].met.insert(packet.from, packet.process);
            self.trace(|| format!("{} -> node {at}: {message:?}", packet.from.0));
        }
        self.on_packet(at, packet);
    }

    /// A node says something.
    pub(crate) fn send(&mut self, at: usize, to: NodeId, payload: Payload) {
        if self.nodes[at].silent {
            return;
        }
        if let Payload::Message(message) = &payload {
            self.watch_recalled(at, to, message);
            self.watch_lost_says(at, to, message);
        }
        let node = &self.nodes[at];
        let packet = Packet { from: node.id, incarnation: node.volume.incarnation, process: node.process, to, payload };
        self.statistics.packets += 1;
        self.dispatch(packet);
    }

    /// Puts a packet on its way.
    pub fn dispatch(&mut self, packet: Packet) {
        let Some(to) = self.reached(&packet) else { return };
        for delay_us in self.network.arrivals(&packet) {
            self.schedule(delay_us, Happening::Packet(to, Box::new(packet.clone())));
        }
    }

    /// Switches a machine on.
    pub fn start(&mut self, at: usize) {
        if self.nodes[at].is_up() || self.nodes[at].gone {
            return;
        }
        self.processes += 1;
        let process = self.processes;
        // Who was given up knows the others by its own disk.
        let given_up = self.lost.contains(&at);
        let entries = self.directory.entries.iter().filter(|entry| given_up || !entry.removed).cloned().collect();
        let node = &mut self.nodes[at];
        node.process = process;
        node.volume.incarnation += 1;
        node.volume.staging = None;
        node.entries = entries;
        self.trace(|| format!("node {at} starts"));
        self.note(&[2, at as u64, self.now_us]);
        self.open_own(at);
        self.keep(at);
        self.nodes[at].opened = None;
        let delay_us = self.random.below(50_000);
        self.schedule(delay_us, Happening::Tick { node: at, process });
    }

    /// Asks a node to compare its copy with the others'; one that does not serve refuses.
    pub fn compare(&mut self, at: usize) {
        let node = &mut self.nodes[at];
        if node.open().is_some() {
            node.inbox.push(Event::Compare(None));
            self.statistics.count(FaultKind::Comparison);
            self.wake(at, 0);
        }
    }

    /// The process ends without a word. What was not synced survives as `survival` says.
    pub fn crash(&mut self, at: usize, survival: Survival) {
        if !self.nodes[at].is_up() {
            return;
        }
        self.trace(|| format!("node {at} ends ({survival:?})"));
        self.note(&[3, at as u64, self.now_us]);
        let process = self.nodes[at].process;
        let node = &mut self.nodes[at];
        // A store that is dropped would still tidy up its file, which a process that is gone does not.
        node.volume.folder = node.volume.folder.take().map(|folder| {
            let image = folder.image(survival);
            folder.cut_off();
            image
        });
        node.volume.staging.take().iter().for_each(SimDisk::cut_off);
        node.forget();
        self.fail_calls_at(at);
        self.watch_forget(at);
        self.connections_end(at, process);
        if !self.nodes[at].gone {
            let down_us = self.plan.down_us(&mut self.random);
            self.schedule(down_us, Happening::Start(at));
        }
    }

    /// The peers' connections break, which most of them notice at once.
    pub(crate) fn connections_end(&mut self, at: usize, process: u64) {
        let id = self.nodes[at].id;
        for other in 0..self.nodes.len() {
            let now_ms = self.nodes[other].clock.now(self.now_us).monotonic_ms;
            let is_peer = other != at && self.nodes[other].is_up() && self.knows_process(other, id, process);
            if is_peer && self.random.chance(70) {
                self.nodes[other].detector.disconnected(id, now_ms);
            }
        }
    }

    /// A machine that stands still goes on now, with all that waits for the end of its pause; a batch that a slow disk
    /// still writes is there in a moment. A full disk is tried again when the node does so: at once, if it was due already.
    pub fn resume(&mut self, at: usize) {
        let now_us = self.now_us;
        let node = &mut self.nodes[at];
        let paused_us = std::mem::take(&mut node.paused_until_us);
        node.slow_us = 0;
        node.loop_at_us = if node.loop_at_us == paused_us { now_us } else { node.loop_at_us };
        let waits_for_space = node.open().is_some_and(|open| open.full);
        let late = |((due_us, _), happening): (&(u64, u64), &Happening)| match happening {
            Happening::Unread { node, .. } | Happening::Tick { node, .. } | Happening::Loop { node, .. } => {
                *node == at && (paused_us..=paused_us + 1).contains(due_us)
            }
            Happening::Committed { node, .. } => {
                *node == at && (!waits_for_space || (paused_us..=paused_us + 1).contains(due_us))
            }
            _ => false,
        };
        let late: Vec<(u64, u64)> =
            self.queue.iter().filter(|entry| late(*entry)).map(|(due, _)| *due).filter(|due| due.0 > now_us).collect();
        for due in late {
            if let Some(happening) = self.queue.remove(&due) {
                self.schedule((due.0 - now_us).min(COMMIT_US), happening);
            }
        }
    }

    /// The machine leaves for good.
    pub fn stop_for_good(&mut self, at: usize) {
        self.nodes[at].gone = true;
        self.crash(at, Survival::All);
    }
}
