//! Reads the catalogue: commands as a person types them, a line each.
//!
//! ```text
//! # a remark
//! SET key "a value\r\n" EX 100        compared exactly
//! ~ TIME                              the same kind of reply
//! ? KEYS *                            in any order
//! = CLIENT INFO                       the same names of fields
//! h HELLO                             equal but for version and id
//! ```
//!
//! A blank line ends a block; each block begins with a new connection and empty databases.

use super::generator::{Check, Step};

/// The blocks of the catalogue.
pub fn blocks() -> Vec<Vec<Step>> {
    let mut blocks = vec![Vec::new()];
    for line in include_str!("catalogue.txt").lines().map(str::trim) {
        if line.is_empty() {
            blocks.push(Vec::new());
        } else if !line.starts_with('#') {
            let (check, line) = match line.split_once(' ') {
                Some(("~", rest)) => (Check::Shape, rest),
                Some(("?", rest)) => (Check::Unordered, rest),
                Some(("=", rest)) => (Check::Fields, rest),
                Some(("h", rest)) => (Check::Hello, rest),
                _ => (Check::Exact, line),
            };
            let step = Step { command: words(line), check, inline: false };
            blocks.last_mut().expect("a block").push(step);
        }
    }
    blocks.retain(|block| !block.is_empty());
    blocks
}

/// Words between blanks; in double quotes blanks stand for themselves, and `\r`, `\n`, `\t`, `\xHH`, `\"`, `\\` for bytes.
fn words(line: &str) -> Vec<Vec<u8>> {
    let mut words = Vec::new();
    let mut bytes = line.bytes().peekable();
    while bytes.peek().is_some() {
        let mut word = Vec::new();
        let quoted = bytes.next_if_eq(&b'"').is_some();
        while let Some(byte) = bytes.next() {
            match byte {
                b'"' if quoted => break,
                b' ' if !quoted => break,
                b'\\' if quoted => {
                    match bytes.next().unwrap_or_else(|| panic!("nothing behind a backslash: {line}")) {
                        b'r' => word.push(b'\r'),
                        b'n' => word.push(b'\n'),
                        b't' => word.push(b'\t'),
                        b'x' => {
                            let digits: String = bytes.by_ref().take(2).map(char::from).collect();
                            word.push(
                                u8::from_str_radix(&digits, 16)
                                    .unwrap_or_else(|_| panic!("two digits: {line}")),
                            );
                        }
                        other => word.push(other),
                    }
                }
                other => word.push(other),
            }
        }
        words.push(word);
        while bytes.next_if_eq(&b' ').is_some() {}
    }
    words
}
