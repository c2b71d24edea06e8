//! Changes that a person asks for. Each is decided from the resource alone, then written into it; the operator does
//! the rest when it is safe, and goes on after any crash.

use super::args::{DeployArgs, RemoveArgs, RestartArgs};
use super::connect::Connection;
use super::error::{PluginError, Tried};
use super::fetch::{self, within};
use super::logs::node_of;
use super::report::{declared, is_ready_reason};
use super::say;
use crate::controller::validate::{DEPLOY, nearest};
use crate::crd::{ConditionReason, ReplicatedDatabase, VolumeRetention};
use crate::kubernetes::RESTART;
use k8s_openapi::jiff::Timestamp;
use kube::ResourceExt as _;
use kube::api::{Patch, PatchParams};
use serde_json::{Value, json};

/// The name under which the plugin writes.
const FIELD_MANAGER: &str = "kubectl-coequal";
/// Longest list of copies in the annotation.
const COPIES_BYTES_MAX: usize = 16 << 10;

/// What a command comes to.
#[derive(Debug, Clone, PartialEq)]
pub enum Change {
    /// This is written.
    Write {
        /// A merge patch.
        patch: Value,
        /// What happens now, in words.
        words: String,
    },
    /// Nothing has to be written.
    Nothing(String),
}

/// Times that a change is decided anew because the resource changed meanwhile; its status does, all the time.
const ATTEMPTS: u32 = 10;

/// Decides and writes. What was decided from one version is not written over another.
async fn carry_out(
    connection: &Connection,
    name: &str,
    decide: impl Fn(&ReplicatedDatabase) -> Result<Change, PluginError>,
) -> Result<bool, PluginError> {
    let tried = Tried::on_resources("patch", Some(&connection.namespace));
    let params = PatchParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PatchParams::default() };
    for _ in 0..ATTEMPTS {
        let resource = fetch::one(connection, name).await?;
        let (mut patch, words) = match decide(&resource)? {
            Change::Nothing(words) => return say(&format!("{words}\n")).map(|()| true),
            Change::Write { patch, words } => (patch, words),
        };
        patch["metadata"]["resourceVersion"] = json!(resource.resource_version());
        let call = async {
            match connection.resources().patch(name, &params, &Patch::Merge(&patch)).await {
                Err(kube::Error::Api(status)) if status.code == 409 => Ok(None),
                result => result.map(Some),
            }
        };
        if within(tried, call).await?.is_some() {
            return say(&format!("{words}\n")).map(|()| true);
        }
    }
    Err(PluginError::Api(format!("{name} changes too often to be changed; try again")))
}

fn follow_it(resource: &ReplicatedDatabase) -> String {
    let (name, namespace) = (resource.name_any(), resource.namespace().unwrap_or_default());
    format!("To follow it: kubectl coequal status {name} -n {namespace} --watch")
}

/// `deploy`
pub async fn deploy(connection: &Connection, args: &DeployArgs) -> Result<bool, PluginError> {
    carry_out(connection, &args.name, |resource| deployed(resource, &args.database, &args.node)).await
}

/// Decides about a copy.
pub fn deployed(resource: &ReplicatedDatabase, database: &str, node: &str) -> Result<Change, PluginError> {
    let declared = declared(resource);
    let Some((_, spec)) = declared.iter().find(|(name, _)| name == database) else {
        let names: Vec<&str> = declared.iter().map(|(name, _)| name.as_str()).collect();
        let near = nearest(database, &names).map(|near| format!("did you mean {near}? ")).unwrap_or_default();
        let (cluster, names) = (resource.name_any(), names.join(", "));
        return Err(PluginError::Refused(format!(
            "{cluster} declares no database {database:?}; {near}There are {names}"
        )));
    };
    let ordinal = node_of(resource, node)?;
    if i64::from(ordinal) >= i64::from(resource.spec.replicas) {
        return Err(PluginError::Refused(format!("{node} is on its way out: replicas is {}", resource.spec.replicas)));
    }
    let nodes = resource.status.iter().flat_map(|status| &status.nodes).filter(|known| known.name == node);
    let copy = nodes.flat_map(|known| &known.databases).find(|copy| copy.name == database);
    if let Some(copy) = copy.filter(|copy| copy.status != "NOT_AVAILABLE") {
        return Ok(Change::Nothing(format!("{node} has a copy of {database} already; it is {}.", copy.status)));
    }
    if spec.as_ref().is_some_and(|spec| spec.auto_deploy) {
        return Ok(Change::Nothing(format!(
            "{node} gets {database} by itself: autoDeploy is true. Nothing was changed."
        )));
    }
    let wish = format!("{database}@{node}");
    let before = resource.annotations().get(DEPLOY).map_or("", String::as_str);
    if before.split(',').any(|entry| entry.trim() == wish) {
        return Ok(Change::Nothing(format!("{wish} was asked for already. {}", follow_it(resource))));
    }
    let wishes = if before.trim().is_empty() { wish } else { format!("{before},{wish}") };
    if wishes.len() > COPIES_BYTES_MAX {
        let text = format!("the annotation {DEPLOY} has {} bytes; set autoDeploy: true instead", wishes.len());
        return Err(PluginError::Refused(text));
    }
    let patch = json!({ "metadata": { "annotations": { DEPLOY: wishes } } });
    let words = format!("{node} will get a copy of {database}. {}", follow_it(resource));
    Ok(Change::Write { patch, words })
}

/// `remove`
pub async fn remove(connection: &Connection, args: &RemoveArgs) -> Result<bool, PluginError> {
    carry_out(connection, &args.name, |resource| removed(resource, &args.nodes, args.yes)).await
}

/// Decides about nodes that are to go: only the highest can, and only while the others are well.
pub fn removed(resource: &ReplicatedDatabase, nodes: &[String], yes: bool) -> Result<Change, PluginError> {
    let refuse = |text: String| Err(PluginError::Refused(text));
    let (name, replicas) = (resource.name_any(), u32::try_from(resource.spec.replicas).unwrap_or(0));
    let mut ordinals = nodes.iter().map(|node| node_of(resource, node)).collect::<Result<Vec<_>, _>>()?;
    ordinals.sort_unstable();
    ordinals.dedup();
    ordinals.retain(|ordinal| *ordinal < replicas);
    let Some(lowest) = ordinals.first().copied() else {
        return Ok(Change::Nothing(format!("replicas is {replicas}: they are on their way out already.")));
    };
    let count = u32::try_from(ordinals.len()).unwrap_or(replicas);
    if lowest + count != replicas {
        return refuse(format!(
            "nodes go from the highest on, and the highest is {name}-{}. What stands on {name}-{lowest} cannot be \
             taken out of the middle; a new pod with an empty volume in its place is: \
             kubectl delete pvc/data-{name}-{lowest} pod/{name}-{lowest}, when all others are ONLINE",
            replicas - 1
        ));
    }
    if lowest == 0 {
        return refuse(format!(
            "that would remove every node. To stop all and keep the data: kubectl scale rdb {name} --replicas=0; \
             to end it: kubectl delete rdb {name}"
        ));
    }
    let status = |ordinal: u32| {
        let node = format!("{name}-{ordinal}");
        let nodes = resource.status.iter().flat_map(|status| &status.nodes);
        nodes.clone().find(|known| known.name == node).map_or("OFFLINE", |known| known.status.as_str()).to_owned()
    };
    if let Some(ill) = (0..lowest).find(|ordinal| status(*ordinal) != "ONLINE") {
        return refuse(format!(
            "{name}-{ill} is {} and stays; nothing is removed before every node that stays is ONLINE",
            status(ill)
        ));
    }
    if is_ready_reason(resource, ConditionReason::InvalidSpec) {
        return refuse("the manifest breaks a rule, and nothing is changed before it is corrected".to_owned());
    }
    if let Some(text) = dangers(resource, lowest).filter(|_| !yes) {
        return refuse(format!("{text}; if that is what you want, add --yes"));
    }
    let patch = json!({ "spec": { "replicas": lowest } });
    let words = format!(
        "replicas is {lowest} now, it was {replicas}: the others go one at a time, the highest first, each after it \
         has handed over. To call it off: kubectl scale rdb {name} --replicas={replicas}\n{}",
        follow_it(resource)
    );
    Ok(Change::Write { patch, words })
}

/// What somebody might not have thought of.
fn dangers(resource: &ReplicatedDatabase, remaining: u32) -> Option<String> {
    let policy = resource.spec.persistent_volume_claim_retention_policy;
    if policy.when_scaled == VolumeRetention::Delete {
        return Some("the volumes of removed nodes are deleted (whenScaled is Delete)".to_owned());
    }
    let tolerated = remaining.saturating_sub(1) / 2;
    (tolerated == 0).then(|| format!("{remaining} nodes tolerate the loss of none"))
}

/// `restart`
pub async fn restart(connection: &Connection, args: &RestartArgs) -> Result<bool, PluginError> {
    let now = Timestamp::now().to_string();
    carry_out(connection, &args.name, |resource| Ok(restarted(resource, &now))).await
}

/// Decides about a restart.
pub fn restarted(resource: &ReplicatedDatabase, now: &str) -> Change {
    if resource.spec.replicas == 0 {
        return Change::Nothing("all nodes are stopped: replicas is 0.".to_owned());
    }
    let patch = json!({ "metadata": { "annotations": { RESTART: now } } });
    let words = format!("the nodes restart one at a time, each when all others are ONLINE. {}", follow_it(resource));
    Change::Write { patch, words }
}
