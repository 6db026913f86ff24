//! The server binary: reads its arguments and hands over to the library.
#![forbid(unsafe_code)]

use haypile::base::config::Config;
use haypile::base::config_words::arguments_text;
use haypile::base::glob;
use haypile::daemon;
use haypile::server::refused;
use std::ffi::OsStr;
use std::io::{Read as _, Write as _};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

const HELP: &str = "Usage: haypile [FILE] [--directive value ..]
       haypile import DUMP.rdb [FILE] [--directive value ..]
       haypile check DIR
       haypile -v | --version
       haypile -h | --help

FILE is a configuration file in redis.conf's format; - reads one from standard input.
Each --directive sets what a line of the file would, and wins over it.

import reads a dump file of Redis (4 to 8) into the data folder, while no server uses it. Keys that are
there already are replaced.

check reads everything in a data folder, while no server uses it, and tells what is damaged or does not
agree, a line each; it ends with 1 if there is any, and with 0 and no word if all is well.

Examples:
       haypile                                  port 6379 on 127.0.0.1, data in ./haypile-data
       haypile /etc/haypile.conf
       haypile --port 7000 --dir /var/lib/haypile --memory-budget 4gb
       haypile /etc/redis/redis.conf --appendfsync always
       haypile import /var/lib/redis/dump.rdb --dir /var/lib/haypile
";

fn main() -> ExitCode {
    let arguments: Result<Vec<String>, _> =
        std::env::args_os().skip(1).map(|word| word.into_string()).collect();
    let result = match arguments {
        Ok(arguments) if arguments.first().is_some_and(|word| word == "check") => {
            return check(&arguments[1..]);
        }
        Ok(arguments) => start(&arguments),
        Err(word) => Err(format!("argument {word:?} is not UTF-8")),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(line) => {
            match line.starts_with('\n') {
                true => eprintln!("{line}"),
                false => eprintln!("haypile: {line}"),
            }
            ExitCode::FAILURE
        }
    }
}

/// `haypile check DIR`
fn check(arguments: &[String]) -> ExitCode {
    let [dir] = arguments else {
        eprintln!("haypile: check: which data folder, and nothing else");
        return ExitCode::FAILURE;
    };
    let mut report = |line: &str| {
        // Whoever reads may have seen enough.
        let _ = writeln!(std::io::stdout(), "{line}");
    };
    match haypile::server::check(dir, &mut report) {
        Ok(0) => ExitCode::SUCCESS,
        Ok(_) => ExitCode::FAILURE,
        Err(why) => {
            eprintln!("haypile: {why}");
            ExitCode::FAILURE
        }
    }
}

fn start(arguments: &[String]) -> Result<(), String> {
    if arguments.first().is_some_and(|word| word == "import") {
        let dump = arguments.get(1).ok_or("import: which dump file?")?;
        return haypile::server::import(configure(&arguments[2..])?, dump);
    }
    match arguments.first().map(String::as_str) {
        Some("-h" | "--help") => {
            print!("{HELP}");
            return Ok(());
        }
        Some("-v" | "--version") => {
            println!("haypile {}", env!("CARGO_PKG_VERSION"));
            return Ok(());
        }
        _ => {}
    }
    let config = configure(arguments)?;
    if daemon::detach(&config, &std::env::args_os().skip(1).collect::<Vec<_>>())? {
        return Ok(());
    }
    haypile::server::run(config)
}

/// The configuration: a file, if one is named first, standard input, if `-` says so, and directives.
fn configure(arguments: &[String]) -> Result<Config, String> {
    let (file, rest) = match arguments.split_first() {
        Some((file, rest)) if !file.starts_with('-') => (Some(file), rest),
        _ => (None, arguments),
    };
    let (given, from_input) = arguments_text(rest);
    let mut text = file.map(|file| read(file)).transpose().map_err(refused)?.unwrap_or_default();
    if from_input {
        if !text.is_empty() && !text.ends_with(b"\n") {
            text.push(b'\n');
        }
        let input = std::io::stdin().read_to_end(&mut text);
        input.map_err(|error| format!("standard input: {error}"))?;
    }
    if !given.is_empty() {
        text.push(b'\n');
        text.extend_from_slice(given.as_bytes());
    }
    let mut config = Config::read(&text, &read_included).map_err(refused)?;
    config.file = file.and_then(|file| std::path::absolute(file).ok()).map(|path| path.display().to_string());
    Ok(config)
}

#[expect(clippy::disallowed_methods, reason = "the configuration is read before there is an Env")]
fn read(path: &str) -> Result<Vec<u8>, String> {
    std::fs::read(path).map_err(|error| format!("Fatal error, can't open config file '{path}': {error}"))
}

/// What `include` names: a file, or those that a pattern finds, in order. That may be none, as in Redis.
fn read_included(path: &str) -> Result<Vec<Vec<u8>>, String> {
    if !is_pattern(path) {
        return Ok(vec![read(path)?]);
    }
    let mut found = vec![PathBuf::new()];
    for part in Path::new(path).components() {
        let pattern = part.as_os_str();
        if is_pattern(&pattern.to_string_lossy()) {
            found = found.iter().flat_map(|folder| entries(folder, pattern)).collect();
        } else {
            found.iter_mut().for_each(|path| path.push(part));
        }
    }
    found.retain(|path| path.is_file());
    found.iter().map(|path| read(&path.display().to_string())).collect()
}

fn is_pattern(path: &str) -> bool {
    path.contains(['*', '?', '['])
}

/// What a pattern finds in a folder, sorted; hidden files only if it says so.
fn entries(folder: &Path, pattern: &OsStr) -> Vec<PathBuf> {
    let own = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
    let Ok(entries) = std::fs::read_dir(own) else { return Vec::new() };
    let pattern = pattern.as_bytes();
    let mut names: Vec<_> = entries.flatten().map(|entry| entry.file_name()).collect();
    names.retain(|name| {
        let is_hidden = name.as_bytes().starts_with(b".");
        (!is_hidden || pattern.starts_with(b".")) && glob::matches(pattern, name.as_bytes())
    });
    names.sort();
    names.iter().map(|name| folder.join(name)).collect()
}
