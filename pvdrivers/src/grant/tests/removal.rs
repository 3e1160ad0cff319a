//! Domains that die while pages are mapped both ways.

use super::*;
use crate::grant::Removal;

#[test]
fn a_dying_domain_s_own_mappings_are_taken_away_before_the_pages_are_free() {
    let mut world = world();
    world.grant(A, 1, RW, B, 5);
    for n in 1..9 {
        let _ = world.map(B, A, 1, true, n << 12).unwrap();
    }
    for n in (1..9).rev() {
        let step =
            Removal::Revoke { user: B, handle: n - 1, at: arch::GuestPhys(u64::from(n) << 12) };
        assert_eq!(world.tables.remove_domain(B), step);
        assert_eq!(world.tables.remove_domain(B), step, "until it is done");
        assert!(world.tables.holds_frame(A, 5), "B's tables still lead to it");
        world.tables.revoked(B, B, n - 1);
    }
    assert_eq!(world.tables.remove_domain(B), Removal::Done);
    assert_eq!((world.in_use(A), world.flags(A, 1)), (0, RW));
    assert_eq!(world.tables.remove_domain(B), Removal::Done, "twice is no harm");
    assert_eq!(world.tables.domains().collect::<Vec<_>>(), [A, C]);
}

#[test]
fn a_dying_domain_s_pages_are_taken_from_others() {
    let mut world = world();
    world.grant(A, 1, RW, B, 5);
    world.grant(A, 2, RO, C, 6);
    world.grant(B, 1, RW, C, 5);
    let theirs = world.map(B, A, 1, true, 0x1000).unwrap();
    let other = world.map(C, B, 1, true, 0x2000).unwrap();
    let mine = world.map(C, A, 2, false, 0x3000).unwrap();
    for (user, at, handle) in [(B, 0x1000, theirs.handle), (C, 0x3000, mine.handle)] {
        let step = Removal::Revoke { user, handle, at: arch::GuestPhys(at) };
        assert_eq!(world.tables.remove_domain(A), step);
        assert_eq!(world.tables.remove_domain(A), step, "until it is done");
        world.tables.revoked(A, user, handle);
        world.tables.revoked(A, user, handle);
    }
    assert_eq!(world.tables.remove_domain(A), Removal::Done);
    world.tables.add_domain(A, &SETTINGS).unwrap();
    let late = world.begin_unmap(B, theirs.handle, 0x1000).unwrap().unwrap();
    assert_eq!(late.at, None, "the user ends a mapping that is no more");
    world.tables.unmapped(late);
    assert_eq!(world.unmap(C, other.handle, 0x2000), Ok(()));
    assert_eq!((world.in_use(A), world.in_use(B)), (0, 0));
}

#[test]
fn nobody_begins_to_use_a_dying_domain_s_grants() {
    let mut world = world();
    world.grant(A, 1, RW, HV, 5);
    world.grant(A, 2, RW, B, 5);
    let pinned = world.pin(A, 1, GrantAccess::Read).unwrap();
    assert_eq!(world.tables.remove_domain(A), Removal::Pinned { grants: 1 });
    assert_eq!(world.pin(A, 1, GrantAccess::Read).map(drop), Err(Errno::EACCES));
    assert_eq!(world.map(B, A, 2, true, 0).map(drop), Err(GrantStatus::GENERAL_ERROR));
    assert!(world.tables.holds_frame(A, 5), "the memory must not go to anyone else");
    world.unpin(pinned);
    assert_eq!(world.tables.remove_domain(A), Removal::Done);
}

#[test]
fn a_handle_that_was_used_again_is_not_revoked_for_another() {
    let mut world = world();
    world.grant(A, 1, RW, B, 5);
    world.grant(C, 1, RW, B, 5);
    let old = world.map(B, A, 1, true, 0x1000).unwrap();
    assert!(matches!(world.tables.remove_domain(A), Removal::Revoke { .. }));
    world.unmap(B, old.handle, 0x1000).unwrap();
    let new = world.map(B, C, 1, true, 0x1000).unwrap();
    assert_eq!(new.handle, old.handle);
    world.tables.revoked(A, B, old.handle);
    world.tables.revoked(C, B, new.handle);
    assert_eq!(world.in_use(C), 1, "C is alive and its page is mapped");
    let unmapping = world.begin_unmap(B, new.handle, 0x1000).unwrap().unwrap();
    assert!(unmapping.at.is_some(), "and there is something to take away");
    world.tables.unmapped(unmapping);
    assert_eq!(world.in_use(C), 0);
    assert_eq!(world.tables.remove_domain(A), Removal::Done);
}

#[test]
fn an_unmapping_under_way_holds_the_dying_owner() {
    let mut world = world();
    world.grant(A, 1, RW, B, 5);
    let mapped = world.map(B, A, 1, true, 0x1000).unwrap();
    let unmapping = world.begin_unmap(B, mapped.handle, 0x1000).unwrap().unwrap();
    assert_eq!(world.tables.remove_domain(A), Removal::Pinned { grants: 1 });
    world.tables.unmapped(unmapping);
    assert_eq!(world.tables.remove_domain(A), Removal::Done);
}

#[test]
fn many_mappings_go_in_bounded_steps() {
    let mut world = world();
    let many = Settings { max_maps: 2000, ..SETTINGS };
    world.tables.add_domain(DomId(7), &many).unwrap();
    world.grant(A, 1, RW, DomId(7), 5);
    world.grant(B, 1, RW, DomId(7), 5);
    for n in 1..1500 {
        let owner = if n == 1400 { B } else { A };
        let _ = world.map(DomId(7), owner, 1, true, n << 12).unwrap();
    }
    let mut again = 0;
    let step = loop {
        match world.tables.remove_domain(B) {
            Removal::Again => again += 1,
            step => break step,
        }
    };
    assert!(matches!(step, Removal::Revoke { user: DomId(7), handle: 1399, .. }) && again == 2);
    let mut taken = 0;
    loop {
        match world.tables.remove_domain(DomId(7)) {
            Removal::Revoke { user, handle, .. } => {
                taken += 1;
                world.tables.revoked(DomId(7), user, handle);
            }
            Removal::Done => break,
            step => panic!("{step:?}"),
        }
    }
    assert_eq!(taken, 1499);
    assert_eq!(world.tables.remove_domain(B), Removal::Done);
    assert_eq!(world.in_use(A), 0);
}
