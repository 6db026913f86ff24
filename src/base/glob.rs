//! Redis's glob patterns, over bytes.
//!
//! ```text
//! ?        any byte                  [abc] [a-z] [^a]   one byte of a class, or not of it
//! *        any bytes                 \x                 the byte x itself
//! ```
//!
//! Malformed patterns mean what they mean in Redis: a class that never closes ends with the pattern, a backslash at the
//! very end is itself, and bounds of a range may stand in either order. Time is at most pattern times text: on a mismatch
//! only the last star is widened, for whatever an earlier star could still take, the last one can take as well.

/// Whether `text` matches `pattern`.
pub fn matches(pattern: &[u8], text: &[u8]) -> bool {
    matches_case(pattern, text, false)
}

/// Whether `text` matches `pattern`; ASCII letters match in either case if `ignore_case`.
pub fn matches_case(pattern: &[u8], text: &[u8], ignore_case: bool) -> bool {
    if text.is_empty() {
        // As in Redis, where even a star wants a byte to look at; KEYS and SCAN know the lone star themselves.
        return pattern.is_empty();
    }
    let (mut at, mut text_at) = (0, 0);
    // Behind the last star: where the pattern goes on, and from where in the text it was tried.
    let mut star: Option<(usize, usize)> = None;
    loop {
        if pattern.get(at) == Some(&b'*') {
            while pattern.get(at) == Some(&b'*') {
                at += 1;
            }
            if at == pattern.len() {
                return true;
            }
            star = Some((at, text_at));
            continue;
        }
        let step = match text.get(text_at) {
            Some(&byte) if at < pattern.len() => match_one(pattern, at, byte, ignore_case),
            Some(_) => None,
            None if at == pattern.len() => return true,
            None => return false,
        };
        match (step, star) {
            (Some(next), _) => {
                at = next;
                text_at += 1;
            }
            (None, Some((after_star, tried))) => {
                star = Some((after_star, tried + 1));
                at = after_star;
                text_at = tried + 1;
            }
            (None, None) => return false,
        }
    }
}

/// Matches one element of the pattern at `at` with `byte`; where the next element begins, or `None`.
fn match_one(pattern: &[u8], at: usize, byte: u8, ignore_case: bool) -> Option<usize> {
    let equal = |a: u8, b: u8| a == b || (ignore_case && a.eq_ignore_ascii_case(&b));
    match pattern[at] {
        b'?' => Some(at + 1),
        b'[' => match_class(pattern, at + 1, byte, ignore_case),
        b'\\' if at + 1 < pattern.len() => equal(pattern[at + 1], byte).then_some(at + 2),
        literal => equal(literal, byte).then_some(at + 1),
    }
}

/// Matches the class whose inside begins at `at`.
fn match_class(pattern: &[u8], mut at: usize, byte: u8, ignore_case: bool) -> Option<usize> {
    let fold = |b: u8| if ignore_case { b.to_ascii_lowercase() } else { b };
    let byte = fold(byte);
    let negated = pattern.get(at) == Some(&b'^');
    at += usize::from(negated);
    let mut found = false;
    loop {
        match pattern.get(at..).unwrap_or_default() {
            [] => break,
            [b'\\', escaped, ..] => {
                found |= fold(*escaped) == byte;
                at += 2;
            }
            [b']', ..] => {
                at += 1;
                break;
            }
            [low, b'-', high, ..] => {
                let (low, high) = (fold(*low.min(high)), fold(*low.max(high)));
                found |= (low..=high).contains(&byte);
                at += 3;
            }
            [literal, ..] => {
                found |= fold(*literal) == byte;
                at += 1;
            }
        }
    }
    (found != negated).then_some(at)
}

/// The bytes that every match must begin with: the pattern up to its first special byte, escapes taken off.
pub fn literal_prefix(pattern: &[u8]) -> Vec<u8> {
    let mut prefix = Vec::new();
    let mut at = 0;
    while let Some(&byte) = pattern.get(at) {
        match byte {
            b'*' | b'?' | b'[' => break,
            b'\\' if at + 1 < pattern.len() => {
                prefix.push(pattern[at + 1]);
                at += 2;
            }
            literal => {
                prefix.push(literal);
                at += 1;
            }
        }
    }
    prefix
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The definition, by plain recursion.
    fn model(pattern: &[u8], text: &[u8]) -> bool {
        match pattern {
            [] => text.is_empty(),
            [b'*', rest @ ..] => (0..=text.len()).any(|skip| model(rest, &text[skip..])),
            _ => match text {
                [] => false,
                [byte, rest @ ..] => {
                    match_one(pattern, 0, *byte, false).is_some_and(|next| model(&pattern[next..], rest))
                }
            },
        }
    }

    proptest! {
        #[test]
        fn agrees_with_recursion(pattern in "[ab*?\\[\\]^\\\\-]{0,8}", text in "[ab\\]-]{0,8}") {
            // Of the empty text Redis thinks otherwise: only the empty pattern matches it.
            let expected = match text.is_empty() {
                true => pattern.is_empty(),
                false => model(pattern.as_bytes(), text.as_bytes()),
            };
            prop_assert_eq!(matches(pattern.as_bytes(), text.as_bytes()), expected);
        }

        #[test]
        fn every_match_begins_with_the_prefix(pattern in "[ab*?\\\\\\[]{0,6}", text in "[ab*?\\[]{0,6}") {
            if matches(pattern.as_bytes(), text.as_bytes()) {
                prop_assert!(text.as_bytes().starts_with(&literal_prefix(pattern.as_bytes())));
            }
        }
    }

    #[test]
    fn examples() {
        for (pattern, text, expected) in [
            ("h?llo", "hello", true),
            ("h*llo", "heeeello", true),
            ("h[ae]llo", "hillo", false),
            ("h[^e]llo", "hallo", true),
            ("h[a-b]llo", "hbllo", true),
            ("h[b-a]llo", "hallo", true),
            ("\\*", "*", true),
            ("a\\", "a\\", true),
            ("[abc", "b", true),
            ("[]", "a", false),
            ("*", "", false),
            ("", "", true),
            ("a*b*c", "aXbXbXc", true),
            ("a*b*c", "aXbXbX", false),
        ] {
            assert_eq!(matches(pattern.as_bytes(), text.as_bytes()), expected, "{pattern} {text}");
        }
        assert!(matches_case(b"H[A-B]LLO", b"hallo", true));
        let text = vec![b'a'; 30_000];
        let pattern = "a*".repeat(2_000) + "b";
        assert!(!matches(pattern.as_bytes(), &text));
    }
}
