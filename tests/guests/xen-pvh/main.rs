//! What does a kernel find that Xen starts by its PVH note? The start info record, a memory map without holes, tables of
//! processors, and no PC around it.

#![no_std]
#![no_main]

use support::xen::{self, call, errno};
use support::{acpi, guest, mem, port, println, pvh, smp};

guest!("xen-pvh", main);

/// A piece of the memory map: `struct hvm_memmap_table_entry`, or an E820 entry, which has its kind at the same place.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Piece {
    start: u64,
    size: u64,
    kind: u32,
}

fn piece(at: usize) -> Piece {
    Piece { start: mem::read(at), size: mem::read(at + 8), kind: mem::read(at + 16) }
}

/// The text at an address, up to its zero.
fn text(at: u64) -> &'static str {
    let at = at as usize;
    let len = (0..4096).find(|n| mem::read::<u8>(at + n) == 0).expect("a text that ends");
    core::str::from_utf8(mem::bytes(at, len)).expect("text")
}

/// The record, the command line and the modules.
fn check_record(info: &pvh::StartInfo) {
    assert_eq!((info.magic, info.version, info.flags), (pvh::MAGIC, 1, 0));
    println!("command line: {}", text(info.command_line));
    for n in 0..info.modules as usize {
        let entry = info.module_list as usize + 32 * n;
        let (at, size): (u64, u64) = (mem::read(entry), mem::read(entry + 8));
        assert!(at % 4096 == 0 && size > 0, "module at {at:#x}");
        println!("module of {size} bytes: {}", text(at).trim_end());
    }
}

/// Memory: in ascending order, RAM under everything that the record names, and the same by hypercall.
fn check_memory(info: &pvh::StartInfo) {
    let count = info.memory_entries as usize;
    let at = |n: usize| piece(info.memory_map as usize + 24 * n);
    let is_ram = |place: u64| {
        let holds = |p: Piece| p.kind == 1 && (p.start..p.start + p.size).contains(&place);
        (0..count).any(|n| holds(at(n)))
    };
    for n in 0..count {
        println!(
            "memory {:#x} to {:#x}, kind {}",
            at(n).start,
            at(n).start + at(n).size,
            at(n).kind
        );
        assert!(n == 0 || at(n - 1).start + at(n - 1).size <= at(n).start, "order");
    }
    for place in [0, 0xa_0000, info.command_line, info.memory_map, main as *const () as u64] {
        assert!(is_ram(place), "{place:#x} is no RAM");
    }
    assert!(!is_ram(info.rsdp), "the tables are kept apart");
    // XENMEM_memory_map, whose entries of 20 bytes have no padding.
    let buffer = mem::pages(1);
    let mut arg = [16u64, buffer as u64];
    assert_eq!(xen::operate(call::MEMORY_OP, 9, &mut arg), 0);
    assert_eq!(arg[0] as u32 as usize, count);
    for n in 0..count {
        assert_eq!(piece(buffer + 20 * n), at(n));
    }
    // Where a PC has its screen, there is memory like any other.
    mem::write(0xb_8000, 0x1234_5678u32);
    assert_eq!(mem::read::<u32>(0xb_8000), 0x1234_5678);
}

/// ACPI: processors with local APICs, and no I/O APIC, no VGA, no CMOS clock.
fn check_tables() -> usize {
    let fadt = acpi::table(b"FACP").expect("a FADT");
    assert_eq!(fadt[109] & 0x27, 0x24, "boot flags {:#x}", fadt[109]);
    let madt = acpi::table(b"APIC").expect("a MADT");
    let mut processors = 0;
    let mut entry = 44;
    while entry < madt.len() {
        assert_eq!(madt[entry], 0, "only local APICs");
        processors += 1;
        entry += usize::from(madt[entry + 1]);
    }
    println!("{processors} processors, no I/O APIC");
    assert!(processors >= 1);
    let version: u32 = mem::read(0xfee0_0030);
    assert!(version & 0xff >= 0x10 && version != u32::MAX, "local APIC {version:#x}");
    processors
}

/// What is not there reads all ones.
fn check_absence() {
    for number in
        [0x20, 0x40, 0x60, 0x61, 0x64, 0x70, 0x71, 0x92, 0x1f7, 0x3da, 0x3fd, 0x402, 0xcf9]
    {
        assert_eq!(port::in8(number), 0xff, "port {number:#x}");
    }
    for number in [0xb000, 0xb004, 0xcf8, 0xcfc] {
        assert_eq!(port::in32(number), u32::MAX, "port {number:#x}");
    }
    for address in [0xfec0_0010, 0xfed0_0000, 0xe000_0000, 0xffff_fff0] {
        assert_eq!(mem::read::<u32>(address), u32::MAX, "{address:#x}");
    }
    println!("no PC is around");
}

/// Further processors start by hypercall, without INIT and start-up.
fn check_processors(count: usize) {
    for number in 1..count {
        smp::start_by_xen(number);
        let way = if number % 2 == 1 { "32-bit code" } else { "long mode" };
        println!("processor {number} started in {way} by VCPUOP_initialise");
    }
    let nobody = xen::hypercall(call::VCPU_OP, [0, count as u64, 0, 0, 0]);
    assert_eq!(nobody, errno::ENOENT);
}

fn main() {
    let info = pvh::start_info().expect("a start by the PVH note");
    check_record(&info);
    check_memory(&info);
    let processors = check_tables();
    check_absence();
    check_processors(processors);
    let before = xen::nanoseconds();
    let port = xen::bind_virq(0).expect("VIRQ_TIMER");
    let until = before + 20_000_000;
    assert_eq!(xen::hypercall(call::SET_TIMER_OP, [until, 0, 0, 0, 0]), 0);
    assert_eq!(xen::poll(port, 0), 0);
    let took = xen::nanoseconds() - before;
    println!("a timer of 20 ms came after {} us", took / 1000);
    assert!(took >= 20_000_000);
}
