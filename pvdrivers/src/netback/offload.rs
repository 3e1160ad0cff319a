//! What a card does for a stack, in software: checksums filled in, large packets cut. For whoever
//! is at the other end and cannot. RFC 1071 "Checksum", RFC 9293 (TCP), RFC 8200 (IPv6).

use super::abi::Gso;
use super::abi::control::hash_type;
use super::{Packet, Sum};
use crate::bridge::HEADER;
use alloc::vec::Vec;

const TCP: u8 = 6;
const UDP: u8 = 17;

/// Where a packet's headers are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Layout {
    /// First byte of the IP header.
    ip: usize,
    ipv6: bool,
    /// First byte of the TCP or UDP header.
    transport: usize,
    protocol: u8,
    /// The end of the IP packet.
    end: usize,
}

/// Big-endian words summed in one's complement, onto `sum`.
fn add(sum: u32, bytes: &[u8]) -> u32 {
    let words = bytes.chunks(2).map(|pair| match *pair {
        [high, low] => u32::from(u16::from_be_bytes([high, low])),
        [high] => u32::from(high) << 8,
        _ => 0,
    });
    words.fold(sum, |sum, word| {
        let sum = sum + word;
        (sum & 0xffff) + (sum >> 16)
    })
}

fn get16(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes(*bytes.get(at..)?.first_chunk()?))
}

fn put16(bytes: &mut [u8], at: usize, value: u16) {
    if let Some(place) = bytes.get_mut(at..at + 2) {
        place.copy_from_slice(&value.to_be_bytes());
    }
}

/// Offset of the Ethernet payload and its type, behind one VLAN tag at most.
fn payload(bytes: &[u8]) -> Option<(usize, u16)> {
    match get16(bytes, 12)? {
        0x8100 => Some((HEADER + 4, get16(bytes, 16)?)),
        other => Some((HEADER, other)),
    }
}

/// Whether it is an IPv6 packet.
#[must_use]
pub fn is_ipv6(bytes: &[u8]) -> bool {
    payload(bytes).is_some_and(|(_, kind)| kind == 0x86dd)
}

/// Finds the headers of a TCP or UDP packet that is no fragment. IPv6 only without extension
/// headers, as Linux asks for offloads.
fn layout(bytes: &[u8]) -> Option<Layout> {
    let (ip, kind) = payload(bytes)?;
    let (ipv6, header, protocol, length) = match kind {
        0x0800 => {
            let first = *bytes.get(ip)?;
            let fragment = get16(bytes, ip + 6)? & 0x3fff;
            if first >> 4 != 4 || fragment != 0 {
                return None;
            }
            let length = usize::from(get16(bytes, ip + 2)?);
            (false, usize::from(first & 15) * 4, *bytes.get(ip + 9)?, length)
        }
        0x86dd => (true, 40, *bytes.get(ip + 6)?, 40 + usize::from(get16(bytes, ip + 4)?)),
        _ => return None,
    };
    let least = match protocol {
        TCP => 20,
        UDP => 8,
        _ => return None,
    };
    let transport = ip + header;
    // A packet that is to be cut may have no true length in its header.
    let end = if ip + length > bytes.len() || length == 0 { bytes.len() } else { ip + length };
    (header >= 20 && transport + least <= end).then_some(Layout {
        ip,
        ipv6,
        transport,
        protocol,
        end,
    })
}

impl Layout {
    /// Where the checksum is.
    fn sum_at(&self) -> usize {
        self.transport + if self.protocol == TCP { 16 } else { 6 }
    }

    /// The pseudo-header's sum.
    fn pseudo(&self, bytes: &[u8]) -> u32 {
        let addresses = if self.ipv6 { 8..40 } else { 12..20 };
        let addresses = bytes.get(self.ip + addresses.start..self.ip + addresses.end);
        let length = (self.end - self.transport) as u32;
        let sum = add(u32::from(self.protocol), addresses.unwrap_or_default());
        add(sum, &length.to_be_bytes())
    }
}

/// Fills in the checksum of a TCP or UDP packet, whatever stands there. False for other packets.
pub fn fill_checksum(bytes: &mut [u8]) -> bool {
    let Some(layout) = layout(bytes) else { return false };
    put16(bytes, layout.sum_at(), 0);
    let covered = bytes.get(layout.transport..layout.end).unwrap_or_default();
    let sum = !(add(layout.pseudo(bytes), covered) as u16);
    // RFC 768: a sum of zero is sent as ones; zero means none.
    let sum = if sum == 0 && layout.protocol == UDP { 0xffff } else { sum };
    put16(bytes, layout.sum_at(), sum);
    true
}

/// Cuts a TCP packet into segments of `gso.size` bytes, each with its headers and checksums, and
/// hands them to `out` until that says false. `scratch` is where they are made. False where the
/// packet is not TCP over the IP that it says.
pub fn segments(
    bytes: &[u8],
    gso: Gso,
    scratch: &mut Vec<u8>,
    out: &mut dyn FnMut(&[u8]) -> bool,
) -> bool {
    let Some(found) = layout(bytes) else { return false };
    let data_offset = bytes.get(found.transport + 12).map_or(0, |byte| usize::from(byte >> 4) * 4);
    let header = found.transport + data_offset;
    if found.protocol != TCP || found.ipv6 != gso.ipv6 || data_offset < 20 || gso.size == 0 {
        return false;
    }
    let (Some(head), Some(data)) = (bytes.get(..header), bytes.get(header..)) else {
        return false;
    };
    let sequence = bytes.get(found.transport + 4..).and_then(|at| at.first_chunk());
    let sequence = sequence.map_or(0, |bytes| u32::from_be_bytes(*bytes));
    let count = data.len().div_ceil(usize::from(gso.size));
    for (n, piece) in data.chunks(usize::from(gso.size)).enumerate() {
        scratch.clear();
        scratch.extend_from_slice(head);
        scratch.extend_from_slice(piece);
        let segment = scratch.as_mut_slice();
        let length = (segment.len() - found.ip) as u16;
        if found.ipv6 {
            put16(segment, found.ip + 4, length - 40);
        } else {
            put16(segment, found.ip + 2, length);
            let id = get16(segment, found.ip + 4).unwrap_or(0).wrapping_add(n as u16);
            put16(segment, found.ip + 4, id);
            put16(segment, found.ip + 10, 0);
            let covered = segment.get(found.ip..found.transport).unwrap_or_default();
            put16(segment, found.ip + 10, !(add(0, covered) as u16));
        }
        let sent = sequence.wrapping_add(n as u32 * u32::from(gso.size));
        if let Some(place) = segment.get_mut(found.transport + 4..found.transport + 8) {
            place.copy_from_slice(&sent.to_be_bytes());
        }
        if let Some(flags) = segment.get_mut(found.transport + 13) {
            // FIN and PSH are the last one's, CWR the first one's (RFC 3168).
            *flags &= if n + 1 < count { !9 } else { 0xff } & if n > 0 { !0x80 } else { 0xff };
        }
        fill_checksum(segment);
        if !out(segment) {
            break;
        }
    }
    true
}

/// Makes frames for a wire, or for a card that knows no offloads, of a packet: cut, and with its
/// checksum. A large packet that cannot be cut is dropped. `scratch` is where they are made.
pub fn to_wire(packet: Packet<'_>, scratch: &mut Vec<u8>, out: &mut dyn FnMut(&[u8])) {
    match packet.gso {
        Some(gso) => {
            segments(packet.bytes, gso, scratch, &mut |segment| {
                out(segment);
                true
            });
        }
        None if packet.sum == Sum::Blank => {
            scratch.clear();
            scratch.extend_from_slice(packet.bytes);
            fill_checksum(scratch);
            out(scratch);
        }
        None => out(packet.bytes),
    }
}

/// A number that is the same for all packets of a flow.
#[must_use]
pub fn flow(bytes: &[u8]) -> u32 {
    let Some(found) = layout(bytes) else { return 0 };
    let addresses = if found.ipv6 { 8..40 } else { 12..20 };
    let part = |range: core::ops::Range<usize>| bytes.get(range).unwrap_or_default();
    let words = part(found.ip + addresses.start..found.ip + addresses.end)
        .iter()
        .chain(part(found.transport..found.transport + 4));
    let hash = words
        .fold(0x811c_9dc5u32, |hash, byte| (hash ^ u32::from(*byte)).wrapping_mul(0x0100_0193));
    hash ^ hash >> 15
}

/// What is hashed of a packet, and how many bytes that is: addresses and ports of TCP where `flags`
/// ask for them, else addresses where they do. Xen public "io/netif.h", "Hash types".
pub(super) fn hashed(bytes: &[u8], flags: u32) -> Option<([u8; 36], usize)> {
    let (ip, kind) = payload(bytes)?;
    let (addresses, plain, tcp) = match kind {
        0x0800 => (ip + 12..ip + 20, hash_type::IPV4, hash_type::IPV4_TCP),
        0x86dd => (ip + 8..ip + 40, hash_type::IPV6, hash_type::IPV6_TCP),
        _ => return None,
    };
    let ports = layout(bytes).filter(|found| found.protocol == TCP && flags & tcp != 0);
    if ports.is_none() && flags & plain == 0 {
        return None;
    }
    let mut data = [0; 36];
    let len = addresses.len();
    data[..len].copy_from_slice(bytes.get(addresses)?);
    let Some(found) = ports else { return Some((data, len)) };
    let ports = bytes.get(found.transport..found.transport + 4)?;
    data[len..len + 4].copy_from_slice(ports);
    Some((data, len + 4))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::vec;

    fn tcp4(payload: usize) -> Vec<u8> {
        let mut packet = vec![0; 54 + payload];
        packet[12..14].copy_from_slice(&[8, 0]);
        packet[14..34].copy_from_slice(&[
            0x45, 0, 0, 0, 0, 9, 0x40, 0, 64, TCP, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2,
        ]);
        let length = (packet.len() - 14) as u16;
        put16(&mut packet, 16, length);
        packet[38..42].copy_from_slice(&[0xff, 0xff, 0xff, 0xfe]);
        (packet[46], packet[47]) = (0x50, 0x99);
        packet[54..].iter_mut().enumerate().for_each(|(n, byte)| *byte = n as u8);
        packet
    }

    fn tcp6(payload: usize) -> Vec<u8> {
        let mut packet = vec![0; 74 + payload];
        packet[12..14].copy_from_slice(&[0x86, 0xdd]);
        (packet[14], packet[20]) = (0x60, TCP);
        put16(&mut packet, 18, 20 + payload as u16);
        (packet[30], packet[50]) = (0xfe, 0xfd);
        (packet[66], packet[67]) = (0x50, 0x18);
        packet
    }

    fn is_right(packet: &[u8]) -> bool {
        let found = layout(packet).unwrap();
        add(found.pseudo(packet), &packet[found.transport..found.end]) == 0xffff
    }

    #[test]
    fn a_blank_checksum_is_filled_in_whatever_stands_there() {
        for mut packet in [tcp4(7), tcp6(8), tcp4(0)] {
            let at = layout(&packet).unwrap().sum_at();
            put16(&mut packet, at, 0x1234);
            assert!(fill_checksum(&mut packet) && is_right(&packet));
            packet.resize(90, 0xee);
            assert!(fill_checksum(&mut packet) && is_right(&packet), "padding does not count");
        }
        let mut tagged = tcp4(5);
        tagged.splice(12..12, [0x81, 0, 0, 7]);
        assert!(fill_checksum(&mut tagged) && is_right(&tagged));
    }

    #[test]
    fn what_is_no_tcp_and_no_udp_is_left_alone() {
        for (at, value) in [(12, 9), (14, 0x65), (14, 0x44), (20, 0x20), (21, 1), (23, 1)] {
            let mut packet = tcp4(4);
            packet[at] = value;
            let before = packet.clone();
            assert!(!fill_checksum(&mut packet), "{at}");
            assert_eq!(packet, before);
        }
        for len in 0..54 {
            let mut cut = tcp4(0)[..len].to_vec();
            put16(&mut cut, 16, 0);
            fill_checksum(&mut cut);
            let _ = flow(&cut);
        }
    }

    #[test]
    fn segments_add_up_to_the_packet_and_each_is_right() {
        for (packet, gso, header) in [
            (tcp4(2500), Gso { size: 1000, ipv6: false }, 54),
            (tcp6(2500), Gso { size: 1000, ipv6: true }, 74),
        ] {
            let mut pieces = Vec::new();
            let done = segments(&packet, gso, &mut Vec::new(), &mut |segment| {
                assert!(is_right(segment));
                pieces.push(segment.to_vec());
                true
            });
            assert!(done);
            let data: Vec<u8> = pieces.iter().flat_map(|piece| piece[header..].to_vec()).collect();
            assert_eq!(data, packet[header..]);
            assert_eq!(
                pieces.iter().map(Vec::len).collect::<Vec<_>>(),
                [1000 + header, 1000 + header, 500 + header]
            );
        }
    }

    #[test]
    fn headers_of_segments_are_those_of_a_stack() {
        let mut seen = Vec::new();
        let gso = Gso { size: 100, ipv6: false };
        segments(&tcp4(250), gso, &mut Vec::new(), &mut |segment| {
            let sequence = u32::from_be_bytes(*segment[38..].first_chunk().unwrap());
            assert_eq!(add(0, &segment[14..34]), 0xffff, "the IP header's sum");
            seen.push((sequence, get16(segment, 18), segment[47]));
            true
        });
        assert_eq!(
            seen,
            [(0xffff_fffe, Some(9), 0x90), (98, Some(10), 0x10), (198, Some(11), 0x19)]
        );
    }

    #[test]
    fn segmentation_that_makes_no_sense_is_refused() {
        let mut never = |_: &[u8]| panic!("a segment");
        let mut udp = tcp4(100);
        udp[23] = UDP;
        let mut short = tcp4(100);
        short[46] = 0x40;
        let mut long = tcp4(0);
        long[46] = 0xf0;
        let gso = Gso { size: 50, ipv6: false };
        for packet in [&udp, &short, &long, &tcp6(100), &Vec::new()] {
            assert!(!segments(packet, gso, &mut Vec::new(), &mut never));
        }
        assert!(!segments(&tcp4(9), Gso { size: 0, ..gso }, &mut Vec::new(), &mut never));
    }

    #[test]
    fn what_goes_to_a_wire_is_cut_and_summed_and_the_rest_is_left_alone() {
        let mut frames = Vec::new();
        let mut wire = |packet| {
            frames.clear();
            to_wire(packet, &mut Vec::new(), &mut |frame| frames.push(frame.to_vec()));
            frames.clone()
        };
        let bytes = tcp4(250);
        let gso = Some(Gso { size: 100, ipv6: false });
        let cut = wire(Packet { bytes: &bytes, sum: Sum::Blank, gso });
        assert!(cut.len() == 3 && cut.iter().all(|frame| is_right(frame)));
        let summed = wire(Packet { bytes: &bytes, sum: Sum::Blank, gso: None });
        assert!(summed.len() == 1 && is_right(&summed[0]));
        assert_eq!(wire(Packet::plain(&bytes))[0], bytes);
        let arp = [0; 60];
        assert!(wire(Packet { bytes: &arp, sum: Sum::Blank, gso }).is_empty());
    }

    #[test]
    fn packets_of_a_flow_have_its_number() {
        let (one, mut other) = (tcp4(10), tcp4(20));
        assert_eq!(flow(&one), flow(&other));
        other[35] = 1;
        assert_ne!(flow(&one), flow(&other));
    }
}
