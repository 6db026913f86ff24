//! Draws of hash and set commands.

use super::{
    Action, Check, Drawn, FAR_MILLISECONDS, FAR_MOMENT_MILLISECONDS, FAR_MOMENT_SECONDS, FAR_SECONDS,
};
use super::{Generator, SLACK_SECONDS, Step, Words};

/// Keys that mostly hold hashes, and sets. Those of a stream with large values are the same.
pub const HASH_KEYS: &[&[u8]] = &[b"h0", b"h1", b"h2", b"h3", b"{tag}h"];
pub const SET_KEYS: &[&[u8]] = &[b"S0", b"S1", b"S2", b"S3", b"{tag}S"];

impl Generator {
    fn hash_key(&mut self) -> Vec<u8> {
        if self.random.chance(30) { self.key() } else { self.random.pick(HASH_KEYS).to_vec() }
    }

    fn set_key(&mut self) -> Vec<u8> {
        if self.random.chance(20) { self.key() } else { self.random.pick(SET_KEYS).to_vec() }
    }

    /// A field's name, or a member.
    fn element(&mut self) -> Vec<u8> {
        match self.random.below(30) {
            0 => Vec::new(),
            1 => vec![b'e'; 70],
            2 => self.value(),
            3..8 => self.number_text(),
            8..14 => format!("e{}", self.random.below(300)).into_bytes(),
            _ => format!("e{}", self.random.below(12)).into_bytes(),
        }
    }

    fn elements(&mut self) -> Vec<Vec<u8>> {
        let count = match self.random.below(40) {
            0 => 150 + self.random.below(150),
            1..4 => 20,
            _ => 1 + self.random.below(4),
        };
        (0..count).map(|_| self.element()).collect()
    }

    fn field_value(&mut self) -> Vec<u8> {
        match self.random.below(30) {
            0 => vec![b'v'; 700],
            1 => vec![b'v'; 65],
            _ => self.value(),
        }
    }

    pub(super) fn hash_command(&mut self) -> Drawn {
        self.large = false;
        let key = self.hash_key();
        let field = self.element();
        match self.random.below(32) {
            0..8 => {
                let mut words = Words::of("HSET").and(key);
                for field in self.elements() {
                    let value = self.field_value();
                    words = words.and(field).and(value);
                }
                words.exact()
            }
            8 => {
                let (value, other) = (self.field_value(), self.element());
                Words::of("HMSET").and(key).and(field).and(value).and(other).and("1").exact()
            }
            9 => {
                let value = self.field_value();
                Words::of("HSETNX").and(key).and(field).and(value).exact()
            }
            10 | 11 => Words::of("HGET").and(key).and(field).exact(),
            12 => self.elements().into_iter().fold(Words::of("HMGET").and(key), Words::and).exact(),
            13..17 => self.elements().into_iter().fold(Words::of("HDEL").and(key), Words::and).exact(),
            17 | 18 => Words::of("HLEN").and(key).exact(),
            19 => Words::of("HEXISTS").and(key).and(field).exact(),
            20 => Words::of("HSTRLEN").and(key).and(field).exact(),
            21 => {
                let by = self.number_text();
                Words::of("HINCRBY").and(key).and(field).and(by).exact()
            }
            22 => {
                let by = self.float_text();
                Words::of("HINCRBYFLOAT").and(key).and(field).and(by).exact()
            }
            23 | 24 => Words::of("HGETALL").and(key).checked(Check::Pairs),
            25 => Words::of("HKEYS").and(key).checked(Check::Unordered),
            26 => Words::of("HVALS").and(key).checked(Check::Unordered),
            27 => Words::of("HRANDFIELD").and(key).checked(Check::Size),
            28 => {
                let count = self.random.pick(&[0, 1, 2, -1, -3, 10, 1000, -40]);
                Words::of("HRANDFIELD").and(key).number(count).checked(Check::Size)
            }
            29 => {
                let count = self.random.pick(&[0, 1, 2, -1, -3, 10, 1000, i64::MAX, i64::MIN]);
                Words::of("HRANDFIELD").and(key).number(count).and("WITHVALUES").fixed(Check::Size)
            }
            _ => {
                // What a step through a hash of many fields names is each server's own.
                let options = self.element_scan_options(true);
                let cursor = self.random.pick(&["0", "0", "abc", "18446744073709551616"]);
                options
                    .into_iter()
                    .fold(Words::of("HSCAN").and(key).and(cursor), Words::and)
                    .checked(Check::Shape)
            }
        }
    }

    pub(super) fn set_command(&mut self) -> Drawn {
        self.large = false;
        let key = self.set_key();
        let member = self.element();
        match self.random.below(36) {
            0..9 => self.elements().into_iter().fold(Words::of("SADD").and(key), Words::and).exact(),
            9..13 => self.elements().into_iter().fold(Words::of("SREM").and(key), Words::and).exact(),
            13 => Words::of("SCARD").and(key).exact(),
            14 => Words::of("SISMEMBER").and(key).and(member).exact(),
            15 => self.elements().into_iter().fold(Words::of("SMISMEMBER").and(key), Words::and).exact(),
            16 | 17 => Words::of("SMEMBERS").and(key).checked(Check::Unordered),
            18 | 19 => {
                let other = self.set_key();
                Words::of("SMOVE").and(key).and(other).and(member).exact()
            }
            20..26 => {
                let name = self.random.pick(&["SINTER", "SUNION", "SDIFF"]);
                self.set_keys().into_iter().fold(Words::of(name), Words::and).checked(Check::Unordered)
            }
            26..30 => {
                let name = self.random.pick(&["SINTERSTORE", "SUNIONSTORE", "SDIFFSTORE"]);
                self.set_keys().into_iter().fold(Words::of(name).and(key), Words::and).exact()
            }
            30 => {
                let keys = self.set_keys();
                let count = if self.random.chance(100) { 2 } else { keys.len() as i64 };
                let words = keys.into_iter().fold(Words::of("SINTERCARD").number(count), Words::and);
                match self.random.below(3) {
                    0 => {
                        let limit = self.random.pick(&[0, 1, 3, 100, -1]);
                        words.and("LIMIT").number(limit).exact()
                    }
                    _ => words.exact(),
                }
            }
            31 => Words::of("SRANDMEMBER").and(key).checked(Check::Size),
            32 | 33 => {
                let count = self.random.pick(&[0, 1, 2, -1, -3, 10, 1000, -40, i64::MIN]);
                Words::of("SRANDMEMBER").and(key).number(count).fixed(Check::Size)
            }
            34 => {
                // All of them, or none: what one of several pops is each server's own.
                let count = self.random.pick(&["0", "1000", "-1", "abc"]);
                Words::of("SPOP").and(key).and(count).fixed(Check::Unordered)
            }
            _ => {
                let options = self.element_scan_options(false);
                let cursor = self.random.pick(&["0", "0", "abc", "18446744073709551616"]);
                options
                    .into_iter()
                    .fold(Words::of("SSCAN").and(key).and(cursor), Words::and)
                    .checked(Check::Shape)
            }
        }
    }

    fn set_keys(&mut self) -> Vec<Vec<u8>> {
        let count = 1 + self.random.below(3);
        (0..count).map(|_| self.set_key()).collect()
    }

    /// Members are taken out at random, and what is left goes, so that the servers go on with the same.
    pub(super) fn pop_and_delete(&mut self) -> Action {
        let key = self.set_key();
        let words = Words::of("SPOP").and(key.clone());
        let words = match self.random.below(2) {
            0 => words,
            _ => {
                let count = self.random.pick(&[1, 2, 5, 100]);
                words.number(count)
            }
        };
        let steps = [
            (words, Check::Size),
            (Words::of("SCARD").and(key.clone()), Check::Exact),
            (Words::of("DEL").and(key), Check::Exact),
        ];
        Action::Batch(
            steps.into_iter().map(|(words, check)| Step { command: words.0, check, inline: false }).collect(),
        )
    }

    fn element_scan_options(&mut self, of_hash: bool) -> Vec<Vec<u8>> {
        let mut options = Vec::new();
        if self.random.chance(500) {
            options.push(b"MATCH".to_vec());
            let pattern = self.random.pick(&["*", "e*", "e1*", "*5", "e12", "[e]*", "x*", "e?", ""]);
            options.push(pattern.as_bytes().to_vec());
        }
        if self.random.chance(500) {
            options.push(b"COUNT".to_vec());
            options.push(self.random.within(1, 50).to_string().into_bytes());
        }
        if of_hash && self.later && self.random.chance(300) {
            options.push(b"NOVALUES".to_vec());
        }
        options
    }

    /// One walk through a hash or set from end to end.
    pub(super) fn element_scan(&mut self) -> Action {
        let of_hash = self.random.chance(500);
        let (name, key) = match of_hash {
            true => ("HSCAN", self.random.pick(HASH_KEYS)),
            false => ("SSCAN", self.random.pick(SET_KEYS)),
        };
        let options = self.element_scan_options(of_hash);
        let pairs = of_hash && !options.iter().any(|word| word == b"NOVALUES");
        Action::ElementScan { command: vec![name.as_bytes().to_vec(), key.to_vec()], options, pairs }
    }

    // Redis 7.4 and 8.

    /// `FIELDS n ..`, at times with a wrong number.
    fn fields(&mut self, words: Words) -> Words {
        let fields = self.elements();
        let count = if self.random.chance(30) { self.random.within(-1, 3) } else { fields.len() as i64 };
        fields.into_iter().fold(words.and("FIELDS").number(count), Words::and)
    }

    pub(super) fn field_expiry_command(&mut self) -> Drawn {
        self.large = false;
        let key = self.hash_key();
        match self.random.below(24) {
            0..8 => {
                let (name, range) = self.random.pick(&[
                    ("HEXPIRE", FAR_SECONDS),
                    ("HPEXPIRE", FAR_MILLISECONDS),
                    ("HEXPIREAT", FAR_MOMENT_SECONDS),
                    ("HPEXPIREAT", FAR_MOMENT_MILLISECONDS),
                ]);
                let time = match self.random.below(16) {
                    0 => self.random.pick(&[0, -1, i64::MAX, 1 << 46, (1 << 46) - 1, (1 << 46) / 1000 + 1]),
                    _ => self.far(range),
                };
                let mut words = Words::of(name).and(key).number(time);
                if self.random.chance(400) {
                    let condition = self.random.pick(&["NX", "XX", "GT", "LT", "gt"]);
                    words = words.and(condition);
                }
                self.fields(words).exact()
            }
            8 | 9 => self.fields(Words::of("HTTL").and(key)).checked(Check::Near(SLACK_SECONDS)),
            10 | 11 => self.fields(Words::of("HPTTL").and(key)).checked(Check::Near(SLACK_SECONDS * 1000)),
            12 => self.fields(Words::of("HEXPIRETIME").and(key)).checked(Check::Near(SLACK_SECONDS)),
            13 => self.fields(Words::of("HPEXPIRETIME").and(key)).checked(Check::Near(SLACK_SECONDS * 1000)),
            14 | 15 => self.fields(Words::of("HPERSIST").and(key)).exact(),
            16 | 17 => self.fields(Words::of("HGETDEL").and(key)).exact(),
            18..21 => {
                let words = Words::of("HGETEX").and(key);
                let words = match self.random.below(4) {
                    0 => words,
                    1 => words.and("PERSIST"),
                    _ => self.expiry_option(words),
                };
                self.fields(words).exact()
            }
            _ => {
                let mut words = Words::of("HSETEX").and(key);
                for _ in 0..self.random.below(3) {
                    words = match self.random.below(5) {
                        0 => words.and("FNX"),
                        1 => words.and("FXX"),
                        2 => words.and("KEEPTTL"),
                        _ => self.expiry_option(words),
                    };
                }
                let fields = self.elements();
                let count = if self.random.chance(30) { 2 } else { fields.len() as i64 };
                let mut words = words.and("FIELDS").number(count);
                for field in fields {
                    let value = self.field_value();
                    words = words.and(field).and(value);
                }
                words.exact()
            }
        }
    }

    /// Fields that live for a moment, and what is seen of them when it is over.
    pub(super) fn short_lived_field(&mut self) -> Action {
        let (key, field) = (self.random.pick(HASH_KEYS).to_vec(), self.element());
        let command = match self.random.below(2) {
            0 => Words::of("HPEXPIRE").and(key.clone()).and("5 FIELDS 1".replace(' ', "\0")),
            _ => Words::of("HSETEX").and(key.clone()).and("PX\x005\0FIELDS\x001"),
        };
        let mut command: Vec<Vec<u8>> =
            command.0.iter().flat_map(|word| word.split(|byte| *byte == 0).map(<[u8]>::to_vec)).collect();
        command.push(field.clone());
        if command[0] == b"HSETEX" {
            command.push(b"value".to_vec());
        }
        let after = [
            (Words::of("HGET").and(key.clone()).and(field.clone()), Check::Exact),
            (Words::of("HEXISTS").and(key.clone()).and(field.clone()), Check::Exact),
            (Words::of("HPTTL").and(key.clone()).and("FIELDS").and("1").and(field.clone()), Check::Exact),
            (Words::of("HGETALL").and(key), Check::Pairs),
        ];
        let after = after.into_iter().map(|(words, check)| Step { command: words.0, check, inline: false });
        Action::ShortLifeOfField { command, after: after.collect() }
    }
}
