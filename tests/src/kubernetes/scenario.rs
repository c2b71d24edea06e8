//! One test: a namespace of its own on the one cluster, skipped where there is no cluster.

use super::api::Api;
use super::operator::deploy_once;
use super::place::Place;
use super::report;
use super::testcluster::TestCluster;
use serde_json::json;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::{Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::Duration;

/// What a scenario touches besides its own namespace.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum With {
    /// Nothing: others may run beside it, and the operator is killed at random moments.
    OthersBeside,
    /// The operator: others that touch it wait.
    Operator,
    /// Machines: nothing else runs meanwhile.
    Machines,
}

static MACHINES: RwLock<()> = RwLock::new(());
static OPERATOR: Mutex<()> = Mutex::new(());

/// The operator is killed this early at the first time, and again after so long, in seconds: its successor needs up to
/// 15 s to take the lease over, and then time to work.
const FIRST_KILL: std::ops::Range<u64> = 1..20;
const NEXT_KILL: std::ops::Range<u64> = 45..75;

/// A moment within `seconds` that nobody chose.
fn any_moment(seconds: &std::ops::Range<u64>) -> Duration {
    let clock = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    let width = (seconds.end - seconds.start) * 1_000;
    Duration::from_millis(seconds.start * 1_000 + u64::from(clock.subsec_micros()) % width)
}

/// Kills the operator at moments that nobody chose, again and again.
async fn kill_operators(place: &Place) {
    let mut moments = FIRST_KILL;
    loop {
        let pause = any_moment(&moments);
        tokio::time::sleep(pause).await;
        let operators = place.operators().await;
        // A scenario of the operator's own does with it what it has to.
        let Ok(_turn) = OPERATOR.try_lock() else { continue };
        for pod in operators {
            if place.kill_operator(&pod) {
                println!("{}: {pod} is killed after {pause:.1?}", place.namespace);
                moments = NEXT_KILL;
            }
        }
    }
}

/// Held while a scenario runs.
enum Turn {
    Shared { _machines: RwLockReadGuard<'static, ()>, _operator: Option<MutexGuard<'static, ()>> },
    Alone { _machines: RwLockWriteGuard<'static, ()> },
}

impl With {
    fn turn(self) -> Turn {
        if self == Self::Machines {
            return Turn::Alone { _machines: MACHINES.write().unwrap_or_else(PoisonError::into_inner) };
        }
        // The operator first: whoever waits for it must not hold machines back.
        let operator = (self == Self::Operator).then(|| OPERATOR.lock().unwrap_or_else(PoisonError::into_inner));
        Turn::Shared { _machines: MACHINES.read().unwrap_or_else(PoisonError::into_inner), _operator: operator }
    }
}

/// Runs a test in a namespace called `name`, in which Pod Security `restricted` is enforced. A failure is printed with
/// everything that Kubernetes knows about it.
pub fn scenario(name: &str, with: With, body: impl AsyncFnOnce(&Place)) {
    let cluster = match TestCluster::find() {
        Ok(cluster) => cluster,
        Err(reason) => {
            // At the beginning of a line, whatever the runner has just printed.
            let test = std::thread::current().name().unwrap_or(name).to_owned();
            return println!("\nSKIPPED {test}: {reason}");
        }
    };
    deploy_once(&cluster);
    let _turn = with.turn();
    cluster.enter();
    let entering = cluster.clone();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .on_thread_start(move || entering.enter())
        .build()
        .expect("a runtime");
    let result = catch_unwind(AssertUnwindSafe(|| {
        runtime.block_on(async {
            let api = Api::connect();
            let path = format!("/api/v1/namespaces/{name}");
            if api.get(&path).await.is_some() {
                cluster.kubectl(&["delete", "namespace", name, "--timeout=180s"]);
            }
            let labels = json!({ "pod-security.kubernetes.io/enforce": "restricted" });
            let namespace = json!({ "metadata": { "name": name, "labels": labels } });
            api.create("/api/v1/namespaces", &namespace).await;
            let place = Place { api, cluster: cluster.clone(), namespace: name.to_owned() };
            match with {
                With::OthersBeside => tokio::select! { () = body(&place) => {}, () = kill_operators(&place) => {} },
                With::Operator | With::Machines => body(&place).await,
            }
            place.api.delete(&path, None).await;
        });
    }));
    if let Err(failure) = result {
        report::print(&cluster, name);
        resume_unwind(failure);
    }
}
