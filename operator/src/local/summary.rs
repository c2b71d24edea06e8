//! The cluster as a whole, in words.

use super::node::LocalNode;
use super::ports::Ports;
use crate::controller::cluster_status::{Counted, reason};
use crate::controller::node_status::ShownStatus;
use crate::controller::observed::{Beginning, Observed};
use crate::controller::validate::ValidatedDatabaseCluster;
use crate::crd::ConditionReason;
use coequal_types::DatabaseName;
use std::time::Instant;

/// The cluster in one word and one number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Summary {
    reason: ConditionReason,
    online: usize,
}

impl Summary {
    /// Whether everything that was asked for is there.
    pub fn is_all_online(self) -> bool {
        self.reason == ConditionReason::AllNodesOnline
    }

    /// The first line of the table.
    pub fn title(self, wish: &ValidatedDatabaseCluster, waiting_for: Option<&str>) -> String {
        let mut title = format!("{}  {}  {}/{} nodes online", wish.name, self.reason, self.online, wish.replicas);
        if let Some(what) = waiting_for {
            title += &format!("  waiting for {what}");
        }
        title
    }
}

/// Sums up what is seen.
pub fn summary<'a>(
    wish: &ValidatedDatabaseCluster,
    seen: &Observed,
    nodes: impl Iterator<Item = &'a LocalNode>,
    now: Instant,
) -> Summary {
    let mut desired = vec![ShownStatus::Offline; usize::try_from(wish.replicas).unwrap_or(0)];
    let mut surplus = 0;
    for node in nodes {
        match usize::try_from(node.ordinal).ok().and_then(|at| desired.get_mut(at)) {
            Some(status) => {
                *status = node.status(seen, now).0;
                // One whose removal was called off is not settled before it is taken in again.
                surplus += usize::from(node.is_leaving(seen));
            }
            None => surplus += 1,
        }
    }
    let exists = |name: &DatabaseName| {
        seen.nodes.iter().flat_map(|node| node.databases.iter().flatten()).any(|known| known.name == *name)
    };
    let counted = Counted {
        initialized: matches!(seen.beginning, Beginning::Initialized(_)),
        desired: &desired,
        surplus,
        databases_exist: wish.databases.iter().all(|database| exists(&database.name)),
    };
    let online = desired.iter().filter(|status| **status == ShownStatus::Online).count();
    Summary { reason: reason(wish, counted), online }
}

/// What differs between two manifests.
pub fn changes(old: &ValidatedDatabaseCluster, new: &ValidatedDatabaseCluster) -> String {
    let mut found = Vec::new();
    if old.replicas != new.replicas {
        found.push(format!("replicas {} -> {}", old.replicas, new.replicas));
    }
    for database in &new.databases {
        match old.databases.iter().find(|before| before.name == database.name) {
            None => found.push(format!("database {} added", database.name)),
            Some(before) if before.settings != database.settings => {
                found.push(format!("settings of database {}", database.name));
            }
            Some(_) => {}
        }
    }
    for database in &old.databases {
        if !new.databases.iter().any(|after| after.name == database.name) {
            found.push(format!("database {} left out (it stays)", database.name));
        }
    }
    if old.storage != new.storage || old.retention != new.retention {
        found.push("storage (without effect on one machine)".to_owned());
    }
    if old.pod != new.pod {
        found.push("pod (without effect on one machine)".to_owned());
    }
    if old.certificate_secret != new.certificate_secret {
        found.push("tls (without effect on one machine)".to_owned());
    }
    if old.image != new.image || old.resources != new.resources {
        found.push("image or resources (without effect on one machine)".to_owned());
    }
    if found.is_empty() { "nothing that matters changed".to_owned() } else { found.join(", ") }
}

/// What a newcomer may type next: a write on one node, the read on another.
pub fn how_to_try<'a>(wish: &ValidatedDatabaseCluster, nodes: impl Iterator<Item = &'a LocalNode>) -> Vec<String> {
    let urls: Vec<String> = nodes.filter_map(|node| node.ports).map(Ports::url).collect();
    let (Some(first), Some(last), Some(database)) = (urls.first(), urls.last(), wish.databases.first()) else {
        return Vec::new();
    };
    let path = format!("/v1/databases/{}/collections/greetings/documents/hello", database.name);
    vec![
        "Write on one node, read on another:".to_owned(),
        format!("  curl -X PUT {first}{path} -H 'Content-Type: application/json' -d '{{\"text\":\"world\"}}'"),
        format!("  curl {last}{path}"),
    ]
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)]
mod tests {
    use super::super::log_file::LogFile;
    use super::*;
    use crate::controller::validate::validate;

    fn wish(spec: &str) -> ValidatedDatabaseCluster {
        validate(&format!(
            "{{apiVersion: coequal.dev/v1alpha1, kind: ReplicatedDatabase, metadata: {{name: a}}, spec: {spec}}}"
        ))
        .unwrap()
    }

    #[test]
    fn a_change_of_the_manifest_is_said_in_words() {
        let old = wish("{databases: [{name: a}, {name: b}]}");
        let new = wish("{replicas: 5, databases: [{name: a, hotAlignment: false}, {name: c}], storage: {size: 2Gi}}");
        let expected = "replicas 3 -> 5, settings of database a, database c added, database b left out (it stays), \
                        storage (without effect on one machine)";
        assert_eq!(changes(&old, &new), expected);
        assert_eq!(changes(&old, &old), "nothing that matters changed");
    }

    #[test]
    fn the_title_says_what_is_waited_for() {
        let wish = wish("{}");
        let seen = Observed { beginning: Beginning::NotBegun, nodes: vec![] };
        let title = summary(&wish, &seen, std::iter::empty(), Instant::now()).title(&wish, Some("a-0 to answer"));
        assert_eq!(title, "a  Initializing  0/3 nodes online  waiting for a-0 to answer");
    }

    #[test]
    fn the_lines_to_try_write_on_the_first_and_read_on_the_last_node() {
        let nodes: Vec<LocalNode> = (0..2u16)
            .map(|n| {
                let mut node = LocalNode::new(format!("a-{n}").parse().unwrap(), n.into(), LogFile::new("l".into()));
                node.ports = Some(Ports { api: 7600 + n, peers: 7700 + n });
                node
            })
            .collect();
        let lines = how_to_try(&wish("{}"), nodes.iter());
        assert!(lines[1].contains("PUT http://127.0.0.1:7600/v1/databases/a/"), "{lines:?}");
        assert!(lines[2].contains("curl http://127.0.0.1:7601/"), "{lines:?}");
    }
}
