//! Events: Normal for what was done, Warning only for what a person must act on. Each is told once.

use super::context::Context;
use crate::crd::ReplicatedDatabase;
use kube::runtime::events::{Event, EventType};
use kube::{Resource as _, ResourceExt as _};
use std::time::Duration;

/// Deadline of writing an Event; it is never worth waiting for.
const DEADLINE: Duration = Duration::from_secs(2);
/// Kubernetes takes at most 1024 characters.
const NOTE_CHARACTERS_MAX: usize = 1000;

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
    let event = Event {
        type_,
        reason: reason.to_owned(),
        note: Some(note.chars().take(NOTE_CHARACTERS_MAX).collect()),
        action: "Reconcile".to_owned(),
        secondary: None,
    };
    let reference = resource.object_ref(&());
    let publish = context.recorder.publish(&event, &reference);
    match tokio::time::timeout(DEADLINE, publish).await {
        Ok(Ok(())) => context.health.metrics.wrote(),
        Ok(Err(error)) => tracing::debug!(%error, "an Event was not written"),
        Err(_) => tracing::debug!("an Event was not written in time"),
    }
}

/// Something that had been told is over: if it comes back it is told again.
pub fn forget(context: &Context, resource: &ReplicatedDatabase, reason: &str) {
    context.remember(&resource.uid().unwrap_or_default(), |memory| memory.told.remove(reason));
}
