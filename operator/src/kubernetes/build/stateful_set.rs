//! The StatefulSet: equal pods with stable names, a volume each.
//!
//! Pods are replaced by the operator alone (`OnDelete`): a change of the template restarts nothing by itself. The
//! template depends on nothing that changes from day to day, least of all on the number of nodes.

use super::{Child, ChildKind, Plan, child, pod};
use crate::controller::quantity::is_less;
use crate::controller::validate::ValidatedDatabaseCluster;
use crate::crd::{ResourceAmounts, VolumeRetention};
use crate::kubernetes::names::{self, API_PORT, IMAGE, PEER_PORT, REVISION};
use crate::kubernetes::security;
use serde_json::{Value, json};

/// Where certificates are.
const TLS: &str = "/etc/coequal/tls";
/// Where tokens are.
const TOKENS: &str = "/etc/coequal/tokens";
/// User and group of the node's image.
const USER: u32 = 65532;
/// Secrets are for the node's user and group alone: 0440.
const SECRET_MODE: u32 = 0o440;
/// Where the volume is.
const VOLUME: &str = "/var/lib/coequal";
/// Time for a node to hand over its connections and close its stores, in seconds.
const GRACE_SECONDS: u32 = 60;
/// Time between leaving the Services and stopping, so that no client is sent to a stopping node, in seconds.
const LEAVE_SERVICES_SECONDS: u32 = 3;
/// Memory that a node may use when nothing is said.
const MEMORY_LIMIT: &str = "1Gi";
/// How many nodes a newcomer asks to be taken in, from the first on. Fixed, so that scaling changes no pod.
const ASKED_TO_JOIN: u32 = 5;

pub(super) fn stateful_set(plan: &Plan<'_>) -> Child {
    let wish = plan.wish;
    let hibernates = wish.replicas == 0;
    let spec = json!({
        "replicas": plan.pods,
        "serviceName": names::nodes_name(&wish.name),
        "podManagementPolicy": "Parallel",
        "updateStrategy": { "type": "OnDelete" },
        "revisionHistoryLimit": 3,
        "selector": { "matchLabels": names::selector(&wish.name) },
        "persistentVolumeClaimRetentionPolicy": {
            "whenDeleted": retention(wish.retention.when_deleted),
            // A hibernating cluster keeps its volumes, whatever becomes of those of removed nodes.
            "whenScaled": retention(if hibernates { VolumeRetention::Retain } else { wish.retention.when_scaled }),
        },
        "template": template(plan),
        "volumeClaimTemplates": [claim(wish)],
    });
    let mut set = child(plan, ChildKind::StatefulSet, wish.name.clone(), json!({ "spec": spec }));
    // What the nodes keep when the manifest names no image; the template alone could have been changed by hand.
    set.object["metadata"]["annotations"] = json!({ IMAGE: plan.image });
    set
}

fn retention(policy: VolumeRetention) -> &'static str {
    match policy {
        VolumeRetention::Retain => "Retain",
        VolumeRetention::Delete => "Delete",
    }
}

fn claim(wish: &ValidatedDatabaseCluster) -> Value {
    let mut spec = json!({
        "accessModes": ["ReadWriteOnce"],
        "resources": { "requests": { "storage": wish.storage.size } },
    });
    if let Some(class) = &wish.storage.storage_class_name {
        spec["storageClassName"] = json!(class);
    }
    let metadata = json!({ "name": "data", "labels": names::labels(&wish.name) });
    json!({ "apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": metadata, "spec": spec })
}

fn template(plan: &Plan<'_>) -> Value {
    let cluster = &plan.wish.name;
    let own = json!({ REVISION: plan.revision, "kubectl.kubernetes.io/default-container": "node" });
    let mut template = json!({
        "metadata": {
            "labels": pod::with(&plan.wish.pod.labels, names::labels(cluster)),
            "annotations": pod::with(&plan.wish.pod.annotations, own),
        },
        "spec": {
            "serviceAccountName": names::nodes_name(cluster),
            "automountServiceAccountToken": false,
            "enableServiceLinks": false,
            "terminationGracePeriodSeconds": GRACE_SECONDS,
            "securityContext": {
                "runAsNonRoot": true,
                "runAsUser": USER,
                "runAsGroup": USER,
                "fsGroup": USER,
                "fsGroupChangePolicy": "OnRootMismatch",
                "seccompProfile": { "type": "RuntimeDefault" },
            },
            "containers": [container(plan)],
            "volumes": volumes(plan),
        },
    });
    pod::place(&plan.wish.pod, &names::selector(cluster), &mut template["spec"]);
    template
}

fn container(plan: &Plan<'_>) -> Value {
    let probe = |path: &str, period: u32, timeout: u32, failures: u32| {
        json!({
            "httpGet": { "path": path, "port": "api", "scheme": "HTTPS" },
            "periodSeconds": period, "timeoutSeconds": timeout, "failureThreshold": failures,
        })
    };
    json!({
        "name": "node",
        "image": plan.image,
        "imagePullPolicy": "IfNotPresent",
        "env": environment(plan),
        "ports": [
            { "name": "api", "containerPort": API_PORT, "protocol": "TCP" },
            { "name": "peers", "containerPort": PEER_PORT, "protocol": "TCP" },
        ],
        "resources": resources(plan.wish),
        // Opening large stores takes its time: an hour before the liveness probe has a word.
        "startupProbe": probe("/livez", 2, 2, 1800),
        "livenessProbe": probe("/livez", 10, 5, 6),
        // Until it fails, one client in three is led to a node that nobody reaches.
        "readinessProbe": probe("/readyz", 1, 1, 3),
        "lifecycle": { "preStop": { "sleep": { "seconds": LEAVE_SERVICES_SECONDS } } },
        "securityContext": {
            "allowPrivilegeEscalation": false,
            "readOnlyRootFilesystem": true,
            "capabilities": { "drop": ["ALL"] },
        },
        // Whole folders: a file of its own would not follow its Secret.
        "volumeMounts": [
            { "name": "data", "mountPath": VOLUME },
            { "name": "tls", "mountPath": TLS, "readOnly": true },
            { "name": "tokens", "mountPath": TOKENS, "readOnly": true },
        ],
    })
}

/// Secrets as files, which the kubelet brings up to date and the node reads again.
fn volumes(plan: &Plan<'_>) -> Value {
    let cluster = &plan.wish.name;
    let secret = |name: &str, secret: String| json!({ "name": name, "secret": { "secretName": secret, "defaultMode": SECRET_MODE } });
    let certificates = security::tls_secret(cluster, plan.wish.certificate_secret.as_deref());
    json!([secret("tls", certificates), secret("tokens", security::tokens_secret(cluster))])
}

fn environment(plan: &Plan<'_>) -> Value {
    let cluster = &plan.wish.name;
    let nodes = names::nodes_name(cluster);
    let host = |pod: &str| format!("{pod}.{nodes}.{}.svc", plan.namespace);
    let field = |path: &str| json!({ "fieldRef": { "apiVersion": "v1", "fieldPath": path } });
    let join: Vec<String> =
        (0..ASKED_TO_JOIN).map(|ordinal| format!("{}:{PEER_PORT}", host(&format!("{cluster}-{ordinal}")))).collect();
    let own = json!([
        { "name": "POD_NAME", "valueFrom": field("metadata.name") },
        { "name": "COEQUAL_NAME", "value": "$(POD_NAME)" },
        // A folder of its own: the root of a volume may hold lost+found.
        { "name": "COEQUAL_DATA", "value": format!("{VOLUME}/node") },
        { "name": "COEQUAL_LISTEN", "value": format!("[::]:{API_PORT}") },
        { "name": "COEQUAL_LISTEN_PEERS", "value": format!("[::]:{PEER_PORT}") },
        { "name": "COEQUAL_ADVERTISE", "value": format!("{}:{PEER_PORT}", host("$(POD_NAME)")) },
        { "name": "COEQUAL_ADVERTISE_API", "value": format!("{}:{API_PORT}", host("$(POD_NAME)")) },
        { "name": "COEQUAL_JOIN", "value": join.join(",") },
        { "name": "COEQUAL_TLS_DIRECTORY", "value": TLS },
        { "name": "COEQUAL_TLS_NAME", "value": security::tls_name(cluster, plan.namespace) },
        { "name": "COEQUAL_TLS_API", "value": "true" },
        { "name": "COEQUAL_TOKEN_DIRECTORY", "value": TOKENS },
        // A volume that was kept when its node was removed serves the next node of that name.
        { "name": "COEQUAL_RENEW_WHEN_REMOVED", "value": "true" },
        { "name": "COEQUAL_LOG_JSON", "value": "true" },
    ]);
    let given = plan.wish.pod.env.iter().map(|variable| json!(variable));
    own.as_array().into_iter().flatten().cloned().chain(given).collect()
}

/// Amounts that are always there: without a limit of memory one node could take a whole machine's.
fn resources(wish: &ValidatedDatabaseCluster) -> Value {
    fn lower<'a>(default: &'a str, limit: Option<&'a str>) -> &'a str {
        limit.filter(|limit| is_less(limit, default)).unwrap_or(default)
    }
    let given = wish.resources.limits.clone().unwrap_or_default();
    let amounts = |given: &Option<ResourceAmounts>, cpu: Option<&str>, memory: &str| {
        let given = given.clone().unwrap_or_default();
        let mut found = json!({ "memory": given.memory.as_deref().unwrap_or(memory) });
        if let Some(cpu) = given.cpu.as_deref().or(cpu) {
            found["cpu"] = json!(cpu);
        }
        found
    };
    let requested = wish.resources.requests.as_ref().and_then(|requests| requests.memory.as_deref());
    // A request above the limit would be refused.
    let limit = requested.filter(|requested| is_less(MEMORY_LIMIT, requested)).unwrap_or(MEMORY_LIMIT);
    let limits = amounts(&wish.resources.limits, None, limit);
    let (cpu, memory) = (lower("100m", given.cpu.as_deref()), lower("256Mi", given.memory.as_deref()));
    json!({ "requests": amounts(&wish.resources.requests, Some(cpu), memory), "limits": limits })
}
