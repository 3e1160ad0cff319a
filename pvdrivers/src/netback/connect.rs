//! What back end and front end tell each other in XenStore. Xen public "io/netif.h", from "Older
//! implementation of Xen network frontend" on.

use crate::blkback::{Node, number};
use crate::errno::Errno;
use crate::seam::{GrantRef, Port};
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

/// Most queues of an interface.
pub const MAX_QUEUES: u32 = 8;

/// A queue, as the front end wrote it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FrontQueue {
    /// The ring of what it sends.
    pub tx: GrantRef,
    /// The ring of what it receives.
    pub rx: GrantRef,
    /// Its port for sending.
    pub tx_port: Port,
    /// Its port for receiving; the same where events are not split.
    pub rx_port: Port,
}

/// What a front end wrote before it said that it is initialised.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FrontEnd {
    /// Its queues, 1 or more.
    pub queues: Vec<FrontQueue>,
    /// Its control ring and the port of it, if it has one.
    pub control: Option<(GrantRef, Port)>,
    /// It takes packets in several pieces.
    pub scatter_gather: bool,
    /// It takes large packets to be cut, over IPv4 and IPv6.
    pub gso: [bool; 2],
    /// It takes packets without checksum, over IPv4 and IPv6.
    pub checksum: [bool; 2],
    /// It wants only the groups that it names.
    pub multicast_control: bool,
}

impl FrontEnd {
    /// Reads the front end's directory: `read` gives the value of a path below it.
    ///
    /// # Errors
    /// `ENOENT` where a needed node is missing; `EINVAL` where a value is out of range or no
    /// number; `EOPNOTSUPP` for page flipping, or without `feature-rx-notify`.
    pub fn read(
        read: &mut impl FnMut(&str) -> Option<String>,
        max_queues: u32,
    ) -> Result<FrontEnd, Errno> {
        let mut flag =
            |path: &str| -> Result<bool, Errno> { Ok(optional(read, path)?.unwrap_or(0) != 0) };
        if !flag("request-rx-copy")? || !flag("feature-rx-notify")? {
            return Err(Errno::EOPNOTSUPP);
        }
        let mut front = FrontEnd {
            queues: Vec::new(),
            control: None,
            scatter_gather: flag("feature-sg")?,
            gso: [flag("feature-gso-tcpv4")?, flag("feature-gso-tcpv6")?],
            checksum: [!flag("feature-no-csum-offload")?, flag("feature-ipv6-csum-offload")?],
            multicast_control: flag("request-multicast-control")?,
        };
        // A large packet does not fit one page.
        if !front.scatter_gather {
            front.gso = [false; 2];
        }
        let count = optional(read, "multi-queue-num-queues")?.unwrap_or(1);
        if count == 0 || count > max_queues.min(MAX_QUEUES) {
            return Err(Errno::EINVAL);
        }
        front.control = control_ring(read)?;
        for queue in 0..count {
            let prefix = if count == 1 { String::new() } else { format!("queue-{queue}/") };
            front.queues.push(front_queue(read, &prefix)?);
        }
        Ok(front)
    }
}

fn optional(
    read: &mut impl FnMut(&str) -> Option<String>,
    path: &str,
) -> Result<Option<u32>, Errno> {
    read(path).map(|text| number(&text).ok_or(Errno::EINVAL)).transpose()
}

fn control_ring(
    read: &mut impl FnMut(&str) -> Option<String>,
) -> Result<Option<(GrantRef, Port)>, Errno> {
    let Some(reference) = optional(read, "ctrl-ring-ref")? else { return Ok(None) };
    match optional(read, "event-channel-ctrl")?.ok_or(Errno::ENOENT)? {
        0 => Err(Errno::EINVAL),
        port => Ok(Some((GrantRef(reference), Port(port)))),
    }
}

fn front_queue(
    read: &mut impl FnMut(&str) -> Option<String>,
    prefix: &str,
) -> Result<FrontQueue, Errno> {
    let mut needed = |name: &str| optional(read, &format!("{prefix}{name}"))?.ok_or(Errno::ENOENT);
    let (tx, rx) = (GrantRef(needed("tx-ring-ref")?), GrantRef(needed("rx-ring-ref")?));
    let (tx_port, rx_port) = match needed("event-channel-tx") {
        Ok(port) => (port, needed("event-channel-rx")?),
        Err(Errno::ENOENT) => {
            let port = needed("event-channel")?;
            (port, port)
        }
        Err(error) => return Err(error),
    };
    if tx_port == 0 || rx_port == 0 {
        return Err(Errno::EINVAL);
    }
    Ok(FrontQueue { tx, rx, tx_port: Port(tx_port), rx_port: Port(rx_port) })
}

/// What a front end finds before it allocates its rings: written before state 2 (InitWait).
#[must_use]
pub fn features(max_queues: u32) -> Vec<Node> {
    let on = || String::from("1");
    Vec::from([
        ("feature-sg", on()),
        ("feature-gso-tcpv4", on()),
        ("feature-gso-tcpv6", on()),
        ("feature-ipv6-csum-offload", on()),
        ("feature-rx-copy", on()),
        ("feature-rx-flip", String::from("0")),
        ("feature-multicast-control", on()),
        ("feature-dynamic-multicast-control", on()),
        ("feature-split-event-channels", on()),
        ("feature-ctrl-ring", on()),
        ("multi-queue-max-queues", max_queues.clamp(1, MAX_QUEUES).to_string()),
    ])
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::collections::BTreeMap;

    fn front(nodes: &[(&str, &str)]) -> Result<FrontEnd, Errno> {
        let nodes: BTreeMap<_, _> = nodes.iter().copied().collect();
        FrontEnd::read(&mut |path| nodes.get(path).map(|value| String::from(*value)), 4)
    }

    const BASE: [(&str, &str); 5] = [
        ("tx-ring-ref", "522"),
        ("rx-ring-ref", "523"),
        ("event-channel", "9"),
        ("request-rx-copy", "1"),
        ("feature-rx-notify", "1"),
    ];

    #[test]
    fn what_linux_writes_on_xen_4_17_is_understood() {
        let front = front(&[
            ("event-channel-rx", "10"),
            ("event-channel-tx", "9"),
            ("feature-gso-tcpv4", "1"),
            ("feature-gso-tcpv6", "1"),
            ("feature-ipv6-csum-offload", "1"),
            ("feature-rx-notify", "1"),
            ("feature-sg", "1"),
            ("mtu", "1500"),
            ("multi-queue-num-queues", "1"),
            ("request-rx-copy", "1"),
            ("rx-ring-ref", "523"),
            ("tx-ring-ref", "522"),
        ])
        .unwrap();
        let queue = FrontQueue {
            tx: GrantRef(522),
            rx: GrantRef(523),
            tx_port: Port(9),
            rx_port: Port(10),
        };
        assert_eq!(front.queues, [queue]);
        assert!(front.scatter_gather && !front.multicast_control);
        assert_eq!((front.gso, front.checksum), ([true; 2], [true; 2]));
    }

    #[test]
    fn a_plain_front_end_has_one_port_and_no_large_packets() {
        let plain = front(&[&BASE[..], &[("feature-gso-tcpv4", "1")]].concat()).unwrap();
        assert_eq!(plain.queues[0].tx_port, plain.queues[0].rx_port);
        assert_eq!((plain.gso, plain.checksum), ([false; 2], [true, false]));
    }

    #[test]
    fn several_queues_lie_below_numbered_directories() {
        let mut nodes: Vec<(String, &str)> = Vec::new();
        for n in 0..4 {
            for (key, value) in &BASE[..3] {
                nodes.push((format!("queue-{n}/{key}"), value));
            }
        }
        let mut nodes: Vec<(&str, &str)> =
            nodes.iter().map(|(key, value)| (key.as_str(), *value)).collect();
        nodes.extend(&BASE[3..]);
        nodes.push(("multi-queue-num-queues", "4"));
        assert_eq!(front(&nodes).unwrap().queues.len(), 4);
    }

    #[test]
    fn what_is_missing_or_out_of_range_is_refused_by_name() {
        for n in 0..BASE.len() {
            let mut nodes = BASE.to_vec();
            let (key, _) = nodes.remove(n);
            let expected = if n < 3 { Errno::ENOENT } else { Errno::EOPNOTSUPP };
            assert_eq!(front(&nodes), Err(expected), "{key}");
        }
        for (key, value) in [
            ("event-channel", "0"),
            ("event-channel-tx", "x"),
            ("tx-ring-ref", "-1"),
            ("rx-ring-ref", "4294967296"),
            ("multi-queue-num-queues", "0"),
            ("multi-queue-num-queues", "5"),
            ("feature-sg", "yes"),
        ] {
            let nodes = [&BASE[..], &[(key, value)]].concat();
            assert_eq!(front(&nodes), Err(Errno::EINVAL), "{key} = {value}");
        }
        let ring = [&BASE[..], &[("ctrl-ring-ref", "7"), ("event-channel-ctrl", "3")]].concat();
        assert_eq!(front(&ring).map(|front| front.control), Ok(Some((GrantRef(7), Port(3)))));
        assert_eq!(front(&ring[..6]), Err(Errno::ENOENT), "a control ring needs a port");
        let half = [&BASE[..], &[("event-channel-tx", "3")]].concat();
        assert_eq!(front(&half), Err(Errno::ENOENT), "split events need both ports");
    }

    #[test]
    fn the_features_are_those_of_xen_4_17() {
        let nodes = features(99);
        let value = |key| nodes.iter().find(|node| node.0 == key).map(|node| node.1.as_str());
        assert_eq!(value("feature-sg"), Some("1"));
        assert_eq!(value("feature-rx-flip"), Some("0"));
        assert_eq!(value("feature-ctrl-ring"), Some("1"));
        assert_eq!(value("multi-queue-max-queues"), Some("8"));
    }
}
