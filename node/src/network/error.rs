//! What can go wrong with the network, in words for whoever has to put it right.

use super::hello::Refusal;
use super::wire::WireError;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

/// Why the network did not start, or why a node could not be asked.
#[derive(Debug, thiserror::Error)]
pub enum NetworkError {
    /// Another process has the port.
    #[error(
        "cannot listen for other nodes on {address}: the port is taken; stop the process that has it, or choose \
         another address with --listen-peers"
    )]
    PortTaken {
        /// The wanted address.
        address: SocketAddr,
    },
    /// The address cannot be listened on for another reason.
    #[error("cannot listen for other nodes on {address}: {source}; check --listen-peers")]
    Listen {
        /// The wanted address.
        address: SocketAddr,
        /// What the system says.
        source: io::Error,
    },
    /// The system gives no randomness.
    #[error("cannot draw a random number: {0}")]
    Randomness(getrandom::Error),
    /// No connection could be made, or it broke.
    #[error("cannot talk to {address}: {source}")]
    Connection {
        /// Address as it was given.
        address: String,
        /// What happened.
        source: ConnectionError,
    },
    /// The other node refused, or its hello was refused here.
    #[error("{address} and this node do not go together: {refusal}")]
    Refused {
        /// Address as it was given.
        address: String,
        /// Why.
        refusal: Refusal,
    },
    /// No answer in time.
    #[error("{address} did not answer within {after:?}")]
    Timeout {
        /// Address as it was given.
        address: String,
        /// How long was waited.
        after: Duration,
    },
}

impl NetworkError {
    pub(super) fn about(address: &str, error: ConnectionError) -> Self {
        let address = address.to_owned();
        match error {
            ConnectionError::Refused(refusal) | ConnectionError::TurnedAway(refusal) => {
                Self::Refused { address, refusal }
            }
            source => Self::Connection { address, source },
        }
    }
}

/// Why a connection ended or never began.
#[derive(Debug, thiserror::Error)]
pub enum ConnectionError {
    /// The system's word.
    #[error("{0}")]
    Io(io::Error),
    /// The handshake failed, in words about the other side.
    #[error("{0}")]
    Tls(String),
    /// The address has no host or no port, or its name is not known.
    #[error("name {host:?} leads to no address")]
    NoAddress {
        /// The name.
        host: String,
    },
    /// It took too long.
    #[error("{what} took longer than {after:?}")]
    TimedOut {
        /// What was waited for.
        what: &'static str,
        /// How long.
        after: Duration,
    },
    /// The bytes are not frames.
    #[error("{0}")]
    Frame(#[from] FrameError),
    /// A frame's content is not what belongs there.
    #[error("unreadable frame: {0}")]
    Wire(#[from] WireError),
    /// This side refused the other.
    #[error("{0}")]
    Refused(Refusal),
    /// The other side refused this one.
    #[error("{0}")]
    TurnedAway(Refusal),
    /// The other side closed the connection.
    #[error("the other side closed the connection")]
    Closed,
    /// The other side did something that has no place in the conversation.
    #[error("{0}")]
    Unexpected(&'static str),
}

impl From<io::Error> for ConnectionError {
    fn from(error: io::Error) -> Self {
        crate::tls::words(&error).map_or(Self::Io(error), Self::Tls)
    }
}

/// Why bytes are not a frame.
#[derive(Debug, thiserror::Error)]
pub enum FrameError {
    /// Longer than any frame may be; usually somebody who speaks another protocol.
    #[error(
        "frame of {bytes} bytes is longer than {max} bytes: the other side speaks another protocol (TLS, perhaps: --tls-directory)"
    )]
    TooLong {
        /// Claimed length.
        bytes: usize,
        /// The bound.
        max: usize,
    },
    /// The content changed on its way.
    #[error("checksum of a frame of {bytes} bytes does not match: {found:08x} instead of {expected:08x}")]
    Checksum {
        /// Length of the payload.
        bytes: usize,
        /// What the header says.
        expected: u32,
        /// What the payload gives.
        found: u32,
    },
    /// The connection ended in the middle of a frame.
    #[error("connection ended inside a frame")]
    Truncated,
    /// The system's word.
    #[error("{0}")]
    Io(#[from] io::Error),
}
