//! General registers of a vCPU, in the order of the instruction encoding.

/// Number of a general register as instructions encode it (SDM 2A "ModR/M", REX extensions).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
#[allow(missing_docs, reason = "the names are the manual's own")]
pub enum Gpr {
    Rax,
    Rcx,
    Rdx,
    Rbx,
    Rsp,
    Rbp,
    Rsi,
    Rdi,
    R8,
    R9,
    R10,
    R11,
    R12,
    R13,
    R14,
    R15,
}

impl Gpr {
    /// All sixteen, in encoding order.
    pub const ALL: [Gpr; 16] = [
        Gpr::Rax,
        Gpr::Rcx,
        Gpr::Rdx,
        Gpr::Rbx,
        Gpr::Rsp,
        Gpr::Rbp,
        Gpr::Rsi,
        Gpr::Rdi,
        Gpr::R8,
        Gpr::R9,
        Gpr::R10,
        Gpr::R11,
        Gpr::R12,
        Gpr::R13,
        Gpr::R14,
        Gpr::R15,
    ];

    /// The register with this encoding; only the low four bits count.
    #[must_use]
    #[inline]
    pub const fn from_bits(bits: u8) -> Gpr {
        Gpr::ALL[(bits & 15) as usize]
    }
}

/// The sixteen general registers, laid out as [`Gpr`] counts them: the world switch in `svm::hw` and
/// `vmx::hw` stores at `8 * encoding`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C, align(16))]
pub struct Gprs {
    /// Values by encoding: RAX, RCX, RDX, RBX, RSP, RBP, RSI, RDI, R8 to R15.
    pub r: [u64; 16],
}

macro_rules! named {
    ($($get:ident $set:ident $gpr:ident;)*) => {
        $(
            #[doc = concat!("Value of ", stringify!($gpr), ".")]
            #[must_use]
            #[inline]
            pub const fn $get(&self) -> u64 {
                self.r[Gpr::$gpr as usize]
            }

            #[doc = concat!("Sets all 64 bits of ", stringify!($gpr), ".")]
            #[inline]
            pub const fn $set(&mut self, value: u64) {
                self.r[Gpr::$gpr as usize] = value;
            }
        )*
    };
}

impl Gprs {
    named! {
        rax set_rax Rax; rcx set_rcx Rcx; rdx set_rdx Rdx; rbx set_rbx Rbx;
        rsp set_rsp Rsp; rbp set_rbp Rbp; rsi set_rsi Rsi; rdi set_rdi Rdi;
    }

    /// Value of `gpr`, 64 bits.
    #[must_use]
    #[inline]
    pub const fn get(&self, gpr: Gpr) -> u64 {
        self.r[gpr as usize]
    }

    /// Sets all 64 bits of `gpr`.
    #[inline]
    pub const fn set(&mut self, gpr: Gpr, value: u64) {
        self.r[gpr as usize] = value;
    }

    /// Sets the low `width` bytes (1, 2, 4 or 8) as an instruction does: 4 bytes clear the upper half,
    /// 1 and 2 keep the rest (SDM 1 "General-Purpose Registers in 64-Bit Mode").
    #[inline]
    pub const fn set_width(&mut self, gpr: Gpr, width: u8, value: u64) {
        let old = self.r[gpr as usize];
        self.r[gpr as usize] = match width {
            1 => (old & !0xff) | (value & 0xff),
            2 => (old & !0xffff) | (value & 0xffff),
            4 => value & 0xffff_ffff,
            _ => value,
        };
    }
}

const _: () = assert!(core::mem::size_of::<Gprs>() == 128);
