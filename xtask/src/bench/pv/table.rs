//! The rows of `cargo xtask bench pv`, as a table for people and as JSON for programs.

use serde::Serialize;

/// What instructions are counted in.
pub const INSTRUCTIONS: &str = "instructions";

/// One line: a figure, or why there is none.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Row {
    /// `svm` or `vmx`.
    pub vendor: &'static str,
    /// The operation, in words.
    pub op: String,
    /// What was measured; `None` if nothing was.
    pub figure: Option<f64>,
    /// It should have been measured.
    pub failed: bool,
    /// Of what the figure is a number.
    pub unit: &'static str,
    /// The most that it should be.
    pub aim: Option<u64>,
    /// Why there is no figure, or what must be known to read it.
    pub note: Option<String>,
}

impl Row {
    /// A count of instructions.
    pub fn count(vendor: &'static str, op: &str, figure: u64) -> Row {
        Row::figure(vendor, op, figure as f64, INSTRUCTIONS)
    }

    /// A figure of any unit.
    pub fn figure(vendor: &'static str, op: &str, figure: f64, unit: &'static str) -> Row {
        let op = op.to_owned();
        Row { vendor, op, figure: Some(figure), failed: false, unit, aim: None, note: None }
    }

    /// What should have been measured and was not.
    pub fn failed(vendor: &'static str, op: &str, why: &str) -> Row {
        Row { failed: true, ..Row::left_out(vendor, op, why) }
    }

    /// What is not measured on this vendor's virtualization.
    pub fn left_out(vendor: &'static str, op: &str, why: &str) -> Row {
        let mut row = Row::figure(vendor, op, 0.0, INSTRUCTIONS);
        (row.figure, row.note) = (None, Some(why.to_owned()));
        row
    }

    /// The same with an aim.
    pub fn aim(mut self, aim: impl Into<Option<u64>>) -> Row {
        self.aim = aim.into();
        self
    }

    /// The same with a note.
    pub fn note(mut self, note: &str) -> Row {
        self.note = Some(note.to_owned());
        self
    }

    /// The line of the table.
    pub fn line(&self) -> String {
        let none = if self.failed { "failed" } else { "-" };
        let figure = self.figure.map_or(none.to_owned(), |figure| number(figure, self.unit));
        let aim = self.aim.map_or("-".to_owned(), grouped);
        let unit = if self.figure.is_some() { self.unit } else { "" };
        let note = self.note.as_deref().unwrap_or("");
        format!("{:<6} {:<46} {figure:>14} {aim:>8}  {unit:<28} {note}", self.vendor, self.op)
            .trim_end()
            .to_owned()
    }
}

/// The line above the table.
pub fn head() -> String {
    format!("{:<6} {:<46} {:>14} {:>8}  unit", "vendor", "operation", "measured", "aim")
}

/// Instructions are whole; of other units one decimal is kept.
fn number(figure: f64, unit: &str) -> String {
    let whole = if unit == INSTRUCTIONS { figure.round() } else { figure.trunc() };
    let text = grouped(whole as u64);
    if unit == INSTRUCTIONS {
        return text;
    }
    let tenths = (figure * 10.0) as u64 % 10;
    format!("{text}.{tenths}")
}

/// A number with a comma between thousands.
pub fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_has_the_figure_the_aim_and_the_unit() {
        let line = Row::count("svm", "null hypercall", 1270).aim(150).line();
        let words: Vec<&str> = line.split_whitespace().collect();
        assert_eq!(words, ["svm", "null", "hypercall", "1,270", "150", "instructions"]);
        let line = Row::figure("vmx", "ping", 20.36, "packets").note("both ways").line();
        let words: Vec<&str> = line.split_whitespace().collect();
        assert_eq!(words, ["vmx", "ping", "20.3", "-", "packets", "both", "ways"]);
        assert_eq!(grouped(12), "12");
        assert_eq!(grouped(1_234_567), "1,234,567");
    }

    #[test]
    fn a_failure_is_a_line_of_its_own_and_null_in_json() {
        let row = Row::failed("svm", "disk", "timeout: no end");
        assert!(row.line().contains("failed"), "{}", row.line());
        assert!(row.line().ends_with("timeout: no end"), "{}", row.line());
        let json = serde_json::to_value(&row).unwrap();
        assert!(json["figure"].is_null() && json["failed"] == true);
        let row = Row::left_out("vmx", "boot", "QEMU only");
        assert!(!row.failed && !row.line().contains("failed"), "{}", row.line());
        assert_eq!(json["note"], "timeout: no end");
        let json = serde_json::to_value(Row::count("svm", "a", 7).aim(150)).unwrap();
        assert_eq!((json["figure"].as_f64(), json["aim"].as_u64()), (Some(7.0), Some(150)));
    }
}
