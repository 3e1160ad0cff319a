//! The back end of a frame buffer: rows of pixels out of a guest's pages. Xen public "io/fbif.h".
//!
//! The front end names its pages by number, in directories, and not by grant. They are held while
//! it is connected. What changed is gathered in one area; the screen reads rows when it likes.

pub mod abi;

use crate::blkback::{abi::Layout, number};
use crate::errno::Errno;
use crate::ring::events::{EventBack, Plan};
use crate::seam::{DomId, Port};
use abi::{Area, DIRECTORIES, FbEvent, Shape, directory, read_page};
use alloc::string::String;
use alloc::vec::Vec;
use arch::{GuestPhys, SharedPage};

const PAGE: u64 = 4096;
/// Most bytes of a buffer: 2,048 pages are held at most.
pub const MAX_BYTES: u32 = 8 << 20;
/// Most pixels in a row, and most rows.
const MAX_SIDE: u32 = 8192;

/// A guest's own frames, for devices that are older than grants. A held frame stays the guest's.
pub trait Frames {
    /// Takes a frame into use.
    ///
    /// # Errors
    /// Why it may not be used: it is not RAM of `owner`.
    fn hold(&mut self, owner: DomId, frame: GuestPhys) -> Result<SharedPage, Errno>;

    /// Gives a held frame back.
    fn let_go(&mut self, owner: DomId, frame: GuestPhys);
}

/// What a front end wrote to XenStore.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FrontEnd {
    /// The page with the rings.
    pub page: GuestPhys,
    /// Its port.
    pub port: Port,
    /// How long a page number is.
    pub layout: Layout,
    /// It tells what it changes; else all is new all the time.
    pub updates: bool,
}

impl FrontEnd {
    /// Reads the front end's directory: `read` gives the value of a path below it.
    ///
    /// # Errors
    /// `ENOENT` where a needed node is missing, `EINVAL` where a value is out of range or no
    /// number.
    pub fn read(
        read: &mut impl FnMut(&str) -> Option<String>,
        native: Layout,
    ) -> Result<FrontEnd, Errno> {
        let layout = match read("protocol").as_deref() {
            None | Some("") => native,
            Some(name) => Layout::parse(name).ok_or(Errno::EINVAL)?,
        };
        let page = read("page-ref").ok_or(Errno::ENOENT)?;
        let page = frame_address(number(&page).ok_or(Errno::EINVAL)?).ok_or(Errno::EINVAL)?;
        let port = read("event-channel").ok_or(Errno::ENOENT)?;
        let port = number(&port).filter(|port| *port > 0).map(Port).ok_or(Errno::EINVAL)?;
        let updates = read("feature-update").and_then(|text| number(&text)).unwrap_or(0u32) != 0;
        Ok(FrontEnd { page, port, layout, updates })
    }
}

/// The address of a page number.
pub(crate) fn frame_address(frame: u64) -> Option<GuestPhys> {
    frame.checked_mul(PAGE).map(GuestPhys)
}

/// What a back end writes: before state 2, and `request-update` again before state 4.
pub const NODES: &[(&str, &str)] = &[("feature-resize", "1"), ("request-update", "1")];

/// A frame buffer with a front end. Give its frames back with [`disconnect`](FbBack::disconnect).
#[derive(Debug)]
pub struct FbBack {
    owner: DomId,
    events: EventBack,
    /// Held: the rings' page, then the buffer's.
    frames: Vec<GuestPhys>,
    pages: Vec<SharedPage>,
    shape: Shape,
    bytes: u32,
    updates: bool,
    dirty: Area,
    /// The shape is not the one that the screen was told.
    reshaped: bool,
    refused: u64,
}

/// Whether a picture of that shape can be shown and lies within `bytes`.
fn fits(shape: &Shape, bytes: u32) -> bool {
    let row = u64::from(shape.width) * u64::from(shape.depth / 8);
    let end = u64::from(shape.offset)
        + u64::from(shape.stride) * u64::from(shape.height.saturating_sub(1))
        + row;
    matches!(shape.depth, 8 | 16 | 24 | 32)
        && (1..=MAX_SIDE).contains(&shape.width)
        && (1..=MAX_SIDE).contains(&shape.height)
        && row <= u64::from(shape.stride)
        && end <= u64::from(bytes)
}

impl FbBack {
    /// Connects to a front end and holds its pages.
    ///
    /// # Errors
    /// `EINVAL` where shape or size cannot be, else why a frame cannot be used. No frame stays
    /// held.
    pub fn connect(
        frames: &mut impl Frames,
        owner: DomId,
        front: &FrontEnd,
    ) -> Result<FbBack, Errno> {
        let page = frames.hold(owner, front.page)?;
        let (shape, bytes) = read_page(&page);
        let mut back = FbBack {
            owner,
            events: EventBack::new(page, Plan::FRAME_BUFFER),
            frames: Vec::from([front.page]),
            pages: Vec::new(),
            shape,
            bytes,
            updates: front.updates,
            dirty: Area::default(),
            reshaped: true,
            refused: 0,
        };
        let word = if front.layout == Layout::X86_64 { 8 } else { 4 };
        match back.hold_all(frames, &page, word) {
            Ok(()) => {
                back.all_dirty();
                Ok(back)
            }
            Err(error) => {
                back.disconnect(frames);
                Err(error)
            }
        }
    }

    fn hold_all(
        &mut self,
        frames: &mut impl Frames,
        page: &SharedPage,
        word: usize,
    ) -> Result<(), Errno> {
        if self.bytes > MAX_BYTES || !fits(&self.shape, self.bytes) {
            return Err(Errno::EINVAL);
        }
        let mut left = u64::from(self.bytes).div_ceil(PAGE) as usize;
        let each = PAGE as usize / word;
        for index in 0..DIRECTORIES {
            if left == 0 {
                break;
            }
            let list = entry(page, directory(index, word), word).ok_or(Errno::EINVAL)?;
            let list_page = frames.hold(self.owner, list)?;
            let now = left.min(each);
            let held: Result<(), Errno> = (0..now).try_for_each(|n| {
                let frame = entry(&list_page, n * word, word).ok_or(Errno::EINVAL)?;
                self.pages.push(frames.hold(self.owner, frame)?);
                self.frames.push(frame);
                Ok(())
            });
            frames.let_go(self.owner, list);
            held?;
            left -= now;
        }
        if left == 0 { Ok(()) } else { Err(Errno::EINVAL) }
    }

    /// Gives all frames back.
    pub fn disconnect(self, frames: &mut impl Frames) {
        for frame in self.frames {
            frames.let_go(self.owner, frame);
        }
    }

    /// The picture's shape.
    #[must_use]
    pub fn shape(&self) -> Shape {
        self.shape
    }

    /// Whether the shape is new since the last call.
    pub fn take_reshaped(&mut self) -> bool {
        core::mem::take(&mut self.reshaped)
    }

    /// Events that made no sense, so far.
    #[must_use]
    pub fn refused(&self) -> u64 {
        self.refused
    }

    fn all_dirty(&mut self) {
        self.dirty = Area { x: 0, y: 0, width: self.shape.width, height: self.shape.height };
    }

    /// Takes up to `budget` events. Whether there may be more.
    pub fn serve(&mut self, budget: u32) -> bool {
        for _ in 0..budget {
            match self.events.take() {
                Ok(None) => return false,
                Ok(Some(event)) => match FbEvent::decode(&event) {
                    FbEvent::Update(area) => self.update(area),
                    FbEvent::Resize(shape) if fits(&shape, self.bytes) => {
                        self.shape = shape;
                        self.reshaped = true;
                        self.all_dirty();
                    }
                    FbEvent::Resize(_) | FbEvent::Other(_) => self.refused += 1,
                },
                Err(_) => {
                    // Events are lost; they may have said anything.
                    self.refused += 1;
                    self.all_dirty();
                    return false;
                }
            }
        }
        true
    }

    /// Adds what of an area lies in the picture to what changed.
    fn update(&mut self, [x, y, width, height]: [i32; 4]) {
        let side = |first: i32, len: i32, all: u32| {
            let end = i64::from(first) + i64::from(len.max(0));
            (first.max(0) as u32, end.clamp(0, all.into()) as u32)
        };
        let (left, right) = side(x, width, self.shape.width);
        let (top, bottom) = side(y, height, self.shape.height);
        if left >= right || top >= bottom {
            return;
        }
        let old = self.dirty;
        let new = if old.width == 0 || old.height == 0 {
            (left, top, right, bottom)
        } else {
            let (old_right, old_bottom) = (old.x + old.width, old.y + old.height);
            (left.min(old.x), top.min(old.y), right.max(old_right), bottom.max(old_bottom))
        };
        self.dirty = Area { x: new.0, y: new.1, width: new.2 - new.0, height: new.3 - new.1 };
    }

    /// What changed since the last call; all, where the front end does not tell. Width 0: nothing.
    pub fn take_dirty(&mut self) -> Area {
        if !self.updates {
            self.all_dirty();
        }
        core::mem::take(&mut self.dirty)
    }

    /// Row `y` as 00RRGGBBh, as many pixels as there are and `out` holds; how many.
    pub fn row(&self, y: u32, out: &mut [u32]) -> usize {
        if y >= self.shape.height {
            return 0;
        }
        let pixel = (self.shape.depth / 8) as usize;
        let width = (self.shape.width as usize).min(out.len());
        let mut at = self.shape.offset as usize + self.shape.stride as usize * y as usize;
        // A multiple of 2, 3 and 4 bytes.
        let mut buffer = [0; 192];
        for run in out[..width].chunks_mut(buffer.len() / pixel) {
            let bytes = &mut buffer[..run.len() * pixel];
            self.read(at, bytes);
            for (to, from) in run.iter_mut().zip(bytes.chunks_exact(pixel)) {
                *to = colour(from);
            }
            at += bytes.len();
        }
        width
    }

    /// Copies bytes of the buffer; zeros where it has none.
    fn read(&self, at: usize, buffer: &mut [u8]) {
        let page = PAGE as usize;
        let (mut at, mut rest) = (at, buffer);
        while !rest.is_empty() {
            let (now, later) = rest.split_at_mut((page - at % page).min(rest.len()));
            if self.pages.get(at / page).is_none_or(|from| from.read(at % page, now).is_err()) {
                now.fill(0);
            }
            at += now.len();
            rest = later;
        }
    }
}

/// A page number, as an address.
fn entry(page: &SharedPage, at: usize, word: usize) -> Option<GuestPhys> {
    let number = if word == 8 { page.read_u64(at) } else { page.read_u32(at).map(u64::from) };
    frame_address(number?)
}

/// A pixel as 00RRGGBBh: 3-3-2, 5-6-5, or blue, green, red.
fn colour(pixel: &[u8]) -> u32 {
    let widen = |value: u32, bits: u32| value * 255 / ((1 << bits) - 1);
    match *pixel {
        [p] => {
            let p = u32::from(p);
            widen(p >> 5, 3) << 16 | widen(p >> 2 & 7, 3) << 8 | widen(p & 3, 2)
        }
        [low, high] => {
            let p = u32::from(low) | u32::from(high) << 8;
            widen(p >> 11, 5) << 16 | widen(p >> 5 & 63, 6) << 8 | widen(p & 31, 5)
        }
        [blue, green, red, ..] => u32::from(red) << 16 | u32::from(green) << 8 | u32::from(blue),
        [] => 0,
    }
}

#[cfg(test)]
mod tests;
