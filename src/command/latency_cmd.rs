//! LATENCY: what took longer than `latency-monitor-threshold` (session/latency.rs), and how long each command takes (stats.rs).

use crate::base::args::is_keyword;
use crate::base::reply_error::ReplyError;
use crate::base::stop::Stop;
use crate::command::spec::Context;
use crate::session::latency::{CHECKPOINT, COMMAND, EXPIRE_CYCLE, FAST_COMMAND, Sample, Series, WRITE_DELAY};
use std::fmt::Write as _;

/// LATENCY LATEST.
pub fn latest(ctx: &mut Context<'_>) -> Result<(), Stop> {
    let events = ctx.server.latency.all();
    ctx.reply.array(events.len());
    for (event, series) in events {
        let last = series.samples.back().copied().unwrap_or(Sample { unix_s: 0, ms: 0 });
        ctx.reply.array(4);
        ctx.reply.bulk(event.as_bytes());
        ctx.reply.integer(last.unix_s as i64);
        ctx.reply.integer(last.ms as i64);
        ctx.reply.integer(series.max_ms as i64);
    }
    Ok(())
}

/// LATENCY HISTORY.
pub fn history(ctx: &mut Context<'_>) -> Result<(), Stop> {
    let samples =
        ctx.server.latency.get(ctx.args.get(2)).map(|(_, series)| series.samples).unwrap_or_default();
    ctx.reply.array(samples.len());
    for sample in samples {
        ctx.reply.array(2);
        ctx.reply.integer(sample.unix_s as i64);
        ctx.reply.integer(sample.ms as i64);
    }
    Ok(())
}

/// LATENCY RESET.
pub fn reset(ctx: &mut Context<'_>) -> Result<(), Stop> {
    let args = ctx.args;
    let all = args.len() == 2;
    let wanted = |event: &str| all || args.from(2).any(|word| is_keyword(word, event));
    let count = ctx.server.latency.reset(wanted);
    ctx.reply.integer(count as i64);
    Ok(())
}

/// LATENCY GRAPH.
pub fn graph(ctx: &mut Context<'_>) -> Result<(), Stop> {
    let Some((event, series)) = ctx.server.latency.get(ctx.args.get(2)) else {
        let event = ReplyError::echo(ctx.args.get(2));
        return Err(ReplyError::new(format!("ERR No samples available for event '{event}'")).into());
    };
    let text = draw(event, &series, ctx.server.clock.unix_ms() / 1000);
    ctx.reply.verbatim(*b"txt", text.as_bytes());
    Ok(())
}

/// How old a sample is, in as few letters as may be.
fn age(seconds: u64) -> String {
    match seconds {
        0..60 => format!("{seconds}s"),
        60..3600 => format!("{}m", seconds / 60),
        3600..86_400 => format!("{}h", seconds / 3600),
        _ => format!("{}d", seconds / 86_400),
    }
}

/// Columns of the height of each sample, its age written downwards below it.
fn draw(event: &str, series: &Series, now_s: u64) -> String {
    const ROWS: u64 = 4;
    const WIDTH: usize = 80;
    let shown: Vec<Sample> = series.samples.iter().rev().take(WIDTH).rev().copied().collect();
    let high = shown.iter().map(|sample| sample.ms).max().unwrap_or(0);
    let low = shown.iter().map(|sample| sample.ms).min().unwrap_or(0);
    // Writing to a String cannot fail.
    let mut text = String::new();
    let _ = writeln!(text, "{event} - high {high} ms, low {low} ms (all time high {} ms)", series.max_ms);
    let _ = writeln!(text, "{}", "-".repeat(WIDTH));
    // From 1 to three eighths of a row each: the height in thirds of a row.
    let height = |ms: u64| match high - low {
        0 => 1,
        span => 1 + (ms - low) * (3 * ROWS - 1) / span,
    };
    for row in (0..ROWS).rev() {
        let line: String = shown
            .iter()
            .map(|sample| match height(sample.ms).saturating_sub(3 * row) {
                0 => ' ',
                1 => '_',
                2 => 'o',
                _ => '#',
            })
            .collect();
        let _ = writeln!(text, "{line}");
    }
    text.push('\n');
    let ages: Vec<Vec<char>> =
        shown.iter().map(|sample| age(now_s.saturating_sub(sample.unix_s)).chars().collect()).collect();
    for row in 0..ages.iter().map(Vec::len).max().unwrap_or(0) {
        let line: String = ages.iter().map(|age| age.get(row).copied().unwrap_or(' ')).collect();
        let _ = writeln!(text, "{line}");
    }
    text
}

/// What to think of an event.
fn advice(event: &str) -> &'static str {
    match event {
        COMMAND => {
            "Commands of their own length: SLOWLOG GET names them. Those that work on many elements run on a pool and hold up nobody \
             else; split them, or read with SCAN and its kin, if their callers cannot wait."
        }
        FAST_COMMAND => {
            "Commands that should be quick were not: they waited for the disk. INFO engine shows cache hits and reads; a larger \
             memory-budget keeps more in memory."
        }
        EXPIRE_CYCLE => "Many keys expired at about the same time, or large ones did; spread their times.",
        WRITE_DELAY => {
            "Writers were slowed down so that flushes and compactions keep up. INFO engine tells which of memtables, level 0 and debt \
             was behind; a faster disk or a larger memory-budget helps."
        }
        CHECKPOINT => "A checkpoint copies the end of the log; it holds up nobody.",
        "wal-write" | "wal-sync" => {
            "The disk under the log was slow. Look for other programs that use it; with appendfsync always every answer waits for a sync."
        }
        _ => "",
    }
}

/// LATENCY DOCTOR.
pub fn doctor(ctx: &mut Context<'_>) -> Result<(), Stop> {
    let events = ctx.server.latency.all();
    let threshold_ms = ctx.server.latency.threshold_ms();
    let mut text = String::new();
    // Writing to a String cannot fail.
    if threshold_ms == 0 && events.is_empty() {
        text.push_str(
            "Nothing is watched: latency-monitor-threshold is 0. CONFIG SET latency-monitor-threshold <milliseconds> begins. LATENCY \
             HISTOGRAM tells meanwhile how long commands take.\n",
        );
    } else if events.is_empty() {
        let _ = writeln!(text, "Nothing has taken {threshold_ms} milliseconds or more. All is well.");
    } else {
        let _ =
            writeln!(text, "{} kinds of events took {threshold_ms} milliseconds or more:\n", events.len());
    }
    for (number, (event, series)) in events.iter().enumerate() {
        let count = series.samples.len() as u64;
        let mean = series.samples.iter().map(|sample| sample.ms).sum::<u64>() / count.max(1);
        let deviation =
            series.samples.iter().map(|sample| sample.ms.abs_diff(mean)).sum::<u64>() / count.max(1);
        let span_s = match (series.samples.front(), series.samples.back()) {
            (Some(first), Some(last)) => last.unix_s - first.unix_s,
            _ => 0,
        };
        let _ = writeln!(
            text,
            "{}. {event}: {count} seconds with such events (average {mean} ms, mean deviation {deviation} ms, one each {:.1} s). Worst of \
             all time: {} ms.\n   {}\n",
            number + 1,
            span_s as f64 / count.saturating_sub(1).max(1) as f64,
            series.max_ms,
            advice(event),
        );
    }
    ctx.reply.verbatim(*b"txt", text.as_bytes());
    Ok(())
}

/// LATENCY HISTOGRAM.
pub fn histogram(ctx: &mut Context<'_>) -> Result<(), Stop> {
    let table = ctx.table;
    let mut wanted = Vec::new();
    if ctx.args.len() == 2 {
        wanted.extend(table.all());
    }
    for name in ctx.args.from(2) {
        let Some(command) = table.find_full(name) else { continue };
        wanted.push(command);
        wanted.extend(command.subcommands.iter().filter_map(|&index| table.get(index)));
    }
    let stats = &ctx.server.stats;
    let found: Vec<_> = wanted
        .into_iter()
        .filter_map(|command| Some((command.facts.name, stats.histogram_us(command.index)?)))
        .collect();
    let reply = &mut *ctx.reply;
    reply.map(found.len());
    for (name, powers) in found {
        reply.bulk(name.as_bytes());
        reply.map(2);
        reply.bulk(b"calls");
        reply.integer(powers.last().map_or(0, |(_, calls)| *calls as i64));
        reply.bulk(b"histogram_usec");
        reply.map(powers.len());
        for (us, calls) in powers {
            reply.integer(us as i64);
            reply.integer(calls as i64);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_graph_has_a_column_for_each_sample() {
        let samples = [(100, 5), (160, 10), (3700, 20)].map(|(unix_s, ms)| Sample { unix_s, ms });
        let series = Series { samples: samples.into(), max_ms: 99 };
        let text = draw("command", &series, 3760);
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines[0], "command - high 20 ms, low 5 ms (all time high 99 ms)");
        assert_eq!(&lines[2..6], ["  #", "  #", " _#", "_##"]);
        assert_eq!(&lines[7..], ["111", "hhm"]);
        let one = Series { samples: [Sample { unix_s: 7, ms: 3 }].into(), max_ms: 3 };
        assert_eq!(draw("x", &one, 7).lines().last(), Some("s"));
    }
}
