//! A command's name and arguments: ranges of the buffer that the request was read into.
//!
//! [`Args`] borrows and is what handlers see; [`OwnedArgs`] is the same with a buffer of its own, for a command that
//! goes to another thread. Access never panics: arity is checked before a handler runs, and past the end is the empty
//! argument.

use crate::base::number::parse_i64;
use crate::base::reply_error::ReplyError;
use std::ops::Range;

/// A command and its arguments, borrowed.
#[derive(Clone, Copy, Debug)]
pub struct Args<'a> {
    buffer: &'a [u8],
    ranges: &'a [Range<usize>],
}

impl<'a> Args<'a> {
    /// `ranges` are the words within `buffer`, the command's name first.
    pub fn new(buffer: &'a [u8], ranges: &'a [Range<usize>]) -> Args<'a> {
        Args { buffer, ranges }
    }

    /// How many words, the name included.
    pub fn len(&self) -> usize {
        self.ranges.len()
    }

    /// Whether there is not even a name.
    pub fn is_empty(&self) -> bool {
        self.ranges.is_empty()
    }

    /// Word `index`, the name being 0; empty past the end.
    #[inline]
    pub fn get(&self, index: usize) -> &'a [u8] {
        self.ranges.get(index).and_then(|range| self.buffer.get(range.clone())).unwrap_or_default()
    }

    /// The command's name.
    pub fn name(&self) -> &'a [u8] {
        self.get(0)
    }

    /// All words, the name first.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &'a [u8]> + use<'a> {
        let args = *self;
        (0..args.len()).map(move |index| args.get(index))
    }

    /// The words from `index` on.
    pub fn from(
        &self,
        index: usize,
    ) -> impl ExactSizeIterator<Item = &'a [u8]> + DoubleEndedIterator + Clone + use<'a> {
        let args = *self;
        (index.min(args.len())..args.len()).map(move |index| args.get(index))
    }

    /// The words from `index` on as a command of their own.
    pub fn tail(&self, index: usize) -> Args<'a> {
        Args { buffer: self.buffer, ranges: self.ranges.get(index..).unwrap_or_default() }
    }

    /// Word `index` as a 64-bit integer, or Redis's usual complaint.
    pub fn integer(&self, index: usize) -> Result<i64, ReplyError> {
        parse_i64(self.get(index)).ok_or(ReplyError::NOT_AN_INTEGER)
    }

    /// The same, but not the smallest number, which has no negative.
    pub fn integer_with_negative(&self, index: usize) -> Result<i64, ReplyError> {
        match self.integer(index)? {
            i64::MIN => Err(ReplyError::HAS_NO_NEGATIVE),
            number => Ok(number),
        }
    }

    /// A walk over the options that begin at word `index`.
    pub fn options(&self, index: usize) -> Options<'a> {
        Options { args: *self, at: index }
    }

    /// A copy that owns its bytes.
    pub fn to_owned(&self) -> OwnedArgs {
        let mut buffer = Vec::with_capacity(self.iter().map(<[u8]>::len).sum());
        let ranges = self
            .iter()
            .map(|word| {
                let start = buffer.len();
                buffer.extend_from_slice(word);
                start..buffer.len()
            })
            .collect();
        OwnedArgs { buffer, ranges }
    }
}

/// A command and its arguments, owned.
#[derive(Clone, Debug, Default)]
pub struct OwnedArgs {
    /// The bytes of all words.
    pub buffer: Vec<u8>,
    /// Where in `buffer` each word lies.
    pub ranges: Vec<Range<usize>>,
}

impl OwnedArgs {
    /// Borrows it.
    pub fn as_args(&self) -> Args<'_> {
        Args::new(&self.buffer, &self.ranges)
    }

    /// From words.
    pub fn from_words(words: &[&[u8]]) -> OwnedArgs {
        let mut args = OwnedArgs::default();
        for word in words {
            let start = args.buffer.len();
            args.buffer.extend_from_slice(word);
            args.ranges.push(start..args.buffer.len());
        }
        args
    }
}

/// Whether an argument is this keyword, in any case.
#[inline]
pub fn is_keyword(argument: &[u8], keyword: &str) -> bool {
    argument.eq_ignore_ascii_case(keyword.as_bytes())
}

/// Walks a tail of options, each a keyword with or without values behind it.
#[derive(Clone, Copy, Debug)]
pub struct Options<'a> {
    args: Args<'a>,
    at: usize,
}

impl<'a> Options<'a> {
    /// The next word. `None` at the end.
    pub fn next_word(&mut self) -> Option<&'a [u8]> {
        let word = (self.at < self.args.len()).then(|| self.args.get(self.at))?;
        self.at += 1;
        Some(word)
    }

    /// The value of the option just taken; a syntax error if the words are at their end.
    pub fn value(&mut self) -> Result<&'a [u8], ReplyError> {
        self.next_word().ok_or(ReplyError::SYNTAX)
    }

    /// How many words are left.
    pub fn left(&self) -> usize {
        self.args.len().saturating_sub(self.at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_and_options() {
        let owned = OwnedArgs::from_words(&[b"set", b"key", b"", b"EX", b"10"]);
        let args = owned.as_args();
        assert_eq!(args.name(), b"set");
        assert_eq!(args.get(9), b"");
        assert_eq!(args.from(1).collect::<Vec<_>>(), [&b"key"[..], b"", b"EX", b"10"]);
        assert_eq!(args.from(7).len(), 0);
        assert_eq!(args.integer(4).unwrap(), 10);
        assert!(args.integer(1).is_err());
        let mut options = args.options(3);
        assert!(options.next_word().is_some_and(|word| is_keyword(word, "ex")));
        assert_eq!(options.value().unwrap(), b"10");
        assert!(options.value().is_err() && options.next_word().is_none());
        assert_eq!(args.to_owned().as_args().iter().collect::<Vec<_>>(), args.iter().collect::<Vec<_>>());
    }
}
