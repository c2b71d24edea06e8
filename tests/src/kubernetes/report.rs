//! What is printed of a scenario that failed: everything that somebody needs to understand it.

use super::operator::OPERATOR_NAMESPACE;
use super::testcluster::TestCluster;

/// Longest text of one answer.
const LONGEST: usize = 12_000;

/// Prints resources, events and logs of a namespace, and the operator's log.
pub fn print(cluster: &TestCluster, namespace: &str) {
    let show = |arguments: &[&str]| {
        let text = cluster.kubectl_says(arguments);
        let skipped = text.len().saturating_sub(LONGEST);
        let tail: String = text.chars().skip(skipped).collect();
        eprintln!("--- kubectl {}\n{tail}", arguments.join(" "));
    };
    show(&["get", "nodes", "-o", "wide"]);
    show(&["-n", namespace, "get", "rdb,sts,pods,pvc,svc,endpointslices,pdb", "-o", "wide"]);
    show(&["-n", namespace, "get", "rdb", "-o", "yaml"]);
    show(&["-n", namespace, "get", "events", "--sort-by=.lastTimestamp"]);
    show(&["-n", namespace, "logs", "-l", "app.kubernetes.io/component=node", "--tail=25", "--prefix"]);
    show(&["-n", OPERATOR_NAMESPACE, "get", "pods,lease", "-o", "wide"]);
    show(&["-n", OPERATOR_NAMESPACE, "logs", "-l", "app.kubernetes.io/name=coequal-operator", "--tail=60", "--prefix"]);
}
