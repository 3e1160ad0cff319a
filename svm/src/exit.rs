//! EXITCODE, EXITINFO1 and EXITINFO2 into [`Exit`] (APM2 appendix "SVM Intercept Exit Codes").
//!
//! Windows, IRET and single steps of our own are taken out before, in `cpu`.

use arch::exit::{CrAccess, NestedFault, StringIo, StringIoDetail, TaskSwitchSource};
use arch::{Access, Exit, Gpr, GuestPhys, SegReg};

/// EXITCODE values.
#[allow(missing_docs, reason = "the names are the manual's own")]
pub mod code {
    pub const CR_READ: u64 = 0x00;
    pub const CR_WRITE: u64 = 0x10;
    pub const DR_READ: u64 = 0x20;
    pub const EXCEPTION: u64 = 0x40;
    pub const EXCEPTION_DB: u64 = EXCEPTION + 1;
    pub const EXCEPTION_MC: u64 = EXCEPTION + 18;
    pub const INTR: u64 = 0x60;
    pub const NMI: u64 = 0x61;
    pub const INIT: u64 = 0x63;
    pub const VINTR: u64 = 0x64;
    pub const CR0_SEL_WRITE: u64 = 0x65;
    pub const RDTSC: u64 = 0x6e;
    pub const RDPMC: u64 = 0x6f;
    pub const CPUID: u64 = 0x72;
    pub const RSM: u64 = 0x73;
    pub const IRET: u64 = 0x74;
    pub const INVD: u64 = 0x76;
    pub const PAUSE: u64 = 0x77;
    pub const HLT: u64 = 0x78;
    pub const INVLPG: u64 = 0x79;
    pub const INVLPGA: u64 = 0x7a;
    pub const IOIO: u64 = 0x7b;
    pub const MSR: u64 = 0x7c;
    pub const TASK_SWITCH: u64 = 0x7d;
    pub const SHUTDOWN: u64 = 0x7f;
    pub const VMRUN: u64 = 0x80;
    pub const VMMCALL: u64 = 0x81;
    pub const VMLOAD: u64 = 0x82;
    pub const SKINIT: u64 = 0x86;
    pub const RDTSCP: u64 = 0x87;
    pub const WBINVD: u64 = 0x89;
    pub const MONITOR: u64 = 0x8a;
    pub const MWAIT: u64 = 0x8b;
    pub const MWAIT_CONDITIONAL: u64 = 0x8c;
    pub const XSETBV: u64 = 0x8d;
    pub const RDPRU: u64 = 0x8e;
    pub const INVLPGB: u64 = 0xa0;
    pub const TLBSYNC: u64 = 0xa4;
    pub const NPF: u64 = 0x400;
    pub const INVALID: u64 = u64::MAX;
}

/// The three words of an exit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reason {
    /// EXITCODE.
    pub code: u64,
    /// EXITINFO1.
    pub info_1: u64,
    /// EXITINFO2.
    pub info_2: u64,
}

impl Reason {
    /// Why the guest stopped. `assists`: the CPU has decode assists.
    #[must_use]
    pub fn decode(self, assists: bool) -> Exit {
        self.decode_or(assists, || self.decode_rare(assists))
    }

    /// As [`decode`](Reason::decode) for the reasons that come often; `rare` answers for the
    /// others.
    #[inline]
    pub(crate) fn decode_or(self, assists: bool, rare: impl FnOnce() -> Exit) -> Exit {
        match self.code {
            code::CPUID => Exit::Cpuid,
            code::IOIO => self.ioio(assists),
            code::NPF => self.nested_fault(),
            code::MSR => {
                if self.info_1 & 1 == 0 {
                    Exit::Rdmsr
                } else {
                    Exit::Wrmsr
                }
            }
            code::INTR => Exit::HostInterrupt,
            code::HLT => Exit::Hlt,
            code::VMMCALL => Exit::Hypercall,
            code::VINTR => Exit::InterruptWindow,
            _ => rare(),
        }
    }

    fn decode_rare(self, assists: bool) -> Exit {
        let Reason { code, info_1, info_2 } = self;
        match code {
            // A 32-bit -1 is QEMU's way to write it.
            code::INVALID | 0xffff_ffff => Exit::BadState { code },
            code::CR_READ..=0x1f => self.control_register(assists),
            code::CR0_SEL_WRITE => Exit::Cr(CrAccess::Undecoded { cr: 0, write: true }),
            code::DR_READ..=0x3f => Exit::Dr,
            code::EXCEPTION..=0x5f => {
                let vector = (code - code::EXCEPTION) as u8;
                // APM2 "Exceptions and Interrupts": vectors that push an error code.
                let coded = matches!(vector, 8 | 10..=14 | 17 | 21 | 29 | 30);
                Exit::Exception {
                    vector,
                    error_code: coded.then_some(info_1 as u32),
                    qualification: if vector == arch::event::vector::PF { info_2 } else { 0 },
                }
            }
            code::NMI => Exit::HostNmi,
            code::INIT => Exit::Init,
            code::RDTSC => Exit::Rdtsc,
            code::RDPMC => Exit::Rdpmc,
            code::INVD => Exit::Invd,
            code::PAUSE => Exit::Pause,
            code::INVLPG => Exit::Invlpg,
            code::TASK_SWITCH => task_switch(info_1, info_2),
            code::SHUTDOWN => Exit::TripleFault,
            code::RDTSCP => Exit::Rdtscp,
            code::WBINVD => Exit::Wbinvd,
            code::MONITOR => Exit::Monitor,
            code::MWAIT | code::MWAIT_CONDITIONAL => Exit::Mwait,
            code::XSETBV => Exit::Xsetbv,
            code::RSM
            | code::INVLPGA
            | code::VMRUN
            | code::VMLOAD..=code::SKINIT
            | code::RDPRU
            | code::INVLPGB..=code::TLBSYNC => Exit::Undefined,
            _ => Exit::Other { code, info: info_1 },
        }
    }

    /// APM2 "IOIO Intercept Information". The address size and, with decode assists, the segment
    /// are there for string forms; QEMU gives neither.
    #[inline]
    fn ioio(self, assists: bool) -> Exit {
        let info = self.info_1;
        let port = (info >> 16) as u16;
        // One of SZ8, SZ16, SZ32 at bits 4 to 6.
        let width = (info >> 4 & 7) as u8;
        let write = info & 1 == 0;
        if info & 4 == 0 {
            return if write { Exit::Out { port, width } } else { Exit::In { port, width } };
        }
        let address_size = match info >> 7 & 7 {
            1 => 2,
            2 => 4,
            4 => 8,
            _ => 0,
        };
        let segment = match (write, info >> 10 & 7) {
            (false, _) => Some(SegReg::Es),
            (true, _) if !assists => None,
            (true, 0) => Some(SegReg::Es),
            (true, 1) => Some(SegReg::Cs),
            (true, 2) => Some(SegReg::Ss),
            (true, 3) => Some(SegReg::Ds),
            (true, 4) => Some(SegReg::Fs),
            (true, 5) => Some(SegReg::Gs),
            (true, _) => None,
        };
        let detail = match segment {
            Some(segment) if address_size != 0 => Some(StringIoDetail { address_size, segment }),
            _ => None,
        };
        Exit::StringIo(StringIo { port, width, write, rep: info & 8 != 0, detail })
    }

    /// APM2 "Nested versus Guest Page Faults, Fault Ordering". The U bit is always set and says
    /// nothing.
    #[inline]
    fn nested_fault(self) -> Exit {
        let info = self.info_1;
        let mut access = match (info & 1 << 1 != 0, info & 1 << 4 != 0) {
            (true, _) => Access::WRITE,
            (false, true) => Access::EXEC,
            (false, false) => Access::READ,
        };
        if info & 1 << 33 != 0 {
            access |= Access::WALK;
        }
        Exit::NestedFault(NestedFault {
            gpa: GuestPhys(self.info_2),
            gva: None,
            access,
            present: info & 1 != 0,
        })
    }

    /// APM2 "MOV CRx Intercepts": bit 63 says that it was a MOV, and bits 0 to 3 which register.
    fn control_register(self, assists: bool) -> Exit {
        let (cr, write) = ((self.code & 0xf) as u8, self.code >= code::CR_WRITE);
        if !assists || self.info_1 >> 63 == 0 {
            return Exit::Cr(CrAccess::Undecoded { cr, write });
        }
        let gpr = Gpr::from_bits(self.info_1 as u8);
        Exit::Cr(if write { CrAccess::Write { cr, gpr } } else { CrAccess::Read { cr, gpr } })
    }
}

/// APM2 "Task Switch Intercept".
fn task_switch(info_1: u64, info_2: u64) -> Exit {
    let source = if info_2 & 1 << 36 != 0 {
        TaskSwitchSource::Iret
    } else if info_2 & 1 << 38 != 0 {
        TaskSwitchSource::Jmp
    } else if info_2 & 1 << 44 != 0 {
        TaskSwitchSource::Gate
    } else {
        TaskSwitchSource::Call
    };
    let error_code = (info_2 & 1 << 44 != 0).then_some(info_2 as u32);
    Exit::TaskSwitch { selector: info_1 as u16, source, error_code }
}

/// Whether RIP is at an instruction that was intercepted: only then does nRIP mean anything.
#[must_use]
pub const fn is_instruction(exit_code: u64) -> bool {
    matches!(
        exit_code,
        0..code::EXCEPTION | 0x65..=0x7c | code::VMRUN..=code::RDPRU | code::INVLPGB..=code::TLBSYNC
    )
}

#[cfg(test)]
mod tests;
