//! The configuration: redis.conf's grammar, and a value for each directive of the table.
//!
//! Values are kept in the form CONFIG GET shows; whoever needs a number reads it when the configuration changes, not for every
//! command. This file touches no disk: [`Config::apply_file`] is given the text, and a callback that reads included files.

use crate::base::config_values::canonical;
use crate::base::config_words::{quoted, split_words};
use crate::base::directive::{Class, Kind, When};
use crate::base::directives::{DIRECTIVES, REFUSED_IN_FILES, find};
use crate::base::words;
use std::fmt::Write as _;

/// How deep files may include files.
const INCLUDE_DEPTH_MAX: usize = 16;

/// A line about a user.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UserLine {
    /// Where it stands, for messages.
    pub place: String,
    /// Its name and rules.
    pub words: Vec<Vec<u8>>,
}

/// All directives with their values.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    values: Vec<String>,
    /// Given in the file or on the command line, or changed since.
    given: Vec<bool>,
    /// Users that it names, as they stand there.
    pub users: Vec<UserLine>,
    /// The file it was read from.
    pub file: Option<String>,
}

impl Default for Config {
    fn default() -> Self {
        Config {
            values: DIRECTIVES.iter().map(|directive| directive.default.to_string()).collect(),
            given: vec![false; DIRECTIVES.len()],
            users: Vec::new(),
            file: None,
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

    /// A directive's number; memory in bytes. 0 if it is none.
    pub fn number(&self, name: &str) -> i64 {
        self.value(name).parse().unwrap_or(0)
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
                Some(When::Protected) if !protected => return Err(failed("can't set protected config")),
                _ => {}
            }
            let before = changed.values.get(index).cloned();
            let words = match DIRECTIVES.get(index).map(|directive| directive.kind) {
                Some(Kind::Save | Kind::OutputLimits | Kind::Words) => {
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
            if let Some(When::Fixed(why)) = when
                && changed.values.get(index) != before.as_ref()
            {
                return Err(failed(why));
            }
        }
        Ok(changed)
    }

    /// Applies the text of a file. `name` is for messages; `include` reads an included file.
    pub fn apply_file(
        &mut self,
        name: &str,
        text: &str,
        include: &dyn Fn(&str) -> Result<String, String>,
    ) -> Result<(), String> {
        self.apply_file_at(name, text, include, 0)
    }

    fn apply_file_at(
        &mut self,
        name: &str,
        text: &str,
        include: &dyn Fn(&str) -> Result<String, String>,
        depth: usize,
    ) -> Result<(), String> {
        if depth > INCLUDE_DEPTH_MAX {
            return Err(format!("{name}: files include each other too deep"));
        }
        let mut save_given = false;
        for (number, line) in text.lines().enumerate() {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let at = |why: String| format!("{name}:{}: {why}", number + 1);
            let words = split_words(line).ok_or_else(|| at("unbalanced quotes".into()))?;
            let Some((directive, values)) = words.split_first() else { continue };
            if directive.eq_ignore_ascii_case("user") {
                // Bytes: names and patterns need not be text.
                let words = words::split(line.as_bytes()).unwrap_or_default().split_off(1);
                self.users.push(UserLine { place: format!("{name}:{}", number + 1), words });
                continue;
            }
            if directive.eq_ignore_ascii_case("include") {
                for path in values {
                    let text = include(path).map_err(|why| at(format!("include {path}: {why}")))?;
                    self.apply_file_at(path, &text, include, depth + 1)?;
                }
                continue;
            }
            if directive.eq_ignore_ascii_case("save") && !save_given {
                save_given = true;
                self.begin_save();
            }
            self.apply_directive(directive, values).map_err(at)?;
        }
        Ok(())
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
        let index = find(name).ok_or_else(|| format!("unknown directive '{name}'"))?;
        let refused = DIRECTIVES.get(index).is_some_and(|d| matches!(d.class, Class::Refused(_)));
        self.set(index, values).map_err(|why| {
            if refused { format!("'{name}' is refused: {why}") } else { format!("'{name}': {why}") }
        })
    }

    /// Applies `--directive value ..` arguments.
    pub fn apply_arguments(&mut self, arguments: &[String]) -> Result<(), String> {
        let mut rest = arguments;
        let mut save_given = false;
        while let Some((first, after)) = rest.split_first() {
            let Some(name) = first.strip_prefix("--").filter(|name| !name.is_empty()) else {
                return Err(format!("unexpected argument '{first}' (directives begin with --)"));
            };
            let count = after.iter().take_while(|word| !word.starts_with("--")).count();
            let (values, next) = after.split_at(count);
            if name.eq_ignore_ascii_case("user") {
                let words = values.iter().map(|word| word.clone().into_bytes()).collect();
                self.users.push(UserLine { place: "--user".into(), words });
                rest = next;
                continue;
            }
            if name.eq_ignore_ascii_case("save") && !save_given {
                save_given = true;
                self.begin_save();
            }
            // A quoted argument may hold several words ("--save '60 1'").
            let split = find(name).and_then(|index| DIRECTIVES.get(index)).is_some_and(|directive| {
                matches!(directive.kind, Kind::Save | Kind::OutputLimits | Kind::Words)
            });
            let words: Vec<String> = if split {
                values.iter().flat_map(|value| value.split_ascii_whitespace().map(str::to_string)).collect()
            } else {
                values.to_vec()
            };
            self.apply_directive(name, &words)?;
            rest = next;
        }
        Ok(())
    }

    /// The text of `file` rewritten so that it says what is in force: lines of directives that are there are replaced in
    /// place, others that differ from the default are added at the end, comments stay.
    /// `users` are the lines about users, without their first word.
    pub fn rewritten(&self, old: &str, users: &[String]) -> String {
        let mut users = users.iter();
        const MARK: &str = "# Generated by CONFIG REWRITE";
        let mut out = String::with_capacity(old.len() + 256);
        let mut written = vec![false; DIRECTIVES.len()];
        let mut marked = false;
        for line in old.lines() {
            marked |= line == MARK;
            let words = split_words(line.trim()).unwrap_or_default();
            let directive = words.first().filter(|word| !word.starts_with('#')).and_then(|word| find(word));
            if words.first().is_some_and(|word| word.eq_ignore_ascii_case("user")) {
                // In the place of those that stand there; what is left of them goes.
                let line = users.next().map(|line| format!("user {line}\n"));
                out.push_str(&line.unwrap_or_default());
                continue;
            }
            match directive {
                Some(index) => {
                    let first = !std::mem::replace(&mut written[index], true);
                    if self.says(index, words.get(1..).unwrap_or_default()) {
                        out.push_str(line);
                        out.push('\n');
                    } else if first {
                        self.write_line(index, &mut out);
                    }
                }
                None => {
                    out.push_str(line);
                    out.push('\n');
                }
            }
        }
        for (index, directive) in DIRECTIVES.iter().enumerate() {
            let differs = self.values[index] != directive.default;
            if differs && !written[index] {
                if !std::mem::replace(&mut marked, true) {
                    let _ = writeln!(out, "{MARK}");
                }
                self.write_line(index, &mut out);
            }
        }
        for line in users {
            if !std::mem::replace(&mut marked, true) {
                let _ = writeln!(out, "{MARK}");
            }
            let _ = writeln!(out, "user {line}");
        }
        out
    }

    /// Whether a line with these words says what is in force already.
    fn says(&self, index: usize, words: &[String]) -> bool {
        let (directive, value) = (&DIRECTIVES[index], &self.values[index]);
        directive.kind != Kind::Save && canonical(directive, value, words).as_ref() == Ok(value)
    }

    fn write_line(&self, index: usize, out: &mut String) {
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
            Kind::Words => {
                let _ = writeln!(out, "{} {value}", directive.name);
            }
            _ if value.is_empty() || value.contains(|c: char| c.is_whitespace() || "\"'\\".contains(c)) => {
                let _ = writeln!(out, "{} {}", directive.name, quoted(value));
            }
            _ => {
                let _ = writeln!(out, "{} {value}", directive.name);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn no_include(_: &str) -> Result<String, String> {
        Err("no such file".into())
    }

    fn from(text: &str) -> Result<Config, String> {
        let mut config = Config::default();
        config.apply_file("x.conf", text, &no_include)?;
        Ok(config)
    }

    #[test]
    fn names_are_sorted_or_at_least_unique_and_defaults_are_canonical() {
        let mut seen = std::collections::HashSet::new();
        for (index, directive) in DIRECTIVES.iter().enumerate() {
            assert!(seen.insert(directive.name), "{}", directive.name);
            assert!(directive.alias.is_none_or(|alias| seen.insert(alias)), "{}", directive.name);
            let mut config = Config::default();
            let words: Vec<String> = match directive.kind {
                Kind::Words | Kind::Save | Kind::OutputLimits => {
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
        assert_eq!(from("\nnonsense 1").unwrap_err(), "x.conf:2: unknown directive 'nonsense'");
        assert_eq!(from("port \"1").unwrap_err(), "x.conf:1: unbalanced quotes");
        assert!(from("cluster-enabled yes").unwrap_err().contains("refused"));
        assert!(from("cluster-enabled no").is_ok());
        assert!(from("maxmemory-policy allkeys-lru").unwrap_err().contains("refused"));
        assert!(from("port 70000").unwrap_err().contains("between 0 and 65535"));
        assert!(from("include other").is_err());
    }

    #[test]
    fn arguments() {
        let words = |text: &str| split_words(text).unwrap();
        let mut config = Config::default();
        config
            .apply_arguments(&words("--port 1 --save '60 1' --appendonly yes --bind 1.1.1.1 2.2.2.2"))
            .unwrap();
        assert_eq!((config.number("port"), config.text("save")), (1, "60 1"));
        assert_eq!(config.text("bind"), "1.1.1.1 2.2.2.2");
        config.apply_arguments(&words("--save ''")).unwrap();
        assert_eq!(config.text("save"), "");
        assert!(config.apply_arguments(&words("--nothing")).unwrap_err().contains("unknown directive"));
        assert!(config.apply_arguments(&words("port 1")).is_err());
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
    }

    #[test]
    fn rewrite_keeps_comments_and_reads_back_the_same() {
        let text = "# mine\nport 7000\n\nsave 60 1\nsave 5 5\nport 8000\n";
        let mut config = from(text).unwrap();
        config = config.set_all(&[("requirepass".into(), "se cret\"".into())], false).unwrap();
        config = config.set_all(&[("notify-keyspace-events".into(), "KEA".into())], false).unwrap();
        let rewritten = config.rewritten(text, &[]);
        assert!(rewritten.starts_with("# mine\nport 8000\n\nsave 60 1\nsave 5 5\n"), "{rewritten}");
        let again = from(&rewritten).unwrap();
        assert_eq!(again.values, config.values);
        assert_eq!(again.text("notify-keyspace-events"), "AKE");
        assert_eq!(config.rewritten(&rewritten, &[]), rewritten, "stable");
    }
}
