//! Machines that die or are cut off. Nothing else runs meanwhile.

use coequal_tests::kubernetes::{Load, Place, With, at, condition, scenario, until};
use serde_json::{Value, json};

/// A node that is alone on its machine and without an operator beside it: a majority goes on, and is looked after.
async fn victim(place: &Place) -> (String, u32) {
    let operators = place.operator_machines().await;
    let mut machines = Vec::new();
    for pod in ["orders-0", "orders-1", "orders-2"] {
        machines.push((pod, place.machine(pod).await));
    }
    let is_alone = |machine: u32| machines.iter().filter(|(_, other)| *other == machine).count() == 1;
    let found = machines.iter().find(|(_, machine)| is_alone(*machine) && !operators.contains(machine));
    let (pod, machine) = found.unwrap_or_else(|| panic!("nodes on {machines:?}, operators on {operators:?}"));
    ((*pod).to_owned(), *machine)
}

/// Three nodes, which only machines that are well can take apart.
async fn start(place: &Place) {
    for machine in 1..=3 {
        until_machine_ready(place, machine).await;
    }
    place.start(json!({ "replicas": 3 })).await;
}

async fn until_lost(place: &Place, pod: &str, machine: u32) {
    let command = format!("kubectl taint node node-{machine} node.kubernetes.io/out-of-service=nodeshutdown:NoExecute");
    let what = format!("Stalled says what to do about node-{machine}");
    let took = place
        .until_orders(&what, |orders| {
            let stalled = condition(orders, "Stalled");
            let text = stalled["message"].as_str().unwrap_or("").to_owned();
            stalled["reason"] == "MachineLost" && text.contains(&command) && text.contains(pod)
        })
        .await;
    println!("TIME machine gone to MachineLost: {took:.1?}");
    assert_eq!(condition(&place.orders().await, "Available")["status"], "True");
}

async fn until_machine_ready(place: &Place, machine: u32) {
    until(&format!("node-{machine} is Ready"), async || {
        let node = place.api.get(&format!("/api/v1/nodes/node-{machine}")).await.unwrap_or(Value::Null);
        let conditions = node["status"]["conditions"].as_array().into_iter().flatten();
        let ready = conditions.clone().any(|c| c["type"] == "Ready" && c["status"] == "True");
        let taints = &node["spec"]["taints"];
        if ready && taints.is_null() {
            Ok(())
        } else {
            Err(format!("taints {taints}, {}", at(&node, "/status/conditions")))
        }
    })
    .await;
}

#[test]
fn a_machine_is_cut_off_and_back() {
    scenario("e2e-cut-off", With::Machines, async |place| {
        start(place).await;
        let (pod, machine) = victim(place).await;
        let (load, uid) = (Load::start(place, 0).await, place.uid(&pod).await);
        let _brought_back = Back { place, machine };
        place.cluster.link(machine, "down");
        until_lost(place, &pod, machine).await;
        load.goes_on().await;
        place.cluster.link(machine, "up");
        let took = place.until_ready(3).await;
        println!("TIME machine connected to Ready: {took:.1?}");
        assert_eq!(place.uid(&pod).await, uid, "its pod ran on");
        load.finish(place, "machine cut off and back", 3).await;
    });
}

#[test]
fn a_machine_is_lost_and_said_to_be_out_of_service() {
    scenario("e2e-machine-lost", With::Machines, async |place| {
        start(place).await;
        let (pod, machine) = victim(place).await;
        let (load, uid) = (Load::start(place, 0).await, place.uid(&pod).await);
        let _brought_back = Back { place, machine };
        place.cluster.script("node-lost", &[&machine.to_string()]);
        until_lost(place, &pod, machine).await;
        let taint = "node.kubernetes.io/out-of-service=nodeshutdown:NoExecute";
        place.cluster.kubectl(&["taint", "node", &format!("node-{machine}"), taint]);
        let moved = place.until_other_pod(&pod, &uid).await;
        println!("TIME taint to Ready elsewhere: {:.1?}", moved + place.until_ready(3).await);
        assert_ne!(place.machine(&pod).await, machine);
        load.finish(place, "machine lost and out of service", 3).await;
    });
}

/// Brings the machine back, whatever becomes of the test.
struct Back<'a> {
    place: &'a Place,
    machine: u32,
}

impl Drop for Back<'_> {
    fn drop(&mut self) {
        let (cluster, name) = (&self.place.cluster, format!("node-{}", self.machine));
        cluster.link(self.machine, "up");
        let out = ["taint", "node", &name, "node.kubernetes.io/out-of-service-"];
        cluster.kubectl_says(&out);
        if !cluster.is_running(&format!("kubelet-{name}")) {
            cluster.script("node", &[&self.machine.to_string()]);
        }
    }
}
