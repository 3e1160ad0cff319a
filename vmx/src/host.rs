//! The host's state that exits load (SDM 3C "Host-State Area"). HOST_RSP is the world switch's
//! business.

use crate::field as f;
use crate::vmcs::Vmcs;

/// What a VM exit on one CPU brings back.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[allow(missing_docs, reason = "the names are the manual's own")]
pub struct HostState {
    pub cr0: u64,
    pub cr3: u64,
    pub cr4: u64,
    pub es: u16,
    pub cs: u16,
    pub ss: u16,
    pub ds: u16,
    pub fs: u16,
    pub gs: u16,
    pub tr: u16,
    pub fs_base: u64,
    pub gs_base: u64,
    pub tr_base: u64,
    pub gdtr_base: u64,
    pub idtr_base: u64,
    pub sysenter_cs: u32,
    pub sysenter_esp: u64,
    pub sysenter_eip: u64,
    pub pat: u64,
    pub efer: u64,
    /// Where exits go on.
    pub rip: u64,
}

impl HostState {
    /// Writes it into a VMCS that is current.
    pub(crate) fn write(&self, vmcs: &Vmcs) {
        // Exits load selectors with RPL 0 from the GDT only.
        const CLEAN: u16 = !7;
        for (field, selector) in [
            (f::HOST_ES, self.es),
            (f::HOST_CS, self.cs),
            (f::HOST_SS, self.ss),
            (f::HOST_DS, self.ds),
            (f::HOST_FS, self.fs),
            (f::HOST_GS, self.gs),
            (f::HOST_TR, self.tr),
        ] {
            vmcs.set_current(field, selector & CLEAN);
        }
        for (field, value) in [
            (f::HOST_CR0, self.cr0),
            (f::HOST_CR3, self.cr3),
            (f::HOST_CR4, self.cr4),
            (f::HOST_FS_BASE, self.fs_base),
            (f::HOST_GS_BASE, self.gs_base),
            (f::HOST_TR_BASE, self.tr_base),
            (f::HOST_GDTR_BASE, self.gdtr_base),
            (f::HOST_IDTR_BASE, self.idtr_base),
            (f::HOST_SYSENTER_ESP, self.sysenter_esp),
            (f::HOST_SYSENTER_EIP, self.sysenter_eip),
            (f::HOST_PAT, self.pat),
            (f::HOST_EFER, self.efer),
            (f::HOST_RIP, self.rip),
        ] {
            vmcs.set_current(field, value);
        }
        vmcs.set_current(f::HOST_SYSENTER_CS, self.sysenter_cs);
    }
}

/// Base address of the TSS whose 16-byte descriptor is given (SDM 3A "TSS Descriptor in 64-bit
/// mode").
pub(crate) const fn tss_base(low: u64, high: u64) -> u64 {
    low >> 16 & 0xff_ffff | low >> 32 & 0xff00_0000 | high << 32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tss_descriptors_base_lies_in_four_pieces() {
        assert_eq!(tss_base(0x9a00_8bbc_def0_0067, 0xffff_8000), 0xffff_8000_9abc_def0);
    }
}
