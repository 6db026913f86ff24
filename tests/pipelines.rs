//! Pipelines of commands that name one key. A worker keeps the lock of the key from one command to the next: none must see that, nor wait
//! for it when the client's turn is over, however that ends.
//!
//! `HAYPILE_PIPELINES_ROUNDS` prolongs the run of many clients, `HAYPILE_PIPELINES_SEED` repeats its draws (when things happen is the
//! machine's).
#![expect(clippy::disallowed_methods, reason = "a test outside the server starts threads as any program")]

#[expect(dead_code, reason = "each test binary takes its part of what they share")]
mod support;

use haypile_resp::Value;
use rustix::process::Signal;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use support::client::{Client, encode, render};
use support::random::{Random, count_from, seed_from};
use support::server::{Server, wait_for};

const COUNTERS: [&str; 2] = ["count:0", "count:1"];
const LISTS: [&str; 2] = ["list:0", "list:1"];

fn start(name: &str, workers: &str) -> Server {
    Server::start(&format!("pipelines-{name}"), &["--memory-budget", "64mb", "--workers", workers])
}

/// How many keys are held and waited for, by DEBUG HELD.
fn locks(client: &mut Client) -> (i64, i64) {
    let Value::Array(pairs) = client.call(&["DEBUG", "HELD"]) else { panic!("DEBUG HELD") };
    let count = |wanted: &str| {
        pairs
            .chunks(2)
            .find_map(|pair| match pair {
                [Value::Bulk(name), Value::Integer(count)] if name == wanted.as_bytes() => Some(*count),
                _ => None,
            })
            .unwrap_or_else(|| panic!("no {wanted} in DEBUG HELD"))
    };
    (count("key_locks"), count("key_locks_waiting"))
}

fn integer(value: &Value) -> i64 {
    match value {
        Value::Integer(number) => *number,
        other => panic!("{}", render(other)),
    }
}

fn text(value: &Value) -> Vec<u8> {
    match value {
        Value::Bulk(text) => text.clone(),
        other => panic!("{}", render(other)),
    }
}

/// What a client of the run saw.
#[derive(Default)]
struct Seen {
    /// What INCR answered, for each counter.
    counts: [Vec<i64>; 2],
    pushed: Vec<Vec<u8>>,
    popped: Vec<Vec<u8>>,
    added: i64,
}

/// One step of a pipeline, as a few commands.
#[derive(Clone, Copy)]
enum Step {
    Count(usize),
    Push(usize),
    Pop(usize),
    Add,
    /// From one list to the other: two keys.
    Move(usize),
    Transaction,
    Read,
    /// Commands that answer with an error: of the wrong type, without enough words, unknown.
    Wrong(usize),
}

fn many(address: SocketAddr, number: u64, rounds: u64, seed: u64) -> Seen {
    let mut random = Random::new(seed.wrapping_add(number));
    let mut client = Client::connect(address).unwrap();
    let mut seen = Seen::default();
    for round in 0..rounds {
        let mut steps = Vec::new();
        for place in 0..1 + random.below(40) {
            // Runs of the same step are what keeps a key.
            let step = match (steps.last(), random.chance(500)) {
                (Some(&last), true) => last,
                _ => match random.below(14) {
                    0..=3 => Step::Count(random.below(2) as usize),
                    4..=6 => Step::Push(random.below(2) as usize),
                    7 | 8 => Step::Pop(random.below(2) as usize),
                    9 => Step::Add,
                    10 => Step::Move(random.below(2) as usize),
                    11 => Step::Transaction,
                    12 => Step::Read,
                    _ => Step::Wrong(random.below(3) as usize),
                },
            };
            match step {
                Step::Count(which) => client.queue(&["INCR", COUNTERS[which]]),
                Step::Push(which) => {
                    let element = format!("{number}:{round}:{place}");
                    client.queue(&["RPUSH", LISTS[which], &element]);
                    seen.pushed.push(element.into_bytes());
                }
                Step::Pop(which) => client.queue(&["LPOP", LISTS[which]]),
                Step::Add => client.queue(&["HINCRBY", "hash", "field", "3"]),
                Step::Move(from) => client.queue(&["LMOVE", LISTS[from], LISTS[1 - from], "LEFT", "RIGHT"]),
                Step::Transaction => {
                    client.queue(&["MULTI"]);
                    client.queue(&["INCR", COUNTERS[1]]);
                    client.queue(&["INCR", COUNTERS[0]]);
                    client.queue(&["EXEC"]);
                }
                Step::Read => client.queue(&["STRLEN", COUNTERS[0]]),
                Step::Wrong(0) => client.queue(&["LPUSH", COUNTERS[0], "element"]),
                Step::Wrong(1) => client.queue(&["INCR"]),
                Step::Wrong(_) => client.queue(&["NOSUCHCOMMAND", COUNTERS[0]]),
            }
            steps.push(step);
        }
        client.flush().unwrap();
        for step in steps {
            let mut read = || client.read().unwrap();
            match step {
                Step::Count(which) => seen.counts[which].push(integer(&read())),
                Step::Push(_) => assert!(integer(&read()) > 0),
                Step::Pop(_) => match read() {
                    Value::Null => {}
                    element => seen.popped.push(text(&element)),
                },
                Step::Add => {
                    assert_eq!(integer(&read()) % 3, 0);
                    seen.added += 3;
                }
                Step::Move(_) => assert!(matches!(read(), Value::Null | Value::Bulk(_))),
                Step::Transaction => {
                    for _ in 0..3 {
                        assert!(matches!(read(), Value::Simple(_)));
                    }
                    let Value::Array(answers) = read() else { panic!("EXEC") };
                    seen.counts[1].push(integer(&answers[0]));
                    seen.counts[0].push(integer(&answers[1]));
                }
                Step::Read => assert!((0..20).contains(&integer(&read()))),
                Step::Wrong(_) => assert!(matches!(read(), Value::Error(_))),
            }
        }
    }
    seen
}

#[test]
fn pipelines_of_many_clients_on_few_keys_lose_and_repeat_nothing() {
    let (seed, rounds) = (seed_from("HAYPILE_PIPELINES_SEED"), count_from("HAYPILE_PIPELINES_ROUNDS", 150));
    println!("HAYPILE_PIPELINES_SEED={seed}");
    for workers in ["1", "2", "4"] {
        let server = start(&format!("many-{workers}"), workers);
        let address = server.address();
        for counter in COUNTERS {
            server.client().call(&["SET", counter, "0"]);
        }
        let seen: Vec<Seen> = std::thread::scope(|scope| {
            let clients: Vec<_> =
                (0..8).map(|number| scope.spawn(move || many(address, number, rounds, seed))).collect();
            clients.into_iter().map(|client| client.join().unwrap()).collect()
        });
        let mut client = server.client();
        for (which, counter) in COUNTERS.into_iter().enumerate() {
            for one in &seen {
                // A client's commands are run in their order.
                assert!(one.counts[which].is_sorted_by(|left, right| left < right));
            }
            let mut counts: Vec<i64> =
                seen.iter().flat_map(|one| one.counts[which].iter().copied()).collect();
            counts.sort_unstable();
            assert!(counts.iter().copied().eq(1..=counts.len() as i64), "{workers} workers, {counter}");
            assert_eq!(client.text(&["GET", counter]), counts.len().to_string());
        }
        let mut left: Vec<Vec<u8>> = seen.iter().flat_map(|one| one.popped.iter().cloned()).collect();
        for list in LISTS {
            let Value::Array(elements) = client.call(&["LRANGE", list, "0", "-1"]) else { panic!("LRANGE") };
            left.extend(elements.iter().map(text));
        }
        let mut pushed: Vec<Vec<u8>> = seen.iter().flat_map(|one| one.pushed.iter().cloned()).collect();
        left.sort_unstable();
        pushed.sort_unstable();
        assert!(pushed == left, "{workers} workers: {} pushed, {} found", pushed.len(), left.len());
        let added: i64 = seen.iter().map(|one| one.added).sum();
        assert_eq!(client.text(&["HGET", "hash", "field"]), added.to_string());
        assert_eq!(locks(&mut client), (0, 0));
    }
}

/// What follows a command that has locked `k`, in the same packet: with it the client's turn is over, or goes on in another way.
const ENDINGS: &[(&str, &[u8])] = &[
    ("half a command", b"*2\r\n$4\r\nINCR\r\n$1\r\n"),
    ("a command for another key, then half a one", b"*2\r\n$4\r\nINCR\r\n$5\r\nother\r\n*2\r\n"),
    ("nonsense", b"*nonsense\r\n"),
    ("the end of the connection", b"*1\r\n$4\r\nQUIT\r\n*2\r\n$4\r\nINCR\r\n$1\r\nk\r\n"),
    (
        "a wait for another key",
        b"*3\r\n$5\r\nBLPOP\r\n$4\r\nnone\r\n$1\r\n0\r\n*2\r\n$4\r\nINCR\r\n$1\r\nk\r\n",
    ),
    ("a wait for its replicas", b"*3\r\n$4\r\nWAIT\r\n$1\r\n1\r\n$1\r\n0\r\n*2\r\n$4\r\nINCR\r\n$1\r\nk\r\n"),
    ("a sleep", b"*3\r\n$5\r\nDEBUG\r\n$5\r\nSLEEP\r\n$3\r\n300\r\n*2\r\n$4\r\nINCR\r\n$1\r\nk\r\n"),
    (
        "a command that is queued, then half a one",
        b"*1\r\n$5\r\nMULTI\r\n*2\r\n$4\r\nINCR\r\n$1\r\nk\r\n*2\r\n",
    ),
    ("a command without data, then half a one", b"*1\r\n$4\r\nPING\r\n*2\r\n"),
    ("an unknown command, then half a one", b"*1\r\n$4\r\nNONE\r\n*2\r\n"),
    ("a read, then half a command", b"*2\r\n$3\r\nGET\r\n$1\r\nk\r\n*2\r\n"),
    ("what a pool does, then half a command", b"*2\r\n$4\r\nKEYS\r\n$1\r\nx\r\n*2\r\n"),
];

#[test]
fn a_kept_key_is_free_when_its_clients_turn_is_over() {
    let server = start("endings", "2");
    // The worker with the fewest connections gets the next: one of these is on each. DEBUG HELD ends itself what its own worker has kept.
    let (mut control, mut control_too) = (server.client(), server.client());
    // Whichever worker they are on.
    let mut others: Vec<Client> = (0..4).map(|_| server.client()).collect();
    let mut kept_open = Vec::new();
    for (what, ending) in ENDINGS {
        // Twice, for both workers.
        for (before, wrong) in [("INCR", false), ("INCR", false), ("LPUSH", true), ("LPUSH", true)] {
            control.call(&["SET", "k", "0"]);
            let mut client = server.client();
            let mut input = Vec::new();
            match before {
                "INCR" => encode(&mut input, &["INCR", "k"]),
                // An error reply ends as any.
                _ => encode(&mut input, &["LPUSH", "k", "element"]),
            }
            input.extend_from_slice(ending);
            client.send_raw(&input).unwrap();
            match client.read().unwrap() {
                Value::Integer(1) if !wrong => {}
                Value::Error(_) if wrong => {}
                other => panic!("{before}, then {what}: {}", render(&other)),
            }
            for control in [&mut control, &mut control_too] {
                wait_for(&format!("the locks after {before}, then {what}"), || locks(control) == (0, 0));
            }
            for other in &mut others {
                assert!(other.integer(&["INCR", "k"]) > 0);
            }
            kept_open.push(client);
        }
    }
}

#[test]
fn a_kept_key_does_not_outlive_its_store() {
    let server = start("reload", "2");
    let (mut client, mut other) = (server.client(), server.client());
    for round in 1..=5 {
        client.queue(&["INCR", "k"]);
        client.queue(&["DEBUG", "RELOAD"]);
        client.queue(&["INCR", "k"]);
        client.queue(&["MULTI"]);
        client.queue(&["FLUSHDB"]);
        client.queue(&["SET", "k", "10"]);
        client.queue(&["EXEC"]);
        client.queue(&["INCR", "k"]);
        client.queue(&["FLUSHALL"]);
        client.queue(&["INCRBY", "k", &round.to_string()]);
        client.flush().unwrap();
        let answers: Vec<Value> = (0..10).map(|_| client.read().unwrap()).collect();
        assert_eq!(integer(&answers[2]), integer(&answers[0]) + 1);
        assert_eq!(integer(&answers[7]), 11);
        assert_eq!(integer(&answers[9]), round);
        assert_eq!(other.integer(&["INCRBY", "k", "0"]), round);
        assert_eq!(locks(&mut other), (0, 0));
    }
}

/// Each push of a pipeline is served before the next command of the pipeline sees the key, also by the client's own wait in it.
#[test]
fn whoever_waits_is_served_between_the_commands_of_a_pipeline() {
    let server = start("served", "2");
    let mut producer = server.client();
    let mut control = server.client();
    for round in 0..50 {
        let mut waiting: Vec<Client> = (0..3).map(|_| server.client()).collect();
        for (place, client) in waiting.iter_mut().enumerate() {
            client.queue(&["BLPOP", "queue", "0"]);
            client.flush().unwrap();
            wait_for("a waiter", || blocked(&mut control) == place as i64 + 1);
        }
        // Takes the lock, and keeps it, before anybody is served.
        producer.queue(&["DEL", "queue"]);
        for element in ["a", "b", "c", "d"] {
            producer.queue(&["RPUSH", "queue", element]);
        }
        producer.queue(&["LLEN", "queue"]);
        producer.queue(&["BLPOP", "queue", "0"]);
        producer.queue(&["BLPOP", "queue", "0"]);
        producer.queue(&["RPUSH", "queue", "f"]);
        producer.flush().unwrap();
        let pair = |element: &str| {
            Value::Array(vec![Value::Bulk(b"queue".to_vec()), Value::Bulk(element.as_bytes().to_vec())])
        };
        for (client, element) in waiting.iter_mut().zip(["a", "b", "c"]) {
            assert_eq!(client.read().unwrap(), pair(element), "round {round}");
        }
        let answers: Vec<i64> = (0..6).map(|_| integer(&producer.read().unwrap())).collect();
        assert_eq!(answers, [0, 1, 1, 1, 1, 1], "round {round}");
        assert_eq!(producer.read().unwrap(), pair("d"));
        // It waits now, with nothing locked: another's push is its.
        wait_for("the producer's wait", || blocked(&mut control) == 1);
        assert_eq!(locks(&mut control), (0, 0));
        assert_eq!(control.integer(&["RPUSH", "queue", "e"]), 1);
        assert_eq!(producer.read().unwrap(), pair("e"));
        assert_eq!(integer(&producer.read().unwrap()), 1);
        control.call(&["DEL", "queue"]);
    }
}

fn blocked(client: &mut Client) -> i64 {
    let info = client.text(&["INFO", "clients"]);
    let fields: BTreeMap<&str, &str> = info.lines().filter_map(|line| line.split_once(':')).collect();
    fields["blocked_clients"].trim().parse().unwrap()
}

/// Under `always` a read looks at what is on the disk, but not behind what the same client has just been told of: here by SET NX that finds
/// a value which is on its way to the disk, by an EXEC that is called off, by an entry of a stream that it waited for.
#[test]
fn a_read_does_not_fall_behind_what_was_told_before_it() {
    let flags = ["--memory-budget", "64mb", "--workers", "1", "--appendfsync", "always"];
    let server = Server::start("pipelines-told", &flags);
    let (mut writer, mut reader, mut waiter) = (server.client(), server.client(), server.client());
    let (mut found, mut called_off) = (0, 0);
    for round in 1..=40 {
        let key = format!("k:{round}");
        let value = |value: &str| Value::Bulk(value.as_bytes().to_vec());
        waiter.queue(&["XREAD", "BLOCK", "0", "STREAMS", "stream", "$"]);
        waiter.queue(&["XLEN", "stream"]);
        waiter.flush().unwrap();
        wait_for("the waiter", || blocked(&mut reader) == 1);
        reader.call(&["WATCH", &key]);
        reader.call(&["MULTI"]);
        reader.call(&["PING"]);
        // Both are there when the worker looks, so it runs both before it writes its log.
        server.signal(Signal::STOP);
        writer.queue(&["SET", &key, "1"]);
        writer.queue(&["XADD", "stream", "*", "field", "value"]);
        writer.flush().unwrap();
        reader.queue(&["EXEC"]);
        reader.queue(&["GET", &key]);
        reader.flush().unwrap();
        server.signal(Signal::CONT);
        if reader.read().unwrap() == Value::NullArray {
            called_off += 1;
            assert_eq!(reader.read().unwrap(), value("1"), "round {round}");
        } else {
            reader.read().unwrap();
        }
        assert!(matches!(waiter.read().unwrap(), Value::Array(_)));
        assert_eq!(integer(&waiter.read().unwrap()), round, "the waiter's own stream");
        assert!(matches!(writer.read().unwrap(), Value::Simple(_)));
        assert!(matches!(writer.read().unwrap(), Value::Bulk(_)));

        let key = format!("n:{round}");
        server.signal(Signal::STOP);
        writer.queue(&["SET", &key, "1"]);
        writer.flush().unwrap();
        reader.queue(&["SET", &key, "2", "NX"]);
        reader.queue(&["GET", &key]);
        reader.flush().unwrap();
        server.signal(Signal::CONT);
        let (set, read) = (reader.read().unwrap(), reader.read().unwrap());
        let there = set == Value::Null;
        found += usize::from(there);
        // If not, it was first.
        assert_eq!(read, value(if there { "1" } else { "2" }), "round {round}");
        assert!(matches!(writer.read().unwrap(), Value::Simple(_)));
    }
    assert!(found > 0 && called_off > 0, "the writer was never first");
}
