//! The model as stateright searches it, and walks at random where a full search would be too long.

use crate::register::{Action, Bounds, Outcome, State};
use coequal_protocol::faults::Broken;
use stateright::{Checker, HasDiscoveries, Model, Property};
use std::sync::atomic::{AtomicU64, Ordering};

/// What has to happen somewhere in a search, else it proves nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Happens {
    Written,
    Rejected,
    ReadSomething,
    ReadNothing,
    Unknown,
    NotApplied,
    RoundLost,
    OneRound,
    Creation,
    ReadSettles,
    PromiseInMemory,
    PromiseLost,
}

/// One search: its bounds, and what has to happen in it.
#[derive(Debug)]
pub struct Search {
    pub bounds: Bounds,
    pub happens: &'static [Happens],
    reached: AtomicU64,
}

/// How a search ended.
#[derive(Debug, Clone)]
pub struct Found {
    /// Different states.
    pub states: usize,
    /// Whether every state within the bounds was looked at.
    pub complete: bool,
    /// What is wrong in the first bad state that was found.
    pub violation: Option<String>,
    /// What never happened although it has to.
    pub missing: Vec<&'static str>,
    /// How often the place was passed where the broken rule is kept.
    pub reached: u64,
}

impl Search {
    pub fn new(bounds: Bounds, happens: &'static [Happens]) -> Self {
        Self { bounds, happens, reached: AtomicU64::new(0) }
    }

    /// Runs with the search's fault switched on, on whatever thread this is.
    fn under_fault<R>(&self, run: impl FnOnce() -> R) -> R {
        let broken = Broken::now(self.bounds.fault);
        let result = run();
        self.reached.fetch_add(broken.reached(), Ordering::Relaxed);
        result
    }

    /// Looks at every state, breadth first, until it has come to `states_max` by whatever way; ends with the first
    /// violation.
    pub fn exhaust(self, states_max: usize) -> Found {
        let threads = std::thread::available_parallelism().map_or(1, usize::from).min(2);
        let when = HasDiscoveries::AnyFailures;
        let checker =
            self.checker().threads(threads).target_state_count(states_max).finish_when(when).spawn_bfs().join();
        let model = checker.model();
        let bad = checker.discovery(SOUND);
        let violation = bad.map(|path| {
            let last = path.last_state().clone();
            let what = model.under_fault(|| model.bounds.judge(&last)).unwrap_or_default();
            format!("{what}\n{}", steps(&path.into_actions()))
        });
        let names = model.happens.iter().map(|what| what.name());
        let missing = names.filter(|name| checker.discovery(name).is_none()).collect();
        Found {
            states: checker.unique_state_count(),
            complete: checker.state_count() < states_max && violation.is_none(),
            missing,
            violation,
            reached: model.reached.load(Ordering::Relaxed),
        }
    }

    /// One walk from the start: any possible step, `steps` times at most. Gives back what is wrong, if something is.
    pub fn walk(&self, seed: u64, steps_max: usize) -> (usize, Option<String>) {
        let mut random = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
        let mut state = self.bounds.start();
        let (mut taken, mut actions) = (Vec::new(), Vec::new());
        for _ in 0..steps_max {
            actions.clear();
            self.actions(&state, &mut actions);
            if actions.is_empty() {
                break;
            }
            // xorshift64* (Vigna, 2016).
            random ^= random >> 12;
            random ^= random << 25;
            random ^= random >> 27;
            let dice = random.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 16;
            let action = actions[usize::try_from(dice % actions.len() as u64).unwrap()];
            let Some(next) = self.next_state(&state, action) else { continue };
            state = next;
            taken.push(action);
            if let Some(what) = self.under_fault(|| self.bounds.judge(&state)) {
                return (taken.len(), Some(format!("seed {seed}: {what}\n{}", steps(&taken))));
            }
        }
        (taken.len(), None)
    }

    /// How often the place was passed where the broken rule is kept.
    pub fn reached(&self) -> u64 {
        self.reached.load(Ordering::Relaxed)
    }
}

fn steps(actions: &[Action]) -> String {
    actions.iter().map(|action| format!("  {action:?}\n")).collect()
}

const SOUND: &str = "every promise holds";

impl Model for Search {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        vec![self.bounds.start()]
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        self.bounds.possible(state, actions);
    }

    fn next_state(&self, state: &State, action: Action) -> Option<State> {
        self.under_fault(|| self.bounds.follow(state, action))
    }

    fn properties(&self) -> Vec<Property<Self>> {
        let sound = |search: &Self, state: &State| search.under_fault(|| search.bounds.judge(state)).is_none();
        let mut properties = vec![Property::<Self>::always(SOUND, sound)];
        properties.extend(self.happens.iter().map(|what| what.property()));
        properties
    }
}

fn some(state: &State, what: impl Fn(Outcome) -> bool) -> bool {
    state.calls.iter().any(|call| what(call.outcome))
}

impl Happens {
    fn name(self) -> &'static str {
        match self {
            Self::Written => "a write is acknowledged",
            Self::Rejected => "a write is refused",
            Self::ReadSomething => "a read shows a document",
            Self::ReadNothing => "a read shows that there is none",
            Self::Unknown => "an outcome is unknown",
            Self::NotApplied => "a write is certainly not applied",
            Self::RoundLost => "a round is lost",
            Self::OneRound => "a write takes one round",
            Self::Creation => "a generated key takes one round",
            Self::ReadSettles => "a read settles what it found",
            Self::PromiseInMemory => "a promise is kept in memory",
            Self::PromiseLost => "a promise in memory is lost",
        }
    }

    fn property(self) -> Property<Search> {
        let name = self.name();
        let sometimes = |condition: fn(&Search, &State) -> bool| Property::<Search>::sometimes(name, condition);
        match self {
            Self::Written => sometimes(|_, state| some(state, |o| matches!(o, Outcome::Written { .. }))),
            Self::Rejected => sometimes(|_, state| some(state, |o| matches!(o, Outcome::Rejected { .. }))),
            Self::ReadSomething => sometimes(|_, state| some(state, |o| matches!(o, Outcome::Read(Some(_))))),
            Self::ReadNothing => sometimes(|_, state| some(state, |o| o == Outcome::Read(None))),
            Self::Unknown => sometimes(|_, state| some(state, |o| o == Outcome::Unknown)),
            Self::NotApplied => sometimes(|_, state| some(state, |o| o == Outcome::NotApplied)),
            Self::RoundLost => sometimes(|_, state| state.seen.lost_round),
            Self::OneRound => sometimes(|_, state| state.seen.one_round),
            Self::Creation => sometimes(|_, state| state.seen.creation),
            Self::ReadSettles => sometimes(|_, state| state.seen.read_settles),
            Self::PromiseInMemory => sometimes(|_, state| state.seen.promise_in_memory),
            Self::PromiseLost => sometimes(|_, state| state.seen.promise_lost),
        }
    }
}
