//! What must be true of a collection after everything has healed.

use std::collections::{BTreeMap, BTreeSet};

/// What clients know about a collection.
#[derive(Debug, Default, Clone)]
pub struct Ledger {
    /// Newest acknowledged version of each key that was not deleted afterwards.
    pub acknowledged: BTreeMap<String, u64>,
    /// Keys whose last request was an acknowledged delete.
    pub deleted: BTreeSet<String>,
    /// Keys that were ever sent; an unknown outcome may have left any of them.
    pub sent: BTreeSet<String>,
}

impl Ledger {
    /// A write is on its way.
    pub fn sends(&mut self, key: &str) {
        self.sent.insert(key.to_owned());
    }

    /// A write was acknowledged.
    pub fn acknowledge(&mut self, key: &str, version: u64) {
        self.sends(key);
        self.deleted.remove(key);
        let newest = self.acknowledged.entry(key.to_owned()).or_default();
        *newest = version.max(*newest);
    }

    /// A delete was acknowledged, and nothing was sent for the key since.
    pub fn delete(&mut self, key: &str) {
        self.sends(key);
        self.acknowledged.remove(key);
        self.deleted.insert(key.to_owned());
    }

    /// Takes the results of a batch: every line has to be a success.
    pub fn take_batch(&mut self, results: &str) -> usize {
        let mut count = 0;
        for line in results.lines() {
            let result: serde_json::Value = serde_json::from_str(line).expect("NDJSON");
            assert!(matches!(result["status"].as_u64(), Some(200 | 201)), "refused: {line}");
            self.acknowledge(result["key"].as_str().expect("_key"), result["version"].as_u64().expect("version"));
            count += 1;
        }
        count
    }

    /// Everything that an export says against what clients know.
    pub fn faults(&self, export: &str) -> Vec<String> {
        let mut faults = Vec::new();
        let mut found: BTreeMap<String, u64> = BTreeMap::new();
        let mut last = String::new();
        for line in export.lines() {
            let document: serde_json::Value = serde_json::from_str(line).expect("NDJSON");
            let key = document["_key"].as_str().expect("_key").to_owned();
            if !last.is_empty() && key <= last {
                faults.push(format!("{key} stands behind {last}: not in key order, or twice"));
            }
            if !self.sent.contains(&key) {
                faults.push(format!("{key} is there and was never sent"));
            }
            if self.deleted.contains(&key) {
                faults.push(format!("{key} was deleted and is there again"));
            }
            last.clone_from(&key);
            found.insert(key, document["_version"].as_u64().expect("_version"));
        }
        for (key, version) in &self.acknowledged {
            match found.get(key) {
                None => faults.push(format!("{key} was acknowledged at version {version} and is lost")),
                Some(there) if there < version => {
                    faults.push(format!("{key} was acknowledged at version {version} and is at version {there}"));
                }
                Some(_) => {}
            }
        }
        faults
    }

    /// Fails with the first faults, if there are any.
    pub fn check(&self, export: &str) {
        let faults = self.faults(export);
        let first: Vec<&String> = faults.iter().take(20).collect();
        assert!(faults.is_empty(), "{} faults: {first:#?}", faults.len());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_of_fault_is_found() {
        let mut ledger = Ledger::default();
        ledger.take_batch("{\"status\":201,\"key\":\"a\",\"version\":1}\n{\"status\":200,\"key\":\"b\",\"version\":3}");
        ledger.acknowledge("d", 1);
        ledger.delete("d");
        ledger.sends("u");
        ledger
            .check("{\"_key\":\"a\",\"_version\":2}\n{\"_key\":\"b\",\"_version\":3}\n{\"_key\":\"u\",\"_version\":1}");
        for (export, fault) in [
            ("{\"_key\":\"b\",\"_version\":3}", "a was acknowledged at version 1 and is lost"),
            ("{\"_key\":\"a\",\"_version\":1}\n{\"_key\":\"b\",\"_version\":2}", "is at version 2"),
            (
                "{\"_key\":\"a\",\"_version\":1}\n{\"_key\":\"b\",\"_version\":3}\n{\"_key\":\"d\",\"_version\":1}",
                "again",
            ),
            (
                "{\"_key\":\"a\",\"_version\":1}\n{\"_key\":\"b\",\"_version\":3}\n{\"_key\":\"z\",\"_version\":1}",
                "never sent",
            ),
            ("{\"_key\":\"b\",\"_version\":3}\n{\"_key\":\"a\",\"_version\":1}", "not in key order"),
        ] {
            let faults = ledger.faults(export);
            assert!(faults.len() == 1 && faults[0].contains(fault), "{fault}: {faults:?}");
        }
    }
}
