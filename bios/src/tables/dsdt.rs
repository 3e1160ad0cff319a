//! The DSDT: PCI bus with its windows and interrupt routing, link devices on the PIIX3's PIRQ registers,
//! the ISA devices, and S5. Processors are in [`processors`].

use super::processors;
use crate::platform::BiosConfig;
use crate::post::pci::{PM_BASE, pirq};
use crate::rom::TRAP_PORT;
use acpi_tables::aml::{
    AddressSpace, AddressSpaceCacheable, And, Arg, CreateDWordField, Device, EISAName, Equal,
    Field, FieldAccessType, FieldEntry, FieldLockRule, FieldUpdateRule, IO, If, LessThan, Local,
    Memory32Fixed, Method, MethodCall, Name, OpRegion, OpRegionSpace, Or, Package, PackageBuilder,
    Path, ResourceTemplate, Return, Scope, Store, ZERO,
};
use acpi_tables::{Aml, AmlSink};
use alloc::format;
use alloc::vec;
use alloc::vec::Vec;

/// Bytes as they are.
pub(super) struct Raw(pub(super) Vec<u8>);

impl Aml for Raw {
    fn to_aml_bytes(&self, sink: &mut dyn AmlSink) {
        sink.vec(&self.0);
    }
}

/// "IRQ Descriptor": edge, active high.
fn irq(n: u8) -> Raw {
    let mask = (1u16 << n).to_le_bytes();
    Raw(vec![0x22, mask[0], mask[1]])
}

/// "DMA Descriptor": 8-bit, compatible.
fn dma(n: u8) -> Raw {
    Raw(vec![0x2a, 1 << n, 0])
}

/// "Extended Interrupt Descriptor": level, active high, shared.
fn interrupts(numbers: &[u32]) -> Raw {
    let mut out = vec![0x89, 2 + 4 * numbers.len() as u8, 0, 0x09, numbers.len() as u8];
    for number in numbers {
        out.extend_from_slice(&number.to_le_bytes());
    }
    Raw(out)
}

pub(super) fn name(path: &str) -> Path {
    Path::new(path)
}

/// The AML behind the table header.
pub(super) fn body(config: &BiosConfig, floppy: bool) -> Vec<u8> {
    let mut out = Vec::new();
    processors::write(&mut out, config);
    let mut soft_off = PackageBuilder::new();
    for _ in 0..4 {
        soft_off.add_element(&ZERO);
    }
    Name::new(name("\\_S5_"), &soft_off).to_aml_bytes(&mut out);
    pci(&mut out, config);
    isa(&mut out, config, floppy);
    links(&mut out);
    out
}

fn pci(out: &mut Vec<u8>, config: &BiosConfig) {
    let (start, end) = config.pci_hole;
    let window = |min, max| {
        AddressSpace::new_memory(AddressSpaceCacheable::NotCacheable, true, min, max, None::<u32>)
    };
    let routes = routing();
    Scope::new(
        name("\\_SB_"),
        vec![&Device::new(
            name("PCI0"),
            vec![
                &Name::new(name("_HID"), &EISAName::new("PNP0A03")),
                &Name::new(name("_ADR"), &ZERO),
                &Name::new(name("_UID"), &ZERO),
                &Name::new(
                    name("_CRS"),
                    &ResourceTemplate::new(vec![
                        &AddressSpace::new_bus_number(0u16, 255),
                        &IO::new(0xcf8, 0xcf8, 1, 8),
                        &AddressSpace::new_io(0u16, 0xcf7, None),
                        &AddressSpace::new_io(0xd00u16, 0xffff, None),
                        &window(0xa_0000, 0xb_ffff),
                        &window(start, end.saturating_sub(1)),
                    ]),
                ),
                &Name::new(name("_PRT"), &routes),
            ],
        )],
    )
    .to_aml_bytes(out);
}

/// "_PRT": every pin of every slot to its link; the power management function's to the SCI.
fn routing() -> PackageBuilder {
    let mut routes = PackageBuilder::new();
    for slot in 0..32u8 {
        for pin in 0..4u8 {
            let address = u32::from(slot) << 16 | 0xffff;
            let link = name(["LNKA", "LNKB", "LNKC", "LNKD"][usize::from(pirq(slot, pin + 1))]);
            if (slot, pin) == (1, 0) {
                routes.add_element(&Package::new(vec![&address, &pin, &ZERO, &9u8]));
            } else {
                routes.add_element(&Package::new(vec![&address, &pin, &link, &ZERO]));
            }
        }
    }
    routes
}

/// PIIX3 "PIRQRC[A:D]" and the ISA devices behind it.
fn isa(out: &mut Vec<u8>, config: &BiosConfig, floppy: bool) {
    let entry = |name: &[u8; 4]| FieldEntry::Named(*name, 8);
    let mut children = Vec::new();
    Name::new(name("_ADR"), &0x0001_0000u32).to_aml_bytes(&mut children);
    OpRegion::new(name("PIRR"), OpRegionSpace::PCIConfig, &0x60u8, &4u8)
        .to_aml_bytes(&mut children);
    Field::new(
        name("PIRR"),
        FieldAccessType::Byte,
        FieldLockRule::NoLock,
        FieldUpdateRule::Preserve,
        vec![entry(b"PRQA"), entry(b"PRQB"), entry(b"PRQC"), entry(b"PRQD")],
    )
    .to_aml_bytes(&mut children);

    let mut device = |short: &str, id: &str, uid: u8, resources: Vec<&dyn Aml>| {
        Device::new(
            name(short),
            vec![
                &Name::new(name("_HID"), &EISAName::new(id)),
                &Name::new(name("_UID"), &uid),
                &Name::new(name("_STA"), &0x0fu8),
                &Name::new(name("_CRS"), &ResourceTemplate::new(resources)),
            ],
        )
        .to_aml_bytes(&mut children);
    };
    let io = |base: u16, length: u8| IO::new(base, base, 1, length);
    device("PIC_", "PNP0000", 0, vec![&io(0x20, 2), &io(0xa0, 2), &io(0x4d0, 2), &irq(2)]);
    device("TMR_", "PNP0100", 0, vec![&io(0x40, 4), &irq(0)]);
    device("DMA_", "PNP0200", 0, vec![&io(0x00, 16), &io(0x81, 15), &io(0xc0, 32), &dma(4)]);
    device("SPKR", "PNP0800", 0, vec![&io(0x61, 1)]);
    device("FPU_", "PNP0C04", 0, vec![&io(0xf0, 16), &irq(13)]);
    device("RTC_", "PNP0B00", 0, vec![&io(0x70, 8), &irq(8)]);
    device("PS2K", "PNP0303", 0, vec![&io(0x60, 1), &io(0x64, 1), &irq(1)]);
    device("PS2M", "PNP0F13", 0, vec![&irq(12)]);
    device("COM1", "PNP0501", 1, vec![&io(0x3f8, 8), &irq(4)]);
    device("COM2", "PNP0501", 2, vec![&io(0x2f8, 8), &irq(3)]);
    if floppy {
        device("FDC0", "PNP0700", 0, vec![&io(0x3f2, 4), &io(0x3f7, 1), &irq(6), &dma(2)]);
    }
    // What the board decodes besides: debug ports, port 92h, APM, this firmware's trap, PM, SMBus, GPE.
    device(
        "MBRD",
        "PNP0C02",
        0,
        vec![
            &io(0x80, 1),
            &io(0x92, 1),
            &io(0xb2, 2),
            &io(TRAP_PORT, 1),
            &io(PM_BASE, 0x40),
            &io(0x700, 0x10),
            &io(0xafe0, 4),
            &io(processors::BITMAP, 0x20),
            &Memory32Fixed::new(true, 0xfec0_0000, 0x1000),
            &Memory32Fixed::new(true, 0xfee0_0000, 0x1000),
        ],
    );
    if config.hpet {
        device("HPET", "PNP0103", 0, vec![&Memory32Fixed::new(false, 0xfed0_0000, 0x400)]);
    }
    let children = Raw(children);
    Scope::new(name("\\_SB_.PCI0"), vec![&Device::new(name("ISA_"), vec![&children])])
        .to_aml_bytes(out);
}

/// "PCI Interrupt Link Devices": what PIRQ register says, and says by being written.
fn links(out: &mut Vec<u8>) {
    let mut all = Vec::new();
    // Status of a link from its register: bit 7 set, it is off.
    Method::new(
        name("LSTA"),
        1,
        false,
        vec![
            &And::new(&Local(0), &Arg(0), &0x80u8),
            &If::new(&Equal::new(&Local(0), &0x80u8), vec![&Return::new(&9u8)]),
            &Return::new(&0x0bu8),
        ],
    )
    .to_aml_bytes(&mut all);
    // Resources of a link from its register.
    Method::new(
        name("LCRS"),
        1,
        true,
        vec![
            &Name::new(name("PRR0"), &ResourceTemplate::new(vec![&interrupts(&[0])])),
            &CreateDWordField::new(&name("PRRI"), &name("PRR0"), &5u8),
            &Store::new(&name("PRRI"), &ZERO),
            &If::new(
                &LessThan::new(&Arg(0), &0x80u8),
                vec![&And::new(&name("PRRI"), &Arg(0), &0x0fu8)],
            ),
            &Return::new(&name("PRR0")),
        ],
    )
    .to_aml_bytes(&mut all);
    for (n, letter) in (1u8..).zip(["A", "B", "C", "D"]) {
        link(&mut all, n, letter);
    }
    let all = Raw(all);
    Scope::new(name("\\_SB_"), vec![&all]).to_aml_bytes(out);
}

fn link(out: &mut Vec<u8>, n: u8, letter: &str) {
    let register = || name(&format!("\\_SB_.PCI0.ISA_.PRQ{letter}"));
    Device::new(
        name(&format!("LNK{letter}")),
        vec![
            &Name::new(name("_HID"), &EISAName::new("PNP0C0F")),
            &Name::new(name("_UID"), &n),
            &Name::new(name("_PRS"), &ResourceTemplate::new(vec![&interrupts(&[5, 10, 11])])),
            &Method::new(
                name("_STA"),
                0,
                false,
                vec![&Return::new(&MethodCall::new(name("LSTA"), vec![&register()]))],
            ),
            &Method::new(name("_DIS"), 0, false, vec![&Or::new(&register(), &register(), &0x80u8)]),
            &Method::new(
                name("_CRS"),
                0,
                false,
                vec![&Return::new(&MethodCall::new(name("LCRS"), vec![&register()]))],
            ),
            &Method::new(
                name("_SRS"),
                1,
                true,
                vec![
                    &CreateDWordField::new(&name("PRRI"), &Arg(0), &5u8),
                    &Store::new(&register(), &name("PRRI")),
                ],
            ),
        ],
    )
    .to_aml_bytes(out);
}
