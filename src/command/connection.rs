//! Commands about the connection itself: PING, ECHO, SELECT, QUIT, READONLY, READWRITE. (Who it is: `acl/auth.rs`.)

use crate::base::reply_error::ReplyError;
use crate::base::stop::Stop;
use crate::command::spec::Context;

/// The Redis version whose behaviour this server shows.
pub const REDIS_VERSION: &str = "7.4.0";

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

/// CLUSTER with any subcommand, READONLY, READWRITE, ASKING.
pub fn cluster_disabled(_: &mut Context<'_>) -> Result<(), Stop> {
    Err(ReplyError::fixed("ERR This instance has cluster support disabled").into())
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
