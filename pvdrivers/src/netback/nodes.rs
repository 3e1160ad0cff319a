//! A network back end on the bus: which nodes it writes, and when. A
//! [`BackEnd`](crate::bus::BackEnd) of whoever owns bridge, grants and ports calls these from the
//! methods of the same names.

use super::{FrontEnd, NetBack, features};
use crate::bus::DeviceNodes;
use crate::errno::Errno;
use crate::seam::Grants;

impl NetBack {
    /// Writes what a front end looks for before it gives its details.
    ///
    /// # Errors
    /// As [`DeviceNodes::write`].
    pub fn offer(&self, nodes: &mut DeviceNodes<'_>, max_queues: u32) -> Result<(), Errno> {
        for (name, value) in features(max_queues) {
            nodes.write(name, value)?;
        }
        // Where a dom0's script says that the interface is on its bridge.
        nodes.write("hotplug-status", "connected")?;
        Ok(())
    }

    /// Reads the front end's details and connects to its rings. Then bind
    /// [`ports`](NetBack::ports), by queue; if that fails, [`disconnect`](NetBack::disconnect).
    ///
    /// # Errors
    /// As [`FrontEnd::read`] and [`connect`](NetBack::connect); nothing stays pinned.
    pub fn take_front(
        &mut self,
        nodes: &mut DeviceNodes<'_>,
        max_queues: u32,
        grants: &mut impl Grants,
    ) -> Result<(), Errno> {
        let front = FrontEnd::read(&mut |name| nodes.front(name), max_queues)?;
        self.connect(grants, front)
    }
}
