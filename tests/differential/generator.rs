//! Draws commands: mostly sensible, about one in ten hostile.
//!
//! What is drawn must have one right answer, or an answer that a [`Check`] can compare. So:
//! - a time to live is far away (in every unit it could be mistaken for), in the past, or waited for;
//! - short strings and long ones live under keys of their own, and no command carries one to the other's keys: LCS takes
//!   the product of two lengths in memory;
//! - no word that an error may quote has a NUL: Redis ends its texts there;
//! - commands that could stop the connection for ever (CLIENT PAUSE, WAIT, CLIENT REPLY) are never made hostile at random.

#[path = "hashes_sets.rs"]
mod hashes_sets;

use crate::support::random::Random;
use hashes_sets::{HASH_KEYS, SET_KEYS};

#[path = "sort_commands.rs"]
mod sort_commands;
#[path = "streams.rs"]
mod streams;
#[path = "list_commands.rs"]
mod list_commands;
#[path = "sorted_set_commands.rs"]
mod sorted_set_commands;

use list_commands::LIST_KEYS;
use sorted_set_commands::{GEO_KEYS, SORTED_SET_KEYS};

/// How two replies to one command are compared. Two errors are always compared as they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Check {
    /// Equal.
    Exact,
    /// Equal once elements are sorted.
    Unordered,
    /// Equal once pairs of elements are sorted.
    Pairs,
    /// As many elements, or both none.
    Size,
    /// Numbers (alone or in a list) that may differ by this much if both are above zero.
    Near(i64),
    /// Equal, but a number in a text may be spelled otherwise: 7.0 gives scores 17 digits, 7.2 the fewest that will do.
    Numbers,
    /// What ZSCAN answers: the same cursor and the same pairs in any order, numbers as above.
    ScannedPairs,
    /// The same kind of reply; the content is each server's own.
    Shape,
    /// HELLO: equal but for version and id.
    Hello,
    /// XPENDING: equal but for how long ago something was.
    Pending,
    /// XINFO: equal but for times, what 7.0 has not, and consumers that have nothing.
    StreamInfo,
    /// Texts with the same names of fields in the same order.
    Fields,
}

/// One command of a stream.
#[derive(Clone, Debug)]
pub struct Step {
    pub command: Vec<Vec<u8>>,
    pub check: Check,
    /// Sent as a line instead of a list of bulks.
    pub inline: bool,
}

/// What is done next.
#[derive(Clone, Debug)]
pub enum Action {
    /// Commands in one pipeline.
    Batch(Vec<Step>),
    /// Commands between MULTI and EXEC.
    Transaction(Vec<Step>),
    /// One SCAN from end to end with these options.
    Scan(Vec<Vec<u8>>),
    /// One walk through a hash or set: name and key, options, and whether elements come in pairs.
    ElementScan { command: Vec<Vec<u8>>, options: Vec<Vec<u8>>, pairs: bool },
    /// A field gets a few milliseconds by this command; these follow when they are over.
    ShortLifeOfField { command: Vec<Vec<u8>>, after: Vec<Step> },
    /// A key gets this few milliseconds by this command, and nothing else happens until they are over.
    ShortLife { key: Vec<u8>, command: Vec<Vec<u8>> },
    /// Commands of which the last one alone is answered, and the checked answer is that one.
    Muted(Vec<Vec<Vec<u8>>>),
    /// QUIT, and a new connection.
    Reconnect,
    /// The key counts of the selected database agree, at the latest after a while.
    KeyCount,
    /// RANDOMKEY names a key that exists, or there is none.
    RandomKey,
    /// DEBUG RELOAD: everything is found again.
    Reload,
}

/// Seconds that are far away also when taken for milliseconds.
const FAR_SECONDS: (i64, i64) = (10_000_000, 200_000_000);
const FAR_MILLISECONDS: (i64, i64) = (10_000_000_000, 200_000_000_000);
/// Moments far in the future also when taken for a duration.
const FAR_MOMENT_SECONDS: (i64, i64) = (4_000_000_000, 4_000_000_050);
const FAR_MOMENT_MILLISECONDS: (i64, i64) = (4_000_000_000_000, 4_000_000_000_050);

/// How far apart two servers' clocks of one command may be.
const SLACK_SECONDS: i64 = 10;

const HOSTILE_WORDS: &[&[u8]] = &[
    b"",
    b" ",
    b"0",
    b"-0",
    b"-1",
    b"+1",
    b"01",
    b"1.0",
    b"1e3",
    b"0x10",
    b"nan",
    b"inf",
    b"-inf",
    b"abc",
    b"*",
    b"\xff\xfe",
    b"9223372036854775807",
    b"9223372036854775808",
    b"-9223372036854775808",
    b"-9223372036854775809",
    b"18446744073709551615",
    b"18446744073709551616",
    b"4294967296",
    b"1234567890123456789012345678901234567890",
    b"NX",
    b"XX",
    b"GT",
    b"LT",
    b"EX",
    b"PX",
    b"EXAT",
    b"PXAT",
    b"GET",
    b"KEEPTTL",
    b"PERSIST",
    b"BYTE",
    b"BIT",
    b"REPLACE",
    b"DB",
    b"MATCH",
    b"COUNT",
    b"TYPE",
    b"LEN",
    b"IDX",
    b"ASYNC",
    b"SYNC",
    b"string",
    b"hash",
    b"u8",
    b"i65",
    b"u64",
    b"i0",
    b"#",
    b"#1",
    b"#-1",
    b"OVERFLOW",
    b"WRAP",
    b"SAT",
    b"FAIL",
    b"AND",
    b"NOT",
];

const SMALL_KEYS: &[&[u8]] = &[
    b"s0",
    b"s1",
    b"s2",
    b"s3",
    b"s4",
    b"s5",
    b"s6",
    b"s7",
    b"i0",
    b"i1",
    b"i2",
    b"i3",
    b"f0",
    b"f1",
    b"",
    b"key with space",
    b"\x01\xff\r\n",
    b"{tag}a",
    b"{tag}b",
    b"a*c",
    b"a[b]c",
    b"foo:1",
    b"foo:2",
    b"bar:1",
];
const LARGE_KEYS: &[&[u8]] = &[b"L0", b"L1", b"L2", b"L3", b"L4", b"L5"];

/// The words that are likely keys of a stream.
pub fn is_key(key: &[u8]) -> bool {
    HASH_KEYS.contains(&key)
        || SET_KEYS.contains(&key)
        || streams::is_key(key)
        || SMALL_KEYS.contains(&key)
        || LIST_KEYS.contains(&key)
        || SORTED_SET_KEYS.contains(&key)
        || GEO_KEYS.contains(&key)
        || LARGE_KEYS.contains(&key)
        || HOSTILE_WORDS.contains(&key)
        || is_long_key(key)
}

fn is_long_key(key: &[u8]) -> bool {
    key.len() == 300 && key.iter().all(|byte| *byte == b'k')
}

/// Whether EXEC runs it, and in one server as in another: what is not queued ends a transaction or answers at once, and an id that a
/// server's clock gives cannot be looked away from there. Of some Redis has changed how many words they take.
pub fn may_be_queued(step: &Step) -> bool {
    const NOT: &[&str] =
        &["quit", "reset", "hello", "client", "save", "shutdown", "command", "zrank", "zrevrank"];
    let is = |name: &str| step.command[0].eq_ignore_ascii_case(name.as_bytes());
    // The queue of a connection holds its words as well.
    let counts_holders =
        is("object") && step.command.iter().any(|word| word.eq_ignore_ascii_case(b"refcount"));
    let own_id = is("xadd") && step.command.iter().any(|word| word == b"*");
    !(step.inline || own_id || counts_holders || NOT.iter().any(|name| is(name)))
}

/// The source of one stream.
pub struct Generator {
    random: Random,
    /// Keys and values of the command at hand are of the large kind.
    large: bool,
    reload: bool,
    /// The ms part of new ids of streams.
    stream_clock: u64,
    /// Only hashes and sets, with what Redis 7.0 has not.
    later: bool,
}

/// Builds one command.
struct Words(Vec<Vec<u8>>);

impl Words {
    fn of(words: &str) -> Words {
        Words(words.split(' ').map(|word| word.as_bytes().to_vec()).collect())
    }

    fn and(mut self, word: impl Into<Vec<u8>>) -> Words {
        self.0.push(word.into());
        self
    }

    fn number(self, number: i64) -> Words {
        self.and(number.to_string())
    }

    fn exact(self) -> Drawn {
        Drawn { command: self.0, check: Check::Exact, mutable: true }
    }

    fn checked(self, check: Check) -> Drawn {
        Drawn { command: self.0, check, mutable: true }
    }

    /// Never made hostile.
    fn fixed(self, check: Check) -> Drawn {
        Drawn { command: self.0, check, mutable: false }
    }
}

struct Drawn {
    command: Vec<Vec<u8>>,
    check: Check,
    mutable: bool,
}

impl Generator {
    /// `reload`: DEBUG RELOAD is among the actions.
    pub fn new(seed: u64, reload: bool) -> Generator {
        Generator { random: Random::new(seed), large: false, reload, stream_clock: 1, later: false }
    }

    /// Hashes and sets only, with all that a Redis of today does.
    pub fn of_later_hashes(seed: u64) -> Generator {
        Generator { later: true, ..Generator::new(seed, true) }
    }

    pub fn action(&mut self) -> Action {
        match self.random.below(1040) {
            1000..1018 => self.element_scan(),
            1018..1030 => self.pop_and_delete(),
            1030.. if self.later => self.short_lived_field(),
            0..15 => Action::Scan(self.scan_options()),
            15..18 => self.short_life(),
            18..28 => self.muted(),
            28..33 => Action::Reconnect,
            33..53 => Action::KeyCount,
            53..58 => Action::RandomKey,
            58 if self.reload => Action::Reload,
            _ => {
                let count = 1 + self.random.below(if self.random.clone().chance(200) { 60 } else { 12 });
                let steps: Vec<Step> = (0..count).map(|_| self.step()).collect();
                if self.random.chance(250) && steps.iter().all(may_be_queued) {
                    return Action::Transaction(steps);
                }
                Action::Batch(steps)
            }
        }
    }

    pub fn step(&mut self) -> Step {
        let mut drawn = self.command();
        if drawn.mutable && self.random.chance(100) {
            self.make_hostile(&mut drawn.command);
        }
        list_commands::avoid_what_changed(&mut drawn.command);
        if self.random.chance(300) {
            let random = &mut self.random;
            for byte in &mut drawn.command[0] {
                if random.chance(500) {
                    byte.make_ascii_uppercase();
                } else {
                    byte.make_ascii_lowercase();
                }
            }
        }
        let plain = |word: &Vec<u8>| {
            !word.is_empty() && word.len() < 100 && word.iter().all(u8::is_ascii_alphanumeric)
        };
        let inline = self.random.chance(20) && drawn.command.iter().all(plain);
        Step { command: drawn.command, check: drawn.check, inline }
    }

    fn command(&mut self) -> Drawn {
        self.large = self.random.chance(80);
        match self.random.below(212) {
            100..120 => {
                self.large = false;
                self.list_command()
            }
            120..124 => self.hyperloglog_command(),
            124..140 => self.stream_command(),
            140..144 => self.sort_command(),
            144..164 => self.hash_command(),
            164..184 => self.set_command(),
            184..206 => {
                self.large = false;
                self.sorted_set_command()
            }
            206..212 => {
                self.large = false;
                self.geo_command()
            }
            0..40 if self.later => self.field_expiry_command(),
            40..100 if self.later => self.hash_command(),
            0..40 => self.string_command(),
            40..58 => self.bitmap_command(),
            58..75 => self.generic_command(),
            75..90 => self.expiry_command(),
            90..96 => self.connection_command(),
            _ => self.server_command(),
        }
    }

    fn make_hostile(&mut self, command: &mut Vec<Vec<u8>>) {
        for _ in 0..=self.random.below(2) {
            let at = self.random.below(command.len() as u64) as usize;
            let word = self.random.pick(HOSTILE_WORDS).to_vec();
            match self.random.below(6) {
                0 => {
                    if command.len() > 1 {
                        command.remove(at.max(1));
                    }
                }
                1 => command.push(word),
                2 if at > 0 => command.insert(at, word),
                3 => {
                    let copy = command[at].clone();
                    command.push(copy);
                }
                4 if at == 0 => {
                    command.truncate(1);
                    command[0].push(b'x');
                    command.push(word);
                }
                _ if at > 0 => command[at] = word,
                _ => command.truncate(1),
            }
        }
    }

    // ---- keys and values ----

    fn key(&mut self) -> Vec<u8> {
        if self.large {
            return self.random.pick(LARGE_KEYS).to_vec();
        }
        if self.random.chance(5) {
            return vec![b'k'; 300];
        }
        if self.random.chance(60) {
            return self.random.pick(LIST_KEYS).to_vec();
        }
        if self.random.chance(60) {
            return self.random.pick(SORTED_SET_KEYS).to_vec();
        }
        if self.random.chance(150) {
            return self
                .random
                .pick(if self.random.clone().chance(500) { HASH_KEYS } else { SET_KEYS })
                .to_vec();
        }
        self.random.pick(SMALL_KEYS).to_vec()
    }

    fn keys(&mut self, most: u64) -> Vec<Vec<u8>> {
        let count = 1 + self.random.below(most);
        (0..count).map(|_| self.key()).collect()
    }

    fn number_text(&mut self) -> Vec<u8> {
        const NUMBERS: &[&str] = &[
            "0",
            "1",
            "-1",
            "2",
            "10",
            "99",
            "100",
            "-7",
            "255",
            "256",
            "65536",
            "2147483647",
            "-2147483648",
            "4294967295",
            "9223372036854775807",
            "9223372036854775806",
            "-9223372036854775808",
            "-9223372036854775807",
            "1000000000000",
            "10000",
            "9999",
        ];
        self.random.pick(NUMBERS).as_bytes().to_vec()
    }

    fn float_text(&mut self) -> Vec<u8> {
        const FLOATS: &[&str] = &[
            "0",
            "1.5",
            "-1.5",
            "0.1",
            "3.0e3",
            "5e-3",
            "1e17",
            "-2.25",
            "3.14159265358979",
            "1e-10",
            "100",
            "10.00",
            "-0.0",
            "1e5",
            "0.000001",
            "123456789.123456789",
            "5.0e3",
            "200",
        ];
        self.random.pick(FLOATS).as_bytes().to_vec()
    }

    fn value(&mut self) -> Vec<u8> {
        if self.large {
            let length = match self.random.below(4) {
                0 => self.random.within(60_000, 70_000),
                1 => self.random.within(16_000, 17_000),
                2 => self.random.within(100_000, 200_000),
                _ => self.random.within(1_000, 5_000),
            };
            return self.random.bytes(length as usize);
        }
        match self.random.below(10) {
            0..4 => self.number_text(),
            4 => self.float_text(),
            5 => Vec::new(),
            6 => {
                let length = self.random.within(40, 50) as usize;
                vec![b'x'; length]
            }
            7 => {
                let length = self.random.below(60) as usize;
                self.random.bytes(length)
            }
            _ => {
                const TEXTS: &[&str] =
                    &["hello", "ohmytext", "mynewtext", "foobar", "abcabcabc", " 1", "1 ", "0x1", "foo"];
                self.random.pick(TEXTS).as_bytes().to_vec()
            }
        }
    }

    /// An offset in bytes that suits the key.
    fn offset(&mut self) -> i64 {
        if self.large { self.random.within(0, 200_000) } else { self.random.within(0, 80) }
    }

    /// One end of a range in bytes, of either sign.
    fn range_end(&mut self) -> i64 {
        match self.random.below(12) {
            0 => 0,
            1 => -1,
            2 => self.random.pick(&[i64::MAX, i64::MIN, i64::MIN + 1, -1_000_000_000_000]),
            _ if self.large => self.random.within(-210_000, 210_000),
            _ => self.random.within(-70, 70),
        }
    }

    fn bit_offset(&mut self) -> i64 {
        if self.large { self.random.within(0, 1 << 20) } else { self.random.within(0, 600) }
    }

    fn far(&mut self, range: (i64, i64)) -> i64 {
        self.random.within(range.0, range.1)
    }

    /// EX, PX, EXAT or PXAT with its time.
    fn expiry_option(&mut self, words: Words) -> Words {
        match self.random.below(8) {
            0 | 1 => {
                let time = self.far(FAR_SECONDS);
                words.and("EX").number(time)
            }
            2 | 3 => {
                let time = self.far(FAR_MILLISECONDS);
                words.and("PX").number(time)
            }
            4 => {
                let time = self.far(FAR_MOMENT_SECONDS);
                words.and("EXAT").number(time)
            }
            5 => {
                let time = self.far(FAR_MOMENT_MILLISECONDS);
                words.and("PXAT").number(time)
            }
            // Long past.
            6 => words.and("EXAT").number(1_000_000),
            _ => words.and("pxat").number(1_000_000_000),
        }
    }

    // ---- commands ----

    fn string_command(&mut self) -> Drawn {
        let key = self.key();
        match self.random.below(27) {
            0..3 => {
                let value = self.value();
                Words::of("SET").and(key).and(value).exact()
            }
            3..6 => self.set_with_options(key),
            6..8 => Words::of("GET").and(key).exact(),
            8 => {
                let value = self.value();
                Words::of("SETNX").and(key).and(value).exact()
            }
            9 => {
                let (time, value) = (self.far(FAR_SECONDS), self.value());
                Words::of("SETEX").and(key).number(time).and(value).exact()
            }
            10 => {
                let (time, value) = (self.far(FAR_MILLISECONDS), self.value());
                Words::of("PSETEX").and(key).number(time).and(value).exact()
            }
            11 => {
                let value = self.value();
                Words::of("GETSET").and(key).and(value).exact()
            }
            12 => Words::of("GETDEL").and(key).exact(),
            13 => {
                let words = Words::of("GETEX").and(key);
                match self.random.below(4) {
                    0 => words.exact(),
                    1 => words.and("PERSIST").exact(),
                    2 => self.expiry_option(words).exact(),
                    _ => self.expiry_option(words).and("PERSIST").exact(),
                }
            }
            14 => {
                let value = if self.large { self.random.bytes(3000) } else { self.value() };
                Words::of("APPEND").and(key).and(value).exact()
            }
            15 => Words::of("STRLEN").and(key).exact(),
            16 | 17 => {
                let (from, to) = (self.range_end(), self.range_end());
                let name = self.random.pick(&["GETRANGE", "GETRANGE", "SUBSTR"]);
                Words::of(name).and(key).number(from).number(to).exact()
            }
            18 => {
                let offset = if self.random.chance(50) { 536_870_912 } else { self.offset() };
                let value = if self.large { self.random.bytes(20_000) } else { self.value() };
                Words::of("SETRANGE").and(key).number(offset).and(value).exact()
            }
            19 => self.keys(6).into_iter().fold(Words::of("MGET"), Words::and).exact(),
            20 => {
                let name = if self.random.chance(500) { "MSET" } else { "MSETNX" };
                let keys = self.keys(5);
                let mut words = Words::of(name);
                for key in keys {
                    let value = self.value();
                    words = words.and(key).and(value);
                }
                words.exact()
            }
            21 => Words::of(if self.random.chance(500) { "INCR" } else { "DECR" }).and(key).exact(),
            22 | 23 => {
                let by = self.number_text();
                Words::of(if self.random.chance(500) { "INCRBY" } else { "DECRBY" }).and(key).and(by).exact()
            }
            24 | 25 => {
                let by = self.float_text();
                Words::of("INCRBYFLOAT").and(key).and(by).exact()
            }
            _ => self.lcs(),
        }
    }

    fn set_with_options(&mut self, key: Vec<u8>) -> Drawn {
        let value = self.value();
        let mut words = Words::of("SET").and(key).and(value);
        for _ in 0..=self.random.below(3) {
            words = match self.random.below(6) {
                0 => words.and("NX"),
                1 => words.and("XX"),
                2 => words.and("GET"),
                3 => words.and("KEEPTTL"),
                _ => self.expiry_option(words),
            };
        }
        words.exact()
    }

    fn lcs(&mut self) -> Drawn {
        self.large = false;
        let (one, other) = (self.key(), self.key());
        let mut words = Words::of("LCS").and(one).and(other);
        if self.random.chance(300) {
            words = words.and("LEN");
        }
        if self.random.chance(400) {
            words = words.and("IDX");
            if self.random.chance(500) {
                let least = self.random.within(-1, 6);
                words = words.and("MINMATCHLEN").number(least);
            }
            if self.random.chance(500) {
                words = words.and("WITHMATCHLEN");
            }
        }
        words.exact()
    }

    fn bitmap_command(&mut self) -> Drawn {
        let key = self.key();
        match self.random.below(10) {
            0 | 1 => {
                let (offset, bit) = (self.bit_offset(), self.random.within(0, 1));
                let bit = if self.random.chance(30) { 2 } else { bit };
                Words::of("SETBIT").and(key).number(offset).number(bit).exact()
            }
            2 => {
                let offset = if self.random.chance(100) { 4_294_967_296 } else { self.bit_offset() };
                Words::of("GETBIT").and(key).number(offset).exact()
            }
            3 | 4 => {
                let words = Words::of("BITCOUNT").and(key);
                self.bit_range(words, true).exact()
            }
            5 | 6 => {
                let bit = self.random.within(0, 1);
                let words = Words::of("BITPOS").and(key).number(bit);
                let words = if self.random.chance(200) {
                    let from = self.range_end();
                    words.number(from)
                } else {
                    self.bit_range(words, true)
                };
                words.exact()
            }
            7 => {
                let operation = self.random.pick(&["AND", "OR", "XOR", "NOT", "and", "Not"]);
                let most =
                    if operation.eq_ignore_ascii_case("not") && !self.random.chance(100) { 1 } else { 4 };
                let sources = self.keys(most);
                sources.into_iter().fold(Words::of("BITOP").and(operation).and(key), Words::and).exact()
            }
            8 => self.bitfield(key, false),
            _ => self.bitfield(key, true),
        }
    }

    fn bit_range(&mut self, words: Words, units: bool) -> Words {
        if self.random.chance(300) {
            return words;
        }
        let (from, to) = (self.range_end(), self.range_end());
        let words = words.number(from).number(to);
        match self.random.below(3) {
            0 if units => words.and("BYTE"),
            1 if units => words.and("bit"),
            _ => words,
        }
    }

    fn bitfield(&mut self, key: Vec<u8>, read_only: bool) -> Drawn {
        let mut words = Words::of(if read_only { "BITFIELD_RO" } else { "BITFIELD" }).and(key);
        for _ in 0..=self.random.below(4) {
            let signed = self.random.chance(500);
            let width = self.random.within(1, if signed { 64 } else { 63 });
            let kind = format!("{}{width}", if signed { 'i' } else { 'u' });
            let offset = if self.random.chance(300) {
                format!("#{}", self.random.below(20))
            } else {
                self.bit_offset().to_string()
            };
            let number = self.number_text();
            words = match self.random.below(if read_only { 2 } else { 8 }) {
                0..3 => words.and("GET").and(kind).and(offset),
                3 | 4 => words.and("SET").and(kind).and(offset).and(number),
                5 | 6 => words.and("INCRBY").and(kind).and(offset).and(number),
                _ => {
                    let way = self.random.pick(&["WRAP", "SAT", "FAIL", "fail", "wrap"]);
                    words.and("OVERFLOW").and(way).and("INCRBY").and(kind).and(offset).and(number)
                }
            };
        }
        words.exact()
    }

    fn generic_command(&mut self) -> Drawn {
        let key = self.key();
        match self.random.below(28) {
            0..3 => self.keys(3).into_iter().fold(Words::of("DEL"), Words::and).exact(),
            3 => self.keys(3).into_iter().fold(Words::of("UNLINK"), Words::and).exact(),
            4..6 => self.keys(6).into_iter().fold(Words::of("EXISTS"), Words::and).exact(),
            6 => self.keys(4).into_iter().fold(Words::of("TOUCH"), Words::and).exact(),
            7 => Words::of("TYPE").and(key).exact(),
            8..11 => {
                let other = self.key();
                Words::of(if self.random.chance(500) { "RENAME" } else { "RENAMENX" })
                    .and(key)
                    .and(other)
                    .exact()
            }
            11..14 => {
                let other = self.key();
                let mut words = Words::of("COPY").and(key).and(other);
                if self.random.chance(400) {
                    let database = self.database();
                    words = words.and("DB").and(database);
                }
                if self.random.chance(400) {
                    words = words.and("REPLACE");
                }
                words.exact()
            }
            14 | 15 => {
                let database = self.database();
                Words::of("MOVE").and(key).and(database).exact()
            }
            16 => {
                let (one, other) = (self.database(), self.database());
                Words::of("SWAPDB").and(one).and(other).exact()
            }
            17 | 18 => {
                let pattern = self.pattern();
                Words::of("KEYS").and(pattern).checked(Check::Unordered)
            }
            19 => Words::of("RANDOMKEY x").fixed(Check::Exact),
            20 | 21 => Words::of("OBJECT ENCODING").and(key).exact(),
            22 => Words::of("OBJECT REFCOUNT").and(key).exact(),
            // Redis's shared integers have a time of their own.
            23 => Words::of("OBJECT IDLETIME").and(key).checked(Check::Shape),
            24 => Words::of("OBJECT FREQ").and(key).exact(),
            25 => {
                let (cursor, options) = (self.random.below(2) * 17, self.scan_options());
                options
                    .into_iter()
                    .fold(Words::of("SCAN").number(cursor as i64), Words::and)
                    .checked(Check::Shape)
            }
            26 if self.random.chance(150) => {
                let name = self.random.pick(&["FLUSHDB", "FLUSHDB ASYNC", "FLUSHDB SYNC", "FLUSHALL"]);
                Words::of(name).exact()
            }
            _ => Words::of("MEMORY USAGE").and(key).checked(Check::Shape),
        }
    }

    fn database(&mut self) -> Vec<u8> {
        const DATABASES: &[&str] = &["0", "0", "0", "1", "1", "2", "3", "15", "16", "-1", "abc"];
        self.random.pick(DATABASES).as_bytes().to_vec()
    }

    fn pattern(&mut self) -> Vec<u8> {
        const PATTERNS: &[&[u8]] = &[
            b"*",
            b"s*",
            b"s?",
            b"[si]0",
            b"[^s]*",
            b"[a-f]*",
            b"foo:*",
            b"*:1",
            b"a\\*c",
            b"a[*]c",
            b"a\\[b\\]c",
            b"nothing",
            b"",
            b"**",
            b"*0*",
            b"{tag}?",
            b"[",
            b"[z-a]0",
            b"\\",
            b"s\\0",
            b"[^]",
            b"?",
            b"[s\\-i]*",
            b"k*k",
            b"L[0-3]",
            b"[f-]0",
            b"s[0-",
            b"*[",
            b"***s***0***",
        ];
        self.random.pick(PATTERNS).to_vec()
    }

    fn scan_options(&mut self) -> Vec<Vec<u8>> {
        let mut options = Vec::new();
        if self.random.chance(500) {
            options.push(b"MATCH".to_vec());
            options.push(self.pattern());
        }
        if self.random.chance(500) {
            options.push(b"count".to_vec());
            options.push(self.random.within(1, 50).to_string().into_bytes());
        }
        if self.random.chance(300) {
            options.push(b"TYPE".to_vec());
            options.push(self.random.pick(&["string", "STRING", "hash", "set", "zset"]).as_bytes().to_vec());
        }
        options
    }

    fn expiry_command(&mut self) -> Drawn {
        let key = self.key();
        match self.random.below(14) {
            0..6 => {
                let (name, range) = self.random.pick(&[
                    ("EXPIRE", FAR_SECONDS),
                    ("PEXPIRE", FAR_MILLISECONDS),
                    ("EXPIREAT", FAR_MOMENT_SECONDS),
                    ("PEXPIREAT", FAR_MOMENT_MILLISECONDS),
                ]);
                let time = match self.random.below(12) {
                    0 => self.random.pick(&[
                        0,
                        -1,
                        -1_000_000,
                        i64::MAX,
                        i64::MIN,
                        i64::MAX / 1000,
                        i64::MAX / 1000 + 1,
                    ]),
                    _ => self.far(range),
                };
                let mut words = Words::of(name).and(key).number(time);
                for _ in 0..self.random.below(3) {
                    let condition = self.random.pick(&["NX", "XX", "GT", "LT", "gt"]);
                    words = words.and(condition);
                }
                words.exact()
            }
            6 | 7 => Words::of("TTL").and(key).checked(Check::Near(SLACK_SECONDS)),
            8 | 9 => Words::of("PTTL").and(key).checked(Check::Near(SLACK_SECONDS * 1000)),
            10 => Words::of("EXPIRETIME").and(key).checked(Check::Near(SLACK_SECONDS)),
            11 => Words::of("PEXPIRETIME").and(key).checked(Check::Near(SLACK_SECONDS * 1000)),
            _ => Words::of("PERSIST").and(key).exact(),
        }
    }

    fn connection_command(&mut self) -> Drawn {
        let word = self.value();
        match self.random.below(22) {
            0 => Words::of("PING").exact(),
            1 => Words::of("PING").and(word).exact(),
            2 => Words::of("ECHO").and(word).exact(),
            3..8 => {
                let database = self.database();
                Words::of("SELECT").and(database).exact()
            }
            8 | 9 => Words::of(self.random.pick(&["HELLO 2", "HELLO 3", "HELLO"])).checked(Check::Hello),
            10 => {
                let hello = self.random.pick(&[
                    "HELLO 3 SETNAME me",
                    "HELLO 2 SETNAME",
                    "HELLO 4",
                    "HELLO 3 AUTH default nothing",
                    "HELLO abc",
                    "HELLO 2 AUTH x",
                    "HELLO 3 NOSUCH x",
                    "HELLO 2 SETNAME a\nb",
                ]);
                Words::of(hello).fixed(Check::Hello)
            }
            11 => Words::of(self.random.pick(&["AUTH x", "AUTH default x", "AUTH"])).fixed(Check::Exact),
            12 => Words::of("RESET").exact(),
            13 => {
                let name: &[u8] =
                    self.random.pick(&[b"me".as_slice(), b"", b"with space", b"a\nb", b"x-1", b"\xff"]);
                Words::of("CLIENT SETNAME").and(name).exact()
            }
            14 => Words::of("CLIENT GETNAME").exact(),
            15 => Words::of(self.random.pick(&[
                "CLIENT ID",
                "CLIENT INFO",
                "CLIENT LIST",
                "CLIENT LIST TYPE normal",
            ]))
            .checked(Check::Shape),
            16 => Words::of(self.random.pick(&[
                "CLIENT LIST TYPE nosuch",
                "CLIENT LIST ID x",
                "CLIENT LIST ID 99999999",
                "CLIENT KILL 1.2.3.4:5",
                "CLIENT KILL ID 99999999",
                "CLIENT KILL ID 0",
                "CLIENT KILL TYPE replica",
                "CLIENT KILL TYPE nosuch",
                "CLIENT KILL ADDR 1.2.3.4:5",
                "CLIENT KILL LADDR 1.2.3.4:5",
                "CLIENT KILL USER nobody",
                "CLIENT KILL SKIPME maybe",
                "CLIENT KILL ID 99999999 SKIPME yes",
                "CLIENT UNBLOCK 99999999",
                "CLIENT UNBLOCK 99999999 WRONG",
            ]))
            .exact(),
            17 => Words::of(self.random.pick(&[
                "CLIENT NO-EVICT on",
                "CLIENT NO-EVICT off",
                "CLIENT NO-EVICT maybe",
            ]))
            .exact(),
            18 => Words::of(self.random.pick(&[
                "CLIENT PAUSE 0",
                "CLIENT PAUSE 1 WRITE",
                "CLIENT PAUSE 1 all",
                "CLIENT PAUSE x",
                "CLIENT PAUSE -1",
                "CLIENT PAUSE 1 SOME",
                "CLIENT UNPAUSE",
            ]))
            .fixed(Check::Exact),
            19 => Words::of(self.random.pick(&["CLIENT REPLY ON", "CLIENT REPLY maybe", "CLIENT REPLY"]))
                .fixed(Check::Exact),
            20 => Words::of(self.random.pick(&[
                "CLIENT SETINFO lib-name me",
                "CLIENT SETINFO LIB-VER 1.2",
                "CLIENT SETINFO lib-x 1",
                "CLIENT NO-TOUCH on",
                "CLIENT NO-TOUCH off",
                "CLIENT NO-TOUCH maybe",
            ]))
            .exact(),
            _ => Words::of(self.random.pick(&[
                "CLIENT",
                "CLIENT NOSUCH",
                "CLIENT NOSUCH x",
                "NOSUCH",
                "NOSUCH a b c",
            ]))
            .exact(),
        }
    }

    fn server_command(&mut self) -> Drawn {
        let key = self.key();
        match self.random.below(12) {
            0 => Words::of("TIME").fixed(Check::Shape),
            1 => Words::of("LASTSAVE").fixed(Check::Shape),
            2 => Words::of(self.random.pick(&[
                "COMMAND GETKEYS",
                "COMMAND GETKEYS PING",
                "COMMAND GETKEYS NOSUCH a",
                "COMMAND GETKEYS GET",
                "COMMAND GETKEYS MSET a 1 b 2",
                "COMMAND GETKEYS MSET a 1 b",
                "COMMAND GETKEYS BITOP AND d a b c",
                "COMMAND GETKEYS SET a 1 EX 10",
                "COMMAND GETKEYS COPY a b",
                "COMMAND GETKEYS LCS a b",
                "COMMAND GETKEYS OBJECT ENCODING a",
                "COMMAND GETKEYS MEMORY USAGE a",
                "COMMAND GETKEYS DEL a b c",
                "COMMAND GETKEYS RENAME a b",
                "COMMAND GETKEYSANDFLAGS SET a 1",
                "COMMAND GETKEYSANDFLAGS GETDEL a",
                "COMMAND GETKEYSANDFLAGS COPY a b",
            ]))
            .fixed(Check::Exact),
            3 => Words::of(self.random.pick(&[
                "COMMAND COUNT",
                "COMMAND LIST",
                "COMMAND DOCS get",
                "COMMAND LIST FILTERBY PATTERN xyz*",
            ]))
            .fixed(Check::Shape),
            4 => {
                Words::of(self.random.pick(&["COMMAND INFO nosuch", "COMMAND DOCS nosuch", "COMMAND NOSUCH"]))
                    .fixed(Check::Exact)
            }
            5 => Words::of(self.random.pick(&[
                "INFO",
                "INFO keyspace",
                "INFO server clients",
                "INFO everything",
            ]))
            .fixed(Check::Shape),
            6 => Words::of(self.random.pick(&["WAIT 0 0", "WAIT 0 10", "WAIT x 0", "WAIT 0 x", "WAIT 0 -1"]))
                .fixed(Check::Exact),
            7 => Words::of(self.random.pick(&[
                "READONLY",
                "READWRITE",
                "CLUSTER INFO",
                "CLUSTER NODES",
                "CLUSTER NOSUCH",
                "MODULE LIST",
                "ACL WHOAMI",
                "FUNCTION LIST",
            ]))
            .fixed(Check::Exact),
            8 => Words::of(self.random.pick(&["SLOWLOG LEN", "SLOWLOG GET 0", "ROLE"])).fixed(Check::Shape),
            9 => Words::of(self.random.pick(&[
                "CONFIG GET databases",
                "CONFIG GET nosuch",
                "CONFIG GET proto-max-bulk-len",
                "CONFIG SET nosuch 1",
                "CONFIG SET timeout abc",
                "CONFIG SET timeout -1",
                "CONFIG SET databases 3",
                "CONFIG SET timeout 0 maxclients",
                "CONFIG SET appendfsync sometimes",
                "CONFIG SET timeout 0 timeout 0",
                "CONFIG GET appendfsync",
                "CONFIG NOSUCH",
            ]))
            .fixed(Check::Exact),
            10 => Words::of(self.random.pick(&[
                "OBJECT",
                "OBJECT NOSUCH k",
                "OBJECT ENCODING",
                "MEMORY",
                "MEMORY USAGE",
                "MEMORY NOSUCH",
            ]))
            .fixed(Check::Exact),
            _ => Words::of("MEMORY USAGE").and(key).and("SAMPLES 5").fixed(Check::Shape),
        }
    }

    fn short_life(&mut self) -> Action {
        self.large = false;
        let key = self.key();
        let value = self.value();
        let words = match self.random.below(4) {
            0 => Words::of("PSETEX").and(key.clone()).number(5).and(value),
            1 => Words::of("SET").and(key.clone()).and(value).and("PX").number(5),
            2 => Words::of("PEXPIRE").and(key.clone()).number(5),
            _ => Words::of("GETEX").and(key.clone()).and("PX").number(5),
        };
        Action::ShortLife { key, command: words.0 }
    }

    fn muted(&mut self) -> Action {
        let (key, value) = (self.key(), self.value());
        let set = Words::of("SET").and(key.clone()).and(value).0;
        let get = Words::of("GET").and(key).0;
        let off = Words::of("CLIENT REPLY OFF").0;
        let on = Words::of("CLIENT REPLY ON").0;
        let skip = Words::of("CLIENT REPLY SKIP").0;
        let bad = Words::of("NOSUCH").0;
        Action::Muted(match self.random.below(3) {
            0 => vec![skip, set, get],
            1 => vec![off, set, bad, get, on],
            _ => vec![off, skip, set, on],
        })
    }
}
