//! Xen's interface to one guest: how it is found, hypercalls, shared info, time, and upcalls.
//!
//! Ways in: `cpuid` (discovery), `hypercall` (the page and the dispatch), `upcall` (events on their way
//! to a vCPU). What spans guests (event channels, grants) is in `pvdrivers`, shared through [`Hub`].

mod argpage;
mod claim;
pub mod cpuid;
mod events;
mod exchange;
pub(crate) mod grants;
mod hub;
pub(crate) mod hypercall;
mod memory;
pub mod params;
mod reservation;
mod runstate;
mod sched;
pub mod shared;
mod start;
pub mod time;
mod upcall;
mod vcpu;
mod version;

pub(crate) use argpage::ArgPages;
pub use events::deliver_to;
pub use hub::{Hub, Memories};
pub use reservation::STEP;
pub(crate) use vcpu::XenTimer;
pub use vcpu::XenVcpu;

use alloc::boxed::Box;
use arch::SharedPage;
use arch::page::PAGE_CELLS;
use core::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicU64, AtomicUsize, Ordering};
use params::Params;
use pvdrivers::abi::Width;
use pvdrivers::abi::hvm_params::HvmParam;
use pvdrivers::event::{Progress, Settings};
use pvdrivers::{DomId, Errno};
use spin::Mutex;

/// The local APIC's spurious-interrupt vector register, whose bit 8 switches the APIC on.
pub(crate) const SVR: u8 = 0xf;

/// Page of `struct shared_info`.
pub const SHARED_INFO: usize = 0;
/// Page of the XenStore ring.
pub const STORE_RING: usize = 1;
/// Page of the console ring.
pub const CONSOLE_RING: usize = 2;
/// First of the pages of the grant table and its status words, which are given as they are asked for.
pub const GRANT_PAGES: usize = 3;
/// Most pages of the grant table: 64, as in Xen.
pub const GRANT_FRAMES_MAX: usize = 64;
/// Most status pages (version 2): two bytes for each of 16,384 entries.
pub const STATUS_FRAMES_MAX: usize = 8;
/// Pages that the hypervisor shares with one guest.
pub const PAGES: usize = GRANT_PAGES + GRANT_FRAMES_MAX + STATUS_FRAMES_MAX;

/// The highest event-channel port of a guest: what the 2-level ABI has, and 127 pages of the FIFO ABI less.
pub const MAX_PORT: u32 = (1 << 17) - 1;

/// Guest frame of the first of the rings that a guest finds by its parameters: in the hole below
/// 4 GiB, where Xen's tools put them, too.
pub const SPECIAL_GFN: u64 = 0xf_eff8;

/// What a guest computer with Xen's interface is built with.
#[derive(Clone, Copy)]
pub struct XenConfig {
    /// Its number: 1 or more.
    pub domid: DomId,
    /// What it shares with others.
    pub hub: &'static Hub,
    /// [`PAGES`] zeroed pages of the hypervisor's.
    pub pages: &'static [AtomicU64],
    /// Seconds since 1970 at power-on.
    pub wall_seconds: u64,
    /// For `XENVER_guest_handle`.
    pub uuid: [u8; 16],
    /// Whether the platform device is there.
    pub platform_pci: bool,
    /// How much of the interface it may use.
    pub limits: Limits,
}

/// How much of the interface a guest may use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// The highest port of an event channel, 1 to [`MAX_PORT`].
    pub max_port: u32,
    /// Frames of its grant table, 1 to [`GRANT_FRAMES_MAX`].
    pub grant_frames: u32,
    /// Mappings of others' pages, 1 to [`MAX_MAPS`](grants::MAX_MAPS).
    pub maps: u32,
    /// Whether its grant table may have version 2.
    pub grants_v2: bool,
}

impl Default for Limits {
    fn default() -> Limits {
        let grant_frames = GRANT_FRAMES_MAX as u32;
        Limits { max_port: MAX_PORT, grant_frames, maps: grants::MAX_MAPS, grants_v2: true }
    }
}

/// One guest's side of Xen's interface.
pub struct Xen {
    // Fixed
    /// Its number.
    pub domid: DomId,
    /// What it shares with others.
    pub hub: &'static Hub,
    pages: &'static [AtomicU64],
    wall_seconds: u64,
    uuid: [u8; 16],
    limits: Limits,
    // Guest-visible
    pub(crate) params: Mutex<Params>,
    /// The guest's structures have 64-bit fields (Xen "hvm_latch_shinfo_size").
    wide: AtomicBool,
    /// The vector that every vCPU takes for events, 0 for none.
    pub(crate) callback_vector: AtomicU8,
    /// Events come by a line of the board.
    by_line: AtomicBool,
    /// Its level.
    line: AtomicBool,
    /// Readers of run states want to see that one is being written.
    pub(crate) runstate_flag: AtomicBool,
    /// The reason of the next shutdown, if the guest told it before; `u32::MAX` for none.
    pub(crate) shutdown_code: AtomicU32,
    /// vCPUs' sides.
    pub(crate) vcpus: Box<[XenVcpu]>,
    /// Pages of the grant table that are in use.
    grant_pages_given: AtomicUsize,
    /// Guest frames at which the pages are mapped, `u64::MAX` for none.
    mapped: Box<[AtomicU64]>,
}

impl Xen {
    /// The interface after power-on, and its domain in `hub`. `None` where the pages are too few, or the
    /// number is taken.
    #[must_use]
    pub fn new(config: XenConfig, vcpus: usize) -> Option<Xen> {
        let XenConfig { domid, hub, pages, wall_seconds, uuid, platform_pci: _, limits } = config;
        if pages.len() < PAGES * PAGE_CELLS {
            return None;
        }
        let xen = Xen {
            domid,
            hub,
            pages,
            wall_seconds,
            uuid,
            limits,
            params: Mutex::new(Params::default()),
            wide: AtomicBool::new(true),
            callback_vector: AtomicU8::new(0),
            by_line: AtomicBool::new(false),
            line: AtomicBool::new(false),
            runstate_flag: AtomicBool::new(false),
            shutdown_code: AtomicU32::new(u32::MAX),
            vcpus: (0..vcpus).map(|_| XenVcpu::default()).collect(),
            grant_pages_given: AtomicUsize::new(0),
            mapped: (0..PAGES).map(|_| AtomicU64::new(u64::MAX)).collect(),
        };
        xen.join().ok()?;
        Some(xen)
    }

    /// Enters the domain into what guests share, afresh if it was there. Its grant table has left.
    fn join(&self) -> Result<(), Errno> {
        let settings = Settings {
            vcpus: u16::try_from(self.vcpus.len()).map_err(|_| Errno::EINVAL)?,
            shared_info: self.shared_info(),
            max_port: self.limits.max_port,
            pirqs: 0,
            privileged: false,
        };
        // Ports by the thousand go in pieces, between which other guests have their turn.
        while self.hub.events.lock().remove_domain(self.domid) == Progress::Again {}
        self.hub.events.lock().add_domain(self.domid, &settings)?;
        self.grant_pages_given.store(0, Ordering::Relaxed);
        self.join_grants()
    }

    /// As after power-on. Gives the guest frames at which pages were mapped.
    pub(crate) fn reset(&self) -> impl Iterator<Item = u64> + '_ {
        self.pages.iter().for_each(|cell| cell.store(0, Ordering::Relaxed));
        *self.params.lock() = Params::default();
        self.wide.store(true, Ordering::Relaxed);
        self.callback_vector.store(0, Ordering::Relaxed);
        for flag in [&self.by_line, &self.line, &self.runstate_flag] {
            flag.store(false, Ordering::Relaxed);
        }
        self.shutdown_code.store(u32::MAX, Ordering::Relaxed);
        self.vcpus.iter().for_each(XenVcpu::reset);
        self.set_up(0);
        let taken = self.mapped.iter().map(|gfn| gfn.swap(u64::MAX, Ordering::Relaxed));
        taken.filter(|gfn| *gfn != u64::MAX)
    }

    /// One of the shared pages.
    #[must_use]
    #[inline]
    pub fn page(&self, number: usize) -> Option<SharedPage> {
        let start = number.checked_mul(PAGE_CELLS)?;
        let cells = self.pages.get(start..start.checked_add(PAGE_CELLS)?)?;
        cells.try_into().ok().map(SharedPage::new)
    }

    /// The page of `struct shared_info`.
    ///
    /// # Panics
    /// Never: [`Xen::new`] looked at the length.
    #[must_use]
    #[inline]
    pub fn shared_info(&self) -> SharedPage {
        self.page(SHARED_INFO).expect("there are PAGES pages")
    }

    /// The width of the guest's structures.
    #[must_use]
    #[inline]
    pub fn width(&self) -> Width {
        if self.wide.load(Ordering::Relaxed) { Width::Bits64 } else { Width::Bits32 }
    }

    /// Notes the width that the guest's kernel has when it sets up events.
    pub(crate) fn set_width(&self, width: Width) {
        self.wide.store(width == Width::Bits64, Ordering::Relaxed);
        // The domain is there as long as it runs.
        let _ = self.hub.events.lock().set_width(self.domid, width);
    }

    /// Notes that page `number` is now mapped at `gfn`; where it was before.
    pub(crate) fn note_mapped(&self, number: usize, gfn: u64) -> Option<u64> {
        let old = self.mapped.get(number)?.swap(gfn, Ordering::AcqRel);
        (old != u64::MAX).then_some(old)
    }

    /// The guest frame at which page `number` is mapped, `u64::MAX` for none.
    pub(crate) fn mapped_gfn(&self, number: usize) -> u64 {
        self.mapped.get(number).map_or(u64::MAX, |gfn| gfn.load(Ordering::Acquire))
    }

    /// The number of a page.
    pub(crate) fn number_of(&self, page: &SharedPage) -> Option<usize> {
        (0..PAGES).find(|number| self.page(*number).is_some_and(|own| own.is(page)))
    }

    /// The guest's UUID.
    #[must_use]
    pub fn uuid(&self) -> [u8; 16] {
        self.uuid
    }

    /// Sets a parameter that the guest reads.
    pub fn set_param(&self, which: HvmParam, value: u64) {
        self.params.lock().set(which, value);
    }

    /// Which page is mapped at `gfn`, if one is.
    pub(crate) fn mapped_at(&self, gfn: u64) -> Option<usize> {
        self.mapped.iter().position(|at| at.load(Ordering::Acquire) == gfn)
    }
}
