//! The redis crate against a server: with-redis-crate PORT PROTOCOL, where the protocol is 2, 3, or `default` for the client's own.
//!
//! Each part is an ordinary use of the client; its own parsing of replies is part of what is tried. Prints one line, or fails.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use redis::streams::{StreamReadOptions, StreamReadReply};
use redis::{Client, Commands, Connection, ProtocolVersion, PushKind, RedisResult, Value};

struct Server {
    client: Client,
    protocol: String,
}

impl Server {
    fn connect(&self) -> Connection {
        let connection = self.client.get_connection().expect("a connection");
        connection.set_read_timeout(Some(Duration::from_secs(30))).expect("a time limit");
        connection
    }
}

fn main() {
    let words: Vec<String> = std::env::args().collect();
    let [_, port, protocol] = &words[..] else { panic!("with-redis-crate PORT PROTOCOL") };
    let url = match protocol.as_str() {
        "3" => format!("redis://127.0.0.1:{port}/?protocol=resp3"),
        "2" => format!("redis://127.0.0.1:{port}/?protocol=resp2"),
        _ => format!("redis://127.0.0.1:{port}/"),
    };
    let server = Server { client: Client::open(url).expect("an address"), protocol: protocol.clone() };
    redis::cmd("FLUSHALL").exec(&mut server.connect()).expect("FLUSHALL");
    let parts: [(&str, fn(&Server) -> RedisResult<()>); 7] = [
        ("values", values),
        ("collections", collections),
        ("pipelines", pipelines),
        ("transactions", transactions),
        ("messages", messages),
        ("streams", streams),
        ("blocking", blocking),
    ];
    for (name, part) in parts {
        part(&server).unwrap_or_else(|error| panic!("{name}: {error}"));
    }
    println!("the redis crate over RESP {protocol}: as expected");
}

fn values(server: &Server) -> RedisResult<()> {
    let mut c = server.connect();
    assert_eq!(redis::cmd("PING").query::<String>(&mut c)?, "PONG");
    c.set::<_, _, ()>("number", 42)?;
    assert_eq!(c.get::<_, i64>("number")?, 42);
    assert_eq!(c.incr::<_, _, i64>("number", 8)?, 50);
    assert_eq!(c.get::<_, Option<String>>("none")?, None);
    let bytes: Vec<u8> = (0..=255).cycle().take(1 << 20).collect();
    c.set::<_, _, ()>("bytes", &bytes[..])?;
    assert!(c.get::<_, Vec<u8>>("bytes")? == bytes);
    c.set_ex::<_, _, ()>("short", "x", 100)?;
    assert!((90..=100).contains(&c.ttl::<_, i64>("short")?));
    assert_eq!(c.mget::<_, (i64, Option<i64>, String)>(&["number", "none", "short"])?, (50, None, "x".into()));
    let wrong = c.lpush::<_, _, i64>("number", 1).unwrap_err();
    assert_eq!(wrong.code(), Some("WRONGTYPE"), "{wrong}");
    let unknown = redis::cmd("NOSUCH").exec(&mut c).unwrap_err();
    assert!(unknown.to_string().contains("unknown command"), "{unknown}");
    assert_eq!(redis::cmd("INCRBYFLOAT").arg("float").arg(0.5).query::<f64>(&mut c)?, 0.5);
    for number in 0..300 {
        c.set::<_, _, ()>(format!("scan:{number}"), number)?;
    }
    let found: HashSet<String> = c.scan_match::<_, String>("scan:*")?.collect::<RedisResult<_>>()?;
    assert_eq!(found.len(), 300);
    let info = redis::cmd("INFO").query::<redis::InfoDict>(&mut c)?;
    assert!(info.get::<String>("redis_version").is_some_and(|version| !version.is_empty()));
    Ok(())
}

fn collections(server: &Server) -> RedisResult<()> {
    let mut c = server.connect();
    c.hset_multiple::<_, _, _, ()>("hash", &[("a", 1), ("b", 2)])?;
    assert_eq!(c.hgetall::<_, BTreeMap<String, i64>>("hash")?, BTreeMap::from([("a".into(), 1), ("b".into(), 2)]));
    assert_eq!(c.hget::<_, _, Option<i64>>("hash", "none")?, None);
    assert_eq!(c.rpush::<_, _, usize>("list", &[1, 2, 3])?, 3);
    assert_eq!(c.lrange::<_, Vec<i64>>("list", 0, -1)?, [1, 2, 3]);
    assert_eq!(c.sadd::<_, _, usize>("set", &["x", "y", "x"])?, 2);
    assert_eq!(c.smembers::<_, HashSet<String>>("set")?, HashSet::from(["x".into(), "y".into()]));
    assert!(c.sismember::<_, _, bool>("set", "x")?);
    c.zadd::<_, _, _, ()>("zset", "half", 0.5)?;
    c.zadd::<_, _, _, ()>("zset", "two", 2)?;
    let scored = c.zrange_withscores::<_, Vec<(String, f64)>>("zset", 0, -1)?;
    assert_eq!(scored, [("half".to_owned(), 0.5), ("two".to_owned(), 2.0)]);
    assert_eq!(c.zscore::<_, _, Option<f64>>("zset", "half")?, Some(0.5));
    let raw: Value = c.hgetall("hash")?;
    assert_eq!(matches!(raw, Value::Map(_)), server.protocol == "3", "{raw:?}");
    Ok(())
}

fn pipelines(server: &Server) -> RedisResult<()> {
    let mut c = server.connect();
    let mut pipe = redis::pipe();
    for number in 0..10_000 {
        pipe.set(format!("pipe:{}", number % 100), number).ignore().incr("total", number);
    }
    let sums: Vec<i64> = pipe.query(&mut c)?;
    assert_eq!((sums.len(), sums[9_999]), (10_000, 9_999 * 10_000 / 2));
    let (number, list): (i64, Vec<i64>) = redis::pipe().get("number").lrange("list", 0, -1).query(&mut c)?;
    assert_eq!((number, list), (50, vec![1, 2, 3]));
    Ok(())
}

/// Several threads add to one number by WATCH: nothing is lost, nobody starves.
fn transactions(server: &Server) -> RedisResult<()> {
    const THREADS: i64 = 4;
    const ROUNDS: i64 = 100;
    let mut c = server.connect();
    let (first, second): (i64, i64) =
        redis::pipe().atomic().set("t", 1).ignore().incr("t", 1).incr("t", 1).query(&mut c)?;
    assert_eq!((first, second), (2, 3));
    std::thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| {
                let mut c = server.connect();
                for _ in 0..ROUNDS {
                    let sum: (i64,) = redis::transaction(&mut c, &["shared"], |c, pipe| {
                        let old: Option<i64> = c.get("shared")?;
                        pipe.set("shared", old.unwrap_or(0) + 1).ignore().get("shared").query(c)
                    })
                    .expect("a transaction");
                    assert!(sum.0 >= 1);
                }
            });
        }
    });
    assert_eq!(c.get::<_, i64>("shared")?, THREADS * ROUNDS);
    // An error inside is that command's only.
    let failed: RedisResult<(i64,)> = redis::pipe().atomic().incr("t", 1).lpush("t", 1).ignore().query(&mut c);
    assert!(failed.is_err());
    assert_eq!(c.get::<_, i64>("t")?, 4);
    Ok(())
}

fn messages(server: &Server) -> RedisResult<()> {
    let (mut subscriber, mut publisher) = (server.connect(), server.connect());
    {
        let mut pubsub = subscriber.as_pubsub();
        pubsub.subscribe("one")?;
        pubsub.psubscribe("t*")?;
        for number in 0..100 {
            assert_eq!(publisher.publish::<_, _, usize>("one", number)?, 1);
            assert_eq!(publisher.publish::<_, _, usize>("two", number)?, 1);
        }
        for number in 0..100 {
            for (channel, by_pattern) in [("one", false), ("two", true)] {
                let message = pubsub.get_message()?;
                assert_eq!(message.get_channel_name(), channel);
                assert_eq!(message.get_payload::<i32>()?, number);
                assert_eq!(message.from_pattern(), by_pattern);
            }
        }
        pubsub.unsubscribe("one")?;
        pubsub.punsubscribe("t*")?;
    }
    assert_eq!(publisher.publish::<_, _, usize>("one", "nobody")?, 0);
    if server.protocol == "3" {
        pushes(server, &mut publisher)?;
    }
    Ok(())
}

/// Messages and invalidations between the replies of one connection.
fn pushes(server: &Server, publisher: &mut Connection) -> RedisResult<()> {
    let mut c = server.connect();
    let (sender, received) = mpsc::channel();
    c.set_push_sender(sender);
    c.subscribe_resp3("three")?;
    redis::cmd("CLIENT").arg("TRACKING").arg("ON").exec(&mut c)?;
    publisher.set::<_, _, ()>("cached", 1)?;
    assert_eq!(c.get::<_, i64>("cached")?, 1);
    publisher.set::<_, _, ()>("cached", 2)?;
    publisher.publish::<_, _, ()>("three", "hello")?;
    let mut kinds = HashMap::new();
    let deadline = Instant::now() + Duration::from_secs(20);
    while !(kinds.contains_key("message") && kinds.contains_key("invalidate")) {
        assert!(Instant::now() < deadline, "no push came: {kinds:?}");
        assert_eq!(redis::cmd("PING").query::<String>(&mut c)?, "PONG");
        for push in received.try_iter() {
            match push.kind {
                PushKind::Message => kinds.insert("message", push.data),
                PushKind::Invalidate => kinds.insert("invalidate", push.data),
                _ => None,
            };
        }
    }
    assert_eq!(c.get::<_, i64>("cached")?, 2);
    assert_eq!(kinds["message"], [Value::BulkString(b"three".to_vec()), Value::BulkString(b"hello".to_vec())]);
    assert_eq!(kinds["invalidate"], [Value::Array(vec![Value::BulkString(b"cached".to_vec())])]);
    Ok(())
}

fn streams(server: &Server) -> RedisResult<()> {
    let mut c = server.connect();
    c.xgroup_create_mkstream::<_, _, _, ()>("stream", "group", "$")?;
    let ids: Vec<String> = (0..10)
        .map(|number| c.xadd("stream", "*", &[("n", number)]))
        .collect::<RedisResult<_>>()?;
    assert!(ids.windows(2).all(|pair| pair[0] != pair[1]));
    let options = StreamReadOptions::default().group("group", "me").count(4);
    let reply: StreamReadReply = c.xread_options(&["stream"], &[">"], &options)?;
    let read: Vec<String> = reply.keys[0].ids.iter().map(|entry| entry.id.clone()).collect();
    assert_eq!(read, ids[..4]);
    assert_eq!(reply.keys[0].ids[3].get::<i64>("n"), Some(3));
    assert_eq!(c.xack::<_, _, _, usize>("stream", "group", &read[..3])?, 3);
    let pending: redis::streams::StreamPendingReply = c.xpending("stream", "group")?;
    assert_eq!(pending.count(), 1);
    let range: redis::streams::StreamRangeReply = c.xrange_all("stream")?;
    assert_eq!(range.ids.len(), 10);
    assert_eq!(c.xlen::<_, usize>("stream")?, 10);
    let nothing: Option<StreamReadReply> =
        c.xread_options(&["stream"], &["$"], &StreamReadOptions::default().block(10))?;
    assert!(nothing.is_none_or(|reply| reply.keys.is_empty()));
    Ok(())
}

fn blocking(server: &Server) -> RedisResult<()> {
    let mut c = server.connect();
    assert_eq!(c.blpop::<_, Option<(String, String)>>("queue", 0.01)?, None);
    std::thread::scope(|scope| {
        let worker = scope.spawn(|| {
            let mut c = server.connect();
            (0..200)
                .map(|_| c.blpop::<_, (String, i64)>("queue", 20.0).expect("BLPOP").1)
                .collect::<Vec<_>>()
        });
        let mut c = server.connect();
        for number in 0..200 {
            c.rpush::<_, _, ()>("queue", number).expect("RPUSH");
        }
        assert_eq!(worker.join().expect("the worker"), (0..200).collect::<Vec<_>>());
        let reader = scope.spawn(|| {
            let mut c = server.connect();
            let options = StreamReadOptions::default().block(20_000);
            let reply: StreamReadReply = c.xread_options(&["late"], &["0"], &options).expect("XREAD");
            reply.keys[0].ids[0].get::<String>("f")
        });
        std::thread::sleep(Duration::from_millis(50));
        c.xadd::<_, _, _, _, ()>("late", "*", &[("f", "v")]).expect("XADD");
        assert_eq!(reader.join().expect("the reader"), Some("v".to_owned()));
    });
    Ok(())
}
