//! Xen's interface from the guest's side: how it is found, hypercalls, parameters, shared info,
//! time and event channels. Memory is 1:1, so an argument's address is its linear address.

use crate::{cpu, mem};
use core::arch::asm;
use core::sync::atomic::{AtomicU8, AtomicU32, AtomicU64, AtomicUsize, Ordering};

/// The caller's own domain, in arguments.
pub const SELF: u16 = 0x7ff0;

/// Hypercalls by number (`__HYPERVISOR_*`).
#[allow(missing_docs, reason = "the headers' own names")]
pub mod call {
    pub const MEMORY_OP: u32 = 12;
    pub const SET_TIMER_OP: u32 = 15;
    pub const XEN_VERSION: u32 = 17;
    pub const CONSOLE_IO: u32 = 18;
    pub const GRANT_TABLE_OP: u32 = 20;
    pub const VCPU_OP: u32 = 24;
    pub const SCHED_OP: u32 = 29;
    pub const EVENT_CHANNEL_OP: u32 = 32;
    pub const HVM_OP: u32 = 34;
}

/// Errors as hypercalls return them.
#[allow(missing_docs, reason = "the headers' own names")]
pub mod errno {
    pub const EPERM: i64 = -1;
    pub const ENOENT: i64 = -2;
    pub const ESRCH: i64 = -3;
    pub const EEXIST: i64 = -17;
    pub const EINVAL: i64 = -22;
    pub const ENOSYS: i64 = -38;
    pub const ETIME: i64 = -62;
    pub const EOPNOTSUPP: i64 = -95;
}

/// HVM parameters by number (`HVM_PARAM_*`).
#[allow(missing_docs, reason = "the headers' own names")]
pub mod param {
    pub const CALLBACK_IRQ: u32 = 0;
    pub const STORE_PFN: u32 = 1;
    pub const STORE_EVTCHN: u32 = 2;
    pub const CONSOLE_PFN: u32 = 17;
    pub const CONSOLE_EVTCHN: u32 = 18;
}

/// Operations on event channels (`EVTCHNOP_*`).
#[allow(missing_docs, reason = "the headers' own names")]
pub mod evtchn {
    pub const BIND_INTERDOMAIN: u64 = 0;
    pub const BIND_VIRQ: u64 = 1;
    pub const CLOSE: u64 = 3;
    pub const SEND: u64 = 4;
    pub const ALLOC_UNBOUND: u64 = 6;
    pub const BIND_IPI: u64 = 7;
    pub const UNMASK: u64 = 9;
    pub const INIT_CONTROL: u64 = 11;
    pub const EXPAND_ARRAY: u64 = 12;
}

static PAGE: AtomicUsize = AtomicUsize::new(0);
static SHARED: AtomicUsize = AtomicUsize::new(0);

/// The first of Xen's CPUID leaves: another hypervisor's interface may come before.
pub fn leaf() -> Option<u32> {
    (0x4000_0000..0x4001_0000).step_by(256).find(|leaf| {
        let [last, b, c, d] = cpu::cpuid(*leaf, 0);
        let name = [b"XenV", b"MMXe", b"nVMM"].map(|part| u32::from_le_bytes(*part));
        [b, c, d] == name && last >= *leaf + 2
    })
}

/// Finds Xen and sets the hypercall page up; gives the first CPUID leaf.
pub fn init() -> u32 {
    let leaf = leaf().expect("no Xen in CPUID");
    let [pages, msr, ..] = cpu::cpuid(leaf + 2, 0);
    assert!(pages >= 1, "no hypercall page");
    let page = mem::pages(1);
    cpu::wrmsr(msr, page as u64);
    PAGE.store(page, Ordering::Release);
    leaf
}

/// The number of this domain, which CPUID tells (since Xen 4.7).
pub fn own_domid(leaf: u32) -> Option<u16> {
    let [flags, _, domid, _] = cpu::cpuid(leaf + 4, 0);
    (flags & 1 << 4 != 0).then_some(domid as u16)
}

/// Calls entry `number` of the hypercall page.
pub fn hypercall(number: u32, args: [u64; 5]) -> i64 {
    let entry = PAGE.load(Ordering::Acquire) + number as usize * 32;
    let result: i64;
    // SAFETY: the hypervisor has written the page: it calls and returns. The arguments' memory is
    // the test's own.
    unsafe {
        asm!(
            "call {entry}",
            entry = in(reg) entry,
            out("rax") result,
            inout("rdi") args[0] => _,
            inout("rsi") args[1] => _,
            inout("rdx") args[2] => _,
            inout("r10") args[3] => _,
            inout("r8") args[4] => _,
        )
    };
    result
}

/// A hypercall whose second argument is the address of a structure.
pub fn operate<T>(number: u32, operation: u64, arg: &mut T) -> i64 {
    hypercall(number, [operation, core::ptr::from_mut(arg) as u64, 0, 0, 0])
}

/// An operation on event channels.
pub fn event_op<T>(operation: u64, arg: &mut T) -> i64 {
    operate(call::EVENT_CHANNEL_OP, operation, arg)
}

#[repr(C)]
struct HvmParam(u16, u16, u32, u64);

/// Reads an HVM parameter.
pub fn get_param(index: u32) -> u64 {
    let mut arg = HvmParam(SELF, 0, index, 0);
    assert_eq!(operate(call::HVM_OP, 1, &mut arg), 0, "parameter {index}");
    arg.3
}

/// Sets an HVM parameter.
pub fn set_param(index: u32, value: u64) {
    let mut arg = HvmParam(SELF, 0, index, value);
    assert_eq!(operate(call::HVM_OP, 0, &mut arg), 0, "parameter {index}");
}

/// Lets Xen show one of its pages at a page of ours (`XENMEM_add_to_physmap`): space 0 has the
/// shared info page, 1 the grant table.
pub fn show_page(space: u32, index: u64, address: usize) {
    #[repr(C)]
    struct AddToPhysmap(u16, u16, u32, u64, u64);
    let mut arg = AddToPhysmap(SELF, 0, space, index, address as u64 >> 12);
    assert_eq!(operate(call::MEMORY_OP, 7, &mut arg), 0, "add_to_physmap");
}

/// The shared info page; the first call shows it at a page of ours.
pub fn shared_info() -> usize {
    if SHARED.load(Ordering::Acquire) == 0 {
        let page = mem::pages(1);
        show_page(0, 0, page);
        SHARED.store(page, Ordering::Release);
    }
    SHARED.load(Ordering::Acquire)
}

/// The time record of vCPU 0 in the shared info page.
fn time_record() -> usize {
    shared_info() + 32
}

fn fence() {
    // SAFETY: only orders loads, RDTSC among them.
    unsafe { core::arch::x86_64::_mm_lfence() };
}

/// Nanoseconds since the guest began, from shared info and the TSC: no exit.
pub fn nanoseconds() -> u64 {
    let record = time_record();
    loop {
        let version: u32 = mem::read(record);
        fence();
        let ticks = cpu::rdtsc().wrapping_sub(mem::read(record + 8));
        let (base, factor): (u64, u32) = (mem::read(record + 16), mem::read(record + 24));
        let shift: i8 = mem::read(record + 28);
        fence();
        // Odd, or another than before: the record changed while it was read.
        if version & 1 == 0 && mem::read::<u32>(record) == version {
            let ticks = if shift < 0 { ticks >> -shift } else { ticks << shift };
            return base + (u128::from(ticks) * u128::from(factor) >> 32) as u64;
        }
    }
}

/// Seconds and nanoseconds since 1970 at which [`nanoseconds`] was 0.
pub fn wall_at_zero() -> (u64, u32) {
    let record = shared_info() + 3072;
    loop {
        let version: u32 = mem::read(record);
        fence();
        let (low, high): (u32, u32) = (mem::read(record + 4), mem::read(record + 12));
        let nanos: u32 = mem::read(record + 8);
        fence();
        if version & 1 == 0 && mem::read::<u32>(record) == version {
            return (u64::from(high) << 32 | u64::from(low), nanos);
        }
    }
}

/// Lets events come by a vector of the IDT, which needs no end-of-interrupt.
pub fn callback_by(vector: u8) {
    set_param(param::CALLBACK_IRQ, 2 << 56 | u64::from(vector));
}

/// Lets events come to one vCPU by a vector of its own, which its local APIC delivers (`HVMOP_set_evtchn_upcall_vector`).
pub fn upcall_by(vcpu: u32, vector: u8) {
    assert_eq!(operate(call::HVM_OP, 23, &mut [vcpu, vector.into()]), 0, "vector of vCPU {vcpu}");
}

/// Takes the announcement of events: clears `evtchn_upcall_pending` and the selector of vCPU 0.
pub fn take_upcall() -> u64 {
    take_upcall_of(0)
}

/// The same of vCPU `vcpu`, of the 32 that have their `vcpu_info` in the shared info page.
pub fn take_upcall_of(vcpu: usize) -> u64 {
    assert!(vcpu < 32, "vCPU {vcpu}");
    let info = shared_info() + vcpu * 64;
    // SAFETY: both lie in the shared info page, which stays mapped, and are aligned.
    unsafe {
        AtomicU8::from_ptr(info as *mut u8).swap(0, Ordering::SeqCst);
        AtomicU64::from_ptr((info + 8) as *mut u64).swap(0, Ordering::SeqCst)
    }
}

/// One of the 4,096 bits of the 2-level ABI: pending from 2048 on, mask from 2560 on.
fn bits(field: usize, port: u32) -> (&'static AtomicU64, u64) {
    let word = shared_info() + field + (port as usize / 64 & 63) * 8;
    // SAFETY: it lies in the shared info page, which stays mapped, and is aligned.
    (unsafe { AtomicU64::from_ptr(word as *mut u64) }, 1 << (port % 64))
}

/// Takes a port's pending bit: whether it was set.
pub fn take(port: u32) -> bool {
    let (word, bit) = bits(2048, port);
    word.fetch_and(!bit, Ordering::SeqCst) & bit != 0
}

/// Whether a port is pending.
pub fn is_pending(port: u32) -> bool {
    let (word, bit) = bits(2048, port);
    word.load(Ordering::SeqCst) & bit != 0
}

/// Masks a port: what comes is pending and not announced.
pub fn mask(port: u32) {
    let (word, bit) = bits(2560, port);
    word.fetch_or(bit, Ordering::SeqCst);
}

/// An operation on one port (send, unmask, close).
pub fn port_op(operation: u64, port: u32) -> i64 {
    let mut arg = port;
    event_op(operation, &mut arg)
}

/// Sends through a port that is connected.
pub fn send(port: u32) {
    assert_eq!(port_op(evtchn::SEND, port), 0, "send to port {port}");
}

/// Binds a virtual interrupt of vCPU 0; gives the port or the error.
pub fn bind_virq(virq: u32) -> Result<u32, i64> {
    let mut arg = [virq, 0, 0];
    match event_op(evtchn::BIND_VIRQ, &mut arg) {
        0 => Ok(arg[2]),
        error => Err(error),
    }
}

/// A port for interrupts to a vCPU; gives the port or the error.
pub fn bind_ipi(vcpu: u32) -> Result<u32, i64> {
    let mut arg = [vcpu, 0];
    match event_op(evtchn::BIND_IPI, &mut arg) {
        0 => Ok(arg[1]),
        error => Err(error),
    }
}

/// Sleeps until a port is pending, masked or not, or until a time (0: no end) in [`nanoseconds`].
pub fn poll(port: u32, until: u64) -> i64 {
    #[repr(C)]
    struct Poll(*const u32, u32, u64);
    let ports = AtomicU32::new(port);
    let mut arg = Poll(ports.as_ptr(), 1, until);
    operate(call::SCHED_OP, 3, &mut arg)
}

/// Writes to the hypervisor's own log.
pub fn console_io(text: &[u8]) {
    let args = [0, text.len() as u64, text.as_ptr() as u64, 0, 0];
    assert_eq!(hypercall(call::CONSOLE_IO, args), 0, "console_io");
}
