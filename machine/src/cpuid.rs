//! CPUID as a policy: what the host has, less what is not virtualized, plus what the board adds.
//!
//! Leaves are computed once; an exit looks one up and patches the bits that follow the vCPU's state.

use crate::viridian::{self, Groups};
use crate::xen;
use alloc::vec::Vec;

/// EAX, EBX, ECX, EDX.
pub type Regs = [u32; 4];

/// Highest standard leaf that is shown.
const MAX_BASIC: u32 = 0x16;
/// Highest extended leaf that is shown.
const MAX_EXTENDED: u32 = 0x8000_001e;
/// Highest hypervisor leaf.
const MAX_HYPERVISOR: u32 = 0x4000_0000;
/// Widest addresses, guest-physical and linear: second-level tables have four levels, and guests find no LA57.
const MAX_ADDRESS_BITS: u8 = 48;
/// Subleaves kept of a leaf that has them.
const SUBLEAVES: u32 = 16;

// Leaf 1 ECX (SDM 2A "CPUID", table "Feature Information Returned in the ECX Register").
const SSE3: u32 = 1;
const PCLMULQDQ: u32 = 1 << 1;
const SSSE3: u32 = 1 << 9;
const FMA: u32 = 1 << 12;
const CX16: u32 = 1 << 13;
const PCID: u32 = 1 << 17;
const SSE4_1: u32 = 1 << 19;
const SSE4_2: u32 = 1 << 20;
const X2APIC: u32 = 1 << 21;
const MOVBE: u32 = 1 << 22;
const POPCNT: u32 = 1 << 23;
const TSC_DEADLINE: u32 = 1 << 24;
const AES: u32 = 1 << 25;
const XSAVE: u32 = 1 << 26;
const OSXSAVE: u32 = 1 << 27;
const AVX: u32 = 1 << 28;
const F16C: u32 = 1 << 29;
const RDRAND: u32 = 1 << 30;
const HYPERVISOR: u32 = 1 << 31;
const PASS_1_ECX: u32 = SSE3
    | PCLMULQDQ
    | SSSE3
    | FMA
    | CX16
    | PCID
    | SSE4_1
    | SSE4_2
    | MOVBE
    | POPCNT
    | AES
    | XSAVE
    | AVX
    | F16C
    | RDRAND;

// Leaf 1 EDX: everything but debug store, thermal monitor and clock modulation, PBE, IA-64, PSN.
const APIC: u32 = 1 << 9;
const MTRR: u32 = 1 << 12;
const HTT: u32 = 1 << 28;
const PASS_1_EDX: u32 = 0x078b_fbff;

// Leaf 7: FSGSBASE, TSC_ADJUST, BMI1, AVX2, SMEP, BMI2, ERMS, INVPCID, RDSEED, ADX, SMAP, CLFLUSHOPT, CLWB, SHA.
// TSC_ADJUST is added: it is emulated.
const TSC_ADJUST: u32 = 1 << 1;
const PASS_7_EBX: u32 = 1
    | 1 << 3
    | 1 << 5
    | 1 << 7
    | 1 << 8
    | 1 << 9
    | 1 << 10
    | 1 << 18
    | 1 << 19
    | 1 << 20
    | 1 << 23
    | 1 << 24
    | 1 << 29;
// UMIP, RDPID is left out with TSC_AUX unless RDTSCP is there, VAES, VPCLMULQDQ.
const PASS_7_ECX: u32 = 1 << 2 | 1 << 9 | 1 << 10;
const PASS_7_EDX: u32 = 1 << 4 | 1 << 14;

// Extended leaf 1 (APM3 "CPUID Fn8000_0001").
const PASS_E1_ECX: u32 = 1 | 1 << 4 | 1 << 5 | 1 << 6 | 1 << 7 | 1 << 8 | 1 << 11 | 1 << 16;
const PASS_E1_EDX: u32 = 0x2fd3_fbff | 1 << 30 | 1 << 31;

/// What one guest's CPUs report.
pub struct CpuidPolicy {
    basic: Vec<Regs>,
    leaf4: [Regs; 8],
    leaf7: [Regs; 2],
    leaf_d: [Regs; SUBLEAVES as usize],
    hypervisor: Regs,
    xen: Option<xen::cpuid::Asked>,
    viridian: Option<Groups>,
    extended: Vec<Regs>,
    vcpus: u32,
    x2apic_shift: u32,
    physical_bits: u8,
}

/// State of the asking vCPU that shows in CPUID.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Dynamic {
    /// Its APIC ID.
    pub apic_id: u32,
    /// Its CR4.
    pub cr4: u64,
    /// IA32_APIC_BASE enables its local APIC.
    pub apic_enabled: bool,
    /// The CPU keeps its local APIC while it runs.
    pub apic_kept: bool,
}

impl CpuidPolicy {
    /// The policy for a guest of `vcpus` (1 or more) on a host whose CPUID is `host(leaf, subleaf)`. `tsc_khz`
    /// fills the frequency leaves.
    #[must_use]
    pub fn new(host: impl Fn(u32, u32) -> Regs, vcpus: u32, tsc_khz: u64) -> CpuidPolicy {
        let host_max = host(0, 0)[0];
        let extended_max = host(0x8000_0000, 0)[0];
        let intel = host(0, 0)[1] == u32::from_le_bytes(*b"Genu");
        let max = if intel { MAX_BASIC } else { host_max.clamp(1, 0xd) };
        let basic = (0..=max)
            .map(|leaf| {
                let from = if leaf <= host_max { host(leaf, 0) } else { [0; 4] };
                basic_leaf(leaf, from, max, vcpus, tsc_khz)
            })
            .collect();
        let top = extended_max.clamp(0x8000_0000, MAX_EXTENDED);
        let extended: Vec<Regs> = (0x8000_0000..=top)
            .map(|leaf| extended_leaf(leaf, host(leaf, 0), top, vcpus))
            .collect();
        let has = |leaf| leaf <= host_max;
        let leaf7 = |sub| if has(7) { leaf_7(sub, host(7, sub)) } else { [0; 4] };
        let hypervisor = [
            MAX_HYPERVISOR,
            u32::from_le_bytes(*b"Xeno"),
            u32::from_le_bytes(*b"lith"),
            u32::from_le_bytes(*b"HVM\0"),
        ];
        let physical_bits = match get(&extended, 8)[0] as u8 {
            0 => 36,
            bits => bits.clamp(32, MAX_ADDRESS_BITS),
        };
        CpuidPolicy {
            basic,
            leaf4: core::array::from_fn(|n| {
                if intel && has(4) { cache_leaf(host(4, n as u32), vcpus) } else { [0; 4] }
            }),
            leaf7: [leaf7(0), leaf7(1)],
            leaf_d: core::array::from_fn(|n| {
                if has(0xd) { xsave_leaf(n as u32, &host) } else { [0; 4] }
            }),
            hypervisor,
            xen: None,
            viridian: None,
            extended,
            vcpus,
            x2apic_shift: u32::BITS - (vcpus.max(1) - 1).leading_zeros(),
            physical_bits,
        }
    }

    /// The guest's processors have no PAE, and thus neither long mode, no-execute nor 1 GiB pages.
    pub fn hide_pae(&mut self) {
        const PAE: u32 = 1 << 6;
        const LONG_MODE: u32 = 1 << 29;
        const HUGE_PAGES: u32 = 1 << 26;
        self.clear_edx(PAE, PAE | LONG_MODE | HUGE_PAGES);
        self.hide_nx();
    }

    /// The guest's processors have no no-execute bit in page tables.
    pub fn hide_nx(&mut self) {
        const NX: u32 = 1 << 20;
        self.clear_edx(0, NX);
    }

    /// Clears feature bits of leaf 1 and of extended leaf 1.
    fn clear_edx(&mut self, basic: u32, extended: u32) {
        if let Some(leaf) = self.basic.get_mut(1) {
            leaf[3] &= !basic;
        }
        if let Some(leaf) = self.extended.get_mut(1) {
            leaf[3] &= !extended;
        }
    }

    /// What CPUID with this EAX gives, where neither ECX nor the vCPU's state shows in it.
    #[must_use]
    #[inline(always)]
    pub fn plain(&self, leaf: u32) -> Option<&Regs> {
        const PATCHED: u32 = 1 << 1 | 1 << 4 | 1 << 7 | 1 << 0xb | 1 << 0xd;
        // There are no more than MAX_BASIC of them.
        let regs = self.basic.get(leaf as usize)?;
        (PATCHED >> (leaf & 31) & 1 == 0).then_some(regs)
    }

    /// What CPUID with this EAX and ECX gives. Leaves beyond the last give 0 (AMD's way, and tame for all
    /// that ask).
    #[must_use]
    #[inline(never)]
    pub fn get(&self, leaf: u32, subleaf: u32, vcpu: Dynamic) -> Regs {
        if leaf & 0x8000_0000 != 0 {
            let mut regs = get(&self.extended, leaf - 0x8000_0000);
            if leaf == 0x8000_0001 && !vcpu.apic_enabled {
                regs[3] &= !APIC;
            } else if leaf == 0x8000_001e {
                regs[0] = vcpu.apic_id;
                regs[1] = vcpu.apic_id;
            }
            return regs;
        }
        if leaf >= 0x4000_0000 {
            return self.hypervisor_leaf(leaf, subleaf, vcpu);
        }
        let mut regs = get(&self.basic, leaf);
        match leaf {
            1 => {
                regs[1] |= vcpu.apic_id << 24;
                if vcpu.cr4 & arch::control::cr4::OSXSAVE != 0 && regs[2] & XSAVE != 0 {
                    regs[2] |= OSXSAVE;
                }
                if !vcpu.apic_enabled {
                    regs[3] &= !APIC;
                }
            }
            4 => regs = self.leaf4.get(subleaf as usize).copied().unwrap_or_default(),
            7 => regs = self.leaf7.get(subleaf as usize).copied().unwrap_or_default(),
            0xb => regs = self.topology(subleaf, vcpu.apic_id),
            0xd => regs = self.leaf_d.get(subleaf as usize).copied().unwrap_or_default(),
            _ => {}
        }
        regs
    }

    /// Viridian's leaves, Xen's, or without either a name that makes no guest believe in another.
    #[cold]
    fn hypervisor_leaf(&self, leaf: u32, subleaf: u32, vcpu: Dynamic) -> Regs {
        if let Some(groups) = self.viridian
            && leaf < xen::cpuid::SECOND_LEAF
        {
            return viridian::cpuid::leaf(leaf, groups, self.vcpus);
        }
        match &self.xen {
            Some(asked) => {
                let Dynamic { apic_id: vcpu, apic_kept, .. } = vcpu;
                let asked = xen::cpuid::Asked { vcpu, apic_kept, ..*asked };
                xen::cpuid::leaf(leaf, subleaf, &asked)
            }
            None if leaf == 0x4000_0000 => self.hypervisor,
            None => [0; 4],
        }
    }

    /// Shows Viridian's leaves.
    pub fn show_viridian(&mut self, groups: Groups) {
        self.viridian = Some(groups);
    }

    /// Shows Xen's leaves.
    pub fn show_xen(&mut self, asked: xen::cpuid::Asked) {
        self.xen = Some(asked);
    }

    /// Extended topology: one thread a core, all cores in one package.
    fn topology(&self, subleaf: u32, apic_id: u32) -> Regs {
        match subleaf {
            0 => [0, 1, 1 << 8, apic_id],
            1 => [self.x2apic_shift, self.vcpus, 1 | 2 << 8, apic_id],
            _ => [0, 0, subleaf & 0xff, apic_id],
        }
    }

    /// Bits that MAXPHYADDR allows in a physical address, 32 to 48.
    #[must_use]
    #[inline]
    pub fn physical_bits(&self) -> u8 {
        self.physical_bits
    }

    /// Whether leaf 1 ECX has this bit.
    #[must_use]
    pub fn has_xsave(&self) -> bool {
        get(&self.basic, 1)[2] & XSAVE != 0
    }

    /// The components that XCR0 may enable.
    #[must_use]
    pub fn xcr0_mask(&self) -> u64 {
        u64::from(self.leaf_d[0][0]) | u64::from(self.leaf_d[0][3]) << 32
    }

    /// Whether extended leaf 1 EDX has this bit (LM 29, NX 20, RDTSCP 27, SYSCALL 11).
    #[must_use]
    pub fn has_extended(&self, bit: u32) -> bool {
        get(&self.extended, 1)[3] >> bit & 1 != 0
    }

    /// Whether the guest sees an AMD processor (or one that follows it).
    #[must_use]
    pub fn is_amd(&self) -> bool {
        let vendor = get(&self.basic, 0)[1];
        vendor == u32::from_le_bytes(*b"Auth") || vendor == u32::from_le_bytes(*b"Hygo")
    }
}

fn get(leaves: &[Regs], index: u32) -> Regs {
    leaves.get(index as usize).copied().unwrap_or_default()
}

fn basic_leaf(leaf: u32, host: Regs, max: u32, vcpus: u32, tsc_khz: u64) -> Regs {
    let [a, b, c, d] = host;
    match leaf {
        0 => [max, b, c, d],
        1 => {
            let ecx = c & PASS_1_ECX | X2APIC | TSC_DEADLINE | HYPERVISOR;
            let edx = d & PASS_1_EDX | APIC | MTRR | if vcpus > 1 { HTT } else { 0 };
            [a, b & 0xff00 | vcpus.min(255) << 16, ecx, edx]
        }
        2 => host,
        // Thermal and power: only "APIC timer always runs".
        6 => [1 << 2, 0, 0, 0],
        0xb => [0; 4],
        0x15 if tsc_khz < 4_000_000 => [1, 1, (tsc_khz * 1000) as u32, 0],
        0x16 => [(tsc_khz / 1000) as u32, (tsc_khz / 1000) as u32, 100, 0],
        // MONITOR, performance counters, RDT, SGX, PT and all others are not virtualized.
        _ => [0; 4],
    }
}

fn cache_leaf(host: Regs, vcpus: u32) -> Regs {
    let [a, b, c, d] = host;
    if a & 0x1f == 0 {
        return [0; 4];
    }
    [a & 0x3fff | (vcpus.clamp(1, 64) - 1) << 26, b, c, d]
}

fn leaf_7(subleaf: u32, host: Regs) -> Regs {
    match subleaf {
        0 => [0, host[1] & PASS_7_EBX | TSC_ADJUST, host[2] & PASS_7_ECX, host[3] & PASS_7_EDX],
        _ => [0; 4],
    }
}

/// XSAVE: x87, SSE and AVX; no supervisor components.
fn xsave_leaf(subleaf: u32, host: &impl Fn(u32, u32) -> Regs) -> Regs {
    const COMPONENTS: u32 = 7;
    let [a, b, c, d] = host(0xd, subleaf);
    match subleaf {
        0 => {
            let size = if a & 4 != 0 { 0x340 } else { 0x240 };
            [a & COMPONENTS, size, size, 0]
        }
        // XSAVEOPT and XGETBV with ECX = 1; no XSAVEC, no XSAVES.
        1 => [a & 0b101, 0, 0, 0],
        2 => [a, b, c & !1, d],
        _ => [0; 4],
    }
}

fn extended_leaf(leaf: u32, host: Regs, max: u32, vcpus: u32) -> Regs {
    let [a, b, c, d] = host;
    match leaf {
        0x8000_0000 => [max, b, c, d],
        0x8000_0001 => [a, b, c & PASS_E1_ECX, d & PASS_E1_EDX],
        0x8000_0002..=0x8000_0006 => host,
        // Invariant TSC.
        0x8000_0007 => [0, 0, 0, 1 << 8],
        0x8000_0008 => {
            let cores = vcpus.clamp(1, 256) - 1;
            let width = u32::BITS - cores.leading_zeros();
            let [physical, linear, ..] = a.to_le_bytes().map(|bits| bits.min(MAX_ADDRESS_BITS));
            [u32::from_le_bytes([physical, linear, 0, 0]), b & 1 << 9, cores | width << 12, 0]
        }
        0x8000_001d => [0; 4],
        0x8000_001e => [0, 0, 0, 0],
        _ => [0; 4],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host(leaf: u32, _: u32) -> Regs {
        match leaf {
            0 => [0x16, u32::from_le_bytes(*b"Genu"), 0, 0],
            0x8000_0000 => [0x8000_0008, 0, 0, 0],
            0x8000_0008 => [0x3028, 0, 0, 0],
            _ => [u32::MAX; 4],
        }
    }

    #[test]
    fn what_is_not_virtualized_is_hidden() {
        let policy = CpuidPolicy::new(host, 4, 2_000_000);
        let vcpu = Dynamic { apic_id: 3, cr4: 0, apic_enabled: true, apic_kept: false };
        let [_, b, c, d] = policy.get(1, 0, vcpu);
        assert_eq!(c & (1 << 3 | 1 << 5 | 1 << 6 | 1 << 15), 0, "MONITOR, VMX, SMX, PDCM");
        assert_ne!(c & HYPERVISOR, 0);
        assert_eq!(c & OSXSAVE, 0);
        assert_eq!((b >> 24, b >> 16 & 0xff), (3, 4));
        assert_eq!(d & (1 << 21 | 1 << 22 | 1 << 29), 0, "DS, ACPI, TM");
        assert_eq!(policy.get(0x8000_0001, 0, vcpu)[2] & 1 << 2, 0, "SVM");
        assert_eq!(policy.get(0xa, 0, vcpu), [0; 4]);
        assert_eq!(policy.get(0x7fff_ffff, 0, vcpu), [0; 4]);
        assert_eq!(policy.get(0xffff_ffff, 0, vcpu), [0; 4]);
    }

    #[test]
    fn addresses_are_no_wider_than_four_levels_of_tables_reach() {
        let vcpu = Dynamic::default();
        for (host_widths, shown) in [(0x3028, 0x3028), (0x3934, 0x3030), (0x3027, 0x3027)] {
            let wide = |leaf, sub| match leaf {
                0x8000_0008 => [0x0030_0000 | host_widths, 0, 0, 0],
                _ => host(leaf, sub),
            };
            let policy = CpuidPolicy::new(wide, 1, 2_000_000);
            assert_eq!(policy.get(0x8000_0008, 0, vcpu)[0], shown);
            assert_eq!(u32::from(policy.physical_bits()), shown & 0xff);
        }
    }

    #[test]
    fn pae_takes_long_mode_and_nx_along_and_nx_goes_alone() {
        let vcpu = Dynamic { apic_id: 0, cr4: 0, apic_enabled: true, apic_kept: false };
        let mut policy = CpuidPolicy::new(host, 1, 2_000_000);
        policy.hide_nx();
        assert!(policy.has_extended(29) && !policy.has_extended(20));
        assert_ne!(policy.get(1, 0, vcpu)[3] & 1 << 6, 0);
        policy.hide_pae();
        assert!(!policy.has_extended(29) && !policy.has_extended(26) && !policy.has_extended(6));
        assert_eq!(policy.get(1, 0, vcpu)[3] & 1 << 6, 0);
        assert_ne!(policy.get(1, 0, vcpu)[3] & 1 << 3, 0, "PSE stays");
    }

    #[test]
    fn a_leaf_is_plain_only_where_nothing_else_shows_in_it() {
        let policy = CpuidPolicy::new(host, 4, 2_000_000);
        for leaf in [0, 2, 3, 5, 6, 8, 0xa, 0xc, 0x15, 0x16] {
            for (apic_id, subleaf) in [(0, 0), (3, 1)] {
                let vcpu = Dynamic {
                    apic_id,
                    cr4: u64::MAX,
                    apic_enabled: apic_id == 0,
                    apic_kept: false,
                };
                assert_eq!(policy.plain(leaf), Some(&policy.get(leaf, subleaf, vcpu)), "{leaf:#x}");
            }
        }
        for leaf in [1, 4, 7, 0xb, 0xd, 0x17, 0x4000_0000, 0x8000_0000, u32::MAX] {
            assert_eq!(policy.plain(leaf), None, "{leaf:#x}");
        }
    }

    #[test]
    fn bits_that_follow_the_vcpu_are_patched() {
        let policy = CpuidPolicy::new(host, 2, 2_000_000);
        let cr4 = arch::control::cr4::OSXSAVE;
        let vcpu = Dynamic { apic_id: 1, cr4, apic_enabled: false, apic_kept: false };
        let [_, _, c, d] = policy.get(1, 0, vcpu);
        assert_ne!(c & OSXSAVE, 0);
        assert_eq!(d & APIC, 0);
        assert_eq!(policy.get(0xb, 1, vcpu), [1, 2, 0x201, 1]);
    }
}
