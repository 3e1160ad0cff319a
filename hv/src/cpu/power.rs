//! How the machine ends: switched off, restarted, or a code for whoever runs the emulator.
//! The option `exit=` chooses: `debug` (QEMU's isa-debug-exit at F4h), `bochs` (its port 8900h),
//! `poweroff` (ACPI S5), `halt`. Without it a clean stop powers off, and any other halts: a person who
//! booted from CD or stick reads why on the screen.

// UNSAFETY: port and memory writes that end everything.

use core::fmt::Write;

use super::acpi::{Register, platform};
use super::halt_for_ever;
use crate::drivers::control;
use crate::drivers::serial::{self, Emergency};
use crate::mem::{Cache, Phys, map_mmio};

/// Why we stop; the number is what isa-debug-exit gets (the process ends with 2n + 1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Code {
    /// All is well.
    Clean = 0,
    /// The hypervisor panicked.
    Panic = 1,
    /// This machine cannot run guests, or what was asked for cannot be done.
    Unusable = 2,
    /// A guest ended badly.
    GuestFailed = 3,
}

/// Ends the run as `exit=` says. Never returns.
pub fn stop(code: Code) -> ! {
    if control::is_open() {
        serial::COM2.flush();
        serial::COM2.write_polled(b"@bye\n");
    }
    serial::flush_all();
    match crate::config::get("exit") {
        Some("debug") => {
            // SAFETY: isa-debug-exit ends QEMU; without the device nothing happens.
            unsafe { x86::io::outb(0xf4, code as u8) };
        }
        Some("bochs") => {
            for byte in *b"Shutdown" {
                // SAFETY: Bochs' own port; the option says that we run there.
                unsafe { x86::io::outb(0x8900, byte) };
            }
        }
        Some("halt") => {}
        None if code != Code::Clean => {
            let _ = writeln!(Emergency, "The machine is halted: switch it off, or reset it.");
        }
        _ => power_off(),
    }
    halt_for_ever()
}

/// ACPI S5, then the ports that QEMU and Bochs use for it. Returns if none works.
pub fn power_off() {
    let platform = platform();
    let (a, b) = platform.s5.unwrap_or((0, 0));
    for (port, kind) in platform.pm1_control.into_iter().zip([a, b]) {
        let Some(port) = port else { continue };
        // ACPI 4.8.3.2.1 "PM1 Control Registers": SLP_TYP in bits 10 to 12, SLP_EN is bit 13.
        // SAFETY: the FADT names the port; the write ends everything, which is wanted.
        unsafe {
            let others = x86::io::inw(port) & !(7 << 10);
            x86::io::outw(port, others | u16::from(kind) << 10 | 1 << 13);
        }
    }
    if let Some(register) = platform.sleep_control {
        // ACPI 4.8.3.7 "Sleep Control and Status Registers": SLP_TYP in bits 2 to 4, SLP_EN is bit 5.
        write(register, a << 2 | 1 << 5);
    } else if platform.pm1_control[0].is_none() {
        for port in [0x604, 0xb004] {
            // SAFETY: PM1 control of QEMU's and Bochs' boards; unclaimed elsewhere.
            unsafe { x86::io::outw(port, 0x2000) };
        }
    }
}

/// Restarts the machine: FADT reset register, CF9h, the keyboard controller.
pub fn reboot() -> ! {
    serial::flush_all();
    if let Some((register, value)) = platform().reset {
        write(register, value);
    }
    for (port, value) in [(0xcf9, 2), (0xcf9, 6), (0x64, 0xfe)] {
        // SAFETY: PIIX3 "Reset Control Register" and 8042 "Pulse Output Port".
        unsafe { x86::io::outb(port, value) };
    }
    halt_for_ever()
}

/// Writes a register of the FADT's that ends the machine's run.
fn write(register: Register, value: u8) {
    match register {
        // SAFETY: the FADT names port and value.
        Register::Port(port) => unsafe { x86::io::outb(port, value) },
        Register::Memory(at) => {
            let register = map_mmio(Phys(at), 1, Cache::Uncached);
            // SAFETY: the FADT names address and value, and it was just mapped.
            unsafe { register.write_volatile(value) };
        }
    }
}
