//! The data directory:
//!
//! ```text
//! <data>/local.json            name, ports, how the cluster began, nodes on their way out
//! <data>/lock                  process id of the supervisor
//! <data>/<node>/               a node's own directory
//! <data>/removed-<node>-<n>/   data of a removed node; never deleted by this program
//! <data>/logs/<node>.log       what the node wrote, and `.log.1` before that
//! ```

use super::error::LocalError;
use super::lock::Lock;
use super::ports::Ports;
use crate::controller::observed::Beginning;
use crate::controller::validate::ordinal_of;
use coequal_types::NodeName;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::io::Write as _;
use std::path::{Path, PathBuf};

/// What local mode remembers between two runs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Record {
    /// `metadata.name` of the resource that the directory belongs to.
    pub name: String,
    /// The node that may initialise the cluster; written before it is told to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub initializing_node: Option<NodeName>,
    /// The identity that the cluster is to have: nodes of others are refused, even if they come upon each other's ports.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub chosen_cluster_id: Option<uuid::Uuid>,
    /// Identity of the cluster, once it has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cluster_id: Option<uuid::Uuid>,
    /// Ports of the last run, by ordinal.
    #[serde(default)]
    pub ports: BTreeMap<u32, Ports>,
    /// Nodes that are out of the cluster and whose data is to be set aside.
    #[serde(default)]
    pub retiring: BTreeSet<NodeName>,
}

impl Record {
    fn new(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            initializing_node: None,
            chosen_cluster_id: Some(uuid::Uuid::new_v4()),
            cluster_id: None,
            ports: BTreeMap::new(),
            retiring: BTreeSet::new(),
        }
    }

    /// How the cluster began, for the decisions.
    pub fn beginning(&self) -> Beginning {
        match (&self.cluster_id, &self.initializing_node) {
            (Some(id), _) => Beginning::Initialized(*id),
            (None, Some(node)) => Beginning::Chosen(node.clone()),
            (None, None) => Beginning::NotBegun,
        }
    }
}

/// An open data directory.
#[derive(Debug)]
pub struct DataDirectory {
    root: PathBuf,
    /// What is remembered; `save` after each change.
    pub record: Record,
    lock: Lock,
}

impl DataDirectory {
    /// Opens or makes the directory for the resource `name`, and locks it.
    pub fn open(root: &Path, name: &str) -> Result<Self, LocalError> {
        let logs = root.join("logs");
        if !root.join("local.json").exists() && has_content(root)? {
            return Err(LocalError::ForeignDirectory { directory: root.to_owned() });
        }
        std::fs::create_dir_all(root).map_err(|error| LocalError::io("make", root, error))?;
        let root = root.canonicalize().map_err(|error| LocalError::io("find", root, error))?;
        let lock = Lock::take(&root)?;
        std::fs::create_dir_all(&logs).map_err(|error| LocalError::io("make", &logs, error))?;
        let path = root.join("local.json");
        let record = match std::fs::read(&path) {
            Ok(bytes) => serde_json::from_slice::<Record>(&bytes)
                .map_err(|error| LocalError::BrokenRecord { path, reason: error.to_string() })?,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Record::new(name),
            Err(error) => return Err(LocalError::io("read", &path, error)),
        };
        if record.name != name {
            return Err(LocalError::OtherCluster { directory: root, found: record.name, wanted: name.to_owned() });
        }
        let data = Self { root, record, lock };
        data.save()?;
        Ok(data)
    }

    /// Writes the record so that a crash leaves either the old one or the new one.
    pub fn save(&self) -> Result<(), LocalError> {
        let path = self.root.join("local.json");
        let draft = self.root.join("local.json.new");
        let failed = |error| LocalError::io("write", &path, error);
        let text =
            serde_json::to_vec_pretty(&self.record).map_err(|error| LocalError::setup("write local.json", error))?;
        let mut file = std::fs::File::create(&draft).map_err(failed)?;
        file.write_all(&text).and_then(|()| file.sync_all()).map_err(failed)?;
        std::fs::rename(&draft, &path).map_err(failed)
    }

    /// Where everything is.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Whether the last supervisor was killed, so that its replicas may still be on their way out.
    pub fn left_behind(&self) -> bool {
        self.lock.left_behind
    }

    /// Directory of a node.
    pub fn node(&self, name: &NodeName) -> PathBuf {
        self.root.join(name.as_str())
    }

    /// Log of a node.
    pub fn log(&self, name: &NodeName) -> PathBuf {
        self.root.join("logs").join(format!("{name}.log"))
    }

    /// Nodes that have a directory here, by ordinal.
    pub fn nodes(&self) -> Result<BTreeMap<u32, NodeName>, LocalError> {
        let failed = |error| LocalError::io("list", &self.root, error);
        let mut found = BTreeMap::new();
        for entry in std::fs::read_dir(&self.root).map_err(failed)? {
            let entry = entry.map_err(failed)?;
            let file_name = entry.file_name();
            let Some(text) = file_name.to_str().filter(|_| entry.path().is_dir()) else { continue };
            if let (Some(ordinal), Ok(name)) = (ordinal_of(&self.record.name, text), text.parse()) {
                found.insert(ordinal, name);
            }
        }
        Ok(found)
    }

    /// Sets the data of a removed node aside, and says where; `None` if it has none. Never deletes.
    pub fn set_aside(&mut self, name: &NodeName) -> Result<Option<PathBuf>, LocalError> {
        let from = self.node(name);
        let target = match from.exists() {
            true => {
                let free = (1u32..).map(|n| self.root.join(format!("removed-{name}-{n}"))).find(|to| !to.exists());
                let to = free.ok_or_else(|| LocalError::setup("set data aside", "no number is free"))?;
                std::fs::rename(&from, &to).map_err(|error| LocalError::io("rename", &from, error))?;
                Some(to)
            }
            false => None,
        };
        self.record.retiring.remove(name);
        self.save()?;
        Ok(target)
    }
}

fn has_content(root: &Path) -> Result<bool, LocalError> {
    match std::fs::read_dir(root) {
        // An earlier run may have ended between making the directory and its record.
        Ok(mut entries) => Ok(entries.any(|entry| {
            entry.is_ok_and(|entry| !["lock", "logs", "local.json.new"].iter().any(|own| entry.file_name() == *own))
        })),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(LocalError::io("list", root, error)),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)]
mod tests {
    use super::*;

    #[test]
    fn the_record_comes_back_and_belongs_to_one_resource() {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path().join("deep/orders");
        let mut data = DataDirectory::open(&root, "orders").unwrap();
        data.record.ports.insert(0, Ports { api: 1, peers: 2 });
        data.record.initializing_node = Some("orders-0".parse().unwrap());
        data.save().unwrap();
        let before = data.record.clone();
        drop(data);
        assert_eq!(DataDirectory::open(&root, "orders").unwrap().record, before);
        let error = DataDirectory::open(&root, "shop").unwrap_err().to_string();
        assert!(error.contains("belongs to \"orders\", the manifest names \"shop\""), "{error}");
    }

    #[test]
    fn a_directory_with_something_else_in_it_is_left_alone() {
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join("thesis.txt"), "x").unwrap();
        let error = DataDirectory::open(directory.path(), "orders").unwrap_err().to_string();
        assert!(error.contains("is not empty and holds no local.json"), "{error}");
        assert!(!directory.path().join("lock").exists());
    }

    #[test]
    fn a_place_that_cannot_be_used_is_named_with_a_way_out() {
        let place = tempfile::tempdir().unwrap();
        let file = place.path().join("file");
        std::fs::write(&file, "").unwrap();
        for path in [file.clone(), file.join("below")] {
            let error = DataDirectory::open(&path, "orders").unwrap_err().to_string();
            assert!(error.contains(&file.display().to_string()) && error.contains("--data"), "{error}");
        }
    }

    #[test]
    fn removed_data_is_set_aside_under_a_number_of_its_own() {
        let directory = tempfile::tempdir().unwrap();
        let mut data = DataDirectory::open(directory.path(), "orders").unwrap();
        let name: NodeName = "orders-3".parse().unwrap();
        for n in 1..=2 {
            std::fs::create_dir(data.node(&name)).unwrap();
            assert_eq!(data.nodes().unwrap().len(), 1);
            let to = data.set_aside(&name).unwrap().unwrap();
            assert!(to.ends_with(format!("removed-orders-3-{n}")));
        }
        assert_eq!(data.set_aside(&name).unwrap(), None);
        assert!(data.nodes().unwrap().is_empty());
    }
}
