//! How redis.conf writes words, strings in quotes and numbers of bytes, and how a command line becomes such lines.

use std::fmt::Write as _;

/// The text in quotes, as a line of a file holds it.
pub fn quoted(text: &str) -> String {
    let mut out = String::from("\"");
    for c in text.chars() {
        match c {
            '"' | '\\' => {
                out.push('\\');
                out.push(c);
            }
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            c if c.is_ascii_control() => {
                let _ = write!(out, "\\x{:02x}", c as u32);
            }
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

/// The text as one word of a line: in quotes if it would not be read back as it is.
pub fn quoted_if_needed(text: &str) -> String {
    let needs_quotes = |c: char| c.is_whitespace() || c.is_control() || "\"'\\".contains(c);
    if text.is_empty() || text.contains(needs_quotes) { quoted(text) } else { text.to_string() }
}

/// A word of any bytes in quotes, in printable ASCII.
pub fn quoted_bytes(word: &[u8]) -> String {
    let mut text = String::from("\"");
    for &byte in word {
        match byte {
            b'"' | b'\\' => text.extend(['\\', char::from(byte)]),
            b' '..=b'~' => text.push(char::from(byte)),
            _ => {
                let _ = write!(text, "\\x{byte:02x}");
            }
        }
    }
    text.push('"');
    text
}

/// Splits a line at blanks; within `".."` and `'..'` they are letters, and in the former `\n`, `\x41` and such are escapes. `None` if a
/// quote is not closed, if text follows one, or if what is escaped is not UTF-8.
pub fn split_words(line: &str) -> Option<Vec<String>> {
    split_bytes(line.as_bytes())?.into_iter().map(|word| String::from_utf8(word).ok()).collect()
}

/// The same for words that need not be text.
pub fn split_bytes(line: &[u8]) -> Option<Vec<Vec<u8>>> {
    let is_blank = |byte: u8| byte.is_ascii_whitespace() || byte == 0 || byte == 11;
    let mut words = Vec::new();
    let mut bytes = line.iter().copied().peekable();
    loop {
        while bytes.next_if(|byte| is_blank(*byte)).is_some() {}
        if bytes.peek().is_none() {
            return Some(words);
        }
        let mut word = Vec::new();
        while let Some(byte) = bytes.next_if(|byte| !is_blank(*byte)) {
            if byte == b'"' || byte == b'\'' {
                read_quoted(byte, &mut bytes, &mut word)?;
                break;
            }
            word.push(byte);
        }
        words.push(word);
    }
}

/// Reads up to the closing quote, which ends the word.
fn read_quoted(
    quote: u8,
    bytes: &mut std::iter::Peekable<impl Iterator<Item = u8>>,
    word: &mut Vec<u8>,
) -> Option<()> {
    loop {
        let byte = bytes.next()?;
        if byte == quote {
            return bytes.peek().is_none_or(u8::is_ascii_whitespace).then_some(());
        }
        if byte != b'\\' {
            word.push(byte);
            continue;
        }
        if quote == b'\'' {
            word.push(bytes.next_if_eq(&b'\'').unwrap_or(b'\\'));
            continue;
        }
        match bytes.next()? {
            b'n' => word.push(b'\n'),
            b'r' => word.push(b'\r'),
            b't' => word.push(b'\t'),
            b'b' => word.push(8),
            b'a' => word.push(7),
            b'x' => {
                let high = char::from(bytes.next()?).to_digit(16)?;
                let low = char::from(bytes.next()?).to_digit(16)?;
                word.push((high * 16 + low) as u8);
            }
            other => word.push(other),
        }
    }
}

/// What arguments of the command line say, as lines of a configuration; and whether standard input is to be read (`-`).
///
/// `--name` begins a line and other arguments are words of it. So that a value may begin with `--` too, what follows a bare name is its
/// value; `--save` alone means no save points, as it always did.
pub fn arguments_text(arguments: &[String]) -> (String, bool) {
    let mut text = String::new();
    let mut from_input = false;
    let mut name_wants_value = false;
    for (index, argument) in arguments.iter().enumerate() {
        if argument == "-" && (index == 0 || index + 1 == arguments.len()) {
            from_input = true;
            continue;
        }
        let Some(name) = argument.strip_prefix("--").filter(|_| !name_wants_value) else {
            text.push_str(&quoted(argument));
            text.push(' ');
            name_wants_value = false;
            continue;
        };
        if !text.is_empty() {
            text.push('\n');
        }
        text.push_str(name);
        text.push(' ');
        name_wants_value = split_words(argument).is_none_or(|words| words.len() == 1);
        let is_last = arguments.get(index + 1).is_none_or(|next| next.starts_with("--"));
        if argument.eq_ignore_ascii_case("--save") && is_last {
            text.push_str("\"\"");
            name_wants_value = false;
        }
    }
    (text, from_input)
}

/// Number of bytes: digits and one of `b k kb m mb g gb t tb` (`k` is 1000, `kb` 1024). No digits are none, as in Redis.
pub fn parse_memory(text: &str) -> Option<u64> {
    let digits = text.len() - text.trim_start_matches(|c: char| c.is_ascii_digit()).len();
    let (number, unit) = text.split_at(digits);
    let factor: u64 = match unit.to_ascii_lowercase().as_str() {
        "" | "b" => 1,
        "k" => 1000,
        "kb" => 1 << 10,
        "m" => 1_000_000,
        "mb" => 1 << 20,
        "g" => 1_000_000_000,
        "gb" => 1 << 30,
        "t" => 1_000_000_000_000,
        "tb" => 1 << 40,
        _ => return None,
    };
    let number = if number.is_empty() { 0 } else { number.parse::<u64>().ok()? };
    number.checked_mul(factor)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn words() {
        for (line, wanted) in [
            (r#"a  b "c d" 'e f'"#, Some(vec!["a", "b", "c d", "e f"])),
            (r#"a"b c" '' "" "#, Some(vec!["ab c", "", ""])),
            (r#""\x41\xc3\xa9\n\q" 'it\'s \n'"#, Some(vec!["A\u{e9}\nq", r"it's \n"])),
            (r#""a"#, None),
            (r#""a"b"#, None),
            (r#""\xff""#, None),
            (r#""\x4"#, None),
        ] {
            let wanted = wanted.map(|words| words.into_iter().map(str::to_string).collect::<Vec<_>>());
            assert_eq!(split_words(line), wanted, "{line}");
        }
        let text = "a \"b\" \\ \n\u{1}\u{e9}'";
        assert_eq!(split_words(&quoted(text)), Some(vec![text.to_string()]));
    }

    #[test]
    fn memory_values() {
        for (text, wanted) in [
            ("1", Some(1)),
            ("1k", Some(1000)),
            ("1Kb", Some(1024)),
            ("2gb", Some(2 << 30)),
            ("x", None),
            ("", Some(0)),
            ("-1", None),
        ] {
            assert_eq!(parse_memory(text), wanted, "{text}");
        }
        assert_eq!(parse_memory("99999999999999999999"), None);
        assert_eq!(parse_memory("18446744073709551615gb"), None);
    }

    proptest! {
        #[test]
        fn quoted_words_read_back(words in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..8), 0..4)) {
            let line = words.iter().map(|word| quoted_bytes(word)).collect::<Vec<_>>().join(" ");
            prop_assert_eq!(split_bytes(line.as_bytes()), Some(words));
        }
    }
}
