//! The floppy controller as DOS and Linux see it: scripts, bad input, a random walk.

extern crate std;
use super::*;
use crate::testing::Rng;
use std::boxed::Box;
use std::vec;
use std::vec::Vec;

/// A controller, two images, and an 8237 channel 2 over a little memory.
struct Rig {
    fdc: Box<Fdc>,
    disks: [Vec<u8>; 2],
    ram: Vec<u8>,
    /// The 8237's address, and its count plus one; 0 when it is masked.
    address: usize,
    count: usize,
    now: Nanos,
    slow: bool,
    waiting: Option<BlkRequest>,
    fail: Option<BlkError>,
    requests: usize,
}

impl Rig {
    /// Drive A of `kind` with an image of `sectors`; the controller out of reset, rate set.
    fn new(kind: DriveType, sectors: u64, rate: u8) -> Rig {
        let image = (0..sectors * 512).map(|i| (i / 512 * 3 + i % 512) as u8).collect();
        let mut rig = Rig {
            fdc: Box::default(),
            disks: [image, Vec::new()],
            ram: vec![0; 1 << 17],
            address: 0,
            count: 0,
            now: Nanos(1),
            slow: false,
            waiting: None,
            fail: None,
            requests: 0,
        };
        rig.fdc.attach(0, kind, DiskId(0));
        rig.insert(sectors, false);
        rig.out(2, 0x0C);
        for unit in 0..4 {
            assert_eq!(rig.sense_interrupt(), [0xC0 | unit, 0]);
        }
        rig.send(&[0x03, 0xDF, 0x02]);
        rig.out(7, rate);
        rig.out(2, 0x1C);
        rig
    }

    fn high_density() -> Rig {
        Rig::new(DriveType::F1440, 2880, 0)
    }

    fn insert(&mut self, sectors: u64, read_only: bool) {
        let geometry = geometry_of_image(sectors).unwrap();
        let media = Media { geometry, read_only, ..Media::disk(sectors, "") };
        assert!(self.fdc.insert(0, &media));
    }

    /// Does what the board does with an effect, and with DRQ.
    fn run(&mut self, mut effect: Effect) {
        for _ in 0..10_000 {
            effect = match effect {
                Effect::None => match self.fdc.dma_request() {
                    Some(drq) if self.count > 0 => {
                        self.fdc.dma_grant(drq.bytes.min(self.count as u32))
                    }
                    _ => return,
                },
                Effect::Move { bytes, to_guest } => {
                    let n = (bytes as usize).min(self.count);
                    let ram = &mut self.ram[self.address..self.address + n];
                    let data = &mut self.fdc.dma_data()[..n];
                    if to_guest {
                        ram.copy_from_slice(data);
                    } else {
                        data.copy_from_slice(ram);
                    }
                    self.address += n;
                    self.count -= n;
                    self.fdc.dma_moved(self.count == 0)
                }
                Effect::Request(request) => {
                    self.requests += 1;
                    if self.slow {
                        self.waiting = Some(request);
                        return;
                    }
                    self.serve(request)
                }
            };
        }
        panic!("effects do not end");
    }

    fn serve(&mut self, request: BlkRequest) -> Effect {
        let disk = &mut self.disks[usize::from(request.disk.0)];
        let (from, len) = (request.lba as usize * 512, request.sectors as usize * 512);
        let result = match (self.fail, disk.get_mut(from..from + len)) {
            (Some(error), _) => Err(error),
            (None, None) => Err(BlkError::Range),
            (None, Some(disk)) => {
                match self.fdc.buffer(request.token) {
                    Some(buffer) if request.op == BlkOp::Read => buffer.copy_from_slice(disk),
                    Some(buffer) => disk.copy_from_slice(buffer),
                    None => {}
                }
                Ok(())
            }
        };
        self.fdc.complete(request.token, result)
    }

    fn out(&mut self, offset: u8, value: u8) {
        let effect = self.fdc.write(offset, value, self.now);
        self.run(effect);
    }

    fn inb(&mut self, offset: u8) -> u8 {
        let (value, effect) = self.fdc.read(offset);
        self.run(effect);
        value
    }

    fn send(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            assert_eq!(self.inb(4) & 0xC0, 0x80, "ready for a byte");
            self.out(5, byte);
        }
    }

    fn results(&mut self) -> Vec<u8> {
        let mut bytes = Vec::new();
        while self.inb(4) & 0xD0 == 0xD0 {
            bytes.push(self.inb(5));
        }
        bytes
    }

    fn sense_interrupt(&mut self) -> Vec<u8> {
        self.send(&[8]);
        self.results()
    }

    fn seek(&mut self, cylinder: u8) {
        self.send(&[0x0F, 0, cylinder]);
        assert!(self.fdc.irq());
        assert_eq!(self.sense_interrupt(), [0x20, cylinder]);
    }

    fn dma(&mut self, address: usize, count: usize) {
        (self.address, self.count) = (address, count);
    }
}

#[test]
fn reset_interrupts_once_and_four_drives_are_sensed_then_no_more() {
    let mut rig = Rig::high_density();
    rig.out(2, 0x08);
    assert_eq!(rig.inb(4), 0, "in reset the controller is deaf");
    rig.out(2, 0x0C);
    assert!(rig.fdc.irq());
    assert_eq!(rig.sense_interrupt(), [0xC0, 0]);
    assert!(!rig.fdc.irq());
    for unit in 1..4 {
        assert_eq!(rig.sense_interrupt(), [0xC0 | unit, 0]);
    }
    assert_eq!(rig.sense_interrupt(), [0x80], "invalid without an interrupt");
    rig.out(4, 0x80);
    assert!(rig.fdc.irq(), "DSR resets too");
    rig.out(2, 0x04);
    assert!(!rig.fdc.irq(), "DMAGATE holds the pins");
}

#[test]
fn a_driver_that_senses_only_once_after_reset_gets_its_seek_result_next() {
    let mut rig = Rig::high_density();
    rig.out(4, 0x80);
    rig.sense_interrupt();
    rig.send(&[7, 0]);
    assert_eq!(rig.sense_interrupt(), [0x20, 0]);
}

/// DOS by way of a PC BIOS: recalibrate, seek, read with the 8237 set to the exact length.
#[test]
fn dos_reads_two_sectors_of_cylinder_3() {
    let mut rig = Rig::high_density();
    rig.send(&[7, 0]);
    assert_eq!(rig.sense_interrupt(), [0x20, 0]);
    rig.seek(3);
    rig.dma(0x1000, 1024);
    rig.send(&[0xE6, 4, 3, 1, 5, 2, 18, 0x1B, 0xFF]);
    assert!(rig.fdc.irq());
    assert_eq!(rig.inb(4) & 0xF0, 0xD0);
    assert_eq!(rig.results(), [4, 0, 0, 3, 1, 7, 2]);
    assert!(!rig.fdc.irq());
    let lba = (3 * 2 + 1) * 18 + 4;
    assert_eq!(rig.ram[0x1000..0x1400], rig.disks[0][lba * 512..(lba + 2) * 512]);
    assert_eq!(rig.requests, 1);
}

#[test]
fn a_multi_track_read_goes_on_to_the_other_side_in_one_host_request() {
    let mut rig = Rig::high_density();
    rig.dma(0, 18 * 2 * 512);
    rig.send(&[0xE6, 0, 0, 0, 1, 2, 18, 0x1B, 0xFF]);
    assert_eq!(rig.results(), [4, 0, 0, 1, 0, 1, 2], "the next cylinder, head 0, sector 1");
    assert_eq!(rig.ram[..36 * 512], rig.disks[0][..36 * 512]);
    assert_eq!(rig.requests, 1);
    // EOT short of the track: both sides' first nine sectors, in two runs.
    rig.dma(0, 18 * 512);
    rig.send(&[0xE6, 0, 0, 0, 1, 2, 9, 0x1B, 0xFF]);
    assert_eq!(rig.results()[..3], [4, 0, 0]);
    assert_eq!(rig.ram[9 * 512..18 * 512], rig.disks[0][18 * 512..27 * 512]);
}

#[test]
fn without_tc_a_read_ends_at_the_end_of_the_cylinder() {
    let mut rig = Rig::high_density();
    rig.dma(0, 20_000);
    rig.send(&[0x66, 0, 0, 0, 17, 2, 18, 0x1B, 0xFF]);
    assert_eq!(rig.results(), [0x40, 0x80, 0, 1, 0, 1, 2]);
    assert_eq!(rig.count, 20_000 - 1024);
}

#[test]
fn a_write_of_a_part_of_a_sector_fills_the_rest_with_zeroes() {
    let mut rig = Rig::high_density();
    rig.ram[..700].fill(0x5A);
    rig.dma(0, 700);
    rig.send(&[0x45, 0, 0, 0, 2, 2, 18, 0x1B, 0xFF]);
    assert_eq!(rig.results(), [0, 0, 0, 0, 0, 4, 2]);
    assert_eq!(rig.disks[0][512..512 + 700], [0x5A; 700]);
    assert_eq!(rig.disks[0][512 + 700..1536], [0; 324]);
}

#[test]
fn a_masked_channel_holds_drq_until_it_is_opened() {
    let mut rig = Rig::high_density();
    rig.send(&[0x46, 0, 0, 0, 1, 2, 18, 0x1B, 0xFF]);
    assert_eq!(rig.fdc.dma_request(), Some(DmaRequest { bytes: 18 * 512, to_guest: true }));
    assert_eq!((rig.inb(4), rig.fdc.irq()), (0x10, false));
    rig.dma(0, 512);
    rig.run(Effect::None);
    assert_eq!(rig.results()[3..], [0, 0, 2, 2]);
}

#[test]
fn non_dma_mode_moves_bytes_through_the_fifo_with_interrupts() {
    let mut rig = Rig::high_density();
    rig.send(&[3, 0xDF, 3]);
    rig.send(&[0x46, 0, 0, 0, 18, 2, 18, 0x1B, 0xFF]);
    let mut data = Vec::new();
    while rig.inb(4) & 0x20 != 0 {
        assert_eq!(rig.inb(4), 0xF0);
        assert!(rig.fdc.irq());
        data.push(rig.inb(5));
    }
    assert_eq!(data, rig.disks[0][17 * 512..18 * 512]);
    assert_eq!(rig.results()[..2], [0x40, 0x80]);
    rig.send(&[0x45, 0, 0, 0, 17, 2, 17, 0x1B, 0xFF]);
    while rig.inb(4) & 0x20 != 0 {
        rig.out(5, 0x11);
    }
    assert_eq!(rig.disks[0][16 * 512..17 * 512], [0x11; 512]);
    assert_eq!(rig.results()[..2], [0x40, 0x80]);
}

#[test]
fn what_is_not_there_is_not_found() {
    let mut rig = Rig::high_density();
    rig.dma(0, 512);
    for (command, status) in [
        ([0x46, 0, 0, 0, 19, 2, 18, 0x1B, 0xFF], [0x40, 4, 0]),
        ([0x46, 0, 0, 0, 0, 2, 18, 0x1B, 0xFF], [0x40, 4, 0]),
        ([0x46, 0, 9, 0, 1, 2, 18, 0x1B, 0xFF], [0x40, 4, 0x10]),
        ([0x46, 0, 0, 1, 1, 2, 18, 0x1B, 0xFF], [0x44, 4, 0]),
        ([0x46, 0, 0, 0, 1, 3, 18, 0x1B, 0xFF], [0x40, 4, 0]),
        ([0x06, 0, 0, 0, 1, 2, 18, 0x1B, 0xFF], [0x40, 1, 0]),
        ([0x46, 1, 0, 0, 1, 2, 18, 0x1B, 0xFF], [0x41, 1, 0]),
        ([0x46, 3, 0, 0, 1, 2, 18, 0x1B, 0xFF], [0x43, 1, 0]),
    ] {
        rig.send(&command);
        assert_eq!(rig.results()[..3], status, "{command:x?}");
    }
    rig.out(7, 2);
    rig.send(&[0x46, 0, 0, 0, 1, 2, 18, 0x1B, 0xFF]);
    assert_eq!(rig.results()[..3], [0x40, 1, 0], "wrong data rate");
    assert_eq!(rig.requests, 0);
}

#[test]
fn formats_are_told_apart_by_their_data_rate_and_double_steps() {
    for (kind, sectors, rate) in [
        (DriveType::F1440, 1440, 2),
        (DriveType::F1440, 1280, 2),
        (DriveType::F1440, 2880, 0),
        (DriveType::F2880, 5760, 3),
        (DriveType::F1200, 2400, 0),
        (DriveType::F1200, 720, 1),
        (DriveType::F360, 720, 2),
    ] {
        let mut rig = Rig::new(kind, sectors, rate);
        let track = geometry_of_image(sectors).unwrap().sectors;
        // Implied seek to cylinder 20, last sector of side 1.
        rig.send(&[0x13, 0, 0x60, 0]);
        rig.dma(0, 512);
        rig.send(&[0x46, 4, 20, 1, track, 2, track, 0x1B, 0xFF]);
        assert_eq!(rig.results(), [4, 0, 0, 21, 1, 1, 2], "{kind:?} {sectors}");
        let lba = 42 * usize::from(track) - 1;
        assert_eq!(rig.ram[..512], rig.disks[0][lba * 512..lba * 512 + 512]);
    }
}

#[test]
fn read_id_takes_the_time_until_the_next_sector_passes() {
    let mut rig = Rig::high_density();
    rig.seek(7);
    rig.send(&[0x4A, 4]);
    assert!(!rig.fdc.irq());
    assert_eq!(rig.inb(4), 0x10);
    let due = rig.fdc.due().unwrap();
    assert!(due > rig.now && due.since(rig.now) <= 200_000_000 / 18 + 1);
    rig.fdc.advance(Nanos(due.0 - 1));
    assert!(!rig.fdc.irq());
    rig.fdc.advance(due);
    assert_eq!(rig.fdc.due(), None);
    let id = rig.results();
    assert_eq!((id[0], id[3], id[4], id[6]), (4, 7, 1, 2));
    assert!((1..=18).contains(&id[5]));
}

#[test]
fn format_fills_the_sectors_it_names_and_respects_write_protection() {
    let mut rig = Rig::high_density();
    rig.seek(2);
    for i in 0..18 {
        rig.ram[i * 4..i * 4 + 4].copy_from_slice(&[2, 1, i as u8 + 1, 2]);
    }
    rig.dma(0, 72);
    rig.send(&[0x4D, 4, 2, 18, 0x54, 0xF6]);
    assert_eq!(rig.results()[..3], [4, 0, 0]);
    assert_eq!(rig.disks[0][5 * 18 * 512..6 * 18 * 512], [0xF6; 18 * 512]);
    assert_ne!(rig.disks[0][6 * 18 * 512], 0xF6);
    rig.insert(2880, true);
    rig.send(&[0x4D, 4, 2, 18, 0x54, 0xF6]);
    assert_eq!(rig.results()[..3], [0x44, 2, 0]);
    rig.send(&[0x45, 0, 2, 0, 1, 2, 18, 0x1B, 0xFF]);
    assert_eq!(rig.results()[..3], [0x40, 2, 0]);
    rig.send(&[4, 0]);
    assert_eq!(rig.results(), [0x68], "write protected, ready, two sides, not on track 0");
}

#[test]
fn the_change_line_clears_on_a_step_with_a_medium_in_the_drive() {
    let mut rig = Rig::high_density();
    assert_eq!(rig.inb(7), 0x80);
    rig.send(&[7, 0]);
    rig.sense_interrupt();
    assert_eq!(rig.inb(7), 0x80, "no step was needed");
    rig.seek(1);
    assert_eq!(rig.inb(7), 0);
    rig.fdc.eject(0);
    rig.seek(2);
    assert_eq!(rig.inb(7), 0x80);
    rig.out(2, 0x1D);
    assert_eq!(rig.inb(7), 0, "no drive B");
    rig.send(&[7, 1]);
    assert_eq!(rig.sense_interrupt(), [0x71, 0], "no track 0 either");
}

/// Linux: `get_fdc_version`, `fdc_configure`, `perpendicular_mode`.
#[test]
fn linux_identifies_the_controller() {
    let mut rig = Rig::high_density();
    rig.send(&[0x0E]);
    assert_eq!(rig.results().len(), 10);
    rig.send(&[0x13, 0, 0x1A, 0]);
    rig.send(&[0x94]);
    assert_eq!(rig.results(), [0x10]);
    rig.send(&[0x12, 0x80 | 0x24]);
    rig.out(4, 0x80);
    rig.send(&[0x0E]);
    assert_eq!(
        rig.results(),
        [0, 0, 0, 0, 0xDF, 2, 0, 0x80 | 0x24, 0x0A, 0],
        "locked over a reset"
    );
    rig.send(&[0x14]);
    assert_eq!(rig.results(), [0]);
    for (code, answer) in [(0x10, 0x90), (0x18, 0x41), (0x1E, 0x80), (0x00, 0x80)] {
        rig.send(&[code]);
        assert_eq!(rig.results(), [answer]);
    }
}

#[test]
fn relative_seek_read_track_deleted_data_and_verify_do_what_they_say() {
    let mut rig = Rig::high_density();
    rig.send(&[0xCF, 0, 5]);
    assert_eq!(rig.sense_interrupt(), [0x20, 5]);
    rig.send(&[0x8F, 0, 2]);
    assert_eq!(rig.sense_interrupt(), [0x20, 3]);
    rig.dma(0, 1024);
    rig.send(&[0x42, 0, 3, 0, 9, 2, 18, 0x1B, 0xFF]);
    assert_eq!(rig.results()[..3], [0, 0, 0]);
    assert_eq!(rig.ram[..512], rig.disks[0][108 * 512..109 * 512], "from sector 1");
    rig.dma(0, 1024);
    rig.send(&[0x4C, 0, 3, 0, 9, 2, 18, 0x1B, 0xFF]);
    assert_eq!((rig.results()[..3].to_vec(), rig.count), (vec![0, 0, 0x40], 512));
    rig.send(&[0xD6, 0, 3, 0, 1, 2, 18, 0x1B, 0xFF]);
    assert_eq!(rig.results(), [0, 0, 0, 4, 0, 1, 2]);
    rig.send(&[0x56, 0x80, 3, 0, 17, 2, 18, 0x1B, 3]);
    assert_eq!(rig.results()[..2], [0x40, 4]);
}

#[test]
fn a_slow_host_keeps_the_controller_busy_and_a_reset_makes_its_answer_stale() {
    let mut rig = Rig::high_density();
    rig.slow = true;
    rig.dma(0, 512);
    rig.send(&[0x46, 0, 0, 0, 1, 2, 18, 0x1B, 0xFF]);
    assert_eq!(rig.inb(4), 0x10);
    rig.out(5, 8);
    let request = rig.waiting.take().unwrap();
    rig.out(2, 0x08);
    rig.out(2, 0x0C);
    assert!(rig.fdc.buffer(request.token).is_none());
    assert_eq!(rig.fdc.complete(request.token, Ok(())), Effect::None);
    rig.sense_interrupt();
    rig.slow = false;
    rig.fail = Some(BlkError::Medium);
    rig.send(&[0x46, 0, 0, 0, 1, 2, 18, 0x1B, 0xFF]);
    assert_eq!(rig.results()[..3], [0x40, 0x20, 0x20]);
}

#[test]
fn load_refuses_versions_and_impossible_states() {
    let rig = Rig::high_density();
    let good = rig.fdc.save();
    let mut other = Box::new(Fdc::new());
    let mut bad = good.clone();
    bad.version = 0;
    assert_eq!(other.load(&bad, &[]), Err(crate::LoadError::Version));
    for spoil in [
        |s: &mut SavedFdc| s.phase = 99,
        |s: &mut SavedFdc| s.phase = 4,
        |s: &mut SavedFdc| s.phase = 7,
        |s: &mut SavedFdc| s.command.1 = 9,
        |s: &mut SavedFdc| s.drives[0].floppy = Some((80, 3, 18, false)),
        |s: &mut SavedFdc| s.drives[1].floppy = Some((80, 2, 18, false)),
        |s: &mut SavedFdc| s.transfer[1] = 4,
    ] {
        let mut bad = good.clone();
        spoil(&mut bad);
        assert!(matches!(other.load(&bad, &[]), Err(crate::LoadError::Impossible(_))));
    }
    assert_eq!(other.load(&good, &[]), Ok(()));
    assert_eq!(other.save(), good);
}

#[test]
fn a_random_walk_never_panics_and_saves_what_it_loads() {
    const CODES: [u8; 16] = [
        0x46, 0xE6, 0x45, 0xC5, 0x42, 0x4C, 0x56, 0x4D, 0x4A, 0x0F, 0x07, 0x08, 0x03, 0x13, 0xCF,
        0x0E,
    ];
    for seed in 1..=12 {
        let mut rng = Rng::new(seed);
        let mut rig = Rig::high_density();
        rig.slow = seed % 3 == 0;
        let mut copy = Box::new(Fdc::new());
        for _ in 0..12_000 {
            rig.now = rig.now + rng.below(5_000_000);
            match rng.below(16) {
                0 => {
                    let code =
                        if rng.one_in(4) { rng.byte() } else { CODES[rng.below(16) as usize] };
                    rig.out(5, code);
                }
                1..=8 => {
                    let value = if rng.one_in(8) { rng.byte() } else { rng.below(4) as u8 };
                    rig.out(5, value);
                }
                9..=11 => {
                    let _ = rig.inb(rng.below(8) as u8);
                }
                12 if rng.one_in(10) => rig.out(rng.below(8) as u8, rng.byte()),
                12 => rig.out(2, 0x1C),
                13 => rig.dma(0, rng.below(20_000) as usize),
                14 => match rig.waiting.take() {
                    Some(request) => {
                        let effect = rig.serve(request);
                        rig.run(effect);
                    }
                    None => rig.fdc.advance(rig.now),
                },
                _ => match rng.below(60) {
                    0 => rig.fdc.eject(0),
                    1 => rig.insert(2880, false),
                    2 => rig.insert(1440, true),
                    3 => rig.out(7, 0),
                    _ => {}
                },
            }
            let saved = rig.fdc.save();
            copy.load(&saved, rig.fdc.saved_buffer()).expect("a state the chip is in");
            assert_eq!(copy.save(), saved);
            assert_eq!(copy.saved_buffer(), rig.fdc.saved_buffer());
            assert_eq!((copy.irq(), copy.due()), (rig.fdc.irq(), rig.fdc.due()));
        }
    }
}
