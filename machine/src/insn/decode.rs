//! From bytes to [`Insn`], by `iced-x86`.

use super::{Alu, BitOp, Insn, Op, Place, Rep, Shift, Str};
use arch::{Gpr, SegReg};
use iced_x86::{Code, Decoder, DecoderOptions, Instruction, Mnemonic, OpKind, Register};

/// Makes the decoder's tables, which takes millions of instructions and memory: before any guest needs them in an exit.
pub fn prepare() {
    let _ = decode(&[0x90], 0, 64);
}

/// Decodes the instruction at `rip`. `bits` is 16, 32 or 64, the default operation size of CS. `None`
/// where the bytes are no instruction or end too early.
#[must_use]
pub fn decode(bytes: &[u8], rip: u64, bits: u32) -> Option<Insn> {
    let mut decoder = Decoder::with_ip(bits, bytes, rip, DecoderOptions::NONE);
    let raw = decoder.decode();
    if raw.is_invalid() {
        return None;
    }
    let mut insn = Insn {
        len: raw.len() as u8,
        address_size: (bits / 8) as u8,
        plain: (0..raw.op_count()).all(|n| raw.op_kind(n) == OpKind::Register),
        ..Insn::OTHER
    };
    if let Some((op, width)) = string_op(&raw) {
        return Some(string(insn, &raw, op, width, bits));
    }
    if let Some(op) = far(&mut insn, &raw) {
        insn.op = op;
        return Some(insn);
    }
    let Some(op) = op(&raw) else { return Some(insn) };
    let Some(()) = operands(&mut insn, &raw, bits) else { return Some(insn) };
    insn.op = op;
    Some(insn)
}

/// Far RET and JMP: their operands are of kinds that no other instruction has.
fn far(insn: &mut Insn, raw: &Instruction) -> Option<Op> {
    let (op, width) = match raw.code() {
        Code::Retfw | Code::Retfw_imm16 => (Op::Retf, 2),
        Code::Retfd | Code::Retfd_imm16 => (Op::Retf, 4),
        Code::Retfq | Code::Retfq_imm16 => (Op::Retf, 8),
        Code::Jmp_ptr1616 => (Op::JmpFar, 2),
        Code::Jmp_ptr1632 => (Op::JmpFar, 4),
        Code::Jmp_m1616 => (Op::JmpFar, 2),
        Code::Jmp_m1632 => (Op::JmpFar, 4),
        Code::Jmp_m1664 => (Op::JmpFar, 8),
        _ => return None,
    };
    match raw.op0_kind() {
        OpKind::Memory => {
            memory_operand(insn, raw)?;
            insn.src = Place::Mem;
        }
        OpKind::FarBranch16 | OpKind::FarBranch32 => {
            let offset = if width == 2 { raw.far_branch16().into() } else { raw.far_branch32() };
            insn.imm = u64::from(raw.far_branch_selector()) << 32 | u64::from(offset);
        }
        OpKind::Immediate16 if raw.op_count() > 0 => insn.imm = raw.immediate16().into(),
        _ => {}
    }
    insn.width = width;
    Some(op)
}

fn op(raw: &Instruction) -> Option<Op> {
    Some(match raw.mnemonic() {
        Mnemonic::Mov | Mnemonic::Movnti => Op::Mov,
        Mnemonic::Movzx => Op::Movzx(source_width(raw)),
        Mnemonic::Movsx | Mnemonic::Movsxd => Op::Movsx(source_width(raw)),
        Mnemonic::Add => Op::Alu(Alu::Add),
        Mnemonic::Or => Op::Alu(Alu::Or),
        Mnemonic::Adc => Op::Alu(Alu::Adc),
        Mnemonic::Sbb => Op::Alu(Alu::Sbb),
        Mnemonic::And => Op::Alu(Alu::And),
        Mnemonic::Sub => Op::Alu(Alu::Sub),
        Mnemonic::Xor => Op::Alu(Alu::Xor),
        Mnemonic::Cmp => Op::Alu(Alu::Cmp),
        Mnemonic::Test => Op::Alu(Alu::Test),
        Mnemonic::Inc => Op::Inc,
        Mnemonic::Dec => Op::Dec,
        Mnemonic::Not => Op::Not,
        Mnemonic::Neg => Op::Neg,
        Mnemonic::Xchg => Op::Xchg,
        Mnemonic::Xadd => Op::Xadd,
        Mnemonic::Cmpxchg => Op::Cmpxchg,
        Mnemonic::Bt => Op::Bit(BitOp::Test),
        Mnemonic::Bts => Op::Bit(BitOp::Set),
        Mnemonic::Btr => Op::Bit(BitOp::Reset),
        Mnemonic::Btc => Op::Bit(BitOp::Complement),
        // With one operand the product is in two registers: nobody multiplies so by a device.
        Mnemonic::Imul if raw.op_count() > 1 => Op::Imul { immediate: raw.op_count() == 3 },
        Mnemonic::Bsf => Op::Bsf,
        Mnemonic::Bsr => Op::Bsr,
        Mnemonic::Shl | Mnemonic::Sal => Op::Shift(Shift::Shl),
        Mnemonic::Shr => Op::Shift(Shift::Shr),
        Mnemonic::Sar => Op::Shift(Shift::Sar),
        Mnemonic::Rol => Op::Shift(Shift::Rol),
        Mnemonic::Ror => Op::Shift(Shift::Ror),
        Mnemonic::Push => Op::Push,
        Mnemonic::Pop => Op::Pop,
        Mnemonic::Clts => Op::Clts,
        Mnemonic::Lmsw => Op::Lmsw,
        Mnemonic::Smsw => Op::Smsw,
        Mnemonic::Ltr => Op::Ltr,
        other => return conditional(other),
    })
}

fn conditional(mnemonic: Mnemonic) -> Option<Op> {
    use Mnemonic as M;
    const SET: [Mnemonic; 16] = [
        M::Seto,
        M::Setno,
        M::Setb,
        M::Setae,
        M::Sete,
        M::Setne,
        M::Setbe,
        M::Seta,
        M::Sets,
        M::Setns,
        M::Setp,
        M::Setnp,
        M::Setl,
        M::Setge,
        M::Setle,
        M::Setg,
    ];
    const CMOV: [Mnemonic; 16] = [
        M::Cmovo,
        M::Cmovno,
        M::Cmovb,
        M::Cmovae,
        M::Cmove,
        M::Cmovne,
        M::Cmovbe,
        M::Cmova,
        M::Cmovs,
        M::Cmovns,
        M::Cmovp,
        M::Cmovnp,
        M::Cmovl,
        M::Cmovge,
        M::Cmovle,
        M::Cmovg,
    ];
    if let Some(cc) = SET.iter().position(|m| *m == mnemonic) {
        return Some(Op::Setcc(cc as u8));
    }
    CMOV.iter().position(|m| *m == mnemonic).map(|cc| Op::Cmov(cc as u8))
}

/// Bytes of the second operand of MOVZX and MOVSX.
fn source_width(raw: &Instruction) -> u8 {
    match raw.op1_kind() {
        OpKind::Register => raw.op1_register().size() as u8,
        _ => raw.memory_size().size() as u8,
    }
}

/// Fills operands, width and address; `None` where an operand is of a kind that [`Insn`] does not know.
fn operands(insn: &mut Insn, raw: &Instruction, bits: u32) -> Option<()> {
    if matches!(raw.mnemonic(), Mnemonic::Clts) {
        return Some(());
    }
    insn.width = match raw.op0_kind() {
        OpKind::Register if raw.op0_register().is_gpr() => raw.op0_register().size() as u8,
        OpKind::Register if raw.op_count() > 1 && raw.op1_kind() == OpKind::Register => {
            raw.op1_register().size() as u8
        }
        OpKind::Memory => raw.memory_size().size() as u8,
        _ => (bits / 8) as u8,
    };
    if matches!(raw.mnemonic(), Mnemonic::Push | Mnemonic::Pop) {
        insn.width = raw.stack_pointer_increment().unsigned_abs() as u8;
    }
    if matches!(raw.mnemonic(), Mnemonic::Lmsw | Mnemonic::Ltr) {
        insn.width = 2;
    }
    for operand in 0..raw.op_count().min(2) {
        let place = match raw.op_kind(operand) {
            OpKind::Register => register(raw.op_register(operand))?,
            OpKind::Memory => Place::Mem,
            OpKind::Immediate8
            | OpKind::Immediate16
            | OpKind::Immediate32
            | OpKind::Immediate64
            | OpKind::Immediate8to16
            | OpKind::Immediate8to32
            | OpKind::Immediate8to64
            | OpKind::Immediate32to64 => {
                insn.imm = raw.immediate(operand);
                Place::Imm
            }
            _ => return None,
        };
        if operand == 0
            && !matches!(raw.mnemonic(), Mnemonic::Push | Mnemonic::Lmsw | Mnemonic::Ltr)
        {
            insn.dst = place;
        } else {
            insn.src = place;
        }
    }
    if raw.mnemonic() == Mnemonic::Imul && raw.op_count() == 3 {
        insn.imm = raw.immediate(2);
    }
    if insn.dst == Place::Mem || insn.src == Place::Mem {
        memory_operand(insn, raw)?;
    }
    Some(())
}

fn memory_operand(insn: &mut Insn, raw: &Instruction) -> Option<()> {
    insn.segment = segment(raw.memory_segment())?;
    insn.scale = raw.memory_index_scale() as u8;
    insn.displacement = raw.memory_displacement64();
    insn.base = address_register(raw.memory_base(), &mut insn.address_size)?;
    insn.index = address_register(raw.memory_index(), &mut insn.address_size)?;
    Some(())
}

fn address_register(register: Register, size: &mut u8) -> Option<Option<Gpr>> {
    match register {
        // iced gives RIP-relative displacements as absolute addresses.
        Register::None | Register::RIP | Register::EIP => Some(None),
        gpr if gpr.is_gpr() => {
            *size = gpr.size() as u8;
            Some(Some(Gpr::from_bits(gpr.number() as u8)))
        }
        _ => None,
    }
}

fn register(register: Register) -> Option<Place> {
    Some(match register {
        Register::AH => Place::High(Gpr::Rax),
        Register::CH => Place::High(Gpr::Rcx),
        Register::DH => Place::High(Gpr::Rdx),
        Register::BH => Place::High(Gpr::Rbx),
        // Byte registers are numbered otherwise: AH to BH stand between BL and SPL.
        gpr if gpr.is_gpr() => Place::Reg(Gpr::from_bits(gpr.full_register().number() as u8)),
        seg if seg.is_segment_register() => Place::Seg(segment(seg)?),
        cr if cr.is_cr() => Place::Cr(cr.number() as u8),
        dr if dr.is_dr() => Place::Dr(dr.number() as u8),
        _ => return None,
    })
}

fn segment(register: Register) -> Option<SegReg> {
    Some(match register {
        Register::ES => SegReg::Es,
        Register::CS => SegReg::Cs,
        Register::SS => SegReg::Ss,
        Register::DS => SegReg::Ds,
        Register::FS => SegReg::Fs,
        Register::GS => SegReg::Gs,
        _ => return None,
    })
}

/// The string instruction and its element width.
fn string_op(raw: &Instruction) -> Option<(Str, u8)> {
    if !raw.is_string_instruction() {
        return None;
    }
    use Mnemonic as M;
    Some(match raw.mnemonic() {
        M::Movsb => (Str::Movs, 1),
        M::Movsw => (Str::Movs, 2),
        M::Movsd => (Str::Movs, 4),
        M::Movsq => (Str::Movs, 8),
        M::Stosb => (Str::Stos, 1),
        M::Stosw => (Str::Stos, 2),
        M::Stosd => (Str::Stos, 4),
        M::Stosq => (Str::Stos, 8),
        M::Lodsb => (Str::Lods, 1),
        M::Lodsw => (Str::Lods, 2),
        M::Lodsd => (Str::Lods, 4),
        M::Lodsq => (Str::Lods, 8),
        M::Cmpsb => (Str::Cmps, 1),
        M::Cmpsw => (Str::Cmps, 2),
        M::Cmpsd => (Str::Cmps, 4),
        M::Cmpsq => (Str::Cmps, 8),
        M::Scasb => (Str::Scas, 1),
        M::Scasw => (Str::Scas, 2),
        M::Scasd => (Str::Scas, 4),
        M::Scasq => (Str::Scas, 8),
        M::Insb => (Str::Ins, 1),
        M::Insw => (Str::Ins, 2),
        M::Insd => (Str::Ins, 4),
        M::Outsb => (Str::Outs, 1),
        M::Outsw => (Str::Outs, 2),
        M::Outsd => (Str::Outs, 4),
        _ => return None,
    })
}

fn string(mut insn: Insn, raw: &Instruction, op: Str, width: u8, bits: u32) -> Insn {
    insn.op = Op::Str(op);
    insn.width = width;
    insn.rep = if raw.has_repne_prefix() {
        Rep::WhileNotEqual
    } else if raw.has_rep_prefix() {
        Rep::WhileEqual
    } else {
        Rep::Once
    };
    insn.address_size = (bits / 8) as u8;
    for operand in 0..raw.op_count() {
        let size = match raw.op_kind(operand) {
            OpKind::MemorySegSI | OpKind::MemoryESDI => 2,
            OpKind::MemorySegESI | OpKind::MemoryESEDI => 4,
            OpKind::MemorySegRSI | OpKind::MemoryESRDI => 8,
            _ => continue,
        };
        insn.address_size = size;
        if matches!(
            raw.op_kind(operand),
            OpKind::MemorySegSI | OpKind::MemorySegESI | OpKind::MemorySegRSI
        ) {
            insn.segment = segment(raw.memory_segment()).unwrap_or(SegReg::Ds);
        }
    }
    insn
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moves_of_all_widths_give_their_places() {
        let insn = decode(&[0x8b, 0x04, 0x8d, 0x00, 0x10, 0x00, 0x00], 0, 32).unwrap();
        assert_eq!((insn.op, insn.width, insn.dst), (Op::Mov, 4, Place::Reg(Gpr::Rax)));
        assert_eq!((insn.index, insn.scale, insn.displacement), (Some(Gpr::Rcx), 4, 0x1000));
        let insn = decode(&[0xc6, 0x07, 0x41], 0, 16).unwrap();
        assert_eq!((insn.dst, insn.src, insn.imm), (Place::Mem, Place::Imm, 0x41));
        assert_eq!((insn.base, insn.address_size), (Some(Gpr::Rbx), 2));
        let insn = decode(&[0x0f, 0xb6, 0x10], 0, 64).unwrap();
        assert_eq!((insn.op, insn.width), (Op::Movzx(1), 4));
        let insn = decode(&[0x88, 0x27], 0, 16).unwrap();
        assert_eq!(insn.src, Place::High(Gpr::Rax));
    }

    #[test]
    fn byte_registers_that_need_rex_are_the_ones_that_the_encoding_names() {
        for (bytes, gpr) in [
            ([0x40, 0x88, 0x23], Gpr::Rsp),
            ([0x40, 0x88, 0x3b], Gpr::Rdi),
            ([0x44, 0x88, 0x03], Gpr::R8),
            ([0x44, 0x88, 0x13], Gpr::R10),
            ([0x44, 0x88, 0x3b], Gpr::R15),
        ] {
            assert_eq!(decode(&bytes, 0, 64).unwrap().src, Place::Reg(gpr));
        }
    }

    #[test]
    fn rip_relative_operands_become_absolute() {
        let insn = decode(&[0x8b, 0x05, 0x10, 0, 0, 0], 0x1000, 64).unwrap();
        assert_eq!((insn.base, insn.displacement), (None, 0x1016));
    }

    #[test]
    fn prefixes_count_into_the_length_and_strings_carry_their_segment() {
        assert_eq!(decode(&[0x66, 0x66, 0x0f, 0xa2], 0, 64).unwrap().len, 4);
        let insn = decode(&[0xf3, 0x26, 0x67, 0x6e], 0, 16).unwrap();
        assert_eq!((insn.op, insn.segment), (Op::Str(Str::Outs), SegReg::Es));
        assert_eq!((insn.address_size, insn.rep), (4, Rep::WhileEqual));
    }

    #[test]
    fn a_truncated_instruction_is_none_and_a_vector_move_is_other() {
        assert_eq!(decode(&[0x8b], 0, 64), None);
        assert_eq!(decode(&[0x0f, 0x11, 0x07], 0, 64).unwrap().op, Op::Other);
        assert_eq!(decode(&[0xf2, 0x0f, 0x10, 0x07], 0, 64).unwrap().op, Op::Other);
    }
}
