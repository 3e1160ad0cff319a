//! Hyper-V's interface, as Windows uses it: what it finds, its pages in memory, its MSRs, and Xen behind it.

use arch::{Exit, Fault, GuestPhys, Vcpu};
use host_tests::{Guest, Mode, Setup};
use machine::viridian::Groups;

const GUEST_OS_ID: u32 = 0x4000_0000;
const HYPERCALL: u32 = 0x4000_0001;
const PAGE: u64 = 0x5000;

fn guest(groups: Groups, xen: bool) -> Guest {
    let viridian = Some(groups);
    let mut guest = Guest::with(Setup { vcpus: 2, xen, viridian, ..Setup::default() });
    guest.set_mode(0, Mode::Protected);
    guest
}

/// RDMSR, or the fault that it ends in.
fn read(guest: &mut Guest, n: usize, msr: u32) -> Result<u64, ()> {
    guest.vcpus[n].gprs.set_rcx(msr.into());
    guest.vcpus[n].next_rip = Some(guest.vcpus[n].rip + 2);
    assert_eq!(guest.exit_of(n, Exit::Rdmsr), None);
    match guest.vcpus[n].pending.take() {
        None => Ok(guest.vcpus[n].gprs.rax() | guest.vcpus[n].gprs.rdx() << 32),
        Some(event) => {
            assert_eq!((event.vector, event.error_code), (13, Some(0)));
            Err(())
        }
    }
}

/// WRMSR, or the fault that it ends in.
fn write(guest: &mut Guest, msr: u32, value: u64) -> Result<(), ()> {
    let gprs = &mut guest.vcpus[0].gprs;
    gprs.set_rcx(msr.into());
    gprs.set_rax(value & 0xffff_ffff);
    gprs.set_rdx(value >> 32);
    guest.vcpus[0].next_rip = Some(guest.vcpus[0].rip + 2);
    assert_eq!(guest.exit(Exit::Wrmsr), None);
    guest.vcpus[0].pending.take().map_or(Ok(()), |_| Err(()))
}

fn cpuid(guest: &mut Guest, leaf: u32) -> [u64; 4] {
    guest.vcpus[0].gprs.set_rax(leaf.into());
    guest.vcpus[0].gprs.set_rcx(0);
    guest.vcpus[0].next_rip = Some(guest.vcpus[0].rip + 2);
    assert_eq!(guest.exit(Exit::Cpuid), None);
    let gprs = &guest.vcpus[0].gprs;
    [gprs.rax(), gprs.rbx(), gprs.rcx(), gprs.rdx()]
}

#[test]
fn its_leaves_come_first_and_xen_s_behind_them() {
    let mut guest = guest(Groups::DEFAULTS, true);
    assert_eq!(cpuid(&mut guest, 0x4000_0001)[0], 0x3123_7648);
    let [last, name, ..] = cpuid(&mut guest, 0x4000_0100);
    assert_eq!((last, name), (0x4000_0105, u32::from_le_bytes(*b"XenV").into()));
    assert_eq!(cpuid(&mut guest, 0x4000_0102)[..2], [1, 0x4000_0200]);
    // Each has its MSR: Xen's page has a call for each number.
    assert_eq!(write(&mut guest, 0x4000_0200, PAGE), Ok(()));
    assert_eq!(guest.load(PAGE, 5), 0x00_0000_00b8);
    assert_eq!(guest.load(PAGE + 32, 5), 0x00_0000_01b8);
    assert_eq!(write(&mut guest, GUEST_OS_ID, 0x8100_0000_0000), Ok(()));
    assert_eq!(guest.load(PAGE, 5), 0x00_0000_00b8);
}

#[test]
fn without_xen_there_is_only_hyper_v() {
    let mut guest = guest(Groups::DEFAULTS, false);
    assert_eq!(cpuid(&mut guest, 0x4000_0000)[1], u32::from_le_bytes(*b"Micr").into());
    assert_eq!(cpuid(&mut guest, 0x4000_0100), [0; 4]);
    assert_eq!(write(&mut guest, 0x4000_0200, PAGE), Err(()));
}

#[test]
fn the_hypercall_page_is_there_once_the_guest_has_told_its_name() {
    let mut guest = guest(Groups::BASE, false);
    guest.store(PAGE + 8, 8, u64::MAX);
    assert_eq!(write(&mut guest, HYPERCALL, PAGE | 1), Ok(()));
    assert_eq!(read(&mut guest, 0, HYPERCALL), Ok(PAGE));
    assert_eq!(guest.load(PAGE + 8, 8), u64::MAX, "nobody asked");
    assert_eq!(write(&mut guest, GUEST_OS_ID, 0x1234), Ok(()));
    assert_eq!(write(&mut guest, HYPERCALL, PAGE | 1), Ok(()));
    let code = [0x0d, 0, 0, 0, 0x80, 0x0f, 0x01, 0xc1, 0xc3, 0, 0, 0, 0, 0, 0, 0];
    let mut found = [0; 16];
    guest.machine.ram.read(GuestPhys(PAGE), &mut found).unwrap();
    assert_eq!(found, code);
    // Beyond memory there is none, and nothing breaks.
    assert_eq!(write(&mut guest, HYPERCALL, 1 << 40 | 1), Ok(()));
    // Locked, it stays.
    assert_eq!(write(&mut guest, HYPERCALL, PAGE | 3), Ok(()));
    assert_eq!(write(&mut guest, HYPERCALL, 0), Ok(()));
    assert_eq!(read(&mut guest, 0, HYPERCALL), Ok(PAGE | 3));
    // A reset takes all back.
    assert!(guest.machine.power_on(&guest.host));
    assert_eq!(read(&mut guest, 0, HYPERCALL), Ok(0));
    assert_eq!(read(&mut guest, 0, GUEST_OS_ID), Ok(0));
}

/// VMCALL with these in EAX and EDX; what they are afterwards.
fn call(guest: &mut Guest, eax: u64) -> Option<(u64, u64)> {
    guest.vcpus[0].gprs.set_rax(eax);
    guest.vcpus[0].gprs.set_rdx(7);
    guest.vcpus[0].next_rip = Some(guest.vcpus[0].rip + 3);
    assert_eq!(guest.exit(Exit::Hypercall), None);
    match guest.vcpus[0].pending.take() {
        None => Some((guest.vcpus[0].gprs.rax(), guest.vcpus[0].gprs.rdx())),
        Some(event) => {
            assert_eq!(event.vector, Fault::UD.vector);
            None
        }
    }
}

#[test]
fn a_long_spin_gives_the_turn_away_and_other_calls_are_unknown() {
    for xen in [false, true] {
        let mut guest = guest(Groups::BASE, xen);
        assert_eq!(call(&mut guest, 0x8000_0008), Some((0, 0)), "xen {xen}");
        assert_eq!(call(&mut guest, 0x8000_005c), Some((2, 0)));
        // Without the page's mark it is Xen's, or nobody's.
        let bare = call(&mut guest, 0x38);
        assert_eq!(bare.map(|(eax, _)| eax as i32), xen.then_some(-38));
        // In long mode the code is in RCX.
        guest.set_mode(0, Mode::Long);
        guest.vcpus[0].gprs.set_rcx(0x1_0000_0008);
        assert_eq!(call(&mut guest, 0x8000_0000), Some((0, 7)));
        // Not for programs, nor in real mode.
        guest.set_mode(0, Mode::Real);
        let refused = call(&mut guest, 0x8000_0008);
        assert_eq!(refused.map(|(eax, _)| eax as i32), xen.then_some(-1));
    }
}

#[test]
fn time_is_counted_in_100_ns_and_the_page_says_the_same_of_the_tsc() {
    let mut guest = guest(Groups::all(), false);
    guest.pass(123_456_700);
    let count = read(&mut guest, 0, 0x4000_0020).unwrap();
    assert_eq!(count, 1_234_567);
    assert_eq!(write(&mut guest, 0x4000_0020, 0), Err(()));
    assert_eq!(read(&mut guest, 0, 0x4000_0022), Ok(1_000_000_000));
    assert_eq!(read(&mut guest, 0, 0x4000_0023), Ok(1_000_000_000));
    assert_eq!(write(&mut guest, 0x4000_0021, PAGE | 1), Ok(()));
    let tsc = read(&mut guest, 0, 0x10).unwrap();
    assert_eq!(guest.load(PAGE, 4), 1, "a sequence number that is valid");
    let (scale, offset) = (guest.load(PAGE + 8, 8), guest.load(PAGE + 16, 8));
    let by_page = ((u128::from(tsc) * u128::from(scale)) >> 64) as u64 + offset;
    assert!(by_page.abs_diff(count) <= 1, "{by_page} {count}");
}

#[test]
fn the_local_apic_is_reached_by_msrs() {
    let mut guest = guest(Groups::DEFAULTS, false);
    guest.enable_lapic(0);
    guest.enable_lapic(1);
    assert_eq!(write(&mut guest, 0x4000_0072, 0x20), Ok(()));
    assert_eq!(read(&mut guest, 0, 0x4000_0072), Ok(0x20));
    assert_eq!(guest.cpus[0].lapic.tpr(), 0x20);
    assert_eq!(guest.vcpus[0].reg(arch::SysReg::Cr8), 2);
    // To the second vCPU, by its number in bits 63:56.
    assert_eq!(write(&mut guest, 0x4000_0071, 1 << 56 | 0x41), Ok(()));
    assert_eq!(read(&mut guest, 0, 0x4000_0071), Ok(1 << 56 | 0x41));
    guest.cpus[1].activity = machine::Activity::Running;
    guest.vcpus[1].set_rflags(0x202);
    assert_eq!(guest.enter(1), Some(Some(arch::Event::interrupt(0x41))));
    // To itself, taken and ended.
    assert_eq!(write(&mut guest, 0x4000_0071, 1 << 18 | 0x51), Ok(()));
    guest.vcpus[0].set_rflags(0x202);
    assert_eq!(guest.enter(0), Some(Some(arch::Event::interrupt(0x51))));
    assert_eq!(in_service(&mut guest), 1 << 17);
    assert_eq!(write(&mut guest, 0x4000_0070, 0), Ok(()));
    assert_eq!(in_service(&mut guest), 0);
    assert_eq!(read(&mut guest, 0, 0x4000_0070), Err(()), "EOI is only written");
    // The page beside it begins as zeros.
    guest.store(PAGE, 8, u64::MAX);
    assert_eq!(write(&mut guest, 0x4000_0073, PAGE | 1), Ok(()));
    assert_eq!((read(&mut guest, 0, 0x4000_0073), guest.load(PAGE, 8)), (Ok(PAGE | 1), 0));
    assert_eq!(read(&mut guest, 1, 0x4000_0073), Ok(0), "each vCPU has its own");
}

/// Vectors 40h to 5Fh in service.
fn in_service(guest: &mut Guest) -> u32 {
    let now = guest.machine.now(&guest.host);
    guest.cpus[0].lapic.read(0x12, now)
}

#[test]
fn the_number_of_the_vcpu_is_told_and_crash_words_are_kept() {
    let mut guest = guest(Groups::DEFAULTS, false);
    assert_eq!([0, 1].map(|n| read(&mut guest, n, 0x4000_0002)), [Ok(0), Ok(1)]);
    assert_eq!(write(&mut guest, 0x4000_0002, 5), Err(()));
    for n in 0..5 {
        assert_eq!(write(&mut guest, 0x4000_0100 + n, u64::from(n) << 40), Ok(()));
        assert_eq!(read(&mut guest, 0, 0x4000_0100 + n), Ok(u64::from(n) << 40));
    }
    assert_eq!(read(&mut guest, 0, 0x4000_0105), Ok(1 << 63));
    assert_eq!(write(&mut guest, 0x4000_0105, 1 << 63), Ok(()));
    assert_eq!(write(&mut guest, 0x4000_0105, 0), Ok(()));
}

#[test]
fn what_no_group_offers_faults_and_any_value_is_harmless() {
    let mut bare = guest(Groups::BASE, false);
    for msr in [0x4000_0003, 0x4000_0020, 0x4000_0021, 0x4000_0022, 0x4000_0073, 0x4000_0100] {
        assert_eq!(read(&mut bare, 0, msr), Err(()), "{msr:x}");
        assert_eq!(write(&mut bare, msr, 1), Err(()), "{msr:x}");
    }
    let mut full = guest(Groups::all(), true);
    assert_eq!(write(&mut full, GUEST_OS_ID, 1), Ok(()));
    for msr in 0x4000_0000..0x4000_0300 {
        for value in [u64::MAX, 0, 1, 1 << 51 | 1, 0xffff_f001, 0xfff] {
            let _ = write(&mut full, msr, value);
            let _ = read(&mut full, 0, msr);
        }
    }
    // The start of memory may have been written over: that is the guest's own affair.
    let mut none = Guest::with(Setup::default());
    assert_eq!(read(&mut none, 0, GUEST_OS_ID), Err(()));
    assert_eq!(call(&mut none, 0x8000_0008), None);
}
