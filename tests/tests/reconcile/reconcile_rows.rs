//! What is refused, row by row: the manifest, the rule that it breaks, and the words that a person gets.

use serde_json::{Value, json};

/// A manifest that breaks one rule.
pub struct Refused {
    /// The rule: where in the definition, and which word of the schema (or which of its expressions).
    pub rule: String,
    /// Name of the resource.
    pub name: String,
    /// Its spec.
    pub spec: Value,
    /// Part of what the API server says.
    pub says: &'static str,
    /// Part of what `coequal-operator local` says; without it, the same as the API server.
    pub says_locally: Option<&'static str>,
}

/// A row whose words differ: the API server says what its schema says, the local program what to do.
fn row(rule: &str, spec: Value, says: &'static str, says_locally: &'static str) -> Refused {
    Refused { rule: rule.to_owned(), name: "o".to_owned(), spec, says, says_locally: Some(says_locally) }
}

/// A row of a rule with words of its own, which are the same on both sides.
fn same(rule: &str, spec: Value, says: &'static str) -> Refused {
    Refused { rule: rule.to_owned(), name: "o".to_owned(), spec, says, says_locally: None }
}

fn database(fields: Value) -> Value {
    let mut entry = json!({ "name": "orders" });
    entry.as_object_mut().expect("an object").extend(fields.as_object().expect("an object").clone());
    json!({ "databases": [entry] })
}

/// Every rule of the definition that a single manifest can break.
pub fn refused() -> Vec<Refused> {
    [names(), replicas_and_time(), databases(), storage(), containers(), pods(), places(), certificates()]
        .into_iter()
        .flatten()
        .collect()
}

fn names() -> Vec<Refused> {
    let named = |name: &str, says_locally| Refused {
        rule: "root.rule[0]".to_owned(),
        name: name.to_owned(),
        spec: json!({}),
        says: "use 1 to 40 characters of a-z, 0-9 and '-', beginning with a letter and ending with a letter or digit",
        says_locally: Some(says_locally),
    };
    let long = "x".repeat(41);
    vec![named(&long, "has 41 characters; use 1 to 40"), named("1orders", "does not begin with a letter")]
}

fn replicas_and_time() -> Vec<Refused> {
    let grace = |seconds: i64| json!({ "unreachableGracePeriodSeconds": seconds });
    let local_grace = "write a whole number from 1 to 604800";
    vec![
        row("spec.replicas.maximum", json!({ "replicas": 100 }), "less than or equal to 99", "the number 100"),
        row("spec.replicas.minimum", json!({ "replicas": -1 }), "greater than or equal to 0", "the number -1"),
        row("spec.unreachableGracePeriodSeconds.minimum", grace(0), "greater than or equal to 1", local_grace),
        row("spec.unreachableGracePeriodSeconds.maximum", grace(604_801), "less than or equal to 604800", local_grace),
    ]
}

fn databases() -> Vec<Refused> {
    let list = |count: usize| json!({ "databases": (0..count).map(|at| json!({ "name": format!("d{at}") })).collect::<Vec<_>>() });
    let long = "x".repeat(64);
    let twice = json!({ "databases": [{ "name": "a" }, { "name": "a" }] });
    let of = "spec.databases[]";
    let rule = |field: &str| format!("{of}.{field}");
    let quorums = "is not known; use majority, all, or a number";
    vec![
        row("spec.databases.minItems", list(0), "should have at least 1 items", "is an empty list"),
        row("spec.databases.maxItems", list(65), "must have at most 64 items", "at most 64 are possible"),
        row("spec.databases.listMapKeys", twice, "Duplicate value", "is already the name of"),
        row(&format!("{of}.required name"), json!({ "databases": [{}] }), "Required value", "is missing"),
        row(&rule("name.pattern"), database(json!({ "name": "Orders" })), "should match", "begin with a letter"),
        row(&rule("name.maxLength"), database(json!({ "name": long })), "63", "63"),
        row(&rule("name.minLength"), database(json!({ "name": "" })), "at least 1 chars long", "is empty"),
        row(&rule("writeQuorum.pattern"), database(json!({ "writeQuorum": "most" })), "should match", quorums),
        row(&rule("writeQuorum.maxLength"), database(json!({ "writeQuorum": "majorityy" })), "8", quorums),
        row(&rule("writeQuorum.minimum"), database(json!({ "writeQuorum": 0 })), "equal to 1", quorums),
        row(
            &rule("writeQuorum.maximum"),
            database(json!({ "writeQuorum": 100 })),
            "equal to 99",
            "more than the 3 nodes",
        ),
        row(&rule("readQuorum.pattern"), database(json!({ "readQuorum": "all" })), "should match", "use 1 (local"),
        row(&rule("readQuorum.maxLength"), database(json!({ "readQuorum": "majorityy" })), "8", "use 1 (local"),
        row(&rule("readQuorum.minimum"), database(json!({ "readQuorum": 0 })), "equal to 1", "use 1 (local reads)"),
        row(&rule("readQuorum.maximum"), database(json!({ "readQuorum": 2 })), "equal to 1", "use 1 (local reads)"),
        same(
            "spec.rule[0]",
            database(json!({ "writeQuorum": 1 })),
            "writeQuorum 1 is below a majority of 3 nodes (2), so an acknowledged write could be lost; \
             use majority, all, or a number from 2 to 3",
        ),
        same(
            "spec.rule[1]",
            database(json!({ "writeQuorum": 4 })),
            "writeQuorum 4 is more than the 3 nodes, so no write could succeed; \
             use majority, all, or a number from 2 to 3",
        ),
    ]
}

fn storage() -> Vec<Refused> {
    let storage = |field: &str, value: Value| {
        let mut fields = json!({});
        fields[field] = value;
        json!({ "storage": fields })
    };
    let long = "1".repeat(25);
    let class = "is no name of a storage class";
    vec![
        row("spec.storage.size.pattern", storage("size", json!("10GB")), "should match", "is no quantity; write"),
        row("spec.storage.size.maxLength", storage("size", json!(long)), "24", "is longer than 24 characters"),
        same(
            "spec.storage.rule[0]",
            storage("size", json!("0")),
            "\"0\" is nothing; write a size above 0, such as 10Gi",
        ),
        row("spec.storage.storageClassName.minLength", storage("storageClassName", json!("")), "at least 1", class),
        row(
            "spec.storage.storageClassName.maxLength",
            storage("storageClassName", json!("x".repeat(254))),
            "253",
            class,
        ),
        row("spec.storage.storageClassName.pattern", storage("storageClassName", json!("Fast")), "should match", class),
        row(
            "spec.persistentVolumeClaimRetentionPolicy.whenDeleted.enum",
            json!({ "persistentVolumeClaimRetentionPolicy": { "whenDeleted": "Keep" } }),
            "supported values: \"Retain\", \"Delete\"",
            "write Retain or Delete",
        ),
        row(
            "spec.persistentVolumeClaimRetentionPolicy.whenScaled.enum",
            json!({ "persistentVolumeClaimRetentionPolicy": { "whenScaled": "Drop" } }),
            "supported values: \"Retain\", \"Delete\"",
            "write Retain or Delete",
        ),
    ]
}

fn containers() -> Vec<Refused> {
    let image = |text: &str| json!({ "image": text });
    let no_image = "is no name of an image";
    let mut rows = vec![
        row("spec.image.pattern", image("a b"), "should match", no_image),
        row("spec.image.minLength", image(""), "at least 1 chars long", no_image),
        row("spec.image.maxLength", image(&"x".repeat(513)), "512", no_image),
    ];
    for kind in ["requests", "limits"] {
        let of = |field: &str, text: &str| {
            let mut amounts = json!({});
            amounts[kind] = json!({});
            amounts[kind][field] = json!(text);
            json!({ "resources": amounts })
        };
        let rule = |rest: &str| format!("spec.resources.{kind}.{rest}");
        let long = "1".repeat(25);
        let (cpu, memory) = ("is no amount; write 500m or \"2\"", "is no amount; write 512Mi or 2Gi");
        rows.extend([
            row(&rule("cpu.pattern"), of("cpu", "lots"), "should match", cpu),
            row(&rule("cpu.minLength"), of("cpu", ""), "at least 1 chars long", cpu),
            row(&rule("cpu.maxLength"), of("cpu", &long), "24", cpu),
            row(&rule("memory.pattern"), of("memory", "1GB"), "should match", memory),
            row(&rule("memory.minLength"), of("memory", ""), "at least 1 chars long", memory),
            row(&rule("memory.maxLength"), of("memory", &long), "24", memory),
            same(&rule("rule[0]"), of("cpu", "0"), "\"0\" is no amount; write 500m or \"2\""),
            same(&rule("rule[1]"), of("memory", "0Mi"), "\"0Mi\" is no amount; write 512Mi or 2Gi"),
        ]);
    }
    let both = |field: &str, request: &str, limit: &str| {
        let mut resources = json!({ "requests": {}, "limits": {} });
        resources["requests"][field] = json!(request);
        resources["limits"][field] = json!(limit);
        json!({ "resources": resources })
    };
    rows.extend([
        same(
            "spec.resources.rule[0]",
            both("cpu", "2", "1500m"),
            "requests.cpu \"2\" is more than limits.cpu \"1500m\"; write a limit that is at least the request",
        ),
        same(
            "spec.resources.rule[1]",
            both("memory", "2Gi", "1024Mi"),
            "requests.memory \"2Gi\" is more than limits.memory \"1024Mi\"; write a limit that is at least the request",
        ),
    ]);
    rows
}

fn pods() -> Vec<Refused> {
    let pod = |field: &str, value: Value| {
        let mut fields = json!({});
        fields[field] = value;
        json!({ "pod": fields })
    };
    let rule = |rest: &str| format!("spec.pod.{rest}");
    let long = "x".repeat(254);
    let (no_key, no_class) = ("a key is a name of at most 63 characters", "is no name of a priority class");
    let no_variable = "is no name of a variable";
    let variable = |name: &str| pod("env", json!([{ "name": name }]));
    let (no_secret, many) = ("is no name of a Secret", "entries; at most");
    let secret = |name: &str| pod("imagePullSecrets", json!([{ "name": name }]));
    let named = |count: usize| Value::Array((0..count).map(|at| json!({ "name": format!("n{at}") })).collect());
    let twice = json!([{ "name": "a" }, { "name": "a" }]);
    vec![
        row(&rule("labels.rule[0]"), pod("labels", json!({ "a b": "c" })), no_key, "is no key"),
        row(&rule("labels.rule[1]"), pod("labels", json!({ "app.kubernetes.io/a": "b" })), "own", "operator's own"),
        row(&rule("labels.rule[2]"), pod("labels", json!({ "coequal.dev/a": "b" })), "own", "operator's own"),
        row(&rule("annotations.rule[0]"), pod("annotations", json!({ "-a": "c" })), no_key, "is no key"),
        row(&rule("annotations.rule[1]"), pod("annotations", json!({ "coequal.dev/a": "" })), "own", "operator's own"),
        row(&rule("nodeSelector.rule[0]"), pod("nodeSelector", json!({ "a/b/c": "d" })), no_key, "is no key"),
        row(&rule("priorityClassName.minLength"), pod("priorityClassName", json!("")), "at least 1", no_class),
        row(&rule("priorityClassName.maxLength"), pod("priorityClassName", json!(long)), "253", no_class),
        row(&rule("priorityClassName.pattern"), pod("priorityClassName", json!("High")), "should match", no_class),
        row(&rule("env.listMapKeys"), pod("env", twice.clone()), "Duplicate value", "stands in [0] already"),
        row(&rule("env.maxItems"), pod("env", named(33)), "must have at most 32 items", many),
        row(&rule("env[].required name"), pod("env", json!([{ "value": "a" }])), "Required value", "is missing"),
        row(&rule("env[].name.minLength"), variable(""), "at least 1", no_variable),
        row(&rule("env[].name.maxLength"), variable(&"x".repeat(129)), "128", no_variable),
        row(&rule("env[].name.pattern"), variable("1A"), "should match", no_variable),
        row(&rule("env[].rule[0]"), variable("COEQUAL_LOG"), "operator's own", "operator's own"),
        row(
            &rule("env[].value.maxLength"),
            pod("env", json!([{ "name": "A", "value": "x".repeat(4097) }])),
            "4096",
            "is longer than 4096 characters",
        ),
        row(&rule("imagePullSecrets.listMapKeys"), pod("imagePullSecrets", twice), "Duplicate value", "already"),
        row(&rule("imagePullSecrets.maxItems"), pod("imagePullSecrets", named(9)), "at most 8 items", many),
        row(
            &rule("imagePullSecrets[].required name"),
            pod("imagePullSecrets", json!([{}])),
            "Required value",
            "is missing",
        ),
        row(&rule("imagePullSecrets[].name.minLength"), secret(""), "at least 1", no_secret),
        row(&rule("imagePullSecrets[].name.maxLength"), secret(&long), "253", no_secret),
        row(&rule("imagePullSecrets[].name.pattern"), secret("a_b"), "should match", no_secret),
    ]
}

fn places() -> Vec<Refused> {
    let toleration = |fields: Value| json!({ "pod": { "tolerations": [fields] } });
    let of = |rest: &str| format!("spec.pod.tolerations{rest}");
    let key = |key: &str| toleration(json!({ "key": key }));
    let seconds = |seconds: i64| {
        toleration(json!({ "key": "a", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": seconds }))
    };
    let spread = |fields: Value| json!({ "pod": { "topologySpreadConstraints": [fields] } });
    let on = |rest: &str| format!("spec.pod.topologySpreadConstraints{rest}");
    let place = |key: &str| spread(json!({ "topologyKey": key }));
    let skew = |skew: i64| spread(json!({ "topologyKey": "zone", "maxSkew": skew }));
    let (long, no_value) = ("x".repeat(318), "is no value of a taint");
    let many = |field: &str, entry: Value, count: usize| {
        let mut pod = json!({});
        pod[field] = Value::Array((0..count).map(|at| entry_of(&entry, at)).collect());
        json!({ "pod": pod })
    };
    let whole = "write a whole number from";
    let same_place = json!({ "topologyKey": "zone" });
    vec![
        row(&of(".maxItems"), many("tolerations", json!({ "key": "k" }), 17), "at most 16 items", "at most 16"),
        row(&of("[].effect.enum"), toleration(json!({ "key": "a", "effect": "Never" })), "Unsupported", "\"Never\""),
        row(&of("[].operator.enum"), toleration(json!({ "key": "a", "operator": "Like" })), "Unsupported", "\"Like\""),
        row(&of("[].key.minLength"), key(""), "at least 1", "is no key"),
        row(&of("[].key.maxLength"), key(&long), "317", "is no key"),
        row(&of("[].key.pattern"), key("a b"), "should match", "is no key"),
        row(&of("[].value.maxLength"), toleration(json!({ "key": "a", "value": "x".repeat(64) })), "63", no_value),
        row(&of("[].value.pattern"), toleration(json!({ "key": "a", "value": "-" })), "should match", no_value),
        row(&of("[].rule[0]"), toleration(json!({ "value": "a" })), "operator: Exists", "operator: Exists"),
        row(
            &of("[].rule[1]"),
            toleration(json!({ "key": "a", "operator": "Exists", "value": "b" })),
            "operator: Exists has no value",
            "has no meaning with operator: Exists",
        ),
        row(
            &of("[].rule[2]"),
            toleration(json!({ "key": "a", "effect": "NoSchedule", "tolerationSeconds": 5 })),
            "effect: NoExecute alone",
            "effect: NoExecute alone",
        ),
        row(&of("[].tolerationSeconds.minimum"), seconds(-1), "greater than or equal to 0", whole),
        row(&of("[].tolerationSeconds.maximum"), seconds(31_536_001), "less than or equal to 31536000", whole),
        row(
            &on(".maxItems"),
            many("topologySpreadConstraints", json!({ "topologyKey": "k" }), 9),
            "at most 8",
            "at most 8",
        ),
        row(
            &on(".listMapKeys"),
            json!({ "pod": { "topologySpreadConstraints": [same_place, same_place] } }),
            "Duplicate value",
            "stands in [0] already",
        ),
        row(&on("[].required topologyKey"), spread(json!({ "maxSkew": 1 })), "Required value", "is missing"),
        row(&on("[].topologyKey.minLength"), place(""), "at least 1", "is no key"),
        row(&on("[].topologyKey.maxLength"), place(&long), "317", "is no key"),
        row(&on("[].topologyKey.pattern"), place("a b"), "should match", "is no key"),
        row(&on("[].maxSkew.minimum"), skew(0), "greater than or equal to 1", whole),
        row(&on("[].maxSkew.maximum"), skew(101), "less than or equal to 100", whole),
        row(
            &on("[].whenUnsatisfiable.enum"),
            spread(json!({ "topologyKey": "zone", "whenUnsatisfiable": "Maybe" })),
            "Unsupported",
            "\"Maybe\"",
        ),
    ]
}

/// An entry like this one, with a number at the end of every text.
fn entry_of(entry: &Value, at: usize) -> Value {
    let fields = entry.as_object().into_iter().flatten();
    fields.map(|(field, text)| (field.clone(), json!(format!("{}{at}", text.as_str().unwrap_or_default())))).collect()
}

fn certificates() -> Vec<Refused> {
    let secret = |name: &str| json!({ "tls": { "certificateSecretName": name } });
    let (rule, no_name) = ("spec.tls.certificateSecretName", "is no name of a Secret");
    vec![
        row(&format!("{rule}.minLength"), secret(""), "at least 1", no_name),
        row(&format!("{rule}.maxLength"), secret(&"x".repeat(254)), "253", no_name),
        row(&format!("{rule}.pattern"), secret("Mine"), "should match", no_name),
    ]
}

/// A change that is refused: rule, spec before, spec after, and what the API server says. Local mode has no earlier spec
/// to compare with, and no volumes.
pub fn refused_changes() -> Vec<(&'static str, Value, Value, &'static str)> {
    let class = |name: &str| json!({ "storage": { "storageClassName": name } });
    let size = |size: &str| json!({ "storage": { "size": size } });
    vec![
        (
            "spec.storage.rule[1]",
            size("2Gi"),
            size("1500Mi"),
            "size cannot shrink from 2Gi to 1500Mi: volumes only grow; write 2Gi or more",
        ),
        (
            "spec.storage.rule[2]",
            class("fast"),
            class("slow"),
            "storageClassName cannot be changed from \"fast\" to \"slow\": volumes stay where they are",
        ),
        (
            "spec.storage.rule[2]",
            json!({}),
            class("slow"),
            "storageClassName cannot be changed from the default to \"slow\"",
        ),
        (
            "spec.storage.rule[2]",
            class("fast"),
            json!({ "storage": { "storageClassName": null } }),
            "storageClassName cannot be changed from \"fast\" to the default",
        ),
        (
            "spec.rule[2]",
            json!({ "tls": { "certificateSecretName": "mine" } }),
            json!({ "tls": { "certificateSecretName": "yours" } }),
            "tls.certificateSecretName cannot be changed from \"mine\" to \"yours\"",
        ),
        (
            "spec.rule[2]",
            json!({}),
            json!({ "tls": { "certificateSecretName": "mine" } }),
            "tls.certificateSecretName cannot be changed from \"\" to \"mine\"",
        ),
        (
            "spec.rule[1]",
            json!({ "replicas": 3, "databases": [{ "name": "orders", "writeQuorum": 3 }] }),
            json!({ "replicas": 2 }),
            "orders: writeQuorum 3 is more than the 2 nodes",
        ),
    ]
}

/// Changes that are taken.
pub fn accepted_changes() -> Vec<(Value, Value)> {
    vec![
        (json!({ "storage": { "size": "1Gi" } }), json!({ "storage": { "size": "1.5Gi" } })),
        (json!({ "storage": { "size": "1Gi" } }), json!({ "storage": { "size": "1024Mi" } })),
        (json!({ "storage": { "storageClassName": "fast" } }), json!({ "storage": { "storageClassName": "fast" } })),
        (json!({}), json!({ "pod": { "labels": { "team": "a" }, "env": [{ "name": "TZ", "value": "UTC" }] } })),
        // A hibernated cluster keeps its settings for the day it wakes.
        (json!({ "databases": [{ "name": "a", "writeQuorum": 3 }] }), json!({ "replicas": 0 })),
    ]
}

/// Manifests at the edge of what is allowed.
pub fn accepted() -> Vec<(String, Value)> {
    let databases: Vec<Value> = (0..64).map(|at| json!({ "name": format!("d{at}"), "writeQuorum": 2 })).collect();
    let amounts = json!({ "cpu": "0.5", "memory": "512Mi" });
    let one = |spec: Value| ("o".to_owned(), spec);
    vec![
        ("x".repeat(40), json!({})),
        ("a".to_owned(), json!({})),
        ("a-1".to_owned(), json!({ "replicas": 0 })),
        one(json!({ "replicas": 99, "databases": [{ "name": "a", "writeQuorum": 99 }] })),
        one(json!({ "replicas": 4, "databases": [{ "name": "a", "writeQuorum": 3 }] })),
        one(json!({ "replicas": 0, "databases": [{ "name": "a", "writeQuorum": 1 }] })),
        one(json!({ "replicas": 1, "databases": [{ "name": "a", "writeQuorum": "all", "readQuorum": "majority" }] })),
        one(database(
            json!({ "writeQuorum": "majority", "readQuorum": 1, "autoDeploy": false, "hotAlignment": false }),
        )),
        one(database(json!({ "readQuorum": "1" }))),
        one(database(json!({ "name": "x".repeat(63) }))),
        one(database(json!({ "name": "a_b-0" }))),
        one(json!({ "databases": databases })),
        one(json!({ "unreachableGracePeriodSeconds": 1 })),
        one(json!({ "unreachableGracePeriodSeconds": 604_800 })),
        one(json!({ "storage": { "size": "123456789012345678901.5M", "storageClassName": "a.b-c" } })),
        one(json!({ "storage": { "size": "0.5Ki", "storageClassName": "x".repeat(253) } })),
        one(json!({ "persistentVolumeClaimRetentionPolicy": { "whenDeleted": "Delete", "whenScaled": "Retain" } })),
        one(json!({ "persistentVolumeClaimRetentionPolicy": { "whenDeleted": "Retain", "whenScaled": "Delete" } })),
        one(json!({ "pod": {
            "labels": { "example.org/team": "a", "b": "" },
            "annotations": { "c": "any text\nat all" },
            "nodeSelector": { "kubernetes.io/os": "linux" },
            "tolerations": [
                { "operator": "Exists" },
                { "key": "a/b", "value": "c" },
                { "key": "d", "operator": "Equal", "value": "", "effect": "NoExecute", "tolerationSeconds": 31_536_000 },
            ],
            "topologySpreadConstraints": [
                { "topologyKey": "zone", "maxSkew": 100, "whenUnsatisfiable": "DoNotSchedule" },
                { "topologyKey": "zone" },
            ],
            "priorityClassName": "x".repeat(253),
            "imagePullSecrets": [{ "name": "a.b-c" }],
            "env": [{ "name": "x".repeat(128), "value": "x".repeat(4096) }, { "name": "_" }],
        } })),
        one(json!({ "tls": { "certificateSecretName": "x".repeat(253) } })),
        one(json!({ "image": "x".repeat(512) })),
        one(json!({ "image": "registry.example:5000/a/b@sha256:0" })),
        one(json!({ "resources": { "requests": amounts, "limits": amounts } })),
        one(json!({ "resources": { "requests": { "cpu": "500m", "memory": "1k" }, "limits": { "cpu": "1" } } })),
    ]
}
