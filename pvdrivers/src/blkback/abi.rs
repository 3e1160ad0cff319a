//! Requests and responses of a block device as bytes. Xen public "io/blkif.h".
//!
//! Two layouts differ only in how a 64-bit field is aligned: 8 bytes for 64-bit guests, 4 for
//! 32-bit.

use crate::seam::GrantRef;

/// Bytes of the unit that sector numbers and lengths count in, whatever the medium's own sector.
pub const SECTOR: u64 = 512;
/// Segments in a plain request (`BLKIF_MAX_SEGMENTS_PER_REQUEST`).
pub const SEGMENTS: usize = 11;
/// Pages of segments in an indirect request (`BLKIF_MAX_INDIRECT_PAGES_PER_REQUEST`).
pub const INDIRECT_PAGES: usize = 8;
/// Segments in one of them.
pub const SEGMENTS_PER_PAGE: usize = 4096 / Segment::BYTES;
/// Bytes of the longer layout's request.
pub const REQUEST: usize = 112;

/// What a request asks for (`BLKIF_OP_*`).
pub mod op {
    /// From the disk.
    pub const READ: u8 = 0;
    /// To the disk.
    pub const WRITE: u8 = 1;
    /// A write that all earlier writes come before and all later ones after.
    pub const WRITE_BARRIER: u8 = 2;
    /// Make durable what was written.
    pub const FLUSH_DISKCACHE: u8 = 3;
    /// Sectors whose contents do not matter any more.
    pub const DISCARD: u8 = 5;
    /// A read or write with its segments in pages of their own.
    pub const INDIRECT: u8 = 6;
}

/// How it went (`BLKIF_RSP_*`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(i16)]
pub enum Status {
    /// Done.
    Okay = 0,
    /// Failed.
    Error = -1,
    /// Not done by this device.
    Unsupported = -2,
}

/// The guest's word size (`protocol`, Xen public "io/protocols.h").
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layout {
    /// `x86_64-abi`.
    X86_64,
    /// `x86_32-abi`.
    X86_32,
}

impl Layout {
    /// The layout that a front end names.
    #[must_use]
    pub fn parse(name: &str) -> Option<Layout> {
        [Layout::X86_64, Layout::X86_32].into_iter().find(|layout| layout.name() == name)
    }

    /// Its name in XenStore.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Layout::X86_64 => "x86_64-abi",
            Layout::X86_32 => "x86_32-abi",
        }
    }

    /// Bytes of a ring's slot.
    #[must_use]
    pub const fn slot(self) -> usize {
        self.id() + 16 + SEGMENTS * Segment::BYTES
    }

    /// Bytes of a response.
    #[must_use]
    pub const fn response(self) -> usize {
        match self {
            Layout::X86_64 => 16,
            Layout::X86_32 => 12,
        }
    }

    /// Where the id lies; the sector follows it, and then what the operation needs.
    const fn id(self) -> usize {
        match self {
            Layout::X86_64 => 8,
            Layout::X86_32 => 4,
        }
    }
}

const _: () = assert!(Layout::X86_64.slot() == REQUEST && Layout::X86_32.slot() == 108);

/// A part of one granted page (`struct blkif_request_segment`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Segment {
    /// The page.
    pub reference: GrantRef,
    /// First sector of the page, 0 to 7.
    pub first: u8,
    /// Last sector, not below the first.
    pub last: u8,
}

impl Segment {
    /// Its size.
    pub const BYTES: usize = 8;

    /// From the bytes of a request or an indirect page.
    #[must_use]
    pub fn decode(bytes: [u8; Segment::BYTES]) -> Segment {
        let [a, b, c, d, first, last, ..] = bytes;
        Segment { reference: GrantRef(u32::from_le_bytes([a, b, c, d])), first, last }
    }

    /// The bytes.
    #[must_use]
    pub fn encode(self) -> [u8; Segment::BYTES] {
        let [a, b, c, d] = self.reference.0.to_le_bytes();
        [a, b, c, d, self.first, self.last, 0, 0]
    }
}

/// What an operation needs beside its sector.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Body {
    /// Segments in the request. The count may be any number.
    Plain {
        /// `nr_segments`.
        count: u8,
        /// All places for segments.
        segments: [Segment; SEGMENTS],
    },
    /// Segments in pages.
    Indirect {
        /// [`op::READ`] or [`op::WRITE`].
        operation: u8,
        /// `nr_segments`, any number.
        count: u16,
        /// The pages; only as many as the count needs are valid.
        pages: [GrantRef; INDIRECT_PAGES],
    },
    /// So many sectors without content.
    Discard {
        /// Bit 0: the data must be beyond recovery.
        flag: u8,
        /// How many sectors.
        sectors: u64,
    },
    /// An operation of which only the id is known.
    Other,
}

/// A request, copied out of its slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Request {
    /// One of [`op`], or any other number.
    pub operation: u8,
    /// The front end's own, for the response.
    pub id: u64,
    /// First sector, in units of 512 bytes.
    pub sector: u64,
    /// The rest.
    pub body: Body,
}

/// Little-endian fields at offsets that lie inside by the layouts.
fn field<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    bytes.get(at..).and_then(|rest| rest.first_chunk()).copied().unwrap_or([0; N])
}

impl Request {
    /// Asks for nothing.
    pub const NONE: Request = Request { operation: 0, id: 0, sector: 0, body: Body::Other };

    /// Reads the bytes of a slot. No bytes are refused.
    #[must_use]
    pub fn decode(layout: Layout, bytes: &[u8; REQUEST]) -> Request {
        let id = layout.id();
        let rest = id + 16;
        let body = match bytes[0] {
            op::READ | op::WRITE | op::WRITE_BARRIER | op::FLUSH_DISKCACHE => Body::Plain {
                count: bytes[1],
                segments: core::array::from_fn(|n| {
                    Segment::decode(field(bytes, rest + n * Segment::BYTES))
                }),
            },
            op::INDIRECT => Body::Indirect {
                operation: bytes[1],
                count: u16::from_le_bytes(field(bytes, 2)),
                // Behind the handle, at the next multiple of 4.
                pages: core::array::from_fn(|n| {
                    GrantRef(u32::from_le_bytes(field(bytes, rest + 4 + n * 4)))
                }),
            },
            op::DISCARD => {
                Body::Discard { flag: bytes[1], sectors: u64::from_le_bytes(field(bytes, rest)) }
            }
            _ => Body::Other,
        };
        Request {
            operation: bytes[0],
            id: u64::from_le_bytes(field(bytes, id)),
            sector: u64::from_le_bytes(field(bytes, id + 8)),
            body,
        }
    }

    /// The operation that the response names: of an indirect request the one inside. Linux's front end
    /// gives a device up that answers otherwise.
    #[must_use]
    pub const fn answers_to(&self) -> u8 {
        match self.body {
            Body::Indirect { operation, .. } => operation,
            _ => self.operation,
        }
    }

    /// The bytes of the slot, of which the first [`Layout::slot`] count; `handle` is the device's
    /// number.
    #[must_use]
    pub fn encode(&self, layout: Layout, handle: u16) -> [u8; REQUEST] {
        let mut bytes = [0; REQUEST];
        let mut set = |at: usize, field: &[u8]| {
            bytes[at..at + field.len()].copy_from_slice(field);
        };
        let id = layout.id();
        let rest = id + 16;
        set(0, &[self.operation]);
        set(2, &handle.to_le_bytes());
        set(id, &self.id.to_le_bytes());
        set(id + 8, &self.sector.to_le_bytes());
        match &self.body {
            Body::Plain { count, segments } => {
                set(1, &[*count]);
                for (n, segment) in segments.iter().enumerate() {
                    set(rest + n * Segment::BYTES, &segment.encode());
                }
            }
            Body::Indirect { operation, count, pages } => {
                set(1, &[*operation]);
                set(2, &count.to_le_bytes());
                set(rest, &handle.to_le_bytes());
                for (n, page) in pages.iter().enumerate() {
                    set(rest + 4 + n * 4, &page.0.to_le_bytes());
                }
            }
            Body::Discard { flag, sectors } => {
                set(1, &[*flag]);
                set(rest, &sectors.to_le_bytes());
            }
            Body::Other => {}
        }
        bytes
    }
}

/// An answer (`struct blkif_response`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Response {
    /// The request's.
    pub id: u64,
    /// The request's.
    pub operation: u8,
    /// A [`Status`] as its number.
    pub status: i16,
}

impl Response {
    /// The bytes, of which the first [`Layout::response`] count. The same in both layouts.
    #[must_use]
    pub fn encode(self) -> [u8; 16] {
        let mut bytes = [0; 16];
        bytes[..8].copy_from_slice(&self.id.to_le_bytes());
        bytes[8] = self.operation;
        bytes[10..12].copy_from_slice(&self.status.to_le_bytes());
        bytes
    }

    /// From the bytes of a slot.
    #[must_use]
    pub fn decode(bytes: &[u8; 16]) -> Response {
        Response {
            id: u64::from_le_bytes(field(bytes, 0)),
            operation: bytes[8],
            status: i16::from_le_bytes(field(bytes, 10)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_offsets_are_the_headers_in_both_layouts() {
        let mut bytes = [0u8; REQUEST];
        for (n, byte) in bytes.iter_mut().enumerate() {
            *byte = n as u8;
        }
        bytes[0] = op::WRITE;
        let wide = Request::decode(Layout::X86_64, &bytes);
        assert_eq!(wide.id, u64::from_le_bytes([8, 9, 10, 11, 12, 13, 14, 15]));
        assert_eq!(wide.sector.to_le_bytes()[0], 16);
        let Body::Plain { count: 1, segments } = wide.body else { panic!() };
        assert_eq!(
            (segments[0].reference.0 & 0xff, segments[0].first, segments[0].last),
            (24, 28, 29)
        );
        assert_eq!(segments[10].reference.0 & 0xff, 104);
        let narrow = Request::decode(Layout::X86_32, &bytes);
        assert_eq!((narrow.id & 0xff, narrow.sector & 0xff), (4, 12));
        let Body::Plain { segments, .. } = narrow.body else { panic!() };
        assert_eq!((segments[0].reference.0 & 0xff, segments[10].last), (20, 105));

        bytes[0] = op::INDIRECT;
        for (layout, first) in [(Layout::X86_64, 28), (Layout::X86_32, 24)] {
            let Body::Indirect { operation: 1, count: 0x0302, pages } =
                Request::decode(layout, &bytes).body
            else {
                panic!()
            };
            assert_eq!((pages[0].0 & 0xff, pages[7].0 & 0xff), (first, first + 28));
        }
        bytes[0] = op::DISCARD;
        for (layout, at) in [(Layout::X86_64, 24), (Layout::X86_32, 20)] {
            let Body::Discard { flag: 1, sectors } = Request::decode(layout, &bytes).body else {
                panic!()
            };
            assert_eq!(sectors & 0xff, at);
        }
    }

    #[test]
    fn what_is_encoded_decodes_to_the_same() {
        let segments = core::array::from_fn(|n| Segment {
            reference: GrantRef(n as u32 * 7),
            first: n as u8 & 7,
            last: 7,
        });
        let bodies = [
            (op::READ, Body::Plain { count: 200, segments }),
            (
                op::INDIRECT,
                Body::Indirect {
                    operation: op::WRITE,
                    count: 0xfffe,
                    pages: core::array::from_fn(|n| GrantRef(n as u32 + 1)),
                },
            ),
            (op::DISCARD, Body::Discard { flag: 1, sectors: u64::MAX - 1 }),
            (7, Body::Other),
        ];
        for layout in [Layout::X86_64, Layout::X86_32] {
            for (operation, body) in bodies {
                let request =
                    Request { operation, id: 0x1122_3344_5566_7788, sector: 1 << 40, body };
                let bytes = request.encode(layout, 51712);
                assert_eq!(Request::decode(layout, &bytes), request);
                assert!(bytes[layout.slot()..].iter().all(|byte| *byte == 0));
            }
            assert_eq!(Layout::parse(layout.name()), Some(layout));
        }
        assert_eq!(Layout::parse("arm-abi"), None);
        let response = Response { id: u64::MAX, operation: 3, status: Status::Unsupported as i16 };
        assert_eq!(response.encode()[8..12], [3, 0, 0xfe, 0xff]);
        assert_eq!(Response::decode(&response.encode()), response);
    }
}
