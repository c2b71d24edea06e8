//! When a window of a batch is written to its database: in turn, so that its lines do not wait in the database's queue while their
//! deadline runs.

use super::error::ServiceError;
use super::service::Written;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Semaphore;

/// Lines of one database that are written at once: 16 full windows.
const LINES_AT_ONCE: u32 = 16 * 256;
/// So many bytes count as a line at least: a window has 256 lines or a mebibyte.
const LINE_BYTES: usize = 4 << 10;
/// How long a window waits for its turn.
const WITHIN: Duration = Duration::from_secs(60);

/// The turns of one database: a database that cannot write holds up no other one's batches.
#[derive(Debug, Clone)]
pub struct WindowTurns(Arc<Semaphore>);

impl Default for WindowTurns {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(LINES_AT_ONCE as usize)))
    }
}

impl WindowTurns {
    /// Writes a window of so many (lines, bytes) when its turn has come; turns come in the order in which they were waited
    /// for. When it does not come in time, every line is refused with [`ServiceError::Overloaded`].
    pub(super) async fn take<F>(
        &self,
        size: (usize, usize),
        write: impl FnOnce() -> F,
    ) -> Vec<Result<Written, ServiceError>>
    where
        F: Future<Output = Vec<Result<Written, ServiceError>>>,
    {
        self.take_within(WITHIN, size, write).await
    }

    async fn take_within<F>(
        &self,
        within: Duration,
        (lines, bytes): (usize, usize),
        write: impl FnOnce() -> F,
    ) -> Vec<Result<Written, ServiceError>>
    where
        F: Future<Output = Vec<Result<Written, ServiceError>>>,
    {
        let room = u32::try_from(lines.max(bytes / LINE_BYTES)).unwrap_or(LINES_AT_ONCE).min(LINES_AT_ONCE);
        let Ok(Ok(_turn)) = tokio::time::timeout(within, self.0.acquire_many(room)).await else {
            let refused =
                ServiceError::Overloaded { what: "lines of batches being written", limit: LINES_AT_ONCE.into() };
            return vec![Err(refused); lines];
        };
        write().await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use coequal_protocol::{Ballot, Effect};
    use std::sync::atomic::{AtomicUsize, Ordering};

    fn written(lines: usize) -> Vec<Result<Written, ServiceError>> {
        vec![Ok(Written { version: 1, stamp: Ballot::NONE, effect: Effect::Created }); lines]
    }

    const FULL: usize = 256;
    const FULL_AT_ONCE: usize = LINES_AT_ONCE as usize / FULL;

    #[tokio::test]
    async fn many_windows_are_written_in_turn_and_all_of_them() {
        let (turns, under_way, most) = (WindowTurns::default(), AtomicUsize::new(0), AtomicUsize::new(0));
        let window = || async {
            most.fetch_max(under_way.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
            tokio::task::yield_now().await;
            under_way.fetch_sub(1, Ordering::SeqCst);
            written(FULL)
        };
        let windows = FULL_AT_ONCE * 4;
        let results = futures::future::join_all((0..windows).map(|_| turns.take((FULL, 0), window))).await;
        assert!(results.iter().all(|window| window.len() == FULL && window.iter().all(Result::is_ok)));
        assert_eq!((results.len(), most.load(Ordering::SeqCst)), (windows, FULL_AT_ONCE));
        most.store(0, Ordering::SeqCst);
        futures::future::join_all((0..200).map(|_| turns.take((1, 0), window))).await;
        assert_eq!(most.load(Ordering::SeqCst), 200, "small ones do not wait for each other");
        most.store(0, Ordering::SeqCst);
        futures::future::join_all((0..200).map(|_| turns.take((1, 1 << 20), window))).await;
        assert_eq!(most.load(Ordering::SeqCst), FULL_AT_ONCE, "large ones do");
    }

    #[tokio::test]
    async fn a_window_whose_turn_does_not_come_in_time_is_refused_and_one_that_is_given_up_keeps_no_turn() {
        let turns = WindowTurns::default();
        let mut stuck: Vec<_> =
            (0..FULL_AT_ONCE).map(|_| Box::pin(turns.take((FULL, 0), std::future::pending::<Vec<_>>))).collect();
        for window in &mut stuck {
            assert!(futures::poll!(window).is_pending());
        }
        let refused = turns.take_within(Duration::from_millis(1), (3, 0), || async { written(3) }).await;
        assert_eq!(refused.len(), 3);
        assert!(refused.iter().all(|line| matches!(line, Err(ServiceError::Overloaded { .. }))));
        drop(stuck);
        assert!(turns.take((3, 0), || async { written(3) }).await.iter().all(Result::is_ok));
    }
}
