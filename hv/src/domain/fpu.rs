//! FPU and vector state of a vCPU. The hypervisor never touches these registers, so a guest's stay live
//! across exits; they are saved only when another vCPU takes the CPU.

// UNSAFETY: XSAVE, FXSAVE and their counterparts work on memory by address.

use core::arch::asm;
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use x86::controlregs::{Cr0, Cr4};

use crate::cpu;

/// Most bytes of state that is kept: x87, SSE, AVX, and room for more components.
const BYTES: usize = 4096;

/// The components that this machine has and that guests may use; 0 where there is no XSAVE.
static COMPONENTS: AtomicU64 = AtomicU64::new(0);

/// Saving and loading leaves the x87's error pointers alone unless an exception waits, as on AMD's CPUs before Zen 2:
/// one guest would see where another's code and data are.
static LEAKS: AtomicBool = AtomicBool::new(false);

/// A vCPU's registers while another one runs.
#[repr(C, align(64))]
pub struct Area {
    state: [u8; BYTES],
    xcr0: u64,
}

impl Default for Area {
    fn default() -> Self {
        let mut area = Area { state: [0; BYTES], xcr0: 1 };
        area.reset();
        area
    }
}

/// Components that guests are offered: x87, SSE, AVX (`machine::cpuid`).
const OFFERED: u64 = 7;

/// Prepares this CPU: no traps on FPU use, XSAVE on where it exists.
pub fn init_cpu() {
    let xsave = raw_cpuid::CpuId::new().get_feature_info().is_some_and(|f| f.has_xsave());
    // SAFETY: the hypervisor is built without FPU code; clearing TS and EM lets XSAVE run.
    unsafe {
        let mut cr0 = x86::controlregs::cr0();
        cr0.remove(Cr0::CR0_TASK_SWITCHED | Cr0::CR0_EMULATE_COPROCESSOR);
        cr0.insert(Cr0::CR0_MONITOR_COPROCESSOR | Cr0::CR0_NUMERIC_ERROR);
        x86::controlregs::cr0_write(cr0);
        let mut cr4 = x86::controlregs::cr4();
        cr4.insert(Cr4::CR4_ENABLE_SSE | Cr4::CR4_UNMASKED_SSE);
        cr4.set(Cr4::CR4_ENABLE_OS_XSAVE, xsave);
        x86::controlregs::cr4_write(cr4);
    }
    LEAKS.store(cpu::x87_leaks(), Ordering::Relaxed);
    if xsave {
        let leaf = raw_cpuid::cpuid!(0xd, 0);
        let offered = (u64::from(leaf.eax) | u64::from(leaf.edx) << 32) & OFFERED;
        COMPONENTS.store(offered, Ordering::Relaxed);
        set_xcr0(1);
    }
}

/// Lets the x87's error pointers point at ourselves.
fn clear_error_pointers() {
    let nothing = 0_u32;
    // SAFETY: the registers are about to be loaded, TS and EM are clear. An exception that waits, or a full
    // stack, would fault at FILD, so they go first.
    unsafe {
        asm!("fnclex", "emms", "fild dword ptr [{}]", in(reg) &nothing,
            options(nostack, preserves_flags));
    }
}

/// Sets XCR0, with a value that CPUID allows.
pub fn set_xcr0(value: u64) {
    if COMPONENTS.load(Ordering::Relaxed) == 0 {
        return;
    }
    // SAFETY: CR4.OSXSAVE is on, and the caller checked the value against CPUID leaf 0Dh.
    unsafe {
        asm!("xsetbv", in("ecx") 0, in("eax") value as u32, in("edx") (value >> 32) as u32,
            options(nomem, nostack, preserves_flags));
    }
}

fn xcr0() -> u64 {
    let (low, high): (u32, u32);
    // SAFETY: CR4.OSXSAVE is on wherever this is called.
    unsafe {
        asm!("xgetbv", in("ecx") 0, out("eax") low, out("edx") high,
            options(nomem, nostack, preserves_flags));
    }
    u64::from(low) | u64::from(high) << 32
}

impl Area {
    /// The state after reset (SDM 1 "x87 FPU Environment", MXCSR 1F80h).
    pub fn reset(&mut self) {
        self.state.fill(0);
        // FCW 40h after reset, FTW empty; FXSAVE keeps "abridged" tags, 0 is empty.
        self.state[0] = 0x40;
        self.state[24..28].copy_from_slice(&0x1f80u32.to_le_bytes());
        // XSTATE_BV: the legacy parts are in the image.
        self.state[512] = 3;
        self.xcr0 = 1;
    }

    /// Loads the registers from here.
    pub fn load(&self) {
        if LEAKS.load(Ordering::Relaxed) {
            clear_error_pointers();
        }
        let components = COMPONENTS.load(Ordering::Relaxed);
        let image = self.state.as_ptr();
        if components == 0 {
            // SAFETY: 512 bytes, aligned, as FXSAVE or `reset` left them.
            unsafe { asm!("fxrstor64 [{}]", in(reg) image, options(nostack, preserves_flags)) };
            return;
        }
        set_xcr0(components);
        // SAFETY: an aligned XSAVE image of at most these components.
        unsafe {
            asm!("xrstor64 [{}]", in(reg) image, in("eax") components as u32,
                in("edx") (components >> 32) as u32, options(nostack, preserves_flags));
        }
        set_xcr0(self.xcr0);
    }

    /// Stores the registers here.
    pub fn save(&mut self) {
        let components = COMPONENTS.load(Ordering::Relaxed);
        let image = self.state.as_mut_ptr();
        if components == 0 {
            // SAFETY: 512 aligned bytes.
            unsafe { asm!("fxsave64 [{}]", in(reg) image, options(nostack, preserves_flags)) };
            return;
        }
        self.xcr0 = xcr0();
        set_xcr0(components);
        // SAFETY: aligned, and larger than CPUID 0Dh says for x87, SSE and AVX (832 bytes).
        unsafe {
            asm!("xsave64 [{}]", in(reg) image, in("eax") components as u32,
                in("edx") (components >> 32) as u32, options(nostack, preserves_flags));
        }
        set_xcr0(self.xcr0);
    }
}
