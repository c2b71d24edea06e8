//! Reading request headers: each at most once, bounded, and refused by name.

use super::problem::RequestError;
use http::{HeaderMap, HeaderName, header};

/// The text of a header that may stand once.
pub fn single<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Result<Option<&'a str>, RequestError> {
    let mut values = headers.get_all(name).iter();
    let Some(value) = values.next() else { return Ok(None) };
    if values.next().is_some() {
        return Err(RequestError::MalformedHeader(format!("header {name} stands twice; send it once")));
    }
    value
        .to_str()
        .map(|text| Some(text.trim()))
        .map_err(|_| RequestError::MalformedHeader(format!("header {name} contains bytes other than visible ASCII")))
}

/// What a body may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BodyKind {
    /// `application/json`
    Json,
    /// `application/merge-patch+json` or `application/json`
    MergePatch,
    /// `application/x-ndjson` and its other names
    NdJson,
}

impl BodyKind {
    fn accepts(self) -> &'static [&'static str] {
        match self {
            Self::Json => &["application/json"],
            Self::MergePatch => &["application/merge-patch+json", "application/json"],
            Self::NdJson => &["application/x-ndjson", "application/ndjson", "application/jsonl", "application/json"],
        }
    }
}

/// Refuses bodies of other types, charsets and encodings. No `Content-Type` is fine.
pub fn check_content(headers: &HeaderMap, kind: BodyKind) -> Result<(), RequestError> {
    if let Some(encoding) = single(headers, &header::CONTENT_ENCODING)?
        && !encoding.eq_ignore_ascii_case("identity")
    {
        return Err(RequestError::UnsupportedMediaType(format!(
            "Content-Encoding {encoding:?} is not understood; send the body as it is"
        )));
    }
    let Some(text) = single(headers, &header::CONTENT_TYPE)? else { return Ok(()) };
    let mut parts = text.split(';').map(str::trim);
    let media = parts.next().unwrap_or("");
    if !kind.accepts().iter().any(|known| media.eq_ignore_ascii_case(known)) {
        return Err(RequestError::UnsupportedMediaType(format!(
            "Content-Type {media:?} is not understood here; use {}",
            kind.accepts().join(" or ")
        )));
    }
    for parameter in parts {
        let Some((name, value)) = parameter.split_once('=') else { continue };
        let value = value.trim().trim_matches('"');
        if name.trim().eq_ignore_ascii_case("charset") && !value.eq_ignore_ascii_case("utf-8") {
            return Err(RequestError::UnsupportedMediaType(format!(
                "charset {value:?} is not understood; JSON is UTF-8 (RFC 8259, section 8.1)"
            )));
        }
    }
    Ok(())
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use super::*;

    fn check(kind: BodyKind, text: &str) -> bool {
        check_content(&HeaderMap::from_iter([(header::CONTENT_TYPE, text.parse().unwrap())]), kind).is_ok()
    }

    #[test]
    fn media_types_follow_the_method() {
        assert!(check(BodyKind::Json, "application/json"));
        assert!(check(BodyKind::Json, "Application/JSON; charset=UTF-8"));
        assert!(check(BodyKind::MergePatch, "application/merge-patch+json"));
        assert!(!check(BodyKind::Json, "application/merge-patch+json"));
        assert!(!check(BodyKind::Json, "text/plain"));
        assert!(!check(BodyKind::Json, "application/json; charset=iso-8859-1"));
        assert!(check(BodyKind::NdJson, "application/x-ndjson"));
        assert!(check_content(&HeaderMap::new(), BodyKind::Json).is_ok());
    }

    #[test]
    fn compressed_bodies_are_refused_by_name() {
        let headers = HeaderMap::from_iter([(header::CONTENT_ENCODING, "gzip".parse().unwrap())]);
        let error = check_content(&headers, BodyKind::Json).expect_err("gzip");
        assert!(error.to_string().contains("gzip"), "{error}");
    }

    #[test]
    fn a_header_that_stands_twice_is_refused() {
        let mut headers = HeaderMap::new();
        headers.append(header::CONTENT_TYPE, "application/json".parse().unwrap());
        headers.append(header::CONTENT_TYPE, "application/json".parse().unwrap());
        assert!(check_content(&headers, BodyKind::Json).is_err());
    }
}
