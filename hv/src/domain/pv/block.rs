//! A guest's disk as a paravirtual one: the back end's state machine on the guest's own medium.

use alloc::format;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;

use devmodel::blk::{BlkError, BlkOp, BlkRequest, DiskId, Place, Segment, Token as ChipToken};
use machine::Drive;
use machine::host::{DiskAnswer as HostAnswer, DiskData};
use pvdrivers::blkback::abi::Layout;
use pvdrivers::blkback::{
    BlkBack, BlkConfig, Disk, DiskAnswer, DiskError, DiskOp, DiskRequest, Media, Token,
};
use pvdrivers::bus::{BackEnd, DeviceNodes, VbdSpec};
use pvdrivers::event::EventChannels;
use pvdrivers::grant::LocalGrants;
use pvdrivers::sorted::SortedMap;
use pvdrivers::{DomId, Errno, Port};

use super::{Context, Submit, TOKEN_PART, Target};
use crate::cpu::lock::IrqLock;
use crate::drivers::block::MAX_SEGMENTS;

/// Numbers of hda to hdd. Xen docs "xen-vbd-interface".
const IDE_DEVICES: [u32; 4] = [768, 832, 5632, 5696];

/// Pieces that a host's disk has of one device at most: it keeps 64 at least, and may serve other disks and the chips.
pub const UNDER_WAY: u32 = 24;

/// One disk with its back end.
pub struct BlkDevice {
    back: BlkBack,
    medium: Medium,
    owner: DomId,
    slot: u8,
    config: BlkConfig,
    read_only: bool,
    /// What was behind it when it was made.
    params: String,
    /// Ports of domain 0, by queue.
    ports: Vec<Port>,
    /// There were more requests than one doorbell takes.
    behind: bool,
}

/// The medium behind it, and requests that were cut into pieces for the host's disk.
struct Medium {
    owner: DomId,
    slot: u8,
    submit: Submit,
    /// Pieces that the host's disk still has, and whether one has failed, by request.
    pending: SortedMap<u32, (u32, bool)>,
}

impl BlkDevice {
    /// The paravirtual side of a hard disk or a CD drive in `slot`; `None` for other drives. `params` says what is
    /// behind it.
    pub fn new(
        owner: DomId,
        slot: u8,
        drive: &Drive,
        params: String,
        submit: Submit,
    ) -> Option<BlkDevice> {
        let number = *IDE_DEVICES.get(usize::from(slot))?;
        let (config, media) = match drive {
            Drive::Disk(media) => (BlkConfig::disk(number), Some(media)),
            Drive::Cdrom(media) => (BlkConfig::cdrom(number), media.as_ref()),
            Drive::Floppy(..) => return None,
        };
        let mut back = BlkBack::new(config, owner, DomId::BACKEND);
        back.set_media(media.map(shown));
        let medium = Medium { owner, slot, submit, pending: SortedMap::new() };
        let read_only = config.cdrom || media.is_some_and(|media| media.read_only);
        Some(BlkDevice {
            back,
            medium,
            owner,
            slot,
            config,
            read_only,
            params,
            ports: Vec::new(),
            behind: false,
        })
    }

    /// Whose disk it is.
    pub fn owner(&self) -> DomId {
        self.owner
    }

    /// Its number for the guest.
    pub fn devid(&self) -> u32 {
        self.config.virtual_device
    }

    /// Whether there were more requests than one doorbell takes.
    pub fn is_behind(&self) -> bool {
        self.behind
    }

    /// Requests that the disk still has.
    pub fn in_flight(&self) -> usize {
        self.back.in_flight()
    }

    /// Its nodes.
    pub fn spec(&self) -> VbdSpec {
        let letter = char::from(b'a' + self.slot.min(3));
        VbdSpec {
            devid: self.devid(),
            dev: format!("hd{letter}"),
            params: self.params.clone(),
            cdrom: self.config.cdrom,
            writable: !self.read_only,
            removable: self.config.removable,
            discard: false,
        }
    }

    /// Another medium is in it, or none: says so in its nodes, as xl does (`params`), and to a front end that is
    /// connected (Xen public "io/blkif.h": `sectors`, `media-present`, and the state again).
    pub fn change_media(
        &mut self,
        drive: &Drive,
        params: &str,
        nodes: &mut DeviceNodes<'_>,
    ) -> Result<(), Errno> {
        let Drive::Cdrom(media) = drive else { return Ok(()) };
        nodes.write("params", params)?;
        self.back.change_media(nodes, media.as_ref().map(shown))
    }

    /// Takes requests from the rings; whether there are more. `None`: a ring's indices make no sense.
    pub fn serve(&mut self, budget: u32, context: &mut Context) -> Option<bool> {
        let mut left = budget;
        loop {
            let mut tables = context.hub.grants.lock();
            let mut grants = LocalGrants { tables: &mut tables, frames: &context.hub.memories };
            let Ok(served) = self.back.serve(left, &mut grants, &mut self.medium) else {
                return None;
            };
            drop(tables);
            self.notify(served.notify, context);
            // A front end that never stops asking does not keep the CPU: CPU 0 goes on between turns.
            left /= 2;
            if !served.more || left == 0 {
                self.behind = served.more;
                return Some(served.more);
            }
        }
    }

    /// The host's disk has finished one piece. True: serve again.
    pub fn completed(&mut self, token: u32, good: bool, context: &mut Context) -> bool {
        let Some((left, failed)) = self.medium.pending.get_mut(&token) else { return false };
        *left -= 1;
        *failed |= !good;
        if *left > 0 {
            return false;
        }
        let result = if *failed { Err(DiskError::Failed) } else { Ok(()) };
        self.medium.pending.remove(&token);
        let mut tables = context.hub.grants.lock();
        let mut grants = LocalGrants { tables: &mut tables, frames: &context.hub.memories };
        let served = self.back.complete(Token(token), result, &mut grants);
        drop(tables);
        self.notify(served.notify, context);
        served.more
    }

    fn notify(&self, queues: u32, context: &mut Context) {
        for (queue, port) in self.ports.iter().enumerate() {
            if queues >> queue & 1 != 0 {
                let deliver = context.hub.events.lock().notify(*port);
                context.news.push(deliver);
            }
        }
    }
}

/// A drive's medium as the back end shows it.
fn shown(media: &devmodel::blk::Media) -> Media {
    Media { read_only: media.read_only, ..Media::disk(media.sectors) }
}

impl Disk for Medium {
    fn submit(&mut self, request: &DiskRequest<'_>) -> DiskAnswer {
        let op = match request.op {
            DiskOp::Read => BlkOp::Read,
            DiskOp::Write => BlkOp::Write,
            DiskOp::Flush => BlkOp::Flush,
            DiskOp::Discard => return DiskAnswer::Done(Err(DiskError::Unsupported)),
        };
        let Token(seq) = request.token;
        let mut blk = BlkRequest {
            token: ChipToken { part: TOKEN_PART, seq },
            disk: DiskId(self.slot),
            op,
            lba: request.sector,
            sectors: 0,
            place: if request.pieces.is_empty() { Place::None } else { Place::Guest },
        };
        if request.pieces.is_empty() {
            return self.one(&blk, DiskData::None);
        }
        let under_way: u32 = self.pending.iter().map(|(_, (pieces, _))| *pieces).sum();
        let more = request.pieces.len().div_ceil(MAX_SEGMENTS) as u32;
        if under_way > 0 && under_way + more > UNDER_WAY {
            return DiskAnswer::Busy;
        }
        let mut all = DiskAnswer::Done(Ok(()));
        for pieces in request.pieces.chunks(MAX_SEGMENTS) {
            let mut segments = [Segment::default(); MAX_SEGMENTS];
            let mut bytes = 0;
            for (segment, piece) in segments.iter_mut().zip(pieces) {
                let address = piece.frame.0 + u64::from(piece.offset);
                *segment = Segment { address, len: piece.len.into() };
                bytes += u32::from(piece.len);
            }
            blk.sectors = bytes / 512;
            match self.one(&blk, DiskData::Guest(&segments[..pieces.len()])) {
                DiskAnswer::Done(Err(error)) if all != DiskAnswer::Pending => {
                    return DiskAnswer::Done(Err(error));
                }
                // The pieces that are under way end first.
                DiskAnswer::Done(Err(_)) => {
                    if let Some((_, failed)) = self.pending.get_mut(&seq) {
                        *failed = true;
                    }
                    return DiskAnswer::Pending;
                }
                DiskAnswer::Pending => all = DiskAnswer::Pending,
                DiskAnswer::Done(Ok(())) | DiskAnswer::Busy => {}
            }
            blk.lba += u64::from(blk.sectors);
        }
        all
    }
}

impl Medium {
    /// Hands one piece to the medium.
    fn one(&mut self, request: &BlkRequest, data: DiskData<'_>) -> DiskAnswer {
        match (self.submit)(self.owner, request, data) {
            HostAnswer::Pending => {
                self.pending.get_or_insert_with(request.token.seq, || (0, false)).0 += 1;
                DiskAnswer::Pending
            }
            HostAnswer::Done(Ok(())) => DiskAnswer::Done(Ok(())),
            HostAnswer::Done(Err(BlkError::NoMedium | _)) => {
                DiskAnswer::Done(Err(DiskError::Failed))
            }
        }
    }
}

/// The device on the bus. The same device is found by its ports and by its disk's answers.
pub struct BlkPort(pub Arc<IrqLock<BlkDevice>>);

impl BackEnd<Context> for BlkPort {
    fn offer(&mut self, nodes: &mut DeviceNodes<'_>, _: &mut Context) -> Result<(), Errno> {
        self.0.lock().back.offer(nodes)
    }

    fn connect(&mut self, nodes: &mut DeviceNodes<'_>, context: &mut Context) -> Result<(), Errno> {
        let mut device = self.0.lock();
        let mut tables = context.hub.grants.lock();
        let mut grants = LocalGrants { tables: &mut tables, frames: &context.hub.memories };
        device.back.take_front(nodes, Layout::X86_64, &mut grants)?;
        drop(tables);
        let owner = device.owner;
        let fronts: Vec<Port> = device.back.ports().collect();
        let mut events = context.hub.events.lock();
        for front in fronts {
            match bind(&mut events, owner, front) {
                Ok(port) => {
                    device.ports.push(port);
                    context.bound.push((port, Target::Block(self.0.clone())));
                }
                // `disconnect` follows, and lets go of what was bound.
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    fn disconnect(&mut self, _: &mut DeviceNodes<'_>, context: &mut Context) {
        let mut device = self.0.lock();
        let mut tables = context.hub.grants.lock();
        let mut grants = LocalGrants { tables: &mut tables, frames: &context.hub.memories };
        device.back.disconnect(&mut grants);
        drop(tables);
        for port in device.ports.drain(..) {
            // It was bound: closing it cannot fail.
            let _ = context.hub.events.lock().close(DomId::BACKEND, port);
            context.closed.push(port);
        }
    }
}

pub(super) fn bind(events: &mut EventChannels, owner: DomId, front: Port) -> Result<Port, Errno> {
    // What is delivered is this port's own doorbell: requests that wait are found at the next one,
    // which the front end rings after it has seen state 4.
    let (port, _) = events.bind_interdomain(DomId::BACKEND, owner, front)?;
    Ok(port)
}
