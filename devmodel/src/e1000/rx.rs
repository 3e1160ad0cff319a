//! Frames from the wire: filters, VLAN tags, descriptors. SDM "Receive Descriptor", "Packet Address Filtering".

use super::regs::{ctrl, rctl, stat};
use super::{DESCRIPTOR, E1000, cause};
use crate::net::{
    CHECK_SEQUENCE, MAX_FRAME, MIN_FRAME, Memory, Received, STANDARD_FRAME, destination, is_group,
};
use arch::Nanos;

/// Descriptor status: done.
const DD: u8 = 1;
/// Last buffer of its frame.
const EOP: u8 = 2;
/// The checksums were not looked at.
const IXSM: u8 = 4;
/// There was a VLAN tag.
const VP: u8 = 8;

/// A frame as it goes into buffers, in up to three pieces.
struct Pieces<'a>([&'a [u8]; 3]);

impl Pieces<'_> {
    fn len(&self) -> usize {
        self.0.iter().map(|piece| piece.len()).sum()
    }

    /// Writes `len` bytes from byte `skip` of the frame on. False where a byte is not in RAM.
    fn write<M: Memory>(&self, memory: &M, at: u64, mut skip: usize, len: usize) -> bool {
        let (mut at, mut left) = (at, len);
        for piece in self.0 {
            let from = piece.get(skip.min(piece.len())..).unwrap_or_default();
            skip = skip.saturating_sub(piece.len());
            let now = from.len().min(left);
            if now > 0 && !memory.write(at, &from[..now]) {
                return false;
            }
            at = at.wrapping_add(now as u64);
            left -= now;
        }
        true
    }
}

impl E1000 {
    /// A frame comes from the wire, without check sequence. The check sequence that the driver may ask for is zeros.
    pub fn receive_frame<M: Memory>(&mut self, memory: &M, frame: &[u8], now: Nanos) -> Received {
        let longest = if self.rctl & rctl::LPE != 0 { MAX_FRAME } else { STANDARD_FRAME + 4 };
        if self.rctl & rctl::EN == 0 || !self.link() || frame.len() > longest {
            return Received::Unwanted;
        }
        let Some(to) = destination(frame) else { return Received::Unwanted };
        let tag = self.vlan_tag(frame);
        if !self.wants(&to) || tag.is_some_and(|tag| !self.wants_vlan(tag)) {
            return Received::Unwanted;
        }
        let strip = tag.filter(|_| self.ctrl & ctrl::VME != 0);
        let kept = if strip.is_some() { 16 } else { 12 };
        let (Some(head), Some(rest)) = (frame.get(..12), frame.get(kept..)) else {
            return Received::Unwanted;
        };
        let bytes = (12 + rest.len()).max(MIN_FRAME);
        let fill = bytes - 12 - rest.len();
        let fcs = if self.rctl & rctl::SECRC != 0 { 0 } else { CHECK_SEQUENCE };
        const ZEROS: [u8; MIN_FRAME + CHECK_SEQUENCE] = [0; MIN_FRAME + CHECK_SEQUENCE];
        let pieces = Pieces([head, rest, &ZEROS[..fill + fcs]]);

        let buffer = self.buffer_size();
        let wanted = pieces.len().div_ceil(buffer) as u32;
        if self.receive.pending() < wanted {
            return Received::NoRoom;
        }
        self.deliver(memory, &pieces, buffer, strip);
        self.count_received(&to, bytes + CHECK_SEQUENCE);
        let mut causes = cause::RXT0;
        if self.receive.pending() <= self.threshold() {
            causes |= cause::RXDMT0;
        }
        self.raise(causes, now);
        Received::Taken
    }

    /// A frame that waited too long for room was dropped: MPC.
    pub fn missed(&mut self) {
        self.count(stat::MPC, 1);
    }

    /// Fills as many descriptors as the frame needs. Buffers that are not RAM stay as they are.
    fn deliver<M: Memory>(
        &mut self,
        memory: &M,
        pieces: &Pieces<'_>,
        buffer: usize,
        tag: Option<u16>,
    ) {
        let mut done = 0;
        while done < pieces.len() {
            let at = self.receive.address();
            let mut address = [0; 8];
            let now = (pieces.len() - done).min(buffer);
            if memory.read(at, &mut address) {
                let address = u64::from_le_bytes(address);
                pieces.write(memory, address, done, now);
                let last = done + now == pieces.len();
                let mut status = DD | IXSM;
                if last {
                    status |= EOP;
                }
                if tag.is_some() {
                    status |= VP;
                }
                let [low, high] = (now as u16).to_le_bytes();
                let [tag_low, tag_high] = tag.unwrap_or(0).to_le_bytes();
                // One store: the driver sees all of it, or nothing.
                let back = [low, high, 0, 0, status, 0, tag_low, tag_high];
                memory.write(at.wrapping_add(u64::from(DESCRIPTOR) / 2), &back);
            }
            done += now;
            self.receive.advance();
        }
    }

    fn count_received(&mut self, to: &[u8; 6], octets: usize) {
        self.count(stat::GPRC, 1);
        self.count(stat::TPR, 1);
        if *to == [0xFF; 6] {
            self.count(stat::BPRC, 1);
        } else if is_group(to) {
            self.count(stat::MPRC, 1);
        }
        self.count_octets(stat::GORC, octets);
        self.count_octets(stat::TOR, octets);
    }

    /// Bytes of a receive buffer. SDM "Receive Control Register", BSIZE and BSEX.
    fn buffer_size(&self) -> usize {
        let size = 2048 >> (self.rctl >> 16 & 3);
        if self.rctl & rctl::BSEX != 0 && size < 2048 { size * 16 } else { size }
    }

    /// At how many free descriptors RXDMT0 is raised: RDMTS.
    fn threshold(&self) -> u32 {
        self.receive.count() >> (1 + (self.rctl >> 8 & 3).min(2))
    }

    /// The tag of a VLAN frame, if VLANs matter here.
    fn vlan_tag(&self, frame: &[u8]) -> Option<u16> {
        let matters = self.ctrl & ctrl::VME != 0 || self.rctl & rctl::VFE != 0;
        let &[a, b, c, d] = frame.get(12..16)? else { return None };
        // VET is the first plain register.
        let vet = self.plain[0] as u16;
        (matters && u16::from_be_bytes([a, b]) == vet).then(|| u16::from_be_bytes([c, d]))
    }

    fn wants_vlan(&self, tag: u16) -> bool {
        let id = usize::from(tag & 0xFFF);
        self.rctl & rctl::VFE == 0 || self.vlans[id / 32] >> (id % 32) & 1 != 0
    }

    /// Whether a destination passes the filters.
    fn wants(&self, to: &[u8; 6]) -> bool {
        let on = |bit| self.rctl & bit != 0;
        if *to == [0xFF; 6] && on(rctl::BAM) {
            return true;
        }
        if on(if is_group(to) { rctl::MPE } else { rctl::UPE }) || self.is_own(to) {
            return true;
        }
        // SDM "Multicast Table Array": twelve bits of the last two bytes, from a bit that MO says.
        let shift = [4, 3, 2, 0][(self.rctl >> 12 & 3) as usize];
        let hash = (u16::from_le_bytes([to[4], to[5]]) >> shift & 0xFFF) as usize;
        is_group(to) && self.multicast[hash / 32] >> (hash % 32) & 1 != 0
    }

    /// Whether one of the sixteen receive addresses is this one.
    fn is_own(&self, to: &[u8; 6]) -> bool {
        let low = u32::from_le_bytes([to[0], to[1], to[2], to[3]]);
        let high = u32::from(u16::from_le_bytes([to[4], to[5]]));
        self.addresses
            .chunks_exact(2)
            .any(|pair| pair[1] >> 31 != 0 && pair[0] == low && pair[1] & 0xFFFF == high)
    }
}
