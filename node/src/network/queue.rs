//! What waits for one connection to one peer. Bounded in bytes, messages and time; what does not fit, or has waited too
//! long, is dropped, so that a slow or dead peer never slows a writer and never takes memory, and what comes over a slow
//! way is not old when it comes.

use super::settings::QueueLimits;
use coequal_protocol::message::{ChosenBody, Compare, ForwardResult, OperationKind, Rejection};
use coequal_protocol::range_comparison::RangeAnswer;
use coequal_protocol::revision::HistoryEntry;
use coequal_protocol::{Key, Message, Revision};
use coequal_types::DatabaseId;
use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;
use tokio::sync::Notify;

/// A burst may leave this much room behind in the queue.
const SPARE_CAPACITY_MAX: usize = 4096;

/// One message on its way out.
#[derive(Debug)]
pub(super) struct Item {
    pub database: DatabaseId,
    pub message: Message,
    weight: usize,
    since: Instant,
}

/// What a message is about decides whether it waits behind others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Turn {
    /// Signs of life, and the cluster's own affairs: never behind documents, which may be more than the way can carry.
    First,
    /// In the order in which they come.
    InOrder,
}

#[derive(Debug, Default)]
struct State {
    open: bool,
    bytes: usize,
    first: VecDeque<Item>,
    items: VecDeque<Item>,
}

impl State {
    fn len(&self) -> usize {
        self.first.len() + self.items.len()
    }

    fn next(&self) -> Option<&Item> {
        self.first.front().or_else(|| self.items.front())
    }

    fn pop(&mut self) -> Option<Item> {
        let item = self.first.pop_front().or_else(|| self.items.pop_front())?;
        self.bytes -= item.weight;
        Some(item)
    }
}

/// The queue of one connection. It takes messages only while the connection stands.
#[derive(Debug)]
pub(super) struct Queue {
    limits: QueueLimits,
    state: Mutex<State>,
    filled: Notify,
    dropped: AtomicU64,
}

impl Queue {
    pub fn new(limits: QueueLimits) -> Self {
        Self { limits, state: Mutex::default(), filled: Notify::new(), dropped: AtomicU64::new(0) }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Nothing panics while holding the lock, and the state is whole after each statement.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes messages until the returned guard is dropped; then whatever still waits is dropped too.
    pub fn open(&self) -> OpenQueue<'_> {
        self.state().open = true;
        OpenQueue(self)
    }

    /// Takes what fits, in order; answers how many messages that were.
    pub fn push_all(&self, turn: Turn, database: DatabaseId, messages: Vec<Message>) -> usize {
        if messages.is_empty() {
            return 0;
        }
        let (since, given) = (Instant::now(), messages.len());
        let mut state = self.state();
        let (is_open, before) = (state.open, state.len());
        for message in messages {
            let weight = weight(&message);
            let fits = state.len() == 0
                || state.bytes + weight <= self.limits.bytes_max && state.len() < self.limits.messages_max;
            if !is_open || !fits {
                continue;
            }
            state.bytes += weight;
            let item = Item { database, message, weight, since };
            match turn {
                Turn::First => state.first.push_back(item),
                Turn::InOrder => state.items.push_back(item),
            }
        }
        let taken = state.len() - before;
        drop(state);
        self.count_dropped(given - taken);
        if before == 0 && taken > 0 {
            self.filled.notify_one();
        }
        taken
    }

    /// Waits for messages and moves some into `batch`: at most `bytes_max`, but at least one. Neighbours of one
    /// database stand together afterwards; the order within a database stays.
    pub async fn take(&self, bytes_max: usize, batch: &mut Vec<Item>) {
        loop {
            let filled = self.filled.notified();
            if self.try_take(Instant::now(), bytes_max, batch) {
                return;
            }
            filled.await;
        }
    }

    fn try_take(&self, now: Instant, bytes_max: usize, batch: &mut Vec<Item>) -> bool {
        let mut state = self.state();
        let (mut bytes, mut too_old) = (0, 0);
        while let Some(next) = state.next() {
            // What is sent again anyway, or is of no use any more, must not delay what is new.
            if now.saturating_duration_since(next.since) > self.limits.wait_max {
                state.pop();
                too_old += 1;
                continue;
            }
            if bytes > 0 && bytes + next.weight > bytes_max {
                break;
            }
            bytes += next.weight;
            batch.extend(state.pop());
        }
        if state.items.is_empty() && state.items.capacity() > SPARE_CAPACITY_MAX {
            state.items = VecDeque::new();
        }
        drop(state);
        self.count_dropped(too_old);
        batch.sort_by_key(|item| item.database);
        !batch.is_empty()
    }

    pub fn count_dropped(&self, messages: usize) {
        self.dropped.fetch_add(messages as u64, Ordering::Relaxed);
    }

    pub fn is_open(&self) -> bool {
        self.state().open
    }

    pub fn bytes(&self) -> usize {
        self.state().bytes
    }

    pub fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }
}

/// A queue whose connection stands.
pub(super) struct OpenQueue<'a>(&'a Queue);

impl Drop for OpenQueue<'_> {
    fn drop(&mut self) {
        let left = std::mem::take(&mut *self.0.state());
        self.0.count_dropped(left.len());
    }
}

/// About how many bytes a message takes, in memory and on the wire; the larger of the two.
fn weight(message: &Message) -> usize {
    let variable = match message {
        Message::Prepare { key, .. }
        | Message::Accepted { key, .. }
        | Message::Refused { key, .. }
        | Message::Query { key, .. } => key.as_bytes().len(),
        Message::Promised { key, held, .. } => {
            key.as_bytes().len() + held.as_ref().map_or(0, |held| revision_weight(&held.revision))
        }
        Message::Accept { key, revision, .. } => key.as_bytes().len() + revision_weight(revision),
        Message::QueryAnswer { key, revision, .. } => {
            key.as_bytes().len() + revision.as_deref().map_or(0, revision_weight)
        }
        Message::StaleEpoch { configuration, .. } | Message::ConfigurationNotice { configuration } => {
            configuration.len()
        }
        Message::FeedBatch { entries, .. } => entries
            .iter()
            .map(|entry| 96 + entry.key.as_bytes().len() + entry.revision.as_deref().map_or(0, revision_weight))
            .sum(),
        Message::BodyRequest { keys } | Message::SampleAnswer { pending: keys, .. } => {
            keys.iter().map(|key| 48 + key.as_bytes().len()).sum()
        }
        Message::Bodies { bodies } | Message::RangeAnswer { bodies, .. } => bodies.iter().map(body_weight).sum(),
        Message::Forward { key, operation, .. } => {
            let body = match &operation.kind {
                OperationKind::Put(body) | OperationKind::Create(body) | OperationKind::Patch { patch: body, .. } => {
                    body.len()
                }
                OperationKind::Delete | OperationKind::Settle => 0,
            };
            key.as_bytes().len() + body
        }
        Message::ForwardAnswer { result: ForwardResult::Rejected(Rejection::NotAcceptable(why)), .. } => why.len(),
        Message::RangeRequest { after, .. } => after.as_ref().map_or(0, |key| key.as_bytes().len()),
        Message::Ping { report, .. } => report.len(),
        Message::JoinRequest { entry, .. } => entry.len(),
        Message::JoinAnswer { configuration, nodes, refused, .. } => configuration.len() + nodes.len() + refused.len(),
        Message::Compare(compare) => compare_weight(compare),
        Message::FeedRequest { .. }
        | Message::Recall { .. }
        | Message::Recalled { .. }
        | Message::Sample { .. }
        | Message::ForwardAnswer { .. } => 0,
    };
    size_of::<Item>() + variable
}

fn compare_weight(compare: &Compare) -> usize {
    let key = |key: &Key| 96 + key.as_bytes().len();
    match compare {
        Compare::Range { range, .. } => range.after.iter().chain(&range.through).map(key).sum(),
        Compare::RangeAnswer { answer: RangeAnswer { entries, .. }, .. } | Compare::KeysAnswer { entries, .. } => {
            entries.iter().map(|entry| key(&entry.key)).sum()
        }
        Compare::Keys { keys, .. } | Compare::Fetch { keys, .. } => keys.iter().map(key).sum(),
        Compare::Fetched { bodies, .. } | Compare::Repair { bodies } => bodies.iter().map(body_weight).sum(),
        Compare::Doubt { keys } => keys.iter().map(|(asked, _)| key(asked)).sum(),
    }
}

fn revision_weight(revision: &Revision) -> usize {
    // A remembered write takes more in memory than on the wire.
    size_of::<Revision>()
        + revision.history.len() * size_of::<HistoryEntry>()
        + revision.body.as_ref().map_or(0, |body| body.len())
}

fn body_weight(body: &ChosenBody) -> usize {
    96 + body.key.as_bytes().len() + revision_weight(&body.revision)
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use std::time::Duration;

    fn ping(bytes: usize) -> Message {
        Message::Ping { time: 0, report: Bytes::from(vec![0; bytes]) }
    }

    impl Queue {
        fn push(&self, turn: Turn, database: DatabaseId, message: Message) -> bool {
            self.push_all(turn, database, vec![message]) == 1
        }
    }

    fn queue() -> Queue {
        Queue::new(QueueLimits { bytes_max: 100_000, messages_max: 3, wait_max: Duration::from_secs(1) })
    }

    #[test]
    fn a_queue_takes_messages_only_while_its_connection_stands_and_forgets_them_with_it() {
        let queue = queue();
        assert!(!queue.push(Turn::InOrder, DatabaseId::nil(), ping(1)));
        let open = queue.open();
        assert!(queue.push(Turn::InOrder, DatabaseId::nil(), ping(1)));
        assert!(queue.bytes() > 0);
        drop(open);
        assert_eq!((queue.bytes(), queue.dropped()), (0, 2));
        assert!(!queue.push(Turn::InOrder, DatabaseId::nil(), ping(1)));
    }

    #[test]
    fn what_does_not_fit_in_bytes_or_number_is_dropped() {
        let queue = queue();
        let _open = queue.open();
        assert!(queue.push(Turn::InOrder, DatabaseId::nil(), ping(60_000)));
        assert!(!queue.push(Turn::InOrder, DatabaseId::nil(), ping(60_000)));
        assert!(queue.push(Turn::InOrder, DatabaseId::nil(), ping(1)));
        assert!(queue.push(Turn::InOrder, DatabaseId::nil(), ping(1)));
        assert!(!queue.push(Turn::InOrder, DatabaseId::nil(), ping(1)));
        assert_eq!(queue.dropped(), 2);
    }

    #[test]
    fn of_messages_that_come_together_those_are_taken_that_fit_in_their_order() {
        let queue = queue();
        let taken = |messages| queue.push_all(Turn::InOrder, DatabaseId::nil(), messages);
        assert_eq!(taken(vec![ping(1)]), 0);
        let _open = queue.open();
        assert_eq!(taken(vec![ping(1), ping(100_000), ping(2)]), 2);
        assert_eq!((taken(vec![ping(3), ping(4)]), queue.dropped()), (1, 3));
        let mut batch = Vec::new();
        assert!(queue.try_take(Instant::now(), 10_000, &mut batch));
        let sizes = batch.iter().map(|item| match &item.message {
            Message::Ping { report, .. } => report.len(),
            _ => 0,
        });
        assert_eq!(sizes.collect::<Vec<_>>(), [1, 2, 3]);
    }

    #[test]
    fn a_message_larger_than_the_queue_is_taken_alone() {
        let queue = queue();
        let _open = queue.open();
        assert!(queue.push(Turn::InOrder, DatabaseId::nil(), ping(200_000)));
        assert!(!queue.push(Turn::InOrder, DatabaseId::nil(), ping(1)));
    }

    #[test]
    fn a_batch_ends_before_its_bound_and_a_large_message_stands_alone() {
        let queue = queue();
        let _open = queue.open();
        for bytes in [10, 50_000, 10] {
            assert!(queue.push(Turn::InOrder, DatabaseId::nil(), ping(bytes)));
        }
        let mut sizes = Vec::new();
        let mut batch = Vec::new();
        while queue.try_take(Instant::now(), 10_000, &mut batch) {
            sizes.push(batch.drain(..).count());
        }
        assert_eq!(sizes, [1, 1, 1]);
        assert_eq!(queue.bytes(), 0);
    }

    #[test]
    fn signs_of_life_do_not_wait_behind_documents() {
        let queue = queue();
        let _open = queue.open();
        let system = DatabaseId::from_u128(9);
        assert!(queue.push(Turn::InOrder, DatabaseId::from_u128(1), ping(9_000)));
        assert!(queue.push(Turn::First, DatabaseId::nil(), ping(1)));
        assert!(queue.push(Turn::First, system, ping(2)));
        let mut batch = Vec::new();
        assert!(queue.try_take(Instant::now(), 2_000, &mut batch));
        assert_eq!(batch.iter().map(|item| item.database).collect::<Vec<_>>(), [DatabaseId::nil(), system]);
        batch.clear();
        assert!(queue.try_take(Instant::now(), 2_000, &mut batch));
        assert_eq!((batch.len(), queue.bytes()), (1, 0));
    }

    #[test]
    fn what_has_waited_too_long_is_dropped_and_does_not_delay_what_is_new() {
        let queue = queue();
        let _open = queue.open();
        let begun = Instant::now();
        assert!(queue.push(Turn::InOrder, DatabaseId::nil(), ping(1)));
        assert!(queue.push(Turn::First, DatabaseId::nil(), ping(2)));
        let mut batch = Vec::new();
        assert!(!queue.try_take(begun + Duration::from_secs(3), 10_000, &mut batch));
        assert_eq!((batch.len(), queue.bytes(), queue.dropped()), (0, 0, 2));
        assert!(queue.push(Turn::InOrder, DatabaseId::nil(), ping(3)));
        assert!(queue.try_take(Instant::now(), 10_000, &mut batch));
        assert_eq!(batch.len(), 1);
    }
}
