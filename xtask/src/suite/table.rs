//! The suite's result: a table for people and a closing line for machines.

use crate::outcome::Outcome;
use std::fmt::Write as _;

/// How a test ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum State {
    /// As it should.
    Passed,
    /// Not as it should.
    Failed,
    /// It was not run, and the row says why.
    Skipped,
}

/// A row of the table.
#[derive(Clone, Debug)]
pub struct Row {
    /// The guest, or the host's check.
    pub guest: String,
    /// `svm`, `vmx`, `none` without hypervisor, `-` for the host's checks.
    pub vendor: String,
    /// How it ended.
    pub state: State,
    /// Seconds.
    pub seconds: f64,
    /// Exits of all guests, where counted.
    pub exits: Option<u64>,
    /// Why.
    pub why: String,
}

impl Row {
    /// A check on the host.
    pub fn host(name: &str, seconds: f64, result: anyhow::Result<()>) -> Self {
        let (state, why) = match result {
            Ok(()) => (State::Passed, String::new()),
            Err(error) => (State::Failed, format!("{error:#}")),
        };
        Row { guest: name.into(), vendor: "-".into(), state, seconds, exits: None, why }
    }

    /// A boot that ended one way or the other.
    pub fn booted(guest: &str, vendor: &str, outcome: &Outcome) -> Self {
        let passed = outcome.verdict.code() == 0;
        let (word, why) = outcome.verdict.words();
        let counts: Vec<u64> = outcome
            .guests
            .values()
            .flat_map(|guest| guest.exits.iter().map(|exit| exit.count))
            .collect();
        Row {
            guest: guest.into(),
            vendor: vendor.into(),
            state: if passed { State::Passed } else { State::Failed },
            seconds: outcome.seconds,
            exits: (!counts.is_empty()).then(|| counts.iter().sum()),
            why: if passed { String::new() } else { format!("{word}: {why}") },
        }
    }

    /// A boot that did not come about.
    pub fn failed(guest: &str, vendor: &str, why: &str) -> Self {
        let why = why.to_owned();
        let (guest, vendor) = (guest.to_owned(), vendor.to_owned());
        Row { guest, vendor, state: State::Failed, seconds: 0.0, exits: None, why }
    }

    /// A boot that was left out.
    pub fn skipped(guest: &str, vendor: &str, why: &str) -> Self {
        Row { state: State::Skipped, ..Row::failed(guest, vendor, why) }
    }

    /// Whether it is one of the host's checks.
    pub fn is_host(&self) -> bool {
        self.vendor == "-"
    }
}

/// One row as a line.
pub fn line(row: &Row) -> String {
    let state = match row.state {
        State::Passed => "passed",
        State::Failed => "FAILED",
        State::Skipped => "skipped",
    };
    let seconds =
        if row.state == State::Skipped { "-".into() } else { format!("{:.1} s", row.seconds) };
    let exits = row.exits.map_or("-".into(), |exits| exits.to_string());
    let why = row.why.lines().next().unwrap_or("");
    let line =
        format!("{:<22} {:<6} {state:<8} {seconds:>9} {exits:>12}  {why}", row.guest, row.vendor);
    line.trim_end().to_owned()
}

/// The whole table; the closing line stands alone.
pub fn render(rows: &[Row]) -> String {
    let mut text = format!(
        "\n{:<22} {:<6} {:<8} {:>9} {:>12}  why\n",
        "guest", "vendor", "result", "time", "exits"
    );
    for row in rows {
        let _ = writeln!(text, "{}", line(row));
    }
    let count = |state: State| rows.iter().filter(|row| row.state == state).count();
    let _ = writeln!(
        text,
        "\n{} passed, {} failed, {} skipped",
        count(State::Passed),
        count(State::Failed),
        count(State::Skipped)
    );
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_closing_line_counts_and_stands_alone() {
        let rows = [
            Row::host("unit tests", 1.0, Ok(())),
            Row::failed("a", "svm", "no screen\nmore"),
            Row::skipped("a", "vmx", "only with --full: slow"),
        ];
        let text = render(&rows);
        assert_eq!(text.lines().last(), Some("1 passed, 1 failed, 1 skipped"));
        assert!(text.contains("only with --full: slow"));
        assert!(!text.contains("more"));
    }
}
