//! Who speaks for a node (I7): one process at a time, the one of its newest start. A node's identity is its data directory;
//! where that was copied, two processes call themselves by the same identity.
//!
//! ```text
//! known: none           ─► admitted
//! a later start         ─► admitted; the former one is not listened to any more
//! the same process      ─► admitted
//! an earlier start      ─► refused: a process never speaks up after its successor did, so both are alive
//! same start, another process ─► refused: both are alive
//! ```

use coequal_types::Incarnation;

/// One start of a node, as it introduces itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Start {
    /// Which start of its data directory this is.
    pub incarnation: Incarnation,
    /// Drawn at random by each process: two live processes with one identity differ in this if in nothing else.
    pub process: u64,
}

/// What is made of somebody who introduces itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Admission {
    /// It is the first one, or the one that is known already.
    Admitted,
    /// It is admitted in place of a former start.
    Replaces,
    /// A later start of the same node is known.
    OldIncarnation,
    /// Another process is known as this very start.
    DuplicateIdentity,
}

impl Admission {
    /// Whether two processes seem to live with one identity.
    pub fn is_refusal(self) -> bool {
        matches!(self, Self::OldIncarnation | Self::DuplicateIdentity)
    }
}

/// Whether the start that `comes` may speak for its node beside the one that is `known`.
pub fn admit(known: Option<Start>, comes: Start) -> Admission {
    let Some(known) = known else { return Admission::Admitted };
    if comes.incarnation > known.incarnation {
        Admission::Replaces
    } else if comes.incarnation < known.incarnation {
        Admission::OldIncarnation
    } else if comes.process != known.process {
        Admission::DuplicateIdentity
    } else {
        Admission::Admitted
    }
}

/// I7: whoever is known after a decision is the newest start of all that came, and a start is never two processes.
pub fn invariant_one_process_speaks(known: Option<Start>, comes: Start, speaks: Start) -> bool {
    known.is_none_or(|known| {
        let is_newest = speaks.incarnation >= known.incarnation && speaks.incarnation >= comes.incarnation;
        is_newest && (speaks.incarnation != known.incarnation || speaks == known)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn start(incarnation: Incarnation, process: u64) -> Start {
        Start { incarnation, process }
    }

    #[test]
    fn every_case_of_admission_in_one_table() {
        let known = Some(start(5, 50));
        for (known, comes, expected) in [
            (None, start(1, 10), Admission::Admitted),
            (known, start(5, 50), Admission::Admitted),
            (known, start(6, 60), Admission::Replaces),
            (known, start(6, 50), Admission::Replaces),
            (known, start(5, 51), Admission::DuplicateIdentity),
            (known, start(4, 50), Admission::OldIncarnation),
            (known, start(4, 40), Admission::OldIncarnation),
        ] {
            assert_eq!(admit(known, comes), expected, "{known:?} {comes:?}");
        }
    }

    #[test]
    fn whatever_comes_one_process_of_the_newest_start_speaks() {
        let starts: Vec<Start> =
            (1..=3).flat_map(|incarnation| [1, 2].map(|process| start(incarnation, process))).collect();
        for first in &starts {
            for second in &starts {
                for third in &starts {
                    let mut known = None;
                    for comes in [*first, *second, *third] {
                        let refused = admit(known, comes).is_refusal();
                        let speaks = if refused { known.unwrap() } else { comes };
                        assert!(invariant_one_process_speaks(known, comes, speaks), "{known:?} {comes:?} {speaks:?}");
                        known = Some(speaks);
                    }
                }
            }
        }
    }
}
