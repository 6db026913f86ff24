//! `haypile check`, which looks whether everything in a data folder agrees: after kills at random moments under load on collections of all
//! types it has nothing to say; of each kind of damage that is planted it tells; and what is damaged is an error on that key only.
//!
//! `HAYPILE_CHECK_ROUNDS` kills more often, `HAYPILE_CHECK_SEED` repeats the draws; the moments of the kills are the machine's.
#![expect(
    clippy::disallowed_methods,
    reason = "a test outside the server reads clocks and files as any program"
)]

#[expect(dead_code, reason = "each test binary takes its part of what they share")]
mod support;

use haypile::base::clock::Clock;
use haypile::encoding::meta::{Head, Kind, Record, put_key};
use haypile::encoding::{data, hash, large, list, set, sorted_set, stream, system, ttl};
use haypile::store::hooks::MetaHooks;
use haypile_lsm::{Db, IterOptions, KeyspaceId, Options, OsEnv, ReadOptions};
use haypile_resp::Value;
use std::fs;
use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::time::Duration;
use support::client::{Client, render};
use support::program::{Family, Program};
use support::random::{Random, count_from, seed_from};
use support::server::Server;

/// What `check` says of a folder: whether all is well, and its lines.
fn check(folder: &Path) -> (bool, Vec<String>) {
    let binary = env!("CARGO_BIN_EXE_haypile");
    let output = Command::new(binary).arg("check").arg(folder).output().expect("run haypile check");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(errors.is_empty(), "check complains: {errors}");
    let lines = String::from_utf8_lossy(&output.stdout).lines().map(str::to_owned).collect();
    (output.status.success(), lines)
}

fn all_is_well(folder: &Path, when: &str) {
    let (well, lines) = check(folder);
    assert!(well && lines.is_empty(), "{when}: {lines:#?}");
}

// ---- kills ----

/// One command on collections (and what may come over them), over few keys, so that they meet.
fn random_command(random: &mut Random) -> Vec<String> {
    const KINDS: [&str; 7] = ["h", "s", "z", "l", "x", "k", "g"];
    let kind = random.pick(&KINDS);
    let key = |random: &mut Random, kind: &str| format!("{kind}:{}", random.below(4));
    let own = key(random, kind);
    let element = |random: &mut Random| format!("e{}", random.below(400));
    let value = |random: &mut Random| "v".repeat(random.below(40) as usize);
    let words = |line: String| line.split(' ').map(str::to_owned).collect::<Vec<_>>();
    let many =
        |random: &mut Random| if random.chance(50) { 1 + random.below(300) } else { 1 + random.below(6) };
    if random.chance(120) {
        let other_kind = random.pick(&KINDS);
        let other = key(random, other_kind);
        let big = "x".repeat(1 + random.below(200_000) as usize);
        return match random.below(12) {
            0 => words(format!("DEL {own}")),
            1 => words(format!("UNLINK {own} {other}")),
            2 => words(format!("RENAME {own} {other}")),
            3 => words(format!("COPY {own} {other} REPLACE")),
            4 => words(format!("PEXPIRE {own} {}", 1 + random.below(3000))),
            5 => words(format!("PERSIST {own}")),
            6 => words(format!("SET {own} {big}")),
            7 => words(format!("MOVE {own} 1")),
            8 => words(format!("SORT {own} ALPHA STORE {other}")),
            9 if random.chance(200) => words("FLUSHDB".to_owned()),
            10 if random.chance(300) => words("SWAPDB 0 1".to_owned()),
            _ => words(format!("SET {own} small PX {}", 1 + random.below(2000))),
        };
    }
    let mut command;
    match kind {
        "h" => match random.below(6) {
            0..3 => {
                command = vec!["HSET".to_owned(), own];
                for _ in 0..many(random) {
                    command.extend([element(random), value(random)]);
                }
            }
            3 => command = words(format!("HDEL {own} {} {}", element(random), element(random))),
            4 => {
                command = words(format!(
                    "HPEXPIRE {own} {} FIELDS 2 {} {}",
                    1 + random.below(2000),
                    element(random),
                    element(random)
                ))
            }
            _ => command = words(format!("HPERSIST {own} FIELDS 1 {}", element(random))),
        },
        "s" => match random.below(6) {
            0..3 => {
                command = vec!["SADD".to_owned(), own];
                command.extend((0..many(random)).map(|_| element(random)));
            }
            3 => command = words(format!("SREM {own} {} {}", element(random), element(random))),
            4 => command = words(format!("SPOP {own} {}", random.below(20))),
            _ => {
                let (a, b) = (key(random, "s"), key(random, "s"));
                command = words(format!("SUNIONSTORE {own} {a} {b}"));
            }
        },
        "z" => match random.below(8) {
            0..4 => {
                command = vec!["ZADD".to_owned(), own];
                for _ in 0..many(random) {
                    command.extend([random.within(-50, 50).to_string(), element(random)]);
                }
            }
            4 => command = words(format!("ZREM {own} {} {}", element(random), element(random))),
            5 => command = words(format!("ZREMRANGEBYRANK {own} 0 {}", random.below(30))),
            6 => command = words(format!("ZPOPMAX {own} {}", random.below(5))),
            _ => {
                let (a, b) = (key(random, "z"), key(random, "z"));
                command = words(format!("ZUNIONSTORE {own} 2 {a} {b}"));
            }
        },
        "l" => match random.below(8) {
            0..3 => {
                command = vec![random.pick(&["LPUSH", "RPUSH"]).to_owned(), own];
                command.extend((0..many(random)).map(|_| element(random)));
            }
            3 => command = words(format!("LPOP {own} {}", random.below(20))),
            4 => command = words(format!("LINSERT {own} BEFORE {} {}", element(random), element(random))),
            5 => command = words(format!("LREM {own} 2 {}", element(random))),
            6 => command = words(format!("LTRIM {own} {} -{}", random.below(5), 1 + random.below(5))),
            _ => {
                let other = key(random, "l");
                command = words(format!("LMOVE {own} {other} LEFT RIGHT"));
            }
        },
        "x" => match random.below(12) {
            0..5 => {
                command = words(format!("XADD {own} MAXLEN {} *", 20 + random.below(400)));
                for _ in 0..1 + random.below(3) {
                    command.extend([element(random), value(random)]);
                }
            }
            5 => command = words(format!("XGROUP CREATE {own} g{} 0 MKSTREAM", random.below(2))),
            6 | 7 => {
                let (group, consumer) = (random.below(2), random.below(3));
                command = words(format!("XREADGROUP GROUP g{group} c{consumer} COUNT 5 STREAMS {own} >"));
            }
            8 => {
                command =
                    words(format!("XAUTOCLAIM {own} g{} c{} 0 0 COUNT 3", random.below(2), random.below(3)))
            }
            9 => {
                command = words(format!("XGROUP DELCONSUMER {own} g{} c{}", random.below(2), random.below(3)))
            }
            10 => command = words(format!("XTRIM {own} MAXLEN {}", random.below(30))),
            _ => command = words(format!("XGROUP DESTROY {own} g{}", random.below(2))),
        },
        "g" => {
            command = words(format!(
                "GEOADD {own} {} {} {}",
                random.within(-170, 170),
                random.within(-80, 80),
                element(random)
            ))
        }
        _ => match random.below(3) {
            0 => command = words(format!("APPEND {own} {}", "y".repeat(1 + random.below(30_000) as usize))),
            1 => command = words(format!("SETRANGE {own} {} abc", random.below(300_000))),
            _ => command = words(format!("PFADD {own} {} {}", element(random), element(random))),
        },
    }
    command
}

/// Loads until the server is gone.
fn load(address: SocketAddr, seed: u64) -> u64 {
    let mut random = Random::new(seed);
    let mut done = 0;
    let mut run = || -> io::Result<()> {
        let mut client = Client::connect(address)?;
        loop {
            let count = 1 + random.below(16);
            for _ in 0..count {
                client.queue(&random_command(&mut random));
            }
            client.flush()?;
            for _ in 0..count {
                if let Value::Error(text) = client.read()? {
                    let meant: [&[u8]; 5] = [b"WRONGTYPE", b"ERR", b"NOGROUP", b"BUSYGROUP", b"INVALIDOBJ"];
                    assert!(meant.iter().any(|code| text.starts_with(code)), "{}", text.escape_ascii());
                    assert!(!text.windows(8).any(|part| part == b"internal"), "{}", text.escape_ascii());
                }
                done += 1;
            }
        }
    };
    // It ends with the server.
    let _ = run();
    done
}

fn kill_rounds(name: &str, flags: &[&str]) {
    let mut random = Random::new(seed_from("HAYPILE_CHECK_SEED"));
    let mut server = Server::start(&format!("check-{name}"), flags);
    if server.family() == Family::Redis {
        return;
    }
    let mut all = 0;
    for round in 0..count_from("HAYPILE_CHECK_ROUNDS", 6) {
        let address = server.address();
        let loaders: Vec<_> = (0..3)
            .map(|_| {
                let seed = random.next();
                std::thread::spawn(move || load(address, seed))
            })
            .collect();
        std::thread::sleep(Duration::from_millis(100 + random.below(900)));
        server.kill();
        let commands: u64 = loaders.into_iter().map(|loader| loader.join().expect("a loader")).sum();
        eprintln!("{name}, round {round}: {commands} commands");
        all += commands;
        all_is_well(&server.data_folder(), &format!("round {round}"));
        server.restart();
    }
    assert!(all > 1000, "there was hardly any load");
    // And with what a clean close leaves: counts.
    server.terminate();
    server.wait_exit();
    all_is_well(&server.data_folder(), "after a clean close");
}

#[test]
fn kills_leave_collections_whole() {
    kill_rounds("kills", &["--memory-budget", "64mb"]);
}

#[test]
fn kills_leave_large_collections_whole() {
    kill_rounds(
        "kills-large",
        &["--memory-budget", "64mb", "--packed-max-elements", "0", "--appendfsync", "always"],
    );
}

// ---- planted damage ----

/// A folder with a value of every kind, small and large, and the engine opened on it.
struct Planted {
    server: Server,
}

/// The engine, and its keyspaces.
struct Open {
    db: Db,
    meta: KeyspaceId,
    data: KeyspaceId,
    ttl: KeyspaceId,
    system: KeyspaceId,
    space: u32,
}

impl Open {
    fn new(folder: &Path) -> Open {
        let mut options = Options::default().with_memory_budget(64 << 20);
        MetaHooks::install(&mut options, Clock::new());
        let db = Db::open(OsEnv::new(), folder, options).expect("open");
        let of = |name: &str| db.keyspace(name).expect("a keyspace");
        let (meta, data, ttl, system) = (of("meta"), of("data"), of("ttl"), of("system"));
        let space = db.get(system, &system::space_key(0), &ReadOptions::default()).unwrap().unwrap();
        let (space, _) = system::read_space(&space).unwrap();
        Open { db, meta, data, ttl, system, space }
    }

    fn meta_key(&self, key: &str) -> Vec<u8> {
        let mut out = Vec::new();
        put_key(&mut out, self.space, key.as_bytes());
        out
    }

    fn record(&self, key: &str) -> (Head, Vec<u8>) {
        let value = self.db.get(self.meta, &self.meta_key(key), &ReadOptions::default()).unwrap().unwrap();
        let record = Record::decode(&value).unwrap();
        (record.head, record.body.to_vec())
    }

    fn put_record(&self, key: &str, head: Head, body: &[u8]) {
        let value = [head.encode().as_bytes(), body].concat();
        self.db.put(self.meta, &self.meta_key(key), &value).unwrap();
    }

    /// The first record of a kind under a key's id.
    fn first(&self, key: &str, kind: u8) -> (Vec<u8>, Vec<u8>) {
        let (lower, upper) = data::element_bounds(self.space, self.record(key).0.id, kind);
        let options = IterOptions { lower: Some(lower), upper: Some(upper), ..IterOptions::default() };
        let mut iter = self.db.iter(self.data, options).unwrap();
        iter.seek_to_first().unwrap();
        (iter.key().to_vec(), iter.value().to_vec())
    }

    fn delete_first(&self, key: &str, kind: u8) {
        self.db.delete(self.data, &self.first(key, kind).0).unwrap();
    }
}

impl Planted {
    fn new(name: &str) -> Planted {
        let server = Server::start(&format!("check-{name}"), &["--memory-budget", "64mb"]);
        let mut client = server.client();
        for (size, name) in [(5, "small"), (3000, "large")] {
            for number in 0..size {
                let of = |kind: &str| format!("{kind}:{name}");
                let (score, element) = (number.to_string(), format!("e{number}"));
                client.queue(&["HSET", &of("hash"), &element, &score]);
                client.queue(&["SADD", &of("set"), &element]);
                client.queue(&["ZADD", &of("zset"), &score, &element]);
                client.queue(&["RPUSH", &of("list"), &element]);
                client.queue(&["XADD", &of("stream"), &format!("{}-0", number + 1), "f", &element]);
            }
            client.flush().unwrap();
            (0..size * 5).for_each(|_| drop(client.read().unwrap()));
        }
        for line in [
            "HEXPIRE hash:large 10000 FIELDS 2 e1 e2",
            "HEXPIRE hash:small 10000 FIELDS 1 e1",
            "XGROUP CREATE stream:large g 0",
            "XREADGROUP GROUP g c COUNT 10 STREAMS stream:large >",
            "XREADGROUP GROUP g d COUNT 10 STREAMS stream:large >",
            "EXPIRE set:small 10000",
            "EXPIRE zset:small 10000",
        ] {
            let reply = client.call(&line.split(' ').collect::<Vec<_>>());
            assert!(!matches!(reply, Value::Error(_)), "{line}: {}", render(&reply));
        }
        client.call(&["SET", "string:large", &"x".repeat(200_000)]);
        client.call(&["SET", "string:small", "x"]);
        server.terminate();
        let mut planted = Planted { server };
        planted.server.wait_exit();
        planted
    }

    /// What check says of a copy of the folder after `damage`.
    fn after(&self, damage: &dyn Fn(&Open)) -> Vec<String> {
        let folder = self.server.data_folder();
        let copy = folder.with_extension("damaged");
        let _ = fs::remove_dir_all(&copy);
        fs::create_dir(&copy).unwrap();
        for entry in fs::read_dir(&folder).unwrap() {
            let entry = entry.unwrap();
            if entry.file_type().unwrap().is_file() {
                fs::copy(entry.path(), copy.join(entry.file_name())).unwrap();
            }
        }
        let open = Open::new(&copy);
        damage(&open);
        open.db.close().unwrap();
        let (well, lines) = check(&copy);
        assert_eq!(well, lines.is_empty());
        lines
    }
}

#[test]
fn planted_damage_is_found() {
    let planted = Planted::new("planted");
    if planted.server.family() == Family::Redis {
        return;
    }
    all_is_well(&planted.server.data_folder(), "before");
    assert_eq!(planted.after(&|_| {}), [""; 0]);
    let count_off = |key: &'static str| {
        move |open: &Open| {
            let (head, body) = open.record(key);
            // One more than there are, whatever stands behind it.
            let (count, rest) = haypile::encoding::meta::split_collection_body(&body).unwrap();
            let mut body = Vec::new();
            haypile_lsm::base::coding::put_varint(&mut body, count + 1);
            body.extend_from_slice(rest);
            open.put_record(key, head, &body);
        }
    };
    let lost = |key: &'static str, kind: u8| move |open: &Open| open.delete_first(key, kind);
    let body_of =
        |key: &'static str, body: Vec<u8>| move |open: &Open| open.put_record(key, open.record(key).0, &body);
    type Damage<'a> = (&'a str, &'a str, Box<dyn Fn(&Open)>);
    let damages: Vec<Damage<'_>> = vec![
        ("hash:large", "fields", Box::new(count_off("hash:large"))),
        ("hash:large", "fields", Box::new(lost("hash:large", data::FIELD))),
        ("hash:large", "index", Box::new(lost("hash:large", data::FIELD_TTL))),
        ("set:large", "members", Box::new(count_off("set:large"))),
        ("set:large", "members", Box::new(lost("set:large", data::MEMBER))),
        ("zset:large", "members", Box::new(lost("zset:large", data::ZSET_MEMBER))),
        ("zset:large", "two fences", Box::new(lost("zset:large", data::ZSET_SCORE))),
        ("zset:large", "two fences", Box::new(lost("zset:large", data::ZSET_FENCE))),
        ("list:large", "elements", Box::new(lost("list:large", data::ELEMENT))),
        ("list:large", "layout", Box::new(count_off("list:large"))),
        ("stream:large", "entries", Box::new(count_off("stream:large"))),
        ("stream:large", "entries", Box::new(lost("stream:large", data::ENTRY))),
        ("stream:large", "group", Box::new(lost("stream:large", data::GROUP))),
        ("hash:small", "packed hash", Box::new(body_of("hash:small", vec![200]))),
        ("set:small", "in order", Box::new(body_of("set:small", vec![1, b'b', 1, b'a']))),
        ("zset:small", "number", Box::new(body_of("zset:small", vec![1, b'b', 1, b'a']))),
        ("list:small", "empty", Box::new(body_of("list:small", Vec::new()))),
        ("string:large", "length", Box::new(body_of("string:large", vec![255]))),
        ("string:large", "behind the end", Box::new(body_of("string:large", vec![9]))),
        (
            "zset:large",
            "members of a sorted set and their places differ",
            Box::new(|open| {
                let (key, _) = open.first("zset:large", data::ZSET_MEMBER);
                open.db.put(open.data, &key, &data::score_bytes(7.5)).unwrap();
            }),
        ),
        (
            "hash:large",
            "index",
            Box::new(|open| {
                let id = open.record("hash:large").0.id;
                let mut key = Vec::new();
                hash::put_ttl_key(&mut key, open.space, id, 77, b"e1");
                open.db.put(open.data, &key, b"").unwrap();
            }),
        ),
        (
            "hash:large",
            "before its hash says",
            Box::new(|open| {
                let (head, body) = open.record("hash:large");
                let late = head.field_expire_ms + 60_000;
                open.put_record("hash:large", Head { field_expire_ms: late, ..head }, &body);
                let mut entry = Vec::new();
                ttl::put_key(&mut entry, late, open.space, b"hash:large");
                open.db.put(open.ttl, &entry, ttl::value(false)).unwrap();
            }),
        ),
        (
            "set:large",
            "hash",
            Box::new(|open| {
                let id = open.record("set:large").0.id;
                let mut key = Vec::new();
                set::put_hashed_key(&mut key, open.space, id, b"\0\0\0\0other");
                open.db.put(open.data, &key, b"").unwrap();
            }),
        ),
        (
            "zset:large",
            "edges",
            Box::new(|open| {
                let (head, body) = open.record("zset:large");
                let mut summary = sorted_set::Summary::decode(&body).unwrap();
                summary.last = sorted_set::place(9e9, b"z");
                open.put_record("zset:large", head, &summary.encode());
            }),
        ),
        (
            "list:large",
            "out of place",
            Box::new(|open| {
                let (head, body) = open.record("list:large");
                let layout = list::Layout::read(&body).unwrap();
                let at = |position| data::list_element_key(open.space, head.id, position);
                open.db.delete(open.data, &at(layout.first + 5 * list::STRIDE)).unwrap();
                open.db.put(open.data, &at(layout.first + 5 * list::STRIDE + 1), b"x").unwrap();
            }),
        ),
        (
            "stream:large",
            "pending entries",
            Box::new(|open| {
                let keys = stream::GroupKeys { space: open.space, id: open.record("stream:large").0.id };
                let mut key = Vec::new();
                keys.owned(&mut key, 1, 1, stream::StreamId { ms: 1, seq: 0 });
                open.db.delete(open.data, &key).unwrap();
            }),
        ),
        (
            "stream:large",
            "pending entries of a consumer",
            Box::new(|open| {
                let keys = stream::GroupKeys { space: open.space, id: open.record("stream:large").0.id };
                let mut key = Vec::new();
                keys.consumer(&mut key, 1, 1);
                let value = open.db.get(open.data, &key, &ReadOptions::default()).unwrap().unwrap();
                let consumer = stream::Consumer::decode(&value).unwrap();
                let consumer = stream::Consumer { pending: consumer.pending + 1, ..consumer };
                open.db.put(open.data, &key, &consumer.encode()).unwrap();
            }),
        ),
        (
            "set:large",
            "owner",
            Box::new(|open| {
                let key = data::owner_key(open.space, open.record("set:large").0.id);
                open.db.delete(open.data, &key).unwrap();
            }),
        ),
        (
            "hash:large",
            "another key",
            Box::new(|open| {
                let key = data::owner_key(open.space, open.record("hash:large").0.id);
                open.db.put(open.data, &key, b"set:large").unwrap();
            }),
        ),
        (
            "zset:small",
            "no entry among those that do",
            Box::new(|open| {
                let mut entry = Vec::new();
                ttl::put_key(&mut entry, open.record("zset:small").0.expire_ms, open.space, b"zset:small");
                open.db.delete(open.ttl, &entry).unwrap();
            }),
        ),
        (
            "set:small",
            "wrong kind",
            Box::new(|open| {
                let mut entry = Vec::new();
                ttl::put_key(&mut entry, open.record("set:small").0.expire_ms, open.space, b"set:small");
                open.db.put(open.ttl, &entry, ttl::value(false)).unwrap();
            }),
        ),
        (
            "string:small",
            "record does not read",
            Box::new(|open| {
                open.db.put(open.meta, &open.meta_key("string:small"), &[0x0f]).unwrap();
            }),
        ),
        (
            "database 0",
            "count of keys",
            Box::new(|open| {
                open.db.put(open.meta, &open.meta_key("new"), &[1, b'x']).unwrap();
            }),
        ),
        (
            "no, key lost",
            "no database",
            Box::new(|open| {
                let mut key = Vec::new();
                put_key(&mut key, 77, b"lost");
                open.db.put(open.meta, &key, &[1, b'x']).unwrap();
            }),
        ),
        (
            "id 7",
            "no key holds it",
            Box::new(|open| {
                open.db.put(open.data, &data::segment_key(open.space, 7777, 0), b"x").unwrap();
            }),
        ),
        (
            "new",
            "never given out",
            Box::new(|open| {
                let head = Head { id: u64::MAX - 5, ..Head::plain(Kind::Set) };
                let mut body = Vec::new();
                large::Large { count: 1, longest_bytes: 9, mixed: true }.encode(&mut body);
                open.put_record("new", head, &body);
            }),
        ),
    ];
    for (number, (key, what, damage)) in damages.iter().enumerate() {
        let lines = planted.after(&**damage);
        let found = lines.iter().any(|line| line.contains(key) && line.contains(what));
        assert!(found, "damage {number}, {key}: {what}: {lines:#?}");
        // Of other keys nothing is said.
        let of_others = lines.iter().filter(|line| line.contains(", key ") && !line.contains(key));
        assert_eq!(of_others.count(), 0, "{lines:#?}");
    }
    // An id that a hint names may be there.
    let lines = planted.after(&|open| {
        open.db.put(open.data, &data::segment_key(open.space, 3, 0), b"x").unwrap();
        open.db.put(open.system, &system::gc_key(open.space, 3), b"").unwrap();
    });
    assert!(lines.is_empty() || lines.iter().all(|line| !line.contains("id 3 ")), "{lines:#?}");
}

#[test]
fn check_refuses_what_is_no_database() {
    let folder = support::folder::Folder::new("check-nothing");
    let binary = env!("CARGO_BIN_EXE_haypile");
    let output = Command::new(binary).arg("check").arg(folder.path()).output().unwrap();
    assert!(!output.status.success() && String::from_utf8_lossy(&output.stderr).contains("no database"));
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0, "nothing was made");
    let output = Command::new(binary).arg("check").output().unwrap();
    assert!(!output.status.success());
}

// ---- a flipped byte ----

#[test]
fn a_flipped_byte_is_an_error_on_its_keys_only() {
    let program = Program::under_test();
    if program.family == Family::Redis {
        return;
    }
    let mut random = Random::new(seed_from("HAYPILE_CHECK_SEED"));
    let mut server = Server::start("check-flip", &["--memory-budget", "64mb", "--packed-max-elements", "0"]);
    let keys = 24;
    let mut client = server.client();
    for key in 0..keys {
        for number in 0..400 {
            let (score, element) = (number.to_string(), format!("{key}:{number}:{}", random.next()));
            match key % 5 {
                0 => client.queue(&["HSET", &format!("k{key}"), &score, &element]),
                1 => client.queue(&["SADD", &format!("k{key}"), &element]),
                2 => client.queue(&["ZADD", &format!("k{key}"), &score, &element]),
                3 => client.queue(&["RPUSH", &format!("k{key}"), &element]),
                _ => client.queue(&["XADD", &format!("k{key}"), &format!("{}-1", number + 1), "f", &element]),
            }
        }
        client.flush().unwrap();
        (0..400).for_each(|_| drop(client.read().unwrap()));
    }
    let read = |client: &mut Client, key: u64| {
        let name = format!("k{key}");
        client.call(&match key % 5 {
            0 => vec!["HGETALL", &name],
            1 => vec!["SMEMBERS", &name],
            2 => vec!["ZRANGE", &name, "0", "-1", "WITHSCORES"],
            3 => vec!["LRANGE", &name, "0", "-1"],
            _ => vec!["XRANGE", &name, "-", "+"],
        })
    };
    let before: Vec<Value> = (0..keys).map(|key| read(&mut client, key)).collect();
    // Into tables.
    server.terminate();
    server.wait_exit();
    let folder = server.data_folder();
    let open = Open::new(&folder);
    for keyspace in [open.meta, open.data, open.ttl, open.system] {
        open.db.flush(keyspace).unwrap();
        open.db.compact_range(keyspace, None, None).unwrap();
    }
    open.db.close().unwrap();
    all_is_well(&folder, "before");
    let tables: Vec<_> = fs::read_dir(&folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "sst"))
        .collect();
    let largest = tables.iter().max_by_key(|path| fs::metadata(path).unwrap().len()).unwrap();
    let whole = fs::read(largest).unwrap();
    let mut all_damaged = 0;
    for turn in 0..6 {
        let mut bytes = whole.clone();
        // Among the blocks of data, which come first.
        let at = random.below(whole.len() as u64 / 2) as usize;
        bytes[at] ^= 1 << random.below(8);
        fs::write(largest, &bytes).unwrap();
        let (well, lines) = check(&folder);
        assert!(
            !well && lines.iter().any(|line| line.contains("tables")),
            "turn {turn}, byte {at}: {lines:#?}"
        );
        server.restart();
        let mut client = server.client();
        let mut damaged = 0;
        for key in 0..keys {
            match read(&mut client, key) {
                Value::Error(text) => {
                    assert!(text.starts_with(b"ERR"), "{}", text.escape_ascii());
                    damaged += 1;
                }
                answer => assert!(answer == before[key as usize], "k{key} is not what it was"),
            }
        }
        // Not every record is read by these commands (scores by member are not), but all are by check.
        let named = lines.iter().filter(|line| line.contains(", key ")).count();
        assert!(damaged <= named, "turn {turn}, byte {at}: {damaged} keys are damaged: {lines:#?}");
        assert!((1..=4).contains(&named), "turn {turn}, byte {at}: {lines:#?}");
        all_damaged += damaged;
        server.kill();
        fs::write(largest, &whole).unwrap();
    }
    assert!(all_damaged > 0, "no command met any damage");
    server.restart();
    let mut client = server.client();
    assert!((0..keys).all(|key| read(&mut client, key) == before[key as usize]), "all is there again");
}
