//! VM-entry interruption information and IDT-vectoring information: one format, two uses (SDM 3C
//! "VM-Entry Controls for Event Injection", "Information for VM Exits That Occur During Event
//! Delivery").

use arch::event::vector;
use arch::{Event, EventKind};

/// The field holds an event.
pub const VALID: u32 = 1 << 31;
const ERROR_VALID: u32 = 1 << 11;
/// VM-exit interruption information: an IRET had already unblocked NMIs when it faulted. In the
/// other two fields undefined or reserved.
pub const NMI_UNBLOCKED: u32 = 1 << 12;
const TYPE: u32 = 7 << 8;

const INTERRUPT: u32 = 0;
const NMI: u32 = 2 << 8;
const EXCEPTION: u32 = 3 << 8;
const SOFTWARE_INTERRUPT: u32 = 4 << 8;
const PRIVILEGED_SOFTWARE_EXCEPTION: u32 = 5 << 8;
const SOFTWARE_EXCEPTION: u32 = 6 << 8;

/// What entry is told to deliver. All zero: nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Injection {
    /// VM-entry interruption information.
    pub info: u32,
    /// VM-entry exception error code.
    pub error_code: u32,
    /// VM-entry instruction length.
    pub length: u32,
}

/// Whether VM-exit interruption information is of INT1.
#[must_use]
pub const fn is_int1(info: u32) -> bool {
    info & TYPE == PRIVILEGED_SOFTWARE_EXCEPTION
}

/// What to write for an event. `real_mode`: exceptions push no error code there, and entry refuses
/// one.
#[must_use]
#[inline]
pub const fn encode(event: Event, real_mode: bool) -> Injection {
    let (kind, length) = match event.kind {
        EventKind::Interrupt => (INTERRUPT, 0),
        EventKind::Nmi => {
            let info = VALID | NMI | vector::NMI as u32;
            return Injection { info, error_code: 0, length: 0 };
        }
        EventKind::Exception => (EXCEPTION, 0),
        EventKind::SoftwareInterrupt => (SOFTWARE_INTERRUPT, event.insn_len as u32),
        EventKind::PrivilegedSoftwareException => {
            (PRIVILEGED_SOFTWARE_EXCEPTION, event.insn_len as u32)
        }
        EventKind::SoftwareException => (SOFTWARE_EXCEPTION, event.insn_len as u32),
    };
    let info = VALID | kind | event.vector as u32;
    match event.error_code {
        Some(error_code) if !real_mode && kind == EXCEPTION => {
            Injection { info: info | ERROR_VALID, error_code, length }
        }
        _ => Injection { info, error_code: 0, length },
    }
}

/// The event that a field holds.
#[must_use]
#[inline]
pub const fn decode(injection: Injection) -> Option<Event> {
    let Injection { info, error_code, length } = injection;
    if info & VALID == 0 {
        return None;
    }
    let kind = match info & TYPE {
        INTERRUPT => EventKind::Interrupt,
        NMI => return Some(Event::NMI),
        SOFTWARE_INTERRUPT => EventKind::SoftwareInterrupt,
        PRIVILEGED_SOFTWARE_EXCEPTION => EventKind::PrivilegedSoftwareException,
        SOFTWARE_EXCEPTION => EventKind::SoftwareException,
        _ => EventKind::Exception,
    };
    let error_code = if info & ERROR_VALID != 0 { Some(error_code) } else { None };
    let insn_len = if is_software(info) { length as u8 } else { 0 };
    Some(Event { kind, vector: info as u8, error_code, insn_len })
}

/// Whether a valid field holds an NMI.
#[must_use]
#[inline]
pub const fn is_nmi(info: u32) -> bool {
    info & (VALID | TYPE) == VALID | NMI
}

/// Whether a valid field holds an event that an instruction asked for.
#[must_use]
pub const fn is_software(info: u32) -> bool {
    matches!(info & TYPE, SOFTWARE_INTERRUPT | PRIVILEGED_SOFTWARE_EXCEPTION | SOFTWARE_EXCEPTION)
}

/// Error code that a field of the format comes with.
#[must_use]
pub const fn error_code(info: u32, code: u32) -> Option<u32> {
    if info & ERROR_VALID != 0 { Some(code) } else { None }
}

/// The event whose delivery an exit interrupted, as an injection. `length`: of the instruction that
/// asked for it.
#[must_use]
pub const fn interrupted(idt_vectoring: u32, code: u32, length: u32) -> Injection {
    let info = idt_vectoring & (VALID | ERROR_VALID | TYPE | 0xff);
    let error_code = if info & ERROR_VALID != 0 { code } else { 0 };
    Injection { info, error_code, length: if is_software(info) { length } else { 0 } }
}

/// What to inject again after an exit that interrupted a delivery.
///
/// INTn, INT1, INT3 and INTO are not injected again: RIP is still at the instruction, which
/// executes again.
#[must_use]
pub const fn again(idt_vectoring: u32, code: u32) -> Injection {
    const NOTHING: Injection = Injection { info: 0, error_code: 0, length: 0 };
    if idt_vectoring & VALID == 0 || is_software(idt_vectoring) {
        return NOTHING;
    }
    interrupted(idt_vectoring, code, 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_survive_the_field() {
        for event in [
            Event::interrupt(0x31),
            Event::NMI,
            Event::exception(vector::GP, Some(0x1234)),
            Event::exception(vector::UD, None),
        ] {
            let field = encode(event, false);
            assert_eq!(decode(field), Some(event));
            assert_eq!(again(field.info, field.error_code), field);
        }
        assert_eq!(encode(Event::interrupt(0x20), false).info, 0x8000_0020);
        assert_eq!(encode(Event::NMI, false).info, 0x8000_0202);
        let gp = encode(Event::exception(vector::GP, Some(8)), false);
        assert_eq!((gp.info, gp.error_code), (0x8000_0b0d, 8));
    }

    #[test]
    fn real_mode_exceptions_push_no_error_code() {
        let gp = encode(Event::exception(vector::GP, Some(0)), true);
        assert_eq!((gp.info, gp.error_code), (0x8000_030d, 0));
    }

    #[test]
    fn software_events_carry_their_length_but_execute_again_after_an_exit() {
        for (kind, vector, info) in [
            (EventKind::SoftwareInterrupt, 0x80, 0x8000_0480),
            (EventKind::PrivilegedSoftwareException, 1, 0x8000_0501),
            (EventKind::SoftwareException, 3, 0x8000_0603),
        ] {
            let event = Event { kind, vector, error_code: None, insn_len: 2 };
            let field = encode(event, false);
            assert_eq!((field.info, field.length), (info, 2));
            assert_eq!(decode(field), Some(event));
            assert_eq!(again(field.info, 0), Injection::default());
        }
    }

    #[test]
    fn undefined_bits_of_the_vectoring_field_are_dropped() {
        assert_eq!(again(0x8000_1b0e, 2).info, 0x8000_0b0e);
        assert_eq!(
            again(0x8000_1031, 7),
            Injection { info: 0x8000_0031, error_code: 0, length: 0 }
        );
        assert_eq!(again(0x0000_0b0e, 2), Injection::default());
    }
}
