//! Network interfaces, as xl-network-configuration(5) has them.

use super::error::{Problem, nearest};
use crate::nics::NicModel;
use alloc::string::String;
use alloc::vec::Vec;

/// A network interface.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct VifConfig {
    /// Its Ethernet address; `None`: to be made up.
    pub mac: Option<[u8; 6]>,
    /// The bridge that it joins.
    pub bridge: Option<String>,
    /// The emulated card: e1000, rtl8139, ne2k_pci and so on.
    pub model: Option<String>,
    /// Only paravirtual (`type=vif`), without an emulated card.
    pub only_paravirtual: bool,
    /// Most bytes a second that the guest may send; `None` for no limit.
    pub rate: Option<u64>,
    /// The guest whose back end serves it, by name; `None`: the hypervisor's bridge.
    pub backend: Option<String>,
    /// All other parameters, as written.
    pub others: Vec<(String, String)>,
}

const KEYS: [&str; 14] = [
    "mac",
    "bridge",
    "model",
    "type",
    "vifname",
    "script",
    "ip",
    "backend",
    "rate",
    "devid",
    "gatewaydev",
    "mtu",
    "trusted",
    "accel",
];
const KEYS_TEXT: &str = "mac=, bridge=, model=, type=, vifname=, script=, ip=, backend=, rate=, \
                         devid=, gatewaydev=, mtu=, trusted= or accel=";

/// Reads `mac=…,bridge=…`.
pub(super) fn parse(spec: &str) -> Result<VifConfig, Problem> {
    let mut vif = VifConfig::default();
    for part in spec.split(',').map(str::trim).filter(|part| !part.is_empty()) {
        let (key, value) = part.split_once('=').unwrap_or((part, ""));
        let refuse = |value: &str, allowed| {
            Err(Problem::NotAllowed { value: value.into(), allowed, near: None })
        };
        match key {
            "mac" => match parse_mac(value) {
                Some(mac) => vif.mac = Some(mac),
                None => return refuse(value, "mac=XX:XX:XX:XX:XX:XX, the first byte even"),
            },
            "bridge" => vif.bridge = Some(value.into()),
            "model" => vif.model = Some(value.into()),
            "backend" => match value {
                "0" | "Domain-0" => vif.backend = None,
                "" => return refuse(value, "backend=, the name of another guest"),
                guest => vif.backend = Some(guest.into()),
            },
            "rate" => match parse_rate(value) {
                Some(rate) => vif.rate = Some(rate),
                None => {
                    return refuse(
                        value,
                        "rate=N with b/s, Kb/s, Mb/s, Gb/s, B/s, KB/s, MB/s or GB/s",
                    );
                }
            },
            "type" => match value {
                "ioemu" => vif.only_paravirtual = false,
                "vif" => vif.only_paravirtual = true,
                _ => return refuse(value, "type=ioemu or type=vif"),
            },
            _ if KEYS.contains(&key) => vif.others.push((key.into(), value.into())),
            _ => {
                let near = nearest(key, KEYS.into_iter());
                let value = key.into();
                return Err(Problem::NotAllowed { value, allowed: KEYS_TEXT, near });
            }
        }
    }
    Ok(vif)
}

/// Bytes a second of `10Mb/s`, `250KB/s` or `1MB/s@20ms`; the interval after `@` does not matter here.
fn parse_rate(text: &str) -> Option<u64> {
    let speed = text.split('@').next()?.strip_suffix("/s")?;
    let end = speed.find(|c: char| !c.is_ascii_digit())?;
    let (number, unit) = speed.split_at(end);
    let (scale, unit) = match unit.as_bytes().first()? {
        b'K' => (1_000, &unit[1..]),
        b'M' => (1_000_000, &unit[1..]),
        b'G' => (1_000_000_000, &unit[1..]),
        _ => (1, unit),
    };
    let number = number.parse::<u64>().ok()?.checked_mul(scale)?;
    let bytes = match unit {
        "b" => number / 8,
        "B" => number,
        _ => return None,
    };
    (bytes > 0).then_some(bytes)
}

impl VifConfig {
    /// Its Ethernet address: as given, or made of the guest's name and the interface's number under
    /// Xen's prefix, so that it is the same every time.
    #[must_use]
    pub fn address(&self, guest: &str, number: usize) -> [u8; 6] {
        if let Some(mac) = self.mac {
            return mac;
        }
        // FNV-1a, as good as any.
        let bytes = guest.bytes().chain([number as u8]);
        let hash = bytes
            .fold(0x811c_9dc5u32, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193));
        let [a, b, c, _] = hash.to_be_bytes();
        [0x00, 0x16, 0x3e, a & 0x7f, b, c]
    }

    /// The emulated card, `None` for a paravirtual interface. `Err` names a model that there is not.
    ///
    /// # Errors
    /// The model's name.
    pub fn card(&self) -> Result<Option<NicModel>, &str> {
        match self.model.as_deref() {
            _ if self.only_paravirtual => Ok(None),
            None | Some("e1000" | "e1000-82540em") => Ok(Some(NicModel::E1000)),
            Some("rtl8139") => Ok(Some(NicModel::Rtl8139)),
            Some(other) => Err(other),
        }
    }
}

/// Six bytes, of one station rather than a group.
fn parse_mac(text: &str) -> Option<[u8; 6]> {
    let mut mac = [0; 6];
    let mut parts = text.split(':');
    for byte in &mut mac {
        let part = parts.next()?;
        if part.len() != 2 || !part.bytes().all(|c| c.is_ascii_hexdigit()) {
            return None;
        }
        *byte = u8::from_str_radix(part, 16).ok()?;
    }
    (parts.next().is_none() && mac[0] & 1 == 0).then_some(mac)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_bytes_a_second() {
        for (text, rate) in [
            ("10Mb/s", Some(1_250_000)),
            ("250KB/s", Some(250_000)),
            ("1MB/s@20ms", Some(1_000_000)),
            ("1Gb/s", Some(125_000_000)),
            ("800b/s", Some(100)),
            ("1b/s", None),
            ("10Mb", None),
            ("Mb/s", None),
            ("10/s", None),
            ("-1B/s", None),
            ("99999999999999999999B/s", None),
            ("99999999999999999GB/s", None),
        ] {
            assert_eq!(parse_rate(text), rate, "{text}");
        }
    }

    #[test]
    fn an_address_that_is_made_up_stays_the_same_and_differs_by_guest_and_number() {
        let vif = VifConfig::default();
        let address = vif.address("debian", 0);
        assert_eq!(address, vif.address("debian", 0));
        assert_eq!(address[..3], [0x00, 0x16, 0x3e]);
        assert_ne!(address, vif.address("debian", 1));
        assert_ne!(address, vif.address("ubuntu", 0));
        let given = parse("mac=02:00:00:00:00:01").unwrap();
        assert_eq!(given.address("debian", 0), [2, 0, 0, 0, 0, 1]);
    }

    #[test]
    fn a_card_is_an_e1000_unless_the_interface_is_only_paravirtual() {
        assert_eq!(parse("").unwrap().card(), Ok(Some(NicModel::E1000)));
        assert_eq!(parse("model=e1000").unwrap().card(), Ok(Some(NicModel::E1000)));
        assert_eq!(parse("model=rtl8139").unwrap().card(), Ok(Some(NicModel::Rtl8139)));
        assert_eq!(parse("type=vif").unwrap().card(), Ok(None));
        assert_eq!(parse("model=ne2k_pci").unwrap().card(), Err("ne2k_pci"));
    }
}
