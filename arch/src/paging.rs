//! The guest's own page walk, over its RAM: what an instruction that must be emulated sees.
//!
//! No paging, 32-bit (PSE, PSE-36), PAE, 4-level and 5-level; NX, WP, SMEP, SMAP and reserved bits
//! with the error code of SDM 3A "Page-Fault Exceptions". Left out: protection keys and shadow
//! stacks (CPUID hides both). A table outside RAM reads as all-ones, as on the bus.

use crate::access::Access;
use crate::addr::{GuestPhys, GuestVirt, HUGE_PAGE, LARGE_PAGE, PAGE_SIZE};
use crate::control::{cr0, cr4, efer, rflags};
use crate::event::Fault;
use crate::ram::GuestRam;
use crate::vcpu::{SysReg, Vcpu};
use core::sync::atomic::Ordering;

/// Page-fault error code bits (SDM 3A "Page-Fault Exceptions").
#[allow(missing_docs, reason = "the names are the manual's own")]
pub mod error_code {
    pub const P: u32 = 1;
    pub const W: u32 = 2;
    pub const U: u32 = 4;
    pub const RSVD: u32 = 8;
    pub const I: u32 = 16;
}

const P: u64 = 1;
const W: u64 = 1 << 1;
const U: u64 = 1 << 2;
const A: u64 = 1 << 5;
const D: u64 = 1 << 6;
const PS: u64 = 1 << 7;
const NX: u64 = 1 << 63;
/// Bits 12 to 51: a table's or page's address.
const ADDRESS: u64 = 0x000f_ffff_ffff_f000;
/// How often a walk starts anew because another vCPU changed an entry under it.
const RETRIES: u32 = 8;

/// Where a linear address leads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Translation {
    /// Guest-physical address of the very byte.
    pub gpa: GuestPhys,
    /// Size of the page that maps it in bytes: 4 KiB, 2, 4 MiB or 1 GiB. 4 KiB without paging.
    pub page_size: u64,
}

impl Translation {
    /// Bytes from the address to the end of its page.
    #[must_use]
    #[inline]
    pub const fn bytes_left(&self) -> u64 {
        self.page_size - (self.gpa.0 & (self.page_size - 1))
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    Off,
    Bits32,
    Pae,
    Levels4,
    Levels5,
}

/// The registers that rule a guest's page walk. Digested is what the common way needs; the rest is worked out where
/// it is asked for.
#[derive(Clone, Copy, Debug)]
pub struct Paging {
    mode: Mode,
    cr0: u64,
    cr3: u64,
    cr4: u64,
    efer: u64,
    rflags: u64,
    physical_bits: u8,
    /// Bits that fault in every entry: beyond the physical address width, and NX while it is off.
    reserved: u64,
    /// U where SMEP or SMAP is on: the common way leaves supervisor accesses to user pages alone.
    guarded: u64,
}

/// Address bits that no entry has where physical addresses have `physical_bits` of them, 32 to 52.
#[inline]
const fn beyond(physical_bits: u8) -> u64 {
    u64::MAX.wrapping_shl(physical_bits as u32) & ADDRESS
}

/// The entry of a linear address in the table that CR3 or an entry names.
#[inline(always)]
fn entry(ram: &GuestRam, table: u64, at: u64, level: u32) -> Option<Seen> {
    let slot = GuestPhys(table & ADDRESS | (at >> (9 * level)) & 0xff8);
    let word = ram.word(slot)?;
    Some(Seen { word, value: word.load(Ordering::Relaxed) })
}

/// What a finished walk found, before rights are judged.
struct Leaf {
    gpa: u64,
    page_size: u64,
    /// AND of all entries: W, U and A count.
    all: u64,
    /// OR of all entries: NX counts.
    any: u64,
    /// The last entry and where it is.
    entry: u64,
    at: u64,
}

impl Paging {
    /// Digests the registers. `physical_bits` is the guest's CPUID 8000_0008h EAX\[7:0\], 32 to 52.
    /// RFLAGS.AC lifts SMAP: pass 0 for the implicit accesses of descriptor tables and the TSS.
    #[must_use]
    #[inline]
    pub const fn new(
        cr0: u64,
        cr3: u64,
        cr4: u64,
        efer: u64,
        rflags: u64,
        physical_bits: u8,
    ) -> Paging {
        let mode = if cr0 & cr0::PG == 0 {
            Mode::Off
        } else if efer & efer::LMA != 0 {
            if cr4 & cr4::LA57 != 0 { Mode::Levels5 } else { Mode::Levels4 }
        } else if cr4 & cr4::PAE != 0 {
            Mode::Pae
        } else {
            Mode::Bits32
        };
        let no_nx = if efer & efer::NXE != 0 { 0 } else { NX };
        let reserved = match mode {
            Mode::Off | Mode::Bits32 => 0,
            Mode::Pae => beyond(physical_bits) | no_nx | 0x7ff0_0000_0000_0000,
            Mode::Levels4 | Mode::Levels5 => beyond(physical_bits) | no_nx,
        };
        let guarded = if cr4 & (cr4::SMEP | cr4::SMAP) != 0 { U } else { 0 };
        Paging { mode, cr0, cr3, cr4, efer, rflags, physical_bits, reserved, guarded }
    }

    const fn pse(&self) -> bool {
        self.cr4 & cr4::PSE != 0
    }

    const fn wp(&self) -> bool {
        self.cr0 & cr0::WP != 0
    }

    const fn smep(&self) -> bool {
        self.cr4 & cr4::SMEP != 0
    }

    /// SMAP is on and RFLAGS.AC does not lift it.
    const fn smap(&self) -> bool {
        self.cr4 & cr4::SMAP != 0 && self.rflags & rflags::AC == 0
    }

    /// Fetches set the I bit of the error code.
    const fn fetch_bit(&self) -> bool {
        self.smep() || (self.efer & efer::NXE != 0 && self.cr4 & cr4::PAE != 0)
    }

    /// Bits of a 4 MiB page's entry that fault. PSE-36: bits 13 to 20 hold address bits 32 to 39 (SDM 3A
    /// "32-Bit Paging").
    const fn reserved_4m(&self) -> u64 {
        1 << 21 | (beyond(self.physical_bits) >> 19 & 0x1f_e000)
    }

    /// The rules that a vCPU's registers set now.
    #[must_use]
    #[inline]
    pub fn of(vcpu: &impl Vcpu, physical_bits: u8) -> Paging {
        Paging::new(
            vcpu.reg(SysReg::Cr0),
            vcpu.reg(SysReg::Cr3),
            vcpu.reg(SysReg::Cr4),
            vcpu.reg(SysReg::Efer),
            vcpu.rflags(),
            physical_bits,
        )
    }

    /// Translates without a trace in the guest's tables: for looking, not for executing.
    ///
    /// # Errors
    /// The fault that the access would raise; #GP(0) for a non-canonical address.
    #[inline]
    pub fn peek(
        &self,
        ram: &GuestRam,
        at: GuestVirt,
        access: Access,
    ) -> Result<Translation, Fault> {
        match self.common(ram, at.0, access) {
            Some((found, _)) => Ok(found),
            None => self.peek_any(ram, at, access),
        }
    }

    /// Translates as the CPU does when it executes the access: sets accessed bits, and the dirty
    /// bit for writes.
    ///
    /// # Errors
    /// The fault to raise; #GP(0) for a non-canonical address (stack accesses make it #SS).
    #[inline]
    pub fn translate(
        &self,
        ram: &GuestRam,
        at: GuestVirt,
        access: Access,
    ) -> Result<Translation, Fault> {
        match self.common(ram, at.0, access) {
            Some((found, _)) => Ok(found),
            None => self.translate_any(ram, at, access),
        }
    }

    /// As [`translate`](Paging::translate), by a vCPU's registers, for who translates once: what only the
    /// exact way wants to know is worked out there.
    ///
    /// # Errors
    /// As [`translate`](Paging::translate).
    #[inline(always)]
    pub fn translate_once(
        vcpu: &impl Vcpu,
        physical_bits: u8,
        ram: &GuestRam,
        at: GuestVirt,
        access: Access,
    ) -> Result<Translation, Fault> {
        match Paging::translate_if_common(vcpu, physical_bits, ram, at, access) {
            Some((found, _)) => Ok(found),
            None => Paging::translate_exactly(vcpu, physical_bits, ram, at, access),
        }
    }

    /// As [`translate_once`](Paging::translate_once), in the common case: four levels, nothing to fault on, nothing
    /// to mark, and by which entries. `None` says nothing of what it is.
    #[inline(always)]
    pub fn translate_if_common(
        vcpu: &impl Vcpu,
        physical_bits: u8,
        ram: &GuestRam,
        at: GuestVirt,
        access: Access,
    ) -> Option<(Translation, Way)> {
        let (efer, cr4) = (vcpu.reg(SysReg::Efer), vcpu.reg(SysReg::Cr4));
        if efer & efer::LMA == 0 || cr4 & cr4::LA57 != 0 {
            return None;
        }
        // Neither field that is 0 here has a part in the common way.
        let cr0 = cr0::PG;
        let paging = Paging::new(cr0, vcpu.reg(SysReg::Cr3), cr4, efer, 0, physical_bits);
        paging.common(ram, at.0, access)
    }

    #[cold]
    #[inline(never)]
    fn translate_exactly(
        vcpu: &impl Vcpu,
        physical_bits: u8,
        ram: &GuestRam,
        at: GuestVirt,
        access: Access,
    ) -> Result<Translation, Fault> {
        Paging::of(vcpu, physical_bits).translate_any(ram, at, access)
    }

    /// The common case: four levels, nothing to fault on, nothing to mark. All checks come at the
    /// end, so that a level costs a dozen instructions; entries that are not present lead
    /// nowhere worse than to other RAM. `None`: take the exact way.
    #[inline(always)]
    fn common(&self, ram: &GuestRam, at: u64, access: Access) -> Option<(Translation, Way)> {
        if self.mode != Mode::Levels4 || (at as i64) << 16 >> 16 != at as i64 {
            return None;
        }
        let top = entry(ram, self.cr3, at, 4)?;
        let huge = entry(ram, top.value, at, 3)?;
        let way = Way([top, huge, Seen::NONE, Seen::NONE]);
        let (all, any) = (top.value & huge.value, top.value | huge.value);
        if huge.value & PS != 0 {
            let found = self.finish::<HUGE_PAGE>(at, access, top.value, huge.value, all, any)?;
            return Some((found, way));
        }
        let large = entry(ram, huge.value, at, 2)?;
        let way = Way([top, huge, large, Seen::NONE]);
        let (all, any) = (all & large.value, any | large.value);
        if large.value & PS != 0 {
            let found = self.finish::<LARGE_PAGE>(at, access, top.value, large.value, all, any)?;
            return Some((found, way));
        }
        let small = entry(ram, large.value, at, 1)?;
        let (all, any) = (all & small.value, any | small.value);
        let found = self.finish::<PAGE_SIZE>(at, access, top.value, small.value, all, any)?;
        Some((found, Way([top, huge, large, small])))
    }

    /// The checks of the common way, all at once: `wrong` collects the bits that offend.
    #[inline(always)]
    fn finish<const SIZE: u64>(
        &self,
        at: u64,
        access: Access,
        top: u64,
        leaf: u64,
        all: u64,
        any: u64,
    ) -> Option<Translation> {
        let low = SIZE - 1;
        let (mut needed, mut refused) = (P | A, self.reserved);
        // PML4 entries map no pages; in large pages' entries bits from 13 up are reserved.
        let mut wrong = top & PS | leaf & low & ADDRESS & !(1 << 12);
        if access.contains(Access::USER) {
            needed |= U;
        } else {
            wrong |= all & self.guarded;
        }
        if access.contains(Access::WRITE) {
            needed |= W;
            wrong |= !leaf & D;
        }
        if access.contains(Access::EXEC) {
            refused |= NX;
        }
        wrong |= !all & needed | any & refused;
        let gpa = GuestPhys(leaf & ADDRESS & !low | at & low);
        (wrong == 0).then_some(Translation { gpa, page_size: SIZE })
    }

    #[inline(never)]
    fn peek_any(
        &self,
        ram: &GuestRam,
        at: GuestVirt,
        access: Access,
    ) -> Result<Translation, Fault> {
        if self.mode == Mode::Off {
            return Ok(Translation { gpa: GuestPhys(at.0 & 0xffff_ffff), page_size: 4096 });
        }
        let leaf = self.walk::<false>(ram, at.0, access)?;
        self.judge(&leaf, at.0, access)?;
        Ok(Translation { gpa: GuestPhys(leaf.gpa), page_size: leaf.page_size })
    }

    #[inline(never)]
    fn translate_any(
        &self,
        ram: &GuestRam,
        at: GuestVirt,
        access: Access,
    ) -> Result<Translation, Fault> {
        if self.mode == Mode::Off {
            return Ok(Translation { gpa: GuestPhys(at.0 & 0xffff_ffff), page_size: 4096 });
        }
        let leaf = self.walk::<false>(ram, at.0, access)?;
        self.judge(&leaf, at.0, access)?;
        let wanted = if access.contains(Access::WRITE) { A | D } else { A };
        if leaf.all & A == 0 || leaf.entry & wanted != wanted {
            return self.walk_and_mark(ram, at, access, wanted);
        }
        Ok(Translation { gpa: GuestPhys(leaf.gpa), page_size: leaf.page_size })
    }

    /// Copies up to 15 instruction bytes at `at` and returns how many lie in accessible RAM. User
    /// mode by [`Access::USER`] in `mode`.
    ///
    /// # Errors
    /// The fault of the first byte. A fault on the second page only shortens the result.
    pub fn fetch(
        &self,
        ram: &GuestRam,
        at: GuestVirt,
        mode: Access,
        bytes: &mut [u8; 15],
    ) -> Result<usize, Fault> {
        let access = Access::EXEC | (mode & Access::USER);
        let first = self.translate(ram, at, access)?;
        let here = (4096 - first.gpa.page_offset()).min(15) as usize;
        if ram.read(first.gpa, &mut bytes[..here]).is_err() {
            return Ok(0);
        }
        if here == 15 {
            return Ok(15);
        }
        let next = GuestVirt(at.page().0.wrapping_add(4096));
        match self.translate(ram, next, access) {
            Ok(second) if ram.read(second.gpa, &mut bytes[here..]).is_ok() => Ok(15),
            _ => Ok(here),
        }
    }

    #[cold]
    fn walk_and_mark(
        &self,
        ram: &GuestRam,
        at: GuestVirt,
        access: Access,
        wanted: u64,
    ) -> Result<Translation, Fault> {
        let width = if self.mode == Mode::Bits32 { 4 } else { 8 };
        for _ in 0..RETRIES {
            let leaf = self.walk::<true>(ram, at.0, access)?;
            self.judge(&leaf, at.0, access)?;
            let found = Translation { gpa: GuestPhys(leaf.gpa), page_size: leaf.page_size };
            if mark(ram, leaf.at, width, leaf.entry, wanted) {
                return Ok(found);
            }
        }
        // Another vCPU keeps changing the entry: as if the access had come first.
        self.peek_any(ram, at, access)
    }

    /// Finds the leaf. With `MARK`, sets accessed bits of the upper tables on the way.
    #[inline(always)]
    fn walk<const MARK: bool>(
        &self,
        ram: &GuestRam,
        at: u64,
        access: Access,
    ) -> Result<Leaf, Fault> {
        match self.mode {
            Mode::Levels4 => {
                if (at as i64) << 16 >> 16 != at as i64 {
                    return Err(Fault::GP0);
                }
                self.walk_wide::<MARK, 4>(ram, self.cr3 & ADDRESS, at, at, access)
            }
            _ => self.walk_other::<MARK>(ram, at, access),
        }
    }

    fn walk_other<const MARK: bool>(
        &self,
        ram: &GuestRam,
        at: u64,
        access: Access,
    ) -> Result<Leaf, Fault> {
        match self.mode {
            Mode::Levels5 => {
                if (at as i64) << 7 >> 7 != at as i64 {
                    return Err(Fault::GP0);
                }
                self.walk_wide::<MARK, 5>(ram, self.cr3 & ADDRESS, at, at, access)
            }
            Mode::Pae => {
                let linear = at & 0xffff_ffff;
                let slot = (self.cr3 & 0xffff_ffe0) | (linear >> 30) << 3;
                let entry = ram.read_u64(GuestPhys(slot)).unwrap_or(u64::MAX);
                if entry & P == 0 {
                    return Err(self.fault(at, access, 0));
                }
                // SDM 3A "PAE Paging": reserved bits of a PDPTE fault when CR3 is loaded, not in a walk; and QEMU's
                // emulation sets bit 5 in memory, as it does in the tables below.
                self.walk_wide::<MARK, 2>(ram, entry & ADDRESS, linear, at, access)
            }
            _ => self.walk_32::<MARK>(ram, at & 0xffff_ffff, access),
        }
    }

    /// Walks `LEVELS` levels of 8-byte entries.
    #[inline(always)]
    fn walk_wide<const MARK: bool, const LEVELS: u32>(
        &self,
        ram: &GuestRam,
        root: u64,
        linear: u64,
        reported: u64,
        access: Access,
    ) -> Result<Leaf, Fault> {
        let (mut table, mut all, mut any) = (root, u64::MAX, 0);
        let mut level = LEVELS;
        loop {
            let shift = 3 + 9 * level;
            let at = table | (linear >> shift & 0x1ff) << 3;
            let entry = ram.read_u64(GuestPhys(at)).unwrap_or(u64::MAX);
            if entry & P == 0 {
                return Err(self.fault(reported, access, 0));
            }
            let large = level > 1 && entry & PS != 0;
            let mut reserved = self.reserved;
            if large {
                // The top levels have no pages of their own; a large page's low address bits are 0.
                reserved |= if level > 3 { PS } else { ((1 << shift) - 1) & !0x1fff };
            }
            if entry & reserved != 0 {
                return Err(self.fault(reported, access, error_code::P | error_code::RSVD));
            }
            all &= entry;
            any |= entry;
            if level == 1 || large {
                let page_size = 1 << shift;
                let gpa = (entry & ADDRESS & !(page_size - 1)) | (linear & (page_size - 1));
                return Ok(Leaf { gpa, page_size, all, any, entry, at });
            }
            if MARK {
                // A lost race leaves the bit to whoever won it.
                mark(ram, at, 8, entry, A);
            }
            table = entry & ADDRESS;
            level -= 1;
        }
    }

    /// Walks 32-bit paging (SDM 3A "32-Bit Paging").
    fn walk_32<const MARK: bool>(
        &self,
        ram: &GuestRam,
        linear: u64,
        access: Access,
    ) -> Result<Leaf, Fault> {
        let read = |at| ram.read_u32(GuestPhys(at)).map_or(u64::from(u32::MAX), u64::from);
        let at = (self.cr3 & 0xffff_f000) | (linear >> 22) << 2;
        let directory = read(at);
        if directory & P == 0 {
            return Err(self.fault(linear, access, 0));
        }
        if directory & PS != 0 && self.pse() {
            if directory & self.reserved_4m() != 0 {
                return Err(self.fault(linear, access, error_code::P | error_code::RSVD));
            }
            let base = (directory & 0xffc0_0000) | (directory & 0x1f_e000) << 19;
            let gpa = base | (linear & 0x3f_ffff);
            return Ok(Leaf {
                gpa,
                page_size: 4 << 20,
                all: directory,
                any: 0,
                entry: directory,
                at,
            });
        }
        if MARK {
            // A lost race leaves the bit to whoever won it.
            mark(ram, at, 4, directory, A);
        }
        let at = (directory & 0xffff_f000) | (linear >> 12 & 0x3ff) << 2;
        let entry = read(at);
        if entry & P == 0 {
            return Err(self.fault(linear, access, 0));
        }
        let gpa = (entry & 0xffff_f000) | (linear & 0xfff);
        Ok(Leaf { gpa, page_size: 4096, all: directory & entry, any: 0, entry, at })
    }

    /// Whether the rights on the way allow the access (SDM 3A "Determination of Access Rights").
    #[inline(always)]
    fn judge(&self, leaf: &Leaf, at: u64, access: Access) -> Result<(), Fault> {
        let user_page = leaf.all & U != 0;
        let user = access.contains(Access::USER);
        let mut bad = user && !user_page;
        if access.contains(Access::WRITE) {
            bad |= leaf.all & W == 0 && (user || self.wp());
        }
        if access.contains(Access::EXEC) {
            // The NX bit is reserved while EFER.NXE is off, so it is never seen set then.
            bad |= leaf.any & NX != 0 || (self.smep() && user_page && !user);
        } else {
            bad |= self.smap() && user_page && !user;
        }
        if bad { Err(self.fault(at, access, error_code::P)) } else { Ok(()) }
    }

    #[cold]
    fn fault(&self, at: u64, access: Access, mut code: u32) -> Fault {
        if access.contains(Access::WRITE) {
            code |= error_code::W;
        }
        if access.contains(Access::USER) {
            code |= error_code::U;
        }
        if access.contains(Access::EXEC) && self.fetch_bit() {
            code |= error_code::I;
        }
        let long = matches!(self.mode, Mode::Levels4 | Mode::Levels5);
        Fault::page(if long { at } else { at & 0xffff_ffff }, code)
    }
}

/// Sets `bits` in the entry at `at` if it still is `entry`; false if it is not. An entry outside
/// RAM counts as set.
#[inline]
fn mark(ram: &GuestRam, at: u64, width: u8, entry: u64, bits: u64) -> bool {
    entry & bits == bits
        || ram.compare_exchange(GuestPhys(at), width, entry, entry | bits).unwrap_or(true)
}

mod path;
mod way;

pub use path::Path;
use way::Seen;
pub use way::Way;

#[cfg(test)]
mod tests;
