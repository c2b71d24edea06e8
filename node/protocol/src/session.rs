//! Sessions: read your own writes and never go back, on any node (G3).

use crate::ballot::Ballot;
use crate::faults::{Fault, broken};
use crate::register::Held;

/// Whether the local store may answer a client that has seen `token`. A token does not say which documents it
/// covers, so a document older than it may be behind: then a majority is asked.
pub fn may_answer(local: Option<&Held>, token: Option<Ballot>) -> bool {
    let known = local.map_or(Ballot::NONE, |held| held.revision.stamp.max(held.ballot));
    token.is_none_or(|token| known >= token) || broken(Fault::SessionTokenIgnored)
}
