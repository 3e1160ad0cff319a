//! Disks by every way that guests read them: the firmware, PIO, bus-master DMA, packets; at once
//! and later.

use arch::exit::StringIo;
use arch::{Exit, SegReg, Segment, SysReg, Vcpu, Why};
use bios::Service;
use devmodel::blk::{BlkError, BlkOp, Media};
use host_tests::{Call, Guest, Mode, Setup};
use machine::{Activity, Drive};

/// A disk whose 32-bit words count up.
fn image(sectors: usize) -> Vec<u8> {
    (0..sectors as u32 * 128).flat_map(u32::to_le_bytes).collect()
}

/// hda of 8 MiB, hdc a CD.
fn guest() -> Guest {
    let mut setup = Setup::default();
    let (disk, cd) = (image(16384), image(400));
    setup.drives[0] = Some((Drive::Disk(Media::disk(16384, "QM1")), disk));
    setup.drives[2] = Some((Drive::Cdrom(Some(Media::cdrom(100))), cd));
    Guest::with(setup)
}

fn trap(guest: &mut Guest) {
    assert_eq!(guest.exit(Exit::Out { port: bios::TRAP_PORT, width: 1 }), None);
}

/// CF of the flags that IRET will restore.
fn carry(guest: &Guest) -> bool {
    guest.load(0x7004, 2) & 1 != 0
}

/// INT 13h, AH=42h: `count` sectors from `lba` to 3000h:0000h.
fn extended_read(guest: &mut Guest, lba: u64, count: u64) {
    guest.at_trap(Service::Int13);
    guest.store(0x600, 8, 0x3000_0000 << 32 | count << 16 | 0x10);
    guest.store(0x608, 8, lba);
    let vcpu = &mut guest.vcpus[0];
    vcpu.set_segment(SegReg::Ds, Segment::real_data(0));
    vcpu.gprs.set_rsi(0x600);
    vcpu.gprs.set_rax(0x4200);
    vcpu.gprs.set_rdx(0x80);
}

#[test]
fn int_13h_42h_reads_straight_into_ram_and_moves_past_the_out() {
    let mut guest = guest();
    extended_read(&mut guest, 100, 3);
    let rip = guest.vcpus[0].rip;
    trap(&mut guest);
    assert_eq!(guest.vcpus[0].gprs.rax() >> 8 & 0xff, 0);
    assert!(!carry(&guest));
    assert_eq!(guest.vcpus[0].rip, rip + 2);
    assert_eq!((guest.load(0x3_0000, 4), guest.load(0x3_05fc, 4)), (12800, 12800 + 383));
    assert_eq!(guest.load(0x3_0600, 4), 0, "not one byte more");
}

#[test]
fn int_13h_02h_reads_by_cylinder_head_and_sector() {
    let mut guest = guest();
    guest.at_trap(Service::Int13);
    let vcpu = &mut guest.vcpus[0];
    vcpu.set_segment(SegReg::Es, Segment::real_data(0x3000));
    vcpu.gprs.set_rax(0x0201);
    vcpu.gprs.set_rbx(0x200);
    vcpu.gprs.set_rcx(0x0002);
    vcpu.gprs.set_rdx(0x0080);
    trap(&mut guest);
    assert!(!carry(&guest));
    assert_eq!(guest.load(0x3_0200, 4), 128, "cylinder 0, head 0, sector 2");
}

#[test]
fn a_read_beyond_the_end_or_of_a_disk_that_is_not_there_fails_with_carry() {
    let mut guest = guest();
    extended_read(&mut guest, 16380, 8);
    trap(&mut guest);
    assert!(carry(&guest));
    assert_ne!(guest.vcpus[0].gprs.rax() >> 8 & 0xff, 0);
    extended_read(&mut guest, 0, 1);
    guest.vcpus[0].gprs.set_rdx(0x85);
    trap(&mut guest);
    assert!(carry(&guest));
}

#[test]
fn a_slow_disk_parks_the_vcpu_and_the_same_out_finishes_the_call() {
    let mut guest = guest();
    guest.host.slow_disks.set(true);
    extended_read(&mut guest, 7, 1);
    let rip = guest.vcpus[0].rip;
    trap(&mut guest);
    assert_eq!((guest.vcpus[0].rip, guest.cpus[0].activity), (rip, Activity::WaitForDisk));
    assert_eq!(guest.enter(0), None);
    let calls = guest.host.take_calls();
    let request = calls.iter().find_map(|call| match call {
        Call::Disk(request) => Some(*request),
        _ => None,
    });
    let request = request.expect("a request");
    assert_eq!((request.lba, request.sectors, request.op), (7, 1, BlkOp::Read));
    guest.store(0x3_0000, 4, 0xfeed);
    guest.machine.disk_done(&guest.host, request.disk, request.token, Ok(()), None);
    assert_eq!(guest.host.kicked(), [0]);
    assert_eq!(guest.enter(0), Some(None));
    trap(&mut guest);
    assert_eq!(guest.vcpus[0].rip, rip + 2);
    assert!(!carry(&guest));
    assert_eq!(guest.load(0x3_0000, 4), 0xfeed, "no second transfer");
    assert!(!guest.host.take_calls().iter().any(|call| matches!(call, Call::Disk(_))));
}

#[test]
fn a_disk_that_fails_late_gives_an_error() {
    let mut guest = guest();
    guest.host.slow_disks.set(true);
    extended_read(&mut guest, 7, 1);
    trap(&mut guest);
    let calls = guest.host.take_calls();
    let Some(Call::Disk(request)) = calls.first() else { panic!("{calls:?}") };
    let failed = Err(BlkError::Medium);
    guest.machine.disk_done(&guest.host, request.disk, request.token, failed, None);
    assert_eq!(guest.enter(0), Some(None));
    trap(&mut guest);
    assert!(carry(&guest));
}

#[test]
fn an_out_to_the_trap_port_from_elsewhere_does_nothing() {
    let mut guest = guest();
    guest.at(&[0xe6, 0xb6]);
    guest.vcpus[0].gprs.set_rax(0x4200);
    let before = guest.vcpus[0].gprs;
    trap(&mut guest);
    assert_eq!((guest.vcpus[0].gprs, guest.vcpus[0].rip), (before, 0x8002));
}

#[test]
fn identify_and_read_sectors_come_through_the_data_port() {
    let mut guest = guest();
    guest.outs(&[(0x1f6, 0xa0), (0x1f7, 0xec)]);
    assert_eq!(guest.inp(0x1f7, 1) & 0x89, 0x08, "DRQ, no error");
    let words: Vec<u32> = (0..256).map(|_| guest.inp(0x1f0, 2)).collect();
    assert_eq!(words[60] | words[61] << 16, 16384);
    assert_eq!(guest.inp(0x1f7, 1) & 0x08, 0);
    // Two sectors from 5, in doublewords.
    guest.outs(&[(0x1f2, 2), (0x1f3, 5), (0x1f4, 0), (0x1f5, 0), (0x1f6, 0xe0), (0x1f7, 0x20)]);
    for n in 0..256 {
        assert_eq!(guest.inp(0x1f0, 4), 640 + n);
    }
    assert_eq!(guest.inp(0x1f7, 1) & 0x09, 0);
}

/// Enables the bus master at C000h and gives the primary channel a PRD table at 5000h.
fn bus_master(guest: &mut Guest, prds: &[(u32, u16)]) {
    let at = |register: u32| 0x8000_0000 | 1 << 11 | 1 << 8 | register;
    for (register, value) in [(0x20, 0xc001), (0x04, 5), (0x40, 0x8000_8000)] {
        assert_eq!(guest.outp(0xcf8, 4, at(register)), None);
        assert_eq!(guest.outp(0xcfc, 4, value), None);
    }
    for (n, (address, bytes)) in prds.iter().enumerate() {
        let last = u64::from(n + 1 == prds.len()) << 63;
        let entry = u64::from(*address) | u64::from(*bytes) << 32 | last;
        guest.store(0x5000 + 8 * n as u64, 8, entry);
    }
    assert_eq!(guest.outp(0xc004, 4, 0x5000), None);
}

/// READ DMA or WRITE DMA of `count` sectors from sector 8.
fn dma(guest: &mut Guest, write: bool, count: u8) {
    guest.outs(&[(0xc002, 0x06), (0x1f2, count), (0x1f3, 8), (0x1f4, 0), (0x1f5, 0)]);
    guest.outs(&[(0x1f6, 0xe0), (0x1f7, if write { 0xca } else { 0xc8 })]);
    guest.outs(&[(0xc000, if write { 1 } else { 9 })]);
}

#[test]
fn bus_master_dma_scatters_a_read_over_the_prd_table_and_raises_the_interrupt() {
    let mut guest = guest();
    bus_master(&mut guest, &[(0x4_0000, 0x200), (0x4_1000, 0x600)]);
    dma(&mut guest, false, 4);
    assert_eq!(guest.inp(0xc002, 1) & 7, 4, "interrupt, neither active nor error");
    assert_eq!(guest.inp(0x3f6, 1) & 0x89, 0);
    assert_eq!((guest.load(0x4_0000, 4), guest.load(0x4_01fc, 4)), (1024, 1024 + 127));
    assert_eq!((guest.load(0x4_1000, 4), guest.load(0x4_15fc, 4)), (1024 + 128, 1024 + 511));
    let disks = |call: &&Call| matches!(call, Call::Disk(_));
    assert_eq!(guest.host.take_calls().iter().filter(disks).count(), 1, "one request");
}

#[test]
fn bus_master_dma_writes_to_the_disk() {
    let mut guest = guest();
    bus_master(&mut guest, &[(0x4_0000, 0x400)]);
    for n in 0..256 {
        guest.store(0x4_0000 + 4 * n, 4, 0xabcd_0000 | n);
    }
    dma(&mut guest, true, 2);
    assert_eq!(guest.inp(0xc002, 1) & 7, 4);
    let disks = guest.host.disks.borrow();
    assert_eq!(disks[0][8 * 512..][..4], 0xabcd_0000u32.to_le_bytes());
    assert_eq!(disks[0][9 * 512 + 508..][..4], 0xabcd_00ffu32.to_le_bytes());
    assert_eq!(disks[0][10 * 512..][..4], 1280u32.to_le_bytes());
}

#[test]
fn dma_to_where_no_ram_is_ends_with_an_error_and_not_in_the_host() {
    let mut guest = guest();
    for address in [0xe000_0000, 0xfee0_0000, 0xffff_fe00, 0x3f_ff00] {
        bus_master(&mut guest, &[(address, 0x200)]);
        dma(&mut guest, false, 1);
        let (status, drive) = (guest.inp(0xc002, 1), guest.inp(0x3f6, 1));
        assert!(status & 2 != 0 || drive & 1 != 0, "{address:x}: {status:x} {drive:x}");
        guest.outs(&[(0xc000, 0)]);
        let _ = guest.inp(0x1f7, 1);
    }
}

#[test]
fn a_slow_disk_interrupts_when_it_is_done() {
    let mut guest = guest();
    guest.host.slow_disks.set(true);
    bus_master(&mut guest, &[(0x4_0000, 0x200)]);
    dma(&mut guest, false, 1);
    assert_eq!(guest.inp(0xc002, 1) & 7, 1, "active");
    let calls = guest.host.take_calls();
    let request = calls.iter().find_map(|call| match call {
        Call::Disk(request) => Some(*request),
        _ => None,
    });
    let request = request.expect("a request");
    guest.machine.disk_done(&guest.host, request.disk, request.token, Ok(()), None);
    assert_eq!(guest.inp(0xc002, 1) & 7, 4);
    // A late answer to a dead request changes nothing.
    guest.machine.disk_done(&guest.host, request.disk, request.token, Ok(()), None);
    assert_eq!(guest.inp(0xc002, 1) & 7, 4);
}

#[test]
fn a_cd_is_read_by_packet() {
    let mut guest = guest();
    let packet = |guest: &mut Guest, packet: [u8; 12]| {
        guest.outs(&[(0x176, 0xa0), (0x171, 0), (0x174, 0), (0x175, 8), (0x177, 0xa0)]);
        for pair in packet.chunks(2) {
            let value = u32::from(pair[0]) | u32::from(pair[1]) << 8;
            assert_eq!(guest.outp(0x170, 2, value), None);
        }
    };
    // Unit attention after power-on first: TEST UNIT READY, then REQUEST SENSE takes it.
    packet(&mut guest, [0; 12]);
    packet(&mut guest, [3, 0, 0, 0, 18, 0, 0, 0, 0, 0, 0, 0]);
    while guest.inp(0x177, 1) & 8 != 0 {
        let _ = guest.inp(0x170, 2);
    }
    // READ(10) of block 3.
    packet(&mut guest, [0x28, 0, 0, 0, 0, 3, 0, 0, 1, 0, 0, 0]);
    assert_eq!(guest.inp(0x177, 1) & 0x89, 0x08);
    let first = guest.inp(0x170, 4);
    assert_eq!(first, 3 * 512);
}

/// REP INSW or OUTSB at ES:EDI or DS:ESI.
fn string_io(guest: &mut Guest, code: &[u8], port: u16, write: bool, at: u64, count: u64) {
    guest.set_mode(0, Mode::Protected);
    guest.at(code);
    let gprs = &mut guest.vcpus[0].gprs;
    gprs.set_rdx(port.into());
    gprs.set_rcx(count);
    gprs.set_rdi(at);
    gprs.set_rsi(at);
    let width = if code.contains(&0x66) { 2 } else { 1 };
    let exit = StringIo { port, width, write, rep: true, detail: None };
    assert_eq!(guest.exit(Exit::StringIo(exit)), None);
}

#[test]
fn rep_insw_reads_a_sector_in_one_exit_and_rep_outsw_writes_one() {
    let mut guest = guest();
    guest.outs(&[(0x1f2, 1), (0x1f3, 9), (0x1f4, 0), (0x1f5, 0), (0x1f6, 0xe0), (0x1f7, 0x20)]);
    string_io(&mut guest, &[0xf3, 0x66, 0x6d], 0x1f0, false, 0x4_0001, 256);
    let vcpu = &guest.vcpus[0];
    assert_eq!((vcpu.rip, vcpu.gprs.rcx(), vcpu.gprs.rdi()), (0x8003, 0, 0x4_0201));
    assert_eq!((guest.load(0x4_0001, 4), guest.load(0x4_01fd, 4)), (1152, 1152 + 127));
    guest.outs(&[(0x1f2, 1), (0x1f3, 20), (0x1f6, 0xe0), (0x1f7, 0x30)]);
    string_io(&mut guest, &[0xf3, 0x66, 0x6f], 0x1f0, true, 0x4_0001, 256);
    assert_eq!(guest.inp(0x1f7, 1) & 0x09, 0);
    assert_eq!(guest.host.disks.borrow()[0][20 * 512..][..4], 1152u32.to_le_bytes());
}

#[test]
fn rep_ins_and_outs_of_any_width_alignment_and_length_move_the_same_bytes() {
    let mut guest = guest();
    for (code, width) in [(&[0xf3, 0x66, 0x6d][..], 2), (&[0xf3, 0x6d], 4)] {
        for at in [0x4_0e00u64, 0x4_0f01, 0x4_0ffe, 0x4_0fff, 0x4_0f03] {
            // Three sectors in three blocks; the last words come one by one.
            guest.outs(&[
                (0x1f2, 3),
                (0x1f3, 9),
                (0x1f4, 0),
                (0x1f5, 0),
                (0x1f6, 0xe0),
                (0x1f7, 0x20),
            ]);
            string_io(&mut guest, code, 0x1f0, false, at, 1520 / width);
            let rest: Vec<u32> = (0..4).map(|_| guest.inp(0x1f0, 4)).collect();
            assert_eq!(rest, [1532, 1533, 1534, 1535], "{width} {at:#x}");
            for n in 0..380 {
                assert_eq!(guest.load(at + 4 * n, 4), 1152 + n, "{width} {at:#x}");
            }
            // And back, to sector 40.
            let back = if width == 2 { &[0xf3, 0x66, 0x6f][..] } else { &[0xf3, 0x6f] };
            guest.outs(&[(0x1f2, 1), (0x1f3, 40), (0x1f6, 0xe0), (0x1f7, 0x30)]);
            string_io(&mut guest, back, 0x1f0, true, at, 512 / width);
            assert_eq!(guest.inp(0x1f7, 1) & 0x09, 0);
            let disk = guest.host.disks.borrow()[0][40 * 512..][..512].to_vec();
            let words = disk.chunks(4).map(|word| u32::from_le_bytes(word.try_into().unwrap()));
            assert!(words.eq(1152..1152 + 128), "{width} {at:#x}");
            guest.host.disks.borrow_mut()[0][40 * 512..][..512].fill(0);
        }
    }
}

#[test]
fn a_page_fault_of_insw_loses_no_data_of_the_drive() {
    let mut guest = guest();
    guest.outs(&[(0x1f2, 1), (0x1f3, 9), (0x1f4, 0), (0x1f5, 0), (0x1f6, 0xe0), (0x1f7, 0x20)]);
    // Page 41h is not there at first.
    guest.store(0x2_0000, 4, 0x2_1007);
    for n in 0..0x100u64 {
        guest.store(0x2_1000 + n * 4, 4, if n == 0x41 { 0 } else { n << 12 | 7 });
    }
    guest.set_mode(0, Mode::Protected);
    guest.at(&[0xf3, 0x66, 0x6d]);
    let vcpu = &mut guest.vcpus[0];
    vcpu.set_reg(SysReg::Cr3, 0x2_0000);
    vcpu.set_reg(SysReg::Cr0, vcpu.reg(SysReg::Cr0) | 1 << 31);
    vcpu.gprs.set_rdx(0x1f0);
    vcpu.gprs.set_rcx(256);
    vcpu.gprs.set_rdi(0x4_0f00);
    let exit =
        Exit::StringIo(StringIo { port: 0x1f0, width: 2, write: false, rep: true, detail: None });
    assert_eq!(guest.exit(exit), None);
    let vcpu = &guest.vcpus[0];
    assert!(vcpu.pending.is_some_and(|event| event.vector == 14));
    assert_eq!((vcpu.reg(SysReg::Cr2), vcpu.rip), (0x4_1000, 0x8000));
    assert_eq!((vcpu.gprs.rdi(), vcpu.gprs.rcx()), (0x4_1000, 128));
    guest.vcpus[0].pending = None;
    guest.store(0x2_1000 + 0x41 * 4, 4, 0x4_1007);
    assert_eq!(guest.exit(exit), None);
    assert_eq!(guest.vcpus[0].rip, 0x8003);
    for n in 0..128 {
        assert_eq!(guest.load(0x4_0f00 + 4 * n, 4), 1152 + n);
    }
}

#[test]
fn a_repeat_that_asks_for_a_reset_stops_the_guest() {
    let mut guest = guest();
    guest.set_mode(0, Mode::Protected);
    guest.store(0x3000, 1, 0x06);
    guest.at(&[0x6e]);
    guest.vcpus[0].gprs.set_rdx(0xcf9);
    guest.vcpus[0].gprs.set_rsi(0x3000);
    let exit = StringIo { port: 0xcf9, width: 1, write: true, rep: false, detail: None };
    assert_eq!(guest.exit(Exit::StringIo(exit)), Some(Why::Reset));
}
