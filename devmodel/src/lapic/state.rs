//! The saved state of a local APIC.

use arch::Nanos;

use crate::state::{LoadError, require};

use super::timer::{Timer, TimerMode};
use super::{LVT_ENTRIES, LVT_MASKED, LVT_REMOTE_IRR, LocalApic, SVR_ENABLED, Vectors, base};

const VERSION: u32 = 1;

/// What a local APIC must remember. Times are guest time; the configuration is not part of it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "the fields are the registers of the same names")]
pub struct LapicState {
    pub version: u32,
    pub base: u64,
    pub xapic_id: u8,
    pub tpr: u8,
    pub ldr: u8,
    pub flat: bool,
    pub svr: u32,
    pub irr: [u64; 4],
    pub isr: [u64; 4],
    pub tmr: [u64; 4],
    pub esr: u8,
    pub esr_log: u8,
    pub icr: u64,
    pub lvt: [u32; 6],
    pub initial_count: u32,
    pub divide_config: u8,
    pub timer_deadline_ns: u64,
    pub tsc_deadline: u64,
    pub lint: [bool; 2],
}

impl LocalApic {
    /// The state.
    #[must_use]
    pub fn save(&self) -> LapicState {
        let Self {
            config: _,
            base,
            xapic_id,
            tpr,
            ldr,
            flat,
            svr,
            irr,
            isr,
            tmr,
            esr,
            esr_log,
            icr,
            lvt,
            timer,
            lint,
            ppr: _,
            mode: _,
            accepting: _,
        } = *self;
        let Timer { initial, divide, deadline, tsc } = timer;
        LapicState {
            version: VERSION,
            base,
            xapic_id,
            tpr,
            ldr,
            flat,
            svr,
            irr: irr.words(),
            isr: isr.words(),
            tmr,
            esr,
            esr_log,
            icr,
            lvt,
            initial_count: initial,
            divide_config: divide,
            timer_deadline_ns: deadline.0,
            tsc_deadline: tsc,
            lint,
        }
    }

    /// Takes over a saved state.
    ///
    /// # Errors
    /// Another version, or a field that no local APIC of this configuration could hold. The chip
    /// is then unchanged.
    pub fn load(&mut self, state: &LapicState) -> Result<(), LoadError> {
        let LapicState {
            version,
            base,
            xapic_id,
            tpr,
            ldr,
            flat,
            svr,
            irr,
            isr,
            tmr,
            esr,
            esr_log,
            icr,
            lvt,
            initial_count: initial,
            divide_config: divide,
            timer_deadline_ns,
            tsc_deadline: tsc,
            lint,
        } = *state;
        if version != VERSION {
            return Err(LoadError::Version);
        }
        let bsp = (base & base::BSP != 0) == self.config.bsp;
        require(bsp && base::is_legal(&self.config, base), "base")?;
        require(svr & !self.svr_bits() == 0, "svr")?;
        require((irr[0] | isr[0] | tmr[0]) & 0xFFFF == 0, "vectors below 16")?;
        require((esr | esr_log) & 0x1F == 0, "esr")?;
        require(icr & 1 << 12 == 0, "icr")?;
        require(divide & !0xB == 0, "divide_config")?;
        for (entry, kind) in lvt.into_iter().zip(LVT_ENTRIES) {
            let bits = self.lvt_bits(kind) | LVT_REMOTE_IRR;
            require(entry & !bits == 0, "lvt")?;
            require(svr & SVR_ENABLED != 0 || entry & LVT_MASKED != 0, "lvt unmasked")?;
        }
        let mode = TimerMode::of(lvt[0]);
        let deadline = Nanos(timer_deadline_ns);
        require(tsc == 0 || mode == TimerMode::TscDeadline, "tsc_deadline")?;
        require(deadline == Nanos::NEVER || mode != TimerMode::Reserved, "timer_deadline_ns")?;
        *self = Self {
            config: self.config,
            base,
            xapic_id,
            tpr,
            ldr,
            flat,
            svr,
            irr: Vectors::from_words(irr),
            isr: Vectors::from_words(isr),
            tmr,
            esr,
            esr_log,
            icr,
            lvt,
            timer: Timer { initial, divide, deadline, tsc },
            lint,
            ppr: 0,
            mode: base::Mode::Disabled,
            accepting: false,
        };
        self.refresh_enables();
        self.refresh_priority();
        Ok(())
    }
}
