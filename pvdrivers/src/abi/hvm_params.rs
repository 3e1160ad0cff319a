//! The parameters of an HVM domain, and how events are announced to it. Xen public "hvm/params.h".

use super::layout::numbers;

numbers! {
    /// `HVM_PARAM_*`.
    HvmParam: u32 {
        /// How events are announced: [`CallbackVia`].
        CALLBACK_IRQ = 0,
        /// The guest frame of the XenStore ring.
        STORE_PFN = 1,
        /// The port of the XenStore ring.
        STORE_EVTCHN = 2,
        /// Device models.
        IOREQ_PFN = 5,
        /// Device models.
        BUFIOREQ_PFN = 6,
        /// Hyper-V's interface.
        VIRIDIAN = 9,
        /// What happens with missed ticks.
        TIMER_MODE = 10,
        /// Whether there is an HPET.
        HPET_ENABLED = 11,
        /// For CPUs without unrestricted guest.
        IDENT_PT = 12,
        /// ACPI S state: 0 or 3.
        ACPI_S_STATE = 14,
        /// For CPUs without unrestricted guest.
        VM86_TSS = 15,
        /// Whether periodic timers are aligned.
        VPT_ALIGN = 16,
        /// The guest frame of the console ring.
        CONSOLE_PFN = 17,
        /// The port of the console ring.
        CONSOLE_EVTCHN = 18,
        /// Where ACPI's ports are: 1 for B000h.
        ACPI_IOPORTS_LOCATION = 19,
        /// Memory events.
        PAGING_RING_PFN = 27,
        /// Memory events.
        MONITOR_RING_PFN = 28,
        /// Memory events.
        SHARING_RING_PFN = 29,
        /// The shutdown reason of a triple fault.
        TRIPLE_FAULT_REASON = 31,
        /// Device models.
        IOREQ_SERVER_PFN = 32,
        /// Device models.
        NR_IOREQ_SERVER_PAGES = 33,
        /// Where the VM generation number lies.
        VM_GENERATION_ID_ADDR = 34,
        /// Alternate memory maps.
        ALTP2M = 35,
        /// How wide the FPU's pointers are saved.
        X87_FIP_WIDTH = 36,
        /// For CPUs without unrestricted guest.
        VM86_TSS_SIZED = 37,
        /// Machine-check abilities.
        MCA_CAP = 38,
    }
}

/// `HVM_NR_PARAMS`.
pub const PARAMS: u32 = 39;

/// How a domain is told of events ([`HvmParam::CALLBACK_IRQ`]).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum CallbackVia {
    /// Not at all.
    #[default]
    None,
    /// By a line of the I/O APIC.
    Gsi(u32),
    /// By a PCI device's interrupt pin.
    PciIntx {
        /// Slot on bus 0.
        device: u8,
        /// INTA# 0 to INTD# 3.
        pin: u8,
    },
    /// By a vector on the vCPU that is meant, past all interrupt controllers.
    Vector(u8),
    /// A type that there is not.
    Other {
        /// The type, bits 63 to 56.
        kind: u8,
    },
}

impl CallbackVia {
    /// Reads the parameter's value. Domain and bus of a PCI line are not looked at, as in Xen.
    #[must_use]
    pub const fn parse(value: u64) -> CallbackVia {
        match (value >> 56, value) {
            (_, 0) => CallbackVia::None,
            (0, _) => CallbackVia::Gsi(value as u32),
            (1, _) => {
                CallbackVia::PciIntx { device: (value >> 11) as u8 & 31, pin: value as u8 & 3 }
            }
            (2, _) => CallbackVia::Vector(value as u8),
            (kind, _) => CallbackVia::Other { kind: kind as u8 },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_callback_is_told_by_its_upper_byte() {
        assert_eq!(CallbackVia::parse(0), CallbackVia::None);
        assert_eq!(CallbackVia::parse(10), CallbackVia::Gsi(10));
        let pci = 1 << 56 | 3 << 11 | 1;
        assert_eq!(CallbackVia::parse(pci), CallbackVia::PciIntx { device: 3, pin: 1 });
        assert_eq!(CallbackVia::parse(2 << 56 | 0xf3), CallbackVia::Vector(0xf3));
        assert_eq!(CallbackVia::parse(9 << 56), CallbackVia::Other { kind: 9 });
    }

    #[test]
    fn no_parameter_lies_behind_the_last() {
        assert_eq!(HvmParam(PARAMS - 1).name(), Some("MCA_CAP"));
        assert_eq!(HvmParam(PARAMS).name(), None);
    }
}
