//! Windows: guests' RAM in the hypervisor's own address space, in order, whatever frames are behind it.
//!
//! A frame that a guest gives back is replaced by a sink, a page of the guest's own where stray reads and
//! writes on its behalf end; then [`shootdown`] makes all CPUs forget the frame.

// UNSAFETY: reloads CR3.

use core::sync::atomic::{AtomicU64, Ordering};

use arch::slat::{Format, MemType, PageSize, Range, Slat, SlatError};
use arch::{GuestPhys, HostPhys, Perm};

use super::memory::Store;
use crate::cpu::lock::IrqLock;
use crate::cpu::{self, percpu, smp, tsc};
use crate::mem::layout::{HUGE, PAGE, WINDOWS, WINDOWS_SIZE, up};
use crate::mem::paging;

/// How long other CPUs may take to forget a frame, in nanoseconds: more than any work with interrupts closed.
const PATIENCE_NS: u64 = 5_000_000_000;

/// SDM 3A "4-Level Paging": the bits that are used here. Nothing is global, so that loading CR3 flushes.
mod entry {
    pub const TABLE: u64 = 0x23;
    pub const PAGE: u64 = 0x63;
    pub const LARGE: u64 = 1 << 7;
    pub const NX: u64 = 1 << 63;
    pub const ADDRESS: u64 = 0x000f_ffff_ffff_f000;
}

/// The host's own page-table entries: all is RAM, to read and to write.
struct Entries {
    nx: u64,
    largest: PageSize,
}

impl Format for Entries {
    fn table(&self, child: HostPhys) -> u64 {
        child.0 | entry::TABLE
    }

    fn leaf(&self, to: HostPhys, size: PageSize, _: Perm, _: MemType) -> u64 {
        let large = if size == PageSize::Small { 0 } else { entry::LARGE };
        to.0 | entry::PAGE | large | self.nx
    }

    fn is_large(&self, entry: u64) -> bool {
        entry & entry::LARGE != 0
    }

    fn address(&self, entry: u64) -> HostPhys {
        HostPhys(entry & entry::ADDRESS)
    }

    fn perm(&self, _: u64) -> Perm {
        Perm::RWX
    }

    fn memory(&self, _: u64) -> MemType {
        MemType::WriteBack
    }

    fn accessed(&self) -> u64 {
        0
    }

    fn dirty(&self) -> u64 {
        0
    }

    fn largest(&self) -> PageSize {
        self.largest
    }
}

struct Windows {
    slat: Slat<Entries>,
    store: Store,
    next: u64,
}

static ALL: IrqLock<Option<Windows>> = IrqLock::new(None);

/// Addresses as the table counts them: without the sign's extension.
const fn place(virt: u64) -> GuestPhys {
    GuestPhys(virt & ((1 << 48) - 1))
}

fn with<R>(work: impl FnOnce(&mut Windows) -> R) -> R {
    let mut all = ALL.lock();
    work(all.get_or_insert_with(|| {
        let cpu::PagingFeatures { huge_pages, nx } = cpu::paging_features();
        let largest = if huge_pages { PageSize::Huge } else { PageSize::Large };
        let format = Entries { nx: if nx { entry::NX } else { 0 }, largest };
        // `paging` maps nothing in this part of the address space.
        let slat = Slat::over(format, paging::root());
        Windows { slat, store: Store::default(), next: WINDOWS }
    }))
}

/// Takes `bytes` of address space; where they begin. `None` where all is taken.
pub fn open(bytes: u64) -> Option<u64> {
    with(|windows| {
        let start = windows.next;
        let end = start.checked_add(up(bytes, HUGE))?;
        if end - WINDOWS > WINDOWS_SIZE {
            return None;
        }
        windows.next = end;
        Some(start)
    })
}

/// Shows memory from `to` on at `virt`, which is in a window. Only [`shootdown`] makes CPUs forget what was
/// there before.
///
/// # Errors
/// [`SlatError::NoMemory`] for tables.
pub fn map(virt: u64, bytes: u64, to: HostPhys) -> Result<(), SlatError> {
    with(|Windows { slat, store, .. }| {
        let range = Range { from: place(virt), bytes };
        slat.map(store, range, to, Perm::RWX, MemType::WriteBack).map(|_| ())
    })
}

/// Replaces the page at `virt` by `to`, if `wanted` says so of what is there; what was there.
pub fn replace(virt: u64, to: HostPhys, wanted: impl Fn(HostPhys) -> bool) -> Option<HostPhys> {
    with(|Windows { slat, store, .. }| {
        let old = slat.lookup(store, place(virt))?.to;
        let range = Range { from: place(virt), bytes: PAGE };
        let replaced =
            wanted(old) && slat.map(store, range, to, Perm::RWX, MemType::WriteBack).is_ok();
        replaced.then_some(old)
    })
}

/// Takes the page at `virt` out, so that nothing is there; what was. Only [`shootdown`] makes CPUs forget it.
pub fn take_out(virt: u64) -> Option<HostPhys> {
    with(|Windows { slat, store, .. }| {
        let old = slat.lookup(store, place(virt))?.to;
        slat.unmap(store, Range { from: place(virt), bytes: PAGE }).is_ok().then_some(old)
    })
}

/// What is at `virt`, and how many bytes are there in one piece.
pub fn find(virt: u64) -> Option<(HostPhys, u64)> {
    with(|Windows { slat, store, .. }| {
        let found = slat.lookup(store, place(virt))?;
        let size = found.size.bytes();
        Some((found.to, size - (virt & (size - 1))))
    })
}

/// Counts shootdowns.
static EPOCH: AtomicU64 = AtomicU64::new(0);

/// This CPU forgets what windows showed before. A kick comes here, too.
pub fn catch_up() {
    let this = cpu::this();
    let now = EPOCH.load(Ordering::SeqCst);
    if this.windows_epoch.load(Ordering::Relaxed) == now {
        return;
    }
    // SAFETY: the tables stay as they are; loading them again flushes what is not global.
    unsafe { x86::controlregs::cr3_write(x86::controlregs::cr3()) };
    // A handler may have come in between, with a later change.
    this.windows_epoch.fetch_max(now, Ordering::SeqCst);
}

/// Waits until no CPU remembers what windows showed before the call. No lock is held: others may be
/// waiting for it, and answer only when they have it. False where one does not answer.
#[must_use]
pub fn shootdown() -> bool {
    let wanted = EPOCH.fetch_add(1, Ordering::SeqCst) + 1;
    catch_up();
    let behind = |cpu: &percpu::PerCpu| cpu.windows_epoch.load(Ordering::SeqCst) < wanted;
    let own = cpu::this().id;
    percpu::all().filter(|cpu| cpu.id != own && behind(cpu)).for_each(|cpu| smp::kick(cpu.id));
    let end = tsc::now() + tsc::from_ns(PATIENCE_NS);
    while percpu::all().any(behind) {
        // Another CPU may be waiting for this one.
        catch_up();
        if tsc::now() > end {
            log::error!("a CPU does not answer: memory that a guest gave back stays unused");
            return false;
        }
        core::hint::spin_loop();
    }
    true
}
