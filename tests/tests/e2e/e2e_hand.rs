//! What other people do by hand: changed children are put back, foreign objects are left alone.

use coequal_tests::kubernetes::{Load, PATIENCE, With, at, condition, expect_everywhere, scenario, until};
use serde_json::{Value, json};

#[test]
fn children_that_were_changed_or_deleted_by_hand_are_put_back() {
    scenario("e2e-hand", With::OthersBeside, async |place| {
        place.start(json!({ "replicas": 3 })).await;
        let load = Load::start(place, 0).await;
        let budget = format!("/apis/policy/v1/namespaces/{}/poddisruptionbudgets/orders-nodes", place.namespace);
        let policy = format!("/apis/networking.k8s.io/v1/namespaces/{}/networkpolicies/orders-nodes", place.namespace);
        let (set, pods) = (place.stateful_set("orders"), place.pods().await);

        place.api.patch(&budget, &json!({ "spec": { "maxUnavailable": 3 } })).await;
        place.api.patch(&policy, &json!({ "spec": { "ingress": [] } })).await;
        place
            .api
            .patch(&set, &json!({ "spec": { "persistentVolumeClaimRetentionPolicy": { "whenDeleted": "Delete" } } }))
            .await;
        place.api.delete(&place.core("serviceaccounts/orders-nodes"), None).await;
        let (_, took) = until("all is put back", async || {
            let read = async |path: &str| place.api.get(path).await.unwrap_or(Value::Null);
            let found = [
                at(&read(&budget).await, "/spec/maxUnavailable"),
                read(&policy).await["spec"]["ingress"].as_array().map_or(0, Vec::len).to_string(),
                at(&read(&set).await, "/spec/persistentVolumeClaimRetentionPolicy/whenDeleted"),
                at(&read(&place.core("serviceaccounts/orders-nodes")).await, "/metadata/name"),
            ];
            if found == ["1", "2", "Retain", "orders-nodes"] { Ok(()) } else { Err(format!("{found:?}")) }
        })
        .await;
        println!("TIME children put back: {took:.1?}");
        place.until_ready(3).await;
        assert_eq!(place.pods().await, pods, "no pod was replaced");
        let written = load.finish(place, "children changed by hand", 3).await;

        // Two nodes are taken away at once: nobody can write until they are back, and nothing is lost.
        let load = Load::start(place, written).await;
        place.api.patch(&set, &json!({ "spec": { "replicas": 1 } })).await;
        until("there are three pods again that were not told to go", async || {
            let now = place.pods().await;
            let count = now.iter().filter(|pod| !pods.contains(pod)).count();
            if now.len() == 3 && count == 2 { Ok(()) } else { Err(format!("{now:?}")) }
        })
        .await;
        println!("TIME StatefulSet scaled by hand to Ready: {:.1?}", place.until_ready(3).await);
        let written = load.end("StatefulSet scaled to 1 by hand", PATIENCE).await;
        expect_everywhere(place, written, 3).await;
    });
}

#[test]
fn a_service_of_somebody_else_is_never_touched_and_that_is_said() {
    scenario("e2e-foreign", With::OthersBeside, async |place| {
        let foreign = json!({ "metadata": { "name": "orders" }, "spec": { "ports": [{ "port": 80 }] } });
        let made = place.api.create(&place.core("services"), &foreign).await;
        place.create("orders", json!({ "replicas": 1 })).await;
        let what = "Stalled names the foreign object";
        place
            .until_orders(what, |orders| {
                let stalled = condition(orders, "Stalled");
                let text = stalled["message"].as_str().unwrap_or("").to_owned();
                stalled["reason"] == "ForeignObject" && text.contains("Service orders exists and does not belong to")
            })
            .await;
        let there = place.object("services/orders").await;
        assert_eq!(there["metadata"]["resourceVersion"], made["metadata"]["resourceVersion"], "untouched");
        place.api.delete(&place.core("services/orders"), None).await;
        place.until_ready(1).await;
        Load::start(place, 0).await.finish(place, "a single node", 1).await;
    });
}
