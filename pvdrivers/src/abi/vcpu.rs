//! `vcpu_op`: start and stop of vCPUs, their timers and shared areas. Xen public "vcpu.h",
//! "hvm/hvm_vcpu.h".

use super::layout::{Width, layouts, numbers};

numbers! {
    /// `VCPUOP_*`.
    VcpuOp: u32 {
        /// [`HvmContext`].
        INITIALISE = 0,
        /// No argument.
        UP = 1,
        /// No argument.
        DOWN = 2,
        /// No argument; returns 1 for a vCPU that is up.
        IS_UP = 3,
        /// [`RunstateInfo`], out.
        GET_RUNSTATE_INFO = 4,
        /// [`MemoryArea`], a linear address.
        REGISTER_RUNSTATE_MEMORY_AREA = 5,
        /// [`SetPeriodicTimer`].
        SET_PERIODIC_TIMER = 6,
        /// No argument.
        STOP_PERIODIC_TIMER = 7,
        /// [`SetSingleshotTimer`].
        SET_SINGLESHOT_TIMER = 8,
        /// No argument.
        STOP_SINGLESHOT_TIMER = 9,
        /// [`RegisterVcpuInfo`].
        REGISTER_VCPU_INFO = 10,
        /// No argument.
        SEND_NMI = 11,
        /// [`GetPhysid`]; for pinned vCPUs.
        GET_PHYSID = 12,
        /// [`MemoryArea`], a linear address.
        REGISTER_VCPU_TIME_MEMORY_AREA = 13,
        /// [`MemoryArea`], a physical address.
        REGISTER_RUNSTATE_PHYS_AREA = 14,
        /// [`MemoryArea`], a physical address.
        REGISTER_VCPU_TIME_PHYS_AREA = 15,
    }
}

numbers! {
    /// `RUNSTATE_*`: what a vCPU is doing; an index into [`RunstateInfo::time`].
    Runstate: i32 {
        /// It runs.
        RUNNING = 0,
        /// It could run and has no CPU.
        RUNNABLE = 1,
        /// It waits for an event.
        BLOCKED = 2,
        /// It is not up, or paused.
        OFFLINE = 3,
    }
}

/// In [`RunstateInfo::state_entry_time`] of a registered area: an update is under way
/// (`XEN_RUNSTATE_UPDATE`), where the guest asked for that by `vm_assist`.
pub const RUNSTATE_UPDATE: u64 = 1 << 63;
/// In [`SetSingleshotTimer::flags`]: a deadline in the past is refused with `ETIME`.
pub const SINGLESHOT_FUTURE: u32 = 1;

layouts! {
    /// How long a vCPU was in which state.
    RunstateInfo: 48 / 44 {
        /// [`Runstate`].
        state: i32 = 0 / 0,
        /// Since when, in nanoseconds of system time.
        state_entry_time: u64 = 8 / 4,
        /// Nanoseconds in each state.
        time: [u64; 4] = 16 / 12,
    }
    /// Where an area of the guest's lies.
    MemoryArea: 8 / 8 {
        /// A union of pointer and physical address. Of a pointer only its own bytes are read.
        addr: u64 = 0 / 0,
    }
    /// The period of a vCPU's periodic timer.
    SetPeriodicTimer: 8 / 8 {
        /// Nanoseconds; under a millisecond is refused.
        period_ns: u64 = 0 / 0,
    }
    /// The deadline of a vCPU's one-shot timer.
    SetSingleshotTimer: 16 / 12 {
        /// Nanoseconds of system time.
        timeout_abs_ns: u64 = 0 / 0,
        /// [`SINGLESHOT_FUTURE`].
        flags: u32 = 8 / 8,
    }
    /// Where a vCPU's `vcpu_info` shall lie; once for each vCPU.
    RegisterVcpuInfo: 16 / 16 {
        /// A guest frame.
        mfn: u64 = 0 / 0,
        /// Where in the frame; it must not leave it.
        offset: u32 = 8 / 8,
        /// Unused.
        reserved: u32 = 12 / 12,
    }
    /// Which physical CPU a pinned vCPU is on.
    GetPhysid: 8 / 8 {
        /// Out: APIC number, above it the ACPI number.
        phys_id: u64 = 0 / 0,
    }
    /// A 32-bit vCPU's registers at its start.
    HvmX86_32: 120 / 120 {
        /// General registers: EAX, ECX, EDX, EBX, ESP, EBP, ESI, EDI.
        gprs: [u32; 8] = 0 / 0,
        /// Instruction pointer.
        eip: u32 = 32 / 32,
        /// Flags.
        eflags: u32 = 36 / 36,
        /// CR0.
        cr0: u32 = 40 / 40,
        /// CR3.
        cr3: u32 = 44 / 44,
        /// CR4.
        cr4: u32 = 48 / 48,
        /// Unused.
        pad1: u32 = 52 / 52,
        /// EFER.
        efer: u64 = 56 / 56,
        /// Bases of CS, DS, SS, ES, TR.
        bases: [u32; 5] = 64 / 64,
        /// Limits of CS, DS, SS, ES, TR, in bytes.
        limits: [u32; 5] = 84 / 84,
        /// Attributes of CS, DS, SS, ES, TR: as in a descriptor's bits 40 to 55, without the
        /// limit's.
        attributes: [u16; 5] = 104 / 104,
        /// Unused.
        pad2: [u16; 3] = 114 / 114,
    }
    /// A 64-bit vCPU's registers at its start.
    HvmX86_64: 112 / 112 {
        /// General registers: RAX, RCX, RDX, RBX, RSP, RBP, RSI, RDI.
        gprs: [u64; 8] = 0 / 0,
        /// Instruction pointer.
        rip: u64 = 64 / 64,
        /// Flags.
        rflags: u64 = 72 / 72,
        /// CR0.
        cr0: u64 = 80 / 80,
        /// CR3.
        cr3: u64 = 88 / 88,
        /// CR4.
        cr4: u64 = 96 / 96,
        /// EFER.
        efer: u64 = 104 / 104,
    }
    /// What stands before the registers of a context: [`HvmContext`].
    HvmContextHead: 8 / 8 {
        /// 0 for 32-bit registers, 1 for 64-bit ones.
        mode: u32 = 0 / 0,
        /// Unused.
        pad: u32 = 4 / 4,
    }
}

/// Registers of a vCPU at its start (`vcpu_hvm_context`), 128 bytes in both widths.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HvmContext {
    /// Real, protected or compatibility mode.
    Bits32(HvmX86_32),
    /// Long mode.
    Bits64(HvmX86_64),
    /// Another mode number; `EINVAL`.
    Other {
        /// The number.
        mode: u32,
    },
}

impl HvmContext {
    /// Bytes of the argument.
    pub const SIZE: usize = 128;

    /// Reads one from a copy of the caller's memory.
    ///
    /// # Errors
    /// `EFAULT` where `bytes` is too short.
    pub fn parse(bytes: &[u8]) -> Result<HvmContext, crate::Errno> {
        use super::Layout;
        let whole = bytes.get(..Self::SIZE).ok_or(crate::Errno::EFAULT)?;
        let head = HvmContextHead::parse(whole, Width::Bits64)?;
        Ok(match head.mode {
            0 => HvmContext::Bits32(HvmX86_32::get(whole, 8, Width::Bits64)),
            1 => HvmContext::Bits64(HvmX86_64::get(whole, 8, Width::Bits64)),
            mode => HvmContext::Other { mode },
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Errno;

    #[test]
    fn a_context_s_mode_says_which_registers_follow() {
        let mut bytes = [0; 128];
        bytes[8..12].copy_from_slice(&0x1234u32.to_le_bytes());
        let HvmContext::Bits32(regs) = HvmContext::parse(&bytes).unwrap() else { panic!() };
        assert_eq!(regs.gprs[0], 0x1234);
        bytes[0] = 1;
        let HvmContext::Bits64(regs) = HvmContext::parse(&bytes).unwrap() else { panic!() };
        assert_eq!(regs.gprs[0], 0x1234);
        bytes[0] = 2;
        assert_eq!(HvmContext::parse(&bytes), Ok(HvmContext::Other { mode: 2 }));
        assert_eq!(HvmContext::parse(&bytes[..127]), Err(Errno::EFAULT));
    }
}
