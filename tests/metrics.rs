//! `metrics-port`: what Prometheus reads, parsed as strictly as the format is written; and who misuses the port.
#![expect(
    clippy::disallowed_methods,
    reason = "a test outside the server reads clocks and files as any program"
)]

#[expect(dead_code, reason = "each test binary takes its part of what they share")]
mod support;

use std::collections::{BTreeMap, HashSet};
use std::fmt::Write as _;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use support::client::PATIENCE;
use support::server::{Server, free_port};

struct Family {
    kind: String,
    help: String,
    /// Suffix of the name, labels, value.
    samples: Vec<(String, BTreeMap<String, String>, f64)>,
}

fn is_name(text: &str, colon: bool) -> bool {
    !text.is_empty()
        && !text.starts_with(|c: char| c.is_ascii_digit())
        && text.chars().all(|c| c.is_ascii_alphanumeric() || c == '_' || colon && c == ':')
}

/// Labels behind `{`, and what is behind their `}`.
fn labels(mut text: &str) -> Result<(BTreeMap<String, String>, &str), String> {
    let mut found = BTreeMap::new();
    loop {
        if let Some(rest) = text.strip_prefix('}') {
            return Ok((found, rest));
        }
        let (name, rest) = text.split_once("=\"").ok_or("a label without a value")?;
        if !is_name(name, false) || name.starts_with("__") {
            return Err(format!("label {name}"));
        }
        let mut value = String::new();
        let mut chars = rest.char_indices();
        let end = loop {
            match chars.next().ok_or("a value without an end")? {
                (at, '"') => break at + 1,
                (_, '\\') => match chars.next() {
                    Some((_, 'n')) => value.push('\n'),
                    Some((_, c @ ('"' | '\\'))) => value.push(c),
                    other => return Err(format!("escape {other:?}")),
                },
                (_, c) => value.push(c),
            }
        };
        if found.insert(name.to_string(), value).is_some() {
            return Err(format!("label {name} twice"));
        }
        text = &rest[end..];
        match text.strip_prefix(',') {
            Some(rest) => text = rest,
            None if text.starts_with('}') => {}
            None => return Err("no comma between labels".into()),
        }
    }
}

/// The format of Prometheus, version 0.0.4, and beyond it: each family has its help and type once, in this order, and its samples
/// behind them; names say their unit; histograms are cumulated and whole.
fn parse(text: &str) -> Result<BTreeMap<String, Family>, String> {
    let mut families: BTreeMap<String, Family> = BTreeMap::new();
    let mut now = String::new();
    let mut seen = HashSet::new();
    if !text.ends_with('\n') {
        return Err("the last line has no end".into());
    }
    let mut lines = text.lines().peekable();
    while let Some(line) = lines.next() {
        if let Some(rest) = line.strip_prefix("# HELP ") {
            let (name, help) = rest.split_once(' ').ok_or("HELP without a text")?;
            let kind = lines
                .next()
                .and_then(|next| next.strip_prefix(&format!("# TYPE {name} ")))
                .ok_or("no TYPE")?;
            if !is_name(name, true) || !["counter", "gauge", "histogram"].contains(&kind) || help.is_empty() {
                return Err(format!("{name} {kind}"));
            }
            let family = Family { kind: kind.into(), help: help.into(), samples: Vec::new() };
            if families.insert(name.into(), family).is_some() {
                return Err(format!("{name} twice"));
            }
            now = name.into();
            continue;
        }
        let end = line.find(['{', ' ']).ok_or_else(|| format!("line {line}"))?;
        let (name, rest) = line.split_at(end);
        let suffix = name.strip_prefix(now.as_str()).ok_or_else(|| format!("{name} within {now}"))?;
        let (labels, rest) = match rest.strip_prefix('{') {
            Some(rest) => labels(rest).map_err(|why| format!("{line}: {why}"))?,
            None => (BTreeMap::new(), rest),
        };
        let value = rest.strip_prefix(' ').ok_or_else(|| format!("line {line}"))?;
        let value: f64 = value.parse().map_err(|_| format!("value {value}"))?;
        if !seen.insert((name.to_string(), labels.clone())) {
            return Err(format!("{line} twice"));
        }
        let family = families.get_mut(&now).ok_or("a sample without a family")?;
        let known = match family.kind.as_str() {
            "histogram" => ["_bucket", "_sum", "_count"].contains(&suffix),
            _ => suffix.is_empty(),
        };
        if !known {
            return Err(format!("{name} within {now}"));
        }
        family.samples.push((suffix.into(), labels, value));
    }
    for (name, family) in &families {
        check(name, family)?;
    }
    Ok(families)
}

fn check(name: &str, family: &Family) -> Result<(), String> {
    let total = name.ends_with("_total");
    if total != (family.kind == "counter") {
        return Err(format!("{name} is a {}", family.kind));
    }
    for unit in ["_us", "_ms", "_ns", "_kb", "_mb", "_percent"] {
        if name.trim_end_matches("_total").ends_with(unit) {
            return Err(format!("{name} has a unit that is none"));
        }
    }
    for (_, labels, value) in &family.samples {
        if family.kind != "gauge" && !(value.is_finite() && *value >= 0.0) {
            return Err(format!("{name}{labels:?} is {value}"));
        }
    }
    if family.kind != "histogram" {
        return Ok(());
    }
    let mut series: BTreeMap<BTreeMap<String, String>, Vec<(f64, f64)>> = BTreeMap::new();
    for (suffix, labels, value) in &family.samples {
        if suffix == "_bucket" {
            let mut labels = labels.clone();
            let bound = labels.remove("le").ok_or("a bucket without a bound")?;
            let bound = if bound == "+Inf" { f64::INFINITY } else { bound.parse().map_err(|_| bound)? };
            series.entry(labels).or_default().push((bound, *value));
        }
    }
    for (labels, buckets) in series {
        if !buckets.windows(2).all(|two| two[0].0 < two[1].0 && two[0].1 <= two[1].1) {
            return Err(format!("{name}{labels:?} is not cumulated: {buckets:?}"));
        }
        let of = |suffix: &str| {
            let found = family.samples.iter().find(|(own, of, _)| own == suffix && *of == labels);
            found.map(|(_, _, value)| *value).ok_or_else(|| format!("{name}{labels:?} has no {suffix}"))
        };
        let (last, count) = (buckets[buckets.len() - 1], of("_count")?);
        if !last.0.is_infinite() || last.1 != count || of("_sum")? < 0.0 {
            return Err(format!("{name}{labels:?} does not end as it should"));
        }
    }
    Ok(())
}

fn connect(port: u16) -> TcpStream {
    let stream = TcpStream::connect(SocketAddr::from((Ipv4Addr::LOCALHOST, port))).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream
}

fn ask(port: u16, request: &str) -> (String, String) {
    let mut stream = connect(port);
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").expect("a head and a body");
    (head.to_string(), body.to_string())
}

fn metrics(port: u16) -> BTreeMap<String, Family> {
    let (head, body) = ask(port, "GET /metrics HTTP/1.1\r\nHost: localhost\r\nAccept: */*\r\n\r\n");
    assert!(head.starts_with("HTTP/1.1 200 OK\r\n"), "{head}");
    assert!(head.contains("Content-Type: text/plain; version=0.0.4; charset=utf-8"), "{head}");
    assert!(head.contains(&format!("Content-Length: {}", body.len())), "{head}");
    parse(&body).unwrap_or_else(|why| panic!("{why}\n{body}"))
}

fn value(families: &BTreeMap<String, Family>, name: &str, wanted: &[(&str, &str)]) -> f64 {
    let family = families.get(name).unwrap_or_else(|| panic!("no {name}"));
    let matches = |labels: &BTreeMap<String, String>| {
        wanted.iter().all(|(name, value)| labels.get(*name).is_some_and(|own| own == value))
    };
    let found = family
        .samples
        .iter()
        .find(|(suffix, labels, _)| (suffix.is_empty() || suffix == "_count") && matches(labels));
    found.unwrap_or_else(|| panic!("no {name} {wanted:?}")).2
}

fn start(name: &str) -> (Server, u16) {
    let port = free_port();
    let server = Server::start(name, &["--metrics-port", &port.to_string()]);
    (server, port)
}

#[test]
fn the_parser_sees_what_is_wrong() {
    let good = "# HELP a_total b\n# TYPE a_total counter\na_total{x=\"y\\\"\",z=\"\"} 1\na_total 2\n";
    assert!(parse(good).is_ok());
    for bad in [
        "a 1\n",
        "# HELP a b\n# TYPE a gauge\na 1",
        "# HELP a b\n# TYPE a counter\na 1\n",
        "# HELP a_total b\n# TYPE a_total gauge\na_total 1\n",
        "# HELP a b\na 1\n",
        "# HELP a b\n# TYPE a gauge\na 1\na 2\n",
        "# HELP a b\n# TYPE a gauge\na{x=\"1\",x=\"2\"} 1\n",
        "# HELP a b\n# TYPE a gauge\na{x=\"\\y\"} 1\n",
        "# HELP a b\n# TYPE a gauge\na one\n",
        "# HELP a b\n# TYPE a gauge\nb 1\n",
        "# HELP a_ms b\n# TYPE a_ms gauge\na_ms 1\n",
        "# HELP a b\n# TYPE a gauge\na 1\n# HELP a b\n# TYPE a gauge\n",
        "# HELP a b\n# TYPE a histogram\na_bucket{le=\"1\"} 2\na_bucket{le=\"+Inf\"} 1\na_sum 1\na_count 1\n",
        "# HELP a b\n# TYPE a histogram\na_bucket{le=\"1\"} 1\na_sum 1\na_count 1\n",
        "# HELP a b\n# TYPE a histogram\na_bucket{le=\"+Inf\"} 1\na_sum 1\n",
    ] {
        assert!(parse(bad).is_err(), "{bad}");
    }
}

#[test]
fn numbers_are_those_of_the_server() {
    let (server, port) = start("metrics");
    let mut client = server.client();
    for number in 0..1000 {
        client.text(&["SET", &format!("key{number}"), "value"]);
        client.text(&["GET", &format!("key{number}")]);
    }
    client.integer(&["EXPIRE", "key1", "1000"]);
    client.call(&["LPUSH", "key1", "x"]);
    client.call(&["GET"]);
    client.call(&["GET", "missing"]);
    let families = metrics(port);
    let of = |name: &str, labels: &[(&str, &str)]| value(&families, name, labels);
    assert_eq!(of("haypile_commands_total", &[("command", "set")]), 1000.0);
    assert_eq!(of("haypile_commands_total", &[("command", "get")]), 1001.0);
    assert_eq!(of("haypile_commands_failed_total", &[("command", "lpush")]), 1.0);
    assert_eq!(of("haypile_commands_rejected_total", &[("command", "get")]), 1.0);
    assert_eq!(of("haypile_command_duration_seconds", &[("command", "set")]), 1000.0);
    assert_eq!(of("haypile_errors_total", &[("code", "WRONGTYPE")]), 1.0);
    assert_eq!(of("haypile_keys", &[("db", "0")]), 1000.0);
    assert_eq!(of("haypile_keys_with_expiry", &[("db", "0")]), 1.0);
    assert_eq!(of("haypile_connected_clients", &[]), 1.0);
    assert_eq!(of("haypile_keyspace_misses_total", &[]), 1.0);
    assert!(of("haypile_engine_batches_committed_total", &[]) >= 1000.0);
    assert!(of("haypile_engine_wal_written_bytes_total", &[]) > 10_000.0);
    assert!(of("haypile_memory_bytes", &[("part", "memtables")]) > 0.0);
    assert!(of("haypile_memory_resident_bytes", &[]) > 1e6);
    assert_eq!(of("haypile_engine_failed", &[]), 0.0);
    assert_eq!(of("haypile_build_info", &[("redis_version", "7.4.0")]), 1.0);
    let sum = families["haypile_command_duration_seconds"]
        .samples
        .iter()
        .find(|(suffix, labels, _)| suffix == "_sum" && labels["command"] == "set")
        .unwrap()
        .2;
    assert!(sum > 1e-5 && sum < 60.0, "{sum} seconds");
    client.call(&["CONFIG", "RESETSTAT"]);
    let families = metrics(port);
    assert!(
        !families["haypile_commands_total"].samples.iter().any(|(_, labels, _)| labels["command"] == "set")
    );
}

#[test]
fn names_are_documented() {
    let (server, port) = start("metrics-names");
    server.client().text(&["SET", "key", "value"]);
    let families = metrics(port);
    let mut text = String::from(
        "# Metrics\n\nWith `metrics-port N` the server answers `GET /metrics` in Prometheus' text format, on the addresses of `metrics-bind` or, \
         without those, of `bind` as it was at the start: CONFIG SET bind does not move it. A thread of its own answers, at most 32 at a time and each within 5 seconds; workers never wait for it. There is \
         no password on this port: in protected mode and without a password only clients of the same machine are answered.\n\n\
         Generated by `HAYPILE_REWRITE=1 cargo test --test metrics`; do not edit. CONFIG RESETSTAT resets counters of commands, clients and \
         errors. Levels are there for those that hold anything.\n\n| name | type | labels | what |\n|---|---|---|---|\n",
    );
    for (name, family) in &families {
        let labels: &str = match name.as_str() {
            "haypile_build_info" => "version, redis_version",
            "haypile_cpu_seconds_total" => "mode",
            "haypile_memory_bytes" => "part",
            "haypile_errors_total" => "code",
            "haypile_keys" | "haypile_keys_with_expiry" => "db",
            name if name.starts_with("haypile_engine_level_") => "keyspace, level",
            name if name.starts_with("haypile_command_duration") => "command, le",
            "haypile_commands_total"
            | "haypile_commands_failed_total"
            | "haypile_commands_rejected_total" => "command",
            _ => "",
        };
        let known: HashSet<&str> = labels.split(", ").collect();
        for (_, labels, _) in &family.samples {
            assert!(labels.keys().all(|label| known.contains(label.as_str())), "{name} {labels:?}");
        }
        assert!(!family.help.contains("says more of"), "{name} has no help in src/command/metrics.rs");
        let _ = writeln!(text, "| `{name}` | {} | {labels} | {} |", family.kind, family.help);
    }
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("docs/metrics.md");
    if std::env::var_os("HAYPILE_REWRITE").is_some() {
        std::fs::write(&path, text).unwrap();
        return;
    }
    let found = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(found == text, "docs/metrics.md is stale: HAYPILE_REWRITE=1 cargo test --test metrics");
}

#[test]
fn levels_are_told_of() {
    let (server, port) = start("metrics-levels");
    let mut client = server.client();
    client.text(&["SET", "key", "value"]);
    client.text(&["DEBUG", "RELOAD"]);
    let families = metrics(port);
    let files = &families["haypile_engine_level_files"];
    if !files.samples.is_empty() {
        assert!(value(&families, "haypile_engine_level_bytes", &[("level", "0")]) > 0.0);
    }
}

#[test]
fn other_requests_are_answered_in_words() {
    let (_server, port) = start("metrics-http");
    let status = |request: &str| ask(port, request).0.split("\r\n").next().unwrap().to_string();
    assert_eq!(status("GET / HTTP/1.1\r\n\r\n"), "HTTP/1.1 404 Not Found");
    assert_eq!(status("POST /metrics HTTP/1.1\r\n\r\n"), "HTTP/1.1 405 Method Not Allowed");
    assert_eq!(status("nonsense\r\n\r\n"), "HTTP/1.1 400 Bad Request");
    assert_eq!(
        status(&format!("GET /{}", "x".repeat(20_000))),
        "HTTP/1.1 431 Request Header Fields Too Large"
    );
    let (head, body) = ask(port, "HEAD /metrics HTTP/1.1\r\n\r\n");
    assert!(head.starts_with("HTTP/1.1 200 OK") && body.is_empty());
    // Byte after byte.
    let mut stream = connect(port);
    for byte in b"GET /metrics HTTP/1.1\r\n\r\n" {
        stream.write_all(&[*byte]).unwrap();
    }
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 OK"));
}

#[test]
fn who_says_nothing_is_let_go_and_holds_up_nobody() {
    let (server, port) = start("metrics-idle");
    let began = Instant::now();
    let mut idle: Vec<TcpStream> = (0..100).map(|_| connect(port)).collect();
    idle[99].write_all(b"GET /metrics HT").unwrap();
    assert!(began.elapsed() < Duration::from_secs(4));
    metrics(port);
    let mut client = server.client();
    for mut stream in idle {
        let mut answer = Vec::new();
        // A reset is an end, too.
        let _ = stream.read_to_end(&mut answer);
        assert!(answer.is_empty());
    }
    let took = began.elapsed();
    assert!(took > Duration::from_secs(3) && took < Duration::from_secs(30), "{took:?}");
    metrics(port);
    assert_eq!(client.text(&["PING"]), "PONG");
}

#[test]
fn an_address_may_be_named_twice_or_not_be_there() {
    let port = free_port();
    let flags =
        ["--metrics-port", &port.to_string(), "--metrics-bind", "127.0.0.1", "127.0.0.1", "-192.0.2.7"];
    let _server = Server::start("metrics-bind", &flags);
    assert!(ask(port, "GET /metrics HTTP/1.1\r\n\r\n").0.starts_with("HTTP/1.1 200"));
}

#[test]
fn there_are_none_by_default() {
    let server = Server::start("metrics-none", &[]);
    let mut client = server.client();
    let config = support::client::render(&client.call(&["CONFIG", "GET", "metrics-port"]));
    assert!(config.contains('0'), "{config}");
    let threads = std::fs::read_dir(format!("/proc/{}/task", server.pid())).unwrap();
    let names: Vec<String> = threads
        .map(|thread| std::fs::read_to_string(thread.unwrap().path().join("comm")).unwrap_or_default())
        .collect();
    assert!(!names.iter().any(|name| name.trim() == "metrics"), "{names:?}");
}
