//! Making Kubernetes hold what was built: server-side apply under one name, only where something differs.
//!
//! An object of a wanted name that is not ours is left alone, and that is said.

use super::build::{Child, ChildKind};
use super::calls;
use super::context::Context;
use super::error::{ReconcileError, is_status};
use super::names::FIELD_MANAGER;
use super::observe::is_owned;
use super::status::Obstacle;
use super::subset::covers;
use crate::controller::quantity::same_quantity;
use crate::crd::{ConditionReason, KIND, ReplicatedDatabase};
use kube::api::{DeleteParams, DynamicObject, Patch, PatchParams, Preconditions};
use kube::core::{ApiResource, GroupVersionKind, ObjectMeta};
use kube::runtime::reflector::{ObjectRef, Store};
use kube::{Api, Resource, ResourceExt as _};
use serde_json::{Value, json};
use std::hash::Hash;

/// What came of applying.
#[derive(Debug, Default)]
pub struct Applied {
    /// What a person has to put right.
    pub obstacles: Vec<Obstacle>,
    /// What goes away by itself and is waited for.
    pub waits: Vec<String>,
    /// Whether anything was changed.
    pub changed: bool,
}

/// Brings every child to what is wanted.
pub async fn apply(
    context: &Context,
    resource: &ReplicatedDatabase,
    namespace: &str,
    children: &[Child],
) -> Result<Applied, ReconcileError> {
    let uid = resource.uid().unwrap_or_default();
    let mut applied = Applied::default();
    for child in children {
        let api = api_of(context, child.kind, namespace);
        let live = match known(context, child, namespace) {
            Some(live) => Some(live),
            // What the watch does not show may still be there without our labels.
            None => calls::read("read", &child.name, api.get_opt(&child.name))
                .await?
                .and_then(|object| serde_json::to_value(object).ok()),
        };
        match bring(context, &api, child, live.as_ref(), &resource.name_any(), &uid).await {
            Ok(Brought::Same) => {}
            Ok(Brought::Changed) => {
                applied.changed = true;
                tracing::info!(kind = ?child.kind, name = %child.name, "applied");
            }
            Ok(Brought::Waits) => applied.waits.push(format!("{} of the deleted resource to go", words(child))),
            Ok(Brought::Foreign) => applied.obstacles.push(foreign(child)),
            // What is refused holds up nothing else.
            Err(error) => match error.refusal() {
                Some(message) => {
                    applied.obstacles.push(Obstacle { reason: ConditionReason::RequestRefused, message });
                }
                None => return Err(error),
            },
        }
    }
    let has_budget = children.iter().any(|child| child.kind == ChildKind::PodDisruptionBudget);
    if !has_budget {
        applied.changed |= drop_budget(context, namespace, resource).await?;
    }
    Ok(applied)
}

/// What came of one child.
enum Brought {
    Same,
    Changed,
    Waits,
    Foreign,
}

async fn bring(
    context: &Context,
    api: &Api<DynamicObject>,
    child: &Child,
    live: Option<&Value>,
    name: &str,
    uid: &str,
) -> Result<Brought, ReconcileError> {
    let Some(live) = live else {
        patch(context, api, child, None, false).await?;
        return Ok(Brought::Changed);
    };
    match belongs(live, name, uid) {
        Belongs::Ours if covers(&child.object, live) => return Ok(Brought::Same),
        Belongs::Ours if needs_a_new_one(child, live) => remove_around_pods(context, api, child, live).await?,
        Belongs::Ours => put_back(context, api, child, live).await?,
        Belongs::Predecessor => return Ok(Brought::Waits),
        Belongs::Stranger => return Ok(Brought::Foreign),
    }
    Ok(Brought::Changed)
}

/// Applies over what is there. Entries that somebody added to a list are not ours, so that applying leaves them (and
/// may be refused because of them): then the whole of spec is sent once more as a merge, which replaces lists.
async fn put_back(
    context: &Context,
    api: &Api<DynamicObject>,
    child: &Child,
    live: &Value,
) -> Result<(), ReconcileError> {
    let result = patch(context, api, child, Some(live), true).await;
    let is_back = match &result {
        Ok(object) => covers(&child.object, object),
        Err(ReconcileError::Kubernetes { source, .. }) if is_status(source, 422) => false,
        Err(_) => true,
    };
    if is_back || child.kind == ChildKind::StatefulSet {
        return result.map(drop);
    }
    let params = PatchParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PatchParams::default() };
    let body = Patch::Merge(json!({ "spec": child.object["spec"] }));
    calls::change(&context.leadership, "put back", &words(child), api.patch(&child.name, &params, &body)).await?;
    context.health.metrics.wrote();
    Ok(())
}

fn foreign(child: &Child) -> Obstacle {
    let message = format!(
        "{} exists and does not belong to this resource; it was not touched. Delete or rename it, or give this \
         resource another name",
        words(child)
    );
    Obstacle { reason: ConditionReason::ForeignObject, message }
}

fn words(child: &Child) -> String {
    format!("{} {}", child.kind.type_meta().1, child.name)
}

/// Whose an object is.
#[derive(Debug, PartialEq, Eq)]
enum Belongs {
    Ours,
    /// Of a resource of this name that is deleted; the garbage collector takes it.
    Predecessor,
    Stranger,
}

fn belongs(live: &Value, name: &str, uid: &str) -> Belongs {
    let metadata: ObjectMeta = serde_json::from_value(live["metadata"].clone()).unwrap_or_default();
    if is_owned(&metadata, uid) {
        return Belongs::Ours;
    }
    let of_our_kind = |owner: &k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference| {
        owner.kind == KIND && owner.name == name && owner.controller == Some(true)
    };
    match metadata.owner_references.iter().flatten().any(of_our_kind) {
        true => Belongs::Predecessor,
        false => Belongs::Stranger,
    }
}

/// The live object as the watches know it.
fn known(context: &Context, child: &Child, namespace: &str) -> Option<Value> {
    let stores = &context.stores;
    match child.kind {
        ChildKind::ServiceAccount => stored(&stores.service_accounts, child, namespace),
        ChildKind::HeadlessService | ChildKind::ClientService => stored(&stores.services, child, namespace),
        ChildKind::PodDisruptionBudget => stored(&stores.disruption_budgets, child, namespace),
        ChildKind::NetworkPolicy => stored(&stores.network_policies, child, namespace),
        ChildKind::StatefulSet => stored(&stores.stateful_sets, child, namespace),
    }
}

fn stored<K>(store: &Store<K>, child: &Child, namespace: &str) -> Option<Value>
where
    K: Resource<DynamicType = ()> + Clone + serde::Serialize + 'static,
    K::DynamicType: Eq + Hash + Clone,
{
    let object = store.get(&ObjectRef::new(&child.name).within(namespace))?;
    serde_json::to_value(object.as_ref()).ok()
}

fn api_of(context: &Context, kind: ChildKind, namespace: &str) -> Api<DynamicObject> {
    let (api_version, kind) = kind.type_meta();
    let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
    let resource = ApiResource::from_gvk(&GroupVersionKind::gvk(group, version, kind));
    Api::namespaced_with(context.client.clone(), namespace, &resource)
}

/// Sends what is wanted. The StatefulSet goes with the version that was seen: whoever was faster wins.
async fn patch(
    context: &Context,
    api: &Api<DynamicObject>,
    child: &Child,
    live: Option<&Value>,
    force: bool,
) -> Result<Value, ReconcileError> {
    let mut object = child.object.clone();
    if child.kind == ChildKind::StatefulSet
        && let Some(live) = live
    {
        object["metadata"]["resourceVersion"] = live["metadata"]["resourceVersion"].clone();
    }
    let mut params = PatchParams::apply(FIELD_MANAGER);
    params.force = force;
    let body = Patch::Apply(&object);
    let call = api.patch(&child.name, &params, &body);
    let applied =
        calls::change(&context.leadership, "apply", &words(child), call).await.map_err(|error| match &error {
            ReconcileError::Kubernetes { source, .. } if is_status(source, 409) => {
                ReconcileError::Changed { kind: child.kind, name: child.name.clone() }
            }
            _ => error,
        })?;
    context.health.metrics.wrote();
    Ok(serde_json::to_value(applied).unwrap_or_default())
}

/// Templates of claims cannot be changed: the StatefulSet is made anew around its pods, which run on.
fn needs_a_new_one(child: &Child, live: &Value) -> bool {
    if child.kind != ChildKind::StatefulSet {
        return false;
    }
    let size = |object: &Value| {
        object["spec"]["volumeClaimTemplates"][0]["spec"]["resources"]["requests"]["storage"]
            .as_str()
            .map(str::to_owned)
    };
    match (size(&child.object), size(live)) {
        (Some(wanted), Some(live)) => !same_quantity(&wanted, &live),
        _ => false,
    }
}

async fn remove_around_pods(
    context: &Context,
    api: &Api<DynamicObject>,
    child: &Child,
    live: &Value,
) -> Result<(), ReconcileError> {
    let text = |field: &str| live["metadata"][field].as_str().map(str::to_owned);
    let params = DeleteParams {
        preconditions: Some(Preconditions { uid: text("uid"), resource_version: text("resourceVersion") }),
        ..DeleteParams::orphan()
    };
    calls::change(&context.leadership, "make anew", &words(child), api.delete(&child.name, &params)).await?;
    context.health.metrics.wrote();
    Ok(())
}

/// A single node needs no budget; ours goes.
async fn drop_budget(
    context: &Context,
    namespace: &str,
    resource: &ReplicatedDatabase,
) -> Result<bool, ReconcileError> {
    let name = super::names::nodes_name(&resource.name_any());
    let Some(budget) = context.stores.disruption_budgets.get(&ObjectRef::new(&name).within(namespace)) else {
        return Ok(false);
    };
    if !is_owned(&budget.metadata, &resource.uid().unwrap_or_default()) {
        return Ok(false);
    }
    let api = api_of(context, ChildKind::PodDisruptionBudget, namespace);
    calls::change(&context.leadership, "delete", &name, api.delete(&name, &DeleteParams::default())).await?;
    context.health.metrics.wrote();
    Ok(true)
}

/// A merge patch of one field of metadata or spec of a claim.
pub async fn patch_claim(context: &Context, namespace: &str, name: &str, body: Value) -> Result<(), ReconcileError> {
    let api: Api<k8s_openapi::api::core::v1::PersistentVolumeClaim> =
        Api::namespaced(context.client.clone(), namespace);
    let params = PatchParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PatchParams::default() };
    let body = Patch::Merge(&body);
    let call = api.patch(name, &params, &body);
    calls::change(&context.leadership, "change claim", name, call).await?;
    context.health.metrics.wrote();
    Ok(())
}

/// Marks a claim as that of a node that was taken out, or takes the mark away.
pub async fn mark_removed(
    context: &Context,
    namespace: &str,
    name: &str,
    is_removed: bool,
) -> Result<(), ReconcileError> {
    let mark = if is_removed { json!("true") } else { Value::Null };
    let body = json!({ "metadata": { "annotations": { super::names::REMOVED: mark } } });
    patch_claim(context, namespace, name, body).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_names_this_resource_as_its_controller_is_ours() {
        let owned = |uid: &str, kind: &str| {
            let owner = json!({ "apiVersion": "x/v1", "kind": kind, "name": "o", "uid": uid, "controller": true });
            json!({ "metadata": { "ownerReferences": [owner] } })
        };
        assert_eq!(belongs(&owned("u", KIND), "o", "u"), Belongs::Ours);
        assert_eq!(belongs(&owned("other", KIND), "o", "u"), Belongs::Predecessor);
        assert_eq!(belongs(&owned("other", KIND), "o-nodes", "u"), Belongs::Stranger);
        assert_eq!(belongs(&owned("other", "Deployment"), "o", "u"), Belongs::Stranger);
        assert_eq!(belongs(&json!({ "metadata": { "labels": { "a": "b" } } }), "o", "u"), Belongs::Stranger);
    }
}
