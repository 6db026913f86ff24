//! `XX HELP` for every container command, made from the facts about its subcommands.

use crate::base::stop::Stop;
use crate::command::facts::model::{Argument, ArgumentKind};
use crate::command::spec::Context;

/// The HELP of any container: a line a subcommand, and what it does, indented.
pub fn help(ctx: &mut Context<'_>) -> Result<(), Stop> {
    let table = ctx.table;
    let Some(container) = table.find(ctx.args.name()) else { return Ok(()) };
    let name = container.called.to_ascii_uppercase();
    let mut lines = vec![format!("{name} <subcommand> [<arg> [value] [opt] ...]. Subcommands are:")];
    let subcommands = container.subcommands.iter().filter_map(|&index| table.get(index));
    for command in subcommands.filter(|command| command.facts.own_name() != "help") {
        let own = command.facts.own_name().to_ascii_uppercase();
        let arguments = syntax(command.facts.arguments);
        lines.push(if arguments.is_empty() { own } else { format!("{own} {arguments}") });
        lines.push(format!("    {}.", command.facts.summary));
    }
    lines.extend(["HELP".into(), "    Print this help.".into()]);
    write_lines(ctx, &lines);
    Ok(())
}

/// Writes lines the way HELP does.
pub fn write_lines(ctx: &mut Context<'_>, lines: &[impl AsRef<str>]) {
    ctx.reply.array(lines.len());
    for line in lines {
        ctx.reply.simple(line.as_ref());
    }
}

/// Arguments as a line of words.
pub fn syntax(arguments: &[Argument]) -> String {
    arguments.iter().map(syntax_of_one).collect::<Vec<_>>().join(" ")
}

fn syntax_of_one(argument: &Argument) -> String {
    let shown = argument.display.unwrap_or(argument.name);
    let value = match argument.kind {
        ArgumentKind::PureToken => String::new(),
        ArgumentKind::Block => syntax(argument.parts),
        ArgumentKind::OneOf => {
            let parts: Vec<String> = argument.parts.iter().map(syntax_of_one).collect();
            if argument.optional { parts.join("|") } else { format!("({})", parts.join("|")) }
        }
        _ => format!("<{shown}>"),
    };
    let token = argument.token.unwrap_or_default();
    let mut text = match (token, value.as_str()) {
        (token, "") => token.to_string(),
        ("", value) => value.to_string(),
        (token, value) => format!("{token} {value}"),
    };
    if argument.multiple {
        let again = if argument.multiple_token || token.is_empty() { text.clone() } else { value };
        text = format!("{text} [{again} ...]");
    }
    if argument.optional { format!("[{text}]") } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command::facts::model::{integer, one_of, string, token};

    #[test]
    fn shows_tokens_choices_and_repeats() {
        const PARTS: &[Argument] = &[token("yes", "YES"), token("no", "NO")];
        let arguments = [
            string("key"),
            one_of("mode", PARTS),
            integer("count").after("COUNT").optional(),
            string("word").multiple(),
            string("id").after("ID").multiple().optional(),
        ];
        assert_eq!(
            syntax(&arguments),
            "<key> (YES|NO) [COUNT <count>] <word> [<word> ...] [ID <id> [<id> ...]]"
        );
    }
}
