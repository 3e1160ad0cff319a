//! INT 15h C2h: the PS/2 mouse, and the packets that INT 74h collects for the program's handler. State is in
//! the EBDA where IBM's BIOS keeps it.

use crate::bda;
use crate::caller::{Call, Flow};
use crate::dispatch::Bios;
use crate::platform::Platform;

const EBDA: u32 = (bda::EBDA as u32) << 4;
/// Far pointer to the program's handler.
const HANDLER: u32 = EBDA + 0x22;
/// Bits 0-2: bytes of the packet so far.
const FLAGS1: u32 = EBDA + 0x26;
/// Bit 7: a handler is set; bits 0-2: packet size less one.
const FLAGS2: u32 = EBDA + 0x27;
const PACKET: u32 = EBDA + 0x28;

/// Status in AH (PS/2 BIOS reference, "Pointing Device Interface").
const BAD_FUNCTION: u8 = 1;
const BAD_INPUT: u8 = 2;
const INTERFACE: u8 = 3;
const NO_HANDLER: u8 = 5;

/// 8042 command byte: mouse interrupt, mouse clock off.
const MOUSE_INTERRUPT: u8 = 0x02;
const MOUSE_OFF: u8 = 0x20;

/// A byte of an answer takes its time on the wire, in guest time; a mouse that takes longer is none.
const PATIENCE_NS: u64 = 2_000_000;
/// Looks at a buffer that stays empty while the clock stands still.
const LOOKS: u32 = 64;

fn command_byte<P: Platform>(c: &mut Call<'_, P>) -> u8 {
    // What stands in the buffer would be taken for the answer.
    for _ in 0..16 {
        if c.bus.port_in(0x64, 1) & 1 == 0 {
            break;
        }
        let _ = c.bus.port_in(0x60, 1);
    }
    c.bus.port_out(0x64, 1, 0x20);
    c.bus.port_in(0x60, 1) as u8
}

fn set_command_byte<P: Platform>(c: &mut Call<'_, P>, value: u8) {
    c.bus.port_out(0x64, 1, 0x60);
    c.bus.port_out(0x60, 1, value.into());
}

/// The next byte of the mouse, when it comes; the keyboard's in between are dropped, as it is held off meanwhile.
fn receive<P: Platform>(c: &mut Call<'_, P>) -> Option<u8> {
    let (mut seen, mut still) = (c.bus.now(), 0);
    let until = seen + PATIENCE_NS;
    while seen < until && still < LOOKS {
        let status = c.bus.port_in(0x64, 1);
        if status & 1 != 0 {
            let byte = c.bus.port_in(0x60, 1) as u8;
            if status & 0x20 != 0 {
                return Some(byte);
            }
        }
        let now = c.bus.now();
        still = if now == seen { still + 1 } else { 0 };
        seen = now;
    }
    None
}

/// Sends a command with parameters, and takes the answer behind its acknowledgements.
fn talk<P: Platform>(c: &mut Call<'_, P>, bytes: &[u8], answer: &mut [u8]) -> Result<(), u8> {
    let before = command_byte(c);
    // Keyboard off and no mouse interrupts while answers are read by polling.
    set_command_byte(c, (before | 0x10) & !(MOUSE_INTERRUPT | MOUSE_OFF | 1));
    let mut result = Ok(());
    'all: {
        for &byte in bytes {
            c.bus.port_out(0x64, 1, 0xd4);
            c.bus.port_out(0x60, 1, byte.into());
            // Stale movement may stand before the acknowledgement.
            if !(0..8).map_while(|_| receive(c)).any(|byte| byte == 0xfa) {
                result = Err(INTERFACE);
                break 'all;
            }
        }
        for byte in answer {
            match receive(c) {
                Some(value) => *byte = value,
                None => result = Err(INTERFACE),
            }
        }
    }
    set_command_byte(c, before);
    result
}

fn enable_interrupt<P: Platform>(c: &mut Call<'_, P>, on: bool) {
    let byte = command_byte(c) & !MOUSE_OFF;
    let byte = if on { byte | MOUSE_INTERRUPT } else { byte & !MOUSE_INTERRUPT };
    set_command_byte(c, byte);
}

pub(super) fn int15_c2_mouse<P: Platform>(c: &mut Call<'_, P>) {
    let done = match c.al() {
        0x00 => enable(c),
        0x01 => reset(c),
        0x02 => {
            const RATES: [u8; 7] = [10, 20, 40, 60, 80, 100, 200];
            match RATES.get(usize::from(c.bh())) {
                Some(&rate) => talk(c, &[0xf3, rate], &mut []),
                None => Err(BAD_INPUT),
            }
        }
        0x03 if c.bh() < 4 => talk(c, &[0xe8, c.bh()], &mut []),
        0x03 => Err(BAD_INPUT),
        0x04 => {
            let mut kind = [0];
            let done = talk(c, &[0xf2], &mut kind);
            c.set_bh(kind[0]);
            done
        }
        0x05 if (1..=8).contains(&c.bh()) => {
            let flags = c.read8(FLAGS2) & 0x80;
            c.write8(FLAGS2, flags | (c.bh() - 1));
            c.write8(FLAGS1, 0);
            reset(c)
        }
        0x05 => Err(BAD_INPUT),
        0x06 => extended(c),
        0x07 => {
            let pointer = u32::from(c.cpu.es.selector) << 16 | u32::from(c.bx());
            c.write32(HANDLER, pointer);
            let flags = c.read8(FLAGS2) & 0x7f;
            c.write8(FLAGS2, flags | if pointer == 0 { 0 } else { 0x80 });
            Ok(())
        }
        _ => Err(BAD_FUNCTION),
    };
    c.set_ah(done.err().unwrap_or(0));
    c.set_cf(done.is_err());
}

fn enable<P: Platform>(c: &mut Call<'_, P>) -> Result<(), u8> {
    match c.bh() {
        0 => {
            enable_interrupt(c, false);
            talk(c, &[0xf5], &mut [])
        }
        1 => {
            if c.read8(FLAGS2) & 0x80 == 0 {
                return Err(NO_HANDLER);
            }
            c.write8(FLAGS1, 0);
            talk(c, &[0xf4], &mut [])?;
            enable_interrupt(c, true);
            Ok(())
        }
        _ => Err(BAD_INPUT),
    }
}

fn reset<P: Platform>(c: &mut Call<'_, P>) -> Result<(), u8> {
    let mut answer = [0; 2];
    enable_interrupt(c, false);
    talk(c, &[0xff], &mut answer)?;
    c.set_bx(u16::from_le_bytes(answer));
    Ok(())
}

/// C206h: BH = 0 three status bytes, 1 and 2 scaling 1:1 and 2:1.
fn extended<P: Platform>(c: &mut Call<'_, P>) -> Result<(), u8> {
    match c.bh() {
        0 => {
            let mut status = [0; 3];
            talk(c, &[0xe9], &mut status)?;
            c.set_bl(status[0]);
            c.set_cl(status[1]);
            c.set_dl(status[2]);
            Ok(())
        }
        1 => talk(c, &[0xe6], &mut []),
        2 => talk(c, &[0xe7], &mut []),
        _ => Err(BAD_INPUT),
    }
}

impl Bios {
    /// INT 74h: AL is the byte. Carry when a packet is complete: AX, BX, CX, DX are status, X, Y and Z,
    /// SI:DI the handler.
    pub(crate) fn mouse_byte<P: Platform>(&mut self, c: &mut Call<'_, P>) -> Flow {
        c.stub_flags(false, false);
        let flags = c.read8(FLAGS2);
        if flags & 0x80 == 0 {
            return Flow::Done;
        }
        let size = (flags & 7) + 1;
        let at = c.read8(FLAGS1) & 7;
        // Bit 3 of the first byte is always set: a way back into step.
        if at == 0 && size >= 3 && c.al() & 8 == 0 {
            return Flow::Done;
        }
        c.write8(PACKET + u32::from(at), c.al());
        if at + 1 < size {
            c.write8(FLAGS1, at + 1);
            return Flow::Done;
        }
        c.write8(FLAGS1, 0);
        let mut packet = [0; 8];
        c.read(PACKET, packet.get_mut(..usize::from(size)).unwrap_or_default());
        let [status, x, y, z, ..] = packet.map(u16::from);
        c.set_ax(status);
        c.set_bx(x);
        c.set_cx(y);
        c.set_dx(z);
        let handler = c.read32(HANDLER);
        c.set_si((handler >> 16) as u16);
        c.set_di(handler as u16);
        c.stub_flags(true, false);
        Flow::Done
    }
}
