//! A learning bridge: which ports a frame goes to. IEEE 802.1D "Bridge operation", without spanning tree.
//!
//! Pure: time is an argument and nothing is allocated; whoever owns it moves the bytes. `table` (addresses),
//! `rate` (limits), `queue` (frames that wait for a port).

pub mod queue;
pub mod rate;
pub mod table;
#[cfg(test)]
mod tests;

use arch::Nanos;
use rate::Bucket;
use table::{Age, Table};

/// Most ports of a bridge.
pub const MAX_PORTS: usize = 64;
/// Bytes of destination, source and type.
pub const HEADER: usize = 14;
/// Bytes of the longest frame that passes: 64 KiB of a segmentation offload, and headers.
pub const MAX_FRAME: usize = 65_536 + 64;

/// An Ethernet address.
pub type Mac = [u8; 6];

/// A port by its number, below [`MAX_PORTS`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PortId(u8);

impl PortId {
    /// Its number.
    #[must_use]
    pub const fn index(self) -> usize {
        self.0 as usize
    }
}

/// What a port is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PortConfig {
    /// Its only station, such as a guest's card: known without learning, and nobody else's.
    pub mac: Option<Mac>,
    /// Frames from another source than `mac` are dropped.
    pub filter: bool,
    /// Most bytes a second that come in from it; `None` for no limit.
    pub rate: Option<u64>,
}

/// A set of ports.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PortSet(u64);

impl PortSet {
    /// The ports, ascending.
    pub fn iter(self) -> impl Iterator<Item = PortId> {
        (0..MAX_PORTS as u8).map(PortId).filter(move |port| self.contains(*port))
    }

    /// Whether a port is in it.
    #[must_use]
    pub const fn contains(self, port: PortId) -> bool {
        self.0 >> port.0 & 1 != 0
    }

    /// Whether no port is in it.
    #[must_use]
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }
}

/// Why a frame goes nowhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// There is no such port.
    NoPort,
    /// Shorter than a header, or longer than [`MAX_FRAME`].
    Length,
    /// Its source is a group, another port's station, or not this port's while it is filtered.
    Source,
    /// To an address that bridges keep to themselves (IEEE 802.1D "Reserved addresses").
    Reserved,
    /// The port sends more than it may.
    Rate,
}

/// What a port has seen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Frames that came in and were forwarded, or had no way out.
    pub frames_in: u64,
    /// Their bytes.
    pub bytes_in: u64,
    /// Frames that were sent out to it.
    pub frames_out: u64,
    /// Their bytes.
    pub bytes_out: u64,
    /// Refused for their source.
    pub spoofed: u64,
    /// Refused for the rate.
    pub over_rate: u64,
    /// Refused for other reasons.
    pub bad: u64,
    /// Dropped because whoever is at the port did not take them in time.
    pub overrun: u64,
}

#[derive(Clone, Copy, Debug)]
struct Port {
    config: PortConfig,
    bucket: Option<Bucket>,
    counters: Counters,
}

/// The bridge.
#[derive(Clone, Debug)]
pub struct Bridge {
    ports: [Option<Port>; MAX_PORTS],
    table: Table,
}

impl Default for Bridge {
    fn default() -> Bridge {
        Bridge::new()
    }
}

impl Bridge {
    /// A bridge without ports.
    #[must_use]
    pub const fn new() -> Bridge {
        Bridge { ports: [None; MAX_PORTS], table: Table::new() }
    }

    /// Adds a port; `None` when there are [`MAX_PORTS`], or when another port has this station.
    pub fn add(&mut self, config: PortConfig, now: Nanos) -> Option<PortId> {
        if let Some(mac) = &config.mac
            && (is_group(mac) || self.owner(mac).is_some())
        {
            return None;
        }
        let free = self.ports.iter().position(Option::is_none)?;
        if let Some(mac) = &config.mac {
            self.table.forget_address(mac);
        }
        let bucket = config.rate.map(|rate| Bucket::new(rate, now));
        self.ports[free] = Some(Port { config, bucket, counters: Counters::default() });
        Some(PortId(free as u8))
    }

    /// Takes a port away, and forgets who was behind it.
    pub fn remove(&mut self, port: PortId) {
        if let Some(place) = self.ports.get_mut(port.index()) {
            *place = None;
            self.table.forget_port(port);
        }
    }

    /// Where a frame that came in from `from` goes.
    ///
    /// # Errors
    /// [`Refusal`]; the port's counters know it too.
    pub fn forward(&mut self, from: PortId, frame: &[u8], now: Nanos) -> Result<PortSet, Refusal> {
        let verdict = self.judge(from, frame, now);
        let Some(Some(port)) = self.ports.get_mut(from.index()) else {
            return Err(Refusal::NoPort);
        };
        let counters = &mut port.counters;
        match verdict {
            Ok(_) => {
                counters.frames_in += 1;
                counters.bytes_in += frame.len() as u64;
            }
            Err(Refusal::Source) => counters.spoofed += 1,
            Err(Refusal::Rate) => counters.over_rate += 1,
            Err(_) => counters.bad += 1,
        }
        let to = verdict?;
        for out in to.iter() {
            if let Some(Some(port)) = self.ports.get_mut(out.index()) {
                port.counters.frames_out += 1;
                port.counters.bytes_out += frame.len() as u64;
            }
        }
        Ok(to)
    }

    fn judge(&mut self, from: PortId, frame: &[u8], now: Nanos) -> Result<PortSet, Refusal> {
        let Some(Some(port)) = self.ports.get_mut(from.index()) else {
            return Err(Refusal::NoPort);
        };
        let (Some(to), Some(source)) = (mac_at(frame, 0), mac_at(frame, 6)) else {
            return Err(Refusal::Length);
        };
        if frame.len() < HEADER || frame.len() > MAX_FRAME {
            return Err(Refusal::Length);
        }
        let own = port.config.mac == Some(source);
        if is_group(&source) || (port.config.filter && !own) {
            return Err(Refusal::Source);
        }
        if let Some(bucket) = &mut port.bucket
            && !bucket.take(frame.len() as u64, now)
        {
            return Err(Refusal::Rate);
        }
        if !own {
            if self.owner(&source).is_some() {
                return Err(Refusal::Source);
            }
            self.table.learn(&source, from, now);
        }
        if to[..5] == [0x01, 0x80, 0xc2, 0x00, 0x00] && to[5] < 0x10 {
            return Err(Refusal::Reserved);
        }
        let known = if is_group(&to) { None } else { self.find(&to, now) };
        Ok(match known {
            Some(port) if port == from => PortSet(0),
            Some(port) => PortSet(1 << port.0),
            None => self.all_but(from),
        })
    }

    /// The port behind which a station is, if that is known.
    #[must_use]
    pub fn find(&self, mac: &Mac, now: Nanos) -> Option<PortId> {
        self.owner(mac).or_else(|| self.table.find(mac, now))
    }

    /// The port whose own station this is.
    fn owner(&self, mac: &Mac) -> Option<PortId> {
        let owns =
            |port: &Option<Port>| port.as_ref().is_some_and(|port| port.config.mac == Some(*mac));
        self.ports.iter().position(owns).map(|n| PortId(n as u8))
    }

    fn all_but(&self, from: PortId) -> PortSet {
        let all = self.ports.iter().enumerate().filter(|(_, port)| port.is_some());
        PortSet(all.fold(0, |set, (n, _)| set | 1 << n) & !(1 << from.0))
    }

    /// Notes that a frame for a port was dropped because it did not take it in time.
    pub fn overrun(&mut self, port: PortId) {
        if let Some(Some(port)) = self.ports.get_mut(port.index()) {
            port.counters.overrun += 1;
        }
    }

    /// The port of this number, if there is one.
    #[must_use]
    pub fn port(&self, number: usize) -> Option<PortId> {
        self.ports.get(number)?.as_ref().map(|_| PortId(number as u8))
    }

    /// What a port has seen; `None` where there is no port.
    #[must_use]
    pub fn counters(&self, port: PortId) -> Option<Counters> {
        Some(self.ports.get(port.index())?.as_ref()?.counters)
    }

    /// How many addresses are known by learning.
    #[must_use]
    pub fn learned(&self, now: Nanos) -> usize {
        self.table.count(Age::Fresh, now)
    }
}

fn mac_at(frame: &[u8], at: usize) -> Option<Mac> {
    frame.get(at..)?.first_chunk().copied()
}

/// Whether an address names a group.
const fn is_group(mac: &Mac) -> bool {
    mac[0] & 1 != 0
}
