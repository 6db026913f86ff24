//! Transactions from outside: what counts as a change of a watched key, isolation among many clients, EXEC that has to go to a pool,
//! what is left of clients that go away.
//!
//! The table of changes is held against the redis-servers there are; the other tests say by themselves what is right.
//! `HAYPILE_TRANSACTION_SECONDS` prolongs the run of transfers, `HAYPILE_TRANSACTION_SEED` repeats its draws.
#![expect(
    clippy::disallowed_methods,
    reason = "a test outside the server reads clocks and starts threads as any program"
)]

#[expect(dead_code, reason = "each test binary takes its part of what they share")]
mod support;

use haypile_resp::Value;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};
use support::client::{Client, bulk, render};
use support::program::Program;
use support::random::{Random, count_from, seed_from};
use support::server::{Server, wait_for};

const BUDGET: [&str; 4] = ["--memory-budget", "64mb", "--workers", "4"];

fn words(line: &str) -> Vec<&str> {
    line.split(' ').collect()
}

fn call(client: &mut Client, line: &str) -> String {
    render(&client.call(&words(line)))
}

fn info(client: &mut Client, section: &str, field: &str) -> i64 {
    let text = client.text(&["INFO", section]);
    let line = text.lines().find(|line| line.starts_with(&format!("{field}:")));
    line.and_then(|line| line.rsplit(':').next()?.trim().parse().ok())
        .unwrap_or_else(|| panic!("{field} in:\n{text}"))
}

/// What is there when `k` begins to be watched, and what another client does then. Commands are parted by ` ; `.
const CHANGES: &[(&str, &str)] = &[
    ("", "SET k v"),
    ("SET k v", "SET k v"),
    ("SET k v", "SET k w NX"),
    ("", "SET k w XX"),
    ("SET k v", "GET k"),
    ("SET k v", "SET other v"),
    ("SET k v", "APPEND k x"),
    ("SET k v", "APPEND k "),
    ("SET k v", "SETRANGE k 0 v"),
    ("SET k v", "SETRANGE k 0 "),
    ("SET k 5", "INCRBY k 0"),
    ("SET k v", "INCR k"),
    ("SET k 5", "INCRBYFLOAT k 0"),
    ("SET k v", "GETDEL k"),
    ("", "GETDEL k"),
    ("SET k v", "GETSET k v"),
    ("SET k v", "GETEX k"),
    ("SET k v", "GETEX k PERSIST"),
    ("SET k v EX 900", "GETEX k PERSIST"),
    ("SET k v", "GETEX k EX 900"),
    ("SET k v", "MSETNX k a l b"),
    ("SET k v", "SETBIT k 1 1"),
    ("SET k v", "SETBIT k 1 1 ; SETBIT k 1 1"),
    ("SET k v", "BITFIELD k GET u8 0"),
    ("SET k v", "BITFIELD k SET u8 0 118"),
    ("SET k v", "BITFIELD k INCRBY u8 0 0"),
    ("SET k v", "BITFIELD k INCRBY u8 0 1"),
    ("SET k v", "BITFIELD k OVERFLOW FAIL INCRBY u8 0 255"),
    ("SET k v", "BITFIELD k OVERFLOW SAT INCRBY i1 1 5"),
    ("", "BITOP NOT k none"),
    ("SET k v", "BITOP NOT k none"),
    ("SET k v", "DEL k"),
    ("", "DEL k"),
    ("SET k v", "UNLINK k ; SET k v"),
    ("SET k v", "EXPIRE k 900"),
    ("SET k v", "EXPIRE k 900 XX"),
    ("SET k v", "EXPIRE k -1"),
    ("SET k v", "SET k v EXAT 1"),
    ("", "SET k v EXAT 1"),
    ("", "MULTI ; SET k v EXAT 1 ; EXEC"),
    ("SET k v EX 900", "PERSIST k"),
    ("SET k v", "PERSIST k"),
    ("SET k v", "RENAME k l"),
    ("SET l v", "RENAME l k"),
    ("SET l v ; SET k w", "RENAMENX l k"),
    ("SET l v", "COPY l k"),
    ("SET k v", "COPY k l"),
    ("SET k v", "COPY k l DB 3"),
    ("SET k v", "MOVE k 4"),
    ("SET k v", "TOUCH k"),
    ("SET k v", "OBJECT ENCODING k"),
    ("SET k v", "FLUSHDB"),
    ("SET k v", "FLUSHALL"),
    ("", "FLUSHALL"),
    ("SET k v", "SELECT 5 ; FLUSHDB"),
    ("SET k v", "SELECT 5 ; SET k v"),
    ("SET k v", "SWAPDB 0 6"),
    ("", "SWAPDB 0 6"),
    ("SELECT 7 ; SET k v ; SELECT 0", "SWAPDB 0 7"),
    ("SET k v", "SWAPDB 8 7"),
    ("SET k v", "MULTI ; SET k w ; EXEC"),
    ("SET k v", "MULTI ; SET k w ; DISCARD"),
    ("SET k v", "MULTI ; LPUSH k w ; EXEC"),
    ("", "MULTI ; SET k w ; DEL k ; EXEC"),
    ("", "MULTI ; SET k w ; FLUSHALL ; EXEC"),
    ("RPUSH k a b c", "RPUSH k d"),
    ("RPUSH k a b c", "LPUSHX k d"),
    ("", "LPUSHX k d"),
    ("RPUSH k a b c", "LPOP k"),
    ("RPUSH k a b c", "LPOP k 0"),
    ("RPUSH k a b c", "LSET k 0 a"),
    ("RPUSH k a b c", "LSET k 1 x"),
    ("RPUSH k a b c", "LINSERT k BEFORE x y"),
    ("RPUSH k a b c", "LINSERT k BEFORE b y"),
    ("RPUSH k a b c", "LREM k 0 x"),
    ("RPUSH k a b c", "LREM k 0 b"),
    ("RPUSH k a b c", "LTRIM k 0 1"),
    ("RPUSH k a b c", "LTRIM k 5 4"),
    ("RPUSH k a b c", "LMOVE k l LEFT LEFT"),
    ("RPUSH k a b c", "LMOVE k k LEFT RIGHT"),
    ("RPUSH k a", "LMOVE k k LEFT RIGHT"),
    ("RPUSH l a", "RPOPLPUSH l k"),
    ("", "RPOPLPUSH none k"),
    ("RPUSH k a b c", "LMPOP 1 k LEFT COUNT 2"),
    ("RPUSH k a b c", "BLPOP k 0"),
    ("RPUSH k c a b", "SORT k ALPHA"),
    ("RPUSH l c a b", "SORT l ALPHA STORE k"),
    ("RPUSH k a", "SORT none STORE k"),
    ("HSET k f 1 g 2", "HSET k f 1"),
    ("HSET k f 1 g 2", "HSET k f 3"),
    ("HSET k f 1 g 2", "HSETNX k f 3"),
    ("HSET k f 1 g 2", "HSETNX k h 3"),
    ("HSET k f 1 g 2", "HDEL k x"),
    ("HSET k f 1 g 2", "HDEL k f"),
    ("HSET k f 1 g 2", "HINCRBY k f 0"),
    ("HSET k f 1 g 2", "HINCRBYFLOAT k f 1"),
    ("HSET k f 1 g 2", "HINCRBY k f x"),
    ("SADD k a b", "SADD k a"),
    ("SADD k a b", "SADD k c"),
    ("SADD k a b", "SREM k c"),
    ("SADD k a b", "SREM k a"),
    ("SADD k a b", "SPOP k"),
    ("SADD k a b", "SPOP k 0"),
    ("SADD k a b", "SMOVE k l x"),
    ("SADD k a b", "SMOVE k l a"),
    ("SADD k a b ; SADD l a", "SMOVE k l a"),
    ("SADD l a b", "SMOVE l k a"),
    ("SADD k a b", "SINTERSTORE k none"),
    ("", "SINTERSTORE k none"),
    ("SADD l a", "SUNIONSTORE k l"),
    ("ZADD k 1 a 2 b", "ZADD k 1 a"),
    ("ZADD k 1 a 2 b", "ZADD k 3 a"),
    ("ZADD k 1 a 2 b", "ZADD k NX 3 a"),
    ("ZADD k 1 a 2 b", "ZADD k XX 3 c"),
    ("ZADD k 1 a 2 b", "ZADD k 3 c"),
    ("ZADD k 1 a 2 b", "ZINCRBY k 0 a"),
    ("ZADD k 1 a 2 b", "ZINCRBY k 1 a"),
    ("ZADD k 1 a 2 b", "ZREM k x"),
    ("ZADD k 1 a 2 b", "ZREM k a"),
    ("ZADD k 1 a 2 b", "ZREMRANGEBYSCORE k 5 6"),
    ("ZADD k 1 a 2 b", "ZREMRANGEBYRANK k 0 0"),
    ("ZADD k 1 a 2 b", "ZPOPMIN k"),
    ("ZADD k 1 a 2 b", "ZPOPMIN k 0"),
    ("ZADD k 1 a 2 b", "ZMPOP 1 k MAX"),
    ("ZADD l 1 a", "ZRANGESTORE k l 0 -1"),
    ("ZADD k 1 a", "ZRANGESTORE k none 0 -1"),
    ("ZADD l 1 a", "ZUNIONSTORE k 1 l"),
    ("", "GEOADD k 13 38 p"),
    ("PFADD k a", "PFADD k a"),
    ("PFADD k a", "PFADD k b"),
    ("PFADD k a", "PFCOUNT k"),
    ("PFADD k a ; PFCOUNT k", "PFCOUNT k"),
    ("PFADD l a", "PFMERGE k l"),
    ("XADD k 1-1 f v", "XADD k 1-2 f v"),
    ("XADD k 1-1 f v", "XADD none NOMKSTREAM 1-2 f v"),
    ("XADD k 1-1 f v", "XDEL k 5-5"),
    ("XADD k 1-1 f v", "XDEL k 1-1"),
    ("XADD k 1-1 f v", "XTRIM k MAXLEN 5"),
    ("XADD k 1-1 f v", "XTRIM k MAXLEN 0"),
    ("XADD k 1-1 f v", "XSETID k 9-9"),
    ("XADD k 1-1 f v", "XGROUP CREATE k g 0"),
    ("", "XGROUP CREATE k g 0 MKSTREAM"),
    ("XADD k 1-1 f v ; XGROUP CREATE k g 0", "XREADGROUP GROUP g c STREAMS k >"),
    ("XADD k 1-1 f v ; XGROUP CREATE k g 0", "XGROUP SETID k g 1-1"),
    ("XADD k 1-1 f v ; XGROUP CREATE k g 0", "XGROUP CREATECONSUMER k g c"),
    ("XADD k 1-1 f v ; XGROUP CREATE k g 0", "XGROUP DESTROY k g"),
    ("XADD k 1-1 f v ; XGROUP CREATE k g 0 ; XREADGROUP GROUP g c STREAMS k >", "XACK k g 1-1"),
    ("XADD k 1-1 f v ; XGROUP CREATE k g 0 ; XREADGROUP GROUP g c STREAMS k >", "XCLAIM k g d 0 1-1"),
    ("XADD k 1-1 f v ; XGROUP CREATE k g 0 ; XREADGROUP GROUP g c STREAMS k >", "XAUTOCLAIM k g d 0 0"),
];

fn run(client: &mut Client, commands: &str) {
    for command in commands.split(" ; ").filter(|command| !command.is_empty()) {
        call(client, command);
    }
}

/// Whether EXEC is called off.
fn is_changed(server: &Server, before: &str, change: &str) -> bool {
    let (mut one, mut other) = (server.client(), server.client());
    call(&mut one, "FLUSHALL");
    run(&mut one, before);
    call(&mut one, "WATCH k");
    run(&mut other, change);
    call(&mut one, "MULTI");
    call(&mut one, "PING");
    match one.call(&["EXEC"]) {
        Value::NullArray => true,
        Value::Array(replies) => {
            assert_eq!(replies, [Value::Simple(b"PONG".to_vec())]);
            false
        }
        other => panic!("{before}, then {change}: {}", render(&other)),
    }
}

#[test]
fn what_counts_as_a_change_of_a_watched_key() {
    let mut flags = BUDGET.to_vec();
    flags.extend(["--packed-max-elements", "0"]);
    let ours = [Server::start("transactions-watch", &BUDGET), Server::start("transactions-large", &flags)];
    // The newest of 7.x says what is right.
    let control = Program::controls().into_iter().rfind(|program| program.series().starts_with("7."));
    let Some(control) = control else { return };
    eprintln!("control: {}", control.version);
    let control = Server::start_program("transactions-control", control, &[]);
    let mut wrong = Vec::new();
    for (before, change) in CHANGES {
        let right = is_changed(&control, before, change);
        for (name, server) in ["packed", "large"].iter().zip(&ours) {
            if is_changed(server, before, change) != right {
                wrong.push(format!("{name}: {before}, then {change}: Redis says {right}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn a_key_that_expires_after_watch_calls_exec_off() {
    let server = Server::start("transactions-expiry", &BUDGET);
    let (mut one, mut other) = (server.client(), server.client());
    // Expired at WATCH, removed or not: nothing changes when it goes.
    for sweep in ["0", "1"] {
        call(&mut other, &format!("DEBUG SET-ACTIVE-EXPIRE {sweep}"));
        call(&mut other, "SET k v PX 1");
        std::thread::sleep(Duration::from_millis(5));
        call(&mut one, "WATCH k");
        call(&mut other, "DEBUG SET-ACTIVE-EXPIRE 1");
        call(&mut other, "GET k");
        wait_for("the sweeper", || call(&mut other, "DBSIZE") == ":0");
        call(&mut one, "MULTI");
        assert_eq!(call(&mut one, "EXEC"), "*[]");
        // It expires while it is watched.
        call(&mut other, &format!("DEBUG SET-ACTIVE-EXPIRE {sweep}"));
        call(&mut other, "SET k v PX 20");
        call(&mut one, "WATCH k");
        std::thread::sleep(Duration::from_millis(40));
        call(&mut one, "MULTI");
        assert_eq!(one.call(&["EXEC"]), Value::NullArray);
    }
}

const ACCOUNTS: u64 = 6;
const SUM: i64 = 600;

fn account(number: u64) -> String {
    format!("account:{number}")
}

fn balance(value: &Value) -> i64 {
    String::from_utf8_lossy(bulk(value).expect("a balance")).parse().expect("a number")
}

/// One transfer by WATCH; whether it went through.
fn transfer(client: &mut Client, random: &mut Random) -> bool {
    let (from, to) = (random.below(ACCOUNTS), random.below(ACCOUNTS));
    if from == to {
        return false;
    }
    let amount = 1 + random.below(5) as i64;
    let by_watch = random.chance(600);
    if by_watch {
        client.call(&["WATCH", &account(from), &account(to)]);
        let (a, b) = (client.call(&["GET", &account(from)]), client.call(&["GET", &account(to)]));
        client.queue(&["MULTI"]);
        client.queue(&["SET", &account(from), &(balance(&a) - amount).to_string()]);
        client.queue(&["SET", &account(to), &(balance(&b) + amount).to_string()]);
    } else {
        client.queue(&["MULTI"]);
        client.queue(&["DECRBY", &account(from), &amount.to_string()]);
        // It fails, and the others go on.
        client.queue(&["LPUSH", &account(from), "x"]);
        client.queue(&["INCRBY", &account(to), &amount.to_string()]);
    }
    client.queue(&["EXEC"]);
    client.flush().expect("send");
    for _ in 0..if by_watch { 3 } else { 4 } {
        client.read().expect("queued");
    }
    match client.read().expect("EXEC") {
        Value::NullArray if by_watch => false,
        Value::Array(_) => true,
        other => panic!("EXEC: {}", render(&other)),
    }
}

#[test]
fn transfers_keep_their_sum_and_nobody_sees_half_of_one() {
    let seconds = count_from("HAYPILE_TRANSACTION_SECONDS", 3);
    let seed = seed_from("HAYPILE_TRANSACTION_SEED");
    eprintln!("HAYPILE_TRANSACTION_SEED={seed}");
    let server = Server::start("transactions-transfers", &BUDGET);
    let mut admin = server.client();
    for number in 0..ACCOUNTS {
        admin.call(&["SET", &account(number), &(SUM / ACCOUNTS as i64).to_string()]);
    }
    let (stop, done, lost) = (AtomicBool::new(false), AtomicU64::new(0), AtomicU64::new(0));
    let all: Vec<String> = (0..ACCOUNTS).map(account).collect();
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let (server, stop, done, lost) = (&server, &stop, &done, &lost);
            scope.spawn(move || {
                let (mut client, mut random) = (server.client(), Random::new(seed.wrapping_add(thread)));
                // Relaxed, here and below: only ends loops and counts.
                while !stop.load(Ordering::Relaxed) {
                    let counter = if transfer(&mut client, &mut random) { done } else { lost };
                    counter.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        let (server, stop, all) = (&server, &stop, &all);
        scope.spawn(move || {
            let mut client = server.client();
            let mut command = vec!["MGET".to_string()];
            command.extend_from_slice(all);
            while !stop.load(Ordering::Relaxed) {
                let Value::Array(found) = client.call(&command) else { panic!("MGET") };
                assert_eq!(found.iter().map(balance).sum::<i64>(), SUM, "MGET saw half of a transfer");
            }
        });
        scope.spawn(move || {
            let mut client = server.client();
            while !stop.load(Ordering::Relaxed) {
                client.queue(&["MULTI"]);
                all.iter().for_each(|account| client.queue(&["GET", account]));
                client.queue(&["EXEC"]);
                client.flush().expect("send");
                for _ in 0..=all.len() {
                    client.read().expect("queued");
                }
                let Value::Array(found) = client.read().expect("EXEC") else { panic!("EXEC") };
                assert_eq!(found.iter().map(balance).sum::<i64>(), SUM, "EXEC saw half of a transfer");
            }
        });
        std::thread::sleep(Duration::from_secs(seconds));
        stop.store(true, Ordering::Relaxed);
    });
    eprintln!("{} transfers, {} called off", done.load(Ordering::Relaxed), lost.load(Ordering::Relaxed));
    assert!(done.load(Ordering::Relaxed) > 100);
    assert_eq!(info(&mut admin, "clients", "total_watched_keys"), 0);
}

#[test]
fn a_counter_by_watch_counts_every_exec_that_ran() {
    let server = Arc::new(Server::start("transactions-counter", &BUDGET));
    let threads: Vec<_> = (0..4)
        .map(|_| {
            let server = Arc::clone(&server);
            std::thread::spawn(move || {
                let (mut client, mut ran) = (server.client(), 0);
                let until = Instant::now() + Duration::from_millis(800);
                while Instant::now() < until {
                    client.call(&["WATCH", "counter"]);
                    let value = client.call(&["GET", "counter"]);
                    let value: i64 = bulk(&value).map_or(0, |_| balance(&value));
                    client.call(&["MULTI"]);
                    client.call(&["SET", "counter", &(value + 1).to_string()]);
                    ran += i64::from(client.call(&["EXEC"]) != Value::NullArray);
                }
                ran
            })
        })
        .collect();
    let ran: i64 = threads.into_iter().map(|thread| thread.join().expect("a client")).sum();
    let mut client = server.client();
    assert_eq!(balance(&client.call(&["GET", "counter"])), ran);
    assert!(ran > 50, "{ran}");
}

#[test]
fn nothing_is_left_of_clients_that_go_away() {
    let server = Server::start("transactions-leak", &BUDGET);
    let mut admin = server.client();
    let large = "x".repeat(700_000);
    for round in 0..60 {
        let mut client = server.client();
        client.queue(&["WATCH", "a", "b", &format!("c{round}")]);
        if round % 2 == 0 {
            client.queue(&["MULTI"]);
            client.queue(&["SET", "a", &large]);
            client.queue(&["SET", "b", &large]);
        }
        match round % 5 {
            0 => client.queue(&["EXEC"]),
            1 => client.queue(&["SET", "a", "1"]),
            2 => client.queue(&["RESET"]),
            3 => client.queue(&["KEYS", "*"]),
            _ => {}
        }
        client.flush().expect("send");
        if round % 3 == 0 {
            client.read().expect("an answer");
        }
    }
    wait_for("nobody to be connected", || info(&mut admin, "clients", "connected_clients") == 1);
    assert_eq!(info(&mut admin, "clients", "watching_clients"), 0);
    assert_eq!(info(&mut admin, "clients", "total_watched_keys"), 0);
    assert_eq!(info(&mut admin, "memory", "mem_large_requests"), 0);
    assert_eq!(info(&mut admin, "memory", "mem_large_requests_waiting"), 0);
    // Nobody holds a key.
    for key in ["a", "b", "c1"] {
        assert_eq!(call(&mut admin, &format!("SET {key} 1")), "+OK");
    }
}

fn exec(client: &mut Client, commands: &[&str]) -> Vec<String> {
    client.queue(&["MULTI"]);
    commands.iter().for_each(|command| client.queue(&words(command)));
    client.queue(&["EXEC"]);
    client.flush().expect("send");
    for _ in 0..=commands.len() {
        client.read().expect("queued");
    }
    match client.read().expect("EXEC") {
        Value::NullArray => Vec::new(),
        Value::Array(replies) => replies.iter().map(render).collect(),
        other => panic!("EXEC: {}", render(&other)),
    }
}

#[test]
fn an_exec_that_needs_a_pool_runs_there_once() {
    let server = Server::start("transactions-pool", &BUDGET);
    let mut client = server.client();
    for number in 0..2000 {
        client.queue(&["SET", &format!("cold:{number}"), &number.to_string()]);
    }
    client.flush().expect("send");
    (0..2000).for_each(|_| assert_eq!(render(&client.read().expect("SET")), "+OK"));
    // Nothing is in memory after this, so the worker gives up in the midst of it.
    assert_eq!(call(&mut client, "DEBUG RELOAD"), "+OK");
    let replies = exec(
        &mut client,
        &["INCR hot", "SELECT 3", "SET there 1", "SELECT 0", "INCR cold:7", "GET cold:1900", "INCR hot"],
    );
    assert_eq!(replies, [":1", "+OK", "+OK", "+OK", ":8", "$1900", ":2"]);
    assert_eq!(call(&mut client, "GET hot"), "$2");
    // Too long for a worker; and the database that it ends in is the session's.
    let mut commands = vec!["SELECT 2".to_string()];
    commands.extend((0..3000).map(|number| format!("RPUSH list {number}")));
    commands
        .extend(["LLEN list", "DBSIZE", "KEYS *", "FLUSHDB", "LPUSH list x", "DBSIZE"].map(str::to_string));
    let commands: Vec<&str> = commands.iter().map(String::as_str).collect();
    let replies = exec(&mut client, &commands);
    assert_eq!(replies[3001..], [":3000", ":1", "*[$list]", "+OK", ":1", ":1"]);
    assert_eq!(call(&mut client, "LRANGE list 0 -1"), "*[$x]");
    assert!(call(&mut client, "CLIENT INFO").contains("db=2"));
}

#[test]
fn large_values_are_seen_by_the_commands_behind() {
    let server = Server::start("transactions-large-values", &BUDGET);
    let mut client = server.client();
    let large = "y".repeat(3 << 20);
    client.queue(&["MULTI"]);
    client.queue(&["SET", "a", &large]);
    client.queue(&["COPY", "a", "b"]);
    client.queue(&["APPEND", "b", "end"]);
    client.queue(&["GETRANGE", "b", "-5", "-1"]);
    client.queue(&["STRLEN", "b"]);
    client.queue(&["RENAME", "b", "c"]);
    client.queue(&["STRLEN", "c"]);
    client.queue(&["DEL", "a"]);
    client.queue(&["DBSIZE"]);
    client.queue(&["EXEC"]);
    client.flush().expect("send");
    (0..10).for_each(|_| drop(client.read().expect("queued")));
    let Value::Array(replies) = client.read().expect("EXEC") else { panic!("EXEC") };
    let replies: Vec<String> = replies.iter().map(render).collect();
    assert_eq!(replies, ["+OK", ":1", ":3145731", "$yyend", ":3145731", "+OK", ":3145731", ":1", ":1"]);
    assert_eq!(call(&mut client, "STRLEN c"), ":3145731");
    assert_eq!(call(&mut client, "GETRANGE c -4 -1"), "$yend");
}

#[test]
fn one_command_that_fails_leaves_the_others() {
    let server = Server::start("transactions-failures", &BUDGET);
    let mut client = server.client();
    let replies = exec(
        &mut client,
        &["SET a 1", "LPUSH a x", "DEBUG PANIC", "INCR a", "RENAME none b", "BLPOP none 0", "GET a"],
    );
    assert_eq!(replies.len(), 7);
    assert!(
        replies[1].starts_with("-WRONGTYPE") && replies[2].starts_with("-ERR internal error"),
        "{replies:?}"
    );
    assert_eq!(replies[3], ":2");
    assert_eq!(replies[4], "-ERR no such key");
    assert_eq!(replies[6], "$2");
    assert_eq!(info(&mut client, "stats", "total_error_replies"), 3);
    // Waiters are served after all of it.
    let mut waiting = server.client();
    waiting.queue(&["BLPOP", "list", "0"]);
    waiting.flush().expect("send");
    wait_for("it waits", || info(&mut client, "clients", "blocked_clients") == 1);
    exec(&mut client, &["LPUSH list a", "LPOP list"]);
    exec(&mut client, &["LPUSH list b", "LPUSH list c", "SET a 2"]);
    assert_eq!(render(&waiting.read().expect("served")), "*[$list, $c]");
}

#[test]
fn a_queue_is_bounded_as_a_request_is() {
    let server = Server::start("transactions-bounds", &["--memory-budget", "64mb"]);
    let mut client = server.client();
    call(&mut client, "CONFIG SET client-query-buffer-limit 1048576");
    let piece = "z".repeat(300_000);
    client.queue(&["MULTI"]);
    (0..5).for_each(|_| client.queue(&["SET", "a", &piece]));
    // The server may have closed already.
    let _ = client.flush();
    let rest = client.read_to_close().expect("closed");
    assert!(rest.starts_with(b"+OK\r\n+QUEUED\r\n"), "{}", rest.escape_ascii());
    let mut client = server.client();
    assert_eq!(info(&mut client, "stats", "client_query_buffer_limit_disconnections"), 1);
    assert_eq!(call(&mut client, "EXISTS a"), ":0");
    // More than the budget has for requests: refused, and EXEC with it.
    call(&mut client, "CONFIG SET client-query-buffer-limit 1073741824");
    let piece = "z".repeat(8 << 20);
    call(&mut client, "MULTI");
    let mut answers: Vec<Value> = Vec::new();
    for _ in 0..12 {
        answers.push(client.call(&["SET", "a", &piece]));
    }
    let refused = answers.iter().filter(|answer| matches!(answer, Value::Error(_))).count();
    if refused > 0 {
        assert!(call(&mut client, "EXEC").starts_with("-EXECABORT"));
    } else {
        assert!(matches!(client.call(&["EXEC"]), Value::Array(_)));
    }
    assert_eq!(info(&mut client, "memory", "mem_large_requests"), 0);
}

#[test]
fn many_keys_are_watched_in_no_time() {
    let server = Server::start("transactions-many", &BUDGET);
    let (mut client, mut other) = (server.client(), server.client());
    let started = Instant::now();
    let keys = 200_000;
    for chunk in (0..keys).collect::<Vec<_>>().chunks(1000) {
        client.queue(
            &["WATCH"]
                .map(String::from)
                .into_iter()
                .chain(chunk.iter().map(|key| format!("key:{key}")))
                .collect::<Vec<_>>(),
        );
    }
    // Once more, which changes nothing.
    client.queue(&["WATCH", "key:0", "key:7"]);
    client.flush().expect("send");
    (0..=keys / 1000).for_each(|_| assert_eq!(render(&client.read().expect("WATCH")), "+OK"));
    assert!(started.elapsed() < Duration::from_secs(5), "{:?}", started.elapsed());
    assert_eq!(info(&mut other, "clients", "total_watched_keys"), keys);
    call(&mut other, "SET key:123456 1");
    assert_eq!(exec(&mut client, &["SET a 1"]).len(), 0);
    assert_eq!(info(&mut other, "clients", "total_watched_keys"), 0);
}
