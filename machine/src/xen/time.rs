//! Xen's clock: a record in shared memory from which a guest makes nanoseconds of its TSC without an exit.
//!
//! All vCPUs have the same record, since host CPUs' TSCs run together: time is monotonic across them, and
//! the record changes only when a guest moves its TSC.

use super::Xen;
use crate::Machine;
use crate::clock::Clock;
use arch::{GuestPhys, SharedPage};
use core::sync::atomic::{Ordering, fence};
use pvdrivers::abi::shared_info::{PVCLOCK_TSC_STABLE, SharedInfo, VcpuInfo, VcpuTimeInfo};
use pvdrivers::abi::{Layout, Width};

/// How ticks become nanoseconds: shift left by `shift` (right if negative), times `mul`, shift right by 32.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pvclock {
    /// Factor.
    pub mul: u32,
    /// Bits.
    pub shift: i8,
}

impl Pvclock {
    /// The same as [`Clock::nanos`], digit for digit where the TSC runs faster than 1 GHz.
    #[must_use]
    pub fn new(clock: &Clock) -> Pvclock {
        let (mut factor, mut shift) = (clock.ns_per_tick(), 0);
        while factor >> 32 != 0 && shift < 32 {
            factor = factor.div_ceil(2);
            shift += 1;
        }
        Pvclock { mul: factor as u32, shift }
    }
}

/// Writes a record at `offset` of `page`: guest time was 0 when the guest's TSC was `tsc_at_zero`.
fn write_time_info(page: &SharedPage, offset: usize, clock: Pvclock, tsc_at_zero: u64) {
    // An odd version says that the record changes; readers wait.
    let version = page.read_u32(offset).unwrap_or(0).wrapping_add(1) | 1;
    let info = VcpuTimeInfo {
        version,
        pad0: 0,
        tsc_timestamp: tsc_at_zero,
        system_time: 0,
        tsc_to_system_mul: clock.mul,
        tsc_shift: clock.shift,
        flags: PVCLOCK_TSC_STABLE,
    };
    let mut bytes = [0; 32];
    info.put(&mut bytes, 0, Width::Bits64);
    // Offsets lie in the page: whoever registered the place looked.
    let _ = page.write(offset, 4, version.into());
    fence(Ordering::SeqCst);
    let _ = page.write_slice(offset, &bytes);
    fence(Ordering::SeqCst);
    let _ = page.write(offset, 4, version.wrapping_add(1).into());
}

/// Writes the wall clock at system time 0.
fn write_wall_clock(page: &SharedPage, at: &SharedInfo, seconds: u64) {
    let version = page.read_u32(at.wc_version).unwrap_or(0).wrapping_add(1) | 1;
    let put = |at: usize, value: u32| {
        let _ = page.write(at, 4, value.into());
    };
    put(at.wc_version, version);
    fence(Ordering::SeqCst);
    put(at.wc_sec, seconds as u32);
    put(at.wc_nsec, 0);
    put(at.wc_sec_hi, (seconds >> 32) as u32);
    fence(Ordering::SeqCst);
    put(at.wc_version, version.wrapping_add(1));
}

impl Machine {
    /// Writes a vCPU's time records. `tsc_offset`: what its TSC has added to the host's.
    pub(crate) fn write_time(&self, xen: &Xen, which: usize, tsc_offset: u64) {
        let clock = Pvclock::new(&self.clock);
        let at_zero = self.clock.start_tsc().wrapping_add(tsc_offset);
        if let Some((page, offset)) = xen.vcpu_info(&self.ram, which) {
            let offset = offset + VcpuInfo::of(xen.width()).time;
            write_time_info(&page, offset, clock, at_zero);
        }
        let second = xen.vcpus.get(which).and_then(super::XenVcpu::time_area);
        if let Some(at) = second
            && let Some(page) = self.ram.page(at)
        {
            write_time_info(&page, at.page_offset() as usize, clock, at_zero);
        }
    }

    /// Writes the wall clock to the shared info page.
    pub(crate) fn write_wall_clock(&self, xen: &Xen) {
        write_wall_clock(&xen.shared_info(), &SharedInfo::of(xen.width()), xen.wall_seconds);
    }

    /// The page at a guest frame.
    pub(crate) fn frame(&self, gfn: u64) -> Option<SharedPage> {
        self.ram.page(GuestPhys(gfn.checked_mul(4096)?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use arch::page::PAGE_CELLS;
    use core::sync::atomic::AtomicU64;
    use std::boxed::Box;

    fn page() -> SharedPage {
        SharedPage::new(Box::leak(Box::new([const { AtomicU64::new(0) }; PAGE_CELLS])))
    }

    /// As guests do it (Linux, `pvclock_scale_delta`).
    fn nanos(clock: Pvclock, ticks: u64) -> u64 {
        ((u128::from(ticks << clock.shift) * u128::from(clock.mul)) >> 32) as u64
    }

    #[test]
    fn a_guest_reads_the_same_time_as_the_board() {
        for khz in [1_000_001, 2_603_350, 3_700_123, 4_000_000] {
            let clock = Clock::new(0, khz);
            let pv = Pvclock::new(&clock);
            for ticks in [0, 1, 12_345_678_901, 1 << 50] {
                assert_eq!(nanos(pv, ticks), clock.nanos(ticks).0, "{khz} {ticks}");
            }
        }
        // A slow TSC: a few nanoseconds in a second apart.
        for khz in [1_000, 250_000, 999_999, 1_000_000] {
            let clock = Clock::new(0, khz);
            let ours = clock.nanos(khz * 1000).0;
            let theirs = nanos(Pvclock::new(&clock), khz * 1000);
            assert!(theirs.abs_diff(ours) <= 2, "{khz}: {ours} {theirs}");
        }
    }

    #[test]
    fn the_version_is_even_when_the_record_is_whole_and_never_the_same_twice() {
        let page = page();
        let clock = Pvclock { mul: 0x8000_0000, shift: -1 };
        write_time_info(&page, 64, clock, 77);
        let first = page.read_u32(64).unwrap();
        write_time_info(&page, 64, clock, 78);
        let second = page.read_u32(64).unwrap();
        assert!(first.is_multiple_of(2) && second.is_multiple_of(2) && first != second);
        assert_eq!(page.read_u64(72), Some(78));
        assert_eq!(page.read_u32(64 + 24), Some(0x8000_0000));
        assert_eq!(page.read_u16(64 + 28), Some(0x01ff));
    }

    #[test]
    fn the_wall_clock_has_64_bits_of_seconds_in_both_widths() {
        for width in [Width::Bits64, Width::Bits32] {
            let (page, at) = (page(), SharedInfo::of(width));
            write_wall_clock(&page, &at, 0x1_2345_6789);
            assert_eq!(page.read_u32(at.wc_sec), Some(0x2345_6789));
            assert_eq!(page.read_u32(at.wc_sec_hi), Some(1));
            assert_eq!(page.read_u32(at.wc_version), Some(2));
        }
    }
}
