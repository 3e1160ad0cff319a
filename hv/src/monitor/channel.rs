//! The control channel: what docs/control.md says, on COM2. `drivers::control` has the lines
//! themselves.

use core::fmt::Write;
use core::sync::atomic::{AtomicUsize, Ordering};

use alloc::format;
use alloc::string::{String, ToString};
use arch::Why;
use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use spin::Mutex;

use super::command::{self, Refusal};
use super::inspect::{self, View, with_task};
use super::text::{self, ByLine};
use super::{display, terminal, typing};
use crate::cpu;
use crate::cpu::power::{self, Code};
use crate::domain::backend::Backend;
use crate::domain::sched::World;
use crate::domain::{Domain, console, rescue};
use crate::drivers::control::{self, Escaped, Lines, send};
use crate::drivers::serial::COM2;

/// Bytes of input taken in one step.
const AT_ONCE: usize = 4096;
/// Bytes in one line of serial output.
const PIECE: usize = 768;

static LINES: Mutex<Lines> = Mutex::new(Lines::new());
/// The guest that a command works on: a panic while it does ends that one. 0: none.
static SERVED: AtomicUsize = AtomicUsize::new(0);

/// Bytes of a guest's serial port.
pub fn serial(name: &str, bytes: &[u8]) {
    if !control::is_open() {
        return;
    }
    for piece in bytes.chunks(PIECE) {
        let mut buffer = [0; PIECE.div_ceil(3) * 4];
        let len = BASE64.encode_slice(piece, &mut buffer).unwrap_or(0);
        let text = core::str::from_utf8(&buffer[..len]).unwrap_or("");
        send(format_args!("@serial {name} {text}"));
    }
}

/// Takes commands.
pub fn step<B: Backend>(world: &'static World<B>) {
    if !control::is_open() {
        return;
    }
    for _ in 0..AT_ONCE {
        let Some(byte) = COM2.read() else { return };
        // The line is copied, so that nothing is locked while it is carried out.
        let mut line = None;
        LINES.lock().push(byte, |text| line = Some(text.to_string()));
        let Some(line) = line else { continue };
        SERVED.store(0, Ordering::Relaxed);
        let word = line.split(' ').next().unwrap_or("");
        // Interrupts only move bytes and set flags: a long answer need not hold them up.
        cpu::lock::restore_interrupts(true);
        let done = rescue::catch(|| command(world, &line));
        cpu::lock::close_interrupts();
        let result = done.unwrap_or_else(|| {
            let served = SERVED.load(Ordering::Relaxed).wrapping_sub(1);
            if let Some(domain) = world.domains.get(served) {
                domain.panicked();
            }
            Err("the hypervisor panicked".to_string())
        });
        match result {
            Ok(()) => send(format_args!("@ok {word}")),
            Err(why) => send(format_args!("@error {}", Escaped(&why))),
        }
    }
    console::want();
}

fn command<B: Backend>(world: &'static World<B>, line: &str) -> Result<(), String> {
    let (word, rest) = line.split_once(' ').unwrap_or((line, ""));
    match word {
        "" => return Ok(()),
        "quit" => power::stop(Code::Clean),
        "monitor" => {
            let mut buffer = alloc::vec![0; rest.len()];
            let text = control::unescape(rest, &mut buffer).ok_or("a damaged escape")?;
            let text = core::str::from_utf8(text).map_err(|_| "not UTF-8")?;
            let focus = terminal::focused();
            SERVED.store(focus, Ordering::Relaxed);
            let mut out = ByLine::new(|line: &str| send(format_args!("@out {}", Escaped(line))));
            let result = command::run(world, text, focus, &mut out);
            out.finish();
            return result.map_err(|refusal| match refusal {
                Refusal::Because(why) => why.to_string(),
                Refusal::Told(why) => why,
                Refusal::Output => "the answer is damaged".to_string(),
            });
        }
        _ => {}
    }
    let (name, rest) = rest.split_once(' ').unwrap_or((rest, ""));
    let domain = world.domains.iter().find(|domain| domain.name == name);
    let domain = domain.ok_or_else(|| format!("no guest {name:?}, or no such command"))?;
    SERVED.store(domain.id, Ordering::Relaxed);
    match word {
        "type" => {
            let mut buffer = alloc::vec![0; rest.len()];
            let text = control::unescape(rest, &mut buffer).ok_or("a damaged escape")?;
            let text = core::str::from_utf8(text).map_err(|_| "not UTF-8")?;
            typing::text(domain.id, text)?;
        }
        "keys" => typing::chords(domain.id, rest)?,
        "serial" => {
            let bytes = BASE64.decode(rest).map_err(|_| "damaged base64")?;
            let mut input = domain.console.input.lock();
            let taken = bytes.iter().take_while(|byte| input.push(**byte)).count();
            drop(input);
            console::want();
            if taken < bytes.len() {
                return Err(format!("the guest reads too slowly: {taken} bytes taken"));
            }
        }
        "screen" => screen(domain),
        "screenshot" => {
            display::screenshot(domain).ok_or("its devices are lost")?;
        }
        "exits" => exits(domain),
        "dump" => dump(domain),
        _ => return Err(format!("no command {word:?}")),
    }
    Ok(())
}

fn screen<B: Backend>(domain: &Domain<B>) {
    let name = &domain.name;
    let mut row = 0;
    let mut out = ByLine::new(|line: &str| {
        send(format_args!("@screen {name} {row} {}", Escaped(line)));
        row += 1;
    });
    let (columns, rows) = display::text_screen(domain, &mut out).unwrap_or((0, 0));
    out.finish();
    send(format_args!("@screen {name} end {columns} {rows}"));
}

fn exits<B: Backend>(domain: &Domain<B>) {
    let name = &domain.name;
    for (kind, count, cycles) in command::all_kinds(domain) {
        send(format_args!("@exits {name} {kind} {count} {cycles}"));
    }
    send(format_args!("@exits {name} end"));
}

/// Writes a guest's state section by section.
fn describe<B: Backend>(domain: &Domain<B>, mut line: impl FnMut(&str, &str)) {
    for vcpu in 0..domain.slots.len() {
        let done = with_task(domain, vcpu, |task| {
            let view = View::linear(domain, &task.vcpu);
            let rip = arch::Vcpu::rip(&task.vcpu);
            let mut section = |name: &str, write: &dyn Fn(&mut dyn Write) -> core::fmt::Result| {
                let mut out = ByLine::new(|text: &str| line(name, text));
                let _ = write(&mut out);
                out.finish();
            };
            section("registers", &|out| inspect::registers(out, domain, task));
            section("code", &|out| inspect::code(out, &view, task, rip, 8));
            section("stack", &|out| inspect::stack(out, &view, task, 32));
            section("exits", &|out| inspect::trace(out, &task.cpu.stats, 64));
        });
        if done.is_none() {
            line("registers", "its CPU does not answer");
        }
    }
}

fn dump<B: Backend>(domain: &Domain<B>) {
    let name = &domain.name;
    describe(domain, |section, text| {
        send(format_args!("@dump {name} {section} {}", Escaped(text)));
    });
    send(format_args!("@dump {name} end"));
}

/// What is known of a guest that has failed: to the channel, else to the log.
pub fn report<B: Backend>(domain: &Domain<B>) {
    if control::is_open() {
        dump(domain);
        exits(domain);
    } else {
        describe(domain, |_, text| log::info!("{}: {text}", domain.name));
    }
}

/// A guest that is not built. It is known by its configuration's file where that cannot be read.
pub fn refused(name: &str, why: core::fmt::Arguments<'_>) {
    send(format_args!("@verdict {name} refused:{}", Escaped(&format!("{why}"))));
}

/// A guest has ended.
pub fn verdict<B: Backend>(domain: &Domain<B>, why: Why) {
    let text = match why {
        Why::PowerOff => "poweroff".to_string(),
        Why::Reset | Why::Destroyed => text::why(why),
        Why::Panic => format!("crash:{}: {}", text::why(why), Escaped(&rescue::last())),
        _ => format!("crash:{}", text::why(why)),
    };
    send(format_args!("@verdict {} {text}", domain.name));
}
