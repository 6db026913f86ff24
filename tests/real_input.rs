//! What a person does on the first day, in small: load a file of commands through `redis-cli --pipe`, lose the process,
//! find everything again, and run redis-benchmark. `benches/real_input.sh` is the same with a million keys.
#![expect(
    clippy::disallowed_methods,
    reason = "a test outside the server reads clocks and files as any program"
)]

#[expect(dead_code, reason = "each test binary takes its part of what they share")]
mod support;

use std::path::Path;
use std::process::{Command, Stdio};

use haypile_resp::Value;

use support::client::encode;
use support::program::redis_tool;
use support::random::{Random, count_from};
use support::server::Server;

fn key(number: u64) -> String {
    format!("user:{number:08}")
}

fn value(number: u64) -> Vec<u8> {
    let mut random = Random::new(number);
    let length = 20 + random.below(160) as usize;
    let mut value = format!("value of {number} ").into_bytes();
    value.extend(random.bytes(length));
    value
}

fn pipe_in(redis_cli: &Path, server: &Server, bytes: &[u8]) -> String {
    let file = server.data_folder().with_file_name("input.resp");
    std::fs::write(&file, bytes).expect("write the input");
    let input = std::fs::File::open(&file).expect("open the input");
    let output = Command::new(redis_cli)
        .args(["-p", &server.port().to_string(), "--pipe"])
        .stdin(Stdio::from(input))
        .output()
        .expect("run redis-cli --pipe");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "redis-cli --pipe: {}\n{text}", output.status);
    text
}

#[test]
fn a_file_of_commands_is_loaded_killed_and_found_again() {
    let Some(redis_cli) = redis_tool("redis-cli") else { return };
    let count = count_from("HAYPILE_REAL_INPUT_KEYS", 30_000);
    let mut server = Server::start("real-input", &["--appendfsync", "always", "--memory-budget", "64mb"]);
    let mut bytes = Vec::new();
    for number in 0..count {
        encode(&mut bytes, &[b"SET".as_slice(), key(number).as_bytes(), &value(number)]);
    }
    let said = pipe_in(&redis_cli, &server, &bytes);
    assert!(said.contains(&format!("errors: 0, replies: {count}")), "{said}");
    let mut client = server.client();
    assert_eq!(client.integer(&["DBSIZE"]), count as i64);
    let digest = client.call(&["DEBUG", "DIGEST"]);
    drop(client);

    server.kill();
    server.restart();
    let mut client = server.client();
    assert_eq!(client.integer(&["DBSIZE"]), count as i64);
    assert_eq!(client.scan_all().len() as u64, count);
    assert_eq!(client.call(&["DEBUG", "DIGEST"]), digest);
    for start in (0..count).step_by(500) {
        let numbers: Vec<u64> = (start..count.min(start + 500)).collect();
        let mut command = vec!["MGET".to_string()];
        command.extend(numbers.iter().copied().map(key));
        let Value::Array(values) = client.call(&command) else { panic!("MGET answers a list") };
        for (number, found) in numbers.into_iter().zip(values) {
            assert_eq!(found, Value::Bulk(value(number)), "{}", key(number));
        }
    }

    // A second time over the same keys: the count stays, the digest too.
    let said = pipe_in(&redis_cli, &server, &bytes);
    assert!(said.contains(&format!("errors: 0, replies: {count}")), "{said}");
    assert_eq!(client.integer(&["DBSIZE"]), count as i64);
    assert_eq!(client.call(&["DEBUG", "DIGEST"]), digest);
}

#[test]
fn redis_benchmark_runs_unchanged() {
    let Some(redis_benchmark) = redis_tool("redis-benchmark") else { return };
    let server = Server::start("benchmark", &["--memory-budget", "64mb"]);
    let output = Command::new(redis_benchmark)
        .args(["-p", &server.port().to_string()])
        .args(["-t", "set,get,incr,mset,ping", "-r", "10000", "-n", "20000", "-d", "100", "-P", "16", "-q"])
        .output()
        .expect("run redis-benchmark");
    let text = String::from_utf8_lossy(&output.stdout);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{}\n{text}\n{errors}", output.status);
    for name in ["PING_INLINE", "PING_MBULK", "SET", "GET", "INCR", "MSET"] {
        assert!(text.contains(name) && text.contains("requests per second"), "{name}: {text}");
    }
    assert!(!text.contains("ERR") && !errors.contains("rror"), "{text}\n{errors}");
    let keys = server.client().integer(&["DBSIZE"]);
    assert!(keys > 5000, "{keys} keys");
}

#[test]
fn redis_cli_speaks_with_it() {
    let Some(redis_cli) = redis_tool("redis-cli") else { return };
    let server = Server::start("cli", &[]);
    let run = |arguments: &[&str]| {
        let output = Command::new(&redis_cli)
            .args(["-p", &server.port().to_string()])
            .args(arguments)
            .output()
            .expect("run redis-cli");
        assert!(output.status.success(), "{arguments:?}: {output:?}");
        String::from_utf8_lossy(&output.stdout).trim_end().to_string()
    };
    assert_eq!(run(&["ping"]), "PONG");
    assert_eq!(run(&["set", "k", "v", "ex", "1000"]), "OK");
    assert_eq!(run(&["-3", "get", "k"]), "v");
    assert_eq!(run(&["-n", "3", "dbsize"]), "0");
    assert_eq!(run(&["--scan", "--pattern", "k*"]), "k");
    assert!(run(&["info", "server"]).contains("redis_version:"));
    assert!(run(&["--json", "hello", "3"]).contains("\"proto\":3"));
    assert!(run(&["--bigkeys"]).contains("Biggest string found"));
    assert!(run(&["--memkeys"]).contains("Sampled 1 keys"));
    assert!(run(&["command", "docs", "get"]).contains("string"));
}
