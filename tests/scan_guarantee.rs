//! What SCAN, HSCAN, SSCAN and ZSCAN promise: whatever is there from the beginning of a walk to its end is named at least once, while
//! others write and delete around it, compactions move it, and the server is killed in the middle. Cursors stay below 2^53, since clients
//! read them as doubles.
#![expect(
    clippy::disallowed_methods,
    reason = "a test outside the server reads clocks and starts threads as any program"
)]

#[expect(dead_code, reason = "each test binary takes its part of what they share")]
mod support;

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use support::client::{Client, render, scan_reply};
use support::random::{Random, seed_from};
use support::server::Server;

/// Elements that stay.
const STAY: usize = 5_000;
/// Names that come and go between them.
const COME_AND_GO: u64 = 5_000;
const KINDS: [&str; 4] = ["keys", "hash", "set", "zset"];

fn staying(number: usize) -> String {
    format!("e:{:07}:stays", number * 7)
}

fn passing(number: u64) -> String {
    format!("e:{:07}:goes", number * 7)
}

/// A command that adds an element, or takes it away.
fn change(kind: &str, element: &str, add: bool) -> Vec<String> {
    let words: &[&str] = match (kind, add) {
        ("keys", true) => &["SET", element, "v"],
        ("keys", false) => &["DEL", element],
        ("hash", true) => &["HSET", "hash", element, "v"],
        ("hash", false) => &["HDEL", "hash", element],
        ("set", true) => &["SADD", "set", element],
        ("set", false) => &["SREM", "set", element],
        (_, true) => &["ZADD", "zset", "1", element],
        (_, false) => &["ZREM", "zset", element],
    };
    words.iter().map(ToString::to_string).collect()
}

/// Until told to stop, or the server is gone.
fn disturb(mut client: Client, mut random: Random, stop: &AtomicBool) {
    while !stop.load(Ordering::Relaxed) {
        for _ in 0..50 {
            let kind = KINDS[random.below(4) as usize];
            let element = passing(random.below(COME_AND_GO));
            client.queue(&change(kind, &element, random.below(2) == 0));
        }
        if client.flush().is_err() || (0..50).any(|_| client.read().is_err()) {
            return;
        }
    }
}

/// One page: the elements named, and where to go on.
fn page(client: &mut Client, kind: &str, cursor: &str, count: &str) -> (Vec<Vec<u8>>, String) {
    let words: &[&str] = match kind {
        "keys" => &["SCAN", cursor, "COUNT", count],
        "hash" => &["HSCAN", "hash", cursor, "COUNT", count],
        "set" => &["SSCAN", "set", cursor, "COUNT", count],
        _ => &["ZSCAN", "zset", cursor, "COUNT", count],
    };
    let reply = client.call(words);
    let Some((next, named)) = scan_reply(&reply) else { panic!("{words:?}: {}", render(&reply)) };
    let next = String::from_utf8(next).unwrap();
    assert!(next.parse::<u64>().unwrap() < 1 << 53, "{words:?}: cursor {next}");
    // Of pairs the first counts.
    let step = if matches!(kind, "hash" | "zset") { 2 } else { 1 };
    (named.into_iter().step_by(step).collect(), next)
}

#[test]
fn what_stays_is_named() {
    let seed = seed_from("HAYPILE_SCAN_SEED");
    eprintln!("HAYPILE_SCAN_SEED={seed}");
    let mut random = Random::new(seed);
    let flags = ["--memory-budget", "16mb", "--workers", "2", "--enable-debug-command", "yes"];
    let mut server = Server::start("scan-guarantee", &flags);
    let mut client = server.client();
    for kind in KINDS {
        (0..STAY).for_each(|number| client.queue(&change(kind, &staying(number), true)));
        client.flush().unwrap();
        (0..STAY).for_each(|_| assert!(!render(&client.read().unwrap()).starts_with('-')));
    }
    // In the middle of the second walk of each kind the server is killed, in the third it is ended and started again.
    for (kind, round) in KINDS.iter().flat_map(|kind| (0..3).map(move |round| (*kind, round))) {
        let mut named = BTreeSet::new();
        let (mut cursor, mut pages, mut goes_on) = ("0".to_owned(), 0, true);
        while goes_on {
            let stop = AtomicBool::new(false);
            let mut client = server.client();
            let until = if round > 0 && pages == 0 { 20 + random.below(40) } else { u64::MAX };
            std::thread::scope(|scope| {
                for _ in 0..2 {
                    let (other, random) = (server.client(), Random::new(random.next()));
                    let stop = &stop;
                    scope.spawn(move || disturb(other, random, stop));
                }
                while pages < until {
                    let count = (10 + random.below(50)).to_string();
                    let (elements, next) = page(&mut client, kind, &cursor, &count);
                    named.extend(elements);
                    (cursor, pages) = (next, pages + 1);
                    if cursor == "0" {
                        goes_on = false;
                        break;
                    }
                    if pages % 40 == 0 {
                        assert_eq!(render(&client.call(&["COMPACT"])), "+OK");
                    }
                }
                stop.store(true, Ordering::Relaxed);
            });
            if goes_on {
                match round {
                    1 => server.kill(),
                    _ => {
                        server.terminate();
                        assert!(server.wait_exit().success());
                    }
                }
                server.restart();
            }
        }
        assert!(pages > 60, "{kind}: {pages} pages");
        for number in 0..STAY {
            let element = staying(number);
            assert!(named.contains(element.as_bytes()), "{kind}, round {round}: {element} was not named");
        }
    }
}
