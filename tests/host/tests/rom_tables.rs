//! A GDT in the firmware's ROM: the CPU marks descriptors there in vain, and goes on.

use arch::event::vector;
use arch::{Access, Event, Gpr, SegReg, Segment, Vcpu, Why};
use host_tests::{Guest, Mode, Setup};

/// Where the image's last 64 KiB lie, and the table in them.
const GDT: u64 = 0xffff_0100;
const DATA: u16 = 0x08;
const TASK: u16 = 0x10;
const TASK_64: u16 = 0x18;
const USER_DATA: u16 = 0x28;
const CODE_ONLY: u16 = 0x30;
const CODE_64: u16 = 0x38;
const SMALL: u16 = 0x40;
const CONFORMING: u16 = 0x48;

fn guest(mode: Mode) -> Guest {
    let mut image = vec![0xf4; 0x1_0000];
    let table: [u64; 10] = [
        0,
        0x00cf_9200_0000_ffff, // flat data, not yet accessed
        0x0000_8900_5000_0067, // a free TSS of 32 bits at 5000h
        0x0000_8900_6000_0067, // one of 64 bits, whose upper half follows
        0x0000_0000_0000_0001,
        0x00cf_f200_0000_ffff, // ring 3's data
        0x00cf_9800_0000_ffff, // code that cannot be read
        0x00af_9a00_0000_ffff, // 64-bit code
        0x0040_9a00_0000_ffff, // code of 64 KiB
        0x00cf_9e00_0000_ffff, // conforming code
    ];
    for (n, entry) in table.into_iter().enumerate() {
        image[0x100 + 8 * n..][..8].copy_from_slice(&entry.to_le_bytes());
    }
    let firmware = Some(&*image.leak());
    let mut guest = Guest::with(Setup { firmware, ..Setup::default() });
    guest.set_mode(0, mode);
    let gdt = Segment { selector: 0, base: GDT, limit: 0x4f, access: 0 };
    guest.vcpus[0].set_segment(SegReg::Gdtr, gdt);
    guest
}

/// The instruction with `selector` in AX; the CPU has tried to mark the descriptor.
fn load(guest: &mut Guest, code: &[u8], selector: u16) -> Option<Why> {
    guest.at(code);
    guest.vcpus[0].gprs.set(Gpr::Rax, selector.into());
    guest.touch(GDT + u64::from(selector & !7), Access::WRITE)
}

#[test]
fn ltr_from_a_table_in_rom_loads_a_busy_task() {
    let mut guest = guest(Mode::Protected);
    assert_eq!(load(&mut guest, &[0x0f, 0x00, 0xd8], TASK), None);
    let tr = guest.vcpus[0].segment(SegReg::Tr);
    assert_eq!((tr.selector, tr.base, tr.limit, tr.access), (TASK, 0x5000, 0x67, 0x8b));
    assert_eq!((guest.vcpus[0].rip, guest.vcpus[0].pending), (0x8003, None));
    // The ROM is as it was: the same again does the same.
    assert_eq!(load(&mut guest, &[0x0f, 0x00, 0xd8], TASK), None);
    assert_eq!((guest.vcpus[0].rip, guest.vcpus[0].pending), (0x8003, None));
}

#[test]
fn ltr_in_long_mode_takes_the_descriptors_second_half() {
    let mut guest = guest(Mode::Long);
    assert_eq!(load(&mut guest, &[0x0f, 0x00, 0xd8], TASK_64), None);
    let tr = guest.vcpus[0].segment(SegReg::Tr);
    assert_eq!((tr.selector, tr.base, tr.access), (TASK_64, 0x1_0000_6000, 0x8b));
}

#[test]
fn segment_registers_load_from_a_table_in_rom_and_ss_holds_interrupts_off() {
    for (reg, code) in [(SegReg::Ds, 0xd8), (SegReg::Es, 0xc0), (SegReg::Ss, 0xd0)] {
        let mut guest = guest(Mode::Protected);
        assert_eq!(load(&mut guest, &[0x8e, code], DATA), None);
        let segment = guest.vcpus[0].segment(reg);
        assert_eq!((segment.selector, segment.limit, segment.access), (DATA, u32::MAX, 0xc093));
        assert_eq!((guest.vcpus[0].rip, guest.vcpus[0].pending), (0x8002, None));
        assert_eq!(guest.vcpus[0].blocking().shadow, reg == SegReg::Ss);
    }
}

#[test]
fn far_returns_and_jumps_load_cs_from_a_table_in_rom() {
    let mut guest = guest(Mode::Long);
    // From compatibility mode, as a loader goes to 64-bit code.
    let flat = Segment { selector: 0, base: 0, limit: u32::MAX, access: 0xc09b };
    let check = |guest: &Guest, rip| {
        let cs = guest.vcpus[0].segment(SegReg::Cs);
        assert_eq!((cs.selector, cs.access), (CODE_64, 0xa09b));
        assert_eq!((guest.vcpus[0].rip, guest.vcpus[0].pending), (rip, None));
    };
    guest.vcpus[0].set_segment(SegReg::Cs, flat);
    guest.store(0x7000, 4, 0xa000);
    guest.store(0x7004, 4, CODE_64.into());
    assert_eq!(load(&mut guest, &[0xcb], CODE_64), None);
    check(&guest, 0xa000);
    assert_eq!(guest.vcpus[0].gprs.rsp(), 0x7008);
    // retf 10h drops as much besides; jmp 38h:b000h; jmp far [7000h].
    for (code, rip, rsp) in [
        (&[0xca, 0x10, 0x00][..], 0xa000, 0x7018),
        (&[0xea, 0x00, 0xb0, 0, 0, 0x38, 0][..], 0xb000, 0x7000),
        (&[0xff, 0x2d, 0x00, 0x70, 0, 0][..], 0xa000, 0x7000),
    ] {
        guest.vcpus[0].set_segment(SegReg::Cs, flat);
        guest.vcpus[0].gprs.set_rsp(0x7000);
        assert_eq!(load(&mut guest, code, CODE_64), None);
        check(&guest, rip);
        assert_eq!(guest.vcpus[0].gprs.rsp(), rsp);
    }
}

#[test]
fn a_jump_to_conforming_code_does_not_look_at_the_rpl() {
    let mut guest = guest(Mode::Protected);
    // jmp 4bh:b000h
    assert_eq!(load(&mut guest, &[0xea, 0x00, 0xb0, 0, 0, 0x4b, 0], CONFORMING), None);
    let cs = guest.vcpus[0].segment(SegReg::Cs);
    assert_eq!((cs.selector, cs.access), (CONFORMING, 0xc09f));
    assert_eq!((guest.vcpus[0].rip, guest.vcpus[0].pending), (0xb000, None));
}

#[test]
fn a_far_transfer_to_what_is_no_code_or_beyond_the_limit_is_refused() {
    let fault = |selector: u16, offset: u32| {
        let mut guest = guest(Mode::Protected);
        let mut code = vec![0xea];
        code.extend_from_slice(&offset.to_le_bytes());
        code.extend_from_slice(&selector.to_le_bytes());
        assert_eq!(load(&mut guest, &code, selector), None);
        assert_eq!(guest.vcpus[0].rip, 0x8000);
        guest.vcpus[0].pending
    };
    assert_eq!(fault(DATA, 0), Some(Event::exception(vector::GP, Some(DATA.into()))));
    assert_eq!(fault(0x1000, 0), Some(Event::exception(vector::GP, Some(0x1000))));
    assert_eq!(fault(CODE_ONLY | 3, 0), Some(Event::exception(vector::GP, Some(CODE_ONLY.into()))));
    assert_eq!(fault(SMALL, 0x1_0000), Some(Event::exception(vector::GP, Some(0))));
}

#[test]
fn a_selector_in_memory_is_read_from_there() {
    let mut guest = guest(Mode::Protected);
    guest.store(0x9000, 2, DATA.into());
    // mov fs, [9000h]
    assert_eq!(load(&mut guest, &[0x8e, 0x25, 0x00, 0x90, 0, 0], DATA), None);
    assert_eq!(guest.vcpus[0].segment(SegReg::Fs).selector, DATA);
    assert_eq!(guest.vcpus[0].rip, 0x8006);
}

#[test]
fn what_the_cpu_would_refuse_is_refused_though_tables_and_code_change_behind_its_back() {
    let faults = |mode, cpl: u32, code: &[u8], selector: u16| {
        let mut guest = guest(mode);
        let ss = guest.vcpus[0].segment(SegReg::Ss);
        guest.vcpus[0].set_segment(SegReg::Ss, Segment { access: ss.access | cpl << 5, ..ss });
        assert_eq!(load(&mut guest, code, selector), None);
        assert_eq!(guest.vcpus[0].rip, 0x8000);
        guest.vcpus[0].pending
    };
    let gp = |code| Some(Event::exception(vector::GP, Some(code)));
    let ltr = &[0x0f, 0x00, 0xd8];
    assert_eq!(faults(Mode::Protected, 3, ltr, TASK), gp(0));
    assert_eq!(faults(Mode::Protected, 0, ltr, DATA), gp(DATA.into()));
    assert_eq!(faults(Mode::Protected, 0, ltr, 0x1000), gp(0x1000));
    let (ds, ss) = (&[0x8e, 0xd8], &[0x8e, 0xd0]);
    assert_eq!(faults(Mode::Protected, 3, ds, DATA), gp(DATA.into()));
    assert_eq!(faults(Mode::Protected, 0, ds, CODE_ONLY), gp(CODE_ONLY.into()));
    assert_eq!(faults(Mode::Protected, 0, ds, TASK), gp(TASK.into()));
    assert_eq!(faults(Mode::Protected, 0, ss, USER_DATA), gp(USER_DATA.into()));
}
