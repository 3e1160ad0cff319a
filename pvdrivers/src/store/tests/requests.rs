//! Each request, and each way in which it is refused.

use super::*;

fn ok() -> Answer {
    Ok(b"OK\0".to_vec())
}

fn refused(word: &str) -> Answer {
    Err(word.to_string())
}

#[test]
fn what_is_written_is_read() {
    let mut xs = Xs::with(&[7]);
    assert_eq!(xs.write(7, "data/a", "1"), ok());
    assert_eq!(xs.read(7, "data/a"), Ok("1".into()));
    assert_eq!(xs.read(7, "/local/domain/7/data/a"), Ok("1".into()));
    assert_eq!(xs.ask_in(7, 0, Kind::Write, b"data/a\0x\0\xff\0"), ok());
    assert_eq!(xs.ask(7, Kind::Read, "data/a\0"), Ok(b"x\0\xff\0".to_vec()));
    assert_eq!(xs.write(7, "data/a", ""), ok());
    assert_eq!(xs.read(7, "data/a"), Ok("".into()));
}

#[test]
fn writing_makes_the_nodes_above_empty_and_the_writers_own() {
    let mut xs = Xs::with(&[7]);
    assert_eq!(xs.write(7, "data/a/b/c", "1"), ok());
    assert_eq!(xs.read(7, "data/a/b"), Ok("".into()));
    assert_eq!(xs.ask(7, Kind::GetPerms, "data/a/b\0"), Ok(b"n7\0".to_vec()));
    assert_eq!(xs.ask(7, Kind::Directory, "data/a\0"), Ok(b"b\0".to_vec()));
    assert_eq!(xs.ask(7, Kind::Directory, "data/a/b/c\0"), Ok(b"".to_vec()));
}

#[test]
fn mkdir_makes_a_node_and_leaves_one_that_is_there() {
    let mut xs = Xs::with(&[7]);
    assert_eq!(xs.write(7, "data/a", "1"), ok());
    assert_eq!(xs.ask(7, Kind::Mkdir, "data/a\0"), ok());
    assert_eq!(xs.read(7, "data/a"), Ok("1".into()));
    assert_eq!(xs.ask(7, Kind::Mkdir, "data/b/c\0"), ok());
    assert_eq!(xs.read(7, "data/b/c"), Ok("".into()));
    assert_eq!(xs.ask(7, Kind::Mkdir, "name\0"), refused("EACCES"));
}

#[test]
fn rm_removes_what_is_below_and_minds_only_a_missing_parent() {
    let mut xs = Xs::with(&[7]);
    xs.write(7, "data/a/b/c", "1").unwrap();
    assert_eq!(xs.ask(7, Kind::Rm, "data/a\0"), ok());
    assert_eq!(xs.read(7, "data/a/b/c"), err("ENOENT"));
    assert_eq!(xs.ask(7, Kind::Directory, "data\0"), Ok(b"".to_vec()));
    assert_eq!(xs.ask(7, Kind::Rm, "data/a\0"), ok());
    assert_eq!(xs.ask(7, Kind::Rm, "data/a/b\0"), refused("ENOENT"));
    assert_eq!(xs.ask(7, Kind::Rm, "/\0"), refused("EINVAL"));
    assert_eq!(xs.service.store.usage(DomId(7)).nodes, 1);
}

#[test]
fn a_missing_node_is_told_only_to_who_might_read_it() {
    let mut xs = Xs::with(&[7, 8]);
    assert_eq!(xs.read(7, "data/none/at/all"), err("ENOENT"));
    assert_eq!(xs.read(7, "/local/domain/8/data/none"), err("EACCES"));
    assert_eq!(xs.read(7, "/none"), err("EACCES"));
    assert_eq!(xs.ask(7, Kind::Directory, "data/none\0"), refused("ENOENT"));
    assert_eq!(xs.ask(7, Kind::GetPerms, "data/none\0"), refused("ENOENT"));
    assert_eq!(xs.ask(7, Kind::SetPerms, "data/none\0n7\0"), refused("ENOENT"));
}

#[test]
fn a_long_list_is_had_in_parts() {
    let mut xs = Xs::with(&[7]);
    for number in 0..600 {
        xs.local().write(&format!("/local/domain/7/data/entry-{number:04}"), "").unwrap();
    }
    assert_eq!(xs.ask(7, Kind::Directory, "data\0"), refused("E2BIG"));
    let mut names = Vec::new();
    let mut generation = None;
    for _ in 0..10 {
        let part = xs.ask(7, Kind::DirectoryPart, &format!("data\0{}\0", names.len())).unwrap();
        let end = part.iter().position(|byte| *byte == 0).unwrap();
        assert_eq!(generation.get_or_insert_with(|| part[..end].to_vec()), &part[..end]);
        let list = &part[end + 1..];
        if list.last_chunk() == Some(&[0, 0]) || list == [0] {
            names.extend_from_slice(&list[..list.len() - 1]);
            break;
        }
        names.extend_from_slice(list);
    }
    let names: Vec<String> =
        names.split(|byte| *byte == 0).map(text).filter(|name| !name.is_empty()).collect();
    assert_eq!(names.len(), 600);
    assert_eq!((&*names[0], &*names[599]), ("entry-0000", "entry-0599"));
    xs.local().write("/local/domain/7/data/more", "").unwrap();
    let part = xs.ask(7, Kind::DirectoryPart, "data\x00999999\0").unwrap();
    assert_ne!(Some(text(&part)), generation.map(|it| text(&it)), "a change shows");
    assert_eq!(xs.ask(7, Kind::DirectoryPart, "data\0x\0"), refused("EINVAL"));
    assert_eq!(xs.ask(7, Kind::DirectoryPart, "data\0"), refused("EINVAL"));
    assert_eq!(xs.ask(7, Kind::DirectoryPart, "data/none\x000\0"), refused("ENOENT"));
}

#[test]
fn malformed_payloads_are_refused() {
    let mut xs = Xs::with(&[7]);
    for kind in [
        Kind::Read,
        Kind::Directory,
        Kind::GetPerms,
        Kind::Mkdir,
        Kind::Rm,
        Kind::GetDomainPath,
        Kind::IsDomainIntroduced,
    ] {
        for bad in ["", "data", "data\0data\0", "\0", "data//x\0", "data/\0", "da ta\0"] {
            assert_eq!(xs.ask(7, kind, bad), refused("EINVAL"), "{kind:?} {bad:?}");
        }
    }
    for bad in ["", "data/x", "\0value", "data/\0value", "/\u{e9}\0v"] {
        assert_eq!(xs.ask(7, Kind::Write, bad), refused("EINVAL"), "{bad:?}");
    }
    for bad in ["", "\0", "data\0", "data\0x\0", "data\0r\0", "data\0n7\0q8\0", "data\0n70000\0"] {
        assert_eq!(xs.ask(7, Kind::SetPerms, bad), refused("EINVAL"), "{bad:?}");
    }
    for bad in ["", "data", "data\0", "data\0t\0x\0", "data\0t\x001\x002\0", "\0t\0"] {
        assert_eq!(xs.ask(7, Kind::Watch, bad), refused("EINVAL"), "{bad:?}");
    }
    for bad in ["", "data\0", "data\0t\0u\0", "\0t\0"] {
        assert_eq!(xs.ask(7, Kind::Unwatch, bad), refused("EINVAL"), "{bad:?}");
    }
    let tx = xs.begin(7);
    for bad in ["", "T", "X\0", "\0", "TT\0", "T\0T\0"] {
        let answer = xs.ask_in(7, tx, Kind::TransactionEnd, bad.as_bytes());
        assert_eq!(answer, refused("EINVAL"), "{bad:?}");
    }
    assert_eq!(xs.end(7, tx, "T"), ok());
}

#[test]
fn domains_have_paths_and_are_introduced() {
    let mut xs = Xs::with(&[7]);
    assert_eq!(xs.ask(7, Kind::GetDomainPath, "007\0"), Ok(b"/local/domain/7\0".to_vec()));
    assert_eq!(xs.ask(7, Kind::IsDomainIntroduced, "7\0"), Ok(b"T\0".to_vec()));
    assert_eq!(xs.ask(7, Kind::IsDomainIntroduced, "0\0"), Ok(b"T\0".to_vec()));
    assert_eq!(xs.ask(7, Kind::IsDomainIntroduced, "8\0"), Ok(b"F\0".to_vec()));
    assert_eq!(xs.ask(7, Kind::IsDomainIntroduced, "65536\0"), refused("EINVAL"));
}

#[test]
fn a_guest_may_not_do_what_is_domain_0s() {
    let mut xs = Xs::with(&[7]);
    for (kind, payload) in [
        (Kind::Introduce, "9\x001\x002\0"),
        (Kind::Release, "7\0"),
        (Kind::Resume, "7\0"),
        (Kind::SetTarget, "7\x000\0"),
        (Kind::Control, "check\0"),
        (Kind::GetFeature, "0\0"),
    ] {
        assert_eq!(xs.ask(7, kind, payload), refused("EACCES"), "{kind:?}");
    }
    assert_eq!(xs.ask(7, Kind::GetFeature, "\0"), Ok(b"7\0".to_vec()));
    assert_eq!(xs.ask(7, Kind::SetPerms, "@releaseDomain\0r7\0"), refused("EACCES"));
    assert_eq!(xs.ask(7, Kind::GetPerms, "@releaseDomain\0"), Ok(b"n0\0".to_vec()));
}

#[test]
fn requests_that_are_none_are_answered_too() {
    let mut xs = Xs::with(&[7]);
    let none = [15, 16, 20, 24, 25, 26, 27, 0xffff, 0xffff_ffff];
    for code in none {
        assert_eq!(xs.ask(7, Kind::from_code(code), "data\0"), refused("ENOSYS"), "{code}");
        assert_eq!(xs.ask(7, Kind::from_code(code), ""), refused("ENOSYS"), "{code}");
    }
    for code in (0..64).chain(none) {
        assert_eq!(Kind::from_code(code).code(), code);
    }
}

#[test]
fn domain_0_does_by_message_what_guests_may_not() {
    let mut store = Store::new(Quota::GUEST);
    let client = store.connect(DomId(0));
    let mut ask = |kind, payload: &[u8]| {
        let mut out = Vec::new();
        let header = Header { kind, req_id: 5, tx_id: 0, len: payload.len() as u32 };
        answer(&mut store, client, &header, payload, &mut out);
        let answered = Header::read(out.first_chunk().unwrap());
        assert_eq!(answered.len as usize, out.len() - Header::SIZE);
        (answered.kind, text(&out[Header::SIZE..]))
    };
    assert_eq!(ask(Kind::Introduce, b"9\x001\x002\0"), (Kind::Introduce, "OK".into()));
    assert_eq!(ask(Kind::Introduce, b"9\x001\x002\0"), (Kind::Error, "EEXIST".into()));
    assert_eq!(ask(Kind::Introduce, b"0\x001\x002\0"), (Kind::Error, "EINVAL".into()));
    assert_eq!(ask(Kind::Introduce, b"32752\x001\x002\0"), (Kind::Error, "EINVAL".into()));
    assert_eq!(ask(Kind::Resume, b"9\0"), (Kind::Resume, "OK".into()));
    assert_eq!(ask(Kind::Resume, b"8\0"), (Kind::Error, "ENOENT".into()));
    assert_eq!(ask(Kind::SetTarget, b"9\x008\0"), (Kind::Error, "ENOENT".into()));
    assert_eq!(ask(Kind::Release, b"9\0"), (Kind::Release, "OK".into()));
    assert_eq!(ask(Kind::Release, b"9\0"), (Kind::Error, "ENOENT".into()));
    assert_eq!(ask(Kind::Control, b"check\0"), (Kind::Control, "OK".into()));
    assert_eq!(ask(Kind::Control, b"help\0"), (Kind::Control, "check\0help\0print".into()));
    assert_eq!(ask(Kind::Control, b"logfile\0x\0"), (Kind::Error, "EINVAL".into()));
}

#[test]
fn a_value_that_fits_into_no_message_is_not_sent() {
    let mut xs = Xs::with(&[7]);
    xs.local().write("/local/domain/7/data/long", "x".repeat(4096)).unwrap();
    assert_eq!(xs.read(7, "data/long").unwrap().len(), 4096);
    xs.local().write("/local/domain/7/data/long", "x".repeat(4097)).unwrap();
    assert_eq!(xs.read(7, "data/long"), err("E2BIG"));
}

#[test]
fn answers_are_appended_one_after_the_other() {
    let mut xs = Xs::with(&[7]);
    let mut out = Vec::new();
    for _ in 0..400 {
        let payload = b"/local/domain\0";
        let len = payload.len() as u32;
        let header = Header { kind: Kind::Directory, req_id: 5, tx_id: 0, len };
        answer(&mut xs.service.store, xs.root, &header, payload, &mut out);
    }
    assert_eq!(out.len(), 400 * (Header::SIZE + 2));
    assert!(out.ends_with(b"7\0"));
}

#[test]
fn a_store_that_is_not_whole_is_found_out() {
    let mut xs = Xs::with(&[7]);
    xs.write(7, "data/a/b", "1").unwrap();
    xs.watch(7, "data", "t").unwrap();
    xs.begin(7);
    assert_eq!(xs.service.store.check(), Ok(()));
    let path = Path::parse(b"data/a", DomId(7)).unwrap();
    let whole = xs.service.store.tree.find(&path).cloned().unwrap();
    xs.service.store.tree.take(&path);
    assert!(xs.service.store.check().is_err());
    xs.service.store.tree.put(&path, whole);
    assert_eq!(xs.service.store.check(), Ok(()));
    xs.service.store.tree.ledger.change(DomId(7), |used| used.memory += 1);
    assert_eq!(xs.service.store.check(), Err(Damage::Counts(DomId(7))));
}
