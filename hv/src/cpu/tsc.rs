//! The time-stamp counter: its rate, found once at boot, and conversions.
//! Sources in order: the hypervisor's leaf, CPUID 15h if a measurement agrees, measuring against PM timer, HPET
//! or PIT, CPUID 16h, the RTC's seconds. Of these a machine may lack any; the PIT's clock may be off.

// UNSAFETY: RDTSC, port I/O and the HPET's registers for the measurement, IA32_TSC_ADJUST.

use core::sync::atomic::{AtomicU64, Ordering};

use super::acpi::Platform;
use super::msr;
use crate::mem::{Cache, Phys, map_mmio};

static HZ: AtomicU64 = AtomicU64::new(0);
static START: AtomicU64 = AtomicU64::new(0);
/// Nanoseconds per tick, as 32.32 fixed point.
static NS_PER_TICK: AtomicU64 = AtomicU64::new(0);

const PM_TIMER_HZ: u64 = 3_579_545;
const PIT_HZ: u64 = 1_193_182;
/// The measurement takes this fraction of a second.
const MEASURE: u64 = 50;
const IA32_TSC_ADJUST: u32 = 0x3b;
/// Reads of an RTC that stands still before it is given up. Those of a second are a million on fast machines.
const RTC_PATIENCE: u32 = 20_000_000;

/// How often [`sample`] tries.
const SAMPLES: u32 = 8;

/// Where the rate came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// A hypervisor below us said so (leaf 4000_0010h).
    Hypervisor,
    /// CPUID 15h.
    Cpuid,
    /// Measured against the ACPI PM timer.
    PmTimer,
    /// Measured against the HPET.
    Hpet,
    /// Measured against the PIT.
    Pit,
    /// CPUID 16h, the base frequency.
    BaseFrequency,
    /// A second of the RTC's.
    Rtc,
}

/// The counter now.
#[inline]
#[must_use]
pub fn now() -> u64 {
    // SAFETY: CR4.TSD is 0.
    unsafe { x86::time::rdtsc() }
}

/// Ticks per second; 0 before [`calibrate`].
#[must_use]
pub fn hz() -> u64 {
    HZ.load(Ordering::Relaxed)
}

/// Nanoseconds since [`start`]; 0 while the rate is unknown.
#[must_use]
pub fn uptime_ns() -> u64 {
    to_ns(ticks())
}

/// Ticks since [`start`].
#[must_use]
pub fn ticks() -> u64 {
    now().saturating_sub(START.load(Ordering::Relaxed))
}

/// Ticks to nanoseconds.
#[inline]
#[must_use]
pub fn to_ns(ticks: u64) -> u64 {
    ((u128::from(ticks) * u128::from(NS_PER_TICK.load(Ordering::Relaxed))) >> 32) as u64
}

/// Nanoseconds to ticks, rounded up; saturates.
#[must_use]
pub fn from_ns(ns: u64) -> u64 {
    let ticks = (u128::from(ns) * u128::from(hz())).div_ceil(1_000_000_000);
    u64::try_from(ticks).unwrap_or(u64::MAX)
}

/// Notes the start of time. Called first thing.
pub fn start() {
    START.store(now(), Ordering::Relaxed);
}

/// Finds the rate. `None` where nothing tells it.
pub fn calibrate(platform: &Platform) -> Option<Source> {
    let counter = || {
        let pm_timer = platform.pm_timer.and_then(measure_pm_timer);
        pm_timer.or_else(|| platform.hpet.and_then(measure_hpet))
    };
    let (hz, source) = from_hypervisor()
        .or_else(|| believed(from_cpuid(), counter()))
        .or_else(measure_pit)
        .or_else(from_base_frequency)
        .or_else(measure_rtc)?;
    // Below 1 MHz nothing works; a broken measurement must not divide by zero later.
    let hz = hz.max(1_000_000);
    HZ.store(hz, Ordering::Relaxed);
    NS_PER_TICK.store(ns_per_tick(hz), Ordering::Relaxed);
    Some(source)
}

/// What was added to a CPU's counter since its package was reset.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Offset {
    package: u32,
    ticks: u64,
}

/// What was added to this CPU's counter, where the CPU tells.
#[must_use]
pub fn offset() -> Option<Offset> {
    const TSC_ADJUST: u32 = 1 << 1;
    if raw_cpuid::cpuid!(0).eax < 0xb || raw_cpuid::cpuid!(7, 0).ebx & TSC_ADJUST == 0 {
        return None;
    }
    // SDM 2A "CPUID", leaf 0Bh: how far the APIC ID is shifted to be the package's.
    let cores = raw_cpuid::cpuid!(0xb, 1);
    let package = cores.edx.checked_shr(cores.eax & 31)?;
    msr::read_or_none(IA32_TSC_ADJUST).map(|ticks| Offset { package, ticks })
}

/// Gives this CPU's counter the offset of the boot CPU's, if both are in one package: they began together there, and
/// some firmware has written one of them since (SDM 3B "IA32_TSC_ADJUST Register Support"). Other packages have
/// offsets for a reason.
pub fn adjust_as(boot: Option<Offset>) {
    let Some(ticks) = other_offset(offset(), boot) else { return };
    // SAFETY: whoever starts a CPU has no use for its counter yet.
    let done = unsafe { msr::try_write(IA32_TSC_ADJUST, ticks) };
    log::info!(
        "CPU {}: TSC_ADJUST is not the boot CPU's {ticks:#x}; set: {done}",
        super::this().id
    );
}

/// How many ticks another CPU's counter is off at the least, which read `there` between `before` and `after` here.
/// A microsecond or so is nobody's business: counters are read out of order.
#[must_use]
pub fn apart(before: u64, there: u64, after: u64) -> Option<u64> {
    const NOTHING: u64 = 2000;
    let ticks = before.saturating_sub(there).max(there.saturating_sub(after));
    (ticks > NOTHING).then_some(ticks)
}

fn other_offset(own: Option<Offset>, boot: Option<Offset>) -> Option<u64> {
    let (own, boot) = (own?, boot?);
    (own.package == boot.package && own.ticks != boot.ticks).then_some(boot.ticks)
}

/// CPUID's rate, if what was measured is near it: Bochs gives a model's leaf 15h as it is in silicon,
/// and its TSC counts instructions.
fn believed(
    claimed: Option<(u64, Source)>,
    measured: Option<(u64, Source)>,
) -> Option<(u64, Source)> {
    let (Some((said, _)), Some((found, _))) = (claimed, measured) else {
        return claimed.or(measured);
    };
    if said.abs_diff(found) <= found / 16 { claimed } else { measured }
}

fn ns_per_tick(hz: u64) -> u64 {
    ((1_000_000_000u128 << 32) / u128::from(hz)) as u64
}

/// Reads another counter and says at which TSC value. An emulator that is short of CPU time may stop us between two
/// reads for many milliseconds: of some tries the one counts that took least.
pub fn sample(read: impl FnMut() -> u32) -> (u64, u32) {
    tightest(now, read)
}

fn tightest(mut now: impl FnMut() -> u64, mut read: impl FnMut() -> u32) -> (u64, u32) {
    let (mut best, mut least) = ((0, 0), u64::MAX);
    for _ in 0..SAMPLES {
        let before = now();
        let value = read();
        let took = now().saturating_sub(before);
        if took < least {
            (best, least) = ((before + took / 2, value), took);
        }
    }
    best
}

/// Waits `us` microseconds, busily.
pub fn delay_us(us: u64) {
    let end = now() + from_ns(us * 1000);
    while now() < end {
        core::hint::spin_loop();
    }
}

fn from_hypervisor() -> Option<(u64, Source)> {
    let cpuid = raw_cpuid::CpuId::new();
    if !cpuid.get_feature_info()?.has_hypervisor() {
        return None;
    }
    let highest = raw_cpuid::cpuid!(0x4000_0000).eax;
    if !(0x4000_0010..0x4001_0000).contains(&highest) {
        return None;
    }
    let khz = raw_cpuid::cpuid!(0x4000_0010).eax;
    (khz > 1000).then_some((u64::from(khz) * 1000, Source::Hypervisor))
}

fn from_cpuid() -> Option<(u64, Source)> {
    let info = raw_cpuid::CpuId::new().get_tsc_info()?;
    Some((info.tsc_frequency()?, Source::Cpuid)).filter(|(hz, _)| *hz > 1_000_000)
}

fn measure_pm_timer(port: u16) -> Option<(u64, Source)> {
    // 24 bits always count; 32 are optional.
    // SAFETY: reading the PM timer has no side effect.
    let read = || unsafe { x86::io::inl(port) } & 0xff_ffff;
    Some((measure(read, 0xff_ffff, PM_TIMER_HZ)?, Source::PmTimer))
}

/// IA-PC HPET specification, "Register Overview". Firmware may have left it stopped.
fn measure_hpet(address: u64) -> Option<(u64, Source)> {
    const PERIOD: usize = 0x04;
    const CONFIGURATION: usize = 0x10;
    const COUNTER: usize = 0xf0;
    let registers = map_mmio(Phys(address), 0x400, Cache::Uncached);
    let at = |offset: usize| registers.wrapping_add(offset).cast::<u32>();
    // SAFETY: the registers are where ACPI says, and were just mapped; nobody else uses them.
    let read = |offset| unsafe { at(offset).read_volatile() };
    // SAFETY: as above; bit 0 only lets the counter run.
    let configure = |value| unsafe { at(CONFIGURATION).write_volatile(value) };
    // Femtoseconds, 100 ns at the most; below 1 ns it is none.
    let period = read(PERIOD);
    if !(1_000_000..=100_000_000).contains(&period) {
        return None;
    }
    let before = read(CONFIGURATION);
    configure(before | 1);
    let hz = measure(|| read(COUNTER), u32::MAX, 1_000_000_000_000_000 / u64::from(period));
    configure(before);
    Some((hz?, Source::Hpet))
}

/// The TSC's rate by a counter of `hz` that wraps behind `mask`. `None` if it does not count.
fn measure(read: impl Fn() -> u32, mask: u32, hz: u64) -> Option<u64> {
    let first = read();
    // A dead counter must not hang the boot.
    (0..100_000).map(|_| read()).find(|&t| t != first)?;
    let (start, begin) = sample(&read);
    let since = |now: u32| now.wrapping_sub(begin) & mask;
    while since(read()) < (hz / MEASURE) as u32 {
        core::hint::spin_loop();
    }
    let (end, now) = sample(&read);
    let ticks = end.saturating_sub(start);
    Some(ticks * hz / u64::from(since(now).max(1)))
}

/// Counter 0 of the 8254, which needs no gate and whose interrupt is masked, from 65,536 down (8254 datasheet, "Mode 2").
fn measure_pit() -> Option<(u64, Source)> {
    // SAFETY: the host has no other use for the counter.
    unsafe {
        x86::io::outb(0x43, 0x34);
        x86::io::outb(0x40, 0);
        x86::io::outb(0x40, 0);
    }
    let read = || {
        // SAFETY: as above; the count is latched, then read low byte first.
        let count = unsafe {
            x86::io::outb(0x43, 0);
            [x86::io::inb(0x40), x86::io::inb(0x40)]
        };
        u32::from(!u16::from_le_bytes(count))
    };
    // It wraps every 55 ms, in which an emulator may stop us: the middle one of three.
    let once = || measure(read, 0xffff, PIT_HZ);
    let mut tries = [once()?, once()?, once()?];
    tries.sort_unstable();
    Some((tries[1], Source::Pit))
}

/// Takes two seconds, so it comes last.
fn measure_rtc() -> Option<(u64, Source)> {
    let seconds = || super::wall::cmos(0);
    if seconds() == 0xff {
        return None;
    }
    let first = next_change(seconds)?;
    Some((next_change(seconds)? - first, Source::Rtc))
}

/// The TSC when `read` gives another value than now. `None` if it never does.
fn next_change(read: impl Fn() -> u8) -> Option<u64> {
    let first = read();
    (0..RTC_PATIENCE).find(|_| read() != first).map(|_| now())
}

fn from_base_frequency() -> Option<(u64, Source)> {
    let highest = raw_cpuid::cpuid!(0).eax;
    let mhz = if highest >= 0x16 { raw_cpuid::cpuid!(0x16).eax & 0xffff } else { 0 };
    (mhz != 0).then_some((u64::from(mhz) * 1_000_000, Source::BaseFrequency))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cpuids_rate_counts_only_where_the_pm_timer_agrees() {
        let said = |hz| Some((hz, Source::Cpuid));
        let found = |hz| Some((hz, Source::PmTimer));
        assert_eq!(believed(said(3_000_000_000), found(2_990_000_000)), said(3_000_000_000));
        assert_eq!(believed(said(1_497_600_000), found(49_999_000)), found(49_999_000));
        assert_eq!(believed(said(1_497_600_000), None), said(1_497_600_000));
        assert_eq!(believed(None, found(49_999_000)), found(49_999_000));
        assert_eq!(believed(None, None), None);
    }

    #[test]
    fn a_counter_tells_the_rate_and_one_that_stands_still_is_given_up() {
        // A counter of 1 MHz on a CPU whose TSC runs at 1 GHz.
        let found = measure(|| (now() / 1000) as u32 & 0xff_ffff, 0xff_ffff, 1_000_000).unwrap();
        assert!(found.abs_diff(1_000_000_000) < 20_000_000, "{found}");
        assert_eq!(measure(|| 0xffff_ffff, u32::MAX, 1_000_000), None);
    }

    #[test]
    fn an_rtc_that_stands_still_is_given_up() {
        let reads = core::cell::Cell::new(0_u32);
        let count = || {
            reads.set(reads.get() + 1);
            (reads.get() / 1000) as u8
        };
        assert!(next_change(count).is_some());
        assert_eq!(next_change(|| 7), None);
    }

    #[test]
    fn only_a_counter_of_the_same_package_is_adjusted() {
        let offset = |package, ticks| Some(Offset { package, ticks });
        assert_eq!(other_offset(offset(0, 5), offset(0, 7)), Some(7));
        assert_eq!(other_offset(offset(0, 7), offset(0, 7)), None);
        assert_eq!(other_offset(offset(1, 5), offset(0, 7)), None);
        assert_eq!(other_offset(None, offset(0, 7)), None);
        assert_eq!(other_offset(offset(0, 5), None), None);
    }

    #[test]
    fn counters_that_are_apart_are_noticed() {
        assert_eq!(apart(10_000, 20_000, 30_000), None);
        assert_eq!(apart(10_000, 9_000, 30_000), None);
        assert_eq!(apart(10_000, 7_000, 30_000), Some(3000));
        assert_eq!(apart(10_000, 1 << 40, 30_000), Some((1 << 40) - 30_000));
    }

    #[test]
    fn a_pause_between_two_reads_does_not_spoil_a_measurement() {
        // A counter that counts every 10 ticks; some reads come 1,000,000 ticks late.
        for late in [0b1, 0b10, 0b0111_1111, 0b1110_1111_1110] {
            let clock = core::cell::Cell::new(0_u64);
            let reads = core::cell::Cell::new(0);
            let pass = || {
                let pause = late >> reads.replace(reads.get() + 1) & 1;
                clock.set(clock.get() + 3 + pause * 1_000_000);
                clock.get()
            };
            let (at, value) = tightest(pass, || (pass() / 10) as u32);
            assert!(at.abs_diff(u64::from(value) * 10) < 20, "{late:#b}: {at} {value}");
        }
    }

    #[test]
    fn a_second_of_ticks_is_a_second() {
        for hz in [1_000_000, 1_000_000_000, 2_394_560_000, 5_000_000_001] {
            NS_PER_TICK.store(ns_per_tick(hz), Ordering::Relaxed);
            HZ.store(hz, Ordering::Relaxed);
            assert!(to_ns(hz).abs_diff(1_000_000_000) <= 2);
            assert_eq!(from_ns(1_000_000_000), hz);
        }
        assert_eq!(from_ns(u64::MAX).checked_add(1), None);
    }
}
