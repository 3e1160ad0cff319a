//! A block back end on the bus: which nodes it writes, and when. A [`BackEnd`](crate::bus::BackEnd)
//! of whoever owns disk, grants and ports calls these from the methods of the same names.

use super::abi::Layout;
use super::{BlkBack, FrontEnd, Media};
use crate::bus::{DeviceNodes, XenbusState};
use crate::errno::Errno;
use crate::seam::Grants;

impl BlkBack {
    /// Writes what a front end looks for before it gives its details.
    ///
    /// # Errors
    /// As [`DeviceNodes::write`].
    pub fn offer(&self, nodes: &mut DeviceNodes<'_>) -> Result<(), Errno> {
        for (name, value) in self.config().features() {
            nodes.write(name, value)?;
        }
        Ok(())
    }

    /// Reads the front end's details, connects to its rings, and writes what the disk is like. A
    /// front end that names no layout has `native`. Then bind [`ports`](BlkBack::ports), by queue;
    /// if that fails, [`disconnect`](BlkBack::disconnect).
    ///
    /// # Errors
    /// As [`FrontEnd::read`] and [`connect`](BlkBack::connect); nothing stays pinned.
    pub fn take_front(
        &mut self,
        nodes: &mut DeviceNodes<'_>,
        native: Layout,
        grants: &mut impl Grants,
    ) -> Result<(), Errno> {
        let most = self.config().max_queues;
        let front = FrontEnd::read(&mut |name| nodes.front(name), native, most)?;
        self.connect(grants, &front)?;
        if let Err(error) = self.write_properties(nodes) {
            self.disconnect(grants);
            return Err(error);
        }
        Ok(())
    }

    /// The medium is another, is gone, or has another size: tells a connected front end, which
    /// looks again when the state is written once more.
    ///
    /// # Errors
    /// As [`DeviceNodes::write`].
    pub fn change_media(
        &mut self,
        nodes: &mut DeviceNodes<'_>,
        media: Option<Media>,
    ) -> Result<(), Errno> {
        self.set_media(media);
        if self.is_connected() {
            self.write_properties(nodes)?;
            nodes.write("state", XenbusState::Connected.number())?;
        }
        Ok(())
    }

    fn write_properties(&self, nodes: &mut DeviceNodes<'_>) -> Result<(), Errno> {
        for (name, value) in self.config().properties(self.media()) {
            nodes.write(name, value)?;
        }
        Ok(())
    }
}
