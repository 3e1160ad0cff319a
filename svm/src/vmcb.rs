//! The VMCB (APM2 appendix "Layout of VMCB"). Fields are private; setters drop the clean bits that
//! vouch for them (APM2 "VMCB State Caching").

use crate::intercept::{CR8_WRITE, EXCEPTIONS, Misc1, Misc2};
use arch::{HostPhys, SegReg, Segment};
use core::mem::offset_of;

/// Clean bits, VMCB offset 0C0h: the CPU may use what it has cached.
mod clean {
    pub const I: u32 = 1;
    pub const IOPM: u32 = 1 << 1;
    pub const ASID: u32 = 1 << 2;
    pub const TPR: u32 = 1 << 3;
    pub const NP: u32 = 1 << 4;
    pub const CRX: u32 = 1 << 5;
    pub const DRX: u32 = 1 << 6;
    pub const DT: u32 = 1 << 7;
    pub const SEG: u32 = 1 << 8;
    pub const CR2: u32 = 1 << 9;
    pub const ALL: u32 = 0x3ff;
}

/// All clean bits that are used here, for CPUs that have them.
pub const CLEAN: u32 = clean::ALL;

/// V_TPR, bits 0 to 7 of offset 060h; 0 to 3 are CR8.
const V_TPR: u32 = 0xf;
const V_IRQ: u32 = 1 << 8;
/// Highest priority, so that V_TPR does not hold the window back on CPUs without V_IGN_TPR.
const V_INTR_PRIO: u32 = 0xf << 16;
const V_IGN_TPR: u32 = 1 << 20;
const V_INTR_MASKING: u32 = 1 << 24;
/// A virtual interrupt that no task priority holds back.
const V_IRQ_NOW: u32 = V_IRQ | V_INTR_PRIO | V_IGN_TPR;

/// TLB_CONTROL: flush all ASIDs on this entry.
const FLUSH_ALL: u32 = 1;
/// TLB_CONTROL: flush this ASID.
const FLUSH_ASID: u32 = 3;

#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
struct VmcbSegment {
    selector: u16,
    attributes: u16,
    limit: u32,
    base: u64,
}

/// A virtual machine control block, one a vCPU.
#[repr(C, align(4096))]
#[derive(Debug)]
pub struct Vmcb {
    intercept_cr: u32,
    intercept_dr: u32,
    intercept_exceptions: u32,
    intercept_misc1: u32,
    intercept_misc2: u32,
    intercept_misc3: u32,
    reserved_018: [u8; 0x24],
    pause_threshold: u16,
    pause_count: u16,
    iopm_base: u64,
    msrpm_base: u64,
    tsc_offset: u64,
    asid: u32,
    tlb_control: u32,
    v_intr: u32,
    v_intr_vector: u32,
    interrupt_shadow: u64,
    exit_code: u64,
    exit_info_1: u64,
    exit_info_2: u64,
    exit_int_info: u64,
    nested_control: u64,
    avic_bar: u64,
    ghcb: u64,
    event_inj: u64,
    n_cr3: u64,
    lbr_control: u64,
    clean: u32,
    reserved_0c4: u32,
    n_rip: u64,
    bytes_fetched: u8,
    insn_bytes: [u8; 15],
    reserved_0e0: [u8; 0x320],
    es: VmcbSegment,
    cs: VmcbSegment,
    ss: VmcbSegment,
    ds: VmcbSegment,
    fs: VmcbSegment,
    gs: VmcbSegment,
    gdtr: VmcbSegment,
    ldtr: VmcbSegment,
    idtr: VmcbSegment,
    tr: VmcbSegment,
    reserved_4a0: [u8; 0x2b],
    cpl: u8,
    reserved_4cc: u32,
    efer: u64,
    reserved_4d8: [u8; 0x70],
    cr4: u64,
    cr3: u64,
    cr0: u64,
    dr7: u64,
    dr6: u64,
    rflags: u64,
    rip: u64,
    reserved_580: [u8; 0x58],
    rsp: u64,
    reserved_5e0: [u8; 0x18],
    rax: u64,
    star: u64,
    lstar: u64,
    cstar: u64,
    sfmask: u64,
    kernel_gs_base: u64,
    sysenter_cs: u64,
    sysenter_esp: u64,
    sysenter_eip: u64,
    cr2: u64,
    reserved_648: [u8; 0x20],
    g_pat: u64,
    dbgctl: u64,
    br_from: u64,
    br_to: u64,
    last_excp_from: u64,
    last_excp_to: u64,
    reserved_698: [u8; 0x968],
}

const _: () = {
    assert!(size_of::<Vmcb>() == 4096);
    assert!(offset_of!(Vmcb, intercept_exceptions) == 0x008);
    assert!(offset_of!(Vmcb, intercept_misc1) == 0x00c);
    assert!(offset_of!(Vmcb, pause_threshold) == 0x03c);
    assert!(offset_of!(Vmcb, iopm_base) == 0x040);
    assert!(offset_of!(Vmcb, tsc_offset) == 0x050);
    assert!(offset_of!(Vmcb, asid) == 0x058);
    assert!(offset_of!(Vmcb, v_intr) == 0x060);
    assert!(offset_of!(Vmcb, interrupt_shadow) == 0x068);
    assert!(offset_of!(Vmcb, exit_code) == 0x070);
    assert!(offset_of!(Vmcb, exit_int_info) == 0x088);
    assert!(offset_of!(Vmcb, nested_control) == 0x090);
    assert!(offset_of!(Vmcb, event_inj) == 0x0a8);
    assert!(offset_of!(Vmcb, n_cr3) == 0x0b0);
    assert!(offset_of!(Vmcb, clean) == 0x0c0);
    assert!(offset_of!(Vmcb, n_rip) == 0x0c8);
    assert!(offset_of!(Vmcb, bytes_fetched) == 0x0d0);
    assert!(offset_of!(Vmcb, es) == 0x400);
    assert!(offset_of!(Vmcb, gdtr) == 0x460);
    assert!(offset_of!(Vmcb, ldtr) == 0x470);
    assert!(offset_of!(Vmcb, idtr) == 0x480);
    assert!(offset_of!(Vmcb, tr) == 0x490);
    assert!(offset_of!(Vmcb, cpl) == 0x4cb);
    assert!(offset_of!(Vmcb, efer) == 0x4d0);
    assert!(offset_of!(Vmcb, cr4) == 0x548);
    assert!(offset_of!(Vmcb, rip) == 0x578);
    assert!(offset_of!(Vmcb, rsp) == 0x5d8);
    assert!(offset_of!(Vmcb, rax) == 0x5f8);
    assert!(offset_of!(Vmcb, star) == 0x600);
    assert!(offset_of!(Vmcb, cr2) == 0x640);
    assert!(offset_of!(Vmcb, g_pat) == 0x668);
    assert!(offset_of!(Vmcb, last_excp_to) == 0x690);
};

macro_rules! registers {
    ($($get:ident $set:ident $clean:expr;)*) => {
        $(
            #[doc = concat!("Field ", stringify!($get), ".")]
            #[must_use]
            #[inline]
            pub const fn $get(&self) -> u64 {
                self.$get
            }

            #[doc = concat!("Sets field ", stringify!($get), ".")]
            #[inline]
            pub const fn $set(&mut self, value: u64) {
                self.$get = value;
                if $clean != 0 {
                    self.clean &= !$clean;
                }
            }
        )*
    };
}

macro_rules! read_only {
    ($($get:ident)*) => {
        $(
            #[doc = concat!("Field ", stringify!($get), " of the last exit.")]
            #[must_use]
            #[inline]
            pub const fn $get(&self) -> u64 {
                self.$get
            }
        )*
    };
}

impl Vmcb {
    registers! {
        tsc_offset set_tsc_offset clean::I;
        efer set_efer clean::CRX;
        cr0 set_cr0 clean::CRX;
        cr3 set_cr3 clean::CRX;
        cr4 set_cr4 clean::CRX;
        cr2 set_cr2 clean::CR2;
        dr6 set_dr6 clean::DRX;
        dr7 set_dr7 clean::DRX;
        g_pat set_g_pat clean::NP;
        rflags set_rflags 0;
        rip set_rip 0;
        rsp set_rsp 0;
        rax set_rax 0;
        star set_star 0;
        lstar set_lstar 0;
        cstar set_cstar 0;
        sfmask set_sfmask 0;
        kernel_gs_base set_kernel_gs_base 0;
        sysenter_cs set_sysenter_cs 0;
        sysenter_esp set_sysenter_esp 0;
        sysenter_eip set_sysenter_eip 0;
        dbgctl set_dbgctl 0;
        event_inj set_event_inj 0;
    }

    read_only! { exit_code exit_info_1 exit_info_2 exit_int_info n_rip }

    /// An all-zero block with these controls. Nested paging is on.
    #[must_use]
    pub fn new(
        intercepts: (Misc1, Misc2),
        pause: Option<(u16, u16)>,
        iopm: HostPhys,
        msrpm: HostPhys,
        n_cr3: HostPhys,
    ) -> Vmcb {
        let (pause_count, pause_threshold) = pause.unwrap_or((0, 0));
        Vmcb {
            intercept_exceptions: EXCEPTIONS,
            intercept_misc1: intercepts.0.bits(),
            intercept_misc2: intercepts.1.bits(),
            pause_count,
            pause_threshold,
            iopm_base: iopm.0,
            msrpm_base: msrpm.0,
            asid: 1,
            v_intr: V_INTR_MASKING,
            nested_control: 1,
            n_cr3: n_cr3.0,
            ..ZERO
        }
    }

    /// What the CPU cached is true after every exit.
    #[inline]
    pub const fn left(&mut self, clean: u32) {
        self.clean = clean;
    }

    /// The entry has flushed what was asked for.
    pub const fn flushed(&mut self) {
        self.tlb_control = 0;
    }

    /// Whether the next entry flushes.
    #[must_use]
    #[inline]
    pub const fn is_flush_due(&self) -> bool {
        self.tlb_control != 0
    }

    /// Vouches for nothing: before the first entry on a CPU.
    pub const fn forget_cached(&mut self) {
        self.clean = 0;
    }

    /// ASID, 1 or more.
    pub const fn set_asid(&mut self, asid: u32) {
        if self.asid != asid {
            self.asid = asid;
            self.clean &= !clean::ASID;
        }
    }

    /// Root of the nested page table.
    pub const fn set_n_cr3(&mut self, root: HostPhys) {
        self.n_cr3 = root.0;
        self.clean &= !clean::NP;
    }

    /// I/O and MSR permission maps.
    pub const fn set_maps(&mut self, iopm: HostPhys, msrpm: HostPhys) {
        self.iopm_base = iopm.0;
        self.msrpm_base = msrpm.0;
        self.clean &= !clean::IOPM;
    }

    /// Flushes the guest's translations on the next entry; where the CPU cannot flush one ASID,
    /// all. A wider flush that is already due stays.
    pub const fn flush(&mut self, by_asid: bool) {
        if !by_asid {
            self.tlb_control = FLUSH_ALL;
        } else if self.tlb_control != FLUSH_ALL {
            self.tlb_control = FLUSH_ASID;
        }
    }

    /// CR8: V_TPR.
    #[must_use]
    #[inline]
    pub const fn cr8(&self) -> u64 {
        (self.v_intr & V_TPR) as u64
    }

    /// Sets CR8, 0 to 15.
    pub const fn set_cr8(&mut self, tpr: u64) {
        self.v_intr = self.v_intr & !0xff | tpr as u32 & V_TPR;
        self.clean &= !clean::TPR;
    }

    /// Asks for a VINTR exit as soon as the guest takes interrupts, whatever its task priority. It takes the place of
    /// a virtual interrupt that waits.
    pub const fn set_interrupt_window(&mut self, on: bool) {
        const VINTR: u32 = Misc1::VINTR.bits();
        self.v_intr = if on { self.v_intr | V_IRQ_NOW } else { self.v_intr & !V_IRQ };
        self.clean &= !clean::TPR;
        let old = self.intercept_misc1;
        self.intercept_misc1 = if on { old | VINTR } else { old & !VINTR };
        if self.intercept_misc1 != old {
            self.clean &= !clean::I;
        }
    }

    /// The CPU delivers `vector` as soon as the guest takes interrupts, whatever its task priority (APM2 "Injecting
    /// Virtual (INTR) Interrupts"). Not while an interrupt window is asked for.
    #[inline]
    pub const fn deliver(&mut self, vector: u8) {
        self.v_intr |= V_IRQ_NOW;
        self.v_intr_vector = vector as u32;
        self.clean &= !clean::TPR;
    }

    /// The CPU does not deliver what waits.
    #[inline]
    pub const fn withdraw(&mut self) {
        self.v_intr &= !V_IRQ;
        self.clean &= !clean::TPR;
    }

    /// Whether a virtual interrupt waits, be it to be delivered or to exit: an interrupt window is one.
    #[must_use]
    #[inline]
    pub const fn is_interrupt_waiting(&self) -> bool {
        self.v_intr & V_IRQ != 0
    }

    /// Intercepts writes of CR8.
    pub const fn intercept_cr8(&mut self, on: bool) {
        let old = self.intercept_cr;
        self.intercept_cr = if on { old | CR8_WRITE } else { old & !CR8_WRITE };
        if self.intercept_cr != old {
            self.clean &= !clean::I;
        }
    }

    /// Intercepts IRET.
    pub const fn intercept_iret(&mut self, on: bool) {
        const IRET: u32 = Misc1::IRET.bits();
        let old = self.intercept_misc1;
        self.intercept_misc1 = if on { old | IRET } else { old & !IRET };
        if self.intercept_misc1 != old {
            self.clean &= !clean::I;
        }
    }

    /// Whether IRET is intercepted.
    #[must_use]
    pub const fn intercepts_iret(&self) -> bool {
        self.intercept_misc1 & Misc1::IRET.bits() != 0
    }

    /// One-instruction interrupt shadow.
    #[must_use]
    #[inline]
    pub const fn shadow(&self) -> bool {
        self.interrupt_shadow & 1 != 0
    }

    /// Sets or ends the interrupt shadow.
    #[inline]
    pub const fn set_shadow(&mut self, on: bool) {
        self.interrupt_shadow = on as u64;
    }

    /// Bytes at RIP, with decode assists after nested and page faults; the count is 0 to 15.
    #[must_use]
    pub const fn insn(&self) -> ([u8; 15], u8) {
        (self.insn_bytes, self.bytes_fetched & 0xf)
    }

    /// A segment register as the guest would see it.
    #[must_use]
    pub fn segment(&self, reg: SegReg) -> Segment {
        let raw = match reg {
            SegReg::Es => &self.es,
            SegReg::Cs => &self.cs,
            SegReg::Ss => &self.ss,
            SegReg::Ds => &self.ds,
            SegReg::Fs => &self.fs,
            SegReg::Gs => &self.gs,
            SegReg::Ldtr => &self.ldtr,
            SegReg::Tr => &self.tr,
            SegReg::Gdtr => &self.gdtr,
            SegReg::Idtr => &self.idtr,
        };
        let mut access = Segment::access_from_svm(raw.attributes);
        let usable = access & Segment::UNUSABLE == 0;
        // What CPUs do not keep in the hidden part is made good: CS.G, the busy and accessed bits,
        // and the privilege level, which is in a field of its own.
        match reg {
            SegReg::Cs if raw.limit > 0xf_ffff => access |= Segment::G,
            SegReg::Ss => access = access & !0x60 | u32::from(self.cpl & 3) << 5,
            SegReg::Tr => access |= 2,
            SegReg::Ds | SegReg::Es | SegReg::Fs | SegReg::Gs if usable => access |= 1,
            SegReg::Gdtr | SegReg::Idtr => access = 0,
            _ => {}
        }
        Segment { selector: raw.selector, base: raw.base, limit: raw.limit, access }
    }

    /// Sets a segment register. SS brings the privilege level.
    pub fn set_segment(&mut self, reg: SegReg, segment: Segment) {
        let raw = VmcbSegment {
            selector: segment.selector,
            attributes: segment.svm_attributes(),
            limit: segment.limit,
            base: segment.base,
        };
        match reg {
            SegReg::Es => self.es = raw,
            SegReg::Cs => self.cs = raw,
            SegReg::Ss => {
                self.ss = raw;
                self.cpl = segment.dpl();
            }
            SegReg::Ds => self.ds = raw,
            SegReg::Fs => self.fs = raw,
            SegReg::Gs => self.gs = raw,
            SegReg::Ldtr => self.ldtr = raw,
            SegReg::Tr => self.tr = raw,
            SegReg::Gdtr => self.gdtr = raw,
            SegReg::Idtr => self.idtr = raw,
        }
        self.clean &= match reg {
            SegReg::Es | SegReg::Cs | SegReg::Ss | SegReg::Ds => !clean::SEG,
            SegReg::Gdtr | SegReg::Idtr => !clean::DT,
            // VMLOAD reads the others anew at each entry.
            SegReg::Fs | SegReg::Gs | SegReg::Ldtr | SegReg::Tr => !0,
        };
    }
}

const NONE: VmcbSegment = VmcbSegment { selector: 0, attributes: 0, limit: 0, base: 0 };

const ZERO: Vmcb = Vmcb {
    intercept_cr: 0,
    intercept_dr: 0,
    intercept_exceptions: 0,
    intercept_misc1: 0,
    intercept_misc2: 0,
    intercept_misc3: 0,
    reserved_018: [0; 0x24],
    pause_threshold: 0,
    pause_count: 0,
    iopm_base: 0,
    msrpm_base: 0,
    tsc_offset: 0,
    asid: 0,
    tlb_control: 0,
    v_intr: 0,
    v_intr_vector: 0,
    interrupt_shadow: 0,
    exit_code: 0,
    exit_info_1: 0,
    exit_info_2: 0,
    exit_int_info: 0,
    nested_control: 0,
    avic_bar: 0,
    ghcb: 0,
    event_inj: 0,
    n_cr3: 0,
    lbr_control: 0,
    clean: 0,
    reserved_0c4: 0,
    n_rip: 0,
    bytes_fetched: 0,
    insn_bytes: [0; 15],
    reserved_0e0: [0; 0x320],
    es: NONE,
    cs: NONE,
    ss: NONE,
    ds: NONE,
    fs: NONE,
    gs: NONE,
    gdtr: NONE,
    ldtr: NONE,
    idtr: NONE,
    tr: NONE,
    reserved_4a0: [0; 0x2b],
    cpl: 0,
    reserved_4cc: 0,
    efer: 0,
    reserved_4d8: [0; 0x70],
    cr4: 0,
    cr3: 0,
    cr0: 0,
    dr7: 0,
    dr6: 0,
    rflags: 0,
    rip: 0,
    reserved_580: [0; 0x58],
    rsp: 0,
    reserved_5e0: [0; 0x18],
    rax: 0,
    star: 0,
    lstar: 0,
    cstar: 0,
    sfmask: 0,
    kernel_gs_base: 0,
    sysenter_cs: 0,
    sysenter_esp: 0,
    sysenter_eip: 0,
    cr2: 0,
    reserved_648: [0; 0x20],
    g_pat: 0,
    dbgctl: 0,
    br_from: 0,
    br_to: 0,
    last_excp_from: 0,
    last_excp_to: 0,
    reserved_698: [0; 0x968],
};

#[cfg(test)]
impl Vmcb {
    /// What the CPU would write at an exit.
    pub fn script_exit(&mut self, exit_code: u64, info_1: u64, info_2: u64, int_info: u64) {
        self.exit_code = exit_code;
        self.exit_info_1 = info_1;
        self.exit_info_2 = info_2;
        self.exit_int_info = int_info;
    }

    /// As the CPU writes it with nRIP save.
    pub fn script_n_rip(&mut self, n_rip: u64) {
        self.n_rip = n_rip;
    }

    /// TLB_CONTROL.
    pub fn tlb_control(&self) -> u32 {
        self.tlb_control
    }

    /// Clean bits.
    pub fn clean(&self) -> u32 {
        self.clean
    }

    /// Intercepts of control registers.
    pub fn intercept_cr(&self) -> u32 {
        self.intercept_cr
    }

    /// Whether the delivery of virtual interrupts exits.
    pub fn intercepts_vintr(&self) -> bool {
        self.intercept_misc1 & Misc1::VINTR.bits() != 0
    }

    /// The vector of the virtual interrupt that waits.
    pub fn waiting_vector(&self) -> Option<u8> {
        self.is_interrupt_waiting().then_some(self.v_intr_vector as u8)
    }

    /// As the CPU does when it delivers what waits.
    pub fn script_delivery(&mut self) {
        self.v_intr &= !V_IRQ;
    }
}

#[cfg(test)]
mod tests;
