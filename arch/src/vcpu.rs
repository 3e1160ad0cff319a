//! The contract with a virtual CPU: what `machine` may ask of a VMCB or VMCS, and what a handler
//! answers.

use crate::apicpage::ApicPage;
use crate::event::{Event, Fault};
use crate::exit::Exit;
use crate::gprs::Gprs;
use crate::segment::{SegReg, Segment};

/// A system register of the guest, as the guest sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "the names are the manual's own")]
pub enum SysReg {
    Cr0,
    Cr2,
    Cr3,
    Cr4,
    /// Including LME, LMA, SCE, NXE; never SVME.
    Efer,
    Dr6,
    Dr7,
    Star,
    Lstar,
    Cstar,
    Sfmask,
    KernelGsBase,
    SysenterCs,
    SysenterEsp,
    SysenterEip,
    Pat,
    /// Task priority, 0 to 15 (CR8). Kept by the vendor crate where CR8 is virtualized by the CPU.
    Cr8,
    /// What is added to the host's TSC, modulo 2^64.
    TscOffset,
    DebugCtl,
}

/// What the guest's interruptibility allows besides RFLAGS.IF.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Blocking {
    /// One-instruction shadow of STI or of MOV/POP SS.
    pub shadow: bool,
    /// An NMI handler has not yet executed IRET.
    pub nmi: bool,
}

/// What a handler decided about the instruction that exited. There is no default.
#[must_use]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Resume {
    /// It is done: RIP moves past it (and the interrupt shadow ends).
    Next,
    /// It is done and was this many bytes long.
    Skip(u8),
    /// RIP stays: execute again, or there was no instruction.
    Again,
    /// It faults.
    Raise(Fault),
    /// It is done (RIP moves past it), and the vCPU waits for an event.
    Park,
    /// RIP stays and the vCPU waits for a host completion, then executes again.
    Wait,
    /// The guest cannot go on.
    Stop(Why),
}

/// Why a guest stopped for good.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// ACPI S5, APM off or a hypercall.
    PowerOff,
    /// Reset by 8042, port 92h, CF9h or the ACPI reset register.
    Reset,
    /// Triple fault.
    TripleFault,
    /// The guest says so itself, by a hypercall, with this reason (Xen's `SHUTDOWN_*`).
    Crashed(u8),
    /// An access or instruction that cannot be emulated; the code says which kind.
    Unhandled(u64),
    /// The CPU refused its state.
    BadState(u64),
    /// The hypervisor panicked while serving it.
    Panic,
    /// By a person or by `xtask`.
    Destroyed,
}

/// A virtual CPU of either vendor. One owner at a time: the CPU that runs it.
pub trait Vcpu {
    /// Injects what [`inject`](Vcpu::inject) left and runs the guest until it exits. An event
    /// whose delivery the exit interrupted is again pending for injection when this returns
    /// ([`pending_event`](Vcpu::pending_event)). Host interrupts are disabled before and after.
    fn enter(&mut self);
    /// Why it exited; to be asked once after each [`enter`](Vcpu::enter).
    fn exit(&mut self) -> Exit;

    /// General registers, RAX and RSP included.
    fn gprs(&self) -> &Gprs;
    /// General registers, to change.
    fn gprs_mut(&mut self) -> &mut Gprs;

    /// Instruction pointer.
    fn rip(&self) -> u64;
    /// Sets the instruction pointer and ends an interrupt shadow.
    fn set_rip(&mut self, rip: u64);
    /// Where the instruction that exited ends, if the CPU says so (VMX, nRIP, IOIO); valid until the next
    /// [`enter`](Vcpu::enter) for exits caused by an instruction.
    fn next_rip(&self) -> Option<u64>;
    /// The same for an exit of the four kinds that come most: `Cpuid`, `In`, `Out`, `Hypercall`. Which it was
    /// the caller knows when it is compiled.
    #[inline(always)]
    fn next_rip_of(&self, exit: Exit) -> Option<u64> {
        let _ = exit;
        self.next_rip()
    }
    /// Bytes of the instruction, if the CPU says so (decode assists): array and count.
    fn insn_bytes(&self) -> Option<([u8; 15], u8)>;

    /// Flags.
    fn rflags(&self) -> u64;
    /// Sets the flags.
    fn set_rflags(&mut self, rflags: u64);

    /// A system register.
    fn reg(&self, reg: SysReg) -> u64;
    /// Sets a system register. The value is legal: `machine` checked it. Derived state (entry controls,
    /// shadows, guest TLB entries) follows.
    fn set_reg(&mut self, reg: SysReg, value: u64);

    /// Hands over the four page-directory-pointer entries after CR0, CR3 or CR4 were set so that PAE
    /// paging is on. Only VMX holds them apart from CR3 (SDM 3C "Guest
    /// Page-Directory-Pointer-Table Entries").
    fn set_pdptes(&mut self, entries: [u64; 4]) {
        let _ = entries;
    }

    /// A segment or table register.
    fn segment(&self, reg: SegReg) -> Segment;
    /// Sets a segment or table register.
    fn set_segment(&mut self, reg: SegReg, segment: Segment);

    /// Interrupt shadow and NMI blocking.
    fn blocking(&self) -> Blocking;
    /// Sets interrupt shadow and NMI blocking.
    fn set_blocking(&mut self, blocking: Blocking);

    /// The event that the next [`enter`](Vcpu::enter) will inject.
    fn pending_event(&self) -> Option<Event>;
    /// Replaces it.
    fn inject(&mut self, event: Option<Event>);

    /// Asks for exits as soon as the guest can take what waits: [`Exit::InterruptWindow`] for an interrupt
    /// that no priority holds back (`interrupt`), [`Exit::NmiWindow`] for an NMI (`nmi`), and for an interrupt of
    /// priority class `held_back` (1 to 15; 0 for none) that CR8 holds back, [`Exit::TprBelowThreshold`] or
    /// [`Exit::InterruptWindow`] or an intercepted CR8 write once CR8 falls below the class. Replaces
    /// what was asked before; cheap when nothing changes.
    fn request_window(&mut self, interrupt: bool, nmi: bool, held_back: u8);

    /// Offers an interrupt to the guest, which the CPU delivers without an exit as soon as RFLAGS.IF and the interrupt
    /// shadow let it. `vector` is 32 or more, above the task priority, and nothing else waits: no event is pending. Takes
    /// the place of the windows that were asked for, and stands until [`withdraw`](Vcpu::withdraw). False: the CPU
    /// cannot, and nothing has changed.
    #[inline]
    fn offer(&mut self, vector: u8) -> bool {
        let _ = vector;
        false
    }

    /// Takes the offer back, if there is one. True: it was delivered.
    #[inline]
    fn withdraw(&mut self) -> bool {
        false
    }

    /// The page in which the CPU keeps the guest's local APIC; `None` where it keeps none. What is set there
    /// holds from the next entry on.
    #[inline]
    fn apic(&mut self) -> Option<&mut ApicPage> {
        None
    }

    /// Flushes the guest's TLB entries before the next entry, after its second-level table lost
    /// rights.
    fn flush_tlb(&mut self);
}
