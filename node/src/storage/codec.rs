//! Bytes of registers, revisions and log records. Reading is total: whatever the bytes are, the answer is a value or an
//! error, and no more memory is taken than there are bytes.
//!
//! Numbers are varints. A ballot's (node, incarnation) is written once per value and referred to afterwards, and its
//! time is written as the difference to the one before: a document remembers its last 16 writes, and this keeps that
//! memory at about 9 bytes each instead of 30.

use bytes::Bytes;
use coequal_protocol::Key;
use coequal_protocol::ballot::{Ballot, BallotClass};
use coequal_protocol::faults::{Fault, broken};
use coequal_protocol::record::{Change, LogRecord};
use coequal_protocol::register::{Held, Register};
use coequal_protocol::revision::{Effect, HistoryEntry, RequestId, Revision};
use coequal_types::{Incarnation, NodeId};
use std::sync::Arc;

/// First byte of every encoded value.
const VERSION: u8 = 1;
/// More remembered writes than any version of the program keeps.
const HISTORY_MAX: usize = 256;
/// More records than any batch has.
const RECORDS_MAX: u64 = 1 << 24;

/// Bytes that do not say what they should.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("unreadable value: {0}")]
pub(super) struct CodecError(pub(super) &'static str);

type Decoded<T> = Result<T, CodecError>;

/// Encodes a register.
pub(super) fn encode_register(register: &Register) -> Vec<u8> {
    let Register { promised, accepted, chosen, feed_sequence } = register;
    let mut writer = Writer::new();
    let same = matches!((accepted, chosen), (Some(a), Some(c)) if a.ballot == c.ballot && a.revision == c.revision);
    let flags = u8::from(accepted.is_some()) | u8::from(chosen.is_some()) << 1 | u8::from(same) << 2;
    writer.byte(flags);
    writer.ballot(*promised);
    writer.number(*feed_sequence);
    if let Some(held) = accepted {
        writer.held(held);
    }
    if let Some(held) = chosen.as_ref().filter(|_| !same) {
        writer.held(held);
    }
    writer.out
}

/// Decodes a register.
pub(super) fn decode_register(bytes: &[u8]) -> Decoded<Register> {
    let mut reader = Reader::new(bytes)?;
    let flags = reader.byte()?;
    let same = flags & 4 != 0;
    if flags > 7 || (same && flags != 7) {
        return Err(CodecError("unknown flags of a register"));
    }
    let promised = reader.ballot()?;
    let feed_sequence = reader.number()?;
    let accepted = if flags & 1 != 0 { Some(reader.held()?) } else { None };
    let chosen = match (flags & 2 != 0, same) {
        (true, true) => accepted.clone(),
        (true, false) => Some(reader.held()?),
        _ => None,
    };
    reader.end()?;
    Ok(Register { promised, accepted, chosen, feed_sequence })
}

/// Gathers the records of one log row.
#[derive(Debug, Default)]
pub(super) struct RecordsWriter {
    records: Vec<u8>,
    count: u64,
}

impl RecordsWriter {
    pub(super) fn push(&mut self, record: &LogRecord) {
        let mut writer = Writer { out: std::mem::take(&mut self.records), ..Writer::default() };
        match record {
            LogRecord::Register { key, change } => writer.change(key, change),
            LogRecord::Cursor { source, feed, sequence } => {
                writer.byte(5);
                writer.fixed(source.0);
                writer.fixed(*feed);
                writer.number(*sequence);
            }
            LogRecord::Meta { name, value } => {
                writer.byte(6);
                writer.blob(name.as_bytes());
                writer.blob(value);
            }
        }
        self.records = writer.out;
        self.count += 1;
    }

    pub(super) fn is_empty(&self) -> bool {
        self.count == 0
    }

    pub(super) fn bytes(&self) -> usize {
        self.records.len()
    }

    /// The row's value without its checksum.
    pub(super) fn finish(self) -> Bytes {
        let mut writer = Writer::new();
        writer.number(self.count);
        writer.out.extend_from_slice(&self.records);
        Bytes::from(writer.out)
    }
}

/// Whether what would be written could be read again: revisions come from other nodes, too.
pub(super) fn is_storable(record: &LogRecord) -> bool {
    match record {
        LogRecord::Register { change: Change::Accept { revision, .. }, .. }
        | LogRecord::Register { change: Change::Chosen { revision: Some(revision), .. }, .. } => {
            revision.history.len() <= HISTORY_MAX
        }
        _ => true,
    }
}

/// Decodes the records of one log row and hands each on.
pub(super) fn decode_records<E: From<CodecError>>(
    bytes: &[u8],
    mut take: impl FnMut(LogRecord) -> Result<(), E>,
) -> Result<(), E> {
    let mut reader = Reader::new(bytes)?;
    let count = reader.number()?;
    if count > RECORDS_MAX {
        return Err(CodecError("too many records").into());
    }
    for _ in 0..count {
        reader.forget();
        let record = reader.record()?;
        take(record)?;
    }
    reader.end()?;
    Ok(())
}

/// `rest` behind a CRC32C of itself and its key.
pub(super) fn seal(key: &[u8], rest: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(rest.len() + 4);
    out.extend_from_slice(&crc32c::crc32c_append(crc32c::crc32c(key), rest).to_le_bytes());
    out.extend_from_slice(rest);
    out
}

/// What was sealed under `key`.
pub(super) fn unseal<'a>(key: &[u8], bytes: &'a [u8]) -> Decoded<&'a [u8]> {
    let (sum, rest) = bytes.split_first_chunk::<4>().ok_or(CodecError("too short for a checksum"))?;
    let fits = u32::from_le_bytes(*sum) == crc32c::crc32c_append(crc32c::crc32c(key), rest);
    if !fits && !broken(Fault::ChecksumIgnored) {
        return Err(CodecError("checksum does not fit"));
    }
    Ok(rest)
}

#[derive(Default)]
struct Writer {
    out: Vec<u8>,
    origins: Vec<(NodeId, Incarnation)>,
    time: u64,
}

impl Writer {
    fn new() -> Self {
        Self { out: vec![VERSION], ..Self::default() }
    }
    fn byte(&mut self, byte: u8) {
        self.out.push(byte);
    }
    fn fixed(&mut self, number: u64) {
        self.out.extend_from_slice(&number.to_le_bytes());
    }
    fn number(&mut self, mut number: u64) {
        while number >= 0x80 {
            self.out.push(number as u8 | 0x80);
            number >>= 7;
        }
        self.out.push(number as u8);
    }
    fn difference(&mut self, from: u64, to: u64) {
        let signed = to.wrapping_sub(from) as i64;
        self.number(((signed << 1) ^ (signed >> 63)) as u64);
    }
    fn blob(&mut self, bytes: &[u8]) {
        self.number(bytes.len() as u64);
        self.out.extend_from_slice(bytes);
    }
    fn ballot(&mut self, ballot: Ballot) {
        let Ballot { class, time, node, incarnation } = ballot;
        let origin = (node, incarnation);
        let known = self.origins.iter().position(|known| *known == origin);
        let index = known.unwrap_or(self.origins.len()) as u64;
        self.number(index << 1 | u64::from(class == BallotClass::Ordinary));
        if known.is_none() {
            self.fixed(node.0);
            self.number(u64::from(incarnation));
            self.origins.push(origin);
        }
        self.difference(self.time, time);
        self.time = time;
    }
    fn held(&mut self, held: &Held) {
        self.ballot(held.ballot);
        self.revision(&held.revision);
    }
    fn revision(&mut self, revision: &Revision) {
        let Revision { version, stamp, body, history } = revision;
        self.number(*version);
        self.ballot(*stamp);
        // Length plus one, so that a tombstone is zero.
        self.number(body.as_ref().map_or(0, |body| body.len() as u64 + 1));
        self.out.extend_from_slice(body.as_deref().unwrap_or_default());
        self.number(history.len() as u64);
        let mut before = *version;
        for HistoryEntry { stamp, version, effect, request } in history {
            let effect = match effect {
                Effect::Created => 0,
                Effect::Replaced => 1,
                Effect::Deleted => 2,
            };
            self.byte(effect | u8::from(request.is_some()) << 2);
            self.ballot(*stamp);
            self.difference(before, *version);
            before = *version;
            if let Some((RequestId(id), fingerprint)) = request {
                self.out.extend_from_slice(&id.to_le_bytes());
                self.fixed(*fingerprint);
            }
        }
    }
    fn change(&mut self, key: &Key, change: &Change) {
        self.byte(match change {
            Change::Promise { .. } => 1,
            Change::Accept { .. } => 2,
            Change::Chosen { revision: None, .. } => 3,
            Change::Chosen { revision: Some(_), .. } => 4,
            Change::Collect { .. } => 7,
        });
        self.blob(key.as_bytes());
        match change {
            Change::Promise { ballot } => self.ballot(*ballot),
            Change::Accept { ballot, revision } => {
                self.ballot(*ballot);
                self.revision(revision);
            }
            Change::Chosen { ballot, feed_sequence, revision } => {
                self.ballot(*ballot);
                self.number(*feed_sequence);
                if let Some(revision) = revision {
                    self.revision(revision);
                }
            }
            Change::Collect { through } => self.number(*through),
        }
    }
}

struct Reader<'a> {
    rest: &'a [u8],
    origins: Vec<(NodeId, Incarnation)>,
    time: u64,
}

impl<'a> Reader<'a> {
    fn new(bytes: &'a [u8]) -> Decoded<Self> {
        match bytes.split_first() {
            Some((&VERSION, rest)) => Ok(Self { rest, origins: Vec::new(), time: 0 }),
            Some(_) => Err(CodecError("unknown version of the encoding")),
            None => Err(CodecError("empty")),
        }
    }
    /// Each record stands for itself.
    fn forget(&mut self) {
        self.origins.clear();
        self.time = 0;
    }
    fn end(&self) -> Decoded<()> {
        if self.rest.is_empty() { Ok(()) } else { Err(CodecError("more bytes than expected")) }
    }
    fn take(&mut self, len: usize) -> Decoded<&'a [u8]> {
        let (taken, rest) = self.rest.split_at_checked(len).ok_or(CodecError("fewer bytes than expected"))?;
        self.rest = rest;
        Ok(taken)
    }
    fn array<const N: usize>(&mut self) -> Decoded<[u8; N]> {
        let (taken, rest) = self.rest.split_first_chunk().ok_or(CodecError("fewer bytes than expected"))?;
        self.rest = rest;
        Ok(*taken)
    }
    fn byte(&mut self) -> Decoded<u8> {
        Ok(self.array::<1>()?[0])
    }
    fn fixed(&mut self) -> Decoded<u64> {
        Ok(u64::from_le_bytes(self.array()?))
    }
    fn number(&mut self) -> Decoded<u64> {
        let mut number = 0_u64;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            if shift == 63 && byte > 1 {
                return Err(CodecError("a number is too large"));
            }
            number |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Ok(number);
            }
        }
        Err(CodecError("a number is too long"))
    }
    fn length(&mut self) -> Decoded<usize> {
        usize::try_from(self.number()?).map_err(|_| CodecError("a length is too large"))
    }
    fn difference(&mut self, from: u64) -> Decoded<u64> {
        let folded = self.number()?;
        let signed = (folded >> 1) as i64 ^ -((folded & 1) as i64);
        Ok(from.wrapping_add(signed as u64))
    }
    fn blob(&mut self) -> Decoded<&'a [u8]> {
        let len = self.length()?;
        self.take(len)
    }
    fn ballot(&mut self) -> Decoded<Ballot> {
        let head = self.number()?;
        let class = if head & 1 == 1 { BallotClass::Ordinary } else { BallotClass::Creation };
        let index = usize::try_from(head >> 1).map_err(|_| CodecError("an origin is not known"))?;
        let (node, incarnation) = match self.origins.get(index) {
            Some(origin) => *origin,
            None if index == self.origins.len() => {
                let node = NodeId(self.fixed()?);
                let incarnation =
                    Incarnation::try_from(self.number()?).map_err(|_| CodecError("an incarnation is too large"))?;
                self.origins.push((node, incarnation));
                (node, incarnation)
            }
            None => return Err(CodecError("an origin is not known")),
        };
        self.time = self.difference(self.time)?;
        Ok(Ballot { class, time: self.time, node, incarnation })
    }
    fn held(&mut self) -> Decoded<Held> {
        Ok(Held { ballot: self.ballot()?, revision: Arc::new(self.revision()?) })
    }
    fn revision(&mut self) -> Decoded<Revision> {
        let version = self.number()?;
        let stamp = self.ballot()?;
        // Copied, so that a body never keeps a whole log row in memory.
        let body = match self.length()? {
            0 => None,
            len => Some(Bytes::copy_from_slice(self.take(len - 1)?)),
        };
        let len = self.length()?;
        if len > HISTORY_MAX {
            return Err(CodecError("a history is too long"));
        }
        let mut history = Vec::with_capacity(len.min(self.rest.len()));
        let mut before = version;
        for _ in 0..len {
            let flags = self.byte()?;
            let effect = match flags & 3 {
                0 => Effect::Created,
                1 => Effect::Replaced,
                2 => Effect::Deleted,
                _ => return Err(CodecError("an effect is not known")),
            };
            if flags > 7 {
                return Err(CodecError("unknown flags of a remembered write"));
            }
            let stamp = self.ballot()?;
            before = self.difference(before)?;
            let request = match flags & 4 {
                0 => None,
                _ => Some((RequestId(u128::from_le_bytes(self.array()?)), self.fixed()?)),
            };
            history.push(HistoryEntry { stamp, version: before, effect, request });
        }
        Ok(Revision { version, stamp, body, history })
    }
    fn key(&mut self) -> Decoded<Key> {
        Key::from_bytes(Bytes::copy_from_slice(self.blob()?)).ok_or(CodecError("a key is not a key"))
    }
    fn record(&mut self) -> Decoded<LogRecord> {
        let tag = self.byte()?;
        match tag {
            1..=4 => {
                let key = self.key()?;
                let ballot = self.ballot()?;
                let change = match tag {
                    1 => Change::Promise { ballot },
                    2 => Change::Accept { ballot, revision: Arc::new(self.revision()?) },
                    _ => {
                        let feed_sequence = self.number()?;
                        let revision = if tag == 4 { Some(Arc::new(self.revision()?)) } else { None };
                        Change::Chosen { ballot, feed_sequence, revision }
                    }
                };
                Ok(LogRecord::Register { key, change })
            }
            5 => Ok(LogRecord::Cursor { source: NodeId(self.fixed()?), feed: self.fixed()?, sequence: self.number()? }),
            6 => {
                let name = String::from_utf8(self.blob()?.to_vec()).map_err(|_| CodecError("a name is not UTF-8"))?;
                Ok(LogRecord::Meta { name, value: Bytes::copy_from_slice(self.blob()?) })
            }
            7 => Ok(LogRecord::Register { key: self.key()?, change: Change::Collect { through: self.number()? } }),
            _ => Err(CodecError("a kind of record is not known")),
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
pub(super) mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_row_of_which_one_bit_is_wrong_or_that_stands_under_another_key_is_not_unsealed() {
        let sealed = seal(b"key", b"{\"amount\":12}");
        assert_eq!(unseal(b"key", &sealed).unwrap(), b"{\"amount\":12}");
        assert!(unseal(b"kez", &sealed).is_err());
        for bit in 0..sealed.len() * 8 {
            let mut wrong = sealed.clone();
            wrong[bit / 8] ^= 1 << (bit % 8);
            assert!(unseal(b"key", &wrong).is_err(), "bit {bit}");
        }
    }

    pub(in super::super) fn ballots() -> impl Strategy<Value = Ballot> {
        (any::<bool>(), any::<u64>(), 0..3_u64, 0..3_u32).prop_map(|(ordinary, time, node, incarnation)| {
            let class = if ordinary { BallotClass::Ordinary } else { BallotClass::Creation };
            Ballot { class, time, node: NodeId(node.wrapping_mul(0x9e37_79b9_7f4a_7c15)), incarnation }
        })
    }

    fn revisions() -> impl Strategy<Value = Arc<Revision>> {
        let effect = prop_oneof![Just(Effect::Created), Just(Effect::Replaced), Just(Effect::Deleted)];
        let request = proptest::option::of((any::<u128>().prop_map(RequestId), any::<u64>()));
        let entry = (ballots(), any::<u64>(), effect, request)
            .prop_map(|(stamp, version, effect, request)| HistoryEntry { stamp, version, effect, request });
        let body = proptest::option::of(proptest::collection::vec(any::<u8>(), 0..200).prop_map(Bytes::from));
        (any::<u64>(), ballots(), body, proptest::collection::vec(entry, 0..=16))
            .prop_map(|(version, stamp, body, history)| Arc::new(Revision { version, stamp, body, history }))
    }

    fn registers() -> impl Strategy<Value = Register> {
        let held = || proptest::option::of((ballots(), revisions()));
        (ballots(), held(), held(), any::<u64>(), any::<bool>()).prop_map(
            |(promised, accepted, chosen, feed_sequence, same)| {
                let held = |(ballot, revision)| Held { ballot, revision };
                let accepted = accepted.map(held);
                let chosen = if same { accepted.clone() } else { chosen.map(held) };
                Register { promised, accepted, chosen, feed_sequence }
            },
        )
    }

    fn records() -> impl Strategy<Value = LogRecord> {
        let change = prop_oneof![
            ballots().prop_map(|ballot| Change::Promise { ballot }),
            (ballots(), revisions()).prop_map(|(ballot, revision)| Change::Accept { ballot, revision }),
            (ballots(), any::<u64>(), proptest::option::of(revisions()))
                .prop_map(|(ballot, feed_sequence, revision)| Change::Chosen { ballot, feed_sequence, revision }),
        ];
        prop_oneof![
            ("[a-z]{1,9}", "[a-zä]{0,9}", change)
                .prop_map(|(collection, key, change)| LogRecord::Register { key: Key::of(&collection, &key), change }),
            (any::<u64>(), any::<u64>(), any::<u64>()).prop_map(|(source, feed, sequence)| LogRecord::Cursor {
                source: NodeId(source),
                feed,
                sequence
            }),
            ("[a-z]{0,9}", proptest::collection::vec(any::<u8>(), 0..50))
                .prop_map(|(name, value)| LogRecord::Meta { name, value: Bytes::from(value) }),
        ]
    }

    fn decode_all(bytes: &[u8]) -> Decoded<Vec<LogRecord>> {
        let mut all = Vec::new();
        decode_records::<CodecError>(bytes, |record| {
            all.push(record);
            Ok(())
        })?;
        Ok(all)
    }

    proptest! {
        #[test]
        fn a_register_reads_back_as_it_was(register in registers()) {
            prop_assert_eq!(decode_register(&encode_register(&register)).unwrap(), register);
        }

        #[test]
        fn records_read_back_as_they_were(all in proptest::collection::vec(records(), 0..6)) {
            let mut writer = RecordsWriter::default();
            all.iter().for_each(|record| writer.push(record));
            prop_assert_eq!(decode_all(&writer.finish()).unwrap(), all);
        }

        #[test]
        fn garbage_is_an_error_or_a_value_and_never_a_panic(mut bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = decode_register(&bytes);
            let _ = decode_all(&bytes);
            if let Some(first) = bytes.first_mut() {
                *first = VERSION;
            }
            let _ = decode_register(&bytes);
            let _ = decode_all(&bytes);
        }

        #[test]
        fn a_flipped_bit_or_a_cut_never_panics(register in registers(), at in any::<prop::sample::Index>(), bit in 0..8_u8) {
            let mut bytes = encode_register(&register);
            let sealed = seal(b"key", &bytes);
            let at = at.index(bytes.len());
            let _ = decode_register(&bytes[..at]);
            bytes[at] ^= 1_u8 << bit;
            let _ = decode_register(&bytes);
            let mut flipped = sealed.clone();
            flipped[at] ^= 1_u8 << bit;
            prop_assert!(unseal(b"key", &flipped).is_err());
            prop_assert!(unseal(b"kez", &sealed).is_err());
            prop_assert!(unseal(b"key", &sealed).is_ok());
        }
    }

    #[test]
    fn a_revision_that_is_accepted_and_chosen_is_stored_once_and_its_past_is_small() {
        let node = NodeId(0xabcd_ef01_2345_6789);
        let ballot = |n: u64| Ballot::ordinary((1_780_000_000_000 + n * 40) << 16, node, 3);
        let entry = |n| HistoryEntry { stamp: ballot(n), version: n, effect: Effect::Replaced, request: None };
        let revision = Arc::new(Revision {
            version: 16,
            stamp: ballot(16),
            body: Some(Bytes::from(vec![b'x'; 300])),
            history: (1..=16).map(entry).collect(),
        });
        let held = Held { ballot: ballot(16), revision };
        let register = Register {
            promised: ballot(16).successor(),
            accepted: Some(held.clone()),
            chosen: Some(held),
            feed_sequence: 9,
        };
        let bytes = encode_register(&register).len();
        assert!(bytes < 480, "{bytes}");
        let back = decode_register(&encode_register(&register)).unwrap();
        assert!(Arc::ptr_eq(&back.accepted.unwrap().revision, &back.chosen.unwrap().revision));
    }
}
