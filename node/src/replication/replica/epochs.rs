//! Configurations: adopted when newer, on disk before anything is said under them, told to whoever is behind.

use super::{META_CONFIGURATION, Replica};
use crate::replication::error::ServiceError;
use bytes::Bytes;
use coequal_protocol::forced_recovery::{is_first, recoveries};
use coequal_protocol::message::Message;
use coequal_protocol::record::LogRecord;
use coequal_types::{Configuration, DatabaseStatus, NodeId};

impl Replica {
    pub(super) fn configuration_json(&self) -> Bytes {
        // A configuration of names, numbers and ids always serialises; an empty text would be ignored by the peer.
        serde_json::to_vec(&self.configuration).unwrap_or_default().into()
    }

    pub(super) fn record_configuration(&mut self) {
        let value = self.configuration_json();
        if self.store.meta(META_CONFIGURATION).as_ref() == Some(&value) {
            return;
        }
        if let Some(lsn) = self.append(LogRecord::Meta { name: META_CONFIGURATION.to_owned(), value }) {
            self.configuration_lsn = lsn;
        }
    }

    /// Takes a newer configuration of this database; everything under way begins again under it.
    pub(super) fn adopt(&mut self, configuration: Configuration) {
        let newer = configuration.uuid == self.configuration.uuid && configuration.epoch > self.configuration.epoch;
        if !newer || self.fault.is_some() || self.superseded.is_some() {
            return;
        }
        // Taken out and in again in between: this copy's votes count no more, the node replaces it (I7).
        if configuration.joined.get(&self.me).is_some_and(|joined| *joined > self.configuration.epoch) {
            self.supersede(configuration);
            return;
        }
        if self.new_disk && configuration.is_voter(self.me) && !is_first(configuration.epoch) {
            // It became a voter when it was aligned: with another copy than this one (I7).
            return self.fail(
                "this node votes, and the copy with which it did is gone; this one is removed from the configuration and \
                 deployed anew"
                    .to_owned(),
            );
        }
        let was_given_up =
            !configuration.is_member(self.me) && recoveries(configuration.epoch) > recoveries(self.configuration.epoch);
        self.configuration = configuration;
        self.clock.raise(self.configuration.low_bound.agreed);
        self.record_configuration();
        if !self.configuration.is_member(self.me) || self.configuration.dropped {
            self.set_status(DatabaseStatus::NotAvailable);
            self.alignment = None;
            self.epoch_alignment = None;
        } else if self.alignment.is_some() || is_first(self.configuration.epoch) {
            self.start_alignment();
        } else {
            self.start_epoch_alignment();
        }
        if was_given_up {
            // The survivors decide without this node; nothing that it began goes on among them.
            let name = self.configuration.name.clone();
            self.fail_everything(&ServiceError::DatabaseNotAvailable(name, self.me));
        }
        self.check_disk_again();
        self.restart_rounds();
        self.restart_queries();
        self.next_tick_ms = self.now.monotonic_ms;
    }

    /// Says nothing more; waits to be set aside.
    fn supersede(&mut self, configuration: Configuration) {
        self.set_status(DatabaseStatus::NotAvailable);
        self.alignment = None;
        self.epoch_alignment = None;
        let name = configuration.name.clone();
        self.superseded = Some(configuration);
        self.fail_everything(&ServiceError::DatabaseNotAvailable(name, self.me));
    }

    /// A peer refused our epoch: either we learn from it, or it from us.
    pub(super) fn on_stale_epoch(&mut self, from: NodeId, epoch: u64, configuration: &Bytes) {
        if epoch > self.configuration.epoch {
            self.on_configuration_notice(configuration);
        } else if epoch < self.configuration.epoch {
            self.behind.insert(from);
        }
    }

    /// Peers that refused our newer epoch get it, and then once more what they refused.
    pub(super) fn bring_up_to_date(&mut self) {
        for node in std::mem::take(&mut self.behind) {
            let configuration = self.configuration_json();
            self.send(node, Message::ConfigurationNotice { configuration });
            self.resend_to(node);
            self.resend_queries_to(node);
        }
    }

    pub(super) fn on_configuration_notice(&mut self, configuration: &Bytes) {
        if let Ok(configuration) = serde_json::from_slice::<Configuration>(configuration) {
            self.adopt(configuration);
        }
    }
}
