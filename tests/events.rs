//! Keyspace events, from outside: for random commands the events that Redis tells, in its order; those of expiry; and what a
//! transaction tells, once.
//!
//! The random part sends each command to ours and to the controls, and behind it a message on a channel of its own; what a listener
//! hears before that message is what the command told. `HAYPILE_EVENTS_COMMANDS` prolongs it, `HAYPILE_EVENTS_SEED` repeats its draws.
#![expect(
    clippy::disallowed_methods,
    reason = "a test outside the server reads clocks and starts threads as any program"
)]

#[expect(dead_code, reason = "each test binary takes its part of what they share")]
mod support;

#[path = "differential/generator.rs"]
#[expect(dead_code, reason = "a part of what is drawn is sent here")]
mod generator;

use generator::{Action, Generator, Step};
use haypile_resp::Value;
use std::collections::BTreeMap;
use support::client::{Client, bulk, render, render_command};
use support::program::{Family, Program};
use support::random::{count_from, seed_from};
use support::server::Server;

/// Commands that would change the connection, or the server, under the test.
const LEFT_OUT: &[&str] = &[
    "reset",
    "quit",
    "hello",
    "client",
    "auth",
    "debug",
    "shutdown",
    "config",
    "multi",
    "exec",
    "discard",
    "subscribe",
    "psubscribe",
    "monitor",
    "publish",
    "acl",
    "save",
    "bgsave",
    "failover",
    "sync",
    "psync",
    "wait",
    "waitaof",
];

/// A server, a connection that sends, and one that listens.
struct Peer {
    server: Server,
    series: String,
    client: Client,
    listener: Client,
    marks: u64,
}

impl Peer {
    fn start(name: &str, program: Program, classes: &str, options: &[&str]) -> Peer {
        let series = program.series();
        let mut flags = vec!["--notify-keyspace-events", classes];
        if program.family == Family::Haypile {
            flags.extend(["--memory-budget", "64mb", "--workers", "3"]);
            flags.extend(options);
        }
        let server = Server::start_program(name, program, &flags);
        let (client, mut listener) = (server.client(), server.client());
        listener.call(&["HELLO", "3"]);
        listener.call(&["PSUBSCRIBE", "__key*__:*"]);
        listener.call(&["SUBSCRIBE", "mark"]);
        Peer { server, series, client, listener, marks: 0 }
    }

    /// What was told since the last time, as `channel payload`.
    fn heard(&mut self) -> Vec<String> {
        self.marks += 1;
        let mark = self.marks.to_string();
        self.client.call(&["PUBLISH", "mark", &mark]);
        let mut heard = Vec::new();
        loop {
            let Value::Push(parts) = self.listener.read().unwrap() else { panic!("no push") };
            let texts: Vec<&[u8]> = parts.iter().map(|part| bulk(part).unwrap()).collect();
            match texts[..] {
                [b"message", b"mark", text] if text == mark.as_bytes() => return heard,
                [b"pmessage", _, channel, payload] => {
                    heard.push(format!("{} {}", channel.escape_ascii(), payload.escape_ascii()));
                }
                _ => panic!("{}", parts.iter().map(render).collect::<String>()),
            }
        }
    }
}

fn peers(name: &str, classes: &str, options: &[&str]) -> Vec<Peer> {
    let mut peers = vec![Peer::start(&format!("events-{name}"), Program::under_test(), classes, options)];
    for control in Program::controls() {
        let name = format!("events-{name}-control-{}", control.series());
        peers.push(Peer::start(&name, control, classes, &[]));
    }
    peers
}

/// What a control tells otherwise, and why.
fn is_meant(series: &str, name: &str) -> bool {
    match name {
        // Until 7.2 it told of its consumer only once there was something for it.
        "xreadgroup" => series == "7.0",
        // It looks for the key before it reads its options, of which one is wrong.
        "xautoclaim" => true,
        _ => false,
    }
}

fn compare_streams(name: &str, classes: &str, salt: u64, options: &[&str]) {
    let mut peers = peers(name, classes, options);
    if peers.len() == 1 {
        return;
    }
    let seed = seed_from("HAYPILE_EVENTS_SEED");
    eprintln!("HAYPILE_EVENTS_SEED={seed} ({name})");
    let mut generator = Generator::new(seed.wrapping_add(salt), false);
    let wanted = count_from("HAYPILE_EVENTS_COMMANDS", 5000);
    let mut sent = 0;
    let mut told = 0;
    let mut differences: BTreeMap<String, (u64, String)> = BTreeMap::new();
    let mut history: Vec<String> = Vec::new();
    while sent < wanted {
        let (steps, together) = match generator.action() {
            Action::Batch(steps) => (steps, false),
            Action::Transaction(steps) => (steps, true),
            _ => continue,
        };
        let mut steps: Vec<Step> = steps;
        steps.retain(|step| {
            let name = String::from_utf8_lossy(&step.command[0]).to_lowercase();
            !LEFT_OUT.contains(&name.as_str())
        });
        let groups: Vec<Vec<Step>> =
            if together { vec![steps] } else { steps.into_iter().map(|step| vec![step]).collect() };
        for group in groups.into_iter().filter(|group| !group.is_empty()) {
            sent += group.len() as u64;
            let mut answers = Vec::new();
            for peer in &mut peers {
                let mut count = group.len();
                if together {
                    peer.client.queue(&["MULTI"]);
                    count += 2;
                }
                group.iter().for_each(|step| peer.client.queue(&step.command));
                if together {
                    peer.client.queue(&["EXEC"]);
                }
                peer.client.flush().unwrap();
                let replies: Vec<String> = (0..count).map(|_| render(&peer.client.read().unwrap())).collect();
                answers.push((replies, peer.heard()));
            }
            let text = group.iter().map(|step| render_command(&step.command)).collect::<Vec<_>>().join("; ");
            let name = String::from_utf8_lossy(&group[0].command[0]).to_lowercase();
            told += answers[0].1.len();
            let mut same_state = true;
            // What expires at once is told of at once by ours, and when it is next looked at by Redis.
            let is_expired = |event: &String| event.contains(":expired ") || event.ends_with(" expired");
            for (_, heard) in &mut answers {
                same_state &= !heard.iter().any(is_expired);
                heard.retain(|event| !is_expired(event));
            }
            for (peer, (replies, heard)) in peers.iter().zip(&answers).skip(1) {
                if *replies != answers[0].0 {
                    // Chance, clocks, versions: no reason to tell the same.
                    same_state = false;
                    continue;
                }
                if *heard == answers[0].1 || is_meant(&peer.series, &name) {
                    continue;
                }
                same_state = false;
                let class = if group.len() > 1 { "several".to_string() } else { name.clone() };
                let entry = differences.entry(format!("{class} {}", peer.series)).or_default();
                entry.0 += 1;
                if entry.0 == 1 {
                    let tail = history.len().saturating_sub(6);
                    entry.1 = format!(
                        "{text}\n  {} {heard:?}\n  ours {:?}\n  reply {replies:?}\n  before it {:?}",
                        peer.series,
                        answers[0].1,
                        &history[tail..]
                    );
                }
            }
            history.push(text);
            if !same_state {
                for peer in &mut peers {
                    peer.client = peer.server.client();
                    peer.client.call(&["FLUSHALL"]);
                    peer.heard();
                }
                history.clear();
            }
        }
    }
    for (class, (count, text)) in &differences {
        eprintln!("DIFFERENCE {class} ({count} times): {text}\n");
    }
    assert!(told > sent as usize / 4, "{told} events of {sent} commands");
    assert!(differences.is_empty(), "{:?} (HAYPILE_EVENTS_SEED={seed})", differences.keys());
}

#[test]
fn random_commands_tell_what_redis_tells() {
    compare_streams("random", "KEAn", 0, &[]);
}

#[test]
fn misses_are_told_of_as_redis_tells() {
    compare_streams("misses", "EAm", 2, &[]);
}

#[test]
fn collections_that_are_not_packed_tell_the_same() {
    compare_streams("large", "EAn", 1, &["--packed-max-elements", "0"]);
}

/// Servers to be told the same by: ours and 7.4 and later, one peer each.
fn scripted(name: &str, classes: &str) -> Vec<Peer> {
    let mut peers = peers(name, classes, &[]);
    peers.retain(|peer| !peer.series.starts_with("7.0"));
    peers
}

fn call(peer: &mut Peer, line: &str) -> String {
    render(&peer.client.call(&line.split(' ').collect::<Vec<_>>()))
}

/// Reads what is told until this comes; fails if something else does.
fn expect(peer: &mut Peer, wanted: &[&str]) {
    let mut heard = Vec::new();
    for _ in 0..400 {
        heard.extend(peer.heard());
        if heard.len() >= wanted.len() {
            break;
        }
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    assert_eq!(heard, wanted, "{}", peer.series);
}

#[test]
fn what_expires_is_told_of_in_time() {
    for peer in &mut scripted("expiry", "EA") {
        for line in ["SET a 1 PX 30", "SET b 1 PX 60", "RPUSH c 1", "PEXPIRE c 90"] {
            call(peer, line);
        }
        let told = [
            "__keyevent@0__:set a",
            "__keyevent@0__:expire a",
            "__keyevent@0__:set b",
            "__keyevent@0__:expire b",
            "__keyevent@0__:rpush c",
            "__keyevent@0__:expire c",
        ];
        let gone = ["__keyevent@0__:expired a", "__keyevent@0__:expired b", "__keyevent@0__:expired c"];
        let mut heard = Vec::new();
        let begun = std::time::Instant::now();
        while heard.len() < 9 {
            assert!(begun.elapsed().as_secs() < 10, "{heard:?}");
            heard.extend(peer.heard());
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
        assert!(begun.elapsed().as_millis() < 1500, "far from its time");
        assert_eq!(heard[..6], told, "{}", peer.series);
        heard[6..].sort();
        assert_eq!(heard[6..], gone, "{}", peer.series);
        // A write over what has expired tells of it first.
        call(peer, "DEBUG SET-ACTIVE-EXPIRE 0");
        call(peer, "SET a 1 PX 20");
        std::thread::sleep(std::time::Duration::from_millis(40));
        call(peer, "LPUSH a x");
        expect(
            peer,
            &[
                "__keyevent@0__:set a",
                "__keyevent@0__:expire a",
                "__keyevent@0__:expired a",
                "__keyevent@0__:lpush a",
            ],
        );
        // A read finds it out, too.
        call(peer, "SET a 1 PX 20");
        std::thread::sleep(std::time::Duration::from_millis(40));
        assert_eq!(call(peer, "GET a"), "(nil)");
        expect(peer, &["__keyevent@0__:set a", "__keyevent@0__:expire a", "__keyevent@0__:expired a"]);
        call(peer, "DEBUG SET-ACTIVE-EXPIRE 1");
        // Fields of hashes.
        call(peer, "HSET h a 1 b 2");
        call(peer, "HPEXPIRE h 20 FIELDS 1 a");
        let told = ["__keyevent@0__:hset h", "__keyevent@0__:hexpire h", "__keyevent@0__:hexpired h"];
        expect(peer, &told);
        call(peer, "HPEXPIRE h 20 FIELDS 1 b");
        let told = ["__keyevent@0__:hexpire h", "__keyevent@0__:hexpired h", "__keyevent@0__:del h"];
        expect(peer, &told);
        for line in [
            "HSET h a 1 b 2",
            "HPEXPIRE h 0 FIELDS 1 a",
            "HEXPIRE h 1000 FIELDS 1 b",
            "HPERSIST h FIELDS 1 b",
        ] {
            call(peer, line);
        }
        let told = [
            "__keyevent@0__:hset h",
            "__keyevent@0__:hdel h",
            "__keyevent@0__:hexpire h",
            "__keyevent@0__:hpersist h",
        ];
        expect(peer, &told);
        call(peer, "HPEXPIRE h 0 FIELDS 1 b");
        expect(peer, &["__keyevent@0__:hdel h", "__keyevent@0__:del h"]);
    }
}

/// Commands, and by how much they move `keyspace_hits` and `keyspace_misses` in Redis 8.
const LOOKS: &[(&str, u64, u64)] = &[
    ("HTTL none FIELDS 2 a b", 0, 1),
    ("HEXPIRE none 10 FIELDS 1 a", 0, 0),
    ("HPERSIST none FIELDS 1 a", 0, 0),
    ("HGETDEL none FIELDS 1 a", 0, 0),
    ("HGETEX none FIELDS 1 a", 0, 0),
    ("HTTL hash FIELDS 2 a b", 1, 0),
    ("HEXPIRE hash 10 FIELDS 1 a", 0, 0),
    ("HPERSIST hash FIELDS 1 a", 0, 0),
    ("HGETEX hash EX 10 FIELDS 1 a", 0, 0),
    ("HGETDEL hash FIELDS 1 a", 0, 0),
    ("GET hash", 1, 0),
    ("HGET text f", 1, 0),
    ("LPUSH text a", 0, 0),
    ("COPY none other", 0, 1),
    ("COPY text other", 1, 0),
    ("GETEX none", 0, 1),
    ("GETEX text", 1, 0),
    ("GETDEL none", 0, 1),
    ("GETDEL text", 1, 0),
    ("GETSET new x", 0, 1),
    ("GETSET new y", 1, 0),
    ("SET newer x GET", 0, 1),
    ("SET newer y GET", 1, 0),
    ("XACK none g 1-1", 0, 1),
    ("XACK stream g 1-1", 1, 0),
    ("XACK stream no-group 1-1", 1, 0),
    ("XCLAIM none g c 0 1-1", 0, 1),
    ("XAUTOCLAIM stream g c 0 0", 1, 0),
    ("XREADGROUP GROUP g c STREAMS none >", 0, 1),
    ("MEMORY USAGE stream", 0, 0),
    ("MEMORY USAGE none", 0, 0),
    ("XGROUP SETID stream g 0", 0, 0),
    ("XGROUP DESTROY none g", 0, 0),
    ("XGROUP CREATECONSUMER stream g z", 0, 0),
    ("XGROUP CREATE stream g9 0", 0, 0),
    ("XGROUP DELCONSUMER stream g z", 0, 0),
    ("HSCAN hash 0", 1, 0),
    ("OBJECT ENCODING list", 1, 0),
];

#[test]
fn hits_and_misses_are_counted_as_in_redis() {
    let counted = |peer: &mut Peer| {
        let info = peer.client.call(&["INFO", "stats"]);
        let info = String::from_utf8(bulk(&info).unwrap().to_vec()).unwrap();
        ["keyspace_hits:", "keyspace_misses:"].map(|name| {
            let line = info.lines().find_map(|line| line.strip_prefix(name)).unwrap();
            line.trim().parse::<u64>().unwrap()
        })
    };
    for peer in &mut peers("looks", "EAm", &[]) {
        if peer.series.starts_with('7') {
            continue;
        }
        for line in [
            "HSET hash a 1 b 2",
            "SET text v",
            "RPUSH list a",
            "XADD stream 1-1 a b",
            "XGROUP CREATE stream g 0",
            "XREADGROUP GROUP g c STREAMS stream >",
        ] {
            call(peer, line);
        }
        peer.heard();
        for (line, hits, misses) in LOOKS {
            let before = counted(peer);
            call(peer, line);
            let after = counted(peer);
            let moved = [after[0] - before[0], after[1] - before[1]];
            assert_eq!(moved, [*hits, *misses], "{line} ({})", peer.series);
            let told = peer.heard().iter().filter(|event| event.contains(":keymiss ")).count();
            assert_eq!(told as u64, *misses, "{line} ({})", peer.series);
        }
    }
}

#[test]
fn expired_fields_are_told_of_once_and_by_what_removes_them() {
    let mut peers = scripted("fields", "EA");
    let peer = &mut peers[0];
    call(peer, "DEBUG SET-ACTIVE-EXPIRE 0");
    for line in ["HSET h a 1 b 2", "HPEXPIRE h 1 FIELDS 1 a"] {
        call(peer, line);
    }
    expect(peer, &["__keyevent@0__:hset h", "__keyevent@0__:hexpire h"]);
    std::thread::sleep(std::time::Duration::from_millis(10));
    // These change nothing, and so remove nothing.
    for line in ["HDEL h a", "HDEL h none", "HSETNX h b 3", "HEXPIRE h 9 FIELDS 1 a"] {
        call(peer, line);
    }
    assert_eq!(call(peer, "HLEN h"), ":2");
    expect(peer, &[]);
    assert_eq!(call(peer, "HSET h b 4"), ":0");
    assert_eq!(call(peer, "HLEN h"), ":1");
    call(peer, "HSET h b 5");
    let told = ["__keyevent@0__:hexpired h", "__keyevent@0__:hset h", "__keyevent@0__:hset h"];
    expect(peer, &told);
}

#[test]
fn a_hash_that_only_passes_by_is_told_of() {
    for peer in &mut scripted("hsetex", "EA") {
        if peer.series.starts_with('7') && peer.server.family() == Family::Redis {
            continue;
        }
        let arity = "-ERR wrong number of arguments for \\'hsetex\\' command";
        assert_eq!(call(peer, "HSETEX h FXX FIELDS x v"), arity);
        assert_eq!(call(peer, "HSETEX h FIELDS x v w"), "-ERR invalid number of fields");
        assert_eq!(call(peer, "HSETEX h PXAT 1 FIELDS 2 a 1 b 2"), ":1");
        expect(peer, &["__keyevent@0__:hset h", "__keyevent@0__:hdel h", "__keyevent@0__:del h"]);
    }
}

#[test]
fn a_transaction_tells_once_and_what_failed_tells_nothing() {
    for peer in &mut scripted("multi", "KA") {
        for line in
            ["MULTI", "SET s x", "LPUSH s 1", "INCR s", "RPUSH l 1", "LPOP l", "PUBLISH mark 0", "EXEC"]
        {
            call(peer, line);
        }
        peer.listener.set_patience(std::time::Duration::from_secs(10)).unwrap();
        let mut heard = Vec::new();
        while heard.len() < 5 {
            let Value::Push(parts) = peer.listener.read().unwrap() else { panic!("no push") };
            heard.push(parts.iter().rev().take(2).map(render).collect::<Vec<_>>().join(" "));
        }
        let wanted = [
            "$set $__keyspace@0__:s",
            "$rpush $__keyspace@0__:l",
            "$lpop $__keyspace@0__:l",
            "$del $__keyspace@0__:l",
            "$0 $mark",
        ];
        assert_eq!(heard, wanted, "{}", peer.series);
        // One that is served has told as if it came then.
        let mut waiter = peer.server.client();
        waiter.queue(&["BLMOVE", "from", "to", "LEFT", "RIGHT", "0"]);
        waiter.flush().unwrap();
        support::server::wait_for("it waits", || {
            peer.client.text(&["INFO", "clients"]).contains("blocked_clients:1")
        });
        call(peer, "RPUSH from 1");
        assert_eq!(render(&waiter.read().unwrap()), "$1");
        let told = [
            "__keyspace@0__:from rpush",
            "__keyspace@0__:to rpush",
            "__keyspace@0__:from lpop",
            "__keyspace@0__:from del",
        ];
        expect(peer, &told);
        // Off is off, at once.
        call(peer, "CONFIG SET notify-keyspace-events KEx");
        call(peer, "SET s x");
        expect(peer, &[]);
    }
}
