//! A guest that starts by Xen's PVH protocol: how its vCPUs start, what it finds in memory, and what is not there.

use arch::control::{cr0, rflags};
use arch::{Access, Event, Exit, GuestPhys, SegReg, Segment, SysReg, Vcpu, Why};
use devmodel::apicmsg::{DeliveryMode, Message};
use host_tests::{Call, Guest, Setup};
use machine::host::{Backing, Output};
use machine::pvh::Pvh;
use pvdrivers::abi::memory::{MemoryMap, MemoryMapEntry, MemoryOp};
use pvdrivers::abi::vcpu::VcpuOp;
use pvdrivers::abi::{Hypercall, Layout, Width};

const MIB: u64 = 1 << 20;
/// Where the kernel is, and begins.
const KERNEL: u64 = 2 * MIB;

/// A 64-bit executable of one segment that holds `code` and 4 KiB of zeros, and Xen's note.
fn kernel(code: &[u8]) -> Vec<u8> {
    const NOTE: usize = 64 + 2 * 56;
    const CODE: usize = NOTE + 24;
    let mut file = vec![0; CODE];
    let mut put = |at: usize, bytes: &[u8]| file[at..at + bytes.len()].copy_from_slice(bytes);
    put(0, b"\x7fELF\x02\x01\x01");
    put(16, &[2, 0, 62, 0]);
    put(32, &[64]);
    put(54, &[56, 0, 2, 0]);
    let words =
        |bytes: &[u64]| bytes.iter().flat_map(|word| word.to_le_bytes()).collect::<Vec<_>>();
    let size = code.len() as u64;
    put(64, &words(&[1, CODE as u64, 0, KERNEL, size, size + 4096]));
    put(64 + 56, &words(&[4, NOTE as u64, 0, 0, 24]));
    put(NOTE, &[4, 0, 0, 0, 8, 0, 0, 0, 18, 0, 0, 0]);
    put(NOTE + 12, b"Xen\0");
    put(NOTE + 16, &words(&[KERNEL]));
    file.extend_from_slice(code);
    file
}

fn guest(vcpus: usize) -> Guest {
    let image = kernel(&[0x90; 64]).leak();
    let command_line = "console=hvc0".into();
    let pvh = Some(Pvh { image, initrd: b"an initrd", command_line, board: false });
    Guest::with(Setup { low: 4 * MIB, high: 2 * MIB, vcpus, xen: true, pvh, ..Setup::default() })
}

/// The same file in place of a PC's firmware: it begins at its header's entry.
fn firmware() -> Guest {
    let mut image = kernel(&[0x90; 64]);
    image[24..28].copy_from_slice(&(KERNEL as u32 + 8).to_le_bytes());
    let pvh =
        Some(Pvh { image: image.leak(), initrd: b"", command_line: String::new(), board: true });
    Guest::with(Setup { low: 4 * MIB, high: 2 * MIB, xen: true, pvh, ..Setup::default() })
}

/// Power-on as after a shutdown for a reboot.
fn again(guest: &mut Guest) {
    for n in 0..guest.vcpus.len() {
        guest.machine.reset_vcpu(&mut guest.cpus[n], &mut guest.vcpus[n]);
    }
    assert!(guest.machine.power_on(&guest.host));
}

#[test]
fn the_first_vcpu_starts_in_flat_protected_mode_with_ebx_at_the_record() {
    let mut guest = guest(2);
    for _ in 0..2 {
        let vcpu = &guest.vcpus[0];
        assert_eq!((vcpu.rip, vcpu.reg(SysReg::Cr0)), (KERNEL, cr0::ET | cr0::PE));
        assert_eq!((vcpu.reg(SysReg::Cr4), vcpu.reg(SysReg::Efer)), (0, 0));
        assert_eq!(vcpu.rflags() & (rflags::IF | rflags::TF | rflags::VM), 0);
        let flat = |reg, access| {
            let Segment { base, limit, access: found, .. } = vcpu.segment(reg);
            assert_eq!((base, limit, found), (0, u32::MAX, access), "{reg:?}");
        };
        flat(SegReg::Cs, 0xc09b);
        [SegReg::Ds, SegReg::Es, SegReg::Ss].into_iter().for_each(|reg| flat(reg, 0xc093));
        let task = vcpu.segment(SegReg::Tr);
        assert_eq!((task.base, task.limit, task.access), (0, 0x67, 0x8b));
        let info = vcpu.gprs().rbx();
        assert_eq!(guest.load(info, 4), 0x336e_c578);
        assert_eq!(guest.load(guest.load(info + 24, 8), 8), u64::from_le_bytes(*b"console="));
        assert_eq!(guest.load(KERNEL, 8), 0x9090_9090_9090_9090);
        assert_eq!(guest.load(KERNEL + 64, 8), 0, "what the file lacks");
        // The second waits for a start-up, as on any machine.
        assert!(guest.enter(0).is_some() && guest.enter(1).is_none());
        // A reboot finds the kernel as it was, whatever has become of it.
        for at in [KERNEL, KERNEL + 64, info, guest.load(info + 24, 8)] {
            guest.store(at, 8, u64::MAX);
        }
        guest.vcpus[0].gprs.set_rbx(0);
        again(&mut guest);
    }
}

#[test]
fn no_port_but_xen_s_debug_console_answers() {
    let mut guest = guest(1);
    for port in (0..=u16::MAX).filter(|port| *port != 0xe9) {
        for width in [1, 2, 4] {
            assert_eq!(guest.outp(port, width, 0x1234_5678), None, "{port:x}");
            let ones = u32::MAX >> (32 - 8 * width);
            assert_eq!(guest.inp(port, width), ones, "{port:x}");
        }
    }
    for letter in *b"ok\n" {
        assert_eq!(guest.outp(0xe9, 1, letter.into()), None);
    }
    assert_eq!(guest.host.text(Output::Debug), "ok\n");
    guest.pass(1_000_000_000);
    assert!(guest.machine.is_settled());
    assert_eq!(guest.enter(0), Some(None), "nothing interrupts");
}

#[test]
fn memory_is_ram_without_a_hole_and_beyond_it_is_nothing() {
    let mut guest = guest(1);
    let maps = {
        again(&mut guest);
        guest.host.take_calls()
    };
    let ram = |from, bytes| Call::Map(from, bytes, Backing::Ram, arch::Perm::RWX);
    assert!(maps.contains(&ram(0, 4 * MIB)) && maps.contains(&ram(1 << 32, 2 * MIB)));
    let others = maps.iter().filter(|call| matches!(call, Call::Map(_, _, backing, _) if !matches!(backing, Backing::Ram | Backing::Xen(_))));
    assert_eq!(others.count(), 0);
    // mov eax, [ebx]
    guest.store(KERNEL, 8, 0x0000_0000_9090_038b);
    for at in [0xb_8000, 4 * MIB, 0xe000_0000, 0xfec0_0000, 0xfed0_0000, 0xffff_0000] {
        guest.vcpus[0].set_rip(KERNEL);
        guest.vcpus[0].gprs.set_rbx(at);
        guest.vcpus[0].gprs.set_rax(0);
        if at < 4 * MIB {
            // RAM where a PC has its screen: nothing traps there.
            guest.store(at, 4, 7);
            assert_eq!(guest.load(at, 4), 7);
            continue;
        }
        assert_eq!(guest.touch(at, Access::READ), None);
        assert_eq!(guest.vcpus[0].gprs.rax(), 0xffff_ffff, "{at:x}");
        assert_eq!(guest.vcpus[0].rip, KERNEL + 2);
    }
}

#[test]
fn the_hypercall_s_memory_map_is_the_record_s() {
    let mut guest = guest(1);
    let info = guest.vcpus[0].gprs().rbx();
    let (map, count) = (guest.load(info + 40, 8), guest.load(info + 48, 4));
    const ARG: u64 = 0x1000;
    let mut bytes = [0; 16];
    let buffer = arch::GuestVirt(0x2000);
    let arg = MemoryMap { nr_entries: 128, buffer };
    arg.store(&mut bytes, Width::Bits32).unwrap();
    guest.machine.ram.write_slice(GuestPhys(ARG), &bytes).unwrap();
    let gprs = &mut guest.vcpus[0].gprs;
    gprs.set_rax(Hypercall::MEMORY_OP.0);
    gprs.set_rbx(MemoryOp::MEMORY_MAP.0.into());
    gprs.set_rcx(ARG);
    guest.vcpus[0].next_rip = Some(KERNEL + 3);
    assert_eq!(guest.exit(Exit::Hypercall), None);
    assert_eq!(guest.vcpus[0].gprs.rax() as u32, 0);
    assert_eq!(guest.load(ARG, 4), count);
    assert_eq!(count, 4);
    for n in 0..count {
        let (told, found) = (map + 24 * n, 0x2000 + MemoryMapEntry::SIZE as u64 * n);
        for (at, width) in [(0, 8), (8, 8), (16, 4)] {
            assert_eq!(guest.load(told + at, width), guest.load(found + at, width));
        }
    }
    // The last piece begins at 4 GiB.
    assert_eq!(guest.load(map + 72, 8), 1 << 32);
}

#[test]
fn memory_is_cached_without_a_firmware_to_say_so() {
    let mut guest = guest(1);
    guest.vcpus[0].gprs.set_rcx(0x2ff);
    guest.vcpus[0].next_rip = Some(KERNEL + 2);
    assert_eq!(guest.exit(Exit::Rdmsr), None);
    assert_eq!(guest.vcpus[0].gprs.rax(), 0x806);
}

#[test]
fn the_firmware_s_trap_is_a_port_like_any_other() {
    let mut guest = guest(1);
    guest.vcpus[0].next_rip = Some(KERNEL + 2);
    assert_eq!(guest.exit(Exit::Out { port: bios::TRAP_PORT, width: 1 }), None);
    assert_eq!(guest.vcpus[0].rip, KERNEL + 2);
    assert_eq!(guest.vcpus[0].pending, None);
}

#[test]
fn the_last_vcpu_that_halts_with_interrupts_closed_switches_the_guest_off() {
    let mut guest = guest(2);
    guest.machine.send(&guest.host, &message(DeliveryMode::StartUp, 1));
    assert!(guest.enter(1).is_some());
    let halt = |guest: &mut Guest, vcpu: usize, flags| {
        guest.vcpus[vcpu].set_rflags(2 | flags);
        guest.vcpus[vcpu].next_rip = Some(KERNEL + 1);
        guest.exit_of(vcpu, Exit::Hlt)
    };
    assert_eq!(halt(&mut guest, 0, 0), None, "the other one still runs");
    assert_eq!(guest.enter(0), None);
    assert_eq!(halt(&mut guest, 1, rflags::IF), None, "an interrupt can wake it");
    guest.machine.send(&guest.host, &message(DeliveryMode::Nmi, 0));
    assert_eq!(guest.enter(0), Some(Some(Event::NMI)));
    assert_eq!(halt(&mut guest, 1, 0), None, "the first is back");
    // `VCPUOP_up` by the first brings the second back behind its HLT.
    let gprs = &mut guest.vcpus[0].gprs;
    gprs.set_rax(Hypercall::VCPU_OP.0);
    gprs.set_rbx(VcpuOp::UP.0.into());
    gprs.set_rcx(1);
    guest.vcpus[0].next_rip = Some(KERNEL + 3);
    assert_eq!(guest.exit(Exit::Hypercall), None);
    assert_eq!(guest.vcpus[0].gprs.rax() as u32, 0);
    assert_eq!((guest.enter(1), guest.vcpus[1].rip), (Some(None), KERNEL + 1));
    assert_eq!(halt(&mut guest, 1, 0), None, "the first still runs");
    assert_eq!(halt(&mut guest, 0, 0), Some(Why::PowerOff));
    again(&mut guest);
    assert_eq!(halt(&mut guest, 0, 0), Some(Why::PowerOff), "the second was not started");
}

fn message(mode: DeliveryMode, dest: u32) -> Message {
    Message { mode, vector: 1, dest, logical: false, level: false }
}

#[test]
fn an_elf_file_in_place_of_firmware_starts_the_same_way_with_the_pc_around_it() {
    let mut guest = firmware();
    for _ in 0..2 {
        let vcpu = &guest.vcpus[0];
        assert_eq!((vcpu.rip, vcpu.reg(SysReg::Cr0)), (KERNEL + 8, cr0::ET | cr0::PE));
        assert_eq!(guest.load(KERNEL + 8, 8), 0x9090_9090_9090_9090);
        let info = vcpu.gprs().rbx();
        assert_eq!(guest.load(info, 4), 0x336e_c578);
        assert_eq!(guest.load(info + 32, 8), 0, "the tables are for the firmware to make");
        // RAM has its hole for the screen: 640 KiB, from 1 MiB on, from 4 GiB on.
        let map = guest.load(info + 40, 8);
        let pieces = (0..guest.load(info + 48, 4)).map(|n| guest.load(map + 24 * n, 8));
        assert_eq!(pieces.collect::<Vec<_>>(), [0, MIB, 1 << 32]);
        // The PC is there: both interrupt controllers' masks, the PCI host bridge, the HPET.
        assert_eq!(guest.outp(0x21, 1, 0xa5), None);
        assert_eq!(guest.inp(0x21, 1), 0xa5);
        assert_eq!(guest.outp(0xcf8, 4, 0x8000_0000), None);
        assert_eq!(guest.inp(0xcfc, 4), 0x1237_8086);
        guest.store(KERNEL, 2, 0xff);
        again(&mut guest);
    }
}
