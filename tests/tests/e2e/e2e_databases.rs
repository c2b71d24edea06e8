//! Databases while they are in use: their settings, new ones, and those that are no longer declared.

use coequal_tests::kubernetes::{Load, Place, With, scenario, until};
use serde_json::{Value, json};

async fn configuration(place: &Place, pod: &str, database: &str) -> Value {
    place.node_client(pod).await.get(&format!("/v1/databases/{database}")).await.json()["configuration"].clone()
}

#[test]
fn settings_change_in_place_and_databases_come_and_are_kept() {
    scenario("e2e-databases", With::OthersBeside, async |place| {
        place.start(json!({ "replicas": 3, "databases": [{ "name": "orders" }] })).await;
        let pods = place.pods().await;
        let load = Load::start(place, 0).await;

        let orders = json!({ "name": "orders", "readQuorum": "majority", "hotAlignment": false, "writeQuorum": 2 });
        place.patch(json!({ "spec": { "databases": [orders], "unreachableGracePeriodSeconds": 90 } })).await;
        for pod in ["orders-0", "orders-1", "orders-2"] {
            until(&format!("{pod} has the new settings"), async || {
                let found = configuration(place, pod, "orders").await;
                let wanted = found["readQuorum"] == "majority"
                    && found["hotAlignment"] == false
                    && found["writeQuorum"] == 2
                    && found["unreachableGracePeriodSeconds"] == 90;
                if wanted { Ok(()) } else { Err(found.to_string()) }
            })
            .await;
        }

        place.patch(json!({ "spec": { "databases": [orders, { "name": "stock" }] } })).await;
        let took = place.until_database("stock", 3).await;
        println!("TIME a database added: {took:.1?}");
        place.until_ready(3).await;
        let path = "/v1/databases/stock/collections/shelves/documents/a";
        let answer = place.client().await.put(path, "{\"kept\":true}").await;
        assert!(answer.status.is_success(), "{answer:?}");

        place.patch(json!({ "spec": { "databases": [orders] } })).await;
        until("an Event says that stock is kept", async || {
            let events = place.kubectl(&["get", "events", "-o", "jsonpath={.items[*].message}"]);
            if events.contains("no longer declared are kept: stock") { Ok(()) } else { Err(events) }
        })
        .await;
        place.until_ready(3).await;
        let kept = place.client().await.get(&format!("{path}?consistency=linearizable")).await;
        assert_eq!(kept.json()["kept"], true, "a line left out deletes nothing");
        assert_eq!(place.pods().await, pods, "no pod was replaced");
        load.finish(place, "settings changed, database added and left out", 3).await;
    });
}
