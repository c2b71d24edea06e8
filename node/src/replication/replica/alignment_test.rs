//! What an alignment rests on: samples that it asked for itself (I5), taken not long before it ends (G4).

use super::Event;
use super::driven_test::{Driven, EPOCH, OTHER, THIRD, WALL_MS, configuration, key};
use coequal_protocol::Ballot;
use coequal_protocol::message::Message;
use coequal_types::{DatabaseStatus, NodeId};

const FEED: u64 = 9;
const HEAD: u64 = 40;

/// Numbers of the samples that were asked for.
fn asked(sent: &[(NodeId, Message)]) -> Vec<(NodeId, u64)> {
    let number = |(to, message): &(NodeId, Message)| match message {
        Message::Sample { alignment, .. } => Some((*to, *alignment)),
        _ => None,
    };
    sent.iter().filter_map(number).collect()
}

fn sample(alignment: u64, behind: u64) -> Message {
    let pending = Vec::new();
    Message::SampleAnswer { alignment, epoch: EPOCH, feed: FEED, head: HEAD, behind, pending }
}

fn status(driven: &Driven) -> DatabaseStatus {
    driven.replica.view_status()
}

/// A replica of three that has just asked the other two, and what it asked.
fn asking() -> (Driven, Vec<(NodeId, u64)>) {
    let mut driven = Driven::voting(configuration(EPOCH, 3));
    driven.reaches(OTHER, true);
    driven.reaches(THIRD, true);
    driven.passes(25);
    let numbers = asked(&driven.sends());
    assert_eq!(numbers.len(), 2);
    (driven, numbers)
}

/// Answers each request for a sample as often as there is one, `behind` entries being behind the cursor. What is not
/// asked for a sample comes back.
fn answers_samples(driven: &mut Driven, mut numbers: Vec<(NodeId, u64)>, behind: u64) -> Vec<(NodeId, Message)> {
    let mut others = Vec::new();
    while !numbers.is_empty() {
        for (from, number) in numbers {
            driven.hears(from, sample(number, behind));
        }
        driven.passes(25);
        let sent = driven.sends();
        numbers = asked(&sent);
        others.extend(sent);
    }
    others
}

#[test]
fn a_sample_of_an_earlier_alignment_does_not_count() {
    let (mut driven, before) = asking();
    driven.handle(Event::StoodStill);
    driven.passes(25);
    let numbers = asked(&driven.sends());
    assert!(numbers.len() == 2 && numbers.iter().all(|number| !before.contains(number)));
    for _ in 0..4 {
        // Late, and more than once.
        for (from, number) in &before {
            driven.hears(*from, sample(*number, 0));
        }
        driven.passes(25);
    }
    assert_eq!(status(&driven), DatabaseStatus::Synchronizing);
    answers_samples(&mut driven, numbers, 0);
    assert_eq!(status(&driven), DatabaseStatus::Online);
}

/// Answers requests for a sample, until there are no more, with a key that is undecided there and nothing else that is
/// missing here. The number of the newest read of that key comes back.
fn answers_with_undecided_key(driven: &mut Driven, mut numbers: Vec<(NodeId, u64)>) -> u64 {
    let mut newest: Option<u64> = None;
    while !numbers.is_empty() {
        for (from, alignment) in numbers {
            let pending = vec![key()];
            let sample = Message::SampleAnswer { alignment, epoch: EPOCH, feed: FEED, head: HEAD, behind: 0, pending };
            driven.hears(from, sample);
        }
        driven.passes(25);
        let sent = driven.sends();
        numbers = asked(&sent);
        let reads = sent.iter().filter_map(|(_, message)| match message {
            Message::Query { read, .. } => Some(*read),
            _ => None,
        });
        newest = newest.max(reads.max());
    }
    newest.expect("a read of the key")
}

/// What was chosen between the two is not in what the read of the former one finds (G4).
#[test]
fn a_read_of_an_earlier_alignment_settles_no_key_of_a_later_one() {
    let (mut driven, numbers) = asking();
    let former = answers_with_undecided_key(&mut driven, numbers);
    driven.handle(Event::StoodStill);
    driven.passes(25);
    let numbers = asked(&driven.sends());
    let later = answers_with_undecided_key(&mut driven, numbers);
    assert!(later > former, "the later one reads the key itself");
    let knows_nothing = |read: u64| {
        let (accepted, chosen, revision) = (Ballot::NONE, true, None);
        Message::QueryAnswer { epoch: EPOCH, key: key(), read, accepted, chosen, revision }
    };
    driven.hears(OTHER, knows_nothing(former));
    driven.passes(25);
    assert_eq!(status(&driven), DatabaseStatus::Synchronizing);
    driven.hears(OTHER, knows_nothing(later));
    driven.passes(25);
    assert_eq!(status(&driven), DatabaseStatus::Online);
}

/// The answer to the newest pull of the other node's feed: all of it.
fn whole_feed(sent: &[(NodeId, Message)]) -> Message {
    let request = sent.iter().rev().find_map(|(to, message)| match message {
        Message::FeedRequest { request, .. } if *to == OTHER => Some(*request),
        _ => None,
    });
    let (request, entries) = (request.expect("a pull"), Vec::new());
    Message::FeedBatch { request, feed: FEED, after: 0, through: HEAD, remaining: 0, entries, epoch: EPOCH }
}

/// How old the alignment point is.
fn point_age_ms(driven: &Driven) -> Option<u64> {
    let now_unix_ms = WALL_MS + driven.now_ms;
    driven.replica.aligned().map(|point| now_unix_ms - point.unix_ms)
}

#[test]
fn an_alignment_that_took_long_samples_anew_before_it_ends() {
    for (milliseconds, samples_anew) in [(500, false), (2_000, true)] {
        let mut driven = Driven::voting(configuration(EPOCH, 3));
        driven.reaches(OTHER, true);
        driven.passes(25);
        let mut sent = driven.sends();
        let numbers = asked(&sent);
        sent.extend(answers_samples(&mut driven, numbers, 3));
        driven.passes(milliseconds);
        sent.extend(driven.sends());
        assert_eq!(status(&driven), DatabaseStatus::Synchronizing, "three entries are missing");
        driven.hears(OTHER, whole_feed(&sent));
        driven.passes(25);
        let online = status(&driven) == DatabaseStatus::Online;
        assert_eq!(online, !samples_anew, "after {milliseconds} ms; point {:?} ms ago", point_age_ms(&driven));
        driven.passes(25);
        let numbers = asked(&driven.sends());
        assert_eq!(numbers.is_empty(), !samples_anew);
        answers_samples(&mut driven, numbers, 0);
        assert_eq!(status(&driven), DatabaseStatus::Online);
        assert!(point_age_ms(&driven).is_some_and(|age_ms| age_ms < 1_000), "{:?}", point_age_ms(&driven));
    }
}

#[test]
fn the_point_is_when_the_first_sample_was_asked_for_whatever_the_wall_clock_does_meanwhile() {
    for by_ms in [0, -300, 300, -3_000_000, 3_000_000] {
        let (mut driven, numbers) = asking();
        let asked_ms = driven.now_ms;
        driven.passes(200);
        driven.sends();
        driven.wall_ms = driven.wall_ms.checked_add_signed(by_ms).unwrap();
        answers_samples(&mut driven, numbers, 0);
        assert_eq!(status(&driven), DatabaseStatus::Online);
        assert_eq!(driven.replica.aligned_ms(), asked_ms);
        let point_ms = driven.replica.aligned().unwrap().unix_ms;
        // What is acknowledged after the request is after the point by the clock as it was and by the clock as it is.
        assert_eq!(point_ms, (WALL_MS + asked_ms).min(driven.wall_ms + asked_ms), "clock set by {by_ms} ms");
    }
}

#[test]
fn a_node_is_not_online_before_a_quorum_has_said_how_far_its_log_was() {
    let mut driven = Driven::new(configuration(EPOCH, 3));
    driven.reaches(OTHER, true);
    driven.reaches(THIRD, true);
    driven.passes(25);
    let numbers = asked(&driven.sends());
    answers_samples(&mut driven, numbers, 0);
    driven.passes(200);
    assert_eq!(status(&driven), DatabaseStatus::Synchronizing, "its disk may be an older one");
    driven.hears(OTHER, Message::Recalled { feed: 0, durable: 0, incarnation: 0 });
    driven.passes(25);
    assert_eq!(status(&driven), DatabaseStatus::Online, "two of three remember no more than is here");
}

/// Nodes that were asked for their feed.
fn pulled(sent: &[(NodeId, Message)]) -> Vec<NodeId> {
    sent.iter().filter(|(_, message)| matches!(message, Message::FeedRequest { .. })).map(|(to, _)| *to).collect()
}

#[test]
fn a_source_that_is_not_needed_is_pulled_from_seldom_until_the_other_one_is_drained() {
    let (mut driven, numbers) = asking();
    let other: Vec<_> = numbers.iter().filter(|(node, _)| *node == OTHER).copied().collect();
    // The third node's sample comes too late to count.
    let sent = answers_samples(&mut driven, other, 1_000);
    let answers_third = |driven: &mut Driven, sent: &[(NodeId, Message)]| {
        for (to, message) in sent {
            if let Message::FeedRequest { request, after, .. } = message
                && *to == THIRD
            {
                let (request, after, epoch) = (*request, *after, EPOCH);
                let (through, remaining, entries) = (after + 1, 1_000, Vec::new());
                driven.hears(
                    THIRD,
                    Message::FeedBatch { request, feed: FEED, after, through, remaining, entries, epoch },
                );
            }
        }
    };
    answers_third(&mut driven, &sent);
    let mut pulls = 0;
    for _ in 0..80 {
        driven.passes(25);
        let sent = driven.sends();
        pulls += pulled(&sent).into_iter().filter(|node| *node == THIRD).count();
        answers_third(&mut driven, &sent);
    }
    assert!((3..=5).contains(&pulls), "{pulls} pulls in two seconds");
}

#[test]
fn a_source_of_which_little_is_left_is_asked_first_and_the_others_a_little_later() {
    let (mut driven, numbers) = asking();
    let other: Vec<_> = numbers.iter().filter(|(node, _)| *node == OTHER).copied().collect();
    let mut sent = answers_samples(&mut driven, other, 3);
    // The third node has much; its sample comes too late to count.
    let pull = sent.iter().rev().find_map(|(to, message)| match message {
        Message::FeedRequest { request, after, .. } if *to == THIRD => Some((*request, *after)),
        _ => None,
    });
    if let Some((request, after)) = pull {
        let (through, remaining, entries) = (after + 1, 100_000, Vec::new());
        driven
            .hears(THIRD, Message::FeedBatch { request, feed: FEED, after, through, remaining, entries, epoch: EPOCH });
    }
    driven.passes(2_000);
    sent.extend(driven.sends());
    driven.hears(OTHER, whole_feed(&sent));
    driven.passes(50);
    let whom = |sent: &[(NodeId, Message)]| asked(sent).into_iter().map(|(node, _)| node).collect::<Vec<_>>();
    assert_eq!(whom(&driven.sends()), [OTHER], "the samples are old; the near source is enough");
    driven.passes(500);
    assert!(whom(&driven.sends()).contains(&THIRD), "the near one has not answered");
}
