//! Inside a replica process: it ends when its supervisor does, however that ended.

use rustix::process::{Signal, getpid, kill_process};
use std::io::Read as _;
use std::time::Duration;

/// How long a replica may take to stop by itself once its supervisor is gone.
const GRACE: Duration = Duration::from_secs(20);

/// Watches standard input, which the supervisor holds open: its end is the supervisor's end. Then this process asks
/// itself to stop in order, as a supervisor would have.
pub fn end_with_supervisor() {
    let watch = || {
        let mut stdin = std::io::stdin().lock();
        let mut bytes = [0u8; 64];
        loop {
            match stdin.read(&mut bytes) {
                Ok(0) => break,
                Err(error) if error.kind() != std::io::ErrorKind::Interrupted => break,
                Ok(_) | Err(_) => {}
            }
        }
        if kill_process(getpid(), Signal::TERM).is_ok() {
            std::thread::sleep(GRACE);
        }
        std::process::exit(i32::from(crate::args::EXIT_FAILED));
    };
    if let Err(error) = std::thread::Builder::new().name("supervisor-watch".to_owned()).spawn(watch) {
        eprintln!("cannot watch the supervisor: {error}");
    }
}
