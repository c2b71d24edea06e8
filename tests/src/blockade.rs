//! Cuts in the network between nodes, without rights on the machine: a proxy stands before each node's peer port.
//!
//! Nodes advertise the proxies' addresses. Who dials is found by the process that owns the other end of the
//! connection, so that every pair, and every direction of it, can be cut by itself.

use crate::random::Random;
use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, oneshot, watch};

/// Connections that wait to be told whose they are.
const QUESTIONS_MAX: usize = 1024;

/// A process dials from its first moment on and is made known a moment later: who is not found is looked for again.
const LOOKS_MAX: usize = 20;
const BETWEEN_LOOKS: Duration = Duration::from_millis(5);

/// How a direction is cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cut {
    /// Nothing arrives and nobody says so, as with a pulled cable.
    Silent,
    /// Connections end and new ones are refused, as with a blocked port.
    Refused,
}

/// What a network does to all that a node sends and receives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Weather {
    /// Everything takes so much longer, and little passes in that time.
    Slow(Duration),
    /// Everything takes up to so much longer, each piece and each connection another time: what is sent on two connections
    /// or to two nodes arrives in another order.
    Uneven(Duration),
    /// One piece of so many is lost: nothing passes on its connection until it was sent again after this time, as TCP does.
    Lossy(u64, Duration),
    /// One piece of so many is cut somewhere, and its connection ends.
    Breaking(u64),
    /// So many bytes pass in a second, one direction of one connection by itself.
    Narrow(u64),
}

#[derive(Debug, Default)]
struct Rules {
    cuts: HashMap<(usize, usize), Cut>,
    weather: HashMap<usize, Weather>,
    pids: HashMap<usize, i32>,
}

/// Proxies before the peer ports of all nodes.
#[derive(Debug)]
pub struct Blockade {
    addresses: Vec<SocketAddr>,
    rules: Arc<Mutex<Rules>>,
    changed: Arc<watch::Sender<u64>>,
}

/// What a connection needs to know.
#[derive(Clone)]
struct View {
    rules: Arc<Mutex<Rules>>,
    changed: watch::Receiver<u64>,
    owners: mpsc::Sender<Question>,
}

impl Blockade {
    /// One proxy before each of `targets`; everything passes at first.
    pub async fn start(targets: Vec<String>) -> Self {
        let rules = Arc::new(Mutex::new(Rules::default()));
        let (changed, receiver) = watch::channel(0);
        let (owners, questions) = mpsc::channel(QUESTIONS_MAX);
        tokio::spawn(answer_owners(questions, Arc::clone(&rules)));
        let mut addresses = Vec::new();
        for (to, target) in targets.into_iter().enumerate() {
            let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
            addresses.push(listener.local_addr().expect("address"));
            let view = View { rules: Arc::clone(&rules), changed: receiver.clone(), owners: owners.clone() };
            tokio::spawn(accept(listener, to, target, view));
        }
        Self { addresses, rules, changed: Arc::new(changed) }
    }

    /// What node `to` advertises.
    pub fn address(&self, to: usize) -> String {
        self.addresses[to].to_string()
    }

    /// Tells which process is which node; again after each start.
    pub fn node_is(&self, node: usize, pid: i32) {
        self.change(|rules| _ = rules.pids.insert(node, pid));
    }

    /// Cuts what `from` sends to `to`, whoever has dialled.
    pub fn cut_one_way(&self, from: usize, to: usize, cut: Cut) {
        self.change(|rules| _ = rules.cuts.insert((from, to), cut));
    }

    /// Cuts both directions between two nodes.
    pub fn cut(&self, one: usize, other: usize, cut: Cut) {
        self.cut_one_way(one, other, cut);
        self.cut_one_way(other, one, cut);
    }

    /// Cuts a node off from all others.
    pub fn isolate(&self, node: usize, cut: Cut) {
        self.others(node).for_each(|other| self.cut(node, other, cut));
    }

    /// Cuts what a node sends to all others; it still hears them.
    pub fn mute(&self, node: usize, cut: Cut) {
        self.others(node).for_each(|other| self.cut_one_way(node, other, cut));
    }

    /// Cuts what all others send to a node; they still hear it.
    pub fn deafen(&self, node: usize, cut: Cut) {
        self.others(node).for_each(|other| self.cut_one_way(other, node, cut));
    }

    /// From now on the node has this network.
    pub fn set_weather(&self, node: usize, weather: Weather) {
        self.change(|rules| _ = rules.weather.insert(node, weather));
    }

    fn others(&self, node: usize) -> impl Iterator<Item = usize> + use<> {
        (0..self.addresses.len()).filter(move |other| *other != node)
    }

    /// Everything passes again.
    pub fn heal(&self) {
        self.change(|rules| {
            rules.cuts.clear();
            rules.weather.clear();
        });
    }

    fn change(&self, change: impl FnOnce(&mut Rules)) {
        change(&mut self.rules.lock().unwrap_or_else(PoisonError::into_inner));
        self.changed.send_modify(|count| *count += 1);
    }
}

impl View {
    fn cut(&self, from: usize, to: usize) -> Option<Cut> {
        self.rules.lock().unwrap_or_else(PoisonError::into_inner).cuts.get(&(from, to)).copied()
    }

    /// What becomes of a piece of so many bytes: how much later it arrives, and how many of its bytes do.
    fn fate(&self, from: usize, to: usize, bytes: usize, random: &mut Random) -> (Duration, usize) {
        let rules = self.rules.lock().unwrap_or_else(PoisonError::into_inner);
        let weathers: Vec<Weather> = [from, to].iter().filter_map(|node| rules.weather.get(node).copied()).collect();
        let (mut delay, mut arriving) = (Duration::ZERO, bytes);
        for weather in weathers {
            delay += match weather {
                Weather::Slow(delay) => delay,
                Weather::Uneven(most) => {
                    Duration::from_micros(random.below(u64::try_from(most.as_micros()).unwrap_or(u64::MAX).max(1)))
                }
                Weather::Lossy(one_in, delay) if random.below(one_in) == 0 => delay,
                Weather::Breaking(one_in) if random.below(one_in) == 0 => {
                    arriving = usize::try_from(random.below(bytes as u64)).unwrap_or(0);
                    Duration::ZERO
                }
                Weather::Narrow(bytes_per_second) => Duration::from_secs_f64(bytes as f64 / bytes_per_second as f64),
                Weather::Lossy(..) | Weather::Breaking(_) => Duration::ZERO,
            };
        }
        (delay, arriving)
    }

    /// The node whose process holds the other end of a connection.
    async fn owner(&self, ends: Ends) -> Option<usize> {
        let (answer, answered) = oneshot::channel();
        self.owners.send((ends, answer)).await.ok()?;
        answered.await.ok()?
    }

    /// Waits until `from` may send to `to`; false when the connection has to end.
    async fn passes(&mut self, from: usize, to: usize) -> bool {
        loop {
            match self.cut(from, to) {
                None => return true,
                Some(Cut::Refused) => return false,
                Some(Cut::Silent) => {
                    if self.changed.changed().await.is_err() {
                        return false;
                    }
                }
            }
        }
    }
}

async fn accept(listener: TcpListener, to: usize, target: String, view: View) {
    let here = listener.local_addr().expect("address").port();
    while let Ok((stream, peer)) = listener.accept().await {
        let (target, mut view) = (target.clone(), view.clone());
        tokio::spawn(async move {
            // A process that has just ended is nobody: its connection ends as well.
            let Some(from) = view.owner((peer.port(), here)).await else { return };
            // A connection needs both directions to come into being.
            if !(view.passes(from, to).await && view.passes(to, from).await) {
                return;
            }
            if let Ok(onward) = TcpStream::connect(&target).await {
                let _ = (stream.set_nodelay(true), onward.set_nodelay(true));
                carry(stream, onward, from, to, view).await;
            }
        });
    }
}

/// Carries bytes both ways until one end closes or is cut off.
async fn carry(dialler: TcpStream, dialled: TcpStream, from: usize, to: usize, view: View) {
    let (dialler_in, dialler_out) = dialler.into_split();
    let (dialled_in, dialled_out) = dialled.into_split();
    tokio::select! {
        () = pump(dialler_in, dialled_out, from, to, view.clone()) => {}
        () = pump(dialled_in, dialler_out, to, from, view) => {}
    }
}

async fn pump(mut input: OwnedReadHalf, mut output: OwnedWriteHalf, from: usize, to: usize, mut view: View) {
    let mut buffer = vec![0u8; 64 << 10];
    // Each direction of each connection has a sequence of its own; when the pieces come is the machine's choice anyway.
    let local = output.local_addr().map_or(0, |address| address.port());
    let mut random = Random::new(u64::from(local) << 32 | (from as u64) << 16 | to as u64);
    loop {
        if !view.passes(from, to).await {
            return;
        }
        view.changed.mark_unchanged();
        let count = tokio::select! {
            read = input.read(&mut buffer) => match read {
                Ok(count) if count > 0 => count,
                _ => return,
            },
            changed = view.changed.changed() => match changed {
                Ok(()) => continue,
                Err(_) => return,
            },
        };
        let (delay, arriving) = view.fate(from, to, count, &mut random);
        if !delay.is_zero() {
            // When the weather changes, what is under way arrives at once.
            _ = tokio::time::timeout(delay, view.changed.changed()).await;
        }
        // What was read before the cut and not written yet is held like the rest.
        if !view.passes(from, to).await || output.write_all(&buffer[..arriving]).await.is_err() || arriving < count {
            return;
        }
    }
}

/// The local and the remote port of whoever has dialled: the system gives one local port to several connections if they go
/// to different places.
type Ends = (u16, u16);

/// Who asks which node has dialled.
type Question = (Ends, oneshot::Sender<Option<usize>>);

/// Answers all that wait by one look at the machine's tables: after a restart of everything all nodes dial at once, and a
/// look for each of them takes longer on a busy machine than they wait for each other.
async fn answer_owners(mut questions: mpsc::Receiver<Question>, rules: Arc<Mutex<Rules>>) {
    let mut waiting = Vec::new();
    while questions.recv_many(&mut waiting, QUESTIONS_MAX).await > 0 {
        let mut asked = std::mem::take(&mut waiting);
        for _ in 0..LOOKS_MAX {
            let pids = rules.lock().unwrap_or_else(PoisonError::into_inner).pids.clone();
            let looked = tokio::task::spawn_blocking(move || answer_found(asked, &pids));
            asked = looked.await.expect("the tables can be read");
            if asked.is_empty() {
                break;
            }
            tokio::time::sleep(BETWEEN_LOOKS).await;
        }
        // Whom nobody owns by now has ended: its question is dropped, which is an answer.
    }
}

/// Answers those that one look at the tables finds; returns the others.
fn answer_found(asked: Vec<Question>, pids: &HashMap<usize, i32>) -> Vec<Question> {
    let (inodes, nodes) = (inodes(), sockets(pids));
    let mut others = Vec::new();
    for (ends, answer) in asked {
        match inodes.get(&ends).and_then(|inode| nodes.get(inode).copied()) {
            Some(node) => _ = answer.send(Some(node)),
            None => others.push((ends, answer)),
        }
    }
    others
}

/// The connections of this machine that belong to a process.
fn inodes() -> HashMap<Ends, String> {
    let table = std::fs::read_to_string("/proc/net/tcp").unwrap_or_default();
    let port = |address: &str| u16::from_str_radix(address.rsplit_once(':')?.1, 16).ok();
    let rows = table.lines().skip(1).filter_map(|line| {
        let mut fields = line.split_whitespace();
        let ends = (port(fields.nth(1)?)?, port(fields.next()?)?);
        let inode = fields.nth(6).filter(|inode| *inode != "0")?;
        Some((ends, inode.to_owned()))
    });
    rows.collect()
}

/// Which node's process holds which socket.
fn sockets(pids: &HashMap<usize, i32>) -> HashMap<String, usize> {
    let mut found = HashMap::new();
    for (node, pid) in pids {
        // A process that has just ended holds none.
        let Ok(entries) = std::fs::read_dir(format!("/proc/{pid}/fd")) else { continue };
        for target in entries.flatten().filter_map(|entry| std::fs::read_link(entry.path()).ok()) {
            let name = target.to_string_lossy();
            if let Some(inode) = name.strip_prefix("socket:[").and_then(|rest| rest.strip_suffix(']')) {
                found.insert(inode.to_owned(), *node);
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::net::TcpSocket;

    /// The system gives one local port to connections of two processes if they go to different places.
    #[tokio::test]
    async fn connections_that_share_a_local_port_are_told_apart() {
        let mut local = "127.0.0.1:0".parse().expect("an address");
        let (mut open, mut found) = (Vec::new(), Vec::new());
        for _ in 0..2 {
            let target = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
            let reached = target.local_addr().expect("address");
            let socket = TcpSocket::new_v4().expect("a socket");
            socket.set_reuseaddr(true).expect("an option");
            socket.bind(local).expect("a port for both");
            let (stream, accepted) = tokio::join!(socket.connect(reached), target.accept());
            let stream = stream.expect("a connection");
            local = stream.local_addr().expect("address");
            open.push((stream, accepted.expect("its other end")));
            found.push((local.port(), reached.port()));
        }
        assert_eq!(found[0].0, found[1].0);
        let inodes = inodes();
        let [one, other] = [inodes.get(&found[0]), inodes.get(&found[1])];
        assert!(one.is_some() && other.is_some() && one != other, "{one:?} {other:?}");
    }
}
