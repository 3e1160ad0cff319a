//! PCI: configuration access by mechanism 1, addresses for BARs, and the bridges of the i440FX board.

use crate::caller::Call;
use crate::dispatch::Bios;
use crate::platform::Platform;
use alloc::vec::Vec;

/// Interrupt lines of PIRQ A to D, as every firmware of this board routes them.
pub(crate) const PIRQ_LINES: [u8; 4] = [10, 10, 11, 11];
/// Base of the PIIX4's power management ports.
pub const PM_BASE: u16 = 0x600;
/// Base of its SMBus ports.
const SMBUS_BASE: u16 = 0x700;
/// First port given to BARs.
const IO_BASE: u32 = 0xc000;

/// Which PIRQ (0 is A) a device's pin (1 is INTA#) is wired to.
pub(crate) const fn pirq(device: u8, pin: u8) -> u8 {
    device.wrapping_sub(1).wrapping_add(pin.wrapping_sub(1)) & 3
}

impl<P: Platform> Call<'_, P> {
    fn pci_select(&mut self, bus: u8, devfn: u8, register: u8) -> u16 {
        let address =
            1 << 31 | u32::from(bus) << 16 | u32::from(devfn) << 8 | u32::from(register & 0xfc);
        self.bus.port_out(0xcf8, 4, address);
        0xcfc | u16::from(register & 3)
    }

    /// Reads `width` bytes of configuration space; `register` is a multiple of `width`.
    pub fn pci_read(&mut self, bus: u8, devfn: u8, register: u8, width: u8) -> u32 {
        let port = self.pci_select(bus, devfn, register);
        self.bus.port_in(port, width)
    }

    /// Writes `width` bytes of configuration space.
    pub fn pci_write(&mut self, bus: u8, devfn: u8, register: u8, width: u8, value: u32) {
        let port = self.pci_select(bus, devfn, register);
        self.bus.port_out(port, width, value);
    }
}

/// The functions on bus 0, ascending.
pub(crate) fn functions<P: Platform>(c: &mut Call<'_, P>) -> Vec<u8> {
    let mut found = Vec::new();
    for device in 0..32u8 {
        let mut many = false;
        for function in 0..8 {
            let devfn = device << 3 | function;
            if (function > 0 && !many) || c.pci_read(0, devfn, 0, 2) == 0xffff {
                continue;
            }
            if function == 0 {
                many = c.pci_read(0, devfn, 0x0e, 1) & 0x80 != 0;
            }
            found.push(devfn);
        }
    }
    found
}

/// What a base address register asks for.
struct Bar {
    devfn: u8,
    register: u8,
    size: u32,
    io: bool,
    wide: bool,
}

impl Bios {
    /// Gives every function addresses and its interrupt line, and sets the bridges up.
    pub(super) fn set_up_pci<P: Platform>(&mut self, c: &mut Call<'_, P>) {
        let functions = functions(c);
        let mut bars = Vec::new();
        for &devfn in &functions {
            let command = c.pci_read(0, devfn, 4, 2);
            c.pci_write(0, devfn, 4, 2, command & !3);
            if c.pci_read(0, devfn, 0x0e, 1) & 0x7f == 0 {
                size_bars(c, devfn, &mut bars);
            }
        }
        assign(c, bars);
        for &devfn in &functions {
            let id = c.pci_read(0, devfn, 0, 4);
            let class = c.pci_read(0, devfn, 8, 4) >> 16;
            let pin = c.pci_read(0, devfn, 0x3d, 1) as u8;
            if (1..=4).contains(&pin) {
                let line = PIRQ_LINES[usize::from(pirq(devfn >> 3, pin))];
                c.pci_write(0, devfn, 0x3c, 1, line.into());
            }
            let command = c.pci_read(0, devfn, 4, 2);
            c.pci_write(0, devfn, 4, 2, command | 3);
            match (id, class) {
                (0x1237_8086, _) => host_bridge(c, devfn),
                (0x7000_8086 | 0x7110_8086, _) => isa_bridge(c, devfn),
                (0x7113_8086, _) => power_management(c, devfn),
                (_, 0x0101) => ide(c, devfn),
                (_, 0x0300) => {
                    let bar = c.pci_read(0, devfn, 0x10, 4);
                    if bar & 1 == 0 && bar != 0 {
                        self.framebuffer = bar & !0xf;
                    }
                }
                _ => {}
            }
        }
    }
}

/// Writes ones and sees which bits stay (PCI 2.1, "Base Addresses").
fn size_bars<P: Platform>(c: &mut Call<'_, P>, devfn: u8, bars: &mut Vec<Bar>) {
    let mut register = 0x10;
    while register < 0x28 {
        c.pci_write(0, devfn, register, 4, u32::MAX);
        let mask = c.pci_read(0, devfn, register, 4);
        let io = mask & 1 != 0;
        let wide = !io && mask & 6 == 4;
        let bits = if io { mask & 0xffff & !3 } else { mask & !0xf };
        c.pci_write(0, devfn, register, 4, 0);
        if bits != 0 && mask != u32::MAX {
            let size = 1 << bits.trailing_zeros();
            bars.push(Bar { devfn, register, size, io, wide });
        }
        register += if wide { 8 } else { 4 };
    }
}

/// Largest first, each at a multiple of its size. What finds no room stays at 0, closed.
fn assign<P: Platform>(c: &mut Call<'_, P>, mut bars: Vec<Bar>) {
    let (start, end) = c.bus.config().pci_hole;
    let mut memory = u64::from(start);
    let mut io = u64::from(IO_BASE);
    bars.sort_by_key(|bar| core::cmp::Reverse(bar.size));
    for bar in bars {
        let size = u64::from(bar.size);
        let (next, end) = if bar.io { (&mut io, 0x1_0000) } else { (&mut memory, u64::from(end)) };
        let at = next.next_multiple_of(size);
        if at + size > end {
            continue;
        }
        *next = at + size;
        c.pci_write(0, bar.devfn, bar.register, 4, at as u32);
        if bar.wide {
            c.pci_write(0, bar.devfn, bar.register + 4, 4, 0);
        }
    }
}

/// i440FX "PAM": F0000h and C0000h to C7FFFh read from RAM, and are written again at the end of POST.
fn host_bridge<P: Platform>(c: &mut Call<'_, P>, devfn: u8) {
    c.pci_write(0, devfn, 0x59, 1, 0x30);
    c.pci_write(0, devfn, 0x5a, 1, 0x33);
    if crate::e820::tables_base(c.bus.config()) < 0x10_0000 {
        // A small machine keeps its tables at E0000h.
        c.pci_write(0, devfn, 0x5e, 1, 0x33);
        c.pci_write(0, devfn, 0x5f, 1, 0x33);
    }
}

/// i440FX "PAM": the shadowed ROMs become read-only.
pub(super) fn lock_shadow<P: Platform>(c: &mut Call<'_, P>) {
    if c.pci_read(0, 0, 0, 4) == 0x1237_8086 {
        c.pci_write(0, 0, 0x59, 1, 0x10);
        c.pci_write(0, 0, 0x5a, 1, 0x11);
    }
}

/// PIIX3 "PIRQRC[A:D]".
fn isa_bridge<P: Platform>(c: &mut Call<'_, P>, devfn: u8) {
    for (n, line) in (0u8..).zip(PIRQ_LINES) {
        c.pci_write(0, devfn, 0x60 + n, 1, line.into());
    }
}

/// PIIX4 "PMBA", "PMREGMISC", "SMBBA", "SMBHSTCFG". The SCI is IRQ 9.
fn power_management<P: Platform>(c: &mut Call<'_, P>, devfn: u8) {
    c.pci_write(0, devfn, 0x3c, 1, 9);
    c.pci_write(0, devfn, 0x40, 4, u32::from(PM_BASE) | 1);
    c.pci_write(0, devfn, 0x80, 1, 1);
    c.pci_write(0, devfn, 0x90, 4, u32::from(SMBUS_BASE) | 1);
    c.pci_write(0, devfn, 0xd2, 1, 9);
}

/// PIIX3 "IDETIM": both channels decode their ports; bus mastering allowed.
fn ide<P: Platform>(c: &mut Call<'_, P>, devfn: u8) {
    c.pci_write(0, devfn, 0x40, 2, 0x8000);
    c.pci_write(0, devfn, 0x42, 2, 0x8000);
    c.pci_write(0, devfn, 4, 2, 5);
}
