//! What Prometheus reads of a server: the numbers of INFO under names that say their unit, and each command's times as a histogram.
//!
//! Seconds, bytes, and `_total` for what only grows. Families are always there, if with no sample, so that what a dashboard asks for
//! exists from the first moment. Nothing here waits; all is read from the counters that workers and engine keep anyway.
//! The list with its explanations, docs/metrics.md, is made from this.

use crate::base::exposition::{Exposition, Kind};
use crate::command::connection::REDIS_VERSION;
use crate::command::memory_cmd::MemoryParts;
use crate::command::spec::Table;
use crate::session::server_state::ServerState;
use std::sync::atomic::Ordering::Relaxed;

/// The text of an answer to `GET /metrics`.
pub fn render(server: &ServerState, table: &Table) -> String {
    let mut out = Exposition::default();
    process(server, &mut out);
    clients(server, &mut out);
    memory(server, &mut out);
    traffic(server, &mut out);
    commands(server, table, &mut out);
    keyspace(server, &mut out);
    engine(server, &mut out);
    out.finish()
}

fn seconds_of_ms(ms: u64) -> f64 {
    ms as f64 / 1e3
}

fn process(server: &ServerState, out: &mut Exposition) {
    let labels = [("version", env!("CARGO_PKG_VERSION")), ("redis_version", REDIS_VERSION)];
    out.family("haypile_build_info", Kind::Gauge, "Versions of the server; always 1.").sample(&labels, 1);
    let uptime_ms = server.clock.monotonic_ms().saturating_sub(server.started_ms);
    out.single("haypile_uptime_seconds", Kind::Gauge, "Time since the start.", seconds_of_ms(uptime_ms));
    let (system, user) = crate::command::info::cpu_seconds();
    out.family("haypile_cpu_seconds_total", Kind::Counter, "Processor time that the process used.");
    out.sample(&[("mode", "system")], system).sample(&[("mode", "user")], user);
    out.single("haypile_workers", Kind::Gauge, "Threads that serve connections.", server.identity.workers);
}

fn clients(server: &ServerState, out: &mut Exposition) {
    let settings = &server.settings;
    let gauges: [(&str, &str, u64); 7] = [
        ("haypile_connected_clients", "Clients that are connected.", server.clients.len() as u64),
        (
            "haypile_connected_clients_max",
            "The most clients that are let in.",
            settings.clients_max.load(Relaxed),
        ),
        (
            "haypile_blocked_clients",
            "Clients that wait in a blocking command.",
            server.clients.blocked() as u64,
        ),
        (
            "haypile_tracking_clients",
            "Clients that are told of changes to keys they hold.",
            server.publisher.tracking().trackers() as u64,
        ),
        (
            "haypile_pubsub_clients",
            "Clients that are subscribed to something.",
            server.publisher.channels().clients() as u64,
        ),
        ("haypile_watching_clients", "Clients that watch keys.", server.watches.clients() as u64),
        ("haypile_blocking_keys", "Keys that clients wait for.", server.waiters.keys() as u64),
    ];
    for (name, help, value) in gauges {
        out.single(name, Kind::Gauge, help, value);
    }
    let (mut input, mut output) = (0, 0);
    for client in server.clients.all() {
        input += client.query_bytes.load(Relaxed);
        output += client.output_bytes.load(Relaxed);
    }
    let help = "Requests of clients that are not whole yet.";
    out.single("haypile_client_input_bytes", Kind::Gauge, help, input);
    let help = "Answers and messages that clients have not taken yet.";
    out.single("haypile_client_output_bytes", Kind::Gauge, help, output);
}

fn memory(server: &ServerState, out: &mut Exposition) {
    let parts = MemoryParts::look(server);
    let resident = parts.resident;
    let large_requests = server.allowance.usage().charged_bytes as u64;
    out.family(
        "haypile_memory_bytes",
        Kind::Gauge,
        "Where memory is. The parts add up to about what is resident.",
    );
    for (part, bytes) in [
        ("memtables", parts.memtables),
        ("block_cache", parts.block_cache),
        ("key_tables", parts.key_tables),
        ("clients", parts.clients),
        ("large_requests", large_requests),
        ("other", parts.other().saturating_sub(large_requests)),
    ] {
        out.sample(&[("part", part)], bytes);
    }
    let gauges = [
        ("haypile_memory_resident_bytes", "Memory of the process.", resident),
        (
            "haypile_memory_resident_peak_bytes",
            "The most it was.",
            server.stats.memory_peak_bytes.load(Relaxed),
        ),
        (
            "haypile_memory_budget_bytes",
            "memory-budget: caches, memtables, filters and indexes stay within it.",
            server.identity.memory_budget_bytes,
        ),
        (
            "haypile_memory_max_bytes",
            "maxmemory: above it commands that add data are refused; 0 for never.",
            server.settings.memory_max_bytes.load(Relaxed),
        ),
    ];
    for (name, help, value) in gauges {
        out.single(name, Kind::Gauge, help, value);
    }
}

fn traffic(server: &ServerState, out: &mut Exposition) {
    let totals = server.stats.totals();
    let counters = [
        ("haypile_connections_received_total", "Connections that were let in.", totals.connections_received),
        ("haypile_connections_rejected_total", "Connections that were refused.", totals.connections_rejected),
        ("haypile_commands_processed_total", "Commands run.", totals.commands_processed),
        ("haypile_net_input_bytes_total", "Bytes read from clients.", totals.net_input_bytes),
        ("haypile_net_output_bytes_total", "Bytes sent to clients.", totals.net_output_bytes),
        ("haypile_net_reads_total", "Reads from clients' sockets.", totals.reads_processed),
        ("haypile_net_writes_total", "Writes to clients' sockets.", totals.writes_processed),
        ("haypile_keyspace_hits_total", "Reads of keys that were there.", totals.keyspace_hits),
        ("haypile_keyspace_misses_total", "Reads of keys that were not.", totals.keyspace_misses),
        (
            "haypile_expired_keys_total",
            "Keys removed because their time was over.",
            server.store().expired_keys(),
        ),
        (
            "haypile_expired_fields_total",
            "Fields of hashes removed because their time was over.",
            server.store().expired_fields(),
        ),
        (
            "haypile_output_limit_disconnections_total",
            "Clients closed because they did not take their answers.",
            totals.output_limit_disconnections,
        ),
        (
            "haypile_clients_evicted_total",
            "Clients closed because all together took more than maxmemory-clients.",
            totals.clients_evicted,
        ),
        (
            "haypile_query_limit_disconnections_total",
            "Clients closed because a request was too large.",
            totals.query_limit_disconnections,
        ),
        (
            "haypile_command_panics_total",
            "Commands that failed by an error of the server's own.",
            totals.panics,
        ),
        (
            "haypile_commands_offloaded_io_total",
            "Commands that had to wait for the disk, on a pool.",
            totals.commands_offloaded_io,
        ),
        (
            "haypile_commands_offloaded_slow_total",
            "Long commands, run on a pool.",
            totals.commands_offloaded_slow,
        ),
        (
            "haypile_commands_lock_waits_total",
            "Commands that waited for a key that another held.",
            totals.commands_lock_waits,
        ),
        (
            "haypile_commands_delayed_total",
            "Commands delayed because the engine could not keep up.",
            totals.commands_delayed,
        ),
        ("haypile_worker_turns_total", "Turns of the workers' loops.", totals.worker_turns),
    ];
    for (name, help, value) in counters {
        out.single(name, Kind::Counter, help, value);
    }
    out.family("haypile_errors_total", Kind::Counter, "Error replies, by their first word.");
    for (code, count) in server.stats.errors() {
        out.sample(&[("code", &code)], count);
    }
}

/// Histograms reach from 1 microsecond to 2^24, a quarter of a minute.
const BOUND_POWERS: u32 = 24;

fn commands(server: &ServerState, table: &Table, out: &mut Exposition) {
    let all: Vec<_> = table
        .all()
        .map(|command| (command, server.stats.command(command.index)))
        .filter(|(_, totals)| totals.calls + totals.rejected > 0)
        .collect();
    out.family("haypile_commands_total", Kind::Counter, "Calls of each command.");
    for (command, totals) in &all {
        out.sample(&[("command", command.facts.name)], totals.calls);
    }
    let help = "Calls of each command that answered an error.";
    out.family("haypile_commands_failed_total", Kind::Counter, help);
    for (command, totals) in &all {
        out.sample(&[("command", command.facts.name)], totals.failed);
    }
    let help = "Calls of each command that were refused before they ran.";
    out.family("haypile_commands_rejected_total", Kind::Counter, help);
    for (command, totals) in &all {
        out.sample(&[("command", command.facts.name)], totals.rejected);
    }
    let help =
        "How long each command ran, without its wait for the log; not counted while latency-tracking is off.";
    out.family("haypile_command_duration_seconds", Kind::Histogram, help);
    for (command, totals) in &all {
        let Some(found) = server.stats.histogram_us(command.index) else { continue };
        let mut seen = 0;
        let mut rest = found.iter().peekable();
        let mut bounds = Vec::new();
        for power in 0..=BOUND_POWERS {
            while let Some((_, count)) = rest.next_if(|(us, _)| *us <= 1 << power) {
                seen = *count;
            }
            bounds.push(((1u64 << power) as f64 / 1e6, seen));
        }
        let count = found.last().map_or(0, |(_, count)| *count);
        out.histogram(&[("command", command.facts.name)], &bounds, totals.ns as f64 / 1e9, count);
    }
}

fn keyspace(server: &ServerState, out: &mut Exposition) {
    let store = server.store();
    let counts: Vec<(String, u64, u64)> = (0..server.identity.databases)
        .map(|db| (db.to_string(), store.dbsize(db), store.expires(db)))
        .filter(|(_, keys, _)| *keys > 0)
        .collect();
    out.family("haypile_keys", Kind::Gauge, "Keys of each database that has any.");
    for (db, keys, _) in &counts {
        out.sample(&[("db", db)], keys);
    }
    out.family("haypile_keys_with_expiry", Kind::Gauge, "Those of them that will expire.");
    for (db, _, expires) in &counts {
        out.sample(&[("db", db)], expires);
    }
    let save = server.save_state().clone();
    let help = "When the last good checkpoint was made.";
    out.single("haypile_last_checkpoint_timestamp_seconds", Kind::Gauge, help, save.last_unix_s);
    let help = "Whether the last checkpoint succeeded.";
    out.single("haypile_last_checkpoint_succeeded", Kind::Gauge, help, u8::from(save.last_ok));
    let help = "Changes since the last checkpoint.";
    out.single("haypile_changes_since_checkpoint", Kind::Gauge, help, server.stats.totals().dirty);
}

fn engine(server: &ServerState, out: &mut Exposition) {
    let store = server.store();
    let db = store.db();
    let help = "Whether the engine has failed and takes no more writes.";
    out.single("haypile_engine_failed", Kind::Gauge, help, u8::from(db.poisoned().is_some()));
    for (name, value) in db.metrics().iter() {
        let (name, micros) = counter_name(name);
        let help = format!("Engine counter; docs/metrics.md says more of {name}.");
        let help = ENGINE.iter().find(|(own, _)| *own == name).map_or(help.as_str(), |(_, help)| help);
        if micros {
            out.single(&name, Kind::Counter, help, value as f64 / 1e6);
        } else {
            out.single(&name, Kind::Counter, help, value);
        }
    }
    let properties = db.properties();
    for (name, value) in &properties {
        let Some((name, value)) = gauge(name, value) else { continue };
        let help = format!("State of the engine; docs/metrics.md says more of {name}.");
        let help = ENGINE.iter().find(|(own, _)| *own == name).map_or(help.as_str(), |(_, help)| help);
        out.single(&name, Kind::Gauge, help, value);
    }
    let levels: Vec<(&str, &str, &str)> = properties
        .iter()
        .filter_map(|(name, value)| {
            let (keyspace, level) = name.strip_prefix("keyspace_")?.rsplit_once("_level")?;
            level.parse::<u8>().ok()?;
            Some((keyspace, level, value.as_str()))
        })
        .collect();
    for (field, name, help) in [
        ("files", "haypile_engine_level_files", "Tables of each level of each keyspace."),
        ("bytes", "haypile_engine_level_bytes", "Bytes of those tables."),
        ("score", "haypile_engine_level_score", "How full a level is; above 1 it is compacted."),
    ] {
        out.family(name, Kind::Gauge, help);
        for (keyspace, level, value) in &levels {
            let found = value.split(',').find_map(|part| part.strip_prefix(field)?.strip_prefix('='));
            if let Some(number) = found.and_then(|text| text.parse::<f64>().ok()) {
                out.sample(&[("keyspace", keyspace), ("level", level)], number);
            }
        }
    }
}

/// The name of an engine's counter here, and whether it counts microseconds.
fn counter_name(name: &str) -> (String, bool) {
    if let Some(stem) = name.strip_suffix("_us") {
        return (format!("haypile_engine_{stem}_seconds_total"), true);
    }
    for (suffix, done) in [("_bytes_written", "written"), ("_bytes_read", "read")] {
        if let Some(stem) = name.strip_suffix(suffix) {
            return (format!("haypile_engine_{stem}_{done}_bytes_total"), false);
        }
    }
    (format!("haypile_engine_{name}_total"), false)
}

/// The name and value here of what the engine says of its state; `None` if that is no number of the whole engine.
fn gauge(name: &str, value: &str) -> Option<(String, f64)> {
    if name.starts_with("keyspace_") {
        return None;
    }
    let value: f64 = value.parse().ok().filter(|value: &f64| value.is_finite())?;
    let name = name.replace([' ', '-'], "_");
    if let Some(stem) = name.strip_suffix("_ms") {
        return Some((format!("haypile_engine_{stem}_seconds"), value / 1e3));
    }
    if let Some(stem) = name.strip_suffix("_bytes_max") {
        return Some((format!("haypile_engine_{stem}_max_bytes"), value));
    }
    Some((format!("haypile_engine_{name}"), value))
}

/// What the engine's numbers mean.
const ENGINE: &[(&str, &str)] = &[
    ("haypile_engine_batches_committed_total", "Batches committed."),
    ("haypile_engine_entries_committed_total", "Entries in them."),
    ("haypile_engine_wal_written_bytes_total", "Bytes appended to the log."),
    ("haypile_engine_wal_writes_total", "System calls that wrote the log."),
    ("haypile_engine_wal_syncs_total", "Syncs of the log."),
    ("haypile_engine_wal_sync_seconds_total", "Time spent in them."),
    ("haypile_engine_gets_total", "Point reads."),
    ("haypile_engine_gets_from_memtable_total", "Point reads answered by a memtable."),
    ("haypile_engine_reads_needing_io_total", "Point reads that had to be done again with the disk."),
    ("haypile_engine_filter_probes_total", "Questions to filters of tables."),
    ("haypile_engine_filter_negatives_total", "Answers of filters: not there."),
    ("haypile_engine_filter_false_positives_total", "Answers of filters: maybe there, but it was not."),
    ("haypile_engine_cache_hits_total", "Blocks found in the block cache."),
    ("haypile_engine_cache_misses_total", "Blocks that were not."),
    ("haypile_engine_table_read_bytes_total", "Bytes read from tables for reads."),
    ("haypile_engine_flushes_total", "Memtables written to tables."),
    ("haypile_engine_flush_written_bytes_total", "Bytes that they became."),
    ("haypile_engine_compactions_total", "Compactions that merged tables."),
    ("haypile_engine_trivial_moves_total", "Compactions that only moved a table a level down."),
    ("haypile_engine_compaction_read_bytes_total", "Bytes read by compactions."),
    ("haypile_engine_compaction_written_bytes_total", "Bytes written by compactions."),
    (
        "haypile_engine_entries_dropped_total",
        "Entries that flushes and compactions found superseded or deleted.",
    ),
    ("haypile_engine_background_seconds_total", "Time that background jobs ran."),
    ("haypile_engine_write_delay_seconds_total", "Time that writers were asked to wait."),
    ("haypile_engine_write_delay_memtables_seconds_total", "..of that because memtables were full."),
    ("haypile_engine_write_delay_level0_seconds_total", "..of that because the first level had many runs."),
    ("haypile_engine_write_delay_debt_seconds_total", "..of that because compactions were behind."),
    ("haypile_engine_write_delays_total", "Writers that were asked to wait."),
    ("haypile_engine_background_errors_total", "Background jobs that failed and were tried again."),
    ("haypile_engine_files_deleted_total", "Tables deleted."),
    ("haypile_engine_visible_lsn", "Number of the last entry that readers see."),
    ("haypile_engine_written_lsn", "Number of the last entry handed to the system."),
    ("haypile_engine_synced_lsn", "Number of the last entry that is on the disk."),
    ("haypile_engine_wal_bytes", "Size of the log."),
    ("haypile_engine_wal_unsynced_seconds", "Age of the oldest entry that is not on the disk."),
    ("haypile_engine_memtables", "Memtables."),
    ("haypile_engine_immutable_memtables", "Those of them that wait to be written."),
    ("haypile_engine_memtable_entries", "Entries in memtables."),
    ("haypile_engine_memtable_bytes", "Memory of memtables."),
    ("haypile_engine_memtable_max_bytes", "Memory that memtables may take."),
    ("haypile_engine_block_cache_bytes", "Memory of the block cache, filters and indexes included."),
    ("haypile_engine_block_cache_max_bytes", "Memory that it may take."),
    (
        "haypile_engine_cache_hit_ratio",
        "Part of the lookups of blocks that the cache answered, since the start.",
    ),
    ("haypile_engine_compaction_debt_bytes", "Bytes that compactions have still to move."),
    ("haypile_engine_level0_runs", "Sorted runs of the first level, of the keyspace that has most."),
    ("haypile_engine_write_pressure", "How hard writes press: above 0 they are delayed, at 1 stopped."),
    ("haypile_engine_drain_bytes_per_second", "How fast compactions work off what flushes bring."),
    ("haypile_engine_running_flushes", "Flushes that run."),
    ("haypile_engine_running_compactions", "Compactions that run."),
    ("haypile_engine_open_tables", "Tables that are open."),
    ("haypile_engine_open_tables_max", "Tables that may be."),
    ("haypile_engine_snapshots", "Points in time that readers hold on to."),
    ("haypile_engine_oldest_snapshot_lsn", "The oldest of them; 0 if there is none."),
    ("haypile_engine_oldest_snapshot_age_seconds", "How old it is."),
    ("haypile_engine_table_bytes", "Size of all tables."),
    (
        "haypile_engine_write_amplification",
        "Bytes written to the disk for each byte that came in, since the start.",
    ),
    ("haypile_engine_space_amplification", "Size of all tables, to that of the last levels alone."),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_say_their_unit() {
        for (name, wanted) in [
            ("wal_sync_us", ("haypile_engine_wal_sync_seconds_total", true)),
            ("wal_bytes_written", ("haypile_engine_wal_written_bytes_total", false)),
            ("gets", ("haypile_engine_gets_total", false)),
        ] {
            let (found, micros) = counter_name(name);
            assert_eq!((found.as_str(), micros), wanted);
        }
        assert_eq!(
            gauge("oldest_snapshot_age_ms", "1500"),
            Some(("haypile_engine_oldest_snapshot_age_seconds".into(), 1.5))
        );
        assert_eq!(gauge("memtable_bytes_max", "7"), Some(("haypile_engine_memtable_max_bytes".into(), 7.0)));
        assert_eq!(gauge("write_pressure_cause", "none"), None);
        assert_eq!(gauge("keyspace_data_immutable_memtables", "1"), None);
    }
}
