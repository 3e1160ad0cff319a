//! Each chip alone under any sequence of register accesses, inputs and time; at the end its state
//! goes through save and load.

use super::{Input, Target};
use arch::Nanos;
use devmodel::acpipm::{AcpiPm, AcpiPmConfig};
use devmodel::blk::{DiskId, Media};
use devmodel::debugcon::Debugcon;
use devmodel::dma::{Dma, DmaUnit};
use devmodel::e1000::E1000;
use devmodel::fdc::{self, DriveType, Fdc};
use devmodel::fwcfg::{FwCfg, Items};
use devmodel::hpet::{Hpet, HpetConfig};
use devmodel::ide::{self, Ide};
use devmodel::ioapic::{IoApic, Version};
use devmodel::lapic::{LapicConfig, LocalApic};
use devmodel::net::Memory;
use devmodel::pci;
use devmodel::pic::{PicPair, PicUnit};
use devmodel::pit::Pit;
use devmodel::port92::Port92;
use devmodel::ps2::Ps2;
use devmodel::reset::ResetControl;
use devmodel::rtc::{Rtc, WallClock};
use devmodel::rtl8139::Rtl8139;
use devmodel::uart::Uart;
use devmodel::vga::Vga;
use devmodel::xenplat::XenPlatform;

/// Steps of one run.
const STEPS: u32 = 2048;

/// Time that passes between steps: mostly little, sometimes long.
fn tick(input: &mut Input<'_>, now: &mut Nanos) {
    let ns = match input.u8() {
        0..=199 => 1_000,
        200..=250 => 1_000_000,
        _ => 1_000_000_000,
    };
    *now = *now + ns;
}

/// Saves a chip, loads the state into a new one and compares.
macro_rules! round_trip {
    ($new:expr, $chip:ident) => {{
        let state = $chip.save();
        let mut twin = $new;
        twin.load(&state).expect("what a chip saved can be loaded");
        assert_eq!(twin.save(), state);
    }};
}

macro_rules! chips {
    ($($name:ident: $new:expr, |$chip:ident, $input:ident, $now:ident| $step:block,
       |$done:ident| $check:expr;)*) => {
        $(
            #[doc = concat!("Fuzzes `", stringify!($name), "`.")]
            pub fn $name(data: &[u8]) {
                let mut input = Input::new(data);
                let mut now = Nanos::ZERO;
                let mut chip = $new;
                for _ in 0..STEPS {
                    if input.is_empty() {
                        break;
                    }
                    tick(&mut input, &mut now);
                    let ($chip, $input, $now) = (&mut chip, &mut input, now);
                    let _ = $now;
                    $step
                }
                let $done = chip;
                $check
            }
        )*

        /// All chips.
        pub const CHIPS: &[Target] = &[$((stringify!($name), $name)),*];
    };
}

fn pm() -> AcpiPm {
    AcpiPm::new(AcpiPmConfig { wide_timer: true })
}

fn rtc_at_start() -> Rtc {
    Rtc::new(WallClock::from_unix(1_700_000_000))
}

fn fw_cfg() -> FwCfg {
    FwCfg::new(Items::pc(64 << 20, (2, 2), &[]))
}

fn local_apic() -> LocalApic {
    LocalApic::new(LapicConfig {
        id: 1,
        bsp: true,
        x2apic: true,
        tsc_deadline: true,
        suppress_eoi: true,
        physical_bits: 39,
    })
}

fn floppies() -> Fdc {
    let mut fdc = Fdc::new();
    let geometry = devmodel::blk::Geometry { cylinders: 80, heads: 2, sectors: 18 };
    let media = Media { geometry, removable: true, ..Media::disk(2880, "fd") };
    fdc.attach(0, DriveType::F1440, DiskId(4));
    fdc.attach(1, DriveType::F1440, DiskId(5));
    fdc.insert(0, &media);
    fdc
}

fn drives() -> Ide {
    let mut ide = Ide::new();
    ide.attach_disk(ide::Unit::ALL[0], DiskId(0), &Media::disk(1 << 30, "hd"));
    ide.attach_cdrom(ide::Unit::ALL[2], DiskId(2), Some(&Media::cdrom(1000)));
    ide.attach_cdrom(ide::Unit::ALL[3], DiskId(3), None);
    ide
}

/// Answers floppy effects as a board would, within a budget.
fn serve_floppy(chip: &mut Fdc, first: fdc::Effect, input: &mut Input<'_>) {
    let mut effect = first;
    for _ in 0..64 {
        effect = match effect {
            fdc::Effect::None => match chip.dma_request() {
                Some(want) if input.u8() & 3 != 0 => {
                    chip.dma_grant(want.bytes.min(1 + u32::from(input.u16())))
                }
                _ => return,
            },
            fdc::Effect::Request(request) => {
                if input.u8() & 7 == 0 {
                    return;
                }
                if let Some(buffer) = chip.buffer(request.token) {
                    buffer.fill(0x5a);
                }
                chip.complete(request.token, Ok(()))
            }
            fdc::Effect::Move { .. } => {
                chip.dma_data().fill(0xa5);
                chip.dma_moved(input.u8() & 3 == 0)
            }
        };
    }
}

/// Answers IDE effects as a board would, within a budget.
fn serve_ide(chip: &mut Ide, first: ide::Effect, input: &mut Input<'_>) {
    let mut effect = first;
    let mut list = devmodel::blk::SegmentList::new();
    for _ in 0..64 {
        effect = match effect {
            ide::Effect::None | ide::Effect::Tray { .. } => return,
            ide::Effect::Request(request) => {
                if input.u8() & 7 == 0 {
                    return;
                }
                if let Some(buffer) = chip.buffer(request.token) {
                    buffer.fill(0x5a);
                }
                chip.complete(request.token, Ok(()))
            }
            ide::Effect::Dma(bus) => {
                let prd = [0, 0x10, 0, 0, input.u8(), input.u8(), 0, input.u8() & 0x80];
                match chip.dma_next(bus, &mut list, |_| Some(prd)) {
                    ide::DmaStep::Wait => return,
                    ide::DmaStep::Disk(request) => chip.complete(request.token, Ok(())),
                    ide::DmaStep::Copy { token, .. } => chip.complete(token, Ok(())),
                }
            }
        };
    }
}

/// Video memory for one run.
fn vram() -> Vec<std::sync::atomic::AtomicU32> {
    (0..1 << 16).map(|_| std::sync::atomic::AtomicU32::new(0)).collect()
}

thread_local! {
    static VRAM: Vec<std::sync::atomic::AtomicU32> = vram();
    static CARD_RAM: CardRam = CardRam(std::cell::RefCell::new(vec![0; 1 << 16]));
}

/// 64 KiB of guest memory for network cards.
struct CardRam(std::cell::RefCell<Vec<u8>>);

impl Memory for CardRam {
    fn read(&self, at: u64, to: &mut [u8]) -> bool {
        let ram = self.0.borrow();
        let start = usize::try_from(at).unwrap_or(usize::MAX);
        let found = ram.get(start..start.saturating_add(to.len()));
        found.map(|found| to.copy_from_slice(found)).is_some()
    }

    fn write(&self, at: u64, from: &[u8]) -> bool {
        let mut ram = self.0.borrow_mut();
        let start = usize::try_from(at).unwrap_or(usize::MAX);
        let found = ram.get_mut(start..start.saturating_add(from.len()));
        found.map(|found| found.copy_from_slice(from)).is_some()
    }
}

chips! {
    uart: Uart::new(), |chip, input, now| {
        match input.u8() % 4 {
            0 => { let _ = chip.read(input.u8() & 7, now); }
            1 | 2 => { let _ = chip.write(input.u8() & 7, input.u8(), now); }
            _ => { let _ = chip.receive(input.u8(), now); }
        }
        if chip.due().is_some_and(|due| due <= now) {
            chip.advance(now);
        }
        let _ = (chip.irq(), chip.room());
    }, |chip| round_trip!(Uart::new(), chip);

    pit: Pit::new(), |chip, input, now| {
        match input.u8() % 4 {
            0 => { let _ = chip.read(input.u8() & 3, now); }
            1 => chip.write_port61(input.u8(), now),
            _ => chip.write(input.u8() & 3, input.u8(), now),
        }
        if chip.due().is_some_and(|due| due <= now) {
            let _ = chip.advance(now);
        }
        let _ = (chip.out(0, now), chip.out(2, now), chip.read_port61(now));
    }, |chip| round_trip!(Pit::new(), chip);

    rtc: rtc_at_start(), |chip, input, now| {
        match input.u8() % 3 {
            0 => { let _ = chip.read(input.u8() & 3, now); }
            _ => chip.write(input.u8() & 3, input.u8(), now),
        }
        if chip.due().is_some_and(|due| due <= now) {
            chip.advance(now);
        }
        let _ = (chip.irq(), chip.wall_clock());
    }, |chip| round_trip!(rtc_at_start(), chip);

    pic: PicPair::new(), |chip, input, now| {
        let unit = input.pick(&[PicUnit::Master, PicUnit::Slave]);
        match input.u8() % 6 {
            0 => { let _ = chip.read(unit, input.u8() & 1); }
            1 => chip.write(unit, input.u8() & 1, input.u8()),
            2 => chip.write_elcr(unit, input.u8()),
            3 => { let _ = chip.acknowledge(); }
            _ => chip.set_irq(input.u8() & 15, input.u8() & 1 != 0),
        }
        let _ = chip.intr();
    }, |chip| round_trip!(PicPair::new(), chip);

    ioapic: IoApic::new(Version::V11), |chip, input, now| {
        match input.u8() % 5 {
            0 => { let _ = chip.read(input.u16()); }
            1 => { let _ = chip.write(input.pick(&[0, 0x10, 0x40]), input.u32()); }
            2 => { let _ = chip.eoi(input.u8()).count(); }
            3 => { let _ = chip.pulse(input.u8()); }
            _ => { let _ = chip.set_pin(input.u8(), input.u8() & 1 != 0); }
        }
    }, |chip| round_trip!(IoApic::new(Version::V11), chip);

    lapic: local_apic(), |chip, input, now| {
        match input.u8() % 8 {
            0 => { let _ = chip.read(input.u8(), now); }
            1 => { let _ = chip.write(input.u8() & 0x3f, input.u32(), now); }
            2 => { let _ = chip.write_msr(0x800 + u32::from(input.u8()), input.u64(), now); }
            3 => { let _ = chip.write_base(input.u64()); }
            4 => { let _ = chip.accept(input.u8(), input.u8() & 1 != 0); }
            5 => { let _ = chip.acknowledge(); }
            6 => { let _ = chip.write_tsc_deadline(input.u64(), now); }
            _ => { let _ = chip.eoi(); }
        }
        if chip.due().is_some_and(|due| due <= now) {
            let _ = chip.advance(now);
        }
        let _ = (chip.pending_vector(), chip.held_back_class(), chip.ppr(), chip.address());
    }, |chip| round_trip!(local_apic(), chip);

    hpet: Hpet::new(HpetConfig::default()), |chip, input, now| {
        match input.u8() % 4 {
            0 => { let _ = chip.read64(input.u16() & 0x3ff, now); }
            1 => chip.write32(input.u16() & 0x3fc, input.u32(), now),
            _ => chip.write64(input.pick(&[0x10, 0x20, 0xf0, 0x100, 0x108, 0x120, 0x128]),
                              input.u64(), now),
        }
        if chip.due().is_some_and(|due| due <= now) {
            chip.advance(now);
        }
        let _ = (chip.take_edges(), chip.levels(), chip.legacy());
    }, |chip| round_trip!(Hpet::new(HpetConfig::default()), chip);

    dma: Dma::new(), |chip, input, now| {
        let unit = input.pick(&[DmaUnit::Bytes, DmaUnit::Words]);
        match input.u8() % 6 {
            0 => { let _ = chip.read(unit, input.u8() & 15); }
            1 | 2 => chip.write(unit, input.u8() & 15, input.u8()),
            3 => chip.write_page(input.u8() & 15, input.u8()),
            4 => chip.set_dreq(input.u8() & 7, input.u8() & 1 != 0),
            _ => { let _ = chip.advance(input.u8() & 7, input.u16().into()); }
        }
        let _ = chip.transfer(2);
    }, |chip| round_trip!(Dma::new(), chip);

    floppy: floppies(), |chip, input, now| {
        let effect = match input.u8() % 4 {
            0 => chip.read(input.u8() & 7).1,
            1 => chip.write(5, input.u8(), now),
            _ => chip.write(input.u8() & 7, input.u8(), now),
        };
        serve_floppy(chip, effect, input);
        if chip.due().is_some_and(|due| due <= now) {
            chip.advance(now);
        }
        let _ = chip.irq();
    }, |chip| {
        let state = chip.save();
        let mut twin = floppies();
        let buffer = chip.saved_buffer().to_vec();
        twin.load(&state, &buffer).expect("what a chip saved can be loaded");
        assert_eq!(twin.save(), state);
    };

    ide_disks: drives(), |chip, input, now| {
        let bus = input.pick(&[ide::Bus::Primary, ide::Bus::Secondary]);
        let effect = match input.u8() % 8 {
            0 => { let _ = chip.read(bus, input.u8() & 7); ide::Effect::None }
            1 => { chip.write_control(bus, input.u8()); ide::Effect::None }
            2 => chip.busmaster_write(input.u8() & 15, input.u8()),
            3 => chip.data_in(bus, &mut [0; 512]).1,
            4 => { let data = input.take(12); chip.data_out(bus, data).1 }
            _ => chip.write(bus, input.u8() & 7, input.u8()),
        };
        serve_ide(chip, effect, input);
        let _ = (chip.irq(bus), chip.read_control(bus));
    }, |chip| {
        let state = chip.save();
        let mut twin = drives();
        let buffers = [ide::Bus::Primary, ide::Bus::Secondary].map(|b| chip.saved_buffer(b).to_vec());
        twin.load(&state, [&buffers[0], &buffers[1]]).expect("what a chip saved can be loaded");
        assert_eq!(twin.save(), state);
    };

    ps2: Ps2::new(), |chip, input, now| {
        match input.u8() % 6 {
            0 => { let _ = chip.read_data(now); }
            1 => { let _ = chip.read_status(now); }
            2 | 3 => { let _ = chip.write_data(input.u8(), now); }
            4 => { let _ = chip.write_command(input.u8(), now); }
            _ => chip.mouse_motion(input.u32() as i32, input.u32() as i32, input.u8().into(), now),
        }
        if chip.due().is_some_and(|due| due <= now) {
            chip.advance(now);
        }
        let _ = (chip.irq1(), chip.irq12(), chip.a20());
    }, |chip| round_trip!(Ps2::new(), chip);

    pci_bus: pci::Bus::pc(16 << 20, 0), |chip, input, now| {
        match input.u8() % 4 {
            0 => chip.set_address(input.u32()),
            1 => { let _ = chip.read_data(input.u8() & 3, input.pick(&[1, 2, 4])); }
            2 => chip.set_address(1 << 31 | u32::from(input.u16() & 0x1fff) << 2),
            _ => { let _ = chip.write_data(input.u8() & 3, input.pick(&[1, 2, 4]), input.u32()); }
        }
        let _ = (chip.isa_irqs(), chip.pm_base(), chip.shadow(0xc_0000));
    }, |chip| round_trip!(pci::Bus::pc(16 << 20, 0), chip);

    acpi_pm: pm(), |chip, input, now| {
        match input.u8() % 5 {
            0 => { let _ = chip.read(input.u8() & 63, input.pick(&[1, 2, 4]), now); }
            1 => chip.write_gpe(input.u8() & 3, 1, input.u8().into()),
            2 => chip.write_apm(input.u8() & 1, input.u8()),
            3 => chip.raise_gpe(input.u8() & 15),
            _ => {
                let _ = chip.write(input.u8() & 63, input.pick(&[1, 2, 4]), input.u32(), now);
            }
        }
        if chip.due().is_some_and(|due| due <= now) {
            chip.advance(now);
        }
        let _ = chip.sci();
    }, |chip| round_trip!(pm(), chip);

    vga: Vga::new(1 << 18), |chip, input, now| {
        VRAM.with(|vram| {
            let vram = vram.as_slice();
            match input.u8() % 7 {
                0 => { let _ = chip.port_read(0x3b0 + u16::from(input.u8() % 48), now); }
                1 | 2 => chip.port_write(0x3b0 + u16::from(input.u8() % 48), input.u8(), now),
                3 => chip.vbe_write(vram, 0x1ce + u16::from(input.u8() & 1), input.u16() & 0xfff),
                4 => { let _ = chip.mem_read(vram, input.u32() & 0x1_ffff, input.pick(&[1, 2, 4])); }
                5 => {
                    let value = input.u64() & 0xffff_ffff;
                    chip.mem_write(vram, input.u32() & 0x1_ffff, input.pick(&[1, 2, 4]), value);
                }
                _ => { let _ = chip.mmio_read(input.u16().into(), input.pick(&[1, 2, 4]), now); }
            }
        });
        let _ = chip.direct_map();
    }, |chip| round_trip!(Vga::new(1 << 18), chip);

    firmware_config: fw_cfg(), |chip, input, now| {
        match input.u8() % 5 {
            0 => chip.select(input.u16()),
            1 => { let _ = chip.read(); }
            2 => { let _ = chip.write_dma(input.u8() & 7, input.u32()); }
            3 => {
                let mut descriptor = [0; 16];
                for (to, from) in descriptor.iter_mut().zip(input.take(16)) {
                    *to = *from;
                }
                let _ = chip.begin(descriptor);
            }
            _ => { let _ = chip.take(input.u16().into()); }
        }
    }, |chip| round_trip!(fw_cfg(), chip);

    port_92: Port92::new(), |chip, input, now| {
        let _ = (chip.write(input.u8()), chip.read(), chip.a20());
    }, |chip| round_trip!(Port92::new(), chip);

    reset_control: ResetControl::new(), |chip, input, now| {
        let _ = (chip.write(input.u8()), chip.read());
    }, |chip| round_trip!(ResetControl::new(), chip);

    debug_console: Debugcon::new(), |chip, input, now| {
        chip.write_post_code(input.u8());
        let _ = (chip.read(), chip.post_code());
    }, |chip| round_trip!(Debugcon::new(), chip);

    xen_platform: XenPlatform::new(), |chip, input, now| {
        match input.u8() % 3 {
            0 => { let _ = chip.read(input.u8(), input.pick(&[1, 2, 4])); }
            1 => { let _ = chip.write(input.u8(), input.pick(&[1, 2, 4]), input.u32()); }
            _ => { let _ = chip.write_region(input.u8(), input.u8()); }
        }
    }, |chip| round_trip!(XenPlatform::new(), chip);

    e1000: E1000::new([2, 0, 0, 0, 0, 1]), |chip, input, now| {
        CARD_RAM.with(|ram| match input.u8() % 8 {
            0 => { let _ = chip.read(input.u32() & 0x1_ffff, now); }
            1 | 2 => { let _ = chip.write(input.u32() & 0x1_ffff, input.u32(), now); }
            // The rings' registers, with values that fit.
            3 => {
                let at = input.pick(&[0x100, 0x400, 0x2800, 0x2808, 0x2818, 0x3800, 0x3808, 0x3818]);
                let _ = chip.write(at, input.u16().into(), now);
            }
            4 => { let _ = chip.io_write(input.u8(), input.u32(), now); }
            5 => { let _ = ram.write(input.u16().into(), input.take(16)); }
            6 => { let _ = chip.receive_frame(ram, input.take(100), now); }
            _ => chip.advance(now),
        });
        CARD_RAM.with(|ram| chip.transmit(ram, now, &mut |frame| assert!(frame.len() >= 14)));
        let _ = (chip.irq(), chip.due());
    }, |chip| round_trip!(E1000::new([0; 6]), chip);

    rtl8139: Rtl8139::new([2, 0, 0, 0, 0, 1]), |chip, input, now| {
        CARD_RAM.with(|ram| match input.u8() % 5 {
            0 => { let _ = chip.read(input.u8(), input.pick(&[1, 2, 4])); }
            1 | 2 => { let _ = chip.write(input.u8(), input.pick(&[1, 2, 4]), input.u32()); }
            3 => { let _ = chip.write(input.pick(&[0x10, 0x14, 0x18, 0x1c]), 4, input.u16().into()); }
            _ => { let _ = chip.receive_frame(ram, input.take(100)); }
        });
        CARD_RAM.with(|ram| chip.transmit(ram, &mut |frame| assert!(frame.len() >= 14)));
        let _ = chip.irq();
    }, |chip| round_trip!(Rtl8139::new([0; 6]), chip);
}
