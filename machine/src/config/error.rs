//! What can be wrong with a configuration, in one line that says where, what, and what is allowed.

use alloc::string::String;
use core::fmt;

/// A configuration that was refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigError {
    /// Name of the file, as the caller gave it.
    pub file: String,
    /// Line, from 1; 0 where the fault has no place, such as a missing key.
    pub line: u32,
    /// The key that it concerns; empty for faults of syntax before a key is known.
    pub key: String,
    /// What is wrong.
    pub problem: Problem,
}

/// What is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Problem {
    /// The text breaks the grammar: what was expected.
    Syntax(&'static str),
    /// No such key. A near one, if there is.
    UnknownKey(Option<&'static str>),
    /// A key of xl that means nothing here: why.
    OnlyInXl(&'static str),
    /// The key stands twice; the line of the first.
    Repeated(u32),
    /// The key must be given.
    Missing,
    /// A value of another type: the type that is wanted.
    WrongType(&'static str),
    /// A number outside its limits.
    OutOfRange {
        /// Lowest number allowed.
        min: i64,
        /// Highest number allowed.
        max: i64,
        /// What it counts: " MiB", or nothing.
        unit: &'static str,
    },
    /// A word that is not one of those allowed.
    NotAllowed {
        /// The word.
        value: String,
        /// What is allowed.
        allowed: &'static str,
        /// The nearest of the allowed words.
        near: Option<&'static str>,
    },
    /// Contradicts another key, or lacks it: a clause that says which.
    Conflict(&'static str),
    /// Two drives in one place: the word of the place.
    PlaceTaken(String),
    /// More than a guest can have: the highest number.
    TooMany(u32),
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:", self.file)?;
        if self.line != 0 {
            write!(f, "{}:", self.line)?;
        }
        if !self.key.is_empty() {
            // A key is what the file says; control characters must not reach a terminal.
            write!(f, " {}:", self.key.escape_debug())?;
        }
        write!(f, " {}", self.problem)
    }
}

impl core::error::Error for ConfigError {}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Problem::Syntax(expected) => write!(f, "expected {expected}"),
            Problem::UnknownKey(Some(near)) => write!(f, "unknown key; did you mean {near}?"),
            Problem::UnknownKey(None) => {
                f.write_str("unknown key; allowed are")?;
                for (n, key) in super::keys::names().enumerate() {
                    write!(f, "{} {key}", if n == 0 { "" } else { "," })?;
                }
                Ok(())
            }
            Problem::OnlyInXl(why) => write!(f, "a key of xl that is not used here: {why}"),
            Problem::Repeated(line) => write!(f, "given twice; first on line {line}"),
            Problem::Missing => f.write_str("missing; a guest needs it"),
            Problem::WrongType(want) => write!(f, "expected {want}"),
            Problem::OutOfRange { min, max, unit } => {
                write!(f, "allowed is {min} to {max}{unit}")
            }
            Problem::NotAllowed { value, allowed, near } => {
                write!(f, "\"{}\" is not allowed", value.escape_debug())?;
                if let Some(near) = near {
                    write!(f, "; did you mean \"{near}\"?")?;
                }
                write!(f, "; allowed is {allowed}")
            }
            Problem::Conflict(clause) => f.write_str(clause),
            Problem::PlaceTaken(place) => write!(f, "two drives at {place}"),
            Problem::TooMany(max) => write!(f, "at most {max} are allowed"),
        }
    }
}

/// The nearest of `words` to what was written, if it is near enough to be a slip of the fingers.
pub(super) fn nearest(
    written: &str,
    words: impl Iterator<Item = &'static str>,
) -> Option<&'static str> {
    let allowed = if written.len() < 4 { 1 } else { 2 };
    words
        .map(|word| (distance(written, word), word))
        .filter(|(distance, _)| *distance <= allowed)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, word)| word)
}

/// Insertions, deletions, changes and swaps of neighbours between two words; case does not count.
fn distance(a: &str, b: &str) -> usize {
    const LONGEST: usize = 24;
    let lower = |n: usize, s: &str| s.as_bytes().get(n).map_or(0, u8::to_ascii_lowercase);
    let (rows, columns) = (a.len(), b.len());
    if rows > LONGEST || columns > LONGEST {
        return usize::MAX;
    }
    let mut table = [[0usize; LONGEST + 1]; LONGEST + 1];
    for row in 0..=rows {
        for column in 0..=columns {
            table[row][column] = if row == 0 || column == 0 {
                row + column
            } else {
                let (x, y) = (lower(row - 1, a), lower(column - 1, b));
                let change = table[row - 1][column - 1] + usize::from(x != y);
                let gap = table[row - 1][column].min(table[row][column - 1]) + 1;
                let swap =
                    if row > 1 && column > 1 && x == lower(column - 2, b) && y == lower(row - 2, a)
                    {
                        table[row - 2][column - 2] + 1
                    } else {
                        usize::MAX
                    };
                change.min(gap).min(swap)
            };
        }
    }
    table[rows][columns]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slips_of_the_fingers_are_near_and_other_words_are_not() {
        let words = || ["vcpus", "memory", "disk", "on_crash"].into_iter();
        assert_eq!(nearest("vcpu", words()), Some("vcpus"));
        assert_eq!(nearest("MEMROY", words()), Some("memory"));
        assert_eq!(nearest("dsk", words()), Some("disk"));
        assert_eq!(nearest("flavour", words()), None);
        assert_eq!(nearest("", words()), None);
        assert_eq!(nearest(&"x".repeat(1000), words()), None);
    }
}
