use crate::caller::Outcome;
use crate::platform::DiskKind;
use crate::rom::Service;
use crate::testing::{Guest, Mock};
use arch::Segment;

fn guest() -> Guest {
    Guest::new(
        Mock::new()
            .with_disk(DiskKind::Floppy, 2880)
            .with_disk(DiskKind::Hard, 65536)
            .with_disk(DiskKind::Cd, 4000),
    )
}

fn call(g: &mut Guest, ax: u16, bx: u16, cx: u16, dx: u16) -> (u8, bool) {
    assert_eq!(g.set(ax, bx, cx, dx).int(Service::Int13), Outcome::Done);
    ((g.ax() >> 8) as u8, g.cf())
}

#[test]
fn a_chs_read_lands_in_the_buffer_and_returns_the_count() {
    let mut g = guest();
    g.cpu.es = Segment::real_data(0x1000);
    assert_eq!(call(&mut g, 0x0203, 0x200, 0x0102, 0x0100), (0, false));
    assert_eq!(g.ax(), 3);
    // Cylinder 1, head 1, sector 2 of an 18-sector disk.
    assert_eq!(g.bus.u32(0x1_0200), 36 + 18 + 1);
    assert_eq!(g.bus.u32(0x1_0600), 36 + 18 + 3);
}

#[test]
fn a_buffer_may_lie_at_an_odd_address() {
    // DOS reads into a program's own buffer; across pages here.
    for delay in [0, 2] {
        let mut g = guest();
        g.bus.delay = delay;
        g.cpu.es = Segment::real_data(0x1000);
        while g.set(0x0205, 0xf13, 0x0102, 0x0080).trap(Service::Int13) == Outcome::Wait {}
        assert_eq!(call(&mut g, 0x0205, 0xf13, 0x0102, 0x0080), (0, false));
        let first = g.bus.u32(0x1_0f13);
        assert_eq!(g.bus.u32(0x1_0f13 + 4 * 512), first + 4);
        // And back, one sector on.
        assert_eq!(call(&mut g, 0x0304, 0xf13, 0x0103, 0x0080), (0, false));
        assert_eq!(call(&mut g, 0x0201, 0x200, 0x0103, 0x0080), (0, false));
        assert_eq!(g.bus.u32(0x1_0200), first, "written from the odd buffer");
    }
}

#[test]
fn a_pending_host_disk_parks_the_caller_with_interrupts_open() {
    let mut g = guest();
    g.bus.delay = 2;
    g.cpu.es = Segment::real_data(0x1000);
    g.set(0x0201, 0, 1, 0x80);
    let sp = g.cpu.gprs.rsp();
    assert_eq!(g.trap(Service::Int13), Outcome::Wait);
    assert_eq!(g.cpu.rflags & 0x200, 0x200);
    assert_eq!((g.ax(), g.cpu.gprs.rsp()), (0x0201, sp));
    assert_eq!(call(&mut g, 0x0201, 0, 1, 0x80), (0, false));
}

#[test]
fn extended_read_takes_a_packet_and_reports_bad_blocks_in_it() {
    let mut g = guest();
    g.bus.put(0x500, &[16, 0, 2, 0, 0, 0, 0, 0x20, 0x34, 0x12, 0, 0, 0, 0, 0, 0]);
    g.cpu.gprs.set_rsi(0x500);
    assert_eq!(call(&mut g, 0x4200, 0, 0, 0x80), (0, false));
    assert_eq!(g.bus.u32(0x2_0200), 0x1235);
    g.bus.put(0x50a, &[1]);
    assert_eq!(call(&mut g, 0x4200, 0, 0, 0x80), (4, true));
    assert_eq!(g.bus.u16(0x502), 0);
    assert_eq!(call(&mut g, 0x0100, 0, 0, 0x80), (4, true));
}

#[test]
fn a_cd_counts_2048_byte_sectors_and_is_write_protected() {
    let mut g = guest();
    g.bus.put(0x500, &[16, 0, 1, 0, 0, 0, 0, 0x20, 17, 0, 0, 0, 0, 0, 0, 0]);
    g.cpu.gprs.set_rsi(0x500);
    assert_eq!(call(&mut g, 0x4200, 0, 0, 0xe0), (0, false));
    assert_eq!((g.bus.u32(0x2_0000), g.bus.u32(0x2_0600)), (68, 71));
    assert_eq!(call(&mut g, 0x4300, 0, 0, 0xe0), (3, true));
}

#[test]
fn a_read_into_video_memory_goes_through_the_display() {
    let mut g = guest();
    g.cpu.es = Segment::real_data(0xb800);
    g.bus.delay = 1;
    assert_eq!(call(&mut g, 0x0202, 0, 5, 0x80), (0, false));
    assert_eq!(g.bus.mmio[&0xb_8000], 4);
    assert_eq!(g.bus.mmio[&0xb_8200], 5);
}

#[test]
fn under_paging_a_buffer_in_scattered_pages_is_filled_in_order() {
    let mut g = guest();
    let mut pages: std::collections::BTreeMap<u32, u64> =
        (0..0x110).map(|page| (page, u64::from(page) << 12)).collect();
    pages.insert(0x20, 0x20_0000);
    pages.insert(0x21, 0x10_5000);
    g.bus.pages = Some(pages);
    g.cpu.es = Segment::real_data(0x2000);
    assert_eq!(call(&mut g, 0x0208, 0xe00, 1, 0x80), (0, false));
    assert_eq!(g.bus.u32(0x20_0e00), 0);
    assert_eq!(g.bus.u32(0x10_5000), 1);
    g.bus.pages.as_mut().unwrap().remove(&0x21);
    g.set(0x0208, 0xe00, 1, 0x80);
    let before = g.cpu.gprs;
    assert_eq!(g.int(Service::Int13), Outcome::PageFault { linear: 0x2_1000, write: true });
    assert_eq!(g.cpu.gprs.rax(), before.rax());
}

#[test]
fn parameters_name_the_last_cylinder_head_and_sector() {
    let mut g = guest();
    assert_eq!(call(&mut g, 0x0800, 0, 0, 0x00), (0, false));
    assert_eq!((g.bx() & 0xff, g.cx(), g.dx()), (4, 79 << 8 | 18, 0x0101));
    assert_eq!((g.cpu.es.selector, g.cpu.gprs.rdi()), (0xf000, 0xefc7));
    assert_eq!(call(&mut g, 0x0800, 0, 0, 0x80), (0, false));
    assert_eq!((g.cx() & 0x3f, g.dx()), (63, 0x0f01));
    assert_eq!(call(&mut g, 0x0800, 0, 0, 0x81), (1, true));
}

#[test]
fn an_exchanged_floppy_reports_the_change_once() {
    let mut g = guest();
    g.cpu.es = Segment::real_data(0x1000);
    assert_eq!(call(&mut g, 0x0201, 0, 1, 0), (0, false));
    g.bus.disks[0].info.media = 2;
    assert_eq!(call(&mut g, 0x0201, 0, 1, 0), (6, true));
    assert_eq!(call(&mut g, 0x0201, 0, 1, 0), (0, false));
    g.bus.disks[0].info.present = false;
    assert_eq!(call(&mut g, 0x0201, 0, 1, 0), (0x80, true));
}

#[test]
fn edd_parameters_fill_what_the_buffer_holds() {
    let mut g = guest();
    g.cpu.gprs.set_rsi(0x600);
    g.bus.put(0x600, &[26, 0]);
    assert_eq!(call(&mut g, 0x4800, 0, 0, 0x80), (0, false));
    assert_eq!((g.bus.u16(0x600), g.bus.u32(0x610), g.bus.u16(0x618)), (26, 65536, 512));
    g.bus.put(0x600, &[25, 0]);
    assert_eq!(call(&mut g, 0x4800, 0, 0, 0x80), (1, true));
    g.bus.put(0x600, &[30, 0]);
    assert_eq!(call(&mut g, 0x4800, 0, 0, 0xe0), (0, false));
    assert_eq!(g.bus.u16(0x618), 2048);
}

#[test]
fn no_function_with_any_registers_brings_the_firmware_down() {
    let mut g = guest();
    let mut seed = 0x1234_5678_9abc_def1u64;
    for round in 0..400u64 {
        let mut random = || {
            seed ^= seed << 13;
            seed ^= seed >> 7;
            seed ^= seed << 17;
            seed
        };
        for n in [0, 1, 2, 3, 5, 6, 7] {
            g.cpu.gprs.r[n] = random();
        }
        let drive = [0x00, 0x80, 0xe0, 0x81][(round & 3) as usize];
        g.cpu.gprs.r[2] = (g.cpu.gprs.r[2] & 0xff00) | drive;
        g.cpu.es = Segment::real_data(random() as u16 | 0x1000);
        g.cpu.ds = Segment::real_data(random() as u16);
        g.cpu.gprs.set_rsp(0x7000);
        let _ = g.int(Service::Int13);
    }
}
