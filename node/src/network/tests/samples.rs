//! Any message, and one of every kind.

use bytes::Bytes;
use coequal_protocol::auto_deploy::DonorPosition;
use coequal_protocol::message::*;
use coequal_protocol::range_comparison::{KeyDigest, Range, RangeAnswer};
use coequal_protocol::{Ballot, BallotClass, Effect, Held, HistoryEntry, Key, Message, RequestId, Revision};
use coequal_types::NodeId;
use proptest::collection::vec;
use proptest::option::of;
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;
use std::sync::Arc;
use uuid::Uuid;

fn bytes() -> impl Strategy<Value = Bytes> {
    vec(any::<u8>(), 0..40).prop_map(Bytes::from)
}

fn key() -> impl Strategy<Value = Key> {
    ("[a-z_][a-z0-9_-]{0,8}", "[^\u{0}]{0,12}").prop_map(|(collection, key)| Key::of(&collection, &key))
}

fn ballot() -> impl Strategy<Value = Ballot> {
    (any::<bool>(), any::<u64>(), any::<u64>(), any::<u32>()).prop_map(|(creation, time, node, incarnation)| Ballot {
        class: if creation { BallotClass::Creation } else { BallotClass::Ordinary },
        time,
        node: NodeId(node),
        incarnation,
    })
}

fn effect() -> impl Strategy<Value = Effect> {
    prop_oneof![Just(Effect::Created), Just(Effect::Replaced), Just(Effect::Deleted)]
}

fn request() -> impl Strategy<Value = Option<(RequestId, u64)>> {
    of((any::<u128>().prop_map(RequestId), any::<u64>()))
}

fn history() -> impl Strategy<Value = HistoryEntry> {
    (ballot(), any::<u64>(), effect(), request()).prop_map(|(stamp, version, effect, request)| HistoryEntry {
        stamp,
        version,
        effect,
        request,
    })
}

fn revision() -> impl Strategy<Value = Arc<Revision>> {
    (any::<u64>(), ballot(), of(bytes()), vec(history(), 0..4))
        .prop_map(|(version, stamp, body, history)| Arc::new(Revision { version, stamp, body, history }))
}

fn chosen_body() -> impl Strategy<Value = ChosenBody> {
    (key(), ballot(), revision()).prop_map(|(key, ballot, revision)| ChosenBody { key, ballot, revision })
}

fn feed_entry() -> impl Strategy<Value = FeedEntry> {
    (key(), ballot(), any::<u64>(), of(revision())).prop_map(|(key, ballot, sequence, revision)| FeedEntry {
        key,
        ballot,
        sequence,
        revision,
    })
}

fn operation() -> impl Strategy<Value = Operation> {
    let kind = prop_oneof![
        bytes().prop_map(OperationKind::Put),
        bytes().prop_map(OperationKind::Create),
        (bytes(), any::<u32>()).prop_map(|(patch, bytes_max)| OperationKind::Patch { patch, bytes_max }),
        Just(OperationKind::Delete),
        Just(OperationKind::Settle),
    ];
    let condition = prop_oneof![
        Just(Condition::Any),
        Just(Condition::Absent),
        Just(Condition::Present),
        ballot().prop_map(Condition::Stamp),
        (any::<u64>(), ballot()).prop_map(|(version, stamp)| Condition::Revision { version, stamp }),
        any::<u64>().prop_map(Condition::Version),
    ];
    (kind, condition, request()).prop_map(|(kind, condition, request)| Operation { kind, condition, request })
}

fn result() -> impl Strategy<Value = ForwardResult> {
    let state = || (any::<u64>(), ballot());
    prop_oneof![
        (state(), effect()).prop_map(|((version, stamp), effect)| ForwardResult::Written { version, stamp, effect }),
        Just(ForwardResult::Rejected(Rejection::NotFound)),
        state().prop_map(|(version, stamp)| ForwardResult::Rejected(Rejection::Exists { version, stamp })),
        of(state()).prop_map(|current| ForwardResult::Rejected(Rejection::PreconditionFailed { current })),
        (any::<u64>(), any::<u32>())
            .prop_map(|(bytes, bytes_max)| ForwardResult::Rejected(Rejection::TooLarge { bytes, bytes_max })),
        ".{0,20}".prop_map(|why| ForwardResult::Rejected(Rejection::NotAcceptable(why))),
        Just(ForwardResult::NotApplied),
        Just(ForwardResult::Unknown),
    ]
}

/// A strategy for each kind of message, in the order of the protocol.
pub(super) fn every_kind() -> Vec<BoxedStrategy<Message>> {
    [rounds(), feeds(), others(), comparisons()].concat()
}

fn rounds() -> Vec<BoxedStrategy<Message>> {
    let n = any::<u64>;
    let b = any::<bool>;
    let head = || (any::<u64>(), key(), ballot());
    vec![
        head().prop_map(|(epoch, key, ballot)| Message::Prepare { epoch, key, ballot }).boxed(),
        (head(), of((ballot(), revision())), b())
            .prop_map(|((epoch, key, ballot), held, chosen)| {
                let held = held.map(|(ballot, revision)| Held { ballot, revision });
                Message::Promised { epoch, key, ballot, held, chosen }
            })
            .boxed(),
        (head(), revision())
            .prop_map(|((epoch, key, ballot), revision)| Message::Accept { epoch, key, ballot, revision })
            .boxed(),
        head().prop_map(|(epoch, key, ballot)| Message::Accepted { epoch, key, ballot }).boxed(),
        (head(), ballot())
            .prop_map(|((epoch, key, ballot), promised)| Message::Refused { epoch, key, ballot, promised })
            .boxed(),
        (n(), bytes()).prop_map(|(epoch, configuration)| Message::StaleEpoch { epoch, configuration }).boxed(),
        (head(), n()).prop_map(|((epoch, key, known), read)| Message::Query { epoch, key, read, known }).boxed(),
        (head(), n(), b(), of(revision()))
            .prop_map(|((epoch, key, accepted), read, chosen, revision)| Message::QueryAnswer {
                epoch,
                key,
                read,
                accepted,
                chosen,
                revision,
            })
            .boxed(),
    ]
}

fn feeds() -> Vec<BoxedStrategy<Message>> {
    let n = any::<u64>;
    let b = any::<bool>;
    vec![
        n().prop_map(|feed| Message::Recall { feed }).boxed(),
        (n(), n(), any::<u32>())
            .prop_map(|(feed, durable, incarnation)| Message::Recalled { feed, durable, incarnation })
            .boxed(),
        (n(), n(), n(), any::<u32>(), any::<u32>(), b(), n(), n())
            .prop_map(|(request, feed, after, entries_max, bytes_max, bodies, own_feed, durable)| {
                Message::FeedRequest { request, feed, after, entries_max, bytes_max, bodies, own_feed, durable }
            })
            .boxed(),
        (n(), n(), n(), n(), n(), vec(feed_entry(), 0..4), n())
            .prop_map(|(request, feed, after, through, remaining, entries, epoch)| Message::FeedBatch {
                request,
                feed,
                after,
                through,
                remaining,
                entries,
                epoch,
            })
            .boxed(),
        vec(key(), 0..5).prop_map(|keys| Message::BodyRequest { keys }).boxed(),
        vec(chosen_body(), 0..4).prop_map(|bodies| Message::Bodies { bodies }).boxed(),
        (n(), n(), n(), n())
            .prop_map(|(alignment, epoch, feed, after)| Message::Sample { alignment, epoch, feed, after })
            .boxed(),
        (n(), n(), n(), n(), n(), vec(key(), 0..5))
            .prop_map(|(alignment, epoch, feed, head, behind, pending)| Message::SampleAnswer {
                alignment,
                epoch,
                feed,
                head,
                behind,
                pending,
            })
            .boxed(),
    ]
}

fn position() -> impl Strategy<Value = DonorPosition> {
    let n = any::<u64>;
    let cursors = vec((n().prop_map(NodeId), n(), n()), 0..4);
    (n(), n(), n(), cursors).prop_map(|(feed, head, opening, cursors)| DonorPosition { feed, head, opening, cursors })
}

fn others() -> Vec<BoxedStrategy<Message>> {
    let n = any::<u64>;
    let b = any::<bool>;
    let cluster = || of(any::<u128>().prop_map(Uuid::from_u128));
    vec![
        (n(), key(), operation(), any::<u32>())
            .prop_map(|(forward, key, operation, deadline_ms)| Message::Forward {
                forward,
                key,
                operation,
                deadline_ms,
            })
            .boxed(),
        (n(), result()).prop_map(|(forward, result)| Message::ForwardAnswer { forward, result }).boxed(),
        (n(), of(key()), any::<u32>())
            .prop_map(|(request, after, bytes_max)| Message::RangeRequest { request, after, bytes_max })
            .boxed(),
        (n(), position(), n(), vec(chosen_body(), 0..4), b(), any::<u32>())
            .prop_map(|(request, position, total, bodies, done, checksum)| Message::RangeAnswer {
                request,
                position,
                total,
                bodies,
                done,
                checksum,
            })
            .boxed(),
        (n(), bytes()).prop_map(|(time, report)| Message::Ping { time, report }).boxed(),
        (bytes(), cluster()).prop_map(|(entry, cluster)| Message::JoinRequest { entry, cluster }).boxed(),
        (cluster(), bytes(), bytes(), ".{0,20}")
            .prop_map(|(cluster, configuration, nodes, refused)| Message::JoinAnswer {
                cluster,
                configuration,
                nodes,
                refused,
            })
            .boxed(),
        bytes().prop_map(|configuration| Message::ConfigurationNotice { configuration }).boxed(),
    ]
}

fn comparisons() -> Vec<BoxedStrategy<Message>> {
    let n = any::<u64>;
    let at = || (n(), n());
    let digest = || {
        (key(), ballot(), any::<u128>(), any::<bool>()).prop_map(|(key, ballot, digest, tombstone)| KeyDigest {
            key,
            ballot,
            digest,
            tombstone,
        })
    };
    let range = (of(key()), of(key()), n(), any::<u128>(), n())
        .prop_map(|(after, through, count, digest, low_bound)| Range { after, through, count, digest, low_bound });
    let answer = (any::<bool>(), of(key()), n(), vec(digest(), 0..4))
        .prop_map(|(same, through, low_bound, entries)| RangeAnswer { same, through, low_bound, entries });
    let kinds: Vec<BoxedStrategy<Compare>> = vec![
        (at(), range).prop_map(|((comparison, step), range)| Compare::Range { comparison, step, range }).boxed(),
        (at(), at(), answer)
            .prop_map(|((comparison, step), (feed, head), answer)| Compare::RangeAnswer {
                comparison,
                step,
                feed,
                head,
                answer,
            })
            .boxed(),
        (at(), vec(key(), 0..4))
            .prop_map(|((comparison, step), keys)| Compare::Keys { comparison, step, keys })
            .boxed(),
        (at(), vec(digest(), 0..4))
            .prop_map(|((comparison, step), entries)| Compare::KeysAnswer { comparison, step, entries })
            .boxed(),
        (at(), vec(key(), 0..4))
            .prop_map(|((comparison, step), keys)| Compare::Fetch { comparison, step, keys })
            .boxed(),
        (at(), vec(chosen_body(), 0..4))
            .prop_map(|((comparison, step), bodies)| Compare::Fetched { comparison, step, bodies })
            .boxed(),
        vec(chosen_body(), 0..4).prop_map(|bodies| Compare::Repair { bodies }).boxed(),
        vec((key(), ballot()), 0..4).prop_map(|keys| Compare::Doubt { keys }).boxed(),
    ];
    kinds.into_iter().map(|kind| kind.prop_map(Message::Compare).boxed()).collect()
}

pub(super) fn any_message() -> impl Strategy<Value = Message> {
    proptest::strategy::Union::new(every_kind())
}

/// One message of each kind, the same ones every time.
pub(super) fn one_of_each() -> Vec<Message> {
    let mut runner = TestRunner::deterministic();
    every_kind().iter().map(|kind| kind.new_tree(&mut runner).unwrap().current()).collect()
}

/// An accept of about 300 bytes of body.
pub(super) fn accept(number: u64, body_bytes: usize) -> Message {
    let stamp = Ballot::ordinary(number, NodeId(1), 1);
    let last = HistoryEntry { stamp, version: 1, effect: Effect::Created, request: None };
    let body = Some(Bytes::from(vec![b'x'; body_bytes]));
    let revision = Arc::new(Revision { version: 1, stamp, body, history: vec![last] });
    Message::Accept { epoch: 1, key: Key::of("orders", &format!("order-{number}")), ballot: stamp, revision }
}

/// A range of a copy: the document that [`accept`] accepts.
pub(super) fn range_answer(number: u64, body_bytes: usize) -> Message {
    let Message::Accept { key, ballot, revision, .. } = accept(number, body_bytes) else { unreachable!() };
    Message::RangeAnswer {
        request: 1,
        position: DonorPosition::default(),
        total: 1,
        bodies: vec![ChosenBody { key, ballot, revision }],
        done: true,
        checksum: 0,
    }
}
