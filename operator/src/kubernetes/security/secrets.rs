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
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use kube::api::{Patch, PatchParams, PostParams};
use kube::{Api, Resource as _, ResourceExt as _};
use serde_json::{Value, json};
use std::collections::BTreeMap;

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
        texts: Texts,
        annotations: Annotations<'_>,
    ) -> Result<(), ReconcileError> {
        let leadership = &self.context.leadership;
        match found {
            Some(found) => {
                let annotations: BTreeMap<_, _> = annotations.iter().copied().collect();
                let metadata = json!({ "resourceVersion": found.version, "annotations": annotations });
                let body = Patch::Merge(json!({ "metadata": metadata, "stringData": texts }));
                let params = PatchParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PatchParams::default() };
                calls::change(leadership, "change Secret", name, self.api.patch(name, &params, &body)).await?;
            }
            None => {
                let owner = self.resource.controller_owner_ref(&()).ok_or(ReconcileError::Incomplete("uid"))?;
                let mut secret = new_secret(&self.resource.name_any(), name, owner, texts, annotations);
                secret.metadata.namespace = Some(self.namespace.to_owned());
                let params = PostParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PostParams::default() };
                calls::change(leadership, "make Secret", name, self.api.create(&params, &secret)).await?;
            }
        }
        self.context.health.metrics.wrote();
        Ok(())
    }
}

/// Keys of a Secret and their values.
pub type Texts = BTreeMap<String, String>;
/// Annotations and their values; without one an annotation is taken away.
pub type Annotations<'a> = &'a [(&'a str, Option<&'a str>)];

fn new_secret(cluster: &str, name: &str, owner: OwnerReference, texts: Texts, annotations: Annotations<'_>) -> Secret {
    let labels = names::labels(cluster);
    let text = |(key, value): (&String, &Value)| Some((key.clone(), value.as_str()?.to_owned()));
    let annotations = annotations.iter().filter_map(|(key, value)| Some(((*key).to_owned(), (*value)?.to_owned())));
    Secret {
        metadata: ObjectMeta {
            name: Some(name.to_owned()),
            labels: Some(labels.as_object().into_iter().flatten().filter_map(text).collect()),
            annotations: Some(annotations.collect()),
            owner_references: Some(vec![owner]),
            ..ObjectMeta::default()
        },
        type_: Some("Opaque".to_owned()),
        string_data: Some(texts),
        ..Secret::default()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_new_secret_is_the_resources_own_and_holds_what_it_is_given() {
        let owner = OwnerReference { name: "orders".into(), uid: "u".into(), ..OwnerReference::default() };
        let texts = Texts::from([("admin".into(), "token".into())]);
        let secret = new_secret("orders", "orders-tokens", owner, texts, &[("a", Some("b")), ("c", None)]);
        let annotations = secret.metadata.annotations.unwrap();
        assert_eq!(annotations, BTreeMap::from([("a".into(), "b".into())]));
        assert_eq!(secret.metadata.owner_references.unwrap()[0].uid, "u");
        assert_eq!(secret.metadata.labels.unwrap()[names::INSTANCE], "orders");
        assert_eq!(secret.string_data.unwrap()["admin"], "token");
    }
}
