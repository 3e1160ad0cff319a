//! IA32_APIC_BASE: where the registers are, and which of the three modes the APIC is in.
//! SDM 3A "x2APIC State Transitions".

use super::{LapicConfig, LocalApic, Refused, Timer};

/// Where the registers are after reset.
pub const DEFAULT_BASE: u64 = 0xFEE0_0000;

pub(super) const BSP: u64 = 1 << 8;
pub(super) const EXTEND: u64 = 1 << 10;
pub(super) const ENABLE: u64 = 1 << 11;

/// The mode that IA32_APIC_BASE selects.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Globally disabled: the CPU is as if it had none.
    Disabled,
    /// Registers in memory.
    XApic,
    /// Registers in MSRs 800h to 83Fh.
    X2Apic,
}

impl Mode {
    pub(super) const fn of(base: u64) -> Self {
        match (base & ENABLE != 0, base & EXTEND != 0) {
            (false, _) => Self::Disabled,
            (true, false) => Self::XApic,
            (true, true) => Self::X2Apic,
        }
    }
}

/// Whether no bit is set that this APIC reserves.
pub(super) fn is_legal(config: &LapicConfig, base: u64) -> bool {
    let address_bits = u32::from(config.physical_bits).clamp(32, 52);
    let mut allowed = ((1_u64 << address_bits) - 1) & !0xFFF | BSP | ENABLE;
    if config.x2apic {
        allowed |= EXTEND;
    }
    base & !allowed == 0 && base & (ENABLE | EXTEND) != EXTEND
}

impl LocalApic {
    /// IA32_APIC_BASE.
    #[must_use]
    pub const fn base(&self) -> u64 {
        self.base
    }

    /// The mode.
    #[inline]
    #[must_use]
    pub const fn mode(&self) -> Mode {
        self.mode
    }

    /// The guest-physical address of the register page; `None` outside xAPIC mode.
    #[must_use]
    pub fn page(&self) -> Option<u64> {
        (self.mode == Mode::XApic).then_some(self.base & !0xFFF)
    }

    /// Writes IA32_APIC_BASE. On success `mode`, `page` and `address` may have changed. The bit
    /// that names the bootstrap processor does not change, whatever is written to it.
    ///
    /// # Errors
    /// #GP(0): a reserved bit, or a transition that does not exist (x2APIC to xAPIC, disabled to
    /// x2APIC).
    pub fn write_base(&mut self, value: u64) -> Result<(), Refused> {
        if !is_legal(&self.config, value) {
            return Err(Refused);
        }
        match (self.mode, Mode::of(value)) {
            (Mode::X2Apic, Mode::XApic) | (Mode::Disabled, Mode::X2Apic) => return Err(Refused),
            (Mode::XApic, Mode::X2Apic) => {
                // "x2APIC Transitions From xAPIC Mode": the rest of the state is kept.
                self.icr &= 0xFFFF_FFFF;
                self.xapic_id = self.config.id as u8;
                self.ldr = 0;
                self.flat = true;
            }
            (Mode::XApic | Mode::X2Apic, Mode::Disabled) => {
                // Disabling loses the state; what comes back is the APIC after reset.
                self.reset();
                self.timer = Timer::STOPPED;
            }
            _ => {}
        }
        self.base = value & !BSP | if self.config.bsp { BSP } else { 0 };
        self.refresh_enables();
        Ok(())
    }
}
