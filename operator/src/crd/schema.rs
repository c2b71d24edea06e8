//! Schemas of fields whose Rust type says less than the API server should check.

use super::bounds;
use schemars::{Schema, SchemaGenerator, json_schema};

/// `writeQuorum`: a word or a number. The rule that compares it with `replicas` stands on the spec.
pub(super) fn write_quorum(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "x-kubernetes-int-or-string": true,
        "nullable": false,
        "default": "majority",
        "minimum": 1,
        "maximum": bounds::REPLICAS_MAX,
        "maxLength": 8,
        "pattern": "^(majority|all)$",
    })
}

/// `readQuorum`: 1 or majority.
pub(super) fn read_quorum(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "x-kubernetes-int-or-string": true,
        "nullable": false,
        "default": 1,
        "minimum": 1,
        "maximum": 1,
        "maxLength": 8,
        "pattern": "^(1|majority)$",
    })
}

/// A quantity of bytes. The type's own schema is too dear for CEL: it has no length.
pub(super) fn quantity(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "string",
        "default": bounds::SIZE_DEFAULT,
        "maxLength": bounds::QUANTITY_BYTES_MAX,
        "pattern": "^[0-9]+(\\.[0-9]+)?(k|M|G|T|P|E|Ki|Mi|Gi|Ti|Pi|Ei)?$",
    })
}

/// Name and optional prefix, as labels and annotations have them.
pub(super) const QUALIFIED: &str =
    "^([a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?/)?[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?$";
/// Value of a label.
pub(super) const LABEL_VALUE: &str = "^([A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?)?$";

fn texts(value: serde_json::Value, reserved: &[&str]) -> Schema {
    let mut rules = vec![serde_json::json!({
        "rule": format!("self.all(key, size(key) <= 317 && key.matches('{QUALIFIED}'))"),
        "message": "a key is a name of at most 63 characters of a-z, A-Z, 0-9, '-', '_' and '.', with an optional prefix and '/'",
    })];
    for prefix in reserved {
        rules.push(serde_json::json!({
            "rule": format!("self.all(key, !key.startsWith('{prefix}'))"),
            "message": format!("{prefix}… is the operator's own"),
        }));
    }
    json_schema!({
        "type": "object",
        "maxProperties": bounds::POD_TEXTS_MAX,
        "additionalProperties": value,
        "x-kubernetes-validations": rules,
    })
}

/// Labels of pods.
pub(super) fn labels(_: &mut SchemaGenerator) -> Schema {
    texts(serde_json::json!({ "type": "string", "maxLength": 63, "pattern": LABEL_VALUE }), bounds::RESERVED_LABELS)
}

/// Annotations of pods.
pub(super) fn annotations(_: &mut SchemaGenerator) -> Schema {
    let value = serde_json::json!({ "type": "string", "maxLength": bounds::ANNOTATION_BYTES_MAX });
    texts(value, bounds::RESERVED_ANNOTATIONS)
}

/// Labels of machines.
pub(super) fn node_selector(_: &mut SchemaGenerator) -> Schema {
    texts(serde_json::json!({ "type": "string", "maxLength": 63, "pattern": LABEL_VALUE }), &[])
}
