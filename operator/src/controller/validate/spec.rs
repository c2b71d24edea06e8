//! The rules of `spec`, the same as in the schema.

use super::fault::{Fault, cut};
use super::fields::Fields;
use super::{ValidatedDatabase, ValidatedDatabaseCluster, ValidatedStorage, pod, quantity};
use crate::crd::{RetentionPolicy, VolumeRetention, bounds};
use coequal_types::{DatabaseName, DatabaseSettings, ReadQuorum, WriteQuorum};
use std::collections::BTreeMap;

const SPEC_FIELDS: &[&str] = &[
    "replicas",
    "databases",
    "unreachableGracePeriodSeconds",
    "storage",
    "persistentVolumeClaimRetentionPolicy",
    "image",
    "resources",
];
const DATABASE_FIELDS: &[&str] = &["name", "autoDeploy", "hotAlignment", "writeQuorum", "readQuorum"];

/// The whole spec; `None` (with faults) if something is missing that nothing can stand in for.
pub(super) fn cluster(
    spec: &Fields<'_>,
    name: Option<&str>,
    faults: &mut Vec<Fault>,
) -> Option<ValidatedDatabaseCluster> {
    spec.refuse_unknown(SPEC_FIELDS, faults);
    let replicas = match spec.has("replicas") {
        true => spec.number("replicas", 0..=bounds::REPLICAS_MAX, faults),
        false => Some(bounds::REPLICAS_DEFAULT),
    };
    let databases = databases(spec, name, replicas, faults);
    let grace =
        spec.number("unreachableGracePeriodSeconds", bounds::GRACE_SECONDS_MIN..=bounds::GRACE_SECONDS_MAX, faults);
    let storage = storage(spec, faults);
    let retention = retention(spec, faults);
    let image = pod::image(spec, faults);
    let resources = pod::resources(spec, faults);
    let mut databases = databases?;
    if let Some(grace) = grace {
        for database in &mut databases {
            database.settings.unreachable_grace_period_seconds = grace;
        }
    }
    let (name, replicas) = (name?.to_owned(), replicas?);
    Some(ValidatedDatabaseCluster { name, replicas, databases, storage, retention, image, resources })
}

fn databases(
    spec: &Fields<'_>,
    name: Option<&str>,
    replicas: Option<u32>,
    faults: &mut Vec<Fault>,
) -> Option<Vec<ValidatedDatabase>> {
    if !spec.has("databases") {
        let name: DatabaseName = name?.parse().ok()?;
        return Some(vec![ValidatedDatabase { name, settings: DatabaseSettings::default() }]);
    }
    let list = spec.list("databases", faults)?;
    let most = bounds::DATABASES_MAX;
    if list.is_empty() {
        let advice =
            "is an empty list; name at least one database, or leave the field out for one named like the resource";
        faults.push(Fault::new("spec.databases", advice));
        return None;
    }
    if list.len() > most {
        faults.push(Fault::new("spec.databases", format!("has {} entries; at most {most} are possible", list.len())));
        return None;
    }
    let mut first_at: BTreeMap<DatabaseName, usize> = BTreeMap::new();
    let mut found = Vec::with_capacity(list.len());
    for (index, value) in list.iter().enumerate() {
        let path = format!("spec.databases[{index}]");
        let Some(database) =
            Fields::entry(path.clone(), value, faults).and_then(|entry| database(&entry, replicas, faults))
        else {
            continue;
        };
        if let Some(first) = first_at.get(&database.name) {
            let message = format!(
                "{:?} is already the name of spec.databases[{first}]; give each database a name of its own",
                database.name.as_str()
            );
            faults.push(Fault::new(format!("{path}.name"), message));
        } else {
            first_at.insert(database.name.clone(), index);
        }
        found.push(database);
    }
    Some(found)
}

fn database(entry: &Fields<'_>, replicas: Option<u32>, faults: &mut Vec<Fault>) -> Option<ValidatedDatabase> {
    entry.refuse_unknown(DATABASE_FIELDS, faults);
    let defaults = DatabaseSettings::default();
    let name = match entry.has("name") {
        true => entry.text("name", faults).and_then(|text| {
            text.parse::<DatabaseName>()
                .map_err(|error| faults.push(Fault::new(entry.path("name"), error.to_string())))
                .ok()
        }),
        false => {
            faults.push(Fault::new(entry.path("name"), "is missing; every database has a name"));
            None
        }
    };
    let settings = DatabaseSettings {
        auto_deploy: entry.truth("autoDeploy", faults).unwrap_or(defaults.auto_deploy),
        hot_alignment: entry.truth("hotAlignment", faults).unwrap_or(defaults.hot_alignment),
        write_quorum: write_quorum(entry, replicas, faults).unwrap_or(defaults.write_quorum),
        read_quorum: read_quorum(entry, faults).unwrap_or(defaults.read_quorum),
        unreachable_grace_period_seconds: defaults.unreachable_grace_period_seconds,
    };
    name.map(|name| ValidatedDatabase { name, settings })
}

fn write_quorum(entry: &Fields<'_>, replicas: Option<u32>, faults: &mut Vec<Fault>) -> Option<WriteQuorum> {
    let text = entry.number_or_word("writeQuorum", "majority, all, or a number that is at least a majority", faults)?;
    let checked = WriteQuorum::parse(&text).and_then(|quorum| match replicas {
        // A hibernated cluster keeps its settings for the day it wakes; then they are checked.
        None | Some(0) => Ok(quorum),
        Some(replicas) => quorum.check(replicas).map(|()| quorum),
    });
    checked.map_err(|error| faults.push(Fault::new(entry.path("writeQuorum"), error.to_string()))).ok()
}

fn read_quorum(entry: &Fields<'_>, faults: &mut Vec<Fault>) -> Option<ReadQuorum> {
    let text = entry.number_or_word("readQuorum", "1 or majority", faults)?;
    ReadQuorum::parse(&text).map_err(|error| faults.push(Fault::new(entry.path("readQuorum"), error.to_string()))).ok()
}

fn storage(spec: &Fields<'_>, faults: &mut Vec<Fault>) -> ValidatedStorage {
    let mut storage = ValidatedStorage { size: bounds::SIZE_DEFAULT.to_owned(), storage_class_name: None };
    let Some(fields) = spec.mapping("storage", faults) else { return storage };
    fields.refuse_unknown(&["size", "storageClassName"], faults);
    if let Some(size) = fields.text("size", faults) {
        if let Some(wrong) = quantity::fault(size) {
            let advice = match wrong {
                quantity::NOTHING => "write a size above 0, such as 10Gi",
                _ => "write a number with k, M, G, T, P, E or Ki, Mi, Gi, Ti, Pi, Ei, such as 10Gi",
            };
            faults.push(Fault::new(fields.path("size"), format!("{} {wrong}; {advice}", cut(size))));
        }
        storage.size = size.to_owned();
    }
    if let Some(class) = fields.text("storageClassName", faults) {
        let longest = bounds::STORAGE_CLASS_BYTES_MAX;
        let wrong = class.is_empty()
            || class.len() > longest
            || class.starts_with(['-', '.'])
            || class.ends_with(['-', '.'])
            || !class.bytes().all(|b| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.'));
        if wrong {
            let message = format!(
                "{} is no name of a storage class; use 1 to {longest} characters of a-z, 0-9, '-' and '.', letters or digits at both ends, or leave it out",
                cut(class)
            );
            faults.push(Fault::new(fields.path("storageClassName"), message));
        }
        storage.storage_class_name = Some(class.to_owned());
    }
    storage
}

fn retention(spec: &Fields<'_>, faults: &mut Vec<Fault>) -> RetentionPolicy {
    let mut policy = RetentionPolicy::default();
    let Some(fields) = spec.mapping("persistentVolumeClaimRetentionPolicy", faults) else { return policy };
    fields.refuse_unknown(&["whenDeleted", "whenScaled"], faults);
    let choices = &[("Retain", VolumeRetention::Retain), ("Delete", VolumeRetention::Delete)];
    policy.when_deleted = fields.choice("whenDeleted", choices, faults).unwrap_or_default();
    policy.when_scaled = fields.choice("whenScaled", choices, faults).unwrap_or_default();
    policy
}
