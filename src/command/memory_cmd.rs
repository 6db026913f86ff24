//! MEMORY: where the process's memory is, and what a key takes on the disk. INFO tells of the same parts.

use crate::base::args::is_keyword;
use crate::base::reply_error::ReplyError;
use crate::base::stop::Stop;
use crate::command::spec::Context;
use crate::session::server_state::ServerState;
use crate::types::keys;
use haypile_resp::parse_i64;
use std::fmt::Write as _;
use std::sync::atomic::Ordering::Relaxed;

/// Resident memory of this process, in bytes; 0 if the system does not say.
pub fn resident_bytes() -> u64 {
    let text = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let pages: u64 = text.split(' ').nth(1).and_then(|pages| pages.parse().ok()).unwrap_or(0);
    pages * rustix::param::page_size() as u64
}

/// Where memory is, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MemoryParts {
    /// All of it.
    pub resident: u64,
    /// What is written and not yet in tables.
    pub memtables: u64,
    /// Blocks, filters and indexes of tables.
    pub block_cache: u64,
    /// What is known of keys without looking: which hold plain records, when they were last used.
    pub key_tables: u64,
    /// Buffers and queues of clients.
    pub clients: u64,
}

impl MemoryParts {
    /// Looks; waits for nothing.
    pub fn look(server: &ServerState) -> MemoryParts {
        let resident = resident_bytes();
        server.stats.memory_seen(resident);
        let store = server.store();
        let engine = store.db().memory();
        MemoryParts {
            resident,
            memtables: engine.memtables as u64,
            block_cache: engine.block_cache as u64,
            key_tables: (store.plain_keys().bytes() + store.access_times().bytes()) as u64,
            clients: server.clients.all().iter().map(|client| client.memory_bytes() as u64).sum(),
        }
    }

    /// What holds data that was read or written.
    pub fn dataset(&self) -> u64 {
        (self.memtables + self.block_cache).min(self.resident)
    }

    /// Everything else.
    pub fn overhead(&self) -> u64 {
        self.resident - self.dataset()
    }

    /// What is none of the parts: code, stacks, tables of the server, what the allocator keeps.
    pub fn other(&self) -> u64 {
        self.resident.saturating_sub(self.memtables + self.block_cache + self.key_tables + self.clients)
    }
}

/// MEMORY DOCTOR: what is worth a thought.
pub fn doctor(ctx: &mut Context<'_>) -> Result<(), Stop> {
    let (server, parts) = (ctx.server, MemoryParts::look(ctx.server));
    let budget = server.identity.memory_budget_bytes;
    let maximum = server.settings.memory_max_bytes.load(Relaxed);
    let metrics = server.store().db().metrics();
    let mb = |bytes: u64| bytes >> 20;
    let mut text = String::new();
    // Writing to a String cannot fail.
    if maximum > 0 && parts.resident > maximum / 10 * 9 {
        let _ = writeln!(
            text,
            "* {} MB are in use and maxmemory is {} MB: above it commands that add data are refused. It bounds the process, not the data, \
             which is on the disk; memory-budget says how much caches and memtables take.",
            mb(parts.resident),
            mb(maximum)
        );
    }
    if parts.resident > budget + budget / 2 + (256 << 20) {
        let _ = writeln!(
            text,
            "* {} MB are in use, with a memory-budget of {} MB. {} MB of it belong to clients: CLIENT LIST (tot-mem) names them, \
             maxmemory-clients bounds them.",
            mb(parts.resident),
            mb(budget),
            mb(parts.clients)
        );
    } else if parts.clients > budget / 4 {
        let _ = writeln!(
            text,
            "* Clients take {} MB: some send large requests or do not read their answers. CLIENT LIST (tot-mem, omem) names them, \
             maxmemory-clients bounds them.",
            mb(parts.clients)
        );
    }
    let asked = metrics.cache_hits + metrics.cache_misses;
    if asked > 100_000 && metrics.cache_misses > asked / 5 && parts.block_cache > budget / 3 {
        let _ = writeln!(
            text,
            "* The block cache is full and answers {} of 100 lookups: what is in use does not fit. A larger memory-budget spares the disk.",
            metrics.cache_hits * 100 / asked
        );
    }
    let usage = server.allowance.usage();
    if usage.waiting_bytes > 0 {
        let _ = writeln!(text, "* {} MB of large requests wait for memory.", mb(usage.waiting_bytes as u64));
    }
    let text = match text.as_str() {
        "" => format!(
            "All is well: {} MB in use, with a memory-budget of {} MB. Data lives on the disk; INFO memory and INFO engine show where \
             memory is.\n",
            mb(parts.resident),
            mb(budget)
        ),
        found => format!("Worth a look:\n\n{found}"),
    };
    ctx.reply.verbatim(*b"txt", text.as_bytes());
    Ok(())
}

/// MEMORY MALLOC-STATS: the system's allocator tells nothing; what is known is by part.
pub fn malloc_stats(ctx: &mut Context<'_>) -> Result<(), Stop> {
    let parts = MemoryParts::look(ctx.server);
    let mut text = String::from("Stats not supported for the current allocator. By part, in bytes:\n");
    for (name, bytes) in [
        ("resident", parts.resident),
        ("memtables", parts.memtables),
        ("block cache", parts.block_cache),
        ("tables of keys", parts.key_tables),
        ("clients", parts.clients),
        ("other", parts.other()),
    ] {
        // Writing to a String cannot fail.
        let _ = writeln!(text, "{name:>16} {bytes}");
    }
    ctx.reply.verbatim(*b"txt", text.as_bytes());
    Ok(())
}

/// MEMORY PURGE: the system's allocator gives back what it likes.
pub fn purge(ctx: &mut Context<'_>) -> Result<(), Stop> {
    ctx.reply.ok();
    Ok(())
}

/// MEMORY USAGE: what a key takes on the disk, about, before compression.
pub fn usage(ctx: &mut Context<'_>) -> Result<(), Stop> {
    let mut samples = 5;
    let mut options = ctx.args.options(3);
    while let Some(option) = options.next_word() {
        let value = options.value()?;
        if !is_keyword(option, "SAMPLES") {
            return Err(ReplyError::SYNTAX.into());
        }
        let value = parse_i64(value).ok_or(ReplyError::NOT_AN_INTEGER)?;
        samples = u64::try_from(value).map_err(|_| ReplyError::SYNTAX)?;
    }
    const RECORD_OVERHEAD_BYTES: u64 = 32;
    let key = ctx.args.get(2);
    let at = ctx.txn.at(key)?;
    match keys::value_bytes(ctx.txn, at, samples)? {
        Some(bytes) => ctx.reply.integer((RECORD_OVERHEAD_BYTES + key.len() as u64 + bytes) as i64),
        None => ctx.reply.null(),
    }
    Ok(())
}

/// MEMORY STATS.
pub fn stats(ctx: &mut Context<'_>) -> Result<(), Stop> {
    let parts = MemoryParts::look(ctx.server);
    let store = ctx.server.store();
    let sizes = (0..ctx.server.identity.databases).map(|db| (db, store.dbsize(db)));
    let filled: Vec<(usize, u64)> = sizes.filter(|(_, keys)| *keys > 0).collect();
    let keys: u64 = filled.iter().map(|(_, keys)| keys).sum();
    let peak = ctx.server.stats.memory_peak_bytes.load(Relaxed);
    let startup = ctx.server.stats.memory_startup_bytes.load(Relaxed);
    let (now, net) = (parts.resident, parts.resident.saturating_sub(startup));
    let whole = [
        ("peak.allocated", peak),
        ("total.allocated", now),
        ("startup.allocated", startup),
        ("replication.backlog", 0),
        ("clients.slaves", 0),
        ("clients.normal", parts.clients),
        ("cluster.links", 0),
        ("aof.buffer", 0),
        ("lua.caches", 0),
        ("functions.caches", 0),
        ("overhead.db.hashtable.lut", parts.key_tables),
        ("overhead.db.hashtable.rehashing", 0),
        ("db.dict.rehashing.count", 0),
        ("overhead.total", parts.overhead()),
        ("keys.count", keys),
        ("keys.bytes-per-key", net.checked_div(keys).unwrap_or(0)),
        ("dataset.bytes", parts.dataset()),
        ("engine.memtables", parts.memtables),
        ("engine.block-cache", parts.block_cache),
        ("allocator.allocated", now),
        ("allocator.active", now),
        ("allocator.resident", now),
        ("allocator.muzzy", 0),
        ("allocator-fragmentation.bytes", 0),
        ("allocator-rss.bytes", 0),
        ("rss-overhead.bytes", 0),
        ("fragmentation.bytes", 0),
    ];
    let ratios = [
        ("dataset.percentage", parts.dataset() as f64 * 100.0 / net.max(parts.dataset()).max(1) as f64),
        ("peak.percentage", now as f64 * 100.0 / peak.max(1) as f64),
        ("allocator-fragmentation.ratio", 1.0),
        ("allocator-rss.ratio", 1.0),
        ("rss-overhead.ratio", 1.0),
        ("fragmentation", 1.0),
    ];
    ctx.reply.map(filled.len() + whole.len() + ratios.len());
    for (db, _) in filled {
        // Keys are on the disk: no table of a database's own is in memory.
        ctx.reply.bulk(format!("db.{db}").as_bytes());
        ctx.reply.map(2);
        for name in ["overhead.hashtable.main", "overhead.hashtable.expires"] {
            ctx.reply.bulk(name.as_bytes());
            ctx.reply.integer(0);
        }
    }
    for (name, number) in whole {
        ctx.reply.bulk(name.as_bytes());
        ctx.reply.integer(number as i64);
    }
    for (name, number) in ratios {
        ctx.reply.bulk(name.as_bytes());
        ctx.reply.double(number);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_no_more_than_the_whole() {
        let parts = MemoryParts { resident: 100, memtables: 30, block_cache: 40, key_tables: 10, clients: 5 };
        assert_eq!((parts.dataset(), parts.overhead(), parts.other()), (70, 30, 15));
        // A memtable is counted before its pages are there.
        let young = MemoryParts { resident: 20, ..parts };
        assert_eq!((young.dataset(), young.overhead(), young.other()), (20, 0, 0));
        assert!(resident_bytes() > 1 << 20);
    }
}
