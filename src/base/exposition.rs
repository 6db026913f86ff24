//! Prometheus' text format (version 0.0.4): families of samples, each with its help and type.
//!
//! ```text
//! # HELP haypile_commands_total Commands run.
//! # TYPE haypile_commands_total counter
//! haypile_commands_total{command="get"} 17
//! ```
//!
//! A family is begun once and its samples follow at once, as the format wants it; names are the caller's care.

use std::fmt::{Display, Write as _};

/// What kind of numbers a family holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// It only grows, but for resets.
    Counter,
    /// It goes up and down.
    Gauge,
    /// Counts of observations up to bounds, their sum and their number.
    Histogram,
}

/// A text in the making.
#[derive(Debug, Default)]
pub struct Exposition {
    text: String,
    name: String,
}

impl Exposition {
    /// Begins a family. Its samples come next.
    pub fn family(&mut self, name: &str, kind: Kind, help: &str) -> &mut Exposition {
        self.name.clear();
        self.name.push_str(name);
        let kind = match kind {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
            Kind::Histogram => "histogram",
        };
        let help = help.replace('\\', "\\\\").replace('\n', "\\n");
        // Writing to a String cannot fail.
        let _ = write!(self.text, "# HELP {name} {help}\n# TYPE {name} {kind}\n");
        self
    }

    /// A sample of the family.
    pub fn sample(&mut self, labels: &[(&str, &str)], value: impl Display) -> &mut Exposition {
        self.line("", labels, None, value)
    }

    /// A family of one sample without labels.
    pub fn single(&mut self, name: &str, kind: Kind, help: &str, value: impl Display) {
        self.family(name, kind, help).sample(&[], value);
    }

    /// One histogram of the family: how many observations were at most each bound, cumulated; their sum, and how many there were.
    pub fn histogram(&mut self, labels: &[(&str, &str)], bounds: &[(f64, u64)], sum: f64, count: u64) {
        for (bound, seen) in bounds {
            self.line("_bucket", labels, Some(&bound.to_string()), seen);
        }
        self.line("_bucket", labels, Some("+Inf"), count);
        self.line("_sum", labels, None, sum);
        self.line("_count", labels, None, count);
    }

    fn line(
        &mut self,
        suffix: &str,
        labels: &[(&str, &str)],
        bound: Option<&str>,
        value: impl Display,
    ) -> &mut Exposition {
        self.text.push_str(&self.name);
        self.text.push_str(suffix);
        let bound = bound.map(|bound| ("le", bound));
        let mut before = '{';
        for (name, value) in labels.iter().copied().chain(bound) {
            let _ = write!(self.text, "{before}{name}=\"");
            for c in value.chars() {
                match c {
                    '\\' => self.text.push_str("\\\\"),
                    '"' => self.text.push_str("\\\""),
                    '\n' => self.text.push_str("\\n"),
                    c => self.text.push(c),
                }
            }
            self.text.push('"');
            before = ',';
        }
        if before == ',' {
            self.text.push('}');
        }
        let _ = writeln!(self.text, " {value}");
        self
    }

    /// The text.
    pub fn finish(self) -> String {
        self.text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn families_samples_and_escapes() {
        let mut text = Exposition::default();
        text.family("a_total", Kind::Counter, "One\\two\nthree.")
            .sample(&[("x", "q\"\\\n"), ("y", "")], 1)
            .sample(&[], 2);
        text.family("b_seconds", Kind::Histogram, "B.");
        text.histogram(&[("c", "d")], &[(0.000001, 1), (1.0, 2)], 0.5, 3);
        assert_eq!(
            text.finish(),
            "# HELP a_total One\\\\two\\nthree.\n# TYPE a_total counter\na_total{x=\"q\\\"\\\\\\n\",y=\"\"} 1\na_total 2\n\
             # HELP b_seconds B.\n# TYPE b_seconds histogram\nb_seconds_bucket{c=\"d\",le=\"0.000001\"} 1\n\
             b_seconds_bucket{c=\"d\",le=\"1\"} 2\nb_seconds_bucket{c=\"d\",le=\"+Inf\"} 3\nb_seconds_sum{c=\"d\"} 0.5\n\
             b_seconds_count{c=\"d\"} 3\n"
        );
    }
}
