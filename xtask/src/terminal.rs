//! The person's terminal while a guest has it: every key goes to the machine as it is, and the
//! terminal is put back however the run ends.

use nix::sys::termios::{self, SetArg, Termios};
use std::io::{IsTerminal, Read};
use std::os::fd::AsFd;
use std::sync::mpsc::Sender;

/// The key that ends the run from this side when pressed three times in a row: Ctrl-].
pub const ESCAPE: u8 = 0x1d;

/// The terminal in raw mode; dropping it restores the old mode.
pub struct Raw(Termios);

impl Raw {
    /// Takes the terminal; `None` when standard input is none.
    pub fn enter() -> Option<Self> {
        let input = std::io::stdin();
        if !input.is_terminal() {
            return None;
        }
        let before = termios::tcgetattr(input.as_fd()).ok()?;
        let mut raw = before.clone();
        termios::cfmakeraw(&mut raw);
        termios::tcsetattr(input.as_fd(), SetArg::TCSANOW, &raw).ok()?;
        Some(Raw(before))
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        // Ends what the guest may have left: colours, a hidden cursor, another character set.
        eprint!("\x1b[0m\x1b[?25h\x1b(B");
        let _ = termios::tcsetattr(std::io::stdin().as_fd(), SetArg::TCSADRAIN, &self.0);
    }
}

/// Sends what is typed, until the other side is gone or input ends.
pub fn read_keys<T: Send + 'static>(events: Sender<T>, wrap: fn(Vec<u8>) -> T) {
    std::thread::spawn(move || {
        let mut buffer = [0; 256];
        while let Ok(count @ 1..) = std::io::stdin().lock().read(&mut buffer) {
            if events.send(wrap(buffer[..count].to_vec())).is_err() {
                return;
            }
        }
    });
}

/// Counts the escape key; `true` when it was pressed three times in a row.
pub fn wants_out(pressed: &mut u32, keys: &[u8]) -> bool {
    for &key in keys {
        *pressed = if key == ESCAPE { *pressed + 1 } else { 0 };
        if *pressed >= 3 {
            return true;
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn three_escapes_in_a_row_end_the_run_and_others_do_not() {
        let mut pressed = 0;
        assert!(!wants_out(&mut pressed, b"\x1d\x1da\x1d\x1d"));
        assert!(wants_out(&mut pressed, b"\x1d"));
    }
}
