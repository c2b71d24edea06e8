//! More nodes, fewer nodes, none and back.

use coequal_tests::cities::import_size;
use coequal_tests::kubernetes::{
    Load, Place, With, condition, expect_everywhere, expect_imported, import, scenario, until,
};
use serde_json::json;

/// Waits for fewer nodes, and sees that never two go at once and always the highest.
async fn until_one_by_one(place: &Place, from: u64, to: u64) {
    let mut lowest = from;
    let (_, took) = until(&format!("{from} nodes become {to}"), async || {
        let spec = place.api.get(&place.stateful_set("orders")).await.unwrap_or_default();
        let pods = spec["spec"]["replicas"].as_u64().unwrap_or(lowest);
        assert!(pods == lowest || pods + 1 == lowest, "{lowest} pods became {pods} at once");
        lowest = pods;
        if pods == to { Ok(()) } else { Err(format!("{pods} pods wanted")) }
    })
    .await;
    let ready = place.until_ready(to).await;
    println!("TIME scale-in {from} to {to}: {:.1?}", took + ready);
}

#[test]
fn nodes_are_added_with_all_documents_and_removed_one_at_a_time() {
    scenario("e2e-scaling", With::OthersBeside, async |place| {
        place.start(json!({ "replicas": 3 })).await;
        let ledger = import(place, import_size(20_000)).await;

        let load = Load::start(place, 0).await;
        place.scale(5).await;
        let took = place.until_ready(5).await;
        println!("TIME scale-out 3 to 5 with {} documents: {took:.1?}", ledger.sent.len());
        let written = load.finish(place, "scale-out 3 to 5", 5).await;
        expect_imported(place, &ledger, 5).await;

        let load = Load::start(place, written).await;
        place.scale(3).await;
        until_one_by_one(place, 5, 3).await;
        load.finish(place, "scale-in 5 to 3", 3).await;
        expect_imported(place, &ledger, 3).await;
    });
}

#[test]
fn a_scale_in_is_called_off_by_scaling_back() {
    scenario("e2e-scale-back", With::OthersBeside, async |place| {
        place.start(json!({ "replicas": 4 })).await;
        let load = Load::start(place, 0).await;
        place.scale(3).await;
        let what = "the removal of orders-3 has begun";
        place
            .until_orders(what, |orders| {
                // A removal that is over before anybody looked is called off too, by one more scale-out.
                condition(orders, "Reconciling")["reason"] == "RemovingNodes" || orders["status"]["replicas"] == 3
            })
            .await;
        place.scale(4).await;
        let took = place.until_ready(4).await;
        println!("TIME scale-in called off: {took:.1?}");
        load.finish(place, "scale-in called off", 4).await;
    });
}

#[test]
fn no_node_and_back_keeps_all_data() {
    scenario("e2e-hibernate", With::OthersBeside, async |place| {
        place.start(json!({ "replicas": 3 })).await;
        let load = Load::start(place, 0).await;
        let written = load.finish(place, "before the nodes stop", 3).await;
        let cluster = place.orders().await["status"]["clusterId"].clone();
        place.scale(0).await;
        let what = "all nodes are stopped";
        let took = place
            .until_orders(what, |orders| {
                let ready = condition(orders, "Ready");
                orders["status"]["replicas"] == 0 && ready["reason"] == "Hibernated" && ready["status"] == "True"
            })
            .await;
        assert_eq!(place.pods().await, [], "no pod is left");
        place.scale(3).await;
        let woken = place.until_ready(3).await;
        println!("TIME to stop all nodes: {took:.1?}; to wake them: {woken:.1?}");
        assert_eq!(place.orders().await["status"]["clusterId"], cluster);
        expect_everywhere(place, written, 3).await;
        Load::start(place, written).await.finish(place, "after the nodes came back", 3).await;
    });
}
