//! The FIFO ABI: queues, priorities, moves between vCPUs, and guests that break the rules.

use super::*;
use crate::Errno;
use crate::abi::event_channel::FIFO_BUSY;
use crate::event::fifo::{Word, link};
use std::cell::{Cell, RefCell};

fn fifo_guest() -> (EventChannels, FifoGuest) {
    let mut channels = two_guests();
    let mut guest = FifoGuest::new(&mut channels, A, 2);
    let _ = guest.expand(&mut channels, false);
    (channels, guest)
}

#[test]
fn control_blocks_and_pages_out_of_range_are_refused() {
    let mut channels = two_guests();
    assert_eq!(channels.expand_array(A, Some(page())), Err(Errno::EOPNOTSUPP));
    assert_eq!(channels.set_priority(A, Port(1), 3), Err(Errno::ENOSYS));
    assert_eq!(channels.init_control(A, 2, Some(page()), 0), Err(Errno::ENOENT));
    assert_eq!(channels.init_control(A, 0, Some(page()), 4028), Err(Errno::EINVAL));
    assert_eq!(channels.init_control(A, 0, Some(page()), 4025), Err(Errno::EINVAL));
    assert_eq!(channels.init_control(A, 0, Some(page()), 4), Err(Errno::EINVAL));
    assert_eq!(channels.init_control(A, 0, None, 0), Err(Errno::EINVAL));
    assert_eq!(channels.init_control(A, 0, Some(page()), 4024), Ok(()));
    assert_eq!(channels.init_control(A, 0, Some(page()), 0), Err(Errno::EINVAL));
    assert_eq!(channels.expand_array(A, None), Err(Errno::EINVAL));
    for _ in 0..128 {
        assert_eq!(channels.expand_array(A, Some(page())), Ok(Deliver::Nothing));
    }
    assert_eq!(channels.expand_array(A, Some(page())), Err(Errno::ENOSPC));
    assert_eq!(channels.usage(A).unwrap().pages, 129);
    assert_eq!(channels.init_control(HV, 0, Some(page()), 0), Err(Errno::ENOENT));
}

#[test]
fn events_come_in_the_order_in_which_they_were_sent() {
    let (mut channels, mut guest) = fifo_guest();
    let ports: Vec<_> = (0..5).map(|_| channels.bind_ipi(A, 1).unwrap()).collect();
    assert_eq!(channels.send(A, ports[3]), Ok(upcall(A, 1)));
    for n in [1, 4, 3, 0] {
        assert_eq!(channels.send(A, ports[n]), Ok(Deliver::Nothing), "the upcall is under way");
    }
    assert_eq!(guest.consume(1), [3, 1, 4, 0].map(|n: usize| ports[n].0));
    assert_eq!(guest.consume(1), []);
    let (info, at) = channels.vcpu_info(A, 1).unwrap();
    info.write(at, 1, 0).unwrap();
    assert_eq!(channels.send(A, ports[1]), Ok(upcall(A, 1)));
    assert_eq!(guest.consume(1), [ports[1].0]);
}

#[test]
fn a_higher_priority_comes_first() {
    let (mut channels, mut guest) = fifo_guest();
    let ports: Vec<_> = (0..3).map(|_| channels.bind_ipi(A, 0).unwrap()).collect();
    channels.set_priority(A, ports[2], 0).unwrap();
    channels.set_priority(A, ports[0], 15).unwrap();
    assert_eq!(channels.set_priority(A, ports[0], 16), Err(Errno::EINVAL));
    assert_eq!(channels.set_priority(A, Port(99), 1), Err(Errno::EACCES));
    assert_eq!(channels.set_priority(A, Port(1 << 20), 1), Err(Errno::EINVAL));
    for port in &ports {
        let _ = channels.send(A, *port).unwrap();
    }
    assert_eq!(guest.consume(0), [ports[2].0, ports[1].0, ports[0].0]);
}

#[test]
fn a_masked_event_is_linked_when_the_mask_goes() {
    let (mut channels, mut guest) = fifo_guest();
    let ipi = channels.bind_ipi(A, 0).unwrap();
    guest.set(ipi.0, FIFO_MASKED);
    assert!(channels.is_masked(A, ipi));
    assert_eq!(channels.send(A, ipi), Ok(Deliver::Nothing));
    assert_eq!(guest.consume(0), []);
    assert_eq!(channels.unmask(A, ipi), Ok(upcall(A, 0)));
    assert_eq!(guest.consume(0), [ipi.0]);
    assert_eq!(channels.unmask(A, ipi), Ok(Deliver::Nothing));
}

#[test]
fn an_event_whose_page_is_missing_comes_with_the_page() {
    let mut channels = two_guests();
    let (first, second) = (channels.bind_ipi(A, 0).unwrap(), channels.bind_ipi(A, 1).unwrap());
    let _ = channels.send(A, first).unwrap();
    let mut guest = FifoGuest::new(&mut channels, A, 2);
    assert_eq!(channels.send(A, second), Ok(Deliver::Nothing));
    for vcpu in 0..2 {
        let (info, at) = channels.vcpu_info(A, vcpu).unwrap();
        info.write(at, 1, 0).unwrap();
    }
    let both = VcpuSet::one(0).and(VcpuSet::one(1));
    let told = Deliver::Guest { dom: A, upcalls: both, pollers: VcpuSet::EMPTY };
    assert_eq!(guest.expand(&mut channels, false), told);
    assert_eq!((guest.consume(0), guest.consume(1)), (Vec::from([1]), Vec::from([2])));
}

#[test]
fn a_vcpu_without_control_block_gets_no_events() {
    let mut channels = two_guests();
    channels.init_control(A, 0, Some(page()), 0).unwrap();
    channels.expand_array(A, Some(page())).map(drop).unwrap();
    let ipi = channels.bind_ipi(A, 1).unwrap();
    assert_eq!(channels.send(A, ipi), Ok(Deliver::Nothing));
    assert!(!channels.is_pending(A, ipi));
}

#[test]
fn a_port_moved_while_linked_leaves_its_old_queue_whole() {
    let (mut channels, mut guest) = fifo_guest();
    let peers: Vec<_> = (0..3)
        .map(|_| {
            let own = channels.alloc_unbound(A, A, B).unwrap();
            (own, channels.bind_interdomain(B, A, own).unwrap().0)
        })
        .collect();
    for (_, theirs) in &peers {
        let _ = channels.send(B, *theirs).unwrap();
    }
    channels.bind_vcpu(A, peers[2].0, 1).unwrap();
    assert_eq!(channels.send(B, peers[2].1), Ok(Deliver::Nothing), "linked in the old queue still");
    assert_eq!(guest.consume(0).len(), 3);
    assert!(channels.send(B, peers[2].1).is_ok());
    assert_eq!(guest.consume(1), [peers[2].0.0]);
    // The last port of the old queue went elsewhere: the old queue begins anew.
    assert!(channels.send(B, peers[0].1).is_ok());
    assert_eq!(guest.consume(0), [peers[0].0.0]);
}

#[test]
fn a_free_port_still_in_a_queue_is_not_given_out() {
    let (mut channels, mut guest) = fifo_guest();
    let ipi = channels.bind_ipi(A, 0).unwrap();
    let _ = channels.send(A, ipi).unwrap();
    channels.close(A, ipi).unwrap();
    assert_eq!(channels.bind_ipi(A, 0), Ok(Port(2)));
    assert_eq!(guest.consume(0), [], "it is no longer pending");
    assert_eq!(channels.bind_ipi(A, 0), Ok(ipi));
}

#[test]
fn a_guest_that_marks_all_free_ports_as_linked_gets_none_and_costs_little() {
    let (mut channels, guest) = fifo_guest();
    for port in 1..1024 {
        guest.set(port, FIFO_LINKED);
    }
    for _ in 0..3 {
        assert_eq!(channels.bind_ipi(A, 0), Ok(Port(1024)));
        channels.close(A, Port(1024)).unwrap();
    }
    let mut more = guest;
    for _ in 0..4 {
        let _ = more.expand(&mut channels, false);
    }
    for port in 1024..4096 {
        more.set(port, FIFO_LINKED);
    }
    assert_eq!(channels.bind_ipi(A, 0), Err(Errno::ENOSPC));
}

#[test]
fn words_full_of_ones_confuse_only_their_guest() {
    let (mut channels, mut guest) = fifo_guest();
    let ports: Vec<_> = (0..8).map(|_| channels.bind_ipi(A, 0).unwrap()).collect();
    for port in &ports {
        let _ = channels.send(A, *port).unwrap();
        let (page, at) = guest.word(port.0);
        page.write(at, 4, u64::from(!FIFO_MASKED)).unwrap();
    }
    for port in &ports {
        assert!(channels.send(A, *port).is_ok());
        let (page, at) = guest.word(port.0);
        page.write(at, 4, 0).unwrap();
        assert!(channels.send(A, *port).is_ok());
        assert!(!guest.clear(port.0, FIFO_BUSY), "the hypervisor leaves no word busy");
    }
    assert!(!guest.consume(0).is_empty());
    remove(&mut channels, A);
    assert_eq!(channels.usage(A), None);
}

#[test]
fn a_reset_goes_back_to_the_2_level_abi_and_lets_the_pages_go() {
    let (mut channels, guest) = fifo_guest();
    let ipi = channels.bind_ipi(A, 0).unwrap();
    assert!(channels.holds_page(A, &guest.controls[1]) && channels.holds_page(A, &guest.array[0]));
    assert_eq!(channels.reset(A, DomId::SELF), Ok(Progress::Done));
    assert_eq!(channels.usage(A).unwrap().pages, 0);
    assert!(!channels.holds_page(A, &guest.array[0]));
    assert_eq!(channels.bind_ipi(A, 0), Ok(ipi));
    assert_eq!(channels.send(A, ipi), Ok(upcall(A, 0)));
    assert_eq!(consume_two_level(&channels, A, 0), BTreeSet::from([ipi.0]));
}

#[test]
fn all_131071_ports_can_be_bound_and_sent_to() {
    let mut channels = two_guests();
    let mut guest = FifoGuest::new(&mut channels, A, 2);
    for _ in 0..128 {
        let _ = guest.expand(&mut channels, false);
    }
    for port in 1..1 << 17 {
        assert_eq!(channels.bind_ipi(A, 0), Ok(Port(port)));
        let _ = channels.send(A, Port(port)).unwrap();
    }
    assert_eq!(channels.bind_ipi(A, 0), Err(Errno::ENOSPC));
    let events = guest.consume(0);
    assert_eq!(events.len(), (1 << 17) - 1);
    assert!(events.iter().zip(1..).all(|(event, port)| *event == port));
    assert!(channels.usage(A).unwrap().is_high());
}

/// What a guest does to a word.
type Change = fn(u32) -> u32;

/// A word under a guest that changes it before the hypervisor's next replacement.
struct Racing {
    word: Cell<u32>,
    changes: RefCell<Vec<Change>>,
    /// What the hypervisor left in the word after each step.
    seen: RefCell<Vec<u32>>,
}

impl Racing {
    fn new(word: u32, changes: &[Change]) -> Racing {
        let changes = RefCell::new(changes.iter().rev().copied().collect());
        Racing { word: Cell::new(word), changes, seen: RefCell::new(Vec::new()) }
    }

    fn put(&self, word: u32) {
        self.word.set(word);
        self.seen.borrow_mut().push(word);
    }
}

impl Word for Racing {
    fn read(&self) -> u32 {
        self.word.get()
    }

    fn replace(&self, old: u32, new: u32) -> bool {
        if let Some(change) = self.changes.borrow_mut().pop() {
            self.word.set(change(self.word.get()));
        }
        let same = self.word.get() == old;
        if same {
            self.put(new);
        }
        same
    }

    fn set(&self, bits: u32) {
        self.put(self.word.get() | bits);
    }

    fn clear(&self, bits: u32) {
        self.put(self.word.get() & !bits);
    }
}

#[test]
fn a_tail_is_linked_at_once_where_the_guest_leaves_it_alone() {
    let word = Racing::new(FIFO_PENDING | FIFO_LINKED | FIFO_BUSY | 9, &[]);
    assert!(link(&word, Port(5)));
    assert_eq!(*word.seen.borrow(), [FIFO_PENDING | FIFO_LINKED | 5], "old link and busy are gone");
    let word = Racing::new(FIFO_PENDING, &[]);
    assert!(!link(&word, Port(5)) && word.seen.borrow().is_empty());
}

#[test]
fn a_tail_that_the_guest_takes_meanwhile_is_not_linked() {
    let taken = |_: u32| 0;
    let word = Racing::new(FIFO_PENDING | FIFO_LINKED, &[taken]);
    assert!(!link(&word, Port(5)));
    assert_eq!(word.word.get(), 0, "not marked as linked again, and not left busy");
}

#[test]
fn a_tail_that_the_guest_masks_meanwhile_is_linked_while_it_is_busy() {
    let word = Racing::new(FIFO_PENDING | FIFO_LINKED, &[|word| word | FIFO_MASKED]);
    assert!(link(&word, Port(5)));
    let masked = FIFO_PENDING | FIFO_LINKED | FIFO_MASKED;
    assert_eq!(*word.seen.borrow(), [masked | FIFO_BUSY, masked | 5]);
}

#[test]
fn a_guest_that_never_stops_changing_its_tail_is_given_up() {
    let toggle: Change = |word| word ^ FIFO_MASKED;
    let word = Racing::new(FIFO_LINKED, &[toggle; 100]);
    assert!(link(&word, Port(5)), "as if it were linked: the queue is the guest's to lose");
    assert_eq!(word.word.get() & (FIFO_BUSY | FIFO_LINK_MASK), 0);
    assert_eq!(word.changes.borrow().len(), 95, "five attempts");
}
