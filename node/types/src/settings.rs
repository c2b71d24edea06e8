//! What a user can choose for a database, in OrientDB's words.

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::fmt;

/// How many voters must have a write on disk before it is acknowledged. Never below a majority (G1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum WriteQuorum {
    /// More than half of the declared voters.
    #[default]
    Majority,
    /// Every declared voter.
    All,
    /// This many voters; must be at least a majority of them.
    Count(u32),
}

/// How many voters a plain read asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ReadQuorum {
    /// `1`: the local store answers.
    #[default]
    Local,
    /// `majority`: every read is linearizable unless it asks for `consistency=local`.
    Majority,
}

/// A quorum that cannot be taken, with the reason.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum QuorumError {
    /// Not a word or number that this setting knows.
    #[error("{setting} {value:?} is not known; use {choices}")]
    Unknown {
        /// `writeQuorum` or `readQuorum`.
        setting: &'static str,
        /// The refused value.
        value: String,
        /// The values that exist.
        choices: &'static str,
    },
    /// Fewer than a majority: an acknowledged write could be lost.
    #[error(
        "writeQuorum {value} is below a majority of {nodes} nodes ({majority}), so an acknowledged write could be lost; use majority, all, or a number from {majority} to {nodes}"
    )]
    BelowMajority {
        /// The refused number.
        value: u32,
        /// Nodes that the database would have.
        nodes: u32,
        /// The smallest number that is safe.
        majority: u32,
    },
    /// More than there are nodes: no write could ever succeed.
    #[error(
        "writeQuorum {value} is more than the {nodes} nodes, so no write could succeed; use majority, all, or a number from {majority} to {nodes}"
    )]
    AboveNodes {
        /// The refused number.
        value: u32,
        /// Nodes that the database would have.
        nodes: u32,
        /// The smallest number that is safe.
        majority: u32,
    },
}

/// More than half of `nodes`.
pub fn majority(nodes: u32) -> u32 {
    nodes / 2 + 1
}

impl WriteQuorum {
    /// Reads `majority`, `all` or a number.
    pub fn parse(text: &str) -> Result<Self, QuorumError> {
        match text {
            "majority" => Ok(Self::Majority),
            "all" => Ok(Self::All),
            _ => match text.parse::<u32>() {
                Ok(count) if count > 0 => Ok(Self::Count(count)),
                _ => Err(QuorumError::Unknown {
                    setting: "writeQuorum",
                    value: text.chars().take(80).collect(),
                    choices: "majority, all, or a number that is at least a majority",
                }),
            },
        }
    }

    /// Refuses a number that is unsafe or impossible with `nodes` voters.
    pub fn check(self, nodes: u32) -> Result<(), QuorumError> {
        let majority = majority(nodes);
        match self {
            Self::Count(value) if value < majority => Err(QuorumError::BelowMajority { value, nodes, majority }),
            Self::Count(value) if value > nodes => Err(QuorumError::AboveNodes { value, nodes, majority }),
            _ => Ok(()),
        }
    }

    /// Accepts needed among `voters` voters: never below a majority, never above all, whatever the
    /// setting says, so that a membership change cannot make a number unsafe or unreachable.
    pub fn accepts_needed(self, voters: u32) -> u32 {
        match self {
            Self::Majority => majority(voters),
            Self::All => voters,
            Self::Count(count) => count.clamp(majority(voters), voters.max(1)),
        }
    }
}

impl fmt::Display for WriteQuorum {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Majority => f.write_str("majority"),
            Self::All => f.write_str("all"),
            Self::Count(count) => write!(f, "{count}"),
        }
    }
}

impl ReadQuorum {
    /// Reads `1` or `majority`.
    pub fn parse(text: &str) -> Result<Self, QuorumError> {
        match text {
            "1" => Ok(Self::Local),
            "majority" => Ok(Self::Majority),
            _ => Err(QuorumError::Unknown {
                setting: "readQuorum",
                value: text.chars().take(80).collect(),
                choices: "1 (local reads) or majority (linearizable reads)",
            }),
        }
    }
}

impl fmt::Display for ReadQuorum {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Local => "1",
            Self::Majority => "majority",
        })
    }
}

/// A quorum as users write it: a number or a word.
#[derive(Deserialize)]
#[serde(untagged)]
enum NumberOrWord {
    Number(i64),
    Word(String),
}

impl NumberOrWord {
    fn read<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
        Ok(match Self::deserialize(deserializer)? {
            Self::Number(number) => number.to_string(),
            Self::Word(word) => word,
        })
    }
}

impl<'de> Deserialize<'de> for WriteQuorum {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::parse(&NumberOrWord::read(deserializer)?).map_err(serde::de::Error::custom)
    }
}
impl<'de> Deserialize<'de> for ReadQuorum {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::parse(&NumberOrWord::read(deserializer)?).map_err(serde::de::Error::custom)
    }
}
impl Serialize for WriteQuorum {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Count(count) => serializer.serialize_u32(*count),
            word => serializer.collect_str(word),
        }
    }
}
impl Serialize for ReadQuorum {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Local => serializer.serialize_u32(1),
            Self::Majority => serializer.serialize_str("majority"),
        }
    }
}

/// The settings of one database.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct DatabaseSettings {
    /// Copy the database to nodes that lack it, without being asked.
    pub auto_deploy: bool,
    /// Keep an unreachable node in the configuration and let it drain what it missed when it returns.
    /// With `false` it is removed after the grace period and deployed anew on return.
    pub hot_alignment: bool,
    /// Voters that must have a write on disk: `majority`, `all`, or a number that is at least a majority.
    #[schema(value_type = String, example = "majority")]
    pub write_quorum: WriteQuorum,
    /// `1` for local reads, `majority` for linearizable reads by default.
    #[schema(value_type = String, example = "1")]
    pub read_quorum: ReadQuorum,
    /// How long a majority must have missed a node before `hotAlignment: false` removes it, in seconds.
    pub unreachable_grace_period_seconds: u32,
}

impl Default for DatabaseSettings {
    fn default() -> Self {
        Self {
            auto_deploy: true,
            hot_alignment: true,
            write_quorum: WriteQuorum::Majority,
            read_quorum: ReadQuorum::Local,
            unreachable_grace_period_seconds: 60,
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use super::*;

    #[test]
    fn a_write_quorum_below_a_majority_is_refused_with_the_numbers() {
        let error = WriteQuorum::Count(1).check(3).expect_err("unsafe");
        assert!(error.to_string().contains("writeQuorum 1 is below a majority of 3 nodes (2)"), "{error}");
        assert!(WriteQuorum::Count(4).check(3).is_err());
        assert!(WriteQuorum::Count(2).check(3).is_ok());
    }

    #[test]
    fn accepts_needed_never_falls_below_a_majority() {
        for voters in 1..=9 {
            for quorum in [WriteQuorum::Majority, WriteQuorum::All, WriteQuorum::Count(1), WriteQuorum::Count(99)] {
                let needed = quorum.accepts_needed(voters);
                assert!(needed * 2 > voters && needed <= voters, "{quorum} of {voters}: {needed}");
            }
        }
    }

    #[test]
    fn quorums_are_read_from_numbers_and_words() {
        let read = |text: &str| serde_json::from_str::<WriteQuorum>(text);
        assert_eq!(read("2").unwrap(), WriteQuorum::Count(2));
        assert_eq!(read("\"2\"").unwrap(), WriteQuorum::Count(2));
        assert_eq!(read("\"all\"").unwrap(), WriteQuorum::All);
        assert!(read("0").is_err() && read("-1").is_err() && read("\"most\"").is_err());
    }
}
