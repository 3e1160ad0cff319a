//! ATA disks and ATAPI CD drives on PIIX-like controllers: bus-master DMA, else PIO by interrupt.
//! `command` is what goes into the registers, `channel` is the two drives that share them.

// UNSAFETY: see `channel`.

mod channel;
pub mod command;

use super::block::{Info, Request, SubmitError};
use super::pci::{self, Function};
use channel::Channel;
use command::Drive;

/// One drive.
pub struct AtaDisk {
    channel: &'static Channel,
    number: usize,
    /// 0 master, 1 slave.
    unit: u8,
    drive: Drive,
    info: Info,
}

impl AtaDisk {
    /// What it is.
    pub fn info(&self) -> Info {
        self.info
    }

    /// Queues a request that `block::submit` has checked.
    ///
    /// # Errors
    /// [`SubmitError::Full`] when the channel's queue is full.
    pub fn submit(&'static self, request: &Request) -> Result<(), SubmitError> {
        self.channel.submit(self, request)
    }
}

/// Where a channel's registers are and how it interrupts.
#[derive(Clone, Copy, Debug)]
struct Wiring {
    ports: u16,
    control: u16,
    /// Bus-master registers; 0 for none.
    bus_master: u16,
    irq: Irq,
}

#[derive(Clone, Copy, Debug)]
enum Irq {
    Isa(u8),
    Pci(u8),
}

const LEGACY: [(u16, u16, u8); 2] = [(0x1f0, 0x3f6, 14), (0x170, 0x376, 15)];

/// Brings up the drives of every IDE controller; of the legacy ports where PCI shows none.
pub fn init(functions: &[Function]) {
    let mut any = false;
    for function in functions.iter().filter(|f| f.class >> 8 == 0x0101) {
        any = true;
        pci::enable(function.at);
        // `ata=pio` is for controllers whose bus mastering is broken, and for tests.
        let pio = crate::config::get("ata") == Some("pio");
        let bus_master = pci::port_bar(function.at, 4).filter(|_| !pio).unwrap_or(0);
        for n in 0..2 {
            if let Some(wiring) = wiring(function, n, bus_master) {
                channel::start(wiring);
            }
        }
    }
    if !any {
        for (ports, control, irq) in LEGACY {
            channel::start(Wiring { ports, control, bus_master: 0, irq: Irq::Isa(irq) });
        }
    }
}

fn wiring(function: &Function, n: u8, bus_master: u16) -> Option<Wiring> {
    let bus_master = if bus_master == 0 { 0 } else { bus_master + 8 * u16::from(n) };
    // Programming interface bits 0 and 2: the channel is in native mode, its ports in BARs.
    if function.class >> (2 * n) & 1 == 0 {
        let (ports, control, irq) = LEGACY[usize::from(n)];
        return Some(Wiring { ports, control, bus_master, irq: Irq::Isa(irq) });
    }
    let ports = pci::port_bar(function.at, 2 * n)?;
    let control = pci::port_bar(function.at, 2 * n + 1)? + 2;
    let irq = Irq::Pci(pci::interrupt_line(function.at)?);
    Some(Wiring { ports, control, bus_master, irq })
}
