//! Which threads let others go first.

/// Steps of priority by which such a thread stands back: its share beside a writer is about a third then (sched(7)); with
/// less it would fall behind on a full processor.
pub(super) const CHECKPOINT_NICE: i32 = 5;

/// Lowers this thread's priority: a checkpoint takes most of a processor for half a second, often on several nodes of a
/// machine at once, the copy of a deploy for longer, and writers must not wait for them. Where the system refuses, it runs like
/// the others.
pub(super) fn yield_to_writers() {
    let thread = Some(rustix::thread::gettid());
    let lowered = rustix::process::getpriority_process(thread)
        .and_then(|nice| rustix::process::setpriority_process(thread, nice + CHECKPOINT_NICE));
    if let Err(error) = lowered {
        tracing::debug!(%error, "the priority of a thread could not be lowered");
    }
}
