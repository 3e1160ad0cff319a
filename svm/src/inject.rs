//! EVENTINJ and EXITINTINFO (APM2 "Event Injection", "EXITINTINFO Pseudo-Code"): one format, two
//! uses.

use arch::event::vector;
use arch::{Event, EventKind};

/// The field holds an event. Other bits are stale where it is clear.
pub const VALID: u64 = 1 << 31;
const ERROR_VALID: u64 = 1 << 11;
const TYPE: u64 = 7 << 8;
const INTERRUPT: u64 = 0;
const NMI: u64 = 2 << 8;
const EXCEPTION: u64 = 3 << 8;
const SOFTWARE_INTERRUPT: u64 = 4 << 8;

/// EVENTINJ for an event. `real_mode`: exceptions push no error code there.
#[must_use]
#[inline]
pub const fn encode(event: Event, real_mode: bool) -> u64 {
    let kind = match event.kind {
        EventKind::Interrupt => INTERRUPT,
        EventKind::Nmi => return VALID | NMI | vector::NMI as u64,
        // INT1, INT3 and INTO are exceptions here.
        EventKind::Exception
        | EventKind::PrivilegedSoftwareException
        | EventKind::SoftwareException => EXCEPTION,
        EventKind::SoftwareInterrupt => SOFTWARE_INTERRUPT,
    };
    let base = VALID | kind | event.vector as u64;
    match event.error_code {
        Some(code) if !real_mode && kind == EXCEPTION => base | ERROR_VALID | (code as u64) << 32,
        _ => base,
    }
}

/// The event that a field holds.
#[must_use]
#[inline]
pub const fn decode(field: u64) -> Option<Event> {
    if field & VALID == 0 {
        return None;
    }
    let vector = field as u8;
    let kind = match field & TYPE {
        INTERRUPT => EventKind::Interrupt,
        NMI => return Some(Event::NMI),
        SOFTWARE_INTERRUPT => EventKind::SoftwareInterrupt,
        _ => EventKind::Exception,
    };
    let error_code = if field & ERROR_VALID != 0 { Some((field >> 32) as u32) } else { None };
    Some(Event { kind, vector, error_code, insn_len: 0 })
}

/// Whether a field holds an event. VALID is the sign of the low half: one instruction to test.
#[must_use]
#[inline]
pub const fn is_valid(field: u64) -> bool {
    (field as i32) < 0
}

/// Whether a field holds an interrupt.
#[must_use]
#[inline]
pub const fn is_interrupt(field: u64) -> bool {
    is_valid(field) && field & TYPE == INTERRUPT
}

/// Whether a valid field holds an NMI.
#[must_use]
#[inline]
pub const fn is_nmi(field: u64) -> bool {
    field & (VALID | TYPE) == VALID | NMI
}

/// What to inject again after an exit that interrupted a delivery: EVENTINJ, or 0 for nothing.
///
/// INTn, INT3 and INTO are not injected again: RIP is still at the instruction, which executes
/// again. An exception beyond vector 31 is a virtual interrupt in disguise (QEMU), still pending as
/// V_IRQ.
#[must_use]
pub const fn again(exit_int_info: u64) -> u64 {
    if exit_int_info & VALID == 0 {
        return 0;
    }
    let vector = exit_int_info as u8;
    match exit_int_info & TYPE {
        INTERRUPT => VALID | INTERRUPT | vector as u64,
        NMI => VALID | NMI | vector::NMI as u64,
        EXCEPTION => match vector {
            vector::BP | vector::OF | 32.. => 0,
            _ if exit_int_info & ERROR_VALID == 0 => VALID | EXCEPTION | vector as u64,
            _ => exit_int_info & (0xffff_ffff << 32 | VALID | ERROR_VALID | TYPE | 0xff),
        },
        _ => 0,
    }
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
            assert_eq!(decode(encode(event, false)), Some(event));
            assert_eq!(again(encode(event, false)), encode(event, false));
        }
        assert_eq!(encode(Event::interrupt(0x20), false), 0x8000_0020);
        assert!(is_interrupt(0x8000_0020) && !is_interrupt(0x20) && !is_interrupt(0x8000_0202));
        assert_eq!(encode(Event::NMI, false), 0x8000_0202);
        let gp = Event::exception(vector::GP, Some(8));
        assert_eq!(encode(gp, false), 0x8_8000_0b0d);
    }

    #[test]
    fn real_mode_exceptions_push_no_error_code() {
        assert_eq!(encode(Event::exception(vector::GP, Some(0)), true), 0x8000_030d);
    }

    #[test]
    fn stale_bits_without_valid_are_nothing() {
        assert_eq!(again(0x0000_0b0e), 0);
        assert_eq!(decode(0xdead_0000_0000_0b0e), None);
        assert!(!is_nmi(0x0000_0202));
    }

    #[test]
    fn software_interrupts_execute_again_instead() {
        assert_eq!(again(VALID | SOFTWARE_INTERRUPT | 0x80), 0);
        assert_eq!(again(VALID | EXCEPTION | 3), 0);
        assert_eq!(again(VALID | EXCEPTION | 4), 0);
    }

    #[test]
    fn a_virtual_interrupt_reported_as_an_exception_is_left_to_v_irq() {
        assert_eq!(again(VALID | EXCEPTION | 0x31), 0);
    }

    #[test]
    fn interrupts_drop_a_stale_error_code() {
        assert_eq!(again(0x55_8000_0831), 0x8000_0031);
        assert_eq!(again(0x55_8000_0306), 0x8000_0306);
    }
}
