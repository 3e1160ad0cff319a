//! A local APIC whose CPU keeps part of it while the guest runs.
//!
//! One rule: between `lend_apic`, before an entry, and `take_apic`, task priority, requests and vectors in
//! service are in the CPU's page; at all other times, and of all else, the chip is right. Whoever is about to
//! look at those or to change them takes first, and the next entry lends again.
//!
//! A CPU without such a page may still deliver one vector by itself ([`Vcpu::offer`]). That is the same to all others:
//! while it is out, whether the vector is requested or in service is with the CPU, and who takes it back learns that.

use crate::Machine;
use crate::cpu::Cpu;
use crate::host::Host;
use arch::apicpage::offset;
use arch::{ApicMode, Resume, Vcpu};
use devmodel::lapic::Mode;

/// Register numbers: offset / 10h.
pub(crate) const EOI: u8 = 0x0b;
const ICR_HIGH: u8 = 0x31;
const FIRST_OFFERED: u8 = 32;

#[inline(never)]
fn withdraw<V: Vcpu>(cpu: &mut Cpu, vcpu: &mut V) {
    if vcpu.withdraw()
        && let Some(vector) = cpu.offered
    {
        cpu.lapic.acknowledge_vector(vector);
    }
}

impl Machine {
    /// What the CPU does of this vCPU's local APIC by itself.
    #[inline]
    pub(crate) fn apic_mode<V: Vcpu>(&self, cpu: &Cpu, vcpu: &mut V) -> ApicMode {
        if vcpu.apic().is_none() {
            return ApicMode::Off;
        }
        match cpu.lapic.mode() {
            Mode::XApic if Self::lapic_is_standard(cpu) => ApicMode::Memory,
            Mode::X2Apic => ApicMode::Msrs,
            Mode::XApic | Mode::Disabled => ApicMode::Off,
        }
    }

    /// Gives the CPU its part, for the entry that follows.
    #[inline]
    pub(crate) fn lend_apic<V: Vcpu>(&self, cpu: &mut Cpu, vcpu: &mut V) {
        if cpu.apic_lent {
            return;
        }
        // Whatever changes mode or acceptance changes what is shown, too.
        if !cpu.apic_shown {
            let mode = self.apic_mode(cpu, vcpu);
            let Some(page) = vcpu.apic() else { return };
            // A chip that is off accepts nothing, and the CPU does not ask it.
            page.set_mode(mode, mode != ApicMode::Off && cpu.lapic.is_accepting());
            if mode == ApicMode::Off {
                return;
            }
            cpu.lapic.show(page);
            cpu.apic_shown = true;
        }
        let Some(page) = vcpu.apic() else { return };
        cpu.lapic.lend(page);
        cpu.apic_lent = true;
    }

    /// Takes it back.
    #[inline]
    pub(crate) fn take_apic<V: Vcpu>(&self, cpu: &mut Cpu, vcpu: &mut V) {
        if cpu.apic_lent {
            match vcpu.apic() {
                Some(page) => cpu.lapic.take_back(page),
                None => withdraw(cpu, vcpu),
            }
            cpu.apic_lent = false;
            // It is lent again before the next entry.
            cpu.attention = true;
        }
    }

    /// Leaves a vector to the CPU, to be delivered when the guest takes interrupts, if the CPU can do that: the local
    /// APIC's, or the upcall of Xen's events, which nobody acknowledges.
    #[inline]
    pub(crate) fn offer<V: Vcpu>(
        &self,
        cpu: &mut Cpu,
        vcpu: &mut V,
        vector: u8,
        is_upcall: bool,
    ) -> bool {
        // Below are exceptions; an interrupted delivery of such a vector might be taken for one.
        if vector < FIRST_OFFERED || !vcpu.offer(vector) {
            return false;
        }
        cpu.offered = (!is_upcall).then_some(vector);
        cpu.apic_lent = true;
        true
    }

    /// Whether an interrupt of its local APIC waits for the vCPU to open its own.
    pub fn is_interrupted<V: Vcpu>(&self, cpu: &mut Cpu, vcpu: &mut V) -> bool {
        self.take_apic(cpu, vcpu);
        cpu.lapic.pending_vector().is_some()
    }

    /// The guest wrote a register into the page, and its instruction is done
    /// (SDM 3C "APIC-Write VM Exits").
    pub(crate) fn apic_written<V: Vcpu, H: Host>(
        &self,
        cpu: &mut Cpu,
        vcpu: &mut V,
        host: &H,
        at: u16,
    ) -> Resume {
        self.take_apic(cpu, vcpu);
        let Some(page) = vcpu.apic() else { return Resume::Again };
        let value = page.read(at);
        if at & 0xff0 == offset::ICR_LOW {
            // A write of the upper half makes no exit.
            let high = page.read(offset::ICR_HIGH);
            let _ = cpu.lapic.write(ICR_HIGH, high, self.now(host));
            // It is sent at once: delivery status reads 0.
            page.write(offset::ICR_LOW, value & !(1 << 12));
            let shown = cpu.apic_shown;
            self.lapic_write(cpu, host, at & 0xff0, 4, value.into());
            cpu.apic_shown = shown;
        } else {
            self.lapic_write(cpu, host, at & 0xff0, 4, value.into());
        }
        Resume::Again
    }
}
