//! Hypercalls: the page that a guest calls into, who may call, and which verb serves which number.
//!
//! Xen public "xen.h", "arch-x86/xen-x86_64.h", "arch-x86/xen-x86_32.h" (registers). A long call is cut
//! into pieces: RIP stays, the registers say what is left, and the guest calls again.

use super::Xen;
use crate::Machine;
use crate::cpu::Cpu;
use crate::host::{Host, Output};
use crate::insn::exec::{code_bits, cpl};
use arch::control::cr0;
use arch::{Fault, Gpr, Gprs, GuestPhys, GuestVirt, Nanos, Resume, SysReg, Vcpu, Why};
use core::sync::atomic::Ordering;
use pvdrivers::Errno;
use pvdrivers::abi::event_channel::EventOp;
use pvdrivers::abi::version::{VERSION, VersionOp};
use pvdrivers::abi::xen::{
    ConsoleIo, HYPERCALL_ENTRY_SIZE, MulticallEntry, VMASST_RUNSTATE_UPDATE_FLAG, VmAssist,
};
use pvdrivers::abi::{Hypercall, Layout, Ulong, Width};

/// Calls of a multicall that are made before the guest may take an interrupt.
const MULTICALL_BATCH: u64 = 32;
/// A timeout so many nanoseconds ahead is none, as a power of two: 13 days.
const FAR_TIMEOUT: u32 = 50;
/// After so many nanoseconds such a timer fires.
const SOON: u64 = 100_000_000;
/// Bytes of a console write that are taken in one go.
const CONSOLE_BATCH: usize = 256;
/// Most bytes of one console write; what is beyond is dropped, as a flood.
const CONSOLE_LIMIT: u64 = 64 << 10;

/// What a hypercall comes to. Two registers hold it.
#[must_use]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// It returns this.
    Done(i64),
    /// It returns this, and the vCPU halts until an event.
    Block(i64),
    /// It returns this, and other vCPUs get their turn.
    Yield(i64),
    /// The registers say what is left: called again.
    Again,
    /// The guest stops: it powers off.
    PowerOff,
    /// The guest stops: it restarts.
    Reset,
    /// The guest stops: it has crashed, for this reason (0 to 255).
    Crashed(i64),
}

const _: () = assert!(size_of::<Outcome>() == 16);

impl From<Result<u64, Errno>> for Outcome {
    fn from(result: Result<u64, Errno>) -> Outcome {
        Outcome::Done(match result {
            Ok(value) => value as i64,
            Err(errno) => errno.code(),
        })
    }
}

impl From<Errno> for Outcome {
    fn from(errno: Errno) -> Outcome {
        Outcome::Done(errno.code())
    }
}

/// Where a 64-bit caller has its arguments.
const WIDE: [Gpr; 5] = [Gpr::Rdi, Gpr::Rsi, Gpr::Rdx, Gpr::R10, Gpr::R8];
/// Where a 32-bit caller has its arguments.
const NARROW: [Gpr; 5] = [Gpr::Rbx, Gpr::Rcx, Gpr::Rdx, Gpr::Rsi, Gpr::Rdi];

/// A hypercall with its arguments.
#[derive(Clone, Copy)]
pub(crate) struct Call<'a> {
    pub xen: &'a Xen,
    /// The width of the caller's code, and so of its structures.
    pub width: Width,
    pub number: Hypercall,
    pub args: [u64; 5],
}

impl<'a> Call<'a> {
    /// The call whose number and arguments are in these registers.
    #[inline]
    fn new(xen: &'a Xen, width: Width, gprs: &Gprs) -> Call<'a> {
        let low = |gpr| gprs.get(gpr) & 0xffff_ffff;
        let (number, args) = match width {
            Width::Bits64 => (gprs.rax(), WIDE.map(|gpr| gprs.get(gpr))),
            Width::Bits32 => (low(Gpr::Rax), NARROW.map(low)),
        };
        Call { xen, width, number: Hypercall(number), args }
    }

    /// Argument `n` (0 to 4) as a pointer of the caller's.
    pub fn pointer(&self, n: usize) -> GuestVirt {
        GuestVirt(self.args.get(n).copied().unwrap_or(0))
    }

    /// Changes argument `n` in the registers, for a call that goes on later.
    pub fn set_argument<V: Vcpu>(&self, vcpu: &mut V, n: usize, value: u64) {
        let registers = if self.width == Width::Bits64 { WIDE } else { NARROW };
        if let Some(gpr) = registers.get(n) {
            vcpu.gprs_mut().set(*gpr, value);
        }
    }
}

/// The hypercall page: `mov eax, n; vmcall` (`vmmcall` on AMD); `ret`. `iret` is for PV guests.
#[must_use]
fn page(amd: bool) -> [u8; 4096] {
    let mut page = [0; 4096];
    for (number, entry) in page.chunks_exact_mut(HYPERCALL_ENTRY_SIZE).enumerate() {
        let call = if amd { 0xd9 } else { 0xc1 };
        let code = [0xb8, number as u8, 0, 0, 0, 0x0f, 0x01, call, 0xc3];
        if number as u64 == Hypercall::IRET.0 {
            entry[..2].copy_from_slice(&[0x0f, 0x0b]);
        } else {
            entry[..9].copy_from_slice(&code);
        }
    }
    page
}

impl Machine {
    /// The MSR that names the hypercall page: bits 63:12 are its address, 11:0 which page.
    pub(crate) fn write_hypercall_page(&self, value: u64) -> Result<(), Fault> {
        if value & 0xfff != 0 {
            return Err(Fault::GP0);
        }
        let page = page(self.cpuid.is_amd());
        self.ram.write_slice(GuestPhys(value), &page).map_err(|_| Fault::GP0)
    }

    /// Serves `xen_version(XENVER_version)` of a 64-bit caller, which is called to have an exit and nothing
    /// else: Linux looks at its events by it. False: it is another call.
    #[inline(always)]
    pub(crate) fn tell_version_at_once<V: Vcpu>(&self, vcpu: &mut V) -> bool {
        let gprs = vcpu.gprs();
        let asked =
            gprs.rax() == Hypercall::XEN_VERSION.0 && gprs.rdi() as u32 == VersionOp::VERSION.0;
        if !asked || self.xen.is_none() || code_bits(vcpu) != 64 || cpl(vcpu) != 0 {
            return false;
        }
        vcpu.gprs_mut().set_rax(VERSION.into());
        true
    }

    /// VMCALL or VMMCALL. True: RIP moves past it; false: all is done.
    #[inline(never)]
    pub(crate) fn hypercall<V: Vcpu, H: Host>(
        &self,
        cpu: &mut Cpu,
        vcpu: &mut V,
        host: &H,
    ) -> bool {
        let gprs = vcpu.gprs();
        let sends =
            gprs.rax() == Hypercall::EVENT_CHANNEL_OP.0 && gprs.rdi() as u32 == EventOp::SEND.0;
        if sends { self.send_at_once(cpu, vcpu, host) } else { self.any_hypercall(cpu, vcpu, host) }
    }

    /// As [`Machine::hypercall`], of any call.
    #[inline(never)]
    pub(super) fn any_hypercall<V: Vcpu, H: Host>(
        &self,
        cpu: &mut Cpu,
        vcpu: &mut V,
        host: &H,
    ) -> bool {
        let Some(xen) = &self.xen else {
            let resume = self.foreign_hypercall(vcpu, host);
            self.conclude(cpu, vcpu, resume);
            return false;
        };
        let width = if code_bits(vcpu) == 64 { Width::Bits64 } else { Width::Bits32 };
        let outcome = if vcpu.reg(SysReg::Cr0) & cr0::PE != 0 && cpl(vcpu) == 0 {
            let call = Call::new(xen, width, vcpu.gprs());
            self.serve_hypercall(cpu, vcpu, host, &call)
        } else {
            Errno::EPERM.into()
        };
        let Outcome::Done(value) = outcome else {
            return self.other_outcome(cpu, vcpu, host, width, outcome);
        };
        vcpu.gprs_mut().set_width(Gpr::Rax, width.bytes() as u8, value as u64);
        true
    }

    /// As [`Machine::hypercall`], of a call that does not just return.
    #[cold]
    #[inline(never)]
    fn other_outcome<V: Vcpu, H: Host>(
        &self,
        cpu: &mut Cpu,
        vcpu: &mut V,
        host: &H,
        width: Width,
        outcome: Outcome,
    ) -> bool {
        let (value, resume) = match outcome {
            Outcome::Done(value) => (Some(value), Resume::Next),
            Outcome::Block(value) => (Some(value), Resume::Park),
            Outcome::Yield(value) => {
                host.yield_turn();
                (Some(value), Resume::Next)
            }
            Outcome::Again => (None, Resume::Again),
            Outcome::PowerOff => (None, Resume::Stop(Why::PowerOff)),
            Outcome::Reset => (None, Resume::Stop(Why::Reset)),
            Outcome::Crashed(reason) => (None, Resume::Stop(Why::Crashed(reason as u8))),
        };
        if let Some(value) = value {
            vcpu.gprs_mut().set_width(Gpr::Rax, width.bytes() as u8, value as u64);
        }
        self.conclude(cpu, vcpu, resume);
        false
    }

    /// VMCALL or VMMCALL of a guest that does not find Xen.
    #[cold]
    fn foreign_hypercall<V: Vcpu, H: Host>(&self, vcpu: &mut V, host: &H) -> Resume {
        let wide = code_bits(vcpu) == 64;
        if vcpu.reg(SysReg::Cr0) & cr0::PE == 0 || cpl(vcpu) != 0 {
            return Resume::Raise(Fault::UD);
        }
        let value = match self.viridian_call(vcpu, wide) {
            Some(Outcome::Yield(value)) => {
                host.yield_turn();
                value
            }
            Some(Outcome::Done(value)) => value,
            _ => return Resume::Raise(Fault::UD),
        };
        vcpu.gprs_mut().set_width(Gpr::Rax, if wide { 8 } else { 4 }, value as u64);
        Resume::Next
    }

    /// Those that come often have functions of their own, so that this is but a jump to them.
    #[inline(always)]
    fn serve_hypercall<V: Vcpu, H: Host>(
        &self,
        cpu: &mut Cpu,
        vcpu: &mut V,
        host: &H,
        call: &Call<'_>,
    ) -> Outcome {
        match call.number {
            Hypercall::EVENT_CHANNEL_OP => self.event_channel_op(cpu, vcpu, host, call),
            Hypercall::XEN_VERSION => self.xen_version(vcpu, call),
            Hypercall::SCHED_OP => self.sched_op(cpu, vcpu, host, call),
            Hypercall::SET_TIMER_OP => self.set_timer_op(cpu, host, call),
            Hypercall::GRANT_TABLE_OP => self.grant_table_op(cpu, vcpu, host, call),
            _ => self.serve_other_hypercall(cpu, vcpu, host, call),
        }
    }

    #[inline(never)]
    fn serve_other_hypercall<V: Vcpu, H: Host>(
        &self,
        cpu: &mut Cpu,
        vcpu: &mut V,
        host: &H,
        call: &Call<'_>,
    ) -> Outcome {
        match call.number {
            Hypercall::VCPU_OP => self.vcpu_op(cpu, vcpu, host, call),
            Hypercall::MULTICALL => self.multicall(cpu, vcpu, host, call),
            Hypercall::MEMORY_OP => self.memory_op(vcpu, host, call),
            Hypercall::HVM_OP => self.hvm_op(vcpu, host, call).into(),
            Hypercall::CONSOLE_IO => self.console_io(vcpu, host, call).into(),
            Hypercall::VM_ASSIST => vm_assist(call).into(),
            Hypercall::SYSCTL | Hypercall::DOMCTL | Hypercall::PLATFORM_OP => Errno::EPERM.into(),
            // physdev_op among them: no interrupt of a device comes as an event.
            _ => match self.viridian_call(vcpu, call.width == Width::Bits64) {
                Some(outcome) => outcome,
                None => Errno::ENOSYS.into(),
            },
        }
    }

    /// `multicall(calls, nr_calls)`: several calls, each with its result. One that is cut into pieces has what is left in
    /// its entry, as in Xen.
    #[cold]
    #[inline(never)]
    fn multicall<V: Vcpu, H: Host>(
        &self,
        cpu: &mut Cpu,
        vcpu: &mut V,
        host: &H,
        call: &Call<'_>,
    ) -> Outcome {
        let Call { xen, width, args: [list, count, ..], .. } = *call;
        let count = count & 0xffff_ffff;
        let (step, word) = (MulticallEntry::size(width) as u64, width.bytes() as u64);
        let mut done = 0;
        while done < count.min(MULTICALL_BATCH) {
            let at = GuestVirt(list.wrapping_add(done * step));
            let mut entry: MulticallEntry = match self.claim(vcpu, at, width) {
                Ok(entry) => entry,
                Err(errno) => return errno.into(),
            };
            let [a, b, c, d, e, _] = entry.args.map(|arg| arg.0);
            let inner = Call { xen, width, number: Hypercall(entry.op.0), args: [a, b, c, d, e] };
            let own = *vcpu.gprs();
            for (place, arg) in inner.args.into_iter().enumerate() {
                inner.set_argument(vcpu, place, arg);
            }
            // No multicall in a multicall.
            let outcome = match inner.number {
                Hypercall::MULTICALL => Errno::EINVAL.into(),
                _ => self.serve_hypercall(cpu, vcpu, host, &inner),
            };
            let left = Call::new(xen, width, vcpu.gprs()).args;
            *vcpu.gprs_mut() = own;
            let told = match outcome {
                Outcome::Done(value) | Outcome::Block(value) | Outcome::Yield(value) => {
                    self.give(vcpu, GuestVirt(at.0.wrapping_add(word)), width, &Ulong(value as u64))
                }
                Outcome::Again => {
                    entry.args.iter_mut().zip(left).for_each(|(to, arg)| to.0 = arg);
                    self.give(vcpu, at, width, &entry)
                }
                Outcome::PowerOff | Outcome::Reset | Outcome::Crashed(_) => return outcome,
            };
            if let Err(errno) = told {
                return errno.into();
            }
            if outcome == Outcome::Again {
                break;
            }
            done += 1;
        }
        if count == done {
            return Outcome::Done(0);
        }
        call.set_argument(vcpu, 0, list.wrapping_add(done * step));
        call.set_argument(vcpu, 1, count - done);
        Outcome::Again
    }

    /// `set_timer_op(timeout)`: 0 stops it. A 32-bit caller gives it in two registers.
    fn set_timer_op<H: Host>(&self, cpu: &mut Cpu, host: &H, call: &Call<'_>) -> Outcome {
        let [low, high, ..] = call.args;
        let mut at = if call.width == Width::Bits64 { low } else { low | high << 32 };
        if at >> FAR_TIMEOUT != 0 {
            // As in Xen, for old kernels whose deadlines wrap: they have work to do, and hear of it soon.
            let now = self.now(host).0;
            if at >> 63 != 0 || at.saturating_sub(now) >> FAR_TIMEOUT != 0 {
                at = now.saturating_add(SOON);
            }
        }
        self.set_xen_timer(cpu, (at != 0).then_some(Nanos(at)));
        Outcome::Done(0)
    }

    /// `console_io(cmd, count, buffer)`: writes to the hypervisor's log; nothing is ever there to read.
    #[cold]
    #[inline(never)]
    fn console_io<V: Vcpu, H: Host>(
        &self,
        vcpu: &V,
        host: &H,
        call: &Call<'_>,
    ) -> Result<u64, Errno> {
        let [command, count, buffer, ..] = call.args;
        match ConsoleIo(command as u32) {
            ConsoleIo::WRITE => {
                let count = (count & 0xffff_ffff).min(CONSOLE_LIMIT);
                let mut done = 0;
                while done < count {
                    let mut piece = [0; CONSOLE_BATCH];
                    let len = (count - done).min(CONSOLE_BATCH as u64) as usize;
                    let at = GuestVirt(buffer.wrapping_add(done));
                    self.copy_from_guest(vcpu, at, &mut piece[..len])?;
                    piece[..len].iter().for_each(|byte| host.output(Output::Debug, *byte));
                    done += len as u64;
                }
                Ok(0)
            }
            ConsoleIo::READ if (count as i32) < 0 => Err(Errno::E2BIG),
            ConsoleIo::READ => Ok(0),
            _ => Err(Errno::ENOSYS),
        }
    }
}

/// `vm_assist(cmd, type)`. Only the run states' update flag matters to an HVM guest.
fn vm_assist(call: &Call<'_>) -> Result<u64, Errno> {
    let [command, kind, ..] = call.args;
    if kind as u32 != VMASST_RUNSTATE_UPDATE_FLAG {
        return Err(Errno::EINVAL);
    }
    let enable = match VmAssist(command as u32) {
        VmAssist::ENABLE => true,
        VmAssist::DISABLE => false,
        _ => return Err(Errno::ENOSYS),
    };
    call.xen.runstate_flag.store(enable, Ordering::Relaxed);
    Ok(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_entry_of_the_page_calls_its_number_by_the_vendors_instruction() {
        for (amd, last) in [(false, 0xc1), (true, 0xd9)] {
            let page = page(amd);
            let entry = |n: usize| &page[n * HYPERCALL_ENTRY_SIZE..][..9];
            assert_eq!(entry(17), [0xb8, 17, 0, 0, 0, 0x0f, 0x01, last, 0xc3]);
            assert_eq!(entry(127)[..2], [0xb8, 127]);
            assert_eq!(entry(23)[..2], [0x0f, 0x0b], "UD2");
        }
    }
}
