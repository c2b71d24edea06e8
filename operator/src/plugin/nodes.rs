//! Each node with what carries it: pod, machine, volume. What may not be read is left out, and that is said.

use super::args::Output;
use super::connect::Connection;
use super::error::{PluginError, Tried};
use super::fetch::{self, within};
use super::report::report;
use super::{json, render};
use crate::crd::ReplicatedDatabase;
use crate::kubernetes::{claim_name, selector_text};
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod};
use kube::api::ListParams;
use kube::{Api, ResourceExt as _};
use serde::Serialize;

/// One node and what carries it.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct CarriedNode {
    /// Its name.
    pub name: String,
    /// Its status, as the operator saw it.
    pub status: String,
    /// Identity of its disk.
    pub id: Option<String>,
    /// Phase of its pod; absent when there is none.
    pub pod: Option<String>,
    /// Restarts of its container.
    pub restarts: i32,
    /// The machine.
    pub machine: Option<String>,
    /// Its image.
    pub image: Option<String>,
    /// Size of its volume.
    pub volume: Option<String>,
}

/// The text, and whether all nodes are ONLINE.
pub async fn shown(connection: &Connection, name: &str, output: Output) -> Result<(String, bool), PluginError> {
    let resource = fetch::one(connection, name).await?;
    let selector = ListParams::default().labels(&selector_text(name));
    let namespace = Some(connection.namespace.as_str());
    let tried = |resource| Tried { verb: "list", group: "", resource, namespace };
    let pods: Api<Pod> = Api::namespaced(connection.client.clone(), &connection.namespace);
    let claims: Api<PersistentVolumeClaim> = Api::namespaced(connection.client.clone(), &connection.namespace);
    let (pods, claims) = futures::join!(
        within(tried("pods"), pods.list(&selector)),
        within(tried("persistentvolumeclaims"), claims.list(&selector)),
    );
    let mut notes = String::new();
    let mut left_out = |error: &PluginError| notes += &format!("\nnot shown: {error}\n");
    let pods = pods.map(|list| list.items).inspect_err(&mut left_out).unwrap_or_default();
    let claims = claims.map(|list| list.items).inspect_err(&mut left_out).unwrap_or_default();
    let nodes = carried(&resource, &pods, &claims);
    let well = report(&resource).ok;
    let text = match output {
        Output::Json => json(&nodes)?,
        Output::Text => render::table(&lines(&nodes)) + &notes,
    };
    Ok((text, well))
}

/// Nodes by ordinal: those in status, and pods that are not in it yet.
pub fn carried(resource: &ReplicatedDatabase, pods: &[Pod], claims: &[PersistentVolumeClaim]) -> Vec<CarriedNode> {
    let name = resource.name_any();
    let known = resource.status.iter().flat_map(|status| &status.nodes);
    let mut names: Vec<String> = known.clone().map(|node| node.name.clone()).collect();
    names.extend(
        pods.iter().map(kube::ResourceExt::name_any).filter(|pod| !known.clone().any(|node| node.name == *pod)),
    );
    let ordinal = |node: &String| crate::controller::validate::ordinal_of(&name, node);
    names.sort_by_key(ordinal);
    names.iter().map(|node| one(resource, node, ordinal(node), pods, claims)).collect()
}

fn one(
    resource: &ReplicatedDatabase,
    node: &str,
    ordinal: Option<u32>,
    pods: &[Pod],
    claims: &[PersistentVolumeClaim],
) -> CarriedNode {
    let known = resource.status.iter().flat_map(|status| &status.nodes).find(|known| known.name == node);
    let pod = pods.iter().find(|pod| pod.name_any() == node);
    let status = pod.and_then(|pod| pod.status.as_ref());
    let container = status.and_then(|status| status.container_statuses.as_ref()?.first());
    let claim = ordinal.map(|ordinal| claim_name(&resource.name_any(), ordinal));
    let claim = claim.and_then(|claim| claims.iter().find(|found| found.name_any() == claim));
    let size = |claim: &PersistentVolumeClaim| claim.status.as_ref()?.capacity.as_ref()?.get("storage").cloned();
    let phase = pod.map(|pod| match pod.metadata.deletion_timestamp {
        Some(_) => "Terminating".to_owned(),
        None => status.and_then(|status| status.phase.clone()).unwrap_or_default(),
    });
    CarriedNode {
        name: node.to_owned(),
        status: known.map_or_else(|| "-".to_owned(), |known| known.status.clone()),
        id: known.and_then(|known| known.id.clone()),
        pod: phase,
        restarts: container.map_or(0, |container| container.restart_count),
        machine: pod.and_then(|pod| pod.spec.as_ref()?.node_name.clone()),
        image: pod.and_then(|pod| pod.spec.as_ref()?.containers.first()?.image.clone()),
        volume: claim.and_then(size).map(|size| size.0),
    }
}

fn lines(nodes: &[CarriedNode]) -> Vec<Vec<String>> {
    let heads = ["NODE", "STATUS", "POD", "RESTARTS", "MACHINE", "VOLUME", "IMAGE", "ID"];
    let mut lines = vec![heads.map(str::to_owned).to_vec()];
    let words = |value: &Option<String>| value.clone().unwrap_or_else(|| "-".to_owned());
    lines.extend(nodes.iter().map(|node| {
        vec![
            node.name.clone(),
            node.status.clone(),
            words(&node.pod),
            node.restarts.to_string(),
            words(&node.machine),
            words(&node.volume),
            words(&node.image),
            words(&node.id),
        ]
    }));
    lines
}
