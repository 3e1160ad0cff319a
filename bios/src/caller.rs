//! The vCPU that trapped: its registers, the flags of the stub and those in the interrupt frame.

use crate::platform::Platform;
use arch::control::rflags;
use arch::gprs::{Gpr, Gprs};
use arch::{GuestPhys, Segment};

/// Registers of the calling vCPU. The machine fills all of it, and afterwards takes back `gprs`, `rflags` and
/// `es` (which some services return); nothing else changes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Caller {
    /// General registers.
    pub gprs: Gprs,
    /// Offset of the trapping OUT in its code segment.
    pub rip: u64,
    /// Flags as the stub has them.
    pub rflags: u64,
    /// Code segment.
    pub cs: Segment,
    /// Stack segment.
    pub ss: Segment,
    /// DS.
    pub ds: Segment,
    /// ES.
    pub es: Segment,
}

/// What the machine does after a trap.
#[must_use]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Take `gprs`, `rflags` and `es` back and go on behind the OUT.
    Done,
    /// Take `rflags` back only; RIP stays on the OUT. Park the vCPU until the host's disk completes, and let it
    /// execute the OUT again. Interrupts that `rflags` admits may be delivered meanwhile.
    Wait,
    /// The guest's page tables do not map this linear address: raise #PF at the OUT. Nothing happened.
    PageFault {
        /// The address for CR2.
        linear: u32,
        /// It was a write.
        write: bool,
    },
    /// The guest turned itself off (APM).
    PowerOff,
    /// The guest restarts itself (Ctrl-Alt-Del).
    Reset,
    /// The OUT was not in the ROM: an ordinary write to a port that nobody claims.
    NotRom,
}

/// How a service ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Flow {
    /// Finished.
    Done,
    /// The stub halts with interrupts open, then traps again.
    Again,
    /// The stub opens interrupts for a moment, then traps again.
    Spin,
    /// The vCPU is parked for the host's disk.
    Wait,
    /// As the outcome.
    PowerOff,
    /// As the outcome.
    Reset,
}

/// A call in progress: the caller, the machine, and what is collected for the end of the call.
pub(crate) struct Call<'a, P: Platform> {
    /// The caller.
    pub cpu: &'a mut Caller,
    /// The machine.
    pub bus: &'a mut P,
    /// The first linear address that did not translate.
    pub fault: Option<(u32, bool)>,
    /// The stub ends in IRET: the caller's flags are in the interrupt frame, else in RFLAGS.
    pub framed: bool,
    /// FLAGS of the interrupt frame, once loaded.
    frame: Option<(u16, u16)>,
}

macro_rules! word {
    ($($get:ident $set:ident $e:ident $sete:ident $gpr:ident;)*) => {$(
        pub fn $get(&self) -> u16 {
            self.cpu.gprs.get(Gpr::$gpr) as u16
        }
        pub fn $set(&mut self, value: u16) {
            self.cpu.gprs.set_width(Gpr::$gpr, 2, value.into());
        }
        #[allow(dead_code, reason = "one set for all registers")]
        pub fn $e(&self) -> u32 {
            self.cpu.gprs.get(Gpr::$gpr) as u32
        }
        #[allow(dead_code, reason = "one set for all registers")]
        pub fn $sete(&mut self, value: u32) {
            self.cpu.gprs.set(Gpr::$gpr, value.into());
        }
    )*};
}

macro_rules! byte {
    ($($low:ident $set_low:ident $high:ident $set_high:ident $gpr:ident;)*) => {$(
        pub fn $low(&self) -> u8 {
            self.cpu.gprs.get(Gpr::$gpr) as u8
        }
        pub fn $set_low(&mut self, value: u8) {
            self.cpu.gprs.set_width(Gpr::$gpr, 1, value.into());
        }
        pub fn $high(&self) -> u8 {
            (self.cpu.gprs.get(Gpr::$gpr) >> 8) as u8
        }
        pub fn $set_high(&mut self, value: u8) {
            let old = self.cpu.gprs.get(Gpr::$gpr);
            self.cpu.gprs.set(Gpr::$gpr, (old & !0xff00) | u64::from(value) << 8);
        }
    )*};
}

#[allow(dead_code, reason = "one set for all registers")]
impl<'a, P: Platform> Call<'a, P> {
    pub fn new(cpu: &'a mut Caller, bus: &'a mut P) -> Self {
        Call { cpu, bus, fault: None, framed: true, frame: None }
    }

    word! {
        ax set_ax eax set_eax Rax; bx set_bx ebx set_ebx Rbx;
        cx set_cx ecx set_ecx Rcx; dx set_dx edx set_edx Rdx;
        si set_si esi set_esi Rsi; di set_di edi set_edi Rdi;
        bp set_bp ebp set_ebp Rbp;
    }
    byte! {
        al set_al ah set_ah Rax; bl set_bl bh set_bh Rbx;
        cl set_cl ch set_ch Rcx; dl set_dl dh set_dh Rdx;
    }

    /// Linear address of ES:`offset`.
    pub fn es(&self, offset: u16) -> u32 {
        (self.cpu.es.base as u32).wrapping_add(offset.into())
    }

    /// Returns a segment in ES. Callers of such services are in real or V86 mode.
    pub fn set_es(&mut self, selector: u16) {
        self.cpu.es.selector = selector;
        self.cpu.es.base = u64::from(selector) << 4;
    }

    /// Linear address of DS:`offset`.
    pub fn ds(&self, offset: u16) -> u32 {
        (self.cpu.ds.base as u32).wrapping_add(offset.into())
    }

    /// Linear address of the word `words` above the top of the stack.
    fn stack(&self, words: u32) -> u32 {
        let sp = self.cpu.gprs.rsp() as u32;
        let wide = self.cpu.ss.access & Segment::DB != 0;
        let at = sp.wrapping_add(words * 2);
        (self.cpu.ss.base as u32).wrapping_add(if wide { at } else { at & 0xffff })
    }

    /// FLAGS that the stub's IRET will restore.
    fn frame_flags(&mut self) -> u16 {
        if let Some((_, now)) = self.frame {
            return now;
        }
        let at = self.stack(2);
        let flags = self.read16(at);
        self.frame = Some((flags, flags));
        flags
    }

    fn set_frame(&mut self, bit: u64, on: bool) {
        if !self.framed {
            self.cpu.rflags = (self.cpu.rflags & !bit) | if on { bit } else { 0 };
            return;
        }
        let now = self.frame_flags();
        let new = if on { now | bit as u16 } else { now & !(bit as u16) };
        if let Some(frame) = &mut self.frame {
            frame.1 = new;
        }
    }

    /// Carry that the caller sees when the stub returns.
    pub fn set_cf(&mut self, on: bool) {
        self.set_frame(rflags::CF, on);
    }

    /// Zero flag that the caller sees when the stub returns.
    pub fn set_zf(&mut self, on: bool) {
        self.set_frame(rflags::ZF, on);
    }

    /// Carry and zero flag in the stub itself, behind the OUT.
    pub fn stub_flags(&mut self, cf: bool, zf: bool) {
        let flags = self.cpu.rflags & !(rflags::CF | rflags::ZF);
        self.cpu.rflags = flags | u64::from(cf) | if zf { rflags::ZF } else { 0 };
    }

    /// Whether the caller is in virtual-8086 mode.
    pub fn v86(&self) -> bool {
        self.cpu.rflags & rflags::VM != 0
    }

    /// Writes the frame's flags back where they changed.
    pub fn store_frame(&mut self) {
        if let Some((old, new)) = self.frame.take()
            && old != new
        {
            let at = self.stack(2);
            self.write16(at, new);
        }
    }

    /// Translates one byte's address and remembers the first failure.
    pub fn translate(&mut self, linear: u32, write: bool) -> Option<GuestPhys> {
        let at = self.bus.translate(linear, write);
        if at.is_none() && self.fault.is_none() {
            self.fault = Some((linear, write));
        }
        at
    }
}
