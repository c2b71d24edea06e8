//! What can be wrong with bytes that should have been a message.

/// Why a received message is not readable.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WireError {
    /// The bytes are not a protobuf message of the expected shape, or a number in them is none.
    #[error("bytes are not a message: {0}")]
    Malformed(#[from] prost::DecodeError),
    /// A part of a frame claims to be longer than the frame.
    #[error("a message of {claimed} bytes does not fit the {left} bytes left in its frame")]
    Overlong {
        /// Length that was claimed.
        claimed: u64,
        /// Bytes that were there.
        left: usize,
    },
    /// A field without which the message means nothing.
    #[error("{field} is missing")]
    Missing {
        /// Name of the field.
        field: &'static str,
    },
    /// A value from a closed set that is not in it.
    #[error("{field} {value} is unknown")]
    Unknown {
        /// Name of the field.
        field: &'static str,
        /// The value.
        value: u32,
    },
    /// A message that only a newer version knows.
    #[error("message is of a kind that this version does not know")]
    UnknownMessage,
    /// A register key that breaks its form.
    #[error("key {text:?} is not `collection NUL key` in UTF-8")]
    Key {
        /// The first characters of the key.
        text: String,
    },
    /// An identity that is not a UUID.
    #[error("{field} has {found} bytes instead of 16")]
    IdLength {
        /// Name of the field.
        field: &'static str,
        /// Length that was found.
        found: usize,
    },
    /// A number beyond the bound of its field.
    #[error("{field} {value} is too large")]
    TooLarge {
        /// Name of the field.
        field: &'static str,
        /// The value.
        value: u64,
    },
    /// A field in two forms, of which a message has one.
    #[error("{field} is there in two forms")]
    Twice {
        /// Name of the field.
        field: &'static str,
    },
    /// A list longer than any node sends.
    #[error("{field} has more than {max} entries")]
    TooMany {
        /// Name of the field.
        field: &'static str,
        /// The bound.
        max: usize,
    },
}
