//! From the next step to what Kubernetes should hold: how many pods, and which pod is replaced. Pure.

use crate::controller::decisions::{Step, lacking_vote};
use crate::controller::observed::{Beginning, Carrier, Observed, ObservedNode};
use crate::controller::validate::ValidatedDatabaseCluster;

/// How many pods the StatefulSet should have, given how many it has now (`None` when there is no StatefulSet).
pub fn pods(wish: &ValidatedDatabaseCluster, step: &Step, now: Option<u32>, seen: &Observed) -> u32 {
    if wish.replicas == 0 {
        return 0;
    }
    // Pods outlive a StatefulSet that is made anew; it must not begin by deleting some.
    let carried = seen.nodes.iter().filter(|node| node.carrier != Carrier::Absent).map(|node| node.ordinal + 1).max();
    let now = now.or(carried).unwrap_or(0);
    match step {
        Step::Start(name) => match wish.ordinal(name) {
            Some(ordinal) if ordinal < wish.replicas => now.max(wish.replicas),
            Some(ordinal) => now.max(ordinal + 1),
            None => now,
        },
        // One at a time, and only the last; one that is wished after all begins anew in its place.
        Step::Stop { name, set_aside: true }
            if wish.ordinal(name).is_some_and(|ordinal| ordinal >= wish.replicas && ordinal + 1 == now) =>
        {
            now - 1
        }
        _ => now,
    }
}

/// A pod as far as replacing it matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Carried {
    /// The number at the end of its name.
    pub ordinal: u32,
    /// Whether it was made from what is wished now.
    pub is_current: bool,
}

/// What to do about pods that were made from an older manifest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Replacement {
    /// All are current.
    Done,
    /// This one is replaced now.
    Replace(u32),
    /// Not now; this is waited for.
    Wait(String),
}

/// The next pod to replace: one at a time, and only while all others serve. A pod that does not run at all is
/// replaced at once, so that a correction always reaches it.
pub fn replacement(wish: &ValidatedDatabaseCluster, pods: &[Carried], seen: &Observed) -> Replacement {
    let node = |ordinal: u32| seen.nodes.iter().find(|node| node.ordinal == ordinal);
    let carrier = |ordinal: u32| node(ordinal).map_or(Carrier::Absent, |node| node.carrier);
    // One that does not vote yet is no help while the next one is away.
    let serves = |ordinal: u32| node(ordinal).is_some_and(|node| serves(node) && lacking_vote(node, seen).is_none());
    let mut old: Vec<u32> = pods.iter().filter(|pod| !pod.is_current).map(|pod| pod.ordinal).collect();
    old.sort_unstable();
    let Some(last) = old.last().copied() else { return Replacement::Done };
    if let Some(broken) = old.iter().find(|ordinal| carrier(**ordinal) == Carrier::BackingOff) {
        return Replacement::Replace(*broken);
    }
    if let Some(stopping) = pods.iter().find(|pod| carrier(pod.ordinal) == Carrier::Stopping) {
        return Replacement::Wait(format!("{}-{} to stop", wish.name, stopping.ordinal));
    }
    if seen.beginning == Beginning::NotBegun {
        // Nothing is stored yet that could be lost, and nodes that wait for a first one never serve.
        return Replacement::Replace(last);
    }
    let ill: Vec<u32> = (0..wish.replicas).filter(|ordinal| !serves(*ordinal)).collect();
    match ill.as_slice() {
        [] => Replacement::Replace(last),
        [only] if old.contains(only) => Replacement::Replace(*only),
        [first, ..] => {
            let vote = node(*first).filter(|node| self::serves(node)).and_then(|node| lacking_vote(node, seen));
            let what = vote.map_or("be ONLINE".to_owned(), |database| format!("vote in {database}"));
            Replacement::Wait(format!("{}-{first} to {what} before the next node restarts", wish.name))
        }
    }
}

fn serves(node: &ObservedNode) -> bool {
    node.carrier == Carrier::Running && node.takes_part() && node.ready == Some(true)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use coequal_types::rest::NodeDescription;
    use coequal_types::{NodeId, NodeName, NodeStatus};
    use serde_json::json;
    use uuid::Uuid;

    fn wish(replicas: u32) -> ValidatedDatabaseCluster {
        let head = "apiVersion: coequal.dev/v1alpha1, kind: ReplicatedDatabase, metadata: {name: o}";
        crate::controller::validate::validate(&format!("{{{head}, spec: {{replicas: {replicas}}}}}")).unwrap()
    }

    fn name(ordinal: u32) -> NodeName {
        format!("o-{ordinal}").parse().unwrap()
    }

    fn node(ordinal: u32, carrier: Carrier, ready: bool) -> ObservedNode {
        let mut node = ObservedNode::unseen(name(ordinal), ordinal);
        node.carrier = carrier;
        node.ready = Some(ready);
        node.report = (carrier == Carrier::Running).then(|| NodeDescription {
            message: None,
            id: NodeId(1),
            name: name(ordinal),
            incarnation: 1,
            status: NodeStatus::Online,
            version: String::new(),
            cluster_id: Some(Uuid::from_u128(7)),
            peer_address: String::new(),
            api_address: String::new(),
            databases: Vec::new(),
        });
        node
    }

    fn seen(nodes: Vec<ObservedNode>) -> Observed {
        Observed { beginning: Beginning::Initialized(Uuid::from_u128(7)), nodes }
    }

    #[test]
    fn the_number_of_pods_follows_the_step() {
        let three = seen((0..3).map(|ordinal| node(ordinal, Carrier::Running, true)).collect());
        let none = seen(Vec::new());
        let stop = |ordinal| Step::Stop { name: name(ordinal), set_aside: true };
        let table = [
            ("first start: all at once", 3, Step::Start(name(0)), None, &none, 3),
            ("scale out: all at once", 5, Step::Start(name(3)), Some(3), &three, 5),
            ("a node that must hand over comes back", 3, Step::Start(name(4)), Some(3), &three, 5),
            ("the last one goes", 3, stop(4), Some(5), &three, 4),
            ("never two at once", 3, stop(3), Some(5), &three, 5),
            ("one that is gone already", 3, stop(4), Some(3), &three, 3),
            ("one that is wished after all", 3, stop(2), Some(3), &three, 3),
            ("nothing to do", 3, Step::Nothing, Some(3), &three, 3),
            ("set by hand to more: membership decides", 3, Step::Nothing, Some(4), &three, 4),
            ("made anew around its pods", 3, Step::Nothing, None, &three, 3),
            ("hibernate", 0, Step::Stop { name: name(0), set_aside: false }, Some(3), &three, 0),
        ];
        for (case, replicas, step, now, seen, expected) in table {
            assert_eq!(pods(&wish(replicas), &step, now, seen), expected, "{case}");
        }
    }

    #[test]
    fn pods_are_replaced_one_at_a_time_and_a_broken_one_at_once() {
        use Carrier::{BackingOff, Running, Stopping};
        use Replacement as R;
        let wait = |text: &str| R::Wait(text.to_owned());
        let ill = "o-0 to be ONLINE before the next node restarts";
        // (carrier, ready, current) of each pod
        let table = [
            ("all current", vec![(Running, true, true); 3], R::Done),
            ("all old: the last first", vec![(Running, true, false); 3], R::Replace(2)),
            (
                "the last is new",
                vec![(Running, true, false), (Running, true, false), (Running, true, true)],
                R::Replace(1),
            ),
            (
                "the last aligns",
                vec![(Running, true, false), (Running, true, false), (Running, false, true)],
                wait("o-2 to be ONLINE before the next node restarts"),
            ),
            (
                "a new one is broken: wait for the correction",
                vec![(Running, true, false), (Running, true, false), (BackingOff, false, true)],
                wait("o-2 to be ONLINE before the next node restarts"),
            ),
            (
                "the correction reaches the broken one",
                vec![(Running, true, false), (Running, true, false), (BackingOff, false, false)],
                R::Replace(2),
            ),
            (
                "and the one that hangs",
                vec![(Running, true, false), (Running, false, false), (Running, true, true)],
                R::Replace(1),
            ),
            (
                "one stops",
                vec![(Running, true, false), (Running, true, false), (Stopping, false, false)],
                wait("o-2 to stop"),
            ),
            ("two are ill", vec![(Running, false, false), (Running, false, false), (Running, true, false)], wait(ill)),
        ];
        for (case, pods, expected) in table {
            let nodes = (0u32..).zip(&pods).map(|(ordinal, (carrier, ready, _))| node(ordinal, *carrier, *ready));
            let seen = seen(nodes.collect());
            let carried: Vec<Carried> =
                (0u32..).zip(&pods).map(|(ordinal, pod)| Carried { ordinal, is_current: pod.2 }).collect();
            assert_eq!(replacement(&wish(3), &carried, &seen), expected, "{case}");
        }
    }

    #[test]
    fn a_node_that_does_not_vote_yet_holds_the_next_restart_up() {
        let mut nodes: Vec<ObservedNode> = (0..3).map(|ordinal| node(ordinal, Carrier::Running, true)).collect();
        for (ordinal, node) in (1..).zip(&mut nodes) {
            node.report.as_mut().unwrap().id = NodeId(ordinal);
        }
        let replica = |ordinal: u64, role: &str| {
            json!({
                "node": NodeId(ordinal), "name": format!("o-{}", ordinal - 1), "role": role, "status": "ONLINE",
                "reachable": true, "backlogEntries": 0, "backlogBoundEntries": 0,
            })
        };
        let replication = json!({
            "name": "o", "uuid": Uuid::from_u128(1), "epoch": 3, "changing": false, "node": NodeId(1), "status": "ONLINE",
            "nodes": [replica(1, "voter"), replica(2, "voter"), replica(3, "learner")],
        });
        nodes[0].replication = vec![serde_json::from_value(replication).unwrap()];
        let carried: Vec<Carried> = (0..3).map(|ordinal| Carried { ordinal, is_current: ordinal == 2 }).collect();
        let wait = Replacement::Wait("o-2 to vote in o before the next node restarts".to_owned());
        assert_eq!(replacement(&wish(3), &carried, &seen(nodes)), wait);
    }

    #[test]
    fn before_the_beginning_nothing_holds_a_correction_up() {
        let mut seen = seen((0..3).map(|ordinal| node(ordinal, Carrier::Running, false)).collect());
        seen.beginning = Beginning::NotBegun;
        let old: Vec<Carried> = (0..3).map(|ordinal| Carried { ordinal, is_current: false }).collect();
        assert_eq!(replacement(&wish(3), &old, &seen), Replacement::Replace(2));
    }
}
