//! A namespace with a `ReplicatedDatabase` in it: what a test asks about it, and what it does to it.

use super::access::Access;
use super::api::{Api, at};
use super::operator::{self, OPERATOR_NAMESPACE};
use super::testcluster::TestCluster;
use super::wait::until;
use crate::binaries::root;
use crate::client::Client;
use serde_json::{Value, json};
use std::time::Duration;

/// Name of the resource that most tests make.
const ORDERS: &str = "orders";

/// The namespace of one test.
pub struct Place {
    pub api: Api,
    pub cluster: TestCluster,
    pub namespace: String,
}

impl Place {
    /// Path of objects of the core, such as `pods/orders-0`.
    pub fn core(&self, rest: &str) -> String {
        format!("/api/v1/namespaces/{}/{rest}", self.namespace)
    }

    /// Path of a `ReplicatedDatabase`.
    pub fn rdb(&self, name: &str) -> String {
        format!("/apis/coequal.dev/v1alpha1/namespaces/{}/replicateddatabases/{name}", self.namespace)
    }

    /// Path of a StatefulSet.
    pub fn stateful_set(&self, name: &str) -> String {
        format!("/apis/apps/v1/namespaces/{}/statefulsets/{name}", self.namespace)
    }

    /// `kubectl` in this namespace.
    pub fn kubectl(&self, arguments: &[&str]) -> String {
        self.cluster.kubectl(&[&["-n", self.namespace.as_str()], arguments].concat())
    }

    /// `crds/examples/orders.yaml` as it stands there.
    pub fn apply_example(&self) {
        let path = root().join("crds/examples/orders.yaml");
        self.kubectl(&["apply", "-f", &path.display().to_string()]);
    }

    /// Makes `orders` with this spec, and waits until it is Ready; gives the time that took.
    pub async fn start(&self, spec: Value) -> Duration {
        let replicas = spec["replicas"].as_u64().unwrap_or(3);
        self.create(ORDERS, spec).await;
        self.until_ready(replicas).await
    }

    /// Makes a resource.
    pub async fn create(&self, name: &str, spec: Value) {
        let path = self.rdb("");
        let head = json!({ "apiVersion": "coequal.dev/v1alpha1", "kind": "ReplicatedDatabase" });
        let mut body = head;
        body["metadata"] = json!({ "name": name });
        body["spec"] = spec;
        self.api.create(path.trim_end_matches('/'), &body).await;
    }

    /// Changes `orders`.
    pub async fn patch(&self, body: Value) {
        self.api.patch(&self.rdb(ORDERS), &body).await;
    }

    /// Changes the number of nodes of `orders`.
    pub async fn scale(&self, replicas: u32) {
        self.patch(json!({ "spec": { "replicas": replicas } })).await;
    }

    /// `orders` as it is.
    pub async fn orders(&self) -> Value {
        self.api.get(&self.rdb(ORDERS)).await.unwrap_or_else(|| panic!("{} is gone", self.rdb(ORDERS)))
    }

    /// Waits until `orders` is Ready at its newest generation, with exactly so many nodes.
    pub async fn until_ready(&self, replicas: u64) -> Duration {
        self.until_orders(&format!("orders is Ready with {replicas} nodes"), |orders| is_ready(orders, replicas)).await
    }

    /// Waits until `orders` looks as `check` wants it; gives the time that took.
    pub async fn until_orders(&self, what: &str, check: impl Fn(&Value) -> bool) -> Duration {
        let (_, took) = until(what, async || {
            let orders = self.orders().await;
            if check(&orders) { Ok(()) } else { Err(summary(&orders)) }
        })
        .await;
        took
    }

    /// The status with which a node of `orders` is shown now.
    pub async fn status_of(&self, name: &str) -> String {
        at(&node_of(&self.orders().await, name), "/status")
    }

    /// Waits until a node of `orders` is shown with this status; gives what is said of it.
    pub async fn until_node(&self, name: &str, status: &str) -> String {
        let (node, took) = until(&format!("{name} is shown as {status}"), async || {
            let orders = self.orders().await;
            let found = node_of(&orders, name);
            if found["status"] == status { Ok(found) } else { Err(summary(&orders)) }
        })
        .await;
        println!("{}: {name} is {status} after {took:.1?} {}", self.namespace, at(&node, "/message"));
        at(&node, "/message")
    }

    /// Waits until the database is `ONLINE` on every one of so many nodes.
    pub async fn until_database(&self, name: &str, online: u64) -> Duration {
        self.until_orders(&format!("{name} is ONLINE on {online} nodes"), |orders| {
            let databases = orders["status"]["databases"].as_array();
            databases.into_iter().flatten().any(|known| known["name"] == name && known["online"] == online)
        })
        .await
    }

    /// Something in this namespace, which has to exist.
    pub async fn object(&self, path: &str) -> Value {
        self.api.get(&self.core(path)).await.unwrap_or_else(|| panic!("{path} is gone"))
    }

    /// Identities of the pods of `orders`, by name: another pod of the same name has another one.
    pub async fn pods(&self) -> Vec<(String, String)> {
        let list = self.object("pods?labelSelector=app.kubernetes.io/component%3Dnode").await;
        let items = list["items"].as_array().cloned().unwrap_or_default();
        let mut pods: Vec<_> = items.iter().map(|pod| (at(pod, "/metadata/name"), at(pod, "/metadata/uid"))).collect();
        pods.sort();
        pods
    }

    /// How often containers of nodes of `orders` were restarted.
    pub async fn restarts(&self) -> u64 {
        let list = self.object("pods?labelSelector=app.kubernetes.io/component%3Dnode").await;
        let items = list["items"].as_array().into_iter().flatten();
        items.filter_map(|pod| pod["status"]["containerStatuses"][0]["restartCount"].as_u64()).sum()
    }

    /// Waits until a pod of this name is there that is not `old`, and Ready.
    pub async fn until_other_pod(&self, name: &str, old: &str) -> Duration {
        let (_, took) = until(&format!("another {name} is Ready"), async || {
            let Some(pod) = self.api.get(&self.core(&format!("pods/{name}"))).await else {
                return Err("no pod".to_owned());
            };
            let ready = pod["status"]["conditions"].as_array().into_iter().flatten();
            let ready = ready.clone().any(|c| c["type"] == "Ready" && c["status"] == "True");
            let uid = at(&pod, "/metadata/uid");
            if uid != old && ready { Ok(()) } else { Err(format!("{uid} {}", pod["status"]["phase"])) }
        })
        .await;
        took
    }

    /// The identity of a pod.
    pub async fn uid(&self, pod: &str) -> String {
        at(&self.object(&format!("pods/{pod}")).await, "/metadata/uid")
    }

    /// The address of a pod.
    pub async fn address(&self, pod: &str) -> String {
        at(&self.object(&format!("pods/{pod}")).await, "/status/podIP")
    }

    /// The number of the machine that a pod is on.
    pub async fn machine(&self, pod: &str) -> u32 {
        let name = at(&self.object(&format!("pods/{pod}")).await, "/spec/nodeName");
        name.trim_start_matches("node-").parse().unwrap_or_else(|e| panic!("{pod} is on {name:?}: {e}"))
    }

    /// The address of the client Service of `orders`.
    pub async fn service(&self) -> String {
        at(&self.object(&format!("services/{ORDERS}")).await, "/spec/clusterIP")
    }

    /// A client of the Service of `orders` for few and large requests.
    pub async fn client(&self) -> Client {
        Access::of(self, ORDERS).await.patient(&self.service().await)
    }

    /// A client of one node of `orders`.
    pub async fn node_client(&self, pod: &str) -> Client {
        Access::of(self, ORDERS).await.patient(&self.address(pod).await)
    }

    /// Another version of the operator is deployed.
    pub fn deploy_operator(&self, tag: &str) {
        operator::deploy(&self.cluster, tag);
    }

    async fn operator_pods(&self) -> Vec<Value> {
        let path = format!("/api/v1/namespaces/{OPERATOR_NAMESPACE}/pods");
        let list = self.api.get(&format!("{path}?labelSelector=app.kubernetes.io/name%3Dcoequal-operator")).await;
        let items = list.and_then(|list| list["items"].as_array().cloned()).unwrap_or_default();
        let runs = |pod: &Value| pod["metadata"]["deletionTimestamp"].is_null() && pod["status"]["phase"] == "Running";
        items.into_iter().filter(runs).collect()
    }

    /// The pods of the operator that run, by name.
    pub async fn operators(&self) -> Vec<String> {
        self.operator_pods().await.iter().map(|pod| at(pod, "/metadata/name")).collect()
    }

    /// The numbers of the machines with an operator.
    pub async fn operator_machines(&self) -> Vec<u32> {
        let pods = self.operator_pods().await;
        let names = pods.iter().map(|pod| at(pod, "/spec/nodeName"));
        names.filter_map(|name| name.trim_start_matches("node-").parse().ok()).collect()
    }
}

/// Whether a resource is Ready at its newest generation, with exactly so many nodes.
pub fn is_ready(resource: &Value, replicas: u64) -> bool {
    let (generation, status) = (&resource["metadata"]["generation"], &resource["status"]);
    let ready = condition(resource, "Ready");
    ready["status"] == "True"
        && ready["observedGeneration"] == *generation
        && status["observedGeneration"] == *generation
        && status["replicas"] == replicas
        && status["readyReplicas"] == replicas
}

/// A condition of a resource.
pub fn condition(resource: &Value, kind: &str) -> Value {
    let conditions = resource["status"]["conditions"].as_array().into_iter().flatten();
    conditions.clone().find(|condition| condition["type"] == kind).cloned().unwrap_or(Value::Null)
}

/// What status says of a node.
pub fn node_of(resource: &Value, name: &str) -> Value {
    let nodes = resource["status"]["nodes"].as_array().into_iter().flatten();
    nodes.clone().find(|node| node["name"] == name).cloned().unwrap_or(Value::Null)
}

fn summary(resource: &Value) -> String {
    let status = &resource["status"];
    let nodes: Vec<String> = status["nodes"]
        .as_array()
        .into_iter()
        .flatten()
        .map(|node| format!("{} {} {}", at(node, "/name"), at(node, "/status"), at(node, "/message")))
        .collect();
    let ready = condition(resource, "Ready");
    format!(
        "generation {} observed {}, replicas {} ready {}, Ready={} {}: {}; {nodes:?}; {}",
        resource["metadata"]["generation"],
        status["observedGeneration"],
        status["replicas"],
        status["readyReplicas"],
        at(&ready, "/status"),
        at(&ready, "/reason"),
        at(&ready, "/message"),
        status["databases"],
    )
}
