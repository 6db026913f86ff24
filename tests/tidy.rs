//! Style that a compiler does not check, as a test: the law of floors, where `unsafe` may stand, notes beside it, no leftovers.
//!
//! The law: a folder is a floor. A file imports from lower floors, or from files listed above it in its own folder's `mod.rs`.
//! `lib.rs` lists the floors from the bottom up. `lib.rs` and `mod.rs` hold docs, `mod` and `pub use` only, and no file of a
//! crate imports through them. So imports strictly descend and a circle cannot be written.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};

/// Files that may hold `unsafe`; the head of each says why.
const UNSAFE_FILES: &[&str] = &[
    "lsm/src/memtable/maps.rs",
    "lsm/src/memtable/arena.rs",
    "lsm/src/memtable/skiplist.rs",
    "lsm/src/memtable/hash_index.rs",
    "lsm/src/cache/block_cache.rs",
    "lsm/src/db/view.rs",
];

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn rust_files(dir: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    let mut folders = vec![dir.to_path_buf()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|e| e == "rs") {
                files.push(path);
            }
        }
    }
    files.sort();
    files
}

/// Names behind `pub mod` or `mod` in a file, in order.
fn modules(text: &str) -> Vec<String> {
    text.lines()
        .filter_map(|line| {
            let line = line.trim();
            let rest = line.strip_prefix("pub mod ").or_else(|| line.strip_prefix("mod "))?;
            Some(rest.strip_suffix(';')?.to_string())
        })
        .collect()
}

/// Rank of each module path ("floor" or "floor::file" or deeper) of a crate, from the bottom up.
fn ranks(src: &Path) -> HashMap<String, usize> {
    fn walk(folder: &Path, listing: &Path, prefix: &str, ranks: &mut HashMap<String, usize>) {
        for module in modules(&fs::read_to_string(listing).unwrap()) {
            let path = if prefix.is_empty() { module.clone() } else { format!("{prefix}::{module}") };
            let inner = folder.join(&module).join("mod.rs");
            if inner.exists() {
                walk(&folder.join(&module), &inner, &path, ranks);
            }
            let rank = ranks.len();
            ranks.insert(path, rank);
        }
    }
    let mut all = HashMap::new();
    walk(src, &src.join("lib.rs"), "", &mut all);
    all
}

/// `crate::...` paths that a file's production code imports, one per name in braces.
fn imports(text: &str) -> Vec<String> {
    let production = text.split("#[cfg(test)]\nmod ").next().unwrap_or(text);
    let production = production.split("\n#[cfg(all(test").next().unwrap_or(production);
    // One line without comments, so that a list in braces may be broken over several.
    let code =
        production.lines().map(|line| line.split("//").next().unwrap_or("")).collect::<Vec<_>>().join(" ");
    let code = code.replace("pub(in crate::", "pub(in ");
    let mut found = Vec::new();
    let mut rest = code.as_str();
    while let Some(at) = rest.find("crate::") {
        let before = rest[..at].chars().next_back();
        let path = &rest[at + 7..];
        if before.is_none_or(|c| !c.is_alphanumeric() && c != '_') {
            let end =
                path.find(|c: char| !(c.is_alphanumeric() || c == '_' || c == ':')).unwrap_or(path.len());
            let stem = path[..end].trim_end_matches(':').to_string();
            match path[end..].strip_prefix('{') {
                Some(names) => {
                    for name in names.split(['}', ';']).next().unwrap_or("").split(',') {
                        let name = name.trim().split([' ', ':', '{']).next().unwrap_or("");
                        if !name.is_empty() {
                            found.push(format!("{stem}::{name}"));
                        }
                    }
                }
                None => found.push(stem),
            }
        }
        rest = &rest[at + 7..];
    }
    found
}

/// What is wrong with a file's imports, given the ranks of its crate.
fn breaches(module: &str, text: &str, ranks: &HashMap<String, usize>) -> Vec<String> {
    let own = ranks[module];
    let mut wrong = Vec::new();
    for path in imports(text) {
        let parts = path.split("::").collect::<Vec<_>>();
        let target = (1..=parts.len()).rev().map(|n| parts[..n].join("::")).find(|p| ranks.contains_key(p));
        match target {
            None => wrong.push(format!("{module} imports `{path}` through the facade")),
            Some(target) if target == module => {}
            Some(target) if ranks[&target] < own => {}
            Some(target) => wrong.push(format!("{module} imports upward from {target}")),
        }
    }
    if text.contains("use super::super") {
        wrong.push(format!("{module} imports through super::super"));
    }
    wrong
}

fn check_crate(src: &Path) -> Vec<String> {
    let ranks = ranks(src);
    let mut wrong = Vec::new();
    for file in rust_files(src) {
        let relative = file.strip_prefix(src).unwrap().with_extension("");
        let name = relative.to_string_lossy().replace('/', "::");
        if name == "main" || name.starts_with("bin::") || name == "lib" || name.ends_with("::mod") {
            continue;
        }
        if !ranks.contains_key(&name) {
            wrong.push(format!("{name} is reached by no mod.rs"));
            continue;
        }
        wrong.extend(breaches(&name, &fs::read_to_string(&file).unwrap(), &ranks));
    }
    wrong
}

#[test]
fn the_law_of_floors_holds() {
    let mut wrong = Vec::new();
    for src in ["lsm/src", "resp/src", "src"] {
        wrong.extend(check_crate(&root().join(src)));
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn the_check_sees_a_breach() {
    let ranks = ["base::error", "base", "env::env", "env"]
        .iter()
        .enumerate()
        .map(|(n, p)| (p.to_string(), n))
        .collect();
    assert!(breaches("env::env", "use crate::base::error::{Error, Result};\n", &ranks).is_empty());
    assert_eq!(breaches("base::error", "use crate::env::env::Env;\n", &ranks).len(), 1);
    assert_eq!(breaches("env::env", "use crate::Error;\n", &ranks).len(), 1);
    assert!(breaches("base::error", "// see crate::env::env\n", &ranks).is_empty());
}

#[test]
fn facades_hold_no_code() {
    for src in ["lsm/src", "resp/src", "src"] {
        for file in rust_files(&root().join(src)) {
            let name = file.file_name().unwrap();
            if name != "lib.rs" && name != "mod.rs" {
                continue;
            }
            let text = fs::read_to_string(&file).unwrap();
            for line in text.lines() {
                assert!(
                    !line.trim_start().starts_with("fn ") && !line.trim_start().starts_with("pub fn "),
                    "{file:?}: {line}"
                );
            }
        }
    }
}

#[test]
fn unsafe_stands_only_where_it_is_named() {
    for src in ["lsm/src", "resp/src", "src"] {
        for file in rust_files(&root().join(src)) {
            let relative = file.strip_prefix(root()).unwrap().to_string_lossy().into_owned();
            let text = fs::read_to_string(&file).unwrap();
            let has = text.lines().any(|line| {
                let code = line.split("//").next().unwrap_or("");
                code.contains("unsafe {") || code.contains("unsafe impl") || code.contains("unsafe fn")
            });
            assert!(!has || UNSAFE_FILES.contains(&relative.as_str()), "{relative} holds unsafe code");
        }
    }
    for crate_root in ["resp/src/lib.rs", "src/lib.rs", "src/main.rs"] {
        let text = fs::read_to_string(root().join(crate_root)).unwrap();
        assert!(text.contains("#![forbid(unsafe_code)]"), "{crate_root} does not forbid unsafe code");
    }
}

#[test]
fn nothing_is_left_for_later() {
    for src in ["lsm/src", "resp/src", "src"] {
        for file in rust_files(&root().join(src)) {
            let text = fs::read_to_string(&file).unwrap();
            for word in [
                concat!("TO", "DO"),
                concat!("FIX", "ME"),
                concat!("todo", "!("),
                concat!("unimplemented", "!("),
            ] {
                assert!(!text.contains(word), "{file:?} holds {word}");
            }
            assert!(text.trim_start().starts_with("//!"), "{file:?} does not open with what it is");
        }
    }
}
