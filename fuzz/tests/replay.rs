//! Every input of the corpora through its target, without libFuzzer: what was found once does not come back.

use coequal_fuzz::{TARGETS, run};
use std::path::{Path, PathBuf};

fn files(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let mut found: Vec<PathBuf> = entries.map(|entry| entry.expect("an entry").path()).collect();
    found.sort();
    found
}

fn replay(target: &str) {
    let files = files(&Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(target));
    assert!(files.len() > 3, "{target} has {} inputs", files.len());
    for file in files {
        let data = std::fs::read(&file).expect("an input");
        println!("{}", file.display());
        run(target, &data);
        // Targets read prefixes of their inputs as well.
        run(target, &data[..data.len() / 2]);
    }
}

macro_rules! replays {
    ($($name:ident: $target:literal),+ $(,)?) => {
        $(
            #[test]
            fn $name() {
                replay($target);
            }
        )+
        const REPLAYED: &[&str] = &[$($target),+];
    };
}

replays! {
    the_corpus_of_documents_holds: "documents",
    the_corpus_of_frames_holds: "frames",
    the_corpus_of_http_holds: "http",
    the_corpus_of_manifests_holds: "manifests",
    the_corpus_of_migrations_holds: "migrations",
    the_corpus_of_records_holds: "records",
    the_corpus_of_stores_holds: "stores",
    the_corpus_of_tokens_holds: "tokens",
}

#[test]
fn every_target_has_a_corpus_a_binary_and_a_replay() {
    let names: Vec<&str> = TARGETS.iter().map(|(name, _)| *name).collect();
    assert_eq!(names, REPLAYED);
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let stems = |folder: &str| -> Vec<String> {
        let stem = |path: &PathBuf| path.file_stem().expect("a name").to_string_lossy().into_owned();
        files(&root.join(folder)).iter().map(stem).collect()
    };
    assert_eq!(stems("corpus"), names);
    assert_eq!(stems("fuzz_targets"), names);
}
