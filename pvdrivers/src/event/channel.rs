//! The ports of one domain: what each is bound to, and which are free.
//!
//! Ports are in buckets that are made when the first port in them is needed, and kept until the
//! domain goes.

use crate::abi::event_channel::FIFO_PRIORITY_DEFAULT;
use crate::{DomId, Errno, Port};
use alloc::vec::Vec;

/// Ports in a bucket.
const BUCKET: usize = 128;
/// A search for a free port gives up after so many that are free but still linked in the guest's
/// queues.
const MOST_BUSY: u32 = 1024;

/// What a port is bound to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ChannelState {
    /// Nothing.
    #[default]
    Free,
    /// Port 0, which is none.
    Reserved,
    /// It waits for a peer.
    Unbound {
        /// Who may bind to it.
        remote: DomId,
    },
    /// A peer.
    Interdomain {
        /// Whose port it is; possibly one's own.
        remote: DomId,
        /// The peer.
        port: Port,
    },
    /// A device's interrupt.
    Pirq(u32),
    /// A virtual interrupt.
    Virq(u32),
    /// Interrupts between one's own vCPUs.
    Ipi,
}

/// One port.
#[derive(Clone, Copy, Debug)]
pub(super) struct Channel {
    pub state: ChannelState,
    /// The vCPU that is notified.
    pub vcpu: u16,
    /// FIFO: the queue that the next event goes to.
    pub priority: u8,
    /// FIFO: the queue that the last event went to.
    pub last: (u16, u8),
    /// FIFO: pending, but the guest has not yet given the page for its word.
    pub pending: bool,
}

impl Channel {
    const FREE: Channel = Channel {
        state: ChannelState::Free,
        vcpu: 0,
        priority: FIFO_PRIORITY_DEFAULT,
        last: (0, 0),
        pending: false,
    };

    /// Whether it is bound to something.
    #[inline]
    pub fn is_usable(&self) -> bool {
        !matches!(self.state, ChannelState::Free | ChannelState::Reserved)
    }
}

#[derive(Debug)]
struct Bucket {
    channels: Vec<Channel>,
    used: usize,
}

impl Bucket {
    fn new() -> Result<Bucket, Errno> {
        let mut channels = Vec::new();
        channels.try_reserve_exact(BUCKET).map_err(|_| Errno::ENOMEM)?;
        channels.resize(BUCKET, Channel::FREE);
        Ok(Bucket { channels, used: 0 })
    }
}

/// The ports of one domain.
#[derive(Debug)]
pub(super) struct Ports {
    buckets: Vec<Bucket>,
    /// Buckets before this are full.
    first_free: usize,
    active: u32,
    /// One behind the highest port.
    limit: u32,
}

impl Ports {
    /// No ports but the reserved one; never one from `limit` on.
    pub fn new(limit: u32) -> Result<Ports, Errno> {
        let mut first = Bucket::new()?;
        first.channels[0].state = ChannelState::Reserved;
        first.used = 1;
        Ok(Ports { buckets: Vec::from([first]), first_free: 0, active: 0, limit })
    }

    /// A port that memory is held for.
    #[inline]
    pub fn get(&self, port: Port) -> Option<&Channel> {
        let at = port.0 as usize;
        self.buckets.get(at / BUCKET)?.channels.get(at % BUCKET)
    }

    /// The same, to change it. `state` changes by [`allocate`](Ports::allocate) and
    /// [`free`](Ports::free), or between bound states.
    #[inline]
    pub fn get_mut(&mut self, port: Port) -> Option<&mut Channel> {
        let at = port.0 as usize;
        self.buckets.get_mut(at / BUCKET)?.channels.get_mut(at % BUCKET)
    }

    /// Binds the lowest free port below `most` that is not `busy`.
    ///
    /// # Errors
    /// `ENOSPC`, `ENOMEM`.
    pub fn allocate(
        &mut self,
        state: ChannelState,
        vcpu: u16,
        most: u32,
        busy: impl Fn(Port) -> bool,
    ) -> Result<Port, Errno> {
        let most = most.min(self.limit) as usize;
        let port = self.find(most, busy)?;
        let at = port.0 as usize;
        let bucket = self.buckets.get_mut(at / BUCKET).ok_or(Errno::ENOSPC)?;
        let channel = bucket.channels.get_mut(at % BUCKET).ok_or(Errno::ENOSPC)?;
        // The last queue stays: the guest's list may still hold this port there.
        *channel = Channel { state, vcpu, last: channel.last, ..Channel::FREE };
        bucket.used += 1;
        self.active += 1;
        Ok(port)
    }

    fn find(&mut self, most: usize, busy: impl Fn(Port) -> bool) -> Result<Port, Errno> {
        let mut left = MOST_BUSY;
        while self.buckets.get(self.first_free).is_some_and(|bucket| bucket.used == BUCKET) {
            self.first_free += 1;
        }
        for index in self.first_free..most.div_ceil(BUCKET) {
            if index == self.buckets.len() {
                self.buckets.try_reserve(1).map_err(|_| Errno::ENOMEM)?;
                self.buckets.push(Bucket::new()?);
            }
            let Some(bucket) = self.buckets.get(index) else { break };
            if bucket.used == BUCKET {
                continue;
            }
            for (n, channel) in bucket.channels.iter().enumerate() {
                let port = Port((index * BUCKET + n) as u32);
                if port.0 as usize >= most {
                    return Err(Errno::ENOSPC);
                }
                if channel.state != ChannelState::Free {
                    continue;
                }
                if !busy(port) {
                    return Ok(port);
                }
                left -= 1;
                if left == 0 {
                    return Err(Errno::ENOSPC);
                }
            }
        }
        Err(Errno::ENOSPC)
    }

    /// Frees a bound port; its vCPU is 0 again.
    pub fn free(&mut self, port: Port) {
        let index = port.0 as usize / BUCKET;
        let Some(bucket) = self.buckets.get_mut(index) else { return };
        let Some(channel) = bucket.channels.get_mut(port.0 as usize % BUCKET) else { return };
        if !channel.is_usable() {
            return;
        }
        *channel = Channel { last: channel.last, ..Channel::FREE };
        bucket.used -= 1;
        self.active -= 1;
        self.first_free = self.first_free.min(index);
    }

    /// Forgets in which queues ports were: there are no queues now.
    pub fn forget_queues(&mut self) {
        for channel in self.buckets.iter_mut().flat_map(|bucket| &mut bucket.channels) {
            (channel.last, channel.priority, channel.pending) =
                ((0, 0), FIFO_PRIORITY_DEFAULT, false);
        }
    }

    /// Bound ports.
    pub fn active(&self) -> u32 {
        self.active
    }

    /// One behind the highest port that there can be.
    pub fn limit(&self) -> u32 {
        self.limit
    }

    /// Ports that memory is held for; a port below this is valid.
    pub fn allocated(&self) -> u32 {
        (self.buckets.len() * BUCKET) as u32
    }
}
