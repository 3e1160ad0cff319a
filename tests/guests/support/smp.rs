//! The further CPUs: started by INIT and startup IPIs, then waiting for work.

use crate::apic::{self, reg};
use crate::{acpi, cpu, idt, mem, pic};
use core::sync::atomic::{AtomicU32, AtomicUsize, Ordering};

/// Where the startup IPI points: page 6.
const TRAMPOLINE: usize = 0x6000;
const MOST: usize = 16;

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
