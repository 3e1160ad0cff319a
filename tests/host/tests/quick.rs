//! What the quick ways around a page walk and around `before_entry` must not miss.

use arch::{Access, Exit, SysReg, Vcpu};
use host_tests::{Guest, Mode};

const IO_APIC: u64 = 0xfec0_0000;

/// MOV of EAX to a register in memory.
fn mmio(guest: &mut Guest, gpa: u64, value: u32) {
    guest.at(&[0x89, 0x03]);
    guest.vcpus[0].gprs.set_rbx(gpa);
    guest.vcpus[0].gprs.set_rax(value.into());
    assert_eq!(guest.touch(gpa, Access::WRITE), None);
}

/// The I/O APIC's index register, by MOV EDX, \[EBX\].
fn index(guest: &mut Guest) -> u64 {
    guest.at(&[0x8b, 0x13]);
    guest.vcpus[0].gprs.set_rbx(IO_APIC);
    assert_eq!(guest.touch(IO_APIC, Access::READ), None);
    guest.vcpus[0].gprs.rdx()
}

#[test]
fn code_that_changes_in_place_or_by_its_page_table_is_decoded_anew() {
    let mut guest = Guest::new();
    // 32-bit tables that map the first megabyte and the I/O APIC to themselves.
    guest.store(0x2_0000, 4, 0x2_1027);
    guest.store(0x2_0000 + 4 * (IO_APIC >> 22), 4, 0x2_2027);
    guest.store(0x2_2000 + 4 * (IO_APIC >> 12 & 0x3ff), 4, IO_APIC | 0x67);
    for n in 0..0x100u64 {
        guest.store(0x2_1000 + n * 4, 4, n << 12 | 0x67);
    }
    guest.set_mode(0, Mode::Protected);
    let vcpu = &mut guest.vcpus[0];
    vcpu.set_reg(SysReg::Cr3, 0x2_0000);
    vcpu.set_reg(SysReg::Cr0, vcpu.reg(SysReg::Cr0) | 1 << 31);
    // The page at 40000h has MOV [EBX], EAX, that at 41000h MOV [EBX], ECX.
    guest.store(0x4_0000, 4, 0x9090_0389);
    guest.store(0x4_1000, 4, 0x9090_0b89);
    let run = |guest: &mut Guest| {
        let vcpu = &mut guest.vcpus[0];
        vcpu.set_rip(0x4_0000);
        vcpu.next_rip = None;
        vcpu.gprs.set_rax(1);
        vcpu.gprs.set_rcx(2);
        vcpu.gprs.set_rbx(IO_APIC);
        assert_eq!(guest.touch(IO_APIC, Access::WRITE), None);
        assert_eq!(guest.vcpus[0].rip, 0x4_0002);
        index(guest)
    };
    for _ in 0..2 {
        assert_eq!(run(&mut guest), 1);
        assert_eq!(run(&mut guest), 1, "from the cache");
        // The other page at the same address: no CR3 load, no exit by INVLPG.
        guest.store(0x2_1000 + 0x40 * 4, 4, 0x4_1067);
        assert_eq!(run(&mut guest), 2);
        guest.store(0x2_1000 + 0x40 * 4, 4, 0x4_0067);
        assert_eq!(run(&mut guest), 1);
        // And the first page changed in place.
        guest.store(0x4_0000, 4, 0x9090_0b89);
        assert_eq!(run(&mut guest), 2);
        guest.store(0x4_0000, 4, 0x9090_0389);
    }
}

#[test]
fn a_device_move_that_is_not_what_the_cpu_touched_takes_the_long_way() {
    let mut guest = Guest::new();
    guest.set_mode(0, Mode::Protected);
    mmio(&mut guest, IO_APIC, 3);
    assert_eq!(index(&mut guest), 3);
    // XCHG reads and writes; a second-level fault tells of one of them.
    guest.at(&[0x87, 0x03]);
    guest.vcpus[0].gprs.set_rbx(IO_APIC);
    guest.vcpus[0].gprs.set_rax(5);
    assert_eq!(guest.touch(IO_APIC, Access::READ), None);
    assert_eq!((guest.vcpus[0].gprs.rax(), index(&mut guest)), (3, 5));
}

#[test]
fn a_priority_raised_over_a_waiting_interrupt_asks_for_its_fall() {
    let mut guest = Guest::new();
    guest.set_mode(0, Mode::Protected);
    guest.vcpus[0].set_rflags(2);
    mmio(&mut guest, 0xfee0_00f0, 0x1ff);
    mmio(&mut guest, 0xfee0_0300, 0x4_4055);
    assert_eq!(guest.enter(0), Some(None));
    assert_eq!(guest.vcpus[0].window, (true, false, 0), "asked for open interrupts");
    mmio(&mut guest, 0xfee0_0080, 0x60);
    assert_eq!(guest.enter(0), Some(None));
    assert_eq!(guest.vcpus[0].window, (false, false, 5), "asked for CR8 below 5");
    mmio(&mut guest, 0xfee0_0080, 0);
    assert_eq!(guest.enter(0), Some(None));
    assert_eq!(guest.vcpus[0].window, (true, false, 0));
}

#[test]
fn rip_wraps_at_the_end_of_16_bit_code_and_nowhere_before() {
    for (mode, rip, next) in [
        (Mode::Real, 0x8ffe, 0x9000),
        (Mode::Real, 0xfffe, 0),
        (Mode::Protected, 0xfffe, 0x1_0000),
        (Mode::Protected, 0x1_fffe, 0x2_0000),
    ] {
        let mut guest = Guest::new();
        guest.set_mode(0, mode);
        // CPUID.
        guest.store(rip, 2, 0xa20f);
        // The second time its length is known.
        for _ in 0..2 {
            guest.vcpus[0].next_rip = None;
            guest.vcpus[0].set_rip(rip);
            assert_eq!(guest.exit(Exit::Cpuid), None);
            assert_eq!(guest.vcpus[0].rip, next, "{rip:#x}");
        }
    }
}
