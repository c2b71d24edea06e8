//! Writers that remember what was acknowledged, what was not, and how long they waited.

use crate::client::Client;
use crate::witness::{Machine, Witness};
use reqwest::Method;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// A writer that reaches a majority never waits longer than this on a machine of its own (G6): 2 s, or
/// `COEQUAL_GAP_MAX_MS`. On a quiet machine it is below 100 ms.
fn gap_max() -> Duration {
    let ms = std::env::var("COEQUAL_GAP_MAX_MS").ok().and_then(|text| text.parse().ok()).unwrap_or(2_000);
    Duration::from_millis(ms)
}

/// Nobody who reaches a majority waited for a node that is away, as far as this machine let anybody do anything.
pub fn check_gap(who: &str, gap: Duration, machine: Machine) {
    let limit = machine.allows(gap_max());
    println!("{who}: longest gap {gap:?}; machine stalled {:?}, {:.1} tasks a processor", machine.stall, machine.crowd);
    assert!(gap <= limit, "{who}: waited for {gap:?}, at most {limit:?} are right; {machine:?}");
}

/// What a writer saw.
#[derive(Debug, Default, Clone)]
pub struct Remembered {
    /// Newest acknowledged version of each key, and the value that it was given.
    pub acknowledged: BTreeMap<String, (u64, u64)>,
    /// Values that were sent without an acknowledgement.
    pub unknown: Vec<(String, u64)>,
    /// Answers that were neither success nor lost connections.
    pub errors: Vec<String>,
    /// Longest time between two successes.
    pub longest_gap: Duration,
    /// Acknowledged writes.
    pub writes: u64,
    /// What the machine did meanwhile.
    pub machine: Machine,
}

/// A writer in the background.
pub struct Writer {
    stop: Arc<AtomicBool>,
    writes: Arc<AtomicU64>,
    task: tokio::task::JoinHandle<Remembered>,
    witness: Witness,
}

impl Writer {
    /// Writes keys `prefix-0 … prefix-(keys-1)` in turn through `client`, until stopped.
    pub fn start(client: Client, collection: &str, prefix: &str, keys: u64) -> Self {
        let (stop, writes) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let path = format!("/v1/databases/orders/collections/{collection}/documents/");
        let task = tokio::spawn(run(client, path, prefix.to_owned(), keys, Arc::clone(&stop), Arc::clone(&writes)));
        Self { stop, writes, task, witness: Witness::start() }
    }

    /// Acknowledged writes so far.
    pub fn writes(&self) -> u64 {
        self.writes.load(Ordering::Relaxed)
    }

    /// Ends it and gives what it saw.
    pub async fn stop(self) -> Remembered {
        self.stop.store(true, Ordering::Relaxed);
        let seen = self.task.await.expect("the writer did not panic");
        Remembered { machine: self.witness.end(), ..seen }
    }
}

async fn run(
    client: Client,
    path: String,
    prefix: String,
    keys: u64,
    stop: Arc<AtomicBool>,
    writes: Arc<AtomicU64>,
) -> Remembered {
    let mut seen = Remembered::default();
    let mut last = Instant::now();
    for value in 0u64.. {
        if stop.load(Ordering::Relaxed) {
            break;
        }
        let key = format!("{prefix}-{}", value % keys);
        let body = format!("{{\"value\":{value}}}");
        match client.try_send(Method::PUT, &format!("{path}{key}"), &[("content-type", "application/json")], body).await
        {
            Ok(answer) if answer.status.is_success() => {
                seen.longest_gap = seen.longest_gap.max(last.elapsed());
                last = Instant::now();
                seen.writes += 1;
                writes.fetch_add(1, Ordering::Relaxed);
                let version = answer.json()["_version"].as_u64().expect("version");
                seen.acknowledged.insert(key, (version, value));
            }
            Ok(answer) => {
                seen.unknown.push((key, value));
                seen.errors.push(format!("{} {}", answer.status, answer.body));
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            Err(_) => {
                seen.unknown.push((key, value));
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        }
    }
    seen
}

/// Every acknowledged write is there: at its version or a later one, and then with a value that this writer sent later.
pub fn check_acknowledged(export: &str, seen: &Remembered) {
    let documents: BTreeMap<String, (u64, u64)> = export
        .lines()
        .map(|line| {
            let document: serde_json::Value = serde_json::from_str(line).expect("NDJSON");
            let number = |name: &str| document[name].as_u64().unwrap_or(u64::MAX);
            (document["_key"].as_str().expect("_key").to_owned(), (number("_version"), number("value")))
        })
        .collect();
    for (key, (version, value)) in &seen.acknowledged {
        let Some((found_version, found_value)) = documents.get(key) else {
            panic!("{key} was acknowledged at version {version} and is lost")
        };
        assert!(
            found_version >= version && found_value >= value,
            "{key}: acknowledged {version}/{value}, found {found_version}/{found_value}"
        );
    }
}
