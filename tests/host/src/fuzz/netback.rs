//! The network back end under front ends that keep to no rule, and its offloads under any packet.

use super::Input;
use crate::peers::{FakeGrants, page};
use pvdrivers::netback::abi::Gso;
use pvdrivers::netback::{FrontEnd, FrontQueue, NetBack, Packet, Sum, offload};
use pvdrivers::{DomId, Port};

const GUEST: DomId = DomId(5);
/// Steps of one run.
const STEPS: u32 = 4096;

/// Any bytes in the rings, any indices, any packet to deliver. At the end nothing is pinned.
pub fn netback(data: &[u8]) {
    let mut input = Input::new(data);
    let mut grants = FakeGrants::new();
    let rings = [page(), page(), page()];
    let [tx, rx, control] = rings.map(|ring| grants.grant(GUEST, ring, false));
    for n in 0..4 {
        let granted = if n == 0 { (100, 200) } else { (0, 4096) };
        grants.grant_part(GUEST, page(), n == 1, granted);
    }
    let flags = input.u8();
    let flag = |bit: u8| flags >> bit & 1 == 0;
    let front = FrontEnd {
        queues: vec![FrontQueue { tx, rx, tx_port: Port(1), rx_port: Port(2) }],
        control: Some((control, Port(3))),
        scatter_gather: flag(0),
        gso: [flag(1), flag(2)],
        checksum: [flag(3), flag(4)],
        multicast_control: flag(5),
    };
    let mut back = NetBack::new(GUEST, DomId::BACKEND);
    back.connect(&mut grants, front.clone()).expect("the pages are there");
    for _ in 0..STEPS {
        if input.is_empty() {
            break;
        }
        let runaway = match input.u8() % 6 {
            0 => {
                let ring = rings[usize::from(input.u8() % 3)];
                // The producer's index, mostly by a little more.
                let now = ring.read_u32(0).unwrap_or(0);
                let more = u32::from(input.u8() % 8);
                let next = if input.u8() < 250 { now.wrapping_add(more) } else { input.u32() };
                ring.write(0, 4, next.into()).expect("inside");
                false
            }
            1 | 2 => {
                let at = 64 + usize::from(input.u16()) % 256 * 4;
                let value = match input.u8() {
                    0..200 => u32::from(input.u8() % 16),
                    _ => input.u32(),
                };
                let ring = rings[usize::from(input.u8() % 3)];
                ring.write(at, 4, value.into()).expect("inside");
                false
            }
            3 => {
                let bytes = input.take(200);
                let gso = Gso { size: input.u8().into(), ipv6: input.u8() & 1 == 0 };
                let gso = (input.u8() & 1 == 0).then_some(gso);
                let sum = input.pick(&[Sum::Unknown, Sum::Right, Sum::Blank]);
                back.deliver(&mut grants, Packet { bytes, sum, gso }).is_err()
            }
            4 if input.u8() & 3 == 0 => back.serve_control(&mut grants).is_err(),
            _ => {
                let budget = input.u8().into();
                back.serve(budget, &mut grants, &mut |packet: Packet<'_>| {
                    let mut copy = packet.bytes.to_vec();
                    offload::fill_checksum(&mut copy);
                    if let Some(gso) = packet.gso {
                        offload::segments(&copy, gso, &mut Vec::new(), &mut |_| true);
                    }
                })
                .is_err()
            }
        };
        assert_eq!(grants.pinned(), 3);
        if runaway {
            back.disconnect(&mut grants);
            rings.iter().for_each(|ring| ring.write_slice(0, &[0; 64]).expect("inside"));
            back.connect(&mut grants, front.clone()).expect("nothing is in use");
        }
    }
    back.disconnect(&mut grants);
    assert_eq!(grants.pinned(), 0);
}
