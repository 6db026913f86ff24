//! The configuration: redis.conf's grammar, and a value for each directive of the table.
//!
//! Values are kept in the form CONFIG GET shows; whoever needs a number reads it when the configuration changes, not for every
//! command. This file touches no disk: [`Config::read`] is given the text, and a callback that reads included files.

use crate::base::config_values::canonical;
use crate::base::config_words::{quoted_if_needed, split_bytes, split_words};
use crate::base::directive::{Class, Kind, When};
use crate::base::directives::{DIRECTIVES, REFUSED_IN_FILES, find};
use std::fmt::{self, Write as _};

/// Directives of old that say nothing any more.
const FORGOTTEN: &[&str] = &["list-max-ziplist-entries", "list-max-ziplist-value", "lua-replicate-commands"];

/// How deep files may include files.
const INCLUDE_DEPTH_MAX: usize = 16;

/// All directives with their values.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    values: Vec<String>,
    /// Given in the file or on the command line, or changed since.
    given: Vec<bool>,
    /// The last line that said something of it.
    lines: Vec<Option<Line>>,
    /// The file it was read from.
    pub file: Option<String>,
    /// Commands that are to be renamed, in the order of their lines.
    pub renames: Vec<Rename>,
    /// Users, in the order of their lines.
    pub users: Vec<UserLine>,
}

impl Default for Config {
    fn default() -> Self {
        Config {
            values: DIRECTIVES.iter().map(|directive| directive.default.to_string()).collect(),
            given: vec![false; DIRECTIVES.len()],
            lines: vec![None; DIRECTIVES.len()],
            file: None,
            renames: Vec::new(),
            users: Vec::new(),
        }
    }
}

/// A command under another name, or under none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rename {
    /// Its name so far.
    pub from: String,
    /// Its new name; empty if it is to have none.
    pub to: String,
    /// The line that says so.
    pub line: Line,
}

/// A line about a user.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UserLine {
    /// The user's name.
    pub name: Vec<u8>,
    /// What makes the user.
    pub rules: Vec<Vec<u8>>,
    /// The line that says so.
    pub line: Line,
}

/// A line of a configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// Its number, from 1.
    pub number: usize,
    /// What it says.
    pub text: String,
}

/// Why there is no configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ConfigError {
    /// A file cannot be read: the whole message.
    File(String),
    /// A line cannot be obeyed, and why.
    Line(Line, String),
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ConfigError::File(why) => f.write_str(why),
            ConfigError::Line(Line { number, text }, why) => {
                write!(f, "Reading the configuration file, at line {number}\n>>> '{text}'\n{why}")
            }
        }
    }
}

/// How many bytes of output a client of a class may have waiting.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct OutputLimit {
    /// Closed at once above this; 0 for never.
    pub hard_bytes: u64,
    /// Closed above this..
    pub soft_bytes: u64,
    /// ..for this long.
    pub soft_seconds: u64,
}

impl Config {
    fn value(&self, name: &str) -> &str {
        find(name).and_then(|index| self.values.get(index)).map_or("", String::as_str)
    }

    /// A directive's text.
    pub fn text(&self, name: &str) -> &str {
        self.value(name)
    }

    /// A directive's number; memory in bytes, above `i64::MAX` that. 0 if it is none.
    pub fn number(&self, name: &str) -> i64 {
        let value = self.value(name);
        let above = || value.parse::<u64>().map_or(0, |_| i64::MAX);
        value.parse().unwrap_or_else(|_| above())
    }

    /// Whether a directive says `yes`.
    pub fn flag(&self, name: &str) -> bool {
        self.value(name) == "yes"
    }

    /// Limit of the output of a class of clients: `normal`, `slave` or `pubsub`.
    pub fn output_limit(&self, class: &str) -> OutputLimit {
        let words = self.value("client-output-buffer-limit").split(' ');
        let numbers: Vec<u64> =
            words.skip_while(|word| *word != class).skip(1).take(3).flat_map(str::parse).collect();
        match numbers[..] {
            [hard_bytes, soft_bytes, soft_seconds] => OutputLimit { hard_bytes, soft_bytes, soft_seconds },
            _ => OutputLimit::default(),
        }
    }

    /// Value of the directive of this very name, in any case; hidden ones too.
    pub fn lookup(&self, name: &str) -> Option<&str> {
        self.values.get(find(name)?).map(String::as_str)
    }

    /// Name and value of every directive, aliases included.
    pub fn all(&self) -> impl Iterator<Item = (&'static str, &str)> {
        DIRECTIVES.iter().zip(&self.values).filter(|(directive, _)| !directive.hidden).flat_map(
            |(directive, value)| {
                std::iter::once((directive.name, value.as_str()))
                    .chain(directive.alias.map(|alias| (alias, value.as_str())))
            },
        )
    }

    /// Whether a directive was given, in a file or since.
    pub fn is_given(&self, name: &str) -> bool {
        find(name).and_then(|index| self.given.get(index)).copied().unwrap_or_default()
    }

    /// What is wrong with a directive, together with the line that said so if there was one: for what only its user can tell.
    pub fn blame(&self, name: &str, why: String) -> ConfigError {
        match find(name).and_then(|index| self.lines.get(index)?.clone()) {
            Some(line) => ConfigError::Line(line, why),
            None => ConfigError::File(why),
        }
    }

    /// Names that were given and have no effect.
    pub fn inert_given(&self) -> Vec<&'static str> {
        DIRECTIVES
            .iter()
            .zip(&self.given)
            .filter(|(directive, given)| **given && directive.class == Class::Inert)
            .map(|(directive, _)| directive.name)
            .collect()
    }

    /// Sets a directive to `words`. Errors are what CONFIG SET answers behind "CONFIG SET failed (..) - ".
    pub fn set(&mut self, index: usize, words: &[String]) -> Result<(), String> {
        let Some(directive) = DIRECTIVES.get(index) else { return Err("no such directive".into()) };
        let value = canonical(directive, self.values.get(index).map_or("", String::as_str), words)?;
        if let Class::Refused(reason) = directive.class
            && value != directive.default
        {
            return Err(reason.into());
        }
        if let (Some(slot), Some(given)) = (self.values.get_mut(index), self.given.get_mut(index)) {
            *slot = value;
            *given = true;
        }
        Ok(())
    }

    /// CONFIG SET: all pairs or none. `protected` says whether protected directives may change. Errors: the whole reply text.
    pub fn set_all(&self, pairs: &[(String, String)], protected: bool) -> Result<Config, String> {
        let mut changed = self.clone();
        let mut seen = Vec::new();
        for (name, value) in pairs {
            let Some(index) = find(name) else {
                return Err(format!("ERR Unknown option or number of arguments for CONFIG SET - '{name}'"));
            };
            let failed =
                |why: &str| format!("ERR CONFIG SET failed (possibly related to argument '{name}') - {why}");
            if seen.contains(&index) {
                return Err(failed("duplicate parameter"));
            }
            seen.push(index);
            let when = DIRECTIVES.get(index).map(|directive| directive.when);
            match when {
                Some(When::Start) => return Err(failed("can't set immutable config")),
                Some(When::Protected | When::ProtectedFixed(_)) if !protected => {
                    return Err(failed("can't set protected config"));
                }
                _ => {}
            }
            let before = changed.values.get(index).cloned();
            let words = match DIRECTIVES.get(index).map(|directive| directive.kind) {
                Some(kind) if kind.takes_several() => {
                    value.split_ascii_whitespace().map(str::to_string).collect()
                }
                _ => vec![value.clone()],
            };
            // CONFIG SET replaces all save points; a line of a file adds one.
            if DIRECTIVES.get(index).is_some_and(|directive| directive.kind == Kind::Save)
                && let Some(slot) = changed.values.get_mut(index)
            {
                slot.clear();
            }
            changed.set(index, &words).map_err(|why| failed(&why))?;
            if let Some(When::Fixed(why) | When::ProtectedFixed(why)) = when
                && changed.values.get(index) != before.as_ref()
            {
                return Err(failed(why));
            }
        }
        Ok(changed)
    }

    /// The configuration that `text` describes: a file's, what standard input said and what the command line said (see
    /// `arguments_text`), one behind the other as in Redis, with lines counted through. `include` reads
    /// included files: one, or those that a pattern finds. Comments and lines about users may hold any bytes.
    pub fn read(
        text: &[u8],
        include: &dyn Fn(&str) -> Result<Vec<Vec<u8>>, String>,
    ) -> Result<Config, ConfigError> {
        let mut reading = Reading { config: Config::default(), save_given: false, include };
        reading.apply(text, 0)?;
        Ok(reading.config)
    }

    fn begin_save(&mut self) {
        if let Some(slot) = find("save").and_then(|index| self.values.get_mut(index)) {
            slot.clear();
        }
    }

    fn apply_directive(&mut self, name: &str, values: &[String]) -> Result<(), String> {
        if let Some((_, reason)) =
            REFUSED_IN_FILES.iter().find(|(refused, _)| refused.eq_ignore_ascii_case(name))
        {
            return Err(format!("'{name}' is refused: {reason}"));
        }
        if FORGOTTEN.iter().any(|old| old.eq_ignore_ascii_case(name)) && values.len() == 1 {
            return Ok(());
        }
        let directive = find(name).and_then(|index| Some((index, DIRECTIVES.get(index)?)));
        let (index, directive) = directive.ok_or("Bad directive or wrong number of arguments")?;
        // A quoted word may hold several ("save '60 1'").
        let split = match values {
            [one] if directive.kind.takes_several() && !one.is_empty() => {
                Some(split_words(one).ok_or("Unbalanced quotes in configuration line")?)
            }
            _ => None,
        };
        self.set(index, split.as_deref().unwrap_or(values)).map_err(|why| match directive.class {
            Class::Refused(_) => format!("'{name}' is refused: {why}"),
            _ => why,
        })
    }

    /// The text of `file` rewritten so that it says what is in force: lines of directives that are there are replaced in
    /// place, others that differ from the default are added at the end, comments stay to the byte.
    /// `users` are the lines about users, without their first word.
    pub fn rewritten(&self, old: &[u8], users: &[String]) -> Vec<u8> {
        let mut users = users.iter();
        const MARK: &str = "# Generated by CONFIG REWRITE";
        let mut out = Vec::with_capacity(old.len() + 256);
        let mut written = vec![false; DIRECTIVES.len()];
        let mut marked = false;
        for line in old.split_inclusive(|byte| *byte == b'\n') {
            let line = line.strip_suffix(b"\n").unwrap_or(line);
            let line = line.strip_suffix(b"\r").unwrap_or(line);
            marked |= line == MARK.as_bytes();
            let words = split_bytes(line.trim_ascii()).unwrap_or_default();
            if words.first().is_some_and(|word| word.eq_ignore_ascii_case(b"user")) {
                // In the place of those that stand there; what is left of them goes.
                let line = users.next().map(|line| format!("user {line}\n"));
                out.extend_from_slice(line.unwrap_or_default().as_bytes());
                continue;
            }
            let words: Vec<String> =
                words.into_iter().map_while(|word| String::from_utf8(word).ok()).collect();
            let directive = words.first().filter(|word| !word.starts_with('#')).and_then(|word| find(word));
            match directive {
                Some(index) if !self.says(index, words.get(1..).unwrap_or_default()) => {
                    if !written[index] {
                        out.extend_from_slice(self.lines_of(index).as_bytes());
                    }
                }
                _ => {
                    out.extend_from_slice(line);
                    out.push(b'\n');
                }
            }
            if let Some(index) = directive {
                written[index] = true;
            }
        }
        for (index, directive) in DIRECTIVES.iter().enumerate() {
            let differs = self.values[index] != directive.default;
            if differs && !written[index] {
                if !std::mem::replace(&mut marked, true) {
                    out.extend_from_slice(format!("{MARK}\n").as_bytes());
                }
                out.extend_from_slice(self.lines_of(index).as_bytes());
            }
        }
        for line in users {
            if !std::mem::replace(&mut marked, true) {
                out.extend_from_slice(format!("{MARK}\n").as_bytes());
            }
            out.extend_from_slice(format!("user {line}\n").as_bytes());
        }
        out
    }

    /// Whether a line with these words says what is in force already. Of those that take several lines none says all of it.
    fn says(&self, index: usize, words: &[String]) -> bool {
        let (directive, value) = (&DIRECTIVES[index], &self.values[index]);
        !matches!(directive.kind, Kind::Save | Kind::OutputLimits)
            && canonical(directive, value, words).as_ref() == Ok(value)
    }

    /// The lines that say a directive's value.
    fn lines_of(&self, index: usize) -> String {
        let mut out = String::new();
        let (directive, value) = (&DIRECTIVES[index], &self.values[index]);
        match directive.kind {
            Kind::Save if value.is_empty() => out.push_str("save \"\"\n"),
            Kind::Save => {
                let numbers: Vec<&str> = value.split(' ').collect();
                for pair in numbers.chunks(2) {
                    let _ = writeln!(out, "save {}", pair.join(" "));
                }
            }
            Kind::OutputLimits => {
                let words: Vec<&str> = value.split(' ').collect();
                for four in words.chunks(4) {
                    let _ = writeln!(out, "{} {}", directive.name, four.join(" "));
                }
            }
            Kind::Words | Kind::Flags(_) if !value.is_empty() => {
                let words: Vec<String> = value.split(' ').map(quoted_if_needed).collect();
                let _ = writeln!(out, "{} {}", directive.name, words.join(" "));
            }
            _ => {
                let _ = writeln!(out, "{} {}", directive.name, quoted_if_needed(value));
            }
        }
        out
    }
}

/// A configuration while it is read.
struct Reading<'a> {
    config: Config,
    /// A `save` line was read: the first one replaces the default, each later one adds to it.
    save_given: bool,
    include: &'a dyn Fn(&str) -> Result<Vec<Vec<u8>>, String>,
}

impl Reading<'_> {
    fn apply(&mut self, text: &[u8], depth: usize) -> Result<(), ConfigError> {
        for (index, bytes) in text.split(|byte| *byte == b'\n').enumerate() {
            let bytes = bytes.trim_ascii();
            if bytes.is_empty() || bytes.starts_with(b"#") {
                continue;
            }
            let line = Line { number: index + 1, text: String::from_utf8_lossy(bytes).into_owned() };
            if let Err(why) = self.apply_line(bytes, &line, depth) {
                return Err(why.unwrap_or_else(|why| ConfigError::Line(line, why)));
            }
        }
        Ok(())
    }

    /// Errors: of an included file, whole; or what is wrong with this line.
    fn apply_line(
        &mut self,
        bytes: &[u8],
        line: &Line,
        depth: usize,
    ) -> Result<(), Result<ConfigError, String>> {
        let words =
            split_bytes(bytes).ok_or_else(|| Err("Unbalanced quotes in configuration line".into()))?;
        if let [first, name, rules @ ..] = &words[..]
            && first.eq_ignore_ascii_case(b"user")
        {
            // In bytes: names and patterns need not be text.
            return self.add_user(line, name, rules).map_err(Err);
        }
        let words: Option<Vec<_>> = words.into_iter().map(|word| String::from_utf8(word).ok()).collect();
        let words = words.ok_or_else(|| Err("what it says is not UTF-8".into()))?;
        let Some((name, values)) = words.split_first() else { return Ok(()) };
        match (name.to_ascii_lowercase().as_str(), values) {
            ("include", [path]) => {
                if depth >= INCLUDE_DEPTH_MAX {
                    return Err(Err("files include each other too deep".into()));
                }
                for text in (self.include)(path).map_err(|why| Ok(ConfigError::File(why)))? {
                    self.apply(&text, depth + 1).map_err(Ok)?;
                }
                return Ok(());
            }
            ("rename-command", [from, to]) => {
                let (from, to) = (from.clone(), to.clone());
                self.config.renames.push(Rename { from, to, line: line.clone() });
                return Ok(());
            }
            ("save", _) if !std::mem::replace(&mut self.save_given, true) => self.config.begin_save(),
            _ => {}
        }
        self.config.apply_directive(name, values).map_err(Err)?;
        if let Some(slot) = find(name).and_then(|index| self.config.lines.get_mut(index)) {
            *slot = Some(line.clone());
        }
        Ok(())
    }

    fn add_user(&mut self, line: &Line, name: &[u8], rules: &[Vec<u8>]) -> Result<(), String> {
        if self.config.users.iter().any(|user| user.name == *name) {
            let name = String::from_utf8_lossy(name);
            return Err(format!(
                "Error in user declaration '{name}': Duplicate user found. A user can only be defined once in config files"
            ));
        }
        self.config.users.push(UserLine { name: name.to_vec(), rules: rules.to_vec(), line: line.clone() });
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::config_words::arguments_text;

    fn no_include(_: &str) -> Result<Vec<Vec<u8>>, String> {
        Err("no such file".into())
    }

    fn from(text: &str) -> Result<Config, String> {
        Config::read(text.as_bytes(), &no_include).map_err(|error| error.to_string())
    }

    fn rewrite(config: &Config, old: &str) -> String {
        String::from_utf8(config.rewritten(old.as_bytes(), &[])).unwrap()
    }

    #[test]
    fn names_are_sorted_or_at_least_unique_and_defaults_are_canonical() {
        let mut seen = std::collections::HashSet::new();
        for (index, directive) in DIRECTIVES.iter().enumerate() {
            assert!(seen.insert(directive.name), "{}", directive.name);
            assert!(directive.alias.is_none_or(|alias| seen.insert(alias)), "{}", directive.name);
            let mut config = Config::default();
            let words: Vec<String> = match directive.kind {
                kind if kind.takes_several() => {
                    directive.default.split_ascii_whitespace().map(str::to_string).collect()
                }
                _ => vec![directive.default.to_string()],
            };
            if directive.kind == Kind::Save {
                config.begin_save();
            }
            config.set(index, &words).unwrap_or_else(|why| panic!("{}: {why}", directive.name));
            assert_eq!(config.values[index], directive.default, "{}", directive.name);
        }
    }

    #[test]
    fn files() {
        let text = "# comment\nport 7000\nsave 60 1\nsave 30 2\nrequirepass \"a b\\x41\"\nbind 1.2.3.4 ::1\nhz 20\n\
                    client-output-buffer-limit replica 1mb 2k 3\nmaxmemory 2gb";
        let config = from(text).unwrap();
        assert_eq!(config.number("port"), 7000);
        assert_eq!(config.text("save"), "60 1 30 2");
        assert_eq!(config.text("requirepass"), "a bA");
        assert_eq!(config.text("bind"), "1.2.3.4 ::1");
        assert_eq!(config.number("maxmemory"), 2 << 30);
        assert_eq!(
            config.text("client-output-buffer-limit"),
            "normal 0 0 0 slave 1048576 2000 3 pubsub 33554432 8388608 60"
        );
        assert_eq!(config.inert_given(), ["hz", "save"]);
        let at = |number: usize, line: &str, why: &str| {
            format!("Reading the configuration file, at line {number}\n>>> '{line}'\n{why}")
        };
        for (text, wanted) in [
            ("\n nonsense 1\r", at(2, "nonsense 1", "Bad directive or wrong number of arguments")),
            ("port \"1", at(1, "port \"1", "Unbalanced quotes in configuration line")),
            ("port", at(1, "port", "wrong number of arguments")),
            ("port x", at(1, "port x", "argument couldn't be parsed into an integer")),
            ("rename-command get", at(1, "rename-command get", "Bad directive or wrong number of arguments")),
            ("include other", "no such file".to_string()),
        ] {
            assert_eq!(from(text).unwrap_err(), wanted);
        }
        let renames = from("\nrename-command config ''\nRENAME-command get fetch").unwrap().renames;
        let shown: Vec<_> =
            renames.iter().map(|one| (one.from.as_str(), one.to.as_str(), one.line.number)).collect();
        assert_eq!(shown, [("config", "", 2), ("get", "fetch", 3)]);
        assert!(from("cluster-enabled yes").unwrap_err().contains("refused"));
        assert!(from("cluster-enabled no").is_ok());
        assert!(from("maxmemory-policy allkeys-lru").unwrap_err().contains("refused"));
        assert!(from("port 70000").unwrap_err().contains("between 0 and 65535"));
        let include = |path: &str| {
            Ok(vec![if path == "a" { b"port 1\ninclude b\n".to_vec() } else { b"\nhz x".to_vec() }])
        };
        let error = Config::read(b"include a", &include).unwrap_err().to_string();
        assert!(error.starts_with("Reading the configuration file, at line 2\n>>> 'hz x'\n"), "{error}");
        let several = Config::read(b"include *", &|_| Ok(vec![b"port 1".to_vec(), b"port 2\nhz x".to_vec()]));
        assert!(
            several
                .unwrap_err()
                .to_string()
                .starts_with("Reading the configuration file, at line 2\n>>> 'hz x'\n")
        );
        assert!(Config::read(b"include *", &|_| Ok(Vec::new())).is_ok());
        let error = Config::read(b"include a", &|_| Ok(vec![b"include a".to_vec()])).unwrap_err().to_string();
        assert!(error.ends_with("too deep"), "{error}");
    }

    #[test]
    fn what_redis_takes_and_what_it_refuses() {
        for (line, name, wanted) in [
            ("hash-max-listpack-value 1kb", "hash-max-ziplist-value", "1024"),
            ("zset-max-ziplist-value 64b", "zset-max-listpack-value", "64"),
            ("maxmemory 18446744073709551615", "maxmemory", "18446744073709551615"),
            ("maxmemory ''", "maxmemory", "0"),
            ("repl-backlog-size 1kb", "repl-backlog-size", "16384"),
            ("syslog-facility LOCAL7", "syslog-facility", "local7"),
            ("proc-title-template '{title} {{x {port}'", "proc-title-template", "{title} {{x {port}"),
            ("cluster-announce-hostname a-b.C1", "cluster-announce-hostname", "a-b.C1"),
            ("memory-budget 1mb", "memory-budget", "1048576"),
        ] {
            assert_eq!(from(line).unwrap().text(name), wanted, "{line}");
        }
        assert_eq!(from("maxmemory 18446744073709551615").unwrap().number("maxmemory"), i64::MAX);
        for line in [
            "syslog-facility foo",
            "proc-title-template {bogus}",
            "proc-title-template '{title} {server-mode}'",
            "proc-title-template a{",
            "proc-title-template ''",
            "appendfilename a/b",
            "appenddirname ''",
            "dbfilename a/b",
            "cluster-announce-hostname 'a b'",
            "memory-budget 1",
        ] {
            let error = from(line).unwrap_err();
            assert!(error.contains(&format!("at line 1\n>>> '{line}'\n")), "{error}");
        }
        let set = |name: &str, value: &str| Config::default().set_all(&[(name.into(), value.into())], false);
        for (name, value) in [("oom-score-adj", "no"), ("client-output-buffer-limit", ""), ("maxmemory", "")]
        {
            assert!(set(name, value).is_ok(), "{name}");
        }
        for name in
            ["server-cpulist", "bio-cpulist", "bgsave-cpulist", "aof_rewrite_cpulist", "socket-mark-id"]
        {
            assert!(set(name, "1").unwrap_err().ends_with("can't set immutable config"), "{name}");
        }
        // What it is already may be set, as by who copies a configuration.
        assert!(set("server-cpulist", "").is_ok());
        for name in ["databases", "unixsocket"] {
            assert!(set(name, "").is_err(), "{name}");
        }
    }

    #[test]
    fn bytes_that_are_no_text() {
        let text = b"# caf\xe9\nport 7\nuser \xff on\ninclude a\n";
        let config = Config::read(text, &|_| Ok(vec![b"#\xff\nhz 7".to_vec()])).unwrap();
        assert_eq!((config.number("port"), config.number("hz")), (7, 7));
        assert_eq!(config.users[0].name, b"\xff");
        let rewritten = config.rewritten(text, &["x on".into()]);
        assert!(rewritten.starts_with(b"# caf\xe9\nport 7\nuser x on\ninclude a\n"), "{rewritten:?}");
        for text in [&b"\nlogfile \xe9"[..], b"\n\xe9 1", b"\nlogfile \"\\xe9\""] {
            let error = Config::read(text, &no_include).unwrap_err().to_string();
            assert!(error.contains("at line 2\n") && error.ends_with("not UTF-8"), "{error}");
        }
    }

    #[test]
    fn arguments() {
        let given = |file: &str, arguments: &[&str]| {
            let arguments: Vec<String> = arguments.iter().map(|word| (*word).to_string()).collect();
            from(&format!("{file}\n{}", arguments_text(&arguments).0))
        };
        let config = given(
            "",
            &["--port", "1", "--save", "60 1", "--appendonly", "yes", "--bind", "1.1.1.1", "2.2.2.2"],
        );
        let config = config.unwrap();
        assert_eq!((config.number("port"), config.text("save")), (1, "60 1"));
        assert_eq!(config.text("bind"), "1.1.1.1 2.2.2.2");
        for (arguments, wanted) in [
            (&["--save", "100", "100"][..], "900 1 100 100"),
            (&["--save", ""], ""),
            (&["--save", "--hz", "5"], ""),
            (&["--hz", "5", "--save"], ""),
            (&["--save '60 1 70 2'"], "900 1 60 1 70 2"),
        ] {
            assert_eq!(given("save 900 1", arguments).unwrap().text("save"), wanted, "{arguments:?}");
        }
        let config =
            given("", &["loglevel", "debug", "--maxmemory '7mb'", "--proc-title-template", "--a--b"])
                .unwrap();
        assert_eq!((config.text("loglevel"), config.number("maxmemory")), ("debug", 7 << 20));
        assert_eq!(config.text("proc-title-template"), "--a--b");
        for (arguments, line, why) in [
            (&["--port"][..], "port", "wrong number of arguments"),
            (&["--port", "1", "--loglevel"], "loglevel", "wrong number of arguments"),
            (&["--port", "1", "2"], "port \"1\" \"2\"", "wrong number of arguments"),
            (
                &["--port", "--loglevel", "verbose"],
                "port \"--loglevel\" \"verbose\"",
                "wrong number of arguments",
            ),
            (
                &["--port", "--bla", "--hz", "1"],
                "port \"--bla\"",
                "argument couldn't be parsed into an integer",
            ),
            (&["--shutdown-on-sigint"], "shutdown-on-sigint", "argument(s) must be one of the following"),
        ] {
            let error = given("", arguments).unwrap_err();
            assert!(error.contains(&format!(">>> '{line}'\n{why}")), "{error}");
        }
    }

    #[test]
    fn config_set_is_all_or_nothing() {
        let config = Config::default();
        let pair = |a: &str, b: &str| (a.to_string(), b.to_string());
        assert!(config.set_all(&[pair("port", "6379"), pair("maxmemory-clients", "5%")], false).is_ok());
        let set = config.set_all(&[pair("maxmemory", "1mb"), pair("SAVE", "10 1 20 2")], false).unwrap();
        assert_eq!((set.number("maxmemory"), set.text("save")), (1 << 20, "10 1 20 2"));
        for (pairs, wanted) in [
            (vec![pair("a", "b")], "ERR Unknown option or number of arguments for CONFIG SET - 'a'"),
            (
                vec![pair("databases", "1")],
                "ERR CONFIG SET failed (possibly related to argument 'databases') - can't set immutable config",
            ),
            (
                vec![pair("workers", "7")],
                "ERR CONFIG SET failed (possibly related to argument 'workers') - changing it needs a restart",
            ),
            (
                vec![pair("maxmemory-clients", "101%")],
                "ERR CONFIG SET failed (possibly related to argument 'maxmemory-clients') - percentage argument must be less \
                 or equal to 100",
            ),
            (
                vec![pair("dir", "1")],
                "ERR CONFIG SET failed (possibly related to argument 'dir') - can't set protected config",
            ),
            (
                vec![pair("hz", "1"), pair("hz", "2")],
                "ERR CONFIG SET failed (possibly related to argument 'hz') - duplicate parameter",
            ),
            (
                vec![pair("maxmemory", "x")],
                "ERR CONFIG SET failed (possibly related to argument 'maxmemory') - argument must be a memory value",
            ),
            (
                vec![pair("appendfsync", "x")],
                "ERR CONFIG SET failed (possibly related to argument 'appendfsync') - argument(s) must be one of the \
                 following: everysec, always, no",
            ),
        ] {
            assert_eq!(config.set_all(&pairs, false).unwrap_err(), wanted);
        }
        let error = config.set_all(&[pair("dir", "1")], true).unwrap_err();
        assert!(error.ends_with("changing it needs a restart"), "where protected ones may be set: {error}");
    }

    #[test]
    fn rewrite_keeps_comments_and_reads_back_the_same() {
        let text = "# mine\nport 7000\n\nsave 60 1\nsave 5 5\nport 8000\n";
        let mut config = from(text).unwrap();
        config = config.set_all(&[("requirepass".into(), "se cret\"".into())], false).unwrap();
        config = config.set_all(&[("notify-keyspace-events".into(), "KEA".into())], false).unwrap();
        let rewritten = rewrite(&config, text);
        assert!(rewritten.starts_with("# mine\nport 8000\n\nsave 60 1\nsave 5 5\n"), "{rewritten}");
        let again = from(&rewritten).unwrap();
        assert_eq!(again.values, config.values);
        assert_eq!(again.text("notify-keyspace-events"), "AKE");
        assert_eq!(rewrite(&config, &rewritten), rewritten, "stable");
    }

    #[test]
    fn rewrite_keeps_every_class_of_output_limits() {
        let name = "client-output-buffer-limit";
        let text =
            format!("{name} normal 0 0 0\nport 1\n{name} replica 256mb 64mb 60\n{name} pubsub 32mb 8mb 60\n");
        let set = |value: &str| from(&text).unwrap().set_all(&[(name.into(), value.into())], false).unwrap();
        for value in ["normal 1 2 3", "replica 4 5 6", "pubsub 7 8 9 normal 1 1 1"] {
            let config = set(value);
            let rewritten = rewrite(&config, &text);
            assert_eq!(from(&rewritten).unwrap().text(name), config.text(name), "{rewritten}");
            assert_eq!(rewrite(&config, &rewritten), rewritten, "stable");
        }
    }

    #[test]
    fn rewrite_quotes_what_would_not_be_read_back() {
        for (name, value) in [
            ("requirepass", "a\0b\u{b}c\u{7f}"),
            ("requirepass", "\u{a0}x"),
            ("proc-title-template", "#"),
            ("latency-tracking-info-percentiles", "50 99"),
            ("oom-score-adj-values", "\"a b c"),
        ] {
            let config = Config::default().set_all(&[(name.into(), value.into())], true);
            let config = config.unwrap_or_else(|why| panic!("{name}: {why}"));
            let rewritten = rewrite(&config, "");
            assert_eq!(from(&rewritten).unwrap().text(name), config.text(name), "{rewritten:?}");
        }
    }
}
