//! Does CPUID give the same answer twice, for every leaf and any subleaf?

#![no_std]
#![no_main]

use support::random::Random;
use support::{cpu, guest, println};

guest!("cpuidfuzz", main);

fn main() {
    let [most, b, c, d] = cpu::cpuid(0, 0);
    let mut vendor = [0u8; 12];
    for (part, word) in vendor.chunks_mut(4).zip([b, d, c]) {
        part.copy_from_slice(&word.to_le_bytes());
    }
    assert!((1..0x100).contains(&most), "{most:#x} basic leaves");
    assert!(vendor.iter().all(u8::is_ascii_graphic), "the vendor is {vendor:?}");
    println!("vendor {}, {most:#x} leaves", core::str::from_utf8(&vendor).unwrap_or("?"));
    let extended = cpu::cpuid(0x8000_0000, 0)[0];
    assert!(extended >= 0x8000_0008, "extended leaves end at {extended:#x}");
    let features = cpu::cpuid(1, 0);
    assert!(features[3] & 0x211 == 0x211, "no FPU, TSC or APIC: {:#x}", features[3]);
    if features[2] & 1 << 31 != 0 {
        let [most, b, c, d] = cpu::cpuid(0x4000_0000, 0);
        println!("hypervisor leaves to {most:#x}: {b:#x} {c:#x} {d:#x}");
        assert_eq!(features[2] & 1 << 5, 0, "VMX is offered");
    }
    let mut random = Random::new(0xc1d);
    for base in [0u32, 0x4000_0000, 0x8000_0000, 0xc000_0000] {
        for leaf in base..base + 0x120 {
            for sub in [0, 1, 2, random.next() as u32] {
                let first = cpu::cpuid(leaf, sub);
                let second = cpu::cpuid(leaf, sub);
                assert_eq!(first, second, "leaf {leaf:#x} subleaf {sub:#x}");
            }
        }
    }
    for _ in 0..20_000 {
        let (leaf, sub) = (random.next() as u32, random.next() as u32);
        assert_eq!(cpu::cpuid(leaf, sub), cpu::cpuid(leaf, sub), "leaf {leaf:#x} sub {sub:#x}");
    }
}
