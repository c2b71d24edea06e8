//! Reading ReplicatedDatabases, and helping with a name that is not there.

use super::connect::{CALL, Connection};
use super::error::{PluginError, Tried};
use crate::controller::validate::nearest;
use crate::crd::ReplicatedDatabase;
use kube::api::ListParams;
use kube::{Api, ResourceExt as _};

/// Most resources that are shown.
const MOST: u32 = 1000;

/// Waits for an answer of the API server, not for ever.
pub async fn within<T>(tried: Tried<'_>, call: impl Future<Output = Result<T, kube::Error>>) -> Result<T, PluginError> {
    match tokio::time::timeout(CALL, call).await {
        Ok(answer) => answer.map_err(|error| tried.failed(error)),
        Err(_) => Err(PluginError::NoAnswer(format!("nothing came within {} s", CALL.as_secs()))),
    }
}

/// The resource of this name, or a hint at what was perhaps meant.
pub async fn one(connection: &Connection, name: &str) -> Result<ReplicatedDatabase, PluginError> {
    let tried = Tried::on_resources("get", Some(&connection.namespace));
    match within(tried, connection.resources().get_opt(name)).await? {
        Some(resource) => Ok(resource),
        None => Err(missing(connection, name).await),
    }
}

/// All resources of the namespace, or of all namespaces.
pub async fn all(connection: &Connection, everywhere: bool) -> Result<Vec<ReplicatedDatabase>, PluginError> {
    let namespace = (!everywhere).then_some(connection.namespace.as_str());
    let api = match namespace {
        Some(_) => connection.resources(),
        None => Api::all(connection.client.clone()),
    };
    let tried = Tried::on_resources("list", namespace);
    match tokio::time::timeout(CALL, api.list(&ListParams::default().limit(MOST))).await {
        Ok(Ok(list)) => Ok(list.items),
        // A list of something that exists is never "not found".
        Ok(Err(kube::Error::Api(status))) if status.code == 404 => Err(PluginError::NotInstalled),
        Ok(Err(error)) => Err(tried.failed(error)),
        Err(_) => Err(PluginError::NoAnswer(format!("nothing came within {} s", CALL.as_secs()))),
    }
}

async fn missing(connection: &Connection, name: &str) -> PluginError {
    let here = match all(connection, false).await {
        Err(PluginError::NotInstalled) => return PluginError::NotInstalled,
        found => found.unwrap_or_default(),
    };
    // Whoever may look elsewhere is told where it is.
    let elsewhere = all(connection, true).await.unwrap_or_default();
    let hint = hint(name, &connection.namespace, &here, &elsewhere);
    PluginError::NotFound { name: name.to_owned(), namespace: connection.namespace.clone(), hint }
}

pub(super) fn hint(
    name: &str,
    namespace: &str,
    here: &[ReplicatedDatabase],
    elsewhere: &[ReplicatedDatabase],
) -> String {
    let other =
        elsewhere.iter().find(|found| found.name_any() == name && found.namespace().as_deref() != Some(namespace));
    if let Some(other) = other.and_then(ReplicatedDatabase::namespace) {
        return format!("; there is one in namespace {other}: add -n {other}");
    }
    let names: Vec<String> = here.iter().map(ReplicatedDatabase::name_any).collect();
    let known: Vec<&str> = names.iter().map(String::as_str).collect();
    if let Some(near) = nearest(name, &known) {
        return format!("; did you mean {near}?");
    }
    match known.is_empty() {
        true => "; there is none in it. All that you may see: kubectl coequal status -A".to_owned(),
        false => format!("; there are {}", known.join(", ")),
    }
}
