//! Event channels and grant tables under guests that keep to no rule: any operation with any argument,
//! any bytes in the shared pages, domains that die at any moment. At the end nothing may be left.

use super::{Input, Target};
use crate::peers::page;
use arch::SharedPage;
use pvdrivers::abi::event_channel as ev;
use pvdrivers::abi::grant_table as gt;
use pvdrivers::abi::xen::Virq;
use pvdrivers::abi::{Layout, Ulong, Width, hvm_op, memory, physdev, sched, vcpu};
use pvdrivers::event::{self, ChannelState, Deliver, EventChannels, Progress};
use pvdrivers::grant::{self, Frames, GrantTables, LocalGrants, Mapped, Removal, Unmapping};
use pvdrivers::{DomId, GrantAccess, GrantRef, Grants, Pinned, Port};

/// Steps of one run.
const STEPS: u32 = 4096;
const VCPUS: u16 = 3;
const GUESTS: [DomId; 3] = [DomId(1), DomId(2), DomId(3)];

/// All of them.
pub const XEN: &[Target] =
    &[("xen_arguments", arguments), ("event_ops", event_ops), ("grant_ops", grant_ops)];

/// Any bytes as each argument: what is read is what is written.
pub fn arguments(data: &[u8]) {
    fn round_trip<T: Layout + PartialEq + core::fmt::Debug>(data: &[u8]) {
        for width in [Width::Bits64, Width::Bits32] {
            let Ok(argument) = T::parse(data, width) else {
                assert!(data.len() < T::size(width));
                continue;
            };
            let mut bytes = data.to_vec();
            argument.store(&mut bytes, width).expect("what was read fits");
            assert_eq!(bytes, data, "nothing changes by a round trip");
            assert_eq!(T::parse(&bytes, width), Ok(argument));
        }
    }
    macro_rules! each {
        ($($argument:ty),* $(,)?) => { $(round_trip::<$argument>(data);)* };
    }
    each!(
        ev::AllocUnbound,
        ev::BindInterdomain,
        ev::BindVirq,
        ev::Status,
        ev::InitControl,
        ev::ExpandArray,
        ev::SetPriority,
        gt::MapGrantRef,
        gt::UnmapGrantRef,
        gt::SetupTable,
        gt::Copy,
        gt::Transfer,
        gt::QuerySize,
        gt::GetStatusFrames,
        gt::CacheFlush,
        memory::Reservation,
        memory::Exchange,
        memory::AddToPhysmap,
        memory::AddToPhysmapBatch,
        memory::MemoryMap,
        memory::PodTarget,
        memory::AcquireResource,
        sched::Poll,
        sched::Watchdog,
        vcpu::RunstateInfo,
        vcpu::SetSingleshotTimer,
        vcpu::RegisterVcpuInfo,
        vcpu::HvmX86_32,
        vcpu::HvmX86_64,
        hvm_op::HvmParamArg,
        hvm_op::XenTrace,
        physdev::MapPirq,
    );
    let _ = vcpu::HvmContext::parse(data);
}

/// Pages that the guests scribble on.
struct Pages(Vec<SharedPage>);

impl Pages {
    fn new(count: usize) -> Pages {
        Pages((0..count).map(|_| page()).collect())
    }

    fn pick(&self, input: &mut Input<'_>) -> SharedPage {
        self.0[usize::from(input.u8()) % self.0.len()]
    }

    fn scribble(&self, input: &mut Input<'_>) {
        let page = self.pick(input);
        let at = usize::from(input.u16() & 0xff8);
        let at = if input.u8() & 1 == 0 { at } else { at & 0x7f };
        let _ = page.write(at, input.pick(&[4, 8, 4, 1]), input.u64());
    }
}

fn some_port(input: &mut Input<'_>) -> Port {
    Port(match input.u8() {
        0..=200 => u32::from(input.u8() & 31),
        201..=240 => u32::from(input.u16()),
        _ => input.u32(),
    })
}

fn some_dom(input: &mut Input<'_>) -> DomId {
    match input.u8() {
        n @ 0..=220 => DomId(u16::from(n % 4)),
        221..=245 => DomId::SELF,
        _ => DomId(input.u16()),
    }
}

/// What an operation asks to be told must be there.
fn heed(channels: &EventChannels, deliver: Deliver) {
    match deliver {
        Deliver::Nothing => {}
        Deliver::Guest { dom, upcalls, pollers } => {
            assert!(channels.usage(dom).is_some() && dom != DomId::BACKEND);
            assert!(upcalls.and(pollers).iter().all(|vcpu| vcpu < VCPUS));
            assert!(!upcalls.and(pollers).is_empty());
        }
        Deliver::Backend { port } => {
            let own = channels.status(DomId::BACKEND, DomId::BACKEND, port).expect("its port");
            assert!(matches!(own.state, ChannelState::Interdomain { .. }));
        }
    }
}

/// Event channels.
pub fn event_ops(data: &[u8]) {
    let mut input = Input::new(data);
    let pages = Pages::new(12);
    let mut channels = EventChannels::new();
    for _ in 0..STEPS {
        if input.is_empty() {
            break;
        }
        let caller = match input.u8() {
            0..=20 => DomId::BACKEND,
            n => GUESTS[usize::from(n) % 3],
        };
        if let Some(deliver) = event_op(&mut channels, &pages, caller, &mut input) {
            heed(&channels, deliver);
        }
    }
    both_ends_agree(&channels);
    for dom in GUESTS {
        let mut calls = 0;
        while channels.remove_domain(dom) == Progress::Again {
            calls += 1;
            assert!(calls < 1000, "a domain that never goes");
        }
    }
    assert_eq!(channels.domains().count(), 1);
    while channels.reset(DomId::BACKEND, DomId::BACKEND) == Ok(Progress::Again) {}
    assert_eq!(channels.usage(DomId::BACKEND).map(|usage| usage.ports), Some(0));
}

fn event_op(
    channels: &mut EventChannels,
    pages: &Pages,
    caller: DomId,
    input: &mut Input<'_>,
) -> Option<Deliver> {
    let vcpu = u32::from(input.u8() & 3);
    let page = (input.u8() < 240).then(|| pages.pick(input));
    match input.u8() % 20 {
        0 => drop(channels.alloc_unbound(caller, some_dom(input), some_dom(input))),
        1 | 2 => {
            let bound = channels.bind_interdomain(caller, some_dom(input), some_port(input));
            return bound.ok().map(|(_, deliver)| deliver);
        }
        3 => drop(channels.bind_virq(caller, u32::from(input.u8() & 31), vcpu)),
        4 => drop(channels.bind_ipi(caller, vcpu)),
        5 => drop(channels.bind_pirq(caller, u32::from(input.u8() & 7))),
        6 => drop(channels.close(caller, some_port(input))),
        7..=9 => return channels.send(caller, some_port(input)).ok(),
        10 => drop(channels.bind_vcpu(caller, some_port(input), vcpu)),
        11 => return channels.unmask(caller, some_port(input)).ok(),
        12 => drop(channels.set_priority(caller, some_port(input), u32::from(input.u8() & 31))),
        13 => drop(channels.init_control(caller, vcpu, page, u32::from(input.u16() & 0xff8))),
        14 => return channels.expand_array(caller, page).ok(),
        15 => {
            let at = u32::from(input.u16() & 0xff8);
            return channels.register_vcpu_info(caller, vcpu, page, at).ok();
        }
        16 => {
            let port = some_port(input);
            if channels.poll(caller, vcpu as u16, &[port]) == Ok(true) {
                assert!(channels.is_pending(caller, port));
            }
            return Some(channels.raise_virq(caller, vcpu as u16, Virq(input.u8().into())));
        }
        17 => pages.scribble(input),
        18 => match input.u8() {
            0..=150 => {
                let settings = event::Settings {
                    vcpus: VCPUS,
                    shared_info: pages.pick(input),
                    max_port: input.pick(&[5, 200, 131_071]),
                    pirqs: 4,
                    privileged: input.u8() == 0,
                };
                let _ = channels.add_domain(caller, &settings);
                let width = input.pick(&[Width::Bits64, Width::Bits32]);
                let _ = channels.set_width(caller, width);
            }
            151..=180 => drop(channels.remove_domain(caller)),
            181..=200 => drop(channels.reset(caller, some_dom(input))),
            _ => drop(channels.status(caller, some_dom(input), some_port(input))),
        },
        _ => return Some(channels.notify(some_port(input))),
    }
    None
}

fn both_ends_agree(channels: &EventChannels) {
    for dom in channels.domains() {
        let mut bound = 0;
        for port in (1..channels.usage(dom).map_or(0, |usage| usage.allocated)).map(Port) {
            let status = channels.status(DomId::BACKEND, dom, port).expect("a port");
            bound += u32::from(status.state != ChannelState::Free);
            if let ChannelState::Interdomain { remote, port: peer } = status.state {
                let theirs = channels.status(DomId::BACKEND, remote, peer).expect("the peer").state;
                assert_eq!(theirs, ChannelState::Interdomain { remote: dom, port });
            }
        }
        assert_eq!(channels.usage(dom).map(|usage| usage.ports), Some(bound));
    }
}

/// The same memory map for all guests: frames 0 to 7, each guest's own.
struct Memory(Vec<SharedPage>);

impl Frames for Memory {
    fn page(&self, dom: DomId, frame: u64) -> Option<SharedPage> {
        let frame = usize::try_from(frame).ok().filter(|frame| *frame < 8)?;
        self.0.get((usize::from(dom.0).checked_sub(1)?) * 8 + frame).copied()
    }
}

/// Uses of grants that are alive.
#[derive(Default)]
struct Live {
    maps: Vec<(DomId, Mapped)>,
    unmappings: Vec<Unmapping>,
    pins: Vec<Pinned>,
}

/// Grant tables.
pub fn grant_ops(data: &[u8]) {
    let mut input = Input::new(data);
    let memory = Memory((0..24).map(|_| page()).collect());
    let spare = Pages::new(18);
    let mut given = 0;
    let mut tables = GrantTables::new();
    let mut live = Live::default();
    for _ in 0..STEPS {
        if input.is_empty() {
            break;
        }
        let caller = GUESTS[usize::from(input.u8()) % 3];
        // Pages are given once, so that no two tables lie in one.
        let mut allocate = || {
            let page = spare.0.get(given).copied();
            given += usize::from(page.is_some());
            page
        };
        match input.u8() % 16 {
            0 => {
                let settings = grant::Settings {
                    max_frames: 4,
                    max_maps: 6,
                    version2: input.u8() & 3 != 0,
                    privileged: input.u8() == 0,
                };
                if tables.add_domain(caller, &settings).is_ok() {
                    let _ = tables.grow(caller, 1, &mut allocate);
                }
            }
            1 => {
                let index = u64::from(input.u8() & 3) | u64::from(input.u8() & 1) << 31;
                let _ = tables.physmap_page(caller, index, &mut allocate);
            }
            2 => drop(tables.set_version(caller, u32::from(input.u8() & 3), &mut allocate)),
            3..=5 => write_entry(&tables, caller, &mut input),
            6 if input.u8() < 40 => remove(&mut tables, &memory, caller, &mut live),
            6 | 7 => grant_op(&mut tables, &memory, caller, &mut live, &mut input),
            8 => drop(tables.swap(caller, input.u8().into(), input.u8().into())),
            9 => copy(&mut tables, &memory, caller, &mut input),
            10 => spare.scribble(&mut input),
            _ => grant_op(&mut tables, &memory, caller, &mut live, &mut input),
        }
        check(&tables, &live);
    }
    for dom in GUESTS {
        remove(&mut tables, &memory, dom, &mut live);
        check(&tables, &live);
    }
    assert_eq!(tables.domains().count(), 0);
}

/// An entry that makes sense, in the layout of version 1 or 2.
fn write_entry(tables: &GrantTables, dom: DomId, input: &mut Input<'_>) {
    let Some(table) = tables.frame(dom, 0) else { return };
    let flags = u64::from(input.pick(&[1u16, 1, 1, 5, 0, 2, 3, 0x101]));
    let header = flags | u64::from(input.u8() & 3) << 16;
    let frame = u64::from(input.u8() % 9);
    let reference = usize::from(input.u8() & 7);
    if tables.get_version(dom, dom) == Ok(grant::Version::V2) {
        let part = u64::from(input.u16()) | u64::from(input.u16()) << 16;
        let part = if flags == 3 { part & 3 } else { part };
        let _ = table.write(reference * 16 + 8, 8, frame);
        let _ = table.write(reference * 16, 8, header | part << 32);
    } else {
        let _ = table.write(reference * 8, 8, header | frame << 32);
    }
}

fn grant_op(
    tables: &mut GrantTables,
    memory: &Memory,
    caller: DomId,
    live: &mut Live,
    input: &mut Input<'_>,
) {
    let owner = some_dom(input);
    let reference = if input.u8() < 240 { u32::from(input.u8() & 7) } else { input.u32() };
    let nth = usize::from(input.u8());
    match input.u8() % 8 {
        0..=2 => {
            let flags = input.pick(&[2, 2, 2, 6, 6, 0, 1, 10, 18]);
            let host_addr = u64::from(input.u8()) << 12 | 1 << 20;
            let argument =
                gt::MapGrantRef { host_addr, flags, reference, dom: owner.0, ..Default::default() };
            match tables.map(caller, &argument, memory) {
                Ok(mapped) if input.u8() < 20 => tables.abandon(caller, mapped),
                Ok(mapped) => live.maps.push((caller, mapped)),
                Err(_) => {}
            }
        }
        3 | 4 if !live.maps.is_empty() => {
            let (user, mapped) = live.maps[nth % live.maps.len()];
            let host_addr = mapped.at.0 ^ u64::from(input.u8() < 30) << 13;
            let handle = mapped.handle;
            let argument = gt::UnmapGrantRef { host_addr, handle, ..Default::default() };
            if let Ok(Some(unmapping)) = tables.unmap(user, &argument) {
                let _ = live.maps.swap_remove(nth % live.maps.len());
                live.unmappings.push(unmapping);
            }
        }
        5 if !live.unmappings.is_empty() => {
            let unmapping = live.unmappings.swap_remove(nth % live.unmappings.len());
            tables.unmapped(unmapping);
        }
        6 => {
            let access = input.pick(&[GrantAccess::Read, GrantAccess::Write]);
            let mut grants = LocalGrants { tables, frames: memory };
            if let Ok(pinned) = grants.pin(owner, GrantRef(reference), DomId(0), access) {
                assert!(pinned.bytes.0 <= pinned.bytes.1 && pinned.bytes.1 <= 4096);
                live.pins.push(pinned);
            }
        }
        7 if !live.pins.is_empty() => {
            let pinned = live.pins.swap_remove(nth % live.pins.len());
            LocalGrants { tables, frames: memory }.unpin(pinned);
        }
        _ => {}
    }
}

fn copy(tables: &mut GrantTables, memory: &Memory, caller: DomId, input: &mut Input<'_>) {
    let mut side = || gt::CopyPtr {
        frame: Ulong(u64::from(input.u8() % 10)),
        domid: some_dom(input).0,
        offset: input.u16() & 0x1fff,
    };
    let (source, dest) = (side(), side());
    let (len, flags) = (input.u16() & 0x1fff, input.u16() & 7);
    let argument = gt::Copy { source, dest, len, flags, status: 0 };
    let _ = tables.copy(caller, &argument, memory);
}

/// Counts are the uses that are alive, and no page in use is thought to be free.
fn check(tables: &GrantTables, live: &Live) {
    for dom in tables.domains() {
        let usage = tables.usage(dom).expect("a domain");
        let maps = live.maps.iter().filter(|(user, _)| *user == dom).count();
        assert_eq!(usage.maps as usize, maps);
        let used = live.maps.iter().any(|(_, mapped)| mapped.owner == dom)
            || live.unmappings.iter().any(|unmapping| unmapping.owner == dom)
            || live.pins.iter().any(|pinned| pinned.owner == dom);
        assert_eq!(usage.in_use > 0, used, "{dom:?}");
    }
    for (_, mapped) in &live.maps {
        let gone = tables.usage(mapped.owner).is_none();
        assert!(gone || tables.holds_frame(mapped.owner, mapped.frame));
    }
    for pinned in &live.pins {
        assert!(tables.holds_frame(pinned.owner, pinned.frame.0 >> 12));
    }
}

/// Takes a guest out, as the machine would.
fn remove(tables: &mut GrantTables, memory: &Memory, dom: DomId, live: &mut Live) {
    for _ in 0..1000 {
        match tables.remove_domain(dom) {
            Removal::Again => {}
            Removal::Revoke { user, handle, at } => {
                let this = |(owner, mapped): &(DomId, Mapped)| {
                    (*owner, mapped.handle, mapped.at) == (user, handle, at)
                };
                assert!(live.maps.iter().any(this), "a mapping that is alive");
                live.maps.retain(|map| !this(map));
                tables.revoked(dom, user, handle);
                let argument = gt::UnmapGrantRef { host_addr: at.0, handle, ..Default::default() };
                let late = tables.unmap(user, &argument);
                if user == dom {
                    late.expect_err("its own handle is gone");
                    continue;
                }
                // Its user ends it later than its owner.
                let late = late.expect("the handle").expect("an address");
                assert_eq!(late.at, None);
                tables.unmapped(late);
            }
            Removal::Pinned { .. } => {
                live.unmappings.drain(..).for_each(|unmapping| tables.unmapped(unmapping));
                for pinned in live.pins.drain(..) {
                    LocalGrants { tables, frames: memory }.unpin(pinned);
                }
            }
            Removal::Done => {
                live.maps.retain(|(user, _)| *user != dom);
                return;
            }
        }
    }
    panic!("{dom:?} does not go");
}
