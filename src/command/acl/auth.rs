//! AUTH, HELLO and RESET: who a connection is.

use crate::base::args::is_keyword;
use crate::base::reply_error::ReplyError;
use crate::base::stop::Stop;
use crate::command::acl::check::note;
use crate::command::connection::{REDIS_VERSION, client_name};
use crate::command::spec::Context;
use crate::session::acl_log::Reason;
use crate::session::permissions::{DEFAULT_USER, User};
use haypile_resp::{Protocol, parse_i64};
use std::sync::Arc;

const WRONG_PASSWORD: ReplyError =
    ReplyError::fixed("WRONGPASS invalid username-password pair or user is disabled.");

/// RESET.
pub fn reset(ctx: &mut Context<'_>) -> Result<(), Stop> {
    ctx.session.reset(&ctx.server.users);
    ctx.reply.set_protocol(Protocol::Resp2);
    ctx.reply.simple("RESET");
    Ok(())
}

/// AUTH.
pub fn auth(ctx: &mut Context<'_>) -> Result<(), Stop> {
    let (user, password) = match ctx.args.len() {
        2 => (DEFAULT_USER, ctx.args.get(1)),
        3 => (ctx.args.get(1), ctx.args.get(2)),
        _ => return Err(ReplyError::SYNTAX.into()),
    };
    if ctx.args.len() == 2 && ctx.server.users.is_open() {
        return Err(ReplyError::fixed(
            "ERR AUTH <password> called without any password configured for the default user. Are you sure your \
             configuration is correct?",
        )
        .into());
    }
    become_user(ctx, user, password)?;
    ctx.reply.ok();
    Ok(())
}

/// Makes this session one of this user, if the password is right.
fn become_user(ctx: &mut Context<'_>, name: &[u8], password: &[u8]) -> Result<(), ReplyError> {
    let users = &ctx.server.users;
    // Before the look: a change that comes between is seen by the next command.
    let generation = users.generation();
    let user = users.get(name);
    // A name that nobody has takes as long as one that somebody has.
    let nobody = || Arc::new(User::new(name, false));
    let is_right = user.clone().unwrap_or_else(nobody).accepts(password);
    match user.filter(|_| is_right) {
        Some(user) => {
            ctx.session.become_user(user, generation);
            ctx.session.authenticated = true;
            Ok(())
        }
        None => {
            // Within EXEC the queue is the transaction's, but nothing may wait.
            let in_multi = ctx.session.multi.is_some() || !ctx.session.may_block;
            let info = Arc::clone(&ctx.session.info);
            note(ctx.server, ctx.table, &info, (Reason::Auth, in_multi), ctx.args.name(), name);
            Err(WRONG_PASSWORD)
        }
    }
}

/// HELLO.
pub fn hello(ctx: &mut Context<'_>) -> Result<(), Stop> {
    let args = ctx.args;
    let mut protocol = None;
    if args.len() > 1 {
        let version = parse_i64(args.get(1))
            .ok_or(ReplyError::fixed("ERR Protocol version is not an integer or out of range"))?;
        protocol = match version {
            2 => Some(Protocol::Resp2),
            3 => Some(Protocol::Resp3),
            _ => return Err(ReplyError::fixed("NOPROTO unsupported protocol version").into()),
        };
    }
    let (mut credentials, mut name) = (None, None);
    let mut at = 2;
    while at < args.len() {
        let word = args.get(at);
        let left = args.len() - at - 1;
        if is_keyword(word, "AUTH") && left >= 2 {
            credentials = Some((args.get(at + 1), args.get(at + 2)));
            at += 3;
        } else if is_keyword(word, "SETNAME") && left >= 1 {
            name = Some(client_name(args.get(at + 1))?);
            at += 2;
        } else {
            let word = ReplyError::echo(word);
            return Err(ReplyError::new(format!("ERR Syntax error in HELLO option '{word}'")).into());
        }
    }
    if let Some((user, password)) = credentials {
        become_user(ctx, user, password)?;
    }
    if !ctx.session.authenticated {
        return Err(ReplyError::fixed(
            "NOAUTH HELLO must be called with the client already authenticated, otherwise the HELLO <proto> AUTH <user> \
             <pass> option can be used to authenticate the client and select the RESP protocol version at the same time",
        )
        .into());
    }
    if let Some(name) = name {
        ctx.session.info.change_names(|names| names.name = name);
    }
    if let Some(protocol) = protocol {
        ctx.session.set_protocol(protocol);
        ctx.reply.set_protocol(protocol);
    }
    let reply = &mut *ctx.reply;
    reply.map(7);
    reply.bulk(b"server");
    reply.bulk(b"redis");
    reply.bulk(b"version");
    reply.bulk(REDIS_VERSION.as_bytes());
    reply.bulk(b"proto");
    reply.integer(i64::from(ctx.session.info.resp()));
    reply.bulk(b"id");
    reply.integer(ctx.session.id as i64);
    reply.bulk(b"mode");
    reply.bulk(b"standalone");
    reply.bulk(b"role");
    reply.bulk(b"master");
    reply.bulk(b"modules");
    reply.array(0);
    Ok(())
}
