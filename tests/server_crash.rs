//! A real process is killed at random moments under load; what was acknowledged is found again.
//!
//! Several connections load with pipelining, each a database of its own, so that what a restart finds must be the state
//! after some prefix of its commands (see `server_crash/model.rs`): nothing acknowledged is lost, nothing invented, a
//! deletion stays, MSET is whole, a transaction is whole, times to live are exact. Beside them, several connections write the same keys: groups by
//! MSET that must be of one version, and a counter whose replies order all of them; a reader notes what anybody could see.
//! Short-lived keys are gone when their time is over, also across the crash. After each restart DBSIZE equals a scan.
//!
//! | variable | what |
//! |---|---|
//! | `HAYPILE_CRASH_ROUNDS` | kills per appendfsync (hundreds, for a night) |
//! | `HAYPILE_CRASH_SEED` | the seed; the moments of the kills are the machine's |
//! | `HAYPILE_BIN` | another server, as in every test from outside |
#![expect(
    clippy::disallowed_methods,
    reason = "a test outside the server reads clocks and files as any program"
)]

#[expect(dead_code, reason = "each test binary takes its part of what they share")]
mod support;

#[path = "server_crash/model.rs"]
mod model;

use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use haypile_resp::Value;

use model::{Entry, Model, State};
use support::client::{Client, bulk, render};
use support::program::{Family, Program};
use support::random::{Random, count_from, seed_from};
use support::server::{Server, wait_for};

/// Connections with a database of their own: databases 0 to 2.
const OWNERS: usize = 3;
/// The database that several connections write.
const SHARED: usize = 9;
/// The database of short-lived keys.
const SHORT_LIVED: usize = 10;
const GROUPS: u64 = 8;
const GROUP_KEYS: u64 = 5;

#[test]
fn kill_9_loses_nothing_acknowledged_under_everysec() {
    rounds("everysec", 1);
}

#[test]
fn kill_9_loses_nothing_acknowledged_under_always() {
    rounds("always", 2);
}

fn rounds(appendfsync: &str, salt: u64) {
    let seed = seed_from("HAYPILE_CRASH_SEED").wrapping_add(salt);
    let rounds = count_from("HAYPILE_CRASH_ROUNDS", 10);
    eprintln!("HAYPILE_CRASH_SEED={} (appendfsync {appendfsync}, {rounds} rounds)", seed.wrapping_sub(salt));
    let mut random = Random::new(seed);
    // Redis itself lets answers leave before the log is written while a sync is under way, so it loses some at kill -9;
    // in the place of ours, as the control of this test, it runs without syncs.
    let control = Program::under_test().family == Family::Redis && appendfsync == "everysec";
    let appendfsync = if control { "no" } else { appendfsync };
    // Little memory, so that flushes and compactions are among what is killed.
    let flags = ["--appendfsync", appendfsync, "--memory-budget", "64mb"];
    let mut server = Server::start(&format!("crash-{appendfsync}"), &flags);
    let mut owners: Vec<Model> = (0..OWNERS).map(|_| Model::new(random.next())).collect();
    let shared = Arc::new(Shared::default());
    let short_lived = Arc::new(Mutex::new(Vec::new()));
    for round in 0..rounds {
        let load = Duration::from_millis(20 + random.below(780));
        let commands = load_and_kill(&mut server, &mut owners, &shared, &short_lived, load, &mut random);
        server.restart();
        eprintln!("round {round}: killed after {} ms and {commands} acknowledged commands", load.as_millis());
        check_owners(&server, &mut owners, round);
        check_shared(&server, &shared, round);
        check_short_lived(&server, &short_lived, round);
        check_counts(&server);
    }
}

/// What the connections that write the same keys know together.
#[derive(Default)]
struct Shared {
    /// The highest reply to INCR that anybody got, or value that anybody read.
    counter_seen: AtomicU64,
    /// How many INCR were ever sent.
    counter_sent: AtomicU64,
    /// The last version of a group that was sent.
    version_sent: AtomicU64,
    /// For each group the versions acknowledged or read since the last crash, with the versions then already sent.
    groups: Mutex<Vec<GroupSeen>>,
}

/// A version of a group that is known to have been there.
struct GroupSeen {
    group: u64,
    version: u64,
}

/// Keys with a short life: name, when it ends (ms), whether that was acknowledged.
type ShortLived = Arc<Mutex<Vec<(String, u64, bool)>>>;

fn load_and_kill(
    server: &mut Server,
    owners: &mut Vec<Model>,
    shared: &Arc<Shared>,
    short_lived: &ShortLived,
    load: Duration,
    random: &mut Random,
) -> u64 {
    let stop = Arc::new(AtomicBool::new(false));
    let address = server.address();
    let mut loaders = Vec::new();
    for (database, mut model) in owners.drain(..).enumerate() {
        loaders.push(std::thread::spawn(move || {
            let count = own_load(address, database, &mut model);
            (model, count)
        }));
    }
    let mut others = Vec::new();
    for _ in 0..2 {
        let (shared, seed) = (Arc::clone(shared), random.next());
        others.push(std::thread::spawn(move || shared_load(address, &shared, seed)));
    }
    let (reader_shared, reader_stop) = (Arc::clone(shared), Arc::clone(&stop));
    others.push(std::thread::spawn(move || shared_read(address, &reader_shared, &reader_stop)));
    let (list, seed) = (Arc::clone(short_lived), random.next());
    others.push(std::thread::spawn(move || short_load(address, &list, seed)));
    std::thread::sleep(load);
    server.kill();
    // Relaxed: only ends a loop; the joins below order everything else.
    stop.store(true, Ordering::Relaxed);
    let mut commands = 0;
    for loader in loaders {
        let (model, count) = loader.join().expect("a loader");
        owners.push(model);
        commands += count;
    }
    for other in others {
        other.join().expect("a loader");
    }
    commands
}

fn own_load(address: std::net::SocketAddr, database: usize, model: &mut Model) -> u64 {
    let mut acknowledged = 0;
    let mut run = || -> io::Result<()> {
        let mut client = Client::connect(address)?;
        client.try_call(&["SELECT", &database.to_string()])?;
        loop {
            let count = model.pipeline();
            let mut replies = Vec::with_capacity(count);
            for _ in 0..count {
                let commands = model.send();
                commands.iter().for_each(|command| client.queue(command));
                replies.push(commands.len());
            }
            client.flush()?;
            for replies in replies {
                for _ in 0..replies {
                    acceptable(&client.read()?);
                }
                model.acknowledge(1);
                acknowledged += 1;
            }
        }
    };
    ended(run());
    acknowledged
}

/// The load draws commands that may fail in two ways only.
fn acceptable(reply: &Value) {
    const MEANT: [&[u8]; 2] = [b"ERR no such key", b"ERR source and destination objects are the same"];
    if let Value::Array(replies) = reply {
        replies.iter().for_each(acceptable);
    }
    if let Value::Error(text) = reply {
        assert!(MEANT.contains(&text.as_slice()), "an error under load: {}", render(reply));
    }
}

/// A connection ends because the server was killed, and for no other reason.
fn ended(result: io::Result<()>) {
    let error = result.expect_err("the load ends with the server");
    let killed = [
        io::ErrorKind::UnexpectedEof,
        io::ErrorKind::ConnectionReset,
        io::ErrorKind::BrokenPipe,
        io::ErrorKind::ConnectionRefused,
    ];
    assert!(killed.contains(&error.kind()), "the load ended with: {error}");
}

fn group_key(group: u64, number: u64) -> String {
    format!("group:{group}:{number}")
}

fn shared_load(address: std::net::SocketAddr, shared: &Shared, seed: u64) {
    let mut random = Random::new(seed);
    let mut run = || -> io::Result<()> {
        let mut client = Client::connect(address)?;
        client.try_call(&["SELECT", &SHARED.to_string()])?;
        loop {
            let mut sent = Vec::new();
            for _ in 0..1 + random.below(8) {
                let group = random.below(GROUPS);
                // Relaxed here and below: plain counters, read after the threads are joined.
                let version = shared.version_sent.fetch_add(1, Ordering::Relaxed) + 1;
                let mut command = vec!["MSET".to_string()];
                for number in 0..GROUP_KEYS {
                    command.extend([group_key(group, number), version.to_string()]);
                }
                client.queue(&command);
                shared.counter_sent.fetch_add(1, Ordering::Relaxed);
                client.queue(&["INCR", "counter"]);
                sent.push(GroupSeen { group, version });
            }
            client.flush()?;
            for seen in sent {
                acceptable(&client.read()?);
                shared.groups.lock().expect("groups").push(seen);
                let Value::Integer(count) = client.read()? else { panic!("INCR without a number") };
                shared.counter_seen.fetch_max(count as u64, Ordering::Relaxed);
            }
        }
    };
    ended(run());
}

/// Reads what the others write. What it saw must not be taken back.
fn shared_read(address: std::net::SocketAddr, shared: &Shared, stop: &AtomicBool) {
    let run = || -> io::Result<()> {
        let mut client = Client::connect(address)?;
        client.try_call(&["SELECT", &SHARED.to_string()])?;
        while !stop.load(Ordering::Relaxed) {
            for group in 0..GROUPS {
                let mut command = vec!["MGET".to_string()];
                command.extend((0..GROUP_KEYS).map(|number| group_key(group, number)));
                if let Some(version) = one_version(&client.try_call(&command)?) {
                    shared.groups.lock().expect("groups").push(GroupSeen { group, version });
                }
            }
            if let Value::Bulk(text) = client.try_call(&["GET", "counter"])? {
                shared.counter_seen.fetch_max(number(&text), Ordering::Relaxed);
            }
        }
        Err(io::ErrorKind::UnexpectedEof.into())
    };
    ended(run());
}

fn number(text: &[u8]) -> u64 {
    String::from_utf8_lossy(text).parse().unwrap_or_else(|_| panic!("a number, not {}", text.escape_ascii()))
}

/// The version of a group, all of whose members have the same.
fn one_version(reply: &Value) -> Option<u64> {
    let Value::Array(members) = reply else { panic!("MGET: {}", render(reply)) };
    let versions: Vec<Option<u64>> = members.iter().map(|member| bulk(member).map(number)).collect();
    assert!(versions.iter().all(|version| *version == versions[0]), "an MSET is torn: {versions:?}");
    versions[0]
}

/// Keys that live a moment: some end before the restart, some after.
fn short_load(address: std::net::SocketAddr, list: &Mutex<Vec<(String, u64, bool)>>, seed: u64) {
    let mut random = Random::new(seed);
    let mut run = || -> io::Result<()> {
        let mut client = Client::connect(address)?;
        client.try_call(&["SELECT", &SHORT_LIVED.to_string()])?;
        loop {
            let key = format!("short:{seed}:{}", random.next());
            let expires_ms = now_ms() + 20 + random.below(1500);
            list.lock().expect("list").push((key.clone(), expires_ms, false));
            let reply = client.try_call(&["SET", &key, "x", "PXAT", &expires_ms.to_string()])?;
            assert_eq!(reply, Value::Simple(b"OK".to_vec()));
            list.lock().expect("list").last_mut().expect("just pushed").2 = true;
            std::thread::sleep(Duration::from_millis(2));
        }
    };
    ended(run());
}

fn now_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_millis() as u64
}

fn check_owners(server: &Server, owners: &mut [Model], round: u64) {
    for (database, model) in owners.iter_mut().enumerate() {
        let found = read_state(server, database);
        if let Err(wrong) = model.recover(&found) {
            panic!("round {round}, database {database}: {wrong}");
        }
    }
}

fn read_state(server: &Server, database: usize) -> State {
    let mut client = server.client();
    client.call(&["SELECT", &database.to_string()]);
    let keys = client.scan_all();
    let mut state = State::new();
    for batch in keys.chunks(50) {
        for key in batch {
            client.queue(&[b"GET".as_slice(), key]);
            client.queue(&[b"PEXPIRETIME".as_slice(), key]);
        }
        client.flush().expect("send");
        for key in batch {
            let value = client.read().expect("GET");
            let Value::Bulk(value) = value else {
                panic!("SCAN found {}, GET answers {}", key.escape_ascii(), render(&value))
            };
            let expires_ms = match client.read().expect("PEXPIRETIME") {
                Value::Integer(-1) => None,
                Value::Integer(moment) if moment > 0 => Some(moment as u64),
                other => panic!("PEXPIRETIME {}: {}", key.escape_ascii(), render(&other)),
            };
            state.insert(key.clone(), Entry { value, expires_ms });
        }
    }
    state
}

fn check_shared(server: &Server, shared: &Shared, round: u64) {
    let mut client = server.client();
    client.call(&["SELECT", &SHARED.to_string()]);
    let found = match client.call(&["GET", "counter"]) {
        Value::Bulk(text) => number(&text),
        _ => 0,
    };
    let seen = shared.counter_seen.load(Ordering::Relaxed);
    let sent = shared.counter_sent.load(Ordering::Relaxed);
    assert!(found >= seen, "round {round}: the counter is {found}, and {seen} was seen");
    assert!(found <= sent, "round {round}: the counter is {found}, and INCR was sent {sent} times");
    // Each INCR not found cannot be found later; the next round counts from here.
    shared.counter_sent.store(found, Ordering::Relaxed);
    let sent = shared.version_sent.load(Ordering::Relaxed);
    let seen = std::mem::take(&mut *shared.groups.lock().expect("groups"));
    for group in 0..GROUPS {
        let mut command = vec!["MGET".to_string()];
        command.extend((0..GROUP_KEYS).map(|number| group_key(group, number)));
        let version = one_version(&client.call(&command));
        assert!(version.is_none_or(|version| version <= sent), "round {round}: a version nobody sent");
        // Two connections write a group in an order nobody knows, so only its being there is sure.
        let known = seen.iter().filter(|one| one.group == group).map(|one| one.version).max();
        assert!(
            known.is_none() || version.is_some(),
            "round {round}: group {group} is lost, {known:?} was seen"
        );
        if let Some(version) = version {
            shared.groups.lock().expect("groups").push(GroupSeen { group, version });
        }
    }
}

fn check_short_lived(server: &Server, list: &Mutex<Vec<(String, u64, bool)>>, round: u64) {
    let mut client = server.client();
    client.call(&["SELECT", &SHORT_LIVED.to_string()]);
    let mut list = list.lock().expect("list");
    for (key, expires_ms, acknowledged) in list.iter() {
        let before = now_ms();
        let answer = client.integer(&["PEXPIRETIME", key]);
        let after = now_ms();
        let there = answer != -2;
        assert!(
            !there || answer == *expires_ms as i64,
            "round {round}: {key} expires at {answer}, not {expires_ms}"
        );
        assert!(
            !there || before <= *expires_ms,
            "round {round}: {key} is there {} ms too long",
            before - expires_ms
        );
        let must_be_there = *acknowledged && after < *expires_ms;
        assert!(
            there || !must_be_there,
            "round {round}: {key} is lost {} ms before its time",
            expires_ms - after
        );
    }
    list.clear();
}

/// Once nothing waits to expire, DBSIZE is what a scan counts, in every database.
fn check_counts(server: &Server) {
    let mut client = server.client();
    for database in 0..16 {
        client.call(&["SELECT", &database.to_string()]);
        let mut counts = (0, 0);
        let deadline = Instant::now() + Duration::from_secs(30);
        wait_for("DBSIZE to equal a scan", || {
            counts = (client.integer(&["DBSIZE"]), client.scan_all().len() as i64);
            assert!(
                counts.0 == counts.1 || Instant::now() < deadline,
                "database {database}: DBSIZE {}, and a scan finds {}",
                counts.0,
                counts.1
            );
            counts.0 == counts.1
        });
    }
}

#[test]
fn sigterm_under_load_stops_cleanly_and_keeps_everything() {
    clean_stop("sigterm", Server::terminate);
}

#[test]
fn shutdown_under_load_stops_cleanly_and_keeps_everything() {
    clean_stop("shutdown", |server| {
        let mut client = server.client();
        client.queue(&["SHUTDOWN"]);
        client.flush().expect("send SHUTDOWN");
        let rest = client.read_to_close();
        assert!(rest.as_ref().is_ok_and(Vec::is_empty), "SHUTDOWN answers nothing and closes: {rest:?}");
    });
}

fn clean_stop(name: &str, stop: impl FnOnce(&Server)) {
    let seed = seed_from("HAYPILE_CRASH_SEED");
    eprintln!("HAYPILE_CRASH_SEED={seed} ({name})");
    let flags = ["--appendfsync", "everysec", "--memory-budget", "64mb"];
    let mut server = Server::start(&format!("stop-{name}"), &flags);
    let address = server.address();
    let mut loaders = Vec::new();
    for database in 0..OWNERS {
        loaders.push(std::thread::spawn(move || {
            let mut model = Model::new(seed.wrapping_add(database as u64));
            own_load(address, database, &mut model);
            model
        }));
    }
    let mut client = server.client();
    client.call(&["SELECT", &SHARED.to_string()]);
    client.call(&["SET", "here", "before"]);
    std::thread::sleep(Duration::from_millis(400));
    stop(&server);
    let status = server.wait_exit();
    assert_eq!(status.code(), Some(0), "a clean stop exits with 0\n{}", server.log_tail());
    let mut owners: Vec<Model> = loaders.into_iter().map(|loader| loader.join().expect("a loader")).collect();
    server.restart();
    check_owners(&server, &mut owners, 0);
    let mut client = server.client();
    client.call(&["SELECT", &SHARED.to_string()]);
    assert_eq!(client.text(&["GET", "here"]), "before");
    check_counts(&server);
    // Stopped idle, and found the same again.
    server.terminate();
    assert_eq!(server.wait_exit().code(), Some(0), "{}", server.log_tail());
    server.restart();
    check_owners(&server, &mut owners, 1);
    check_counts(&server);
}
