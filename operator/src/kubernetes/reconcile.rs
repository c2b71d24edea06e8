//! One reconcile: observe, validate, decide, build, apply, ask, status. One step of change; nothing waits in here.

use super::act::{self, Acted};
use super::apply::{self, Applied};
use super::build::{self, Plan};
use super::context::Context;
use super::error::ReconcileError;
use super::events::EventType;
use super::names::{self, RESTART};
use super::observe::{Seen, observe};
use super::security::{self, Secured};
use super::status::{self, Facts, Obstacle, PodWords};
use super::{calls, events, plan};
use crate::controller::decisions::{Step, next_step, undeclared};
use crate::controller::validate::{ValidatedDatabaseCluster, validate};
use crate::crd::{ConditionReason, ReplicatedDatabase, ReplicatedDatabaseStatus};
use coequal_types::NodeName;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::Timestamp;
use kube::api::PostParams;
use kube::runtime::controller::Action;
use kube::{Api, Resource as _, ResourceExt as _};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Next look when all is as wished. Changes of pods come up by themselves; this is for what only nodes know.
const SETTLED: Duration = Duration::from_secs(30);
/// Next look while something is under way.
const BUSY: Duration = Duration::from_secs(1);
/// Next look when that has changed nothing for long: somebody else has to do something first.
const PATIENT: Duration = Duration::from_secs(5);
/// Looks without a change after which it counts as long.
const LOOKS_UNTIL_PATIENT: u32 = 30;
/// Next look at a manifest that breaks a rule; correcting it comes up by itself.
const INVALID: Duration = Duration::from_secs(600);
/// Next look after somebody else was faster.
const AT_ONCE: Duration = Duration::from_millis(300);
/// Longest wait after failures in a row.
const LONGEST: Duration = Duration::from_secs(60);

/// Brings one resource a step further.
pub async fn reconcile(resource: Arc<ReplicatedDatabase>, context: Arc<Context>) -> Result<Action, ReconcileError> {
    let begun = Instant::now();
    let result = run(&resource, &context).await;
    let uid = resource.uid().unwrap_or_default();
    context.health.metrics.reconciled(begun.elapsed(), result.is_err());
    if result.is_ok() && resource.meta().deletion_timestamp.is_none() {
        context.remember(&uid, |memory| memory.failures = 0);
    }
    result
}

/// When to try again after a failure: later and later, each resource for itself.
pub fn after_failure(resource: Arc<ReplicatedDatabase>, error: &ReconcileError, context: Arc<Context>) -> Action {
    if error.is_conflict() {
        return Action::requeue(AT_ONCE);
    }
    let uid = resource.uid().unwrap_or_default();
    let failures = context.remember(&uid, |memory| {
        memory.failures = memory.failures.saturating_add(1);
        memory.failures
    });
    let wait = BUSY.saturating_mul(1_u32.checked_shl(failures.min(6)).unwrap_or(64)).min(LONGEST);
    tracing::warn!(%error, again_in_seconds = wait.as_secs(), "a reconcile failed");
    Action::requeue(wait)
}

async fn run(resource: &ReplicatedDatabase, context: &Context) -> Result<Action, ReconcileError> {
    if !context.has_listed() {
        return Ok(Action::requeue(AT_ONCE));
    }
    if resource.meta().deletion_timestamp.is_some() {
        // Children go with their owner, volumes stay or go by their policy: nothing is left to do.
        context.forget(&resource.uid().unwrap_or_default());
        return Ok(Action::await_change());
    }
    let namespace = resource.namespace().ok_or(ReconcileError::Incomplete("namespace"))?;
    let now = Time(Timestamp::now());
    let old = resource.status.clone().unwrap_or_default();
    if old.conditions.is_empty() {
        let first = ReplicatedDatabaseStatus {
            conditions: status::first(resource.meta().generation, &now).conditions,
            observed_generation: resource.meta().generation,
            ..old
        };
        write_status(context, resource, &namespace, first).await?;
        return Ok(Action::requeue(AT_ONCE));
    }
    let text = serde_json::to_string(resource).map_err(|error| ReconcileError::Unreadable(error.to_string()))?;
    let wish = match validate(&text) {
        Ok(wish) => wish,
        Err(faults) => {
            let faults = faults.to_string();
            events::tell(context, resource, EventType::Warning, "InvalidSpec", &faults).await;
            let status = status::invalid(&old, resource.meta().generation, &faults, &now);
            write_status(context, resource, &namespace, status).await?;
            return Ok(Action::requeue(INVALID));
        }
    };
    events::forget(context, resource, "InvalidSpec");
    turn(context, resource, &namespace, &wish, &old, &now).await
}

/// What every step of a turn works with.
pub struct Turn<'a> {
    /// What all reconciles share.
    pub context: &'a Context,
    /// The resource.
    pub resource: &'a ReplicatedDatabase,
    /// Its namespace.
    pub namespace: &'a str,
    /// What is wished.
    pub wish: &'a ValidatedDatabaseCluster,
    /// What was seen.
    pub seen: &'a Seen,
    /// The client for the nodes, while there is a certificate for it.
    pub client: Option<&'a reqwest::Client>,
    /// What of the manifest restarts nodes, as a fingerprint.
    pub revision: &'a str,
}

async fn turn(
    context: &Context,
    resource: &ReplicatedDatabase,
    namespace: &str,
    wish: &ValidatedDatabaseCluster,
    old: &ReplicatedDatabaseStatus,
    now: &Time,
) -> Result<Action, ReconcileError> {
    let secured = security::ensure(context, resource, namespace, wish, now.0).await?;
    let seen = observe(context, resource, wish, namespace, secured.client.as_ref()).await?;
    let step = next_step(wish, &seen.observed);
    if let (Step::Initialize(name), None) = (&step, &old.initializing_node) {
        // Written before it is told to: of two operators only one can write this version of the resource.
        let chosen = ReplicatedDatabaseStatus { initializing_node: Some(name.to_string()), ..old.clone() };
        write_status(context, resource, namespace, chosen).await?;
        return Ok(Action::requeue(AT_ONCE));
    }
    let revision = names::revision(wish, resource.annotations().get(RESTART).map(String::as_str));
    let client = secured.client.as_ref();
    let turn = Turn { context, resource, namespace, wish, seen: &seen, client, revision: &revision };
    let (acted, refusal) = match carry_out(&turn, &step, &secured).await {
        Ok(acted) => (acted, None),
        Err(error) => match error.refusal() {
            // The same request will be refused again: a person has to know, and what is seen is still told.
            Some(message) => {
                let obstacle = Obstacle { reason: ConditionReason::RequestRefused, message };
                (Acted { obstacles: vec![obstacle], ..Acted::default() }, Some(error))
            }
            None => return Err(error),
        },
    };
    let pods = words_of_pods(&seen);
    let facts = Facts {
        generation: resource.meta().generation,
        wish,
        observed: &seen.observed,
        pods: &pods,
        activity: acted.activity.clone(),
        obstacles: &acted.obstacles,
        certificates: &secured.condition,
    };
    let status = status::status(old, &facts, now);
    tell(&turn, &acted, &status).await;
    for (reason, note) in &secured.warnings {
        events::tell(context, resource, EventType::Warning, reason, note).await;
    }
    let is_settled = status.conditions.iter().any(|c| c.type_ == "Reconciling" && c.status == "False");
    let changed = write_status(context, resource, namespace, status).await? || acted.changed;
    let looks = context.remember(&resource.uid().unwrap_or_default(), |memory| {
        memory.looks_without_change = if changed { 0 } else { memory.looks_without_change.saturating_add(1) };
        memory.looks_without_change
    });
    match refusal {
        Some(error) => Err(error),
        None if is_settled && acted.obstacles.is_empty() && !acted.changed => Ok(Action::requeue(SETTLED)),
        None if looks >= LOOKS_UNTIL_PATIENT => Ok(Action::requeue(PATIENT)),
        None => Ok(Action::requeue(BUSY)),
    }
}

/// All changes of one turn, in their order.
async fn carry_out(turn: &Turn<'_>, step: &Step, secured: &Secured) -> Result<Acted, ReconcileError> {
    let mut acted = Acted::of(secured);
    act::troubles(turn, &mut acted);
    // Before anything that waits for health: a full disk is when it is needed.
    act::grow_volumes(turn, &mut acted).await?;
    let pods = plan::pods(turn.wish, step, turn.seen.pods_now(), &turn.seen.observed);
    act::mark_claims(turn, step, pods).await?;
    let owner = turn.resource.controller_owner_ref(&()).ok_or(ReconcileError::Incomplete("uid"))?;
    let image = turn.wish.image.as_deref().or(turn.seen.image_now()).unwrap_or(&turn.context.node_image);
    let children = build::build(&Plan {
        wish: turn.wish,
        namespace: turn.namespace,
        owner,
        pods,
        image,
        revision: turn.revision,
        trusted: secured.trusted.as_deref(),
        // Without certificates or tokens nodes would only fail; those that run are left alone.
        with_nodes: secured.may_start || turn.seen.stateful_set.is_some(),
    });
    let Applied { obstacles, waits, changed } =
        apply::apply(turn.context, turn.resource, turn.namespace, &children).await?;
    acted.obstacles.extend(obstacles);
    acted.changed |= changed;
    for wait in waits {
        acted.waits_for(ConditionReason::NodesStarting, &wait);
    }
    act::ask_nodes(turn, step, &mut acted).await;
    act::tell_held_removal(turn, step, &mut acted);
    act::renew_node(turn, step, &mut acted).await?;
    if secured.may_start {
        act::replace_pods(turn, step, &mut acted).await?;
    }
    act::free_lost_pods(turn, &mut acted).await?;
    Ok(acted)
}

fn words_of_pods(seen: &Seen) -> BTreeMap<u32, PodWords> {
    let words = |pod: &super::observe::SeenPod| PodWords {
        trouble: pod.trouble.as_ref().map(|trouble| trouble.message.clone()),
        should_answer: pod.should_answer,
        probe_passes: super::pods::is_ready(&pod.pod),
    };
    seen.pods.iter().map(|(ordinal, pod)| (*ordinal, words(pod))).collect()
}

/// Events of this turn: what was done, what a person must do, and which nodes came or went.
async fn tell(turn: &Turn<'_>, acted: &Acted, status: &ReplicatedDatabaseStatus) {
    let (context, resource) = (turn.context, turn.resource);
    for (reason, note) in &acted.done {
        events::forget(context, resource, reason);
        events::tell(context, resource, EventType::Normal, reason, note).await;
    }
    for obstacle in &acted.obstacles {
        events::tell(context, resource, EventType::Warning, obstacle.reason.as_str(), &obstacle.message).await;
    }
    if !acted.obstacles.iter().any(|obstacle| obstacle.reason == ConditionReason::UnsafeScaleIn) {
        events::forget(context, resource, ConditionReason::UnsafeScaleIn.as_str());
    }
    let kept: Vec<String> = undeclared(turn.wish, &turn.seen.observed).iter().map(ToString::to_string).collect();
    if !kept.is_empty() {
        let note = format!("databases that are no longer declared are kept: {}", kept.join(", "));
        events::tell(context, resource, EventType::Normal, "DatabasesKept", &note).await;
    }
    let online: std::collections::BTreeSet<_> =
        status.nodes.iter().filter(|node| node.status == "ONLINE").filter_map(|node| node.name.parse().ok()).collect();
    let uid = resource.uid().unwrap_or_default();
    let before = context.remember(&uid, |memory| memory.online.replace(online.clone()));
    // A new operator goes on from what the last one wrote.
    let before = before.unwrap_or_else(|| online_in(resource.status.as_ref()));
    for name in before.difference(&online) {
        // One that stops or is gone was told to: a restart or a removal has an Event of its own.
        let node = status.nodes.iter().find(|node| node.name == name.as_str() && node.status != "SHUTTINGDOWN");
        let Some(node) = node else { continue };
        let word = node.status.as_str();
        let why = node.message.as_deref().map(|why| format!(": {why}")).unwrap_or_default();
        events::forget(context, resource, "NodeOnline");
        events::tell(context, resource, EventType::Normal, "NodeNotOnline", &format!("{name} is {word}{why}")).await;
    }
    for name in online.difference(&before) {
        events::forget(context, resource, "NodeNotOnline");
        events::tell(context, resource, EventType::Normal, "NodeOnline", &format!("{name} is ONLINE")).await;
    }
}

fn online_in(status: Option<&ReplicatedDatabaseStatus>) -> BTreeSet<NodeName> {
    let nodes = status.into_iter().flat_map(|status| &status.nodes);
    nodes.filter(|node| node.status == "ONLINE").filter_map(|node| node.name.parse().ok()).collect()
}

/// Writes status when it differs, bound to the version that was read: of two writers one fails. True when it differed.
async fn write_status(
    context: &Context,
    resource: &ReplicatedDatabase,
    namespace: &str,
    status: ReplicatedDatabaseStatus,
) -> Result<bool, ReconcileError> {
    if resource.status.as_ref() == Some(&status) {
        return Ok(false);
    }
    let mut changed = resource.clone();
    changed.status = Some(status);
    let api: Api<ReplicatedDatabase> = Api::namespaced(context.client.clone(), namespace);
    let name = resource.name_any();
    let params = PostParams { field_manager: Some(names::FIELD_MANAGER.to_owned()), ..PostParams::default() };
    let call = api.replace_status(&name, &params, &changed);
    calls::change(&context.leadership, "write status of", &name, call).await?;
    context.health.metrics.wrote();
    Ok(true)
}
