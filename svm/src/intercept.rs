//! What makes a guest exit, by need (APM2 "Intercept Operation", VMCB offsets 000h to 014h).
//!
//! Not intercepted under nested paging: control registers (CR8 only while a window is wanted),
//! debug registers, INVLPG, RDTSC, task switches, WBINVD. A guest with CR0.CD set is slow, as on
//! the bare machine.
#![allow(missing_docs, reason = "the names of the bits are the manual's own")]

use crate::caps::{Caps, Features};
use bitflags::bitflags;

bitflags! {
    /// VMCB offset 00Ch.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct Misc1: u32 {
        const INTR = 1;
        const NMI = 1 << 1;
        const SMI = 1 << 2;
        const INIT = 1 << 3;
        const VINTR = 1 << 4;
        const RDTSC = 1 << 14;
        const RDPMC = 1 << 15;
        const CPUID = 1 << 18;
        const IRET = 1 << 20;
        const INTN = 1 << 21;
        const INVD = 1 << 22;
        const PAUSE = 1 << 23;
        const HLT = 1 << 24;
        const INVLPG = 1 << 25;
        const INVLPGA = 1 << 26;
        const IOIO_PROT = 1 << 27;
        const MSR_PROT = 1 << 28;
        const TASK_SWITCH = 1 << 29;
        const FERR_FREEZE = 1 << 30;
        const SHUTDOWN = 1 << 31;
    }
}

bitflags! {
    /// VMCB offset 010h.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct Misc2: u32 {
        const VMRUN = 1;
        const VMMCALL = 1 << 1;
        const VMLOAD = 1 << 2;
        const VMSAVE = 1 << 3;
        const STGI = 1 << 4;
        const CLGI = 1 << 5;
        const SKINIT = 1 << 6;
        const RDTSCP = 1 << 7;
        const ICEBP = 1 << 8;
        const WBINVD = 1 << 9;
        const MONITOR = 1 << 10;
        const MWAIT = 1 << 11;
        const MWAIT_ARMED = 1 << 12;
        const XSETBV = 1 << 13;
        const RDPRU = 1 << 14;
    }
}

/// Writes of CR8 in the control-register word (offset 000h, writes in the upper half).
pub const CR8_WRITE: u32 = 1 << (16 + 8);

/// Exceptions that are always intercepted: #MC is the host's business; #DB and #AC can recur in
/// their own delivery without end (CVE-2015-8104, CVE-2015-5307).
pub const EXCEPTIONS: u32 = 1 << 1 | 1 << 17 | 1 << 18;

/// How many PAUSEs in a row exit, and how many cycles apart they still count as in a row.
pub const PAUSE_COUNT: u16 = 3000;
/// Cycles.
pub const PAUSE_THRESHOLD: u16 = 128;

/// Intercepts of a guest on this CPU, offsets 00Ch and 010h.
#[must_use]
pub fn by_need(caps: &Caps) -> (Misc1, Misc2) {
    // VINTR is added for interrupt windows.
    let mut misc1 = Misc1::INTR
        | Misc1::NMI
        | Misc1::INIT
        | Misc1::RDPMC
        | Misc1::CPUID
        | Misc1::INVD
        | Misc1::HLT
        | Misc1::INVLPGA
        | Misc1::IOIO_PROT
        | Misc1::MSR_PROT
        | Misc1::SHUTDOWN;
    if caps.has(Features::PAUSE_FILTER) {
        misc1 |= Misc1::PAUSE;
    }
    let misc2 = Misc2::VMRUN
        | Misc2::VMMCALL
        | Misc2::VMLOAD
        | Misc2::VMSAVE
        | Misc2::STGI
        | Misc2::CLGI
        | Misc2::SKINIT
        | Misc2::MONITOR
        | Misc2::MWAIT
        | Misc2::MWAIT_ARMED
        | Misc2::XSETBV
        | Misc2::RDPRU;
    (misc1, misc2)
}
