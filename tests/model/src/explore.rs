//! Searches of a small world from its start: every order of what can happen, breadth first.

use coequal_protocol::faults::{Broken, Fault};
use stateright::{Checker, HasDiscoveries, Model, Property};
use std::fmt::Debug;
use std::hash::Hash;
use std::sync::atomic::{AtomicU64, Ordering};

/// A small world whose steps go through the protocol's own functions.
pub trait Small: Sized + Send + Sync + 'static {
    type State: Clone + Debug + PartialEq + Hash + Send + Sync + 'static;
    type Action: Copy + Debug + PartialEq + Send + Sync + 'static;

    fn name(&self) -> &'static str;
    fn start(&self) -> Self::State;
    fn possible(&self, state: &Self::State, actions: &mut Vec<Self::Action>);
    /// What follows; `None` when nothing changes.
    fn follow(&self, state: &Self::State, action: Self::Action) -> Option<Self::State>;
    /// What is wrong in a state.
    fn judge(&self, state: &Self::State) -> Option<String>;
    /// What has to happen somewhere, else the search proves nothing.
    fn happens(&self) -> Vec<Happening<Self>>;
}

/// Something that a search has to come to.
pub type Happening<S> = (&'static str, fn(&Search<S>, &<S as Small>::State) -> bool);

/// How a search ended.
#[derive(Debug, Clone)]
pub struct Found {
    /// Different states.
    pub states: usize,
    /// Whether every state of the world was looked at.
    pub complete: bool,
    /// What is wrong in the first bad state that was found, and the steps to it.
    pub violation: Option<String>,
    /// What never happened although it has to.
    pub missing: Vec<&'static str>,
    /// How often the place was passed where the broken rule is kept.
    pub reached: u64,
}

/// A world while it is searched.
pub struct Search<S> {
    small: S,
    fault: Option<Fault>,
    reached: AtomicU64,
}

const SOUND: &str = "every promise holds";

impl<S: Small> Search<S> {
    /// Runs with the search's fault switched on, on whatever thread this is.
    fn under_fault<R>(&self, run: impl FnOnce() -> R) -> R {
        let broken = Broken::now(self.fault);
        let result = run();
        self.reached.fetch_add(broken.reached(), Ordering::Relaxed);
        result
    }
}

impl<S: Small> Model for Search<S> {
    type State = S::State;
    type Action = S::Action;

    fn init_states(&self) -> Vec<S::State> {
        vec![self.under_fault(|| self.small.start())]
    }

    fn actions(&self, state: &S::State, actions: &mut Vec<S::Action>) {
        self.under_fault(|| self.small.possible(state, actions));
    }

    fn next_state(&self, state: &S::State, action: S::Action) -> Option<S::State> {
        self.under_fault(|| self.small.follow(state, action))
    }

    fn properties(&self) -> Vec<Property<Self>> {
        let sound = |search: &Self, state: &S::State| search.under_fault(|| search.small.judge(state)).is_none();
        let mut properties = vec![Property::<Self>::always(SOUND, sound)];
        properties.extend(self.small.happens().into_iter().map(|(name, seen)| Property::<Self>::sometimes(name, seen)));
        properties
    }
}

/// Looks at every state, until it has come to `states_max` by whatever way; ends with the first violation.
pub fn exhaust<S: Small>(small: S, fault: Option<Fault>, states_max: usize) -> Found {
    let search = Search { small, fault, reached: AtomicU64::new(0) };
    let threads = std::thread::available_parallelism().map_or(1, usize::from).min(2);
    let when = HasDiscoveries::AnyFailures;
    let checker = search.checker().threads(threads).target_state_count(states_max).finish_when(when).spawn_bfs().join();
    let model = checker.model();
    let violation = checker.discovery(SOUND).map(|path| {
        let last = path.last_state().clone();
        let what = model.under_fault(|| model.small.judge(&last)).unwrap_or_default();
        let steps: String = path.into_actions().iter().map(|action| format!("  {action:?}\n")).collect();
        format!("{what}\n{steps}")
    });
    let names = model.small.happens().into_iter().map(|(name, _)| name);
    Found {
        states: checker.unique_state_count(),
        complete: checker.state_count() < states_max && violation.is_none(),
        violation,
        missing: names.filter(|name| checker.discovery(name).is_none()).collect(),
        reached: model.reached.load(Ordering::Relaxed),
    }
}
