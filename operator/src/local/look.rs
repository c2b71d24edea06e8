//! Looking at one replica a few times a second, beside everything else.

use crate::nodes::{Look, NodeClient, look};
use std::time::Duration;

/// Time between two looks.
const BETWEEN: Duration = Duration::from_millis(400);

/// Looks again and again until told to stop by `report` giving false.
pub async fn keep_looking(client: NodeClient, mut report: impl FnMut(Look) -> bool) {
    while report(look(&client).await) {
        tokio::time::sleep(BETWEEN).await;
    }
}
