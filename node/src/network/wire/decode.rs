//! From the wire's messages to the protocol's. Every byte string gets an answer: a message or what is wrong with it.

use super::error::WireError;
use super::message::{self as wire, Body};
use super::pack::unpack;
use super::values::{
    WireChosenBody, WireFeedEntry, WireKey, keep, optional_revision, read_ballot, read_key, read_revision, read_uuid,
};
use coequal_protocol::Message;
use coequal_protocol::auto_deploy::DonorPosition;
use coequal_types::NodeId;

/// No node sends longer lists; garbage may claim them.
const LIST_ENTRIES_MAX: usize = 1 << 20;
/// A cursor for each node that was ever a member is fewer.
const CURSORS_MAX: usize = 4_096;

impl TryFrom<Body> for Message {
    type Error = WireError;
    fn try_from(body: Body) -> Result<Self, WireError> {
        match body {
            Body::Prepare(wire) => wire.try_into(),
            Body::Promised(wire) => wire.try_into(),
            Body::Accept(wire) => wire.try_into(),
            Body::Accepted(wire) => wire.try_into(),
            Body::Refused(wire) => wire.try_into(),
            Body::StaleEpoch(wire) => wire.try_into(),
            Body::Query(wire) => wire.try_into(),
            Body::QueryAnswer(wire) => wire.try_into(),
            Body::FeedRequest(wire) => wire.try_into(),
            Body::Recall(wire) => Ok(Message::Recall { feed: wire.feed }),
            Body::Recalled(wire::Recalled { feed, durable, incarnation }) => {
                Ok(Message::Recalled { feed, durable, incarnation })
            }
            Body::FeedBatch(wire) => wire.try_into(),
            Body::BodyRequest(wire) => wire.try_into(),
            Body::Bodies(wire) => wire.try_into(),
            Body::Sample(wire) => wire.try_into(),
            Body::SampleAnswer(wire) => wire.try_into(),
            Body::Forward(wire) => wire.try_into(),
            Body::ForwardAnswer(wire) => wire.try_into(),
            Body::RangeRequest(wire) => wire.try_into(),
            Body::RangeAnswer(wire) => wire.try_into(),
            Body::Ping(wire) => wire.try_into(),
            Body::JoinRequest(wire) => wire.try_into(),
            Body::JoinAnswer(wire) => wire.try_into(),
            Body::ConfigurationNotice(wire) => wire.try_into(),
            Body::Compare(wire) => wire.try_into().map(Message::Compare),
        }
    }
}

impl TryFrom<wire::Prepare> for Message {
    type Error = WireError;
    fn try_from(wire: wire::Prepare) -> Result<Self, WireError> {
        Ok(Self::Prepare { epoch: wire.epoch, key: read_key(wire.key)?, ballot: read_ballot("ballot", wire.ballot)? })
    }
}

impl TryFrom<wire::Promised> for Message {
    type Error = WireError;
    fn try_from(wire: wire::Promised) -> Result<Self, WireError> {
        Ok(Self::Promised {
            epoch: wire.epoch,
            key: read_key(wire.key)?,
            ballot: read_ballot("ballot", wire.ballot)?,
            held: wire.held.map(TryInto::try_into).transpose()?,
            chosen: wire.chosen,
        })
    }
}

impl TryFrom<wire::Accept> for Message {
    type Error = WireError;
    fn try_from(wire: wire::Accept) -> Result<Self, WireError> {
        Ok(Self::Accept {
            epoch: wire.epoch,
            key: read_key(wire.key)?,
            ballot: read_ballot("ballot", wire.ballot)?,
            revision: read_revision(wire.revision)?,
        })
    }
}

impl TryFrom<wire::Accepted> for Message {
    type Error = WireError;
    fn try_from(wire: wire::Accepted) -> Result<Self, WireError> {
        Ok(Self::Accepted { epoch: wire.epoch, key: read_key(wire.key)?, ballot: read_ballot("ballot", wire.ballot)? })
    }
}

impl TryFrom<wire::Refused> for Message {
    type Error = WireError;
    fn try_from(wire: wire::Refused) -> Result<Self, WireError> {
        Ok(Self::Refused {
            epoch: wire.epoch,
            key: read_key(wire.key)?,
            ballot: read_ballot("ballot", wire.ballot)?,
            promised: read_ballot("promised ballot", wire.promised)?,
        })
    }
}

impl TryFrom<wire::StaleEpoch> for Message {
    type Error = WireError;
    fn try_from(wire: wire::StaleEpoch) -> Result<Self, WireError> {
        Ok(Self::StaleEpoch { epoch: wire.epoch, configuration: keep(wire.configuration) })
    }
}

impl TryFrom<wire::Query> for Message {
    type Error = WireError;
    fn try_from(wire: wire::Query) -> Result<Self, WireError> {
        Ok(Self::Query {
            epoch: wire.epoch,
            key: read_key(wire.key)?,
            read: wire.read,
            known: read_ballot("known ballot", wire.known)?,
        })
    }
}

impl TryFrom<wire::QueryAnswer> for Message {
    type Error = WireError;
    fn try_from(wire: wire::QueryAnswer) -> Result<Self, WireError> {
        Ok(Self::QueryAnswer {
            epoch: wire.epoch,
            key: read_key(wire.key)?,
            read: wire.read,
            accepted: read_ballot("accepted ballot", wire.accepted)?,
            chosen: wire.chosen,
            revision: optional_revision(wire.revision)?,
        })
    }
}

impl TryFrom<wire::FeedRequest> for Message {
    type Error = WireError;
    fn try_from(wire: wire::FeedRequest) -> Result<Self, WireError> {
        Ok(Self::FeedRequest {
            request: wire.request,
            feed: wire.feed,
            after: wire.after,
            entries_max: wire.entries_max,
            bytes_max: wire.bytes_max,
            bodies: wire.bodies,
            own_feed: wire.own_feed,
            durable: wire.durable,
        })
    }
}

impl TryFrom<wire::FeedBatch> for Message {
    type Error = WireError;
    fn try_from(wire: wire::FeedBatch) -> Result<Self, WireError> {
        Ok(Self::FeedBatch {
            request: wire.request,
            feed: wire.feed,
            after: wire.after,
            through: wire.through,
            remaining: wire.remaining,
            entries: unpack::<WireFeedEntry, _>("entries", LIST_ENTRIES_MAX, wire.entries)?,
            epoch: wire.epoch,
        })
    }
}

impl TryFrom<wire::BodyRequest> for Message {
    type Error = WireError;
    fn try_from(wire: wire::BodyRequest) -> Result<Self, WireError> {
        Ok(Self::BodyRequest { keys: unpack::<WireKey, _>("keys", LIST_ENTRIES_MAX, wire.keys)? })
    }
}

impl TryFrom<wire::Bodies> for Message {
    type Error = WireError;
    fn try_from(wire: wire::Bodies) -> Result<Self, WireError> {
        Ok(Self::Bodies { bodies: unpack::<WireChosenBody, _>("bodies", LIST_ENTRIES_MAX, wire.bodies)? })
    }
}

impl TryFrom<wire::Sample> for Message {
    type Error = WireError;
    fn try_from(wire: wire::Sample) -> Result<Self, WireError> {
        Ok(Self::Sample { alignment: wire.alignment, epoch: wire.epoch, feed: wire.feed, after: wire.after })
    }
}

impl TryFrom<wire::SampleAnswer> for Message {
    type Error = WireError;
    fn try_from(wire: wire::SampleAnswer) -> Result<Self, WireError> {
        Ok(Self::SampleAnswer {
            alignment: wire.alignment,
            epoch: wire.epoch,
            feed: wire.feed,
            head: wire.head,
            behind: wire.behind,
            pending: unpack::<WireKey, _>("pending", LIST_ENTRIES_MAX, wire.pending)?,
        })
    }
}

impl TryFrom<wire::Forward> for Message {
    type Error = WireError;
    fn try_from(wire: wire::Forward) -> Result<Self, WireError> {
        Ok(Self::Forward {
            forward: wire.forward,
            key: read_key(wire.key)?,
            operation: wire.operation.ok_or(WireError::Missing { field: "operation" })?.try_into()?,
            deadline_ms: wire.deadline_ms,
        })
    }
}

impl TryFrom<wire::ForwardAnswer> for Message {
    type Error = WireError;
    fn try_from(wire: wire::ForwardAnswer) -> Result<Self, WireError> {
        Ok(Self::ForwardAnswer {
            forward: wire.forward,
            result: wire.result.ok_or(WireError::Missing { field: "result" })?.try_into()?,
        })
    }
}

impl TryFrom<wire::RangeRequest> for Message {
    type Error = WireError;
    fn try_from(wire: wire::RangeRequest) -> Result<Self, WireError> {
        Ok(Self::RangeRequest {
            request: wire.request,
            after: wire.after.map(read_key).transpose()?,
            bytes_max: wire.bytes_max,
        })
    }
}

impl TryFrom<wire::RangeAnswer> for Message {
    type Error = WireError;
    fn try_from(wire: wire::RangeAnswer) -> Result<Self, WireError> {
        if wire.cursors.len() > CURSORS_MAX {
            return Err(WireError::TooMany { field: "cursors", max: CURSORS_MAX });
        }
        let cursors = wire.cursors.into_iter().map(|cursor| (NodeId(cursor.source), cursor.feed, cursor.sequence));
        let cursors = cursors.collect();
        Ok(Self::RangeAnswer {
            request: wire.request,
            position: DonorPosition { feed: wire.feed, head: wire.head, opening: wire.opening, cursors },
            total: wire.total,
            bodies: unpack::<WireChosenBody, _>("bodies", LIST_ENTRIES_MAX, wire.bodies)?,
            done: wire.done,
            checksum: wire.checksum,
        })
    }
}

impl TryFrom<wire::Ping> for Message {
    type Error = WireError;
    fn try_from(wire: wire::Ping) -> Result<Self, WireError> {
        Ok(Self::Ping { time: wire.time, report: keep(wire.report) })
    }
}

impl TryFrom<wire::JoinRequest> for Message {
    type Error = WireError;
    fn try_from(wire: wire::JoinRequest) -> Result<Self, WireError> {
        Ok(Self::JoinRequest {
            entry: keep(wire.entry),
            cluster: wire.cluster.map(|id| read_uuid("cluster", &id)).transpose()?,
        })
    }
}

impl TryFrom<wire::JoinAnswer> for Message {
    type Error = WireError;
    fn try_from(wire: wire::JoinAnswer) -> Result<Self, WireError> {
        Ok(Self::JoinAnswer {
            cluster: wire.cluster.map(|id| read_uuid("cluster", &id)).transpose()?,
            configuration: keep(wire.configuration),
            nodes: keep(wire.nodes),
            refused: wire.refused,
        })
    }
}

impl TryFrom<wire::ConfigurationNotice> for Message {
    type Error = WireError;
    fn try_from(wire: wire::ConfigurationNotice) -> Result<Self, WireError> {
        Ok(Self::ConfigurationNotice { configuration: keep(wire.configuration) })
    }
}
