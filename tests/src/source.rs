//! Rust source as a reader of rules sees it: code without comments and strings, paths, functions, test regions.

use std::path::Path;

/// One source file.
#[derive(Debug, Clone)]
pub struct Source {
    /// Path from the project's root, with `/`.
    pub path: String,
    /// The text as it stands.
    pub text: String,
    /// The text with comments and the insides of strings blanked, so that lines keep their numbers.
    pub code: String,
    /// For each line: whether it belongs to a test.
    pub is_test: Vec<bool>,
}

/// A path in the code, such as `crate::storage::Store`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PathUse {
    /// Line, from 1.
    pub line: usize,
    /// Its segments.
    pub segments: Vec<String>,
}

/// A function with a body.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Function {
    /// Line of `fn`, from 1.
    pub line: usize,
    /// Its name.
    pub name: String,
    /// Lines from `fn` to the closing brace.
    pub lines: usize,
}

impl Source {
    /// Reads a text as if it stood at `path`.
    pub fn new(path: &str, text: &str) -> Self {
        let code = blank(text);
        let is_test = test_lines(path, &code);
        Self { path: path.to_owned(), text: text.to_owned(), code, is_test }
    }

    /// Whether all of it is test code.
    pub fn is_test_file(&self) -> bool {
        is_test_path(&self.path)
    }

    /// Lines of code outside of tests, numbered from 1.
    pub fn product_lines(&self) -> impl Iterator<Item = (usize, &str)> {
        let lines = self.code.lines().zip(&self.is_test).enumerate();
        lines.filter(|(_, (_, is_test))| !**is_test).map(|(at, (line, _))| (at + 1, line))
    }

    /// Paths of two and more segments outside of tests, `use` trees taken apart.
    pub fn paths(&self) -> Vec<PathUse> {
        let tokens = tokens(&self.code);
        let mut reader = PathReader { tokens: &tokens, at: 0, found: Vec::new() };
        while reader.at < tokens.len() {
            if reader.is_identifier()
                && reader.text(reader.at) == "in"
                && reader.at > 0
                && reader.text(reader.at - 1) == "("
            {
                // `pub(in super::super)` names who may see, not what is seen.
                while reader.at < tokens.len() && reader.text(reader.at) != ")" {
                    reader.at += 1;
                }
            } else if reader.is_identifier() {
                reader.path(&[]);
            } else {
                reader.at += 1;
            }
        }
        let is_product = |line: usize| !self.is_test.get(line - 1).copied().unwrap_or(false);
        reader.found.into_iter().filter(|found| is_product(found.line)).collect()
    }

    /// All functions with bodies, tests included.
    pub fn functions(&self) -> Vec<Function> {
        let tokens = tokens(&self.code);
        let mut found = Vec::new();
        for (at, pair) in tokens.windows(2).enumerate() {
            if pair[0].text != "fn" || !starts_identifier(&pair[1].text) {
                continue;
            }
            if let Some(end) = body_end(&tokens, at + 2) {
                let (line, name) = (pair[0].line, pair[1].text.clone());
                found.push(Function { line, name, lines: end - line + 1 });
            }
        }
        found
    }
}

/// All Rust sources of the project.
pub fn all(root: &Path) -> Vec<Source> {
    let mut found = Vec::new();
    for file in files(root) {
        if file.ends_with(".rs") {
            let text = std::fs::read_to_string(root.join(&file)).unwrap_or_else(|e| panic!("{file}: {e}"));
            found.push(Source::new(&file, &text));
        }
    }
    assert!(found.len() > 50, "only {} sources under {}", found.len(), root.display());
    found
}

/// All files of the project, as paths from its root; build products and data left out.
pub fn files(root: &Path) -> Vec<String> {
    let mut found = Vec::new();
    let mut folders = vec![String::new()];
    while let Some(folder) = folders.pop() {
        let Ok(entries) = std::fs::read_dir(root.join(&folder)) else { continue };
        for entry in entries.flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            let path = if folder.is_empty() { name.clone() } else { format!("{folder}/{name}") };
            match entry.file_type() {
                Ok(kind) if kind.is_dir() => {
                    let is_kept = !matches!(name.as_str(), "target" | ".git" | "coequal-data");
                    folders.extend(is_kept.then_some(path));
                }
                Ok(kind) if kind.is_file() && name != ".git" => found.push(path),
                _ => {}
            }
        }
    }
    found.sort();
    found
}

fn is_test_path(path: &str) -> bool {
    let name = path.rsplit('/').next().unwrap_or(path);
    // The simulation's own rooms follow the arrows as those of a program do.
    path.starts_with("tests/") && !path.starts_with("tests/simulation/src/")
        || path.starts_with("fuzz/")
        || path.contains("/tests/")
        || name == "tests.rs"
        || name.ends_with("_test.rs")
}

/// Blanks comments and the insides of strings and character literals.
fn blank(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut out = bytes.to_vec();
    let mut at = 0;
    while at < bytes.len() {
        let end = match bytes[at] {
            b'/' if bytes.get(at + 1) == Some(&b'/') => line_end(bytes, at),
            b'/' if bytes.get(at + 1) == Some(&b'*') => comment_end(bytes, at),
            b'"' => string_end(bytes, at),
            b'r' | b'b' | b'c' if !follows_word(bytes, at) => match raw_string_end(bytes, at) {
                Some(end) => end,
                None => {
                    at += 1;
                    continue;
                }
            },
            b'\'' => match char_end(bytes, at) {
                Some(end) => end,
                None => {
                    at += 1;
                    continue;
                }
            },
            _ => {
                at += 1;
                continue;
            }
        };
        let end = end.min(bytes.len());
        out[at..end].iter_mut().filter(|byte| **byte != b'\n').for_each(|byte| *byte = b' ');
        at = end;
    }
    String::from_utf8_lossy(&out).into_owned()
}

fn follows_word(bytes: &[u8], at: usize) -> bool {
    at > 0 && (bytes[at - 1].is_ascii_alphanumeric() || bytes[at - 1] == b'_')
}

fn line_end(bytes: &[u8], at: usize) -> usize {
    bytes[at..].iter().position(|byte| *byte == b'\n').map_or(bytes.len(), |length| at + length)
}

fn comment_end(bytes: &[u8], at: usize) -> usize {
    let (mut depth, mut here) = (0usize, at);
    while here + 1 < bytes.len() {
        match &bytes[here..here + 2] {
            b"/*" => (depth, here) = (depth + 1, here + 2),
            b"*/" if depth == 1 => return here + 2,
            b"*/" => (depth, here) = (depth - 1, here + 2),
            _ => here += 1,
        }
    }
    bytes.len()
}

fn string_end(bytes: &[u8], at: usize) -> usize {
    let mut here = at + 1;
    while here < bytes.len() {
        match bytes[here] {
            b'\\' => here += 2,
            b'"' => return here + 1,
            _ => here += 1,
        }
    }
    bytes.len()
}

/// End of `r"…"`, `r#"…"#`, `br"…"`; `None` if none begins here.
fn raw_string_end(bytes: &[u8], at: usize) -> Option<usize> {
    let start = if bytes[at] == b'r' { at + 1 } else { at + 2 };
    if bytes[at] != b'r' && bytes.get(at + 1) != Some(&b'r') {
        return None;
    }
    let hashes = bytes[start.min(bytes.len())..].iter().take_while(|byte| **byte == b'#').count();
    if bytes.get(start + hashes) != Some(&b'"') {
        return None;
    }
    let close: Vec<u8> = std::iter::once(b'"').chain(std::iter::repeat_n(b'#', hashes)).collect();
    let inside = start + hashes + 1;
    let length = bytes[inside..].windows(close.len()).position(|window| window == close);
    Some(length.map_or(bytes.len(), |length| inside + length + close.len()))
}

/// End of a character literal; `None` for a lifetime.
fn char_end(bytes: &[u8], at: usize) -> Option<usize> {
    let close = |from: usize| bytes[from..].iter().take(12).position(|byte| *byte == b'\'').map(|n| from + n + 1);
    match bytes.get(at + 1)? {
        b'\\' => close(at + 3),
        first if first.is_ascii() => (bytes.get(at + 2) == Some(&b'\'')).then_some(at + 3),
        _ => close(at + 2),
    }
}

#[derive(Debug, Clone)]
struct Token {
    line: usize,
    text: String,
}

fn starts_identifier(text: &str) -> bool {
    text.chars().next().is_some_and(|c| c.is_alphabetic() || c == '_')
}

/// Identifiers, `::`, and every other character by itself.
fn tokens(code: &str) -> Vec<Token> {
    let mut found = Vec::new();
    for (at, line) in code.lines().enumerate() {
        let mut rest = line;
        while let Some(first) = rest.chars().next() {
            let length = if first.is_alphanumeric() || first == '_' {
                rest.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(rest.len())
            } else if rest.starts_with("::") {
                2
            } else {
                first.len_utf8()
            };
            let (text, after) = rest.split_at(length);
            if !first.is_whitespace() {
                found.push(Token { line: at + 1, text: text.to_owned() });
            }
            rest = after;
        }
    }
    found
}

/// Line of the brace that closes the body which opens at or behind `at`; `None` if there is no body.
fn body_end(tokens: &[Token], at: usize) -> Option<usize> {
    let (mut depth, mut nested) = (0usize, 0usize);
    for token in &tokens[at..] {
        match token.text.as_str() {
            ";" if depth == 0 && nested == 0 => return None,
            "(" | "[" if depth == 0 => nested += 1,
            ")" | "]" if depth == 0 => nested = nested.saturating_sub(1),
            "{" => depth += 1,
            "}" => {
                depth = depth.saturating_sub(1);
                if depth == 0 {
                    return Some(token.line);
                }
            }
            _ => {}
        }
    }
    None
}

/// Marks lines of test files, and of items behind `#[cfg(test)]`.
fn test_lines(path: &str, code: &str) -> Vec<bool> {
    let count = code.lines().count();
    let mut marks = vec![is_test_path(path); count];
    let tokens = tokens(code);
    for (at, window) in tokens.windows(6).enumerate() {
        let texts: Vec<&str> = window.iter().map(|token| token.text.as_str()).collect();
        if texts == ["#", "[", "cfg", "(", "test", ")"] {
            let first = window[0].line;
            // Behind the attribute's own bracket; further attributes are passed by `body_end`.
            let last = body_end(&tokens, at + 7).unwrap_or(first);
            marks[first - 1..last].fill(true);
        }
    }
    marks
}

struct PathReader<'a> {
    tokens: &'a [Token],
    at: usize,
    found: Vec<PathUse>,
}

impl PathReader<'_> {
    fn text(&self, at: usize) -> &str {
        self.tokens.get(at).map_or("", |token| token.text.as_str())
    }

    fn is_identifier(&self) -> bool {
        starts_identifier(self.text(self.at))
    }

    /// Reads `a::b::{c, d::e}` with what stands before it.
    fn path(&mut self, before: &[String]) {
        let line = self.tokens[self.at].line;
        let mut segments = before.to_vec();
        segments.push(self.text(self.at).to_owned());
        self.at += 1;
        while self.text(self.at) == "::" {
            match self.text(self.at + 1) {
                "{" => {
                    self.at += 2;
                    return self.group(&segments);
                }
                next if starts_identifier(next) => {
                    segments.push(next.to_owned());
                    self.at += 2;
                }
                _ => self.at += 1,
            }
        }
        if segments.len() > 1 {
            self.found.push(PathUse { line, segments });
        }
    }

    fn group(&mut self, before: &[String]) {
        while self.at < self.tokens.len() && self.text(self.at) != "}" {
            if self.text(self.at) == "as" {
                self.at += 2;
            } else if self.is_identifier() {
                self.path(before);
            } else {
                self.at += 1;
            }
        }
        self.at += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strings_comments_and_lifetimes_are_told_apart() {
        let text =
            "let a = \"x.unwrap()\"; // y.unwrap()\nlet b = r#\"panic!(\"\"#; /* todo!( /* */ */ f::<'a>('\"', b'x')";
        let code = Source::new("node/src/a.rs", text).code;
        for word in ["unwrap", "panic", "todo"] {
            assert!(!code.contains(word), "{code}");
        }
        assert!(code.contains("f::<'a>("), "{code}");
        assert_eq!(code.lines().count(), 2);
    }

    #[test]
    fn use_trees_are_taken_apart() {
        let source = Source::new(
            "node/src/a.rs",
            "use crate::{api::{self, Router as R}, storage::Store};\nfn f() { super::network::go() }",
        );
        let paths: Vec<String> = source.paths().iter().map(|found| found.segments.join("::")).collect();
        assert_eq!(paths, ["crate::api::self", "crate::api::Router", "crate::storage::Store", "super::network::go"]);
    }

    #[test]
    fn test_modules_are_not_product_code() {
        let text = "fn a() {}\n#[cfg(test)]\n#[allow(x)]\nmod tests {\n  fn b() { c.unwrap() }\n}\nfn d() {}\n";
        let source = Source::new("node/src/a.rs", text);
        assert_eq!(source.is_test, [false, true, true, true, true, true, false]);
        assert!(Source::new("node/src/a_test.rs", "fn a() {}").is_test_file());
    }

    #[test]
    fn functions_are_measured_with_their_signature() {
        let source = Source::new("a.rs", "trait T { fn a(&self); }\nfn b(\n  x: [u8; 2],\n) {\n  if x { y }\n}\n");
        assert_eq!(source.functions(), [Function { line: 2, name: "b".to_owned(), lines: 5 }]);
    }
}
