//! What each CPU has for itself: number, APIC ID, descriptor tables, stacks, timer deadline.
//! GS base points at it while the host runs; [`this`] reads it. A back end that lets a guest's GS
//! live past an exit must restore the host's before it calls anything that uses [`this`].

// UNSAFETY: reads GS-relative memory and publishes pointers between CPUs.

use core::sync::atomic::{AtomicBool, AtomicPtr, AtomicU8, AtomicU64, AtomicUsize, Ordering};

use super::gdt::Tables;
use super::lock::Held;

/// Most CPUs brought up; more are left asleep with a message.
pub const MAX_CPUS: usize = 64;

/// One CPU's own data. Shared fields are atomic, the rest is written before the CPU starts.
#[repr(C)]
#[derive(Debug)]
pub struct PerCpu {
    /// Points at itself, so that one load from GS:0 finds it. First by layout.
    this: AtomicPtr<PerCpu>,
    /// Dense number from 0, the boot CPU.
    pub id: usize,
    /// Local APIC ID.
    pub apic_id: AtomicUsize,
    /// GDT, TSS and interrupt stacks.
    pub tables: Tables,
    /// TSC value when it was published.
    pub started: AtomicU64,
    /// TSC value that the timer is armed for; `u64::MAX` when not armed.
    pub deadline: AtomicU64,
    /// Interrupts taken.
    pub interrupts: AtomicU64,
    /// NMIs taken.
    pub nmis: AtomicU64,
    /// TSC ticks in which it halted, the interrupts included that ended that.
    pub halted: AtomicU64,
    /// Set by a kick, cleared by whoever looks for work.
    pub kicked: AtomicBool,
    /// For the scheduler: what was asked of the turn that goes on here, [`YIELD`] and [`RETIME`]. One word, as it is looked
    /// at after each exit. Only this CPU writes it.
    pub asked: AtomicU8,
    /// For windows onto guests' RAM: the last change of them that this CPU knows.
    pub windows_epoch: AtomicU64,
    /// For the scheduler: whatever it wants to find per CPU.
    pub user: AtomicUsize,
    /// Where a panic on this CPU goes instead of stopping the machine; see `panic.rs`.
    pub panic_hook: AtomicUsize,
    /// Locks that it holds.
    pub held: Held,
    /// How many of them the work that a panic would end has found.
    pub held_before: AtomicUsize,
}

static CPUS: [AtomicPtr<PerCpu>; MAX_CPUS] =
    [const { AtomicPtr::new(core::ptr::null_mut()) }; MAX_CPUS];
static COUNT: AtomicUsize = AtomicUsize::new(0);

/// The turn is to end, as another vCPU of this CPU was woken, or CPU 0 has work.
pub const YIELD: u8 = 1;
/// A guest's board wants another time than before.
pub const RETIME: u8 = 2;

impl PerCpu {
    /// Asks something of the turn that goes on here.
    #[inline]
    pub fn ask(&self, what: u8) {
        self.asked.fetch_or(what, Ordering::Relaxed);
    }

    /// Data of CPU `id`, not yet in place.
    #[must_use]
    pub const fn new(id: usize) -> PerCpu {
        PerCpu {
            this: AtomicPtr::new(core::ptr::null_mut()),
            id,
            apic_id: AtomicUsize::new(0),
            tables: Tables::new(),
            started: AtomicU64::new(0),
            deadline: AtomicU64::new(u64::MAX),
            interrupts: AtomicU64::new(0),
            nmis: AtomicU64::new(0),
            halted: AtomicU64::new(0),
            kicked: AtomicBool::new(false),
            asked: AtomicU8::new(0),
            windows_epoch: AtomicU64::new(0),
            user: AtomicUsize::new(0),
            panic_hook: AtomicUsize::new(0),
            held: Held::new(),
            held_before: AtomicUsize::new(0),
        }
    }

    /// The local APIC ID as a number.
    #[must_use]
    pub fn apic_id(&self) -> u32 {
        self.apic_id.load(Ordering::Relaxed) as u32
    }
}

/// Makes `cpu` this CPU's data, for [`this`]. Called once per CPU, early.
pub fn set_gs(cpu: &'static PerCpu) {
    let pointer = core::ptr::from_ref(cpu).cast_mut();
    cpu.this.store(pointer, Ordering::Relaxed);
    // SAFETY: GS belongs to the host, and the data lives for ever.
    unsafe { x86::msr::wrmsr(x86::msr::IA32_GS_BASE, pointer.expose_provenance() as u64) };
}

/// Lists `cpu` as up, its APIC ID known.
pub fn publish(cpu: &'static PerCpu) {
    CPUS[cpu.id].store(core::ptr::from_ref(cpu).cast_mut(), Ordering::Release);
    COUNT.fetch_add(1, Ordering::Release);
}

/// This CPU's data.
#[must_use]
#[inline]
pub fn this() -> &'static PerCpu {
    let pointer: *const PerCpu;
    // SAFETY: `set_gs` put a pointer to itself at GS:0 before anything else runs on this CPU.
    unsafe {
        core::arch::asm!("mov {}, gs:[0]", out(reg) pointer,
            options(nostack, preserves_flags, readonly, pure));
    }
    // SAFETY: the data lives for ever and is only shared.
    unsafe { &*pointer }
}

/// Data of CPU `id`, if it is up.
#[must_use]
pub fn get(id: usize) -> Option<&'static PerCpu> {
    let pointer = CPUS.get(id)?.load(Ordering::Acquire);
    // SAFETY: null, or published by `publish` and alive for ever.
    unsafe { pointer.as_ref() }
}

/// CPUs that are up.
#[must_use]
pub fn count() -> usize {
    COUNT.load(Ordering::Acquire)
}

/// All CPUs that are up.
pub fn all() -> impl Iterator<Item = &'static PerCpu> {
    (0..MAX_CPUS).filter_map(get)
}
