//! Messages of every length and byte. Each whole one is answered once, or the connection ends with an
//! error; nothing hangs, and the store stays whole.

use super::*;

/// Sends any bytes and takes what comes; the connection is made anew when it ended.
fn throw(xs: &mut Xs, mut bytes: &[u8]) {
    for _ in 0..200 {
        let front = xs.fronts.get_mut(&7).unwrap();
        bytes = &bytes[front.push(bytes)..];
        xs.turn(7);
        if xs.service.ring(DomId(7)).unwrap().error().is_some() {
            break;
        }
        if bytes.is_empty() {
            break;
        }
    }
    xs.service.restart(DomId(7));
    xs.fronts.get_mut(&7).unwrap().stream.clear();
    assert_eq!(xs.read(7, "domid"), Ok("7".into()));
}

fn guest() -> Xs {
    let mut xs = Xs::with(&[7]);
    xs.local().write("/local/domain/7/domid", 7).unwrap();
    xs
}

#[test]
fn every_kind_with_every_short_length_is_answered() {
    let mut xs = guest();
    for code in (0..32).chain([0xffff, u32::MAX]) {
        let kind = Kind::from_code(code);
        for len in (0..40).chain([255, 1023, 1024, 1025, 2048, 4095, 4096]) {
            for byte in [0, b'/', b'a', b'@', 0xff] {
                // The answer is checked to be the one for this request.
                let _ = xs.ask_in(7, 0, kind, &[byte].repeat(len));
            }
        }
        xs.ask(7, Kind::ResetWatches, "\0").unwrap();
        xs.fronts.get_mut(&7).unwrap().events.clear();
    }
    assert_eq!(xs.read(7, "domid"), Ok("7".into()));
}

#[test]
fn every_byte_in_every_place_of_a_short_payload_is_answered() {
    let mut xs = guest();
    let payloads: [(Kind, &[u8]); 5] = [
        (Kind::Write, b"data/a\x001"),
        (Kind::Watch, b"data\0t\x001\0"),
        (Kind::SetPerms, b"data\0n7\0r8\0"),
        (Kind::DirectoryPart, b"data\x0010\0"),
        (Kind::TransactionEnd, b"T\0"),
    ];
    for (kind, payload) in payloads {
        for at in 0..payload.len() {
            for byte in 0..=255 {
                let mut bent = payload.to_vec();
                bent[at] = byte;
                let _ = xs.ask_in(7, 0, kind, &bent);
                // All beginnings, too.
                let _ = xs.ask_in(7, 0, kind, &bent[..at]);
            }
            xs.ask(7, Kind::ResetWatches, "\0").unwrap();
            xs.fronts.get_mut(&7).unwrap().events.clear();
            xs.local()
                .set_perms("/local/domain/7/data", &Perms::new(Perm::none(DomId(7)), &[]))
                .unwrap();
        }
    }
    assert_eq!(xs.read(7, "domid"), Ok("7".into()));
}

#[test]
fn paths_of_every_length_are_answered() {
    let mut xs = guest();
    for len in
        (1..64).chain((2000..2100).step_by(7)).chain([2047, 2048, 2049, 3071, 3072, 3073, 4000])
    {
        for start in ["", "/", "/local/domain/7/data/", "data/"] {
            let path = format!("{start}{}", "x".repeat(len));
            let good = path.len() <= 3072
                && match start {
                    "/" => true,
                    "/local/domain/7/data/" => path.len() - "/local/domain/7/".len() <= 2048,
                    _ => path.len() <= 2048,
                };
            let answer = xs.read(7, &path);
            assert_eq!(answer == err("EINVAL"), !good, "{start:?} and {len}: {answer:?}");
        }
    }
}

#[test]
fn noise_is_survived() {
    let mut xs = guest();
    for seed in 0..300 {
        let mut rng = Rng::new(seed);
        let mut bytes: Vec<u8> = Vec::new();
        for _ in 0..rng.below(12) {
            let len = rng.below(80) as u32;
            let claimed = if rng.below(8) == 0 { rng.below(6000) as u32 } else { len };
            let kind = Kind::from_code(rng.below(26) as u32);
            let tx_id = rng.below(3) as u32;
            let header = Header { kind, req_id: 1, tx_id, len: claimed };
            bytes.extend_from_slice(&header.bytes());
            let letters = b"/data@\0\x007nrb0-_T\xff";
            for _ in 0..len {
                bytes.push(letters[rng.below(letters.len() as u64) as usize]);
            }
        }
        throw(&mut xs, &bytes);
    }
}

#[test]
fn random_words_over_the_whole_page_are_survived() {
    let mut xs = guest();
    let page = xs.fronts[&7].page;
    for seed in 0..2000 {
        let mut rng = Rng::new(seed);
        for _ in 0..rng.below(30) {
            let at = if rng.below(2) == 0 { 2048 + 4 * rng.below(8) } else { 4 * rng.below(512) };
            let value = match rng.below(3) {
                0 => rng.below(2048),
                1 => rng.below(1 << 32),
                _ => rng.below(24),
            };
            page.write(at as usize, 4, value).unwrap();
        }
        let _ = xs.service.serve(DomId(7), 1 + rng.below(20) as u32);
        while xs.service.next_ready().is_some() {}
    }
    xs.service.restart(DomId(7));
    xs.fronts.get_mut(&7).unwrap().stream.clear();
    assert_eq!(xs.read(7, "domid"), Ok("7".into()));
}

#[test]
fn the_deepest_path_is_made_and_removed_without_depth_on_the_stack() {
    let mut xs = guest();
    let small = std::thread::Builder::new().stack_size(256 << 10);
    let run = move || {
        let path = format!("/{}", ["a"; 1536].join("/"));
        xs.local().write(&path, "1").unwrap();
        assert_eq!(xs.local().read(&path), Some("1".into()));
        xs.local().remove("/a").unwrap();
        assert!(!xs.local().exists("/a/a"));
    };
    small.spawn(run).unwrap().join().unwrap();
}

#[test]
fn paths_with_equal_hashes_are_different_nodes() {
    // FNV-1a is easily turned round; a map by hash alone would mix nodes of different domains.
    let mut xs = guest();
    for n in 0..200 {
        xs.write(7, &format!("data/{n}"), &format!("{n}")).unwrap();
    }
    for n in 0..200 {
        assert_eq!(xs.read(7, &format!("data/{n}")), Ok(format!("{n}")));
    }
}
