//! The page that a domain and the hypervisor share, and the PV clock. Xen public "xen.h",
//! "arch-x86/xen.h".
//!
//! These stay in guest memory and change under both sides, so they are offsets, not values. What is
//! read and written as a whole, the time, is a value.

use super::layout::{Width, layouts};

/// Offsets in the shared info page of a domain of one width.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SharedInfo {
    /// Words of pending bits, one bit for each port.
    pub evtchn_pending: usize,
    /// Words of mask bits.
    pub evtchn_mask: usize,
    /// 4 bytes: odd while the wall clock is being written.
    pub wc_version: usize,
    /// 4 bytes: seconds since 1970 at system time 0.
    pub wc_sec: usize,
    /// 4 bytes: nanoseconds on top.
    pub wc_nsec: usize,
    /// 4 bytes: the upper half of the seconds.
    pub wc_sec_hi: usize,
    /// A `long`: the domain's highest frame, written by PV guests.
    pub max_pfn: usize,
    /// A `long`: why there was an NMI.
    pub nmi_reason: usize,
    /// Bytes of all that.
    pub size: usize,
}

impl SharedInfo {
    /// The layout for `width`.
    #[must_use]
    #[inline]
    pub const fn of(width: Width) -> SharedInfo {
        let word = width.bytes();
        let pending = 32 * VCPU_INFO_SIZE;
        let mask = pending + word * word * 8;
        let clock = mask + word * word * 8;
        // The upper half of the seconds found no room in the 32-bit layout but at its end.
        let (arch, sec_hi) = match width {
            Width::Bits64 => (clock + 16, clock + 12),
            Width::Bits32 => (clock + 12, clock + 12 + 6 * word),
        };
        SharedInfo {
            evtchn_pending: pending,
            evtchn_mask: mask,
            wc_version: clock,
            wc_sec: clock + 4,
            wc_nsec: clock + 8,
            wc_sec_hi: sec_hi,
            max_pfn: arch,
            nmi_reason: arch + 2 * word,
            size: arch
                + 6 * word
                + match width {
                    Width::Bits64 => 0,
                    Width::Bits32 => 4,
                },
        }
    }

    /// Where vCPU `n`'s [`VcpuInfo`] lies before it is moved; `None` from vCPU 32 on.
    #[must_use]
    #[inline]
    pub const fn vcpu_info(n: u16) -> Option<usize> {
        if n < super::xen::LEGACY_MAX_VCPUS { Some(n as usize * VCPU_INFO_SIZE) } else { None }
    }
}

/// Bytes of a [`VcpuInfo`] in both widths.
pub const VCPU_INFO_SIZE: usize = 64;

/// Offsets in a vCPU's part of the shared info, wherever that lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VcpuInfo {
    /// 1 byte: an upcall is wanted.
    pub evtchn_upcall_pending: usize,
    /// 1 byte: upcalls are masked. HVM guests use their interrupt flag instead.
    pub evtchn_upcall_mask: usize,
    /// A `long`: which words of the pending bits to look at.
    pub evtchn_pending_sel: usize,
    /// A `long`: CR2, for PV guests.
    pub arch_cr2: usize,
    /// 32 bytes: [`VcpuTimeInfo`].
    pub time: usize,
}

impl VcpuInfo {
    /// The layout for `width`.
    #[must_use]
    #[inline]
    pub const fn of(width: Width) -> VcpuInfo {
        VcpuInfo {
            evtchn_upcall_pending: 0,
            evtchn_upcall_mask: 1,
            evtchn_pending_sel: width.bytes(),
            arch_cr2: 2 * width.bytes(),
            time: 32,
        }
    }
}

/// Bytes of a [`VcpuTimeInfo`].
pub const VCPU_TIME_INFO_SIZE: usize = 32;
/// In [`VcpuTimeInfo::flags`]: all vCPUs' clocks agree.
pub const PVCLOCK_TSC_STABLE: u8 = 1 << 0;
/// In [`VcpuTimeInfo::flags`]: the guest was stopped by its host.
pub const PVCLOCK_GUEST_STOPPED: u8 = 1 << 1;

layouts! {
    /// From TSC to time (`vcpu_time_info`): `system_time` plus (TSC − `tsc_timestamp`) shifted left
    /// by `tsc_shift`, times `tsc_to_system_mul`, over 2^32.
    VcpuTimeInfo: 32 / 32 {
        /// Odd while it is being written.
        version: u32 = 0 / 0,
        /// Unused.
        pad0: u32 = 4 / 4,
        /// The TSC at the last update.
        tsc_timestamp: u64 = 8 / 8,
        /// Nanoseconds since the domain's start at the last update.
        system_time: u64 = 16 / 16,
        /// Nanoseconds for each (shifted) tick, times 2^32.
        tsc_to_system_mul: u32 = 24 / 24,
        /// Left, or right if negative.
        tsc_shift: i8 = 28 / 28,
        /// [`PVCLOCK_TSC_STABLE`], [`PVCLOCK_GUEST_STOPPED`].
        flags: u8 = 29 / 29,
    }
}

const _: () = {
    let wide = SharedInfo::of(Width::Bits64);
    assert!(wide.evtchn_pending == 2048 && wide.evtchn_mask == 2560);
    assert!(wide.wc_version == 3072 && wide.wc_sec_hi == 3084);
    assert!(wide.max_pfn == 3088 && wide.nmi_reason == 3104 && wide.size == 3136);
    let narrow = SharedInfo::of(Width::Bits32);
    assert!(narrow.evtchn_pending == 2048 && narrow.evtchn_mask == 2176);
    assert!(narrow.wc_version == 2304 && narrow.wc_sec_hi == 2340);
    assert!(narrow.max_pfn == 2316 && narrow.nmi_reason == 2324 && narrow.size == 2344);
    assert!(VcpuInfo::of(Width::Bits64).evtchn_pending_sel == 8);
    assert!(VcpuInfo::of(Width::Bits32).evtchn_pending_sel == 4);
    assert!(VcpuInfo::of(Width::Bits64).time + VCPU_TIME_INFO_SIZE == VCPU_INFO_SIZE);
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thirty_two_vcpus_fit_before_the_pending_bits() {
        assert_eq!(SharedInfo::vcpu_info(31), Some(31 * 64));
        assert_eq!(SharedInfo::vcpu_info(32), None);
        let last = SharedInfo::vcpu_info(31).map(|at| at + VCPU_INFO_SIZE);
        assert_eq!(last, Some(SharedInfo::of(Width::Bits32).evtchn_pending));
    }
}
