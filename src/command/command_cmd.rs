//! COMMAND and its subcommands: what clients ask about commands.

use crate::base::args::{Args, is_keyword};
use crate::base::glob;
use crate::base::reply_error::ReplyError;
use crate::base::stop::Stop;
use crate::command::facts::model::{
    Acl, Argument, ArgumentKind, BeginSearch, CommandFacts, FindKeys, Flag, KeyFlagSet, KeySpec,
};
use crate::command::key_finder::{find_command_keys, flags_with, names_keys};
use crate::command::spec::{Command, Context, Table};
use haypile_resp::ReplyWriter;

/// COMMAND.
pub fn command(ctx: &mut Context<'_>) -> Result<(), Stop> {
    let table = ctx.table;
    ctx.reply.array(table.top().len());
    for command in table.top() {
        write_info(ctx.reply, table, command);
    }
    Ok(())
}

/// COMMAND COUNT.
pub fn count(ctx: &mut Context<'_>) -> Result<(), Stop> {
    ctx.reply.integer(ctx.table.top().len() as i64);
    Ok(())
}

/// COMMAND INFO.
pub fn info(ctx: &mut Context<'_>) -> Result<(), Stop> {
    let table = ctx.table;
    if ctx.args.len() == 2 {
        return command(ctx);
    }
    ctx.reply.array(ctx.args.len() - 2);
    for name in ctx.args.from(2) {
        match table.find_full(name) {
            Some(command) => write_info(ctx.reply, table, command),
            None => ctx.reply.null(),
        }
    }
    Ok(())
}

/// What COMMAND INFO tells of a command.
pub fn write_info(reply: &mut ReplyWriter, table: &Table, command: &Command) {
    let facts = command.facts;
    reply.array(10);
    reply.bulk(facts.name.as_bytes());
    reply.integer(i64::from(facts.arity));
    reply.set(facts.flags.iter().count());
    for flag in facts.flags.iter() {
        reply.simple(flag.name());
    }
    let (first, last, step) = facts.first_last_step();
    for number in [first, last, step] {
        reply.integer(i64::from(number));
    }
    let acl = facts.acl();
    reply.set(acl.iter().count());
    for category in acl.iter() {
        reply.simple(&format!("@{}", category.name()));
    }
    reply.set(facts.tips.len());
    for tip in facts.tips {
        reply.bulk(tip.as_bytes());
    }
    reply.set(facts.keys.len());
    for spec in facts.keys {
        write_key_spec(reply, spec);
    }
    // An empty list is a set to clients of Redis, too.
    if command.subcommands.is_empty() {
        reply.set(0);
    } else {
        reply.array(command.subcommands.len());
    }
    for sub in command.subcommands.iter().filter_map(|&index| table.get(index)) {
        write_info(reply, table, sub);
    }
}

fn write_key_flags(reply: &mut ReplyWriter, flags: KeyFlagSet) {
    reply.set(flags.iter().count());
    for flag in flags.iter() {
        reply.simple(flag.name());
    }
}

fn write_key_spec(reply: &mut ReplyWriter, spec: &KeySpec) {
    reply.map(3);
    reply.bulk(b"flags");
    write_key_flags(reply, spec.flags);
    let typed = |reply: &mut ReplyWriter, kind: &str, numbers: &[(&str, i64)]| {
        reply.map(2);
        reply.bulk(b"type");
        reply.bulk(kind.as_bytes());
        reply.bulk(b"spec");
        reply.map(numbers.len());
        for (name, number) in numbers {
            reply.bulk(name.as_bytes());
            reply.integer(*number);
        }
    };
    reply.bulk(b"begin_search");
    match spec.begin {
        BeginSearch::Index(index) => typed(reply, "index", &[("index", i64::from(index))]),
        BeginSearch::Keyword { keyword, start } => {
            reply.map(2);
            reply.bulk(b"type");
            reply.bulk(b"keyword");
            reply.bulk(b"spec");
            reply.map(2);
            reply.bulk(b"keyword");
            reply.bulk(keyword.as_bytes());
            reply.bulk(b"startfrom");
            reply.integer(i64::from(start));
        }
        BeginSearch::Unknown => typed(reply, "unknown", &[]),
    }
    reply.bulk(b"find_keys");
    match spec.find {
        FindKeys::Range { last, step, limit } => typed(
            reply,
            "range",
            &[("lastkey", i64::from(last)), ("keystep", i64::from(step)), ("limit", i64::from(limit))],
        ),
        FindKeys::Count { count, first, step } => typed(
            reply,
            "keynum",
            &[("keynumidx", i64::from(count)), ("firstkey", i64::from(first)), ("keystep", i64::from(step))],
        ),
        FindKeys::Unknown => typed(reply, "unknown", &[]),
    }
}

/// COMMAND DOCS.
pub fn docs(ctx: &mut Context<'_>) -> Result<(), Stop> {
    let table = ctx.table;
    let commands: Vec<&Command> = if ctx.args.len() == 2 {
        table.top().collect()
    } else {
        ctx.args.from(2).filter_map(|name| table.find_full(name)).collect()
    };
    ctx.reply.map(commands.len());
    for command in commands {
        write_docs(ctx.reply, table, command);
    }
    Ok(())
}

/// A map whose number of pairs is known only at its end.
struct Pairs<'w> {
    reply: &'w mut ReplyWriter,
    mark: haypile_resp::Mark,
    count: usize,
}

impl<'w> Pairs<'w> {
    fn begin(reply: &'w mut ReplyWriter) -> Pairs<'w> {
        let mark = reply.begin_array();
        Pairs { reply, mark, count: 0 }
    }

    fn key(&mut self, name: &str) -> &mut ReplyWriter {
        self.count += 1;
        self.reply.bulk(name.as_bytes());
        self.reply
    }

    fn text(&mut self, name: &str, value: &str) {
        if !value.is_empty() {
            self.key(name).bulk(value.as_bytes());
        }
    }

    fn end(self) {
        self.reply.end_map(self.mark, self.count);
    }
}

/// What COMMAND DOCS tells of a command: its name and a map.
pub fn write_docs(reply: &mut ReplyWriter, table: &Table, command: &Command) {
    let facts: &CommandFacts = command.facts;
    reply.bulk(facts.name.as_bytes());
    let mut pairs = Pairs::begin(reply);
    pairs.text("summary", facts.summary);
    pairs.text("since", facts.since);
    pairs.text("group", facts.group.name());
    pairs.text("complexity", facts.complexity);
    let flags: Vec<&str> = [(facts.deprecated.is_some(), "deprecated"), (facts.internal, "syscmd")]
        .into_iter()
        .filter_map(|(set, name)| set.then_some(name))
        .collect();
    if !flags.is_empty() {
        let reply = pairs.key("doc_flags");
        reply.set(flags.len());
        for flag in flags {
            reply.simple(flag);
        }
    }
    if let Some(deprecation) = facts.deprecated {
        pairs.text("deprecated_since", deprecation.since);
        pairs.text("replaced_by", deprecation.instead);
    }
    if !facts.arguments.is_empty() {
        write_arguments(pairs.key("arguments"), facts.arguments);
    }
    if !command.subcommands.is_empty() {
        let reply = pairs.key("subcommands");
        reply.map(command.subcommands.len());
        for sub in command.subcommands.iter().filter_map(|&index| table.get(index)) {
            write_docs(reply, table, sub);
        }
    }
    pairs.end();
}

fn write_arguments(reply: &mut ReplyWriter, arguments: &[Argument]) {
    reply.array(arguments.len());
    for argument in arguments {
        let mut pairs = Pairs::begin(reply);
        pairs.text("name", argument.name);
        pairs.text("type", argument.kind.name());
        let has_parts = matches!(argument.kind, ArgumentKind::Block | ArgumentKind::OneOf);
        pairs.text("display_text", argument.display.unwrap_or(if has_parts { "" } else { argument.name }));
        if let Some(spec) = argument.key_spec {
            pairs.key("key_spec_index").integer(i64::from(spec));
        }
        if let Some(token) = argument.token {
            pairs.key("token").bulk(token.as_bytes());
        }
        pairs.text("since", argument.since.unwrap_or_default());
        pairs.text("deprecated_since", argument.deprecated_since.unwrap_or_default());
        let flags: Vec<&str> = [
            (argument.optional, "optional"),
            (argument.multiple, "multiple"),
            (argument.multiple_token, "multiple_token"),
        ]
        .into_iter()
        .filter_map(|(set, name)| set.then_some(name))
        .collect();
        if !flags.is_empty() {
            let reply = pairs.key("flags");
            reply.set(flags.len());
            for flag in flags {
                reply.simple(flag);
            }
        }
        if has_parts {
            write_arguments(pairs.key("arguments"), argument.parts);
        }
        pairs.end();
    }
}

/// COMMAND LIST.
pub fn list(ctx: &mut Context<'_>) -> Result<(), Stop> {
    let args = ctx.args;
    let table = ctx.table;
    let names: Vec<&str> = match args.len() {
        2 => table.all().filter(|one| table.is_reachable(one)).map(|command| command.facts.name).collect(),
        5 if is_keyword(args.get(2), "FILTERBY") => {
            let wanted = args.get(4);
            if is_keyword(args.get(3), "MODULE") {
                Vec::new()
            } else if is_keyword(args.get(3), "ACLCAT") {
                let category = Acl::ALL.iter().find(|category| is_keyword(wanted, category.name()));
                let has = |command: &&Command| category.is_some_and(|acl| command.facts.acl().has(*acl));
                let reachable = |command: &&Command| table.is_reachable(command);
                table.all().filter(has).filter(reachable).map(|command| command.facts.name).collect()
            } else if is_keyword(args.get(3), "PATTERN") {
                table
                    .all()
                    .filter(|command| table.is_reachable(command))
                    .map(|command| command.facts.name)
                    .filter(|name| glob::matches_case(wanted, name.as_bytes(), true))
                    .collect()
            } else {
                return Err(ReplyError::SYNTAX.into());
            }
        }
        _ => return Err(ReplyError::SYNTAX.into()),
    };
    ctx.reply.array(names.len());
    for name in names {
        ctx.reply.bulk(name.as_bytes());
    }
    Ok(())
}

/// The keys that a command with these words names, with what is done to them: what COMMAND GETKEYSANDFLAGS tells.
pub fn keys_of<'a>(table: &Table, args: &Args<'a>) -> Result<Vec<(&'a [u8], KeyFlagSet)>, ReplyError> {
    let command = match table.find(args.name()) {
        Some(container) if !container.subcommands.is_empty() && args.len() > 1 => {
            table.find_subcommand(container, args.get(1))
        }
        other => other,
    };
    let facts = command.ok_or(ReplyError::fixed("ERR Invalid command specified"))?.facts;
    if !facts.keys.iter().any(names_keys) {
        return Err(ReplyError::fixed("ERR The command has no key arguments"));
    }
    if !facts.accepts(args.len()) {
        return Err(ReplyError::fixed("ERR Invalid number of arguments specified for command"));
    }
    let mut keys = Vec::new();
    let complete = find_command_keys(facts, args, |index, flags| {
        keys.push((args.get(index), flags_with(facts.name, flags, args)));
    });
    match complete && !keys.is_empty() {
        true => Ok(keys),
        false if facts.flags.has(Flag::NoMandatoryKeys) => Ok(Vec::new()),
        false => Err(ReplyError::fixed("ERR Invalid arguments specified for command")),
    }
}

/// COMMAND GETKEYS.
pub fn getkeys(ctx: &mut Context<'_>) -> Result<(), Stop> {
    let keys = keys_of(ctx.table, &ctx.args.tail(2))?;
    ctx.reply.array(keys.len());
    for (key, _) in keys {
        ctx.reply.bulk(key);
    }
    Ok(())
}

/// COMMAND GETKEYSANDFLAGS.
pub fn getkeysandflags(ctx: &mut Context<'_>) -> Result<(), Stop> {
    let keys = keys_of(ctx.table, &ctx.args.tail(2))?;
    write_keys(ctx.reply, &keys);
    Ok(())
}

/// Keys with what is done to them.
pub fn write_keys(reply: &mut ReplyWriter, keys: &[(&[u8], KeyFlagSet)]) {
    reply.array(keys.len());
    for (key, flags) in keys {
        reply.array(2);
        reply.bulk(key);
        write_key_flags(reply, *flags);
    }
}
