//! SHA-256, for passwords: they are kept and compared as digests only.

use sha2::{Digest, Sha256};

/// A digest.
pub type Digest256 = [u8; 32];

/// The digest of `bytes`.
pub fn sha256(bytes: &[u8]) -> Digest256 {
    Sha256::digest(bytes).into()
}

/// Whether two digests are the same, in a time that does not depend on where they differ.
pub fn same(one: &Digest256, other: &Digest256) -> bool {
    // The optimizer must not see that the first difference would be enough.
    let difference = one.iter().zip(other).fold(0, |sum, (one, other)| sum | (one ^ other));
    std::hint::black_box(difference) == 0
}

/// As 64 hexadecimal digits.
pub fn hex(digest: &Digest256) -> String {
    digest
        .iter()
        .flat_map(|byte| [byte >> 4, byte & 15])
        .map(|digit| char::from(b"0123456789abcdef"[usize::from(digit)]))
        .collect()
}

/// What 64 hexadecimal digits, letters in lower case, say.
pub fn from_hex(text: &[u8]) -> Option<Digest256> {
    let digit = |byte: u8| match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        _ => None,
    };
    let mut digest = Digest256::default();
    if text.len() != 2 * digest.len() {
        return None;
    }
    for (into, pair) in digest.iter_mut().zip(text.chunks_exact(2)) {
        *into = digit(pair[0])? << 4 | digit(pair[1])?;
    }
    Some(digest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digests_and_their_digits() {
        let digest = sha256(b"abc");
        let digits = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(hex(&digest), digits);
        assert_eq!(from_hex(digits.as_bytes()), Some(digest));
        assert!(same(&digest, &digest) && !same(&digest, &sha256(b"")));
        for wrong in [&digits[1..], &digits.to_uppercase(), &format!("{}g", &digits[1..]), ""] {
            assert_eq!(from_hex(wrong.as_bytes()), None);
        }
    }
}
