//! INFO: everything about the server as text, in sections. Reads counters and small locks only; it never waits for anything.

use crate::base::args::is_keyword;
use crate::base::stop::Stop;
use crate::command::connection::REDIS_VERSION;
use crate::command::memory_cmd::MemoryParts;
use crate::command::spec::Context;
use crate::session::channels::SubscriptionKind;
use std::fmt::Write as _;
use std::sync::atomic::Ordering;

const RELAXED: Ordering = Ordering::Relaxed;

/// A section: its name, whether plain INFO shows it, and what writes it.
type Section = (&'static str, bool, fn(&Context<'_>, &mut String));

const SECTIONS: &[Section] = &[
    ("server", true, server),
    ("clients", true, clients),
    ("memory", true, memory),
    ("persistence", true, persistence),
    ("stats", true, stats),
    ("replication", true, replication),
    ("cpu", true, cpu),
    ("modules", true, modules),
    ("commandstats", false, commandstats),
    ("errorstats", true, errorstats),
    ("latencystats", false, latencystats),
    ("cluster", true, cluster),
    ("engine", true, engine),
    ("keyspace", true, keyspace),
];

/// INFO.
pub fn info(ctx: &mut Context<'_>) -> Result<(), Stop> {
    let wanted: Vec<&[u8]> = ctx.args.from(1).collect();
    let any = |word: &str| wanted.iter().any(|wanted| is_keyword(wanted, word));
    let (all, default) = (any("all") || any("everything"), wanted.is_empty() || any("default"));
    let mut text = String::with_capacity(8 << 10);
    for (name, by_default, write) in SECTIONS {
        if all || (default && *by_default) || any(name) {
            if !text.is_empty() {
                text.push_str("\r\n");
            }
            write(ctx, &mut text);
        }
    }
    ctx.reply.verbatim(*b"txt", text.as_bytes());
    Ok(())
}

/// Writes `name:value` lines.
macro_rules! lines {
    ($out:expr, $($name:literal: $value:expr),* $(,)?) => {
        $(let _ = write!($out, concat!($name, ":{}\r\n"), $value);)*
    };
}

fn title(out: &mut String, name: &str) {
    let _ = write!(out, "# {name}\r\n");
}

/// Bytes for people: `1.50M`.
fn human(bytes: u64) -> String {
    let units = [(1u64 << 40, "T"), (1 << 30, "G"), (1 << 20, "M"), (1 << 10, "K")];
    match units.iter().find(|(size, _)| bytes >= *size) {
        Some((size, unit)) => format!("{:.2}{unit}", bytes as f64 / *size as f64),
        None => format!("{bytes}B"),
    }
}

fn server(ctx: &Context<'_>, out: &mut String) {
    let (state, identity) = (ctx.server, &ctx.server.identity);
    let uptime_s = state.clock.monotonic_ms().saturating_sub(state.started_ms) / 1000;
    let system = rustix::system::uname();
    title(out, "Server");
    lines!(out,
        "redis_version": REDIS_VERSION,
        "redis_git_sha1": "00000000",
        "redis_git_dirty": 0,
        "redis_build_id": env!("CARGO_PKG_VERSION"),
        "redis_mode": "standalone",
        "haypile_version": env!("CARGO_PKG_VERSION"),
        "os": format_args!("{} {} {}", system.sysname().to_string_lossy(), system.release().to_string_lossy(),
            system.machine().to_string_lossy()),
        "arch_bits": usize::BITS,
        "monotonic_clock": "POSIX clock_gettime",
        "multiplexing_api": "epoll",
        "process_id": std::process::id(),
        "process_supervised": state.config().text("supervised"),
        "run_id": identity.run_id,
        "tcp_port": match state.config().number("port") {
            0 => state.config().number("tls-port"),
            port => port,
        },
        "server_time_usec": state.clock.unix_us(),
        "uptime_in_seconds": uptime_s,
        "uptime_in_days": uptime_s / 86_400,
        "hz": 10,
        "configured_hz": state.config().number("hz"),
        "lru_clock": (state.clock.unix_ms() / 1000) & 0xff_ffff,
        "worker_threads": identity.workers,
        "executable": identity.executable,
        "config_file": identity.config_file,
        "data_dir": identity.dir.display(),
        "io_threads_active": 0,
    );
    let config = state.config();
    let binds: String =
        config.text("bind").split_ascii_whitespace().map(|name| format!(",bind={name}")).collect();
    let mut listeners = Vec::new();
    for (name, directive) in [("tcp", "port"), ("tls", "tls-port")] {
        if config.number(directive) != 0 {
            listeners.push(format!("name={name}{binds},port={}", config.number(directive)));
        }
    }
    if !config.text("unixsocket").is_empty() {
        listeners.push(format!("name=unix,bind={}", config.text("unixsocket")));
    }
    for (number, listener) in listeners.iter().enumerate() {
        let _ = writeln!(out, "listener{number}:{listener}\r");
    }
}

fn clients(ctx: &Context<'_>, out: &mut String) {
    let state = ctx.server;
    let (mut input, mut output) = (0, 0);
    for client in state.clients.all() {
        input = input.max(client.query_bytes.load(RELAXED));
        output = output.max(client.output_bytes.load(RELAXED));
    }
    let (pause, pause_ms) = state.pause.shown(state.clock.monotonic_ms());
    title(out, "Clients");
    lines!(out,
        "connected_clients": state.clients.len(),
        "cluster_connections": 0,
        "maxclients": state.settings.clients_max.load(RELAXED),
        "client_recent_max_input_buffer": input,
        "client_recent_max_output_buffer": output,
        "blocked_clients": state.clients.blocked(),
        "tracking_clients": state.publisher.tracking().trackers(),
        "pubsub_clients": state.publisher.channels().clients(),
        "watching_clients": state.watches.clients(),
        "clients_in_timeout_table": state.clients.blocked(),
        "total_watched_keys": state.watches.entries(),
        "total_blocking_keys": state.waiters.keys(),
        "total_blocking_keys_on_nokey": 0,
        "peak_clients": state.stats.clients_peak.load(RELAXED),
        "paused_reason": if pause == "none" { "none" } else { "client_pause" },
        "paused_actions": pause,
        "paused_timeout_milliseconds": pause_ms,
    );
}

fn total_system_memory() -> u64 {
    let info = rustix::system::sysinfo();
    info.totalram as u64 * u64::from(info.mem_unit)
}

fn memory(ctx: &Context<'_>, out: &mut String) {
    let state = ctx.server;
    let parts = MemoryParts::look(state);
    let resident = parts.resident;
    let startup = state.stats.memory_startup_bytes.load(RELAXED);
    let net = resident.saturating_sub(startup).max(parts.dataset()).max(1);
    let peak = state.stats.memory_peak_bytes.load(RELAXED);
    let maximum = state.settings.memory_max_bytes.load(RELAXED);
    let total = total_system_memory();
    let large = state.allowance.usage();
    title(out, "Memory");
    lines!(out,
        "used_memory": resident,
        "used_memory_human": human(resident),
        "used_memory_rss": resident,
        "used_memory_rss_human": human(resident),
        "used_memory_peak": peak,
        "used_memory_peak_human": human(peak),
        "used_memory_peak_perc": format_args!("{:.2}%", resident as f64 * 100.0 / peak.max(1) as f64),
        "used_memory_overhead": parts.overhead(),
        "used_memory_startup": startup,
        "used_memory_dataset": parts.dataset(),
        "used_memory_dataset_perc": format_args!("{:.2}%", parts.dataset() as f64 * 100.0 / net as f64),
        "allocator_allocated": resident,
        "allocator_active": resident,
        "allocator_resident": resident,
        "allocator_muzzy": 0,
        "total_system_memory": total,
        "total_system_memory_human": human(total),
        "used_memory_lua": 0,
        "used_memory_vm_eval": 0,
        "used_memory_lua_human": human(0),
        "used_memory_scripts_eval": 0,
        "number_of_cached_scripts": 0,
        "number_of_functions": 0,
        "number_of_libraries": 0,
        "used_memory_vm_functions": 0,
        "used_memory_vm_total": 0,
        "used_memory_vm_total_human": human(0),
        "used_memory_functions": 0,
        "used_memory_scripts": 0,
        "used_memory_scripts_human": human(0),
        "maxmemory": maximum,
        "maxmemory_human": human(maximum),
        "maxmemory_policy": "noeviction",
        "memory_budget": state.identity.memory_budget_bytes,
        "memory_budget_human": human(state.identity.memory_budget_bytes),
        "allocator_frag_ratio": "1.00",
        "allocator_frag_bytes": 0,
        "allocator_rss_ratio": "1.00",
        "allocator_rss_bytes": 0,
        "rss_overhead_ratio": "1.00",
        "rss_overhead_bytes": 0,
        "mem_fragmentation_ratio": "1.00",
        "mem_fragmentation_bytes": 0,
        "mem_not_counted_for_evict": 0,
        "mem_replication_backlog": 0,
        "mem_total_replication_buffers": 0,
        "mem_overhead_db_hashtable_rehashing": 0,
        "mem_clients_slaves": 0,
        "mem_clients_normal": parts.clients,
        "mem_large_requests": large.charged_bytes,
        "mem_large_requests_waiting": large.waiting_bytes,
        "mem_cluster_links": 0,
        "mem_aof_buffer": 0,
        "mem_allocator": "system",
        "active_defrag_running": 0,
        "lazyfree_pending_objects": state.store().reclaims_pending(),
        "lazyfreed_objects": state.store().reclaimed(),
    );
}

fn persistence(ctx: &Context<'_>, out: &mut String) {
    let state = ctx.server;
    let save = state.save_state().clone();
    let now_ms = state.clock.monotonic_ms();
    let running_s = save.running_since_ms.map(|since_ms| now_ms.saturating_sub(since_ms) / 1000);
    let store = state.store();
    let poisoned = store.db().poisoned();
    title(out, "Persistence");
    lines!(out,
        "loading": 0,
        "async_loading": 0,
        "current_cow_peak": 0,
        "current_cow_size": 0,
        "current_cow_size_age": 0,
        "current_fork_perc": "0.00",
        "current_save_keys_processed": 0,
        "current_save_keys_total": 0,
        "rdb_changes_since_last_save": state.stats.totals().dirty,
        "rdb_bgsave_in_progress": u8::from(save.running_since_ms.is_some()),
        "rdb_last_save_time": save.last_unix_s,
        "rdb_last_bgsave_status": if save.last_ok { "ok" } else { "err" },
        "rdb_last_bgsave_time_sec": save.last_duration_s.map_or(-1, |seconds| seconds as i64),
        "rdb_current_bgsave_time_sec": running_s.map_or(-1, |seconds| seconds as i64),
        "rdb_saves": save.saves,
        "rdb_last_cow_size": 0,
        "rdb_last_load_keys_expired": 0,
        "rdb_last_load_keys_loaded": 0,
        "aof_enabled": 1,
        "aof_rewrite_in_progress": 0,
        "aof_rewrite_scheduled": 0,
        "aof_last_rewrite_time_sec": -1,
        "aof_current_rewrite_time_sec": -1,
        "aof_last_bgrewrite_status": "ok",
        "aof_rewrites": 0,
        "aof_rewrites_consecutive_failures": 0,
        "aof_last_write_status": if poisoned.is_some() { "err" } else { "ok" },
        "aof_last_cow_size": 0,
        "module_fork_in_progress": 0,
        "module_fork_last_cow_size": 0,
        "aof_current_size": store.db().metrics().wal_bytes_written,
        "aof_base_size": 0,
        "aof_pending_rewrite": 0,
        "aof_buffer_length": 0,
        "aof_pending_bio_fsync": 0,
        "aof_delayed_fsync": 0,
    );
    if let Some(why) = poisoned {
        lines!(out, "engine_failure": why.replace(['\r', '\n'], " "));
    }
}

fn stats(ctx: &Context<'_>, out: &mut String) {
    let state = ctx.server;
    let (totals, rates) = (state.stats.totals(), state.stats.rates());
    title(out, "Stats");
    lines!(out,
        "total_connections_received": totals.connections_received,
        "total_commands_processed": totals.commands_processed,
        "instantaneous_ops_per_sec": rates.commands.round() as u64,
        "total_net_input_bytes": totals.net_input_bytes,
        "total_net_output_bytes": totals.net_output_bytes,
        "total_net_repl_input_bytes": 0,
        "total_net_repl_output_bytes": 0,
        "instantaneous_input_kbps": format_args!("{:.2}", rates.input_bytes / 1024.0),
        "instantaneous_output_kbps": format_args!("{:.2}", rates.output_bytes / 1024.0),
        "instantaneous_input_repl_kbps": "0.00",
        "instantaneous_output_repl_kbps": "0.00",
        "rejected_connections": totals.connections_rejected,
        "sync_full": 0,
        "sync_partial_ok": 0,
        "sync_partial_err": 0,
        "expired_subkeys": state.store().expired_fields(),
        "expired_keys": state.store().expired_keys(),
        "expired_stale_perc": "0.00",
        "expired_time_cap_reached_count": 0,
        "expire_cycle_cpu_milliseconds": 0,
        "evicted_keys": 0,
        "evicted_clients": totals.clients_evicted,
        "evicted_scripts": 0,
        "total_eviction_exceeded_time": 0,
        "current_eviction_exceeded_time": 0,
        "keyspace_hits": totals.keyspace_hits,
        "keyspace_misses": totals.keyspace_misses,
        "pubsub_channels": state.publisher.channels().names(SubscriptionKind::Channel),
        "pubsub_patterns": state.publisher.channels().names(SubscriptionKind::Pattern),
        "pubsubshard_channels": state.publisher.channels().names(SubscriptionKind::Shard),
        "latest_fork_usec": 0,
        "total_forks": 0,
        "migrate_cached_sockets": 0,
        "slave_expires_tracked_keys": 0,
        "active_defrag_hits": 0,
        "active_defrag_misses": 0,
        "active_defrag_key_hits": 0,
        "active_defrag_key_misses": 0,
        "total_active_defrag_time": 0,
        "current_active_defrag_time": 0,
        "tracking_total_keys": state.publisher.tracking().keys(),
        "tracking_total_items": state.publisher.tracking().items(),
        "tracking_total_prefixes": state.publisher.tracking().prefixes(),
        "unexpected_error_replies": 0,
        "total_error_replies": totals.error_replies,
        "dump_payload_sanitizations": 0,
        "total_reads_processed": totals.reads_processed,
        "total_writes_processed": totals.writes_processed,
        "io_threaded_reads_processed": 0,
        "io_threaded_writes_processed": 0,
        "client_query_buffer_limit_disconnections": totals.query_limit_disconnections,
        "client_output_buffer_limit_disconnections": totals.output_limit_disconnections,
        "reply_buffer_shrinks": 0,
        "reply_buffer_expands": 0,
        "eventloop_cycles": totals.worker_turns,
        "eventloop_duration_sum": 0,
        "eventloop_duration_cmd_sum": 0,
        "instantaneous_eventloop_cycles_per_sec": 0,
        "instantaneous_eventloop_duration_usec": 0,
        "acl_access_denied_auth": 0,
        "acl_access_denied_cmd": 0,
        "acl_access_denied_key": 0,
        "acl_access_denied_channel": 0,
        "command_panics": totals.panics,
        "commands_offloaded_io": totals.commands_offloaded_io,
        "commands_offloaded_slow": totals.commands_offloaded_slow,
        "commands_lock_waits": totals.commands_lock_waits,
        "commands_delayed": totals.commands_delayed,
    );
}

fn replication(ctx: &Context<'_>, out: &mut String) {
    title(out, "Replication");
    lines!(out,
        "role": "master",
        "connected_slaves": 0,
        "master_failover_state": "no-failover",
        "master_replid": ctx.server.identity.replication_id,
        "master_replid2": "0000000000000000000000000000000000000000",
        "master_repl_offset": ctx.server.store().db().visible_lsn(),
        "second_repl_offset": -1,
        "repl_backlog_active": 0,
        "repl_backlog_size": ctx.server.config().number("repl-backlog-size"),
        "repl_backlog_first_byte_offset": 0,
        "repl_backlog_histlen": 0,
    );
}

/// Seconds of processor time, in the system and in user code, of this process.
fn cpu_seconds() -> (f64, f64) {
    let text = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    // The second field is the program's name in brackets and may hold blanks.
    let fields: Vec<&str> = text.rsplit(')').next().unwrap_or_default().split_ascii_whitespace().collect();
    let ticks = |index: usize| fields.get(index).and_then(|field| field.parse::<f64>().ok()).unwrap_or(0.0);
    let per_second = rustix::param::clock_ticks_per_second() as f64;
    (ticks(12) / per_second, ticks(11) / per_second)
}

fn cpu(_: &Context<'_>, out: &mut String) {
    let (system, user) = cpu_seconds();
    title(out, "CPU");
    lines!(out,
        "used_cpu_sys": format_args!("{system:.6}"),
        "used_cpu_user": format_args!("{user:.6}"),
        "used_cpu_sys_children": "0.000000",
        "used_cpu_user_children": "0.000000",
        "used_cpu_sys_main_thread": format_args!("{system:.6}"),
        "used_cpu_user_main_thread": format_args!("{user:.6}"),
    );
}

fn modules(_: &Context<'_>, out: &mut String) {
    title(out, "Modules");
}

fn commandstats(ctx: &Context<'_>, out: &mut String) {
    title(out, "Commandstats");
    for command in ctx.table.all() {
        let totals = ctx.server.stats.command(command.index);
        if totals.calls + totals.rejected == 0 {
            continue;
        }
        let us = totals.ns / 1000;
        let _ = write!(
            out,
            "cmdstat_{}:calls={},usec={us},usec_per_call={:.2},rejected_calls={},failed_calls={}\r\n",
            command.facts.name,
            totals.calls,
            totals.ns as f64 / 1000.0 / totals.calls.max(1) as f64,
            totals.rejected,
            totals.failed,
        );
    }
}

fn errorstats(ctx: &Context<'_>, out: &mut String) {
    title(out, "Errorstats");
    for (code, count) in ctx.server.stats.errors() {
        let _ = write!(out, "errorstat_{code}:count={count}\r\n");
    }
}

fn latencystats(ctx: &Context<'_>, out: &mut String) {
    title(out, "Latencystats");
    let config = ctx.server.config();
    let shown: Vec<&str> =
        config.text("latency-tracking-info-percentiles").split_ascii_whitespace().collect();
    let percents: Vec<f64> = shown.iter().flat_map(|text| text.parse()).collect();
    for command in ctx.table.all() {
        let Some(times) = ctx.server.stats.percentiles(command.index, &percents) else { continue };
        let _ = write!(out, "latency_percentiles_usec_{}:", command.facts.name);
        for (index, (percent, ns)) in shown.iter().zip(times).enumerate() {
            let comma = if index > 0 { "," } else { "" };
            let _ = write!(out, "{comma}p{percent}={:.3}", ns as f64 / 1000.0);
        }
        out.push_str("\r\n");
    }
}

fn cluster(_: &Context<'_>, out: &mut String) {
    title(out, "Cluster");
    lines!(out, "cluster_enabled": 0);
}

fn engine(ctx: &Context<'_>, out: &mut String) {
    let store = ctx.server.store();
    let db = store.db();
    let parts = MemoryParts::look(ctx.server);
    let compaction = ctx.server.compaction().clone();
    title(out, "Engine");
    lines!(out,
        "engine_write_delay_now_us": db.write_delay(1).map_or(0, |delay| delay.as_micros()),
        "engine_commands_on_pools": ctx.server.in_flight.len(),
        "engine_memory_memtables": parts.memtables,
        "engine_memory_block_cache": parts.block_cache,
        "engine_memory_key_tables": parts.key_tables,
        "engine_memory_clients": parts.clients,
        "engine_memory_large_requests": ctx.server.allowance.usage().charged_bytes,
        "engine_memory_other": parts.other(),
        "compact_in_progress": u8::from(compaction.running.is_some()),
        "compact_scope": compaction.running.map_or("none".to_string(), |(scope, _)| scope.to_string()),
        "compact_keyspaces_done": compaction.done,
        "compact_keyspaces_total": compaction.total,
        "compact_current_seconds": compaction.running
            .map_or(0, |(_, since_ms)| ctx.server.clock.monotonic_ms().saturating_sub(since_ms) / 1000),
        "compact_waiting": compaction.waiting.len(),
        "compact_finished": compaction.finished,
        "compact_last_status": if compaction.last_ok { "ok" } else { "err" },
        "compact_last_time_ms": compaction.last_ms.map_or(-1, |ms| ms as i64),
    );
    for (name, value) in db.metrics().iter() {
        let _ = write!(out, "engine_{name}:{value}\r\n");
    }
    for (name, value) in db.properties() {
        let value = value.replace(['\r', '\n'], " ");
        let _ = write!(out, "engine_{}:{value}\r\n", name.replace([' ', '-'], "_"));
    }
}

fn keyspace(ctx: &Context<'_>, out: &mut String) {
    let store = ctx.server.store();
    title(out, "Keyspace");
    for db in 0..ctx.server.identity.databases {
        let keys = store.dbsize(db);
        if keys > 0 {
            let (expires, ttl_ms) = (store.expires(db), store.average_ttl_ms(db));
            let _ = write!(out, "db{db}:keys={keys},expires={expires},avg_ttl={ttl_ms},subexpiry=0\r\n");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_for_people() {
        assert_eq!(human(0), "0B");
        assert_eq!(human(1536), "1.50K");
        assert_eq!(human(5 << 30), "5.00G");
    }

    #[test]
    fn the_process_used_a_processor() {
        let (system, user) = cpu_seconds();
        assert!(system >= 0.0 && user >= 0.0 && system + user < 1e6);
    }
}
