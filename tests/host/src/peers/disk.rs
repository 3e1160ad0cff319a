//! A disk in a vector, which answers at once, later, or has no room.

use pvdrivers::blkback::{Disk, DiskAnswer, DiskError, DiskOp, DiskRequest, Piece, Token};
use std::collections::VecDeque;

/// When the disk answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pace {
    /// At once.
    AtOnce,
    /// When [`FakeDisk::finish`] is called; it has room for so many requests.
    Later(usize),
}

#[derive(Debug)]
struct Work {
    token: Token,
    op: DiskOp,
    sector: u64,
    sectors: u64,
    pieces: Vec<Piece>,
}

/// A disk. Panics where a request is not as the trait promises.
#[derive(Debug)]
pub struct FakeDisk {
    /// The contents.
    pub data: Vec<u8>,
    /// When it answers.
    pub pace: Pace,
    /// Every request from now on fails with this.
    pub fail: Option<DiskError>,
    /// What it did, in order.
    pub log: Vec<(DiskOp, u64, u64)>,
    /// The last request that it had no room for.
    pub refused: Option<Token>,
    waiting: VecDeque<Work>,
}

impl FakeDisk {
    /// A disk of so many sectors of 512 bytes, each filled with the low byte of its number.
    #[must_use]
    pub fn new(sectors: u64, pace: Pace) -> FakeDisk {
        let data = (0..sectors).flat_map(|n| [n as u8; 512]).collect();
        FakeDisk {
            data,
            pace,
            fail: None,
            log: Vec::new(),
            refused: None,
            waiting: VecDeque::new(),
        }
    }

    /// Requests that wait.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.waiting.len()
    }

    /// Does the waiting request number `which` (the last one, if there are not so many).
    pub fn finish(&mut self, which: usize) -> Option<(Token, Result<(), DiskError>)> {
        let last = self.waiting.len().checked_sub(1)?;
        let work = self.waiting.remove(which.min(last))?;
        let token = work.token;
        Some((token, self.run(&work)))
    }

    fn run(&mut self, work: &Work) -> Result<(), DiskError> {
        if let Some(error) = self.fail {
            return Err(error);
        }
        self.log.push((work.op, work.sector, work.sectors));
        let mut at = work.sector as usize * 512;
        match work.op {
            DiskOp::Flush => {}
            DiskOp::Discard => self.data[at..at + work.sectors as usize * 512].fill(0),
            DiskOp::Read => {
                for piece in &work.pieces {
                    let len = usize::from(piece.len);
                    let from = &self.data[at..at + len];
                    piece.page.write_slice(piece.offset.into(), from).unwrap();
                    at += len;
                }
            }
            DiskOp::Write => {
                for piece in &work.pieces {
                    let len = usize::from(piece.len);
                    piece.page.read(piece.offset.into(), &mut self.data[at..at + len]).unwrap();
                    at += len;
                }
            }
        }
        Ok(())
    }
}

impl Disk for FakeDisk {
    fn submit(&mut self, request: &DiskRequest<'_>) -> DiskAnswer {
        let bytes: u64 = request.pieces.iter().map(|piece| u64::from(piece.len)).sum();
        let end = request.sector.checked_add(request.sectors).expect("the end is checked");
        assert!(end * 512 <= self.data.len() as u64, "beyond the end: {request:?}");
        match request.op {
            DiskOp::Read | DiskOp::Write => {
                assert!(bytes == request.sectors * 512 && bytes > 0, "{request:?}");
            }
            DiskOp::Flush => assert_eq!((bytes, request.sector, request.sectors), (0, 0, 0)),
            DiskOp::Discard => assert!(bytes == 0 && request.sectors > 0),
        }
        for piece in request.pieces {
            assert!(piece.offset + piece.len <= 4096 && piece.len.is_multiple_of(512));
        }
        let work = Work {
            token: request.token,
            op: request.op,
            sector: request.sector,
            sectors: request.sectors,
            pieces: request.pieces.to_vec(),
        };
        match self.pace {
            Pace::AtOnce => DiskAnswer::Done(self.run(&work)),
            Pace::Later(room) if self.waiting.len() >= room => {
                self.refused = Some(work.token);
                DiskAnswer::Busy
            }
            Pace::Later(_) => {
                self.waiting.push_back(work);
                DiskAnswer::Pending
            }
        }
    }
}
