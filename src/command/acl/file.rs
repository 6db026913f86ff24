//! Users in files: the lines of redis.conf that begin with `user`, and the file that `aclfile` names.

use crate::base::config::{Config, ConfigError, UserLine};
use crate::base::reply_error::ReplyError;
use crate::command::acl::rules::{RuleError, apply, has_blanks, join_brackets};
use crate::command::text_files::{read, replace};
use crate::session::permissions::{DEFAULT_USER, User};
use crate::session::users::Users;
use haypile_lsm::OsEnv;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// What new selectors get (`acl-pubsub-default`).
pub fn all_channels(config: &Config) -> bool {
    config.text("acl-pubsub-default") == "allchannels"
}

/// Where `aclfile` is: as in Redis, in the data folder if no folder is named. `None` if there is none.
pub fn path(config: &Config, dir: &Path) -> Option<PathBuf> {
    let name = config.text("aclfile");
    (!name.is_empty()).then(|| dir.join(name))
}

/// The users that a server begins with.
pub fn users_at_start(config: &Config, dir: &Path) -> Result<Users, ConfigError> {
    let whole = |why: String| ConfigError::File(why);
    let path = path(config, dir);
    if !config.users.is_empty() && path.is_some() {
        return Err(whole(
            "Configuring Redis with users defined in redis.conf and at the same setting an ACL file path is invalid. This setup \
             is very likely to lead to configuration errors and security holes, please define either an ACL file or declare \
             users directly in your redis.conf, but not both."
                .into(),
        ));
    }
    if let Some(path) = path {
        let users = load(config, &path);
        return users
            .map(Users::new)
            .map_err(|why| whole(format!("Aborting Redis startup because of ACL errors: {why}")));
    }
    let mut users: Vec<User> = Vec::new();
    for UserLine { name, rules, line } in &config.users {
        let refused = |rule: &[u8], why: &str| {
            let why = format!("Error in user declaration '{}': {why}", ReplyError::echo(rule));
            ConfigError::Line(line.clone(), why)
        };
        if has_blanks(name) {
            return Err(refused(name, "Spaces not allowed in ACL usernames"));
        }
        let rules = join_brackets(rules.iter().map(Vec::as_slice))
            .map_err(|word| refused(word, "Unmatched parenthesis in selector definition."))?;
        let mut user = User::new(name, all_channels(config));
        for rule in &rules {
            apply(&mut user, rule, all_channels(config)).map_err(|error| refused(rule, error.text()))?;
        }
        users.push(user);
    }
    let names_default = users.iter().any(|user| *user.name == *DEFAULT_USER);
    let users = Users::new(users);
    if !names_default {
        users.set_default_password(config.text("requirepass").as_bytes());
    }
    Ok(users)
}

/// Reads the file of users. If anything is wrong with it, all that is, in one line.
pub fn load(config: &Config, path: &Path) -> Result<Vec<User>, String> {
    let name = config.text("aclfile");
    let text = read(&OsEnv::new(), path).map_err(|error| {
        let why = match std::fs::metadata(path).err().map(|error| error.kind()) {
            Some(std::io::ErrorKind::NotFound) => "No such file or directory".into(),
            Some(std::io::ErrorKind::PermissionDenied) => "Permission denied".into(),
            _ => error.to_string(),
        };
        format!("Error loading ACLs, opening file '{name}': {why}")
    })?;
    parse(&text, name, all_channels(config))
}

fn parse(text: &[u8], name: &str, all_channels: bool) -> Result<Vec<User>, String> {
    const BLANKS: &[u8] = b" \t\r\n";
    let (mut users, mut names, mut errors) = (Vec::new(), BTreeSet::new(), String::new());
    for (line, number) in text.split(|&byte| byte == b'\n').zip(1..) {
        let line = trim(line, BLANKS);
        if line.is_empty() {
            continue;
        }
        let mut words = line.split(|&byte| byte == b' ');
        let (Some(b"user"), Some(user)) = (words.next(), words.next()) else {
            errors += &format!("{name}:{number} should start with user keyword followed by the username. ");
            continue;
        };
        if has_blanks(user) {
            let user = ReplyError::echo(user);
            errors += &format!("'{name}:{number}: username '{user}' contains invalid characters. ");
            continue;
        }
        if !names.insert(user.to_vec()) {
            let user = ReplyError::echo(user);
            errors += &format!("WARNING: Duplicate user '{user}' found on line {number}. ");
            continue;
        }
        let Ok(rules) = join_brackets(words) else {
            errors += &format!("{name}:{number}: Unmatched parenthesis in selector definition.");
            continue;
        };
        let mut user = User::new(user, all_channels);
        let mut told = false;
        for rule in &rules {
            let rule = trim(rule, &BLANKS[1..]);
            match apply(&mut user, rule, all_channels) {
                Ok(()) => {}
                // No secret can be in it.
                Err(error @ RuleError::Unknown) => {
                    let (rule, why) = (ReplyError::echo(rule), error.text());
                    errors += &format!("{name}:{number}: Error in applying operation '{rule}': {why}. ");
                }
                Err(error) => {
                    if !std::mem::replace(&mut told, true) {
                        errors += &format!("{name}:{number}: {}. ", error.text());
                    }
                }
            }
        }
        users.push(user);
    }
    if errors.is_empty() {
        return Ok(users);
    }
    Err(errors + "WARNING: ACL errors detected, no change to the previously active ACL rules was performed")
}

fn trim<'t>(mut text: &'t [u8], blanks: &[u8]) -> &'t [u8] {
    while let [first, rest @ ..] = text
        && blanks.contains(first)
    {
        text = rest;
    }
    while let [rest @ .., last] = text
        && blanks.contains(last)
    {
        text = rest;
    }
    text
}

/// Replaces the file of users: a crash leaves the old one or the new one.
pub fn save(users: &Users, path: &Path) -> haypile_lsm::Result<()> {
    let mut text = Vec::new();
    for user in users.all() {
        text.extend_from_slice(&user.line());
        text.push(b'\n');
    }
    replace(&OsEnv::new(), path, &text)
}

/// The lines about users for redis.conf, where a blank or a quote begins another word; none if they have a file of their own.
pub fn lines_for_config(config: &Config, users: &Users) -> Vec<String> {
    if !config.text("aclfile").is_empty() {
        return Vec::new();
    }
    let word = |word: &[u8]| match std::str::from_utf8(word) {
        Ok(text) if !text.is_empty() && !text.contains(|c: char| "\"'".contains(c) || c.is_whitespace()) => {
            text.to_string()
        }
        _ => crate::base::config_words::quoted_bytes(word),
    };
    // A selector is written as the words it consists of, as Redis does.
    let line = |user: &User| {
        let rules = user.describe();
        let rules = rules.iter().flat_map(|rule| rule.split(|&byte| byte == b' '));
        std::iter::once(word(&user.name)).chain(rules.map(word)).collect::<Vec<_>>().join(" ")
    };
    users.all().iter().map(|user| line(user)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command::acl::rules::changed;

    fn errors(text: &str) -> String {
        let all = parse(text.as_bytes(), "users.acl", false).unwrap_err();
        all.strip_suffix(
            "WARNING: ACL errors detected, no change to the previously active ACL rules was performed",
        )
        .expect("the warning")
        .to_string()
    }

    #[test]
    fn files_and_what_is_wrong_with_them() {
        let users =
            parse(b"\n user a on >x ~k (+get ~z)\t\r\nuser default on nopass +@all\n\n", "f", true).unwrap();
        assert_eq!(users.len(), 2);
        assert_eq!(users[0].selectors.len(), 2);
        assert!(users[0].accepts(b"x") && users[1].name[..] == *b"default");
        for (text, why) in [
            ("# no comments", "users.acl:1 should start with user keyword followed by the username. "),
            ("user", "users.acl:1 should start with user keyword followed by the username. "),
            ("user a\nUSER b", "users.acl:2 should start with user keyword followed by the username. "),
            ("user a\tb on", "'users.acl:1: username 'a\tb' contains invalid characters. "),
            ("user a on\nuser a off", "WARNING: Duplicate user 'a' found on line 2. "),
            ("user a (+get", "users.acl:1: Unmatched parenthesis in selector definition."),
            (
                "user a +nosuch bad worse",
                "users.acl:1: Error in applying operation '+nosuch': Unknown command or category name in ACL. users.acl:1: Syntax error. ",
            ),
        ] {
            assert_eq!(errors(text), why, "{text}");
        }
    }

    fn at_start(text: &str) -> Result<Users, String> {
        let config = Config::read(text.as_bytes(), &|_| Err("no such file".into()));
        let users = config.and_then(|config| users_at_start(&config, Path::new("/nowhere")));
        users.map_err(|error| error.to_string())
    }

    #[test]
    fn users_of_the_configuration() {
        let users = at_start("user a on >x \"~k\\xff\" ( +get ~z )\nrequirepass p").unwrap();
        assert_eq!(users.get(b"a").unwrap().selectors[0].describe_keys(), b"~k\xff");
        assert!(users.asks_for_password() && users.default_user().0.accepts(b"p"));
        let users = at_start("user default on nopass +@all ~*\nrequirepass p").unwrap();
        assert!(!users.asks_for_password() && !users.default_user().0.may_do_all());
        for (text, why) in [
            (
                "hz 10\nuser a bad",
                "at line 2\n>>> 'user a bad'\nError in user declaration 'bad': Syntax error",
            ),
            (
                "user a +nosuch",
                "at line 1\n>>> 'user a +nosuch'\nError in user declaration '+nosuch': Unknown command or category name in ACL",
            ),
            (
                "user a\nuser a on",
                "at line 2\n>>> 'user a on'\nError in user declaration 'a': Duplicate user found. A user can only be defined once \
                 in config files",
            ),
            (
                "user \"a b\"",
                "at line 1\n>>> 'user \"a b\"'\nError in user declaration 'a b': Spaces not allowed in ACL usernames",
            ),
            (
                "user a (+get",
                "at line 1\n>>> 'user a (+get'\nError in user declaration '(+get': Unmatched parenthesis in selector definition.",
            ),
            ("user", "at line 1\n>>> 'user'\nBad directive or wrong number of arguments"),
        ] {
            assert_eq!(at_start(text).unwrap_err(), format!("Reading the configuration file, {why}"));
        }
        assert!(
            at_start("user a\naclfile f").unwrap_err().starts_with("Configuring Redis with users defined")
        );
        let why = at_start("aclfile f").unwrap_err();
        assert_eq!(
            why,
            "Aborting Redis startup because of ACL errors: Error loading ACLs, opening file 'f': No such file or directory"
        );
    }

    #[test]
    fn lines_of_the_configuration_read_back() {
        let rules = [&b"on"[..], b">x", b"~\"\xff", b"(~a'b +get \"~z)\")", b"(+set)"];
        let user = changed(None, b"u\x01'", rules, false).unwrap();
        let users = Users::new([user.clone()]);
        let lines = lines_for_config(&Config::default(), &users);
        assert_eq!(lines[0], "default on nopass sanitize-payload ~* &* +@all");
        let text: String = lines.iter().map(|line| format!("user {line}\n")).collect();
        let again = at_start(&text).unwrap();
        assert_eq!(*again.get(b"u\x01'").unwrap(), user);
        assert!(again.default_user().0.may_do_all());
    }
}
