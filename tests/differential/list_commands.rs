//! Commands on lists. Keys of their own, with some strings among them; lists go to and fro over the border between small and large.

use super::{Check, Drawn, Generator, Words};

pub(super) const LIST_KEYS: &[&[u8]] = &[b"l0", b"l1", b"l2", b"l3", b"l4", b"{l}5"];

/// LREM of the smallest number removes from the tail in 7.0 and is refused since 7.2: what follows would differ.
pub(super) fn avoid_what_changed(command: &mut [Vec<u8>]) {
    let smallest = i64::MIN.to_string().into_bytes();
    if command[0].eq_ignore_ascii_case(b"lrem") {
        command.iter_mut().filter(|word| **word == smallest).for_each(|word| *word = b"-1".to_vec());
    }
}

impl Generator {
    fn list_key(&mut self) -> Vec<u8> {
        if self.random.chance(40) { self.key() } else { self.random.pick(LIST_KEYS).to_vec() }
    }

    fn list_element(&mut self) -> Vec<u8> {
        match self.random.below(20) {
            0 => self.value(),
            1 => vec![b'e'; self.random.within(100, 400) as usize],
            2 => Vec::new(),
            3 => self.number_text(),
            4..12 => self.random.below(6).to_string().into_bytes(),
            _ => self.random.below(300).to_string().into_bytes(),
        }
    }

    fn list_index(&mut self) -> i64 {
        match self.random.below(12) {
            0 => 0,
            1 => -1,
            2 => self.random.pick(&[i64::MAX, i64::MIN, i64::MIN + 1, 1 << 40]),
            3..6 => self.random.within(-150, 150),
            _ => self.random.within(-8, 8),
        }
    }

    fn list_end(&mut self) -> &'static str {
        self.random.pick(&["LEFT", "RIGHT", "left", "Right"])
    }

    pub(super) fn list_command(&mut self) -> Drawn {
        let key = self.list_key();
        let end = self.random.pick(&["L", "R"]);
        match self.random.below(41) {
            0..11 => {
                let count = match self.random.below(20) {
                    0 => self.random.within(60, 180),
                    1..5 => self.random.within(2, 12),
                    _ => 1,
                };
                let name = if self.random.chance(150) { "PUSHX" } else { "PUSH" };
                let words = Words::of(&format!("{end}{name}")).and(key);
                (0..count).fold(words, |words, _| words.and(self.list_element())).exact()
            }
            11..15 => {
                let words = Words::of(&format!("{end}POP")).and(key);
                match self.random.below(4) {
                    0 => {
                        let count = self.random.pick(&[0, 1, 2, 3, 10, 100, -1, i64::MAX, i64::MIN]);
                        words.number(count).exact()
                    }
                    _ => words.exact(),
                }
            }
            15 | 16 => Words::of("LLEN").and(key).exact(),
            17..20 => Words::of("LINDEX").and(key).number(self.list_index()).exact(),
            20..23 => {
                let words = Words::of("LRANGE").and(key).number(self.list_index());
                words.number(self.list_index()).exact()
            }
            23 => {
                let element = self.list_element();
                Words::of("LSET").and(key).number(self.list_index()).and(element).exact()
            }
            24..28 => {
                let side = self.random.pick(&["BEFORE", "AFTER", "before", "After"]);
                let (pivot, element) = (self.list_element(), self.list_element());
                Words::of("LINSERT").and(key).and(side).and(pivot).and(element).exact()
            }
            28 | 29 => {
                let count = self.random.pick(&[0, 0, 1, -1, 2, -2, 5, i64::MIN, i64::MIN + 1, i64::MAX]);
                Words::of("LREM").and(key).number(count).and(self.list_element()).exact()
            }
            30 => {
                let words = Words::of("LTRIM").and(key);
                match self.random.chance(600) {
                    true => words.number(self.random.within(0, 2)).number(self.random.within(-3, -1)).exact(),
                    false => words.number(self.list_index()).number(self.list_index()).exact(),
                }
            }
            31..34 => {
                let mut words = Words::of("LPOS").and(key).and(self.list_element());
                if self.random.chance(400) {
                    let rank = self.random.pick(&[0, 1, 2, -1, -2, 10, i64::MIN, i64::MAX]);
                    words = words.and("RANK").number(rank);
                }
                if self.random.chance(400) {
                    words = words.and("COUNT").number(self.random.pick(&[0, 1, 2, 5, -1]));
                }
                if self.random.chance(300) {
                    words = words.and("MAXLEN").number(self.random.pick(&[0, 1, 2, 20, -1]));
                }
                words.exact()
            }
            34 | 35 => {
                let (other, from, to) = (self.list_key(), self.list_end(), self.list_end());
                Words::of("LMOVE").and(key).and(other).and(from).and(to).exact()
            }
            36 => Words::of("RPOPLPUSH").and(key).and(self.list_key()).exact(),
            37 | 38 => {
                let count = self.random.within(1, 3);
                let announced = if self.random.chance(50) { self.random.within(-1, 4) } else { count };
                let words = Words::of("LMPOP").number(announced);
                let words = (0..count).fold(words, |words, _| words.and(self.list_key()));
                let words = words.and(self.list_end());
                match self.random.chance(500) {
                    true => words.and("COUNT").number(self.random.pick(&[0, 1, 2, 10, -1])).exact(),
                    false => words.exact(),
                }
            }
            39 => self.blocking_list_command(key),
            _ => match self.random.below(3) {
                0 => Words::of("OBJECT ENCODING").and(key).exact(),
                1 => Words::of("DEBUG DIGEST-VALUE").and(key).exact(),
                _ => Words::of("MEMORY USAGE").and(key).checked(Check::Shape),
            },
        }
    }

    /// Those that wait, but not for long. Never made hostile: a timeout of zero would be for ever.
    fn blocking_list_command(&mut self, key: Vec<u8>) -> Drawn {
        const TIMEOUTS: &[&str] = &[
            "0.001", "0.0011", "1e-3", "0x1p-10", "-1", "-0.5", "abc", "inf", "-inf", "nan", "1e30", "", " 1",
        ];
        let timeout = self.random.pick(TIMEOUTS);
        let (other, end) = (self.list_key(), self.list_end());
        let words = match self.random.below(5) {
            0 => Words::of("BLPOP").and(key).and(other).and(timeout),
            1 => Words::of("BRPOP").and(key).and(timeout),
            2 => Words::of("BLMOVE").and(key).and(other).and(end).and(self.list_end()).and(timeout),
            3 => Words::of("BRPOPLPUSH").and(key).and(other).and(timeout),
            _ => {
                let words = Words::of("BLMPOP").and(timeout).number(2).and(key).and(other).and(end);
                words.and("COUNT").number(self.random.within(0, 5))
            }
        };
        words.fixed(Check::Exact)
    }
}
