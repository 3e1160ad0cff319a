//! Starting a Linux kernel without a disk (`kernel`, `ramdisk`, `cmdline`): the boot loader's part of the Linux
//! boot protocol, and an option ROM that jumps into the kernel where the firmware would boot a disk.
//!
//! The firmware runs as ever, so the kernel finds a machine as after any boot. Only bzImage kernels of
//! protocol 2.03 (Linux 2.4.18) or later; other formats say so.

use alloc::string::String;
use arch::{GuestPhys, GuestRam};
use core::fmt;

/// Where the real-mode part goes: the protocol's usual place, clear of BDA and boot sector.
const SETUP: u64 = 0x1_0000;
/// Where the command line goes.
const COMMAND_LINE: u64 = 0x2_0000;
/// Bytes of heap and stack above the real-mode part's start.
const HEAP_END: u16 = 0xfe00;
/// Where the protected-mode part goes.
const KERNEL: u64 = 0x10_0000;
/// Where the option ROM goes.
const ROM: u64 = 0xc_8000;
/// Most characters of a command line.
const MAX_COMMAND_LINE: usize = 4095;

/// A kernel to start, as given.
#[derive(Clone, Debug)]
pub struct Kernel {
    /// The bzImage.
    pub image: &'static [u8],
    /// The initial RAM disk, perhaps empty.
    pub initrd: &'static [u8],
    /// The command line.
    pub command_line: String,
}

/// Why a kernel cannot be started.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KernelError {
    /// No Linux boot header.
    NotLinux,
    /// A header of a protocol before 2.03.
    TooOld,
    /// The image ends before its header says.
    Truncated,
    /// Kernel and initrd do not fit into the guest's memory.
    TooLarge,
    /// The command line is longer than 4,095 bytes.
    CommandLine,
}

impl fmt::Display for KernelError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            KernelError::NotLinux => {
                "the kernel is no bzImage (no Linux boot header); give vmlinuz, or start an ELF kernel with type = \"pvh\""
            }
            KernelError::TooOld => "the kernel's boot protocol is older than 2.03",
            KernelError::Truncated => "the kernel image is cut short",
            KernelError::TooLarge => {
                "kernel and ramdisk do not fit into the guest's memory; raise `memory`"
            }
            KernelError::CommandLine => "the command line is longer than 4,095 characters",
        })
    }
}

/// Fields of the setup header by their offset in the image (Linux "The Real-Mode Kernel Header").
struct Header<'a>(&'a [u8]);

impl Header<'_> {
    fn u16(&self, at: usize) -> u16 {
        self.0.get(at..at + 2).map_or(0, |b| u16::from_le_bytes([b[0], b[1]]))
    }

    fn u32(&self, at: usize) -> u32 {
        u32::from(self.u16(at)) | u32::from(self.u16(at + 2)) << 16
    }

    /// Bytes of the real-mode part, boot sector included.
    fn setup_bytes(&self) -> usize {
        let sectors = match self.0.get(0x1f1) {
            Some(0) | None => 4,
            Some(sectors) => usize::from(*sectors),
        };
        (sectors + 1) * 512
    }
}

impl Kernel {
    /// Looks whether it can be started in `low_ram` bytes of memory below 4 GiB.
    ///
    /// # Errors
    /// [`KernelError`].
    pub fn check(&self, low_ram: u64) -> Result<(), KernelError> {
        self.initrd_place(low_ram).map(|_| ())
    }

    fn header(&self) -> Result<Header<'_>, KernelError> {
        let header = Header(self.image);
        if header.u32(0x202) != u32::from_le_bytes(*b"HdrS") {
            return Err(KernelError::NotLinux);
        }
        if header.u16(0x206) < 0x203 || self.image.get(0x211).is_none_or(|flags| flags & 1 == 0) {
            return Err(KernelError::TooOld);
        }
        if self.image.len() <= header.setup_bytes() {
            return Err(KernelError::Truncated);
        }
        Ok(header)
    }

    /// Where the initrd goes: as high as the kernel and the memory allow.
    fn initrd_place(&self, low_ram: u64) -> Result<u64, KernelError> {
        let header = self.header()?;
        if self.command_line.len() > MAX_COMMAND_LINE {
            return Err(KernelError::CommandLine);
        }
        // The last 64 KiB below the end may hold the firmware's tables.
        let ceiling = low_ram.saturating_sub(1 << 20).min(u64::from(header.u32(0x22c)) + 1);
        let kernel_end = KERNEL + (self.image.len() - header.setup_bytes()) as u64;
        // Protocol 2.10 says how much the kernel needs to unpack itself.
        let init = if header.u16(0x206) >= 0x20a { u64::from(header.u32(0x260)) } else { 0 };
        let prefers = if header.u16(0x206) >= 0x20a { header.u32(0x258).into() } else { KERNEL };
        let needs = kernel_end.max(prefers.max(KERNEL).saturating_add(init));
        let place = ceiling.checked_sub(self.initrd.len() as u64).ok_or(KernelError::TooLarge)?;
        let place = place & !0xfff;
        if place < needs { Err(KernelError::TooLarge) } else { Ok(place) }
    }

    /// Puts kernel, initrd, command line and option ROM into memory. The firmware starts it.
    ///
    /// # Errors
    /// [`KernelError`]; memory is then unchanged.
    pub(crate) fn place(&self, ram: &GuestRam) -> Result<(), KernelError> {
        let initrd = self.initrd_place(ram.low_size())?;
        let header = self.header()?;
        let (setup, kernel) = self.image.split_at(header.setup_bytes());
        let put = |at: u64, bytes: &[u8]| {
            ram.write_slice(GuestPhys(at), bytes).map_err(|_| KernelError::TooLarge)
        };
        put(SETUP, setup)?;
        put(KERNEL, kernel)?;
        put(initrd, self.initrd)?;
        put(COMMAND_LINE, self.command_line.as_bytes())?;
        put(COMMAND_LINE + self.command_line.len() as u64, &[0])?;
        // Type of loader: undefined. Load flags: the heap may be used.
        put(SETUP + 0x210, &[0xff, self.image.get(0x211).copied().unwrap_or(0) | 0x80])?;
        put(SETUP + 0x224, &(HEAP_END - 0x200).to_le_bytes())?;
        put(SETUP + 0x228, &(COMMAND_LINE as u32).to_le_bytes())?;
        if !self.initrd.is_empty() {
            put(SETUP + 0x218, &(initrd as u32).to_le_bytes())?;
            put(SETUP + 0x21c, &(self.initrd.len() as u32).to_le_bytes())?;
        }
        put(ROM, &option_rom())
    }
}

/// An option ROM that hooks INT 19h (BIOS Boot Specification "Option ROM header") and starts the kernel there
/// as the boot protocol says: CS = setup + 20h, all data segments at setup.
fn option_rom() -> [u8; 512] {
    #[rustfmt::skip]
    const CODE: [u8; 49] = [
        0x55, 0xaa, 1,
        // init: push ax; push ds; xor ax,ax; mov ds,ax
        0x50, 0x1e, 0x31, 0xc0, 0x8e, 0xd8,
        // mov word [64h], 1Ah; mov [66h], cs
        0xc7, 0x06, 0x64, 0x00, 0x1a, 0x00, 0x8c, 0x0e, 0x66, 0x00,
        // pop ds; pop ax; retf; nop...
        0x1f, 0x58, 0xcb, 0x90, 0x90, 0x90, 0x90,
        // 1Ah: cli; cld; mov ax,1000h; mov ds,ax; mov es,ax; mov fs,ax; mov gs,ax; mov ss,ax
        0xfa, 0xfc, 0xb8, 0x00, 0x10, 0x8e, 0xd8, 0x8e, 0xc0, 0x8e, 0xe0, 0x8e, 0xe8, 0x8e, 0xd0,
        // mov sp, FE00h; jmp 1020:0000
        0xbc, 0x00, 0xfe, 0xea, 0x00, 0x00, 0x20, 0x10,
    ];
    let mut rom = [0; 512];
    rom[..CODE.len()].copy_from_slice(&CODE);
    rom[511] = rom.iter().fold(0u8, |sum, byte| sum.wrapping_sub(*byte));
    rom
}

#[cfg(test)]
mod tests {
    use super::*;
    use core::sync::atomic::AtomicU64;
    use std::vec::Vec;

    fn image(version: u16) -> Vec<u8> {
        let mut image = std::vec![0; 512 * 3 + 100];
        image[0x1f1] = 2;
        image[0x202..0x206].copy_from_slice(b"HdrS");
        image[0x206..0x208].copy_from_slice(&version.to_le_bytes());
        image[0x211] = 1;
        image[0x22c..0x230].copy_from_slice(&0x7fff_ffffu32.to_le_bytes());
        image[512 * 3..].fill(0x4b);
        image
    }

    fn kernel(image: Vec<u8>, initrd: usize) -> Kernel {
        let initrd = std::vec![0x49; initrd].leak();
        Kernel { image: image.leak(), initrd, command_line: "quiet".into() }
    }

    fn ram(bytes: usize) -> GuestRam {
        GuestRam::new((0..bytes / 8).map(|_| AtomicU64::new(0)).collect::<Vec<_>>().leak(), &[])
    }

    #[test]
    fn the_parts_lie_where_the_protocol_wants_them() {
        let ram = ram(8 << 20);
        kernel(image(0x20f), 5000).place(&ram).unwrap();
        assert_eq!(ram.read_u32(GuestPhys(KERNEL)), Some(0x4b4b_4b4b));
        let at = ram.read_u32(GuestPhys(SETUP + 0x218)).unwrap();
        assert_eq!(ram.read_u32(GuestPhys(SETUP + 0x21c)), Some(5000));
        assert_eq!(ram.read_u8(GuestPhys(u64::from(at) + 4999)), Some(0x49));
        assert!(u64::from(at) + 5000 <= 7 << 20);
        let mut text = [0; 6];
        ram.read(GuestPhys(COMMAND_LINE), &mut text).unwrap();
        assert_eq!(&text, b"quiet\0");
    }

    #[test]
    fn the_option_rom_sums_to_zero_and_its_hook_is_where_it_says() {
        let rom = option_rom();
        assert_eq!(rom.iter().fold(0u8, |sum, byte| sum.wrapping_add(*byte)), 0);
        assert_eq!(rom[0x1a], 0xfa);
    }

    #[test]
    fn what_is_no_kernel_or_does_not_fit_is_refused() {
        let small = 4 << 20;
        assert_eq!(kernel(std::vec![0; 4096], 0).check(small), Err(KernelError::NotLinux));
        assert_eq!(kernel(std::vec![], 0).check(small), Err(KernelError::NotLinux));
        assert_eq!(kernel(image(0x202), 0).check(small), Err(KernelError::TooOld));
        assert_eq!(
            kernel(image(0x20f)[..1536].to_vec(), 0).check(small),
            Err(KernelError::Truncated)
        );
        assert_eq!(kernel(image(0x20f), 5 << 20).check(small), Err(KernelError::TooLarge));
        assert_eq!(kernel(image(0x20f), 0).check(1 << 20), Err(KernelError::TooLarge));
    }
}
