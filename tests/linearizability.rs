//! Is there one order of everything that concurrent clients saw? Also when the server is killed between?
//!
//! Eight clients do random things to few keys of a real process: texts, lists and hashes, transactions, pipelines, compare-and-set by WATCH, waits
//! in BLPOP. Each notes when it called, when it had the answer, and the answer. Then `kill -9` and a start over the same folder, several
//! times. Connections are cut now and then with a command under way. The whole history of each key, across all kills, must then be
//! that of one key doing one thing at a time ([`checker`], [`key`]): so what was answered or read before a kill is there after it, what
//! was under way happened once or never, an EXEC is one step, and no element is lost, doubled, or handed to two.
//!
//! A called off EXEC leaves nothing, so any history allows it; apart from that, it must have had a reason: somebody's write to its key between
//! WATCH and EXEC.
//!
//! | variable | what |
//! |---|---|
//! | `HAYPILE_LINEARIZABILITY_ROUNDS` | kills per test (hundreds, for a night) |
//! | `HAYPILE_LINEARIZABILITY_SEED` | the seed of what is done; when is the machine's |
//! | `HAYPILE_BIN` | another server, as in every test from outside |
#![expect(
    clippy::disallowed_methods,
    reason = "a test outside the server reads clocks and files as any program"
)]

#[expect(dead_code, reason = "each test binary takes its part of what they share")]
mod support;

#[path = "linearizability/checker.rs"]
mod checker;
#[path = "linearizability/key.rs"]
mod key;

#[path = "linearizability/planted.rs"]
mod planted;

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use haypile_resp::Value;

use checker::{Observed, check};
use key::{Command, Key, Operation, State};
use support::client::{Client, render};
use support::program::{Family, Program};
use support::random::{Random, count_from, seed_from};
use support::server::Server;

const CLIENTS: usize = 8;
/// What is done to a key is told by its first letter.
const KEYS: [&str; 8] = ["text:0", "text:1", "list:0", "list:1", "hash:0", "hash:1", "mixed:0", "mixed:1"];

#[test]
fn one_worker_is_linearizable_across_kills() {
    rounds(1, "always", 1);
}

#[test]
fn four_workers_are_linearizable_across_kills() {
    rounds(4, "always", 2);
}

/// A killed process loses nothing that it wrote, synced or not.
#[test]
fn four_workers_are_linearizable_across_kills_under_everysec() {
    rounds(4, "everysec", 3);
}

fn rounds(workers: usize, appendfsync: &str, salt: u64) {
    let seed = seed_from("HAYPILE_LINEARIZABILITY_SEED");
    let rounds = count_from("HAYPILE_LINEARIZABILITY_ROUNDS", 4);
    eprintln!(
        "HAYPILE_LINEARIZABILITY_SEED={seed} ({workers} workers, appendfsync {appendfsync}, {rounds} rounds)"
    );
    let mut random = Random::new(seed.wrapping_add(salt));
    // Redis itself answers before the log is written while a sync is under way; as the control of this test it runs without syncs.
    let control = Program::under_test().family == Family::Redis && appendfsync == "everysec";
    let appendfsync = if control { "no" } else { appendfsync };
    let workers = workers.to_string();
    let flags = ["--appendfsync", appendfsync, "--workers", &workers, "--memory-budget", "64mb"];
    let mut server = Server::start(&format!("linearizability-{workers}-{appendfsync}"), &flags);
    let clock = Instant::now();
    let mut found = vec![State::Nothing; KEYS.len()];
    for round in 0..rounds {
        let load = Duration::from_millis(100 + random.below(300));
        let mut history = load_and_kill(&mut server, clock, load, &mut random);
        server.restart();
        let after = look(&server);
        let (moment, mut operations, mut called_off) = (now(clock), 0, 0);
        for (key, events) in history.iter_mut().enumerate() {
            operations += events.len();
            called_off += without_reason(events)
                .unwrap_or_else(|wrong| panic!("round {round}, {}: {wrong}", KEYS[key]));
            let seen: Vec<Observed<Key>> =
                std::mem::take(events).into_iter().map(|event| event.observed).collect();
            let seen = without_idle(seen);
            let seen = with_end(seen, moment, &after[key]);
            if let Err(wrong) = check::<Key>(found[key].clone(), &seen) {
                panic!("round {round}, {}: {wrong}", KEYS[key]);
            }
        }
        eprintln!(
            "round {round}: {operations} operations in {} ms, {called_off} EXEC called off",
            load.as_millis()
        );
        assert!(operations > 100, "the load does next to nothing");
        found = after;
    }
}

/// The history without reads that nobody answered: they say nothing, and each doubles what is to be kept in mind.
fn without_idle(history: Vec<Observed<Key>>) -> Vec<Observed<Key>> {
    let mut kept: Vec<Observed<Key>> = Vec::with_capacity(history.len());
    // Whether what was sent before in the same pipeline, if anything was, is all left out.
    let mut has_lost_front = false;
    for mut observed in history {
        observed.follows &= !has_lost_front;
        let idle = observed.reply.is_none() && !observed.operation.writes();
        if idle {
            // What follows a read in the middle follows what is before the read.
            has_lost_front = !observed.follows;
        } else {
            has_lost_front = false;
            kept.push(observed);
        }
    }
    kept
}

/// The history, with what was found when all was over.
fn with_end(mut history: Vec<Observed<Key>>, moment: u64, found: &State) -> Vec<Observed<Key>> {
    let operation = Operation::Found(found.clone());
    let reply = Some(Value::Null);
    history.push(Observed {
        client: CLIENTS,
        operation,
        follows: false,
        reply,
        called: moment,
        returned: moment,
    });
    history
}

fn now(clock: Instant) -> u64 {
    clock.elapsed().as_nanos() as u64
}

/// Something done to a key.
struct Event {
    observed: Observed<Key>,
    /// For an EXEC, when its WATCH was sent.
    watched: Option<u64>,
}

/// What was done to each key, in the order of nothing in particular.
type History = Vec<Vec<Event>>;

fn load_and_kill(server: &mut Server, clock: Instant, load: Duration, random: &mut Random) -> History {
    let stop = Arc::new(AtomicBool::new(false));
    let clients: Vec<_> = (0..CLIENTS)
        .map(|number| {
            let (address, stop) = (server.address(), Arc::clone(&stop));
            let random = Random::new(random.next());
            std::thread::spawn(move || {
                let mut one = One { number, random, clock, sent: 0, done: Vec::new() };
                // Relaxed: only ends a loop; the join orders everything else.
                while !stop.load(Ordering::Relaxed) {
                    one.connection(address, &stop);
                }
                one.done
            })
        })
        .collect();
    std::thread::sleep(load);
    server.kill();
    let killed = now(clock);
    stop.store(true, Ordering::Relaxed);
    let mut history: History = KEYS.iter().map(|_| Vec::new()).collect();
    for client in clients {
        for (key, mut event) in client.join().expect("a client") {
            if event.observed.reply.is_none() {
                event.observed.returned = killed.max(event.observed.called);
            }
            history[key].push(event);
        }
    }
    history
}

/// A client at work.
struct One {
    number: usize,
    random: Random,
    clock: Instant,
    /// How many values were sent: no two are alike.
    sent: u64,
    done: Vec<(usize, Event)>,
}

impl One {
    /// One connection, until somebody cuts it.
    fn connection(&mut self, address: SocketAddr, stop: &AtomicBool) {
        let Ok(mut client) = Client::connect(address) else { return };
        while !stop.load(Ordering::Relaxed) {
            if let Err(error) = self.operation(&mut client) {
                let cut = [
                    io::ErrorKind::UnexpectedEof,
                    io::ErrorKind::ConnectionReset,
                    io::ErrorKind::BrokenPipe,
                    io::ErrorKind::NotConnected,
                ];
                assert!(cut.contains(&error.kind()), "the load ended with: {error}");
                return;
            }
        }
    }

    fn operation(&mut self, client: &mut Client) -> io::Result<()> {
        let key = self.random.below(KEYS.len() as u64) as usize;
        match self.random.below(10) {
            0 | 1 => self.compare_and_set(client, key),
            2 => {
                let commands: Vec<Command> =
                    (0..2 + self.random.below(2)).map(|_| self.command(key, true)).collect();
                self.note(client, key, Operation::Transaction(commands), None)
            }
            3 => self.pipeline(client, key),
            _ => {
                let command = self.command(key, false);
                self.note(client, key, Operation::One(command), None)
            }
        }
    }

    fn compare_and_set(&mut self, client: &mut Client, key: usize) -> io::Result<()> {
        let watched = now(self.clock);
        client.try_call(&["WATCH", KEYS[key]])?;
        self.note(client, key, Operation::One(Command::Get), None)?;
        let (_, read) = self.done.last().expect("just noted");
        let seen = read.observed.reply.clone().expect("an answer");
        let commands = vec![self.command(key, true), self.command(key, true)];
        self.note(client, key, Operation::Watched { seen, commands }, Some(watched))
    }

    /// Several commands for one key in one go, whose lock the server may keep from one to the next: for the history each is on its own.
    fn pipeline(&mut self, client: &mut Client, key: usize) -> io::Result<()> {
        let commands: Vec<Command> = (0..2 + self.random.below(3)).map(|_| self.command(key, true)).collect();
        commands.iter().for_each(|command| client.queue(&command.words(KEYS[key])));
        let called = now(self.clock);
        let mut result = client.flush();
        for (place, command) in commands.into_iter().enumerate() {
            let reply = match result {
                Ok(()) => client.read().map_err(|error| result = Err(error)).ok(),
                Err(_) => None,
            };
            let (operation, returned) = (Operation::One(command), now(self.clock));
            let follows = place > 0;
            let observed = Observed { client: self.number, operation, follows, reply, called, returned };
            self.done.push((key, Event { observed, watched: None }));
        }
        result
    }

    fn command(&mut self, key: usize, queued: bool) -> Command {
        self.sent += 1;
        let value = (self.sent * CLIENTS as u64 + self.number as u64).to_string().into_bytes();
        let field = format!("field{}", self.random.below(2)).into_bytes();
        let kind = match KEYS[key].as_bytes()[0] {
            b'm' => self.random.pick(b"tlhd"),
            // Now and then a key is gone.
            _ if self.random.chance(40) => b'd',
            kind => kind,
        };
        let choice = self.random.below(10);
        match (kind, choice) {
            (b'd', _) => Command::Del,
            (b't', 0..=2) => Command::Set(value),
            (b't', 3..=5) => Command::Incr,
            (b't', 6) => Command::Append([b":", &value[..]].concat()),
            (b't', _) => Command::Get,
            (b'l', 0..=3) => Command::LeftPush(value),
            (b'l', 4 | 5) => Command::RightPop,
            (b'l', 6) if !queued => Command::BlockingPop,
            (b'l', 6) => Command::RightPop,
            (b'l', 7) => Command::Rotate,
            (b'l', _) => Command::Range,
            (_, 0..=2) => Command::FieldSet(field, value),
            (b'h', 3..=5) => Command::FieldAdd(field, 1 + choice as i64),
            (_, 6) => Command::FieldDelete(field),
            _ => Command::FieldGet(field),
        }
    }

    /// Does it and notes what happened, be it that nobody knows.
    fn note(
        &mut self,
        client: &mut Client,
        key: usize,
        operation: Operation,
        watched: Option<u64>,
    ) -> io::Result<()> {
        let commands = match &operation {
            Operation::One(command) => std::slice::from_ref(command),
            Operation::Transaction(commands) | Operation::Watched { commands, .. } => commands,
            Operation::Found(_) => &[],
        };
        let words = commands.iter().map(|command| command.words(KEYS[key])).collect::<Vec<_>>();
        let transaction = !matches!(operation, Operation::One(_));
        let cut = self.random.chance(4);
        let called = now(self.clock);
        let reply = send(client, &words, transaction, cut);
        let returned = now(self.clock);
        let (reply, result) = match reply {
            Ok(reply) => (Some(reply), Ok(())),
            Err(error) => (None, Err(error)),
        };
        let observed = Observed { client: self.number, operation, follows: false, reply, called, returned };
        self.done.push((key, Event { observed, watched }));
        result
    }
}

/// Sends a command, or several as a transaction, and reads the answer, unless the connection is to be cut before.
fn send(client: &mut Client, commands: &[Vec<Vec<u8>>], transaction: bool, cut: bool) -> io::Result<Value> {
    if transaction {
        client.queue(&["MULTI"]);
    }
    commands.iter().for_each(|words| client.queue(words));
    if transaction {
        client.queue(&["EXEC"]);
    }
    client.flush()?;
    if cut {
        client.stream().shutdown(std::net::Shutdown::Both)?;
    }
    let before = if transaction { commands.len() + 1 } else { 0 };
    for _ in 0..before {
        let reply = client.read()?;
        assert!(matches!(reply, Value::Simple(_)), "queued with {}", render(&reply));
    }
    Ok(match client.read()? {
        // BLPOP names the key.
        Value::Array(mut pair) if commands[0][0] == b"BLPOP" => Value::Array(pair.split_off(1)),
        reply => reply,
    })
}

/// Every EXEC that was called off, while nobody wrote its key. How many were called off.
fn without_reason(events: &[Event]) -> Result<usize, String> {
    let mut called_off = 0;
    for event in events {
        let exec = &event.observed;
        let Some(watched) = event.watched else { continue };
        if exec.reply != Some(Value::NullArray) {
            continue;
        }
        called_off += 1;
        let reason = events.iter().map(|event| &event.observed).any(|other| {
            let meets = other.called < exec.returned && other.returned > watched;
            // Its own may be from a connection that was cut before.
            let others = other.client != exec.client || other.reply.is_none();
            others && other.operation.writes() && meets
        });
        if !reason {
            return Err(format!("called off without a reason: {exec:?}"));
        }
    }
    Ok(called_off)
}

/// What each key holds, when nobody does anything.
fn look(server: &Server) -> Vec<State> {
    let mut client = server.client();
    let pairs = |value: Value| match value {
        Value::Array(values) => values.into_iter().map(text).collect::<Vec<_>>(),
        other => panic!("a list, not {}", render(&other)),
    };
    KEYS.iter()
        .map(|key| match client.text(&["TYPE", key]).as_str() {
            "none" => State::Nothing,
            "string" => State::Text(text(client.call(&["GET", key]))),
            "list" => State::List(VecDeque::from(pairs(client.call(&["LRANGE", key, "0", "-1"])))),
            "hash" => {
                let flat = pairs(client.call(&["HGETALL", key]));
                let hash: BTreeMap<_, _> =
                    flat.chunks(2).map(|pair| (pair[0].clone(), pair[1].clone())).collect();
                State::Hash(hash)
            }
            kind => panic!("{key} is a {kind}"),
        })
        .collect()
}

fn text(value: Value) -> Vec<u8> {
    match value {
        Value::Bulk(text) => text,
        other => panic!("a text, not {}", render(&other)),
    }
}
