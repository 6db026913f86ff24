//! The words that make users: each changes a [`User`] a little.
//!
//! ```text
//! on off nopass resetpass >password <password #digest !digest sanitize-payload skip-sanitize-payload reset      the user
//! ( rules .. ) clearselectors                                                                                   its selectors
//! +command -command +command|subcommand +@category -@category allcommands nocommands +command|word              a selector:
//! ~pattern %R~pattern %W~pattern %RW~pattern allkeys resetkeys &pattern allchannels resetchannels               outside brackets the root
//! ```
//!
//! Whatever [`User::describe`] tells makes the same user again, word by word.

use crate::base::config_words::split_bytes;
use crate::base::reply_error::ReplyError;
use crate::base::sha256::{from_hex, sha256};
use crate::command::facts::catalogue::{Catalogue, catalogue};
use crate::command::facts::model::Acl;
use crate::session::permissions::{Access, Selector, User};

/// What is wrong with a rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RuleError {
    /// No rule has this form.
    Syntax,
    /// There is no such command or category.
    Unknown,
    /// All keys are allowed already.
    AllKeys,
    /// All channels are allowed already.
    AllChannels,
    /// There is no such password.
    NoPassword,
    /// That is no digest.
    Digest,
    /// A word of a subcommand.
    WordOfSubcommand,
}

impl RuleError {
    /// In Redis's words.
    pub fn text(self) -> &'static str {
        match self {
            RuleError::Syntax => "Syntax error",
            RuleError::Unknown => "Unknown command or category name in ACL",
            RuleError::AllKeys => {
                "Adding a pattern after the * pattern (or the 'allkeys' flag) is not valid and does not have any effect. Try \
                 'resetkeys' to start with an empty list of patterns"
            }
            RuleError::AllChannels => {
                "Adding a pattern after the * pattern (or the 'allchannels' flag) is not valid and does not have any effect. Try \
                 'resetchannels' to start with an empty list of channels"
            }
            RuleError::NoPassword => "The password you are trying to remove from the user does not exist",
            RuleError::Digest => {
                "The password hash must be exactly 64 characters and contain only lowercase hexadecimal characters"
            }
            RuleError::WordOfSubcommand => "Allowing first-arg of a subcommand is not supported",
        }
    }
}

/// Whether something is no name and no pattern: it would fall apart where users are written as lines.
pub fn has_blanks(word: &[u8]) -> bool {
    word.iter().any(|byte| matches!(byte, 0 | b' ' | b'\t'..=b'\r'))
}

/// Applies one rule. `all_channels` is what `acl-pubsub-default` gives to new selectors.
pub fn apply(user: &mut User, rule: &[u8], all_channels: bool) -> Result<(), RuleError> {
    let is = |word: &str| rule.eq_ignore_ascii_case(word.as_bytes());
    match rule {
        [] => {}
        _ if is("on") => user.is_on = true,
        _ if is("off") => user.is_on = false,
        _ if is("sanitize-payload") => user.sanitizes_payload = true,
        _ if is("skip-sanitize-payload") => user.sanitizes_payload = false,
        _ if is("nopass") || is("resetpass") => {
            user.needs_no_password = is("nopass");
            user.passwords.clear();
        }
        [b'>' | b'#', password @ ..] => {
            let digest = if rule[0] == b'>' { Some(sha256(password)) } else { from_hex(password) };
            let digest = digest.ok_or(RuleError::Digest)?;
            user.passwords.insert(&digest, digest);
            user.needs_no_password = false;
        }
        [b'<' | b'!', password @ ..] => {
            let digest = if rule[0] == b'<' { Some(sha256(password)) } else { from_hex(password) };
            let digest = digest.ok_or(RuleError::Digest)?;
            if !user.passwords.remove(&digest) {
                return Err(RuleError::NoPassword);
            }
        }
        [b'(', inner @ .., b')'] => {
            let mut selector = Selector::new(all_channels);
            // As in Redis, with a quote that does not end there is nothing in them.
            for rule in split_bytes(inner).unwrap_or_default() {
                apply_to_selector(&mut selector, &rule)?;
            }
            user.selectors.push(selector);
        }
        _ if is("clearselectors") => user.selectors.truncate(1),
        _ if is("reset") => *user = User { id: user.id, ..User::new(&user.name, all_channels) },
        _ => apply_to_selector(user.root_mut(), rule)?,
    }
    Ok(())
}

fn apply_to_selector(selector: &mut Selector, rule: &[u8]) -> Result<(), RuleError> {
    let is = |word: &str| rule.eq_ignore_ascii_case(word.as_bytes());
    match rule {
        _ if is("allkeys") || is("~*") => selector.set_all_keys(true),
        _ if is("resetkeys") => selector.set_all_keys(false),
        _ if is("allchannels") || is("&*") => selector.set_all_channels(true),
        _ if is("resetchannels") => selector.set_all_channels(false),
        _ if is("allcommands") || is("+@all") => selector.set_all_commands(true),
        _ if is("nocommands") || is("-@all") => selector.set_all_commands(false),
        [b'~', pattern @ ..] => add_keys(selector, pattern, Access::ALL)?,
        [b'%', rest @ ..] => {
            let end = rest.iter().position(|&byte| byte == b'~');
            let (letters, pattern) = rest.split_at(end.unwrap_or(rest.len()));
            let access = access_of(letters).ok_or(if selector.allows_all_keys() {
                RuleError::AllKeys
            } else {
                RuleError::Syntax
            })?;
            add_keys(selector, pattern.get(1..).unwrap_or_default(), access)?;
        }
        [b'&', pattern @ ..] => {
            if selector.allows_all_channels() {
                return Err(RuleError::AllChannels);
            }
            if has_blanks(pattern) {
                return Err(RuleError::Syntax);
            }
            selector.add_channels(pattern).map_err(|_| RuleError::AllChannels)?;
        }
        [b'+' | b'-', b'@', category @ ..] => apply_category(selector, category, rule[0] == b'+')?,
        [b'+', name @ ..] if name.contains(&b'|') => allow_part(selector, name)?,
        [b'+' | b'-', name @ ..] => apply_command(selector, name, rule[0] == b'+')?,
        _ => return Err(RuleError::Syntax),
    }
    Ok(())
}

fn access_of(letters: &[u8]) -> Option<Access> {
    let mut access = Access::default();
    for letter in letters {
        let has = match letter.to_ascii_uppercase() {
            b'R' => &mut access.reads,
            b'W' => &mut access.writes,
            _ => return None,
        };
        if std::mem::replace(has, true) {
            return None;
        }
    }
    (!letters.is_empty()).then_some(access)
}

fn add_keys(selector: &mut Selector, pattern: &[u8], access: Access) -> Result<(), RuleError> {
    if !selector.allows_all_keys() && has_blanks(pattern) {
        return Err(RuleError::Syntax);
    }
    selector.add_keys(pattern, access).map_err(|_| RuleError::AllKeys)
}

fn apply_category(selector: &mut Selector, name: &[u8], on: bool) -> Result<(), RuleError> {
    let category = Acl::ALL.iter().find(|category| name.eq_ignore_ascii_case(category.name().as_bytes()));
    let category = *category.ok_or(RuleError::Unknown)?;
    let all = catalogue();
    for (number, _) in all.all().filter(|(_, entry)| entry.facts.acl().has(category)) {
        selector.set_commands(all.with_subcommands(number), on);
    }
    selector.note_rule(&[b"@", name].concat(), on);
    Ok(())
}

fn apply_command(selector: &mut Selector, name: &[u8], on: bool) -> Result<(), RuleError> {
    let all = catalogue();
    let number = all.find(name).ok_or(RuleError::Unknown)?;
    selector.set_commands(all.with_subcommands(number), on);
    selector.note_rule(name, on);
    Ok(())
}

/// `+container|subcommand`, or `+command|word`.
fn allow_part(selector: &mut Selector, rule: &[u8]) -> Result<(), RuleError> {
    let all: &Catalogue = catalogue();
    let at = rule.iter().rposition(|&byte| byte == b'|').unwrap_or(rule.len());
    let (name, word) = (&rule[..at], rule.get(at + 1..).unwrap_or_default());
    let number = all.find(name).ok_or(RuleError::Unknown)?;
    let entry = all.get(number).ok_or(RuleError::Unknown)?;
    if entry.is_subcommand {
        return Err(RuleError::WordOfSubcommand);
    }
    // Redis takes blanks, and then cannot read again what it wrote.
    if word.is_empty() || has_blanks(word) {
        return Err(RuleError::Syntax);
    }
    if !entry.subcommands.is_empty() {
        return apply_command(selector, rule, true);
    }
    selector.allow_first_word(number, word);
    selector.note_rule(rule, true);
    Ok(())
}

/// Joins selectors that were sent as several words. The word that opens a bracket which nothing closes is the error.
pub fn join_brackets<'w>(words: impl IntoIterator<Item = &'w [u8]>) -> Result<Vec<Vec<u8>>, &'w [u8]> {
    let mut joined: Vec<Vec<u8>> = Vec::new();
    let mut open: Option<(&[u8], Vec<u8>)> = None;
    for word in words {
        if word.starts_with(b"(") && !word.ends_with(b")") {
            open = Some(match open {
                Some((first, selector)) => (first, [&*selector, b" ", word].concat()),
                None => (word, word.to_vec()),
            });
        } else if let Some((first, selector)) = open.take() {
            let selector = [&*selector, b" ", word].concat();
            if word.ends_with(b")") { joined.push(selector) } else { open = Some((first, selector)) }
        } else {
            joined.push(word.to_vec());
        }
    }
    match open {
        Some((first, _)) => Err(first),
        None => Ok(joined),
    }
}

/// The user that comes of these rules: another one than `old`, or a new one. Errors are in Redis's words.
pub fn changed<'w>(
    old: Option<&User>,
    name: &[u8],
    rules: impl IntoIterator<Item = &'w [u8]>,
    all_channels: bool,
) -> Result<User, String> {
    let rules = join_brackets(rules).map_err(|word| {
        format!("Unmatched parenthesis in acl selector starting at '{}'.", ReplyError::echo(word))
    })?;
    let mut user = old.cloned().unwrap_or_else(|| User::new(name, all_channels));
    for rule in &rules {
        apply(&mut user, rule, all_channels).map_err(|error| {
            format!("Error in ACL SETUSER modifier '{}': {}", ReplyError::echo(rule), error.text())
        })?;
    }
    Ok(user)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn made(rules: &[&str]) -> Result<User, String> {
        changed(None, b"u", rules.iter().map(|rule| rule.as_bytes()), false)
    }

    fn line(rules: &[&str]) -> String {
        String::from_utf8(made(rules).unwrap().line()).unwrap().split_off("user u ".len())
    }

    #[test]
    fn rules_as_redis_shows_them() {
        for (rules, shown) in [
            (
                &["%R~a", "%w~a", "%R~b", "&x", "&x"][..],
                "off sanitize-payload ~a %R~b resetchannels &x -@all",
            ),
            (
                &["+Get", "+SET", "-gEt", "+@Read", "-@rEAd"],
                "off sanitize-payload resetchannels -@all +set -get -@read",
            ),
            (&["+@all", "-config|get", "+config"], "off sanitize-payload resetchannels +@all +config"),
            (
                &["+select|1", "+SELECT|aB", "+select|1"],
                "off sanitize-payload resetchannels -@all +select|ab +select|1",
            ),
            (
                &["(", "+get", ")", "()"],
                "off sanitize-payload resetchannels -@all (resetchannels -@all +get) (resetchannels -@all)",
            ),
            (&["(~a \"unbalanced)"], "off sanitize-payload resetchannels -@all (resetchannels -@all)"),
            (&["(\"~a)\" ~b)"], "off sanitize-payload resetchannels -@all (\"~a)\" ~b resetchannels -@all)"),
            (
                &["allkeys", "allchannels", "nopass", "on", "SKIP-sanitize-payload"],
                "on nopass skip-sanitize-payload ~* &* -@all",
            ),
            (&["+@all", "on", ">x", "(+get)", "reset"], "off sanitize-payload resetchannels -@all"),
            (&["", "~", "&"], "off sanitize-payload ~ resetchannels & -@all"),
        ] {
            assert_eq!(line(rules), shown, "{rules:?}");
        }
    }

    #[test]
    fn errors_in_redis_words() {
        for (rules, why) in [
            (
                &["+nosuch"][..],
                "Error in ACL SETUSER modifier '+nosuch': Unknown command or category name in ACL",
            ),
            (
                &["+@nosuch"],
                "Error in ACL SETUSER modifier '+@nosuch': Unknown command or category name in ACL",
            ),
            (&["-get|x"], "Error in ACL SETUSER modifier '-get|x': Unknown command or category name in ACL"),
            (&["+config|"], "Error in ACL SETUSER modifier '+config|': Syntax error"),
            (
                &["+config|get|x"],
                "Error in ACL SETUSER modifier '+config|get|x': Allowing first-arg of a subcommand is not supported",
            ),
            (&["%RR~x"], "Error in ACL SETUSER modifier '%RR~x': Syntax error"),
            (&["%~x"], "Error in ACL SETUSER modifier '%~x': Syntax error"),
            (&["~a b"], "Error in ACL SETUSER modifier '~a b': Syntax error"),
            (&["+get|a b"], "Error in ACL SETUSER modifier '+get|a b': Syntax error"),
            (&["(+get", "~a"], "Unmatched parenthesis in acl selector starting at '(+get'."),
            (&["(this-is-invalid)"], "Error in ACL SETUSER modifier '(this-is-invalid)': Syntax error"),
            (&[")"], "Error in ACL SETUSER modifier ')': Syntax error"),
            (
                &["<x"],
                "Error in ACL SETUSER modifier '<x': The password you are trying to remove from the user does not exist",
            ),
        ] {
            assert_eq!(made(rules).unwrap_err(), why, "{rules:?}");
        }
        assert!(made(&["~*", "~x"]).unwrap_err().contains("'allkeys' flag"));
        assert!(made(&["&*", "&x"]).unwrap_err().contains("'allchannels' flag"));
        assert!(made(&["#00"]).unwrap_err().contains("exactly 64 characters"));
    }

    fn selector_rule() -> impl Strategy<Value = String> {
        const NAMES: &[&str] =
            &["get", "config", "config|get", "config|set", "client|kill", "eval", "select", "xinfo"];
        const CATEGORIES: &[&str] =
            &["@read", "@write", "@dangerous", "@fast", "@slow", "@scripting", "@admin", "@all"];
        prop_oneof![
            (any::<bool>(), prop::sample::select(NAMES))
                .prop_map(|(on, name)| format!("{}{name}", if on { '+' } else { '-' })),
            (any::<bool>(), prop::sample::select(CATEGORIES))
                .prop_map(|(on, name)| format!("{}{name}", if on { '+' } else { '-' })),
            prop::sample::select(&["+select|0", "+select|1", "+get|x)", "+get|\"", "+debug|Sleep"])
                .prop_map(String::from),
            prop::sample::select(&["allkeys", "resetkeys", "allchannels", "resetchannels", "nocommands"])
                .prop_map(String::from),
            "[~&][a-c*()\"'\\\\]{0,3}",
            // A lone star for reading and writing is shown as what it comes to: all keys.
            "%(R|W|RW|w)~[a-c*()\"']{0,3}".prop_filter("a lone star", |rule| !rule.ends_with("~*")),
        ]
    }

    fn rule() -> impl Strategy<Value = Vec<u8>> {
        prop_oneof![
            4 => selector_rule().prop_map(String::into_bytes),
            1 => prop::sample::select(&["on", "off", "nopass", "resetpass", "clearselectors", "reset", "skip-sanitize-payload", "<a"])
                .prop_map(|word| word.as_bytes().to_vec()),
            1 => "[><][ab]".prop_map(String::into_bytes),
            1 => prop::collection::vec(any::<u8>(), 0..4).prop_map(|bytes| [b"~", &*bytes].concat()),
            2 => prop::collection::vec(selector_rule(), 0..5).prop_map(|rules| {
                let rules: Vec<String> = rules.iter().map(|rule| crate::base::config_words::quoted_bytes(rule.as_bytes())).collect();
                format!("({})", rules.join(" ")).into_bytes()
            }),
        ]
    }

    proptest! {
        #[test]
        fn what_describes_a_user_makes_it_again(rules in prop::collection::vec(rule(), 0..20), all_channels in any::<bool>()) {
            let mut user = User::new(b"u", all_channels);
            for rule in &rules {
                // A rule that is refused may have been applied in part, but only to a selector that is dropped.
                let _ = apply(&mut user, rule, all_channels);
            }
            let described = user.describe();
            let again = changed(None, b"u", described.iter().map(Vec::as_slice), false);
            prop_assert_eq!(again.as_ref(), Ok(&user));
            // Also where blanks are all that parts words, as in the file of users.
            let line = user.line();
            let split = line.split(|&byte| byte == b' ').skip(2);
            let again = changed(None, b"u", split, true);
            prop_assert_eq!(again.as_ref(), Ok(&user));
        }

        #[test]
        fn nothing_panics(rules in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..12), 0..6)) {
            let _ = changed(None, b"u", rules.iter().map(Vec::as_slice), false);
        }
    }
}
