//! Segments that VM entry accepts (SDM 3C "Checks on Guest Segment Registers").
//!
//! `machine` keeps segments as descriptors and real mode make them, and as SVM takes them; entry is
//! pickier about bits that mean nothing to the guest. Those are put right here.

use arch::{SegReg, Segment};

const ACCESSED: u32 = 1;
const CODE: u32 = 1 << 3;
/// Of data; the same bit of code is [`READABLE`].
const WRITABLE: u32 = 1 << 1;
const READABLE: u32 = 1 << 1;
/// Bases of CS, SS, DS and ES have 32 bits.
const BASE_32: u64 = 0xffff_ffff;
const S: u32 = 1 << 4;
const TYPE: u32 = 15;
/// Bits of the access rights that may be 1.
const DEFINED: u32 = 0x1_f0ff;
const LDT: u32 = 2;
const BUSY_16: u32 = 3;
const BUSY_32: u32 = 11;

/// `segment` for `reg` with the bits that entry checks put right. `v86`: of a guest in virtual-8086 mode.
#[must_use]
pub const fn legal(reg: SegReg, mut segment: Segment, v86: bool) -> Segment {
    segment.access &= DEFINED;
    match reg {
        SegReg::Gdtr | SegReg::Idtr => {
            segment.limit &= 0xffff;
            return segment;
        }
        SegReg::Tr => {
            // TR is always usable, present and busy.
            let kind = match segment.access & TYPE {
                1 | BUSY_16 => BUSY_16,
                _ => BUSY_32,
            };
            segment.access &= !(TYPE | S | Segment::UNUSABLE);
            segment.access |= kind | Segment::P;
            segment.selector &= !4;
        }
        SegReg::Ldtr => {
            if segment.access & (Segment::P | S | TYPE) != Segment::P | LDT {
                segment.access |= Segment::UNUSABLE;
            }
            if segment.access & Segment::UNUSABLE == 0 {
                segment.selector &= !4;
            }
        }
        SegReg::Cs => {
            // CS has no unusable state. Data types are what real mode leaves: with them DPL is 0, but 3 in virtual-8086 mode.
            segment.access &= !Segment::UNUSABLE;
            segment.access |= Segment::P | S | ACCESSED;
            if segment.access & CODE == 0 && !v86 {
                segment.access = segment.access & !(TYPE | 3 << 5) | 3;
            }
            if segment.access & Segment::L != 0 {
                segment.access &= !Segment::DB;
            }
            segment.base &= BASE_32;
        }
        SegReg::Es | SegReg::Ss | SegReg::Ds | SegReg::Fs | SegReg::Gs => {
            if segment.access & Segment::P == 0 {
                segment.access |= Segment::UNUSABLE;
            }
            if segment.access & Segment::UNUSABLE == 0 {
                segment.access |= S | ACCESSED;
                if matches!(reg, SegReg::Ss) {
                    segment.access = segment.access & !CODE | WRITABLE;
                } else if segment.access & CODE != 0 {
                    segment.access |= READABLE;
                }
            }
            if !matches!(reg, SegReg::Fs | SegReg::Gs) {
                segment.base &= BASE_32;
            }
        }
    }
    if segment.access & Segment::UNUSABLE == 0 { granularity(segment) } else { segment }
}

/// A limit has its low 12 bits all set if G is 1, its high 12 bits clear if G is 0.
const fn granularity(mut segment: Segment) -> Segment {
    if segment.limit > 0xf_ffff {
        segment.limit |= 0xfff;
        segment.access |= Segment::G;
    } else if segment.limit & 0xfff != 0xfff {
        segment.access &= !Segment::G;
    }
    segment
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn legal(reg: SegReg, segment: Segment) -> Segment {
        super::legal(reg, segment, false)
    }

    const fn with(access: u32, limit: u32) -> Segment {
        Segment { selector: 0x2c, base: 0x1000, limit, access }
    }

    #[test]
    fn what_is_legal_stays() {
        for (reg, segment) in [
            (SegReg::Cs, with(0xa09b, u32::MAX)),
            (SegReg::Cs, Segment::real_code(0xf000)),
            (SegReg::Ss, Segment::real_data(0)),
            (SegReg::Ds, with(0xf3, 0xffff)),
            (SegReg::Ds, with(Segment::UNUSABLE, 0)),
            (SegReg::Ldtr, Segment { selector: 0x28, ..with(0x82, 0xf) }),
            (SegReg::Tr, Segment { selector: 0x28, ..with(0x8b, 0x67) }),
        ] {
            assert_eq!(legal(reg, segment), segment, "{reg:?}");
        }
    }

    #[test]
    fn the_task_register_is_busy_and_usable() {
        assert_eq!(legal(SegReg::Tr, with(0x89, 0x67)).access, 0x8b);
        assert_eq!(legal(SegReg::Tr, with(0x81, 0x2b)).access, 0x83);
        assert_eq!(legal(SegReg::Tr, with(Segment::UNUSABLE, 0)).access, 0x8b);
        assert_eq!(legal(SegReg::Tr, with(0x8b, 0x67)).selector, 0x28);
    }

    #[test]
    fn segments_that_are_not_present_are_unusable_and_used_ones_are_accessed() {
        assert_eq!(legal(SegReg::Es, with(0x12, 0)).access, 0x1_0012);
        assert_eq!(legal(SegReg::Ldtr, with(0, 0xffff)).access, Segment::UNUSABLE);
        assert_eq!(legal(SegReg::Ds, with(0x92, 0xffff)).access, 0x93);
        assert_eq!(legal(SegReg::Cs, with(0x9a, 0xffff)).access, 0x9b);
    }

    #[test]
    fn a_data_segment_in_cs_has_dpl_0() {
        assert_eq!(legal(SegReg::Cs, with(0xf2, 0xffff)).access, 0x93);
    }

    #[test]
    fn but_in_virtual_8086_mode_it_has_dpl_3() {
        let segment = with(0xf3, 0xffff);
        assert_eq!(super::legal(SegReg::Cs, segment, true), segment);
    }

    #[test]
    fn stacks_are_writable_and_code_in_data_segments_is_readable() {
        assert_eq!(legal(SegReg::Ss, with(0x91, 0xffff)).access, 0x93);
        assert_eq!(legal(SegReg::Ss, with(0x97, 0xffff)).access, 0x97);
        assert_eq!(legal(SegReg::Ds, with(0x99, 0xffff)).access, 0x9b);
        assert_eq!(legal(SegReg::Ds, with(0x91, 0xffff)).access, 0x91);
    }

    #[test]
    fn only_fs_and_gs_have_long_bases() {
        let high = Segment { base: u64::MAX, ..with(0x93, 0xffff) };
        assert_eq!(legal(SegReg::Ds, high).base, 0xffff_ffff);
        assert_eq!(legal(SegReg::Gs, high).base, u64::MAX);
    }

    #[test]
    fn granularity_follows_the_limit() {
        assert_eq!(legal(SegReg::Ds, with(0x93, u32::MAX)).access, 0x8093);
        assert_eq!(legal(SegReg::Ds, with(0xc093, 0xffff)).access, 0xc093);
        assert_eq!(legal(SegReg::Ds, with(0xc093, 0x12)).access, 0x4093);
        assert_eq!(legal(SegReg::Ds, with(0x93, 0x1f_0000)).limit, 0x1f_0fff);
        assert_eq!(legal(SegReg::Gdtr, with(0, 0x1_ffff)).limit, 0xffff);
    }
}
