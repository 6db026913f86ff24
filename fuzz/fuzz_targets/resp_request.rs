//! Requests cut into any pieces parse as they do whole, within bounds and without a panic.
//!
//! The first four bytes choose: bit 0 of the first, small limits; bit 1, an unauthenticated client; the other
//! three, the sizes of the pieces, used in turn. The rest is what the client sends. The same bytes also go to
//! the reply reader, whole and in pieces.
#![no_main]

use haypile_resp::{Limits, Progress, ProtocolError, ReplyError, ReplyReader, RequestParser, Value};
use libfuzzer_sys::fuzz_target;

type Requests = (Vec<Vec<Vec<u8>>>, Option<ProtocolError>);

fn requests(mut parser: RequestParser, bytes: &[u8], pieces: &[usize]) -> Requests {
    let (mut commands, mut start, mut end) = (Vec::new(), 0, 0);
    let mut sizes = pieces.iter().copied().cycle();
    loop {
        let input = &bytes[start..end];
        match parser.parse(input) {
            Err(error) => return (commands, Some(error)),
            Ok(Progress::Complete { consumed }) => {
                assert!(consumed > 0 && consumed <= input.len());
                let source = parser.source(input);
                commands
                    .push(parser.arguments().iter().map(|range| source[range.clone()].to_vec()).collect());
                start += consumed;
            }
            Ok(Progress::Incomplete { wanted_bytes }) => {
                assert!(wanted_bytes > 0);
                if end == bytes.len() {
                    return (commands, None);
                }
                end = bytes.len().min(end.saturating_add(sizes.next().unwrap_or(1)));
            }
        }
    }
}

fn replies(bytes: &[u8], pieces: &[usize]) -> (Vec<Value>, Option<ReplyError>) {
    let (mut reader, mut values, mut rest) = (ReplyReader::default(), Vec::new(), bytes);
    let mut sizes = pieces.iter().copied().cycle();
    while !rest.is_empty() {
        let (piece, after) = rest.split_at(rest.len().min(sizes.next().unwrap_or(1)));
        rest = after;
        reader.feed(piece);
        loop {
            match reader.next() {
                Ok(Some(value)) => values.push(value),
                Ok(None) => break,
                Err(error) => return (values, Some(error)),
            }
        }
    }
    (values, None)
}

fuzz_target!(|data: &[u8]| {
    let Some((choice, bytes)) = data.split_at_checked(4) else { return };
    let pieces: Vec<usize> = choice[1..].iter().map(|size| usize::from(*size) + 1).collect();
    let limits = match choice[0] & 1 {
        0 => Limits::default(),
        _ => Limits { inline_bytes_max: 24, arguments_max: 4, bulk_bytes_max: 16, ..Limits::default() },
    };
    let parser = || {
        let mut parser = RequestParser::new(limits);
        parser.set_authenticated(choice[0] & 2 == 0);
        parser
    };
    assert_eq!(requests(parser(), bytes, &pieces), requests(parser(), bytes, &[usize::MAX]));

    // A NaN is not equal to itself, but its text is.
    let (cut, whole) = (replies(bytes, &pieces), replies(bytes, &[usize::MAX]));
    assert_eq!(format!("{cut:?}"), format!("{whole:?}"));
});
