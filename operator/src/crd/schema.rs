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
