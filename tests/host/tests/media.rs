//! Media that are exchanged while the guest runs, as its drivers see it.

use arch::Exit;
use bios::Service;
use devmodel::blk::Media;
use devmodel::fdc::{DriveType, geometry_of_image};
use host_tests::{Guest, Setup};
use machine::{ChangeError, Drive};

const CD: usize = 2;
const FLOPPY: usize = 4;

fn floppy(sectors: u64) -> Media {
    let geometry = geometry_of_image(sectors).unwrap();
    Media { geometry, removable: true, ..Media::disk(sectors, "") }
}

/// hda is a disk, hdc a CD of 100 blocks, fda a 1.44 MB floppy.
fn guest() -> Guest {
    let mut setup = Setup::default();
    setup.drives[0] = Some((Drive::Disk(Media::disk(2048, "")), vec![0; 1 << 20]));
    setup.drives[CD] = Some((Drive::Cdrom(Some(Media::cdrom(100))), vec![1; 100 * 2048]));
    let drive = Drive::Floppy(DriveType::F1440, Some(floppy(2880)));
    setup.drives[FLOPPY] = Some((drive, vec![2; 2880 * 512]));
    Guest::with(setup)
}

/// Sends a packet to the CD drive; its reply, or sense key and code.
fn packet(guest: &mut Guest, packet: [u8; 12]) -> Result<Vec<u8>, (u8, u8)> {
    guest.outs(&[(0x176, 0xa0), (0x171, 0), (0x174, 0xfe), (0x175, 0xff), (0x177, 0xa0)]);
    for pair in packet.chunks(2) {
        assert_eq!(guest.outp(0x170, 2, u16::from_le_bytes([pair[0], pair[1]]).into()), None);
    }
    let status = guest.inp(0x177, 1);
    if status & 1 != 0 {
        let sense = self::packet(guest, [3, 0, 0, 0, 18, 0, 0, 0, 0, 0, 0, 0]).unwrap();
        return Err((sense[2], sense[12]));
    }
    let mut reply = Vec::new();
    while guest.inp(0x177, 1) & 8 != 0 {
        reply.extend((guest.inp(0x170, 2) as u16).to_le_bytes());
    }
    Ok(reply)
}

const TEST_UNIT_READY: [u8; 12] = [0; 12];
const READ_CAPACITY: [u8; 12] = [0x25, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
/// GET EVENT STATUS NOTIFICATION, polled, media class.
const EVENTS: [u8; 12] = [0x4a, 1, 0, 0, 0x10, 0, 0, 0, 8, 0, 0, 0];

fn prevent(lock: bool) -> [u8; 12] {
    [0x1e, 0, 0, 0, u8::from(lock), 0, 0, 0, 0, 0, 0, 0]
}

fn change(guest: &Guest, slot: usize, media: Option<&Media>) -> Result<(), ChangeError> {
    let mut swapped = false;
    let result = guest.machine.change_medium(slot, media, false, || swapped = true);
    assert_eq!(swapped, result.is_ok(), "what is behind the drive changes with it");
    result
}

#[test]
fn a_cd_that_goes_and_another_that_comes_are_told_as_mmc_says() {
    let mut guest = guest();
    assert_eq!(packet(&mut guest, EVENTS).unwrap()[4], 2, "the medium of power-on");
    assert_eq!(packet(&mut guest, TEST_UNIT_READY), Ok(vec![]));
    assert_eq!(change(&guest, CD, None), Ok(()));
    assert_eq!(packet(&mut guest, EVENTS).unwrap()[4], 3, "removal");
    assert_eq!(packet(&mut guest, TEST_UNIT_READY), Err((2, 0x3a)), "medium not present");
    assert_eq!(change(&guest, CD, Some(&Media::cdrom(7))), Ok(()));
    assert_eq!(packet(&mut guest, EVENTS).unwrap()[4], 2, "new media");
    assert_eq!(packet(&mut guest, TEST_UNIT_READY), Err((6, 0x28)), "unit attention, once");
    assert_eq!(packet(&mut guest, TEST_UNIT_READY), Ok(vec![]));
    assert_eq!(packet(&mut guest, READ_CAPACITY).unwrap()[..4], [0, 0, 0, 6], "the new size");
    // Without a pause between: still a unit attention.
    assert_eq!(change(&guest, CD, Some(&Media::cdrom(9))), Ok(()));
    assert_eq!(packet(&mut guest, READ_CAPACITY), Err((6, 0x28)));
    assert_eq!(packet(&mut guest, READ_CAPACITY).unwrap()[..4], [0, 0, 0, 8]);
}

#[test]
fn a_locked_door_stays_closed_and_the_guest_hears_of_the_wish() {
    let mut guest = guest();
    packet(&mut guest, prevent(true)).unwrap();
    assert_eq!(change(&guest, CD, None), Err(ChangeError::Locked));
    assert_eq!(packet(&mut guest, EVENTS).unwrap()[4], 1, "eject request");
    assert_eq!(packet(&mut guest, TEST_UNIT_READY), Ok(vec![]));
    assert_eq!(change(&guest, CD, Some(&Media::cdrom(9))), Err(ChangeError::Locked));
    assert_eq!(guest.machine.change_medium(CD, None, true, || ()), Ok(()), "by force");
    assert_eq!(packet(&mut guest, TEST_UNIT_READY), Err((2, 0x3a)));
    packet(&mut guest, prevent(false)).unwrap();
    assert_eq!(change(&guest, CD, Some(&Media::cdrom(9))), Ok(()));
}

#[test]
fn what_is_no_removable_drive_or_no_format_of_it_is_refused() {
    let guest = guest();
    assert_eq!(change(&guest, 0, None), Err(ChangeError::Fixed));
    assert_eq!(change(&guest, 1, None), Err(ChangeError::NoDrive));
    assert_eq!(change(&guest, 99, None), Err(ChangeError::NoDrive));
    for (sectors, fits) in [(5760, false), (2400, false), (720, false), (1440, true), (3444, true)]
    {
        let result = change(&guest, FLOPPY, Some(&floppy(sectors)));
        assert_eq!(result, if fits { Ok(()) } else { Err(ChangeError::Format) }, "{sectors}");
    }
}

/// The digital input register's bit 7, with drive A selected and its motor on.
fn change_line(guest: &mut Guest) -> bool {
    guest.outs(&[(0x3f2, 0x1c)]);
    guest.inp(0x3f7, 1) & 0x80 != 0
}

#[test]
fn a_floppy_that_goes_raises_the_change_line_and_one_that_comes_lowers_it_with_a_step() {
    let mut guest = guest();
    let step = |guest: &mut Guest| {
        for track in [1, 0] {
            // SEEK, and SENSE INTERRUPT STATUS after it.
            guest.outs(&[(0x3f5, 0x0f), (0x3f5, 0), (0x3f5, track)]);
            guest.pass(100_000_000);
            guest.outs(&[(0x3f5, 8)]);
            assert_eq!(guest.inp(0x3f5, 1) & 0xe0, 0x20, "seek end");
            guest.inp(0x3f5, 1);
        }
    };
    guest.outs(&[(0x3f2, 0x1c)]);
    guest.pass(100_000_000);
    // Four drives are polled after a reset.
    for _ in 0..4 {
        guest.outs(&[(0x3f5, 8)]);
        guest.inp(0x3f5, 1);
        guest.inp(0x3f5, 1);
    }
    step(&mut guest);
    assert!(!change_line(&mut guest), "a medium is there since power-on");
    assert_eq!(change(&guest, FLOPPY, None), Ok(()));
    assert!(change_line(&mut guest));
    step(&mut guest);
    assert!(change_line(&mut guest), "an empty drive does not lower it");
    assert_eq!(change(&guest, FLOPPY, Some(&floppy(1440))), Ok(()));
    assert!(change_line(&mut guest), "the new one is not seen yet");
    step(&mut guest);
    assert!(!change_line(&mut guest));
}

#[test]
fn the_firmware_reports_an_exchanged_floppy_once_and_then_its_format() {
    let mut guest = guest();
    let status = |guest: &mut Guest| {
        guest.at_trap(Service::Int13);
        guest.vcpus[0].gprs.set_rax(0x1600);
        guest.vcpus[0].gprs.set_rdx(0);
        assert_eq!(guest.exit(Exit::Out { port: bios::TRAP_PORT, width: 1 }), None);
        guest.vcpus[0].gprs.rax() >> 8 & 0xff
    };
    status(&mut guest);
    assert_eq!(status(&mut guest), 0);
    assert_eq!(change(&guest, FLOPPY, Some(&floppy(1440))), Ok(()));
    assert_eq!(status(&mut guest), 6, "change line active");
    assert_eq!(status(&mut guest), 0);
    assert_eq!(change(&guest, FLOPPY, None), Ok(()));
    assert_eq!(status(&mut guest), 6, "nothing in it");
}
