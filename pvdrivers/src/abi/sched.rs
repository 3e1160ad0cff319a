//! `sched_op`: yield, block, poll, shutdown, watchdog. Xen public "sched.h".

use super::layout::{layouts, numbers};
use arch::GuestVirt;

numbers! {
    /// `SCHEDOP_*`.
    SchedOp: u32 {
        /// Gives the CPU away; no argument.
        YIELD = 0,
        /// Enables upcalls and waits for an event; no argument.
        BLOCK = 1,
        /// [`Shutdown`].
        SHUTDOWN = 2,
        /// [`Poll`].
        POLL = 3,
        /// [`RemoteShutdown`]; for the privileged.
        REMOTE_SHUTDOWN = 4,
        /// [`Shutdown`]: the reason for when the domain later shuts down.
        SHUTDOWN_CODE = 5,
        /// [`Watchdog`].
        WATCHDOG = 6,
        /// Dom0 only.
        PIN_OVERRIDE = 7,
    }
}

numbers! {
    /// `SHUTDOWN_*`: why a domain shut down.
    ShutdownReason: u32 {
        /// It is done.
        POWEROFF = 0,
        /// Start it again.
        REBOOT = 1,
        /// Save it; the call returns 1 where that was cancelled.
        SUSPEND = 2,
        /// It crashed.
        CRASH = 3,
        /// Its watchdog fired.
        WATCHDOG = 4,
        /// Start over with memory as it is.
        SOFT_RESET = 5,
    }
}

layouts! {
    /// Shutdown and its reason.
    Shutdown: 4 / 4 {
        /// [`ShutdownReason`].
        reason: u32 = 0 / 0,
    }
    /// Waits until one of several ports is pending.
    Poll: 24 / 16 {
        /// An array of 4-byte ports.
        ports: GuestVirt = 0 / 0,
        /// How many; at most [`MAX_POLL_PORTS`].
        nr_ports: u32 = 8 / 4,
        /// System time in nanoseconds at which to give up; 0 never.
        timeout: u64 = 16 / 8,
    }
    /// Another domain's shutdown.
    RemoteShutdown: 8 / 8 {
        /// Whose.
        domain_id: u16 = 0 / 0,
        /// [`ShutdownReason`].
        reason: u32 = 4 / 4,
    }
    /// Sets, pokes and removes a watchdog.
    Watchdog: 8 / 8 {
        /// 0 asks for a new one, whose number is returned.
        id: u32 = 0 / 0,
        /// Seconds; 0 removes it.
        timeout: u32 = 4 / 4,
    }
}

/// A `poll` of more ports is refused with `EINVAL`.
pub const MAX_POLL_PORTS: u32 = 128;
/// Watchdogs of one domain (`NR_DOMAIN_WATCHDOG_TIMERS`).
pub const WATCHDOGS: usize = 2;
