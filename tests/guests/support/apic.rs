//! The local APIC by both of its doors, and the I/O APIC.

use crate::{cpu, mem};
use core::sync::atomic::{AtomicBool, Ordering};

/// Where xAPIC mode has its page.
pub const BASE: usize = 0xfee0_0000;
/// Where the I/O APIC is.
pub const IO_BASE: usize = 0xfec0_0000;

/// Registers by their xAPIC offset.
#[allow(missing_docs, reason = "the manual's own names")]
pub mod reg {
    pub const ID: u32 = 0x20;
    pub const VERSION: u32 = 0x30;
    pub const TPR: u32 = 0x80;
    pub const PPR: u32 = 0xa0;
    pub const EOI: u32 = 0xb0;
    pub const LDR: u32 = 0xd0;
    pub const DFR: u32 = 0xe0;
    pub const SVR: u32 = 0xf0;
    pub const ISR: u32 = 0x100;
    pub const TMR: u32 = 0x180;
    pub const IRR: u32 = 0x200;
    pub const ESR: u32 = 0x280;
    pub const ICR: u32 = 0x300;
    pub const ICR_HIGH: u32 = 0x310;
    pub const LVT_TIMER: u32 = 0x320;
    pub const LVT_PMC: u32 = 0x340;
    pub const LINT0: u32 = 0x350;
    pub const LINT1: u32 = 0x360;
    pub const LVT_ERROR: u32 = 0x370;
    pub const INITIAL_COUNT: u32 = 0x380;
    pub const CURRENT_COUNT: u32 = 0x390;
    pub const DIVIDE: u32 = 0x3e0;
    pub const SELF_IPI: u32 = 0x3f0;
}

const APIC_BASE: u32 = 0x1b;
/// TSC_DEADLINE.
pub const TSC_DEADLINE: u32 = 0x6e0;

static X2: AtomicBool = AtomicBool::new(false);

/// Whether CPUID has a local APIC.
pub fn present() -> bool {
    cpu::cpuid(1, 0)[3] & 1 << 9 != 0
}

/// Whether CPUID has x2APIC mode.
pub fn has_x2() -> bool {
    cpu::cpuid(1, 0)[2] & 1 << 21 != 0
}

/// Whether CPUID has the TSC deadline.
pub fn has_deadline() -> bool {
    cpu::cpuid(1, 0)[2] & 1 << 24 != 0
}

/// Goes to x2APIC mode.
pub fn enter_x2() {
    cpu::wrmsr(APIC_BASE, cpu::rdmsr(APIC_BASE) | 0xc00);
    X2.store(true, Ordering::Relaxed);
}

/// Goes back to xAPIC mode, through "disabled" as the manual wants.
pub fn leave_x2() {
    let base = cpu::rdmsr(APIC_BASE) & !0xc00;
    cpu::wrmsr(APIC_BASE, base);
    cpu::wrmsr(APIC_BASE, base | 0x800);
    X2.store(false, Ordering::Relaxed);
}

/// Whether x2APIC mode is on.
pub fn is_x2() -> bool {
    X2.load(Ordering::Relaxed)
}

/// Reads a register.
pub fn read(register: u32) -> u32 {
    if is_x2() {
        cpu::rdmsr(0x800 + (register >> 4)) as u32
    } else {
        mem::read(BASE + register as usize)
    }
}

/// Writes a register.
pub fn write(register: u32, value: u32) {
    if is_x2() {
        cpu::wrmsr(0x800 + (register >> 4), value.into());
    } else {
        mem::write(BASE + register as usize, value);
    }
}

/// Switches the local APIC on, with FFh as the spurious vector, LINT0 to the 8259A on the first
/// CPU.
pub fn enable() {
    cpu::wrmsr(APIC_BASE, cpu::rdmsr(APIC_BASE) | 0x800);
    write(reg::SVR, 0x1ff);
    crate::idt::handle(0xff, |_| {});
}

/// This CPU's identifier.
pub fn id() -> u32 {
    if is_x2() { read(reg::ID) } else { read(reg::ID) >> 24 }
}

/// Ends an interrupt.
pub fn eoi() {
    write(reg::EOI, 0);
}

/// Sends an interrupt command.
pub fn command(target: u32, low: u32) {
    if is_x2() {
        cpu::wrmsr(0x830, u64::from(target) << 32 | u64::from(low));
        return;
    }
    write(reg::ICR_HIGH, target << 24);
    write(reg::ICR, low);
    while read(reg::ICR) & 0x1000 != 0 {}
}

/// Reads an I/O APIC register.
pub fn io_read(index: u32) -> u32 {
    mem::write(IO_BASE, index);
    mem::read(IO_BASE + 0x10)
}

/// Writes an I/O APIC register.
pub fn io_write(index: u32, value: u32) {
    mem::write(IO_BASE, index);
    mem::write(IO_BASE + 0x10, value);
}

/// Writes a redirection entry.
pub fn io_route(pin: u32, low: u32, target: u32) {
    io_write(0x10 + pin * 2, 0x1_0000);
    io_write(0x11 + pin * 2, target << 24);
    io_write(0x10 + pin * 2, low);
}
