//! HVM parameters, and `HVMOP_*`. Xen public "hvm/params.h", "hvm/hvm_op.h".

use super::Xen;
use super::hypercall::Call;
use crate::Machine;
use crate::host::Host;
use arch::Vcpu;
use core::sync::atomic::Ordering;
use pvdrivers::abi::hvm_op::{GetMemType, GetTime, HvmOp, HvmParamArg, UpcallVector};
use pvdrivers::abi::hvm_params::{CallbackVia, HvmParam, PARAMS};
use pvdrivers::{DomId, Errno};

/// The first vector that an interrupt can have.
const FIRST_VECTOR: u8 = 16;

/// The parameters' values.
#[derive(Clone, Debug)]
pub struct Params {
    values: [u64; PARAMS as usize],
}

impl Default for Params {
    fn default() -> Self {
        let mut params = Params { values: [0; PARAMS as usize] };
        params.set(HvmParam::HPET_ENABLED, 1);
        params
    }
}

impl Params {
    /// The value that a guest reads.
    ///
    /// # Errors
    /// [`Errno::EINVAL`] for what does not exist, [`Errno::EPERM`] for what is only for the tools.
    pub fn get(&self, which: HvmParam) -> Result<u64, Errno> {
        let value = *self.values.get(which.0 as usize).ok_or(Errno::EINVAL)?;
        match which {
            HvmParam::CALLBACK_IRQ
            | HvmParam::STORE_PFN
            | HvmParam::STORE_EVTCHN
            | HvmParam::VM86_TSS
            | HvmParam::CONSOLE_PFN
            | HvmParam::CONSOLE_EVTCHN
            | HvmParam::VM_GENERATION_ID_ADDR
            | HvmParam::ALTP2M
            | HvmParam::X87_FIP_WIDTH
            | HvmParam::VM86_TSS_SIZED => Ok(value),
            _ => Err(refusal(which)),
        }
    }

    /// The guest sets a value.
    ///
    /// # Errors
    /// As [`get`](Params::get), and for what only the tools set.
    pub fn set_by_guest(&mut self, which: HvmParam, value: u64) -> Result<(), Errno> {
        let cell = self.values.get_mut(which.0 as usize).ok_or(Errno::EINVAL)?;
        match which {
            HvmParam::CALLBACK_IRQ => match CallbackVia::parse(value) {
                CallbackVia::None | CallbackVia::PciIntx { .. } => {}
                CallbackVia::Gsi(gsi) if gsi < 24 => {}
                CallbackVia::Vector(FIRST_VECTOR..) => {}
                _ => return Err(Errno::EINVAL),
            },
            HvmParam::X87_FIP_WIDTH if !matches!(value, 0 | 4 | 8) => return Err(Errno::EINVAL),
            // Nothing looks at these.
            HvmParam::VM86_TSS
            | HvmParam::VM86_TSS_SIZED
            | HvmParam::VM_GENERATION_ID_ADDR
            | HvmParam::STORE_EVTCHN
            | HvmParam::CONSOLE_EVTCHN
            | HvmParam::X87_FIP_WIDTH => {}
            _ => return Err(refusal(which)),
        }
        *cell = value;
        Ok(())
    }

    /// The hypervisor sets a value.
    pub fn set(&mut self, which: HvmParam, value: u64) {
        if let Some(cell) = self.values.get_mut(which.0 as usize) {
            *cell = value;
        }
    }

    /// How events reach the guest.
    #[must_use]
    pub fn callback(&self) -> CallbackVia {
        CallbackVia::parse(self.values[HvmParam::CALLBACK_IRQ.0 as usize])
    }
}

/// What is said of a parameter that a guest may not have: `EINVAL` for those that Xen has no more.
fn refusal(which: HvmParam) -> Errno {
    match which.0 {
        4 | 13 | 20..=26 | 30 => Errno::EINVAL,
        _ => Errno::EPERM,
    }
}

impl Machine {
    /// `hvm_op(op, arg)`.
    #[cold]
    #[inline(never)]
    pub(crate) fn hvm_op<V: Vcpu, H: Host>(
        &self,
        vcpu: &mut V,
        host: &H,
        call: &Call<'_>,
    ) -> Result<u64, Errno> {
        let Call { xen, width, .. } = *call;
        let at = call.pointer(1);
        match HvmOp(call.args[0] as u32) {
            HvmOp::SET_PARAM => {
                let arg: HvmParamArg = self.claim(vcpu, at, width)?;
                xen.own(arg.domid)?;
                let which = HvmParam(arg.index);
                xen.params.lock().set_by_guest(which, arg.value)?;
                if which == HvmParam::CALLBACK_IRQ {
                    self.set_callback(xen, host, call);
                }
                Ok(0)
            }
            HvmOp::GET_PARAM => {
                let arg: HvmParamArg = self.claim(vcpu, at, width)?;
                xen.own(arg.domid)?;
                let value = xen.params.lock().get(HvmParam(arg.index))?;
                self.give(vcpu, at, width, &HvmParamArg { value, ..arg })?;
                Ok(0)
            }
            HvmOp::SET_EVTCHN_UPCALL_VECTOR => {
                let arg: UpcallVector = self.claim(vcpu, at, width)?;
                if arg.vector < FIRST_VECTOR {
                    return Err(Errno::EINVAL);
                }
                let slot = xen.vcpus.get(arg.vcpu as usize).ok_or(Errno::ENOENT)?;
                slot.upcall_vector.store(arg.vector, Ordering::Release);
                // What was pending before there was a way to tell it is told now: it is told only once.
                self.announce(host, arg.vcpu as usize, true);
                Ok(0)
            }
            HvmOp::FLUSH_TLBS if at.0 != 0 => Err(Errno::EINVAL),
            HvmOp::FLUSH_TLBS => {
                host.flush();
                Ok(0)
            }
            HvmOp::GET_TIME => {
                self.give(vcpu, at, width, &GetTime { now: self.now(host).0 })?;
                Ok(0)
            }
            HvmOp::GET_MEM_TYPE => {
                let arg: GetMemType = self.claim(vcpu, at, width)?;
                xen.own(arg.domid)?;
                let ram = arg
                    .pfn
                    .checked_mul(4096)
                    .is_some_and(|at| self.ram.contains(arch::GuestPhys(at), 4096));
                self.give(
                    vcpu,
                    at,
                    width,
                    &GetMemType { mem_type: if ram { 0 } else { 2 }, ..arg },
                )?;
                Ok(0)
            }
            // A hint for shadow page tables, which do not exist here.
            HvmOp::PAGETABLE_DYING => Err(Errno::EINVAL),
            _ => Err(Errno::ENOSYS),
        }
    }

    /// The way of events to the guest changed.
    fn set_callback<H: Host>(&self, xen: &Xen, host: &H, call: &Call<'_>) {
        xen.set_width(call.width);
        let callback = xen.params.lock().callback();
        let vector = if let CallbackVia::Vector(vector) = callback { vector } else { 0 };
        let by_line = matches!(callback, CallbackVia::Gsi(_) | CallbackVia::PciIntx { .. });
        xen.by_line.store(by_line, Ordering::Release);
        xen.callback_vector.store(vector, Ordering::Release);
        self.write_wall_clock(xen);
        self.wake_all(host);
    }
}

impl Xen {
    /// Whether a domain's number in an argument means the caller: what an unprivileged guest may name.
    pub(crate) fn own(&self, domid: u16) -> Result<(), Errno> {
        let domid = DomId(domid);
        if domid == DomId::SELF || domid == self.domid {
            return Ok(());
        }
        let exists = self.hub.events.lock().usage(domid).is_some();
        Err(if exists { Errno::EPERM } else { Errno::ESRCH })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_guest_reads_its_rings_and_changes_only_its_callback() {
        let mut params = Params::default();
        params.set(HvmParam::STORE_PFN, 0xfeff8);
        assert_eq!(params.get(HvmParam::STORE_PFN), Ok(0xfeff8));
        assert_eq!(params.set_by_guest(HvmParam::STORE_PFN, 1), Err(Errno::EPERM));
        assert_eq!(params.get(HvmParam::IOREQ_PFN), Err(Errno::EPERM));
        assert_eq!(params.get(HvmParam(39)), Err(Errno::EINVAL));
        assert_eq!(params.set_by_guest(HvmParam(u32::MAX), 0), Err(Errno::EINVAL));
        for bad in [9 << 56, 2 << 56 | 15, 24] {
            assert_eq!(params.set_by_guest(HvmParam::CALLBACK_IRQ, bad), Err(Errno::EINVAL));
        }
        assert_eq!(params.callback(), CallbackVia::None);
        assert_eq!(params.set_by_guest(HvmParam::CALLBACK_IRQ, 2 << 56 | 0x31), Ok(()));
        assert_eq!(params.callback(), CallbackVia::Vector(0x31));
    }
}
