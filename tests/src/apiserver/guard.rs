//! Processes that end with this one, however it ends.

use std::io::Write as _;
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};

/// Starts a command for each line that it reads. When there are no more lines, because the test program has ended or was
/// killed, it kills what it started and removes the directory.
const SCRIPT: &str = r#"trap '' INT TERM HUP
pids=
while IFS= read -r line; do eval "$line &"; pids="$pids $!"; done
kill -9 $pids 2>/dev/null
wait
rm -rf "$0""#;

/// A shell that holds other processes.
pub(super) struct Guard {
    shell: Child,
    lines: ChildStdin,
}

impl Guard {
    /// Nothing runs yet. The directory is removed at the end.
    pub(super) fn new(directory: &Path) -> Self {
        let mut command = Command::new("sh");
        command.args(["-c", SCRIPT]).arg(directory).stdin(Stdio::piped());
        let mut shell = command.spawn().expect("sh starts");
        let lines = shell.stdin.take().expect("its standard input");
        Self { shell, lines }
    }

    /// Starts a program; its output goes to `log`.
    pub(super) fn start(&mut self, program: &Path, arguments: &[String], log: &Path) {
        let quoted = |text: &str| format!("'{}'", text.replace('\'', r"'\''"));
        let words: Vec<String> = arguments.iter().map(|word| quoted(word)).collect();
        let (program, log) = (quoted(&program.display().to_string()), quoted(&log.display().to_string()));
        writeln!(self.lines, "exec {program} {} </dev/null >>{log} 2>&1", words.join(" ")).expect("the shell reads");
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        // It ends by itself when its input does; that is when the fields are dropped.
        let _ = self.lines.flush();
        let _ = self.shell.try_wait();
    }
}
