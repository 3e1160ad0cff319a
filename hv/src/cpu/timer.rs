//! One one-shot timer per CPU. `arm` sets when it fires, in TSC ticks; the handler that
//! `set_handler` named runs on that CPU. It may fire early: look at the clock and arm again.

// UNSAFETY: WRMSR of the deadline.

use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use super::apic::{self, TimerMode};
use super::{irq, percpu, tsc};

static DEADLINE_MODE: AtomicBool = AtomicBool::new(false);
/// APIC timer ticks per TSC tick, as 32.32 fixed point.
static APIC_PER_TSC: AtomicU64 = AtomicU64::new(0);

/// Finds mode and rate. Called once on the boot CPU, with the TSC calibrated and the APIC open.
pub fn init() -> TimerMode {
    let deadline = raw_cpuid::CpuId::new().get_feature_info().is_some_and(|f| f.has_tsc_deadline());
    DEADLINE_MODE.store(deadline, Ordering::Relaxed);
    if !deadline {
        apic::timer_mode(TimerMode::OneShot);
        // The interrupt is not wanted here; interrupts are still closed, and it never gets to 0.
        apic::timer_start(u32::MAX);
        let (start, from) = tsc::sample(apic::timer_left);
        tsc::delay_us(10_000);
        let (end, left) = tsc::sample(apic::timer_left);
        let (ticks, counted) = (end.saturating_sub(start), from.saturating_sub(left));
        apic::timer_start(0);
        let ratio = (u128::from(counted) << 32) / u128::from(ticks.max(1));
        APIC_PER_TSC.store(ratio as u64, Ordering::Relaxed);
    }
    irq::register(irq::TIMER, fired, 0);
    if deadline { TimerMode::TscDeadline } else { TimerMode::OneShot }
}

/// Prepares this CPU's timer. Called on each CPU.
pub fn init_cpu() {
    let deadline = DEADLINE_MODE.load(Ordering::Relaxed);
    apic::timer_mode(if deadline { TimerMode::TscDeadline } else { TimerMode::OneShot });
}

/// Calls `handler(0)` in interrupt context when a timer fires, on its CPU.
pub fn set_handler(handler: irq::Handler) {
    assert!(irq::register(irq::TIMER, handler, 0), "too many timer handlers");
}

/// Fires this CPU's timer at TSC value `when` or at once if that has passed; replaces the former.
#[inline]
pub fn arm(when: u64) {
    percpu::this().deadline.store(when, Ordering::Relaxed);
    if DEADLINE_MODE.load(Ordering::Relaxed) {
        // Writing 0 disarms, so "long ago" is 1.
        // SAFETY: the MSR exists in this mode, any value is legal.
        unsafe { x86::msr::wrmsr(x86::msr::IA32_TSC_DEADLINE, when.max(1)) };
        return;
    }
    let ticks = when.saturating_sub(tsc::now());
    let count = (u128::from(ticks) * u128::from(APIC_PER_TSC.load(Ordering::Relaxed))) >> 32;
    // One more, so that it does not fire just before the deadline.
    apic::timer_start(u32::try_from(count + 1).unwrap_or(u32::MAX));
}

/// Stops this CPU's timer.
pub fn disarm() {
    percpu::this().deadline.store(u64::MAX, Ordering::Relaxed);
    if DEADLINE_MODE.load(Ordering::Relaxed) {
        // SAFETY: 0 disarms.
        unsafe { x86::msr::wrmsr(x86::msr::IA32_TSC_DEADLINE, 0) };
    } else {
        apic::timer_start(0);
    }
}

/// Runs before the registered handlers: nothing is armed any more.
fn fired(_: usize) {
    percpu::this().deadline.store(u64::MAX, Ordering::Relaxed);
}
