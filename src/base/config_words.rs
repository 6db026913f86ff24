//! How redis.conf writes words, strings in quotes, and numbers of bytes.

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
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

/// Splits a line at blanks; `"a b\n\x41"` and `'a b'` are one word each. `None` if a quote is not closed or text follows one.
pub fn split_words(line: &str) -> Option<Vec<String>> {
    let mut words = Vec::new();
    let mut chars = line.chars().peekable();
    loop {
        while chars.next_if(|c| c.is_whitespace()).is_some() {}
        let Some(&first) = chars.peek() else { return Some(words) };
        let mut word = String::new();
        if first == '"' || first == '\'' {
            chars.next();
            loop {
                let c = chars.next()?;
                if c == first {
                    break;
                }
                if c != '\\' {
                    word.push(c);
                    continue;
                }
                let escaped = chars.next()?;
                match escaped {
                    '\'' if first == '\'' => word.push('\''),
                    other if first == '\'' => {
                        word.push('\\');
                        word.push(other);
                    }
                    'n' => word.push('\n'),
                    'r' => word.push('\r'),
                    't' => word.push('\t'),
                    'x' => {
                        let high = chars.next()?.to_digit(16)?;
                        let low = chars.next()?.to_digit(16)?;
                        word.push(char::from_u32(high * 16 + low)?);
                    }
                    other => word.push(other),
                }
            }
            if chars.peek().is_some_and(|c| !c.is_whitespace()) {
                return None;
            }
        } else {
            while let Some(c) = chars.next_if(|c| !c.is_whitespace()) {
                word.push(c);
            }
        }
        words.push(word);
    }
}

/// Number of bytes: digits and one of `b k kb m mb g gb t tb` (`k` is 1000, `kb` 1024).
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
    number.parse::<u64>().ok()?.checked_mul(factor)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_values() {
        for (text, wanted) in [
            ("1", Some(1)),
            ("1k", Some(1000)),
            ("1Kb", Some(1024)),
            ("2gb", Some(2 << 30)),
            ("x", None),
            ("", None),
        ] {
            assert_eq!(parse_memory(text), wanted, "{text}");
        }
        assert_eq!(parse_memory("99999999999999999999"), None);
        assert_eq!(parse_memory("18446744073709551615gb"), None);
    }
}
