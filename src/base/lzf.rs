//! LZF, the compression of strings in Redis's dumps.
//!
//! ```text
//! 000nnnnn                        n + 1 literal bytes follow
//! lllooooo oooooooo               copy l + 2 bytes from o + 1 bytes back, l in 1..=6
//! 111ooooo llllllll oooooooo      the same with l + 9 bytes
//! ```

const LITERALS_MAX: usize = 32;
const COPY_MAX: usize = 264;
const OFFSET_MAX: usize = 1 << 13;
const HASH_BITS: u32 = 14;

/// Appends what `input` stands for, which is exactly `length` bytes, to `out`. `None` if it is not; `out` may then have grown.
pub fn decompress(input: &[u8], length: usize, out: &mut Vec<u8>) -> Option<()> {
    let start = out.len();
    let mut rest = input;
    while let Some((&control, behind)) = rest.split_first() {
        rest = behind;
        let control = usize::from(control);
        if control < LITERALS_MAX {
            let (literals, behind) = rest.split_at_checked(control + 1)?;
            out.extend_from_slice(literals);
            rest = behind;
        } else {
            let mut count = control >> 5;
            if count == 7 {
                let (&more, behind) = rest.split_first()?;
                count += usize::from(more);
                rest = behind;
            }
            let (&low, behind) = rest.split_first()?;
            rest = behind;
            let offset = ((control & 0x1f) << 8 | usize::from(low)) + 1;
            let count = count + 2;
            if offset > out.len() - start {
                return None;
            }
            // The copy may run into what it writes.
            let from = out.len() - offset;
            if offset >= count {
                out.extend_from_within(from..from + count);
            } else {
                (from..from + count).for_each(|at| out.push(out[at]));
            }
        }
        if out.len() - start > length {
            return None;
        }
    }
    (out.len() - start == length).then_some(())
}

/// Appends the compressed form of `input` to `out`, if that is shorter; whether it was.
pub fn compress(input: &[u8], out: &mut Vec<u8>) -> bool {
    let start = out.len();
    let mut places = vec![usize::MAX; 1 << HASH_BITS];
    let mut literals = 0;
    let mut at = 0;
    while at < input.len() {
        if out.len() - start >= input.len() {
            out.truncate(start);
            return false;
        }
        let copied = input.get(at..at + 3).and_then(|three| {
            let word = u32::from_le_bytes([three[0], three[1], three[2], 0]);
            let place = &mut places[(word.wrapping_mul(0x9e37_79b1) >> (32 - HASH_BITS)) as usize];
            let before = std::mem::replace(place, at);
            let offset = at.checked_sub(before).filter(|offset| (1..=OFFSET_MAX).contains(offset))?;
            let most = (input.len() - at).min(COPY_MAX);
            let count = (0..most).take_while(|step| input[before + step] == input[at + step]).count();
            (count >= 3).then_some((offset, count))
        });
        let Some((offset, count)) = copied else {
            literals += 1;
            at += 1;
            continue;
        };
        put_literals(out, &input[at - literals..at]);
        literals = 0;
        let (offset, shown) = (offset - 1, count - 2);
        if shown < 7 {
            out.push((shown << 5 | offset >> 8) as u8);
        } else {
            out.push((7 << 5 | offset >> 8) as u8);
            out.push((shown - 7) as u8);
        }
        out.push(offset as u8);
        at += count;
    }
    put_literals(out, &input[at - literals..]);
    if out.len() - start >= input.len() {
        out.truncate(start);
        return false;
    }
    true
}

fn put_literals(out: &mut Vec<u8>, literals: &[u8]) {
    for piece in literals.chunks(LITERALS_MAX) {
        out.push(piece.len() as u8 - 1);
        out.extend_from_slice(piece);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn round_trip(pieces in proptest::collection::vec((any::<u8>(), 1usize..400), 0..20), noise: Vec<u8>) {
            let mut input: Vec<u8> = pieces.iter().flat_map(|(byte, count)| vec![*byte; *count]).collect();
            input.extend_from_slice(&noise);
            input.extend_from_within(..input.len() / 2);
            let mut packed = Vec::new();
            if compress(&input, &mut packed) {
                prop_assert!(packed.len() < input.len());
                let mut out = b"front".to_vec();
                prop_assert_eq!(decompress(&packed, input.len(), &mut out), Some(()));
                prop_assert_eq!(&out[5..], &input[..]);
            } else {
                prop_assert!(packed.is_empty());
            }
        }

        #[test]
        fn any_bytes_never_panic(input: Vec<u8>, length in 0usize..2000) {
            let mut out = Vec::new();
            let _ = decompress(&input, length, &mut out);
            prop_assert!(out.len() <= length + COPY_MAX);
        }
    }

    #[test]
    fn a_copy_may_overlap_itself() {
        let mut out = Vec::new();
        assert_eq!(decompress(&[0, b'a', 0xe0, 0, 0], 10, &mut out), Some(()));
        assert_eq!(out, b"aaaaaaaaaa");
        assert_eq!(decompress(&[0, b'a', 0x20, 1], 4, &mut Vec::new()), None);
    }
}
