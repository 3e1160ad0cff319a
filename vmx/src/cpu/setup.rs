//! A new vCPU, and the states after reset and INIT.

use super::regs::CR0_MASK;
use super::*;
use crate::controls::{EXCEPTIONS, PLE};
use crate::ept::Ept;
use crate::hw::Cpu;

impl VmxVcpu {
    /// A vCPU in the state after reset. This CPU is in VMX operation, as are all on which it is
    /// used.
    #[must_use]
    pub fn new(frames: Frames, tables: Tables, cpu: &Cpu) -> VmxVcpu {
        VmxVcpu::with_caps(frames, tables, *cpu.caps())
    }

    pub(super) fn with_caps(frames: Frames, tables: Tables, caps: Caps) -> VmxVcpu {
        let controls = Controls::by_need(&caps.allowed).expect("`Caps::read` has asked");
        let parts = tables.parts(&Ept::new(&caps));
        let (apic_phys, apic) = frames.apic.into_inner();
        apic.0.fill(0);
        let mut vcpu = VmxVcpu {
            gprs: Gprs::default(),
            vmcs: Vmcs::new(frames.vmcs, caps.revision),
            attached: false,
            launched: false,
            host_rsp: 0,
            rip: 0,
            rsp: 0,
            reason: NO_REASON,
            given: None,
            pending: Injection::default(),
            due: Due::empty(),
            wanted: Wanted::default(),
            primary: controls.primary,
            cr0_shadow: 0,
            cr4_shadow: 0,
            cr8: 0,
            apic: ApicPage::new(Page::into_words(apic)),
            apic_mode: ApicMode::Off,
            posting: false,
            cr2: 0,
            eoi_exits: [0; 4],
            tables,
            vpid: None,
            ept_pointer: parts.2,
            lazy: Lazy::default(),
            caps,
        };
        vcpu.visit(|vcpu| {
            vcpu.write_controls(&controls, parts);
            vcpu.write_apic(apic_phys);
            vcpu.reset();
        });
        vcpu
    }

    fn write_controls(
        &mut self,
        controls: &Controls,
        parts: (arch::HostPhys, arch::HostPhys, u64),
    ) {
        let vmcs = &self.vmcs;
        let (io, msr, ept_pointer) = parts;
        for (field, value) in [
            (f::PIN_CONTROLS, controls.pin),
            (f::PRIMARY_CONTROLS, controls.primary),
            (f::SECONDARY_CONTROLS, controls.secondary),
            (f::EXIT_CONTROLS, controls.exit),
            (f::ENTRY_CONTROLS, controls.entry),
            (f::EXCEPTION_BITMAP, EXCEPTIONS),
            (f::PAGE_FAULT_MASK, 0),
            (f::PAGE_FAULT_MATCH, 0),
            (f::CR3_TARGET_COUNT, 0),
            (f::EXIT_MSR_STORE_COUNT, 0),
            (f::EXIT_MSR_LOAD_COUNT, 0),
            (f::ENTRY_MSR_LOAD_COUNT, 0),
            (f::ENTRY_INTERRUPTION, 0),
            (f::ACTIVITY, 0),
        ] {
            vmcs.set(field, value);
        }
        for (field, value) in [
            (f::IO_BITMAP_A, io.0),
            (f::IO_BITMAP_B, io.0 + 4096),
            (f::MSR_BITMAP, msr.0),
            (f::EPT_POINTER, ept_pointer),
            (f::CR0_MASK, CR0_MASK),
            (f::CR4_MASK, self.cr4_mask()),
            // No shadow VMCS.
            (f::LINK_POINTER, u64::MAX),
            (f::TSC_OFFSET, 0),
        ] {
            vmcs.set(field, value);
        }
        if self.caps.preemption_timer() {
            vmcs.set(f::PREEMPTION_TIMER, u32::MAX);
        }
        if self.caps.has(Secondary::PAUSE_LOOP) {
            vmcs.set(f::PLE_GAP, PLE.0);
            vmcs.set(f::PLE_WINDOW, PLE.1);
        }
    }

    /// The state after reset (SDM 3A "Processor State After Reset"). RDX is left 0: the machine
    /// puts CPUID's signature there. The TSC offset stays.
    pub fn reset(&mut self) {
        self.visit(|vcpu| {
            vcpu.set_reg(SysReg::Cr0, cr0::CD | cr0::NW);
            vcpu.set_reg(SysReg::Pat, 0x0007_0406_0007_0406);
            for (reg, value) in RESET_MSRS {
                vcpu.set_reg(reg, value);
            }
            if !vcpu.attached {
                vcpu.lazy.tsc_aux = 0;
            }
            vcpu.init();
        });
    }

    /// The state after INIT: as after reset, but caching, PAT, and the syscall MSRs stay. A
    /// start-up message then sets CS and RIP.
    pub fn init(&mut self) {
        self.visit(VmxVcpu::init_current);
    }

    fn init_current(&mut self) {
        self.gprs = Gprs::default();
        self.pending = Injection::default();
        self.lazy.dr = [0; 4];
        let caching = self.reg(SysReg::Cr0) & (cr0::CD | cr0::NW);
        for (reg, value) in [
            (SysReg::Cr0, caching | cr0::ET),
            (SysReg::Cr2, 0),
            (SysReg::Cr3, 0),
            (SysReg::Cr4, 0),
            (SysReg::Efer, 0),
            (SysReg::Dr6, 0xffff_0ff0),
            (SysReg::Dr7, 0x400),
            (SysReg::Cr8, 0),
        ] {
            self.set_reg(reg, value);
        }
        self.set_pdptes([0; 4]);
        let code = Segment { selector: 0xf000, base: 0xffff_0000, limit: 0xffff, access: 0x9b };
        self.set_segment(SegReg::Cs, code);
        for reg in [SegReg::Es, SegReg::Ss, SegReg::Ds, SegReg::Fs, SegReg::Gs] {
            self.set_segment(reg, Segment::real_data(0));
        }
        let table = Segment { selector: 0, base: 0, limit: 0xffff, access: 0 };
        self.set_segment(SegReg::Gdtr, table);
        self.set_segment(SegReg::Idtr, table);
        self.set_segment(SegReg::Ldtr, Segment { access: 0x82, ..table });
        self.set_segment(SegReg::Tr, Segment { access: 0x8b, ..table });
        self.vmcs.set(f::INTERRUPTIBILITY, 0);
        self.vmcs.set(f::PENDING_DEBUG, 0);
        self.set_rflags(2);
        self.set_rip(0xfff0);
        self.rsp = 0;
        self.vmcs.set(f::RSP, 0);
        self.want(Wanted::default());
        self.due = Due::all();
    }
}

/// MSRs that reset clears and INIT does not.
const RESET_MSRS: [(SysReg, u64); 9] = [
    (SysReg::Star, 0),
    (SysReg::Lstar, 0),
    (SysReg::Cstar, 0),
    (SysReg::Sfmask, 0),
    (SysReg::KernelGsBase, 0),
    (SysReg::SysenterCs, 0),
    (SysReg::SysenterEsp, 0),
    (SysReg::SysenterEip, 0),
    (SysReg::DebugCtl, 0),
];
