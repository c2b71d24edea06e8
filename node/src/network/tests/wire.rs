//! Messages as bytes: read back as they were, and never believed blindly.

use super::super::wire::{Decoded, append_parcel, decode_parcels};
use super::samples::{any_message, one_of_each};
use super::{database, ping};
use crate::network::{PROTOCOL_VERSIONS, WireError};
use bytes::{Bytes, BytesMut};
use coequal_protocol::message::{Condition, Operation, OperationKind};
use coequal_protocol::{Ballot, Key, Message, RequestId};
use coequal_types::NodeId;
use proptest::prelude::*;

fn encoded<'a>(messages: impl IntoIterator<Item = (u128, &'a Message)>) -> Bytes {
    encoded_for(*PROTOCOL_VERSIONS.end(), messages)
}

fn encoded_for<'a>(protocol: u32, messages: impl IntoIterator<Item = (u128, &'a Message)>) -> Bytes {
    let mut out = BytesMut::new();
    for (id, message) in messages {
        append_parcel(database(id), message, protocol, &mut out);
    }
    out.freeze()
}

/// A parcel of these bytes about the nil database.
fn raw_parcel(body: &[u8]) -> Bytes {
    let mut parcel = vec![10, 16];
    parcel.extend_from_slice(&[0; 16]);
    parcel.extend_from_slice(body);
    let mut out = vec![u8::try_from(parcel.len()).unwrap()];
    out.extend(parcel);
    Bytes::from(out)
}

fn first_fault(payload: Bytes) -> WireError {
    decode_parcels(payload).unwrap().unreadable.unwrap().1
}

#[test]
fn every_kind_of_message_is_read_back_as_it_was() {
    let messages = one_of_each();
    for protocol in PROTOCOL_VERSIONS {
        let payload = encoded_for(protocol, messages.iter().map(|message| (7, message)));
        let decoded = decode_parcels(payload).unwrap();
        assert_eq!(decoded.unreadable, None);
        let [envelope] = &decoded.envelopes[..] else { panic!("{:?}", decoded.envelopes) };
        assert_eq!(envelope.database, database(7));
        assert_eq!(envelope.messages, messages);
    }
}

/// The fuzzer's seeds were written when there was one version: nodes that know no other must understand every byte.
#[test]
fn version_1_is_written_as_it_always_was() {
    let corpus = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/corpus/frames");
    let mut with_history = 0;
    for number in 2..=25 {
        let seed = std::fs::read(corpus.join(format!("message_{number:02}"))).unwrap();
        // Behind how the fuzzer cuts it up.
        let seed = Bytes::from(seed).slice(1..);
        // A few are no messages.
        let Ok(Decoded { envelopes, unreadable: None }) = decode_parcels(seed.clone()) else { continue };
        let [envelope] = &envelopes[..] else { panic!("{envelopes:?}") };
        let again = |protocol| encoded_for(protocol, envelope.messages.iter().map(|message| (0, message)));
        let written = again(1);
        if again(2) != written {
            // The seed's database is another one, of as many bytes.
            let same = written.len() == seed.len() && written[20..] == seed[20..];
            assert!(same, "message_{number:02}: {written:x?} instead of {seed:x?}");
            with_history += 1;
        }
    }
    assert_eq!(with_history, 5, "messages with a history");
}

/// An operation's condition and its request id are told apart, whichever of them are there.
#[test]
fn every_condition_is_read_back_with_and_without_a_request_id() {
    let stamp = Ballot::ordinary(77, NodeId(2), 3);
    let conditions = [
        Condition::Any,
        Condition::Absent,
        Condition::Present,
        Condition::Stamp(stamp),
        Condition::Revision { version: 4, stamp },
        Condition::Version(4),
    ];
    for condition in conditions {
        for request in [None, Some((RequestId(5 << 64 | 6), 7))] {
            let operation = Operation { kind: OperationKind::Delete, condition: condition.clone(), request };
            let key = Key::of("things", "a");
            let message = Message::Forward { forward: 1, key, operation, deadline_ms: 2 };
            let decoded = decode_parcels(encoded([(7, &message)])).unwrap();
            assert_eq!(decoded.unreadable, None, "{message:?}");
            assert_eq!(decoded.envelopes[0].messages, [message]);
        }
    }
}

#[test]
fn neighbours_of_one_database_share_an_envelope() {
    let (a, b) = (ping(1), ping(2));
    let decoded = decode_parcels(encoded([(1, &a), (1, &b), (2, &a), (1, &b)])).unwrap();
    let sizes: Vec<_> = decoded.envelopes.iter().map(|e| (e.database, e.messages.len())).collect();
    assert_eq!(sizes, [(database(1), 2), (database(2), 1), (database(1), 1)]);
}

proptest! {
    #[test]
    fn any_message_is_read_back_as_it_was(message in any_message(), protocol in PROTOCOL_VERSIONS) {
        let decoded = decode_parcels(encoded_for(protocol, [(3, &message)])).unwrap();
        prop_assert_eq!(decoded.unreadable, None);
        prop_assert_eq!(&decoded.envelopes[0].messages[..], &[message][..]);
    }

    #[test]
    fn a_message_differs_by_version_exactly_if_it_has_a_history(message in any_message()) {
        let has_history = format!("{message:?}").contains("HistoryEntry");
        prop_assert_eq!(encoded_for(1, [(3, &message)]) != encoded_for(2, [(3, &message)]), has_history);
    }

    #[test]
    fn a_message_cut_short_is_an_error(
        message in any_message(),
        protocol in PROTOCOL_VERSIONS,
        cut in any::<proptest::sample::Index>(),
    ) {
        let whole = encoded_for(protocol, [(3, &message)]);
        let cut = 1 + cut.index(whole.len() - 1);
        prop_assert!(decode_parcels(whole.slice(..cut)).is_err());
    }

    #[test]
    fn garbage_is_answered_and_never_panics(garbage in prop::collection::vec(any::<u8>(), 0..300)) {
        let _either = decode_parcels(Bytes::from(garbage.clone()));
        let _either = decode_parcels(raw_parcel(garbage.get(..80).unwrap_or(&garbage)));
    }

    #[test]
    fn changed_bytes_are_answered_and_never_panic(
        message in any_message(),
        protocol in PROTOCOL_VERSIONS,
        changes in prop::collection::vec((any::<proptest::sample::Index>(), any::<u8>()), 1..8),
    ) {
        let mut bytes = encoded_for(protocol, [(3, &message)]).to_vec();
        for (place, value) in changes {
            let place = place.index(bytes.len());
            bytes[place] = value;
        }
        let _either = decode_parcels(Bytes::from(bytes));
    }
}

#[test]
fn what_is_wrong_is_named_and_the_rest_of_the_frame_is_read() {
    // Field 100: a kind of a later version.
    assert_eq!(first_fault(raw_parcel(&[0xa2, 0x06, 0])), WireError::UnknownMessage);
    // A prepare (field 2) whose key is "nokey".
    let prepare = [0x12, 7, 0x12, 5, b'n', b'o', b'k', b'e', b'y'];
    assert!(first_fault(raw_parcel(&prepare)).to_string().contains("\"nokey\""));
    // A prepare with a key and no ballot.
    assert_eq!(first_fault(raw_parcel(&[0x12, 5, 0x12, 3, b'a', 0, b'b'])), WireError::Missing { field: "ballot" });
    // A prepare with a ballot of class 9.
    let classed = [0x12, 9, 0x12, 3, b'a', 0, b'b', 0x1a, 2, 8, 9];
    assert_eq!(first_fault(raw_parcel(&classed)), WireError::Unknown { field: "ballot class", value: 9 });

    let mut both = BytesMut::from(&raw_parcel(&prepare)[..]);
    append_parcel(database(0), &ping(5), *PROTOCOL_VERSIONS.end(), &mut both);
    let decoded = decode_parcels(both.freeze()).unwrap();
    assert_eq!(decoded.envelopes[0].messages, [ping(5)]);
}

#[test]
fn a_list_of_nothings_ends_at_the_first() {
    // Bodies (field 13) of 100 empty entries: each would be a struct of hundreds of bytes if it were believed.
    let mut bodies = vec![0x6a, 102, 0x0a, 100];
    bodies.extend([0; 100]);
    assert!(matches!(first_fault(raw_parcel(&bodies)), WireError::Key { .. }));
}

#[test]
fn a_database_that_is_no_uuid_breaks_the_frame() {
    let error = decode_parcels(Bytes::from_static(&[3, 10, 1, 7])).unwrap_err();
    assert_eq!(error, WireError::IdLength { field: "database", found: 1 });
    let error = decode_parcels(Bytes::from_static(&[9, 10, 1, 7])).unwrap_err();
    assert_eq!(error, WireError::Overlong { claimed: 9, left: 3 });
}
