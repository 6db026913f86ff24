//! The configuration: redis.conf's grammar and names, every directive of Redis 7.4 in one table.
//!
//! Each directive has a class. *Honoured*: it does what it does in Redis, or is our own. *Inert*: accepted, kept, shown by CONFIG GET,
//! without effect here (the start says which ones were given). *Refused*: any value but the default would break safety or meaning,
//! and the reason is said. Values are kept in the form CONFIG GET shows; whoever needs a number reads it when the configuration
//! changes, not for every command.
//!
//! This file touches no disk: [`Config::apply_file`] is given the text, and a callback that reads included files.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::sync::OnceLock;

/// What becomes of a directive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// It has its effect.
    Honoured,
    /// It is accepted and has none.
    Inert,
    /// Only its default is accepted; why.
    Refused(&'static str),
}

/// When a directive may change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum When {
    /// At start and by CONFIG SET.
    Always,
    /// At start only.
    Start,
    /// At start only, because changing it remotely would be dangerous.
    Protected,
    /// At start only; CONFIG SET to the value that it has is fine, to another says this.
    Fixed(&'static str),
}

/// How a value is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// `yes` or `no`.
    Bool,
    /// A whole number within bounds.
    Integer(i64, i64),
    /// A number of bytes, with `k`, `kb`, `m`, .. allowed.
    Memory(u64, u64),
    /// As `Memory`, or a percentage.
    MemoryOrPercent,
    /// One of these words.
    Word(&'static [&'static str]),
    /// Anything.
    Text,
    /// Any number of words.
    Words,
    /// Pairs of seconds and changes.
    Save,
    /// Class and three numbers, several times.
    OutputLimits,
    /// The letters of keyspace events.
    Events,
    /// An octal number.
    Octal,
}

/// One directive.
#[derive(Debug)]
pub struct Directive {
    /// Its name.
    pub name: &'static str,
    /// Its older name.
    pub alias: Option<&'static str>,
    /// How its value is written.
    pub kind: Kind,
    /// Its default, in the form CONFIG GET shows.
    pub default: &'static str,
    /// When it may change.
    pub when: When,
    /// What becomes of it.
    pub class: Class,
    /// Whether only its full name shows it.
    pub hidden: bool,
}

const fn row(name: &'static str, kind: Kind, default: &'static str, when: When, class: Class) -> Directive {
    Directive { name, alias: None, kind, default, when, class, hidden: false }
}

const fn honoured(name: &'static str, kind: Kind, default: &'static str) -> Directive {
    row(name, kind, default, When::Always, Class::Honoured)
}

const fn honoured_start(name: &'static str, kind: Kind, default: &'static str) -> Directive {
    row(name, kind, default, When::Start, Class::Honoured)
}

const fn inert(name: &'static str, kind: Kind, default: &'static str) -> Directive {
    row(name, kind, default, When::Always, Class::Inert)
}

const fn inert_start(name: &'static str, kind: Kind, default: &'static str) -> Directive {
    row(name, kind, default, When::Start, Class::Inert)
}

const fn refused(name: &'static str, kind: Kind, default: &'static str, reason: &'static str) -> Directive {
    row(name, kind, default, When::Always, Class::Refused(reason))
}

impl Directive {
    const fn alias(mut self, alias: &'static str) -> Directive {
        self.alias = Some(alias);
        self
    }

    const fn hidden(mut self) -> Directive {
        self.hidden = true;
        self
    }

    const fn fixed(mut self, why: &'static str) -> Directive {
        self.when = When::Fixed(why);
        self
    }
}

const UINT: Kind = Kind::Integer(0, i64::MAX);
const INT: Kind = Kind::Integer(0, i32::MAX as i64);
const MEMORY: Kind = Kind::Memory(0, u64::MAX >> 1);
const RESTART: &str = "changing it needs a restart";
const NO_TLS: &str = "TLS is not supported";
const NO_CLUSTER: &str = "cluster mode is not supported";
const NO_REPLICATION: &str = "replication is not supported";
const NO_EVICTION: &str = "data lives on disk and is never evicted; only noeviction is supported";
const PROTECTED: Kind = Kind::Word(&["no", "yes", "local"]);

/// Every directive, by name.
pub static DIRECTIVES: &[Directive] = &[
    inert("acl-pubsub-default", Kind::Word(&["allchannels", "resetchannels"]), "resetchannels"),
    row("aclfile", Kind::Text, "", When::Start, Class::Refused("ACL users are not supported")),
    inert("acllog-max-len", UINT, "128"),
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
    inert_start("aof-rewrite-cpulist", Kind::Text, "").alias("aof_rewrite_cpulist").fixed(RESTART),
    inert_start("appenddirname", Kind::Text, "appendonlydir"),
    inert_start("appendfilename", Kind::Text, "appendonly.aof"),
    honoured("appendfsync", Kind::Word(&["everysec", "always", "no"]), "everysec"),
    inert("appendonly", Kind::Bool, "yes"),
    inert("auto-aof-rewrite-min-size", MEMORY, "67108864"),
    inert("auto-aof-rewrite-percentage", INT, "100"),
    inert_start("bgsave-cpulist", Kind::Text, "").alias("bgsave_cpulist").fixed(RESTART),
    honoured_start("bind", Kind::Words, "127.0.0.1")
        .fixed("Failed to bind to specified addresses: changing them needs a restart."),
    inert("bind-source-addr", Kind::Text, ""),
    inert_start("bio-cpulist", Kind::Text, "").alias("bio_cpulist").fixed(RESTART),
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
    inert_start("daemonize", Kind::Bool, "no"),
    honoured_start("databases", Kind::Integer(1, 1 << 16), "16"),
    row("dbfilename", Kind::Text, "dump.rdb", When::Protected, Class::Inert),
    row("dir", Kind::Text, "./haypile-data", When::Protected, Class::Honoured),
    inert_start("disable-thp", Kind::Bool, "yes"),
    inert("dynamic-hz", Kind::Bool, "yes"),
    honoured_start("enable-debug-command", PROTECTED, "no"),
    inert_start("enable-module-command", PROTECTED, "no"),
    honoured_start("enable-protected-configs", PROTECTED, "no"),
    inert("hash-max-listpack-entries", UINT, "512").alias("hash-max-ziplist-entries"),
    inert("hash-max-listpack-value", UINT, "64").alias("hash-max-ziplist-value"),
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
    honoured("maxmemory", MEMORY, "0"),
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
    inert("min-replicas-max-lag", INT, "10").alias("min-slaves-max-lag"),
    refused("min-replicas-to-write", INT, "0", NO_REPLICATION).alias("min-slaves-to-write"),
    inert("no-appendfsync-on-rewrite", Kind::Bool, "no"),
    honoured("notify-keyspace-events", Kind::Events, ""),
    inert_start("oom-score-adj", Kind::Word(&["no", "yes", "relative", "absolute"]), "no"),
    inert("oom-score-adj-values", Kind::Words, "0 200 800"),
    // Up to where a collection stays in its record; with 0 each lies under an id.
    honoured_start("packed-max-bytes", Kind::Integer(0, 16 << 10), "1024").fixed(RESTART),
    honoured_start("packed-max-elements", Kind::Integer(0, 1024), "128").fixed(RESTART),
    honoured_start("pidfile", Kind::Text, ""),
    honoured_start("port", Kind::Integer(0, 65535), "6379")
        .fixed("Unable to listen on this port: changing it needs a restart."),
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
    inert_start("server-cpulist", Kind::Text, "").alias("server_cpulist").fixed(RESTART),
    inert("set-max-intset-entries", UINT, "512"),
    inert("set-max-listpack-entries", UINT, "128"),
    inert("set-max-listpack-value", UINT, "64"),
    inert_start("set-proc-title", Kind::Bool, "yes"),
    inert("shutdown-on-sigint", Kind::Words, "default"),
    inert("shutdown-on-sigterm", Kind::Words, "default"),
    honoured("shutdown-timeout", INT, "10"),
    // How many threads run long commands; 0 for half the cores.
    honoured_start("slow-pool-threads", Kind::Integer(0, 1024), "0").fixed(RESTART),
    honoured("slowlog-log-slower-than", Kind::Integer(-1, i64::MAX), "10000"),
    honoured("slowlog-max-len", UINT, "128"),
    inert("socket-mark-id", UINT, "0"),
    inert("stop-writes-on-bgsave-error", Kind::Bool, "yes"),
    inert("stream-node-max-bytes", MEMORY, "4096"),
    honoured("stream-node-max-entries", UINT, "100"),
    inert_start("supervised", Kind::Word(&["no", "upstart", "systemd", "auto"]), "no"),
    inert_start("syslog-enabled", Kind::Bool, "no"),
    inert_start("syslog-facility", Kind::Text, "local0"),
    inert_start("syslog-ident", Kind::Text, "redis"),
    honoured_start("tcp-backlog", INT, "511"),
    honoured("tcp-keepalive", INT, "300"),
    honoured("timeout", INT, "0"),
    refused("tls-auth-clients", Kind::Word(&["no", "yes", "optional"]), "yes", NO_TLS),
    refused("tls-ca-cert-dir", Kind::Text, "", NO_TLS),
    refused("tls-ca-cert-file", Kind::Text, "", NO_TLS),
    refused("tls-cert-file", Kind::Text, "", NO_TLS),
    refused("tls-ciphers", Kind::Text, "", NO_TLS),
    refused("tls-ciphersuites", Kind::Text, "", NO_TLS),
    refused("tls-client-cert-file", Kind::Text, "", NO_TLS),
    refused("tls-client-key-file", Kind::Text, "", NO_TLS),
    refused("tls-client-key-file-pass", Kind::Text, "", NO_TLS),
    refused("tls-cluster", Kind::Bool, "no", NO_TLS),
    refused("tls-dh-params-file", Kind::Text, "", NO_TLS),
    refused("tls-key-file", Kind::Text, "", NO_TLS),
    refused("tls-key-file-pass", Kind::Text, "", NO_TLS),
    refused("tls-port", Kind::Integer(0, 65535), "0", NO_TLS),
    refused("tls-prefer-server-ciphers", Kind::Bool, "no", NO_TLS),
    refused("tls-protocols", Kind::Text, "", NO_TLS),
    refused("tls-replication", Kind::Bool, "no", NO_TLS),
    refused("tls-session-cache-size", INT, "20480", NO_TLS),
    refused("tls-session-cache-timeout", INT, "300", NO_TLS),
    refused("tls-session-caching", Kind::Bool, "yes", NO_TLS),
    honoured("tracking-table-max-keys", UINT, "1000000"),
    row("unixsocket", Kind::Text, "", When::Start, Class::Inert),
    row("unixsocketperm", Kind::Octal, "0", When::Start, Class::Inert),
    inert("use-exit-on-panic", Kind::Bool, "no").hidden(),
    inert("watchdog-period", INT, "0").hidden(),
    // Threads that serve connections; 0 for three quarters of the cores.
    honoured_start("workers", Kind::Integer(0, 1024), "0").fixed(RESTART),
    inert("zset-max-listpack-entries", UINT, "128").alias("zset-max-ziplist-entries"),
    inert("zset-max-listpack-value", UINT, "64").alias("zset-max-ziplist-value"),
];

/// Directives that only a file or the command line may hold, all refused, with the reason.
const REFUSED_IN_FILES: &[(&str, &str)] = &[
    ("loadmodule", "modules are not supported"),
    ("rename-command", "commands cannot be renamed"),
    ("user", "ACL users are not supported"),
];

/// How deep files may include files.
const INCLUDE_DEPTH_MAX: usize = 16;

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

fn find(name: &str) -> Option<usize> {
    names().get(name).copied().or_else(|| names().get(name.to_ascii_lowercase().as_str()).copied())
}

/// All directives with their values.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    values: Vec<String>,
    /// Given in the file or on the command line, or changed since.
    given: Vec<bool>,
    /// The file it was read from.
    pub file: Option<String>,
}

impl Default for Config {
    fn default() -> Self {
        Config {
            values: DIRECTIVES.iter().map(|directive| directive.default.to_string()).collect(),
            given: vec![false; DIRECTIVES.len()],
            file: None,
        }
    }
}

/// How many bytes of output a client of a class may have waiting.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct OutputLimit {
    /// Closed at once above this; 0 for never.
    pub hard_bytes: u64,
    /// Closed above this..
    pub soft_bytes: u64,
    /// ..for this long.
    pub soft_seconds: u64,
}

impl Config {
    fn value(&self, name: &str) -> &str {
        find(name).and_then(|index| self.values.get(index)).map_or("", String::as_str)
    }

    /// A directive's text.
    pub fn text(&self, name: &str) -> &str {
        self.value(name)
    }

    /// A directive's number; memory in bytes. 0 if it is none.
    pub fn number(&self, name: &str) -> i64 {
        self.value(name).parse().unwrap_or(0)
    }

    /// Whether a directive says `yes`.
    pub fn flag(&self, name: &str) -> bool {
        self.value(name) == "yes"
    }

    /// Limit of the output of a class of clients: `normal`, `slave` or `pubsub`.
    pub fn output_limit(&self, class: &str) -> OutputLimit {
        let words = self.value("client-output-buffer-limit").split(' ');
        let numbers: Vec<u64> =
            words.skip_while(|word| *word != class).skip(1).take(3).flat_map(str::parse).collect();
        match numbers[..] {
            [hard_bytes, soft_bytes, soft_seconds] => OutputLimit { hard_bytes, soft_bytes, soft_seconds },
            _ => OutputLimit::default(),
        }
    }

    /// Value of the directive of this very name, in any case; hidden ones too.
    pub fn lookup(&self, name: &str) -> Option<&str> {
        self.values.get(find(name)?).map(String::as_str)
    }

    /// Name and value of every directive, aliases included.
    pub fn all(&self) -> impl Iterator<Item = (&'static str, &str)> {
        DIRECTIVES.iter().zip(&self.values).filter(|(directive, _)| !directive.hidden).flat_map(
            |(directive, value)| {
                std::iter::once((directive.name, value.as_str()))
                    .chain(directive.alias.map(|alias| (alias, value.as_str())))
            },
        )
    }

    /// Names that were given and have no effect.
    pub fn inert_given(&self) -> Vec<&'static str> {
        DIRECTIVES
            .iter()
            .zip(&self.given)
            .filter(|(directive, given)| **given && directive.class == Class::Inert)
            .map(|(directive, _)| directive.name)
            .collect()
    }

    /// Sets a directive to `words`. Errors are what CONFIG SET answers behind "CONFIG SET failed (..) - ".
    pub fn set(&mut self, index: usize, words: &[String]) -> Result<(), String> {
        let Some(directive) = DIRECTIVES.get(index) else { return Err("no such directive".into()) };
        let value = canonical(directive, self.values.get(index).map_or("", String::as_str), words)?;
        if let Class::Refused(reason) = directive.class
            && value != directive.default
        {
            return Err(reason.into());
        }
        if let (Some(slot), Some(given)) = (self.values.get_mut(index), self.given.get_mut(index)) {
            *slot = value;
            *given = true;
        }
        Ok(())
    }

    /// CONFIG SET: all pairs or none. `protected` says whether protected directives may change. Errors: the whole reply text.
    pub fn set_all(&self, pairs: &[(String, String)], protected: bool) -> Result<Config, String> {
        let mut changed = self.clone();
        let mut seen = Vec::new();
        for (name, value) in pairs {
            let Some(index) = find(name) else {
                return Err(format!("ERR Unknown option or number of arguments for CONFIG SET - '{name}'"));
            };
            let failed =
                |why: &str| format!("ERR CONFIG SET failed (possibly related to argument '{name}') - {why}");
            if seen.contains(&index) {
                return Err(failed("duplicate parameter"));
            }
            seen.push(index);
            let when = DIRECTIVES.get(index).map(|directive| directive.when);
            match when {
                Some(When::Start) => return Err(failed("can't set immutable config")),
                Some(When::Protected) if !protected => return Err(failed("can't set protected config")),
                _ => {}
            }
            let before = changed.values.get(index).cloned();
            let words = match DIRECTIVES.get(index).map(|directive| directive.kind) {
                Some(Kind::Save | Kind::OutputLimits | Kind::Words) => {
                    value.split_ascii_whitespace().map(str::to_string).collect()
                }
                _ => vec![value.clone()],
            };
            // CONFIG SET replaces all save points; a line of a file adds one.
            if DIRECTIVES.get(index).is_some_and(|directive| directive.kind == Kind::Save)
                && let Some(slot) = changed.values.get_mut(index)
            {
                slot.clear();
            }
            changed.set(index, &words).map_err(|why| failed(&why))?;
            if let Some(When::Fixed(why)) = when
                && changed.values.get(index) != before.as_ref()
            {
                return Err(failed(why));
            }
        }
        Ok(changed)
    }

    /// Applies the text of a file. `name` is for messages; `include` reads an included file.
    pub fn apply_file(
        &mut self,
        name: &str,
        text: &str,
        include: &dyn Fn(&str) -> Result<String, String>,
    ) -> Result<(), String> {
        self.apply_file_at(name, text, include, 0)
    }

    fn apply_file_at(
        &mut self,
        name: &str,
        text: &str,
        include: &dyn Fn(&str) -> Result<String, String>,
        depth: usize,
    ) -> Result<(), String> {
        if depth > INCLUDE_DEPTH_MAX {
            return Err(format!("{name}: files include each other too deep"));
        }
        let mut save_given = false;
        for (number, line) in text.lines().enumerate() {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let at = |why: String| format!("{name}:{}: {why}", number + 1);
            let words = split_words(line).ok_or_else(|| at("unbalanced quotes".into()))?;
            let Some((directive, values)) = words.split_first() else { continue };
            if directive.eq_ignore_ascii_case("include") {
                for path in values {
                    let text = include(path).map_err(|why| at(format!("include {path}: {why}")))?;
                    self.apply_file_at(path, &text, include, depth + 1)?;
                }
                continue;
            }
            if directive.eq_ignore_ascii_case("save") && !save_given {
                save_given = true;
                self.begin_save();
            }
            self.apply_directive(directive, values).map_err(at)?;
        }
        Ok(())
    }

    fn begin_save(&mut self) {
        if let Some(slot) = find("save").and_then(|index| self.values.get_mut(index)) {
            slot.clear();
        }
    }

    fn apply_directive(&mut self, name: &str, values: &[String]) -> Result<(), String> {
        if let Some((_, reason)) =
            REFUSED_IN_FILES.iter().find(|(refused, _)| refused.eq_ignore_ascii_case(name))
        {
            return Err(format!("'{name}' is refused: {reason}"));
        }
        let index = find(name).ok_or_else(|| format!("unknown directive '{name}'"))?;
        let refused = DIRECTIVES.get(index).is_some_and(|d| matches!(d.class, Class::Refused(_)));
        self.set(index, values).map_err(|why| {
            if refused { format!("'{name}' is refused: {why}") } else { format!("'{name}': {why}") }
        })
    }

    /// Applies `--directive value ..` arguments.
    pub fn apply_arguments(&mut self, arguments: &[String]) -> Result<(), String> {
        let mut rest = arguments;
        let mut save_given = false;
        while let Some((first, after)) = rest.split_first() {
            let Some(name) = first.strip_prefix("--").filter(|name| !name.is_empty()) else {
                return Err(format!("unexpected argument '{first}' (directives begin with --)"));
            };
            let count = after.iter().take_while(|word| !word.starts_with("--")).count();
            let (values, next) = after.split_at(count);
            if name.eq_ignore_ascii_case("save") && !save_given {
                save_given = true;
                self.begin_save();
            }
            // A quoted argument may hold several words ("--save '60 1'").
            let split = find(name).and_then(|index| DIRECTIVES.get(index)).is_some_and(|directive| {
                matches!(directive.kind, Kind::Save | Kind::OutputLimits | Kind::Words)
            });
            let words: Vec<String> = if split {
                values.iter().flat_map(|value| value.split_ascii_whitespace().map(str::to_string)).collect()
            } else {
                values.to_vec()
            };
            self.apply_directive(name, &words)?;
            rest = next;
        }
        Ok(())
    }

    /// The text of `file` rewritten so that it says what is in force: lines of directives that are there are replaced in
    /// place, others that differ from the default are added at the end, comments stay.
    pub fn rewritten(&self, old: &str) -> String {
        const MARK: &str = "# Generated by CONFIG REWRITE";
        let mut out = String::with_capacity(old.len() + 256);
        let mut written = vec![false; DIRECTIVES.len()];
        let mut marked = false;
        for line in old.lines() {
            marked |= line == MARK;
            let words = split_words(line.trim()).unwrap_or_default();
            let directive = words.first().filter(|word| !word.starts_with('#')).and_then(|word| find(word));
            match directive {
                Some(index) => {
                    let first = !std::mem::replace(&mut written[index], true);
                    if self.says(index, words.get(1..).unwrap_or_default()) {
                        out.push_str(line);
                        out.push('\n');
                    } else if first {
                        self.write_line(index, &mut out);
                    }
                }
                None => {
                    out.push_str(line);
                    out.push('\n');
                }
            }
        }
        for (index, directive) in DIRECTIVES.iter().enumerate() {
            let differs = self.values[index] != directive.default;
            if differs && !written[index] {
                if !std::mem::replace(&mut marked, true) {
                    let _ = writeln!(out, "{MARK}");
                }
                self.write_line(index, &mut out);
            }
        }
        out
    }

    /// Whether a line with these words says what is in force already.
    fn says(&self, index: usize, words: &[String]) -> bool {
        let (directive, value) = (&DIRECTIVES[index], &self.values[index]);
        directive.kind != Kind::Save && canonical(directive, value, words).as_ref() == Ok(value)
    }

    fn write_line(&self, index: usize, out: &mut String) {
        let (directive, value) = (&DIRECTIVES[index], &self.values[index]);
        match directive.kind {
            Kind::Save if value.is_empty() => out.push_str("save \"\"\n"),
            Kind::Save => {
                let numbers: Vec<&str> = value.split(' ').collect();
                for pair in numbers.chunks(2) {
                    let _ = writeln!(out, "save {}", pair.join(" "));
                }
            }
            Kind::OutputLimits => {
                let words: Vec<&str> = value.split(' ').collect();
                for four in words.chunks(4) {
                    let _ = writeln!(out, "{} {}", directive.name, four.join(" "));
                }
            }
            Kind::Words => {
                let _ = writeln!(out, "{} {value}", directive.name);
            }
            _ if value.is_empty() || value.contains(|c: char| c.is_whitespace() || "\"'\\".contains(c)) => {
                let _ = writeln!(out, "{} {}", directive.name, quoted(value));
            }
            _ => {
                let _ = writeln!(out, "{} {value}", directive.name);
            }
        }
    }
}

fn quoted(text: &str) -> String {
    let mut out = String::from("\"");
    for c in text.chars() {
        match c {
            '"' | '\\' => {
                out.push('\\');
                out.push(c);
            }
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

/// Splits a line at blanks; `"a b\n\x41"` and `'a b'` are one word each. `None` if a quote is not closed or text follows one.
pub fn split_words(line: &str) -> Option<Vec<String>> {
    let mut words = Vec::new();
    let mut chars = line.chars().peekable();
    loop {
        while chars.next_if(|c| c.is_whitespace()).is_some() {}
        let Some(&first) = chars.peek() else { return Some(words) };
        let mut word = String::new();
        if first == '"' || first == '\'' {
            chars.next();
            loop {
                let c = chars.next()?;
                if c == first {
                    break;
                }
                if c != '\\' {
                    word.push(c);
                    continue;
                }
                let escaped = chars.next()?;
                match escaped {
                    '\'' if first == '\'' => word.push('\''),
                    other if first == '\'' => {
                        word.push('\\');
                        word.push(other);
                    }
                    'n' => word.push('\n'),
                    'r' => word.push('\r'),
                    't' => word.push('\t'),
                    'x' => {
                        let high = chars.next()?.to_digit(16)?;
                        let low = chars.next()?.to_digit(16)?;
                        word.push(char::from_u32(high * 16 + low)?);
                    }
                    other => word.push(other),
                }
            }
            if chars.peek().is_some_and(|c| !c.is_whitespace()) {
                return None;
            }
        } else {
            while let Some(c) = chars.next_if(|c| !c.is_whitespace()) {
                word.push(c);
            }
        }
        words.push(word);
    }
}

/// Number of bytes: digits and one of `b k kb m mb g gb t tb` (`k` is 1000, `kb` 1024).
pub fn parse_memory(text: &str) -> Option<u64> {
    let digits = text.len() - text.trim_start_matches(|c: char| c.is_ascii_digit()).len();
    let (number, unit) = text.split_at(digits);
    let factor: u64 = match unit.to_ascii_lowercase().as_str() {
        "" | "b" => 1,
        "k" => 1000,
        "kb" => 1 << 10,
        "m" => 1_000_000,
        "mb" => 1 << 20,
        "g" => 1_000_000_000,
        "gb" => 1 << 30,
        "t" => 1_000_000_000_000,
        "tb" => 1 << 40,
        _ => return None,
    };
    number.parse::<u64>().ok()?.checked_mul(factor)
}

fn canonical(directive: &Directive, old: &str, words: &[String]) -> Result<String, String> {
    let several = matches!(directive.kind, Kind::Words | Kind::Save | Kind::OutputLimits);
    let single = match words {
        [one] => one.as_str(),
        _ if several => "",
        _ => return Err("wrong number of arguments".into()),
    };
    match directive.kind {
        Kind::Text => Ok(single.to_string()),
        Kind::Words if directive.name == "latency-tracking-info-percentiles" => percentiles(words),
        Kind::Words if directive.name == "oom-score-adj-values" && words.len() != 3 => {
            Err("wrong number of arguments".into())
        }
        Kind::Words => Ok(words.join(" ")),
        Kind::Bool => match single.to_ascii_lowercase().as_str() {
            word @ ("yes" | "no") => Ok(word.to_string()),
            _ => Err("argument must be 'yes' or 'no'".into()),
        },
        Kind::Integer(min, max) => {
            let number: i64 =
                single.parse().map_err(|_| "argument couldn't be parsed into an integer".to_string())?;
            if number < min || number > max {
                return Err(format!("argument must be between {min} and {max} inclusive"));
            }
            Ok(number.to_string())
        }
        Kind::Octal => u32::from_str_radix(single, 8)
            .ok()
            .filter(|mode| *mode <= 0o777)
            .map(|_| single.to_string())
            .ok_or_else(|| "argument couldn't be parsed as an octal number".into()),
        Kind::Memory(min, max) => {
            let bytes = parse_memory(single).ok_or("argument must be a memory value")?;
            if bytes < min || bytes > max {
                return Err(format!("argument must be between {min} and {max} inclusive"));
            }
            Ok(bytes.to_string())
        }
        Kind::MemoryOrPercent => match single.strip_suffix('%') {
            Some(percent) => match percent.parse::<u64>() {
                Ok(percent) if percent <= 100 => Ok(format!("{percent}%")),
                Ok(_) => Err("percentage argument must be less or equal to 100".into()),
                Err(_) => Err("argument must be a memory or percent value".into()),
            },
            None => parse_memory(single)
                .map(|bytes| bytes.to_string())
                .ok_or_else(|| "argument must be a memory or percent value".into()),
        },
        Kind::Word(allowed) => allowed
            .iter()
            .find(|word| word.eq_ignore_ascii_case(single))
            .map(|word| (*word).to_string())
            .ok_or_else(|| format!("argument(s) must be one of the following: {}", allowed.join(", "))),
        Kind::Save => save_points(old, words),
        Kind::OutputLimits => output_limits(old, words),
        Kind::Events => events(single),
    }
}

fn percentiles(words: &[String]) -> Result<String, String> {
    for word in words {
        let number = word.parse::<f64>();
        match number.map_err(|_| "Invalid latency-tracking-info-percentiles parameters".to_string())? {
            percent if (0.0..=100.0).contains(&percent) => {}
            _ => {
                return Err(
                    "latency-tracking-info-percentiles parameters should sit between [0.0,100.0]".into()
                );
            }
        }
    }
    Ok(words.join(" "))
}

fn save_points(old: &str, words: &[String]) -> Result<String, String> {
    if let [empty] = words
        && empty.is_empty()
    {
        return Ok(String::new());
    }
    if !words.len().is_multiple_of(2) {
        return Err("Invalid save parameters".into());
    }
    let mut points: Vec<&str> = old.split_ascii_whitespace().collect();
    for pair in words.chunks(2) {
        let number = |word: &str| word.parse::<i64>().ok();
        match (number(&pair[0]), number(&pair[1])) {
            (Some(seconds), Some(changes)) if seconds >= 1 && changes >= 0 => {}
            _ => return Err("Invalid save parameters".into()),
        }
        points.extend([pair[0].as_str(), pair[1].as_str()]);
    }
    Ok(points.join(" "))
}

fn output_limits(old: &str, words: &[String]) -> Result<String, String> {
    if words.is_empty() || !words.len().is_multiple_of(4) {
        return Err("Wrong number of arguments in buffer limit configuration.".into());
    }
    let mut limits: Vec<String> = old.split(' ').map(str::to_string).collect();
    for four in words.chunks(4) {
        let class = match four[0].to_ascii_lowercase().as_str() {
            "replica" | "slave" => "slave",
            "normal" => "normal",
            "pubsub" => "pubsub",
            _ => return Err("Invalid client class specified in buffer limit configuration.".into()),
        };
        let numbers = (parse_memory(&four[1]), parse_memory(&four[2]), four[3].parse::<u32>().ok());
        let (Some(hard), Some(soft), Some(seconds)) = numbers else {
            return Err("Error in hard, soft or soft_seconds setting in buffer limit configuration.".into());
        };
        if let Some(at) = limits.iter().position(|word| word == class)
            && let Some(slots) = limits.get_mut(at + 1..at + 4)
        {
            slots.clone_from_slice(&[hard.to_string(), soft.to_string(), seconds.to_string()]);
        }
    }
    Ok(limits.join(" "))
}

/// The letters of keyspace events in the order Redis shows them.
fn events(text: &str) -> Result<String, String> {
    const CLASSES: &str = "g$lszhxetd";
    const OTHERS: &str = "KEmn";
    let mut on = String::new();
    for c in text.chars() {
        match c {
            'A' => on.push_str(CLASSES),
            c if CLASSES.contains(c) || OTHERS.contains(c) => on.push(c),
            _ => return Err("Invalid event class character. Use 'Ag$lshzxeKEtmdn'.".into()),
        }
    }
    let mut shown = String::new();
    if CLASSES.chars().all(|class| on.contains(class)) {
        shown.push('A');
    } else {
        shown.extend("g$lshzxetd".chars().filter(|class| on.contains(*class)));
    }
    shown.extend("KEmn".chars().filter(|other| on.contains(*other)));
    Ok(shown)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn no_include(_: &str) -> Result<String, String> {
        Err("no such file".into())
    }

    fn from(text: &str) -> Result<Config, String> {
        let mut config = Config::default();
        config.apply_file("x.conf", text, &no_include)?;
        Ok(config)
    }

    #[test]
    fn names_are_sorted_or_at_least_unique_and_defaults_are_canonical() {
        let mut seen = std::collections::HashSet::new();
        for (index, directive) in DIRECTIVES.iter().enumerate() {
            assert!(seen.insert(directive.name), "{}", directive.name);
            assert!(directive.alias.is_none_or(|alias| seen.insert(alias)), "{}", directive.name);
            let mut config = Config::default();
            let words: Vec<String> = match directive.kind {
                Kind::Words | Kind::Save | Kind::OutputLimits => {
                    directive.default.split_ascii_whitespace().map(str::to_string).collect()
                }
                _ => vec![directive.default.to_string()],
            };
            if directive.kind == Kind::Save {
                config.begin_save();
            }
            config.set(index, &words).unwrap_or_else(|why| panic!("{}: {why}", directive.name));
            assert_eq!(config.values[index], directive.default, "{}", directive.name);
        }
    }

    #[test]
    fn files() {
        let text = "# comment\nport 7000\nsave 60 1\nsave 30 2\nrequirepass \"a b\\x41\"\nbind 1.2.3.4 ::1\nhz 20\n\
                    client-output-buffer-limit replica 1mb 2k 3\nmaxmemory 2gb";
        let config = from(text).unwrap();
        assert_eq!(config.number("port"), 7000);
        assert_eq!(config.text("save"), "60 1 30 2");
        assert_eq!(config.text("requirepass"), "a bA");
        assert_eq!(config.text("bind"), "1.2.3.4 ::1");
        assert_eq!(config.number("maxmemory"), 2 << 30);
        assert_eq!(
            config.text("client-output-buffer-limit"),
            "normal 0 0 0 slave 1048576 2000 3 pubsub 33554432 8388608 60"
        );
        assert_eq!(config.inert_given(), ["hz", "save"]);
        assert_eq!(from("\nnonsense 1").unwrap_err(), "x.conf:2: unknown directive 'nonsense'");
        assert_eq!(from("port \"1").unwrap_err(), "x.conf:1: unbalanced quotes");
        assert!(from("cluster-enabled yes").unwrap_err().contains("refused"));
        assert!(from("cluster-enabled no").is_ok());
        assert!(from("maxmemory-policy allkeys-lru").unwrap_err().contains("refused"));
        assert!(from("port 70000").unwrap_err().contains("between 0 and 65535"));
        assert!(from("include other").is_err());
    }

    #[test]
    fn arguments() {
        let words = |text: &str| split_words(text).unwrap();
        let mut config = Config::default();
        config
            .apply_arguments(&words("--port 1 --save '60 1' --appendonly yes --bind 1.1.1.1 2.2.2.2"))
            .unwrap();
        assert_eq!((config.number("port"), config.text("save")), (1, "60 1"));
        assert_eq!(config.text("bind"), "1.1.1.1 2.2.2.2");
        config.apply_arguments(&words("--save ''")).unwrap();
        assert_eq!(config.text("save"), "");
        assert!(config.apply_arguments(&words("--nothing")).unwrap_err().contains("unknown directive"));
        assert!(config.apply_arguments(&words("port 1")).is_err());
    }

    #[test]
    fn config_set_is_all_or_nothing() {
        let config = Config::default();
        let pair = |a: &str, b: &str| (a.to_string(), b.to_string());
        assert!(config.set_all(&[pair("port", "6379"), pair("maxmemory-clients", "5%")], false).is_ok());
        let set = config.set_all(&[pair("maxmemory", "1mb"), pair("SAVE", "10 1 20 2")], false).unwrap();
        assert_eq!((set.number("maxmemory"), set.text("save")), (1 << 20, "10 1 20 2"));
        for (pairs, wanted) in [
            (vec![pair("a", "b")], "ERR Unknown option or number of arguments for CONFIG SET - 'a'"),
            (
                vec![pair("databases", "1")],
                "ERR CONFIG SET failed (possibly related to argument 'databases') - can't set immutable config",
            ),
            (
                vec![pair("workers", "7")],
                "ERR CONFIG SET failed (possibly related to argument 'workers') - changing it needs a restart",
            ),
            (
                vec![pair("maxmemory-clients", "101%")],
                "ERR CONFIG SET failed (possibly related to argument 'maxmemory-clients') - percentage argument must be less \
                 or equal to 100",
            ),
            (
                vec![pair("dir", "1")],
                "ERR CONFIG SET failed (possibly related to argument 'dir') - can't set protected config",
            ),
            (
                vec![pair("hz", "1"), pair("hz", "2")],
                "ERR CONFIG SET failed (possibly related to argument 'hz') - duplicate parameter",
            ),
            (
                vec![pair("maxmemory", "x")],
                "ERR CONFIG SET failed (possibly related to argument 'maxmemory') - argument must be a memory value",
            ),
            (
                vec![pair("appendfsync", "x")],
                "ERR CONFIG SET failed (possibly related to argument 'appendfsync') - argument(s) must be one of the \
                 following: everysec, always, no",
            ),
        ] {
            assert_eq!(config.set_all(&pairs, false).unwrap_err(), wanted);
        }
    }

    #[test]
    fn rewrite_keeps_comments_and_reads_back_the_same() {
        let text = "# mine\nport 7000\n\nsave 60 1\nsave 5 5\nport 8000\n";
        let mut config = from(text).unwrap();
        config = config.set_all(&[("requirepass".into(), "se cret\"".into())], false).unwrap();
        config = config.set_all(&[("notify-keyspace-events".into(), "KEA".into())], false).unwrap();
        let rewritten = config.rewritten(text);
        assert!(rewritten.starts_with("# mine\nport 8000\n\nsave 60 1\nsave 5 5\n"), "{rewritten}");
        let again = from(&rewritten).unwrap();
        assert_eq!(again.values, config.values);
        assert_eq!(again.text("notify-keyspace-events"), "AKE");
        assert_eq!(config.rewritten(&rewritten), rewritten, "stable");
    }

    #[test]
    fn memory_values() {
        for (text, wanted) in [
            ("1", Some(1)),
            ("1k", Some(1000)),
            ("1Kb", Some(1024)),
            ("2gb", Some(2 << 30)),
            ("x", None),
            ("", None),
        ] {
            assert_eq!(parse_memory(text), wanted, "{text}");
        }
        assert_eq!(parse_memory("99999999999999999999"), None);
        assert_eq!(parse_memory("18446744073709551615gb"), None);
    }
}
