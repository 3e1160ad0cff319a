//! A guest that uses Xen's interface: its calls, as its code would make them.

use crate::{Call, Guest, Mode, Setup};
use arch::{Exit, GuestPhys};
use pvdrivers::DomId;
use pvdrivers::abi::{Hypercall, Layout, Width};
use pvdrivers::abi::{event_channel, hvm_op, hvm_params, memory, vcpu};

/// Where arguments of hypercalls are.
pub const ARG: u64 = 0x20_0000;
/// Where guests map their shared info page.
pub const SHARED: u64 = 0x21_0000;

/// A guest that finds Xen, and calls it.
pub struct XenGuest {
    /// The machine.
    pub guest: Guest,
    /// Of its code.
    pub width: Width,
}

impl XenGuest {
    /// A guest of so many vCPUs, in protected or long mode as `width` says.
    pub fn new(width: Width, vcpus: usize) -> XenGuest {
        let mut guest = Guest::with(Setup { xen: true, vcpus, ..Setup::default() });
        for n in 0..vcpus {
            let mode = if width == Width::Bits64 { Mode::Long } else { Mode::Protected };
            guest.set_mode(n, mode);
        }
        XenGuest { guest, width }
    }

    /// VMCALL of vCPU `n`. What it returns.
    pub fn call_of(&mut self, n: usize, number: Hypercall, args: &[u64]) -> i64 {
        self.begin(n, number, args);
        assert_eq!(self.guest.exit_of(n, Exit::Hypercall), None);
        self.result(n)
    }

    /// Registers of vCPU `n` as before the VMCALL that makes a call.
    pub fn begin(&mut self, n: usize, number: Hypercall, args: &[u64]) {
        let vcpu = &mut self.guest.vcpus[n];
        vcpu.gprs.set_rax(number.0);
        for (place, arg) in args.iter().enumerate() {
            let gprs = &mut vcpu.gprs;
            match (self.width, place) {
                (Width::Bits64, 0) => gprs.set_rdi(*arg),
                (Width::Bits64, 1) => gprs.set_rsi(*arg),
                (Width::Bits64, 2) => gprs.set_rdx(*arg),
                (Width::Bits32, 0) => gprs.set_rbx(*arg),
                (Width::Bits32, 1) => gprs.set_rcx(*arg),
                (Width::Bits32, 2) => gprs.set_rdx(*arg),
                _ => panic!("more arguments than these tests use"),
            }
        }
        vcpu.next_rip = Some(vcpu.rip.wrapping_add(3));
    }

    /// What vCPU `n` has in RAX or EAX, as a number with a sign.
    pub fn result(&self, n: usize) -> i64 {
        let rax = self.guest.vcpus[n].gprs.rax();
        if self.width == Width::Bits64 { rax as i64 } else { i64::from(rax as u32 as i32) }
    }

    /// VMCALL of the first vCPU. What it returns.
    pub fn call(&mut self, number: Hypercall, args: &[u64]) -> i64 {
        self.call_of(0, number, args)
    }

    /// A call with a structure at its end; the structure as the call left it.
    pub fn call_with<T: Layout>(&mut self, number: Hypercall, args: &[u64], arg: T) -> (i64, T) {
        let mut bytes = [0; 128];
        let len = T::size(self.width);
        arg.store(&mut bytes, self.width).unwrap();
        self.guest.machine.ram.write_slice(GuestPhys(ARG), &bytes[..len]).unwrap();
        let mut all = args.to_vec();
        all.push(ARG);
        let result = self.call(number, &all);
        self.guest.machine.ram.read(GuestPhys(ARG), &mut bytes[..len]).unwrap();
        (result, T::parse(&bytes, self.width).unwrap())
    }

    /// An operation on event channels; its structure as the call left it.
    pub fn event<T: Layout>(&mut self, op: event_channel::EventOp, arg: T) -> (i64, T) {
        self.call_with(Hypercall::EVENT_CHANNEL_OP, &[op.0.into()], arg)
    }

    /// `HVMOP_set_param` of the guest itself.
    pub fn set_param(&mut self, which: hvm_params::HvmParam, value: u64) -> i64 {
        let arg = hvm_op::HvmParamArg { domid: DomId::SELF.0, pad: 0, index: which.0, value };
        self.call_with(Hypercall::HVM_OP, &[hvm_op::HvmOp::SET_PARAM.0.into()], arg).0
    }

    /// Maps the shared info page, as Linux does, and says by which vector events come.
    pub fn set_up_events(&mut self, vector: u8) {
        let arg = memory::AddToPhysmap {
            domid: DomId::SELF.0,
            space: memory::MapSpace::SHARED_INFO.0,
            gpfn: pvdrivers::abi::Ulong(SHARED >> 12),
            ..Default::default()
        };
        let op = memory::MemoryOp::ADD_TO_PHYSMAP.0.into();
        assert_eq!(self.call_with(Hypercall::MEMORY_OP, &[op], arg).0, 0);
        let value = 2 << 56 | u64::from(vector);
        assert_eq!(self.set_param(hvm_params::HvmParam::CALLBACK_IRQ, value), 0);
    }

    /// Moves vCPU `n`'s `vcpu_info` into RAM; where it is.
    pub fn register_vcpu_info(&mut self, n: u64) -> u64 {
        let at = SHARED + 0x1000 + 64 * n;
        let arg = vcpu::RegisterVcpuInfo { mfn: at >> 12, offset: at as u32 & 0xfff, reserved: 0 };
        let op = vcpu::VcpuOp::REGISTER_VCPU_INFO.0.into();
        assert_eq!(self.call_with(Hypercall::VCPU_OP, &[op, n], arg).0, 0);
        at
    }

    /// What others said of this domain's events is carried out, as a hypervisor would.
    pub fn announce(&mut self) -> Vec<(usize, bool)> {
        let mut all = Vec::new();
        for call in self.guest.host.take_calls() {
            if let Call::Announce(dom, vcpu, upcall) = call {
                assert_eq!(dom, DomId(1));
                self.guest.machine.announce(&self.guest.host, vcpu, upcall);
                all.push((vcpu, upcall));
            }
        }
        self.guest.host.take_calls();
        all
    }

    /// A new port by which the guest calls `vcpu`.
    pub fn bind_ipi(&mut self, vcpu: u32) -> u32 {
        let arg = event_channel::BindIpi { vcpu, port: 0 };
        let (result, arg) = self.event(event_channel::EventOp::BIND_IPI, arg);
        assert_eq!(result, 0);
        arg.port
    }

    /// Sends through a port.
    pub fn send(&mut self, port: u32) -> i64 {
        self.event(event_channel::EventOp::SEND, event_channel::PortArg { port }).0
    }
}
