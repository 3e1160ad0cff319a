//! INT 16h: keyboard, in its three families: 00h-02h for 83 keys, 10h-12h for 101, 20h-22h for 122.
//! The ring of keys is in the BIOS data area, where programs look at it themselves.

use crate::bda;
use crate::caller::{Call, Flow};
use crate::dispatch::Bios;
use crate::platform::Platform;

impl Bios {
    pub(crate) fn int16<P: Platform>(&mut self, c: &mut Call<'_, P>) -> Flow {
        match c.ah() {
            0x00 => return read(c, true),
            0x10 | 0x20 => return read(c, false),
            0x01 => peek(c, true),
            0x11 | 0x21 => peek(c, false),
            0x02 => {
                let shift = c.bda8(bda::SHIFT);
                c.set_al(shift);
            }
            0x12 | 0x22 => extended_shift(c),
            0x03 => set_rate(c),
            0x05 => {
                let full = !store(c, c.cx());
                c.set_al(full.into());
            }
            // 09h: typematic rate can be set (bit 2: 0305h), INT 16h 10h-12h and 20h-22h exist.
            0x09 => c.set_al(0x64),
            0x0a => c.set_bx(0x41ab),
            // 92h and A2h: programs that look for 10h and 20h want AH changed to 80h + n.
            0x92 => c.set_ah(0x80),
            0xa2 => c.set_ah(0x80),
            _ => {}
        }
        Flow::Done
    }
}

/// Bounds of the ring as offsets in segment 40h; nonsense there is replaced by the standard ring.
fn ring<P: Platform>(c: &mut Call<'_, P>) -> (u16, u16) {
    let (start, end) = (c.bda16(bda::KEY_START), c.bda16(bda::KEY_END));
    if start < end { (start, end) } else { (0x1e, 0x3e) }
}

fn next<P: Platform>(c: &mut Call<'_, P>, at: u16) -> u16 {
    let (start, end) = ring(c);
    let next = at.wrapping_add(2);
    if next >= end || next < start { start } else { next }
}

/// Appends a key to the ring; false when it is full.
pub(crate) fn store<P: Platform>(c: &mut Call<'_, P>, key: u16) -> bool {
    let tail = c.bda16(bda::KEY_TAIL);
    let after = next(c, tail);
    if after == c.bda16(bda::KEY_HEAD) {
        return false;
    }
    c.write16(0x400 + u32::from(tail), key);
    c.set_bda16(bda::KEY_TAIL, after);
    true
}

/// The first key of the ring, not taken out. For 83-key callers, keys they cannot know are skipped and
/// E0h forms folded (Phoenix, "Keyboard Services").
fn first<P: Platform>(c: &mut Call<'_, P>, old: bool) -> Option<u16> {
    for _ in 0..128 {
        let head = c.bda16(bda::KEY_HEAD);
        if head == c.bda16(bda::KEY_TAIL) {
            return None;
        }
        let key = c.read16(0x400 + u32::from(head));
        if !old {
            // F0h marks keys that old callers must not see.
            return Some(if key & 0xff == 0xf0 && key > 0xff { key & 0xff00 } else { key });
        }
        match fold(key) {
            Some(key) => return Some(key),
            None => take(c),
        }
    }
    None
}

/// A key as the 83-key services know it.
fn fold(key: u16) -> Option<u16> {
    let (scan, ascii) = (key >> 8, key & 0xff);
    match (scan, ascii) {
        (0xe0, 0x0d | 0x0a) => Some(0x1c00 | ascii),
        (0xe0, b) if b == u16::from(b'/') => Some(0x3500 | b),
        (0, 0xe0 | 0xf0) => Some(key),
        (_, 0xe0) => Some(scan << 8),
        (_, 0xf0) => None,
        (0x85.., 0) => None,
        _ => Some(key),
    }
}

fn take<P: Platform>(c: &mut Call<'_, P>) {
    let head = c.bda16(bda::KEY_HEAD);
    let after = next(c, head);
    c.set_bda16(bda::KEY_HEAD, after);
}

fn read<P: Platform>(c: &mut Call<'_, P>, old: bool) -> Flow {
    let Some(key) = first(c, old) else { return Flow::Again };
    take(c);
    c.set_ax(key);
    Flow::Done
}

fn peek<P: Platform>(c: &mut Call<'_, P>, old: bool) {
    let key = first(c, old);
    c.set_zf(key.is_none());
    if let Some(key) = key {
        c.set_ax(key);
    }
}

/// Whether a key waits; takes it if so. For the boot menu and INT 18h.
pub(crate) fn poll<P: Platform>(c: &mut Call<'_, P>) -> Option<u16> {
    let key = first(c, false)?;
    take(c);
    Some(key)
}

/// AH: bit 0 left Ctrl, 1 left Alt, 2 right Ctrl, 3 right Alt, 4 Scroll, 5 Num, 6 Caps held, 7 SysReq.
fn extended_shift<P: Platform>(c: &mut Call<'_, P>) {
    let (shift, held, right) = (c.bda8(bda::SHIFT), c.bda8(bda::SHIFT2), c.bda8(bda::SHIFT3));
    c.set_al(shift);
    let sysreq = (held & 0x04) << 5;
    c.set_ah((held & 0x73) | (right & 0x0c) | sysreq);
}

/// 0305h: BH delay, BL rate, as the keyboard's command F3h takes them.
fn set_rate<P: Platform>(c: &mut Call<'_, P>) {
    if c.al() == 5 {
        let value = (c.bh() & 3) << 5 | (c.bl() & 0x1f);
        for byte in [0xf3, value] {
            c.bus.port_out(0x60, 1, byte.into());
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::rom::Service;
    use crate::testing::{Guest, Mock};

    fn call(g: &mut Guest, ax: u16, bx: u16, cx: u16) -> u16 {
        let _ = g.set(ax, bx, cx, 0).int(Service::Int16);
        g.ax()
    }

    #[test]
    fn a_key_put_into_the_ring_is_seen_and_taken_by_each_family() {
        let mut g = Guest::new(Mock::new());
        for family in [0x0000, 0x1000, 0x2000] {
            assert_eq!(call(&mut g, 0x0500, 0, 0x1e61) & 0xff, 0);
            assert_eq!((call(&mut g, family + 0x100, 0, 0), g.zf()), (0x1e61, false));
            assert_eq!(call(&mut g, family, 0, 0), 0x1e61);
            let _ = call(&mut g, family + 0x100, 0, 0);
            assert!(g.zf(), "nothing is left");
        }
        let full = (0..20).map(|_| call(&mut g, 0x0500, 0, 0x1e61) & 0xff);
        assert_eq!(full.sum::<u16>(), 5, "15 keys fit");
    }

    #[test]
    fn old_callers_neither_see_nor_keep_keys_of_the_new_families() {
        let mut g = Guest::new(Mock::new());
        // F11, a grey arrow, Enter of the keypad.
        for key in [0x8500, 0x48e0, 0xe00d] {
            let _ = call(&mut g, 0x0500, 0, key);
        }
        assert_eq!(call(&mut g, 0x1100, 0, 0), 0x8500);
        assert_eq!(call(&mut g, 0x0000, 0, 0), 0x4800);
        assert_eq!(call(&mut g, 0x0000, 0, 0), 0x1c0d);
    }

    #[test]
    fn shift_states_are_told_old_and_new() {
        let mut g = Guest::new(Mock::new());
        // Left Shift and Caps Lock; Caps Lock and left Ctrl held, SysReq; right Alt.
        g.bus.put(0x417, &[0x42, 0x45]);
        g.bus.put(0x496, &[0x18]);
        assert_eq!(call(&mut g, 0x0200, 0, 0) & 0xff, 0x42);
        for function in [0x1200, 0x2200] {
            assert_eq!(call(&mut g, function, 0, 0), 0xc942);
        }
    }

    #[test]
    fn the_repeat_rate_goes_to_the_keyboard_and_the_families_are_announced() {
        let mut g = Guest::new(Mock::new());
        let _ = call(&mut g, 0x0305, 0x0114, 0);
        assert_eq!(g.bus.outs, [(0x60, 1, 0xf3), (0x60, 1, 0x34)]);
        assert_eq!(call(&mut g, 0x0900, 0, 0) & 0xff, 0x64);
        let _ = call(&mut g, 0x0a00, 0, 0);
        assert_eq!(g.bx(), 0x41ab);
        assert_eq!((call(&mut g, 0x9200, 0, 0), call(&mut g, 0xa200, 0, 0)), (0x8000, 0x8000));
    }
}
