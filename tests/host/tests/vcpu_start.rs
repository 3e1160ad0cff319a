//! vCPUs that start by `VCPUOP_initialise` and `VCPUOP_up`.

use arch::{Exit, Gpr, GuestPhys, SegReg, SysReg, Vcpu};
use devmodel::apicmsg::{DeliveryMode, Message};
use host_tests::{Guest, Mode, Setup};
use machine::Activity;
use pvdrivers::Errno;
use pvdrivers::abi::vcpu::{HvmX86_32, HvmX86_64, VcpuOp};
use pvdrivers::abi::{Hypercall, Layout, Width};

/// Where the context is.
const ARG: u64 = 0x20_0000;
const MODES: [Mode; 2] = [Mode::Long, Mode::Protected];

fn guest(mode: Mode) -> Guest {
    let mut guest = Guest::with(Setup { xen: true, vcpus: 3, ..Setup::default() });
    guest.set_mode(0, mode);
    guest
}

fn operate(guest: &mut Guest, op: VcpuOp, which: u64) -> i64 {
    let vcpu = &mut guest.vcpus[0];
    let wide = vcpu.reg(SysReg::Efer) != 0;
    let gprs = &mut vcpu.gprs;
    gprs.set_rax(Hypercall::VCPU_OP.0);
    let args = if wide { [Gpr::Rdi, Gpr::Rsi] } else { [Gpr::Rbx, Gpr::Rcx] };
    gprs.set(args[0], op.0.into());
    gprs.set(args[1], which);
    gprs.set_rdx(ARG);
    vcpu.next_rip = Some(vcpu.rip);
    assert_eq!(guest.exit(Exit::Hypercall), None);
    let rax = guest.vcpus[0].gprs.rax();
    if wide { rax as i64 } else { i64::from(rax as u32 as i32) }
}

/// Gives a context of `mode` to vCPU `which`.
fn initialise<T: Layout>(guest: &mut Guest, which: u64, mode: u64, regs: &T) -> i64 {
    let mut bytes = [0; 120];
    regs.store(&mut bytes, Width::Bits64).unwrap();
    guest.store(ARG, 8, mode);
    guest.machine.ram.write_slice(GuestPhys(ARG + 8), &bytes).unwrap();
    operate(guest, VcpuOp::INITIALISE, which)
}

fn flat() -> HvmX86_32 {
    HvmX86_32 {
        gprs: [1, 2, 3, 4, 5, 6, 7, 8],
        eip: 0x8000,
        eflags: 0x202,
        cr0: 1,
        limits: [u32::MAX, u32::MAX, u32::MAX, u32::MAX, 0x67],
        attributes: [0xc9a, 0xc92, 0xc93, 0, 0x89],
        bases: [0, 0x1000, 0, 0, 0],
        ..HvmX86_32::default()
    }
}

fn long() -> HvmX86_64 {
    HvmX86_64 {
        gprs: [1, 2, 3, 4, 5, 6, 7, 8],
        rip: 0xffff_8000_0000_1000,
        rflags: 0,
        cr0: 0x8000_0011,
        cr3: 0x1000,
        cr4: 0x20,
        efer: 0x100,
    }
}

#[test]
fn a_vcpu_starts_with_the_registers_that_it_was_given() {
    for mode in MODES {
        let mut guest = guest(mode);
        assert_eq!(operate(&mut guest, VcpuOp::UP, 1), Errno::EINVAL.code(), "not made ready");
        assert_eq!(initialise(&mut guest, 1, 0, &flat()), 0);
        assert_eq!(initialise(&mut guest, 2, 1, &long()), 0);
        for which in [1, 2] {
            assert_eq!(guest.enter(which), None, "it waits for VCPUOP_up");
            assert_eq!(operate(&mut guest, VcpuOp::IS_UP, which as u64), 0);
            assert_eq!(operate(&mut guest, VcpuOp::UP, which as u64), 0);
            assert_eq!(operate(&mut guest, VcpuOp::IS_UP, which as u64), 1);
            assert_eq!(guest.enter(which), Some(None));
            assert_eq!(guest.cpus[which].activity, Activity::Running);
            let vcpu = &guest.vcpus[which];
            let gprs: Vec<u64> = Gpr::ALL[..8].iter().map(|gpr| vcpu.gprs.get(*gpr)).collect();
            assert_eq!(gprs, [1, 2, 3, 4, 5, 6, 7, 8]);
        }
        let vcpu = &guest.vcpus[1];
        assert_eq!((vcpu.rip(), vcpu.rflags(), vcpu.reg(SysReg::Cr0)), (0x8000, 0x202, 0x11));
        let access = |reg| vcpu.segment(reg).access;
        assert_eq!([SegReg::Cs, SegReg::Ds, SegReg::Tr].map(access), [0xc09b, 0xc093, 0x8b]);
        assert_eq!(access(SegReg::Es) & arch::Segment::UNUSABLE, arch::Segment::UNUSABLE);
        assert_eq!(vcpu.segment(SegReg::Ds).base, 0x1000);
        let vcpu = &guest.vcpus[2];
        assert_eq!((vcpu.rip(), vcpu.reg(SysReg::Cr3)), (0xffff_8000_0000_1000, 0x1000));
        assert_eq!(vcpu.reg(SysReg::Efer), 0x500, "LMA is the CPU's");
        assert_eq!(vcpu.segment(SegReg::Cs).access, 0xa09b);
    }
}

#[test]
fn it_is_made_ready_once_until_init_or_a_reset() {
    let mut guest = guest(Mode::Long);
    let exists = Errno::EEXIST.code();
    assert_eq!(initialise(&mut guest, 0, 0, &flat()), exists, "it runs");
    assert_eq!(initialise(&mut guest, 3, 0, &flat()), Errno::ENOENT.code());
    assert_eq!(initialise(&mut guest, 1, 0, &flat()), 0);
    assert_eq!(initialise(&mut guest, 1, 0, &flat()), exists);
    let send = |guest: &mut Guest, mode| {
        let message = Message { dest: 1, logical: false, mode, vector: 8, level: false };
        guest.machine.send(&guest.host, &message);
        guest.enter(1)
    };
    assert_eq!(send(&mut guest, DeliveryMode::StartUp), None, "it waits for VCPUOP_up alone");
    assert_eq!(send(&mut guest, DeliveryMode::Init), None);
    assert_eq!(operate(&mut guest, VcpuOp::UP, 1), Errno::EINVAL.code());
    assert_eq!(initialise(&mut guest, 1, 0, &flat()), 0);
    assert!(guest.machine.power_on(&guest.host));
    assert_eq!(operate(&mut guest, VcpuOp::UP, 1), Errno::EINVAL.code());
    assert_eq!(initialise(&mut guest, 1, 0, &flat()), 0);
    // The first vCPU may go down at once: there is another one.
    assert_eq!(operate(&mut guest, VcpuOp::UP, 1), 0);
    assert_eq!(operate(&mut guest, VcpuOp::DOWN, 0), 0);
}

#[test]
fn registers_that_no_vcpu_can_start_with_are_refused() {
    type Change<T> = fn(&mut T);
    let mut guest = guest(Mode::Long);
    let changes: [Change<HvmX86_32>; 19] = [
        |regs| regs.pad1 = 1,
        |regs| regs.pad2[2] = 1,
        |regs| regs.attributes[0] = 0,
        |regs| regs.attributes[0] = 0xc93,
        |regs| regs.attributes[1] = 0xc12,
        |regs| regs.attributes[1] = 0xc98,
        |regs| regs.attributes[2] = 0,
        |regs| regs.attributes[2] = 0xcf3,
        |regs| regs.attributes[3] = 0xcf3,
        |regs| regs.attributes[3] = 0x1c93,
        |regs| regs.attributes[4] = 0,
        |regs| regs.attributes[4] = 0x82,
        |regs| regs.limits[4] = 0x10_0000,
        |regs| (regs.limits[0], regs.eip) = (0xffff, 0x1_0000),
        |regs| regs.efer = 0x400,
        |regs| regs.cr0 = 0x8000_0000,
        |regs| regs.cr4 = 1 << 13,
        |regs| regs.efer = 1 << 12,
        |regs| (regs.efer, regs.cr0) = (0x100, 0x8000_0001),
    ];
    for (n, change) in changes.iter().enumerate() {
        let mut regs = flat();
        change(&mut regs);
        assert_eq!(initialise(&mut guest, 1, 0, &regs), Errno::EINVAL.code(), "change {n}");
    }
    let changes: [Change<HvmX86_64>; 7] = [
        |regs| regs.rip = 1 << 47,
        |regs| regs.cr0 = 0x11,
        |regs| regs.cr4 = 0,
        |regs| regs.efer = 0,
        |regs| regs.efer = 0x1100,
        |regs| regs.cr3 = 1 << 60,
        |regs| regs.cr0 = 0x8000_0010,
    ];
    for (n, change) in changes.iter().enumerate() {
        let mut regs = long();
        change(&mut regs);
        assert_eq!(initialise(&mut guest, 1, 1, &regs), Errno::EINVAL.code(), "change {n}");
    }
    for mode in [2, 1 << 32, 1 << 32 | 1] {
        assert_eq!(initialise(&mut guest, 1, mode, &long()), Errno::EINVAL.code());
    }
    // Nothing of that has left a trace.
    assert_eq!(operate(&mut guest, VcpuOp::UP, 1), Errno::EINVAL.code());
    assert_eq!(initialise(&mut guest, 1, 1, &long()), 0);
}
