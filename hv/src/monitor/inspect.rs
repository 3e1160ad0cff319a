//! A vCPU looked at from outside: registers, stack, memory, code, the last exits.

use core::fmt::{self, Write};

use alloc::string::String;
use arch::exit::CrAccess;
use arch::paging::Paging;
use arch::{Access, Exit, Gpr, GuestPhys, GuestRam, GuestVirt, SegReg, Segment, SysReg, Vcpu};
use iced_x86::{Decoder, DecoderOptions, FastFormatter};
use machine::insn::exec::{code_bits, linear};
use machine::stats::Stats;

use crate::cpu::tsc;
use crate::domain::{Domain, State, Task, backend::Backend};

/// How long a vCPU may take to leave its guest.
const PATIENCE_NS: u64 = 100_000_000;

/// Works on a vCPU's state. One that runs on another CPU is taken out of its guest for it. `None`:
/// there is no such vCPU, or its CPU does not answer. Called on CPU 0 between turns.
pub fn with_task<B: Backend, R>(
    domain: &Domain<B>,
    vcpu: usize,
    work: impl FnOnce(&mut Task<B>) -> R,
) -> Option<R> {
    let slot = domain.slots.get(vcpu)?;
    if let Some(mut task) = slot.task.try_lock() {
        return Some(work(&mut task));
    }
    let paused = domain.change_state(State::Running, State::Paused);
    let end = tsc::now() + tsc::from_ns(PATIENCE_NS);
    let task = loop {
        match slot.task.try_lock() {
            None if tsc::now() < end => core::hint::spin_loop(),
            task => break task,
        }
    };
    let done = task.map(|mut task| work(&mut task));
    if paused {
        domain.change_state(State::Paused, State::Running);
    }
    done
}

/// A guest's memory as one of its vCPUs sees it, or by physical addresses.
pub struct View<'a> {
    ram: &'a GuestRam,
    paging: Option<Paging>,
}

impl<'a> View<'a> {
    /// By linear addresses.
    pub fn linear<B: Backend>(domain: &'a Domain<B>, vcpu: &B::Vcpu) -> View<'a> {
        let machine = &domain.machine;
        let paging = Some(Paging::of(vcpu, machine.physical_bits()));
        View { ram: &machine.ram, paging }
    }

    /// By physical addresses.
    pub fn physical<B: Backend>(domain: &'a Domain<B>) -> View<'a> {
        View { ram: &domain.machine.ram, paging: None }
    }

    /// A byte; `None` where nothing is mapped or the mapping leads to no RAM.
    #[must_use]
    pub fn byte(&self, at: u64) -> Option<u8> {
        let at = match &self.paging {
            None => GuestPhys(at),
            Some(paging) => paging.peek(self.ram, GuestVirt(at), Access::empty()).ok()?.gpa,
        };
        self.ram.read_u8(at)
    }

    fn word(&self, at: u64, width: u64) -> Option<u64> {
        (0..width)
            .try_fold(0, |sum, n| Some(sum | u64::from(self.byte(at.wrapping_add(n))?) << (8 * n)))
    }
}

/// General, segment and control registers.
///
/// # Errors
/// What `out` returns.
pub fn registers<B: Backend>(
    out: &mut dyn Write,
    domain: &Domain<B>,
    task: &Task<B>,
) -> fmt::Result {
    const NAMES: [&str; 16] = [
        "rax", "rcx", "rdx", "rbx", "rsp", "rbp", "rsi", "rdi", "r8", "r9", "r10", "r11", "r12",
        "r13", "r14", "r15",
    ];
    let (v, cpu) = (&task.vcpu, &task.cpu);
    let (activity, bits, flags) = (cpu.activity, code_bits(v), v.rflags());
    writeln!(out, "vcpu {}: {activity:?}, {bits}-bit code, {} exits", cpu.id, cpu.stats.total())?;
    write!(out, "rip {:016x} rflags {flags:08x} [", v.rip())?;
    const FLAGS: [(u32, &str); 12] = [
        (0, "c"),
        (2, "p"),
        (4, "a"),
        (6, "z"),
        (7, "s"),
        (8, "t"),
        (9, "i"),
        (10, "d"),
        (11, "o"),
        (14, "nt"),
        (16, "r"),
        (17, "vm"),
    ];
    for (bit, name) in FLAGS {
        if flags >> bit & 1 != 0 {
            write!(out, " {name}")?;
        }
    }
    let blocking = v.blocking();
    writeln!(out, " ] shadow {} nmi-blocked {}", blocking.shadow, blocking.nmi)?;
    for (n, gpr) in Gpr::ALL.into_iter().enumerate() {
        let end = if n % 4 == 3 { '\n' } else { ' ' };
        write!(out, "{:>3} {:016x}{end}", NAMES[n], v.gprs().get(gpr))?;
    }
    use SegReg::{Cs, Ds, Es, Fs, Gdtr, Gs, Idtr, Ldtr, Ss, Tr};
    let segments = [("cs", Cs), ("ss", Ss), ("ds", Ds), ("es", Es), ("fs", Fs), ("gs", Gs)];
    for (name, reg) in segments.into_iter().chain([("ldtr", Ldtr), ("tr", Tr)]) {
        let Segment { selector, base, limit, access } = v.segment(reg);
        writeln!(
            out,
            "{name:>4} {selector:04x} base {base:016x} limit {limit:08x} access {access:05x}"
        )?;
    }
    for (name, reg) in [("gdtr", Gdtr), ("idtr", Idtr)] {
        let Segment { base, limit, .. } = v.segment(reg);
        writeln!(out, "{name}      base {base:016x} limit {limit:08x}")?;
    }
    let get = |reg| v.reg(reg);
    writeln!(
        out,
        "cr0 {:08x} cr2 {:016x} cr3 {:016x} cr4 {:08x} cr8 {:x}",
        get(SysReg::Cr0),
        get(SysReg::Cr2),
        get(SysReg::Cr3),
        get(SysReg::Cr4),
        get(SysReg::Cr8)
    )?;
    writeln!(
        out,
        "efer {:x} dr6 {:x} dr7 {:x} star {:x} lstar {:x} kernel-gs {:x}",
        get(SysReg::Efer),
        get(SysReg::Dr6),
        get(SysReg::Dr7),
        get(SysReg::Star),
        get(SysReg::Lstar),
        get(SysReg::KernelGsBase)
    )?;
    writeln!(out, "event to inject {:?}", v.pending_event())?;
    let machine = &domain.machine;
    writeln!(out, "{}", machine.waiting(cpu, machine.now(domain)))
}

/// The words at SS:RSP.
///
/// # Errors
/// What `out` returns.
pub fn stack<B: Backend>(
    out: &mut dyn Write,
    view: &View<'_>,
    task: &Task<B>,
    words: u64,
) -> fmt::Result {
    let v = &task.vcpu;
    let width = match code_bits(v) {
        64 => 8,
        32 => 4,
        _ => 2,
    };
    let small = width < 8 && v.segment(SegReg::Ss).access & Segment::DB == 0;
    let rsp = v.gprs().get(Gpr::Rsp);
    for n in 0..words {
        let offset = rsp.wrapping_add(n * width);
        let offset = if small { offset & 0xffff } else { offset };
        let at = linear(v, SegReg::Ss, offset);
        if n % 4 == 0 {
            write!(out, "{}{offset:x}:", if n == 0 { "" } else { "\n" })?;
        }
        let digits = width as usize * 2;
        match view.word(at, width) {
            Some(word) => write!(out, " {word:0digits$x}")?,
            None => write!(out, " {:?>digits$}", "")?,
        }
    }
    writeln!(out)
}

/// Bytes and characters from `at` on.
///
/// # Errors
/// What `out` returns.
pub fn memory(out: &mut dyn Write, view: &View<'_>, at: u64, bytes: u64) -> fmt::Result {
    let end = at.saturating_add(bytes);
    let mut row = at;
    while row < end {
        write!(out, "{row:012x} ")?;
        let mut text = heapless::String::<16>::new();
        for n in 0..16u64.min(end - row) {
            match view.byte(row.saturating_add(n)) {
                Some(byte) => {
                    write!(out, " {byte:02x}")?;
                    let shown = if (b' '..0x7f).contains(&byte) { byte } else { b'.' };
                    let _ = text.push(char::from(shown));
                }
                None => {
                    write!(out, " ??")?;
                    let _ = text.push('?');
                }
            }
        }
        writeln!(out, "  {text}")?;
        row = row.saturating_add(16);
    }
    Ok(())
}

/// Instructions from `offset` in CS on.
///
/// # Errors
/// What `out` returns.
pub fn code<B: Backend>(
    out: &mut dyn Write,
    view: &View<'_>,
    task: &Task<B>,
    offset: u64,
    count: u64,
) -> fmt::Result {
    let v = &task.vcpu;
    let mut ip = offset;
    let mut formatter = FastFormatter::new();
    for _ in 0..count {
        let mut bytes = [0; 15];
        let at = linear(v, SegReg::Cs, ip);
        let known = (0..15).map_while(|n| view.byte(at.wrapping_add(n)));
        let len = known.zip(&mut bytes).map(|(byte, place)| *place = byte).count();
        if len == 0 {
            return writeln!(out, "{ip:x}: nothing is mapped here");
        }
        let mut decoder = Decoder::with_ip(code_bits(v), &bytes[..len], ip, DecoderOptions::NONE);
        let insn = decoder.decode();
        let mut text = String::new();
        formatter.format(&insn, &mut text);
        let used = insn.len().clamp(1, len);
        write!(out, "{}{ip:x}:", if ip == v.rip() { '>' } else { ' ' })?;
        bytes[..used].iter().try_for_each(|byte| write!(out, " {byte:02x}"))?;
        writeln!(out, "{:pad$}  {text}", "", pad = 24usize.saturating_sub(used * 3))?;
        ip = ip.wrapping_add(used as u64);
    }
    Ok(())
}

/// The last `count` exits, oldest first.
///
/// # Errors
/// What `out` returns.
pub fn trace(out: &mut dyn Write, stats: &Stats, count: usize) -> fmt::Result {
    let all = stats.trace().count();
    let newest = stats.trace().last().map_or(0, |record| record.tsc);
    for record in stats.trace().skip(all.saturating_sub(count)) {
        let before = tsc::to_ns(newest.saturating_sub(record.tsc));
        let (us, ns) = (before / 1000, before % 1000);
        write!(out, "{:>9}.{ns:03} us {:#014x}  ", -(us as i64), record.rip)?;
        exit(out, &record.exit)?;
        writeln!(out)?;
    }
    Ok(())
}

fn exit(out: &mut dyn Write, exit: &Exit) -> fmt::Result {
    match exit {
        Exit::In { port, width } => write!(out, "in port {port:#x}, {width} bytes"),
        Exit::Out { port, width } => write!(out, "out port {port:#x}, {width} bytes"),
        Exit::StringIo(io) => {
            let (name, rep) =
                (if io.write { "outs" } else { "ins" }, if io.rep { "rep " } else { "" });
            write!(out, "{rep}{name} port {:#x}, {} bytes", io.port, io.width)
        }
        Exit::NestedFault(fault) => {
            let present = if fault.present { "forbidden" } else { "unmapped" };
            write!(out, "nested fault at {}, {present} {:?}", fault.gpa, fault.access)
        }
        Exit::Cr(CrAccess::Write { cr, gpr }) => write!(out, "mov cr{cr}, {gpr:?}"),
        Exit::Cr(CrAccess::Read { cr, gpr }) => write!(out, "mov {gpr:?}, cr{cr}"),
        other => write!(out, "{other:x?}"),
    }
}
