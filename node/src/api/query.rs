//! Query parameters: known ones, each once; anything else is refused by name, so that a slip is seen.

use super::problem::RequestError;

/// Decoded parameters of one request. `+` is a space, as forms send it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Query(Vec<(&'static str, String)>);

impl Query {
    /// Reads the query of a request that knows the parameters `known`.
    pub fn read(raw: Option<&str>, known: &[&'static str]) -> Result<Self, RequestError> {
        let mut found: Vec<(&'static str, String)> = Vec::new();
        for pair in raw.unwrap_or("").split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let (name, value) = (decode(name)?, decode(value)?);
            let Some(name) = known.iter().find(|known| **known == name) else {
                return Err(unknown(&name, known));
            };
            if found.iter().any(|(other, _)| other == name) {
                return Err(RequestError::MalformedQuery(format!("query parameter {name} stands twice; send it once")));
            }
            found.push((name, value));
        }
        Ok(Self(found))
    }

    /// The text of a parameter.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(known, _)| *known == name).map(|(_, value)| value.as_str())
    }

    /// A number from `min` to `max`.
    pub fn number(&self, name: &str, min: usize, max: usize) -> Result<Option<usize>, RequestError> {
        let Some(text) = self.get(name) else { return Ok(None) };
        let plain = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        match text.parse::<usize>() {
            Ok(number) if plain && (min..=max).contains(&number) => Ok(Some(number)),
            _ => Err(wrong(name, text, &format!("it is a number from {min} to {max}"))),
        }
    }

    /// `true` or `false`; the bare name means `true`.
    pub fn flag(&self, name: &str) -> Result<Option<bool>, RequestError> {
        match self.get(name) {
            None => Ok(None),
            Some("" | "true") => Ok(Some(true)),
            Some("false") => Ok(Some(false)),
            Some(text) => Err(wrong(name, text, "it is true or false")),
        }
    }
}

/// A value that a parameter does not take.
pub fn wrong(name: &str, value: &str, rule: &str) -> RequestError {
    let cut: String = value.chars().take(80).collect();
    RequestError::MalformedQuery(format!("query parameter {name}={cut:?} is not usable: {rule}"))
}

fn unknown(name: &str, known: &[&'static str]) -> RequestError {
    let cut: String = name.chars().take(80).collect();
    let choices = match known {
        [] => "this request takes none".to_owned(),
        known => format!("this request knows {}", known.join(", ")),
    };
    RequestError::MalformedQuery(format!("query parameter {cut:?} is not known; {choices}"))
}

fn decode(raw: &str) -> Result<String, RequestError> {
    let spaced = raw.replace('+', "%20");
    super::paths::decode_segment(&spaced).map_err(|_| {
        let cut: String = raw.chars().take(80).collect();
        RequestError::MalformedQuery(format!("query text {cut:?} is not percent-encoded UTF-8"))
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use super::*;

    const KNOWN: &[&str] = &["limit", "prefix", "follow"];

    #[test]
    fn unknown_and_doubled_parameters_are_refused_by_name() {
        let error = Query::read(Some("limits=1"), KNOWN).expect_err("unknown");
        assert!(
            error.to_string().contains("\"limits\"") && error.to_string().contains("limit, prefix, follow"),
            "{error}"
        );
        assert!(Query::read(Some("limit=1&limit=1"), KNOWN).is_err());
        assert!(Query::read(Some("x"), &[]).is_err());
        assert_eq!(Query::read(Some("&"), &[]), Ok(Query::default()));
        assert_eq!(Query::read(None, KNOWN), Ok(Query::default()));
    }

    #[test]
    fn values_are_decoded_strictly() {
        let read = |raw| Query::read(Some(raw), KNOWN);
        assert_eq!(read("prefix=a%2Fb+%2B%C3%A4").unwrap().get("prefix"), Some("a/b +ä"));
        for bad in ["prefix=%", "prefix=%ZZ", "prefix=%FF"] {
            assert!(read(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn numbers_and_flags_are_bounded() {
        let number = |raw: &str| Query::read(Some(raw), KNOWN).unwrap().number("limit", 1, 1000);
        assert_eq!(number("limit=1000"), Ok(Some(1000)));
        for bad in
            ["limit=0", "limit=1001", "limit=", "limit=-1", "limit=%2B1", "limit=1e2", "limit=99999999999999999999"]
        {
            assert!(number(bad).is_err(), "{bad}");
        }
        let flag = |raw: &str| Query::read(Some(raw), KNOWN).unwrap().flag("follow");
        assert_eq!((flag("follow"), flag("follow=false"), flag("")), (Ok(Some(true)), Ok(Some(false)), Ok(None)));
        assert!(flag("follow=yes").is_err());
    }
}
