//! The load: what each connection sends, one request after the other.

use crate::args::{BenchArgs, Workload};
use crate::connection::Connection;
use crate::report::cpu_time;
use anyhow::{Context as _, bail};
use hdrhistogram::Histogram;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// How long a database may take to be ONLINE on every node.
const READY_PATIENCE: Duration = Duration::from_secs(60);

/// What one connection, or all of them, measured.
#[derive(Debug, Clone)]
pub struct Measured {
    /// Time of each success, in microseconds.
    pub times: Histogram<u64>,
    /// How often something else happened, by status or fault.
    pub errors: BTreeMap<String, u64>,
    /// How long it took, without what was written before.
    pub took: Duration,
    /// CPU time of the generator meanwhile.
    pub cpu: Duration,
}

/// What all connections share.
struct Plan {
    workload: Workload,
    documents: String,
    value: String,
    keys: u64,
    /// Different in each run, so that inserts are inserts.
    run: u64,
}

impl Measured {
    fn new() -> anyhow::Result<Self> {
        Ok(Self {
            times: Histogram::new_with_bounds(1, 120_000_000, 3)?,
            errors: BTreeMap::new(),
            took: Duration::ZERO,
            cpu: Duration::ZERO,
        })
    }

    fn add(&mut self, other: &Self) -> anyhow::Result<()> {
        self.times.add(&other.times)?;
        for (name, count) in &other.errors {
            *self.errors.entry(name.clone()).or_default() += count;
        }
        Ok(())
    }

    fn count_error(&mut self, name: String) {
        *self.errors.entry(name).or_default() += 1;
    }

    /// Everything that was not a success.
    pub fn error_count(&self) -> u64 {
        self.errors.values().sum()
    }
}

/// Makes the database if it is not there, and waits until every node serves it.
pub async fn prepare(args: &BenchArgs, addresses: &[SocketAddr]) -> anyhow::Result<()> {
    let path = format!("/v1/databases/{}", args.database);
    for (at, address) in addresses.iter().enumerate() {
        let mut connection = Connection::new(*address);
        let deadline = Instant::now() + READY_PATIENCE;
        loop {
            let status =
                connection.send("GET", &path, b"").await.with_context(|| format!("{address} does not answer"))?;
            let body = String::from_utf8_lossy(connection.body()).into_owned();
            if status == 200 && body.contains("\"status\":\"ONLINE\"") {
                break;
            }
            if status == 404 && at == 0 {
                connection.send("PUT", &path, b"{}").await?;
            }
            if Instant::now() > deadline {
                bail!("database {} is not ONLINE at {address}: {status} {body}", args.database);
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
    Ok(())
}

/// Writes the documents that the workload needs, then runs it for its time.
pub async fn run(args: &BenchArgs, addresses: &[SocketAddr]) -> anyhow::Result<Measured> {
    let run = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_millis()) as u64;
    let plan = Arc::new(Plan {
        workload: args.workload,
        documents: format!("/v1/databases/{}/collections/{}/documents", args.database, args.collection),
        value: format!("{{\"value\":\"{}\"}}", "x".repeat(args.value_bytes as usize)),
        keys: u64::from(args.keys),
        run,
    });
    let mut connections: Vec<Connection> = (0..args.connections as usize)
        .zip(addresses.iter().cycle())
        .map(|(_, address)| Connection::new(*address))
        .collect();
    if args.workload.needs_documents() {
        connections = fill(&plan, connections).await?;
    }
    let (begun, cpu) = (Instant::now(), cpu_time());
    let until = begun + Duration::from_secs(u64::from(args.seconds));
    let mut tasks = tokio::task::JoinSet::new();
    for (number, connection) in connections.into_iter().enumerate() {
        tasks.spawn(one(Arc::clone(&plan), number as u64, connection, until));
    }
    let mut all = Measured::new()?;
    while let Some(measured) = tasks.join_next().await {
        all.add(&measured??)?;
    }
    (all.took, all.cpu) = (begun.elapsed(), cpu_time().saturating_sub(cpu));
    Ok(all)
}

async fn fill(plan: &Arc<Plan>, connections: Vec<Connection>) -> anyhow::Result<Vec<Connection>> {
    let step = connections.len() as u64;
    let mut tasks = tokio::task::JoinSet::new();
    for (first, mut connection) in connections.into_iter().enumerate() {
        let plan = Arc::clone(plan);
        tasks.spawn(async move {
            for key in (first as u64..plan.keys).step_by(step as usize) {
                let status = connection.send("PUT", &plan.document(key), plan.value.as_bytes()).await?;
                if !(200..300).contains(&status) {
                    bail!("filling: {status} {}", String::from_utf8_lossy(connection.body()));
                }
            }
            Ok(connection)
        });
    }
    let mut back = Vec::new();
    while let Some(connection) = tasks.join_next().await {
        back.push(connection??);
    }
    Ok(back)
}

async fn one(plan: Arc<Plan>, number: u64, mut connection: Connection, until: Instant) -> anyhow::Result<Measured> {
    let mut measured = Measured::new()?;
    let mut random = Random::new(plan.run ^ number.wrapping_mul(0x9E37_79B9_7F4A_7C15));
    for count in 0u64.. {
        let (method, path) = plan.request(number, count, &mut random);
        let body = if method == "PUT" { plan.value.as_bytes() } else { b"" };
        let begun = Instant::now();
        if begun >= until {
            break;
        }
        match connection.send(method, &path, body).await {
            Ok(200..300) => measured.times.saturating_record(begun.elapsed().as_micros() as u64),
            Ok(status) => {
                measured.count_error(status.to_string());
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            Err(error) => {
                measured.count_error(error.kind().to_string());
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        }
    }
    Ok(measured)
}

impl Plan {
    fn document(&self, key: u64) -> String {
        format!("{}/k{key:08}", self.documents)
    }

    fn request(&self, number: u64, count: u64, random: &mut Random) -> (&'static str, String) {
        let key = random.below(self.keys);
        match self.workload {
            Workload::Insert => ("PUT", format!("{}/i{}-{number}-{count}", self.documents, self.run)),
            Workload::Update => ("PUT", self.document(key)),
            Workload::Read => ("GET", self.document(key)),
            Workload::Linearizable => ("GET", format!("{}?consistency=linearizable", self.document(key))),
            Workload::Mixed if random.below(2) == 0 => ("PUT", self.document(key)),
            Workload::Mixed => ("GET", self.document(key)),
        }
    }
}

/// Numbers that look random (xorshift).
struct Random(u64);

impl Random {
    fn new(seed: u64) -> Self {
        Self(seed | 1)
    }

    fn below(&mut self, end: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) % end
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(workload: Workload) -> Plan {
        Plan { workload, documents: "/d".to_owned(), value: "{}".to_owned(), keys: 10, run: 7 }
    }

    #[test]
    fn inserts_have_new_keys_and_others_stay_inside_their_set() {
        let mut random = Random::new(1);
        let insert = plan(Workload::Insert);
        assert_ne!(insert.request(0, 1, &mut random), insert.request(0, 2, &mut random));
        assert_ne!(insert.request(0, 1, &mut random), insert.request(1, 1, &mut random));
        let update = plan(Workload::Update);
        let keys: std::collections::BTreeSet<String> = (0..500).map(|n| update.request(0, n, &mut random).1).collect();
        assert_eq!(keys.len(), 10, "{keys:?}");
    }

    #[test]
    fn a_mixed_load_reads_and_writes_about_as_often() {
        let (mixed, mut random) = (plan(Workload::Mixed), Random::new(3));
        let writes = (0..1000).filter(|n| mixed.request(0, *n, &mut random).0 == "PUT").count();
        assert!((400..600).contains(&writes), "{writes}");
    }
}
