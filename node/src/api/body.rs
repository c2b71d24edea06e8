//! Reading request bodies: bounded in bytes and in time.

use super::problem::RequestError;
use axum::body::Body;
use bytes::{Bytes, BytesMut};
use coequal_types::DocumentError;
use futures::StreamExt as _;
use http::{HeaderMap, header};
use serde::de::DeserializeOwned;
use std::time::Instant;

/// Bytes that a document may have besides its own: `_key`, `_version`, `_stamp` and their names.
pub const SYSTEM_MEMBERS_BYTES: usize = 4096;
/// Largest body of a request about settings, nodes and the like.
const SETTINGS_BYTES_MAX: usize = 64 << 10;

/// The limit of a body, and where it comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limit {
    /// What is limited.
    pub what: &'static str,
    /// Bytes.
    pub bytes: usize,
    /// The setting that a person would change.
    pub setting: &'static str,
}

impl Limit {
    /// Of a document.
    pub fn document(bytes: usize) -> Self {
        Self { what: "the document", bytes, setting: "--document-bytes-max (at most 16 MiB)" }
    }

    /// The limit, as it travels with a merge patch.
    pub fn bytes_max(self) -> u32 {
        u32::try_from(self.bytes).unwrap_or(u32::MAX)
    }

    /// The refusal of what is larger.
    pub fn exceeded(self) -> RequestError {
        RequestError::TooLarge { what: self.what, limit: self.bytes, setting: self.setting }
    }
}

/// Reads a body of at most `limit.bytes` (and `slack` more, for what does not count) until `deadline`.
pub async fn read(
    headers: &HeaderMap,
    body: Body,
    limit: Limit,
    slack: usize,
    deadline: Instant,
) -> Result<Bytes, RequestError> {
    let bytes_max = limit.bytes + slack;
    if content_length(headers).is_some_and(|length| length > bytes_max as u64) {
        return Err(limit.exceeded());
    }
    let mut stream = body.into_data_stream();
    let mut first = Bytes::new();
    let mut all = BytesMut::new();
    loop {
        let next = tokio::time::timeout_at(deadline.into(), stream.next());
        let chunk = match next.await.map_err(|_| RequestError::BodyTimeout)? {
            None => break,
            Some(chunk) => chunk.map_err(|error| RequestError::BodyBroken(error.to_string()))?,
        };
        if first.len() + all.len() + chunk.len() > bytes_max {
            return Err(limit.exceeded());
        }
        if first.is_empty() && all.is_empty() {
            first = chunk;
        } else {
            if all.is_empty() {
                all.extend_from_slice(&std::mem::take(&mut first));
            }
            all.extend_from_slice(&chunk);
        }
    }
    Ok(if all.is_empty() { first } else { all.freeze() })
}

/// The declared length of a body.
pub fn content_length(headers: &HeaderMap) -> Option<u64> {
    headers.get(header::CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

/// Reads settings and the like: JSON without doubled members; errors name the member.
pub async fn read_settings<T: DeserializeOwned>(
    headers: &HeaderMap,
    body: Body,
    deadline: Instant,
) -> Result<Option<T>, RequestError> {
    let limit = Limit { what: "the request body", bytes: SETTINGS_BYTES_MAX, setting: "nothing: it is fixed" };
    let text = read(headers, body, limit, 0, deadline).await?;
    if text.is_empty() { Ok(None) } else { parse_settings(&text).map(Some) }
}

/// Parses settings and the like.
pub fn parse_settings<T: DeserializeOwned>(text: &[u8]) -> Result<T, RequestError> {
    match coequal_types::Document::parse(text) {
        // Members that begin with `_` are named as unknown ones below.
        Ok(_) | Err(DocumentError::ReservedMember(_) | DocumentError::BadKey(_)) => {}
        Err(error @ DocumentError::Syntax(_)) => return Err(error.into()),
        Err(DocumentError::NotAnObject(what)) => {
            return Err(RequestError::UnacceptableBody(format!("the body must be a JSON object; this is {what}")));
        }
        Err(error) => return Err(RequestError::UnacceptableBody(error.to_string())),
    }
    let mut deserializer = serde_json::Deserializer::from_slice(text);
    serde_path_to_error::deserialize(&mut deserializer).map_err(|error| {
        let path = error.path().to_string();
        let reason = error.into_inner().to_string();
        let reason = reason.split(" at line ").next().unwrap_or(&reason).to_owned();
        RequestError::UnacceptableBody(if path == "." { reason } else { format!("{path}: {reason}") })
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use super::*;
    use coequal_types::rest::{AddNode, SettingsPatch};
    use coequal_types::{DatabaseSettings, WriteQuorum};
    use std::time::Duration;

    fn soon() -> Instant {
        Instant::now() + Duration::from_secs(5)
    }
    fn chunks(parts: &[&'static str]) -> Body {
        let parts: Vec<_> =
            parts.iter().map(|part| Ok::<_, std::io::Error>(Bytes::from_static(part.as_bytes()))).collect();
        Body::from_stream(futures::stream::iter(parts))
    }

    #[tokio::test]
    async fn a_chunked_body_is_put_together_up_to_its_limit() {
        let headers = HeaderMap::new();
        let all = read(&headers, chunks(&["ab", "", "cd"]), Limit::document(4), 0, soon()).await;
        assert_eq!(all.unwrap(), "abcd");
        let error = read(&headers, chunks(&["ab", "cde"]), Limit::document(4), 0, soon()).await.expect_err("too large");
        assert!(error.to_string().contains("4 bytes") && error.to_string().contains("document-bytes-max"), "{error}");
        assert!(read(&headers, chunks(&["ab", "cde"]), Limit::document(4), 1, soon()).await.is_ok());
        assert_eq!(read(&headers, Body::empty(), Limit::document(4), 0, soon()).await.unwrap(), "");
    }

    #[tokio::test]
    async fn a_declared_length_is_refused_before_it_is_read() {
        let headers = HeaderMap::from_iter([(header::CONTENT_LENGTH, "9".parse().unwrap())]);
        let never = Body::from_stream(futures::stream::pending::<Result<Bytes, std::io::Error>>());
        assert!(matches!(
            read(&headers, never, Limit::document(4), 0, soon()).await,
            Err(RequestError::TooLarge { .. })
        ));
    }

    #[tokio::test]
    async fn a_body_that_never_comes_ends_at_the_deadline() {
        let never = Body::from_stream(futures::stream::pending::<Result<Bytes, std::io::Error>>());
        let deadline = Instant::now() + Duration::from_millis(20);
        let answer = read(&HeaderMap::new(), never, Limit::document(4), 0, deadline).await;
        assert_eq!(answer, Err(RequestError::BodyTimeout));
    }

    #[test]
    fn settings_name_the_member_at_fault() {
        let error = |text: &str| match parse_settings::<SettingsPatch>(text.as_bytes()) {
            Err(error) => error.to_string(),
            Ok(patch) => panic!("{text} was taken: {patch:?}"),
        };
        assert!(error(r#"{"autoDeploi":true}"#).contains("autoDeploi"));
        assert!(error(r#"{"autoDeploy":1}"#).starts_with("autoDeploy: "));
        assert!(error(r#"{"writeQuorum":"most"}"#).contains("writeQuorum \"most\" is not known"));
        assert!(error(r#"{"autoDeploy":true,"autoDeploy":true}"#).contains("twice"));
        assert!(error(r#"{"_key":"x"}"#).contains("_key"));
        assert!(error("[]").contains("JSON object"));
        assert!(error("{").contains("not JSON"));
        assert!(parse_settings::<AddNode>(b"{}").is_err());
    }

    #[test]
    fn settings_take_quorums_as_numbers_and_words() {
        let read = |text: &str| parse_settings::<DatabaseSettings>(text.as_bytes()).unwrap();
        assert_eq!(read(r#"{"writeQuorum":2}"#).write_quorum, WriteQuorum::Count(2));
        assert_eq!(read(r#"{"writeQuorum":"all"}"#).write_quorum, WriteQuorum::All);
        assert_eq!(read("{}"), DatabaseSettings::default());
    }
}
