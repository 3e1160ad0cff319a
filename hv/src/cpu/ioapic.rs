//! The host's I/O APICs: routes ISA and PCI interrupt lines to vectors of a CPU.
//! 82093AA datasheet, "I/O APIC Registers".

// UNSAFETY: device registers.

use heapless::Vec;

use super::acpi::{Override, Platform};
use super::lock::IrqLock;
use super::{irq, percpu};
use crate::mem::{Cache, Phys, map_mmio};

struct IoApic {
    registers: usize,
    gsi_base: u32,
    pins: u32,
}

struct State {
    chips: Vec<IoApic, 16>,
    overrides: Vec<Override, 32>,
    /// Vector of each line that is routed, so that sharers find it.
    routed: Vec<(u32, u8), 64>,
}

static STATE: IrqLock<State> =
    IrqLock::new(State { chips: Vec::new(), overrides: Vec::new(), routed: Vec::new() });

/// Why a line could not be routed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RouteError {
    /// No I/O APIC has this line.
    NoSuchLine,
    /// No vector or handler slot is left.
    Full,
}

const MASKED: u64 = 1 << 16;
const LEVEL: u64 = 1 << 15;
const ACTIVE_LOW: u64 = 1 << 13;

/// Maps the chips, masks every pin, and silences the 8259 pair.
pub fn init(platform: &Platform) {
    mask_8259();
    let mut state = STATE.lock();
    state.overrides = platform.overrides.clone();
    for info in &platform.io_apics {
        let registers = map_mmio(Phys(info.address), 0x20, Cache::Uncached).expose_provenance();
        let mut chip = IoApic { registers, gsi_base: info.gsi_base, pins: 0 };
        chip.pins = (chip.read(1) >> 16 & 0xff) + 1;
        (0..chip.pins).for_each(|pin| chip.set(pin, MASKED));
        let _ = state.chips.push(chip);
    }
}

/// Routes ISA interrupt `line` to `handler` on CPU 0, as the overrides say.
///
/// # Errors
/// [`RouteError`].
pub fn route_isa(line: u8, handler: irq::Handler, argument: usize) -> Result<(), RouteError> {
    let wired = STATE.lock().overrides.iter().find(|o| o.irq == line).copied();
    let default = Override { irq: line, gsi: line.into(), low: false, level: false };
    route(wired.unwrap_or(default), handler, argument)
}

/// Routes a PCI INTx line that the firmware wrote into "Interrupt Line"; level-triggered, and low
/// unless an override says otherwise.
///
/// # Errors
/// [`RouteError`].
pub fn route_pci(line: u8, handler: irq::Handler, argument: usize) -> Result<(), RouteError> {
    let wired = STATE.lock().overrides.iter().find(|o| o.irq == line).copied();
    let default = Override { irq: line, gsi: line.into(), low: true, level: true };
    route(Override { level: true, ..wired.unwrap_or(default) }, handler, argument)
}

fn route(to: Override, handler: irq::Handler, argument: usize) -> Result<(), RouteError> {
    let mut state = STATE.lock();
    let shared = state.routed.iter().find(|(gsi, _)| *gsi == to.gsi).map(|(_, vector)| *vector);
    let vector = match shared {
        Some(vector) => vector,
        None => irq::alloc_vector().ok_or(RouteError::Full)?,
    };
    if !irq::register(vector, handler, argument) {
        return Err(RouteError::Full);
    }
    if shared.is_some() {
        return Ok(());
    }
    let holds = |c: &&IoApic| (c.gsi_base..c.gsi_base + c.pins).contains(&to.gsi);
    let chip = state.chips.iter().find(holds).ok_or(RouteError::NoSuchLine)?;
    let apic_id = percpu::get(0).map_or(0, |cpu| cpu.apic_id());
    let mut entry = u64::from(vector) | u64::from(apic_id & 0xff) << 56;
    entry |= if to.level { LEVEL } else { 0 };
    entry |= if to.low { ACTIVE_LOW } else { 0 };
    chip.set(to.gsi - chip.gsi_base, entry);
    let _ = state.routed.push((to.gsi, vector));
    Ok(())
}

impl IoApic {
    fn read(&self, index: u32) -> u32 {
        self.select(index);
        // SAFETY: the data register of a mapped chip; STATE's lock keeps the index ours.
        unsafe { self.at(0x10).read_volatile() }
    }

    fn write(&self, index: u32, value: u32) {
        self.select(index);
        // SAFETY: as for `read`.
        unsafe { self.at(0x10).write_volatile(value) }
    }

    fn select(&self, index: u32) {
        // SAFETY: the index register of a mapped chip.
        unsafe { self.at(0).write_volatile(index) }
    }

    fn at(&self, offset: usize) -> *mut u32 {
        core::ptr::with_exposed_provenance_mut(self.registers + offset)
    }

    /// Writes a redirection entry, masked first.
    fn set(&self, pin: u32, entry: u64) {
        self.write(0x10 + pin * 2, MASKED as u32);
        self.write(0x11 + pin * 2, (entry >> 32) as u32);
        self.write(0x10 + pin * 2, entry as u32);
    }
}

/// Moves the 8259s' vectors out of the exceptions' way and masks all their lines.
fn mask_8259() {
    let writes: [(u16, u8); 10] = [
        (0x20, 0x11),
        (0xa0, 0x11),
        (0x21, 0x20),
        (0xa1, 0x28),
        (0x21, 4),
        (0xa1, 2),
        (0x21, 1),
        (0xa1, 1),
        (0x21, 0xff),
        (0xa1, 0xff),
    ];
    for (port, value) in writes {
        // SAFETY: the documented initialization of a chip that is ours; 8259A "Initialization".
        unsafe { x86::io::outb(port, value) };
    }
}
