//! What an operator asks of a running server, each promise from outside: CLIENT PAUSE and KILL across workers and pools, INFO that waits
//! for nothing, WAITAOF, `maxmemory-clients`, LATENCY, COMPACT, CONFIG.

#![expect(
    clippy::disallowed_methods,
    reason = "a test outside the server reads clocks and starts threads as any program"
)]

#[expect(dead_code, reason = "each test takes its part of the support")]
mod support;

use haypile_resp::Value;
use rustix::process::Signal;
use std::time::{Duration, Instant};
use support::client::{Client, render};
use support::server::{Server, wait_for};

const KEYS: usize = 60_000;

fn words(line: &str) -> Vec<&str> {
    line.split(' ').collect()
}

fn call(client: &mut Client, line: &str) -> String {
    render(&client.call(&words(line)))
}

fn send(client: &mut Client, line: &str) {
    client.queue(&words(line));
    client.flush().unwrap();
}

/// A field of INFO.
fn field(client: &mut Client, section: &str, name: &str) -> String {
    let text = client.text(&["INFO", section]);
    let prefix = format!("{name}:");
    let line = text.lines().find_map(|line| line.strip_prefix(&prefix));
    line.unwrap_or_else(|| panic!("no {name} in {text}")).to_string()
}

fn number(client: &mut Client, section: &str, name: &str) -> u64 {
    field(client, section, name).parse().unwrap()
}

/// Whether a reply is there already.
fn answered(client: &mut Client) -> bool {
    client.set_patience(Duration::from_millis(1)).unwrap();
    let there = client.stream().peek(&mut [0]).is_ok_and(|bytes| bytes > 0);
    client.set_patience(support::client::PATIENCE).unwrap();
    there
}

fn fill(client: &mut Client, keys: usize) {
    for chunk in (0..keys).collect::<Vec<_>>().chunks(1000) {
        for key in chunk {
            client.queue(&["SET", &format!("key:{key:08}"), "value"]);
        }
        client.flush().unwrap();
        for _ in chunk {
            client.read().unwrap();
        }
    }
}

fn on_pools(client: &mut Client) -> u64 {
    number(client, "engine", "engine_commands_on_pools")
}

/// Begins a command that takes a while on a pool, and waits until it is there.
fn begin(server: &Server, admin: &mut Client, line: &str) -> Client {
    let mut client = server.client();
    call(&mut client, "CLIENT SETNAME busy");
    send(&mut client, line);
    wait_for("the command is on a pool", || on_pools(admin) > 0 || answered(&mut client));
    client
}

#[test]
fn a_pause_of_writes_waits_for_writes_on_pools_and_for_nothing_else() {
    let server = Server::start("operations-pause", &["--workers", "2", "--memory-budget", "256mb"]);
    let mut admin = server.client();
    fill(&mut admin, KEYS);
    // A read goes on meanwhile; nobody who pauses writes waits for it.
    let mut reader = begin(&server, &mut admin, "KEYS key:*");
    let mut other = server.client();
    assert_eq!(call(&mut other, "CLIENT PAUSE 60000 WRITE"), "+OK");
    assert_eq!(call(&mut other, "CLIENT UNPAUSE"), "+OK");
    assert!(matches!(reader.read().unwrap(), Value::Array(keys) if keys.len() == KEYS));
    // A write does not.
    let mut writer = begin(&server, &mut admin, "PKPATTERNMATCHDEL key:*");
    assert!(!answered(&mut writer), "the writer ended too early for this test");
    assert_eq!(call(&mut other, "CLIENT PAUSE 60000 WRITE"), "+OK");
    assert_eq!(on_pools(&mut admin), 0);
    let size = call(&mut admin, "DBSIZE");
    assert_eq!(writer.read().unwrap(), Value::Integer(KEYS as i64));
    // What comes now waits, whichever worker it is on; reads do not.
    let mut waiting: Vec<Client> = (0..4).map(|_| server.client()).collect();
    waiting.iter_mut().for_each(|client| send(client, "SET after the-pause"));
    std::thread::sleep(Duration::from_millis(200));
    assert_eq!(call(&mut admin, "DBSIZE"), size);
    assert!(waiting.iter_mut().all(|client| !answered(client)));
    assert_eq!(field(&mut admin, "clients", "paused_actions"), "write");
    assert_eq!(call(&mut other, "CLIENT UNPAUSE"), "+OK");
    assert!(waiting.into_iter().all(|mut client| client.read().unwrap() == Value::Simple(b"OK".to_vec())));
}

#[test]
fn a_pause_of_everything_waits_for_everything() {
    let server = Server::start("operations-pause-all", &["--workers", "2", "--memory-budget", "256mb"]);
    let mut admin = server.client();
    fill(&mut admin, KEYS);
    let mut other = server.client();
    let mut reader = begin(&server, &mut admin, "KEYS key:*");
    assert_eq!(call(&mut other, "CLIENT PAUSE 60000 ALL"), "+OK");
    assert_eq!(call(&mut other, "CLIENT UNPAUSE"), "+OK");
    assert!(matches!(reader.read().unwrap(), Value::Array(_)));
    // A client that sleeps is in a command, too.
    let mut sleeper = begin(&server, &mut admin, "DEBUG SLEEP 0.4");
    let start = Instant::now();
    assert_eq!(call(&mut other, "CLIENT PAUSE 60000 ALL"), "+OK");
    assert!(start.elapsed() >= Duration::from_millis(200), "{:?}", start.elapsed());
    assert_eq!(sleeper.read().unwrap(), Value::Simple(b"OK".to_vec()));
    // One that waits for a key is in none.
    call(&mut other, "CLIENT UNPAUSE");
    let mut blocked = server.client();
    send(&mut blocked, "BLPOP none 0");
    wait_for("it waits", || number(&mut admin, "clients", "blocked_clients") == 1);
    assert_eq!(call(&mut other, "CLIENT PAUSE 60000 ALL"), "+OK");
    // It goes without the pause, as CLIENT commands do.
    assert_eq!(call(&mut other, "CLIENT UNPAUSE"), "+OK");
    // In a transaction nobody waits.
    for line in ["MULTI", "CLIENT PAUSE 1 WRITE", "EXEC"] {
        call(&mut other, line);
    }
    // Nothing expires while writers are paused.
    assert_eq!(call(&mut other, "SET gone soon PX 1"), "+OK");
    wait_for("it expires", || number(&mut admin, "stats", "expired_keys") == 1);
    assert_eq!(call(&mut other, "SET gone soon PX 300"), "+OK");
    assert_eq!(call(&mut other, "CLIENT PAUSE 60000 WRITE"), "+OK");
    std::thread::sleep(Duration::from_millis(600));
    assert_eq!(call(&mut admin, "GET gone"), "(nil)");
    assert_eq!(number(&mut admin, "stats", "expired_keys"), 1);
    assert_eq!(call(&mut other, "CLIENT UNPAUSE"), "+OK");
    wait_for("it expires", || number(&mut admin, "stats", "expired_keys") == 2);
}

/// Sends an EXEC for a pool, and waits until it is there.
fn begin_exec(server: &Server, admin: &mut Client, lines: &[&str]) -> Client {
    let (mut client, before) = (server.client(), on_pools(admin));
    client.queue(&["MULTI"]);
    lines.iter().for_each(|line| client.queue(&words(line)));
    client.queue(&["EXEC"]);
    client.flush().unwrap();
    (0..=lines.len()).for_each(|_| drop(client.read().unwrap()));
    wait_for("the EXEC is on a pool", || on_pools(admin) > before);
    client
}

/// Service that rests until the end of a pause keeps nobody from his keys whom the next one to pause waits for.
#[test]
fn a_pause_waits_for_nothing_that_waits_for_its_end() {
    let server = Server::start("operations-pause-rest", &["--workers", "2", "--memory-budget", "256mb"]);
    let (mut admin, mut popper) = (server.client(), server.client());
    for round in 0..8 {
        send(&mut popper, "BLPOP q 0");
        wait_for("it waits", || number(&mut admin, "clients", "blocked_clients") == 1);
        // All three want the key, and have been admitted before anybody pauses.
        let mut first = begin_exec(&server, &mut admin, &["LLEN q", "SET a 1", "DEBUG SLEEP 0.3"]);
        let mut second = begin_exec(&server, &mut admin, &["RPUSH q 1", "CLIENT PAUSE 60000 WRITE"]);
        let mut third = begin_exec(&server, &mut admin, &["LLEN q", "SET b 1", "CLIENT GETNAME"]);
        assert_eq!(render(&first.read().unwrap()), "*[:0, +OK, +OK]");
        assert_eq!(render(&second.read().unwrap()), "*[:1, +OK]");
        assert_eq!(call(&mut admin, "CLIENT PAUSE 60000 WRITE"), "+OK", "round {round}");
        assert!(render(&third.read().unwrap()).contains("+OK"));
        assert_eq!(call(&mut admin, "CLIENT UNPAUSE"), "+OK");
        assert_eq!(render(&popper.read().unwrap()), "*[$q, $1]");
    }
}

#[test]
fn a_pause_of_everything_lets_only_its_end_through() {
    let server = Server::start("operations-pause-end", &["--memory-budget", "64mb"]);
    let (mut admin, mut lister, mut greeter) = (server.client(), server.client(), server.client());
    assert_eq!(call(&mut admin, "CLIENT PAUSE 60000 ALL"), "+OK");
    send(&mut lister, "CLIENT LIST ID 2 1 2");
    send(&mut greeter, "HELLO 3");
    assert_eq!(call(&mut admin, "CLIENT PAUSE 60000 ALL"), "+OK");
    std::thread::sleep(Duration::from_millis(100));
    assert!(!answered(&mut lister) && !answered(&mut greeter));
    assert_eq!(call(&mut admin, "CLIENT UNPAUSE"), "+OK");
    lister.read().unwrap();
    greeter.read().unwrap();
}

#[test]
fn small_words_of_clients() {
    let server = Server::start("operations-words", &["--memory-budget", "64mb"]);
    let (mut admin, mut watcher) = (server.client(), server.client());
    let ids: Vec<i64> = [&mut watcher, &mut admin].map(|client| client.integer(&["CLIENT", "ID"])).to_vec();
    let [first, second] = [ids[0].to_string(), ids[1].to_string()];
    let list = admin.text(&["CLIENT", "LIST", "ID", &second, &first, &second]);
    let listed: Vec<&str> = list.lines().filter_map(|line| line.split(' ').next()).collect();
    assert_eq!(listed, [format!("id={second}"), format!("id={first}"), format!("id={second}")]);
    let said = render(&admin.call(&["CLIENT", "SETINFO", "LIB-Name", "a b"]));
    assert_eq!(said, "-ERR LIB-Name cannot contain spaces, newlines or special characters.");
    assert_eq!(call(&mut admin, "LOLWUT VERSION 5 a"), "-ERR value is not an integer or out of range");
    assert_eq!(call(&mut admin, "REPLICAOF NO x"), "-ERR Invalid master port");
    call(&mut admin, "SET key value");
    assert!(call(&mut admin, "MEMORY STATS").contains("$db.0"));
    assert_eq!(call(&mut watcher, "MONITOR"), "+OK");
    for line in ["GET key", "SET key 1", "BLPOP key 1", "PUBLISH a b"] {
        let refused = call(&mut watcher, line);
        assert_eq!(refused, "-ERR Replica can\\'t interact with the keyspace", "{line}");
    }
}

#[test]
fn what_was_killed_commits_nothing_more() {
    let server = Server::start("operations-kill", &["--workers", "2", "--memory-budget", "256mb"]);
    let mut admin = server.client();
    fill(&mut admin, KEYS);
    let mut victim = server.client();
    let id = victim.integer(&["CLIENT", "ID"]);
    send(&mut victim, "PKPATTERNMATCHDEL key:*");
    wait_for("the command is on a pool", || on_pools(&mut admin) > 0 || answered(&mut victim));
    assert_eq!(call(&mut admin, &format!("CLIENT KILL ID {id}")), ":1");
    let size = call(&mut admin, "DBSIZE");
    std::thread::sleep(Duration::from_millis(100));
    assert_eq!(call(&mut admin, "DBSIZE"), size);
    assert!(victim.read_to_close().is_ok());
    assert!(!client_list(&mut admin).contains(&format!("id={id} ")));
    // One that writes as fast as it can: what is there when KILL answers is all there will be.
    for round in 0..20 {
        let mut victim = server.client();
        let id = victim.integer(&["CLIENT", "ID"]);
        let counter = format!("counter:{round}");
        for _ in 0..3000 {
            victim.queue(&["INCR", &counter]);
        }
        victim.flush().unwrap();
        assert_eq!(call(&mut admin, &format!("CLIENT KILL ID {id} SKIPME yes")), ":1");
        let counted = call(&mut admin, &format!("GET {counter}"));
        std::thread::sleep(Duration::from_millis(2));
        assert_eq!(call(&mut admin, &format!("GET {counter}")), counted);
    }
    // Two that kill each other, and one that kills itself.
    let (mut left, mut right) = (server.client(), server.client());
    let ids = [left.integer(&["CLIENT", "ID"]), right.integer(&["CLIENT", "ID"])];
    for client in [&left, &right] {
        client.set_patience(Duration::from_secs(2)).unwrap();
    }
    send(&mut left, &format!("CLIENT KILL ID {}", ids[1]));
    send(&mut right, &format!("CLIENT KILL ID {}", ids[0]));
    let (left, right) = (left.read_to_close(), right.read_to_close());
    assert!(left.is_ok() || right.is_ok());
    let id = admin.integer(&["CLIENT", "ID"]);
    assert_eq!(call(&mut admin, &format!("CLIENT KILL ID {id} SKIPME no")), ":1");
    assert_eq!(admin.read_to_close().unwrap(), b"");
}

fn client_list(client: &mut Client) -> String {
    client.text(&["CLIENT", "LIST"])
}

#[test]
fn kill_by_every_filter() {
    let server = Server::start("operations-filters", &["--workers", "2"]);
    let mut admin = server.client();
    let mut all: Vec<Client> = (0..4).map(|_| server.client()).collect();
    let ids: Vec<i64> = all.iter_mut().map(|client| client.integer(&["CLIENT", "ID"])).collect();
    let address = all[0].stream().local_addr().unwrap();
    let local = admin.stream().peer_addr().unwrap();
    call(&mut all[1], "SUBSCRIBE channel");
    for (line, answer) in [
        (format!("CLIENT KILL {address}"), "+OK".to_string()),
        (format!("CLIENT KILL {address}"), "-ERR No such client".into()),
        ("CLIENT KILL TYPE pubsub".into(), ":1".into()),
        ("CLIENT KILL TYPE nothing".into(), "-ERR Unknown client type \\'nothing\\'".into()),
        ("CLIENT KILL TYPE replica".into(), ":0".into()),
        (format!("CLIENT KILL ID {} USER default LADDR {local}", ids[2]), ":1".into()),
        ("CLIENT KILL MAXAGE 3600".into(), ":0".into()),
        ("CLIENT KILL MAXAGE 0".into(), "-ERR maxage should be greater than 0".into()),
        ("CLIENT KILL ID 0".into(), "-ERR client-id should be greater than 0".into()),
        ("CLIENT KILL SKIPME perhaps".into(), "-ERR syntax error".into()),
        ("CLIENT KILL ADDR 1.2.3.4:5 SKIPME no".into(), ":0".into()),
        (format!("CLIENT LIST ID {} {} 12345", ids[0], ids[3]), String::new()),
        (format!("CLIENT KILL LADDR {local}"), ":1".into()),
        ("CLIENT LIST TYPE pubsub".into(), "=txt:\"\"".into()),
    ] {
        let found = call(&mut admin, &line);
        assert!(found == answer || answer.is_empty() || found == "$\"\"", "{line}: {found}");
    }
    assert!(all.into_iter().all(|mut client| client.read_to_close().is_ok()));
    assert_eq!(client_list(&mut admin).lines().count(), 1);
}

/// Whoever has the pusher's answer knows that the waiter was served.
#[test]
fn unblock_behind_a_push_comes_too_late() {
    // Little memory and packed values of one element: service often needs a pool.
    let server = Server::start("operations-unblock", &["--workers", "2", "--memory-budget", "64mb"]);
    let (mut admin, mut client) = (server.client(), server.client());
    let id = client.integer(&["CLIENT", "ID"]);
    for round in 0..300 {
        send(&mut client, "BLPOP q 0");
        wait_for("it waits", || number(&mut admin, "clients", "blocked_clients") == 1);
        if round % 2 == 0 {
            admin.queue(&["RPUSH", "q", "taken"]);
            admin.queue(&["CLIENT", "UNBLOCK", &id.to_string()]);
            admin.flush().unwrap();
            assert_eq!(
                (admin.read().unwrap(), admin.read().unwrap()),
                (Value::Integer(1), Value::Integer(0))
            );
        } else {
            assert_eq!(call(&mut admin, "RPUSH q taken"), ":1");
            assert_eq!(call(&mut admin, &format!("CLIENT UNBLOCK {id} ERROR")), ":0");
        }
        assert_eq!(render(&client.read().unwrap()), "*[$q, $taken]");
    }
    // One that waits for the end of a pause waits for nothing that UNBLOCK could end.
    call(&mut admin, "CLIENT PAUSE 60000 WRITE");
    send(&mut client, "SET a b");
    wait_for("it waits", || number(&mut admin, "clients", "blocked_clients") == 1);
    assert_eq!(call(&mut admin, &format!("CLIENT UNBLOCK {id}")), ":0");
    call(&mut admin, "CLIENT UNPAUSE");
    assert_eq!(client.read().unwrap(), Value::Simple(b"OK".to_vec()));
}

/// With the gate closed, and while the database is opened again, whoever only asks is answered.
#[test]
fn info_and_its_kin_wait_for_nobody() {
    let server = Server::start("operations-info", &["--workers", "2", "--memory-budget", "256mb"]);
    let (mut admin, mut busy) = (server.client(), server.client());
    fill(&mut admin, KEYS);
    for long in ["exec", "reload"] {
        if long == "exec" {
            // FLUSHDB has all of it run with the gate closed.
            busy.queue(&["MULTI"]);
            (0..40).for_each(|_| busy.queue(&["KEYS", "*nothing*"]));
            busy.queue(&["FLUSHDB"]);
            busy.queue(&["EXEC"]);
        } else {
            (0..20).for_each(|_| busy.queue(&["DEBUG", "RELOAD"]));
        }
        busy.flush().unwrap();
        let replies = if long == "exec" { 43 } else { 20 };
        let mut asked_meanwhile = 0;
        let mut read = 0;
        while read < replies {
            let before = read;
            while answered(&mut busy) {
                let reply = busy.read().unwrap();
                assert!(!matches!(reply, Value::Error(_)), "{}", render(&reply));
                read += 1;
                if read == replies {
                    break;
                }
            }
            let start = Instant::now();
            for line in [
                "INFO everything",
                "CLIENT LIST",
                "CONFIG GET max*",
                "LATENCY LATEST",
                "SLOWLOG GET",
                "MEMORY STATS",
                "PING",
            ] {
                call(&mut admin, line);
            }
            assert!(start.elapsed() < Duration::from_secs(5), "{long}: {:?}", start.elapsed());
            let closed = number(&mut admin, "engine", "engine_commands_on_pools") > 0;
            asked_meanwhile += usize::from(closed && read == before);
        }
        assert!(asked_meanwhile > 0, "{long} was too quick for this test");
    }
    assert_eq!(call(&mut admin, "DBSIZE"), ":0");
}

#[test]
fn info_while_tables_are_written() {
    let server = Server::start("operations-flush", &["--workers", "1", "--memory-budget", "64mb"]);
    let (mut admin, mut writer) = (server.client(), server.client());
    let value = "v".repeat(4000);
    let (mut flushes, mut slowest) = (0, Duration::ZERO);
    for round in 0..60 {
        for key in 0..400 {
            writer.queue(&["SET", &format!("{round}:{key}"), &value]);
        }
        writer.flush().unwrap();
        let start = Instant::now();
        flushes = number(&mut admin, "engine", "engine_flushes");
        slowest = slowest.max(start.elapsed());
        for _ in 0..400 {
            writer.read().unwrap();
        }
    }
    assert!(flushes > 0 && slowest < Duration::from_secs(5), "{flushes} flushes, {slowest:?}");
    let engine = admin.text(&["INFO", "engine"]);
    let level = engine.lines().find(|line| line.starts_with("engine_keyspace_meta_level"));
    let level = level.unwrap_or_else(|| panic!("{engine}"));
    for part in ["files=", "bytes=", "score="] {
        assert!(level.contains(part), "{level}");
    }
    for name in [
        "compaction_debt_bytes",
        "write_delay_memtables_us",
        "write_delay_level0_us",
        "write_delay_debt_us",
        "running_compactions",
        "running_flushes",
        "cache_hits",
        "memtables",
        "write_amplification",
        "space_amplification",
        "oldest_snapshot_lsn",
        "oldest_snapshot_age_ms",
        "memory_memtables",
        "memory_block_cache",
        "memory_clients",
        "memory_other",
    ] {
        assert!(engine.contains(&format!("\r\nengine_{name}:")), "{name}");
    }
    let ratio: f64 = field(&mut admin, "engine", "engine_write_amplification").parse().unwrap();
    assert!(ratio > 1.0);
    let parts: u64 = ["memtables", "block_cache", "key_tables", "clients", "other"]
        .iter()
        .map(|part| number(&mut admin, "engine", &format!("engine_memory_{part}")))
        .sum();
    assert!(parts > 1 << 20);
}

#[test]
fn waitaof_does_not_wait_for_the_second_to_end() {
    let server = Server::start("operations-waitaof", &["--appendfsync", "everysec"]);
    let (mut client, mut admin) = (server.client(), server.client());
    let start = Instant::now();
    for round in 0..20 {
        client.queue(&["SET", "a", &round.to_string()]);
        client.queue(&["WAITAOF", "1", "0", "0"]);
        client.flush().unwrap();
        assert_eq!(render(&client.read().unwrap()), "+OK");
        assert_eq!(render(&client.read().unwrap()), "*[:1, :0]");
        assert!(number(&mut admin, "engine", "engine_synced_lsn") >= round);
    }
    assert!(start.elapsed() < Duration::from_secs(10), "{:?}", start.elapsed());
    // The write of another is none of its own; within a transaction nobody waits.
    assert_eq!(call(&mut admin, "WAITAOF 1 0 0"), "*[:1, :0]");
    assert_eq!(call(&mut client, "WAITAOF 1 1 20"), "*[:1, :0]");
    for (line, answer) in [
        ("WAITAOF 2 0 0", "-ERR value is out of range, value must between 0 and 1"),
        ("WAITAOF 0 -1 0", "-ERR value is out of range, must be positive"),
        ("WAITAOF 0 0 -1", "-ERR timeout is negative"),
        ("WAIT 0 0", ":0"),
        ("WAIT 1 20", ":0"),
        ("ROLE", "*[$master, "),
        ("FAILOVER", "-ERR FAILOVER requires connected replicas."),
        ("FAILOVER ABORT", "-ERR No failover in progress."),
        ("FAILOVER TO localhost 1 FORCE TIMEOUT 0", "-ERR FAILOVER timeout must be greater than 0"),
        ("FAILOVER NOW", "-ERR syntax error"),
    ] {
        let found = call(&mut client, line);
        assert!(found.starts_with(answer), "{line}: {found}");
    }
}

#[test]
fn the_largest_clients_go_when_all_take_too_much() {
    let server = Server::start("operations-memory", &["--workers", "2", "--maxmemory-clients", "3000000"]);
    let mut admin = server.client();
    call(&mut admin, "CLIENT NO-EVICT on");
    let memory = |admin: &mut Client, name: &str| -> Option<u64> {
        let list = client_list(admin);
        let line = list.lines().find(|line| line.contains(&format!(" name={name} ")))?;
        let value = line.split(' ').find_map(|word| word.strip_prefix("tot-mem="))?;
        Some(value.parse().unwrap())
    };
    let named = |name: &str| {
        let mut client = server.client();
        call(&mut client, &format!("CLIENT SETNAME {name}"));
        client
    };
    // Half of a large request.
    let part = |client: &mut Client, bytes: usize| {
        client.send_raw(format!("*2\r\n${bytes}\r\n").as_bytes())?;
        client.send_raw(&vec![b'v'; bytes])
    };
    let (mut small, mut middle) = (named("small"), named("middle"));
    part(&mut small, 200_000).unwrap();
    part(&mut middle, 600_000).unwrap();
    wait_for("they are read", || {
        memory(&mut admin, "small") > Some(200_000) && memory(&mut admin, "middle") > Some(600_000)
    });
    let mut large = named("large");
    // It may be closed before all is sent.
    let _ = part(&mut large, 2_500_000);
    wait_for("the largest is closed", || memory(&mut admin, "large").is_none());
    assert!(memory(&mut admin, "small").is_some() && memory(&mut admin, "middle").is_some());
    assert_eq!(number(&mut admin, "stats", "evicted_clients"), 1);
    // At once when the limit falls, and no more than must.
    call(&mut admin, "CONFIG SET maxmemory-clients 500000");
    assert!(memory(&mut admin, "middle").is_none() && memory(&mut admin, "small").is_some());
    assert_eq!(number(&mut admin, "stats", "evicted_clients"), 2);
    // Those who shall stay stay.
    let mut kept = named("kept");
    assert_eq!(call(&mut kept, "CLIENT NO-EVICT on"), "+OK");
    part(&mut kept, 800_000).unwrap();
    wait_for("it is read", || memory(&mut admin, "kept") > Some(800_000));
    wait_for("the other is closed", || memory(&mut admin, "small").is_none());
    drop(kept);
    wait_for("it has gone", || memory(&mut admin, "kept").is_none());
    // Queues, keys watched and channels count; a percentage is one of maxmemory.
    call(&mut admin, "CONFIG SET maxmemory 4gb maxmemory-clients 1%");
    call(&mut admin, "CONFIG SET maxmemory 0");
    let mut free = named("free");
    part(&mut free, 5_000_000).unwrap();
    wait_for("no limit is no limit", || memory(&mut admin, "free") > Some(5_000_000));
    drop(free);
    call(&mut admin, "CONFIG SET maxmemory-clients 200000");
    for what in ["WATCH", "SUBSCRIBE", "PSUBSCRIBE", "SSUBSCRIBE", "CLIENT TRACKING on BCAST PREFIX", "MULTI"]
    {
        let mut client = named("holder");
        if what == "MULTI" {
            call(&mut client, "MULTI");
        }
        let closed = (0..20_000).find(|number| {
            let line = if what == "MULTI" { "SET k v".to_string() } else { format!("{what} {number:012}") };
            client.try_call(&words(&line)).is_err()
        });
        assert!(closed.is_some_and(|number| number > 100), "{what}: {closed:?}");
    }
    assert_eq!(call(&mut admin, "CONFIG SET maxmemory-clients 101%"), {
        let why = "percentage argument must be less or equal to 100";
        format!("-ERR CONFIG SET failed (possibly related to argument \\'maxmemory-clients\\') - {why}")
    });
    call(&mut admin, "CONFIG RESETSTAT");
    assert_eq!(number(&mut admin, "stats", "evicted_clients"), 0);
}

#[test]
fn what_takes_long_is_remembered() {
    let server = Server::start("operations-latency", &["--workers", "2"]);
    let mut client = server.client();
    call(&mut client, "DEBUG SLEEP 0.05");
    assert_eq!(call(&mut client, "LATENCY LATEST"), "*[]");
    assert!(call(&mut client, "LATENCY DOCTOR").contains("latency-monitor-threshold is 0"));
    call(&mut client, "CONFIG SET latency-monitor-threshold 20");
    assert!(call(&mut client, "LATENCY DOCTOR").contains("All is well"));
    call(&mut client, "DEBUG SLEEP 0.06");
    call(&mut client, "DEBUG SLEEP 0.03");
    let Value::Array(latest) = client.call(&["LATENCY", "LATEST"]) else { panic!() };
    let event = latest.iter().find_map(|event| match event {
        Value::Array(parts) if parts[0] == Value::Bulk(b"command".to_vec()) => Some(parts.clone()),
        _ => None,
    });
    let Some([_, Value::Integer(time), Value::Integer(last), Value::Integer(max)]) = event.as_deref() else {
        panic!("{latest:?}")
    };
    assert!(*time > 1_600_000_000 && *last >= 30 && *max >= 60 && max >= last);
    let Value::Array(history) = client.call(&["LATENCY", "HISTORY", "Command"]) else { panic!() };
    assert!((1..=2).contains(&history.len()));
    assert_eq!(call(&mut client, "LATENCY HISTORY nothing"), "*[]");
    let graph = client.text(&["LATENCY", "GRAPH", "command"]);
    assert!(graph.starts_with("command - high "), "{graph}");
    let error = "-ERR No samples available for event \\'nothing\\'";
    assert_eq!(call(&mut client, "LATENCY GRAPH nothing"), error);
    assert!(client.text(&["LATENCY", "DOCTOR"]).contains("1. command: "));
    // The search for what has expired: fields that are due in the same millisecond are removed in one turn, or two.
    call(&mut client, "CONFIG SET latency-monitor-threshold 1");
    let fields: Vec<String> = (0..500).map(|field| format!("f{field} v")).collect();
    let names: Vec<String> = (0..500).map(|field| format!("f{field}")).collect();
    for key in 0..100 {
        assert_eq!(call(&mut client, &format!("HSET e:{key} {}", fields.join(" "))), ":500");
    }
    let Value::Array(now) = client.call(&["TIME"]) else { panic!() };
    let Value::Bulk(now) = &now[0] else { panic!() };
    let due_s = std::str::from_utf8(now).unwrap().parse::<u64>().unwrap() + 3;
    for key in 0..100 {
        let answer = call(&mut client, &format!("HEXPIREAT e:{key} {due_s} FIELDS 500 {}", names.join(" ")));
        assert!(answer.starts_with("*[:1,") || answer.starts_with("*[:2,"), "{answer}");
    }
    wait_for("all are gone", || call(&mut client, "DBSIZE") == ":0");
    // The turn that removed the last is noted once it has ended.
    wait_for("it was noted", || call(&mut client, "LATENCY LATEST").contains("expire-cycle"));
    assert!(client.integer(&["LATENCY", "RESET", "command", "nothing"]) <= 1);
    assert!(client.integer(&["LATENCY", "RESET"]) >= 1);
}

#[test]
fn compact_gives_space_back() {
    let server = Server::start("operations-compact", &["--memory-budget", "64mb"]);
    let mut client = server.client();
    let value = "v".repeat(1000);
    for db in ["0", "1"] {
        call(&mut client, &format!("SELECT {db}"));
        for key in 0..20_000 {
            client.queue(&["SET", &format!("{key}"), &value]);
        }
        client.flush().unwrap();
        (0..20_000).for_each(|_| drop(client.read().unwrap()));
    }
    let finished = |client: &mut Client, count: u64| {
        wait_for("the compaction ends", || number(client, "engine", "compact_finished") == count);
        assert_eq!(field(client, "engine", "compact_last_status"), "ok");
        assert_eq!(field(client, "engine", "compact_in_progress"), "0");
    };
    assert_eq!(call(&mut client, "COMPACT"), "+OK");
    finished(&mut client, 1);
    let full = number(&mut client, "engine", "engine_table_bytes");
    for key in 0..20_000 {
        client.queue(&["DEL", &format!("{key}")]);
    }
    client.flush().unwrap();
    (0..20_000).for_each(|_| drop(client.read().unwrap()));
    assert_eq!(call(&mut client, "COMPACT db 1"), "+OK");
    finished(&mut client, 2);
    let half = number(&mut client, "engine", "engine_table_bytes");
    assert!(half < full / 10 * 7, "{full} {half}");
    assert_eq!(call(&mut client, "DBSIZE"), ":0");
    assert_eq!(call(&mut client, "SELECT 0"), "+OK");
    assert_eq!(client.scan_all().len(), 20_000);
    for (line, answer) in [
        ("COMPACT DB 16", "-ERR DB index is out of range"),
        ("COMPACT DB x", "-ERR value is not an integer or out of range"),
        ("COMPACT everything", "-ERR syntax error"),
    ] {
        assert_eq!(call(&mut client, line), answer);
    }
    // What is asked for twice is done once; a server that ends does not wait for it.
    (0..5).for_each(|_| assert_eq!(call(&mut client, "COMPACT"), "+OK"));
    let mut server = server;
    let start = Instant::now();
    server.terminate();
    assert!(server.wait_exit().success());
    assert!(start.elapsed() < Duration::from_secs(20));
}

#[test]
fn config_changes_as_a_whole_or_not_at_all() {
    let server = Server::start("operations-config", &[]);
    let mut client = server.client();
    let get = |client: &mut Client| call(client, "CONFIG GET maxclients timeout slowlog-max-len");
    let before = get(&mut client);
    assert_eq!(
        call(&mut client, "CONFIG SET timeout 7 slowlog-max-len 9 maxclients none"),
        "-ERR CONFIG SET failed (possibly related to argument \\'maxclients\\') - argument couldn\\'t be parsed into an integer"
    );
    assert_eq!(
        call(&mut client, "CONFIG SET timeout 7 nonsense 9"),
        "-ERR Unknown option or number of arguments for CONFIG SET - \\'nonsense\\'"
    );
    assert_eq!(get(&mut client), before);
    assert_eq!(call(&mut client, "CONFIG SET timeout 7 slowlog-max-len 9"), "+OK");
    assert_ne!(get(&mut client), before);
    // Many at once, some of them on a pool: each is obeyed.
    std::thread::scope(|scope| {
        for number in 0..8 {
            let mut client = server.client();
            scope.spawn(move || {
                for _ in 0..20 {
                    let line =
                        if number % 2 == 0 { "timeout 8" } else { "maxclients 100 tls-ca-cert-dir /tmp" };
                    assert_eq!(call(&mut client, &format!("CONFIG SET {line}")), "+OK");
                }
            });
        }
    });
    assert_eq!(call(&mut client, "CONFIG SET maxclients 100"), "+OK");
    let Value::Array(found) = client.call(&["CONFIG", "GET", "slowlog-max-len", "SLOWLOG*", "hash*"]) else {
        panic!()
    };
    assert!(found.len() >= 12 && found.len() % 2 == 0);
}

#[test]
fn the_time_for_the_end_can_be_changed() {
    let mut server = Server::start("operations-timeout", &["--shutdown-timeout", "600"]);
    let mut client = server.client();
    client.call(&[b"SET".as_slice(), b"big", &vec![b'x'; 32 << 20]]);
    let mut slow = server.client();
    send(&mut slow, "GET big");
    slow.stream().peek(&mut [0]).unwrap();
    assert_eq!(call(&mut client, "CONFIG SET shutdown-timeout 1"), "+OK");
    let start = Instant::now();
    server.terminate();
    assert!(server.wait_exit().success());
    assert!(start.elapsed() < Duration::from_secs(30), "{:?}", start.elapsed());
}

#[test]
fn a_rewritten_file_keeps_what_people_wrote() {
    let folder = support::folder::Folder::new("operations-rewrite");
    let file = folder.path().join("haypile.conf");
    let written = "# mine\nmaxclients 100\n\n# and this\ntimeout 5\nslowlog-max-len 3 \n# last\n";
    std::fs::write(&file, written).unwrap();
    let server = Server::start_with_file("operations-rewrite", &file, &["--timeout", "6"]);
    let mut client = server.client();
    assert_eq!(call(&mut client, "CONFIG SET maxclients 200 latency-monitor-threshold 5"), "+OK");
    assert_eq!(call(&mut client, "CONFIG REWRITE"), "+OK");
    let found = std::fs::read_to_string(&file).unwrap();
    let lines: Vec<&str> = found.lines().map(str::trim_end).collect();
    for line in ["# mine", "maxclients 200", "# and this", "timeout 6", "slowlog-max-len 3", "# last"] {
        assert!(lines.contains(&line), "{line}: {found}");
    }
    let place = |line: &str| lines.iter().position(|own| *own == line);
    assert!(place("# mine") < place("maxclients 200") && place("maxclients 200") < place("# and this"));
    assert!(place("# last") < place("latency-monitor-threshold 5"), "{found}");
    // Two at once do not meet, and nobody else may read the passwords from then on.
    use std::os::unix::fs::PermissionsExt as _;
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600)).unwrap();
    let mut others: Vec<Client> = (0..8).map(|_| server.client()).collect();
    others.iter_mut().for_each(|other| send(other, "CONFIG REWRITE"));
    for other in &mut others {
        assert_eq!(render(&other.read().unwrap()), "+OK");
    }
    assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    // Again: nothing more changes.
    assert_eq!(call(&mut client, "CONFIG REWRITE"), "+OK");
    assert_eq!(std::fs::read_to_string(&file).unwrap(), found);
}

#[test]
fn saves_and_memory_are_told_of() {
    let server = Server::start("operations-save", &["--memory-budget", "64mb"]);
    let mut client = server.client();
    call(&mut client, "SET a b");
    let before = client.integer(&["LASTSAVE"]);
    assert!(number(&mut client, "persistence", "rdb_changes_since_last_save") > 0);
    std::thread::sleep(Duration::from_millis(1100));
    assert_eq!(call(&mut client, "BGSAVE"), "+Background saving started");
    wait_for("it is saved", || field(&mut client, "persistence", "rdb_bgsave_in_progress") == "0");
    assert!(client.integer(&["LASTSAVE"]) > before);
    assert_eq!(field(&mut client, "persistence", "rdb_last_bgsave_status"), "ok");
    assert_eq!(number(&mut client, "persistence", "rdb_changes_since_last_save"), 0);
    let Value::Array(stats) = client.call(&["MEMORY", "STATS"]) else { panic!() };
    let stat = |name: &str| {
        let at = stats
            .iter()
            .position(|stat| *stat == Value::Bulk(name.into()))
            .unwrap_or_else(|| panic!("{name}"));
        match stats[at + 1] {
            Value::Integer(number) => number,
            ref other => panic!("{name}: {}", render(other)),
        }
    };
    assert_eq!(stat("keys.count"), 1);
    assert!(stat("total.allocated") > 1 << 20 && stat("startup.allocated") > 1 << 20);
    assert!(stat("peak.allocated") >= stat("startup.allocated"));
    assert_eq!(stat("dataset.bytes") + stat("overhead.total"), stat("total.allocated"));
    assert!(stat("clients.normal") > 0);
    assert!(client.text(&["MEMORY", "DOCTOR"]).contains("All is well"));
    assert!(client.text(&["MEMORY", "MALLOC-STATS"]).contains("memtables"));
    assert_eq!(call(&mut client, "MEMORY PURGE"), "+OK");
    assert!(client.integer(&["MEMORY", "USAGE", "a"]) > 30);
}

#[test]
fn signals_are_heard_while_the_last_checkpoint_is_made() {
    let mut server = Server::start("operations-signals", &["--shutdown-on-sigint", "save"]);
    // What an interrupted checkpoint left behind takes a while to be removed.
    let left = server.data_folder().join("checkpoint.new");
    std::fs::create_dir(&left).unwrap();
    for number in 0..60_000 {
        std::fs::File::create(left.join(number.to_string())).unwrap();
    }
    server.signal(Signal::INT);
    wait_for("it is heard", || server.log_tail().contains("Received SIGINT"));
    server.signal(Signal::INT);
    assert_eq!(server.wait_exit().code(), Some(1));
    let log = server.log_tail();
    assert!(log.contains("twice") && !log.contains("Checkpoint saved"), "{log}");
    assert!(left.exists());
    server.restart();
    server.signal(Signal::INT);
    assert_eq!(server.wait_exit().code(), Some(0));
    assert!(server.log_tail().contains("Checkpoint saved"));
}
