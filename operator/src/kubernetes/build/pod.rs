//! What the manifest says of the pods, put into their template. The operator's own labels and annotations stand.

use crate::crd::{PodSpec, SpreadSpec, WhenUnsatisfiable};
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// Given texts, and the operator's own over them.
pub(super) fn with(given: &BTreeMap<String, String>, own: Value) -> Value {
    let mut all = json!(given);
    if let (Value::Object(all), Value::Object(own)) = (&mut all, own) {
        all.extend(own);
    }
    all
}

/// Where pods may run, and with what. Fields that nobody uses stay out of the template.
pub(super) fn place(pod: &PodSpec, selector: &Value, spec: &mut Value) {
    let constraints = match pod.topology_spread_constraints.as_slice() {
        [] => {
            spec["affinity"] = apart(selector);
            vec![over_machines()]
        }
        given => given.to_vec(),
    };
    let constraints: Vec<Value> = constraints.iter().map(|constraint| with_selector(constraint, selector)).collect();
    spec["topologySpreadConstraints"] = json!(constraints);
    if !pod.node_selector.is_empty() {
        spec["nodeSelector"] = json!(pod.node_selector);
    }
    if !pod.tolerations.is_empty() {
        spec["tolerations"] = json!(pod.tolerations);
    }
    if !pod.image_pull_secrets.is_empty() {
        spec["imagePullSecrets"] = json!(pod.image_pull_secrets);
    }
    if let Some(class) = &pod.priority_class_name {
        spec["priorityClassName"] = json!(class);
    }
}

/// Rather not on one machine, and rather not in one zone (see [`apart`]): wishes that machines without a zone do not undo.
/// Of two spread constraints the scheduler forgets both on a machine that lacks the label of one.
fn over_machines() -> SpreadSpec {
    let topology_key = "kubernetes.io/hostname".to_owned();
    SpreadSpec { topology_key, max_skew: 1, when_unsatisfiable: WhenUnsatisfiable::ScheduleAnyway }
}

fn apart(selector: &Value) -> Value {
    let other_zone = json!({
        "weight": 100,
        "podAffinityTerm": {
            "topologyKey": "topology.kubernetes.io/zone", "labelSelector": { "matchLabels": selector },
        },
    });
    json!({ "podAntiAffinity": { "preferredDuringSchedulingIgnoredDuringExecution": [other_zone] } })
}

fn with_selector(constraint: &SpreadSpec, selector: &Value) -> Value {
    let mut constraint = json!(constraint);
    constraint["labelSelector"] = json!({ "matchLabels": selector });
    constraint
}
