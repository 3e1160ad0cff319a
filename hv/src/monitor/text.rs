//! Where answers go: the console, or the control channel line by line.

use core::fmt::{self, Write};

use alloc::format;
use alloc::string::{String, ToString};
use arch::Why;
use pvdrivers::abi::sched::ShutdownReason;

/// Gathers text and gives it on line by line.
pub struct ByLine<F: FnMut(&str)> {
    line: String,
    take: F,
}

impl<F: FnMut(&str)> ByLine<F> {
    /// Calls `take` with each line, without its end.
    pub const fn new(take: F) -> ByLine<F> {
        ByLine { line: String::new(), take }
    }

    /// The rest, where the last line has no end.
    pub fn finish(mut self) {
        if !self.line.is_empty() {
            (self.take)(&self.line);
        }
    }
}

impl<F: FnMut(&str)> Write for ByLine<F> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let mut rest = text;
        while let Some((line, after)) = rest.split_once('\n') {
            self.line.push_str(line);
            (self.take)(&self.line);
            self.line.clear();
            rest = after;
        }
        self.line.push_str(rest);
        Ok(())
    }
}

/// Reads a number: `0x` or a trailing `h` for hexadecimal, else decimal; with `hexadecimal`, digits
/// alone are hexadecimal too, as addresses are written.
#[must_use]
pub fn number(text: &str, hexadecimal: bool) -> Option<u64> {
    let text = text.trim_start_matches('+');
    if let Some(digits) = text.strip_prefix("0x").or_else(|| text.strip_suffix('h')) {
        return u64::from_str_radix(digits, 16).ok();
    }
    u64::from_str_radix(text, if hexadecimal { 16 } else { 10 }).ok()
}

/// Why a guest has ended, in words.
#[must_use]
pub fn why(why: Why) -> String {
    match why {
        Why::PowerOff => "power-off".to_string(),
        Why::Reset => "reboot".to_string(),
        Why::Destroyed => "destroyed".to_string(),
        Why::TripleFault => "triple fault".to_string(),
        Why::Crashed(reason) => match ShutdownReason(reason.into()) {
            ShutdownReason::CRASH => "the guest says that it crashed".to_string(),
            ShutdownReason::WATCHDOG => "the guest's watchdog fired".to_string(),
            ShutdownReason(reason) => format!("the guest gave reason {reason}"),
        },
        Why::Unhandled(kind) => format!("what it does cannot be emulated (kind {kind:#x})"),
        Why::BadState(code) => format!("the CPU refused its state (code {code:#x})"),
        Why::Panic => "the hypervisor panicked".to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::string::ToString;
    use std::vec::Vec;

    #[test]
    fn lines_come_out_whole_however_they_were_written() {
        let mut got = Vec::new();
        let mut lines = ByLine::new(|line| got.push(line.to_string()));
        for part in ["a", "b\nc", "\n\nd"] {
            lines.write_str(part).unwrap();
        }
        lines.finish();
        assert_eq!(got, ["ab", "c", "", "d"]);
    }

    #[test]
    fn numbers_are_read_as_people_write_them() {
        assert_eq!(number("10", false), Some(10));
        assert_eq!(number("10", true), Some(16));
        assert_eq!(number("0x7c00", false), Some(0x7c00));
        assert_eq!(number("7c00h", false), Some(0x7c00));
        assert_eq!(number("x", true), None);
    }
}
