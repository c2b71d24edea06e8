//! Many documents at once, and that every node has them.

use super::access::send_until_done;
use super::place::Place;
use super::wait::until;
use crate::checker::Ledger;
use crate::cities::{body, cities};
use reqwest::Method;
use std::time::Instant;

const CITIES: &str = "/v1/databases/orders/collections/cities";

/// Imports documents through the Service; what was acknowledged is kept.
pub async fn import(place: &Place, count: usize) -> Ledger {
    import_after(place, 0, count).await
}

/// Imports so many documents after the first ones.
pub async fn import_after(place: &Place, first: usize, count: usize) -> Ledger {
    let (client, mut ledger, begun) = (place.client().await, Ledger::default(), Instant::now());
    for (at, part) in cities(first + count)[first..].chunks(2_000).enumerate() {
        part.iter().for_each(|city| ledger.sends(&city.key));
        let (path, key) = (format!("{CITIES}/documents:batch"), format!("import-{first}-{at}"));
        let answer = send_until_done(&client, Method::POST, &path, "application/x-ndjson", &key, body(part)).await;
        assert_eq!(ledger.take_batch(&answer.body), part.len(), "a result for each line");
    }
    println!("TIME import of {count} documents: {:.1?}", begun.elapsed());
    ledger
}

/// The own store of each of the first `pods` nodes has all that was imported.
pub async fn expect_imported(place: &Place, ledger: &Ledger, pods: u32) {
    for pod in (0..pods).map(|ordinal| format!("orders-{ordinal}")) {
        until(&format!("{pod} has all documents"), async || {
            let client = place.node_client(&pod).await;
            let answer = client.try_send(Method::GET, &format!("{CITIES}/export"), &[], "").await;
            let answer = answer.map_err(|error| format!("{error:?}"))?;
            if !answer.status.is_success() {
                return Err(format!("{} {}", answer.status, answer.body));
            }
            let faults = ledger.faults(&answer.body);
            if faults.is_empty() { Ok(()) } else { Err(format!("{} faults: {:?}", faults.len(), faults[0])) }
        })
        .await;
    }
}
