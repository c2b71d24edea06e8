//! What the project is built from: licences, no crate twice without a reason, nothing that was decided against.

use coequal_tests::binaries::root;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

/// Licences that go with Apache-2.0 in a binary without further duties than a notice.
const ALLOWED: &[&str] = &[
    "MIT",
    "Apache-2.0",
    "Apache-2.0 WITH LLVM-exception",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "ISC",
    "Zlib",
    "Unicode-3.0",
    "BSL-1.0",
    "CC0-1.0",
    "0BSD",
    "Unlicense",
    "MIT-0",
];

/// Crates that are there in several versions, each with the reason. A line that is not needed any more fails too.
const TWICE: &[(&str, &str)] = &[
    ("bit-vec", "certificates (rcgen) and proptest are between versions"),
    ("synstructure", "derive macros are between syn 2 and 3"),
    ("base64", "utoipa's and reqwest's trees have not met on one version"),
    ("hashbrown", "indexmap and kube's runtime are between versions"),
    ("getrandom", "ours is 0.3; uuid and proptest use 0.4"),
    ("syn", "derive macros are between 2 and 3; none of it is in a binary"),
    ("tower-http", "reqwest still uses 0.6; ours is 0.7"),
    ("rand", "stateright still uses 0.9, proptest 0.10; none of it is in a binary"),
    ("rand_core", "stateright still uses 0.9, proptest 0.10; none of it is in a binary"),
];

/// Crates that were decided against, with the reason.
const FORBIDDEN: &[(&str, &str)] = &[
    ("openssl", "one TLS library: rustls with ring"),
    ("openssl-sys", "one TLS library: rustls with ring"),
    ("native-tls", "one TLS library: rustls with ring"),
    ("aws-lc-rs", "one cryptography library: ring; aws-lc needs cmake to build"),
    ("aws-lc-sys", "one cryptography library: ring; aws-lc needs cmake to build"),
    ("bincode", "no longer maintained"),
    ("serde_yml", "unsound; serde_yaml is used"),
    ("rustls-pemfile", "no longer maintained; rustls-pki-types reads PEM"),
    ("async-std", "one runtime: tokio"),
    ("tonic", "frames between our nodes are our own"),
    ("rkyv", "five advisories in a year"),
    ("madsim", "forks of tokio stay behind"),
];

struct Package {
    name: String,
    version: String,
    license: Option<String>,
}

/// What is built on this machine, as cargo resolved it, without a network.
fn packages() -> Vec<Package> {
    let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned());
    let host = Command::new(std::env::var("RUSTC").unwrap_or_else(|_| "rustc".to_owned())).arg("-vV").output();
    let host = String::from_utf8(host.expect("rustc runs").stdout).expect("text");
    let host = host.lines().find_map(|line| line.strip_prefix("host: ")).expect("a host").to_owned();
    let output = Command::new(cargo)
        .current_dir(root())
        .args(["metadata", "--offline", "--locked", "--format-version", "1", "--filter-platform", &host])
        .output()
        .expect("cargo runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let metadata: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let nodes = metadata["resolve"]["nodes"].as_array().expect("nodes");
    let used: BTreeSet<String> = nodes.iter().map(|node| text(&node["id"])).collect();
    let all = metadata["packages"].as_array().expect("packages").iter();
    let used = all.filter(|package| used.contains(&text(&package["id"])));
    let found: Vec<Package> = used
        .map(|package| Package {
            name: text(&package["name"]),
            version: text(&package["version"]),
            license: package["license"].as_str().map(str::to_owned),
        })
        .collect();
    assert!(found.len() > 100, "only {} packages", found.len());
    found
}

/// Whether a licence expression can be met by allowed licences alone.
fn is_allowed(expression: &str) -> bool {
    // Old manifests write a slash for OR.
    let text = expression.replace('/', " OR ").replace('(', " ( ").replace(')', " ) ");
    let words: Vec<&str> = text.split_whitespace().collect();
    let mut at = 0;
    let value = any(&words, &mut at);
    value && at == words.len()
}

fn any(words: &[&str], at: &mut usize) -> bool {
    let mut value = every(words, at);
    while words.get(*at) == Some(&"OR") {
        *at += 1;
        value |= every(words, at);
    }
    value
}

fn every(words: &[&str], at: &mut usize) -> bool {
    let mut value = one(words, at);
    while words.get(*at) == Some(&"AND") {
        *at += 1;
        value &= one(words, at);
    }
    value
}

fn one(words: &[&str], at: &mut usize) -> bool {
    if words.get(*at) == Some(&"(") {
        *at += 1;
        let value = any(words, at);
        *at += 1;
        return value;
    }
    let mut name = words.get(*at).copied().unwrap_or("").to_owned();
    *at += 1;
    if words.get(*at) == Some(&"WITH") {
        name += &format!(" WITH {}", words.get(*at + 1).unwrap_or(&""));
        *at += 2;
    }
    ALLOWED.contains(&name.as_str())
}

#[test]
fn licence_expressions_are_read_with_their_logic() {
    for good in [
        "MIT",
        "MIT/Apache-2.0",
        "GPL-3.0 OR MIT",
        "(MIT OR GPL-2.0) AND Unicode-3.0",
        "Apache-2.0 WITH LLVM-exception OR MIT",
    ] {
        assert!(is_allowed(good), "{good}");
    }
    for bad in
        ["", "GPL-3.0", "MPL-2.0", "MIT AND GPL-3.0", "(GPL-2.0 OR MPL-2.0) AND MIT", "LGPL-2.1 WITH x", "MIT garbage"]
    {
        assert!(!is_allowed(bad), "{bad}");
    }
}

#[test]
fn every_licence_is_allowed() {
    let odd: Vec<String> = packages()
        .into_iter()
        .filter(|package| !package.license.as_deref().is_some_and(is_allowed))
        .map(|package| format!("{} {}: {:?}", package.name, package.version, package.license))
        .collect();
    assert!(odd.is_empty(), "{odd:#?}");
}

#[test]
fn no_crate_is_there_twice_without_a_reason() {
    let mut versions: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for package in packages() {
        versions.entry(package.name).or_default().insert(package.version);
    }
    let twice: BTreeMap<_, _> = versions.into_iter().filter(|(_, versions)| versions.len() > 1).collect();
    let unlisted: Vec<_> = twice.iter().filter(|(name, _)| !TWICE.iter().any(|(listed, _)| listed == name)).collect();
    assert!(unlisted.is_empty(), "several versions without a reason: {unlisted:?}");
    let stale: Vec<_> = TWICE.iter().filter(|(name, _)| !twice.contains_key(*name)).collect();
    assert!(stale.is_empty(), "there only once by now, take it off the list: {stale:?}");
}

#[test]
fn nothing_that_was_decided_against_came_back() {
    let names: BTreeSet<String> = packages().into_iter().map(|package| package.name).collect();
    let found: Vec<_> = FORBIDDEN.iter().filter(|(name, _)| names.contains(*name)).collect();
    assert!(found.is_empty(), "{found:?}");
}
