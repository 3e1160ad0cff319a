//! INT 15h 24h, 87h, 88h, E801h, E881h, E820h: A20, and how much memory there is where.

use super::unsupported;
use crate::caller::Call;
use crate::e820;
use crate::platform::Platform;
use arch::GuestPhys;

/// 24h: the A20 gate, by port 92h.
pub(super) fn int15_24_a20<P: Platform>(c: &mut Call<'_, P>) {
    match c.al() {
        on @ (0 | 1) => {
            let old = c.bus.port_in(0x92, 1) & 0xfe;
            c.bus.port_out(0x92, 1, old & !2 | u32::from(on) << 1);
        }
        2 => {
            let on = c.bus.port_in(0x92, 1) >> 1 & 1;
            c.set_al(on as u8);
        }
        // By keyboard controller and by port 92h.
        3 => c.set_bx(3),
        _ => return unsupported(c),
    }
    c.set_ah(0);
    c.set_cf(false);
}

/// 87h: moves CX words between the physical addresses in the descriptors at ES:SI.
pub(super) fn int15_87_move<P: Platform>(c: &mut Call<'_, P>) {
    let table = c.es(c.si());
    let mut address = |descriptor: u32| {
        let low = c.read64(table.wrapping_add(descriptor));
        (low >> 16 & 0xff_ffff) | (low >> 56) << 24
    };
    let (from, to) = (address(0x10), address(0x18));
    if c.cx() > 0x8000 {
        c.set_ah(2);
        return c.set_cf(true);
    }
    let mut left = u64::from(c.cx()) * 2;
    let mut done = 0;
    let mut buffer = [0; 512];
    while left > 0 {
        let take = left.min(512);
        let piece = buffer.get_mut(..take as usize).unwrap_or_default();
        c.phys_read(GuestPhys(from + done), piece);
        c.phys_write(GuestPhys(to + done), piece);
        done += take;
        left -= take;
    }
    c.set_ah(0);
    c.set_cf(false);
    c.set_zf(true);
}

/// 88h: KiB above 1 MiB, up to 64 MiB less one KiB.
pub(super) fn int15_88_extended<P: Platform>(c: &mut Call<'_, P>) {
    let kb = e820::extended_kb(c.bus.config(), 64 << 20).min(0xfc00);
    c.set_ax(kb as u16);
    c.set_cf(false);
}

/// E801h: KiB from 1 to 16 MiB, and 64 KiB blocks above 16 MiB. E881h: in 32-bit registers.
pub(super) fn int15_e801<P: Platform>(c: &mut Call<'_, P>, wide: bool) {
    let config = c.bus.config();
    let low = e820::extended_kb(config, 16 << 20);
    let all = e820::extended_kb(config, 1 << 32);
    let blocks = all.saturating_sub(15 << 10) / 64;
    if wide {
        c.set_eax(low);
        c.set_ebx(blocks);
        c.set_ecx(low);
        c.set_edx(blocks);
    } else {
        c.set_ax(low as u16);
        c.set_cx(low as u16);
        c.set_bx(blocks as u16);
        c.set_dx(blocks as u16);
    }
    c.set_cf(false);
}

/// E820h (ACPI, "INT 15H, E820H - Query System Address Map"): EBX counts ranges.
pub(super) fn int15_e820<P: Platform>(c: &mut Call<'_, P>) {
    const SMAP: u32 = 0x534d_4150;
    let n = c.ebx() as usize;
    let range = e820::range(c.bus.config(), n);
    let (Some(range), SMAP, 20..) = (range, c.edx(), c.ecx()) else { return unsupported(c) };
    let more = e820::range(c.bus.config(), n.saturating_add(1)).is_some();
    let mut entry = [0; 24];
    entry[..8].copy_from_slice(&range.start.to_le_bytes());
    entry[8..16].copy_from_slice(&range.bytes.to_le_bytes());
    entry[16..20].copy_from_slice(&(range.kind as u32).to_le_bytes());
    // ACPI 3.0's extended attributes: bit 0, the entry counts.
    entry[20] = 1;
    let length = if c.ecx() >= 24 { 24 } else { 20 };
    let at = c.es(c.di());
    c.write(at, entry.get(..length).unwrap_or(&entry));
    c.set_eax(SMAP);
    c.set_ecx(length as u32);
    c.set_ebx(if more { n as u32 + 1 } else { 0 });
    c.set_cf(false);
}
