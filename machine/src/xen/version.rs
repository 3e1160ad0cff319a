//! `HYPERVISOR_xen_version`: who Xen is. Xen public "version.h", "features.h".

use super::hypercall::{Call, Outcome};
use crate::Machine;
use arch::Vcpu;
use pvdrivers::Errno;
use pvdrivers::abi::features::Features;
use pvdrivers::abi::version::{
    CAPABILITIES_LEN, CHANGESET_LEN, CompileInfo, EXTRAVERSION_LEN, FeatureInfo,
    PlatformParameters, VERSION, VersionOp,
};

/// What guests may count on: page tables are their own, frames are their own numbers, events come by a
/// vector, and time needs no exit. Device interrupts do not come as events.
pub const FEATURES: Features = Features::WRITABLE_PAGE_TABLES
    .union(Features::AUTO_TRANSLATED_PHYSMAP)
    .union(Features::HVM_CALLBACK_VECTOR)
    .union(Features::HVM_SAFE_PVCLOCK)
    .union(Features::MEMORY_OP_VNODE_SUPPORTED)
    .union(Features::NOT_DIRECT_MAPPED);

/// `XENVER_extraversion`.
const EXTRA: &str = ".0-xenolith";
/// `XENVER_capabilities`: what guests this hypervisor runs.
const CAPABILITIES: &str = "hvm-3.0-x86_32 hvm-3.0-x86_32p hvm-3.0-x86_64 ";

/// Text in a field of `N` bytes, zeros behind it.
fn field<const N: usize>(text: &str) -> [u8; N] {
    let mut bytes = [0; N];
    for (to, from) in bytes.iter_mut().take(N - 1).zip(text.bytes()) {
        *to = from;
    }
    bytes
}

impl Machine {
    /// `xen_version(cmd, arg)`. Linux asks for the version where it wants to make some exit.
    #[inline]
    pub(crate) fn xen_version<V: Vcpu>(&self, vcpu: &mut V, call: &Call<'_>) -> Outcome {
        match VersionOp(call.args[0] as u32) {
            VersionOp::VERSION => Outcome::Done(VERSION.into()),
            _ => self.tell_version(vcpu, call).into(),
        }
    }

    #[cold]
    #[inline(never)]
    fn tell_version<V: Vcpu>(&self, vcpu: &mut V, call: &Call<'_>) -> Result<u64, Errno> {
        let Call { xen, width, .. } = *call;
        let at = call.pointer(1);
        let text = |vcpu: &V, bytes: &[u8]| self.copy_to_guest(vcpu, at, bytes).map(|()| 0);
        match VersionOp(call.args[0] as u32) {
            VersionOp::EXTRAVERSION => text(vcpu, &field::<EXTRAVERSION_LEN>(EXTRA)),
            VersionOp::COMPILE_INFO => {
                let info = CompileInfo { compiler: "rustc", by: "xenolith", domain: "", date: "" };
                text(vcpu, &info.bytes())
            }
            VersionOp::CAPABILITIES => text(vcpu, &field::<CAPABILITIES_LEN>(CAPABILITIES)),
            VersionOp::CHANGESET => text(vcpu, &field::<CHANGESET_LEN>(env!("CARGO_PKG_VERSION"))),
            // Where PV guests find the hypervisor: nowhere here.
            VersionOp::PLATFORM_PARAMETERS => {
                self.give(vcpu, at, width, &PlatformParameters::default())?;
                Ok(0)
            }
            VersionOp::GET_FEATURES => {
                let info: FeatureInfo = self.claim(vcpu, at, width)?;
                if info.submap_idx != 0 {
                    return Err(Errno::EINVAL);
                }
                self.give(vcpu, at, width, &FeatureInfo { submap: FEATURES.bits(), ..info })?;
                Ok(0)
            }
            VersionOp::PAGESIZE if at.0 != 0 => Err(Errno::EINVAL),
            VersionOp::PAGESIZE => Ok(4096),
            VersionOp::GUEST_HANDLE => text(vcpu, &xen.uuid),
            // For the control domain; Xen tells others the same.
            VersionOp::COMMANDLINE => text(vcpu, b"<denied>\0"),
            VersionOp::BUILD_ID => Err(Errno::EPERM),
            _ => Err(Errno::ENOSYS),
        }
    }
}
