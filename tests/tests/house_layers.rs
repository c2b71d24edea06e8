//! The rooms of the house and their doors, as ARCHITECTURE.md draws them.

use coequal_tests::binaries::root;
use std::fs;
use std::path::{Path, PathBuf};

/// (room, words that its sources must not name, why).
const WALLS: &[(&str, &[&str], &str)] = &[
    (
        "node/types/src",
        &[
            "coequal_protocol",
            "coequal_node",
            "tokio::",
            "std::fs",
            "std::net",
            "redb",
            "kube::",
            "Instant::now",
            "SystemTime",
            "std::thread",
        ],
        "types: no I/O, no clock, nobody above",
    ),
    (
        "node/protocol/src",
        &[
            "coequal_node",
            "tokio",
            "redb",
            "axum",
            "std::fs",
            "std::net",
            "std::thread",
            "Instant",
            "SystemTime",
            "rand::",
            "getrandom",
            "std::sync::mpsc",
            "Mutex",
        ],
        "protocol: no I/O, clock, randomness or threads",
    ),
    (
        "node/src/storage",
        &["crate::network", "crate::replication", "crate::api", "crate::server", "axum", "prost"],
        "storage sees nobody beside it",
    ),
    (
        "node/src/network",
        &["crate::storage", "crate::replication", "crate::api", "crate::server", "axum", "redb"],
        "network sees nobody beside it",
    ),
    (
        "node/src/replication",
        &["crate::api", "crate::server", "redb::", "axum", "prost"],
        "replication sees nobody above it",
    ),
    (
        "node/src/api",
        &["crate::storage", "crate::network", "crate::server", "redb", "prost"],
        "api asks replication only",
    ),
    (
        "operator/src/crd",
        &["coequal_node", "crate::controller", "crate::local", "crate::kubernetes", "crate::nodes"],
        "crd sees types only",
    ),
    (
        "operator/src/controller",
        &["coequal_node", "crate::local", "crate::kubernetes", "crate::nodes", "reqwest", "kube::"],
        "controller sees crd and types only",
    ),
    ("operator/src/controller/decisions", &["std::fs", "std::net", "tokio"], "decisions without I/O"),
    (
        "operator/src/nodes",
        &["coequal_node", "crate::local", "crate::kubernetes", "kube::"],
        "nodes sees the decisions' words and HTTP",
    ),
    ("operator/src/local", &["crate::kubernetes", "kube::"], "local mode knows no Kubernetes"),
    ("operator/src/kubernetes", &["coequal_node", "crate::local", "std::fs"], "kubernetes embeds no node"),
    (
        "operator/src/kubernetes/build",
        &["tokio", "reqwest", "kube::Api", "kube::Client", "Timestamp"],
        "build is pure: the same wish gives the same objects",
    ),
];

/// Files among others that do I/O, and stay pure themselves: no calls, no clock, no waiting.
const PURE_FILES: &[&str] = &[
    "operator/src/kubernetes/names.rs",
    "operator/src/kubernetes/plan.rs",
    "operator/src/kubernetes/pods.rs",
    "operator/src/kubernetes/status/mod.rs",
    "operator/src/kubernetes/subset.rs",
];

/// Places that may name redb.
const REDB: &str = "node/src/storage";

fn sources(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() {
            found.extend(sources(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
    found
}

/// Lines of code without comments and without inline test modules.
fn code(text: &str) -> Vec<(usize, &str)> {
    let mut lines = Vec::new();
    for (at, line) in text.lines().enumerate() {
        if line.trim_start().starts_with("#[cfg(test)]") {
            break;
        }
        if !line.trim_start().starts_with("//") {
            lines.push((at + 1, line));
        }
    }
    lines
}

fn is_test_file(path: &Path) -> bool {
    let name = path.file_name().and_then(|name| name.to_str()).unwrap_or("");
    name.ends_with("_test.rs") || name == "tests.rs" || path.components().any(|part| part.as_os_str() == "tests")
}

/// Faults of one room: file, line, the word.
fn breaches(text: &str, words: &[&str]) -> Vec<(usize, String)> {
    code(text)
        .into_iter()
        .flat_map(|(at, line)| {
            words.iter().filter(move |word| line.contains(**word)).map(move |word| (at, (*word).to_owned()))
        })
        .collect()
}

#[test]
fn no_room_names_what_lies_behind_its_walls() {
    let mut faults = Vec::new();
    for (room, words, why) in WALLS {
        let files = sources(&root().join(room));
        assert!(!files.is_empty(), "{room} is empty");
        for file in files.iter().filter(|file| !is_test_file(file)) {
            let text = fs::read_to_string(file).expect("source");
            for (line, word) in breaches(&text, words) {
                faults.push(format!("{}:{line} names {word} ({why})", file.display()));
            }
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

#[test]
fn files_that_only_decide_do_no_io() {
    for file in PURE_FILES {
        let text = fs::read_to_string(root().join(file)).expect("source");
        let words = ["async ", ".await", "tokio", "reqwest", "kube::Api", "kube::Client", "Timestamp::now", "Instant"];
        assert_eq!(breaches(&text, &words), Vec::new(), "{file}");
    }
}

#[test]
fn only_storage_names_redb_and_only_local_mode_embeds_a_node() {
    let mut faults = Vec::new();
    for file in sources(&root().join("node/src")).into_iter().chain(sources(&root().join("operator/src"))) {
        let shown = file.strip_prefix(root()).expect("inside").display().to_string();
        let text = fs::read_to_string(&file).expect("source");
        let outside_storage = !shown.starts_with(REDB);
        if outside_storage && !breaches(&text, &["redb::"]).is_empty() {
            faults.push(format!("{shown} names redb"));
        }
        let outside_local = !shown.starts_with("operator/src/local") && shown.starts_with("operator/");
        let parses = shown.ends_with("args.rs") || shown.ends_with("main.rs");
        if outside_local && !parses && !breaches(&text, &["coequal_node"]).is_empty() {
            faults.push(format!("{shown} names coequal_node"));
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

#[test]
fn the_protocol_depends_on_pure_crates_only() {
    let manifest = fs::read_to_string(root().join("node/protocol/Cargo.toml")).expect("manifest");
    let section =
        manifest.split("[dependencies]").nth(1).and_then(|rest| rest.split("\n[").next()).expect("dependencies");
    let pure = ["bytes", "coequal-types", "serde_json", "thiserror"];
    for line in section.lines().filter(|line| line.contains(".workspace")) {
        let name = line.split('.').next().unwrap_or("").trim();
        assert!(pure.contains(&name), "node/protocol depends on {name}");
    }
}

#[test]
fn files_stay_below_600_lines_and_nothing_unwraps_outside_tests() {
    let mut faults = Vec::new();
    for folder in ["node", "operator", "bench"] {
        for file in sources(&root().join(folder)).into_iter().filter(|file| !is_test_file(file)) {
            let shown = file.strip_prefix(root()).expect("inside").display().to_string();
            let text = fs::read_to_string(&file).expect("source");
            if text.lines().count() > 600 {
                faults.push(format!("{shown} has {} lines", text.lines().count()));
            }
            for (line, word) in
                breaches(&text, &[".unwrap()", ".expect(", "panic!(", "todo!(", "unimplemented!(", "dbg!("])
            {
                faults.push(format!("{shown}:{line} uses {word}"));
            }
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

#[test]
fn the_wall_test_sees_a_breach_and_no_comment() {
    let text = "// redb::Database in words\nuse redb::Database;\n#[cfg(test)]\nmod tests { use redb::Other; }\n";
    assert_eq!(breaches(text, &["redb::"]), vec![(2, "redb::".to_owned())]);
}
