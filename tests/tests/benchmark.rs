//! The comparison with other systems (`bench/run`) must not rot: a short form of it runs over Coequal alone.

use coequal_tests::binaries::{program, root};
use coequal_tests::go::go;
use serde_json::Value;
use std::collections::BTreeSet;

/// What `bench/run -smoke` measures.
const WORKLOADS: usize = 12;
/// What it measures of a system alone.
const STEPS: usize = 10;

#[test]
fn a_short_form_of_the_benchmark_measures_every_kind_of_workload() {
    let out = tempfile::tempdir().expect("a folder");
    let programs = program("coequal-operator").canonicalize().expect("the programs");
    let (out, programs) =
        (out.path().to_str().expect("a path"), programs.parent().expect("a folder").display().to_string());
    let arguments = ["run", ".", "-smoke", "-systems", "coequal", "-out", out, "-programs", &programs];
    match go("bench/compare", &arguments) {
        Err(reason) => println!("\nSKIPPED a_short_form_of_the_benchmark_measures_every_kind_of_workload: {reason}"),
        Ok((false, text)) => panic!("{text}"),
        Ok((true, text)) => {
            let results = std::fs::read_to_string(format!("{out}/results.json")).expect("results.json");
            let results: Value = serde_json::from_str(&results).expect("JSON");
            let measured = results["measured"].as_object().expect("measurements");
            assert_eq!(measured.len(), WORKLOADS, "{text}");
            for (name, outcome) in measured {
                let round = &outcome[0]["rounds"][0];
                assert!(round["requests"].as_u64() > Some(0), "{name}: {text}");
                assert_eq!(round["errors"].as_object().map_or(0, serde_json::Map::len), 0, "{name}: {text}");
            }
            let alone = results["alone"].as_array().expect("what is measured of a system alone");
            let steps: BTreeSet<&str> = alone.iter().filter_map(|figure| figure["step"].as_str()).collect();
            assert_eq!(steps.len(), STEPS, "{steps:?}: {text}");
            for figure in alone {
                let values = figure["values"]["coequal"].as_array().expect("values of each round");
                assert!(values.iter().all(|value| value.as_f64().is_some_and(f64::is_finite)), "{figure}");
            }
            for file in ["table.md", "rates.svg", "p99.svg"] {
                assert!(std::path::Path::new(out).join(file).exists(), "{file} in {}", root().display());
            }
        }
    }
}
