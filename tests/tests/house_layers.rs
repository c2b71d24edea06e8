//! The rooms of the house and the arrows between them, held on every line of product code.
//! ARCHITECTURE.md draws the same table. What is not listed as allowed is refused.

use coequal_tests::binaries::root;
use coequal_tests::source::{self, Source};

/// A room: the files in it, and how paths name it.
struct Room {
    name: &'static str,
    /// Its files begin with one of these.
    files: &'static [&'static str],
    /// Paths to it begin like this, from the crate's name on.
    path: &'static str,
    /// Rooms that it may name.
    sees: &'static [&'static str],
}

/// The one table of arrows. The first room that matches a file or a path is taken.
const ROOMS: &[Room] = &[
    Room { name: "types", files: &["node/types/"], path: "coequal_types", sees: &[] },
    Room { name: "protocol", files: &["node/protocol/"], path: "coequal_protocol", sees: &["types"] },
    Room {
        name: "storage",
        files: &["node/src/storage/"],
        path: "coequal_node::storage",
        sees: &["protocol", "types"],
    },
    Room { name: "tls", files: &["node/src/tls/"], path: "coequal_node::tls", sees: &[] },
    Room {
        name: "network",
        files: &["node/src/network/"],
        path: "coequal_node::network",
        sees: &["tls", "protocol", "types"],
    },
    Room {
        name: "replication",
        files: &["node/src/replication/"],
        path: "coequal_node::replication",
        sees: &["storage", "network", "protocol", "types"],
    },
    Room {
        name: "api",
        files: &["node/src/api/", "node/src/dashboard/"],
        path: "coequal_node::api",
        sees: &["replication", "tls", "protocol", "types"],
    },
    Room { name: "node arguments", files: &["node/src/args.rs"], path: "coequal_node::args", sees: &["types"] },
    Room {
        name: "node",
        files: &["node/src/"],
        path: "coequal_node",
        sees: &["node arguments", "api", "replication", "storage", "network", "tls", "protocol", "types"],
    },
    Room { name: "crd", files: &["operator/src/crd/"], path: "coequal_operator::crd", sees: &["types"] },
    Room {
        name: "decisions",
        files: &["operator/src/controller/decisions/"],
        path: "coequal_operator::controller::decisions",
        sees: &["controller", "crd", "types"],
    },
    Room {
        name: "controller",
        files: &["operator/src/controller/"],
        path: "coequal_operator::controller",
        sees: &["decisions", "crd", "types"],
    },
    Room {
        name: "nodes",
        files: &["operator/src/nodes/"],
        path: "coequal_operator::nodes",
        sees: &["decisions", "controller", "crd", "types"],
    },
    // What a wish becomes, on values only: the same wish gives the same objects.
    Room {
        name: "build",
        files: &[
            "operator/src/kubernetes/build/",
            "operator/src/kubernetes/names.rs",
            "operator/src/kubernetes/plan.rs",
            "operator/src/kubernetes/pods.rs",
            "operator/src/kubernetes/security/names.rs",
            "operator/src/kubernetes/security/plan.rs",
            "operator/src/kubernetes/security/tokens.rs",
            "operator/src/kubernetes/status/",
            "operator/src/kubernetes/subset.rs",
        ],
        path: "coequal_operator::kubernetes::build",
        sees: &["kubernetes", "decisions", "controller", "crd", "types"],
    },
    Room {
        name: "kubernetes",
        files: &["operator/src/kubernetes/"],
        path: "coequal_operator::kubernetes",
        sees: &["operator", "build", "nodes", "decisions", "controller", "crd", "types"],
    },
    Room {
        name: "local",
        files: &["operator/src/local/"],
        path: "coequal_operator::local",
        sees: &["operator", "nodes", "decisions", "controller", "crd", "types", "node", "node arguments"],
    },
    Room {
        name: "plugin",
        files: &["operator/src/plugin/"],
        path: "coequal_operator::plugin",
        sees: &["kubernetes", "nodes", "controller", "crd", "types"],
    },
    // The hidden subcommand that runs a replica takes a node's arguments and hands them on.
    Room {
        name: "operator",
        files: &["operator/src/"],
        path: "coequal_operator",
        sees: &[
            "local",
            "kubernetes",
            "plugin",
            "nodes",
            "decisions",
            "controller",
            "crd",
            "types",
            "node",
            "node arguments",
        ],
    },
    Room { name: "bench", files: &["bench/"], path: "coequal_bench", sees: &[] },
    Room {
        name: "simulation",
        files: &["tests/simulation/"],
        path: "coequal_simulation",
        sees: &["replication", "storage", "protocol", "types"],
    },
    Room { name: "tests", files: &["tests/"], path: "coequal_tests", sees: &[] },
];

/// Crates and standard modules that only some rooms may name.
const OUTSIDE: &[(&str, &[&str], &str)] = &[
    ("redb", &["storage"], "the store can be replaced in one folder"),
    ("prost", &["network"], "the wire format can be replaced in one folder"),
    ("axum", &["api", "node", "kubernetes"], "HTTP is the api's"),
    ("hyper", &["api"], "HTTP is the api's"),
    ("tower", &["api"], "HTTP is the api's"),
    ("kube", &["crd", "controller", "operator", "kubernetes", "plugin", "build"], "only the operator knows Kubernetes"),
    (
        "k8s_openapi",
        &["crd", "controller", "operator", "kubernetes", "plugin", "build"],
        "only the operator knows Kubernetes",
    ),
    (
        "reqwest",
        &["local", "nodes", "kubernetes"],
        "nodes speak frames with each other, not HTTP, and decisions do no I/O",
    ),
    ("rustls", &["tls", "nodes", "kubernetes", "plugin"], "TLS can be replaced in one folder"),
    ("tokio", &NOT_PURE, "decisions have no runtime"),
    ("std::time::Instant", &NOT_PURE, "decisions get the time as a value"),
    ("std::time::SystemTime", &NOT_PURE, "decisions get the time as a value"),
    ("std::fs", &NOT_PURE, "decisions do no I/O"),
    ("std::net", &NOT_PURE, "decisions do no I/O"),
    ("std::process", &NOT_PURE, "decisions do no I/O"),
    ("std::thread", &NOT_PURE, "decisions have no threads"),
    ("std::sync::Mutex", &NOT_PURE, "decisions have no threads"),
    ("std::sync::mpsc", &NOT_PURE, "decisions have no threads"),
    ("rand", &[], "randomness comes in as a value"),
    ("getrandom", &NOT_PURE, "randomness comes in as a value"),
];

const NOT_PURE: [&str; 15] = [
    "simulation",
    "nodes",
    "kubernetes",
    "plugin",
    "tls",
    "storage",
    "network",
    "replication",
    "api",
    "node",
    "node arguments",
    "local",
    "operator",
    "bench",
    "crd",
];

/// What the protocol's Cargo.toml may list: nothing there can do I/O.
const PROTOCOL_DEPENDENCIES: &[&str] =
    &["bytes", "coequal-types", "serde_json", "thiserror", "xxhash-rust", "proptest"];
const TYPES_DEPENDENCIES: &[&str] = &["bytes", "serde", "serde_json", "thiserror", "utoipa", "uuid", "proptest"];

fn room_of_file(path: &str) -> Option<&'static Room> {
    ROOMS.iter().find(|room| room.files.iter().any(|start| path.starts_with(start)))
}

/// Crate name and module of a file: `node/src/storage/log.rs` is `coequal_node`, `storage`, `log`.
fn module_of_file(path: &str) -> Vec<String> {
    let (folder, inside) = path.split_once("/src/").unwrap_or((path, ""));
    let name = match folder {
        "node/types" => "coequal_types",
        "node/protocol" => "coequal_protocol",
        "node" => "coequal_node",
        "operator" => "coequal_operator",
        "bench" => "coequal_bench",
        "tests/simulation" => "coequal_simulation",
        _ => "coequal_tests",
    };
    let inside = inside.trim_end_matches(".rs").trim_end_matches("/mod");
    let inside = if matches!(inside, "lib" | "main" | "mod") { "" } else { inside };
    std::iter::once(name).chain(inside.split('/').filter(|part| !part.is_empty())).map(str::to_owned).collect()
}

/// A path from the root of its crate on; `crate`, `self` and `super` are resolved.
fn resolve(module: &[String], segments: &[String]) -> String {
    let mut base: Vec<String> = match segments[0].as_str() {
        "crate" => module[..1].to_vec(),
        "self" => module.to_vec(),
        "super" => module.to_vec(),
        _ => return segments.join("::"),
    };
    let rest = segments.iter().skip_while(|segment| {
        if *segment == "super" {
            base.pop();
        }
        matches!(segment.as_str(), "crate" | "self" | "super")
    });
    let rest: Vec<String> = rest.cloned().collect();
    base.extend(rest);
    base.join("::")
}

fn begins(path: &str, start: &str) -> bool {
    path.strip_prefix(start).is_some_and(|rest| rest.is_empty() || rest.starts_with("::"))
}

/// Everything in a file that goes against the tables.
fn violations(source: &Source) -> Vec<String> {
    let Some(room) = room_of_file(&source.path) else {
        return vec![format!("{}: stands in no room; add it to the table", source.path)];
    };
    let module = module_of_file(&source.path);
    let mut found = Vec::new();
    for used in source.paths() {
        let path = resolve(&module, &used.segments);
        let place = format!("{}:{}", source.path, used.line);
        let target = ROOMS.iter().find(|other| begins(&path, other.path));
        if let Some(target) = target.filter(|target| target.name != room.name && !room.sees.contains(&target.name)) {
            found.push(format!("{place}: {} must not see {} ({path})", room.name, target.name));
        }
        for (name, rooms, why) in OUTSIDE {
            if begins(&path, name) && !rooms.contains(&room.name) && room.name != "tests" {
                found.push(format!("{place}: {} must not name {name} ({path}): {why}", room.name));
            }
        }
    }
    found
}

fn fail_if_any(found: &[String]) {
    assert!(found.is_empty(), "{} against the rules of the house:\n{}", found.len(), found.join("\n"));
}

#[test]
fn every_use_follows_the_arrows() {
    let sources = source::all(&root());
    let checked = sources.iter().filter(|source| !source.is_test_file());
    fail_if_any(&checked.flat_map(violations).collect::<Vec<_>>());
}

#[test]
fn a_wrong_use_is_found_in_every_form() {
    for (path, text, expected) in [
        ("node/src/storage/a.rs", "use crate::network::Network;", "storage must not see network"),
        ("node/src/storage/a.rs", "use super::super::api;", "storage must not see api"),
        (
            "node/src/network/wire/a.rs",
            "use crate::{\n  network::X,\n  storage::Y,\n};",
            "network must not see storage",
        ),
        ("node/src/api/a.rs", "fn f() { crate::storage::open() }", "api must not see storage"),
        ("node/src/replication/a.rs", "fn f() { super::super::api::x() }", "replication must not see api"),
        ("node/src/replication/a.rs", "use redb::Database;", "must not name redb"),
        ("node/protocol/src/a.rs", "use std::time::{Duration, Instant};", "must not name std::time::Instant"),
        ("node/protocol/src/a.rs", "fn f() { std::fs::read(x) }", "must not name std::fs"),
        ("node/types/src/a.rs", "use coequal_protocol::Key;", "types must not see protocol"),
        ("operator/src/controller/a.rs", "use coequal_node::server;", "controller must not see node"),
        ("operator/src/crd/a.rs", "use crate::controller::x;", "crd must not see controller"),
        ("node/src/main.rs", "use coequal_tests::cluster;", "node must not see tests"),
        ("node/src/main.rs", "use coequal_simulation::world;", "node must not see simulation"),
        ("tests/simulation/src/a.rs", "use coequal_node::api::x;", "simulation must not see api"),
        ("operator/src/controller/decisions/a.rs", "use std::fs;", "decisions must not name std::fs"),
        ("somewhere/src/a.rs", "", "stands in no room"),
    ] {
        let found = violations(&Source::new(path, text));
        assert!(found.len() == 1 && found[0].contains(expected), "{path} {text:?}: {found:?}");
    }
    for (path, text) in [
        ("node/src/storage/a.rs", "use super::log::Log; // like crate::network::Queue"),
        ("node/src/storage/a.rs", "const A: &str = \"crate::network::X\";"),
        ("node/src/replication/a.rs", "use crate::{network::Network, storage::Store};"),
        ("node/protocol/src/a.rs", "use std::time::Duration;"),
        ("node/protocol/src/a.rs", "#[cfg(test)]\nmod tests {\n  use std::fs::read;\n}"),
    ] {
        let found = violations(&Source::new(path, text));
        assert!(found.is_empty(), "{path} {text:?}: {found:?}");
    }
}

/// Words that no line of a pure room holds, however it came by them: a glob or an alias hides a path, not a word.
const IMPURE_WORDS: &[&str] =
    &["Instant", "SystemTime", "Mutex", "RwLock", "Condvar", "mpsc", "thread", "tokio", "rand"];

fn impure(source: &Source) -> Vec<String> {
    let mut found = Vec::new();
    for (line, code) in source.product_lines() {
        let mut words = code.split(|c: char| !c.is_alphanumeric() && c != '_');
        if let Some(word) = words.find(|word| IMPURE_WORDS.contains(word)) {
            found.push(format!("{}:{line}: a decision names {word}", source.path));
        }
    }
    found
}

#[test]
fn decisions_name_no_clock_thread_or_lock_by_any_way() {
    let sources = source::all(&root());
    let rooms = ["node/types/src/", "node/protocol/src/", "operator/src/controller/decisions/"];
    let pure = sources.iter().filter(|source| rooms.iter().any(|room| source.path.starts_with(room)));
    fail_if_any(&pure.flat_map(impure).collect::<Vec<_>>());
    let glob = Source::new("node/protocol/src/a.rs", "use std::time::*;\nfn f() { Instant::now() } // a Mutex");
    assert_eq!(impure(&glob), ["node/protocol/src/a.rs:2: a decision names Instant"]);
}

/// Names under `[dependencies]` and `[dev-dependencies]`.
fn dependencies(manifest: &str) -> Vec<String> {
    let mut inside = false;
    let mut found = Vec::new();
    for line in manifest.lines().map(str::trim) {
        if line.starts_with('[') {
            inside = line.ends_with("dependencies]");
        } else if inside && let Some((name, _)) = line.split_once(['.', '=', ' ']) {
            found.push(name.trim().to_owned());
        }
    }
    found
}

#[test]
fn the_protocol_and_the_types_depend_on_nothing_that_does_io() {
    for (path, allowed) in
        [("node/protocol/Cargo.toml", PROTOCOL_DEPENDENCIES), ("node/types/Cargo.toml", TYPES_DEPENDENCIES)]
    {
        let names = dependencies(&std::fs::read_to_string(root().join(path)).expect(path));
        assert!(names.len() > 2, "{path}: {names:?}");
        let odd: Vec<&String> = names.iter().filter(|name| !allowed.contains(&name.as_str())).collect();
        assert!(odd.is_empty(), "{path} lists {odd:?}; allowed are {allowed:?}");
    }
    assert_eq!(
        dependencies("[dependencies]\ntokio = \"1\"\nbytes.workspace = true\n[lints]\na = 1"),
        ["tokio", "bytes"]
    );
}

#[test]
fn only_tests_depend_on_the_tests_crate() {
    for path in ["node/types", "node/protocol", "node", "operator", "bench"] {
        let manifest = std::fs::read_to_string(root().join(path).join("Cargo.toml")).expect(path);
        assert!(!dependencies(&manifest).iter().any(|name| name == "coequal-tests"), "{path}");
    }
}
