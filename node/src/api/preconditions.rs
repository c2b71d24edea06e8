//! Entity tags and preconditions (RFC 9110, sections 8.8.3 and 13).
//!
//! The tag of a document is `"<version>-<stamp>"`, always strong.

use super::problem::RequestError;
use coequal_protocol::Ballot;
use coequal_protocol::message::Condition;
use http::header::{IF_MATCH, IF_NONE_MATCH};
use http::{HeaderMap, HeaderName};

/// The entity tag of a revision.
pub fn etag(version: u64, stamp: Ballot) -> String {
    format!("\"{version}-{stamp}\"")
}

/// One tag of a list: its text between the quotes, and whether it is weak.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Tag {
    opaque: String,
    weak: bool,
}

impl Tag {
    /// The version and stamp that the tag names; none for weak tags (they never match here) and for tags of others.
    fn revision(&self) -> Option<(u64, Ballot)> {
        let (version, stamp) = self.opaque.split_once('-')?;
        let number = version.parse::<u64>().ok().filter(|number| number.to_string() == version && !self.weak)?;
        Some((number, stamp.parse().ok()?))
    }
}

/// Value of `If-Match` or `If-None-Match`.
#[derive(Debug, Clone, PartialEq, Eq)]
enum TagList {
    /// `*`
    Any,
    /// One or several tags.
    Tags(Vec<Tag>),
}

impl TagList {
    fn matches(&self, current: &str, weakly: bool) -> bool {
        match self {
            Self::Any => true,
            Self::Tags(tags) => tags.iter().any(|tag| (weakly || !tag.weak) && current.trim_matches('"') == tag.opaque),
        }
    }
}

fn read(headers: &HeaderMap, name: &HeaderName) -> Result<Option<TagList>, RequestError> {
    let mut texts = Vec::new();
    for value in headers.get_all(name) {
        let text = value.to_str().map_err(|_| {
            RequestError::MalformedHeader(format!("{name} contains bytes that no entity tag of this node has"))
        })?;
        texts.push(text);
    }
    if texts.is_empty() {
        return Ok(None);
    }
    parse(&texts.join(",")).map(Some).ok_or_else(|| {
        let cut: String = texts.join(",").chars().take(80).collect();
        RequestError::MalformedHeader(format!(
            "{name} {cut:?} is neither * nor a list of entity tags in quotes, like the ETag of an answer"
        ))
    })
}

fn parse(text: &str) -> Option<TagList> {
    let mut rest = text.trim();
    if rest == "*" {
        return Some(TagList::Any);
    }
    let mut tags = Vec::new();
    while !rest.is_empty() {
        let (weak, quoted) = match rest.strip_prefix("W/") {
            Some(quoted) => (true, quoted),
            None => (false, rest),
        };
        let (opaque, after) = quoted.strip_prefix('"')?.split_once('"')?;
        opaque.bytes().all(|byte| byte > b' ' && byte != 0x7f).then_some(())?;
        tags.push(Tag { opaque: opaque.to_owned(), weak });
        rest = after.trim_start();
        if !rest.is_empty() {
            rest = rest.strip_prefix(',')?.trim_start();
        }
    }
    (!tags.is_empty()).then_some(TagList::Tags(tags))
}

fn read_both(headers: &HeaderMap) -> Result<(Option<TagList>, Option<TagList>), RequestError> {
    let both = (read(headers, &IF_MATCH)?, read(headers, &IF_NONE_MATCH)?);
    if both.0.is_some() && both.1.is_some() {
        return Err(RequestError::MalformedHeader(
            "If-Match and If-None-Match contradict each other here; send one of them".to_owned(),
        ));
    }
    Ok(both)
}

/// The condition of a write.
pub fn write_condition(headers: &HeaderMap) -> Result<Condition, RequestError> {
    match read_both(headers)? {
        (None, None) => Ok(Condition::Any),
        (Some(list), _) => match_condition(&list),
        (None, Some(TagList::Any)) => Ok(Condition::Absent),
        (None, Some(TagList::Tags(_))) => Err(RequestError::MalformedHeader(
            "If-None-Match with entity tags is for reads; on a write send If-None-Match: * (must not exist) or If-Match"
                .to_owned(),
        )),
    }
}

/// The condition that `ifMatch` of a batch line says: an entity tag or `*`.
pub fn line_condition(text: &str) -> Result<Condition, RequestError> {
    let wrong = || {
        let cut: String = text.chars().take(80).collect();
        RequestError::MalformedBody(format!("ifMatch {cut:?} is neither an entity tag in quotes, nor *, nor a version"))
    };
    match_condition(&parse(text).ok_or_else(wrong)?)
}

fn match_condition(list: &TagList) -> Result<Condition, RequestError> {
    match list {
        TagList::Any => Ok(Condition::Present),
        // A tag that no revision here can have matches nothing: no revision has the stamp NONE.
        TagList::Tags(tags) => match tags.as_slice() {
            [tag] => {
                let (version, stamp) = tag.revision().unwrap_or((0, Ballot::NONE));
                Ok(Condition::Revision { version, stamp })
            }
            several => Err(RequestError::MalformedHeader(format!(
                "If-Match names {} entity tags; a write takes one, that of the revision it was made from",
                several.len()
            ))),
        },
    }
}

/// What the preconditions of a read say about the revision that was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReadAnswer {
    /// Send it.
    Send,
    /// 304: the client has it.
    NotModified,
    /// 412: it is another one.
    Failed,
}

/// The preconditions of a read; malformed ones are refused before anything is read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReadCondition {
    must: Option<TagList>,
    must_not: Option<TagList>,
}

impl ReadCondition {
    /// From the headers of a request.
    pub fn of(headers: &HeaderMap) -> Result<Self, RequestError> {
        let (must, must_not) = read_both(headers)?;
        Ok(Self { must, must_not })
    }

    /// Compares with the tag of what was read.
    pub fn check(&self, current: &str) -> ReadAnswer {
        if self.must.as_ref().is_some_and(|list| !list.matches(current, false)) {
            ReadAnswer::Failed
        } else if self.must_not.as_ref().is_some_and(|list| list.matches(current, true)) {
            ReadAnswer::NotModified
        } else {
            ReadAnswer::Send
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use super::*;
    use coequal_types::NodeId;

    fn headers(pairs: &[(HeaderName, &str)]) -> HeaderMap {
        pairs.iter().map(|(name, value)| (name.clone(), value.parse().unwrap())).collect()
    }
    fn stamp() -> Ballot {
        Ballot::ordinary(0x1234, NodeId(7), 2)
    }

    #[test]
    fn a_tag_that_was_sent_comes_back_as_the_condition() {
        let tag = etag(3, stamp());
        assert_eq!(
            write_condition(&headers(&[(IF_MATCH, &tag)])),
            Ok(Condition::Revision { version: 3, stamp: stamp() })
        );
        assert_eq!(write_condition(&headers(&[(IF_MATCH, "*")])), Ok(Condition::Present));
        assert_eq!(write_condition(&headers(&[(IF_NONE_MATCH, "*")])), Ok(Condition::Absent));
        assert_eq!(write_condition(&headers(&[])), Ok(Condition::Any));
    }

    #[test]
    fn weak_tags_and_tags_of_others_match_no_revision() {
        for tag in [format!("W/{}", etag(3, stamp())), "\"abc\"".into(), "\"03-x\"".into(), "\"\"".into()] {
            let condition = write_condition(&headers(&[(IF_MATCH, &tag)]));
            assert_eq!(condition, Ok(Condition::Revision { version: 0, stamp: Ballot::NONE }), "{tag}");
        }
    }

    #[test]
    fn several_tags_on_a_write_and_contradictions_are_refused() {
        let tag = etag(3, stamp());
        for pairs in [
            vec![(IF_MATCH, format!("{tag}, {tag}"))],
            vec![(IF_MATCH, tag.clone()), (IF_NONE_MATCH, "*".into())],
            vec![(IF_NONE_MATCH, tag.clone())],
            vec![(IF_MATCH, "3".into())],
            vec![(IF_MATCH, "\"3".into())],
            vec![(IF_MATCH, String::new())],
            vec![(IF_MATCH, format!("{tag} {tag}"))],
        ] {
            let map: HeaderMap = pairs.iter().map(|(n, v)| (n.clone(), v.parse().unwrap())).collect();
            assert!(matches!(write_condition(&map), Err(RequestError::MalformedHeader(_))), "{pairs:?}");
        }
    }

    #[test]
    fn reads_compare_lists_of_tags() {
        let tag = etag(3, stamp());
        let check = |name, value: &str| ReadCondition::of(&headers(&[(name, value)])).unwrap().check(&tag);
        assert_eq!(check(IF_NONE_MATCH, &format!("\"x\", {tag}")), ReadAnswer::NotModified);
        assert_eq!(check(IF_NONE_MATCH, &format!("W/{tag}")), ReadAnswer::NotModified);
        assert_eq!(check(IF_NONE_MATCH, "*"), ReadAnswer::NotModified);
        assert_eq!(check(IF_NONE_MATCH, "\"x\""), ReadAnswer::Send);
        assert_eq!(check(IF_MATCH, &tag), ReadAnswer::Send);
        assert_eq!(check(IF_MATCH, "\"x\""), ReadAnswer::Failed);
        assert_eq!(check(IF_MATCH, &format!("W/{tag}")), ReadAnswer::Failed);
    }
}
