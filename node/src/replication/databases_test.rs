//! What a node does with the copies on its disk when it starts.

use super::start_in;
use coequal_types::DatabaseName;

/// How often the system database's store has been opened, as the node that is started for it finds it.
async fn opening_of_a_start(path: &std::path::Path, initialize: bool) -> u64 {
    let running = start_in(path, initialize).await;
    let handle = running.service.node.system().expect("the system database, as soon as the node has started");
    assert!(handle.view().configuration.name == DatabaseName::system());
    let opening = handle.store.opening();
    drop(handle);
    running.stop().await;
    opening
}

/// Opening a copy replays its log: doing it twice was most of the time until a node's first answer.
#[tokio::test(flavor = "multi_thread")]
async fn a_start_opens_each_copy_once_and_has_it_before_it_answers() {
    let place = tempfile::tempdir().expect("directory");
    let first = opening_of_a_start(place.path(), true).await;
    let second = opening_of_a_start(place.path(), false).await;
    assert_eq!(second, first + 1);
    assert_eq!(opening_of_a_start(place.path(), false).await, second + 1);
}
