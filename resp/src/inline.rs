//! Inline commands: one line of words, as typed into telnet.
//!
//! Words are parted by blanks. A word may hold quoted parts, and each of these must be followed by a blank or
//! the end of the line:
//!
//! - `"..."` knows `\n \r \t \b \a`, `\xHH`, and a backslash before anything else stands for that byte;
//! - `'...'` knows only `\'`.
//!
//! Outside quotes a backslash is an ordinary byte. A word is never longer than its spelling, so words are
//! decoded in place: each decoded word lies where its spelling began, and a line without quotes needs no
//! decoding at all.
//!
//! One difference from Redis, on purpose: there a zero byte ends the line it can never find again, and the
//! client waits for ever. Here it is an ordinary byte.

use crate::error::ProtocolError;
use std::ops::Range;

/// Whether [`split`] would move bytes of `line`.
pub(crate) fn has_quotes(line: &[u8]) -> bool {
    line.iter().any(|byte| matches!(byte, b'"' | b'\''))
}

/// Finds the words of a line without quotes.
pub(crate) fn split_plain(line: &[u8], words: &mut Vec<Range<usize>>) {
    let mut at = 0;
    while let Some(start) = next_word(line, at) {
        let length = line[start..].iter().position(|byte| ends_word(*byte));
        at = length.map_or(line.len(), |length| start + length);
        words.push(start..at);
    }
}

/// Finds and decodes the words of a line, in place.
pub(crate) fn split_quoted(line: &mut [u8], words: &mut Vec<Range<usize>>) -> Result<(), ProtocolError> {
    let mut at = 0;
    while let Some(start) = next_word(line, at) {
        let end;
        (end, at) = decode_word(line, start)?;
        words.push(start..end);
    }
    Ok(())
}

/// Decodes the word that begins at `start` and returns where its decoded bytes end and where its spelling
/// ends.
fn decode_word(line: &mut [u8], start: usize) -> Result<(usize, usize), ProtocolError> {
    let (mut to, mut from) = (start, start);
    loop {
        match line.get(from) {
            None => return Ok((to, from)),
            Some(byte) if ends_word(*byte) => return Ok((to, from)),
            Some(quote @ (b'"' | b'\'')) => return decode_quoted(line, *quote, to, from + 1),
            Some(byte) => {
                line[to] = *byte;
                (to, from) = (to + 1, from + 1);
            }
        }
    }
}

/// Decodes a quoted part, which ends its word. `to` is never ahead of `from`.
fn decode_quoted(
    line: &mut [u8],
    quote: u8,
    mut to: usize,
    mut from: usize,
) -> Result<(usize, usize), ProtocolError> {
    loop {
        let (byte, taken) = match &line[from..] {
            [] => return Err(ProtocolError::UnbalancedQuotes),
            [end] if *end == quote => return Ok((to, from + 1)),
            [end, next, ..] if *end == quote => {
                let closed = is_blank(*next);
                return if closed { Ok((to, from + 1)) } else { Err(ProtocolError::UnbalancedQuotes) };
            }
            [b'\\', b'\'', ..] if quote == b'\'' => (b'\'', 2),
            [b'\\', rest @ ..] if quote == b'"' && !rest.is_empty() => escaped(rest),
            [byte, ..] => (*byte, 1),
        };
        line[to] = byte;
        (to, from) = (to + 1, from + taken);
    }
}

/// The byte that a backslash and the start of `rest` stand for, and the bytes both take. Requires: `rest` not
/// empty.
fn escaped(rest: &[u8]) -> (u8, usize) {
    if let [b'x', high, low, ..] = rest
        && let (Some(high), Some(low)) = (hex_digit(*high), hex_digit(*low))
    {
        return (high << 4 | low, 4);
    }
    let byte = match rest[0] {
        b'n' => b'\n',
        b'r' => b'\r',
        b't' => b'\t',
        b'b' => 0x08,
        b'a' => 0x07,
        other => other,
    };
    (byte, 2)
}

fn hex_digit(byte: u8) -> Option<u8> {
    char::from(byte).to_digit(16).map(|digit| digit as u8)
}

fn next_word(line: &[u8], at: usize) -> Option<usize> {
    line.get(at..)?.iter().position(|byte| !is_blank(*byte)).map(|skipped| at + skipped)
}

/// What may stand between words.
fn is_blank(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\n' | b'\r' | 0x0b | 0x0c)
}

/// What ends an unquoted word: fewer bytes than are skipped between words, as in Redis.
fn ends_word(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\n' | b'\r')
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::collection::vec;
    use proptest::prelude::*;
    use proptest::sample::select;

    fn words(line: &[u8]) -> Result<Vec<Vec<u8>>, ProtocolError> {
        let (mut line, mut ranges) = (line.to_vec(), Vec::new());
        split_quoted(&mut line, &mut ranges)?;
        Ok(ranges.into_iter().map(|range| line[range].to_vec()).collect())
    }

    #[test]
    fn words_as_a_real_server_splits_them() {
        let cases: &[(&[u8], &[&[u8]])] = &[
            (b"", &[]),
            (b" \t ", &[]),
            (b"  PING  ", &[b"PING"]),
            (b"\x0b\x0cPING", &[b"PING"]),
            (b"PING\x0ba", &[b"PING\x0ba"]),
            (b"PING \"a\" ", &[b"PING", b"a"]),
            (b"PING \"a\"\x0b", &[b"PING", b"a"]),
            (b"PING a\"b c\"", &[b"PING", b"ab c"]),
            (b"PING \"\"", &[b"PING", b""]),
            (b"\"\"", &[b""]),
            (br#""\x41\n\r\t\b\a\\\"\q\xzz""#, &[b"A\n\r\t\x08\x07\\\"qxzz"]),
            (br"'a\'b\n'", &[br"a'b\n"]),
            (br#""a\x4""#, &[b"ax4"]),
            (br#""\x4G""#, &[b"x4G"]),
            (br"a\n", &[br"a\n"]),
            (b"\x80\xff", &[b"\x80\xff"]),
        ];
        for (line, expected) in cases {
            assert_eq!(words(line).unwrap(), *expected, "{}", line.escape_ascii());
        }
        for line in [
            &b"PING \"a"[..],
            b"PING 'a",
            b"PING \"a\"b",
            br#"PING "a\"#,
            br#"PING a\"b"#,
            br#""a\""#,
            b"'a''b'",
        ] {
            assert_eq!(words(line), Err(ProtocolError::UnbalancedQuotes), "{}", line.escape_ascii());
        }
    }

    fn spell(word: &[u8]) -> Vec<u8> {
        let mut out = vec![b'"'];
        word.iter().for_each(|byte| out.extend(format!("\\x{byte:02x}").bytes()));
        out.push(b'"');
        out
    }

    proptest! {
        #[test]
        fn any_words_survive_quoting(list in vec(vec(any::<u8>(), 0..9), 0..6)) {
            let line = list.iter().map(|word| spell(word)).collect::<Vec<_>>().join(&b' ');
            prop_assert_eq!(words(&line).unwrap(), list);
        }

        #[test]
        fn plain_lines_split_alike_either_way(line in vec(any::<u8>(), 0..64)) {
            let mut plain = Vec::new();
            split_plain(&line, &mut plain);
            if !has_quotes(&line) {
                let plain: Vec<_> = plain.into_iter().map(|range| line[range].to_vec()).collect();
                prop_assert_eq!(words(&line).unwrap(), plain);
            }
        }

        #[test]
        fn hostile_lines_do_not_panic(line in vec(select(&b"\"'\\x4 a\x00\t"[..]), 0..40)) {
            let _ = words(&line);
        }
    }
}
