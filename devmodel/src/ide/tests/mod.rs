//! The rig of the IDE tests: a chip, disk images, memory, a host that answers at once or late.

mod dma;
mod packet;
mod pio;
mod walk;

extern crate std;
use super::*;
use crate::blk::{BlkOp, Place};
use std::boxed::Box;
use std::vec;
use std::vec::Vec;

pub const P: Bus = Bus::Primary;
pub const MASTER: Unit = Unit { bus: P, slave: false };

/// A chip, a disk image per drive, memory, and a host that answers at once or when told.
pub struct Rig {
    pub ide: Box<Ide>,
    pub disks: Vec<Vec<u8>>,
    pub ram: Vec<u8>,
    pub list: Box<SegmentList>,
    pub slow: bool,
    pub waiting: Option<BlkRequest>,
    pub fail: Option<BlkError>,
    pub requests: usize,
    pub trays: Vec<bool>,
}

impl Rig {
    pub fn new() -> Rig {
        Rig {
            ide: Box::new(Ide::new()),
            disks: vec![Vec::new(); 4],
            ram: vec![0; 1 << 21],
            list: Box::default(),
            slow: false,
            waiting: None,
            fail: None,
            requests: 0,
            trays: Vec::new(),
        }
    }

    /// A disk of `sectors`, each filled with its number, at unit `at`.
    pub fn disk(mut self, at: usize, sectors: u64) -> Rig {
        self.disks[at] = (0..sectors * 512).map(|i| (i / 512 * 7 + i % 512) as u8).collect();
        self.ide.attach_disk(Unit::ALL[at], DiskId(at as u8), &Media::disk(sectors, "X1"));
        self
    }

    pub fn cdrom(mut self, at: usize, blocks: u32) -> Rig {
        self.disks[at] =
            (0..blocks as usize * 2048).map(|i| (i / 2048 * 5 + i % 251) as u8).collect();
        self.ide.attach_cdrom(Unit::ALL[at], DiskId(at as u8), Some(&Media::cdrom(blocks)));
        self
    }

    /// Does what the board does with an effect.
    pub fn run(&mut self, mut effect: Effect) {
        for _ in 0..100_000 {
            let request = match effect {
                Effect::None => return,
                Effect::Tray { open, .. } => return self.trays.push(open),
                Effect::Request(request) => request,
                Effect::Dma(bus) => {
                    let Rig { ide, list, ram, .. } = self;
                    let step = ide.dma_next(bus, list, |at| {
                        ram.get(at as usize..at as usize + 8)?.try_into().ok()
                    });
                    match step {
                        DmaStep::Wait => return,
                        DmaStep::Disk(request) => request,
                        DmaStep::Copy { token, to_guest } => {
                            effect = self.copy(token, to_guest);
                            continue;
                        }
                    }
                }
            };
            self.requests += 1;
            if self.slow {
                self.waiting = Some(request);
                return;
            }
            effect = self.serve(request);
        }
        panic!("effects do not end");
    }

    fn copy(&mut self, token: Token, to_guest: bool) -> Effect {
        let Rig { ide, list, ram, .. } = self;
        let buffer = ide.buffer(token).unwrap();
        let mut at = 0;
        for s in list.as_slice() {
            let (a, n) = (s.address as usize, s.len as usize);
            let Some(ram) = ram.get_mut(a..a + n) else {
                return ide.complete(token, Err(BlkError::Dma));
            };
            if to_guest {
                ram.copy_from_slice(&buffer[at..at + n]);
            } else {
                buffer[at..at + n].copy_from_slice(ram);
            }
            at += n;
        }
        ide.complete(token, Ok(()))
    }

    pub fn serve(&mut self, request: BlkRequest) -> Effect {
        let result = match self.fail {
            Some(error) => Err(error),
            None => self.transfer(request),
        };
        self.ide.complete(request.token, result)
    }

    fn transfer(&mut self, request: BlkRequest) -> Result<(), BlkError> {
        let Rig { ide, list, ram, disks, .. } = self;
        let disk = &mut disks[usize::from(request.disk.0)];
        let (from, len) = (request.lba as usize * 512, request.sectors as usize * 512);
        let disk = disk.get_mut(from..from + len).ok_or(BlkError::Range)?;
        let mut pieces: Vec<&mut [u8]> = Vec::new();
        match request.place {
            Place::None => assert_eq!(request.op, BlkOp::Flush),
            Place::Buffer => match ide.buffer(request.token) {
                Some(buffer) => pieces.push(buffer),
                None => return Ok(()),
            },
            Place::Guest => {
                assert_eq!(list.bytes() as usize, len);
                let mut at = 0;
                for s in list.as_slice() {
                    let ram = ram
                        .get_mut(s.address as usize..s.address as usize + s.len as usize)
                        .ok_or(BlkError::Dma)?;
                    let part = &mut disk[at..at + s.len as usize];
                    match request.op {
                        BlkOp::Read => ram.copy_from_slice(part),
                        _ => part.copy_from_slice(ram),
                    }
                    at += s.len as usize;
                }
                return Ok(());
            }
        }
        for piece in pieces {
            assert_eq!(piece.len(), len);
            match request.op {
                BlkOp::Read => piece.copy_from_slice(disk),
                _ => disk.copy_from_slice(piece),
            }
        }
        Ok(())
    }

    pub fn finish(&mut self) {
        let request = self.waiting.take().expect("a request in the host's hands");
        let effect = self.serve(request);
        self.run(effect);
    }

    pub fn out(&mut self, offset: u8, value: u8) {
        let effect = self.ide.write(P, offset, value);
        self.run(effect);
    }

    pub fn status(&mut self) -> u8 {
        self.ide.read(P, 7)
    }

    pub fn command28(&mut self, code: u8, lba: u32, count: u8) {
        let [a, b, c, d] = lba.to_le_bytes();
        for (offset, value) in [(6, 0xE0 | d), (2, count), (3, a), (4, b), (5, c), (7, code)] {
            self.out(offset, value);
        }
    }

    pub fn command48(&mut self, code: u8, lba: u64, count: u16) {
        let b = lba.to_le_bytes();
        let [n, m] = count.to_le_bytes();
        self.out(6, 0xE0);
        for (offset, value) in [(2, m), (3, b[3]), (4, b[4]), (5, b[5])] {
            self.out(offset, value);
        }
        for (offset, value) in [(2, n), (3, b[0]), (4, b[1]), (5, b[2]), (7, code)] {
            self.out(offset, value);
        }
    }

    pub fn read_data(&mut self, len: usize) -> Vec<u8> {
        let mut data = vec![0xEE; len];
        let (n, effect) = self.ide.data_in(P, &mut data);
        self.run(effect);
        data.truncate(n);
        data
    }

    pub fn write_data(&mut self, data: &[u8]) -> usize {
        let (n, effect) = self.ide.data_out(P, data);
        self.run(effect);
        n
    }

    pub fn prds(&mut self, table: u32, entries: &[(u32, u16)]) {
        for (i, &(address, count)) in entries.iter().enumerate() {
            let at = table as usize + i * 8;
            self.ram[at..at + 4].copy_from_slice(&address.to_le_bytes());
            self.ram[at + 4..at + 6].copy_from_slice(&count.to_le_bytes());
            self.ram[at + 6] = 0;
            self.ram[at + 7] = if i + 1 == entries.len() { 0x80 } else { 0 };
        }
        self.ide.set_prd_table(P, table);
    }

    pub fn bm(&mut self, offset: u8, value: u8) {
        let effect = self.ide.busmaster_write(offset, value);
        self.run(effect);
    }
}

fn word(data: &[u8], index: usize) -> u16 {
    u16::from_le_bytes([data[index * 2], data[index * 2 + 1]])
}
