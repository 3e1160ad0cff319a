//! What back end and front end tell each other in XenStore. Xen public "io/blkif.h", "Feature and
//! Parameter Negotiation".

use super::abi::Layout;
use super::disk::{BlkConfig, Media};
use crate::errno::Errno;
use crate::ring::{self, MAX_PAGES};
use crate::seam::{GrantRef, Port};
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use arch::SharedPage;

/// Most queues of a device.
pub const MAX_QUEUES: u32 = 16;
/// Segments of the longest indirect request.
pub const MAX_INDIRECT: usize = 256;

/// `info` bits.
const VDISK_CDROM: u32 = 1;
const VDISK_REMOVABLE: u32 = 2;
const VDISK_READONLY: u32 = 4;

/// A node below the device's directory, and its value.
pub type Node = (&'static str, String);

/// A queue, as the front end wrote it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FrontQueue {
    /// The ring's pages, in order.
    pub references: Vec<GrantRef>,
    /// The front end's port, to bind to.
    pub port: Port,
}

/// What a front end wrote before it said that it is initialised.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FrontEnd {
    /// How its rings are laid out.
    pub layout: Layout,
    /// It uses the same grants again.
    pub persistent: bool,
    /// Its queues, 1 or more.
    pub queues: Vec<FrontQueue>,
}

/// A whole decimal number, as `xenbus_scanf` reads one.
pub(crate) fn number<T: core::str::FromStr>(text: &str) -> Option<T> {
    text.trim_matches(|c: char| c.is_ascii_whitespace() || c == '\0').parse().ok()
}

impl FrontEnd {
    /// Reads the front end's directory: `read` gives the value of a path below it. A front end that
    /// names no protocol has the layout `native`.
    ///
    /// # Errors
    /// `ENOENT` where a needed node is missing, `EINVAL` where a value is out of range or no
    /// number.
    pub fn read(
        read: &mut impl FnMut(&str) -> Option<String>,
        native: Layout,
        max_queues: u32,
    ) -> Result<FrontEnd, Errno> {
        let layout = match read("protocol").as_deref() {
            None | Some("") => native,
            Some(name) => Layout::parse(name).ok_or(Errno::EINVAL)?,
        };
        let persistent = optional(read, "feature-persistent")?.unwrap_or(0) != 0;
        let pages = match (optional(read, "ring-page-order")?, optional(read, "num-ring-pages")?) {
            (Some(order), _) if order <= MAX_PAGES.ilog2() => 1 << order,
            (None, Some(pages)) if pages.is_power_of_two() => pages,
            (None, None) => 1,
            _ => return Err(Errno::EINVAL),
        };
        if pages as usize > MAX_PAGES {
            return Err(Errno::EINVAL);
        }
        let count = optional(read, "multi-queue-num-queues")?.unwrap_or(1);
        if count == 0 || count > max_queues.min(MAX_QUEUES) {
            return Err(Errno::EINVAL);
        }
        let mut queues = Vec::with_capacity(count as usize);
        for queue in 0..count {
            let prefix = if count == 1 { String::new() } else { format!("queue-{queue}/") };
            queues.push(front_queue(read, &prefix, pages)?);
        }
        Ok(FrontEnd { layout, persistent, queues })
    }
}

/// Whether all requests of a front end whose back end is elsewhere are answered. `read` is as for
/// [`FrontEnd::read`], `page` gives the page behind a grant of the front end's. What cannot be read asks for nothing.
#[must_use]
pub fn is_idle(
    read: &mut impl FnMut(&str) -> Option<String>,
    mut page: impl FnMut(GrantRef) -> Option<SharedPage>,
) -> bool {
    // The layout does not matter.
    let Ok(front) = FrontEnd::read(read, Layout::X86_64, MAX_QUEUES) else { return true };
    front.queues.iter().all(|queue| {
        let first = queue.references.first().and_then(|reference| page(*reference));
        first.is_none_or(|first| ring::is_idle(&first))
    })
}

fn optional(
    read: &mut impl FnMut(&str) -> Option<String>,
    path: &str,
) -> Result<Option<u32>, Errno> {
    read(path).map(|text| number(&text).ok_or(Errno::EINVAL)).transpose()
}

fn needed(read: &mut impl FnMut(&str) -> Option<String>, path: &str) -> Result<u32, Errno> {
    optional(read, path)?.ok_or(Errno::ENOENT)
}

fn front_queue(
    read: &mut impl FnMut(&str) -> Option<String>,
    prefix: &str,
    pages: u32,
) -> Result<FrontQueue, Errno> {
    let mut references = Vec::with_capacity(pages as usize);
    for page in 0..pages {
        let reference = match optional(read, &format!("{prefix}ring-ref{page}"))? {
            // A ring of one page may be named without a number.
            None if pages == 1 => needed(read, &format!("{prefix}ring-ref"))?,
            None => return Err(Errno::ENOENT),
            Some(reference) => reference,
        };
        references.push(GrantRef(reference));
    }
    let port = Port(needed(read, &format!("{prefix}event-channel"))?);
    if port.0 == 0 { Err(Errno::EINVAL) } else { Ok(FrontQueue { references, port }) }
}

fn flag(set: bool) -> String {
    String::from(if set { "1" } else { "0" })
}

impl BlkConfig {
    /// `disk` or `cdrom`; also a node of the front end's directory.
    #[must_use]
    pub const fn device_type(&self) -> &'static str {
        if self.cdrom { "cdrom" } else { "disk" }
    }

    /// What a front end finds before it allocates its rings: written before state 2 (InitWait).
    #[must_use]
    pub fn features(&self) -> Vec<Node> {
        let mut nodes = Vec::from([
            ("feature-max-indirect-segments", MAX_INDIRECT.to_string()),
            ("feature-persistent", flag(self.persistent > 0)),
            ("feature-flush-cache", flag(true)),
            ("feature-barrier", flag(true)),
            ("max-ring-page-order", MAX_PAGES.ilog2().to_string()),
            ("multi-queue-max-queues", self.max_queues.clamp(1, MAX_QUEUES).to_string()),
            ("removable", flag(self.removable || self.cdrom)),
            ("device-type", String::from(self.device_type())),
        ]);
        if let Some(granularity) = self.discard_granularity {
            nodes.push(("feature-discard", flag(true)));
            nodes.push(("discard-granularity", granularity.to_string()));
            nodes.push(("discard-alignment", flag(false)));
            nodes.push(("discard-secure", flag(false)));
        }
        nodes
    }

    /// What a front end finds when it is connected: written before state 4, and again, with state 4
    /// after it, when the medium was changed or has another size. `None` is an empty drive.
    #[must_use]
    pub fn properties(&self, media: Option<&Media>) -> Vec<Node> {
        let empty = Media { read_only: self.cdrom, ..Media::disk(0) };
        let shown = media.unwrap_or(&empty);
        let mut info = 0;
        if self.cdrom {
            info |= VDISK_CDROM | VDISK_READONLY;
        }
        if self.removable || self.cdrom {
            info |= VDISK_REMOVABLE;
        }
        if shown.read_only {
            info |= VDISK_READONLY;
        }
        let mut nodes = Vec::from([
            ("sectors", (shown.sectors - shown.sectors % shown.unit()).to_string()),
            ("info", info.to_string()),
            ("sector-size", (shown.unit() * 512).to_string()),
            ("physical-sector-size", shown.physical_sector_size.to_string()),
            ("mode", String::from(if info & VDISK_READONLY == 0 { "w" } else { "r" })),
        ]);
        if self.removable || self.cdrom {
            nodes.push(("media-present", flag(media.is_some())));
        }
        nodes
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::boxed::Box;
    use alloc::collections::BTreeMap;
    use core::sync::atomic::AtomicU64;

    fn front(nodes: &[(&str, &str)]) -> Result<FrontEnd, Errno> {
        let nodes: BTreeMap<_, _> = nodes.iter().copied().collect();
        let mut read = |path: &str| nodes.get(path).map(|value| String::from(*value));
        FrontEnd::read(&mut read, Layout::X86_64, 4)
    }

    #[test]
    fn what_linux_writes_on_xen_4_17_is_understood() {
        let front = front(&[
            ("event-channel", "8"),
            ("feature-persistent", "1"),
            ("protocol", "x86_64-abi"),
            ("ring-ref", "8"),
            ("trusted", "1"),
        ]);
        let queue = FrontQueue { references: Vec::from([GrantRef(8)]), port: Port(8) };
        let queues = Vec::from([queue]);
        assert_eq!(front, Ok(FrontEnd { layout: Layout::X86_64, persistent: true, queues }));
    }

    #[test]
    fn a_front_end_is_idle_if_each_of_its_rings_is_answered_or_cannot_be_seen() {
        let pages = [0; 2]
            .map(|_| SharedPage::new(Box::leak(Box::new([const { AtomicU64::new(0) }; 512]))));
        let nodes = BTreeMap::from([
            ("multi-queue-num-queues", "2"),
            ("queue-0/ring-ref", "10"),
            ("queue-0/event-channel", "3"),
            ("queue-1/ring-ref", "11"),
            ("queue-1/event-channel", "4"),
        ]);
        let idle = |seen: usize| {
            let mut read = |path: &str| nodes.get(path).map(|value| String::from(*value));
            is_idle(&mut read, |grant| pages[..seen].get(grant.0 as usize - 10).copied())
        };
        assert!(idle(2), "rings that were never used");
        // A request in the second: req_prod is the first word, rsp_prod the third.
        pages[1].write(0, 4, 0).unwrap();
        pages[1].write(8, 4, 0xffff_ffff).unwrap();
        assert!(!idle(2));
        assert!(idle(1) && idle(0), "its front end has taken the grant back");
        pages[1].write(8, 4, 0).unwrap();
        assert!(idle(2));
        assert!(is_idle(&mut |_| None, |_| None), "nothing is written yet");
    }

    #[test]
    fn several_queues_of_several_pages_lie_below_numbered_directories() {
        let front = front(&[
            ("protocol", "x86_32-abi"),
            ("multi-queue-num-queues", "2"),
            ("ring-page-order", "1"),
            ("queue-0/ring-ref0", "10"),
            ("queue-0/ring-ref1", "11"),
            ("queue-0/event-channel", "3"),
            ("queue-1/ring-ref0", "12"),
            ("queue-1/ring-ref1", "13"),
            ("queue-1/event-channel", "4"),
        ])
        .unwrap();
        assert_eq!(front.layout, Layout::X86_32);
        assert!(!front.persistent);
        assert_eq!(front.queues[1].references, [GrantRef(12), GrantRef(13)]);
        assert_eq!((front.queues[0].port, front.queues[1].port), (Port(3), Port(4)));
    }

    #[test]
    fn a_single_page_may_be_numbered_and_a_count_of_pages_stands_for_the_order() {
        let base = [("event-channel", "1")];
        let with = |more: &[(&'static str, &'static str)]| front(&[&base[..], more].concat());
        assert!(with(&[("ring-page-order", "0"), ("ring-ref0", "5")]).is_ok());
        assert!(with(&[("ring-page-order", "0"), ("ring-ref", "5")]).is_ok());
        let two = with(&[("num-ring-pages", "2"), ("ring-ref0", "5"), ("ring-ref1", "6")]).unwrap();
        assert_eq!(two.queues[0].references.len(), 2);
    }

    #[test]
    fn what_is_missing_or_out_of_range_is_refused_by_name() {
        let base = [("ring-ref", "1"), ("event-channel", "1")];
        let with = |more: &[(&'static str, &'static str)]| front(&[&base[..], more].concat());
        assert!(with(&[]).is_ok());
        for (key, value) in [
            ("protocol", "arm-abi"),
            ("ring-page-order", "5"),
            ("ring-page-order", "4294967295"),
            ("ring-page-order", "-1"),
            ("num-ring-pages", "3"),
            ("num-ring-pages", "0"),
            ("num-ring-pages", "32"),
            ("multi-queue-num-queues", "0"),
            ("multi-queue-num-queues", "5"),
            ("multi-queue-num-queues", "4294967296"),
            ("event-channel", "0"),
            ("event-channel", "x"),
            ("ring-ref", "99999999999"),
        ] {
            assert_eq!(with(&[(key, value)]), Err(Errno::EINVAL), "{key} = {value}");
        }
        assert_eq!(with(&[("multi-queue-num-queues", "2")]), Err(Errno::ENOENT));
        assert_eq!(with(&[("ring-page-order", "1")]), Err(Errno::ENOENT));
        assert_eq!(front(&[("ring-ref", "1")]), Err(Errno::ENOENT));
        assert_eq!(front(&[("event-channel", "1")]), Err(Errno::ENOENT));
    }

    fn value<'a>(nodes: &'a [Node], key: &str) -> Option<&'a str> {
        nodes.iter().find(|node| node.0 == key).map(|node| node.1.as_str())
    }

    #[test]
    fn the_nodes_are_those_of_xen_4_17() {
        let mut config = BlkConfig::disk(51728);
        config.discard_granularity = Some(4096);
        let features = config.features();
        for (key, expected) in [
            ("feature-barrier", "1"),
            ("feature-discard", "1"),
            ("feature-flush-cache", "1"),
            ("feature-max-indirect-segments", "256"),
            ("feature-persistent", "1"),
            ("max-ring-page-order", "4"),
            ("discard-granularity", "4096"),
            ("discard-secure", "0"),
            ("removable", "0"),
            ("device-type", "disk"),
        ] {
            assert_eq!(value(&features, key), Some(expected), "{key}");
        }
        let properties = config.properties(Some(&Media::disk(131_072)));
        for (key, expected) in [
            ("sectors", "131072"),
            ("info", "0"),
            ("sector-size", "512"),
            ("physical-sector-size", "512"),
            ("mode", "w"),
        ] {
            assert_eq!(value(&properties, key), Some(expected), "{key}");
        }
        assert_eq!(value(&BlkConfig::disk(0).features(), "feature-discard"), None);
    }

    #[test]
    fn an_empty_drive_a_large_sector_and_a_read_only_disk_are_told() {
        let drive = BlkConfig::cdrom(51760);
        assert_eq!(value(&drive.features(), "device-type"), Some("cdrom"));
        let empty = drive.properties(None);
        assert_eq!(value(&empty, "media-present"), Some("0"));
        assert_eq!((value(&empty, "sectors"), value(&empty, "info")), (Some("0"), Some("7")));
        let disk = BlkConfig::disk(51712);
        let media =
            Media { sectors: 1003, sector_size: 4096, physical_sector_size: 4096, read_only: true };
        let nodes = disk.properties(Some(&media));
        assert_eq!((value(&nodes, "sectors"), value(&nodes, "info")), (Some("1000"), Some("4")));
        assert_eq!(
            (value(&nodes, "sector-size"), value(&nodes, "mode")),
            (Some("4096"), Some("r"))
        );
    }
}
