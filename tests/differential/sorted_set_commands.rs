//! Commands on sorted sets and on places on the earth. Keys of their own, with strings and sets among them; members and scores are
//! few, so that most commands meet what is there.
//!
//! Not drawn: ZRANK .. WITHSCORE (7.0 has it not); -0 as a score (a small set of Redis forgets the sign, a large one keeps it);
//! unsorted searches with COUNT .. ANY, whose answer is anybody's choice; ranges by member where scores differ, whose answer
//! Redis leaves open: these go to keys in which all scores are 0.

use super::{Check, Drawn, Generator, SET_KEYS, Words};

pub(super) const SORTED_SET_KEYS: &[&[u8]] = &[b"z0", b"z1", b"z2", b"z3", b"z4", b"{z}5", b"z6"];
/// Sets in which all scores are 0.
pub(super) const LEVEL_KEYS: &[&[u8]] = &[b"lex0", b"lex1", b"lex2"];
pub(super) const GEO_KEYS: &[&[u8]] = &[b"geo0", b"geo1", b"geo2"];

const SCORES: &[&str] = &[
    "0",
    "1",
    "2",
    "3",
    "3",
    "10",
    "-1",
    "-7.5",
    "0.1",
    "1.5",
    "1e3",
    "-1e-3",
    "inf",
    "-inf",
    "+inf",
    "3.14159265358979",
    "1e17",
    "123456789.123456789",
    "5e-324",
    "1e308",
    "0x10",
    "9007199254740993",
];

impl Generator {
    fn sorted_set_key(&mut self) -> Vec<u8> {
        match self.random.below(25) {
            0 => self.key(),
            1 => self.random.pick(GEO_KEYS).to_vec(),
            _ => self.random.pick(SORTED_SET_KEYS).to_vec(),
        }
    }

    fn score(&mut self) -> Vec<u8> {
        match self.random.below(3) {
            0 => self.random.within(-200, 200).to_string().into_bytes(),
            _ => self.random.pick(SCORES).as_bytes().to_vec(),
        }
    }

    fn sorted_set_member(&mut self) -> Vec<u8> {
        match self.random.below(30) {
            0 => vec![b'm'; self.random.within(60, 300) as usize],
            1 => Vec::new(),
            2 => self.number_text(),
            3 => b"\xff\x00bin".to_vec(),
            4..18 => format!("m{}", self.random.below(8)).into_bytes(),
            _ => format!("m{}", self.random.below(300)).into_bytes(),
        }
    }

    fn score_end(&mut self) -> Vec<u8> {
        let score = self.score();
        match self.random.below(4) {
            0 => [b"(".as_slice(), &score].concat(),
            1 => self.random.pick(&[b"-inf".as_slice(), b"+inf", b"(inf", b""]).to_vec(),
            _ => score,
        }
    }

    fn member_end(&mut self) -> Vec<u8> {
        let member = self.sorted_set_member();
        match self.random.below(8) {
            0 | 1 => b"-".to_vec(),
            2 | 3 => b"+".to_vec(),
            4 => [b"(".as_slice(), &member].concat(),
            5 if self.random.chance(100) => member,
            _ => [b"[".as_slice(), &member].concat(),
        }
    }

    fn rank(&mut self) -> i64 {
        match self.random.below(12) {
            0..3 => 0,
            3..6 => -1,
            6 => self.random.pick(&[i64::MAX, i64::MIN, i64::MIN + 1, 1 << 40]),
            7 => self.random.within(-300, 300),
            _ => self.random.within(-6, 6),
        }
    }

    fn limit(&mut self, words: Words) -> Words {
        if !self.random.chance(350) {
            return words;
        }
        let (offset, count) = (self.random.within(-1, 6), self.random.within(-2, 8));
        words.and("LIMIT").number(offset).number(count)
    }

    fn with_scores(&mut self, words: Words) -> Drawn {
        let words = if self.random.chance(400) { words.and("WITHSCORES") } else { words };
        words.checked(Check::Numbers)
    }

    pub(super) fn sorted_set_command(&mut self) -> Drawn {
        let key = self.sorted_set_key();
        match self.random.below(68) {
            60.. => self.level_command(),
            0..14 => self.zadd(key),
            14..17 => {
                let (by, member) = (self.score(), self.sorted_set_member());
                Words::of("ZINCRBY").and(key).and(by).and(member).checked(Check::Numbers)
            }
            17..20 => {
                let count = 1 + self.random.below(4);
                let words = Words::of("ZREM").and(key);
                (0..count).fold(words, |words, _| words.and(self.sorted_set_member())).exact()
            }
            20 => Words::of("ZCARD").and(key).exact(),
            21..23 => {
                let member = self.sorted_set_member();
                Words::of("ZSCORE").and(key).and(member).checked(Check::Numbers)
            }
            23 => {
                let words = Words::of("ZMSCORE").and(key);
                (0..3).fold(words, |words, _| words.and(self.sorted_set_member())).checked(Check::Numbers)
            }
            24..26 => {
                let member = self.sorted_set_member();
                Words::of(self.random.pick(&["ZRANK", "ZREVRANK"])).and(key).and(member).exact()
            }
            26..32 => self.zrange(key),
            32..38 => self.zrange_of_old(key),
            38 => {
                let (min, max) = (self.score_end(), self.score_end());
                Words::of("ZCOUNT").and(key).and(min).and(max).exact()
            }
            39..43 => self.zremrange(key),
            43..46 => {
                let words = Words::of(self.random.pick(&["ZPOPMIN", "ZPOPMAX"])).and(key);
                let words = if self.random.chance(400) {
                    let count = self.random.within(-1, 5);
                    words.number(count)
                } else {
                    words
                };
                words.checked(Check::Numbers)
            }
            46 => {
                let count = 1 + self.random.below(3);
                let words = (0..count).fold(Words::of("ZMPOP").number(count as i64), |words, _| {
                    let key = self.sorted_set_key();
                    words.and(key)
                });
                let words = words.and(self.random.pick(&["MIN", "MAX"]));
                let words = if self.random.chance(400) {
                    let count = self.random.within(0, 4);
                    words.and("COUNT").number(count)
                } else {
                    words
                };
                words.checked(Check::Numbers)
            }
            47..53 => self.zset_algebra(key),
            53 => {
                let words = Words::of("ZRANDMEMBER").and(key);
                let words = match self.random.below(3) {
                    0 => words,
                    1 => {
                        let count = self.random.within(-20, 20);
                        words.number(count)
                    }
                    _ => {
                        let count = self.random.within(-20, 20);
                        words.number(count).and("WITHSCORES")
                    }
                };
                words.checked(Check::Size)
            }
            54..56 => {
                let words = Words::of("ZSCAN").and(key).and("0").and("COUNT").and("100000");
                let words = if self.random.chance(300) { words.and("MATCH").and("m1*") } else { words };
                words.checked(Check::ScannedPairs)
            }
            56 => {
                let member = self.sorted_set_member();
                let other = self.sorted_set_member();
                Words::of("SADD").and(key).and(member).and(other).exact()
            }
            57 => Words::of("DEL").and(key).exact(),
            58 => Words::of("OBJECT ENCODING").and(key).exact(),
            _ => {
                let other = self.sorted_set_key();
                Words::of(self.random.pick(&["RENAME", "COPY"])).and(key).and(other).exact()
            }
        }
    }

    fn zadd(&mut self, key: Vec<u8>) -> Drawn {
        let mut words = Words::of("ZADD").and(key);
        let mut increments = false;
        for option in ["NX", "XX", "GT", "LT", "CH", "INCR"] {
            if self.random.chance(70) {
                words = words.and(option);
                increments |= option == "INCR";
            }
        }
        let count = match self.random.below(20) {
            _ if increments => 1,
            0 => self.random.within(60, 200),
            1..5 => self.random.within(2, 8),
            _ => 1,
        };
        for _ in 0..count {
            words = words.and(self.score()).and(self.sorted_set_member());
        }
        words.checked(Check::Numbers)
    }

    fn zrange(&mut self, key: Vec<u8>) -> Drawn {
        let stores = self.random.chance(200);
        let words = if stores {
            let to = self.sorted_set_key();
            Words::of("ZRANGESTORE").and(to).and(key)
        } else {
            Words::of("ZRANGE").and(key)
        };
        let words = if self.random.chance(500) {
            let (from, to) = (self.rank(), self.rank());
            words.number(from).number(to)
        } else {
            let (from, to) = (self.score_end(), self.score_end());
            let words = words.and(from).and(to).and("BYSCORE");
            self.limit(words)
        };
        let words = if self.random.chance(400) { words.and("REV") } else { words };
        self.with_scores(words)
    }

    fn zrange_of_old(&mut self, key: Vec<u8>) -> Drawn {
        let words = if self.random.chance(400) {
            let (from, to) = (self.rank(), self.rank());
            Words::of("ZREVRANGE").and(key).number(from).number(to)
        } else {
            let name = self.random.pick(&["ZRANGEBYSCORE", "ZREVRANGEBYSCORE"]);
            let (from, to) = (self.score_end(), self.score_end());
            let words = Words::of(name).and(key).and(from).and(to);
            self.limit(words)
        };
        self.with_scores(words)
    }

    fn zremrange(&mut self, key: Vec<u8>) -> Drawn {
        if self.random.chance(500) {
            let (from, to) = (self.rank(), self.rank());
            return Words::of("ZREMRANGEBYRANK").and(key).number(from).number(to).exact();
        }
        let (from, to) = (self.score_end(), self.score_end());
        Words::of("ZREMRANGEBYSCORE").and(key).and(from).and(to).exact()
    }

    /// What is for sets in which all scores are equal. Adding is never made hostile, so that they stay so.
    fn level_command(&mut self) -> Drawn {
        let key = self.random.pick(LEVEL_KEYS).to_vec();
        let (from, to) = (self.member_end(), self.member_end());
        match self.random.below(12) {
            0..4 => {
                let count = if self.random.chance(100) { self.random.within(60, 200) } else { 3 };
                let words = Words::of("ZADD").and(key);
                (0..count)
                    .fold(words, |words, _| words.and("0").and(self.sorted_set_member()))
                    .fixed(Check::Exact)
            }
            4 => Words::of("ZLEXCOUNT").and(key).and(from).and(to).exact(),
            5 => Words::of("ZREMRANGEBYLEX").and(key).and(from).and(to).exact(),
            6 => {
                let words = Words::of("ZRANGE").and(key).and(from).and(to).and("BYLEX");
                let words = self.limit(words);
                let words = if self.random.chance(400) { words.and("REV") } else { words };
                self.with_scores(words)
            }
            7 => {
                let words = Words::of("ZRANGESTORE z0").and(key).and(from).and(to).and("BYLEX");
                self.limit(words).exact()
            }
            8 => Words::of("ZREM").and(key).and(self.sorted_set_member()).exact(),
            _ => {
                let name = self.random.pick(&["ZRANGEBYLEX", "ZREVRANGEBYLEX"]);
                let words = Words::of(name).and(key).and(from).and(to);
                self.limit(words).exact()
            }
        }
    }

    fn zset_algebra(&mut self, key: Vec<u8>) -> Drawn {
        let name = self.random.pick(&[
            "ZUNION",
            "ZINTER",
            "ZDIFF",
            "ZUNIONSTORE",
            "ZINTERSTORE",
            "ZDIFFSTORE",
            "ZINTERCARD",
        ]);
        let mut words = Words::of(name);
        let stores = name.ends_with("STORE");
        if stores {
            words = words.and(key);
        }
        let count = 1 + self.random.below(3);
        words = words.number(count as i64);
        for _ in 0..count {
            let key = if self.random.chance(200) {
                self.random.pick(SET_KEYS).to_vec()
            } else {
                self.sorted_set_key()
            };
            words = words.and(key);
        }
        let combines = name.starts_with("ZUNION") || name.starts_with("ZINTER") && name != "ZINTERCARD";
        if combines && self.random.chance(300) {
            words = words.and("WEIGHTS");
            for _ in 0..count {
                words = words.and(self.score());
            }
        }
        if combines && self.random.chance(300) {
            words = words.and("AGGREGATE").and(self.random.pick(&["SUM", "MIN", "MAX", "min"]));
        }
        if name == "ZINTERCARD" && self.random.chance(300) {
            let limit = self.random.within(0, 4);
            words = words.and("LIMIT").number(limit);
        }
        if stores || name == "ZINTERCARD" { words.exact() } else { self.with_scores(words) }
    }

    fn geo_key(&mut self) -> Vec<u8> {
        match self.random.below(15) {
            0 => self.sorted_set_key(),
            _ => self.random.pick(GEO_KEYS).to_vec(),
        }
    }

    fn place(&mut self) -> (Vec<u8>, Vec<u8>) {
        let text = |value: i64| format!("{}.{:04}", value / 10_000, (value % 10_000).abs()).into_bytes();
        match self.random.below(12) {
            // Sicily, for distances that matter.
            0..8 => (text(self.random.within(125_000, 155_000)), text(self.random.within(366_000, 383_000))),
            8..11 => {
                (text(self.random.within(-1_800_000, 1_800_000)), text(self.random.within(-850_000, 850_000)))
            }
            _ => (self.score(), self.score()),
        }
    }

    fn distance(&mut self, words: Words) -> Words {
        let amount = self.random.pick(&["0", "1", "10", "100.5", "200", "3000", "20000", "-1"]);
        let unit = self.random.pick(&["m", "km", "km", "KM", "ft", "mi"]);
        words.and(amount).and(unit)
    }

    fn geo_options(&mut self, mut words: Words, replies: bool) -> Words {
        for option in ["WITHCOORD", "WITHDIST", "WITHHASH"] {
            if replies && self.random.chance(250) {
                words = words.and(option);
            }
        }
        if self.random.chance(500) {
            words = words.and(self.random.pick(&["ASC", "DESC", "asc"]));
        }
        if self.random.chance(300) {
            let count = self.random.within(0, 5);
            words = words.and("COUNT").number(count);
        }
        words
    }

    pub(super) fn geo_command(&mut self) -> Drawn {
        let key = self.geo_key();
        match self.random.below(20) {
            0..6 => {
                let mut words = Words::of("GEOADD").and(key);
                for option in ["NX", "XX", "CH"] {
                    if self.random.chance(80) {
                        words = words.and(option);
                    }
                }
                for _ in 0..=self.random.below(3) {
                    let (longitude, latitude) = self.place();
                    let member = format!("m{}", self.random.below(40));
                    words = words.and(longitude).and(latitude).and(member);
                }
                words.exact()
            }
            6 | 7 => {
                let words = Words::of("GEODIST").and(key);
                let words = (0..2).fold(words, |words, _| words.and(format!("m{}", self.random.below(40))));
                let unit = self.random.pick(&["m", "km", "ft", "mi", "x"]);
                if self.random.chance(500) { words.and(unit).exact() } else { words.exact() }
            }
            8 | 9 => {
                let words = Words::of(self.random.pick(&["GEOPOS", "GEOHASH"])).and(key);
                let count = self.random.below(4);
                (0..count).fold(words, |words, _| words.and(format!("m{}", self.random.below(40)))).exact()
            }
            10..12 => {
                let (longitude, latitude) = self.place();
                let name = self.random.pick(&["GEORADIUS", "GEORADIUS_RO"]);
                let words = Words::of(name).and(key).and(longitude).and(latitude);
                let words = self.distance(words);
                self.georadius_tail(words, name)
            }
            12..14 => {
                let name = self.random.pick(&["GEORADIUSBYMEMBER", "GEORADIUSBYMEMBER_RO"]);
                let words = Words::of(name).and(key).and(format!("m{}", self.random.below(40)));
                let words = self.distance(words);
                self.georadius_tail(words, name)
            }
            _ => {
                let stores = self.random.chance(250);
                let words = if stores {
                    let to = self.geo_key();
                    Words::of("GEOSEARCHSTORE").and(to).and(key)
                } else {
                    Words::of("GEOSEARCH").and(key)
                };
                let words = if self.random.chance(500) {
                    words.and("FROMMEMBER").and(format!("m{}", self.random.below(40)))
                } else {
                    let (longitude, latitude) = self.place();
                    words.and("FROMLONLAT").and(longitude).and(latitude)
                };
                let words = if self.random.chance(500) {
                    self.distance(words.and("BYRADIUS"))
                } else {
                    let width = self.random.pick(&["0", "50", "400", "5000"]);
                    self.distance(words.and("BYBOX").and(width))
                };
                let words = self.geo_options(words, !stores);
                let words = if stores && self.random.chance(300) { words.and("STOREDIST") } else { words };
                words.checked(Check::Numbers)
            }
        }
    }

    fn georadius_tail(&mut self, words: Words, name: &str) -> Drawn {
        if name.ends_with("_RO") || self.random.chance(700) {
            return self.geo_options(words, true).checked(Check::Numbers);
        }
        let to = self.geo_key();
        let words = self.geo_options(words, false);
        words.and(self.random.pick(&["STORE", "STOREDIST"])).and(to).exact()
    }
}
