//! DUMP and RESTORE between a real redis-server and ours, both ways: every type, in every encoding that Redis has for it,
//! compared by Redis's own digest of the value.
#![expect(
    clippy::disallowed_methods,
    reason = "a test outside the server reads clocks and files as any program"
)]

#[expect(dead_code, reason = "each test binary takes its part of what they share")]
mod support;

use haypile_resp::Value;
use support::client::{Client, bulk, render};
use support::program::Program;
use support::server::Server;

/// How many elements a collection has that Redis packs, and one that it does not.
const SMALL: usize = 20;
const LARGE: usize = 400;

fn fill(client: &mut Client) -> Vec<String> {
    let mut keys = Vec::new();
    let mut make = |client: &mut Client,
                    key: &str,
                    command: &[&str],
                    count: usize,
                    each: &dyn Fn(usize) -> Vec<Vec<u8>>| {
        for number in 0..count {
            let mut words: Vec<Vec<u8>> = vec![command[0].into(), key.into()];
            words.extend(command[1..].iter().map(|word| word.as_bytes().to_vec()));
            words.extend(each(number));
            let reply = client.call(&words);
            assert!(!matches!(reply, Value::Error(_)), "{key}: {}", render(&reply));
        }
        keys.push(key.to_string());
    };
    let text = |text: String| text.into_bytes();
    make(client, "string", &["SET"], 1, &|_| vec![b"some bytes \xff\x00 of a string".to_vec()]);
    make(client, "empty", &["SET"], 1, &|_| vec![Vec::new()]);
    for (key, value) in [
        ("int8", "-5"),
        ("int16", "-3000"),
        ("int32", "2000000000"),
        ("int64", "9223372036854775807"),
        ("zero", "0"),
        ("not_int", "007"),
    ] {
        make(client, key, &["SET"], 1, &|_| vec![value.into()]);
    }
    make(client, "compressible", &["SET"], 1, &|_| vec![b"abcabcabc".repeat(500)]);
    make(client, "large", &["SET"], 1, &|_| {
        vec![(0..200_000u32).map(|at| (at.wrapping_mul(at) >> 7) as u8).collect()]
    });
    make(client, "hll", &["PFADD"], LARGE, &|number| vec![text(format!("element{number}"))]);
    for (size, name) in [(SMALL, "small"), (LARGE, "large")] {
        make(client, &format!("list_{name}"), &["RPUSH"], size, &|n| {
            vec![text(format!("element {n}")), text(n.to_string())]
        });
        make(client, &format!("ints_{name}"), &["SADD"], size, &|n| vec![text((n * 1_000_003).to_string())]);
        make(client, &format!("set_{name}"), &["SADD"], size, &|n| {
            vec![text(format!("member {n}")), text(n.to_string())]
        });
        make(client, &format!("hash_{name}"), &["HSET"], size, &|n| {
            vec![text(format!("field {n}")), text((n * n).to_string())]
        });
        make(client, &format!("zset_{name}"), &["ZADD"], size, &|n| {
            vec![text(format!("{}", n as f64 * 1.25 - 7.0)), text(format!("member {n}"))]
        });
        make(client, &format!("stream_{name}"), &["XADD"], size, &|n| {
            let mut words =
                vec![text(format!("{}-{}", 1000 + n, n % 3)), b"field".to_vec(), text(n.to_string())];
            if n % 7 == 0 {
                words.extend([b"other".to_vec(), b"value value".to_vec()]);
            }
            words
        });
    }
    make(client, "hash_long_value", &["HSET"], 3, &|n| vec![text(format!("f{n}")), vec![b'v'; 5000]]);
    make(client, "list_long_value", &["RPUSH"], 3, &|n| vec![vec![b'a' + n as u8; 20_000]]);
    make(client, "zset_edges", &["ZADD"], 1, &|_| {
        ["inf", "a", "-inf", "b", "0", "c", "1e-300", "d"].map(|word| word.as_bytes().to_vec()).to_vec()
    });
    for command in [
        "XDEL stream_large 1005-2 1006-0",
        "XGROUP CREATE stream_large g 0",
        "XGROUP CREATE stream_large empty $",
        "XREADGROUP GROUP g one COUNT 10 STREAMS stream_large >",
        "XREADGROUP GROUP g two COUNT 5 STREAMS stream_large >",
        "XACK stream_large g 1001-1",
        "XTRIM stream_small MAXLEN 3",
    ] {
        let words: Vec<&str> = command.split(' ').collect();
        let reply = client.call(&words);
        assert!(!matches!(reply, Value::Error(_)), "{command}: {}", render(&reply));
    }
    keys
}

fn move_all(keys: &[String], from: &mut Client, to: &mut Client, what: &str) {
    for key in keys {
        let dump = from.call(&["DUMP", key]);
        let dump = bulk(&dump).unwrap_or_else(|| panic!("{what}: DUMP {key}: {}", render(&dump)));
        let reply = to.call(&[b"RESTORE".as_slice(), key.as_bytes(), b"0", dump, b"REPLACE"]);
        assert_eq!(reply, Value::Simple(b"OK".to_vec()), "{what}: RESTORE {key}");
        let digest = |client: &mut Client| render(&client.call(&["DEBUG", "DIGEST-VALUE", key]));
        assert_eq!(digest(from), digest(to), "{what}: {key}");
    }
}

fn groups(client: &mut Client) -> Vec<String> {
    let pending = client.call(&["XPENDING", "stream_large", "g"]);
    let stream = client.call(&["XINFO", "STREAM", "stream_large"]);
    let stream = render(&stream);
    let ids = ["last-generated-id", "max-deleted-entry-id", "entries-added", "recorded-first-entry-id"];
    let kept = ids.map(|id| stream.split(id).nth(1).map(|rest| rest.chars().take(24).collect::<String>()));
    vec![render(&pending), format!("{kept:?}")]
}

#[test]
fn dumps_of_redis_are_read_and_ours_are_read_by_redis() {
    let Some(redis) = Program::controls().into_iter().next() else { return };
    let debug = ["--enable-debug-command", "yes"];
    let server = Server::start_program("dumps-redis", redis, &debug);
    let ours = Server::start("dumps-ours", &debug);
    let unpacked =
        Server::start("dumps-unpacked", &["--enable-debug-command", "yes", "--packed-max-elements", "0"]);
    let (mut redis, mut ours, mut unpacked) = (server.client(), ours.client(), unpacked.client());
    let keys = fill(&mut redis);
    let expected = groups(&mut redis);
    move_all(&keys, &mut redis, &mut ours, "from redis");
    assert_eq!(groups(&mut ours), expected);
    move_all(&keys, &mut ours, &mut unpacked, "to the unpacked form");
    assert_eq!(groups(&mut unpacked), expected);
    redis.call(&["FLUSHALL"]);
    move_all(&keys, &mut unpacked, &mut redis, "to redis");
    assert_eq!(groups(&mut redis), expected);
    // Other encodings of the same.
    for (name, value) in [
        ("list-max-listpack-size", "3"),
        ("list-compress-depth", "1"),
        ("set-max-intset-entries", "0"),
        ("hash-max-listpack-entries", "0"),
        ("zset-max-listpack-entries", "0"),
        ("stream-node-max-entries", "5"),
        ("rdbcompression", "no"),
    ] {
        assert_eq!(redis.call(&["CONFIG", "SET", name, value]), Value::Simple(b"OK".to_vec()), "{name}");
    }
    redis.call(&["FLUSHALL"]);
    let keys = fill(&mut redis);
    move_all(&keys, &mut redis, &mut ours, "from redis, other encodings");
    assert_eq!(groups(&mut ours), expected);
}

#[test]
fn a_dump_file_of_redis_is_imported() {
    let Some(redis) = Program::controls().into_iter().next() else { return };
    let server = Server::start_program("import-redis", redis, &[]);
    let mut redis = server.client();
    let keys = fill(&mut redis);
    let expected = groups(&mut redis);
    for command in [
        "PEXPIREAT int8 4000000000000",
        "PEXPIREAT hash_large 4000000000123",
        "SELECT 3",
        "SET elsewhere value",
        "SELECT 0",
        "SAVE",
    ] {
        redis.call(&command.split(' ').collect::<Vec<_>>());
    }
    let dump = server.data_folder().join("dump.rdb");
    let mut ours = Server::start("import-ours", &[]);
    ours.client().call(&["SET", "int16", "to be replaced"]);
    ours.terminate();
    assert!(ours.wait_exit().success());
    let import = |dump: &std::path::Path| {
        std::process::Command::new(Program::under_test().path)
            .arg("import")
            .arg(dump)
            .arg("--dir")
            .arg(ours.data_folder())
            .output()
            .expect("run the import")
    };
    let output = import(&dump);
    assert!(output.status.success(), "{output:?}");
    // Of a damaged file nothing is taken.
    let mut bytes = std::fs::read(&dump).expect("read the dump");
    let last = bytes.len() - 12;
    bytes[last] ^= 1;
    let damaged = server.data_folder().join("damaged.rdb");
    std::fs::write(&damaged, bytes).expect("write the damaged dump");
    assert!(!import(&damaged).status.success());
    ours.restart();
    let mut ours = ours.client();
    for key in &keys {
        let digest = |client: &mut Client| render(&client.call(&["DEBUG", "DIGEST-VALUE", key]));
        assert_eq!(digest(&mut redis), digest(&mut ours), "{key}");
        let expiry = |client: &mut Client| client.integer(&["PEXPIRETIME", key]);
        assert_eq!(expiry(&mut redis), expiry(&mut ours), "{key}");
    }
    assert_eq!(groups(&mut ours), expected);
    assert_eq!(ours.integer(&["DBSIZE"]), redis.integer(&["DBSIZE"]));
    ours.call(&["SELECT", "3"]);
    assert_eq!(ours.text(&["GET", "elsewhere"]), "value");
}

#[test]
fn the_idle_time_that_comes_with_a_key_is_kept() {
    let mut servers = vec![Server::start("idle-ours", &[])];
    if let Some(redis) = Program::controls().into_iter().next() {
        servers.push(Server::start_program("idle-redis", redis, &[]));
    }
    for server in servers {
        let mut client = server.client();
        client.call(&["SET", "k", "v"]);
        let dump = client.call(&["DUMP", "k"]);
        let Value::Bulk(dump) = dump else { panic!("{dump:?}") };
        let restore: [&[u8]; 7] = [b"RESTORE", b"k", b"0", &dump, b"REPLACE", b"IDLETIME", b"1000"];
        assert_eq!(client.call(&restore), Value::Simple(b"OK".to_vec()));
        let Value::Integer(idle_s) = client.call(&["OBJECT", "IDLETIME", "k"]) else { panic!("no time") };
        assert!((1000..1060).contains(&idle_s), "{idle_s}");
        client.call(&["GET", "k"]);
        let Value::Integer(idle_s) = client.call(&["OBJECT", "IDLETIME", "k"]) else { panic!("no time") };
        assert!(idle_s < 60, "{idle_s}");
    }
}
