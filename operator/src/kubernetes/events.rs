//! Events: Normal for what was done, Warning only for what a person must act on. Each is told once.

use super::context::Context;
use super::names::FIELD_MANAGER;
use crate::crd::ReplicatedDatabase;
use k8s_openapi::api::events::v1::Event;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta};
use k8s_openapi::jiff::Timestamp;
use kube::api::PostParams;
use kube::{Api, Resource as _, ResourceExt as _};
use std::time::Duration;

/// Deadline of writing an Event; it is never worth waiting for.
const DEADLINE: Duration = Duration::from_secs(2);
/// Kubernetes takes at most 1024 characters.
const NOTE_CHARACTERS_MAX: usize = 1000;

/// How urgent an Event is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EventType {
    /// Good to know.
    Normal,
    /// A person has to act.
    Warning,
}

/// Tells something about a resource, unless the same was told under this reason last.
pub async fn tell(context: &Context, resource: &ReplicatedDatabase, type_: EventType, reason: &str, note: &str) {
    let uid = resource.uid().unwrap_or_default();
    let is_new = context
        .remember(&uid, |memory| memory.told.insert(reason.to_owned(), note.to_owned()).as_deref() != Some(note));
    if !is_new {
        return;
    }
    match type_ {
        EventType::Normal => tracing::info!(reason, "{note}"),
        EventType::Warning => tracing::warn!(reason, "{note}"),
    }
    if !context.leadership.holds() {
        return;
    }
    let event = event(context, resource, type_, reason, note);
    let namespace = resource.namespace().unwrap_or_default();
    let api: Api<Event> = Api::namespaced(context.client.clone(), &namespace);
    match tokio::time::timeout(DEADLINE, api.create(&PostParams::default(), &event)).await {
        Ok(Ok(_)) => context.health.metrics.wrote(),
        Ok(Err(error)) => tracing::debug!(%error, "an Event was not written"),
        Err(_) => tracing::debug!("an Event was not written in time"),
    }
}

/// One Event of its own for each note: a series would keep the words of its first.
fn event(context: &Context, resource: &ReplicatedDatabase, type_: EventType, reason: &str, note: &str) -> Event {
    let name = format!("{}.{}", resource.name_any(), uuid::Uuid::new_v4().simple());
    Event {
        metadata: ObjectMeta { name: Some(name), namespace: resource.namespace(), ..ObjectMeta::default() },
        action: Some("Reconcile".to_owned()),
        event_time: Some(MicroTime(Timestamp::now())),
        note: Some(note.chars().take(NOTE_CHARACTERS_MAX).collect()),
        reason: Some(reason.to_owned()),
        regarding: Some(resource.object_ref(&())),
        reporting_controller: Some(FIELD_MANAGER.to_owned()),
        reporting_instance: Some(context.identity.clone()),
        type_: Some(
            match type_ {
                EventType::Normal => "Normal",
                EventType::Warning => "Warning",
            }
            .to_owned(),
        ),
        ..Event::default()
    }
}

/// Something that had been told is over: if it comes back it is told again.
pub fn forget(context: &Context, resource: &ReplicatedDatabase, reason: &str) {
    context.remember(&resource.uid().unwrap_or_default(), |memory| memory.told.remove(reason));
}
