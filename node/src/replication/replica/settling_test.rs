//! Keys that an alignment settles: each is asked for until its chosen state is here, and nothing else counts (G4).

use super::driven_test::{Driven, EPOCH, OTHER, THIRD, configuration};
use coequal_protocol::message::Message;
use coequal_protocol::record::{Change, LogRecord};
use coequal_protocol::{Ballot, Key, Revision};
use coequal_types::{DatabaseStatus, NodeId};
use std::sync::Arc;

/// What stays at hand after it was read is smaller: each look at one of these documents is a read of the store.
const BODY_BYTES: usize = 3_000;

fn named(number: u64) -> Key {
    Key::of("things", &format!("{number:05}"))
}

/// The document that the other node names as pending.
fn unsettled() -> Key {
    named(5)
}

fn ballot(version: u64) -> Ballot {
    Ballot::ordinary((1_740_000_000_000 << 16) + version, OTHER, 1)
}

fn revision(version: u64) -> Arc<Revision> {
    let body = Some(bytes::Bytes::from(vec![b' '; BODY_BYTES]));
    Arc::new(Revision { version, stamp: ballot(version), body, history: Vec::new() })
}

/// First versions of documents.
fn fill(driven: &mut Driven, numbers: std::ops::Range<u64>) {
    for number in numbers {
        let feed_sequence = driven.store.next_feed_sequence();
        let change = Change::Chosen { ballot: ballot(1), feed_sequence, revision: Some(revision(1)) };
        driven.store.append(LogRecord::Register { key: named(number), change }).unwrap();
    }
    driven.commit();
}

/// Documents 0 to 1,000 are in the file alone, and as many wait for a checkpoint.
fn filled(mut driven: Driven) -> Driven {
    fill(&mut driven, 0..1_000);
    driven.store.checkpoint().unwrap();
    fill(&mut driven, 1_000..2_000);
    driven.reaches(OTHER, true);
    driven
}

/// A checkpoint finds no space: redb reads nothing until the file is opened anew, and that fails too.
fn cannot_be_read(driven: &Driven) {
    driven.disk.set_free_pages(0);
    driven.disk.set_open_fails(true);
    assert!(driven.store.checkpoint().unwrap_err().is_disk_full());
    driven.disk.set_free_pages(u64::MAX);
    assert!(driven.store.register(&unsettled()).unwrap_err().is_disk_full());
}

fn status(driven: &Driven) -> DatabaseStatus {
    driven.replica.view_status()
}

/// Version of the document here.
fn version(driven: &Driven) -> Option<u64> {
    driven.store.chosen(&unsettled()).unwrap().map(|held| held.revision.version)
}

/// A read of the document, as its request came.
#[derive(Clone, Copy)]
struct Asked {
    read: u64,
    epoch: u64,
    known: Ballot,
}

/// Reads for which the other node was asked.
fn reads(sent: &[(NodeId, Message)]) -> Vec<Asked> {
    let asked = |(to, message): &(NodeId, Message)| match message {
        Message::Query { epoch, key, read, known } if *to == OTHER && *key == unsettled() => {
            Some(Asked { read: *read, epoch: *epoch, known: *known })
        }
        _ => None,
    };
    sent.iter().filter_map(asked).collect()
}

/// The other node has chosen the second version.
fn answers_read(driven: &mut Driven, asked: Asked) {
    let Asked { read, epoch, known } = asked;
    let (accepted, revision) = (ballot(2), (ballot(2) > known).then(|| revision(2)));
    driven.hears(OTHER, Message::QueryAnswer { epoch, key: unsettled(), read, accepted, chosen: true, revision });
}

/// The third node's answer from before it accepted anything.
fn answers_read_with_nothing(driven: &mut Driven, asked: Asked) {
    let Asked { read, epoch, .. } = asked;
    let (accepted, chosen, revision) = (Ballot::NONE, true, None);
    driven.hears(THIRD, Message::QueryAnswer { epoch, key: unsettled(), read, accepted, chosen, revision });
}

/// The other node's feed is here up to its end; of the document it does not say whether it is chosen.
fn answers_samples(driven: &mut Driven, sent: &[(NodeId, Message)]) {
    for (to, message) in sent {
        if let Message::Sample { alignment, epoch, .. } = message
            && *to == OTHER
        {
            let (alignment, epoch, pending) = (*alignment, *epoch, vec![unsettled()]);
            driven.hears(OTHER, Message::SampleAnswer { alignment, epoch, feed: 9, head: 40, behind: 0, pending });
        }
    }
}

/// Lets the alignment come to the point where it asks for the document, in a read later than `after`, and answers none.
fn until_it_asks(driven: &mut Driven, after: u64) -> Asked {
    for _ in 0..40 {
        driven.passes(25);
        let sent = driven.sends();
        if let Some(asked) = reads(&sent).into_iter().find(|asked| asked.read > after) {
            return asked;
        }
        answers_samples(driven, &sent);
    }
    panic!("it has not asked for the document for a second");
}

/// Time passes in which the other node answers whatever it is asked.
fn passes_answered(driven: &mut Driven, milliseconds: u64) {
    for _ in 0..milliseconds / 25 {
        driven.passes(25);
        let sent = driven.sends();
        answers_samples(driven, &sent);
        for asked in reads(&sent) {
            answers_read(driven, asked);
        }
    }
}

/// Reads begin again when the others have said that this node may vote, which then is a part of their quorum.
#[test]
fn a_key_whose_read_could_not_begin_again_is_asked_for_later() {
    let mut driven = filled(Driven::new(configuration(EPOCH, 3)));
    until_it_asks(&mut driven, 0);
    cannot_be_read(&driven);
    driven.hears(OTHER, Message::Recalled { feed: 0, durable: 0, incarnation: 0 });
    driven.passes(25);
    driven.disk.set_open_fails(false);
    driven.sends();
    passes_answered(&mut driven, 2_000);
    assert_eq!((status(&driven), version(&driven)), (DatabaseStatus::Online, Some(2)));
}

#[test]
fn a_value_that_a_full_disk_did_not_take_is_not_settled() {
    let mut driven = filled(Driven::voting(configuration(EPOCH, 3)));
    let asked = until_it_asks(&mut driven, 0);
    cannot_be_read(&driven);
    answers_read(&mut driven, asked);
    assert!(driven.replica.view().disk_full, "it was not taken");
    passes_answered(&mut driven, 2_000);
    assert_eq!(status(&driven), DatabaseStatus::Synchronizing, "the chosen version is not here");
    driven.disk.set_open_fails(false);
    assert_eq!(version(&driven), Some(1));
    passes_answered(&mut driven, 2_000);
    assert_eq!((status(&driven), version(&driven)), (DatabaseStatus::Online, Some(2)));
}

/// What the new alignment has to bring here may have been chosen after an answer and before the sample.
#[test]
fn a_read_that_began_before_the_samples_settles_nothing_under_a_new_epoch() {
    let mut driven = Driven::voting(configuration(EPOCH, 3));
    driven.reaches(OTHER, true);
    driven.reaches(THIRD, true);
    let former = until_it_asks(&mut driven, 0);
    driven.adopts(configuration(EPOCH + 1, 3));
    driven.commit();
    let before_samples = reads(&driven.sends());
    let newest = before_samples.iter().map(|asked| asked.read).max().unwrap_or(former.read);
    let asked = until_it_asks(&mut driven, newest);
    assert_eq!(asked.epoch, EPOCH + 1);
    // The third node's answers come late: by now it and the other node have chosen a version.
    before_samples.iter().for_each(|late| answers_read_with_nothing(&mut driven, *late));
    driven.passes(25);
    assert_eq!((status(&driven), version(&driven)), (DatabaseStatus::Synchronizing, None));
    answers_read(&mut driven, asked);
    driven.passes(25);
    assert_eq!((status(&driven), version(&driven)), (DatabaseStatus::Online, Some(2)));
}
