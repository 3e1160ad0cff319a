//! The host's local APIC, by MSR where x2APIC exists and by memory otherwise.
//! SDM 3A "Advanced Programmable Interrupt Controller (APIC)".

// UNSAFETY: device registers.

use core::sync::atomic::{AtomicBool, AtomicPtr, Ordering};

use super::{irq, msr, percpu};
use crate::mem::{Cache, Phys, map_mmio};

const ID: u32 = 0x020;
const TPR: u32 = 0x080;
const EOI: u32 = 0x0b0;
const SPURIOUS: u32 = 0x0f0;
const ERROR_STATUS: u32 = 0x280;
const ICR_LOW: u32 = 0x300;
const ICR_HIGH: u32 = 0x310;
const LVT_TIMER: u32 = 0x320;
const LVT_LINT0: u32 = 0x350;
const LVT_LINT1: u32 = 0x360;
const LVT_ERROR: u32 = 0x370;
const TIMER_INITIAL: u32 = 0x380;
const TIMER_CURRENT: u32 = 0x390;
const TIMER_DIVIDE: u32 = 0x3e0;

const MASKED: u32 = 1 << 16;
const BASE_ENABLE: u64 = 1 << 11;
const BASE_X2APIC: u64 = 1 << 10;
const X2APIC_MSRS: u32 = 0x800;

static X2APIC: AtomicBool = AtomicBool::new(false);
static REGISTERS: AtomicPtr<u8> = AtomicPtr::new(core::ptr::null_mut());

/// How the timer counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TimerMode {
    /// One shot of the APIC's own clock.
    OneShot,
    /// Fires when the TSC reaches a value.
    TscDeadline,
}

/// Which CPU an inter-processor interrupt is for, and what it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ipi {
    /// An ordinary vector.
    Vector(u8),
    /// An NMI.
    Nmi,
    /// INIT, assert.
    Init,
    /// Start-up at page number.
    Startup(u8),
}

/// Maps the registers and chooses the mode. Called once, on the boot CPU, before [`enable`].
pub fn init(address: u64) {
    let x2apic = raw_cpuid::CpuId::new().get_feature_info().is_some_and(|f| f.has_x2apic());
    X2APIC.store(x2apic, Ordering::Relaxed);
    if !x2apic {
        REGISTERS.store(map_mmio(Phys(address), 4096, Cache::Uncached), Ordering::Relaxed);
    }
}

/// True if this machine's APICs are driven by MSR.
#[must_use]
pub fn is_x2apic() -> bool {
    X2APIC.load(Ordering::Relaxed)
}

/// Opens this CPU's APIC: everything masked but the spurious and error vectors.
pub fn enable() {
    let base = msr::read_or_none(x86::msr::IA32_APIC_BASE).unwrap_or(0);
    for value in enabling(base, is_x2apic()).into_iter().flatten() {
        // SAFETY: each is a legal change from the state before.
        unsafe { x86::msr::wrmsr(x86::msr::IA32_APIC_BASE, value) };
    }
    write(TPR, 0);
    write(LVT_TIMER, MASKED);
    write(LVT_LINT0, MASKED);
    // NMI on LINT1, as the MADT of every PC says.
    write(LVT_LINT1, 4 << 8);
    write(LVT_ERROR, irq::APIC_ERROR.into());
    write(ERROR_STATUS, 0);
    write(SPURIOUS, 0x100 | u32::from(irq::SPURIOUS));
    percpu::this().apic_id.store(id() as usize, Ordering::Relaxed);
}

/// What to write to IA32_APIC_BASE, one after the other. From off to x2APIC there is no way but through xAPIC mode, and
/// none back from x2APIC but through off, which some CPUs refuse (SDM 3A "x2APIC State Transitions").
fn enabling(base: u64, x2apic: bool) -> [Option<u64>; 2] {
    let on = base | BASE_ENABLE;
    let first = (base & BASE_ENABLE == 0).then_some(on);
    [first, (x2apic && base & BASE_X2APIC == 0).then_some(on | BASE_X2APIC)]
}

/// Whether interrupts can be sent to the CPU with `apic_id`: an xAPIC has 8 bits for it, and 255 means all.
#[must_use]
pub fn reaches(apic_id: u32) -> bool {
    is_x2apic() || apic_id < 255
}

/// This CPU's APIC ID, from the APIC.
#[must_use]
pub fn id() -> u32 {
    if is_x2apic() { read(ID) } else { read(ID) >> 24 }
}

/// Ends the interrupt in service.
#[inline]
pub fn eoi() {
    write(EOI, 0);
}

/// Error bits since the last call.
pub fn take_errors() -> u32 {
    write(ERROR_STATUS, 0);
    read(ERROR_STATUS)
}

/// Sends `ipi` to the CPU with `apic_id`.
pub fn send(apic_id: u32, ipi: Ipi) {
    let low = match ipi {
        Ipi::Vector(vector) => u32::from(vector),
        Ipi::Nmi => 4 << 8,
        Ipi::Init => 5 << 8,
        Ipi::Startup(page) => 6 << 8 | u32::from(page),
    } | 1 << 14;
    if is_x2apic() {
        // The x2APIC's ICR write does not wait for earlier stores; the receiver must see them.
        x86::fence::mfence();
        let value = u64::from(apic_id) << 32 | u64::from(low);
        // SAFETY: an interrupt to a CPU that is ours.
        unsafe { x86::msr::wrmsr(X2APIC_MSRS + (ICR_LOW >> 4), value) };
        return;
    }
    let open = super::lock::close_interrupts();
    while read(ICR_LOW) & 1 << 12 != 0 {
        core::hint::spin_loop();
    }
    write(ICR_HIGH, apic_id << 24);
    write(ICR_LOW, low);
    super::lock::restore_interrupts(open);
}

/// Sets up this CPU's timer, stopped.
pub fn timer_mode(mode: TimerMode) {
    let mode = match mode {
        TimerMode::OneShot => 0,
        TimerMode::TscDeadline => 2 << 17,
    };
    write(TIMER_DIVIDE, 0b1011);
    write(LVT_TIMER, mode | u32::from(irq::TIMER));
    // SDM 3A "TSC-Deadline Mode": the LVT write and a WRMSR to the deadline are not ordered.
    x86::fence::mfence();
}

/// Starts the one-shot timer; 0 stops it.
pub fn timer_start(count: u32) {
    write(TIMER_INITIAL, count);
}

/// What the one-shot timer has left.
#[must_use]
pub fn timer_left() -> u32 {
    read(TIMER_CURRENT)
}

#[inline]
fn read(register: u32) -> u32 {
    if is_x2apic() {
        // SAFETY: the APIC's registers exist in x2APIC mode.
        return unsafe { x86::msr::rdmsr(X2APIC_MSRS + (register >> 4)) } as u32;
    }
    let at = REGISTERS.load(Ordering::Relaxed).wrapping_add(register as usize).cast::<u32>();
    // SAFETY: `init` mapped the page of registers, and all offsets here lie in it.
    unsafe { at.read_volatile() }
}

#[inline]
fn write(register: u32, value: u32) {
    if is_x2apic() {
        // SAFETY: as for `read`; only values that the manual allows are written.
        return unsafe { x86::msr::wrmsr(X2APIC_MSRS + (register >> 4), value.into()) };
    }
    let at = REGISTERS.load(Ordering::Relaxed).wrapping_add(register as usize).cast::<u32>();
    // SAFETY: as for `read`.
    unsafe { at.write_volatile(value) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn from_off_the_way_to_x2apic_mode_leads_through_xapic_mode() {
        assert_eq!(enabling(0xfee0_0000, true), [Some(0xfee0_0800), Some(0xfee0_0c00)]);
        assert_eq!(enabling(0xfee0_0900, true), [None, Some(0xfee0_0d00)]);
        assert_eq!(enabling(0xfee0_0d00, true), [None, None]);
        assert_eq!(enabling(0xfee0_0100, false), [Some(0xfee0_0900), None]);
        assert_eq!(enabling(0xfee0_0900, false), [None, None]);
    }
}
