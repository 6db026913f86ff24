//! The same commands to real redis-servers and to ours: equal replies, equal contents.
//!
//! Random streams over one connection to each, pipelined, and a catalogue of commands with every odd word they may be given
//! (`differential/catalogue.txt`); both over RESP2 and RESP3. A difference is printed with the seed, the command and the
//! commands before it on the same keys; then all are emptied and the stream goes on, so that one run shows many.
//!
//! The controls are the machine's redis-server (7.0), and 7.4 and 8 where the environment names them. Each difference that
//! is meant stands in `differential/exceptions.txt` with the control it is from and its reason. 7.4 is what ours has to be:
//! a line for it is a deviation, while the lines for 7.0 and 8 mostly say what Redis itself changed.
//!
//! | variable | what |
//! |---|---|
//! | `HAYPILE_DIFFERENTIAL_COMMANDS` | how many commands a test sends (millions, for a night) |
//! | `HAYPILE_DIFFERENTIAL_SEED` | repeats a run |
//! | `HAYPILE_DIFFERENTIAL_FLAGS` | more flags for the server under test |
//! | `HAYPILE_BIN`, `HAYPILE_REDIS`, `HAYPILE_REDIS74`, `HAYPILE_REDIS8` | the server under test and the controls |
#![expect(
    clippy::disallowed_methods,
    reason = "a test outside the server reads clocks and files as any program"
)]

#[expect(dead_code, reason = "each test binary takes its part of what they share")]
mod support;

#[path = "differential/catalogue.rs"]
mod catalogue;
#[path = "differential/compare.rs"]
mod compare;
#[path = "differential/generator.rs"]
mod generator;
#[path = "differential/interleaved.rs"]
mod interleaved;

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use haypile_resp::Value;

use compare::{Exception, agree, numbers, read_exceptions};
use generator::{Action, Check, Generator, Step};
use support::client::{Client, bulk, encode, render, render_command, scan_reply};
use support::program::Program;
use support::random::{count_from, seed_from};
use support::server::{Server, wait_for};

const DATABASES: usize = 16;
/// A run ends after this many differences.
const DIFFERENCES_MAX: usize = 50;
const REPEATED_MAX: u64 = 500;
/// Commands kept to show what led to a difference.
const HISTORY: usize = 2000;

#[test]
fn replies_equal_redis_over_resp2() {
    run("resp2", 2, 0);
}

#[test]
fn replies_equal_redis_over_resp3() {
    run("resp3", 3, 1);
}

/// Hashes with fields that expire, against later redis-servers alone.
#[test]
fn replies_equal_later_redis() {
    let mut controls = Program::controls();
    controls.retain(|control| !control.series().starts_with("7."));
    let seed = seed_from("HAYPILE_DIFFERENTIAL_SEED");
    let generator = Generator::of_later_hashes(seed.wrapping_add(2));
    run_against("later", 3, seed, generator, controls, &[]);
}

/// Collections never packed, and packed only alone.
#[test]
fn replies_equal_redis_at_the_border() {
    for (salt, most) in [(3, "0"), (4, "1")] {
        let seed = seed_from("HAYPILE_DIFFERENTIAL_SEED");
        let generator = Generator::new(seed.wrapping_add(salt), true);
        let options = ["--packed-max-elements", most];
        run_against(&format!("border{most}"), 2, seed, generator, Program::controls(), &options);
    }
}

/// Several connections that take turns, with transactions and watched keys.
#[test]
fn interleaved_sessions_agree() {
    for (salt, protocol, most) in [(5, 2, "128"), (6, 3, "0")] {
        let seed = seed_from("HAYPILE_DIFFERENTIAL_SEED").wrapping_add(salt);
        let options = ["--packed-max-elements", most];
        let name = format!("interleaved{most}");
        let Some(stream) = Stream::start(&name, protocol, Program::controls(), &options) else { return };
        eprintln!("HAYPILE_DIFFERENTIAL_SEED={} ({name})", seed.wrapping_sub(salt));
        let mut sessions = interleaved::Sessions::new(stream, seed);
        sessions.run(count_from("HAYPILE_DIFFERENTIAL_COMMANDS", 6000));
        sessions.report();
    }
}

#[test]
fn the_catalogue_is_answered_as_redis_does_over_resp2() {
    run_catalogue("catalogue2", 2);
}

#[test]
fn the_catalogue_is_answered_as_redis_does_over_resp3() {
    run_catalogue("catalogue3", 3);
}

fn run(name: &str, protocol: u8, salt: u64) {
    let seed = seed_from("HAYPILE_DIFFERENTIAL_SEED");
    let controls = Program::controls();
    run_against(name, protocol, seed, Generator::new(seed.wrapping_add(salt), true), controls, &[]);
}

fn run_against(
    name: &str,
    protocol: u8,
    seed: u64,
    mut generator: Generator,
    controls: Vec<Program>,
    options: &[&str],
) {
    let commands = count_from("HAYPILE_DIFFERENTIAL_COMMANDS", 6000);
    let Some(mut stream) = Stream::start(name, protocol, controls, options) else { return };
    eprintln!("HAYPILE_DIFFERENTIAL_SEED={seed} ({name}, {commands} commands)");
    let mut next_walk = 1000;
    while stream.sent < commands
        && stream.differences.len() < DIFFERENCES_MAX
        && stream.repeated < REPEATED_MAX
    {
        stream.act(&generator.action());
        if stream.sent >= next_walk {
            stream.walk();
            next_walk = stream.sent + 1000;
        }
    }
    stream.walk();
    stream.report(&format!("HAYPILE_DIFFERENTIAL_SEED={seed}"));
}

fn run_catalogue(name: &str, protocol: u8) {
    let Some(mut stream) = Stream::start(name, protocol, Program::controls(), &[]) else { return };
    stream.show_all = true;
    for block in catalogue::blocks() {
        stream.empty_all();
        for step in &block {
            stream.step(step);
        }
    }
    stream.report(name);
}

/// One server and its connection. The first is ours, the others are the controls.
struct Peer {
    /// The version of a control.
    series: String,
    server: Server,
    client: Client,
    /// Where several connections take turns: those whose turn it is not.
    others: Vec<Client>,
}

impl Peer {
    fn start(name: &str, program: Program, options: &[&str]) -> Peer {
        let series = program.series();
        let mut flags = vec!["--appendfsync", "everysec", "--memory-budget", "64mb"];
        flags.extend(options);
        let more = std::env::var("HAYPILE_DIFFERENTIAL_FLAGS").unwrap_or_default();
        if name.ends_with("ours") {
            flags.extend(more.split_whitespace());
        }
        let server = Server::start_program(name, program, &flags);
        let client = server.client();
        Peer { series, server, client, others: Vec::new() }
    }
}

struct Stream {
    peers: Vec<Peer>,
    protocol: u8,
    exceptions: Vec<Exception>,
    history: VecDeque<Vec<Vec<u8>>>,
    differences: Vec<String>,
    classes: BTreeMap<String, u64>,
    /// Every difference is shown, not only the first of its class.
    show_all: bool,
    /// Differences of a class that was seen before.
    repeated: u64,
    sent: u64,
}

impl Stream {
    /// Empty servers, ours and every control there is. `None` if there is no control.
    fn start(name: &str, protocol: u8, controls: Vec<Program>, options: &[&str]) -> Option<Stream> {
        if controls.is_empty() {
            return None;
        }
        let mut peers =
            vec![Peer::start(&format!("differential-{name}-ours"), Program::under_test(), options)];
        for control in controls {
            eprintln!("control: {}", control.version);
            peers.push(Peer::start(&format!("differential-{name}-redis{}", control.series()), control, &[]));
        }
        let mut stream = Stream {
            peers,
            protocol,
            exceptions: read_exceptions(include_str!("differential/exceptions.txt")),
            history: VecDeque::new(),
            differences: Vec::new(),
            classes: BTreeMap::new(),
            show_all: false,
            repeated: 0,
            sent: 0,
        };
        stream.empty_all();
        Some(stream)
    }

    fn act(&mut self, action: &Action) {
        match action {
            Action::Batch(steps) => self.batch(steps),
            Action::Transaction(steps) => self.transaction(steps),
            Action::Scan(options) => self.scan(&[b"SCAN".to_vec()], options, false),
            Action::ElementScan { command, options, pairs } => self.scan(command, options, *pairs),
            Action::ShortLifeOfField { command, after } => {
                self.step(&Step { command: command.clone(), check: Check::Exact, inline: false });
                std::thread::sleep(Duration::from_millis(20));
                self.batch(after);
            }
            Action::ShortLife { key, command } => self.short_life(key, command),
            Action::Muted(commands) => self.muted(commands),
            Action::Reconnect => self.reconnect(),
            Action::KeyCount => self.key_count(),
            Action::RandomKey => self.random_key(),
            Action::Reload => {
                self.step(&exact(&["DEBUG", "RELOAD"]));
                self.walk();
            }
        }
    }

    /// Sends the bytes to all and reads so many replies from each.
    fn exchange(&mut self, bytes: &[u8], replies: usize) -> Vec<Vec<Value>> {
        for peer in &mut self.peers {
            peer.client.send_raw(bytes).unwrap_or_else(|error| panic!("send: {error}"));
        }
        let mut all = Vec::new();
        let mut failure = None;
        for (index, peer) in self.peers.iter_mut().enumerate() {
            let mut values = Vec::with_capacity(replies);
            while values.len() < replies {
                match peer.client.read() {
                    Ok(value) => values.push(value),
                    Err(error) => {
                        failure = Some(format!("server {index}: {error}\n{}", peer.server.log_tail()));
                        break;
                    }
                }
            }
            all.push(values);
        }
        if let Some(failure) = failure {
            let commands = self.history.iter().skip(self.history.len().saturating_sub(replies));
            for (number, command) in commands.enumerate() {
                let answers: Vec<String> =
                    all.iter().map(|values| values.get(number).map_or("nothing".into(), shown)).collect();
                eprintln!("{}\n    {}", render_command(command), answers.join("\n    "));
            }
            panic!("too few replies; {failure}");
        }
        all
    }

    fn step(&mut self, step: &Step) {
        self.batch(std::slice::from_ref(step));
    }

    fn batch(&mut self, steps: &[Step]) {
        let mut bytes = Vec::new();
        for step in steps {
            if step.inline {
                bytes.extend_from_slice(&step.command.join(&b' '));
                bytes.extend_from_slice(b"\r\n");
            } else {
                encode(&mut bytes, &step.command);
            }
            self.remember(&step.command);
        }
        let replies = self.exchange(&bytes, steps.len());
        for (index, step) in steps.iter().enumerate() {
            let answers: Vec<Value> = replies.iter().map(|replies| replies[index].clone()).collect();
            if !self.compare(&step.command, step.check, &answers) {
                // What follows in the batch may differ because of this one.
                self.empty_all();
                return;
            }
        }
    }

    /// The commands between MULTI and EXEC: what is answered at once, and then by EXEC.
    fn transaction(&mut self, steps: &[Step]) {
        let mut bytes = Vec::new();
        encode(&mut bytes, &["MULTI"]);
        self.remember(&[b"MULTI".to_vec()]);
        for step in steps {
            encode(&mut bytes, &step.command);
            self.remember(&step.command);
        }
        encode(&mut bytes, &["EXEC"]);
        self.remember(&[b"EXEC".to_vec()]);
        let replies = self.exchange(&bytes, steps.len() + 2);
        let of = |index: usize| -> Vec<Value> { replies.iter().map(|all| all[index].clone()).collect() };
        for (index, step) in steps.iter().enumerate() {
            if !self.compare(&step.command, Check::Exact, &of(index + 1)) {
                self.empty_all();
                return;
            }
        }
        let ran = of(steps.len() + 1);
        let lists: Vec<&Vec<Value>> = ran
            .iter()
            .filter_map(|reply| match reply {
                Value::Array(list) if list.len() == steps.len() => Some(list),
                _ => None,
            })
            .collect();
        if lists.len() < ran.len() {
            if !self.compare(&[b"EXEC".to_vec()], Check::Exact, &ran) {
                self.empty_all();
            }
            return;
        }
        for (index, step) in steps.iter().enumerate() {
            let answers: Vec<Value> = lists.iter().map(|list| list[index].clone()).collect();
            if !self.compare(&step.command, step.check, &answers) {
                self.empty_all();
                return;
            }
        }
    }

    /// Whether the servers may be taken to be in the same state still.
    fn compare(&mut self, command: &[Vec<u8>], check: Check, answers: &[Value]) -> bool {
        let (ours, controls) = answers.split_first().expect("our own answer");
        if command[0].eq_ignore_ascii_case(b"XADD")
            && command.iter().any(|word| word == b"*")
            && answers.iter().all(|answer| matches!(answer, Value::Bulk(_)))
        {
            // Each server's own clock.
            return false;
        }
        let text = render_command(command);
        let mut report = String::new();
        let mut same_state = true;
        let mut class = text.split(' ').next().unwrap_or("").to_ascii_uppercase();
        for (peer, control) in self.peers.iter().skip(1).zip(controls) {
            if agree(control, ours, check) {
                continue;
            }
            let covering =
                self.exceptions.iter_mut().find(|one| one.covers(&peer.series, &text, control, ours));
            if let Some(exception) = covering {
                exception.used += 1;
                same_state &= !exception.starts_over;
                continue;
            }
            report.push_str(&format!("\n{:>9} {}", peer.series, shown(control)));
            class.push_str(&format!(" {} {}", peer.series, class_of(control)));
        }
        if report.is_empty() {
            // Redis keeps what it added to a damaged HyperLogLog before it met the damage; a failed command of ours changes nothing.
            let half_done = class == "PFADD" && matches!(ours, Value::Error(_));
            return same_state && !half_done;
        }
        class.push_str(&class_of(ours));
        if self.show_all {
            class.clone_from(&text);
        }
        self.difference(class, format!("{text}{report}\n     ours {}", shown(ours)), command);
        false
    }

    /// Keeps and prints the first difference of a class, and counts the others.
    fn difference(&mut self, class: String, report: String, command: &[Vec<u8>]) {
        let seen = self.classes.entry(class).or_insert(0);
        *seen += 1;
        if *seen > 1 {
            self.repeated += 1;
            return;
        }
        let keys: Vec<&Vec<u8>> = command.iter().skip(1).filter(|word| generator::is_key(word)).collect();
        let related = self.history.iter().rev().skip(1).filter(|earlier| {
            let whole = ["select", "swapdb", "flushall", "flushdb", "reset", "debug"];
            whole.iter().any(|name| earlier[0].eq_ignore_ascii_case(name.as_bytes()))
                || earlier.iter().skip(1).any(|word| keys.contains(&word))
        });
        let mut before: Vec<String> = related.take(12).map(|earlier| render_command(earlier)).collect();
        before.reverse();
        let report =
            format!("command {}: {report}\n  before it: {}", self.sent, before.join("\n             "));
        eprintln!("DIFFERENCE {}: {report}\n", self.differences.len() + 1);
        self.differences.push(report);
    }

    fn remember(&mut self, command: &[Vec<u8>]) {
        self.sent += 1;
        self.history.push_back(command.to_vec());
        if self.history.len() > HISTORY {
            self.history.pop_front();
        }
    }

    /// New connections to empty servers.
    fn empty_all(&mut self) {
        self.connect();
        for peer in &mut self.peers {
            let reply = peer.client.call(&["FLUSHALL"]);
            assert_eq!(reply, Value::Simple(b"OK".to_vec()), "FLUSHALL");
        }
        self.history.clear();
    }

    fn connect(&mut self) {
        for peer in &mut self.peers {
            peer.client = peer.server.client();
            if self.protocol == 3 {
                let reply = peer.client.call(&["HELLO", "3"]);
                assert!(matches!(reply, Value::Map(_)), "HELLO 3: {}", render(&reply));
            }
        }
        self.remember(&[b"RESET".to_vec()]);
    }

    fn reconnect(&mut self) {
        self.step(&exact(&["QUIT"]));
        for (index, peer) in self.peers.iter_mut().enumerate() {
            let rest = peer.client.read_to_close();
            assert!(rest.as_ref().is_ok_and(Vec::is_empty), "server {index} after QUIT: {rest:?}");
        }
        self.connect();
    }

    /// One walk from end to end by `name` (a command, and a key if it is of one), each element once.
    fn scan(&mut self, name: &[Vec<u8>], options: &[Vec<u8>], pairs: bool) {
        let mut found = Vec::new();
        for peer in &mut self.peers {
            let mut elements = Vec::new();
            let mut cursor = b"0".to_vec();
            let mut error = None;
            loop {
                let mut command = name.to_vec();
                command.push(cursor);
                command.extend_from_slice(options);
                let reply = peer.client.call(&command);
                let Some((next, batch)) = scan_reply(&reply) else {
                    error = Some(reply);
                    break;
                };
                let batch: Vec<Value> = batch.into_iter().map(Value::Bulk).collect();
                let size = if pairs { 2 } else { 1 };
                elements.extend(batch.chunks(size).map(|chunk| Value::Array(chunk.to_vec())));
                if next == b"0" {
                    break;
                }
                cursor = next;
            }
            elements.sort_by_key(render);
            elements.dedup();
            found.push(error.unwrap_or(Value::Array(elements)));
        }
        let mut command = name.to_vec();
        command.push(b"(from 0 to 0)".to_vec());
        command.extend_from_slice(options);
        self.remember(&command);
        if !self.compare(&command, Check::Exact, &found) {
            self.empty_all();
        }
    }

    fn short_life(&mut self, key: &[u8], command: &[Vec<u8>]) {
        self.step(&Step { command: command.to_vec(), check: Check::Exact, inline: false });
        std::thread::sleep(Duration::from_millis(20));
        for name in ["EXISTS", "GET", "PTTL", "TYPE"] {
            let command = vec![name.as_bytes().to_vec(), key.to_vec()];
            self.step(&Step { command, check: Check::Exact, inline: false });
        }
    }

    fn muted(&mut self, commands: &[Vec<Vec<u8>>]) {
        let mut bytes = Vec::new();
        for command in commands {
            encode(&mut bytes, command);
            self.remember(command);
        }
        let answers: Vec<Value> = self.exchange(&bytes, 1).into_iter().flatten().collect();
        let last = commands.last().expect("at least one command");
        if !self.compare(last, Check::Exact, &answers) {
            self.empty_all();
        }
    }

    /// Each names a key it has, or all say there is none.
    fn random_key(&mut self) {
        self.sent += 1;
        let mut answers = Vec::new();
        for peer in &mut self.peers {
            answers.push(match peer.client.call(&["RANDOMKEY"]) {
                Value::Bulk(key) => peer.client.call(&[b"EXISTS".as_slice(), &key]),
                other => other,
            });
        }
        if !self.compare(&[b"RANDOMKEY".to_vec(), b"(and EXISTS)".to_vec()], Check::Exact, &answers) {
            self.empty_all();
        }
    }

    /// The counts agree once what has expired is swept.
    fn key_count(&mut self) {
        self.sent += 1;
        let mut counts = Vec::new();
        for _ in 0..200 {
            counts = self.peers.iter_mut().map(|peer| peer.client.call(&["DBSIZE"])).collect();
            if counts.iter().all(|count| *count == counts[0]) {
                return;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        let named: Vec<String> =
            self.peers.iter_mut().map(|peer| peer.client.scan_all().len().to_string()).collect();
        let command = [b"DBSIZE".to_vec(), format!("(keys by SCAN: {})", named.join(" ")).into_bytes()];
        if !self.compare(&command, Check::Exact, &counts) {
            self.empty_all();
        }
    }

    /// Compares everything that the servers hold: keys, types, values, times to live, digests.
    fn walk(&mut self) {
        let mut connections: Vec<Client> = self.peers.iter().map(|peer| peer.server.client()).collect();
        let mut holds_negative_zero = false;
        for database in 0..DATABASES {
            let mut held = Vec::new();
            for client in &mut connections {
                client.call(&["SELECT", &database.to_string()]);
                held.push(contents(client));
            }
            holds_negative_zero |= held.iter().flat_map(BTreeMap::values).any(|held| held.negative_zero);
            let (ours, controls) = held.split_first().expect("what ours holds");
            let differs = controls.iter().zip(&self.peers[1..]).find_map(|(control, peer)| {
                let key = ours.keys().chain(control.keys()).find(|key| {
                    match (ours.get(*key), control.get(*key)) {
                        (Some(one), Some(other)) => !one.same(other),
                        // It may have expired while it was another server's turn.
                        (Some(one), None) | (None, Some(one)) => !one.is_over(),
                        (None, None) => false,
                    }
                })?;
                Some((key.clone(), peer.series.clone(), format!("{:?}", control.get(key))))
            });
            if let Some((key, series, theirs)) = differs {
                let name = key.escape_ascii();
                let report = format!(
                    "walk of database {database}: key {name}\n{series:>9} {theirs}\n     ours {:?}",
                    ours.get(&key)
                );
                self.difference(format!("walk of key {name}"), report, &[b"walk".to_vec(), key]);
                self.empty_all();
                return;
            }
        }
        let digests = |connections: &mut Vec<Client>| -> Vec<Value> {
            connections.iter_mut().map(|client| client.call(&["DEBUG", "DIGEST"])).collect()
        };
        if holds_negative_zero {
            return;
        }
        let mut found = digests(&mut connections);
        if found.iter().any(|digest| *digest != found[0]) {
            // Redis's digest is of expired keys too, until they are swept.
            std::thread::sleep(Duration::from_millis(300));
            found = digests(&mut connections);
        }
        if !self.compare(&[b"DEBUG".to_vec(), b"DIGEST".to_vec()], Check::Exact, &found) {
            self.empty_all();
        }
    }

    fn report(&mut self, what: &str) {
        for exception in self.exceptions.iter().filter(|exception| exception.used > 0) {
            eprintln!("meant, {} times: {}: {}", exception.used, exception.command, exception.reason);
        }
        eprintln!("{} commands compared", self.sent);
        for peer in &mut self.peers {
            let server = &peer.server;
            let mut client = server.client();
            wait_for("an answer at the end", || client.call(&["PING"]) == Value::Simple(b"PONG".to_vec()));
        }
        assert!(
            self.differences.is_empty(),
            "{} differences, and {} more like them ({what}):\n\n{}",
            self.differences.len(),
            self.repeated,
            self.differences.join("\n\n")
        );
    }
}

/// The kind of a reply, and of an error the words before anything quoted or counted.
fn class_of(value: &Value) -> String {
    let text = render(value);
    let end = if text.starts_with('-') { text.find(['\'', '"', '\\']).unwrap_or(text.len()) } else { 1 };
    text.chars().take(end.min(60)).collect()
}

/// A reply, cut to what a person reads.
fn shown(value: &Value) -> String {
    let text = render(value);
    match text.char_indices().nth(600) {
        Some((at, _)) => format!("{}..", &text[..at]),
        None => text,
    }
}

fn exact(words: &[&str]) -> Step {
    let command = words.iter().map(|word| word.as_bytes().to_vec()).collect();
    Step { command, check: Check::Exact, inline: false }
}

/// What is held under one key.
#[derive(Debug)]
struct Held {
    kind: String,
    value: String,
    length: usize,
    expires_ms: i64,
    /// A score is -0, which the digest of a Redis tells from 0.
    negative_zero: bool,
}

impl Held {
    fn is_over(&self) -> bool {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("after 1970");
        self.expires_ms >= 0 && self.expires_ms as u128 <= now.as_millis()
    }

    fn same(&self, other: &Held) -> bool {
        let both = self.expires_ms >= 0 && other.expires_ms >= 0;
        let near = both && (self.expires_ms - other.expires_ms).abs() < 10_000;
        self.kind == other.kind
            && self.value == other.value
            && self.length == other.length
            && (near || self.expires_ms == other.expires_ms)
    }
}

fn contents(client: &mut Client) -> BTreeMap<Vec<u8>, Held> {
    let mut held = BTreeMap::new();
    for key in client.scan_all() {
        let kind = client.text(&[b"TYPE".as_slice(), &key]);
        if kind == "none" {
            // It expired since SCAN named it.
            continue;
        }
        let mut negative_zero = false;
        // Of a collection its digest tells all, but scores are spelled differently in it since 7.2.
        let value = match kind.as_str() {
            "string" => client.call(&[b"GET".as_slice(), &key]),
            "zset" => {
                let elements = client.call(&[b"ZRANGE".as_slice(), &key, b"0", b"-1", b"WITHSCORES"]);
                negative_zero =
                    matches!(&elements, Value::Array(all) if all.contains(&Value::Bulk(b"-0".to_vec())));
                Value::Bulk(render(&numbers(&elements)).into_bytes())
            }
            _ => match client.call(&[b"DEBUG".as_slice(), b"DIGEST-VALUE", &key]) {
                Value::Array(digests) => match digests.into_iter().next() {
                    Some(Value::Simple(digest)) => Value::Bulk(digest),
                    other => panic!("DEBUG DIGEST-VALUE: {other:?}"),
                },
                other => other,
            },
        };
        let expires_ms = client.integer(&[b"PEXPIRETIME".as_slice(), &key]);
        let bytes = bulk(&value).unwrap_or_default();
        let shown = if bytes.len() > 100 {
            format!("{:016x}", fingerprint(bytes))
        } else {
            bytes.escape_ascii().to_string()
        };
        held.insert(key, Held { kind, value: shown, length: bytes.len(), expires_ms, negative_zero });
    }
    held
}

/// FNV-1a: only to show long values shortly.
fn fingerprint(bytes: &[u8]) -> u64 {
    bytes
        .iter()
        .fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3))
}
