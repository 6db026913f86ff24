//! Words of bytes on a line, as redis.conf and ACL selectors write them.
//!
//! Words are parted by blanks. `"a b\x41"` and `'a b'` hold blanks; a quote may begin within a word, and what follows its end is a blank
//! or nothing. Between double quotes `\n \r \t \a \b \xHH` stand for bytes and `\` before any other byte for that byte; between single
//! quotes only `\'` means something.

/// The words of a line. `None` if a quote is not closed, or something follows it at once.
pub fn split(line: &[u8]) -> Option<Vec<Vec<u8>>> {
    let is_blank = |byte: u8| matches!(byte, b' ' | b'\n' | b'\r' | b'\t' | b'\x0b' | b'\x0c' | 0);
    let mut words = Vec::new();
    let mut at = 0;
    loop {
        while line.get(at).is_some_and(|&byte| is_blank(byte)) {
            at += 1;
        }
        if at >= line.len() {
            return Some(words);
        }
        let mut word = Vec::new();
        while let Some(&byte) = line.get(at).filter(|&&byte| !is_blank(byte)) {
            at += 1;
            if byte == b'"' || byte == b'\'' {
                at = quotation(line, at, byte, &mut word)?;
                if line.get(at).is_some_and(|&byte| !is_blank(byte)) {
                    return None;
                }
            } else {
                word.push(byte);
            }
        }
        words.push(word);
    }
}

/// Reads what stands between quotes, from `at` on. Where the line goes on.
fn quotation(line: &[u8], mut at: usize, quote: u8, word: &mut Vec<u8>) -> Option<usize> {
    let hex = |byte: Option<&u8>| char::from(*byte?).to_digit(16).map(|digit| digit as u8);
    loop {
        let byte = *line.get(at)?;
        at += 1;
        if byte == quote {
            return Some(at);
        }
        if byte != b'\\' || quote == b'\'' && line.get(at) != Some(&b'\'') {
            word.push(byte);
            continue;
        }
        let escaped = *line.get(at)?;
        at += 1;
        let digits = (hex(line.get(at)), hex(line.get(at + 1)));
        word.push(match escaped {
            b'\'' if quote == b'\'' => b'\'',
            b'x' if digits.0.is_some() && digits.1.is_some() => {
                at += 2;
                digits.0.unwrap_or(0) << 4 | digits.1.unwrap_or(0)
            }
            b'n' => b'\n',
            b'r' => b'\r',
            b't' => b'\t',
            b'a' => 7,
            b'b' => 8,
            other => other,
        });
    }
}

/// A word in quotes, in printable ASCII.
pub fn quoted(word: &[u8]) -> String {
    let mut text = String::from("\"");
    for &byte in word {
        match byte {
            b'"' | b'\\' => text.extend(['\\', char::from(byte)]),
            b' '..=b'~' => text.push(char::from(byte)),
            _ => text.push_str(&format!("\\x{byte:02x}")),
        }
    }
    text.push('"');
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn words() {
        let words = |line: &str| {
            split(line.as_bytes()).map(|words| {
                words.iter().map(|word| String::from_utf8_lossy(word).into_owned()).collect::<Vec<_>>()
            })
        };
        let some = |words: &[&str]| Some(words.iter().map(ToString::to_string).collect::<Vec<_>>());
        assert_eq!(words(" a  b\tc "), some(&["a", "b", "c"]));
        assert_eq!(words(r#"~"a b" 'c\'d' "\x41\n\q\xz""#), some(&["~a b", "c'd", "A\nqxz"]));
        assert_eq!(words(r"'a\n' a\b"), some(&[r"a\n", r"a\b"]));
        assert_eq!(words(r#""""#), some(&[""]));
        for wrong in [r#""a"#, r#""a"b"#, "'a", r#""a\"#] {
            assert_eq!(words(wrong), None, "{wrong}");
        }
    }

    proptest! {
        #[test]
        fn quoted_words_read_back(words in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..8), 0..4)) {
            let line = words.iter().map(|word| quoted(word)).collect::<Vec<_>>().join(" ");
            prop_assert_eq!(split(line.as_bytes()), Some(words));
        }
    }
}
