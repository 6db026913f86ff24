//! A load generator for servers that speak RESP: closed loop, one thread, precise percentiles, the server's CPU per
//! operation. `benches/versus_redis.sh` runs it; by hand:
//!
//! ```text
//! cargo run --release --example load -- --port 6379 --test set --clients 10 --pipeline 16 --seconds 10 --pid 1234
//! ```
//!
//! Each connection sends a pipeline, waits for all of its answers, and sends the next. A request's latency is that of its
//! pipeline, from the call that writes it to the last answer. Values are half random, half constant, so that they compress
//! as db_bench's do at its ratio of 0.5. Prints one line of `name=value`.
#![expect(clippy::disallowed_methods, reason = "a program of its own: reads the clock and /proc")]

use std::io::{self, Read, Write};
use std::net::SocketAddr;
use std::process::exit;
use std::time::{Duration, Instant};

use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Token};

/// What is asked for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Test {
    /// Every key once, in scattered order.
    Fill,
    Set,
    Get,
    /// Nine reads, one write.
    Mixed,
}

struct Arguments {
    port: u16,
    test: Test,
    clients: usize,
    pipeline: usize,
    keys: u64,
    value_bytes: usize,
    seconds: u64,
    pid: u32,
    seed: u64,
}

fn usage(problem: &str) -> ! {
    eprintln!(
        "{problem}\nload [--port 6379] [--test fill|set|get|mixed] [--clients 10] [--pipeline 1] [--keys 1000000]\n     \
         [--size 100] [--seconds 10] [--pid SERVER] [--seed 1]"
    );
    exit(2)
}

fn parse() -> Arguments {
    let mut parsed = Arguments {
        port: 6379,
        test: Test::Set,
        clients: 10,
        pipeline: 1,
        keys: 1_000_000,
        value_bytes: 100,
        seconds: 10,
        pid: 0,
        seed: 1,
    };
    let mut words = std::env::args().skip(1);
    while let Some(name) = words.next() {
        let Some(value) = words.next() else { usage(&format!("{name} has no value")) };
        let number =
            || value.parse::<u64>().unwrap_or_else(|_| usage(&format!("{name} {value}: not a number")));
        match name.as_str() {
            "--port" => parsed.port = number() as u16,
            "--clients" => parsed.clients = number().max(1) as usize,
            "--pipeline" => parsed.pipeline = number().max(1) as usize,
            "--keys" => parsed.keys = number().max(1),
            "--size" => parsed.value_bytes = number() as usize,
            "--seconds" => parsed.seconds = number(),
            "--pid" => parsed.pid = number() as u32,
            "--seed" => parsed.seed = number(),
            "--test" => {
                parsed.test = match value.as_str() {
                    "fill" => Test::Fill,
                    "set" => Test::Set,
                    "get" => Test::Get,
                    "mixed" => Test::Mixed,
                    _ => usage(&format!("--test {value}: unknown")),
                }
            }
            _ => usage(&format!("{name}: unknown")),
        }
    }
    parsed
}

fn main() {
    let arguments = parse();
    match run(&arguments) {
        Ok(line) => println!("{line}"),
        Err(error) => {
            eprintln!("load: {error}");
            exit(1)
        }
    }
}

fn run(arguments: &Arguments) -> io::Result<String> {
    let mut poll = Poll::new()?;
    let mut source = Source::new(arguments);
    let address = SocketAddr::from(([127, 0, 0, 1], arguments.port));
    let mut connections = Vec::new();
    for index in 0..arguments.clients {
        let stream = std::net::TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        stream.set_nonblocking(true)?;
        let mut stream = TcpStream::from_std(stream);
        poll.registry().register(&mut stream, Token(index), Interest::READABLE | Interest::WRITABLE)?;
        connections.push(Connection::new(stream));
    }
    let mut latencies = Histogram::new();
    let mut counts = Counts::default();
    let cpu_before = cpu_seconds(arguments.pid);
    let start = Instant::now();
    let deadline = start + Duration::from_secs(arguments.seconds);
    let mut running = 0;
    for connection in &mut connections {
        running += usize::from(connection.begin(&mut source)?);
    }
    let mut events = Events::with_capacity(arguments.clients);
    while running > 0 {
        poll.poll(&mut events, Some(Duration::from_secs(60)))?;
        if events.is_empty() {
            return Err(io::Error::new(io::ErrorKind::TimedOut, "no answer for a minute"));
        }
        for event in &events {
            let connection = &mut connections[event.token().0];
            if event.is_writable() {
                connection.send()?;
            }
            if !event.is_readable() || !connection.receive(&mut counts)? {
                continue;
            }
            let now = Instant::now();
            latencies.add(now - connection.sent_at, connection.batch as u64);
            counts.operations += connection.batch as u64;
            let over = arguments.test != Test::Fill && now >= deadline;
            if over || !connection.begin(&mut source)? {
                running -= 1;
            }
        }
    }
    let seconds = start.elapsed().as_secs_f64();
    let cpu = cpu_seconds(arguments.pid) - cpu_before;
    let operations = counts.operations as f64;
    Ok(format!(
        "operations={} seconds={seconds:.2} per_second={:.0} p50_us={:.1} p99_us={:.1} p999_us={:.1} max_us={:.1} \
         cpu_us_per_operation={:.3} rss_mib={:.0} errors={} misses={}",
        counts.operations,
        operations / seconds,
        latencies.quantile(0.5),
        latencies.quantile(0.99),
        latencies.quantile(0.999),
        latencies.quantile(1.0),
        cpu * 1e6 / operations,
        resident_mib(arguments.pid),
        counts.errors,
        counts.misses
    ))
}

#[derive(Default)]
struct Counts {
    operations: u64,
    errors: u64,
    /// Reads that found nothing.
    misses: u64,
}

/// Draws requests.
struct Source {
    test: Test,
    pipeline: usize,
    keys: u64,
    state: u64,
    /// How many keys a fill has handed out.
    filled: u64,
    /// A step that visits every key once.
    step: u64,
    values: Vec<Vec<u8>>,
}

impl Source {
    fn new(arguments: &Arguments) -> Source {
        let mut source = Source {
            test: arguments.test,
            pipeline: arguments.pipeline,
            keys: arguments.keys,
            state: arguments.seed,
            filled: 0,
            step: coprime_near(arguments.keys, arguments.keys * 618 / 1000),
            values: Vec::new(),
        };
        for _ in 0..4096 {
            let mut value = Vec::with_capacity(arguments.value_bytes + 8);
            while value.len() < arguments.value_bytes / 2 {
                value.extend_from_slice(&source.next().to_le_bytes());
            }
            value.resize(arguments.value_bytes, b'x');
            source.values.push(value);
        }
        source
    }

    /// SplitMix64.
    fn next(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut word = self.state;
        word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        word ^ (word >> 31)
    }

    /// Appends a pipeline of requests. How many.
    fn batch(&mut self, into: &mut Vec<u8>) -> usize {
        for count in 0..self.pipeline {
            let word = self.next();
            let key = match self.test {
                Test::Fill if self.filled == self.keys => return count,
                Test::Fill => {
                    self.filled += 1;
                    (u128::from(self.filled) * u128::from(self.step) % u128::from(self.keys)) as u64
                }
                _ => word % self.keys,
            };
            let read = self.test == Test::Get || self.test == Test::Mixed && !(word >> 40).is_multiple_of(10);
            if read {
                append_key(into, b"*2\r\n$3\r\nGET\r\n$16\r\nkey:", key);
            } else {
                append_key(into, b"*3\r\n$3\r\nSET\r\n$16\r\nkey:", key);
                let value = &self.values[(word >> 48) as usize % self.values.len()];
                // A write to memory cannot fail.
                let _ = write!(into, "${}\r\n", value.len());
                into.extend_from_slice(value);
                into.extend_from_slice(b"\r\n");
            }
        }
        self.pipeline
    }
}

fn append_key(into: &mut Vec<u8>, head: &[u8], key: u64) {
    into.extend_from_slice(head);
    let mut digits = *b"000000000000\r\n";
    let mut rest = key;
    for digit in digits[..12].iter_mut().rev() {
        *digit = b'0' + (rest % 10) as u8;
        rest /= 10;
    }
    into.extend_from_slice(&digits);
}

/// A number from `near` on that shares no factor with `keys`.
fn coprime_near(keys: u64, near: u64) -> u64 {
    fn gcd(one: u64, other: u64) -> u64 {
        if other == 0 { one } else { gcd(other, one % other) }
    }
    (near.max(1)..).find(|step| gcd(*step, keys) == 1).unwrap_or(1)
}

struct Connection {
    stream: TcpStream,
    output: Vec<u8>,
    sent: usize,
    input: Vec<u8>,
    /// End of what was received into `input`, and start of what is not yet counted.
    received: usize,
    counted: usize,
    batch: usize,
    awaited: usize,
    sent_at: Instant,
}

impl Connection {
    fn new(stream: TcpStream) -> Connection {
        Connection {
            stream,
            output: Vec::new(),
            sent: 0,
            input: vec![0; 256 << 10],
            received: 0,
            counted: 0,
            batch: 0,
            awaited: 0,
            sent_at: Instant::now(),
        }
    }

    /// Sends the next pipeline. False if there is none.
    fn begin(&mut self, source: &mut Source) -> io::Result<bool> {
        self.output.clear();
        self.sent = 0;
        self.batch = source.batch(&mut self.output);
        self.awaited = self.batch;
        self.sent_at = Instant::now();
        self.send()?;
        Ok(self.batch > 0)
    }

    fn send(&mut self) -> io::Result<()> {
        while self.sent < self.output.len() {
            match self.stream.write(&self.output[self.sent..]) {
                Ok(count) => self.sent += count,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Reads what is there. True once the pipeline's last answer has arrived.
    fn receive(&mut self, counts: &mut Counts) -> io::Result<bool> {
        loop {
            if self.received == self.input.len() {
                let size = self.input.len() * 2;
                self.input.resize(size, 0);
            }
            match self.stream.read(&mut self.input[self.received..]) {
                Ok(0) => return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the server closed")),
                Ok(count) => self.received += count,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) => return Err(error),
            }
        }
        while self.awaited > 0 {
            let Some(length) = reply_length(&self.input[self.counted..self.received], counts)? else {
                return Ok(false);
            };
            self.counted += length;
            self.awaited -= 1;
        }
        let done = self.batch > 0 && self.counted == self.received;
        self.counted = 0;
        self.received = 0;
        Ok(done)
    }
}

/// How long the reply at the front is, once it is whole. Only the kinds that GET and SET have.
fn reply_length(bytes: &[u8], counts: &mut Counts) -> io::Result<Option<usize>> {
    let Some(line) = bytes.iter().position(|byte| *byte == b'\n') else { return Ok(None) };
    match bytes[0] {
        b'+' | b':' | b'_' => {
            counts.misses += u64::from(bytes[0] == b'_');
            Ok(Some(line + 1))
        }
        b'-' => {
            if counts.errors == 0 {
                eprintln!("load: {}", String::from_utf8_lossy(&bytes[..line]).trim_end());
            }
            counts.errors += 1;
            Ok(Some(line + 1))
        }
        b'$' => {
            let digits = String::from_utf8_lossy(&bytes[1..line - 1]);
            let length: i64 = digits
                .parse()
                .map_err(|_| io::Error::new(io::ErrorKind::InvalidData, "a bad bulk length"))?;
            if length < 0 {
                counts.misses += 1;
                return Ok(Some(line + 1));
            }
            let whole = line + 1 + length as usize + 2;
            Ok((bytes.len() >= whole).then_some(whole))
        }
        other => Err(io::Error::new(io::ErrorKind::InvalidData, format!("a reply of kind {other:#x}"))),
    }
}

/// Counts of latencies in buckets that are at most 1/64 wide.
struct Histogram {
    buckets: Vec<u64>,
    total: u64,
}

impl Histogram {
    const STEPS: u64 = 64;

    fn new() -> Histogram {
        Histogram { buckets: vec![0; 64 * Self::STEPS as usize], total: 0 }
    }

    fn add(&mut self, latency: Duration, times: u64) {
        let nanoseconds = (latency.as_nanos() as u64).max(Self::STEPS);
        let exponent = u64::from(nanoseconds.ilog2() - Self::STEPS.ilog2());
        let bucket = exponent * Self::STEPS + (nanoseconds >> exponent) - Self::STEPS;
        self.buckets[bucket as usize] += times;
        self.total += times;
    }

    /// The latency in microseconds that this part of all requests did not pass.
    fn quantile(&self, part: f64) -> f64 {
        let wanted = (self.total as f64 * part).ceil() as u64;
        let mut seen = 0;
        for (bucket, count) in self.buckets.iter().enumerate() {
            seen += count;
            if seen >= wanted && seen > 0 {
                let (exponent, step) = (bucket as u64 / Self::STEPS, bucket as u64 % Self::STEPS);
                return ((step + Self::STEPS + 1) << exponent) as f64 / 1000.0;
            }
        }
        0.0
    }
}

/// User and system time of a process. Linux counts it in hundredths of a second for every program that reads it.
fn cpu_seconds(pid: u32) -> f64 {
    let Ok(stat) = std::fs::read_to_string(format!("/proc/{pid}/stat")) else { return 0.0 };
    let Some((_, fields)) = stat.rsplit_once(')') else { return 0.0 };
    let ticks =
        |index: usize| fields.split_ascii_whitespace().nth(index).and_then(|field| field.parse::<f64>().ok());
    (ticks(11).unwrap_or(0.0) + ticks(12).unwrap_or(0.0)) / 100.0
}

fn resident_mib(pid: u32) -> f64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find(|line| line.starts_with("VmRSS:"));
    let number =
        line.and_then(|line| line.split_ascii_whitespace().nth(1)).and_then(|text| text.parse::<f64>().ok());
    number.unwrap_or(0.0) / 1024.0
}
