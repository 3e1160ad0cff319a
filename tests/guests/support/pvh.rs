//! A start by Xen's PVH protocol: what the kernel is told, its console, and its end. There is no PC around it.

use crate::xen::{self, call, evtchn, param};
use crate::{cpu, mem};
use core::sync::atomic::{AtomicU32, AtomicUsize, Ordering, fence};

/// `struct hvm_start_info`, version 1.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
#[allow(missing_docs, reason = "the header's own fields")]
pub struct StartInfo {
    pub magic: u32,
    pub version: u32,
    pub flags: u32,
    pub modules: u32,
    pub module_list: u64,
    pub command_line: u64,
    pub rsdp: u64,
    pub memory_map: u64,
    pub memory_entries: u32,
    pub reserved: u32,
}

/// The value of [`StartInfo::magic`]: "xEn3" with the E's highest bit set.
pub const MAGIC: u32 = 0x336e_c578;

unsafe extern "C" {
    /// EBX at the start; 0 where a boot sector started us. In `boot.rs`.
    static pvh_info: u32;
}

/// What a PVH guest is told; `None` in a PC.
pub fn start_info() -> Option<StartInfo> {
    // SAFETY: the boot code wrote it before any Rust ran.
    let at = unsafe { core::ptr::addr_of!(pvh_info).read_volatile() };
    (at != 0).then(|| mem::read(at as usize))
}

/// The ring of the console, and its port.
static RING: AtomicUsize = AtomicUsize::new(0);
static PORT: AtomicU32 = AtomicU32::new(0);

/// `struct xencons_interface`: output of 2 KiB at 1024, then the indices.
const OUT: usize = 1024;
const OUT_SIZE: u32 = 2048;
const OUT_CONS: usize = 3080;
const OUT_PROD: usize = 3084;

/// Sets up hypercalls and the console.
pub fn init() {
    xen::init();
    PORT.store(xen::get_param(param::CONSOLE_EVTCHN) as u32, Ordering::Release);
    RING.store((xen::get_param(param::CONSOLE_PFN) << 12) as usize, Ordering::Release);
}

/// Bytes that the back end has not taken yet.
fn left(ring: usize) -> u32 {
    mem::read::<u32>(ring + OUT_PROD).wrapping_sub(mem::read(ring + OUT_CONS))
}

/// Puts one byte into the console's ring; a line's end rings.
pub fn send(byte: u8) {
    let ring = RING.load(Ordering::Acquire);
    if ring == 0 {
        return;
    }
    if left(ring) >= OUT_SIZE {
        drain();
    }
    let prod: u32 = mem::read(ring + OUT_PROD);
    mem::write(ring + OUT + (prod % OUT_SIZE) as usize, byte);
    // The byte before the index.
    fence(Ordering::SeqCst);
    mem::write(ring + OUT_PROD, prod.wrapping_add(1));
    if byte == b'\n' {
        xen::port_op(evtchn::SEND, PORT.load(Ordering::Acquire));
    }
}

/// Waits until the back end has taken everything.
pub fn drain() {
    let ring = RING.load(Ordering::Acquire);
    // A console that does not listen must not hang the verdict.
    for _ in 0..100_000 {
        if ring == 0 || left(ring) == 0 {
            break;
        }
        xen::port_op(evtchn::SEND, PORT.load(Ordering::Acquire));
    }
}

/// Switches off: `SCHEDOP_shutdown` with the reason poweroff.
pub fn off() -> ! {
    let mut reason = 0u32;
    xen::operate(call::SCHED_OP, 2, &mut reason);
    loop {
        cpu::cli();
        cpu::hlt();
    }
}
