//! Each CPU's GDT and TSS. The TSS holds the stacks of double fault, NMI and machine check.

// UNSAFETY: loads descriptor tables.

use core::cell::UnsafeCell;
use core::mem::offset_of;

/// Selector of 64-bit code.
pub const CODE: u16 = 0x08;
/// Selector of data and stack.
pub const DATA: u16 = 0x10;
/// Selector of the TSS.
pub const TSS: u16 = 0x18;

/// IST number of each stack, from 1 as in a gate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ist {
    /// #DF.
    DoubleFault = 1,
    /// NMI.
    Nmi = 2,
    /// #MC.
    MachineCheck = 3,
}

/// SDM 3A "64-Bit Task State Segment".
#[repr(C, packed(4))]
#[derive(Clone, Copy, Debug)]
struct TaskState {
    reserved0: u32,
    rsp: [u64; 3],
    reserved1: u64,
    ist: [u64; 7],
    reserved2: u64,
    reserved3: u16,
    iomap_base: u16,
}

const _: () = assert!(size_of::<TaskState>() == 104);
const _: () = assert!(offset_of!(TaskState, ist) == 36);
const _: () = assert!(offset_of!(TaskState, iomap_base) == 102);

#[derive(Debug)]
struct Inner {
    gdt: [u64; 5],
    tss: TaskState,
}

/// GDT and TSS of one CPU.
#[derive(Debug)]
pub struct Tables(UnsafeCell<Inner>);

// SAFETY: only the owning CPU touches the contents, and the CPU's hardware.
unsafe impl Sync for Tables {}

/// Where VMX and SVM host state must point on this CPU.
#[derive(Clone, Copy, Debug)]
pub struct Bases {
    /// Linear address of the GDT.
    pub gdt: u64,
    /// Linear address of the TSS.
    pub tss: u64,
    /// Linear address of the IDT.
    pub idt: u64,
}

impl Tables {
    /// Unfilled tables.
    #[must_use]
    pub const fn new() -> Tables {
        let tss = TaskState {
            reserved0: 0,
            rsp: [0; 3],
            reserved1: 0,
            ist: [0; 7],
            reserved2: 0,
            reserved3: 0,
            iomap_base: size_of::<TaskState>() as u16,
        };
        // Accessed bits are set: the GDT is never written by segment loads.
        let gdt = [0, 0x00af_9b00_0000_ffff, 0x00cf_9300_0000_ffff, 0, 0];
        Tables(UnsafeCell::new(Inner { gdt, tss }))
    }

    /// Sets the interrupt stacks (their tops, in IST order).
    ///
    /// # Safety
    /// Only on the owning CPU, or before it runs; the stacks stay for ever.
    pub unsafe fn set_stacks(&self, tops: [u64; 3]) {
        // SAFETY: the caller's promise: nobody else touches it now.
        let inner = unsafe { &mut *self.0.get() };
        let mut ist = inner.tss.ist;
        ist[..3].copy_from_slice(&tops);
        inner.tss.ist = ist;
    }

    /// Loads GDT, segments and TR.
    ///
    /// # Safety
    /// Only on the owning CPU, and `self` lives for ever.
    pub unsafe fn load(&self) {
        // SAFETY: as above.
        let inner = unsafe { &mut *self.0.get() };
        let base = (&raw const inner.tss).expose_provenance() as u64;
        // Present 64-bit TSS (available), SDM 3A "TSS Descriptor in 64-bit mode".
        let limit = size_of::<TaskState>() as u64 - 1;
        let low = limit | (base & 0xff_ffff) << 16 | 0x89 << 40 | (base >> 24 & 0xff) << 56;
        inner.gdt[3] = low;
        inner.gdt[4] = base >> 32;
        let pointer = Pointer {
            limit: size_of::<[u64; 5]>() as u16 - 1,
            base: (&raw const inner.gdt).expose_provenance() as u64,
        };
        // SAFETY: the GDT is complete and lives for ever; code and data keep their selectors.
        unsafe {
            core::arch::asm!(
                "lgdt [{pointer}]",
                "push {code}",
                "lea {scratch}, [rip + 2f]",
                "push {scratch}",
                "retfq",
                "2:",
                "mov ds, {data:e}",
                "mov es, {data:e}",
                "mov ss, {data:e}",
                "ltr {tss:x}",
                pointer = in(reg) &raw const pointer,
                code = in(reg) u64::from(CODE),
                data = in(reg) u32::from(DATA),
                tss = in(reg) TSS,
                scratch = out(reg) _,
            );
        }
    }

    /// Addresses for a VMCS or for inspection.
    #[must_use]
    pub fn bases(&self) -> Bases {
        let inner = self.0.get();
        // SAFETY: only addresses are taken, nothing is read.
        let (gdt, tss) = unsafe { (&raw const (*inner).gdt, &raw const (*inner).tss) };
        Bases {
            gdt: gdt.expose_provenance() as u64,
            tss: tss.expose_provenance() as u64,
            idt: super::idt::base(),
        }
    }
}

impl Default for Tables {
    fn default() -> Self {
        Self::new()
    }
}

/// The operand of LGDT and LIDT.
#[repr(C, packed)]
pub(super) struct Pointer {
    pub(super) limit: u16,
    pub(super) base: u64,
}
