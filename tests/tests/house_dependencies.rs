//! Licences and duplicates of all dependencies, from cargo's own metadata, without a network.

use coequal_tests::binaries::root;
use std::collections::{BTreeMap, BTreeSet};

const LICENCES: &[&str] = &[
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
    "bzip2-1.0.6",
];

/// Crates that may stand in the tree in several versions, with the one that needs the other.
const DUPLICATES: &[(&str, &str)] = &[
    ("base64", "reqwest and kube are between versions"),
    ("syn", "derive crates are between 2 and 3"),
    ("getrandom", "rand and uuid are between versions"),
    ("hashbrown", "indexmap and others are between versions"),
    ("rand", "proptest and others are between versions"),
    ("rand_core", "follows rand"),
    ("rand_chacha", "follows rand"),
    ("darling", "derive crates of kube"),
    ("darling_core", "follows darling"),
    ("darling_macro", "follows darling"),
    ("thiserror", "a dependency is still at 1"),
    ("thiserror-impl", "follows thiserror"),
    ("windows-sys", "not built on Linux"),
    ("windows-targets", "not built on Linux"),
    ("bitflags", "old and new side by side"),
    ("rustix", "fs4 and tempfile are between versions"),
    ("linux-raw-sys", "follows rustix"),
    ("tower-http", "reqwest brings its own"),
    ("r-efi", "not built on Linux"),
    ("cpufeatures", "hashing crates are between versions"),
    ("foldhash", "follows hashbrown"),
    ("wit-bindgen", "not built on Linux"),
    ("bit-vec", "certificates for tests (rcgen) are between versions"),
    ("synstructure", "derive crates are between syn 2 and 3"),
];

const FORBIDDEN: &[&str] =
    &["openssl", "openssl-sys", "native-tls", "aws-lc-rs", "aws-lc-sys", "serde_yml", "bincode", "rustls-pemfile"];

struct Package {
    name: String,
    version: String,
    licence: String,
}

fn packages() -> Vec<Package> {
    let output = std::process::Command::new(env!("CARGO"))
        .args([
            "metadata",
            "--format-version",
            "1",
            "--locked",
            "--offline",
            "--filter-platform",
            "x86_64-unknown-linux-gnu",
        ])
        .current_dir(root())
        .output()
        .expect("cargo metadata");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let metadata: serde_json::Value = serde_json::from_slice(&output.stdout).expect("json");
    let used: BTreeSet<String> = metadata["resolve"]["nodes"]
        .as_array()
        .expect("nodes")
        .iter()
        .map(|n| n["id"].as_str().expect("id").to_owned())
        .collect();
    let text = |value: &serde_json::Value| value.as_str().unwrap_or("").to_owned();
    let all = metadata["packages"].as_array().expect("packages").iter();
    all.filter(|p| used.contains(p["id"].as_str().unwrap_or("")))
        .map(|p| Package { name: text(&p["name"]), version: text(&p["version"]), licence: text(&p["license"]) })
        .collect()
}

/// Whether an SPDX expression can be satisfied by allowed licences alone.
fn allowed(expression: &str) -> bool {
    let expression = expression.replace('/', " OR ").replace(['(', ')'], " ");
    expression.split(" AND ").all(|part| part.split(" OR ").any(|licence| LICENCES.contains(&licence.trim())))
}

#[test]
fn every_licence_is_permissive() {
    let wrong: Vec<String> = packages()
        .iter()
        .filter(|p| !allowed(&p.licence))
        .map(|p| format!("{} {}: {:?}", p.name, p.version, p.licence))
        .collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(allowed("MIT OR GPL-3.0") && !allowed("GPL-3.0") && !allowed("MIT AND GPL-3.0"));
}

#[test]
fn no_crate_stands_twice_without_a_reason_and_no_forbidden_one_at_all() {
    let mut versions: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for package in packages() {
        assert!(!FORBIDDEN.contains(&package.name.as_str()), "{} is forbidden", package.name);
        versions.entry(package.name).or_default().insert(package.version);
    }
    let twice: Vec<String> = versions
        .iter()
        .filter(|(name, versions)| versions.len() > 1 && !DUPLICATES.iter().any(|(known, _)| known == name))
        .map(|(name, versions)| format!("{name}: {versions:?}"))
        .collect();
    assert!(twice.is_empty(), "{}", twice.join("\n"));
}
