//! Loads of sessions: transactions, and what one client's business costs the others.
//!
//! ```text
//! cargo run --release --example sessions -- --port 6379 --pid 1234 --test multi    --clients 10 --pipeline 16 --seconds 5
//! cargo run --release --example sessions -- --port 6379 --pid 1234 --test disturb  --seconds 5 --keys 1000000
//! ```
//!
//! *multi*: a closed loop; each client sends so many times MULTI, ten SETs, EXEC, and waits for all answers. Every reply is counted by its
//! length, which is always the same.
//!
//! *disturb*: four clients, each sending one GET or SET a millisecond, are timed while somebody else does nothing, runs KEYS over all keys
//! again and again, watches with MONITOR, or is subscribed to a channel that is published to and reads nothing. `benches/sessions.sh`
//! runs it against ours and redis-server in turns. Prints lines of `name=value`.
#![expect(
    clippy::disallowed_methods,
    reason = "a program of its own: reads the clock and /proc, starts threads"
)]

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

const SETS: usize = 10;
const VALUE_BYTES: usize = 100;

fn word(name: &str, default: &str) -> String {
    let words: Vec<String> = std::env::args().collect();
    let value = words.iter().position(|word| word == name).and_then(|at| words.get(at + 1));
    value.cloned().unwrap_or_else(|| default.to_string())
}

fn argument(name: &str, default: u64) -> u64 {
    word(name, &default.to_string()).parse().expect("a number")
}

fn connect() -> io::Result<TcpStream> {
    let stream = TcpStream::connect(SocketAddr::from(([127, 0, 0, 1], argument("--port", 6379) as u16)))?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(Duration::from_secs(60)))?;
    Ok(stream)
}

/// Microseconds of processor time that a process has used.
fn cpu_us(pid: u64) -> u64 {
    let text = std::fs::read_to_string(format!("/proc/{pid}/schedstat")).unwrap_or_default();
    let tasks = std::fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    let of_tasks: u64 = tasks
        .filter_map(|task| std::fs::read_to_string(task.path().join("schedstat")).ok())
        .filter_map(|text| text.split(' ').next()?.parse::<u64>().ok())
        .sum();
    let whole: u64 = text.split(' ').next().and_then(|ns| ns.parse().ok()).unwrap_or(0);
    of_tasks.max(whole) / 1000
}

fn command(into: &mut Vec<u8>, words: &[&[u8]]) {
    into.extend_from_slice(format!("*{}\r\n", words.len()).as_bytes());
    for word in words {
        into.extend_from_slice(format!("${}\r\n", word.len()).as_bytes());
        into.extend_from_slice(word);
        into.extend_from_slice(b"\r\n");
    }
}

/// xorshift64.
fn next(random: &mut u64) -> u64 {
    *random ^= *random << 13;
    *random ^= *random >> 7;
    *random ^= *random << 17;
    *random
}

fn transactions(keys: u64, pipeline: usize, end: Instant, seed: u64) -> io::Result<(u64, Vec<u64>)> {
    let mut stream = connect()?;
    let (mut random, mut request) = (seed, Vec::new());
    let reply_bytes = pipeline
        * (b"+OK\r\n".len() + SETS * b"+QUEUED\r\n".len() + b"*10\r\n".len() + SETS * b"+OK\r\n".len());
    let (mut reply, mut done, mut times_us) = (vec![0; reply_bytes], 0, Vec::new());
    let value = [b'v'; VALUE_BYTES];
    while Instant::now() < end {
        request.clear();
        for _ in 0..pipeline {
            command(&mut request, &[b"MULTI"]);
            for _ in 0..SETS {
                let key = format!("key:{:010}", next(&mut random) % keys);
                command(&mut request, &[b"SET", key.as_bytes(), &value]);
            }
            command(&mut request, &[b"EXEC"]);
        }
        let begun = Instant::now();
        stream.write_all(&request)?;
        stream.read_exact(&mut reply)?;
        assert!(reply.ends_with(b"+OK\r\n"), "{}", reply.escape_ascii());
        times_us.push(begun.elapsed().as_micros() as u64);
        done += pipeline as u64;
    }
    Ok((done, times_us))
}

fn percentile(times_us: &mut [u64], percent: f64) -> u64 {
    times_us.sort_unstable();
    let at = (times_us.len() as f64 * percent / 100.0) as usize;
    times_us.get(at.min(times_us.len().saturating_sub(1))).copied().unwrap_or(0)
}

fn multi() -> io::Result<()> {
    let (clients, pipeline) = (argument("--clients", 10), argument("--pipeline", 16) as usize);
    let (keys, pid) = (argument("--keys", 1_000_000), argument("--pid", 0));
    let (begun, cpu_before) = (Instant::now(), cpu_us(pid));
    let end = begun + Duration::from_secs(argument("--seconds", 5));
    let threads: Vec<_> = (0..clients)
        .map(|number| {
            std::thread::spawn(move || {
                transactions(keys, pipeline, end, 0x9e37_79b9_7f4a_7c15 ^ (number << 7))
            })
        })
        .collect();
    let (mut done, mut times_us) = (0, Vec::new());
    for thread in threads {
        let (count, times) = thread.join().expect("a client panicked")?;
        done += count;
        times_us.extend(times);
    }
    let elapsed = begun.elapsed().as_secs_f64();
    println!(
        "test=multi transactions_per_s={:.0} cpu_us_per_op={:.3} p50_us={} p99_us={}",
        done as f64 / elapsed,
        (cpu_us(pid) - cpu_before) as f64 / done.max(1) as f64,
        percentile(&mut times_us, 50.0),
        percentile(&mut times_us, 99.0),
    );
    Ok(())
}

/// Runs `step` on a thread until it is stopped.
fn meanwhile(
    stop: &Arc<AtomicBool>,
    mut step: impl FnMut() -> io::Result<()> + Send + 'static,
) -> JoinHandle<u64> {
    let stop = Arc::clone(stop);
    std::thread::spawn(move || {
        let mut steps = 0;
        // Relaxed: nothing is read through it.
        while !stop.load(Ordering::Relaxed) && step().is_ok() {
            steps += 1;
        }
        steps
    })
}

/// The times of clients that send one command a millisecond each.
fn observe(keys: u64, end: Instant) -> io::Result<Vec<u64>> {
    let threads: Vec<_> = (0..4u64)
        .map(|number| {
            std::thread::spawn(move || -> io::Result<Vec<u64>> {
                let mut stream = connect()?;
                let (mut random, mut request, mut times_us) = (number + 1, Vec::new(), Vec::new());
                let mut buffer = [0; 512];
                while Instant::now() < end {
                    let key = format!("key:{:010}", next(&mut random) % keys);
                    request.clear();
                    match random % 2 {
                        0 => command(&mut request, &[b"GET", key.as_bytes()]),
                        _ => command(&mut request, &[b"SET", key.as_bytes(), &[b'w'; VALUE_BYTES]]),
                    }
                    let begun = Instant::now();
                    stream.write_all(&request)?;
                    let count = stream.read(&mut buffer)?;
                    assert!(count > 0 && buffer[0] != b'-', "{}", buffer[..count].escape_ascii());
                    times_us.push(begun.elapsed().as_micros() as u64);
                    std::thread::sleep(Duration::from_millis(1).saturating_sub(begun.elapsed()));
                }
                Ok(times_us)
            })
        })
        .collect();
    let mut all = Vec::new();
    for thread in threads {
        all.extend(thread.join().expect("an observer panicked")?);
    }
    Ok(all)
}

fn fill(keys: u64) -> io::Result<()> {
    let mut stream = connect()?;
    let (mut request, mut reply) = (Vec::new(), Vec::new());
    for first in (0..keys).step_by(1000) {
        request.clear();
        let last = keys.min(first + 1000);
        for key in first..last {
            command(&mut request, &[b"SET", format!("key:{key:010}").as_bytes(), &[b'v'; VALUE_BYTES]]);
        }
        stream.write_all(&request)?;
        reply.resize((last - first) as usize * 5, 0);
        stream.read_exact(&mut reply)?;
    }
    Ok(())
}

/// Reads the reply to KEYS: bulks of one length, as many as it says.
fn read_keys(stream: &mut TcpStream, buffer: &mut [u8]) -> io::Result<()> {
    let mut seen = Vec::new();
    let whole = loop {
        let count = stream.read(buffer)?;
        if count == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        seen.extend_from_slice(&buffer[..count]);
        if let Some(at) = seen.iter().position(|byte| *byte == b'\n') {
            let header = std::str::from_utf8(&seen[1..at - 1]).expect("a number");
            let keys: usize = header.parse().expect("a number");
            break at + 1 + keys * (b"$14\r\n".len() + 14 + 2);
        }
    };
    let mut read = seen.len();
    while read < whole {
        let count = stream.read(buffer)?;
        if count == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        read += count;
    }
    Ok(())
}

fn disturb() -> io::Result<()> {
    let keys = argument("--keys", 1_000_000);
    let seconds = Duration::from_secs(argument("--seconds", 5));
    fill(keys)?;
    for what in ["nothing", "keys", "monitor", "slow_subscriber"] {
        let stop: Arc<AtomicBool> = Arc::default();
        let mut threads = Vec::new();
        let mut buffer = vec![0; 1 << 20];
        match what {
            "keys" => {
                let mut stream = connect()?;
                threads.push(meanwhile(&stop, move || {
                    stream.write_all(b"*2\r\n$4\r\nKEYS\r\n$5\r\nkey:*\r\n")?;
                    read_keys(&mut stream, &mut buffer)
                }));
            }
            "monitor" => {
                let mut stream = connect()?;
                stream.write_all(b"MONITOR\r\n")?;
                threads.push(meanwhile(&stop, move || stream.read(&mut buffer).map(drop)));
            }
            "slow_subscriber" => {
                let mut subscriber = connect()?;
                subscriber.write_all(b"SUBSCRIBE channel\r\n")?;
                let mut publisher = connect()?;
                let mut request = Vec::new();
                for _ in 0..16 {
                    command(&mut request, &[b"PUBLISH", b"channel", &[b'm'; 1000]]);
                }
                threads.push(meanwhile(&stop, move || {
                    // It reads nothing, and is there to the end.
                    let _ = &subscriber;
                    publisher.write_all(&request)?;
                    let mut left = 16 * b":1\r\n".len();
                    while left > 0 {
                        left -= publisher.read(&mut buffer[..left])?;
                    }
                    std::thread::sleep(Duration::from_millis(1));
                    Ok(())
                }));
            }
            _ => {}
        }
        let mut times_us = observe(keys, Instant::now() + seconds)?;
        // Relaxed: nothing is read through it.
        stop.store(true, Ordering::Relaxed);
        let steps: u64 = if what == "monitor" {
            // It waits for lines that come no more.
            0
        } else {
            threads.into_iter().map(|thread| thread.join().unwrap_or(0)).sum()
        };
        println!(
            "test=disturb by={what} steps={steps} commands={} p50_us={} p99_us={} max_us={}",
            times_us.len(),
            percentile(&mut times_us, 50.0),
            percentile(&mut times_us, 99.0),
            percentile(&mut times_us, 100.0),
        );
    }
    Ok(())
}

fn main() -> io::Result<()> {
    match word("--test", "multi").as_str() {
        "disturb" => disturb(),
        _ => multi(),
    }
}
