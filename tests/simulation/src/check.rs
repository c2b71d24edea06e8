//! The judge: whether what clients were told can have come from one database that does one thing after the other.
//!
//! Each document has one history of versions, each with a stamp. A write stands where its version begins, a read or a
//! refusal behind the version that it saw. So there is one order to be held against real time, and no search is needed:
//! what ended before something else began must not stand behind it. Where a tombstone was collected the versions begin
//! again in a next generation; "version" here is the state's place, generation first.

use crate::generations::{Versions, absences, generation, place_of, version};
use crate::history::{Answer, Call, Record, Violation};
use crate::watch::Watch;
use coequal_protocol::message::{Condition, Rejection};
use coequal_protocol::{Ballot, Key, RequestId};
use std::collections::BTreeMap;

/// Versions between a write and its retry for which the retry is promised to find it.
const RETRIES_FOUND_WITHIN: u64 = 16;

/// Judges everything that clients were told, against the revisions that were seen chosen.
pub fn judge(records: &[Record], watch: &Watch) -> Result<(), Violation> {
    let mut by_key: BTreeMap<&Key, Vec<usize>> = BTreeMap::new();
    for (number, record) in records.iter().enumerate() {
        by_key.entry(&record.key).or_default().push(number);
    }
    let none = Versions::new();
    for (key, numbers) in by_key {
        let versions = watch.chosen.get(key).unwrap_or(&none);
        let absences = absences(versions, watch.collected);
        let document = Document { key, records, numbers, versions, absences };
        document.judge()?;
    }
    judge_sessions(records, watch)
}

struct Document<'a> {
    key: &'a Key,
    records: &'a [Record],
    numbers: Vec<usize>,
    versions: &'a Versions,
    /// Places at which nothing is known of the document.
    absences: Vec<u64>,
}

/// Where a call stands among the versions: 2v for the write of version v, 2v + 1 for who saw it.
struct Placed {
    number: usize,
    began_us: u64,
    ended_us: u64,
    position: u64,
}

impl Document<'_> {
    fn judge(&self) -> Result<(), Violation> {
        self.versions_are_whole()?;
        self.answers_are_true()?;
        self.nothing_comes_twice()?;
        self.order_is_real(&self.placed())?;
        self.refusals_of_the_absent(&self.placed())
    }

    fn broken(&self, rule: &'static str, number: usize, text: &str) -> Result<(), Violation> {
        let record = &self.records[number];
        Err(Violation::new(rule, format!("{:?}, call {number}: {text}; {record:?}", self.key)))
    }

    /// No version between the first and the last is unknown.
    fn versions_are_whole(&self) -> Result<(), Violation> {
        let mut expected = 1;
        for version in self.versions.keys() {
            let begins = generation(*version) > generation(expected) && self::version(*version) == 1;
            // A document remembers its last writes only; what came before may never have been seen by itself.
            if *version != expected && expected != 1 && !begins {
                let text = format!("{:?}: version {expected} is missing before {version}", self.key);
                return Err(Violation::new("versions count up by one", text));
            }
            expected = version + 1;
        }
        Ok(())
    }

    fn answers_are_true(&self) -> Result<(), Violation> {
        let rule = "every answer is about a chosen state";
        for number in &self.numbers {
            let (told, condition) = match self.records[*number].answer() {
                Some(Answer::Written { version, stamp, .. }) => (Some((*version, *stamp)), None),
                Some(Answer::Found(Some(held))) => (Some((held.revision.version, held.revision.stamp)), None),
                Some(Answer::Rejected(Rejection::Exists { version, stamp })) => (Some((*version, *stamp)), None),
                Some(Answer::Rejected(Rejection::PreconditionFailed { current: Some(current) })) => {
                    (Some(*current), Some(current.to_owned()))
                }
                _ => (None, None),
            };
            let Some((version, stamp)) = told else { continue };
            match self.versions.get(&version) {
                _ if place_of(self.versions, version, stamp).is_some() => {}
                Some(chosen) => {
                    return self.broken(rule, *number, &format!("version {version} has the stamp {}", chosen.stamp));
                }
                None => return self.broken(rule, *number, &format!("version {version} was never chosen")),
            }
            if let Some(current) = condition
                && self.holds(*number, current)
            {
                return self.broken(rule, *number, "the precondition holds of the state that refuses it");
            }
        }
        Ok(())
    }

    /// Whether a write's precondition holds of an existing document at this version.
    fn holds(&self, number: usize, (version, stamp): (u64, Ballot)) -> bool {
        let Call::Write { operation, .. } = &self.records[number].call else { return false };
        match operation.condition {
            Condition::Any | Condition::Present => true,
            Condition::Absent => false,
            Condition::Stamp(wanted) => wanted == stamp,
            Condition::Revision { version: wanted, stamp: named } => (wanted, named) == (version, stamp),
            Condition::Version(wanted) => wanted == version,
        }
    }

    fn place(&self, version: u64, stamp: Ballot) -> u64 {
        place_of(self.versions, version, stamp).unwrap_or(version)
    }

    /// The last version that each request made in each generation: a tombstone that is collected takes the requests'
    /// ids with it.
    fn requests(&self) -> Result<BTreeMap<u128, BTreeMap<u64, u64>>, Violation> {
        let mut of_request: BTreeMap<u128, BTreeMap<u64, u64>> = BTreeMap::new();
        for (version, chosen) in self.versions {
            let Some(RequestId(request)) = chosen.request else { continue };
            let before = of_request.entry(request).or_default().insert(generation(*version), *version);
            if let Some(before) = before.filter(|before| version - before <= RETRIES_FOUND_WITHIN) {
                let text = format!("{:?}: request {request} made version {before} and {version}", self.key);
                return Err(Violation::new("a request is carried out once", text));
            }
        }
        Ok(of_request)
    }

    /// Exactly once: no two versions come from one request, no version from two, and what was called not done was not.
    fn nothing_comes_twice(&self) -> Result<(), Violation> {
        let of_request = self.requests()?;
        let mut of_version: BTreeMap<u64, usize> = BTreeMap::new();
        let mut done: BTreeMap<usize, bool> = BTreeMap::new();
        for number in &self.numbers {
            let record = &self.records[*number];
            let Call::Write { operation, .. } = &record.call else { continue };
            let first = record.first(*number);
            let written = match record.answer() {
                Some(Answer::Written { version, stamp, .. }) => Some(self.place(*version, *stamp)),
                _ => None,
            };
            if let Some(version) = written
                && *of_version.entry(version).or_insert(first) != first
            {
                return self.broken("a version comes from one write", *number, "another call was told so too");
            }
            let certainly_not = matches!(record.answer(), Some(Answer::NotDone(_) | Answer::Rejected(_)));
            *done.entry(first).or_insert(false) |= !certainly_not;
            let Some((RequestId(request), _)) = operation.request else { continue };
            if let (Some(version), Some(made)) = (written, of_request.get(&request))
                && made.values().all(|made| *made != version)
            {
                return self.broken("a retry gets the first answer", *number, &format!("it made {made:?}"));
            }
        }
        for (first, may_be_done) in done {
            let Call::Write { operation, .. } = &self.records[first].call else { continue };
            let Some((RequestId(request), _)) = operation.request else { continue };
            if !may_be_done && of_request.contains_key(&request) {
                return self.broken("what was called not done was not done", first, "it was chosen");
            }
        }
        Ok(())
    }

    fn placed(&self) -> Vec<Placed> {
        let mut placed = self.placed_by_state();
        if self.absences.len() > 1 {
            let unplaced = self.numbers.iter().filter(|number| self.finds_nothing(**number));
            let reads: Vec<Placed> = unplaced.filter_map(|number| self.placed_in_absence(*number, &placed)).collect();
            placed.extend(reads);
        }
        placed
    }

    fn finds_nothing(&self, number: usize) -> bool {
        matches!(self.records[number].call, Call::Read)
            && matches!(self.records[number].answer(), Some(Answer::Found(None)))
    }

    /// A read that found nothing, where that was so several times: the first time that does not contradict what ended
    /// before it.
    fn placed_in_absence(&self, number: usize, placed: &[Placed]) -> Option<Placed> {
        let record = &self.records[number];
        let (ended_us, _) = record.ended.as_ref()?;
        let before = placed.iter().filter(|call| call.ended_us < record.began_us).map(|call| call.position);
        let lowest = before.max().unwrap_or(0);
        let position = self.absences.iter().map(|version| 2 * version + 1).find(|position| *position >= lowest);
        // None fits: it stands where it contradicts.
        let position = position.unwrap_or(1);
        Some(Placed { number, began_us: record.began_us, ended_us: *ended_us, position })
    }

    fn placed_by_state(&self) -> Vec<Placed> {
        let mut placed: BTreeMap<usize, Placed> = BTreeMap::new();
        for number in &self.numbers {
            let record = &self.records[*number];
            let Some((ended_us, answer)) = &record.ended else { continue };
            let position = match answer {
                Answer::Written { version, stamp, .. } => 2 * self.place(*version, *stamp),
                Answer::Found(None) if self.absences.len() > 1 => continue,
                Answer::Found(found) if !matches!(record.call, Call::LocalRead { .. }) => {
                    2 * found.as_ref().map_or(0, |held| self.place(held.revision.version, held.revision.stamp)) + 1
                }
                Answer::Rejected(
                    Rejection::Exists { version, stamp }
                    | Rejection::PreconditionFailed { current: Some((version, stamp)) },
                ) => 2 * self.place(*version, *stamp) + 1,
                _ => continue,
            };
            // A write and its retries are one: it lasts from the first call to the first answer.
            let is_write = matches!(answer, Answer::Written { .. });
            let first = if is_write { record.first(*number) } else { *number };
            let began_us = self.records[first].began_us;
            let fresh = Placed { number: *number, began_us, ended_us: *ended_us, position };
            let slot = placed.entry(first).or_insert(fresh);
            slot.ended_us = slot.ended_us.min(*ended_us);
        }
        placed.into_values().collect()
    }

    fn order_is_real(&self, placed: &[Placed]) -> Result<(), Violation> {
        let mut by_end: Vec<&Placed> = placed.iter().collect();
        by_end.sort_by_key(|call| call.ended_us);
        let mut by_begin: Vec<&Placed> = placed.iter().collect();
        by_begin.sort_by_key(|call| call.began_us);
        let (mut ended, mut furthest) = (0, None::<&Placed>);
        for call in by_begin {
            while by_end.get(ended).is_some_and(|other| other.ended_us < call.began_us) {
                if furthest.is_none_or(|known| by_end[ended].position > known.position) {
                    furthest = Some(by_end[ended]);
                }
                ended += 1;
            }
            if let Some(before) = furthest.filter(|before| before.position > call.position) {
                let text = format!(
                    "it stands behind call {}, which had ended: {:?}",
                    before.number, self.records[before.number]
                );
                return self.broken("one order that agrees with real time", call.number, &text);
            }
        }
        Ok(())
    }

    /// "There is no document" must have been true at some moment of the call.
    fn refusals_of_the_absent(&self, placed: &[Placed]) -> Result<(), Violation> {
        for number in &self.numbers {
            let record = &self.records[*number];
            let Some((ended_us, answer)) = &record.ended else { continue };
            let absent = matches!(
                answer,
                Answer::Rejected(Rejection::NotFound | Rejection::PreconditionFailed { current: None })
            );
            if !absent {
                continue;
            }
            let before = placed.iter().filter(|call| call.ended_us < record.began_us).map(|call| call.position);
            let lowest = before.max().unwrap_or(0);
            let after = placed.iter().filter(|call| call.began_us > *ended_us).map(|call| call.position);
            let highest = after.min().unwrap_or(u64::MAX);
            let is_absent = |version: u64| match self.versions.get(&version) {
                None => self.absences.contains(&version),
                // A version that was only seen in a history may have been a tombstone.
                Some(chosen) => chosen.revision.as_ref().is_none_or(|revision| revision.is_tombstone()),
            };
            let fits = |version: &u64| 2 * version + 1 >= lowest && 2 * version < highest && is_absent(*version);
            let mut states = self.absences.iter().chain(self.versions.keys()).copied();
            if !states.any(|version| fits(&version)) {
                let text = format!("there was a document all the while (positions {lowest} to {highest})");
                return self.broken("a refusal is true at some moment of the call", *number, &text);
            }
        }
        Ok(())
    }
}

/// G3: who shows a token reads what it has written, and never goes back.
fn judge_sessions(records: &[Record], watch: &Watch) -> Result<(), Violation> {
    let mut seen: BTreeMap<(usize, &Key), u64> = BTreeMap::new();
    let none = Versions::new();
    for (number, record) in records.iter().enumerate() {
        let before = seen.entry((record.client, &record.key)).or_default();
        let reads = matches!(record.call, Call::Read | Call::LocalRead { token: Some(_) });
        let version = match record.answer() {
            Some(Answer::Written { version, stamp, .. }) => watch.place_of(&record.key, *version, *stamp),
            Some(Answer::Found(Some(held))) => watch.place_of_held(&record.key, Some(held)),
            // Nothing there: the first time that this was so behind what the client has seen.
            Some(Answer::Found(None)) => {
                let absences = absences(watch.chosen.get(&record.key).unwrap_or(&none), watch.collected);
                absences.into_iter().find(|version| reads && version >= before).unwrap_or(0)
            }
            _ => continue,
        };
        if reads && version < *before {
            let text = format!("call {number} shows version {version} to a client that has seen {before}: {record:?}");
            return Err(Violation::new("G3: a session never goes back", text));
        }
        *before = (*before).max(version);
    }
    Ok(())
}

/// Where a document's last state must stand at least: the place of the newest that was acknowledged.
pub fn newest_acknowledged(records: &[Record], watch: &Watch, key: &Key) -> u64 {
    let written = |record: &Record| match record.answer() {
        Some(Answer::Written { version, stamp, .. }) if record.key == *key => {
            Some(watch.place_of(key, *version, *stamp))
        }
        _ => None,
    };
    records.iter().filter_map(written).max().unwrap_or(0)
}
