//! Who holds a database: settings, removal, deploy by hand, conflicts, copied folders.

use coequal_tests::cluster::{Cluster, replication, until};
use reqwest::Method;
use std::path::Path;

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).expect("directory");
    for entry in std::fs::read_dir(from).expect("folder") {
        let entry = entry.expect("entry");
        std::fs::copy(entry.path(), to.join(entry.file_name())).expect("copied");
    }
}

async fn fill(cluster: &Cluster, count: usize) {
    let body: String = (0..count).map(|i| format!("{{\"_key\":\"k{i:05}\",\"n\":{i}}}\n")).collect();
    let headers = [("content-type", "application/x-ndjson")];
    let client = cluster.nodes[0].client();
    let answer =
        client.send(Method::POST, "/v1/databases/orders/collections/things/documents:batch", &headers, body).await;
    assert!(answer.status.is_success() && answer.body.lines().count() == count, "{answer:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_hot_alignment_an_unreachable_node_is_removed_and_deployed_anew() {
    let settings = "{\"hotAlignment\":false,\"unreachableGracePeriodSeconds\":2}";
    let mut cluster = Cluster::with_database(3, "orders", settings, &[]).await;
    fill(&cluster, 2_000).await;
    cluster.nodes[2].kill();
    let client = cluster.nodes[0].client();
    until("removed after the grace period", async || {
        let replication = replication(&client, "orders").await?;
        let away = replication["nodes"].as_array()?.iter().find(|node| node["name"] == "n2")?.clone();
        coequal_tests::cluster::remember(&replication);
        (away["role"] == "none" && replication["changing"] == false).then_some(())
    })
    .await;
    cluster.nodes[2].start();
    cluster.until_online("orders").await;
    assert_eq!(cluster.until_equal("things").await.lines().count(), 2_000);
    let aside = std::fs::read_dir(cluster.nodes[2].directory.join("aside")).expect("aside").count();
    assert!(aside >= 1, "the old copy was moved aside, not deleted");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_auto_deploy_a_new_node_waits_until_it_is_asked() {
    let mut cluster = Cluster::with_database(2, "orders", "{\"autoDeploy\":false}", &[]).await;
    fill(&cluster, 500).await;
    let new = cluster.add(&[]);
    cluster.until_members(3).await;
    cluster.until_status(&cluster.nodes[new], "orders", "NOT_AVAILABLE").await;
    let read = cluster.nodes[new].client().get("/v1/databases/orders/collections/things/documents/k00001").await;
    assert_eq!(read.status, 503, "{read:?}");
    let deploy = cluster.nodes[0].client().send(Method::POST, "/v1/databases/orders/nodes/n2/deploy", &[], "").await;
    assert!(deploy.status.is_success(), "{deploy:?}");
    cluster.until_online("orders").await;
    assert_eq!(cluster.until_equal("things").await.lines().count(), 500);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_removed_node_leaves_every_database_and_cannot_come_back_under_its_identity() {
    let mut cluster = Cluster::with_orders(3).await;
    fill(&cluster, 100).await;
    let removal = cluster.nodes[0].client().delete("/v1/cluster/nodes/n2").await;
    assert!(removal.status.is_success(), "{removal:?}");
    let client = cluster.nodes[0].client();
    until("two nodes left", async || {
        let nodes = client.try_send(Method::GET, "/v1/cluster", &[], "").await.ok()?.json();
        (nodes["nodes"].as_array()?.len() == 2).then_some(())
    })
    .await;
    cluster.nodes[2].kill();
    let replication = replication(&client, "orders").await.expect("answers");
    assert_eq!(replication["nodes"].as_array().map(Vec::len), Some(2), "{replication}");
    cluster.nodes[2].start();
    let returned = cluster.nodes[2].client();
    until("the removed node says why it is not ready", async || {
        let ready = returned.try_send(Method::GET, "/readyz?verbose", &[], "").await.ok()?;
        (ready.status == 503 && ready.body.contains("was removed from this cluster")).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_name_created_on_two_nodes_at_once_is_one_database() {
    let cluster = Cluster::start(3, &[]).await;
    let (a, b) = (cluster.nodes[0].client(), cluster.nodes[1].client());
    let (one, two) = tokio::join!(a.put("/v1/databases/orders", "{}"), b.put("/v1/databases/orders", "{}"));
    assert!(one.status.is_success() && two.status.is_success(), "{one:?} {two:?}");
    assert_eq!(one.json()["uuid"], two.json()["uuid"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_folder_of_another_database_of_the_name_is_a_conflict_and_stays_untouched() {
    let mut other = Cluster::with_orders(1).await;
    fill(&other, 10).await;
    other.nodes[0].terminate();
    let mut cluster = Cluster::with_orders(3).await;
    fill(&cluster, 20).await;
    let stranger = other.nodes[0].directory.join("databases/orders");
    let new = cluster.add(&[]);
    cluster.until_members(4).await;
    cluster.until_online("orders").await;
    cluster.nodes[new].terminate();
    let place = cluster.nodes[new].directory.join("databases/orders");
    std::fs::rename(&place, place.with_extension("away")).expect("moved away");
    copy(&stranger, &place);
    cluster.nodes[new].start();
    cluster.until_status(&cluster.nodes[new], "orders", "CONFLICT").await;
    let description = cluster.nodes[new].client().get("/v1/databases/orders").await;
    assert!(description.body.contains("another database named orders"), "{description:?}");
    let metrics = cluster.nodes[new].client().get("/metrics").await.body;
    assert!(metrics.contains("coequal_database_status{database=\"orders\",status=\"CONFLICT\"} 1"), "{metrics}");
    assert_eq!(cluster.export(0, "things").await.lines().count(), 20);
    cluster.nodes[new].kill();
    // Where it belongs, it is what it was. (Its files may be shorter: redb gives back free pages at their end.)
    std::fs::remove_dir_all(&stranger).expect("the original");
    copy(&place, &stranger);
    other.nodes[0].start();
    other.until_online("orders").await;
    assert_eq!(other.export(0, "things").await.lines().count(), 10, "the other database's folder was not written to");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_folder_copied_from_another_node_is_a_head_start() {
    let mut cluster = Cluster::with_database(2, "orders", "{\"autoDeploy\":false}", &[]).await;
    fill(&cluster, 1_000).await;
    cluster.until_equal("things").await;
    let new = cluster.add(&[]);
    cluster.until_members(3).await;
    cluster.nodes[new].terminate();
    cluster.nodes[1].terminate();
    let (from, to) =
        (cluster.nodes[1].directory.join("databases/orders"), cluster.nodes[new].directory.join("databases/orders"));
    copy(&from, &to);
    cluster.nodes[1].start();
    cluster.nodes[new].start();
    cluster.until_members(3).await;
    let deploy = cluster.nodes[0].client().send(Method::POST, "/v1/databases/orders/nodes/n2/deploy", &[], "").await;
    assert!(deploy.status.is_success(), "{deploy:?}");
    cluster.until_online("orders").await;
    assert!(cluster.nodes[new].log().contains("head start"), "the copy was used");
    assert_eq!(cluster.until_equal("things").await.lines().count(), 1_000);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn settings_change_in_place_and_unsafe_ones_are_refused() {
    let cluster = Cluster::with_orders(3).await;
    let client = cluster.nodes[1].client();
    let headers = [("content-type", "application/merge-patch+json")];
    let path = "/v1/databases/orders/configuration";
    let changed = client.send(Method::PATCH, path, &headers, "{\"writeQuorum\":\"all\"}").await;
    assert!(changed.status.is_success(), "{changed:?}");
    assert_eq!(changed.json()["configuration"]["writeQuorum"], "all");
    let refused = client.send(Method::PATCH, path, &headers, "{\"writeQuorum\":1}").await;
    assert_eq!(refused.status, 422, "{refused:?}");
    assert!(refused.body.contains("below a majority of 3 nodes"), "{refused:?}");
    let unknown = client.send(Method::PATCH, path, &headers, "{\"writeQorum\":2}").await;
    assert!(unknown.status.is_client_error() && unknown.body.contains("writeQorum"), "{unknown:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dropped_database_is_gone_everywhere_and_its_name_is_free() {
    let cluster = Cluster::with_orders(3).await;
    fill(&cluster, 10).await;
    let client = cluster.nodes[0].client();
    let uuid = client.get("/v1/databases/orders").await.json()["uuid"].as_str().expect("uuid").to_owned();
    assert_eq!(client.delete("/v1/databases/orders").await.status, 400);
    let wrong = client.delete("/v1/databases/orders?uuid=00000000-0000-4000-8000-000000000000").await;
    assert_eq!(wrong.status, 409, "{wrong:?}");
    let dropped = client.delete(&format!("/v1/databases/orders?uuid={uuid}")).await;
    assert!(dropped.status.is_success(), "{dropped:?}");
    for node in &cluster.nodes {
        let client = node.client();
        until("gone", async || (client.get("/v1/databases/orders").await.status == 404).then_some(())).await;
    }
    let again = client.put("/v1/databases/orders", "{}").await;
    assert_eq!(again.status, 201, "{again:?}");
    assert_ne!(again.json()["uuid"], uuid.as_str());
    cluster.until_online("orders").await;
    let collections = client.get("/v1/databases/orders/collections").await.json();
    assert_eq!(collections["collections"].as_array().map(Vec::len), Some(0), "{collections}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_waits_is_taken_in_when_a_member_invites_it() {
    let mut cluster = Cluster::with_orders(1).await;
    fill(&cluster, 100).await;
    let waiting = cluster.add_stopped(&[]);
    let nobody = format!("127.0.0.1:{}", coequal_tests::cluster::free_port());
    cluster.nodes[waiting].set_join(vec![nobody]);
    cluster.nodes[waiting].start();
    let client = cluster.nodes[waiting].client();
    until("it waits for a cluster", async || {
        let ready = client.try_send(Method::GET, "/readyz?verbose", &[], "").await.ok()?;
        (ready.status == 503).then_some(())
    })
    .await;
    let headers = [("content-type", "application/json")];
    let body = format!("{{\"peerAddress\":\"{}\"}}", cluster.nodes[waiting].peers);
    let invited = cluster.nodes[0].client().send(Method::POST, "/v1/cluster/nodes", &headers, body).await;
    assert!(invited.status.is_success(), "{invited:?}");
    cluster.until_members(2).await;
    cluster.until_online("orders").await;
    assert_eq!(cluster.until_equal("things").await.lines().count(), 100);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_removal_that_is_not_done_yet_is_taken_back_by_inviting_the_node() {
    let mut cluster = Cluster::with_orders(3).await;
    // Without its second node the rest could not write, so the removal has to wait.
    cluster.nodes[1].kill();
    let client = cluster.nodes[0].client();
    until("the removal begins", async || {
        let removal = client.try_send(Method::DELETE, "/v1/cluster/nodes/n2", &[], "").await.ok()?;
        removal.status.is_success().then_some(())
    })
    .await;
    let leaving = async || {
        let nodes = client.try_send(Method::GET, "/v1/cluster", &[], "").await.ok()?.json();
        coequal_tests::cluster::remember(&nodes);
        nodes["nodes"].as_array()?.iter().find(|node| node["name"] == "n2")?["leaving"].as_bool()
    };
    until("n2 is leaving", async || leaving().await?.then_some(())).await;
    let headers = [("content-type", "application/json")];
    let body = format!("{{\"peerAddress\":\"{}\"}}", cluster.nodes[2].peers);
    let invited = client.send(Method::POST, "/v1/cluster/nodes", &headers, body).await;
    assert!(invited.status.is_success(), "{invited:?}");
    until("n2 stays", async || (!leaving().await?).then_some(())).await;
    cluster.nodes[1].start();
    cluster.until_members(3).await;
    cluster.until_online("orders").await;
}
