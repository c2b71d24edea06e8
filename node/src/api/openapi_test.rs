//! The document says what the routes are, and nothing else.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use super::super::paths::ROUTES;
use super::*;
use serde_json::Value;
use std::collections::BTreeSet;

fn json() -> Value {
    serde_json::to_value(document()).unwrap()
}

#[test]
fn every_method_of_every_route_is_in_the_document_and_nothing_else() {
    let routed: BTreeSet<(String, String)> = ROUTES
        .iter()
        .flat_map(|route| route.methods.iter().map(|m| (route.path.to_owned(), m.as_str().to_lowercase())))
        .collect();
    let document = json();
    let described: BTreeSet<(String, String)> = document["paths"]
        .as_object()
        .unwrap()
        .iter()
        .flat_map(|(path, item)| item.as_object().unwrap().keys().map(|method| (path.clone(), method.clone())))
        .collect();
    assert_eq!(routed, described);
    assert_eq!(ENTRIES.len(), routed.len(), "an entry stands twice or has no route");
}

#[test]
fn the_version_is_3_1_and_operations_have_names_of_their_own() {
    let document = json();
    assert_eq!(document["openapi"], "3.1.0");
    let mut ids = BTreeSet::new();
    for item in document["paths"].as_object().unwrap().values() {
        for operation in item.as_object().unwrap().values() {
            assert!(ids.insert(operation["operationId"].as_str().unwrap().to_owned()), "{operation}");
            assert!(
                operation["responses"].as_object().unwrap().keys().any(|status| status.starts_with('2')),
                "{operation}"
            );
        }
    }
}

#[test]
fn every_reference_leads_somewhere() {
    fn walk(value: &Value, found: &mut BTreeSet<String>) {
        match value {
            Value::Object(members) => {
                if let Some(Value::String(to)) = members.get("$ref") {
                    found.insert(to.clone());
                }
                members.values().for_each(|value| walk(value, found));
            }
            Value::Array(values) => values.iter().for_each(|value| walk(value, found)),
            _ => {}
        }
    }
    let document = json();
    let mut found = BTreeSet::new();
    walk(&document, &mut found);
    assert!(found.len() > 10);
    for reference in found {
        let pointer = reference.strip_prefix('#').expect(&reference);
        assert!(document.pointer(pointer).is_some(), "{reference}");
    }
}

#[test]
fn path_parameters_of_each_operation_are_those_of_its_path() {
    let document = json();
    for (path, item) in document["paths"].as_object().unwrap() {
        for operation in item.as_object().unwrap().values() {
            let parameters = operation["parameters"].as_array().unwrap();
            let named: Vec<&str> = parameters
                .iter()
                .filter(|parameter| parameter["in"] == "path")
                .map(|parameter| parameter["name"].as_str().unwrap())
                .collect();
            let expected: Vec<&str> =
                path.split('/').filter_map(|part| part.strip_prefix('{')?.strip_suffix('}')).collect();
            assert_eq!(named, expected, "{path}");
        }
    }
}
