//! Page tables in places where none can be: each ends in a page fault or in some value, and a CR3
//! in a hole in this guest's triple fault.

#![no_std]
#![no_main]

use core::arch::asm;
use support::cpu::Fault;
use support::{attempt, cpu, expect, guest, mem, println};

guest!("badpaging", main);

/// An address whose directory entry nothing else needs.
const PLACE: usize = 0x7000_0000;

fn look(what: &str) -> Result<(), Fault> {
    mem::flush();
    let mut value = 0u64;
    let read = attempt!("mov {value}, [{place}]"; place = in(reg) PLACE, value = inout(reg) value);
    let write = attempt!("mov [{place}], {value}"; place = in(reg) PLACE, value = in(reg) 7u64);
    println!("{what}: read {read:?} ({value:#x}), write {write:?}");
    for fault in [read, write].into_iter().filter_map(Result::err) {
        assert_eq!(fault.vector, 14, "{what}");
    }
    read
}

fn main() {
    let entry = mem::entry_of(PLACE);
    let old: u64 = mem::read(entry);
    let wide = (cpu::cpuid(0x8000_0008, 0)[0] & 0xff).clamp(32, 52);
    let top = 1u64 << (wide - 1);
    let set = |what: &str, value: u64| {
        mem::write(entry, value);
        look(what)
    };
    expect("stop-or-pass");
    assert!(set("not present", old & !1).is_err(), "a page that is not present can be read");
    let _ = set("table in a hole", 0xd000_0007);
    let _ = set("table at the end of 4 GiB", 0xffff_f007);
    let _ = set("table beyond memory", top | 7);
    let _ = set("table in the local APIC", 0xfee0_0007);
    let _ = set("table in the I/O APIC", 0xfec0_0007);
    let _ = set("table in the VGA's memory", 0xa_0007);
    let _ = set("large page in a hole", 0xd000_0087);
    let _ = set("large page beyond memory", top | 0x87);
    if wide < 52 {
        assert!(set("reserved address bit", 1 << 51 | 0x87).is_err(), "bit 51 is not reserved");
    }
    let _ = set("large page with low address bits", old | 0x1e000);
    let _ = set("table that is itself", mem::DIRECTORY as u64 | 7);
    // A table of 4 KiB pages whose entries point everywhere.
    let table = mem::pages(1);
    mem::write(entry, table as u64 | 7);
    for page in [0xd000_0000u64, 0xfee0_0000, 0xffff_f000, top, top | 0xfff_f000, 0xb_8000] {
        mem::write(table, page | 7);
        println!("page {page:#x}:");
        let _ = look("  page");
    }
    mem::write(entry, old);
    mem::flush();
    expect("triple-fault");
    // SAFETY: there is no way on from here: that is the question.
    unsafe { asm!("mov cr3, {}", "ud2", in(reg) 0xd000_0000u64, options(noreturn)) };
}
