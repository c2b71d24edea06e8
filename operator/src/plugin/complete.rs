//! Completions for kubectl: it calls `kubectl_complete-coequal`, a link to this program, with the words typed so far,
//! and reads one word a line and `:4`, which means that no file names are wanted.

use super::args::{ClusterArgs, PluginArgs};
use super::report::declared;
use super::{connect, fetch};
use clap::CommandFactory as _;
use kube::ResourceExt as _;
use std::ffi::OsString;
use std::time::Duration;

/// Longest wait for names: somebody waits with a finger on a key.
const PATIENCE: Duration = Duration::from_secs(3);
const LINK: &str = "kubectl_complete-coequal";

/// The command line to parse: called by its other name the program completes.
pub fn as_command(mut words: Vec<OsString>) -> Vec<OsString> {
    let is_link = words.first().is_some_and(|program| std::path::Path::new(program).ends_with(LINK));
    if is_link {
        words.insert(1, OsString::from("__complete"));
        words.insert(2, OsString::from("--"));
    }
    words
}

/// What may stand for the last word, one a line; nothing when nothing can be known in time.
pub async fn answer(words: &[String], cluster: &ClusterArgs) -> String {
    let found = tokio::time::timeout(PATIENCE, candidates(words, cluster)).await.unwrap_or_default();
    let begun = words.last().map_or("", String::as_str);
    let mut lines: Vec<String> = found.into_iter().filter(|word| word.starts_with(begun)).collect();
    lines.push(":4".to_owned());
    lines.join("\n") + "\n"
}

async fn candidates(words: &[String], cluster: &ClusterArgs) -> Vec<String> {
    let before = words.len().saturating_sub(1);
    let (typed, cluster) = split(words.get(..before).unwrap_or_default(), cluster);
    let Some((command, given)) = typed.split_first() else {
        let command = PluginArgs::command();
        return command
            .get_subcommands()
            .filter(|known| !known.is_hide_set())
            .map(|known| known.get_name().to_owned())
            .collect();
    };
    let Ok(connection) = connect::connect(&cluster).await else { return Vec::new() };
    let Ok(found) = fetch::all(&connection, false).await else { return Vec::new() };
    let Some(name) = given.first() else { return found.iter().map(kube::ResourceExt::name_any).collect() };
    let Some(resource) = found.iter().find(|resource| resource.name_any() == *name) else { return Vec::new() };
    let nodes = || resource.status.iter().flat_map(|status| &status.nodes).map(|node| node.name.clone()).collect();
    match (command.as_str(), given.len()) {
        ("deploy", 1) => declared(resource).into_iter().map(|(name, _)| name).collect(),
        ("deploy", 2) | ("logs", 1) | ("remove", _) => nodes(),
        _ => Vec::new(),
    }
}

/// Words without flags, and where those flags lead.
fn split(words: &[String], cluster: &ClusterArgs) -> (Vec<String>, ClusterArgs) {
    let (mut typed, mut cluster) = (Vec::new(), cluster.clone());
    let mut words = words.iter();
    while let Some(word) = words.next() {
        match word.as_str() {
            "-n" | "--namespace" => cluster.namespace = words.next().cloned(),
            "--context" => cluster.context = words.next().cloned(),
            "--kubeconfig" => cluster.kubeconfig = words.next().map(Into::into),
            "-o" | "--output" => drop(words.next()),
            flag if flag.starts_with('-') => {}
            word => typed.push(word.to_owned()),
        }
    }
    (typed, cluster)
}
