//! Waiting with a bound: it is no measurement, so it is generous to a slow machine.

use std::time::{Duration, Instant};

/// Longest wait of any test on Kubernetes; a wait that takes this long has failed.
pub const PATIENCE: Duration = Duration::from_secs(180);
/// Between two looks.
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// Asks again and again until the answer is `Ok`, and gives it with the time it took. `Err` says what was seen instead.
pub async fn until<T>(what: &str, mut ask: impl AsyncFnMut() -> Result<T, String>) -> (T, Duration) {
    let begun = Instant::now();
    loop {
        match ask().await {
            Ok(answer) => return (answer, begun.elapsed()),
            Err(seen) => assert!(begun.elapsed() < PATIENCE, "not within {PATIENCE:?}: {what}; seen last: {seen}"),
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}
