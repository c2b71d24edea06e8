//! Session tokens (G3): the newest stamp that a client has seen, as text.

use super::headers::single;
use super::problem::RequestError;
use coequal_protocol::Ballot;
use http::{HeaderMap, HeaderName, HeaderValue};

/// Header of the token, in requests and answers.
pub const SESSION: HeaderName = HeaderName::from_static("coequal-session");

/// The token of a request.
pub fn read(headers: &HeaderMap) -> Result<Option<Ballot>, RequestError> {
    let Some(text) = single(headers, &SESSION)? else { return Ok(None) };
    text.parse()
        .map(Some)
        .map_err(|error| RequestError::MalformedHeader(format!("{SESSION}: {error}, from the answer that carried it")))
}

/// Puts the newer of the request's token and the answer's stamp into the answer.
pub fn write(headers: &mut HeaderMap, asked: Option<Ballot>, answered: Option<Ballot>) {
    if let Some(newest) = asked.max(answered)
        && let Ok(value) = HeaderValue::from_str(&newest.to_string())
    {
        headers.insert(SESSION, value);
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use super::*;
    use coequal_types::NodeId;

    #[test]
    fn the_token_never_goes_back() {
        let (old, new) = (Ballot::ordinary(1, NodeId(9), 1), Ballot::ordinary(2, NodeId(1), 1));
        for (asked, answered, expected) in
            [(Some(old), Some(new), new), (Some(new), Some(old), new), (None, Some(old), old), (Some(old), None, old)]
        {
            let mut headers = HeaderMap::new();
            write(&mut headers, asked, answered);
            assert_eq!(read(&headers).unwrap(), Some(expected));
        }
        let mut headers = HeaderMap::new();
        write(&mut headers, None, None);
        assert!(headers.is_empty());
    }

    #[test]
    fn a_token_that_is_no_stamp_is_refused() {
        for bad in ["", "abc", "o1-2-3-4"] {
            let headers = HeaderMap::from_iter([(SESSION, bad.parse().unwrap())]);
            assert!(matches!(read(&headers), Err(RequestError::MalformedHeader(_))), "{bad}");
        }
    }
}
