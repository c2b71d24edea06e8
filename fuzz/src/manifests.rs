//! Manifests as local mode reads them: any text gives a cluster that keeps every rule, or faults in words.

use coequal_operator::controller::validate::validate;
use std::collections::BTreeSet;

/// Reads the text of a manifest.
pub fn check(data: &[u8]) {
    // A file that is not UTF-8 is refused before anything reads it.
    let Ok(text) = std::str::from_utf8(data) else { return };
    match validate(text) {
        Ok(cluster) => {
            assert!(!cluster.databases.is_empty(), "a cluster without a database: {cluster:?}");
            let names: BTreeSet<_> = cluster.databases.iter().map(|database| &database.name).collect();
            assert_eq!(names.len(), cluster.databases.len(), "a database twice: {cluster:?}");
            for ordinal in [0, cluster.replicas.saturating_sub(1)] {
                let node = cluster.node_name(ordinal).expect("a name for each node");
                assert_eq!(cluster.ordinal(&node), Some(ordinal));
            }
            assert_eq!(validate(text).as_ref(), Ok(&cluster), "the same text means the same");
        }
        Err(faults) => {
            assert!(!faults.0.is_empty(), "refused without a fault");
            for fault in &faults.0 {
                assert!(!fault.message.is_empty() && !fault.to_string().contains('\0'), "{fault:?}");
            }
        }
    }
}
