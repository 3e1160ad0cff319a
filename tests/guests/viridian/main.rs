//! How does a guest find Hyper-V's interface, call it, and read a clock without an exit, with Xen's behind it?

#![no_std]
#![no_main]

use core::arch::asm;
use support::{cpu, guest, mem, println, xen};

guest!("viridian", main);

const GUEST_OS_ID: u32 = 0x4000_0000;
const HYPERCALL: u32 = 0x4000_0001;
const VP_INDEX: u32 = 0x4000_0002;
const TIME_REF_COUNT: u32 = 0x4000_0020;
const REFERENCE_TSC: u32 = 0x4000_0021;
const TSC_FREQUENCY: u32 = 0x4000_0022;
const TPR: u32 = 0x4000_0072;
const CRASH_P0: u32 = 0x4000_0100;
const ENABLE: u64 = 1;
const LONG_SPIN_WAIT: u64 = 8;
const FLUSH: u64 = 2;

/// A call by the page at `page`. Its status.
fn call(page: usize, code: u64) -> u64 {
    let status;
    // SAFETY: the hypervisor has put a function there that changes RAX, and registers which C's callers expect changed.
    unsafe {
        asm!("call {}", in(reg) page, in("rcx") code, in("rdx") 0, in("r8") 0, out("rax") status, clobber_abi("sysv64"));
    }
    status
}

/// The time in units of 100 ns, from the page and the TSC.
fn by_page(page: usize) -> u64 {
    let (scale, offset): (u64, u64) = (mem::read(page + 8), mem::read(page + 16));
    ((u128::from(cpu::rdtsc()) * u128::from(scale)) >> 64) as u64 + offset
}

fn main() {
    let [last, b, c, d] = cpu::cpuid(0x4000_0000, 0);
    let name: [u8; 12] = core::array::from_fn(|n| [b, c, d][n / 4].to_le_bytes()[n % 4]);
    assert_eq!(&name, b"Microsoft Hv");
    assert!(last >= 0x4000_0005, "leaves of limits");
    assert_eq!(cpu::cpuid(0x4000_0001, 0)[0].to_le_bytes(), *b"Hv#1");
    let [privileges, ..] = cpu::cpuid(0x4000_0003, 0);
    println!("Hyper-V's interface, privileges {privileges:#x}");
    let leaf = xen::init();
    assert_eq!(leaf, 0x4000_0100, "Xen's leaves are behind");

    let (code, clock) = (mem::pages(1), mem::pages(1));
    cpu::wrmsr(GUEST_OS_ID, 0x8100_0006_0100_0000);
    cpu::wrmsr(HYPERCALL, code as u64 | ENABLE);
    assert_eq!(cpu::rdmsr(HYPERCALL), code as u64 | ENABLE);
    assert_eq!(call(code, LONG_SPIN_WAIT), 0);
    assert_eq!(call(code, FLUSH), 2, "a call that there is not");
    let version = xen::hypercall(xen::call::XEN_VERSION, [0; 5]);
    assert_eq!(version, 0x4_0011, "Xen's calls are beside it");
    assert_eq!(cpu::rdmsr(VP_INDEX), 0);

    cpu::wrmsr(REFERENCE_TSC, clock as u64 | ENABLE);
    assert_ne!(mem::read::<u32>(clock), 0, "the page is valid");
    for _ in 0..100 {
        let before = cpu::rdmsr(TIME_REF_COUNT);
        let between = by_page(clock);
        let after = cpu::rdmsr(TIME_REF_COUNT);
        // Each is rounded down by itself.
        assert!((before..=after + 1).contains(&(between + 1)), "{before} {between} {after}");
    }
    println!(
        "100 times the page's clock is the counter's; the TSC has {} Hz",
        cpu::rdmsr(TSC_FREQUENCY)
    );

    cpu::wrmsr(TPR, 0x30);
    assert_eq!((cpu::rdmsr(TPR), cpu::cr8()), (0x30, 3));
    cpu::wrmsr(TPR, 0);
    cpu::wrmsr(CRASH_P0, 0x1234);
    assert_eq!(cpu::rdmsr(CRASH_P0), 0x1234);
    assert!(cpu::try_wrmsr(VP_INDEX, 1).is_err() && cpu::try_rdmsr(0x4000_0080).is_err());
}
