//! Commands about the connection itself: PING, ECHO, HELLO, AUTH, SELECT, QUIT, RESET, READONLY, READWRITE.

use crate::base::args::is_keyword;
use crate::base::reply_error::ReplyError;
use crate::base::stop::Stop;
use crate::command::spec::Context;
use crate::session::server_state::ServerState;
use haypile_resp::{Protocol, parse_i64};
use std::sync::atomic::Ordering;

/// The Redis version whose behaviour this server shows.
pub const REDIS_VERSION: &str = "7.4.0";

const WRONG_PASSWORD: ReplyError =
    ReplyError::fixed("WRONGPASS invalid username-password pair or user is disabled.");
const BAD_NAME: ReplyError =
    ReplyError::fixed("ERR Client names cannot contain spaces, newlines or special characters.");

/// PING.
pub fn ping(ctx: &mut Context<'_>) -> Result<(), Stop> {
    match ctx.args.len() {
        1 | 2 if ctx.session.only_listens() => {
            ctx.reply.array(2);
            ctx.reply.bulk(b"pong");
            ctx.reply.bulk(ctx.args.get(1));
        }
        1 => ctx.reply.simple("PONG"),
        2 => ctx.reply.bulk(ctx.args.get(1)),
        _ => return Err(ReplyError::wrong_arity("ping").into()),
    }
    Ok(())
}

/// ECHO.
pub fn echo(ctx: &mut Context<'_>) -> Result<(), Stop> {
    ctx.reply.bulk(ctx.args.get(1));
    Ok(())
}

/// SELECT.
pub fn select(ctx: &mut Context<'_>) -> Result<(), Stop> {
    let databases = ctx.server.identity.databases as i64;
    let db = ctx.args.integer(1)?;
    if i32::try_from(db).is_err() {
        return Err(ReplyError::NOT_32_BITS.into());
    }
    if !(0..databases).contains(&db) {
        return Err(ReplyError::DB_OUT_OF_RANGE.into());
    }
    ctx.session.select(db as usize);
    ctx.reply.ok();
    Ok(())
}

/// QUIT.
pub fn quit(ctx: &mut Context<'_>) -> Result<(), Stop> {
    ctx.session.close_after_reply = true;
    ctx.reply.ok();
    Ok(())
}

/// RESET.
pub fn reset(ctx: &mut Context<'_>) -> Result<(), Stop> {
    let password_needed = ctx.server.settings.password_needed.load(Ordering::Relaxed);
    ctx.session.reset(!password_needed);
    ctx.reply.set_protocol(Protocol::Resp2);
    ctx.reply.simple("RESET");
    Ok(())
}

/// CLUSTER with any subcommand, READONLY, READWRITE, ASKING.
pub fn cluster_disabled(_: &mut Context<'_>) -> Result<(), Stop> {
    Err(ReplyError::fixed("ERR This instance has cluster support disabled").into())
}

/// AUTH.
pub fn auth(ctx: &mut Context<'_>) -> Result<(), Stop> {
    let (user, password) = match ctx.args.len() {
        2 => (&b"default"[..], ctx.args.get(1)),
        3 => (ctx.args.get(1), ctx.args.get(2)),
        _ => return Err(ReplyError::SYNTAX.into()),
    };
    if ctx.args.len() == 2 && !ctx.server.settings.password_needed.load(Ordering::Relaxed) {
        return Err(ReplyError::fixed(
            "ERR AUTH <password> called without any password configured for the default user. Are you sure your \
             configuration is correct?",
        )
        .into());
    }
    authenticate(ctx.server, user, password)?;
    ctx.session.authenticated = true;
    ctx.reply.ok();
    Ok(())
}

/// Whether these are right. Takes a time that does not depend on how much of the password is.
fn authenticate(server: &ServerState, user: &[u8], password: &[u8]) -> Result<(), ReplyError> {
    let config = server.config();
    let wanted = config.text("requirepass").as_bytes();
    if user != b"default" {
        return Err(WRONG_PASSWORD);
    }
    if wanted.is_empty() {
        return Ok(());
    }
    let mut difference = u8::from(password.len() != wanted.len());
    for (index, byte) in password.iter().enumerate() {
        difference |= byte ^ wanted[index % wanted.len()];
    }
    if difference == 0 { Ok(()) } else { Err(WRONG_PASSWORD) }
}

/// Whether a client may call itself (or its library) so: printable, no blanks.
pub fn is_client_name(name: &[u8]) -> bool {
    name.iter().all(|byte| (b'!'..=b'~').contains(byte))
}

/// A checked client name as text.
pub fn client_name(name: &[u8]) -> Result<String, ReplyError> {
    if !is_client_name(name) {
        return Err(BAD_NAME);
    }
    Ok(String::from_utf8_lossy(name).into_owned())
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
        authenticate(ctx.server, user, password)?;
        ctx.session.authenticated = true;
    }
    if !ctx.session.authenticated {
        return Err(ReplyError::fixed(
            "NOAUTH HELLO must be called with the client already authenticated, otherwise the HELLO <proto> AUTH <user> \
             <pass> option can be used to authenticate the client and select the RESP protocol version at the same time",
        )
        .into());
    }
    if let Some(name) = name {
        ctx.session.info.names().name = name;
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
