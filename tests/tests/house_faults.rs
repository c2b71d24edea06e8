//! Deliberate faults (`node/protocol/src/faults.rs`) never reach a release: no default, enabled by test packages alone,
//! and not to be found in the programs.

use coequal_tests::binaries::root;
use serde_json::Value;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

const FEATURE: &str = "deliberate-faults";
/// Packages that may enable the faults: tests, and not among those that are built by default.
const MAY_ENABLE: &[&str] = &["coequal-model", "coequal-simulation"];
/// Packages that are shipped.
const SHIPPED: &[&str] = &["coequal-node", "coequal-operator"];
/// Programs that are shipped.
const PROGRAMS: &[&str] = &["coequal-node", "coequal-operator"];

fn cargo(arguments: &[&str]) -> String {
    let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned());
    let output = Command::new(cargo).current_dir(root()).args(arguments).output().expect("cargo runs");
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("text")
}

fn metadata() -> Value {
    let arguments = ["metadata", "--offline", "--locked", "--no-deps", "--format-version", "1"];
    serde_json::from_str(&cargo(&arguments)).expect("JSON")
}

fn strings(list: &Value) -> Vec<&str> {
    list.as_array().into_iter().flatten().filter_map(Value::as_str).collect()
}

/// Whether one of a package's dependencies, of whatever kind, is asked for with the faults.
fn enables(package: &Value) -> bool {
    let dependencies = package["dependencies"].as_array().expect("dependencies");
    let named = |feature: &&str| *feature == FEATURE || feature.ends_with(&format!("/{FEATURE}"));
    dependencies.iter().any(|dependency| strings(&dependency["features"]).iter().any(named))
}

#[test]
fn faults_are_no_default_and_only_test_packages_enable_them() {
    let metadata = metadata();
    let packages = metadata["packages"].as_array().expect("packages");
    let mut enabling = Vec::new();
    for package in packages {
        let name = package["name"].as_str().expect("a name");
        for (feature, means) in package["features"].as_object().expect("features") {
            let forwards = strings(means).iter().any(|means| means.ends_with(FEATURE));
            assert!(!forwards || feature == FEATURE, "{name}: the feature {feature} brings faults with it");
        }
        if enables(package) {
            enabling.push(name);
            assert!(MAY_ENABLE.contains(&name), "{name} enables {FEATURE}; only {MAY_ENABLE:?} may");
            let id = &package["id"];
            let default = metadata["workspace_default_members"].as_array().expect("default members");
            assert!(!default.contains(id), "{name} enables {FEATURE} and is built by default");
        }
        let brings = |dependency: &&Value| MAY_ENABLE.contains(&dependency["name"].as_str().unwrap_or_default());
        let brought = package["dependencies"].as_array().expect("dependencies").iter().find(brings);
        assert!(brought.is_none() || MAY_ENABLE.contains(&name), "{name} depends on a package with faults");
    }
    assert!(enabling.contains(&"coequal-model"), "the check sees nobody enable {FEATURE}: {enabling:?}");
}

#[test]
fn shipped_packages_are_resolved_without_faults() {
    let tree = |package: &str| {
        cargo(&["tree", "--offline", "--locked", "-p", package, "-e", "normal,build", "--format", "{p} [{f}]"])
    };
    for package in SHIPPED {
        assert!(!tree(package).contains(FEATURE), "{package} is built with {FEATURE}");
    }
    assert!(tree("coequal-model").contains(FEATURE), "the check does not see {FEATURE} where it is");
}

/// Names and words of all faults, as the table in the source has them.
fn table() -> Vec<(String, String)> {
    let text = std::fs::read_to_string(root().join("node/protocol/src/faults.rs")).expect("the table of faults");
    let mut found = Vec::new();
    for line in text.lines().map(str::trim) {
        let parts: Vec<&str> = line.split('"').collect();
        if let [name, _, ", ", words, ";"] = parts.as_slice() {
            found.push((name.trim_end_matches(": ").to_owned(), (*words).to_owned()));
        }
    }
    assert!(found.len() >= 40, "only {} faults were read", found.len());
    found
}

/// A program as it is shipped: beside it there may be one of the same name that was built for tests.
fn shipped(name: &str) -> PathBuf {
    let built = std::env::var_os("COEQUAL_BIN_DIR").map_or_else(|| root().join("target/release"), PathBuf::from);
    let path = built.join(name);
    assert!(path.exists(), "{} is not built; run `cargo build --locked --release --bins` first", path.display());
    path
}

/// What of these texts a file contains. `grep` looks for all of them at once; a search of our own takes minutes unoptimised.
fn contained(path: &Path, texts: &[String]) -> String {
    let mut patterns = tempfile::NamedTempFile::new().expect("a file");
    patterns.write_all(texts.join("\n").as_bytes()).expect("written");
    let mut grep = Command::new("grep");
    grep.args(["--text", "--only-matching", "--fixed-strings", "--file"]).arg(patterns.path()).arg(path);
    let found = grep.env("LC_ALL", "C").output().expect("grep runs");
    assert!(matches!(found.status.code(), Some(0 | 1)), "grep: {}", String::from_utf8_lossy(&found.stderr));
    String::from_utf8_lossy(&found.stdout).into_owned()
}

#[test]
fn no_shipped_program_contains_a_fault() {
    let texts: Vec<String> = table().into_iter().flat_map(|(name, words)| [name, words]).collect();
    for program in PROGRAMS {
        let found = contained(&shipped(program), &texts);
        assert!(found.is_empty(), "{program} contains faults: {found}");
    }
    let itself = root().join("node/protocol/src/faults.rs");
    assert!(contained(&itself, &texts).lines().count() >= texts.len(), "the search finds them where they are");
}
