//! Network cards on the board: their PCI functions, where they answer, their pins, and their frames.
//! The cards themselves are `devmodel`'s.

use super::{Board, Timed};
use crate::effects::Effects;
use crate::nics::{MAX_NICS, Nic, NicModel};
use alloc::boxed::Box;
use arch::{GuestPhys, GuestRam, Nanos};
use devmodel::e1000::{self, E1000, E1000Effect};
use devmodel::net::{Memory, Received};
use devmodel::pci::{Bar, DevFn, Generic, Kind, Region};
use devmodel::rtl8139::{self, Rtl8139, Rtl8139Effect};

/// PCI device of the first card; the others follow.
const FIRST_DEVICE: u8 = 4;

/// Guest RAM as a card reaches it.
struct Dma<'a>(&'a GuestRam);

impl Memory for Dma<'_> {
    fn read(&self, at: u64, to: &mut [u8]) -> bool {
        self.0.read(GuestPhys(at), to).is_ok()
    }

    fn write(&self, at: u64, from: &[u8]) -> bool {
        self.0.write_slice(GuestPhys(at), from).is_ok()
    }
}

/// A card's chip.
#[derive(Clone, Debug)]
pub(crate) enum Card {
    E1000(Box<E1000>),
    Rtl8139(Box<Rtl8139>),
}

/// A card in its slot.
#[derive(Clone, Debug)]
pub(crate) struct Slot {
    // Fixed
    at: DevFn,
    // Guest-visible
    card: Card,
    // Derived
    /// The first of its ports while they are decoded, else 0.
    port: u16,
    /// It has frames to send that its last turn had no time for.
    busy: bool,
}

impl Card {
    fn new(nic: &Nic) -> Card {
        match nic.model {
            NicModel::E1000 => Card::E1000(Box::new(E1000::new(nic.mac))),
            NicModel::Rtl8139 => Card::Rtl8139(Box::new(Rtl8139::new(nic.mac))),
        }
    }

    /// What its PCI function says.
    fn function(&self) -> Generic {
        let mut bars = [Bar::None; 6];
        let ((vendor, device), revision, subsystem) = match self {
            Card::E1000(_) => {
                bars[0] = Bar::Memory(e1000::MEMORY_SIZE);
                bars[1] = Bar::Io(e1000::IO_SIZE);
                (e1000::ID, 2, (e1000::ID.0, 0x001E))
            }
            Card::Rtl8139(_) => {
                bars[0] = Bar::Io(rtl8139::SIZE);
                bars[1] = Bar::Memory(rtl8139::SIZE.into());
                (rtl8139::ID, 0x10, rtl8139::ID)
            }
        };
        let class = 0x02_0000;
        Generic { vendor, device, class, revision, subsystem, interrupt_pin: 1, bars }
    }

    /// Which base address register is the ports', and how many there are.
    fn ports(&self) -> (u8, u16) {
        match self {
            Card::E1000(_) => (1, e1000::IO_SIZE),
            Card::Rtl8139(_) => (0, rtl8139::SIZE),
        }
    }

    /// Which base address register is the memory's.
    fn memory(&self) -> u8 {
        match self {
            Card::E1000(_) => 0,
            Card::Rtl8139(_) => 1,
        }
    }

    fn reset(&mut self) {
        match self {
            Card::E1000(card) => card.reset(),
            Card::Rtl8139(card) => card.reset(),
        }
    }

    fn irq(&self) -> bool {
        match self {
            Card::E1000(card) => card.irq(),
            Card::Rtl8139(card) => card.irq(),
        }
    }

    fn due(&self) -> Option<Nanos> {
        match self {
            Card::E1000(card) => card.due(),
            Card::Rtl8139(_) => None,
        }
    }

    fn advance(&mut self, now: Nanos) {
        match self {
            Card::E1000(card) => card.advance(now),
            Card::Rtl8139(_) => {}
        }
    }

    fn can_transmit(&self) -> bool {
        match self {
            Card::E1000(card) => card.can_transmit(),
            Card::Rtl8139(card) => card.can_transmit(),
        }
    }
}

/// What a register write asks for.
enum Ask {
    Nothing,
    Transmit,
    Room,
}

impl From<E1000Effect> for Ask {
    fn from(effect: E1000Effect) -> Ask {
        match effect {
            E1000Effect::Nothing => Ask::Nothing,
            E1000Effect::Transmit => Ask::Transmit,
            E1000Effect::Room => Ask::Room,
        }
    }
}

impl From<Rtl8139Effect> for Ask {
    fn from(effect: Rtl8139Effect) -> Ask {
        match effect {
            Rtl8139Effect::Nothing => Ask::Nothing,
            Rtl8139Effect::Transmit => Ask::Transmit,
            Rtl8139Effect::Room => Ask::Room,
        }
    }
}

impl Board {
    /// Plugs the cards in, before power-on.
    pub(crate) fn attach_nics(&mut self, nics: &[Nic]) {
        for (nic, device) in nics.iter().take(MAX_NICS).zip(FIRST_DEVICE..) {
            let (at, card) = (DevFn::new(device, 0), Card::new(nic));
            // The slots behind the board's own functions are free, and there is room for sixteen.
            if self.pci.add(at, Kind::Generic(card.function())).is_ok() {
                self.nics.push(Slot { at, card, port: 0, busy: false });
            }
        }
    }

    /// The guest's drivers take the cards away: they decode nothing and are not on the bus. The next
    /// reset brings them back.
    pub(crate) fn unplug_nics(&mut self, fx: &mut Effects) {
        for n in 0..self.nics.len() {
            let effect = self.pci.write(self.nics[n].at, 4, 2, 0);
            self.pci_effect(effect, fx);
        }
        self.nics_gone = true;
    }

    /// Whether the configuration address is that of a card that was taken away.
    pub(super) fn names_gone_nic(&self) -> bool {
        let at = (self.pci.address() >> 8) as u16;
        self.nics_gone && self.nics.iter().any(|slot| u16::from(slot.at.bits()) == at)
    }

    pub(super) fn reset_nics(&mut self) {
        self.nics_gone = false;
        for slot in &mut self.nics {
            slot.card.reset();
            (slot.port, slot.busy) = (0, false);
        }
    }

    /// The cards' memory windows by number: start and bytes, 0 where there is none.
    pub(super) fn nic_windows(&self) -> [(u64, u32); MAX_NICS] {
        let mut windows = [(0, 0); MAX_NICS];
        for (window, slot) in windows.iter_mut().zip(&self.nics) {
            let function = self.pci.function(slot.at);
            if let Some(Region::Memory { address, size }) =
                function.and_then(|f| f.region(slot.card.memory()))
            {
                *window = (address, size);
            }
        }
        windows
    }

    /// PCI configuration has changed.
    pub(super) fn move_nics(&mut self) {
        for slot in &mut self.nics {
            let function = self.pci.function(slot.at);
            slot.port = match function.and_then(|f| f.region(slot.card.ports().0)) {
                Some(Region::Io { port, .. }) => port,
                _ => 0,
            };
        }
    }

    /// The card that decodes a port, and the port's offset.
    fn nic_at(&self, port: u16) -> Option<(usize, u8)> {
        self.nics.iter().enumerate().find_map(|(n, slot)| {
            let offset = port.wrapping_sub(slot.port);
            (slot.port != 0 && offset < slot.card.ports().1).then_some((n, offset as u8))
        })
    }

    /// Reads a port of a card; `None` where no card decodes it.
    pub(super) fn nic_in(
        &mut self,
        port: u16,
        width: u8,
        now: Nanos,
        fx: &mut Effects,
    ) -> Option<u32> {
        let (n, offset) = self.nic_at(port)?;
        let value = match &mut self.nics.get_mut(n)?.card {
            Card::E1000(card) if width == 4 => card.io_read(offset, now),
            Card::E1000(_) => u32::MAX >> (32 - 8 * u32::from(width.clamp(1, 4))),
            Card::Rtl8139(card) => card.read(offset, width),
        };
        self.settle_nics(now, fx);
        Some(value)
    }

    /// Writes a port of a card; false where no card decodes it.
    pub(super) fn nic_out(
        &mut self,
        port: u16,
        width: u8,
        value: u32,
        now: Nanos,
        fx: &mut Effects,
    ) -> bool {
        let Some((n, offset)) = self.nic_at(port) else { return false };
        let ask = match &mut self.nics[n].card {
            Card::E1000(card) if width == 4 => card.io_write(offset, value, now).into(),
            Card::E1000(_) => Ask::Nothing,
            Card::Rtl8139(card) => card.write(offset, width, value).into(),
        };
        self.answer_nic(n, &ask, now, fx);
        true
    }

    /// Reads `width` bytes of a card's memory.
    pub(super) fn nic_read(
        &mut self,
        n: u8,
        offset: u64,
        width: u8,
        now: Nanos,
        fx: &mut Effects,
    ) -> u64 {
        let Some(slot) = self.nics.get_mut(usize::from(n)) else { return u64::MAX };
        let value = match &mut slot.card {
            Card::E1000(card) => {
                let at = offset as u32;
                let mut value = u64::from(card.read(at, now));
                if width == 8 {
                    value |= u64::from(card.read(at.wrapping_add(4), now)) << 32;
                }
                value >> ((offset & 3) * 8)
            }
            Card::Rtl8139(card) => card.read(offset as u8, width).into(),
        };
        self.settle_nics(now, fx);
        value
    }

    /// Writes `width` bytes of a card's memory.
    pub(super) fn nic_write(
        &mut self,
        n: u8,
        offset: u64,
        (width, value): (u8, u64),
        now: Nanos,
        fx: &mut Effects,
    ) {
        let Some(slot) = self.nics.get_mut(usize::from(n)) else { return };
        let at = offset as u32;
        let ask = match &mut slot.card {
            Card::E1000(card) if width == 4 => card.write(at, value as u32, now).into(),
            Card::E1000(card) if width == 8 => {
                let first = card.write(at, value as u32, now).into();
                match (first, card.write(at.wrapping_add(4), (value >> 32) as u32, now).into()) {
                    (Ask::Nothing, second) => second,
                    (first, _) => first,
                }
            }
            // The registers take whole dwords.
            Card::E1000(_) => Ask::Nothing,
            Card::Rtl8139(card) => card.write(offset as u8, width, value as u32).into(),
        };
        self.answer_nic(usize::from(n), &ask, now, fx);
    }

    fn answer_nic(&mut self, n: usize, ask: &Ask, now: Nanos, fx: &mut Effects) {
        match ask {
            Ask::Nothing => {}
            Ask::Transmit => {
                fx.nic = true;
                fx.touch();
            }
            Ask::Room => {
                fx.nic_room |= 1 << n;
                fx.touch();
            }
        }
        self.settle_nics(now, fx);
    }

    /// Carries the cards' pins and deadlines.
    pub(super) fn settle_nics(&mut self, now: Nanos, fx: &mut Effects) {
        let mut due: Option<Nanos> = None;
        for slot in &self.nics {
            self.pci.set_intx(slot.at, slot.card.irq());
            let next = if slot.busy { Some(now) } else { slot.card.due() };
            due = due.into_iter().chain(next).min();
        }
        self.settle_pci(fx);
        self.retime(Timed::Nic, due, fx);
    }

    /// Time has reached a card's deadline.
    pub(super) fn advance_nics(&mut self, now: Nanos, fx: &mut Effects) {
        for slot in &mut self.nics {
            slot.card.advance(now);
            if core::mem::take(&mut slot.busy) {
                fx.nic = true;
                fx.touch();
            }
        }
        self.settle_nics(now, fx);
    }

    /// Lets the cards send what their drivers have queued.
    pub(crate) fn run_nics(
        &mut self,
        ram: &GuestRam,
        now: Nanos,
        send: &mut dyn FnMut(u8, &[u8]),
        fx: &mut Effects,
    ) {
        for (n, slot) in (0u8..).zip(&mut self.nics) {
            if !self.pci.function(slot.at).is_some_and(devmodel::pci::Function::is_master) {
                continue;
            }
            match &mut slot.card {
                Card::E1000(card) => {
                    card.transmit(&Dma(ram), now, &mut |frame| send(n, frame));
                }
                Card::Rtl8139(card) => card.transmit(&Dma(ram), &mut |frame| send(n, frame)),
            }
            slot.busy = slot.card.can_transmit();
        }
        self.settle_nics(now, fx);
    }

    /// A frame arrives at a card.
    pub(crate) fn receive_frame(
        &mut self,
        nic: u8,
        ram: &GuestRam,
        frame: &[u8],
        now: Nanos,
        fx: &mut Effects,
    ) -> Received {
        let Some(slot) = self.nics.get_mut(usize::from(nic)) else { return Received::Unwanted };
        if !self.pci.function(slot.at).is_some_and(devmodel::pci::Function::is_master) {
            return Received::Unwanted;
        }
        let received = match &mut slot.card {
            Card::E1000(card) => card.receive_frame(&Dma(ram), frame, now),
            Card::Rtl8139(card) => card.receive_frame(&Dma(ram), frame),
        };
        self.settle_nics(now, fx);
        received
    }
}
