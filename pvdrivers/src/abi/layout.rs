//! How an argument lies in guest memory, for 64-bit and for 32-bit callers.
//!
//! `layouts!` takes a struct's fields with their offsets in both widths and asserts at compile time
//! that C's own rules of alignment give the same offsets and sizes. Values are read from bytes that
//! were copied out of the guest once, and written back the same way.

use crate::Errno;
use arch::GuestVirt;

/// The caller's word size. A 32-bit caller's `long` and pointers have 4 bytes, and its 8-byte
/// integers are aligned to 4.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Width {
    /// A caller in protected or compatibility mode.
    Bits32,
    /// A caller in 64-bit mode.
    #[default]
    Bits64,
}

impl Width {
    /// Bytes of a `long` or a pointer.
    #[must_use]
    #[inline]
    pub const fn bytes(self) -> usize {
        match self {
            Width::Bits32 => 4,
            Width::Bits64 => 8,
        }
    }

    /// Bits of a `long`.
    #[must_use]
    #[inline]
    pub const fn bits(self) -> u32 {
        self.bytes() as u32 * 8
    }

    /// One of two values.
    #[must_use]
    #[inline]
    pub const fn pick(self, bits64: usize, bits32: usize) -> usize {
        match self {
            Width::Bits32 => bits32,
            Width::Bits64 => bits64,
        }
    }
}

/// A `long` of the caller (`xen_ulong_t`, `xen_pfn_t`). A 32-bit caller's has its upper half zero.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Ulong(pub u64);

/// Size and alignment in both widths.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    /// Bytes, for a 64-bit caller.
    pub size64: usize,
    /// Bytes, for a 32-bit caller.
    pub size32: usize,
    /// Alignment for a 64-bit caller.
    pub align64: usize,
    /// Alignment for a 32-bit caller.
    pub align32: usize,
}

impl Shape {
    /// A shape that is its own alignment in both widths.
    #[must_use]
    pub const fn plain(size: usize) -> Shape {
        Shape { size64: size, size32: size, align64: size, align32: size }
    }
}

/// What lies in guest memory in a way that both sides know.
pub trait Layout: Sized + Copy {
    /// Its size and alignment.
    const SHAPE: Shape;

    /// Its bytes for a caller of `width`.
    #[must_use]
    #[inline]
    fn size(width: Width) -> usize {
        width.pick(Self::SHAPE.size64, Self::SHAPE.size32)
    }

    /// Reads it at `at`; bytes that are not there are zeros. [`parse`](Layout::parse) is the
    /// checked way.
    fn get(bytes: &[u8], at: usize, width: Width) -> Self;

    /// Writes it at `at`; bytes that are not there are left out.
    fn put(&self, bytes: &mut [u8], at: usize, width: Width);

    /// Reads an argument from a copy of the caller's memory.
    ///
    /// # Errors
    /// `EFAULT` where `bytes` is shorter than the argument.
    #[inline]
    fn parse(bytes: &[u8], width: Width) -> Result<Self, Errno> {
        if bytes.len() < Self::size(width) {
            Err(Errno::EFAULT)
        } else {
            Ok(Self::get(bytes, 0, width))
        }
    }

    /// Writes an argument with its results, to be copied back. Padding keeps what stood there.
    ///
    /// # Errors
    /// `EFAULT` where `bytes` is shorter than the argument; nothing is written then.
    fn store(&self, bytes: &mut [u8], width: Width) -> Result<(), Errno> {
        if bytes.len() < Self::size(width) {
            return Err(Errno::EFAULT);
        }
        self.put(bytes, 0, width);
        Ok(())
    }
}

/// Up to eight little-endian bytes.
#[inline]
fn read(bytes: &[u8], at: usize, len: usize) -> u64 {
    // Copies of a length that is known become one load; a loop costs six instructions a byte.
    let mut word = [0; 8];
    let there = at.checked_add(len).and_then(|end| bytes.get(at..end));
    if let (Some(there), Some(to)) = (there, word.get_mut(..len)) {
        to.copy_from_slice(there);
    }
    u64::from_le_bytes(word)
}

/// Writes the low `len` bytes of `value`, 8 at most.
#[inline]
fn write(bytes: &mut [u8], at: usize, len: usize, value: u64) {
    let there = at.checked_add(len).and_then(|end| bytes.get_mut(at..end));
    if let (Some(there), Some(from)) = (there, value.to_le_bytes().get(..len)) {
        there.copy_from_slice(from);
    }
}

macro_rules! integers {
    ($($type:ty: $size:literal / $align32:literal,)*) => { $(
        impl Layout for $type {
            const SHAPE: Shape =
                Shape { size64: $size, size32: $size, align64: $size, align32: $align32 };

            fn get(bytes: &[u8], at: usize, _: Width) -> Self {
                read(bytes, at, $size) as $type
            }

            fn put(&self, bytes: &mut [u8], at: usize, _: Width) {
                write(bytes, at, $size, *self as u64);
            }
        }
    )* };
}

integers! {
    u8: 1 / 1,
    i8: 1 / 1,
    u16: 2 / 2,
    i16: 2 / 2,
    u32: 4 / 4,
    i32: 4 / 4,
    u64: 8 / 4,
}

const LONG: Shape = Shape { size64: 8, size32: 4, align64: 8, align32: 4 };

impl Layout for Ulong {
    const SHAPE: Shape = LONG;

    fn get(bytes: &[u8], at: usize, width: Width) -> Self {
        Ulong(read(bytes, at, width.bytes()))
    }

    fn put(&self, bytes: &mut [u8], at: usize, width: Width) {
        write(bytes, at, width.bytes(), self.0);
    }
}

/// A pointer to more of the caller's memory (`XEN_GUEST_HANDLE`).
impl Layout for GuestVirt {
    const SHAPE: Shape = LONG;

    fn get(bytes: &[u8], at: usize, width: Width) -> Self {
        GuestVirt(read(bytes, at, width.bytes()))
    }

    fn put(&self, bytes: &mut [u8], at: usize, width: Width) {
        write(bytes, at, width.bytes(), self.0);
    }
}

impl<T: Layout + Default, const N: usize> Layout for [T; N] {
    const SHAPE: Shape = Shape {
        size64: T::SHAPE.size64 * N,
        size32: T::SHAPE.size32 * N,
        align64: T::SHAPE.align64,
        align32: T::SHAPE.align32,
    };

    fn get(bytes: &[u8], at: usize, width: Width) -> Self {
        core::array::from_fn(|n| T::get(bytes, at + n * T::size(width), width))
    }

    fn put(&self, bytes: &mut [u8], at: usize, width: Width) {
        for (n, value) in self.iter().enumerate() {
            value.put(bytes, at + n * T::size(width), width);
        }
    }
}

/// Lays fields out as C does, at compile time.
#[derive(Clone, Copy)]
pub struct Ruler {
    end: [usize; 2],
    align: [usize; 2],
}

impl Ruler {
    /// Before the first field.
    pub const START: Ruler = Ruler { end: [0; 2], align: [1; 2] };

    /// Places the next field. Panics, which ends the build, where it would not lie at `at` (64-bit,
    /// 32-bit).
    #[must_use]
    pub const fn field(mut self, shape: Shape, at: [usize; 2]) -> Ruler {
        let aligns = [shape.align64, shape.align32];
        let sizes = [shape.size64, shape.size32];
        let mut n = 0;
        while n < 2 {
            assert!(
                self.end[n].next_multiple_of(aligns[n]) == at[n],
                "a field lies elsewhere in C"
            );
            self.end[n] = at[n] + sizes[n];
            if aligns[n] > self.align[n] {
                self.align[n] = aligns[n];
            }
            n += 1;
        }
        self
    }

    /// After the last field. Panics, which ends the build, where the sizes differ.
    #[must_use]
    pub const fn finish(self, sizes: [usize; 2]) -> Shape {
        assert!(
            self.end[0].next_multiple_of(self.align[0]) == sizes[0],
            "another size in C, 64-bit"
        );
        assert!(
            self.end[1].next_multiple_of(self.align[1]) == sizes[1],
            "another size in C, 32-bit"
        );
        Shape { size64: sizes[0], size32: sizes[1], align64: self.align[0], align32: self.align[1] }
    }
}

/// Structs of the ABI: `Name: size64 / size32 { field: Type = offset64 / offset32, }`.
macro_rules! layouts {
    ($($(#[$doc:meta])* $name:ident: $size64:literal / $size32:literal {
        $($(#[$field_doc:meta])* $field:ident: $type:ty = $at64:literal / $at32:literal,)*
    })*) => { $(
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        pub struct $name { $($(#[$field_doc])* pub $field: $type,)* }

        impl $crate::abi::Layout for $name {
            const SHAPE: $crate::abi::layout::Shape = $crate::abi::layout::Ruler::START
                $(.field(<$type as $crate::abi::Layout>::SHAPE, [$at64, $at32]))*
                .finish([$size64, $size32]);

            #[inline]
            fn get(bytes: &[u8], at: usize, width: $crate::abi::Width) -> Self {
                $name { $($field: $crate::abi::Layout::get(
                    bytes, at + width.pick($at64, $at32), width),)* }
            }

            #[inline]
            fn put(&self, bytes: &mut [u8], at: usize, width: $crate::abi::Width) {
                $(self.$field.put(bytes, at + width.pick($at64, $at32), width);)*
            }
        }

        const _: $crate::abi::layout::Shape = <$name as $crate::abi::Layout>::SHAPE;
    )* };
}

/// Numbers of operations: constants of one type, and the names for them.
macro_rules! numbers {
    ($(#[$doc:meta])* $name:ident: $type:ty {
        $($(#[$number_doc:meta])* $number:ident = $value:literal,)*
    }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        pub struct $name(pub $type);

        impl $name {
            $($(#[$number_doc])* pub const $number: $name = $name($value);)*

            /// The header's name; `None` for a number that it does not have.
            #[must_use]
            pub const fn name(self) -> Option<&'static str> {
                match self.0 { $($value => Some(stringify!($number)),)* _ => None }
            }
        }
    };
}

pub(crate) use {layouts, numbers};

#[cfg(test)]
mod tests {
    use super::*;

    layouts! {
        /// All kinds of field.
        Mixed: 48 / 32 {
            /// One.
            byte: u8 = 0 / 0,
            /// Eight, aligned to 4 in a 32-bit caller.
            wide: u64 = 8 / 4,
            /// A `long`.
            long: Ulong = 16 / 12,
            /// Negative numbers.
            status: i16 = 24 / 16,
            /// A pointer.
            pointer: GuestVirt = 32 / 20,
            /// An array.
            more: [u16; 3] = 40 / 24,
        }
    }

    const VALUE: Mixed = Mixed {
        byte: 0x11,
        wide: 0x2233_4455_6677_8899,
        long: Ulong(0x1234_5678),
        status: -12,
        pointer: GuestVirt(0xfeed_beef),
        more: [1, 2, 0xffff],
    };

    #[test]
    fn an_argument_comes_back_as_it_was_written_in_both_widths() {
        for width in [Width::Bits64, Width::Bits32] {
            let mut bytes = [0xee; 48];
            VALUE.store(&mut bytes, width).unwrap();
            assert_eq!(Mixed::parse(&bytes, width), Ok(VALUE));
            assert_eq!(bytes[1], 0xee, "padding keeps what stood there");
        }
    }

    #[test]
    fn a_32_bit_caller_s_long_has_no_upper_half() {
        let mut bytes = [0xff; 48];
        Mixed { long: Ulong(u64::MAX), ..VALUE }.store(&mut bytes, Width::Bits32).unwrap();
        let back = Mixed::parse(&bytes, Width::Bits32).unwrap();
        assert_eq!(back.long, Ulong(0xffff_ffff));
    }

    #[test]
    fn a_short_copy_is_refused_and_nothing_is_written() {
        let mut bytes = [0x55; 31];
        assert_eq!(Mixed::parse(&bytes, Width::Bits32), Err(Errno::EFAULT));
        assert_eq!(VALUE.store(&mut bytes, Width::Bits32), Err(Errno::EFAULT));
        assert!(bytes.iter().all(|byte| *byte == 0x55));
    }
}
