//! The hypervisor's command line: words and `key=value` pairs, with "quotes around blanks".
//!
//! Known here: `exit=` (cpu/power.rs), `loglevel=off|error|warn|info|debug|trace`, `cpus=N`,
//! `selftest=` (selftest.rs), `apicv=0` and `posted=0` (domain/backend.rs), `ata=pio` (drivers/ata),
//! `control=com2` (drivers/control.rs).

use heapless::String;
use spin::Once;

use crate::boot::MAX_COMMAND_LINE;

static LINE: Once<String<MAX_COMMAND_LINE>> = Once::new();

/// Keeps the command line. Called once, early.
pub fn init(line: &str) {
    LINE.call_once(|| String::try_from(line).unwrap_or_default());
}

/// The whole line.
#[must_use]
pub fn line() -> &'static str {
    LINE.get().map_or("", |line| line.as_str())
}

/// The value of the last `key=value`, or `""` for a bare `key`; `None` where it is not there.
#[must_use]
pub fn get(key: &str) -> Option<&'static str> {
    words(line()).filter(|(k, _)| *k == key).last().map(|(_, value)| value)
}

/// All values of a repeated key, in order.
pub fn all(key: &str) -> impl Iterator<Item = &'static str> {
    words(line()).filter(move |(k, _)| *k == key).map(|(_, value)| value)
}

/// Splits a line into keys and values. A quoted value loses its quotes; an unclosed quote reaches
/// to the end.
pub fn words(line: &str) -> impl Iterator<Item = (&str, &str)> {
    let mut rest = line;
    core::iter::from_fn(move || {
        rest = rest.trim_start();
        if rest.is_empty() {
            return None;
        }
        let mut quoted = false;
        let end = rest.find(|c: char| {
            quoted ^= c == '"';
            !quoted && c.is_whitespace()
        });
        let (word, after) = rest.split_at(end.unwrap_or(rest.len()));
        rest = after;
        let (key, value) = word.split_once('=').unwrap_or((word, ""));
        let value = value.strip_prefix('"').unwrap_or(value);
        Some((key, value.strip_suffix('"').unwrap_or(value)))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_values_and_quotes_come_apart() {
        let line = "  quiet exit=debug guest=\"name = \"  a=b=c last=\"open end";
        let found: Vec<_> = words(line).collect();
        let wanted = [
            ("quiet", ""),
            ("exit", "debug"),
            ("guest", "name = "),
            ("a", "b=c"),
            ("last", "open end"),
        ];
        assert_eq!(found, wanted);
        assert_eq!(words("").count(), 0);
    }
}
