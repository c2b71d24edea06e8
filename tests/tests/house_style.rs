//! Style that matters, tightened like a ratchet: what is over a bound today is listed with its size and may only shrink.

use coequal_tests::binaries::root;
use coequal_tests::source::{self, Source};

const FILE_LINES_MAX: usize = 600;
const FUNCTION_LINES_MAX: usize = 70;

/// Functions that are longer for now, with the lines they may have at most.
const LONG_FUNCTIONS: &[(&str, &str, usize)] = &[];

/// What never stands outside of tests.
const NEVER: &[&str] = &[".unwrap()", ".expect(", "panic!(", "todo!(", "unimplemented!(", "dbg!("];
/// What stands outside of tests only with a comment, on the line or right above, that proves that it is never reached.
const PROVED: &[&str] = &["unreachable!("];

fn fail_if_any(found: &[String]) {
    assert!(found.is_empty(), "{} against the style of the house:\n{}", found.len(), found.join("\n"));
}

fn too_long(source: &Source) -> Vec<String> {
    let mut found = Vec::new();
    let lines = source.text.lines().count();
    if lines > FILE_LINES_MAX {
        found.push(format!("{}: {lines} lines, at most {FILE_LINES_MAX}; split it by what it decides", source.path));
    }
    for function in source.functions() {
        let listed = LONG_FUNCTIONS.iter().find(|(path, name, _)| *path == source.path && *name == function.name);
        let max = listed.map_or(FUNCTION_LINES_MAX, |(_, _, lines)| *lines);
        let place = format!("{}:{}: fn {}", source.path, function.line, function.name);
        if function.lines > max {
            found.push(format!("{place} has {} lines, at most {max}", function.lines));
        } else if listed.is_some() && function.lines < max {
            found.push(format!("{place} has shrunk to {} lines; tighten the list of long functions", function.lines));
        }
    }
    found
}

fn may_panic(source: &Source) -> Vec<String> {
    let text: Vec<&str> = source.text.lines().collect();
    let is_proved = |line: usize| {
        let (here, above) = (text.get(line - 1).unwrap_or(&""), line.checked_sub(2).and_then(|at| text.get(at)));
        here.contains("// ") || above.is_some_and(|above| above.trim_start().starts_with("// "))
    };
    let mut found = Vec::new();
    for (line, code) in source.product_lines() {
        let place = format!("{}:{line}", source.path);
        if let Some(word) = NEVER.iter().find(|word| has_call(code, word)) {
            found.push(format!("{place}: {word} never stands outside of tests; handle it"));
        }
        if let Some(word) = PROVED.iter().find(|word| has_call(code, word)).filter(|_| !is_proved(line)) {
            found.push(format!("{place}: {word} can panic; prove in a comment that it is never reached"));
        }
    }
    found
}

/// Whether the line has the word, not as the end of a longer one.
fn has_call(code: &str, word: &str) -> bool {
    code.match_indices(word).any(|(at, _)| {
        let before = code[..at].chars().next_back();
        word.starts_with('.') || !before.is_some_and(|c| c.is_alphanumeric() || c == '_')
    })
}

#[test]
fn files_and_functions_stay_short() {
    fail_if_any(&source::all(&root()).iter().flat_map(too_long).collect::<Vec<_>>());
}

#[test]
fn nothing_outside_of_tests_panics_without_a_proof() {
    let sources = source::all(&root());
    let product = sources.iter().filter(|source| !source.is_test_file());
    fail_if_any(&product.flat_map(may_panic).collect::<Vec<_>>());
}

#[test]
fn every_module_says_what_it_is_for() {
    let sources = source::all(&root());
    let silent = sources.iter().filter(|source| !source.text.starts_with("//!"));
    let found: Vec<String> = silent.map(|source| format!("{}: begins without //!", source.path)).collect();
    fail_if_any(&found);
}

/// Paths of machines that the project was once on; they mean nothing to a reader. Put together here so that this
/// file does not contain them.
fn machine_paths() -> Vec<String> {
    ["work", "root", "workspace", "Users"].iter().map(|name| format!("/{name}/")).collect()
}

fn foreign_words(path: &str, text: &str) -> Vec<String> {
    let mut found = Vec::new();
    for (at, line) in text.lines().enumerate() {
        for word in machine_paths() {
            // A path, not a part of a longer one such as `/srv/work/`.
            let begins = line.match_indices(&word).any(|(at, _)| {
                !line[..at]
                    .chars()
                    .next_back()
                    .is_some_and(|c| c.is_alphanumeric() || matches!(c, '.' | '-' | '_' | '}'))
            });
            if begins {
                found.push(format!("{path}:{}: contains the machine path {word}", at + 1));
            }
        }
    }
    found
}

#[test]
fn no_file_names_a_path_of_somebodys_machine() {
    let root = root();
    let mut found = Vec::new();
    for path in source::files(&root) {
        if let Ok(text) = std::fs::read_to_string(root.join(&path)) {
            found.extend(foreign_words(&path, &text));
        }
    }
    fail_if_any(&found);
}

#[test]
fn what_is_wrong_is_found() {
    let long = format!("fn f() {{\n{}}}\n", "    g();\n".repeat(70));
    type Check = fn(&Source) -> Vec<String>;
    let cases: [(&str, &str, Check); 8] = [
        ("fn f() {\n    // It was checked above.\n    y.expect(\"z\")\n}", ".expect(", may_panic),
        ("fn f() { unreachable!() }", "unreachable!(", may_panic),
        ("fn f() { x.unwrap() }", ".unwrap()", may_panic),
        ("fn f() { panic!(\"no\") }", "panic!(", may_panic),
        ("fn f() {\n    // It was checked above.\n    unreachable!();\n    dbg!(x) }", "dbg!(", may_panic),
        ("fn f() { todo!() }", "todo!(", may_panic),
        (&long, "fn f has 72 lines, at most 70", too_long),
        (&"\n".repeat(601), "601 lines", too_long),
    ];
    for (text, expected, check) in cases {
        let found = check(&Source::new("node/src/a.rs", text));
        assert!(found.len() == 1 && found[0].contains(expected), "{expected}: {found:?}");
    }
    for fine in [
        "fn f() { x.unwrap_or(1); my_panic!(2); }",
        "// x.unwrap()\nconst A: &str = \"panic!(\";",
        "fn f() {\n    // The length was checked.\n    unreachable!()\n}",
        "#[cfg(test)]\nmod tests {\n    fn f() { x.unwrap() }\n}",
    ] {
        let found = may_panic(&Source::new("node/src/a.rs", fine));
        assert!(found.is_empty(), "{fine}: {found:?}");
    }
    assert_eq!(foreign_words("a", &format!("cd {}main", machine_paths()[0])).len(), 1);
    assert!(foreign_words("a", "target/work/x .github/workflows https://a/b").is_empty());
}
