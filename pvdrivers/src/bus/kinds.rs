//! The nodes of each kind of device, as libxl 4.17 writes them before either end is there. What a back
//! end offers (`feature-…`, `sectors`) is its own to write.

use super::device::{DeviceId, DeviceKind, DeviceSpec};
use crate::seam::{DomId, Port};
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

/// A disk. Xen public "io/blkif.h".
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VbdSpec {
    /// Its number: 51712 for xvda, 768 for hda (Xen docs "vbd-interface.txt").
    pub devid: u32,
    /// Its name: `xvda`.
    pub dev: String,
    /// What it is on, for people.
    pub params: String,
    /// Whether it is a CD-ROM.
    pub cdrom: bool,
    /// Whether it may be written.
    pub writable: bool,
    /// Whether the medium may be changed.
    pub removable: bool,
    /// Whether the front end may discard.
    pub discard: bool,
}

impl VbdSpec {
    /// Its nodes.
    #[must_use]
    pub fn device(&self, domid: DomId) -> DeviceSpec {
        let device_type = if self.cdrom { "cdrom" } else { "disk" };
        let flag = |flag: bool| u8::from(flag).to_string();
        DeviceSpec {
            id: DeviceId { kind: DeviceKind::Vbd, domid, devid: self.devid },
            back_domid: DomId::BACKEND,
            front: Vec::from([
                ("virtual-device", self.devid.to_string()),
                ("device-type", device_type.into()),
                ("trusted", "1".into()),
            ]),
            front_fixed: Vec::new(),
            back: Vec::from([
                ("bootable", "1".into()),
                ("dev", self.dev.clone()),
                ("device-type", device_type.into()),
                ("discard-enable", flag(self.discard)),
                ("mode", if self.writable { "w" } else { "r" }.into()),
                ("params", self.params.clone()),
                ("removable", flag(self.removable || self.cdrom)),
                ("specification", "xen".into()),
                ("type", "phy".into()),
            ]),
        }
    }
}

/// A network interface. Xen public "io/netif.h".
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VifSpec {
    /// Its number: 0 for eth0.
    pub devid: u32,
    /// Its address.
    pub mac: [u8; 6],
    /// The bridge that it is on, for people.
    pub bridge: String,
    /// Bytes of a packet at most, without the Ethernet header.
    pub mtu: u16,
}

impl VifSpec {
    /// Its nodes.
    #[must_use]
    pub fn device(&self, domid: DomId) -> DeviceSpec {
        let [a, b, c, d, e, f] = self.mac;
        let mac = format!("{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{f:02x}");
        let handle = self.devid.to_string();
        DeviceSpec {
            id: DeviceId { kind: DeviceKind::Vif, domid, devid: self.devid },
            back_domid: DomId::BACKEND,
            front: Vec::from([
                ("handle", handle.clone()),
                ("mac", mac.clone()),
                ("trusted", "1".into()),
            ]),
            front_fixed: Vec::from([("mtu", self.mtu.to_string())]),
            back: Vec::from([
                ("bridge", self.bridge.clone()),
                ("handle", handle),
                ("hotplug-status", String::new()),
                ("mac", mac),
                ("type", "vif".into()),
            ]),
        }
    }
}

/// A frame buffer. Xen public "io/fbif.h".
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct VfbSpec;

impl VfbSpec {
    /// Its nodes.
    #[must_use]
    pub fn device(&self, domid: DomId) -> DeviceSpec {
        simple(DeviceKind::Vfb, domid)
    }

    /// Those of the keyboard and pointer that belong to it. Xen public "io/kbdif.h".
    #[must_use]
    pub fn keyboard(&self, domid: DomId) -> DeviceSpec {
        simple(DeviceKind::Vkbd, domid)
    }
}

fn simple(kind: DeviceKind, domid: DomId) -> DeviceSpec {
    DeviceSpec {
        id: DeviceId { kind, domid, devid: 0 },
        back_domid: DomId::BACKEND,
        front: Vec::new(),
        front_fixed: Vec::new(),
        back: Vec::new(),
    }
}

/// A console. Xen docs "console.txt", public "io/console.h".
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConsoleSpec {
    /// Its number: 0 is hvc0, the primary one, whose ring and port the guest learns by parameters.
    pub devid: u32,
    /// The primary one's frame and port.
    pub ring: Option<(u64, Port)>,
    /// Where it ends, for people.
    pub tty: String,
}

impl ConsoleSpec {
    /// Its nodes.
    #[must_use]
    pub fn device(&self, domid: DomId) -> DeviceSpec {
        let mut front: Vec<(&'static str, String)> = Vec::from([
            ("limit", "1048576".into()),
            ("output", "pty".into()),
            ("tty", self.tty.clone()),
            ("type", "xenconsoled".into()),
        ]);
        if self.devid != 0 {
            front.push(("protocol", "vt100".into()));
        }
        if let Some((frame, port)) = self.ring {
            front.push(("port", port.0.to_string()));
            front.push(("ring-ref", frame.to_string()));
        }
        DeviceSpec {
            id: DeviceId { kind: DeviceKind::Console, domid, devid: self.devid },
            back_domid: DomId::BACKEND,
            front,
            front_fixed: Vec::new(),
            back: Vec::from([("protocol", "vt100".into())]),
        }
    }
}
