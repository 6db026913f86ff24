//! MIGRATE in both directions with real redis-servers: values of every type arrive whole, what went is gone here, and what Redis says to
//! odd words and to servers that are not there, we say too. Without a redis-server only what two of ours do is tested.
#![expect(
    clippy::disallowed_methods,
    reason = "a test outside the server reads clocks and starts threads as any program"
)]

#[expect(dead_code, reason = "each test binary takes its part of what they share")]
mod support;

use haypile_resp::Value;
use std::net::TcpListener;
use std::time::{Duration, Instant};
use support::client::{Client, render};
use support::program::Program;
use support::server::{Server, free_port};

fn ours(name: &str, more: &[&str]) -> Server {
    let flags = [&["--memory-budget", "64mb", "--workers", "2"], more].concat();
    Server::start(&format!("migrate-{name}"), &flags)
}

fn call(client: &mut Client, line: &str) -> String {
    let words: Vec<&str> = line.split(' ').map(|word| if word == "_" { "" } else { word }).collect();
    render(&client.call(&words))
}

/// Values of every type, small and large; the number of keys.
fn fill(client: &mut Client) -> Vec<String> {
    let mut keys = Vec::new();
    for (size, name) in [(3, "small"), (2000, "large")] {
        for number in 0..size {
            let of = |kind: &str| format!("{kind}:{name}");
            let (score, element) = (format!("{}.5", number % 50), format!("e{number}"));
            client.queue(&["HSET", &of("hash"), &element, &score]);
            client.queue(&["SADD", &of("set"), &element]);
            client.queue(&["SADD", &of("ints"), &number.to_string()]);
            client.queue(&["ZADD", &of("zset"), &score, &element]);
            client.queue(&["RPUSH", &of("list"), &element]);
            client.queue(&["XADD", &of("stream"), &format!("{}-0", number + 1), "f", &element]);
            client.queue(&["PFADD", &of("pf"), &element]);
        }
        client.queue(&["XGROUP", "CREATE", &format!("stream:{name}"), "g", "0"]);
        client.queue(&[
            "XREADGROUP",
            "GROUP",
            "g",
            "c",
            "COUNT",
            "2",
            "STREAMS",
            &format!("stream:{name}"),
            ">",
        ]);
        client.flush().unwrap();
        (0..size * 7 + 2).for_each(|_| drop(client.read().unwrap()));
        let kinds = ["hash", "set", "ints", "zset", "list", "stream", "pf"];
        keys.extend(kinds.map(|kind| format!("{kind}:{name}")));
    }
    client.call(&["SET", "string:small", "x"]);
    client.call(&["SET", "number", "12345"]);
    client.call(&["SET", "string:large", &"0123456789".repeat(50_000)]);
    client.call(&["SET", "expiring", "x", "PX", "500000"]);
    keys.extend(["string:small", "number", "string:large", "expiring"].map(str::to_owned));
    keys
}

/// What a key holds, as any server tells it.
fn content(client: &mut Client, key: &str) -> String {
    let kind = call(client, &format!("TYPE {key}"));
    let mut words: Vec<String> = match kind.as_str() {
        "+string" => return render(&client.call(&["GET", key])),
        "+hash" => return sorted(client.call(&["HGETALL", key]), 2),
        "+set" => return sorted(client.call(&["SMEMBERS", key]), 1),
        "+zset" => ["ZRANGE", key, "0", "-1", "WITHSCORES"].map(str::to_owned).into(),
        "+list" => ["LRANGE", key, "0", "-1"].map(str::to_owned).into(),
        "+stream" => ["XRANGE", key, "-", "+"].map(str::to_owned).into(),
        other => return other.to_owned(),
    };
    let answer = render(&client.call(&words));
    if kind != "+stream" {
        return answer;
    }
    words = ["XPENDING", key, "g"].map(str::to_owned).into();
    answer + &render(&client.call(&words))
}

fn sorted(answer: Value, together: usize) -> String {
    let Value::Array(parts) = answer else { return render(&answer) };
    let mut parts: Vec<String> =
        parts.chunks(together).map(|chunk| chunk.iter().map(render).collect::<Vec<_>>().join("=")).collect();
    parts.sort();
    parts.join(" ")
}

/// Everything goes from one server to the other, and back in one command.
fn there_and_back(from: &Server, to: &Server) {
    let (mut source, mut target) = (from.client(), to.client());
    let keys = fill(&mut source);
    let before: Vec<String> = keys.iter().map(|key| content(&mut source, key)).collect();
    let (to_port, from_port) = (to.port(), from.port());
    for key in &keys {
        assert_eq!(
            call(&mut source, &format!("MIGRATE 127.0.0.1 {to_port} {key} 3 5000 COPY")),
            "+OK",
            "{key}"
        );
        assert_eq!(call(&mut source, &format!("EXISTS {key}")), ":1");
    }
    target.call(&["SELECT", "3"]);
    for (key, before) in keys.iter().zip(&before) {
        assert!(content(&mut target, key) == *before, "{key} is not what it was");
    }
    let busy = call(&mut source, &format!("MIGRATE 127.0.0.1 {to_port} number 3 5000"));
    assert_eq!(busy, "-ERR Target instance replied with error: BUSYKEY Target key name already exists.");
    assert_eq!(call(&mut source, "EXISTS number"), ":1", "what did not arrive stays");
    for key in &keys {
        let line = format!("MIGRATE 127.0.0.1 {to_port} {key} 3 5000 REPLACE");
        assert_eq!(call(&mut source, &line), "+OK", "{key}");
        assert_eq!(call(&mut source, &format!("EXISTS {key}")), ":0");
    }
    assert_eq!(call(&mut source, "DBSIZE"), ":0");
    let ttl = target.integer(&["PTTL", "expiring"]);
    assert!((400_000..=500_000).contains(&ttl), "{ttl}");
    // Back in one command, with a name among them that nobody has.
    let line = format!("MIGRATE 127.0.0.1 {from_port} _ 0 5000 KEYS nobody {}", keys.join(" "));
    assert_eq!(call(&mut target, &line), "+OK");
    assert_eq!(call(&mut target, "DBSIZE"), ":0");
    for (key, before) in keys.iter().zip(&before) {
        assert!(content(&mut source, key) == *before, "{key} is not what it was");
    }
    // Some arrive, some are there already.
    call(&mut target, "SET expiring other");
    call(&mut source, "DEL number");
    let line = format!("MIGRATE 127.0.0.1 {to_port} _ 3 5000 KEYS string:small expiring hash:small");
    let busy = "-ERR Target instance replied with error: BUSYKEY Target key name already exists.";
    assert_eq!(call(&mut source, &line), busy);
    assert_eq!(call(&mut source, "EXISTS string:small expiring hash:small"), ":1");
    assert_eq!(call(&mut target, "GET expiring"), "$other");
    source.call(&["FLUSHALL"]);
    target.call(&["FLUSHALL"]);
}

#[test]
fn between_two_of_ours() {
    there_and_back(&ours("a", &[]), &ours("b", &["--packed-max-elements", "0"]));
}

#[test]
fn between_ours_and_redis() {
    for (number, redis) in Program::controls().into_iter().enumerate() {
        let redis = Server::start_program(&format!("migrate-redis-{number}"), redis, &[]);
        let ours = ours(&format!("with-redis-{number}"), &[]);
        there_and_back(&ours, &redis);
        there_and_back(&redis, &ours);
    }
}

/// Odd words, other servers' refusals, and servers that are not there: as Redis says it.
#[test]
fn odd_words_and_servers() {
    let target = ours("target", &["--requirepass", "secret"]);
    let port = target.port();
    let mut servers = vec![ours("odd", &[])];
    servers.extend(
        Program::controls()
            .into_iter()
            .enumerate()
            .map(|(number, program)| Server::start_program(&format!("migrate-odd-{number}"), program, &[])),
    );
    let closed = free_port();
    // Takes connections and never says a word.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let mute = silent.local_addr().unwrap().port();
    let refused = "-ERR Target instance replied with error: ";
    for server in &servers {
        let mut client = server.client();
        call(&mut client, "SET k v");
        for (line, answer) in [
            (format!("MIGRATE 127.0.0.1 {port} none 0 1000"), "+NOKEY".to_owned()),
            (format!("MIGRATE 127.0.0.1 {port} _ 0 1000 KEYS none neither"), "+NOKEY".to_owned()),
            (format!("MIGRATE 127.0.0.1 {port} k 0 1000 WORD"), "-ERR syntax error".to_owned()),
            (format!("MIGRATE 127.0.0.1 {port} k 0 1000 AUTH"), "-ERR syntax error".to_owned()),
            (format!("MIGRATE 127.0.0.1 {port} k 0 1000 AUTH2 a"), "-ERR syntax error".to_owned()),
            (
                format!("MIGRATE 127.0.0.1 {port} k 0 x"),
                "-ERR value is not an integer or out of range".to_owned(),
            ),
            (
                format!("MIGRATE 127.0.0.1 {port} k x 10"),
                "-ERR value is not an integer or out of range".to_owned(),
            ),
            (
                format!("MIGRATE 127.0.0.1 {port} k 0 10 KEYS a"),
                "-ERR When using MIGRATE KEYS option, the key argument must be set to the empty string"
                    .to_owned(),
            ),
            (
                format!("MIGRATE 127.0.0.1 {port} k 0"),
                "-ERR wrong number of arguments for \\'migrate\\' command".to_owned(),
            ),
            (
                format!("MIGRATE 127.0.0.1 {closed} k 0 200"),
                "-IOERR error or timeout writing to target instance".to_owned(),
            ),
            (
                format!("MIGRATE 127.0.0.1 {mute} k 0 200"),
                "-IOERR error or timeout reading to target instance".to_owned(),
            ),
            (
                format!("MIGRATE 127.0.0.1 {port} k 0 1000"),
                format!("{refused}NOAUTH Authentication required."),
            ),
            (
                format!("MIGRATE 127.0.0.1 {port} k 0 1000 AUTH wrong"),
                format!("{refused}WRONGPASS invalid username-password pair or user is disabled."),
            ),
            (
                format!("MIGRATE 127.0.0.1 {port} k 99 1000 AUTH secret"),
                format!("{refused}ERR DB index is out of range"),
            ),
            (format!("MIGRATE 127.0.0.1 {port} k 0 1000 COPY AUTH secret REPLACE"), "+OK".to_owned()),
            (
                format!("MIGRATE 127.0.0.1 {port} k 0 1000 REPLACE AUTH2 default secret COPY"),
                "+OK".to_owned(),
            ),
            (format!("MIGRATE 127.0.0.1 {port} k 1 0 REPLACE COPY AUTH secret"), "+OK".to_owned()),
        ] {
            assert_eq!(call(&mut client, &line), answer, "{line} of {}", server.port());
            assert_eq!(call(&mut client, "GET k"), "$v", "{line}");
        }
    }
}

/// A connection that was kept and that the other side has closed is no error; nor does a long wait hold anybody else up.
#[test]
fn kept_connections_and_others() {
    let mut target = ours("restarted", &[]);
    let source = ours("patient", &[]);
    let (mut client, port) = (source.client(), target.port());
    for round in 0..3 {
        call(&mut client, "SET k v");
        assert_eq!(
            call(&mut client, &format!("MIGRATE 127.0.0.1 {port} k 0 2000 REPLACE")),
            "+OK",
            "round {round}"
        );
        target.terminate();
        target.wait_exit();
        target.restart();
        assert_eq!(target.port(), port);
    }
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let mute = silent.local_addr().unwrap().port();
    call(&mut client, "SET k v");
    client.queue(&["MIGRATE", "127.0.0.1", &mute.to_string(), "k", "0", "1500"]);
    client.flush().unwrap();
    let (_open, _) = silent.accept().unwrap();
    let mut other = source.client();
    let began = Instant::now();
    // Not even for who closes the gate, or works long.
    for line in ["SET other v", "KEYS *", "FLUSHALL", "SET other v", "SWAPDB 0 1", "SWAPDB 0 1"] {
        call(&mut other, line);
    }
    assert!(began.elapsed() < Duration::from_millis(1000), "{:?}", began.elapsed());
    // The key is locked until it is over.
    call(&mut other, "SET k other");
    assert!(began.elapsed() > Duration::from_millis(1000), "{:?}", began.elapsed());
    assert!(render(&client.read().unwrap()).starts_with("-IOERR"));
    assert_eq!(call(&mut other, "GET k"), "$other");
}

/// A key that has gone to another server is deleted here, for those who watch it and those who hear of events; a copied one is not.
#[test]
fn whoever_watches_a_key_that_goes_is_told() {
    let target = ours("watched-target", &[]);
    let source = ours("watched", &["--notify-keyspace-events", "KEA"]);
    let (mut client, mut watcher, port) = (source.client(), source.client(), target.port());
    let mut listener = source.client();
    listener.call(&["PSUBSCRIBE", "__keyspace@0__:*"]);
    let mut exec_after = |line: &str| {
        for line in ["SET k v", "SET j w"] {
            assert_eq!(call(&mut client, line), "+OK");
        }
        for (line, answer) in [("WATCH k j", "+OK"), ("MULTI", "+OK"), ("PING", "+QUEUED")] {
            assert_eq!(call(&mut watcher, line), answer);
        }
        let answer = if line.starts_with("none") { "+NOKEY" } else { "+OK" };
        assert_eq!(call(&mut client, &format!("MIGRATE 127.0.0.1 {port} {line}")), answer);
        call(&mut client, "PUBLISH __keyspace@0__:mark end");
        let mut heard = Vec::new();
        loop {
            let Value::Array(message) = listener.read().unwrap() else { panic!("a message") };
            match (render(&message[2]).as_str(), render(&message[3]).as_str()) {
                ("$__keyspace@0__:mark", _) => break,
                (channel, event) => {
                    heard.push(format!("{} {event}", channel.trim_start_matches("$__keyspace@0__:")))
                }
            }
        }
        let heard = heard.into_iter().filter(|event| !event.contains("$set") && !event.contains("$new"));
        (call(&mut watcher, "EXEC"), heard.collect::<Vec<_>>())
    };
    assert_eq!(exec_after("k 0 5000 COPY"), ("*[+PONG]".to_owned(), vec![]));
    assert_eq!(exec_after("k 0 5000 REPLACE"), ("(nil array)".to_owned(), vec!["k $del".to_owned()]));
    let both = vec!["k $del".to_owned(), "j $del".to_owned()];
    assert_eq!(exec_after("_ 0 5000 REPLACE KEYS k j"), ("(nil array)".to_owned(), both));
    assert_eq!(exec_after("none 0 5000 REPLACE"), ("*[+PONG]".to_owned(), vec![]));
}
