//! The next step with certificates: one decision over what the Secrets hold and what the nodes show. Pure.
//!
//! ```text
//! no authority ─► MakeAuthority ─► Issue ─► (at 2/3 of its life) Issue ─► …
//! authority at 2/3 of its life, or asked for: MakeAuthority (the old one stays trusted)
//!   ─► Trust (nodes and clients trust both) ─► every node does, and clients had a week ─► Issue by the new one
//!   ─► every node shows it ─► DropPrevious
//! ```
//!
//! Every state follows from the Secrets, so that a crash between two steps changes nothing.

use k8s_openapi::jiff::{SignedDuration, Timestamp};

/// How long both authorities are trusted before the new one signs, unless a person is in a hurry: clients that keep a
/// copy of the ConfigMap have so long to take the new one.
pub const OVERLAP: SignedDuration = SignedDuration::from_hours(7 * 24);
/// A certificate that ends this soon does not wait for the overlap.
const HURRY: SignedDuration = SignedDuration::from_hours(10 * 24);

/// From when to when.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Validity {
    /// First moment.
    pub from: Timestamp,
    /// Last moment.
    pub until: Timestamp,
}

impl Validity {
    /// When it is renewed: a third of its life is left for whatever goes wrong.
    pub fn renewal(self) -> Timestamp {
        let third = (self.until.as_second() - self.from.as_second()) / 3;
        Timestamp::from_second(self.until.as_second() - third).unwrap_or(self.until)
    }

    /// Whether it is over.
    pub fn is_over(self, now: Timestamp) -> bool {
        now >= self.until
    }
}

/// What a Secret of the operator's own holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Held<T> {
    /// There is no such Secret.
    Absent,
    /// It does not hold what it should, and this is what is wrong.
    Broken(String),
    /// It is as it should be.
    Good(T),
}

/// The authority, as far as the decision goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuthorityFacts {
    /// Its life.
    pub validity: Validity,
    /// Whether earlier ones are trusted too: a rotation is under way.
    pub has_previous: bool,
    /// Whether it was made for another reason than its predecessor's age: nobody waits then.
    pub is_urgent: bool,
    /// What a person wrote when it was made.
    pub renewed: Option<String>,
}

/// The nodes' certificate, as far as the decision goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeafFacts {
    /// Its life.
    pub validity: Validity,
    /// Whether the authority of now signed it, not an earlier one.
    pub is_of_active: bool,
    /// Whether it is for every name that it should be for.
    pub has_all_names: bool,
    /// Whether those beside it are trusted whom the authority's Secret names.
    pub trusts_all: bool,
    /// What a person wrote when it was made.
    pub renewed: Option<String>,
}

/// What the nodes that run show; asked only while two authorities are trusted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct NodeFacts {
    /// All of them accept the authority of now.
    pub trust_active: bool,
    /// All of them show a certificate of it.
    pub show_active: bool,
}

/// Everything that the decision looks at.
#[derive(Debug, Clone)]
pub struct Facts<'a> {
    /// The time.
    pub now: Timestamp,
    /// The authority.
    pub authority: &'a Held<AuthorityFacts>,
    /// The nodes' certificate.
    pub leaf: &'a Held<LeafFacts>,
    /// The nodes.
    pub nodes: NodeFacts,
    /// Text by which a person asks for a new certificate.
    pub renew_leaf: Option<&'a str>,
    /// Text by which a person asks for a new authority.
    pub renew_authority: Option<&'a str>,
}

/// Why something is made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Why {
    /// There was none.
    Missing,
    /// What was there is of no use.
    Broken(String),
    /// It is over.
    Expired,
    /// Two thirds of its life are over.
    Age,
    /// A person asked.
    Asked,
    /// It is not for every name.
    Names,
    /// The authority is another one now.
    NewAuthority,
}

/// The next step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Work {
    /// A new authority; those trusted before stay trusted.
    MakeAuthority(Why),
    /// A new certificate for the nodes.
    Issue(Why),
    /// The nodes are told whom to trust; their certificate stays.
    Trust,
    /// Earlier authorities are not needed any more.
    DropPrevious,
    /// Nothing now; this is waited for.
    Wait(&'static str),
    /// All is as it should be.
    Nothing,
}

/// Decides.
pub fn next(facts: &Facts<'_>) -> Work {
    let authority = match facts.authority {
        Held::Absent => return Work::MakeAuthority(Why::Missing),
        Held::Broken(wrong) => return Work::MakeAuthority(Why::Broken(wrong.clone())),
        Held::Good(authority) => authority,
    };
    // One rotation at a time: of two that overlap the first would be forgotten too early.
    if let Some(why) = new_authority(facts, authority) {
        return Work::MakeAuthority(why);
    }
    let leaf = match facts.leaf {
        Held::Absent => return Work::Issue(Why::Missing),
        Held::Broken(wrong) => return Work::Issue(Why::Broken(wrong.clone())),
        Held::Good(leaf) => leaf,
    };
    if !leaf.trusts_all {
        return Work::Trust;
    }
    if leaf.validity.is_over(facts.now) {
        return Work::Issue(Why::Expired);
    }
    if !leaf.is_of_active {
        return by_the_new_authority(facts, authority, leaf);
    }
    if !leaf.has_all_names {
        return Work::Issue(Why::Names);
    }
    if facts.renew_leaf.is_some() && facts.renew_leaf != leaf.renewed.as_deref() {
        return Work::Issue(Why::Asked);
    }
    if facts.now >= leaf.validity.renewal() {
        return Work::Issue(Why::Age);
    }
    match (authority.has_previous, facts.nodes.show_active) {
        (false, _) => Work::Nothing,
        (true, true) => Work::DropPrevious,
        (true, false) => Work::Wait("every node to show a certificate of the new authority"),
    }
}

fn new_authority(facts: &Facts<'_>, authority: &AuthorityFacts) -> Option<Why> {
    if authority.validity.is_over(facts.now) {
        return Some(Why::Expired);
    }
    if authority.has_previous {
        return None;
    }
    if facts.renew_authority.is_some() && facts.renew_authority != authority.renewed.as_deref() {
        return Some(Why::Asked);
    }
    (facts.now >= authority.validity.renewal()).then_some(Why::Age)
}

fn by_the_new_authority(facts: &Facts<'_>, authority: &AuthorityFacts, leaf: &LeafFacts) -> Work {
    let had_their_time = facts.now.duration_since(authority.validity.from) >= OVERLAP;
    let ends_soon = leaf.validity.until.duration_since(facts.now) < HURRY;
    if !(authority.is_urgent || had_their_time || ends_soon) {
        return Work::Wait("clients to take the new authority, for a week");
    }
    match facts.nodes.trust_active {
        true => Work::Issue(Why::NewAuthority),
        false => Work::Wait("every node to trust the new authority"),
    }
}

impl Why {
    /// In words, for an Event.
    pub fn words(&self) -> String {
        match self {
            Self::Missing => "there was none".to_owned(),
            Self::Broken(wrong) => format!("what was there is of no use: {wrong}"),
            Self::Expired => "the last one has expired".to_owned(),
            Self::Age => "two thirds of its life are over".to_owned(),
            Self::Asked => "as asked for".to_owned(),
            Self::Names => "it is not for every name that nodes have".to_owned(),
            Self::NewAuthority => "every node trusts the new authority".to_owned(),
        }
    }

    /// In a word, as it stands in the Secret.
    pub fn word(&self) -> &'static str {
        match self {
            Self::Missing => "missing",
            Self::Broken(_) => "broken",
            Self::Expired => "expired",
            Self::Age => "age",
            Self::Asked => "asked",
            Self::Names => "names",
            Self::NewAuthority => "new-authority",
        }
    }
}
