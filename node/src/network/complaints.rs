//! Keeps the log readable: a stranger that knocks four times a second is told of once a minute.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

const AGAIN_AFTER: Duration = Duration::from_secs(60);
/// More different complaints than this within a minute are all told.
const KEPT_MAX: usize = 1024;

/// Complaints of the last minute.
#[derive(Debug, Default)]
pub(super) struct Complaints(Mutex<HashMap<(IpAddr, String), Instant>>);

impl Complaints {
    /// Whether `reason` about `from` is news.
    pub fn is_news(&self, from: IpAddr, reason: &str, now: Instant) -> bool {
        // The map is whole after each statement.
        let mut told = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let is_old = |at: &Instant| now.saturating_duration_since(*at) >= AGAIN_AFTER;
        if let Some(at) = told.get_mut(&(from, reason.to_owned())) {
            let is_news = is_old(at);
            if is_news {
                *at = now;
            }
            return is_news;
        }
        if told.len() >= KEPT_MAX {
            told.retain(|_, at| !is_old(at));
        }
        if told.len() < KEPT_MAX {
            told.insert((from, reason.to_owned()), now);
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_complaint_is_news_once_a_minute() {
        let (complaints, start) = (Complaints::default(), Instant::now());
        let (one, two) = (IpAddr::from([10, 0, 0, 1]), IpAddr::from([10, 0, 0, 2]));
        assert!(complaints.is_news(one, "expired", start));
        assert!(!complaints.is_news(one, "expired", start + Duration::from_secs(59)));
        assert!(complaints.is_news(two, "expired", start) && complaints.is_news(one, "unknown", start));
        assert!(complaints.is_news(one, "expired", start + Duration::from_secs(60)));
        assert!(!complaints.is_news(one, "expired", start + Duration::from_secs(61)));
    }

    #[test]
    fn strangers_cannot_fill_the_memory() {
        let (complaints, start) = (Complaints::default(), Instant::now());
        for n in 0..10_000 {
            assert!(complaints.is_news(IpAddr::from([10, 0, 0, 1]), &format!("{n}"), start));
        }
        assert!(complaints.0.lock().is_ok_and(|told| told.len() <= KEPT_MAX));
    }
}
