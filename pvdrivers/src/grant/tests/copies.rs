//! Copies between pages, parts of pages, and grants that are passed on.

use super::*;
use crate::abi::Ulong;
use crate::abi::grant_table::{
    COPY_DEST_GREF, COPY_SOURCE_GREF, Copy, CopyPtr, GTF_READING, GTF_SUB_PAGE, GTF_TRANSITIVE,
};

fn side(dom: DomId, frame: u64, offset: u16) -> CopyPtr {
    CopyPtr { frame: Ulong(frame), domid: dom.0, offset }
}

const OWN: DomId = DomId::SELF;

fn copy(world: &mut World, source: CopyPtr, dest: CopyPtr, len: u16, flags: u16) -> i16 {
    let argument = Copy { source, dest, len, flags, status: 0 };
    match world.tables.copy(B, &argument, &world.memory) {
        Ok(()) => 0,
        Err(status) => status.0,
    }
}

#[test]
fn bytes_go_from_a_grant_to_a_page_of_one_s_own_and_back() {
    let mut world = world();
    world.grant(A, 1, RO, B, 5);
    world.grant(A, 2, RW, B, 6);
    let data: Vec<u8> = (0..1000u32).map(|n| (n * 7) as u8).collect();
    world.memory.page(A, 5).unwrap().write_slice(3, &data).unwrap();
    assert_eq!(copy(&mut world, side(A, 1, 3), side(OWN, 4, 90), 1000, COPY_SOURCE_GREF), 0);
    let mut back = std::vec![0; 1000];
    world.memory.page(B, 4).unwrap().read(90, &mut back).unwrap();
    assert_eq!(back, data);
    assert_eq!(copy(&mut world, side(OWN, 4, 90), side(A, 2, 3096), 1000, COPY_DEST_GREF), 0);
    world.memory.page(A, 6).unwrap().read(3096, &mut back).unwrap();
    assert_eq!(back, data);
    let both = COPY_SOURCE_GREF | COPY_DEST_GREF;
    assert_eq!(copy(&mut world, side(A, 1, 0), side(A, 2, 0), 4096, both), 0);
    assert_eq!((world.in_use(A), world.flags(A, 1), world.flags(A, 2)), (0, RO, RW));
}

#[test]
fn copies_that_may_not_be_are_refused_and_release_both_sides() {
    let mut world = world();
    world.grant(A, 1, RO, B, 5);
    world.grant(A, 2, RW, C, 6);
    world.grant(A, 3, RW, B, 77);
    let general = GrantStatus::GENERAL_ERROR.0;
    let denied = GrantStatus::PERMISSION_DENIED.0;
    let own = side(OWN, 4, 0);
    let mut from = |source, flags| copy(&mut world, source, own, 8, flags);
    assert_eq!(from(side(A, 5, 0), 0), denied, "another's page by number");
    assert_eq!(from(side(B, 5, 0), 0), denied, "one's own by one's number, as in Xen");
    assert_eq!(from(side(A, 2, 0), COPY_SOURCE_GREF), general);
    assert_eq!(from(side(A, 3, 0), COPY_SOURCE_GREF), GrantStatus::BAD_PAGE.0);
    assert_eq!(from(side(A, 999, 0), COPY_SOURCE_GREF), GrantStatus::BAD_GNTREF.0);
    assert_eq!(from(side(DomId(9), 1, 0), COPY_SOURCE_GREF), GrantStatus::BAD_DOMAIN.0);
    assert_eq!(from(side(OWN, 16, 0), 0), GrantStatus::BAD_PAGE.0);
    assert_eq!(from(side(A, 1, 4089), COPY_SOURCE_GREF), GrantStatus::BAD_COPY_ARG.0);
    assert_eq!(from(side(A, 1, 0xffff), COPY_SOURCE_GREF), GrantStatus::BAD_COPY_ARG.0);
    let both = COPY_SOURCE_GREF | COPY_DEST_GREF;
    assert_eq!(copy(&mut world, side(A, 1, 0), side(A, 1, 0), 8, both), general, "read-only");
    assert_eq!(copy(&mut world, own, side(OWN, 5, 4095), 0xffff, 0), GrantStatus::BAD_COPY_ARG.0);
    assert_eq!(copy(&mut world, side(A, 999, 0), own, 0, COPY_SOURCE_GREF), 0, "no bytes at all");
    assert_eq!((world.in_use(A), world.flags(A, 1)), (0, RO));
}

#[test]
fn a_copy_leaves_the_marks_of_who_uses_the_grant_meanwhile() {
    let mut world = world();
    world.grant(A, 1, RW, B, 5);
    let both = COPY_SOURCE_GREF | COPY_DEST_GREF;
    assert_eq!(copy(&mut world, side(A, 1, 0), side(A, 1, 2048), 2048, both), 0, "both sides");
    assert_eq!((world.in_use(A), world.flags(A, 1)), (0, RW));
    let mapped = world.map(B, A, 1, false, 0x1000).unwrap();
    assert_eq!(copy(&mut world, side(OWN, 4, 0), side(A, 1, 0), 8, COPY_DEST_GREF), 0);
    assert_eq!(world.flags(A, 1), RW | GTF_READING);
    assert_eq!(copy(&mut world, side(A, 1, 0), side(OWN, 4, 0), 8, COPY_SOURCE_GREF), 0);
    assert_eq!((world.in_use(A), world.flags(A, 1)), (1, RW | GTF_READING));
    world.unmap(B, mapped.handle, 0x1000).unwrap();
    assert_eq!(world.flags(A, 1), RW);
    let removed = world.tables.remove_domain(A);
    assert_eq!(removed, crate::grant::Removal::Done);
    let gone = copy(&mut world, side(A, 1, 0), side(OWN, 4, 0), 8, COPY_SOURCE_GREF);
    assert_eq!(gone, GrantStatus::BAD_DOMAIN.0);
}

#[test]
fn a_part_of_a_page_is_all_that_can_be_copied() {
    let mut world = world();
    world.version2(A);
    world.grant2(A, 9, (RO | GTF_SUB_PAGE, B), 100 | 50 << 16, 7);
    let own = side(OWN, 4, 0);
    let mut from = |offset, len| copy(&mut world, side(A, 9, offset), own, len, COPY_SOURCE_GREF);
    assert_eq!((from(100, 50), from(149, 1), from(120, 30)), (0, 0, 0));
    let refused = GrantStatus::GENERAL_ERROR.0;
    assert_eq!((from(99, 2), from(100, 51), from(150, 1)), (refused, refused, refused));
    assert_eq!((world.in_use(A), world.status(A, 9)), (0, 0));
}

#[test]
fn a_grant_is_passed_on_once_and_both_owners_see_it() {
    let mut world = world();
    world.version2(A);
    world.grant(C, 3, RO, A, 8);
    world.memory.page(C, 8).unwrap().write(0, 8, 0x1234).unwrap();
    world.grant2(A, 9, (GTF_TRANSITIVE, B), u32::from(C.0), 3);
    let own = side(OWN, 4, 0);
    assert_eq!(copy(&mut world, side(A, 9, 0), own, 8, COPY_SOURCE_GREF), 0);
    assert_eq!(world.memory.page(B, 4).unwrap().read_u64(0), Some(0x1234));
    assert_eq!((world.in_use(A), world.in_use(C)), (0, 0));
    assert_eq!((world.status(A, 9), world.flags(C, 3)), (0, RO));
    // Not to oneself, not twice, not more than was granted, not to who is not there.
    let refused = GrantStatus::GENERAL_ERROR.0;
    world.version2(C);
    world.grant2(C, 3, (GTF_TRANSITIVE, A), u32::from(B.0), 1);
    assert_eq!(copy(&mut world, side(A, 9, 0), own, 8, COPY_SOURCE_GREF), refused);
    world.grant2(C, 3, (RO, A), 0, 8);
    assert_eq!(copy(&mut world, own, side(A, 9, 0), 8, COPY_DEST_GREF), refused);
    world.grant2(A, 9, (GTF_TRANSITIVE, B), u32::from(A.0), 9);
    assert_eq!(copy(&mut world, side(A, 9, 0), own, 8, COPY_SOURCE_GREF), refused);
    world.grant2(A, 9, (GTF_TRANSITIVE, B), 99, 9);
    assert_eq!(copy(&mut world, side(A, 9, 0), own, 8, COPY_SOURCE_GREF), refused);
    assert_eq!((world.in_use(A), world.in_use(C)), (0, 0));
    assert_eq!((world.status(A, 9), world.status(C, 3)), (0, 0));
}

#[test]
fn a_grant_in_use_through_another_keeps_its_marks() {
    let mut world = world();
    world.version2(A);
    world.grant(C, 3, RW, A, 8);
    world.grant2(A, 9, (GTF_TRANSITIVE, B), u32::from(C.0), 3);
    let mapped = world.map(A, C, 3, false, 0x5000).unwrap();
    assert_eq!(copy(&mut world, side(OWN, 4, 0), side(A, 9, 0), 8, COPY_DEST_GREF), 0);
    assert_eq!(world.flags(C, 3), RW | GTF_READING, "the mapping's mark stays");
    world.unmap(A, mapped.handle, 0x5000).unwrap();
    assert_eq!(world.flags(C, 3), RW);
}

#[test]
fn a_grant_passed_on_that_changes_under_its_user_releases_what_it_took() {
    use crate::grant::acquire::Use;
    let mut world = world();
    world.version2(A);
    world.grant(C, 3, RW, A, 8);
    world.grant(C, 4, RW, A, 9);
    world.grant2(A, 9, (GTF_TRANSITIVE, B), u32::from(C.0), 3);
    let wanted =
        Use { owner: A, reference: 9, user: B, write: false, mapping: false, onward: true };
    let _ = world.tables.acquire(&wanted, &world.memory).unwrap();
    world.grant2(A, 9, (GTF_TRANSITIVE, B), u32::from(C.0), 4);
    for write in [false, true] {
        let again = world.tables.acquire(&Use { write, ..wanted }, &world.memory);
        assert_eq!(again.map(|_| ()), Err(GrantStatus::GENERAL_ERROR));
    }
    assert_eq!((world.in_use(A), world.in_use(C), world.flags(C, 4)), (1, 1, RW));
    world.tables.release(A, 9, false);
    assert_eq!((world.in_use(A), world.in_use(C), world.status(A, 9)), (0, 0, 0));
}
