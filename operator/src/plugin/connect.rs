//! From the command line to an API server: kubeconfig, context and namespace as kubectl takes them.

use super::args::ClusterArgs;
use super::error::PluginError;
use crate::crd::ReplicatedDatabase;
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Api, Client, Config};
use std::time::Duration;

/// Deadline of one call.
pub const CALL: Duration = Duration::from_secs(15);

/// A way to the API server, and the namespace that is meant.
pub struct Connection {
    /// The client.
    pub client: Client,
    /// The namespace.
    pub namespace: String,
}

impl Connection {
    /// The resources of the namespace.
    pub fn resources(&self) -> Api<ReplicatedDatabase> {
        Api::namespaced(self.client.clone(), &self.namespace)
    }
}

/// Finds the way; nothing is called yet.
pub async fn connect(args: &ClusterArgs) -> Result<Connection, PluginError> {
    let config = config(args).await?;
    let namespace = args.namespace.clone().unwrap_or_else(|| config.default_namespace.clone());
    let server = config.cluster_url.to_string();
    let client =
        Client::try_from(config).map_err(|error| PluginError::NoWay(format!("no client for {server}: {error}")))?;
    Ok(Connection { client, namespace })
}

async fn config(args: &ClusterArgs) -> Result<Config, PluginError> {
    let read = match &args.kubeconfig {
        Some(file) => Kubeconfig::read_from(file),
        None => Kubeconfig::read(),
    };
    let kubeconfig = match read {
        Ok(kubeconfig) => kubeconfig,
        Err(error) if args.kubeconfig.is_none() && args.context.is_none() => {
            // In a pod there is none, and none is needed.
            return Config::incluster().map_err(|_| PluginError::NoWay(error.to_string()));
        }
        Err(error) => return Err(PluginError::NoWay(error.to_string())),
    };
    if let Some(wanted) = args.context.as_ref() {
        let known: Vec<String> = kubeconfig.contexts.iter().map(|context| context.name.clone()).collect();
        if !known.contains(wanted) {
            return Err(PluginError::NoContext { wanted: wanted.clone(), known });
        }
    }
    let options = KubeConfigOptions { context: args.context.clone(), ..KubeConfigOptions::default() };
    Config::from_custom_kubeconfig(kubeconfig, &options).await.map_err(|error| PluginError::NoWay(error.to_string()))
}
