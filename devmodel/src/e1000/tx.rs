//! Frames to the wire: legacy, context and data descriptors, checksums, TCP and UDP segmentation. SDM "Transmit
//! Descriptor Fetching" to "TCP/IP Transmit Checksum Offloading".

use super::regs::{ctrl, stat, tctl};
use super::{DESCRIPTOR, E1000, cause};
use crate::net::{
    CHECK_SEQUENCE, HEADER, MAX_FRAME, MIN_FRAME, Memory, add_words, insert_checksum,
};
use arch::Nanos;

/// Descriptors that one call serves.
const MOST_DESCRIPTORS: u32 = 64;
/// Bytes after which a call ends.
const MOST_BYTES: usize = 128 << 10;
/// Bytes of one packet before segmentation: the payload length has 20 bits, stacks send 64 KiB.
const MOST_PACKET: usize = 256 << 10;
/// Smallest segment: what TCP allows (RFC 9293, the least MSS that stacks take).
const LEAST_MSS: usize = 48;

/// Commands of descriptors, bits 31:24 of the third dword.
mod command {
    pub const EOP: u8 = 1;
    /// Legacy: insert a checksum.
    pub const IC: u8 = 4;
    /// Data and context: segmentation.
    pub const TSE: u8 = 4;
    pub const RS: u8 = 8;
    pub const DEXT: u8 = 0x20;
    pub const VLE: u8 = 0x40;
    /// Context: the packet is TCP, not UDP.
    pub const TCP: u8 = 1;
    /// Context: IPv4, not IPv6.
    pub const IPV4: u8 = 2;
}

/// Where a packet's headers and checksums are, and how it is cut: a context descriptor.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Context {
    /// IP: first byte, place of the sum, last byte.
    ip: (u8, u8, u16),
    /// TCP or UDP: first byte, place of the sum, last byte, 0 for the end of the packet.
    transport: (u8, u8, u16),
    tcp: bool,
    ipv4: bool,
    header: u8,
    mss: u16,
}

/// The packet that is being put together.
#[derive(Clone)]
pub struct Transmit {
    /// Of plain packets, and of those to be segmented.
    pub(super) contexts: [Context; 2],
    pub(super) packet: [u8; MAX_FRAME],
    pub(super) filled: u16,
    /// Bytes of the packet so far, sent segments included.
    pub(super) total: u32,
    /// Segments sent of it.
    pub(super) segments: u16,
    /// Its first descriptor was seen.
    pub(super) started: bool,
    pub(super) segmented: bool,
    /// Something is wrong with it: it is dropped at its end.
    pub(super) bad: bool,
    /// Checksums: bit 0 IP, bit 1 transport.
    pub(super) sums: u8,
    /// Legacy checksum: first byte and place.
    pub(super) legacy: Option<(u8, u8)>,
    /// Tag to put in: EtherType and tag as on the wire.
    pub(super) tag: Option<[u8; 4]>,
}

/// Beside the packet nothing in the buffer matters.
impl PartialEq for Transmit {
    fn eq(&self, other: &Transmit) -> bool {
        let Transmit {
            contexts,
            packet,
            filled,
            total,
            segments,
            started,
            segmented,
            bad,
            sums,
            legacy,
            tag,
        } = self;
        let (len, flags) = (usize::from(*filled), (*started, *segmented, *bad, *sums));
        *contexts == other.contexts
            && *filled == other.filled
            && packet.get(..len) == other.packet.get(..len)
            && (*total, *segments) == (other.total, other.segments)
            && flags == (other.started, other.segmented, other.bad, other.sums)
            && (*legacy, *tag) == (other.legacy, other.tag)
    }
}

impl Eq for Transmit {}

impl core::fmt::Debug for Transmit {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        let packet = self.packet.get(..usize::from(self.filled));
        f.debug_struct("Transmit").field("packet", &packet).finish_non_exhaustive()
    }
}

impl Transmit {
    pub(super) fn new() -> Transmit {
        Transmit {
            contexts: [Context::default(); 2],
            packet: [0; MAX_FRAME],
            filled: 0,
            total: 0,
            segments: 0,
            started: false,
            segmented: false,
            bad: false,
            sums: 0,
            legacy: None,
            tag: None,
        }
    }

    /// No packet, and the contexts forgotten.
    pub(super) fn reset(&mut self) {
        self.contexts = [Context::default(); 2];
        self.clear();
    }

    /// No packet.
    fn clear(&mut self) {
        let Transmit {
            contexts: _,
            packet: _,
            filled,
            total,
            segments,
            started,
            segmented,
            bad,
            sums,
            legacy,
            tag,
        } = self;
        (*filled, *total, *segments) = (0, 0, 0);
        (*started, *segmented, *bad, *sums) = (false, false, false, 0);
        (*legacy, *tag) = (None, None);
    }

    fn context(&self) -> &Context {
        &self.contexts[usize::from(self.segmented)]
    }

    /// Bytes at which a segment is full.
    fn limit(&self) -> usize {
        let Context { header, mss, .. } = *self.context();
        if !self.segmented {
            return MAX_FRAME - 4;
        }
        usize::from(header) + usize::from(mss)
    }

    /// Begins a packet with what its first descriptor says.
    fn start(&mut self, segmented: bool, tag: Option<[u8; 4]>) {
        (self.started, self.segmented, self.tag) = (true, segmented, tag);
        let Context { header, mss, .. } = *self.context();
        let mss = usize::from(mss);
        let bad = mss < LEAST_MSS || usize::from(header) < HEADER || self.limit() > MAX_FRAME - 4;
        self.bad = segmented && bad;
    }

    /// Takes bytes of guest memory, and sends segments that are full and not the last.
    fn append<M: Memory>(
        &mut self,
        memory: &M,
        mut at: u64,
        mut left: usize,
        send: &mut dyn FnMut(&[u8]),
    ) {
        while left > 0 && !self.bad {
            let limit = self.limit();
            if usize::from(self.filled) >= limit {
                if !self.segmented {
                    self.bad = true;
                    return;
                }
                self.segment(false, send);
            }
            let filled = usize::from(self.filled);
            let now = left.min(limit.saturating_sub(filled));
            self.total = self.total.saturating_add(now as u32);
            let Some(to) = self.packet.get_mut(filled..filled + now) else {
                self.bad = true;
                return;
            };
            if self.total as usize > MOST_PACKET || now == 0 || !memory.read(at, to) {
                self.bad = true;
                return;
            }
            self.filled += now as u16;
            at = at.wrapping_add(now as u64);
            left -= now;
        }
    }

    /// Sends the segment in the buffer and leaves the header for the next.
    fn segment(&mut self, last: bool, send: &mut dyn FnMut(&[u8])) {
        let context = *self.context();
        let header = usize::from(context.header).min(usize::from(self.filled));
        let mut kept = [0; 256];
        kept[..header].copy_from_slice(&self.packet[..header]);
        self.patch(&context, last);
        self.finish(send);
        self.packet[..header].copy_from_slice(&kept[..header]);
        self.filled = header as u16;
        self.segments = self.segments.wrapping_add(1);
    }

    /// Makes the headers those of this segment. SDM "TCP Segmentation Data Transfer".
    fn patch(&mut self, context: &Context, last: bool) {
        let (size, n) = (usize::from(self.filled), self.segments);
        let (ip, transport) = (usize::from(context.ip.0), usize::from(context.transport.0));
        let packet = &mut self.packet[..size];
        if context.ipv4 {
            put16(packet, ip + 2, size.saturating_sub(ip) as u16);
            let id = get16(packet, ip + 4);
            put16(packet, ip + 4, id.wrapping_add(n));
        } else {
            // The length of what follows the fixed header of 40 bytes.
            put16(packet, ip + 4, size.saturating_sub(ip + 40) as u16);
        }
        let length = size.saturating_sub(transport) as u16;
        if context.tcp {
            let sent = u32::from(n).wrapping_mul(context.mss.into());
            let high = u32::from(get16(packet, transport + 4)) << 16;
            let sequence = (high | u32::from(get16(packet, transport + 6))).wrapping_add(sent);
            put16(packet, transport + 4, (sequence >> 16) as u16);
            put16(packet, transport + 6, sequence as u16);
            if !last && let Some(flags) = packet.get_mut(transport + 13) {
                // FIN and PSH are the last segment's.
                *flags &= !9;
            }
        } else {
            put16(packet, transport + 4, length);
        }
        if self.sums & 2 != 0 {
            // The driver's pseudo-header has no length.
            let place = usize::from(context.transport.1);
            let sum = add_words(get16(packet, place), &length.to_be_bytes());
            put16(packet, place, sum);
        }
    }

    /// Checksums and tag, and out.
    fn finish(&mut self, send: &mut dyn FnMut(&[u8])) {
        let context = *self.context();
        let size = usize::from(self.filled);
        let Some(packet) = self.packet.get_mut(..size) else { return };
        let end = |last: u16| if last == 0 { size } else { usize::from(last) + 1 };
        if self.sums & 2 != 0 {
            let (start, place, last) = context.transport;
            insert_checksum(packet, start.into(), end(last), place.into());
        }
        if self.sums & 1 != 0 {
            let (start, place, last) = context.ip;
            insert_checksum(packet, start.into(), end(last), place.into());
        }
        if let Some((start, place)) = self.legacy {
            insert_checksum(packet, start.into(), size, place.into());
        }
        let size = match self.tag {
            Some(tag) if size >= HEADER && size + 4 <= MAX_FRAME => {
                self.packet.copy_within(12..size, 16);
                self.packet[12..16].copy_from_slice(&tag);
                size + 4
            }
            _ => size,
        };
        send(&self.packet[..size]);
    }
}

fn get16(bytes: &[u8], at: usize) -> u16 {
    bytes.get(at..at + 2).map_or(0, |pair| u16::from_be_bytes([pair[0], pair[1]]))
}

fn put16(bytes: &mut [u8], at: usize, value: u16) {
    if let Some(pair) = bytes.get_mut(at..at + 2) {
        pair.copy_from_slice(&value.to_be_bytes());
    }
}

/// A transmit descriptor, copied once.
struct Descriptor([u8; DESCRIPTOR as usize]);

impl Descriptor {
    fn u16(&self, at: usize) -> u16 {
        u16::from_le_bytes([self.0[at], self.0[at + 1]])
    }

    fn address(&self) -> u64 {
        self.0.first_chunk().map_or(0, |bytes| u64::from_le_bytes(*bytes))
    }

    fn command(&self) -> u8 {
        self.0[11]
    }

    fn has(&self, bit: u8) -> bool {
        self.command() & bit != 0
    }

    /// Bytes of data: 20 bits of an extended descriptor.
    fn length(&self) -> usize {
        let low = usize::from(self.u16(8));
        if self.has(command::DEXT) { low | usize::from(self.0[10] & 15) << 16 } else { low }
    }

    fn is_context(&self) -> bool {
        self.has(command::DEXT) && self.0[10] >> 4 == 0
    }

    fn context(&self) -> Context {
        Context {
            ip: (self.0[0], self.0[1], self.u16(2)),
            transport: (self.0[4], self.0[5], self.u16(6)),
            tcp: self.has(command::TCP),
            ipv4: self.has(command::IPV4),
            header: self.0[13],
            mss: self.u16(14),
        }
    }
}

impl E1000 {
    /// Whether there is something to send.
    #[must_use]
    pub fn can_transmit(&self) -> bool {
        self.tctl & tctl::EN != 0 && self.transmit.pending() > 0
    }

    /// Sends what the driver has queued, up to 64 descriptors; call again while [`E1000::can_transmit`].
    pub fn transmit<M: Memory>(&mut self, memory: &M, now: Nanos, send: &mut dyn FnMut(&[u8])) {
        let (mut causes, mut bytes) = (0, 0);
        for _ in 0..MOST_DESCRIPTORS {
            if !self.can_transmit() || bytes > MOST_BYTES {
                break;
            }
            let at = self.transmit.address();
            let mut descriptor = Descriptor([0; DESCRIPTOR as usize]);
            if !memory.read(at, &mut descriptor.0) {
                // A ring that is not in RAM has nothing to send.
                self.transmit.head = self.transmit.tail;
                break;
            }
            bytes += descriptor.length();
            self.serve(memory, &descriptor, send);
            if descriptor.has(command::RS) {
                memory.write(at.wrapping_add(12), &[descriptor.0[12] & 0xF0 | 1]);
                causes |= cause::TXDW;
            }
            self.transmit.advance();
        }
        if self.transmit.pending() == 0 {
            causes |= cause::TXQE;
        }
        self.raise(causes, now);
    }

    fn serve<M: Memory>(
        &mut self,
        memory: &M,
        descriptor: &Descriptor,
        send: &mut dyn FnMut(&[u8]),
    ) {
        let extended = descriptor.has(command::DEXT);
        if descriptor.is_context() {
            let which = usize::from(descriptor.has(command::TSE));
            self.sending.contexts[which] = descriptor.context();
            return;
        }
        let mut sent =
            Sent { link: self.link(), pad: self.tctl & tctl::PSP != 0, frames: 0, octets: 0 };
        let mut out = |frame: &[u8]| sent.frame(frame, send);
        let tx = &mut self.sending;
        if !tx.started {
            let tagged = descriptor.has(command::VLE) && self.ctrl & ctrl::VME != 0;
            // VET is the first plain register.
            let [vet_low, vet_high, ..] = self.plain[0].to_le_bytes();
            let [low, high] = descriptor.u16(14).to_le_bytes();
            let tag = tagged.then_some([vet_high, vet_low, high, low]);
            tx.start(extended && descriptor.has(command::TSE), tag);
            tx.sums = if extended { descriptor.0[13] & 3 } else { 0 };
        }
        tx.append(memory, descriptor.address(), descriptor.length(), &mut out);
        if descriptor.has(command::EOP) {
            if !extended && descriptor.has(command::IC) {
                tx.legacy = Some((descriptor.0[13], descriptor.0[10]));
            }
            if tx.bad || usize::from(tx.filled) < HEADER {
                // Nothing that a wire could carry.
            } else if tx.segmented {
                tx.segment(true, &mut out);
            } else {
                tx.finish(&mut out);
            }
            tx.clear();
        }
        let Sent { frames, octets, .. } = sent;
        self.count(stat::GPTC, frames);
        self.count(stat::TPT, frames);
        self.count_octets(stat::GOTC, octets);
        self.count_octets(stat::TOT, octets);
    }
}

/// The way out: pads, counts, and drops where there is no link.
struct Sent {
    link: bool,
    pad: bool,
    frames: u32,
    octets: usize,
}

impl Sent {
    fn frame(&mut self, frame: &[u8], send: &mut dyn FnMut(&[u8])) {
        if !self.link {
            return;
        }
        self.frames += 1;
        self.octets += frame.len().max(MIN_FRAME) + CHECK_SEQUENCE;
        match frame.len() {
            len @ ..MIN_FRAME if self.pad => {
                let mut padded = [0; MIN_FRAME];
                padded[..len].copy_from_slice(frame);
                send(&padded);
            }
            _ => send(frame),
        }
    }
}
