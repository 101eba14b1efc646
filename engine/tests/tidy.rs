//! The rules of the house that no lint of the compiler holds, checked on the sources themselves.
//!
//! Every test collects all offenders and names file, line and rule. A rule that is wrong for a good reason is changed
//! here, in the open, not worked around.

// A test that cannot go on has failed; clippy knows that only of functions marked as tests.
#![allow(clippy::unwrap_used)]

use std::fs;
use std::path::{Path, PathBuf};

/// Longest source file in lines; most should stay below 500.
const LINES_MAX: usize = 700;

/// A text file of the project, its path relative to the root.
struct Source {
    path: String,
    text: String,
}

impl Source {
    fn under(&self, folder: &str) -> bool {
        self.path.starts_with(folder)
    }

    fn is_rust(&self) -> bool {
        self.path.ends_with(".rs")
    }

    /// Lines with their numbers, without comments. A `//` inside a string also cuts; no rule here minds.
    fn code(&self) -> impl Iterator<Item = (usize, &str)> {
        let code = |line| str::split(line, "//").next().unwrap_or_default();
        self.text.lines().enumerate().map(move |(n, line)| (n + 1, code(line)))
    }
}

/// Reads every text file of the project.
fn sources() -> Vec<Source> {
    fn walk(folder: &Path, root: &Path, found: &mut Vec<Source>) {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            let hidden = name.starts_with('.') && name != ".ci";
            if hidden || ["target", "corpus", "artifacts", "node_modules", "__pycache__"].contains(&name.as_str()) {
                continue;
            }
            if path.is_dir() {
                walk(&path, root, found);
            } else if name != "Cargo.lock"
                && let Ok(text) = fs::read_to_string(&path)
            {
                let path = path.strip_prefix(root).unwrap().to_string_lossy().into_owned();
                found.push(Source { path, text });
            }
        }
    }
    let root: PathBuf = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("a crate of the workspace").to_owned();
    let mut found = Vec::new();
    walk(&root, &root, &mut found);
    assert!(found.len() > 20, "the sources were found");
    found
}

/// Says whether `text` holds `word` with no letter, digit or `_` right before or after it.
fn holds(text: &str, word: &str) -> bool {
    let of_word = |c: char| c.is_alphanumeric() || c == '_';
    text.match_indices(word).any(|(at, _)| {
        let before = text[..at].chars().next_back();
        let after = text[at + word.len()..].chars().next();
        let longer_before = word.starts_with(of_word) && before.is_some_and(of_word);
        // Nor is it a word of Rust before a hyphen: policies of pages have such ones.
        let longer_after = word.ends_with(of_word) && after.is_some_and(|c| of_word(c) || c == '-');
        !longer_before && !longer_after
    })
}

/// Fails if any line of code in `sources` holds one of `words`.
fn forbid<'s>(rule: &str, sources: impl Iterator<Item = &'s Source>, words: &[&str]) {
    let mut offenders = String::new();
    for source in sources {
        for (n, line) in source.code() {
            for word in words.iter().filter(|word| holds(line, word)) {
                offenders += &format!("\n  {}:{n}: {word}", source.path);
            }
        }
    }
    assert!(offenders.is_empty(), "{rule}:{offenders}");
}

/// The messaging logic stays plain: what may stop, share, fault or allocate behind its back is not there.
#[test]
fn the_shard_is_plain() {
    let words = ["unsafe", "sync::atomic", "Rc", "RefCell", "dyn", "async", "await", "libc", "io_uring", "glommio"];
    let sources = sources();
    forbid("the shard is plain", sources.iter().filter(|s| s.under("engine/src/shard/")), &words);
}

/// What speaks with clients is replaced and added to in its own folder: nothing else of a shard knows which sessions there are.
#[test]
fn sessions_stay_in_their_rooms() {
    let sources = sources();
    let rooms = ["engine/src/shard/session/", "engine/src/shard/carrier/"];
    let inside = || sources.iter().filter(|s| rooms.iter().any(|room| s.under(room)));
    let outside = sources.iter().filter(|s| s.under("engine/src/") && !rooms.iter().any(|room| s.under(room)));
    let names =
        ["Session::Request", "Session::Poll", "Session::Stream", "Session::Raw", "Session::Line", "Session::Echo"];
    for name in names {
        let named = inside().any(|source| source.code().any(|(_, line)| holds(line, name)));
        assert!(named, "{name} is a session: this test knows all of them");
    }
    forbid("a session is named in session/ and carrier/ only", outside, &names);
}

/// Nobody has to read two files at once to understand one: what the files of a shard name of each other never leads back.
#[test]
fn no_circles_in_a_shard() {
    let sources = sources();
    let folder = "engine/src/shard/";
    let files: Vec<&Source> = sources.iter().filter(|s| s.is_rust() && s.under(folder)).collect();
    let module_of = |path: &str| {
        let path = path[folder.len()..].trim_end_matches(".rs");
        path.strip_suffix("/mod").unwrap_or(if path == "mod" { "" } else { path }).to_owned()
    };
    let modules: Vec<String> = files.iter().map(|source| module_of(&source.path)).collect();
    // The longest module that a path begins with; what is handed on by one above belongs to the one below.
    let place = |path: &str| {
        let longest = (0..modules.len()).filter(|m| {
            let module = &modules[*m];
            module.is_empty() || path == module || path.starts_with(&format!("{module}/"))
        });
        longest.max_by_key(|m| modules[*m].len())
    };
    let imports: Vec<Vec<usize>> = (0..files.len())
        .map(|n| {
            let tests = files[n].text.find("#[cfg(test)]\nmod tests").unwrap_or(files[n].text.len());
            let lines = files[n].text[..tests].lines().filter_map(|line| line.strip_prefix("use "));
            let paths = lines.filter_map(|line| {
                let path = line.trim_end_matches(';').split([' ', '{']).next()?.replace("::", "/");
                let (above, inside) = match path.split_once('/')? {
                    ("super", rest) => (modules[n].rsplit_once('/').map_or("", |(above, _)| above), rest),
                    ("crate", rest) => ("", rest.strip_prefix("shard/")?),
                    (first, _) if modules[n].is_empty() && modules.iter().any(|module| module == first) => {
                        ("", path.as_str())
                    }
                    _ => return None,
                };
                let path = format!("{above}/{inside}");
                Some(path.trim_matches('/').to_owned())
            });
            paths.filter_map(|path| place(&path)).filter(|to| *to != n).collect()
        })
        .collect();
    // Files that import nothing which is left go, again and again; what is left then leads back to itself.
    let mut left: Vec<usize> = (0..files.len()).collect();
    while let Some(at) = left.iter().position(|n| imports[*n].iter().all(|to| !left.contains(to))) {
        left.swap_remove(at);
    }
    let names: Vec<&str> = left.iter().map(|n| files[*n].path.as_str()).collect();
    assert!(names.is_empty(), "these files import each other in circles, or such that do: {names:#?}");
    let edges: usize = imports.iter().map(Vec::len).sum();
    assert!(edges > 3 * files.len(), "the imports were read: {edges} of {} files", files.len());
}

/// What the compiler cannot check has two homes: what cores share, and what is shared with the kernel.
#[test]
fn danger_is_visible_in_ls() {
    let sources = sources();
    let (io, mesh) = ("engine/src/io/", "engine/src/mesh/");
    let ours = || sources.iter().filter(|s| s.is_rust() && (s.under("engine/src/") || s.under("protocol/src/")));
    // Cores share by the mesh; in io an atomic is one end of a ring whose other end is the kernel.
    let calm = || ours().filter(|s| !s.under(io) && !s.under(mesh));
    forbid("atomics live in mesh and io", calm(), &["sync::atomic"]);
    forbid("unsafe lives in io and mesh", ours().filter(|s| !s.under(io) && !s.under(mesh)), &["unsafe"]);
    forbid("system calls live in io", ours().filter(|s| !s.under(io)), &["libc"]);
    let protocol = sources.iter().find(|s| s.path == "protocol/src/lib.rs").expect("there is a protocol crate");
    for attribute in ["#![no_std]", "#![forbid(unsafe_code)]"] {
        assert!(protocol.text.contains(attribute), "protocol/src/lib.rs says {attribute}");
    }
}

/// Names say what a thing is; what is unfinished or left over from a search for a bug is not committed.
#[test]
fn names_and_leftovers() {
    let sources = sources();
    let rust = || sources.iter().filter(|s| s.is_rust());
    // Spelt in two halves, or this file would be its own offender.
    let leftovers = [concat!("to", "do!"), concat!("db", "g!"), concat!("unimple", "mented!")];
    forbid("no leftovers", rust(), &leftovers);
    let mut offenders = String::new();
    for source in rust() {
        for (n, line) in source.code() {
            for keyword in ["struct ", "enum ", "trait ", "type ", "mod ", "fn "] {
                let name = line.split_once(keyword).map_or("", |(_, rest)| rest);
                let name: String = name.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
                let vague = ["Manager", "Helper", "Util", "Handler"].iter().any(|part| name.contains(part));
                let box_room = ["common", "misc", "util", "utils", "helpers"].contains(&name.as_str());
                if vague || box_room || (keyword == "fn " && name.starts_with("get_") && name != "get_mut") {
                    offenders += &format!("\n  {}:{n}: {keyword}{name}", source.path);
                }
            }
        }
    }
    assert!(offenders.is_empty(), "names that say nothing:{offenders}");
}

/// Every source file opens with what it owns, and stays short enough to be read in one sitting.
#[test]
fn files_have_a_header_and_an_end() {
    let mut offenders = String::new();
    // A fuzz target is one line that names a body in the crate; what it shows is said there.
    for source in sources().iter().filter(|s| s.is_rust() && !s.under("fuzz/fuzz_targets/")) {
        let first = source.text.lines().find(|line| !line.is_empty() && !line.starts_with("#!["));
        if !first.is_some_and(|line| line.starts_with("//!")) {
            offenders += &format!("\n  {}: no //! header", source.path);
        }
        let lines = source.text.lines().count();
        if lines > LINES_MAX {
            offenders += &format!("\n  {}: {lines} lines, more than {LINES_MAX}", source.path);
        }
    }
    assert!(offenders.is_empty(), "files:{offenders}");
}

/// Text files hold no tabs, no spaces at the end of a line, and end with a line feed.
#[test]
fn white_space() {
    let mut offenders = String::new();
    for source in sources() {
        for (n, line) in source.text.lines().enumerate() {
            if line.contains('\t') || line.ends_with(' ') {
                offenders += &format!("\n  {}:{}", source.path, n + 1);
            }
        }
        if !source.text.is_empty() && !source.text.ends_with('\n') {
            offenders += &format!("\n  {}: no line feed at its end", source.path);
        }
    }
    assert!(offenders.is_empty(), "white space:{offenders}");
}

/// The project means the same on every machine: no file names a place of the one it was written on.
#[test]
fn no_foreign_places() {
    let places = [concat!("/wo", "rk/"), concat!("/ro", "ot/"), concat!("../sha", "red"), concat!("/tmp/tar", "get")];
    let mut offenders = String::new();
    for source in sources() {
        for (n, line) in source.text.lines().enumerate() {
            for place in places.iter().filter(|place| line.contains(**place)) {
                offenders += &format!("\n  {}:{}: {place}", source.path, n + 1);
            }
        }
    }
    assert!(offenders.is_empty(), "foreign places:{offenders}");
}

/// Every dependency has its reason in a comment above it.
#[test]
fn dependencies_have_a_reason() {
    let mut offenders = String::new();
    for source in sources().iter().filter(|s| s.path.ends_with("Cargo.toml")) {
        let (mut section, mut before) = ("", "");
        for (n, line) in source.text.lines().enumerate() {
            if line.starts_with('[') {
                section = line;
            }
            // The workspace's own table only says where our crates lie; the reason stands where one is used.
            let dependencies = section.ends_with("dependencies]") && section != "[workspace.dependencies]";
            let names_one = line.starts_with(|c: char| c.is_ascii_alphanumeric());
            if dependencies && names_one && !before.starts_with('#') {
                offenders += &format!("\n  {}:{}: {line}", source.path, n + 1);
            }
            before = line;
        }
    }
    assert!(offenders.is_empty(), "dependencies without a reason:{offenders}");
}

/// The finder itself: whole words only, comments left out.
#[test]
fn the_finder_finds() {
    assert!(holds("let x: Rc<u8>", "Rc") && holds("(dyn Any)", "dyn") && holds("std::sync::atomic::X", "sync::atomic"));
    assert!(
        !holds("Arc<u8>", "Rc")
            && !holds("unsafe_code", "unsafe")
            && !holds("'unsafe-inline'", "unsafe")
            && !holds("dynamic", "dyn")
    );
    let source = Source { path: "a.rs".to_owned(), text: "a // unsafe\nunsafe {}\n".to_owned() };
    let found: Vec<_> = source.code().filter(|(_, line)| holds(line, "unsafe")).map(|(n, _)| n).collect();
    assert_eq!(found, [2]);
}
