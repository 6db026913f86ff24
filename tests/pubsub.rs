//! Publish and subscribe, from outside: order across workers, confirmations, what a listener may run, slow subscribers, and that
//! nothing of a client is left when it has gone.
//!
//! The scripted parts run against redis-server as well, where there is one, so that they say what Redis does.
#![expect(
    clippy::disallowed_methods,
    reason = "a test outside the server reads clocks and starts threads as any program"
)]

#[expect(dead_code, reason = "each test binary takes its part of what they share")]
mod support;

use haypile_resp::Value;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;
use support::client::{Client, render};
use support::program::{Family, Program};
use support::random::Random;
use support::server::{Server, wait_for};

fn start(name: &str, flags: &[&str]) -> Server {
    let own = ["--memory-budget", "64mb", "--workers", "4"];
    Server::start(&format!("pubsub-{name}"), &[&own, flags].concat())
}

fn servers(name: &str) -> Vec<Server> {
    let mut servers = vec![start(name, &[])];
    for redis in Program::controls() {
        // What is checked here is as since 7.2: a push to the one who publishes comes behind the reply.
        if redis.series() != "7.0" {
            servers.push(Server::start_program(
                &format!("pubsub-{name}-control-{}", redis.series()),
                redis,
                &[],
            ));
        }
    }
    servers
}

fn words(line: &str) -> Vec<&str> {
    line.split(' ').collect()
}

fn call(client: &mut Client, line: &str) -> String {
    render(&client.call(&words(line)))
}

fn read(client: &mut Client) -> String {
    render(&client.read().unwrap())
}

fn info(client: &mut Client, field: &str) -> u64 {
    let info = client.text(&["INFO"]);
    let line = info.lines().find(|line| line.starts_with(&format!("{field}:"))).unwrap();
    line.trim_end().rsplit(':').next().unwrap().parse().unwrap()
}

#[test]
fn a_message_of_a_transaction_comes_to_who_was_subscribed_when_it_was_published() {
    for server in servers("own") {
        let (mut two, mut three) = (server.client(), server.client());
        for line in ["MULTI", "PUBLISH a x", "SUBSCRIBE a", "PUBLISH a y", "SSUBSCRIBE a"] {
            call(&mut two, line);
        }
        let refused = "-ERR SSUBSCRIBE isn\\'t allowed for a DENY BLOCKING client";
        assert_eq!(call(&mut two, "EXEC"), format!("*[:0, *[$subscribe, $a, :1], :1, {refused}]"));
        assert_eq!(read(&mut two), "*[$message, $a, $y]");
        assert!(
            call(&mut two, "EXEC")
                .starts_with("-EXECABORT Transaction discarded because of: Can\\'t execute")
        );
        call(&mut three, "HELLO 3");
        call(&mut three, "SUBSCRIBE a");
        call(&mut three, "PSUBSCRIBE ?");
        for line in ["MULTI", "PUBLISH a x", "UNSUBSCRIBE a", "PUNSUBSCRIBE", "PUBLISH a y", "EXEC"] {
            call(&mut three, line);
        }
        assert_eq!(read(&mut three), ">[$message, $a, $x]");
        assert_eq!(read(&mut three), ">[$pmessage, $?, $a, $x]");
        assert_eq!(call(&mut three, "PING"), "+PONG");
        assert_eq!([read(&mut two), read(&mut two)], ["*[$message, $a, $x]", "*[$message, $a, $y]"]);
    }
}

#[test]
fn the_words_of_both_protocols() {
    for server in servers("words") {
        let (mut two, mut three, mut admin) = (server.client(), server.client(), server.client());
        call(&mut three, "HELLO 3");
        assert_eq!(call(&mut two, "SUBSCRIBE a b a"), "*[$subscribe, $a, :1]");
        assert_eq!(
            (read(&mut two), read(&mut two)),
            ("*[$subscribe, $b, :2]".into(), "*[$subscribe, $a, :2]".into())
        );
        assert_eq!(call(&mut two, "PSUBSCRIBE a*"), "*[$psubscribe, $a*, :3]");
        assert_eq!(call(&mut two, "SSUBSCRIBE a"), "*[$ssubscribe, $a, :1]");
        assert_eq!(call(&mut three, "PSUBSCRIBE ?"), ">[$psubscribe, $?, :1]");
        assert_eq!(call(&mut admin, "PUBLISH a text"), ":3");
        assert_eq!(read(&mut two), "*[$message, $a, $text]");
        assert_eq!(read(&mut two), "*[$pmessage, $a*, $a, $text]");
        assert_eq!(read(&mut three), ">[$pmessage, $?, $a, $text]");
        assert_eq!(call(&mut admin, "SPUBLISH a text"), ":1");
        assert_eq!(read(&mut two), "*[$smessage, $a, $text]");
        assert_eq!(call(&mut admin, "PUBSUB NUMSUB a b c"), "*[$a, :1, $b, :1, $c, :0]");
        assert_eq!(call(&mut admin, "PUBSUB SHARDNUMSUB a b"), "*[$a, :1, $b, :0]");
        assert_eq!(call(&mut admin, "PUBSUB NUMPAT"), ":2");
        assert_eq!(call(&mut admin, "PUBSUB CHANNELS b*"), "*[$b]");
        assert_eq!(call(&mut admin, "PUBSUB SHARDCHANNELS"), "*[$a]");
        for field in ["pubsub_channels", "pubsub_patterns", "pubsub_clients"] {
            if server.family() == Family::Haypile || field != "pubsub_clients" {
                assert_eq!(info(&mut admin, field), 2, "{field}");
            }
        }
        assert_eq!(info(&mut admin, "pubsubshard_channels"), 1);
        let list = admin.text(&["CLIENT", "LIST", "TYPE", "PUBSUB"]);
        assert_eq!(list.lines().count(), 2);
        assert!(list.contains(" flags=P db=0 sub=2 psub=1 ssub=1 "), "{list}");
        // What a listener may run, by protocol.
        for line in ["GET k", "CLIENT ID", "HELLO 3", "PUBLISH a b"] {
            let name = line.split(' ').next().unwrap().to_lowercase();
            let reply = call(&mut two, line);
            assert!(
                reply.starts_with("-ERR Can")
                    && reply.contains(": only (P|S)SUBSCRIBE")
                    && reply.contains(&name),
                "{reply}"
            );
        }
        assert_eq!(call(&mut two, "PING"), "*[$pong, $\"\"]");
        assert_eq!(call(&mut two, "PING hi"), "*[$pong, $hi]");
        assert_eq!(call(&mut three, "PING"), "+PONG");
        assert_eq!(call(&mut three, "GET k"), "(nil)");
        // To itself: behind the reply, before the next.
        three.queue(&["PUBLISH", "x", "1"]);
        three.queue(&["ECHO", "next"]);
        three.flush().unwrap();
        assert_eq!(read(&mut three), ":1");
        assert_eq!(read(&mut three), ">[$pmessage, $?, $x, $1]");
        assert_eq!(read(&mut three), "$next");
        // The end of subscriptions.
        assert_eq!(call(&mut two, "UNSUBSCRIBE none"), "*[$unsubscribe, $none, :3]");
        two.queue(&["UNSUBSCRIBE"]);
        two.flush().unwrap();
        let mut ends = [read(&mut two), read(&mut two)];
        ends.iter_mut().for_each(|end| end.truncate(17));
        assert!(ends.iter().all(|end| end.starts_with("*[$unsubscribe, $")), "{ends:?}");
        assert_eq!(call(&mut two, "PUNSUBSCRIBE"), "*[$punsubscribe, $a*, :0]");
        assert_eq!(call(&mut two, "PUNSUBSCRIBE"), "*[$punsubscribe, (nil), :0]");
        assert!(call(&mut two, "GET k").starts_with('-'), "the shard channel is left");
        assert_eq!(call(&mut two, "SUNSUBSCRIBE"), "*[$sunsubscribe, $a, :0]");
        assert_eq!(call(&mut two, "SET k v"), "+OK");
        // RESET ends all.
        call(&mut two, "SUBSCRIBE a");
        assert_eq!(call(&mut two, "RESET"), "+RESET");
        assert_eq!(call(&mut admin, "PUBSUB CHANNELS"), "*[]");
        assert_eq!(call(&mut two, "GET k"), "$v");
        // Confirmations and messages come whatever CLIENT REPLY says.
        two.queue(&["CLIENT", "REPLY", "OFF"]);
        two.queue(&["SET", "k", "w"]);
        two.queue(&["SUBSCRIBE", "a"]);
        two.flush().unwrap();
        assert_eq!(read(&mut two), "*[$subscribe, $a, :1]");
        assert_eq!(call(&mut admin, "PUBLISH a text"), ":2");
        assert_eq!(read(&mut two), "*[$message, $a, $text]");
    }
}

/// Each publisher counts up on a channel and a shard channel; each of many subscribers sees each publisher's numbers without a gap from
/// the first after its confirmation, and finds what the publisher wrote before it published.
#[test]
fn each_publishers_order_is_kept_and_its_writes_are_there() {
    for fsync in ["everysec", "always"] {
        let server = Arc::new(start(&format!("order-{fsync}"), &["--appendfsync", fsync]));
        let rounds: u64 = if fsync == "always" { 100 } else { 2000 };
        let stop = Arc::new(AtomicBool::new(false));
        let mut readers = Vec::new();
        for number in 0..6 {
            let server = Arc::clone(&server);
            let stop = Arc::clone(&stop);
            let mut client = server.client();
            call(&mut client, "HELLO 3");
            let by_pattern = number % 2 == 0;
            match by_pattern {
                true => assert_eq!(call(&mut client, "PSUBSCRIBE chan*"), ">[$psubscribe, $chan*, :1]"),
                false => {
                    client.queue(&["SUBSCRIBE", "channel0", "channel1", "channel2"]);
                    client.flush().unwrap();
                    (0..3).for_each(|_| drop(read(&mut client)));
                }
            }
            readers.push(std::thread::spawn(move || {
                let mut other = server.client();
                let mut last = [0u64; 3];
                while last.iter().any(|last| *last < rounds) {
                    let Value::Push(parts) = client.read().unwrap() else { panic!("no push") };
                    let texts: Vec<String> = parts.iter().rev().take(2).map(render).collect();
                    let publisher: usize = texts[1].trim_start_matches("$channel").parse().unwrap();
                    let number: u64 = texts[0].trim_start_matches('$').parse().unwrap();
                    assert_eq!(number, last[publisher] + 1, "publisher {publisher}");
                    last[publisher] = number;
                    if number.is_multiple_of(7) {
                        let seen = other.text(&["GET", &format!("key{publisher}")]);
                        assert!(seen.parse::<u64>().unwrap() >= number, "{seen} after {number}");
                    }
                }
                assert!(!stop.load(Ordering::Relaxed));
            }));
        }
        let mut publishers = Vec::new();
        for publisher in 0..3 {
            let server = Arc::clone(&server);
            publishers.push(std::thread::spawn(move || {
                let mut client = server.client();
                let mut sent = 0;
                while sent < rounds {
                    let until = (sent + 20).min(rounds);
                    for number in sent + 1..=until {
                        let number = number.to_string();
                        client.queue(&["SET", &format!("key{publisher}"), &number]);
                        client.queue(&["PUBLISH", &format!("channel{publisher}"), &number]);
                    }
                    client.flush().unwrap();
                    for _ in sent..until {
                        assert_eq!(read(&mut client), "+OK");
                        assert_eq!(read(&mut client), ":6");
                    }
                    sent = until;
                }
            }));
        }
        for thread in publishers.into_iter().chain(readers) {
            thread.join().unwrap();
        }
    }
}

#[test]
fn a_confirmation_comes_before_the_first_message() {
    let server = Arc::new(start("confirmation", &[]));
    let stop = Arc::new(AtomicBool::new(false));
    let threads: Vec<_> = (0..2)
        .map(|_| {
            let (server, stop) = (Arc::clone(&server), Arc::clone(&stop));
            std::thread::spawn(move || {
                let mut client = server.client();
                while !stop.load(Ordering::Relaxed) {
                    for _ in 0..50 {
                        client.queue(&["PUBLISH", "c", "x"]);
                    }
                    client.flush().unwrap();
                    (0..50).for_each(|_| drop(client.read().unwrap()));
                }
            })
        })
        .collect();
    for round in 0..200 {
        let mut client = server.client();
        call(&mut client, "HELLO 3");
        client.queue(&["SUBSCRIBE", "c"]);
        client.queue(&["PING", "mark"]);
        client.flush().unwrap();
        assert_eq!(read(&mut client), ">[$subscribe, $c, :1]", "round {round}");
        // Pushes and replies mix from here on, each whole.
        let mut marked = false;
        for _ in 0..3 {
            match read(&mut client).as_str() {
                "$mark" => marked = true,
                ">[$message, $c, $x]" => {}
                other => panic!("{other}"),
            }
        }
        client.queue(&["UNSUBSCRIBE", "c"]);
        client.queue(&["PING", "end"]);
        client.flush().unwrap();
        let mut ended = false;
        loop {
            match read(&mut client).as_str() {
                "$mark" => marked = true,
                ">[$message, $c, $x]" => assert!(!ended, "a message behind the end"),
                ">[$unsubscribe, $c, :0]" => ended = true,
                "$end" => break,
                other => panic!("{other}"),
            }
        }
        assert!(marked && ended);
    }
    stop.store(true, Ordering::Relaxed);
    threads.into_iter().for_each(|thread| thread.join().unwrap());
}

#[test]
fn a_slow_subscriber_is_cut_and_nobody_else() {
    for (name, limit) in [("hard", "pubsub 4mb 0 0"), ("soft", "pubsub 0 1mb 1")] {
        let server = start(&format!("slow-{name}"), &["--client-output-buffer-limit", limit]);
        let (mut slow, mut quick, mut admin) = (server.client(), server.client(), server.client());
        for client in [&mut slow, &mut quick] {
            assert_eq!(call(client, "SUBSCRIBE c"), "*[$subscribe, $c, :1]");
        }
        let text = "x".repeat(10_000);
        let mut rounds = 0;
        wait_for("the slow one is cut", || {
            for _ in 0..20 {
                assert!(admin.integer(&["PUBLISH", "c", &text]) > 0);
                assert!(matches!(quick.read().unwrap(), Value::Array(parts) if parts.len() == 3));
            }
            rounds += 1;
            assert!(rounds < 20_000);
            render(&admin.call(&["PUBSUB", "NUMSUB", "c"])) == "*[$c, :1]"
        });
        assert_eq!(info(&mut admin, "client_output_buffer_limit_disconnections"), 1);
        assert_eq!(info(&mut admin, "pubsub_clients"), 1);
        // It had been sent what fitted; then comes the end.
        assert!(slow.read_to_close().unwrap().len() > 10_000);
        assert_eq!(admin.integer(&["PUBLISH", "c", "last"]), 1);
        assert_eq!(read(&mut quick), "*[$message, $c, $last]");
    }
}

#[test]
fn who_goes_leaves_nothing() {
    let server = Arc::new(start("leaks", &[]));
    let received = Arc::new(AtomicU64::new(0));
    let threads: Vec<_> = (0..4u64)
        .map(|number| {
            let (server, received) = (Arc::clone(&server), Arc::clone(&received));
            std::thread::spawn(move || {
                let mut random = Random::new(number);
                for _ in 0..150 {
                    let mut client = server.client();
                    client.set_patience(Duration::from_millis(20)).unwrap();
                    if random.below(2) == 0 {
                        call(&mut client, "HELLO 3");
                    }
                    for _ in 0..random.below(8) {
                        let name = format!("c{}", random.below(5));
                        let line: Vec<&str> = match random.below(7) {
                            0 => vec!["SUBSCRIBE", &name, "c1"],
                            1 => vec!["PSUBSCRIBE", "c*", &name],
                            2 => vec!["SSUBSCRIBE", &name],
                            3 => vec!["UNSUBSCRIBE"],
                            4 => vec!["PUNSUBSCRIBE", &name],
                            5 => vec!["RESET"],
                            _ => vec!["PUBLISH", &name, "text"],
                        };
                        client.queue(&line);
                    }
                    client.flush().unwrap();
                    if random.below(3) > 0 && client.read().is_ok() {
                        received.fetch_add(1, Ordering::Relaxed);
                    }
                }
            })
        })
        .collect();
    threads.into_iter().for_each(|thread| thread.join().unwrap());
    assert!(received.load(Ordering::Relaxed) > 0);
    let mut admin = server.client();
    wait_for("all have gone", || info(&mut admin, "connected_clients") == 1);
    for field in ["pubsub_channels", "pubsub_patterns", "pubsubshard_channels", "pubsub_clients"] {
        assert_eq!(info(&mut admin, field), 0, "{field}");
    }
    for name in ["c0", "c1", "c2", "c3", "c4"] {
        assert_eq!(admin.integer(&["PUBLISH", name, "x"]) + admin.integer(&["SPUBLISH", name, "x"]), 0);
    }
}

/// What comes while a pool runs a command that changes the protocol is behind its reply, and in the new one.
#[test]
fn a_message_comes_in_the_protocol_of_its_place() {
    let server = start("protocol", &[]);
    let (mut client, mut other) = (server.client(), server.client());
    call(&mut client, "HELLO 3");
    assert_eq!(call(&mut client, "SUBSCRIBE c"), ">[$subscribe, $c, :1]");
    for line in ["MULTI", "DEBUG SLEEP 0.3", "HELLO 2", "EXEC"] {
        client.queue(&words(line));
    }
    client.flush().unwrap();
    (0..3).for_each(|_| drop(read(&mut client)));
    wait_for("the EXEC is under way", || info(&mut other, "engine_commands_on_pools") == 1);
    assert_eq!(call(&mut other, "PUBLISH c m"), ":1");
    assert!(read(&mut client).starts_with("*[+OK, *[$server, "));
    assert_eq!(read(&mut client), "*[$message, $c, $m]");
}
