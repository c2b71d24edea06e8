//! A witness of what the machine does to everybody while a test measures how long somebody waits.
//!
//! A bound in wall-clock time says nothing on a machine that is crowded or whose disk stalls. The witness writes and syncs
//! 4 KiB again and again and counts the tasks that want to run; a bound is stretched by what it saw, and by no more.

use std::fs::File;
use std::io::{Seek as _, SeekFrom, Write as _};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// More than so many times slower, a machine excuses nothing.
const CROWD_MAX: f64 = 2.0;
const TICK: Duration = Duration::from_millis(20);

/// What the machine did.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Machine {
    /// Longest time for which the witness could not write 4 KiB and sync them.
    pub stall: Duration,
    /// Tasks that wanted to run, for each processor: everything takes so many times longer. From 1 to [`CROWD_MAX`].
    pub crowd: f64,
}

impl Default for Machine {
    fn default() -> Self {
        Self { stall: Duration::ZERO, crowd: 1.0 }
    }
}

impl Machine {
    /// How long somebody may have waited who waits no longer than `limit` on a machine of his own.
    pub fn allows(self, limit: Duration) -> Duration {
        limit.mul_f64(self.crowd) + self.stall
    }
}

/// A witness at work.
pub struct Witness {
    stop: Arc<AtomicBool>,
    thread: std::thread::JoinHandle<Machine>,
}

impl Witness {
    /// Begins, on a file of its own that needs no name any more.
    pub fn on(file: File) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let thread = std::thread::spawn({
            let stop = Arc::clone(&stop);
            move || watch(&stop, file)
        });
        Self { stop, thread }
    }

    /// Begins, on the disk of temporary files, which is that of the tests' clusters.
    pub fn start() -> Self {
        Self::on(tempfile::tempfile().expect("a temporary file"))
    }

    /// Ends it.
    pub fn end(self) -> Machine {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().expect("the machine was watched")
    }
}

fn watch(stop: &AtomicBool, mut file: File) -> Machine {
    let (mut stall, mut running, mut ticks) = (Duration::ZERO, 0u64, 0u32);
    while !stop.load(Ordering::Relaxed) {
        let begun = Instant::now();
        std::thread::sleep(TICK);
        let written = file.seek(SeekFrom::Start(0)).and_then(|_| file.write_all(&[1; 4096]));
        written.and_then(|()| file.sync_data()).expect("the witness writes");
        stall = stall.max(begun.elapsed().saturating_sub(TICK));
        running += tasks_running();
        ticks += 1;
    }
    let processors = std::thread::available_parallelism().map_or(1, usize::from);
    let crowd = running as f64 / f64::from(ticks.max(1)) / processors as f64;
    Machine { stall, crowd: crowd.clamp(1.0, CROWD_MAX) }
}

/// Tasks that run or wait for a processor now, on the whole machine, besides the one that asks.
fn tasks_running() -> u64 {
    let text = std::fs::read_to_string("/proc/stat").unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix("procs_running "));
    line.and_then(|count| count.trim().parse::<u64>().ok()).map_or(0, |count| count.saturating_sub(1))
}
