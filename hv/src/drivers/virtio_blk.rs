//! virtio-blk over PCI on the queue of `virtio-drivers`: scatter lists without copying, many
//! requests at once, one interrupt (MSI-X, or INTx where that is all there is).
//! VIRTIO 1.2, "Block Device" and "Virtio Over PCI Bus".

// UNSAFETY: gives physical memory to a device; slices over memory that the device writes.

use alloc::boxed::Box;
use core::ptr::NonNull;

use heapless::{Deque, Vec};
use virtio_drivers::queue::VirtQueue;
use virtio_drivers::transport::pci::PciTransport;
use virtio_drivers::transport::{InterruptStatus, Transport};
use virtio_drivers::{BufferDirection, Hal, PhysAddr};

use super::block::{self, Disk, Info, MAX_SEGMENTS, Op, Request, SECTOR, Status, SubmitError};
use super::pci::{self, Function};
use crate::cpu::lock::IrqLock;
use crate::cpu::{ioapic, irq, percpu};
use crate::mem::layout::PAGE;
use crate::mem::{Cache, Phys, frames, map_mmio, phys_to_virt, virt_to_phys, zero};

const QUEUE: usize = 128;
const READ_ONLY: u64 = 1 << 5;
const FLUSH: u64 = 1 << 9;
const VERSION_1: u64 = 1 << 32;

bitflags::bitflags! {
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    struct Features: u64 {
        const READ_ONLY = READ_ONLY;
        const FLUSH = FLUSH;
        const VERSION_1 = VERSION_1;
    }
}

/// Our memory, as the crate wants it.
#[derive(Debug)]
pub(super) struct Memory;

// SAFETY: frames are zeroed, page-aligned and owned until given back; addresses are the device's.
unsafe impl Hal for Memory {
    fn dma_alloc(pages: usize, _: BufferDirection) -> (PhysAddr, NonNull<u8>) {
        let bytes = pages as u64 * PAGE;
        let start = frames::alloc_contiguous(bytes, PAGE).expect("no memory for a queue");
        zero(start, bytes);
        (start.0, NonNull::new(phys_to_virt(start)).expect("the direct map is not at 0"))
    }

    unsafe fn dma_dealloc(start: PhysAddr, _: NonNull<u8>, pages: usize) -> i32 {
        frames::free_contiguous(Phys(start), pages as u64 * PAGE);
        0
    }

    unsafe fn mmio_phys_to_virt(start: PhysAddr, size: usize) -> NonNull<u8> {
        let mapped = map_mmio(Phys(start), size as u64, Cache::Uncached);
        NonNull::new(mapped).expect("MMIO is not mapped at 0")
    }

    unsafe fn share(buffer: NonNull<[u8]>, _: BufferDirection) -> PhysAddr {
        virt_to_phys(buffer.as_ptr().cast_const()).0
    }

    unsafe fn unshare(_: PhysAddr, _: NonNull<[u8]>, _: BufferDirection) {}
}

/// A request's header and answer, in memory that the device reads and writes.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
struct Slot {
    kind: u32,
    reserved: u32,
    sector: u64,
    status: u8,
}

const HEADER: usize = 16;
const _: () = assert!(core::mem::offset_of!(Slot, status) == HEADER);

struct State {
    transport: PciTransport,
    queue: VirtQueue<Memory, QUEUE>,
    /// One per descriptor; the index is the token of the request.
    slots: &'static mut [Slot],
    requests: Box<[Option<Request>; QUEUE]>,
    /// Slots that no request uses.
    free: Vec<u8, QUEUE>,
    /// Slots whose requests found no descriptors, the oldest first.
    waiting: Deque<u8, QUEUE>,
    /// Slot of each token in flight.
    slot_of: [u8; QUEUE],
}

/// One disk.
pub struct VirtioDisk {
    number: usize,
    info: Info,
    flush: bool,
    intx: bool,
    state: IrqLock<State>,
}

/// Brings up the disk at `function`, if it is one.
pub fn probe(function: &Function) {
    if function.vendor != 0x1af4 || !matches!(function.device, 0x1001 | 0x1042) {
        return;
    }
    match start(function) {
        Ok(disk) => log::debug!("virtio-blk at {}: disk {}", function.at, disk.number),
        Err(why) => log::warn!("virtio-blk at {} left out: {why}", function.at),
    }
}

fn start(function: &Function) -> Result<&'static VirtioDisk, &'static str> {
    pci::enable(function.at);
    let mut transport = PciTransport::new::<Memory, _>(&mut pci::root(), function.at)
        .map_err(|_| "its PCI capabilities are not those of VIRTIO 1.0")?;
    let features = transport.begin_init(Features::all());
    let vector = irq::alloc_vector().ok_or("no interrupt vector is left")?;
    let msix = start_msix(function, vector);
    let queue =
        VirtQueue::new(&mut transport, 0, false, false).map_err(|_| "its queue is short")?;
    transport.finish_init();
    let half = |at| transport.read_config_space::<u32>(at).map_err(|_| "it has no configuration");
    let capacity = u64::from(half(4)?) << 32 | u64::from(half(0)?);

    let bytes = (QUEUE * size_of::<Slot>()) as u64;
    let slots = frames::alloc_contiguous(bytes, PAGE).ok_or("no memory")?;
    zero(slots, bytes);
    // SAFETY: zeroed frames of our own, large enough, aligned to a page.
    let slots = unsafe { core::slice::from_raw_parts_mut(phys_to_virt(slots).cast(), QUEUE) };
    let place = alloc::format!("virtio {}", function.at);
    let info = Info {
        sectors: capacity,
        sector_bytes: SECTOR as u32,
        max_sectors: 1 << 16,
        read_only: features.contains(Features::READ_ONLY),
        optical: false,
        place: Box::leak(place.into_boxed_str()),
    };
    let disk = Box::leak(Box::new(VirtioDisk {
        number: block::count(),
        info,
        flush: features.contains(Features::FLUSH),
        intx: !msix,
        state: IrqLock::new(State {
            transport,
            queue,
            slots,
            requests: Box::new([const { None }; QUEUE]),
            free: (0..QUEUE as u8).collect(),
            waiting: Deque::new(),
            slot_of: [0; QUEUE],
        }),
    }));
    let argument = core::ptr::from_ref(disk).expose_provenance();
    if msix {
        irq::register(vector, interrupt, argument);
    } else {
        let line = pci::interrupt_line(function.at).ok_or("it has no interrupt")?;
        ioapic::route_pci(line, interrupt, argument).map_err(|_| "its interrupt has no way in")?;
    }
    block::add(Disk::Virtio(disk)).ok_or("there are too many disks")?;
    Ok(disk)
}

/// MSI-X entry 0 for queue 0.
pub(super) fn start_msix(function: &Function, vector: u8) -> bool {
    const COMMON: u8 = 1;
    const VENDOR: u8 = 9;
    let root = pci::root();
    let mut capabilities = root.capabilities(function.at);
    let common =
        capabilities.find(|c| c.id == VENDOR && c.private_header >> 8 == u16::from(COMMON));
    let Some(common) = common else { return false };
    let bar = pci::read(function.at, common.offset + 4) as u8;
    let offset = pci::read(function.at, common.offset + 8);
    let Some(base) = pci::memory_bar(function.at, bar) else { return false };
    if !pci::enable_msix(function.at, vector, percpu::this().apic_id()) {
        return false;
    }
    let registers = map_mmio(Phys(base + u64::from(offset)), 64, Cache::Uncached);
    // VIRTIO 1.2, 4.1.4.3: config_msix_vector 16, queue_select 22, queue_msix_vector 26.
    for (at, value) in [(16, 0xffff_u16), (22, 0), (26, 0)] {
        // SAFETY: the common configuration, just mapped; the fields are 16 bits wide.
        unsafe { registers.add(at).cast::<u16>().write_volatile(value) };
    }
    // SAFETY: as above. The device says FFFFh where it could not assign the vector.
    unsafe { registers.add(26).cast::<u16>().read_volatile() == 0 }
}

fn interrupt(argument: usize) {
    // SAFETY: the disk that `start` leaked and registered.
    let disk = unsafe { &*core::ptr::with_exposed_provenance::<VirtioDisk>(argument) };
    disk.on_interrupt();
}

impl State {
    /// Gives the device what waits, as far as there are descriptors: one for each segment and two more.
    fn start(&mut self) {
        while let Some(slot) = self.waiting.front().copied().map(usize::from) {
            let Some(request) = &self.requests[slot] else { return };
            let kind = match request.op {
                Op::Read => 0,
                Op::Write => 1,
                Op::Flush => 4,
            };
            let sector = if request.op == Op::Flush { 0 } else { request.sector };
            self.slots[slot] = Slot { kind, reserved: 0, sector, status: 0xff };
            let mut buffers = Buffers::new(&raw mut self.slots[slot], request);
            // SAFETY: header, status and data stay in place until the token is popped: the slot is
            // taken, and the submitter keeps the segments.
            let token = unsafe { self.queue.add(&buffers.inputs, &mut buffers.outputs) };
            let Ok(token) = token else { return };
            self.slot_of[usize::from(token) % QUEUE] = slot as u8;
            self.waiting.pop_front();
            if self.queue.should_notify() {
                self.transport.notify(0);
            }
        }
    }
}

impl VirtioDisk {
    /// What it is.
    pub fn info(&self) -> Info {
        self.info
    }

    /// Queues a request that [`block::submit`] has checked.
    ///
    /// # Errors
    /// [`SubmitError::Full`] when it has as many as it can keep.
    pub fn submit(&self, request: &Request) -> Result<(), SubmitError> {
        if request.op == Op::Flush && !self.flush {
            // Without the feature every completed write is durable.
            block::complete(self.number, request.cookie, Status::Done);
            return Ok(());
        }
        let mut guard = self.state.lock();
        let state = &mut *guard;
        let slot = state.free.pop().ok_or(SubmitError::Full)?;
        state.requests[usize::from(slot)] = Some(request.clone());
        // As many wait at most as there are slots.
        let _ = state.waiting.push_back(slot);
        state.start();
        Ok(())
    }

    fn on_interrupt(&self) {
        if self.intx && self.state.lock().transport.ack_interrupt() == InterruptStatus::empty() {
            return;
        }
        // Bounded by the queue's size; the hook runs without the lock.
        for _ in 0..QUEUE {
            let Some((cookie, status)) = self.pop() else { break };
            block::complete(self.number, cookie, status);
        }
    }

    fn pop(&self) -> Option<(u64, Status)> {
        let mut guard = self.state.lock();
        let state = &mut *guard;
        let token = state.queue.peek_used()?;
        let slot = usize::from(state.slot_of[usize::from(token) % QUEUE]);
        let request = state.requests[slot].take()?;
        // Slices need no drop, and `pop_used` wants them borrowed for as long as they live.
        let buffers = Buffers::new(&raw mut state.slots[slot], &request);
        let mut buffers = core::mem::ManuallyDrop::new(buffers);
        let Buffers { inputs, outputs } = &mut *buffers;
        // SAFETY: the same buffers as were added with this token.
        let popped = unsafe { state.queue.pop_used(token, inputs, outputs) };
        let _ = state.free.push(slot as u8);
        let done = popped.is_ok() && state.slots[slot].status == 0;
        state.start();
        Some((request.cookie, if done { Status::Done } else { Status::Failed }))
    }
}

/// The buffers of a request: header and data to the device, data and status back.
struct Buffers<'a> {
    inputs: Vec<&'a [u8], { MAX_SEGMENTS + 1 }>,
    outputs: Vec<&'a mut [u8], { MAX_SEGMENTS + 1 }>,
}

impl<'a> Buffers<'a> {
    fn new(slot: *mut Slot, request: &Request) -> Buffers<'a> {
        let (mut inputs, mut outputs) = (Vec::new(), Vec::new());
        // SAFETY: the first 16 bytes of a slot, which lives for ever and only its request uses.
        let header = unsafe { core::slice::from_raw_parts(slot.cast::<u8>(), HEADER) };
        let _ = inputs.push(header);
        for segment in &request.segments {
            let (start, len) = (phys_to_virt(segment.start), segment.bytes as usize);
            if request.op == Op::Write {
                // SAFETY: RAM that the submitter keeps; only its address and length are used.
                let _ = inputs.push(unsafe { core::slice::from_raw_parts(start, len) });
            } else {
                // SAFETY: as above.
                let _ = outputs.push(unsafe { core::slice::from_raw_parts_mut(start, len) });
            }
        }
        let status = slot.cast::<u8>().wrapping_add(HEADER);
        // SAFETY: the status byte behind the header, which only this request uses.
        let _ = outputs.push(unsafe { core::slice::from_raw_parts_mut(status, 1) });
        Buffers { inputs, outputs }
    }
}
