//! Random picks from sets and hashes whose names were chosen by an enemy: as many as were asked for, each once, in bounded time.
//!
//! A member is picked by a random hash, a field by a random way down the tree of names. So members whose hashes lie close together, and names
//! most of which lie at the end of a long way, are met hardly ever; picking until enough different ones were met would take for ever.
#![expect(clippy::disallowed_methods, reason = "a test outside the server reads clocks as any program")]

#[expect(dead_code, reason = "each test binary takes its part of what they share")]
mod support;

use std::collections::HashSet;
use std::time::{Duration, Instant};

use haypile_resp::Value;
use support::client::{Client, render};
use support::server::Server;
use xxhash_rust::xxh3::xxh3_64;

/// Far more than bounded picks take in the slowest build, far less than unbounded ones.
const BOUND: Duration = Duration::from_secs(3);

fn add(client: &mut Client, command: &str, key: &str, words: &[Vec<u8>]) {
    for chunk in words.chunks(1000) {
        let mut line = vec![command.as_bytes().to_vec(), key.as_bytes().to_vec()];
        line.extend_from_slice(chunk);
        assert_eq!(
            client.integer(&line),
            if command == "HSET" { chunk.len() as i64 / 2 } else { chunk.len() as i64 }
        );
    }
}

/// So many different names of those given, within the bound.
fn different(client: &mut Client, line: &[&str], names: &HashSet<Vec<u8>>) -> Vec<Vec<u8>> {
    let began = Instant::now();
    let Value::Array(picked) = client.call(line) else { panic!("{line:?}") };
    assert!(began.elapsed() < BOUND, "{line:?} took {:?}", began.elapsed());
    let picked: Vec<Vec<u8>> = picked
        .into_iter()
        .map(|name| match name {
            Value::Bulk(name) => name,
            other => panic!("{}", render(&other)),
        })
        .collect();
    assert!(picked.iter().all(|name| names.contains(name)), "{line:?}: a name that is not there");
    picked
}

#[test]
fn members_with_alike_hashes_are_picked_in_bounded_time() {
    const MEMBERS: usize = 6000;
    let server = Server::start("hostile-members", &["--memory-budget", "64mb"]);
    let mut client = server.client();
    let alike = (0u64..).map(|number| number.to_string().into_bytes());
    let alike = alike.filter(|member| (xxh3_64(member) as u32) >> 21 == 0x2a5);
    let members: Vec<Vec<u8>> = alike.take(MEMBERS).collect();
    add(&mut client, "SADD", "set", &members);
    let mut there: HashSet<Vec<u8>> = members.into_iter().collect();
    for _ in 0..3 {
        let picked = different(&mut client, &["SRANDMEMBER", "set", "400"], &there);
        assert_eq!(picked.iter().collect::<HashSet<_>>().len(), 400);
        assert_eq!(different(&mut client, &["SRANDMEMBER", "set", "-400"], &there).len(), 400);
        let popped = different(&mut client, &["SPOP", "set", "300"], &there);
        assert_eq!(popped.iter().filter(|member| there.remove(*member)).count(), 300);
        assert_eq!(client.integer(&["SCARD", "set"]), there.len() as i64);
    }
    // One at a time, until there is none.
    let began = Instant::now();
    for _ in 0..there.len() {
        client.queue(&["SPOP", "set"]);
    }
    client.flush().expect("send");
    while !there.is_empty() {
        let Value::Bulk(member) = client.read().expect("SPOP") else { panic!("SPOP") };
        assert!(there.remove(&member), "popped twice");
    }
    assert!(began.elapsed() < 10 * BOUND, "{:?}", began.elapsed());
    assert_eq!(client.integer(&["EXISTS", "set"]), 0);
}

#[test]
fn fields_at_the_end_of_a_long_way_are_picked_in_bounded_time() {
    const LEVELS: usize = 60;
    let server = Server::start("hostile-fields", &["--memory-budget", "64mb"]);
    let mut client = server.client();
    // On each level one name ends, and all others go on.
    let mut names: Vec<Vec<u8>> = (0..LEVELS).map(|level| [&vec![b'z'; level][..], b"a"].concat()).collect();
    let deep = [b'z'; LEVELS];
    names.extend((0..30_000).map(|number: u32| [&deep[..], number.to_string().as_bytes()].concat()));
    let pairs: Vec<Vec<u8>> = names.iter().flat_map(|name| [name.clone(), b"v".to_vec()]).collect();
    add(&mut client, "HSET", "hash", &pairs);
    let there: HashSet<Vec<u8>> = names.into_iter().collect();
    for _ in 0..3 {
        let picked = different(&mut client, &["HRANDFIELD", "hash", "140"], &there);
        assert_eq!(picked.iter().collect::<HashSet<_>>().len(), 140);
        assert_eq!(different(&mut client, &["HRANDFIELD", "hash", "-140"], &there).len(), 140);
        // The tail is not out of reach: what picks do not meet, a walk hands out.
        assert!(picked.iter().any(|name| name.len() > LEVELS), "only the few near the top");
    }
}
