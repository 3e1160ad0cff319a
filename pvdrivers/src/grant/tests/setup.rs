//! Sizes, versions, frames, and exchanges of entries.

use super::*;
use crate::abi::grant_table::{
    GTF_READING, GTF_SUB_PAGE, GTF_TRANSITIVE, GTF_WRITING, QuerySize, SetupTable, Transfer,
};
use crate::abi::memory::MAPIDX_GRANT_STATUS;
use crate::grant::Version;

#[test]
fn a_table_grows_to_its_limit() {
    let mut world = world();
    let mut setup = |caller, dom: DomId, nr_frames| {
        let argument = SetupTable { dom: dom.0, nr_frames, ..Default::default() };
        world.tables.setup_table(caller, &argument, &mut || Some(page()))
    };
    assert_eq!(setup(A, DomId::SELF, 3), Ok(A));
    assert_eq!(setup(A, DomId::SELF, 5), Err(GrantStatus::GENERAL_ERROR));
    assert_eq!(setup(A, DomId::SELF, u32::MAX), Err(GrantStatus::GENERAL_ERROR));
    assert_eq!(setup(A, B, 1), Err(GrantStatus::PERMISSION_DENIED));
    assert_eq!(setup(A, DomId(9), 1), Err(GrantStatus::BAD_DOMAIN));
    assert_eq!(setup(HV, B, 2), Ok(B));
    let mut size = QuerySize { dom: DomId::SELF.0, ..Default::default() };
    world.tables.query_size(A, &mut size).unwrap();
    assert_eq!((size.nr_frames, size.max_nr_frames), (3, 4));
    let mut size = QuerySize { dom: B.0, ..Default::default() };
    assert_eq!(world.tables.query_size(A, &mut size), Err(GrantStatus::PERMISSION_DENIED));
    world.grant(A, 3 * 512 - 1, RW, B, 5);
    assert!(world.map(B, A, 3 * 512 - 1, true, 0x1000).is_ok());
    let none = world.tables.grow(A, 4, &mut || None);
    assert_eq!(none, Err(GrantStatus::GENERAL_ERROR), "no memory");
}

#[test]
fn frames_for_the_memory_map_are_made_when_they_are_asked_for() {
    let mut world = world();
    let mut get = |index| world.tables.physmap_page(A, index, &mut || Some(page()));
    assert!(get(0).is_ok());
    let third = get(3).unwrap();
    assert!(get(3).unwrap().is(&third));
    assert_eq!(get(4).map(drop), Err(Errno::EINVAL));
    assert_eq!(get(u64::MAX).map(drop), Err(Errno::EINVAL));
    assert_eq!(get(MAPIDX_GRANT_STATUS).map(drop), Err(Errno::EINVAL), "version 1 has none");
    world.version2(A);
    let mut get = |index| world.tables.physmap_page(A, index, &mut || Some(page()));
    assert!(get(MAPIDX_GRANT_STATUS).is_ok());
    assert_eq!(get(MAPIDX_GRANT_STATUS + 1).map(drop), Err(Errno::EINVAL));
    assert_eq!(world.tables.usage(A).unwrap().frames, 4);
    assert_eq!(world.tables.table_pages(A).count(), 5);
}

#[test]
fn pages_given_to_a_table_are_cleared() {
    let mut world = world();
    let dirty = page();
    dirty.write_slice(0, &[0xff; 4096]).unwrap();
    world.tables.grow(A, 2, &mut || Some(dirty)).unwrap();
    assert!((0..4096).all(|at| dirty.read_u8(at) == Some(0)));
}

#[test]
fn versions_change_only_while_nothing_is_in_use() {
    let mut world = world();
    let set =
        |world: &mut World, version| world.tables.set_version(A, version, &mut || Some(page()));
    assert_eq!((set(&mut world, 0), set(&mut world, 3)), (Err(Errno::EINVAL), Err(Errno::EINVAL)));
    world.grant(A, 8, RW, B, 5);
    let mapped = world.map(B, A, 8, true, 0x1000).unwrap();
    assert_eq!(set(&mut world, 2), Err(Errno::EBUSY));
    world.unmap(B, mapped.handle, 0x1000).unwrap();
    assert_eq!(set(&mut world, 2), Ok(()));
    assert_eq!(world.tables.get_version(A, DomId::SELF), Ok(Version::V2));
    assert_eq!(world.tables.get_version(B, A), Err(Errno::EPERM));
    assert_eq!(world.tables.get_version(B, DomId(9)), Err(Errno::ESRCH));
    assert!(world.map(B, A, 8, true, 0x1000).is_err(), "the entries are gone");
    assert_eq!(world.map(B, A, 256, true, 0).map(drop), Err(GrantStatus::BAD_GNTREF));
    world.grant2(A, 1, (RW | GTF_SUB_PAGE, HV), 1 << 16, 5);
    let pinned = world.pin(A, 1, GrantAccess::Read).unwrap();
    assert_eq!(set(&mut world, 1), Err(Errno::EAGAIN));
    world.unpin(pinned);
    world.grant2(A, 1, (GTF_TRANSITIVE, B), 3, 5);
    assert_eq!(set(&mut world, 1), Err(Errno::ERANGE));
    world.grant2(A, 1, (RW, B), 0, 1 << 32);
    assert_eq!(set(&mut world, 1), Err(Errno::ERANGE));
    world.grant2(A, 1, (RW, B), 0, 5);
    assert_eq!(set(&mut world, 1), Ok(()));
    assert!(world.map(B, A, 1, true, 0x1000).is_ok());
    let none = world.tables.set_version(C, 2, &mut || None);
    assert_eq!(none, Err(Errno::ENOMEM));
    world.tables.add_domain(DomId(5), &Settings { version2: false, ..SETTINGS }).unwrap();
    assert_eq!(world.tables.set_version(DomId(5), 2, &mut || None), Err(Errno::ENOSYS));
}

#[test]
fn reserved_entries_stay_in_use_through_changes_of_version() {
    let mut world = world();
    assert!(world.tables.seed(A, 1, HV, 6));
    let pinned = world.pin(A, 1, GrantAccess::Write).unwrap();
    world.version2(A);
    assert_eq!(world.status(A, 1), GTF_READING | GTF_WRITING);
    assert!(!world.tables.seed(A, 1, HV, 6), "a guest that runs");
    let again = world.pin(A, 1, GrantAccess::Write).unwrap();
    assert!(again.page.is(&pinned.page));
    world.unpin(again);
    world.tables.set_version(A, 1, &mut || None).unwrap();
    assert_eq!(world.flags(A, 1), RW | GTF_READING | GTF_WRITING);
    world.unpin(pinned);
    assert_eq!((world.flags(A, 1), world.in_use(A)), (RW, 0));
}

#[test]
fn status_frames_are_told_for_version_2() {
    let mut world = world();
    let ask = |world: &World, frames| world.tables.get_status_frames(A, DomId::SELF, frames);
    assert_eq!(ask(&world, 1), Err(GrantStatus::GENERAL_ERROR));
    assert!(world.tables.status_frame(A, 0).is_none());
    world.version2(A);
    assert_eq!(ask(&world, 1), Ok(A));
    assert_eq!(ask(&world, 2), Err(GrantStatus::GENERAL_ERROR));
    let other = world.tables.get_status_frames(A, B, 0);
    assert_eq!(other, Err(GrantStatus::PERMISSION_DENIED));
}

#[test]
fn entries_are_exchanged_unless_one_is_in_use() {
    let mut world = world();
    world.grant(A, 1, RW, B, 5);
    world.grant(A, 2, RO, C, 6);
    assert_eq!(world.tables.swap(A, 1, 2), Ok(()));
    assert_eq!((world.flags(A, 1), world.flags(A, 2)), (RO, RW));
    let mapped = world.map(B, A, 2, true, 0x1000).unwrap();
    assert_eq!(world.tables.swap(A, 1, 2), Err(GrantStatus::EAGAIN));
    assert_eq!(world.tables.swap(A, 2, 1), Err(GrantStatus::EAGAIN));
    assert_eq!(world.tables.swap(A, 2, 2), Ok(()));
    assert_eq!(world.tables.swap(A, 2, 512), Err(GrantStatus::BAD_GNTREF));
    assert_eq!(world.tables.swap(A, u32::MAX, 1), Err(GrantStatus::BAD_GNTREF));
    world.unmap(B, mapped.handle, 0x1000).unwrap();
    world.version2(A);
    world.grant2(A, 9, (RW, B), 0, 7);
    assert_eq!(world.tables.swap(A, 9, 10), Ok(()));
    assert!(world.map(B, A, 10, true, 0x1000).is_ok());
    assert!(world.map(B, A, 9, true, 0x1000).is_err());
}

#[test]
fn transfers_keep_the_page_with_its_guest() {
    let status = GrantTables::transfer(A, &Transfer::default());
    assert_eq!(status, GrantStatus::GENERAL_ERROR);
    assert_eq!(GrantTables::CACHE_FLUSH, Errno::ENOSYS);
}

#[test]
fn domains_out_of_range_are_refused() {
    let mut tables = GrantTables::new();
    assert_eq!(tables.add_domain(HV, &SETTINGS), Err(Errno::EINVAL));
    assert_eq!(tables.add_domain(DomId::SELF, &SETTINGS), Err(Errno::EINVAL));
    let none = Settings { max_frames: 0, ..SETTINGS };
    assert_eq!(tables.add_domain(A, &none), Err(Errno::EINVAL));
    assert_eq!(tables.add_domain(A, &SETTINGS), Ok(()));
    assert_eq!(tables.add_domain(A, &SETTINGS), Err(Errno::EEXIST));
}
