//! Reading the fields of a mapping: each reader names the path, the value and what was expected.

use super::fault::{Fault, cut};
use super::suggest::nearest;
use super::yaml::described;
use serde_yaml::{Mapping, Value};
use std::ops::RangeInclusive;

/// A mapping and where it stands.
pub(super) struct Fields<'a> {
    path: String,
    map: Option<&'a Mapping>,
}

impl<'a> Fields<'a> {
    /// The whole document.
    pub(super) fn root(value: &'a Value) -> Self {
        Self { path: String::new(), map: value.as_mapping() }
    }

    /// An entry of a list, if it is a mapping.
    pub(super) fn entry(path: String, value: &'a Value, faults: &mut Vec<Fault>) -> Option<Self> {
        let map = value.as_mapping();
        if map.is_none() {
            faults.push(Fault::new(&path, format!("is {}; write a mapping", described(value))));
        }
        map.map(|map| Self { path, map: Some(map) })
    }

    /// The path of a field here.
    pub(super) fn path(&self, field: &str) -> String {
        if self.path.is_empty() { field.to_owned() } else { format!("{}.{field}", self.path) }
    }

    /// The value of a field; a field that is written and empty counts as empty, not as absent.
    pub(super) fn value(&self, field: &str) -> Option<&'a Value> {
        self.map?.get(field)
    }

    /// Whether the field is written at all.
    pub(super) fn has(&self, field: &str) -> bool {
        self.value(field).is_some()
    }

    /// Refuses every name that is not known, with the one that was probably meant.
    pub(super) fn refuse_unknown(&self, known: &[&str], faults: &mut Vec<Fault>) {
        for key in self.map.into_iter().flat_map(|map| map.keys()) {
            let Value::String(name) = key else {
                faults.push(Fault::new(
                    &self.path,
                    format!("has a field whose name is {}; names are texts", described(key)),
                ));
                continue;
            };
            if known.contains(&name.as_str()) {
                continue;
            }
            let advice = match nearest(name, known) {
                Some(meant) => format!("did you mean {meant}?"),
                None if known.len() > 10 => "remove it".to_owned(),
                None => format!("known here are {}", known.join(", ")),
            };
            let shown: String = name.chars().take(60).collect();
            faults.push(Fault::new(self.path(&shown), format!("is not a known field; {advice}")));
        }
    }

    fn wrong(&self, field: &str, value: &Value, expected: &str, faults: &mut Vec<Fault>) {
        faults.push(Fault::new(self.path(field), format!("is {}; write {expected}", described(value))));
    }

    /// A mapping inside this one.
    pub(super) fn mapping(&self, field: &str, faults: &mut Vec<Fault>) -> Option<Fields<'a>> {
        let value = self.value(field)?;
        let map = value.as_mapping();
        if map.is_none() {
            self.wrong(field, value, "a mapping", faults);
        }
        map.map(|map| Fields { path: self.path(field), map: Some(map) })
    }

    /// A list.
    pub(super) fn list(&self, field: &str, faults: &mut Vec<Fault>) -> Option<&'a Vec<Value>> {
        let value = self.value(field)?;
        let list = value.as_sequence();
        if list.is_none() {
            self.wrong(field, value, "a list, one entry a line that begins with '-'", faults);
        }
        list
    }

    /// A text.
    pub(super) fn text(&self, field: &str, faults: &mut Vec<Fault>) -> Option<&'a str> {
        let value = self.value(field)?;
        let text = value.as_str();
        if text.is_none() {
            self.wrong(field, value, "a text (in quotes if it looks like something else)", faults);
        }
        text
    }

    /// `true` or `false`.
    pub(super) fn truth(&self, field: &str, faults: &mut Vec<Fault>) -> Option<bool> {
        let value = self.value(field)?;
        let truth = value.as_bool();
        if truth.is_none() {
            self.wrong(field, value, "true or false, without quotes", faults);
        }
        truth
    }

    /// A whole number between bounds.
    pub(super) fn number(&self, field: &str, bounds: RangeInclusive<u32>, faults: &mut Vec<Fault>) -> Option<u32> {
        let value = self.value(field)?;
        let (low, high) = (bounds.start(), bounds.end());
        if !value.is_i64() && !value.is_u64() {
            self.wrong(field, value, &format!("a whole number from {low} to {high}, without quotes"), faults);
            return None;
        }
        let number =
            value.as_i64().and_then(|number| u32::try_from(number).ok()).filter(|number| bounds.contains(number));
        if number.is_none() {
            self.wrong(field, value, &format!("a whole number from {low} to {high}"), faults);
        }
        number
    }

    /// One of a few words.
    pub(super) fn choice<T: Copy>(&self, field: &str, choices: &[(&str, T)], faults: &mut Vec<Fault>) -> Option<T> {
        let text = self.text(field, faults)?;
        let found = choices.iter().find(|(word, _)| *word == text).map(|(_, choice)| *choice);
        if found.is_none() {
            let words: Vec<&str> = choices.iter().map(|(word, _)| *word).collect();
            faults.push(Fault::new(self.path(field), format!("is {}; write {}", cut(text), words.join(" or "))));
        }
        found
    }

    /// A number or a word, as text.
    pub(super) fn number_or_word(&self, field: &str, expected: &str, faults: &mut Vec<Fault>) -> Option<String> {
        match self.value(field)? {
            Value::String(word) => Some(word.clone()),
            Value::Number(number) => Some(number.to_string()),
            other => {
                self.wrong(field, other, expected, faults);
                None
            }
        }
    }
}
