//! Asks all voters what they hold of documents that only a quorum can decide on, and puts this node's own copy into
//! quarantine when a quorum of the others agrees against it, twice (decisions: `protocol::copy_verdict`).

use super::Replica;
use coequal_protocol::copy_verdict::{Judged, Question, QuestionKind, Verdict};
use coequal_protocol::message::{Compare, Message};
use coequal_protocol::range_comparison::{KEYS_MAX, KeyDigest};
use coequal_protocol::{Ballot, Key};
use coequal_types::NodeId;
use std::collections::BTreeMap;

const ASK_AGAIN_MS: u64 = 500;
/// Voters that have not answered by then are not waited for.
const VERDICT_MS: u64 = 3_000;
/// Between the first finding against this copy and the second question.
const DOOM_MS: u64 = 500;

/// What a verdict is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Purpose {
    /// This node's comparison waits for it.
    Comparison,
    /// Another node doubts this node's copy.
    Doubt,
    /// The second question about this node's own copy.
    Second,
}

/// Questions under way.
struct Asking {
    id: u64,
    verdict: Verdict,
    purpose: Purpose,
    since_ms: u64,
    asked_ms: Option<u64>,
}

/// One verdict at a time, and whether this copy has lost the first.
#[derive(Default)]
pub(super) struct Verdicts {
    asking: Option<Asking>,
    doomed: Option<(Vec<Question>, u64)>,
}

impl Verdicts {
    pub fn is_under_way(&self) -> bool {
        self.asking.is_some() || self.doomed.is_some()
    }
}

impl Replica {
    /// Whether a quorum agreed against this copy once, and is to be asked again.
    pub(super) fn is_doomed(&self) -> bool {
        self.comparing.verdicts.doomed.is_some()
    }

    pub(super) fn is_verdict(&self, id: u64) -> bool {
        self.comparing.verdicts.asking.as_ref().is_some_and(|asking| asking.id == id)
    }

    /// Asks all voters, if nothing else is being asked; whoever wants it asks again.
    pub(super) fn ask_all(&mut self, questions: Vec<Question>, purpose: Purpose) {
        if self.comparing.verdicts.asking.is_some() || (self.is_doomed() && purpose != Purpose::Second) {
            return;
        }
        let (id, since_ms) = (self.id(), self.now.monotonic_ms);
        let verdict = Verdict::new(questions);
        self.comparing.verdicts.asking = Some(Asking { id, verdict, purpose, since_ms, asked_ms: None });
        self.next_tick_ms = since_ms;
    }

    /// Another node found a quorum against this copy: this node asks for itself.
    pub(super) fn on_doubt(&mut self, from: NodeId, keys: Vec<(Key, Ballot)>) {
        tracing::warn!(database = %self.configuration.name, %from, documents = keys.len(), "another node doubts this copy; all voters are asked");
        let question = |(key, ballot)| Question { key, ballot, kind: QuestionKind::Content };
        self.ask_all(keys.into_iter().take(KEYS_MAX).map(question).collect(), Purpose::Doubt);
    }

    pub(super) fn on_verdict_answer(&mut self, from: NodeId, id: u64, entries: Vec<KeyDigest>) {
        if let Some(asking) = self.comparing.verdicts.asking.as_mut().filter(|asking| asking.id == id) {
            asking.verdict.on_answer(from, entries);
        }
    }

    pub(super) fn run_verdicts(&mut self) {
        let now_ms = self.now.monotonic_ms;
        if let Some((questions, at_ms)) = &self.comparing.verdicts.doomed
            && now_ms >= *at_ms
        {
            let questions = questions.clone();
            self.ask_all(questions, Purpose::Second);
        }
        let Some(mut asking) = self.comparing.verdicts.asking.take() else { return };
        let missing = asking.verdict.to_ask(&self.configuration);
        if missing.is_empty() || now_ms.saturating_sub(asking.since_ms) >= VERDICT_MS {
            let judged = asking.verdict.judge(&self.configuration);
            return self.on_judged(judged, asking.purpose);
        }
        let due = asking.asked_ms.is_none_or(|asked_ms| now_ms.saturating_sub(asked_ms) >= ASK_AGAIN_MS);
        let (id, keys) = (asking.id, asking.verdict.keys());
        if due {
            asking.asked_ms = Some(now_ms);
        }
        self.comparing.verdicts.asking = Some(asking);
        for voter in missing.into_iter().filter(|_| due) {
            self.send(voter, Message::Compare(Compare::Keys { comparison: id, step: 0, keys: keys.clone() }));
        }
    }

    fn on_judged(&mut self, judged: Vec<Judged>, purpose: Purpose) {
        let against_me: Vec<Question> =
            judged.iter().filter(|j| j.minority.contains(&self.me)).map(|j| j.question.clone()).collect();
        match (purpose, against_me.first()) {
            (Purpose::Second, Some(question)) => return self.quarantine(&question.clone(), against_me.len()),
            (Purpose::Second, None) => {
                tracing::error!(database = %self.configuration.name, "no quorum agrees against this copy any more; it stays, and so does the difference");
                self.comparing.verdicts.doomed = None;
            }
            (_, Some(_)) => {
                self.comparing.verdicts.doomed = Some((against_me, self.now.monotonic_ms + DOOM_MS));
            }
            (_, None) => {}
        }
        self.tell_minorities(&judged);
        if purpose == Purpose::Comparison {
            for undecided in judged.iter().filter(|j| j.minority.is_empty() && !j.held_by_quorum) {
                let Question { key, ballot, .. } = &undecided.question;
                tracing::error!(database = %self.configuration.name, document = ?key, %ballot, "no quorum agrees on this document at this ballot; it is left as it is");
            }
            self.on_comparison_judged(judged);
        }
    }

    /// Each node puts only its own copy aside: the others are told to ask for themselves.
    fn tell_minorities(&mut self, judged: &[Judged]) {
        let mut doubts: BTreeMap<NodeId, Vec<(Key, Ballot)>> = BTreeMap::new();
        for Judged { question, minority, .. } in judged {
            for node in minority.iter().filter(|node| **node != self.me) {
                doubts.entry(*node).or_default().push((question.key.clone(), question.ballot));
            }
        }
        for (node, keys) in doubts {
            self.send(node, Message::Compare(Compare::Doubt { keys }));
        }
    }

    fn quarantine(&mut self, question: &Question, documents: usize) {
        let Question { key, ballot, .. } = question;
        self.fail(format!(
            "document {} of collection {} has another content here at ballot {ballot} than a quorum of the voters holds \
             ({documents} such documents): this copy is damaged in a way that its checksums do not show; it is put aside \
             and deployed anew",
            key.document_key(),
            key.collection()
        ));
    }
}
