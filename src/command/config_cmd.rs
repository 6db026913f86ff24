//! CONFIG GET, SET, REWRITE, RESETSTAT.

use crate::base::args::{Args, is_keyword};
use crate::base::glob;
use crate::base::reply_error::ReplyError;
use crate::base::stop::Stop;
use crate::command::acl::file::lines_for_config;
use crate::command::spec::{Class, Context};
use crate::command::text_files::{read, replace};
use crate::session::clients::FLAG_UNIX;
use crate::session::server_state::ServerState;
use crate::session::session::Session;
use haypile_lsm::OsEnv;
use std::path::PathBuf;

/// CONFIG GET.
pub fn get(ctx: &mut Context<'_>) -> Result<(), Stop> {
    let config = ctx.server.config();
    let dir = ctx.server.identity.dir.display().to_string();
    let mut found: Vec<(&str, &str)> = Vec::new();
    for pattern in ctx.args.from(2) {
        // A name is answered as it was written, hidden ones too; a pattern finds those that are not hidden.
        let is_pattern = pattern.iter().any(|byte| b"[*?".contains(byte));
        let by_name = std::str::from_utf8(pattern).ok().filter(|_| !is_pattern);
        let named = by_name.and_then(|name| Some((name, config.lookup(name)?)));
        let matching =
            config.all().filter(|(name, _)| is_pattern && glob::matches_case(pattern, name.as_bytes(), true));
        let matching = matching.map(|(name, value): (&str, &str)| (name, value));
        for (name, value) in named.into_iter().chain(matching) {
            if !found.iter().any(|(known, _)| *known == name) {
                let value = if name.eq_ignore_ascii_case("dir") { dir.as_str() } else { value };
                found.push((name, value));
            }
        }
    }
    ctx.reply.map(found.len());
    for (name, value) in found {
        ctx.reply.bulk(name.as_bytes());
        ctx.reply.bulk(value.as_bytes());
    }
    Ok(())
}

/// Whether an option that is `yes`, `no` or `local` lets this client in.
pub fn is_enabled(server: &ServerState, session: &Session, name: &str) -> bool {
    match server.config().text(name) {
        "yes" => true,
        "local" => {
            let info = &session.info;
            info.flags() & FLAG_UNIX != 0
                || info.address.starts_with("127.")
                || info.address.starts_with("[::1]")
        }
        _ => false,
    }
}

/// How CONFIG SET runs: what reads files, opens sockets or asks the system for limits does so where it keeps nobody waiting.
pub fn class(args: &Args<'_>) -> Class {
    let takes_long = |name: &[u8]| {
        let is = |known: &str| name.eq_ignore_ascii_case(known.as_bytes());
        is("bind")
            || is("port")
            || is("maxclients")
            || name.get(..4).is_some_and(|four| is_keyword(four, "TLS-"))
    };
    let slow = (2..args.len()).step_by(2).any(|at| takes_long(args.get(at)));
    if slow { Class::Slow } else { Class::Inline }
}

/// CONFIG SET.
pub fn set(ctx: &mut Context<'_>) -> Result<(), Stop> {
    let args = ctx.args;
    if !args.len().is_multiple_of(2) {
        return Err(ReplyError::SYNTAX.into());
    }
    let mut pairs = Vec::with_capacity(args.len() / 2);
    for at in (2..args.len()).step_by(2) {
        let name = ReplyError::echo(args.get(at));
        // The configuration is a text, as its file is.
        let value = std::str::from_utf8(args.get(at + 1)).map_err(|_| {
            let why = "the value is not UTF-8";
            ReplyError::new(format!("ERR CONFIG SET failed (possibly related to argument '{name}') - {why}"))
        })?;
        pairs.push((name, value.to_string()));
    }
    let protected = is_enabled(ctx.server, ctx.session, "enable-protected-configs");
    let names: Vec<&str> = pairs.iter().map(|(name, _)| name.as_str()).collect();
    let is_on_pool = ctx.session.outside.is_some();
    let lock = ctx.server.lock_config(is_on_pool).ok_or(Stop::Budget)?;
    let changed = ctx.server.change_config(lock, &names, |config| config.set_all(&pairs, protected));
    changed.map_err(ReplyError::new)?;
    ctx.reply.ok();
    Ok(())
}

/// CONFIG RESETSTAT.
pub fn resetstat(ctx: &mut Context<'_>) -> Result<(), Stop> {
    ctx.server.stats.reset();
    ctx.server.store().reset_counters();
    ctx.reply.ok();
    Ok(())
}

/// CONFIG REWRITE.
pub fn rewrite(ctx: &mut Context<'_>) -> Result<(), Stop> {
    let file = PathBuf::from(&ctx.server.identity.config_file);
    if file.as_os_str().is_empty() {
        return Err(ReplyError::fixed("ERR The server is running without a config file").into());
    }
    let env = OsEnv::new();
    let config = ctx.server.config();
    let users = lines_for_config(&config, &ctx.server.users);
    let result = read(&env, &file).and_then(|old| replace(&env, &file, &config.rewritten(&old, &users)));
    match result {
        Ok(()) => {
            ctx.server.log('*', "CONFIG REWRITE executed with success.");
            ctx.reply.ok();
            Ok(())
        }
        Err(error) => {
            ctx.server.log('#', &format!("CONFIG REWRITE failed: {error}"));
            Err(ReplyError::new(format!("ERR Rewriting config file: {error}")).into())
        }
    }
}
