//! What a user may do, as values that are never changed: a change of a user makes another [`User`] of it.
//!
//! ```text
//! user = name, on or off, digests of passwords, selectors:  root (rules outside brackets), then one for each pair of them
//! selector = commands (a bit each), patterns of keys with what may be done to them, patterns of channels
//! ```
//!
//! A command is allowed if one selector allows all of it: the command, each of its keys, each of its channels. Commands are numbers
//! here; which those are, and what rules there are, is the command floor's (`command/acl/`). Beside the bits a selector keeps the rules they
//! came from, in order and without those that later ones made void, since that is how users are shown and saved.

use crate::base::glob::matches;
use crate::base::ordered::Ordered;
use crate::base::sha256::{Digest256, hex, same, sha256};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// Numbers of commands are below this.
pub const COMMANDS_MAX: usize = 1024;

/// A set of commands.
#[derive(Clone, Debug, PartialEq, Eq)]
struct CommandSet([u64; COMMANDS_MAX / 64]);

impl CommandSet {
    const NONE: CommandSet = CommandSet([0; COMMANDS_MAX / 64]);
    const ALL: CommandSet = CommandSet([u64::MAX; COMMANDS_MAX / 64]);

    fn has(&self, command: u16) -> bool {
        self.0.get(usize::from(command) / 64).is_some_and(|word| word >> (command % 64) & 1 == 1)
    }

    fn set(&mut self, command: u16, on: bool) {
        if let Some(word) = self.0.get_mut(usize::from(command) / 64) {
            let bit = 1 << (command % 64);
            if on { *word |= bit } else { *word &= !bit }
        }
    }
}

/// What is done, or may be done, to a key.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Access {
    /// The user sees something of its value.
    pub reads: bool,
    /// It is changed.
    pub writes: bool,
}

impl Access {
    /// Reading only.
    pub const READ: Access = Access { reads: true, writes: false };
    /// Changing only.
    pub const WRITE: Access = Access { reads: false, writes: true };
    /// Everything.
    pub const ALL: Access = Access { reads: true, writes: true };

    fn covers(self, other: Access) -> bool {
        (self.reads || !other.reads) && (self.writes || !other.writes)
    }

    fn and(self, other: Access) -> Access {
        Access { reads: self.reads || other.reads, writes: self.writes || other.writes }
    }
}

/// A pattern of keys as the rule that allows them.
fn key_word(pattern: &[u8], access: Access) -> Vec<u8> {
    let sign: &[u8] = match (access.reads, access.writes) {
        (true, false) => b"%R~",
        (false, true) => b"%W~",
        _ => b"~",
    };
    [sign, pattern].concat()
}

/// Rights that belong together. See the module.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Selector {
    commands: CommandSet,
    /// All commands, from which some may have been taken: how it is shown.
    begins_with_all: bool,
    /// Commands that are allowed with one of these as their first word, in lower case.
    first_words: BTreeMap<u16, BTreeSet<Vec<u8>>>,
    /// Categories with `@`, commands, or commands and their first words, in lower case; whether each is allowed.
    rules: Ordered<bool>,
    all_keys: bool,
    keys: Ordered<Access>,
    all_channels: bool,
    channels: Ordered<()>,
}

/// A pattern was added where everything is allowed already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Superfluous;

impl Selector {
    /// No rights, but for all channels if `acl-pubsub-default` says so.
    pub fn new(all_channels: bool) -> Selector {
        Selector {
            commands: CommandSet::NONE,
            begins_with_all: false,
            first_words: BTreeMap::new(),
            rules: Ordered::default(),
            all_keys: false,
            keys: Ordered::default(),
            all_channels,
            channels: Ordered::default(),
        }
    }

    // Changes, for the parser of rules.

    /// All commands, or none.
    pub fn set_all_commands(&mut self, on: bool) {
        self.commands = if on { CommandSet::ALL } else { CommandSet::NONE };
        self.begins_with_all = on;
        self.first_words.clear();
        self.rules.clear();
    }

    /// Allows commands, or forbids them. The first is the one that was named, the rest what it contains.
    pub fn set_commands(&mut self, commands: impl Iterator<Item = u16>, on: bool) {
        for command in commands {
            self.commands.set(command, on);
            self.first_words.remove(&command);
        }
    }

    /// Allows a command with this first word.
    pub fn allow_first_word(&mut self, command: u16, word: &[u8]) {
        self.first_words.entry(command).or_default().insert(word.to_ascii_lowercase());
    }

    /// Notes the rule that the last change came from. Earlier ones about the same, or a part of it, are void.
    pub fn note_rule(&mut self, what: &[u8], allows: bool) {
        let what = what.to_ascii_lowercase();
        self.rules.remove(&what);
        self.rules.remove_all_below(&[&*what, b"|"].concat());
        self.rules.insert(&what, allows);
    }

    /// All keys, or none.
    pub fn set_all_keys(&mut self, on: bool) {
        self.all_keys = on;
        self.keys.clear();
    }

    /// Adds a pattern of keys.
    pub fn add_keys(&mut self, pattern: &[u8], access: Access) -> Result<(), Superfluous> {
        if self.all_keys {
            return Err(Superfluous);
        }
        let known = self.keys.get(pattern).copied().unwrap_or_default();
        self.keys.insert(pattern, known.and(access));
        Ok(())
    }

    /// All channels, or none.
    pub fn set_all_channels(&mut self, on: bool) {
        self.all_channels = on;
        self.channels.clear();
    }

    /// Adds a pattern of channels.
    pub fn add_channels(&mut self, pattern: &[u8]) -> Result<(), Superfluous> {
        if self.all_channels {
            return Err(Superfluous);
        }
        self.channels.insert(pattern, ());
        Ok(())
    }

    // Questions.

    /// Whether a command may be run, its first word being this.
    pub fn allows_command(&self, command: u16, first_word: Option<&[u8]>) -> bool {
        if self.commands.has(command) {
            return true;
        }
        let (Some(words), Some(word)) = (self.first_words.get(&command), first_word) else { return false };
        words.iter().any(|allowed| allowed.eq_ignore_ascii_case(word))
    }

    /// Whether all keys are allowed, whatever is done to them.
    pub fn allows_all_keys(&self) -> bool {
        self.all_keys
    }

    /// Whether this may be done to a key.
    pub fn allows_key(&self, key: &[u8], access: Access) -> bool {
        self.all_keys || self.keys.iter().any(|(pattern, own)| own.covers(access) && matches(pattern, key))
    }

    /// Whether this may be done to every key.
    pub fn allows_every_key(&self, access: Access) -> bool {
        self.all_keys || self.keys.get(b"*").is_some_and(|own| own.covers(access))
    }

    /// Whether all channels are allowed.
    pub fn allows_all_channels(&self) -> bool {
        self.all_channels
    }

    /// Whether a channel is allowed, or a pattern of channels: that only as it is written.
    pub fn allows_channel(&self, channel: &[u8], is_pattern: bool) -> bool {
        self.all_channels
            || match is_pattern {
                true => self.channels.get(channel).is_some(),
                false => self.channels.iter().any(|(own, ())| matches(own, channel)),
            }
    }

    // What is shown.

    /// Its rules about commands.
    pub fn describe_commands(&self) -> Vec<u8> {
        self.command_words().join(&b' ')
    }

    fn command_words(&self) -> Vec<Vec<u8>> {
        let base = if self.begins_with_all { "+@all" } else { "-@all" };
        let rules =
            self.rules.iter().map(|(what, allows)| [if *allows { b"+" } else { b"-" }, what].concat());
        std::iter::once(base.as_bytes().to_vec()).chain(rules).collect()
    }

    /// Its patterns of keys.
    pub fn describe_keys(&self) -> Vec<u8> {
        self.key_words().join(&b' ')
    }

    fn key_words(&self) -> Vec<Vec<u8>> {
        if self.all_keys {
            vec![b"~*".to_vec()]
        } else {
            self.keys.iter().map(|(pattern, access)| key_word(pattern, *access)).collect()
        }
    }

    /// Its patterns of channels.
    pub fn describe_channels(&self) -> Vec<u8> {
        self.channel_words().join(&b' ')
    }

    fn channel_words(&self) -> Vec<Vec<u8>> {
        if self.all_channels {
            return vec![b"&*".to_vec()];
        }
        self.channels.iter().map(|(channel, ())| [b"&", channel].concat()).collect()
    }

    /// All its rules.
    fn words(&self) -> Vec<Vec<u8>> {
        let mut words = self.key_words();
        if !self.all_channels {
            words.push(b"resetchannels".to_vec());
        }
        words.extend(self.channel_words());
        words.extend(self.command_words());
        words
    }
}

/// A name that new connections have.
pub const DEFAULT_USER: &[u8] = b"default";

/// A user. See the module.
#[derive(Clone, Debug)]
pub struct User {
    /// Never used again, so that one that is made anew is another; 0 as long as it is not entered.
    pub id: u64,
    /// Its name.
    pub name: Arc<[u8]>,
    /// Whether anybody can become this user.
    pub is_on: bool,
    /// Whether any password will do.
    pub needs_no_password: bool,
    /// Whether dumps it restores are looked at closely. (Here all are.)
    pub sanitizes_payload: bool,
    /// Digests of the passwords.
    pub passwords: Ordered<Digest256>,
    /// The root first.
    pub selectors: Vec<Selector>,
}

/// But for the id.
impl PartialEq for User {
    fn eq(&self, other: &User) -> bool {
        (
            &self.name,
            self.is_on,
            self.needs_no_password,
            self.sanitizes_payload,
            &self.passwords,
            &self.selectors,
        ) == (
            &other.name,
            other.is_on,
            other.needs_no_password,
            other.sanitizes_payload,
            &other.passwords,
            &other.selectors,
        )
    }
}

impl User {
    /// A user without rights, who is off.
    pub fn new(name: &[u8], all_channels: bool) -> User {
        User {
            id: 0,
            name: name.into(),
            is_on: false,
            needs_no_password: false,
            sanitizes_payload: true,
            passwords: Ordered::default(),
            selectors: vec![Selector::new(all_channels)],
        }
    }

    /// The user of new connections as it is where nobody has said otherwise: with all rights, and without a password.
    pub fn new_default() -> User {
        let mut user = User::new(DEFAULT_USER, true);
        (user.is_on, user.needs_no_password) = (true, true);
        let root = user.root_mut();
        root.set_all_commands(true);
        root.set_all_keys(true);
        user
    }

    /// The rules outside brackets.
    pub fn root_mut(&mut self) -> &mut Selector {
        if self.selectors.is_empty() {
            self.selectors.push(Selector::new(false));
        }
        &mut self.selectors[0]
    }

    /// Replaces all passwords by one, or by none that is needed (`requirepass`).
    pub fn set_password(&mut self, password: Option<&[u8]>) {
        self.passwords.clear();
        if let Some(digest) = password.map(sha256) {
            self.passwords.insert(&digest, digest);
        }
        self.needs_no_password = password.is_none();
    }

    /// Whether somebody who gives this password may become this user. The time it takes tells nothing about passwords.
    pub fn accepts(&self, password: &[u8]) -> bool {
        let digest = sha256(password);
        let matching = self.passwords.iter().fold(false, |found, (_, own)| found | same(own, &digest));
        self.is_on && (self.needs_no_password || matching)
    }

    /// Whether everything is allowed, so that nothing has to be looked at.
    pub fn may_do_all(&self) -> bool {
        self.selectors.iter().any(|own| own.commands == CommandSet::ALL && own.all_keys && own.all_channels)
    }

    /// The names of flags that it has.
    pub fn flags(&self) -> Vec<&'static str> {
        let mut flags = vec![if self.is_on { "on" } else { "off" }];
        if self.needs_no_password {
            flags.push("nopass");
        }
        flags.push(if self.sanitizes_payload { "sanitize-payload" } else { "skip-sanitize-payload" });
        flags
    }

    /// The rules that make this user, a word each; one for each selector in brackets.
    pub fn describe(&self) -> Vec<Vec<u8>> {
        let mut words: Vec<Vec<u8>> = self.flags().iter().map(|flag| flag.as_bytes().to_vec()).collect();
        words.extend(self.passwords.iter().map(|(_, digest)| format!("#{}", hex(digest)).into_bytes()));
        for (index, selector) in self.selectors.iter().enumerate() {
            let own = selector.words();
            if index == 0 {
                words.extend(own);
            } else {
                let own: Vec<Vec<u8>> = own.into_iter().map(in_brackets).collect();
                words.push([b"(", &*own.join(&b' '), b")"].concat());
            }
        }
        words
    }

    /// The same as one line, which begins with its name.
    pub fn line(&self) -> Vec<u8> {
        [b"user ", &*self.name, b" ", &*self.describe().join(&b' ')].concat()
    }
}

/// A rule as it stands in brackets, where quotes and an end of brackets would be taken for such.
fn in_brackets(word: Vec<u8>) -> Vec<u8> {
    let is_plain = !word.ends_with(b")") && !word.iter().any(|byte| b"\"'".contains(byte));
    if is_plain { word } else { crate::base::config_words::quoted_bytes(&word).into_bytes() }
}

/// The channels that a user may use after a change, if the change may have taken some away.
#[derive(Debug)]
pub struct LeftChannels(BTreeSet<Box<[u8]>>);

impl LeftChannels {
    /// `None` if everything that was allowed still is.
    pub fn after(old: &User, new: &User) -> Option<LeftChannels> {
        if new.selectors.iter().any(|selector| selector.all_channels) {
            return None;
        }
        let all = |user: &User| -> BTreeSet<Box<[u8]>> {
            let channels = user.selectors.iter().flat_map(|own| own.channels.iter());
            channels.map(|(channel, ())| channel.into()).collect()
        };
        let left = all(new);
        let kept = !old.selectors.iter().any(|own| own.all_channels) && all(old).is_subset(&left);
        (!kept).then_some(LeftChannels(left))
    }

    /// Whether a subscription to a channel, or to a pattern, may stay.
    pub fn has(&self, channel: &[u8], is_pattern: bool) -> bool {
        match is_pattern {
            true => self.0.contains(channel),
            false => self.0.iter().any(|own| matches(own, channel)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_and_first_words() {
        let mut selector = Selector::new(false);
        assert!(!selector.allows_command(3, None));
        selector.set_commands([3, 70].into_iter(), true);
        selector.allow_first_word(5, b"Ab");
        assert!(selector.allows_command(70, None) && !selector.allows_command(4, None));
        assert!(selector.allows_command(5, Some(b"aB")) && !selector.allows_command(5, None));
        assert!(!selector.allows_command(5, Some(b"b")));
        selector.set_all_commands(true);
        assert!(selector.allows_command(1000, None) && selector.begins_with_all);
        selector.set_commands([5].into_iter(), false);
        assert!(selector.allows_command(1000, None) && !selector.allows_command(5, Some(b"ab")));
        assert!(selector.commands != CommandSet::ALL && selector.begins_with_all);
        selector.set_commands([5].into_iter(), true);
        assert!(selector.commands == CommandSet::ALL);
    }

    #[test]
    fn later_rules_make_earlier_ones_void() {
        let mut selector = Selector::new(false);
        for (rule, allows) in
            [("config|get", true), ("configx", true), ("@read", true), ("get", true), ("Config", false)]
        {
            selector.note_rule(rule.as_bytes(), allows);
        }
        assert_eq!(selector.describe_commands(), b"-@all +configx +@read +get -config");
        selector.note_rule(b"config|get", true);
        selector.note_rule(b"get", false);
        assert_eq!(selector.describe_commands(), b"-@all +configx +@read -config +config|get -get");
    }

    #[test]
    fn keys_and_channels() {
        let mut selector = Selector::new(false);
        selector.add_keys(b"a*", Access::READ).unwrap();
        selector.add_keys(b"b", Access { reads: false, writes: true }).unwrap();
        selector.add_keys(b"b", Access::READ).unwrap();
        assert!(selector.allows_key(b"ax", Access::READ) && !selector.allows_key(b"ax", Access::ALL));
        assert!(selector.allows_key(b"b", Access::ALL) && !selector.allows_key(b"c", Access::default()));
        assert!(selector.allows_key(b"ax", Access::default()));
        assert_eq!(selector.describe_keys(), b"%R~a* ~b");
        assert!(!selector.allows_every_key(Access::READ));
        selector.add_keys(b"*", Access::READ).unwrap();
        assert!(selector.allows_every_key(Access::READ) && !selector.allows_every_key(Access::ALL));
        selector.set_all_keys(true);
        assert_eq!(selector.add_keys(b"x", Access::ALL), Err(Superfluous));
        selector.add_channels(b"news.*").unwrap();
        assert!(selector.allows_channel(b"news.1", false) && !selector.allows_channel(b"news.1", true));
        assert!(selector.allows_channel(b"news.*", true) && !selector.allows_channel(b"n", false));
    }

    #[test]
    fn passwords() {
        let mut user = User::new(b"u", false);
        user.needs_no_password = true;
        assert!(!user.accepts(b"x"), "it is off");
        user.is_on = true;
        assert!(user.accepts(b"x"));
        user.set_password(Some(b"right"));
        assert!(user.accepts(b"right") && !user.accepts(b"wrong") && !user.accepts(b""));
        user.set_password(None);
        assert!(user.passwords.is_empty() && user.accepts(b""));
    }

    #[test]
    fn the_default_user() {
        let user = User::new_default();
        assert!(user.may_do_all());
        assert_eq!(user.line(), b"user default on nopass sanitize-payload ~* &* +@all");
    }

    #[test]
    fn channels_that_are_left() {
        let with = |channels: &[&str]| {
            let mut user = User::new(b"u", false);
            channels.iter().for_each(|channel| user.root_mut().add_channels(channel.as_bytes()).unwrap());
            user
        };
        assert!(LeftChannels::after(&with(&["a"]), &with(&["b", "a"])).is_none());
        let left = LeftChannels::after(&with(&["a", "b*"]), &with(&["b*"])).unwrap();
        assert!(
            left.has(b"b1", false)
                && left.has(b"b*", true)
                && !left.has(b"a", false)
                && !left.has(b"b1", true)
        );
        assert!(LeftChannels::after(&User::new_default(), &with(&["*"])).is_some());
        assert!(LeftChannels::after(&with(&["a"]), &User::new_default()).is_none());
    }
}
