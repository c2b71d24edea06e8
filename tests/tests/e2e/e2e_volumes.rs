//! Volumes: lost, growing, full.

use coequal_tests::kubernetes::{Load, Place, With, at, condition, is_ready, node_of, scenario, until};
use reqwest::Method;
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

#[test]
fn a_deleted_volume_makes_a_new_node_of_the_old_name() {
    scenario("e2e-volume", With::OthersBeside, async |place| {
        place.start(json!({ "replicas": 3 })).await;
        let load = Load::start(place, 0).await;
        let old = place.uid("orders-1").await;
        let id = node_of(&place.orders().await, "orders-1")["id"].clone();
        place.api.delete(&place.core("persistentvolumeclaims/data-orders-1"), None).await;
        place.api.delete(&place.core("pods/orders-1"), None).await;
        let pod = place.until_other_pod("orders-1", &old).await;
        // A status from before the pod says Ready as well, for as long as no operator leads.
        let is_new = |orders: &Value| is_ready(orders, 3) && node_of(orders, "orders-1")["id"] != id;
        let ready = place.until_orders("orders is Ready with a new node on the empty disk", is_new).await;
        println!("TIME volume lost to Ready: {:.1?}", pod + ready);
        load.finish(place, "volume deleted", 3).await;
        until("the old identity is out", async || {
            let members = place.node_client("orders-0").await.get("/v1/cluster").await.json();
            if members["nodes"].as_array().map(Vec::len) == Some(3) { Ok(()) } else { Err(members.to_string()) }
        })
        .await;
    });
}

/// Folder in which the volume of a node is mounted.
async fn volume(place: &Place, pod: &str) -> PathBuf {
    let claim = place.object(&format!("persistentvolumeclaims/data-{pod}")).await;
    place.cluster.directory.join("volumes").join(at(&claim, "/spec/volumeName"))
}

fn available(folder: &Path) -> u64 {
    let output = Command::new("df").args(["--output=avail", "-B1"]).arg(folder).output().expect("df");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    text.lines().last().and_then(|line| line.trim().parse().ok()).unwrap_or_else(|| panic!("df: {text}"))
}

/// Takes all the space that is left, in files that get smaller and smaller.
fn fill(folder: &Path) {
    let mut size = available(folder);
    for at in 0.. {
        if size < 4096 {
            break;
        }
        let file = folder.join(format!("ballast-{at}"));
        let output = Command::new("fallocate").arg("-l").arg(size.to_string()).arg(&file).output().expect("fallocate");
        if !output.status.success() {
            size = size * 3 / 4;
        }
    }
    println!("{}: {} bytes left", folder.display(), available(folder));
}

/// Writes large documents through one node until it answers as wanted.
async fn until_answer(place: &Place, pod: &str, status: u16) {
    let (client, value) = (place.node_client(pod).await, "x".repeat(200_000));
    let mut at = 0;
    until(&format!("{pod} answers a write with {status}"), async || {
        at += 1;
        let path = format!("/v1/databases/orders/collections/large/documents/k{at}");
        let headers = [("content-type", "application/json"), ("coequal-deadline-ms", "3000")];
        let answer = client.try_send(Method::PUT, &path, &headers, format!("{{\"v\":\"{value}\"}}")).await;
        let answer = answer.map_err(|error| format!("{error:?}"))?;
        if answer.status == status { Ok(()) } else { Err(format!("{} {}", answer.status, answer.body)) }
    })
    .await;
}

async fn until_volumes_have(place: &Place, size: &str) -> Duration {
    let (_, took) = until(&format!("all volumes have {size}"), async || {
        let mut found = Vec::new();
        for ordinal in 0..3 {
            let claim = place.object(&format!("persistentvolumeclaims/data-orders-{ordinal}")).await;
            found.push(at(&claim, "/status/capacity/storage"));
        }
        if found.iter().all(|found| found == size) { Ok(()) } else { Err(format!("{found:?}")) }
    })
    .await;
    took
}

#[test]
fn a_full_disk_hurts_one_node_and_a_larger_volume_heals_it() {
    scenario("e2e-disk", With::OthersBeside, async |place| {
        place.start(json!({ "replicas": 3, "storage": { "size": "400Mi" } })).await;
        let pods = place.pods().await;
        let load = Load::start(place, 0).await;
        let folder = volume(place, "orders-2").await;
        fill(&folder);
        until_answer(place, "orders-2", 507).await;
        load.goes_on().await;

        place.patch(json!({ "spec": { "storage": { "size": "800Mi" } } })).await;
        let took = until_volumes_have(place, "800Mi").await;
        println!("TIME growth of three volumes: {took:.1?}");
        until_answer(place, "orders-2", 201).await;
        place.until_ready(3).await;
        until("later nodes get such a volume too", async || {
            let set = place.api.get(&place.stateful_set("orders")).await.ok_or("there is no StatefulSet")?;
            let template = at(&set, "/spec/volumeClaimTemplates/0/spec/resources/requests/storage");
            if template == "800Mi" { Ok(()) } else { Err(template) }
        })
        .await;
        assert_eq!(place.pods().await, pods, "no pod was replaced");
        load.finish(place, "full disk, volumes grown", 3).await;
    });
}

#[test]
fn unsafe_wishes_are_refused_with_the_reason_and_change_nothing() {
    scenario("e2e-refused", With::OthersBeside, async |place| {
        place.start(json!({ "replicas": 3, "storage": { "size": "1Gi" } })).await;
        let load = Load::start(place, 0).await;
        let before = place.orders().await;
        let refused = [
            (json!({ "storage": { "size": "500Mi" } }), "size cannot shrink from 1Gi to 500Mi"),
            (json!({ "storage": { "storageClassName": "local" } }), "storageClassName cannot be changed from"),
            (json!({ "replicas": 100 }), "less than or equal to 99"),
            (json!({ "databases": [{ "name": "orders", "writeQuorum": 1 }] }), "below a majority of 3 nodes"),
            (json!({ "databases": [{ "name": "_system" }] }), "databases[0].name"),
            (json!({ "unreachableGracePeriodSeconds": 0 }), "unreachableGracePeriodSeconds"),
        ];
        for (spec, reason) in refused {
            let answer = place.api.try_patch(&place.rdb("orders"), &json!({ "spec": spec })).await;
            let message = answer.expect_err("refused");
            assert!(message.contains(reason), "{spec}: {message}");
        }
        let after = place.orders().await;
        assert_eq!(after["metadata"]["generation"], before["metadata"]["generation"]);
        assert_eq!(condition(&after, "Ready")["status"], "True");
        load.finish(place, "refused wishes", 3).await;
    });
}
