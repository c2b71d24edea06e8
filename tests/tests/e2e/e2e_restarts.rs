//! Nodes that are replaced: by wish, by a broken wish, by somebody who deletes a pod.

use super::e2e_operator::leader;
use coequal_tests::kubernetes::{Load, Place, With, condition, scenario, until};
use serde_json::json;
use std::time::{Duration, Instant};

/// Waits until each of these pods was replaced by another of its name, and all are Ready.
async fn until_all_replaced(place: &Place, old: &[(String, String)]) -> Duration {
    let (_, took) = until("every pod was replaced", async || {
        let pods = place.pods().await;
        let kept: Vec<_> = pods.iter().filter(|pod| old.contains(pod)).collect();
        if kept.is_empty() && pods.len() == old.len() { Ok(()) } else { Err(format!("{kept:?} still there")) }
    })
    .await;
    took + place.until_ready(old.len() as u64).await
}

/// How soon an operator shows that a node's process was killed, on a busy machine.
const SHOWN_WITHIN: Duration = Duration::from_secs(20);
/// The operators are killed about once a minute meanwhile, by each scenario that runs.
pub const KILLS_MAX: u32 = 5;

/// Kills a node's process, which is shown as OFFLINE until it is back: by every operator that leads all the time. One that is
/// itself killed just then shows nothing, and the process is killed once more.
async fn kill_shown_as_offline(place: &Place, node: &str) -> Duration {
    for _ in 0..KILLS_MAX {
        let (leads, _) = until("an operator leads", async || leader(place).await).await;
        place.process(node).await.kill();
        let begun = Instant::now();
        while begun.elapsed() < SHOWN_WITHIN {
            if place.status_of(node).await == "OFFLINE" {
                return place.until_ready(3).await;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        let now = leader(place).await;
        assert_ne!(now, Ok(leads), "it led all the time, and {node} was not shown as OFFLINE within {SHOWN_WITHIN:?}");
        println!("{}: the operator was killed when {node} was, now {now:?}", place.namespace);
        place.until_ready(3).await;
    }
    panic!("{KILLS_MAX} times the operator was killed within {SHOWN_WITHIN:?} of {node}");
}

#[test]
fn a_restart_by_annotation_takes_one_node_at_a_time() {
    scenario("e2e-restart", With::OthersBeside, async |place| {
        place.start(json!({ "replicas": 3 })).await;
        let load = Load::start(place, 0).await;
        let old = place.pods().await;
        place.patch(json!({ "metadata": { "annotations": { "coequal.dev/restart": "once" } } })).await;
        let took = until_all_replaced(place, &old).await;
        println!("TIME rolling restart of three: {took:.1?}");
        load.finish(place, "rolling restart", 3).await;
    });
}

#[test]
fn a_broken_image_stops_at_one_node_and_its_correction_reaches_it() {
    scenario("e2e-image", With::OthersBeside, async |place| {
        place.start(json!({ "replicas": 3 })).await;
        let load = Load::start(place, 0).await;
        let old = place.pods().await;
        place.patch(json!({ "spec": { "image": "localhost/coequal-node:nowhere" } })).await;
        let what = "Stalled says that the image cannot be had";
        place
            .until_orders(what, |orders| {
                let stalled = condition(orders, "Stalled");
                stalled["status"] == "True"
                    && stalled["reason"] == "ImageNotAvailable"
                    && stalled["message"].as_str().is_some_and(|text| text.contains("correct spec.image"))
            })
            .await;
        load.goes_on().await;
        let kept = place.pods().await.into_iter().filter(|pod| old.contains(pod)).count();
        assert_eq!(kept, 2, "only one node was touched");
        assert_eq!(condition(&place.orders().await, "Available")["status"], "True");
        place.patch(json!({ "spec": { "image": "localhost/coequal-node:0.1.0" } })).await;
        let took = until_all_replaced(place, &old).await;
        println!("TIME from the correction to Ready: {took:.1?}");
        load.finish(place, "broken image, then corrected", 3).await;
    });
}

#[test]
fn a_deleted_pod_comes_back() {
    scenario("e2e-pod", With::OthersBeside, async |place| {
        place.start(json!({ "replicas": 3 })).await;
        let load = Load::start(place, 0).await;
        let old = place.uid("orders-1").await;
        place.api.delete(&place.core("pods/orders-1"), None).await;
        let took = place.until_other_pod("orders-1", &old).await;
        println!("TIME deleted pod to Ready: {took:.1?}");
        place.until_ready(3).await;
        let took = kill_shown_as_offline(place, "orders-2").await;
        println!("TIME killed process to Ready: {took:.1?}");
        load.finish(place, "pod deleted, process killed", 3).await;
    });
}
