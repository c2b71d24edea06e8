//! What was measured, in words or as JSON.

use crate::args::{BenchArgs, Workload};
use crate::load::Measured;
use std::time::Duration;

/// Clock ticks a second in `/proc`, on every Linux that the generator runs on.
const TICKS_PER_SECOND: f64 = 100.0;

/// CPU time of this process so far.
pub fn cpu_time() -> Duration {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    // The name of the program, in brackets, may hold spaces.
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or("").split_whitespace().collect();
    let ticks = |at: usize| fields.get(at).and_then(|text| text.parse::<f64>().ok()).unwrap_or(0.0);
    Duration::from_secs_f64((ticks(11) + ticks(12)) / TICKS_PER_SECOND)
}

/// The report as text or JSON.
pub fn report(args: &BenchArgs, measured: &Measured) -> String {
    let (took, cpu) = (measured.took, measured.cpu);
    let times = &measured.times;
    let ms = |micros: u64| micros as f64 / 1000.0;
    let rate = times.len() as f64 / took.as_secs_f64();
    let share = cpu.as_secs_f64() / took.as_secs_f64();
    let (p50, p99, max) = (ms(times.value_at_quantile(0.5)), ms(times.value_at_quantile(0.99)), ms(times.max()));
    if args.json {
        return serde_json::json!({
            "workload": word(args.workload),
            "connections": args.connections,
            "nodes": args.urls.len(),
            "valueBytes": args.value_bytes,
            "seconds": took.as_secs_f64(),
            "requests": times.len(),
            "requestsPerSecond": rate,
            "p50Ms": p50,
            "p99Ms": p99,
            "maxMs": max,
            "errors": measured.error_count(),
            "errorsByKind": measured.errors,
            "generatorCpuCores": share,
        })
        .to_string();
    }
    let mut text = format!(
        "{} over {} connections to {} nodes, {} B values, {:.1} s\n\
         {} requests, {rate:.0}/s; p50 {p50:.2} ms, p99 {p99:.2} ms, max {max:.2} ms; {} errors\n\
         the generator itself used {share:.2} cores",
        word(args.workload),
        args.connections,
        args.urls.len(),
        args.value_bytes,
        took.as_secs_f64(),
        times.len(),
        measured.error_count(),
    );
    for (kind, count) in &measured.errors {
        text += &format!("\n  {count} x {kind}");
    }
    text
}

fn word(workload: Workload) -> &'static str {
    match workload {
        Workload::Insert => "insert",
        Workload::Update => "update",
        Workload::Read => "read",
        Workload::Linearizable => "linearizable",
        Workload::Mixed => "mixed",
    }
}
