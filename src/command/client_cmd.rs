//! CLIENT and its subcommands.

use crate::base::args::is_keyword;
use crate::base::reply_error::ReplyError;
use crate::base::stop::Stop;
use crate::command::connection::{client_name, is_client_name};
use crate::command::spec::{Context, Table};
use crate::session::clients::{
    ClientInfo, FLAG_BCAST, FLAG_BLOCKED, FLAG_BROKEN_REDIRECT, FLAG_CLOSING, FLAG_DIRTY, FLAG_MONITOR,
    FLAG_MULTI, FLAG_NO_EVICT, FLAG_NO_TOUCH, FLAG_PUBSUB, FLAG_TRACKING, FLAG_UNIX, NO_COMMAND,
    WorkerHandle, after_turns,
};
use crate::session::in_flight::{Answer, Work};
use crate::session::session::{Block, ReplyMode, Session};
use haypile_resp::parse_i64;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::fmt::Write as _;
use std::sync::Arc;
use std::sync::atomic::Ordering;

const RELAXED: Ordering = Ordering::Relaxed;

/// One line of CLIENT LIST, without its end; of each name so many bytes at most.
pub fn describe(info: &ClientInfo, table: &Table, now_ms: u64, name_bytes_max: usize) -> String {
    let mut flags = String::new();
    for (flag, letter) in [
        (FLAG_MONITOR, 'O'),
        (FLAG_PUBSUB, 'P'),
        (FLAG_MULTI, 'x'),
        (FLAG_BLOCKED, 'b'),
        (FLAG_TRACKING, 't'),
        (FLAG_BROKEN_REDIRECT, 'R'),
        (FLAG_BCAST, 'B'),
        (FLAG_DIRTY, 'd'),
        (FLAG_CLOSING, 'c'),
        (FLAG_UNIX, 'U'),
        (FLAG_NO_EVICT, 'e'),
        (FLAG_NO_TOUCH, 'T'),
    ] {
        if info.flags() & flag != 0 {
            flags.push(letter);
        }
    }
    if flags.is_empty() {
        flags.push('N');
    }
    let command = match info.last_command() {
        NO_COMMAND => "NULL",
        index => table.get(index as usize).map_or("NULL", |command| command.facts.name),
    };
    let (query, output) = (info.query_bytes.load(RELAXED), info.output_bytes.load(RELAXED));
    let (multi, multi_bytes) = info.multi();
    // As in Redis, who knows already that a key has changed watches none.
    let watched = if info.flags() & FLAG_DIRTY == 0 { info.watched() } else { 0 };
    let names = info.names(name_bytes_max);
    let user = info.user();
    let user = user.as_ref().map_or(&b""[..], |user| &user.name);
    let user = String::from_utf8_lossy(user.get(..name_bytes_max).unwrap_or(user));
    let mut line = String::with_capacity(320);
    let _ = write!(
        line,
        "id={} addr={} laddr={} fd={} name={} age={} idle={} flags={flags} db={} sub={} psub={} ssub={} multi={multi} watch={watched} \
         qbuf={query} qbuf-free=0 argv-mem={} multi-mem={multi_bytes} rbs=0 rbp=0 obl={output} oll=0 omem={output} tot-mem={} \
         events={} cmd={command} user={user} redir={} resp={} lib-name={} lib-ver={}",
        info.id,
        info.address,
        info.local_address,
        info.descriptor,
        names.name,
        now_ms.saturating_sub(info.created_ms) / 1000,
        now_ms.saturating_sub(info.last_interaction_ms()) / 1000,
        info.db(),
        info.subscriptions[0].load(RELAXED),
        info.subscriptions[1].load(RELAXED),
        info.subscriptions[2].load(RELAXED),
        info.argument_bytes.load(RELAXED),
        info.memory_bytes(),
        if output > 0 { "rw" } else { "r" },
        info.redirect(),
        info.resp(),
        names.lib_name,
        names.lib_version,
    );
    line
}

/// CLIENT ID.
pub fn id(ctx: &mut Context<'_>) -> Result<(), Stop> {
    ctx.reply.integer(ctx.session.id as i64);
    Ok(())
}

/// CLIENT INFO.
pub fn info(ctx: &mut Context<'_>) -> Result<(), Stop> {
    let line = describe(&ctx.session.info, ctx.table, ctx.server.clock.monotonic_ms(), usize::MAX);
    ctx.reply.verbatim(*b"txt", format!("{line}\n").as_bytes());
    Ok(())
}

/// A type of clients.
#[derive(Clone, Copy, PartialEq, Eq)]
enum ClientType {
    Normal,
    PubSub,
    /// There is no replication.
    Replication,
}

impl ClientType {
    fn of(client: &ClientInfo) -> ClientType {
        if client.flags() & FLAG_PUBSUB != 0 { ClientType::PubSub } else { ClientType::Normal }
    }
}

fn client_type(word: &[u8]) -> Result<ClientType, ReplyError> {
    match word.to_ascii_lowercase().as_slice() {
        b"normal" => Ok(ClientType::Normal),
        b"pubsub" => Ok(ClientType::PubSub),
        b"master" | b"slave" | b"replica" => Ok(ClientType::Replication),
        _ => Err(ReplyError::new(format!("ERR Unknown client type '{}'", ReplyError::echo(word)))),
    }
}

/// How many clients may be listed by their ids: the same one may be named again and again, and each is a line.
const LISTED_IDS_MAX: usize = 65_536;

/// CLIENT LIST.
pub fn list(ctx: &mut Context<'_>) -> Result<(), Stop> {
    let args = ctx.args;
    let mut clients = ctx.server.clients.all();
    // Whoever was killed is gone, for all that others can tell.
    clients.retain(|client| !client.is_killed());
    match args.len() {
        2 => {}
        4 if is_keyword(args.get(2), "TYPE") => {
            let wanted = client_type(args.get(3))?;
            clients.retain(|client| ClientType::of(client) == wanted);
        }
        4.. if is_keyword(args.get(2), "ID") => {
            let mut wanted = Vec::new();
            for word in args.from(3) {
                wanted.push(parse_i64(word).ok_or(ReplyError::fixed("ERR Invalid client ID"))?);
            }
            if wanted.len() > LISTED_IDS_MAX {
                return Err(ReplyError::new(format!("ERR more than {LISTED_IDS_MAX} client IDs")).into());
            }
            // In the order of the words, and as often.
            let by_id: HashMap<i64, _> =
                clients.into_iter().map(|client| (client.id as i64, client)).collect();
            clients = wanted.iter().filter_map(|id| by_id.get(id).cloned()).collect();
        }
        _ => return Err(ReplyError::SYNTAX.into()),
    }
    let now_ms = ctx.server.clock.monotonic_ms();
    let mut text = String::new();
    for client in clients {
        text.push_str(&describe(&client, ctx.table, now_ms, usize::MAX));
        text.push('\n');
    }
    ctx.reply.verbatim(*b"txt", text.as_bytes());
    Ok(())
}

/// What CLIENT KILL looks for.
#[derive(Default)]
struct Filter {
    id: Option<u64>,
    client_type: Option<ClientType>,
    address: Option<Vec<u8>>,
    local_address: Option<Vec<u8>>,
    age_s_min: Option<u64>,
    user: Option<u64>,
    skip_me: bool,
}

impl Filter {
    fn wants(&self, client: &ClientInfo, me: u64, now_ms: u64) -> bool {
        self.client_type.is_none_or(|wanted| ClientType::of(client) == wanted)
            && self.id.is_none_or(|id| client.id == id)
            && self.address.as_ref().is_none_or(|address| client.address.as_bytes() == address)
            && self.local_address.as_ref().is_none_or(|address| client.local_address.as_bytes() == address)
            && self.user.is_none_or(|id| client.user().is_some_and(|own| own.id == id))
            && self.age_s_min.is_none_or(|age| now_ms.saturating_sub(client.created_ms) / 1000 >= age)
            && !(self.skip_me && client.id == me)
    }
}

/// Answers `answer` once these workers have ended their turns and what `concerns` holds for, off the workers, has ended since. Where
/// nobody may wait (in a transaction) it is answered at once.
fn answer_after(
    ctx: &mut Context<'_>,
    workers: Vec<Arc<dyn WorkerHandle>>,
    concerns: impl Fn(Work) -> bool + Send + 'static,
    answer: impl FnOnce() -> Vec<u8> + Send + 'static,
) {
    if !ctx.session.may_block {
        ctx.reply.raw(&answer());
        return;
    }
    let (place, client): (Arc<Answer>, _) = (Arc::default(), Arc::clone(&ctx.session.info));
    ctx.session.block = Some((Block::Others(Arc::clone(&place)), u64::MAX));
    let in_flight = Arc::clone(&ctx.server.in_flight);
    let give = Box::new(move || client.answer(&place, answer()));
    after_turns(workers.iter(), Box::new(move || in_flight.after(concerns, give)));
}

/// Clients that a command has killed. It answers when nothing that they sent can commit any more.
#[derive(Default)]
pub struct Killed {
    clients: HashSet<u64>,
    /// What one of them waited for is being served, by whoever it may be.
    served: bool,
    workers: BTreeMap<usize, Arc<dyn WorkerHandle>>,
}

impl Killed {
    /// Kills a client; whoever asks for it itself is closed behind its answer.
    pub fn kill(&mut self, client: &ClientInfo, asking: &mut Session) {
        if client.id == asking.id {
            asking.close_after_reply = true;
            return;
        }
        self.served |= client.kill();
        self.clients.insert(client.id);
        self.workers.entry(client.worker).or_insert_with(|| Arc::clone(client.worker_handle()));
    }

    /// Answers.
    pub fn answer(self, ctx: &mut Context<'_>, reply: Vec<u8>) {
        if self.clients.is_empty() {
            ctx.reply.raw(&reply);
            return;
        }
        let Killed { clients, served, workers } = self;
        let workers = match served {
            true => ctx.server.publisher.workers().to_vec(),
            false => workers.into_values().collect(),
        };
        let concerns = move |work: Work| match work {
            Work::Command { client, writes: true } => served || clients.contains(&client),
            _ => served && work.writes(),
        };
        answer_after(ctx, workers, concerns, move || reply);
    }
}

/// CLIENT KILL.
pub fn kill(ctx: &mut Context<'_>) -> Result<(), Stop> {
    let args = ctx.args;
    let old_format = args.len() == 3;
    let filter = if old_format {
        Filter { address: Some(args.get(2).to_vec()), ..Filter::default() }
    } else {
        kill_filter(ctx)?
    };
    let now_ms = ctx.server.clock.monotonic_ms();
    let (mut count, mut killed) = (0, Killed::default());
    for client in ctx.server.clients.all() {
        if filter.wants(&client, ctx.session.id, now_ms) {
            count += 1;
            killed.kill(&client, ctx.session);
        }
    }
    if old_format && count == 0 {
        return Err(ReplyError::fixed("ERR No such client").into());
    }
    killed.answer(ctx, if old_format { b"+OK\r\n".to_vec() } else { format!(":{count}\r\n").into_bytes() });
    Ok(())
}

fn kill_filter(ctx: &Context<'_>) -> Result<Filter, ReplyError> {
    let mut filter = Filter { skip_me: true, ..Filter::default() };
    let mut options = ctx.args.options(2);
    while let Some(option) = options.next_word() {
        let value = options.value()?;
        if is_keyword(option, "ID") {
            let id = parse_i64(value).filter(|id| *id > 0);
            let id = id.ok_or(ReplyError::fixed("ERR client-id should be greater than 0"))?;
            filter.id = Some(id as u64);
        } else if is_keyword(option, "TYPE") {
            filter.client_type = Some(client_type(value)?);
        } else if is_keyword(option, "ADDR") {
            filter.address = Some(value.to_vec());
        } else if is_keyword(option, "LADDR") {
            filter.local_address = Some(value.to_vec());
        } else if is_keyword(option, "USER") {
            let user =
                ctx.server.users.get(value).ok_or_else(|| {
                    ReplyError::new(format!("ERR No such user '{}'", ReplyError::echo(value)))
                })?;
            filter.user = Some(user.id);
        } else if is_keyword(option, "MAXAGE") {
            let age =
                parse_i64(value).ok_or(ReplyError::fixed("ERR maxage is not an integer or out of range"))?;
            let age = u64::try_from(age).ok().filter(|age| *age > 0);
            filter.age_s_min = Some(age.ok_or(ReplyError::fixed("ERR maxage should be greater than 0"))?);
        } else if is_keyword(option, "SKIPME") {
            filter.skip_me = match value.to_ascii_lowercase().as_slice() {
                b"yes" => true,
                b"no" => false,
                _ => return Err(ReplyError::SYNTAX),
            };
        } else {
            return Err(ReplyError::SYNTAX);
        }
    }
    Ok(filter)
}

/// CLIENT SETNAME.
pub fn setname(ctx: &mut Context<'_>) -> Result<(), Stop> {
    let name = client_name(ctx.args.get(2))?;
    ctx.session.info.change_names(|names| names.name = name);
    ctx.reply.ok();
    Ok(())
}

/// CLIENT GETNAME.
pub fn getname(ctx: &mut Context<'_>) -> Result<(), Stop> {
    let name = ctx.session.info.names(usize::MAX).name;
    if name.is_empty() {
        ctx.reply.null()
    } else {
        ctx.reply.bulk(name.as_bytes())
    }
    Ok(())
}

/// CLIENT SETINFO.
pub fn setinfo(ctx: &mut Context<'_>) -> Result<(), Stop> {
    let (option, value) = (ctx.args.get(2), ctx.args.get(3));
    let library = is_keyword(option, "LIB-NAME");
    if !library && !is_keyword(option, "LIB-VER") {
        let option = ReplyError::echo(option);
        return Err(ReplyError::new(format!("ERR Unrecognized option '{option}'")).into());
    }
    if !is_client_name(value) {
        let option = ReplyError::echo(option);
        let text = format!("ERR {option} cannot contain spaces, newlines or special characters.");
        return Err(ReplyError::new(text).into());
    }
    let value = String::from_utf8_lossy(value).into_owned();
    ctx.session.info.change_names(|names| match library {
        true => names.lib_name = value,
        false => names.lib_version = value,
    });
    ctx.reply.ok();
    Ok(())
}

/// CLIENT REPLY.
pub fn reply(ctx: &mut Context<'_>) -> Result<(), Stop> {
    let word = ctx.args.get(2);
    if is_keyword(word, "ON") {
        ctx.session.reply_mode = ReplyMode::On;
        ctx.reply.ok();
    } else if is_keyword(word, "OFF") {
        ctx.session.reply_mode = ReplyMode::Off;
    } else if is_keyword(word, "SKIP") {
        if ctx.session.reply_mode != ReplyMode::Off {
            ctx.session.reply_mode = ReplyMode::SkipNext;
        }
    } else {
        return Err(ReplyError::SYNTAX.into());
    }
    Ok(())
}

fn on_off(word: &[u8]) -> Result<bool, ReplyError> {
    match word.to_ascii_lowercase().as_slice() {
        b"on" => Ok(true),
        b"off" => Ok(false),
        _ => Err(ReplyError::SYNTAX),
    }
}

/// CLIENT NO-EVICT.
pub fn no_evict(ctx: &mut Context<'_>) -> Result<(), Stop> {
    let on = on_off(ctx.args.get(2))?;
    ctx.session.no_evict = on;
    ctx.session.info.set_flag(FLAG_NO_EVICT, on);
    ctx.reply.ok();
    Ok(())
}

/// CLIENT NO-TOUCH.
pub fn no_touch(ctx: &mut Context<'_>) -> Result<(), Stop> {
    let on = on_off(ctx.args.get(2))?;
    ctx.session.no_touch = on;
    ctx.session.info.set_flag(FLAG_NO_TOUCH, on);
    ctx.reply.ok();
    Ok(())
}

/// CLIENT PAUSE: answers when no command that it affects runs any more.
pub fn pause(ctx: &mut Context<'_>) -> Result<(), Stop> {
    let timeout = parse_i64(ctx.args.get(2))
        .ok_or(ReplyError::fixed("ERR timeout is not an integer or out of range"))?;
    let timeout_ms = u64::try_from(timeout).map_err(|_| ReplyError::fixed("ERR timeout is negative"))?;
    if timeout_ms > i64::MAX as u64 - ctx.server.clock.unix_ms() {
        return Err(ReplyError::fixed("ERR timeout is out of range").into());
    }
    let all = match ctx.args.len() {
        3 => true,
        4 if is_keyword(ctx.args.get(3), "ALL") => true,
        4 if is_keyword(ctx.args.get(3), "WRITE") => false,
        4 => return Err(ReplyError::fixed("ERR CLIENT PAUSE mode must be WRITE or ALL").into()),
        _ => return Err(ReplyError::wrong_words(ctx.args.name(), ctx.args.get(1)).into()),
    };
    let now_ms = ctx.server.clock.monotonic_ms();
    ctx.server.pause.set(now_ms.saturating_add(timeout_ms), all, now_ms);
    let workers = ctx.server.publisher.workers().to_vec();
    answer_after(ctx, workers, move |work| all || work.writes(), || b"+OK\r\n".to_vec());
    Ok(())
}

/// CLIENT UNPAUSE.
pub fn unpause(ctx: &mut Context<'_>) -> Result<(), Stop> {
    ctx.server.pause.end();
    // Also those without clients: what rests may be there.
    ctx.server.publisher.workers().iter().for_each(|worker| worker.refresh());
    ctx.reply.ok();
    Ok(())
}

/// CLIENT UNBLOCK.
pub fn unblock(ctx: &mut Context<'_>) -> Result<(), Stop> {
    let with_error = match ctx.args.len() {
        3 => false,
        4 if is_keyword(ctx.args.get(3), "TIMEOUT") => false,
        4 if is_keyword(ctx.args.get(3), "ERROR") => true,
        4 => return Err(ReplyError::fixed("ERR CLIENT UNBLOCK reason should be TIMEOUT or ERROR").into()),
        _ => return Err(ReplyError::wrong_words(ctx.args.name(), ctx.args.get(1)).into()),
    };
    let id = ctx.args.integer(2)?;
    let client = u64::try_from(id).ok().and_then(|id| ctx.server.clients.get(id));
    let unblock = move || client.is_some_and(|client| client.unblock(with_error));
    if !ctx.server.in_flight.any(|work| work == Work::Service) {
        ctx.reply.integer(i64::from(unblock()));
        return Ok(());
    }
    // Some element may be on its way to it, and its pusher knows.
    let answer = move || format!(":{}\r\n", u8::from(unblock())).into_bytes();
    answer_after(ctx, Vec::new(), |work| work == Work::Service, answer);
    Ok(())
}
