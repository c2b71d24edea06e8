//! Tokens for clients: made once, replaced by people alone. Pure; randomness comes in.

use std::collections::BTreeMap;

/// Key of the token that may do everything.
pub const ADMIN: &str = "admin";
/// Key of the token that may read.
pub const READ_ONLY: &str = "read-only";
/// What the nodes take, in bytes.
const BYTES: std::ops::RangeInclusive<usize> = 16..=4096;

/// What to do about the Secret with the tokens.
#[derive(Debug, PartialEq, Eq)]
pub enum TokenWork {
    /// It is as it should be.
    Nothing,
    /// These keys are made; what is there stays.
    Make(Vec<&'static str>),
    /// A person has to correct it.
    Wrong(String),
}

/// Decides. `data`: what the Secret holds, if there is one; `is_ours`: whether the operator made it.
pub fn next(data: Option<&BTreeMap<String, Vec<u8>>>, is_ours: bool) -> TokenWork {
    let Some(data) = data else { return TokenWork::Make(vec![ADMIN, READ_ONLY]) };
    let held = |key: &str| data.get(key).map(|bytes| String::from_utf8_lossy(bytes).trim().to_owned());
    for key in [ADMIN, READ_ONLY] {
        if let Some(token) = held(key)
            && !(BYTES.contains(&token.len()) && token.bytes().all(|byte| byte.is_ascii_graphic()))
        {
            let what = if token.is_empty() { "is empty" } else { "is no token" };
            return TokenWork::Wrong(format!(
                "its key {key} {what}: write one line of {} to {} visible ASCII characters, or take the key out",
                BYTES.start(),
                BYTES.end()
            ));
        }
    }
    if held(ADMIN).is_some() && held(ADMIN) == held(READ_ONLY) {
        return TokenWork::Wrong(format!(
            "its keys {ADMIN} and {READ_ONLY} are the same; whoever may only read could write"
        ));
    }
    let missing: Vec<&'static str> = [ADMIN, READ_ONLY].into_iter().filter(|key| held(key).is_none()).collect();
    match (missing.is_empty(), is_ours) {
        (true, _) => TokenWork::Nothing,
        (false, true) => TokenWork::Make(missing),
        // Nodes do without a token for reading.
        (false, false) if missing == [READ_ONLY] => TokenWork::Nothing,
        (false, false) => TokenWork::Wrong(format!(
            "it was not made by this operator, so that it is not touched, and has no key {ADMIN}: add it, or delete the \
             Secret and a new one is made"
        )),
    }
}

/// A token of 256 random bits.
pub fn token(random: [u8; 32]) -> String {
    random.iter().map(|byte| format!("{byte:02x}")).collect()
}
