//! The table of commands: facts and functions joined by name. A command whose facts are known but which has no function here does not
//! exist for clients.

use crate::command::bitmaps;
use crate::command::client_cmd;
use crate::command::command_cmd;
use crate::command::config_cmd;
use crate::command::connection;
use crate::command::debug;
use crate::command::facts::all;
use crate::command::help;
use crate::command::info;
use crate::command::keys;
use crate::command::save;
use crate::command::server;
use crate::command::spec::{Class, Handler, Table};
use crate::command::strings;
use std::sync::OnceLock;

use Class::{ByWords, Exclusive, Inline, Slow};

/// Name, function and class of every command; subcommands as `container|name`.
const HANDLERS: &[(&str, Handler, Class)] = &[
    ("acl|cat", server::acl_cat, Inline),
    ("acl|deluser", server::acl_refused, Inline),
    ("acl|dryrun", server::acl_refused, Inline),
    ("acl|genpass", server::acl_genpass, Inline),
    ("acl|getuser", server::acl_getuser, Inline),
    ("acl|help", help::help, Inline),
    ("acl|list", server::acl_list, Inline),
    ("acl|load", server::acl_refused, Inline),
    ("acl|log", server::acl_log, Inline),
    ("acl|save", server::acl_refused, Inline),
    ("acl|setuser", server::acl_refused, Inline),
    ("acl|users", server::acl_users, Inline),
    ("acl|whoami", server::acl_whoami, Inline),
    ("append", strings::append, Inline),
    ("asking", connection::cluster_disabled, Inline),
    ("auth", connection::auth, Inline),
    ("bgrewriteaof", save::bgrewriteaof, Inline),
    ("bgsave", save::bgsave, Inline),
    ("bitcount", bitmaps::bitcount, Inline),
    ("bitfield", bitmaps::bitfield, Inline),
    ("bitfield_ro", bitmaps::bitfield_ro, Inline),
    ("bitop", bitmaps::bitop, Inline),
    ("bitpos", bitmaps::bitpos, Inline),
    ("client|caching", client_cmd::caching, Inline),
    ("client|getname", client_cmd::getname, Inline),
    ("client|getredir", client_cmd::getredir, Inline),
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
    ("client|tracking", client_cmd::tracking, Inline),
    ("client|trackinginfo", client_cmd::trackinginfo, Inline),
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
    ("config|get", config_cmd::get, Inline),
    ("config|help", help::help, Inline),
    ("config|resetstat", config_cmd::resetstat, Inline),
    ("config|rewrite", config_cmd::rewrite, Slow),
    ("config|set", config_cmd::set, Inline),
    ("copy", keys::copy, Inline),
    ("dbsize", keys::dbsize, Inline),
    ("debug", debug::debug, ByWords(debug::class)),
    ("decr", strings::decr, Inline),
    ("decrby", strings::decrby, Inline),
    ("del", keys::del, Inline),
    ("echo", connection::echo, Inline),
    ("exists", keys::exists, Inline),
    ("expire", keys::expire, Inline),
    ("expireat", keys::expireat, Inline),
    ("expiretime", keys::expiretime, Inline),
    ("flushall", keys::flushall, Exclusive),
    ("flushdb", keys::flushdb, Exclusive),
    ("function|flush", server::function_flush, Inline),
    ("function|help", help::help, Inline),
    ("function|list", server::function_list, Inline),
    ("function|stats", server::function_stats, Inline),
    ("get", strings::get, Inline),
    ("getbit", bitmaps::getbit, Inline),
    ("getdel", strings::getdel, Inline),
    ("getex", strings::getex, Inline),
    ("getrange", strings::getrange, Inline),
    ("getset", strings::getset, Inline),
    ("hello", connection::hello, Inline),
    ("incr", strings::incr, Inline),
    ("incrby", strings::incrby, Inline),
    ("incrbyfloat", strings::incrbyfloat, Inline),
    ("info", info::info, Inline),
    ("keys", keys::keys, Slow),
    ("lastsave", save::lastsave, Inline),
    ("latency|doctor", server::latency_doctor, Inline),
    ("latency|graph", server::latency_graph, Inline),
    ("latency|help", help::help, Inline),
    ("latency|histogram", server::latency_histogram, Inline),
    ("latency|history", server::latency_nothing, Inline),
    ("latency|latest", server::latency_nothing, Inline),
    ("latency|reset", server::latency_reset, Inline),
    ("lcs", strings::lcs, Inline),
    ("lolwut", server::lolwut, Inline),
    ("memory|doctor", server::memory_doctor, Inline),
    ("memory|help", help::help, Inline),
    ("memory|malloc-stats", server::memory_malloc_stats, Inline),
    ("memory|purge", server::memory_purge, Inline),
    ("memory|stats", server::memory_stats, Inline),
    ("mget", strings::mget, Inline),
    ("memory|usage", server::memory_usage, Inline),
    ("module|help", help::help, Inline),
    ("module|list", server::empty_list, Inline),
    ("module|load", server::module_refused, Inline),
    ("module|loadex", server::module_refused, Inline),
    ("module|unload", server::module_refused, Inline),
    ("move", keys::move_, Inline),
    ("mset", strings::mset, Inline),
    ("msetnx", strings::msetnx, Inline),
    ("object|encoding", keys::object_encoding, Inline),
    ("object|freq", keys::object_freq, Inline),
    ("object|help", help::help, Inline),
    ("object|idletime", keys::object_idletime, Inline),
    ("object|refcount", keys::object_refcount, Inline),
    ("persist", keys::persist, Inline),
    ("pexpire", keys::pexpire, Inline),
    ("pexpireat", keys::pexpireat, Inline),
    ("pexpiretime", keys::pexpiretime, Inline),
    ("ping", connection::ping, Inline),
    ("psetex", strings::psetex, Inline),
    ("pttl", keys::pttl, Inline),
    ("quit", connection::quit, Inline),
    ("randomkey", keys::randomkey, Inline),
    ("readonly", connection::cluster_disabled, Inline),
    ("readwrite", connection::cluster_disabled, Inline),
    ("rename", keys::rename, Inline),
    ("renamenx", keys::renamenx, Inline),
    ("replicaof", server::replicaof, Inline),
    ("reset", connection::reset, Inline),
    ("role", server::role, Inline),
    ("save", save::save, Slow),
    ("scan", keys::scan, Inline),
    ("select", connection::select, Inline),
    ("set", strings::set, Inline),
    ("setbit", bitmaps::setbit, Inline),
    ("setex", strings::setex, Inline),
    ("setnx", strings::setnx, Inline),
    ("setrange", strings::setrange, Inline),
    ("shutdown", server::shutdown, Slow),
    ("slaveof", server::replicaof, Inline),
    ("slowlog|get", server::slowlog_get, Inline),
    ("slowlog|help", help::help, Inline),
    ("slowlog|len", server::slowlog_len, Inline),
    ("slowlog|reset", server::slowlog_reset, Inline),
    ("strlen", strings::strlen, Inline),
    ("substr", strings::getrange, Inline),
    ("swapdb", keys::swapdb, Exclusive),
    ("time", server::time, Inline),
    ("touch", keys::touch, Inline),
    ("ttl", keys::ttl, Inline),
    ("type", keys::type_, Inline),
    ("unlink", keys::del, Inline),
    ("wait", server::wait, Inline),
    ("waitaof", server::waitaof, Inline),
];

/// The table.
pub fn table() -> &'static Table {
    static TABLE: OnceLock<Table> = OnceLock::new();
    TABLE.get_or_init(|| Table::new(all::commands(), &handler))
}

fn handler(name: &str) -> Option<(Handler, Class)> {
    HANDLERS.iter().find(|(own, ..)| *own == name).map(|(_, handler, class)| (*handler, *class))
}

#[cfg(test)]
mod tests {
    use super::*;

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
}
