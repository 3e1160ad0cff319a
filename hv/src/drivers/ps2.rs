//! The host's keyboard and mouse behind an 8042: bytes in, as they come, for the guest in focus.
//! The keyboard sends scan code set 1, as the controller translates it for every PC's software.

// UNSAFETY: port I/O.

use core::sync::atomic::{AtomicBool, Ordering};

use super::ring::Ring;
use crate::cpu::lock::IrqLock;
use crate::cpu::{ioapic, tsc};

const DATA: u16 = 0x60;
const COMMAND: u16 = 0x64;
const OUTPUT_FULL: u8 = 1;
const INPUT_FULL: u8 = 2;
const FROM_MOUSE: u8 = 0x20;
const PATIENCE_NS: u64 = 50_000_000;

struct State {
    keyboard: Ring<256>,
    mouse: Ring<1024>,
}

static STATE: IrqLock<State> = IrqLock::new(State { keyboard: Ring::new(), mouse: Ring::new() });
static PRESENT: AtomicBool = AtomicBool::new(false);

/// Opens both ports, if there is a controller.
pub fn init() {
    // SAFETY: reading the status has no side effect.
    if unsafe { x86::io::inb(COMMAND) } == 0xff {
        log::info!("no PS/2 controller, and USB keyboards are not driven: type on a serial port");
        return;
    }
    // Ports off, output emptied; then the command byte: interrupts on, translation on.
    command(0xad);
    command(0xa7);
    for _ in 0..16 {
        take();
    }
    command(0x20);
    let Some(byte) = wait_for_byte() else {
        log::warn!("the PS/2 controller does not answer: type on a serial port");
        return;
    };
    command(0x60);
    send(byte & !0x30 | 0x43);
    command(0xae);
    command(0xa8);
    // Enable scanning and reporting (F4h): firmware may have left either off. What is not there
    // answers with silence.
    send(0xf4);
    let _ = wait_for_byte();
    command(0xd4);
    send(0xf4);
    let _ = wait_for_byte();
    PRESENT.store(true, Ordering::Release);
    for line in [1, 12] {
        if let Err(error) = ioapic::route_isa(line, interrupt, 0) {
            log::warn!("8042: no interrupt {line}: {error:?}");
        }
    }
    // A byte from before would hold back the edge of every later one.
    for _ in 0..16 {
        take();
    }
}

/// True if there is a controller.
pub fn is_present() -> bool {
    PRESENT.load(Ordering::Acquire)
}

/// The oldest byte from the keyboard: scan code set 1.
pub fn read_keyboard() -> Option<u8> {
    STATE.lock().keyboard.pop()
}

/// The oldest byte from the mouse: packets of three.
pub fn read_mouse() -> Option<u8> {
    STATE.lock().mouse.pop()
}

fn interrupt(_: usize) {
    {
        let mut state = STATE.lock();
        // Bounded: a controller that never empties waits for its next interrupt.
        for _ in 0..16 {
            let Some((status, byte)) = take() else { break };
            // A full queue drops the newest, as the keyboard's own buffer does.
            if status & FROM_MOUSE != 0 {
                state.mouse.push(byte);
            } else {
                state.keyboard.push(byte);
            }
        }
    }
    super::input_arrived();
}

fn take() -> Option<(u8, u8)> {
    // SAFETY: the host's controller is this driver's alone.
    unsafe {
        let status = x86::io::inb(COMMAND);
        (status & OUTPUT_FULL != 0).then(|| (status, x86::io::inb(DATA)))
    }
}

fn wait_for_byte() -> Option<u8> {
    let end = tsc::now() + tsc::from_ns(PATIENCE_NS);
    loop {
        if let Some((_, byte)) = take() {
            return Some(byte);
        }
        if tsc::now() > end {
            return None;
        }
        core::hint::spin_loop();
    }
}

fn wait_for_room() {
    let end = tsc::now() + tsc::from_ns(PATIENCE_NS);
    // SAFETY: reading the status has no side effect.
    while unsafe { x86::io::inb(COMMAND) } & INPUT_FULL != 0 && tsc::now() < end {
        core::hint::spin_loop();
    }
}

fn command(value: u8) {
    wait_for_room();
    // SAFETY: 8042 commands of the documented set.
    unsafe { x86::io::outb(COMMAND, value) }
}

fn send(value: u8) {
    wait_for_room();
    // SAFETY: a parameter of the command before.
    unsafe { x86::io::outb(DATA, value) }
}
