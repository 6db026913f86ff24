//! Every command that facts are known of, numbered: what rules about users speak of. Also those that this server has not (yet), so that rules
//! written for Redis are understood.

use crate::command::facts::all;
use crate::command::facts::model::CommandFacts;
use std::collections::HashMap;
use std::ops::Range;
use std::sync::OnceLock;

/// One command.
#[derive(Debug)]
pub struct Entry {
    /// What is known of it.
    pub facts: &'static CommandFacts,
    /// Whether it is a subcommand.
    pub is_subcommand: bool,
    /// Numbers of its subcommands.
    pub subcommands: Range<u16>,
}

/// See the module.
#[derive(Debug)]
pub struct Catalogue {
    entries: Vec<Entry>,
    numbers: HashMap<&'static str, u16>,
}

/// All commands.
pub fn catalogue() -> &'static Catalogue {
    static CATALOGUE: OnceLock<Catalogue> = OnceLock::new();
    CATALOGUE.get_or_init(|| {
        let mut entries: Vec<Entry> = Vec::new();
        for facts in all::commands() {
            let first = entries.len() as u16 + 1;
            let subcommands = first..first + facts.subcommands.len() as u16;
            entries.push(Entry { facts, is_subcommand: false, subcommands });
            entries.extend(facts.subcommands.iter().map(|facts| Entry {
                facts,
                is_subcommand: true,
                subcommands: 0..0,
            }));
        }
        let numbers = entries.iter().zip(0..).map(|(entry, number)| (entry.facts.name, number)).collect();
        Catalogue { entries, numbers }
    })
}

impl Catalogue {
    /// The number of a command (`set`) or subcommand (`client|kill`), in any case.
    pub fn find(&self, name: &[u8]) -> Option<u16> {
        let name = name.to_ascii_lowercase();
        self.numbers.get(std::str::from_utf8(&name).ok()?).copied()
    }

    /// Command number `number`.
    pub fn get(&self, number: u16) -> Option<&Entry> {
        self.entries.get(usize::from(number))
    }

    /// All, with their numbers.
    pub fn all(&self) -> impl Iterator<Item = (u16, &Entry)> {
        (0..).zip(&self.entries)
    }

    /// A command and its subcommands.
    pub fn with_subcommands(&self, number: u16) -> impl Iterator<Item = u16> + use<> {
        let subcommands = self.get(number).map_or(0..0, |entry| entry.subcommands.clone());
        std::iter::once(number).chain(subcommands)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers() {
        let all = catalogue();
        assert!(all.entries.len() <= crate::session::permissions::COMMANDS_MAX);
        let config = all.find(b"CONFIG").unwrap();
        let names: Vec<_> =
            all.with_subcommands(config).map(|number| all.get(number).unwrap().facts.name).collect();
        assert!(names[0] == "config" && names[1..].iter().all(|name| name.starts_with("config|")));
        assert!(names.contains(&"config|set") && all.find(b"config|nosuch").is_none());
        assert!(all.all().all(|(number, entry)| all.find(entry.facts.name.as_bytes()) == Some(number)));
    }
}
