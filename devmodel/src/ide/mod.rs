//! The PIIX3's two IDE channels with up to four ATA disks and ATAPI drives, and its bus masters.
//!
//! ATA/ATAPI-7, PIIX3 datasheet "IDE controller". Entry points are [`Ide`]'s methods; `channel.rs`
//! holds the machinery, `ata.rs` and `packet.rs` the commands, `busmaster.rs` the PRD walk. Left
//! out: overlapped commands, security, host protected area, CompactFlash, transfer timing.

mod ata;
mod busmaster;
mod channel;
pub(crate) mod disk;
mod dma;
mod packet;
mod saved;
mod taskfile;
#[cfg(test)]
mod tests;

use crate::atapi::Cdrom;
use crate::blk::{BlkError, BlkRequest, DiskId, Media, SegmentList, Token};
use channel::{Channel, Drive};
use disk::Disk;
pub use saved::{SavedChannel, SavedDrive, SavedIde};

/// One of the two channels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bus {
    /// Ports 1F0h to 1F7h and 3F6h, IRQ 14.
    Primary,
    /// Ports 170h to 177h and 376h, IRQ 15.
    Secondary,
}

impl Bus {
    /// 0 or 1.
    #[must_use]
    pub const fn index(self) -> usize {
        self as usize
    }
}

/// A drive's place: channel and device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unit {
    /// The channel.
    pub bus: Bus,
    /// Device 1 (slave) instead of device 0.
    pub slave: bool,
}

impl Unit {
    /// The four places in the order of their usual names, `hda` to `hdd`.
    pub const ALL: [Unit; 4] = [
        Unit { bus: Bus::Primary, slave: false },
        Unit { bus: Bus::Primary, slave: true },
        Unit { bus: Bus::Secondary, slave: false },
        Unit { bus: Bus::Secondary, slave: true },
    ];
}

/// What must happen outside after a call. At most one thing follows from any one call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Effect {
    /// Nothing.
    None,
    /// Hand this to the host and call [`Ide::complete`] when it is done.
    Request(BlkRequest),
    /// A DMA command and the bus master are both ready: call [`Ide::dma_next`].
    Dma(Bus),
    /// The guest opened or closed a CD drive's tray.
    Tray {
        /// The drive's disk.
        disk: DiskId,
        /// Opened: the host may take the medium away.
        open: bool,
    },
}

/// The next batch of a DMA command; its segments are in the list given to [`Ide::dma_next`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum DmaStep {
    /// Nothing to move: the engine stopped, or waits for a drive or for the guest.
    Wait,
    /// Hand the request and the segments to the host, then [`Ide::complete`].
    Disk(BlkRequest),
    /// Copy between [`Ide::buffer`] and the segments at once, then [`Ide::complete`].
    Copy {
        /// For `buffer` and `complete`.
        token: Token,
        /// From the buffer to the guest, else the other way.
        to_guest: bool,
    },
}

/// The chip. Holds two 64 KiB buffers: construct it in place (static, or straight into a box).
#[derive(Clone, Debug)]
pub struct Ide {
    channels: [Channel; 2],
}

impl Default for Ide {
    fn default() -> Ide {
        Ide::new()
    }
}

impl Ide {
    /// Two channels without drives.
    #[must_use]
    pub const fn new() -> Ide {
        Ide { channels: [Channel::new(Bus::Primary), Channel::new(Bus::Secondary)] }
    }

    fn channel(&mut self, bus: Bus) -> &mut Channel {
        &mut self.channels[bus.index()]
    }

    fn attach(&mut self, unit: Unit, drive: Drive) {
        let channel = self.channel(unit.bus);
        channel.drives[usize::from(unit.slave)] = drive;
        channel.soft_reset();
    }

    /// Plugs in a disk. The channel is reset, so do this before the guest runs.
    pub fn attach_disk(&mut self, unit: Unit, disk: DiskId, media: &Media) {
        self.attach(unit, Drive::Disk(Disk::new(disk, media)));
    }

    /// Plugs in a CD drive, with or without a medium. The channel is reset.
    pub fn attach_cdrom(&mut self, unit: Unit, disk: DiskId, media: Option<&Media>) {
        self.attach(unit, Drive::Cdrom(Cdrom::new(disk, media)));
    }

    /// Unplugs what is there. The channel is reset.
    pub fn detach(&mut self, unit: Unit) {
        self.attach(unit, Drive::None);
    }

    /// The CD drive at `unit`, to insert or eject a medium; `None` where there is no such drive.
    pub fn cdrom(&mut self, unit: Unit) -> Option<&mut Cdrom> {
        match &mut self.channel(unit.bus).drives[usize::from(unit.slave)] {
            Drive::Cdrom(cdrom) => Some(cdrom),
            Drive::None | Drive::Disk(_) => None,
        }
    }

    /// RESET-: everything but the drives and media as at power-on. Requests in flight become stale.
    pub fn reset(&mut self) {
        for channel in &mut self.channels {
            channel.reset();
        }
    }

    /// Reads command block register `offset`, 1 to 7 (the data port is [`Ide::data_in`]).
    pub fn read(&mut self, bus: Bus, offset: u8) -> u8 {
        self.channel(bus).read(offset)
    }

    /// Writes command block register `offset`, 1 to 7; 7 is the command.
    pub fn write(&mut self, bus: Bus, offset: u8, value: u8) -> Effect {
        self.channel(bus).write(offset, value)
    }

    /// Reads 3F6h or 376h: the status, without an effect on the interrupt.
    #[must_use]
    pub fn read_control(&self, bus: Bus) -> u8 {
        self.channels[bus.index()].alternate_status()
    }

    /// Writes 3F6h or 376h: HOB, SRST, nIEN.
    pub fn write_control(&mut self, bus: Bus, value: u8) {
        self.channel(bus).write_control(value);
    }

    /// Reads the data port: `out` is one access of 2 or 4 bytes, or a whole REP INSW/INSD.
    ///
    /// Returns how many bytes were given. Fewer than asked: the DRQ block ended. Act on the effect
    /// and call again for the rest; when nothing comes, the rest reads all-ones.
    #[inline]
    pub fn data_in(&mut self, bus: Bus, out: &mut [u8]) -> (usize, Effect) {
        self.channel(bus).data_in(out)
    }

    /// Writes the data port: one access, or a whole REP OUTSW/OUTSD. As [`Ide::data_in`]; what no
    /// block takes is lost.
    #[inline]
    pub fn data_out(&mut self, bus: Bus, data: &[u8]) -> (usize, Effect) {
        self.channel(bus).data_out(data)
    }

    /// Reads byte `offset` (0 to 15) of the bus-master block: 0 to 7 primary, 8 to 15 secondary.
    #[must_use]
    pub fn busmaster_read(&self, offset: u8) -> u8 {
        self.channels[usize::from(offset >> 3 & 1)].bm.read(offset & 7)
    }

    /// Writes byte `offset` (0 to 15) of the bus-master block.
    pub fn busmaster_write(&mut self, offset: u8, value: u8) -> Effect {
        let channel = &mut self.channels[usize::from(offset >> 3 & 1)];
        let started = channel.bm.write(offset & 7, value);
        if started && channel.transfer.phase == channel::Phase::DmaReady {
            Effect::Dma(channel.bus)
        } else {
            Effect::None
        }
    }

    /// The PRD table pointer, offset 4 or 12, as a double word.
    #[must_use]
    pub fn prd_table(&self, bus: Bus) -> u32 {
        self.channels[bus.index()].bm.table
    }

    /// Writes the PRD table pointer as a double word.
    pub fn set_prd_table(&mut self, bus: Bus, value: u32) {
        self.channel(bus).bm.write_table(value);
    }

    /// The channel's interrupt line.
    #[must_use]
    pub fn irq(&self, bus: Bus) -> bool {
        self.channels[bus.index()].irq()
    }

    /// The next batch of the DMA command on `bus`. `read_prd` reads 8 bytes of guest memory.
    pub fn dma_next(
        &mut self,
        bus: Bus,
        list: &mut SegmentList,
        read_prd: impl FnMut(u32) -> Option<[u8; 8]>,
    ) -> DmaStep {
        self.channel(bus).dma_next(list, read_prd)
    }

    /// The bytes that a request with [`crate::blk::Place::Buffer`], or a [`DmaStep::Copy`], moves.
    /// `None` when the token is stale.
    pub fn buffer(&mut self, token: Token) -> Option<&mut [u8]> {
        self.channels.get_mut(usize::from(token.part))?.request_buffer(token.seq)
    }

    /// The host is done with `token`. Stale tokens are ignored.
    pub fn complete(&mut self, token: Token, result: Result<(), BlkError>) -> Effect {
        match self.channels.get_mut(usize::from(token.part)) {
            Some(channel) => channel.complete(token.seq, result),
            None => Effect::None,
        }
    }
}
