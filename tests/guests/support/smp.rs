//! The further CPUs: started by INIT and startup IPIs, then waiting for work.

use crate::apic::{self, reg};
use crate::xen::{self, call, errno};
use crate::{acpi, cpu, idt, mem, pic};
use core::sync::atomic::{AtomicU32, AtomicUsize, Ordering};

/// Where the startup IPI points: page 6.
const TRAMPOLINE: usize = 0x6000;
const MOST: usize = 16;

// Operations of `vcpu_op`.
const INITIALISE: u64 = 0;
const UP: u64 = 1;
const IS_UP: u64 = 3;

static ONLINE: AtomicU32 = AtomicU32::new(0);
static WORK: [AtomicUsize; MOST] = [const { AtomicUsize::new(0) }; MOST];
static IDS: [AtomicU32; MOST] = [const { AtomicU32::new(0) }; MOST];

/// Work for a CPU, which gets its number.
pub type Work = fn(usize);

/// Starts all CPUs that firmware knows of; gives their number, the first one included.
pub fn start() -> usize {
    unsafe extern "C" {
        fn ap_start();
    }
    apic::enable();
    IDS[0].store(apic::id(), Ordering::Relaxed);
    // cli; jmp 0:ap_start
    let target = ap_start as *const () as usize as u32;
    mem::write(TRAMPOLINE, 0xeafau16);
    mem::write(TRAMPOLINE + 2, target as u16);
    mem::write(TRAMPOLINE + 4, 0u16);
    let mut ids = [0; 64];
    let known = acpi::cpus(&mut ids);
    let own = apic::id();
    let mut started = 0;
    for id in ids[..known].iter().copied().filter(|id| *id != own).take(MOST - 1) {
        apic::command(id, 0x4500);
        pic::wait_us(10_000);
        for _ in 0..2 {
            apic::command(id, 0x4600 | (TRAMPOLINE as u32 >> 12));
            pic::wait_us(200);
        }
        started += 1;
        for _ in 0..100 {
            if online() >= started {
                break;
            }
            pic::wait_us(10_000);
        }
        assert!(online() >= started, "CPU with local APIC {id} does not start");
    }
    1 + online()
}

/// Registers of a CPU that starts without paging: `struct vcpu_hvm_context`, mode 0.
#[derive(Clone, Copy)]
#[repr(C)]
struct Context32 {
    mode: [u32; 2],
    gprs: [u32; 8],
    eip: u32,
    eflags: u32,
    control: [u32; 4],
    efer: u64,
    bases: [u32; 5],
    limits: [u32; 5],
    attributes: [u16; 8],
}

/// Registers of a CPU that starts in long mode: `struct vcpu_hvm_context`, mode 1.
#[derive(Clone, Copy)]
#[repr(C)]
struct Context64 {
    mode: [u32; 2],
    gprs: [u64; 8],
    rip: u64,
    rflags: u64,
    control: [u64; 3],
    efer: u64,
    rest: u64,
}

const _: () = assert!(size_of::<Context32>() == 128 && size_of::<Context64>() == 128);

/// Starts CPU `number` by `VCPUOP_initialise` and `VCPUOP_up`: odd ones in 32-bit code, even ones in long mode. They
/// come one after the other, as by [`start`].
pub fn start_by_xen(number: usize) {
    unsafe extern "C" {
        fn ap_start_32();
        fn ap_start_64();
    }
    let mut narrow = Context32 {
        mode: [0; 2],
        gprs: [0; 8],
        eip: ap_start_32 as *const () as usize as u32,
        eflags: 0,
        control: [1, 0, 0, 0],
        efer: 0,
        bases: [0; 5],
        limits: [u32::MAX, u32::MAX, u32::MAX, u32::MAX, 0x67],
        attributes: [0xc9b, 0xc93, 0xc93, 0xc93, 0x8b, 0, 0, 0],
    };
    let mut wide = Context64 {
        mode: [1, 0],
        gprs: [0, 0, 0, 0, 0x11_0000 + ((number as u64) << 14), 0, 0, number as u64],
        rip: ap_start_64 as *const () as usize as u64,
        rflags: 0,
        control: [0x8001_0033, 0x10_0000, 0x620],
        efer: 0x100,
        rest: 0,
    };
    let operate = |op, at| xen::hypercall(call::VCPU_OP, [op, number as u64, at, 0, 0]);
    assert_eq!(operate(UP, 0), errno::EINVAL, "it has no registers");
    let mut initialise = || match number % 2 {
        1 => operate(INITIALISE, &raw mut narrow as u64),
        _ => operate(INITIALISE, &raw mut wide as u64),
    };
    assert_eq!(initialise(), 0);
    assert_eq!(initialise(), errno::EEXIST);
    assert_eq!(operate(IS_UP, 0), 0);
    assert_eq!(operate(UP, 0), 0);
    let until = xen::nanoseconds() + 5_000_000_000;
    while online() < number {
        assert!(xen::nanoseconds() < until, "CPU {number} does not start");
        core::hint::spin_loop();
    }
    assert_eq!(operate(IS_UP, 0), 1);
}

/// How many further CPUs have come.
pub fn online() -> usize {
    ONLINE.load(Ordering::Acquire) as usize
}

/// The local APIC of a CPU.
pub fn apic_id(number: usize) -> u32 {
    IDS[number].load(Ordering::Relaxed)
}

#[unsafe(no_mangle)]
extern "C" fn ap_main(number: usize) -> ! {
    idt::load();
    if apic::is_x2() {
        apic::enter_x2();
    }
    apic::enable();
    apic::write(reg::TPR, 0);
    IDS[number].store(apic::id(), Ordering::Relaxed);
    ONLINE.fetch_add(1, Ordering::Release);
    loop {
        let word = WORK[number].load(Ordering::Acquire);
        if word == 0 {
            core::hint::spin_loop();
            continue;
        }
        // SAFETY: `run` stored a `Work`.
        let work = unsafe { core::mem::transmute::<usize, Work>(word) };
        work(number);
        cpu::cli();
        WORK[number].store(0, Ordering::Release);
    }
}

/// Gives a CPU work.
pub fn run(number: usize, work: Work) {
    WORK[number].store(work as usize, Ordering::Release);
}

/// Whether a CPU's work is done.
pub fn idle(number: usize) -> bool {
    WORK[number].load(Ordering::Acquire) == 0
}

/// Waits until a CPU's work is done; false after about `ms` milliseconds.
pub fn wait(number: usize, ms: u64) -> bool {
    for _ in 0..ms {
        if idle(number) {
            return true;
        }
        pic::wait_us(1000);
    }
    idle(number)
}
