//! One operator leads: a Lease, renewed in good time.
//!
//! ```text
//!  standing by ──lease free, or not renewed for LEASE──> leading ──not renewed for LEADS──> over: the process ends
//! ```
//!
//! Time is measured by this process alone, from the moment before a renewal was sent. A process that was paused finds
//! its time used up before it sends another change; a call that was under way ends within its own deadline, before
//! anybody else may lead. What it changes is bound to the version that it had seen, besides.

use super::calls::{self, CALL_DEADLINE};
use super::error::{ReconcileError, is_status};
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use k8s_openapi::jiff::Timestamp;
use kube::api::PostParams;
use kube::{Api, Client};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// How long others wait after the last renewal that they saw.
const LEASE: Duration = Duration::from_secs(15);
/// How long this process leads after the beginning of its last successful renewal.
const LEADS: Duration = Duration::from_secs(10);
/// Time between renewals, and between looks of those who stand by.
const EVERY: Duration = Duration::from_secs(2);

const _: () = assert!(LEADS.as_secs() + CALL_DEADLINE.as_secs() < LEASE.as_secs());

/// Whether this process leads; cheap to ask before each change.
#[derive(Debug, Clone)]
pub struct Leadership {
    begun: Instant,
    /// Milliseconds after `begun` until which this process leads; 0 before.
    until_ms: Arc<AtomicU64>,
}

impl Leadership {
    /// Not leading yet.
    pub fn new() -> Self {
        Self { begun: Instant::now(), until_ms: Arc::new(AtomicU64::new(0)) }
    }

    /// Whether this process leads now.
    pub fn holds(&self) -> bool {
        self.begun.elapsed().as_millis() < u128::from(self.until_ms.load(Ordering::Acquire))
    }

    fn renewed(&self, at: Instant) {
        let until = at.duration_since(self.begun) + LEADS;
        self.until_ms.store(u64::try_from(until.as_millis()).unwrap_or(u64::MAX), Ordering::Release);
    }

    fn ended(&self) {
        self.until_ms.store(0, Ordering::Release);
    }
}

impl Default for Leadership {
    fn default() -> Self {
        Self::new()
    }
}

/// Takes part in the choice of the one that leads.
pub struct Candidate {
    api: Api<Lease>,
    name: String,
    identity: String,
    leadership: Leadership,
    /// The renewal seen last, and when this process first saw it.
    seen: Option<(Option<String>, Instant)>,
}

impl Candidate {
    /// A candidate for the lease `name`.
    pub fn new(client: Client, namespace: &str, name: &str, identity: String, leadership: Leadership) -> Self {
        Self { api: Api::namespaced(client, namespace), name: name.to_owned(), identity, leadership, seen: None }
    }

    /// Comes back when this process leads.
    pub async fn lead(&mut self) {
        loop {
            match self.turn().await {
                Ok(true) => return,
                Ok(false) => {}
                Err(error) => tracing::warn!(%error, "the lease cannot be taken yet"),
            }
            tokio::time::sleep(EVERY).await;
        }
    }

    /// Renews; comes back when this process leads no more.
    pub async fn keep(&mut self) {
        while self.leadership.holds() {
            tokio::time::sleep(EVERY).await;
            match self.turn().await {
                Ok(true) => {}
                Ok(false) => break,
                Err(error) => tracing::warn!(%error, "the lease is not renewed"),
            }
        }
        self.leadership.ended();
    }

    /// Gives the lease back, so that another leads at once.
    pub async fn release(&mut self) {
        self.leadership.ended();
        let Ok(Some(mut lease)) = self.read().await else { return };
        let Some(spec) = lease.spec.as_mut().filter(|spec| spec.holder_identity.as_ref() == Some(&self.identity))
        else {
            return;
        };
        spec.holder_identity = None;
        spec.renew_time = None;
        let params = PostParams::default();
        let _ = calls::read("give back lease", &self.name, self.api.replace(&self.name, &params, &lease)).await;
    }

    async fn read(&self) -> Result<Option<Lease>, ReconcileError> {
        calls::read("read lease", &self.name, self.api.get_opt(&self.name)).await
    }

    /// One try to take or renew; true when this process leads now.
    async fn turn(&mut self) -> Result<bool, ReconcileError> {
        let begun = Instant::now();
        let found = self.read().await?;
        if let Some(lease) = &found
            && !self.is_free(lease, begun)
        {
            return Ok(false);
        }
        let wanted = self.taken(found.as_ref());
        let params = PostParams::default();
        let written = match &found {
            // The version that was read goes along: of two that try, one fails.
            Some(_) => calls::read("renew lease", &self.name, self.api.replace(&self.name, &params, &wanted)).await,
            None => calls::read("make lease", &self.name, self.api.create(&params, &wanted)).await,
        };
        match written {
            Ok(_) => {
                self.leadership.renewed(begun);
                Ok(true)
            }
            Err(ReconcileError::Kubernetes { source, .. }) if is_status(&source, 409) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Whether the lease is ours, given back, or was not renewed for as long as this process looked.
    fn is_free(&mut self, lease: &Lease, now: Instant) -> bool {
        let spec = lease.spec.as_ref();
        let holder = spec.and_then(|spec| spec.holder_identity.as_deref()).unwrap_or_default();
        if holder.is_empty() || holder == self.identity {
            return true;
        }
        let version = lease.metadata.resource_version.clone();
        match &self.seen {
            Some((seen, since)) if *seen == version => now.duration_since(*since) >= LEASE,
            _ => {
                self.seen = Some((version, now));
                false
            }
        }
    }

    fn taken(&self, found: Option<&Lease>) -> Lease {
        let now = MicroTime(Timestamp::now());
        let mut lease = found.cloned().unwrap_or_default();
        lease.metadata.name = Some(self.name.clone());
        let before = lease.spec.take().unwrap_or_default();
        let is_ours = before.holder_identity.as_ref() == Some(&self.identity);
        let transitions = before.lease_transitions.unwrap_or(0) + i32::from(!is_ours && found.is_some());
        lease.spec = Some(LeaseSpec {
            holder_identity: Some(self.identity.clone()),
            lease_duration_seconds: i32::try_from(LEASE.as_secs()).ok(),
            acquire_time: before.acquire_time.clone().filter(|_| is_ours).or(Some(now.clone())),
            renew_time: Some(now),
            lease_transitions: Some(transitions),
            ..before
        });
        lease
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn leading_ends_by_itself() {
        let leadership = Leadership::new();
        assert!(!leadership.holds());
        let now = Instant::now();
        leadership.renewed(now);
        assert!(leadership.holds());
        if let Some(long_ago) = now.checked_sub(LEADS) {
            let old = Leadership { begun: long_ago, ..Leadership::new() };
            old.renewed(long_ago);
            assert!(!old.holds(), "a process that was paused has used its time up");
        }
        leadership.ended();
        assert!(!leadership.holds());
    }
}
