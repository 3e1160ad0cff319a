//! The guest's memory map as INT 15h E820h, E801h and 88h tell it.

use crate::platform::BiosConfig;

/// Firmware data at the top of low RAM: ACPI tables. Small machines keep them below 1 MiB instead.
pub const TABLES_SIZE: u64 = 0x1_0000;

/// Kind of a range (ACPI, "Address Range Types").
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum RangeKind {
    /// RAM for the operating system.
    Ram = 1,
    /// To be left alone.
    Reserved = 2,
    /// ACPI tables; RAM once they were read.
    AcpiReclaim = 3,
    /// Firmware data that stays (FACS).
    AcpiNvs = 4,
}

/// A range of guest-physical memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Range {
    /// First byte.
    pub start: u64,
    /// Bytes.
    pub bytes: u64,
    /// Kind.
    pub kind: RangeKind,
}

/// Where the ACPI tables go: the top of low RAM, or E0000h when there is hardly any.
#[must_use]
pub fn tables_base(config: &BiosConfig) -> u64 {
    if config.low_ram >= 4 << 20 { config.low_ram - TABLES_SIZE } else { 0xe_0000 }
}

/// The `n`th range in ascending order, or `None` behind the last.
#[must_use]
pub fn range(config: &BiosConfig, n: usize) -> Option<Range> {
    use RangeKind::{AcpiNvs, AcpiReclaim, Ram, Reserved};
    let base = tables_base(config);
    let (low, high) = (base < 1 << 20, config.acpi && base >= 1 << 20);
    let extended_end = if high { base } else { config.low_ram.max(1 << 20) };
    let at = |start: u64, end: u64, kind| Range { start, bytes: end.saturating_sub(start), kind };
    let fixed = [
        at(0, 0x9_fc00, Ram),
        at(0x9_fc00, 0xa_0000, Reserved),
        at(if low { 0xe_0000 } else { 0xf_0000 }, 0x10_0000, Reserved),
        at(0x10_0000, extended_end, Ram),
        if high { at(base, base + 0xf000, AcpiReclaim) } else { at(0, 0, Ram) },
        if high { at(base + 0xf000, base + 0x1_0000, AcpiNvs) } else { at(0, 0, Ram) },
        at(0xfec0_0000, 0xfec0_1000, Reserved),
        at(0xfee0_0000, 0xfee0_1000, Reserved),
        at(0xfffc_0000, 1 << 32, Reserved),
        at(1 << 32, (1 << 32) + config.high_ram, Ram),
    ];
    let more = config.reserved.iter().map(|&(start, bytes)| Range { start, bytes, kind: Reserved });
    fixed.into_iter().chain(more).filter(|range| range.bytes > 0).nth(n)
}

/// KiB between 1 MiB and `limit`, not counting firmware data.
#[must_use]
pub fn extended_kb(config: &BiosConfig, limit: u64) -> u32 {
    let base = tables_base(config);
    let end = if config.acpi && base >= 1 << 20 { base } else { config.low_ram };
    (end.min(limit).saturating_sub(1 << 20) >> 10) as u32
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::vec::Vec;

    fn all(low: u64, high: u64) -> Vec<Range> {
        let config = BiosConfig { low_ram: low, high_ram: high, ..BiosConfig::default() };
        (0..).map_while(|n| range(&config, n)).collect()
    }

    #[test]
    fn ranges_ascend_and_do_not_overlap_whatever_the_memory() {
        for (low, high) in
            [(0, 0), (1 << 20, 0), (2 << 20, 0), (64 << 20, 0), (0xe000_0000, 1 << 32)]
        {
            let ranges = all(low, high);
            for pair in ranges.windows(2) {
                assert!(pair[0].start + pair[0].bytes <= pair[1].start, "{low:x} {pair:x?}");
            }
        }
    }

    #[test]
    fn without_acpi_the_tables_memory_is_ram() {
        let config = BiosConfig { low_ram: 64 << 20, acpi: false, ..BiosConfig::default() };
        let ranges: Vec<Range> = (0..).map_while(|n| range(&config, n)).collect();
        let extended = Range { start: 1 << 20, bytes: 63 << 20, kind: RangeKind::Ram };
        assert!(ranges.contains(&extended), "{ranges:x?}");
        assert!(
            ranges.iter().all(|r| !matches!(r.kind, RangeKind::AcpiReclaim | RangeKind::AcpiNvs))
        );
        assert_eq!(extended_kb(&config, 1 << 32), 63 << 10);
    }

    #[test]
    fn all_ram_but_the_legacy_hole_and_the_tables_is_usable() {
        let ram: u64 = all(64 << 20, 1 << 30)
            .iter()
            .filter(|range| range.kind == RangeKind::Ram)
            .map(|range| range.bytes)
            .sum();
        assert_eq!(ram, 0x9_fc00 + (63 << 20) - TABLES_SIZE + (1 << 30));
    }
}
