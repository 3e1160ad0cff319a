//! Arithmetic with flags, as SDM 2 describes each instruction.

use super::{Alu, Shift};
use arch::control::rflags::{AF, CF, OF, PF, SF, ZF};

/// The six status flags.
pub const STATUS: u64 = CF | PF | AF | ZF | SF | OF;

/// All ones in `width` bytes.
#[must_use]
pub const fn mask(width: u8) -> u64 {
    if width >= 8 { u64::MAX } else { (1 << (width as u32 * 8)) - 1 }
}

/// `value` of `width` bytes, sign-extended to 64 bits.
#[must_use]
pub const fn sign_extend(value: u64, width: u8) -> u64 {
    let shift = 64 - (if width >= 8 { 8 } else { width as u32 }) * 8;
    (((value << shift) as i64) >> shift) as u64
}

fn sign_bit(width: u8) -> u64 {
    1 << (u32::from(width.clamp(1, 8)) * 8 - 1)
}

/// PF, ZF and SF of a result.
fn result_flags(result: u64, width: u8) -> u64 {
    let mut flags = 0;
    if (result as u8).count_ones().is_multiple_of(2) {
        flags |= PF;
    }
    if result & mask(width) == 0 {
        flags |= ZF;
    }
    if result & sign_bit(width) != 0 {
        flags |= SF;
    }
    flags
}

/// `a op b`, and the new RFLAGS.
#[must_use]
pub fn alu(op: Alu, a: u64, b: u64, width: u8, rflags: u64) -> (u64, u64) {
    let (a, b) = (a & mask(width), b & mask(width));
    let carry = rflags & CF;
    let (result, status) = match op {
        Alu::Add => add(a, b, 0, width),
        Alu::Adc => add(a, b, carry, width),
        Alu::Sub | Alu::Cmp => sub(a, b, 0, width),
        Alu::Sbb => sub(a, b, carry, width),
        Alu::And | Alu::Test => (a & b, 0),
        Alu::Or => (a | b, 0),
        Alu::Xor => (a ^ b, 0),
    };
    let result = result & mask(width);
    (result, rflags & !STATUS | status | result_flags(result, width))
}

fn add(a: u64, b: u64, carry: u64, width: u8) -> (u64, u64) {
    let wide = u128::from(a) + u128::from(b) + u128::from(carry);
    let result = wide as u64 & mask(width);
    let mut flags = 0;
    if wide > u128::from(mask(width)) {
        flags |= CF;
    }
    if (a ^ b ^ result) & 0x10 != 0 {
        flags |= AF;
    }
    if (a ^ result) & (b ^ result) & sign_bit(width) != 0 {
        flags |= OF;
    }
    (result, flags)
}

fn sub(a: u64, b: u64, borrow: u64, width: u8) -> (u64, u64) {
    let result = a.wrapping_sub(b).wrapping_sub(borrow) & mask(width);
    let mut flags = 0;
    if u128::from(a) < u128::from(b) + u128::from(borrow) {
        flags |= CF;
    }
    if (a ^ b ^ result) & 0x10 != 0 {
        flags |= AF;
    }
    if (a ^ b) & (a ^ result) & sign_bit(width) != 0 {
        flags |= OF;
    }
    (result, flags)
}

/// INC and DEC: like ADD and SUB of 1, but CF stays.
#[must_use]
pub fn inc_dec(op: Alu, a: u64, width: u8, rflags: u64) -> (u64, u64) {
    let (result, flags) = alu(op, a, 1, width, rflags);
    (result, flags & !CF | rflags & CF)
}

/// Shifts and rotates by `count` (masked as the CPU does); flags unchanged for a count of 0.
#[must_use]
pub fn shift(op: Shift, a: u64, count: u64, width: u8, rflags: u64) -> (u64, u64) {
    let count = (count & if width == 8 { 63 } else { 31 }) as u32;
    if count == 0 {
        return (a & mask(width), rflags);
    }
    let bits = u32::from(width) * 8;
    let a = a & mask(width);
    let turn = count % bits;
    let (result, carry) = match op {
        Shift::Shl => {
            let wide = u128::from(a) << count;
            (wide as u64, wide >> bits & 1 != 0)
        }
        Shift::Shr => {
            let wide = u128::from(a) << 64 >> count;
            ((wide >> 64) as u64, wide >> 63 & 1 != 0)
        }
        Shift::Sar => {
            let wide = (i128::from(sign_extend(a, width) as i64) << 64) >> count;
            ((wide >> 64) as u64, wide >> 63 & 1 != 0)
        }
        Shift::Rol => {
            let result = if turn == 0 { a } else { a << turn | a >> (bits - turn) };
            (result, result & 1 != 0)
        }
        Shift::Ror => {
            let result = if turn == 0 { a } else { a >> turn | a << (bits - turn) };
            (result, result & sign_bit(width) != 0)
        }
    };
    let result = result & mask(width);
    let top = result & sign_bit(width) != 0;
    // OF is defined for a count of 1; for others this is what processors leave.
    let overflow = match op {
        Shift::Shl | Shift::Rol => top != carry,
        Shift::Shr => a & sign_bit(width) != 0,
        Shift::Sar => false,
        Shift::Ror => top != (result & (sign_bit(width) >> 1) != 0),
    };
    let mut flags = rflags & !(CF | OF);
    if !matches!(op, Shift::Rol | Shift::Ror) {
        flags = flags & !STATUS | result_flags(result, width);
    }
    if carry {
        flags |= CF;
    }
    if overflow {
        flags |= OF;
    }
    (result, flags)
}

/// The signed product and the new RFLAGS: CF and OF tell that it does not fit; what the manual leaves
/// undefined stays (SDM 2A "IMUL").
#[must_use]
pub fn multiply(a: u64, b: u64, width: u8, rflags: u64) -> (u64, u64) {
    let wide = |value| i128::from(sign_extend(value, width) as i64);
    let product = wide(a) * wide(b);
    let low = product as u64 & mask(width);
    let lost = wide(low) != product;
    (low, if lost { rflags | CF | OF } else { rflags & !(CF | OF) })
}

/// Whether condition `cc`, 0 to 15, holds (SDM 1 "EFLAGS Condition Codes").
#[must_use]
pub fn condition(cc: u8, rflags: u64) -> bool {
    let set = |flag: u64| rflags & flag != 0;
    let holds = match cc >> 1 & 7 {
        0 => set(OF),
        1 => set(CF),
        2 => set(ZF),
        3 => set(CF) || set(ZF),
        4 => set(SF),
        5 => set(PF),
        6 => set(SF) != set(OF),
        _ => set(ZF) || set(SF) != set(OF),
    };
    holds != (cc & 1 != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn carries_and_overflows_follow_the_width() {
        assert_eq!(alu(Alu::Add, 0xff, 1, 1, 0), (0, CF | ZF | PF | AF));
        assert_eq!(alu(Alu::Add, 0x7f, 1, 1, 0), (0x80, OF | SF | AF));
        assert_eq!(alu(Alu::Sub, 0, 1, 4, 0), (0xffff_ffff, CF | SF | PF | AF));
        assert_eq!(alu(Alu::Sbb, 5, 5, 8, CF), (u64::MAX, CF | SF | PF | AF));
        assert_eq!(alu(Alu::And, 0xf0, 0x0f, 2, CF | OF), (0, ZF | PF));
        assert_eq!(inc_dec(Alu::Add, 0xffff, 2, CF), (0, CF | ZF | PF | AF));
    }

    /// The same operations by the CPU that runs the test, through the compiler's own arithmetic.
    #[test]
    fn eight_bit_addition_and_subtraction_agree_with_the_language_for_all_operands() {
        for a in 0..=255u8 {
            for b in 0..=255u8 {
                let (sum, flags) = alu(Alu::Add, a.into(), b.into(), 1, 0);
                assert_eq!(sum as u8, a.wrapping_add(b));
                assert_eq!(flags & CF != 0, a.checked_add(b).is_none());
                assert_eq!(flags & OF != 0, (a as i8).checked_add(b as i8).is_none());
                let (difference, flags) = alu(Alu::Cmp, a.into(), b.into(), 1, 0);
                assert_eq!(difference as u8, a.wrapping_sub(b));
                assert_eq!(condition(2, flags), a < b);
                assert_eq!(condition(12, flags), (a as i8) < (b as i8));
                assert_eq!(condition(15, flags), (a as i8) > (b as i8));
                assert_eq!(condition(4, flags), a == b);
            }
        }
    }

    #[test]
    fn products_that_do_not_fit_say_so() {
        assert_eq!(multiply(7, 0xff, 1, CF | OF), (0xf9, 0));
        assert_eq!(multiply(0x40, 2, 1, 0), (0x80, CF | OF));
        assert_eq!(multiply(u64::MAX, u64::MAX, 8, 0), (1, 0));
        assert_eq!(multiply(1 << 63, 2, 8, ZF), (0, CF | OF | ZF));
    }

    #[test]
    fn shifts_and_rotates_carry_out_the_last_bit() {
        assert_eq!(shift(Shift::Shl, 0x81, 1, 1, 0), (2, CF | OF));
        assert_eq!(shift(Shift::Shr, 3, 1, 4, 0), (1, CF));
        assert_eq!(shift(Shift::Sar, 0x80, 7, 1, 0).0, 0xff);
        assert_eq!(shift(Shift::Rol, 0x80, 1, 1, 0), (1, CF | OF));
        assert_eq!(shift(Shift::Ror, 1, 1, 2, 0), (0x8000, CF | OF));
        assert_eq!(shift(Shift::Shl, 7, 32, 4, CF), (7, CF));
    }
}
