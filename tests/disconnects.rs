//! Whatever state a client is in when it goes, nothing of it stays.
//!
//! Many threads connect, get into some state (half a MULTI, watching, blocked, subscribed, monitoring, half a command sent, a slow command
//! on a pool, a huge reply half read, waiting for memory, ..) and vanish, while others write to the same keys, kill and unblock. When all are gone, everything
//! that DEBUG HELD, INFO and CLIENT LIST count is what it was before, and every key can be written at once.
//!
//! `HAYPILE_DISCONNECTS_MS` prolongs it, `HAYPILE_DISCONNECTS_SEED` repeats its draws (when things happen is the machine's).
#![expect(
    clippy::disallowed_methods,
    reason = "a test outside the server reads clocks and starts threads as any program"
)]

#[expect(dead_code, reason = "each test binary takes its part of what they share")]
mod support;

use std::collections::BTreeMap;
use std::io;
use std::net::{Shutdown, SocketAddr};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use haypile_resp::Value;
use support::client::{Client, render};
use support::random::{Random, count_from, seed_from};
use support::server::{Server, wait_for};

const THREADS: usize = 12;
const KEYS: u64 = 4;
/// How many states there are.
const STATES: usize = 26;

#[test]
fn nothing_stays_of_clients_that_vanish_from_one_worker() {
    storm("1", 1);
}

#[test]
fn nothing_stays_of_clients_that_vanish_from_three_workers() {
    storm("3", 2);
}

fn storm(workers: &str, salt: u64) {
    let seed = seed_from("HAYPILE_DISCONNECTS_SEED");
    let length = Duration::from_millis(count_from("HAYPILE_DISCONNECTS_MS", 2500));
    eprintln!("HAYPILE_DISCONNECTS_SEED={seed} ({workers} workers, {} ms)", length.as_millis());
    // Few threads on the pools, so that jobs of vanished clients wait in line.
    let flags = [
        "--workers",
        workers,
        "--memory-budget",
        "64mb",
        "--slow-pool-threads",
        "2",
        "--io-pool-threads",
        "2",
    ];
    let server = Server::start(&format!("disconnects-{workers}"), &flags);
    let mut control = server.client();
    fill(&mut control);
    let (held, memory) = (held(&mut control), client_memory(&mut control));
    let deadline = Instant::now() + length;
    let counts: Vec<AtomicU64> = (0..STATES).map(|_| AtomicU64::new(0)).collect();
    let mut random = Random::new(seed.wrapping_add(salt));
    std::thread::scope(|scope| {
        for _ in 0..THREADS {
            let (address, counts, mut random) = (server.address(), &counts, Random::new(random.next()));
            scope.spawn(move || {
                while Instant::now() < deadline {
                    let state = random.below(STATES as u64) as usize;
                    // Cut, killed or refused: whatever became of it is right here; what it left behind is looked at later.
                    if vanish(address, state, &mut random).is_ok() {
                        // Relaxed: a count, read after the threads are joined.
                        counts[state].fetch_add(1, Ordering::Relaxed);
                    }
                }
            });
        }
    });
    let counts: Vec<u64> = counts.iter().map(|count| count.load(Ordering::Relaxed)).collect();
    eprintln!("times in each state: {counts:?}");
    assert!(counts.iter().all(|count| *count > 0), "a state that nobody got into: {counts:?}");
    nothing_is_left(&server, &mut control, &held, memory);
    every_key_can_be_written(&server);
    let log = server.log_tail();
    assert!(!log.contains("panic"), "{log}");
}

fn key(random: &mut Random, kind: &str) -> String {
    format!("{kind}:{}", random.below(KEYS))
}

/// Values whose replies are longer than what a socket takes.
fn fill(client: &mut Client) {
    client.call(&[&b"SET"[..], b"huge", &vec![b'x'; 6 << 20]]);
    let elements: Vec<String> = (0..50_000).map(|number| format!("element:{number:020}")).collect();
    for batch in elements.chunks(5000) {
        let mut command = vec!["RPUSH".to_string(), "long".to_string()];
        command.extend(batch.iter().cloned());
        client.call(&command);
    }
    for number in 0..KEYS {
        client.call(&["SET", &format!("text:{number}"), "1"]);
        client.call(&["XGROUP", "CREATE", &format!("stream:{number}"), "group", "$", "MKSTREAM"]);
    }
}

/// Gets into a state and goes.
fn vanish(address: SocketAddr, state: usize, random: &mut Random) -> io::Result<()> {
    let mut client = Client::connect(address)?;
    client.set_patience(Duration::from_secs(20))?;
    if random.chance(300) {
        client.try_call(&["HELLO", "3"])?;
    }
    let (list, zset, stream) = (key(random, "list"), key(random, "zset"), key(random, "stream"));
    let (text, other) = (key(random, "text"), key(random, "text"));
    match state {
        // In a transaction, watching or not, with EXEC under way or not.
        0 => queue_all(&mut client, &[&["MULTI"], &["SET", &text, "1"], &["LPUSH", &list, "a"]]),
        1 => {
            client.try_call(&["WATCH", &text, &other, &list])?;
            queue_all(&mut client, &[&["MULTI"], &["INCR", &text], &["SET", &other, "2"]]);
            if random.chance(500) {
                client.queue(&["EXEC"]);
            }
        }
        2 => queue_all(&mut client, &[&["WATCH", &text], &["WATCH", &other]]),
        // A transaction that runs on the slow pool.
        3 => queue_all(
            &mut client,
            &[&["MULTI"], &["INCR", &text], &["KEYS", "*"], &["INCR", &other], &["EXEC"]],
        ),
        // Blocked, on one key or several.
        4 => client.queue(&["BLPOP", &list, &key(random, "list"), "none", "0"]),
        5 => client.queue(&["BZPOPMIN", &zset, &key(random, "zset"), "0"]),
        6 => client.queue(&["XREAD", "BLOCK", "0", "STREAMS", &stream, "$"]),
        7 => client.queue(&["XREADGROUP", "GROUP", "group", "me", "BLOCK", "0", "STREAMS", &stream, ">"]),
        8 => client.queue(&["BLMOVE", &list, &key(random, "list"), "LEFT", "RIGHT", "0"]),
        9 => client.queue(&["BRPOP", &list, "0.005"]),
        // Somebody hears or sees something.
        10 => queue_all(
            &mut client,
            &[&["SUBSCRIBE", "one", "two"], &["PSUBSCRIBE", "o*"], &["SSUBSCRIBE", "three"]],
        ),
        11 => client.queue(&["MONITOR"]),
        12 => queue_all(
            &mut client,
            &[
                &["HELLO", "3"],
                &["CLIENT", "TRACKING", "ON"],
                &["MGET", &text, &other],
                &["LRANGE", &list, "0", "2"],
            ],
        ),
        13 => queue_all(
            &mut client,
            &[
                &["HELLO", "3"],
                &["CLIENT", "TRACKING", "ON", "BCAST", "PREFIX", "text:", "PREFIX", "list:"],
                &["GET", &text],
            ],
        ),
        // Half a command; a long announced one, which is charged for.
        14 => return cut(client, Some(b"*3\r\n$3\r\nSET\r\n$6\r\ntext:0\r\n$100\r\nhalf"), random),
        15 => {
            let mut bytes = b"*3\r\n$3\r\nSET\r\n$6\r\ntext:0\r\n$20000000\r\n".to_vec();
            bytes.resize(bytes.len() + random.below(3 << 20) as usize, b'x');
            return cut(client, Some(&bytes), random);
        }
        // Long commands on the pools.
        16 => queue_all(&mut client, &[&["KEYS", "*"], &["SAVE"], &["SET", &text, "1"]]),
        17 => queue_all(
            &mut client,
            &[&["SELECT", "3"], &["SET", "x", "y"], &["FLUSHDB"], &["SWAPDB", "3", "4"]],
        ),
        18 => client.queue(&["DEBUG", "SLEEP", "0.02"]),
        // Answers that nobody reads, or not to their end.
        19 => queue_all(&mut client, &[&["GET", "huge"], &["GET", "huge"]]),
        20 => queue_all(&mut client, &[&["LRANGE", "long", "0", "-1"], &["SORT", "long", "ALPHA"]]),
        // Those who change what the others wait for and watch.
        21 => {
            for _ in 0..20 {
                client.queue(&["LPUSH", &key(random, "list"), "a", "b"]);
                client.queue(&["ZADD", &key(random, "zset"), "1", "m", "2", "n"]);
                client.queue(&["XADD", &key(random, "stream"), "MAXLEN", "10", "*", "f", "v"]);
                client.queue(&["INCRBY", &key(random, "text"), "3"]);
                client.queue(&["PUBLISH", "one", "message"]);
            }
        }
        22 => {
            for _ in 0..20 {
                client.queue(&["MSET", &text, "1", &other, "2", &key(random, "text"), "3"]);
                client.queue(&["RENAME", &key(random, "list"), &key(random, "list")]);
                client.queue(&["DEL", &key(random, "list"), &key(random, "zset")]);
            }
        }
        // Those who end others.
        23 => {
            let Value::Integer(own) = client.try_call(&["CLIENT", "ID"])? else { return Ok(()) };
            for _ in 0..5 {
                // The first few are not of the storm.
                let id = (own - random.within(1, 30)).max(10).to_string();
                client.queue(&["CLIENT", "UNBLOCK", &id, random.pick(&["TIMEOUT", "ERROR"])]);
                client.queue(&["CLIENT", "KILL", "ID", &id]);
            }
            client.queue(&["CLIENT", "PAUSE", "3", random.pick(&["ALL", "WRITE"])]);
        }
        24 => queue_all(
            &mut client,
            &[&["CLIENT", "REPLY", "OFF"], &["SUBSCRIBE", "one"], &["MULTI"], &["GET", &text]],
        ),
        // Messages to a tracker's stand-in which goes.
        _ => {
            let mut stand_in = Client::connect(address)?;
            let Value::Integer(id) = stand_in.try_call(&["CLIENT", "ID"])? else { return Ok(()) };
            stand_in.try_call(&["SUBSCRIBE", "__redis__:invalidate"])?;
            let redirect = id.to_string();
            queue_all(&mut client, &[&["CLIENT", "TRACKING", "ON", "REDIRECT", &redirect], &["GET", &text]]);
            client.flush()?;
            pause(random);
            drop(stand_in);
        }
    }
    cut(client, None, random)
}

fn queue_all(client: &mut Client, commands: &[&[&str]]) {
    commands.iter().for_each(|command| client.queue(command));
}

fn pause(random: &mut Random) {
    if random.chance(700) {
        std::thread::sleep(Duration::from_micros(random.below(4000)));
    }
}

/// Sends what was queued, waits a moment, perhaps reads something, and goes in one of several ways.
fn cut(mut client: Client, bytes: Option<&[u8]>, random: &mut Random) -> io::Result<()> {
    match bytes {
        Some(bytes) => client.send_raw(bytes)?,
        None => client.flush()?,
    }
    pause(random);
    if bytes.is_none() && random.chance(300) {
        client.set_patience(Duration::from_millis(2))?;
        // Nothing may have come.
        let _ = client.read();
    }
    match random.below(3) {
        0 => client.stream().shutdown(Shutdown::Both),
        // Says that it will send nothing more, and lingers.
        1 => {
            client.finish_sending()?;
            pause(random);
            Ok(())
        }
        // With answers unread, the system resets the connection.
        _ => Ok(()),
    }
}

/// What DEBUG HELD counts.
fn held(client: &mut Client) -> BTreeMap<String, i64> {
    let Value::Array(pairs) = client.call(&["DEBUG", "HELD"]) else { panic!("DEBUG HELD") };
    pairs
        .chunks(2)
        .map(|pair| match pair {
            [Value::Bulk(name), Value::Integer(count)] => {
                (String::from_utf8_lossy(name).into_owned(), *count)
            }
            other => panic!("DEBUG HELD: {other:?}"),
        })
        .collect()
}

fn field(client: &mut Client, section: &str, name: &str) -> i64 {
    let info = client.text(&["INFO", section]);
    let line = info.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    line.and_then(|number| number.trim().parse().ok()).unwrap_or_else(|| panic!("no {name} in {info}"))
}

fn client_memory(client: &mut Client) -> i64 {
    field(client, "memory", "mem_clients_normal")
}

fn nothing_is_left(server: &Server, control: &mut Client, before: &BTreeMap<String, i64>, memory: i64) {
    // What a pool still does for a client that has gone ends by itself.
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        let now = held(control);
        if now == *before {
            break;
        }
        let left: Vec<_> = now.iter().filter(|(name, count)| before[*name] != **count).collect();
        assert!(Instant::now() < deadline, "left behind: {left:?}\n{}", control.text(&["CLIENT", "LIST"]));
        std::thread::sleep(Duration::from_millis(5));
    }
    for name in
        ["blocked_clients", "tracking_clients", "pubsub_clients", "watching_clients", "total_watched_keys"]
    {
        assert_eq!(field(control, "clients", name), 0, "{name}");
    }
    for name in ["total_blocking_keys", "clients_in_timeout_table"] {
        assert_eq!(field(control, "clients", name), 0, "{name}");
    }
    assert_eq!(field(control, "clients", "connected_clients"), 1);
    assert_eq!(field(control, "memory", "mem_large_requests"), 0);
    assert_eq!(client_memory(control), memory, "memory of clients");
    assert_eq!(control.text(&["CLIENT", "LIST"]).lines().count(), 1);
    assert_eq!(control.call(&["PUBSUB", "CHANNELS"]), Value::Array(Vec::new()));
    assert_eq!(control.call(&["PUBSUB", "NUMPAT"]), Value::Integer(0));
    // Sockets, too: the process has no descriptor of a connection but ours.
    wait_for("closed sockets", || sockets_of(server) <= 1);
}

/// Established connections of the server's port.
fn sockets_of(server: &Server) -> usize {
    let table = std::fs::read_to_string("/proc/net/tcp").expect("/proc/net/tcp");
    let port = format!(":{:04X}", server.port());
    let fields = table.lines().map(|line| line.split_ascii_whitespace().collect::<Vec<_>>());
    fields.filter(|fields| fields.len() > 3 && fields[1].ends_with(&port) && fields[3] == "01").count()
}

fn every_key_can_be_written(server: &Server) {
    let mut client = server.client();
    client.set_patience(Duration::from_secs(5)).expect("patience");
    let keys = client.scan_all();
    assert!(keys.len() >= KEYS as usize, "{} keys", keys.len());
    for key in &keys {
        let reply = client.call(&[&b"PERSIST"[..], key]);
        assert!(matches!(reply, Value::Integer(_)), "{}", render(&reply));
    }
    for kind in ["list", "zset", "stream", "text"] {
        for number in 0..KEYS {
            let reply = client.call(&["SET", &format!("{kind}:{number}"), "free"]);
            assert_eq!(reply, Value::Simple(b"OK".to_vec()));
            // Nobody is in line for it.
            client.call(&["DEL", &format!("{kind}:{number}")]);
            assert_eq!(client.integer(&["LPUSH", &format!("{kind}:{number}"), "a", "b"]), 2);
            assert_eq!(client.integer(&["LLEN", &format!("{kind}:{number}")]), 2);
        }
    }
    assert_eq!(client.call(&["FLUSHALL"]), Value::Simple(b"OK".to_vec()));
}
