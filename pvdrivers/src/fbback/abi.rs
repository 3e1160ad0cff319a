//! The page and the events of a frame buffer. Xen public "io/fbif.h".

use crate::ring::events::EVENT;
use arch::SharedPage;

/// Event types from the front end.
pub mod event {
    /// Pixels changed.
    pub const UPDATE: u8 = 2;
    /// The picture has another shape.
    pub const RESIZE: u8 = 3;
    /// To the front end: how often it should look for changes.
    pub const REFRESH_PERIOD: u8 = 1;
}

/// Pages of page numbers.
pub const DIRECTORIES: usize = 256;
/// Offset of the first field behind the indices, `width`.
const WIDTH: usize = 16;
/// Offset of `pd` with 4-byte page numbers; with 8-byte ones it is aligned to 8.
const DIRECTORY: usize = 36;

/// The shape of a picture in the buffer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Shape {
    /// Pixels in a row.
    pub width: u32,
    /// Rows.
    pub height: u32,
    /// Bytes from one row to the next.
    pub stride: u32,
    /// Bits of a pixel: 8, 16, 24 or 32.
    pub depth: u32,
    /// Bytes before the first row.
    pub offset: u32,
}

/// A part of the picture, in pixels.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Area {
    /// First column.
    pub x: u32,
    /// First row.
    pub y: u32,
    /// Columns.
    pub width: u32,
    /// Rows.
    pub height: u32,
}

/// What the front end says in an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FbEvent {
    /// Pixels changed: x, y, width, height, as they were written.
    Update([i32; 4]),
    /// Another shape; negative numbers are those of the maximum.
    Resize(Shape),
    /// Not an event that a back end knows.
    Other(u8),
}

fn word(bytes: &[u8; EVENT], index: usize) -> u32 {
    let at = 4 + index * 4;
    bytes.get(at..).and_then(|rest| rest.first_chunk()).map_or(0, |word| u32::from_le_bytes(*word))
}

impl FbEvent {
    /// Reads an event. No bytes are refused.
    #[must_use]
    pub fn decode(bytes: &[u8; EVENT]) -> FbEvent {
        let field = |index| word(bytes, index);
        match bytes[0] {
            event::UPDATE => FbEvent::Update([0, 1, 2, 3].map(|index| field(index) as i32)),
            event::RESIZE => FbEvent::Resize(Shape {
                width: field(0),
                height: field(1),
                stride: field(2),
                depth: field(3),
                offset: field(4),
            }),
            kind => FbEvent::Other(kind),
        }
    }

    /// The bytes.
    #[must_use]
    pub fn encode(&self) -> [u8; EVENT] {
        let (kind, words) = match self {
            FbEvent::Update([x, y, width, height]) => {
                (event::UPDATE, [*x as u32, *y as u32, *width as u32, *height as u32, 0])
            }
            FbEvent::Resize(shape) => (
                event::RESIZE,
                [shape.width, shape.height, shape.stride, shape.depth, shape.offset],
            ),
            FbEvent::Other(kind) => (*kind, [0; 5]),
        };
        let mut bytes = [0; EVENT];
        bytes[0] = kind;
        for (n, word) in words.iter().enumerate() {
            bytes[4 + n * 4..8 + n * 4].copy_from_slice(&word.to_le_bytes());
        }
        bytes
    }
}

/// What stands in the page before the front end connects: the shape, and the buffer's bytes.
#[must_use]
pub fn read_page(page: &SharedPage) -> (Shape, u32) {
    let field = |index: usize| page.read_u32(WIDTH + index * 4).unwrap_or(0);
    let depth = page.read_u8(WIDTH + 16).unwrap_or(0).into();
    (Shape { width: field(0), height: field(1), stride: field(2), depth, offset: 0 }, field(3))
}

/// Writes what [`read_page`] reads; the offset is not part of it.
pub fn write_page(page: &SharedPage, shape: &Shape, bytes: u32) {
    for (index, value) in [shape.width, shape.height, shape.stride, bytes].into_iter().enumerate() {
        let inside = page.write(WIDTH + index * 4, 4, value.into());
        debug_assert!(inside.is_ok());
    }
    let inside = page.write(WIDTH + 16, 1, shape.depth.into());
    debug_assert!(inside.is_ok());
}

/// Where page number `index` lies, with numbers of `word` bytes (4 or 8), in the page of the
/// device.
#[must_use]
pub const fn directory(index: usize, word: usize) -> usize {
    DIRECTORY.next_multiple_of(word) + index * word
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_are_the_headers_and_decode_to_themselves() {
        let update = FbEvent::Update([-1, 2, 3, i32::MAX]);
        let bytes = update.encode();
        assert_eq!(bytes[..8], [2, 0, 0, 0, 0xff, 0xff, 0xff, 0xff]);
        assert_eq!(FbEvent::decode(&bytes), update);
        let shape = Shape { width: 1, height: 2, stride: 4, depth: 32, offset: 4096 };
        assert_eq!(FbEvent::decode(&FbEvent::Resize(shape).encode()), FbEvent::Resize(shape));
        assert_eq!(FbEvent::decode(&[9; EVENT]), FbEvent::Other(9));
        assert_eq!((directory(0, 8), directory(255, 8), directory(1, 4)), (40, 2080, 40));
    }
}
