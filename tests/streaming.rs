//! Replies of a million elements, from outside: they arrive whole, take little memory however slowly they are taken, and hold nobody up.
//!
//! `HAYPILE_HUGE_ELEMENTS=10000000` makes them ten times as large; what was measured is printed.
#![expect(
    clippy::disallowed_methods,
    reason = "a test outside the server reads clocks and starts threads as any program"
)]

#[expect(dead_code, reason = "each test binary takes its part of what they share")]
mod support;

use std::io::Read;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};
use support::client::{Client, render};
use support::program::Family;
use support::random::count_from;
use support::server::{Server, wait_for};

fn elements() -> u64 {
    count_from("HAYPILE_HUGE_ELEMENTS", 1_000_000)
}

/// Runs commands, many at once.
fn load(client: &mut Client, commands: impl Iterator<Item = Vec<String>>) {
    let mut queued = 0;
    let settle = |client: &mut Client, queued: &mut u64| {
        client.flush().unwrap();
        for _ in 0..std::mem::take(queued) {
            let reply = render(&client.read().unwrap());
            assert!(!reply.starts_with('-'), "{reply}");
        }
    };
    for command in commands {
        client.queue(&command);
        queued += 1;
        if queued == 32 {
            settle(client, &mut queued);
        }
    }
    settle(client, &mut queued);
}

fn name(number: u64) -> String {
    format!("element:{number:08}")
}

/// Commands that make a collection of so many elements: `words` makes those of one.
fn batches(
    head: [&str; 2],
    elements: u64,
    words: impl Fn(u64) -> Vec<String>,
) -> impl Iterator<Item = Vec<String>> {
    let head = head.map(str::to_owned);
    (0..elements.div_ceil(250)).map(move |batch| {
        let mut command = head.to_vec();
        (batch * 250..(batch * 250 + 250).min(elements)).for_each(|number| command.extend(words(number)));
        command
    })
}

/// Sends a command and looks at its reply only as bytes: how many, how many line ends, and the first line. Reads slowly if told.
fn drain(client: &mut Client, words: &[&str], pause: Duration) -> (u64, u64, String) {
    client.queue(words);
    client.flush().unwrap();
    let mut stream = client.stream();
    let mut buffer = vec![0; 256 << 10];
    let (mut bytes, mut lines, mut first) = (0, 0, Vec::new());
    // Behind it comes the answer to a PING, of which the end is known.
    let mut ping = stream;
    std::io::Write::write_all(&mut ping, b"PING\r\n").unwrap();
    let mut tail = Vec::new();
    loop {
        let count = stream.read(&mut buffer).unwrap();
        assert!(count > 0, "the connection ended after {bytes} bytes of {words:?}");
        if first.len() < 32 {
            first.extend_from_slice(&buffer[..count.min(32)]);
        }
        bytes += count as u64;
        lines += buffer[..count].iter().filter(|&&byte| byte == b'\n').count() as u64;
        tail.extend_from_slice(&buffer[count.saturating_sub(7)..count]);
        tail.drain(..tail.len().saturating_sub(7));
        if tail == b"+PONG\r\n" {
            break;
        }
        std::thread::sleep(pause);
    }
    let first = String::from_utf8_lossy(&first).lines().next().unwrap_or_default().to_owned();
    (bytes - 7, lines - 1, first)
}

/// What another client on the same worker sees meanwhile: its slowest answers, and the server's memory.
struct Watch {
    stop: Arc<AtomicBool>,
    peak: Arc<AtomicU64>,
    threads: Vec<std::thread::JoinHandle<Vec<Duration>>>,
}

impl Watch {
    fn begin(server: &Server) -> Watch {
        let stop = Arc::new(AtomicBool::new(false));
        let peak = Arc::new(AtomicU64::new(0));
        let (mut client, own_stop) = (server.client(), Arc::clone(&stop));
        let pings = std::thread::spawn(move || {
            let mut times = Vec::new();
            while !own_stop.load(Ordering::Relaxed) {
                let began = Instant::now();
                assert_eq!(render(&client.call(&["GET", "small"])), "$value");
                times.push(began.elapsed());
                std::thread::sleep(Duration::from_micros(300));
            }
            times
        });
        let (pid, own_stop, own_peak) = (server.pid(), Arc::clone(&stop), Arc::clone(&peak));
        let memory = std::thread::spawn(move || {
            while !own_stop.load(Ordering::Relaxed) {
                own_peak.fetch_max(resident(pid), Ordering::Relaxed);
                std::thread::sleep(Duration::from_millis(5));
            }
            Vec::new()
        });
        Watch { stop, peak, threads: vec![pings, memory] }
    }

    /// The 99th percentile of the other's times, and the peak of memory in bytes.
    fn end(self) -> (Duration, u64) {
        self.stop.store(true, Ordering::Relaxed);
        let mut times: Vec<Duration> =
            self.threads.into_iter().flat_map(|thread| thread.join().expect("a watcher")).collect();
        times.sort_unstable();
        (times[times.len() * 99 / 100], self.peak.load(Ordering::Relaxed))
    }
}

fn resident(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap_or("0");
    line.split_whitespace().next().and_then(|kilobytes| kilobytes.parse::<u64>().ok()).unwrap_or(0) << 10
}

#[test]
fn huge_replies_arrive_whole_in_little_memory() {
    let server =
        Server::start("streaming-huge", &["--memory-budget", "64mb", "--workers", "1", "--save", ""]);
    if server.family() == Family::Redis {
        return;
    }
    let mut client = server.client();
    let count = elements();
    let value = "v".repeat(80);
    client.call(&["SET", "small", "value"]);
    // One after the other, so that the test's own disk stays small. Each with what the reply's first line and lines are.
    let bulks = |replies: u64| replies * 2;
    type Case<'a> = (&'a str, Box<dyn Fn(&mut Client) + 'a>, Vec<&'a str>, String, u64);
    let of = |kind: &'static str, words: Box<dyn Fn(u64) -> Vec<String>>| {
        Box::new(move |client: &mut Client| load(client, batches([kind, "huge"], count, &words)))
    };
    let long = |number: u64| format!("{}:{}", name(number), "v".repeat(80));
    let field = value.clone();
    let cases: Vec<Case<'_>> = vec![
        (
            "HGETALL",
            of("HSET", Box::new(move |number| vec![name(number), field.clone()])),
            vec!["HGETALL", "huge"],
            format!("*{}", count * 2),
            1 + bulks(count * 2),
        ),
        (
            "SMEMBERS",
            of("SADD", Box::new(move |number| vec![long(number)])),
            vec!["SMEMBERS", "huge"],
            format!("*{count}"),
            1 + bulks(count),
        ),
        (
            "ZRANGE",
            of("ZADD", Box::new(move |number| vec![number.to_string(), long(number)])),
            vec!["ZRANGE", "huge", "0", "-1", "WITHSCORES"],
            format!("*{}", count * 2),
            1 + bulks(count * 2),
        ),
        (
            "LRANGE",
            of("RPUSH", Box::new(move |number| vec![long(number)])),
            vec!["LRANGE", "huge", "0", "-1"],
            format!("*{count}"),
            1 + bulks(count),
        ),
        (
            "XRANGE",
            Box::new(|client| {
                let add = |number: u64| {
                    ["XADD", "huge", &format!("{}-1", number + 1), "f", &value].map(str::to_owned).to_vec()
                };
                load(client, (0..count).map(add));
            }),
            vec!["XRANGE", "huge", "-", "+"],
            format!("*{count}"),
            // Of each: its array, its id, the array of fields, two of them.
            1 + count * (1 + 2 + 1 + 4),
        ),
        (
            "KEYS",
            Box::new(|client| {
                load(
                    client,
                    (0..count.div_ceil(250)).map(|batch| {
                        let mut command = vec!["MSET".to_owned()];
                        for number in batch * 250..(batch * 250 + 250).min(count) {
                            command
                                .extend([format!("key:{}:{}", name(number), "k".repeat(60)), String::new()]);
                        }
                        command
                    }),
                );
            }),
            vec!["KEYS", "key:*"],
            format!("*{count}"),
            1 + bulks(count),
        ),
    ];
    for (what, make, words, first, lines) in cases {
        make(&mut client);
        let before = resident(server.pid());
        let mut other = server.client();
        for pause in [Duration::ZERO, Duration::from_micros(500)] {
            let watch = Watch::begin(&server);
            let began = Instant::now();
            let (bytes, found, line) = drain(&mut other, &words, pause);
            let took = began.elapsed();
            let (slowest, peak) = watch.end();
            assert_eq!((line.as_str(), found), (first.as_str(), lines), "{what}");
            let grown = peak.saturating_sub(before);
            eprintln!(
                "{what}: {} MB in {took:?}; memory grew by {} MB; another's p99 {slowest:?}",
                bytes >> 20,
                grown >> 20
            );
            assert!(grown < 64 << 20, "{what}: {bytes} bytes in a reply, memory grew by {grown}");
            // Two milliseconds are meant; a busy machine gets some more.
            assert!(slowest < Duration::from_millis(20), "{what}: another's p99 is {slowest:?}");
        }
        if what != "KEYS" {
            client.call(&["UNLINK", "huge"]);
        }
    }
}

/// A server with a hash whose reply no socket buffer holds.
fn with_hash(name: &str) -> (Server, u64) {
    let flags = ["--memory-budget", "64mb", "--workers", "1", "--slow-pool-threads", "1", "--save", ""];
    let server = Server::start(&format!("streaming-{name}"), &flags);
    let count = 200_000;
    let mut client = server.client();
    load(&mut client, batches(["HSET", "huge"], count, |number| vec![crate::name(number), "v".repeat(100)]));
    (server, count)
}

/// Asks for it and reads nothing.
fn ask(server: &Server, client: &mut Client) {
    client.queue(&["HGETALL", "huge"]);
    client.flush().unwrap();
    let mut admin = server.client();
    // On its way: what waits for this client is more than it has taken.
    wait_for("the reply is on its way", || {
        let list = admin.text(&["CLIENT", "LIST"]);
        list.lines().any(|line| line.contains("cmd=hgetall") && !line.contains("omem=0 "))
    });
}

#[test]
fn who_takes_nothing_holds_nobody_up() {
    let (server, count) = with_hash("stalled");
    if server.family() == Family::Redis {
        return;
    }
    let mut stalled: Vec<Client> = (0..6).map(|_| server.client()).collect();
    stalled.iter_mut().for_each(|client| ask(&server, client));
    let mut client = server.client();
    let began = Instant::now();
    assert_eq!(client.integer(&["HLEN", "huge"]), count as i64);
    assert_eq!(render(&client.call(&["KEYS", "*"])), "*[$huge]");
    assert_eq!(render(&client.call(&["HSET", "huge", "new", "field"])), ":1");
    assert_eq!(render(&client.call(&["FLUSHALL"])), "+OK");
    assert_eq!(render(&client.call(&["DEBUG", "RELOAD"])), "+OK");
    assert_eq!(render(&client.call(&["DBSIZE"])), ":0");
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
    // One goes: its command ends, and with it its thread's work.
    drop(stalled.pop());
    // The others still get what was there when they asked, unless the store was opened anew below them.
    let info = client.text(&["INFO", "clients"]);
    assert!(info.contains("connected_clients:"), "{info}");
}

#[test]
fn a_reply_is_of_one_moment() {
    let (server, count) = with_hash("moment");
    if server.family() == Family::Redis {
        return;
    }
    let mut slow = server.client();
    ask(&server, &mut slow);
    let mut client = server.client();
    assert_eq!(render(&client.call(&["DEL", "huge"])), ":1");
    assert_eq!(render(&client.call(&["FLUSHALL"])), "+OK");
    assert_eq!(render(&client.call(&["HSET", "huge", "a", "b"])), ":1");
    let haypile_resp::Value::Array(parts) = slow.read().unwrap() else { panic!("an array") };
    assert_eq!(parts.len() as u64, count * 2);
    assert_eq!(slow.integer(&["HLEN", "huge"]), 1);
}

#[test]
fn the_output_limit_ends_it() {
    let (server, _) = with_hash("limit");
    if server.family() == Family::Redis {
        return;
    }
    let mut admin = server.client();
    let mut slow = server.client();
    ask(&server, &mut slow);
    assert_eq!(
        render(&admin.call(&["CONFIG", "SET", "client-output-buffer-limit", "normal 0 100kb 1"])),
        "+OK"
    );
    wait_for("the soft limit ends it", || !admin.text(&["CLIENT", "LIST"]).contains("cmd=hgetall"));
    assert_eq!(
        render(&admin.call(&["CONFIG", "SET", "client-output-buffer-limit", "normal 100kb 0 0"])),
        "+OK"
    );
    let mut slow = server.client();
    slow.queue(&["HGETALL", "huge"]);
    slow.flush().unwrap();
    wait_for("the hard limit ends it", || !admin.text(&["CLIENT", "LIST"]).contains("cmd=hgetall"));
    assert!(slow.read().is_err());
    let stats = admin.text(&["INFO", "stats"]);
    assert!(stats.contains("client_output_buffer_limit_disconnections:2"), "{stats}");
    // And nothing of it is left: the only thread of the pool is free.
    assert_eq!(render(&admin.call(&["KEYS", "*"])), "*[$huge]");
}

#[test]
fn a_shutdown_waits_for_nobody_for_ever() {
    let (mut server, _) = with_hash("shutdown");
    if server.family() == Family::Redis {
        return;
    }
    let mut slow = server.client();
    ask(&server, &mut slow);
    let mut admin = server.client();
    admin.queue(&["SHUTDOWN", "NOW"]);
    admin.flush().unwrap();
    let began = Instant::now();
    assert!(server.wait_exit().success());
    assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
}
