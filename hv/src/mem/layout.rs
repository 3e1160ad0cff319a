//! The host's address space. The image runs identity-mapped at 1 MiB (link.ld); all else is in the
//! higher half, one 512 GiB slot of the top-level table or more for each purpose.

/// All RAM, at `DIRECT_MAP + physical`.
pub const DIRECT_MAP: u64 = 0xffff_8000_0000_0000;
/// The direct map's size: 64 TiB.
pub const DIRECT_MAP_SIZE: u64 = 1 << 46;
/// Windows onto guests' RAM, 1 GiB or more for each guest.
pub const WINDOWS: u64 = 0xffff_c000_0000_0000;
/// Their size: 16 TiB.
pub const WINDOWS_SIZE: u64 = 1 << 44;
/// Device registers, handed out upwards.
pub const MMIO: u64 = 0xffff_d000_0000_0000;
/// Stacks, each below an unmapped guard page.
pub const STACKS: u64 = 0xffff_e000_0000_0000;

/// Bytes of a frame.
pub const PAGE: u64 = 4096;
/// Bytes of a 2 MiB page.
pub const LARGE: u64 = 2 << 20;
/// Bytes of a 1 GiB page.
pub const HUGE: u64 = 1 << 30;

/// `value` down to a multiple of `align`, a power of two.
#[must_use]
pub const fn down(value: u64, align: u64) -> u64 {
    value & !(align - 1)
}

/// `value` up to a multiple of `align`, a power of two. The caller keeps `value` far from the end.
#[must_use]
pub const fn up(value: u64, align: u64) -> u64 {
    down(value + (align - 1), align)
}
