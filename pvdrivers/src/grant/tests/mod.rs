//! A world of guests with memory for the tests of grant tables.

mod copies;
mod maps;
mod race;
mod removal;
mod setup;
mod walk;

use super::{Frames, GrantTables, LocalGrants, Mapped, Settings, Unmapping};
use crate::abi::grant_table::{
    GTF_PERMIT_ACCESS, GTF_READONLY, GrantStatus, MAP_HOST, MAP_READONLY, MapGrantRef,
    UnmapGrantRef,
};
use crate::{DomId, Errno, GrantAccess, GrantRef, Grants, Pinned};
use arch::SharedPage;
use core::sync::atomic::AtomicU64;
use std::boxed::Box;
use std::collections::BTreeMap;
use std::vec::Vec;

pub(super) const A: DomId = DomId(1);
pub(super) const B: DomId = DomId(2);
pub(super) const C: DomId = DomId(3);
pub(super) const HV: DomId = DomId::BACKEND;

pub(super) fn page() -> SharedPage {
    SharedPage::new(Box::leak(Box::new([const { AtomicU64::new(0) }; 512])))
}

/// What the guests' memory maps say.
#[derive(Default)]
pub(super) struct Memory(BTreeMap<(DomId, u64), SharedPage>);

impl Frames for Memory {
    fn page(&self, dom: DomId, frame: u64) -> Option<SharedPage> {
        self.0.get(&(dom, frame)).copied()
    }
}

pub(super) struct World {
    pub tables: GrantTables,
    pub memory: Memory,
}

pub(super) const SETTINGS: Settings =
    Settings { max_frames: 4, max_maps: 16, version2: true, privileged: false };

/// Guests A, B and C with one frame of table and sixteen frames of memory each.
pub(super) fn world() -> World {
    let mut tables = GrantTables::new();
    let mut memory = Memory::default();
    for dom in [A, B, C] {
        tables.add_domain(dom, &SETTINGS).unwrap();
        tables.grow(dom, 1, &mut || Some(page())).unwrap();
        for frame in 0..16 {
            memory.0.insert((dom, frame), page());
        }
    }
    World { tables, memory }
}

impl World {
    /// The guest writes an entry of version 1.
    pub fn grant(&self, dom: DomId, reference: u32, flags: u16, to: DomId, frame: u32) {
        let table = self.tables.frame(dom, reference / 512).unwrap();
        let header = u64::from(flags) | u64::from(to.0) << 16 | u64::from(frame) << 32;
        table.write(reference as usize % 512 * 8, 8, header).unwrap();
    }

    /// Of version 2: flags, grantee, the words at 4 and at 8.
    pub fn grant2(&self, dom: DomId, reference: u32, header: (u16, DomId), at4: u32, at8: u64) {
        let table = self.tables.frame(dom, reference / 256).unwrap();
        let at = reference as usize % 256 * 16;
        table.write(at + 4, 4, at4.into()).unwrap();
        table.write(at + 8, 8, at8).unwrap();
        table.write(at, 4, u64::from(header.0) | u64::from(header.1.0) << 16).unwrap();
    }

    pub fn flags(&self, dom: DomId, reference: u32) -> u16 {
        let table = self.tables.frame(dom, reference / 512).unwrap();
        table.read_u16(reference as usize % 512 * 8).unwrap()
    }

    pub fn status(&self, dom: DomId, reference: u32) -> u16 {
        let words = self.tables.status_frame(dom, 0).unwrap();
        words.read_u16(reference as usize * 2).unwrap()
    }

    /// The guest ends access as Linux does: only if nobody uses the grant.
    pub fn end_access(&self, dom: DomId, reference: u32) -> bool {
        let table = self.tables.frame(dom, reference / 512).unwrap();
        let at = reference as usize % 512 * 8;
        let flags = table.read_u16(at).unwrap();
        flags & 0x18 == 0 && table.compare_exchange(at, 2, flags.into(), 0).unwrap()
    }

    pub fn version2(&mut self, dom: DomId) {
        self.tables.set_version(dom, 2, &mut || Some(page())).unwrap();
    }

    pub fn map(
        &mut self,
        user: DomId,
        owner: DomId,
        reference: u32,
        write: bool,
        at: u64,
    ) -> Result<Mapped, GrantStatus> {
        let flags = if write { MAP_HOST } else { MAP_HOST | MAP_READONLY };
        let argument =
            MapGrantRef { host_addr: at, flags, reference, dom: owner.0, ..Default::default() };
        self.tables.map(user, &argument, &self.memory)
    }

    /// The whole way, with a page table and a TLB that forget at once.
    pub fn unmap(&mut self, user: DomId, handle: u32, at: u64) -> Result<(), GrantStatus> {
        if let Some(unmapping) = self.begin_unmap(user, handle, at)? {
            self.tables.unmapped(unmapping);
        }
        Ok(())
    }

    pub fn begin_unmap(
        &mut self,
        user: DomId,
        handle: u32,
        at: u64,
    ) -> Result<Option<Unmapping>, GrantStatus> {
        let argument = UnmapGrantRef { host_addr: at, handle, ..Default::default() };
        self.tables.unmap(user, &argument)
    }

    pub fn pin(
        &mut self,
        owner: DomId,
        reference: u32,
        access: GrantAccess,
    ) -> Result<Pinned, Errno> {
        let mut grants = LocalGrants { tables: &mut self.tables, frames: &self.memory };
        grants.pin(owner, GrantRef(reference), HV, access)
    }

    pub fn unpin(&mut self, pinned: Pinned) {
        LocalGrants { tables: &mut self.tables, frames: &self.memory }.unpin(pinned);
    }

    pub fn in_use(&self, dom: DomId) -> u32 {
        self.tables.usage(dom).unwrap().in_use
    }
}

pub(super) const RO: u16 = GTF_PERMIT_ACCESS | GTF_READONLY;
pub(super) const RW: u16 = GTF_PERMIT_ACCESS;
