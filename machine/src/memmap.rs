//! What lies at each guest-physical address: RAM, firmware, video memory, a device, or nothing.

use crate::host::{Backing, Host};
use crate::nics::MAX_NICS;
use crate::pvh;
use alloc::vec::Vec;
use arch::addr::{LARGE_PAGE, PAGE_SIZE};
use arch::ram::HIGH_RAM;
use arch::{GuestPhys, Perm};
use devmodel::vga::DirectMap;

/// The VGA window.
pub const VGA_WINDOW: u64 = 0xa_0000;
/// Bytes of the VGA window.
pub const VGA_WINDOW_SIZE: u64 = 0x2_0000;
/// Where expansion ROM space and firmware shadow begin.
pub const SHADOW: u64 = 0xc_0000;
/// End of the first megabyte.
pub const MEGABYTE: u64 = 0x10_0000;
/// RAM below 4 GiB ends here at the latest; PCI memory begins.
pub const LOW_RAM_MAX: u64 = 0xe000_0000;
/// Bytes above 1 MiB that real mode reaches.
const HMA: u64 = 0x1_0000;
/// I/O APIC page.
pub const IOAPIC: u64 = 0xfec0_0000;
/// HPET page.
pub const HPET: u64 = 0xfed0_0000;
/// Local APIC page after reset.
pub const LAPIC: u64 = 0xfee0_0000;

/// A device that answers memory accesses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mmio {
    /// VGA window at A0000h.
    VgaWindow,
    /// VGA registers (BAR 2).
    VgaRegisters,
    /// I/O APIC.
    IoApic,
    /// HPET.
    Hpet,
    /// Xen platform device's memory BAR.
    XenPlatform,
    /// Registers of this network card.
    Nic(u8),
}

/// What lies at an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Region {
    /// RAM, fully accessible.
    Ram,
    /// RAM that holds firmware; writes are dropped.
    Shadow,
    /// The firmware image below 4 GiB, at this offset.
    Rom(u64),
    /// Linear frame buffer, at this offset.
    Vram(u64),
    /// A device, at this offset.
    Mmio(Mmio, u64),
    /// Nothing: reads are all ones, writes are dropped.
    Hole,
}

/// Where a PCI device's memory BAR is, if enabled: start, 0 for none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Windows {
    /// Linear frame buffer.
    pub lfb: u64,
    /// VGA registers.
    pub vga_registers: u64,
    /// Xen platform memory.
    pub xen: u64,
    /// Network cards' registers, and how many bytes.
    pub nics: [(u64, u32); MAX_NICS],
}

/// What a PVH guest's memory map has beside RAM.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Flat {
    /// Whether there are ACPI tables.
    pub acpi: bool,
}

/// The memory map of one guest.
#[derive(Clone, Debug)]
pub struct MemMap {
    // Fixed
    low_ram: u64,
    high_ram: u64,
    rom_bytes: u64,
    vram_bytes: u64,
    /// A PVH guest's: RAM and nothing else, with ACPI tables or without. `None` for a PC's.
    flat: Option<Flat>,
    // Guest-visible
    /// Which 16 KiB blocks from C0000h are writable.
    writable: u16,
    windows: Windows,
    /// Address line 20 passes.
    a20: bool,
    /// The part of the VGA window that shows video memory straight.
    vga_direct: Option<DirectMap>,
    // Derived
    /// Nothing is below, from the end of RAM on: the first device, or the firmware.
    devices: u64,
}

impl MemMap {
    /// A map with `low_ram` bytes from 0 and `high_ram` from 4 GiB (multiples of 4 KiB), `rom_bytes` of firmware
    /// that end at 4 GiB and `vram_bytes` of video memory.
    #[must_use]
    pub fn new(low_ram: u64, high_ram: u64, rom_bytes: u64, vram_bytes: u64) -> MemMap {
        MemMap {
            low_ram: low_ram.min(LOW_RAM_MAX),
            high_ram,
            rom_bytes,
            vram_bytes,
            flat: None,
            writable: 0,
            windows: Windows::default(),
            a20: true,
            vga_direct: None,
            devices: IOAPIC.min(HIGH_RAM - rom_bytes),
        }
    }

    /// A PVH guest's map: RAM from 0 and from 4 GiB, and no device.
    #[must_use]
    pub fn flat(low_ram: u64, high_ram: u64, flat: Flat) -> MemMap {
        MemMap { flat: Some(flat), ..MemMap::new(low_ram, high_ram, 0, 0) }
    }

    /// What lies at `gpa`. The local APIC is not here: it is each vCPU's own.
    #[must_use]
    pub fn find(&self, gpa: GuestPhys) -> Region {
        let at = gpa.0;
        if self.flat.is_some() {
            let high = at >= HIGH_RAM && at - HIGH_RAM < self.high_ram;
            return if at < self.low_ram || high { Region::Ram } else { Region::Hole };
        }
        if at < VGA_WINDOW || (MEGABYTE..self.low_ram).contains(&at) {
            return if at < self.low_ram { Region::Ram } else { Region::Hole };
        }
        if at < SHADOW {
            return match self.vga_direct {
                Some(map) if at.wrapping_sub(map.guest_base.into()) < map.len.into() => {
                    Region::Vram(at - u64::from(map.guest_base) + u64::from(map.vram_offset))
                }
                _ => Region::Mmio(Mmio::VgaWindow, at - VGA_WINDOW),
            };
        }
        if at < MEGABYTE {
            let block = (at - SHADOW) >> 14;
            return if self.writable >> block & 1 != 0 { Region::Ram } else { Region::Shadow };
        }
        if at >= HIGH_RAM {
            return if at - HIGH_RAM < self.high_ram { Region::Ram } else { Region::Hole };
        }
        if at < self.devices {
            return Region::Hole;
        }
        let inside = |start: u64, bytes: u64| {
            (start != 0 && at >= start && at - start < bytes).then(|| at - start)
        };
        if let Some(offset) = inside(IOAPIC, PAGE_SIZE) {
            return Region::Mmio(Mmio::IoApic, offset);
        }
        if let Some(offset) = inside(HPET, 0x400) {
            return Region::Mmio(Mmio::Hpet, offset);
        }
        if let Some(offset) = inside(self.windows.lfb, self.vram_bytes) {
            return Region::Vram(offset);
        }
        if let Some(offset) = inside(self.windows.vga_registers, PAGE_SIZE) {
            return Region::Mmio(Mmio::VgaRegisters, offset);
        }
        if let Some(offset) = inside(self.windows.xen, 16 << 20) {
            return Region::Mmio(Mmio::XenPlatform, offset);
        }
        for (n, (start, bytes)) in (0u8..).zip(self.windows.nics) {
            if let Some(offset) = inside(start, bytes.into()) {
                return Region::Mmio(Mmio::Nic(n), offset);
            }
        }
        if let Some(offset) = inside(HIGH_RAM - self.rom_bytes, self.rom_bytes) {
            return Region::Rom(offset);
        }
        Region::Hole
    }

    /// Bytes of firmware below 4 GiB.
    #[must_use]
    pub fn rom_bytes(&self) -> u64 {
        self.rom_bytes
    }

    /// Bytes of RAM below 4 GiB.
    #[must_use]
    pub fn low_ram(&self) -> u64 {
        self.low_ram
    }

    /// Bytes of RAM from 4 GiB up.
    #[must_use]
    pub fn high_ram(&self) -> u64 {
        self.high_ram
    }

    /// Maps all that is there from the start. False where the host has no memory for it.
    pub fn map_all<H: Host>(&self, host: &H) -> bool {
        let low = self.low_ram;
        let map = |from: u64, to: u64, backing, perm| {
            from >= to || host.map(GuestPhys(from), to - from, backing, perm)
        };
        if self.flat.is_some() {
            return map(0, low, Backing::Ram, Perm::RWX)
                && map(HIGH_RAM, HIGH_RAM + self.high_ram, Backing::Ram, Perm::RWX);
        }
        map(0, low.min(VGA_WINDOW), Backing::Ram, Perm::RWX)
            && self.map_shadow(host, u16::MAX)
            && map(MEGABYTE, low.min(LARGE_PAGE), Backing::Ram, Perm::RWX)
            && map(LARGE_PAGE, low, Backing::Ram, Perm::RWX)
            && map(HIGH_RAM, HIGH_RAM + self.high_ram, Backing::Ram, Perm::RWX)
            && map(HIGH_RAM - self.rom_bytes, HIGH_RAM, Backing::Rom(0), Perm::RX)
    }

    /// Maps those of the 16 KiB shadow blocks whose bit is set in `which`.
    fn map_shadow<H: Host>(&self, host: &H, which: u16) -> bool {
        let mut block = 0u32;
        let mut good = true;
        // Runs of blocks with the same rights go in one call.
        while block < 16 {
            let writable = self.writable >> block & 1;
            let mut end = block;
            while end < 16 && self.writable >> end & 1 == writable && which >> end & 1 != 0 {
                end += 1;
            }
            if end == block {
                block += 1;
                continue;
            }
            let perm = if writable != 0 { Perm::RWX } else { Perm::RX };
            let start = SHADOW + (u64::from(block) << 14);
            let bytes = u64::from(end - block) << 14;
            if start + bytes <= self.low_ram {
                good &= host.map(GuestPhys(start), bytes, Backing::Ram, perm);
            }
            block = end;
        }
        good
    }

    /// Makes the 16 KiB blocks from C0000h writable whose bit is set.
    pub fn set_writable<H: Host>(&mut self, blocks: u16, host: &H) {
        let changed = self.writable ^ blocks;
        self.writable = blocks;
        if changed == 0 {
            return;
        }
        for block in 0..16u64 {
            // Rights that are lost must leave every TLB: unmap first.
            if changed >> block & 1 != 0 && blocks >> block & 1 == 0 {
                host.unmap(GuestPhys(SHADOW + (block << 14)), 1 << 14);
            }
        }
        self.map_shadow(host, changed);
    }

    /// Moves PCI memory windows.
    pub fn set_windows<H: Host>(&mut self, windows: Windows, host: &H) {
        let old = core::mem::replace(&mut self.windows, windows);
        let starts = [windows.lfb, windows.vga_registers, windows.xen].into_iter();
        let starts = starts.chain(windows.nics.map(|(start, _)| start)).filter(|start| *start != 0);
        self.devices = starts.fold(IOAPIC.min(HIGH_RAM - self.rom_bytes), u64::min);
        if old.lfb == windows.lfb {
            return;
        }
        if self.is_pci_space(old.lfb, self.vram_bytes) {
            host.unmap(GuestPhys(old.lfb), self.vram_bytes);
        }
        if self.is_pci_space(windows.lfb, self.vram_bytes) {
            host.map(GuestPhys(windows.lfb), self.vram_bytes, Backing::Vram(0), Perm::RWX);
        }
    }

    /// Whether a window lies clear of RAM, interrupt controllers and firmware.
    fn is_pci_space(&self, start: u64, bytes: u64) -> bool {
        start >= LOW_RAM_MAX.min(self.low_ram.max(MEGABYTE)) && start + bytes <= IOAPIC
    }

    /// Maps a part of the VGA window to video memory, or stops it.
    pub fn set_vga_direct<H: Host>(&mut self, map: Option<DirectMap>, host: &H) {
        if map == self.vga_direct {
            return;
        }
        if let Some(old) = self.vga_direct.take() {
            host.unmap(GuestPhys(old.guest_base.into()), old.len.into());
        }
        if let Some(new) = map {
            let backing = Backing::Vram(new.vram_offset.into());
            if host.map(GuestPhys(new.guest_base.into()), new.len.into(), backing, Perm::RWX) {
                self.vga_direct = map;
            }
        }
    }

    /// With address line 20 masked the 64 KiB from 1 MiB show the first 64 KiB (what the 8086's wrap-around
    /// shows to real-mode programs; higher odd megabytes are left as they are).
    pub fn set_a20<H: Host>(&mut self, open: bool, host: &H) {
        if open == self.a20 || self.low_ram < MEGABYTE + HMA {
            return;
        }
        self.a20 = open;
        let at = GuestPhys(MEGABYTE);
        host.unmap(at, HMA);
        let backing = if open { Backing::Ram } else { Backing::RamAt(GuestPhys(0)) };
        host.map(at, HMA, backing, Perm::RWX);
    }

    /// Where an access to RAM really goes: address line 20 may be masked.
    #[must_use]
    pub fn wrap(&self, at: GuestPhys) -> GuestPhys {
        let masked = !self.a20 && at.0.wrapping_sub(MEGABYTE) < HMA;
        if masked { GuestPhys(at.0 - MEGABYTE) } else { at }
    }

    /// The address map that firmware reports: (start, bytes, E820 type).
    #[must_use]
    pub fn e820(&self) -> Vec<(u64, u64, u32)> {
        if let Some(Flat { acpi }) = self.flat {
            return pvh::memory_map(self.low_ram, self.high_ram, acpi);
        }
        let mut map = alloc::vec![(0, VGA_WINDOW.min(self.low_ram), 1)];
        if self.low_ram > MEGABYTE {
            map.push((MEGABYTE, self.low_ram - MEGABYTE, 1));
        }
        if self.high_ram > 0 {
            map.push((HIGH_RAM, self.high_ram, 1));
        }
        map
    }
}
