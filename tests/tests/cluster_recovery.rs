//! A majority of the disks is lost for good, and a person says so to a node that is left.

use coequal_tests::client::{Answer, Client};
use coequal_tests::cluster::{Cluster, Node, remember, replication, until};
use reqwest::Method;
use serde_json::json;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

const DOCUMENTS: &str = "/v1/databases/orders/collections/notes/documents";
const JSON: [(&str, &str); 1] = [("content-type", "application/json")];

async fn write(client: &Client, documents: std::ops::Range<u32>) {
    for n in documents {
        let answer = client.put(&format!("{DOCUMENTS}/k{n}"), &format!("{{\"n\":{n}}}")).await;
        assert!(answer.status.is_success(), "{answer:?}");
    }
}

async fn id(node: &Node) -> String {
    node.client().get("/v1/node").await.json()["id"].as_str().expect("id").to_owned()
}

async fn cluster_id(client: &Client) -> String {
    client.get("/v1/cluster").await.json()["id"].as_str().expect("id").to_owned()
}

fn body(cluster: &str, lost: &[&str], accept: bool) -> String {
    json!({"clusterId": cluster, "lostNodes": lost, "acceptDataLoss": accept}).to_string()
}

async fn ask(client: &Client, body: String) -> Answer {
    client.send(Method::POST, "/v1/cluster/recover", &JSON, body).await
}

/// Whether the same request may be right in a moment.
fn is_too_early(body: &str) -> bool {
    body.contains("try again") || body.contains("wait for it or bring it back")
}

/// Asks until it is done; a node that has just gone silent is not called lost at once.
async fn recover(client: &Client, cluster: &str, lost: &[&str]) -> serde_json::Value {
    until("the recovery is done", async || {
        let sent = client.try_send(Method::POST, "/v1/cluster/recover", &JSON, body(cluster, lost, true)).await;
        let answer = sent.ok()?;
        remember(&json!(answer.body));
        let early = answer.status == 409 && is_too_early(&answer.body);
        assert!(early || [200, 202, 503].contains(&answer.status.as_u16()), "{answer:?}");
        (answer.status == 200).then(|| answer.json())
    })
    .await
}

fn image(node: &Node) -> PathBuf {
    let image = node.directory.with_extension("image");
    let copied = Command::new("cp").args(["-a", "-T"]).arg(&node.directory).arg(&image).status().expect("cp runs");
    assert!(copied.success());
    image
}

fn lose_disk(node: &mut Node) {
    node.kill();
    std::fs::remove_dir_all(&node.directory).expect("the disk is gone");
}

fn put_back(node: &mut Node, image: &Path) {
    std::fs::rename(image, &node.directory).expect("the old disk is back");
    node.start();
}

/// Waits until `database` has exactly these voters by the word of `client`, and is ONLINE on each.
async fn until_voters(client: &Client, database: &str, nodes: &[&Node]) {
    until("the voters are these, and ONLINE", async || {
        let seen = replication(client, database).await?;
        remember(&seen);
        let all = seen["nodes"].as_array()?;
        let online = |node: &&Node| {
            all.iter().any(|n| n["name"] == node.name.as_str() && n["role"] == "voter" && n["status"] == "ONLINE")
        };
        let voters = all.iter().filter(|node| node["role"] == "voter").count();
        (voters == nodes.len() && nodes.iter().all(online) && seen["changing"] == false).then_some(())
    })
    .await;
}

async fn export(client: &Client) -> String {
    let answer = client.get("/v1/databases/orders/collections/notes/export").await;
    assert!(answer.status.is_success(), "{answer:?}");
    answer.body
}

async fn metric(client: &Client, line: &str) -> Option<String> {
    let text = client.get("/metrics").await.body;
    text.lines().find_map(|row| row.strip_prefix(line)).map(|value| value.trim().to_owned())
}

/// Every wrong request is answered with what is wrong.
async fn refuses_what_is_wrong(client: &Client, uuid: &str, me: &str, lost: &[&str; 2]) {
    let [one, two] = *lost;
    for (sent, status, says) in [
        (body("00000000-0000-4000-8000-000000000000", lost, true), 409, "belongs to cluster"),
        (body(uuid, lost, false), 422, "acceptDataLoss is not true"),
        (body(uuid, &[], true), 422, "lostNodes names nobody"),
        (body(uuid, &[me, one], true), 422, "this very node"),
        (body(uuid, &[one, two, "00000000000000ff"], true), 422, "not in the cluster"),
        (json!({"clusterId": uuid, "lostNodes": lost}).to_string(), 422, "acceptDataLoss"),
        (String::new(), 422, "the body is empty"),
    ] {
        let answer = ask(client, sent.clone()).await;
        assert!(answer.status == status && answer.body.contains(says), "{sent}: {answer:?}");
    }
    until("a node that is silent and not named is asked about", async || {
        let answer = ask(client, body(uuid, &[one], true)).await;
        (answer.status == 409 && answer.body.contains("lostNodes does not name it")).then_some(())
    })
    .await;
}

/// A lost node that is back finds itself out, its copy is set aside, and it takes no write.
async fn until_out(node: &Node) {
    let returned = node.client();
    until("the lost node knows that it is out", async || {
        let ready = returned.try_send(Method::GET, "/readyz?verbose", &[], "").await.ok()?;
        (ready.status == 503 && ready.body.contains("given up as lost")).then_some(())
    })
    .await;
    until("its copy is set aside", async || {
        let aside = std::fs::read_dir(node.directory.join("aside")).ok()?;
        (aside.filter_map(Result::ok).any(|e| e.file_name().to_string_lossy().starts_with("orders"))).then_some(())
    })
    .await;
    let write = returned.put(&format!("{DOCUMENTS}/late"), "{}").await;
    assert!(write.status.is_client_error() || write.status.is_server_error(), "{write:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lone_survivor_goes_on_and_the_lost_majority_that_comes_back_cannot_harm() {
    let mut cluster = Cluster::with_orders(3).await;
    let client = cluster.nodes[0].client();
    write(&client, 0..100).await;
    cluster.until_equal("notes").await;
    let uuid = cluster_id(&client).await;
    let [me, one, two] = [id(&cluster.nodes[0]).await, id(&cluster.nodes[1]).await, id(&cluster.nodes[2]).await];
    let lost = [one.as_str(), two.as_str()];
    let refused = ask(&client, body(&uuid, &lost, true)).await;
    assert!(refused.status == 409 && refused.body.contains("a node that answers is not lost"), "{refused:?}");

    let images: Vec<PathBuf> = (1..3)
        .map(|at| {
            cluster.nodes[at].kill();
            let image = image(&cluster.nodes[at]);
            lose_disk(&mut cluster.nodes[at]);
            image
        })
        .collect();
    cluster.until_status(&cluster.nodes[0], "orders", "SYNCHRONIZING").await;
    refuses_what_is_wrong(&client, &uuid, &me, &lost).await;

    let done = recover(&client, &uuid, &lost).await;
    assert_eq!((&done["complete"], &done["forced"]), (&json!(true), &json!(1)), "{done}");
    assert!(done["mayBeLost"].as_str().is_some_and(|text| text.contains("may be missing")), "{done}");
    assert!(cluster.nodes[0].log().contains("FORCED RECOVERY asked for by a person"));
    until_voters(&client, "orders", &[&cluster.nodes[0]]).await;
    write(&client, 100..150).await;
    assert_eq!(export(&client).await.lines().count(), 150, "what was there stays, what is new is there");
    assert_eq!(metric(&client, "coequal_forced_recoveries ").await.as_deref(), Some("1"));
    assert_eq!(metric(&client, "coequal_lost_nodes ").await.as_deref(), Some("2"));

    cluster.nodes[0].kill();
    cluster.nodes[0].start();
    cluster.until_status(&cluster.nodes[0], "orders", "ONLINE").await;
    let again = recover(&client, &uuid, &lost).await;
    assert_eq!(again["forced"], 1, "asking again changes nothing: {again}");
    let status = client.get("/v1/cluster").await.json();
    assert_eq!(status["recovery"]["lostNodes"].as_array().map(Vec::len), Some(2), "{status}");

    let new = [cluster.add(&[]), cluster.add(&[])];
    let voters = [&cluster.nodes[0], &cluster.nodes[new[0]], &cluster.nodes[new[1]]];
    until_voters(&client, "orders", &voters).await;
    write(&client, 150..200).await;

    // Both lost nodes are back with their old disks: of the former three they are a majority.
    for (at, image) in [(1, &images[0]), (2, &images[1])] {
        put_back(&mut cluster.nodes[at], image);
    }
    for at in [1, 2] {
        until_out(&cluster.nodes[at]).await;
    }
    write(&client, 200..250).await;
    let text = export(&client).await;
    assert_eq!(text.lines().count(), 250);
    for at in new {
        let other = cluster.nodes[at].client();
        until("all voters hold the same", async || (export(&other).await == text).then_some(())).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_survivors_of_five_are_recovered_though_one_is_killed_again_and_again() {
    let mut cluster = Cluster::with_orders(5).await;
    let (client, other) = (cluster.nodes[0].client(), cluster.nodes[1].client());
    write(&client, 0..60).await;
    cluster.until_equal("notes").await;
    let uuid = cluster_id(&client).await;
    // One survivor was away for a while.
    cluster.nodes[1].signal(libc::SIGSTOP);
    write(&client, 60..80).await;
    cluster.nodes[1].signal(libc::SIGCONT);
    cluster.until_status(&cluster.nodes[1], "orders", "ONLINE").await;
    let mut ids = Vec::new();
    for at in 2..5 {
        ids.push(id(&cluster.nodes[at]).await);
    }
    let lost: Vec<&str> = ids.iter().map(String::as_str).collect();
    for at in 2..5 {
        lose_disk(&mut cluster.nodes[at]);
    }
    for after_ms in [0, 3, 10, 30, 60, 120, 250] {
        until("asked, and killed a moment later", async || {
            let asking = tokio::spawn({
                let (client, body) = (client.clone(), body(&uuid, &lost, true));
                async move { client.try_send(Method::POST, "/v1/cluster/recover", &JSON, body).await }
            });
            tokio::time::sleep(Duration::from_millis(after_ms)).await;
            let early = asking.is_finished()
                && asking.await.is_ok_and(|sent| sent.is_ok_and(|answer| is_too_early(&answer.body)));
            (!early).then_some(())
        })
        .await;
        cluster.nodes[0].kill();
        cluster.nodes[0].start();
        until("it answers", async || client.try_send(Method::GET, "/livez", &[], "").await.ok()).await;
    }
    let done = recover(&client, &uuid, &lost).await;
    assert_eq!(done["forced"], 1, "however often it was asked: {done}");
    until_voters(&client, "orders", &[&cluster.nodes[0], &cluster.nodes[1]]).await;
    write(&other, 80..100).await;
    let text = export(&other).await;
    assert_eq!(text.lines().count(), 100);
    until("both hold the same", async || (export(&client).await == text).then_some(())).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_that_alone_lost_its_majority_is_recovered_alone() {
    let mut cluster = Cluster::with_database(2, "orders", "{\"autoDeploy\":false}", &[]).await;
    let client = cluster.nodes[0].client();
    write(&client, 0..40).await;
    cluster.until_equal("notes").await;
    cluster.add(&[]);
    cluster.until_members(3).await;
    cluster.until_settled(3).await;
    let (uuid, lost) = (cluster_id(&client).await, id(&cluster.nodes[1]).await);
    lose_disk(&mut cluster.nodes[1]);
    let done = recover(&client, &uuid, &[&lost]).await;
    let forced = (&done["forced"], &done["databases"][0]["forced"]);
    assert_eq!(forced, (&json!(0), &json!(1)), "{done}\n{}", cluster.nodes[0].log());
    until_voters(&client, "orders", &[&cluster.nodes[0]]).await;
    write(&client, 40..50).await;
    assert_eq!(export(&client).await.lines().count(), 50);
    until("the lost node is out of the cluster", async || {
        let nodes = client.get("/v1/cluster").await.json();
        (nodes["nodes"].as_array()?.len() == 2).then_some(())
    })
    .await;
}

/// Restart of everything: whoever is alone cannot know what the others have acknowledged.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_a_restart_of_all_a_lone_node_serves_nothing_and_says_why() {
    let mut cluster = Cluster::with_orders(3).await;
    write(&cluster.nodes[0].client(), 0..20).await;
    cluster.until_equal("notes").await;
    cluster.nodes.iter_mut().for_each(Node::kill);
    cluster.nodes[2].start();
    let alone = cluster.nodes[2].client();
    until("it says what it waits for", async || {
        let description = alone.try_send(Method::GET, "/v1/databases/orders", &[], "").await.ok()?;
        (description.body.contains("1 of 3 voters") && description.body.contains("/v1/cluster/recover")).then_some(())
    })
    .await;
    for n in 0..20 {
        let local = alone.get(&format!("{DOCUMENTS}/k{n}")).await;
        assert_eq!(local.status, 503, "{local:?}");
        assert!(local.body.contains("SYNCHRONIZING"), "{local:?}");
    }
    for path in ["?limit=5", "/k1?consistency=local"] {
        assert_eq!(alone.get(&format!("{DOCUMENTS}{path}")).await.status, 503, "{path}");
    }
    assert_eq!(alone.get("/v1/databases/orders/collections/notes/export").await.status, 503);
    let headers = [("coequal-deadline-ms", "300")];
    let path = format!("{DOCUMENTS}/k1?consistency=linearizable");
    assert_eq!(alone.send(Method::GET, &path, &headers, "").await.status, 503);
    let ready = alone.get("/readyz?verbose").await;
    assert!(ready.status == 503 && ready.body.contains("1 of 3 voters"), "{ready:?}");
    cluster.nodes[0].start();
    cluster.until_status(&cluster.nodes[2], "orders", "ONLINE").await;
    assert_eq!(export(&alone).await.lines().count(), 20);
}
