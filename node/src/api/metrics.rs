//! `/metrics` in the Prometheus text format: the engine's numbers and the API's own.

use super::ApiState;
use super::problem::Refusal;
use super::query::Query;
use crate::replication::service::{MetricKind, MetricSample};
use axum::body::Body;
use axum::extract::State;
use axum::response::Response;
use http::{HeaderValue, Uri, header};
use std::collections::BTreeMap;
use std::fmt::Write as _;

/// `GET /metrics`
pub async fn show(State(state): State<ApiState>, uri: Uri) -> Result<Response, Refusal> {
    Query::read(uri.query(), &[])?;
    let mut out = String::with_capacity(16 << 10);
    encode(&mut out, &state.service.metrics());
    state.shell.metrics.encode(&mut out);
    let mut response = Response::new(Body::from(out));
    let media = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
    response.headers_mut().insert(header::CONTENT_TYPE, media);
    Ok(response)
}

/// Appends what a metric is.
pub fn head(out: &mut String, name: &str, help: &str, kind: &str) {
    let help = help.replace('\\', "\\\\").replace('\n', "\\n");
    let _ = writeln!(out, "# HELP {name} {help}\n# TYPE {name} {kind}");
}

/// Appends samples; those of one name stand together, as the format asks.
fn encode(out: &mut String, samples: &[MetricSample]) {
    let mut by_name: BTreeMap<&str, Vec<&MetricSample>> = BTreeMap::new();
    for sample in samples {
        by_name.entry(sample.name).or_default().push(sample);
    }
    for (name, samples) in by_name {
        if let Some(first) = samples.first() {
            let kind = match first.kind {
                MetricKind::Counter => "counter",
                MetricKind::Gauge => "gauge",
            };
            head(out, name, first.help, kind);
        }
        for sample in samples {
            let _ = writeln!(out, "{name}{} {}", labels(&sample.labels), number(sample.value));
        }
    }
}

fn labels(labels: &[(&'static str, String)]) -> String {
    if labels.is_empty() {
        return String::new();
    }
    let escape = |value: &str| value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
    let pairs: Vec<String> = labels.iter().map(|(name, value)| format!("{name}=\"{}\"", escape(value))).collect();
    format!("{{{}}}", pairs.join(","))
}

fn number(value: f64) -> String {
    if value.is_nan() {
        "NaN".to_owned()
    } else if value.is_infinite() {
        if value > 0.0 { "+Inf".to_owned() } else { "-Inf".to_owned() }
    } else {
        value.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(name: &'static str, label: &str, value: f64) -> MetricSample {
        let labels = if label.is_empty() { Vec::new() } else { vec![("node", label.to_owned())] };
        MetricSample { name, help: "Entries\nbehind.", kind: MetricKind::Gauge, labels, value }
    }

    #[test]
    fn samples_of_one_name_stand_under_one_head() {
        let mut out = String::new();
        encode(&mut out, &[sample("b", "x", 1.0), sample("a", "", 0.5), sample("b", "q\"\\\n", f64::INFINITY)]);
        let expected = "# HELP a Entries\\nbehind.\n# TYPE a gauge\na 0.5\n\
            # HELP b Entries\\nbehind.\n# TYPE b gauge\nb{node=\"x\"} 1\nb{node=\"q\\\"\\\\\\n\"} +Inf\n";
        assert_eq!(out, expected);
    }
}
