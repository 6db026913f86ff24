//! The table of commands: facts and functions joined by name. A command whose facts are known but which has no function here does not
//! exist for clients.

use crate::command::connection;
use crate::command::facts::all;
use crate::command::spec::{Class, Handler, Table};
use std::sync::OnceLock;

use Class::{Exclusive, Inline, Slow};

/// Name, function and class of every command; subcommands as `container|name`.
const HANDLERS: &[(&str, Handler, Class)] = &[
    ("auth", connection::auth, Inline),
    ("echo", connection::echo, Inline),
    ("hello", connection::hello, Inline),
    ("ping", connection::ping, Inline),
    ("quit", connection::quit, Inline),
    ("reset", connection::reset, Inline),
    ("select", connection::select, Inline),
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
