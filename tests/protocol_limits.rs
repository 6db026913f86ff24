//! What a hostile, broken or greedy client can do: get an error in Redis's words, and cost little.
//!
//! Every expectation here holds for a real redis-server too (`HAYPILE_BIN=redis-server` shows it), except where a line
//! says that ours promises more.
#![expect(
    clippy::disallowed_methods,
    reason = "a test outside the server reads clocks and files as any program"
)]

#[expect(dead_code, reason = "each test binary takes its part of what they share")]
mod support;

use std::io::{ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use haypile_resp::Value;

use support::client::{Client, encode, render};
use support::folder::Folder;
use support::program::Family;
use support::random::Random;
use support::server::{Server, wait_for};

const MIB: u64 = 1 << 20;

fn ok() -> Value {
    Value::Simple(b"OK".to_vec())
}

fn error(text: &str) -> Value {
    Value::Error(text.as_bytes().to_vec())
}

/// All that the server answers to the bytes until it closes.
fn answer_to_close(server: &Server, bytes: &[u8]) -> String {
    let mut client = server.client();
    // The server may close before it has taken everything.
    let _ = client.send_raw(bytes);
    let answer = client.read_to_close();
    let answer = answer.unwrap_or_else(|error| panic!("{}: not closed: {error}", shown(bytes)));
    String::from_utf8_lossy(&answer).into_owned()
}

fn shown(bytes: &[u8]) -> String {
    bytes[..bytes.len().min(100)].escape_ascii().to_string()
}

#[test]
fn malformed_requests_get_the_texts_of_redis_and_are_closed() {
    let server = Server::start("malformed", &[]);
    let long = |head: &str| [head.as_bytes(), &[b'1'; 70_000]].concat();
    let cases: Vec<(Vec<u8>, &str)> = vec![
        (b"*abc\r\n".to_vec(), "invalid multibulk length"),
        (b"*2147483648\r\n".to_vec(), "invalid multibulk length"),
        (b"*9999999999999999999999\r\n".to_vec(), "invalid multibulk length"),
        (b"*1 \r\n".to_vec(), "invalid multibulk length"),
        (b"*+1\r\n".to_vec(), "invalid multibulk length"),
        (b"*\r\n".to_vec(), "invalid multibulk length"),
        (b"*1\r\n+PING\r\n".to_vec(), "expected '$', got '+'"),
        (b"*1\r\n:1\r\n".to_vec(), "expected '$', got ':'"),
        (b"*2\r\n$4\r\nECHO\r\n*1\r\n".to_vec(), "expected '$', got '*'"),
        (b"*1\r\n$abc\r\n".to_vec(), "invalid bulk length"),
        (b"*1\r\n$-1\r\n".to_vec(), "invalid bulk length"),
        (b"*1\r\n$\r\n".to_vec(), "invalid bulk length"),
        (b"*1\r\n$536870913\r\n".to_vec(), "invalid bulk length"),
        (b"*1\r\n$9223372036854775808\r\n".to_vec(), "invalid bulk length"),
        (long("*"), "too big mbulk count string"),
        (long("*1\r\n$"), "too big bulk count string"),
        (long("PING "), "too big inline request"),
        (b"SET k \"open\r\n".to_vec(), "unbalanced quotes in request"),
        (b"SET k 'open\r\n".to_vec(), "unbalanced quotes in request"),
        (b"SET k \"a\"b\r\n".to_vec(), "unbalanced quotes in request"),
    ];
    for (bytes, text) in &cases {
        let wanted = format!("-ERR Protocol error: {text}\r\n");
        assert_eq!(answer_to_close(&server, bytes), wanted, "{}", shown(bytes));
        // Commands before it are answered, commands after it are not.
        let mut among = b"*1\r\n$4\r\nPING\r\n".to_vec();
        among.extend_from_slice(bytes);
        assert_eq!(answer_to_close(&server, &among), format!("+PONG\r\n{wanted}"), "{}", shown(bytes));
    }
    assert_eq!(server.client().text(&["PING"]), "PONG");
}

#[test]
fn empty_requests_are_passed_over() {
    let server = Server::start("empty", &[]);
    let mut client = server.client();
    client.send_raw(b"\r\n\n*0\r\n*-1\r\n*-9\r\n   \r\nPING\r\n").expect("send");
    assert_eq!(client.read().expect("a reply"), Value::Simple(b"PONG".to_vec()));
    client.send_raw(b"*1\r\n$0\r\n\r\n").expect("send");
    assert_eq!(client.read().expect("a reply"), error("ERR unknown command '', with args beginning with: "));
    assert_eq!(client.text(&["PING"]), "PONG");
}

#[test]
fn a_web_page_cannot_speak_to_the_server() {
    let server = Server::start("web", &[]);
    assert_eq!(answer_to_close(&server, b"POST / HTTP/1.1\r\nHost: x\r\n\r\nSET a b\r\n"), "");
    assert_eq!(server.client().call(&["GET", "a"]), Value::Null);
    // Redis closes at the header without sending what was to be said to the line before it.
    let answer = answer_to_close(&server, b"GET / HTTP/1.1\r\nHost: localhost:6379\r\n\r\nSET a b\r\n");
    assert!(
        answer.is_empty() || answer == "-ERR wrong number of arguments for 'get' command\r\n",
        "{answer}"
    );
    assert_eq!(server.client().call(&["GET", "a"]), Value::Null);
}

#[test]
fn inline_commands() {
    let server = Server::start("inline", &[]);
    let mut client = server.client();
    let cases: Vec<(&[u8], Value)> = vec![
        (b"PING\r\n", Value::Simple(b"PONG".to_vec())),
        (b"PING\n", Value::Simple(b"PONG".to_vec())),
        (b"  ping   \r\n", Value::Simple(b"PONG".to_vec())),
        (b"ECHO \"a b\\x41\\n\\t\\\"\"\r\n", Value::Bulk(b"a bA\n\t\"".to_vec())),
        (b"ECHO 'it\\'s \\n'\r\n", Value::Bulk(b"it's \\n".to_vec())),
        (b"ECHO \"\"\r\n", Value::Bulk(Vec::new())),
        (b"SET inline 1\r\n", ok()),
        (b"GET inline\t\r\n", Value::Bulk(b"1".to_vec())),
        (b"ECHO \xff\x01\r\n", Value::Bulk(b"\xff\x01".to_vec())),
        (b"NOSUCH a b\r\n", error("ERR unknown command 'NOSUCH', with args beginning with: 'a' 'b' ")),
    ];
    for (bytes, wanted) in cases {
        client.send_raw(bytes).expect("send");
        let reply = client.read().expect("a reply");
        assert_eq!(reply, wanted, "{}: {}", shown(bytes), render(&reply));
    }
    let long = [b"ECHO ".as_slice(), &[b'x'; 60_000], b"\r\n"].concat();
    client.send_raw(&long).expect("send");
    assert_eq!(client.read().expect("a reply"), Value::Bulk(vec![b'x'; 60_000]));
}

#[test]
fn requests_may_arrive_byte_by_byte() {
    let server = Server::start("bytes", &[]);
    let mut bytes = Vec::new();
    let mut wanted = Vec::new();
    for number in 0..30 {
        encode(&mut bytes, &["SET", &format!("key:{number}"), "value\r\n*1\r\n"]);
        wanted.push(ok());
        bytes.extend_from_slice(b"ECHO \"two words\"\r\n");
        wanted.push(Value::Bulk(b"two words".to_vec()));
        encode(&mut bytes, &["GET", &format!("key:{number}")]);
        wanted.push(Value::Bulk(b"value\r\n*1\r\n".to_vec()));
    }
    let mut client = server.client();
    for byte in bytes.chunks(1) {
        client.send_raw(byte).expect("send");
    }
    for value in wanted {
        assert_eq!(client.read().expect("a reply"), value);
    }
}

#[test]
fn a_large_value_in_small_pieces_takes_linear_time() {
    let server = Server::start("pieces", &[]);
    let mut client = server.client();
    let value = Random::new(1).bytes(32 << 20);
    let mut bytes = Vec::new();
    encode(&mut bytes, &[b"SET".as_slice(), b"large", &value]);
    let start = Instant::now();
    for piece in bytes.chunks(4096) {
        client.send_raw(piece).expect("send");
    }
    assert_eq!(client.read().expect("a reply"), ok());
    assert_eq!(client.integer(&["STRLEN", "large"]), value.len() as i64);
    assert_eq!(client.call(&["GET", "large"]), Value::Bulk(value));
    let took = start.elapsed();
    assert!(took < Duration::from_secs(30), "32 MiB took {took:?}");
}

/// A number that INFO tells.
fn info_number(client: &mut Client, section: &str, field: &str) -> u64 {
    let text = client.text(&["INFO", section]);
    let line = text.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':'));
    line.unwrap_or_else(|| panic!("no {field} in {text}")).trim().parse().expect("a number")
}

#[test]
fn large_values_are_charged_before_they_are_read() {
    const CLIENTS: usize = 10;
    const VALUE_BYTES: usize = 30 << 20;
    let server = Server::start("charged", &["--memory-budget", "64mb"]);
    if server.family() == Family::Redis {
        return;
    }
    let mut small = server.client();
    // Once in a row, for what the engine itself keeps of such a value.
    let value = Random::new(3).bytes(VALUE_BYTES);
    for key in ["warm:0", "warm:1"] {
        assert_eq!(small.call(&[b"SET".as_slice(), key.as_bytes(), &value]), ok());
    }
    let before = server.resident_bytes();
    let (mut most, mut took) = (0, Vec::new());
    std::thread::scope(|scope| {
        let senders: Vec<_> = (0..CLIENTS)
            .map(|number| {
                let (server, value) = (&server, &value);
                scope.spawn(move || {
                    let mut client = server.client();
                    let mut request = Vec::new();
                    encode(&mut request, &[b"SET".as_slice(), format!("large:{number}").as_bytes(), value]);
                    for piece in request.chunks(256 << 10) {
                        client.send_raw(piece).expect("send");
                        std::thread::sleep(Duration::from_millis(1));
                    }
                    assert_eq!(client.read().expect("a reply"), ok());
                })
            })
            .collect();
        while !senders.iter().all(|sender| sender.is_finished()) {
            let start = Instant::now();
            assert_eq!(small.call(&["SET", "small", "value"]), ok());
            took.push(start.elapsed());
            most = most.max(server.resident_bytes().saturating_sub(before));
            std::thread::sleep(Duration::from_millis(1));
        }
    });
    for number in 0..CLIENTS {
        assert_eq!(small.integer(&["STRLEN", &format!("large:{number}")]), VALUE_BYTES as i64);
    }
    took.sort();
    let late = took[took.len() * 99 / 100];
    eprintln!("grown by {} MiB, small commands: p99 {late:?}, most {:?}", most / MIB, took.last());
    // All ten at once would be 300 MiB.
    assert!(most < 150 * MIB, "ten large values cost {most} bytes");
    assert!(late < Duration::from_millis(500), "p99 of small commands was {late:?}");
    assert_eq!(info_number(&mut small, "memory", "mem_large_requests"), 0);
    assert_eq!(info_number(&mut small, "memory", "mem_large_requests_waiting"), 0);
}

#[test]
fn a_charge_is_given_back_by_whoever_goes() {
    let server = Server::start("given-back", &["--memory-budget", "64mb"]);
    if server.family() == Family::Redis {
        return;
    }
    let mut observer = server.client();
    let mut charged = || info_number(&mut observer, "memory", "mem_large_requests");
    let half = vec![b'x'; 50 << 20];
    let mut leaving = server.client();
    leaving.send_raw(b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$104857600\r\n").expect("send");
    wait_for("the charge", || charged() > 100 << 20);
    leaving.send_raw(&half).expect("send");
    // Larger than the budget too, and behind it; a small client notices nothing.
    let mut waiting = server.client();
    waiting.send_raw(b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$104857600\r\n").expect("send");
    let mut small = server.client();
    wait_for("the second to wait", || {
        info_number(&mut small, "memory", "mem_large_requests_waiting") > 100 << 20
    });
    drop(leaving);
    wait_for("the second to come", || info_number(&mut small, "memory", "mem_large_requests_waiting") == 0);
    for _ in 0..2 {
        waiting.send_raw(&half).expect("send");
    }
    waiting.send_raw(b"\r\n").expect("send");
    assert_eq!(waiting.read().expect("a reply"), ok());
    wait_for("the charge to be back", || charged() == 0);
    // By CLIENT KILL, a protocol error, and a command on a pool.
    let mut killed = server.client();
    let id = killed.integer(&["CLIENT", "ID"]);
    killed.send_raw(b"*2\r\n$4\r\nECHO\r\n$4000000\r\nabc").expect("send");
    wait_for("the charge", || charged() > 0);
    assert_eq!(small.integer(&["CLIENT", "KILL", "ID", &id.to_string()]), 1);
    wait_for("the charge to be back", || charged() == 0);
    let mut wrong = server.client();
    wrong.send_raw(b"*3\r\n$4\r\nECHO\r\n$4000000\r\n").expect("send");
    wait_for("the charge", || charged() > 0);
    wrong.send_raw(&half[..4_000_000]).expect("send");
    wrong.send_raw(b"\r\n+\r\n").expect("send");
    wait_for("the charge to be back", || charged() == 0);
    let reply = small.call(&[b"MSET".as_slice(), b"a", &half[..3 << 20], b"b", &half[..3 << 20]]);
    assert_eq!(reply, ok());
    wait_for("the charge to be back", || charged() == 0);
}

#[test]
fn an_announced_length_allocates_nothing() {
    let server = Server::start("announced", &[]);
    server.client().call(&["PING"]);
    let before = server.resident_bytes();
    let mut clients = Vec::new();
    for _ in 0..50 {
        for request in
            [b"*2147483647\r\n$3\r\nSET\r\n".as_slice(), b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$536870912\r\nabc"]
        {
            let mut client = server.client();
            client.send_raw(request).expect("send");
            clients.push(client);
        }
    }
    // Answered after theirs were read: one connection at a time is served by one thread, and there are a few of those.
    for _ in 0..100 {
        server.client().call(&["PING"]);
    }
    let grown = server.resident_bytes().saturating_sub(before);
    assert!(grown < 32 * MIB, "100 announcements cost {grown} bytes");
}

#[test]
fn idle_connections_are_cheap() {
    const CONNECTIONS: u64 = 1000;
    raise_file_limit();
    let server = Server::start("idle", &["--maxclients", "2000"]);
    let mut one = server.client();
    one.call(&["PING"]);
    let before = server.resident_bytes();
    let mut clients = Vec::new();
    for _ in 0..CONNECTIONS {
        let mut client = server.client();
        client.call(&["PING"]);
        clients.push(client);
    }
    let grown = server.resident_bytes().saturating_sub(before);
    // Ours promises 20 MiB for 10,000; Redis keeps a reply buffer of 16 KiB for each.
    let most = match server.family() {
        Family::Haypile => 4 * MIB,
        Family::Redis => 40 * MIB,
    };
    assert!(grown < most, "{CONNECTIONS} idle connections cost {grown} bytes");
    let listed = one.text(&["INFO", "clients"]);
    assert!(listed.contains(&format!("connected_clients:{}", CONNECTIONS + 1)), "{listed}");
    for client in &mut clients {
        client.call(&["PING"]);
    }
}

fn raise_file_limit() {
    use rustix::process::{Resource, getrlimit, setrlimit};
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    // Where it may not be raised, the connections below say so.
    let _ = setrlimit(Resource::Nofile, limit);
}

#[test]
fn a_reader_that_does_not_read_is_bounded() {
    let server = Server::start("slow-reader", &["--client-output-buffer-limit", "normal 16mb 16mb 10"]);
    let mut client = server.client();
    client.call(&[b"SET".as_slice(), b"big", &vec![b'x'; 1 << 20]]);
    let before = server.resident_bytes();
    // A gigabyte of answers that nobody reads.
    let mut slow = server.client();
    slow.stream().set_write_timeout(Some(Duration::from_secs(2))).expect("a time limit");
    for _ in 0..1000 {
        slow.queue(&["GET", "big"]);
    }
    // Closed, or not read any more: either is right.
    let _ = slow.flush();
    let mut most = 0;
    let start = Instant::now();
    while start.elapsed() < Duration::from_secs(3) {
        assert_eq!(client.text(&["PING"]), "PONG");
        most = most.max(server.resident_bytes().saturating_sub(before));
        std::thread::sleep(Duration::from_millis(10));
    }
    assert!(most < 128 * MIB, "a reader that does not read cost {most} bytes");
    drop(slow);
    wait_for("the slow reader to be gone", || client.text(&["CLIENT", "LIST"]).lines().count() == 1);
}

/// How often the workers turn in half a second in which nothing happens.
fn turns_while_nothing_happens(client: &mut Client) -> u64 {
    let before = info_number(client, "stats", "eventloop_cycles");
    std::thread::sleep(Duration::from_millis(500));
    info_number(client, "stats", "eventloop_cycles") - before
}

#[test]
fn a_reader_that_has_stopped_costs_no_time() {
    let server = Server::start("stopped-reader", &[]);
    if server.family() == Family::Redis {
        return;
    }
    let mut client = server.client();
    client.call(&[b"SET".as_slice(), b"big", &vec![b'x'; 700_000]]);
    // Some of what waits has left already, whatever the sockets hold.
    for answers in [4, 8, 16, 32] {
        let mut slow = server.client();
        for _ in 0..300 {
            slow.queue(&["GET", "big"]);
        }
        slow.flush().expect("send");
        for _ in 0..answers {
            slow.read().expect("an answer");
        }
        std::thread::sleep(Duration::from_millis(300));
        let turns = turns_while_nothing_happens(&mut client);
        assert!(turns < 50, "{turns} turns for nothing behind {answers} answers");
        // It goes on as soon as it reads.
        for _ in answers..300 {
            slow.read().expect("an answer");
        }
    }
}

#[test]
fn what_has_arrived_is_run_though_the_client_has_gone() {
    let folder = Folder::new("gone-socket");
    let path = folder.path().join("socket");
    let server = Server::start("gone", &["--unixsocket", &path.display().to_string()]);
    let mut client = server.client();
    client.call(&[b"SET".as_slice(), b"big", &vec![b'x'; 100_000]]);
    for round in 0..200 {
        let mut stream = UnixStream::connect(&path).expect("connect");
        stream.write_all(format!("SET unix:{round} 1\r\nSET unix:{round} 2\r\n").as_bytes()).expect("send");
    }
    for round in 0..200 {
        let mut stream = server.client();
        // The system resets a connection that is closed with answers unread.
        stream.queue(&["GET", "big"]);
        stream.queue(&["SET", &format!("tcp:{round}"), "1"]);
        stream.flush().expect("send");
        if round % 2 == 0 {
            wait_until_readable(&stream);
        }
    }
    // More than is read at once.
    let mut stream = UnixStream::connect(&path).expect("connect");
    stream.write_all(&b"INCR counted\r\n".repeat(10_000)).expect("send");
    drop(stream);
    wait_for("all to be gone", || client.text(&["CLIENT", "LIST"]).lines().count() == 1);
    for round in 0..200 {
        assert_eq!(client.text(&["GET", &format!("unix:{round}")]), "2", "{round}");
        assert_eq!(client.integer(&["EXISTS", &format!("tcp:{round}")]), 1, "{round}");
    }
    assert_eq!(client.text(&["GET", "counted"]), "10000");
}

fn wait_until_readable(client: &Client) {
    client.stream().peek(&mut [0]).expect("an answer");
}

#[test]
fn nobody_waits_for_a_client_that_sends_no_more() {
    let server = Server::start("half-closed", &[]);
    let mut client = server.client();
    for command in ["WAIT 1 0", "BLPOP none 0", "WAITAOF 0 1 0"] {
        let mut half = server.client();
        half.send_raw(format!("{command}\r\n").as_bytes()).expect("send");
        half.finish_sending().expect("send");
        wait_for(command, || client.text(&["CLIENT", "LIST"]).lines().count() == 1);
    }
}

#[test]
fn a_client_that_receives_all_the_time_is_not_idle() {
    let server = Server::start("receives", &["--timeout", "2"]);
    let mut client = server.client();
    let mut slow = server.client();
    client.call(&[b"SET".as_slice(), b"big", &vec![b'x'; 48 << 20]]);
    slow.queue(&["GET", "big"]);
    slow.flush().expect("send");
    // What the sockets hold is long sent; each second some more is.
    for _ in 0..6 {
        let mut chunk = vec![0; 7 << 20];
        slow.stream().read_exact(&mut chunk).expect("not closed");
        std::thread::sleep(Duration::from_millis(900));
        assert_eq!(client.text(&["PING"]), "PONG");
    }
}

#[test]
fn one_answer_above_the_hard_limit_closes_the_connection() {
    let server = Server::start("hard-limit", &["--client-output-buffer-limit", "normal 4mb 0 0"]);
    let mut client = server.client();
    // More than the sockets themselves hold.
    client.call(&[b"SET".as_slice(), b"big", &vec![b'x'; 64 << 20]]);
    let mut greedy = server.client();
    greedy.queue(&["GET", "big"]);
    greedy.flush().expect("send");
    wait_for("the greedy connection to be closed", || client.text(&["CLIENT", "LIST"]).lines().count() == 1);
    let got = greedy.read_to_close().expect("closed");
    assert!(got.len() < 64 << 20, "the whole answer came through");
}

#[test]
fn connections_above_maxclients_are_refused() {
    let server = Server::start("maxclients", &["--maxclients", "10"]);
    let mut clients: Vec<Client> = Vec::new();
    wait_for("ten connections", || {
        let mut client = server.client();
        if client.try_call(&["PING"]).is_ok_and(|reply| reply == Value::Simple(b"PONG".to_vec())) {
            clients.push(client);
        }
        clients.len() == 10
    });
    let mut refused = server.client();
    assert_eq!(refused.read().expect("a refusal"), error("ERR max number of clients reached"));
    assert_eq!(refused.read_to_close().expect("closed"), b"");
    clients.pop();
    wait_for("a place", || {
        server.client().try_call(&["PING"]).is_ok_and(|reply| reply == Value::Simple(b"PONG".to_vec()))
    });
    let mut client = clients.pop().expect("one");
    assert_eq!(client.call(&["CONFIG", "SET", "maxclients", "50"]), ok());
    for _ in 0..20 {
        let mut client = server.client();
        assert_eq!(client.text(&["PING"]), "PONG");
        clients.push(client);
    }
}

#[test]
fn idle_connections_are_closed_after_the_timeout() {
    let server = Server::start("timeout", &["--timeout", "1"]);
    let mut idle = server.client();
    idle.call(&["PING"]);
    let mut busy = server.client();
    let start = Instant::now();
    idle.set_patience(Duration::from_millis(50)).expect("a time limit");
    let closed = loop {
        assert_eq!(busy.text(&["PING"]), "PONG");
        match idle.read() {
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            other => break other,
        }
        assert!(start.elapsed() < Duration::from_secs(20), "not closed after {:?}", start.elapsed());
    };
    assert!(closed.is_err_and(|error| error.kind() == ErrorKind::UnexpectedEof), "closed without a word");
    assert!(start.elapsed() >= Duration::from_millis(900), "closed after {:?}", start.elapsed());
    assert_eq!(busy.text(&["PING"]), "PONG");
}

#[test]
fn what_was_received_before_the_end_is_answered() {
    let server = Server::start("half-close", &[]);
    let mut client = server.client();
    for number in 0..100 {
        client.queue(&["SET", &format!("key:{number}"), "value"]);
    }
    client.finish_sending().expect("half-close");
    let answer = client.read_to_close().expect("closed");
    assert_eq!(answer, b"+OK\r\n".repeat(100));
    assert_eq!(server.client().integer(&["DBSIZE"]), 100);
}

#[test]
fn quit_answers_what_came_before_and_nothing_after() {
    let server = Server::start("quit", &[]);
    assert_eq!(answer_to_close(&server, b"PING\r\nQUIT\r\nSET after 1\r\n"), "+PONG\r\n+OK\r\n");
    assert_eq!(server.client().call(&["GET", "after"]), Value::Null);
}

#[test]
fn without_the_password_little_is_possible() {
    let server = Server::start("password", &["--requirepass", "winter"]);
    let mut client = server.client();
    let noauth = error("NOAUTH Authentication required.");
    for command in [vec!["GET", "k"], vec!["SET", "k", "v"], vec!["PING"], vec!["CLIENT", "ID"], vec!["INFO"]]
    {
        assert_eq!(client.call(&command), noauth, "{command:?}");
    }
    assert_eq!(client.call(&["NOSUCH"]), error("ERR unknown command 'NOSUCH', with args beginning with: "));
    assert_eq!(client.call(&["GET"]), error("ERR wrong number of arguments for 'get' command"));
    let hello = client.call(&["HELLO", "3"]);
    assert!(
        render(&hello).starts_with("-NOAUTH HELLO must be called with the client already"),
        "{}",
        render(&hello)
    );
    assert_eq!(client.call(&["RESET"]), Value::Simple(b"RESET".to_vec()));
    let wrong = error("WRONGPASS invalid username-password pair or user is disabled.");
    for command in
        [vec!["AUTH", "summer"], vec!["AUTH", "default", "summer"], vec!["AUTH", "nobody", "winter"]]
    {
        assert_eq!(client.call(&command), wrong, "{command:?}");
    }
    assert_eq!(client.call(&["HELLO", "3", "AUTH", "default", "summer"]), wrong);
    assert_eq!(client.call(&["GET", "k"]), noauth);

    let limits: [(&[u8], &str); 2] = [
        (b"*11\r\n$4\r\nMGET\r\n", "unauthenticated multibulk length"),
        (b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$16385\r\n", "unauthenticated bulk length"),
    ];
    for (bytes, text) in limits {
        assert_eq!(answer_to_close(&server, bytes), format!("-ERR Protocol error: {text}\r\n"));
    }

    assert_eq!(client.call(&["AUTH", "winter"]), ok());
    assert_eq!(client.call(&["SET", "k", &"v".repeat(20_000)]), ok());
    let keys: Vec<String> = (0..50).map(|number| number.to_string()).collect();
    let mut command = vec!["EXISTS"];
    command.extend(keys.iter().map(String::as_str));
    assert_eq!(client.integer(&command), 0);
    let mut other = server.client();
    assert!(matches!(other.call(&["HELLO", "3", "AUTH", "default", "winter"]), Value::Map(_)));
    assert_eq!(other.call(&["RESET"]), Value::Simple(b"RESET".to_vec()));
    assert_eq!(other.call(&["GET", "k"]), noauth);
    // Changed while connected: who is in stays in.
    assert_eq!(client.call(&["CONFIG", "SET", "requirepass", "spring"]), ok());
    assert_eq!(client.text(&["PING"]), "PONG");
    assert_eq!(other.call(&["AUTH", "winter"]), wrong);
    assert_eq!(other.call(&["AUTH", "spring"]), ok());
}

#[test]
fn debug_needs_permission() {
    let server = Server::start("debug", &["--enable-debug-command", "no"]);
    let reply = server.client().call(&["DEBUG", "SLEEP", "0"]);
    assert!(render(&reply).starts_with("-ERR DEBUG command not allowed."), "{}", render(&reply));
}

#[test]
fn rubbish_never_harms_others() {
    let server = Server::start("rubbish", &[]);
    let mut steady = server.client();
    let mut random = Random::new(7);
    for round in 0..200 {
        let mut client = server.client();
        let length = random.below(3000) as usize;
        let mut bytes = match random.below(3) {
            0 => random.bytes(length),
            1 => {
                const PARTS: &[&[u8]] = &[
                    b"*", b"$", b"\r\n", b"3", b"-1", b"1", b"GET", b"SET", b"k", b"\r", b"\n", b" ", b"\"",
                    b"'", b"\x00", b":",
                ];
                (0..length / 3).flat_map(|_| random.pick(PARTS).to_vec()).collect()
            }
            _ => {
                let mut bytes = Vec::new();
                for _ in 0..20 {
                    encode(&mut bytes, &["SET", "k", "value"]);
                }
                let at = random.below(bytes.len() as u64) as usize;
                bytes[at] = random.next() as u8;
                bytes
            }
        };
        // Nothing that could stop or empty the server may come about by chance.
        bytes.retain(|byte| !matches!(byte, b'H' | b'h' | b'D' | b'd' | b'F' | b'f'));
        let _ = client.stream().write_all(&bytes);
        let _ = client.finish_sending();
        let answer = client.read_to_close();
        assert!(answer.is_ok(), "round {round}: {answer:?} to {}", shown(&bytes));
        assert_eq!(steady.text(&["PING"]), "PONG");
    }
}
