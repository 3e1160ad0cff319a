//! The machine's streams, each read by a thread of its own.

use crate::emulator::Stream;
use std::io::{BufRead, BufReader, Read, Write};
use std::sync::mpsc::Sender;

/// What is heard.
pub(super) enum Event {
    /// Bytes of the console.
    Console(Vec<u8>),
    /// A line of the control channel.
    Control(String),
    /// What the person typed.
    Key(Vec<u8>),
    /// The console is gone.
    ConsoleClosed,
}

/// Hears the console. What is written goes to it.
pub(super) fn read_bytes(mut stream: Stream, events: Sender<Event>) -> Box<dyn Write + Send> {
    std::thread::spawn(move || {
        let mut buffer = [0; 4096];
        while let Ok(count @ 1..) = stream.reader.read(&mut buffer) {
            if events.send(Event::Console(buffer[..count].to_vec())).is_err() {
                return;
            }
        }
        let _ = events.send(Event::ConsoleClosed);
    });
    stream.writer
}

/// Hears the control channel, line by line. What is written goes to it.
pub(super) fn read_lines(stream: Stream, events: Sender<Event>) -> Box<dyn Write + Send> {
    std::thread::spawn(move || {
        let mut reader = BufReader::new(stream.reader);
        loop {
            let mut line = Vec::new();
            // A line without end must not eat memory.
            match reader.by_ref().take(1 << 20).read_until(b'\n', &mut line) {
                Ok(1..) => {}
                _ => return,
            }
            let line = String::from_utf8_lossy(&line).trim_end_matches('\n').to_owned();
            if events.send(Event::Control(line)).is_err() {
                return;
            }
        }
    });
    stream.writer
}
