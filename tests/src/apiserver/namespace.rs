//! A namespace of its own for each test, with an operator that has exactly the rights that people give it.

use super::gate::Gate;
use super::operator::Operator;
use super::server::Server;
use crate::kubernetes::{Api, at, until};
use reqwest::Method;
use serde_json::{Value, json};
use std::sync::atomic::{AtomicU32, Ordering};

/// Where resources are.
const RESOURCES: &str = "/apis/coequal.dev/v1alpha1";

/// One namespace.
pub struct Namespace {
    /// Its name.
    pub name: String,
    /// With all rights.
    pub api: Api,
    /// The server that it is on.
    pub server: &'static Server,
}

/// A manifest.
pub fn database(name: &str, spec: &Value) -> Value {
    let head = json!({ "apiVersion": "coequal.dev/v1alpha1", "kind": "ReplicatedDatabase" });
    let mut manifest = head;
    manifest["metadata"] = json!({ "name": name });
    manifest["spec"] = spec.clone();
    manifest
}

impl Namespace {
    /// A new one; `None`, and a line that says so, when there is no API server to be had.
    pub async fn new(test: &str) -> Option<Self> {
        static MADE: AtomicU32 = AtomicU32::new(0);
        let server = match Server::shared().await {
            Ok(server) => server,
            Err(reason) => {
                println!("SKIPPED {test}: {reason}");
                return None;
            }
        };
        let name = format!("t{}", MADE.fetch_add(1, Ordering::Relaxed));
        let api = server.api();
        let notes = json!({ "test": test });
        api.create("/api/v1/namespaces", &json!({ "metadata": { "name": name, "annotations": notes } })).await;
        Some(Self { name, api, server })
    }

    /// An operator for this namespace alone; it does not run yet.
    pub async fn operator(&self) -> Operator {
        let user = format!("operator-of-{}", self.name);
        let rights = format!("/apis/rbac.authorization.k8s.io/v1/namespaces/{}", self.name);
        let subjects = json!([{ "kind": "User", "name": user, "apiGroup": "rbac.authorization.k8s.io" }]);
        let leases = json!([{
            "apiGroups": ["coordination.k8s.io"], "resources": ["leases"], "verbs": ["get", "create", "update"],
        }]);
        self.api
            .create(&format!("{rights}/roles"), &json!({ "metadata": { "name": "leases" }, "rules": leases }))
            .await;
        for (kind, name) in [("Role", "leases"), ("ClusterRole", "coequal-operator")] {
            let role = json!({ "kind": kind, "name": name, "apiGroup": "rbac.authorization.k8s.io" });
            let binding = json!({ "metadata": { "name": name }, "roleRef": role, "subjects": subjects });
            self.api.create(&format!("{rights}/rolebindings"), &binding).await;
        }
        Operator::new(&self.name, Gate::open(&self.server.url, &user).await)
    }

    /// Path of resources, or of one.
    pub fn databases(&self, name: &str) -> String {
        let path = format!("{RESOURCES}/namespaces/{}/replicateddatabases", self.name);
        if name.is_empty() { path } else { format!("{path}/{name}") }
    }

    /// Path of a kind in this namespace (`apps/v1 statefulsets`), or of one object (`v1 pods/o-0`).
    pub fn path(&self, what: &str) -> String {
        let (group, rest) = what.split_once(' ').unwrap_or(("v1", what));
        let root = if group.contains('/') { "/apis" } else { "/api" };
        format!("{root}/{group}/namespaces/{}/{rest}", self.name)
    }

    /// Makes a resource.
    pub async fn create(&self, name: &str, spec: &Value) -> Value {
        self.api.create(&self.databases(""), &database(name, spec)).await
    }

    /// Changes fields of spec.
    pub async fn change(&self, name: &str, spec: Value) {
        self.api.patch(&self.databases(name), &json!({ "spec": spec })).await;
    }

    /// A resource.
    pub async fn read(&self, name: &str) -> Value {
        self.api.get(&self.databases(name)).await.unwrap_or_else(|| panic!("{name} exists"))
    }

    /// All objects of a kind.
    pub async fn list(&self, what: &str) -> Vec<Value> {
        let list = self.api.get(&self.path(what)).await.unwrap_or_default();
        list["items"].as_array().cloned().unwrap_or_default()
    }

    /// Waits for a condition with this status and reason, and gives its message.
    pub async fn until_condition(&self, name: &str, kind: &str, status: &str, reason: &str) -> String {
        let (message, _) = until(&format!("{name}: {kind} is {status} ({reason})"), async || {
            let found = condition(&self.read(name).await, kind);
            match at(&found, "/status") == status && (reason.is_empty() || at(&found, "/reason") == reason) {
                true => Ok(at(&found, "/message")),
                false => Err(found.to_string()),
            }
        })
        .await;
        message
    }

    /// Waits until everything that is asked for now is there.
    pub async fn until_ready(&self, name: &str) -> Value {
        until(&format!("{name} is Ready"), async || {
            let resource = self.read(name).await;
            let ready = condition(&resource, "Ready");
            let generation = &resource["metadata"]["generation"];
            match ready["status"] == "True" && ready["observedGeneration"] == *generation {
                true => Ok(resource),
                false => Err(resource["status"].to_string()),
            }
        })
        .await
        .0
    }

    /// Deletes a resource.
    pub async fn delete(&self, name: &str) {
        self.api.delete(&self.databases(name), None).await;
    }

    /// Notes of the Events with this reason, oldest first.
    pub async fn events(&self, reason: &str) -> Vec<String> {
        let mut events = self.list("events.k8s.io/v1 events").await;
        events.retain(|event| event["reason"] == reason);
        events.sort_by_key(|event| at(event, "/eventTime"));
        events.iter().map(|event| at(event, "/note")).collect()
    }

    /// Stores a resource past the API server: as one of an older version would have done.
    pub async fn store(&self, name: &str, resource: &Value) {
        let key = format!("/registry/coequal.dev/replicateddatabases/{}/{name}", self.name);
        let body = json!({ "key": base64(key.as_bytes()), "value": base64(resource.to_string().as_bytes()) });
        let etcd = Api::at(&self.server.etcd);
        etcd.create("/v3/kv/put", &body).await;
    }

    /// Sends a request whose refusal is looked at.
    pub async fn try_create(&self, manifest: &Value, query: &str) -> Result<Value, (u16, String)> {
        let path = format!("{}{query}", self.databases(""));
        self.api.request(Method::POST, &path, "application/json", Some(manifest)).await
    }
}

/// A condition; null when there is none of this type.
pub(super) fn condition(resource: &Value, kind: &str) -> Value {
    let conditions = resource["status"]["conditions"].as_array().into_iter().flatten();
    conditions.into_iter().find(|condition| condition["type"] == kind).cloned().unwrap_or_default()
}

fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for chunk in bytes.chunks(3) {
        let number = (0..3).fold(0_u32, |number, at| number << 8 | u32::from(chunk.get(at).copied().unwrap_or(0)));
        for digit in 0..4 {
            let is_there = digit <= chunk.len();
            let at = usize::try_from(number >> (18 - 6 * digit) & 63).expect("six bits");
            text.push(if is_there { char::from(DIGITS[at]) } else { '=' });
        }
    }
    text
}
