//! Commands that wait, from outside: who is served first and with what, what wakes and what does not, and a stress run over several
//! connections that accounts for every element.
//!
//! The scripted parts run against redis-server as well, where there is one, so that they say what Redis does.
//! `HAYPILE_BLOCKING_SECONDS` prolongs the stress, `HAYPILE_BLOCKING_SEED` repeats its draws.
#![expect(
    clippy::disallowed_methods,
    reason = "a test outside the server reads clocks and starts threads as any program"
)]

#[expect(dead_code, reason = "each test binary takes its part of what they share")]
mod support;

use haypile_resp::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use support::client::{Client, render};
use support::program::{Family, Program};
use support::random::{Random, count_from, seed_from};
use support::server::{Server, wait_for};

fn servers(name: &str) -> Vec<Server> {
    let mut servers = vec![
        Server::start(&format!("blocking-{name}"), &["--memory-budget", "64mb", "--workers", "4"]),
        Server::start(
            &format!("blocking-{name}-large"),
            &["--memory-budget", "64mb", "--workers", "4", "--packed-max-elements", "0"],
        ),
    ];
    if let Some(redis) = Program::controls().into_iter().next() {
        servers.push(Server::start_program(&format!("blocking-{name}-control"), redis, &[]));
    }
    servers
}

/// The words of a line.
fn words(line: &str) -> Vec<&str> {
    line.split(' ').collect()
}

fn send(client: &mut Client, line: &str) {
    client.queue(&words(line));
    client.flush().unwrap();
}

fn call(client: &mut Client, line: &str) -> String {
    render(&client.call(&words(line)))
}

fn read(client: &mut Client) -> String {
    render(&client.read().unwrap())
}

fn blocked(client: &mut Client) -> usize {
    let info = client.text(&["INFO", "clients"]);
    let line = info.lines().find(|line| line.starts_with("blocked_clients:")).unwrap();
    line.trim_end().rsplit(':').next().unwrap().parse().unwrap()
}

/// Sends a command that waits, and waits until it does.
fn block(server: &Server, admin: &mut Client, line: &str) -> Client {
    let before = blocked(admin);
    let mut client = server.client();
    send(&mut client, line);
    wait_for("the client waits", || blocked(admin) == before + 1);
    client
}

fn nothing_comes(client: &mut Client) {
    client.set_patience(Duration::from_millis(30)).unwrap();
    assert!(client.read().is_err(), "an answer came");
    client.set_patience(support::client::PATIENCE).unwrap();
}

#[test]
fn readers_of_a_group_hear_that_their_stream_has_expired() {
    for server in servers("expiry") {
        let mut admin = server.client();
        if server.family() == Family::Redis {
            // Since 7.2.
            continue;
        }
        let mut popper = block(&server, &mut admin, "BLPOP s 0");
        call(&mut admin, "XGROUP CREATE s g $ MKSTREAM");
        call(&mut admin, "XGROUP CREATE other g $ MKSTREAM");
        let mut reader = block(&server, &mut admin, "XREADGROUP GROUP g c BLOCK 0 STREAMS other s > >");
        let mut plain = block(&server, &mut admin, "XREAD BLOCK 0 STREAMS s $");
        call(&mut admin, "PEXPIRE s 20");
        let error = read(&mut reader);
        assert!(error.starts_with(r"-NOGROUP No such key \'s\'"), "{error}");
        nothing_comes(&mut popper);
        nothing_comes(&mut plain);
        call(&mut admin, "RPUSH s x");
        assert_eq!(read(&mut popper), "*[$s, $x]");
        assert_eq!(blocked(&mut admin), 1);
    }
}

#[test]
fn a_group_that_is_set_back_serves_nobody_before_the_next_entry() {
    for server in servers("setid") {
        let mut admin = server.client();
        call(&mut admin, "XADD s 1-1 f v");
        call(&mut admin, "XGROUP CREATE s g $");
        let mut reader = block(&server, &mut admin, "XREADGROUP GROUP g c BLOCK 0 STREAMS s >");
        call(&mut admin, "XGROUP SETID s g 0");
        nothing_comes(&mut reader);
        // Nor do other writes of its key tell it of them.
        let writes = [
            "XACK s g 1-1",
            "XTRIM s MAXLEN 9",
            "XGROUP CREATECONSUMER s g other",
            "XCLAIM s g other 0 1-1",
            "XAUTOCLAIM s g other 0 0",
            "XSETID s 1-5",
            "MULTI",
            "XDEL s 1-9",
            "XGROUP SETID s g 0",
            "XGROUP DELCONSUMER s g other",
            "EXEC",
        ];
        for line in writes {
            assert!(!call(&mut admin, line).starts_with('-'), "{line}");
            nothing_comes(&mut reader);
        }
        call(&mut admin, "XADD s 2-1 f v");
        let both = "*[*[$s, *[*[$1-1, *[$f, $v]], *[$2-1, *[$f, $v]]]]]";
        assert_eq!(read(&mut reader), both);
    }
}

#[test]
fn an_entry_delivered_under_a_key_shows_under_the_same_key_again() {
    for server in servers("twice") {
        let mut admin = server.client();
        call(&mut admin, "XADD s 1-1 f v");
        call(&mut admin, "XGROUP CREATE s g 0");
        let one = "*[$s, *[*[$1-1, *[$f, $v]]]]";
        let twice = call(&mut admin, "XREADGROUP GROUP g c STREAMS s s > 0");
        assert_eq!(twice, format!("*[{one}, {one}]"));
        let pending = call(&mut admin, "XPENDING s g - + 9");
        assert!(pending.ends_with(", :2]]"), "{pending}");
        for line in ["XADD s 2-1 f v", "XADD s 3-1 f v"] {
            call(&mut admin, line);
        }
        let limited = call(&mut admin, "XREADGROUP GROUP g c COUNT 2 STREAMS s s > 0");
        let (new, old) = (
            "*[$s, *[*[$2-1, *[$f, $v]], *[$3-1, *[$f, $v]]]]",
            "*[$s, *[*[$1-1, *[$f, $v]], *[$2-1, *[$f, $v]]]]",
        );
        assert_eq!(limited, format!("*[{new}, {old}]"));
    }
}

#[test]
fn first_come_first_served() {
    for server in servers("order") {
        let mut admin = server.client();
        let mut clients: Vec<Client> =
            (0..12).map(|_| block(&server, &mut admin, "BLPOP other q 0")).collect();
        assert_eq!(call(&mut admin, "RPUSH q 0 1 2 3 4"), ":5");
        for number in 5..12 {
            assert_eq!(call(&mut admin, &format!("LPUSH q {number}")), ":1");
        }
        for (number, client) in clients.iter_mut().enumerate() {
            assert_eq!(read(client), format!("*[$q, ${number}]"));
        }
        assert_eq!(call(&mut admin, "EXISTS q"), ":0");
        // In line at two keys: out of both once served.
        let mut both = block(&server, &mut admin, "BRPOP a b a 0");
        let mut second = block(&server, &mut admin, "BRPOP b 0");
        assert_eq!(call(&mut admin, "RPUSH a 1"), ":1");
        assert_eq!(call(&mut admin, "RPUSH b 2"), ":1");
        assert_eq!((read(&mut both), read(&mut second)), ("*[$a, $1]".into(), "*[$b, $2]".into()));
        // Each takes what it asked for, the next what is left.
        let mut many = block(&server, &mut admin, "BLMPOP 0 2 x y LEFT COUNT 2");
        let mut one = block(&server, &mut admin, "BRPOP y 0");
        let mut rest = block(&server, &mut admin, "BLMPOP 0 1 y RIGHT COUNT 100");
        assert_eq!(call(&mut admin, "RPUSH y 1 2 3 4 5"), ":5");
        assert_eq!(read(&mut many), "*[$y, *[$1, $2]]");
        assert_eq!(read(&mut one), "*[$y, $5]");
        assert_eq!(read(&mut rest), "*[$y, *[$4, $3]]");
    }
}

#[test]
fn an_element_goes_on_as_far_as_someone_waits() {
    for server in servers("chain") {
        let mut admin = server.client();
        let mut first = block(&server, &mut admin, "BLMOVE a b LEFT RIGHT 0");
        let mut second = block(&server, &mut admin, "BRPOPLPUSH b c 0");
        let mut third = block(&server, &mut admin, "BLPOP c 0");
        assert_eq!(call(&mut admin, "RPUSH a 1"), ":1");
        assert_eq!((read(&mut first), read(&mut second)), ("$1".into(), "$1".into()));
        assert_eq!(read(&mut third), "*[$c, $1]");
        assert_eq!(call(&mut admin, "EXISTS a b c"), ":0");
        // Round and round, each once.
        let mut first = block(&server, &mut admin, "BRPOPLPUSH a b 0");
        let mut second = block(&server, &mut admin, "BRPOPLPUSH b a 0");
        assert_eq!(call(&mut admin, "RPUSH a 1"), ":1");
        assert_eq!((read(&mut first), read(&mut second)), ("$1".into(), "$1".into()));
        assert_eq!(call(&mut admin, "LRANGE a 0 -1"), "*[$1]");
        call(&mut admin, "DEL a");
        let mut own = block(&server, &mut admin, "BRPOPLPUSH a a 0");
        assert_eq!(call(&mut admin, "RPUSH a 1 2"), ":2");
        assert_eq!(read(&mut own), "$2");
        assert_eq!(call(&mut admin, "LRANGE a 0 -1"), "*[$2, $1]");
        // The target is of another type: that one hears of it, the element goes to the next.
        call(&mut admin, "DEL a");
        call(&mut admin, "SET text t");
        let mut wrong = block(&server, &mut admin, "BLMOVE a text LEFT LEFT 0");
        let mut right = block(&server, &mut admin, "BLMOVE a list LEFT LEFT 0");
        assert_eq!(call(&mut admin, "RPUSH a 1"), ":1");
        assert!(read(&mut wrong).starts_with("-WRONGTYPE"));
        assert_eq!(read(&mut right), "$1");
    }
}

#[test]
fn what_wakes_and_what_does_not() {
    for server in servers("wakes") {
        let mut admin = server.client();
        let mut client = block(&server, &mut admin, "BLPOP q 0");
        for line in ["SET q text", "DEL q", "RPUSH elsewhere 1 2 3 4 5 6", "COPY elsewhere other"] {
            call(&mut admin, line);
            assert_eq!(blocked(&mut admin), 1, "{line}");
        }
        assert_eq!(call(&mut admin, "RENAME other q"), "+OK");
        assert_eq!(read(&mut client), "*[$q, $1]");
        call(&mut admin, "DEL q");
        for (wakes, answer) in [
            ("COPY elsewhere q", ":1"),
            ("RENAMENX copied q", ":1"),
            ("LMOVE elsewhere q LEFT LEFT", "$1"),
            ("RPOPLPUSH elsewhere q", "$6"),
            ("MOVE q 0", ":1"),
        ] {
            call(&mut admin, "COPY elsewhere copied");
            if wakes.starts_with("MOVE") {
                for line in ["SELECT 1", "RPUSH q m"] {
                    call(&mut admin, line);
                }
            }
            let mut client = block(&server, &mut admin, "BRPOP nothing q 0");
            assert_eq!(call(&mut admin, wakes), answer, "{wakes}");
            let found = read(&mut client);
            assert!(found.starts_with("*[$q, $"), "{wakes}: {found}");
            call(&mut admin, "SELECT 0");
            call(&mut admin, "DEL q copied");
        }
        // SORT STORE, RESTORE, and a push within a transaction, which wakes once all of it has happened.
        let mut client = block(&server, &mut admin, "BLPOP q 0");
        assert_eq!(call(&mut admin, "SORT elsewhere ALPHA LIMIT 0 1 STORE q"), ":1");
        assert!(read(&mut client).starts_with("*[$q, $"));
        let Value::Bulk(payload) = admin.call(&["DUMP", "elsewhere"]) else { panic!() };
        let mut client = block(&server, &mut admin, "BLPOP q 0");
        let restore: [&[u8]; 4] = [b"RESTORE", b"q", b"0", &payload];
        assert_eq!(render(&admin.call(&restore)), "+OK");
        assert!(read(&mut client).starts_with("*[$q, $"));
        call(&mut admin, "DEL q");
        let mut client = block(&server, &mut admin, "BLPOP q 0");
        for line in ["MULTI", "RPUSH q first", "LPUSH q before"] {
            call(&mut admin, line);
        }
        assert_eq!(call(&mut admin, "EXEC"), "*[:1, :2]");
        assert_eq!(read(&mut client), "*[$q, $before]");
        call(&mut admin, "DEL q");
        // Of several keys the one that had a list first, whatever else the transaction names before.
        let transactions = [
            (["EXISTS q", "SADD p no", "LPUSH r 1", "LPUSH q 2"], "*[$r, $1]"),
            (["SET q no", "LPUSH r 1", "DEL q", "LPUSH q 2"], "*[$r, $1]"),
            (["LPUSH q 1", "DEL q", "LPUSH r 1", "LPUSH q 2"], "*[$q, $2]"),
            (["DEL q r", "RPUSH p 1 2", "LMOVE p r LEFT LEFT", "LMOVE p q LEFT LEFT"], "*[$r, $1]"),
            (["ZADD q 1 no", "LPUSH r 1", "DEL q", "LPUSH q 2"], "*[$r, $1]"),
            (["FLUSHDB", "LPUSH r 1", "EXISTS q", "LPUSH q 2"], "*[$r, $1]"),
        ];
        for (lines, found) in transactions {
            call(&mut admin, "DEL p q r");
            let mut client = block(&server, &mut admin, "BLPOP q r 0");
            call(&mut admin, "MULTI");
            for line in lines {
                assert_eq!(call(&mut admin, line), "+QUEUED");
            }
            call(&mut admin, "EXEC");
            assert_eq!(read(&mut client), found, "{lines:?}");
        }
        call(&mut admin, "DEL p q r");
        // Likewise for readers of streams: of a stream that is there what is added counts, and for those of a group that it goes.
        let transactions = [
            (
                "XREAD BLOCK 0 STREAMS q r $ $",
                ["EXPIRE q 100", "XDEL q 1-1", "XADD r 2-1 f v", "XADD q 2-1 f v"],
                "*[*[$r, ",
            ),
            (
                "XREADGROUP GROUP g c BLOCK 0 STREAMS q r > >",
                ["EXISTS r", "DEL q", "XADD r 2-1 f v", "EXISTS q"],
                "-",
            ),
            (
                "XREADGROUP GROUP g c BLOCK 0 STREAMS q r > >",
                ["EXISTS q", "XADD r 2-1 f v", "DEL q", "EXISTS q"],
                "*[*[$r, ",
            ),
        ];
        for (wait, lines, found) in transactions {
            for key in ["q", "r"] {
                call(&mut admin, &format!("XADD {key} 1-1 f v"));
                call(&mut admin, &format!("XGROUP CREATE {key} g $"));
            }
            let mut client = block(&server, &mut admin, wait);
            call(&mut admin, "MULTI");
            for line in lines {
                assert_eq!(call(&mut admin, line), "+QUEUED");
            }
            call(&mut admin, "EXEC");
            let answer = read(&mut client);
            assert!(answer.starts_with(found), "{wait}, {lines:?}: {answer}");
            call(&mut admin, "DEL q r");
        }
        // Databases change places: those who wait stay where they are.
        call(&mut admin, "SELECT 1");
        call(&mut admin, "RPUSH q swapped");
        let mut client = block(&server, &mut admin, "BLPOP q 0");
        assert_eq!(call(&mut admin, "SWAPDB 0 1"), "+OK");
        assert_eq!(read(&mut client), "*[$q, $swapped]");
        // What has expired is not there.
        call(&mut admin, "FLUSHALL");
        call(&mut admin, "DEBUG SET-ACTIVE-EXPIRE 0");
        call(&mut admin, "RPUSH q gone");
        call(&mut admin, "PEXPIRE q 1");
        let mut client = block(&server, &mut admin, "BLPOP q 0");
        std::thread::sleep(Duration::from_millis(10));
        call(&mut admin, "SWAPDB 0 1");
        assert_eq!(blocked(&mut admin), 1);
        call(&mut admin, "DEBUG SET-ACTIVE-EXPIRE 1");
        call(&mut admin, "SELECT 0");
        call(&mut admin, "RPUSH q came");
        assert_eq!(read(&mut client), "*[$q, $came]");
    }
}

#[test]
fn how_a_wait_ends_without_an_element() {
    for server in servers("ends") {
        let mut admin = server.client();
        let start = Instant::now();
        for (line, answer) in [
            ("BLPOP none 0.05", "(nil array)"),
            ("BRPOP none other 0.001", "(nil array)"),
            ("BLMOVE none to LEFT RIGHT 0.01", "(nil array)"),
            ("BRPOPLPUSH none to 0.01", "(nil array)"),
            ("BLMPOP 0.01 1 none LEFT", "(nil array)"),
            ("BLPOP none -1", "-ERR timeout is negative"),
            ("BLPOP none abc", "-ERR timeout is not a float or out of range"),
            ("BLMPOP -1 1 none LEFT", "-ERR timeout is negative"),
            ("BLMOVE none to UP DOWN abc", "-ERR syntax error"),
        ] {
            let found = call(&mut admin, line);
            assert!(found.starts_with(answer), "{line}: {found}");
        }
        assert!(start.elapsed() >= Duration::from_millis(80));
        // Unblocked, in both ways; one that was served or never waited is not.
        let mut client = server.client();
        let id = client.integer(&["CLIENT", "ID"]);
        assert_eq!(call(&mut admin, &format!("CLIENT UNBLOCK {id}")), ":0");
        for (how, answer) in
            [("", "(nil array)"), (" TIMEOUT", "(nil array)"), (" ERROR", "-UNBLOCKED client unblocked via")]
        {
            send(&mut client, "BLPOP q 0");
            wait_for("the client waits", || blocked(&mut admin) == 1);
            assert_eq!(call(&mut admin, &format!("CLIENT UNBLOCK {id}{how}")), ":1");
            assert_eq!(call(&mut admin, "RPUSH q kept"), ":1");
            assert!(read(&mut client).starts_with(answer));
            assert_eq!(call(&mut admin, "LPOP q"), "$kept");
        }
        send(&mut client, "BLPOP q 0");
        wait_for("the client waits", || blocked(&mut admin) == 1);
        call(&mut admin, "RPUSH q taken");
        // Whoever has the pusher's answer finds it served.
        assert_eq!(call(&mut admin, &format!("CLIENT UNBLOCK {id}")), ":0");
        assert_eq!(read(&mut client), "*[$q, $taken]");
        // Killed: not a moment later is anything taken for it.
        send(&mut client, "BLPOP q 0");
        wait_for("the client waits", || blocked(&mut admin) == 1);
        admin.queue(&words(&format!("CLIENT KILL ID {id}")));
        admin.queue(&words("RPUSH q kept"));
        admin.flush().unwrap();
        assert_eq!((read(&mut admin), read(&mut admin)), (":1".into(), ":1".into()));
        assert_eq!(call(&mut admin, "LRANGE q 0 -1"), "*[$kept]");
        call(&mut admin, "DEL q");
        // Gone by itself, or with its requests: nothing is taken for it once that is known.
        for half in [false, true] {
            let mut gone = block(&server, &mut admin, "BLPOP q 0");
            if half {
                gone.finish_sending().unwrap();
            } else {
                drop(gone);
            }
            wait_for("the client is gone", || blocked(&mut admin) == 0);
        }
        // Its end comes together with its command.
        let mut client = server.client();
        client.queue(&words("PING"));
        client.queue(&words("BLPOP q 0"));
        client.finish_sending().unwrap();
        assert_eq!(read(&mut client), "+PONG");
        assert!(client.read().is_err());
        wait_for("the client is gone", || blocked(&mut admin) == 0);
        assert_eq!(call(&mut admin, "RPUSH q kept"), ":1");
        assert_eq!(call(&mut admin, "LRANGE q 0 -1"), "*[$kept]");
    }
}

#[test]
fn the_rest_of_a_pipeline_waits() {
    for server in servers("pipeline") {
        let mut admin = server.client();
        let mut client = server.client();
        for line in ["SET before 1", "BLPOP q 0", "SET after 1", "BLPOP q r 0", "GET before"] {
            client.queue(&words(line));
        }
        client.flush().unwrap();
        wait_for("the client waits", || blocked(&mut admin) == 1);
        assert_eq!(read(&mut client), "+OK");
        assert_eq!(call(&mut admin, "EXISTS before after"), ":1");
        call(&mut admin, "RPUSH q 1");
        assert_eq!((read(&mut client), read(&mut client)), ("*[$q, $1]".into(), "+OK".into()));
        nothing_comes(&mut client);
        call(&mut admin, "RPUSH r 2");
        assert_eq!((read(&mut client), read(&mut client)), ("*[$r, $2]".into(), "$1".into()));
        // Not answered, but done.
        for line in ["CLIENT REPLY SKIP", "BLPOP q 0", "ECHO heard"] {
            client.queue(&words(line));
        }
        client.flush().unwrap();
        wait_for("the client waits", || blocked(&mut admin) == 1);
        call(&mut admin, "RPUSH q 3");
        assert_eq!(read(&mut client), "$heard");
        assert_eq!(call(&mut admin, "EXISTS q"), ":0");
        // Over RESP3.
        call(&mut client, "HELLO 3");
        assert_eq!(call(&mut client, "BLPOP none 0.01"), "(nil)");
        send(&mut client, "BLMPOP 0 1 q LEFT");
        wait_for("the client waits", || blocked(&mut admin) == 1);
        call(&mut admin, "RPUSH q 4");
        assert_eq!(read(&mut client), "*[$q, *[$4]]");
    }
}

#[test]
fn the_server_ends_though_clients_wait() {
    let mut server = Server::start("blocking-shutdown", &["--memory-budget", "64mb"]);
    let mut admin = server.client();
    let mut client = block(&server, &mut admin, "BLPOP q 0");
    server.terminate();
    assert!(client.read().is_err());
    assert!(server.wait_exit().success());
}

/// A pool runs a command that waits, and one that has to be served there: the list is large and not in memory.
#[test]
fn served_on_a_pool() {
    let mut server = Server::start(
        "blocking-pool",
        &["--memory-budget", "64mb", "--workers", "4", "--packed-max-elements", "0"],
    );
    let mut admin = server.client();
    let long = "x".repeat(100);
    for round in 0..40 {
        let mut line = vec!["RPUSH".to_string(), "target".to_string()];
        line.extend((0..500).map(|number| format!("{long}{round}-{number}")));
        admin.call(&line);
    }
    assert_eq!(call(&mut admin, "SAVE"), "+OK");
    server.kill();
    server.restart();
    let mut admin = server.client();
    let mut first = block(&server, &mut admin, "BLMOVE q target LEFT RIGHT 0");
    let mut second = block(&server, &mut admin, "BLMPOP 0 1 all LEFT COUNT 1000000");
    assert_eq!(call(&mut admin, "RPUSH q moved"), ":1");
    assert_eq!(read(&mut first), "$moved");
    assert_eq!(call(&mut admin, "EXISTS q"), ":0");
    assert_eq!(call(&mut admin, "LINDEX target -1"), "$moved");
    assert_eq!(call(&mut admin, "RENAME target all"), "+OK");
    let Value::Array(parts) = second.read().unwrap() else { panic!("no array") };
    assert!(matches!(&parts[1], Value::Array(elements) if elements.len() == 20_001));
    assert_eq!(call(&mut admin, "EXISTS all target"), ":0");
}

// ---- stress ----

struct Stress {
    server: Server,
    stop: AtomicBool,
    next: AtomicU64,
    /// Elements that clients were given.
    received: Mutex<Vec<u64>>,
    seed: u64,
}

const KEYS: &[&str] = &["q0", "q1", "q2"];

impl Stress {
    fn start(name: &str, flags: &[&str]) -> Arc<Stress> {
        let seed = seed_from("HAYPILE_BLOCKING_SEED");
        eprintln!("HAYPILE_BLOCKING_SEED={seed}");
        let mut all = vec!["--memory-budget", "64mb", "--workers", "4"];
        all.extend(flags);
        let server = Server::start(name, &all);
        Arc::new(Stress {
            server,
            stop: AtomicBool::new(false),
            next: AtomicU64::new(0),
            received: Mutex::default(),
            seed,
        })
    }

    fn stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    fn spawn(
        self: &Arc<Self>,
        number: u64,
        work: impl FnOnce(&Stress, Random) + Send + 'static,
    ) -> std::thread::JoinHandle<()> {
        let stress = Arc::clone(self);
        std::thread::spawn(move || {
            let random = Random::new(stress.seed.wrapping_add(number * 7919));
            work(&stress, random);
        })
    }

    /// Pushes fresh numbers in every way.
    fn push(&self, mut random: Random) {
        let mut client = self.server.client();
        while !self.stopped() {
            let key = random.pick(KEYS);
            let count = if random.chance(700) { 1 } else { 1 + random.below(5) };
            let mut command = vec![random.pick(&["LPUSH", "RPUSH"]).to_string(), key.to_string()];
            command.extend((0..count).map(|_| self.next.fetch_add(1, Ordering::Relaxed).to_string()));
            match random.below(10) {
                // By way of another key.
                0 => {
                    let aside = format!("aside{}", random.below(1 << 40));
                    command[1] = aside.clone();
                    client.call(&command);
                    // Over a key that may hold something: only if it does not.
                    if client.integer(&["RENAMENX", &aside, key]) == 0 {
                        while client.call(&["LMOVE", &aside, key, "LEFT", "RIGHT"]) != Value::Null {}
                    }
                }
                _ => {
                    client.call(&command);
                }
            }
            if random.chance(300) {
                std::thread::sleep(Duration::from_micros(random.below(800)));
            }
        }
    }

    fn receive(&self, value: &Value) {
        let mut received = self.received.lock().unwrap();
        let mut numbers = |value: &Value| match value {
            Value::Bulk(text) => {
                received.extend(std::str::from_utf8(text).unwrap().parse::<u64>().ok());
            }
            other => panic!("{}", render(other)),
        };
        match value {
            Value::Null | Value::NullArray => {}
            Value::Error(text) => assert!(text.starts_with(b"UNBLOCKED"), "{}", render(value)),
            Value::Array(parts) => match &parts[1] {
                Value::Array(elements) => elements.iter().for_each(&mut numbers),
                element => numbers(element),
            },
            other => numbers(other),
        }
    }

    /// What is left under all keys.
    fn left(&self) -> Vec<u64> {
        let mut client = self.server.client();
        let mut left = Vec::new();
        for key in client.scan_all() {
            let Value::Array(elements) = client.call(&[b"LRANGE".as_slice(), &key, b"0", b"-1"]) else {
                panic!("no list")
            };
            for element in elements {
                let Value::Bulk(text) = element else { panic!("no element") };
                left.push(std::str::from_utf8(&text).unwrap().parse().unwrap());
            }
        }
        left
    }

    /// Every number that was pushed is in exactly one place.
    fn account(&self) {
        let pushed = self.next.load(Ordering::Relaxed);
        let mut seen: BTreeMap<u64, u32> = BTreeMap::new();
        let received = std::mem::take(&mut *self.received.lock().unwrap());
        let got = received.len();
        for number in received.into_iter().chain(self.left()) {
            *seen.entry(number).or_default() += 1;
        }
        let twice: Vec<_> = seen.iter().filter(|(_, count)| **count > 1).collect();
        assert!(twice.is_empty(), "served twice: {twice:?}");
        let lost: BTreeSet<u64> = (0..pushed).filter(|number| !seen.contains_key(number)).collect();
        assert!(lost.is_empty(), "lost of {pushed}: {lost:?}");
        eprintln!("{pushed} pushed, {got} received by clients, the others are left");
        assert!(got as u64 * 4 > pushed, "too little was received");
        let mut admin = self.server.client();
        assert_eq!(blocked(&mut admin), 0);
        let info = admin.text(&["INFO", "clients"]);
        assert!(info.contains("total_blocking_keys:0\r\n"), "{info}");
    }
}

fn stress_time() -> Duration {
    Duration::from_secs(count_from("HAYPILE_BLOCKING_SECONDS", 4))
}

/// Takers with short patience, some unblocked from outside: what they are given and what is left is all there is.
fn takers(name: &str, flags: &[&str]) {
    let stress = Stress::start(name, flags);
    let ids: Arc<Mutex<Vec<i64>>> = Arc::default();
    let mut threads = Vec::new();
    for number in 0..8 {
        let ids = Arc::clone(&ids);
        threads.push(stress.spawn(number, move |stress, mut random| {
            let mut client = stress.server.client();
            ids.lock().unwrap().push(client.integer(&["CLIENT", "ID"]));
            while !stress.stopped() {
                let (a, b) = (random.pick(KEYS), random.pick(KEYS));
                let timeout = format!("0.00{}", 1 + random.below(9));
                let count = (1 + random.below(4)).to_string();
                let command: Vec<&str> = match random.below(6) {
                    0 | 1 => vec!["BLPOP", a, b, &timeout],
                    2 => vec!["BRPOP", a, b, &timeout],
                    3 => vec!["BLMPOP", &timeout, "2", a, b, "LEFT", "COUNT", &count],
                    4 => vec!["LPOP", a],
                    _ => vec!["BLMOVE", a, b, "LEFT", "RIGHT", &timeout],
                };
                let answer = client.call(&command);
                // A moved element is still there.
                if !command[0].starts_with("BLMOVE") {
                    stress.receive(&answer);
                }
            }
        }));
    }
    for number in 0..2 {
        threads.push(stress.spawn(100 + number, Stress::push));
    }
    {
        let ids = Arc::clone(&ids);
        threads.push(stress.spawn(200, move |stress, mut random| {
            let mut client = stress.server.client();
            while !stress.stopped() {
                let known = ids.lock().unwrap().clone();
                if known.is_empty() {
                    // The takers are still coming.
                    std::thread::sleep(Duration::from_millis(1));
                    continue;
                }
                let id = random.pick(&known).to_string();
                let how = random.pick(&["ERROR", "TIMEOUT"]);
                client.integer(&["CLIENT", "UNBLOCK", &id, how]);
                std::thread::sleep(Duration::from_micros(random.below(2000)));
            }
        }));
    }
    std::thread::sleep(stress_time());
    stress.stop.store(true, Ordering::Relaxed);
    for thread in threads {
        thread.join().unwrap();
    }
    stress.account();
}

#[test]
fn every_element_is_accounted_for() {
    takers("blocking-takers", &[]);
}

#[test]
fn every_element_is_accounted_for_in_large_lists() {
    takers("blocking-takers-large", &["--packed-max-elements", "0", "--appendfsync", "always"]);
}

/// Movers that break off, are killed, or wait in chains: a moved element is in one list or the other, whatever becomes of the client.
#[test]
fn nothing_moved_is_lost_with_its_client() {
    let stress = Stress::start("blocking-movers", &[]);
    let mut threads = Vec::new();
    for number in 0..8u64 {
        threads.push(stress.spawn(number, move |stress, mut random| {
            let own = format!("done{number}");
            let mut client = stress.server.client();
            while !stress.stopped() {
                let from = random.pick(KEYS);
                // Sometimes to another queue, where others wait.
                let to = if random.chance(300) { random.pick(KEYS) } else { &own };
                let timeout = format!("0.0{}", 1 + random.below(5));
                client.queue(&["BLMOVE", from, to, "RIGHT", "LEFT", &timeout]);
                client.flush().unwrap();
                if random.chance(250) {
                    // Breaks off somewhere between the request and its answer.
                    std::thread::sleep(Duration::from_micros(random.below(1500)));
                    client = stress.server.client();
                } else if client.read().is_err() {
                    client = stress.server.client();
                }
            }
        }));
    }
    for number in 0..2 {
        threads.push(stress.spawn(100 + number, Stress::push));
    }
    threads.push(stress.spawn(200, |stress, mut random| {
        let mut client = stress.server.client();
        let own = client.integer(&["CLIENT", "ID"]);
        while !stress.stopped() {
            let list = client.text(&["CLIENT", "LIST"]);
            let waiting: Vec<&str> = list.lines().filter(|line| line.contains(" flags=b")).collect();
            if let Some(line) = waiting.get(random.below(waiting.len().max(1) as u64) as usize) {
                let id = line.strip_prefix("id=").unwrap().split(' ').next().unwrap();
                assert_ne!(id, own.to_string());
                client.integer(&["CLIENT", "KILL", "ID", id]);
            }
            std::thread::sleep(Duration::from_micros(random.below(5000)));
        }
    }));
    std::thread::sleep(stress_time());
    stress.stop.store(true, Ordering::Relaxed);
    for thread in threads {
        thread.join().unwrap();
    }
    let mut admin = stress.server.client();
    wait_for("all have gone", || blocked(&mut admin) == 0);
    // What was moved to the movers' own lists counts as received.
    let mut done = Vec::new();
    for number in 0..8 {
        let key = format!("done{number}");
        let Value::Array(elements) = admin.call(&["LRANGE", &key, "0", "-1"]) else { panic!("no list") };
        done.extend(elements.iter().map(|element| match element {
            Value::Bulk(text) => std::str::from_utf8(text).unwrap().parse::<u64>().unwrap(),
            other => panic!("{}", render(other)),
        }));
        admin.call(&["DEL", &key]);
    }
    *stress.received.lock().unwrap() = done;
    stress.account();
}

/// CLIENT UNBLOCK ends the wait that there is, once, and nothing that comes behind it.
#[test]
fn a_wait_is_ended_once() {
    for server in servers("once") {
        let (mut admin, mut client) = (server.client(), server.client());
        let id = client.integer(&["CLIENT", "ID"]).to_string();
        for wait in ["WAIT 1 0", "BLPOP q 0"] {
            send(&mut client, wait);
            wait_for("the client waits", || blocked(&mut admin) == 1);
            (0..2).for_each(|_| admin.queue(&["CLIENT", "UNBLOCK", &id]));
            admin.flush().unwrap();
            assert_eq!([read(&mut admin), read(&mut admin)], [":1", ":0"], "{wait}");
            let expected = if wait.starts_with("WAIT") { ":0" } else { "(nil array)" };
            assert_eq!(read(&mut client), expected);
        }
        // A command that waits for others is none that could be ended, whatever was under way for the one before it.
        let over = AtomicBool::new(false);
        std::thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| {
                    let mut other = server.client();
                    while !over.load(Ordering::Relaxed) {
                        other.call(&["CLIENT", "UNBLOCK", &id]);
                    }
                });
            }
            let answers = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
                for round in 0..2000 {
                    client.queue(&["WAIT", "1", "0"]);
                    client.queue(&["CLIENT", "PAUSE", "0", "WRITE"]);
                    client.queue(&["ECHO", &round.to_string()]);
                    client.flush().unwrap();
                    let answers = [read(&mut client), read(&mut client), read(&mut client)];
                    assert_eq!(answers, [":0", "+OK", &format!("${round}")]);
                }
            }));
            over.store(true, Ordering::Relaxed);
            answers.unwrap();
        });
    }
}

/// An EXEC that pauses writes leaves whom it could serve waiting until the end. Readers do not wait for that, and no writer comes before.
#[test]
fn whom_a_pause_keeps_waiting_comes_first_behind_it() {
    let mut servers: Vec<Server> =
        servers("pause").into_iter().filter(|it| it.family() != Family::Redis).collect();
    // 7.0 fails an assertion in this.
    for redis in Program::controls().into_iter().filter(|redis| redis.series() != "7.0") {
        servers.push(Server::start_program(&format!("blocking-pause-{}", redis.series()), redis, &[]));
    }
    for server in servers {
        let mut admin = server.client();
        for (round, unpause) in [false, true, false, true].into_iter().enumerate() {
            // On all workers, the last one to come in front of all.
            let mut thieves: Vec<Client> = (0..8).map(|_| server.client()).collect();
            let mut popper = block(&server, &mut admin, "BLMOVE q to LEFT LEFT 0");
            for line in ["MULTI", "RPUSH q 1", "CLIENT PAUSE 1500 WRITE", "EXEC"] {
                send(&mut admin, line);
            }
            (0..3).for_each(|_| drop(read(&mut admin)));
            let started = Instant::now();
            assert_eq!(read(&mut admin), "*[:1, +OK]");
            thieves.iter_mut().for_each(|thief| send(thief, "LPOP q"));
            let mut other = server.client();
            for (line, reply) in
                [("WATCH q to", "+OK"), ("LLEN q", ":1"), ("LLEN to", ":0"), ("MULTI", "+OK")]
            {
                assert_eq!(call(&mut other, line), reply);
            }
            nothing_comes(&mut popper);
            assert!(started.elapsed() < Duration::from_millis(1000), "WATCH waited for the end of the pause");
            if unpause {
                // Prolonged, so that nothing but this ends it.
                assert_eq!(call(&mut other, "DISCARD"), "+OK");
                assert_eq!(call(&mut other, "CLIENT PAUSE 60000 WRITE"), "+OK");
                assert_eq!(call(&mut other, "CLIENT UNPAUSE"), "+OK");
            } else {
                send(&mut other, "LPOP to");
                assert_eq!(read(&mut other), "+QUEUED");
                assert_eq!(call(&mut other, "EXEC"), "(nil array)", "what it watched was moved before");
            }
            assert_eq!(read(&mut popper), "$1", "round {round}");
            for thief in &mut thieves {
                assert_eq!(read(thief), "(nil)");
            }
            assert_eq!(call(&mut admin, "LPOP to"), "$1");
        }
    }
}
