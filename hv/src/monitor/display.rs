//! Guests' screens: on the host's own screen, as text, as pictures for the control channel.
//!
//! The registers are copied under the board's lock and the picture is made from the copy and the
//! video memory, so that a guest never waits for its picture. The host's screen follows the guest
//! in focus, some lines at a time; off with `display=none`.

use core::fmt::Write;

use alloc::boxed::Box;
use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;
use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use devmodel::vga::{Mode, Ocr, OcrColumn, OcrFont, Picture, Shown, Vga};
use machine::Machine;
use spin::Mutex;

use super::command::Refusal;
use super::terminal::{self, Show};
use crate::cpu::tsc;
use crate::domain::backend::Backend;
use crate::domain::sched::World;
use crate::domain::{Domain, console, pv};
use crate::drivers::control::send;
use crate::drivers::screen;

/// How often the host's screen is brought up to date.
const FRAME_NS: u64 = 40_000_000;
/// The same, where the guest draws without the card's knowledge.
const UNSEEN_NS: u64 = 120_000_000;
/// Between two pieces of a picture.
const PIECE_NS: u64 = 500_000;
/// Pixels of a picture in one step.
const PIECE: u32 = 64 << 10;
/// Glyphs that make a text worth having.
const ENOUGH: u32 = 40;

type Memory = &'static [core::sync::atomic::AtomicU32];

/// A copy of the card's registers, to look at in peace; `None` where the devices are lost.
pub fn snapshot<B: Backend>(domain: &Domain<B>) -> Option<Box<Vga>> {
    Some(copy(domain)?.0)
}

fn copy<B: Backend>(domain: &Domain<B>) -> Option<(Box<Vga>, Memory)> {
    console::guarded(domain, || domain.machine.with_vga(|vga, vram| (Box::new(vga.clone()), vram)))
}

/// Looks at what the guest shows: by its paravirtual screen while it draws there, else by its card. `blinking`: as at
/// this moment, else without a cursor. `None` where the devices are lost.
fn with_picture<B: Backend, R>(
    domain: &Domain<B>,
    blinking: bool,
    look: impl FnOnce(&dyn Picture) -> R,
) -> Option<R> {
    if let Some(drawn) = pv::drawn(domain) {
        return Some(look(&drawn));
    }
    let (vga, vram) = copy(domain)?;
    let now = || console::guarded(domain, || domain.machine.now(domain));
    let now = if blinking { now()? } else { arch::Nanos(0) };
    Some(look(&Shown { frame: vga.frame(now), vram }))
}

/// Writes the text screen; its columns and rows. `None` in graphics modes and where devices are
/// lost.
pub fn text_screen<B: Backend>(domain: &Domain<B>, out: &mut dyn Write) -> Option<(u32, u32)> {
    if pv::drawn(domain).is_some() {
        return None;
    }
    let (vga, vram) = copy(domain)?;
    let mut text = String::new();
    if !vga.screen_text(vram, &mut text).ok()? {
        return None;
    }
    // A screen that is turned off still reads, but tells no width.
    let columns = if let Mode::Text { cols, .. } = vga.mode() { cols } else { 80 };
    out.write_str(&text).ok()?;
    Some((columns, text.lines().count() as u32))
}

/// Writes the screen as text; in a graphics mode what the firmware's fonts let be read.
///
/// # Errors
/// Where the devices are lost.
pub fn text<B: Backend>(domain: &Domain<B>, out: &mut dyn Write) -> Result<(), Refusal> {
    if text_screen(domain, out).is_some() {
        return Ok(());
    }
    with_picture(domain, false, |picture| read(picture, out)).ok_or("its devices are lost")?
}

/// Reads a picture by the firmware's fonts.
fn read(picture: &dyn Picture, out: &mut dyn Write) -> Result<(), Refusal> {
    let (width, height) = picture.size();
    let mut columns = vec![OcrColumn::default(); width as usize];
    let mut line = vec![0; width as usize];
    let mut best = (0, String::new(), 16);
    let fonts: [(usize, &[u8]); 3] = [
        (16, bios::fonts::FONT_8X16.as_slice()),
        (14, bios::fonts::FONT_8X14.as_slice()),
        (8, bios::fonts::FONT_8X8.as_slice()),
    ];
    for (rows, glyphs) in fonts {
        let font = Box::new(OcrFont::<256>::cp437(rows, glyphs));
        let mut ocr = Ocr { columns: &mut columns, line: &mut line };
        let mut text = String::new();
        let known = ocr.text_by_font(picture, &*font, &mut text)?;
        if known > best.0 {
            best = (known, text, rows);
        }
        if known >= ENOUGH {
            break;
        }
    }
    let (known, text, rows) = best;
    writeln!(out, "[{width}x{height} pixels; {known} characters by the font of {rows} lines]")?;
    Ok(out.write_str(&text)?)
}

/// Sends the picture to the control channel.
pub fn screenshot<B: Backend>(domain: &Domain<B>) -> Option<()> {
    with_picture(domain, true, |picture| send_picture(&domain.name, picture))
}

fn send_picture(name: &str, picture: &dyn Picture) {
    let (width, height) = picture.size();
    send(format_args!("@framebuffer {name} {width} {height}"));
    let (mut line, mut above) = (vec![0; width as usize], Vec::new());
    let mut runs = Vec::new();
    for y in 0..height {
        // A guest that lets go of its screen meanwhile leaves the rest black.
        let used = picture.row(y, &mut line);
        line[used..].fill(0);
        let row = line.as_slice();
        if y != 0 && row == above.as_slice() {
            continue;
        }
        above.clear();
        above.extend_from_slice(row);
        runs.clear();
        for equal in row.chunk_by(|a, b| a == b) {
            let [_, red, green, blue] = equal[0].to_be_bytes();
            for part in equal.chunks(255) {
                runs.extend_from_slice(&[part.len() as u8, red, green, blue]);
            }
        }
        send(format_args!("@pixels {name} {y} {}", BASE64.encode(&runs)));
    }
    send(format_args!("@framebuffer {name} end"));
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Owner {
    Log,
    Guest,
}

struct Display {
    on: bool,
    owner: Owner,
    /// Everything is to be drawn again.
    stale: bool,
    guest: usize,
    generation: u64,
    size: (u32, u32),
    /// A hash of each line on the screen.
    lines: Vec<u64>,
    /// The next line of a picture that is being drawn.
    next_line: Option<u32>,
    /// TSC of the next step.
    next: u64,
    /// TSC at which the last picture began.
    began: u64,
    pixels: Vec<u32>,
}

/// Only CPU 0 comes here.
static DISPLAY: Mutex<Display> = Mutex::new(Display {
    on: false,
    owner: Owner::Log,
    stale: true,
    guest: 0,
    generation: 0,
    size: (0, 0),
    lines: Vec::new(),
    next_line: None,
    next: 0,
    began: 0,
    pixels: Vec::new(),
});

/// Looks whether the host has a screen to draw on.
pub fn init() {
    let wanted = crate::config::get("display") != Some("none");
    DISPLAY.lock().on = wanted && screen::geometry().is_some();
}

/// The focus or what is shown has changed.
pub fn refresh() {
    let mut display = DISPLAY.lock();
    display.stale = true;
    display.next = 0;
    console::want();
}

/// Draws what is due.
pub fn step<B: Backend>(world: &'static World<B>) {
    let mut display = DISPLAY.lock();
    if !display.on {
        return;
    }
    if terminal::shown() == Show::Monitor {
        if display.owner != Owner::Log {
            display.owner = Owner::Log;
            screen::clear();
            screen::show_log(true);
            let mut tail = [0; 1024];
            screen::write(core::str::from_utf8(crate::log::newest(&mut tail)).unwrap_or(""));
        }
        return;
    }
    let now = tsc::now();
    if now < display.next {
        console::want_by(display.next);
        return;
    }
    let Some(domain) = world.domains.get(terminal::focused().wrapping_sub(1)) else { return };
    if display.owner != Owner::Guest || display.guest != domain.id {
        (display.owner, display.guest, display.stale) = (Owner::Guest, domain.id, true);
        screen::show_log(false);
    }
    let wait = display.draw(domain, now).unwrap_or(FRAME_NS);
    display.next = now + tsc::from_ns(wait);
    console::want_by(display.next);
}

impl Display {
    /// Draws a piece; nanoseconds until the next one.
    fn draw<B: Backend>(&mut self, domain: &Domain<B>, now: u64) -> Option<u64> {
        if self.next_line.is_none() {
            let look = |machine: &Machine| {
                machine.with_vga(|vga, _| (vga.generation(), vga.writes_unseen()))
            };
            let (generation, unseen) = match pv::picture_generation(domain) {
                // The card counts from 0.
                Some(generation) => (!generation, false),
                None => console::guarded(domain, || look(&domain.machine))?,
            };
            let old = tsc::to_ns(now.saturating_sub(self.began)) >= UNSEEN_NS;
            if !self.stale && generation == self.generation && !(unseen && old) {
                return None;
            }
            (self.generation, self.began) = (generation, now);
        }
        let geometry = screen::geometry()?;
        let Some(place) = geometry.pixels else {
            let (vga, vram) = copy(domain)?;
            let graphics = pv::drawn(domain).is_some();
            self.cells(&vga, vram, graphics, geometry.columns, geometry.rows);
            return None;
        };
        with_picture(domain, true, |picture| self.lines(picture, place))?
    }

    /// Draws some lines of a picture on a screen of pixels; as [`draw`](Display::draw).
    fn lines(&mut self, picture: &dyn Picture, (across, down): (usize, usize)) -> Option<u64> {
        let (width, height) = picture.size();
        if core::mem::take(&mut self.stale) || self.size != (width, height) {
            screen::clear();
            self.size = (width, height);
            self.lines.clear();
            self.lines.resize(height as usize, u64::MAX);
            self.pixels.resize(width as usize, 0);
            self.next_line = None;
        }
        let first = self.next_line.unwrap_or(0);
        let end = first.saturating_add((PIECE / width.max(1)).max(8)).min(height);
        let (left, top) =
            (across.saturating_sub(width as usize) / 2, down.saturating_sub(height as usize) / 2);
        for y in first..end {
            let used = picture.row(y, &mut self.pixels);
            let pixels = &self.pixels[..used];
            let hash = pixels.iter().fold(0u64, |hash, pixel| {
                (hash.rotate_left(5) ^ u64::from(*pixel)).wrapping_mul(0x9e37_79b9_7f4a_7c15)
            });
            let Some(shown) = self.lines.get_mut(y as usize) else { break };
            if *shown != hash {
                *shown = hash;
                screen::draw_row(left, top + y as usize, pixels);
            }
        }
        self.next_line = (end < height).then_some(end);
        if self.next_line.is_some() { Some(PIECE_NS) } else { None }
    }

    /// Draws on a text screen.
    fn cells(&mut self, vga: &Vga, vram: Memory, graphics: bool, columns: usize, rows: usize) {
        const BLANK: (u8, u8) = (b' ', 7);
        self.stale = false;
        let text = !graphics && vga.text_cell(vram, 0, 0).is_some();
        let note = b"The guest shows graphics, which this screen cannot.";
        for row in 0..rows {
            for column in 0..columns {
                let cell = if text {
                    vga.text_cell(vram, row as u32, column as u32)
                } else {
                    note.get(column).filter(|_| row == 0).map(|byte| (*byte, 7))
                };
                screen::put(column, row, cell.unwrap_or(BLANK));
            }
        }
    }
}
