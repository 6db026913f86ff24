//! MIGRATE: keys go to another server as RESTORE of their dumps, and from here once it has said that it has them.
//!
//! ```text
//! inside the gate, keys locked    which keys are there
//! outside, keys locked            connect (or take a connection that was kept), AUTH, SELECT, RESTORE .., read the answers
//! inside again                    delete what the other one has, unless COPY
//! ```
//!
//! All dumps are of the moment at which the command began, and the locks keep anybody from changing the keys meanwhile. While it is
//! outside, the database may be flushed or swapped for another; then what is now under these names is not what was sent, and stays.
//!
//! A connection that was kept may have been closed by the other side: if not even the first answer comes, the command tries once more on
//! a new one, unless time ran out.

use crate::base::args::is_keyword;
use crate::base::reply_error::ReplyError;
use crate::base::stop::Stop;
use crate::command::changes::record;
use crate::command::spec::Context;
use crate::session::peers::Peer;
use crate::store::events::EventClass;
use crate::store::txn::{Draws, Mode, ReadPoint};
use crate::types::dump;
use crate::types::keys;
use haypile_resp::{ReplyReader, Value};
use std::io::{self, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::sync::Arc;
use std::time::Duration;

const NOT_EMPTY: ReplyError =
    ReplyError::fixed("ERR When using MIGRATE KEYS option, the key argument must be set to the empty string");
const NO_CONNECTION: ReplyError = ReplyError::fixed("IOERR error or timeout connecting to the client");
const NOT_WRITTEN: ReplyError = ReplyError::fixed("IOERR error or timeout writing to target instance");
const NOT_READ: ReplyError = ReplyError::fixed("IOERR error or timeout reading to target instance");

/// How long a server has for each step if the command does not say, in ms.
const USUAL_TIMEOUT_MS: u64 = 1000;

/// What the words ask for.
struct Order<'a> {
    host: &'a [u8],
    port: u16,
    db: i64,
    timeout: Duration,
    copy: bool,
    replace: bool,
    /// Words behind AUTH.
    login: Vec<&'a [u8]>,
    keys: Vec<&'a [u8]>,
}

impl<'a> Order<'a> {
    fn parse(ctx: &Context<'a>) -> Result<Order<'a>, ReplyError> {
        let args = ctx.args;
        let (mut copy, mut replace, mut login) = (false, false, Vec::new());
        let mut keys = vec![args.get(3)];
        let mut at = 6;
        while at < args.len() {
            let (word, left) = (args.get(at), args.len() - at - 1);
            if is_keyword(word, "COPY") {
                copy = true;
            } else if is_keyword(word, "REPLACE") {
                replace = true;
            } else if is_keyword(word, "AUTH") && left >= 1 {
                login = vec![args.get(at + 1)];
                at += 1;
            } else if is_keyword(word, "AUTH2") && left >= 2 {
                login = vec![args.get(at + 1), args.get(at + 2)];
                at += 2;
            } else if is_keyword(word, "KEYS") {
                if !args.get(3).is_empty() {
                    return Err(NOT_EMPTY);
                }
                keys = args.from(at + 1).collect();
                break;
            } else {
                return Err(ReplyError::SYNTAX);
            }
            at += 1;
        }
        let timeout_ms =
            u64::try_from(args.integer(5)?).ok().filter(|ms| *ms > 0).unwrap_or(USUAL_TIMEOUT_MS);
        let db = args.integer(4)?;
        // Redis reads as much of it as is a number; there is no port 0, so connecting fails.
        let port = std::str::from_utf8(args.get(2)).ok().and_then(|port| port.parse().ok()).unwrap_or(0);
        let timeout = Duration::from_millis(timeout_ms);
        Ok(Order { host: args.get(1), port, db, timeout, copy, replace, login, keys })
    }
}

/// How an attempt ended.
struct Sent {
    /// Keys (by number) that the other server has now.
    arrived: Vec<usize>,
    /// What it said against it, or what went wrong on the way.
    error: Option<ReplyError>,
    /// The connection is of no use any more.
    broken: bool,
    /// Nothing was answered, and not for want of time: a new connection may do better.
    may_retry: bool,
}

/// `MIGRATE host port key|"" destination-db timeout [COPY] [REPLACE] [AUTH password | AUTH2 username password] [KEYS key [key ..]]`,
/// on a pool.
pub fn migrate(ctx: &mut Context<'_>) -> Result<(), Stop> {
    let mut order = Order::parse(ctx)?;
    if ctx.txn.mode() == Mode::Inline {
        return Err(Stop::Budget);
    }
    ctx.txn.pin();
    let mut there = Vec::new();
    for &key in &order.keys {
        let at = ctx.txn.at(key)?;
        if keys::exists(ctx.txn, at)? {
            there.push(key);
        }
    }
    if there.is_empty() {
        ctx.reply.simple("NOKEY");
        return Ok(());
    }
    order.keys = there;
    let (store, (db, space)) = (Arc::clone(ctx.txn.store()), ctx.txn.own_database());
    ctx.session.step_out();
    let outcome = transfer(ctx, &order);
    ctx.session.step_in();
    let sent = outcome?;
    if !Arc::ptr_eq(&ctx.server.store(), &store) {
        return Err(ReplyError::fixed(
            "ERR the database was opened anew meanwhile; nothing was deleted here",
        )
        .into());
    }
    if ctx.session.pass.is_some() {
        let draws = Draws { now_ms: ctx.server.clock.unix_ms(), ..ctx.txn.draws() };
        ctx.txn.begin(db, Mode::Pool, draws, ReadPoint::Latest);
        ctx.txn.set_no_touch(ctx.session.no_touch);
        record(ctx.server, ctx.txn);
        ctx.txn.set_origin(ctx.session.id);
    }
    if !order.copy && ctx.txn.own_database() == (db, space) {
        for number in sent.arrived {
            let at = ctx.txn.at(order.keys[number])?;
            if keys::delete(ctx.txn, at)? {
                ctx.txn.event(EventClass::GENERIC, "del", at);
            }
        }
    }
    // An error is an answer here, and no reason to forget what has gone.
    match sent.error {
        None => ctx.reply.ok(),
        Some(error) => ctx.reply.error(error.text()),
    }
    Ok(())
}

/// Sends everything, over a connection that was kept or a new one.
fn transfer(ctx: &mut Context<'_>, order: &Order<'_>) -> Result<Sent, Stop> {
    let mut kept = ctx.server.peers.take(order.host, order.port);
    loop {
        let fresh = kept.is_none();
        let mut peer = match kept.take().map_or_else(|| connect(order), Ok) {
            Ok(peer) => peer,
            Err(error) => {
                let error = Some(error);
                return Ok(Sent { arrived: Vec::new(), error, broken: true, may_retry: false });
            }
        };
        let sent = send(ctx, order, &mut peer)?;
        if sent.may_retry && !fresh {
            continue;
        }
        if !sent.broken {
            ctx.server.peers.keep(order.host, order.port, peer, ctx.server.clock.monotonic_ms());
        }
        return Ok(sent);
    }
}

/// A new connection. What Redis says of a host that refuses it is that it cannot be written to.
fn connect(order: &Order<'_>) -> Result<Peer, ReplyError> {
    let host = std::str::from_utf8(order.host).map_err(|_| NO_CONNECTION)?;
    let addresses = (host, order.port).to_socket_addrs().map_err(|_| NO_CONNECTION)?;
    let mut error = NO_CONNECTION;
    for address in addresses {
        match TcpStream::connect_timeout(&address, order.timeout) {
            Ok(stream) => {
                // Without it answers come a little later.
                let _ = stream.set_nodelay(true);
                return Ok(Peer { stream, db: None });
            }
            Err(why) if is_timeout(&why) => error = NO_CONNECTION,
            Err(_) => error = NOT_WRITTEN,
        }
    }
    Err(error)
}

/// Sends everything over one connection and reads the answers.
fn send(ctx: &mut Context<'_>, order: &Order<'_>, peer: &mut Peer) -> Result<Sent, Stop> {
    let failed = |error: ReplyError, why: &io::Error| Sent {
        arrived: Vec::new(),
        error: Some(error),
        broken: true,
        may_retry: !is_timeout(why),
    };
    let timeout = Some(order.timeout);
    if let Err(why) =
        peer.stream.set_read_timeout(timeout).and_then(|()| peer.stream.set_write_timeout(timeout))
    {
        return Ok(failed(NOT_WRITTEN, &why));
    }
    let selects = peer.db != Some(order.db);
    let mut greeting = 0;
    let mut request = Vec::new();
    if !order.login.is_empty() {
        let mut words: Vec<&[u8]> = vec![b"AUTH"];
        words.extend(&order.login);
        put_request(&mut request, &words);
        greeting += 1;
    }
    if selects {
        put_request(&mut request, &[b"SELECT", order.db.to_string().as_bytes()]);
        greeting += 1;
    }
    // Dump by dump, so that no more than one is in memory.
    let mut numbers = Vec::new();
    for (number, &key) in order.keys.iter().enumerate() {
        let at = ctx.txn.at(key)?;
        let expire_ms = keys::expiry(ctx.txn, at)?.unwrap_or(0);
        let now_ms = ctx.server.clock.unix_ms();
        if expire_ms != 0 && expire_ms < now_ms {
            continue;
        }
        let Some(dump) = dump::dump(ctx.txn, at)? else { continue };
        let ttl_ms = if expire_ms == 0 { 0 } else { (expire_ms - now_ms).max(1) };
        let ttl = ttl_ms.to_string();
        let mut words: Vec<&[u8]> = vec![b"RESTORE", key, ttl.as_bytes(), &dump];
        if order.replace {
            words.push(b"REPLACE");
        }
        put_request(&mut request, &words);
        numbers.push(number);
        if let Err(why) = peer.stream.write_all(&request) {
            return Ok(failed(NOT_WRITTEN, &why));
        }
        request.clear();
    }
    if let Err(why) = peer.stream.write_all(&request) {
        return Ok(failed(NOT_WRITTEN, &why));
    }
    let mut reader = ReplyReader::default();
    let mut error = None;
    for _ in 0..greeting {
        match read_reply(&mut peer.stream, &mut reader) {
            Ok(reply) => error = error.or_else(|| refusal(&reply)),
            Err(why) => return Ok(failed(NOT_READ, &why)),
        }
    }
    let refused = error.is_some();
    let mut arrived = Vec::new();
    for (turn, &number) in numbers.iter().enumerate() {
        match read_reply(&mut peer.stream, &mut reader) {
            Ok(reply) => match refusal(&reply) {
                None if !refused => arrived.push(number),
                None => {}
                Some(said) => error = error.or(Some(said)),
            },
            Err(why) => {
                let may_retry = turn == 0 && error.is_none() && !is_timeout(&why);
                return Ok(Sent { arrived, error: error.or(Some(NOT_READ)), broken: true, may_retry });
            }
        }
    }
    peer.db = if error.is_none() { Some(order.db) } else { None };
    Ok(Sent { arrived, error, broken: false, may_retry: false })
}

fn is_timeout(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut)
}

/// What a server says against it, if that is what it says.
fn refusal(reply: &Value) -> Option<ReplyError> {
    let (Value::Error(text) | Value::BulkError(text)) = reply else { return None };
    Some(ReplyError::new(format!("ERR Target instance replied with error: {}", ReplyError::echo(text))))
}

fn read_reply(stream: &mut TcpStream, reader: &mut ReplyReader) -> io::Result<Value> {
    let mut buffer = [0; 4096];
    loop {
        if let Some(reply) = reader.next().map_err(|_| io::Error::from(io::ErrorKind::InvalidData))? {
            return Ok(reply);
        }
        match stream.read(&mut buffer) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(count) => reader.feed(&buffer[..count]),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

/// Appends a command as a server takes it.
fn put_request(out: &mut Vec<u8>, words: &[&[u8]]) {
    // Writing to a vector cannot fail.
    let _ = write!(out, "*{}\r\n", words.len());
    for word in words {
        let _ = write!(out, "${}\r\n", word.len());
        out.extend_from_slice(word);
        out.extend_from_slice(b"\r\n");
    }
}
