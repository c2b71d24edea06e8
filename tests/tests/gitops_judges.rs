//! What kstatus and Argo CD think of our resources, asked from their own libraries (Go), on the samples that the
//! operator's own functions write.

use coequal_tests::binaries::root;
use std::process::Command;

#[test]
fn kstatus_and_argo_cd_judge_every_situation_rightly() {
    let name = "kstatus_and_argo_cd_judge_every_situation_rightly";
    let version = Command::new("go").args(["env", "GOVERSION"]).output();
    let version = version.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned()).unwrap_or_default();
    let minor = version.strip_prefix("go1.").and_then(|rest| rest.split('.').next()?.parse::<u32>().ok());
    if minor.is_none_or(|minor| minor < 26) {
        println!("SKIPPED {name}: Go 1.26 or newer is not installed");
        return;
    }
    let folder = root().join("tests/gitops");
    let run = |arguments: &[&str]| {
        let command = Command::new("go").current_dir(&folder).env("GOTOOLCHAIN", "local").args(arguments).output();
        let output = command.expect("go runs");
        (
            output.status.success(),
            format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr)),
        )
    };
    if let (false, text) = run(&["mod", "download"]) {
        println!("SKIPPED {name}: Go modules cannot be had: {}", text.lines().next().unwrap_or_default());
        return;
    }
    let (passed, text) = run(&["test", "-mod=readonly", "-count=1", "./..."]);
    assert!(passed, "{text}");
}
