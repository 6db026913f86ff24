//! HyperLogLogs as bytes: Redis's representation of 16,384 registers, its hash and its estimator, so that counts and
//! strings equal Redis's.
//!
//! ```text
//! header    "HYLL" | encoding u8 | 3 zero bytes | cardinality u64 LE            16 bytes; the top bit of the last one: the
//!                                                                              cardinality is not known
//! dense (0)   16,384 registers of 6 bits, low bits first                        12,288 bytes
//! sparse (1)  opcodes whose lengths add up to 16,384
//!             00llllll                       ZERO    l + 1 registers are 0
//!             01llllll llllllll              XZERO   l + 1 registers are 0
//!             1vvvvvll                       VAL     l + 1 registers are v + 1
//! ```
//!
//! A sparse value becomes dense when a register exceeds 32 or the string would outgrow a limit, and never goes back.
//! The bytes are a user's string (SETRANGE may have been at work), so every walk over them is checked.

use haypile_lsm::base::rng::Rng;

/// How many registers.
pub const REGISTERS: usize = 1 << INDEX_BITS;
const INDEX_BITS: u32 = 14;
/// Bits of a hash behind the index.
const RUN_BITS: u32 = 64 - INDEX_BITS;
const HEADER_BYTES: usize = 16;
const DENSE_BYTES: usize = HEADER_BYTES + REGISTERS * 6 / 8;
const MAGIC: &[u8] = b"HYLL";
const DENSE: u8 = 0;
const SPARSE: u8 = 1;
const ENCODING_AT: usize = 4;
const CARD_AT: usize = 8;
const UNKNOWN: u8 = 0x80;

const ZERO_LEN_MAX: usize = 64;
const XZERO_LEN_MAX: usize = REGISTERS;
const VALUE_LEN_MAX: usize = 4;
const VALUE_MAX: u8 = 32;

/// A sparse value whose opcodes do not add up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Damaged;

/// All registers, a byte each.
pub type Registers = [u8; REGISTERS];

/// A hash of 64 bits, as good at the low end as at the high one (MurmurHash64A).
fn hash(bytes: &[u8]) -> u64 {
    const SEED: u64 = 0xadc8_3b19;
    const FACTOR: u64 = 0xc6a4_a793_5bd1_e995;
    const SHIFT: u32 = 47;
    let mut hash = SEED ^ (bytes.len() as u64).wrapping_mul(FACTOR);
    let (words, tail) = bytes.as_chunks::<8>();
    for word in words {
        let mut mixed = u64::from_le_bytes(*word).wrapping_mul(FACTOR);
        mixed ^= mixed >> SHIFT;
        hash = (hash ^ mixed.wrapping_mul(FACTOR)).wrapping_mul(FACTOR);
    }
    if !tail.is_empty() {
        let mut last = [0; 8];
        last[..tail.len()].copy_from_slice(tail);
        hash = (hash ^ u64::from_le_bytes(last)).wrapping_mul(FACTOR);
    }
    hash = (hash ^ (hash >> SHIFT)).wrapping_mul(FACTOR);
    hash ^ (hash >> SHIFT)
}

/// Which register an element raises, and to what: one more than the zeros its hash has behind the index.
pub fn place(element: &[u8]) -> (usize, u8) {
    let hash = hash(element);
    let run = (hash >> INDEX_BITS) | 1 << RUN_BITS;
    (hash as usize & (REGISTERS - 1), run.trailing_zeros() as u8 + 1)
}

/// Whether a string may be a HyperLogLog at all.
pub fn is_one(bytes: &[u8]) -> bool {
    bytes.len() >= HEADER_BYTES
        && bytes.starts_with(MAGIC)
        && match bytes[ENCODING_AT] {
            DENSE => bytes.len() == DENSE_BYTES,
            SPARSE => true,
            _ => false,
        }
}

/// Whether a string that [`is_one`] is dense.
pub fn is_dense(bytes: &[u8]) -> bool {
    bytes.get(ENCODING_AT) == Some(&DENSE)
}

/// The cardinality that was written into the header since the last change.
pub fn cached_count(bytes: &[u8]) -> Option<u64> {
    let card = bytes.get(CARD_AT..)?.first_chunk::<8>()?;
    (card[7] & UNKNOWN == 0).then(|| u64::from_le_bytes(*card))
}

/// One opcode of a sparse value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Run {
    /// What the registers are.
    value: u8,
    /// How many.
    len: usize,
    /// How many bytes the opcode has.
    bytes: usize,
}

impl Run {
    fn read(bytes: &[u8]) -> Option<Run> {
        let first = *bytes.first()?;
        Some(match first >> 6 {
            0 => Run { value: 0, len: usize::from(first) + 1, bytes: 1 },
            1 => {
                let second = *bytes.get(1)?;
                Run { value: 0, len: (usize::from(first & 0x3f) << 8 | usize::from(second)) + 1, bytes: 2 }
            }
            _ => Run { value: (first >> 2 & 0x1f) + 1, len: usize::from(first & 3) + 1, bytes: 1 },
        })
    }
}

/// Appends zeros in one opcode.
fn put_zeros(out: &mut Opcodes, len: usize) {
    if len > ZERO_LEN_MAX {
        let len = len.min(XZERO_LEN_MAX) - 1;
        out.push(0x40 | (len >> 8) as u8);
        out.push(len as u8);
    } else if len > 0 {
        out.push(len as u8 - 1);
    }
}

/// Appends up to four equal registers in one opcode.
fn put_value(out: &mut Opcodes, value: u8, len: usize) {
    if len > 0 {
        out.push(value_opcode(value, len));
    }
}

fn value_opcode(value: u8, len: usize) -> u8 {
    0x80 | (value - 1) << 2 | (len - 1) as u8
}

/// What one opcode is split into at most: zeros, a value, zeros.
#[derive(Default)]
struct Opcodes {
    bytes: [u8; 5],
    len: usize,
}

impl Opcodes {
    fn push(&mut self, byte: u8) {
        self.bytes[self.len] = byte;
        self.len += 1;
    }

    fn as_bytes(&self) -> &[u8] {
        &self.bytes[..self.len]
    }
}

/// Calls `f` with first register, length and value of each run of a sparse value.
fn for_each_run(bytes: &[u8], mut f: impl FnMut(usize, Run)) -> Result<(), Damaged> {
    let mut rest = bytes.get(HEADER_BYTES..).ok_or(Damaged)?;
    let mut index = 0;
    while !rest.is_empty() {
        let run = Run::read(rest).ok_or(Damaged)?;
        if index + run.len > REGISTERS {
            return Err(Damaged);
        }
        f(index, run);
        index += run.len;
        rest = &rest[run.bytes..];
    }
    if index == REGISTERS { Ok(()) } else { Err(Damaged) }
}

/// Calls `f` with each four registers of a dense value.
fn for_each_four(bytes: &[u8], mut f: impl FnMut(usize, [u8; 4])) {
    let (threes, _) = bytes.get(HEADER_BYTES..).unwrap_or_default().as_chunks::<3>();
    for (at, [a, b, c]) in threes.iter().enumerate() {
        f(at * 4, [a & 63, (a >> 6 | b << 2) & 63, (b >> 4 | c << 4) & 63, c >> 2]);
    }
}

/// Raises `registers` to those of a value that [`is_one`].
pub fn merge(bytes: &[u8], registers: &mut Registers) -> Result<(), Damaged> {
    let mut raise = |at: usize, value: u8| registers[at] = registers[at].max(value);
    if is_dense(bytes) {
        for_each_four(bytes, |at, four| {
            four.iter().enumerate().for_each(|(next, value)| raise(at + next, *value))
        });
        return Ok(());
    }
    for_each_run(bytes, |at, run| {
        if run.value > 0 {
            (at..at + run.len).for_each(|at| raise(at, run.value));
        }
    })
}

/// How many registers have each value.
type Histogram = [u32; 64];

/// The estimated cardinality of a value that [`is_one`].
pub fn count(bytes: &[u8]) -> Result<u64, Damaged> {
    let mut histogram: Histogram = [0; 64];
    if is_dense(bytes) {
        for_each_four(bytes, |_, four| four.iter().for_each(|value| histogram[usize::from(*value)] += 1));
    } else {
        for_each_run(bytes, |_, run| histogram[usize::from(run.value)] += run.len as u32)?;
    }
    Ok(estimate(&histogram))
}

/// The estimated cardinality of a union.
pub fn count_registers(registers: &Registers) -> u64 {
    let mut histogram: Histogram = [0; 64];
    registers.iter().for_each(|value| histogram[usize::from(value & 63)] += 1);
    estimate(&histogram)
}

/// What Redis makes of registers that are all full, which no elements fill.
const FULL: u64 = 1 << 63;

/// Ertl's improved raw estimator ("New cardinality estimation algorithms for HyperLogLog sketches", 2017, algorithm 6).
fn estimate(histogram: &Histogram) -> u64 {
    const ALPHA: f64 = 0.721_347_520_444_481_7;
    let registers = REGISTERS as f64;
    let top = RUN_BITS as usize + 1;
    let mut z = registers * tau((registers - f64::from(histogram[top])) / registers);
    for value in (1..top).rev() {
        z = (z + f64::from(histogram[value])) * 0.5;
    }
    z += registers * sigma(f64::from(histogram[0]) / registers);
    let estimate = ALPHA * registers * registers / z;
    if estimate.is_finite() { estimate.round() as u64 } else { FULL }
}

fn sigma(mut x: f64) -> f64 {
    if x == 1.0 {
        return f64::INFINITY;
    }
    let (mut y, mut z) = (1.0, x);
    loop {
        x *= x;
        let before = z;
        z += x * y;
        y += y;
        if z == before {
            return z;
        }
    }
}

fn tau(mut x: f64) -> f64 {
    if x == 0.0 || x == 1.0 {
        return 0.0;
    }
    let (mut y, mut z) = (1.0, 1.0 - x);
    loop {
        x = x.sqrt();
        let before = z;
        y *= 0.5;
        z -= (1.0 - x) * (1.0 - x) * y;
        if z == before {
            return z / 3.0;
        }
    }
}

/// A HyperLogLog to be changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hll {
    bytes: Vec<u8>,
}

impl Default for Hll {
    fn default() -> Self {
        Hll::new(Vec::new())
    }
}

impl Hll {
    /// An empty one, sparse, in a buffer whose content does not matter.
    pub fn new(mut buffer: Vec<u8>) -> Hll {
        buffer.clear();
        buffer.extend_from_slice(MAGIC);
        buffer.push(SPARSE);
        buffer.resize(HEADER_BYTES, 0);
        let mut zeros = Opcodes::default();
        put_zeros(&mut zeros, REGISTERS);
        buffer.extend_from_slice(zeros.as_bytes());
        Hll { bytes: buffer }
    }

    /// Takes a string. `None` if it is no HyperLogLog; one that is, may turn out damaged later.
    pub fn from_bytes(bytes: Vec<u8>) -> Option<Hll> {
        is_one(&bytes).then_some(Hll { bytes })
    }

    /// The string.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The string.
    pub fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }

    /// Notes a cardinality that was just computed.
    pub fn cache_count(&mut self, count: u64) {
        self.bytes[CARD_AT..CARD_AT + 8].copy_from_slice(&count.to_le_bytes());
    }

    /// The cardinality is not known any more.
    pub fn forget_count(&mut self) {
        self.bytes[CARD_AT + 7] |= UNKNOWN;
    }

    /// Adds an element; whether a register changed. Does not forget the cardinality.
    pub fn add(&mut self, element: &[u8], sparse_bytes_max: usize) -> Result<bool, Damaged> {
        let (index, value) = place(element);
        self.raise(index, value, sparse_bytes_max)
    }

    /// Raises a register; whether it was lower. A sparse string that would grow beyond `sparse_bytes_max` becomes dense.
    pub fn raise(&mut self, index: usize, value: u8, sparse_bytes_max: usize) -> Result<bool, Damaged> {
        match is_dense(&self.bytes) {
            true => Ok(self.raise_dense(index, value)),
            false => self.raise_sparse(index, value, sparse_bytes_max),
        }
    }

    fn raise_dense(&mut self, index: usize, value: u8) -> bool {
        let (at, shift) = (HEADER_BYTES + index * 6 / 8, index * 6 % 8);
        let low = u16::from(self.bytes[at]);
        let high = u16::from(self.bytes.get(at + 1).copied().unwrap_or(0));
        let pair = high << 8 | low;
        let old = (pair >> shift) as u8 & 63;
        if value <= old {
            return false;
        }
        let pair = pair & !(63 << shift) | u16::from(value & 63) << shift;
        self.bytes[at] = pair as u8;
        if let Some(high) = self.bytes.get_mut(at + 1) {
            *high = (pair >> 8) as u8;
        }
        true
    }

    fn raise_sparse(&mut self, index: usize, value: u8, sparse_bytes_max: usize) -> Result<bool, Damaged> {
        if value > VALUE_MAX {
            return self.raise_as_dense(index, value);
        }
        // The run that covers the register.
        let (mut at, mut first, mut before) = (HEADER_BYTES, 0, None);
        let run = loop {
            let run = Run::read(self.bytes.get(at..).unwrap_or_default()).ok_or(Damaged)?;
            if index < first + run.len {
                break run;
            }
            before = Some(at);
            at += run.bytes;
            first += run.len;
        };
        if run.value >= value {
            return Ok(false);
        }
        let (front, behind) = (index - first, first + run.len - index - 1);
        let mut opcodes = Opcodes::default();
        let put = |opcodes: &mut Opcodes, len| match run.value {
            0 => put_zeros(opcodes, len),
            old => put_value(opcodes, old, len),
        };
        put(&mut opcodes, front);
        put_value(&mut opcodes, value, 1);
        put(&mut opcodes, behind);
        let grows = opcodes.len > run.bytes;
        if grows && self.bytes.len() + opcodes.len - run.bytes > sparse_bytes_max {
            return self.raise_as_dense(index, value);
        }
        self.bytes.splice(at..at + run.bytes, opcodes.as_bytes().iter().copied());
        self.join_equal_runs(before.unwrap_or(HEADER_BYTES));
        self.forget_count();
        Ok(true)
    }

    fn raise_as_dense(&mut self, index: usize, value: u8) -> Result<bool, Damaged> {
        self.make_dense()?;
        Ok(self.raise_dense(index, value))
    }

    /// Joins neighbouring runs of one value, as far as an opcode holds them, within five opcodes from `at` on.
    fn join_equal_runs(&mut self, mut at: usize) {
        for _ in 0..5 {
            let Some(run) = Run::read(self.bytes.get(at..).unwrap_or_default()) else { return };
            let next = Run::read(self.bytes.get(at + run.bytes..).unwrap_or_default());
            match next {
                Some(next)
                    if run.value > 0 && next.value == run.value && run.len + next.len <= VALUE_LEN_MAX =>
                {
                    // It stays here: what was joined may join the one behind it.
                    self.bytes[at + 1] = value_opcode(run.value, run.len + next.len);
                    self.bytes.remove(at);
                }
                _ => at += run.bytes,
            }
        }
    }

    /// Makes it dense; whether it was sparse.
    pub fn make_dense(&mut self) -> Result<bool, Damaged> {
        if is_dense(&self.bytes) {
            return Ok(false);
        }
        let mut dense = Hll { bytes: Vec::with_capacity(DENSE_BYTES) };
        dense.bytes.extend_from_slice(&self.bytes[..HEADER_BYTES]);
        dense.bytes[ENCODING_AT] = DENSE;
        dense.bytes.resize(DENSE_BYTES, 0);
        for_each_run(&self.bytes, |at, run| {
            if run.value > 0 {
                (at..at + run.len).for_each(|index| {
                    dense.raise_dense(index, run.value);
                });
            }
        })?;
        *self = dense;
        Ok(true)
    }

    /// The opcodes of a sparse value as text; `None` if it is dense.
    pub fn opcodes_text(&self) -> Option<String> {
        if is_dense(&self.bytes) {
            return None;
        }
        let (mut words, mut at) = (Vec::new(), HEADER_BYTES);
        while let Some(run) = Run::read(self.bytes.get(at..).unwrap_or_default()) {
            words.push(match (run.value, run.bytes) {
                (0, 1) => format!("z:{}", run.len),
                (0, _) => format!("Z:{}", run.len),
                (value, _) => format!("v:{value},{}", run.len),
            });
            at += run.bytes;
        }
        Some(words.join(" "))
    }
}

/// PFSELFTEST: registers hold what is put into them, sparse and dense agree, and estimates are as near as they should be.
/// What is wrong, if anything.
pub fn self_test(seed: u64) -> Result<(), String> {
    let damaged = |_| "TESTFAILED a fresh value is damaged".to_owned();
    let mut rng = Rng::new(seed);
    for round in 0..100 {
        let mut dense = Hll::default();
        dense.make_dense().map_err(damaged)?;
        let mut registers: Registers = [0; REGISTERS];
        for (index, register) in registers.iter_mut().enumerate() {
            *register = rng.below(64) as u8;
            dense.raise_dense(index, *register);
        }
        let mut read: Registers = [0; REGISTERS];
        merge(dense.as_bytes(), &mut read).map_err(damaged)?;
        if let Some(at) = (0..REGISTERS).find(|&at| read[at] != registers[at]) {
            return Err(format!("TESTFAILED Register {at} should be {} but is {}", registers[at], read[at]));
        }
        let _ = round;
    }
    let (mut sparse, mut dense) = (Hll::default(), Hll::default());
    dense.make_dense().map_err(damaged)?;
    let base = rng.next_u64();
    let mut checkpoint = 1;
    for number in 1..=1_000_000u64 {
        let element = (base ^ number).to_le_bytes();
        dense.add(&element, 0).map_err(damaged)?;
        if number <= 100 {
            sparse.add(&element, usize::MAX).map_err(damaged)?;
            if is_dense(sparse.as_bytes()) {
                return Err("TESTFAILED sparse encoding not used".into());
            }
            if count(sparse.as_bytes()) != count(dense.as_bytes()) {
                return Err("TESTFAILED dense/sparse disagree".into());
            }
        }
        if number == checkpoint {
            let estimate = count(dense.as_bytes()).map_err(damaged)?;
            // Six standard errors; a few elements may collide.
            let allowed = if number == 10 { 1 } else { (number as f64 * 6.0 * 1.04 / 128.0) as u64 };
            if estimate.abs_diff(number) > allowed {
                return Err(format!(
                    "TESTFAILED Too big error. card:{number} abserr:{}",
                    estimate.abs_diff(number)
                ));
            }
            checkpoint *= 10;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn registers_of(hll: &Hll) -> Registers {
        let mut registers = [0; REGISTERS];
        merge(hll.as_bytes(), &mut registers).unwrap();
        registers
    }

    #[test]
    fn registers_that_are_all_full_count_as_in_redis() {
        assert_eq!(count_registers(&[63; REGISTERS]), FULL);
        assert_eq!(count_registers(&[0; REGISTERS]), 0);
    }

    proptest! {
        #[test]
        fn sparse_dense_and_model_agree(
            steps in proptest::collection::vec((0usize..300, 1u8..=34, any::<bool>()), 1..200),
            limit in 40usize..400,
        ) {
            let (mut sparse, mut dense) = (Hll::default(), Hll::default());
            dense.make_dense().unwrap();
            let mut model = [0; REGISTERS];
            for (index, value, far) in steps {
                let index = if far { REGISTERS - 1 - index } else { index };
                let rises = model[index] < value;
                model[index] = model[index].max(value);
                prop_assert_eq!(sparse.raise(index, value, limit), Ok(rises));
                prop_assert_eq!(dense.raise(index, value, limit), Ok(rises));
                prop_assert_eq!(count(sparse.as_bytes()), count(dense.as_bytes()));
            }
            prop_assert!(registers_of(&sparse) == model && registers_of(&dense) == model);
            prop_assert_eq!(count(dense.as_bytes()), Ok(count_registers(&model)));
            prop_assert!(is_dense(sparse.as_bytes()) || sparse.as_bytes().len() <= limit);
        }

        #[test]
        fn hostile_bytes_never_panic(
            mut tail in proptest::collection::vec(any::<u8>(), 0..64),
            dense: bool,
            index in 0usize..REGISTERS,
            value in 1u8..52,
        ) {
            let mut bytes = Hll::default().into_bytes();
            bytes.truncate(HEADER_BYTES);
            bytes[ENCODING_AT] = u8::from(!dense);
            bytes.append(&mut tail);
            if dense {
                bytes.resize(DENSE_BYTES, 0xff);
            }
            let mut hll = Hll::from_bytes(bytes).unwrap();
            let _ = (count(hll.as_bytes()), hll.opcodes_text());
            let _ = merge(hll.as_bytes(), &mut [0; REGISTERS]);
            let _ = hll.raise(index, value, 3000);
            let _ = hll.make_dense();
            let _ = count(hll.as_bytes());
        }

        #[test]
        fn any_string_is_looked_at_safely(bytes: Vec<u8>) {
            let _ = (is_one(&bytes), cached_count(&bytes));
        }
    }

    #[test]
    fn an_empty_one_is_eighteen_bytes() {
        let hll = Hll::default();
        assert_eq!(hll.as_bytes(), b"HYLL\x01\0\0\0\0\0\0\0\0\0\0\0\x7f\xff");
        assert_eq!((count(hll.as_bytes()), cached_count(hll.as_bytes())), (Ok(0), Some(0)));
    }

    #[test]
    fn the_cardinality_is_known_until_forgotten() {
        let mut hll = Hll::default();
        assert_eq!(hll.add(b"a", 3000), Ok(true));
        assert_eq!(cached_count(hll.as_bytes()), None);
        hll.cache_count(1);
        assert_eq!(hll.add(b"a", 3000), Ok(false));
        assert_eq!(cached_count(hll.as_bytes()), Some(1));
    }

    #[test]
    fn passes_its_own_test() {
        self_test(7).unwrap();
    }
}
