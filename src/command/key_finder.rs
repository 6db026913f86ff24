//! Which arguments of a command are keys: key specifications applied to words, and for the few commands whose specifications do
//! not tell all (SORT, MIGRATE), the words read as the command reads them.

use crate::base::args::{Args, is_keyword};
use crate::command::facts::model::{BeginSearch, CommandFacts, FindKeys, Flag, KeyFlag, KeyFlagSet, KeySpec};
use crate::command::spec::{Command, Table};
use crate::session::session::Session;

/// Calls `found` with the index of each key that a command with these words names, and with what is done to it. False if the words do
/// not fit the command; the command itself will say what is wrong with them.
pub fn find_command_keys(
    facts: &CommandFacts,
    args: &Args<'_>,
    mut found: impl FnMut(usize, KeyFlagSet),
) -> bool {
    // Only the name of a command with the flag is looked at: this is on the way of every command.
    if facts.flags.has(Flag::MovableKeys) {
        match (facts.name, facts.keys) {
            ("sort", [source, _, destination]) => {
                return find_sort_keys(source, Some(destination), args, found);
            }
            ("sort_ro", [source, ..]) => return find_sort_keys(source, None, args, found),
            ("migrate", [key, ..]) => return find_migrate_keys(key, args, found),
            _ => {}
        }
    }
    let mut named = facts.keys.iter().filter(|spec| names_keys(spec));
    named.all(|spec| find_keys(spec, args, |index| found(index, spec.flags)))
}

/// Calls `found` with each key that a command names, and the number of its database; for EXEC those of all queued commands and of the
/// watched keys. With exactly these locked a command may write, and an EXEC run.
pub fn for_each_name<'a>(
    table: &Table,
    command: &Command,
    session: &'a Session,
    args: &Args<'a>,
    mut found: impl FnMut(usize, &'a [u8]),
) {
    for_each_command(table, command, session, args, |facts, db, args| names_of(facts, db, args, &mut found));
    if command.runs_queue && session.multi.is_some() {
        session.watched.keys().for_each(|(db, key)| found(db, key));
    }
}

/// Calls `f` with a command and the number of its database; for EXEC with all queued commands.
pub fn for_each_command<'a>(
    table: &Table,
    command: &Command,
    session: &'a Session,
    args: &Args<'a>,
    mut f: impl FnMut(&CommandFacts, usize, &Args<'a>),
) {
    match session.multi.as_deref() {
        Some(multi) if command.runs_queue => {
            let mut db = session.db;
            for queued in multi.commands() {
                let Some(command) = table.get(queued.command) else { continue };
                let args = queued.args.as_args();
                f(command.facts, db, &args);
                if command.facts.name == "select" {
                    db = multi.selected(args.get(1)).unwrap_or(db);
                }
            }
        }
        _ => f(command.facts, session.db, args),
    }
}

/// Calls `found` with each key that one command names, and the number of its database.
#[inline]
pub fn names_of<'a>(
    facts: &CommandFacts,
    db: usize,
    args: &Args<'a>,
    mut found: impl FnMut(usize, &'a [u8]),
) {
    find_command_keys(facts, args, |index, _| found(db, args.get(index)));
    if let Some((db, key)) = other_database(facts, args) {
        found(db, key);
    }
    find_other_keys(facts, args, |index, _| found(db, args.get(index)));
}

/// Calls `found` with keys that a command may name besides those that its specifications find. Of several STORE of GEORADIUS the last
/// one counts, the specification names the first; and the group or consumer of XREADGROUP may be called STREAMS.
#[inline]
pub fn find_other_keys(facts: &CommandFacts, args: &Args<'_>, mut found: impl FnMut(usize, KeyFlagSet)) {
    match facts.name {
        "georadius" | "georadiusbymember" => {
            let flags = KeyFlagSet::of(&[KeyFlag::Ow, KeyFlag::Update]);
            let is_store =
                |at: &usize| is_keyword(args.get(*at), "STORE") || is_keyword(args.get(*at), "STOREDIST");
            let options = if facts.name == "georadius" { 6 } else { 5 };
            (options..args.len().saturating_sub(1)).filter(is_store).for_each(|at| found(at + 1, flags));
        }
        "xreadgroup" => {
            let is_streams = |word: &&[u8]| is_keyword(word, "STREAMS");
            if args.from(4).filter(is_streams).count() > 1
                && let (Some(at), [spec, ..]) = (streams_word(args), facts.keys)
            {
                (at + 1..at + 1 + (args.len() - at - 1) / 2).for_each(|at| found(at, spec.flags));
            }
        }
        _ => {}
    }
}

/// The word behind which XREADGROUP names its keys.
fn streams_word(args: &Args<'_>) -> Option<usize> {
    let mut at = 1;
    while at < args.len() {
        at += match args.get(at) {
            word if is_keyword(word, "STREAMS") => return Some(at),
            word if is_keyword(word, "GROUP") => 3,
            word if is_keyword(word, "COUNT") || is_keyword(word, "BLOCK") => 2,
            word if is_keyword(word, "NOACK") => 1,
            _ => return None,
        };
    }
    None
}

/// Whether a PKSCANRANGE or PKRSCANRANGE with these words tells values, too.
pub fn shows_values(args: &Args<'_>) -> bool {
    is_keyword(args.get(1), "string_with_value")
}

/// What a command does to its key with these very words, where the facts say that it depends.
pub fn flags_with(name: &str, flags: KeyFlagSet, args: &Args<'_>) -> KeyFlagSet {
    if !flags.has(KeyFlag::VariableFlags) {
        return flags;
    }
    let changes = KeyFlagSet::of(&[KeyFlag::Rw, KeyFlag::Access, KeyFlag::Update]);
    match name {
        "set" if !args.from(3).any(|word| is_keyword(word, "GET")) => {
            KeyFlagSet::of(&[KeyFlag::Ow, KeyFlag::Update])
        }
        "bitfield" if only_reads_fields(args) => KeyFlagSet::of(&[KeyFlag::Ro, KeyFlag::Access]),
        _ => changes,
    }
}

/// Whether a BITFIELD, as far as its words make sense, only reads. If they do not it is taken to write.
fn only_reads_fields(args: &Args<'_>) -> bool {
    let mut words = args.options(2);
    while let Some(word) = words.next_word() {
        let values = match word {
            _ if is_keyword(word, "GET") && words.left() >= 2 => 2,
            _ if is_keyword(word, "OVERFLOW") && words.left() >= 1 => 1,
            _ => return false,
        };
        for _ in 0..values {
            words.next_word();
        }
    }
    true
}

fn database_number(word: &[u8]) -> Option<usize> {
    std::str::from_utf8(word).ok()?.parse().ok()
}

/// MOVE and COPY .. DB name a key in another database.
fn other_database<'a>(facts: &CommandFacts, args: &Args<'a>) -> Option<(usize, &'a [u8])> {
    let (db, key) = match facts.name {
        "move" => (args.get(2), args.get(1)),
        "copy" => {
            // The last one counts.
            let at = (3..args.len()).rev().find(|&at| is_keyword(args.get(at), "DB"))?;
            (args.get(at + 1), args.get(2))
        }
        _ => return None,
    };
    Some((database_number(db)?, key))
}

/// The key that is sorted, and the last STORE. The keys that patterns of BY and GET will make are not known before the elements.
fn find_sort_keys(
    source: &KeySpec,
    destination: Option<&KeySpec>,
    args: &Args<'_>,
    mut found: impl FnMut(usize, KeyFlagSet),
) -> bool {
    let mut store = None;
    let mut at = 2;
    while at < args.len() {
        let word = args.get(at);
        at += 1;
        if is_keyword(word, "LIMIT") {
            at += 2;
        } else if is_keyword(word, "BY") || is_keyword(word, "GET") {
            at += 1;
        } else if is_keyword(word, "STORE") {
            store = (at < args.len()).then_some(at).or(store);
            at += 1;
        }
    }
    let complete = find_keys(source, args, |index| found(index, source.flags));
    if let (Some(store), Some(destination)) = (store, destination) {
        found(store, destination.flags);
    }
    complete
}

/// The key in its place, or, where that is empty, all behind KEYS. With nothing behind it, KEYS does not replace that key.
fn find_migrate_keys(spec: &KeySpec, args: &Args<'_>, mut found: impl FnMut(usize, KeyFlagSet)) -> bool {
    let mut at = 6;
    while at < args.len() {
        let word = args.get(at);
        at += 1;
        if is_keyword(word, "AUTH") {
            at += 1;
        } else if is_keyword(word, "AUTH2") {
            at += 2;
        } else if is_keyword(word, "KEYS") && at < args.len() {
            (at..args.len()).for_each(|index| found(index, spec.flags));
            return args.get(3).is_empty();
        }
    }
    find_keys(spec, args, |index| found(index, spec.flags))
}

/// Calls `found` with the index of each key that `spec` names. False if the words do not fit the specification.
fn find_keys(spec: &KeySpec, args: &Args<'_>, mut found: impl FnMut(usize)) -> bool {
    let count = args.len() as i64;
    let begin = match spec.begin {
        BeginSearch::Index(index) => i64::from(index),
        BeginSearch::Keyword { keyword, start } => {
            let start = i64::from(start);
            let position = if start >= 0 {
                // As in Redis, behind the last word there is nothing to name.
                (start..count - 1).find(|&at| is_keyword(args.get(at as usize), keyword))
            } else {
                (1..=count + start).rev().find(|&at| is_keyword(args.get(at as usize), keyword))
            };
            match position {
                Some(at) => at + 1,
                None => return true,
            }
        }
        BeginSearch::Unknown => return false,
    };
    let (first, last, step) = match spec.find {
        FindKeys::Range { last, step, limit } => {
            let last = i64::from(last);
            let last = match last {
                0.. => begin + last,
                -1 if limit > 1 => begin + (count - begin) / i64::from(limit) - 1,
                _ => count + last,
            };
            (begin, last, i64::from(step))
        }
        FindKeys::Count { count: at, first, step } => {
            let at = begin + i64::from(at);
            if at >= count {
                return false;
            }
            let Ok(keys) = args.integer(at as usize) else { return false };
            let first = begin + i64::from(first);
            if keys < 1 || keys > count {
                return false;
            }
            (first, first + (keys - 1) * i64::from(step), i64::from(step))
        }
        FindKeys::Unknown => return false,
    };
    if first < 1 || step < 1 || (last >= count && first <= last) {
        return false;
    }
    let mut at = first;
    while at <= last {
        found(at as usize);
        at += step;
    }
    true
}

/// Whether a specification names keys of the data (and not only something that is routed like one).
pub fn names_keys(spec: &KeySpec) -> bool {
    !spec.flags.has(KeyFlag::NotKey)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::args::OwnedArgs;
    use crate::command::facts::all::find;

    fn keys(spec: KeySpec, line: &str) -> Option<Vec<usize>> {
        let words: Vec<&[u8]> = line.split(' ').map(str::as_bytes).collect();
        let args = OwnedArgs::from_words(&words);
        let mut indexes = Vec::new();
        find_keys(&spec, &args.as_args(), |index| indexes.push(index)).then_some(indexes)
    }

    #[test]
    fn of_a_repeated_option_the_last_is_locked() {
        let locked = |line: &str| {
            let words: Vec<&[u8]> = line.split(' ').map(str::as_bytes).collect();
            let args = OwnedArgs::from_words(&words);
            let facts = find(line.split(' ').next().unwrap_or_default()).expect("a command");
            let mut found = Vec::new();
            names_of(facts, 7, &args.as_args(), |db, key| {
                found.push((db, String::from_utf8_lossy(key).into_owned()))
            });
            found
        };
        assert!(locked("copy a b DB 1 DB 2").contains(&(2, "b".into())));
        let line = "georadius k 0 0 1 m STORE x STORE y";
        assert!(locked(line).contains(&(7, "y".into())), "{:?}", locked(line));
        let line = "xreadgroup count 1 group streams c streams k >";
        assert!(locked(line).contains(&(7, "k".into())), "{:?}", locked(line));
    }

    #[test]
    fn all_shapes() {
        assert_eq!(keys(KeySpec::one(1, &[]), "get a"), Some(vec![1]));
        assert_eq!(keys(KeySpec::one(1, &[]), "get"), None);
        assert_eq!(keys(KeySpec::rest(1, &[]), "del a b c"), Some(vec![1, 2, 3]));
        assert_eq!(keys(KeySpec::range(1, -1, 2, &[]), "mset a 1 b 2"), Some(vec![1, 3]));
        assert_eq!(keys(KeySpec::range(1, -2, 1, &[]), "blpop a b 0"), Some(vec![1, 2]));
        assert_eq!(keys(KeySpec::counted(1, &[]), "lmpop 2 a b left"), Some(vec![2, 3]));
        assert_eq!(keys(KeySpec::counted(1, &[]), "lmpop 9 a b left"), None);
        assert_eq!(keys(KeySpec::counted(1, &[]), "lmpop x a"), None);
        assert_eq!(keys(KeySpec::counted(1, &[]), "lmpop 0 left"), None);
        let streams = KeySpec::half_after_keyword("STREAMS", 1, &[]);
        assert_eq!(keys(streams, "xread count 1 streams a b 0 0"), Some(vec![4, 5]));
        assert_eq!(keys(KeySpec::after_keyword("STORE", 1, &[]), "sort k"), Some(vec![]));
        let store = KeySpec::one_after_keyword("STORE", 5, &[]);
        assert_eq!(keys(store, "georadiusbymember k m 1 km asc store d"), Some(vec![7]));
        assert_eq!(keys(store, "georadiusbymember k m 1 km asc store"), Some(vec![]));
        assert_eq!(keys(KeySpec::unknown(&[]), "sort k"), None);
    }

    #[test]
    fn keys_that_specifications_do_not_tell() {
        let keys = |line: &str| {
            let words: Vec<&[u8]> = line.split(' ').map(str::as_bytes).collect();
            let args = OwnedArgs::from_words(&words);
            let facts = find(&line[..line.find(' ').unwrap()]).unwrap();
            let mut indexes = Vec::new();
            find_command_keys(facts, &args.as_args(), |index, _| indexes.push(index)).then_some(indexes)
        };
        assert_eq!(keys("sort k by store get store limit 0 1 store d"), Some(vec![1, 10]));
        assert_eq!(keys("sort k desc store"), Some(vec![1]));
        assert_eq!(keys("sort_ro k store d"), Some(vec![1]));
        assert_eq!(keys("migrate host 1 k 0 9 copy"), Some(vec![3]));
        assert_eq!(keys("migrate host 1  0 9 auth keys keys a b"), Some(vec![9, 10]));
        assert_eq!(keys("migrate host 1 k 0 9 keys a"), None);
        assert_eq!(keys("migrate host 1 k 0 9 keys"), Some(vec![3]));
        assert_eq!(keys("zunionstore d 3 a b"), None);
    }
}
