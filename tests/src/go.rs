//! Programs in Go that judge: written by others, called from tests.

use crate::binaries::root;
use std::process::Command;

/// Oldest minor version of Go 1 that the modules under `tests/` need.
const GO_MINOR: u32 = 26;

/// Runs `go` with these arguments in a folder of the sources: whether it succeeded, and what it printed. An error is a
/// reason to skip: there is no Go, or no way to its modules.
pub fn go(folder: &str, arguments: &[&str]) -> Result<(bool, String), String> {
    let version = Command::new("go").args(["env", "GOVERSION"]).output();
    let version = version.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned()).unwrap_or_default();
    let minor = version.strip_prefix("go1.").and_then(|rest| rest.split('.').next()?.parse::<u32>().ok());
    if minor.is_none_or(|minor| minor < GO_MINOR) {
        return Err(format!("Go 1.{GO_MINOR} or newer is not installed"));
    }
    if let (false, text) = run(folder, &["mod", "download"]) {
        return Err(format!("Go modules cannot be had: {}", text.lines().next().unwrap_or_default()));
    }
    Ok(run(folder, arguments))
}

fn run(folder: &str, arguments: &[&str]) -> (bool, String) {
    let folder = root().join(folder);
    let command = Command::new("go").current_dir(folder).env("GOTOOLCHAIN", "local").args(arguments).output();
    let output = command.expect("go runs");
    let text = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    (output.status.success(), text)
}
