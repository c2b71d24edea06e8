//! Validated names. A value of one of these types always keeps its rule.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

/// A name that breaks its rule; the message names the value, the fault and the rule.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{what} {value:?} {fault}; {rule}")]
pub struct NameError {
    /// What the name is for: "database name", "document key" and so on.
    pub what: &'static str,
    /// The refused value, cut to 80 characters.
    pub value: String,
    /// What is wrong with it.
    pub fault: String,
    /// The rule it should follow.
    pub rule: &'static str,
}

impl NameError {
    fn new(what: &'static str, value: &str, fault: impl Into<String>, rule: &'static str) -> Self {
        let cut: String = value.chars().take(80).collect();
        Self { what, value: cut, fault: fault.into(), rule }
    }
}

/// Longest database, collection or node name, in bytes (a DNS label).
pub const NAME_BYTES_MAX: usize = 63;
/// Longest document key, in bytes of UTF-8.
pub const KEY_BYTES_MAX: usize = 512;

const NAME_RULE: &str = "a name is 1 to 63 characters of a-z, 0-9, '-' and '_' and begins with a letter";
const NODE_RULE: &str =
    "a node name is 1 to 63 characters of a-z, 0-9 and '-', and begins and ends with a letter or digit";
const KEY_RULE: &str = "a key is 1 to 512 bytes of UTF-8 without control characters";

fn check_name(what: &'static str, value: &str) -> Result<(), NameError> {
    let fault = match value.as_bytes() {
        [] => "is empty".to_owned(),
        bytes if bytes.len() > NAME_BYTES_MAX => format!("has {} bytes", bytes.len()),
        [first, ..] if !first.is_ascii_lowercase() => "does not begin with a letter of a-z".to_owned(),
        bytes => match bytes.iter().find(|b| !matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_')) {
            Some(_) => {
                let odd = value.chars().find(|c| !matches!(c, 'a'..='z' | '0'..='9' | '-' | '_'));
                format!("contains {:?}", odd.unwrap_or('?'))
            }
            None => return Ok(()),
        },
    };
    Err(NameError::new(what, value, fault, NAME_RULE))
}

macro_rules! name_type {
    ($(#[$doc:meta])* $name:ident, $what:literal, $check:expr) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, utoipa::ToSchema)]
        #[serde(try_from = "String", into = "String")]
        #[schema(value_type = String)]
        pub struct $name(String);

        impl $name {
            /// The name as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }
        impl FromStr for $name {
            type Err = NameError;
            fn from_str(value: &str) -> Result<Self, NameError> {
                let check: fn(&'static str, &str) -> Result<(), NameError> = $check;
                check($what, value)?;
                Ok(Self(value.to_owned()))
            }
        }
        impl TryFrom<String> for $name {
            type Error = NameError;
            fn try_from(value: String) -> Result<Self, NameError> {
                // Nodes name the system database to each other; users, whose names are parsed, cannot.
                if $what == "database name" && value == SYSTEM_DATABASE {
                    return Ok(Self(value));
                }
                value.parse()
            }
        }
        impl From<$name> for String {
            fn from(name: $name) -> String {
                name.0
            }
        }
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
        impl AsRef<str> for $name {
            fn as_ref(&self) -> &str {
                &self.0
            }
        }
    };
}

name_type!(
    /// Name of a database: `[a-z][a-z0-9_-]{0,62}`.
    DatabaseName, "database name", check_name
);
name_type!(
    /// Name of a collection: `[a-z][a-z0-9_-]{0,62}`.
    CollectionName, "collection name", check_name
);
name_type!(
    /// Name of a node (a DNS label, as Kubernetes gives to pods).
    NodeName, "node name", check_node_name
);
name_type!(
    /// Key of a document inside its collection: 1 to 512 bytes of UTF-8 without control characters.
    DocumentKey, "document key", check_key
);

/// Name of the database that holds the cluster's own documents. No user database can have it.
pub const SYSTEM_DATABASE: &str = "_system";

impl DatabaseName {
    /// The system database, whose name users cannot choose.
    pub fn system() -> Self {
        Self(SYSTEM_DATABASE.to_owned())
    }
    /// Whether this is the system database.
    pub fn is_system(&self) -> bool {
        self.0 == SYSTEM_DATABASE
    }
}

fn check_node_name(what: &'static str, value: &str) -> Result<(), NameError> {
    let bytes = value.as_bytes();
    let fault = if bytes.is_empty() {
        "is empty".to_owned()
    } else if bytes.len() > NAME_BYTES_MAX {
        format!("has {} bytes", bytes.len())
    } else if let Some(odd) = value.chars().find(|c| !matches!(c, 'a'..='z' | '0'..='9' | '-')) {
        format!("contains {odd:?}")
    } else if bytes.first() == Some(&b'-') || bytes.last() == Some(&b'-') {
        "begins or ends with '-'".to_owned()
    } else {
        return Ok(());
    };
    Err(NameError::new(what, value, fault, NODE_RULE))
}

fn check_key(what: &'static str, value: &str) -> Result<(), NameError> {
    let fault = if value.is_empty() {
        "is empty".to_owned()
    } else if value.len() > KEY_BYTES_MAX {
        format!("has {} bytes", value.len())
    } else if let Some(odd) = value.chars().find(|c| c.is_control()) {
        format!("contains the control character U+{:04X}", u32::from(odd))
    } else {
        return Ok(());
    };
    Err(NameError::new(what, value, fault, KEY_RULE))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use super::*;

    #[test]
    fn names_of_databases_follow_their_rule() {
        for good in ["a", "orders", "a-b_c9", &"x".repeat(63)] {
            assert!(good.parse::<DatabaseName>().is_ok(), "{good}");
        }
        for bad in ["", "Orders", "1a", "_system", "a b", "ä", "a/b", &"x".repeat(64)] {
            let error = bad.parse::<DatabaseName>().expect_err(bad);
            assert!(error.to_string().contains("begins with a letter"), "{error}");
        }
    }

    #[test]
    fn keys_take_any_text_without_control_characters() {
        for good in ["a", "Zürich", "日本/東京", " ", "..", &"k".repeat(512)] {
            assert!(good.parse::<DocumentKey>().is_ok(), "{good}");
        }
        for bad in ["", "a\nb", "a\u{0}", "\u{85}", &"k".repeat(513)] {
            assert!(bad.parse::<DocumentKey>().is_err(), "{bad}");
        }
    }
}
