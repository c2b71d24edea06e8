//! The changes of a turn besides the children: volumes, claims, questions to nodes, and pods that have to go.

use super::apply::{mark_removed, patch_claim};
use super::calls;
use super::error::{ReconcileError, is_status};
use super::names::{REMOVED, REVISION, claim_name};
use super::plan::{Carried, Replacement, replacement};
use super::pods::{Machine, api_url};
use super::reconcile::Turn;
use super::status::Obstacle;
use crate::controller::decisions::Step;
use crate::controller::quantity::is_less;
use crate::crd::ConditionReason as R;
use crate::nodes::{NodeClient, ask, asked, done_words};
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod};
use kube::api::{DeleteParams, Preconditions};
use kube::{Api, ResourceExt as _};
use serde_json::json;
use std::time::{Duration, Instant};

/// How long a removal waits for another node before a person is told.
const HELD_FOR_LONG: Duration = Duration::from_secs(10);

/// What a turn did, and what it found.
#[derive(Debug, Default)]
pub struct Acted {
    /// What a person has to put right.
    pub obstacles: Vec<Obstacle>,
    /// What is under way, and what is waited for.
    pub activity: Option<(R, String)>,
    /// What was done: reason and words of an Event.
    pub done: Vec<(&'static str, String)>,
    /// Whether anything was changed.
    pub changed: bool,
}

impl Acted {
    /// Something is under way; the first that is said stands.
    pub fn waits_for(&mut self, reason: R, what: &str) {
        if self.activity.is_none() {
            self.activity = Some((reason, format!("waiting for {what}")));
        }
    }

    fn did(&mut self, reason: &'static str, note: String) {
        self.done.push((reason, note));
        self.changed = true;
    }
}

/// What stands in the way of pods, where a person has to act.
pub fn troubles(turn: &Turn<'_>, acted: &mut Acted) {
    for (ordinal, pod) in &turn.seen.pods {
        let Some(trouble) = &pod.trouble else { continue };
        if let Some(reason) = trouble.reason {
            let message = format!("{}-{ordinal}: {}", turn.wish.name, trouble.message);
            acted.obstacles.push(Obstacle { reason, message });
        }
    }
}

fn requested(claim: &PersistentVolumeClaim) -> Option<&str> {
    let requests = claim.spec.as_ref()?.resources.as_ref()?.requests.as_ref()?;
    requests.get("storage").map(|quantity| quantity.0.as_str())
}

fn capacity(claim: &PersistentVolumeClaim) -> Option<&str> {
    claim.status.as_ref()?.capacity.as_ref()?.get("storage").map(|quantity| quantity.0.as_str())
}

/// Asks for larger volumes where the manifest does; a refusal of the storage class is for a person.
pub async fn grow_volumes(turn: &Turn<'_>, acted: &mut Acted) -> Result<(), ReconcileError> {
    let wanted = &turn.wish.storage.size;
    for claim in turn.seen.claims.values().filter(|claim| claim.metadata.deletion_timestamp.is_none()) {
        let name = claim.name_any();
        if requested(claim).is_some_and(|requested| is_less(requested, wanted)) {
            let body = json!({ "spec": { "resources": { "requests": { "storage": wanted } } } });
            match patch_claim(turn.context, turn.namespace, &name, body).await {
                Ok(()) => acted.did("VolumeGrows", format!("{name} grows to {wanted}")),
                Err(ReconcileError::Kubernetes { source, .. })
                    if is_status(&source, 403) || is_status(&source, 422) =>
                {
                    let message = format!("{name} cannot grow to {wanted}: {source}");
                    acted.obstacles.push(Obstacle { reason: R::VolumeCannotGrow, message });
                }
                Err(error) => return Err(error),
            }
        } else if let (Some(requested), Some(capacity)) = (requested(claim), capacity(claim))
            && is_less(capacity, requested)
        {
            acted.waits_for(R::GrowingVolumes, &format!("{name} to grow from {capacity} to {requested}"));
        }
    }
    Ok(())
}

/// Before a pod goes for good its claim is marked; before one comes the mark goes. After a crash in between, the
/// mark says the same as the nodes: who was taken out.
pub async fn mark_claims(turn: &Turn<'_>, step: &Step, pods: u32) -> Result<(), ReconcileError> {
    let is_marked = |claim: &PersistentVolumeClaim| claim.annotations().contains_key(REMOVED);
    if let Step::Stop { name, set_aside: true } = step
        && let Some(ordinal) = turn.wish.ordinal(name).filter(|ordinal| *ordinal >= turn.wish.replicas)
        && turn.seen.claims.get(&ordinal).is_some_and(|claim| !is_marked(claim))
    {
        mark_removed(turn.context, turn.namespace, &claim_name(&turn.wish.name, ordinal), true).await?;
    }
    let now = turn.seen.pods_now().unwrap_or(0);
    for ordinal in now..pods {
        if turn.seen.claims.get(&ordinal).is_some_and(|claim| is_marked(claim)) {
            mark_removed(turn.context, turn.namespace, &claim_name(&turn.wish.name, ordinal), false).await?;
        }
    }
    Ok(())
}

/// Asks a node for the step, if it is one for nodes. A refusal is no failure: the next turn looks again.
pub async fn ask_nodes(turn: &Turn<'_>, step: &Step, acted: &mut Acted) {
    let reason = match step {
        Step::Initialize(_) => R::Initializing,
        Step::CreateDatabase { .. } | Step::ChangeSettings { .. } => R::CreatingDatabases,
        Step::Remove { .. } | Step::Admit { .. } | Step::Stop { .. } | Step::HoldRemoval { .. } => R::RemovingNodes,
        Step::Start(_) | Step::WaitFor(_) | Step::Nothing => R::NodesStarting,
    };
    match step {
        Step::WaitFor(what) => acted.waits_for(reason, what),
        Step::Start(name) => acted.waits_for(reason, &format!("{name} to start")),
        Step::Stop { name, .. } => acted.waits_for(reason, &format!("{name} to stop")),
        Step::HoldRemoval { name, ill } => {
            acted.waits_for(reason, &format!("{ill} to be ONLINE before {name} is removed"));
        }
        _ => {}
    }
    let Some(via) = asked(step) else { return };
    let pod = turn.seen.pods.values().find(|pod| pod.pod.name_any() == via.as_str());
    let Some(url) = pod.and_then(|pod| api_url(&pod.pod)) else { return };
    if !turn.context.leadership.holds() {
        return;
    }
    match ask(&NodeClient::new(turn.context.http.clone(), url), step).await {
        Ok(()) => {
            acted.did(event_reason(step), done_words(step));
            acted.activity.get_or_insert((reason, done_words(step)));
        }
        Err(error) => acted.waits_for(reason, &format!("a node to do it; not yet: {error}")),
    }
}

fn event_reason(step: &Step) -> &'static str {
    match step {
        Step::Initialize(_) => "ClusterInitialized",
        Step::CreateDatabase { .. } => "DatabaseCreated",
        Step::ChangeSettings { .. } => "SettingsChanged",
        Step::Remove { .. } => "RemovingNode",
        Step::Admit { .. } => "RemovalCalledOff",
        Step::Start(_) | Step::Stop { .. } | Step::HoldRemoval { .. } | Step::WaitFor(_) | Step::Nothing => {
            "Reconciled"
        }
    }
}

/// A smaller `replicas` that cannot be carried out safely is for a person, once it has been held up for a while: a node
/// that merely restarts is waited for without a word.
pub fn tell_held_removal(turn: &Turn<'_>, step: &Step, acted: &mut Acted) {
    let uid = turn.resource.uid().unwrap_or_default();
    let Step::HoldRemoval { name, ill } = step else {
        turn.context.remember(&uid, |memory| memory.held_since = None);
        return;
    };
    let since = turn.context.remember(&uid, |memory| *memory.held_since.get_or_insert_with(Instant::now));
    if since.elapsed() < HELD_FOR_LONG {
        return;
    }
    let pods = turn.seen.pods_now().unwrap_or(0);
    let message = format!(
        "replicas {} is not carried out while {ill} is not ONLINE: without {name} too few nodes might be left to serve. \
         Bring {ill} back (kubectl describe pod {ill} tells why it is away), or set replicas back to {pods}",
        turn.wish.replicas
    );
    acted.obstacles.push(Obstacle { reason: R::UnsafeScaleIn, message });
}

/// A node that was taken out and is wished after all begins anew: its identity is never taken in again, and at its next
/// start it puts its old data aside.
pub async fn renew_node(turn: &Turn<'_>, step: &Step, acted: &mut Acted) -> Result<(), ReconcileError> {
    let Step::Stop { name, set_aside: true } = step else { return Ok(()) };
    let Some(ordinal) = turn.wish.ordinal(name).filter(|ordinal| *ordinal < turn.wish.replicas) else { return Ok(()) };
    if let Some(seen) = turn.seen.pods.get(&ordinal).filter(|seen| seen.pod.metadata.deletion_timestamp.is_none()) {
        delete(turn, &seen.pod, None).await?;
        acted.did("NodeBeginsAnew", format!("{name} had been removed already; it restarts and joins as a new node"));
    }
    Ok(())
}

/// Replaces a pod that was made from an older manifest, when it is its turn. Membership comes first.
pub async fn replace_pods(turn: &Turn<'_>, step: &Step, acted: &mut Acted) -> Result<(), ReconcileError> {
    let membership_first = matches!(step, Step::Remove { .. } | Step::Admit { .. } | Step::Stop { .. });
    let pods: Vec<Carried> = turn
        .seen
        .pods
        .iter()
        .map(|(ordinal, seen)| Carried { ordinal: *ordinal, is_current: is_current(&seen.pod, turn.revision) })
        .collect();
    if membership_first || turn.wish.replicas == 0 {
        return Ok(());
    }
    let next = match replacement(turn.wish, &pods, &turn.seen.observed) {
        Replacement::Done => return Ok(()),
        Replacement::Wait(what) => {
            acted.activity = Some((R::UpdatingNodes, format!("waiting for {what}")));
            return Ok(());
        }
        Replacement::Replace(ordinal) => ordinal,
    };
    if !turn.seen.gives_current_pods(turn.revision) {
        acted.activity = Some((R::UpdatingNodes, "waiting for the StatefulSet to take the change".to_owned()));
        return Ok(());
    }
    if let Some(seen) = turn.seen.pods.get(&next) {
        delete(turn, &seen.pod, None).await?;
        let text = format!("{} restarts with what the manifest says now", seen.pod.name_any());
        acted.activity = Some((R::UpdatingNodes, text.clone()));
        acted.did("RestartingNode", text);
    }
    Ok(())
}

fn is_current(pod: &Pod, revision: &str) -> bool {
    pod.annotations().get(REVISION).is_some_and(|made_from| made_from == revision)
}

/// Pods on machines that are known to be off hang in Terminating for ever: nobody is there to end them.
pub async fn free_lost_pods(turn: &Turn<'_>, acted: &mut Acted) -> Result<(), ReconcileError> {
    for seen in turn.seen.pods.values() {
        let is_stuck = match seen.machine {
            Machine::Gone => true,
            Machine::OutOfService => seen.pod.metadata.deletion_timestamp.is_some(),
            Machine::Fine | Machine::Silent => false,
        };
        if is_stuck {
            delete(turn, &seen.pod, Some(0)).await?;
            let name = seen.pod.name_any();
            acted.did("LostPodFreed", format!("{name} was on a machine that is off; it starts on another"));
        }
    }
    Ok(())
}

/// Deletes this very pod, not one that has taken its name since.
async fn delete(turn: &Turn<'_>, pod: &Pod, grace_seconds: Option<u32>) -> Result<(), ReconcileError> {
    let api: Api<Pod> = Api::namespaced(turn.context.client.clone(), turn.namespace);
    let name = pod.name_any();
    let params = DeleteParams {
        grace_period_seconds: grace_seconds,
        preconditions: Some(Preconditions { uid: pod.uid(), resource_version: None }),
        ..DeleteParams::default()
    };
    match calls::change(&turn.context.leadership, "delete pod", &name, api.delete(&name, &params)).await {
        Ok(_) => {
            turn.context.health.metrics.wrote();
            Ok(())
        }
        Err(ReconcileError::Kubernetes { source, .. }) if is_status(&source, 404) => Ok(()),
        Err(error) => Err(error),
    }
}
