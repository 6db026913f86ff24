//! The table of all directives: those of Redis 7.4, and our own.

use crate::base::directive::{
    Class, Directive, Kind, When, honoured, honoured_start, inert, inert_start, refused, row,
};
use std::collections::HashMap;
use std::sync::OnceLock;

const UINT: Kind = Kind::Integer(0, i64::MAX);
const INT: Kind = Kind::Integer(0, i32::MAX as i64);
const MEMORY: Kind = Kind::Memory(0, u64::MAX >> 1);
/// As Redis says it of what it cannot change; that what is set is set again, as clients do that copy a configuration, is no change.
const IMMUTABLE: &str = "can't set immutable config";
const RESTART: &str = "changing it needs a restart";
const NO_ENCRYPTED_KEYS: &str = "encrypted keys are not supported";
const NO_CLUSTER: &str = "cluster mode is not supported";
const NO_REPLICATION: &str = "replication is not supported";
const NO_EVICTION: &str = "data lives on disk and is never evicted; only noeviction is supported";
const ENDINGS: Kind = Kind::Flags(&["default", "save", "nosave", "now", "force"]);
const PROTECTED: Kind = Kind::Word(&["no", "yes", "local"]);

/// Every directive, by name.
pub static DIRECTIVES: &[Directive] = &[
    honoured("acl-pubsub-default", Kind::Word(&["allchannels", "resetchannels"]), "resetchannels"),
    honoured_start("aclfile", Kind::Text, ""),
    honoured("acllog-max-len", UINT, "128"),
    inert("active-defrag-cycle-max", Kind::Integer(1, 99), "25"),
    inert("active-defrag-cycle-min", Kind::Integer(1, 99), "1"),
    inert("active-defrag-ignore-bytes", MEMORY, "104857600"),
    inert("active-defrag-max-scan-fields", Kind::Integer(1, i64::MAX), "1000"),
    inert("active-defrag-threshold-lower", Kind::Integer(0, 1000), "10"),
    inert("active-defrag-threshold-upper", Kind::Integer(0, 1000), "100"),
    inert("active-expire-effort", Kind::Integer(1, 10), "1"),
    inert("activedefrag", Kind::Bool, "no"),
    inert("activerehashing", Kind::Bool, "yes"),
    inert_start("always-show-logo", Kind::Bool, "no"),
    inert("aof-disable-auto-gc", Kind::Bool, "no"),
    inert("aof-load-truncated", Kind::Bool, "yes"),
    inert("aof-rewrite-incremental-fsync", Kind::Bool, "yes"),
    inert("aof-timestamp-enabled", Kind::Bool, "no"),
    inert("aof-use-rdb-preamble", Kind::Bool, "yes"),
    inert_start("aof-rewrite-cpulist", Kind::Text, "").alias("aof_rewrite_cpulist").fixed(IMMUTABLE),
    inert_start("appenddirname", Kind::Text, "appendonlydir"),
    inert_start("appendfilename", Kind::Text, "appendonly.aof"),
    honoured("appendfsync", Kind::Word(&["everysec", "always", "no"]), "everysec"),
    inert("appendonly", Kind::Bool, "yes"),
    inert("auto-aof-rewrite-min-size", MEMORY, "67108864"),
    inert("auto-aof-rewrite-percentage", INT, "100"),
    inert_start("bgsave-cpulist", Kind::Text, "").alias("bgsave_cpulist").fixed(IMMUTABLE),
    honoured("bind", Kind::Words, "* -::*"),
    inert("bind-source-addr", Kind::Text, ""),
    inert_start("bio-cpulist", Kind::Text, "").alias("bio_cpulist").fixed(IMMUTABLE),
    inert("busy-reply-threshold", UINT, "5000").alias("lua-time-limit"),
    honoured(
        "client-output-buffer-limit",
        Kind::OutputLimits,
        "normal 0 0 0 slave 268435456 67108864 60 pubsub 33554432 8388608 60",
    ),
    honoured("client-query-buffer-limit", Kind::Memory(1 << 20, u64::MAX >> 1), "1073741824"),
    inert("cluster-allow-pubsubshard-when-down", Kind::Bool, "yes"),
    inert("cluster-allow-reads-when-down", Kind::Bool, "no"),
    inert("cluster-allow-replica-migration", Kind::Bool, "yes"),
    inert("cluster-announce-bus-port", Kind::Integer(0, 65535), "0"),
    inert("cluster-announce-hostname", Kind::Text, ""),
    inert("cluster-announce-human-nodename", Kind::Text, ""),
    inert("cluster-announce-ip", Kind::Text, ""),
    inert("cluster-announce-port", Kind::Integer(0, 65535), "0"),
    inert("cluster-announce-tls-port", Kind::Integer(0, 65535), "0"),
    inert_start("cluster-config-file", Kind::Text, "nodes.conf"),
    row("cluster-enabled", Kind::Bool, "no", When::Start, Class::Refused(NO_CLUSTER)),
    inert("cluster-link-sendbuf-limit", MEMORY, "0"),
    inert("cluster-migration-barrier", INT, "1"),
    inert("cluster-node-timeout", UINT, "15000"),
    inert_start("cluster-port", Kind::Integer(0, 65535), "0"),
    inert("cluster-preferred-endpoint-type", Kind::Word(&["ip", "hostname", "unknown-endpoint"]), "ip"),
    inert("cluster-replica-no-failover", Kind::Bool, "no").alias("cluster-slave-no-failover"),
    inert("cluster-replica-validity-factor", INT, "10").alias("cluster-slave-validity-factor"),
    inert("cluster-require-full-coverage", Kind::Bool, "yes"),
    inert("crash-log-enabled", Kind::Bool, "yes"),
    inert("crash-memcheck-enabled", Kind::Bool, "yes"),
    honoured_start("daemonize", Kind::Bool, "no"),
    honoured_start("databases", Kind::Integer(1, 1 << 16), "16"),
    row("dbfilename", Kind::Text, "dump.rdb", When::Protected, Class::Inert),
    row("dir", Kind::Text, "./haypile-data", When::Protected, Class::Honoured).fixed(RESTART),
    inert_start("disable-thp", Kind::Bool, "yes"),
    inert("dynamic-hz", Kind::Bool, "yes"),
    honoured_start("enable-debug-command", PROTECTED, "no"),
    inert_start("enable-module-command", PROTECTED, "no"),
    honoured_start("enable-protected-configs", PROTECTED, "no"),
    inert("hash-max-listpack-entries", UINT, "512").alias("hash-max-ziplist-entries"),
    inert("hash-max-listpack-value", MEMORY, "64").alias("hash-max-ziplist-value"),
    inert("hide-user-data-from-log", Kind::Bool, "no"),
    honoured("hll-sparse-max-bytes", MEMORY, "3000"),
    inert("hz", INT, "10"),
    inert("ignore-warnings", Kind::Text, ""),
    // How many threads run commands that have to wait for the disk.
    honoured_start("io-pool-threads", Kind::Integer(1, 1024), "32").fixed(RESTART),
    inert_start("io-threads", Kind::Integer(1, 128), "1"),
    inert_start("io-threads-do-reads", Kind::Bool, "no"),
    inert("jemalloc-bg-thread", Kind::Bool, "yes"),
    inert("key-load-delay", Kind::Integer(i32::MIN as i64, i32::MAX as i64), "0").hidden(),
    honoured("latency-monitor-threshold", UINT, "0"),
    honoured("latency-tracking", Kind::Bool, "yes"),
    honoured("latency-tracking-info-percentiles", Kind::Words, "50 99 99.9"),
    inert("lazyfree-lazy-eviction", Kind::Bool, "no"),
    inert("lazyfree-lazy-expire", Kind::Bool, "no"),
    inert("lazyfree-lazy-server-del", Kind::Bool, "no"),
    inert("lazyfree-lazy-user-del", Kind::Bool, "no"),
    inert("lazyfree-lazy-user-flush", Kind::Bool, "no"),
    inert("lfu-decay-time", INT, "1"),
    inert("lfu-log-factor", INT, "10"),
    inert("list-compress-depth", INT, "0"),
    inert("list-max-listpack-size", Kind::Integer(i32::MIN as i64, i32::MAX as i64), "-2")
        .alias("list-max-ziplist-size"),
    inert("loading-process-events-interval-bytes", Kind::Memory(1024, i32::MAX as u64), "2097152").hidden(),
    inert("locale-collate", Kind::Text, ""),
    honoured_start("logfile", Kind::Text, ""),
    honoured("loglevel", Kind::Word(&["debug", "verbose", "notice", "warning", "nothing"]), "notice"),
    inert("masterauth", Kind::Text, ""),
    inert("masteruser", Kind::Text, ""),
    inert("max-new-connections-per-cycle", Kind::Integer(1, 1000), "10"),
    inert("max-new-tls-connections-per-cycle", Kind::Integer(1, 1000), "1"),
    honoured("maxclients", Kind::Integer(1, u32::MAX as i64), "10000"),
    honoured("maxmemory", Kind::Memory(0, u64::MAX), "0"),
    honoured("maxmemory-clients", Kind::MemoryOrPercent, "0"),
    inert("maxmemory-eviction-tenacity", Kind::Integer(0, 100), "10"),
    refused(
        "maxmemory-policy",
        Kind::Word(&[
            "volatile-lru",
            "volatile-lfu",
            "volatile-random",
            "volatile-ttl",
            "allkeys-lru",
            "allkeys-lfu",
            "allkeys-random",
            "noeviction",
        ]),
        "noeviction",
        NO_EVICTION,
    ),
    inert("maxmemory-samples", Kind::Integer(1, 64), "5"),
    // Memory for cache, memtables, filters and indexes; 0 for a quarter of the machine's.
    honoured_start("memory-budget", MEMORY, "0").fixed(RESTART),
    // Where Prometheus reads metrics; 0 for nowhere. Without addresses of its own it has those of `bind`.
    honoured_start("metrics-bind", Kind::Words, "").fixed(RESTART),
    honoured_start("metrics-port", Kind::Integer(0, 65535), "0").fixed(RESTART),
    inert("min-replicas-max-lag", INT, "10").alias("min-slaves-max-lag"),
    refused("min-replicas-to-write", INT, "0", NO_REPLICATION).alias("min-slaves-to-write"),
    inert("no-appendfsync-on-rewrite", Kind::Bool, "no"),
    honoured("notify-keyspace-events", Kind::Events, ""),
    inert("oom-score-adj", Kind::Word(&["no", "yes", "relative", "absolute"]), "no"),
    inert("oom-score-adj-values", Kind::Words, "0 200 800"),
    // Up to where a collection stays in its record; with 0 each lies under an id.
    honoured_start("packed-max-bytes", Kind::Integer(0, 16 << 10), "1024").fixed(RESTART),
    honoured_start("packed-max-elements", Kind::Integer(0, 1024), "128").fixed(RESTART),
    honoured_start("pidfile", Kind::Text, ""),
    honoured("port", Kind::Integer(0, 65535), "6379"),
    inert("proc-title-template", Kind::Text, "{title} {listen-addr} {server-mode}"),
    inert("propagation-error-behavior", Kind::Word(&["ignore", "panic", "panic-on-replicas"]), "ignore"),
    honoured("protected-mode", Kind::Bool, "yes"),
    honoured("proto-max-bulk-len", Kind::Memory(1 << 20, 512 << 20), "536870912"),
    inert("rdb-del-sync-files", Kind::Bool, "no"),
    inert("rdb-key-save-delay", Kind::Integer(i32::MIN as i64, i32::MAX as i64), "0").hidden(),
    inert("rdb-save-incremental-fsync", Kind::Bool, "yes"),
    inert_start("rdbchecksum", Kind::Bool, "yes"),
    inert("rdbcompression", Kind::Bool, "yes"),
    inert("repl-backlog-size", Kind::Memory(1, u64::MAX >> 1), "1048576"),
    inert("repl-backlog-ttl", UINT, "3600"),
    inert("repl-disable-tcp-nodelay", Kind::Bool, "no"),
    inert("repl-diskless-load", Kind::Word(&["disabled", "on-empty-db", "swapdb"]), "disabled"),
    inert("repl-diskless-sync", Kind::Bool, "yes"),
    inert("repl-diskless-sync-delay", INT, "5"),
    inert("repl-diskless-sync-max-replicas", INT, "0"),
    inert("repl-ping-replica-period", Kind::Integer(1, i32::MAX as i64), "10")
        .alias("repl-ping-slave-period"),
    inert("repl-timeout", Kind::Integer(1, i32::MAX as i64), "60"),
    inert("replica-announce-ip", Kind::Text, "").alias("slave-announce-ip"),
    inert("replica-announce-port", Kind::Integer(0, 65535), "0").alias("slave-announce-port"),
    inert("replica-announced", Kind::Bool, "yes"),
    inert("replica-ignore-disk-write-errors", Kind::Bool, "no"),
    inert("replica-ignore-maxmemory", Kind::Bool, "yes").alias("slave-ignore-maxmemory"),
    inert("replica-lazy-flush", Kind::Bool, "no").alias("slave-lazy-flush"),
    inert("replica-priority", INT, "100").alias("slave-priority"),
    inert("replica-read-only", Kind::Bool, "yes").alias("slave-read-only"),
    inert("replica-serve-stale-data", Kind::Bool, "yes").alias("slave-serve-stale-data"),
    row("replicaof", Kind::Words, "", When::Start, Class::Refused(NO_REPLICATION)).alias("slaveof"),
    honoured("requirepass", Kind::Text, ""),
    inert("sanitize-dump-payload", Kind::Word(&["no", "yes", "clients"]), "no"),
    inert("save", Kind::Save, "3600 1 300 100 60 10000"),
    inert_start("server-cpulist", Kind::Text, "").alias("server_cpulist").fixed(IMMUTABLE),
    inert("set-max-intset-entries", UINT, "512"),
    inert("set-max-listpack-entries", UINT, "128"),
    inert("set-max-listpack-value", UINT, "64"),
    inert_start("set-proc-title", Kind::Bool, "yes"),
    honoured("shutdown-on-sigint", ENDINGS, "default"),
    honoured("shutdown-on-sigterm", ENDINGS, "default"),
    honoured("shutdown-timeout", INT, "10"),
    // How many threads run long commands; 0 for half the cores.
    honoured_start("slow-pool-threads", Kind::Integer(0, 1024), "0").fixed(RESTART),
    honoured("slowlog-log-slower-than", Kind::Integer(-1, i64::MAX), "10000"),
    honoured("slowlog-max-len", UINT, "128"),
    inert_start("socket-mark-id", Kind::Integer(0, u32::MAX as i64), "0").fixed(IMMUTABLE),
    inert("stop-writes-on-bgsave-error", Kind::Bool, "yes"),
    inert("stream-node-max-bytes", MEMORY, "4096"),
    honoured("stream-node-max-entries", UINT, "100"),
    honoured_start("supervised", Kind::Word(&["no", "upstart", "systemd", "auto"]), "no"),
    inert_start("syslog-enabled", Kind::Bool, "no"),
    inert_start(
        "syslog-facility",
        Kind::Word(&["user", "local0", "local1", "local2", "local3", "local4", "local5", "local6", "local7"]),
        "local0",
    ),
    inert_start("syslog-ident", Kind::Text, "redis"),
    honoured_start("tcp-backlog", INT, "511"),
    honoured("tcp-keepalive", INT, "300"),
    honoured("timeout", INT, "0"),
    honoured("tls-auth-clients", Kind::Word(&["no", "yes", "optional"]), "yes"),
    honoured("tls-ca-cert-dir", Kind::Text, ""),
    honoured("tls-ca-cert-file", Kind::Text, ""),
    honoured("tls-cert-file", Kind::Text, ""),
    honoured("tls-ciphers", Kind::Text, ""),
    honoured("tls-ciphersuites", Kind::Text, ""),
    inert("tls-client-cert-file", Kind::Text, ""),
    inert("tls-client-key-file", Kind::Text, ""),
    refused("tls-client-key-file-pass", Kind::Text, "", NO_ENCRYPTED_KEYS),
    inert("tls-cluster", Kind::Bool, "no"),
    inert("tls-dh-params-file", Kind::Text, ""),
    honoured("tls-key-file", Kind::Text, ""),
    refused("tls-key-file-pass", Kind::Text, "", NO_ENCRYPTED_KEYS),
    honoured("tls-port", Kind::Integer(0, 65535), "0"),
    honoured("tls-prefer-server-ciphers", Kind::Bool, "no"),
    honoured("tls-protocols", Kind::Text, ""),
    inert("tls-replication", Kind::Bool, "no"),
    honoured("tls-session-cache-size", INT, "20480"),
    inert("tls-session-cache-timeout", INT, "300"),
    honoured("tls-session-caching", Kind::Bool, "yes"),
    honoured("tracking-table-max-keys", UINT, "1000000"),
    honoured_start("unixsocket", Kind::Text, ""),
    honoured_start("unixsocketperm", Kind::Octal, "0"),
    inert("use-exit-on-panic", Kind::Bool, "no").hidden(),
    inert("watchdog-period", INT, "0").hidden(),
    // Threads that serve connections; 0 for three quarters of the cores.
    honoured_start("workers", Kind::Integer(0, 1024), "0").fixed(RESTART),
    inert("zset-max-listpack-entries", UINT, "128").alias("zset-max-ziplist-entries"),
    inert("zset-max-listpack-value", MEMORY, "64").alias("zset-max-ziplist-value"),
];

/// Directives that only a file or the command line may hold, all refused, with the reason.
pub const REFUSED_IN_FILES: &[(&str, &str)] = &[("loadmodule", "modules are not supported")];

fn names() -> &'static HashMap<&'static str, usize> {
    static NAMES: OnceLock<HashMap<&'static str, usize>> = OnceLock::new();
    NAMES.get_or_init(|| {
        let mut names = HashMap::new();
        for (index, directive) in DIRECTIVES.iter().enumerate() {
            names.insert(directive.name, index);
            if let Some(alias) = directive.alias {
                names.insert(alias, index);
            }
        }
        names
    })
}

/// Where in the table the directive of this name or alias is, in any case.
pub fn find(name: &str) -> Option<usize> {
    names().get(name).copied().or_else(|| names().get(name.to_ascii_lowercase().as_str()).copied())
}
