//! What a database's loop takes first, and what stands back for it.

use super::super::priority::{CHECKPOINT_NICE, yield_to_writers};
use super::{Event, Inbox, LINES_AT_ONCE, ReplicaHandle, ReplicaView, Store, WindowTurns};
use std::sync::{Arc, RwLock};
use tokio::sync::{mpsc, watch};

impl ReplicaHandle {
    /// A door without a loop behind it, awake for ever: it looks like `view` until somebody shows another one.
    pub(in crate::replication) fn at_rest(store: Arc<Store>, view: ReplicaView) -> Self {
        Self {
            events: mpsc::channel(1).0,
            lines: mpsc::channel(1).0,
            turns: WindowTurns::default(),
            head: watch::channel(store.feed_head()).1,
            store,
            counters: Arc::default(),
            view: Arc::new(RwLock::new(Arc::new(view))),
            awake_ms: Arc::new(u64::MAX.into()),
            stop: Arc::default(),
            finished: watch::channel(true).1,
        }
    }

    pub(in crate::replication) fn show(&self, view: ReplicaView) {
        *self.view.write().unwrap() = Arc::new(view);
    }
}

/// Many lines of a batch wait; what comes then is taken before them, and only a few of them at a time beside it.
#[tokio::test]
async fn a_batch_holds_up_no_other_event() {
    let (events, events_inbox) = mpsc::channel(10);
    let (lines, lines_inbox) = mpsc::channel(10 * LINES_AT_ONCE);
    let mut inbox = Inbox { events: events_inbox, lines: lines_inbox };
    for _ in 0..10 * LINES_AT_ONCE {
        lines.try_send(Event::Tick).unwrap();
    }
    events.try_send(Event::StoodStill).unwrap();
    let mut taken = Vec::new();
    inbox.recv(&mut taken).await;
    inbox.take(&mut taken);
    assert!(matches!(taken[0], Event::StoodStill), "the event is first");
    assert_eq!(taken.len(), 1 + LINES_AT_ONCE);
    // Lines go on while nothing else comes, and none is lost.
    let mut rounds = 0;
    while taken.len() < 1 + 10 * LINES_AT_ONCE {
        inbox.recv(&mut taken).await;
        inbox.take(&mut taken);
        rounds += 1;
    }
    assert!(rounds >= 9, "{rounds}");
    assert!(inbox.lines.is_empty());
}

#[test]
fn a_checkpoint_stands_back_for_writers() {
    let nice = || rustix::process::getpriority_process(Some(rustix::thread::gettid())).unwrap();
    let before = nice();
    let lowered = std::thread::spawn(move || {
        yield_to_writers();
        nice()
    });
    assert_eq!(lowered.join().unwrap(), (before + CHECKPOINT_NICE).min(19));
    assert_eq!(nice(), before, "nobody else's");
}
