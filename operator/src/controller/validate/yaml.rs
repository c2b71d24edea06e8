//! YAML text to exactly one document.

use super::fault::Fault;
use serde::Deserialize as _;
use serde_yaml::Value;

/// The one document of a manifest, as a mapping.
pub(super) fn single_document(text: &str) -> Result<Value, Fault> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut found = Vec::new();
    for document in serde_yaml::Deserializer::from_str(text) {
        let value = Value::deserialize(document).map_err(|error| syntax(&error))?;
        if !value.is_null() {
            found.push(value);
        }
    }
    let count = found.len();
    match (found.pop(), count) {
        (None, _) => Err(Fault::new(
            "",
            "the manifest is empty; begin it with apiVersion: coequal.dev/v1alpha1 and kind: ReplicatedDatabase",
        )),
        (Some(value), 1) if value.is_mapping() => Ok(value),
        (Some(value), 1) => Err(Fault::new(
            "",
            format!(
                "the manifest is {}; it has to be a mapping with apiVersion, kind, metadata and spec",
                described(&value)
            ),
        )),
        (Some(_), _) => Err(Fault::new(
            "",
            format!("the file holds {count} YAML documents; give each ReplicatedDatabase a file of its own"),
        )),
    }
}

fn syntax(error: &serde_yaml::Error) -> Fault {
    let text = error.to_string();
    match error.location() {
        Some(at) => {
            let place = format!(" at line {} column {}", at.line(), at.column());
            // The place stands first, as an editor shows it; once is enough.
            let rest = text.replacen(&place, "", 1);
            Fault::new("", format!("line {} column {}: not valid YAML: {rest}", at.line(), at.column()))
        }
        None => Fault::new("", format!("not valid YAML: {text}")),
    }
}

/// A value in words, for "is …".
pub(super) fn described(value: &Value) -> String {
    match value {
        Value::Null => "empty".to_owned(),
        Value::Bool(value) => format!("the truth value {value}"),
        Value::Number(value) => format!("the number {value}"),
        Value::String(value) => format!("the text {}", super::fault::cut(value)),
        Value::Sequence(items) => format!("a list of {}", items.len()),
        Value::Mapping(_) => "a mapping".to_owned(),
        Value::Tagged(tagged) => format!("a value with the tag {}", tagged.tag),
    }
}
