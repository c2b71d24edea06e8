//! What the operator counts, for Prometheus.

use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Registry;
use std::time::Duration;

/// All metrics.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    reconciles: Counter,
    failures: Counter,
    seconds: Histogram,
    writes: Counter,
    leading: Gauge,
    resources: Gauge,
}

impl Metrics {
    /// Everything at zero.
    pub fn new() -> Self {
        let mut registry = Registry::with_prefix("coequal_operator");
        let (reconciles, failures, writes) = (Counter::default(), Counter::default(), Counter::default());
        let (leading, resources) = (Gauge::default(), Gauge::default());
        let seconds = Histogram::new(exponential_buckets(0.005, 2.0, 12));
        registry.register("reconciles", "Reconciles that were begun", reconciles.clone());
        registry.register("reconcile_failures", "Reconciles that failed and are tried again", failures.clone());
        registry.register("reconcile_duration_seconds", "How long reconciles take", seconds.clone());
        registry.register("writes", "Changes sent to the API server", writes.clone());
        registry.register("leading", "1 while this operator leads", leading.clone());
        registry.register("resources", "ReplicatedDatabases that are known", resources.clone());
        Self { registry, reconciles, failures, seconds, writes, leading, resources }
    }

    /// A reconcile came to its end.
    pub fn reconciled(&self, took: Duration, failed: bool) {
        self.reconciles.inc();
        self.seconds.observe(took.as_secs_f64());
        if failed {
            self.failures.inc();
        }
    }

    /// A change was sent.
    pub fn wrote(&self) {
        self.writes.inc();
    }

    /// The text for Prometheus.
    pub fn text(&self, leads: bool, resources: usize) -> String {
        self.leading.set(i64::from(leads));
        self.resources.set(i64::try_from(resources).unwrap_or(i64::MAX));
        let mut text = String::new();
        // Writing to a string cannot fail.
        let _ = encode(&mut text, &self.registry);
        text
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn alerts_and_the_dashboard_ask_for_what_is_counted() {
        let metrics = Metrics::new();
        metrics.reconciled(Duration::from_millis(1), true);
        let text = metrics.text(true, 1);
        let names_in = |text: &str| -> std::collections::BTreeSet<String> {
            let words = text.split(|c: char| !(c.is_ascii_lowercase() || c == '_'));
            words.filter(|word| word.starts_with("coequal_operator_")).map(str::to_owned).collect()
        };
        let counted = names_in(&text);
        for file in ["alerts.yaml", "dashboards/coequal.json"] {
            let path = format!("{}/../charts/coequal-operator/files/{file}", env!("CARGO_MANIFEST_DIR"));
            let asked = names_in(&std::fs::read_to_string(path).unwrap());
            assert!(!asked.is_empty() && asked.is_subset(&counted), "{file} asks for {asked:?}, there is {counted:?}");
        }
    }
}
