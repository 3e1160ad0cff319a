//! The CD drive through its channel: packet phases, byte count limits, DMA, media change.

use super::*;

impl Rig {
    /// Issues a packet; `dma` by the bus master.
    fn packet(&mut self, packet: &[u8], limit: u16, dma: bool) {
        let mut bytes = [0; 12];
        bytes[..packet.len()].copy_from_slice(packet);
        let [low, high] = limit.to_le_bytes();
        for (offset, value) in [(6, 0xA0), (1, u8::from(dma)), (4, low), (5, high), (7, 0xA0)] {
            self.out(offset, value);
        }
        assert_eq!((self.ide.read_control(P), self.ide.read(P, 2)), (0x58, 1), "command phase");
        assert!(!self.ide.irq(P));
        assert_eq!(self.write_data(&bytes), 12);
    }

    /// Reads all data blocks; returns them and the final status.
    fn drain(&mut self) -> (Vec<u8>, u8) {
        let mut all = Vec::new();
        for _ in 0..10_000 {
            assert!(self.ide.irq(P));
            let status = self.status();
            if status & 8 == 0 {
                assert_eq!(self.ide.read(P, 2), 3, "status phase");
                return (all, status);
            }
            assert_eq!(self.ide.read(P, 2), 2, "data to the host");
            let bytes = u16::from_le_bytes([self.ide.read(P, 4), self.ide.read(P, 5)]);
            let data = self.read_data(usize::from(bytes).next_multiple_of(2));
            all.extend(&data[..usize::from(bytes)]);
        }
        panic!("the data phase does not end");
    }

    fn sense(&mut self) -> [u8; 3] {
        self.packet(&[3, 0, 0, 0, 18], 18, false);
        let (data, _) = self.drain();
        [data[2], data[12], data[13]]
    }
}

fn cd() -> Rig {
    Rig::new().cdrom(0, 200)
}

#[test]
fn read_10_by_pio_honours_the_byte_count_limit_in_whole_blocks() {
    let mut rig = cd();
    for limit in [2048, 0xFFFE, 0, 5000, 512, 2] {
        rig.packet(&[0x28, 0, 0, 0, 0, 7, 0, 0, 3], limit, false);
        let (data, status) = rig.drain();
        assert_eq!((data.as_slice(), status), (&rig.disks[0][7 * 2048..10 * 2048], 0x50));
    }
    rig.requests = 0;
    rig.packet(&[0x28, 0, 0, 0, 0, 0, 0, 0, 100], 0xF800, false);
    assert_eq!(rig.drain().0, rig.disks[0][..100 * 2048]);
    assert_eq!(rig.requests, 4, "64 KiB a host request");
}

#[test]
fn read_12_by_dma_goes_straight_to_memory() {
    let mut rig = cd();
    rig.prds(0x1000, &[(0x10_0000, 0x1000), (0x10_1000, 0x1000)]);
    rig.bm(0, 0x08);
    rig.packet(&[0xA8, 0, 0, 0, 0, 16, 0, 0, 0, 4], 0, true);
    rig.bm(0, 0x09);
    assert!(rig.ide.irq(P));
    assert_eq!(rig.ide.busmaster_read(2), 4);
    assert_eq!((rig.status(), rig.ide.read(P, 2)), (0x50, 3));
    assert_eq!(rig.ram[0x10_0000..0x10_2000], rig.disks[0][16 * 2048..20 * 2048]);
    // A short reply by DMA ends with the table longer than the data.
    rig.bm(0, 0x08);
    rig.bm(2, 4);
    rig.packet(&[0x12, 0, 0, 0, 36], 0, true);
    rig.bm(0, 0x09);
    assert_eq!((rig.ide.busmaster_read(2), rig.status()), (5, 0x50));
    assert_eq!(&rig.ram[0x10_0008..0x10_0010], b"XENOLITH");
}

#[test]
fn raw_blocks_carry_sync_and_header_by_pio_and_by_dma() {
    let mut rig = cd();
    let packet = [0xBE, 0, 0, 0, 0, 5, 0, 0, 40, 0xF8];
    rig.packet(&packet, 0xFFFE, false);
    let (data, _) = rig.drain();
    assert_eq!(data.len(), 40 * 2352);
    for (i, raw) in data.chunks(2352).enumerate() {
        let frame = i as u8 + 5;
        let bcd = frame / 10 * 16 + frame % 10;
        assert_eq!(
            raw[..16],
            [0, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 0, 0, 2, bcd, 1]
        );
        assert_eq!(raw[16..2064], rig.disks[0][(i + 5) * 2048..(i + 6) * 2048]);
    }
    rig.prds(0x1000, &[(0x10_0000, 0), (0x11_0000, 0)]);
    rig.bm(0, 0x09);
    rig.packet(&packet, 0, true);
    assert_eq!(rig.status(), 0x50);
    assert_eq!(rig.ram[0x10_0000..0x10_0000 + data.len()], data);
    rig.packet(&[0xBE, 4, 0, 0, 0, 5, 0, 0, 1, 0x10], 2352, false);
    assert_eq!(rig.drain().1, 0x51);
    assert_eq!(rig.sense(), [5, 0x64, 0], "no audio here");
}

#[test]
fn the_door_and_the_medium_tell_their_story_in_sense_data() {
    let mut rig = cd();
    rig.packet(&[0x1E, 0, 0, 0, 1], 0, false);
    rig.packet(&[0x1B, 0, 0, 0, 2], 0, false);
    assert_eq!(rig.drain().1, 0x51);
    assert_eq!(rig.sense(), [5, 0x53, 2], "locked");
    assert!(!rig.ide.cdrom(MASTER).unwrap().eject(), "the button asks the guest");
    rig.packet(&[0x4A, 1, 0, 0, 0x10, 0, 0, 0, 8], 8, false);
    let (data, _) = rig.drain();
    assert_eq!(data, [0, 6, 4, 0x10, 1, 2, 0, 0], "eject request, medium present");
    rig.packet(&[0x1E], 0, false);
    rig.packet(&[0x1B, 0, 0, 0, 2], 0, false);
    assert_eq!((rig.drain().1, rig.trays.as_slice()), (0x50, &[true][..]));
    rig.packet(&[0], 0, false);
    assert_eq!((rig.drain().1, rig.ide.read(P, 1)), (0x51, 0x20));
    assert_eq!(rig.sense(), [2, 0x3A, 2]);
    rig.ide.cdrom(MASTER).unwrap().insert(&Media::cdrom(50));
    rig.packet(&[0], 0, false);
    assert_eq!(rig.drain().1, 0x51);
    assert_eq!(rig.sense(), [6, 0x28, 0], "the medium has changed");
    rig.packet(&[0x25], 8, false);
    assert_eq!(rig.drain().0, [0, 0, 0, 49, 0, 0, 8, 0]);
}

#[test]
fn parameters_of_mode_select_come_by_pio_and_by_dma() {
    let mut rig = cd();
    let list = [0, 18, 0, 0, 0, 0, 0, 0, 1, 10, 0x24, 7, 0, 0, 0, 0, 0, 0, 0, 0];
    rig.packet(&[0x55, 0x10, 0, 0, 0, 0, 0, 0, 20], 20, false);
    assert_eq!((rig.status(), rig.ide.read(P, 2), rig.ide.read(P, 4)), (0x58, 0, 20));
    assert_eq!(rig.write_data(&list), 20);
    assert_eq!(rig.drain().1, 0x50);
    rig.packet(&[0x5A, 0, 1, 0, 0, 0, 0, 0, 20], 20, false);
    assert_eq!(rig.drain().0[8..12], [1, 10, 0x24, 7]);
    rig.ram[0x2000..0x2014].copy_from_slice(&list);
    rig.ram[0x2000 + 11] = 9;
    rig.prds(0x1000, &[(0x2000, 20)]);
    rig.packet(&[0x55, 0x10, 0, 0, 0, 0, 0, 0, 20], 0, true);
    rig.bm(0, 0x01);
    assert_eq!(rig.status(), 0x50);
    rig.packet(&[0x5A, 0, 1, 0, 0, 0, 0, 0, 20], 20, false);
    assert_eq!(rig.drain().0[8..12], [1, 10, 0x24, 9]);
}

#[test]
fn odd_lengths_cost_the_reader_a_pad_byte() {
    let mut rig = cd();
    rig.packet(&[0x12, 0, 0, 0, 5], 0xFFFE, false);
    assert_eq!(rig.ide.read(P, 4), 5);
    assert_eq!(rig.read_data(6), [5, 0x80, 5, 0x32, 31, 0]);
    assert_eq!(rig.status(), 0x50);
}

#[test]
fn device_reset_gets_the_drive_out_of_any_command_and_shows_the_signature() {
    let mut rig = cd();
    rig.slow = true;
    rig.packet(&[0x28, 0, 0, 0, 0, 7, 0, 0, 3], 2048, false);
    assert_eq!(rig.status(), 0xD0);
    rig.out(7, 0x08);
    let regs: Vec<u8> = (1..8).map(|r| rig.ide.read(P, r)).collect();
    assert_eq!(regs, [1, 1, 1, 0x14, 0xEB, 0xA0, 0]);
    let stale = rig.waiting.take().unwrap();
    assert_eq!(rig.ide.complete(stale.token, Ok(())), Effect::None);
}

#[test]
fn host_errors_become_sense_data() {
    let mut rig = cd();
    for (error, sense) in [
        (BlkError::Medium, [3, 0x11, 0]),
        (BlkError::NoMedium, [2, 0x3A, 0]),
        (BlkError::Range, [5, 0x21, 0]),
    ] {
        rig.fail = Some(error);
        rig.packet(&[0x28, 0, 0, 0, 0, 7, 0, 0, 3], 2048, false);
        assert_eq!(rig.drain().1, 0x51);
        assert_eq!(rig.sense(), sense);
    }
}
