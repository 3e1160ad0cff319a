//! Port access.

use core::arch::asm;

macro_rules! access {
    ($read:ident, $write:ident, $type:ty, $register:tt, $in:literal, $out:literal) => {
        /// Reads a port.
        #[inline(always)]
        pub fn $read(port: u16) -> $type {
            let value: $type;
            // SAFETY: the machine is the test's own; what a port does is what it wants to see.
            unsafe { asm!($in, in("dx") port, out($register) value, options(nostack)) };
            value
        }

        /// Writes a port.
        #[inline(always)]
        pub fn $write(port: u16, value: $type) {
            // SAFETY: the machine is the test's own; what a port does is what it wants to see.
            unsafe { asm!($out, in("dx") port, in($register) value, options(nostack)) };
        }
    };
}

access!(in8, out8, u8, "al", "in al, dx", "out dx, al");
access!(in16, out16, u16, "ax", "in ax, dx", "out dx, ax");
access!(in32, out32, u32, "eax", "in eax, dx", "out dx, eax");
