//! The table of commands: facts and functions joined by name. A command whose facts are known but which has no function here does not
//! exist for clients.

use crate::base::config::{ConfigError, Rename};
use crate::command::acl::auth;
use crate::command::acl::commands;
use crate::command::bitmaps;
use crate::command::blocking_lists;
use crate::command::blocking_sorted_sets;
use crate::command::client_cmd;
use crate::command::command_cmd;
use crate::command::compact;
use crate::command::config_cmd;
use crate::command::connection;
use crate::command::debug;
use crate::command::dump;
use crate::command::facts::all;
use crate::command::geo;
use crate::command::hashes;
use crate::command::help;
use crate::command::hyperloglogs;
use crate::command::info;
use crate::command::key_ranges;
use crate::command::keys;
use crate::command::latency_cmd;
use crate::command::lists;
use crate::command::memory_cmd;
use crate::command::migrate;
use crate::command::pubsub;
use crate::command::save;
use crate::command::server;
use crate::command::sets;
use crate::command::sort;
use crate::command::sorted_sets;
use crate::command::spec::{Class, Handler, Table};
use crate::command::stream_groups;
use crate::command::streams;
use crate::command::strings;
use crate::command::tracking;
use crate::command::transactions;
use std::sync::OnceLock;

use Class::{ByWords, Exclusive, Inline, Slow};

/// Name, function and class of every command; subcommands as `container|name`.
const HANDLERS: &[(&str, Handler, Class)] = &[
    ("acl|cat", commands::cat, Inline),
    ("acl|deluser", commands::deluser, ByWords(commands::class)),
    ("acl|dryrun", commands::dryrun, Inline),
    ("acl|genpass", commands::genpass, Inline),
    ("acl|getuser", commands::getuser, Inline),
    ("acl|help", help::help, Inline),
    ("acl|list", commands::list, Inline),
    ("acl|load", commands::load_file, Slow),
    ("acl|log", commands::log, Inline),
    ("acl|save", commands::save_file, Slow),
    ("acl|setuser", commands::setuser, ByWords(commands::class)),
    ("acl|users", commands::users, Inline),
    ("acl|whoami", commands::whoami, Inline),
    ("append", strings::append, Inline),
    ("asking", connection::cluster_disabled, Inline),
    ("auth", auth::auth, ByWords(commands::class)),
    ("bgrewriteaof", save::bgrewriteaof, Inline),
    ("bgsave", save::bgsave, Inline),
    ("bitcount", bitmaps::bitcount, Inline),
    ("bitfield", bitmaps::bitfield, Inline),
    ("bitfield_ro", bitmaps::bitfield_ro, Inline),
    ("bitop", bitmaps::bitop, Inline),
    ("bitpos", bitmaps::bitpos, Inline),
    ("blmove", blocking_lists::blmove, Inline),
    ("blmpop", blocking_lists::blmpop, Inline),
    ("blpop", blocking_lists::blpop, Inline),
    ("brpop", blocking_lists::brpop, Inline),
    ("brpoplpush", blocking_lists::brpoplpush, Inline),
    ("bzmpop", blocking_sorted_sets::bzmpop, Inline),
    ("bzpopmax", blocking_sorted_sets::bzpopmax, Inline),
    ("bzpopmin", blocking_sorted_sets::bzpopmin, Inline),
    ("client|caching", tracking::caching, Inline),
    ("client|getname", client_cmd::getname, Inline),
    ("client|getredir", tracking::getredir, Inline),
    ("client|help", help::help, Inline),
    ("client|id", client_cmd::id, Inline),
    ("client|info", client_cmd::info, Inline),
    ("client|kill", client_cmd::kill, Inline),
    ("client|list", client_cmd::list, Inline),
    ("client|no-evict", client_cmd::no_evict, Inline),
    ("client|no-touch", client_cmd::no_touch, Inline),
    ("client|pause", client_cmd::pause, Inline),
    ("client|reply", client_cmd::reply, Inline),
    ("client|setinfo", client_cmd::setinfo, Inline),
    ("client|setname", client_cmd::setname, Inline),
    ("client|tracking", tracking::tracking, ByWords(tracking::class)),
    ("client|trackinginfo", tracking::trackinginfo, Inline),
    ("client|unblock", client_cmd::unblock, Inline),
    ("client|unpause", client_cmd::unpause, Inline),
    ("cluster|addslots", connection::cluster_disabled, Inline),
    ("cluster|addslotsrange", connection::cluster_disabled, Inline),
    ("cluster|bumpepoch", connection::cluster_disabled, Inline),
    ("cluster|count-failure-reports", connection::cluster_disabled, Inline),
    ("cluster|countkeysinslot", connection::cluster_disabled, Inline),
    ("cluster|delslots", connection::cluster_disabled, Inline),
    ("cluster|delslotsrange", connection::cluster_disabled, Inline),
    ("cluster|failover", connection::cluster_disabled, Inline),
    ("cluster|flushslots", connection::cluster_disabled, Inline),
    ("cluster|forget", connection::cluster_disabled, Inline),
    ("cluster|getkeysinslot", connection::cluster_disabled, Inline),
    ("cluster|help", connection::cluster_disabled, Inline),
    ("cluster|info", connection::cluster_disabled, Inline),
    ("cluster|keyslot", connection::cluster_disabled, Inline),
    ("cluster|links", connection::cluster_disabled, Inline),
    ("cluster|meet", connection::cluster_disabled, Inline),
    ("cluster|myid", connection::cluster_disabled, Inline),
    ("cluster|myshardid", connection::cluster_disabled, Inline),
    ("cluster|nodes", connection::cluster_disabled, Inline),
    ("cluster|replicas", connection::cluster_disabled, Inline),
    ("cluster|replicate", connection::cluster_disabled, Inline),
    ("cluster|reset", connection::cluster_disabled, Inline),
    ("cluster|saveconfig", connection::cluster_disabled, Inline),
    ("cluster|set-config-epoch", connection::cluster_disabled, Inline),
    ("cluster|setslot", connection::cluster_disabled, Inline),
    ("cluster|shards", connection::cluster_disabled, Inline),
    ("cluster|slaves", connection::cluster_disabled, Inline),
    ("cluster|slots", connection::cluster_disabled, Inline),
    ("command", command_cmd::command, Inline),
    ("command|count", command_cmd::count, Inline),
    ("command|docs", command_cmd::docs, Inline),
    ("command|getkeys", command_cmd::getkeys, Inline),
    ("command|getkeysandflags", command_cmd::getkeysandflags, Inline),
    ("command|help", help::help, Inline),
    ("command|info", command_cmd::info, Inline),
    ("command|list", command_cmd::list, Inline),
    ("compact", compact::compact, Inline),
    ("config|get", config_cmd::get, Inline),
    ("config|help", help::help, Inline),
    ("config|resetstat", config_cmd::resetstat, Inline),
    ("config|rewrite", config_cmd::rewrite, Slow),
    ("config|set", config_cmd::set, ByWords(config_cmd::class)),
    ("copy", keys::copy, Inline),
    ("dbsize", keys::dbsize, Inline),
    ("debug", debug::debug, ByWords(debug::class)),
    ("decr", strings::decr, Inline),
    ("decrby", strings::decrby, Inline),
    ("del", keys::del, Inline),
    ("discard", transactions::discard, Inline),
    ("dump", dump::dump, Inline),
    ("echo", connection::echo, Inline),
    ("exec", transactions::exec, Inline),
    ("exists", keys::exists, Inline),
    ("expire", keys::expire, Inline),
    ("expireat", keys::expireat, Inline),
    ("expiretime", keys::expiretime, Inline),
    ("failover", server::failover, Inline),
    ("flushall", keys::flushall, Exclusive),
    ("flushdb", keys::flushdb, Exclusive),
    ("function|flush", server::function_flush, Inline),
    ("function|help", help::help, Inline),
    ("function|list", server::function_list, Inline),
    ("function|stats", server::function_stats, Inline),
    ("geoadd", geo::geoadd, Inline),
    ("geodist", geo::geodist, Inline),
    ("geohash", geo::geohash, Inline),
    ("geopos", geo::geopos, Inline),
    ("georadius", geo::georadius, Inline),
    ("georadius_ro", geo::georadius_ro, Inline),
    ("georadiusbymember", geo::georadiusbymember, Inline),
    ("georadiusbymember_ro", geo::georadiusbymember_ro, Inline),
    ("geosearch", geo::geosearch, Inline),
    ("geosearchstore", geo::geosearchstore, Inline),
    ("get", strings::get, Inline),
    ("getbit", bitmaps::getbit, Inline),
    ("getdel", strings::getdel, Inline),
    ("getex", strings::getex, Inline),
    ("getrange", strings::getrange, Inline),
    ("getset", strings::getset, Inline),
    ("hello", auth::hello, ByWords(commands::class)),
    ("hdel", hashes::hdel, Inline),
    ("hexists", hashes::hexists, Inline),
    ("hexpire", hashes::hexpire, Inline),
    ("hexpireat", hashes::hexpireat, Inline),
    ("hexpiretime", hashes::hexpiretime, Inline),
    ("hget", hashes::hget, Inline),
    ("hgetall", hashes::hgetall, Inline),
    ("hgetdel", hashes::hgetdel, Inline),
    ("hgetex", hashes::hgetex, Inline),
    ("hincrby", hashes::hincrby, Inline),
    ("hincrbyfloat", hashes::hincrbyfloat, Inline),
    ("hkeys", hashes::hkeys, Inline),
    ("hlen", hashes::hlen, Inline),
    ("hmget", hashes::hmget, Inline),
    ("hmset", hashes::hmset, Inline),
    ("hpersist", hashes::hpersist, Inline),
    ("hpexpire", hashes::hpexpire, Inline),
    ("hpexpireat", hashes::hpexpireat, Inline),
    ("hpexpiretime", hashes::hpexpiretime, Inline),
    ("hpttl", hashes::hpttl, Inline),
    ("hrandfield", hashes::hrandfield, Inline),
    ("hscan", hashes::hscan, Inline),
    ("hset", hashes::hset, Inline),
    ("hsetex", hashes::hsetex, Inline),
    ("hsetnx", hashes::hsetnx, Inline),
    ("hstrlen", hashes::hstrlen, Inline),
    ("httl", hashes::httl, Inline),
    ("hvals", hashes::hvals, Inline),
    ("pkhrscanrange", hashes::pkhrscanrange, Inline),
    ("pkhscanrange", hashes::pkhscanrange, Inline),
    ("pkpatternmatchdel", key_ranges::pkpatternmatchdel, Slow),
    ("pkrscanrange", key_ranges::pkrscanrange, Inline),
    ("pkscanrange", key_ranges::pkscanrange, Inline),
    ("incr", strings::incr, Inline),
    ("incrby", strings::incrby, Inline),
    ("incrbyfloat", strings::incrbyfloat, Inline),
    ("info", info::info, Inline),
    ("keys", keys::keys, Slow),
    ("lastsave", save::lastsave, Inline),
    ("latency|doctor", latency_cmd::doctor, Inline),
    ("latency|graph", latency_cmd::graph, Inline),
    ("latency|help", help::help, Inline),
    ("latency|histogram", latency_cmd::histogram, Inline),
    ("latency|history", latency_cmd::history, Inline),
    ("latency|latest", latency_cmd::latest, Inline),
    ("latency|reset", latency_cmd::reset, Inline),
    ("lcs", strings::lcs, Inline),
    ("lindex", lists::lindex, Inline),
    ("linsert", lists::linsert, Inline),
    ("llen", lists::llen, Inline),
    ("lmove", lists::lmove, Inline),
    ("lmpop", lists::lmpop, Inline),
    ("lolwut", server::lolwut, Inline),
    ("lpop", lists::lpop, Inline),
    ("lpos", lists::lpos, Inline),
    ("lpush", lists::lpush, Inline),
    ("lpushx", lists::lpushx, Inline),
    ("lrange", lists::lrange, Inline),
    ("lrem", lists::lrem, Inline),
    ("lset", lists::lset, Inline),
    ("ltrim", lists::ltrim, Inline),
    ("memory|doctor", memory_cmd::doctor, Inline),
    ("memory|help", help::help, Inline),
    ("memory|malloc-stats", memory_cmd::malloc_stats, Inline),
    ("memory|purge", memory_cmd::purge, Inline),
    ("memory|stats", memory_cmd::stats, Inline),
    ("mget", strings::mget, Inline),
    ("memory|usage", memory_cmd::usage, Inline),
    ("migrate", migrate::migrate, Slow),
    ("module|help", help::help, Inline),
    ("module|list", server::empty_list, Inline),
    ("module|load", server::module_refused, Inline),
    ("module|loadex", server::module_refused, Inline),
    ("module|unload", server::module_refused, Inline),
    ("monitor", tracking::monitor, Inline),
    ("move", keys::move_, Inline),
    ("mset", strings::mset, Inline),
    ("msetnx", strings::msetnx, Inline),
    ("multi", transactions::multi, Inline),
    ("object|encoding", keys::object_encoding, Inline),
    ("object|freq", keys::object_freq, Inline),
    ("object|help", help::help, Inline),
    ("object|idletime", keys::object_idletime, Inline),
    ("object|refcount", keys::object_refcount, Inline),
    ("persist", keys::persist, Inline),
    ("pexpire", keys::pexpire, Inline),
    ("pexpireat", keys::pexpireat, Inline),
    ("pexpiretime", keys::pexpiretime, Inline),
    ("pfadd", hyperloglogs::pfadd, Inline),
    ("pfcount", hyperloglogs::pfcount, Inline),
    ("pfdebug", hyperloglogs::pfdebug, Inline),
    ("pfmerge", hyperloglogs::pfmerge, Inline),
    ("pfselftest", hyperloglogs::pfselftest, Slow),
    ("ping", connection::ping, Inline),
    ("psetex", strings::psetex, Inline),
    ("psubscribe", pubsub::psubscribe, Inline),
    ("pttl", keys::pttl, Inline),
    ("publish", pubsub::publish, Inline),
    ("pubsub|channels", pubsub::channels, Inline),
    ("pubsub|help", help::help, Inline),
    ("pubsub|numpat", pubsub::numpat, Inline),
    ("pubsub|numsub", pubsub::numsub, Inline),
    ("pubsub|shardchannels", pubsub::shardchannels, Inline),
    ("pubsub|shardnumsub", pubsub::shardnumsub, Inline),
    ("punsubscribe", pubsub::punsubscribe, Inline),
    ("quit", connection::quit, Inline),
    ("randomkey", keys::randomkey, Inline),
    ("readonly", connection::cluster_disabled, Inline),
    ("readwrite", connection::cluster_disabled, Inline),
    ("rename", keys::rename, Inline),
    ("renamenx", keys::renamenx, Inline),
    ("replicaof", server::replicaof, Inline),
    ("reset", auth::reset, Inline),
    ("restore", dump::restore, Inline),
    ("restore-asking", dump::restore, Inline),
    ("role", server::role, Inline),
    ("sadd", sets::sadd, Inline),
    ("rpop", lists::rpop, Inline),
    ("rpoplpush", lists::rpoplpush, Inline),
    ("rpush", lists::rpush, Inline),
    ("rpushx", lists::rpushx, Inline),
    ("save", save::save, Slow),
    ("scan", keys::scan, Inline),
    ("scard", sets::scard, Inline),
    ("sdiff", sets::sdiff, Inline),
    ("sdiffstore", sets::sdiffstore, Inline),
    ("select", connection::select, Inline),
    ("set", strings::set, Inline),
    ("setbit", bitmaps::setbit, Inline),
    ("setex", strings::setex, Inline),
    ("setnx", strings::setnx, Inline),
    ("setrange", strings::setrange, Inline),
    ("shutdown", server::shutdown, Slow),
    ("sinter", sets::sinter, Inline),
    ("sintercard", sets::sintercard, Inline),
    ("sinterstore", sets::sinterstore, Inline),
    ("sismember", sets::sismember, Inline),
    ("slaveof", server::replicaof, Inline),
    ("slowlog|get", server::slowlog_get, Inline),
    ("slowlog|help", help::help, Inline),
    ("slowlog|len", server::slowlog_len, Inline),
    ("slowlog|reset", server::slowlog_reset, Inline),
    ("smembers", sets::smembers, Inline),
    ("smismember", sets::smismember, Inline),
    ("smove", sets::smove, Inline),
    ("sort", sort::sort, Inline),
    ("sort_ro", sort::sort_ro, Inline),
    ("spop", sets::spop, Inline),
    ("spublish", pubsub::spublish, Inline),
    ("srandmember", sets::srandmember, Inline),
    ("srem", sets::srem, Inline),
    ("sscan", sets::sscan, Inline),
    ("ssubscribe", pubsub::ssubscribe, Inline),
    ("strlen", strings::strlen, Inline),
    ("subscribe", pubsub::subscribe, Inline),
    ("substr", strings::getrange, Inline),
    ("sunsubscribe", pubsub::sunsubscribe, Inline),
    ("sunion", sets::sunion, Inline),
    ("sunionstore", sets::sunionstore, Inline),
    ("swapdb", keys::swapdb, Exclusive),
    ("time", server::time, Inline),
    ("touch", keys::touch, Inline),
    ("ttl", keys::ttl, Inline),
    ("type", keys::type_, Inline),
    ("unlink", keys::del, Inline),
    ("unsubscribe", pubsub::unsubscribe, Inline),
    ("unwatch", transactions::unwatch, Inline),
    ("wait", server::wait, Inline),
    ("waitaof", server::waitaof, Inline),
    ("watch", transactions::watch, Inline),
    ("xack", stream_groups::xack, Inline),
    ("xadd", streams::xadd, Inline),
    ("xautoclaim", stream_groups::xautoclaim, Inline),
    ("xclaim", stream_groups::xclaim, Inline),
    ("xdel", streams::xdel, Inline),
    ("xgroup|create", stream_groups::xgroup_create, Inline),
    ("xgroup|createconsumer", stream_groups::xgroup_createconsumer, Inline),
    ("xgroup|delconsumer", stream_groups::xgroup_delconsumer, Inline),
    ("xgroup|destroy", stream_groups::xgroup_destroy, Inline),
    ("xgroup|help", help::help, Inline),
    ("xgroup|setid", stream_groups::xgroup_setid, Inline),
    ("xinfo|consumers", stream_groups::xinfo_consumers, Inline),
    ("xinfo|groups", stream_groups::xinfo_groups, Inline),
    ("xinfo|help", help::help, Inline),
    ("xinfo|stream", stream_groups::xinfo_stream, Inline),
    ("xlen", streams::xlen, Inline),
    ("xpending", stream_groups::xpending, Inline),
    ("xrange", streams::xrange, Inline),
    ("xread", streams::xread, Inline),
    ("xreadgroup", streams::xreadgroup, Inline),
    ("xrevrange", streams::xrevrange, Inline),
    ("xsetid", streams::xsetid, Inline),
    ("xtrim", streams::xtrim, Inline),
    ("zadd", sorted_sets::zadd, Inline),
    ("zcard", sorted_sets::zcard, Inline),
    ("zcount", sorted_sets::zcount, Inline),
    ("zdiff", sorted_sets::zdiff, Inline),
    ("zdiffstore", sorted_sets::zdiffstore, Inline),
    ("zincrby", sorted_sets::zincrby, Inline),
    ("zinter", sorted_sets::zinter, Inline),
    ("zintercard", sorted_sets::zintercard, Inline),
    ("zinterstore", sorted_sets::zinterstore, Inline),
    ("zlexcount", sorted_sets::zlexcount, Inline),
    ("zmpop", sorted_sets::zmpop, Inline),
    ("zmscore", sorted_sets::zmscore, Inline),
    ("zpopmax", sorted_sets::zpopmax, Inline),
    ("zpopmin", sorted_sets::zpopmin, Inline),
    ("zrandmember", sorted_sets::zrandmember, Inline),
    ("zrange", sorted_sets::zrange, Inline),
    ("zrangebylex", sorted_sets::zrangebylex, Inline),
    ("zrangebyscore", sorted_sets::zrangebyscore, Inline),
    ("zrangestore", sorted_sets::zrangestore, Inline),
    ("zrank", sorted_sets::zrank, Inline),
    ("zrem", sorted_sets::zrem, Inline),
    ("zremrangebylex", sorted_sets::zremrangebylex, Inline),
    ("zremrangebyrank", sorted_sets::zremrangebyrank, Inline),
    ("zremrangebyscore", sorted_sets::zremrangebyscore, Inline),
    ("zrevrange", sorted_sets::zrevrange, Inline),
    ("zrevrangebylex", sorted_sets::zrevrangebylex, Inline),
    ("zrevrangebyscore", sorted_sets::zrevrangebyscore, Inline),
    ("zrevrank", sorted_sets::zrevrank, Inline),
    ("zscan", sorted_sets::zscan, Inline),
    ("zscore", sorted_sets::zscore, Inline),
    ("zunion", sorted_sets::zunion, Inline),
    ("zunionstore", sorted_sets::zunionstore, Inline),
];

/// The table.
pub fn table() -> &'static Table {
    static TABLE: OnceLock<Table> = OnceLock::new();
    TABLE.get_or_init(|| Table::new(all::commands(), &handler))
}

/// The table as a configuration renames it.
pub fn renamed(renames: &[Rename]) -> Result<&'static Table, ConfigError> {
    if renames.is_empty() {
        return Ok(table());
    }
    let mut table = Table::new(all::commands(), &handler);
    for Rename { from, to, line } in renames {
        table.rename(from, to).map_err(|why| ConfigError::Line(line.clone(), why.into()))?;
    }
    // Made once, at the start.
    Ok(Box::leak(Box::new(table)))
}

fn handler(name: &str) -> Option<(Handler, Class)> {
    HANDLERS.iter().find(|(own, ..)| *own == name).map(|(_, handler, class)| (*handler, *class))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::config::Config;

    #[test]
    fn every_handler_has_facts() {
        for (name, ..) in HANDLERS {
            assert!(all::find(name).is_some(), "{name}");
        }
    }

    #[test]
    fn every_command_is_found_in_any_case() {
        let table = table();
        for command in table.top() {
            let name = command.facts.name;
            assert_eq!(table.find(name.as_bytes()).unwrap().index, command.index);
            assert_eq!(table.find(name.to_ascii_uppercase().as_bytes()).unwrap().index, command.index);
            for &sub in &command.subcommands {
                let sub = table.get(sub).unwrap();
                let own = sub.facts.own_name().to_ascii_uppercase();
                assert_eq!(table.find_subcommand(command, own.as_bytes()).unwrap().index, sub.index);
                assert_eq!(table.find_full(sub.facts.name.as_bytes()).unwrap().index, sub.index);
            }
        }
        assert!(table.find(b"nonsense").is_none());
        assert!(table.find(b"").is_none());
    }

    #[test]
    fn commands_are_renamed() {
        let text = "rename-command GET Fetch\nrename-command set ''\nrename-command config get\n";
        let renames = |text: &str| Config::read(text.as_bytes(), &|_| Err(String::new())).unwrap().renames;
        let renamed_table = renamed(&renames(text)).unwrap();
        let facts = |name: &[u8]| renamed_table.find(name).map(|command| command.facts.name);
        assert_eq!(facts(b"FETCH"), Some("get"));
        assert_eq!(facts(b"get"), Some("config"), "the name is free");
        assert_eq!((facts(b"set"), facts(b"config"), facts(b"")), (None, None, None));
        assert_eq!(renamed_table.top().len(), table().top().len() - 1);
        let set = table().find(b"set").unwrap();
        assert!(
            !renamed_table.is_reachable(set) && renamed_table.is_reachable(table().find(b"get").unwrap())
        );
        for (line, why) in [
            ("rename-command nothing x", "No such command in rename-command"),
            ("rename-command 'config|get' x", "No such command in rename-command"),
            ("rename-command get SET", "Target command name already exists"),
        ] {
            let error = renamed(&renames(&format!("\n{line}"))).unwrap_err().to_string();
            assert_eq!(error, format!("Reading the configuration file, at line 2\n>>> '{line}'\n{why}"));
        }
    }
}
