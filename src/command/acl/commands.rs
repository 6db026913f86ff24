//! ACL and its subcommands.

use crate::base::args::{Args, is_keyword};
use crate::base::reply_error::ReplyError;
use crate::base::sha256::hex;
use crate::base::stop::Stop;
use crate::command::acl::check::check;
use crate::command::acl::ending::{Change, end_clients};
use crate::command::acl::file::{all_channels, load, path, save};
use crate::command::acl::rules::{changed, has_blanks};
use crate::command::facts::catalogue::catalogue;
use crate::command::facts::model::Acl;
use crate::command::spec::{Class, Context};
use crate::session::acl_log::Reason;
use crate::session::permissions::{DEFAULT_USER, Selector};
use crate::store::txn::Mode;
use haypile_resp::ReplyWriter;
use std::path::PathBuf;

const NO_FILE: ReplyError = ReplyError::fixed(
    "ERR This Redis instance is not configured to use an ACL file. You may want to specify users via the ACL SETUSER command \
     and then issue a CONFIG REWRITE (assuming you have a Redis configuration file set) in order to store users in the \
     Redis configuration.",
);

/// Bytes of words above which digests of passwords take too long for a worker.
const INLINE_BYTES_MAX: usize = 64 << 10;
/// How many words, each of them a rule or a user, a worker has time for.
const INLINE_WORDS_MAX: usize = 256;

/// Where commands run that change users.
pub fn class(args: &Args<'_>) -> Class {
    let is_long =
        args.len() > INLINE_WORDS_MAX || args.iter().map(<[u8]>::len).sum::<usize>() > INLINE_BYTES_MAX;
    if is_long { Class::Slow } else { Class::Inline }
}

fn wrong_words(ctx: &Context<'_>) -> Stop {
    ReplyError::wrong_words(ctx.args.name(), ctx.args.get(1)).into()
}

/// ACL WHOAMI.
pub fn whoami(ctx: &mut Context<'_>) -> Result<(), Stop> {
    ctx.reply.bulk(&ctx.session.user.name);
    Ok(())
}

/// ACL USERS.
pub fn users(ctx: &mut Context<'_>) -> Result<(), Stop> {
    let users = ctx.server.users.all();
    ctx.reply.array(users.len());
    users.iter().for_each(|user| ctx.reply.bulk(&user.name));
    Ok(())
}

/// ACL LIST.
pub fn list(ctx: &mut Context<'_>) -> Result<(), Stop> {
    let users = ctx.server.users.all();
    ctx.reply.array(users.len());
    users.iter().for_each(|user| ctx.reply.bulk(&user.line()));
    Ok(())
}

/// ACL GETUSER.
pub fn getuser(ctx: &mut Context<'_>) -> Result<(), Stop> {
    let Some(user) = ctx.server.users.get(ctx.args.get(2)) else {
        ctx.reply.null();
        return Ok(());
    };
    let reply = &mut *ctx.reply;
    reply.map(6);
    reply.bulk(b"flags");
    let flags = user.flags();
    reply.set(flags.len());
    flags.iter().for_each(|flag| reply.bulk(flag.as_bytes()));
    reply.bulk(b"passwords");
    reply.array(user.passwords.len());
    user.passwords.iter().for_each(|(_, digest)| reply.bulk(hex(digest).as_bytes()));
    let Some((root, others)) = user.selectors.split_first() else { return Ok(()) };
    write_selector(reply, root);
    reply.bulk(b"selectors");
    reply.array(others.len());
    for selector in others {
        reply.map(3);
        write_selector(reply, selector);
    }
    Ok(())
}

fn write_selector(reply: &mut ReplyWriter, selector: &Selector) {
    for (name, rules) in [
        ("commands", selector.describe_commands()),
        ("keys", selector.describe_keys()),
        ("channels", selector.describe_channels()),
    ] {
        reply.bulk(name.as_bytes());
        reply.bulk(&rules);
    }
}

/// ACL SETUSER. Whoever it takes channels from is looked for among all that is subscribed to: where that is anything, not on a worker, but on the
/// pool that no long command keeps busy.
pub fn setuser(ctx: &mut Context<'_>) -> Result<(), Stop> {
    if ctx.txn.mode() == Mode::Inline && ctx.server.publisher.channels().clients() > 0 {
        return Err(Stop::NeedsIo);
    }
    let name = ctx.args.get(2);
    if has_blanks(name) {
        return Err(ReplyError::fixed("ERR Usernames can't contain spaces or null characters").into());
    }
    let all_channels = all_channels(&ctx.server.config());
    let (old, new) = ctx
        .server
        .users
        .change(name, |old| changed(old, name, ctx.args.from(3), all_channels))
        .map_err(|why| ReplyError::new(format!("ERR {}", why.replace(['\r', '\n'], " "))))?;
    let changes: Vec<Change> = old.map(|old| (old, Some(new))).into_iter().collect();
    end_clients(ctx.server, ctx.session, &changes).answer(ctx, b"+OK\r\n".to_vec());
    Ok(())
}

/// ACL DELUSER.
pub fn deluser(ctx: &mut Context<'_>) -> Result<(), Stop> {
    if ctx.args.from(2).any(|name| name == DEFAULT_USER) {
        return Err(ReplyError::fixed("ERR The 'default' user cannot be removed").into());
    }
    let removed = ctx.server.users.remove(ctx.args.from(2));
    let reply = format!(":{}\r\n", removed.len()).into_bytes();
    let changes: Vec<Change> = removed.into_iter().map(|user| (user, None)).collect();
    end_clients(ctx.server, ctx.session, &changes).answer(ctx, reply);
    Ok(())
}

/// ACL CAT.
pub fn cat(ctx: &mut Context<'_>) -> Result<(), Stop> {
    let names: Vec<&str> = match ctx.args.len() {
        2 => Acl::ALL.iter().map(|category| category.name()).collect(),
        3 => {
            let wanted = ctx.args.get(2);
            let category = Acl::ALL.iter().find(|category| is_keyword(wanted, category.name()));
            let Some(category) = category else {
                let name = ReplyError::echo_name(wanted);
                return Err(ReplyError::new(format!("ERR Unknown category '{name}'")).into());
            };
            let all = catalogue().all().map(|(_, entry)| entry.facts);
            all.filter(|facts| facts.acl().has(*category)).map(|facts| facts.name).collect()
        }
        _ => return Err(wrong_words(ctx)),
    };
    ctx.reply.array(names.len());
    names.iter().for_each(|name| ctx.reply.bulk(name.as_bytes()));
    Ok(())
}

/// ACL GENPASS: a password of so many random bits (256) in hexadecimal.
pub fn genpass(ctx: &mut Context<'_>) -> Result<(), Stop> {
    const RANGE: ReplyError = ReplyError::fixed(
        "ERR ACL GENPASS argument must be the number of bits for the output password, a positive number up to 4096",
    );
    let bits = match ctx.args.len() {
        2 => 256,
        3 => Some(ctx.args.integer(2)?).filter(|bits| (1..=4096).contains(bits)).ok_or(RANGE)?,
        _ => return Err(wrong_words(ctx)),
    };
    let digits = (bits as usize).div_ceil(4);
    let mut random = vec![0u8; digits.div_ceil(2)];
    let mut filled = 0;
    while filled < random.len() {
        let rest = random.get_mut(filled..).unwrap_or_default();
        filled += rustix::rand::getrandom(rest, rustix::rand::GetRandomFlags::empty())
            .map_err(|error| ReplyError::new(format!("ERR no random numbers: {error}")))?;
    }
    let mut text: String = random.iter().map(|byte| format!("{byte:02x}")).collect();
    text.truncate(digits);
    ctx.reply.bulk(text.as_bytes());
    Ok(())
}

/// ACL LOG.
pub fn log(ctx: &mut Context<'_>) -> Result<(), Stop> {
    let count = match ctx.args.len() {
        2 => 10,
        3 if is_keyword(ctx.args.get(2), "RESET") => {
            ctx.server.acl_log.reset();
            ctx.reply.ok();
            return Ok(());
        }
        3 => usize::try_from(ctx.args.integer(2)?).unwrap_or(0),
        _ => return Err(wrong_words(ctx)),
    };
    let denials = ctx.server.acl_log.latest(count);
    let now_ms = ctx.server.clock.unix_ms();
    let reply = &mut *ctx.reply;
    reply.array(denials.len());
    for denial in denials {
        reply.map(10);
        let context: &[u8] = if denial.in_multi { b"multi" } else { b"toplevel" };
        reply.bulk(b"count");
        reply.integer(denial.count as i64);
        for (name, value) in [
            ("reason", denial.reason.name().as_bytes()),
            ("context", context),
            ("object", &denial.object),
            ("username", &denial.user),
        ] {
            reply.bulk(name.as_bytes());
            reply.bulk(value);
        }
        reply.bulk(b"age-seconds");
        reply.double(now_ms.saturating_sub(denial.updated_ms) as f64 / 1000.0);
        reply.bulk(b"client-info");
        reply.bulk(denial.client.as_bytes());
        for (name, number) in [
            ("entry-id", denial.id),
            ("timestamp-created", denial.created_ms),
            ("timestamp-last-updated", denial.updated_ms),
        ] {
            reply.bulk(name.as_bytes());
            reply.integer(number as i64);
        }
    }
    Ok(())
}

/// ACL DRYRUN.
pub fn dryrun(ctx: &mut Context<'_>) -> Result<(), Stop> {
    let (name, args) = (ctx.args.get(2), ctx.args.tail(3));
    let not_found = |what: &str, name: &[u8]| -> Stop {
        ReplyError::new(format!("ERR {what} '{}' not found", ReplyError::echo(name))).into()
    };
    let user = ctx.server.users.get(name).ok_or_else(|| not_found("User", name))?;
    let all = catalogue();
    let no_command = || not_found("Command", args.name());
    let mut number = Some(args.name())
        .filter(|name| !name.contains(&b'|'))
        .and_then(|name| all.find(name))
        .ok_or_else(no_command)?;
    let entry = all.get(number).ok_or_else(no_command)?;
    if !entry.subcommands.is_empty() && args.len() > 1 {
        number = all.find(&[args.name(), b"|", args.get(1)].concat()).ok_or_else(no_command)?;
    }
    let facts = all.get(number).ok_or_else(no_command)?.facts;
    if !facts.accepts(args.len()) {
        return Err(ReplyError::wrong_arity(facts.name).into());
    }
    let Err(denied) = check(&user, number, facts, &args) else {
        ctx.reply.ok();
        return Ok(());
    };
    let object = args.get(denied.word);
    let (what, object, kind): (&str, &[u8], &str) = match denied.reason {
        Reason::Key => ("access the", object, "key"),
        Reason::Channel => ("access the", object, "channel"),
        Reason::Command | Reason::Auth => ("run the", facts.name.as_bytes(), "command"),
    };
    let text = [
        b"User ",
        &*user.name,
        b" has no permissions to ",
        what.as_bytes(),
        b" '",
        object,
        b"' ",
        kind.as_bytes(),
    ];
    ctx.reply.bulk(&text.concat());
    Ok(())
}

fn file(ctx: &Context<'_>) -> Result<PathBuf, Stop> {
    Ok(path(&ctx.server.config(), &ctx.server.identity.dir).ok_or(NO_FILE)?)
}

/// ACL LOAD.
pub fn load_file(ctx: &mut Context<'_>) -> Result<(), Stop> {
    let path = file(ctx)?;
    let users = load(&ctx.server.config(), &path).map_err(|why| ReplyError::new(format!("ERR {why}")))?;
    let changes = ctx.server.users.replace_all(users);
    end_clients(ctx.server, ctx.session, &changes).answer(ctx, b"+OK\r\n".to_vec());
    Ok(())
}

/// ACL SAVE.
pub fn save_file(ctx: &mut Context<'_>) -> Result<(), Stop> {
    let path = file(ctx)?;
    save(&ctx.server.users, &path).map_err(|error| {
        ctx.server.log('#', &format!("ACL SAVE: {error}"));
        ReplyError::fixed(
            "ERR There was an error trying to save the ACLs. Please check the server logs for more information",
        )
    })?;
    ctx.reply.ok();
    Ok(())
}
