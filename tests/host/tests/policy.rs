//! What a guest may see and change: CPUID, MSRs, control registers.

use arch::control::{cr0, cr4, efer, rflags};
use arch::event::vector;
use arch::exit::CrAccess;
use arch::{Event, Exit, Gpr, SegReg, SysReg, Vcpu};
use host_tests::{Call, Guest, Mode, Setup};
use std::sync::{Mutex, Once};

fn cpuid(guest: &mut Guest, n: usize, leaf: u32, subleaf: u32) -> [u32; 4] {
    let vcpu = &mut guest.vcpus[n];
    vcpu.gprs.set_rax(leaf.into());
    vcpu.gprs.set_rcx(subleaf.into());
    vcpu.next_rip = Some(vcpu.rip.wrapping_add(2));
    assert_eq!(guest.exit_of(n, Exit::Cpuid), None);
    let gprs = &guest.vcpus[n].gprs;
    [gprs.rax(), gprs.rbx(), gprs.rcx(), gprs.rdx()].map(|value| {
        assert_eq!(value >> 32, 0, "upper halves are cleared");
        value as u32
    })
}

#[test]
fn cpuid_hides_what_is_not_virtualized_and_shows_what_the_board_adds() {
    let mut guest = Guest::with(Setup { vcpus: 4, ..Setup::default() });
    let [_, b, c, d] = cpuid(&mut guest, 2, 1, 0);
    assert_eq!(b >> 24, 2, "initial APIC ID");
    for bit in [3, 5, 6, 7, 8, 15] {
        assert_eq!(c >> bit & 1, 0, "ECX bit {bit}: MONITOR, VMX, SMX, EIST, TM2, PDCM");
    }
    for bit in [21, 24, 31] {
        assert_eq!(c >> bit & 1, 1, "ECX bit {bit}: x2APIC, TSC deadline, hypervisor");
    }
    assert_eq!(d >> 9 & 1, 1, "APIC");
    assert_eq!(cpuid(&mut guest, 0, 0x8000_0001, 0)[2] >> 2 & 1, 0, "SVM");
    assert_eq!(cpuid(&mut guest, 0, 0xa, 0), [0; 4], "performance counters");
    let [max, ..] = cpuid(&mut guest, 0, 0x4000_0000, 0);
    assert!(max >= 0x4000_0000);
    assert_eq!(cpuid(&mut guest, 0, 0x4fff_ffff, 0), [0; 4]);
}

#[test]
fn cpuid_follows_osxsave_and_the_apics_enable_bit() {
    let mut guest = Guest::new();
    assert_eq!(cpuid(&mut guest, 0, 1, 0)[2] >> 27 & 1, 0);
    guest.vcpus[0].set_reg(SysReg::Cr4, cr4::OSXSAVE);
    assert_eq!(cpuid(&mut guest, 0, 1, 0)[2] >> 27 & 1, 1);
    write(&mut guest, 0x1b, 0xfee0_0100).unwrap();
    assert_eq!(cpuid(&mut guest, 0, 1, 0)[3] >> 9 & 1, 0);
}

fn fault(guest: &mut Guest) -> Result<(), Event> {
    guest.vcpus[0].pending.take().map_or(Ok(()), Err)
}

fn read(guest: &mut Guest, msr: u32) -> Result<u64, Event> {
    let vcpu = &mut guest.vcpus[0];
    vcpu.gprs.set_rcx(msr.into());
    vcpu.next_rip = Some(vcpu.rip.wrapping_add(2));
    assert_eq!(guest.exit(Exit::Rdmsr), None);
    fault(guest)?;
    Ok(guest.vcpus[0].gprs.rax() | guest.vcpus[0].gprs.rdx() << 32)
}

fn write(guest: &mut Guest, msr: u32, value: u64) -> Result<(), Event> {
    let vcpu = &mut guest.vcpus[0];
    vcpu.gprs.set_rcx(msr.into());
    vcpu.gprs.set_rax(value & 0xffff_ffff | 0xdead << 32);
    vcpu.gprs.set_rdx(value >> 32);
    vcpu.next_rip = Some(vcpu.rip.wrapping_add(2));
    assert_eq!(guest.exit(Exit::Wrmsr), None);
    fault(guest)
}

const GP: Event = Event::exception(vector::GP, Some(0));

/// Keeps log lines that name an MSR.
struct Lines(Mutex<Vec<String>>);

static LINES: Lines = Lines(Mutex::new(Vec::new()));

impl log::Log for Lines {
    fn enabled(&self, _: &log::Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &log::Record<'_>) {
        self.0.lock().unwrap().push(record.args().to_string());
    }

    fn flush(&self) {}
}

#[test]
fn a_fault_pushes_the_resume_flag_and_a_trap_does_not() {
    for (raised, pushed) in [(vector::GP, rflags::RF), (vector::DB, 0), (vector::MC, 0)] {
        let mut guest = Guest::new();
        let (error_code, qualification) = ((raised == vector::GP).then_some(0), 0);
        let exit = match raised {
            vector::GP => {
                guest.vcpus[0].gprs.set_rcx(0xdead_0002);
                Exit::Rdmsr
            }
            _ => Exit::Exception { vector: raised, error_code, qualification },
        };
        assert_eq!(guest.exit(exit), None);
        assert_eq!(guest.vcpus[0].pending.map(|event| event.vector), Some(raised));
        assert_eq!(guest.vcpus[0].rflags & rflags::RF, pushed, "{raised}");
    }
}

#[test]
fn a_fault_that_ends_as_a_double_fault_leaves_the_resume_flag() {
    let mut guest = Guest::new();
    guest.vcpus[0].pending = Some(Event::exception(vector::NP, Some(0x40)));
    let exit = Exit::Exception { vector: vector::GP, error_code: Some(0), qualification: 0 };
    assert_eq!(guest.exit(exit), None);
    assert_eq!(guest.vcpus[0].pending, Some(Event::exception(vector::DF, Some(0))));
    assert_eq!(guest.vcpus[0].rflags & rflags::RF, 0, "an abort");
}

#[test]
fn an_unknown_msr_faults_each_time_and_is_logged_once() {
    static INIT: Once = Once::new();
    INIT.call_once(|| {
        log::set_logger(&LINES).unwrap();
        log::set_max_level(log::LevelFilter::Info);
    });
    let mut guest = Guest::new();
    let rip = guest.vcpus[0].rip;
    for _ in 0..3 {
        assert_eq!(read(&mut guest, 0xdead_0001), Err(GP));
        assert_eq!(write(&mut guest, 0xdead_0001, 1), Err(GP));
    }
    assert_eq!(guest.vcpus[0].rip, rip, "at the instruction");
    let lines = LINES.0.lock().unwrap();
    assert_eq!(lines.iter().filter(|line| line.contains("0xdead0001")).count(), 1);
}

#[test]
fn msrs_keep_what_is_legal_and_fault_on_the_rest() {
    let mut guest = Guest::new();
    for (msr, value) in [
        (0xc000_0081, 0x0023_0010_0000_0000),
        (0xc000_0082, 0xffff_ffff_8100_0000),
        (0xc000_0100, 0x7fff_0000_1234),
        (0xc000_0102, 0xffff_8880_0000_0000),
        (0x174, 0x10),
        (0x175, 0xffff_ffff_8200_0000),
        (0x277, 0x0007_0406_0007_0406),
        (0x2ff, 0xc06),
        (0x200, 0x8000_0006),
        (0x201, 0x7f_8000_0800),
        (0x250, 0x0606_0606_0606_0606),
    ] {
        write(&mut guest, msr, value).unwrap_or_else(|e| panic!("{msr:x}: {e:?}"));
        assert_eq!(read(&mut guest, msr), Ok(value), "{msr:x}");
    }
    for (msr, value) in [
        // Not canonical, reserved types, reserved bits, beyond the address width.
        (0xc000_0082, 0x8000_0000_0000),
        (0xc000_0101, 1 << 63),
        (0x175, 0x1234_0000_0000_0000),
        (0x277, 2),
        (0x2ff, 0x1000),
        (0x2ff, 2),
        (0x200, 1 << 39),
        (0x250, 0x0606_0606_0606_0602),
        (0xc000_0080, 1 << 12),
        (0xc000_0080, 1 << 1),
        (0x1b, 1 << 40),
        (0x1b, 0xfee0_0400),
        (0xfe, 0),
    ] {
        assert_eq!(write(&mut guest, msr, value), Err(GP), "{msr:x} = {value:x}");
    }
    let base = guest.vcpus[0].segment(SegReg::Fs).base;
    assert_eq!(base, 0x7fff_0000_1234);
}

#[test]
fn efer_keeps_lma_to_the_cpu_and_lme_from_changing_while_paging() {
    let mut guest = Guest::new();
    write(&mut guest, 0xc000_0080, efer::LME | efer::SCE | efer::NXE | efer::LMA).unwrap();
    assert_eq!(read(&mut guest, 0xc000_0080), Ok(efer::LME | efer::SCE | efer::NXE));
    guest.set_mode(0, Mode::Long);
    assert_eq!(write(&mut guest, 0xc000_0080, 0), Err(GP));
}

fn to_cr(guest: &mut Guest, cr: u8, value: u64) -> Result<(), Event> {
    let vcpu = &mut guest.vcpus[0];
    vcpu.gprs.set_rbx(value);
    vcpu.next_rip = Some(vcpu.rip.wrapping_add(3));
    assert_eq!(guest.exit(Exit::Cr(CrAccess::Write { cr, gpr: Gpr::Rbx })), None);
    fault(guest)
}

#[test]
fn control_registers_refuse_illegal_combinations() {
    let mut guest = Guest::new();
    assert_eq!(to_cr(&mut guest, 0, cr0::PG), Err(GP), "paging without protection");
    assert_eq!(to_cr(&mut guest, 0, cr0::NW), Err(GP), "NW without CD");
    assert_eq!(to_cr(&mut guest, 4, cr4::VMXE), Err(GP));
    assert_eq!(to_cr(&mut guest, 4, 1 << 31), Err(GP));
    assert_eq!(to_cr(&mut guest, 4, cr4::PCIDE), Err(GP), "PCID outside long mode");
    assert_eq!(to_cr(&mut guest, 8, 16), Err(GP));
    // Into long mode: LME, PAE, then PG sets LMA; PAE cannot be lost then.
    write(&mut guest, 0xc000_0080, efer::LME).unwrap();
    guest.set_mode(0, Mode::Protected);
    guest.vcpus[0].set_reg(SysReg::Efer, efer::LME);
    assert_eq!(to_cr(&mut guest, 0, cr0::PE | cr0::PG), Err(GP), "without PAE");
    to_cr(&mut guest, 4, cr4::PAE).unwrap();
    to_cr(&mut guest, 0, cr0::PE | cr0::PG).unwrap();
    assert_eq!(guest.vcpus[0].reg(SysReg::Efer), efer::LME | efer::LMA);
    assert_eq!(to_cr(&mut guest, 4, 0), Err(GP));
}

#[test]
fn lmsw_sets_protection_but_never_clears_it_and_clts_clears_ts() {
    let mut guest = Guest::new();
    guest.vcpus[0].next_rip = Some(0x8003);
    assert_eq!(guest.exit(Exit::Cr(CrAccess::Lmsw(0xfff9))), None);
    assert_eq!(guest.vcpus[0].reg(SysReg::Cr0) & 0xf, 9);
    assert_eq!(guest.exit(Exit::Cr(CrAccess::Lmsw(0))), None);
    assert_eq!(guest.vcpus[0].reg(SysReg::Cr0) & 0xf, 1);
    guest.vcpus[0].set_reg(SysReg::Cr0, cr0::PE | cr0::TS | cr0::ET);
    assert_eq!(guest.exit(Exit::Cr(CrAccess::Clts)), None);
    assert_eq!(guest.vcpus[0].reg(SysReg::Cr0), cr0::PE | cr0::ET);
}

#[test]
fn xsetbv_takes_what_cpuid_offers() {
    let mut guest = Guest::new();
    let mut xsetbv = |value: u64, index: u64| {
        let vcpu = &mut guest.vcpus[0];
        vcpu.gprs.set_rax(value);
        vcpu.gprs.set_rdx(0);
        vcpu.gprs.set_rcx(index);
        vcpu.next_rip = Some(0x8003);
        assert_eq!(guest.exit(Exit::Xsetbv), None);
        let result = fault(&mut guest);
        guest.vcpus[0].set_reg(SysReg::Cr4, cr4::OSXSAVE);
        result
    };
    assert_eq!(xsetbv(7, 0), Err(Event::exception(vector::UD, None)), "without OSXSAVE");
    for (value, index) in [(6, 0), (5, 0), (0xf, 0), (7, 1)] {
        assert_eq!(xsetbv(value, index), Err(GP), "{value:x} {index}");
    }
    assert_eq!(xsetbv(7, 0), Ok(()));
    assert!(guest.host.take_calls().contains(&Call::SetXcr0(7)));
}

#[test]
fn the_tsc_reads_the_same_by_instruction_and_by_msr() {
    let mut guest = Guest::new();
    guest.pass(12_345);
    assert_eq!(read(&mut guest, 0x10), Ok(12_345));
    guest.vcpus[0].next_rip = Some(0x8002);
    assert_eq!(guest.exit(Exit::Rdtsc), None);
    assert_eq!((guest.vcpus[0].gprs.rax(), guest.vcpus[0].gprs.rdx()), (12_345, 0));
    write(&mut guest, 0x10, 1 << 40).unwrap();
    assert_eq!(read(&mut guest, 0x10), Ok(1 << 40));
}

#[test]
fn instructions_that_a_guest_must_not_have_are_undefined() {
    let mut guest = Guest::new();
    for exit in [Exit::Undefined, Exit::Hypercall] {
        assert_eq!(guest.exit(exit), None);
        assert_eq!(fault(&mut guest), Err(Event::exception(vector::UD, None)), "{exit:?}");
    }
    // No performance counter exists, so every index is a wrong one (SDM 2B "RDPMC").
    assert_eq!(guest.exit(Exit::Rdpmc), None);
    assert_eq!(fault(&mut guest), Err(Event::exception(vector::GP, Some(0))));
}

#[test]
fn an_intercepted_instruction_under_the_trap_flag_ends_in_a_single_step() {
    let mut guest = Guest::new();
    let flags = guest.vcpus[0].rflags();
    guest.vcpus[0].set_rflags(flags | arch::control::rflags::TF);
    cpuid(&mut guest, 0, 0, 0);
    assert_eq!(guest.vcpus[0].pending_event(), Some(Event::exception(vector::DB, None)));
    assert_eq!(guest.vcpus[0].reg(SysReg::Dr6) >> 14 & 1, 1, "DR6.BS");
}

#[test]
fn processors_that_our_firmware_does_not_run_on_have_its_memory_types_too() {
    let mut guest = Guest::with(Setup { vcpus: 2, ..Setup::default() });
    let mut types = |msr: u32| {
        let vcpu = &mut guest.vcpus[1];
        vcpu.gprs.set_rcx(msr.into());
        vcpu.next_rip = Some(vcpu.rip.wrapping_add(2));
        assert_eq!(guest.exit_of(1, Exit::Rdmsr), None);
        guest.vcpus[1].gprs.rax()
    };
    assert_eq!(types(0x2ff), 0xc06);
    assert_eq!(types(0x250), 0x0606_0606);
    assert_eq!(types(0x259), 0);
    assert_eq!(types(0x200), 0xe000_0000);
}
