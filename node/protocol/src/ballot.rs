//! Ballots: totally ordered, unique, never reused (I1).

use crate::faults::{Fault, broken};
use coequal_types::{Incarnation, NodeId};
use std::fmt;
use std::str::FromStr;

/// How strong a ballot is whatever its time says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub enum BallotClass {
    /// For the first write of a key that the node made up itself: below every ordinary ballot, because
    /// somebody may have guessed the key and written it before (replication contract, one-round write b).
    #[default]
    Creation,
    /// Every other ballot.
    Ordinary,
}

/// (class, hybrid logical clock time, node, incarnation), compared in that order.
///
/// The incarnation is durably new at each start of a node and the clock never goes back within one, so a
/// ballot is never used twice (I1; D. Rystsov, CASPaxos, arXiv 1802.07000, section 2.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Ballot {
    /// Creation or ordinary.
    pub class: BallotClass,
    /// Hybrid logical clock: Unix milliseconds in the upper 48 bits, a counter in the lower 16.
    pub time: u64,
    /// The node that made it.
    pub node: NodeId,
    /// The start of that node in which it was made.
    pub incarnation: Incarnation,
}

impl Ballot {
    /// Below every real ballot: nothing was promised or accepted.
    pub const NONE: Self = Self { class: BallotClass::Creation, time: 0, node: NodeId(0), incarnation: 0 };

    /// An ordinary ballot.
    pub fn ordinary(time: u64, node: NodeId, incarnation: Incarnation) -> Self {
        Self { class: BallotClass::Ordinary, time, node, incarnation }
    }

    /// A ballot for the creation of a key that `node` generated.
    pub fn creation(time: u64, node: NodeId, incarnation: Incarnation) -> Self {
        let ordinary = broken(Fault::CreationIsOrdinary);
        let class = if ordinary { BallotClass::Ordinary } else { BallotClass::Creation };
        Self { class, time, node, incarnation }
    }

    /// The next ballot of the same proposer: accepting a ballot promises this one (one-round write a).
    pub fn successor(self) -> Self {
        Self { time: self.time + 1, ..self }
    }

    /// Whether this is [`Ballot::NONE`].
    pub fn is_none(self) -> bool {
        self == Self::NONE
    }
}

/// Text of a stamp that is not a ballot.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("stamp {0:?} is not readable; send back a stamp as it came")]
pub struct StampError(String);

impl fmt::Display for Ballot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let class = match self.class {
            BallotClass::Creation => 'c',
            BallotClass::Ordinary => 'o',
        };
        write!(f, "{class}{:015x}-{}-{:x}", self.time, self.node, self.incarnation)
    }
}

impl FromStr for Ballot {
    type Err = StampError;
    fn from_str(text: &str) -> Result<Self, StampError> {
        let wrong = || StampError(text.chars().take(80).collect());
        let (class, rest) = match text.split_at_checked(1).ok_or_else(wrong)? {
            ("c", rest) => (BallotClass::Creation, rest),
            ("o", rest) => (BallotClass::Ordinary, rest),
            _ => return Err(wrong()),
        };
        let mut parts = rest.split('-');
        let (Some(time), Some(node), Some(incarnation), None) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(wrong());
        };
        let plain_hex = |t: &str| !t.is_empty() && t.bytes().all(|b| b.is_ascii_hexdigit() && !b.is_ascii_uppercase());
        if !plain_hex(time) || !plain_hex(incarnation) {
            return Err(wrong());
        }
        Ok(Self {
            class,
            time: u64::from_str_radix(time, 16).map_err(|_| wrong())?,
            node: node.parse().map_err(|_| wrong())?,
            incarnation: u32::from_str_radix(incarnation, 16).map_err(|_| wrong())?,
        })
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_creation_ballot_is_below_every_ordinary_one_whatever_the_clocks_say() {
        let late_creation = Ballot::creation(u64::MAX, NodeId(u64::MAX), 9);
        let early_ordinary = Ballot::ordinary(0, NodeId(1), 1);
        assert!(late_creation < early_ordinary);
        assert!(Ballot::NONE < Ballot::creation(1, NodeId(1), 1));
    }

    #[test]
    fn a_stamp_reads_back_as_the_ballot_it_was() {
        let ballot = Ballot::ordinary(0x19a_0000_0001, NodeId(0xabc), 7);
        assert_eq!(ballot.to_string().parse::<Ballot>().unwrap(), ballot);
        for bad in [
            "",
            "o",
            "x1-0-1",
            "o1-2",
            "o1-0000000000000abc-1-2",
            "oZ-0000000000000abc-1",
            "ö",
            "o+1-0000000000000abc-1",
        ] {
            assert!(bad.parse::<Ballot>().is_err(), "{bad}");
        }
    }
}
