//! Messages as bytes and back. Modules stand in reading order.
//!
//! A frame's payload is a sequence of parcels; a parcel is a database and one message. Decoding is total:
//! whatever the bytes are, the answer is envelopes and what was wrong, with memory bounded by the frame.

mod compare;
mod decode;
mod encode;
mod error;
mod history;
mod message;
mod operation;
mod pack;
mod values;

pub use error::WireError;
pub(super) use pack::append;
pub(super) use values::read_uuid;

use bytes::{Buf, Bytes, BytesMut};
use coequal_protocol::Message;
use coequal_protocol::message::Envelope;
use coequal_types::DatabaseId;
use message::Parcel;
use prost::Message as _;

/// What a frame held.
#[derive(Debug, Default)]
pub(super) struct Decoded {
    /// Readable messages; neighbours of one database share an envelope.
    pub envelopes: Vec<Envelope>,
    /// How many messages were left out because they mean nothing to this version, and why the first one was.
    /// Leaving one out is like losing it, which the protocol endures; the rest of the frame is not to blame.
    pub unreadable: Option<(usize, WireError)>,
}

/// Appends one message to a frame's payload, for a node that speaks this version of the protocol.
pub(super) fn append_parcel(database: DatabaseId, message: &Message, protocol: u32, out: &mut BytesMut) {
    let database = Bytes::copy_from_slice(database.as_bytes());
    append(&Parcel { database, body: encode::body(message, protocol) }, out);
}

/// Reads a frame's payload. An error means that the frame itself is broken and nothing behind it can be trusted.
pub(super) fn decode_parcels(mut payload: Bytes) -> Result<Decoded, WireError> {
    let mut decoded = Decoded::default();
    while payload.has_remaining() {
        let claimed = prost::encoding::decode_varint(&mut payload)?;
        let bytes = usize::try_from(claimed).unwrap_or(usize::MAX);
        if bytes > payload.len() {
            return Err(WireError::Overlong { claimed, left: payload.len() });
        }
        let parcel = Parcel::decode(payload.split_to(bytes))?;
        let database = read_uuid("database", &parcel.database)?;
        match parcel.body.ok_or(WireError::UnknownMessage).and_then(Message::try_from) {
            Ok(message) => file(&mut decoded.envelopes, database, message),
            Err(why) => {
                let (count, first) = decoded.unreadable.take().unwrap_or((0, why));
                decoded.unreadable = Some((count + 1, first));
            }
        }
    }
    Ok(decoded)
}

fn file(envelopes: &mut Vec<Envelope>, database: DatabaseId, message: Message) {
    match envelopes.last_mut() {
        Some(last) if last.database == database => last.messages.push(message),
        _ => envelopes.push(Envelope { database, messages: vec![message] }),
    }
}
