//! What carries a node, read off its pod and the machine under it. Pure.

use crate::controller::observed::Carrier;
use crate::crd::ConditionReason;
use k8s_openapi::api::core::v1::{ContainerStatus, Pod};
use k8s_openapi::jiff::{SignedDuration, Timestamp};

/// How long a machine may be looked for before a person hears of it: a volume that is being made holds a pod up too.
const UNSCHEDULABLE_AFTER: SignedDuration = SignedDuration::from_secs(10);
/// A node listens as soon as it runs, and says itself that it starts: one that is silent for so long is away.
const ANSWERS_WITHIN: SignedDuration = SignedDuration::from_secs(30);

/// The machine under a pod.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Machine {
    /// It answers, or nothing is known against it.
    Fine,
    /// It does not answer; whether it still runs, nobody knows.
    Silent,
    /// A person said that it is off.
    OutOfService,
    /// Kubernetes does not know it any more.
    Gone,
}

/// What stands in a pod's way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trouble {
    /// Whether a person has to act; otherwise it may end by itself.
    pub reason: Option<ConditionReason>,
    /// What it is, in words.
    pub message: String,
}

/// The carrier, and what stands in its way.
pub fn carrier(pod: &Pod, machine: Machine, now: Timestamp) -> (Carrier, Option<Trouble>) {
    let is_stopping = pod.metadata.deletion_timestamp.is_some();
    if machine != Machine::Fine {
        let message = lost_words(pod, machine);
        let reason = (machine == Machine::Silent).then_some(ConditionReason::MachineLost);
        return (Carrier::Unknown, Some(Trouble { reason, message }));
    }
    if is_stopping {
        return (Carrier::Stopping, None);
    }
    let status = pod.status.as_ref();
    match status.and_then(|status| status.phase.as_deref()) {
        Some("Failed" | "Succeeded") => {
            let why = status.and_then(|status| status.reason.clone().or(status.message.clone())).unwrap_or_default();
            (Carrier::BackingOff, Some(Trouble { reason: None, message: format!("its pod has ended: {why}") }))
        }
        Some("Running" | "Pending") | None => {
            let trouble = unschedulable(pod, now).or_else(|| container(pod).and_then(container_trouble));
            let carrier = if trouble.is_some() { Carrier::BackingOff } else { Carrier::Running };
            (carrier, trouble)
        }
        Some(_) => (Carrier::Unknown, None),
    }
}

/// What a person can do about a lost machine; the volume might be open there, so nobody else decides.
fn lost_words(pod: &Pod, machine: Machine) -> String {
    let machine_name = machine_name(pod).unwrap_or("?");
    match machine {
        Machine::Silent => format!(
            "its machine {machine_name} does not answer; if it is off for good, say so, and the node starts elsewhere: \
             kubectl taint node {machine_name} node.kubernetes.io/out-of-service=nodeshutdown:NoExecute"
        ),
        Machine::OutOfService => format!("its machine {machine_name} is out of service; the pod is being moved"),
        Machine::Gone | Machine::Fine => format!("its machine {machine_name} is gone; the pod is being moved"),
    }
}

/// The machine that a pod was given to.
pub fn machine_name(pod: &Pod) -> Option<&str> {
    pod.spec.as_ref()?.node_name.as_deref()
}

fn container(pod: &Pod) -> Option<&ContainerStatus> {
    pod.status.as_ref()?.container_statuses.as_ref()?.iter().find(|status| status.name == "node")
}

/// Whether its node answered a probe of the kubelet's since its container was started, or should have by now.
pub fn should_answer(pod: &Pod, now: Timestamp) -> bool {
    let Some(status) = container(pod) else { return false };
    let running = status.state.as_ref().and_then(|state| state.running.as_ref());
    let since = running.and_then(|running| running.started_at.as_ref());
    status.started == Some(true) || since.is_some_and(|since| now.duration_since(since.0) >= ANSWERS_WITHIN)
}

fn unschedulable(pod: &Pod, now: Timestamp) -> Option<Trouble> {
    let conditions = pod.status.as_ref()?.conditions.as_ref()?;
    let scheduled = conditions.iter().find(|condition| condition.type_ == "PodScheduled")?;
    let is_refused = scheduled.status == "False" && scheduled.reason.as_deref() == Some("Unschedulable");
    let since = scheduled.last_transition_time.as_ref();
    let is_new = since.is_some_and(|since| now.duration_since(since.0) < UNSCHEDULABLE_AFTER);
    let why = scheduled.message.clone().unwrap_or_default();
    (is_refused && !is_new).then(|| Trouble {
        reason: Some(ConditionReason::Unschedulable),
        message: format!("no machine can take its pod: {why}"),
    })
}

fn container_trouble(status: &ContainerStatus) -> Option<Trouble> {
    let last = status.last_state.as_ref().and_then(|state| state.terminated.as_ref());
    let state = status.state.as_ref()?;
    if let Some(ended) = &state.terminated {
        let why = ended.reason.as_deref().unwrap_or("ended");
        return Some(Trouble {
            reason: None,
            message: format!("{why}, exit code {}; it starts again", ended.exit_code),
        });
    }
    let waiting = state.waiting.as_ref()?;
    let word = waiting.reason.as_deref().unwrap_or_default();
    match word {
        "ErrImagePull"
        | "ImagePullBackOff"
        | "InvalidImageName"
        | "ErrImageNeverPull"
        | "RegistryUnavailable"
        | "CreateContainerError"
        | "CreateContainerConfigError"
        | "RunContainerError" => Some(Trouble {
            reason: Some(ConditionReason::ImageNotAvailable),
            // Kubelet's own words change to and fro between tries; these stay.
            message: format!(
                "its image {} cannot be had or run; correct spec.image (kubectl describe pod tells why)",
                status.image
            ),
        }),
        "CrashLoopBackOff" => {
            let ended = last.map_or(String::new(), |last| {
                format!(" (last: {}, exit code {})", last.reason.as_deref().unwrap_or("ended"), last.exit_code)
            });
            Some(Trouble {
                reason: None,
                message: format!("ends again and again{ended}; kubectl logs --previous tells why"),
            })
        }
        _ => None,
    }
}

/// Whether the kubelet's readiness probe passes.
pub fn is_ready(pod: &Pod) -> bool {
    let conditions = pod.status.as_ref().and_then(|status| status.conditions.as_ref());
    conditions.into_iter().flatten().any(|condition| condition.type_ == "Ready" && condition.status == "True")
}

/// Whether its containers were started and nobody has told it to stop.
pub fn runs(pod: &Pod) -> bool {
    let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
    phase == Some("Running") && pod.metadata.deletion_timestamp.is_none()
}

/// Where its HTTP API is, once it has an address.
pub fn api_url(pod: &Pod) -> Option<String> {
    let ip = pod.status.as_ref()?.pod_ip.as_deref().filter(|ip| !ip.is_empty())?;
    let host = if ip.contains(':') { format!("[{ip}]") } else { ip.to_owned() };
    Some(format!("https://{host}:{}", super::names::API_PORT))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn pod(status: Value) -> Pod {
        serde_json::from_value(
            json!({ "metadata": { "name": "o-0" }, "spec": { "containers": [], "nodeName": "m" }, "status": status }),
        )
        .unwrap()
    }

    fn waiting(reason: &str) -> Value {
        let state = json!({ "waiting": { "reason": reason, "message": "why" } });
        let status =
            json!({ "name": "node", "ready": false, "restartCount": 1, "image": "", "imageID": "", "state": state });
        json!({ "phase": "Running", "containerStatuses": [status] })
    }

    #[test]
    fn each_state_of_a_pod_is_one_carrier() {
        use ConditionReason as R;
        let now: Timestamp = "2026-01-01T00:00:30Z".parse().unwrap();
        let unschedulable = |since: &str| {
            json!({ "phase": "Pending", "conditions": [{ "type": "PodScheduled", "status": "False",
                "reason": "Unschedulable", "message": "0/3 nodes", "lastTransitionTime": since }] })
        };
        let table = [
            (json!({ "phase": "Pending" }), Machine::Fine, Carrier::Running, None),
            (json!({ "phase": "Running" }), Machine::Fine, Carrier::Running, None),
            (unschedulable("2026-01-01T00:00:00Z"), Machine::Fine, Carrier::BackingOff, Some(R::Unschedulable)),
            (unschedulable("2026-01-01T00:00:29Z"), Machine::Fine, Carrier::Running, None),
            (waiting("ImagePullBackOff"), Machine::Fine, Carrier::BackingOff, Some(R::ImageNotAvailable)),
            (waiting("CrashLoopBackOff"), Machine::Fine, Carrier::BackingOff, None),
            (waiting("ContainerCreating"), Machine::Fine, Carrier::Running, None),
            (json!({ "phase": "Failed", "reason": "Evicted" }), Machine::Fine, Carrier::BackingOff, None),
            (json!({ "phase": "Running" }), Machine::Silent, Carrier::Unknown, Some(R::MachineLost)),
            (json!({ "phase": "Running" }), Machine::Gone, Carrier::Unknown, None),
        ];
        for (status, machine, expected, reason) in table {
            let (found, trouble) = carrier(&pod(status.clone()), machine, now);
            assert_eq!((found, trouble.and_then(|trouble| trouble.reason)), (expected, reason), "{status}");
        }
    }

    #[test]
    fn a_silent_node_is_expected_to_answer_after_its_first_probe_and_after_half_a_minute() {
        let now: Timestamp = "2026-01-01T00:01:00Z".parse().unwrap();
        let running = |started: bool, since: &str| {
            pod(json!({ "phase": "Running", "containerStatuses": [{ "name": "node", "ready": false, "restartCount": 1,
                "image": "", "imageID": "", "started": started, "state": { "running": { "startedAt": since } } }] }))
        };
        assert!(should_answer(&running(true, "2026-01-01T00:00:59Z"), now));
        assert!(!should_answer(&running(false, "2026-01-01T00:00:31Z"), now));
        assert!(should_answer(&running(false, "2026-01-01T00:00:30Z"), now));
        assert!(!should_answer(&pod(waiting("ContainerCreating")), now));
    }

    #[test]
    fn a_silent_machine_comes_with_the_command_that_helps() {
        let (_, trouble) = carrier(&pod(json!({ "phase": "Running" })), Machine::Silent, Timestamp::UNIX_EPOCH);
        assert!(trouble.unwrap().message.contains("kubectl taint node m node.kubernetes.io/out-of-service="));
    }

    #[test]
    fn addresses_of_both_families_make_urls() {
        assert_eq!(api_url(&pod(json!({ "podIP": "10.0.0.1" }))).unwrap(), "https://10.0.0.1:7600");
        assert_eq!(api_url(&pod(json!({ "podIP": "fd00::1" }))).unwrap(), "https://[fd00::1]:7600");
        assert_eq!(api_url(&pod(json!({}))), None);
    }
}
