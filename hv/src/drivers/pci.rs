//! The host's PCI: configuration mechanism 1, enumeration behind bridges, MSI-X.
//! PCI Local Bus 3.0, "Configuration Mechanism #1" and "MSI-X Capability".

// UNSAFETY: port I/O, and MSI-X tables in device memory.

use heapless::Vec;
use virtio_drivers::transport::pci::bus::{ConfigurationAccess, DeviceFunction, PciRoot};

use crate::cpu::lock::IrqLock;
use crate::mem::{Cache, Phys, map_mmio};

/// Most functions kept.
pub const MAX_FUNCTIONS: usize = 128;

/// One function.
#[derive(Clone, Copy, Debug)]
pub struct Function {
    /// Where it is.
    pub at: DeviceFunction,
    /// Vendor.
    pub vendor: u16,
    /// Device.
    pub device: u16,
    /// Class, subclass and programming interface, as in the register: `CCSSPP`.
    pub class: u32,
}

/// Access to configuration space by ports CF8h and CFCh.
#[derive(Clone, Copy, Debug)]
pub struct Ports;

static LOCK: IrqLock<()> = IrqLock::new(());

fn select(at: DeviceFunction, register: u8) {
    let address = 1 << 31
        | u32::from(at.bus) << 16
        | u32::from(at.device) << 11
        | u32::from(at.function) << 8
        | u32::from(register & 0xfc);
    // SAFETY: the host's own configuration port; LOCK is held.
    unsafe { x86::io::outl(0xcf8, address) }
}

impl ConfigurationAccess for Ports {
    fn read_word(&self, at: DeviceFunction, register: u8) -> u32 {
        let _guard = LOCK.lock();
        select(at, register);
        // SAFETY: as in `select`.
        unsafe { x86::io::inl(0xcfc) }
    }

    fn write_word(&mut self, at: DeviceFunction, register: u8, value: u32) {
        let _guard = LOCK.lock();
        select(at, register);
        // SAFETY: as in `select`.
        unsafe { x86::io::outl(0xcfc, value) }
    }

    unsafe fn unsafe_clone(&self) -> Self {
        Ports
    }
}

/// A register of 32 bits.
#[must_use]
pub fn read(at: DeviceFunction, register: u8) -> u32 {
    Ports.read_word(at, register)
}

/// Writes a register of 32 bits.
pub fn write(at: DeviceFunction, register: u8, value: u32) {
    Ports.write_word(at, register, value);
}

/// The root for drivers of `virtio-drivers`.
#[must_use]
pub fn root() -> PciRoot<Ports> {
    PciRoot::new(Ports)
}

/// The ISA or global interrupt number that firmware wrote into "Interrupt Line", if any.
#[must_use]
pub fn interrupt_line(at: DeviceFunction) -> Option<u8> {
    let [line, pin, ..] = read(at, 0x3c).to_le_bytes();
    (pin != 0 && line != 0xff).then_some(line)
}

/// Lets the function answer to ports and memory and be a bus master.
pub fn enable(at: DeviceFunction) {
    // The status half is write-one-to-clear: leave it alone.
    write(at, 4, read(at, 4) & 0xffff | 7);
}

/// All functions, depth first through bridges.
#[must_use]
pub fn enumerate() -> Vec<Function, MAX_FUNCTIONS> {
    let mut found = Vec::new();
    let mut buses: Vec<u8, 64> = Vec::new();
    let _ = buses.push(0);
    let mut next = 0;
    while let Some(&bus) = buses.get(next) {
        next += 1;
        for device in 0..32 {
            scan_device(bus, device, &mut found, &mut buses);
        }
    }
    found
}

fn scan_device(
    bus: u8,
    device: u8,
    found: &mut Vec<Function, MAX_FUNCTIONS>,
    buses: &mut Vec<u8, 64>,
) {
    let mut functions = 1;
    for function in 0..8 {
        if function >= functions {
            break;
        }
        let at = DeviceFunction { bus, device, function };
        let id = read(at, 0);
        if id & 0xffff == 0xffff {
            continue;
        }
        let header = (read(at, 0x0c) >> 16) as u8;
        if header & 0x80 != 0 {
            functions = 8;
        }
        if header & 0x7f == 1 {
            let secondary = (read(at, 0x18) >> 8) as u8;
            if !buses.contains(&secondary) {
                let _ = buses.push(secondary);
            }
        }
        let class = read(at, 8) >> 8;
        let (vendor, device) = (id as u16, (id >> 16) as u16);
        let _ = found.push(Function { at, vendor, device, class });
    }
}

/// Physical address of memory BAR `index`.
#[must_use]
pub fn memory_bar(at: DeviceFunction, index: u8) -> Option<u64> {
    let register = 0x10 + index.min(5) * 4;
    let low = read(at, register);
    if low & 1 != 0 {
        return None;
    }
    let high = if low & 6 == 4 && index < 5 { read(at, register + 4) } else { 0 };
    Some(u64::from(high) << 32 | u64::from(low & !0xf)).filter(|&address| address != 0)
}

/// The port of I/O BAR `index`.
#[must_use]
pub fn port_bar(at: DeviceFunction, index: u8) -> Option<u16> {
    let low = read(at, 0x10 + index.min(5) * 4);
    (low & 1 != 0 && low & 0xfffc != 0).then_some((low & 0xfffc) as u16)
}

/// Where capability `id` is.
#[must_use]
pub fn capability(at: DeviceFunction, id: u8) -> Option<u8> {
    root().capabilities(at).find(|c| c.id == id).map(|c| c.offset)
}

/// Points entry 0 of the MSI-X table at `vector` of the CPU with `apic_id` and turns MSI-X on.
/// False where the function has none, or the CPU's ID does not fit.
pub fn enable_msix(at: DeviceFunction, vector: u8, apic_id: u32) -> bool {
    const MSI_X: u8 = 0x11;
    let Some(offset) = capability(at, MSI_X) else { return false };
    let table = read(at, offset + 4);
    let Some(bar) = memory_bar(at, (table & 7) as u8) else { return false };
    if apic_id > 0xff {
        return false;
    }
    let entry = map_mmio(Phys(bar + u64::from(table & !7)), 16, Cache::Uncached).cast::<u32>();
    // Address, upper address, data, vector control (0: not masked).
    for (i, word) in [0xfee0_0000 | apic_id << 12, 0, vector.into(), 0].into_iter().enumerate() {
        // SAFETY: the first entry of the table, just mapped; the device is ours.
        unsafe { entry.add(i).write_volatile(word) };
    }
    let control = read(at, offset);
    write(at, offset, control & !(1 << 30) | 1 << 31);
    true
}
