//! Commands about channels: SUBSCRIBE and its kin, PUBLISH, SPUBLISH, PUBSUB.
//!
//! A confirmation is a push of its own for each channel, whatever CLIENT REPLY says.

use crate::base::reply_error::ReplyError;
use crate::base::stop::Stop;
use crate::command::spec::Context;
use crate::session::channels::{SubscriptionKind, Subscriptions};
use crate::session::delivery::{ChannelKind, Name};
use crate::store::events::OwnShare;

/// Writes that a subscription has begun or ended.
fn confirm(ctx: &mut Context<'_>, what: &str, kind: SubscriptionKind, name: Option<&[u8]>) {
    let count = |kind| ctx.session.subscriptions.as_ref().map_or(0, |own| own.count(kind));
    let left = match kind {
        SubscriptionKind::Shard => count(SubscriptionKind::Shard),
        _ => count(SubscriptionKind::Channel) + count(SubscriptionKind::Pattern),
    };
    ctx.session.reply_is_push = true;
    ctx.reply.push(3);
    ctx.reply.bulk(what.as_bytes());
    match name {
        Some(name) => ctx.reply.bulk(name),
        None => ctx.reply.null(),
    }
    ctx.reply.integer(left as i64);
}

fn begin(ctx: &mut Context<'_>, what: &str, kind: SubscriptionKind) -> Result<(), Stop> {
    let args = ctx.args;
    for name in args.from(1) {
        let channels = ctx.server.publisher.channels();
        let client = &ctx.session.info;
        ctx.session
            .subscriptions
            .get_or_insert_with(|| Box::new(Subscriptions::new(channels, client)))
            .add(kind, name);
        confirm(ctx, what, kind, Some(name));
    }
    if ctx.session.users_generation != ctx.server.users.generation() {
        leave_forbidden(ctx, kind);
    }
    Ok(())
}

/// Users have changed since the command was let in: whoever changed them may have looked for subscribers before there was this one.
#[cold]
fn leave_forbidden(ctx: &mut Context<'_>, kind: SubscriptionKind) {
    let is_pattern = kind == SubscriptionKind::Pattern;
    let is_there = ctx.session.follow_user(&ctx.server.users);
    let selectors = &ctx.session.user.selectors;
    let mut names = ctx.args.from(1);
    if !is_there || !names.all(|name| selectors.iter().any(|own| own.allows_channel(name, is_pattern))) {
        ctx.session.drop_replies = true;
        ctx.session.close_after_reply = true;
    }
}

fn end(ctx: &mut Context<'_>, what: &str, kind: SubscriptionKind) -> Result<(), Stop> {
    let args = ctx.args;
    if args.len() == 1 {
        let all: Vec<Name> = ctx.session.subscriptions.as_ref().map_or(Vec::new(), |own| own.all(kind));
        for name in &all {
            end_one(ctx, what, kind, name);
        }
        if all.is_empty() {
            confirm(ctx, what, kind, None);
        }
    } else {
        for name in args.from(1) {
            end_one(ctx, what, kind, name);
        }
    }
    if ctx.session.subscriptions.as_ref().is_some_and(|own| own.is_empty()) {
        ctx.session.subscriptions = None;
    }
    Ok(())
}

fn end_one(ctx: &mut Context<'_>, what: &str, kind: SubscriptionKind, name: &[u8]) {
    if let Some(own) = ctx.session.subscriptions.as_mut() {
        own.remove(kind, name);
    }
    confirm(ctx, what, kind, Some(name));
}

/// SUBSCRIBE.
pub fn subscribe(ctx: &mut Context<'_>) -> Result<(), Stop> {
    begin(ctx, "subscribe", SubscriptionKind::Channel)
}

/// PSUBSCRIBE.
pub fn psubscribe(ctx: &mut Context<'_>) -> Result<(), Stop> {
    begin(ctx, "psubscribe", SubscriptionKind::Pattern)
}

/// SSUBSCRIBE.
pub fn ssubscribe(ctx: &mut Context<'_>) -> Result<(), Stop> {
    if !ctx.session.may_block {
        return Err(ReplyError::fixed("ERR SSUBSCRIBE isn't allowed for a DENY BLOCKING client").into());
    }
    begin(ctx, "ssubscribe", SubscriptionKind::Shard)
}

/// UNSUBSCRIBE.
pub fn unsubscribe(ctx: &mut Context<'_>) -> Result<(), Stop> {
    end(ctx, "unsubscribe", SubscriptionKind::Channel)
}

/// PUNSUBSCRIBE.
pub fn punsubscribe(ctx: &mut Context<'_>) -> Result<(), Stop> {
    end(ctx, "punsubscribe", SubscriptionKind::Pattern)
}

/// SUNSUBSCRIBE.
pub fn sunsubscribe(ctx: &mut Context<'_>) -> Result<(), Stop> {
    end(ctx, "sunsubscribe", SubscriptionKind::Shard)
}

fn publish_to(ctx: &mut Context<'_>, kind: ChannelKind) -> Result<(), Stop> {
    let (channel, payload) = (ctx.args.get(1), ctx.args.get(2));
    let publisher = &ctx.server.publisher;
    let need = ctx.session.known_lsn();
    let count = if ctx.session.may_block {
        publisher.publish(kind, channel, payload, need)
    } else {
        // Part of a transaction: it goes out with the commit.
        let own =
            ctx.session.subscriptions.as_ref().map_or_else(OwnShare::default, |own| own.share(kind, channel));
        ctx.txn.publish(kind == ChannelKind::Shard, channel, payload, need, own);
        publisher.channels().receivers(kind, channel).count
    };
    ctx.reply.integer(count as i64);
    Ok(())
}

/// PUBLISH.
pub fn publish(ctx: &mut Context<'_>) -> Result<(), Stop> {
    publish_to(ctx, ChannelKind::Channel)
}

/// SPUBLISH.
pub fn spublish(ctx: &mut Context<'_>) -> Result<(), Stop> {
    publish_to(ctx, ChannelKind::Shard)
}

fn list(ctx: &mut Context<'_>, kind: ChannelKind) -> Result<(), Stop> {
    let pattern = match ctx.args.len() {
        2 => None,
        3 => Some(ctx.args.get(2)),
        _ => return Err(ReplyError::wrong_words(ctx.args.name(), ctx.args.get(1)).into()),
    };
    let names = ctx.server.publisher.channels().list(kind, pattern);
    ctx.reply.array(names.len());
    for name in names {
        ctx.reply.bulk(&name);
    }
    Ok(())
}

/// PUBSUB CHANNELS.
pub fn channels(ctx: &mut Context<'_>) -> Result<(), Stop> {
    list(ctx, ChannelKind::Channel)
}

/// PUBSUB SHARDCHANNELS.
pub fn shardchannels(ctx: &mut Context<'_>) -> Result<(), Stop> {
    list(ctx, ChannelKind::Shard)
}

fn count(ctx: &mut Context<'_>, kind: ChannelKind) -> Result<(), Stop> {
    let args = ctx.args;
    ctx.reply.array((args.len() - 2) * 2);
    for name in args.from(2) {
        ctx.reply.bulk(name);
        ctx.reply.integer(ctx.server.publisher.channels().count(kind, name) as i64);
    }
    Ok(())
}

/// PUBSUB NUMSUB.
pub fn numsub(ctx: &mut Context<'_>) -> Result<(), Stop> {
    count(ctx, ChannelKind::Channel)
}

/// PUBSUB SHARDNUMSUB.
pub fn shardnumsub(ctx: &mut Context<'_>) -> Result<(), Stop> {
    count(ctx, ChannelKind::Shard)
}

/// PUBSUB NUMPAT.
pub fn numpat(ctx: &mut Context<'_>) -> Result<(), Stop> {
    ctx.reply.integer(ctx.server.publisher.channels().names(SubscriptionKind::Pattern) as i64);
    Ok(())
}
