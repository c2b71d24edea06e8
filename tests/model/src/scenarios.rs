//! Which searches are made: each small enough to be looked at whole, together touching every rule of a document.

use crate::checking::{Happens, Search};
use crate::register::{Bounds, Plan, What};
use bytes::Bytes;
use coequal_protocol::faults::Fault;
use coequal_protocol::message::{Condition, Operation, OperationKind};
use coequal_protocol::revision::RequestId;
use coequal_types::{Configuration, DatabaseId, DatabaseSettings, NodeId, WriteQuorum};

/// A configuration of so many voters.
pub fn voters(count: u64) -> Configuration {
    Configuration {
        name: "orders".parse().unwrap(),
        uuid: DatabaseId::from_u128(7),
        epoch: 1,
        voters: (1..=count).map(NodeId).collect(),
        joint_with: None,
        learners: vec![],
        excluded: vec![],
        joined: Default::default(),
        dropped_uuids: vec![],
        settings: DatabaseSettings::default(),
        dropped: false,
        low_bound: coequal_types::LowBound::default(),
    }
}

fn body(name: &str) -> Bytes {
    Bytes::from(format!("{{\"{name}\":1}}"))
}

fn operation(kind: OperationKind, condition: Condition) -> Operation {
    Operation { kind, condition, request: None }
}

fn put(name: &str) -> Operation {
    operation(OperationKind::Put(body(name)), Condition::Any)
}

fn put_at(name: &str, version: u64) -> Operation {
    operation(OperationKind::Put(body(name)), Condition::Version(version))
}

fn create(name: &str) -> Operation {
    operation(OperationKind::Create(body(name)), Condition::Any)
}

fn delete() -> Operation {
    operation(OperationKind::Delete, Condition::Any)
}

fn requested(id: u128, operation: Operation) -> Operation {
    Operation { request: Some((RequestId(id), 1)), ..operation }
}

fn write(at: usize, operation: Operation) -> Plan {
    Plan { at, what: What::Write { operation, generated: false }, after: None }
}

fn generated(at: usize, operation: Operation) -> Plan {
    Plan { at, what: What::Write { operation, generated: true }, after: None }
}

fn read(at: usize) -> Plan {
    Plan { at, what: What::Read, after: None }
}

fn again(at: usize, first: usize) -> Plan {
    Plan { at, what: What::Again(first), after: Some(first) }
}

fn after(call: usize, plan: Plan) -> Plan {
    Plan { after: Some(call), ..plan }
}

fn bounds(name: &'static str, nodes: u64, plan: Vec<Plan>) -> Bounds {
    Bounds {
        name,
        configuration: voters(nodes),
        plan,
        crashes: 0,
        repeats: 0,
        rounds_max: 1,
        slow_disk: false,
        bound: 4,
        ahead: 0,
        cut: None,
        tells: false,
        expires: false,
        fault: None,
    }
}

/// All searches, with this rule broken.
pub fn all(fault: Option<Fault>) -> Vec<Search> {
    let mut all = healthy();
    all.extend(crashing());
    all.extend(troubled());
    all.iter_mut().for_each(|search| search.bounds.fault = fault);
    all
}

/// Writers and readers beside each other.
fn healthy() -> Vec<Search> {
    vec![
        Search::new(
            bounds("two writes at once on two nodes", 2, vec![write(0, create("a")), write(1, put("b"))]),
            &[Happens::Written, Happens::Rejected, Happens::RoundLost],
        ),
        Search::new(
            Bounds {
                rounds_max: 0,
                ..bounds("two writes at once", 3, vec![write(0, create("a")), write(1, put("b"))])
            },
            &[Happens::Written, Happens::Rejected, Happens::RoundLost],
        ),
        Search::new(
            bounds("a generated key that somebody guessed", 3, vec![generated(0, create("a")), write(1, put("b"))]),
            &[Happens::Written, Happens::Creation, Happens::RoundLost],
        ),
        Search::new(
            Bounds {
                rounds_max: 0,
                ..bounds(
                    "one-round writes beside another writer",
                    3,
                    vec![write(0, put("a")), after(0, write(0, put("b"))), write(1, put_at("c", 1))],
                )
            },
            &[Happens::Written, Happens::OneRound, Happens::RoundLost],
        ),
        Search::new(
            Bounds {
                rounds_max: 0,
                ..bounds("two reads beside a write", 3, vec![write(0, put("a")), read(1), after(1, read(2))])
            },
            &[Happens::Written, Happens::ReadSomething, Happens::ReadNothing, Happens::ReadSettles],
        ),
    ]
}

/// Two writers that hear of each other through the third node alone, which may crash.
fn meeting_at_the_third(name: &'static str) -> Bounds {
    let both = vec![write(0, put("a")), write(1, put("b"))];
    Bounds { crashes: 1, rounds_max: 0, cut: Some((0, 1)), ahead: 2, ..bounds(name, 3, both) }
}

/// Crashes, and what a slow disk or only memory had.
fn crashing() -> Vec<Search> {
    vec![
        Search::new(
            Bounds {
                crashes: 1,
                rounds_max: 0,
                ..bounds("a retry after a crash", 3, vec![write(0, requested(1, put("a"))), again(1, 0)])
            },
            &[Happens::Written, Happens::Unknown],
        ),
        Search::new(
            Bounds {
                crashes: 1,
                slow_disk: true,
                rounds_max: 0,
                ..bounds("a crash before the disk has it", 3, vec![write(0, put("a")), after(0, write(1, put("b")))])
            },
            &[Happens::Written, Happens::Unknown],
        ),
        Search::new(
            meeting_at_the_third("a crash that forgets a promise"),
            &[Happens::Written, Happens::RoundLost, Happens::PromiseInMemory, Happens::PromiseLost],
        ),
        Search::new(
            Bounds { bound: 0, slow_disk: true, ..meeting_at_the_third("a crash before the bound is on disk") },
            &[Happens::Written, Happens::RoundLost],
        ),
        Search::new(
            Bounds {
                crashes: 1,
                rounds_max: 0,
                ..bounds("a guessed key and a crash", 3, vec![generated(0, create("a")), write(1, put("b"))])
            },
            &[Happens::Written, Happens::Creation],
        ),
    ]
}

/// Repeated messages, deadlines, deletes, and a quorum of all.
fn troubled() -> Vec<Search> {
    vec![
        Search::new(
            Bounds {
                repeats: 1,
                rounds_max: 1,
                tells: true,
                ..bounds("a message that comes twice", 2, vec![write(0, put("a")), write(1, put_at("b", 1))])
            },
            &[Happens::Written, Happens::Rejected, Happens::RoundLost],
        ),
        Search::new(
            Bounds {
                expires: true,
                rounds_max: 1,
                ..bounds("deadlines", 2, vec![write(0, create("a")), write(1, delete())])
            },
            &[Happens::Written, Happens::Rejected, Happens::Unknown, Happens::NotApplied],
        ),
        Search::new(
            bounds(
                "deleted and created again",
                2,
                vec![
                    write(0, put("a")),
                    after(0, write(1, delete())),
                    after(1, write(0, create("b"))),
                    after(0, read(1)),
                ],
            ),
            &[Happens::Written, Happens::ReadSomething],
        ),
        Search::new(
            Bounds {
                configuration: {
                    let mut all = voters(3);
                    all.settings.write_quorum = WriteQuorum::All;
                    all
                },
                ..bounds("every node has to have it", 3, vec![write(0, put("a")), read(1)])
            },
            &[Happens::Written, Happens::ReadSomething],
        ),
    ]
}

/// Searches that are too large to be looked at whole: walked at random.
pub fn wide(fault: Option<Fault>) -> Vec<Search> {
    let plan = vec![
        generated(0, requested(1, create("a"))),
        write(1, requested(2, put_at("b", 1))),
        again(2, 0),
        after(0, write(0, put("c"))),
        after(3, write(0, put("d"))),
        write(2, requested(3, delete())),
        again(1, 5),
        again(0, 1),
        read(0),
        after(8, read(1)),
        after(9, read(2)),
        after(5, write(1, create("e"))),
    ];
    // Of a key that no node makes up, all promises are kept in memory.
    let mut chosen_by_clients = plan.clone();
    for call in &mut chosen_by_clients {
        if let What::Write { generated, .. } = &mut call.what {
            *generated = false;
        }
    }
    let wide = |name, nodes, slow_disk, plan: &[Plan]| {
        let small = bounds(name, nodes, plan.to_vec());
        Bounds { crashes: 4, repeats: 8, rounds_max: 6, tells: true, expires: true, slow_disk, ..small }
    };
    let searches = [
        wide("three nodes", 3, false, &plan),
        wide("three nodes, slow disks", 3, true, &plan),
        wide("three nodes, a key of clients", 3, true, &chosen_by_clients),
        wide("five nodes", 5, true, &plan),
    ];
    searches.into_iter().map(|bounds| Search::new(Bounds { fault, ..bounds }, &[])).collect()
}
