//! Which command the words of a request name.

use crate::base::args::{Args, is_keyword};
use crate::base::reply_error::ReplyError;
use crate::command::spec::{Command, Table};

/// Finds a command or a subcommand, whatever the number of its words.
pub fn find<'t>(table: &'t Table, args: &Args<'_>) -> Option<&'t Command> {
    let command = table.find(args.name())?;
    match command.subcommands.is_empty() || args.len() < 2 {
        true => Some(command),
        false => table.find_subcommand(command, args.get(1)),
    }
}

/// Finds a command and checks the number of its words.
pub fn look_up<'t>(table: &'t Table, args: &Args<'_>) -> Result<&'t Command, ReplyError> {
    let Some(mut command) = table.find(args.name()) else { return Err(unknown_command(args)) };
    if !command.subcommands.is_empty() && args.len() > 1 {
        match table.find_subcommand(command, args.get(1)) {
            Some(found) => command = found,
            None => {
                let container = command.called.to_ascii_uppercase();
                return Err(ReplyError::unknown_subcommand(&container, args.get(1)));
            }
        }
    }
    if !command.facts.accepts(args.len()) {
        return Err(ReplyError::wrong_arity(command.facts.name));
    }
    Ok(command)
}

/// A browser that is made to post here by some page sends lines that begin so. Nothing of that request may run.
pub fn is_web_page(name: &[u8]) -> bool {
    is_keyword(name, "POST") || is_keyword(name, "HOST:")
}

fn unknown_command(args: &Args<'_>) -> ReplyError {
    let mut shown = String::new();
    for word in args.from(1) {
        if shown.len() >= 128 {
            break;
        }
        let room = 128 - shown.len();
        let word = word.get(..room).unwrap_or(word);
        shown.push_str(&format!("'{}' ", ReplyError::echo(word)));
    }
    let name = ReplyError::echo_name(args.name());
    ReplyError::new(
        format!("ERR unknown command '{name}', with args beginning with: {shown}").replace(['\r', '\n'], " "),
    )
}
