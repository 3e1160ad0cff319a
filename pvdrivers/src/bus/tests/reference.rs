//! The nodes that a PVH guest with a disk, a network interface, a screen and a console finds on Xen 4.17
//! with their permissions: recorded there before either end has written anything.

use super::*;
use crate::store::{Perms, TxId};

/// Path, value, permissions.
const GUEST: &[(&str, &str, &str)] = &[
    ("/local/domain/13", "", "n0,r13"),
    ("/local/domain/13/attr", "", "n13"),
    ("/local/domain/13/console", "", "n0,r13"),
    ("/local/domain/13/console/backend", "/local/domain/0/backend/console/13/0", "n0,r13"),
    ("/local/domain/13/console/backend-id", "0", "n13,r0"),
    ("/local/domain/13/console/limit", "1048576", "n0,r13"),
    ("/local/domain/13/console/output", "pty", "n0,r13"),
    ("/local/domain/13/console/port", "2", "n0,r13"),
    ("/local/domain/13/console/ring-ref", "1044479", "n0,r13"),
    ("/local/domain/13/console/tty", "/dev/pts/0", "n0,r13"),
    ("/local/domain/13/console/type", "xenconsoled", "n0,r13"),
    ("/local/domain/13/control", "", "n0,r13"),
    ("/local/domain/13/control/feature-poweroff", "", "n13"),
    ("/local/domain/13/control/feature-reboot", "", "n13"),
    ("/local/domain/13/control/feature-suspend", "", "n13"),
    ("/local/domain/13/control/platform-feature-multiprocessor-suspend", "1", "n0,r13"),
    ("/local/domain/13/control/platform-feature-xs_reset_watches", "1", "n0,r13"),
    ("/local/domain/13/control/shutdown", "", "n13"),
    ("/local/domain/13/control/sysrq", "", "n13"),
    ("/local/domain/13/cpu", "", "n0,r13"),
    ("/local/domain/13/cpu/0", "", "n0,r13"),
    ("/local/domain/13/cpu/0/availability", "online", "n0,r13"),
    ("/local/domain/13/data", "", "n13"),
    ("/local/domain/13/device", "", "n0,r13"),
    ("/local/domain/13/device/suspend", "", "n0,r13"),
    ("/local/domain/13/device/suspend/event-channel", "", "n13"),
    ("/local/domain/13/device/vbd", "", "n0,r13"),
    ("/local/domain/13/device/vbd/51728", "", "n13,r0"),
    ("/local/domain/13/device/vbd/51728/backend", "/local/domain/0/backend/vbd/13/51728", "n13,r0"),
    ("/local/domain/13/device/vbd/51728/backend-id", "0", "n13,r0"),
    ("/local/domain/13/device/vbd/51728/device-type", "disk", "n13,r0"),
    ("/local/domain/13/device/vbd/51728/state", "1", "n13,r0"),
    ("/local/domain/13/device/vbd/51728/trusted", "1", "n13,r0"),
    ("/local/domain/13/device/vbd/51728/virtual-device", "51728", "n13,r0"),
    ("/local/domain/13/device/vfb", "", "n0,r13"),
    ("/local/domain/13/device/vfb/0", "", "n13,r0"),
    ("/local/domain/13/device/vfb/0/backend", "/local/domain/0/backend/vfb/13/0", "n13,r0"),
    ("/local/domain/13/device/vfb/0/backend-id", "0", "n13,r0"),
    ("/local/domain/13/device/vfb/0/state", "1", "n13,r0"),
    ("/local/domain/13/device/vif", "", "n0,r13"),
    ("/local/domain/13/device/vif/0", "", "n13,r0"),
    ("/local/domain/13/device/vif/0/backend", "/local/domain/0/backend/vif/13/0", "n13,r0"),
    ("/local/domain/13/device/vif/0/backend-id", "0", "n13,r0"),
    ("/local/domain/13/device/vif/0/handle", "0", "n13,r0"),
    ("/local/domain/13/device/vif/0/mac", "00:16:3e:00:00:03", "n13,r0"),
    ("/local/domain/13/device/vif/0/mtu", "1500", "n0,r13"),
    ("/local/domain/13/device/vif/0/state", "1", "n13,r0"),
    ("/local/domain/13/device/vif/0/trusted", "1", "n13,r0"),
    ("/local/domain/13/device/vkbd", "", "n0,r13"),
    ("/local/domain/13/device/vkbd/0", "", "n13,r0"),
    ("/local/domain/13/device/vkbd/0/backend", "/local/domain/0/backend/vkbd/13/0", "n13,r0"),
    ("/local/domain/13/device/vkbd/0/backend-id", "0", "n13,r0"),
    ("/local/domain/13/device/vkbd/0/state", "1", "n13,r0"),
    ("/local/domain/13/domid", "13", "n0,r13"),
    ("/local/domain/13/drivers", "", "n13"),
    ("/local/domain/13/error", "", "n13"),
    ("/local/domain/13/feature", "", "n13"),
    ("/local/domain/13/memory", "", "n0,r13"),
    ("/local/domain/13/memory/static-max", "262144", "n0,r13"),
    ("/local/domain/13/memory/target", "262144", "n0,r13"),
    ("/local/domain/13/memory/videoram", "0", "n0,r13"),
    ("/local/domain/13/name", "idle", "n0,r13"),
    ("/local/domain/13/store", "", "n0,r13"),
    ("/local/domain/13/store/port", "1", "n0,r13"),
    ("/local/domain/13/store/ring-ref", "1044476", "n0,r13"),
    ("/local/domain/13/vm", "/vm/29a2ee29-6525-4bb6-b55d-f294a6199c85", "n0,r13"),
];

const BACKEND: &[(&str, &str, &str)] = &[
    ("/local/domain/0/backend", "", "n0"),
    ("/local/domain/0/backend/console", "", "n0"),
    ("/local/domain/0/backend/console/13", "", "n0"),
    ("/local/domain/0/backend/console/13/0", "", "n0,r13"),
    ("/local/domain/0/backend/console/13/0/frontend", "/local/domain/13/console", "n0,r13"),
    ("/local/domain/0/backend/console/13/0/frontend-id", "13", "n0,r13"),
    ("/local/domain/0/backend/console/13/0/online", "1", "n0,r13"),
    ("/local/domain/0/backend/console/13/0/protocol", "vt100", "n0,r13"),
    ("/local/domain/0/backend/console/13/0/state", "1", "n0,r13"),
    ("/local/domain/0/backend/vbd/13/51728/bootable", "1", "n0,r13"),
    ("/local/domain/0/backend/vbd/13/51728/dev", "xvdb", "n0,r13"),
    ("/local/domain/0/backend/vbd/13/51728/device-type", "disk", "n0,r13"),
    ("/local/domain/0/backend/vbd/13/51728/discard-enable", "1", "n0,r13"),
    (
        "/local/domain/0/backend/vbd/13/51728/frontend",
        "/local/domain/13/device/vbd/51728",
        "n0,r13",
    ),
    ("/local/domain/0/backend/vbd/13/51728/frontend-id", "13", "n0,r13"),
    ("/local/domain/0/backend/vbd/13/51728/mode", "w", "n0,r13"),
    ("/local/domain/0/backend/vbd/13/51728/online", "1", "n0,r13"),
    ("/local/domain/0/backend/vbd/13/51728/params", "/dev/loop0", "n0,r13"),
    ("/local/domain/0/backend/vbd/13/51728/removable", "0", "n0,r13"),
    ("/local/domain/0/backend/vbd/13/51728/state", "1", "n0,r13"),
    ("/local/domain/0/backend/vbd/13/51728/type", "phy", "n0,r13"),
    ("/local/domain/0/backend/vif/13/0/handle", "0", "n0,r13"),
    ("/local/domain/0/backend/vif/13/0/mac", "00:16:3e:00:00:03", "n0,r13"),
    ("/local/domain/0/backend/vif/13/0/type", "vif", "n0,r13"),
    ("/local/domain/0/domid", "0", "n0"),
    ("/local/domain/0/name", "Domain-0", "n0"),
    ("/vm", "", "n0"),
    ("/vm/29a2ee29-6525-4bb6-b55d-f294a6199c85", "", "n0,r13"),
    ("/vm/29a2ee29-6525-4bb6-b55d-f294a6199c85/name", "idle", "n0,r13"),
];

fn full(kind: DomainKind) -> (Store, ClientId) {
    let mut store = Store::new(Quota::GUEST);
    let root = store.connect(DomId(0));
    create_base(&mut store.local(root)).unwrap();
    create_domain(&mut store.local(root), &domain(kind)).unwrap();
    let net =
        VifSpec { devid: 0, mac: [0, 0x16, 0x3e, 0, 0, 3], bridge: "xenbr0".into(), mtu: 1500 };
    let console =
        ConsoleSpec { devid: 0, ring: Some((1_044_479, Port(2))), tty: "/dev/pts/0".into() };
    for device in [
        disk(),
        net.device(DomId(13)),
        VfbSpec.device(DomId(13)),
        VfbSpec.keyboard(DomId(13)),
        console.device(DomId(13)),
    ] {
        device.create(&mut store, root).unwrap();
    }
    (store, root)
}

fn perms(perms: &Perms) -> String {
    let letter = |access: crate::store::Access| match access.bits() {
        0 => 'n',
        1 => 'r',
        2 => 'w',
        _ => 'b',
    };
    let entries: Vec<String> = perms
        .entries()
        .iter()
        .map(|perm| format!("{}{}", letter(perm.access), perm.domid.0))
        .collect();
    entries.join(",")
}

/// All nodes below one, as the reference has them.
fn dump(store: &mut Store, root: ClientId, top: &str) -> Vec<(String, String, String)> {
    let mut found = Vec::new();
    let mut next = Vec::from([top.to_string()]);
    while let Some(path) = next.pop() {
        let mut local = store.local(root);
        let value = local.read(&path).unwrap();
        let allowed = perms(&local.perms(&path).unwrap());
        next.extend(local.list(&path).iter().map(|name| format!("{path}/{name}")));
        found.push((path, value, allowed));
    }
    found.sort();
    found
}

fn expected(list: &[(&str, &str, &str)]) -> Vec<(String, String, String)> {
    let own = |(path, value, perms): &(&str, &str, &str)| {
        (path.to_string(), value.to_string(), perms.to_string())
    };
    list.iter().map(own).collect()
}

#[test]
fn a_pvh_guest_finds_exactly_the_nodes_that_xen_gives_it() {
    let (mut store, root) = full(DomainKind::Pvh);
    assert_eq!(dump(&mut store, root, "/local/domain/13"), expected(GUEST));
}

#[test]
fn back_ends_have_the_nodes_that_xen_gives_them() {
    let (mut store, root) = full(DomainKind::Pvh);
    for (path, value, allowed) in BACKEND {
        let mut local = store.local(root);
        assert_eq!(local.read(path).as_deref(), Some(*value), "{path}");
        assert_eq!(perms(&local.perms(path).unwrap()), *allowed, "{path}");
    }
}

#[test]
fn an_hvm_guest_also_finds_what_its_firmware_reads() {
    let (mut store, root) = full(DomainKind::Hvm);
    let mut local = store.local(root);
    assert_eq!(local.read("/local/domain/13/platform/acpi").as_deref(), Some("1"));
    assert!(local.exists("/local/domain/13/hvmloader/bios"));
}

#[test]
fn a_domain_that_is_removed_leaves_no_nodes() {
    let mut store = Store::new(Quota::GUEST);
    let root = store.connect(DomId(0));
    create_base(&mut store.local(root)).unwrap();
    let before = store.stats();
    for kind in [DomainKind::Hvm, DomainKind::Pvh] {
        let spec = domain(kind);
        create_domain(&mut store.local(root), &spec).unwrap();
        remove_domain(&mut store.local(root), spec.domid, &spec.uuid).unwrap();
        store.forget(spec.domid);
        assert_eq!(store.stats(), before);
    }
}

#[test]
fn a_guest_reads_its_back_ends_and_writes_only_its_own_end() {
    let (mut store, _) = full(DomainKind::Pvh);
    let guest = store.connect(DomId(13));
    let other = store.connect(DomId(14));
    let parse = |path: &str| crate::store::Path::parse(path.as_bytes(), DomId(13)).unwrap();
    let back = parse(&format!("{BACK}/state"));
    assert_eq!(&*store.read(guest, TxId::NONE, &back).unwrap(), b"1");
    assert!(store.write(guest, TxId::NONE, &back, b"4").is_err());
    assert!(store.read(other, TxId::NONE, &back).is_err());
    let front = parse(&format!("{BLOCK}/state"));
    assert!(store.write(guest, TxId::NONE, &front, b"3").is_ok());
    assert!(store.write(other, TxId::NONE, &front, b"3").is_err());
    let mtu = parse("device/vif/0/mtu");
    assert!(store.write(guest, TxId::NONE, &mtu, b"9000").is_err());
}

#[test]
fn a_driver_domain_owns_its_ends_of_the_devices_that_it_serves() {
    let mut store = Store::new(Quota::GUEST);
    let root = store.connect(DomId(0));
    create_base(&mut store.local(root)).unwrap();
    create_domain(&mut store.local(root), &domain(DomainKind::Pvh)).unwrap();
    let mut device = disk();
    device.back_domid = DomId(5);
    device.create(&mut store, root).unwrap();
    let mut local = store.local(root);
    let back = "/local/domain/5/backend/vbd/13/51728";
    assert_eq!(local.read(&format!("{BLOCK}/backend")).as_deref(), Some(back));
    assert_eq!(local.read(&format!("{BLOCK}/backend-id")).as_deref(), Some("5"));
    assert_eq!(perms(&local.perms(back).unwrap()), "n5,r13");
    assert_eq!(perms(&local.perms(BLOCK).unwrap()), "n13,r5");
    assert_eq!(perms(&local.perms("/local/domain/5/backend").unwrap()), "n5");
}
