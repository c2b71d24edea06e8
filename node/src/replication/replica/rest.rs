//! How often a replica looks around: often while anything is under way, seldom while nothing is. What begins comes as an
//! event, after which it is looked at again.

use super::{Replica, TICK_MS};

/// How often a replica at rest looks around, in milliseconds: for what no event tells, as a store that failed.
const REST_MS: u64 = 250;
/// A source whose last answer is older than this does not simply hold a request for want of news.
const ANSWERED_LATELY_MS: u64 = 750;

impl Replica {
    /// Begins the pause until the next look around.
    pub(super) fn begin_pause(&mut self) {
        self.next_tick_ms = self.now.monotonic_ms + REST_MS;
    }

    /// Shortens the pause if anything is under way.
    pub(super) fn pace(&mut self) {
        let soon_ms = self.now.monotonic_ms + TICK_MS;
        if self.next_tick_ms > soon_ms && !self.is_at_rest() {
            self.next_tick_ms = soon_ms;
        }
    }

    /// Whether nothing has a timer that only looking around serves.
    fn is_at_rest(&self) -> bool {
        let writes = self.slots.len() > 0 || !self.forwards.is_empty() || !self.gated.is_empty();
        let aligns = self.alignment.is_some() || self.epoch_alignment.is_some() || !self.own_disk.may_vote();
        let disk = self.disk_full || self.met_full_ms.is_some();
        let asks = !self.queries.is_empty() || !self.behind.is_empty() || self.comparing.is_under_way();
        let collects = self.tombstones.is_under_way(self.configuration.low_bound.collected);
        let is_busy = writes || aligns || disk || asks || collects;
        !is_busy && self.sources_answer()
    }

    /// Whether every voter that is reached has answered lately.
    fn sources_answer(&self) -> bool {
        let silent = |answered_ms: u64| self.now.monotonic_ms.saturating_sub(answered_ms) > ANSWERED_LATELY_MS;
        let voters = self.configuration.all_voters();
        !self.peers.iter().any(|(node, peer)| peer.reachable && silent(peer.pull.answered_ms) && voters.contains(node))
    }
}
