//! From the protocol's messages to the wire's. Fields are named one by one, so that a new one cannot be forgotten.

use super::compare::WireCompare;
use super::message::{self as wire, Body};
use super::pack::pack;
use super::values::{WireBallot, WireFeedEntry, WireHeld, WireKey, WireRevision, pack_bodies, uuid_bytes};
use coequal_protocol::{Ballot, Message};

fn sent(ballot: &Ballot) -> Option<WireBallot> {
    Some((*ballot).into())
}

/// The message as it travels to a node that speaks this version of the protocol. Every variant stands in one of the
/// groups, or this does not compile; that each group knows its variants is a test's business (every kind is sent and
/// read back).
pub(super) fn body(message: &Message, protocol: u32) -> Option<Body> {
    use Message as M;
    match message {
        M::Prepare { .. }
        | M::Promised { .. }
        | M::Accept { .. }
        | M::Accepted { .. }
        | M::Refused { .. }
        | M::StaleEpoch { .. }
        | M::Query { .. }
        | M::QueryAnswer { .. } => round(message, protocol),
        M::FeedRequest { .. }
        | M::Recall { .. }
        | M::Recalled { .. }
        | M::FeedBatch { .. }
        | M::BodyRequest { .. }
        | M::Bodies { .. }
        | M::Sample { .. }
        | M::SampleAnswer { .. } => feed(message, protocol),
        M::Forward { .. } | M::ForwardAnswer { .. } | M::RangeRequest { .. } | M::RangeAnswer { .. } => {
            copy(message, protocol)
        }
        M::Ping { .. } | M::JoinRequest { .. } | M::JoinAnswer { .. } | M::ConfigurationNotice { .. } => node(message),
        M::Compare(compare) => Some(Body::Compare(WireCompare::of(compare, protocol))),
    }
}

/// Messages of a register's rounds.
fn round(message: &Message, protocol: u32) -> Option<Body> {
    Some(match message {
        Message::Prepare { epoch, key, ballot } => {
            Body::Prepare(wire::Prepare { epoch: *epoch, key: key.as_bytes().clone(), ballot: sent(ballot) })
        }
        Message::Promised { epoch, key, ballot, held, chosen } => Body::Promised(wire::Promised {
            epoch: *epoch,
            key: key.as_bytes().clone(),
            ballot: sent(ballot),
            held: held.as_ref().map(|held| WireHeld::of(held, protocol)),
            chosen: *chosen,
        }),
        Message::Accept { epoch, key, ballot, revision } => Body::Accept(wire::Accept {
            epoch: *epoch,
            key: key.as_bytes().clone(),
            ballot: sent(ballot),
            revision: Some(WireRevision::of(revision, protocol)),
        }),
        Message::Accepted { epoch, key, ballot } => {
            Body::Accepted(wire::Accepted { epoch: *epoch, key: key.as_bytes().clone(), ballot: sent(ballot) })
        }
        Message::Refused { epoch, key, ballot, promised } => Body::Refused(wire::Refused {
            epoch: *epoch,
            key: key.as_bytes().clone(),
            ballot: sent(ballot),
            promised: sent(promised),
        }),
        Message::StaleEpoch { epoch, configuration } => {
            Body::StaleEpoch(wire::StaleEpoch { epoch: *epoch, configuration: configuration.clone() })
        }
        Message::Query { epoch, key, read, known } => {
            Body::Query(wire::Query { epoch: *epoch, key: key.as_bytes().clone(), read: *read, known: sent(known) })
        }
        Message::QueryAnswer { epoch, key, read, accepted, chosen, revision } => Body::QueryAnswer(wire::QueryAnswer {
            epoch: *epoch,
            key: key.as_bytes().clone(),
            read: *read,
            accepted: sent(accepted),
            chosen: *chosen,
            revision: revision.as_deref().map(|revision| WireRevision::of(revision, protocol)),
        }),
        _ => return None,
    })
}

/// Messages of feeds and alignment.
fn feed(message: &Message, protocol: u32) -> Option<Body> {
    Some(match message {
        Message::FeedRequest { request, feed, after, entries_max, bytes_max, bodies, own_feed, durable } => {
            Body::FeedRequest(wire::FeedRequest {
                request: *request,
                feed: *feed,
                after: *after,
                entries_max: *entries_max,
                bytes_max: *bytes_max,
                bodies: *bodies,
                own_feed: *own_feed,
                durable: *durable,
            })
        }
        Message::Recall { feed } => Body::Recall(wire::Recall { feed: *feed }),
        Message::Recalled { feed, durable, incarnation } => {
            Body::Recalled(wire::Recalled { feed: *feed, durable: *durable, incarnation: *incarnation })
        }
        Message::FeedBatch { request, feed, after, through, remaining, entries, epoch } => {
            Body::FeedBatch(wire::FeedBatch {
                request: *request,
                feed: *feed,
                after: *after,
                through: *through,
                remaining: *remaining,
                entries: pack(entries.iter().map(|entry| WireFeedEntry::of(entry, protocol))),
                epoch: *epoch,
            })
        }
        Message::BodyRequest { keys } => {
            Body::BodyRequest(wire::BodyRequest { keys: pack(keys.iter().map(WireKey::from)) })
        }
        Message::Bodies { bodies } => Body::Bodies(wire::Bodies { bodies: pack_bodies(bodies, protocol) }),
        Message::Sample { alignment, epoch, feed, after } => {
            Body::Sample(wire::Sample { alignment: *alignment, epoch: *epoch, feed: *feed, after: *after })
        }
        Message::SampleAnswer { alignment, epoch, feed, head, behind, pending } => {
            Body::SampleAnswer(wire::SampleAnswer {
                alignment: *alignment,
                epoch: *epoch,
                feed: *feed,
                head: *head,
                behind: *behind,
                pending: pack(pending.iter().map(WireKey::from)),
            })
        }
        _ => return None,
    })
}

/// Messages of forwarded writes and of copies.
fn copy(message: &Message, protocol: u32) -> Option<Body> {
    Some(match message {
        Message::Forward { forward, key, operation, deadline_ms } => Body::Forward(wire::Forward {
            forward: *forward,
            key: key.as_bytes().clone(),
            operation: Some(operation.into()),
            deadline_ms: *deadline_ms,
        }),
        Message::ForwardAnswer { forward, result } => {
            Body::ForwardAnswer(wire::ForwardAnswer { forward: *forward, result: Some(result.into()) })
        }
        Message::RangeRequest { request, after, bytes_max } => Body::RangeRequest(wire::RangeRequest {
            request: *request,
            after: after.as_ref().map(|key| key.as_bytes().clone()),
            bytes_max: *bytes_max,
        }),
        Message::RangeAnswer { request, position, total, bodies, done, checksum } => {
            let cursors = position.cursors.iter();
            let cursors = cursors.map(|(source, feed, sequence)| wire::Cursor {
                source: source.0,
                feed: *feed,
                sequence: *sequence,
            });
            Body::RangeAnswer(wire::RangeAnswer {
                request: *request,
                feed: position.feed,
                head: position.head,
                total: *total,
                bodies: pack_bodies(bodies, protocol),
                done: *done,
                checksum: *checksum,
                opening: position.opening,
                cursors: cursors.collect(),
            })
        }
        _ => return None,
    })
}

/// Messages about nodes.
fn node(message: &Message) -> Option<Body> {
    Some(match message {
        Message::Ping { time, report } => Body::Ping(wire::Ping { time: *time, report: report.clone() }),
        Message::JoinRequest { entry, cluster } => {
            Body::JoinRequest(wire::JoinRequest { entry: entry.clone(), cluster: cluster.map(uuid_bytes) })
        }
        Message::JoinAnswer { cluster, configuration, nodes, refused } => Body::JoinAnswer(wire::JoinAnswer {
            cluster: cluster.map(uuid_bytes),
            configuration: configuration.clone(),
            nodes: nodes.clone(),
            refused: refused.clone(),
        }),
        Message::ConfigurationNotice { configuration } => {
            Body::ConfigurationNotice(wire::ConfigurationNotice { configuration: configuration.clone() })
        }
        _ => return None,
    })
}
