//! The supervisor: one loop takes in what happened, decides, and acts. Nothing in it waits for a replica.

use super::data::DataDirectory;
use super::error::LocalError;
use super::log_file::{LOG_BYTES_MAX, LogFile};
use super::look::keep_looking;
use super::manifest::{ManifestWatch, Reading};
use super::node::LocalNode;
use super::process::{Program, ReplicaArguments, described};
use super::screen::Screen;
use super::steps::Pace;
use super::{ports, summary};
use crate::controller::decisions::{Step, next_step, undeclared};
use crate::controller::observed::{Beginning, Observed};
use crate::controller::validate::ValidatedDatabaseCluster;
use crate::nodes::{self, ClientError, Look, NodeClient};
use coequal_types::{DatabaseName, NodeName};
use std::collections::{BTreeMap, BTreeSet};
use std::process::ExitStatus;
use std::time::{Duration, Instant};
use tokio::sync::mpsc;

/// Time between two looks at the manifest and two frames.
const TICK: Duration = Duration::from_millis(300);
/// Ticks between two looks at the lengths of the logs.
const TICKS_BETWEEN_ROTATIONS: u64 = 20;
/// More steps than this in one go would be a fault of the decisions; the next tick goes on.
const STEPS_AT_ONCE_MAX: usize = 300;
/// Lines of a replica's log that are shown when it fails.
const LOG_LINES_SHOWN: usize = 6;

/// What the tasks around the loop report. Each replica has one look and one end under way at most.
enum Message {
    Looked { ordinal: u32, generation: u64, look: Box<Look> },
    Ended { ordinal: u32, generation: u64, status: std::io::Result<ExitStatus> },
    Asked { step: Step, result: Result<(), ClientError> },
}

/// What the user asked for by a signal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StopRequest {
    /// Stop every replica in order; the second time at once.
    Stop,
}

/// Everything that runs.
pub struct Supervisor {
    wish: ValidatedDatabaseCluster,
    data: DataDirectory,
    nodes: BTreeMap<u32, LocalNode>,
    program: Program,
    first_port: Option<u16>,
    block: Option<ports::Block>,
    http: reqwest::Client,
    sender: mpsc::UnboundedSender<Message>,
    inbox: mpsc::UnboundedReceiver<Message>,
    pace: Pace,
    waiting_for: Option<String>,
    undeclared: BTreeSet<DatabaseName>,
    was_all_online: bool,
    has_shown_how: bool,
    stop_requests: u32,
    screen: Screen,
}

impl Supervisor {
    /// Ready to run; nothing is started yet.
    pub fn new(
        wish: ValidatedDatabaseCluster,
        data: DataDirectory,
        program: Program,
        first_port: Option<u16>,
        http: reqwest::Client,
    ) -> Result<Self, LocalError> {
        let (sender, inbox) = mpsc::unbounded_channel();
        let mut supervisor = Self {
            wish,
            data,
            nodes: BTreeMap::new(),
            program,
            first_port,
            block: None,
            http,
            sender,
            inbox,
            pace: Pace::new(Instant::now()),
            waiting_for: None,
            undeclared: BTreeSet::new(),
            was_all_online: false,
            has_shown_how: false,
            stop_requests: 0,
            screen: Screen::open(),
        };
        supervisor.take_in_what_is_there()?;
        Ok(supervisor)
    }

    /// Nodes of earlier runs; those that were on their way out are set aside first.
    fn take_in_what_is_there(&mut self) -> Result<(), LocalError> {
        for name in self.data.record.retiring.clone() {
            self.set_aside(&name)?;
        }
        for (ordinal, name) in self.data.nodes()? {
            self.node(ordinal, name).has_data = true;
        }
        Ok(())
    }

    fn node(&mut self, ordinal: u32, name: NodeName) -> &mut LocalNode {
        let log = self.data.log(&name);
        self.nodes.entry(ordinal).or_insert_with(|| LocalNode::new(name, ordinal, LogFile::new(log)))
    }

    /// Runs until it is told to stop; gives back when every replica has ended.
    pub async fn run(
        mut self,
        mut manifest: ManifestWatch,
        mut signals: mpsc::Receiver<StopRequest>,
    ) -> Result<(), LocalError> {
        let (name, replicas) = (&self.wish.name, self.wish.replicas);
        self.screen.tell(&format!("{name}: {replicas} replicas, data in {}", self.data.root().display()));
        let result = self.turn(&mut manifest, &mut signals).await;
        if result.is_err() {
            // Replicas never outlive their supervisor: dropping their handles ends what is left.
            self.stop_all();
            self.wait_for_ends(&mut signals).await;
        }
        self.screen.close();
        result
    }

    async fn turn(
        &mut self,
        manifest: &mut ManifestWatch,
        signals: &mut mpsc::Receiver<StopRequest>,
    ) -> Result<(), LocalError> {
        let mut tick = tokio::time::interval(TICK);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut ticks: u64 = 0;
        while self.stop_requests == 0 || self.nodes.values().any(|node| node.process.is_some()) {
            // Looks come often; what follows from them has time until the next tick.
            let acts = tokio::select! {
                Some(message) = self.inbox.recv() => self.take(message)?,
                Some(StopRequest::Stop) = signals.recv() => {
                    self.stop_requested();
                    true
                }
                _ = tick.tick() => {
                    ticks += 1;
                    if self.stop_requests == 0 && let Some(reading) = manifest.look() {
                        self.manifest_changed(reading);
                    }
                    if ticks.is_multiple_of(TICKS_BETWEEN_ROTATIONS) {
                        self.rotate_logs();
                    }
                    self.draw();
                    true
                }
            };
            if acts && self.stop_requests == 0 {
                self.reconcile()?;
            }
            if acts {
                self.tell_changes();
            }
        }
        self.screen.tell("stopped; the data is kept");
        self.draw();
        Ok(())
    }

    /// Takes in a message; gives back whether to act on it at once.
    fn take(&mut self, message: Message) -> Result<bool, LocalError> {
        match message {
            Message::Looked { ordinal, generation, mut look } => {
                let now = Instant::now();
                look.disown_strangers(self.data.record.chosen_cluster_id);
                if let Some(node) = self.nodes.get_mut(&ordinal).filter(|node| node.generation == generation) {
                    let cluster_id = look.report.as_ref().and_then(|report| report.cluster_id);
                    node.saw(*look, now);
                    self.note_cluster(cluster_id)?;
                }
                Ok(false)
            }
            Message::Ended { ordinal, generation, status } => {
                self.ended(ordinal, generation, &status)?;
                Ok(true)
            }
            Message::Asked { step, result } => {
                if let Some(text) = self.pace.ended(&step, &result, Instant::now()) {
                    self.screen.tell(&text);
                }
                Ok(true)
            }
        }
    }

    /// Once a cluster has an identity, no node ever makes another one.
    fn note_cluster(&mut self, cluster_id: Option<uuid::Uuid>) -> Result<(), LocalError> {
        if self.data.record.cluster_id.is_none() && cluster_id.is_some() {
            self.data.record.cluster_id = cluster_id;
            self.data.save()?;
        }
        Ok(())
    }

    fn observed(&self) -> Observed {
        let now = Instant::now();
        let nodes = self.nodes.values().map(|node| node.observed(now)).collect();
        Observed { beginning: self.data.record.beginning(), nodes }
    }

    /// Steps on until something has to be waited for.
    fn reconcile(&mut self) -> Result<(), LocalError> {
        for _ in 0..STEPS_AT_ONCE_MAX {
            let seen = self.observed();
            let step = next_step(&self.wish, &seen);
            self.waiting_for = None;
            match step {
                Step::Start(name) => self.start(&name)?,
                Step::Stop { name, set_aside } => self.stop(&name, set_aside)?,
                Step::WaitFor(what) => {
                    self.waiting_for = Some(what);
                    break;
                }
                Step::HoldRemoval { name, ill } => {
                    self.waiting_for = Some(format!("{ill} to be ONLINE before {name} is removed"));
                    break;
                }
                Step::Nothing => break,
                step => {
                    self.ask(step)?;
                    break;
                }
            }
        }
        Ok(())
    }

    fn ask(&mut self, step: Step) -> Result<(), LocalError> {
        let is_fresh = self.nodes.values().all(|node| node.seen_after(self.pace.changed_at));
        if !self.pace.is_free(Instant::now()) || !is_fresh {
            return Ok(());
        }
        let Some(ports) = nodes::asked(&step).and_then(|via| self.ports_of(via)) else { return Ok(()) };
        if let Step::Initialize(name) = &step
            && self.data.record.initializing_node.is_none()
        {
            // Written before it is told to, so that a crash in between cannot lead to two clusters.
            self.data.record.initializing_node = Some(name.clone());
            self.data.save()?;
        }
        self.pace.begun();
        let (client, sender) = (NodeClient::new(self.http.clone(), ports.url()), self.sender.clone());
        tokio::spawn(async move {
            let result = nodes::ask(&client, &step).await;
            let _ = sender.send(Message::Asked { step, result });
        });
        Ok(())
    }

    fn ports_of(&self, name: &NodeName) -> Option<ports::Ports> {
        self.nodes.values().find(|node| node.name == *name)?.ports
    }

    fn start(&mut self, name: &NodeName) -> Result<(), LocalError> {
        let Some(ordinal) = self.wish.ordinal(name) else { return Ok(()) };
        self.node(ordinal, name.clone());
        let started = self.assign_ports(ordinal).and_then(|()| self.spawn(ordinal));
        let Some(node) = self.nodes.get_mut(&ordinal) else { return Ok(()) };
        if let Err(error) = started {
            let wait = node.failed(Instant::now());
            self.screen.tell(&format!("{name} cannot start: {error}; next try in {} s", wait.as_secs()));
        }
        Ok(())
    }

    /// Gives ports to this node and to all others that will need some, so that they stand in one block.
    fn assign_ports(&mut self, ordinal: u32) -> Result<(), LocalError> {
        if let Some(first) = self.first_port {
            let own = ports::fixed(first, ordinal, &ports::is_free)?;
            let all =
                (0..self.wish.replicas).filter_map(|other| Some((other, ports::fixed(first, other, &|_| true).ok()?)));
            return self.keep_ports(all.chain([(ordinal, own)]).collect());
        }
        let known = &self.data.record.ports;
        let usable = |ports: &&ports::Ports| ports::is_free(ports.api) && ports::is_free(ports.peers);
        if let Some(ports) = known.get(&ordinal).filter(usable)
            && ports.base(ordinal).is_some_and(|base| ports::Block::hold_in(&mut self.block, base))
        {
            return self.keep_ports(BTreeMap::from([(ordinal, *ports)]));
        }
        let mut wanted: Vec<u32> = (0..self.wish.replicas).filter(|other| !known.contains_key(other)).collect();
        if !wanted.contains(&ordinal) {
            wanted.push(ordinal);
        }
        let taken =
            known.iter().filter(|(other, _)| **other != ordinal).map(|(other, ports)| (*other, *ports)).collect();
        let hold = &mut |base| ports::Block::hold_in(&mut self.block, base);
        let chosen = ports::choose(&wanted, &taken, &ports::is_free, hold)?;
        self.keep_ports(chosen)
    }

    fn keep_ports(&mut self, chosen: BTreeMap<u32, ports::Ports>) -> Result<(), LocalError> {
        for (ordinal, ports) in chosen {
            self.data.record.ports.insert(ordinal, ports);
            if let Some(node) = self.nodes.get_mut(&ordinal) {
                node.ports = Some(ports);
            }
        }
        self.data.save()
    }

    fn spawn(&mut self, ordinal: u32) -> Result<(), LocalError> {
        let join = self.join_addresses(ordinal);
        // They share the processors: with more threads than these, they push each other aside in the middle of a write.
        let processors = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        let nodes = usize::try_from(self.wish.replicas).map_or(usize::MAX, |replicas| replicas.max(self.nodes.len()));
        let worker_threads = (processors / nodes.max(1)).max(1);
        let Some(node) = self.nodes.get_mut(&ordinal) else { return Ok(()) };
        let Some(ports) = node.ports else { return Ok(()) };
        node.generation += 1;
        let generation = node.generation;
        let cluster = self.data.record.chosen_cluster_id;
        let data = self.data.node(&node.name);
        let arguments = ReplicaArguments { name: node.name.clone(), data, ports, join, cluster, worker_threads };
        let sender = self.sender.clone();
        let ended = move |status| {
            let _ = sender.send(Message::Ended { ordinal, generation, status });
        };
        let process = self.program.start(&arguments, &mut node.log, ended)?;
        let (client, sender) = (NodeClient::new(self.http.clone(), ports.url()), self.sender.clone());
        let report = move |look| sender.send(Message::Looked { ordinal, generation, look: Box::new(look) }).is_ok();
        let looker = tokio::spawn(keep_looking(client, report)).abort_handle();
        self.screen.tell(&format!("{} starts at {} (process {})", node.name, ports.url(), process.pid));
        node.begun(process, looker);
        Ok(())
    }

    /// Peer addresses of all others; none for the node that makes the cluster, until there is one.
    fn join_addresses(&self, ordinal: u32) -> Vec<String> {
        let makes_cluster = match self.data.record.beginning() {
            Beginning::Initialized(_) => false,
            Beginning::Chosen(name) => self.wish.ordinal(&name) == Some(ordinal),
            Beginning::NotBegun => ordinal == 0,
        };
        if makes_cluster {
            return Vec::new();
        }
        let others = self.data.record.ports.iter().filter(|(other, _)| **other != ordinal);
        others.map(|(_, ports)| ports.peer_address().to_string()).collect()
    }

    fn stop(&mut self, name: &NodeName, set_aside: bool) -> Result<(), LocalError> {
        let Some(ordinal) = self.wish.ordinal(name) else { return Ok(()) };
        if set_aside {
            // Written first: after a crash the node must not come back and join again.
            self.data.record.retiring.insert(name.clone());
            self.data.save()?;
        }
        let Some(node) = self.nodes.get_mut(&ordinal) else { return Ok(()) };
        node.set_aside |= set_aside;
        node.next_start = None;
        if let Some(process) = &mut node.process {
            process.stop();
            self.screen.tell(&format!("{name} stops"));
            return Ok(());
        }
        if set_aside { self.set_aside(name) } else { Ok(()) }
    }

    /// The data of a removed node gets another name; the node is forgotten.
    fn set_aside(&mut self, name: &NodeName) -> Result<(), LocalError> {
        let target = self.data.set_aside(name)?;
        if let Some(ordinal) = self.wish.ordinal(name) {
            self.nodes.remove(&ordinal);
            self.data.record.ports.remove(&ordinal);
            self.data.save()?;
        }
        if let Some(target) = target {
            self.screen.tell(&format!("{name} is removed; its data is kept in {}", target.display()));
        }
        Ok(())
    }

    fn ended(&mut self, ordinal: u32, generation: u64, status: &std::io::Result<ExitStatus>) -> Result<(), LocalError> {
        let Some(node) = self.nodes.get_mut(&ordinal).filter(|node| node.generation == generation) else {
            return Ok(());
        };
        let was_ordered = node.process.as_ref().is_some_and(super::process::Process::is_stopping);
        let (how, had_answered) = (described(status), node.has_answered());
        node.ended();
        let name = node.name.clone();
        if was_ordered {
            self.screen.tell(&format!("{name} stopped ({how})"));
            let set_aside = node.set_aside;
            return if set_aside { self.set_aside(&name) } else { Ok(()) };
        }
        let wait = node.failed(Instant::now());
        let what = if had_answered { "ended by itself" } else { "failed to start" };
        let mut text = format!("{name} {what} ({how}); next start in {} s", wait.as_secs());
        let last = node.log.last_lines(LOG_LINES_SHOWN);
        if !last.is_empty() {
            text += &format!("; its last lines, from {}:", node.log.path().display());
        }
        for line in last {
            text += &format!("\n  {line}");
        }
        self.screen.tell(&text);
        Ok(())
    }

    fn manifest_changed(&mut self, reading: Reading) {
        let wish = match reading {
            Ok(wish) => wish,
            Err(faults) => {
                self.screen.tell(&format!("the manifest is refused, everything stays as it is:\n{faults}"));
                return;
            }
        };
        if wish.name != self.wish.name {
            let (old, new) = (&self.wish.name, &wish.name);
            let text = format!(
                "the manifest is refused, everything stays as it is:\nmetadata.name: is {new:?} and was {old:?}; \
                 a running cluster cannot be renamed, start another one for another name"
            );
            self.screen.tell(&text);
            return;
        }
        let changes = summary::changes(&self.wish, &wish);
        self.screen.tell(&format!("the manifest is accepted: {changes}"));
        self.wish = wish;
    }

    fn stop_requested(&mut self) {
        self.stop_requests += 1;
        if self.stop_requests == 1 {
            self.screen.tell("stopping all replicas; once more to kill them at once");
            self.stop_all();
        } else {
            self.nodes.values_mut().filter_map(|node| node.process.as_mut()).for_each(super::process::Process::kill);
        }
    }

    fn stop_all(&mut self) {
        self.nodes.values_mut().filter_map(|node| node.process.as_mut()).for_each(super::process::Process::stop);
    }

    /// After a failure of the supervisor itself: bounded by the deadline of each replica.
    async fn wait_for_ends(&mut self, signals: &mut mpsc::Receiver<StopRequest>) {
        let deadline = tokio::time::Instant::now() + super::process::STOP_DEADLINE + Duration::from_secs(2);
        while self.nodes.values().any(|node| node.process.is_some()) {
            tokio::select! {
                () = tokio::time::sleep_until(deadline) => return,
                Some(StopRequest::Stop) = signals.recv() => return,
                Some(message) = self.inbox.recv() => {
                    if let Message::Ended { ordinal, .. } = message
                        && let Some(node) = self.nodes.get_mut(&ordinal)
                    {
                        node.ended();
                    }
                }
            }
        }
    }

    fn rotate_logs(&mut self) {
        for node in self.nodes.values_mut() {
            if let Err(error) = node.log.rotate(LOG_BYTES_MAX) {
                self.screen.tell(&error.to_string());
            }
        }
    }

    fn tell_changes(&mut self) {
        let (seen, now) = (self.observed(), Instant::now());
        let rows: Vec<_> = self.nodes.values().map(|node| node.row(&seen, now)).collect();
        self.screen.tell_changes(&rows, now);
        let undeclared = undeclared(&self.wish, &seen);
        for name in undeclared.difference(&self.undeclared) {
            self.screen.tell(&format!(
                "database {name} is not in the manifest; it stays (DELETE /v1/databases/{name}?uuid=… drops it)"
            ));
        }
        self.undeclared = undeclared;
        let summary = summary::summary(&self.wish, &seen, self.nodes.values(), now);
        if summary.is_all_online() && !self.was_all_online {
            self.screen.tell(&format!("all {} nodes are ONLINE", self.wish.replicas));
            if !self.has_shown_how {
                self.has_shown_how = true;
                summary::how_to_try(&self.wish, self.nodes.values())
                    .into_iter()
                    .for_each(|line| self.screen.plain(line));
            }
        }
        self.was_all_online = summary.is_all_online();
    }

    fn draw(&mut self) {
        let (seen, now) = (self.observed(), Instant::now());
        let rows: Vec<_> = self.nodes.values().map(|node| node.row(&seen, now)).collect();
        let summary = summary::summary(&self.wish, &seen, self.nodes.values(), now);
        let title = summary.title(&self.wish, self.waiting_for.as_deref());
        self.screen.draw(&title, &rows);
    }
}
