//! Forced recovery: a majority of the voters is lost for good, and a person says so on a node that is left.
//!
//! ```text
//! epoch (n, k) ─► epoch (n + 1, 0): every survivor is needed ─► (all aligned) ─► epoch (n + 1, 1): a majority again
//! ```
//!
//! The upper half of an epoch counts forced recoveries, the lower half the changes since. So whatever the lost nodes had
//! agreed on before or agree on among themselves later, a survivor refuses it as an older epoch, and whoever hears of
//! the newer one finds itself excluded. In the first epoch a quorum is *every* survivor, because what had been chosen
//! may be on any single one of them; a majority is enough once all of them hold what each of them held.
//!
//! Nothing can bring back what was chosen on lost nodes alone: that is what the person has to accept.

use crate::membership::successor;
use crate::quorum::{NodeSet, is_read_quorum};
use coequal_types::{ClusterId, Configuration, DatabaseName, NodeId};
use std::collections::{BTreeMap, BTreeSet};

/// Bits of an epoch that count changes since the last forced recovery. More changes than that never happen: one a
/// millisecond would take 49 days of nothing else.
const CHANGE_BITS: u32 = 32;

/// A node has to be silent this long before it can be called lost: a moment's outage is none.
pub const SILENT_MS_MIN: u64 = 3_000;

/// How many forced recoveries an epoch has behind it.
pub fn recoveries(epoch: u64) -> u64 {
    epoch >> CHANGE_BITS
}

/// Whether this is the first epoch of a forced recovery, in which every voter is needed.
pub fn is_first(epoch: u64) -> bool {
    recoveries(epoch) > 0 && epoch.trailing_zeros() >= CHANGE_BITS
}

/// What a person asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ask {
    /// The cluster that is meant.
    pub cluster: ClusterId,
    /// All nodes that are lost for good.
    pub lost: BTreeSet<NodeId>,
    /// Whether the person accepts that what only these nodes held is lost with them.
    pub accept_data_loss: bool,
}

/// What is known of another node of the cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Contact {
    /// Whether it is reached.
    pub reachable: bool,
    /// For how long it has not been reached, in ms.
    pub silent_ms: u64,
    /// Epoch of its copy of the system database, by its own word.
    pub system_epoch: u64,
    /// How old that word is, in ms; `None` if there is none yet.
    pub word_age_ms: Option<u64>,
}

/// What the deciding node knows.
#[derive(Debug, Clone)]
pub struct Situation<'a> {
    /// The deciding node.
    pub me: NodeId,
    /// Its cluster.
    pub cluster: ClusterId,
    /// All other nodes that were not removed.
    pub others: BTreeMap<NodeId, Contact>,
    /// The system database's configuration, as its replica here has it.
    pub system: &'a Configuration,
    /// The newest known configurations of all other databases.
    pub databases: &'a [Configuration],
}

/// What to do about a request that is in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// It was done before.
    Done,
    /// The system database has lost its majority: this configuration is put in force here, by this node alone.
    Force(Configuration),
    /// It has not; some other database has. The system database itself agrees on this successor.
    Agree(Configuration),
}

/// Why a request is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// Another cluster is meant.
    #[error(
        "clusterId says {asked}, this node belongs to cluster {actual}; nothing was changed, ask the right cluster"
    )]
    OtherCluster {
        /// In the request.
        asked: ClusterId,
        /// Of this node.
        actual: ClusterId,
    },
    /// No node is named.
    #[error("lostNodes names nobody; name the id of every node that is lost for good (GET /v1/cluster lists them)")]
    NobodyNamed,
    /// The consequence is not accepted.
    #[error(
        "acceptDataLoss is not true; writes whose only copies were on the lost nodes cannot be brought back: say true to go on without them"
    )]
    NotAccepted,
    /// The node that was asked is named.
    #[error(
        "lostNodes names {0}, which is this very node; ask a node that survives, and name only those that are lost"
    )]
    NamesItself(NodeId),
    /// A name that nobody has.
    #[error("lostNodes names {0}, which is not in the cluster; GET /v1/cluster lists the nodes with their ids")]
    Unknown(NodeId),
    /// A named node is there.
    #[error(
        "lostNodes names {0}, which this node reaches; a node that answers is not lost: remove it with DELETE /v1/cluster/nodes/{0}"
    )]
    StillThere(NodeId),
    /// A named node was heard a moment ago.
    #[error(
        "node {node} has been silent for {silent_ms} ms only, and is called lost after {SILENT_MS_MIN} ms at the earliest; try again then"
    )]
    TooEarly {
        /// Which.
        node: NodeId,
        /// For how long.
        silent_ms: u64,
    },
    /// A silent node is not named.
    #[error(
        "node {0} is not reached and lostNodes does not name it; wait for it or bring it back, or name it too if it is lost for good"
    )]
    NotNamed(NodeId),
    /// No database has lost its majority.
    #[error(
        "a majority of the voters of every database is left, so nothing has to be forced; remove the lost nodes with DELETE /v1/cluster/nodes/{{node}}"
    )]
    MajorityIsThere,
    /// Another survivor knows a later configuration.
    #[error(
        "node {node} knows epoch {theirs} of the system database, this node {ours}; try again in a moment, or ask that node"
    )]
    Behind {
        /// Who.
        node: NodeId,
        /// Its epoch.
        theirs: u64,
        /// Ours.
        ours: u64,
    },
    /// A survivor's word on its epoch is older than the loss.
    #[error("node {0} has not said since the loss which epoch of the system database it knows; try again in a moment")]
    NotHeard(NodeId),
    /// This node has no say in the system database.
    #[error("this node does not vote in the system database, so its copy may lack anything; ask a node that does")]
    NoVoter,
    /// A step of membership of the system database is not finished.
    #[error("a change of the system database's voters is under way; try again in a moment")]
    ChangeUnderWay,
}

/// What becomes of one database.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// It has a majority without the lost nodes (or never had these); they are taken out step by step as others are.
    Kept,
    /// It gets this configuration.
    Forced(Box<Configuration>),
    /// No voter of it is left.
    NoCopy,
}

/// Decides about a request. Everything that is refused has changed nothing.
pub fn decide(ask: &Ask, situation: &Situation<'_>) -> Result<Verdict, Refusal> {
    if ask.cluster != situation.cluster {
        return Err(Refusal::OtherCluster { asked: ask.cluster, actual: situation.cluster });
    }
    if ask.lost.is_empty() {
        return Err(Refusal::NobodyNamed);
    }
    if !ask.accept_data_loss {
        return Err(Refusal::NotAccepted);
    }
    if ask.lost.contains(&situation.me) {
        return Err(Refusal::NamesItself(situation.me));
    }
    let system = situation.system;
    let done = |node: &NodeId| system.excluded.contains(node) && !system.is_member(*node);
    if ask.lost.iter().all(done) {
        return Ok(Verdict::Done);
    }
    check_nodes(ask, situation)?;
    check_survivors(ask, situation)?;
    verdict(ask, situation)
}

/// The named nodes are exactly those that are silent.
fn check_nodes(ask: &Ask, situation: &Situation<'_>) -> Result<(), Refusal> {
    for node in &ask.lost {
        let Some(contact) = situation.others.get(node) else {
            if situation.system.excluded.contains(node) {
                continue;
            }
            return Err(Refusal::Unknown(*node));
        };
        if contact.reachable {
            return Err(Refusal::StillThere(*node));
        }
        if contact.silent_ms < SILENT_MS_MIN {
            return Err(Refusal::TooEarly { node: *node, silent_ms: contact.silent_ms });
        }
    }
    let silent = |(node, contact): (&NodeId, &Contact)| {
        (!contact.reachable && !ask.lost.contains(node) && !situation.system.excluded.contains(node)).then_some(*node)
    };
    situation.others.iter().find_map(silent).map_or(Ok(()), |node| Err(Refusal::NotNamed(node)))
}

/// A quorum of a newer configuration may have been the lost nodes and another survivor. What that one had adopted by the
/// time of the loss it says afterwards; what it adopts later, no lost node can acknowledge any more.
fn check_survivors(ask: &Ask, situation: &Situation<'_>) -> Result<(), Refusal> {
    let ours = situation.system.epoch;
    let of_lost = |node: &NodeId| situation.others.get(node).map(|contact| contact.silent_ms);
    let silent_ms = ask.lost.iter().filter_map(of_lost).min().unwrap_or(0);
    for (node, contact) in situation.others.iter().filter(|(node, _)| !ask.lost.contains(node)) {
        if contact.system_epoch > ours {
            return Err(Refusal::Behind { node: *node, theirs: contact.system_epoch, ours });
        }
        if contact.word_age_ms.is_none_or(|age_ms| age_ms >= silent_ms) {
            return Err(Refusal::NotHeard(*node));
        }
    }
    if situation.system.is_voter(situation.me) { Ok(()) } else { Err(Refusal::NoVoter) }
}

fn verdict(ask: &Ask, situation: &Situation<'_>) -> Result<Verdict, Refusal> {
    if let Outcome::Forced(next) = outcome(situation.system, &ask.lost) {
        // A joint epoch keeps the former voters as the survivors; whoever is asked must be one of those.
        return if next.is_voter(situation.me) { Ok(Verdict::Force(*next)) } else { Err(Refusal::NoVoter) };
    }
    let is_lost = |database: &Configuration| outcome(database, &ask.lost) != Outcome::Kept;
    if !situation.databases.iter().any(is_lost) {
        return Err(Refusal::MajorityIsThere);
    }
    if situation.system.joint_with.is_some() || is_first(situation.system.epoch) {
        return Err(Refusal::ChangeUnderWay);
    }
    let mut next = successor(situation.system);
    exclude(&mut next, &ask.lost);
    Ok(Verdict::Agree(next))
}

/// What becomes of the database of `configuration` when these nodes are lost for good. It follows from the two alone, so
/// that whoever goes on after a crash comes to the same.
pub fn outcome(configuration: &Configuration, lost: &BTreeSet<NodeId>) -> Outcome {
    let survivors: NodeSet = configuration.all_voters().into_iter().filter(|voter| !lost.contains(voter)).collect();
    if configuration.dropped || is_read_quorum(configuration, &survivors) {
        return Outcome::Kept;
    }
    // Of a joint epoch the former voters hold what was chosen before it; the new ones may hold nothing yet.
    let left = |voters: &Vec<NodeId>| voters.iter().copied().filter(|voter| !lost.contains(voter)).collect::<Vec<_>>();
    let former = configuration.joint_with.as_ref().map(left).filter(|voters| !voters.is_empty());
    let mut voters = former.unwrap_or_else(|| left(&configuration.voters));
    if voters.is_empty() {
        return Outcome::NoCopy;
    }
    voters.sort_unstable();
    let epoch = (recoveries(configuration.epoch) + 1) << CHANGE_BITS;
    let others = configuration.members().into_iter().filter(|node| !lost.contains(node) && !voters.contains(node));
    let learners: Vec<NodeId> = others.collect();
    let mut next = Configuration { epoch, voters, joint_with: None, learners, ..configuration.clone() };
    // Who only learned may hold something that no survivor holds: such a copy counts no more, and is made anew.
    next.joined.retain(|node, _| next.voters.contains(node));
    next.joined.extend(next.learners.iter().map(|learner| (*learner, epoch)));
    exclude(&mut next, lost);
    Outcome::Forced(Box::new(next))
}

fn exclude(configuration: &mut Configuration, lost: &BTreeSet<NodeId>) {
    configuration.excluded.extend(lost.iter().copied());
    configuration.excluded.sort_unstable();
    configuration.excluded.dedup();
}

/// Nodes that a forced recovery has left behind, as the system database's configuration has them: nobody else is ever
/// excluded from it.
pub fn lost_nodes(system: &Configuration) -> BTreeSet<NodeId> {
    if system.name == DatabaseName::system() { system.excluded.iter().copied().collect() } else { BTreeSet::new() }
}

/// The lost never vote again: no member is one of them, they are excluded, and every epoch of theirs is an older one,
/// however many steps they had taken or take.
pub fn invariant_lost_never_vote_again(old: &Configuration, new: &Configuration, lost: &BTreeSet<NodeId>) -> bool {
    let highest_of_old = old.epoch | ((1 << CHANGE_BITS) - 1);
    new.epoch > highest_of_old
        && is_first(new.epoch)
        && lost.iter().all(|node| !new.is_member(*node) && new.excluded.contains(node))
        && old.uuid == new.uuid
}

/// Only what has no majority is forced, and only former voters vote afterwards.
pub fn invariant_forced_for_want_of_a_majority(
    old: &Configuration,
    new: &Configuration,
    lost: &BTreeSet<NodeId>,
) -> bool {
    let survivors: NodeSet = old.all_voters().into_iter().filter(|voter| !lost.contains(voter)).collect();
    !is_read_quorum(old, &survivors)
        && !new.voters.is_empty()
        && new.voters.iter().all(|voter| survivors.contains(voter))
}

/// The first epoch of a forced recovery ends only when every voter is aligned with it.
pub fn invariant_first_epoch_ends_aligned(
    old: &Configuration,
    new: &Configuration,
    aligned: impl Fn(&NodeId) -> u64,
) -> bool {
    let ends = is_first(old.epoch) && recoveries(new.epoch) == recoveries(old.epoch) && new.epoch > old.epoch;
    !ends || old.voters.iter().all(|voter| aligned(voter) >= old.epoch)
}
