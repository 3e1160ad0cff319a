use super::*;
use crate::net::{Memory, Received, add_words};
use crate::state::LoadError;
use crate::testing::{Rng, TestMemory};
use std::vec::Vec;

const MAC: [u8; 6] = [0x00, 0x16, 0x3E, 0x12, 0x34, 0x56];
const RX_RING: u64 = 0x1000;
const TX_RING: u64 = 0x2000;
const BUFFERS: u64 = 0x8000;
const NOW: Nanos = Nanos(1_000_000);

/// A card whose driver has set up eight descriptors each way.
struct Bench {
    card: E1000,
    memory: TestMemory,
    wire: Vec<Vec<u8>>,
}

impl Bench {
    fn new() -> Bench {
        let mut bench =
            Bench { card: E1000::new(MAC), memory: TestMemory::new(1 << 17), wire: Vec::new() };
        for n in 0..8u64 {
            let address = (BUFFERS + n * 2048).to_le_bytes();
            assert!(bench.memory.write(RX_RING + n * 16, &address));
        }
        for (at, value) in [
            (0x2800, RX_RING as u32),
            (0x2808, 128),
            (0x2818, 7),
            (0x3800, TX_RING as u32),
            (0x3808, 128),
            (0x0100, 1 << 1 | 1 << 15 | 1 << 26),
            (0x0400, 1 << 1 | 1 << 3),
        ] {
            let _ = bench.card.write(at, value, NOW);
        }
        bench
    }

    /// Writes transmit descriptors from the first on and sends them.
    fn send(&mut self, descriptors: &[(u64, u64)]) {
        for (n, (low, high)) in (0u64..).zip(descriptors) {
            assert!(self.memory.write(TX_RING + n * 16, &low.to_le_bytes()));
            assert!(self.memory.write(TX_RING + n * 16 + 8, &high.to_le_bytes()));
        }
        let effect = self.card.write(0x3818, descriptors.len() as u32, NOW);
        assert_eq!(effect, E1000Effect::Transmit);
        let wire = &mut self.wire;
        self.card.transmit(&self.memory, NOW, &mut |frame| wire.push(frame.to_vec()));
    }

    fn put(&self, bytes: &[u8]) {
        assert!(self.memory.write(BUFFERS, bytes));
    }

    fn receive(&mut self, to: [u8; 6], len: usize) -> Received {
        let mut frame = std::vec![0x5A; len];
        frame[..6].copy_from_slice(&to);
        self.card.receive_frame(&self.memory, &frame, NOW)
    }
}

const EOP_RS: u64 = 9;

#[test]
fn a_legacy_descriptor_sends_its_bytes_padded_and_is_written_back() {
    let mut bench = Bench::new();
    let _ = bench.card.write(0xD0, cause::TXDW, NOW);
    bench.put(&[7; 20]);
    bench.send(&[(BUFFERS, 20 | EOP_RS << 24)]);
    assert_eq!(bench.wire[0][..20], [7; 20]);
    assert_eq!(bench.wire[0].len(), 60);
    assert_eq!(bench.memory.bytes(TX_RING + 12, 1), [1], "done");
    assert_eq!(bench.card.read(0x3810, NOW), 1);
    assert!(bench.card.irq());
    assert_eq!(bench.card.read(0xC0, NOW), cause::TXDW | cause::TXQE);
    assert!(!bench.card.irq(), "reading the causes clears them");
    assert_eq!((bench.card.read(0x4080, NOW), bench.card.read(0x4080, NOW)), (1, 0));
}

#[test]
fn a_frame_of_several_descriptors_goes_out_as_one() {
    let mut bench = Bench::new();
    bench.put(&(0..100).collect::<Vec<u8>>());
    bench.send(&[(BUFFERS, 30), (BUFFERS + 30, 40), (BUFFERS + 70, 30 | EOP_RS << 24)]);
    assert_eq!(bench.wire, [(0..100).collect::<Vec<u8>>()]);
}

#[test]
fn frames_too_short_too_long_or_outside_ram_are_dropped_and_the_ring_goes_on() {
    let mut bench = Bench::new();
    bench.send(&[
        (BUFFERS, 13 | EOP_RS << 24),
        (1 << 40, 100 | EOP_RS << 24),
        (0, 0xFFFF),
        (BUFFERS, 64 | EOP_RS << 24),
        (BUFFERS, 64 | EOP_RS << 24),
    ]);
    assert_eq!(bench.wire.len(), 1);
    assert_eq!(bench.card.read(0x3810, NOW), 5);
}

#[test]
fn a_ring_outside_ram_or_pointers_outside_the_ring_send_nothing() {
    let mut bench = Bench::new();
    let _ = bench.card.write(0x3800, 0xFFFF_0000, NOW);
    assert_eq!(bench.card.write(0x3818, 3, NOW), E1000Effect::Transmit);
    bench.card.transmit(&bench.memory, NOW, &mut |_| panic!("nothing to send"));
    assert!(!bench.card.can_transmit());
    for (head, tail) in [(0, 8), (0xFFFF, 1), (9, 9)] {
        let _ = bench.card.write(0x3810, head, NOW);
        assert_eq!(bench.card.write(0x3818, tail, NOW), E1000Effect::Nothing);
    }
}

/// A TCP/IPv4 packet with so much payload, its sums as Linux leaves them.
fn tcp_packet(payload: usize, pseudo_length: u16) -> Vec<u8> {
    let mut packet = std::vec![0; 54 + payload];
    packet[..14].copy_from_slice(&[1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 8, 0]);
    packet[14..34].copy_from_slice(&[
        0x45, 0, 0, 0, 0x12, 0x34, 0x40, 0, 64, 6, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2,
    ]);
    packet[38..42].copy_from_slice(&0xFFFF_FFF0u32.to_be_bytes());
    (packet[46], packet[47]) = (0x50, 0x19);
    for (n, byte) in packet[54..].iter_mut().enumerate() {
        *byte = n as u8;
    }
    let [high, low] = pseudo_length.to_be_bytes();
    let sum = add_words(0, &[10, 0, 0, 1, 10, 0, 0, 2, 0, 6, high, low]);
    packet[50..52].copy_from_slice(&sum.to_be_bytes());
    packet
}

/// Whether both checksums of an IPv4 packet are right.
fn sums_are_right(frame: &[u8]) -> bool {
    let length = (frame.len() - 34) as u16;
    let pseudo = add_words(0, &frame[26..34]);
    let pseudo = add_words(add_words(pseudo, &[0, 6]), &length.to_be_bytes());
    add_words(0, &frame[14..34]) == 0xFFFF && add_words(pseudo, &frame[34..]) == 0xFFFF
}

/// The context descriptor of [`tcp_packet`].
fn context(command: u64, payload: u64, mss: u64) -> (u64, u64) {
    let low = 14 | 24 << 8 | 33 << 16 | 34 << 32 | 50 << 40;
    (low, payload | (command | 0x20) << 24 | 54 << 40 | mss << 48)
}

#[test]
fn a_data_descriptor_gets_its_checksums() {
    let mut bench = Bench::new();
    let mut packet = tcp_packet(10, 30);
    packet[17] = 50;
    bench.put(&packet);
    bench.send(&[context(3, 0, 0), (BUFFERS, 64 | 1 << 20 | 0x29 << 24 | 3 << 40)]);
    assert_eq!(bench.wire.len(), 1);
    assert!(sums_are_right(&bench.wire[0]));
}

#[test]
fn a_large_send_is_cut_into_segments_whose_headers_and_sums_are_right() {
    let mut bench = Bench::new();
    bench.put(&tcp_packet(2500, 0));
    let data = |at: u64, len: u64, command: u64| {
        (BUFFERS + at, len | 1 << 20 | (command | 0x24) << 24 | 3 << 40)
    };
    bench.send(&[context(7, 2500, 1000), data(0, 54, 0), data(54, 1000, 0), data(1054, 1500, 9)]);
    let lengths: Vec<usize> = bench.wire.iter().map(Vec::len).collect();
    assert_eq!(lengths, [1054, 1054, 554]);
    let mut sequence = 0xFFFF_FFF0u32;
    for (n, frame) in bench.wire.iter().enumerate() {
        assert!(sums_are_right(frame), "segment {n}");
        assert_eq!(frame[38..42], sequence.to_be_bytes());
        assert_eq!(u16::from_be_bytes([frame[18], frame[19]]), 0x1234 + n as u16);
        assert_eq!(usize::from(u16::from_be_bytes([frame[16], frame[17]])), frame.len() - 14);
        assert_eq!(frame[47], if n == 2 { 0x19 } else { 0x10 }, "FIN and PSH at the end");
        assert_eq!(frame[54], (n * 1000) as u8);
        sequence = sequence.wrapping_add(1000);
    }
}

#[test]
fn segments_that_no_stack_asks_for_are_not_made() {
    for (mss, header) in [(0, 54), (47, 54), (1000, 13), (16_200, 54)] {
        let mut bench = Bench::new();
        let (low, high) = context(7, 60_000, mss);
        let high = high & !(0xFF << 40) | header << 40;
        let data = (BUFFERS, 60_000 | 1 << 20 | 0x2D << 24);
        bench.send(&[(low, high), data]);
        assert!(bench.wire.is_empty(), "{mss} {header}");
    }
}

#[test]
fn vlan_tags_are_put_on_and_taken_off() {
    let mut bench = Bench::new();
    let ctrl = bench.card.read(0, NOW);
    let _ = bench.card.write(0, ctrl | 1 << 30, NOW);
    let _ = bench.card.write(0x38, 0x8100, NOW);
    bench.put(&[9; 64]);
    bench.send(&[(BUFFERS, 64 | (EOP_RS | 0x40) << 24 | 0x0123 << 48)]);
    assert_eq!(bench.wire[0].len(), 68);
    assert_eq!(bench.wire[0][10..18], [9, 9, 0x81, 0, 0x01, 0x23, 9, 9]);
    let mut frame = bench.wire[0].clone();
    frame[..6].copy_from_slice(&MAC);
    assert_eq!(bench.card.receive_frame(&bench.memory, &frame, NOW), Received::Taken);
    assert_eq!(bench.memory.bytes(BUFFERS + 10, 4), [9; 4]);
    let back = bench.memory.bytes(RX_RING + 8, 8);
    assert_eq!(back, [64, 0, 0, 0, 0x0F, 0, 0x23, 0x01]);
}

#[test]
fn a_frame_for_us_fills_a_buffer_and_raises_rxt0() {
    let mut bench = Bench::new();
    let _ = bench.card.write(0xD0, cause::RXT0, NOW);
    assert_eq!(bench.receive(MAC, 20), Received::Taken);
    let back = bench.memory.bytes(RX_RING + 8, 8);
    assert_eq!(back, [60, 0, 0, 0, 7, 0, 0, 0], "padded, done, end, sums not looked at");
    assert_eq!(bench.memory.bytes(BUFFERS + 6, 15), [[0x5A; 14].as_slice(), &[0]].concat());
    assert!(bench.card.irq());
    assert_eq!(bench.card.read(0x2810, NOW), 1);
}

#[test]
fn frames_for_others_pass_by_unless_asked_for() {
    let other = [2, 0, 0, 0, 0, 1];
    let group = [1, 0, 0x5E, 0, 0, 0xFB];
    let mut bench = Bench::new();
    let rctl = bench.card.read(0x100, NOW);
    assert_eq!(bench.receive(other, 60), Received::Unwanted);
    assert_eq!(bench.receive(group, 60), Received::Unwanted);
    assert_eq!(bench.receive([0xFF; 6], 60), Received::Taken);
    // MTA with MO 0: bits 47:36 of the address.
    let hash = (u16::from_le_bytes([group[4], group[5]]) >> 4) as u32;
    let _ = bench.card.write(0x5200 + hash / 32 * 4, 1 << (hash % 32), NOW);
    assert_eq!(bench.receive(group, 60), Received::Taken);
    assert_eq!(bench.receive([1, 0, 0x5E, 0, 0, 1], 60), Received::Unwanted);
    let _ = bench.card.write(0x5200 + hash / 32 * 4, 0, NOW);
    let _ = bench.card.write(0x100, rctl | 1 << 4, NOW);
    assert_eq!(bench.receive(group, 60), Received::Taken);
    let _ = bench.card.write(0x100, rctl | 1 << 3, NOW);
    assert_eq!(bench.receive(other, 60), Received::Taken);
    let _ = bench.card.write(0x100, 0, NOW);
    assert_eq!(bench.receive(MAC, 60), Received::Unwanted);
    let _ = bench.card.write(0x100, rctl, NOW);
    assert_eq!(bench.receive(MAC, 1519), Received::Unwanted);
}

#[test]
fn without_buffers_a_frame_waits_and_a_jumbo_takes_several() {
    let mut bench = Bench::new();
    let _ = bench.card.write(0x2818, 0, NOW);
    assert_eq!(bench.receive(MAC, 60), Received::NoRoom);
    assert_eq!(bench.card.write(0x2818, 4, NOW), E1000Effect::Room);
    let rctl = bench.card.read(0x100, NOW);
    let _ = bench.card.write(0x100, rctl | 1 << 5, NOW);
    assert_eq!(bench.receive(MAC, 9000), Received::NoRoom, "five buffers, four are there");
    assert_eq!(bench.receive(MAC, 8000), Received::Taken);
    assert_eq!(bench.memory.bytes(RX_RING + 12, 1), [5]);
    assert_eq!(bench.memory.bytes(RX_RING + 3 * 16 + 8, 5), [0x40, 0x07, 0, 0, 7]);
    assert_eq!(bench.card.read(0xC0, NOW) & cause::RXDMT0, cause::RXDMT0);
}

#[test]
fn throttled_interrupts_come_apart_and_none_is_lost() {
    let mut bench = Bench::new();
    let _ = bench.card.write(0xC4, 200, NOW);
    let _ = bench.card.write(0xD0, cause::RXT0, NOW);
    assert_eq!(bench.receive(MAC, 60), Received::Taken);
    assert!(bench.card.irq() && bench.card.due().is_none());
    bench.card.read(0xC0, NOW);
    assert_eq!(bench.receive(MAC, 60), Received::Taken);
    assert!(!bench.card.irq());
    assert_eq!(bench.card.due(), Some(NOW + 200 * 256));
    bench.card.advance(NOW + 200 * 256);
    assert!(bench.card.irq());
}

#[test]
fn the_cable_and_the_driver_make_the_link() {
    let mut bench = Bench::new();
    let _ = bench.card.write(0xD0, cause::LSC, NOW);
    bench.card.set_cable(false, NOW);
    assert!(bench.card.irq());
    assert_eq!(bench.card.read(0xC0, NOW), cause::LSC);
    assert_eq!(bench.card.read(8, NOW) & 2, 0);
    assert_eq!(bench.receive(MAC, 60), Received::Unwanted);
    bench.put(&[7; 60]);
    bench.send(&[(BUFFERS, 60 | EOP_RS << 24)]);
    assert!(bench.wire.is_empty());
    bench.card.set_cable(true, NOW);
    assert_eq!(bench.card.read(8, NOW), 0x283);
}

/// Linux 6.1, e1000_probe and e1000_up for the 82540EM: reset by I/O port, EEPROM by its pins, PHY.
#[test]
fn linux_boot_script() {
    let mut card = E1000::new(MAC);
    let _ = card.write(0xD8, u32::MAX, NOW);
    let _ = card.write(0x100, 0, NOW);
    let _ = card.write(0x400, 1 << 3, NOW);
    let ctrl = card.read(0, NOW);
    let _ = card.io_write(0, 0, NOW);
    let _ = card.io_write(4, ctrl | 1 << 26, NOW);
    assert_eq!(card.io_read(4, NOW) & 1 << 26, 0, "reset is over at once");
    let sum = (0..64).fold(0u16, |sum, word| sum.wrapping_add(read_eeprom(&mut card, word)));
    assert_eq!(sum, 0xBABA);
    let mac: Vec<u8> = (0..3).flat_map(|n| read_eeprom(&mut card, n).to_le_bytes()).collect();
    assert_eq!(mac, MAC);
    let mut phy = |register: u32| {
        let _ = card.write(0x20, register << 16 | 1 << 21 | 2 << 26, NOW);
        let mdic = card.read(0x20, NOW);
        assert_eq!(mdic >> 28 & 5, 1, "ready, no error");
        mdic & 0xFFFF
    };
    assert_eq!((phy(2) << 16 | phy(3)) & !0xF, 0x0141_0C20);
    assert_eq!(phy(1) & 0x24, 0x24, "link, negotiated");
    assert_eq!(phy(17) & 0xC000, 0x8000, "1000 Mb/s");
    let _ = card.write(0x20, 1 << 26 | 1 << 21 | 0x1340, NOW);
    assert_eq!(card.read(0xC0, NOW) & cause::LSC, cause::LSC, "negotiation ends");
    assert_eq!(card.read(8, NOW) & 2, 2);
    let _ = card.write(0x20, 2 << 21 | 2 << 26, NOW);
    assert_eq!(card.read(0x20, NOW) >> 30 & 1, 1, "there is one PHY");
}

fn read_eeprom(card: &mut E1000, word: u32) -> u16 {
    let _ = card.write(0x10, 1 << 6, NOW);
    assert_eq!(card.read(0x10, NOW) >> 7 & 3, 3, "granted, present");
    let mut pins = |data: u32| {
        let _ = card.write(0x10, 1 << 6 | 2 | data << 2, NOW);
        let _ = card.write(0x10, 1 << 6 | 3 | data << 2, NOW);
        card.read(0x10, NOW) >> 3 & 1
    };
    for bit in (0..9).rev() {
        pins((0b110 << 6 | word) >> bit & 1);
    }
    let value = (0..16).fold(0, |value, _| value << 1 | pins(0));
    let _ = card.write(0x10, 1 << 6, NOW);
    value as u16
}

/// iPXE, intel.c: the address from RAL0 and RAH0, or the EEPROM by EERD.
#[test]
fn ipxe_boot_script() {
    let mut card = E1000::new(MAC);
    let address = u64::from(card.read(0x5404, NOW)) << 32 | u64::from(card.read(0x5400, NOW));
    assert_eq!(address.to_le_bytes(), [0x00, 0x16, 0x3E, 0x12, 0x34, 0x56, 0, 0x80]);
    let _ = card.write(0x14, 2 << 8 | 1, NOW);
    assert_eq!(card.read(0x14, NOW), 0x5634_0210);
    let _ = card.write(0x14, 0xFF << 8 | 1, NOW);
    assert_eq!(card.read(0x14, NOW), 0xFF10, "beyond the end");
}

#[test]
fn reset_keeps_the_address_and_the_cable() {
    let mut bench = Bench::new();
    bench.card.set_cable(false, NOW);
    let _ = bench.card.write(0x5200, 1, NOW);
    let _ = bench.card.write(0, 1 << 26, NOW);
    assert_eq!(bench.card.read(0x5200, NOW), 1, "a software reset leaves the table alone");
    bench.card.reset();
    let mut fresh = E1000::new(MAC);
    fresh.set_cable(false, NOW);
    assert_eq!(bench.card.read(0xC0, NOW), 0);
    fresh.read(0xC0, NOW);
    assert_eq!(bench.card, fresh);
}

#[test]
fn a_random_walk_survives_save_and_load() {
    let mut rng = Rng::new(0xE1000);
    let mut bench = Bench::new();
    for step in 0..30_000u64 {
        let now = Nanos(step * 1000);
        let offset = match rng.below(6) {
            0 => 0x2800 + (rng.next() as u32 & 0x1C),
            1 | 2 => 0x3800 + (rng.next() as u32 & 0x1C),
            3 => rng.next() as u32 & 0x5FC,
            _ => rng.next() as u32 & 0x1_FFFF,
        };
        let value = match rng.below(4) {
            0 => rng.below(8) as u32,
            1 => rng.next() as u32,
            2 => rng.below(0x8000) as u32 & !15,
            _ => 1 << rng.below(32),
        };
        match rng.below(8) {
            0 => drop(bench.card.read(offset, now)),
            1 => drop(bench.card.io_read(rng.byte(), now)),
            2 => bench.card.advance(now),
            3 => {
                let at = rng.below(1 << 14);
                assert!(bench.memory.write(at, &rng.next().to_le_bytes()));
            }
            4 => {
                let to = if rng.one_in(2) { MAC } else { [0xFF; 6] };
                let len = 14 + rng.below(2000) as usize;
                let _ = bench.receive(to, len);
            }
            5 if rng.one_in(50) => bench.card.set_cable(rng.one_in(2), now),
            _ => {
                let _ = bench.card.write(offset, value, now);
            }
        }
        bench.card.transmit(&bench.memory, now, &mut |frame| assert!(frame.len() >= 14));
        assert!(!bench.card.irq() || bench.card.icr & bench.card.ims != 0);
        if step % 16 == 0 {
            let mut copy = E1000::new([0; 6]);
            copy.load(&bench.card.save()).unwrap();
            assert_eq!(copy, bench.card);
        }
    }
}

#[test]
fn states_that_no_card_could_have_are_refused() {
    let mut card = E1000::new(MAC);
    let good = card.save();
    assert_eq!(card.load(&E1000State { version: 9, ..good.clone() }), Err(LoadError::Version));
    let refused = |card: &mut E1000, change: fn(&mut E1000State), field| {
        let mut bad = good.clone();
        change(&mut bad);
        assert_eq!(card.load(&bad), Err(LoadError::Impossible(field)));
    };
    refused(&mut card, |s| s.registers[4] = 1 << 20, "interrupts");
    refused(&mut card, |s| s.registers[6] = 1 << 16, "itr");
    refused(&mut card, |s| s.registers[9] = MEMORY_SIZE, "io_address");
    refused(&mut card, |s| s.irq = true, "irq");
    refused(&mut card, |s| s.rings[0].length = 16, "ring");
    refused(&mut card, |s| s.sending.packet = std::vec![0; 4], "packet");
    assert_eq!(card, E1000::new(MAC));
}
