//! Hyper-V's guest interface, as much of it as Windows wants of a Xen guest with `viridian = 1`: CPUID leaves and
//! synthetic MSRs for time, frequencies, the local APIC and crash reports, and a hypercall page.
//! Microsoft "Hypervisor Top Level Functional Specification" (TLFS); groups as in xl.cfg(5) "viridian".
//!
//! With it Xen's own leaves begin at 4000_0100h, and Xen's hypercall page has another MSR.

pub mod cpuid;
mod msrs;

pub(crate) use msrs::ALL as MSRS;

use crate::Machine;
use crate::xen::hypercall::Outcome;
use arch::{GuestPhys, Vcpu};
use bitflags::bitflags;
use spin::Mutex;

bitflags! {
    /// Parts of the interface that a guest is offered.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
    pub struct Groups: u8 {
        /// Hypercall page, number of the vCPU.
        const BASE = 1 << 0;
        /// Frequencies of the TSC and of the local APIC's timer.
        const FREQ = 1 << 1;
        /// A counter of 100 ns from power-on, read with an exit.
        const TIME_REF_COUNT = 1 << 2;
        /// The same without an exit: a page that says how it follows from the TSC.
        const REFERENCE_TSC = 1 << 3;
        /// Registers of the local APIC as MSRs, and a page for each vCPU beside it.
        const APIC_ASSIST = 1 << 4;
        /// Five words about the guest's crash, for the log.
        const CRASH_CTL = 1 << 5;
    }
}

impl Groups {
    /// What `viridian = 1` and the group `defaults` mean (xl.cfg(5) "viridian").
    pub const DEFAULTS: Groups = Groups::BASE
        .union(Groups::FREQ)
        .union(Groups::TIME_REF_COUNT)
        .union(Groups::APIC_ASSIST)
        .union(Groups::CRASH_CTL);

    /// The group, or groups, of this name in xl.cfg(5).
    #[must_use]
    pub fn named(name: &str) -> Option<Groups> {
        Some(match name {
            "base" => Groups::BASE,
            "freq" => Groups::FREQ,
            "time_ref_count" => Groups::TIME_REF_COUNT,
            "reference_tsc" => Groups::REFERENCE_TSC,
            "apic_assist" => Groups::APIC_ASSIST,
            "crash_ctl" => Groups::CRASH_CTL,
            "defaults" => Groups::DEFAULTS,
            "all" => Groups::all(),
            _ => return None,
        })
    }
}

/// Set in EAX by the code of the hypercall page, and in no number of Xen's hypercalls.
const CALL: u64 = 1 << 31;
/// `HvCallNotifyLongSpinWait`: a vCPU waits for a lock that another one has.
const NOTIFY_LONG_SPIN_WAIT: u64 = 8;
const SUCCESS: i64 = 0;
/// `HV_STATUS_INVALID_HYPERCALL_CODE`.
const INVALID_HYPERCALL_CODE: i64 = 2;

/// What the guest has written.
#[derive(Debug, Default)]
struct State {
    guest_os: u64,
    hypercall: u64,
    reference_tsc: u64,
    crash: [u64; 5],
}

/// One guest's interface.
#[derive(Debug)]
pub struct Viridian {
    groups: Groups,
    state: Mutex<State>,
}

impl Viridian {
    /// For a guest that has not run yet.
    #[must_use]
    pub fn new(groups: Groups) -> Viridian {
        Viridian { groups, state: Mutex::default() }
    }

    /// As at power-on.
    pub fn reset(&self) {
        *self.state.lock() = State::default();
    }
}

impl Machine {
    /// A hypercall by the page of this interface: `None` where it is none.
    #[cold]
    pub(crate) fn viridian_call<V: Vcpu>(&self, vcpu: &mut V, wide: bool) -> Option<Outcome> {
        self.viridian.as_ref()?;
        let gprs = vcpu.gprs_mut();
        if gprs.rax() & CALL == 0 {
            return None;
        }
        // TLFS "Hypercall Inputs": RCX, or EDX:EAX; the code is in the low 16 bits.
        let code = if wide { gprs.rcx() } else { gprs.rax() } & 0xffff;
        if !wide {
            gprs.set_rdx(0);
        }
        Some(match code {
            NOTIFY_LONG_SPIN_WAIT => Outcome::Yield(SUCCESS),
            _ => Outcome::Done(INVALID_HYPERCALL_CODE),
        })
    }

    /// Puts the code of the hypercall page where the guest wants it: `or eax, 80000000h; vmcall` (`vmmcall`); `ret`.
    fn place_viridian_page(&self, at: u64) {
        let call = if self.cpuid.is_amd() { 0xd9 } else { 0xc1 };
        let code = [0x0d, 0, 0, 0, 0x80, 0x0f, 0x01, call, 0xc3];
        self.overlay(at, &code);
    }

    /// A page of zeros but for its beginning; a place that is no RAM is told of, and stays as it is.
    fn overlay(&self, at: u64, bytes: &[u8]) {
        let mut page = [0; 4096];
        page.iter_mut().zip(bytes).for_each(|(to, from)| *to = *from);
        if self.ram.write_slice(GuestPhys(at), &page).is_err() {
            log::warn!("viridian: the page at {at:#x} is not in memory");
        }
    }
}
