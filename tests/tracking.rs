//! CLIENT TRACKING and MONITOR, from outside.
//!
//! The scripted parts run against redis-server as well, where there is one, so that they say what Redis does. The stress keeps caches by what
//! the server tells, across workers, and looks in the end whether any of them is stale. `HAYPILE_TRACKING_SECONDS` prolongs it.
#![expect(
    clippy::disallowed_methods,
    reason = "a test outside the server reads clocks and starts threads as any program"
)]

#[expect(dead_code, reason = "each test binary takes its part of what they share")]
mod support;

use haypile_resp::Value;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use support::client::{Client, bulk, render};
use support::program::{Family, Program};
use support::random::{Random, count_from};
use support::server::{Server, wait_for};

fn start(name: &str, flags: &[&str]) -> Server {
    let own = ["--memory-budget", "64mb", "--workers", "4"];
    Server::start(&format!("tracking-{name}"), &[&own, flags].concat())
}

fn servers(name: &str) -> Vec<Server> {
    let mut servers = vec![start(name, &[])];
    for redis in Program::controls() {
        if redis.series() != "7.0" {
            let name = format!("tracking-{name}-control-{}", redis.series());
            servers.push(Server::start_program(&name, redis, &[]));
        }
    }
    servers
}

fn call(client: &mut Client, line: &str) -> String {
    render(&client.call(&line.split(' ').collect::<Vec<_>>()))
}

fn read(client: &mut Client) -> String {
    render(&client.read().unwrap())
}

fn nothing_comes(client: &mut Client) {
    assert_eq!(call(client, "PING mark"), "$mark", "something came");
}

fn info(client: &mut Client, field: &str) -> u64 {
    let info = client.text(&["INFO"]);
    let line = info.lines().find(|line| line.starts_with(&format!("{field}:"))).unwrap();
    line.trim_end().rsplit(':').next().unwrap().parse().unwrap()
}

fn resp3(server: &Server) -> Client {
    let mut client = server.client();
    client.call(&["HELLO", "3"]);
    client
}

#[test]
fn who_has_read_a_key_hears_of_its_change_once() {
    for server in servers("default") {
        let (mut reader, mut writer) = (resp3(&server), server.client());
        assert_eq!(call(&mut reader, "CLIENT TRACKING on"), "+OK");
        for line in ["SET a 1", "SET b 1", "HSET h f 1"] {
            call(&mut writer, line);
        }
        call(&mut reader, "MGET a b none");
        call(&mut writer, "SET a 2");
        assert_eq!(read(&mut reader), ">[$invalidate, *[$a]]");
        call(&mut writer, "SET a 3");
        nothing_comes(&mut reader);
        // Each way a key changes.
        call(&mut writer, "RENAME b none");
        let mut both = [read(&mut reader), read(&mut reader)];
        both.sort();
        assert_eq!(both, [">[$invalidate, *[$b]]", ">[$invalidate, *[$none]]"]);
        call(&mut reader, "HGET h f");
        call(&mut writer, "HDEL h f");
        assert_eq!(read(&mut reader), ">[$invalidate, *[$h]]");
        call(&mut writer, "SET a 1 PX 20");
        call(&mut reader, "GET a");
        assert_eq!(read(&mut reader), ">[$invalidate, *[$a]]");
        call(&mut reader, "GET a");
        call(&mut writer, "FLUSHDB");
        assert_eq!(read(&mut reader), ">[$invalidate, (nil)]");
        call(&mut writer, "FLUSHALL");
        assert_eq!(read(&mut reader), ">[$invalidate, (nil)]", "also where there is nothing");
        // A failing command changes nothing, nor does one that does nothing.
        call(&mut writer, "SET a text");
        call(&mut reader, "GET a");
        for line in ["INCR a", "LPUSH a x", "SETNX a x", "DEL none", "EXPIRE none 10"] {
            call(&mut writer, line);
        }
        nothing_comes(&mut reader);
        // Its own change comes behind the reply; of a transaction once, behind EXEC.
        reader.queue(&["SET", "a", "own"]);
        reader.queue(&["PING", "next"]);
        reader.flush().unwrap();
        assert_eq!(read(&mut reader), "+OK");
        assert_eq!(read(&mut reader), ">[$invalidate, *[$a]]");
        assert_eq!(read(&mut reader), "$next");
        call(&mut reader, "GET a");
        for line in ["MULTI", "SET a 1", "SET a 2"] {
            call(&mut reader, line);
        }
        assert_eq!(call(&mut reader, "EXEC"), "*[+OK, +OK]");
        assert_eq!(read(&mut reader), ">[$invalidate, *[$a]]");
        nothing_comes(&mut reader);
        // What a transaction reads counts.
        for line in ["MULTI", "GET a", "EXEC"] {
            call(&mut reader, line);
        }
        call(&mut writer, "APPEND a x");
        assert_eq!(read(&mut reader), ">[$invalidate, *[$a]]");
        // Of its own changes, what it reads before them, not what it reads of them; that is kept for others to change.
        for line in ["DEL c", "MULTI", "SET a 1", "SET b 1", "GET c", "GET a", "SET c 1", "EXEC"] {
            call(&mut reader, line);
        }
        assert_eq!(read(&mut reader), ">[$invalidate, *[$c]]");
        nothing_comes(&mut reader);
        call(&mut writer, "SET b 2");
        call(&mut writer, "SET a 2");
        assert_eq!(read(&mut reader), ">[$invalidate, *[$a]]");
        nothing_comes(&mut reader);
        // NOLOOP.
        call(&mut reader, "CLIENT TRACKING on NOLOOP");
        for line in ["MULTI", "SET a 1", "GET a", "EXEC"] {
            call(&mut reader, line);
        }
        call(&mut writer, "SET a 2");
        assert_eq!(read(&mut reader), ">[$invalidate, *[$a]]");
        call(&mut reader, "GET a");
        call(&mut reader, "SET a 1");
        nothing_comes(&mut reader);
        // OPTIN, OPTOUT.
        call(&mut reader, "CLIENT TRACKING off");
        call(&mut reader, "CLIENT TRACKING on OPTIN");
        call(&mut reader, "GET a");
        call(&mut writer, "SET a 1");
        nothing_comes(&mut reader);
        for line in ["CLIENT CACHING YES", "GET a", "GET b"] {
            call(&mut reader, line);
        }
        call(&mut writer, "SET b 1");
        call(&mut writer, "SET a 1");
        assert_eq!(read(&mut reader), ">[$invalidate, *[$a]]");
        nothing_comes(&mut reader);
        call(&mut reader, "CLIENT TRACKING off");
        call(&mut reader, "CLIENT TRACKING on OPTOUT");
        for line in ["CLIENT CACHING NO", "GET a", "GET b"] {
            call(&mut reader, line);
        }
        call(&mut writer, "SET a 1");
        call(&mut writer, "SET b 1");
        assert_eq!(read(&mut reader), ">[$invalidate, *[$b]]");
        // Off, or gone, is off.
        call(&mut reader, "GET a");
        call(&mut reader, "CLIENT TRACKING off");
        call(&mut writer, "SET a 1");
        nothing_comes(&mut reader);
        assert_eq!(info(&mut writer, "tracking_clients"), 0);
        if server.family() == Family::Haypile {
            assert_eq!(info(&mut writer, "tracking_total_keys"), 0);
        }
    }
}

#[test]
fn broadcast_and_redirection() {
    for server in servers("bcast") {
        let (mut reader, mut writer, mut listener) = (resp3(&server), server.client(), server.client());
        assert_eq!(call(&mut reader, "CLIENT TRACKING on BCAST PREFIX user: PREFIX item:"), "+OK");
        call(&mut writer, "MSET user:2 1 user:1 1 other 1 item:1 1");
        let mut both = [read(&mut reader), read(&mut reader)];
        both.sort();
        assert_eq!(both, [">[$invalidate, *[$item:1]]", ">[$invalidate, *[$user:1, $user:2]]"]);
        call(&mut reader, "CLIENT TRACKING on BCAST PREFIX more: NOLOOP");
        call(&mut reader, "SET more:1 1");
        nothing_comes(&mut reader);
        call(&mut writer, "SET more:1 1");
        assert_eq!(read(&mut reader), ">[$invalidate, *[$more:1]]");
        for (line, error) in [
            (
                "CLIENT TRACKING on BCAST PREFIX user:x",
                "-ERR Prefix \\'user:x\\' overlaps with an existing prefix \\'user:\\'. Prefixes for a single client must not overlap.",
            ),
            (
                "CLIENT TRACKING on BCAST PREFIX ab PREFIX a",
                "-ERR Prefix \\'ab\\' overlaps with another provided prefix \\'a\\'. Prefixes for a single client must not overlap.",
            ),
            ("CLIENT TRACKING on PREFIX a", "-ERR PREFIX option requires BCAST mode to be enabled"),
            (
                "CLIENT TRACKING on",
                "-ERR You can\\'t switch BCAST mode on/off before disabling tracking for this client, and then re-enabling it with a different mode.",
            ),
            ("CLIENT TRACKING on BCAST OPTIN", "-ERR OPTIN and OPTOUT are not compatible with BCAST"),
            ("CLIENT TRACKING on REDIRECT 99999", "-ERR The client ID you want redirect to does not exist"),
            (
                "CLIENT CACHING YES",
                "-ERR CLIENT CACHING YES is only valid when tracking is enabled in OPTIN mode.",
            ),
        ] {
            assert_eq!(call(&mut reader, line), error, "{line}");
        }
        assert_eq!(
            call(&mut reader, "CLIENT TRACKINGINFO"),
            "%{$flags: ~[$on, $bcast, $noloop], $redirect: :0, $prefixes: *[$item:, $more:, $user:]}"
        );
        call(&mut reader, "CLIENT TRACKING off");
        call(&mut writer, "SET user:1 1");
        nothing_comes(&mut reader);
        assert_eq!(info(&mut writer, "tracking_total_prefixes"), 0);
        // In another's stead, in RESP2 as a message.
        let id = listener.integer(&["CLIENT", "ID"]);
        call(&mut listener, "SUBSCRIBE __redis__:invalidate");
        let mut two = server.client();
        assert_eq!(call(&mut two, &format!("CLIENT TRACKING on REDIRECT {id}")), "+OK");
        assert_eq!(call(&mut two, "CLIENT GETREDIR"), format!(":{id}"));
        let list = writer.text(&["CLIENT", "LIST"]);
        assert!(list.contains(" flags=t ") && list.contains(&format!(" redir={id} ")), "{list}");
        call(&mut two, "GET a");
        call(&mut writer, "SET a 1");
        assert_eq!(read(&mut listener), "*[$message, $__redis__:invalidate, *[$a]]");
        call(&mut two, "GET a");
        call(&mut writer, "FLUSHALL");
        assert!(read(&mut listener).starts_with("*[$message, $__redis__:invalidate, (nil"));
        // Who is told has gone.
        call(&mut two, "HELLO 3");
        call(&mut two, "GET a");
        drop(listener);
        wait_for("it has gone", || info(&mut writer, "connected_clients") == 3);
        call(&mut writer, "SET a 1");
        assert_eq!(read(&mut two), format!(">[$tracking-redir-broken, :{id}]"));
        assert!(call(&mut two, "CLIENT TRACKINGINFO").contains("$broken_redirect"));
        call(&mut two, "RESET");
        assert_eq!(call(&mut two, "CLIENT GETREDIR"), ":-1");
        assert_eq!(info(&mut writer, "tracking_clients"), 0);
    }
}

#[test]
fn the_reply_of_a_wait_comes_before_what_its_change_takes_back() {
    for server in servers("waits") {
        let (mut reader, mut writer) = (resp3(&server), server.client());
        call(&mut reader, "CLIENT TRACKING on");
        for round in 0..200 {
            call(&mut reader, "LRANGE to 0 -1");
            reader.queue(&["BLMOVE", "from", "to", "left", "left", "0"]);
            reader.flush().unwrap();
            if round % 4 > 0 {
                wait_for("the wait", || info(&mut writer, "blocked_clients") == 1);
            }
            call(&mut writer, "RPUSH from foo");
            assert_eq!(read(&mut reader), "$foo", "round {round}");
            assert_eq!(read(&mut reader), ">[$invalidate, *[$to]]");
        }
    }
}

#[test]
fn the_table_is_bounded() {
    let server = start("bound", &["--tracking-table-max-keys", "100"]);
    let (mut reader, mut admin) = (resp3(&server), server.client());
    call(&mut reader, "CLIENT TRACKING on");
    let mut told = 0;
    for key in 0..1000 {
        reader.queue(&["GET", &format!("key{key}")]);
    }
    reader.queue(&["PING", "end"]);
    reader.flush().unwrap();
    let mut replies = 0;
    while replies < 1001 || told < 900 {
        match reader.read().unwrap() {
            Value::Push(_) => told += 1,
            _ => replies += 1,
        }
    }
    assert_eq!((told, info(&mut admin, "tracking_total_keys")), (900, 100));
    call(&mut admin, "CONFIG SET tracking-table-max-keys 1");
    for _ in 0..99 {
        assert!(read(&mut reader).starts_with(">[$invalidate"));
    }
    nothing_comes(&mut reader);
    drop(reader);
    wait_for("it has gone", || info(&mut admin, "tracking_total_keys") == 0);
}

/// A client with a cache of its own, that believes what it is told.
struct Cache {
    client: Client,
    values: HashMap<Vec<u8>, Option<Vec<u8>>>,
}

impl Cache {
    fn take(&mut self, parts: &[Value]) {
        match &parts[1] {
            Value::Array(keys) => keys.iter().for_each(|key| drop(self.values.remove(bulk(key).unwrap()))),
            _ => self.values.clear(),
        }
    }

    /// The next reply, and whatever is told before it.
    fn reply(&mut self) -> Value {
        loop {
            match self.client.read().unwrap() {
                Value::Push(parts) => self.take(&parts),
                reply => return reply,
            }
        }
    }

    fn get(&mut self, key: &str) {
        if !self.values.contains_key(key.as_bytes()) {
            self.client.queue(&["GET", key]);
            self.client.flush().unwrap();
            let value = self.reply();
            self.values.insert(key.into(), bulk(&value).map(<[u8]>::to_vec));
        }
    }
}

#[test]
fn no_cache_is_ever_stale() {
    let seconds = count_from("HAYPILE_TRACKING_SECONDS", 2);
    for (name, flags) in [
        ("everysec", &["--packed-max-elements", "0"][..]),
        ("always", &["--appendfsync", "always", "--io-pool-threads", "2"]),
    ] {
        let server = Arc::new(start(&format!("stale-{name}"), flags));
        // Readers go on for a moment when the writers have ended: the last write may have been a FLUSHALL, and empty caches show nothing.
        let (written, stop) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
        let mut threads = Vec::new();
        for number in 0..3u64 {
            let (server, written) = (Arc::clone(&server), Arc::clone(&written));
            threads.push(std::thread::spawn(move || {
                let mut random = Random::new(number);
                let mut client = server.client();
                while !written.load(Ordering::Relaxed) {
                    let (a, b) = (format!("k{}", random.below(8)), format!("k{}", random.below(8)));
                    let value = random.below(1000).to_string();
                    match random.below(40) {
                        0 => drop(client.call(&["FLUSHALL"])),
                        1..4 => drop(client.call(&["DEL", &a, &b])),
                        4..7 => drop(client.call(&["RENAME", &a, &b])),
                        7..10 => drop(client.call(&["SET", &a, &value, "PX", "5"])),
                        10..13 => {
                            client.call(&["MULTI"]);
                            client.call(&["SET", &a, &value]);
                            client.call(&["INCRBY", &b, "7"]);
                            client.call(&["EXEC"]);
                        }
                        _ => drop(client.call(&["SET", &a, &value])),
                    }
                }
            }));
        }
        let mut readers = Vec::new();
        for number in 0..4u64 {
            let (server, stop) = (Arc::clone(&server), Arc::clone(&stop));
            readers.push(std::thread::spawn(move || {
                let mut random = Random::new(100 + number);
                let mut cache = Cache { client: resp3(&server), values: HashMap::new() };
                let mut on = false;
                while !stop.load(Ordering::Relaxed) {
                    if !on || random.below(500) == 0 {
                        // Begins again and again: in the midst of others' commits.
                        cache.client.queue(&["CLIENT", "TRACKING", "off"]);
                        cache.client.queue(&["CLIENT", "TRACKING", "on"]);
                        cache.client.flush().unwrap();
                        cache.reply();
                        cache.reply();
                        cache.values.clear();
                        on = true;
                    }
                    let key = format!("k{}", random.below(8));
                    cache.get(&key);
                    if random.below(10) == 0 {
                        cache.client.queue(&["PING"]);
                        cache.client.flush().unwrap();
                        cache.reply();
                    }
                }
                cache
            }));
        }
        std::thread::sleep(Duration::from_secs(seconds));
        written.store(true, Ordering::Relaxed);
        threads.into_iter().for_each(|thread| thread.join().unwrap());
        std::thread::sleep(Duration::from_millis(50));
        stop.store(true, Ordering::Relaxed);
        let mut caches: Vec<Cache> = readers.into_iter().map(|thread| thread.join().unwrap()).collect();
        // What expires does so.
        std::thread::sleep(Duration::from_millis(500));
        let mut admin = server.client();
        let mut compared = 0;
        for cache in &mut caches {
            cache.client.queue(&["PING"]);
            cache.client.flush().unwrap();
            cache.reply();
            for (key, value) in &cache.values {
                let now = admin.call(&[&b"GET"[..], key]);
                assert_eq!(bulk(&now).map(<[u8]>::to_vec), *value, "{} is stale", key.escape_ascii());
                compared += 1;
            }
        }
        assert!(compared > 0);
    }
}

#[test]
fn monitor_shows_what_redis_shows() {
    let mut shown: Vec<(String, Vec<String>)> = Vec::new();
    for server in servers("monitor") {
        let (mut monitor, mut client) = (server.client(), server.client());
        assert_eq!(call(&mut monitor, "MONITOR"), "+OK");
        client.queue(&["set", "a b", "\"\\\r\n\t\u{7}\u{8}\u{1}\u{ff}'"]);
        client.queue(&["GeT", "none"]);
        client.queue(&["CONFIG", "GET", "port"]);
        client.queue(&["HELLO", "2", "AUTH", "default", "secret"]);
        client.queue(&["AUTH", "default", "secret"]);
        client.queue(&["SELECT", "3"]);
        client.queue(&["MULTI"]);
        client.queue(&["LPUSH", "l", "1"]);
        client.queue(&["INCR", "l"]);
        client.queue(&["EXEC"]);
        client.queue(&["NONSENSE", "x"]);
        client.queue(&["GET"]);
        client.queue(&["SLOWLOG", "LEN"]);
        client.queue(&["PING", "end"]);
        client.flush().unwrap();
        let mut lines = Vec::new();
        loop {
            let Value::Simple(line) = monitor.read().unwrap() else { panic!("no line") };
            let line = String::from_utf8(line).unwrap();
            let (time, rest) = line.split_once(' ').unwrap();
            let (seconds, us) = time.split_once('.').unwrap();
            assert!(seconds.parse::<u64>().unwrap() > 1_700_000_000 && us.len() == 6, "{time}");
            let (from, words) = rest.split_once("] ").unwrap();
            let (db, address) = from.split_once(' ').unwrap();
            assert!(address.starts_with("127.0.0.1:"), "{address}");
            lines.push(format!("{db} {words}"));
            if words.contains("end") {
                break;
            }
        }
        (0..14).for_each(|_| drop(client.read().unwrap()));
        let list = client.text(&["CLIENT", "LIST"]);
        assert!(list.lines().next_back().is_some() && list.contains(" flags=O "), "{list}");
        // It may go on as any client, and stop.
        assert_eq!(call(&mut monitor, "RESET").len(), 6);
        client.call(&["SET", "b", "1"]);
        nothing_comes(&mut monitor);
        shown.push((format!("{:?} {}", server.family(), server.port()), lines));
    }
    for (control, lines) in &shown[1..] {
        assert_eq!(shown[0].1, *lines, "{control}");
    }
}

#[test]
fn a_slow_monitor_is_cut() {
    let server = start("slow-monitor", &["--client-output-buffer-limit", "pubsub 2mb 0 0"]);
    let (mut monitor, mut client) = (server.client(), server.client());
    assert_eq!(call(&mut monitor, "MONITOR"), "+OK");
    let text = "x".repeat(10_000);
    let mut rounds = 0;
    wait_for("it is cut", || {
        for _ in 0..50 {
            client.call(&["SET", "a", &text]);
        }
        rounds += 1;
        assert!(rounds < 2000);
        info(&mut client, "client_output_buffer_limit_disconnections") == 1
    });
    assert!(monitor.read_to_close().unwrap().len() > 10_000);
    assert!(!client.text(&["CLIENT", "LIST"]).contains("flags=O"));
}

/// How long others on the one worker had to wait for an answer while this was run.
fn held_up(server: &Server, client: &mut Client, words: &[String]) -> (String, Duration) {
    let mut other = server.client();
    client.queue(words);
    client.flush().unwrap();
    client.set_patience(Duration::from_millis(1)).unwrap();
    let mut longest = Duration::ZERO;
    while !client.stream().peek(&mut [0]).is_ok_and(|bytes| bytes > 0) {
        let started = Instant::now();
        assert_eq!(call(&mut other, "PING"), "+PONG");
        longest = longest.max(started.elapsed());
    }
    client.set_patience(support::client::PATIENCE).unwrap();
    (read(client), longest)
}

#[test]
fn the_empty_prefix_overlaps_with_every_other() {
    for server in servers("empty-prefix") {
        let mut client = server.client();
        assert!(!call(&mut client, "HELLO 3").starts_with('-'));
        assert_eq!(call(&mut client, "CLIENT TRACKING ON BCAST PREFIX a"), "+OK");
        // Without a prefix: all keys, whatever there is already.
        assert_eq!(call(&mut client, "CLIENT TRACKING ON BCAST"), "+OK");
        for prefix in ["b", "ab", "a"] {
            let answer = call(&mut client, &format!("CLIENT TRACKING ON BCAST PREFIX {prefix}"));
            let expected = format!("-ERR Prefix \\'{prefix}\\' overlaps with an existing prefix \\'\\'.");
            assert!(answer.starts_with(&expected), "{answer}");
        }
    }
}

#[test]
fn many_prefixes_hold_nobody_up() {
    let server = start("prefixes", &["--workers", "1"]);
    let mut reader = resp3(&server);
    let request = |numbers: std::ops::Range<u32>, last: &str| -> Vec<String> {
        let mut words: Vec<String> = ["CLIENT", "TRACKING", "on", "BCAST"].map(String::from).into();
        let prefixes = numbers.map(|number| format!("prefix:{number:06}")).chain([last.to_string()]);
        words.extend(prefixes.flat_map(|prefix| ["PREFIX".to_string(), prefix]));
        words
    };
    let error = |prefix: &str, kind: &str, other: &str| {
        format!(
            "-ERR Prefix \\'{prefix}\\' overlaps with {kind} \\'{other}\\'. Prefixes for a single client must not overlap."
        )
    };
    let half = 40_000;
    for (words, expected) in [
        (request(0..half, "prefix:00777"), error("prefix:007770", "another provided prefix", "prefix:00777")),
        (request(0..half, "x"), "+OK".to_string()),
        (request(half..2 * half, "xy"), error("xy", "an existing prefix", "x")),
        (request(half..2 * half, ""), error("prefix:040000", "another provided prefix", "")),
        (request(half..2 * half, "z"), "+OK".to_string()),
    ] {
        let (reply, longest) = held_up(&server, &mut reader, &words);
        assert_eq!(reply, expected);
        assert!(longest < Duration::from_secs(2), "others waited for {longest:?}");
    }
    let mut admin = server.client();
    assert_eq!(info(&mut admin, "tracking_total_prefixes"), u64::from(2 * half + 2));
    let list = admin.text(&["CLIENT", "LIST"]);
    let of = |client: &str, name: &str| -> u64 {
        let line = list.lines().find(|line| line.contains(client)).unwrap();
        let value = line.split(' ').find_map(|word| word.strip_prefix(name)).unwrap();
        value.parse().unwrap()
    };
    let bytes = of(" flags=tB ", "tot-mem=");
    assert!((u64::from(2 * half) * 173..u64::from(2 * half) * 300).contains(&bytes), "{bytes}");
    call(&mut admin, "SET prefix:012345:x 1");
    assert_eq!(read(&mut reader), ">[$invalidate, *[$prefix:012345:x]]");
    assert_eq!(call(&mut reader, "CLIENT TRACKING off"), "+OK");
    assert_eq!(info(&mut admin, "tracking_total_prefixes"), 0);
}

/// CLIENT CACHING is for the command behind it, however long that waits.
#[test]
fn what_was_waited_for_is_remembered_as_was_asked() {
    let server = start("waits-caching", &[]);
    for (mode, caching, told) in [
        ("OPTIN", Some("YES"), true),
        ("OPTIN", None, false),
        ("OPTOUT", Some("NO"), false),
        ("OPTOUT", None, true),
    ] {
        let (mut reader, mut writer) = (resp3(&server), server.client());
        call(&mut reader, &format!("CLIENT TRACKING on {mode}"));
        if let Some(word) = caching {
            assert_eq!(call(&mut reader, &format!("CLIENT CACHING {word}")), "+OK");
        }
        reader.queue(&["XREAD", "BLOCK", "0", "STREAMS", "s", "$"]);
        reader.flush().unwrap();
        wait_for("the wait", || info(&mut writer, "blocked_clients") == 1);
        call(&mut writer, "XADD s * f v");
        let invalidation = ">[$invalidate, *[$s]]";
        // That there is more than when it began to wait is told of before or behind the reply.
        let mut first: Vec<String> = (0..1 + usize::from(told)).map(|_| read(&mut reader)).collect();
        first.retain(|came| came != invalidation);
        assert!(
            matches!(&first[..], [reply] if reply.starts_with("%{$s: ")),
            "{mode} {caching:?}: {first:?}"
        );
        call(&mut writer, "XADD s * f v");
        if told {
            assert_eq!(read(&mut reader), invalidation, "{mode} {caching:?}");
        }
        nothing_comes(&mut reader);
    }
}
