//! Histories of clients of real processes, while these are killed, stopped, cut off, slowed down and replaced, their
//! networks lose, reorder and break what they carry, their clocks jump, and their disks become slow, hang, fill up or go
//! back to older images; judged by Porcupine, a checker of linearizability that others wrote.
//!
//! `COEQUAL_HISTORY_SECONDS` says for how long, `COEQUAL_HISTORY_SEED` which faults in which order.

use coequal_tests::blockade::{Blockade, Cut, Weather};
use coequal_tests::client::{Client, builder};
use coequal_tests::clock::Clock;
use coequal_tests::cluster::{Cluster, until};
use coequal_tests::disks::{self, SlowDisk, SmallDisk};
use coequal_tests::go::go;
use coequal_tests::history::{History, Recorded};
use coequal_tests::preload::Preload;
use coequal_tests::random::Random;
use reqwest::Method;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

const SECONDS: u64 = 15;
const CLIENTS: u64 = 8;
/// So many that a retry comes before 24 other writes of its document (`HISTORY_DEPTH`), and so few that they meet.
const KEYS: u64 = 150;
/// Clients do not wait longer for a node that is stopped or cut off.
const CLIENT_PATIENCE: Duration = Duration::from_millis(700);

/// What is done to nodes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Fault {
    Kill,
    KillMajority,
    KillAll,
    Terminate,
    Stop,
    Isolate,
    IsolateRefused,
    CutOneWay,
    CutPair,
    /// It is heard and hears nobody.
    Deaf,
    /// It hears and is heard by nobody.
    Mute,
    ClockJump,
    SlowNetwork,
    UnevenNetwork,
    LossyNetwork,
    BreakingNetwork,
    NarrowNetwork,
    SlowDisk,
    HangingDisk,
    DiskFull,
    OldImage,
    Replace,
}

const FAULTS: [Fault; 22] = [
    Fault::Kill,
    Fault::KillMajority,
    Fault::KillAll,
    Fault::Terminate,
    Fault::Stop,
    Fault::Isolate,
    Fault::IsolateRefused,
    Fault::CutOneWay,
    Fault::CutPair,
    Fault::Deaf,
    Fault::Mute,
    Fault::ClockJump,
    Fault::SlowNetwork,
    Fault::UnevenNetwork,
    Fault::LossyNetwork,
    Fault::BreakingNetwork,
    Fault::NarrowNetwork,
    Fault::SlowDisk,
    Fault::HangingDisk,
    Fault::DiskFull,
    Fault::OldImage,
    Fault::Replace,
];
/// Enough for the store of a long history and what is set aside of it, and filled in a moment.
const DISK_MEGABYTES: u32 = 256;

struct World {
    /// None where small disks cannot be mounted. Before the cluster, so that they are gone when its directory goes.
    disks: Vec<SmallDisk>,
    cluster: Cluster,
    blockade: Blockade,
    clocks: Vec<Clock>,
    slow_disks: Vec<SlowDisk>,
    random: Random,
    images: BTreeMap<usize, PathBuf>,
}

impl World {
    async fn start(count: usize, seed: u64) -> Self {
        let (mut cluster, blockade) = Cluster::behind_blockade(count).await;
        let folder = cluster.directory.path().to_owned();
        let clocks: Vec<Clock> = cluster.nodes.iter().map(|node| Clock::new(&folder, &node.name)).collect();
        let slow_disks: Vec<SlowDisk> = cluster.nodes.iter().map(|node| SlowDisk::new(&folder, &node.name)).collect();
        for ((node, clock), disk) in cluster.nodes.iter_mut().zip(&clocks).zip(&slow_disks) {
            node.environment = Preload::environment(&[clock.preload(), disk.preload()]);
        }
        let random = Random::new(seed);
        let (disks, images) = (Vec::new(), BTreeMap::new());
        let mut world = Self { disks, cluster, blockade, clocks, slow_disks, random, images };
        world.kill(&(0..count).collect::<Vec<_>>());
        let mounted = world.cluster.nodes.iter().map(|node| SmallDisk::under(&node.directory, DISK_MEGABYTES));
        world.disks = mounted.collect::<Option<_>>().unwrap_or_default();
        if world.disks.is_empty() {
            println!("no disk is filled: mounting small ones needs root");
        }
        world.start_again();
        world.cluster.until_online("orders").await;
        world
    }

    fn any(&mut self) -> usize {
        usize::try_from(self.random.below(self.cluster.nodes.len() as u64)).expect("a small number")
    }

    fn kill(&mut self, nodes: &[usize]) {
        nodes.iter().for_each(|node| self.cluster.nodes[*node].kill());
    }

    fn start_again(&mut self) {
        for (index, node) in self.cluster.nodes.iter_mut().enumerate() {
            if !node.is_running() {
                node.start();
                self.blockade.node_is(index, node.pid());
            }
        }
    }

    fn milliseconds(&mut self, bound: u64) -> Duration {
        Duration::from_millis(1 + self.random.below(bound))
    }

    async fn begin(&mut self, fault: Fault) {
        let (one, count) = (self.any(), self.cluster.nodes.len());
        let other = (one + 1) % count;
        match fault {
            Fault::Kill => self.kill(&[one]),
            Fault::KillMajority => self.kill(&(0..=count / 2).map(|at| (one + at) % count).collect::<Vec<_>>()),
            Fault::KillAll => self.kill(&(0..count).collect::<Vec<_>>()),
            Fault::Terminate => _ = self.cluster.nodes[one].terminate(),
            Fault::Stop => self.cluster.nodes[one].signal(libc::SIGSTOP),
            Fault::Isolate => self.blockade.isolate(one, Cut::Silent),
            Fault::IsolateRefused => self.blockade.isolate(one, Cut::Refused),
            Fault::CutOneWay => self.blockade.cut_one_way(one, other, Cut::Silent),
            Fault::CutPair => self.blockade.cut(one, other, Cut::Silent),
            Fault::Deaf => self.blockade.deafen(one, Cut::Silent),
            Fault::Mute => self.blockade.mute(one, Cut::Silent),
            Fault::ClockJump => {
                let milliseconds = i64::try_from(self.random.below(240_000)).expect("a small number") - 120_000;
                self.clocks[one].set(milliseconds);
            }
            Fault::SlowNetwork
            | Fault::UnevenNetwork
            | Fault::LossyNetwork
            | Fault::BreakingNetwork
            | Fault::NarrowNetwork => {
                let weather = self.weather(fault);
                self.blockade.set_weather(one, weather);
            }
            Fault::SlowDisk => {
                let delay = self.milliseconds(50);
                self.slow_disks[one].set(delay);
            }
            // Longer than any fault lasts.
            Fault::HangingDisk => self.slow_disks[one].set(Duration::from_secs(3600)),
            Fault::DiskFull => self.disks.get(one).into_iter().for_each(SmallDisk::fill),
            Fault::OldImage => self.take_or_restore(one),
            Fault::Replace => self.replace(one).await,
        }
    }

    fn weather(&mut self, fault: Fault) -> Weather {
        match fault {
            Fault::UnevenNetwork => Weather::Uneven(self.milliseconds(200)),
            // TCP sends again after 200 ms at the soonest (RFC 6298, and Linux).
            Fault::LossyNetwork => Weather::Lossy(5 + self.random.below(30), Duration::from_millis(200)),
            Fault::BreakingNetwork => Weather::Breaking(10 + self.random.below(100)),
            Fault::NarrowNetwork => Weather::Narrow(10_000 + self.random.below(200_000)),
            _ => Weather::Slow(self.milliseconds(120)),
        }
    }

    /// A disk goes back to an earlier moment, if there is an image of it; else one is made now.
    fn take_or_restore(&mut self, node: usize) {
        self.kill(&[node]);
        let directory = &self.cluster.nodes[node].directory;
        match self.images.remove(&node) {
            Some(image) => disks::restore_image(directory, &image),
            None => _ = self.images.insert(node, disks::take_image(directory)),
        }
        self.start_again();
    }

    /// A node is removed, and comes back as a new one with an empty disk.
    async fn replace(&mut self, node: usize) {
        let id = self.cluster.nodes[node].client().get("/v1/node").await.json()["id"].clone();
        let id = id.as_str().expect("an id").to_owned();
        let other = self.cluster.nodes[(node + 1) % self.cluster.nodes.len()].client();
        let path = format!("/v1/cluster/nodes/{id}");
        until("the removal begins", async || {
            let answer = other.try_send(Method::DELETE, &path, &[], "").await.ok()?;
            (answer.status.is_success() || answer.status == 404).then_some(())
        })
        .await;
        until("the node is out", async || {
            let nodes = other.try_send(Method::GET, "/v1/cluster", &[], "").await.ok()?.json();
            (!nodes["nodes"].as_array()?.iter().any(|node| node["id"] == id.as_str())).then_some(())
        })
        .await;
        self.kill(&[node]);
        disks::wipe(&self.cluster.nodes[node].directory);
        // Who comes back with an image from before knows only nodes that are gone, and does not find the others by
        // itself (docs/guarantees.md).
        self.images.clear();
        let count = self.cluster.nodes.len();
        let join = (0..count).filter(|other| *other != node).map(|other| self.blockade.address(other)).collect();
        self.cluster.nodes[node].set_join(join);
        self.start_again();
    }

    /// Everything runs and reaches everybody again; clocks stay where they are.
    async fn heal(&mut self) {
        for node in &mut self.cluster.nodes {
            if node.is_running() {
                node.signal(libc::SIGCONT);
            }
        }
        self.disks.iter().for_each(SmallDisk::make_space);
        self.slow_disks.iter().for_each(|disk| disk.set(Duration::ZERO));
        self.blockade.heal();
        self.start_again();
        self.cluster.until_online("orders").await;
    }
}

/// Faults one after the other for so long; how many of each.
async fn torment(world: &mut World, history: &History, seconds: u64) -> BTreeMap<Fault, u64> {
    let (began, mut done) = (Instant::now(), BTreeMap::new());
    while began.elapsed() < Duration::from_secs(seconds) {
        let at = usize::try_from(world.random.below(FAULTS.len() as u64)).expect("a small number");
        world.begin(FAULTS[at]).await;
        *done.entry(FAULTS[at]).or_default() += 1;
        // How long a fault lasts is part of it.
        tokio::time::sleep(Duration::from_millis(100 + world.random.below(1_500))).await;
        world.heal().await;
        let operations = history.operations();
        until("clients go on", async || (history.operations() > operations + 20).then_some(())).await;
    }
    done
}

fn seed() -> u64 {
    let set = std::env::var("COEQUAL_HISTORY_SEED").ok().and_then(|text| text.parse().ok());
    let now = || SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |now| now.subsec_micros());
    set.unwrap_or_else(|| u64::from(now()))
}

async fn record(nodes: usize) -> (World, Recorded) {
    let seconds = std::env::var("COEQUAL_HISTORY_SECONDS").ok().and_then(|text| text.parse().ok()).unwrap_or(SECONDS);
    let seed = seed();
    println!("{nodes} nodes, COEQUAL_HISTORY_SEED={seed}");
    let mut world = World::start(nodes, seed).await;
    let http = || builder().connect_timeout(CLIENT_PATIENCE).timeout(CLIENT_PATIENCE).build().expect("client");
    let clients: Vec<Client> =
        world.cluster.nodes.iter().map(|node| Client::with(format!("http://{}", node.api), http())).collect();
    let path = world.cluster.directory.path().join("history.ndjson");
    let history = History::start(&path, &clients, CLIENTS, KEYS, seed);
    let faults = torment(&mut world, &history, seconds).await;
    let recorded = history.end().await;
    let count: u64 = faults.values().sum();
    println!("HISTORY {} operations, {} retries, {count} faults: {faults:?}", recorded.operations, recorded.retries);
    (world, recorded)
}

async fn judged(name: &str, nodes: usize) {
    let (world, recorded) = record(nodes).await;
    world.cluster.until_equal("history").await;
    assert!(recorded.faults.is_empty(), "{:#?}", recorded.faults);
    match go("tests/porcupine", &["run", "-mod=readonly", ".", &recorded.path.to_string_lossy()]) {
        Err(reason) => println!("\nSKIPPED {name}: {reason}"),
        Ok((true, text)) => print!("{text}"),
        Ok((false, text)) => {
            let kept = std::env::temp_dir().join(format!("coequal-history-{}.ndjson", std::process::id()));
            std::fs::copy(&recorded.path, &kept).expect("the history is kept");
            panic!("{text}\nkept as {}", kept.display());
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_clients_of_three_tormented_nodes_saw_is_linearizable() {
    judged("what_clients_of_three_tormented_nodes_saw_is_linearizable", 3).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_clients_of_five_tormented_nodes_saw_is_linearizable() {
    judged("what_clients_of_five_tormented_nodes_saw_is_linearizable", 5).await;
}

/// What is only said to be slow would prove nothing.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn slow_disks_and_bad_networks_are_felt_by_clients() {
    let mut world = World::start(3, 1).await;
    let client = world.cluster.nodes[0].client();
    let body = format!("{{\"text\":\"{}\"}}", "a".repeat(6_000));
    let write = async || {
        let began = Instant::now();
        let answer = client.put("/v1/databases/orders/collections/felt/documents/a", &body).await;
        (answer.status, began.elapsed())
    };
    assert_eq!(write().await.0, 201);
    let delay = Duration::from_millis(300);
    world.slow_disks.iter().for_each(|disk| disk.set(delay));
    let (status, took) = write().await;
    assert!(status == 200 && took >= delay, "slow disks: {status} after {took:?}");
    world.slow_disks.iter().for_each(|disk| disk.set(Duration::ZERO));
    // 6 kB to one other voter at least.
    let weathers = [Weather::Slow(delay), Weather::Lossy(1, delay), Weather::Narrow(20_000)];
    for weather in weathers {
        world.blockade.set_weather(0, weather);
        let (status, took) = write().await;
        assert!(took >= delay || status != 200, "{weather:?}: {status} after {took:?}");
        world.heal().await;
    }
    (0..3).for_each(|node| world.blockade.set_weather(node, Weather::Breaking(1)));
    let (status, took) = write().await;
    assert!(status.is_server_error(), "nothing passes: {status} after {took:?}");
    world.heal().await;
    until("writes go on", async || (write().await.0 == 200).then_some(())).await;
}

#[test]
fn the_judge_finds_every_kind_of_broken_promise() {
    match go("tests/porcupine", &["test", "-mod=readonly", "-count=1", "./..."]) {
        Ok((passed, text)) => assert!(passed, "{text}"),
        Err(reason) => println!("\nSKIPPED the_judge_finds_every_kind_of_broken_promise: {reason}"),
    }
}
