//! The key of a register: collection and document key in one ordered byte string.

use bytes::Bytes;
use coequal_types::{CollectionName, DocumentKey};
use std::fmt;

/// `collection NUL key`, so that a collection's documents stand together in key order.
/// Collections of users begin with a letter; the node's own begin with `_`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key(Bytes);

/// The collection that lists a database's collections, each as a document.
pub const COLLECTIONS: &str = "_collections";

impl Key {
    /// Key of a user's document.
    pub fn document(collection: &CollectionName, key: &DocumentKey) -> Self {
        Self::of(collection.as_str(), key.as_str())
    }

    /// Key from its two parts, also for the node's own collections.
    pub fn of(collection: &str, key: &str) -> Self {
        let mut bytes = Vec::with_capacity(collection.len() + 1 + key.len());
        bytes.extend_from_slice(collection.as_bytes());
        bytes.push(0);
        bytes.extend_from_slice(key.as_bytes());
        Self(Bytes::from(bytes))
    }

    /// Key from stored or received bytes; `None` unless they are `collection NUL key` in UTF-8.
    pub fn from_bytes(bytes: Bytes) -> Option<Self> {
        let text = std::str::from_utf8(&bytes).ok()?;
        let (collection, key) = text.split_once('\0')?;
        (!collection.is_empty() && !key.contains('\0')).then_some(())?;
        Some(Self(bytes))
    }

    /// The bytes, as stored and sent.
    pub fn as_bytes(&self) -> &Bytes {
        &self.0
    }

    /// Name of the collection.
    pub fn collection(&self) -> &str {
        self.parts().0
    }

    /// Key of the document inside its collection.
    pub fn document_key(&self) -> &str {
        self.parts().1
    }

    /// Whether a node may make up this key: it looks like a UUID of version 7 (RFC 9562), which is what nodes make up. Clients
    /// may use such keys as well; only a key of another look was certainly made up by none.
    pub fn may_be_made_up(&self) -> bool {
        let key = self.document_key().as_bytes();
        key.len() == 36 && [8, 13, 18, 23].iter().all(|at| key[*at] == b'-') && key[14] == b'7'
    }

    fn parts(&self) -> (&str, &str) {
        // Both constructors took UTF-8 with one NUL, so neither fallback is ever used.
        std::str::from_utf8(&self.0).ok().and_then(|t| t.split_once('\0')).unwrap_or(("", ""))
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (collection, key) = self.parts();
        write!(f, "{collection}/{key}")
    }
}
