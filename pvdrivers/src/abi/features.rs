//! Feature bits of `XENVER_get_features` and of a kernel's ELF notes. Xen public "features.h".

bitflags::bitflags! {
    /// `XENFEAT_*`, submap 0.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct Features: u32 {
        /// Page tables need no write protection.
        const WRITABLE_PAGE_TABLES = 1 << 0;
        /// Descriptor tables need no write protection.
        const WRITABLE_DESCRIPTOR_TABLES = 1 << 1;
        /// The hypervisor translates guest frames.
        const AUTO_TRANSLATED_PHYSMAP = 1 << 2;
        /// The kernel runs in ring 0.
        const SUPERVISOR_MODE_KERNEL = 1 << 3;
        /// Page directories may be above 4 GiB.
        const PAE_PGDIR_ABOVE_4GB = 1 << 4;
        /// PV guests only.
        const MMU_PT_UPDATE_PRESERVE_AD = 1 << 5;
        /// PV guests only.
        const HIGHMEM_ASSIST = 1 << 6;
        /// Mapping a grant sets the guest's own page-table bits.
        const GNTTAB_MAP_AVAIL_BITS = 1 << 7;
        /// Events can be announced by a vector.
        const HVM_CALLBACK_VECTOR = 1 << 8;
        /// The PV clock can be used by HVM guests.
        const HVM_SAFE_PVCLOCK = 1 << 9;
        /// Device interrupts can come as events.
        const HVM_PIRQS = 1 << 10;
        /// The kernel can be domain 0.
        const DOM0 = 1 << 11;
        /// NUMA nodes of the guest's own.
        const MEMORY_OP_VNODE_SUPPORTED = 1 << 13;
        /// PVH: the RSDP may be anywhere.
        const LINUX_RSDP_UNRESTRICTED = 1 << 15;
        /// Guest frames are not machine frames.
        const NOT_DIRECT_MAPPED = 1 << 16;
        /// Guest frames are machine frames.
        const DIRECT_MAPPED = 1 << 17;
        /// `VCPUOP_register_runstate_phys_area`; newer than Xen 4.17.
        const RUNSTATE_PHYS_AREA = 1 << 18;
        /// `VCPUOP_register_vcpu_time_phys_area`; newer than Xen 4.17.
        const VCPU_TIME_PHYS_AREA = 1 << 19;
    }
}
