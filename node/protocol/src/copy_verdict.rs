//! What a quorum says about a document of which two nodes hold what cannot be: two contents at one ballot, or one a
//! document and the other nothing below the low bound. Nobody guesses, and nobody puts another node's copy aside: each
//! node asks for itself, and a copy goes into quarantine only by its own node's finding that a quorum of the others
//! agrees against it.
//!
//! ```text
//! differs ─> First ──a quorum agrees against this copy──> Doomed (answers nobody's questions) ─> Second ─> quarantine
//!               └─ against others: they are told to ask for themselves        no quorum any more ─┘ └─> left, said
//! ```
//!
//! A doomed node answers no questions of others. So of two copies that find themselves against a quorum at the same time
//! neither finds a quorum in the second round, and never do so many go at once that a majority is lost.

use crate::ballot::Ballot;
use crate::key::Key;
use crate::quorum::{NodeSet, is_read_quorum};
use crate::range_comparison::KeyDigest;
use coequal_types::{Configuration, NodeId};
use std::collections::BTreeMap;

/// What is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum QuestionKind {
    /// Which content stands at the ballot.
    Content,
    /// Whether the document is there at all: a node that lacks it may have collected its tombstone.
    Presence,
}

/// One question to all voters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Question {
    /// The document.
    pub key: Key,
    /// The ballot in question.
    pub ballot: Ballot,
    /// What is asked.
    pub kind: QuestionKind,
}

/// What a quorum says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Judged {
    /// To what.
    pub question: Question,
    /// Nodes against whose content a quorum agrees.
    pub minority: Vec<NodeId>,
    /// Whether a quorum holds this ballot (with one content) or a newer one.
    pub held_by_quorum: bool,
}

/// Questions under way to all voters.
#[derive(Debug, Clone)]
pub struct Verdict {
    questions: Vec<Question>,
    answers: BTreeMap<NodeId, BTreeMap<Key, KeyDigest>>,
}

impl Verdict {
    /// Nobody has answered yet, this node neither.
    pub fn new(questions: Vec<Question>) -> Self {
        Self { questions, answers: BTreeMap::new() }
    }

    /// The documents that are asked about.
    pub fn keys(&self) -> Vec<Key> {
        self.questions.iter().map(|question| question.key.clone()).collect()
    }

    /// Voters that have not answered.
    pub fn to_ask(&self, configuration: &Configuration) -> Vec<NodeId> {
        configuration.all_voters().into_iter().filter(|voter| !self.answers.contains_key(voter)).collect()
    }

    /// What a voter holds of the documents that are asked about.
    pub fn on_answer(&mut self, from: NodeId, entries: Vec<KeyDigest>) {
        self.answers.insert(from, entries.into_iter().map(|entry| (entry.key.clone(), entry)).collect());
    }

    /// What the answers so far say.
    pub fn judge(&self, configuration: &Configuration) -> Vec<Judged> {
        self.questions.iter().map(|question| self.judge_one(question, configuration)).collect()
    }

    fn judge_one(&self, question: &Question, configuration: &Configuration) -> Judged {
        let held = |node: &NodeId| self.answers.get(node).and_then(|entries| entries.get(&question.key));
        let overtaken = self.answers.keys().any(|node| held(node).is_some_and(|e| e.ballot > question.ballot));
        let mut by_content: BTreeMap<u128, NodeSet> = BTreeMap::new();
        for node in self.answers.keys() {
            if let Some(entry) = held(node).filter(|entry| entry.ballot == question.ballot) {
                by_content.entry(entry.digest).or_default().insert(*node);
            }
        }
        let agreed =
            by_content.iter().find(|(_, nodes)| is_read_quorum(configuration, nodes)).map(|(digest, _)| *digest);
        // A newer revision has replaced both: what was different is not shown to anybody any more.
        let minority = match (agreed, overtaken) {
            (Some(agreed), false) => by_content
                .iter()
                .filter(|(digest, _)| **digest != agreed)
                .flat_map(|(_, nodes)| nodes)
                .copied()
                .collect(),
            _ => Vec::new(),
        };
        let at_least: NodeSet = self
            .answers
            .keys()
            .filter(|node| held(node).is_some_and(|e| e.ballot >= question.ballot))
            .copied()
            .collect();
        let one_content = by_content.len() <= 1;
        let held_by_quorum = one_content && is_read_quorum(configuration, &at_least);
        debug_assert!(
            minority
                .iter()
                .all(|node| { invariant_quarantine_leaves_a_quorum(configuration, &by_content, agreed, *node) })
        );
        Judged { question: question.clone(), minority, held_by_quorum }
    }
}

/// A copy goes into quarantine only where a quorum that does not need it agrees on another content.
pub fn invariant_quarantine_leaves_a_quorum(
    configuration: &Configuration,
    by_content: &BTreeMap<u128, NodeSet>,
    agreed: Option<u128>,
    quarantined: NodeId,
) -> bool {
    agreed
        .and_then(|agreed| by_content.get(&agreed))
        .is_some_and(|nodes| !nodes.contains(&quarantined) && is_read_quorum(configuration, nodes))
}
