//! Network cards: what is built in, and the way of frames to the host and back.
//!
//! The board stays locked while a frame is handed to [`Host::send_frame`], which must not call back.

use crate::Machine;
use crate::effects::Effects;
use crate::host::Host;
use devmodel::net::Received;

/// Most cards of a guest.
pub const MAX_NICS: usize = 4;

/// What a card is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NicModel {
    /// Intel 82540EM.
    E1000,
    /// Realtek RTL8139C.
    Rtl8139,
}

/// A card as the configuration gives it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Nic {
    /// Its address.
    pub mac: [u8; 6],
    /// What it is.
    pub model: NicModel,
}

impl Machine {
    /// Lets the cards send what their drivers have queued.
    pub(crate) fn run_nics<H: Host>(&self, host: &H, fx: &mut Effects) {
        let now = self.now(host);
        let send = &mut |nic: u8, frame: &[u8]| host.send_frame(nic, frame);
        self.board.lock().run_nics(&self.ram, now, send, fx);
    }

    /// Offers a frame from the wire (without check sequence) to card `nic`. Where there is no room,
    /// [`Host::nic_has_room`] tells when to offer it again.
    pub fn receive_frame<H: Host>(&self, host: &H, nic: u8, frame: &[u8]) -> Received {
        let now = self.now(host);
        self.on_board(host, |board, fx| board.receive_frame(nic, &self.ram, frame, now, fx))
    }
}
