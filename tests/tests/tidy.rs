//! The repository polices itself: which module may use which, where unsafe code may stand, how long things may get.

use std::fs;
use std::path::{Path, PathBuf};

/// Modules of the switch and the modules each may use. What is not listed is refused.
const MAY_USE: &[(&str, &[&str])] = &[
    ("ids", &["limits"]),
    ("limits", &[]),
    ("stats", &["ids", "limits"]),
    ("config", &["ids", "limits"]),
    ("port", &["ids", "limits"]),
    ("table", &["ids", "limits"]),
    ("path", &["ids", "limits", "port", "stats", "table"]),
    ("worker", &["ids", "limits", "path", "port", "stats", "table"]),
    ("host", &["ids", "limits", "path", "port", "stats", "table", "worker"]),
    ("control", &["config", "host", "ids", "limits", "path", "port", "stats", "table", "worker"]),
    ("main", &["config", "control", "host", "ids", "limits", "port", "table", "worker"]),
];

/// Where unsafe code may stand: the AF_XDP ports, the measuring rig's generators (AF_XDP rings) and its way into libbpf
/// (every function of which is foreign).
const MAY_BE_UNSAFE: &[&str] = &["switch/src/port/afxdp/", "bench/src/load/", "bench/src/bpf/"];

/// Longest file, in lines; tests may be a little longer.
const FILE_LINES_MAX: usize = 600;
const TEST_FILE_LINES_MAX: usize = 700;

/// Longest function, in lines, and longest line, in characters; what stands in a literal does not count.
const FUNCTION_LINES_MAX: usize = 70;
const LINE_MAX: usize = 120;

/// Macros that mark something unfinished.
const UNFINISHED: &[&str] = &["todo!", "unimplemented!", "dbg!"];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the package lies in the workspace")
}

/// A Rust file of the repository.
struct Source {
    /// From the root, with forward slashes.
    name: String,
    text: String,
    /// The text with comments and literals blanked out.
    code: String,
}

/// Files below `directory` with one of these extensions, without build output.
fn files(directory: &Path, extensions: &[&str]) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let Ok(entries) = fs::read_dir(directory) else { return found };
    for path in entries.map(|entry| entry.expect("a readable directory").path()) {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if path.is_dir() && name != "target" && !name.starts_with('.') {
            found.extend(files(&path, extensions));
        } else if path.extension().is_some_and(|extension| extensions.iter().any(|wanted| extension == *wanted)) {
            found.push(path);
        }
    }
    found.sort();
    found
}

fn name_of(path: &Path) -> String {
    path.strip_prefix(root()).expect("below the root").to_string_lossy().replace('\\', "/")
}

fn sources() -> Vec<Source> {
    let source = |path: PathBuf| {
        let text = fs::read_to_string(&path).expect("a UTF-8 file");
        Source { name: name_of(&path), code: code_of(&text), text }
    };
    files(root(), &["rs"]).into_iter().map(source).collect()
}

/// `text` with comments, strings and characters replaced by blanks; lines stay where they are.
fn code_of(text: &str) -> String {
    blanked(text, false)
}

/// `text` with literals replaced by blanks, and comments too unless they are kept.
fn blanked(text: &str, keep_comments: bool) -> String {
    let chars: Vec<char> = text.chars().collect();
    let mut code = String::with_capacity(text.len());
    let mut at = 0;
    while at < chars.len() {
        let end = literal_end(&chars, at);
        if keep_comments && chars[at] == '/' && end > at {
            code.extend(&chars[at..end]);
            at = end;
        } else if end == at {
            code.push(chars[at]);
            at += 1;
        } else {
            code.extend(chars[at..end].iter().map(|&c| if c == '\n' { '\n' } else { ' ' }));
            at = end;
        }
    }
    code
}

/// Where the comment or literal that starts at `at` ends; `at` if none does.
fn literal_end(chars: &[char], at: usize) -> usize {
    let next = |offset: usize| chars.get(at + offset).copied().unwrap_or('\n');
    let after_name = at > 0 && (chars[at - 1].is_alphanumeric() || chars[at - 1] == '_');
    match chars[at] {
        '/' if next(1) == '/' => find(chars, at, "\n"),
        '/' if next(1) == '*' => find(chars, at + 2, "*/"),
        '"' => quoted_end(chars, at, '"'),
        '\'' if next(1) == '\\' || next(2) == '\'' => quoted_end(chars, at, '\''),
        'r' if !after_name && (next(1) == '"' || next(1) == '#') => {
            let hashes = chars[at + 1..].iter().take_while(|&&c| c == '#').count();
            if next(1 + hashes) != '"' {
                return at;
            }
            find(chars, at + hashes + 2, &format!("\"{}", "#".repeat(hashes)))
        }
        _ => at,
    }
}

/// Behind the next `pattern` from `from` on, or the end.
fn find(chars: &[char], from: usize, pattern: &str) -> usize {
    let pattern: Vec<char> = pattern.chars().collect();
    let start = chars.get(from..).unwrap_or(&[]).windows(pattern.len()).position(|window| window == pattern);
    start.map_or(chars.len(), |start| from + start + pattern.len())
}

fn quoted_end(chars: &[char], at: usize, quote: char) -> usize {
    let mut end = at + 1;
    while end < chars.len() && chars[end] != quote {
        end += if chars[end] == '\\' { 2 } else { 1 };
    }
    (end + 1).min(chars.len())
}

/// Positions of `word` in `code` where it is not part of a longer name.
fn words<'a>(code: &'a str, word: &'a str) -> impl Iterator<Item = usize> + 'a {
    let is_name = |c: char| c.is_alphanumeric() || c == '_';
    code.match_indices(word).map(|(at, _)| at).filter(move |&at| {
        !code[..at].chars().next_back().is_some_and(is_name)
            && !code[at + word.len()..].chars().next().is_some_and(is_name)
    })
}

fn line_of(code: &str, at: usize) -> usize {
    code[..at].matches('\n').count() + 1
}

/// First names of the paths that start with `prefix`, with their lines: `crate::a::b`, `crate::{a, b::c}`.
fn used_modules(code: &str, prefix: &str) -> Vec<(usize, String)> {
    let mut used = Vec::new();
    for (at, _) in code.match_indices(prefix) {
        let rest = &code[at + prefix.len()..];
        let list = rest.strip_prefix('{').map_or(rest, |list| &list[..closing(list)]);
        let parts = if rest.starts_with('{') { split_list(list) } else { vec![list] };
        for part in parts {
            let name: String = part.trim().chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
            used.push((line_of(code, at), name));
        }
    }
    used
}

/// Length of the text up to the brace that closes one already open.
fn closing(text: &str) -> usize {
    let mut depth = 1;
    for (at, c) in text.char_indices() {
        depth += i32::from(c == '{') - i32::from(c == '}');
        if depth == 0 {
            return at;
        }
    }
    text.len()
}

/// The parts of a use list, separated by commas that stand in no inner braces.
fn split_list(list: &str) -> Vec<&str> {
    let mut depth = 0;
    let separator = move |c: char| {
        depth += i32::from(c == '{') - i32::from(c == '}');
        c == ',' && depth == 0
    };
    list.split(separator).filter(|part| !part.trim().is_empty()).collect()
}

/// First lines and lengths of all functions, by their braces.
fn functions(code: &str) -> Vec<(usize, usize)> {
    let mut found = Vec::new();
    for at in words(code, "fn") {
        let rest = &code[at..];
        let named = rest[2..].trim_start().starts_with(|c: char| c.is_alphabetic() || c == '_');
        let Some(open) = body(rest).filter(|_| named) else { continue };
        let end = open + 1 + closing(&rest[open + 1..]);
        found.push((line_of(code, at), rest[..end].matches('\n').count() + 1));
    }
    found
}

/// Where the body of the function at the start of `text` opens, if it has one.
fn body(text: &str) -> Option<usize> {
    let mut nested = 0;
    for (at, c) in text.char_indices() {
        match c {
            '(' | '[' => nested += 1,
            ')' | ']' => nested -= 1,
            // A constant in braces stands behind `<` or `,` (`ArrayVec<T, { N }>`); a body behind a type or `)`.
            '{' if nested == 0 && !text[..at].trim_end().ends_with(['<', ',']) => return Some(at),
            ';' if nested == 0 => return None,
            _ => {}
        }
    }
    None
}

fn report(rule: &str, broken: Vec<String>) {
    assert!(broken.is_empty(), "{rule}:\n  {}", broken.join("\n  "));
}

#[test]
fn modules_use_only_what_they_may() {
    let mut broken = Vec::new();
    for source in sources() {
        let Some(path) = source.name.strip_prefix("switch/src/").filter(|path| *path != "lib.rs") else { continue };
        let module = path.split(['/', '.']).next().unwrap_or_default();
        let Some((_, allowed)) = MAY_USE.iter().find(|(name, _)| *name == module) else {
            broken.push(format!("{}: module {module} has no entry in MAY_USE", source.name));
            continue;
        };
        let mut used = used_modules(&source.code, "crate::");
        used.extend(used_modules(&source.code, "switch::"));
        for (line, name) in used {
            if name != module && !allowed.contains(&name.as_str()) {
                broken.push(format!("{}:{line}: {module} may not use {name}", source.name));
            }
        }
    }
    report("dependencies point one way", broken);
}

#[test]
fn only_main_names_the_afxdp_ports() {
    let mut broken = Vec::new();
    for source in sources() {
        let is_free = |name: &str| name == "switch/src/main.rs" || name.starts_with("switch/src/port/");
        if source.name.starts_with("switch/src/") && !is_free(&source.name) {
            broken.extend(
                words(&source.code, "afxdp").map(|at| format!("{}:{}", source.name, line_of(&source.code, at))),
            );
        }
    }
    report("only main.rs names port::afxdp", broken);
}

#[test]
fn unsafe_code_stands_where_it_may() {
    let mut broken = Vec::new();
    for source in sources().iter().filter(|source| !MAY_BE_UNSAFE.iter().any(|place| source.name.starts_with(place))) {
        broken.extend(words(&source.code, "unsafe").map(|at| format!("{}:{}", source.name, line_of(&source.code, at))));
    }
    report("no unsafe code outside the places listed in MAY_BE_UNSAFE", broken);
}

#[test]
fn files_functions_and_lines_are_short() {
    let mut broken = Vec::new();
    for source in sources() {
        let is_test = source.name.starts_with("tests/") || source.name.contains("tests");
        let lines_max = if is_test { TEST_FILE_LINES_MAX } else { FILE_LINES_MAX };
        let lines = source.text.lines().count();
        if lines > lines_max {
            broken.push(format!("{}: {lines} lines, at most {lines_max}", source.name));
        }
        for (line, length) in functions(&source.code).into_iter().filter(|(_, length)| *length > FUNCTION_LINES_MAX) {
            broken.push(format!("{}:{line}: a function of {length} lines, at most {FUNCTION_LINES_MAX}", source.name));
        }
        for (at, (line, kept)) in source.text.lines().zip(blanked(&source.text, true).lines()).enumerate() {
            let length = line.chars().zip(kept.chars()).filter(|(is, kept)| is == kept).count();
            if length > LINE_MAX {
                broken.push(format!("{}:{}: {length} characters, at most {LINE_MAX}", source.name, at + 1));
            }
        }
    }
    report("files, functions and lines stay short", broken);
}

#[test]
fn nothing_is_left_unfinished() {
    let mut broken = Vec::new();
    for source in sources() {
        for mark in UNFINISHED {
            let marks =
                words(&source.code, mark.trim_end_matches('!')).filter(|at| source.code[*at..].starts_with(mark));
            broken.extend(marks.map(|at| format!("{}:{}: {mark}", source.name, line_of(&source.code, at))));
        }
    }
    report("no unfinished code", broken);
}

#[test]
fn every_module_says_what_it_is() {
    let silent = |source: &Source| !source.text.trim_start().starts_with("//!");
    let broken = sources().iter().filter(|source| silent(source)).map(|source| source.name.clone()).collect();
    report("every file starts with a //! header", broken);
}

#[test]
fn text_uses_plain_hyphens() {
    let mut broken = Vec::new();
    for path in files(root(), &["rs", "md", "toml", "sh"]) {
        let text = fs::read_to_string(&path).expect("a UTF-8 file");
        let dashed = text.lines().enumerate().filter(|(_, line)| line.contains(['\u{2013}', '\u{2014}']));
        broken.extend(dashed.map(|(at, _)| format!("{}:{}", name_of(&path), at + 1)));
    }
    report("no typographic dashes", broken);
}

#[test]
fn the_readme_explains_every_configuration() {
    let Ok(readme) = fs::read_to_string(root().join("README.md")) else { return };
    let configs = files(&root().join("configs"), &["toml"]);
    let unnamed = configs.iter().map(|path| name_of(path)).filter(|name| !readme.contains(name.as_str()));
    report("README.md names every file of configs/", unnamed.collect());
}

#[test]
fn the_reader_of_code_reads_code() {
    let text = concat!(
        "fn a<'x>(c: &'x str) { // unsafe\n",
        "  let q = '\"'; let s = \"unsafe \\\" }\"; /* unsafe */ r#\"un\"safe\"#; }\nunsafe"
    );
    let code = code_of(text);
    assert_eq!(words(&code, "unsafe").collect::<Vec<_>>(), [text.len() - 6]);
    assert_eq!(functions(&code), [(1, 2)]);
    let used = used_modules("use crate::{ids::{A, B}, table};\nlet x = crate::path::y;", "crate::");
    let used: Vec<_> = used.iter().map(|(line, name)| (*line, name.as_str())).collect();
    assert_eq!(used, [(1, "ids"), (1, "table"), (2, "path")]);
    assert_eq!(functions("fn f(a: [u8; 2]) -> V<u8, { 1 + 1 }>\n{\n}\ntrait T { fn g(); }\n"), [(1, 3)]);
}
