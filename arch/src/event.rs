//! Events on their way into a guest: interrupts, NMIs, exceptions, and how two of them combine.

/// Exception vectors (SDM 3A "Exception and Interrupt Reference").
#[allow(missing_docs, reason = "the names are the manual's own mnemonics")]
pub mod vector {
    pub const DE: u8 = 0;
    pub const DB: u8 = 1;
    pub const NMI: u8 = 2;
    pub const BP: u8 = 3;
    pub const OF: u8 = 4;
    pub const BR: u8 = 5;
    pub const UD: u8 = 6;
    pub const NM: u8 = 7;
    pub const DF: u8 = 8;
    pub const TS: u8 = 10;
    pub const NP: u8 = 11;
    pub const SS: u8 = 12;
    pub const GP: u8 = 13;
    pub const PF: u8 = 14;
    pub const MF: u8 = 16;
    pub const AC: u8 = 17;
    pub const MC: u8 = 18;
    pub const XM: u8 = 19;
}

/// What kind of event it is; numbered as SVM's EVENTINJ and VMX's interruption type number them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum EventKind {
    /// External interrupt.
    Interrupt = 0,
    /// Non-maskable interrupt.
    Nmi = 2,
    /// Hardware exception.
    Exception = 3,
    /// INT n. Re-injected only; needs the instruction's length on VMX.
    SoftwareInterrupt = 4,
    /// INT1 (VMX only).
    PrivilegedSoftwareException = 5,
    /// INT3 or INTO (VMX only).
    SoftwareException = 6,
}

/// An event to inject, or one whose delivery an exit interrupted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Event {
    /// Kind.
    pub kind: EventKind,
    /// Vector, 0 to 255.
    pub vector: u8,
    /// Error code, for exceptions that push one.
    pub error_code: Option<u32>,
    /// Instruction length, for software kinds; 0 otherwise.
    pub insn_len: u8,
}

/// A fault to raise in the guest at the current instruction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fault {
    /// Exception vector.
    pub vector: u8,
    /// Error code where the exception has one.
    pub error_code: Option<u32>,
    /// New CR2, for page faults.
    pub cr2: Option<u64>,
}

impl Fault {
    /// Invalid opcode.
    pub const UD: Fault = Fault { vector: vector::UD, error_code: None, cr2: None };
    /// General protection with error code 0.
    pub const GP0: Fault = Fault { vector: vector::GP, error_code: Some(0), cr2: None };
    /// Stack fault with error code 0.
    pub const SS0: Fault = Fault { vector: vector::SS, error_code: Some(0), cr2: None };

    /// A page fault at `address` with the error code of SDM 3A "Page-Fault Exceptions".
    #[must_use]
    pub const fn page(address: u64, error_code: u32) -> Fault {
        Fault { vector: vector::PF, error_code: Some(error_code), cr2: Some(address) }
    }

    /// An exception with an error code.
    #[must_use]
    pub const fn with_code(vector: u8, error_code: u32) -> Fault {
        Fault { vector, error_code: Some(error_code), cr2: None }
    }
}

impl Event {
    /// An external interrupt.
    #[must_use]
    #[inline]
    pub const fn interrupt(vector: u8) -> Event {
        Event { kind: EventKind::Interrupt, vector, error_code: None, insn_len: 0 }
    }

    /// A non-maskable interrupt.
    pub const NMI: Event =
        Event { kind: EventKind::Nmi, vector: vector::NMI, error_code: None, insn_len: 0 };

    /// A hardware exception.
    #[must_use]
    pub const fn exception(vector: u8, error_code: Option<u32>) -> Event {
        Event { kind: EventKind::Exception, vector, error_code, insn_len: 0 }
    }

    /// What to inject when `second` (a hardware exception) arises while `self` is being delivered, or `None`
    /// for a triple fault (SDM 3A "Interrupt 8—Double Fault Exception", table "Conditions for
    /// Generating a Double Fault").
    #[must_use]
    pub const fn combine(self, second: Event) -> Option<Event> {
        if !matches!(self.kind, EventKind::Exception) {
            return Some(second);
        }
        if self.vector == vector::DF {
            return match class(second.vector) {
                Class::Benign => Some(second),
                Class::Contributory | Class::PageFault => None,
            };
        }
        match (class(self.vector), class(second.vector)) {
            (Class::Contributory, Class::Contributory)
            | (Class::PageFault, Class::Contributory | Class::PageFault) => {
                Some(Event::exception(vector::DF, Some(0)))
            }
            _ => Some(second),
        }
    }

    /// Whether its delivery saves RFLAGS with RF set, so that the instruction's breakpoint does not come again: that of
    /// faults does, that of traps and aborts saves RF as it is (SDM 3B "Resume Flag").
    #[must_use]
    pub const fn sets_resume_flag(self) -> bool {
        matches!(self.kind, EventKind::Exception)
            && !matches!(
                self.vector,
                vector::DB | vector::BP | vector::OF | vector::DF | vector::MC
            )
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Class {
    Benign,
    Contributory,
    PageFault,
}

const fn class(vector: u8) -> Class {
    match vector {
        vector::DE | vector::TS | vector::NP | vector::SS | vector::GP => Class::Contributory,
        vector::PF => Class::PageFault,
        _ => Class::Benign,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GP: Event = Event::exception(vector::GP, Some(0));
    const PF: Event = Event::exception(vector::PF, Some(2));
    const DF: Event = Event::exception(vector::DF, Some(0));

    #[test]
    fn two_contributory_faults_make_a_double_fault_and_a_third_shuts_down() {
        assert_eq!(GP.combine(GP), Some(DF));
        assert_eq!(DF.combine(GP), None);
    }

    #[test]
    fn a_page_fault_during_a_general_protection_fault_is_delivered_serially() {
        assert_eq!(GP.combine(PF), Some(PF));
        assert_eq!(PF.combine(GP), Some(DF));
        assert_eq!(Event::interrupt(32).combine(PF), Some(PF));
    }
}
