//! Where `log`'s messages go: a ring that the monitor can read back, the control channel if it is
//! open, and a sink, at first COM1 and the screen.

// UNSAFETY: turns a stored address back into the function pointer that was stored.

use core::fmt::{self, Write};
use core::sync::atomic::{AtomicUsize, Ordering};

use heapless::String;
use log::{Level, LevelFilter, Log, Metadata, Record};

use crate::cpu::lock::IrqLock;
use crate::cpu::{percpu, tsc};
use crate::drivers::{control, serial};

/// Bytes of log kept.
pub const KEPT: usize = 64 << 10;
/// Longest line; the rest is cut off.
const LINE: usize = 512;

/// Takes each finished line, `\n` included. Must not log.
pub type Sink = fn(&str);

static SINK: AtomicUsize = AtomicUsize::new(0);
static RING: IrqLock<Ring> = IrqLock::new(Ring { bytes: [0; KEPT], written: 0 });

struct Ring {
    bytes: [u8; KEPT],
    written: usize,
}

struct Logger;

impl Log for Logger {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.level() <= log::max_level()
    }

    fn log(&self, record: &Record<'_>) {
        if !self.enabled(record.metadata()) {
            return;
        }
        let mut line = Line(String::new());
        let us = tsc::uptime_ns() / 1000;
        let level = match record.level() {
            Level::Error => "ERROR ",
            Level::Warn => "WARN ",
            Level::Info => "",
            Level::Debug => "debug ",
            Level::Trace => "trace ",
        };
        let cpu = percpu::this().id;
        let (seconds, micros) = (us / 1_000_000, us % 1_000_000);
        let _ = write!(line, "[{seconds:3}.{micros:06} {cpu}] {level}{}", record.args());
        let _ = line.0.push('\n');
        emit(&line.0);
    }

    fn flush(&self) {
        serial::flush_all();
    }
}

/// A line that drops what does not fit, and keeps room for its end.
struct Line(String<LINE>);

impl Write for Line {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for c in text.chars() {
            if self.0.len() + c.len_utf8() < LINE {
                let _ = self.0.push(c);
            }
        }
        Ok(())
    }
}

fn emit(line: &str) {
    {
        let mut ring = RING.lock();
        for &byte in line.as_bytes() {
            let at = ring.written % KEPT;
            ring.bytes[at] = byte;
            ring.written = ring.written.wrapping_add(1);
        }
    }
    if control::is_open() {
        control::send(format_args!("@log {}", control::Escaped(line.trim_end_matches('\n'))));
    }
    let address = SINK.load(Ordering::Acquire);
    if address == 0 {
        serial::COM1.write(line.as_bytes());
        crate::drivers::screen::write(line);
    } else {
        // SAFETY: `set_sink` stored a `Sink` here.
        let sink = unsafe { core::mem::transmute::<usize, Sink>(address) };
        sink(line);
    }
}

/// Starts logging at `level` (a word; unknown or absent is info).
pub fn init(level: Option<&str>) {
    let filter = match level {
        Some("off") => LevelFilter::Off,
        Some("error") => LevelFilter::Error,
        Some("warn") => LevelFilter::Warn,
        Some("debug") => LevelFilter::Debug,
        Some("trace") => LevelFilter::Trace,
        _ => LevelFilter::Info,
    };
    // Fails only when called twice, and then the logger is in place.
    let _ = log::set_logger(&Logger);
    log::set_max_level(filter);
}

/// Sends lines to `sink` instead of COM1 and the screen, for a console that is shared with guests.
pub fn set_sink(sink: Sink) {
    SINK.store(sink as *const () as usize, Ordering::Release);
}

/// Copies the newest lines into `buffer`; the part that was filled.
pub fn newest(buffer: &mut [u8]) -> &mut [u8] {
    RING.lock().newest(buffer)
}

/// As [`newest`], for a panic: nothing where the log is being written to.
pub fn newest_if_free(buffer: &mut [u8]) -> &mut [u8] {
    match RING.try_lock() {
        Some(ring) => ring.newest(buffer),
        None => &mut [],
    }
}

impl Ring {
    fn newest<'a>(&self, buffer: &'a mut [u8]) -> &'a mut [u8] {
        let count = self.written.min(KEPT).min(buffer.len());
        for (i, byte) in buffer[..count].iter_mut().enumerate() {
            *byte = self.bytes[(self.written - count + i) % KEPT];
        }
        &mut buffer[..count]
    }
}
