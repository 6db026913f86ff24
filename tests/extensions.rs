//! Commands that Redis has no name for, from outside: walks over stretches of keys, and deletion by pattern beside other clients.
#![expect(
    clippy::disallowed_methods,
    reason = "a test outside the server reads clocks and starts threads as any program"
)]

#[expect(dead_code, reason = "each test binary takes its part of what they share")]
mod support;

use haypile_resp::Value;
use std::collections::BTreeMap;
use support::client::{Client, render};
use support::random::{Random, seed_from};
use support::server::{Server, wait_for};

fn call(client: &mut Client, line: &str) -> String {
    // A lone underline stands for the empty word.
    let words: Vec<&str> = line.split(' ').map(|word| if word == "_" { "" } else { word }).collect();
    render(&client.call(&words))
}

#[test]
fn stretches_of_keys() {
    let server = Server::start("extensions-stretches", &["--memory-budget", "64mb"]);
    let mut client = server.client();
    for (key, command) in [
        ("a", "SET a 1"),
        ("b", "RPUSH b 1"),
        ("c", "SET c 3"),
        ("d", "SADD d 1"),
        ("e", "SET e 5"),
        ("f", "ZADD f 1 1"),
        ("g", "HSET g 1 1"),
        ("h", "XADD h 1-1 1 1"),
    ] {
        call(&mut client, command);
        assert_eq!(call(&mut client, &format!("EXISTS {key}")), ":1");
    }
    let large = "x".repeat(200_000);
    client.call(&["SET", "z", &large]);
    for (line, answer) in [
        ("PKSCANRANGE all _ _", "*[$\"\", *[$a, $b, $c, $d, $e, $f, $g, $h, $z]]"),
        ("PKRSCANRANGE all _ _", "*[$\"\", *[$z, $h, $g, $f, $e, $d, $c, $b, $a]]"),
        ("PKSCANRANGE string _ _", "*[$\"\", *[$a, $c, $e, $z]]"),
        ("PKSCANRANGE STRING b e", "*[$\"\", *[$c, $e]]"),
        ("PKRSCANRANGE string e b", "*[$\"\", *[$e, $c]]"),
        ("PKRSCANRANGE string b e", "*[$\"\", *[]]"),
        ("PKSCANRANGE all b f LIMIT 2", "*[$d, *[$b, $c]]"),
        ("PKRSCANRANGE all f b LIMIT 2", "*[$d, *[$f, $e]]"),
        ("PKSCANRANGE string a e LIMIT 2", "*[$e, *[$a, $c]]"),
        ("PKSCANRANGE all a e MATCH [ace] LIMIT 3", "*[$d, *[$a, $c]]"),
        ("PKSCANRANGE string_with_value a e", "*[$\"\", *[$a, $1, $c, $3, $e, $5]]"),
        ("PKSCANRANGE zset _ _", "*[$\"\", *[$f]]"),
        ("PKSCANRANGE hash _ _", "*[$\"\", *[$g]]"),
        ("PKSCANRANGE stream _ _", "*[$\"\", *[$h]]"),
        ("PKSCANRANGE list _ _", "*[$\"\", *[$b]]"),
        ("PKSCANRANGE set _ _", "*[$\"\", *[$d]]"),
        ("PKSCANRANGE thing _ _", "-ERR unknown type name"),
        ("PKSCANRANGE all _ _ LIMIT 0", "-ERR syntax error"),
        ("PKSCANRANGE all _ _ LIMIT x", "-ERR value is not an integer or out of range"),
        ("PKSCANRANGE all _ _ MATCH", "-ERR syntax error"),
        ("PKSCANRANGE all _", "-ERR wrong number of arguments for \\'pkscanrange\\' command"),
        ("PKPATTERNMATCHDEL x 0", "-ERR syntax error"),
        ("PKPATTERNMATCHDEL x 1 1", "-ERR syntax error"),
    ] {
        assert_eq!(call(&mut client, line), answer, "{line}");
    }
    let bulk = |text: &str| Value::Bulk(text.as_bytes().to_vec());
    let expected = Value::Array(vec![bulk(""), Value::Array(vec![bulk("z"), bulk(&large)])]);
    assert!(client.call(&["PKSCANRANGE", "string_with_value", "z", ""]) == expected);
    // What has expired is no key.
    call(&mut client, "PEXPIRE c 1");
    wait_for("it expires", || call(&mut client, "EXISTS c") == ":0");
    assert_eq!(call(&mut client, "PKSCANRANGE string b _ LIMIT 1"), "*[$z, *[$e]]");
}

/// Random stretches against a sorted map.
#[test]
fn stretches_against_a_model() {
    let server =
        Server::start("extensions-model", &["--memory-budget", "64mb", "--packed-max-elements", "1"]);
    let mut client = server.client();
    let mut random = Random::new(seed_from("HAYPILE_EXTENSIONS_SEED"));
    let mut model = BTreeMap::new();
    for number in 0..300 {
        let key = format!("{:x}", random.below(4096));
        let value = format!("v{number}");
        let of_set = random.chance(300);
        client.call(&["DEL", &key]);
        client.call(&[if of_set { "SADD" } else { "SET" }, &key, &value]);
        model.insert(key, (of_set, value));
    }
    for _ in 0..300 {
        let (from, to) = (format!("{:x}", random.below(4096)), format!("{:x}", random.below(4096)));
        let limit = 1 + random.below(20) as usize;
        let reverse = random.chance(500);
        let (low, high) = if reverse { (&to, &from) } else { (&from, &to) };
        let strings = model.iter().filter(|(key, (of_set, _))| !of_set && *key >= low && *key <= high);
        let mut expected: Vec<_> = strings.collect();
        if reverse {
            expected.reverse();
        }
        let next = expected.get(limit).map_or("", |(key, _)| key);
        let shown: Vec<String> =
            expected.iter().take(limit).map(|(key, (_, value))| format!("${key}, ${value}")).collect();
        let name = if reverse { "PKRSCANRANGE" } else { "PKSCANRANGE" };
        let answer = call(&mut client, &format!("{name} string_with_value {from} {to} LIMIT {limit}"));
        let next = if next.is_empty() { "\"\"" } else { next };
        assert_eq!(answer, format!("*[${next}, *[{}]]", shown.join(", ")), "{name} {from} {to} {limit}");
    }
}

#[test]
fn deletion_by_pattern() {
    let server = Server::start("extensions-delete", &["--memory-budget", "64mb", "--workers", "2"]);
    let mut client = server.client();
    for number in 0..3000 {
        let key = format!("k:{number}");
        match number % 3 {
            0 => client.queue(&["SET", &key, "1"]),
            1 => client.queue(&["SADD", &key, "1"]),
            _ => client.queue(&["RPUSH", &key, "1"]),
        }
    }
    client.queue(&["XADD", "k:stream", "1-1", "f", "v"]);
    client.queue(&["XGROUP", "CREATE", "k:stream", "g", "$"]);
    client.queue(&["SET", "other", "1"]);
    client.flush().unwrap();
    (0..3003).for_each(|_| drop(client.read().unwrap()));
    // Nobody waits for a stream that is gone.
    let mut reader = server.client();
    reader.queue(&["XREADGROUP", "GROUP", "g", "c", "BLOCK", "0", "STREAMS", "k:stream", ">"]);
    reader.flush().unwrap();
    wait_for("the reader waits", || client.text(&["INFO", "clients"]).contains("blocked_clients:1"));
    assert_eq!(call(&mut client, "PKPATTERNMATCHDEL k:1* 5"), ":5");
    assert_eq!(call(&mut client, "PKPATTERNMATCHDEL k:2?? 1000"), ":100");
    assert_eq!(call(&mut client, "DBSIZE"), ":2897");
    assert_eq!(call(&mut client, "PKPATTERNMATCHDEL nothing*"), ":0");
    // Two at once, and one who flushes: what is deleted is deleted once.
    let mut others: Vec<Client> = (0..3).map(|_| server.client()).collect();
    for other in &mut others {
        other.queue(&["PKPATTERNMATCHDEL", "k:*"]);
        other.flush().unwrap();
    }
    let sum: i64 =
        others.iter_mut().map(|other| render(&other.read().unwrap())[1..].parse::<i64>().unwrap()).sum();
    assert_eq!(sum, 2896);
    assert!(render(&reader.read().unwrap()).starts_with('-'), "the reader is told");
    assert_eq!(call(&mut client, "DBSIZE"), ":1");
    assert_eq!(call(&mut client, "PKPATTERNMATCHDEL *"), ":1");
    assert_eq!(call(&mut client, "DBSIZE"), ":0");
}

#[test]
fn a_flush_passes_a_long_deletion() {
    let server = Server::start("extensions-flush", &["--memory-budget", "64mb", "--workers", "2"]);
    let mut client = server.client();
    for number in 0..50_000 {
        client.queue(&["SET", &format!("k:{number}"), "1"]);
        if number % 1000 == 999 {
            client.flush().unwrap();
            (0..1000).for_each(|_| drop(client.read().unwrap()));
        }
    }
    let mut other = server.client();
    other.queue(&["PKPATTERNMATCHDEL", "k:*"]);
    other.flush().unwrap();
    assert_eq!(call(&mut client, "FLUSHALL"), "+OK");
    assert_eq!(call(&mut client, "DBSIZE"), ":0");
    let deleted: u64 = render(&other.read().unwrap())[1..].parse().unwrap();
    assert!(deleted <= 50_000);
    assert_eq!(call(&mut client, "SET k:1 1"), "+OK");
    assert_eq!(call(&mut client, "DBSIZE"), ":1");
}
