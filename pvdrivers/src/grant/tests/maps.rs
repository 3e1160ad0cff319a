//! Mapping and pinning, marks in the entries, and what is refused.

use super::*;
use crate::abi::grant_table::{
    GTF_ACCEPT_TRANSFER, GTF_READING, GTF_SUB_PAGE, GTF_TRANSITIVE, GTF_WRITING, MAP_APPLICATION,
    MAP_CONTAINS_PTE, MAP_DEVICE, UnmapAndReplace,
};

#[test]
fn a_mapped_grant_is_marked_and_its_owner_cannot_end_access() {
    let mut world = world();
    world.grant(A, 9, RW, B, 5);
    let mapped = world.map(B, A, 9, true, 0x7123).unwrap();
    assert!(mapped.page.is(&world.memory.page(A, 5).unwrap()));
    assert_eq!((mapped.at.0, mapped.write, mapped.frame, mapped.owner), (0x7000, true, 5, A));
    assert_eq!(world.flags(A, 9), RW | GTF_READING | GTF_WRITING);
    assert!(!world.end_access(A, 9));
    assert!(world.tables.holds_frame(A, 5) && !world.tables.holds_frame(A, 4));
    let unmapping = world.begin_unmap(B, mapped.handle, 0x7000).unwrap().unwrap();
    assert!(!world.end_access(A, 9), "the TLBs may still know the page");
    world.tables.unmapped(unmapping);
    assert_eq!(world.flags(A, 9), RW);
    assert!(world.end_access(A, 9) && !world.tables.holds_frame(A, 5));
}

#[test]
fn a_look_at_a_granted_page_marks_nothing_and_sees_none_that_is_not_granted() {
    let world = world();
    world.grant(A, 9, RW, B, 5);
    world.grant(A, 3, GTF_ACCEPT_TRANSFER, B, 5);
    world.grant(A, 4, RW, B, 99);
    let look = |world: &World, dom, n| world.tables.look(dom, n, &world.memory);
    assert!(look(&world, A, 9).unwrap().is(&world.memory.page(A, 5).unwrap()));
    assert_eq!((world.flags(A, 9), world.in_use(A)), (RW, 0));
    for (dom, reference) in [(A, 0), (A, 3), (A, 4), (A, u32::MAX), (B, 9), (DomId(99), 9)] {
        assert!(look(&world, dom, reference).is_none(), "{dom:?} {reference}");
    }
    assert!(world.end_access(A, 9));
    assert!(look(&world, A, 9).is_none());
}

#[test]
fn marks_follow_what_the_users_do() {
    let mut world = world();
    world.grant(A, 1, RW, B, 5);
    let read = world.map(B, A, 1, false, 0x1000).unwrap();
    assert_eq!(world.flags(A, 1), RW | GTF_READING);
    let write = world.map(B, A, 1, true, 0x2000).unwrap();
    let more = world.map(B, A, 1, false, 0x3000).unwrap();
    assert_eq!(world.flags(A, 1), RW | GTF_READING | GTF_WRITING);
    world.unmap(B, read.handle, 0x1000).unwrap();
    world.unmap(B, write.handle, 0x2000).unwrap();
    assert_eq!(world.flags(A, 1), RW | GTF_READING);
    world.unmap(B, more.handle, 0x3000).unwrap();
    assert_eq!(world.flags(A, 1), RW);
    assert_eq!(world.in_use(A), 0);
}

#[test]
fn what_is_not_granted_is_not_mapped() {
    let mut world = world();
    let refused = Err(GrantStatus::GENERAL_ERROR);
    let status = |result: Result<Mapped, GrantStatus>| result.map(|_| ());
    world.grant(A, 1, RO, B, 5);
    world.grant(A, 2, RW, C, 5);
    world.grant(A, 3, GTF_ACCEPT_TRANSFER, B, 5);
    world.grant(A, 4, RW, B, 99);
    world.grant(A, 5, RW | GTF_SUB_PAGE, B, 5);
    world.grant(A, 6, GTF_TRANSITIVE, B, 5);
    assert_eq!(status(world.map(B, A, 0, false, 0)), refused, "an empty entry");
    assert_eq!(status(world.map(B, A, 1, true, 0)), refused, "for reading only");
    assert_eq!(status(world.map(B, A, 2, false, 0)), refused, "another's");
    assert_eq!(status(world.map(B, A, 3, false, 0)), refused, "a transfer");
    assert_eq!(status(world.map(B, A, 4, false, 0)), Err(GrantStatus::BAD_PAGE));
    assert_eq!(status(world.map(B, A, 5, false, 0)), refused, "a part of a page");
    assert_eq!(status(world.map(B, A, 6, false, 0)), refused);
    assert_eq!(status(world.map(B, A, 512, false, 0)), Err(GrantStatus::BAD_GNTREF));
    assert_eq!(status(world.map(B, A, u32::MAX, false, 0)), Err(GrantStatus::BAD_GNTREF));
    assert_eq!(status(world.map(B, DomId(9), 1, false, 0)), Err(GrantStatus::BAD_DOMAIN));
    assert_eq!(status(world.map(B, DomId::SELF, 1, false, 0)), Err(GrantStatus::BAD_DOMAIN));
    assert_eq!(status(world.map(B, HV, 1, false, 0)), Err(GrantStatus::BAD_DOMAIN));
    for reference in 0..7 {
        assert_eq!(world.flags(A, reference) & (GTF_READING | GTF_WRITING), 0);
    }
    let usage = world.tables.usage(B).unwrap();
    assert_eq!((usage.maps, world.in_use(A)), (0, 0), "what failed left no handle");
}

#[test]
fn kinds_of_mapping_that_hvm_guests_do_not_have_are_refused() {
    let mut world = world();
    world.grant(A, 1, RW, B, 5);
    for (flags, status) in [
        (0, GrantStatus::BAD_GNTREF),
        (MAP_READONLY, GrantStatus::BAD_GNTREF),
        (MAP_DEVICE, GrantStatus::GENERAL_ERROR),
        (MAP_DEVICE | MAP_HOST, GrantStatus::GENERAL_ERROR),
        (MAP_HOST | MAP_APPLICATION, GrantStatus::GENERAL_ERROR),
        (MAP_HOST | MAP_CONTAINS_PTE, GrantStatus::GENERAL_ERROR),
    ] {
        let argument = MapGrantRef { flags, reference: 1, dom: 1, ..Default::default() };
        assert_eq!(world.tables.map(B, &argument, &world.memory).map(|_| ()), Err(status));
    }
}

#[test]
fn an_entry_has_one_user_at_a_time() {
    let mut world = world();
    world.grant(A, 1, RW, B, 5);
    let mapped = world.map(B, A, 1, false, 0x1000).unwrap();
    world.grant(A, 1, RW | GTF_READING, C, 5);
    assert_eq!(world.map(C, A, 1, false, 0).map(|_| ()), Err(GrantStatus::GENERAL_ERROR));
    world.unmap(B, mapped.handle, 0x1000).unwrap();
    assert!(world.map(C, A, 1, false, 0x1000).is_ok());
}

#[test]
fn an_entry_changed_under_its_user_changes_nothing_for_it() {
    let mut world = world();
    world.grant(A, 1, RW, B, 5);
    let first = world.map(B, A, 1, false, 0x1000).unwrap();
    world.grant(A, 1, RW | GTF_READING, B, 6);
    let second = world.map(B, A, 1, false, 0x2000).unwrap();
    assert!(second.page.is(&first.page), "the page that is counted");
    let write = world.map(B, A, 1, true, 0x3000);
    assert_eq!(write.map(|_| ()), Err(GrantStatus::GENERAL_ERROR), "not the page that is counted");
    assert_eq!(world.flags(A, 1), RW | GTF_READING);
    world.grant(A, 1, RO | GTF_READING, B, 5);
    let write = world.map(B, A, 1, true, 0x3000);
    assert_eq!(write.map(|_| ()), Err(GrantStatus::GENERAL_ERROR));
    world.unmap(B, first.handle, 0x1000).unwrap();
    world.unmap(B, second.handle, 0x2000).unwrap();
    assert_eq!(world.in_use(A), 0);
    assert!(!world.tables.holds_frame(A, 5));
}

#[test]
fn who_uses_an_entry_is_not_asked_again_for_whom_it_is() {
    let mut world = world();
    world.grant(A, 1, RW, B, 5);
    let read = world.map(B, A, 1, false, 0x1000).unwrap();
    world.grant(A, 1, RW | GTF_READING, C, 5);
    let write = world.map(B, A, 1, true, 0x2000).unwrap();
    assert_eq!(world.flags(A, 1), RW | GTF_READING | GTF_WRITING);
    world.unmap(B, write.handle, 0x2000).unwrap();
    world.unmap(B, read.handle, 0x1000).unwrap();
    assert_eq!((world.in_use(A), world.flags(A, 1)), (0, RW));
}

#[test]
fn handles_are_checked_and_end_once() {
    let mut world = world();
    world.grant(A, 1, RW, B, 5);
    let mapped = world.map(B, A, 1, true, 0x1000).unwrap();
    assert_eq!(world.unmap(B, 99, 0x1000), Err(GrantStatus::BAD_HANDLE));
    assert_eq!(world.unmap(B, u32::MAX, 0x1000), Err(GrantStatus::BAD_HANDLE));
    assert_eq!(world.unmap(C, mapped.handle, 0x1000), Err(GrantStatus::BAD_HANDLE), "another's");
    assert_eq!(world.unmap(B, mapped.handle, 0x2000), Err(GrantStatus::GENERAL_ERROR));
    assert_eq!(world.unmap(B, mapped.handle, 0), Ok(()), "no address: nothing to do");
    assert_eq!(world.in_use(A), 1);
    assert_eq!(world.unmap(B, mapped.handle, 0x1fff), Ok(()));
    assert_eq!(world.unmap(B, mapped.handle, 0x1000), Err(GrantStatus::BAD_HANDLE));
    assert_eq!(world.in_use(A), 0);
}

#[test]
fn a_page_cannot_be_replaced_when_it_is_unmapped() {
    let mut world = world();
    world.grant(A, 1, RW, B, 5);
    let handle = world.map(B, A, 1, true, 0x1000).unwrap().handle;
    let argument = UnmapAndReplace { host_addr: 0x1000, new_addr: 0x9000, handle, status: 0 };
    let replace =
        |world: &mut World, argument: &UnmapAndReplace| world.tables.unmap_and_replace(B, argument);
    assert_eq!(replace(&mut world, &argument).map(drop), Err(GrantStatus::GENERAL_ERROR));
    let unknown = UnmapAndReplace { handle: 7, ..argument };
    assert_eq!(replace(&mut world, &unknown).map(drop), Err(GrantStatus::BAD_HANDLE));
    let plain = UnmapAndReplace { new_addr: 0, ..argument };
    let unmapping = replace(&mut world, &plain).unwrap().unwrap();
    world.tables.unmapped(unmapping);
    assert_eq!(world.in_use(A), 0);
}

#[test]
fn a_mapping_that_could_not_be_made_leaves_nothing() {
    let mut world = world();
    world.grant(A, 1, RW, B, 5);
    let mapped = world.map(B, A, 1, true, 0x1000).unwrap();
    world.tables.abandon(B, mapped);
    assert_eq!((world.in_use(A), world.flags(A, 1)), (0, RW));
    assert_eq!(world.tables.usage(B).unwrap().maps, 0);
}

#[test]
fn handles_end_at_the_limit_and_the_monitor_hears_before() {
    let mut world = world();
    world.grant(A, 1, RW, B, 5);
    let mut handles = Vec::new();
    for n in 0..16 {
        assert_eq!(world.tables.usage(B).unwrap().is_high(), n >= 13);
        handles.push(world.map(B, A, 1, true, n << 12).unwrap().handle);
    }
    assert_eq!(world.map(B, A, 1, true, 0).map(|_| ()), Err(GrantStatus::NO_SPACE));
    world.unmap(B, handles[3], 3 << 12).unwrap();
    assert_eq!(world.map(B, A, 1, true, 0x9000).map(|mapped| mapped.handle), Ok(handles[3]));
}

#[test]
fn a_back_end_pins_what_is_granted_to_it() {
    let mut world = world();
    world.grant(A, 1, RO, HV, 5);
    world.grant(A, 2, RW, B, 5);
    assert_eq!(world.pin(A, 1, GrantAccess::Write).map(drop), Err(Errno::EACCES));
    assert_eq!(world.pin(A, 2, GrantAccess::Read).map(drop), Err(Errno::EACCES));
    assert_eq!(world.pin(A, 600, GrantAccess::Read).map(drop), Err(Errno::ENOENT));
    assert_eq!(world.pin(DomId(9), 1, GrantAccess::Read).map(drop), Err(Errno::ESRCH));
    let pinned = world.pin(A, 1, GrantAccess::Read).unwrap();
    assert!(pinned.page.is(&world.memory.page(A, 5).unwrap()));
    assert_eq!((pinned.frame.0, pinned.bytes), (0x5000, (0, 4096)));
    assert!(!world.end_access(A, 1));
    world.unpin(pinned);
    assert!(world.end_access(A, 1));
    world.grant(A, 1, RW, HV, 99);
    assert_eq!(world.pin(A, 1, GrantAccess::Read).map(drop), Err(Errno::EFAULT));
}

#[test]
fn version_2_marks_its_status_words_and_pins_parts_of_pages() {
    let mut world = world();
    world.version2(A);
    world.grant2(A, 20, (RW, B), 0, 7);
    let mapped = world.map(B, A, 20, true, 0x1000).unwrap();
    assert_eq!(world.status(A, 20), GTF_READING | GTF_WRITING);
    assert!(mapped.page.is(&world.memory.page(A, 7).unwrap()));
    world.unmap(B, mapped.handle, 0x1000).unwrap();
    assert_eq!(world.status(A, 20), 0);
    world.grant2(A, 21, (RO, B), 0, 7);
    assert!(world.map(B, A, 21, true, 0x1000).is_err());
    assert_eq!(world.status(A, 21), 0, "a refused use leaves no mark");
    world.grant2(A, 22, (RW | GTF_SUB_PAGE, HV), 100 | 50 << 16, 7);
    let pinned = world.pin(A, 22, GrantAccess::Write).unwrap();
    assert_eq!(pinned.bytes, (100, 150));
    world.unpin(pinned);
    world.grant2(A, 22, (RW | GTF_SUB_PAGE, HV), 0xffff | 0xffff << 16, 7);
    let pinned = world.pin(A, 22, GrantAccess::Write).unwrap();
    assert_eq!(pinned.bytes, (4096, 4096), "a part outside the page is empty");
    world.unpin(pinned);
    world.grant2(A, 23, (GTF_TRANSITIVE, HV), 2, 20);
    assert_eq!(world.pin(A, 23, GrantAccess::Read).map(drop), Err(Errno::EACCES));
    world.grant2(A, 24, (RW, HV), 0, u64::MAX);
    assert_eq!(world.pin(A, 24, GrantAccess::Read).map(drop), Err(Errno::EFAULT));
    assert_eq!((world.in_use(A), world.status(A, 24)), (0, 0));
}
