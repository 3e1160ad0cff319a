//! A panic while this CPU works for one guest costs that guest only: [`catch`] notes where the work
//! began, and the panic hook goes back there. Nothing is unwound: the guest is `broken` and its machine is
//! never touched again. Locks of what guests share are given back, as it was left.

// UNSAFETY: leaves a call by restoring the stack pointer, as longjmp does.

use core::fmt::Write;
use core::panic::PanicInfo;
use core::sync::atomic::Ordering;

use heapless::String;
use machine::xen::shared::Shared;

use crate::cpu::lock::IrqLock;
use crate::cpu::{self, percpu};
use crate::panic::set_hook;

// rescue_call(work, data, saved): calls work(data) with the stack pointer in *saved; 0, or 1 where
// rescue_return(*saved) ended it. The callee-saved registers are on the stack below it.
core::arch::global_asm!(
    "rescue_call:",
    "push rbp",
    "push rbx",
    "push r12",
    "push r13",
    "push r14",
    "push r15",
    "sub rsp, 8",
    "mov [rdx], rsp",
    "mov rax, rdi",
    "mov rdi, rsi",
    "call rax",
    "xor eax, eax",
    "2: add rsp, 8",
    "pop r15",
    "pop r14",
    "pop r13",
    "pop r12",
    "pop rbx",
    "pop rbp",
    "ret",
    "rescue_return:",
    "mov rsp, rdi",
    "mov eax, 1",
    "cld",
    "jmp 2b",
);

unsafe extern "C" {
    fn rescue_call(work: extern "C" fn(*mut ()), data: *mut (), saved: *mut usize) -> u64;
    fn rescue_return(saved: usize) -> !;
}

/// What the last panic that was caught said.
static TEXT: IrqLock<String<240>> = IrqLock::new(String::new());

/// What the last panic that was caught said.
#[must_use]
pub fn last() -> String<240> {
    TEXT.lock().clone()
}

struct Job<F, R> {
    work: Option<F>,
    result: Option<R>,
}

extern "C" fn perform<F: FnOnce() -> R, R>(job: *mut ()) {
    // SAFETY: `catch` passes its own job, of these types, and does not touch it meanwhile.
    let job = unsafe { &mut *job.cast::<Job<F, R>>() };
    if let Some(work) = job.work.take() {
        job.result = Some(work());
    }
}

/// Does `work`. `None`: it panicked, and interrupts are closed; what it said is in the log and in
/// [`last`]. May be nested.
pub fn catch<F: FnOnce() -> R, R>(work: F) -> Option<R> {
    let cpu = percpu::this();
    let outer = cpu.user.load(Ordering::Relaxed);
    let outer_held = cpu.held_before.swap(cpu.held.mark(), Ordering::Relaxed);
    let mut job = Job { work: Some(work), result: None };
    set_hook(Some(caught));
    let data = (&raw mut job).cast();
    // SAFETY: `data` is the job that `perform` expects, and the place for the stack pointer is this
    // CPU's own. What a panic leaves behind on the stack is never used again.
    let panicked = unsafe { rescue_call(perform::<F, R>, data, cpu.user.as_ptr()) };
    cpu.user.store(outer, Ordering::Relaxed);
    cpu.held_before.store(outer_held, Ordering::Relaxed);
    set_hook((outer != 0).then_some(caught as fn(&PanicInfo<'_>)));
    if panicked != 0 { None } else { job.result }
}

fn caught(info: &PanicInfo<'_>) {
    let this = percpu::this();
    // SAFETY: this CPU's list, and `rescue_return` leaves the frames of whoever took them since.
    let freed = unsafe { this.held.give_back(this.held_before.load(Ordering::Relaxed)) };
    if !freed {
        // The host's own memory is half changed: the machine ends.
        return;
    }
    let hub = super::pv::hub();
    give_back(&hub.events, this.id);
    give_back(&hub.grants, this.id);
    give_back(&hub.memories.rams, this.id);
    give_back(&hub.memories.held, this.id);
    let mut text = String::new();
    match info.location() {
        Some(place) => drop(write!(text, "{} at {place}", info.message())),
        None => drop(write!(text, "{}", info.message())),
    }
    log::error!("panic while serving a guest: {text}");
    *TEXT.lock() = text;
    let rsp: u64;
    // SAFETY: copies a register.
    unsafe { core::arch::asm!("mov {}, rsp", out(reg) rsp, options(nomem, nostack)) };
    let mut trace = String::<480>::new();
    cpu::backtrace(&mut trace, rsp);
    log::error!("{}", trace.trim());
    // SAFETY: the hook is set only within `catch`, whose frame the stack pointer belongs to.
    unsafe { rescue_return(this.user.load(Ordering::Relaxed)) }
}

/// Opens a lock of what guests share that this CPU held. No [`catch`] begins while one of them is held.
fn give_back<T>(shared: &Shared<T>, cpu: usize) {
    if shared.holder() == Some(cpu) {
        // SAFETY: this CPU holds it, by a guard in a frame that `rescue_return` leaves for ever.
        unsafe { shared.lock_of_lost_holder().force_unlock() };
    }
}
