//! From `kubectl apply` to Ready.

use coequal_tests::kubernetes::{Load, With, scenario};

#[test]
fn the_example_becomes_ready_and_serves() {
    scenario("e2e-start", With::OthersBeside, async |place| {
        place.apply_example();
        let took = place.until_ready(3).await;
        println!("TIME apply to Ready: {took:.1?}");
        let load = Load::start(place, 0).await;
        load.goes_on().await;
        load.finish(place, "nothing happens", 3).await;
    });
}
