//! Values of directives: each kind is checked, and brought into the form that CONFIG GET shows.

use crate::base::config_words::parse_memory;
use crate::base::directive::{Directive, Kind};

/// The least that the engine can divide over cache, memtables and log.
const MEMORY_BUDGET_MIN: u64 = 1 << 20;
/// Redis raises smaller backlogs to this.
const BACKLOG_MIN: u64 = 16 << 10;
/// The longest name of a host.
const HOSTNAME_BYTES_MAX: usize = 255;

/// What `words` say in the form that CONFIG GET shows. `old` is what is in force: some directives are set in parts.
pub fn canonical(directive: &Directive, old: &str, words: &[String]) -> Result<String, String> {
    let single = match words {
        [one] => one.as_str(),
        _ if directive.kind.takes_several() => "",
        _ => return Err("wrong number of arguments".into()),
    };
    match directive.kind {
        Kind::Text => check_text(directive.name, single).map(|()| single.to_string()),
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
            match directive.name {
                "memory-budget" if bytes > 0 && bytes < MEMORY_BUDGET_MIN => {
                    Err(format!("argument must be 0 or at least {MEMORY_BUDGET_MIN}"))
                }
                "repl-backlog-size" => Ok(bytes.max(BACKLOG_MIN).to_string()),
                _ => Ok(bytes.to_string()),
            }
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
        Kind::Flags(allowed) => flags(allowed, words),
        Kind::Save => save_points(old, words),
        Kind::OutputLimits => output_limits(old, words),
        Kind::Events => events(single),
    }
}

/// Refuses texts that make no sense for the directive of this name.
fn check_text(name: &str, text: &str) -> Result<(), String> {
    let is_path = text.contains('/');
    let why = match name {
        "appendfilename" | "appenddirname" if text.is_empty() => format!("{name} can't be empty"),
        "appenddirname" if is_path => format!("{name} can't be a path, just a dirname"),
        "appendfilename" | "dbfilename" if is_path => format!("{name} can't be a path, just a filename"),
        "proc-title-template" if !is_title_template(text) => {
            "template format is invalid or contains unknown variables".into()
        }
        "cluster-announce-hostname" if text.len() > HOSTNAME_BYTES_MAX => {
            format!("Hostnames must be less than {} characters", HOSTNAME_BYTES_MAX + 1)
        }
        "cluster-announce-hostname"
            if !text.bytes().all(|b| b.is_ascii_alphanumeric() || b"-.".contains(&b)) =>
        {
            "Hostnames may only contain alphanumeric characters, hyphens or dots".into()
        }
        _ => return Ok(()),
    };
    Err(why)
}

/// Whether a text holds no variables but those of a process's title (`{{` is a brace), and something to show: the title and the mode of
/// the server may be empty.
fn is_title_template(text: &str) -> bool {
    const SHOWN: [&str; 5] = ["listen-addr", "port", "tls-port", "unixsocket", "config-file"];
    let mut shows = false;
    let mut rest = text;
    while let Some((before, behind)) = rest.split_once('{') {
        shows |= !before.trim_matches(' ').is_empty();
        let (variable, behind) = match behind.strip_prefix('{') {
            Some(behind) => ("{", behind),
            None => match behind.split_once('}') {
                Some(found) => found,
                None => return false,
            },
        };
        shows |= match variable {
            "title" | "server-mode" => false,
            known if known == "{" || SHOWN.contains(&known) => true,
            _ => return false,
        };
        rest = behind;
    }
    shows || !rest.trim_matches(' ').is_empty()
}

fn percentiles(words: &[String]) -> Result<String, String> {
    let mut shown = Vec::new();
    for word in words.iter().filter(|word| !word.is_empty()) {
        let number = word.parse::<f64>();
        match number.map_err(|_| "Invalid latency-tracking-info-percentiles parameters".to_string())? {
            percent if (0.0..=100.0).contains(&percent) => shown.push(percent.to_string()),
            _ => {
                return Err(
                    "latency-tracking-info-percentiles parameters should sit between [0.0,100.0]".into()
                );
            }
        }
    }
    Ok(shown.join(" "))
}

/// Words of a set, each once and in the order of the set; the first stands for none of the others.
fn flags(allowed: &[&str], words: &[String]) -> Result<String, String> {
    let known = |word: &String| allowed.iter().any(|one| one.eq_ignore_ascii_case(word));
    if words.is_empty() || !words.iter().all(known) {
        return Err(format!("argument(s) must be one of the following: {}", allowed.join(", ")));
    }
    let given = |one: &&&str| words.iter().any(|word| word.eq_ignore_ascii_case(one));
    let shown: Vec<&str> = allowed.iter().skip(1).filter(given).copied().collect();
    Ok(if shown.is_empty() {
        allowed.first().copied().unwrap_or_default().to_string()
    } else {
        shown.join(" ")
    })
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
    if !words.len().is_multiple_of(4) {
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
    // Redis does not show the `n` behind an `A`, and forgets it at a REWRITE.
    shown.extend("nKEm".chars().filter(|other| on.contains(*other)));
    Ok(shown)
}
