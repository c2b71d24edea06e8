//! Secrets, each read by its name: the operator never lists them, nor may it. What it writes is bound to the version
//! that it read, so that of two operators one fails.

use super::held::Content;
use crate::crd::ReplicatedDatabase;
use crate::kubernetes::apply::{Belongs, belongs};
use crate::kubernetes::calls;
use crate::kubernetes::context::Context;
use crate::kubernetes::error::ReconcileError;
use crate::kubernetes::names::{self, FIELD_MANAGER};
use k8s_openapi::api::core::v1::Secret;
use kube::api::{Patch, PatchParams, PostParams};
use kube::{Api, Resource as _, ResourceExt as _};
use serde_json::{Value, json};

/// A Secret as it was read.
pub struct Found {
    /// What is in it.
    pub content: Content,
    /// Whose it is.
    pub belongs: Belongs,
    version: Option<String>,
}

/// The Secrets of one resource.
pub struct Secrets<'a> {
    context: &'a Context,
    resource: &'a ReplicatedDatabase,
    namespace: &'a str,
    api: Api<Secret>,
}

impl<'a> Secrets<'a> {
    /// Those beside this resource.
    pub fn new(context: &'a Context, resource: &'a ReplicatedDatabase, namespace: &'a str) -> Self {
        Self { context, resource, namespace, api: Api::namespaced(context.client.clone(), namespace) }
    }

    /// One Secret.
    pub async fn read(&self, name: &str) -> Result<Option<Found>, ReconcileError> {
        let Some(secret) = calls::read("read Secret", name, self.api.get_opt(name)).await? else { return Ok(None) };
        let metadata = serde_json::to_value(&secret.metadata).unwrap_or_default();
        let uid = self.resource.uid().unwrap_or_default();
        let belongs = belongs(&json!({ "metadata": metadata }), &self.resource.name_any(), &uid);
        let data = secret.data.unwrap_or_default().into_iter().map(|(key, value)| (key, value.0)).collect();
        let annotations = secret.metadata.annotations.unwrap_or_default();
        let version = secret.metadata.resource_version;
        Ok(Some(Found { content: Content { data, annotations }, belongs, version }))
    }

    /// Makes a Secret, or changes these keys and annotations of the one that was found.
    pub async fn write(
        &self,
        name: &str,
        found: Option<&Found>,
        texts: Value,
        annotations: Value,
    ) -> Result<(), ReconcileError> {
        let leadership = &self.context.leadership;
        match found {
            Some(found) => {
                let metadata = json!({ "resourceVersion": found.version, "annotations": annotations });
                let body = Patch::Merge(json!({ "metadata": metadata, "stringData": texts }));
                let params = PatchParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PatchParams::default() };
                calls::change(leadership, "change Secret", name, self.api.patch(name, &params, &body)).await?;
            }
            None => {
                let secret = self.new_secret(name, texts, annotations)?;
                let params = PostParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PostParams::default() };
                calls::change(leadership, "make Secret", name, self.api.create(&params, &secret)).await?;
            }
        }
        self.context.health.metrics.wrote();
        Ok(())
    }

    fn new_secret(&self, name: &str, texts: Value, annotations: Value) -> Result<Secret, ReconcileError> {
        let owner = self.resource.controller_owner_ref(&()).ok_or(ReconcileError::Incomplete("uid"))?;
        let cluster = self.resource.name_any();
        let metadata = json!({
            "name": name,
            "namespace": self.namespace,
            "labels": names::labels(&cluster),
            "annotations": annotations,
            "ownerReferences": [owner],
        });
        // The error would carry the value.
        serde_json::from_value(json!({ "metadata": metadata, "type": "Opaque", "stringData": texts }))
            .map_err(|_| ReconcileError::Unreadable(format!("Secret {name}")))
    }
}
