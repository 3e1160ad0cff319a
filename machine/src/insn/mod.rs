//! The guest-memory instruction path: decode with `iced-x86`, execute what real guests use on devices.
//!
//! [`decode`] turns bytes into a compact [`Insn`]; [`exec`] runs it on a vCPU with memory behind the
//! [`Memory`] trait; [`cache`] keeps decoded instructions by address and bytes. Vector and x87
//! moves to devices are left out: they answer [`Trap::Unsupported`].

pub mod alu;
pub mod cache;
pub mod decode;
pub mod exec;
pub mod string;

use arch::{Access, Fault, Gpr, SegReg};

/// Why an instruction could not be completed. Nothing of it has happened then.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trap {
    /// It faults; deliver this.
    Fault(Fault),
    /// The emulator does not know it.
    Unsupported,
    /// A device needs the host to finish something first; execute again later.
    Wait,
}

impl From<Fault> for Trap {
    fn from(fault: Fault) -> Trap {
        Trap::Fault(fault)
    }
}

/// Linear memory of the guest, translated and routed to RAM or devices. `width` is 1, 2, 4 or 8.
pub trait Memory {
    /// Reads, zero-extended.
    ///
    /// # Errors
    /// A page fault of the guest, or [`Trap::Wait`].
    fn read(&mut self, linear: u64, width: u8, access: Access) -> Result<u64, Trap>;

    /// Writes the low `width` bytes.
    ///
    /// # Errors
    /// A page fault of the guest, or [`Trap::Wait`].
    fn write(&mut self, linear: u64, width: u8, value: u64) -> Result<(), Trap>;

    /// Port input for INS.
    fn port_in(&mut self, port: u16, width: u8) -> u64;

    /// Port output for OUTS.
    fn port_out(&mut self, port: u16, width: u8, value: u64);

    /// Carries out up to `count` (1 or more) elements of REP INS to ascending addresses at once, all within a page.
    /// How many were; 0 where the port or the memory is not of the kind that allows it.
    ///
    /// # Errors
    /// As [`Memory::write`] for the first element; nothing has happened then.
    fn ins(&mut self, port: u16, width: u8, linear: u64, count: u64) -> Result<u64, Trap> {
        let _ = (port, width, linear, count);
        Ok(0)
    }

    /// As [`Memory::ins`], for REP OUTS.
    ///
    /// # Errors
    /// As [`Memory::read`] for the first element.
    fn outs(&mut self, port: u16, width: u8, linear: u64, count: u64) -> Result<u64, Trap> {
        let _ = (port, width, linear, count);
        Ok(0)
    }
}

/// Where a value comes from or goes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// No such operand.
    None,
    /// The low bytes of a general register.
    Reg(Gpr),
    /// AH, CH, DH or BH.
    High(Gpr),
    /// The memory operand.
    Mem,
    /// The immediate.
    Imm,
    /// A segment register's selector.
    Seg(SegReg),
    /// A control register.
    Cr(u8),
    /// A debug register.
    Dr(u8),
}

/// Repeat prefix.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rep {
    /// None.
    Once,
    /// REP or REPE.
    WhileEqual,
    /// REPNE.
    WhileNotEqual,
}

/// Two-operand arithmetic, numbered as in opcodes 00-3F (SDM 2D "One-byte Opcode Map").
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "the names are the manual's own")]
pub enum Alu {
    Add,
    Or,
    Adc,
    Sbb,
    And,
    Sub,
    Xor,
    Cmp,
    Test,
}

/// BT and its kin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "the names are the manual's own")]
pub enum BitOp {
    Test,
    Set,
    Reset,
    Complement,
}

/// Shifts and rotates.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "the names are the manual's own")]
pub enum Shift {
    Shl,
    Shr,
    Sar,
    Rol,
    Ror,
}

/// String instructions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "the names are the manual's own")]
pub enum Str {
    Movs,
    Stos,
    Lods,
    Cmps,
    Scas,
    Ins,
    Outs,
}

/// What the instruction does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Op {
    /// dst = src.
    Mov,
    /// dst = src of this many bytes, zero-extended.
    Movzx(u8),
    /// dst = src of this many bytes, sign-extended.
    Movsx(u8),
    /// dst = dst op src, with flags.
    Alu(Alu),
    /// dst + 1.
    Inc,
    /// dst - 1.
    Dec,
    /// One's complement.
    Not,
    /// Two's complement.
    Neg,
    /// Exchange.
    Xchg,
    /// Exchange and add.
    Xadd,
    /// Compare with the accumulator and exchange.
    Cmpxchg,
    /// Bit test and change.
    Bit(BitOp),
    /// Signed product of dst and src, or of src and the immediate if there is one.
    Imul {
        /// The immediate is a factor, instead of dst.
        immediate: bool,
    },
    /// Number of the lowest bit that is set in src.
    Bsf,
    /// Number of the highest bit that is set in src.
    Bsr,
    /// Shift or rotate by src.
    Shift(Shift),
    /// dst = condition (by number, SDM 1 "EFLAGS Condition Codes").
    Setcc(u8),
    /// dst = src where the condition holds.
    Cmov(u8),
    /// Push src.
    Push,
    /// Pop into dst.
    Pop,
    /// String instruction.
    Str(Str),
    /// CLTS.
    Clts,
    /// LMSW src.
    Lmsw,
    /// SMSW dst.
    Smsw,
    /// LTR src.
    Ltr,
    /// Far RET; the immediate is what it drops from the stack besides.
    Retf,
    /// Far JMP: to src in memory, or to the immediate, whose upper half is the selector.
    JmpFar,
    /// An instruction that is known only by its length.
    Other,
}

/// A decoded instruction: all that execution needs, and small enough to cache.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Insn {
    /// Length in bytes, 1 to 15.
    pub len: u8,
    /// What it does.
    pub op: Op,
    /// Operand size in bytes.
    pub width: u8,
    /// Destination.
    pub dst: Place,
    /// Source.
    pub src: Place,
    /// Immediate, sign-extended.
    pub imm: u64,
    /// Segment of the memory operand.
    pub segment: SegReg,
    /// Base register of the memory operand.
    pub base: Option<Gpr>,
    /// Index register of the memory operand.
    pub index: Option<Gpr>,
    /// Scale of the index: 1, 2, 4 or 8.
    pub scale: u8,
    /// Displacement; absolute for RIP-relative operands.
    pub displacement: u64,
    /// Address size in bytes: 2, 4 or 8.
    pub address_size: u8,
    /// Repeat prefix.
    pub rep: Rep,
    /// It has neither memory operand nor immediate nor displacement: its bytes are as long in every mode.
    pub plain: bool,
}

impl Insn {
    /// An instruction of which nothing is known.
    pub const OTHER: Insn = Insn {
        len: 0,
        op: Op::Other,
        width: 0,
        dst: Place::None,
        src: Place::None,
        imm: 0,
        segment: SegReg::Ds,
        base: None,
        index: None,
        scale: 1,
        displacement: 0,
        address_size: 0,
        rep: Rep::Once,
        plain: false,
    };
}
