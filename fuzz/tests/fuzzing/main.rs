//! Each target under libFuzzer for a short time, from its corpus on. `tests/fuzz` builds and runs this.
//!
//! `COEQUAL_FUZZ_SECONDS` is the time of each target (default 8); `COEQUAL_FUZZ_GROW=1` keeps new inputs in the corpus.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// Longest run of one input, in seconds; a longer one counts as a hang.
const INPUT_SECONDS_MAX: u32 = 25;
const MEMORY_MIB_MAX: u32 = 2048;
/// Fewer prove nothing: a target stands still, or does far too much for one input.
const EXECUTIONS_MIN: u64 = 100;

struct Run {
    target: &'static str,
    binary: &'static str,
    artifacts: PathBuf,
}

impl Run {
    fn new(target: &'static str, binary: &'static str) -> Self {
        let artifacts = Path::new(env!("CARGO_TARGET_TMPDIR")).join("fuzz").join(target);
        std::fs::create_dir_all(&artifacts).expect("a place for what is found");
        Self { target, binary, artifacts }
    }

    fn command(&self, seconds: u64) -> Command {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let mut command = Command::new(self.binary);
        command
            .arg(format!("-max_total_time={seconds}"))
            .arg(format!("-timeout={INPUT_SECONDS_MAX}"))
            .arg(format!("-rss_limit_mb={MEMORY_MIB_MAX}"))
            .arg(format!("-artifact_prefix={}/", self.artifacts.display()))
            .args(["-max_len=8192", "-print_final_stats=1"]);
        let words = root.join("dictionaries").join(self.target);
        if words.exists() {
            command.arg(format!("-dict={}", words.display()));
        }
        // libFuzzer writes to the first folder only.
        let grown = Path::new(env!("CARGO_TARGET_TMPDIR")).join("fuzz-grown").join(self.target);
        let _old = std::fs::remove_dir_all(&grown);
        std::fs::create_dir_all(&grown).expect("a place for what grows");
        if std::env::var("COEQUAL_FUZZ_GROW").is_err() {
            command.arg(&grown);
        }
        command.arg(root.join("corpus").join(self.target));
        command.env("TMPDIR", &grown);
        command
    }
}

/// The number behind a word of libFuzzer's.
fn number(text: &str, word: &str) -> u64 {
    let found = text.rsplit_once(word).map(|(_, rest)| rest.trim_start());
    found.and_then(|rest| rest.split_whitespace().next()?.parse().ok()).unwrap_or(0)
}

fn report(run: &Run, output: &Output) {
    let text = String::from_utf8_lossy(&output.stderr);
    let (executions, coverage) = (executions(output), number(&text, "cov: "));
    println!("fuzz {}: {executions} executions, {coverage} places covered", run.target);
    if !output.status.success() {
        let lines: Vec<&str> = text.lines().collect();
        let file = text.rsplit_once("Test unit written to ").and_then(|(_, rest)| rest.lines().next());
        let file = file.unwrap_or("(no file: see the output)");
        panic!(
            "{} failed on {file}\n{}\nReproduce: {} {file}\nKeep it: copy the file to fuzz/corpus/{}/ and run \
             cargo test -p coequal-fuzz --test replay {}",
            run.target,
            lines[lines.len().saturating_sub(60)..].join("\n"),
            run.binary,
            run.target,
            run.target,
        );
    }
    assert!(executions > EXECUTIONS_MIN, "{} ran only {executions} inputs:\n{text}", run.target);
    assert!(coverage > 50, "{} is not instrumented: {coverage} places covered; use tests/fuzz\n{text}", run.target);
}

fn executions(output: &Output) -> u64 {
    number(&String::from_utf8_lossy(&output.stderr), "stat::number_of_executed_units:")
}

fn fuzz(target: &'static str, binary: &'static str) {
    let set = std::env::var("COEQUAL_FUZZ_SECONDS").ok().and_then(|text| text.parse().ok());
    let seconds: u64 = set.unwrap_or(8);
    let run = Run::new(target, binary);
    let mut output = run.command(seconds).output().expect("the target runs");
    if output.status.success() && executions(&output) <= EXECUTIONS_MIN {
        // The machine had no time for it. What is demanded stays the same.
        output = run.command(seconds * 6).output().expect("the target runs");
    }
    report(&run, &output);
}

macro_rules! fuzzed {
    ($($name:ident: $target:literal),+ $(,)?) => {
        $(
            #[test]
            fn $name() {
                fuzz($target, env!(concat!("CARGO_BIN_EXE_", $target)));
            }
        )+
    };
}

fuzzed! {
    fuzz_documents: "documents",
    fuzz_frames: "frames",
    fuzz_http: "http",
    fuzz_manifests: "manifests",
    fuzz_migrations: "migrations",
    fuzz_records: "records",
    fuzz_stores: "stores",
    fuzz_tokens: "tokens",
}
