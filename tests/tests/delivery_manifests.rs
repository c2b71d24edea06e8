//! What is delivered besides the programs: the chart, and the manifests that are made from it.

use coequal_tests::binaries::{program, root};
use coequal_tests::cluster::Cluster;
use coequal_tests::helm;
use std::collections::BTreeSet;
use std::process::{Command, Output};

const CHART: &str = "charts/coequal-operator";
/// Every flag of the chart, so that every template has something to say.
const EVERYTHING: &str = "replicaCount: 2
imageRegistry: registry.example.com/team
image: { tag: v1, digest: '' }
imagePullSecrets: [{ name: registry }]
watchNamespace: orders
crds: { annotations: { a: b } }
serviceAccount: { annotations: { a: b } }
log: { level: debug, format: text }
extraEnv: [{ name: A, value: b }]
podAnnotations: { a: b }
podLabels: { a: b }
commonLabels: { team: data }
nodeSelector: { a: b }
tolerations: [{ operator: Exists }]
topologySpreadConstraints: [{ maxSkew: 1, topologyKey: a, whenUnsatisfiable: ScheduleAnyway }]
priorityClassName: high
monitoring:
  podMonitor: { enabled: true, labels: { release: prometheus } }
  nodePodMonitor: { enabled: true, scheme: https, tlsConfig: { insecureSkipVerify: true } }
  prometheusRule: { enabled: true }
  dashboard: { enabled: true, annotations: { folder: databases } }
";

fn run(command: &mut Command) -> Output {
    command.current_dir(root()).output().expect("it can be started")
}

fn text(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

fn everything() -> tempfile::NamedTempFile {
    let file = tempfile::NamedTempFile::new().expect("a file");
    std::fs::write(file.path(), EVERYTHING).expect("written");
    file
}

#[test]
fn the_chart_carries_the_definition() {
    let read = |path: &str| std::fs::read_to_string(root().join(path)).expect(path);
    let definition = read("crds/replicateddatabases.coequal.dev.yaml");
    for copy in
        ["charts/coequal-operator/files/crds/replicateddatabases.coequal.dev.yaml", "deploy/kustomize/base/crd.yaml"]
    {
        assert!(read(copy) == definition, "{copy} differs from crds/; run: deploy/generate");
    }
}

#[test]
fn plain_manifests_are_what_the_chart_makes() {
    let Some(helm) = helm::program("plain_manifests_are_what_the_chart_makes") else { return };
    let output = run(Command::new("deploy/generate").arg("--check").env("HELM", helm));
    assert!(output.status.success(), "{}", text(&output));
}

#[test]
fn the_chart_has_no_fault_with_and_without_every_flag() {
    let Some(helm) = helm::program("the_chart_has_no_fault_with_and_without_every_flag") else { return };
    let everything = everything();
    for values in [vec![], vec!["--values".to_owned(), everything.path().display().to_string()]] {
        let output = run(Command::new(&helm).args(["lint", "--strict", CHART]).args(&values));
        assert!(output.status.success(), "{values:?}: {}", text(&output));
    }
    let output = run(Command::new(&helm).args(["template", "other", CHART, "--values"]).arg(everything.path()));
    assert!(output.status.success(), "{}", text(&output));
    let mut kinds = BTreeSet::new();
    for document in serde_yaml::Deserializer::from_slice(&output.stdout) {
        let object: serde_yaml::Value = serde::Deserialize::deserialize(document).expect("YAML");
        kinds.insert(object["kind"].as_str().unwrap_or_default().to_owned());
    }
    let rights = ["Role", "RoleBinding", "ServiceAccount"];
    let rest = ["ConfigMap", "CustomResourceDefinition", "Deployment", "Pod", "PodDisruptionBudget", "PodMonitor"];
    let expected: BTreeSet<String> =
        rights.iter().chain(&rest).chain(&["PrometheusRule"]).map(|kind| (*kind).to_owned()).collect();
    assert_eq!(kinds, expected, "a namespaced operator asks for no ClusterRole");
}

#[test]
fn a_value_that_nobody_knows_is_refused_by_its_name() {
    let Some(helm) = helm::program("a_value_that_nobody_knows_is_refused_by_its_name") else { return };
    for (value, words) in [
        ("replicas=2", "additional properties 'replicas' not allowed"),
        ("image.tags=x", "additional properties 'tags' not allowed"),
        ("monitoring.podmonitor.enabled=true", "additional properties 'podmonitor' not allowed"),
        ("replicaCount=two", "at '/replicaCount': got string, want integer"),
        ("log.format=xml", "value must be one of 'json', 'text'"),
        ("watchNamespace=A_B", "at '/watchNamespace': 'A_B' does not match pattern"),
    ] {
        let output = run(Command::new(&helm).args(["template", "other", CHART, "--set", value]));
        assert!(!output.status.success() && text(&output).contains(words), "{value}: {}", text(&output));
    }
}

#[test]
fn uninstalling_keeps_the_definition_unless_told_otherwise() {
    let Some(helm) = helm::program("uninstalling_keeps_the_definition_unless_told_otherwise") else { return };
    for (values, expected) in
        [(vec![], true), (vec!["--set", "crds.keep=false"], false), (vec!["--set", "crds.create=false"], false)]
    {
        let output = run(Command::new(&helm).args(["template", "other", CHART]).args(&values));
        assert!(output.status.success(), "{}", text(&output));
        assert_eq!(text(&output).contains("helm.sh/resource-policy: keep"), expected, "{values:?}");
    }
}

/// Without a builder of containers: the root filesystem that the Containerfile takes, entered as a pod would be.
#[test]
fn the_root_of_an_image_is_enough_to_run_the_program_as_nobody() {
    let name = "the_root_of_an_image_is_enough_to_run_the_program_as_nobody";
    // SAFETY: asks for the user id of this process, and cannot fail.
    let is_root = unsafe { libc::geteuid() } == 0;
    if !is_root {
        println!("SKIPPED {name}: only root may enter another root filesystem");
        return;
    }
    let directory = tempfile::tempdir().expect("a directory");
    for binary in ["coequal-node", "coequal-operator"] {
        let to = directory.path().join(binary);
        let made = run(Command::new("deploy/rootfs").arg(&to).arg(program(binary)));
        assert!(made.status.success(), "{}", text(&made));
        let inside = format!("/usr/local/bin/{binary}");
        let entered = run(Command::new("chroot").arg("--userspec=65532:65532").arg(&to).args([&inside, "--version"]));
        assert!(entered.status.success() && text(&entered).starts_with(binary), "{}", text(&entered));
        assert!(!to.join("bin/sh").exists() && !to.join("usr/bin").exists(), "no shell, no tools");
    }
    let again = run(Command::new("deploy/rootfs").arg(directory.path()).arg(program("coequal-node")));
    assert!(!again.status.success() && text(&again).contains("exists; name a directory that does not"));
}

/// Names of metrics in a text: what begins with `coequal_` and is no other word.
fn metrics_in(text: &str) -> BTreeSet<String> {
    let words = text.split(|c: char| !(c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_'));
    words.filter(|word| word.starts_with("coequal_")).map(str::to_owned).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn alerts_and_the_dashboard_ask_for_metrics_that_nodes_have() {
    let cluster = Cluster::with_orders(2).await;
    let client = cluster.nodes[0].client();
    // Requests are counted when they are answered: the second answer tells of the first.
    client.send("GET".parse().expect("a method"), "/v1/node", &[], String::new()).await;
    let answer = client.send("GET".parse().expect("a method"), "/metrics", &[], String::new()).await;
    let exported = metrics_in(&answer.body);
    let mut asked = 0;
    for path in ["files/alerts.yaml", "files/dashboards/coequal.json"] {
        let file = std::fs::read_to_string(root().join(CHART).join(path)).expect(path);
        for name in metrics_in(&file).iter().filter(|name| !name.starts_with("coequal_operator_")) {
            assert!(exported.contains(name), "{path} asks for {name}; a node has {exported:#?}");
            asked += 1;
        }
    }
    assert!(asked > 10, "only {asked}");
}

#[test]
fn kustomize_makes_what_the_overlay_says() {
    let name = "kustomize_makes_what_the_overlay_says";
    let Ok(output) =
        Command::new("kubectl").current_dir(root()).args(["kustomize", "deploy/kustomize/overlays/example"]).output()
    else {
        println!("SKIPPED {name}: kubectl is not installed");
        return;
    };
    assert!(output.status.success(), "{}", text(&output));
    let made = text(&output);
    for line in [
        "image: registry.example.com/coequal-operator:0.1.0",
        "value: registry.example.com/coequal-node:0.1.0",
        "kind: CustomResourceDefinition",
        "  replicas: 2",
    ] {
        assert!(made.contains(line), "{line} is missing in:\n{made}");
    }
    assert_eq!(made.matches("name: COEQUAL_NODE_IMAGE").count(), 1);
}
