//! The nodes of the host and of each domain, beside its devices, as libxl 4.17 writes them. Xen docs
//! "xenstore-paths".

use crate::seam::{DomId, Port};
use crate::store::{Local, Perm, Perms, StoreError};
use alloc::format;
use alloc::string::String;

/// How a domain boots.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DomainKind {
    /// A PC with firmware.
    Hvm,
    /// A kernel entered by its PVH note.
    Pvh,
}

/// What a domain's nodes say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DomainSpec {
    /// Its number; 1 or more.
    pub domid: DomId,
    /// Its name.
    pub name: String,
    /// Its UUID, as text with hyphens.
    pub uuid: String,
    /// How it boots.
    pub kind: DomainKind,
    /// What the balloon is to leave it now, in KiB.
    pub target_kib: u64,
    /// What it may have at most, in KiB.
    pub max_kib: u64,
    /// Memory of its screen, in KiB.
    pub video_kib: u64,
    /// vCPUs that it starts with.
    pub vcpus: u32,
    /// vCPUs that it may have.
    pub max_vcpus: u32,
    /// The frame of the store's ring.
    pub store_frame: u64,
    /// The store's port in the domain.
    pub store_port: Port,
    /// When it started, as UNIX time.
    pub start_time: u64,
}

/// Makes the nodes of the host itself: domain 0's.
///
/// # Errors
/// None on a new store.
pub fn create_base(store: &mut Local<'_>) -> Result<(), StoreError> {
    let nodes = [
        ("/tool/xenstored", "xenolith"),
        ("/vm", ""),
        ("/local/pool/0/name", "Pool-0"),
        ("/local/domain/0/name", "Domain-0"),
        ("/local/domain/0/domid", "0"),
        ("/local/domain/0/backend", ""),
        ("/local/domain/0/device-model/0/state", "running"),
    ];
    nodes.iter().try_for_each(|(path, value)| store.write(path, value))
}

/// Makes a domain's nodes.
///
/// # Errors
/// [`StoreError::Malformed`] if the UUID is no name.
pub fn create_domain(store: &mut Local<'_>, spec: &DomainSpec) -> Result<(), StoreError> {
    let domid = spec.domid;
    let (home, vm) = (format!("/local/domain/{}", domid.0), format!("/vm/{}", spec.uuid));
    let fixed = Perms::new(Perm::none(DomId::BACKEND), &[Perm::read(domid)]);
    let own = Perms::new(Perm::none(domid), &[]);
    store.create(&vm, "", &fixed)?;
    store.write(&format!("{vm}/name"), &spec.name)?;
    store.write(&format!("{vm}/uuid"), &spec.uuid)?;
    store.write(&format!("{vm}/start_time"), format_args!("{}.00", spec.start_time))?;
    // What stands below the home inherits its permissions.
    store.create(&home, "", &fixed)?;
    let mut write = |name: &str, value: &str| store.write(&format!("{home}/{name}"), value);
    write("vm", &vm)?;
    write("name", &spec.name)?;
    write("domid", &format!("{}", domid.0))?;
    write("memory/static-max", &format!("{}", spec.max_kib))?;
    write("memory/target", &format!("{}", spec.target_kib))?;
    write("memory/videoram", &format!("{}", spec.video_kib))?;
    write("store/port", &format!("{}", spec.store_port.0))?;
    write("store/ring-ref", &format!("{}", spec.store_frame))?;
    for vcpu in 0..spec.max_vcpus {
        let online = if vcpu < spec.vcpus { "online" } else { "offline" };
        write(&format!("cpu/{vcpu}/availability"), online)?;
    }
    write("device", "")?;
    write("control/platform-feature-multiprocessor-suspend", "1")?;
    write("control/platform-feature-xs_reset_watches", "1")?;
    if spec.kind == DomainKind::Hvm {
        write("hvmloader/bios", "xenolith")?;
        write("hvmloader/allow-memory-relocate", "0")?;
        write("platform/acpi", "1")?;
        write("platform/acpi_s3", "0")?;
        write("platform/acpi_s4", "0")?;
    }
    for name in GUESTS_OWN {
        store.create(&format!("{home}/{name}"), "", &own)?;
    }
    let model = format!("/local/domain/0/device-model/{}", domid.0);
    store.write(&format!("{model}/state"), "running")
}

/// What a guest may write, beside its devices.
const GUESTS_OWN: [&str; 11] = [
    "attr",
    "control/feature-poweroff",
    "control/feature-reboot",
    "control/feature-suspend",
    "control/shutdown",
    "control/sysrq",
    "data",
    "device/suspend/event-channel",
    "drivers",
    "error",
    "feature",
];

/// Removes what [`create_domain`] made outside of the domain's home; the home goes with
/// [`Store::forget`](crate::store::Store::forget).
///
/// # Errors
/// [`StoreError::Malformed`] if the UUID is no name.
pub fn remove_domain(store: &mut Local<'_>, domid: DomId, uuid: &str) -> Result<(), StoreError> {
    store.remove(&format!("/vm/{uuid}"))?;
    store.remove(&format!("/local/domain/0/device-model/{}", domid.0))?;
    store.remove(&format!("/local/domain/{}", domid.0))
}
