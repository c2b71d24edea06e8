//! Documents like the real ones: cities of the world. Deterministic at any count.
//!
//! With `COEQUAL_CITIES` (path of the whole list, `.ndjson.zst`) the real documents are used, as far as they reach.

use crate::binaries::root;
use std::fmt::Write as _;
use std::io::{BufRead as _, BufReader};

/// One document: its key, and its line of NDJSON with `_key` in front.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct City {
    /// `_key`.
    pub key: String,
    /// The line, without line end.
    pub line: String,
}

/// How many documents the real list has.
pub const ALL: usize = 171_075;

/// `count` documents with different keys.
pub fn cities(count: usize) -> Vec<City> {
    let mut found = real(count);
    let sample = sample();
    for at in found.len()..count {
        let base = &sample[at % sample.len()];
        let body = base.line.split_once(',').map_or("}", |(_, body)| body);
        let key = format!("{}-{at:07}", &base.key[..2]);
        found.push(City { line: format!("{{\"_key\":\"{key}\",{body}"), key });
    }
    found
}

/// Documents of an import: `COEQUAL_IMPORT_DOCUMENTS`, all if the real list is given, or else `small`.
pub fn import_size(small: usize) -> usize {
    let wish = std::env::var("COEQUAL_IMPORT_DOCUMENTS").ok().and_then(|text| text.parse().ok());
    wish.unwrap_or(if std::env::var_os("COEQUAL_CITIES").is_some() { ALL } else { small })
}

/// The body of a batch.
pub fn body(cities: &[City]) -> String {
    let mut text = String::with_capacity(cities.iter().map(|city| city.line.len() + 1).sum());
    for city in cities {
        let _ = writeln!(text, "{}", city.line);
    }
    text
}

fn city(line: String) -> City {
    let value: serde_json::Value = serde_json::from_str(&line).expect("a document");
    City { key: value["_key"].as_str().expect("_key").to_owned(), line }
}

fn real(count: usize) -> Vec<City> {
    let Some(path) = std::env::var_os("COEQUAL_CITIES") else { return Vec::new() };
    let file = std::fs::File::open(&path).unwrap_or_else(|e| panic!("COEQUAL_CITIES: {}: {e}", path.display()));
    let lines = BufReader::new(zstd::Decoder::new(file).expect("zstd")).lines();
    lines.take(count).map(|line| city(line.expect("text"))).collect()
}

fn sample() -> Vec<City> {
    let path = root().join("tests/data/cities-sample.ndjson");
    let text = std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    text.lines().map(|line| city(line.to_owned())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn generated_cities_have_different_keys_and_are_documents() {
        let all = cities(2_000);
        let keys: std::collections::BTreeSet<&String> = all.iter().map(|city| &city.key).collect();
        assert_eq!(keys.len(), 2_000);
        for city in &all {
            let value: serde_json::Value = serde_json::from_str(&city.line).expect("JSON");
            assert_eq!(value["_key"].as_str(), Some(city.key.as_str()));
            assert!(value["name"].is_string() && value["lat"].is_number(), "{value}");
        }
        assert_eq!(cities(2_000), all);
    }
}
