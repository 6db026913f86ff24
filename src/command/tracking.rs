//! CLIENT TRACKING, CACHING, GETREDIR, TRACKINGINFO, and MONITOR.

use crate::base::args::{Args, is_keyword};
use crate::base::reply_error::ReplyError;
use crate::base::stop::Stop;
use crate::command::spec::{Class, Context};
use crate::session::clients::FLAG_BROKEN_REDIRECT;
use crate::session::monitors::Monitoring;
use crate::session::tracking::{Tracking, TrackingOptions};
use haypile_resp::parse_i64;

fn overlap(prefix: &[u8], kind: &str, other: &[u8]) -> ReplyError {
    let (prefix, other) = (ReplyError::echo(prefix), ReplyError::echo(other));
    ReplyError::new(format!(
        "ERR Prefix '{prefix}' overlaps with {kind} '{other}'. Prefixes for a single client must not overlap."
    ))
}

/// The number of the first prefix that another one begins with or that begins with another one.
fn first_overlapping(prefixes: &[&[u8]]) -> Option<usize> {
    let mut sorted: Vec<(&[u8], usize)> = prefixes.iter().copied().zip(0..).collect();
    sorted.sort_unstable();
    let (mut first, mut shortest) = (None::<usize>, None);
    for (prefix, number) in sorted {
        // All that begin with a prefix follow it: only the last that begins with none can have this one below it.
        match shortest {
            Some((above, its_number)) if prefix.starts_with(above) => {
                first = Some(first.unwrap_or(usize::MAX).min(number).min(its_number));
            }
            _ => shortest = Some((prefix, number)),
        }
    }
    first
}

/// Refuses prefixes of which one begins with another, or with one that the client has. The pair that is named is the one that Redis
/// finds, which compares each prefix with those that there are, then with those behind it.
fn check_prefixes(own: Option<&Tracking>, prefixes: &[&[u8]]) -> Result<(), ReplyError> {
    let overlaps = |a: &[u8], b: &[u8]| a.starts_with(b) || b.starts_with(a);
    let first = first_overlapping(prefixes);
    for (number, prefix) in prefixes.iter().enumerate() {
        if let Some(other) = own.and_then(|own| own.overlapping(prefix)) {
            return Err(overlap(prefix, "an existing prefix", other));
        }
        if first == Some(number)
            && let Some(other) = prefixes[number + 1..].iter().find(|other| overlaps(prefix, other))
        {
            return Err(overlap(prefix, "another provided prefix", other));
        }
    }
    Ok(())
}

/// Few words in no time, many on a pool: each is entered in the table of all.
pub fn class(args: &Args<'_>) -> Class {
    const INLINE_WORDS_MAX: usize = 256;
    if args.len() > INLINE_WORDS_MAX { Class::Slow } else { Class::Inline }
}

/// `CLIENT TRACKING ON | OFF [REDIRECT client-id] [PREFIX prefix ..] [BCAST] [OPTIN] [OPTOUT] [NOLOOP]`
pub fn tracking(ctx: &mut Context<'_>) -> Result<(), Stop> {
    const MODES: &str = "disabling tracking for this client, and then re-enabling it with a different mode.";
    let (mut options, mut prefixes) = (TrackingOptions::default(), Vec::new());
    let mut words = ctx.args.options(3);
    while let Some(word) = words.next_word() {
        let (is, left) = (|keyword| is_keyword(word, keyword), words.left());
        if is("REDIRECT") && left > 0 {
            if options.redirect != 0 {
                return Err(
                    ReplyError::fixed("ERR A client can only redirect to a single other client").into()
                );
            }
            let id = parse_i64(words.value()?).ok_or(ReplyError::NOT_AN_INTEGER)?;
            let id = u64::try_from(id).ok().filter(|id| ctx.server.clients.get(*id).is_some());
            let error = ReplyError::fixed("ERR The client ID you want redirect to does not exist");
            options.redirect = id.ok_or(error)?;
        } else if is("PREFIX") && left > 0 {
            prefixes.push(words.value()?);
        } else if is("BCAST") {
            options.broadcast = true;
        } else if is("OPTIN") {
            options.opt_in = true;
        } else if is("OPTOUT") {
            options.opt_out = true;
        } else if is("NOLOOP") {
            options.no_loop = true;
        } else {
            return Err(ReplyError::SYNTAX.into());
        }
    }
    match ctx.args.get(2).to_ascii_lowercase().as_slice() {
        b"on" => {}
        b"off" => {
            ctx.session.tracking = None;
            ctx.server.publisher.trackers_changed();
            ctx.reply.ok();
            return Ok(());
        }
        _ => return Err(ReplyError::SYNTAX.into()),
    }
    let own = ctx.session.tracking.as_deref();
    let before = own.map(Tracking::options);
    let TrackingOptions { broadcast, opt_in, opt_out, .. } = options;
    if !prefixes.is_empty() && !broadcast {
        return Err(ReplyError::fixed("ERR PREFIX option requires BCAST mode to be enabled").into());
    }
    if before.is_some_and(|before| before.broadcast != broadcast) {
        return Err(ReplyError::new(format!("ERR You can't switch BCAST mode on/off before {MODES}")).into());
    }
    if broadcast && (opt_in || opt_out) {
        return Err(ReplyError::fixed("ERR OPTIN and OPTOUT are not compatible with BCAST").into());
    }
    if opt_in && opt_out {
        return Err(ReplyError::fixed("ERR You can't specify both OPTIN mode and OPTOUT mode").into());
    }
    if before.is_some_and(|before| opt_in && before.opt_out || opt_out && before.opt_in) {
        return Err(ReplyError::new(format!("ERR You can't switch OPTIN/OPTOUT mode before {MODES}")).into());
    }
    if broadcast {
        check_prefixes(own, &prefixes)?;
        if prefixes.is_empty() {
            prefixes.push(b"");
        }
    }
    let publisher = &ctx.server.publisher;
    match ctx.session.tracking.as_deref_mut() {
        Some(own) => {
            own.set_options(options);
        }
        None => {
            let (own, first) = Tracking::begin(publisher.tracking(), &ctx.session.info, options);
            ctx.session.tracking = Some(Box::new(own));
            if first {
                publisher.trackers_changed();
            }
        }
    }
    if let Some(own) = ctx.session.tracking.as_deref_mut() {
        prefixes.into_iter().for_each(|prefix| own.add_prefix(prefix));
    }
    ctx.reply.ok();
    Ok(())
}

/// CLIENT CACHING YES | NO
pub fn caching(ctx: &mut Context<'_>) -> Result<(), Stop> {
    let Some(own) = ctx.session.tracking.as_deref_mut() else {
        return Err(ReplyError::fixed(
            "ERR CLIENT CACHING can be called only when the client is in tracking mode with OPTIN or OPTOUT mode enabled",
        )
        .into());
    };
    let word = ctx.args.get(2);
    if is_keyword(word, "YES") {
        if !own.options().opt_in {
            let error = "ERR CLIENT CACHING YES is only valid when tracking is enabled in OPTIN mode.";
            return Err(ReplyError::fixed(error).into());
        }
    } else if is_keyword(word, "NO") {
        if !own.options().opt_out {
            let error = "ERR CLIENT CACHING NO is only valid when tracking is enabled in OPTOUT mode.";
            return Err(ReplyError::fixed(error).into());
        }
    } else {
        return Err(ReplyError::SYNTAX.into());
    }
    own.caching = true;
    ctx.reply.ok();
    Ok(())
}

/// Whom a client's messages go to: -1 if it gets none, 0 if itself.
fn redirect(ctx: &Context<'_>) -> i64 {
    ctx.session.tracking.as_ref().map_or(-1, |own| own.options().redirect as i64)
}

/// CLIENT GETREDIR
pub fn getredir(ctx: &mut Context<'_>) -> Result<(), Stop> {
    let redirect = redirect(ctx);
    ctx.reply.integer(redirect);
    Ok(())
}

/// CLIENT TRACKINGINFO
pub fn trackinginfo(ctx: &mut Context<'_>) -> Result<(), Stop> {
    let redirect = redirect(ctx);
    let mut flags = Vec::new();
    let mut prefixes = Vec::new();
    match ctx.session.tracking.as_deref() {
        None => flags.push("off"),
        Some(own) => {
            let options = own.options();
            flags.push("on");
            for (on, name) in [
                (options.broadcast, "bcast"),
                (options.opt_in, "optin"),
                (options.opt_in && own.caching, "caching-yes"),
                (options.opt_out, "optout"),
                (options.opt_out && own.caching, "caching-no"),
                (options.no_loop, "noloop"),
                (ctx.session.info.flags() & FLAG_BROKEN_REDIRECT != 0, "broken_redirect"),
            ] {
                if on {
                    flags.push(name);
                }
            }
            prefixes.extend(own.prefixes().cloned());
        }
    }
    let reply = &mut *ctx.reply;
    reply.map(3);
    reply.bulk(b"flags");
    reply.set(flags.len());
    flags.iter().for_each(|flag| reply.bulk(flag.as_bytes()));
    reply.bulk(b"redirect");
    reply.integer(redirect);
    reply.bulk(b"prefixes");
    reply.array(prefixes.len());
    prefixes.iter().for_each(|prefix| reply.bulk(prefix));
    Ok(())
}

/// MONITOR
pub fn monitor(ctx: &mut Context<'_>) -> Result<(), Stop> {
    if !ctx.session.may_block {
        return Err(ReplyError::fixed("ERR MONITOR isn't allowed for DENY BLOCKING client").into());
    }
    // Who does already is not answered, as in Redis.
    if ctx.session.monitoring.is_none() {
        let monitors = ctx.server.publisher.monitors();
        ctx.session.monitoring = Some(Box::new(Monitoring::begin(monitors, &ctx.session.info)));
        ctx.reply.ok();
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// Against a comparison of each with each.
        #[test]
        fn the_first_prefix_that_overlaps(prefixes in prop::collection::vec("[ab]{0,6}", 0..8)) {
            let prefixes: Vec<&[u8]> = prefixes.iter().map(|prefix| prefix.as_bytes()).collect();
            let overlaps = |a: &[u8], b: &[u8]| a.starts_with(b) || b.starts_with(a);
            let expected = (0..prefixes.len())
                .find(|&number| prefixes[number + 1..].iter().any(|other| overlaps(prefixes[number], other)));
            prop_assert_eq!(first_overlapping(&prefixes), expected);
        }
    }
}
