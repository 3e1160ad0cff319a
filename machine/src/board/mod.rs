//! The board: every chip of the PC and the wires between them. One lock around it, in [`Machine`].
//!
//! `pio` and `mmio` decode addresses; this file carries pins: chips to the 8259A pair and the I/O APIC, and
//! the time at which chips next have something to do. Nothing here calls the host.
//!
//! [`Machine`]: crate::Machine

mod mmio;
mod nic;
mod pio;
mod watchdog;
mod xen;

use crate::effects::Effects;
use crate::memmap::{self, Windows};
use alloc::boxed::Box;
use alloc::vec::Vec;
use arch::Nanos;
use devmodel::acpipm::{AcpiPm, AcpiPmConfig};
use devmodel::blk::SegmentList;
use devmodel::cpuhp::{self, CpuBitmap};
use devmodel::debugcon::Debugcon;
use devmodel::dma::Dma;
use devmodel::fdc::Fdc;
use devmodel::fwcfg::FwCfg;
use devmodel::hpet::{Hpet, HpetConfig};
use devmodel::ide::{self, Ide};
use devmodel::ioapic::{IoApic, Version};
use devmodel::pci::{self, DevFn};
use devmodel::pic::PicPair;
use devmodel::pit::Pit;
use devmodel::port92::Port92;
use devmodel::ps2::Ps2;
use devmodel::reset::ResetControl;
use devmodel::rtc::{Rtc, WallClock};
use devmodel::uart::Uart;
use devmodel::vga::{DirectMap, Vga};
use devmodel::xenplat::XenPlatform;
use pvdrivers::abi::sched::WATCHDOGS;

/// ISA interrupt lines by what drives them.
pub mod irq {
    /// 8254 channel 0, or HPET timer 0.
    pub const TIMER: u8 = 0;
    /// Keyboard.
    pub const KEYBOARD: u8 = 1;
    /// Second serial port.
    pub const COM2: u8 = 3;
    /// First serial port.
    pub const COM1: u8 = 4;
    /// Floppy controller.
    pub const FLOPPY: u8 = 6;
    /// Real-time clock, or HPET timer 1.
    pub const RTC: u8 = 8;
    /// ACPI.
    pub const SCI: u8 = 9;
    /// PS/2 mouse.
    pub const MOUSE: u8 = 12;
    /// First IDE channel; the second is 15.
    pub const IDE: u8 = 14;
}

/// Chips that do something by themselves, by their place in the list of deadlines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Timed {
    Pit,
    Rtc,
    Hpet,
    Com1,
    Com2,
    Fdc,
    Pm,
    Ps2,
    Nic,
    Watchdog,
}

/// How many [`Timed`] chips there are.
const TIMED: usize = 10;

/// What the board is built with.
#[derive(Clone, Debug)]
pub struct BoardConfig {
    /// The real-time clock at power-on.
    pub wall_clock: WallClock,
    /// Bytes of video memory: a power of two from 1 MiB.
    pub vram: u32,
    /// The items of the firmware configuration device.
    pub fw_cfg: FwCfg,
    /// Whether the Xen platform device is there.
    pub xen_platform: bool,
}

/// The chips and the wires.
pub struct Board {
    // Fixed
    wall_clock: WallClock,

    // Guest-visible
    pub(crate) pic: PicPair,
    pub(crate) ioapic: IoApic,
    pub(crate) pit: Pit,
    pub(crate) rtc: Rtc,
    pub(crate) hpet: Hpet,
    pub(crate) com: [Uart; 2],
    pub(crate) ps2: Ps2,
    pub(crate) dma: Dma,
    pub(crate) fdc: Fdc,
    pub(crate) ide: Box<Ide>,
    pub(crate) vga: Vga,
    pub(crate) pci: pci::Bus,
    pub(crate) pm: AcpiPm,
    pub(crate) cpus: CpuBitmap,
    pub(crate) fw_cfg: FwCfg,
    pub(crate) xen_platform: Option<XenPlatform>,
    nics: Vec<nic::Slot>,
    watchdogs: [watchdog::Watchdog; WATCHDOGS],
    /// The guest's drivers took the cards away, until the next reset.
    nics_gone: bool,
    port92: Port92,
    reset: ResetControl,
    debugcon: Debugcon,
    // Derived
    /// Levels of the ISA lines as the chips drive them.
    lines: u16,
    /// Levels of the ISA lines as PCI drives them.
    pci_lines: u16,
    /// I/O APIC pins that level-triggered HPET comparators drive.
    hpet_pins: u32,
    intr: bool,
    pub(crate) vga_direct: Option<DirectMap>,
    pci_ports: pio::PciPorts,
    dues: [Nanos; TIMED],
    due: Nanos,
    pub(crate) list: SegmentList,
}

impl Board {
    /// A board after power-on.
    #[must_use]
    pub fn new(config: BoardConfig) -> Board {
        let BoardConfig { wall_clock, vram, fw_cfg, xen_platform } = config;
        let mut pci = pci::Bus::pc(vram, 0);
        if xen_platform {
            // The place is free on a new bus.
            let _ = pci.add(pci::XEN_PLATFORM, pci::Kind::XenPlatform);
        }
        Board {
            wall_clock,

            pic: PicPair::new(),
            ioapic: IoApic::new(Version::V11),
            pit: Pit::new(),
            rtc: Rtc::new(wall_clock),
            hpet: Hpet::new(HpetConfig::default()),
            com: [Uart::new(), Uart::new()],
            ps2: Ps2::new(),
            dma: Dma::new(),
            fdc: Fdc::new(),
            ide: Box::new(Ide::new()),
            vga: Vga::new(vram),
            pci,
            pm: AcpiPm::new(AcpiPmConfig { wide_timer: true }),
            cpus: CpuBitmap::new(cpuhp::PROCESSORS),
            fw_cfg,
            xen_platform: xen_platform.then(XenPlatform::new),
            nics: Vec::new(),
            watchdogs: [None; WATCHDOGS],
            nics_gone: false,
            port92: Port92::new(),
            reset: ResetControl::new(),
            debugcon: Debugcon::new(),
            lines: 0,
            pci_lines: 0,
            hpet_pins: 0,
            intr: false,
            vga_direct: None,
            pci_ports: pio::PciPorts::default(),
            dues: [Nanos::NEVER; TIMED],
            due: Nanos::NEVER,
            list: SegmentList::new(),
        }
    }

    /// When the board next has something to do; [`Nanos::NEVER`] for nothing.
    #[must_use]
    pub fn due(&self) -> Nanos {
        self.due
    }

    /// The 8259A pair's output.
    #[must_use]
    pub fn intr(&self) -> bool {
        self.intr
    }

    /// The 8259A's acknowledge cycle.
    pub fn acknowledge_pic(&mut self) -> u8 {
        let vector = self.pic.acknowledge();
        self.intr = self.pic.intr();
        vector
    }

    /// Lets time reach `now` for the chips that are due.
    pub fn advance(&mut self, now: Nanos, fx: &mut Effects) {
        if now < self.due {
            return;
        }
        if self.is_due(Timed::Pit, now) {
            self.advance_pit(now, fx);
        }
        if self.is_due(Timed::Rtc, now) {
            self.rtc.advance(now);
            self.settle_rtc(fx);
        }
        if self.is_due(Timed::Hpet, now) {
            self.hpet.advance(now);
            self.settle_hpet(fx);
        }
        for port in 0..2 {
            if self.is_due([Timed::Com1, Timed::Com2][port], now) {
                self.com[port].advance(now);
                self.settle_com(port, fx);
            }
        }
        if self.is_due(Timed::Fdc, now) {
            self.fdc.advance(now);
            self.settle_fdc(fx);
        }
        if self.is_due(Timed::Ps2, now) {
            self.ps2.advance(now);
            self.settle_ps2(fx);
        }
        if self.is_due(Timed::Pm, now) {
            self.pm.advance(now);
            self.settle_pm(fx);
        }
        if self.is_due(Timed::Nic, now) {
            self.advance_nics(now, fx);
        }
        if self.is_due(Timed::Watchdog, now) {
            self.expire_watchdogs(now, fx);
        }
    }

    fn is_due(&self, chip: Timed, now: Nanos) -> bool {
        self.dues[chip as usize] <= now
    }

    /// Notes when a chip is next due.
    fn retime(&mut self, chip: Timed, due: Option<Nanos>, fx: &mut Effects) {
        let due = due.unwrap_or(Nanos::NEVER);
        if self.dues[chip as usize] == due {
            return;
        }
        self.dues[chip as usize] = due;
        let soonest = self.dues.iter().copied().min().unwrap_or(Nanos::NEVER);
        if soonest != self.due {
            self.due = soonest;
            fx.due = true;
            fx.touch();
        }
    }

    /// A chip drives an ISA line.
    fn set_line(&mut self, line: u8, level: bool, fx: &mut Effects) {
        let bit = 1 << line;
        if (self.lines & bit != 0) != level {
            self.lines ^= bit;
            self.drive(line, fx);
        }
    }

    /// Carries an ISA line to the 8259A pair and the I/O APIC. Line 0 is pin 2, as the MADT's override says.
    fn drive(&mut self, line: u8, fx: &mut Effects) {
        let level = (self.lines | self.pci_lines) >> line & 1 != 0;
        self.pic.set_irq(line, level);
        let pin = if line == irq::TIMER { 2 } else { line };
        if let Some(message) = self.ioapic.set_pin(pin, level) {
            fx.send(message);
        }
        self.settle_intr(fx);
    }

    /// Tells the 8259A pair's output if it changed.
    fn settle_intr(&mut self, fx: &mut Effects) {
        let intr = self.pic.intr();
        if intr != self.intr {
            self.intr = intr;
            fx.intr = true;
            fx.touch();
        }
    }

    fn advance_pit(&mut self, now: Nanos, fx: &mut Effects) {
        let rises = self.pit.advance(now);
        if rises > 0 && !self.hpet.legacy() {
            // The line stays high: a board that comes late must not lose the edge.
            self.set_line(irq::TIMER, false, fx);
            self.set_line(irq::TIMER, true, fx);
        }
        self.retime(Timed::Pit, self.pit.due(), fx);
    }

    fn settle_rtc(&mut self, fx: &mut Effects) {
        if !self.hpet.legacy() {
            self.set_line(irq::RTC, self.rtc.irq(), fx);
        }
        self.retime(Timed::Rtc, self.rtc.due(), fx);
    }

    fn settle_hpet(&mut self, fx: &mut Effects) {
        let edges = self.hpet.take_edges();
        let levels = self.hpet.levels();
        let legacy = self.hpet.legacy();
        for pin in 0..24u8 {
            if edges >> pin & 1 != 0 {
                let line = if pin == 2 { irq::TIMER } else { pin };
                if legacy && (pin == 2 || pin == 8) {
                    self.set_line(line, false, fx);
                    self.set_line(line, true, fx);
                } else if let Some(message) = self.ioapic.pulse(pin) {
                    fx.send(message);
                }
            }
            let changed = (levels ^ self.hpet_pins) >> pin & 1 != 0;
            if changed && let Some(message) = self.ioapic.set_pin(pin, levels >> pin & 1 != 0) {
                fx.send(message);
            }
        }
        self.hpet_pins = levels;
        self.retime(Timed::Hpet, self.hpet.due(), fx);
    }

    fn settle_com(&mut self, port: usize, fx: &mut Effects) {
        let (line, chip) = [(irq::COM1, Timed::Com1), (irq::COM2, Timed::Com2)][port & 1];
        self.set_line(line, self.com[port & 1].irq(), fx);
        self.retime(chip, self.com[port & 1].due(), fx);
    }

    fn settle_ps2(&mut self, fx: &mut Effects) {
        self.set_line(irq::KEYBOARD, self.ps2.irq1(), fx);
        self.set_line(irq::MOUSE, self.ps2.irq12(), fx);
        self.retime(Timed::Ps2, self.ps2.due(), fx);
    }

    pub(crate) fn settle_fdc(&mut self, fx: &mut Effects) {
        self.set_line(irq::FLOPPY, self.fdc.irq(), fx);
        self.dma.set_dreq(2, self.fdc.dma_request().is_some());
        self.retime(Timed::Fdc, self.fdc.due(), fx);
    }

    pub(crate) fn settle_ide(&mut self, fx: &mut Effects) {
        self.set_line(irq::IDE, self.ide.irq(ide::Bus::Primary), fx);
        self.set_line(irq::IDE + 1, self.ide.irq(ide::Bus::Secondary), fx);
    }

    /// Processors are plugged in or out; the guest's ACPI hears of it.
    pub(crate) fn set_cpus(&mut self, cpus: CpuBitmap, fx: &mut Effects) {
        if self.cpus != cpus {
            self.cpus = cpus;
            self.pm.raise_gpe(cpuhp::GPE);
            self.settle_pm(fx);
        }
    }

    fn settle_pm(&mut self, fx: &mut Effects) {
        self.set_line(irq::SCI, self.pm.sci(), fx);
        self.retime(Timed::Pm, self.pm.due(), fx);
    }

    /// PCI interrupt pins or their routing changed.
    fn settle_pci(&mut self, fx: &mut Effects) {
        let lines = self.pci.isa_irqs();
        let changed = lines ^ self.pci_lines;
        self.pci_lines = lines;
        for line in 0..16 {
            if changed >> line & 1 != 0 {
                self.drive(line, fx);
            }
        }
    }

    /// A byte from the person at the console. False: the port has no room now.
    pub fn receive(&mut self, port: usize, byte: u8, now: Nanos, fx: &mut Effects) -> bool {
        let taken = self.com[port & 1].receive(byte, now);
        self.settle_com(port, fx);
        taken
    }

    /// Whether the guest waits for input at a serial port by interrupt.
    #[must_use]
    pub fn listens(&self, port: usize) -> bool {
        self.com[port & 1].listens()
    }

    /// Keys and mouse movements.
    pub fn with_keyboard<R>(&mut self, work: impl FnOnce(&mut Ps2) -> R, fx: &mut Effects) -> R {
        let result = work(&mut self.ps2);
        self.settle_ps2(fx);
        result
    }

    /// Where PCI's memory windows are.
    pub(crate) fn windows(&self) -> Windows {
        let bar = |at, n| match self.pci.function(at).and_then(|f| f.region(n)) {
            Some(pci::Region::Memory { address, .. }) => address,
            _ => 0,
        };
        let (vga, xen) = (DevFn::new(2, 0), pci::XEN_PLATFORM);
        Windows {
            lfb: bar(vga, 0),
            vga_registers: bar(vga, 2),
            xen: bar(xen, 1),
            nics: self.nic_windows(),
        }
    }

    /// Which of the 16 KiB blocks from C0000h are writable.
    pub(crate) fn writable_shadow(&self) -> u16 {
        (0..16).fold(0, |blocks, n| {
            let shadow = self.pci.shadow(memmap::SHADOW + (n << 14));
            blocks | u16::from(shadow.is_some_and(|shadow| shadow.write_ram)) << n
        })
    }

    /// The end of a level-triggered interrupt of `vector`.
    pub fn end_of_interrupt(&mut self, vector: u8, fx: &mut Effects) {
        for pin in self.ioapic.eoi(vector) {
            fx.send(self.ioapic.message(pin));
        }
    }

    /// Whether address line 20 passes.
    #[must_use]
    pub fn a20(&self) -> bool {
        self.port92.a20() || self.ps2.a20()
    }

    /// Every chip as after power-on, media and wall clock kept. `seconds` of wall time have passed.
    pub fn reset(&mut self, now: Nanos, fx: &mut Effects) {
        self.pic = PicPair::new();
        self.ioapic.reset();
        self.pit = Pit::new();
        let elapsed = self.wall_clock.plus_seconds(now.0 / 1_000_000_000).0;
        let cmos: [u8; 128] = core::array::from_fn(|n| self.rtc.cmos(n as u8));
        self.rtc = Rtc::new(elapsed);
        for (n, byte) in cmos.iter().enumerate().skip(14) {
            self.rtc.set_cmos(n as u8, *byte);
        }
        self.hpet.reset();
        self.com = [Uart::new(), Uart::new()];
        self.ps2 = Ps2::new();
        self.dma = Dma::new();
        self.fdc.reset();
        self.ide.reset();
        self.vga.reset();
        self.pci.reset();
        self.pm = AcpiPm::new(AcpiPmConfig { wide_timer: true });
        if let Some(platform) = &mut self.xen_platform {
            platform.reset();
        }
        self.reset_nics();
        self.watchdogs = [None; WATCHDOGS];
        self.port92 = Port92::new();
        self.reset = ResetControl::new();
        (self.lines, self.pci_lines, self.hpet_pins) = (0, 0, 0);
        self.intr = false;
        self.vga_direct = None;
        self.pci_ports = pio::PciPorts::default();
        self.dues = [Nanos::NEVER; TIMED];
        self.due = Nanos::NEVER;
        fx.intr = true;
        fx.remap = true;
        fx.vga = true;
        fx.due = true;
        fx.touch();
    }
}
