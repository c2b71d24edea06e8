//! Refusing a request before its body was read. Over HTTP/1 the connection would be closed with unread
//! bytes in it, the kernel would reset it, and a client that is still sending would never see why it was
//! refused; over HTTP/2 the same happens to the stream, and some clients take that for a failure. So the
//! rest of the body is read and dropped, up to a bound.

use axum::body::{Body, BodyDataStream, HttpBody as _};
use axum::extract::Request;
use futures::StreamExt as _;
use http::{HeaderMap, Version, header};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// Bodies up to this size are in the connection's buffer already.
const SMALL_BYTES: u64 = 16 << 10;
/// What is read and dropped at most.
const BYTES_MAX: usize = 64 << 20;
/// How long that may take.
const TIME_MAX: Duration = Duration::from_secs(5);

type Shared = Arc<Mutex<BodyDataStream>>;

/// The other end of a request's body, for when its handler did not want it.
pub struct Rest(Shared);

/// Keeps hold of a body that may have to be drained.
pub fn keep(request: Request) -> (Request, Option<Rest>) {
    let waits = request.headers().contains_key(header::EXPECT);
    let has_arrived = request.version() < Version::HTTP_2 && is_small(request.headers());
    if waits || request.body().is_end_stream() || has_arrived {
        return (request, None);
    }
    let (parts, body) = request.into_parts();
    let shared = Arc::new(Mutex::new(body.into_data_stream()));
    let body = Body::from_stream(stream(Arc::clone(&shared)));
    (Request::from_parts(parts, body), Some(Rest(shared)))
}

fn is_small(headers: &HeaderMap) -> bool {
    super::body::content_length(headers).is_some_and(|length| length <= SMALL_BYTES)
}

fn stream(shared: Shared) -> impl futures::Stream<Item = Result<bytes::Bytes, axum::Error>> + Send + 'static {
    futures::stream::poll_fn(move |context| {
        shared.lock().unwrap_or_else(PoisonError::into_inner).poll_next_unpin(context)
    })
}

impl Rest {
    /// Reads and drops what is left.
    pub async fn drain(self) {
        let mut rest = stream(self.0);
        let mut left = BYTES_MAX;
        let reading = async {
            while let Some(Ok(chunk)) = rest.next().await {
                left = left.saturating_sub(chunk.len());
                if left == 0 {
                    break;
                }
            }
        };
        // A client that is too slow or sends too much loses its answer, not the node its time.
        let _ = tokio::time::timeout(TIME_MAX, reading).await;
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn what_has_not_arrived_is_kept_hold_of() {
        let is_kept = |version: Version, length: u64, expects: bool| {
            let builder = Request::builder().version(version).header(header::CONTENT_LENGTH, length);
            let builder = if expects { builder.header(header::EXPECT, "100-continue") } else { builder };
            keep(builder.body(Body::from("{}")).unwrap()).1.is_some()
        };
        for (version, length, expects, expected) in [
            (Version::HTTP_11, 2, false, false),
            (Version::HTTP_11, 1 << 20, false, true),
            (Version::HTTP_11, 1 << 20, true, false),
            (Version::HTTP_2, 2, false, true),
            (Version::HTTP_2, 1 << 20, false, true),
        ] {
            assert_eq!(is_kept(version, length, expects), expected, "{version:?} {length} {expects}");
        }
        let empty = Request::builder().version(Version::HTTP_2).body(Body::empty()).unwrap();
        assert!(keep(empty).1.is_none());
    }
}
