//! The firmware's own state as bytes, for a saved machine. What programs see is in guest RAM and saved with it.

use crate::boot::BootState;
use crate::dispatch::Bios;
use crate::int13::{Emulation, MediaType, Staged};
use crate::platform::Chs;
use alloc::vec::Vec;
use arch::Nanos;

/// Version of the layout.
const VERSION: u8 = 1;

/// The bytes are not a state of this firmware.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BadState;

struct Reader<'a>(&'a [u8]);

impl Reader<'_> {
    fn take<const N: usize>(&mut self) -> Result<[u8; N], BadState> {
        let (now, later) = self.0.split_first_chunk::<N>().ok_or(BadState)?;
        self.0 = later;
        Ok(*now)
    }
    fn u8(&mut self) -> Result<u8, BadState> {
        Ok(u8::from_le_bytes(self.take()?))
    }
    fn u16(&mut self) -> Result<u16, BadState> {
        Ok(u16::from_le_bytes(self.take()?))
    }
    fn u32(&mut self) -> Result<u32, BadState> {
        Ok(u32::from_le_bytes(self.take()?))
    }
    fn u64(&mut self) -> Result<u64, BadState> {
        Ok(u64::from_le_bytes(self.take()?))
    }
    fn flag(&mut self) -> Result<bool, BadState> {
        match self.u8()? {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(BadState),
        }
    }
    fn time(&mut self) -> Result<Option<Nanos>, BadState> {
        let on = self.flag()?;
        let time = Nanos(self.u64()?);
        Ok(on.then_some(time))
    }
}

fn put_time(out: &mut Vec<u8>, time: Option<Nanos>) {
    out.push(time.is_some().into());
    out.extend_from_slice(&time.unwrap_or_default().0.to_le_bytes());
}

impl Bios {
    /// The state. A boot that was under way starts again from its first medium.
    #[must_use]
    pub fn save(&self) -> Vec<u8> {
        let Bios {
            boot: _,
            emulation,
            staged,
            vbe_mode,
            framebuffer,
            floppy_media,
            cd_media,
            cd_locks,
            rom_segment,
            types_set,
            physical_bits,
            wait_until,
            serial_until,
        } = self;
        let mut out = Vec::from([VERSION]);
        out.extend_from_slice(&vbe_mode.to_le_bytes());
        out.extend_from_slice(&framebuffer.to_le_bytes());
        for media in floppy_media.iter().chain([cd_media]) {
            out.extend_from_slice(&media.to_le_bytes());
        }
        out.extend_from_slice(&[*cd_locks, *types_set, *physical_bits]);
        out.extend_from_slice(&rom_segment.to_le_bytes());
        put_time(&mut out, *wait_until);
        put_time(&mut out, *serial_until);
        out.push(emulation.is_some().into());
        if let Some(e) = emulation {
            out.extend_from_slice(&[e.media as u8, e.cd, e.drive, e.active.into()]);
            out.extend_from_slice(&e.image.to_le_bytes());
            out.extend_from_slice(&e.loaded.to_le_bytes());
            out.extend_from_slice(&e.segment.to_le_bytes());
            for part in [e.chs.cylinders, e.chs.heads, e.chs.sectors] {
                out.extend_from_slice(&part.to_le_bytes());
            }
        }
        out.push(staged.is_some().into());
        if let Some(s) = staged {
            out.extend_from_slice(&[s.disk, s.write.into()]);
            out.extend_from_slice(&s.block.to_le_bytes());
            for part in [s.linear, s.bytes, s.done] {
                out.extend_from_slice(&part.to_le_bytes());
            }
        }
        out
    }

    /// Firmware with a saved state.
    ///
    /// # Errors
    /// [`BadState`] where the bytes are none that [`Bios::save`] could have written.
    pub fn load(bytes: &[u8]) -> Result<Bios, BadState> {
        let mut r = Reader(bytes);
        if r.u8()? != VERSION {
            return Err(BadState);
        }
        let vbe_mode = r.u16()?;
        let framebuffer = r.u32()?;
        let floppy_media = [r.u32()?, r.u32()?, r.u32()?, r.u32()?];
        let cd_media = r.u32()?;
        let cd_locks = r.u8()?;
        let types_set = r.u8()?;
        let physical_bits = r.u8()?;
        let rom_segment = r.u16()?;
        let wait_until = r.time()?;
        let serial_until = r.time()?;
        let emulation = if r.flag()? { Some(emulation(&mut r)?) } else { None };
        let staged = if r.flag()? { Some(staged(&mut r)?) } else { None };
        if !r.0.is_empty() || rom_segment > 0xf000 || physical_bits > 52 {
            return Err(BadState);
        }
        Ok(Bios {
            boot: BootState::default(),
            emulation,
            staged,
            vbe_mode,
            framebuffer,
            floppy_media,
            cd_media,
            cd_locks,
            rom_segment,
            types_set,
            physical_bits,
            wait_until,
            serial_until,
        })
    }
}

fn emulation(r: &mut Reader<'_>) -> Result<Emulation, BadState> {
    let media = r.u8()?;
    let found = Emulation {
        media: MediaType::from_bits(media).filter(|_| media < 16).ok_or(BadState)?,
        cd: r.u8()?,
        drive: r.u8()?,
        active: r.flag()?,
        image: r.u32()?,
        loaded: r.u16()?,
        segment: r.u16()?,
        chs: Chs { cylinders: r.u32()?, heads: r.u32()?, sectors: r.u32()? },
    };
    let possible = found.chs.cylinders <= 1024 && found.chs.heads <= 256 && found.chs.sectors <= 63;
    if possible { Ok(found) } else { Err(BadState) }
}

fn staged(r: &mut Reader<'_>) -> Result<Staged, BadState> {
    let found = Staged {
        disk: r.u8()?,
        write: r.flag()?,
        block: r.u64()?,
        linear: r.u32()?,
        bytes: r.u32()?,
        done: r.u32()?,
    };
    let possible = found.done <= found.bytes && found.done.is_multiple_of(512);
    if possible { Ok(found) } else { Err(BadState) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_state_comes_back_whole_and_a_damaged_one_is_refused() {
        let bios = Bios {
            emulation: Some(Emulation {
                media: MediaType::Floppy144,
                cd: 1,
                drive: 0,
                active: true,
                image: 77,
                loaded: 1,
                segment: 0x7c0,
                chs: Chs { cylinders: 80, heads: 2, sectors: 18 },
            }),
            staged: Some(Staged {
                disk: 1,
                write: true,
                block: 9,
                linear: 5,
                bytes: 1024,
                done: 512,
            }),
            vbe_mode: 0x4118,
            floppy_media: [1, 2, 3, 4],
            rom_segment: 0xf000,
            wait_until: Some(Nanos(7)),
            ..Bios::new()
        };
        let bytes = bios.save();
        assert_eq!(Bios::load(&bytes), Ok(bios));
        for len in 0..bytes.len() {
            assert_eq!(Bios::load(&bytes[..len]), Err(BadState));
        }
        let mut other = bytes.clone();
        other[0] = 9;
        assert_eq!(Bios::load(&other), Err(BadState));
    }
}
