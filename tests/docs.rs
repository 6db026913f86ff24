//! `docs/commands.md` is generated from the command table; this test fails when it is stale and rewrites it when
//! `HAYPILE_REWRITE` is set.

use haypile::command::facts::model::{CommandFacts, Group};
use haypile::command::table::table;
use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::PathBuf;

fn generate() -> String {
    let table = table();
    let mut groups: BTreeMap<String, Vec<&CommandFacts>> = BTreeMap::new();
    let mut count = 0;
    for command in table.top() {
        let mut add = |facts: &'static CommandFacts| {
            count += 1;
            groups.entry(group_name(facts.group)).or_default().push(facts);
        };
        if command.subcommands.is_empty() {
            add(command.facts);
        }
        for &sub in &command.subcommands {
            if let Some(sub) = table.get(sub) {
                add(sub.facts);
            }
        }
    }
    let mut text = String::from(
        "# Commands\n\nGenerated from the command table (`src/command/`) by `HAYPILE_REWRITE=1 cargo test --test docs`; do not edit.\n\n",
    );
    let _ = writeln!(
        text,
        "{count} commands and subcommands, at Redis 7.4 semantics unless `docs/deviations.md` says otherwise.\n"
    );
    for (group, mut commands) in groups {
        commands.sort_by_key(|facts| facts.name);
        let _ = writeln!(
            text,
            "## {group}\n\n| command | arity | since | cost | what it does |\n|---|---|---|---|---|"
        );
        for facts in commands {
            let name = facts.name.replace('|', " ").to_uppercase();
            let summary = facts.summary.replace('|', "\\|");
            let cost = facts.complexity.replace('|', "\\|");
            let since = if facts.extension { "own" } else { facts.since };
            let _ = writeln!(text, "| {name} | {} | {since} | {cost} | {summary} |", facts.arity);
        }
        text.push('\n');
    }
    text
}

fn group_name(group: Group) -> String {
    format!("{group:?}").to_lowercase()
}

#[test]
fn the_list_of_commands_is_current() {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("docs/commands.md");
    let wanted = generate();
    if std::env::var_os("HAYPILE_REWRITE").is_some() {
        #[expect(clippy::disallowed_methods, reason = "a test writes a document, not data")]
        std::fs::write(&path, wanted).unwrap();
        return;
    }
    let found = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(found == wanted, "docs/commands.md is stale: HAYPILE_REWRITE=1 cargo test --test docs");
}
