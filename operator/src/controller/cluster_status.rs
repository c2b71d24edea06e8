//! The cluster in one word: the reason that stands in the Status column.

use super::node_status::ShownStatus;
use super::validate::ValidatedDatabaseCluster;
use crate::crd::ConditionReason;

/// What the summary depends on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Counted<'a> {
    /// Whether the cluster was initialised.
    pub initialized: bool,
    /// Status of each node that was asked for, by ordinal.
    pub desired: &'a [ShownStatus],
    /// Nodes that are there and were not asked for.
    pub surplus: usize,
    /// Whether every declared database exists.
    pub databases_exist: bool,
}

/// The reason to show.
pub fn reason(cluster: &ValidatedDatabaseCluster, counted: Counted<'_>) -> ConditionReason {
    use ConditionReason as R;
    let Counted { initialized, desired, surplus, databases_exist } = counted;
    let count = |status: ShownStatus| desired.iter().filter(|seen| **seen == status).count();
    let present = count(ShownStatus::Online) + count(ShownStatus::Synchronizing);
    let missing = count(ShownStatus::Offline) + count(ShownStatus::ShuttingDown);
    if cluster.replicas == 0 {
        R::Hibernated
    } else if !initialized {
        R::Initializing
    } else if missing > 0 && present * 2 <= desired.len() && count(ShownStatus::Starting) == 0 {
        R::NoQuorum
    } else if missing > 0 {
        R::NodesOffline
    } else if count(ShownStatus::Starting) > 0 {
        R::NodesStarting
    } else if !databases_exist {
        R::CreatingDatabases
    } else if count(ShownStatus::Synchronizing) > 0 {
        R::Synchronizing
    } else if surplus > 0 {
        R::RemovingNodes
    } else {
        R::AllNodesOnline
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use ShownStatus::*;

    #[test]
    fn the_most_urgent_reason_is_shown() {
        use ConditionReason as R;
        let text = "{apiVersion: coequal.dev/v1alpha1, kind: ReplicatedDatabase, metadata: {name: a}, spec: {}}";
        let mut cluster = crate::controller::validate::validate(text).unwrap();
        let table = [
            (false, vec![Starting, Starting, Starting], 0, false, R::Initializing),
            (true, vec![Online, Starting, Starting], 0, false, R::NodesStarting),
            (true, vec![Online, Online, Online], 0, false, R::CreatingDatabases),
            (true, vec![Online, Online, Synchronizing], 0, true, R::Synchronizing),
            (true, vec![Online, Online, Offline], 0, true, R::NodesOffline),
            (true, vec![Online, Offline, Offline], 0, true, R::NoQuorum),
            (true, vec![Online, Online, Online], 2, true, R::RemovingNodes),
            (true, vec![Online, Online, Online], 0, true, R::AllNodesOnline),
        ];
        for (initialized, desired, surplus, databases_exist, expected) in table {
            let counted = Counted { initialized, desired: &desired, surplus, databases_exist };
            assert_eq!(reason(&cluster, counted), expected, "{counted:?}");
        }
        cluster.replicas = 0;
        let counted = Counted { initialized: true, desired: &[], surplus: 3, databases_exist: false };
        assert_eq!(reason(&cluster, counted), R::Hibernated);
    }
}
