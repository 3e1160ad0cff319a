//! Synthetic MSRs. TLFS "Synthetic MSRs"; what a group does not offer faults.

use super::{Groups, State, Viridian};
use crate::Machine;
use crate::cpu::Cpu;
use crate::host::Host;
use arch::{Fault, Vcpu};
use devmodel::lapic::BUS_HZ;

const GUEST_OS_ID: u32 = 0x4000_0000;
const HYPERCALL: u32 = 0x4000_0001;
const VP_INDEX: u32 = 0x4000_0002;
const TIME_REF_COUNT: u32 = 0x4000_0020;
const REFERENCE_TSC: u32 = 0x4000_0021;
const TSC_FREQUENCY: u32 = 0x4000_0022;
const APIC_FREQUENCY: u32 = 0x4000_0023;
const EOI: u32 = 0x4000_0070;
const ICR: u32 = 0x4000_0071;
const TPR: u32 = 0x4000_0072;
const VP_ASSIST_PAGE: u32 = 0x4000_0073;
const CRASH_P0: u32 = 0x4000_0100;
const CRASH_P4: u32 = 0x4000_0104;
const CRASH_CTL: u32 = 0x4000_0105;
/// The first and last that could be of this interface.
pub const ALL: core::ops::RangeInclusive<u32> = GUEST_OS_ID..=0x4000_01ff;

/// Of the page MSRs: the page is there. The address is in bits 63:12.
const ENABLE: u64 = 1;
/// Of the hypercall page's: it cannot be changed any more.
const LOCKED: u64 = 2;
const PAGE: u64 = !0xfff;
/// Of CRASH_CTL: the words are written, log them.
const CRASH_NOTIFY: u64 = 1 << 63;

// Registers of the local APIC by their number in its page.
const APIC_TPR: u8 = 0x08;
const APIC_EOI: u8 = 0x0b;
const APIC_ICR: u8 = 0x30;
const APIC_ICR_HIGH: u8 = 0x31;

impl Viridian {
    fn offers(&self, msr: u32) -> bool {
        let group = match msr {
            GUEST_OS_ID | HYPERCALL | VP_INDEX => Groups::BASE,
            TIME_REF_COUNT => Groups::TIME_REF_COUNT,
            REFERENCE_TSC => Groups::REFERENCE_TSC,
            TSC_FREQUENCY | APIC_FREQUENCY => Groups::FREQ,
            EOI | ICR | TPR | VP_ASSIST_PAGE => Groups::APIC_ASSIST,
            CRASH_P0..=CRASH_P4 | CRASH_CTL => Groups::CRASH_CTL,
            _ => return false,
        };
        self.groups.contains(group)
    }
}

impl State {
    fn crash_word(&mut self, msr: u32) -> Option<&mut u64> {
        self.crash.get_mut(msr.checked_sub(CRASH_P0)? as usize)
    }
}

impl Machine {
    /// RDMSR of one of [`ALL`].
    #[cold]
    #[inline(never)]
    pub(crate) fn read_viridian_msr<V: Vcpu, H: Host>(
        &self,
        viridian: &Viridian,
        (cpu, vcpu): (&mut Cpu, &V),
        host: &H,
        msr: u32,
    ) -> Result<u64, Fault> {
        if !viridian.offers(msr) {
            cpu.msrs.log_unknown(cpu.id, msr, None);
            return Err(Fault::GP0);
        }
        let now = self.now(host);
        let mut state = viridian.state.lock();
        Ok(match msr {
            GUEST_OS_ID => state.guest_os,
            HYPERCALL => state.hypercall,
            VP_INDEX => cpu.id as u64,
            TIME_REF_COUNT => now.0 / 100,
            REFERENCE_TSC => state.reference_tsc,
            TSC_FREQUENCY => self.clock.tsc_khz() * 1000,
            APIC_FREQUENCY => BUS_HZ,
            ICR => {
                let half = |number| u64::from(cpu.lapic.read(number, now));
                let [low, high] = [APIC_ICR, APIC_ICR_HIGH].map(half);
                low | high << 32
            }
            TPR => {
                self.take_tpr(cpu, vcpu);
                cpu.lapic.tpr().into()
            }
            VP_ASSIST_PAGE => cpu.msrs.vp_assist,
            CRASH_CTL => CRASH_NOTIFY,
            // EOI is only written.
            _ => *state.crash_word(msr).ok_or(Fault::GP0)?,
        })
    }

    /// WRMSR of one of [`ALL`].
    #[cold]
    #[inline(never)]
    pub(crate) fn write_viridian_msr<V: Vcpu, H: Host>(
        &self,
        viridian: &Viridian,
        (cpu, vcpu): (&mut Cpu, &mut V),
        host: &H,
        (msr, value): (u32, u64),
    ) -> Result<(), Fault> {
        if !viridian.offers(msr) {
            cpu.msrs.log_unknown(cpu.id, msr, Some(value));
            return Err(Fault::GP0);
        }
        match msr {
            EOI | ICR | TPR => self.write_viridian_apic(cpu, vcpu, host, msr, value),
            VP_ASSIST_PAGE => {
                cpu.msrs.vp_assist = value;
                if value & ENABLE != 0 {
                    self.overlay(value & PAGE, &[]);
                }
            }
            _ => return self.write_viridian_state(&mut viridian.state.lock(), msr, value),
        }
        Ok(())
    }

    fn write_viridian_state(&self, state: &mut State, msr: u32, value: u64) -> Result<(), Fault> {
        match msr {
            GUEST_OS_ID => {
                state.guest_os = value;
                // TLFS "Establishing the Hypercall Interface": without a name there is no page.
                if value == 0 {
                    state.hypercall &= !ENABLE;
                }
            }
            HYPERCALL if state.hypercall & LOCKED != 0 => {}
            HYPERCALL => {
                state.hypercall = if state.guest_os == 0 { value & !ENABLE } else { value };
                if state.hypercall & ENABLE != 0 {
                    self.place_viridian_page(value & PAGE);
                }
            }
            REFERENCE_TSC => {
                state.reference_tsc = value;
                if value & ENABLE != 0 {
                    self.place_reference_tsc(value & PAGE);
                }
            }
            CRASH_CTL if value & CRASH_NOTIFY != 0 => {
                log::error!("viridian: the guest says that it crashed: {:x?}", state.crash);
            }
            CRASH_CTL => {}
            _ => match state.crash_word(msr) {
                Some(word) => *word = value,
                // VP_INDEX, counters and frequencies are only read.
                None => return Err(Fault::GP0),
            },
        }
        Ok(())
    }

    fn write_viridian_apic<V: Vcpu, H: Host>(
        &self,
        cpu: &mut Cpu,
        vcpu: &mut V,
        host: &H,
        msr: u32,
        value: u64,
    ) {
        self.take_apic(cpu, vcpu);
        let mut write = |number: u8, value: u64| {
            self.lapic_write(cpu, host, u16::from(number) << 4, 4, value & 0xffff_ffff);
        };
        match msr {
            EOI => write(APIC_EOI, 0),
            ICR => {
                write(APIC_ICR_HIGH, value >> 32);
                write(APIC_ICR, value);
            }
            _ => {
                write(APIC_TPR, value);
                self.sync_tpr(cpu, vcpu);
            }
        }
    }

    /// The page that says how the time follows from the TSC, `HV_REFERENCE_TSC_PAGE`: a sequence number, then
    /// 100 ns a tick times 2^64, then an offset. The guest's TSC begins with the guest, so there is none.
    fn place_reference_tsc(&self, at: u64) {
        let scale = (u128::from(self.clock.ns_per_tick()) << 32) / 100;
        let mut page = [0; 16];
        page[0] = 1;
        page[8..].copy_from_slice(&(scale as u64).to_le_bytes());
        self.overlay(at, &page);
    }
}
