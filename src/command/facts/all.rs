//! All groups of commands together.

use crate::command::facts::bitmap;
use crate::command::facts::cluster;
use crate::command::facts::connection;
use crate::command::facts::generic;
use crate::command::facts::geo;
use crate::command::facts::hash;
use crate::command::facts::hyperloglog;
use crate::command::facts::list;
use crate::command::facts::model::CommandFacts;
use crate::command::facts::pubsub;
use crate::command::facts::scripting;
use crate::command::facts::server;
use crate::command::facts::set;
use crate::command::facts::sorted_set;
use crate::command::facts::stream;
use crate::command::facts::string;
use crate::command::facts::transactions;

/// The tables of all groups.
pub static GROUPS: &[&[CommandFacts]] = &[
    bitmap::COMMANDS,
    cluster::COMMANDS,
    connection::COMMANDS,
    generic::COMMANDS,
    geo::COMMANDS,
    hash::COMMANDS,
    hyperloglog::COMMANDS,
    list::COMMANDS,
    pubsub::COMMANDS,
    scripting::COMMANDS,
    server::COMMANDS,
    set::COMMANDS,
    sorted_set::COMMANDS,
    stream::COMMANDS,
    string::COMMANDS,
    transactions::COMMANDS,
];

/// Every command, containers without their subcommands, group by group.
pub fn commands() -> impl Iterator<Item = &'static CommandFacts> {
    GROUPS.iter().copied().flatten()
}

/// The facts about a command (`set`) or subcommand (`client|kill`), in lower case. Searches; for tables built
/// at start, not for every request.
pub fn find(name: &str) -> Option<&'static CommandFacts> {
    let container = name.split_once('|').map_or(name, |(container, _)| container);
    let command = GROUPS.iter().find_map(|group| search(group, container))?;
    if container == name { Some(command) } else { search(command.subcommands, name) }
}

fn search(sorted: &'static [CommandFacts], name: &str) -> Option<&'static CommandFacts> {
    let index = sorted.binary_search_by(|facts| facts.name.cmp(name)).ok()?;
    sorted.get(index)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command::facts::model::{Acl, Argument, ArgumentKind, BeginSearch, FindKeys, Flag, KeyFlag};
    use std::collections::BTreeSet;

    fn with_subcommands() -> impl Iterator<Item = &'static CommandFacts> {
        commands().flat_map(|command| std::iter::once(command).chain(command.subcommands))
    }

    /// Fewest and most words that arguments can take; `None`: no end.
    fn words(arguments: &[Argument]) -> (i32, Option<i32>) {
        arguments.iter().map(words_of_one).fold((0, Some(0)), |(least, most), (low, high)| {
            (least + low, most.zip(high).map(|(most, high)| most + high))
        })
    }

    fn words_of_one(argument: &Argument) -> (i32, Option<i32>) {
        let token = i32::from(argument.token.is_some());
        let (least, most) = match argument.kind {
            ArgumentKind::PureToken => (0, Some(0)),
            ArgumentKind::Block => words(argument.parts),
            ArgumentKind::OneOf => {
                let parts: Vec<_> = argument.parts.iter().map(words_of_one).collect();
                let least = parts.iter().map(|(least, _)| *least).min().unwrap_or(0);
                (least, parts.iter().map(|(_, most)| *most).reduce(|a, b| Some(a?.max(b?))).flatten())
            }
            _ => (1, Some(1)),
        };
        let least = if argument.optional { 0 } else { least + token };
        (least, if argument.multiple { None } else { most.map(|most| most + token) })
    }

    fn each_argument(arguments: &'static [Argument], visit: &mut impl FnMut(&'static Argument)) {
        for argument in arguments {
            visit(argument);
            each_argument(argument.parts, visit);
        }
    }

    #[test]
    fn sorted_and_unique() {
        for list in GROUPS.iter().copied().chain(commands().map(|command| command.subcommands)) {
            assert!(list.is_sorted_by(|a, b| a.name < b.name));
        }
        let mut names = BTreeSet::new();
        for facts in with_subcommands() {
            assert!(names.insert(facts.name), "{}", facts.name);
            assert!(std::ptr::eq(find(facts.name).unwrap(), facts));
        }
        assert!(find("nosuch").is_none() && find("client|nosuch").is_none() && find("get|x").is_none());
    }

    #[test]
    fn every_fact_is_there() {
        for facts in with_subcommands() {
            let name = facts.name;
            assert_eq!(name, name.to_lowercase());
            assert!(facts.since.split('.').count() == 3, "{name}");
            assert!(!facts.summary.is_empty() && !facts.summary.ends_with('.'), "{name}");
            assert!(!facts.complexity.is_empty(), "{name}");
        }
        for command in commands() {
            for sub in command.subcommands {
                assert_eq!(sub.name.split_once('|').unwrap(), (command.name, sub.own_name()));
                assert_eq!(sub.group, command.group);
                assert!(sub.subcommands.is_empty());
            }
        }
    }

    /// Commands whose documented arguments are not all that they accept, or not all that they need.
    const LOOSELY_DOCUMENTED: &[&str] = &["client|kill", "quit", "debug", "psync", "replconf"];

    #[test]
    fn arity_agrees_with_arguments() {
        let mut loose = Vec::new();
        for facts in with_subcommands().filter(|facts| facts.subcommands.is_empty()) {
            assert!(facts.arity != 0, "{}", facts.name);
            let (least, most) = words(facts.arguments);
            let names = 1 + i32::from(facts.name.contains('|'));
            if facts.arity.abs() != least + names || (facts.arity > 0) != (most == Some(least)) {
                loose.push(facts.name);
            }
        }
        assert_eq!(loose, LOOSELY_DOCUMENTED);
        let set = find("set").unwrap();
        assert_eq!([2, 3, 4].map(|count| set.accepts(count)), [false, true, true]);
        let get = find("get").unwrap();
        assert_eq!([1, 2, 3].map(|count| get.accepts(count)), [false, true, false]);
    }

    /// Commands that may change their keys and are no writing commands: what a script does shows when it runs, and PFCOUNT may keep
    /// what it has computed.
    const MAY_WRITE: &[&str] = &["eval", "evalsha", "fcall", "pfcount"];

    #[test]
    fn keys_agree_with_flags_and_arity() {
        for facts in with_subcommands() {
            let name = facts.name;
            let (write, read) = (facts.flags.has(Flag::Write), facts.flags.has(Flag::ReadOnly));
            assert!(!(write && read), "{name}");
            for spec in facts.keys {
                let kinds = [KeyFlag::Ro, KeyFlag::Rw, KeyFlag::Ow, KeyFlag::Rm];
                let kinds = kinds.into_iter().filter(|kind| spec.flags.has(*kind)).count();
                assert_eq!(kinds, usize::from(!spec.flags.has(KeyFlag::NotKey)), "{name}");
                let changes =
                    [KeyFlag::Rw, KeyFlag::Ow, KeyFlag::Rm].iter().any(|kind| spec.flags.has(*kind));
                assert!(!changes || write || MAY_WRITE.contains(&name), "{name}");
                if let BeginSearch::Index(index) = spec.begin {
                    assert!(index >= 1 && index <= facts.arity.abs(), "{name}");
                }
                if let FindKeys::Range { step, .. } | FindKeys::Count { step, .. } = spec.find {
                    assert!(step >= 1, "{name}");
                }
            }
            each_argument(facts.arguments, &mut |argument| {
                if let Some(index) = argument.key_spec {
                    assert!(facts.keys.get(usize::from(index)).is_some(), "{name} {}", argument.name);
                }
                let aggregate = matches!(argument.kind, ArgumentKind::OneOf | ArgumentKind::Block);
                assert_eq!(aggregate, !argument.parts.is_empty(), "{name} {}", argument.name);
            });
        }
    }

    #[test]
    fn what_follows_from_facts() {
        let triple = |name| find(name).unwrap().first_last_step();
        assert_eq!(triple("get"), (1, 1, 1));
        assert_eq!(triple("del"), (1, -1, 1));
        assert_eq!(triple("mset"), (1, -1, 2));
        assert_eq!(triple("rename"), (1, 2, 1));
        assert_eq!(triple("bitop"), (2, -1, 1));
        assert_eq!(triple("sort"), (1, 1, 1));
        assert_eq!(triple("ping"), (0, 0, 0));
        assert_eq!(triple("object|encoding"), (2, 2, 1));
        let acl = |name| find(name).unwrap().acl().iter().map(Acl::name).collect::<Vec<_>>();
        assert_eq!(acl("set"), ["write", "string", "slow"]);
        assert_eq!(acl("config|set"), ["admin", "slow", "dangerous"]);
        assert_eq!(acl("subscribe"), ["pubsub", "slow"]);
        let flags: Vec<_> = find("ping").unwrap().flags.iter().map(Flag::name).collect();
        assert_eq!(flags, ["fast"]);
    }
}
