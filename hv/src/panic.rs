//! A panic: written out on COM1, the other CPUs stopped, the machine ended as `exit=` says.
//! Whoever serves a guest may take panics of its CPU instead, and give up only that guest.

// UNSAFETY: turns a stored address back into the function pointer that was stored.

use core::fmt::Write;
use core::panic::PanicInfo;
use core::sync::atomic::{AtomicBool, Ordering};

use crate::cpu::power::{self, Code};
use crate::cpu::{self, percpu, smp};
use crate::drivers::control;
use crate::drivers::serial::{self, Emergency};

/// Takes a panic of this CPU. It must not return to have the machine go on; if it returns, the
/// machine stops as if it had not been there. Locks that the panicking code held stay held.
pub type Hook = fn(&PanicInfo<'_>);

/// While a hook is set, panics of this CPU go to it, once: it is taken off before it is called.
pub fn set_hook(hook: Option<Hook>) {
    let address = hook.map_or(0, |hook| hook as *const () as usize);
    percpu::this().panic_hook.store(address, Ordering::Release);
}

static PANICKED: AtomicBool = AtomicBool::new(false);

#[panic_handler]
fn panic(info: &PanicInfo<'_>) -> ! {
    cpu::lock::close_interrupts();
    let address = percpu::this().panic_hook.swap(0, Ordering::AcqRel);
    if address != 0 {
        // SAFETY: `set_hook` stored a `Hook` here.
        let hook = unsafe { core::mem::transmute::<usize, Hook>(address) };
        hook(info);
    }
    if PANICKED.swap(true, Ordering::SeqCst) {
        // The second panic, of this CPU or another: one report is enough.
        cpu::halt_for_ever();
    }
    if percpu::count() > 1 {
        smp::stop_others();
    }
    serial::flush_all();
    let mut out = Emergency;
    let _ = writeln!(out, "\nXenolith panic on CPU {}: {info}", percpu::this().id);
    control::panic(format_args!("CPU {}: {info}", percpu::this().id));
    let rsp: u64;
    // SAFETY: copies a register.
    unsafe { core::arch::asm!("mov {}, rsp", out(reg) rsp, options(nomem, nostack)) };
    cpu::backtrace(&mut out, rsp);
    power::stop(Code::Panic)
}
