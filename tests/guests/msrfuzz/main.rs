//! Does every MSR answer with a value or with #GP, whatever is written?

#![no_std]
#![no_main]

use support::random::Random;
use support::{cpu, guest, println};

guest!("msrfuzz", main);

const RANGES: [(u32, u32); 5] = [
    (0, 0x2000),
    (0x4000_0000, 0x4000_0200),
    (0x4b56_4d00, 0x4b56_4d10),
    (0xc000_0000, 0xc000_2000),
    (0xc001_0000, 0xc001_2000),
];

/// What this kernel stands on, or what would load microcode or change the APIC's mode.
fn spared(msr: u32) -> bool {
    matches!(msr, 0x1b | 0x79 | 0x830 | 0xc000_0080 | 0xc001_0020)
}

fn main() {
    cpu::cli();
    let mut random = Random::new(0x357);
    let (mut readable, mut writable, mut odd) = (0, 0, 0);
    for msr in RANGES.into_iter().flat_map(|(start, end)| start..end) {
        let old = cpu::try_rdmsr(msr);
        readable += u32::from(old.is_ok());
        if let Err(fault) = old {
            odd += u32::from(fault.vector != 13);
        }
        if spared(msr) {
            continue;
        }
        for value in [0, 1, u64::MAX, 0x8000_0000_0000, random.next(), random.next() >> 32] {
            match cpu::try_wrmsr(msr, value) {
                Ok(()) => writable += 1,
                Err(fault) => odd += u32::from(fault.vector != 13),
            }
            if let Ok(old) = old {
                let _ = cpu::try_wrmsr(msr, old);
            }
        }
    }
    println!("readable {readable}, writes taken {writable}");
    assert_eq!(odd, 0, "faults other than #GP");
    // Numbers in none of the ranges that a bitmap covers.
    for _ in 0..2000 {
        let msr = random.next() as u32 & 0x3fff_ffff | 0x2000;
        if let Err(fault) = cpu::try_rdmsr(msr) {
            assert_eq!(fault.vector, 13, "MSR {msr:#x}");
        }
    }
    let efer = cpu::rdmsr(0xc000_0080);
    assert_eq!(efer & 0x500, 0x500, "EFER has lost long mode: {efer:#x}");
}
