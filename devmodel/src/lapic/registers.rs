//! What the guest reads and writes: 16-byte registers in memory, or MSRs 800h to 83Fh.
//! SDM 3A "Local APIC Register Address Map" and "x2APIC Register Address Space".

use arch::Nanos;

use crate::apicmsg::{DeliveryMode, Message, widen_destination};

use super::{
    ESR_ILLEGAL_REGISTER, ESR_SEND_ILLEGAL, Ipi, LVT_ENTRIES, LVT_LEVEL, LVT_MASKED,
    LVT_REMOTE_IRR, LapicEffect, LocalApic, Lvt, Mode, SVR_ENABLED, SVR_SUPPRESS_EOI, Shorthand,
    TimerMode,
};

/// The first x2APIC MSR; register `n` of the page is MSR `800h + n`.
const MSR_FIRST: u32 = 0x800;

/// The access raises #GP(0).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refused;

/// A register, by its offset in the page divided by 16.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Register {
    Id,
    Version,
    Tpr,
    Apr,
    Ppr,
    Eoi,
    RemoteRead,
    Ldr,
    Dfr,
    Svr,
    Isr(u8),
    Tmr(u8),
    Irr(u8),
    Esr,
    IcrLow,
    IcrHigh,
    Lvt(Lvt),
    InitialCount,
    CurrentCount,
    DivideConfig,
    SelfIpi,
}

impl Register {
    #[inline]
    pub(super) fn at(number: u8) -> Option<Self> {
        Some(match number {
            0x02 => Self::Id,
            0x03 => Self::Version,
            0x08 => Self::Tpr,
            0x09 => Self::Apr,
            0x0A => Self::Ppr,
            0x0B => Self::Eoi,
            0x0C => Self::RemoteRead,
            0x0D => Self::Ldr,
            0x0E => Self::Dfr,
            0x0F => Self::Svr,
            0x10..=0x17 => Self::Isr(number & 7),
            0x18..=0x1F => Self::Tmr(number & 7),
            0x20..=0x27 => Self::Irr(number & 7),
            0x28 => Self::Esr,
            0x30 => Self::IcrLow,
            0x31 => Self::IcrHigh,
            0x32..=0x37 => Self::Lvt(LVT_ENTRIES[usize::from(number - 0x32)]),
            0x38 => Self::InitialCount,
            0x39 => Self::CurrentCount,
            0x3E => Self::DivideConfig,
            0x3F => Self::SelfIpi,
            _ => return None,
        })
    }
}

impl LocalApic {
    /// Reads register `number` (offset / 16) of the page. What does not exist reads 0 and is an
    /// error in the ESR.
    #[inline]
    pub fn read(&mut self, number: u8, now: Nanos) -> u32 {
        match Register::at(number) {
            None | Some(Register::SelfIpi) => {
                self.log_error(ESR_ILLEGAL_REGISTER);
                0
            }
            Some(register) => self.read_register(register, now),
        }
    }

    /// Writes register `number` (offset / 16) of the page. Read-only registers ignore it.
    #[inline]
    pub fn write(&mut self, number: u8, value: u32, now: Nanos) -> LapicEffect {
        match Register::at(number) {
            Some(Register::Id) => {
                self.xapic_id = (value >> 24) as u8;
                LapicEffect::Address
            }
            Some(Register::Ldr) => {
                self.ldr = (value >> 24) as u8;
                LapicEffect::Address
            }
            Some(Register::Dfr) => {
                self.flat = value >> 28 == 15;
                LapicEffect::Address
            }
            Some(Register::IcrLow) => {
                self.icr = self.icr & !0xFFFF_FFFF | u64::from(value);
                self.send(widen_destination((self.icr >> 56) as u8))
            }
            Some(Register::IcrHigh) => {
                self.icr = self.icr & 0xFFFF_FFFF | u64::from(value & 0xFF00_0000) << 32;
                LapicEffect::Nothing
            }
            None | Some(Register::SelfIpi) => {
                self.log_error(ESR_ILLEGAL_REGISTER);
                LapicEffect::Nothing
            }
            Some(register) => self.write_register(register, value, now),
        }
    }

    /// RDMSR of 800h to 83Fh.
    ///
    /// # Errors
    /// #GP(0) outside x2APIC mode, for a register that is not there, and for one that is only
    /// written.
    #[inline]
    pub fn read_msr(&self, msr: u32, now: Nanos) -> Result<u64, Refused> {
        let register = self.msr_register(msr)?;
        Ok(match register {
            Register::Id => u64::from(self.config.id),
            Register::Ldr => u64::from(super::ApicAddress::x2apic_ldr(self.config.id)),
            Register::IcrLow => self.icr,
            Register::Eoi | Register::SelfIpi => return Err(Refused),
            _ => u64::from(self.read_register(register, now)),
        })
    }

    /// WRMSR of 800h to 83Fh.
    ///
    /// # Errors
    /// #GP(0) outside x2APIC mode, for a register that is not there or only read, and for a
    /// reserved bit.
    #[inline]
    pub fn write_msr(&mut self, msr: u32, value: u64, now: Nanos) -> Result<LapicEffect, Refused> {
        let register = self.msr_register(msr)?;
        let allowed = match register {
            Register::Eoi | Register::Esr => 0,
            Register::Tpr | Register::SelfIpi => 0xFF,
            Register::Svr => u64::from(self.svr_bits()),
            // Bit 12, delivery status, was never reserved on AMD and is ignored.
            Register::IcrLow => 0xFFFF_FFFF_000C_DFFF,
            Register::Lvt(lvt) => u64::from(self.lvt_bits(lvt) | 1 << 12 | LVT_REMOTE_IRR),
            Register::InitialCount => 0xFFFF_FFFF,
            Register::DivideConfig => 0xB,
            _ => return Err(Refused),
        };
        if value & !allowed != 0 {
            return Err(Refused);
        }
        Ok(match register {
            Register::IcrLow => {
                self.icr = value & !(1 << 12);
                self.send((value >> 32) as u32)
            }
            Register::SelfIpi => {
                self.send_to_oneself(value as u8);
                LapicEffect::Nothing
            }
            _ => self.write_register(register, value as u32, now),
        })
    }

    /// IA32_TSC_DEADLINE: 0 when not armed, once it has passed, and outside its timer mode.
    #[must_use]
    pub fn tsc_deadline(&self, now: Nanos) -> u64 {
        let armed =
            TimerMode::of(self.lvt[0]) == TimerMode::TscDeadline && now < self.timer.deadline;
        if armed { self.timer.tsc } else { 0 }
    }

    /// WRMSR of IA32_TSC_DEADLINE: expire when the guest's TSC reaches `tsc`, which is at `at` (a
    /// time that has passed expires at once). 0 disarms. Ignored outside its timer mode.
    /// SDM 3A "TSC-Deadline Mode".
    #[inline]
    pub fn write_tsc_deadline(&mut self, tsc: u64, at: Nanos) -> LapicEffect {
        if TimerMode::of(self.lvt[0]) != TimerMode::TscDeadline {
            return LapicEffect::Nothing;
        }
        self.timer.tsc = tsc;
        self.timer.deadline = if tsc == 0 { Nanos::NEVER } else { at };
        LapicEffect::Timer
    }

    #[inline]
    fn msr_register(&self, msr: u32) -> Result<Register, Refused> {
        if self.mode != Mode::X2Apic || msr.wrapping_sub(MSR_FIRST) > 0x3F {
            return Err(Refused);
        }
        match Register::at(msr as u8 & 0x3F) {
            None
            | Some(Register::Apr | Register::RemoteRead | Register::Dfr | Register::IcrHigh) => {
                Err(Refused)
            }
            Some(register) => Ok(register),
        }
    }

    pub(super) fn read_register(&self, register: Register, now: Nanos) -> u32 {
        match register {
            Register::Id => u32::from(self.xapic_id) << 24,
            Register::Version => {
                // Version 14h, six LVT entries.
                0x0005_0014 | u32::from(self.config.suppress_eoi) << 24
            }
            Register::Tpr => u32::from(self.tpr),
            Register::Apr | Register::Ppr => u32::from(self.ppr),
            Register::Ldr => u32::from(self.ldr) << 24,
            Register::Dfr => {
                if self.flat {
                    0xFFFF_FFFF
                } else {
                    0x0FFF_FFFF
                }
            }
            Register::Svr => self.svr,
            Register::Isr(n) => half(&self.isr.words(), n),
            Register::Tmr(n) => half(&self.tmr, n),
            Register::Irr(n) => half(&self.irr.words(), n),
            Register::Esr => u32::from(self.esr),
            Register::IcrLow => self.icr as u32,
            Register::IcrHigh => (self.icr >> 32) as u32,
            Register::Lvt(lvt) => self.lvt[lvt as usize],
            Register::InitialCount => self.timer.initial,
            Register::CurrentCount => self.timer.current(TimerMode::of(self.lvt[0]), now),
            Register::DivideConfig => u32::from(self.timer.divide),
            Register::Eoi | Register::RemoteRead | Register::SelfIpi => 0,
        }
    }

    /// The writes that both modes have in common.
    #[inline]
    fn write_register(&mut self, register: Register, value: u32, now: Nanos) -> LapicEffect {
        match register {
            Register::Eoi => {
                return self.eoi().map_or(LapicEffect::Nothing, LapicEffect::EndOfInterrupt);
            }
            Register::Tpr => self.set_tpr(value as u8),
            Register::Svr => {
                self.advance(now);
                self.write_svr(value);
                return LapicEffect::Timer;
            }
            Register::Esr => self.esr = core::mem::take(&mut self.esr_log),
            Register::Lvt(lvt) => {
                self.advance(now);
                self.write_lvt(lvt, value);
                return LapicEffect::Timer;
            }
            Register::InitialCount => {
                if TimerMode::of(self.lvt[0]).counts() {
                    self.timer.start(value, now);
                    return LapicEffect::Timer;
                }
            }
            Register::DivideConfig => {
                self.advance(now);
                self.timer.set_divide(value as u8, TimerMode::of(self.lvt[0]), now);
                return LapicEffect::Timer;
            }
            // Read-only, or different in the two modes.
            Register::Id
            | Register::Version
            | Register::Apr
            | Register::Ppr
            | Register::RemoteRead
            | Register::Ldr
            | Register::Dfr
            | Register::Isr(_)
            | Register::Tmr(_)
            | Register::Irr(_)
            | Register::IcrLow
            | Register::IcrHigh
            | Register::CurrentCount
            | Register::SelfIpi => {}
        }
        LapicEffect::Nothing
    }

    /// The SVR's writable bits. Focus checking (bit 9) is stored, since 32-bit Linux sets it.
    pub(super) const fn svr_bits(&self) -> u32 {
        0x3FF | if self.config.suppress_eoi { SVR_SUPPRESS_EOI } else { 0 }
    }

    fn write_svr(&mut self, value: u32) {
        self.svr = value & self.svr_bits();
        if self.svr & SVR_ENABLED == 0 {
            // SDM 3A "Local APIC State After It Has Been Software Disabled".
            for entry in &mut self.lvt {
                *entry |= LVT_MASKED;
            }
        }
        self.refresh_enables();
    }

    /// The writable bits of an LVT entry.
    pub(super) const fn lvt_bits(&self, lvt: Lvt) -> u32 {
        LVT_MASKED
            | match lvt {
                Lvt::Timer if self.config.tsc_deadline => 0x6_00FF,
                Lvt::Timer => 0x2_00FF,
                Lvt::Thermal | Lvt::Performance => 0x7FF,
                Lvt::Lint0 | Lvt::Lint1 => 0x27FF | LVT_LEVEL,
                Lvt::Error => 0xFF,
            }
    }

    fn write_lvt(&mut self, lvt: Lvt, value: u32) {
        let old = self.lvt[lvt as usize];
        let mut entry = value & self.lvt_bits(lvt);
        if self.svr & SVR_ENABLED == 0 {
            entry |= LVT_MASKED;
        }
        if lvt == Lvt::Timer {
            let (from, to) = (TimerMode::of(old), TimerMode::of(entry));
            // A change between one-shot and periodic goes on counting; others disarm.
            if from != to && !(from.counts() && to.counts()) {
                self.timer.stop();
                self.timer.initial = 0;
            }
        }
        if lvt == Lvt::Lint0 && entry & (LVT_LEVEL | 0x700) == LVT_LEVEL {
            entry |= old & LVT_REMOTE_IRR;
        }
        self.lvt[lvt as usize] = entry;
        if lvt == Lvt::Lint0 {
            self.resample_lint0();
        }
    }

    fn send_to_oneself(&mut self, vector: u8) {
        if vector < 16 {
            self.log_error(ESR_SEND_ILLEGAL);
        } else {
            self.accept(vector, false);
        }
    }

    /// Sends what the ICR says. Delivery is immediate, so its status bit is never seen set.
    #[inline]
    fn send(&mut self, dest: u32) -> LapicEffect {
        self.icr &= !(1 << 12);
        let icr = self.icr as u32;
        let mode = DeliveryMode::from_bits(icr >> 8);
        let vector = icr as u8;
        if mode.has_vector() && vector < 16 {
            self.log_error(ESR_SEND_ILLEGAL);
            return LapicEffect::Nothing;
        }
        let shorthand = match icr >> 18 & 3 {
            0 => Shorthand::Destination,
            1 => Shorthand::Oneself,
            2 => Shorthand::All,
            _ => Shorthand::Others,
        };
        match mode {
            DeliveryMode::Fixed | DeliveryMode::LowestPriority
                if shorthand == Shorthand::Oneself =>
            {
                self.accept(vector, false);
                return LapicEffect::Nothing;
            }
            // No SMM; the others do not exist in an ICR.
            DeliveryMode::Smi | DeliveryMode::Reserved | DeliveryMode::ExtInt => {
                return LapicEffect::Nothing;
            }
            // INIT level de-assert has no effect since the Pentium 4.
            DeliveryMode::Init if icr & 0xC000 == 0x8000 => return LapicEffect::Nothing,
            _ => {}
        }
        let logical = icr >> 11 & 1 != 0;
        // "Trigger Mode" counts only for INIT de-assert; all others are edges.
        let message = Message { dest, logical, mode, vector, level: false };
        LapicEffect::Send(Ipi { shorthand, message })
    }
}

/// Register `n` of eight that show 256 bits.
#[inline]
fn half(words: &[u64; 4], n: u8) -> u32 {
    (words[usize::from(n >> 1 & 3)] >> (u32::from(n & 1) * 32)) as u32
}
