//! Bounded admission: what is above a bound is refused at once, never queued.

use super::ApiSettings;
use super::paths::Load;
use super::problem::RequestError;
use std::sync::Arc;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Bodies are counted in units of this many bytes.
const BODY_UNIT_BYTES: usize = 1024;

/// The bounds and what is taken of them.
#[derive(Debug)]
pub struct Admission {
    requests: Bound,
    streams: Bound,
    bodies: Bound,
}

#[derive(Debug)]
struct Bound {
    what: &'static str,
    limit: usize,
    unit: usize,
    free: Arc<Semaphore>,
}

impl Bound {
    fn new(what: &'static str, limit: usize, unit: usize) -> Self {
        Self { what, limit, unit, free: Arc::new(Semaphore::new(limit.div_ceil(unit).min(Semaphore::MAX_PERMITS))) }
    }

    fn take(&self, amount: usize) -> Result<OwnedSemaphorePermit, RequestError> {
        u32::try_from(amount.div_ceil(self.unit))
            .ok()
            .and_then(|units| Arc::clone(&self.free).try_acquire_many_owned(units).ok())
            .ok_or(RequestError::TooManyRequests { what: self.what, limit: self.limit })
    }
}

impl Admission {
    /// With the bounds of the settings.
    pub fn new(settings: &ApiSettings) -> Self {
        Self {
            requests: Bound::new("requests under way", settings.requests_max, 1),
            streams: Bound::new("batches, exports and change feeds under way", settings.streams_max, 1),
            bodies: Bound::new("bytes of request bodies in memory", settings.body_bytes_max, BODY_UNIT_BYTES),
        }
    }

    /// A place for one request, given back when dropped.
    pub fn request(&self, load: Load) -> Result<Option<OwnedSemaphorePermit>, RequestError> {
        match load {
            Load::Free => Ok(None),
            Load::Request => self.requests.take(1).map(Some),
            Load::Stream => self.streams.take(1).map(Some),
        }
    }

    /// Room for a body, given back when dropped.
    pub fn body(&self, bytes: usize) -> Result<OwnedSemaphorePermit, RequestError> {
        self.bodies.take(bytes)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use super::*;

    #[test]
    fn what_is_above_a_bound_is_refused_at_once_and_let_in_later() {
        let settings = ApiSettings { requests_max: 2, streams_max: 1, body_bytes_max: 4096, ..ApiSettings::default() };
        let admission = Admission::new(&settings);
        let held = (admission.request(Load::Request).unwrap(), admission.request(Load::Request).unwrap());
        assert!(matches!(admission.request(Load::Request), Err(RequestError::TooManyRequests { limit: 2, .. })));
        assert!(admission.request(Load::Stream).is_ok() && admission.request(Load::Free).is_ok());
        drop(held);
        assert!(admission.request(Load::Request).is_ok());
        let body = admission.body(3000).unwrap();
        assert!(admission.body(2000).is_err());
        drop(body);
        assert!(admission.body(4096).is_ok() && admission.body(usize::MAX).is_err());
    }
}
