//! The 64 KiB ROM image and the trap: how a stub calls Rust, and how Rust knows which stub it was.
//! The stubs themselves are in [`stubs`].

pub mod asm;
pub mod stubs;

pub use stubs::{ROM, VIDEO_CODE};

/// The trap port. `OUT imm8, AL` needs no register, so a stub saves none and needs no stack; a port below
/// 400h is inside every V86 monitor's and `ioperm`'s reach. No PC chip decodes B6h.
pub const TRAP_PORT: u16 = 0xb6;

/// Guest-physical start of the ROM; it ends at 1 MiB. The same image also ends at 4 GiB.
pub const ROM_BASE: u32 = 0xf_0000;
/// Guest-physical start of the video ROM.
pub const VIDEO_BASE: u32 = 0xc_0000;
/// Size of the video ROM in bytes.
pub const VIDEO_SIZE: u32 = 0x8000;

/// What a trap asks for. The stub's bytes name it: `OUT B6h, AL` is followed by a 4-byte NOP whose
/// displacement is this number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
#[allow(missing_docs, reason = "named after the interrupt or step")]
pub enum Service {
    Reset = 1,
    Post,
    MemoryType,
    OptionRom,
    Menu,
    Boot,
    Tick,
    Key,
    Paused,
    Rtc,
    Mouse,
    Bios32,
    PciBios32,
    Int05,
    Int10,
    Int13,
    Int14,
    Int15,
    Int16,
    Int17,
    Int18,
    Int1A,
}

impl Service {
    /// All services, for lookup and for tests.
    pub const ALL: [Service; 22] = [
        Service::Reset,
        Service::Post,
        Service::MemoryType,
        Service::OptionRom,
        Service::Menu,
        Service::Boot,
        Service::Tick,
        Service::Key,
        Service::Paused,
        Service::Rtc,
        Service::Mouse,
        Service::Bios32,
        Service::PciBios32,
        Service::Int05,
        Service::Int10,
        Service::Int13,
        Service::Int14,
        Service::Int15,
        Service::Int16,
        Service::Int17,
        Service::Int18,
        Service::Int1A,
    ];

    /// Whether the stub ends in IRET, so that the caller's flags are in the frame on top of the stack.
    pub(crate) const fn has_frame(self) -> bool {
        self as u8 >= Service::Int05 as u8
    }
}

/// The service whose OUT stands at this guest-physical address, if one does. The ROM as built decides, not
/// what the guest may have written to its shadow.
#[must_use]
pub fn service_at(gpa: u64) -> Option<Service> {
    let code = if let Some(offset) = gpa.checked_sub(ROM_BASE.into()) {
        ROM.get(offset as usize..)?
    } else {
        let offset = gpa.checked_sub(VIDEO_BASE.into())?;
        VIDEO_CODE.get(offset as usize..)?
    };
    service_of(code.first_chunk()?)
}

/// The service that a stub's six bytes name.
pub(crate) fn service_of(code: &[u8; 6]) -> Option<Service> {
    let &[out, port, nop1, nop2, modrm, number] = code;
    let is_trap = [out, port, nop1, nop2, modrm] == stubs::TRAP;
    is_trap.then(|| Service::ALL.get(usize::from(number).checked_sub(1)?).copied())?
}

/// A far pointer into the ROM as the IVT keeps it.
pub(crate) const fn far(offset: u16) -> u32 {
    0xf000_0000 | offset as u32
}

#[cfg(test)]
mod tests {
    use super::*;
    use iced_x86::{Decoder, DecoderOptions, Formatter, Instruction, NasmFormatter};
    use std::string::String;
    use std::vec::Vec;

    fn listing(code: &[u8], at: usize, count: usize) -> Vec<String> {
        let mut decoder = Decoder::with_ip(16, &code[at..], at as u64, DecoderOptions::NONE);
        let mut formatter = NasmFormatter::new();
        let mut lines = Vec::new();
        let mut instruction = Instruction::default();
        for _ in 0..count {
            decoder.decode_out(&mut instruction);
            let mut text = String::new();
            formatter.format(&instruction, &mut text);
            lines.push(text);
        }
        lines
    }

    #[test]
    fn the_reset_vector_jumps_to_the_post_entry_where_ibm_put_it() {
        assert_eq!(listing(&ROM, 0xfff0, 1), ["jmp 0F000h:0E05Bh"]);
        assert_eq!(listing(&ROM, 0xe05b, 3), ["cli", "cld", "out 0B6h,al"]);
    }

    #[test]
    fn every_service_has_a_trap_and_only_traps_are_services() {
        for service in Service::ALL {
            let rom = (0..0x1_0000).any(|at| service_at(u64::from(ROM_BASE) + at) == Some(service));
            let video =
                (0..0x400).any(|at| service_at(u64::from(VIDEO_BASE) + at) == Some(service));
            assert!(rom || video, "{service:?}");
        }
        assert_eq!(service_at(0), None);
        assert_eq!(service_at(0x10_0000), None);
        assert_eq!(service_at(u64::MAX), None);
        assert_eq!(service_at(u64::from(ROM_BASE) + 0xfffe), None);
    }

    #[test]
    fn a_service_stub_touches_no_register_and_waits_with_interrupts_open() {
        let at = stubs::INT16 as usize;
        assert_eq!(
            listing(&ROM, at, 12),
            [
                "out 0B6h,al",
                "nop word [bx+si+13h]",
                "jb short 0E837h",
                "iret",
                "je short 0E83Eh",
                "sti",
                "hlt",
                "cli",
                "jmp short 0E82Eh",
                "sti",
                "nop",
                "cli",
            ]
        );
    }

    #[test]
    fn int_11_and_12_read_the_data_area_without_a_trap() {
        assert_eq!(
            listing(&ROM, stubs::INT12 as usize, 6),
            ["push ds", "push 40h", "pop ds", "mov ax,[13h]", "pop ds", "iret"]
        );
    }

    #[test]
    fn the_keyboard_stub_lets_int_15_4f_change_or_swallow_the_scan_code() {
        let lines = listing(&ROM, stubs::INT09 as usize, 10);
        assert_eq!(
            lines[..8],
            [
                "push ax",
                "in al,64h",
                "test al,1",
                "je short 0E9BEh",
                "in al,60h",
                "mov ah,4Fh",
                "stc",
                "int 15h"
            ]
        );
    }

    #[test]
    fn the_machine_is_an_at_with_a_date_windows_trusts() {
        assert_eq!(&ROM[0xfff5..0xfffd], b"06/23/99");
        assert_eq!(ROM[0xfffe], 0xfc);
    }
}
