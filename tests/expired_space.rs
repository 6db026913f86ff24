//! Space comes back from what has expired, with nobody asking for it: a database that keeps little is filled with keys of a short life,
//! then left alone.
//!
//! Normally a few seconds: `HAYPILE_EXPIRING_BYTES=5000000000 HAYPILE_LIFE_S=60` is the long form, which has thirty minutes.

#![expect(
    clippy::disallowed_methods,
    reason = "a test outside the server reads clocks and starts threads as any program"
)]

#[expect(dead_code, reason = "each test takes its part of the support")]
mod support;

use std::path::Path;
use std::time::{Duration, Instant};
use support::client::Client;
use support::random::{Random, count_from};
use support::server::Server;

const VALUE_BYTES: usize = 256;
const PIPELINE: usize = 500;

/// Bytes of all tables in a folder.
fn table_bytes(folder: &Path) -> u64 {
    let Ok(entries) = std::fs::read_dir(folder) else { return 0 };
    let bytes_of = |entry: std::fs::DirEntry| match entry.file_type() {
        Ok(kind) if kind.is_dir() => table_bytes(&entry.path()),
        _ if entry.path().extension().is_some_and(|extension| extension == "sst") => {
            entry.metadata().map_or(0, |found| found.len())
        }
        _ => 0,
    };
    entries.flatten().map(bytes_of).sum()
}

/// Words that do not compress to nothing.
fn value(random: &mut Random) -> String {
    (0..VALUE_BYTES / 16).map(|_| format!("{:016x}", random.next())).collect()
}

fn send(client: &mut Client, random: &mut Random, prefix: &str, from: usize, life: Option<&str>) {
    for key in from..from + PIPELINE {
        let (key, value) = (format!("{prefix}:{key:09}"), value(random));
        match life {
            Some(seconds) => client.queue(&["SET", &key, &value, "EX", seconds]),
            None => client.queue(&["SET", &key, &value]),
        }
    }
    client.flush().unwrap();
    (0..PIPELINE).for_each(|_| drop(client.read().unwrap()));
}

#[test]
fn what_has_expired_gives_its_space_back() {
    let bytes = count_from("HAYPILE_EXPIRING_BYTES", 40_000_000) as usize;
    let life = count_from("HAYPILE_LIFE_S", 2);
    let limit = Duration::from_secs(if life >= 60 { 1800 } else { 90 });
    let budget = if bytes > 1_000_000_000 { "512mb" } else { "64mb" };
    let server = Server::start("expired-space", &["--memory-budget", budget]);
    let (mut client, mut random) = (server.client(), Random::new(7));
    // What stays is written between the rest.
    let (count, keep) = (bytes / VALUE_BYTES, (bytes / 10).max(40_000_000) / VALUE_BYTES);
    let (mut sent, mut kept) = (0, 0);
    while sent < count || kept < keep {
        if kept * count <= sent * keep {
            send(&mut client, &mut random, "kept", kept, None);
            kept += PIPELINE;
        } else {
            send(&mut client, &mut random, "short", sent, Some(&life.to_string()));
            sent += PIPELINE;
        }
    }
    let filled = Instant::now();
    let full = table_bytes(&server.data_folder());
    // What the same live data takes in a folder of its own.
    let alone = {
        let other = Server::start("expired-space-alone", &["--memory-budget", "64mb"]);
        let mut client = other.client();
        (0..kept).step_by(PIPELINE).for_each(|from| send(&mut client, &mut random, "kept", from, None));
        client.call(&["COMPACT"]);
        let settled = || table_bytes(&other.data_folder());
        let mut last = settled();
        loop {
            std::thread::sleep(Duration::from_millis(1000));
            let now = settled();
            if now == last && now as usize > kept * VALUE_BYTES / 2 {
                break now;
            }
            last = now;
        }
    };
    let mut used = table_bytes(&server.data_folder());
    while used * 10 > alone * 12 {
        assert!(
            filled.elapsed() < limit,
            "{used} bytes for {alone} live, {:?} after the last write",
            filled.elapsed()
        );
        std::thread::sleep(Duration::from_millis(200));
        used = table_bytes(&server.data_folder());
    }
    println!(
        "{full} bytes when the last was written, {used} for {alone} of live data after {:?}",
        filled.elapsed()
    );
    assert_eq!(client.scan_all().len(), kept);
    // What blind writes believed wrongly is put right when there are no more of them, and the last count is some time ago.
    while client.integer(&["DBSIZE"]) as usize != kept {
        assert!(filled.elapsed() < limit, "the count is wrong");
        std::thread::sleep(Duration::from_millis(200));
    }
}
