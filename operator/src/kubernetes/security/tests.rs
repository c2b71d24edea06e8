//! What is made and renewed when; and that what is made is what nodes and clients take.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use super::held::{Authority, CERTIFICATE, Content, KEY, Leaf, MADE_BECAUSE, RENEWED, TRUSTED};
use super::plan::*;
use super::tokens::{ADMIN, READ_ONLY, TokenWork};
use super::{held, issue, names, tokens, verify};
use k8s_openapi::jiff::{SignedDuration, Timestamp};
use std::collections::BTreeMap;

const DAY: i64 = 24 * 3600;
const NOW: i64 = 1_800_000_000;

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

/// A life of `days` of which `gone` days are over.
fn life(days: i64, gone: i64) -> Validity {
    Validity { from: at(NOW - gone * DAY), until: at(NOW + (days - gone) * DAY) }
}

fn authority(gone: i64) -> AuthorityFacts {
    AuthorityFacts { validity: life(3650, gone), has_previous: false, is_urgent: true, renewed: None }
}

fn leaf(gone: i64) -> LeafFacts {
    LeafFacts {
        validity: life(90, gone),
        is_of_active: true,
        has_all_names: true,
        trusts_all: true,
        renewed: Some("before".into()),
    }
}

/// An authority that has just taken over, because of age or because a person asked.
fn taking_over(days_ago: i64, is_urgent: bool) -> AuthorityFacts {
    AuthorityFacts { has_previous: true, is_urgent, ..authority(days_ago) }
}

fn decided(
    authority: &Held<AuthorityFacts>,
    leaf: &Held<LeafFacts>,
    nodes: NodeFacts,
    asks: [Option<&str>; 2],
) -> Work {
    let [renew_leaf, renew_authority] = asks;
    next(&Facts { now: at(NOW), authority, leaf, nodes, renew_leaf, renew_authority })
}

#[test]
fn each_state_of_the_secrets_has_one_next_step() {
    use Held::{Absent, Broken, Good};
    let (none, trust) = (NodeFacts::default(), NodeFacts { trust_active: true, show_active: false });
    let all = NodeFacts { trust_active: true, show_active: true };
    let (garbage, asks) = (|| "garbage".to_owned(), [Some("before"), None]);
    let older = |gone| LeafFacts { is_of_active: false, ..leaf(gone) };
    let clients = Work::Wait("clients to take the new authority, for a week");
    let trusting = Work::Wait("every node to trust the new authority");
    let showing = Work::Wait("every node to show a certificate of the new authority");
    let table = [
        ("nothing yet", Absent, Absent, none, asks, Work::MakeAuthority(Why::Missing)),
        ("garbage", Broken(garbage()), Good(leaf(1)), none, asks, Work::MakeAuthority(Why::Broken(garbage()))),
        ("an authority alone", Good(authority(0)), Absent, none, asks, Work::Issue(Why::Missing)),
        ("a broken leaf", Good(authority(0)), Broken(garbage()), none, asks, Work::Issue(Why::Broken(garbage()))),
        ("all is well", Good(authority(1)), Good(leaf(1)), none, asks, Work::Nothing),
        ("a day before it is due", Good(authority(1)), Good(leaf(59)), none, asks, Work::Nothing),
        ("two thirds are over", Good(authority(1)), Good(leaf(60)), none, asks, Work::Issue(Why::Age)),
        ("expired", Good(authority(100)), Good(leaf(91)), none, asks, Work::Issue(Why::Expired)),
        ("a person asks", Good(authority(1)), Good(leaf(1)), none, [Some("now"), None], Work::Issue(Why::Asked)),
        (
            "a name is missing",
            Good(authority(1)),
            Good(LeafFacts { has_all_names: false, ..leaf(1) }),
            none,
            asks,
            Work::Issue(Why::Names),
        ),
        ("an old authority", Good(authority(2434)), Good(leaf(1)), none, asks, Work::MakeAuthority(Why::Age)),
        ("an expired authority", Good(authority(3650)), Good(leaf(1)), none, asks, Work::MakeAuthority(Why::Expired)),
        (
            "a person asks for an authority",
            Good(authority(1)),
            Good(leaf(1)),
            none,
            [Some("before"), Some("now")],
            Work::MakeAuthority(Why::Asked),
        ),
        (
            "one rotation at a time",
            Good(taking_over(0, true)),
            Good(older(1)),
            none,
            [Some("before"), Some("again")],
            trusting.clone(),
        ),
        (
            "first all are to trust both",
            Good(taking_over(0, true)),
            Good(LeafFacts { trusts_all: false, ..older(1) }),
            all,
            asks,
            Work::Trust,
        ),
        ("clients have a week", Good(taking_over(6, false)), Good(older(1)), all, asks, clients),
        ("not when it is urgent", Good(taking_over(0, true)), Good(older(1)), none, asks, trusting.clone()),
        ("nor near the end", Good(taking_over(6, false)), Good(older(81)), all, asks, Work::Issue(Why::NewAuthority)),
        ("a week is over", Good(taking_over(7, false)), Good(older(1)), none, asks, trusting),
        ("all trust it", Good(taking_over(7, false)), Good(older(1)), trust, asks, Work::Issue(Why::NewAuthority)),
        ("not all show it", Good(taking_over(7, false)), Good(leaf(0)), trust, asks, showing),
        ("all show it", Good(taking_over(7, false)), Good(leaf(0)), all, asks, Work::DropPrevious),
    ];
    for (case, authority, leaf, nodes, asks, expected) in table {
        assert_eq!(decided(&authority, &leaf, nodes, asks), expected, "{case}");
    }
}

fn content(texts: &[(&str, String)]) -> Content {
    let data = texts.iter().map(|(key, text)| ((*key).to_owned(), text.clone().into_bytes())).collect();
    Content { data, annotations: BTreeMap::new() }
}

/// A new authority, besides which `others` are trusted, as it stands in its Secret.
fn made(second: i64, others: &[&Authority]) -> (Content, Authority) {
    let pair = issue::authority("orders", "shop", at(second)).unwrap();
    let mut trusted = vec![issue::first(&pair).unwrap()];
    trusted.extend(others.iter().map(|other| other.trusted[0].clone()));
    let texts = [(CERTIFICATE, pair.certificate), (KEY, pair.key), (TRUSTED, issue::bundle(&trusted))];
    let content = content(&texts);
    let Held::Good(authority) = held::authority(Some(&content)) else { panic!("no authority") };
    (content, authority)
}

fn issued(authority: &Authority, second: i64) -> Content {
    let pair = issue::leaf(authority, "orders", "shop", at(second)).unwrap();
    content(&[(CERTIFICATE, pair.certificate), (KEY, pair.key), (TRUSTED, issue::bundle(&authority.trusted))])
}

fn read(content: &Content, authority: &Authority) -> Held<Leaf> {
    held::leaf(Some(content), authority, "orders", "shop")
}

#[test]
fn what_is_made_is_what_the_nodes_take() {
    let (_, authority) = made(NOW, &[]);
    let content = issued(&authority, NOW);
    let Held::Good(leaf) = read(&content, &authority) else { panic!("no leaf") };
    assert!(leaf.facts.is_of_active && leaf.facts.has_all_names && leaf.facts.trusts_all);
    assert_eq!(leaf.facts.validity.until, at(NOW + 90 * DAY));
    assert_eq!(authority.facts.validity.until, at(NOW + 3652 * DAY));
    let chain = held::certificates(&content, CERTIFICATE).unwrap();
    for name in ["orders-nodes.shop.svc", "orders-2.orders-nodes.shop.svc", "orders.shop.svc", "localhost", "::1"] {
        assert_eq!(verify::check(&chain, &leaf.trusted, name, NOW), Ok(()), "{name}");
    }
    for (name, second, wrong) in [
        ("users-nodes.shop.svc", NOW, "is not for the DNS name users-nodes.shop.svc"),
        ("orders-nodes.shop.svc", NOW + 91 * DAY, "has expired"),
        ("orders-nodes.shop.svc", NOW - DAY, "is not valid yet"),
    ] {
        let found = verify::check(&chain, &leaf.trusted, name, second).unwrap_err();
        assert!(found.contains(wrong), "{found}");
    }
    // A leaf never outlives its authority.
    let Held::Good(last) = read(&issued(&authority, NOW + 3650 * DAY), &authority) else { panic!("no leaf") };
    assert_eq!(last.facts.validity.until, authority.facts.validity.until);
}

#[test]
fn a_certificate_of_an_earlier_authority_is_known_as_such_and_one_of_a_stranger_is_not_used() {
    let (_, old) = made(NOW, &[]);
    let (_, new) = made(NOW + DAY, &[&old]);
    let (_, stranger) = made(NOW, &[]);
    let Held::Good(leaf) = read(&issued(&old, NOW), &new) else { panic!("no leaf") };
    assert_eq!((leaf.facts.is_of_active, leaf.facts.trusts_all), (false, false));
    assert!(new.facts.has_previous && !old.facts.has_previous);
    let Held::Broken(wrong) = read(&issued(&stranger, NOW), &new) else { panic!("a stranger's") };
    assert!(wrong.contains("not issued by an authority in ca.crt"), "{wrong}");
    // Lost with its key, an authority is still trusted for as long as nodes show its certificates.
    assert_eq!(held::still_trusted(Some(&issued(&new, NOW)), at(NOW)), new.trusted);
    assert_eq!(held::still_trusted(Some(&issued(&old, NOW)), at(NOW + 4000 * DAY)), []);
}

#[test]
fn garbage_in_a_secret_is_named() {
    let (good, authority) = made(NOW, &[]);
    let leaf = issued(&authority, NOW);
    let other_key = issued(&authority, NOW).data[KEY].clone();
    let with = |content: &Content, key: &str, value: Option<&[u8]>| {
        let mut changed = content.clone();
        match value {
            Some(value) => changed.data.insert(key.to_owned(), value.to_vec()),
            None => changed.data.remove(key),
        };
        changed
    };
    let table: [(&str, Option<&[u8]>, &str); 6] = [
        (CERTIFICATE, None, "it has no key tls.crt"),
        (CERTIFICATE, Some(b"garbage"), "tls.crt holds no certificate in PEM form"),
        (CERTIFICATE, Some(b"\xff"), "tls.crt is not text"),
        (KEY, Some(b"garbage"), "tls.key holds no private key"),
        (KEY, Some(&other_key), "tls.key does not go with tls.crt"),
        (KEY, None, "it has no key tls.key"),
    ];
    for (key, value, expected) in table {
        let Held::Broken(wrong) = read(&with(&leaf, key, value), &authority) else { panic!("{expected}") };
        assert!(wrong.contains(expected), "{wrong}");
        let Held::Broken(wrong) = held::authority(Some(&with(&good, key, value))) else { panic!("{expected}") };
        assert!(wrong.contains(expected), "{wrong}");
        let wrong = held::provided(&with(&leaf, key, value), "orders-nodes.shop.svc", at(NOW)).unwrap_err();
        assert!(wrong.contains(expected), "{wrong}");
    }
    let Held::Broken(wrong) = held::authority(Some(&leaf)) else { panic!("a leaf is no authority") };
    assert!(wrong.contains("no certificate of an authority"), "{wrong}");
    // Whom it trusts is put right without a new certificate.
    let Held::Good(found) = read(&with(&leaf, TRUSTED, Some(b"garbage")), &authority) else { panic!("no leaf") };
    assert!(!found.facts.trusts_all);
}

#[test]
fn a_provided_certificate_is_checked_at_this_moment_and_for_this_cluster() {
    let (_, authority) = made(NOW, &[]);
    let leaf = issued(&authority, NOW);
    let (_, validity) = held::provided(&leaf, "orders-nodes.shop.svc", at(NOW)).unwrap();
    assert_eq!(validity.until.duration_since(at(NOW)), SignedDuration::from_hours(90 * 24));
    for (name, second, expected) in
        [("users-nodes.shop.svc", NOW, "is not for the DNS name"), ("orders-nodes.shop.svc", NOW + 91 * DAY, "expired")]
    {
        let wrong = held::provided(&leaf, name, at(second)).unwrap_err();
        assert!(wrong.contains(expected), "{wrong}");
    }
}

#[test]
fn what_stands_at_a_secret_says_why_it_was_made() {
    let (mut content, _) = made(NOW, &[]);
    content.annotations = BTreeMap::from([(MADE_BECAUSE.into(), "age".into()), (RENEWED.into(), "x".into())]);
    let Held::Good(authority) = held::authority(Some(&content)) else { panic!("no authority") };
    assert_eq!((authority.facts.is_urgent, authority.facts.renewed.as_deref()), (false, Some("x")));
    assert_eq!(Why::Age.word(), "age");
}

#[test]
fn tokens_are_made_once_and_never_overwritten() {
    let (a, b) = ("admin-0123456789abcdef", "reader-0123456789abcdef");
    let both = |admin: &str, reader: &str| Some(vec![(ADMIN, admin.to_owned()), (READ_ONLY, reader.to_owned())]);
    let alone = |key: &'static str| Some(vec![(key, a.to_owned())]);
    // What the Secret holds, whether it is ours, and what is wrong with it or made.
    type Case<'a> = (&'a str, Option<Vec<(&'a str, String)>>, bool, Result<&'a [&'a str], &'a str>);
    let table: [Case; 10] = [
        ("none", None, true, Ok(&[ADMIN, READ_ONLY])),
        ("both", both(a, b), true, Ok(&[])),
        ("a person's", both(a, b), false, Ok(&[])),
        ("one is missing", alone(ADMIN), true, Ok(&[READ_ONLY])),
        ("the other is missing", alone(READ_ONLY), true, Ok(&[ADMIN])),
        ("a person's without one for reading", alone(ADMIN), false, Ok(&[])),
        ("a person's without one for all", alone(READ_ONLY), false, Err("has no key admin")),
        ("empty", both(" \n", b), true, Err("its key admin is empty")),
        ("too short", both(a, "short"), true, Err("its key read-only is no token")),
        ("the same", both(a, a), true, Err("are the same")),
    ];
    for (case, texts, is_ours, expected) in table {
        let data = texts.map(|texts| content(&texts).data);
        match (tokens::next(data.as_ref(), is_ours), expected) {
            (TokenWork::Nothing, Ok([])) => {}
            (TokenWork::Make(made), Ok(keys)) => assert_eq!(made, keys, "{case}"),
            (TokenWork::Wrong(wrong), Err(part)) => assert!(wrong.contains(part), "{case}: {wrong}"),
            (found, _) => panic!("{case}: {found:?}"),
        }
    }
    assert_eq!(tokens::token([0xab; 32]), "ab".repeat(32));
}

#[test]
fn keys_are_never_shown() {
    let (_, authority) = made(NOW, &[]);
    assert!(!format!("{authority:?}").contains("PRIVATE"));
    assert_eq!(names::subject_names("orders", "shop")[0], names::tls_name("orders", "shop"));
}
