//! Network interfaces, as xl-network-configuration(5) has them. Read and kept; no card uses them
//! yet.

use super::error::{Problem, nearest};
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
