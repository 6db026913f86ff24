//! Whether a user may run a command with these words, and what it is told if not.
//!
//! One selector has to allow all of it. If none does, the denial that is told is the one that got furthest: a key rather than the
//! command, a channel rather than a key, and among those the one that stands last. Most users may do everything: the
//! dispatcher knows that of a session without coming here.

use crate::base::args::Args;
use crate::base::reply_error::ReplyError;
use crate::command::client_cmd::describe;
use crate::command::facts::model::{CommandFacts, Flag, KeyFlag, KeyFlagSet};
use crate::command::key_finder::{find_command_keys, find_other_keys, flags_with, names_keys, shows_values};
use crate::command::spec::{Command, Table};
use crate::session::acl_log::{Reason, WORD_BYTES_MAX};
use crate::session::clients::ClientInfo;
use crate::session::permissions::{Access, Selector, User};
use crate::session::server_state::ServerState;

/// Why not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Denied {
    /// The kind of reason.
    pub reason: Reason,
    /// Which word it was, if it was a key or a channel.
    pub word: usize,
}

const NO_COMMAND: Denied = Denied { reason: Reason::Command, word: 0 };

/// What a key specification says of access.
fn access_of(flags: KeyFlagSet) -> Access {
    let changes = [KeyFlag::Insert, KeyFlag::Update, KeyFlag::Delete];
    Access { reads: flags.has(KeyFlag::Access), writes: changes.iter().any(|flag| flags.has(*flag)) }
}

/// The channels that a command names, and whether they are patterns.
fn channels_of(facts: &CommandFacts, words: usize) -> Option<(std::ops::Range<usize>, bool)> {
    match facts.name {
        "subscribe" | "ssubscribe" => Some((1..words, false)),
        "psubscribe" => Some((1..words, true)),
        "publish" | "spublish" => Some((1..words.min(2), false)),
        _ => None,
    }
}

/// What a command does to keys that it names none of, since it walks over all of them: these need every key. Names alone are for everybody
/// who may run the command, as with SCAN.
fn access_to_all(facts: &CommandFacts, args: &Args<'_>) -> Option<Access> {
    match facts.name {
        "pkscanrange" | "pkrscanrange" if shows_values(args) => Some(Access::READ),
        "pkpatternmatchdel" => Some(Access::WRITE),
        _ => None,
    }
}

/// Whether a selector allows a command, all its keys and all its channels. `number` is the command's in the catalogue.
fn check_selector(
    selector: &Selector,
    number: u16,
    facts: &CommandFacts,
    args: &Args<'_>,
) -> Result<(), Denied> {
    let first_word = if facts.name.contains('|') { 2 } else { 1 };
    let first_word = (args.len() > first_word).then(|| args.get(first_word));
    if !facts.flags.has(Flag::NoAuth) && !selector.allows_command(number, first_word) {
        return Err(NO_COMMAND);
    }
    if !selector.allows_all_keys() && facts.keys.iter().any(names_keys) {
        let is_denied = |word: usize, flags| {
            !selector.allows_key(args.get(word), access_of(flags_with(facts.name, flags, args)))
        };
        let (mut denied, mut denied_other) = (None, None);
        let complete = find_command_keys(facts, args, |word, flags| {
            denied = denied.or_else(|| is_denied(word, flags).then_some(word));
        });
        find_other_keys(facts, args, |word, flags| {
            denied_other = denied_other.or_else(|| is_denied(word, flags).then_some(word));
        });
        // Of words that do not fit the command no key is known; it will say what is wrong with them.
        if let Some(word) = denied.filter(|_| complete).or(denied_other) {
            return Err(Denied { reason: Reason::Key, word });
        }
    }
    if let Some(access) = access_to_all(facts, args)
        && !selector.allows_every_key(access)
    {
        // The word that asks for them.
        return Err(Denied { reason: Reason::Key, word: 1 });
    }
    if !selector.allows_all_channels()
        && let Some((mut words, is_pattern)) = channels_of(facts, args.len())
        && let Some(word) = words.find(|&word| !selector.allows_channel(args.get(word), is_pattern))
    {
        return Err(Denied { reason: Reason::Channel, word });
    }
    Ok(())
}

/// Whether a user may run a command with these words.
pub fn check(user: &User, number: u16, facts: &CommandFacts, args: &Args<'_>) -> Result<(), Denied> {
    let (mut furthest, mut word) = (NO_COMMAND, 0);
    for selector in &user.selectors {
        let Err(denied) = check_selector(selector, number, facts, args) else { return Ok(()) };
        if denied.reason != Reason::Command {
            word = denied.word;
        }
        if denied.reason > furthest.reason || denied.reason == furthest.reason && word > furthest.word {
            furthest = Denied { reason: denied.reason, word };
        }
    }
    Err(furthest)
}

/// Whether a user may run a command, and in doing so read any key: SORT makes names of keys.
pub fn may_read_all(user: &User, command: &Command, args: &Args<'_>) -> bool {
    let allows =
        |selector: &Selector| check_selector(selector, command.acl_number, command.facts, args).is_ok();
    user.selectors.iter().any(|selector| selector.allows_every_key(Access::READ) && allows(selector))
}

/// What the client is told.
pub fn refusal(user: &User, facts: &CommandFacts, denied: Denied) -> ReplyError {
    let name = ReplyError::echo(&user.name);
    match denied.reason {
        Reason::Key => ReplyError::fixed("NOPERM No permissions to access a key"),
        Reason::Channel => ReplyError::fixed("NOPERM No permissions to access a channel"),
        Reason::Command | Reason::Auth => {
            let command = facts.name;
            ReplyError::new(format!("NOPERM User {name} has no permissions to run the '{command}' command"))
        }
    }
}

/// What EXEC answers in the place of a queued command that was allowed when it was queued.
pub fn late_refusal(denied: Denied) -> ReplyError {
    let why = match denied.reason {
        Reason::Key => "no permission to touch the specified keys",
        Reason::Channel => "no permission to access one of the channels used as arguments",
        Reason::Command | Reason::Auth => "no permission to execute the command or subcommand",
    };
    ReplyError::new(format!(
        "NOPERM ACLs rules changed between the moment the transaction was accumulated and the EXEC call. This command is no \
         longer allowed for the following reason: {why}"
    ))
}

/// Notes a denial.
pub fn note(
    server: &ServerState,
    table: &Table,
    client: &ClientInfo,
    (reason, in_multi): (Reason, bool),
    object: &[u8],
    user: &[u8],
) {
    let line = describe(client, table, server.clock.monotonic_ms(), WORD_BYTES_MAX);
    let length_max = server.config().number("acllog-max-len").max(0) as usize;
    server.acl_log.add((reason, in_multi), object, user, line, server.clock.unix_ms(), length_max);
}

/// A command that a user asked for.
#[derive(Clone, Copy, Debug)]
pub struct Asked<'a> {
    /// Who.
    pub user: &'a User,
    /// Which command.
    pub facts: &'a CommandFacts,
    /// With which words.
    pub args: Args<'a>,
}

/// Notes that a command was denied.
pub fn note_denied(
    server: &ServerState,
    table: &Table,
    client: &ClientInfo,
    asked: Asked<'_>,
    denied: Denied,
    in_multi: bool,
) {
    let object = match denied.reason {
        Reason::Command => asked.facts.name.as_bytes(),
        _ => asked.args.get(denied.word),
    };
    note(server, table, client, (denied.reason, in_multi), object, &asked.user.name);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::args::OwnedArgs;
    use crate::command::acl::rules::changed;
    use crate::command::facts::catalogue::catalogue;

    fn ask(rules: &str, line: &str) -> Result<(), Denied> {
        let user = changed(None, b"u", rules.split(' ').map(str::as_bytes), false).unwrap();
        let words: Vec<&[u8]> = line.split(' ').map(str::as_bytes).collect();
        let own = OwnedArgs::from_words(&words);
        let args = own.as_args();
        let number = catalogue().find(args.name()).unwrap();
        let sub = catalogue().find(&[args.name(), b"|", args.get(1)].concat()).unwrap_or(number);
        check(&user, sub, catalogue().get(sub).unwrap().facts, &args)
    }

    fn denied(reason: Reason, word: usize) -> Result<(), Denied> {
        Err(Denied { reason, word })
    }

    #[test]
    fn one_selector_has_to_allow_all_of_it() {
        let rules = "+get ~a (+set ~b) (+copy %R~a* %W~b)";
        assert_eq!(ask(rules, "get a"), Ok(()));
        assert_eq!(ask(rules, "set b 1"), Ok(()));
        assert_eq!(ask(rules, "get b"), denied(Reason::Key, 1));
        assert_eq!(ask(rules, "copy ax b"), Ok(()));
        assert_eq!(ask(rules, "copy a a"), denied(Reason::Key, 2));
        assert_eq!(ask(rules, "del a"), denied(Reason::Command, 0));
        assert_eq!(ask("+mget ~key (+mget ~key ~other)", "mget other more"), denied(Reason::Key, 2));
    }

    #[test]
    fn flags_of_keys_count() {
        assert_eq!(ask("+@all %W~k", "set k v"), Ok(()));
        assert_eq!(ask("+@all %W~k", "set k v get"), denied(Reason::Key, 1));
        assert_eq!(ask("+@all %R~k", "bitfield k get u4 0"), Ok(()));
        assert_eq!(ask("+@all %R~k", "bitfield k incrby u4 0 1"), denied(Reason::Key, 1));
        assert_eq!(ask("+@all %R~k", "exists k"), Ok(()));
        assert_eq!(ask("+@all %W~k", "strlen k"), Ok(()));
        assert_eq!(ask("+@all %R~k %W~d", "sort k store d"), Ok(()));
        assert_eq!(ask("+@all %R~k %W~d", "sort k store k"), denied(Reason::Key, 3));
        // Of several STORE the last one counts, and it is looked at too.
        assert_eq!(
            ask("+@all ~k ~streams ~c", "xreadgroup count 1 group streams c streams x >"),
            denied(Reason::Key, 7)
        );
        assert_eq!(ask("+@all ~k ~d", "georadius k 0 0 1 m store d store e"), denied(Reason::Key, 9));
    }

    #[test]
    fn whatever_walks_over_all_keys_needs_them() {
        assert_eq!(ask("+@all ~k", "pkscanrange string a z"), Ok(()));
        assert_eq!(ask("+@all ~k", "pkrscanrange STRING_with_value a z"), denied(Reason::Key, 1));
        assert_eq!(ask("+@all %R~*", "pkscanrange string_with_value a z"), Ok(()));
        assert_eq!(ask("+@all %R~*", "pkpatternmatchdel k*"), denied(Reason::Key, 1));
        assert_eq!(ask("+@all %W~*", "pkpatternmatchdel k*"), Ok(()));
        assert_eq!(ask("+@all %W~*", "pkscanrange string_with_value a z"), denied(Reason::Key, 1));
        assert_eq!(ask("+@all ~k (+get ~*)", "pkpatternmatchdel k*"), denied(Reason::Key, 1));
        assert_eq!(ask("+@all ~k (+pkpatternmatchdel ~*)", "pkpatternmatchdel k*"), Ok(()));
    }

    #[test]
    fn subcommands_words_and_channels() {
        assert_eq!(ask("+config -config|set", "config get x"), Ok(()));
        assert_eq!(ask("+config -config|set", "config set x y"), denied(Reason::Command, 0));
        assert_eq!(ask("+select|0", "select 0"), Ok(()));
        assert_eq!(ask("+select|0", "select 1"), denied(Reason::Command, 0));
        assert_eq!(ask("", "auth x"), Ok(()));
        assert_eq!(ask("+@all &a*", "subscribe ab b"), denied(Reason::Channel, 2));
        assert_eq!(ask("+@all &a*", "psubscribe a* ab*"), denied(Reason::Channel, 2));
        assert_eq!(ask("+@all &a*", "publish ab b"), Ok(()));
        assert_eq!(ask("+@all &a*", "unsubscribe b"), Ok(()));
    }
}
