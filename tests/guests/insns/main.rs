//! Does every form of memory access do on a device what it does on memory? The device is the VGA's
//! memory in mode 13h, which behaves as memory does; results, flags, pointers and 128 bytes around
//! are compared.

#![no_std]
#![no_main]

use support::random::Random;
use support::{attempt, bios, cpu, guest, mem, println};

guest!("insns", main);

/// Mode 13h's memory, which a hypervisor may map, and text mode's, which it must emulate.
const DEVICES: [(u16, usize); 2] = [(0x13, 0xa_0000), (3, 0xb_8000)];
const SPAN: usize = 128;

/// How many forms at the list's end no driver uses on a device.
const RARE: usize = 9;

/// What an instruction leaves in registers: RAX, RCX, RSI and RDI relative to the place, flags.
type Left = [u64; 5];

macro_rules! forms {
    ($($flags:literal $code:literal),+ $(,)?) => {
        /// The forms as text, and the flags that each defines.
        const FORMS: &[(&str, u64)] = &[$(($code, $flags)),+];

        /// Executes one. R9 and RDI have the place, RSI is 32 bytes further, R10 and RAX a value.
        fn execute(form: usize, place: usize, value: u64, left: &mut Left) -> Result<(), cpu::Fault> {
            let mut number = 0;
            $({
                if form == number {
                    let (mut a, mut c, mut s, mut d) = (value, 3u64, place + 32, place);
                    let mut flags = 0u64;
                    let result = attempt!(
                        "lea r8, [r10 + 0x11]", "lea r12, [r10 + 0x22]", "lea r13, [r10 + 0x33]",
                        "lea r14, [r10 + 0x44]", "push 0x246", "popfq", $code, "pushfq", "pop r11"; in("r9") place,
                        in("r10") value, inout("rax") a, inout("rcx") c, inout("rdx") value => _,
                        inout("rsi") s, inout("rdi") d, inout("r11") flags,
                        out("r8") _, out("r12") _, out("r13") _, out("r14") _
                    );
                    s = s.wrapping_sub(place);
                    d = d.wrapping_sub(place);
                    *left = [a, c, s as u64, d as u64, flags & $flags];
                    return result;
                }
                number += 1;
            })+
            let _ = number;
            Ok(())
        }
    };
}

// 8D5: CF, PF, AF, ZF, SF, OF.
forms! {
    0x8d5 "mov al, [r9]", 0x8d5 "mov ax, [r9]", 0x8d5 "mov eax, [r9]", 0x8d5 "mov rax, [r9]",
    0x8d5 "mov [r9], r10b", 0x8d5 "mov [r9], r10w", 0x8d5 "mov [r9], r10d", 0x8d5 "mov [r9], r10",
    0x8d5 "mov [r9], sil", 0x8d5 "mov [r9], dil", 0x8d5 "mov r8b, [r9]; mov al, r8b",
    0x8d5 "mov [r9], r14b", 0x8d5 "mov [r9], r8b", 0x8d5 "xchg [r9], r13b; mov al, r13b",
    0x8d5 "mov byte ptr [r9], 0x5a", 0x8d5 "mov word ptr [r9], 0x1234",
    0x8d5 "mov dword ptr [r9], 0x12345678", 0x8d5 "mov qword ptr [r9], -2",
    0x8d5 "movzx eax, byte ptr [r9]", 0x8d5 "movzx eax, word ptr [r9]",
    0x8d5 "movzx ax, byte ptr [r9]", 0x8d5 "movsx ax, byte ptr [r9]",
    0x8d5 "movsx eax, byte ptr [r9]", 0x8d5 "movsx rax, word ptr [r9]",
    0x8d5 "movsxd rax, dword ptr [r9]", 0x8d5 "mov ah, [rdi]", 0x8d5 "mov [rdi], ah",
    0x8d5 "mov al, [rdi + rcx * 4 - 5]", 0x8d5 "mov eax, [rdi + rcx + 0x11]",
    0x8d5 "add [r9], r10b", 0x8d5 "add eax, [r9]", 0x8d5 "add qword ptr [r9], 127",
    0x8d5 "adc [r9], r10d", 0x8d5 "adc al, [r9]", 0x8d5 "sub [r9], r10w", 0x8d5 "sub rax, [r9]",
    0x8d5 "sbb dword ptr [r9], 3", 0x8d5 "sbb eax, [r9]", 0x8d5 "cmp byte ptr [r9], 0x80",
    0x8d5 "cmp [r9], r10", 0x8d5 "cmp eax, [r9]", 0x8d5 "cmp word ptr [r9], 0x7fff",
    0x8c5 "and [r9], r10", 0x8c5 "and al, [r9]", 0x8c5 "and dword ptr [r9], 0xff00",
    0x8c5 "or [r9], r10b", 0x8c5 "or rax, [r9]", 0x8c5 "or word ptr [r9], 0x8001",
    0x8c5 "xor [r9], r10d", 0x8c5 "xor ax, [r9]", 0x8c5 "xor byte ptr [r9], 0xff",
    0x8c5 "test [r9], r10b", 0x8c5 "test dword ptr [r9], 0x80000001", 0x8c5 "test [r9], rax",
    0x8d5 "inc byte ptr [r9]", 0x8d5 "inc qword ptr [r9]", 0x8d5 "dec dword ptr [r9]",
    0x8d5 "dec word ptr [r9]", 0x8d5 "not dword ptr [r9]", 0x8d5 "neg byte ptr [r9]",
    0x8d5 "neg qword ptr [r9]", 0x8d5 "xchg [r9], al", 0x8d5 "xchg [r9], ax",
    0x8d5 "xchg [r9], eax", 0x8d5 "xchg [r9], rax", 0x8d5 "xadd [r9], eax",
    0x8d5 "lock xadd [r9], al", 0x8d5 "cmpxchg [r9], r10d", 0x8d5 "lock cmpxchg [r9], r10",
    0x8d5 "mov al, [r9]; cmpxchg [r9], cl", 0x8d5 "mov rax, [r9]; lock cmpxchg [r9], rcx",
    1 "bt dword ptr [r9], 3", 1 "bts dword ptr [r9], 5", 1 "btr word ptr [r9], 9",
    1 "btc qword ptr [r9], 63", 1 "bt [r9], ecx", 1 "mov ecx, 77; bts [r9], ecx",
    1 "mov rcx, -3; btr [r9 + 8], rcx", 1 "lock btc dword ptr [r9], 7",
    0x8c5 "shl dword ptr [r9], 1", 0x8c5 "shr byte ptr [r9], 1", 0x8c5 "sar qword ptr [r9], 1",
    0xc5 "shl dword ptr [r9], cl", 0xc5 "shr word ptr [r9], 4", 0x801 "rol word ptr [r9], 1",
    1 "ror dword ptr [r9], 3",
    0 "setc byte ptr [r9]", 0 "setz byte ptr [r9]",

    0 "push qword ptr [r9]; pop rax",
    0 "push r10; pop qword ptr [r9]", 0 "push word ptr [r9]; pop ax",
    0x8d5 "stosb", 0x8d5 "stosw", 0x8d5 "stosd", 0x8d5 "stosq", 0x8d5 "rep stosb",
    0x8d5 "rep stosw", 0x8d5 "rep stosd", 0x8d5 "rep stosq", 0x8d5 "lodsb", 0x8d5 "lodsw",
    0x8d5 "lodsd", 0x8d5 "lodsq", 0x8d5 "rep lodsb", 0x8d5 "movsb", 0x8d5 "movsw", 0x8d5 "movsd",
    0x8d5 "movsq", 0x8d5 "rep movsb", 0x8d5 "rep movsw", 0x8d5 "rep movsd", 0x8d5 "rep movsq",
    0x8d5 "std; add rdi, 24; rep stosd; cld", 0x8d5 "std; add rdi, 16; rep movsb; cld",
    0x8d5 "mov ecx, 0; rep stosb", 0x8d5 "scasb", 0x8d5 "scasw", 0x8d5 "scasd",
    0x8d5 "repne scasb", 0x8d5 "repe scasd", 0x8d5 "cmpsb", 0x8d5 "cmpsd",
    0x8d5 "repe cmpsb", 0x8d5 "repne cmpsw",
    // No driver does these on a device: a hypervisor may stop at them.
    0x801 "rcl byte ptr [r9], 1", 1 "rcr qword ptr [r9], cl", 0x40 "bsf eax, [r9]", 0x40 "bsr rax, [r9]",
    0x801 "imul eax, [r9], 3", 0x801 "imul rax, [r9]", 0x801 "mul byte ptr [r9]",
    0 "cmovz eax, [r9]", 0 "cmovc rax, [r9]",
}

fn main() {
    let memory = mem::pages(4) + 4096;
    let mut wrong = 0;
    for (mode, device) in DEVICES {
        bios::int(0x10, &mut bios::Regs::ax(mode));
        for form in 0..FORMS.len() - RARE {
            wrong += u32::from(!same(form, memory, device));
        }
        across_a_missing_page(memory, device);
        println!("{} forms at {device:#x}", FORMS.len() - RARE);
    }
    assert_eq!(wrong, 0, "forms that differ");
    support::expect("stop-or-pass");
    for form in FORMS.len() - RARE..FORMS.len() {
        wrong += u32::from(!same(form, memory, 0xb_8000));
    }
    bios::int(0x10, &mut bios::Regs::ax(3));
    assert_eq!(wrong, 0, "forms that differ");
}

/// Whether a form does the same on both, with many values and alignments.
fn same(form: usize, memory: usize, device: usize) -> bool {
    let mut random = Random::new(0x1515 + form as u64);
    for round in 0..24 {
        // Any alignment; every fourth time across a page.
        let offset = match round & 3 {
            3 => 4096 - 1 - random.below(8) as usize,
            _ => 64 + random.below(512) as usize,
        };
        let value = match round % 5 {
            0 => 0,
            1 => u64::MAX,
            _ => random.next(),
        };
        let start = (offset - 32) & !7;
        // By eight bytes: an access to the device is an exit.
        for index in (0..SPAN).step_by(8) {
            let bytes = if round == 7 { 0 } else { random.next() };
            mem::write(memory + start + index, bytes);
            mem::write(device + start + index, bytes);
        }
        let (mut expected, mut found) = ([0; 5], [0; 5]);
        let on_memory = execute(form, memory + offset, value, &mut expected);
        let on_device = execute(form, device + offset, value, &mut found);
        let differs = (0..SPAN).step_by(8).find(|index| {
            mem::read::<u64>(memory + start + index) != mem::read::<u64>(device + start + index)
        });
        if on_memory != on_device || expected != found || differs.is_some() {
            println!("{} at {offset:#x} with {value:#x}:", FORMS[form].0);
            println!("  memory {on_memory:?} {expected:x?}");
            println!("  device {on_device:?} {found:x?} bytes from {differs:?}");
            return false;
        }
    }
    true
}

/// An access of which only the first part is mapped faults as on memory, and changes nothing.
fn across_a_missing_page(memory: usize, device: usize) {
    let fault = |start: usize| {
        let next = start + 0x1000;
        mem::write(next - 2, 0x1111u16);
        let table = mem::split(next);
        let entry: u64 = mem::read(table + (next >> 12 & 511) * 8);
        mem::set_page(next, 0);
        let mut left = [0; 5];
        let result = execute(6, next - 2, 0x2222_2222, &mut left);
        let place = cpu::cr2() as usize;
        mem::set_page(next, entry);
        (result, place.wrapping_sub(start), mem::read::<u16>(next - 2))
    };
    assert_eq!(fault(memory), fault(device), "memory and device");
}
