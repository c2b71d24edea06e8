//! A writer and a checker that run through a whole scenario, as an application would: through the client Service, each
//! request on a new connection, retried with the same idempotency key until it is acknowledged.
//!
//! Value `n` goes to key `n mod KEYS`, so that version `v` of a key always has one value: a write that is lost, or counts
//! twice, shows in the version or in the value.

use super::access::Access;
use super::place::Place;
use super::wait::{PATIENCE, until};
use crate::client::Client;
use crate::witness::Witness;
use reqwest::Method;
use serde_json::Value;
use std::fs::File;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

const KEYS: u64 = 40;
const COLLECTION: &str = "/v1/databases/orders/collections/load";
/// Between two writes, and between two reads: steady, not as much as the machine can.
const PACE: Duration = Duration::from_millis(10);
/// So many tries in a row that lead to a node that nobody reaches, of three, are rarer than a machine that is too busy.
const UNLUCKY_MAX: usize = 8;
/// After a refusal, before another node is tried.
const PAUSE: Duration = Duration::from_millis(10);

/// Longest time without an acknowledged write that clients may see; `COEQUAL_GAP_MAX_MS` on machines that stall.
pub fn gap_max() -> Duration {
    let ms = std::env::var("COEQUAL_GAP_MAX_MS").ok().and_then(|text| text.parse().ok()).unwrap_or(1_000);
    Duration::from_millis(ms)
}

/// What writer and checker share.
#[derive(Default)]
struct Shared {
    stop: AtomicBool,
    /// Acknowledged writes: values `0 .. written` are all there.
    written: AtomicU64,
    faults: Mutex<Vec<String>>,
}

impl Shared {
    fn fault(&self, text: String) {
        let mut faults = self.faults.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if faults.len() < 20 {
            faults.push(text);
        }
    }

    fn is_over(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }
}

#[derive(Default)]
struct Seen {
    longest_gap: Duration,
    /// Seconds after the start at which it ended, and what the tries within it came to.
    longest_gap_story: String,
    retries: u64,
}

/// How often clients look whom to trust, as an application does that has the ConfigMap mounted.
const TRUST_EVERY: Duration = Duration::from_secs(2);

/// The clients of writer and checker; they follow the authorities that the operator says are trusted.
struct Clients {
    service: String,
    access: Access,
    impatient: Client,
    forbearing: Client,
    looked: Instant,
}

impl Clients {
    fn new(access: Access, service: String) -> Self {
        let (impatient, forbearing) = (access.impatient(&service), access.forbearing(&service));
        Self { service, access, impatient, forbearing, looked: Instant::now() }
    }

    /// Looks again when it is time.
    async fn follow(&mut self) {
        if self.looked.elapsed() < TRUST_EVERY {
            return;
        }
        self.looked = Instant::now();
        if let Some(access) = self.access.again().await {
            *self = Self::new(access, self.service.clone());
        }
    }
}

/// A writer and a checker in the background.
pub struct Load {
    shared: Arc<Shared>,
    writer: tokio::task::JoinHandle<Seen>,
    checker: tokio::task::JoinHandle<u64>,
    machine: Witness,
}

impl Load {
    /// Begins on the Service of `orders`, at the value after those that are there already.
    pub async fn start(place: &Place, from: u64) -> Self {
        let (access, service) = (Access::of(place, "orders").await, place.service().await);
        let client = access.impatient(&service);
        // A Service that was made a moment ago is not yet known to the proxy of the tests' network.
        until("the Service leads to a node", async || {
            let answer =
                client.try_send(Method::GET, "/readyz", &[], "").await.map_err(|error| format!("{error:?}"))?;
            if answer.status.is_success() { Ok(()) } else { Err(format!("{} {}", answer.status, answer.body)) }
        })
        .await;
        let shared = Arc::new(Shared::default());
        shared.written.store(from, Ordering::Relaxed);
        let writer = tokio::spawn(write(Clients::new(access.clone(), service.clone()), Arc::clone(&shared)));
        let checker = tokio::spawn(check(Clients::new(access, service), Arc::clone(&shared)));
        // On the disk of the nodes' volumes.
        let path = place.cluster.directory.join(format!("witness-{}", place.namespace));
        let file = File::create(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        let machine = Witness::on(file);
        let load = Self { shared, writer, checker, machine };
        load.goes_on().await;
        load
    }

    /// Waits until some more writes were acknowledged: what is happening is survived.
    pub async fn goes_on(&self) {
        let before = self.shared.written.load(Ordering::Relaxed);
        until("writes go on", async || {
            let written = self.shared.written.load(Ordering::Relaxed);
            if written >= before + 10 { Ok(()) } else { Err(format!("{written} writes")) }
        })
        .await;
    }

    /// Ends both. Nothing was lost, nothing was written twice, nobody waited too long; then every node has the same.
    /// Gives the number of values written so far.
    pub async fn finish(self, place: &Place, what: &str, pods: u32) -> u64 {
        let written = self.end(what, gap_max()).await;
        expect_everywhere(place, written, pods).await;
        written
    }

    /// Ends both, where the gap is bounded by something else.
    pub async fn end(self, what: &str, gap_max: Duration) -> u64 {
        self.shared.stop.store(true, Ordering::Relaxed);
        let seen = self.writer.await.expect("the writer did not panic");
        let reads = self.checker.await.expect("the checker did not panic");
        let machine = self.machine.end();
        let written = self.shared.written.load(Ordering::Relaxed);
        let Seen { longest_gap: gap, longest_gap_story: story, retries } = seen;
        println!(
            "GAP {what}: {} ms; {written} writes, {retries} retries, {reads} reads; machine stalled {} ms, {:.1} tasks a processor",
            gap.as_millis(),
            machine.stall.as_millis(),
            machine.crowd
        );
        let faults = self.shared.faults.lock().unwrap_or_else(std::sync::PoisonError::into_inner).clone();
        assert!(faults.is_empty(), "{what}: {faults:#?}");
        assert!(reads > 0, "{what}: no read was answered");
        // On a machine that does other work too, or lets nobody write for a while, no client could be served faster.
        let limit = machine.allows(gap_max);
        assert!(gap <= limit, "{what}: no write was acknowledged for {gap:?}, at most {limit:?} are right; {story}");
        written
    }
}

fn key(value: u64) -> String {
    format!("k{:02}", value % KEYS)
}

fn version(value: u64) -> u64 {
    value / KEYS + 1
}

async fn write(mut clients: Clients, shared: Arc<Shared>) -> Seen {
    let mut seen = Seen::default();
    let (begun, mut last) = (Instant::now(), Instant::now());
    for value in shared.written.load(Ordering::Relaxed).. {
        let path = format!("{COLLECTION}/documents/{}", key(value));
        let name = format!("load-{value}");
        let headers = [("content-type", "application/json"), ("idempotency-key", name.as_str())];
        let mut story = Vec::new();
        loop {
            clients.follow().await;
            let tried = Instant::now();
            let client = if story.len() < UNLUCKY_MAX { &clients.impatient } else { &clients.forbearing };
            if shared.is_over() {
                // The write that is under way may or may not be there; it is finished, so that the count is exact.
                if last.elapsed() > PATIENCE {
                    shared.fault(format!("value {value} was never acknowledged"));
                    return seen;
                }
            }
            let outcome = match client.try_send(Method::PUT, &path, &headers, format!("{{\"value\":{value}}}")).await {
                Ok(answer) if answer.status.is_success() => {
                    if answer.json()["_version"] != version(value) {
                        shared.fault(format!("value {value}: version {} wanted: {answer:?}", version(value)));
                    }
                    break;
                }
                Ok(answer) if answer.status.is_client_error() && answer.status != 429 && answer.status != 404 => {
                    shared.fault(format!("value {value}: {answer:?}"));
                    answer.status.to_string()
                }
                Ok(answer) => format!("{} {}", answer.status, answer.body),
                Err(error) if error.is_connect() => "no connection".to_owned(),
                Err(error) if error.is_timeout() => "no answer".to_owned(),
                Err(error) => error.to_string(),
            };
            story.push(format!("{} ms: {outcome}", tried.elapsed().as_millis()));
            seen.retries += 1;
            tokio::time::sleep(PAUSE).await;
        }
        if last.elapsed() > seen.longest_gap {
            seen.longest_gap = last.elapsed();
            seen.longest_gap_story = format!("until {:.1?} after the start; {story:#?}", begun.elapsed());
        }
        last = Instant::now();
        shared.written.store(value + 1, Ordering::Release);
        if shared.is_over() {
            break;
        }
        tokio::time::sleep(PACE).await;
    }
    seen
}

/// Reads what was acknowledged before the read began: it has to be there, or something newer.
async fn check(mut clients: Clients, shared: Arc<Shared>) -> u64 {
    let mut reads = 0u64;
    for round in 0u64.. {
        if shared.is_over() {
            break;
        }
        tokio::time::sleep(PACE).await;
        let written = shared.written.load(Ordering::Acquire);
        let back = round % KEYS.min(written).max(1);
        let Some(value) = written.checked_sub(1 + back) else { continue };
        let path = format!("{COLLECTION}/documents/{}?consistency=linearizable", key(value));
        clients.follow().await;
        let Ok(answer) = clients.impatient.try_send(Method::GET, &path, &[], "").await else { continue };
        match answer.status.as_u16() {
            200 => {
                reads += 1;
                let found = answer.json();
                let there = found["value"].as_u64().unwrap_or(u64::MAX);
                if there < value || key(there) != key(value) || found["_version"] != version(there) {
                    shared.fault(format!("value {value} was acknowledged, read was {found}"));
                }
            }
            404 => shared.fault(format!("value {value} was acknowledged and is lost: {answer:?}")),
            _ => {}
        }
    }
    reads
}

/// Waits until the own store of each of the first `pods` nodes has exactly what was written.
pub async fn expect_everywhere(place: &Place, written: u64, pods: u32) {
    let wanted: Vec<(String, u64, u64)> =
        (0..KEYS.min(written)).map(|at| newest(at, written)).map(|value| (key(value), version(value), value)).collect();
    for pod in (0..pods).map(|ordinal| format!("orders-{ordinal}")) {
        until(&format!("{pod} has every acknowledged write once"), async || {
            let client = place.node_client(&pod).await;
            let answer = client.try_send(Method::GET, &format!("{COLLECTION}/export"), &[], "").await;
            let answer = answer.map_err(|error| format!("{error:?}"))?;
            let lines = answer.body.lines().map(serde_json::from_str::<Value>);
            let found: Vec<(String, u64, u64)> = lines
                .map(|line| {
                    let line = line.map_err(|error| format!("{error}: {}", answer.body))?;
                    let number = |name: &str| line[name].as_u64().unwrap_or(u64::MAX);
                    Ok((line["_key"].as_str().unwrap_or_default().to_owned(), number("_version"), number("value")))
                })
                .collect::<Result<_, String>>()?;
            let first = wanted.iter().zip(&found).find(|(wanted, found)| wanted != found);
            if found == wanted { Ok(()) } else { Err(format!("{} documents, first difference {first:?}", found.len())) }
        })
        .await;
    }
}

/// The newest of `written` values that has this key.
fn newest(at: u64, written: u64) -> u64 {
    at + (written - 1 - at) / KEYS * KEYS
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_version_of_a_key_has_one_value() {
        assert_eq!((key(0), version(0)), ("k00".to_owned(), 1));
        assert_eq!((key(KEYS + 3), version(KEYS + 3)), ("k03".to_owned(), 2));
        assert_eq!(newest(3, KEYS + 4), KEYS + 3);
        assert_eq!(newest(4, KEYS + 4), 4);
        assert_eq!(newest(0, 1), 0);
    }
}
