//! Copies that somebody asked for, where `autoDeploy` is false.
//!
//! They stand in an annotation, not in the spec, because the plugin writes them one at a time; and they are a wish, not
//! a command: a copy that is lost is made again for as long as it stands there.

use super::fault::{Fault, cut};
use super::fields::Fields;
use coequal_types::{DatabaseName, NodeName};

/// Annotation with the copies, as in `orders@orders-3,archive@orders-4`.
pub const DEPLOY: &str = "coequal.dev/deploy";

/// A copy of a database on a node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Copy {
    /// The database.
    pub database: DatabaseName,
    /// The node.
    pub node: NodeName,
}

/// The copies of the annotation. A node or database that is not there (any more) is no fault: it may come.
pub(super) fn asked_for(metadata: &Fields<'_>, faults: &mut Vec<Fault>) -> Vec<Copy> {
    let Some(annotations) = metadata.mapping("annotations", faults).filter(|found| found.has(DEPLOY)) else {
        return Vec::new();
    };
    let Some(text) = annotations.text(DEPLOY, faults) else { return Vec::new() };
    let entries = text.split(',').map(str::trim).filter(|entry| !entry.is_empty());
    entries
        .filter_map(|entry| {
            let copy = entry
                .split_once('@')
                .and_then(|(database, node)| Some(Copy { database: database.parse().ok()?, node: node.parse().ok()? }));
            if copy.is_none() {
                let message = format!("{} is not DATABASE@NODE, as in orders@orders-3", cut(entry));
                faults.push(Fault::new(annotations.path(DEPLOY), message));
            }
            copy
        })
        .collect()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use crate::controller::validate::validate;

    fn with(annotation: &str) -> String {
        let metadata = format!("{{name: o, annotations: {{other: x, coequal.dev/deploy: '{annotation}'}}}}");
        format!("{{apiVersion: coequal.dev/v1alpha1, kind: ReplicatedDatabase, metadata: {metadata}, spec: {{}}}}")
    }

    #[test]
    fn copies_are_read_from_the_annotation() {
        let copies = validate(&with("orders@o-1, archive@o-2,")).unwrap().copies;
        let found: Vec<String> = copies.iter().map(|copy| format!("{}@{}", copy.database, copy.node)).collect();
        assert_eq!(found, ["orders@o-1", "archive@o-2"]);
        assert!(validate(&with("")).unwrap().copies.is_empty());
    }

    #[test]
    fn what_is_no_copy_is_named() {
        for bad in ["orders", "orders@", "@o-1", "Orders@o-1", "orders@o-1@x"] {
            let faults = validate(&with(bad)).unwrap_err().to_string();
            let expected = "metadata.annotations.coequal.dev/deploy: ";
            assert!(faults.contains(expected) && faults.contains(bad) && faults.contains("as in"), "{faults}");
        }
    }
}
