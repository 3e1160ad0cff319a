//! The console: COM1, and the host's keyboard and mouse. Shows one guest's serial port, its text
//! screen, or the monitor; Ctrl-A and a key change that.

use core::fmt::{self, Write};
use core::sync::atomic::{AtomicBool, AtomicU8, AtomicUsize, Ordering};

use alloc::string::String;
use alloc::vec::Vec;
use devmodel::ps2kbd::Key;
use devmodel::ps2mouse::Buttons;
use heapless::String as Line;
use spin::Mutex;

use super::command::{self, Refusal};
use super::{display, keys, typing};
use crate::cpu::power::{self, Code};
use crate::cpu::tsc;
use crate::domain::backend::Backend;
use crate::domain::sched::World;
use crate::domain::{State, console, pv, rescue};
use crate::drivers::serial::COM1;
use crate::drivers::{control, ps2, screen};

const PROMPT: &str = "xenolith> ";
const CTRL_A: u8 = 1;
/// Bytes of input taken in one step.
const AT_ONCE: usize = 4096;
/// How often the text screen on COM1 is compared with the guest's.
const REFRESH_NS: u64 = 100_000_000;
/// Most rows of a text screen on COM1.
const ROWS: usize = 64;

const HELP: &str = "
Ctrl-A and then:
  c       monitor, and back to the guest
  1 to 9  the guest with this number
  s       its serial port, or its screen (on COM1; text modes)
  Ctrl-A  sends a Ctrl-A
  x       ends all guests and the machine
  h       this list
";

/// What COM1 shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Show {
    /// The serial port of the guest in focus.
    Serial = 0,
    /// Its text screen.
    Screen = 1,
    /// The monitor.
    Monitor = 2,
}

static FOCUS: AtomicUsize = AtomicUsize::new(1);
static SHOW: AtomicU8 = AtomicU8::new(Show::Serial as u8);
/// What was shown before the monitor.
static BEFORE: AtomicU8 = AtomicU8::new(Show::Serial as u8);
/// The last byte on COM1 ended a line.
static AT_START: AtomicBool = AtomicBool::new(true);

/// A command is being carried out: its answer is on COM1.
static BUSY: AtomicBool = AtomicBool::new(false);

struct Input {
    line: Line<256>,
    last: Line<256>,
    /// Ctrl-A came: the next key says what is wanted. On COM1, on the keyboard.
    escape: [bool; 2],
    /// Bytes of an escape sequence for the text screen.
    sequence: u8,
    set1: keys::Set1,
    mouse: keys::Mouse,
    ctrl: bool,
    shift: bool,
}

/// Only CPU 0 comes here.
static INPUT: Mutex<Input> = Mutex::new(Input {
    line: Line::new(),
    last: Line::new(),
    escape: [false; 2],
    sequence: 0,
    set1: keys::Set1::new(),
    mouse: keys::Mouse::new(),
    ctrl: false,
    shift: false,
});

/// What a piece of input leads to, done when nothing is locked.
enum Act {
    Nothing,
    Escape(u8),
    Command(Line<256>),
    Serial(u8),
    Type(char),
    Key(Key, bool),
}

/// The guest in focus, by number.
#[must_use]
pub fn focused() -> usize {
    FOCUS.load(Ordering::Relaxed)
}

/// What is shown.
#[must_use]
pub fn shown() -> Show {
    match SHOW.load(Ordering::Relaxed) {
        0 => Show::Serial,
        1 => Show::Screen,
        _ => Show::Monitor,
    }
}

/// Whether COM1 shows the serial port of guest `id`.
#[must_use]
pub fn shows_serial_of(id: usize) -> bool {
    shown() == Show::Serial && focused() == id
}

/// Gives a guest the focus.
pub fn focus(id: usize) {
    FOCUS.store(id, Ordering::Relaxed);
    display::refresh();
}

/// Bytes of the serial port of the guest in focus.
pub fn write_serial(bytes: &[u8]) {
    if let Some(last) = bytes.last() {
        AT_START.store(*last == b'\n', Ordering::Relaxed);
        COM1.write_raw(bytes);
    }
}

/// A line of the log. With the control channel open it has gone there already, and COM1 is left to
/// the guest, but for what is bad.
pub fn log_line(line: &str) {
    screen::write(line);
    let guest = shown() != Show::Monitor;
    let bad = line.contains("] ERROR ") || line.contains("] WARN ");
    if shown() == Show::Screen || (guest && control::is_open() && !bad) {
        return;
    }
    let typing = !guest && !BUSY.load(Ordering::Relaxed);
    if !AT_START.swap(true, Ordering::Relaxed) {
        // Over a line that is being typed, but below anything else.
        COM1.write_raw(if typing { b"\r\x1b[K" } else { b"\r\n" });
    }
    COM1.write(line.as_bytes());
    if typing {
        // The line being typed is shown again.
        if let Some(input) = INPUT.try_lock() {
            AT_START.store(false, Ordering::Relaxed);
            COM1.write(PROMPT.as_bytes());
            COM1.write(input.line.as_bytes());
        }
    }
}

/// Monitor text: on COM1 and on the host's screen.
struct Console;

impl Write for Console {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        if let Some(last) = text.bytes().last() {
            AT_START.store(last == b'\n', Ordering::Relaxed);
        }
        COM1.write(text.as_bytes());
        screen::write(text);
        Ok(())
    }
}

/// Takes what was typed, and shows what is due.
pub fn step<B: Backend>(world: &'static World<B>) {
    for _ in 0..AT_ONCE {
        let Some(byte) = COM1.read() else { break };
        let act = INPUT.lock().serial(byte);
        perform(world, act);
    }
    for _ in 0..AT_ONCE {
        let Some(byte) = ps2::read_keyboard() else { break };
        let act = INPUT.lock().keyboard(byte);
        perform(world, act);
    }
    mouse(world);
    if shown() == Show::Screen {
        draw(world, false);
    }
}

impl Input {
    /// A byte from COM1.
    fn serial(&mut self, byte: u8) -> Act {
        if core::mem::take(&mut self.escape[0]) {
            return Act::Escape(byte);
        }
        if byte == CTRL_A {
            self.escape[0] = true;
            return Act::Nothing;
        }
        match shown() {
            Show::Serial => Act::Serial(byte),
            Show::Screen => self.to_screen(byte),
            Show::Monitor => self.edit(byte),
        }
    }

    /// A byte typed at the text screen: terminals send sequences for some keys.
    fn to_screen(&mut self, byte: u8) -> Act {
        let both = |key| Act::Key(key, true);
        match (self.sequence, byte) {
            (0, 0x1b) => {
                self.sequence = 1;
                // Alone it is the Escape key; COM1 has the rest of a sequence by now.
                if COM1.has_input() {
                    return Act::Nothing;
                }
                self.sequence = 0;
                both(Key::Escape)
            }
            (1, b'[' | b'O') => {
                self.sequence = 2;
                Act::Nothing
            }
            (2, _) => {
                self.sequence = 0;
                match byte {
                    b'A' => both(Key::Up),
                    b'B' => both(Key::Down),
                    b'C' => both(Key::Right),
                    b'D' => both(Key::Left),
                    b'H' => both(Key::Home),
                    b'F' => both(Key::End),
                    b'P' => both(Key::F1),
                    b'Q' => both(Key::F2),
                    b'R' => both(Key::F3),
                    b'S' => both(Key::F4),
                    _ => Act::Nothing,
                }
            }
            _ => {
                self.sequence = 0;
                Act::Type(char::from(byte))
            }
        }
    }

    /// A byte typed at the monitor.
    fn edit(&mut self, byte: u8) -> Act {
        match byte {
            b'\r' | b'\n' => {
                let _ = Console.write_str("\n");
                let line = core::mem::take(&mut self.line);
                if !line.trim().is_empty() {
                    self.last = line.clone();
                }
                return Act::Command(line);
            }
            8 | 0x7f => {
                if self.line.pop().is_some() {
                    let _ = Console.write_str("\u{8} \u{8}");
                }
            }
            // Ctrl-P: the last line again. Ctrl-U: away with this one.
            0x10 | 0x15 => {
                while self.line.pop().is_some() {
                    let _ = Console.write_str("\u{8} \u{8}");
                }
                if byte == 0x10 {
                    self.line = self.last.clone();
                    let _ = Console.write_str(&self.line);
                }
            }
            b' '..0x7f => {
                if self.line.push(char::from(byte)).is_ok() {
                    let _ = Console.write_char(char::from(byte));
                }
            }
            _ => {}
        }
        Act::Nothing
    }

    /// A byte from the host's keyboard.
    fn keyboard(&mut self, byte: u8) -> Act {
        let Some((key, down)) = self.set1.push(byte) else { return Act::Nothing };
        match key {
            Key::LeftCtrl | Key::RightCtrl => self.ctrl = down,
            Key::LeftShift | Key::RightShift => self.shift = down,
            _ if !down => {}
            _ if self.escape[1] => {
                self.escape[1] = false;
                let letter = keys::character(key, self.shift);
                return match letter {
                    Some(b'a') if self.ctrl => Act::Key(Key::A, true),
                    letter => Act::Escape(letter.unwrap_or(b'h')),
                };
            }
            Key::A if self.ctrl => {
                self.escape[1] = true;
                return Act::Nothing;
            }
            _ => {}
        }
        if shown() != Show::Monitor {
            return Act::Key(key, down);
        }
        match keys::character(key, self.shift) {
            Some(byte) if down => self.edit(if self.ctrl { byte & 0x1f } else { byte }),
            _ => Act::Nothing,
        }
    }
}

fn perform<B: Backend>(world: &'static World<B>, act: Act) {
    match act {
        Act::Nothing => {}
        Act::Escape(byte) => escape(world, byte),
        Act::Command(line) => execute(world, &line),
        Act::Serial(byte) => {
            if let Some(domain) = world.domains.get(focused().wrapping_sub(1))
                && !domain.console.input.lock().push(byte)
            {
                COM1.write_raw(b"\x07");
            }
        }
        Act::Type(character) => {
            let mut buffer = [0; 4];
            let _ = typing::text(focused(), character.encode_utf8(&mut buffer));
        }
        Act::Key(key, down) => typing::stroke(focused(), key, down),
    }
}

fn escape<B: Backend>(world: &'static World<B>, byte: u8) {
    match byte {
        b'c' if shown() == Show::Monitor => {
            let before = BEFORE.load(Ordering::Relaxed);
            change(world, if before == Show::Screen as u8 { Show::Screen } else { Show::Serial });
        }
        b'c' => change(world, Show::Monitor),
        b'1'..=b'9' => {
            let id = usize::from(byte - b'0');
            if id <= world.domains.len() {
                focus(id);
                let show = if shown() == Show::Monitor { Show::Serial } else { shown() };
                change(world, show);
            }
        }
        b's' if shown() == Show::Screen => change(world, Show::Serial),
        b's' => change(world, Show::Screen),
        b'x' => power::stop(Code::Clean),
        CTRL_A | b'a' => match shown() {
            Show::Serial => perform(world, Act::Serial(CTRL_A)),
            _ => perform(world, Act::Type('\u{1}')),
        },
        _ => {
            let _ = Console.write_str(HELP);
        }
    }
}

fn change<B: Backend>(world: &'static World<B>, show: Show) {
    let old = SHOW.swap(show as u8, Ordering::Relaxed);
    if show != Show::Monitor {
        BEFORE.store(show as u8, Ordering::Relaxed);
    }
    if old == Show::Screen as u8 {
        // The terminal's own colours and cursor; the rest of the screen goes.
        COM1.write_raw(b"\x1b[0m\x1b[2J\x1b[H");
        AT_START.store(true, Ordering::Relaxed);
    }
    display::refresh();
    let Some(domain) = world.domains.get(focused().wrapping_sub(1)) else { return };
    let ended = if domain.state() == State::Dead { ", which has ended" } else { "" };
    match show {
        Show::Monitor => {
            display::step(world);
            let _ =
                write!(Console, "\n[monitor; Ctrl-A c goes back, help lists commands]\n{PROMPT}");
        }
        Show::Serial => {
            let start = if AT_START.load(Ordering::Relaxed) { "" } else { "\r\n" };
            let name = &domain.name;
            let mut line = String::new();
            let _ = write!(line, "{start}[serial port of {name}{ended}]\r\n");
            write_serial(line.as_bytes());
            console::replay(domain);
        }
        Show::Screen => draw(world, true),
    }
}

fn execute<B: Backend>(world: &'static World<B>, line: &str) {
    // Interrupts only move bytes and set flags: a long answer need not hold them up.
    crate::cpu::lock::restore_interrupts(true);
    let focus = focused();
    BUSY.store(true, Ordering::Relaxed);
    let done = rescue::catch(|| command::run(world, line, focus, &mut Console));
    crate::cpu::lock::close_interrupts();
    BUSY.store(false, Ordering::Relaxed);
    match done {
        Some(Ok(())) => {}
        Some(Err(Refusal::Because(why))) => drop(writeln!(Console, "{why}")),
        Some(Err(Refusal::Told(why))) => drop(writeln!(Console, "{why}")),
        Some(Err(Refusal::Output)) => {}
        None => {
            let _ = writeln!(Console, "the hypervisor panicked: {}", rescue::last());
            if let Some(domain) = world.domains.get(focus.wrapping_sub(1)) {
                domain.panicked();
            }
        }
    }
    if shown() == Show::Monitor {
        let _ = Console.write_str(PROMPT);
    }
}

fn mouse<B: Backend>(world: &'static World<B>) {
    let domain = world.domains.get(focused().wrapping_sub(1));
    for _ in 0..AT_ONCE {
        let Some(byte) = ps2::read_mouse() else { return };
        let moved = INPUT.lock().mouse.push(byte);
        let Some((dx, dy, [left, right, middle])) = moved else { continue };
        if shown() == Show::Monitor {
            continue;
        }
        let Some(domain) = domain.filter(|domain| domain.state() == State::Running) else {
            continue;
        };
        let buttons = Buttons { left, right, middle, ..Buttons::default() };
        console::guarded(domain, || {
            if pv::pointer(&**domain, (dx.into(), dy.into()), [left, right, middle]) {
                return;
            }
            let now = domain.machine.now(&**domain);
            domain.machine.with_keyboard(&**domain, |ps2| {
                ps2.mouse_motion(dx, dy, 0, now);
                ps2.mouse_buttons(buttons, now);
            });
        });
    }
}

/// The rows that COM1 shows now.
static ROWS_SHOWN: Mutex<(Vec<String>, u64)> = Mutex::new((Vec::new(), 0));

/// Brings the text screen on COM1 up to date: rows that differ.
fn draw<B: Backend>(world: &'static World<B>, all: bool) {
    let mut kept = ROWS_SHOWN.lock();
    let (rows, next) = &mut *kept;
    let now = tsc::now();
    if !all && now < *next {
        console::want_by(*next);
        return;
    }
    *next = now + tsc::from_ns(REFRESH_NS);
    console::want_by(*next);
    if all {
        rows.clear();
        COM1.write_raw(b"\x1b[0m\x1b[2J");
    }
    let Some(domain) = world.domains.get(focused().wrapping_sub(1)) else { return };
    let mut text = String::new();
    if display::text_screen(domain, &mut text).is_none() {
        text.clear();
        text.push_str("[a graphics mode; Ctrl-A s shows the serial port]\n");
    }
    for (n, line) in text.lines().chain(core::iter::repeat("")).take(ROWS).enumerate() {
        if rows.len() <= n {
            rows.push(String::new());
        }
        if rows[n] != line {
            rows[n].clear();
            rows[n].push_str(line);
            let mut out = String::new();
            let _ = write!(out, "\x1b[{};1H{line}\x1b[K", n + 1);
            COM1.write_raw(out.as_bytes());
        }
    }
}
