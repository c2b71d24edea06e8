//! Comparison of copies on real processes: by schedule and on demand, while writers write.

use coequal_tests::cluster::{Cluster, remember, until};
use coequal_tests::writers::{Writer, check_acknowledged};
use reqwest::Method;

const COMPARE: &str = "/v1/databases/orders/compare";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn copies_are_compared_by_schedule_and_on_demand_and_writers_are_no_difference() {
    let cluster = Cluster::with_database(3, "orders", "{}", &["--compare-every-seconds", "2"]).await;
    let writers = [0, 1, 2].map(|at| Writer::start(cluster.nodes[at].client(), "notes", &format!("w{at}"), 300));
    until("the writers are at work", async || writers.iter().all(|w| w.writes() > 100).then_some(())).await;
    for node in &cluster.nodes {
        let client = node.client();
        let begun = client.send(Method::POST, COMPARE, &[], "").await;
        assert_eq!(begun.status, 202, "{begun:?}");
        let mut ended = Vec::new();
        // Three ends after this moment: the one that was asked for, and those of the schedule.
        until("three comparisons end", async || {
            let state = client.get(COMPARE).await.json();
            remember(&state);
            assert_eq!(state["everySeconds"], 2);
            let last = &state["last"];
            if last.is_object() && ended.last() != Some(last) {
                ended.push(last.clone());
            }
            (ended.len() >= 3).then_some(())
        })
        .await;
        for run in &ended {
            assert_eq!((run["differences"].as_u64(), run["unresolved"].as_u64()), (Some(0), Some(0)), "{run}");
        }
        let whole =
            ended.iter().any(|run| run["peers"].as_array().is_some_and(|p| p.iter().all(|p| p["compared"] == true)));
        assert!(whole, "{ended:?}");
        let metrics = client.get("/metrics").await.body;
        for line in ["coequal_comparison_differences_total", "coequal_comparison_unresolved_total"] {
            assert!(metrics.contains(&format!("{line}{{database=\"orders\"}} 0")), "{line} in {metrics}");
        }
        assert!(metrics.contains("coequal_comparison_keys_total"), "{metrics}");
        assert!(node.log().contains("comparison ended: no difference"));
    }
    let mut seen = Vec::new();
    for writer in writers {
        seen.push(writer.stop().await);
    }
    let export = cluster.until_equal("notes").await;
    for writer in &seen {
        assert!(writer.errors.is_empty() && writer.unknown.is_empty(), "{:?}", writer.errors);
        check_acknowledged(&export, writer);
    }
    let unknown = cluster.nodes[0].client().send(Method::POST, "/v1/databases/nothing/compare", &[], "").await;
    assert_eq!(unknown.status, 404, "{unknown:?}");
}
