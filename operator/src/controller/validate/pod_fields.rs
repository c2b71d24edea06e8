//! What the manifest says of the nodes' pods: labels, where they may run, and what they are given.

use super::fault::{Fault, cut};
use super::fields::Fields;
use crate::crd::{
    EnvironmentVariable, PodSpec, SecretName, SpreadSpec, TaintEffect, TolerationOperator, TolerationSpec,
    WhenUnsatisfiable, bounds,
};
use serde_yaml::Value;
use std::collections::BTreeMap;

const POD_FIELDS: &[&str] = &[
    "labels",
    "annotations",
    "nodeSelector",
    "tolerations",
    "topologySpreadConstraints",
    "priorityClassName",
    "imagePullSecrets",
    "env",
];

/// The whole of `spec.pod`.
pub(super) fn pod(spec: &Fields<'_>, faults: &mut Vec<Fault>) -> PodSpec {
    let Some(fields) = spec.mapping("pod", faults) else { return PodSpec::default() };
    fields.refuse_unknown(POD_FIELDS, faults);
    let pod = PodSpec {
        labels: texts(&fields, "labels", bounds::RESERVED_LABELS, true, faults),
        annotations: texts(&fields, "annotations", bounds::RESERVED_ANNOTATIONS, false, faults),
        node_selector: texts(&fields, "nodeSelector", &[], true, faults),
        tolerations: entries(&fields, "tolerations", 16, faults, toleration),
        topology_spread_constraints: entries(&fields, "topologySpreadConstraints", 8, faults, spread),
        priority_class_name: name(&fields, "priorityClassName", "a priority class", faults),
        image_pull_secrets: entries(&fields, "imagePullSecrets", 8, faults, |entry, faults| {
            entry.refuse_unknown(&["name"], faults);
            needed(entry, "name", faults);
            name(entry, "name", "a Secret", faults).map(|name| SecretName { name })
        }),
        env: environment(&fields, faults),
    };
    let twice = |field: &str| fields.path(field);
    refuse_twice(&twice("env"), &pod.env, |variable| variable.name.clone(), faults);
    refuse_twice(&twice("imagePullSecrets"), &pod.image_pull_secrets, |secret| secret.name.clone(), faults);
    let place = |spread: &SpreadSpec| format!("{} with {:?}", spread.topology_key, spread.when_unsatisfiable);
    refuse_twice(&twice("topologySpreadConstraints"), &pod.topology_spread_constraints, place, faults);
    pod
}

/// A mapping of texts whose keys are names with an optional prefix.
fn texts(
    pod: &Fields<'_>,
    field: &str,
    reserved: &[&str],
    as_labels: bool,
    faults: &mut Vec<Fault>,
) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    let (Some(fields), Some(Value::Mapping(map))) = (pod.mapping(field, faults), pod.value(field)) else {
        return found;
    };
    let most = bounds::POD_TEXTS_MAX;
    if map.len() > most {
        faults.push(Fault::new(pod.path(field), format!("has {} entries; at most {most} are possible", map.len())));
        return found;
    }
    for key in map.keys() {
        let Some(key) = key.as_str() else {
            faults.push(Fault::new(pod.path(field), "has a key that is no text; write it in quotes"));
            continue;
        };
        let Some(text) = fields.text(key, faults) else { continue };
        let wrong = if !is_qualified(key) {
            Some("is no key; use at most 63 characters of a-z, A-Z, 0-9, '-', '_' and '.', after an optional prefix and '/'".to_owned())
        } else if let Some(prefix) = reserved.iter().find(|prefix| key.starts_with(**prefix)) {
            Some(format!("begins with {prefix}, which is the operator's own; choose another prefix"))
        } else if as_labels && !is_label_value(text) {
            Some(format!("is {}; use at most 63 characters of a-z, A-Z, 0-9, '-', '_' and '.'", cut(text)))
        } else if text.len() > bounds::ANNOTATION_BYTES_MAX {
            Some(format!("is longer than {} characters", bounds::ANNOTATION_BYTES_MAX))
        } else {
            None
        };
        match wrong {
            Some(wrong) => {
                let shown: String = key.chars().take(60).collect();
                faults.push(Fault::new(fields.path(&shown), wrong));
            }
            None => {
                found.insert(key.to_owned(), text.to_owned());
            }
        }
    }
    found
}

fn is_label_value(text: &str) -> bool {
    text.is_empty() || is_short_name(text)
}

/// 1 to 63 characters as Kubernetes has them in names of labels.
fn is_short_name(text: &str) -> bool {
    let bytes = text.as_bytes();
    let is_edge = |byte: Option<&u8>| byte.is_some_and(u8::is_ascii_alphanumeric);
    bytes.len() <= 63
        && is_edge(bytes.first())
        && is_edge(bytes.last())
        && bytes.iter().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.'))
}

fn is_qualified(key: &str) -> bool {
    match key.split_once('/') {
        Some((prefix, name)) => is_dns_name(prefix) && is_short_name(name),
        None => is_short_name(key),
    }
}

/// 1 to 253 characters as Kubernetes has them in names of objects.
fn is_dns_name(text: &str) -> bool {
    let bytes = text.as_bytes();
    let is_plain = |byte: &u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    bytes.len() <= 253
        && bytes.first().is_some_and(is_plain)
        && bytes.last().is_some_and(is_plain)
        && bytes.iter().all(|byte| is_plain(byte) || matches!(byte, b'-' | b'.'))
}

/// A list of mappings; each entry is read by `read`.
fn entries<T>(
    pod: &Fields<'_>,
    field: &str,
    most: usize,
    faults: &mut Vec<Fault>,
    read: impl Fn(&Fields<'_>, &mut Vec<Fault>) -> Option<T>,
) -> Vec<T> {
    let Some(list) = pod.list(field, faults) else { return Vec::new() };
    if list.len() > most {
        faults.push(Fault::new(pod.path(field), format!("has {} entries; at most {most} are possible", list.len())));
        return Vec::new();
    }
    let mut found = Vec::with_capacity(list.len());
    for (index, value) in list.iter().enumerate() {
        let entry = Fields::entry(format!("{}[{index}]", pod.path(field)), value, faults);
        found.extend(entry.and_then(|entry| read(&entry, faults)));
    }
    found
}

fn needed(entry: &Fields<'_>, field: &str, faults: &mut Vec<Fault>) {
    if !entry.has(field) {
        faults.push(Fault::new(entry.path(field), "is missing"));
    }
}

/// The name of an object.
fn name(fields: &Fields<'_>, field: &str, of: &str, faults: &mut Vec<Fault>) -> Option<String> {
    let name = fields.text(field, faults)?;
    if !is_dns_name(name) {
        let message = format!("{} is no name of {of}; use 1 to 253 characters of a-z, 0-9, '-' and '.'", cut(name));
        faults.push(Fault::new(fields.path(field), message));
    }
    Some(name.to_owned())
}

/// A label of machines, or the key of a taint.
fn key(fields: &Fields<'_>, field: &str, faults: &mut Vec<Fault>) -> Option<String> {
    let key = fields.text(field, faults)?;
    if !is_qualified(key) {
        let message = format!("{} is no key; write it as in kubernetes.io/hostname", cut(key));
        faults.push(Fault::new(fields.path(field), message));
    }
    Some(key.to_owned())
}

fn toleration(entry: &Fields<'_>, faults: &mut Vec<Fault>) -> Option<TolerationSpec> {
    entry.refuse_unknown(&["key", "operator", "value", "effect", "tolerationSeconds"], faults);
    let operators = &[("Exists", TolerationOperator::Exists), ("Equal", TolerationOperator::Equal)];
    let effects = &[
        ("NoSchedule", TaintEffect::NoSchedule),
        ("PreferNoSchedule", TaintEffect::PreferNoSchedule),
        ("NoExecute", TaintEffect::NoExecute),
    ];
    let found = TolerationSpec {
        key: key(entry, "key", faults),
        operator: entry.choice("operator", operators, faults),
        value: entry.text("value", faults).map(str::to_owned),
        effect: entry.choice("effect", effects, faults),
        toleration_seconds: entry
            .number("tolerationSeconds", 0..=bounds::TOLERATION_SECONDS_MAX, faults)
            .map(i64::from),
    };
    let is_exists = found.operator == Some(TolerationOperator::Exists);
    if !entry.has("key") && !is_exists {
        faults.push(Fault::new(entry.path("key"), "is missing; name the taint, or write operator: Exists for all"));
    }
    if found.value.is_some() && is_exists {
        faults.push(Fault::new(entry.path("value"), "has no meaning with operator: Exists; take one of them out"));
    }
    if found.value.as_deref().is_some_and(|value| !is_label_value(value)) {
        faults.push(Fault::new(entry.path("value"), "is no value of a taint; use at most 63 characters"));
    }
    if found.toleration_seconds.is_some() && found.effect.is_some_and(|effect| effect != TaintEffect::NoExecute) {
        faults.push(Fault::new(entry.path("tolerationSeconds"), "has a meaning with effect: NoExecute alone"));
    }
    Some(found)
}

fn spread(entry: &Fields<'_>, faults: &mut Vec<Fault>) -> Option<SpreadSpec> {
    entry.refuse_unknown(&["topologyKey", "maxSkew", "whenUnsatisfiable"], faults);
    needed(entry, "topologyKey", faults);
    let choices =
        &[("DoNotSchedule", WhenUnsatisfiable::DoNotSchedule), ("ScheduleAnyway", WhenUnsatisfiable::ScheduleAnyway)];
    let max_skew = entry.number("maxSkew", 1..=100, faults).and_then(|number| i32::try_from(number).ok()).unwrap_or(1);
    let when_unsatisfiable = entry.choice("whenUnsatisfiable", choices, faults).unwrap_or_default();
    key(entry, "topologyKey", faults).map(|topology_key| SpreadSpec { topology_key, max_skew, when_unsatisfiable })
}

fn environment(pod: &Fields<'_>, faults: &mut Vec<Fault>) -> Vec<EnvironmentVariable> {
    entries(pod, "env", 32, faults, |entry, faults| {
        entry.refuse_unknown(&["name", "value"], faults);
        needed(entry, "name", faults);
        let name = entry.text("name", faults)?;
        let is_good = name.len() <= 128
            && name.bytes().next().is_some_and(|first| first.is_ascii_alphabetic() || first == b'_')
            && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
        if !is_good {
            let wrong = format!("{} is no name of a variable; use A-Z, a-z, 0-9 and '_'", cut(name));
            faults.push(Fault::new(entry.path("name"), wrong));
        } else if name.starts_with("COEQUAL_") || name == "POD_NAME" {
            let wrong = format!("{name} is the operator's own; what nodes do is set by other fields of spec");
            faults.push(Fault::new(entry.path("name"), wrong));
        }
        let value = entry.text("value", faults).unwrap_or_default().to_owned();
        if value.len() > 4096 {
            faults.push(Fault::new(entry.path("value"), "is longer than 4096 characters"));
        }
        Some(EnvironmentVariable { name: name.to_owned(), value })
    })
}

/// Refuses an entry that says the same again: Kubernetes knows such entries by these words alone.
fn refuse_twice<T>(path: &str, list: &[T], word: impl Fn(&T) -> String, faults: &mut Vec<Fault>) {
    for (index, entry) in list.iter().enumerate() {
        let word_of_entry = word(entry);
        if let Some(first) = list.iter().take(index).position(|before| word(before) == word_of_entry) {
            faults.push(Fault::new(format!("{path}[{index}]"), format!("{word_of_entry} stands in [{first}] already")));
        }
    }
}
