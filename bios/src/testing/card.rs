//! The registers of a VGA with the Bochs display interface as plain cells: what is written is read again.

use std::collections::BTreeMap;

/// The card.
#[derive(Default)]
pub struct Card {
    /// By index port (3C0h, 3C4h, 3CEh, 3D4h, 1CEh) and index.
    pub registers: BTreeMap<(u16, u16), u16>,
    /// Three bytes a colour.
    pub dac: BTreeMap<usize, u8>,
    /// By index port.
    index: BTreeMap<u16, u16>,
    /// The next write to 3C0h is data.
    flip: bool,
    at: usize,
    mask: u8,
    misc: u8,
}

impl Card {
    /// What a register holds.
    pub fn get(&self, port: u16, index: u16) -> u16 {
        self.registers.get(&(port, index)).copied().unwrap_or(0)
    }

    /// A colour of the DAC.
    pub fn color(&self, n: usize) -> [u8; 3] {
        [0, 1, 2].map(|part| self.dac.get(&(n * 3 + part)).copied().unwrap_or(0))
    }

    fn selected(&self, port: u16) -> u16 {
        self.index.get(&port).copied().unwrap_or(0)
    }

    /// `None`: the port is none of the card's.
    pub fn port_in(&mut self, port: u16) -> Option<u32> {
        Some(match port {
            0x3c1 => self.get(0x3c0, self.selected(0x3c0)).into(),
            0x3c5 | 0x3cf | 0x3d5 | 0x1cf => self.get(port - 1, self.selected(port - 1)).into(),
            0x3c6 => self.mask.into(),
            0x3c9 => {
                self.at += 1;
                self.dac.get(&(self.at - 1)).copied().unwrap_or(0).into()
            }
            0x3cc => self.misc.into(),
            0x3da => {
                self.flip = false;
                0
            }
            _ => return None,
        })
    }

    pub fn port_out(&mut self, port: u16, width: u8, value: u32) {
        match port {
            0x3c0 if self.flip => {
                self.flip = false;
                self.registers.insert((0x3c0, self.selected(0x3c0)), value as u16);
            }
            0x3c0 => {
                self.flip = true;
                self.index.insert(0x3c0, value as u16 & 0x1f);
            }
            0x3c2 => self.misc = value as u8,
            0x3c4 | 0x3ce | 0x3d4 if width == 2 => {
                self.registers.insert((port, value as u16 & 0xff), value as u16 >> 8);
            }
            0x3c4 | 0x3ce | 0x3d4 | 0x1ce => drop(self.index.insert(port, value as u16)),
            0x3c5 | 0x3cf | 0x3d5 | 0x1cf => {
                self.registers.insert((port - 1, self.selected(port - 1)), value as u16);
            }
            0x3c6 => self.mask = value as u8,
            0x3c7 | 0x3c8 => self.at = value as usize * 3,
            0x3c9 => {
                self.dac.insert(self.at, value as u8);
                self.at += 1;
            }
            _ => {}
        }
    }
}
