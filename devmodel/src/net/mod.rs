//! What the emulated network cards share: guest memory as a card reaches it, lengths of frames, the
//! Internet checksum (RFC 1071), and the serial EEPROM (`eeprom`).

pub mod eeprom;

/// Bytes of the shortest frame on a wire, without its check sequence.
pub const MIN_FRAME: usize = 60;
/// Bytes of the longest frame that is not a jumbo, without VLAN tag and check sequence.
pub const STANDARD_FRAME: usize = 1514;
/// Bytes of the longest frame that a card keeps, without check sequence.
pub const MAX_FRAME: usize = 16_128;
/// Bytes of destination, source and type.
pub const HEADER: usize = 14;
/// Bytes of the frame check sequence.
pub const CHECK_SEQUENCE: usize = 4;

/// Memory that a card reads and writes by itself.
pub trait Memory {
    /// Fills `to` from `at` on. False where any byte is not RAM; `to` is then unchanged.
    fn read(&self, at: u64, to: &mut [u8]) -> bool;
    /// Writes `from` at `at`. False where any byte is not RAM; nothing is then written.
    fn write(&self, at: u64, from: &[u8]) -> bool;
}

/// What became of a frame from the wire.
#[must_use]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Received {
    /// It is in the guest's memory.
    Taken,
    /// The card is off, or not for this address: dropped.
    Unwanted,
    /// The driver has given no buffers: it can be offered again when the card has room.
    NoRoom,
}

/// Whether a destination address names a group. IEEE 802.3, "Address field".
#[must_use]
pub const fn is_group(address: &[u8; 6]) -> bool {
    address[0] & 1 != 0
}

/// The first six bytes of a frame, which has at least so many.
#[must_use]
pub fn destination(frame: &[u8]) -> Option<[u8; 6]> {
    frame.first_chunk().copied()
}

/// The big-endian words of `bytes` summed in one's complement, onto `sum`. An odd last byte is the
/// high half of a word.
#[must_use]
pub fn add_words(sum: u16, bytes: &[u8]) -> u16 {
    // A frame has fewer than 2^16 words, so 32 bits hold their sum.
    let words = bytes.chunks(2).map(|pair| match *pair {
        [high, low] => u32::from(u16::from_be_bytes([high, low])),
        [high] => u32::from(high) << 8,
        _ => 0,
    });
    let mut sum = words.fold(u32::from(sum), u32::wrapping_add);
    while sum > 0xFFFF {
        sum = (sum & 0xFFFF) + (sum >> 16);
    }
    sum as u16
}

/// Puts the checksum of `start..end` at `place`, over what stands there: a driver leaves the
/// pseudo-header's sum in it. Ranges that do not lie in the frame leave it alone.
pub fn insert_checksum(frame: &mut [u8], start: usize, end: usize, place: usize) {
    let Some(covered) = frame.get(start..end.min(frame.len())) else { return };
    let sum = !add_words(0, covered);
    if let Some(bytes) = frame.get_mut(place..place.saturating_add(2)) {
        bytes.copy_from_slice(&sum.to_be_bytes());
    }
}

/// The 64-bit multicast hash of the cards: the upper six bits of the address's CRC-32, as
/// AMD's and Realtek's chips take them. IEEE 802.3, "Frame Check Sequence".
#[must_use]
pub fn hash_of(address: &[u8; 6]) -> u8 {
    let mut crc = u32::MAX;
    for byte in address {
        let mut bits = *byte;
        for _ in 0..8 {
            let carry = (crc >> 31) as u8 ^ bits & 1;
            crc <<= 1;
            bits >>= 1;
            if carry != 0 {
                crc = (crc ^ 0x04C1_1DB6) | 1;
            }
        }
    }
    (crc >> 26) as u8
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_checksum_of_a_header_with_its_checksum_is_zero() {
        // The example of RFC 1071's readers: an IPv4 header.
        let mut header = [
            0x45, 0, 0, 0x73, 0, 0, 0x40, 0, 0x40, 0x11, 0, 0, 0xC0, 0xA8, 0, 1, 0xC0, 0xA8, 0,
            0xC7,
        ];
        insert_checksum(&mut header, 0, 20, 10);
        assert_eq!(header[10..12], [0xB8, 0x61]);
        assert_eq!(!add_words(0, &header), 0);
        assert_eq!(add_words(0, &[1, 2, 3]), 0x0402);
    }

    #[test]
    fn a_checksum_outside_the_frame_changes_nothing() {
        let mut frame = [7; 20];
        insert_checksum(&mut frame, 30, 40, 2);
        insert_checksum(&mut frame, 10, 5, 2);
        insert_checksum(&mut frame, 0, 20, 19);
        insert_checksum(&mut frame, 0, 20, usize::MAX);
        assert_eq!(frame, [7; 20]);
    }

    #[test]
    fn the_multicast_hash_is_that_of_the_common_groups() {
        // By zlib: the complement of crc32, reversed, its upper six bits; broadcast and 224.0.0.1.
        assert_eq!(hash_of(&[0xFF; 6]), 63);
        assert_eq!(hash_of(&[0x01, 0, 0x5E, 0, 0, 1]), 31);
    }
}
