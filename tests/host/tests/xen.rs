//! Xen's interface as a guest uses it: discovery, hypercalls, shared info, limits.

use arch::{Event, Exit, GuestPhys, Vcpu};
use host_tests::xen::{ARG, SHARED, XenGuest};
use host_tests::{Call, Guest, Mode, Setup};
use machine::host::Backing;
use machine::xen::Limits;
use pvdrivers::DomId;
use pvdrivers::Errno;
use pvdrivers::abi::shared_info::{SharedInfo, VcpuInfo};
use pvdrivers::abi::{Hypercall, Layout, Width};
use pvdrivers::abi::{event_channel, grant_table, vcpu, version, xen};

const BOTH: [Width; 2] = [Width::Bits64, Width::Bits32];

#[test]
fn a_guest_without_xen_finds_no_xen() {
    let mut guest = Guest::new();
    guest.set_mode(0, Mode::Long);
    assert_eq!(guest.exit(Exit::Hypercall), None);
    assert_eq!(guest.vcpus[0].pending, Some(Event::exception(6, None)), "#UD");
    guest.vcpus[0].gprs.set_rax(0x4000_0000);
    guest.vcpus[0].next_rip = Some(2);
    assert_eq!(guest.exit(Exit::Cpuid), None);
    assert_ne!(guest.vcpus[0].gprs.rbx(), 0x566e_6558);
}

#[test]
fn the_hypercall_page_is_written_where_the_msr_says() {
    let mut xen = XenGuest::new(Width::Bits64, 1);
    let vcpu = &mut xen.guest.vcpus[0];
    vcpu.gprs.set_rcx(0x4000_0000);
    vcpu.gprs.set_rax(0x30_0000);
    vcpu.gprs.set_rdx(0);
    vcpu.next_rip = Some(2);
    assert_eq!(xen.guest.exit(Exit::Wrmsr), None);
    assert_eq!(xen.guest.load(0x30_0000 + 17 * 32, 8), 0xc101_0f00_0000_11b8, "VMCALL on Intel");
    // A second page there is not, nor a page outside RAM.
    for bad in [0x30_0001, 0x7000_0000] {
        xen.guest.vcpus[0].gprs.set_rax(bad);
        assert_eq!(xen.guest.exit(Exit::Wrmsr), None);
        assert_eq!(xen.guest.vcpus[0].pending.take(), Some(Event::exception(13, Some(0))));
    }
}

#[test]
fn xen_version_tells_4_17_and_its_features_in_both_widths() {
    for width in BOTH {
        let mut xen = XenGuest::new(width, 1);
        let rip = xen.guest.vcpus[0].rip;
        assert_eq!(xen.call(Hypercall::XEN_VERSION, &[0, 0]), 0x4_0011);
        assert_eq!(xen.guest.vcpus[0].rip, rip + 3);
        let op = version::VersionOp::GET_FEATURES.0.into();
        let arg = version::FeatureInfo { submap_idx: 0, submap: 0 };
        let (result, info) = xen.call_with(Hypercall::XEN_VERSION, &[op], arg);
        assert_eq!((result, info.submap & (1 << 8 | 1 << 9)), (0, 1 << 8 | 1 << 9));
        let hole = 0xd000_0000;
        assert_eq!(xen.call(Hypercall::XEN_VERSION, &[op, hole]), Errno::EFAULT.code());
        assert_eq!(xen.call(Hypercall(63), &[0]), Errno::ENOSYS.code());
        assert_eq!(xen.call(Hypercall(u64::MAX), &[0]), Errno::ENOSYS.code());
        assert_eq!(xen.call(Hypercall::DOMCTL, &[ARG]), Errno::EPERM.code());
    }
}

#[test]
fn programs_in_ring_3_and_real_mode_may_not_call() {
    let mut xen = XenGuest::new(Width::Bits64, 1);
    let stack = xen.guest.vcpus[0].segment(arch::SegReg::Ss);
    let user = arch::Segment { access: stack.access | 3 << 5, ..stack };
    xen.guest.vcpus[0].set_segment(arch::SegReg::Ss, user);
    let code = xen.guest.vcpus[0].segment(arch::SegReg::Cs);
    let user = arch::Segment { access: code.access | 3 << 5, selector: 3, ..code };
    xen.guest.vcpus[0].set_segment(arch::SegReg::Cs, user);
    assert_eq!(xen.call(Hypercall::XEN_VERSION, &[0, 0]), Errno::EPERM.code());
    xen.guest.set_mode(0, Mode::Real);
    xen.width = Width::Bits32;
    assert_eq!(xen.call(Hypercall::XEN_VERSION, &[0, 0]), Errno::EPERM.code());
}

#[test]
fn the_shared_info_page_is_mapped_and_has_the_wall_clock() {
    for width in BOTH {
        let mut xen = XenGuest::new(width, 1);
        xen.guest.host.take_calls();
        xen.set_up_events(0xf3);
        let mapped = xen
            .guest
            .host
            .take_calls()
            .into_iter()
            .any(|call| matches!(call, Call::Map(SHARED, 4096, Backing::Xen(0), _)));
        assert!(mapped);
        let page = xen.guest.shared_info();
        assert_eq!(page.read_u32(SharedInfo::of(width).wc_sec), Some(1_700_000_000));
    }
}

#[test]
fn a_moved_vcpu_info_tells_the_time_of_the_board() {
    let mut xen = XenGuest::new(Width::Bits64, 1);
    xen.guest.host.tsc.set(5_000_000);
    xen.set_up_events(0xf3);
    let at = xen.register_vcpu_info(0) + VcpuInfo::of(Width::Bits64).time as u64;
    let (version, mul, shift) =
        (xen.guest.load(at, 4), xen.guest.load(at + 24, 4), xen.guest.load(at + 28, 1));
    assert_eq!(version % 2, 0);
    assert_eq!(xen.guest.load(at + 29, 1), 1, "stable");
    // The clock of these tests runs at 1 GHz: a tick is a nanosecond.
    assert_eq!(((1_000_000u64 << shift) * mul) >> 32, 1_000_000);
    assert_eq!((xen.guest.load(at + 8, 8), xen.guest.load(at + 16, 8)), (0, 0));
    // It moves once.
    let again = vcpu::RegisterVcpuInfo { mfn: SHARED >> 12, offset: 64, reserved: 0 };
    let op = vcpu::VcpuOp::REGISTER_VCPU_INFO.0.into();
    let (result, _) = xen.call_with(Hypercall::VCPU_OP, &[op, 0], again);
    assert_eq!(result, Errno::EINVAL.code());
    let (result, _) = xen.call_with(Hypercall::VCPU_OP, &[op, 9], again);
    assert_eq!(result, Errno::ENOENT.code());
}

#[test]
fn the_smallest_argument_is_found_wherever_it_lies() {
    let mut xen = XenGuest::new(Width::Bits64, 1);
    xen.set_up_events(0xf3);
    let port = xen.bind_ipi(0);
    // In one word of memory, across two of them, and across two pages.
    for at in [ARG, ARG + 4, ARG + 5, ARG + 0xffe] {
        xen.guest.store(at, 4, port.into());
        let op = event_channel::EventOp::SEND.0.into();
        assert_eq!(xen.call(Hypercall::EVENT_CHANNEL_OP, &[op, at]), 0, "{at:#x}");
        xen.guest.store(at, 4, 0);
        let error = Errno::EINVAL.code();
        assert_eq!(xen.call(Hypercall::EVENT_CHANNEL_OP, &[op, at]), error, "{at:#x}");
    }
    let op = event_channel::EventOp::SEND.0.into();
    let nowhere = 0x7000_0000_0000;
    assert_eq!(xen.call(Hypercall::EVENT_CHANNEL_OP, &[op, nowhere]), Errno::EFAULT.code());
}

#[test]
fn a_multicall_of_many_goes_on_where_it_stopped() {
    for width in BOTH {
        let mut xen = XenGuest::new(width, 1);
        let size = xen::MulticallEntry::size(width) as u64;
        for n in 0..40 {
            let op = pvdrivers::abi::Ulong(Hypercall::XEN_VERSION.0);
            let entry = xen::MulticallEntry { op, ..Default::default() };
            let mut bytes = [0; 64];
            entry.store(&mut bytes, width).unwrap();
            let at = GuestPhys(ARG + n * size);
            xen.guest.machine.ram.write_slice(at, &bytes[..size as usize]).unwrap();
        }
        let rip = xen.guest.vcpus[0].rip;
        xen.begin(0, Hypercall::MULTICALL, &[ARG, 40]);
        assert_eq!(xen.guest.exit(Exit::Hypercall), None);
        assert_eq!(xen.guest.vcpus[0].rip, rip, "the rest is still to be done");
        assert_eq!(xen.guest.exit(Exit::Hypercall), None);
        assert_eq!((xen.guest.vcpus[0].rip, xen.result(0)), (rip + 3, 0));
        let word = width.bytes() as u64;
        for n in 0..40 {
            let result = xen.guest.load(ARG + n * size + word, width.bytes() as u8);
            assert_eq!(result, 0x4_0011, "{n}");
        }
    }
}

#[test]
fn a_guest_has_no_more_of_the_interface_than_its_configuration_gives() {
    let limits = Limits { max_port: 4, grant_frames: 3, grants_v2: false, ..Limits::default() };
    let mut guest = Guest::with(Setup { xen: true, limits, ..Setup::default() });
    guest.set_mode(0, Mode::Long);
    let mut xen = XenGuest { guest, width: Width::Bits64 };
    // Also after a reset.
    for _ in 0..2 {
        assert_eq!([0; 4].map(|vcpu| xen.bind_ipi(vcpu)), [1, 2, 3, 4]);
        let arg = event_channel::BindIpi { vcpu: 0, port: 0 };
        let (result, _) = xen.event(event_channel::EventOp::BIND_IPI, arg);
        assert_eq!(result, Errno::ENOSPC.code());
        let op = grant_table::GrantOp::QUERY_SIZE.0.into();
        let size = grant_table::QuerySize { dom: DomId::SELF.0, ..Default::default() };
        xen.guest.machine.ram.write_slice(GuestPhys(ARG), &[0; 16]).unwrap();
        let mut bytes = [0; 16];
        size.store(&mut bytes, Width::Bits64).unwrap();
        xen.guest.machine.ram.write_slice(GuestPhys(ARG), &bytes).unwrap();
        assert_eq!(xen.call(Hypercall::GRANT_TABLE_OP, &[op, ARG, 1]), 0);
        assert_eq!(xen.guest.load(ARG + 8, 4), 3, "max_nr_frames");
        let op = grant_table::GrantOp::SET_VERSION.0.into();
        xen.guest.store(ARG, 4, 2);
        assert_eq!(xen.call(Hypercall::GRANT_TABLE_OP, &[op, ARG, 1]), Errno::ENOSYS.code());
        assert!(xen.guest.machine.power_on(&xen.guest.host));
    }
}

#[test]
fn a_grant_operation_s_argument_may_lie_anywhere_in_both_widths() {
    for width in [Width::Bits64, Width::Bits32] {
        let mut xen = XenGuest::new(width, 1);
        let len = grant_table::Copy::size(width);
        // In whole words of a page, beside them, at the end of a page and over it.
        for at in [0, 4, 1, 0x1000 - len as u64, 0xff8, 0xffc].map(|offset| ARG + offset) {
            let own = |frame| grant_table::CopyPtr {
                frame: pvdrivers::abi::Ulong(frame),
                domid: DomId::SELF.0,
                offset: 8,
            };
            let (source, dest) = (own(0x300), own(0x301));
            let arg = grant_table::Copy { source, dest, len: 21, flags: 0, status: 1 };
            let mut bytes = [0xee; 48];
            arg.store(&mut bytes, width).unwrap();
            let ram = xen.guest.machine.ram;
            ram.write_slice(GuestPhys(at), &bytes).unwrap();
            ram.write_u64(GuestPhys(0x30_0010), at).unwrap();
            assert_eq!(xen.call(Hypercall::GRANT_TABLE_OP, &[5, at, 1]), 0);
            assert_eq!(ram.read_u64(GuestPhys(0x30_1010)), Some(at), "{width:?} {at:#x}");
            ram.read(GuestPhys(at), &mut bytes).unwrap();
            assert_eq!(
                grant_table::Copy::parse(&bytes, width),
                Ok(grant_table::Copy { status: 0, ..arg })
            );
            assert!(bytes[len..].iter().all(|byte| *byte == 0xee), "what lies behind it stays");
        }
    }
}
