//! Keys and values as the engine's benchmarks write them, and a reader for their command lines.

use haypile_lsm::base::rng::Rng;
use std::collections::HashMap;
use std::str::FromStr;

/// Values of which about half compresses away, as db_bench's `compression_ratio=0.5`.
pub struct Values {
    pool: Vec<u8>,
    at: usize,
    len: usize,
}

impl Values {
    /// Values of `len` bytes.
    pub fn new(len: usize, seed: u64) -> Values {
        let mut rng = Rng::new(seed);
        let mut pool = Vec::new();
        while pool.len() < 1 << 20 {
            let piece = (0..50).map(|_| b' ' + rng.below(95) as u8).collect::<Vec<_>>();
            pool.extend_from_slice(&piece);
            pool.extend_from_slice(&piece);
        }
        Values { pool, at: 0, len }
    }

    /// The next one.
    pub fn next(&mut self) -> &[u8] {
        if self.at + self.len > self.pool.len() {
            self.at = 0;
        }
        self.at += self.len;
        &self.pool[self.at - self.len..self.at]
    }
}

/// Sixteen decimal digits.
pub fn key(number: u64) -> [u8; 16] {
    let mut key = [b'0'; 16];
    let mut left = number;
    for digit in key.iter_mut().rev() {
        *digit = b'0' + (left % 10) as u8;
        left /= 10;
    }
    key
}

/// `--name=value` arguments; a name is taken once, and what nobody takes is a mistake.
pub struct Arguments(HashMap<String, String>);

impl Arguments {
    /// Those of this process.
    pub fn read() -> Arguments {
        let mut given = HashMap::new();
        for argument in std::env::args().skip(1) {
            if let Some((name, value)) = argument.strip_prefix("--").and_then(|a| a.split_once('=')) {
                given.insert(name.to_string(), value.to_string());
            } else if argument != "--bench" {
                leave(&format!("not understood: {argument}"));
            }
        }
        Arguments(given)
    }

    /// The value of one, or `default`.
    pub fn take<T: FromStr>(&mut self, name: &str, default: T) -> T {
        let Some(text) = self.0.remove(name) else { return default };
        text.parse().unwrap_or_else(|_| leave(&format!("--{name}={text} makes no sense")))
    }

    /// Complains about the rest.
    pub fn finish(self) {
        if let Some(name) = self.0.keys().next() {
            leave(&format!("not understood: --{name}"));
        }
    }
}

/// Ends the process with a complaint.
pub fn leave(what: &str) -> ! {
    eprintln!("{what}");
    std::process::exit(1);
}
