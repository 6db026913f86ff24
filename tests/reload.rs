//! DEBUG RELOAD closes the store and opens it again under clients that wait: for a key, in a blocking command, or in line for a lock. None of
//! them is forgotten, and nothing that was answered is lost.
#![expect(
    clippy::disallowed_methods,
    reason = "a test outside the server reads clocks and starts threads as any program"
)]

#[expect(dead_code, reason = "each test binary takes its part of what they share")]
mod support;

use std::net::TcpListener;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::time::{Duration, Instant};

use haypile_resp::Value;
use support::client::{Client, render};
use support::server::{Server, wait_for};

fn start(name: &str) -> Server {
    Server::start(&format!("reload-{name}"), &["--memory-budget", "64mb", "--workers", "2"])
}

fn call(client: &mut Client, line: &str) -> String {
    render(&client.call(&line.split(' ').collect::<Vec<_>>()))
}

fn send(server: &Server, line: &str) -> Client {
    let mut client = server.client();
    client.queue(&line.split(' ').collect::<Vec<_>>());
    client.flush().expect("send");
    client
}

fn blocked(control: &mut Client, count: usize) {
    wait_for("clients that block", || {
        control.text(&["INFO", "clients"]).contains(&format!("blocked_clients:{count}\r\n"))
    });
}

#[test]
fn blocked_and_watching_clients_outlive_it() {
    let server = start("blocked");
    let mut control = server.client();
    call(&mut control, "XGROUP CREATE stream group $ MKSTREAM");
    let mut waiting = [
        ("BLPOP none list 0", "RPUSH list a", "*[$list, $a]"),
        ("BZPOPMIN zset 0", "ZADD zset 1 m", "*[$zset, $m, $1]"),
        ("XREAD BLOCK 0 STREAMS stream $", "XADD stream 9-1 f v", "*[*[$stream, *[*[$9-1, *[$f, $v]]]]]"),
        ("BLMOVE from to LEFT LEFT 0", "RPUSH from b", "$b"),
    ]
    .map(|(wait, push, answer)| (send(&server, wait), push, answer));
    blocked(&mut control, waiting.len());
    let (mut disturbed, mut alone) = (server.client(), server.client());
    for (client, key) in [(&mut disturbed, "watched"), (&mut alone, "other")] {
        call(client, &format!("WATCH {key}"));
        call(client, "MULTI");
        call(client, &format!("SET {key} mine"));
    }
    for round in 0..3 {
        assert_eq!(call(&mut control, "DEBUG RELOAD"), "+OK", "round {round}");
    }
    blocked(&mut control, waiting.len());
    call(&mut control, "SET watched theirs");
    assert_eq!(call(&mut disturbed, "EXEC"), "(nil array)");
    assert_eq!(call(&mut alone, "EXEC"), "*[+OK]");
    for (client, push, answer) in &mut waiting {
        call(&mut control, push);
        assert_eq!(render(&client.read().expect("an answer")), *answer, "{push}");
    }
    blocked(&mut control, 0);
    assert_eq!(call(&mut control, "LRANGE to 0 -1"), "*[$b]");
}

/// MIGRATE to somebody who says nothing holds its key until its time is over; the store is opened again meanwhile.
#[test]
fn clients_in_line_for_a_lock_outlive_it() {
    let server = start("in-line");
    let silent = TcpListener::bind("127.0.0.1:0").expect("listen");
    let mute = silent.local_addr().expect("its address").port();
    let mut control = server.client();
    call(&mut control, "SET k v");
    let began = Instant::now();
    let mut holder = send(&server, &format!("MIGRATE 127.0.0.1 {mute} k 0 1200"));
    let (_open, _) = silent.accept().expect("a connection");
    let mut in_line: Vec<Client> = (0..4).map(|_| send(&server, "APPEND k x")).collect();
    in_line.push(send(&server, "BLPOP k 0"));
    std::thread::sleep(Duration::from_millis(100));
    for _ in 0..2 {
        assert_eq!(call(&mut control, "DEBUG RELOAD"), "+OK");
        call(&mut control, "SET other v");
    }
    // It says why it did not go on.
    let refused = render(&holder.read().expect("an answer"));
    assert!(refused.starts_with("-ERR the database was opened anew"), "{refused}");
    let mut lengths: Vec<String> =
        in_line.iter_mut().map(|client| render(&client.read().expect("an answer"))).collect();
    assert!(lengths.pop().expect("BLPOP's").starts_with("-WRONGTYPE"));
    lengths.sort();
    assert_eq!(lengths, [":2", ":3", ":4", ":5"]);
    assert!(began.elapsed() < Duration::from_secs(20), "somebody was woken late: {:?}", began.elapsed());
    assert_eq!(call(&mut control, "GET k"), "$vxxxx");
}

/// Under load: everybody gets an answer to everything, and nothing answered is lost.
#[test]
fn load_goes_on_across_it() {
    const KEYS: usize = 3;
    let server = start("load");
    let stop = AtomicBool::new(false);
    let added = AtomicI64::new(0);
    let (pushed, popped) = (AtomicI64::new(0), AtomicI64::new(0));
    // Relaxed throughout: counts, read after the threads are joined.
    std::thread::scope(|scope| {
        for number in 0..4 {
            let (server, stop, added) = (&server, &stop, &added);
            scope.spawn(move || {
                let mut client = server.client();
                while !stop.load(Ordering::Relaxed) {
                    // Two keys of three, in any order, so that there is always somebody in line.
                    let keys = [number % KEYS, (number + 1) % KEYS].map(|key| format!("count:{key}"));
                    client.queue(&["MULTI"]);
                    keys.iter().for_each(|key| client.queue(&["INCR", key]));
                    client.queue(&["EXEC"]);
                    client.flush().expect("send");
                    let replies: Vec<Value> = (0..4).map(|_| client.read().expect("an answer")).collect();
                    let Value::Array(sums) = &replies[3] else { panic!("{}", render(&replies[3])) };
                    assert!(sums.iter().all(|sum| matches!(sum, Value::Integer(_))), "{sums:?}");
                    added.fetch_add(2, Ordering::Relaxed);
                }
            });
        }
        for _ in 0..2 {
            let (server, stop, pushed, popped) = (&server, &stop, &pushed, &popped);
            scope.spawn(move || {
                let mut client = server.client();
                while !stop.load(Ordering::Relaxed) {
                    client.integer(&["LPUSH", "list", "e"]);
                    pushed.fetch_add(1, Ordering::Relaxed);
                }
            });
            scope.spawn(move || {
                let mut client = server.client();
                while !stop.load(Ordering::Relaxed) {
                    match client.call(&["BRPOP", "list", "0.05"]) {
                        Value::Array(_) => drop(popped.fetch_add(1, Ordering::Relaxed)),
                        Value::NullArray => {}
                        other => panic!("BRPOP: {}", render(&other)),
                    }
                }
            });
        }
        let mut control = server.client();
        let until = Instant::now() + Duration::from_millis(1500);
        let mut rounds = 0;
        while Instant::now() < until || rounds < 5 {
            assert_eq!(call(&mut control, "DEBUG RELOAD"), "+OK");
            rounds += 1;
            std::thread::sleep(Duration::from_millis(20));
        }
        stop.store(true, Ordering::Relaxed);
    });
    let mut client = server.client();
    let sum: i64 = (0..KEYS)
        .map(|key| client.text(&["GET", &format!("count:{key}")]).parse::<i64>().expect("a number"))
        .sum();
    assert_eq!(sum, added.into_inner(), "what was added and answered");
    assert_eq!(client.integer(&["LLEN", "list"]), pushed.into_inner() - popped.into_inner());
}
