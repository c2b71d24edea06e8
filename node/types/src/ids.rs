//! Identities. None of them can be guessed from a name, an address or an ordinal.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

/// Identity of a node's data directory: made once when the directory is initialised, never reused.
/// A node with a new disk is a new node (I7). Written as 16 hexadecimal digits. Zero is nobody.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize, utoipa::ToSchema,
)]
#[serde(try_from = "String", into = "String")]
#[schema(value_type = String)]
pub struct NodeId(pub u64);

/// Which start of a node this is: durably one more at each start (I1).
pub type Incarnation = u32;

/// An identity that is not 16 hexadecimal digits.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("node id {0:?} is not 16 hexadecimal digits")]
pub struct NodeIdError(String);

impl fmt::Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}
impl FromStr for NodeId {
    type Err = NodeIdError;
    fn from_str(text: &str) -> Result<Self, NodeIdError> {
        let wrong = || NodeIdError(text.chars().take(80).collect());
        if text.len() != 16 || !text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')) {
            return Err(wrong());
        }
        u64::from_str_radix(text, 16).map(NodeId).map_err(|_| wrong())
    }
}
impl TryFrom<String> for NodeId {
    type Error = NodeIdError;
    fn try_from(text: String) -> Result<Self, NodeIdError> {
        text.parse()
    }
}
impl From<NodeId> for String {
    fn from(id: NodeId) -> String {
        id.to_string()
    }
}

/// Identity of a database: two databases of one name are the same only if this is equal (G8).
pub type DatabaseId = uuid::Uuid;
/// Identity of a cluster, made when it is initialised.
pub type ClusterId = uuid::Uuid;
