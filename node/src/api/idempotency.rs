//! Names for writes, so that an exact retry finds the first result.
//!
//! A write without an `Idempotency-Key` gets one from this node: if its outcome cannot be known in time,
//! the answer names it, and the client can ask again with it (G7).

use super::headers::single;
use super::problem::RequestError;
use coequal_protocol::RequestId;
use coequal_protocol::message::{Condition, OperationKind};
use coequal_types::{CollectionName, DatabaseId};
use http::{HeaderMap, HeaderName};
use xxhash_rust::xxh3::{Xxh3, xxh3_128};

/// Header that names a write.
pub const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");
/// Longest name, in bytes.
pub const KEY_BYTES_MAX: usize = 255;

/// The name of a write, and whether the client chose it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WriteName {
    /// The text.
    pub text: String,
    /// False when this node made it up.
    pub chosen: bool,
}

impl WriteName {
    /// From the request, or a new one.
    pub fn of(headers: &HeaderMap) -> Result<Self, RequestError> {
        match single(headers, &IDEMPOTENCY_KEY)? {
            None => Ok(Self { text: uuid::Uuid::new_v4().simple().to_string(), chosen: false }),
            Some(text) => Self::chosen(text).map_err(|fault| {
                RequestError::MalformedHeader(format!(
                    "Idempotency-Key {fault}; it is 1 to 255 visible ASCII characters"
                ))
            }),
        }
    }

    /// A name that the client chose.
    pub fn chosen(text: &str) -> Result<Self, String> {
        if text.is_empty() || text.len() > KEY_BYTES_MAX {
            return Err(format!("has {} bytes", text.len()));
        }
        match text.chars().find(|c| !c.is_ascii_graphic()) {
            Some(odd) => Err(format!("contains {odd:?}")),
            None => Ok(Self { text: text.to_owned(), chosen: true }),
        }
    }

    /// The name of one line of a batch that has this name.
    pub fn line(&self, number: u64) -> Self {
        Self { text: format!("{}/{number}", self.text), chosen: self.chosen }
    }

    /// The id that documents remember.
    pub fn request_id(&self, database: DatabaseId) -> RequestId {
        let mut bytes = Vec::with_capacity(16 + self.text.len());
        bytes.extend_from_slice(database.as_bytes());
        bytes.extend_from_slice(self.text.as_bytes());
        RequestId(xxh3_128(&bytes))
    }

    /// The document key of a create whose name the client chose: a retry must meet the same document,
    /// so the key comes from the name (a UUID of version 8, RFC 9562, section 5.8).
    pub fn document_key(&self, database: DatabaseId, collection: &CollectionName) -> String {
        let mut bytes = Vec::with_capacity(80 + self.text.len());
        bytes.extend_from_slice(database.as_bytes());
        bytes.extend_from_slice(collection.as_str().as_bytes());
        bytes.push(0);
        bytes.extend_from_slice(self.text.as_bytes());
        uuid::Builder::from_custom_bytes(xxh3_128(&bytes).to_be_bytes()).into_uuid().to_string()
    }
}

/// What a request asked for, in 64 bits: the same name with another request is refused.
pub fn fingerprint(key: &[u8], kind: &OperationKind, condition: &Condition) -> u64 {
    let mut hash = Xxh3::new();
    let (tag, body): (u8, &[u8]) = match kind {
        OperationKind::Put(body) => (1, body),
        OperationKind::Create(body) => (2, body),
        OperationKind::Patch { patch, .. } => (3, patch),
        OperationKind::Delete => (4, b""),
        OperationKind::Settle => (5, b""),
    };
    let condition = match condition {
        Condition::Any => "any".to_owned(),
        Condition::Absent => "absent".to_owned(),
        Condition::Present => "present".to_owned(),
        Condition::Stamp(stamp) => format!("stamp {stamp}"),
        Condition::Revision { version, stamp } => format!("revision {version} {stamp}"),
        Condition::Version(version) => format!("version {version}"),
    };
    hash.update(&[tag]);
    for part in [key, condition.as_bytes(), body] {
        hash.update(&(part.len() as u64).to_be_bytes());
        hash.update(part);
    }
    hash.digest()
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use super::*;
    use bytes::Bytes;

    fn name(text: &str) -> Result<WriteName, RequestError> {
        WriteName::of(&HeaderMap::from_iter([(IDEMPOTENCY_KEY, text.parse().unwrap())]))
    }

    #[test]
    fn a_name_is_1_to_255_visible_characters() {
        assert!(name("a").is_ok() && name(&"x".repeat(255)).is_ok());
        for bad in ["", "a b", "a\tb", &"x".repeat(256)] {
            assert!(matches!(name(bad), Err(RequestError::MalformedHeader(_))), "{bad}");
        }
    }

    #[test]
    fn a_write_without_a_name_gets_a_fresh_one() {
        let (one, two) = (WriteName::of(&HeaderMap::new()).unwrap(), WriteName::of(&HeaderMap::new()).unwrap());
        assert!(one.text != two.text && !one.chosen && WriteName::chosen(&one.text).is_ok());
    }

    #[test]
    fn ids_differ_by_database_name_and_line() {
        let (one, two) = (DatabaseId::from_u128(1), DatabaseId::from_u128(2));
        let batch = name("k").unwrap();
        let ids = [
            batch.request_id(one),
            batch.request_id(two),
            batch.line(1).request_id(one),
            batch.line(2).request_id(one),
        ];
        for (at, id) in ids.iter().enumerate() {
            assert!(!ids[..at].contains(id));
        }
        assert_eq!(name("k").unwrap().request_id(one), ids[0]);
    }

    #[test]
    fn the_same_name_makes_the_same_document_key() {
        let (database, collection) = (DatabaseId::from_u128(1), "c".parse().unwrap());
        let key = name("k").unwrap().document_key(database, &collection);
        assert_eq!(key, name("k").unwrap().document_key(database, &collection));
        assert_ne!(key, name("l").unwrap().document_key(database, &collection));
        assert_eq!(uuid::Uuid::parse_str(&key).unwrap().get_version_num(), 8);
    }

    #[test]
    fn the_fingerprint_tells_requests_apart() {
        let body = Bytes::from_static(b"{}");
        let put = OperationKind::Put(body.clone());
        let prints = [
            fingerprint(b"k", &put, &Condition::Any),
            fingerprint(b"l", &put, &Condition::Any),
            fingerprint(b"k", &OperationKind::Create(body), &Condition::Any),
            fingerprint(b"k", &put, &Condition::Present),
            fingerprint(b"k", &put, &Condition::Version(1)),
            fingerprint(b"k", &OperationKind::Put(Bytes::from_static(b"{\"a\":1}")), &Condition::Any),
            fingerprint(b"k", &OperationKind::Delete, &Condition::Any),
        ];
        for (at, print) in prints.iter().enumerate() {
            assert!(!prints[..at].contains(print), "{at}");
        }
    }
}
