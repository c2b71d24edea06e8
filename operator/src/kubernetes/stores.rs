//! What Kubernetes holds of our children, kept up to date by watches that see nothing else.

use super::names::{COMPONENT, FIELD_MANAGER, INSTANCE, MANAGED_BY, NODE};
use crate::crd::ReplicatedDatabase;
use futures::{Stream, StreamExt as _};
use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::{ConfigMap, PersistentVolumeClaim, Pod, Service, ServiceAccount};
use k8s_openapi::api::networking::v1::NetworkPolicy;
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use kube::runtime::controller::Controller;
use kube::runtime::reflector::{self, ObjectRef, Store};
use kube::runtime::{WatchStreamExt as _, watcher};
use kube::{Api, Client, Resource, ResourceExt as _};
use serde::de::DeserializeOwned;
use std::fmt::Debug;
use std::hash::Hash;
use std::sync::Arc;

/// A watch that is silent for this long is begun anew, in seconds: a dead connection is noticed.
const WATCH_SECONDS: u32 = 120;

/// Everything that is watched, besides the resources themselves.
#[derive(Clone)]
pub struct Stores {
    /// StatefulSets.
    pub stateful_sets: Store<StatefulSet>,
    /// Services.
    pub services: Store<Service>,
    /// Config maps.
    pub config_maps: Store<ConfigMap>,
    /// Service accounts.
    pub service_accounts: Store<ServiceAccount>,
    /// Disruption budgets.
    pub disruption_budgets: Store<PodDisruptionBudget>,
    /// Network policies.
    pub network_policies: Store<NetworkPolicy>,
    /// Pods.
    pub pods: Store<Pod>,
    /// Claims.
    pub claims: Store<PersistentVolumeClaim>,
}

/// How everything is watched: our own children only.
fn children_only() -> watcher::Config {
    watcher::Config::default()
        .labels(&format!("{MANAGED_BY}={FIELD_MANAGER},{COMPONENT}={NODE}"))
        .timeout(WATCH_SECONDS)
}

/// How resources are watched.
pub fn resources() -> watcher::Config {
    watcher::Config::default().timeout(WATCH_SECONDS)
}

/// One kind in one namespace, or in all.
pub fn api<K>(client: &Client, namespace: Option<&str>) -> Api<K>
where
    K: Resource<Scope = kube::core::NamespaceResourceScope, DynamicType = ()>,
{
    match namespace {
        Some(namespace) => Api::namespaced(client.clone(), namespace),
        None => Api::all(client.clone()),
    }
}

/// The resource that a child belongs to, by its label.
fn owner_of<K: Resource>(child: &K) -> Option<ObjectRef<ReplicatedDatabase>> {
    let name = child.labels().get(INSTANCE)?;
    Some(ObjectRef::new(name).within(child.namespace()?.as_str()))
}

fn watched<K>(api: Api<K>) -> (Store<K>, impl Stream<Item = Result<K, watcher::Error>> + Send + 'static)
where
    K: Resource<DynamicType = ()> + Clone + DeserializeOwned + Debug + Send + Sync + 'static,
    K::DynamicType: Eq + Hash + Clone,
{
    let (store, writer) = reflector::store();
    let events = watcher(api, children_only()).default_backoff().modify(|object| object.managed_fields_mut().clear());
    (store, events.reflect(writer).touched_objects().boxed())
}

/// Adds all watches to a controller; every change of a child brings its resource up again.
pub fn watch(
    mut controller: Controller<ReplicatedDatabase>,
    client: &Client,
    namespace: Option<&str>,
) -> (Controller<ReplicatedDatabase>, Stores) {
    macro_rules! watch {
        ($kind:ty) => {{
            let (store, stream) = watched::<$kind>(api(client, namespace));
            controller = controller.watches_stream(stream, |child: $kind| owner_of(&child));
            store
        }};
    }
    let stores = Stores {
        stateful_sets: watch!(StatefulSet),
        services: watch!(Service),
        config_maps: watch!(ConfigMap),
        service_accounts: watch!(ServiceAccount),
        disruption_budgets: watch!(PodDisruptionBudget),
        network_policies: watch!(NetworkPolicy),
        pods: watch!(Pod),
        claims: watch!(PersistentVolumeClaim),
    };
    (controller, stores)
}

impl Stores {
    /// Waits until every watch has listed once; what is not listed yet would look absent.
    pub async fn ready(&self) -> Result<(), reflector::store::WriterDropped> {
        self.stateful_sets.wait_until_ready().await?;
        self.services.wait_until_ready().await?;
        self.config_maps.wait_until_ready().await?;
        self.service_accounts.wait_until_ready().await?;
        self.disruption_budgets.wait_until_ready().await?;
        self.network_policies.wait_until_ready().await?;
        self.pods.wait_until_ready().await?;
        self.claims.wait_until_ready().await
    }
}

/// All of one resource's objects of a kind.
pub fn of<K>(store: &Store<K>, namespace: &str, cluster: &str) -> Vec<Arc<K>>
where
    K: Resource<DynamicType = ()> + Clone + 'static,
    K::DynamicType: Eq + Hash + Clone,
{
    store.state_filter(|object| {
        object.namespace().as_deref() == Some(namespace)
            && object.labels().get(INSTANCE).is_some_and(|instance| instance == cluster)
    })
}
