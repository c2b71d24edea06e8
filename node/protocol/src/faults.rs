//! Faults that are switched on by purpose, one at a time, to see that the checks would notice them.
//!
//! [`broken`] stands in one line at each place where a rule is kept. In every program that is built it is `false` at
//! compile time; only with the feature `deliberate-faults`, which no shipped package enables, a test may break one rule
//! for the thread that it runs on ([`Broken`]), so that tests go on side by side; the environment variable `COEQUAL_FAULT`
//! names one that is broken on every thread of a process, so that any test program can be run under a fault.

macro_rules! faults {
    ($($name:ident: $rule:literal, $words:literal;)+) => {
        /// One rule that can be broken. What is said of each is what then happens.
        #[derive(Clone, Copy, PartialEq, Eq)]
        #[cfg_attr(feature = "deliberate-faults", derive(Debug, PartialOrd, Ord, Hash))]
        pub enum Fault {
            $(#[doc = concat!($rule, ": ", $words, ".")] $name,)+
        }

        #[cfg(feature = "deliberate-faults")]
        impl Fault {
            /// All of them, in the order of the table below.
            pub const ALL: &'static [Self] = &[$(Self::$name,)+];

            /// The rule of the replication contract that is broken: an invariant, a promise or a section.
            pub fn rule(self) -> &'static str {
                match self { $(Self::$name => $rule,)+ }
            }

            /// The fault of this name.
            pub fn named(name: &str) -> Option<Self> {
                Self::ALL.iter().copied().find(|fault| format!("{fault:?}") == name)
            }

            /// What happens, in words.
            pub fn words(self) -> &'static str {
                match self { $(Self::$name => $words,)+ }
            }
        }
    };
}

faults! {
    // Ballots and clocks.
    BallotReused: "I1", "the clock gives the same time again while the physical clock stands";
    ClockBackAfterRestart: "I1", "the clock begins anew after a restart, below what it had reached";
    IncarnationReused: "I1", "a restarted node has the incarnation that it had";
    AbsurdClockFollowed: "section 11", "a peer's time is followed however far ahead it is";
    // Acceptor.
    AcceptBelowPromise: "I4", "an accept below the promise is taken";
    AcceptBelowAccepted: "I4", "an accept below the accepted ballot is answered as taken";
    EqualBallotOtherValue: "I2", "an accept of another value at the accepted ballot is answered as a duplicate";
    PrepareBelowPromise: "I4", "a prepare below the promise is answered with a promise";
    PromiseNotKept: "I4", "a promise is answered and not recorded";
    AcceptPromisesNothing: "I4", "accepting does not raise the promise";
    PromiseHidesAccepted: "I4", "a promise does not tell the accepted revision";
    PendingToldAsChosen: "I8", "an accepted revision is told as chosen";
    CreationOverState: "section 4 (b)", "a creation ballot is taken where something is known of the key";
    CreationBelowLowBound: "section 10", "a creation ballot is taken below the low bound";
    CreationIsOrdinary: "section 4 (b)", "a generated key is written at an ordinary ballot without a prepare";
    CopyIsNotAccepted: "section 7", "a copied chosen revision does not count as accepted";
    OlderChosenOverwrites: "I10", "an older chosen revision replaces a newer one";
    MarkFitsAnyBallot: "I10", "a mark of a chosen ballot is put on whatever is accepted";
    AcceptedIsFed: "I10", "an accepted revision reaches the feed and local reads at once";
    AnswerBeforeFsync: "I3", "answers leave before what they say is on disk";
    PromiseOnlyInMemory: "I3", "a restarted node does not know its promises";
    FormerPromisesForgotten: "I3", "a restarted node takes what it may have promised not to take";
    PromiseAboveBound: "I3", "a promise is kept in memory only, above the bound on disk";
    GuessedPromiseInMemory: "section 4 (b)", "a promise for a key that a node may make up is kept in memory only";
    EpochToldBeforeDisk: "I3", "a node speaks under an epoch that is not on its disk";
    AcceptorIgnoresEpoch: "I5", "an acceptor answers requests of any epoch";
    RemovedNodeVotes: "I6", "an acceptor that is no voter answers";
    // Quorums.
    WriteQuorumMinority: "I6", "one accept less than a quorum is enough";
    ReadQuorumMinority: "I6", "one promise less than a majority is enough";
    WriteQuorumIgnored: "G1", "a majority is enough whatever writeQuorum says";
    NonVotersCount: "I6", "answers of nodes that do not vote count";
    JointCountsNewOnly: "I6", "in a joint epoch a majority of the new voters is enough";
    JointCountsOldOnly: "I6", "in a joint epoch a majority of the old voters is enough";
    // Coordinator.
    DuplicateCounts: "I5", "an answer that comes twice counts as two";
    LateAnswerCounts: "I5", "an answer to an older round counts";
    CoordinatorIgnoresEpoch: "I5", "an answer of another epoch counts";
    LowerBallotWins: "section 4", "the first revision reported is taken up, not that of the highest ballot";
    SentIsForgotten: "I9", "a lost round is begun anew as if no accept had been sent";
    OwnIsNotFound: "I9", "a coordinator does not see that its own write was chosen, and applies it again";
    PastTakenAsCertain: "I9", "a write whose trace the document may have forgotten is taken as not applied";
    RefusalFromAccepted: "I8", "a refusal is answered about a revision that is only accepted";
    RefusalBelowSent: "I9", "a refusal is answered before anything is chosen above an accept sent before";
    AbsentDespiteSent: "I9", "not applied is answered from an empty majority after an accept was sent";
    UnknownIsNotApplied: "G7", "a write past its deadline is answered as not applied though an accept was sent";
    RecentUsedTwice: "I2", "what was chosen last is built on again after a round with an unknown end";
    RoundKeptAcrossEpochs: "I5", "a round goes on with its answers under a new epoch";
    ForwardServedTwice: "I9", "a forwarded write that comes again is applied again";
    LostForwardIsNotApplied: "G7", "a forwarded write whose coordinator is gone is answered as not applied";
    // Documents.
    RequestIdForgotten: "I9", "a document does not remember the request ids of its writes";
    RequestOfAnotherReplayed: "I9", "an idempotency key that comes back with another request gets the first one's answer";
    ConditionIgnored: "G2", "a condition is not checked";
    RecreationStartsAtOne: "section 10", "a document created again after a delete starts at version 1, with no past";
    HistoryDropsOldest: "I9", "a history forgets its oldest write, also the last one of a coordinator";
    // Reads.
    ReadShowsAccepted: "I8", "a linearizable read answers what is only accepted";
    ReadTakesFirst: "G2", "a linearizable read answers the first revision reported, not the newest";
    SessionTokenIgnored: "G3", "a local read does not look at the session's token";
    LocalReadWhileSynchronizing: "G4", "a local read is answered while SYNCHRONIZING";
    // Feed and alignment.
    CursorBeforeEntries: "section 6", "the cursor moves although entries of the batch are not here";
    CursorOfAnotherFeed: "section 6", "a cursor counts for a feed that it does not belong to";
    DrainedBehindHead: "section 6", "a source counts as drained at the sampled head though entries remain behind it";
    HeadsSampledEarly: "section 6", "a source's head is taken from before it was sampled";
    SampleBeforeAdoption: "section 7", "samples count before a majority has adopted the epoch";
    AnyAlignmentAnswer: "I5", "the sample of an earlier alignment counts";
    SourcesForgetNewDisk: "section 6", "a node with a new disk drains as few sources as one with an unbroken disk";
    OneSourceTooFew: "section 6", "one source less than needed is drained";
    LostSourceCounts: "section 6", "a source that was lost while it was drained still counts";
    SourcePendingUnsettled: "section 6", "keys that a source had pending are not settled";
    OwnPendingUnsettled: "section 6", "keys that the node itself had pending are not settled";
    OnlineUnsettled: "G4", "a database is ONLINE before pending keys are settled";
    OnlineUndrained: "G4", "a database is ONLINE before its sources are drained";
    OldPointKept: "G4", "a database is ONLINE with an alignment point of long ago";
    LostContactIgnored: "G4", "a database stays ONLINE without contact to a majority";
    // Membership and sharing.
    JointEpochSkipped: "I6", "the voters change from one epoch to the next without a joint one";
    JointEndsUnaligned: "I6", "a joint epoch ends before a majority of the new voters is aligned";
    DiskUncheckedVotes: "I7", "a node votes before others said how far its log was";
    RollbackUnnoticed: "I7", "a store that is older than others remember is taken as whole";
    CopiedFolderVotes: "I7", "a folder copied from another node is taken as this node's own";
    ForgetfulVotes: "I7", "a voter whose own copy is gone gets a new one and votes on";
    RemovedCopyVotes: "I7", "the copy of a node that was removed and taken in again votes";
    NamesakeMixes: "G8", "another database of the same name is replicated with";
    CopyOfManyHasCursor: "section 9", "a copy that came from several donors claims the first one's cursor";
    CursorsOfFormerOpening: "section 9", "a copy claims cursors that its donor may have forgotten at a restart";
    // Storage.
    FsyncErrorIgnored: "section 11", "a failed commit of the log is taken as done";
    CommitNotSynced: "I3", "commits of the log are not synced";
    LogReplaySkipsRow: "I3", "the log's last row is not replayed";
    DurableMarkMissing: "section 11", "the last durable row of the log is not noted";
    DurableMarkUnsynced: "section 11", "the note of the last durable row is not synced when the log falls idle";
    ChecksumIgnored: "section 11", "a wrong checksum of a row is not noticed";
    CheckpointTrimsEarly: "I3", "log rows go before the checkpoint that holds them is written";
    CheckpointAheadOfLog: "I3", "a checkpoint holds what the log does not have on disk";
    OverlayLost: "I3", "a failed checkpoint loses what it was to write";
    FeedSequenceReused: "section 6", "sequences of the feed begin anew after a restart";
    FeedKeepsOldEntries: "G5", "older feed entries of a document stay";
    // Tombstones: the places are where they are collected.
    TombstoneCollectedEarly: "section 10", "a tombstone is collected before every member has it";
    LowBoundNotAgreed: "section 10", "tombstones are collected without an agreed low bound";
    LowBoundNotKept: "section 10", "a restarted node does not know the low bound";
    CollectedBelowCursor: "section 10", "a peer behind the collected point goes on by its cursor";
}

/// Whether the rule that `fault` breaks is broken now: never, in this build.
#[cfg(not(feature = "deliberate-faults"))]
#[inline(always)]
pub const fn broken(_fault: Fault) -> bool {
    false
}

/// Whether the rule that `fault` breaks is broken now, on this thread.
#[cfg(feature = "deliberate-faults")]
#[inline]
pub fn broken(fault: Fault) -> bool {
    switch::is_on(fault)
}

#[cfg(feature = "deliberate-faults")]
pub use switch::Broken;

#[cfg(feature = "deliberate-faults")]
mod switch {
    use super::Fault;
    use std::cell::Cell;
    use std::marker::PhantomData;

    thread_local! {
        static NOW: Cell<Option<Fault>> = Cell::new(of_the_process());
        static REACHED: Cell<u64> = const { Cell::new(0) };
    }

    fn of_the_process() -> Option<Fault> {
        std::env::var("COEQUAL_FAULT").ok().and_then(|name| Fault::named(&name))
    }

    pub(super) fn is_on(fault: Fault) -> bool {
        let on = NOW.get() == Some(fault);
        if on {
            REACHED.set(REACHED.get() + 1);
        }
        on
    }

    /// As long as it lives, one rule is broken on this thread. Not to be nested.
    #[derive(Debug)]
    pub struct Broken {
        before: Option<Fault>,
        stays_on_its_thread: PhantomData<*const ()>,
    }

    impl Broken {
        /// Breaks a rule, or none.
        pub fn now(fault: impl Into<Option<Fault>>) -> Self {
            let before = NOW.replace(fault.into());
            REACHED.set(0);
            Self { before, stays_on_its_thread: PhantomData }
        }

        /// How often the place was passed where the rule is kept: a fault that was never reached is not tried.
        pub fn reached(&self) -> u64 {
            REACHED.get()
        }
    }

    impl Drop for Broken {
        fn drop(&mut self) {
            NOW.set(self.before);
        }
    }
}

#[cfg(all(test, feature = "deliberate-faults"))]
mod tests {
    use super::*;

    #[test]
    fn a_rule_is_broken_only_as_long_as_somebody_wants_it() {
        // Whatever COEQUAL_FAULT says.
        let _nothing = Broken::now(None);
        assert!(Fault::ALL.iter().all(|fault| !broken(*fault)));
        let now = Broken::now(Fault::BallotReused);
        assert!(broken(Fault::BallotReused) && !broken(Fault::ConditionIgnored));
        assert_eq!(now.reached(), 1);
        drop(now);
        assert!(!broken(Fault::BallotReused));
    }

    #[test]
    fn every_fault_says_its_rule_and_what_happens() {
        let mut words: Vec<&str> = Fault::ALL.iter().map(|fault| fault.words()).collect();
        words.sort_unstable();
        words.dedup();
        assert_eq!(words.len(), Fault::ALL.len());
        assert!(Fault::ALL.iter().all(|fault| Fault::named(&format!("{fault:?}")) == Some(*fault)));
        assert!(Fault::ALL.len() >= 40 && Fault::ALL.iter().all(|fault| !fault.rule().is_empty()));
    }
}
