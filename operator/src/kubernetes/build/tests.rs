//! The objects: complete, understood by Kubernetes, and unchanged by what should not change them.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use super::*;
use crate::controller::validate::validate;
use k8s_openapi::api::{apps::v1::StatefulSet, core::v1 as core, networking::v1::NetworkPolicy, policy::v1 as policy};

fn wish(spec: &str) -> ValidatedDatabaseCluster {
    let head = "apiVersion: coequal.dev/v1alpha1, kind: ReplicatedDatabase, metadata: {name: o}";
    validate(&format!("{{{head}, spec: {spec}}}")).unwrap()
}

fn built(spec: &str, pods: u32) -> Vec<Child> {
    let owner = OwnerReference { name: "o".into(), uid: "u".into(), ..OwnerReference::default() };
    let wish = wish(spec);
    build(&Plan {
        wish: &wish,
        namespace: "n",
        owner,
        pods,
        image: "i:1",
        revision: "r",
        trusted: Some("pem"),
        with_nodes: true,
    })
}

fn object(children: &[Child], kind: ChildKind) -> Value {
    children.iter().find(|child| child.kind == kind).map(|child| child.object.clone()).expect("child")
}

/// Every field survives the way through Kubernetes' own type: no name is misspelt.
fn round_trip<T: serde::de::DeserializeOwned + serde::Serialize>(object: &Value) {
    let typed: T = serde_json::from_value(object.clone()).unwrap();
    let back = serde_json::to_value(typed).unwrap();
    assert!(crate::kubernetes::subset::covers(object, &back), "{object:#}\n{back:#}");
}

#[test]
fn every_field_is_one_that_kubernetes_knows() {
    let children = built(
        "{storage: {storageClassName: fast}, resources: {limits: {cpu: '2'}}, pod: {labels: {a: b}, annotations: {a: b}, \
         nodeSelector: {a: b}, tolerations: [{key: a, operator: Equal, value: b, effect: NoExecute, tolerationSeconds: 5}], \
         topologySpreadConstraints: [{topologyKey: z}], priorityClassName: p, imagePullSecrets: [{name: s}], \
         env: [{name: TZ, value: UTC}]}}",
        3,
    );
    assert_eq!(children.len(), 7);
    for child in &children {
        match child.kind {
            ChildKind::TrustedAuthorities => round_trip::<core::ConfigMap>(&child.object),
            ChildKind::ServiceAccount => round_trip::<core::ServiceAccount>(&child.object),
            ChildKind::HeadlessService | ChildKind::ClientService => round_trip::<core::Service>(&child.object),
            ChildKind::PodDisruptionBudget => round_trip::<policy::PodDisruptionBudget>(&child.object),
            ChildKind::NetworkPolicy => round_trip::<NetworkPolicy>(&child.object),
            ChildKind::StatefulSet => round_trip::<StatefulSet>(&child.object),
        }
        let metadata = &child.object["metadata"];
        assert_eq!(metadata["namespace"], "n");
        assert_eq!(metadata["ownerReferences"][0]["uid"], "u");
        assert_eq!(metadata["labels"][names::MANAGED_BY], names::FIELD_MANAGER);
    }
}

#[test]
fn pods_keep_every_rule_of_pod_security_restricted() {
    let set = object(&built("{}", 3), ChildKind::StatefulSet);
    let pod = &set["spec"]["template"]["spec"];
    assert_eq!(pod["securityContext"]["runAsNonRoot"], true);
    assert_eq!(pod["securityContext"]["seccompProfile"]["type"], "RuntimeDefault");
    assert_eq!(pod["automountServiceAccountToken"], false);
    let container = &pod["containers"][0];
    assert_eq!(container["securityContext"]["allowPrivilegeEscalation"], false);
    assert_eq!(container["securityContext"]["readOnlyRootFilesystem"], true);
    assert_eq!(container["securityContext"]["capabilities"]["drop"][0], "ALL");
    assert_eq!(container["resources"]["limits"]["memory"], "1Gi");
}

#[test]
fn scaling_changes_no_pod_and_a_restart_changes_only_the_revision() {
    let template = |spec: &str, pods| object(&built(spec, pods), ChildKind::StatefulSet)["spec"]["template"].clone();
    assert_eq!(template("{replicas: 3}", 3), template("{replicas: 5}", 4));
    assert_eq!(
        template("{}", 3),
        template("{databases: [{name: a}], persistentVolumeClaimRetentionPolicy: {whenScaled: Delete}}", 3)
    );
    let revision = |spec: &str, restart| names::revision(&wish(spec), restart);
    assert_eq!(revision("{replicas: 3}", None), revision("{replicas: 5, databases: [{name: a}]}", None));
    assert_ne!(revision("{}", None), revision("{image: a}", None));
    assert_ne!(revision("{}", None), revision("{resources: {limits: {memory: 2Gi}}}", None));
    assert_ne!(revision("{}", None), revision("{}", Some("again")));
    assert_ne!(revision("{}", None), revision("{pod: {labels: {a: b}}}", None));
    assert_eq!(revision("{}", None), revision("{pod: {}}", None));
}

#[test]
fn a_hibernating_cluster_keeps_volumes_that_scaling_in_would_delete() {
    let policy = |replicas: u32, pods| {
        let spec = format!("{{replicas: {replicas}, persistentVolumeClaimRetentionPolicy: {{whenScaled: Delete}}}}");
        let set = object(&built(&spec, pods), ChildKind::StatefulSet);
        set["spec"]["persistentVolumeClaimRetentionPolicy"]["whenScaled"].clone()
    };
    assert_eq!((policy(3, 3), policy(0, 0)), (json!("Delete"), json!("Retain")));
}

#[test]
fn a_single_node_may_be_evicted() {
    let kinds = |spec| built(spec, 1).iter().map(|child| child.kind).collect::<Vec<_>>();
    assert!(!kinds("{replicas: 1}").contains(&ChildKind::PodDisruptionBudget));
    assert!(kinds("{replicas: 2}").contains(&ChildKind::PodDisruptionBudget));
}

#[test]
fn nodes_know_their_names_and_whom_to_ask() {
    let set = object(&built("{}", 3), ChildKind::StatefulSet);
    let environment = set["spec"]["template"]["spec"]["containers"][0]["env"].clone();
    let value = |name: &str| {
        environment.as_array().unwrap().iter().find(|entry| entry["name"] == name).unwrap()["value"].clone()
    };
    assert_eq!(value("COEQUAL_ADVERTISE"), "$(POD_NAME).o-nodes.n.svc:7700");
    assert!(value("COEQUAL_JOIN").as_str().unwrap().starts_with("o-0.o-nodes.n.svc:7700,o-1.o-nodes.n.svc:7700,"));
}

#[test]
fn certificates_and_tokens_are_mounted_whole_and_read_only() {
    let of = |spec: &str| object(&built(spec, 3), ChildKind::StatefulSet)["spec"]["template"]["spec"].clone();
    let pod = of("{}");
    let secrets: Vec<&str> =
        pod["volumes"].as_array().unwrap().iter().map(|v| v["secret"]["secretName"].as_str().unwrap()).collect();
    assert_eq!(secrets, ["o-tls", "o-tokens"]);
    let text = pod.to_string();
    assert!(!text.contains("o-ca") && !text.contains("subPath"), "the authority's key is for no pod: {text}");
    for mount in pod["containers"][0]["volumeMounts"].as_array().unwrap().iter().filter(|m| m["name"] != "data") {
        assert_eq!(mount["readOnly"], true, "{mount}");
    }
    for probe in ["startupProbe", "livenessProbe", "readinessProbe"] {
        assert_eq!(pod["containers"][0][probe]["httpGet"]["scheme"], "HTTPS");
    }
    let provided = of("{tls: {certificateSecretName: mine}}");
    assert_eq!(provided["volumes"][0]["secret"]["secretName"], "mine");
}

#[test]
fn what_the_manifest_says_of_pods_stands_beside_what_the_operator_says() {
    let spec = "{pod: {labels: {team: a}, topologySpreadConstraints: [{topologyKey: z, whenUnsatisfiable: DoNotSchedule}], \
                env: [{name: TZ, value: UTC}]}}";
    let template = object(&built(spec, 3), ChildKind::StatefulSet)["spec"]["template"].clone();
    assert_eq!(template["metadata"]["labels"]["team"], "a");
    assert_eq!(template["metadata"]["labels"][names::INSTANCE], "o");
    let spread = template["spec"]["topologySpreadConstraints"].as_array().unwrap();
    assert_eq!((spread.len(), &spread[0]["whenUnsatisfiable"]), (1, &json!("DoNotSchedule")));
    assert_eq!(spread[0]["labelSelector"]["matchLabels"], names::selector("o"));
    let env = template["spec"]["containers"][0]["env"].as_array().unwrap();
    assert_eq!(env.last().unwrap(), &json!({ "name": "TZ", "value": "UTC" }));
    let plain = object(&built("{}", 3), ChildKind::StatefulSet)["spec"]["template"]["spec"].clone();
    assert_eq!(plain["topologySpreadConstraints"].as_array().unwrap().len(), 1, "two would undo each other");
    let apart = &plain["affinity"]["podAntiAffinity"]["preferredDuringSchedulingIgnoredDuringExecution"][0];
    assert_eq!(apart["podAffinityTerm"]["topologyKey"], "topology.kubernetes.io/zone");
    assert!(template["spec"].get("affinity").is_none(), "what the manifest says is all then");
    assert!(plain.get("tolerations").is_none() && plain.get("nodeSelector").is_none());
}

#[test]
fn without_certificates_there_is_no_stateful_set() {
    let wish = wish("{}");
    let owner = OwnerReference::default();
    let plan = Plan {
        wish: &wish,
        namespace: "n",
        owner,
        pods: 3,
        image: "i",
        revision: "r",
        trusted: None,
        with_nodes: false,
    };
    let kinds: Vec<ChildKind> = build(&plan).iter().map(|child| child.kind).collect();
    assert!(!kinds.contains(&ChildKind::StatefulSet) && !kinds.contains(&ChildKind::TrustedAuthorities), "{kinds:?}");
}

#[test]
fn a_field_that_is_no_longer_wanted_changes_the_seal() {
    let seal = |spec| object(&built(spec, 3), ChildKind::StatefulSet)["metadata"]["annotations"][WANTED].clone();
    assert_ne!(seal("{resources: {limits: {cpu: '2'}}}"), seal("{}"));
    assert_eq!(seal("{}"), seal("{}"));
}
