//! The guest's local APIC in the CPU's hands: controls by its mode, and what the CPU wants to know
//! besides the page (SDM 3C "APIC Virtualization and Virtual Interrupts").
//!
//! A vector that the page's trigger-mode register calls level-triggered exits when it ends.

use super::{Due, VmxVcpu};
use crate::controls::{ExitControls, Pin, Secondary};
use crate::field as f;
use arch::{ApicMode, HostPhys};

const EOI_EXITS: [f::Field<u64>; 4] = [f::EOI_EXIT_0, f::EOI_EXIT_1, f::EOI_EXIT_2, f::EOI_EXIT_3];

/// All controls that follow the mode.
const BY_MODE: Secondary = Secondary::APIC_ACCESSES
    .union(Secondary::X2APIC)
    .union(Secondary::APIC_REGISTERS)
    .union(Secondary::VIRTUAL_INTERRUPT_DELIVERY);

/// Controls for a mode, where the guest's table has a page at FEE00000h. Whatever is not the CPU's
/// exits, as the page is not memory; but x2APIC mode excludes that, and the page is memory then.
const fn controls(mode: ApicMode) -> Secondary {
    match mode {
        ApicMode::Off => Secondary::APIC_ACCESSES,
        ApicMode::Memory => Secondary::APIC_ACCESSES
            .union(Secondary::APIC_REGISTERS)
            .union(Secondary::VIRTUAL_INTERRUPT_DELIVERY),
        ApicMode::Msrs => Secondary::X2APIC.union(Secondary::VIRTUAL_INTERRUPT_DELIVERY),
    }
}

impl VmxVcpu {
    /// The fields of a new VMCS, which is current.
    pub(super) fn write_apic(&mut self, page: HostPhys) {
        if self.caps.tpr_shadow() {
            self.vmcs.set(f::VIRTUAL_APIC, page.0);
            self.vmcs.set(f::TPR_THRESHOLD, 0);
        }
        if let Some((access, _)) = self.tables.apic() {
            assert!(self.caps.apic(), "an APIC-access page is for CPUs that have the controls");
            self.vmcs.set(f::APIC_ACCESS, access.0);
            self.vmcs.set(f::INTERRUPT_STATUS, 0);
            for field in EOI_EXITS {
                self.vmcs.set(field, 0);
            }
            if let Some(posting) = self.tables.posting() {
                assert!(self.caps.posting(), "posting is for CPUs that have the controls");
                self.vmcs.set(f::POSTED_VECTOR, posting.vector.into());
                self.vmcs.set(f::POSTED_DESCRIPTOR, posting.descriptor.0);
                // Posting wants it, and the vCPU posts at times: one way for all its interrupts.
                let exit = self.vmcs.get(f::EXIT_CONTROLS);
                self.vmcs.set(f::EXIT_CONTROLS, exit | ExitControls::ACKNOWLEDGE.bits());
            }
            self.switch_apic();
        }
    }

    /// Mode or vectors in the page were changed.
    pub(super) fn settle_apic(&mut self) {
        if (self.apic_mode, self.posting) != (self.apic.mode(), self.apic.posting()) {
            (self.apic_mode, self.posting) = (self.apic.mode(), self.apic.posting());
            self.switch_apic();
        }
        if self.apic_mode == ApicMode::Off {
            return;
        }
        // SDM 3C "Guest Interrupt Status": requesting virtual interrupt, servicing virtual interrupt.
        let status = u16::from(self.apic.servicing()) << 8 | u16::from(self.apic.requesting());
        self.vmcs.set_current(f::INTERRUPT_STATUS, status);
        let level = *self.apic.level();
        if self.eoi_exits != level {
            self.eoi_exits = level;
            for (field, vectors) in EOI_EXITS.into_iter().zip(level) {
                self.vmcs.set_current(field, vectors);
            }
        }
    }

    #[cold]
    fn switch_apic(&mut self) {
        let Some((_, x2apic_msr)) = self.tables.apic() else { return };
        let mode = self.apic_mode;
        let old = Secondary::from_bits_retain(self.vmcs.get(f::SECONDARY_CONTROLS));
        let new = old.difference(BY_MODE).union(controls(mode));
        self.vmcs.set(f::SECONDARY_CONTROLS, new.bits());
        let msr = if mode == ApicMode::Msrs { x2apic_msr } else { self.tables.msr() };
        self.vmcs.set(f::MSR_BITMAP, msr.0);
        let mut pin = Pin::from_bits_retain(self.vmcs.get(f::PIN_CONTROLS));
        pin.set(Pin::POSTED_INTERRUPTS, self.posting && self.tables.posting().is_some());
        self.vmcs.set(f::PIN_CONTROLS, pin.bits());
        // SDM 3C "Virtualizing Memory-Mapped APIC Accesses": translations may be from before.
        self.due = Due::all();
    }
}
