//! What the operator itself needs: memory, processor and requests with one and with two hundred resources.

use coequal_tests::apiserver::{Fakes, Namespace, Operator};
use coequal_tests::kubernetes::until;
use futures::StreamExt as _;
use serde_json::json;
use std::time::{Duration, Instant};

/// `deploy/operator.yaml` gives it 256 MiB.
const RESIDENT_BYTES_MAX: u64 = 160 << 20;
/// A watch is begun anew every two minutes, and there are nine.
const REQUESTS_PER_SECOND_MAX: f64 = 0.5;
/// Three Secrets of each resource are read by name every five minutes.
const SECRETS_PER_RESOURCE_AND_SECOND_MAX: f64 = 3.0 / 300.0;
/// Each resource is looked at every 30 s.
const RECONCILES_PER_RESOURCE_AND_SECOND_MAX: f64 = 1.0 / 25.0;
/// How long nothing has to be written before it counts as settled.
const QUIET: Duration = Duration::from_secs(5);

async fn reconciles(operator: &Operator) -> u64 {
    operator.metric("reconciles_total").await.expect("metrics")
}

/// Waits until every resource is Ready and nothing more is written.
async fn until_settled(namespace: &Namespace, operator: &Operator, count: usize) {
    let mut seen = (0, Instant::now());
    until(&format!("{count} resources are Ready, and nothing more is written"), async || {
        let list = namespace.api.get(&namespace.databases("")).await.unwrap_or_default();
        let items = list["items"].as_array().cloned().unwrap_or_default();
        let is_ready = |condition: &serde_json::Value| condition["type"] == "Ready" && condition["status"] == "True";
        let ready = items
            .iter()
            .filter(|item| item["status"]["conditions"].as_array().is_some_and(|all| all.iter().any(is_ready)));
        let (ready, changes) = (ready.count(), operator.gate.changes().len());
        if seen.0 != changes {
            seen = (changes, Instant::now());
        }
        match ready == count && seen.1.elapsed() >= QUIET {
            true => Ok(()),
            false => Err(format!("{ready} are Ready, {changes} changes")),
        }
    })
    .await;
}

/// Waits until every resource was looked at once more, and holds what that took against the bounds.
async fn measure_idle(operator: &Operator, count: u64) {
    let (begun, looks, requests, changes) =
        (Instant::now(), reconciles(operator).await, operator.gate.requests(), operator.gate.changes().len());
    let processor = operator.usage().1;
    until("each resource is looked at once more", async || {
        let now = reconciles(operator).await;
        if now >= looks + count { Ok(()) } else { Err(format!("{looks}, now {now}")) }
    })
    .await;
    let seconds = begun.elapsed().as_secs_f64();
    let (resident, now) = operator.usage();
    let per_second = |number: f64| number / seconds;
    let number = |from: u64| f64::from(u32::try_from(from).expect("few"));
    let looks = per_second(number(reconciles(operator).await - looks));
    let requests = per_second(number(operator.gate.requests() - requests));
    println!(
        "IDLE {count} resources: {} MiB resident, {:.4} processors, {requests:.2} requests/s (and one for its lease), \
         {looks:.2} reconciles/s, {} changes in {seconds:.0} s",
        resident >> 20,
        per_second(now - processor),
        operator.gate.changes().len() - changes,
    );
    assert_eq!(operator.gate.changes().len(), changes, "nothing is written while nothing happens");
    assert!(resident < RESIDENT_BYTES_MAX, "{resident} bytes resident");
    let most = REQUESTS_PER_SECOND_MAX + SECRETS_PER_RESOURCE_AND_SECOND_MAX * number(count);
    assert!(requests < most, "{requests} requests per second");
    // The first look may come at once.
    let most = RECONCILES_PER_RESOURCE_AND_SECOND_MAX * number(count) + per_second(1.0);
    assert!(looks <= most, "{looks} reconciles per second of {count} resources, at most {most}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_and_two_hundred_resources_cost_next_to_nothing_while_nothing_happens() {
    let test = "one_and_two_hundred_resources_cost_next_to_nothing_while_nothing_happens";
    let Some(namespace) = Namespace::new(test).await else { return };
    let _fakes = Fakes::start(&namespace);
    let mut operator = namespace.operator().await;
    operator.start();
    namespace.create("r0", &json!({})).await;
    until_settled(&namespace, &operator, 1).await;
    println!("FIRST START of one resource: {} changes", operator.gate.changes().len());
    measure_idle(&operator, 1).await;
    let (looks, changes) = (reconciles(&operator).await, operator.gate.changes().len());
    namespace.change("r0", json!({ "unreachableGracePeriodSeconds": 90 })).await;
    namespace.until_ready("r0").await;
    until_settled(&namespace, &operator, 1).await;
    let (looks, changes) = (reconciles(&operator).await - looks, operator.gate.changes().len() - changes);
    println!("CHANGE of a setting: {looks} reconciles, {changes} changes sent");
    assert!(looks <= 8 && changes <= 5, "{looks} reconciles, {changes} changes");
    let begun = Instant::now();
    for batch in [1..50, 50..100, 100..150, 150..200] {
        let count = batch.end;
        let creating = batch.map(|at| {
            let (namespace, name) = (&namespace, format!("r{at}"));
            async move { namespace.create(&name, &json!({})).await }
        });
        futures::stream::iter(creating).buffer_unordered(8).for_each(async |_| {}).await;
        until_settled(&namespace, &operator, count).await;
    }
    println!("199 MORE resources in four batches, Ready after {:.0} s", (begun.elapsed() - 4 * QUIET).as_secs_f64());
    measure_idle(&operator, 200).await;
}
