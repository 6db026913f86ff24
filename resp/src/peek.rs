//! A look at a request that is not its turn yet: its first two words, if it is written plainly.
//!
//! For whoever wants to have ready what the next requests of a pipeline will need. It checks no limits and reports no errors; the
//! [`RequestParser`](crate::RequestParser) does when the request's turn comes.

/// Requests with more words than this are not looked into.
const WORDS_MAX: usize = 64;

/// What a look at a request saw.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Peeked<'a> {
    /// The command's name.
    pub name: &'a [u8],
    /// The word behind it.
    pub first: Option<&'a [u8]>,
    /// How long the request is, in bytes.
    pub bytes: usize,
}

/// Looks at the request at the front of `input`. `None` unless it is a whole array of bulk strings, and not too many.
///
/// ```
/// let peeked = haypile_resp::peek(b"*2\r\n$3\r\nGET\r\n$1\r\nk\r\n*1\r\n").unwrap();
/// assert_eq!((peeked.name, peeked.first, peeked.bytes), (&b"GET"[..], Some(&b"k"[..]), 20));
/// ```
pub fn peek(input: &[u8]) -> Option<Peeked<'_>> {
    let (words, mut at) = number(input, 0, b'*')?;
    if words == 0 || words > WORDS_MAX {
        return None;
    }
    let (mut name, mut first) = (None, None);
    for word in 0..words {
        let (len, start) = number(input, at, b'$')?;
        let end = start.checked_add(len)?;
        let bytes = input.get(start..end)?;
        at = end.checked_add(2).filter(|&at| at <= input.len())?;
        match word {
            0 => name = Some(bytes),
            1 => first = Some(bytes),
            _ => {}
        }
    }
    Some(Peeked { name: name?, first, bytes: at })
}

/// The number in the line at `at` that begins with `sign`, and where the next line begins.
fn number(input: &[u8], at: usize, sign: u8) -> Option<(usize, usize)> {
    let (&head, rest) = input.get(at..)?.split_first()?;
    let (mut value, mut digits) = (0usize, 0);
    while let Some(digit) = rest.get(digits).map(|byte| byte.wrapping_sub(b'0')).filter(|digit| *digit < 10) {
        // Nine digits overflow nothing.
        if digits == 9 {
            return None;
        }
        (value, digits) = (value * 10 + usize::from(digit), digits + 1);
    }
    let plain = head == sign && digits > 0 && rest.get(digits..digits + 2) == Some(b"\r\n");
    plain.then_some((value, at + 1 + digits + 2))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Limits, Progress, RequestParser};
    use proptest::prelude::*;

    #[test]
    fn what_is_not_plain_is_left_to_the_parser() {
        for input in [
            "",
            "*",
            "*1",
            "*1\r\n",
            "PING\r\n",
            "*0\r\n",
            "*-1\r\n",
            "*1\r\n$-1\r\n",
            "*1\r\n$4\r\nPING\r",
            "*1\r\n:1\r\n",
            "*65\r\n$1\r\na\r\n",
            "*1\r\n$9999999999\r\na\r\n",
            "*2\r\n$3\r\nGET\r\n$2\r\nk\r\n",
        ] {
            assert_eq!(peek(input.as_bytes()), None, "{input:?}");
        }
    }

    proptest! {
        // Whatever it says of a request is what the parser will say.
        #[test]
        fn agrees_with_the_parser(
            words in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..12), 1..6),
            damage in proptest::option::of((any::<proptest::sample::Index>(), any::<u8>())),
            cut in any::<proptest::sample::Index>(),
            whole: bool,
        ) {
            let mut input = format!("*{}\r\n", words.len()).into_bytes();
            for word in &words {
                input.extend_from_slice(format!("${}\r\n", word.len()).as_bytes());
                input.extend_from_slice(word);
                input.extend_from_slice(b"\r\n");
            }
            if let Some((at, byte)) = damage {
                let at = at.index(input.len());
                input[at] = byte;
            }
            if !whole {
                input.truncate(cut.index(input.len()));
            }
            let peeked = peek(&input);
            prop_assert!(peeked.is_some() || !whole || damage.is_some());
            if let Some(peeked) = peeked {
                let mut parser = RequestParser::new(Limits::default());
                if let Ok(progress) = parser.parse(&input) {
                    prop_assert_eq!(progress, Progress::Complete { consumed: peeked.bytes });
                    prop_assert_eq!(parser.argument(&input, 0), Some(peeked.name));
                    prop_assert_eq!(parser.argument(&input, 1), peeked.first);
                }
            }
        }
    }
}
