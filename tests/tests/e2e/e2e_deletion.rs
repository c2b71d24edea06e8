//! Deletion: what stays, what comes back, and that nothing hangs.

use coequal_tests::kubernetes::{Load, With, expect_everywhere, scenario, until};
use serde_json::json;
use std::time::Instant;

#[test]
fn a_resource_made_again_finds_its_data_and_its_namespace_can_be_deleted() {
    scenario("e2e-deletion", With::OthersBeside, async |place| {
        let spec = json!({ "replicas": 3 });
        place.start(spec.clone()).await;
        let written = Load::start(place, 0).await.finish(place, "before the deletion", 3).await;
        let cluster = place.orders().await["status"]["clusterId"].clone();

        let begun = Instant::now();
        place.api.delete(&place.rdb("orders"), None).await;
        until("the resource and its pods are gone", async || {
            let (resource, pods) = (place.api.get(&place.rdb("orders")).await, place.pods().await);
            if resource.is_none() && pods.is_empty() { Ok(()) } else { Err(format!("{pods:?}")) }
        })
        .await;
        println!("TIME deletion of a resource: {:.1?}", begun.elapsed());
        for ordinal in 0..3 {
            let claim = place.object(&format!("persistentvolumeclaims/data-orders-{ordinal}")).await;
            assert_eq!(claim["status"]["phase"], "Bound", "{claim}");
        }

        let took = place.start(spec).await;
        println!("TIME made again to Ready: {took:.1?}");
        assert_eq!(place.orders().await["status"]["clusterId"], cluster, "the same cluster");
        expect_everywhere(place, written, 3).await;
        Load::start(place, written).await.finish(place, "made again", 3).await;

        let begun = Instant::now();
        place.cluster.kubectl(&["delete", "namespace", &place.namespace, "--timeout=180s"]);
        println!("TIME deletion of a namespace: {:.1?}", begun.elapsed());
    });
}
