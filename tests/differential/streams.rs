//! Commands on HyperLogLogs and streams.
//!
//! Ids are given, never taken from the clock, and approximate trimming is left out: it depends on how Redis's nodes fell.
//! Consumers are made with their group, since 7.0 makes one only when it gets something.

use super::{Check, Drawn, Generator, Words};

const HLL_KEYS: &[&[u8]] = &[b"hll0", b"hll1", b"hll2"];
const STREAM_KEYS: &[&[u8]] = &[b"stream0", b"stream1", b"stream2"];
const GROUPS: &[&str] = &["g1", "g1", "g2"];
const CONSUMERS: &[&str] = &["c1", "c2", "c3"];

pub fn is_key(key: &[u8]) -> bool {
    HLL_KEYS.contains(&key) || STREAM_KEYS.contains(&key)
}

impl Generator {
    fn hll_key(&mut self) -> Vec<u8> {
        if self.random.chance(40) { self.key() } else { self.random.pick(HLL_KEYS).to_vec() }
    }

    pub(super) fn hyperloglog_command(&mut self) -> Drawn {
        self.large = false;
        let key = self.hll_key();
        match self.random.below(16) {
            0..6 => {
                let most = if self.random.chance(50) { 600 } else { 8 };
                let count = self.random.below(most);
                let mut words = Words::of("PFADD").and(key);
                for _ in 0..count {
                    let element = self.random.below(100_000);
                    words = words.number(element as i64);
                }
                words.exact()
            }
            6 | 7 => Words::of("PFCOUNT").and(key).exact(),
            8 => {
                let (one, other) = (self.hll_key(), self.hll_key());
                Words::of("PFCOUNT").and(key).and(one).and(other).exact()
            }
            9 | 10 => {
                let count = self.random.below(3);
                let keys: Vec<_> = (0..count).map(|_| self.hll_key()).collect();
                keys.into_iter().fold(Words::of("PFMERGE").and(key), Words::and).exact()
            }
            11 | 12 => Words::of("GET").and(key).exact(),
            13 => {
                let word = self.random.pick(&["ENCODING", "DECODE", "TODENSE", "GETREG", "NOSUCH"]);
                Words::of("PFDEBUG").and(word).and(key).exact()
            }
            14 if self.random.chance(150) => {
                let at = self.random.within(0, 40);
                let bytes = self.random.bytes(1);
                Words::of("SETRANGE").and(key).number(at).and(bytes).exact()
            }
            _ => Words::of("DEL").and(key).exact(),
        }
    }

    fn stream_key(&mut self) -> Vec<u8> {
        if self.random.chance(30) { self.key() } else { self.random.pick(STREAM_KEYS).to_vec() }
    }

    /// An id about where entries are.
    fn entry_id(&mut self) -> String {
        let now = self.stream_clock as i64;
        let ms = self.random.within((now - 12).max(0), now + 2);
        match self.random.below(10) {
            0..4 => format!("{ms}"),
            4 => "0".into(),
            5 => "18446744073709551615-18446744073709551615".into(),
            _ => format!("{ms}-{}", self.random.below(4)),
        }
    }

    fn new_entry_id(&mut self) -> String {
        self.stream_clock += self.random.below(3);
        let ms = self.stream_clock;
        match self.random.below(10) {
            0..5 => format!("{ms}-*"),
            5 | 6 => format!("{}", ms + 1),
            7 => self.entry_id(),
            _ => format!("{ms}-{}", self.random.below(6)),
        }
    }

    fn interval_end(&mut self, open: &str) -> String {
        match self.random.below(6) {
            0 | 1 => open.into(),
            2 => format!("({}", self.entry_id()),
            _ => self.entry_id(),
        }
    }

    fn interval(&mut self, words: Words) -> Words {
        let (start, end) = (self.interval_end("-"), self.interval_end("+"));
        words.and(start).and(end)
    }

    fn some_count(&mut self, words: Words) -> Words {
        if self.random.chance(500) {
            return words;
        }
        let count = self.random.within(-1, 6);
        words.and("COUNT").number(count)
    }

    fn exact_trim(&mut self, words: Words) -> Words {
        let words = match self.random.below(3) {
            0 => {
                let id = self.entry_id();
                return words.and("MINID").and(id);
            }
            1 => words.and("MAXLEN").and("="),
            _ => words.and("maxlen"),
        };
        let length = self.random.below(20);
        words.number(length as i64)
    }

    pub(super) fn stream_command(&mut self) -> Drawn {
        self.large = false;
        let key = self.stream_key();
        let group = self.random.pick(GROUPS);
        let consumer = self.random.pick(CONSUMERS);
        match self.random.below(50) {
            0..12 => {
                let mut words = Words::of("XADD").and(key);
                if self.random.chance(100) {
                    words = words.and("NOMKSTREAM");
                }
                if self.random.chance(200) {
                    words = self.exact_trim(words);
                }
                let id = self.new_entry_id();
                words = words.and(id);
                for _ in 0..=self.random.below(3) {
                    let (field, value) = (self.value(), self.value());
                    words = words.and(field).and(value);
                }
                words.exact()
            }
            12..15 => {
                let words = self.interval(Words::of("XRANGE").and(key));
                self.some_count(words).exact()
            }
            15..17 => {
                let (start, end) = (self.interval_end("-"), self.interval_end("+"));
                let words = Words::of("XREVRANGE").and(key).and(end).and(start);
                self.some_count(words).exact()
            }
            17 => Words::of("XLEN").and(key).exact(),
            18..20 => {
                let count = 1 + self.random.below(3);
                let ids: Vec<_> = (0..count).map(|_| self.entry_id()).collect();
                ids.into_iter().fold(Words::of("XDEL").and(key), Words::and).exact()
            }
            20 => self.exact_trim(Words::of("XTRIM").and(key)).exact(),
            21 => {
                let (other, from, other_from) = (self.stream_key(), self.entry_id(), self.entry_id());
                let words = self.some_count(Words::of("XREAD"));
                words.and("STREAMS").and(key).and(other).and(from).and(other_from).exact()
            }
            22 => {
                let from = self.entry_id();
                let words = self.some_count(Words::of("XREAD"));
                words.and("STREAMS").and(key).and(from).exact()
            }
            23 => Words::of("XREAD STREAMS").and(key).and("$").exact(),
            24..27 => {
                let start = if self.random.chance(500) { "$".into() } else { self.entry_id() };
                let words = Words::of("XGROUP CREATE").and(key).and(group).and(start);
                let words = if self.random.chance(400) { words.and("MKSTREAM") } else { words };
                words.exact()
            }
            27..29 => {
                // Whether it was there is not the same in both, see the head of this file.
                Words::of("XGROUP CREATECONSUMER").and(key).and(group).and(consumer).checked(Check::Shape)
            }
            29 if self.random.chance(200) => {
                Words::of("XGROUP DELCONSUMER").and(key).and(group).and(consumer).exact()
            }
            29 => Words::of("XGROUP DESTROY").and(key).and(group).exact(),
            30 => {
                let start = if self.random.chance(500) { "$".into() } else { self.entry_id() };
                Words::of("XGROUP SETID").and(key).and(group).and(start).exact()
            }
            31..37 => {
                let mut words = self.some_count(Words::of("XREADGROUP GROUP").and(group).and(consumer));
                if self.random.chance(100) {
                    words = words.and("NOACK");
                }
                let from = if self.random.chance(700) { ">".into() } else { self.entry_id() };
                words.and("STREAMS").and(key).and(from).exact()
            }
            37..39 => {
                let count = 1 + self.random.below(3);
                let ids: Vec<_> = (0..count).map(|_| self.entry_id()).collect();
                ids.into_iter().fold(Words::of("XACK").and(key).and(group), Words::and).exact()
            }
            39 => Words::of("XPENDING").and(key).and(group).exact(),
            40 | 41 => {
                let mut words = Words::of("XPENDING").and(key).and(group);
                if self.random.chance(200) {
                    words = words.and("IDLE").and(self.random.pick(&["0", "99999999"]));
                }
                let words = self.interval(words);
                let count = self.random.within(-1, 8);
                let words = words.number(count);
                let words = if self.random.chance(300) { words.and(consumer) } else { words };
                words.checked(Check::Pending)
            }
            42 | 43 => {
                let idle = self.random.pick(&["0", "0", "99999999"]);
                let mut words = Words::of("XCLAIM").and(key).and(group).and(consumer).and(idle);
                for _ in 0..=self.random.below(3) {
                    let id = self.entry_id();
                    words = words.and(id);
                }
                for _ in 0..self.random.below(3) {
                    words = match self.random.below(6) {
                        0 => words.and("FORCE"),
                        1 => words.and("JUSTID"),
                        2 => words.and("RETRYCOUNT").number(7),
                        3 => words.and("IDLE").number(5),
                        4 => words.and("TIME").number(1000),
                        _ => words.and("LASTID").and("3-0"),
                    };
                }
                words.exact()
            }
            44 | 45 => {
                let idle = self.random.pick(&["0", "0", "99999999"]);
                let start = self.interval_end("-");
                let words = Words::of("XAUTOCLAIM").and(key).and(group).and(consumer).and(idle).and(start);
                let words = self.some_count(words);
                let words = if self.random.chance(300) { words.and("JUSTID") } else { words };
                words.exact()
            }
            46 => {
                let words = match self.random.below(4) {
                    0 => Words::of("XINFO STREAM").and(key),
                    1 => Words::of("XINFO STREAM").and(key).and("FULL"),
                    2 => Words::of("XINFO GROUPS").and(key),
                    _ => Words::of("XINFO CONSUMERS").and(key).and(group),
                };
                words.checked(Check::StreamInfo)
            }
            47 => {
                let id = self.entry_id();
                let words = Words::of("XSETID").and(key).and(id);
                if self.random.chance(500) {
                    return words.exact();
                }
                let (added, deleted) = (self.random.below(60), self.entry_id());
                words.and("ENTRIESADDED").number(added as i64).and("MAXDELETEDID").and(deleted).exact()
            }
            48 => {
                let other = self.stream_key();
                match self.random.below(3) {
                    0 => Words::of("COPY").and(key).and(other).and("REPLACE").exact(),
                    1 => Words::of("RENAME").and(key).and(other).exact(),
                    _ => Words::of("TYPE").and(key).exact(),
                }
            }
            _ if self.random.chance(300) => Words::of("DEL").and(key).exact(),
            _ => Words::of("OBJECT ENCODING").and(key).exact(),
        }
    }
}
