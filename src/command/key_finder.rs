//! Which arguments of a command are keys: key specifications applied to words.

use crate::base::args::{Args, is_keyword};
use crate::command::facts::model::{BeginSearch, FindKeys, KeyFlag, KeySpec};

/// Calls `found` with the index of each key that `spec` names. False if the words do not fit the specification; the command itself will
/// say what is wrong with them.
pub fn find_keys(spec: &KeySpec, args: &Args<'_>, mut found: impl FnMut(usize)) -> bool {
    let count = args.len() as i64;
    let begin = match spec.begin {
        BeginSearch::Index(index) => i64::from(index),
        BeginSearch::Keyword { keyword, start } => {
            let start = i64::from(start);
            let position = if start >= 0 {
                (start..count).find(|&at| is_keyword(args.get(at as usize), keyword))
            } else {
                (1..=count + start).rev().find(|&at| is_keyword(args.get(at as usize), keyword))
            };
            match position {
                Some(at) => at + 1,
                None => return true,
            }
        }
        BeginSearch::Unknown => return false,
    };
    let (first, last, step) = match spec.find {
        FindKeys::Range { last, step, limit } => {
            let last = i64::from(last);
            let last = match last {
                0.. => begin + last,
                -1 if limit > 1 => begin + (count - begin) / i64::from(limit) - 1,
                _ => count + last,
            };
            (begin, last, i64::from(step))
        }
        FindKeys::Count { count: at, first, step } => {
            let at = begin + i64::from(at);
            if at >= count {
                return false;
            }
            let Ok(keys) = args.integer(at as usize) else { return false };
            let first = begin + i64::from(first);
            if keys < 0 || keys > count {
                return false;
            }
            (first, first + (keys - 1) * i64::from(step), i64::from(step))
        }
        FindKeys::Unknown => return false,
    };
    if first < 1 || step < 1 || (last >= count && first <= last) {
        return false;
    }
    let mut at = first;
    while at <= last {
        found(at as usize);
        at += step;
    }
    true
}

/// Where SORT's destination is, which no specification finds: behind the last STORE that is no other option's value.
pub fn sort_destination(args: &Args<'_>) -> Option<usize> {
    let mut destination = None;
    let mut at = 2;
    while at < args.len() {
        let is = |keyword| is_keyword(args.get(at), keyword);
        at += match () {
            () if is("LIMIT") => 3,
            () if is("GET") || is("BY") => 2,
            () if is("STORE") && at + 1 < args.len() => {
                destination = Some(at + 1);
                1
            }
            () => 1,
        };
    }
    destination
}

/// Whether a specification names keys of the data (and not only something that is routed like one).
pub fn names_keys(spec: &KeySpec) -> bool {
    !spec.flags.has(KeyFlag::NotKey)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::args::OwnedArgs;

    fn keys(spec: KeySpec, line: &str) -> Option<Vec<usize>> {
        let words: Vec<&[u8]> = line.split(' ').map(str::as_bytes).collect();
        let args = OwnedArgs::from_words(&words);
        let mut indexes = Vec::new();
        find_keys(&spec, &args.as_args(), |index| indexes.push(index)).then_some(indexes)
    }

    #[test]
    fn all_shapes() {
        assert_eq!(keys(KeySpec::one(1, &[]), "get a"), Some(vec![1]));
        assert_eq!(keys(KeySpec::one(1, &[]), "get"), None);
        assert_eq!(keys(KeySpec::rest(1, &[]), "del a b c"), Some(vec![1, 2, 3]));
        assert_eq!(keys(KeySpec::range(1, -1, 2, &[]), "mset a 1 b 2"), Some(vec![1, 3]));
        assert_eq!(keys(KeySpec::range(1, -2, 1, &[]), "blpop a b 0"), Some(vec![1, 2]));
        assert_eq!(keys(KeySpec::counted(1, &[]), "lmpop 2 a b left"), Some(vec![2, 3]));
        assert_eq!(keys(KeySpec::counted(1, &[]), "lmpop 9 a b left"), None);
        assert_eq!(keys(KeySpec::counted(1, &[]), "lmpop x a"), None);
        let streams = KeySpec::half_after_keyword("STREAMS", 1, &[]);
        assert_eq!(keys(streams, "xread count 1 streams a b 0 0"), Some(vec![4, 5]));
        assert_eq!(keys(KeySpec::after_keyword("STORE", 1, &[]), "sort k"), Some(vec![]));
        let store = KeySpec::one_after_keyword("STORE", 5, &[]);
        assert_eq!(keys(store, "georadiusbymember k m 1 km asc store d"), Some(vec![7]));
        assert_eq!(keys(store, "georadiusbymember k m 1 km asc store"), None);
        assert_eq!(keys(KeySpec::unknown(&[]), "sort k"), None);
        let destination = |line: &str| {
            let words: Vec<&[u8]> = line.split(' ').map(str::as_bytes).collect();
            sort_destination(&OwnedArgs::from_words(&words).as_args())
        };
        assert_eq!(destination("sort k store a get store by store limit 1 2 store b"), Some(12));
        assert_eq!((destination("sort store"), destination("sort k store")), (None, None));
    }
}
