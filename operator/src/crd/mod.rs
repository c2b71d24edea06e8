//! The resource `ReplicatedDatabase`. These types are the source; `crds/` holds what they print.

mod condition;
mod rules;
mod schema;
mod spec;
mod status;

pub use condition::{ConditionReason, ConditionType};
pub use spec::{
    DatabaseSpec, ReplicatedDatabase, ReplicatedDatabaseSpec, ResourceAmounts, ResourcesSpec, RetentionPolicy,
    StorageSpec, VolumeRetention,
};
pub use status::{DatabaseOnNodeStatus, DatabaseSummary, NodeSummary, ReplicatedDatabaseStatus};

use kube::CustomResourceExt as _;

/// API group of the resource.
pub const GROUP: &str = "coequal.dev";
/// `apiVersion` of every manifest.
pub const API_VERSION: &str = "coequal.dev/v1alpha1";
/// `kind` of every manifest.
pub const KIND: &str = "ReplicatedDatabase";

/// Bounds that the schema and the local validation share.
pub mod bounds {
    /// Most replica nodes of one resource.
    pub const REPLICAS_MAX: u32 = 99;
    /// Replica nodes when the manifest does not say.
    pub const REPLICAS_DEFAULT: u32 = 3;
    /// Most databases of one resource.
    pub const DATABASES_MAX: usize = 64;
    /// Longest `metadata.name`: names of pods and services derive from it.
    pub const NAME_BYTES_MAX: usize = 40;
    /// Shortest grace period, in seconds.
    pub const GRACE_SECONDS_MIN: u32 = 1;
    /// Longest grace period, in seconds: a week.
    pub const GRACE_SECONDS_MAX: u32 = 604_800;
    /// Volume size when the manifest does not say.
    pub const SIZE_DEFAULT: &str = "1Gi";
    /// Longest quantity, in characters.
    pub const QUANTITY_BYTES_MAX: usize = 24;
    /// Longest name of an image.
    pub const IMAGE_BYTES_MAX: usize = 512;
    /// Longest name of a storage class.
    pub const STORAGE_CLASS_BYTES_MAX: usize = 253;
}

/// The CustomResourceDefinition as YAML, as it stands in `crds/`.
pub fn definition_yaml() -> Result<String, serde_yaml::Error> {
    // Through JSON text: serde_json keeps numbers as written, in a form that only its own writer understands.
    let json =
        serde_json::to_string(&ReplicatedDatabase::crd()).map_err(<serde_yaml::Error as serde::ser::Error>::custom)?;
    let body = serde_yaml::to_string(&serde_yaml::from_str::<serde_yaml::Value>(&json)?)?;
    Ok(format!("# Printed by `coequal-operator crd`; change the types in operator/src/crd instead.\n{body}"))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use super::*;

    #[test]
    fn the_committed_definition_is_what_the_types_print() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../crds/replicateddatabases.coequal.dev.yaml");
        let committed = std::fs::read_to_string(path).unwrap_or_default();
        assert!(
            committed == definition_yaml().unwrap(),
            "crds/ differs; run: cargo run --bin coequal-operator -- crd > crds/replicateddatabases.coequal.dev.yaml"
        );
    }

    #[test]
    fn the_definition_stays_far_below_what_client_side_apply_can_carry() {
        assert!(definition_yaml().unwrap().len() < 200_000);
    }

    #[test]
    fn every_field_says_what_it_means() {
        fn silent(path: &str, schema: &serde_yaml::Value, found: &mut Vec<String>) {
            for (name, field) in schema["properties"].as_mapping().into_iter().flatten() {
                let path = format!("{path}.{}", name.as_str().unwrap_or("?"));
                let is_known = matches!(path.as_str(), ".metadata" | ".apiVersion" | ".kind");
                if field["description"].as_str().is_none_or(str::is_empty) && !is_known {
                    found.push(path.clone());
                }
                silent(&path, field, found);
                silent(&format!("{path}[]"), &field["items"], found);
            }
        }
        let definition: serde_yaml::Value = serde_yaml::from_str(&definition_yaml().unwrap()).unwrap();
        let schema = &definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"];
        let mut found = Vec::new();
        silent("", schema, &mut found);
        assert!(found.is_empty() && schema["properties"]["spec"]["properties"]["replicas"].is_mapping(), "{found:?}");
    }

    #[test]
    fn defaults_of_the_schema_are_plain_numbers() {
        let text = definition_yaml().unwrap();
        assert!(!text.contains("private"), "{text}");
        assert!(text.contains("default: 3\n") && text.contains("default: 60\n"));
    }
}
