//! PUBLISH to many subscribers: a closed loop of publishers, and subscribers that take everything, on one thread.
//!
//! ```text
//! cargo run --release --example publish -- --port 6379 --subscribers 100 --publishers 10 --seconds 5
//! ```
//!
//! `benches/publish.sh` and `benches/sessions.sh` run it against ours and redis-server in turns. Checks that each message was counted by PUBLISH for every
//! subscriber and came as often. Prints one line of `name=value`.
#![expect(clippy::disallowed_methods, reason = "a program of its own: reads the clock and /proc")]

use std::io::{self, Read, Write};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Token};

const PAYLOAD_BYTES: usize = 64;

fn argument(name: &str, default: u64) -> u64 {
    let words: Vec<String> = std::env::args().collect();
    let value = words.iter().position(|word| word == name).and_then(|at| words.get(at + 1));
    value.map_or(default, |value| value.parse().expect("a number"))
}

fn connect(address: SocketAddr) -> io::Result<std::net::TcpStream> {
    let stream = std::net::TcpStream::connect(address)?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// Microseconds of processor time that a process has used; Linux counts it in hundredths of a second.
fn cpu_us(pid: u64) -> f64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_ascii_whitespace().collect();
    let ticks = |index: usize| fields.get(index).and_then(|field| field.parse::<f64>().ok()).unwrap_or(0.0);
    (ticks(11) + ticks(12)) * 1e4
}

fn main() -> io::Result<()> {
    let address = SocketAddr::from(([127, 0, 0, 1], argument("--port", 6379) as u16));
    let subscribers = argument("--subscribers", 100) as usize;
    let publishers = argument("--publishers", 10) as usize;
    let time = Duration::from_secs(argument("--seconds", 5));
    let request = format!(
        "*3\r\n$7\r\nPUBLISH\r\n$7\r\nchannel\r\n${PAYLOAD_BYTES}\r\n{}\r\n",
        "x".repeat(PAYLOAD_BYTES)
    );
    let message = format!(
        "*3\r\n$7\r\nmessage\r\n$7\r\nchannel\r\n${PAYLOAD_BYTES}\r\n{}\r\n",
        "x".repeat(PAYLOAD_BYTES)
    );
    let reply = format!(":{subscribers}\r\n");
    let mut poll = Poll::new()?;
    let mut streams = Vec::new();
    for number in 0..subscribers + publishers {
        let mut stream = connect(address)?;
        if number < subscribers {
            stream.write_all(b"SUBSCRIBE channel\r\n")?;
            let mut confirmation = [0; 36];
            stream.read_exact(&mut confirmation)?;
            assert!(confirmation.ends_with(b":1\r\n"), "{}", confirmation.escape_ascii());
        }
        stream.set_nonblocking(true)?;
        let mut stream = TcpStream::from_std(stream);
        poll.registry().register(&mut stream, Token(number), Interest::READABLE)?;
        streams.push(stream);
    }
    let pid = argument("--pid", 0);
    let (begun, cpu_before) = (Instant::now(), cpu_us(pid));
    for publisher in &mut streams[subscribers..] {
        publisher.write_all(request.as_bytes())?;
    }
    let (mut events, mut buffer) = (Events::with_capacity(1024), vec![0; 256 << 10]);
    let (mut published, mut delivered_bytes, mut answered_bytes) = (0u64, 0u64, 0u64);
    let mut sent = publishers as u64;
    let mut elapsed = Duration::ZERO;
    while published < sent || delivered_bytes < published * (message.len() * subscribers) as u64 {
        poll.poll(&mut events, Some(Duration::from_secs(10)))?;
        assert!(!events.is_empty(), "messages are missing");
        for event in &events {
            let number = event.token().0;
            loop {
                match streams[number].read(&mut buffer) {
                    Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                    Ok(count) if number < subscribers => delivered_bytes += count as u64,
                    Ok(count) => {
                        assert_eq!(&buffer[..count], reply.as_bytes());
                        answered_bytes += count as u64;
                        published += 1;
                        if begun.elapsed() < time {
                            streams[number].write_all(request.as_bytes())?;
                            sent += 1;
                        }
                    }
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                    Err(error) => return Err(error),
                }
            }
        }
        elapsed = begun.elapsed();
    }
    assert_eq!(answered_bytes, published * reply.len() as u64);
    assert_eq!(delivered_bytes, published * (message.len() * subscribers) as u64);
    let rate = published as f64 / elapsed.as_secs_f64();
    println!(
        "subscribers={subscribers} publishers={publishers} publishes={published} publishes_per_s={rate:.0} deliveries_per_s={:.0} \
         cpu_us_per_op={:.3}",
        rate * subscribers as f64,
        (cpu_us(pid) - cpu_before) / published as f64,
    );
    Ok(())
}
