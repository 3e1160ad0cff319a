//! Instructions that touch devices, from real bytes at RIP: forms × modes, page crossings, the
//! guest's own page faults. The device is video memory where plain memory semantics are wanted.

use arch::control::rflags::{AF, CF, DF, OF, PF, SF, ZF};
use arch::event::vector;
use arch::{Access, Event, EventKind, Gpr, SegReg, Segment, SysReg, Vcpu};
use host_tests::{Guest, Mode};

/// Writable, readable memory behind a device: the first bytes of the VGA window in mode 13h, chain
/// 4.
const DEVICE: u64 = 0xa_0000;

/// A guest whose VGA shows video memory byte by byte at A0000h.
fn linear_window(mode: Mode) -> Guest {
    let mut guest = Guest::new();
    // Miscellaneous output: the CPU may access video memory.
    guest.outs(&[(0x3c2, 0x67)]);
    // Sequencer: all planes, chain 4. Graphics: write mode 0, 64 KiB at A0000h, all bits.
    for (port, index, value) in [
        (0x3c4, 2, 0x0f),
        (0x3c4, 4, 0x0e),
        (0x3ce, 0, 0),
        (0x3ce, 1, 0),
        (0x3ce, 3, 0),
        (0x3ce, 5, 0x40),
        (0x3ce, 6, 0x05),
        (0x3ce, 8, 0xff),
    ] {
        guest.outs(&[(port, index), (port + 1, value)]);
    }
    guest.set_mode(0, mode);
    guest
}

/// One row: bytes; RAX, memory and flags before and after. RBX (BX, EBX) points to the operand.
struct Row {
    code: &'static [u8],
    rax: (u64, u64),
    memory: (u64, u64),
    flags: (u64, u64),
}

const fn row(code: &'static [u8], rax: (u64, u64), memory: (u64, u64), flags: (u64, u64)) -> Row {
    Row { code, rax, memory, flags }
}

/// Operands of 32 bits in 32-bit and 64-bit code: [rbx] is ModRM 03h in both.
const ROWS_32: &[Row] = &[
    // mov [rbx], eax / mov eax, [rbx] / mov byte [rbx], imm / mov dword [rbx], imm
    row(&[0x89, 0x03], (0x1122_3344, 0x1122_3344), (0, 0x1122_3344), (0, 0)),
    row(&[0x8b, 0x03], (u64::MAX, 0x8899_aabb), (0x8899_aabb, 0x8899_aabb), (0, 0)),
    row(&[0xc6, 0x03, 0x7f], (0, 0), (0xffff_ffff, 0xffff_ff7f), (0, 0)),
    row(&[0xc7, 0x03, 4, 3, 2, 1], (0, 0), (0, 0x0102_0304), (0, 0)),
    // 16 and 8 bits keep the rest of the register.
    row(&[0x66, 0x8b, 0x03], (0x1234_5678, 0x1234_beef), (0xbeef, 0xbeef), (0, 0)),
    row(&[0x8a, 0x03], (0x1234_5678, 0x1234_56ef), (0xbeef, 0xbeef), (0, 0)),
    row(&[0x8a, 0x23], (0x1234_5678, 0x1234_ef78), (0xbeef, 0xbeef), (0, 0)),
    row(&[0x88, 0x23], (0x1234_5678, 0x1234_5678), (0, 0x56), (0, 0)),
    // imul eax, [rbx] / imul eax, [rbx], 3 / bsf eax, [rbx] / bsr eax, [rbx], and of nothing
    row(&[0x0f, 0xaf, 0x03], (7, 35), (5, 5), (CF, 0)),
    row(&[0x6b, 0x03, 3], (9, 0xffff_fffd), (0xffff_ffff, 0xffff_ffff), (OF, 0)),
    row(&[0x0f, 0xbc, 0x03], (9, 4), (0x110, 0x110), (ZF, 0)),
    row(&[0x0f, 0xbd, 0x03], (9, 8), (0x110, 0x110), (ZF, 0)),
    row(&[0x0f, 0xbc, 0x03], (9, 9), (0, 0), (0, ZF)),
    // movzx, movsx
    row(&[0x0f, 0xb6, 0x03], (u64::MAX, 0xf0), (0xf0, 0xf0), (0, 0)),
    row(&[0x0f, 0xb7, 0x03], (u64::MAX, 0x80f0), (0x80f0, 0x80f0), (0, 0)),
    row(&[0x0f, 0xbe, 0x03], (0, 0xffff_fff0), (0xf0, 0xf0), (0, 0)),
    row(&[0x0f, 0xbf, 0x03], (0, 0xffff_80f0), (0x80f0, 0x80f0), (0, 0)),
    // add [rbx], eax: carry and overflow; add eax, [rbx]
    row(&[0x01, 0x03], (1, 1), (0xffff_ffff, 0), (0, CF | ZF | PF | AF)),
    row(&[0x01, 0x03], (1, 1), (0x7fff_ffff, 0x8000_0000), (0, OF | SF | AF | PF)),
    row(&[0x03, 0x03], (2, 5), (3, 3), (CF, PF)),
    // adc, sbb
    row(&[0x11, 0x03], (1, 1), (1, 3), (CF, PF)),
    row(&[0x19, 0x03], (1, 1), (1, 0xffff_ffff), (CF, CF | SF | PF | AF)),
    // sub, cmp, test, and, or, xor
    row(&[0x29, 0x03], (2, 2), (1, 0xffff_ffff), (0, CF | SF | PF | AF)),
    row(&[0x39, 0x03], (1, 1), (1, 1), (CF, ZF | PF)),
    row(&[0x3b, 0x03], (1, 1), (2, 2), (0, CF | SF | PF | AF)),
    row(&[0x85, 0x03], (0xf0, 0xf0), (0x0f, 0x0f), (CF | OF, ZF | PF)),
    row(&[0x21, 0x03], (0xff, 0xff), (0x8000_0081, 0x81), (CF, PF)),
    row(&[0x09, 0x03], (0x8000_0000, 0x8000_0000), (1, 0x8000_0001), (0, SF)),
    row(&[0x31, 0x03], (0xff, 0xff), (0xff, 0), (0, ZF | PF)),
    // or dword [rbx], imm8 sign-extended; and byte [rbx], imm8; test byte [rbx], imm8
    row(&[0x83, 0x0b, 0x80], (0, 0), (0, 0xffff_ff80), (0, SF)),
    row(&[0x80, 0x23, 0x0f], (0, 0), (0xaaaa_aaff, 0xaaaa_aa0f), (0, PF)),
    row(&[0xf6, 0x03, 0x80], (0, 0), (0x80, 0x80), (0, SF)),
    // inc, dec keep CF; not keeps all; neg
    row(&[0xff, 0x03], (0, 0), (0xffff_ffff, 0), (CF, CF | ZF | PF | AF)),
    row(&[0xff, 0x0b], (0, 0), (0, 0xffff_ffff), (0, SF | PF | AF)),
    row(&[0xf7, 0x13], (0, 0), (0x0f0f_0f0f, 0xf0f0_f0f0), (CF | ZF, CF | ZF)),
    row(&[0xf7, 0x1b], (0, 0), (1, 0xffff_ffff), (0, CF | SF | PF | AF)),
    // xchg, xadd, cmpxchg equal and not
    row(&[0x87, 0x03], (1, 2), (2, 1), (CF, CF)),
    row(&[0x0f, 0xc1, 0x03], (5, 7), (7, 12), (0, PF)),
    row(&[0xf0, 0x0f, 0xb1, 0x0b], (7, 7), (7, 0x55), (0, ZF | PF)),
    row(&[0x0f, 0xb1, 0x0b], (7, 8), (8, 8), (0, CF | SF | PF | AF)),
    // bt, bts, btr, btc by immediate; bts by register reaches beyond the operand
    row(&[0x0f, 0xba, 0x23, 3], (0, 0), (8, 8), (0, CF)),
    row(&[0x0f, 0xba, 0x2b, 3], (0, 0), (0, 8), (CF, 0)),
    row(&[0x0f, 0xba, 0x33, 3], (0, 0), (8, 0), (0, CF)),
    row(&[0x0f, 0xba, 0x3b, 3], (0, 0), (8, 0), (0, CF)),
    row(&[0x0f, 0xab, 0x03], (31, 31), (0, 0x8000_0000), (0, 0)),
    // shl by one, shr by imm, setz, setnz
    row(&[0xd1, 0x23], (0, 0), (0x8000_0001, 2), (0, CF | OF)),
    row(&[0xc1, 0x2b, 4], (0, 0), (0xf8, 0x0f), (0, CF | PF)),
    row(&[0x0f, 0x94, 0x03], (0, 0), (0xff, 1), (ZF, ZF)),
    row(&[0x0f, 0x95, 0x03], (0, 0), (0xff, 0), (ZF, ZF)),
    // cmovz
    row(&[0x0f, 0x44, 0x03], (1, 9), (9, 9), (ZF, ZF)),
    row(&[0x0f, 0x44, 0x03], (1, 1), (9, 9), (0, 0)),
];

const STATUS: u64 = CF | PF | AF | ZF | SF | OF;
/// AF is undefined after AND, OR, XOR, TEST and shifts.
fn defined(code: &[u8]) -> u64 {
    let logic = matches!(code[0], 0x85 | 0x21 | 0x09 | 0x31 | 0x83 | 0x80 | 0xf6);
    match code[0] {
        0xd1 => STATUS & !AF,
        // OF is undefined for counts above one.
        0xc1 => STATUS & !(AF | OF),
        _ if logic => STATUS & !AF,
        _ => STATUS,
    }
}

fn run(mode: Mode, row: &Row, prefix: &[u8], modrm_16: bool) {
    let mut guest = linear_window(mode);
    let mut code = prefix.to_vec();
    code.extend(row.code);
    if modrm_16 {
        // [bx] is ModRM R/M 7 in 16-bit addressing; the rows have R/M 3.
        let at = prefix.len() + modrm_place(row.code);
        code[at] |= 4;
    }
    put(&mut guest, DEVICE + 0x20, 4, row.memory.0);
    guest.at(&code);
    let base = if mode == Mode::Real { 0x20 } else { DEVICE + 0x20 };
    if mode == Mode::Real {
        guest.vcpus[0].set_segment(SegReg::Ds, Segment::real_data(0xa000));
    }
    guest.vcpus[0].gprs.set_rbx(base);
    guest.vcpus[0].gprs.set_rcx(0x55);
    guest.vcpus[0].gprs.set_rax(row.rax.0);
    guest.vcpus[0].set_rflags(2 | row.flags.0);
    assert_eq!(guest.touch(DEVICE + 0x20, Access::WRITE), None, "{mode:?} {code:x?}");
    let vcpu = &guest.vcpus[0];
    assert_eq!(vcpu.pending, None, "{mode:?} {code:x?}");
    assert_eq!(vcpu.rip, 0x8000 + code.len() as u64, "{mode:?} {code:x?}: length");
    assert_eq!(vcpu.gprs.rax(), row.rax.1, "{mode:?} {code:x?}: rax");
    let mask = defined(row.code);
    assert_eq!(vcpu.rflags & mask, row.flags.1 & mask, "{mode:?} {code:x?}: flags");
    assert_eq!(get(&mut guest, DEVICE + 0x20, 4), row.memory.1, "{mode:?} {code:x?}: memory");
}

fn modrm_place(code: &[u8]) -> usize {
    let prefixes = code.iter().take_while(|byte| matches!(byte, 0x66 | 0xf0)).count();
    prefixes + if code[prefixes] == 0x0f { 2 } else { 1 }
}

/// Reads through the device path.
fn get(guest: &mut Guest, at: u64, width: u8) -> u64 {
    let saved = guest.vcpus[0].clone();
    guest.set_mode(0, Mode::Protected);
    let code: &[u8] = if width == 1 { &[0x8a, 0x03] } else { &[0x8b, 0x03] };
    guest.at(code);
    guest.vcpus[0].gprs.set_rbx(at);
    guest.vcpus[0].gprs.set_rax(0);
    assert_eq!(guest.touch(at, Access::READ), None);
    let value = guest.vcpus[0].gprs.rax();
    guest.vcpus[0] = saved;
    value
}

/// Writes through the device path.
fn put(guest: &mut Guest, at: u64, width: u8, value: u64) {
    let saved = guest.vcpus[0].clone();
    guest.set_mode(0, Mode::Protected);
    let code: &[u8] = if width == 1 { &[0x88, 0x03] } else { &[0x89, 0x03] };
    guest.at(code);
    guest.vcpus[0].gprs.set_rbx(at);
    guest.vcpus[0].gprs.set_rax(value);
    assert_eq!(guest.touch(at, Access::WRITE), None);
    guest.vcpus[0] = saved;
}

#[test]
fn every_form_gives_what_the_manual_says_in_32_bit_code() {
    ROWS_32.iter().for_each(|row| run(Mode::Protected, row, &[], false));
}

#[test]
fn every_form_gives_what_the_manual_says_in_64_bit_code() {
    ROWS_32.iter().for_each(|row| run(Mode::Long, row, &[], false));
}

#[test]
fn every_form_gives_what_the_manual_says_in_16_bit_code_with_a_32_bit_operand() {
    for row in ROWS_32 {
        // A 66h prefix turns back what the row turns.
        let flips = row.code[0] == 0x66;
        if flips {
            let code: &'static [u8] = &row.code[1..];
            run(Mode::Real, &Row { code, ..*row }, &[], true);
        } else {
            run(Mode::Real, row, &[0x66], true);
        }
    }
}

#[test]
fn a_64_bit_operand_carries_eight_bytes() {
    let mut guest = linear_window(Mode::Long);
    guest.at(&[0x48, 0x89, 0x03, 0x4c, 0x8b, 0x03]);
    guest.vcpus[0].gprs.set_rbx(DEVICE);
    guest.vcpus[0].gprs.set_rax(0x8877_6655_4433_2211);
    assert_eq!(guest.touch(DEVICE, Access::WRITE), None);
    assert_eq!(guest.touch(DEVICE, Access::READ), None);
    assert_eq!(guest.vcpus[0].gprs.get(Gpr::R8), 0x8877_6655_4433_2211);
    assert_eq!(guest.vcpus[0].rip, 0x8006);
}

#[test]
fn addressing_modes_reach_the_same_byte() {
    for (mode, code, registers) in [
        // [disp32], [esi+disp8], [ebp*4+disp32], [rip+disp32], gs:[ecx]
        (Mode::Protected, &[0xa0, 0x34, 0x02, 0x0a, 0][..], &[][..]),
        (Mode::Protected, &[0x8a, 0x46, 0xfc], &[(Gpr::Rsi, 0xa_0238)]),
        (Mode::Protected, &[0x8a, 0x04, 0xad, 4, 0, 0, 0], &[(Gpr::Rbp, 0x2_808c)]),
        (Mode::Protected, &[0x8a, 0x04, 0x0e], &[(Gpr::Rsi, 0xffff_fff0), (Gpr::Rcx, 0xa_0244)]),
        (Mode::Long, &[0x8a, 0x05, 0x2e, 0x82, 0x09, 0x00], &[]),
        (Mode::Long, &[0x43, 0x8a, 0x04, 0xc1], &[(Gpr::R9, 0xa_0000), (Gpr::R8, 0x46)]),
        (Mode::Long, &[0x67, 0x8a, 0x01], &[(Gpr::Rcx, 0xdead_0000_000a_0234)]),
        (Mode::Real, &[0x67, 0x8a, 0x01], &[(Gpr::Rcx, 0x234)]),
        (Mode::Real, &[0x8a, 0x40, 0x04], &[(Gpr::Rbx, 0xfff0), (Gpr::Rsi, 0x240)]),
        (Mode::Real, &[0x26, 0x8a, 0x46, 0x00], &[(Gpr::Rbp, 0x234)]),
        (Mode::Real, &[0xa0, 0x34, 0x02], &[]),
    ] {
        let mut guest = linear_window(mode);
        put(&mut guest, 0xa_0234, 1, 0x77);
        put(&mut guest, 0xa_0230, 1, 0x78);
        guest.at(code);
        if mode == Mode::Real {
            for reg in [SegReg::Ds, SegReg::Es] {
                guest.vcpus[0].set_segment(reg, Segment::real_data(0xa000));
            }
        }
        for (gpr, value) in registers {
            guest.vcpus[0].gprs.set(*gpr, *value);
        }
        guest.vcpus[0].gprs.set_rax(0);
        assert_eq!(guest.touch(0xa_0234, Access::READ), None);
        let al = guest.vcpus[0].gprs.rax();
        assert!(al == 0x77 || (code[0] == 0x43 && al == 0x78), "{mode:?} {code:x?}: {al:x}");
        assert_eq!(guest.vcpus[0].rip, 0x8000 + code.len() as u64, "{mode:?} {code:x?}");
    }
}

#[test]
fn string_moves_fill_copy_and_run_backwards() {
    let mut guest = linear_window(Mode::Protected);
    // rep stosd
    guest.at(&[0xf3, 0xab]);
    let gprs = &mut guest.vcpus[0].gprs;
    gprs.set_rdi(DEVICE);
    gprs.set_rcx(4);
    gprs.set_rax(0x0403_0201);
    assert_eq!(guest.touch(DEVICE, Access::WRITE), None);
    let gprs = &guest.vcpus[0].gprs;
    assert_eq!((gprs.rdi(), gprs.rcx(), guest.vcpus[0].rip), (DEVICE + 16, 0, 0x8002));
    assert_eq!(get(&mut guest, DEVICE + 12, 4), 0x0403_0201);
    // rep movsb from the device to RAM, backwards
    guest.at(&[0xf3, 0xa4]);
    let gprs = &mut guest.vcpus[0].gprs;
    gprs.set_rsi(DEVICE + 5);
    gprs.set_rdi(0x3005);
    gprs.set_rcx(3);
    guest.vcpus[0].set_rflags(2 | DF);
    assert_eq!(guest.touch(DEVICE + 5, Access::READ), None);
    let gprs = &guest.vcpus[0].gprs;
    assert_eq!((gprs.rsi(), gprs.rdi(), gprs.rcx()), (DEVICE + 2, 0x3002, 0));
    assert_eq!(guest.load(0x3003, 4), 0x0002_0104);
    // repne scasb finds, repe cmpsb stops at the first difference
    guest.at(&[0xf2, 0xae]);
    let gprs = &mut guest.vcpus[0].gprs;
    gprs.set_rdi(DEVICE);
    gprs.set_rcx(100);
    gprs.set_rax(3);
    guest.vcpus[0].set_rflags(2);
    assert_eq!(guest.touch(DEVICE, Access::READ), None);
    assert_eq!((guest.vcpus[0].gprs.rdi(), guest.vcpus[0].gprs.rcx()), (DEVICE + 3, 97));
    assert_ne!(guest.vcpus[0].rflags & ZF, 0);
}

#[test]
fn a_long_repeat_stops_for_interrupts_and_goes_on() {
    let mut guest = linear_window(Mode::Protected);
    guest.at(&[0xf3, 0xaa]);
    guest.vcpus[0].gprs.set_rdi(DEVICE);
    guest.vcpus[0].gprs.set_rcx(0x8000);
    let mut exits = 0;
    while guest.vcpus[0].rip == 0x8000 {
        assert_eq!(guest.touch(DEVICE, Access::WRITE), None);
        exits += 1;
    }
    assert!((2..1000).contains(&exits), "{exits} exits");
    assert_eq!(guest.vcpus[0].gprs.rdi(), DEVICE + 0x8000);
}

#[test]
fn push_and_pop_of_a_device_operand_move_the_stack() {
    let mut guest = linear_window(Mode::Protected);
    put(&mut guest, DEVICE, 4, 0xcafe_f00d);
    guest.at(&[0xff, 0x33]);
    guest.vcpus[0].gprs.set_rbx(DEVICE);
    assert_eq!(guest.touch(DEVICE, Access::READ), None);
    assert_eq!((guest.vcpus[0].gprs.rsp(), guest.load(0x6ffc, 4)), (0x6ffc, 0xcafe_f00d));
    guest.at(&[0x8f, 0x43, 0x10]);
    assert_eq!(guest.touch(DEVICE + 0x10, Access::WRITE), None);
    assert_eq!(guest.vcpus[0].gprs.rsp(), 0x7000);
    assert_eq!(get(&mut guest, DEVICE + 0x10, 4), 0xcafe_f00d);
}

#[test]
fn a_store_that_crosses_from_ram_into_a_device_reaches_both() {
    let mut guest = linear_window(Mode::Protected);
    guest.at(&[0x89, 0x03]);
    guest.vcpus[0].gprs.set_rbx(0x9_fffe);
    guest.vcpus[0].gprs.set_rax(0x4433_2211);
    assert_eq!(guest.touch(0xa_0000, Access::WRITE), None);
    assert_eq!(guest.load(0x9_fffe, 2), 0x2211);
    assert_eq!(get(&mut guest, 0xa_0000, 1), 0x33);
    assert_eq!(get(&mut guest, 0xa_0001, 1), 0x44);
}

/// 32-bit paging with 4 KiB pages: `pages` are (linear page number, entry); the first 64 map to
/// themselves.
fn page_tables(guest: &mut Guest, pages: &[(u64, u64)]) {
    const DIRECTORY: u64 = 0x2_0000;
    guest.store(DIRECTORY, 4, 0x2_1007);
    for n in 0..0x100 {
        guest.store(0x2_1000 + n * 4, 4, n << 12 | 7);
    }
    for (page, entry) in pages {
        guest.store(0x2_1000 + page * 4, 4, *entry);
    }
    guest.vcpus[0].set_reg(SysReg::Cr3, DIRECTORY);
    let cr0 = guest.vcpus[0].reg(SysReg::Cr0);
    guest.vcpus[0].set_reg(SysReg::Cr0, cr0 | 1 << 31 | 1 << 16);
}

fn page_fault(code: u32) -> Option<Event> {
    Some(Event {
        kind: EventKind::Exception,
        vector: vector::PF,
        error_code: Some(code),
        insn_len: 0,
    })
}

#[test]
fn the_guests_own_page_faults_are_raised_with_error_code_and_cr2_and_nothing_is_written() {
    // The second page of a crossing store: not present, read-only, supervisor.
    for (entry, user, code) in
        [(0, false, 2), (0xa_1005, false, 3), (0xa_1003, true, 7), (0, true, 6)]
    {
        let mut guest = linear_window(Mode::Protected);
        page_tables(&mut guest, &[(0xa1, entry)]);
        if user {
            let ss = guest.vcpus[0].segment(SegReg::Ss);
            let access = ss.access | 3 << 5;
            guest.vcpus[0].set_segment(SegReg::Ss, Segment { access, ..ss });
        }
        guest.at(&[0x89, 0x03]);
        guest.vcpus[0].gprs.set_rbx(0xa_0ffe);
        guest.vcpus[0].gprs.set_rax(0x4433_2211);
        let before = guest.vcpus[0].gprs;
        assert_eq!(guest.touch(0xa_0ffe, Access::WRITE), None);
        let vcpu = &guest.vcpus[0];
        assert_eq!(vcpu.pending, page_fault(code), "entry {entry:x}");
        assert_eq!(vcpu.reg(SysReg::Cr2), 0xa_1000);
        assert_eq!((vcpu.rip, vcpu.gprs), (0x8000, before));
        guest.vcpus[0].pending = None;
        let cr0 = guest.vcpus[0].reg(SysReg::Cr0);
        guest.vcpus[0].set_reg(SysReg::Cr0, cr0 & !(1 << 31));
        assert_eq!(get(&mut guest, 0xa_0ffe, 1), 0);
    }
}

#[test]
fn a_string_instruction_faults_at_its_element_with_registers_there() {
    let mut guest = linear_window(Mode::Protected);
    page_tables(&mut guest, &[(0xa1, 0)]);
    guest.at(&[0xf3, 0xaa]);
    guest.vcpus[0].gprs.set_rdi(0xa_0ffd);
    guest.vcpus[0].gprs.set_rcx(10);
    assert_eq!(guest.touch(0xa_0ffd, Access::WRITE), None);
    let vcpu = &guest.vcpus[0];
    assert_eq!(vcpu.pending, page_fault(2));
    assert_eq!((vcpu.gprs.rdi(), vcpu.gprs.rcx(), vcpu.rip), (0xa_1000, 7, 0x8000));
}

#[test]
fn an_emulated_store_sets_accessed_and_dirty_bits() {
    let mut guest = linear_window(Mode::Protected);
    page_tables(&mut guest, &[(0xa0, 0xa_0003)]);
    guest.at(&[0x8b, 0x03, 0x89, 0x03]);
    guest.vcpus[0].gprs.set_rbx(0xa_0000);
    assert_eq!(guest.touch(0xa_0000, Access::READ), None);
    assert_eq!(guest.load(0x2_1000 + 0xa0 * 4, 4), 0xa_0023);
    assert_eq!(guest.touch(0xa_0000, Access::WRITE), None);
    assert_eq!(guest.load(0x2_1000 + 0xa0 * 4, 4), 0xa_0063);
}

#[test]
fn an_instruction_that_lies_across_two_pages_is_fetched_from_both() {
    let mut guest = linear_window(Mode::Protected);
    page_tables(&mut guest, &[(0x31, 0x4_0007)]);
    // mov dword [ebx], imm32 with its last four bytes on the next linear page.
    guest.store(0x3_0ffe, 2, 0x03c7);
    guest.store(0x4_0000, 4, 0x0a0b_0c0d);
    guest.vcpus[0].set_rip(0x3_0ffe);
    guest.vcpus[0].gprs.set_rbx(DEVICE);
    assert_eq!(guest.touch(DEVICE, Access::WRITE), None);
    assert_eq!(guest.vcpus[0].rip, 0x3_1004);
    let cr0 = guest.vcpus[0].reg(SysReg::Cr0);
    guest.vcpus[0].set_reg(SysReg::Cr0, cr0 & !(1 << 31));
    assert_eq!(get(&mut guest, DEVICE, 4), 0x0a0b_0c0d);
}

#[test]
fn a_repeat_faults_where_it_reaches_its_segments_limit() {
    // The CPU has checked the first element before it exits; the rest is the emulator's.
    let mut guest = linear_window(Mode::Protected);
    guest.at(&[0xf3, 0xaa]);
    let es = guest.vcpus[0].segment(SegReg::Es);
    guest.vcpus[0].set_segment(SegReg::Es, Segment { limit: 0xa_0002, ..es });
    guest.vcpus[0].gprs.set_rdi(DEVICE);
    guest.vcpus[0].gprs.set_rcx(10);
    assert_eq!(guest.touch(DEVICE, Access::WRITE), None);
    let vcpu = &guest.vcpus[0];
    assert_eq!(vcpu.pending, Some(Event::exception(vector::GP, Some(0))));
    assert_eq!((vcpu.gprs.rdi(), vcpu.gprs.rcx()), (DEVICE + 3, 7));
}
