//! Looking: the only reads of a reconcile. What Kubernetes holds comes from the watches, what nodes say from the nodes.

use super::context::Context;
use super::error::{ReconcileError, is_status};
use super::names::{IMAGE, REMOVED, REVISION};
use super::pods::{self, Machine, Trouble};
use super::{calls, stores};
use crate::controller::observed::{Beginning, Carrier, Observed, ObservedNode};
use crate::controller::validate::{ValidatedDatabaseCluster, ordinal_of};
use crate::crd::ReplicatedDatabase;
use crate::nodes::{Look, NodeClient, look};
use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::{Node, PersistentVolumeClaim, Pod};
use k8s_openapi::jiff::Timestamp;
use kube::{Api, ResourceExt as _};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Everything that was seen of one resource.
pub struct Seen {
    /// What the decisions look at.
    pub observed: Observed,
    /// The StatefulSet, if there is one and it is ours.
    pub stateful_set: Option<Arc<StatefulSet>>,
    /// Pods by ordinal.
    pub pods: BTreeMap<u32, SeenPod>,
    /// Claims by ordinal.
    pub claims: BTreeMap<u32, Arc<PersistentVolumeClaim>>,
}

/// One pod.
pub struct SeenPod {
    /// The object.
    pub pod: Arc<Pod>,
    /// The machine under it.
    pub machine: Machine,
    /// What stands in its way.
    pub trouble: Option<Trouble>,
    /// Whether it answered once since it was made, or had time enough to.
    pub should_answer: bool,
}

/// Looks at everything.
pub async fn observe(
    context: &Context,
    resource: &ReplicatedDatabase,
    wish: &ValidatedDatabaseCluster,
    namespace: &str,
    client: Option<&reqwest::Client>,
) -> Result<Seen, ReconcileError> {
    let (cluster, uid) = (&wish.name, resource.uid().unwrap_or_default());
    let stores = &context.stores;
    let stateful_set = stores::of(&stores.stateful_sets, namespace, cluster)
        .into_iter()
        .find(|set| set.name_any() == *cluster && is_owned(&set.metadata, &uid));
    let claims: BTreeMap<u32, Arc<PersistentVolumeClaim>> = stores::of(&stores.claims, namespace, cluster)
        .into_iter()
        .filter_map(|claim| Some((ordinal_of(cluster, claim.name_any().strip_prefix("data-")?)?, claim)))
        .collect();
    let mut found = BTreeMap::new();
    for pod in stores::of(&stores.pods, namespace, cluster) {
        let Some(ordinal) = ordinal_of(cluster, &pod.name_any()) else { continue };
        let machine = machine(context, &pod).await?;
        found.insert(ordinal, (pod, machine));
    }
    let looks = look_at_all(client, &found).await;
    let mut seen = Seen {
        observed: Observed { beginning: beginning(resource), nodes: Vec::new() },
        stateful_set,
        pods: BTreeMap::new(),
        claims,
    };
    put_together(context, resource, wish, &uid, found, looks, &mut seen);
    Ok(seen)
}

/// Whether an object belongs to the resource with this uid.
pub fn is_owned(metadata: &kube::core::ObjectMeta, uid: &str) -> bool {
    metadata.owner_references.iter().flatten().any(|owner| owner.uid == uid && owner.controller == Some(true))
}

fn beginning(resource: &ReplicatedDatabase) -> Beginning {
    let Some(status) = &resource.status else { return Beginning::NotBegun };
    let cluster = status.cluster_id.as_ref().and_then(|id| id.parse().ok());
    match (status.initialized, cluster, &status.initializing_node) {
        (true, cluster, _) => Beginning::Initialized(cluster.unwrap_or_default()),
        (false, _, Some(node)) => node.parse().map_or(Beginning::NotBegun, Beginning::Chosen),
        (false, _, None) => Beginning::NotBegun,
    }
}

/// The machine under a pod; asked for only when something is wrong with the pod.
pub async fn machine(context: &Context, pod: &Pod) -> Result<Machine, ReconcileError> {
    let Some(name) = pods::machine_name(pod) else { return Ok(Machine::Fine) };
    if pods::is_ready(pod) && pod.metadata.deletion_timestamp.is_none() {
        return Ok(Machine::Fine);
    }
    let api: Api<Node> = Api::all(context.client.clone());
    match calls::read("read machine", name, api.get_opt(name)).await {
        Ok(Some(node)) => Ok(machine_state(&node)),
        Ok(None) => Ok(Machine::Gone),
        // In one namespace alone the operator may not look at machines.
        Err(ReconcileError::Kubernetes { source, .. }) if is_status(&source, 403) => Ok(Machine::Fine),
        Err(error) => Err(error),
    }
}

fn machine_state(node: &Node) -> Machine {
    let taints = node.spec.as_ref().and_then(|spec| spec.taints.as_ref());
    let is_out = taints.into_iter().flatten().any(|taint| taint.key == "node.kubernetes.io/out-of-service");
    let conditions = node.status.as_ref().and_then(|status| status.conditions.as_ref());
    // Unknown is a kubelet that does not report; False is one that does, and is ill.
    let silent = conditions.into_iter().flatten().any(|c| c.type_ == "Ready" && c.status == "Unknown");
    match (is_out, silent) {
        (true, _) => Machine::OutOfService,
        (false, true) => Machine::Silent,
        (false, false) => Machine::Fine,
    }
}

/// Asks every pod that has an address, all at the same time.
async fn look_at_all(
    client: Option<&reqwest::Client>,
    found: &BTreeMap<u32, (Arc<Pod>, Machine)>,
) -> BTreeMap<u32, Look> {
    let looks = found.iter().filter(|(_, (_, machine))| *machine == Machine::Fine).filter_map(|(ordinal, (pod, _))| {
        let client = NodeClient::new(client?.clone(), pods::api_url(pod)?);
        Some(async move { (*ordinal, look(&client).await) })
    });
    futures::future::join_all(looks).await.into_iter().collect()
}

fn put_together(
    context: &Context,
    resource: &ReplicatedDatabase,
    wish: &ValidatedDatabaseCluster,
    uid: &str,
    found: BTreeMap<u32, (Arc<Pod>, Machine)>,
    mut looks: BTreeMap<u32, Look>,
    seen: &mut Seen,
) {
    let mut ordinals: Vec<u32> = found.keys().chain(seen.claims.keys()).copied().collect();
    ordinals.sort_unstable();
    ordinals.dedup();
    for ordinal in ordinals {
        let Some(name) = wish.node_name(ordinal) else { continue };
        let mut node = ObservedNode::unseen(name, ordinal);
        if let Some(claim) = seen.claims.get(&ordinal) {
            node.has_data = claim.metadata.deletion_timestamp.is_none() && !claim.annotations().contains_key(REMOVED);
            node.may_hold_cluster = node.has_data && is_older(&claim.metadata, &resource.metadata);
        }
        if let Some((pod, machine)) = found.get(&ordinal) {
            let look = looks.remove(&ordinal);
            seen.pods.insert(ordinal, take_in(context, uid, pod, *machine, look, &mut node));
        }
        seen.observed.nodes.push(node);
    }
}

/// A volume that was there before the resource may hold an earlier cluster.
fn is_older(claim: &kube::core::ObjectMeta, resource: &kube::core::ObjectMeta) -> bool {
    match (&claim.creation_timestamp, &resource.creation_timestamp) {
        (Some(claim), Some(resource)) => claim.0 < resource.0,
        _ => false,
    }
}

fn take_in(
    context: &Context,
    uid: &str,
    pod: &Arc<Pod>,
    machine: Machine,
    look: Option<Look>,
    node: &mut ObservedNode,
) -> SeenPod {
    let (carrier, trouble) = pods::carrier(pod, machine, Timestamp::now());
    node.carrier = carrier;
    let pod_uid = pod.uid().unwrap_or_default();
    let answers = look.as_ref().is_some_and(|look| look.report.is_some());
    let should_answer = context.remember(uid, |memory| {
        // What stands in the pod counts too: this operator may be the successor of the one that saw it.
        if answers || pods::is_ready(pod) || pods::should_answer(pod, Timestamp::now()) {
            memory.answered.insert(pod_uid.clone());
        }
        memory.answered.contains(&pod_uid)
    });
    if let Some(look) = look.filter(|_| matches!(carrier, Carrier::Running | Carrier::Stopping)) {
        // Ready for clients is what the kubelet says too: it decides on the Services.
        node.ready = look.ready.map(|ready| ready && pods::is_ready(pod));
        node.report = look.report;
        node.view = look.view;
        node.databases = look.databases;
        node.replication = look.replication;
    }
    SeenPod { pod: Arc::clone(pod), machine, trouble, should_answer }
}

impl Seen {
    /// Pods that the StatefulSet has now; `None` without one.
    pub fn pods_now(&self) -> Option<u32> {
        let set = self.stateful_set.as_ref()?;
        set.spec.as_ref()?.replicas.and_then(|count| u32::try_from(count).ok())
    }

    /// The image that the operator gave the nodes; before it noted that, the one that they have.
    pub fn image_now(&self) -> Option<&str> {
        if let Some(given) = self.stateful_set.as_ref().and_then(|set| set.annotations().get(IMAGE)) {
            return Some(given);
        }
        let template = &self.stateful_set.as_ref()?.spec.as_ref()?.template;
        template.spec.as_ref()?.containers.iter().find(|container| container.name == "node")?.image.as_deref()
    }

    /// Whether the StatefulSet gives new pods what is wished now: it was changed, and its controller has seen it.
    pub fn gives_current_pods(&self, revision: &str) -> bool {
        let Some(set) = &self.stateful_set else { return false };
        let template = set.spec.as_ref().and_then(|spec| spec.template.metadata.as_ref());
        let given = template.and_then(|metadata| metadata.annotations.as_ref()?.get(REVISION));
        let controller_saw = set.status.as_ref().and_then(|status| status.observed_generation);
        given.is_some_and(|given| given == revision) && controller_saw == set.metadata.generation
    }
}
