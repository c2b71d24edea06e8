//! The operator itself: upgraded, killed, paused. What was under way is finished by the next.

use coequal_tests::kubernetes::{Load, OPERATOR_NAMESPACE, Place, With, at, is_ready, scenario, until};
use serde_json::{Value, json};
use std::time::Duration;

const LEASE: &str = "/apis/coordination.k8s.io/v1/namespaces/coequal-system/leases/coequal-operator";

/// The pod of the operator that leads.
pub async fn leader(place: &Place) -> Result<String, String> {
    let lease = place.api.get(LEASE).await.unwrap_or(Value::Null);
    let holder = at(&lease, "/spec/holderIdentity");
    // The pod's name, and something that no other start has.
    let pod = holder.rsplit_once('-').map(|(pod, _)| pod.to_owned()).ok_or_else(|| format!("holder {holder:?}"))?;
    if place.operators().await.contains(&pod) { Ok(pod) } else { Err(format!("{pod} leads and is gone")) }
}

async fn until_answered(place: &Place, what: &str) -> Duration {
    place.until_orders(what, |orders| is_ready(orders, 3)).await
}

#[test]
fn an_upgrade_of_the_operator_restarts_no_node() {
    scenario("e2e-upgrade", With::Operator, async |place| {
        place.start(json!({ "replicas": 3 })).await;
        let (pods, before) = (place.pods().await, leader(place).await);
        let load = Load::start(place, 0).await;
        place.deploy_operator("0.1.1");
        until("another operator leads", async || {
            let now = leader(place).await?;
            if Ok(&now) == before.as_ref() { Err(now) } else { Ok(()) }
        })
        .await;
        // Something that only the new one can have done.
        place.patch(json!({ "spec": { "unreachableGracePeriodSeconds": 61 } })).await;
        until_answered(place, "the new operator has answered").await;
        assert_eq!(place.pods().await, pods, "the same pods");
        assert_eq!(place.restarts().await, 0, "and none was restarted");
        load.finish(place, "operator upgraded", 3).await;
    });
}

/// Kills the operator that leads, after a while, without a word to its lease. Its pod goes too, so that the next one
/// starts at once and not after kubelet's growing pauses.
async fn kill_leader_after(place: &Place, ms: u64) {
    tokio::time::sleep(Duration::from_millis(ms)).await;
    let (pod, _) = until("an operator leads", async || leader(place).await).await;
    println!("{}: {pod} is killed after {ms} ms", place.namespace);
    place.operator_process(&pod).await.kill();
    place.api.delete(&format!("/api/v1/namespaces/{OPERATOR_NAMESPACE}/pods/{pod}"), Some(0)).await;
}

#[test]
fn an_operator_killed_at_any_moment_leaves_nothing_half_done() {
    scenario("e2e-killed", With::Operator, async |place| {
        // Moments differ from run to run; they are printed.
        let clock = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("a clock");
        let mut moment = clock.subsec_micros() as u64;
        let mut next = || {
            moment = moment.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            200 + (moment >> 33) % 4_000
        };
        place.create("orders", json!({ "replicas": 3 })).await;
        kill_leader_after(place, next()).await;
        println!("TIME killed during the first start: {:.1?}", place.until_ready(3).await);
        let load = Load::start(place, 0).await;
        for (what, replicas) in [("scale-out", 4), ("scale-in", 3)] {
            place.scale(replicas).await;
            kill_leader_after(place, next()).await;
            println!("TIME killed during {what}: {:.1?}", place.until_ready(u64::from(replicas)).await);
        }
        let old = place.pods().await;
        place.patch(json!({ "metadata": { "annotations": { "coequal.dev/restart": "killed" } } })).await;
        kill_leader_after(place, next()).await;
        until("every pod was replaced", async || {
            let pods = place.pods().await;
            if pods.len() == 3 && pods.iter().all(|pod| !old.contains(pod)) { Ok(()) } else { Err(format!("{pods:?}")) }
        })
        .await;
        println!("TIME killed during a rolling restart: {:.1?}", place.until_ready(3).await);
        load.finish(place, "operator killed again and again", 3).await;
    });
}

#[test]
fn of_two_operators_the_other_takes_over_from_one_that_died_or_hangs() {
    scenario("e2e-two-operators", With::Operator, async |place| {
        place.start(json!({ "replicas": 3 })).await;
        let load = Load::start(place, 0).await;
        let scale = |count: u32| {
            let count = format!("--replicas={count}");
            place.cluster.kubectl(&["-n", OPERATOR_NAMESPACE, "scale", "deployment/coequal-operator", &count]);
            let status =
                ["-n", OPERATOR_NAMESPACE, "rollout", "status", "deployment/coequal-operator", "--timeout=180s"];
            place.cluster.kubectl(&status);
        };
        scale(2);
        let (first, _) = until("one of two leads", async || leader(place).await).await;
        place.operator_process(&first).await.kill();
        place.patch(json!({ "spec": { "unreachableGracePeriodSeconds": 61 } })).await;
        println!("TIME from a killed leader to an answer: {:.1?}", until_answered(place, "an answer").await);

        let (hung, _) = until("one of two leads", async || leader(place).await).await;
        let process = place.operator_process(&hung).await;
        process.stop();
        place.patch(json!({ "spec": { "unreachableGracePeriodSeconds": 62 } })).await;
        let took = until_answered(place, "an answer although the leader hangs").await;
        println!("TIME from a leader that hangs to an answer: {took:.1?}");
        process.go_on();
        let (second, _) = until("the other leads", async || leader(place).await).await;
        assert_ne!(second, hung, "a leader that comes to itself does not take the lead back");
        scale(1);
        place.patch(json!({ "spec": { "unreachableGracePeriodSeconds": 63 } })).await;
        until_answered(place, "an answer of the one that is left").await;
        load.finish(place, "leaders killed and stopped", 3).await;
    });
}
