//! The control channel's lines on COM2, as docs/control.md defines them: sending, receiving,
//! escaping. What the commands do is up to whoever reads the lines.

use core::fmt::{self, Write};
use core::sync::atomic::{AtomicBool, Ordering};

use super::serial::COM2;
use crate::cpu::lock::IrqLock;

/// Longest line, LF included.
pub const MAX_LINE: usize = 16_384;

static OPEN: AtomicBool = AtomicBool::new(false);

/// Opens the channel if the command line has `control=com2`. Log lines then go out as `@log`.
pub fn init() {
    let wanted = crate::config::get("control") == Some("com2");
    OPEN.store(wanted && COM2.is_present(), Ordering::Release);
}

/// True if the channel is open.
pub fn is_open() -> bool {
    OPEN.load(Ordering::Acquire)
}

/// Keeps the lines of several CPUs apart.
static LINE: IrqLock<()> = IrqLock::new(());

/// Sends `line`, which has no line end of its own; nothing where the channel is closed.
pub fn send(line: fmt::Arguments<'_>) {
    if is_open() {
        let _whole = LINE.lock();
        let mut out = Raw;
        let _ = out.write_fmt(line);
        let _ = out.write_str("\n");
    }
}

/// Sends `@panic TEXT` for each line of `text`, without locks. Only for a machine that ends.
pub fn panic(text: fmt::Arguments<'_>) {
    if is_open() {
        COM2.flush();
        let mut out = Polled { at_start: true };
        let _ = out.write_fmt(text);
        COM2.write_polled(b"\n");
    }
}

struct Raw;

impl Write for Raw {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        COM2.write_raw(text.as_bytes());
        Ok(())
    }
}

struct Polled {
    at_start: bool,
}

impl Write for Polled {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for byte in text.bytes() {
            if self.at_start {
                COM2.write_polled(b"@panic ");
            }
            self.at_start = byte == b'\n';
            COM2.write_polled(&[byte]);
        }
        Ok(())
    }
}

/// Shows text in the form that a line can hold: `\\`, `\n`, `\r`, `\t`, `\xNN` for other controls.
#[derive(Clone, Copy, Debug)]
pub struct Escaped<'a>(pub &'a str);

impl fmt::Display for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for c in self.0.chars() {
            match c {
                '\\' => f.write_str("\\\\")?,
                '\n' => f.write_str("\\n")?,
                '\r' => f.write_str("\\r")?,
                '\t' => f.write_str("\\t")?,
                c if c.is_ascii_control() => write!(f, "\\x{:02x}", c as u32)?,
                c => f.write_char(c)?,
            }
        }
        Ok(())
    }
}

/// Undoes [`Escaped`], byte by byte, into `out`; the filled part. `None` where an escape is
/// damaged or `out` too short.
pub fn unescape<'a>(text: &str, out: &'a mut [u8]) -> Option<&'a [u8]> {
    let mut bytes = text.bytes();
    let mut len = 0;
    while let Some(byte) = bytes.next() {
        let plain = match byte {
            b'\\' => match bytes.next()? {
                b'\\' => b'\\',
                b'n' => b'\n',
                b'r' => b'\r',
                b't' => b'\t',
                b'x' => {
                    let digit = |b: u8| char::from(b).to_digit(16);
                    let (high, low) = (digit(bytes.next()?)?, digit(bytes.next()?)?);
                    (high * 16 + low) as u8
                }
                _ => return None,
            },
            byte => byte,
        };
        *out.get_mut(len)? = plain;
        len += 1;
    }
    Some(&out[..len])
}

/// Gathers bytes into lines. Too long a line is dropped as a whole.
#[derive(Debug)]
pub struct Lines {
    buffer: [u8; MAX_LINE],
    len: usize,
    overflowed: bool,
}

impl Lines {
    /// Nothing gathered.
    #[must_use]
    pub const fn new() -> Lines {
        Lines { buffer: [0; MAX_LINE], len: 0, overflowed: false }
    }

    /// Adds a byte; calls `take` with a complete line, without its end. Lines that are no UTF-8
    /// are dropped.
    pub fn push(&mut self, byte: u8, take: impl FnOnce(&str)) {
        if byte != b'\n' {
            match self.buffer.get_mut(self.len) {
                Some(place) => {
                    *place = byte;
                    self.len += 1;
                }
                None => self.overflowed = true,
            }
            return;
        }
        let line = &self.buffer[..self.len];
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        if !self.overflowed
            && let Ok(line) = core::str::from_utf8(line)
        {
            take(line);
        }
        (self.len, self.overflowed) = (0, false);
    }
}

impl Default for Lines {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escapes_come_back_as_they_went() {
        let text = "a\\b\n\t\r\u{1}é";
        let escaped = Escaped(text).to_string();
        assert_eq!(escaped, "a\\\\b\\n\\t\\r\\x01é");
        assert_eq!(unescape(&escaped, &mut [0; 64]), Some(text.as_bytes()));
        assert_eq!(unescape("\\q", &mut [0; 4]), None);
        assert_eq!(unescape("\\x1", &mut [0; 4]), None);
        assert_eq!(unescape("abc", &mut [0; 2]), None);
    }

    #[test]
    fn lines_end_at_lf_and_an_endless_one_is_dropped() {
        let mut lines = Lines::new();
        let mut got = Vec::new();
        for byte in b"one\r\ntwo\n".iter().chain(&[b'x'; MAX_LINE + 1]).chain(b"\nthree\n") {
            lines.push(*byte, |line| got.push(line.to_string()));
        }
        assert_eq!(got, ["one", "two", "three"]);
    }
}
