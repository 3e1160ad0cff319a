//! What Linux sends from its start until a disk is in use, message by message (`xenbus_xs.c`,
//! `xenbus_probe_frontend.c`, `xen-blkfront.c`, `manage.c`, `xen-balloon.c`).

use super::*;
use crate::bus::{DomainKind, DomainSpec, VbdSpec, create_base, create_domain};
use crate::seam::Port;

fn booted() -> Xs {
    let mut xs = Xs::with(&[]);
    create_base(&mut xs.local()).unwrap();
    let page = page();
    xs.service.introduce(DomId(13), page).unwrap();
    xs.fronts.insert(13, Front::new(page));
    let spec = DomainSpec {
        domid: DomId(13),
        name: "idle".into(),
        uuid: "29a2ee29-6525-4bb6-b55d-f294a6199c85".into(),
        kind: DomainKind::Pvh,
        target_kib: 262_144,
        max_kib: 262_144,
        video_kib: 0,
        vcpus: 1,
        max_vcpus: 1,
        store_frame: 1_044_476,
        store_port: Port(1),
        start_time: 1_795_337_192,
    };
    create_domain(&mut xs.local(), &spec).unwrap();
    let disk = VbdSpec {
        devid: 51728,
        dev: "xvdb".into(),
        params: "disk.img".into(),
        cdrom: false,
        writable: true,
        removable: false,
        discard: true,
    };
    let root = xs.root;
    disk.device(DomId(13)).create(&mut xs.service.store, root).unwrap();
    xs
}

#[test]
fn a_linux_kernel_starts_xenbus_and_resets_its_watches() {
    let mut xs = booted();
    assert_eq!(xs.read(13, "control/platform-feature-xs_reset_watches"), Ok("1".into()));
    assert_eq!(xs.ask(13, Kind::ResetWatches, "\0"), Ok(b"OK\0".to_vec()));
    assert_eq!(xs.watch(13, "device", "FFFFFFFF82A4B2A0"), Ok(b"OK\0".to_vec()));
    assert_eq!(xs.events(13), pairs(&[("device", "FFFFFFFF82A4B2A0")]));
}

#[test]
fn a_linux_kernel_finds_its_devices_by_listing() {
    let mut xs = booted();
    assert_eq!(xs.ask(13, Kind::Directory, "device\0"), Ok(b"suspend\0vbd\0".to_vec()));
    assert_eq!(xs.ask(13, Kind::Directory, "device/vbd\0"), Ok(b"51728\0".to_vec()));
    assert_eq!(xs.read(13, "device/vbd/51728/state"), Ok("1".into()));
    let backend = xs.read(13, "device/vbd/51728/backend").unwrap();
    assert_eq!(backend, "/local/domain/0/backend/vbd/13/51728");
    assert_eq!(xs.read(13, "device/vbd/51728/backend-id"), Ok("0".into()));
    assert_eq!(xs.read(13, "device/vbd/51728/virtual-device"), Ok("51728".into()));
    assert_eq!(xs.watch(13, &format!("{backend}/state"), "FFFF888003A0B000"), Ok(b"OK\0".into()));
    let state = format!("{backend}/state");
    assert_eq!(xs.events(13), pairs(&[(&state, "FFFF888003A0B000")]));
    assert_eq!(xs.read(13, &state), Ok("1".into()));
    xs.local().write(&state, 2).unwrap();
    assert_eq!(xs.events(13), pairs(&[(&state, "FFFF888003A0B000")]));
    assert_eq!(xs.read(13, &state), Ok("2".into()));
}

#[test]
fn a_block_front_end_gives_its_ring_in_a_transaction() {
    let mut xs = booted();
    xs.local().watch("/local/domain/13/device/vbd/51728/state", b"back", None).unwrap();
    assert!(xs.local().take_event().is_some());
    let backend = "/local/domain/0/backend/vbd/13/51728";
    assert_eq!(xs.read(13, &format!("{backend}/max-ring-page-order")), err("ENOENT"));
    let tx = xs.begin(13);
    for (name, value) in
        [("ring-ref", "8"), ("event-channel", "8"), ("protocol", "x86_64-abi"), ("state", "3")]
    {
        let payload = format!("device/vbd/51728/{name}\0{value}");
        assert_eq!(xs.ask_in(13, tx, Kind::Write, payload.as_bytes()), Ok(b"OK\0".to_vec()));
    }
    assert!(xs.local().take_event().is_none(), "nothing is seen before the end");
    assert_eq!(xs.local().read("/local/domain/13/device/vbd/51728/ring-ref"), None);
    assert_eq!(xs.end(13, tx, "T"), Ok(b"OK\0".to_vec()));
    let event = xs.local().take_event().unwrap();
    assert_eq!(event.path(), "/local/domain/13/device/vbd/51728/state");
    assert_eq!(xs.local().read_as("/local/domain/13/device/vbd/51728/ring-ref"), Some(8));
    let path = "device/vbd/51728/ring-ref\0";
    assert_eq!(xs.ask(13, Kind::GetPerms, path), Ok(b"n13\0r0\0".to_vec()));
}

#[test]
fn shutdown_and_balloon_hear_of_what_the_tools_write() {
    let mut xs = booted();
    for (path, token) in [("control/shutdown", "A"), ("control/sysrq", "B"), ("memory/target", "C")]
    {
        xs.watch(13, path, token).unwrap();
    }
    assert_eq!(xs.events(13).len(), 3);
    assert_eq!(xs.write(13, "control/feature-poweroff", "1"), Ok(b"OK\0".to_vec()));
    xs.local().write("/local/domain/13/control/shutdown", "poweroff").unwrap();
    xs.local().write("/local/domain/13/memory/target", 131_072).unwrap();
    assert_eq!(xs.events(13), pairs(&[("control/shutdown", "A"), ("memory/target", "C")]));
    // shutdown_handler reads and acknowledges in a transaction.
    let tx = xs.begin(13);
    assert_eq!(xs.ask_in(13, tx, Kind::Read, b"control/shutdown\0"), Ok(b"poweroff".to_vec()));
    assert_eq!(xs.ask_in(13, tx, Kind::Write, b"control/shutdown\0"), Ok(b"OK\0".to_vec()));
    assert_eq!(xs.end(13, tx, "F"), Ok(b"OK\0".to_vec()));
    assert_eq!(xs.read(13, "control/shutdown"), Ok("poweroff".into()));
    assert_eq!(xs.write(13, "memory/target", "1"), Err("EACCES".into()));
}

#[test]
fn a_kernel_that_comes_after_another_finds_no_watches_of_it() {
    let mut xs = booted();
    xs.watch(13, "device", "OLD").unwrap();
    let open = xs.begin(13);
    xs.events(13);
    assert_eq!(xs.ask(13, Kind::ResetWatches, "\0"), Ok(b"OK\0".to_vec()));
    xs.local().write("/local/domain/13/device/vbd/51729/state", 1).unwrap();
    assert_eq!(xs.events(13), []);
    assert_eq!(xs.end(13, open, "T"), Err("ENOENT".into()));
    assert_eq!(xs.service.store.usage(DomId(13)).watches, 0);
    assert_eq!(xs.service.store.usage(DomId(13)).transactions, 0);
}

#[test]
fn requests_of_a_ring_that_wraps_and_of_many_at_once_are_answered_in_order() {
    let mut xs = booted();
    let mut bytes = Vec::new();
    for req_id in 0..200u32 {
        let payload = b"domid\0";
        let header = Header { kind: Kind::Read, req_id, tx_id: 0, len: payload.len() as u32 };
        bytes.extend_from_slice(&header.bytes());
        bytes.extend_from_slice(payload);
    }
    xs.send(13, &bytes);
    for req_id in 0..200 {
        let (header, body) = xs.fronts.get_mut(&13).unwrap().message().unwrap();
        assert_eq!((header.kind, header.req_id, body), (Kind::Read, req_id, b"13".to_vec()));
    }
}
