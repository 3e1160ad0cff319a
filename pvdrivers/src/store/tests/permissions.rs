//! Who may do what: every letter, for owner, named, target and others, with every request.

use super::*;

/// What `domid` may with a node, tried out by requests. `n`, `r`, `w`, `b`.
fn tried(xs: &mut Xs, domid: u16, path: &str) -> char {
    let read = xs.read(domid, path).is_ok();
    assert_eq!(xs.ask(domid, Kind::GetPerms, &format!("{path}\0")).is_ok(), read);
    assert_eq!(xs.ask(domid, Kind::Directory, &format!("{path}\0")).is_ok(), read);
    let write = xs.write(domid, path, "x").is_ok();
    assert_eq!(xs.ask(domid, Kind::Mkdir, &format!("{path}\0")).is_ok(), write);
    assert_eq!(xs.write(domid, &format!("{path}/below"), "x").is_ok(), write);
    assert_eq!(xs.ask(domid, Kind::Rm, &format!("{path}/none\0")).is_ok(), write);
    assert_eq!(
        xs.read(domid, &format!("{path}/none")),
        err(if read { "ENOENT" } else { "EACCES" })
    );
    match (read, write) {
        (false, false) => 'n',
        (true, false) => 'r',
        (false, true) => 'w',
        (true, true) => 'b',
    }
}

#[test]
fn the_matrix_of_permissions_holds_for_every_request() {
    for others in ['n', 'r', 'w', 'b'] {
        for named in ['n', 'r', 'w', 'b'] {
            let mut xs = Xs::with(&[5, 6, 7, 8]);
            xs.service.store.set_target(DomId(8), DomId(6)).unwrap();
            let perms = [format!("{others}5"), format!("{named}6")];
            let perms = Perms::parse(perms.iter().map(|text| text.as_bytes())).unwrap();
            xs.local().create("/shared", "", &perms).unwrap();
            let own = tried(&mut xs, 5, "/shared");
            let rm = |xs: &mut Xs| xs.local().remove("/shared/below").unwrap();
            rm(&mut xs);
            assert_eq!(own, 'b', "{others}{named}");
            assert_eq!(tried(&mut xs, 6, "/shared"), named, "{others}{named}");
            rm(&mut xs);
            assert_eq!(tried(&mut xs, 7, "/shared"), others, "{others}{named}");
            rm(&mut xs);
            assert_eq!(tried(&mut xs, 8, "/shared"), named, "{others}{named}");
        }
    }
}

#[test]
fn only_the_owner_sets_permissions_and_cannot_give_the_node_away() {
    let mut xs = Xs::with(&[5, 6]);
    xs.write(5, "data/a", "1").unwrap();
    let path = "/local/domain/5/data/a\0";
    let set = |xs: &mut Xs, domid, perms: &str| {
        xs.ask(domid, Kind::SetPerms, &format!("{path}{perms}")).map(|_| ())
    };
    assert_eq!(set(&mut xs, 6, "n6\0"), Err("EACCES".into()));
    assert_eq!(set(&mut xs, 5, "n5\0b6\0"), Ok(()));
    assert_eq!(set(&mut xs, 6, "n6\0"), Err("EACCES".into()), "writing is not owning");
    assert_eq!(set(&mut xs, 5, "n6\0"), Err("EPERM".into()));
    assert_eq!(xs.write(6, "/local/domain/5/data/a", "2"), Ok(b"OK\0".to_vec()));
    let given = Perms::new(Perm::none(DomId(6)), &[]);
    xs.local().set_perms("/local/domain/5/data/a", &given).unwrap();
    assert_eq!(
        (xs.service.store.usage(DomId(5)).nodes, xs.service.store.usage(DomId(6)).nodes),
        (1, 2)
    );
    assert_eq!(xs.read(5, "data/a"), err("EACCES"));
}

#[test]
fn a_node_below_anothers_belongs_to_who_made_it() {
    let mut xs = Xs::with(&[5, 6]);
    xs.write(5, "data/a", "1").unwrap();
    xs.ask(5, Kind::SetPerms, "data/a\0n5\0b6\0").unwrap();
    xs.write(6, "/local/domain/5/data/a/mine", "x").unwrap();
    let perms = xs.ask(6, Kind::GetPerms, "/local/domain/5/data/a/mine\0");
    assert_eq!(perms, Ok(b"n6\0b6\0".to_vec()));
    assert_eq!(xs.read(5, "data/a/mine"), err("EACCES"));
    // But the owner of the node above may remove it.
    assert_eq!(xs.ask(5, Kind::Rm, "data/a\0"), Ok(b"OK\0".to_vec()));
    assert_eq!(xs.service.store.usage(DomId(6)).nodes, 1);
}

#[test]
fn a_domain_acts_for_its_target() {
    let mut xs = Xs::with(&[5, 6]);
    xs.write(5, "data/a", "1").unwrap();
    assert_eq!(xs.read(6, "/local/domain/5/data/a"), err("EACCES"));
    xs.watch(6, "/local/domain/5/data", "t").unwrap();
    xs.events(6);
    xs.service.store.set_target(DomId(6), DomId(5)).unwrap();
    assert_eq!(xs.read(6, "/local/domain/5/data/a"), Ok("1".into()));
    assert!(xs.write(6, "/local/domain/5/data/a", "2").is_ok());
    assert_eq!(xs.events(6), pairs(&[("/local/domain/5/data/a", "t")]));
    assert_eq!(xs.ask(6, Kind::SetPerms, "/local/domain/5/data/a\0r5\0"), Ok(b"OK\0".to_vec()));
}

#[test]
fn what_names_a_domain_that_is_gone_does_not_name_the_next_with_its_number() {
    let mut xs = Xs::with(&[5, 6]);
    let before = xs.service.store.stats();
    xs.add(7);
    xs.write(5, "data/a", "secret").unwrap();
    xs.ask(5, Kind::SetPerms, "data/a\0n5\0b7\0").unwrap();
    xs.write(7, "/local/domain/5/data/a/of-7", "x").unwrap();
    xs.watch(7, "/local/domain/5/data", "t").unwrap();
    xs.begin(7);
    assert_eq!(xs.read(7, "/local/domain/5/data/a"), Ok("secret".into()));
    xs.service.store.set_target(DomId(7), DomId(6)).unwrap();
    xs.service.forget(DomId(7));
    xs.local().remove("/local/domain/5/data/a").unwrap();
    assert_eq!(xs.service.store.usage(DomId(7)), Usage::default());
    let after = xs.service.store.stats();
    assert_eq!((after.nodes, after.watches, after.clients, after.transactions), {
        (before.nodes, before.watches, before.clients, before.transactions)
    });
    xs.write(5, "data/a", "secret").unwrap();
    xs.ask(5, Kind::SetPerms, "data/a\0n5\0r7\0").unwrap();
    xs.add(7);
    xs.service.forget(DomId(7));
    xs.add(7);
    assert_eq!(xs.read(7, "/local/domain/5/data/a"), err("EACCES"));
    assert_eq!(xs.read(7, "/local/domain/6/data"), err("EACCES"));
    assert_eq!(xs.ask(5, Kind::GetPerms, "data/a\0"), Ok(b"n5\0".to_vec()));
}
