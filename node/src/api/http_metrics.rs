//! Counts and durations of requests. Labels come from bounded sets: templates, methods, status classes.

use super::paths::ROUTES;
use http::{Method, StatusCode};
use std::fmt::Write as _;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

/// Methods that have a label of their own; the last stands for all others.
const METHODS: [&str; 7] = ["GET", "HEAD", "PUT", "POST", "PATCH", "DELETE", "OTHER"];
/// Status classes.
const CLASSES: [&str; 5] = ["1xx", "2xx", "3xx", "4xx", "5xx"];
/// Upper bounds of the histogram, in microseconds.
const BUCKETS_US: [u64; 14] =
    [100, 250, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000, 1_000_000, 10_000_000];

#[derive(Debug, Default)]
struct RouteMetrics {
    requests: [[AtomicU64; CLASSES.len()]; METHODS.len()],
    buckets: [AtomicU64; BUCKETS_US.len()],
    count: AtomicU64,
    sum_us: AtomicU64,
}

/// Counts and durations of all requests.
#[derive(Debug)]
pub struct HttpMetrics {
    /// One for each route, and one for what matched none.
    routes: Vec<RouteMetrics>,
    in_flight: AtomicI64,
}

/// Counts a request as under way until it is dropped.
pub struct InFlight<'a>(&'a AtomicI64);

impl Drop for InFlight<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl HttpMetrics {
    /// All zero.
    pub fn new() -> Self {
        Self { routes: (0..=ROUTES.len()).map(|_| RouteMetrics::default()).collect(), in_flight: AtomicI64::new(0) }
    }

    /// A request begins.
    pub fn enter(&self) -> InFlight<'_> {
        self.in_flight.fetch_add(1, Ordering::Relaxed);
        InFlight(&self.in_flight)
    }

    /// A request was answered (of a stream: its head).
    pub fn observe(&self, route: Option<usize>, method: &Method, status: StatusCode, took: Duration) {
        let Some(metrics) = self.routes.get(route.unwrap_or(ROUTES.len())) else { return };
        let method = METHODS.iter().position(|name| *name == method.as_str()).unwrap_or(METHODS.len() - 1);
        let class = usize::from(status.as_u16() / 100).clamp(1, CLASSES.len()) - 1;
        metrics.requests[method][class].fetch_add(1, Ordering::Relaxed);
        let took_us = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        if let Some(at) = BUCKETS_US.iter().position(|bound| took_us <= *bound) {
            metrics.buckets[at].fetch_add(1, Ordering::Relaxed);
        }
        metrics.count.fetch_add(1, Ordering::Relaxed);
        metrics.sum_us.fetch_add(took_us, Ordering::Relaxed);
    }

    /// Appends the text format.
    pub fn encode(&self, out: &mut String) {
        let routes = || {
            let names = ROUTES.iter().map(|route| route.path).chain(["unmatched"]);
            names.zip(&self.routes).filter(|(_, metrics)| metrics.count.load(Ordering::Relaxed) > 0)
        };
        super::metrics::head(out, "coequal_http_requests_total", "Requests answered.", "counter");
        for (route, metrics) in routes() {
            encode_requests(out, route, metrics);
        }
        let name = "coequal_http_request_duration_seconds";
        super::metrics::head(out, name, "Time from a request to the head of its answer.", "histogram");
        for (route, metrics) in routes() {
            encode_durations(out, name, route, metrics);
        }
        super::metrics::head(out, "coequal_http_requests_in_flight", "Requests under way.", "gauge");
        let _ = writeln!(out, "coequal_http_requests_in_flight {}", self.in_flight.load(Ordering::Relaxed));
    }
}

fn encode_requests(out: &mut String, route: &str, metrics: &RouteMetrics) {
    for (method, classes) in METHODS.iter().zip(&metrics.requests) {
        for (class, count) in CLASSES.iter().zip(classes) {
            let count = count.load(Ordering::Relaxed);
            if count > 0 {
                let labels = format!("method=\"{method}\",route=\"{route}\",status=\"{class}\"");
                let _ = writeln!(out, "coequal_http_requests_total{{{labels}}} {count}");
            }
        }
    }
}

fn encode_durations(out: &mut String, name: &str, route: &str, metrics: &RouteMetrics) {
    let mut up_to = 0;
    for (bound, count) in BUCKETS_US.iter().zip(&metrics.buckets) {
        up_to += count.load(Ordering::Relaxed);
        let bound = *bound as f64 / 1e6;
        let _ = writeln!(out, "{name}_bucket{{route=\"{route}\",le=\"{bound}\"}} {up_to}");
    }
    let count = metrics.count.load(Ordering::Relaxed).max(up_to);
    let sum = metrics.sum_us.load(Ordering::Relaxed) as f64 / 1e6;
    let _ = writeln!(out, "{name}_bucket{{route=\"{route}\",le=\"+Inf\"}} {count}");
    let _ = writeln!(out, "{name}_sum{{route=\"{route}\"}} {sum}");
    let _ = writeln!(out, "{name}_count{{route=\"{route}\"}} {count}");
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_counted_by_method_route_and_class() {
        let metrics = HttpMetrics::new();
        let held = metrics.enter();
        let ms = Duration::from_millis;
        metrics.observe(Some(0), &Method::GET, StatusCode::OK, ms(2));
        metrics.observe(Some(0), &Method::GET, StatusCode::NO_CONTENT, ms(20_000));
        metrics.observe(None, &Method::from_bytes(b"BREW").unwrap(), StatusCode::NOT_FOUND, ms(1));
        let mut text = String::new();
        metrics.encode(&mut text);
        for line in [
            "coequal_http_requests_total{method=\"GET\",route=\"/\",status=\"2xx\"} 2",
            "coequal_http_requests_total{method=\"OTHER\",route=\"unmatched\",status=\"4xx\"} 1",
            "coequal_http_request_duration_seconds_bucket{route=\"/\",le=\"0.001\"} 0",
            "coequal_http_request_duration_seconds_bucket{route=\"/\",le=\"0.0025\"} 1",
            "coequal_http_request_duration_seconds_bucket{route=\"/\",le=\"+Inf\"} 2",
            "coequal_http_request_duration_seconds_count{route=\"/\"} 2",
            "coequal_http_requests_in_flight 1",
        ] {
            assert!(text.lines().any(|found| found == line), "{line}\n{text}");
        }
        drop(held);
    }
}
