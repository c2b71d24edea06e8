//! A node that nobody reaches, and its way back: with its place kept, and without.

use super::e2e_operator::leader;
use super::e2e_restarts::KILLS_MAX;
use coequal_tests::cluster::replication;
use coequal_tests::kubernetes::{Load, Place, With, at, condition, import_after, scenario, until};
use serde_json::{Value, json};

/// What orders-0 says of the database.
async fn view(place: &Place) -> Result<Value, String> {
    replication(&place.node_client("orders-0").await, "orders")
        .await
        .ok_or_else(|| "orders-0 does not answer".to_owned())
}

fn voters(view: &Value) -> Vec<String> {
    let nodes = view["nodes"].as_array().into_iter().flatten();
    let voters = nodes.filter(|node| node["role"] == "voter").map(|node| at(node, "/name"));
    let mut names: Vec<String> = voters.collect();
    names.sort();
    names
}

/// What is missed: enough to be seen on the way back.
const MISSED: usize = 10_000;

/// Lets a node that is cut off miss much, and come back by a slow way: it is shown as SYNCHRONIZING by every operator that
/// leads all the time. One that is itself killed meanwhile may show nothing of it, and the node is cut off once more.
async fn come_back_synchronizing(place: &Place, node: &str) {
    for time in 0..KILLS_MAX as usize {
        import_after(place, time * MISSED, MISSED).await;
        place.process(node).await.kill();
        place.slow_down(node).await;
        let (leads, _) = until("an operator leads", async || leader(place).await).await;
        place.heal(node).await;
        let (status, took) = until(&format!("{node} is on its way back"), async || {
            let status = place.status_of(node).await;
            if ["SYNCHRONIZING", "ONLINE"].contains(&status.as_str()) { Ok(status) } else { Err(status) }
        })
        .await;
        println!("{}: {node} is {status} {took:.1?} after it came back", place.namespace);
        if status == "SYNCHRONIZING" {
            return;
        }
        let now = leader(place).await;
        assert_ne!(now, Ok(leads), "it led all the time, and {node} was not shown as SYNCHRONIZING");
        println!("{}: the operator was killed when {node} came back, now {now:?}", place.namespace);
        place.speed_up(node).await;
        place.cut(node).await;
        place.until_node(node, "OFFLINE").await;
    }
    panic!("{KILLS_MAX} times the operator was killed when {node} came back");
}

#[test]
fn a_node_that_was_away_is_shown_offline_synchronizing_and_online_and_keeps_its_place() {
    scenario("e2e-away", With::OthersBeside, async |place| {
        let databases = json!([{ "name": "orders", "hotAlignment": true }]);
        let spec = json!({ "replicas": 3, "databases": databases, "unreachableGracePeriodSeconds": 3 });
        place.start(spec).await;
        let load = Load::start(place, 0).await;
        let before = view(place).await.expect("orders-0 answers");

        place.cut("orders-1").await;
        place.until_node("orders-1", "OFFLINE").await;
        // A wish that needs everybody waits, and says for whom.
        place.scale(2).await;
        place
            .until_orders("the removal waits for orders-1", |orders| {
                let text = condition(orders, "Reconciling")["message"].as_str().unwrap_or("").to_owned();
                text.contains("orders-1 to be ONLINE before orders-2 is removed")
            })
            .await;
        place.scale(3).await;
        until("the grace period is over", async || {
            let view = view(place).await?;
            let nodes = view["nodes"].as_array().into_iter().flatten();
            let away = nodes.clone().find(|node| node["name"] == "orders-1").map(|node| &node["lastContactSeconds"]);
            let seconds = away.and_then(Value::as_f64).unwrap_or(0.0);
            if seconds > 6.0 { Ok(()) } else { Err(format!("{seconds} s away")) }
        })
        .await;
        assert_eq!(voters(&view(place).await.expect("an answer")).len(), 3, "its place is kept");

        come_back_synchronizing(place, "orders-1").await;
        // Over 2 Mbit/s, beside what is written meanwhile; the operator's own questions may time out there.
        place.until_node("orders-1", "ONLINE").await;
        place.speed_up("orders-1").await;
        place.until_ready(3).await;
        let message = place.until_node("orders-1", "ONLINE").await;
        assert_eq!(message, "");
        load.finish(place, "unreachable and back, hotAlignment true", 3).await;
        assert_eq!(view(place).await.expect("an answer")["epoch"], before["epoch"], "no configuration was changed");
    });
}

#[test]
fn without_hot_alignment_a_node_that_was_away_is_removed_and_deployed_anew() {
    scenario("e2e-removed", With::OthersBeside, async |place| {
        let databases = json!([{ "name": "orders", "hotAlignment": false }]);
        let spec = json!({ "replicas": 3, "databases": databases, "unreachableGracePeriodSeconds": 3 });
        place.start(spec).await;
        let load = Load::start(place, 0).await;
        let before = view(place).await.expect("orders-0 answers");
        place.cut("orders-1").await;
        let (_, took) = until("orders-1 is out of the database", async || {
            let view = view(place).await?;
            let voters = voters(&view);
            if voters == ["orders-0", "orders-2"] { Ok(()) } else { Err(format!("voters {voters:?}")) }
        })
        .await;
        println!("TIME until a lost node was removed (grace 3 s): {took:.1?}");
        load.goes_on().await;
        place.heal("orders-1").await;
        let (_, took) = until("orders-1 votes again", async || {
            let view = view(place).await?;
            let voters = voters(&view);
            if voters.len() == 3 { Ok(()) } else { Err(format!("voters {voters:?}")) }
        })
        .await;
        println!("TIME until it was deployed anew and voted: {took:.1?}");
        place.until_ready(3).await;
        load.finish(place, "unreachable and back, hotAlignment false", 3).await;
        let (epoch, first) = (view(place).await.expect("an answer")["epoch"].as_u64(), before["epoch"].as_u64());
        assert!(epoch > first, "configurations were changed: {first:?}, then {epoch:?}");
    });
}
